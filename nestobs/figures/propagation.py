"""When nests show where: delay laws side by side, what hour they were made in, whether all places agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import canvas, marks
from nestobs.figures import time_axis as wall
from nestobs.figures.canvas import BLUE, ORANGE, at
from nestobs.figures.proportions import share_lanes
from nestobs.figures.text import layer_name, layer_order, plain, seconds
from nestobs.observation.columns import records
from nestobs.observation.text import percent
from nestobs.timeline.uptime import within

if TYPE_CHECKING:
    from nestobs.estimate.agreement import Last
    from nestobs.estimate.proportion import Share

MOST_FACETS: Final = 12
MOST_LANES: Final = 24
MOST_VANTAGES: Final = len(marks.VANTAGES)


# delay laws


def laws(curves: pd.DataFrame, *, question: str, when: str) -> go.Figure:
    """A panel each name, a line (the estimate) and a band (bounds that assume nothing) each vantage.

    curves: as estimate.groups.curves gives them; at most MOST_FACETS names, those of most intervals, and MOST_VANTAGES
    vantages are drawn, the note says how many are not. when: the window in words.
    """
    if curves.empty:
        return canvas.nothing(question, "No layer proved anything of any nest, so there is nothing to draw.")
    names, most = layer_order(curves["name"]), _most_watched(curves)
    vantages = sorted(set(curves["vantage"]))
    drawn, shown = [name for name in names if name in most], vantages[:MOST_VANTAGES]
    left_out = _left_out(len(names) - len(drawn), "panel") + _left_out(len(vantages) - len(shown), "vantage")
    groups = dict(iter(curves.groupby(["name", "vantage"], sort=False)))
    n, censored = (sum(int(rows[column].iloc[0]) for rows in groups.values()) for column in ("n", "censored"))
    panels = []
    for name in drawn:
        known = [(place, groups[name, one]) for place, one in enumerate(shown) if (name, one) in groups]
        title = marks.facet_title(name, *([rows[of].iloc[0] for _, rows in known] for of in ("n", "censored")))
        panels.append((title, [trace for place, rows in known for trace in _law(rows, shown[place], place)]))
    note = (
        f"n = {n} intervals, {censored} not seen by the end (right-censored). Line: estimate; band: 95 %, assumes"
        f" nothing but the intervals.{left_out} {when}"
    )
    ends = float(curves["age_s"].min()), float(curves["age_s"].max())
    figure = marks.facets(question, note, panels, ends, panel_px=104, bottom=0.80)
    canvas.named(figure, map(layer_name, drawn))
    return canvas.described(figure, _laws_alt(question, curves), _laws_table(curves))


def _left_out(count: int, what: str) -> str:
    return f" {count} more {what}{'' if count == 1 else 's'} not drawn." if count > 0 else ""


def _most_watched(curves: pd.DataFrame) -> set[str]:
    """The names to be drawn: those of most intervals."""
    counts = curves.groupby(["name", "vantage"], sort=False)["n"].first().groupby("name", sort=False).sum()
    return set(counts.sort_values(ascending=False, kind="stable").index[:MOST_FACETS])


def _law(rows: pd.DataFrame, vantage: str, place: int) -> list[go.Scatter]:
    color, hatch, dash = marks.VANTAGES[place]
    name, x = plain(vantage, 18) or "estimate", canvas.places(rows["age_s"])
    layer = layer_name(rows["name"].iloc[0])
    low, high, share = (canvas.heights(rows[column]) for column in ("low", "high", "share"))
    texts = [
        f"{layer}, {name}: {percent(y)} ({percent(lo)} to {percent(hi)})<br>by {seconds(age)}"
        for age, y, lo, hi in zip(rows["age_s"], share, low, high, strict=True)
    ]
    band = marks.area(x + x[::-1], low + high[::-1], color, hatch, solidity=0.16, legendgroup=str(place))
    return [band, marks.line(x, share, color, 2, dash, texts=texts, name=name, legendgroup=str(place))]


def _laws_alt(question: str, curves: pd.DataFrame) -> str:
    last = curves.groupby(["name", "vantage"], sort=False).last().reset_index()
    said = [
        f"{layer_name(row.name)} {plain(row.vantage, 18)}".strip() + f": {percent(row.share)} by {seconds(row.age_s)}"
        for row in records(last.head(6))
    ]
    return f"{question} Share of nests that showed it: {'; '.join(said)}."


def _laws_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Each tenth step: the curve is smooth to the eye, the table is to be read."""
    rows = curves[curves.groupby(["name", "vantage"]).cumcount() % 10 == 9]
    return pd.DataFrame(
        {
            "layer": [layer_name(name) for name in rows["name"]],
            "vantage": [plain(name, 24) for name in rows["vantage"]],
            "n": rows["n"],
            "age, s": rows["age_s"],
            "share, %": 100 * rows["share"].astype(float),
            "95 % from, %": 100 * rows["low"].astype(float),
            "95 % to, %": 100 * rows["high"].astype(float),
        }
    )


