"""A notebook executed with parameters by papermill, out of sight; and such a report published whole.

It is executed in memory, on a kernel of its own (kernel.py) that is dead when this returns. `execute` gives what ran,
also where a cell failed; `run` publishes what was good: each file comes to its place by os.replace, so a reader sees
the old report or the new one, never half of one, and a notebook that fails changes nothing.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from nestobs.errors import UsageError
from nestobs.reports import ReportError
from nestobs.reports.publishing.html import page
from nestobs.reports.publishing.kernel import LOG, Leash, kernel_class, leash, started
from nestobs.reports.publishing.parameters import check
from nestobs.store.files import write
from nestobs.store.shipments.place import is_url

CELL_TIMEOUT_S: Final = 600
_LONGEST_SOCKET: Final = 80
"""Unix socket paths end near 104 characters on some systems; ours add about 20 to the temporary folder's."""

_ANSI: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MOST_SAID: Final = 2_000
_MOST_TRACED: Final = 20_000
_ERROR_MARKER: Final = "papermill-error-cell-tag"

Progress = Callable[[int, int], None]
"""Told before each cell: its number among the cells of code, from 1, and how many there are."""


@dataclass(frozen=True, slots=True)
class Executed:
    """notebook: an nbformat node, with the outputs of the cells that ran. error: why not all of them did, or None."""

    notebook: Any
    error: ReportError | None = None


def run(notebook: Path, out: Path, parameters: Mapping[str, object], *, cell_timeout_s: int = CELL_TIMEOUT_S) -> Path:
    """Execute `notebook` with `parameters`; `out` is the HTML to write, the executed notebook comes to lie beside it.

    Parameters are texts, numbers, booleans, or lists of them, and are stored in both files: no secret. Relative paths
    in them are relative to the current folder. Returns `out`. Takes a few seconds: a kernel is started and certainly
    ended. Raises UsageError for a missing notebook or an unknown parameter, ReportError when a cell fails or takes
    longer than `cell_timeout_s` or the result cannot be written. Not to be called from a running event loop.
    """
    with private_folder() as folder, leash() as held:
        executed = execute(notebook, parameters, folder=folder, held=held, cell_timeout_s=cell_timeout_s)
    if executed.error is not None:
        raise executed.error
    executed.notebook.metadata["papermill"]["output_path"] = out.stem + ".ipynb"
    _publish(executed.notebook, out, title=str(parameters.get("title") or out.stem))
    return out


def notebook(name: str) -> Path:
    """The project's notebook of that name, in a checkout or in an installed package. Raises UsageError for none."""
    package = Path(__file__).resolve().parents[2]
    folders = [package.parent / "notebooks", package / "notebooks"]
    known = {path.stem: path for folder in folders for path in sorted(folder.glob("*.ipynb"))}
    if name not in known:
        near = _meant(name, list(known))
        asked = f"did you mean {near}? There" if near else "there"
        raise UsageError(
            f"there is no notebook {name[:80]!r}: {asked} are {', '.join(known) or 'none beside this package'}"
        )
    return known[name]


def _meant(name: str, known: Sequence[str]) -> str:
    """The one that was most likely meant: a path, another case, a beginning, a slip; "" for none."""
    word = Path(name[:80]).name.removesuffix(".ipynb").lower().replace("-", "_").replace(" ", "_")
    begun = [each for each in known if word and each.startswith(word)]
    return next(iter([*begun, *get_close_matches(word, known, n=1)]), "")


