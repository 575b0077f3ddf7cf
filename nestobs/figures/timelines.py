"""Timelines as they were observed: one nest on its lanes with its joins, many nests as bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import canvas, marks
from nestobs.figures.canvas import GREY, INK, at, reach
from nestobs.figures.messages import SYMBOLS
from nestobs.figures.text import layer_label, layer_name, layer_order, plain, seconds
from nestobs.join.policy import MESSAGE_S
from nestobs.observation.arrays import Floats
from nestobs.observation.columns import records
from nestobs.observation.text import percent
from nestobs.timeline.joins import KINDS
from nestobs.timeline.nests import count_nests

_LANE_PX: Final = 17
MOST_CORNERS: Final = 2_000
"""Of one edge of a band: beyond, corners closer together than the axis can show are left out."""


def _short(names: Sequence[str]) -> dict[str, str]:
    """Vantages by what tells them apart: Computer A, Computer B -> A, B. One alone needs no name."""
    if len(names) < 2:
        return dict.fromkeys(names, "")
    words = [name.split() for name in names]
    common = sum(1 for parts in zip(*words, strict=False) if len(set(parts)) == 1)
    return {name: plain(" ".join(part[common:]) or name, 8) for name, part in zip(names, words, strict=True)}


# one nest


def swimlanes(timelines: pd.DataFrame, joins: pd.DataFrame, *, title: str, watched_s: float | None = None) -> go.Figure:
    """One nest, every layer and vantage: proven absent, switched somewhere in here, visible, gone; and its joins.

    Frames: the rows of one nest. watched_s: age at which watching ended, else the last bound there is.
    """
    question = f"Where did the time go? {title}"
    if timelines.empty:
        return canvas.nothing(question, "No layer of this nest was asked, so there is nothing to draw.")
    short = _short(sorted(set(timelines["vantage"]) | set(joins["vantage"])))
    ends = [timelines[name] for name in ("lower_s", "upper_s", "gone_upper_s")]
    end = max(reach(*ends, joins["arrival_age_s"] + joins["elapsed_s"])[1], watched_s or 0.0)
    across = canvas.delay_axis(reach(timelines["lower_s"])[0], end)
    lanes, labels = _lanes(timelines, short, end)
    attempts = _attempts(joins, short, labels)
    least = marks.HAIR * (across["range"][1] - across["range"][0])
    figure = canvas.drawn(
        question,
        _lane_note(timelines, joins, short),
        [*_lane_traces(lanes, short, least), *_attempt_traces(attempts)],
        plot_px=_LANE_PX * len(labels),
        labels=labels,
        barmode="overlay",
        xaxis=across,
        yaxis=canvas.lane_axis(labels),
    )
    canvas.today_line(figure)
    canvas.named(figure, map(layer_name, layer_order(timelines["layer"])))
    return canvas.described(figure, _lanes_alt(question, timelines, joins), _lanes_table(timelines, joins, end))


def _lanes_alt(question: str, timelines: pd.DataFrame, joins: pd.DataFrame) -> str:
    """Which layer came first and last, and how the joins ended."""
    shown = timelines[(timelines["polls"] > 0) & np.isfinite(timelines["upper_s"])].sort_values("upper_s")
    unseen = int(timelines["right_censored"].sum())
    said = f"{unseen} of {len(timelines)} layers and vantages were not seen by the end."
    if len(shown):
        first, last = (
            f"{layer_name(row.layer)} from {plain(row.vantage)} between {seconds(row.lower_s)} and"
            f" {seconds(row.upper_s)}"
            for row in (records(shown)[0], records(shown)[-1])
        )
        said = f"First visible: {first}; last: {last}. {said}"
    ended = ", ".join(f"{count} {plain(kind)}" for kind, count in joins["verdict"].value_counts().items())
    return f"{question} {said}" + (f" Joins: {ended}." if ended else "")


def _lanes_table(timelines: pd.DataFrame, joins: pd.DataFrame, end: float) -> pd.DataFrame:
    """Each segment of each lane, and each join as one more."""
    rows = [
        (layer_name(layer), plain(row.vantage), state, start, stop)
        for layer in layer_order(timelines["layer"])
        for row in records(timelines[timelines["layer"] == layer].sort_values("vantage"))
        for state, start, stop in _segments(row, end)
    ]
    rows += [
        (f"join, {plain(row.role)}", plain(row.vantage), plain(row.verdict), row.arrival_age_s, _over_s(row))
        for row in _dated(joins)
    ]
    return pd.DataFrame(rows, columns=["layer", "vantage", "state", "from, s", "to, s"])


def _dated(joins: pd.DataFrame) -> list[Any]:
    """The joins that have an age, by vantage."""
    return records(joins[joins["arrival_age_s"].notna()].sort_values(["vantage", "arrived_at"]))


def _over_s(row: Any) -> float:
    return float(row.arrival_age_s + row.elapsed_s)


_Segment = tuple[int, tuple[float, float], str]
"""Its lane, where it starts and ends in seconds, and what is said of it."""


def _lanes(
    timelines: pd.DataFrame, short: Mapping[str, str], end: float
) -> tuple[dict[tuple[str, str], list[_Segment]], list[str]]:
    """Segments by (vantage, state), and the label of each lane."""
    found: dict[tuple[str, str], list[_Segment]] = {}
    labels: list[str] = []
    rows = {(row.layer, row.vantage): row for row in records(timelines)}
    for layer in layer_order(timelines["layer"]):
        for vantage in sorted(name for of, name in rows if of == layer):
            for state, start, stop in _segments(rows[layer, vantage], end):
                text = f"{layer_name(layer)}, {plain(vantage)}<br>{state}<br>{seconds(start)} to {seconds(stop)}"
                found.setdefault((vantage, state), []).append((len(labels), (start, stop), text))
            labels.append(f"{layer_label(layer)} {short[vantage]}".strip())
    return found, labels


ABSENT, SWITCHED, VISIBLE, UNSEEN, WENT = (
    "proven absent",
    "switched in here",
    "visible",
    "not seen by the end",
    "went in here",
)


def _segments(row: Any, end: float) -> list[tuple[str, float, float]]:
    """What is known of one layer, from first to last: (state, from, to) in seconds."""
    start = min(0.0, row.lower_s) if math.isfinite(row.lower_s) else 0.0
    lower = row.lower_s if math.isfinite(row.lower_s) else start
    if math.isnan(row.lower_s) or row.polls == 0:
        return []
    before = [(ABSENT, start, lower)] if lower > start else []
    if row.right_censored:
        return [*before, (UNSEEN, lower, end)]
    went = not math.isnan(row.gone_upper_s)
    until = row.gone_lower_s if went else end
    after = [(WENT, row.gone_lower_s, row.gone_upper_s), (ABSENT, row.gone_upper_s, end)] if went else []
    return [*before, (SWITCHED, lower, row.upper_s), (VISIBLE, row.upper_s, max(until, row.upper_s)), *after]


def _lane_traces(
    lanes: Mapping[tuple[str, str], list[_Segment]], short: Mapping[str, str], least: float
) -> list[go.Bar]:
    traces = []
    for number, (vantage, name) in enumerate(short.items()):
        color, hatch, _ = marks.VANTAGES[number % len(marks.VANTAGES)]
        solid = {"color": color, "line": {"color": color, "width": 1}}
        for state, marker in ((SWITCHED, marks.hatched(color, hatch)), (VISIBLE, solid)):
            if segments := lanes.get((vantage, state)):
                traces.append(_bars(segments, f"{name}: {state}" if name else state, marker, least))
    grey = {
        ABSENT: {"color": GREY, "opacity": 0.28, "line": {"width": 0}},
        UNSEEN: marks.hatched(GREY, "."),
        WENT: marks.hatched(GREY, "x"),
    }
    for state, marker in grey.items():
        if segments := [one for vantage in short for one in lanes.get((vantage, state), [])]:
            traces.append(_bars(segments, state, marker, 0.0 if state == ABSENT else least))
    return traces


def _bars(segments: Sequence[_Segment], name: str, marker: dict[str, Any], least: float) -> go.Bar:
    places, ends, texts = zip(*segments, strict=True)
    shown = [(at(start), at(end)) for start, end in ends]
    return marks.spans(places, shown, texts, marker, least=least, width=0.72, name=name)


def _attempts(joins: pd.DataFrame, short: Mapping[str, str], labels: list[str]) -> list[tuple[int, Any, str]]:
    """One lane per join, added to the labels: its place, its row, and what is said of it."""
    found = []
    for row in _dated(joins):
        who = "guest" if row.role == "guest" else "signed in"
        text = (
            f"join from {plain(row.vantage)}, {who}<br>{plain(row.verdict)} {seconds(row.elapsed_s)} after arrival"
            f"<br>{row.requests} requests, policy {plain(row.policy)}"
        )
        found.append((len(labels), row, text))
        labels.append(f"join, {'guest' if row.role == 'guest' else 'user'} {short[row.vantage]}".strip())
    return found


def _attempt_traces(attempts: list[tuple[int, Any, str]]) -> list[go.Scatter]:
    """Arrival to verdict as a line, the verdict as a symbol at its end."""
    traces = []
    for kind in KINDS:
        color, symbol, _ = SYMBOLS[kind]
        marker = marks.outlined(["line-ns-open", symbol], color, [9, 11]) | {"opacity": 1}
        for number, (place, row, text) in enumerate(one for one in attempts if one[1].verdict == kind):
            x = at(row.arrival_age_s), at(_over_s(row))
            traces.append(marks.line(x, [place] * 2, INK, 1.5, "dot", texts=[text] * 2, marker=marker))
            if number == 0:
                traces.append(marks.legend_key(kind.replace("_", " "), color, symbol))
    return traces


def _lane_note(timelines: pd.DataFrame, joins: pd.DataFrame, short: Mapping[str, str]) -> str:
    names = ", ".join(f"{name} = {plain(vantage)}" for vantage, name in short.items() if name)
    spans = [timelines[name] for name in ("origin_at", "lower_at", "upper_at")]
    return (
        f"n = {len(timelines)} intervals, {int(timelines['right_censored'].sum())} not seen by the end,"
        f" {int(timelines['left_censored'].sum())} seen at the first proof; {len(joins)} joins."
        f" {canvas.window(*spans, joins['arrived_at'])}" + (f"; {names}" if names else "")
    )


# many nests


def first_visible(timelines: pd.DataFrame, *, title: str = "") -> go.Figure:
    """By layer and vantage: the share of nests visible by each age, as the band between its two bounds.

    Between #(upper <= t) / n and #(lower < t) / n nothing is assumed but the intervals themselves. Of many nests the
    edges of a band keep at most MOST_CORNERS corners each, always so that the band is no narrower than the truth: see
    `_thinned`.
    """
    question = f"When does each layer show a nest? {title}".strip()
    proven = timelines[(timelines["polls"] > 0) & timelines["lower_s"].notna()]
    if proven.empty:
        return canvas.nothing(question, "No layer proved anything of any nest, so there is nothing to draw.")
    vantages = sorted(set(proven["vantage"]))
    end = reach(proven["lower_s"], proven["upper_s"])[1]
    panels = []
    for layer in layer_order(proven["layer"]):
        mine = proven[proven["layer"] == layer]
        parts = [mine[mine["vantage"] == vantage] for vantage in vantages]
        bands = [_band(rows, layer, place, end) for place, rows in enumerate(parts) if len(rows)]
        title = marks.facet_title(layer, map(len, parts), (rows["right_censored"].sum() for rows in parts))
        panels.append((title, bands))
    note = _band_note(timelines, proven)
    figure = marks.facets(question, note, panels, (reach(proven["lower_s"])[0], end), panel_px=92, bottom=0.76)
    canvas.named(figure, map(layer_name, layer_order(proven["layer"])))
    return canvas.described(figure, _bands_alt(question, proven), _bands_table(proven))


_TOLD_S: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Ages at which the table beside the bands says where they are."""


