"""When nests show where: delay laws side by side, what hour they were made in, whether all places agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import time_axis as wall
from nestobs.figures.canvas import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILLION,
    at,
    blank,
    delay_axis,
    described,
    layer_label,
    layer_order,
    nothing,
    panel_label,
    percent,
    plain_axis,
    reach,
    seconds,
    share_axis,
    titled,
    today_line,
)
from nestobs.figures.marks import area, facet, filled, hatched
from nestobs.figures.proportions import share_lanes
from nestobs.figures.text import plain
from nestobs.observation.columns import records
from nestobs.timeline.uptime import within

if TYPE_CHECKING:
    from nestobs.estimate.agreement import Last
    from nestobs.estimate.proportion import Share

_LOOKS: Final = ((BLUE, "/", "solid"), (VERMILLION, "\\", "dash"), (GREEN, "x", "dot"), (PURPLE, "-", "dashdot"))
MOST_FACETS: Final = 12
MOST_LANES: Final = 24
MOST_VANTAGES: Final = len(_LOOKS)
_FACET_PX, _HEAD_PX = 104, 24


# delay laws


def laws(curves: pd.DataFrame, *, question: str, when: str) -> go.Figure:
    """A panel each name, a line (the estimate) and a band (bounds that assume nothing) each vantage.

    curves: as estimate.groups.curves gives them; at most MOST_FACETS names, those of most intervals, and MOST_VANTAGES
    vantages are drawn, the note says how many are not. when: the window in words.
    """
    if curves.empty:
        return nothing(question, "No layer proved anything of any nest, so there is nothing to draw.")
    names, most = layer_order(curves["name"]), _most_watched(curves)
    vantages = sorted(set(curves["vantage"]))
    drawn, shown = [name for name in names if name in most], vantages[:MOST_VANTAGES]
    keys = [plain(vantage, 18) or "estimate" for vantage in shown]
    left_out = _left_out(len(names) - len(drawn), "panel") + _left_out(len(vantages) - len(shown), "vantage")
    groups = curves.groupby(["name", "vantage"], sort=False).first()
    note = (
        f"n = {int(groups['n'].sum())} intervals, {int(groups['censored'].sum())} not seen by the end (right-censored)."
        f" Line: estimate; band: 95 %, assumes nothing but the intervals.{left_out} {when}"
    )
    figure = blank(question, note, plot_px=_FACET_PX * len(drawn), keys=keys)
    axis = "y"
    for number, name in enumerate(drawn):
        rows = curves[curves["name"] == name]
        axis = facet(figure, number, len(drawn), _facet_label(rows, name, shown), bottom=0.80)
        for place, vantage in enumerate(shown):
            mine = rows[rows["vantage"] == vantage]
            if len(mine):
                figure.add_traces(_law(mine, keys[place], place, axis, key=not _keyed(figure, keys[place])))
    first, last = float(curves["age_s"].min()), float(curves["age_s"].max())
    figure.update_layout(xaxis=delay_axis(first, last, anchor=axis))
    today_line(figure)
    return described(figure, _laws_alt(question, curves), _laws_table(curves))


def _left_out(count: int, what: str) -> str:
    return f" {count} more {what}{'' if count == 1 else 's'} not drawn." if count > 0 else ""


def _most_watched(curves: pd.DataFrame) -> set[str]:
    """The names to be drawn: those of most intervals."""
    counts = curves.groupby(["name", "vantage"], sort=False)["n"].first().groupby("name", sort=False).sum()
    return set(counts.sort_values(ascending=False, kind="stable").index[:MOST_FACETS])


def _keyed(figure: go.Figure, key: str) -> bool:
    return any(trace.name == key and trace.showlegend is not False for trace in figure.data)


def _law(rows: pd.DataFrame, name: str, place: int, axis: str, *, key: bool) -> list[go.Scatter]:
    color, hatch, dash = _LOOKS[place]
    x = [round(at(age), 4) for age in rows["age_s"]]
    low, high, share = ([round(float(y), 4) for y in rows[column]] for column in ("low", "high", "share"))
    shared: dict[str, Any] = {"yaxis": axis, "legendgroup": str(place)}
    hidden = {"hoverinfo": "skip", "showlegend": False}
    band = area(x + x[::-1], low + high[::-1], color, hatch, solidity=0.16, **shared | hidden)
    line = go.Scatter(
        x=x,
        y=share,
        mode="lines",
        line={"color": color, "width": 2, "dash": dash},
        hoverinfo="text",
        hovertext=[
            f"{name}: {percent(y)} ({percent(lo)} to {percent(hi)})<br>by {seconds(age)}"
            for age, y, lo, hi in zip(rows["age_s"], share, low, high, strict=True)
        ],
        name=name,
        showlegend=key,
        **shared,
    )
    return [band, line]


def _facet_label(rows: pd.DataFrame, name: str, vantages: Sequence[str]) -> str:
    groups = rows.groupby("vantage").first()
    mine: list[Any] = [groups.loc[vantage] for vantage in vantages if vantage in groups.index]
    counts, unseen = (" + ".join(str(int(one[column])) for one in mine) for column in ("n", "censored"))
    return f"<b>{layer_label(name)}</b>  n = {counts}, not seen {unseen}"


def _laws_alt(question: str, curves: pd.DataFrame) -> str:
    last = curves.groupby(["name", "vantage"], sort=False).last().reset_index()
    said = [
        f"{layer_label(row.name)} {plain(row.vantage, 18)}".strip() + f": {percent(row.share)} by {seconds(row.age_s)}"
        for row in records(last.head(6))
    ]
    return f"{question} Share of nests that showed it: {'; '.join(said)}."


def _laws_table(curves: pd.DataFrame) -> pd.DataFrame:
    """Each tenth step: the curve is smooth to the eye, the table is to be read."""
    rows = curves[curves.groupby(["name", "vantage"]).cumcount() % 10 == 9]
    return pd.DataFrame(
        {
            "layer": [layer_label(name) for name in rows["name"]],
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
        return nothing(question, "No nest's joins were proven absent or visible, so there is nothing to draw.")
    looks = (("q50", "median", BLUE, "/", -0.2), ("q90", "90 %", ORANGE, "\\", 0.2))
    low, high = reach(*(summary[f"{q}_{end}_s"] for q, *_ in looks for end in ("low", "high")))
    vertical = delay_axis(low, high)
    hours = f"{len(summary)} hour{'' if len(summary) == 1 else 's'}"
    note = (
        f"n = {int(summary['n'].sum())} nests in {hours} of day, {int(summary['censored'].sum())} not joinable by the"
        f" end (right-censored). Bars: 95 % intervals; to the top where there is no upper end. {when}"
    )
    plot_px = 230 + _HEAD_PX
    figure = blank(question, note, plot_px=plot_px, keys=["median, 95 %", "90 %, 95 %"], labels=["-0.3", "3600"])
    for name, word, color, hatch, shift in looks:
        base = [at(max(value, low) if math.isfinite(value) else low) for value in summary[f"{name}_low_s"]]
        top = [at(value) if math.isfinite(value) else vertical["range"][1] for value in summary[f"{name}_high_s"]]
        texts = [
            f"{row['name']}:00 UTC, n = {row['n']}<br>{word}: {_interval(row, name)}"
            for row in summary.to_dict("records")
        ]
        figure.add_trace(
            go.Bar(
                x=[int(hour) + shift for hour in summary["name"]],
                y=[max(end - start, 0.02) for start, end in zip(base, top, strict=True)],
                base=base,
                width=0.36,
                marker=hatched(color, hatch),
                name=f"{word}, 95 %",
                hovertext=texts,
                hoverinfo="text",
            )
        )
    vertical |= {"title": {"text": ""}, "domain": [0, 1 - _HEAD_PX / plot_px]}
    figure.update_layout(
        barmode="overlay",
        yaxis=vertical,
        xaxis=plain_axis()
        | {"range": [-0.6, 23.6], "tickvals": [0, 6, 12, 18, 23], "ticktext": ["00", "06", "12", "18", "23"]}
        | titled("hour of day of the nest's origin, UTC"),
    )
    panel_label(figure, "<b>age at which it could be joined, s (compressed)</b>", y=1)
    worst: Any = summary.iloc[int(summary["q50_s"].to_numpy(dtype=float).argmax())]
    alt = (
        f"{question} Of the {len(summary)} hours seen the median age at which a nest could be joined is greatest at"
        f" {worst['name']}:00 UTC: {_interval(worst, 'q50').removesuffix(')')}, n = {int(worst['n'])})."
    )
    names = {"name": "hour, UTC", "n": "n", "censored": "not by the end"}
    for name, word, *_ in looks:
        names |= {f"{name}_s": f"{word}, s", f"{name}_low_s": f"{word} 95 % from, s", f"{name}_high_s": f"{word} to, s"}
    return described(figure, alt, summary[list(names)].rename(columns=names))


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
        return nothing(question, f"No layer showed any nest ({unshown} looked at), so there is nothing to draw.")
    places = told[:MOST_VANTAGES]
    lanes: dict[str, Share] = {}
    for one in places:
        end = f"<br>{plain(one.vantage, 14)}" if len(told) > 1 else ""
        rank = sorted((-share.most, layer) for layer, share in one.shares.items())
        most = {layer for _, layer in rank[: max(1, MOST_LANES // len(places))]}
        lanes |= {f"{layer_label(layer)}{end}": one.shares[layer] for layer in layer_order(most)}
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
        return nothing(question, "No nest was watched in two places, so there is nothing to draw.")
    x = [round(at(age), 4) for age in known["age_s"]]
    low, high = ([round(float(y), 4) for y in known[name]] for name in ("low", "high"))
    worst: Any = known.iloc[int(known["high"].to_numpy(dtype=float).argmin())]
    least = (
        f"at most {percent(float(worst['high']))} agree at age {seconds(float(worst['age_s']))}"
        if worst["high"] < 1
        else "no disagreement is proven at any age"
    )
    note = (
        f"n = {nests} nests; {least}. The true share lies inside the band; nests count until their last proof. {when}"
    )
    plot_px = 220 + _HEAD_PX
    figure = blank(question, note, plot_px=plot_px, keys=["between the bounds"])
    texts = _agree_texts(known)
    said: dict[str, Any] = {"hoverinfo": "text", "hovertext": texts + texts[::-1], "name": "between the bounds"}
    figure.add_trace(area(x + x[::-1], low + high[::-1], BLUE, "/", size=7, solidity=0.25, width=1.5, **said))
    first, last = float(known["age_s"].min()), float(known["age_s"].max())
    vertical = share_axis(-0.02, 1.04) | {"domain": [0, 1 - _HEAD_PX / plot_px]}
    figure.update_layout(xaxis=delay_axis(first, last), yaxis=vertical, showlegend=True)
    panel_label(figure, "<b>nests of which all places say the same</b>", y=1)
    today_line(figure)
    step = max(1, len(known) // 40)
    names = {"age_s": "age, s", "n": "nests watched", "sure": "surely agree", "possible": "possibly agree"}
    return described(
        figure, f"{question} {least}; n = {nests} nests.", known[list(names)][::step].rename(columns=names)
    )


def _agree_texts(rows: pd.DataFrame) -> list[str]:
    return [
        f"{percent(row.low)} to {percent(row.high)} agree<br>at {seconds(row.age_s)}, n = {row.n}"
        for row in records(rows)
    ]


def agreement_by_time(bins: pd.DataFrame, collector: wall.Collector, *, when: str) -> go.Figure:
    """The share of the time that nests were watched in which all places agreed, by wall time; and the collector's own.

    bins: as nestobs.estimate.agreement.by_time gives them.
    """
    question = "When did the places disagree?"
    known = bins[bins["watched_s"] > 0]
    if known.empty:
        return nothing(question, "No nest was watched in two places, so there is nothing to draw.")
    plot_px = 180
    keys = ["surely agree", "possibly agree", *collector.keys]
    labels = ["100 %", *collector.labels]
    watched = float(known["watched_s"].sum())
    low, high = (float(known[name].sum()) / watched for name in ("sure_s", "possible_s"))
    note = (
        f"n = {watched / 60:,.0f} min of nests watched, in {len(known)} of {len(bins)} steps of"
        f" {wall.step_words(bins)}; of them {percent(low)} to {percent(high)} in agreement. No bar: no nest was"
        f" watched. {when}"
    )
    figure = blank(question, note, plot_px=plot_px + collector.height_px, keys=keys, labels=labels)
    texts = [
        f"{row.start_at:%Y-%m-%d %H:%M:%S} UTC<br>{percent(row.low)} to {percent(row.high)} agree"
        for row in records(known)
    ]
    for name, base, top, marker in (
        (keys[0], 0.0 * known["low"], known["low"], filled(BLUE)),
        (keys[1], known["low"], known["high"], hatched(BLUE, "/")),
    ):
        shared = {"hovertext": texts, "marker": marker | {"line": {"width": 0}}, "base": list(base), "name": name}
        figure.add_trace(wall.columns(collector, known, top - base, **shared))
    figure.update_layout(barmode="overlay", yaxis=share_axis(-0.02, 1.04))
    wall.under(figure, collector, plot_px=plot_px)
    alt = (
        f"{question} Of {watched / 60:,.0f} minutes that nests were watched, {percent(low)} to {percent(high)} in"
        " agreement."
    )
    names = {"start_at": "from, UTC", "end_at": "to, UTC", "watched_s": "watched, s", "sure_s": "surely agree, s"}
    names |= {"possible_s": "possibly agree, s"}
    return described(figure, alt, known[list(names)].rename(columns=names))


def collector_strip(collector: wall.Collector, *, when: str) -> go.Figure:
    """When the collector was at work, by itself."""
    question = "When did anybody look?"
    note = f"n = {len(collector.spans)} spans at work. {when}"
    figure = blank(question, note, plot_px=collector.height_px + 4, keys=collector.keys, labels=collector.labels)
    wall.under(figure, collector, plot_px=4)
    figure.update_layout(barmode="overlay", yaxis={"visible": False})
    spans = within(collector.spans, collector.start, collector.end)
    table = pd.DataFrame(
        {
            "vantage": [plain(name, 40) for name in spans["vantage"]],
            "at work from, UTC": spans["start_at"],
            "to, UTC": spans["end_at"],
        }
    )
    return described(figure, f"{question} {wall.said(collector)}", table)
