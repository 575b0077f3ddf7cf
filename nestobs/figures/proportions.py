"""Shares of things counted, a lane each: what surely counts, what may, and the exact interval around both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures.canvas import BLUE, INK, blank, described, filled, hatched, nothing, percent, plain_axis
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
    figure.add_trace(_bar([one.value for one in values], [0.0] * len(values), sure, filled(BLUE), texts))
    if doubt:
        bases = [one.value for one in values]
        figure.add_trace(_bar([one.doubt for one in values], bases, MAYBE, hatched(BLUE, "/"), texts))
    figure.add_trace(_ends(values, texts))
    figure.update_layout(
        barmode="overlay",
        xaxis=plain_axis()
        | {"range": [-0.01, 1.02], "tickvals": [0, 0.25, 0.5, 0.75, 1]}
        | {"ticktext": ["0 %", "25 %", "50 %", "75 %", "100 %"]}
        | {"title": {"text": f"share of {of}", "font": {"size": 12}, "standoff": 6}},
        yaxis=plain_axis()
        | {"range": [len(names) - 0.4, -0.6], "tickvals": [*range(len(names))], "ticktext": names, "showgrid": False},
    )
    said = "; ".join(f"{_bare(name)} {_words(one)}" for name, one in list(known.items())[:6])
    more = "" if len(known) <= 6 else f"; and {len(known) - 6} more"
    return described(figure, f"{question} {said}{more}.", _table(known, doubt))


def _bare(name: str) -> str:
    return name.replace("<br>", " ")


def _words(one: Share) -> str:
    value = percent(one.value)
    if one.most > one.least:
        value = f"{value} surely, {percent(one.value + one.doubt)} possibly"
    return f"{value} ({percent(one.lower)} to {percent(one.upper)}) of {one.n}"


def _table(lanes: Mapping[str, Share], doubt: bool) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "": [plain(_bare(name), 60) for name in lanes],
        "count": [s.least for s in lanes.values()],
    }
    if doubt:
        columns["possibly"] = [one.most for one in lanes.values()]
    columns |= {"n": [one.n for one in lanes.values()], "share, %": [100 * one.value for one in lanes.values()]}
    columns |= {f"95 % {end}, %": [100 * getattr(one, end) for one in lanes.values()] for end in ("lower", "upper")}
    return pd.DataFrame(columns)


def _bar(lengths: list[float], bases: list[float], name: str, marker: dict[str, Any], texts: list[str]) -> go.Bar:
    return go.Bar(
        orientation="h",
        y=[*range(len(lengths))],
        x=lengths,
        base=bases,
        width=0.66,
        marker=marker,
        name=name,
        hovertext=texts,
        hoverinfo="text",
    )


def _ends(values: list[Share], texts: list[str]) -> go.Scatter:
    """One line from end to end of each interval, with ticks at its ends."""
    x: list[float | None] = []
    y: list[int | None] = []
    hover: list[str | None] = []
    for lane, one in enumerate(values):
        x += [one.lower, one.upper, None]
        y += [lane, lane, None]
        hover += [texts[lane], texts[lane], None]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line={"color": INK, "width": 2},
        marker={"symbol": "line-ns-open", "size": 10, "color": INK, "line": {"color": INK, "width": 2}},
        name=ENDS,
        hovertext=hover,
        hoverinfo="text",
    )
