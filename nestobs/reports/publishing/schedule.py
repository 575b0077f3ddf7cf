"""A report of one window made once, whoever asks and however often; and the windows that were missed, made up for.

Making is one-shot: take the lock of report and window, look whether it is made already, execute the notebook, publish
(archive.py), refresh the index, let go. Nothing is kept anywhere else, so a run that dies is just not made, and the
next start or catch-up makes it.
"""

from __future__ import annotations

import html
import json
import os
import shlex
import signal
import subprocess
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from nestobs.errors import UsageError
from nestobs.observation.window import Window
from nestobs.reports import ReportError
from nestobs.reports.display import Text
from nestobs.reports.publishing import index
from nestobs.reports.publishing.archive import (
    MANIFEST,
    NOTEBOOK,
    PAGE,
    Archive,
    Manifest,
    private_name,
    report_name,
    writing,
)
from nestobs.reports.publishing.execute import CELL_TIMEOUT_S, Executed, Progress, execute, private_folder
from nestobs.reports.publishing.html import get_ready, page, plotly_js, shared_name
from nestobs.reports.publishing.kernel import Leash, leash
from nestobs.reports.publishing.manifest import Source, manifest, redacted, result
from nestobs.reports.publishing.parameters import check
from nestobs.sources.clock import Clock
from nestobs.store.files import write
from nestobs.store.reader import Store

TIMEOUT_S: Final = 3_600
ON_RESULT_TIMEOUT_S: Final = 60.0
_OURS: Final = ("store", "window")
_INTERRUPTED: Final = "it was interrupted"

State = Literal["made", "already", "busy", "interrupted"]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to make. store: as the notebook is to be given it, a folder or a URL. timeout_s: for a report in all.

    shared_js: one copy of plotly.js for the archive, in place of one in each page. on_result: a command, as words, that
    gets each manifest made on its standard input.
    """

    notebook: Path
    store: Path | str
    parameters: Mapping[str, object] = field(default_factory=dict)
    cell_timeout_s: int = CELL_TIMEOUT_S
    timeout_s: float = TIMEOUT_S
    force: bool = False
    shared_js: bool = False
    on_result: Sequence[str] = ()
    on_result_timeout_s: float = ON_RESULT_TIMEOUT_S

    @property
    def name(self) -> str:
        """The report's name. Raises UsageError for a notebook whose name cannot be a report's."""
        return report_name(self.notebook)

    def clean(self, text: str) -> str:
        """Without secrets, and without where the store and the notebook lie: nobody's business but the operator's."""
        folders = [self.store.absolute().parent] if isinstance(self.store, Path) else []
        return redacted(text, *folders, self.notebook.absolute().parent)


@dataclass(frozen=True, slots=True)
class Made:
    """What came of an order for a window. already: it was made before. busy: another process is making it.

    The manifest is that of the report just made or made before, and is empty for a busy or interrupted one.
    """

    name: str
    window: Window
    state: State
    manifest: Manifest = field(default_factory=dict)
    place: Path | None = None

    @property
    def verdict(self) -> str:
        """good, breached, too little data, failed; or the state where there is none."""
        return str(self.manifest.get("verdict", self.state))


class Stop:
    """The switch that ends all that is being made, from a signal's handler or another thread."""

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._held: set[Leash] = set()
        self.stopped = False

    def __call__(self) -> None:
        """Kill the kernels; nothing more is started or published."""
        with self._guard:
            self.stopped = True
            for held in list(self._held):
                held.cut(_INTERRUPTED)

    @contextmanager
    def leash(self) -> Iterator[Leash]:
        """A leash that this switch cuts."""
        with leash() as held:
            with self._guard:
                self._held.add(held)
                if self.stopped:
                    held.cut(_INTERRUPTED)
            try:
                yield held
            finally:
                with self._guard:
                    self._held.discard(held)


def checked(order: Order) -> Order:
    """The order. Raises UsageError for a notebook that cannot be made by window, or a parameter that it has not."""
    report_name(order.notebook)
    known = check(order.notebook, order.parameters)
    if given := [name for name in _OURS if name in order.parameters]:
        raise UsageError(f"the parameter {given[0]!r} is passed by nestobs: give --store and --window")
    if "window" not in known:
        raise UsageError(
            f"{order.notebook.name} has no parameter 'window', so it cannot be made by window:"
            f" it knows {', '.join(known) or 'none'}"
        )
    return order


