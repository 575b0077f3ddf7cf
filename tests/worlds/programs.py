"""Programs that nobody here wrote and some tests need: where they are, or why a test is skipped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 60.0
"""For a server to be ready: a busy machine needs its time."""

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nestobs" / "bin"


def tool(name: str, target: str) -> str:
    """Where this program is, which `make target` installs; the test is skipped where it is not there, or fails where
    NESTOBS_REQUIRE_TARGET is 1."""
    built = [str(path) for path in sorted(CACHE.glob(f"{name}-v*[0-9]"))]
    found = next(filter(None, (shutil.which(name), shutil.which(name, path=str(CACHE)), *built[-1:])), None)
    if found is None and os.environ.get(f"NESTOBS_REQUIRE_{target.upper()}") == "1":
        pytest.fail(f"NESTOBS_REQUIRE_{target.upper()} is 1 and there is no {name}: run `make {target}`")
    if found is None:
        pytest.skip(f"there is no {name} here: `make {target}` installs it")
    return found


def free_port() -> int:
    """One of loopback that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def listens(port: int) -> bool:
    """Whether somebody listens to a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def serving(
    words: Sequence[str], log: Path, ready: Callable[[], bool], **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process, once it is ready; killed at the end. log: what it says; options: of subprocess.Popen."""
    with log.open("wb") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said, **options)
    ends = time.monotonic() + WAIT_S
    try:
        while not ready():
            assert process.poll() is None, log.read_text("utf-8", "replace")
            assert time.monotonic() < ends, f"{Path(words[0]).name} does not start"
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()
