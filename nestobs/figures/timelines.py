"""Timelines and joins as they were observed: one nest on its lanes, many nests as bands, what people were told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nestobs.figures.canvas import (
    BLUE,
    CLEAR,
    GREEN,
    GREY,
    INK,
    MESSAGE_S,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    at,
    blank,
    delay_axis,
    described,
    filled,
    hatched,
    layer_label,
    layer_order,
    legend_key,
    nothing,
    panel_label,
    percent,
    plain_axis,
    seconds,
    today_line,
    window,
)
from nestobs.figures.text import plain
from nestobs.join.decision import GONE, JOINED, LOADING, RELEASED_FAILED, STARTING, Kind
from nestobs.observation.arrays import Floats
from nestobs.timeline.joins import KINDS

_VANTAGES: Final = ((BLUE, "/"), (VERMILLION, "\\"), (GREEN, "x"), (PURPLE, "-"))
_SYMBOLS: Final[dict[str, tuple[str, str, str]]] = {  # colour, symbol of a mark, hatch of a bar
    Kind.AUTHENTICATED: (GREEN, "circle", ""),
    Kind.GUEST: (SKY, "square", ""),
    Kind.GUEST_INSTEAD: (BLUE, "diamond", "\\"),
    Kind.STARTING_UP: (YELLOW, "triangle-up", "."),
    Kind.GONE: (VERMILLION, "x", "/"),
    Kind.UNAUTHORISED: (PURPLE, "triangle-left", "|"),
    Kind.FORBIDDEN: (PURPLE, "triangle-right", "-"),
    Kind.RATE_LIMITED: (ORANGE, "hourglass", "x"),
    Kind.API_DOWN: (GREY, "star", "+"),
    Kind.BAD_TOKEN: (ORANGE, "pentagon", "|"),
    Kind.LIVEKIT_UNREACHABLE: (ORANGE, "bowtie", ""),
    Kind.NOT_LOADED: (GREY, "hexagon", "/"),
}
_STATEMENTS: Final = (
    ("in the room", "", GREEN),
    ("“starting up”", STARTING, SKY),
    ("“no longer”", GONE, VERMILLION),
    ("“Failed”", RELEASED_FAILED, ORANGE),
    ("“Loading”", LOADING, PURPLE),
    ("other answer", "", GREY),
)
"""What a client can say, short enough for two in a row of a narrow legend; how it begins; its colour."""

_TRUTHS: Final = (("true", True, ""), ("false", False, "x"), ("unclear", None, "."))
_LANE_PX: Final = 17
MOST_CORNERS: Final = 2_000
"""Of one edge of a band: beyond, corners closer together than the axis can show are left out."""

_HAIR: Final = 0.006
"""Least drawn length of a bar, as a share of the axis: a bar of no length would be invisible."""


def _short(names: Sequence[str]) -> dict[str, str]:
    """Vantages by what tells them apart: Computer A, Computer B -> A, B. One alone needs no name."""
    if len(names) < 2:
        return dict.fromkeys(names, "")
    words = [name.split() for name in names]
    common = sum(1 for parts in zip(*words, strict=False) if len(set(parts)) == 1)
    return {name: plain(" ".join(part[common:]) or name, 8) for name, part in zip(names, words, strict=True)}


def _bars(lanes: list[dict[str, Any]], name: str, *, least: float, **style: Any) -> go.Bar:
    """Horizontal bars from `start` to `end` seconds on their lanes."""
    starts = [at(lane["start"]) for lane in lanes]
    lengths = [max(at(lane["end"]) - start, least) for lane, start in zip(lanes, starts, strict=True)]
    return go.Bar(
        orientation="h",
        y=[lane["y"] for lane in lanes],
        base=starts,
        x=lengths,
        width=0.72,
        name=name,
        hovertext=[lane["text"] for lane in lanes],
        hoverinfo="text",
        **style,
    )


# one nest


def swimlanes(timelines: pd.DataFrame, joins: pd.DataFrame, *, title: str, watched_s: float | None = None) -> go.Figure:
    """One nest, every layer and vantage: proven absent, switched somewhere in here, visible, gone; and its joins.

    Frames: the rows of one nest. watched_s: age at which watching ended, else the last bound there is.
    """
    question = f"Where did the time go? {title}"
    if timelines.empty:
        return nothing(question, "No layer of this nest was asked, so there is nothing to draw.")
    short = _short(sorted(set(timelines["vantage"]) | set(joins["vantage"])))
    end = max(_last(timelines, joins), watched_s or 0.0)
    axis = delay_axis(_first(timelines), end)
    lanes, labels = _lanes(timelines, short, end)
    traces = _attempt_traces(_attempts(joins, short, labels))
    traces = _lane_traces(lanes, short, _HAIR * (axis["range"][1] - axis["range"][0])) + traces
    keys = [trace.name for trace in traces if trace.showlegend is not False]
    note = _lane_note(timelines, joins, short)
    figure = blank(question, note, plot_px=_LANE_PX * len(labels), keys=keys, labels=labels)
    figure.add_traces(traces)
    figure.update_layout(
        barmode="overlay",
        xaxis=axis,
        yaxis=plain_axis()
        | {
            "range": [len(labels) - 0.4, -0.6],
            "tickvals": [*range(len(labels))],
            "ticktext": labels,
            "showgrid": False,
        },
    )
    today_line(figure)
    return described(figure, _lanes_alt(question, timelines, joins), _lanes_table(timelines, joins, end))


def _lanes_alt(question: str, timelines: pd.DataFrame, joins: pd.DataFrame) -> str:
    """Which layer came first and last, and how the joins ended."""
    shown = timelines[(timelines["polls"] > 0) & np.isfinite(timelines["upper_s"])].sort_values("upper_s")
    unseen = int(timelines["right_censored"].sum())
    said = f"{unseen} of {len(timelines)} layers and vantages were not seen by the end."
    if len(shown):
        first, last = (
            f"{layer_label(row.layer)} from {plain(row.vantage)} between {seconds(row.lower_s)} and"
            f" {seconds(row.upper_s)}"
            for row in (_records(shown)[0], _records(shown)[-1])
        )
        said = f"First visible: {first}; last: {last}. {said}"
    ended = ", ".join(f"{count} {plain(kind)}" for kind, count in joins["verdict"].value_counts().items())
    return f"{question} {said}" + (f" Joins: {ended}." if ended else "")


def _lanes_table(timelines: pd.DataFrame, joins: pd.DataFrame, end: float) -> pd.DataFrame:
    """Each segment of each lane, and each join as one more."""
    rows = [
        (layer_label(layer), plain(row.vantage), state, start, stop)
        for layer in layer_order(timelines["layer"])
        for row in _records(timelines[timelines["layer"] == layer].sort_values("vantage"))
        for state, start, stop in _segments(row, end)
    ]
    rows += [
        (f"join, {plain(row.role)}", plain(row.vantage), plain(row.verdict), row.arrival_age_s,
         row.arrival_age_s + row.elapsed_s)
        for row in _records(joins.sort_values(["vantage", "arrived_at"]))
        if not math.isnan(row.arrival_age_s)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["layer", "vantage", "state", "from, s", "to, s"])


def _first(timelines: pd.DataFrame) -> float:
    lower = timelines["lower_s"].to_numpy(dtype=float)
    return float(np.min(lower[np.isfinite(lower)], initial=0.0))


def _last(timelines: pd.DataFrame, joins: pd.DataFrame) -> float:
    ends = [timelines[name] for name in ("lower_s", "upper_s", "gone_upper_s")]
    values = pd.concat([*ends, joins["arrival_age_s"] + joins["elapsed_s"]]).to_numpy(dtype=float)
    return float(np.max(values[np.isfinite(values)], initial=1.0))


def _lanes(
    timelines: pd.DataFrame, short: Mapping[str, str], end: float
) -> tuple[dict[tuple[str, str], list[dict[str, Any]]], list[str]]:
    """Segments by (vantage, state), and the label of each lane."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    labels: list[str] = []
    rows = {(row.layer, row.vantage): row for row in _records(timelines)}
    for layer in layer_order(timelines["layer"]):
        for vantage in sorted(name for of, name in rows if of == layer):
            row = rows[layer, vantage]
            for state, start, stop in _segments(row, end):
                text = f"{layer_label(layer)}, {plain(vantage)}<br>{state}<br>{seconds(start)} to {seconds(stop)}"
                segment = {"y": len(labels), "start": start, "end": stop, "text": text}
                found.setdefault((vantage, state), []).append(segment)
            labels.append(f"{layer_label(layer)} {short[vantage]}".strip())
    return found, labels


