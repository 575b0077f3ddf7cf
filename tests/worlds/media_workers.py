"""Which media workers there are, as the system tells."""

from __future__ import annotations

import os
from pathlib import Path


def _field(pid, name):
    """A line of /proc/PID/status; "" where there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (OSError, ProcessLookupError):
        return ""
    return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "")


def alive(pid):
    return _field(pid, "State") not in ("", "Z")


def workers(parent=None):
    """The media workers that a process has, this one unless told otherwise."""
    parent, found = str(parent or os.getpid()), []
    for path in Path("/proc").glob("[0-9]*"):
        if _field(path.name, "PPid") == parent and alive(path.name):
            found += [int(path.name)] if "worker_main" in (path / "cmdline").read_text() else []
    return found
