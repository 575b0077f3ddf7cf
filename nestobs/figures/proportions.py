"""Shares of things counted, a lane each: what surely counts, what may, and the exact interval around both; and how
many measured intervals contain the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nestobs.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    VERMILLION,
    blank,
    described,
    lane_axis,
    layer_label,
    layer_order,
    nothing,
    percent,
    seconds,
    share_axis,
    titled,
)
from nestobs.figures.marks import bars, filled, hatched, stack, stacked, struck
from nestobs.figures.text import plain

if TYPE_CHECKING:
    from nestobs.estimate.proportion import Share

_LANE_PX: Final = 30
SURE, MAYBE, ENDS = "surely", "possibly", "95 %"


def share_lanes(question: str, note: str, lanes: Mapping[str, Share], *, of: str, sure: str = SURE) -> go.Figure:
    """Lanes of shares from 0 to 100 %: a full bar to what surely counts, a hatched one to what may, a line for 95 %.

    lanes: label (may hold <br>, foreign text cleaned) -> share. of: what n counts, "joins". sure: what the full bar is.
    """
    known = {name: one for name, one in lanes.items() if one.n}
    if not known:
        return nothing(question, f"There are no {of} to take a share of, so there is nothing to draw.")
    doubt = any(one.most > one.least for one in known.values())
    keys = [sure, *([MAYBE] if doubt else []), ENDS]
    names, values = list(known), list(known.values())
    figure = blank(question, note, plot_px=_LANE_PX * len(names) + 10, keys=keys, labels=names)
    texts = [f"{name}<br>{_words(one)}" for name, one in known.items()]
    shared = {"width": 0.66, "base": [0.0] * len(values)}
    sizes = [one.value for one in values]
    figure.add_trace(bars(range(len(values)), sizes, texts, filled(BLUE), name=sure, **shared))
    if doubt:
        doubts, more = [one.doubt for one in values], shared | {"base": sizes}
        figure.add_trace(bars(range(len(values)), doubts, texts, hatched(BLUE, "/"), name=MAYBE, **more))
    figure.add_trace(_ends(values, texts))
    figure.update_layout(
        barmode="overlay", xaxis=share_axis(-0.01, 1.02) | titled(f"share of {of}"), yaxis=lane_axis(names)
    )
    said = "; ".join(f"{_bare(name)} {_words(one)}" for name, one in list(known.items())[:6])
    rest = "" if len(known) <= 6 else f"; and {len(known) - 6} more"
    return described(figure, f"{question} {said}{rest}.", _table(known, doubt))


def _bare(name: str) -> str:
    return name.replace("<br>", " ")


def _words(one: Share) -> str:
    value = percent(one.value)
    if one.most > one.least:
        value = f"{value} surely, {percent(one.value + one.doubt)} possibly"
    lower, upper = one.by_chance_and_doubt()
    return f"{value} ({percent(lower)} to {percent(upper)}) of {one.n}"


def _table(lanes: Mapping[str, Share], doubt: bool) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "": [plain(_bare(name), 60) for name in lanes],
        "count": [s.least for s in lanes.values()],
    }
    if doubt:
        columns["possibly"] = [one.most for one in lanes.values()]
    columns |= {"n": [one.n for one in lanes.values()], "share, %": [100 * one.value for one in lanes.values()]}
    ends = [one.by_chance_and_doubt() for one in lanes.values()]
    columns |= {"95 % lower, %": [100 * one.lower for one in ends], "95 % upper, %": [100 * one.upper for one in ends]}
    return pd.DataFrame(columns)


def _ends(values: list[Share], texts: list[str]) -> go.Scatter:
    """One line from end to end of each interval, with ticks at its ends."""
    x: list[float | None] = []
    y: list[int | None] = []
    hover: list[str | None] = []
    for lane, one in enumerate(values):
        x += [*one.by_chance_and_doubt(), None]
        y += [lane, lane, None]
        hover += [texts[lane], texts[lane], None]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line={"color": INK, "width": 2},
        marker=struck("line-ns-open", INK, 10, 2),
        name=ENDS,
        hovertext=hover,
        hoverinfo="text",
    )


# calibration

_JUDGED: Final = (
    ("contains it", "contain it", filled(GREEN)),
    ("misses it", "miss it", filled(VERMILLION, "x")),
    ("cannot be judged", "cannot be judged", filled(GREY, ".")),
)
_WIDTH: Final = "median width, s"


def coverage(judged: pd.DataFrame) -> go.Figure:
    """By layer: how many intervals contain the lab's truth, and how wide they are."""
    question = "Do the measured intervals contain the truth?"
    known = judged[judged["contains"].notna()]
    if known.empty:
        return nothing(question, "No interval has a truth to be judged by, so there is nothing to draw.")
    table = _judged_table(judged, layer_order(judged["layer"]))
    lanes = table["layer"].tolist()
    inside, missed, unjudged = (int(table[column].sum()) for _, column, _ in _JUDGED)
    note = (
        f"n = {len(known)} intervals: {inside} contain it, {missed} miss it; {unjudged} more cannot be judged."
        f" {int(np.isinf(known['upper_s']).sum())} right-censored. To the right the median width of those with two"
        " ends."
    )
    figure = blank(question, note, plot_px=26 * len(lanes) + 10, keys=[name for name, *_ in _JUDGED], labels=lanes)
    for name, column, marker in _JUDGED:
        if table[column].any():
            figure.add_trace(stack(table[column].tolist(), lanes, name, marker))
    stacked(figure, lanes, "number of intervals", tickformat="d")
    figure.update_layout(margin={"r": 66}, showlegend=True)
    for number, width in enumerate(table[_WIDTH]):
        text = "no width" if math.isnan(width) else seconds(width)
        figure.add_annotation(x=1.01, xref="paper", xanchor="left", y=number, yref="y", text=text, showarrow=False)
    alt = f"{question} {inside} of {len(known)} intervals contain it, {missed} miss it; {unjudged} cannot be judged."
    return described(figure, alt, table)


def _judged_table(judged: pd.DataFrame, layers: Sequence[str]) -> pd.DataFrame:
    rows = []
    for layer in layers:
        mine = judged[judged["layer"] == layer]
        known = mine[mine["contains"].notna()]
        inside = int(known["contains"].sum())
        width = known.loc[np.isfinite(known["width_s"]), "width_s"].median()
        rows.append((layer_label(layer), inside, len(known) - inside, len(mine) - len(known), float(width)))
    return pd.DataFrame(rows, columns=["layer", *(column for _, column, _ in _JUDGED), _WIDTH])