def _records(frame: pd.DataFrame) -> list[Any]:
    return list(frame.itertuples())


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
    lanes: Mapping[tuple[str, str], list[dict[str, Any]]], short: Mapping[str, str], least: float
) -> list[Any]:
    traces = []
    for number, (vantage, name) in enumerate(short.items()):
        color, hatch = _VANTAGES[number % len(_VANTAGES)]
        style = {
            SWITCHED: hatched(color, hatch),
            VISIBLE: {"color": color, "line": {"color": color, "width": 1}},
        }
        for state, marker in style.items():
            if segments := lanes.get((vantage, state)):
                traces.append(_bars(segments, f"{name}: {state}" if name else state, least=least, marker=marker))
    grey = {
        ABSENT: {"color": GREY, "opacity": 0.28, "line": {"width": 0}},
        UNSEEN: hatched(GREY, "."),
        WENT: hatched(GREY, "x"),
    }
    for state, marker in grey.items():
        segments = [one for vantage in short for one in lanes.get((vantage, state), [])]
        if segments:
            traces.append(_bars(segments, state, least=0.0 if state == ABSENT else least, marker=marker))
    return traces


def _attempts(joins: pd.DataFrame, short: Mapping[str, str], labels: list[str]) -> list[dict[str, Any]]:
    """One lane per join, added to the labels."""
    found = []
    for row in _records(joins.sort_values(["vantage", "arrived_at"])):
        if math.isnan(row.arrival_age_s):
            continue
        who = "guest" if row.role == "guest" else "signed in"
        text = (
            f"join from {plain(row.vantage)}, {who}<br>{plain(row.verdict)} {seconds(row.elapsed_s)} after arrival"
            f"<br>{row.requests} requests, policy {plain(row.policy)}"
        )
        found.append({"y": len(labels), "from": row.arrival_age_s, "row": row, "text": text})
        labels.append(f"join, {'guest' if row.role == 'guest' else 'user'} {short[row.vantage]}".strip())
    return found


