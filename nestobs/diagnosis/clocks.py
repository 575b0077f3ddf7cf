"""Clocks and ages: a signature judged by another clock, an event dated otherwise than its nest, words that were false.

NIP-98 lets a signature be 60 s (E) or 120 s (D) off. The server's own clock stands in the Date of its answers, whole
seconds; the age of a nest in its `created_at`, which an edit renews and a wrong clock shifts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nestobs.diagnosis.answers import Answer
from nestobs.diagnosis.ends import newest_event
from nestobs.diagnosis.facts import Fact, Key
from nestobs.diagnosis.rows import Row
from nestobs.diagnosis.scene import Evidence, Scene
from nestobs.join.decision import GONE, STARTING
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import says_over
from nestobs.observation.schema import Operation, Outcome, Source

APART_S: Final = 50.0
"""Further apart than this, and a signature may be refused for its time; the narrowest window known is 60 s."""

AGREE_S: Final = 20.0
DATED_S: Final = 30.0
"""An event dated so far from the making of its nest is an edit, or a wrong clock's (origins.EDITED_S)."""


def of_clocks(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """How far clocks are apart where a signature was refused, and what a wrong age told people."""
    refused = [row for row, answer in scene.tokens if answer is Answer.UNAUTHORISED]
    known = [(row, _off_s(row)) for row in refused if row.remote_at is not None]
    if known:
        row, off_s = known[-1]
        how = "ahead of" if off_s > 0 else "behind"
        if abs(off_s) >= APART_S:
            said = f"401 {scene.at(row)}, and this clock is {abs(off_s):.0f} s {how} the server's"
            yield Fact.CLOCKS_APART, scene.say(said, refused)
        elif abs(off_s) <= AGREE_S:
            yield Fact.CLOCKS_AGREE, scene.say(f"401 {scene.at(row)}, and the clocks agree", refused)
    yield from _ages(scene)


def _off_s(row: Row) -> float:
    """By how much our clock is ahead of the server's at least, seconds; negative behind."""
    assert row.remote_at is not None
    ahead_s = (row.own_sent - row.remote_at) / SECOND_NS - 1.0
    behind_s = (row.remote_at - (row.own_sent + row.received - row.sent)) / SECOND_NS
    return max(ahead_s, 0.0) - max(behind_s, 0.0)


def _ages(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """Whether the event's age is another than the nest's, and whether anybody was told something false by it."""
    event = newest_event(scene)
    made = scene.nest.made_at
    if event is None or made is None:
        return
    stamps = [row.facts.get("created_at") for row in scene.nest.events if not says_over(row.text("status"))]
    dates = sorted({stamp * SECOND_NS for stamp in stamps if type(stamp) is int and 0 <= stamp < 2**33})
    off = [date for date in dates if abs(date - made) > DATED_S * SECOND_NS]
    edited = len(dates) > 1 and dates[-1] - made > 2 * SECOND_NS
    if not off and not edited:
        return
    date = (off or dates)[-1]
    side = "after" if date > made else "before"
    said = f"its event is dated {abs(date - made) / SECOND_NS:.0f} s {side} it was made"
    yield Fact.EVENT_AGE_OFF, scene.say(said, [event])
    if false := _false_words(scene, made):
        yield Fact.MISLED, scene.say(f'told "{_words(false[-1])[:60]}" {scene.at(false[-1])}, which was false', false)


def _false_words(scene: Scene, made: int) -> list[Row]:
    """Verdicts whose words by age are false: no longer available, and it was or came; starting up, and it had ended."""
    granted = [row.received for row, answer in scene.tokens if answer in (Answer.GRANTED, Answer.ENTERED)]
    came, last = min(granted, default=None), max(granted, default=None)
    ended = _ended_at(scene)
    found = []
    for row in scene.verdicts:
        words, age_s = _words(row), (row.received - made) / SECOND_NS
        gone = words.startswith(GONE) and (age_s < DATED_S or (last is not None and last > row.sent))
        starting = words.startswith(STARTING) and ended is not None and row.received > ended
        starting |= words.startswith(STARTING) and age_s > 2 * DATED_S and came is None
        if gone or starting:
            found.append(row)
    return found


def _words(row: Row) -> str:
    """What the page of a join said, by the guide's rule where ours said nothing by age."""
    mine = row.text("message")
    if mine.startswith((GONE, STARTING)):
        return mine
    said = row.facts.get("said")
    guide = said.get("guide") if isinstance(said, dict) else None
    words = guide.get("message") if isinstance(guide, dict) else None
    return words if isinstance(words, str) else mine


def _ended_at(scene: Scene) -> int | None:
    """By when the room or its record was gone, ns."""
    gone = []
    for operation, source in ((Operation.ROOMS, Source.LIVEKIT), (Operation.GUEST, Source.API)):
        proofs = [r for r in scene.nest.rows if r.source == source and r.operation == operation and r.proof]
        shown = [row for row in proofs if row.outcome == Outcome.VISIBLE]
        gone += [row.received for row in proofs if row.absent and shown and row.sent > shown[-1].received][:1]
    return min(gone, default=None)
