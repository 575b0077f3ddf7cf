"""The newest nests at one instant, by layer: how far each is."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import canvas, marks
from nestobs.figures.canvas import GREEN, GREY, VERMILLION, YELLOW
from nestobs.figures.text import plain
from nestobs.observation.columns import records
from nestobs.timeline.board import KINDS, State
from nestobs.timeline.nests import told_apart

MOST_NESTS: Final = 40
_LANE_PX: Final = 20
_STYLES: Final = {
    State.READY: (GREEN, "circle"),
    State.STARTING: (YELLOW, "triangle-up"),
    State.FAILED: (VERMILLION, "x"),
    State.UNKNOWN: (GREY, "diamond-open"),
}


def states(cells: pd.DataFrame, when: str) -> go.Figure:
    """A mark per nest and kind of layer: starting, ready, failed, unknown. At most MOST_NESTS nests, the newest.

    cells: columns nest, kind, state, why, ready, seen, age_s, a row a nest and kind, newest nest first, nests numbered
    by `place` from 0. when: the instant, in words.
    """
    question = "How far are the newest nests?"
    if cells.empty:
        return canvas.nothing(question, "No layer of any nest was asked, so there is nothing to draw.")
    shown = cells[cells["place"] < MOST_NESTS]
    names = [str(name) for name in shown.drop_duplicates("place")["nest"]]
    labels = [plain(told_apart(name, set(names), 11)) for name in names]
    kinds = [kind for kind in KINDS if (shown["kind"] == kind).any()]
    counts = cells["state"].value_counts()
    nests = int(cells["place"].nunique())
    told = ", ".join(f"{int(counts.get(state, 0))} {state}" for state in _STYLES)
    more = f" (the newest {MOST_NESTS} are drawn)" if nests > MOST_NESTS else ""
    plot_px = _LANE_PX * len(labels) + 6
    figure = canvas.drawn(
        question,
        f"n = {len(cells)} layers of {nests} nests{more}: {told}. {when}",
        [_marks(shown[shown["state"] == state], kinds, state) for state in _STYLES],
        plot_px=plot_px,
        labels=labels,
        showlegend=True,
        xaxis={
            "tickvals": [*range(len(kinds))],
            "ticktext": kinds,
            "range": [-0.6, len(kinds) - 0.4],
            "tickangle": -90,
            "title": {"text": "layer"},
            "showgrid": False,
        },
        yaxis=canvas.lane_axis(labels, showgrid=True),
        legend={"y": -94 / plot_px},
    )
    figure.update_layout(margin={"b": figure.layout.margin.b + 44})
    return canvas.described(figure, f"How far {nests} nests are: {told}.", _table(shown))


def _marks(mine: pd.DataFrame, kinds: list[str], state: State) -> go.Scatter:
    color, symbol = _STYLES[state]
    nowhere: list[Any] = [None]  # so that its key stays in the legend
    x, y = [*map(kinds.index, mine["kind"])] or nowhere, [*mine["place"]] or nowhere
    return marks.points(x, y, map(_text, records(mine)), marks.outlined(symbol, color, 11), name=str(state))


def _text(row: Any) -> str:
    why = f": {plain(row.why, 40)}" if row.why else ""
    return f"{plain(row.nest, 80)}, {plain(row.kind)}<br>{row.state}{why}<br>{row.ready} of {row.seen}"


def _table(shown: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "nest": [plain(name, 400) for name in shown["nest"]],
            "age, s": shown["age_s"],
            "layer": shown["kind"],
            "state": [str(state) for state in shown["state"]],
            "why": [plain(why, 40) for why in shown["why"]],
            "ready, vantage points": shown["ready"],
            "asked from": shown["seen"],
        }
    )
