"""Joins on their way: when they came, what answered them, where the time went."""

from __future__ import annotations

from typing import Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import time_axis as wall
from nestobs.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    blank,
    described,
    host,
    nothing,
    plain_axis,
    seconds,
)
from nestobs.figures.marks import filled, stack, stacked
from nestobs.figures.text import plain

_LANE_PX: Final = 34
MOST_LANES: Final = 12

_FATES: Final = (
    ("joined", "joined", GREEN, ""),
    ("lost", "lost: a seat was there", VERMILLION, "x"),
    ("not_had", "no seat was there", SKY, "/"),
    ("unclear", "cannot be known", GREY, "."),
)
_ANSWERS: Final = {
    "granted": (GREEN, ""),
    "404": (SKY, "/"),
    "401": (PURPLE, "|"),
    "403": (PURPLE, "-"),
    "429": (ORANGE, "x"),
    "5xx": (VERMILLION, "x"),
    "timeout": (GREY, "."),
    "reset": (GREY, "\\"),
    "not reached": (GREY, "+"),
    "bad token": (ORANGE, "|"),
    "own budget": (YELLOW, "."),
    "other": (YELLOW, "-"),
}
_PARTS: Final = (
    ("waiting_s", "waiting", SKY, "/"),
    ("requests_s", "requests", BLUE, ""),
    ("signal_s", "signalling", ORANGE, "\\"),
    ("media_s", "media", PURPLE, "x"),
)


def over_time(bins: pd.DataFrame, collector: wall.Collector, *, when: str) -> go.Figure:
    """How many joins came when, and how they ended; and when the collector was at work.

    bins: as nestobs.timeline.funnel.by_time gives them.
    """
    question = "When did people come, and did they get in?"
    total = int(bins[[name for name, *_ in _FATES]].to_numpy().sum())
    if not total:
        return nothing(question, "No join came to a verdict in this time, so there is nothing to draw.")
    drawn = [fate for fate in _FATES if bins[fate[0]].any()]
    counts = {word: int(bins[name].sum()) for name, word, *_ in drawn}
    plot_px = 180
    figure = blank(
        question,
        f"n = {total} joins in steps of {wall.step_words(bins)}: {_counted(counts)}. {when}",
        plot_px=plot_px + collector.height_px,
        keys=[*counts, *collector.keys],
        labels=["1000", *collector.labels],
    )
    for name, word, color, hatch in drawn:
        stamps = zip(bins["start_at"], bins[name], strict=True)
        texts = [f"{at:%Y-%m-%d %H:%M:%S} UTC<br>{word}: {count}" for at, count in stamps]
        figure.add_trace(
            wall.columns(collector, bins, bins[name], marker=filled(color, hatch), name=word, hovertext=texts)
        )
    figure.update_layout(yaxis=plain_axis() | {"rangemode": "tozero", "tickformat": "d"})
    wall.under(figure, collector, plot_px=plot_px)
    names = {"start_at": "from, UTC", "end_at": "to, UTC"} | {name: word for name, word, *_ in drawn}
    table = bins[bins[[name for name, *_ in _FATES]].sum(axis=1) > 0]
    return described(
        figure, f"{question} Of {total} joins: {_counted(counts)}.", table[list(names)].rename(columns=names)
    )


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in counts.items())


def answers(counted: pd.DataFrame, *, when: str) -> go.Figure:
    """What came of each kind of request at each target. counted: as nestobs.timeline.funnel.answers gives it."""
    question = "What were the joins answered on their way?"
    if counted.empty:
        return nothing(question, "No join's own request is known, so there is nothing to draw.")
    asked = zip(counted["operation"], counted["target"], strict=True)
    rows = counted.assign(lane=[f"{plain(operation, 10)}<br>{plain(host(target), 20)}" for operation, target in asked])
    lanes = list(dict.fromkeys(rows["lane"]))
    most = set(rows.groupby("lane")["n"].sum().sort_values(ascending=False, kind="stable").index[:MOST_LANES])
    shown = [lane for lane in lanes if lane in most]
    kinds = [kind for kind in _ANSWERS if (rows["answer"] == kind).any()]
    counts = {kind: int(rows.loc[rows["answer"] == kind, "n"].sum()) for kind in kinds}
    more = f" {len(lanes) - len(shown)} more, asked less, are in the table alone." if len(lanes) > len(shown) else ""
    note = f"n = {int(rows['n'].sum()):,} requests of joins: {_counted(counts)}.{more} {when}"
    figure = blank(question, note, plot_px=_LANE_PX * len(shown) + 10, keys=kinds, labels=shown)
    for kind in kinds:
        mine = rows[rows["answer"] == kind].groupby("lane")["n"].sum().reindex(shown, fill_value=0)
        figure.add_trace(stack(mine.tolist(), shown, kind, filled(*_ANSWERS[kind])))
    stacked(figure, shown, "number of requests", tickformat="d")
    figure.update_layout(showlegend=True)
    table = pd.DataFrame(
        {
            "vantage": [plain(name, 40) for name in counted["vantage"]],
            "asked for": counted["operation"],
            "at": [plain(host(target), 60) for target in counted["target"]],
            "answer": counted["answer"],
            "requests": counted["n"],
        }
    )
    return described(figure, f"{question} Of {int(rows['n'].sum()):,} requests: {_counted(counts)}.", table)


def time_spent(parts: pd.DataFrame, *, when: str) -> go.Figure:
    """How the mean time from arrival to the room is made up, by vantage.

    parts: columns vantage, n, and of each part (waiting_s, requests_s, signal_s, media_s) its mean, seconds.
    """
    question = "Where did the time to the room go?"
    if parts.empty:
        return nothing(question, "Nobody is known to have come into a room, so there is nothing to draw.")
    lanes = [plain(name, 16) for name in parts["vantage"]][:MOST_LANES]
    drawn = [part for part in _PARTS if parts[part[0]].any()] or [_PARTS[0]]
    whole = parts[[name for name, *_ in _PARTS]].sum(axis=1)
    mean = _mean(whole, parts["n"])
    note = (
        f"n = {int(parts['n'].sum())} joins that came into the room, in {seconds(mean)} on average. Means, so that the"
        f" parts add up; measured on one clock each. {when}"
    )
    keys = [word for _, word, *_ in drawn]
    figure = blank(question, note, plot_px=_LANE_PX * len(lanes) + 10, keys=keys, labels=lanes)
    for name, word, color, hatch in drawn:
        values = parts[name].tolist()[:MOST_LANES]
        figure.add_trace(stack(values, lanes, word, filled(color, hatch), lambda value: f"{seconds(value)} on average"))
    stacked(figure, lanes, "mean time from arrival, s")
    figure.update_layout(showlegend=True)
    said = ", ".join(f"{word} {seconds(_mean(parts[name], parts['n']))}" for name, word, *_ in drawn)
    names = {"vantage": "vantage", "n": "n"} | {name: f"{word}, mean s" for name, word, *_ in _PARTS}
    table = parts[list(names)].assign(vantage=[plain(name, 40) for name in parts["vantage"]]).rename(columns=names)
    return described(figure, f"{question} On average {seconds(mean)}: {said}.", table)


def _mean(values: pd.Series, counts: pd.Series) -> float:
    return float((values * counts).sum() / counts.sum())
