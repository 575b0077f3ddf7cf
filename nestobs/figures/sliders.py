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

from nestobs.figures import canvas, marks
from nestobs.figures.canvas import GREEN, INK, VERMILLION, at
from nestobs.figures.decisions import curve, note_of, proven
from nestobs.figures.text import amount, span
from nestobs.join.policy import MESSAGE_S
from nestobs.observation.text import percent
from nestobs.tuning.decisions import never_share
from nestobs.tuning.threshold import posterior_starting

if TYPE_CHECKING:
    from nestobs.tuning.recommendation import Recommendation
    from nestobs.tuning.whatif import Answer

_PLOT_PX, _LANE_PX, _SLIDER_PX, _HEAD_PX = 210, 34, 96, 44
_POINTS: Final = 160

_Step = tuple[str, str, list[dict[str, Any]]]
"""Of one answer: its label, what came of it in words, and of the two traces that move `x`, `y` and any `symbol`."""


def threshold_moved(rec: Recommendation, answers: Sequence[Answer], *, chosen: int = 0) -> go.Figure:
    """The message threshold where the posterior meets the level of indifference, by cost ratio.

    answers: one a cost ratio, ascending, at least one; chosen: the one shown first.
    """
    end = _end(rec, [one.threshold_s.upper for one in answers] + [one.threshold_s.value for one in answers])
    ages = 0.3 * np.sinh(np.linspace(0.0, at(end), _POINTS))
    shares = posterior_starting(rec.smooth, never_share(rec.smooth), ages)
    steps = [_threshold_step(one, end) for one in answers]
    top = _top(_PLOT_PX)
    figure = canvas.drawn(
        "What if a false “starting up” cost more, or less?",
        note_of(rec, "ρ: its cost over that of a false “no longer available”. Bar: 95 % of the threshold."),
        [curve(ages, shares, "still starting, if answered 404"), *_threshold_marks(*steps[chosen][-1])],
        plot_px=_PLOT_PX + _HEAD_PX,
        labels=["100 %"],
        xaxis=canvas.delay_axis(0.0, end, anchor="y"),
        yaxis=canvas.share_axis(-0.03, 1.06, parts=2, domain=[0, top]),
    )
    canvas.today_line(figure, top=top, words="top")
    _slide(figure, "ρ", steps, chosen)
    return canvas.described(figure, _threshold_alt(answers, chosen), _threshold_table(answers))


def polls_moved(rec: Recommendation, answers: Sequence[Answer], *, chosen: int = 0) -> go.Figure:
    """When to ask, and what that costs, by the budget of requests.

    answers: one a budget, ascending, at least one; chosen: the one shown first.
    """
    end = _end(rec, [one.give_up_age_s for one in answers])
    ages = 0.3 * np.sinh(np.linspace(0.0, at(end), _POINTS))
    steps = [_polls_step(one, end) for one in answers]
    whole = _PLOT_PX + _LANE_PX
    split = _LANE_PX / whole
    figure = canvas.drawn(
        "What if there were more requests, or fewer?",
        note_of(
            rec,
            f"Requests allowed in {rec.terms.allowance.window_s:g} s, for {rec.terms.allowance.joins:g} joins,"
            f" {percent(rec.terms.allowance.reserve)} kept back.",
        ),
        [curve(ages, 1.0 - rec.smooth.cdf(ages), "still answered 404"), *_polls_marks(*steps[chosen][-1])],
        plot_px=whole + _HEAD_PX,
        labels=["100 %", "asks"],
        xaxis=canvas.delay_axis(0.0, end, anchor="y2"),
        yaxis=canvas.share_axis(-0.03, 1.06, parts=2, domain=[split + 0.04, _top(whole)]),
        yaxis2=canvas.lane_axis(["asks"], above=0.5, domain=[0, split]) | {"range": [-0.5, 0.5]},
    )
    _slide(figure, "requests", steps, chosen)
    return canvas.described(figure, _polls_alt(answers, chosen), _polls_table(answers))


# the sheet


def _end(rec: Recommendation, ages: Sequence[float]) -> float:
    return max(proven(rec)[1], 1.3 * MESSAGE_S, *(1.1 * age for age in ages if math.isfinite(age)))


def _top(plot_px: int) -> float:
    """Where the plot ends below the words over it."""
    return 1.0 - _HEAD_PX / (plot_px + _HEAD_PX)


