"""The real livekit-server as a child process: found, configured for loopback, started once per lab, certain to end.

The child leads its own process group, which is killed at the end; on Linux it also dies with the lab's process,
even if that is killed with SIGKILL. It keeps nothing on disk, so a kill loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import aiohttp

from nestobs.errors import UnreachableError, UsageError
from nestobs.lab.livekit.tokens import LivekitKeys

VERSION = "1.11.0"
START_TIMEOUT_S = 15.0
_PR_SET_PDEATHSIG = 1
_NOWHERE = "192.0.2.1"
"""An address that nobody has (RFC 5737)."""

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def find_binary() -> Path | None:
    """livekit-server: NESTOBS_LIVEKIT_SERVER, then PATH, then where `make livekit` puts it. None when there is none.

    Raises UsageError when NESTOBS_LIVEKIT_SERVER names no executable file.
    """
    if named := os.environ.get("NESTOBS_LIVEKIT_SERVER"):
        if not os.access(named, os.X_OK) or not Path(named).is_file():
            raise UsageError(
                f"NESTOBS_LIVEKIT_SERVER names {named}, which is not an executable file: correct or unset it"
            )
        return Path(named)
    if found := shutil.which("livekit-server"):
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "nestobs" / "bin" / f"livekit-server-v{VERSION}"
    return built if os.access(built, os.X_OK) else None


class LivekitServer:
    """A running livekit-server. `url` is http://127.0.0.1:port; `version` is what the binary says of itself.

    `media`: whether it offers an address at which media can be reached; without, it only signals.
    logs: whether its log (JSON lines) says what it does, not only what goes wrong.
    """

    kind = "livekit-server"

    def __init__(
        self,
        binary: Path,
        keys: LivekitKeys,
        directory: Path,
        webhooks: Sequence[str],
        *,
        media: bool = True,
        logs: bool = False,
    ) -> None:
        self.version = ""
        self.url = ""
        self.port = 0
        self.pid: int | None = None
        self._binary, self._keys, self._directory, self._webhooks = binary, keys, directory, webhooks
        self._media = media
        self._level = "info" if logs else "warn"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, stack: AsyncExitStack) -> None:
        """Start it and wait until it answers. Raises UnreachableError with the end of its log when it does not."""
        stack.push_async_callback(self.close)
        self.version = await asyncio.to_thread(_version, self._binary)
        for _ in range(3):  # its ports are found first and taken later: somebody else may be quicker
            if await self._try_start():
                return
            await self.close()
        log = self.log.read_text("utf-8", "replace")[-600:]
        raise UnreachableError(f"livekit-server ({self._binary}) does not start; the end of {self.log}: {log}")

    async def close(self) -> None:
        """Kill the process group and wait for the child."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)
        self._process = self.pid = None

    @property
    def log(self) -> Path:
        """Where it writes its log."""
        return self._directory / "livekit.log"

    async def _try_start(self) -> bool:
        self.port, tcp, udp = _free_ports()
        self.url = f"http://127.0.0.1:{self.port}"
        config = self._directory / "livekit.json"
        write_private(config, json.dumps(self._config(tcp, udp), indent=1))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it returns within milliseconds, once per lab
                [str(self._binary), "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent if _libc is not None else None,  # noqa: PLW1509 - it calls prctl only
            )
        self.pid = self._process.pid
        return await self._answers()

    def _config(self, tcp: int, udp: int) -> dict[str, object]:
        """LiveKit's YAML configuration; JSON is YAML."""
        return {
            "port": self.port,
            "bind_addresses": ["127.0.0.1"],
            "rtc": {
                "tcp_port": tcp,
                "udp_port": udp,
                "node_ip": "127.0.0.1" if self._media else _NOWHERE,
                "enable_loopback_candidate": self._media,
                "use_external_ip": False,
                "interfaces": {"includes": ["lo"]},
                "stun_servers": ["127.0.0.1:9"],
            },
            "room": {"auto_create": False, "empty_timeout": 300, "departure_timeout": 300},
            "keys": {self._keys.key: self._keys.secret},
            "webhook": {"api_key": self._keys.key, "urls": list(self._webhooks)},
            "logging": {"level": self._level, "json": True},
        }

    async def _answers(self) -> bool:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        ends = loop.time() + START_TIMEOUT_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            while loop.time() < ends and self._process.poll() is None:
                try:
                    async with session.get(self.url) as answer:
                        if answer.status == 200:
                            return True
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.02)
        return False


def _version(binary: Path) -> str:
    try:
        said = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"{binary} is not a livekit-server that runs here: {error}") from None
    return said.stdout.split()[-1] if said.stdout.split() else "unknown"


def _die_with_parent() -> None:
    assert _libc is not None
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_ports() -> tuple[int, int, int]:
    """HTTP port, RTC TCP port, RTC UDP port."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, kind))
            for kind in (socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM)
        ]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        http, tcp, udp = (int(each.getsockname()[1]) for each in sockets)
        return http, tcp, udp


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
