"""Figures over wall time: one axis in UTC, and under it a strip that shows when the collector was at work.

Without the strip an hour in which nobody looked would read as an hour in which nothing was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures.canvas import GREY, INK, ORANGE, PURPLE, filled, hatched, percent, plain_axis
from nestobs.figures.text import plain
from nestobs.observation.duration import SECOND_NS
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
    return plain_axis() | {
        "range": [0, length_s],
        "tickvals": [(at - start) / SECOND_NS for at in ticks],
        "ticktext": [_tick(at, step, number == 0) for number, at in enumerate(ticks)],
        "title": {"text": "time, UTC", "font": {"size": 12}, "standoff": 6},
        **more,
    }


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
        yaxis2=plain_axis()
        | {"domain": [0, _LANE_PX * len(names) / whole], "anchor": "x", "range": [len(names) - 0.4, -0.6]}
        | {"tickvals": [*range(len(names))], "ticktext": collector.labels, "showgrid": False},
    )
    on = within(collector.lanes, collector.start, collector.end)
    off = _all_off(collector) if on.empty else gaps(collector.lanes, collector.start, collector.end)
    figure.add_traces([_bars(collector, names, on, AT_WORK, filled(GREY)), _bars(collector, names, off, OFF, _OFF)])
    figure.add_traces(_marks(collector, names))


_OFF: Final = hatched(GREY, "x")


def _all_off(collector: Collector) -> pd.DataFrame:
    start, end = (pd.Timestamp(at, tz="UTC") for at in (collector.start, collector.end))
    return pd.DataFrame([{"vantage": name, "start_at": start, "end_at": end} for name in collector.names])


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def said(collector: Collector) -> str:
    """In a sentence: at work for which share, off how often, stepped or asleep how often."""
    shares = covered(collector.spans, collector.start, collector.end)
    if not shares:
        return "The collector is not known to have been at work at any time."
    each = ", ".join(f"{plain(name, 24)} {percent(share)}" for name, share in list(shares.items())[:6])
    off = len(gaps(collector.lanes, collector.start, collector.end))
    marks = [f"{name} {_times(count)}" for kind, (name, _, _) in _MARKS.items()
             if (count := int((collector.disturbances["kind"] == kind).sum()))]  # fmt: skip
    return f"At work: {each}; off {_times(off) if off else 'never'}" + "".join(f"; {mark}" for mark in marks) + "."


def _bars(collector: Collector, names: Sequence[str], spans: pd.DataFrame, name: str, marker: dict[str, Any]) -> go.Bar:
    starts, ends = collector.x(spans["start_at"]), collector.x(spans["end_at"])
    return go.Bar(
        orientation="h",
        y=[names.index(each) for each in spans["vantage"]],
        base=starts,
        x=[end - start for start, end in zip(starts, ends, strict=True)],
        width=0.7,
        marker=marker,
        name=name,
        hovertext=[f"{name}<br>{a:%Y-%m-%d %H:%M:%S} to<br>{b:%Y-%m-%d %H:%M:%S} UTC"
                   for a, b in zip(spans["start_at"], spans["end_at"], strict=True)],
        hoverinfo="text",
        yaxis="y2",
    )  # fmt: skip


def _marks(collector: Collector, names: Sequence[str]) -> list[go.Scatter]:
    found = collector.disturbances
    made = []
    for kind, (name, symbol, color) in _MARKS.items():
        mine = found[found["kind"] == kind]
        if mine.empty:
            continue
        lanes = [names.index(each) if each in names else 0 for each in mine["vantage"]]
        texts = [f"{name} by {size:+.1f} s<br>{at:%Y-%m-%d %H:%M:%S} UTC"
                 for at, size in zip(mine["at"], mine["size_s"], strict=True)]  # fmt: skip
        marker = {"symbol": symbol, "size": 11, "color": color, "line": {"color": INK, "width": 1.5}}
        made.append(
            go.Scatter(
                x=collector.x(mine["at"]),
                y=lanes,
                mode="markers",
                marker=marker,
                name=name,
                hovertext=texts,
                hoverinfo="text",
                yaxis="y2",
            )
        )
    return made
