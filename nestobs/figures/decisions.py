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
from nestobs.figures import canvas, marks
from nestobs.figures.canvas import BLUE, CLEAR, GREEN, GREY, HEAD_PX, INK, ORANGE, PURPLE, SKY, VERMILLION, at
from nestobs.figures.marks import legend_key
from nestobs.figures.text import amount, plain, seconds, span
from nestobs.join.policy import MESSAGE_S
from nestobs.observation.arrays import Floats
from nestobs.observation.text import percent
from nestobs.tuning.decisions import never_share
from nestobs.tuning.simulation import course
from nestobs.tuning.threshold import posterior_band, posterior_starting

if TYPE_CHECKING:
    from nestobs.join.policy import Policy
    from nestobs.tuning.recommendation import Recommendation


LINE_POINTS: Final = 240
CELL_POINTS: Final = 200
"""Beyond so many ends of cells, only every so manieth is drawn: a narrow figure shows no more."""

_CURVE_PX, _GAP_PX, _LANE_PX = 230, 16, 26
_RATIOS: Final = ((PURPLE, "circle"), (GREEN, "square"), (ORANGE, "diamond"), (SKY, "triangle-up"))
"""Of the cost ratios: colour and symbol."""

_TINT: Final = "rgba(0,114,178,.14)"
_ARROW: Final = 0.018
"""How far from the end of the axis an open interval's arrow stands, as a share of it."""


# the age axis


def proven(rec: Recommendation) -> tuple[float, float]:
    """The first and the last age at which anything was proven, seconds; 0 and 1 s are always within."""
    return canvas.reach(rec.law.rows.lower, rec.law.rows.upper)


def _end(rec: Recommendation) -> float:
    """Where the axis ends: past the last proof, so that what never came has a place."""
    decided = [rec.message_threshold_s.value, rec.message_threshold_s.upper, rec.give_up_age_s.upper]
    decided += [rec.today.give_up_age_s, rec.simple.give_up_age_s, rec.tuned.give_up_age_s]
    return max(1.6 * proven(rec)[1], MESSAGE_S * 1.25, *(1.1 * age for age in decided if math.isfinite(age)))


def _ages(rec: Recommendation, last: float) -> Floats:
    """Ages along the axis up to `last`, ends of cells among them."""
    even = 0.3 * np.sinh(np.linspace(at(proven(rec)[0]), at(last), LINE_POINTS))
    edges = np.unique(rec.law.edges[np.isfinite(rec.law.edges)])
    edges = edges[:: max(1, math.ceil(len(edges) / CELL_POINTS))]
    jumps = np.nextafter(edges, -math.inf)  # an exact delay is a step
    every = np.unique(np.concatenate([even, edges, jumps]))
    return every[every <= last]


# traces


def curve(ages: Floats, shares: Floats, name: str, *, color: str = BLUE, dash: str | None = None) -> go.Scatter:
    """Shares by age as a line."""
    texts = [f"{name}: {percent(float(y))} at {seconds(float(x))}" for x, y in zip(ages, shares, strict=True)]
    return marks.line(canvas.places(ages), canvas.heights(shares), color, 2.5, dash, texts=texts, name=name)


def _band(
    ages: Floats, low: Floats, high: Floats, name: str, *, color: str = BLUE, tint: str = _TINT, hatch: str = "/"
) -> go.Scatter:
    """A band as one closed outline, told by its hatch as well."""
    x, y = canvas.places([*ages, *ages[::-1]]), canvas.heights([*low, *high[::-1]])
    return marks.area(x, y, color, hatch, solidity=0.12, tint=tint, name=name)


def _edges(ages: Floats, low: Floats, high: Floats, name: str) -> go.Scatter:
    """A band by its two edges alone."""
    x, y = canvas.places(ages), [*canvas.heights(low), None, *canvas.heights(high)]
    return marks.line([*x, None, *x], y, GREY, 1.2, "dot", name=name)


def _interval(number: Number, y: float, end: float, *, color: str, symbol: str, text: str, axis: str) -> list[Any]:
    """A bar from end to end with the value on it; an open end is an arrow to the end of the axis."""
    is_open = number.upper > end
    arrow = at(end) - _ARROW * (at(end) - at(0.0))
    ends = [at(max(number.lower, 0.0)), arrow if is_open else at(number.upper)]
    symbols = ["line-ns-open", "triangle-right" if is_open else "line-ns-open"]
    shared: dict[str, Any] = {"yaxis": axis, "showlegend": False, "cliponaxis": False}
    strokes = marks.struck(symbols, color, 13, 2.5) | {"opacity": 1}
    bar = marks.line(ends, [y, y], color, 4, texts=[text, text], marker=strokes, **shared)
    middle = marks.outlined(symbol, color, 11, 1.5)
    return [bar, marks.points([min(at(number.value), arrow)], [y], [text], middle, **shared)]


