"""Policies side by side: what each would cost in requests and in waiting, and what was predicted beside what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import canvas, marks
from nestobs.figures.canvas import BLUE, GREEN, GREY, HEAD_PX, INK, ORANGE, PURPLE, SKY, VERMILLION, at
from nestobs.figures.decisions import note_of
from nestobs.figures.text import amount, plain, seconds, span
from nestobs.observation.columns import records
from nestobs.observation.text import percent

if TYPE_CHECKING:
    from nestobs.estimate.npmle import Number
    from nestobs.tuning.recommendation import Recommendation
    from nestobs.tuning.replay import Replay

_OTHERS: Final = (
    (ORANGE, "circle"),
    (PURPLE, "triangle-up"),
    (GREEN, "triangle-down"),
    (GREY, "x"),
    (ORANGE, "pentagon"),
    (PURPLE, "cross"),
    (GREEN, "bowtie"),
    (GREY, "hexagon"),
)
_REQUESTS: Final = (0.5, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200, 500, 1000)
_DELAYS: Final = (0, 0.1, 0.3, 1, 3, 10, 30, 60, 120, 300)
_SHOWN_LOST: Final = 0.01
"""A lost share from which it is written beside its point."""

_PANELS: Final = {
    "joined_share": ("joined", " %", 100),
    "lost_share": ("lost: no seat, though one came", " %", 100),
    "mean_delay_s": ("mean delay of those who joined", " s", 1),
    "requests_per_join": ("requests per join", "", 1),
}
"""Of each metric: what it is called, its unit, and by what it is multiplied."""

_COLUMNS: Final = {
    "requests_per_join": ("requests per join", 1.0),
    "mean_delay_s": ("mean delay, s", 1.0),
    "lost_share": ("lost, %", 100.0),
}
"""Of each metric of the front: its column in the table, and by what it is multiplied."""

_PREDICTED: Final = marks.hatched(BLUE, "/")
_NUMBERS: Final = ["value", "lower", "upper", "realised", "error_s"]


# what each would cost


def frontier(rec: Recommendation) -> go.Figure:
    """Requests against delay along the price of a request, and each replayed policy as the cross of its intervals."""
    groups = _alike(rec.replays)
    crosses = [_cross(rec, group, number) for number, group in enumerate(groups)]
    requests, delays = (
        [edge for group in groups for edge in _ends(group[0].numbers[name])]
        for name in ("requests_per_join", "mean_delay_s")
    )
    figure = canvas.drawn(
        "What does less waiting cost in requests?",
        _front_note(rec, [one for group in groups for one in group]),
        [*_front(rec.front), *crosses],
        plot_px=316,
        over="mean delay of those who join, s (compressed)",
        xaxis=_request_axis([*requests, *rec.front["requests_per_join"]]),
        yaxis=_wait_axis([*delays, *rec.front["mean_delay_s"].dropna()]),
    )
    _lost_labels(figure, rec.front)
    _name_crosses(figure, rec, groups)
    return canvas.described(figure, _front_alt(rec), _front_table(rec))


def _front_alt(rec: Recommendation) -> str:
    shown = {one.policy.name: one for one in rec.replays}
    names = dict.fromkeys((rec.today.name, rec.tuned.name, rec.simple.name))
    return " ".join(f"{plain(name, 24)}: {_costs(shown[name])}." for name in names if name in shown)


def _costs(one: Replay) -> str:
    requests, delay, lost = (one.numbers[name] for name in ("requests_per_join", "mean_delay_s", "lost_share"))
    if not math.isfinite(delay.value):
        return "nobody joins"
    return (
        f"{amount(requests.value)} requests per join, {amount(delay.value)} s mean delay"
        f" ({span(*_ends(delay)[1:], unit='s')}), {_lost(lost)}"
    )


def _front_table(rec: Recommendation) -> pd.DataFrame:
    """A row a replayed policy with its 95 % intervals, then a row a price of the optimal front."""
    rows: list[dict[str, object]] = []
    for one in rec.replays:
        row: dict[str, object] = {"what": f"replayed: {plain(one.policy.name, 24)}"}
        for metric, (words, scale) in _COLUMNS.items():
            number = one.numbers[metric]
            row |= {words: scale * number.value, f"{words}: from": scale * number.lower}
            row[f"{words}: to"] = scale * number.upper
        rows.append(row)
    for point in records(rec.front):
        row = {"what": f"optimal, a request costs {amount(point.request_cost)} s{' (chosen)' if point.chosen else ''}"}
        row |= {words: scale * getattr(point, metric) for metric, (words, scale) in _COLUMNS.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _alike(replays: Sequence[Replay]) -> list[list[Replay]]:
    """Policies that did the very same are one cross; those nobody joined under have no delay, and none."""
    groups: dict[tuple[float, ...], list[Replay]] = {}
    for one in replays:
        delay = one.numbers["mean_delay_s"]
        if math.isfinite(delay.value):
            numbers = (delay, one.numbers["requests_per_join"], one.numbers["lost_share"])
            groups.setdefault(tuple(round(n, 9) for number in numbers for n in _ends(number)), []).append(one)
    return list(groups.values())


def _ends(number: Number) -> tuple[float, float, float]:
    """Value and ends; the value for an end that is not known."""
    low, high = (edge if math.isfinite(edge) else number.value for edge in (number.lower, number.upper))
    return number.value, low, high


def _front(front: pd.DataFrame) -> list[go.Scatter]:
    """The front as a line, broken before the prices at which asking once is all; its points; the chosen one."""
    drawn = front.dropna(subset=["mean_delay_s"])
    asks_on = drawn[drawn["give_up_age_s"] > 0]
    line = marks.line(*_drawn_at(asks_on), INK, 1.5, "dot")
    sizes = [round(5 + 28 * math.sqrt(share), 1) for share in drawn["lost_share"]]
    marker = {"color": GREY, "size": sizes, "line": {"color": INK, "width": 1}}
    texts = [_front_text(point) for point in records(drawn)]
    prices = marks.points(*_drawn_at(drawn), texts, marker, name="optimal, by price; larger: more lost")
    ring = marks.outlined("circle-open", INK, 20, 3)
    chosen = marks.points(*_drawn_at(drawn[drawn["chosen"]]), None, ring, name="optimal at the chosen price")
    return [line, prices, chosen]


def _drawn_at(front: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Where points of the front stand: their requests, their delays."""
    return canvas.heights(front["requests_per_join"]), canvas.places(front["mean_delay_s"])


