"""What changed between two spans of time: each difference as its interval beside none, and the days as strips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures.canvas import (
    BLUE,
    CLEAR,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SKY,
    VERMILLION,
    amount,
    at,
    blank,
    compressed,
    described,
    layer_label,
    nothing,
    panel_label,
    percent,
    plain_axis,
    share_axis,
)
from nestobs.figures.marks import axes, axis, bars, filled, hatched, panel, points
from nestobs.observation.columns import records

NAMES: Final = {
    "nests": "nests seen",
    "joins": "joins made",
    "joined": "joins that got in",
    "lost": "joins lost",
    "guest_instead": "guest, not signed in",
    "guide_untrue": "guide said untrue",
    "status_429": "answered 429",
    "status_5xx": "answered 5xx",
    "timeouts": "timed out",
    "joinable": "a join succeeds",
}
"""Of measures and of the delay that is no layer: short enough for a narrow figure."""

_ROW_PX, _HEAD_PX, _FOOT_PX, _STRIP_PX = 24, 26, 40, 78
_COMPRESSED: Final = (-600, -100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 600)
_RATIOS: Final = (0.01, 0.03, 0.1, 0.25, 0.5, 1, 2, 4, 10, 30, 100)
_POINTS: Final = (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100)


def name_of(measure: str) -> str:
    """A measure or a layer in a few words."""
    return NAMES.get(measure) or layer_label(measure)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """Comparisons of one unit. place: where a value stands on the axis; ticks: values that may be marked."""

    title: str
    null: float = 0.0
    place: Callable[[float], float] = at
    ticks: Sequence[float] = _COMPRESSED
    unit: str = " s"
    scale: float = 1.0


_PANELS: Final = {
    "count": _Panel(title="how many times as many an hour", null=1.0, place=math.log, ticks=_RATIOS, unit="×"),
    "share": _Panel(
        title="shares: difference in points of percent",
        place=lambda points: at(points / 3.0),
        ticks=_POINTS,
        unit="",
        scale=100.0,
    ),
    "median": _Panel(title="median delay: difference, s"),
    "ninth": _Panel(title="90 % delay: difference, s"),
}
_KEYS: Final = {
    "cannot be told from none": hatched(GREY, "/"),
    "differs by itself": hatched(ORANGE, "x"),
    "differs among all": filled(VERMILLION),
}
_HAIR: Final = 0.012
"""Least drawn length of a bar, as a share of the axis."""


def _key(row: Any) -> str:
    return tuple(_KEYS)[2 if row.remains and row.differs else 1 if row.differs else 0]


def changes(frame: pd.DataFrame, *, note: str) -> go.Figure:
    """Each difference with its 95 % interval against the line of no change, a panel a unit.

    frame: as changes.frame gives it. note: what is compared, n, windows.
    """
    question = "What changed?"
    if frame.empty:
        return nothing(question, f"There is nothing in both spans to compare, so there is nothing to draw. {note}")
    shown = [group for group in _PANELS if (frame["group"] == group).any()]
    rows = {group: frame[frame["group"] == group] for group in shown}
    heights = [_HEAD_PX + _ROW_PX * len(rows[group]) + _FOOT_PX for group in shown]
    labels = [name_of(name) for name in frame["name"]]
    figure = blank(question, note, plot_px=sum(heights), keys=list(_KEYS), labels=labels)
    top = 0
    for number, group in enumerate(shown):
        _panel(figure, group, rows[group], number, (top, heights[number], sum(heights)))
        top += heights[number]
    for word, marker in _KEYS.items():
        figure.add_trace(go.Bar(x=[None], y=[None], marker=marker, name=word, orientation="h"))
    figure.update_layout(barmode="overlay", legend={"y": -16 / sum(heights)})
    return described(figure, _alt(frame), _table(frame))


def _panel(figure: go.Figure, group: str, rows: pd.DataFrame, number: int, stand: tuple[int, int, int]) -> None:
    """One unit: a row a comparison. stand: pixels above it, of it, and of all panels."""
    kind = _PANELS[group]
    above, height, whole = stand
    ends = [kind.scale * end for name in ("low", "high") for end in rows[name] if math.isfinite(end)]
    places = [kind.place(end) for end in ends if group != "count" or end > 0]
    edge = 1.12 * max([abs(place) for place in places if math.isfinite(place)] or [0.0], default=0.0)
    edge = max(edge, kind.place(kind.ticks[len(kind.ticks) // 2 + 1]))
    mine = axes(number)
    for place, row in enumerate(records(rows)):
        figure.add_traces(_bar(kind, row, place, edge, mine))
    inside = [(kind.place(tick), tick) for tick in kind.ticks]
    ticks = _thinned([(place, tick) for place, tick in inside if abs(place) <= edge], edge)
    across: dict[str, Any] = {"range": [-edge, edge], "tickvals": [place for place, _ in ticks]}
    across |= {"ticktext": [_tick(group, tick) for _, tick in ticks]}
    domain = [1 - (above + height - _FOOT_PX) / whole, 1 - (above + _HEAD_PX) / whole]
    labels = [name_of(name) for name in rows["name"]]
    refs = {"xref": mine["xaxis"], "yref": mine["yaxis"], "line": {"color": INK, "width": 1.5}}
    figure.add_shape(type="line", x0=0, x1=0, y0=-0.5, y1=len(rows) - 0.5, **refs)
    panel(figure, number, kind.title, across, labels, top=1 - above / whole, domain=domain)


def _thinned(ticks: Sequence[tuple[float, float]], edge: float) -> list[tuple[float, float]]:
    """Ticks that leave each other room on a narrow screen, the middle one first."""
    kept: list[tuple[float, float]] = []
    for place, tick in sorted(ticks, key=lambda one: abs(one[0])):
        if all(abs(place - other) > 0.36 * edge for other, _ in kept):
            kept.append((place, tick))
    return sorted(kept)


def _tick(group: str, tick: float) -> str:
    return f"{tick:g}×" if group == "count" else f"{tick:+g}" if tick else "0"


def _bar(panel: _Panel, row: Any, place: int, edge: float, axes: dict[str, str]) -> list[Any]:
    """The interval; an end beyond the axis is an arrow at its edge."""
    low, high = (_placed(panel, end, edge) for end in (row.low, row.high))
    middle, least = (low + high) / 2.0, _HAIR * edge
    low, high = min(low, middle - least), max(high, middle + least)
    text = f"{name_of(row.name)}<br>{_words(panel, row)}<br>{_key(row)}"
    more: dict[str, Any] = {"showlegend": False, **axes}
    bar = bars([place], [high - low], [text], _KEYS[_key(row)], base=[low], width=0.5, **more)
    arrows = [(-edge, "triangle-left")] if low <= -edge else []
    arrows += [(edge, "triangle-right")] if high >= edge else []
    marks = {"color": INK, "size": 10, "symbol": [symbol for _, symbol in arrows]}
    x, count = [0.98 * x for x, _ in arrows], len(arrows)
    return [bar, points(x, [place] * count, [text] * count, marks, **more)] if arrows else [bar]


def _placed(panel: _Panel, end: float, edge: float) -> float:
    value = panel.scale * end
    if math.isinf(value) or (panel.null == 1.0 and value <= 0.0):
        return edge if value > panel.null else -edge
    return max(-edge, min(edge, panel.place(value)))


def _words(panel: _Panel, row: Any) -> str:
    low, high = (_number(panel, panel.scale * end) for end in (row.low, row.high))
    return f"{low} to {high}{' points' if panel.scale != 1.0 else ''}"


def _number(panel: _Panel, value: float) -> str:
    if math.isinf(value):
        return amount(value)
    sign = "" if panel.null == 1.0 else "+" if value > 0 else "−" if value < 0 else ""
    return f"{sign}{amount(abs(value))}{panel.unit}"


def difference_words(row: Any) -> str:
    """The interval of a difference in words: row as changes.frame has it."""
    return _words(_PANELS[row.group], row)


def _alt(frame: pd.DataFrame) -> str:
    rows = records(frame)
    apart = [row for row in rows if row.differs]
    held = [row for row in apart if row.remains]
    first = "; ".join(f"{name_of(row.name)} ({row.group}) {difference_words(row)}" for row in (held or apart)[:4])
    return (
        f"{len(rows)} comparisons: the interval of {len(apart)} leaves out that nothing changed, {len(held)} of them"
        f" also among all.{f' {first}.' if first else ''}"
    )


def _table(frame: pd.DataFrame) -> pd.DataFrame:
    """The data as drawn: differences in the units of their panels."""
    scale = frame["group"].map({group: panel.scale for group, panel in _PANELS.items()}).astype(float)
    units = {"count": "ratio", "share": "points of percent", "median": "s, median", "ninth": "s, 90 %"}
    return pd.DataFrame(
        {
            "what": [name_of(name) for name in frame["name"]],
            "unit": frame["group"].map(units),
            "from": frame["low"] * scale,
            "to": frame["high"] * scale,
            "n before": frame["before_n"],
            "n now": frame["after_n"],
            "differs by itself": frame["differs"],
            "differs among all": frame["remains"] & frame["differs"],
        }
    )


# the days


def days(frame: pd.DataFrame, *, note: str, least_coverage: float = 0.0) -> go.Figure:
    """Strips of successive spans: joins, coverage, the median delay until a join succeeds, and what was lost.

    frame: as changes.daily gives it, the last row being the span in question. Medians and shares are bars from end to
    end of their 95 % intervals.
    """
    question = "How were the days?"
    if frame.empty or not (frame["nests"].any() or frame["joins"].any() or frame["covered"].any()):
        return nothing(question, f"Nothing was observed on any of them, so there is nothing to draw. {note}")
    figure = blank(question, note, plot_px=4 * (_HEAD_PX + _STRIP_PX), keys=["interval, 95 %"], labels=["100 %"])
    x = list(range(len(frame)))
    count = [f"{n} joins, {m} nests" for n, m in zip(frame["joins"], frame["nests"], strict=True)]
    figure.add_trace(_columns(x, frame["joins"], count, filled(SKY), "y"))
    share = [f"{percent(one)} of the time covered" for one in frame["covered"]]
    marker = filled(GREEN) | {"pattern": {"shape": ["" if c >= least_coverage else "x" for c in frame["covered"]]}}
    figure.add_trace(_columns(x, frame["covered"], share, marker, "y2"))
    known = [float(end) for end in (*frame["median_high_s"], *frame["median_low_s"]) if math.isfinite(end)]
    highest = max(1.0, 1.15 * max(known, default=1.0))
    medians, lost = (frame[["median_low_s", "median_high_s"]], frame[["lost_low", "lost_high"]])
    figure.add_traces(_floating(medians, place=at, top=highest, color=BLUE, yaxis="y3"))
    figure.add_traces(_floating(lost, place=float, top=1.0, color=VERMILLION, yaxis="y4"))
    most = max(1, int(frame["joins"].max()))
    delays = compressed(tick for tick in (0, 1, 10, 100, 1000) if tick <= highest)
    strips = (
        ("joins", {"range": [0, 1.1 * most], "tickvals": [0, most], "ticktext": ["0", f"{most:,}"]}),
        ("share of the time the collector worked", share_axis(0, 1.08, parts=2)),
        ("median delay until a join succeeds, s", {"range": [0, 1.08 * at(highest)]} | delays),
        ("joins lost, of those known", share_axis(0, 1.08, parts=2)),
    )
    share_px = (_HEAD_PX + _STRIP_PX) * len(strips)
    for number, (title, layout) in enumerate(strips):
        top = 1 - number / len(strips)
        domain = [top - (_HEAD_PX + _STRIP_PX - 12) / share_px, top - _HEAD_PX / share_px]
        figure.update_layout({axis("y", number)[1]: plain_axis() | layout | {"domain": domain, "anchor": "x"}})
        panel_label(figure, f"<b>{title}</b>", y=top)
    labels = {"tickvals": x, "ticktext": _day_labels(frame["start"]), "range": [-0.6, len(x) - 0.4]}
    figure.update_layout(xaxis=plain_axis() | labels | {"anchor": "y4", "showgrid": False}, barmode="overlay")
    return described(figure, _days_alt(frame), _days_table(frame))


def _columns(x: Sequence[int], values: pd.Series, text: Sequence[str], marker: dict[str, Any], yaxis: str) -> go.Bar:
    shown = {"marker": marker, "hovertext": list(text), "hoverinfo": "text", "showlegend": False}
    return go.Bar(x=list(x), y=[float(v) for v in values], width=0.7, yaxis=yaxis, **shown)


def _floating(frame: pd.DataFrame, *, place: Callable[[float], float], top: float, color: str, yaxis: str) -> list[Any]:
    """Bars from end to end of its two columns; one without an upper end is crowned by an arrow, days without an
    interval are empty."""
    ends = enumerate(frame.itertuples(index=False))
    some = [(x, max(0.0, lo), hi) for x, (lo, hi) in ends if not math.isnan(hi)]
    texts = [
        f"{amount(lo)} to {amount(hi)} s" if place is at else f"{percent(lo)} to {percent(hi)}" for _, lo, hi in some
    ]
    starts = [place(lo) for _, lo, _ in some]
    least = 0.02 * place(top)
    made = go.Bar(
        x=[x for x, _, _ in some],
        base=starts,
        y=[max(least, place(min(hi, top)) - start) for (_, _, hi), start in zip(some, starts, strict=True)],
        width=0.5,
        marker=hatched(color, "/"),
        hovertext=texts,
        hoverinfo="text",
        yaxis=yaxis,
        name="interval, 95 %",
        showlegend=yaxis == "y3",
    )
    endless = [x for x, _, hi in some if math.isinf(hi)]
    marker = {"symbol": "triangle-up", "size": 10, "color": color, "line": {"color": CLEAR}}
    places = {"x": endless, "y": [place(top)] * len(endless), "yaxis": yaxis}
    crown = go.Scatter(mode="markers", marker=marker, hoverinfo="skip", showlegend=False, **places)
    return [made, crown] if endless else [made]


def _day_labels(starts: pd.Series) -> list[str]:
    whole = len(starts) < 2 or (starts.iloc[1] - starts.iloc[0]).total_seconds() % 86_400 == 0
    return [f"{start:%a<br>%d}" if whole else f"{start:%d<br>%H:%M}" for start in starts]


def _days_alt(frame: pd.DataFrame) -> str:
    last = frame.iloc[-1]
    low, high = float(last["median_low_s"]), float(last["median_high_s"])
    median = "is not known" if math.isnan(high) else f"lies between {amount(low)} and {amount(high)} s"
    return (
        f"{len(frame)} spans. The last: {last['joins']} joins, {percent(float(last['covered']))} of the time covered,"
        f" the median delay until a join succeeds {median}."
    )


def _days_table(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "from, UTC": frame["start"],
            "nests": frame["nests"],
            "joins": frame["joins"],
            "covered, %": 100 * frame["covered"],
            "median from, s": frame["median_low_s"],
            "to, s": frame["median_high_s"],
            "lost from, %": 100 * frame["lost_low"],
            "to, %": 100 * frame["lost_high"],
        }
    )