# layout


def _words(number: Number) -> str:
    return f"{amount(number.value)} s ({span(number.lower, number.upper, unit='s')})"


def note_of(rec: Recommendation, *sentences: str) -> str:
    """The note of a figure about a recommendation: n, how many are censored, the sentences, the window."""
    counted = (
        f"n = {rec.law.n} intervals of {rec.nests} nests, {rec.law.censored} not seen by the end (right-censored)."
    )
    when = canvas.window(pd.Series(pd.to_datetime(list(rec.window), utc=True)))
    return " ".join(part for part in (counted, *sentences, when) if part)


def _band_words(rec: Recommendation) -> str:
    return f"Band: 95 %, {len(rec.resampled.laws)} resamples of {rec.block_kind}s."


def _drawn(
    rec: Recommendation, question: str, note: str, traces: Sequence[Any], lanes: Sequence[str], *, what: str
) -> go.Figure:
    """The curve of `what` above, named lanes below it, on one age axis."""
    below = len(lanes) * _LANE_PX
    whole = HEAD_PX + _CURVE_PX + _GAP_PX + below
    top = 1 - HEAD_PX / whole
    figure = canvas.drawn(
        question,
        note,
        traces,
        plot_px=whole,
        labels=["100 %", *lanes],
        barmode="overlay",
        xaxis=canvas.delay_axis(proven(rec)[0], _end(rec), anchor="y2"),
        yaxis=canvas.share_axis(-0.02, 1.04, domain=[top - _CURVE_PX / whole, top]),
        yaxis2=canvas.lane_axis(lanes, above=0.5, domain=[0, below / whole], anchor="x"),
    )
    canvas.panel_label(figure, f"<b>{what}</b>")
    canvas.today_line(figure)
    return figure


# figures


def delay_law(rec: Recommendation) -> go.Figure:
    """The share of nests that can be joined by each age, what is not known of it, and where the message turns."""
    watched, end = proven(rec)[1], _end(rec)
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
    question, what = "When can a nest be joined, and who never?", "can be joined, of all nests"
    figure = _drawn(rec, question, note, traces, ["message"], what=what)
    return canvas.described(figure, _delay_alt(rec), _delay_table(rec, ages))


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
    return f"{percent(rec.law.never)} ({ends}) never came, by {proven(rec)[1]:.0f} s"


def posterior(rec: Recommendation) -> go.Figure:
    """P(still starting | 404) at each age, the levels at which both messages cost the same, and what is told."""
    end, known = _end(rec), rec.law.never > 0
    turns = [number.value for number in rec.thresholds.values() if number.value <= end]
    ages = _ages(rec, max(proven(rec)[1], *turns))
    ages = ages[ages >= 0]
    traces: list[Any] = [_band(ages, *posterior_band(decided(rec), ages), "95 % band")] if known else []
    shares = posterior_starting(rec.smooth, never_share(rec.smooth), ages)
    traces.append(curve(ages, shares, "still starting"))
    for number, (ratio, threshold) in enumerate(rec.thresholds.items()):
        traces += _level(ratio, threshold, end, *_RATIOS[number % len(_RATIOS)])
    traces += _told(rec, end)
    doubt = _band_words(rec) if known else "None stayed away: half a nest was taken for it, and there is no band."
    note = note_of(rec, doubt, "ρ: cost of a false “starting up” over that of a false “gone”; bars: 95 % thresholds.")
    question, what = "Answered 404: is it still starting?", "still starting, if answered 404"
    figure = _drawn(rec, question, note, traces, ["today", "advised"], what=what)
    return canvas.described(figure, _posterior_alt(rec), _posterior_table(rec, ages, known=known))


def _posterior_alt(rec: Recommendation) -> str:
    at_today = float(posterior_starting(rec.smooth, never_share(rec.smooth), [MESSAGE_S])[0])
    turns = "; ".join(f"ρ = {ratio:g}: {_words(number)}" for ratio, number in rec.thresholds.items())
    return (
        f"Of those answered 404 at {MESSAGE_S:g} s, {percent(at_today)} are still starting. The message turns by cost"
        f" ratio at {turns}. Today it turns at {rec.today.message_threshold_s:g} s, advised are"
        f" {rec.policy.message_threshold_s:g} s."
    )


def _posterior_table(rec: Recommendation, ages: Floats, *, known: bool) -> pd.DataFrame:
    told = _told_ages(ages)
    table = pd.DataFrame(
        {"age, s": told, "still starting, %": 100.0 * posterior_starting(rec.smooth, never_share(rec.smooth), told)}
    )
    if known:
        low, high = posterior_band(decided(rec), told)
        table = table.assign(**{"95 % band, from, %": 100.0 * low, "to, %": 100.0 * high})
    return table