def by_hour(summary: pd.DataFrame, *, when: str) -> go.Figure:
    """For each hour of day, UTC, the intervals of the median and of the 90 % of when a nest could be joined.

    summary: as nestobs.estimate.groups.summary gives it, names "00" to "23".
    """
    question = "Does it depend on the hour a nest is made in?"
    if summary.empty:
        return canvas.nothing(question, "No nest's joins were proven absent or visible, so there is nothing to draw.")
    looks = (("q50", "median", BLUE, "/", -0.2), ("q90", "90 %", ORANGE, "\\", 0.2))
    low, high = canvas.reach(*(summary[f"{q}_{end}_s"] for q, *_ in looks for end in ("low", "high")))
    vertical = canvas.delay_axis(low, high, title={"text": ""})
    hours = f"{len(summary)} hour{'' if len(summary) == 1 else 's'}"
    note = (
        f"n = {int(summary['n'].sum())} nests in {hours} of day, {int(summary['censored'].sum())} not joinable by the"
        f" end (right-censored). Bars: 95 % intervals; to the top where there is no upper end. {when}"
    )
    traces = []
    for name, word, color, hatch, shift in looks:
        base = [at(max(value, low) if math.isfinite(value) else low) for value in summary[f"{name}_low_s"]]
        top = [at(value) if math.isfinite(value) else vertical["range"][1] for value in summary[f"{name}_high_s"]]
        texts = [
            f"{row['name']}:00 UTC, n = {row['n']}<br>{word}: {_interval(row, name)}"
            for row in summary.to_dict("records")
        ]
        x = [int(hour) + shift for hour in summary["name"]]
        lengths = [max(end - start, 0.02) for start, end in zip(base, top, strict=True)]
        look = {"base": base, "width": 0.36, "name": f"{word}, 95 %"}
        traces.append(marks.columns(x, lengths, texts, marks.hatched(color, hatch), **look))
    across = {"range": [-0.6, 23.6], "tickvals": [0, 6, 12, 18, 23], "ticktext": ["00", "06", "12", "18", "23"]}
    figure = canvas.drawn(
        question,
        note,
        traces,
        plot_px=230,
        over="age at which it could be joined, s (compressed)",
        labels=["-0.3", "3600"],
        barmode="overlay",
        yaxis=vertical,
        xaxis=across | canvas.titled("hour of day of the nest's origin, UTC"),
    )
    worst: Any = summary.iloc[int(summary["q50_s"].to_numpy(dtype=float).argmax())]
    alt = (
        f"{question} Of the {len(summary)} hours seen the median age at which a nest could be joined is greatest at"
        f" {worst['name']}:00 UTC: {_interval(worst, 'q50').removesuffix(')')}, n = {int(worst['n'])})."
    )
    names = {"name": "hour, UTC", "n": "n", "censored": "not by the end"}
    for name, word, *_ in looks:
        names |= {f"{name}_s": f"{word}, s", f"{name}_low_s": f"{word} 95 % from, s", f"{name}_high_s": f"{word} to, s"}
    return canvas.described(figure, alt, summary[list(names)].rename(columns=names))


def _interval(row: Any, name: str) -> str:
    value, low, high = (seconds(float(row[f"{name}{end}"])) for end in ("_s", "_low_s", "_high_s"))
    return f"{value} ({low} to {high})"


# who is last


