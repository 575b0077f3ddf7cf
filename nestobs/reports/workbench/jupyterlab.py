"""What a notebook that is worked in shows beside its results: captions as wide as figures, and what is under way.

Set up when nestobs.reports is imported in the kernel of such a notebook. A report's own kernel draws figures for a page
(publishing/renderer.py) and its progress is told elsewhere; in a terminal and in a script nothing is changed.
"""

from __future__ import annotations

import re
import sys
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from nestobs.figures import plain
from nestobs.observation.duration import SECOND_NS
from nestobs.reports.workbench.words import Words, of_table
from nestobs.sources.clock import Clock

if TYPE_CHECKING:
    import plotly.graph_objects as go

QUIET_S, PAUSE_S = 2.0, 1.0
"""What takes longer than the one is told of, and again after each of the other."""

WIDTH_PX: Final = 700
"""Of a figure in a notebook: it is some 850 beside an open side bar, on a screen of 1280. Legends are guessed wider
than they are, so that those of 500 still have room."""

_RENDERER: Final = "nestobs.reports.publishing.renderer"
_NAME: Final = re.compile(r"[^\W\d]\w*")


def set_up() -> None:
    """Once, in the kernel of a notebook that is worked in; elsewhere nothing."""
    shell = _shell()
    if shell is None or _watch.registered:
        return
    _watch.registered = True
    shown = shell.display_formatter
    shown.ipython_display_formatter.for_type_by_name("plotly.graph_objs._figure", "Figure", show)
    texts = shown.formatters["text/html"]
    texts.for_type_by_name("nestobs.reports.display", "Text", _words.of_text)
    for module, name in (("display", "Table"), ("display", "Folded"), ("live", "Panel")):
        texts.for_type_by_name(f"nestobs.reports.{module}", name, of_table)
    shown.mimebundle_formatter.for_type_by_name("nestobs.reports.answer", "Answer", _words.of_answer)
    shell.events.register("pre_run_cell", lambda info: _begin(info, shell.user_ns))
    shell.events.register("post_run_cell", lambda *_: _watch.end())
    _watch.begin()  # the cell that imports this is under way


def _begin(info: Any, names: dict[str, Any]) -> None:
    """A cell is run: its name is None where whoever runs it gives none."""
    _words.cell = str(getattr(info, "cell_id", None) or info.raw_cell)
    if _of_ours(info.raw_cell, names):
        _watch.begin()


def _shell() -> Any:
    """IPython's shell, where it is the kernel of a notebook that is worked in; else None.

    What a report's kernel is told to load it may not have loaded yet: this package is imported for it.
    """
    get = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    shell = get()
    ours = _RENDERER in str(getattr(shell, "config", {}).get("InteractiveShellApp", ""))
    return shell if hasattr(shell, "kernel") and not ours else None


def _of_ours(cell: str, names: dict[str, Any]) -> bool:
    """Whether a cell calls nestobs: no other one is of our concern."""
    found = [names.get(name) for name in _NAME.findall(cell)]
    homes = [getattr(each, "__module__", None) or getattr(each, "__name__", "") for each in found if each is not None]
    return any(str(home).partition(".")[0] == "nestobs" for home in homes) or "nestobs" in cell


# captions


def show(figure: go.Figure) -> None:
    """Show a figure of ours: question and note above it, as wide as it is, and no more room below it than its legend
    takes in a notebook. Of others': as it is."""
    import plotly.io
    from IPython.display import HTML, display

    from nestobs.figures import canvas
    from nestobs.reports.publishing.html import caption

    drawn = figure.to_dict()
    layout, meta = drawn["layout"], drawn["layout"].get("meta", {})
    if said := caption(layout, meta):
        display(HTML(_words.explained(said)))  # type: ignore[no-untyped-call]  # IPython does not type it
        if keys := meta.get("keys"):
            canvas.lower(layout, keys, WIDTH_PX)
    plotly.io.show(drawn, validate=False)


# what is under way


class _Watch:
    """A cell while it runs. After QUIET_S a line says how long, and what is done; at its end the line is gone."""

    def __init__(self) -> None:
        self.registered = False
        self.said = ""
        self._ended: threading.Event | None = None
        self._telling: threading.Thread | None = None

    def begin(self) -> None:
        """Of a cell."""
        self.end()
        self.said, self._ended = "", threading.Event()
        context = copy_context()  # a kernel knows by it to which cell an output belongs
        self._telling = threading.Thread(target=context.run, args=(self._tell, self._ended), daemon=True)
        self._telling.start()

    def end(self) -> None:
        """Its last word is said when this returns."""
        if self._ended is not None and self._telling is not None:
            self._ended.set()
            self._telling.join()
        self._ended = self._telling = None

    def _tell(self, ended: threading.Event) -> None:
        from IPython.display import HTML, display

        clock = Clock()
        began = clock.now()
        if ended.wait(QUIET_S):
            return
        line = display(HTML(self._line(QUIET_S)), display_id=True)  # type: ignore[no-untyped-call]  # it has no types
        while not ended.wait(PAUSE_S):
            line.update(HTML(self._line((clock.now() - began) / SECOND_NS)))  # type: ignore[no-untyped-call]  # as above
        line.update(HTML(""))  # type: ignore[no-untyped-call]  # as above

    def _line(self, seconds: float) -> str:
        return f'<p class="nestobs-under-way">{plain(self.said or "at work", 200)}, {seconds:.0f} s …</p>'


_watch: Final = _Watch()
_words: Final = Words()


def step(said: str) -> None:
    """Say what is done now, for whoever waits for the cell that runs. Costs nothing where nobody is told."""
    _watch.said = said


def rest() -> None:
    """The cell that runs tells itself how it goes on."""
    _watch.end()
