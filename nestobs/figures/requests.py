"""The joins of one nest: every request as a bar from its sending to its answer."""

from __future__ import annotations

import math
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import canvas, marks
from nestobs.figures.canvas import GREEN, GREY, INK, ORANGE, PURPLE, VERMILLION, at
from nestobs.figures.text import plain, seconds
from nestobs.observation.columns import records
from nestobs.timeline.requests import ABSENT, GRANTED, NOTHING, OURS, REFUSED

MOST_JOINS: Final = 12
"""Joins drawn; the table beside the figure has as many, and the note says how many there are."""

_LANE_PX: Final = 19
_TICKS: Final = (0, 0.1, 0.3, 1, 3, 10, 30, 120, 600, 3600, 86_400)
_ANSWERS: Final = {
    GRANTED: ("token, or let in", marks.filled(GREEN)),
    ABSENT: ("404", marks.filled(VERMILLION, "x")),
    REFUSED: ("refused", marks.filled(PURPLE, "|")),
    NOTHING: ("no answer, or none that proves", marks.hatched(GREY, "/")),
    OURS: ("our own error", marks.filled(ORANGE, "-")),
}
"""Of what may come of a request: how it is said, and how its bar looks."""

_WAYS: Final = {"info": "info", "join": "own", "guest": "as guest", "LiveKit": "LiveKit"}
"""In the order in which a join takes them: what they are called on a lane."""


def request_lanes(asked: pd.DataFrame, attempts: pd.DataFrame) -> go.Figure:
    """One lane per join and way asked, by arrival: each request from sent to received, by what came of it.

    Frames as timeline.requests makes them. A request that was never answered is drawn until the next one of its join,
    hatched: nobody knows when, or if, an answer would have come. At most MOST_JOINS joins are drawn.
    """
    question = "What did each join ask, and what did it get?"
    shown = asked[asked["join"] <= MOST_JOINS]
    if shown.empty:
        return canvas.nothing(question, "No join asked anything of this nest, so there is nothing to draw.")
    lanes, ended = _lanes(shown), _ended(shown)
    end = max(float(ended["until_s"].max()), 1.0)
    labels = [label for _, label in lanes.values()]
    traces = []
    for answer in _ANSWERS:
        mine = ended[ended["answer"] == answer]
        if len(mine):
            traces.append(_trace(mine, lanes, answer, at(end)))
    figure = canvas.drawn(
        question,
        _note(asked, attempts),
        [*traces, _waiting(ended, lanes)],
        plot_px=_LANE_PX * len(lanes) + 8,
        labels=labels,
        barmode="overlay",
        showlegend=True,
        xaxis=_axis(end),
        yaxis=canvas.lane_axis(labels),
    )
    _between(figure, lanes)
    return canvas.described(figure, _alt(asked, attempts), _table(ended))


def _lanes(shown: pd.DataFrame) -> dict[tuple[int, str], tuple[int, str]]:
    """(join, way) -> its place from the top, and its label; the first of a join says who joined."""
    found: dict[tuple[int, str], tuple[int, str]] = {}
    for number, mine in shown.groupby("join"):
        who = "guest" if str(mine["role"].iloc[0]) == "guest" else "signed in"
        for place, way in enumerate(way for way in _WAYS if (mine["way"] == way).any()):
            label = f"{number} {who}: {_WAYS[way]}" if place == 0 else _WAYS[way]
            found[int(str(number)), way] = (len(found), label)
    return found


def _ended(shown: pd.DataFrame) -> pd.DataFrame:
    """The rows with the end of each bar: the answer, else the next request of that join, else 1 s later."""
    following = shown.groupby("join")["from_s"].shift(-1)
    return shown.assign(until_s=shown["to_s"].fillna(following).fillna(shown["from_s"] + 1.0))


def _trace(mine: pd.DataFrame, lanes: dict[tuple[int, str], tuple[int, str]], answer: str, width: float) -> go.Bar:
    words, style = _ANSWERS[answer]
    places = [lanes[key][0] for key in zip(mine["join"], mine["way"], strict=True)]
    ends = zip(map(at, mine["from_s"]), map(at, mine["until_s"]), strict=True)
    return marks.spans(places, ends, map(_text, records(mine)), style, least=marks.HAIR * width, width=0.74, name=words)


def _text(row: Any) -> str:
    came = "no answer" if math.isnan(row.to_s) else f"answered after {seconds(row.to_s - row.from_s)}"
    status = "" if pd.isna(row.status) else f" {int(row.status)}"
    why = f"<br>{plain(row.reason, 60)}" if row.reason else ""
    return f"join {row.join}, round {row.round}: {plain(row.step)}{status}<br>sent {seconds(row.from_s)}, {came}{why}"


def _waiting(shown: pd.DataFrame, lanes: dict[tuple[int, str], tuple[int, str]]) -> go.Scatter:
    """A thin line on each lane from its first to its last request: what is bare of bars on it was waited."""
    ends = []
    for number, way in lanes:
        mine = shown[(shown["join"] == number) & (shown["way"] == way)]
        ends.append((at(mine["from_s"].min()), at(mine["until_s"].max())))
    return marks.strokes([place for place, _ in lanes.values()], ends, INK, 1, "dot")


def _between(figure: go.Figure, lanes: dict[tuple[int, str], tuple[int, str]]) -> None:
    """A line between the lanes of two joins."""
    firsts = {number: place for (number, _), (place, _) in reversed(lanes.items())}
    for place in [place for place in firsts.values() if place]:
        y = place - 0.5
        line = {"color": "rgba(138,146,154,.45)", "width": 1}
        figure.add_shape(type="line", xref="paper", yref="y", x0=0, x1=1, y0=y, y1=y, line=line)


def _axis(end: float) -> dict[str, Any]:
    ticks = [tick for tick in _TICKS if tick <= end * 1.05 and (tick != 0.1 or end < 5)]  # they would touch
    limits = {"range": [-0.02 * at(end), 1.03 * at(end)]}
    return canvas.compressed(ticks) | limits | canvas.titled("since arrival, s (compressed)")


def _note(asked: pd.DataFrame, attempts: pd.DataFrame) -> str:
    joins = len(attempts)
    more = f" (the first {MOST_JOINS} are drawn)" if joins > MOST_JOINS else ""
    open_ends = int(asked["to_s"].isna().sum())
    when = canvas.window(pd.Series(pd.to_datetime(asked["sent_at"], utc=True)))
    return (
        f"n = {len(asked)} requests of {joins} joins{more}; {open_ends} were never answered (censored). Dotted:"
        f" waiting. {when}"
    )


def _alt(asked: pd.DataFrame, attempts: pd.DataFrame) -> str:
    counts = asked["answer"].value_counts()
    came = ", ".join(f"{int(counts[answer])} {words}" for answer, (words, _) in _ANSWERS.items() if answer in counts)
    ended = attempts["verdict"].value_counts()
    verdicts = ", ".join(f"{count} {plain(str(kind).replace('_', ' '))}" for kind, count in ended.items())
    return f"What each of {len(attempts)} joins asked and got. Requests: {came}. Joins: {verdicts}."


def _table(shown: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "join": shown["join"],
            "round": shown["round"],
            "asked": shown["step"],
            "sent after arrival, s": shown["from_s"],
            "answered after arrival, s": shown["to_s"],
            "waited before, s": shown["waited_s"],
            "came": [_ANSWERS[answer][0] for answer in shown["answer"]],
            "status": ["" if pd.isna(status) else str(int(status)) for status in shown["status"]],
        }
    )
