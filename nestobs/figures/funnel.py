"""Joins on their way: when they came, what answered them, where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import canvas, marks
from nestobs.figures import time_axis as wall
from nestobs.figures.canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from nestobs.figures.text import host, plain, seconds

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
    fates = bins[[name for name, *_ in _FATES]]
    total = int(fates.to_numpy().sum())
    if not total:
        return canvas.nothing(question, "No join came to a verdict in this time, so there is nothing to draw.")
    drawn = [fate for fate in _FATES if bins[fate[0]].any()]
    counted = _counted({word: int(bins[name].sum()) for name, word, *_ in drawn})
    traces = []
    for name, word, color, hatch in drawn:
        stamps = zip(bins["start_at"], bins[name], strict=True)
        texts = [f"{at:%Y-%m-%d %H:%M:%S} UTC<br>{word}: {count}" for at, count in stamps]
        traces.append(wall.columns(collector, bins, bins[name], texts, marks.filled(color, hatch), name=word))
    note = f"n = {total} joins in steps of {wall.step_words(bins)}: {counted}. {when}"
    vertical = {"rangemode": "tozero", "tickformat": "d"}
    figure = wall.over(question, note, traces, collector, yaxis=vertical, label="1000")
    names = {"start_at": "from, UTC", "end_at": "to, UTC"} | {name: word for name, word, *_ in drawn}
    table = bins.loc[fates.sum(axis=1) > 0, [*names]].rename(columns=names)
    return canvas.described(figure, f"{question} Of {total} joins: {counted}.", table)


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in counts.items())


def answers(counted: pd.DataFrame, *, when: str) -> go.Figure:
    """What came of each kind of request at each target. counted: as nestobs.timeline.funnel.answers gives it."""
    question = "What were the joins answered on their way?"
    if counted.empty:
        return canvas.nothing(question, "No join's own request is known, so there is nothing to draw.")
    asked = zip(counted["operation"], counted["target"], strict=True)
    rows = counted.assign(lane=[f"{plain(operation, 10)}<br>{plain(host(target), 80)}" for operation, target in asked])
    lanes = list(dict.fromkeys(rows["lane"]))
    most = set(rows.groupby("lane")["n"].sum().sort_values(ascending=False, kind="stable").index[:MOST_LANES])
    shown = [lane for lane in lanes if lane in most]
    kinds = [kind for kind in _ANSWERS if (rows["answer"] == kind).any()]
    total = int(rows["n"].sum())
    said = _counted(rows.groupby("answer")["n"].sum()[kinds].to_dict())
    more = f" {len(lanes) - len(shown)} more, asked less, are in the table alone." if len(lanes) > len(shown) else ""
    note = f"n = {total:,} requests of joins: {said}.{more} {when}"
    by_lane = rows.pivot_table(index="lane", columns="answer", values="n", aggfunc="sum", fill_value=0)
    parts = [(kind, by_lane.loc[shown, kind].tolist(), marks.filled(*_ANSWERS[kind])) for kind in kinds]
    figure = marks.stacked(question, note, shown, parts, "number of requests", tickformat="d")
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
    return canvas.described(figure, f"{question} Of {total:,} requests: {said}.", table)


def time_spent(parts: pd.DataFrame, *, when: str) -> go.Figure:
    """How the mean time from arrival to the room is made up, by vantage.

    parts: columns vantage, n, and of each part (waiting_s, requests_s, signal_s, media_s) its mean, seconds.
    """
    question = "Where did the time to the room go?"
    if parts.empty:
        return canvas.nothing(question, "Nobody is known to have come into a room, so there is nothing to draw.")
    lanes = [plain(name, 16) for name in parts["vantage"]][:MOST_LANES]
    drawn = [part for part in _PARTS if parts[part[0]].any()] or [_PARTS[0]]
    whole = parts[[name for name, *_ in _PARTS]].sum(axis=1)
    mean = _mean(whole, parts["n"])
    note = (
        f"n = {int(parts['n'].sum())} joins that came into the room, in {seconds(mean)} on average. Means, so that the"
        f" parts add up; measured on one clock each. {when}"
    )
    means = [(word, parts[name].tolist()[:MOST_LANES], marks.filled(*look)) for name, word, *look in drawn]
    figure = marks.stacked(question, note, lanes, means, "mean time from arrival, s", words=_on_average)
    figure.update_layout(showlegend=True)
    said = ", ".join(f"{word} {seconds(_mean(parts[name], parts['n']))}" for name, word, *_ in drawn)
    names = {"vantage": "vantage", "n": "n"} | {name: f"{word}, mean s" for name, word, *_ in _PARTS}
    table = parts[list(names)].assign(vantage=[plain(name, 40) for name in parts["vantage"]]).rename(columns=names)
    return canvas.described(figure, f"{question} On average {seconds(mean)}: {said}.", table)


def _on_average(mean_s: float) -> str:
    return f"{seconds(mean_s)} on average"


def _mean(values: pd.Series, counts: pd.Series) -> float:
    return float((values * counts).sum() / counts.sum())
