"""What a report is about: the observations of a store in a window, and the timelines and joins of the nests made in it.

A nest belongs to the window in which it was made; without a known origin, to that of its first observation. It may be
watched beyond the end of that window: rows sent until `FOLLOW_S` after it are read for the nest's sake, and so are
those sent until `LEAD_S` before it, since clocks differ. Counts and coverage are of rows sent in the window itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from nestobs.joins import joins
from nestobs.store import Store
from nestobs.timeline import timelines
from nestobs.window import SECOND_NS, Window

LEAD_S: Final = 60
FOLLOW_S: Final = 900


@dataclass(frozen=True, slots=True)
class Observed:
    """rows: observations sent in the window. timelines, joins: of nests made in it. window: None for all there is.

    Frames as Store.frame, timeline.SCHEMA and joins.SCHEMA have them.
    """

    store: str
    window: Window | None
    rows: pd.DataFrame
    timelines: pd.DataFrame
    joins: pd.DataFrame

    @property
    def nests(self) -> int:
        """How many different nests were watched."""
        return len(self.timelines[["trace_id", "nest"]].drop_duplicates())

    @property
    def empty(self) -> bool:
        """Whether nothing at all was observed."""
        return self.rows.empty

    @property
    def counts(self) -> dict[str, int]:
        """For a report's result."""
        return {"observations": len(self.rows), "nests": self.nests, "joins": len(self.joins)}


def read(store: str, window: str | Window = "") -> Observed:
    """The rows of a window of a store ("" for all). Raises StoreError when there is no store, UsageError for a window
    that is none."""
    opened = Store.open(store, create=False)
    wanted = (Window.parse(window) if window else None) if isinstance(window, str) else window
    if wanted is None:
        rows = opened.frame()
        lines = timelines(rows)
        return Observed(store, None, rows, lines, joins(rows, lines))
    around = opened.frame(start=wanted.start - LEAD_S * SECOND_NS, end=wanted.end + FOLLOW_S * SECOND_NS)
    sent = around["sent_at"].to_numpy(np.int64)
    lines = _made_in(timelines(around), around, wanted)
    ours = joins(around, lines)
    known = set(zip(lines["trace_id"], lines["nest"], strict=True))
    ours = ours[[each in known for each in zip(ours["trace_id"], ours["nest"], strict=True)]]
    inside = around[(sent >= wanted.start) & (sent < wanted.end)]
    return Observed(store, wanted, inside.reset_index(drop=True), lines, ours.reset_index(drop=True))


def _made_in(lines: pd.DataFrame, rows: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Timelines of nests made in the window."""
    first = rows.groupby(["trace_id", "nest"])["sent_at"].min().rename("first")
    began = lines[["trace_id", "nest"]].join(first, on=["trace_id", "nest"])["first"]
    origin = lines["origin_at"].astype("int64").where(lines["origin_at"].notna(), began).astype("Float64")
    inside = ((origin >= window.start) & (origin < window.end)).fillna(value=False)
    return lines[inside.to_numpy(dtype=bool)].reset_index(drop=True)
