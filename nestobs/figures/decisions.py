"""What tuning made of the delays, on the age axis: the delay law, what a 404 means at each age, where polls fall.

A Recommendation in; its laws are evaluated along the axis and drawn as they are. The estimate and the bands around it
come from the nonparametric law, decisions from the smoothed one: both are shown, so that one can be held against the
other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nestobs.estimate.npmle import Number, Resampled, smoothed
from nestobs.figures.canvas import (
    BLUE,
    CLEAR,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    amount,
    at,
    blank,
    delay_axis,
    described,
    lane_axis,
    panel_label,
    percent,
    reach,
    seconds,
    share_axis,
    span,
    today_line,
    window,
)
from nestobs.figures.marks import area, bars, filled, hatched, keys_of, legend_key, outlined, points, struck
from nestobs.figures.text import plain
from nestobs.join.policy import MESSAGE_S
from nestobs.observation.arrays import Floats
from nestobs.tuning.simulation import course
from nestobs.tuning.threshold import posterior_band, posterior_starting

if TYPE_CHECKING:
    from nestobs.join.policy import Policy
    from nestobs.tuning.recommendation import Recommendation


LINE_POINTS: Final = 240
CELL_POINTS: Final = 200
"""Beyond so many ends of cells, only every so manieth is drawn: a narrow figure shows no more."""

_HEAD_PX, _CURVE_PX, _GAP_PX, _LANE_PX = 24, 230, 16, 26
_RATIOS: Final = ((PURPLE, "circle"), (GREEN, "square"), (ORANGE, "diamond"), (SKY, "triangle-up"))
"""Of the cost ratios: colour and symbol."""

_TINT: Final = "rgba(0,114,178,.14)"
_ARROW: Final = 0.018
"""How far from the end of the axis an open interval's arrow stands, as a share of it."""


# the age axis


def proven(rec: Recommendation) -> tuple[float, float]:
    """The first and the last age at which anything was proven, seconds; 0 and 1 s are always within."""
    return reach(rec.law.rows.lower, rec.law.rows.upper)


def _watched(rec: Recommendation) -> float:
    return proven(rec)[1]


def _end(rec: Recommendation) -> float:
    """Where the axis ends: past the last proof, so that what never came has a place."""
    decided = [rec.message_threshold_s.value, rec.message_threshold_s.upper, rec.give_up_age_s.upper]
    decided += [rec.today.give_up_age_s, rec.simple.give_up_age_s, rec.tuned.give_up_age_s]
    return max(1.6 * _watched(rec), MESSAGE_S * 1.25, *(1.1 * age for age in decided if math.isfinite(age)))


def _ages(rec: Recommendation, last: float) -> Floats:
    """Ages along the axis up to `last`, ends of cells among them."""
    even = 0.3 * np.sinh(np.linspace(at(proven(rec)[0]), at(last), LINE_POINTS))
    edges = np.unique(rec.law.edges[np.isfinite(rec.law.edges)])
    edges = edges[:: max(1, math.ceil(len(edges) / CELL_POINTS))]
    jumps = np.nextafter(edges, -math.inf)  # an exact delay is a step
    every = np.unique(np.concatenate([even, edges, jumps]))
    return every[every <= last]


def _xs(ages: Floats) -> list[float]:
    return [round(at(float(age)), 4) for age in ages]


def _ys(shares: Floats) -> list[float]:
    return [round(float(share), 4) for share in shares]


# traces


def curve(ages: Floats, shares: Floats, name: str, *, color: str = BLUE, dash: str | None = None) -> go.Scatter:
    """Shares by age as a line."""
    return go.Scatter(
        x=_xs(ages),
        y=_ys(shares),
        mode="lines",
        line={"color": color, "width": 2.5, "dash": dash},
        hoverinfo="text",
        hovertext=[f"{name}: {percent(float(y))} at {seconds(float(x))}" for x, y in zip(ages, shares, strict=True)],
        name=name,
    )


