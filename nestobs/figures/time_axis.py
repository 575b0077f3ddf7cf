"""Figures over wall time: one axis in UTC, and under it a strip that shows when the collector was at work.

Without the strip an hour in which nobody looked would read as an hour in which nothing was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures.canvas import GREY, ORANGE, PURPLE, lane_axis, percent, plain_axis, titled
from nestobs.figures.marks import bars, filled, hatched, outlined, points
from nestobs.figures.text import plain
from nestobs.observation.duration import SECOND_NS, duration_words
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
    """When the collector was at work: spans and disturbances as timeline.uptime gives them; [start, end) in ns UTC."""

    spans: pd.DataFrame
    disturbances: pd.DataFrame
    start: int
    end: int

    @property
    def lanes(self) -> pd.DataFrame:
        """The spans to show: each vantage's, or those of any vantage where there are many."""
        return self.spans if self.spans["vantage"].nunique() <= _MOST_LANES else together(self.spans)

    @property
    def names(self) -> list[str]:
        """Of the lanes, from the top; one without a name where nobody was at work at all."""
        return sorted(set(self.lanes["vantage"])) or [""]

    @property
    def labels(self) -> list[str]:
        """The names as they are shown."""
        return [plain(name, 12) if name and len(self.names) > 1 else "collector" for name in self.names]

    @property
    def height_px(self) -> int:
        """Of the strip."""
        return 10 + _LANE_PX * len(self.names)

    @property
    def keys(self) -> list[str]:
        """Of its legend."""
        marks = [name for kind, (name, _, _) in _MARKS.items() if (self.disturbances["kind"] == kind).any()]
        return [AT_WORK, OFF, *marks]

    def x(self, instants: pd.Series) -> list[float]:
        """Where instants stand on the axis: seconds since the start."""
        return [(int(at) - self.start) / SECOND_NS for at in instants.astype("int64")]


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
    return plain_axis() | shown | titled("time, UTC") | more


def _tick(at: int, step: int, first: bool) -> str:
    stamp = pd.Timestamp(at, tz="UTC")
    if step >= 86_400:
        return f"{stamp:%m-%d}"
    clock = f"{stamp:%H:%M:%S}" if step < 60 else f"{stamp:%H:%M}"
    return f"{clock}<br>{stamp:%m-%d}" if first or (stamp.hour, stamp.minute, stamp.second) == (0, 0, 0) else clock


def under(figure: go.Figure, collector: Collector, *, plot_px: int) -> None:
    """Put the strip under the plot of a figure made with `plot_px + collector.height_px` pixels, on the y axis `y2`."""
    whole = plot_px + collector.height_px
    names = collector.names
    figure.update_layout(
        xaxis=axis(collector.start, collector.end, anchor="y2"),
        yaxis={"domain": [1 - plot_px / whole, 1]},
        yaxis2=lane_axis(collector.labels, domain=[0, _LANE_PX * len(names) / whole], anchor="x"),
    )
    on = within(collector.lanes, collector.start, collector.end)
    off = _all_off(collector) if on.empty else gaps(collector.lanes, collector.start, collector.end)
    figure.add_traces([_bars(collector, names, on, AT_WORK, filled(GREY)), _bars(collector, names, off, OFF, _OFF)])
    figure.add_traces(_marks(collector, names))


_OFF: Final = hatched(GREY, "x")


def columns(collector: Collector, bins: pd.DataFrame, heights: Iterable[float], **more: Any) -> go.Bar:
    """Upright bars over the steps of time from `start_at` to `end_at`."""
    starts, ends = collector.x(bins["start_at"]), collector.x(bins["end_at"])
    pairs = list(zip(starts, ends, strict=True))
    return go.Bar(
        x=[(a + b) / 2 for a, b in pairs], width=[b - a for a, b in pairs], y=[*heights], hoverinfo="text", **more
    )


def step_words(bins: pd.DataFrame) -> str:
    """How long such steps are."""
    return duration_words((bins["end_at"].iloc[0] - bins["start_at"].iloc[0]).total_seconds())


def _all_off(collector: Collector) -> pd.DataFrame:
    start, end = (pd.Timestamp(at, tz="UTC") for at in (collector.start, collector.end))
    return pd.DataFrame([{"vantage": name, "start_at": start, "end_at": end} for name in collector.names])


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
    marks = "".join(
        f"; {name} {times(count)}"
        for kind, (name, _, _) in _MARKS.items()
        if (count := int((collector.disturbances["kind"] == kind).sum()))
    )
    return f"At work: {each}; off {times(off) if off else 'never'}{marks}."


def _bars(collector: Collector, names: Sequence[str], spans: pd.DataFrame, name: str, marker: dict[str, Any]) -> go.Bar:
    starts, ends = collector.x(spans["start_at"]), collector.x(spans["end_at"])
    texts = [
        f"{name}<br>{begun:%Y-%m-%d %H:%M:%S} to<br>{ended:%Y-%m-%d %H:%M:%S} UTC"
        for begun, ended in zip(spans["start_at"], spans["end_at"], strict=True)
    ]
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    lanes = [names.index(each) for each in spans["vantage"]]
    return bars(lanes, lengths, texts, marker, base=starts, width=0.7, name=name, yaxis="y2")


def _marks(collector: Collector, names: Sequence[str]) -> list[go.Scatter]:
    found = collector.disturbances
    made = []
    for kind, (name, symbol, color) in _MARKS.items():
        mine = found[found["kind"] == kind]
        if mine.empty:
            continue
        lanes = [names.index(each) if each in names else 0 for each in mine["vantage"]]
        texts = [
            f"{name} by {size:+.1f} s<br>{at:%Y-%m-%d %H:%M:%S} UTC"
            for at, size in zip(mine["at"], mine["size_s"], strict=True)
        ]
        marker = outlined(symbol, color, 11, 1.5)
        made.append(points(collector.x(mine["at"]), lanes, texts, marker, name=name, yaxis="y2"))
    return made