def make(archive: Archive, order: Order, window: Window, *, stop: Stop, tell: Tell, progress: Progress) -> Made:
    """The report of that window, made and published unless it is already; tell: sentences for the operator.

    A report that failed is published as such, and never in place of a good one. Raises UsageError (see `checked`),
    StoreError where there is no store or the archive cannot be written, which leaves what was published as it was.
    """
    checked(order)
    with writing(archive.root), archive.holding(order.name, window) as mine:
        if not mine:
            return Made(order.name, window, "busy")
        before = archive.entry(order.name, window)
        if before is not None and before.final and not order.force:
            return Made(order.name, window, "already", before.manifest, archive.place(order.name, window))
        made = _make(archive, order, window, stop, progress)
        if made.state == "made":
            index.refresh(archive)
            archive.tidy(order.name, window)
    if made.state == "made" and order.on_result:
        _hand_on(order, made.manifest, tell)
    return made


def _make(archive: Archive, order: Order, window: Window, stop: Stop, progress: Progress) -> Made:
    clock = Clock()
    began_at = clock.now()
    given: dict[str, object] = {**order.parameters, "window": window.text}
    if "store" in check(order.notebook, ()):
        given["store"] = str(order.store)
    Store.open(order.store, create=False)  # where there is none, no kernel is started
    with ThreadPoolExecutor(1) as beside, archive.draft(order.name, window) as draft:
        counted = beside.submit(Source.of, order.notebook, order.store, window)  # a second for a million rows
        beside.submit(get_ready)
        executed = _executed(order, given, stop, private_name(draft), progress)
        if stop.stopped:
            return Made(order.name, window, "interrupted")
        try:
            found = result(executed.notebook) if executed.error is None else {}
        except ReportError as malformed:
            executed, found = Executed(executed.notebook, malformed), {}
        error = "" if executed.error is None else str(executed.error)
        shown = {name: order.clean(value) if isinstance(value, str) else value for name, value in given.items()}
        times = {"began_at": began_at, "made_at": clock.now()}
        about = manifest(order.name, window, shown, counted.result(), found, error=error, **times)
        _write(archive, draft, executed, about, shared=order.shared_js)
        if stop.stopped:
            return Made(order.name, window, "interrupted")
        return Made(order.name, window, "made", about, archive.publish(draft, failed=bool(error)))


def _executed(order: Order, given: Mapping[str, object], stop: Stop, private: str, progress: Progress) -> Executed:
    """The notebook, executed within its time, without secrets."""
    import nbformat

    with private_folder(private) as folder, stop.leash() as held:
        timer = threading.Timer(order.timeout_s, held.cut, (f"it took longer than {order.timeout_s:g} s in all",))
        timer.start()
        try:
            executed = execute(
                order.notebook,
                given,
                folder=folder,
                held=held,
                cell_timeout_s=order.cell_timeout_s,
                progress=progress,
            )
        finally:
            timer.cancel()
    source = nbformat.writes(executed.notebook)  # type: ignore[no-untyped-call]  # nbformat is typed in part
    clean = nbformat.reads(order.clean(source), as_version=4)  # type: ignore[no-untyped-call]  # as above
    error = executed.error
    if error is not None:
        error = ReportError(order.clean(str(error)), traceback=order.clean(error.traceback))
    return Executed(clean, error)


def _write(archive: Archive, draft: Path, executed: Executed, about: Manifest, *, shared: bool) -> None:
    import nbformat

    window = about["window"]["name"]
    title = str(about["parameters"].get("title") or f"{about['report']} {window}")
    shown = executed.notebook
    if executed.error is not None:
        title = f"{title}: failed"
        shown = _failed_page(executed, title)
    relative = f"../../{_shared_js(archive)}" if shared else ""
    source = nbformat.writes(executed.notebook)  # type: ignore[no-untyped-call]  # nbformat is typed in part
    (draft / NOTEBOOK).write_text(source, "utf-8")
    text = page(shown, title=title, shared_js=relative, beside=_beside(archive, about))
    (draft / PAGE).write_text(text, "utf-8")
    (draft / MANIFEST).write_text(dumps(about), "utf-8")


