"""What a cell of a report shows: tables, paragraphs, figures, sections of them, its result. All text is cleaned and
escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from nestobs.figures import plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


RESULT: Final = "application/vnd.nestobs.result+json"
"""The output of a notebook that a scheduler reads: a `Result` as JSON."""

_CODE: Final = re.compile(r"`([^`<>]{1,80})`")

Facts = Mapping[str, float | str | None]
Judged = Literal["good", "breached", "too little data"]
_SIGNS: Final[Mapping[Judged, str]] = {
    "good": "✓ good",
    "breached": "✗ breached",
    "too little data": "? too little data",
}


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """A frame as an HTML table: every text cleaned and escaped, however hostile, and short."""

    frame: pd.DataFrame
    header: bool = True
    style: str = ""

    def __repr__(self) -> str:
        return f"<table of {len(self.frame)} rows>"

    def _repr_html_(self) -> str:
        shown = self.frame.map(lambda value: plain(value, 240))
        shown.columns = [plain(name) for name in self.frame.columns]
        body = shown.to_html(index=False, header=self.header, escape=False, border=0)  # `plain` has escaped it
        return f'{LEFT}<div class="{f"nestobs-table {self.style}".strip()}">{body}</div>'


def numbers(rows: Iterable[Mapping[str, object]]) -> Table:
    """A table of numbers, a row a mapping by column: its cells are not wrapped."""
    import pandas as pd

    return Table(pd.DataFrame(list(rows)), style="nestobs-numbers")


LEFT: Final = "<style>.nestobs-table :is(th, td) { text-align: left !important }</style>"
"""JupyterLab sets all cells to the right."""


@dataclass(frozen=True, slots=True, repr=False)
class Folded:
    """A table that is one click away."""

    summary: str
    table: Table

    def __repr__(self) -> str:
        return f"<{self.summary}>"

    def _repr_html_(self) -> str:
        return (
            f'<details class="data"><summary>{plain(self.summary, 200)}</summary>{self.table._repr_html_()}</details>'
        )


@dataclass(frozen=True, slots=True, repr=False)
class Text:
    """Paragraphs under the page's title, if they have it; each is escaped. A warning stands out."""

    paragraphs: Sequence[str]
    heading: str = ""
    warning: str = ""

    def __repr__(self) -> str:
        return f"<text of {len(self.paragraphs)} paragraphs>"

    def _repr_html_(self) -> str:
        parts = [f"<h1>{plain(self.heading, 120)}</h1>"] if self.heading else []
        parts += [f'<p class="nestobs-warning">{prose(self.warning)}</p>'] if self.warning else []
        return "".join(parts + [f"<p>{prose(text)}</p>" for text in self.paragraphs])


def prose(text: str) -> str:
    """A paragraph as HTML, cleaned, escaped and short; what stands between backticks is code."""
    return _CODE.sub(r"<code>\1</code>", plain(text, 600))


def many(count: int, what: str) -> str:
    """So many of them, in words: "1 nest", "1,200 nests"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def nothing_there(title: str, where: str = "") -> Text:
    """The head of a page about an empty store; where: " in ..." for a window of it."""
    said = f"This store holds no observation{where}, so there is nothing to report. Run a canary or a watch first."
    return Text([said], heading=title)


def drawn(figure: go.Figure) -> go.Figure | Text:
    """The figure; where it has nothing to draw, its sentence alone."""
    return figure if figure.data else Text([str(figure.layout.meta["alt"])])


@dataclass(frozen=True, slots=True)
class Section:
    """Several parts, shown one below the other; none: nothing at all."""

    parts: tuple[Table | Text | Folded | go.Figure, ...] = ()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for part in self.parts:
            display(part)  # type: ignore[no-untyped-call]  # IPython does not type it


def sign(verdict: Judged) -> str:
    """A verdict with its shape."""
    return _SIGNS[verdict]


def judged(lacks: Sequence[str], broken: Sequence[str], kept: Sequence[str]) -> tuple[Judged, Sequence[str]]:
    """The verdict and its reasons: too little data where anything `lacks`, else breached where a rule is, else good."""
    verdict: Judged = "too little data" if lacks else "breached" if broken else "good"
    return verdict, lacks or broken or kept


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """How the report came out, for its reader and for whoever scheduled it; a notebook shows it once.

    reasons: sentences that say why. coverage: the share of the window in which the collector was at work, None where
    there is no window. rows: counts, as {"observations": 9, "nests": 1, "joins": 2}. facts: numbers others may want to
    follow over time, None for what is not known.
    """

    verdict: Judged
    reasons: Sequence[str]
    coverage: float | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<result: {self.verdict}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        reasons = "".join(f"<p>{prose(text)}</p>" for text in self.reasons)
        style = self.verdict.replace(" ", "-")
        banner = f'<div class="nestobs-verdict {style}"><p><strong>{_SIGNS[self.verdict]}</strong></p>{reasons}</div>'
        return {RESULT: asdict(self), "text/html": banner, "text/plain": repr(self)}