def _front_text(point: Any) -> str:
    return (
        f"a request costs {amount(point.request_cost)} s<br>{amount(point.requests_per_join)} requests per join,"
        f" {seconds(point.mean_delay_s)} delay<br>{percent(point.lost_share)} lost, gives up at"
        f" {seconds(point.give_up_age_s)}"
    )


def _cross(rec: Recommendation, group: Sequence[Replay], number: int) -> go.Scatter:
    """The cross of two intervals, named with what is lost."""
    names = [one.policy.name for one in group]
    asked, waited = (group[0].numbers[metric] for metric in ("requests_per_join", "mean_delay_s"))
    requests, low, high = _ends(asked)
    delay, least, most = (at(edge) for edge in _ends(waited))
    color, symbol, width, size = _look(rec, names, number)
    bar = {"type": "data", "symmetric": False, "color": color, "thickness": width, "width": 4}
    joined = ", ".join("today" if name == rec.today.name else plain(name, 20) for name in names)
    name = f"{joined}: {_lost(group[0].numbers['lost_share'])}"
    errors = {
        "error_x": bar | {"array": [high - requests], "arrayminus": [requests - low]},
        "error_y": bar | {"array": [most - delay], "arrayminus": [delay - least]},
    }
    text = (
        f"{name}<br>{amount(asked.value)} requests per join ({span(asked.lower, asked.upper)})"
        f"<br>{amount(waited.value)} s delay ({span(waited.lower, waited.upper, unit='s')})"
    )
    return marks.points([requests], [delay], [text], marks.outlined(symbol, color, size), name=name, **errors)


def _look(rec: Recommendation, names: Sequence[str], number: int) -> tuple[str, str, float, int]:
    if rec.today.name in names:
        return VERMILLION, "star", 3.5, 17
    if rec.tuned.name in names:
        return BLUE, "diamond", 3, 13
    if rec.simple.name in names:
        return SKY, "square", 3, 12
    return *_OTHERS[number % len(_OTHERS)], 1.5, 9


def _lost(number: Number) -> str:
    if number.upper == 0:
        return "0 % lost"
    return f"{percent(number.value)} lost ({percent(number.lower).removesuffix(' %')}–{percent(number.upper)})"