def last_layers(found: Sequence[Last], *, when: str) -> go.Figure:
    """By vantage and layer: the share of nests of which it was the last to show them."""
    question = "Which layer is the last to show a nest?"
    told = [one for one in found if one.nests]
    unshown = sum(one.unshown for one in found)
    if unshown and not told:
        return canvas.nothing(question, f"No layer showed any nest ({unshown} looked at), so there is nothing to draw.")
    places = told[:MOST_VANTAGES]
    lanes: dict[str, Share] = {}
    for one in places:
        end = f"<br>{plain(one.vantage, 80)}" if len(told) > 1 else ""
        rank = sorted((-share.most, layer) for layer, share in one.shares.items())
        most = {layer for _, layer in rank[: max(1, MOST_LANES // len(places))]}
        lanes |= {f"{layer_name(layer)}{end}": one.shares[layer] for layer in layer_order(most)}
    left_out = _left_out(sum(len(one.shares) for one in places) - len(lanes), "layer")
    nests, doubtful = sum(one.nests for one in told), sum(one.ambiguous for one in told)
    note = (
        f"n = {nests} nests of {len(told)} vantage{'' if len(told) == 1 else 's'}; ambiguous in {doubtful}"
        f" ({percent(doubtful / nests) if nests else 'none'}): intervals overlap. Shown nowhere, not counted:"
        f" {unshown}.{left_out}{_left_out(len(told) - MOST_VANTAGES, 'vantage')} {when}"
    )
    return share_lanes(question, note, lanes, of="nests", sure="surely last")


# agreement


def agreement_by_age(curve: pd.DataFrame, *, nests: int, when: str) -> go.Figure:
    """The share of nests of which all watched layers and vantages say the same, at each age, between its two bounds.

    curve: as nestobs.estimate.agreement.by_age gives it.
    """
    question = "Do all places say the same of a nest?"
    known = curve[curve["n"] > 0]
    if known.empty:
        return canvas.nothing(question, "No nest was watched in two places, so there is nothing to draw.")
    worst: Any = known.iloc[int(known["high"].to_numpy(dtype=float).argmin())]
    least = (
        f"at most {percent(float(worst['high']))} agree at age {seconds(float(worst['age_s']))}"
        if worst["high"] < 1
        else "no disagreement is proven at any age"
    )
    note = (
        f"n = {nests} nests; {least}. The true share lies inside the band; nests count until their last proof. {when}"
    )
    figure = _between_by_age(question, note, known, "agree", "nests of which all places say the same")
    names = {"age_s": "age, s", "n": "nests watched", "sure": "surely agree", "possible": "possibly agree"}
    return canvas.described(figure, f"{question} {least}; n = {nests} nests.", _thin(known[list(names)], names))


def parted_by_age(curve: pd.DataFrame, *, nests: int, unsure: int, when: str) -> go.Figure:
    """The share of nests that one vantage could join and another could not, at each age, between its two bounds.

    curve: as nestobs.estimate.agreement.by_age gives it of what nestobs.estimate.vantages.stretches gives; unsure: of
    so many of the nests the age is good to a second or so.
    """
    question = "At which ages could one join, and another not?"
    known = curve[curve["n"] > 0]
    if known.empty:
        return canvas.nothing(question, "No nest was asked about by two vantages, so there is nothing to draw.")
    known = known.assign(low=1.0 - known["high"], high=1.0 - known["low"])
    known = known.assign(surely=known["n"] - known["possible"], possibly=known["n"] - known["sure"])
    worst: Any = known.iloc[int(known["surely"].to_numpy(dtype=float).argmax())]
    most = (
        f"at age {seconds(float(worst['age_s']))} surely {percent(float(worst['low']))} of {int(worst['n'])}"
        if worst["surely"] > 0
        else "it is sure of none at any age"
    )
    coarse = f" Of {unsure} the age is good to a second." if unsure else ""
    note = (
        f"n = {nests} nests; {most}. The true share lies inside the band, clock errors included; a nest counts as"
        f" long as two vantages asked, an age where half of the nests do.{coarse} {when}"
    )
    figure = _between_by_age(question, note, known, "differ", "nests that one could join and another could not")
    names = {"age_s": "age, s", "n": "nests watched", "surely": "surely differ", "possibly": "possibly differ"}
    return canvas.described(figure, f"{question} Of {nests} nests {most}.", _thin(known[list(names)], names))


def _between_by_age(question: str, note: str, known: pd.DataFrame, verb: str, over: str) -> go.Figure:
    """A band from `low` to `high`, shares by age. verb: what they do, in the hover text."""
    x = canvas.places(known["age_s"])
    low, high = (canvas.heights(known[name]) for name in ("low", "high"))
    texts = [
        f"{percent(row.low)} to {percent(row.high)} {verb}<br>at {seconds(row.age_s)}, n = {row.n}"
        for row in records(known)
    ]
    look: dict[str, Any] = {"size": 7, "solidity": 0.25, "width": 1.5, "name": "between the bounds"}
    band = marks.area(x + x[::-1], low + high[::-1], BLUE, "/", texts=texts + texts[::-1], **look)
    figure = canvas.drawn(
        question,
        note,
        [band],
        plot_px=220,
        over=over,
        xaxis=canvas.delay_axis(float(known["age_s"].min()), float(known["age_s"].max())),
        yaxis=canvas.share_axis(-0.02, 1.04),
        showlegend=True,
    )
    canvas.today_line(figure)
    return figure


def _thin(known: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Some forty of its rows, to be read."""
    return known[:: max(1, len(known) // 40)].rename(columns=names)


def agreement_by_time(bins: pd.DataFrame, collector: wall.Collector, *, when: str) -> go.Figure:
    """The share of the time that nests were watched in which all places agreed, by wall time; and the collector's own.

    bins: as nestobs.estimate.agreement.by_time gives them.
    """
    question = "When did the places disagree?"
    known = bins[bins["watched_s"] > 0]
    if known.empty:
        return canvas.nothing(question, "No nest was watched in two places, so there is nothing to draw.")
    watched = float(known["watched_s"].sum())
    low, high = (float(known[name].sum()) / watched for name in ("sure_s", "possible_s"))
    note = (
        f"n = {watched / 60:,.0f} min of nests watched, in {len(known)} of {len(bins)} steps of"
        f" {wall.step_words(bins)}; of them {percent(low)} to {percent(high)} in agreement. No bar: no nest was"
        f" watched. {when}"
    )
    texts = [
        f"{row.start_at:%Y-%m-%d %H:%M:%S} UTC<br>{percent(row.low)} to {percent(row.high)} agree"
        for row in records(known)
    ]
    traces = []
    for name, base, top, marker in (
        ("surely agree", 0.0 * known["low"], known["low"], marks.filled(BLUE)),
        ("possibly agree", known["low"], known["high"], marks.hatched(BLUE, "/")),
    ):
        look = marker | {"line": {"width": 0}}
        traces.append(wall.columns(collector, known, top - base, texts, look, base=list(base), name=name))
    vertical = canvas.share_axis(-0.02, 1.04)
    figure = wall.over(question, note, traces, collector, yaxis=vertical, label="100 %", barmode="overlay")
    alt = (
        f"{question} Of {watched / 60:,.0f} minutes that nests were watched, {percent(low)} to {percent(high)} in"
        " agreement."
    )
    names = {"start_at": "from, UTC", "end_at": "to, UTC", "watched_s": "watched, s", "sure_s": "surely agree, s"}
    names |= {"possible_s": "possibly agree, s"}
    return canvas.described(figure, alt, known[list(names)].rename(columns=names))


def collector_strip(collector: wall.Collector, *, when: str) -> go.Figure:
    """When the collector was at work, by itself."""
    question = "When did anybody look?"
    note = f"n = {len(collector.spans)} spans at work. {when}"
    figure = wall.over(question, note, [], collector, plot_px=4, yaxis={"visible": False}, barmode="overlay")
    spans = within(collector.spans, collector.start, collector.end)
    table = pd.DataFrame(
        {
            "vantage": [plain(name, 40) for name in spans["vantage"]],
            "at work from, UTC": spans["start_at"],
            "to, UTC": spans["end_at"],
        }
    )
    return canvas.described(figure, f"{question} {wall.said(collector)}", table)
