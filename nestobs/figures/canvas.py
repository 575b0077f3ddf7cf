"""What every figure is drawn on: one template, one age axis, lanes, and what it shows in words and as a table."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nestobs.figures.text import short, unbroken
from nestobs.join.policy import MESSAGE_S

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILLION, YELLOW, GREY = "#56B4E9", "#D55E00", "#F0E442", "#8A929A"
INK: Final = "#6E7781"
"""Text: a contrast above 4 on white and on near-black."""

CLEAR: Final = "rgba(0,0,0,0)"
HEAD_PX: Final = 24
"""Of a plot: for the words over a panel."""

_TICKS: Final = (-60, -30, -10, -3, -1, -0.3, 0, 0.3, 1, 3, 10, 30, 60, 120, 300, 900, 3600)
_TITLE_COLUMNS, _NOTE_COLUMNS, _NARROW_PX = 36, 48, 326
_AXIS: Final = {"showgrid": True, "gridcolor": "rgba(138,146,154,.25)", "zeroline": False, "fixedrange": True}
_LABELS: Final = {"tickangle": 0, "tickfont": {"size": 12, "color": INK}, "title": {"font": {"size": 12}}}
_INERT: Final = {"itemclick": False, "itemdoubleclick": False}
_CORNER: Final = {"x": 0, "xref": "container", "yanchor": "top"}
_TEMPLATE: Final = go.layout.Template(
    layout={
        "title": _CORNER | {"y": 1, "yref": "container", "pad": {"t": 20, "l": 2}, "font": {"size": 15, "color": INK}},
        "font": {"size": 12, "color": INK, "family": "system-ui, sans-serif"},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "legend": _CORNER
        | {"orientation": "h", "xanchor": "left", "traceorder": "normal", "font": {"size": 12}}
        | _INERT,
        "hoverlabel": {"font": {"size": 12}, "align": "left"},
        "xaxis": _AXIS | _LABELS,
        "yaxis": _AXIS | _LABELS,
        "annotationdefaults": {"showarrow": False},
        "dragmode": False,
        "barmode": "stack",
    }
)


# axes


def at(age_s: float) -> float:
    """Where an age stands on the compressed axis."""
    return math.asinh(age_s / 0.3)


def places(ages_s: Iterable[float]) -> list[float]:
    """Where ages stand on the compressed axis, as finely as it can show them."""
    return [round(at(float(age)), 4) for age in ages_s]


def heights(shares: Iterable[float]) -> list[float]:
    """Shares or counts, as finely as an axis can show them."""
    return [round(float(share), 4) for share in shares]


def reach(*values: Any) -> tuple[float, float]:
    """The least and the greatest of what is finite in these arrays, 0 and 1 among it."""
    every = np.concatenate([np.asarray(each, dtype=float) for each in values])
    known = every[np.isfinite(every)]
    return float(np.min(known, initial=0.0)), float(np.max(known, initial=1.0))


def delay_axis(low: float, high: float, **more: Any) -> dict[str, Any]:
    """An axis of compressed seconds that shows [low, high] and the message threshold."""
    first, last = at(min(low, 0.0)), at(max(high, MESSAGE_S * 1.25))
    shown = compressed(tick for tick in _TICKS if first - 1e-9 <= at(tick) <= last)
    limits = {"range": [first - 0.04 * (last - first), last]}
    return shown | limits | titled("age of the nest, s (compressed)") | more


def compressed(ticks: Iterable[float]) -> dict[str, Any]:
    """Ticks of these seconds on a compressed axis."""
    shown = list(ticks)
    return {"tickvals": [at(tick) for tick in shown], "ticktext": [f"{tick:g}" for tick in shown]}


def share_axis(low: float, high: float, *, parts: int = 4, **more: Any) -> dict[str, Any]:
    """An axis of shares from 0 to 1 in percent, a tick each of so many parts."""
    shown = [part / parts for part in range(parts + 1)]
    return {"tickvals": shown, "ticktext": [f"{100 * share:g} %" for share in shown], "range": [low, high]} | more


def lane_axis(labels: Sequence[str], *, above: float = 0.6, **more: Any) -> dict[str, Any]:
    """An axis of lanes from the top, numbered from 0; above: room over the first, in lanes."""
    ticks = {"tickvals": [*range(len(labels))], "ticktext": [*labels], "showgrid": False}
    return ticks | {"range": [len(labels) - (1.0 - above), -above]} | more


def titled(text: str) -> dict[str, Any]:
    """The title of an axis."""
    return {"title": {"text": text, "standoff": 6}}


# sheets


def wrapped(text: str, columns: int) -> list[str]:
    """Lines of at most so many columns, no number parted from its unit; one empty line for no text."""
    return textwrap.wrap(unbroken(text), columns, break_long_words=False, break_on_hyphens=False) or [""]


def blank(question: str, note: str, *, plot_px: int, keys: Sequence[str] = (), labels: Iterable[str] = ()) -> go.Figure:
    """An empty figure of the house: title and note above, room for a legend of these keys on a narrow screen below.

    The margins are fixed: left to itself plotly gives them most of such a screen. labels: of the y axis.
    """
    title = [f"<b>{line}</b>" for line in wrapped(question, _TITLE_COLUMNS)]
    lines = title + [f'<span style="font-size:12px">{line}</span>' for line in wrapped(note, _NOTE_COLUMNS)]
    left = 12 + 7 * max((len(html.unescape(part)) for label in labels for part in label.split("<br>")), default=5)
    top, bottom = 36 + 17 * len(lines), 58 + 20 * _legend_rows(keys, _NARROW_PX - left)
    return go.Figure().update_layout(
        template=_TEMPLATE,
        title={"text": "<br>".join(lines)},
        autosize=True,
        height=top + plot_px + bottom,
        margin={"t": top, "b": bottom, "l": left, "r": 10, "autoexpand": False},
        legend={"y": -50 / max(plot_px, 1)},
        meta={"question": question, "note": note, "keys": [*keys]},  # a page sets them itself, as wide as it is
    )


def lower(layout: dict[str, Any], keys: Sequence[str], width_px: int) -> None:
    """Take from such a figure's layout the room that its legend of these keys does not need where it is so wide."""
    margin = layout["margin"]
    rows = [_legend_rows(keys, width - margin["l"]) for width in (_NARROW_PX, width_px)]
    spare = 20 * max(rows[0] - rows[1], 0)
    layout["height"] -= spare
    layout["margin"] = {**margin, "b": margin["b"] - spare}


