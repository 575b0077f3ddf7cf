"""A store, notebooks that do what a test says, and what `nestobs report` makes of them as processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worlds.stored_nests import drawn, nest_rows, store_of

PARAMETERS = """\
store = ""
window = ""
verdict = "good"
n = 3
share = 0.5
fail = False
title = ""
many = [1, 2]
"""
RESULT = """\
from nestobs.reports.display import Result

Result(verdict, [f"window {window}"], coverage=share, rows={"observations": n}, facts={"n": n})
"""
FILES = ["manifest.json", "report.html", "report.ipynb"]
DAY = "2026-01-01"


def write(path: Path, *sources: str, parameters: str = PARAMETERS, result: str = RESULT) -> Path:
    """A notebook of these cells, and one that shows its result ("" for none)."""
    import nbformat  # takes longer than all other worlds: only where a notebook is written
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_markdown_cell("## What was seen")]
    cells += [new_code_cell(source) for source in (*sources, result) if source]
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    path.write_text(nbformat.writes(new_notebook(cells=cells, metadata=metadata)))
    return path


def store(directory: Path, nests: int = 5) -> Path:
    """A store with some nests made on 2026-01-01 from noon."""
    return store_of(directory, nest_rows(*drawn(nests))).directory


def folders(out: Path) -> list[Path]:
    """The published folders of an archive."""
    return sorted(
        path for report in out.iterdir() if report.is_dir() and report.name[0] != "." for path in report.iterdir()
    )


def whole(folder: Path) -> dict[str, Any]:
    """The manifest of a published folder, in which everything is whole and belongs together."""
    assert sorted(path.name for path in folder.iterdir()) == FILES, folder
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    page = (folder / "report.html").read_text()
    assert page.rstrip().endswith("</html>"), folder
    import nbformat

    executed = nbformat.read(folder / "report.ipynb", as_version=4)
    assert manifest["window"]["name"] == folder.name.removesuffix(".failed")
    window = f"{manifest['window']['start']}/{manifest['window']['end']}"
    assert executed.metadata["papermill"]["parameters"]["window"] == window
    assert window in page
    return manifest


def left(out: Path) -> list[str]:
    """What no reader needs: versions that nothing points to, locks, temporary files."""
    used = {path.readlink().name for path in folders(out) if path.is_symlink()}
    found = [path.name for path in (out / ".versions").iterdir() if path.name not in used]
    return found + [path.name for path in [*(out / ".locks").iterdir(), *out.glob(".*.tmp")]]


def kernels(mark: str) -> list[int]:
    """Processes alive whose command line or environment holds `mark`: kernels, their guards, what their cells began."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            said = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if state != "Z" and mark.encode() in said and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def begin(*words: str, cwd: Path, tmp: Path | None = None, before: str = "") -> subprocess.Popen[str]:
    """`nestobs report …` as a process; its kernels can be told by TMPDIR. before: Python to run first."""
    environment = dict(os.environ) | ({"TMPDIR": str(tmp)} if tmp is not None else {})
    code = f"{before}\nimport sys\nfrom nestobs.cli.main import main\nsys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, "report", *words],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], timeout_s: float = 100) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def report(*words: str, cwd: Path, **more: Any) -> tuple[int, str, str]:
    """`nestobs report …` to its end."""
    return ended(begin(*words, cwd=cwd, **more))


def days(first: int, count: int) -> Sequence[str]:
    """So many days of January 2026."""
    return [f"2026-01-{day:02}" for day in range(first, first + count)]
