"""What a cell of a report shows: tables, paragraphs, figures, and sections of them. All text is cleaned and escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from nestobs.figures import plain

if TYPE_CHECKING:
    import plotly.graph_objects as go


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
        return f'<div class="{f"nestobs-table {self.style}".strip()}">{body}</div>'


@dataclass(frozen=True, slots=True, repr=False)
class Text:
    """Paragraphs under a heading of that level; each is escaped. A warning stands out."""

    paragraphs: Sequence[str]
    heading: str = ""
    warning: str = ""
    level: int = 1

    def __repr__(self) -> str:
        return f"<text of {len(self.paragraphs)} paragraphs>"

    def _repr_html_(self) -> str:
        parts = [f"<h{self.level}>{plain(self.heading, 120)}</h{self.level}>"] if self.heading else []
        parts += [f'<p class="nestobs-warning">{plain(self.warning, 600)}</p>'] if self.warning else []
        return "".join(parts + [f"<p>{plain(text, 600)}</p>" for text in self.paragraphs])


@dataclass(frozen=True, slots=True)
class Figures:
    """Several figures, shown one below the other."""

    figures: tuple[go.Figure, ...]

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for figure in self.figures:
            display(figure)  # type: ignore[no-untyped-call]  # IPython does not type it


@dataclass(frozen=True, slots=True)
class Section:
    """Several parts, shown one below the other; none: nothing at all."""

    parts: tuple[Table | Text | Figures | go.Figure, ...] = ()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for part in self.parts:
            display(part)  # type: ignore[no-untyped-call]  # IPython does not type it
