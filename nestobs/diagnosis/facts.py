"""The named facts that cases are made of: each with the rows that carry it, found once for a scene and a window.

Ends(answer)   how it stood at the end, from this vantage
Had(answer)    what came of some step, at any time
Fact           what is read from several rows together: a layer that showed the nest while the doors were shut, an
               end, a relay that was late
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from nestobs.diagnosis.answers import Answer, is_token
from nestobs.diagnosis.rows import Row
from nestobs.diagnosis.scene import Evidence, Scene, Window
from nestobs.join.decision import Kind
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Operation, Role, Source


class Ends(NamedTuple):
    """How it stood at the end."""

    answer: Answer


class Had(NamedTuple):
    """What came of some step."""

    answer: Answer


class Fact(StrEnum):
    """Read from several rows."""

    SHUT = "every join is answered 404, to the end"
    HEALED = "joins were answered 404, and then a token came"
    WAITED = "somebody had to wait for it"
    AGAIN = "more than once, and for a while"
    BOTH_WAYS = "signed in and as a guest"
    INFO_YES = "/info was active meanwhile"
    INFO_NO = "/info was 404 meanwhile"
    ROOM_YES = "LiveKit had the room meanwhile"
    ROOM_NO = "LiveKit had no such room meanwhile"
    SEEN_BEFORE = "it was there before"
    RECORD_WENT = "the record was there and went"
    ROOM_WENT = "the room was there and went"
    YOUNG = "younger than any empty room ends"
    OLD = "older than an empty room lives"
    LISTENER = "signed in, and seated as a guest"
    DELETED = "it was deleted"
    WITHDRAWN = "its author withdrew it"
    CLOSED = "its event says closed"
    PLANNED = "its event says planned"
    RELAY_AUTH = "a relay wants to know who asks"
    RELAY_REFUSES = "a relay refuses"
    RELAY_DROPPED = "a relay took it and has it not"
    RELAY_DROPPED_OR_LATE = "a relay took it and has it not yet"
    RELAY_LATE = "a relay showed it late"
    RELAY_SILENT = "a relay gives no answer"


Key: TypeAlias = Fact | Ends | Had
Facts: TypeAlias = dict[Key, Evidence]


def of_steps(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """What came of each step, and how it ended."""
    steps: dict[Answer, list[Row]] = {}
    for row, answer in [*scene.tokens, *scene.seats]:
        steps.setdefault(answer, []).append(row)
    for answer, rows in steps.items():
        why = f" ({rows[-1].reason})" if rows[-1].reason else ""
        evidence = scene.say(f"{len(rows)} x {answer.value}, last {scene.at(rows[-1])}{why}", rows)
        yield Had(answer), evidence
        if answer is scene.ending:
            yield Ends(answer), evidence
    if pairs := _listeners(scene):
        said = f"404 to the signed in and a token to the guest, in one join, {scene.at(pairs[-1])}"
        yield Fact.LISTENER, scene.say(said, pairs)


def _listeners(scene: Scene) -> list[Row]:
    """Of joins of the signed in the guest's tokens that came after a 404 to the signed in, and its verdict."""
    turned: set[str] = set()
    found = []
    for row in scene.mine:
        if row.role != Role.JOINER or not row.group:
            continue
        if row.operation == Operation.JOIN and row.absent:
            turned.add(row.group)
        elif row.operation == Operation.JOIN and row.visible:
            turned.discard(row.group)
        elif (row.operation == Operation.GUEST and row.visible and row.group in turned) or _is_listener(row):
            found.append(row)
    return found


def _is_listener(row: Row) -> bool:
    return row.text("verdict") == Kind.GUEST_INSTEAD


AGAIN_S: Final = 1.5
WAITED_S: Final = 2.0
"""A wait that a person notices."""


def of_window(scene: Scene, window: Window, lived_s: float) -> Iterator[tuple[Key, Evidence]]:
    """What was so while the doors were shut."""
    shut = window.absents
    words = f"{len(shut)} of {len(shut)} joins 404, {scene.at(shut[0])} to {scene.at(shut[-1]).removeprefix('at ')}"
    yield (Fact.HEALED if window.healed else Fact.SHUT), scene.say(words, shut)
    ways = {row.operation for row in shut}
    if ways >= {Operation.JOIN, Operation.GUEST}:
        yield Fact.BOTH_WAYS, scene.say("signed in and as a guest", shut)
    span_s = (window.end - window.start) / SECOND_NS
    if window.rounds > 1 and span_s >= AGAIN_S:
        yield Fact.AGAIN, scene.say(f"for {span_s:.1f} s", shut)
    if window.healed and span_s >= WAITED_S:
        yield Fact.WAITED, scene.say(f"a wait of {span_s:.1f} s at least", shut)
    info, rows = scene.state_in(window, is_info)
    if info is not None:
        said = f"/info {'active' if info else '404'} {scene.at(rows[-1])}"
        yield (Fact.INFO_YES if info else Fact.INFO_NO), scene.say(said, rows[-1:])
    room, rows = scene.state_in(window, is_room)
    if room is not None:
        said = f"LiveKit {'lists' if room else 'does not list'} the room {scene.at(rows[-1])}"
        yield (Fact.ROOM_YES if room else Fact.ROOM_NO), scene.say(said, rows[-1:])
    yield from _before(scene, window)
    if scene.nest.origin is not None:
        age_s = scene.age_s(window.end)
        fact, said = (Fact.YOUNG, "only") if age_s < lived_s else (Fact.OLD, "already")
        yield fact, Evidence(f"{said} {age_s:.0f} s old")


def _before(scene: Scene, window: Window) -> Iterator[tuple[Key, Evidence]]:
    """What was there before the doors were shut for good."""
    if window.healed:
        return
    for which, fact, name in ((is_info, Fact.RECORD_WENT, "the record"), (is_room, Fact.ROOM_WENT, "the room")):
        proofs = scene.proofs(which)
        shown = [row for row in proofs if row.visible]
        gone = [row for row in proofs if row.absent and shown and row.sent >= shown[-1].sent]
        if shown and gone:
            yield fact, scene.say(f"{name} was there {scene.at(shown[-1])}, not {scene.at(gone[0])}", gone[:1])
    shown = [row for row in scene.proofs(_is_seat_proof) if row.visible and row.received <= window.end]
    if shown or window.after_token:
        when = f" {scene.at(shown[-1])}" if shown else ""
        yield Fact.SEEN_BEFORE, scene.say(f"it could be joined{when}", shown[-1:])


def is_info(row: Row) -> bool:
    """Whether it is about the API's record."""
    return row.source == Source.API and row.operation == Operation.INFO


def is_room(row: Row) -> bool:
    """Whether it is about LiveKit's room: its list, or somebody who was let in."""
    if row.source != Source.LIVEKIT:
        return False
    return row.operation == Operation.ROOMS or (row.operation in (Operation.SIGNAL, Operation.MEDIA) and row.visible)


def _is_seat_proof(row: Row) -> bool:
    return is_token(row) or (row.source == Source.LIVEKIT and row.operation in (Operation.SIGNAL, Operation.MEDIA))