def _front_note(rec: Recommendation, drawn: Sequence[Replay]) -> str:
    undrawn = [plain(one.policy.name, 24) for one in rec.replays if one not in drawn]
    return note_of(
        rec,
        f"Crosses: 95 % intervals of each policy replayed, {rec.replays[0].joiners} joiners a nest; today is"
        f" {plain(rec.today.name, 24)}.",
        "Line: under the smoothed law, without error of its own.",
        f"Not drawn, nobody joins: {', '.join(undrawn)}." if undrawn else "",
    )


def _request_axis(values: Sequence[float]) -> dict[str, Any]:
    low, high = 0.92 * max(0.5, min(values)), 1.08 * max(values)
    shown = [tick for tick in _REQUESTS if low <= tick <= high]
    limits = {"type": "log", "range": [math.log10(low), math.log10(high)]}
    ticks = {"tickvals": shown, "ticktext": [f"{tick:g}" for tick in shown]}
    return limits | ticks | canvas.titled("API requests per join (compressed)")


def _wait_axis(values: Sequence[float]) -> dict[str, Any]:
    high = max(1.15 * max(values), 0.3)
    return canvas.compressed(tick for tick in _DELAYS if tick <= high) | {"range": [-0.07 * at(high), at(high)]}


def _lost_labels(figure: go.Figure, front: pd.DataFrame) -> None:
    """What is lost, beside the dearest point that asks again, and beside asking once."""
    drawn = front.dropna(subset=["mean_delay_s"]).sort_values("lost_share")
    asks_on = drawn["give_up_age_s"] > 0
    for words, some in (("", drawn[asks_on]), ("asks once: ", drawn[~asks_on])):
        for point in records(some.tail(1)):
            if point.lost_share >= _SHOWN_LOST:
                text = f"{words}{percent(point.lost_share)} lost"
                place = point.requests_per_join, point.mean_delay_s
                _write(figure, *place, text, xanchor="left", xshift=4, yshift=15)


def _name_crosses(figure: go.Figure, rec: Recommendation, groups: Sequence[Sequence[Replay]]) -> None:
    """Today's rule, the tuned and the simple policy by their names; the others by the legend."""
    named = {rec.today.name: "today", rec.tuned.name: "tuned", rec.simple.name: "simple"}
    found = [
        (_middle(group[0]), named[one.policy.name]) for group in groups for one in group if one.policy.name in named
    ]
    below = sorted((place, name) for place, name in found if name != "today")  # these two are often close
    for place, name in found:
        first = name != "today" and name == below[0][1]
        side: dict[str, Any] = {"xanchor": "right", "xshift": -10} if first else {"xanchor": "left", "xshift": 10}
        _write(figure, *place, f"<b>{name}</b>", yshift=12 if name == "today" else -13, **side)


def _middle(one: Replay) -> tuple[float, float]:
    return one.numbers["requests_per_join"].value, one.numbers["mean_delay_s"].value


def _write(figure: go.Figure, requests: float, delay: float, text: str, **more: Any) -> None:
    figure.add_annotation(x=math.log10(requests), y=at(delay), text=text, **more)


# what came


def proof(cells: pd.DataFrame, *, when: str = "") -> go.Figure:
    """Predicted beside realised, a panel a metric: the interval in which so many fresh joins had to come, and where
    they came.

    `cells`: policy, metric, value, lower, upper (predicted), realised, error_s (half width of what is not known of the
    realised delay), n, inside. when: the window of the fresh joins, in words.
    """
    question = "Did fresh joins come out as predicted?"
    shown = [metric for metric in _PANELS if (cells["metric"] == metric).any()]
    if not shown:
        return canvas.nothing(question, "No policy was proved by fresh joins, so there is nothing to draw.")
    policies = list(dict.fromkeys(cells["policy"]))
    predicted = {"base": [], "name": "predicted, 95 %", "showlegend": True, "width": 0.6}
    keys = [marks.bars([None], [None], [], _PREDICTED, **predicted)]
    looks = {_verdict(inside) for inside in cells.loc[cells["realised"].notna(), "inside"]}
    keys += [marks.legend_key(*look) for look in sorted(looks)]
    panels = [_panel(cells[cells["metric"] == metric], metric, policies) for metric in shown]
    note = _proof_note(cells, when)
    figure = marks.lane_panels(question, note, panels, keys, head_px=HEAD_PX, row_px=28, foot_px=34)
    return canvas.described(figure, _proof_alt(cells), _proof_table(cells))