def _slide(figure: go.Figure, what: str, steps: Sequence[_Step], chosen: int) -> None:
    """The chosen step's words over the plot, and with more than one step a slider below the axis; each step exchanges
    the two traces that move, and the words."""
    place = len(figure.layout.annotations)
    canvas.panel_label(figure, steps[chosen][1])
    if len(steps) < 2:
        return
    made = []
    for label, words, parts in steps:
        moved = {key: [part[key] for part in parts] for key in ("x", "y")}
        if "symbol" in parts[1]:
            moved["marker.symbol"] = [[], parts[1]["symbol"]]
        exchanged = [moved, {f"annotations[{place}].text": words}, [1, 2]]
        made.append({"label": label, "method": "update", "args": exchanged})
    keys = sum(trace.showlegend is not False for trace in figure.data)
    slider = {
        "active": chosen,
        "steps": made,
        "x": 0,
        "len": 1,
        "y": 0,
        "yanchor": "top",
        "pad": {"t": 62 + 20 * keys, "l": 0, "r": 0},
        "currentvalue": {"prefix": f"{what} = ", "font": {"size": 13, "color": INK}},
        "font": {"size": 12, "color": INK},
        "ticklen": 4,
        "minorticklen": 0,
        "bordercolor": INK,
    }
    height, below = figure.layout.height + _SLIDER_PX, figure.layout.margin.b + _SLIDER_PX
    figure.update_layout(sliders=[slider], height=height, margin={"b": below})


# the threshold


def _threshold_step(one: Answer, end: float) -> _Step:
    """The level of indifference, and on it the interval with the value in its middle; ends beyond the axis are cut."""
    number = one.threshold_s
    bar = canvas.places(min(max(age, 0.0), end) for age in (number.lower, number.value, number.upper))
    symbols = ["line-ns-open", "diamond", "triangle-right" if number.upper > end else "line-ns-open"]
    level = {"x": [0.0, *canvas.places([end])], "y": [one.level] * 2}
    words = (
        f"<b>“starting up” below {_ends(number)}</b><br>"
        f"false “starting up” {percent(one.false_starting)}, false “no longer” {percent(one.false_gone)}"
    )
    return f"{one.cost_ratio:.2g}", words, [level, {"x": bar, "y": [one.level] * 3, "symbol": symbols}]


def _threshold_marks(level: dict[str, Any], bar: dict[str, Any]) -> list[go.Scatter]:
    stroke = marks.struck(bar["symbol"], VERMILLION, [13, 12, 13], 2.5) | {"opacity": 1}
    return [
        marks.line(level["x"], level["y"], INK, 1, "dot"),
        marks.line(bar["x"], bar["y"], VERMILLION, 4, marker=stroke, name="threshold, 95 %"),
    ]


def _ends(number: Any) -> str:
    value = f"{amount(number.value)} s" if math.isfinite(number.value) else "not within the watch"
    ends = f"{amount(number.lower)} s or more" if math.isinf(number.upper) else span(number.lower, number.upper)
    return f"{value} ({ends})"


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


def _polls_step(one: Answer, end: float) -> _Step:
    asked = canvas.places(min(age, end) for age in one.asked_s)
    gives_up = canvas.places([min(one.give_up_age_s, end)])
    words = (
        f"<b>{amount(one.requests)} requests per join, {_delay(one)}</b><br>"
        f"{percent(one.lost)} lost, gives up at {amount(one.give_up_age_s)} s{'; the budget binds' * one.binds}"
    )
    return f"{one.allowed}", words, [{"x": asked, "y": [0] * len(asked)}, {"x": gives_up, "y": [0]}]


def _polls_marks(asked: dict[str, Any], gives_up: dict[str, Any]) -> list[go.Scatter]:
    tick, cross = marks.struck("line-ns-open", GREEN, 16, 2), marks.outlined("x", VERMILLION, 11)
    return [
        marks.points(part["x"], part["y"], None, marker, name=name, yaxis="y2", cliponaxis=False)
        for part, marker, name in ((asked, tick, "asks"), (gives_up, cross, "gives up"))
    ]


def _delay(one: Answer) -> str:
    return "nobody joins" if math.isnan(one.delay_s) else f"{amount(one.delay_s)} s mean delay"


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