def _beside(archive: Archive, about: Manifest) -> list[tuple[str, str]]:
    """Links to the overview, at which it always is told what there is, and to what it has of the same window."""
    name, window = about["report"], Window.parse("{start}/{end}".format(**about["window"]))
    others = {entry.name for entry in archive.entries()} - {name}
    same = [(f"../../{index.INDEX}#{index.place(each, window)}", f"{each}, same window") for each in sorted(others)]
    return [*same, (f"../../{index.INDEX}#{index.place(name, window)}", "all reports")]


def dumps(data: object) -> str:
    """As JSON for files and programs."""
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _failed_page(executed: Executed, title: str) -> Any:
    """The cells that ran, below what went wrong."""
    import copy

    from nbformat.v4 import new_code_cell, new_output

    shown = copy.deepcopy(executed.notebook)
    ran = [bool(cell.get("execution_count") or cell.get("outputs")) for cell in shown.cells]
    last = max((number for number, each in enumerate(ran) if each), default=-1)
    error = executed.error
    said = Text(["Below are the cells that ran. Nothing of this replaces a good report."], title, warning=str(error))
    data = {"text/html": said._repr_html_() + _traceback(error.traceback if error else "")}
    notice = new_code_cell("", outputs=[new_output("display_data", data)])  # type: ignore[no-untyped-call]  # as above
    notice.metadata["transient"] = {"remove_source": True}  # nbconvert's word for a cell without code
    shown.cells = [notice, *shown.cells[: last + 1]]
    for cell in (each for each in shown.cells if each.cell_type == "code"):
        cell["outputs"] = [each for each in cell.get("outputs", []) if each["output_type"] != "error"]  # told above
    return shown


def _traceback(text: str) -> str:
    """Text of many lines, escaped, without control characters."""
    kept = "".join(c for c in text if c == "\n" or unicodedata.category(c)[0] != "C")
    style = "white-space: pre-wrap; overflow-wrap: anywhere; font: 12px/1.5 monospace"
    return f'<pre style="{style}">{html.escape(kept)}</pre>' if kept else ""


def _shared_js(archive: Archive) -> str:
    """The name of the archive's copy of plotly.js, written if it is not there."""
    name = shared_name()
    with archive.indexing():
        if not (archive.root / name).is_file():
            write(archive.root / name, plotly_js())
    return name


def _hand_on(order: Order, about: Manifest, tell: Tell) -> None:
    """Give the manifest to the operator's command. What becomes of that is told, and changes nothing."""
    program = shlex.quote(order.on_result[0])  # of its other words one may be a secret
    try:
        process = subprocess.Popen(
            order.on_result, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        tell(f"--on-result: {program} cannot be started ({error.strerror}); the report stands")
        return
    try:
        process.communicate(dumps(about).encode(), timeout=order.on_result_timeout_s)
        if process.returncode:
            tell(f"--on-result: {program} ended with {process.returncode}; the report stands")
    except subprocess.TimeoutExpired:
        tell(f"--on-result: {program} was ended after {order.on_result_timeout_s:g} s; the report stands")
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# many


def due(archive: Archive, orders: Sequence[Order], windows: Sequence[Window]) -> list[tuple[Order, Window]]:
    """Of these windows those that are missing, failed, or were made before they were over; oldest first."""

    def made(order: Order, window: Window) -> bool:
        entry = archive.entry(order.name, window)
        return entry is not None and entry.final and not order.force

    return [(order, window) for window in sorted(windows) for order in orders if not made(order, window)]


def catch_up(
    archive: Archive,
    wanted: Sequence[tuple[Order, Window]],
    *,
    jobs: int,
    stop: Stop,
    tell: Tell,
    progress: Callable[[Order, Window], Progress],
) -> Iterator[Made]:
    """Make these in their order, so many at a time; each as it is done. `stop` ends it; an error that is none of a
    report's own (a full disk, no store) ends it and is raised."""
    for order, _ in wanted:
        checked(order)
    waiting = list(wanted)
    running: set[Future[Made]] = set()
    with ThreadPoolExecutor(jobs, thread_name_prefix="report") as pool:
        try:
            while waiting or running:
                while waiting and len(running) < jobs and not stop.stopped:
                    order, window = waiting.pop(0)
                    told = progress(order, window)
                    running.add(pool.submit(make, archive, order, window, stop=stop, tell=tell, progress=told))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    yield each.result()
        finally:
            if running:
                stop()