def _band(
    ages: Floats, low: Floats, high: Floats, name: str, *, color: str = BLUE, tint: str = _TINT, hatch: str = "/"
) -> go.Scatter:
    """A band as one closed outline, told by its hatch as well."""
    x, y = _xs(ages) + _xs(ages[::-1]), _ys(low) + _ys(high[::-1])
    return area(x, y, color, hatch, solidity=0.12, tint=tint, hoverinfo="skip", name=name)


def _edges(ages: Floats, low: Floats, high: Floats, name: str) -> go.Scatter:
    """A band by its two edges alone."""
    return go.Scatter(
        x=[*_xs(ages), None, *_xs(ages)],
        y=[*_ys(low), None, *_ys(high)],
        mode="lines",
        line={"color": GREY, "width": 1.2, "dash": "dot"},
        hoverinfo="skip",
        name=name,
    )


def _interval(number: Number, y: float, end: float, *, color: str, symbol: str, text: str, axis: str) -> list[Any]:
    """A bar from end to end with the value on it; an open end is an arrow to the end of the axis."""
    is_open = number.upper > end
    arrow = at(end) - _ARROW * (at(end) - at(0.0))
    ends = [at(max(number.lower, 0.0)), arrow if is_open else at(number.upper)]
    marks = ["line-ns-open", "triangle-right" if is_open else "line-ns-open"]
    shared = {"yaxis": axis, "showlegend": False, "cliponaxis": False}
    bar = go.Scatter(
        x=ends,
        y=[y, y],
        mode="lines+markers",
        line={"color": color, "width": 4},
        marker=struck(marks, color, 13, 2.5) | {"opacity": 1},
        hovertext=[text, text],
        hoverinfo="text",
        **shared,
    )
    value = points([min(at(number.value), arrow)], [y], [text], outlined(symbol, color, 11, 1.5), **shared)
    return [bar, value]


def _lane(lane: float, start: float, end: float, name: str, marker: dict[str, Any], *, key: bool) -> go.Bar:
    texts = [f"{name}: {seconds(start)} to {seconds(end)}"]
    shared = {"base": [at(start)], "width": 0.62, "name": name, "yaxis": "y2", "legendgroup": name}
    return bars([lane], [at(end) - at(start)], texts, marker, showlegend=key, **shared)


# layout


def _words(number: Number) -> str:
    return f"{amount(number.value)} s ({span(number.lower, number.upper, unit='s')})"


def note_of(rec: Recommendation, *sentences: str) -> str:
    """The note of a figure about a recommendation: n, how many are censored, the sentences, the window."""
    counted = (
        f"n = {rec.law.n} intervals of {rec.nests} nests, {rec.law.censored} not seen by the end (right-censored)."
    )
    when = window(pd.Series(pd.to_datetime(list(rec.window), utc=True)))
    return " ".join(part for part in (counted, *sentences, when) if part)


def _band_words(rec: Recommendation) -> str:
    return f"Band: 95 %, {len(rec.resampled.laws)} resamples of {rec.block_kind}s."


def _two_panels(figure: go.Figure, rec: Recommendation, lanes: Sequence[str], *, what: str) -> None:
    """The curve of `what` above, named lanes below it, on one age axis."""
    below, whole = len(lanes) * _LANE_PX, _height(len(lanes))
    top = 1 - _HEAD_PX / whole
    figure.update_layout(
        barmode="overlay",
        xaxis=delay_axis(proven(rec)[0], _end(rec), anchor="y2"),
        yaxis=share_axis(-0.02, 1.04) | {"domain": [top - _CURVE_PX / whole, top]},
        yaxis2=lane_axis(lanes, above=0.5, domain=[0, below / whole], anchor="x"),
    )
    panel_label(figure, f"<b>{what}</b>", y=1)
    today_line(figure)


def _height(lanes: int) -> int:
    return _HEAD_PX + _CURVE_PX + _GAP_PX + lanes * _LANE_PX


