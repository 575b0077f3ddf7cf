"""What a decision would be if costs were other: figures whose sliders move it, with no kernel and no network.

Each step of a slider was computed before; plotly.js only exchanges what is drawn. With a single answer there is no
slider, and the figure is that answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nestobs.figures.canvas import (
    GREEN,
    INK,
    VERMILLION,
    amount,
    at,
    blank,
    delay_axis,
    described,
    panel_label,
    percent,
    plain_axis,
    share_axis,
    span,
    today_line,
)
from nestobs.figures.decisions import curve, never_share, note_of, proven
from nestobs.figures.marks import outlined, struck
from nestobs.join.policy import MESSAGE_S
from nestobs.tuning.threshold import posterior_starting

if TYPE_CHECKING:
    from nestobs.tuning.recommendation import Recommendation
    from nestobs.tuning.whatif import Answer

_PLOT_PX, _LANE_PX, _SLIDER_PX, _HEAD_PX = 210, 34, 96, 44
_POINTS: Final = 160


def threshold_moved(rec: Recommendation, answers: Sequence[Answer], *, chosen: int = 0) -> go.Figure:
    """The message threshold where the posterior meets the level of indifference, by cost ratio.

    answers: one a cost ratio, ascending, at least one; chosen: the one shown first.
    """
    end = _end(rec, [one.threshold_s.upper for one in answers] + [one.threshold_s.value for one in answers])
    ages = 0.3 * np.sinh(np.linspace(0.0, at(end), _POINTS))
    shares = posterior_starting(rec.smooth, never_share(rec), ages)
    figure = _figure(
        rec,
        "What if a false “starting up” cost more, or less?",
        "ρ: its cost over that of a false “no longer available”. Bar: 95 % of the threshold.",
        ["still starting, if answered 404", "threshold, 95 %"],
        plot_px=_PLOT_PX,
        slider=len(answers) > 1,
    )
    figure.add_trace(curve(ages, shares, "still starting, if answered 404"))
    frames = [_threshold_frame(one, end) for one in answers]
    figure.add_traces(_threshold_marks(frames[chosen]))
    figure.update_layout(
        xaxis=delay_axis(0.0, end, anchor="y"),
        yaxis=share_axis(-0.03, 1.06, parts=2) | {"domain": [0, _top(_PLOT_PX)]},
    )
    today_line(figure, top=_top(_PLOT_PX), words="top")
    _told(figure, [_threshold_words(one) for one in answers], chosen)
    if len(answers) > 1:
        _slide(figure, "ρ", [f"{one.cost_ratio:.2g}" for one in answers], frames, chosen)
    return described(figure, _threshold_alt(answers, chosen), _threshold_table(answers))


def polls_moved(rec: Recommendation, answers: Sequence[Answer], *, chosen: int = 0) -> go.Figure:
    """When to ask, and what that costs, by the budget of requests.

    answers: one a budget, ascending, at least one; chosen: the one shown first.
    """
    end = _end(rec, [one.give_up_age_s for one in answers])
    ages = 0.3 * np.sinh(np.linspace(0.0, at(end), _POINTS))
    whole = _PLOT_PX + _LANE_PX
    figure = _figure(
        rec,
        "What if there were more requests, or fewer?",
        f"Requests allowed in {rec.terms.allowance.window_s:g} s, for {rec.terms.allowance.joins:g} joins,"
        f" {percent(rec.terms.allowance.reserve)} kept back.",
        ["still answered 404", "asks", "gives up"],
        plot_px=whole,
        slider=len(answers) > 1,
        labels=["asks"],
    )
    figure.add_trace(curve(ages, 1.0 - rec.smooth.cdf(ages), "still answered 404"))
    frames = [_polls_frame(one, end) for one in answers]
    figure.add_traces(_polls_marks(frames[chosen]))
    top = _top(whole)
    split = _LANE_PX / whole
    figure.update_layout(
        xaxis=delay_axis(0.0, end, anchor="y2"),
        yaxis=share_axis(-0.03, 1.06, parts=2) | {"domain": [split + 0.04, top]},
        yaxis2=plain_axis()
        | {"domain": [0, split], "range": [-0.5, 0.5], "tickvals": [0], "ticktext": ["asks"], "showgrid": False},
    )
    _told(figure, [_polls_words(one) for one in answers], chosen)
    if len(answers) > 1:
        _slide(figure, "requests", [f"{one.allowed}" for one in answers], frames, chosen)
    return described(figure, _polls_alt(answers, chosen), _polls_table(answers))


# the sheet


def _end(rec: Recommendation, ages: Sequence[float]) -> float:
    return max(proven(rec)[1], 1.3 * MESSAGE_S, *(1.1 * age for age in ages if math.isfinite(age)))


def _figure(
    rec: Recommendation,
    question: str,
    words: str,
    keys: Sequence[str],
    *,
    plot_px: int,
    slider: bool,
    labels: Sequence[str] = (),
) -> go.Figure:
    figure = blank(question, note_of(rec, words), plot_px=plot_px + _HEAD_PX, keys=keys, labels=["100 %", *labels])
    if slider:
        figure.update_layout(
            height=figure.layout.height + _SLIDER_PX, margin={"b": figure.layout.margin.b + _SLIDER_PX}
        )
    return figure


def _top(plot_px: int) -> float:
    """Where the plot ends below the words over it."""
    return 1.0 - _HEAD_PX / (plot_px + _HEAD_PX)


def _told(figure: go.Figure, words: Sequence[str], chosen: int) -> None:
    """What came of it, over the plot: the first annotation that a step exchanges."""
    panel_label(figure, words[chosen], y=1)


def _slide(
    figure: go.Figure,
    what: str,
    labels: Sequence[str],
    frames: Sequence[Sequence[dict[str, list[Any]]]],
    chosen: int,
) -> None:
    """A slider below the axis; each step exchanges the two traces that move, and the words over the plot."""
    place = len(figure.layout.annotations) - 1
    steps = []
    words = [frame[-1]["words"][0] for frame in frames]
    for label, frame, told in zip(labels, frames, words, strict=True):
        marks = {key: [part[key] for part in frame[:-1]] for key in ("x", "y")}
        if "symbol" in frame[1]:
            marks["marker.symbol"] = [[], frame[1]["symbol"]]
        steps.append(
            {
                "label": label,
                "method": "update",
                "args": [marks, {f"annotations[{place}].text": told}, [1, 2]],
            }
        )
    figure.update_layout(
        sliders=[
            {
                "active": chosen,
                "steps": steps,
                "x": 0,
                "len": 1,
                "y": 0,
                "yanchor": "top",
                "pad": {"t": 62 + 20 * sum(trace.showlegend is not False for trace in figure.data), "l": 0, "r": 0},
                "currentvalue": {"prefix": f"{what} = ", "font": {"size": 13, "color": INK}},
                "font": {"size": 12, "color": INK},
                "ticklen": 4,
                "minorticklen": 0,
                "bordercolor": INK,
            }
        ]
    )


# the threshold


def _threshold_frame(one: Answer, end: float) -> list[dict[str, list[Any]]]:
    """The level of indifference, and on it the interval with the value in its middle; ends beyond the axis are cut."""
    number = one.threshold_s
    low, value, high = (round(at(min(max(age, 0.0), end)), 4) for age in (number.lower, number.value, number.upper))
    level = {"x": [0.0, round(at(end), 4)], "y": [one.level] * 2}
    last = "triangle-right" if number.upper > end else "line-ns-open"
    bar: dict[str, list[Any]] = {"x": [low, value, high], "y": [one.level] * 3}
    bar["symbol"] = ["line-ns-open", "diamond", last]
    return [level, bar, {"words": [_threshold_words(one)]}]


def _threshold_marks(frame: Sequence[dict[str, list[Any]]]) -> list[go.Scatter]:
    level, bar = frame[0], {key: frame[1][key] for key in ("x", "y")}
    stroke = struck(frame[1]["symbol"], VERMILLION, [13, 12, 13], 2.5) | {"opacity": 1}
    shared = {"hoverinfo": "skip"}
    dotted = {"color": INK, "width": 1, "dash": "dot"}
    thick = {"color": VERMILLION, "width": 4}
    return [
        go.Scatter(**level, mode="lines", line=dotted, showlegend=False, **shared),
        go.Scatter(**bar, mode="lines+markers", line=thick, marker=stroke, name="threshold, 95 %", **shared),
    ]


def _ends(number: Any) -> str:
    value = f"{amount(number.value)} s" if math.isfinite(number.value) else "not within the watch"
    ends = f"{amount(number.lower)} s or more" if math.isinf(number.upper) else span(number.lower, number.upper)
    return f"{value} ({ends})"


def _threshold_words(one: Answer) -> str:
    return (
        f"<b>“starting up” below {_ends(one.threshold_s)}</b><br>"
        f"false “starting up” {percent(one.false_starting)}, false “no longer” {percent(one.false_gone)}"
    )


def _threshold_alt(answers: Sequence[Answer], chosen: int) -> str:
    one = answers[chosen]
    first, last = answers[0], answers[-1]
    along = (
        f" From ρ = {first.cost_ratio:g} to {last.cost_ratio:g} it goes from {_ends(first.threshold_s)} to"
        f" {_ends(last.threshold_s)}."
        if len(answers) > 1
        else ""
    )
    return f"At a cost ratio of {one.cost_ratio:g} the message turns at {_ends(one.threshold_s)}.{along}"


def _threshold_table(answers: Sequence[Answer]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ρ": [one.cost_ratio for one in answers],
            "likelier than, %": [100 * one.level for one in answers],
            "threshold, s": [one.threshold_s.value for one in answers],
            "from, s": [one.threshold_s.lower for one in answers],
            "to, s": [one.threshold_s.upper for one in answers],
            "false “starting up”, %": [100 * one.false_starting for one in answers],
            "false “no longer”, %": [100 * one.false_gone for one in answers],
        }
    )


# the polls


def _polls_frame(one: Answer, end: float) -> list[dict[str, list[Any]]]:
    asked = [round(at(min(age, end)), 4) for age in one.asked_s]
    gives_up: dict[str, list[Any]] = {"x": [round(at(min(one.give_up_age_s, end)), 4)], "y": [0]}
    return [{"x": asked, "y": [0] * len(asked)}, gives_up, {"words": [_polls_words(one)]}]


def _polls_marks(frame: Sequence[dict[str, list[Any]]]) -> list[go.Scatter]:
    asked, gives_up = frame[:2]
    tick, cross = struck("line-ns-open", GREEN, 16, 2), outlined("x", VERMILLION, 11)
    shared = {"mode": "markers", "yaxis": "y2", "hoverinfo": "skip", "cliponaxis": False}
    return [
        go.Scatter(**asked, marker=tick, name="asks", **shared),
        go.Scatter(**gives_up, marker=cross, name="gives up", **shared),
    ]


def _delay(one: Answer) -> str:
    return "nobody joins" if math.isnan(one.delay_s) else f"{amount(one.delay_s)} s mean delay"


def _polls_words(one: Answer) -> str:
    return (
        f"<b>{amount(one.requests)} requests per join, {_delay(one)}</b><br>"
        f"{percent(one.lost)} lost, gives up at {amount(one.give_up_age_s)} s{'; the budget binds' * one.binds}"
    )


def _polls_alt(answers: Sequence[Answer], chosen: int) -> str:
    one = answers[chosen]
    return (
        f"With {one.allowed} requests allowed a joiner makes {amount(one.requests)} requests, {_delay(one)},"
        f" {percent(one.lost)} lost, and gives up at {amount(one.give_up_age_s)} s."
    )


def _polls_table(answers: Sequence[Answer]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "requests allowed": [one.allowed for one in answers],
            "a request costs, s": [one.price for one in answers],
            "the budget binds": [one.binds for one in answers],
            "requests per join": [one.requests for one in answers],
            "mean delay, s": [one.delay_s for one in answers],
            "lost, %": [100 * one.lost for one in answers],
            "gives up at, s": [one.give_up_age_s for one in answers],
            "rounds, if never let in": [len(one.asked_s) for one in answers],
        }
    )
