"""The process in which a notebook runs, and the leash it is on.

It is this interpreter, whatever kernelspecs a machine has. It talks over sockets in a private folder (ipc), reads no
personal IPython set-up, and is given a plain environment: no key of the operator's. It ends with its leash: when that
is cut, or when the process that holds it dies (kernel_main.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nestobs.config import bucket_environment, plain_environment

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

_LAUNCH: Final = Path(__file__).with_name("kernel_main.py")
_SHOWS: Final = "nestobs.reports.publishing.renderer"
_ENDS_WITHIN_S: Final = 10.0

LOG: Final = "kernel.log"
"""What the kernel itself says, beside its sockets: not what its cells print."""


class Leash:
    """What holds one kernel. `cut` kills its process group at once, from any thread, also one that is just starting."""

    def __init__(self) -> None:
        self.pipe, self._held = os.pipe()
        self._guard = threading.RLock()  # a signal's handler may cut as well
        self._process: subprocess.Popen[bytes] | None = None
        self._cut = False
        self.why = ""
        """Why it was cut before its time, "" while it was not."""

    def holds(self, process: subprocess.Popen[bytes]) -> None:
        """The kernel's process, once there is one; it leads its own process group."""
        with self._guard:
            self._process = process

    def cut(self, why: str = "") -> None:
        """Kill the kernel and what its cells have started. The first `why` is kept."""
        with self._guard:
            if self._cut:
                return
            self._cut, self.why = True, why
            if self._process is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)  # the guard keeps the group's number in use
            os.close(self._held)

    def close(self) -> None:
        """Cut, and wait until the kernel is dead."""
        self.cut()
        with suppress(OSError):
            os.close(self.pipe)
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS_WITHIN_S)


@contextmanager
def leash() -> Iterator[Leash]:
    """A leash; leaving closes it."""
    made = Leash()
    try:
        yield made
    finally:
        made.close()


def started(folder: Path, leash: Leash, *, bucket: bool) -> subprocess.Popen[bytes]:
    """The process of a kernel on that leash, with its settings in `folder`.

    It imports what takes long and waits to be told where it is to talk, while its starter imports papermill: so half a
    second of every report is not waited for. bucket: the store is one, so what opens it is in the environment.
    """
    ours = {
        "PLOTLY_RENDERER": "plotly_mimetype",
        "IPYTHONDIR": str(folder / "ipython"),
        "JPY_PARENT_PID": str(os.getpid()),
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # its own takes a third more memory, and far longer to get it
    }
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", str(_LAUNCH), str(leash.pipe)],
            env=plain_environment() | (bucket_environment() if bucket else {}) | ours,
            pass_fds=(leash.pipe,),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    leash.holds(process)
    return process


def kernel_class(folder: Path, process: subprocess.Popen[bytes]) -> type[AsyncKernelManager]:
    """A manager of the kernel that `started` gave, with sockets in the same `folder`."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning.local_provisioner import LocalProvisioner

    class Waiting(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **_: Any) -> Any:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it died: whoever asks whether it lives is told
                process.stdin.write(f"{json.dumps(cmd)}\n".encode())
                process.stdin.close()
            self.process, self.pid, self.pgid = process, process.pid, process.pid  # it leads its own group
            return self.connection_info

    class Kernel(AsyncKernelManager):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs, transport="ipc", connection_file=str(folder / "k.json"))
            self.provisioner = Waiting(parent=self, kernel_id=self.kernel_id, kernel_spec=self.kernel_spec)

        @property
        def kernel_spec(self) -> KernelSpec:
            command = ["nestobs", "-f", "{connection_file}", "--HistoryManager.enabled=False"]
            return KernelSpec(
                argv=[*command, f"--InteractiveShellApp.extra_extensions={_SHOWS}"],
                display_name="Python 3",
                language="python",
                name="python3",
            )

    return Kernel