def _proof_alt(cells: pd.DataFrame) -> str:
    judged = cells["inside"].dropna().astype(bool)
    outside = cells[cells["inside"].isin([False])]
    names = ", ".join(f"{plain(one.policy, 24)} {_PANELS[one.metric][0]}" for one in records(outside.head(4)))
    missed = f" Outside: {names}." if names else ""
    return f"{int(judged.sum())} of {len(judged)} numbers came inside their 95 % predictive interval.{missed}"


def _proof_table(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells in the units of their panels."""
    known = cells[cells["metric"].isin(list(_PANELS))]
    scale = known["metric"].map({metric: float(by) for metric, (_, _, by) in _PANELS.items()})
    named = known["metric"].map({metric: f"{name}{unit and f',{unit}'}" for metric, (name, unit, _) in _PANELS.items()})
    return pd.DataFrame(
        {
            "policy": [plain(name, 24) for name in known["policy"]],
            "what": named,
            "predicted": known["value"] * scale,
            "from": known["lower"] * scale,
            "to": known["upper"] * scale,
            "came": known["realised"] * scale,
            "± ": known["error_s"],
            "joins": known["n"],
            "inside": [None if pd.isna(one) else bool(one) for one in known["inside"]],
        }
    )


def _verdict(inside: Any) -> tuple[str, str, str]:
    """Word, colour and symbol of a cell."""
    if pd.isna(inside):
        return "came, not judged", GREY, "diamond"
    return ("came inside", GREEN, "circle") if inside else ("came outside", VERMILLION, "x")


def _proof_note(cells: pd.DataFrame, when: str) -> str:
    judged = cells["inside"].dropna().astype(bool)
    joins = int(cells.groupby("policy")["n"].max().sum())
    unjudged = len(cells) - len(judged)
    return (
        f"n = {joins} fresh joins under {cells['policy'].nunique()} policies: {int(judged.sum())} of {len(judged)}"
        f" numbers came inside their 95 % predictive interval{f', {unjudged} not judged' if unjudged else ''}."
        f" {plain(when, 80) or 'no window'}"
    )


def _panel(cells: pd.DataFrame, metric: str, policies: list[str]) -> marks.Panel:
    """One metric: a row a policy."""
    name, unit, scale = _PANELS[metric]
    cells = cells.assign(**{column: scale * cells[column].astype(float) for column in _NUMBERS})
    low, high = _reach(cells)
    traces = []
    for cell in records(cells):
        row = policies.index(cell.policy)
        traces += [_predicted(row, cell, low, high, unit), *_came(row, cell, unit)]
    across = {"range": [low, high], "nticks": 6, "ticksuffix": unit}
    return name, [plain(policy, 14) for policy in policies], across, traces


def _reach(cells: pd.DataFrame) -> tuple[float, float]:
    """The axis of a panel: over all that is finite, with a margin."""
    doubt = cells["error_s"].fillna(0.0)
    ends = [cells["lower"], cells["upper"], cells["value"], cells["realised"] - doubt, cells["realised"] + doubt]
    known = pd.concat(ends)
    known = known[known.abs() < math.inf]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _predicted(row: int, cell: Any, low: float, high: float, unit: str) -> go.Bar:
    """The predictive interval; an end that is not known is the axis's."""
    words = f"predicted {amount(cell.value)}{unit} ({span(cell.lower, cell.upper, unit=unit.strip())})"
    if not math.isfinite(cell.lower) and not math.isfinite(cell.upper):
        words = "no prediction"
    ends = max(cell.lower, low), min(cell.upper, high)
    return marks.spans([row], [ends], [f"{plain(cell.policy, 24)}: {words}"], _PREDICTED, width=0.6, showlegend=False)


def _came(row: int, cell: Any, unit: str) -> list[go.Scatter]:
    """What came of the fresh joins, with what is not known of it."""
    if not math.isfinite(cell.realised):
        return []
    _, color, symbol = _verdict(cell.inside)
    error = cell.error_s if math.isfinite(cell.error_s) else 0.0
    doubt = f" ± {amount(error)}" if error else ""
    bar = {"type": "data", "array": [error], "visible": error > 0, "color": color, "thickness": 3, "width": 5}
    texts = [f"{plain(cell.policy, 24)}: came {amount(cell.realised)}{doubt}{unit}, n = {cell.n}"]
    marker = marks.outlined(symbol, color, 12, 1.5)
    return [marks.points([cell.realised], [row], texts, marker, error_x=bar, showlegend=False)]