# figures


def delay_law(rec: Recommendation) -> go.Figure:
    """The share of nests that can be joined by each age, what is not known of it, and where the message turns."""
    lanes = ["message"]
    watched, end = _watched(rec), _end(rec)
    ages = _ages(rec, watched)
    band, sure = rec.resampled.cdf(ages), rec.law.bounds(ages)
    threshold = rec.message_threshold_s
    traces = [
        _band(ages, *band, "95 % band"),
        _edges(ages, *sure, "bounds that assume nothing"),
        curve(ages, rec.law.cdf(ages), "estimate"),
        curve(ages, rec.smooth.cdf(ages), "smoothed, for decisions", color=ORANGE, dash="dash"),
        *_never(rec, watched, end),
        *_interval(threshold, 0, end, color=VERMILLION, symbol="diamond", text=_words(threshold), axis="y2"),
        legend_key("message threshold, 95 %", VERMILLION, "diamond"),
    ]
    note = note_of(rec, f"Message threshold {_words(threshold)}; {_never_words(rec)}.", _band_words(rec))
    figure = _drawn("When can a nest be joined, and who never?", note, traces, lanes)
    _two_panels(figure, rec, lanes, what="can be joined, of all nests")
    return described(figure, _delay_alt(rec), _delay_table(rec, ages))


TABLE_ROWS: Final = 40
"""Ages of a table beside a curve."""


def _told_ages(ages: Floats) -> Floats:
    """Some of the ages drawn, first and last among them."""
    places = np.unique(np.linspace(0, len(ages) - 1, min(TABLE_ROWS, len(ages))).astype(int))
    return np.asarray(ages[places], dtype=np.float64)


def _delay_alt(rec: Recommendation) -> str:
    half = float(rec.law.quantile(0.5))
    low, high = (float(end) for end in rec.resampled.quantile(0.5))
    half_words = "not within the watch" if math.isinf(half) else f"by {amount(half)} s"
    return (
        f"Half of the nests can be joined {half_words} (95 %: {span(low, high, unit='s')}); {_never_words(rec)}. The"
        f" message threshold is {_words(rec.message_threshold_s)}."
    )


def _delay_table(rec: Recommendation, ages: Floats) -> pd.DataFrame:
    told = _told_ages(ages)
    columns = {"estimate": rec.law.cdf(told)}
    columns["95 % band, from"], columns["to"] = rec.resampled.cdf(told)
    columns["assuming nothing, from"], columns["at most"] = rec.law.bounds(told)
    columns["smoothed"] = rec.smooth.cdf(told)
    shares = {f"{name}, %": 100.0 * values for name, values in columns.items()}
    return pd.DataFrame({"age, s": told, **shares})


def _drawn(question: str, note: str, traces: Sequence[Any], lanes: Sequence[str]) -> go.Figure:
    labels = ["100 %", *lanes]
    figure = blank(question, note, plot_px=_height(len(lanes)), keys=keys_of(traces), labels=labels)
    figure.add_traces(traces)
    return figure


def _never(rec: Recommendation, watched: float, end: float) -> list[go.Scatter]:
    """The gap at the right, between what came by the last proof and all."""
    if rec.law.never <= 0:
        return []
    came = 1.0 - rec.law.never
    ages, low, high = np.array([watched, end]), np.array([came, came]), np.array([1.0, 1.0])
    return [_band(ages, low, high, "never, by the end", color=PURPLE, tint=CLEAR, hatch="x")]


def _never_words(rec: Recommendation) -> str:
    if rec.law.never <= 0:
        return f"none of {rec.law.n} stayed away"
    low, high = rec.resampled.interval(lambda law: law.never)
    ends = f"{percent(float(low))} to {percent(float(high))}"
    return f"{percent(rec.law.never)} ({ends}) never came, by {_watched(rec):.0f} s"


