"""Whether LiveKit itself is down, or only the way to it from here: by who else reached it at that time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nestobs.diagnosis.answers import Answer, is_livekit_answer, is_livekit_lost
from nestobs.diagnosis.facts import Fact, Key
from nestobs.diagnosis.rows import Row
from nestobs.diagnosis.scene import Evidence, Scene


def of_livekit(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """How far LiveKit could be reached, where it could not from here."""
    failed = [row for row in scene.mine if is_livekit_lost(row)]
    if not failed:
        return
    said = f"LiveKit gave no answer {len(failed)} times, last {scene.at(failed[-1])} ({failed[-1].reason})"
    yield Fact.LIVEKIT_FAILS, scene.say(said, failed)
    start, end = failed[0].sent, failed[-1].received
    elsewhere = [row for row in scene.nest.rows if row.vantage != scene.vantage and _meanwhile(row, start, end)]
    reached = [row for row in elsewhere if is_livekit_answer(row)]
    tokens = [row for row, answer in scene.tokens if answer is Answer.GRANTED and _meanwhile(row, start, end)]
    refused = [row for row, answer in scene.tokens if answer in _NOES and _meanwhile(row, start, end)]
    if reached:
        said = f"LiveKit answered {reached[-1].vantage} {scene.at(reached[-1])}"
        yield Fact.LIVEKIT_UP, scene.say(said, reached[-1:])
        return
    if tokens and (not refused or tokens[-1].sent > refused[-1].sent):
        said = f"the API, which asks LiveKit first, gave a token {scene.at(tokens[-1])}"
        yield Fact.LIVEKIT_UP, scene.say(said, tokens[-1:])
        return
    if tokens and refused and tokens[-1].sent > failed[0].received:
        said = f"the API, which asks LiveKit first, gave a token {scene.at(tokens[-1])}, and 404s before and after"
        yield Fact.LIVEKIT_MIXED, scene.say(said, [tokens[-1], refused[-1]])
    if nobody := [row for row in elsewhere if is_livekit_lost(row)]:
        said = f"LiveKit did not answer {nobody[-1].vantage} either {scene.at(nobody[-1])}"
        yield Fact.LIVEKIT_DOWN, scene.say(said, nobody[-1:])
    if refused:
        said = f"the API, which asks LiveKit first, answered 404 {scene.at(refused[-1])}"
        yield Fact.LIVEKIT_DOUBTED, scene.say(said, refused[-1:])


_NOES: Final = (Answer.ABSENT, Answer.DOUBTED)


def _meanwhile(row: Row, start: int, end: int) -> bool:
    return row.received >= start and row.sent <= end