def _bands_alt(question: str, proven: pd.DataFrame) -> str:
    said = []
    for layer in layer_order(proven["layer"])[:8]:
        rows = proven[proven["layer"] == layer]
        sure, possible = _between(rows, MESSAGE_S)
        said.append(f"{layer_name(layer)} {percent(sure)} to {percent(possible)}")
    return f"{question} Visible by {MESSAGE_S:g} s, of {count_nests(proven)} nests: {'; '.join(said)}."


def _between(rows: pd.DataFrame, age_s: float) -> tuple[float, float]:
    """Shares surely and possibly visible by an age."""
    upper, lower = (rows[name].to_numpy(dtype=float) for name in ("upper_s", "lower_s"))
    return float((upper <= age_s).mean()), float((lower < age_s).mean())


def _bands_table(proven: pd.DataFrame) -> pd.DataFrame:
    rows = []
    end = reach(proven["lower_s"], proven["upper_s"])[1]
    for layer in layer_order(proven["layer"]):
        for vantage, mine in proven[proven["layer"] == layer].groupby("vantage"):
            for age in [one for one in _TOLD_S if one < end] + [end]:
                sure, possible = _between(mine, age)
                rows.append((layer_name(layer), plain(vantage), len(mine), age, 100 * sure, 100 * possible))
    names = ["layer", "vantage", "n", "age, s", "surely visible, %", "possibly visible, %"]
    return pd.DataFrame(rows, columns=names)


