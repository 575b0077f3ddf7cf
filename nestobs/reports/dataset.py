"""What a report is about: the observations of a store in a window, and the timelines and joins of the nests made in it.

A nest belongs to the window in which it was made; without a known origin, to that of its first observation. It may be
watched beyond the end of that window: rows sent until `FOLLOW_S` after it are read for the nest's sake, and so are
those sent until `LEAD_S` before it, since clocks differ. Counts and coverage are of rows sent in the window itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from nestobs.diagnosis.diagnose import doubted, with_standing
from nestobs.errors import UsageError
from nestobs.estimate.account import Account
from nestobs.estimate.comparison import Span
from nestobs.figures.time_axis import Collector
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import COLUMNS
from nestobs.observation.window import Window
from nestobs.reports import coverage
from nestobs.reports.display import Facts, Result, Text, judged, nothing_there
from nestobs.reports.workbench.jupyterlab import step
from nestobs.store.partitions import Partition
from nestobs.store.reader import Store
from nestobs.timeline.delays import made_at
from nestobs.timeline.failures import failures
from nestobs.timeline.intervals import clock_words, elsewhere, timelines
from nestobs.timeline.joins import joins
from nestobs.timeline.nests import count_nests
from nestobs.timeline.omissions import held_up_words, omitted
from nestobs.timeline.uptime import observer

LEAD_S: Final = 60
FOLLOW_S: Final = 900
_NEST: Final = ["trace_id", "nest"]

UNREAD: Final = frozenset({"reason", "software", "cache", "connection_reused", "failure_layer"})
"""Columns of observations that no report of many nests needs: reading them takes as long as all the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """rows: observations sent in the window. timelines, joins: of nests made in it. window: None for all there is.
    around: rows sent from `LEAD_S` before it until `FOLLOW_S` after it, of whatever nest. collector: in that time.

    Frames as Store.frame (without UNREAD), timeline.SCHEMA and joins.SCHEMA have them.
    """

    window: Window | None
    rows: pd.DataFrame
    timelines: pd.DataFrame
    joins: pd.DataFrame
    around: pd.DataFrame
    collector: Collector

    @property
    def nests(self) -> int:
        """How many different nests were watched."""
        return count_nests(self.timelines)

    @property
    def when(self) -> str:
        """The time a report is about, for the note under each figure; "" where nothing was observed."""
        return "" if self.rows.empty else f"{(self.window or coverage.whole_seconds(self.collector)).words}."

    @property
    def span(self) -> Span:
        """The same for what is said of a span of time."""
        return whole_span(self.collector, self.rows, self.timelines, self.joins, self.window)

    @property
    def clocks(self) -> list[str]:
        """By how much clocks were off, how sure that is, and what it does to intervals, in sentences."""
        return clock_words(self.rows, self.timelines)

    def heading(self, title: str, said: Sequence[str]) -> Text:
        """The head of a page: what was seen, as `said`, and when the collector was at work; or that nothing was."""
        if self.rows.empty:
            return nothing_there(title, f" in {self.window.words}" if self.window else "")
        left_out = [*omitted(self.timelines), *held_up_words(failures(self.rows)), *self.clocks]
        about = [*said, *left_out, coverage.words(self.collector)]
        return Text(about, heading=title, warning=observer(self.rows).words)

    def result(self, lacks: Sequence[str], broken: Sequence[str], kept: Sequence[str], facts: Facts) -> Result:
        """How the page came out, as `judged`, with the coverage of a window and with counts."""
        part = None if self.window is None else coverage.share(self.collector)
        counts = {"observations": len(self.rows), "nests": self.nests, "joins": len(self.joins)}
        ours = observer(self.rows)
        return Result(*judged([ours.words] if ours.much else lacks, broken, kept), part, counts, facts)


def whole_span(
    collector: Collector, rows: pd.DataFrame, lines: pd.DataFrame, made: pd.DataFrame, window: Window | None = None
) -> Span:
    """Observations, timelines and joins of a window, None for the time in which anything was observed, as a span."""
    window = window or coverage.whole_seconds(collector)
    worked, covered = coverage.worked(collector), coverage.share(collector)
    return Span(
        window=window,
        worked_s=worked * window.seconds,
        account=Account.of(rows),
        timelines=lines,
        joins=made,
        covered_s=covered * window.seconds,
    )


def read(store: str, window: str = "") -> Observed:
    """The rows of a window of a store ("" for all). Raises StoreError when there is no store, UsageError for a window
    that is none."""
    opened = Store.open(store, create=False)
    names = [column.name for column in COLUMNS if column.name not in UNREAD]
    wanted = Window.parse(window) if window else None
    step("reading the store")
    around = frame(opened, wanted and watched(wanted), columns=names)
    step(f"working out when each layer showed each nest, from {len(around):,} observations")
    rows, lines = around, standing(opened, wanted and watched(wanted), timelines(around), around)
    if wanted is not None:
        rows = rows[rows["sent_at"].between(wanted.start, wanted.end, inclusive="left")].reset_index(drop=True)
        lines = _made_in(lines, around, wanted)
    step("judging the joins")
    ours = joins(around, lines)
    if wanted is not None:
        known = pd.MultiIndex.from_frame(lines[_NEST])
        ours = ours[pd.MultiIndex.from_frame(ours[_NEST]).isin(known)].reset_index(drop=True)
    return Observed(
        window=wanted,
        rows=rows,
        timelines=lines,
        joins=ours,
        around=around,
        collector=coverage.at_work(opened, wanted, rows),
    )


def earlier(store: str, observed: Observed, before: int) -> Span | None:
    """The `before` windows of the same length before what was observed; None for 0 of them, for all there is, and where
    nothing was seen in them. Raises UsageError for a number below 0."""
    if before < 0:
        raise UsageError("before: a number of windows, 0 for none")
    if observed.window is None or not before:
        return None
    found = read(store, observed.window.earlier(before).text)
    return found.span if len(found.rows) else None


def watched(window: Window) -> Window:
    """The time in which rows tell of the nests of that window."""
    return Window(window.start - LEAD_S * SECOND_NS, window.end + FOLLOW_S * SECOND_NS)


def frame(opened: Store, window: Window | None, **wanted: Any) -> pd.DataFrame:
    """The rows of a store sent in the window, None for all; what is `wanted` as Store.frame takes it."""
    start, end = (window.start, window.end) if window else (None, None)
    return opened.frame(start=start, end=end, **wanted)


def standing(opened: Store, window: Window | None, lines: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The timelines with what standing faults kept shut marked (`diagnosis.diagnose`), by the rows of that window, of
    which they were made: all columns of those nests that have to be asked about are read."""
    names = doubted(lines, rows)
    if not names:
        return with_standing(lines, rows.iloc[:0])
    ends = (None, None) if window is None else (window.start, window.end)
    whole = Partition(opened.location, 1, 1, len(rows), (ends,)).among(names).read().rows
    return with_standing(lines, whole, elsewhere(rows))


def _made_in(lines: pd.DataFrame, rows: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Timelines of nests made in the window."""
    first = rows.groupby(_NEST)["sent_at"].min().rename("first")
    began = lines[_NEST].join(first, on=_NEST)["first"]
    made = made_at(lines)
    origin = made.astype("int64").where(made.notna(), began).astype("Float64")
    inside = ((origin >= window.start) & (origin < window.end)).fillna(value=False)
    return lines[inside.to_numpy(dtype=bool)].reset_index(drop=True)
