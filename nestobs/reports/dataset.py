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

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import COLUMNS
from nestobs.observation.window import Window
from nestobs.store.reader import Store
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins
from nestobs.timeline.nests import count_nests

LEAD_S: Final = 60
FOLLOW_S: Final = 900

UNREAD: Final = frozenset(
    {"reason", "software", "cache", "connection_reused", "loop_lag_s", "sync_age_s", "failure_layer"}
)
"""Columns of observations that no report of many nests needs: reading them takes as long as all the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """rows: observations sent in the window. timelines, joins: of nests made in it. window: None for all there is.
    around: rows sent from `LEAD_S` before it until `FOLLOW_S` after it, of whatever nest.

    Frames as Store.frame (without UNREAD), timeline.SCHEMA and joins.SCHEMA have them.
    """

    store: str
    window: Window | None
    rows: pd.DataFrame
    timelines: pd.DataFrame
    joins: pd.DataFrame
    around: pd.DataFrame

    @property
    def nests(self) -> int:
        """How many different nests were watched."""
        return count_nests(self.timelines)

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
    names = [column.name for column in COLUMNS if column.name not in UNREAD]
    wanted = (Window.parse(window) if window else None) if isinstance(window, str) else window
    if wanted is None:
        rows = opened.frame(columns=names)
        lines = timelines(rows)
        return Observed(store=store, window=None, rows=rows, timelines=lines, joins=joins(rows, lines), around=rows)
    start, end = wanted.start - LEAD_S * SECOND_NS, wanted.end + FOLLOW_S * SECOND_NS
    around = opened.frame(start=start, end=end, columns=names)
    sent = around["sent_at"].to_numpy(np.int64)
    lines = _made_in(timelines(around), around, wanted)
    ours = joins(around, lines)
    known = set(zip(lines["trace_id"], lines["nest"], strict=True))
    keeps = [each in known for each in zip(ours["trace_id"], ours["nest"], strict=True)]
    ours = ours[np.array(keeps, dtype=bool)]  # an empty list would choose no columns
    inside = around[(sent >= wanted.start) & (sent < wanted.end)]
    return Observed(
        store=store,
        window=wanted,
        rows=inside.reset_index(drop=True),
        timelines=lines,
        joins=ours.reset_index(drop=True),
        around=around,
    )


def _made_in(lines: pd.DataFrame, rows: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Timelines of nests made in the window."""
    first = rows.groupby(["trace_id", "nest"])["sent_at"].min().rename("first")
    began = lines[["trace_id", "nest"]].join(first, on=["trace_id", "nest"])["first"]
    origin = lines["origin_at"].astype("int64").where(lines["origin_at"].notna(), began).astype("Float64")
    inside = ((origin >= window.start) & (origin < window.end)).fillna(value=False)
    return lines[inside.to_numpy(dtype=bool)].reset_index(drop=True)