@contextmanager
def private_folder(name: str | None = None) -> Iterator[Path]:
    """A folder of ours alone, for sockets; removed in the end. With a name it can be found again after a crash."""
    parent = socket_folder()
    if name is None:
        with tempfile.TemporaryDirectory(prefix="nestobs-", dir=parent, ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    folder = parent / name
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def socket_folder() -> Path:
    """The folder for temporary files, where its name is short enough for sockets, else /tmp."""
    usual = tempfile.gettempdir()
    return Path(usual if len(usual) < _LONGEST_SOCKET else "/tmp")


def execute(
    notebook: Path,
    parameters: Mapping[str, object],
    *,
    folder: Path,
    held: Leash,
    cell_timeout_s: int = CELL_TIMEOUT_S,
    progress: Progress | None = None,
) -> Executed:
    """The notebook executed with these parameters by a kernel on the leash `held`, its sockets in `folder`.

    What goes wrong in the notebook, in its kernel, or because the leash was cut comes back as `error`. Raises
    UsageError for a missing notebook or an unknown parameter.
    """
    check(notebook, parameters)
    bucket = is_url(str(parameters.get("store", "")))
    process = started(folder, held, bucket=bucket)  # before the imports, which take as long as its own

    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    source: Any = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]  # nbformat is typed in part
    total = sum(cell.cell_type == "code" for cell in source.cells) + 1  # papermill adds the parameters' own
    seen = _Seen(source, total, progress)
    error = None
    try:
        with _event_loop():
            seen.notebook = papermill.execute_notebook(
                source,
                None,
                parameters=dict(parameters),
                kernel_name="python3",
                progress_bar=False,
                cwd=str(Path.cwd()),
                execution_timeout=cell_timeout_s,
                kernel_manager_class=kernel_class(folder, process),
                shutdown_kernel="immediate",  # asked to end, it often takes seconds, and it has nothing left to do
                on_notebook_start=seen.started,
                on_cell_execute=seen.next_cell,
            )
    except PapermillExecutionError as failed:
        error = ReportError(
            f"{notebook.name} failed in cell {failed.cell_index}: {failed.ename}: {plain(failed.evalue)[:_MOST_SAID]}",
            traceback=_cut(plain("\n".join(failed.traceback))),
        )
    except (TimeoutError, RuntimeError) as failed:
        why = _why(failed, held, seen.cell, cell_timeout_s)
        error = ReportError(f"{notebook.name} was not finished: {why}", traceback=_logged(folder))
    return Executed(_cleaned(seen.notebook, notebook, parameters), error)


@dataclass(slots=True)
class _Seen:
    """What is known of a notebook while it is executed."""

    notebook: Any
    total: int
    progress: Progress | None
    code_cells: int = 0
    cell: int | None = None

    def started(self, notebook: Any) -> None:
        self.notebook = notebook

    def next_cell(self, cell: Any, cell_index: int) -> None:
        self.cell = cell_index
        self.code_cells += 1
        if self.progress is not None:
            self.progress(self.code_cells, self.total)


def _why(error: Exception, held: Leash, cell: int | None, cell_timeout_s: int) -> str:
    """In words, what ended a notebook from outside."""
    where = "while its kernel started" if cell is None else f"in cell {cell}"
    if held.why:
        return f"{held.why}, {where}"
    if isinstance(error, TimeoutError):
        return f"cell {cell} took longer than {cell_timeout_s} s" if cell is not None else "its kernel did not start"
    from nbclient.exceptions import DeadKernelError

    if isinstance(error, DeadKernelError):
        return f"its kernel died {where}"
    return f"{plain(str(error))[:_MOST_SAID] or type(error).__name__} ({where})"


def _logged(folder: Path) -> str:
    """What the kernel said last."""
    log = folder / LOG
    return _cut(plain(log.read_text("utf-8", "replace"))) if log.is_file() else ""


def _cleaned(executed: Any, notebook: Path, parameters: Mapping[str, object]) -> Any:
    """Without what papermill adds about itself, its copy of the notebook, and the place where the notebook lies."""
    executed.cells = [cell for cell in executed.cells if _ERROR_MARKER not in cell.metadata.get("tags", [])]
    about = executed.metadata.setdefault("papermill", {})
    about.update(input_path=notebook.name, output_path=notebook.name, parameters=dict(parameters))
    return executed


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


def _publish(executed: Any, out: Path, *, title: str) -> None:
    import nbformat

    text = page(executed, title=title)
    source = nbformat.writes(executed)  # type: ignore[no-untyped-call]  # nbformat is typed in part
    try:
        write(out.with_suffix(".ipynb"), source)
        write(out, text)
    except OSError as error:
        raise ReportError(f"{out} cannot be written ({error.strerror}): give --out a folder you may write") from error


def plain(text: str) -> str:
    """Without the colours of a terminal."""
    return _ANSI.sub("", text)


def _cut(text: str) -> str:
    """The beginning and the end of a long traceback, which say the most."""
    half = _MOST_TRACED // 2
    return text if len(text) <= _MOST_TRACED else f"{text[:half]}\n…\n{text[-half:]}"