def _band(rows: pd.DataFrame, layer: str, place: int, end: float) -> go.Scatter:
    """The closed outline of one vantage's band."""
    vantage = rows["vantage"].iloc[0]
    color, hatch, _ = marks.VANTAGES[place % len(marks.VANTAGES)]
    sure = _steps(rows["upper_s"].to_numpy(dtype=float), end)
    possible = _steps(rows["lower_s"].to_numpy(dtype=float), end, above=True)
    outline = sure + possible[::-1]
    texts = [f"{layer_name(layer)}, {plain(vantage)}: {percent(y)} by {seconds(x)}" for x, y in outline]
    x, y = [at(x) for x, _ in outline], [y for _, y in outline]
    look: dict[str, Any] = {"fillcolor": color, "size": 6, "solidity": 0.3, "width": 1.5}
    look |= {"dash": "solid" if place == 0 else "dash", "legendgroup": str(place), "name": plain(vantage, 18)}
    return marks.area(x, y, color, hatch, texts=texts, **look)


def _steps(ends: np.ndarray[Any, Any], end: float, *, above: bool = False) -> list[tuple[float, float]]:
    """Corners of the share of `ends` passed, from the left edge to `end`; above: of the band's upper edge."""
    passed = np.sort(np.where(np.isneginf(ends), reach(ends)[0], ends))
    begin = min(0.0, float(passed[0]))
    values = passed[np.isfinite(passed)]
    ages, last = np.unique(values, return_index=True)
    shares = np.append(last[1:], len(values)) / len(ends) if len(ages) else np.empty(0)
    ages, shares = _thinned(ages, shares, above=above)
    before = np.concatenate([[0.0], shares])
    corners = [(begin, 0.0)]
    for age, low, high in zip(ages.tolist(), before[:-1].tolist(), before[1:].tolist(), strict=True):
        corners += [(age, low), (age, high)]
    return [*corners, (max(end, corners[-1][0]), corners[-1][1])]


