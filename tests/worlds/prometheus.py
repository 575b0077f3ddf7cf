"""Prometheus itself, on loopback: promtool, and a server that scrapes what it is told to."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nestobs" / "bin"
WAIT_S = 60.0
"""For the server to be ready, or to have scraped: a busy machine needs its time."""


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is; the test is skipped where it is not, unless it is required."""
    found = shutil.which(name) or shutil.which(name, path=str(CACHE))
    if found is None and os.environ.get("NESTOBS_REQUIRE_PROMETHEUS") == "1":
        pytest.fail(f"NESTOBS_REQUIRE_PROMETHEUS is 1 and there is no {name}: run `make prometheus`")
    if found is None:
        pytest.skip(f"there is no {name} here: `make prometheus` installs it")
    return found


def promtool(*words: str, given: bytes | None = None) -> str:
    """What promtool says, who has nothing to object to."""
    ended = subprocess.run([program("promtool"), *words], input=given, capture_output=True, timeout=60, check=False)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said


def checked(scrape: bytes) -> None:
    """A scrape that promtool has nothing to say about."""
    assert promtool("check", "metrics", given=scrape) == ""
