"""Figures over wall time: one axis in UTC, and under it a strip that shows when the collector was at work.

Without the strip an hour in which nobody looked would read as an hour in which nothing was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import canvas, marks
from nestobs.figures.canvas import GREY, ORANGE, PURPLE
from nestobs.figures.text import plain
from nestobs.observation.columns import records
from nestobs.observation.duration import SECOND_NS, duration_words
from nestobs.observation.text import percent
from nestobs.timeline.uptime import covered, gaps, together, within

_MOST_TICKS: Final = 5
_STEPS_S: Final = (1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800)
_MOST_LANES: Final = 4
_LANE_PX: Final = 16
_MARKS: Final = {
    "clock_step": ("clock stepped", "diamond", ORANGE),
    "suspended": ("machine slept", "square-cross", PURPLE),
}
AT_WORK, OFF = "collector at work", "collector off"


@dataclass(frozen=True, slots=True)
class Collector:
    """When the collector was at work: spans, disturbances and bursts as timeline.uptime gives them; [start, end) in ns
    UTC. bursts: None where there were none."""

    spans: pd.DataFrame
    disturbances: pd.DataFrame
    start: int
    end: int
    bursts: pd.DataFrame | None = None

    @property
    def lanes(self) -> pd.DataFrame:
        """The spans to show: each vantage's, or those of any vantage where there are many."""
        return self.spans if self.spans["vantage"].nunique() <= _MOST_LANES else together(self.spans)

    @property
    def names(self) -> list[str]:
        """Of the lanes, from the top; one without a name where nobody was at work at all."""
        return sorted(set(self.lanes["vantage"])) or [""]

    def x(self, instants: pd.Series) -> list[float]:
        """Where instants stand on the axis: seconds since the start."""
        return [(int(at) - self.start) / SECOND_NS for at in instants.astype("int64")]

    def ends(self, steps: pd.DataFrame) -> list[tuple[float, float]]:
        """Where steps of time stand on it, from `start_at` to `end_at`."""
        return list(zip(self.x(steps["start_at"]), self.x(steps["end_at"]), strict=True))


def axis(start: int, end: int, **more: Any) -> dict[str, Any]:
    """An axis of seconds since `start`, labelled with UTC times; dates where a day begins, and at the first tick."""
    length_s = max((end - start) / SECOND_NS, 1e-6)
    step = next((s for s in _STEPS_S if length_s / s <= _MOST_TICKS), _STEPS_S[-1])
    step *= max(1, int(length_s / step / _MOST_TICKS))
    first = -(-start // (step * SECOND_NS)) * step * SECOND_NS
    ticks = [int(at) for at in range(first, end + 1, step * SECOND_NS)]
    shown = {
        "range": [0, length_s],
        "tickvals": [(at - start) / SECOND_NS for at in ticks],
        "ticktext": [_tick(at, step, number == 0) for number, at in enumerate(ticks)],
    }
    return shown | canvas.titled("time, UTC") | more


def _tick(at: int, step: int, first: bool) -> str:
    stamp = pd.Timestamp(at, tz="UTC")
    if step >= 86_400:
        return f"{stamp:%m-%d}"
    clock = f"{stamp:%H:%M:%S}" if step < 60 else f"{stamp:%H:%M}"
    return f"{clock}<br>{stamp:%m-%d}" if first or (stamp.hour, stamp.minute, stamp.second) == (0, 0, 0) else clock


def over(
    question: str,
    note: str,
    traces: Sequence[Any],
    collector: Collector,
    *,
    plot_px: int = 180,
    yaxis: dict[str, Any],
    label: str = "",
    **layout: Any,
) -> go.Figure:
    """The figure of these traces over wall time, the collector's strip under it. label: the widest of the y axis."""
    names = collector.names
    labels = [plain(name, 12) if name and len(names) > 1 else "collector" for name in names]
    whole = plot_px + 10 + _LANE_PX * len(names)
    figure = canvas.drawn(question, note, [*traces, *_strip(collector)], plot_px=whole, labels=[label, *labels])
    return figure.update_layout(
        xaxis=axis(collector.start, collector.end, anchor="y2"),
        yaxis=yaxis | {"domain": [1 - plot_px / whole, 1]},
        yaxis2=canvas.lane_axis(labels, domain=[0, _LANE_PX * len(names) / whole], anchor="x"),
        **layout,
    )


def columns(
    collector: Collector,
    steps: pd.DataFrame,
    heights: Iterable[float],
    texts: Iterable[str],
    marker: Mapping[str, Any],
    **more: Any,
) -> go.Bar:
    """Upright bars over the steps of time from `start_at` to `end_at`."""
    ends = collector.ends(steps)
    middles, widths = [(start + end) / 2 for start, end in ends], [end - start for start, end in ends]
    return marks.columns(middles, heights, texts, marker, width=widths, **more)


def step_words(bins: pd.DataFrame) -> str:
    """How long such steps are."""
    return duration_words((bins["end_at"].iloc[0] - bins["start_at"].iloc[0]).total_seconds())


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"


def said(collector: Collector) -> str:
    """In a sentence: at work for which share, off how often, stepped or asleep how often."""
    shares = covered(collector.spans, collector.start, collector.end)
    if not shares:
        return "The collector is not known to have been at work at any time."
    each = ", ".join(f"{plain(name, 24)} {percent(share)}" for name, share in list(shares.items())[:6])
    off = len(gaps(collector.lanes, collector.start, collector.end))
    counts = collector.disturbances["kind"].value_counts()
    disturbed = [f"; {name} {times(counts[kind])}" for kind, (name, *_) in _MARKS.items() if kind in counts]
    return f"At work: {each}; off {times(off) if off else 'never'}{''.join(disturbed)}."


def _strip(collector: Collector) -> list[Any]:
    on = within(collector.lanes, collector.start, collector.end)
    off = gaps(collector.lanes, collector.start, collector.end)
    if on.empty:
        start, end = (pd.Timestamp(at, tz="UTC") for at in (collector.start, collector.end))
        off = pd.DataFrame([{"vantage": name, "start_at": start, "end_at": end} for name in collector.names])
    at_work = _bars(collector, on, AT_WORK, marks.filled(GREY))
    return [at_work, _bars(collector, off, OFF, marks.hatched(GREY, "x")), *_disturbed(collector)]


def _bars(collector: Collector, spans: pd.DataFrame, name: str, marker: dict[str, Any]) -> go.Bar:
    texts = [
        f"{name}<br>{one.start_at:%Y-%m-%d %H:%M:%S} to<br>{one.end_at:%Y-%m-%d %H:%M:%S} UTC" for one in records(spans)
    ]
    lanes = map(collector.names.index, spans["vantage"])
    return marks.spans(lanes, collector.ends(spans), texts, marker, width=0.7, name=name, yaxis="y2")


def _disturbed(collector: Collector) -> list[go.Scatter]:
    made, names, found = [], collector.names, collector.disturbances
    for kind, (name, symbol, color) in _MARKS.items():
        mine = found[found["kind"] == kind]
        if len(mine):
            lanes = [names.index(each) if each in names else 0 for each in mine["vantage"]]
            texts = [f"{name} by {one.size_s:+.1f} s<br>{one.at:%Y-%m-%d %H:%M:%S} UTC" for one in records(mine)]
            marker = marks.outlined(symbol, color, 11, 1.5)
            made.append(marks.points(collector.x(mine["at"]), lanes, texts, marker, name=name, yaxis="y2"))
    return made