def _thinned(ages: Floats, shares: Floats, *, above: bool) -> tuple[Floats, Floats]:
    """At most MOST_CORNERS / 2 steps of a rising edge, evenly on the compressed axis: of those in one cell one is left.

    The lower edge takes the cell's last age, the upper edge its first, both with the share after the cell: the band
    only widens, by at most a cell, which is 1 / 1000 of the axis.
    """
    most = MOST_CORNERS // 2
    if len(ages) <= most:
        return ages, shares
    places = np.arcsinh(ages / 0.3)
    cell = np.minimum(((places - places[0]) / (places[-1] - places[0]) * most).astype(np.int64), most - 1)
    last = np.flatnonzero(np.append(np.diff(cell) != 0, True))
    first = np.concatenate([[0], last[:-1] + 1])
    return ages[first if above else last], shares[last]


def _band_note(timelines: pd.DataFrame, proven: pd.DataFrame) -> str:
    without = len(timelines) - len(proven)
    return (
        f"n = {len(proven)} intervals of {count_nests(proven)} nests,"
        f" {int(proven['right_censored'].sum())} not seen by the end (right-censored),"
        f" {int(proven['left_censored'].sum())} seen at the first proof (left-censored)"
        + (f", {without} more without any proof" if without else "")
        + f". {canvas.window(proven['origin_at'], proven['upper_at'], proven['lower_at'])}"
    )
