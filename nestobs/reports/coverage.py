"""What a report says of the collector itself: when it was at work, when it was off, when its clock stepped.

Whatever a page shows over wall time stands above a strip of this (figures.time_axis), so that a gap in what was seen is
not read as an outage of what was watched.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nestobs.figures import percent, plain
from nestobs.figures.propagation import collector_strip
from nestobs.figures.time_axis import Collector, times
from nestobs.observation.columns import records
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import Window
from nestobs.reports.display import Section, Table, Text
from nestobs.store.reader import Store
from nestobs.timeline.uptime import (
    GAP_S,
    MOST_PERIOD_S,
    NEEDED,
    bursts,
    combined,
    covered,
    disturbances,
    gaps,
    spans,
    together,
    within,
)

MOST_GAPS: Final = 5
LEAST_GAP_S: Final = 1.0
MOST_STEPS: Final = 96
_STEPS_S: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400)
_REACH: Final = round(GAP_S * SECOND_NS)
_BEFORE: Final = round(MOST_PERIOD_S * SECOND_NS)

_MARKS: Final = {"clock_step": "the wall clock was stepped", "suspended": "the machine slept"}


def at_work(store: Store, window: Window | None, rows: pd.DataFrame) -> Collector:
    """The collector in a report's window; where it has none, from the first instant it observed to the last.

    rows: those sent in the window. Those of GAP_S before and after it are read for its edges' sake.
    """
    if window is None:
        at = pd.concat([rows["sent_at"], rows["received_at"].dropna()]).astype("int64")
        start, end = (int(at.min()), int(at.max()) + 1) if len(at) else (0, 1)
        return Collector(spans(rows), disturbances(rows), start, end, bursts(rows))
    edges = [(window.start - _REACH, window.start), (window.end, window.end + _REACH)]
    around = [store.frame(start=start, end=end, columns=NEEDED) for start, end in edges]
    every = pd.concat([part[list(NEEDED)] for part in (rows, *around)], ignore_index=True)
    return Collector(spans(every), disturbances(rows), window.start, window.end, _bursts(store, window))


def _bursts(store: Store, window: Window) -> pd.DataFrame:
    """What stands for some of the window, which a burst before it may do: their rows are of no nest."""
    found = bursts(store.frame(start=window.start - _BEFORE, end=window.end, trace_id="", columns=NEEDED))
    return found[found["end_at"] > pd.Timestamp(window.start, tz="UTC")].reset_index(drop=True)


def worked(collector: Collector) -> float:
    """In which share of the time any vantage was at work, 0 to 1."""
    return covered(together(collector.spans), collector.start, collector.end).get("", 0.0)


def share(collector: Collector) -> float:
    """In which share of the time any vantage was at work or had done what was planned (uptime.bursts), 0 to 1."""
    return covered(together(_covering(collector)), collector.start, collector.end).get("", 0.0)


def part_of(store: Store, window: Window) -> float:
    """`share`, read from a store for a window."""
    rows = store.frame(start=window.start - _REACH, end=window.end + _REACH, columns=NEEDED, categories=True)
    every = together(combined(spans(rows), _bursts(store, window)))
    return covered(every, window.start, window.end).get("", 0.0)


def burst_words(count: int, part: float) -> str:
    """How many bursts came to their end, and that they count; "" without any. part: `share`."""
    if not count:
        return ""
    bursts = "1 burst that came to its end stands" if count == 1 else f"{count:,} bursts that came to their end stand"
    return f"{bursts} for the time until the next of their schedule; with that, {percent(part)} of the time is covered"


def _covering(collector: Collector) -> pd.DataFrame:
    return collector.spans if collector.bursts is None else combined(collector.spans, collector.bursts)


def steps(collector: Collector) -> NDArray[np.int64]:
    """Edges of equal steps of time, ns UTC, in round numbers and at most MOST_STEPS of them, over the report's time."""
    length_s = (collector.end - collector.start) / SECOND_NS
    step_s = next((s for s in _STEPS_S if length_s / s <= MOST_STEPS - 1), math.ceil(length_s / (MOST_STEPS - 1)))
    step = step_s * SECOND_NS
    first = collector.start // step
    return np.arange(first, -(-collector.end // step) + 1, dtype=np.int64) * step


def shown(collector: Collector, *, when: str) -> Section:
    """Coverage in words, as a strip, and the longest gaps and each disturbance as a table."""
    listed = _listed(collector)
    table = () if listed.empty else (Table(listed),)
    return Section((Text([words(collector)]), collector_strip(collector, when=when), *table))


def words(collector: Collector) -> str:
    """Coverage in a few sentences."""
    shares = covered(collector.spans, collector.start, collector.end)
    if not shares:
        return "Nothing says that the collector was at work in this time, so a gap below says nothing about the nests."
    off = _gaps(collector)
    parts = ", ".join(f"{percent(part)} ({plain(name, 24)})" for name, part in list(shares.items())[:6])
    each = parts if len(shares) > 1 else percent(next(iter(shares.values())))
    said = [f"The collector was at work in {each} of the time."]
    begun = 0 if collector.bursts is None else len(within(collector.bursts, collector.start, collector.end))
    said += [f"{told}." for told in [burst_words(begun, share(collector))] if told]
    if len(off):
        longest = off.iloc[0]
        against = " against its plan" if begun else ""
        whose = f" of {plain(longest['vantage'], 24)}" if len(shares) > 1 else ""
        start, end = (f"{longest[name]:%Y-%m-%d %H:%M:%S}" for name in ("start_at", "end_at"))
        said.append(
            f"It was off{against} {times(len(off))}; the longest gap{whose} took {_length(float(longest['gap_s']))},"
            f" from {start} to {end} UTC. What lies in a gap was not looked at: it is no outage."
        )
    for kind, text in _MARKS.items():
        if count := int((collector.disturbances["kind"] == kind).sum()):
            said.append(f"In between {text} {times(count)}.")
    return " ".join(said)


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def _gaps(collector: Collector) -> pd.DataFrame:
    """Those worth a word: shorter ones are where runs follow each other, or the edges of the first and last row. What
    lies between the bursts of a schedule is none."""
    found = gaps(_covering(collector), collector.start, collector.end)
    return found[found["gap_s"] >= LEAST_GAP_S]


def _listed(collector: Collector) -> pd.DataFrame:
    off, marks = (records(each.head(MOST_GAPS)) for each in (_gaps(collector), collector.disturbances))
    rows = [(gap.vantage, gap.start_at, "off", _length(gap.gap_s)) for gap in off]
    for one in marks:
        size = "" if math.isnan(one.size_s) else f"{one.size_s:+.1f} s"
        rows.append((one.vantage, one.at, _MARKS[str(one.kind)], size))
    told = [(vantage, f"{at:%Y-%m-%d %H:%M:%S}", what, size) for vantage, at, what, size in rows]
    return pd.DataFrame(told, columns=["vantage", "from, UTC", "what", "for"])


def whole_seconds(collector: Collector) -> Window:
    """The least window of whole seconds, and at least one, that holds the collector's time."""
    start = collector.start // SECOND_NS * SECOND_NS
    return Window(start, max(-(-collector.end // SECOND_NS) * SECOND_NS, start + SECOND_NS))
