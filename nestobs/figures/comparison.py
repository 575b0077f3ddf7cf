"""What changed between two spans of time: each difference as its interval beside none, and the days as strips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import canvas, marks
from nestobs.figures.canvas import BLUE, CLEAR, GREEN, GREY, INK, ORANGE, SKY, VERMILLION, at
from nestobs.figures.text import amount, layer_name
from nestobs.observation.columns import records
from nestobs.observation.text import percent

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

_HEAD_PX, _STRIP_PX = 26, 78
_COMPRESSED: Final = (-600, -100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 600)
_RATIOS: Final = (0.01, 0.03, 0.1, 0.25, 0.5, 1, 2, 4, 10, 30, 100)
_POINTS: Final = (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100)


def name_of(measure: str) -> str:
    """A measure or a layer in a few words."""
    return NAMES.get(measure) or layer_name(measure)


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
    "cannot be told from none": marks.hatched(GREY, "/"),
    "differs by itself": marks.hatched(ORANGE, "x"),
    "differs among all": marks.filled(VERMILLION),
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
        return canvas.nothing(
            question, f"There is nothing in both spans to compare, so there is nothing to draw. {note}"
        )
    groups = [(group, frame[frame["group"] == group]) for group in _PANELS if (frame["group"] == group).any()]
    keys = [marks.bars([None], [None], [], marker, name=word) for word, marker in _KEYS.items()]
    panels = [_panel(group, rows) for group, rows in groups]
    figure = marks.lane_panels(question, note, panels, keys, head_px=_HEAD_PX, row_px=24, foot_px=40)
    for number, (_, rows) in enumerate(groups, 1):
        none = {"type": "line", "x0": 0, "x1": 0, "y0": -0.5, "y1": len(rows) - 0.5}
        figure.add_shape(xref=f"x{number}", yref=f"y{number}", line={"color": INK, "width": 1.5}, **none)
    canvas.named(figure, map(name_of, frame["name"]))
    return canvas.described(figure, _alt(frame), _table(frame))


def _panel(group: str, rows: pd.DataFrame) -> marks.Panel:
    """One unit: a row a comparison."""
    kind = _PANELS[group]
    ends = [kind.scale * end for name in ("low", "high") for end in rows[name] if math.isfinite(end)]
    places = [kind.place(end) for end in ends if group != "count" or end > 0]
    edge = 1.12 * max([abs(place) for place in places if math.isfinite(place)] or [0.0], default=0.0)
    edge = max(edge, kind.place(kind.ticks[len(kind.ticks) // 2 + 1]))
    traces = [trace for place, row in enumerate(records(rows)) for trace in _bar(kind, row, place, edge)]
    inside = [(kind.place(tick), tick) for tick in kind.ticks]
    ticks = _thinned([(place, tick) for place, tick in inside if abs(place) <= edge], edge)
    across: dict[str, Any] = {"range": [-edge, edge], "tickvals": [place for place, _ in ticks]}
    across["ticktext"] = [f"{tick:g}×" if group == "count" else f"{tick:+g}" if tick else "0" for _, tick in ticks]
    return kind.title, canvas.labels_of(map(name_of, rows["name"])), across, traces


def _thinned(ticks: Sequence[tuple[float, float]], edge: float) -> list[tuple[float, float]]:
    """Ticks that leave each other room on a narrow screen, the middle one first."""
    kept: list[tuple[float, float]] = []
    for place, tick in sorted(ticks, key=lambda one: abs(one[0])):
        if all(abs(place - other) > 0.36 * edge for other, _ in kept):
            kept.append((place, tick))
    return sorted(kept)


def _bar(panel: _Panel, row: Any, place: int, edge: float) -> list[Any]:
    """The interval; an end beyond the axis is an arrow at its edge."""
    low, high = (_placed(panel, end, edge) for end in (row.low, row.high))
    middle, least = (low + high) / 2.0, _HAIR * edge
    ends = min(low, middle - least), max(high, middle + least)
    text = f"{name_of(row.name)}<br>{difference_words(row)}<br>{_key(row)}"
    made = [marks.spans([place], [ends], [text], _KEYS[_key(row)], width=0.5, showlegend=False)]
    arrows = [(-edge, "triangle-left")] if low <= -edge else []
    arrows += [(edge, "triangle-right")] if high >= edge else []
    for x, symbol in arrows:
        marker = {"color": INK, "size": 10, "symbol": symbol}
        made.append(marks.points([0.98 * x], [place], [text], marker, showlegend=False))
    return made


def _placed(panel: _Panel, end: float, edge: float) -> float:
    value = panel.scale * end
    if math.isinf(value) or (panel.null == 1.0 and value <= 0.0):
        return edge if value > panel.null else -edge
    return max(-edge, min(edge, panel.place(value)))


def difference_words(row: Any) -> str:
    """The interval of a difference in words: row as changes.frame has it."""
    panel = _PANELS[row.group]
    low, high = (_number(panel, panel.scale * end) for end in (row.low, row.high))
    return f"{low} to {high}{' points' if panel.scale != 1.0 else ''}"


def _number(panel: _Panel, value: float) -> str:
    if math.isinf(value):
        return amount(value)
    sign = "" if panel.null == 1.0 else "+" if value > 0 else "−" if value < 0 else ""
    return f"{sign}{amount(abs(value))}{panel.unit}"


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
        return canvas.nothing(question, f"Nothing was observed on any of them, so there is nothing to draw. {note}")
    x = list(range(len(frame)))
    count = [f"{n} joins, {m} nests" for n, m in zip(frame["joins"], frame["nests"], strict=True)]
    share = [f"{percent(one)} of the time covered" for one in frame["covered"]]
    hatch = {"pattern": {"shape": ["" if c >= least_coverage else "x" for c in frame["covered"]]}}
    known = [float(end) for end in (*frame["median_high_s"], *frame["median_low_s"]) if math.isfinite(end)]
    highest = max(1.0, 1.15 * max(known, default=1.0))
    medians, lost = (frame[["median_low_s", "median_high_s"]], frame[["lost_low", "lost_high"]])
    shown = {"width": 0.7, "showlegend": False}
    traces = [
        marks.columns(x, frame["joins"].astype(float), count, marks.filled(SKY), yaxis="y", **shown),
        marks.columns(x, frame["covered"].astype(float), share, marks.filled(GREEN) | hatch, yaxis="y2", **shown),
        *_floating(medians, place=at, top=highest, color=BLUE, yaxis="y3"),
        *_floating(lost, place=float, top=1.0, color=VERMILLION, yaxis="y4"),
    ]
    most = max(1, int(frame["joins"].max()))
    delays = canvas.compressed(tick for tick in (0, 1, 10, 100, 1000) if tick <= highest)
    strips = (
        ("joins", {"range": [0, 1.1 * most], "tickvals": [0, most], "ticktext": ["0", f"{most:,}"]}),
        ("covered: at work, or done as planned", canvas.share_axis(0, 1.08, parts=2)),
        ("median delay until a join succeeds, s", {"range": [0, 1.08 * at(highest)]} | delays),
        ("joins lost, of those known", canvas.share_axis(0, 1.08, parts=2)),
    )
    whole = len(strips) * (_HEAD_PX + _STRIP_PX)
    labels = {"tickvals": x, "ticktext": _day_labels(frame["start"]), "range": [-0.6, len(x) - 0.4]}
    figure = canvas.drawn(
        question,
        note,
        traces,
        plot_px=whole,
        labels=["100 %"],
        barmode="overlay",
        xaxis=labels | {"anchor": "y4", "showgrid": False},
    )
    for number, (title, layout) in enumerate(strips):
        top = 1 - number / len(strips)
        domain = [top - (_HEAD_PX + _STRIP_PX - 12) / whole, top - _HEAD_PX / whole]
        figure.update_layout({f"yaxis{number + 1}": layout | {"domain": domain, "anchor": "x"}})
        canvas.panel_label(figure, f"<b>{title}</b>", y=top)
    return canvas.described(figure, _days_alt(frame), _days_table(frame))


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
    lengths = [max(least, place(min(hi, top)) - start) for (_, _, hi), start in zip(some, starts, strict=True)]
    look = {"width": 0.5, "name": "interval, 95 %", "showlegend": yaxis == "y3", "yaxis": yaxis}
    made = [marks.columns([x for x, *_ in some], lengths, texts, marks.hatched(color, "/"), base=starts, **look)]
    if endless := [x for x, _, hi in some if math.isinf(hi)]:
        marker = {"symbol": "triangle-up", "size": 10, "color": color, "line": {"color": CLEAR}}
        crown = [place(top)] * len(endless)
        made.append(marks.points(endless, crown, None, marker, showlegend=False, yaxis=yaxis))
    return made


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