def _attempt_traces(attempts: list[dict[str, Any]]) -> list[Any]:
    """Arrival to verdict as a line, the verdict as a symbol at its end."""
    traces: list[Any] = []
    for kind in KINDS:
        color, symbol, _ = _SYMBOLS[kind]
        for number, one in enumerate(a for a in attempts if a["row"].verdict == kind):
            x = [at(one["from"]), at(one["from"] + one["row"].elapsed_s)]
            line = go.Scatter(
                x=x,
                y=[one["y"]] * 2,
                mode="lines+markers",
                line={"color": INK, "width": 1.5, "dash": "dot"},
                marker={"symbol": ["line-ns-open", symbol], "size": [9, 11], "color": color, "opacity": 1}
                | {"line": {"color": INK, "width": 1}},
                hovertext=[one["text"]] * 2,
                hoverinfo="text",
                showlegend=False,
            )
            traces.append(line)
            if number == 0:
                traces.append(legend_key(kind.replace("_", " "), color, symbol))
    return traces


def _lane_note(timelines: pd.DataFrame, joins: pd.DataFrame, short: Mapping[str, str]) -> str:
    names = ", ".join(f"{name} = {plain(vantage)}" for vantage, name in short.items() if name)
    spans = [timelines[name] for name in ("origin_at", "lower_at", "upper_at")]
    return (
        f"n = {len(timelines)} intervals, {int(timelines['right_censored'].sum())} not seen by the end,"
        f" {int(timelines['left_censored'].sum())} seen at the first proof; {len(joins)} joins."
        f" {window(*spans, joins['arrived_at'])}" + (f"; {names}" if names else "")
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
        return nothing(question, "No layer proved anything of any nest, so there is nothing to draw.")
    layers, vantages = layer_order(proven["layer"]), sorted(set(proven["vantage"]))
    figure = blank(
        question,
        _band_note(timelines, proven),
        plot_px=92 * len(layers),
        keys=[plain(vantage, 18) for vantage in vantages],
    )
    end = _last_bound(proven)
    share, step = 1 / len(layers), _Facets(len(layers))
    for number, layer in enumerate(layers):
        for place, vantage in enumerate(vantages):
            rows = proven[(proven["layer"] == layer) & (proven["vantage"] == vantage)]
            if len(rows):
                figure.add_trace(_band(rows, vantage, place, end, axis=step.axis(number), key=number == 0))
        figure.update_layout({step.name(number): step.layout(number)})
        panel_label(figure, _band_label(proven, layer, vantages), y=1 - number * share)
    figure.update_layout(xaxis=delay_axis(_first(proven), end, anchor=step.axis(len(layers) - 1)))
    today_line(figure)
    return described(figure, _bands_alt(question, proven), _bands_table(proven))


_TOLD_S: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Ages at which the table beside the bands says where they are."""


def _bands_alt(question: str, proven: pd.DataFrame) -> str:
    said = []
    for layer in layer_order(proven["layer"])[:8]:
        rows = proven[proven["layer"] == layer]
        sure, possible = _between(rows, MESSAGE_S)
        said.append(f"{layer_label(layer)} {percent(sure)} to {percent(possible)}")
    return f"{question} Visible by {MESSAGE_S:g} s, of {_nests(proven)} nests: {'; '.join(said)}."


def _between(rows: pd.DataFrame, age_s: float) -> tuple[float, float]:
    """Shares surely and possibly visible by an age."""
    upper, lower = (rows[name].to_numpy(dtype=float) for name in ("upper_s", "lower_s"))
    return float((upper <= age_s).mean()), float((lower < age_s).mean())


def _bands_table(proven: pd.DataFrame) -> pd.DataFrame:
    rows = []
    end = _last_bound(proven)
    for layer in layer_order(proven["layer"]):
        for vantage, mine in proven[proven["layer"] == layer].groupby("vantage"):
            for age in [one for one in _TOLD_S if one < end] + [end]:
                sure, possible = _between(mine, age)
                rows.append((layer_label(layer), plain(vantage), len(mine), age, 100 * sure, 100 * possible))
    names = ["layer", "vantage", "n", "age, s", "surely visible, %", "possibly visible, %"]
    return pd.DataFrame(rows, columns=names)


@dataclass(frozen=True, slots=True)
class _Facets:
    """y axes stacked from the top, one per layer, on one x axis."""

    count: int

    def axis(self, number: int) -> str:
        return "y" if number == 0 else f"y{number + 1}"

    def name(self, number: int) -> str:
        return "yaxis" if number == 0 else f"yaxis{number + 1}"

    def layout(self, number: int) -> dict[str, Any]:
        top = 1 - number / self.count
        ticks = {"tickvals": [0, 0.5, 1], "ticktext": ["0 %", "50 %", "100 %"], "range": [-0.04, 1.06]}
        return plain_axis() | ticks | {"domain": [top - 0.76 / self.count, top - 0.22 / self.count], "anchor": "x"}


def _band(rows: pd.DataFrame, vantage: str, place: int, end: float, *, axis: str, key: bool) -> go.Scatter:
    """The closed outline of one band."""
    color, hatch = _VANTAGES[place % len(_VANTAGES)]
    sure = _steps(rows["upper_s"].to_numpy(dtype=float), end)
    possible = _steps(rows["lower_s"].to_numpy(dtype=float), end, above=True)
    outline = sure + possible[::-1]
    return go.Scatter(
        x=[at(x) for x, _ in outline],
        y=[y for _, y in outline],
        yaxis=axis,
        mode="lines",
        line={"color": color, "width": 1.5, "dash": "solid" if place == 0 else "dash"},
        fill="toself",
        fillcolor=color,
        fillpattern={"shape": hatch, "fgcolor": color, "bgcolor": CLEAR, "size": 6, "solidity": 0.3},
        hoverinfo="text",
        hovertext=[f"{plain(vantage)}: {y:.0%} by {seconds(x)}" for x, y in outline],
        name=plain(vantage, 18),
        legendgroup=str(place),
        showlegend=key,
    )


def _steps(ends: np.ndarray[Any, Any], end: float, *, above: bool = False) -> list[tuple[float, float]]:
    """Corners of the share of `ends` passed, from the left edge to `end`; above: of the band's upper edge."""
    passed = np.sort(np.where(np.isneginf(ends), min(0.0, float(np.min(ends[np.isfinite(ends)], initial=0.0))), ends))
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


def _last_bound(proven: pd.DataFrame) -> float:
    values = proven[["lower_s", "upper_s"]].to_numpy(dtype=float).ravel()
    return float(np.max(values[np.isfinite(values)], initial=1.0))


def _band_label(proven: pd.DataFrame, layer: str, vantages: Sequence[str]) -> str:
    rows = proven[proven["layer"] == layer]
    mine = [rows.loc[rows["vantage"] == vantage, "right_censored"] for vantage in vantages]
    counts, unseen = (" + ".join(str(int(n)) for n in ns) for ns in ([len(m) for m in mine], [m.sum() for m in mine]))
    return f"<b>{layer_label(layer)}</b>  n = {counts}, not seen {unseen}"


def _band_note(timelines: pd.DataFrame, proven: pd.DataFrame) -> str:
    without = len(timelines) - len(proven)
    return (
        f"n = {len(proven)} intervals of {_nests(proven)} nests, {int(proven['right_censored'].sum())} not seen by the"
        f" end (right-censored), {int(proven['left_censored'].sum())} seen at the first proof (left-censored)"
        + (f", {without} more without any proof" if without else "")
        + f". {window(proven['origin_at'], proven['upper_at'], proven['lower_at'])}"
    )


def _nests(timelines: pd.DataFrame) -> int:
    return int((timelines["trace_id"] + timelines["nest"]).nunique())


# joins


def messages(joins: pd.DataFrame) -> go.Figure:
    """By scenario: what `guide` and `released` would have said to each joiner at arrival, and whether it was true.

    `joins` may have a column `scenario`.
    """
    question = "What would the web client have told each joiner, and was it true?"
    if joins.empty:
        return nothing(question, "No join came to a verdict, so there is nothing to draw.")
    said = pd.concat([_said(joins, baseline) for baseline in ("guide", "released")])
    lanes = _rows(said["lane"])
    unknown = int(said["truth"].isna().sum())
    note = f"n = {len(joins)} joins, each asked of both clients; {unknown} of {len(said)} statements cannot be judged"
    traces = []
    for name, _, color in _STATEMENTS:
        for word, truth, hatch in _TRUTHS:
            mine = said[(said["statement"] == name) & said["truth"].isin([pd.NA if truth is None else truth])]
            if len(mine):
                label = f"{name}: {word}" if name.startswith("“") else name
                traces.append(_stack(mine["lane"].value_counts(), lanes, label, filled(color, hatch)))
    keys, plot_px = [trace.name for trace in traces], 34 * len(lanes) + 10
    figure = blank(question, f"{note}. {window(joins['arrived_at'])}", plot_px=plot_px, keys=keys, labels=lanes)
    figure.add_traces(traces)
    _stacked(figure, lanes, "joiners")
    return described(figure, _messages_alt(question, joins), _messages_table(said))


def _messages_alt(question: str, joins: pd.DataFrame) -> str:
    parts = []
    for baseline in ("guide", "released"):
        judged = joins[f"{baseline}_true"].dropna().astype(bool)
        parts.append(f"{baseline}: {int((~judged).sum())} of {len(judged)} told something untrue,"
                     f" {len(joins) - len(judged)} unclear")  # fmt: skip
    return f"{question} Of {len(joins)} joiners, {'; '.join(parts)}."


def _messages_table(said: pd.DataFrame) -> pd.DataFrame:
    """A row a lane and statement."""
    truth = said["truth"].map({True: "true", False: "false"}).astype(object).fillna("unclear")
    counts = said.assign(truth=truth).groupby(["lane", "statement", "truth"]).size().reset_index(name="joiners")
    lane, client = zip(*(name.split("<br>") for name in counts["lane"]), strict=True)
    columns = {"of": lane, "client": client, "it would have said": counts["statement"], "which was": counts["truth"]}
    return pd.DataFrame(columns | {"joiners": counts["joiners"]})


def _said(joins: pd.DataFrame, baseline: str) -> pd.DataFrame:
    scenario = joins["scenario"] if "scenario" in joins else pd.Series("all", index=joins.index)
    pairs = zip(joins[f"{baseline}_verdict"], joins[f"{baseline}_message"], strict=True)
    return pd.DataFrame(
        {
            "lane": [f"{plain(name, 16)}<br>{baseline}" for name in scenario],
            "statement": [_statement(verdict, message) for verdict, message in pairs],
            "truth": joins[f"{baseline}_true"].to_numpy(),
        }
    )


def _statement(verdict: str, message: str) -> str:
    if verdict in JOINED:
        return _STATEMENTS[0][0]
    known = [name for name, start, _ in _STATEMENTS if start and message.startswith(start)]
    return known[0] if known else _STATEMENTS[-1][0]


def verdicts(joins: pd.DataFrame) -> go.Figure:
    """How the real joins ended, by scenario. `joins` may have a column `scenario`."""
    question = "How did the joins end?"
    if joins.empty:
        return nothing(question, "No join came to a verdict, so there is nothing to draw.")
    scenario = joins["scenario"] if "scenario" in joins else pd.Series("all", index=joins.index)
    lane = scenario.map(lambda name: plain(name, 16))
    lanes = _rows(lane)
    policies = ", ".join(plain(name, 24) for name in sorted(set(joins["policy"])))
    note = (
        f"n = {len(joins)} joins under {policies}; {int(joins['joined'].sum())} joined. {window(joins['arrived_at'])}"
    )
    kinds = [kind for kind in KINDS if (joins["verdict"] == kind).any()]
    figure = blank(question, note, plot_px=34 * len(lanes) + 10, keys=kinds, labels=lanes)
    for kind in kinds:
        color, _, hatch = _SYMBOLS[kind]
        counts = lane[joins["verdict"] == kind].value_counts()
        figure.add_trace(_stack(counts, lanes, kind.replace("_", " "), filled(color, hatch)))
    _stacked(figure, lanes, "joins")
    ends = joins.assign(lane=lane).groupby(["lane", "verdict"]).size().reset_index(name="joins")
    ended = ", ".join(f"{plain(kind)} {count}" for kind, count in joins["verdict"].value_counts().items())
    alt = f"{question} {int(joins['joined'].sum())} of {len(joins)} joined: {ended}."
    table = pd.DataFrame({"of": ends["lane"], "verdict": ends["verdict"].map(plain), "joins": ends["joins"]})
    return described(figure, alt, table)


def _rows(lane: pd.Series) -> list[str]:
    return sorted(set(lane))


def _stack(counts: pd.Series, lanes: Sequence[str], name: str, marker: Mapping[str, Any]) -> go.Bar:
    values = [int(counts.get(lane, 0)) for lane in lanes]
    return go.Bar(
        orientation="h",
        y=list(range(len(lanes))),
        x=values,
        width=0.7,
        name=name,
        marker=dict(marker),
        hovertext=[f"{lane}<br>{name}: {value}" for lane, value in zip(lanes, values, strict=True)],
        hoverinfo="text",
    )


def _stacked(figure: go.Figure, lanes: Sequence[str], unit: str) -> None:
    count = {
        "title": {"text": f"number of {unit}", "font": {"size": 12}, "standoff": 6},
        "rangemode": "tozero",
        "tickformat": "d",
    }
    labels = {"tickvals": [*range(len(lanes))], "ticktext": list(lanes), "range": [len(lanes) - 0.4, -0.6]}
    figure.update_layout(
        xaxis=plain_axis() | count,
        yaxis=plain_axis() | labels | {"showgrid": False, "ticks": "outside", "ticklen": 5, "tickcolor": CLEAR},
    )


# calibration


_JUDGED: Final = (
    ("contains it", True, filled(GREEN)),
    ("misses it", False, filled(VERMILLION, "x")),
    ("cannot be judged", None, filled(GREY, ".")),
)


def coverage(judged: pd.DataFrame) -> go.Figure:
    """By layer: how many intervals contain the lab's truth, and how wide they are."""
    question = "Do the measured intervals contain the truth?"
    known = judged[judged["contains"].notna()]
    if known.empty:
        return nothing(question, "No interval has a truth to be judged by, so there is nothing to draw.")
    layers = layer_order(judged["layer"])
    lanes = [layer_label(layer) for layer in layers]
    inside = int(known["contains"].sum())
    note = (
        f"n = {len(known)} intervals: {inside} contain it, {len(known) - inside} miss it;"
        f" {len(judged) - len(known)} more cannot be judged. {int(np.isinf(known['upper_s']).sum())} right-censored."
        " To the right the median width of those with two ends."
    )
    keys = [name for name, _, _ in _JUDGED]
    figure = blank(question, note, plot_px=26 * len(lanes) + 10, keys=keys, labels=lanes)
    label = judged["layer"].map(layer_label)
    for name, wanted, marker in _JUDGED:
        mine = judged["contains"].isin([pd.NA if wanted is None else wanted])
        if mine.any():
            figure.add_trace(_stack(label[mine].value_counts(), lanes, name, marker))
    _stacked(figure, lanes, "intervals")
    figure.update_layout(margin={"r": 66}, showlegend=True)
    for number, layer in enumerate(layers):
        width = known.loc[(known["layer"] == layer) & np.isfinite(known["width_s"]), "width_s"].median()
        text = "no width" if math.isnan(width) else seconds(width)
        figure.add_annotation(x=1.01, xref="paper", xanchor="left", y=number, yref="y", text=text, showarrow=False)
    alt = (
        f"{question} {inside} of {len(known)} intervals contain it, {len(known) - inside} miss it;"
        f" {len(judged) - len(known)} cannot be judged."
    )
    return described(figure, alt, _judged_table(judged, layers))


def _judged_table(judged: pd.DataFrame, layers: Sequence[str]) -> pd.DataFrame:
    rows = []
    for layer in layers:
        mine = judged[judged["layer"] == layer]
        known = mine[mine["contains"].notna()]
        inside = int(known["contains"].sum())
        width = known.loc[np.isfinite(known["width_s"]), "width_s"].median()
        rows.append((layer_label(layer), inside, len(known) - inside, len(mine) - len(known), float(width)))
    return pd.DataFrame(rows, columns=["layer", "contain it", "miss it", "cannot be judged", "median width, s"])