def posterior(rec: Recommendation) -> go.Figure:
    """P(still starting | 404) at each age, the levels at which both messages cost the same, and what is told."""
    lanes = ["today", "advised"]
    end, known = _end(rec), rec.law.never > 0
    turns = [number.value for number in rec.thresholds.values() if number.value <= end]
    ages = _ages(rec, max(_watched(rec), *turns))
    ages = ages[ages >= 0]
    traces: list[Any] = [_band(ages, *posterior_band(decided(rec), ages), "95 % band")] if known else []
    shares = posterior_starting(rec.smooth, never_share(rec), ages)
    traces.append(curve(ages, shares, "still starting"))
    for number, (ratio, threshold) in enumerate(rec.thresholds.items()):
        traces += _level(ratio, threshold, end, *_RATIOS[number % len(_RATIOS)])
    traces += _told(rec, end)
    doubt = _band_words(rec) if known else "None stayed away: half a nest was taken for it, and there is no band."
    note = note_of(rec, doubt, "ρ: cost of a false “starting up” over that of a false “gone”; bars: 95 % thresholds.")
    figure = _drawn("Answered 404: is it still starting?", note, traces, lanes)
    _two_panels(figure, rec, lanes, what="still starting, if answered 404")
    return described(figure, _posterior_alt(rec), _posterior_table(rec, ages, known=known))


def _posterior_alt(rec: Recommendation) -> str:
    at_today = float(posterior_starting(rec.smooth, never_share(rec), [MESSAGE_S])[0])
    turns = "; ".join(f"ρ = {ratio:g}: {_words(number)}" for ratio, number in rec.thresholds.items())
    return (
        f"Of those answered 404 at {MESSAGE_S:g} s, {percent(at_today)} are still starting. The message turns by cost"
        f" ratio at {turns}. Today it turns at {rec.today.message_threshold_s:g} s, advised are"
        f" {rec.policy.message_threshold_s:g} s."
    )


def _posterior_table(rec: Recommendation, ages: Floats, *, known: bool) -> pd.DataFrame:
    told = _told_ages(ages)
    table = pd.DataFrame(
        {"age, s": told, "still starting, %": 100.0 * posterior_starting(rec.smooth, never_share(rec), told)}
    )
    if known:
        low, high = posterior_band(decided(rec), told)
        table = table.assign(**{"95 % band, from, %": 100.0 * low, "to, %": 100.0 * high})
    return table


def decided(rec: Recommendation) -> Resampled:
    """The smoothed law, which decisions are made of, and its resamples: the raw ones end with the last that came."""
    laws = tuple(smoothed(law, rec.smooth.width) for law in rec.resampled.laws)
    return Resampled(rec.smooth, laws, rec.resampled.counts, rec.resampled.blocks)


def never_share(rec: Recommendation) -> float:
    """Of the smoothed law, as tuning takes it: half a nest of one more where none stayed away."""
    return rec.smooth.never if rec.smooth.never > 0 else 0.5 / (rec.law.n + 1.0)


