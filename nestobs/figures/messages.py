"""What people were told, and how their joins ended: lanes of statements and of verdicts."""

from __future__ import annotations

from typing import Final

import pandas as pd
import plotly.graph_objects as go

from nestobs.figures import canvas, marks
from nestobs.figures.canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from nestobs.figures.text import plain
from nestobs.join.decision import GONE, JOINED, LOADING, RELEASED_FAILED, STARTING, Kind
from nestobs.timeline.joins import KINDS

SYMBOLS: Final[dict[str, tuple[str, str, str]]] = {
    Kind.AUTHENTICATED: (GREEN, "circle", ""),
    Kind.GUEST: (SKY, "square", ""),
    Kind.GUEST_INSTEAD: (BLUE, "diamond", "\\"),
    Kind.STARTING_UP: (YELLOW, "triangle-up", "."),
    Kind.GONE: (VERMILLION, "x", "/"),
    Kind.API_FAULT: (VERMILLION, "octagon", "\\"),
    Kind.UNAUTHORISED: (PURPLE, "triangle-left", "|"),
    Kind.FORBIDDEN: (PURPLE, "triangle-right", "-"),
    Kind.RATE_LIMITED: (ORANGE, "hourglass", "x"),
    Kind.API_DOWN: (GREY, "star", "+"),
    Kind.BAD_TOKEN: (ORANGE, "pentagon", "|"),
    Kind.LIVEKIT_UNREACHABLE: (ORANGE, "bowtie", ""),
    Kind.NOT_LOADED: (GREY, "hexagon", "/"),
    Kind.REMOVED: (VERMILLION, "cross", "-"),
    Kind.NOT_VISITED: (GREY, "circle-open", ""),
    Kind.PROBE_ERROR: (GREY, "circle-x-open", "x"),
}
"""Of each verdict: colour, symbol of a mark, hatch of a bar."""

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


def message_lanes(joins: pd.DataFrame) -> go.Figure:
    """By scenario: what `guide` and `released` would have said to each joiner at arrival, and whether it was true.

    `joins` may have a column `scenario`.
    """
    question = "What would the web client have told each joiner, and was it true?"
    if joins.empty:
        return canvas.nothing(question, "No join came to a verdict, so there is nothing to draw.")
    said = pd.concat([_said(joins, baseline) for baseline in ("guide", "released")])
    lanes = sorted(set(said["lane"]))
    unknown = int(said["truth"].isna().sum())
    parts = []
    for name, _, color in _STATEMENTS:
        for word, truth, hatch in _TRUTHS:
            mine = said[(said["statement"] == name) & said["truth"].isin([pd.NA if truth is None else truth])]
            if len(mine):
                label = f"{name}: {word}" if name.startswith("“") else name
                parts.append((label, _counts(mine["lane"], lanes), marks.filled(color, hatch)))
    note = (
        f"n = {len(joins)} joins, each asked of both clients; {unknown} of {len(said)} statements cannot be judged."
        f" {canvas.window(joins['arrived_at'])}"
    )
    figure = marks.stacked(question, note, lanes, parts, "number of joiners", tickformat="d")
    return canvas.described(figure, _messages_alt(question, joins), _messages_table(said))


def _messages_alt(question: str, joins: pd.DataFrame) -> str:
    parts = []
    for baseline in ("guide", "released"):
        judged = joins[f"{baseline}_true"].dropna().astype(bool)
        untrue, unclear = int((~judged).sum()), len(joins) - len(judged)
        parts.append(f"{baseline}: {untrue} of {len(judged)} told something untrue, {unclear} unclear")
    return f"{question} Of {len(joins)} joiners, {'; '.join(parts)}."


def _messages_table(said: pd.DataFrame) -> pd.DataFrame:
    """A row a lane and statement."""
    truth = said["truth"].map({True: "true", False: "false"}).astype(object).fillna("unclear")
    counts = said.assign(truth=truth).groupby(["lane", "statement", "truth"]).size().reset_index(name="joiners")
    lane, client = zip(*(name.split("<br>") for name in counts["lane"]), strict=True)
    columns = {"of": lane, "client": client, "it would have said": counts["statement"], "which was": counts["truth"]}
    return pd.DataFrame(columns | {"joiners": counts["joiners"]})


def _said(joins: pd.DataFrame, baseline: str) -> pd.DataFrame:
    pairs = zip(joins[f"{baseline}_verdict"], joins[f"{baseline}_message"], strict=True)
    return pd.DataFrame(
        {
            "lane": [f"{lane}<br>{baseline}" for lane in _lanes(joins)],
            "statement": [_statement(verdict, message) for verdict, message in pairs],
            "truth": joins[f"{baseline}_true"].to_numpy(),
        }
    )


def _counts(lane: pd.Series, lanes: list[str]) -> list[int]:
    """How many of each lane."""
    return lane.value_counts().reindex(lanes, fill_value=0).tolist()


def _lanes(joins: pd.DataFrame) -> list[str]:
    """The lane of each join: its scenario, or one for all."""
    return [plain(name, 16) for name in joins["scenario"]] if "scenario" in joins else ["all"] * len(joins)


def _statement(verdict: str, message: str) -> str:
    if verdict in JOINED:
        return _STATEMENTS[0][0]
    known = [name for name, start, _ in _STATEMENTS if start and message.startswith(start)]
    return known[0] if known else _STATEMENTS[-1][0]


def verdicts(joins: pd.DataFrame) -> go.Figure:
    """How the real joins ended, by scenario. `joins` may have a column `scenario`."""
    question = "How did the joins end?"
    if joins.empty:
        return canvas.nothing(question, "No join came to a verdict, so there is nothing to draw.")
    lane = pd.Series(_lanes(joins), index=joins.index)
    lanes = sorted(set(lane))
    policies = ", ".join(plain(name, 24) for name in sorted(set(joins["policy"])))
    joined = int(joins["joined"].sum())
    note = f"n = {len(joins)} joins under {policies}; {joined} joined. {canvas.window(joins['arrived_at'])}"
    parts = []
    for kind in KINDS:
        color, _, hatch = SYMBOLS[kind]
        if len(mine := lane[joins["verdict"] == kind]):
            parts.append((kind.replace("_", " "), _counts(mine, lanes), marks.filled(color, hatch)))
    figure = marks.stacked(question, note, lanes, parts, "number of joins", tickformat="d")
    ends = joins.assign(lane=lane).groupby(["lane", "verdict"]).size().reset_index(name="joins")
    ended = ", ".join(f"{plain(kind)} {count}" for kind, count in joins["verdict"].value_counts().items())
    table = pd.DataFrame({"of": ends["lane"], "verdict": ends["verdict"].map(plain), "joins": ends["joins"]})
    return canvas.described(figure, f"{question} {joined} of {len(joins)} joined: {ended}.", table)