def _legend_rows(keys: Sequence[str], width_px: float) -> int:
    """Lines of a legend; plotly makes it as wide as the plot and all its columns as wide as the widest key."""
    column = 54 + 6.4 * max((len(html.unescape(key)) for key in keys), default=0)
    return math.ceil(len(keys) / max(1, int(width_px // column)))


def drawn(
    question: str,
    note: str,
    traces: Sequence[Any],
    *,
    plot_px: int,
    over: str = "",
    labels: Iterable[str] = (),
    **layout: Any,
) -> go.Figure:
    """The figure of these traces, with room for their legend. over: what stands over the plot, HEAD_PX high; labels: of
    the y axis; layout: what else is set."""
    keys = [trace.name for trace in traces if trace.showlegend is not False]
    whole = plot_px + (HEAD_PX if over else 0)
    figure = blank(question, note, plot_px=whole, keys=keys, labels=labels)
    figure.add_traces(traces).update_layout(layout)
    if over:
        figure.update_layout(yaxis={"domain": [0, plot_px / whole]})
        panel_label(figure, f"<b>{over}</b>")
    return figure


def nothing(question: str, why: str) -> go.Figure:
    """The figure of an empty frame: its question, and why there is nothing to draw."""
    figure = blank(question, why, plot_px=10)
    figure.update_layout(xaxis={"visible": False}, yaxis={"visible": False}, margin={"b": 10})
    return described(figure, f"{question} {why}", pd.DataFrame())


def today_line(figure: go.Figure, *, top: float = 1, words: str = "bottom") -> None:
    """The line at which today's message turns. top: its end, as a share of the plot, where the words have their
    bottom or their top."""
    x, shared = at(MESSAGE_S), {"xref": "x", "yref": "paper"}
    figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=top, line={"color": INK, "dash": "dash"}, **shared)
    figure.add_annotation(x=x, y=top, yanchor=words, xanchor="right", text="30 s", **shared)


def panel_label(figure: go.Figure, text: str, *, y: float = 1.0) -> None:
    """What a panel shows, written above it from the figure's left edge; y: its top, as a share of the plot."""
    place = {"x": 0, "xref": "paper", "xanchor": "left", "xshift": 8 - figure.layout.margin.l}
    figure.add_annotation(text=text, y=y, yref="paper", yanchor="top", align="left", **place)


# what it shows, told

MOST_CELLS: Final = 200
"""Rows of the table beside a figure; more are in the store, and the table says how many it leaves out."""


def described(figure: go.Figure, alt: str, table: pd.DataFrame) -> go.Figure:
    """The figure with what it shows in words, and as a table, for those who do not see it; both in `layout.meta`.

    alt: one or two sentences with the numbers that matter. table: what is drawn, a row a mark or a band's step; columns
    are named with their units. Numbers are cut to four digits, instants are UTC; open ends are said in words.
    """
    shown = table.head(MOST_CELLS)
    rows = [[cell(value) for value in row] for row in shown.itertuples(index=False)]
    more = len(table) - len(shown)
    told = {"alt": alt, "columns": [str(name) for name in table.columns], "rows": rows, "more": more}
    return figure.update_layout(meta=(figure.layout.meta or {}) | told)


def labels_of(names: Iterable[str]) -> list[str]:
    """What stands beside lanes of these names (cleaned, may hold <br>): each line as short as there is room for."""
    return ["<br>".join(short(html.unescape(line)) for line in name.split("<br>")) for name in names]


def named(figure: go.Figure, names: Iterable[str]) -> go.Figure:
    """The figure; of such names whose lines its labels shorten a page tells the whole ones, on paper too."""
    lines = dict.fromkeys(line for name in names for line in name.split("<br>"))
    whole = [[label, line] for line in lines if (label := labels_of([line])[0]) != line]
    return figure.update_layout(meta=(figure.layout.meta or {}) | {"whole": whole}) if whole else figure


def cell(value: Any) -> str:
    """A value of a table in words."""
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if math.isnan(value) else "no end" if math.isinf(value) else f"{value:.4g}"
    return str(value)


def window(*instants: pd.Series) -> str:
    """The span of the instants, in UTC, in words; "no window" when there are none."""
    known = pd.concat([one.dropna() for one in instants]) if instants else pd.Series(dtype="datetime64[ns, UTC]")
    if known.empty:
        return "no window"
    first, last = known.min(), known.max()
    end = f"{last:%H:%M:%S}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M:%S}"
    return f"{first:%Y-%m-%d %H:%M:%S} to {end} UTC"