def _level(ratio: float, threshold: Number, end: float, color: str, symbol: str) -> list[Any]:
    """The level of indifference, and on it the threshold with its interval."""
    level = ratio / (1.0 + ratio)
    text = f"ρ = {ratio:g}: {_words(threshold)}"
    line = go.Scatter(
        x=[at(0.0), at(end)],
        y=[level, level],
        mode="lines",
        line={"color": color, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )
    marks = _interval(threshold, level, end, color=color, symbol=symbol, text=text, axis="y")
    return [line, *marks, legend_key(f"ρ = {ratio:g}, at {percent(level)}", color, symbol)]


def _told(rec: Recommendation, end: float) -> list[go.Bar]:
    made = []
    for lane, policy in enumerate((rec.today, rec.policy)):
        turns = min(policy.message_threshold_s, end)
        made.append(_lane(lane, 0.0, turns, "told “starting up”", filled(SKY), key=lane == 0))
        made.append(_lane(lane, turns, end, "told “no longer”", hatched(VERMILLION, "/"), key=lane == 0))
    return made


def polls(rec: Recommendation) -> go.Figure:
    """Who is still answered 404 at each age, and when each policy asks a joiner who arrives at once."""
    shown = {"today": rec.today, "tuned": rec.tuned, "simple": rec.simple}
    watched, end = _watched(rec), _end(rec)
    ages = _ages(rec, watched)
    ages = ages[ages >= 0]
    low, high = rec.resampled.cdf(ages)
    traces: list[Any] = [
        _band(ages, 1.0 - high, 1.0 - low, "95 % band"),
        curve(ages, 1.0 - rec.smooth.cdf(ages), "still answered 404"),
    ]
    asked = {name: _asked(policy) for name, policy in shown.items()}
    for lane, (name, policy) in enumerate(shown.items()):
        traces += _polled(lane, policy, asked[name], _give_up(rec, policy), end, key=lane == 0)
    counts = ", ".join(f"{name} {len(each)}" for name, each in asked.items())
    note = note_of(
        rec,
        f"Rounds of who arrives at once and is not let in: {counts}. Advised: {_advised(rec)}.",
        f"Gaps of the tuned vary by ±{rec.tuned.jitter:.0%}. Gives up at {_words(rec.give_up_age_s)}.",
    )
    figure = _drawn("When is it worth asking again?", note, traces, list(shown))
    _two_panels(figure, rec, list(shown), what="still answered 404, of all joiners")
    return described(figure, _polls_alt(rec, shown, asked), _polls_table(rec, shown, asked))


def _polls_alt(rec: Recommendation, shown: Mapping[str, Policy], asked: Mapping[str, Floats]) -> str:
    each = "; ".join(
        f"{name} ({plain(policy.name, 24)}) asks {len(asked[name])} times and gives up at"
        f" {amount(policy.give_up_age_s)} s"
        for name, policy in shown.items()
    )
    return f"A joiner who arrives at once and is never let in: {each}. Advised: {_advised(rec)}."


def _polls_table(rec: Recommendation, shown: Mapping[str, Policy], asked: Mapping[str, Floats]) -> pd.DataFrame:
    """A row a round of each policy, and the share of joiners who are still answered 404 then."""
    rows = [
        (name, number, float(age), 100.0 * float(1.0 - rec.smooth.cdf(age)))
        for name in shown
        for number, age in enumerate(asked[name], 1)
    ]
    return pd.DataFrame(rows, columns=["policy", "round", "asks at age, s", "still answered 404, %"])


def _advised(rec: Recommendation) -> str:
    return f"{plain(rec.policy.name, 24)}{', as today' if rec.kept else ''}"


def _asked(policy: Policy) -> Floats:
    """Ages of the rounds of a joiner who arrives at age 0 and is never let in, gaps at their middle."""
    return np.unique(course(replace(policy, jitter=0.0), 0.0, np.random.default_rng(0)).asked)


def _give_up(rec: Recommendation, policy: Policy) -> Number:
    age = policy.give_up_age_s
    return rec.give_up_age_s if policy == rec.tuned else Number(age, age, age)


def _polled(lane: int, policy: Policy, asked: Floats, ends: Number, end: float, *, key: bool) -> list[Any]:
    texts = [f"{plain(policy.name, 24)} asks at {seconds(float(age))}" for age in asked]
    shared = {"name": "asks", "legendgroup": "asks", "showlegend": key, "yaxis": "y2"}
    ticks = points(_xs(asked), [lane] * len(asked), texts, struck("line-ns-open", INK, 14, 1.5), **shared)
    text = f"{plain(policy.name, 24)} gives up at {amount(ends.value)} s"
    gives_up = _interval(ends, lane, end, color=VERMILLION, symbol="x", text=text, axis="y2")
    keys = [legend_key("gives up (bar: 95 %)", VERMILLION, "x")] if key else []
    return [ticks, *gives_up[0 if ends.upper > ends.lower else 1 :], *keys]