def decided(rec: Recommendation) -> Resampled:
    """The smoothed law, which decisions are made of, and its resamples: the raw ones end with the last that came."""
    laws = tuple(smoothed(law, rec.smooth.width) for law in rec.resampled.laws)
    return Resampled(rec.smooth, laws, rec.resampled.counts, rec.resampled.blocks)


def _level(ratio: float, threshold: Number, end: float, color: str, symbol: str) -> list[Any]:
    """The level of indifference, and on it the threshold with its interval."""
    level = ratio / (1.0 + ratio)
    text = f"ρ = {ratio:g}: {_words(threshold)}"
    line = marks.line([at(0.0), at(end)], [level, level], color, 1, "dot")
    bar = _interval(threshold, level, end, color=color, symbol=symbol, text=text, axis="y")
    return [line, *bar, legend_key(f"ρ = {ratio:g}, at {percent(level)}", color, symbol)]


def _told(rec: Recommendation, end: float) -> list[go.Bar]:
    made = []
    for lane, policy in enumerate((rec.today, rec.policy)):
        turns = min(policy.message_threshold_s, end)
        for name, start, stop, marker in (
            ("told “starting up”", 0.0, turns, marks.filled(SKY)),
            ("told “no longer”", turns, end, marks.hatched(VERMILLION, "/")),
        ):
            shown: dict[str, Any] = {
                "width": 0.62,
                "name": name,
                "yaxis": "y2",
                "legendgroup": name,
                "showlegend": lane == 0,
            }
            text = f"{name}: {seconds(start)} to {seconds(stop)}"
            made.append(marks.spans([lane], [(at(start), at(stop))], [text], marker, **shown))
    return made


def polls(rec: Recommendation) -> go.Figure:
    """Who is still answered 404 at each age, and when each policy asks a joiner who arrives at once."""
    shown = {"today": _stayed(rec.today), "tuned": rec.tuned, "simple": rec.simple}
    watched, end = proven(rec)[1], _end(rec)
    ages = _ages(rec, watched)
    ages = ages[ages >= 0]
    low, high = rec.resampled.cdf(ages)
    traces: list[Any] = [
        _band(ages, 1.0 - high, 1.0 - low, "95 % band"),
        curve(ages, 1.0 - rec.smooth.cdf(ages), "still answered 404"),
    ]
    asked = {name: _asked(policy) for name, policy in shown.items()}
    for lane, (name, policy) in enumerate(shown.items()):
        age = policy.give_up_age_s
        ends = rec.give_up_age_s if policy == rec.tuned else Number(age, age, age)
        traces += _polled(lane, policy, asked[name], ends, end, key=lane == 0)
    counts = ", ".join(f"{name} {len(each)}" for name, each in asked.items())
    note = note_of(
        rec,
        f"Rounds of who arrives at once and is not let in: {counts}. Advised: {_advised(rec)}."
        + " Today's person is of middling speed, and stays to the end." * (rec.today.person is not None),
        f"Gaps of the tuned vary by ±{percent(rec.tuned.jitter)}. Gives up at {_words(rec.give_up_age_s)}.",
    )
    question, what = "When is it worth asking again?", "still answered 404, of all joiners"
    figure = _drawn(rec, question, note, traces, list(shown), what=what)
    return canvas.described(figure, _polls_alt(rec, shown, asked), _polls_table(rec, shown, asked))


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


def _stayed(policy: Policy) -> Policy:
    """The policy; its person, if it has one, as one who reacts in the median time and stays as long as anybody."""
    if policy.person is None:
        return policy
    person = replace(policy.person, spread=0.0, leaves=0.0, leaves_gone=0.0)
    return replace(policy, person=person, give_up_age_s=policy.horizon_s)


def _asked(policy: Policy) -> Floats:
    """Ages of the rounds of a joiner who arrives at age 0 and is never let in, gaps at their middle."""
    return np.unique(course(replace(policy, jitter=0.0), 0.0, np.random.default_rng(0)).asked)


def _polled(lane: int, policy: Policy, asked: Floats, ends: Number, end: float, *, key: bool) -> list[Any]:
    texts = [f"{plain(policy.name, 24)} asks at {seconds(float(age))}" for age in asked]
    shared = {"name": "asks", "legendgroup": "asks", "showlegend": key, "yaxis": "y2"}
    ticks = marks.struck("line-ns-open", INK, 14, 1.5)
    asks = marks.points(canvas.places(asked), [lane] * len(asked), texts, ticks, **shared)
    text = f"{plain(policy.name, 24)} gives up at {amount(ends.value)} s"
    gives_up = _interval(ends, lane, end, color=VERMILLION, symbol="x", text=text, axis="y2")
    keys = [legend_key("gives up (bar: 95 %)", VERMILLION, "x")] if key else []
    return [asks, *gives_up[0 if ends.upper > ends.lower else 1 :], *keys]
