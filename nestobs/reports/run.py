"""A notebook run with parameters: executed by papermill out of sight, then published whole.

The kernel is this interpreter, whatever kernelspecs a machine has; it talks over sockets in a private folder (ipc), and
reads no personal IPython set-up. It is executed in a temporary folder, and each finished file comes to its place by
os.replace: a reader sees the old report or the new one, never half of one. A notebook that fails changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nestobs.errors import UsageError
from nestobs.reports import ReportError
from nestobs.reports.page import page

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

CELL_TIMEOUT_S: Final = 600
_LONGEST_SOCKET: Final = 80
"""Unix socket paths end near 104 characters on some systems; ours add about 20 to the temporary folder's."""

_ANSI: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def run(notebook: Path, out: Path, parameters: Mapping[str, object], *, cell_timeout_s: int = CELL_TIMEOUT_S) -> Path:
    """Execute `notebook` with `parameters`; `out` is the HTML to write, the executed notebook comes to lie beside it.

    Parameters are texts, numbers, booleans, or lists of them, and are stored in both files: no secret. Relative paths
    in them are relative to the current folder. Returns `out`. Takes a few seconds: a kernel is started and certainly
    ended. Raises UsageError for a missing notebook or an unknown parameter, ReportError when a cell fails or takes
    longer than `cell_timeout_s` or the result cannot be written. Not to be called from a running event loop.
    """
    _known(notebook, parameters)
    with _private_folder() as folder:
        executed = _execute(notebook, folder, parameters, cell_timeout_s)
        executed.metadata.get("papermill", {}).update(input_path=notebook.name, output_path=out.stem + ".ipynb")
        _publish(executed, out, folder, title=str(parameters.get("title") or out.stem))
    return out


def notebook(name: str) -> Path:
    """The project's notebook of that name, in a checkout or in an installed package. Raises UsageError for none."""
    package = Path(__file__).resolve().parent.parent
    folders = [package.parent / "notebooks", package / "notebooks"]
    known = {path.stem: path for folder in folders for path in sorted(folder.glob("*.ipynb"))}
    if name not in known:
        raise UsageError(f"there is no notebook {name!r}: there are {', '.join(known) or 'none beside this package'}")
    return known[name]


def _known(notebook: Path, parameters: Mapping[str, object]) -> None:
    import papermill

    if not notebook.is_file():
        raise UsageError(f"there is no notebook {notebook}")
    known = list(papermill.inspect_notebook(str(notebook)))
    for name in parameters:
        if name not in known:
            raise UsageError(f"{notebook.name} has no parameter {name!r}: it knows {', '.join(known) or 'none'}")


@contextmanager
def _private_folder() -> Iterator[Path]:
    parent = None if len(tempfile.gettempdir()) < _LONGEST_SOCKET else "/tmp"
    with tempfile.TemporaryDirectory(prefix="nestobs-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


def _execute(notebook: Path, folder: Path, parameters: Mapping[str, object], cell_timeout_s: int) -> Any:
    """The executed notebook. The kernel is dead when this returns or raises."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    kernels: list[AsyncKernelManager] = []
    try:
        with _event_loop():
            return papermill.execute_notebook(
                str(notebook),
                str(folder / "executed.ipynb"),
                parameters=dict(parameters),
                kernel_name="python3",
                progress_bar=False,
                cwd=str(Path.cwd()),
                execution_timeout=cell_timeout_s,
                kernel_manager_class=_kernel_class(folder, kernels),
            )
    except PapermillExecutionError as error:
        raise ReportError(
            f"{notebook.name} failed in cell {error.cell_index}: {error.ename}: {_plain(error.evalue)}",
            traceback=_plain("\n".join(error.traceback)),
        ) from error
    except (TimeoutError, RuntimeError) as error:
        raise ReportError(f"{notebook.name} was not finished: {_plain(str(error)) or type(error).__name__}") from error
    finally:
        for kernel in kernels:
            _end(kernel)


@contextmanager
def _event_loop() -> Iterator[None]:
    """Jupyter makes a loop for the thread that calls it and leaves it open: here it is closed."""
    from jupyter_core.utils import ensure_event_loop

    loop = ensure_event_loop()
    try:
        yield
    finally:
        if not loop.is_running():
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()


def _kernel_class(folder: Path, made: list[AsyncKernelManager]) -> type[AsyncKernelManager]:
    """A kernel manager that starts this interpreter, with sockets and settings in `folder`; it enters itself in
    `made`."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class Kernel(AsyncKernelManager):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs, transport="ipc", connection_file=str(folder / "k.json"))
            made.append(self)

        @property
        def kernel_spec(self) -> KernelSpec:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(
                argv=[*command, "--HistoryManager.enabled=False"],
                env={"PLOTLY_RENDERER": "plotly_mimetype", "IPYTHONDIR": str(folder / "ipython")},
                display_name="Python 3",
                language="python",
                name="python3",
            )

    return Kernel


def _end(kernel: AsyncKernelManager) -> None:
    """Kill what is left of the kernel's process group; usually nothing is."""
    process = getattr(kernel.provisioner, "process", None)
    if process is not None and process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _publish(executed: Any, out: Path, folder: Path, *, title: str) -> None:
    import nbformat

    text = page(executed, title=title)
    source = nbformat.writes(executed)  # type: ignore[no-untyped-call]  # nbformat is typed in part
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _replace(out.with_suffix(".ipynb"), source)
        _replace(out, text)
    except OSError as error:
        raise ReportError(f"{out} cannot be written ({error.strerror}): give --out a folder you may write") from error


def _replace(path: Path, text: str) -> None:
    """The whole file or the old one: written beside its place, then moved there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _plain(text: str) -> str:
    return _ANSI.sub("", text)
