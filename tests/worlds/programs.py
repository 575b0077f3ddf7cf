"""Programs that nobody here wrote and some tests need: where they are, or why a test is skipped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

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
