"""Shares of things counted, a lane each: what surely counts, what may, and the exact interval around both; and how
many measured intervals contain the truth."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import canvas, marks
from nestobs.figures.canvas import BLUE, GREEN, GREY, INK, VERMILLION
from nestobs.figures.text import layer_name, layer_order, plain, seconds
from nestobs.observation.text import percent

if TYPE_CHECKING:
    from nestobs.estimate.proportion import Share

_LANE_PX: Final = 30
_TALL_PX: Final = 38
"""For lanes whose labels have two lines."""
SURE, MAYBE, ENDS = "surely", "possibly", "95 %"


def share_lanes(question: str, note: str, lanes: Mapping[str, Share], *, of: str, sure: str = SURE) -> go.Figure:
    """Lanes of shares from 0 to 100 %: a full bar to what surely counts, a hatched one to what may, a line for 95 %.

    lanes: name (may hold <br>, foreign text cleaned; its label shortens a long one) -> share. of: what n counts,
    "joins". sure: what the full bar is.
    """
    known = {name: one for name, one in lanes.items() if one.n}
    if not known:
        return canvas.nothing(question, f"There are no {of} to take a share of, so there is nothing to draw.")
    names, values = canvas.labels_of(known), list(known.values())
    doubt = any(one.most > one.least for one in values)
    texts = [f"{name}<br>{_words(one)}" for name, one in known.items()]
    places, sizes = range(len(values)), [one.value for one in values]
    traces = [marks.bars(places, sizes, texts, marks.filled(BLUE), base=[0.0] * len(sizes), width=0.66, name=sure)]
    if doubt:
        doubts = [one.doubt for one in values]
        traces.append(marks.bars(places, doubts, texts, marks.hatched(BLUE, "/"), base=sizes, width=0.66, name=MAYBE))
    ends = [one.by_chance_and_doubt() for one in values]
    ticks = marks.struck("line-ns-open", INK, 10, 2)
    traces.append(marks.strokes(places, ends, INK, 2, texts=texts, marker=ticks, name=ENDS))
    figure = canvas.drawn(
        question,
        note,
        traces,
        plot_px=(_TALL_PX if any("<br>" in name for name in names) else _LANE_PX) * len(names) + 10,
        labels=names,
        barmode="overlay",
        xaxis=canvas.share_axis(-0.01, 1.02) | canvas.titled(f"share of {of}"),
        yaxis=canvas.lane_axis(names),
    )
    said = "; ".join(f"{_bare(name)} {_words(one)}" for name, one in list(known.items())[:6])
    rest = "" if len(known) <= 6 else f"; and {len(known) - 6} more"
    return canvas.described(canvas.named(figure, known), f"{question} {said}{rest}.", _table(known, doubt))


def _bare(name: str) -> str:
    return name.replace("<br>", " ")


def _words(one: Share) -> str:
    value = percent(one.value)
    if one.most > one.least:
        value = f"{value} surely, {percent(one.value + one.doubt)} possibly"
    lower, upper = one.by_chance_and_doubt()
    return f"{value} ({percent(lower)} to {percent(upper)}) of {one.n}"


def _table(lanes: Mapping[str, Share], doubt: bool) -> pd.DataFrame:
    rows = []
    for name, one in lanes.items():
        shares = (100 * share for share in (one.value, *one.by_chance_and_doubt()))
        rows.append((plain(html.unescape(_bare(name)), 120), one.least, one.most, one.n, *shares))
    table = pd.DataFrame(rows, columns=["", "count", "possibly", "n", "share, %", "95 % lower, %", "95 % upper, %"])
    return table if doubt else table.drop(columns="possibly")


# calibration

_JUDGED: Final = (
    ("contains it", "contain it", marks.filled(GREEN)),
    ("misses it", "miss it", marks.filled(VERMILLION, "x")),
    ("cannot be judged", "cannot be judged", marks.filled(GREY, ".")),
)
_WIDTH: Final = "median width, s"


def coverage(judged: pd.DataFrame) -> go.Figure:
    """By layer: how many intervals contain the lab's truth, and how wide they are."""
    question = "Do the measured intervals contain the truth?"
    known = judged[judged["contains"].notna()]
    if known.empty:
        return canvas.nothing(question, "No interval has a truth to be judged by, so there is nothing to draw.")
    table = _judged_table(judged, layer_order(judged["layer"]))
    lanes = table["layer"].tolist()
    inside, missed, unjudged = (int(table[column].sum()) for _, column, _ in _JUDGED)
    note = (
        f"n = {len(known)} intervals: {inside} contain it, {missed} miss it; {unjudged} more cannot be judged."
        f" {int(np.isinf(known['upper_s']).sum())} right-censored. To the right the median width of those with two"
        " ends."
    )
    parts = [(name, table[column].tolist(), marker) for name, column, marker in _JUDGED if table[column].any()]
    figure = marks.stacked(question, note, lanes, parts, "number of intervals", lane_px=26, tickformat="d")
    figure.update_layout(margin={"r": 66}, showlegend=True)
    for number, width in enumerate(table[_WIDTH]):
        text = "no width" if math.isnan(width) else seconds(width)
        figure.add_annotation(x=1.01, xref="paper", xanchor="left", y=number, yref="y", text=text)
    alt = f"{question} {inside} of {len(known)} intervals contain it, {missed} miss it; {unjudged} cannot be judged."
    return canvas.described(figure, alt, table)


def _judged_table(judged: pd.DataFrame, layers: Sequence[str]) -> pd.DataFrame:
    rows = []
    for layer in layers:
        mine = judged[judged["layer"] == layer]
        known = mine[mine["contains"].notna()]
        inside = int(known["contains"].sum())
        width = known.loc[np.isfinite(known["width_s"]), "width_s"].median()
        rows.append((layer_name(layer), inside, len(known) - inside, len(mine) - len(known), float(width)))
    return pd.DataFrame(rows, columns=["layer", *(column for _, column, _ in _JUDGED), _WIDTH])
