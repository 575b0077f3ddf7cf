"""What was so while the doors were shut: the layers' state then, by every vantage, and what was there before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nestobs.diagnosis.answers import is_info, is_room, is_token
from nestobs.diagnosis.facts import Fact, Key
from nestobs.diagnosis.rows import Row
from nestobs.diagnosis.scene import AGAIN_S, Evidence, Scene, Window
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Operation, Role, Source

AMID_ROUNDS, AMID_S = 3, 1.0
"""So often, and for so long, joins have to fail between answers that showed the nest."""

PACE: Final = 4.0
LEAST_PACE_S, OLD_S = 5.0, 120.0
"""Parts of a nest are late by about as much as each other. Joins of a room that is there let in within PACE times the
age at which /info was first seen active, LEAST_PACE_S at least, in all but 1 in 1 000 races whose routes are late
independently (lognormal, sigma .7 to .9); and from the age OLD_S on in any."""

WAITED_S: Final = 2.0
"""A wait that a person notices."""

RESTART_S: Final = 10.0
"""A restart makes the room anew sooner than this."""

FIRST_S: Final = 3.0
"""No room comes and goes sooner than this."""

SHORTLY_S: Final = 0.5
"""What is late by less is the way there and back."""

EARLY_S: Final = 60.0
"""Who looks at a nest for the first time later than this may have missed that it came and went."""


def of_window(scene: Scene, window: Window, lived_s: float) -> Iterator[tuple[Key, Evidence]]:
    """The facts of one window. lived_s: by which age an empty room has ended."""
    shut = window.absents
    until = scene.at(shut[-1]).removeprefix("at ")
    words = f"{len(shut)} of {len(shut)} joins answered 404, {scene.at(shut[0])} to {until}"
    yield (Fact.HEALED if window.healed else Fact.SHUT), scene.say(words, shut)
    if {row.operation for row in shut} >= {Operation.JOIN, Operation.GUEST}:
        yield Fact.BOTH_WAYS, Evidence("")
    span_s = (window.end - window.start) / SECOND_NS
    if window.lasts:
        yield Fact.AGAIN, Evidence("")
    if _is_overdue(scene, window):
        yield Fact.OVERDUE, Evidence("")
    known_s = (shut[-1].sent - scene.known_at) / SECOND_NS  # nobody let in from its making on, as far as anybody asked
    if (window.start - scene.known_at) / SECOND_NS <= LEAST_PACE_S:
        span_s = max(span_s, known_s)
    people = [row for row in shut if row.role in (Role.JOINER, Role.GUEST)]
    if window.healed and span_s >= WAITED_S:
        yield Fact.WAITED, Evidence(f"a wait of {span_s:.1f} s at least")
    elif window.healed and people:
        yield Fact.WAITED, scene.say(f"a person was turned away {scene.at(people[-1])}", people)
    yield from _layers(scene, window)
    yield from _before(scene, window)
    yield from _amid(scene, window)
    if scene.nest.origin is not None:
        age_s = scene.age_s(window.end)
        fact, said = (Fact.YOUNG, "only") if age_s < lived_s else (Fact.OLD, "already")
        yield fact, Evidence(f"it was {said} {age_s:.0f} s old")
        if scene.age_s(scene.nest.rows[0].sent) > EARLY_S and not scene.made_here:
            yield Fact.CAME_LATE, Evidence("")


def _is_overdue(scene: Scene, window: Window) -> bool:
    """Whether a route that is behind the others no longer explains its 404s beside an active /info."""
    active = next((row for row in scene.proofs(is_info) if row.visible), None)
    if active is None or scene.nest.origin is None:
        return False
    since, age_s = max(window.start, active.received), scene.age_s(window.end)
    shut_s = (window.end - since) / SECOND_NS
    if age_s >= OLD_S:
        return shut_s >= AGAIN_S
    return shut_s >= max(LEAST_PACE_S, PACE * scene.age_s(active.received))


def _layers(scene: Scene, window: Window) -> Iterator[tuple[Key, Evidence]]:
    info, rows = scene.state_in(window, is_info)
    if info is not None:
        said = f"/info {'active' if info else '404'} {scene.at(rows[-1])}"
        yield (Fact.INFO_YES if info else Fact.INFO_NO), scene.say(said, rows[-1:])
        counts = [row for row in rows if info and _inside(row) > 0 and row.received >= window.start]
        if counts:
            said = f"/info counts {_inside(counts[-1])} inside {scene.at(counts[-1])}"
            yield Fact.INSIDE, scene.say(said, counts[-1:])
    room, rows = scene.state_in(window, is_room)
    if room is not None:
        said = f"LiveKit {'lists' if room else 'does not list'} the room {scene.at(rows[-1])}"
        yield (Fact.ROOM_YES if room else Fact.ROOM_NO), scene.say(said, rows[-1:])


def of_layers(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """Of the API's record and LiveKit's room each that was late for itself, whichever came last, and whatever else
    was in the way meanwhile."""
    layers = (
        (is_info, Fact.RECORD_LATE, Fact.RECORD_SHORTLY_LATE, "the record"),
        (is_room, Fact.ROOM_LATE, Fact.ROOM_SHORTLY_LATE, "LiveKit's room"),
    )
    for which, late, shortly, name in layers:
        proofs = scene.proofs(which)
        shown = next((row for row in proofs if row.visible), None)
        before = [row for row in proofs if row.absent and shown is not None and row.sent < shown.received]
        if which is is_room and proofs and shown is None and scene.age_s(proofs[0].received) <= FIRST_S:
            yield Fact.ROOM_NEVER, Evidence("")
        late_s = (before[-1].sent - scene.known_at) / SECOND_NS if before else 0.0
        if shown is not None and late_s > SHORTLY_S:
            said = f"{name} was not there {scene.at(before[-1])}, and was {scene.at(shown)}"
            yield late if late_s > WAITED_S else shortly, scene.say(said, [before[-1], shown])


def _amid(scene: Scene, window: Window) -> Iterator[tuple[Key, Evidence]]:
    """404s to both ways, again and again, between answers of /info and of LiveKit that both showed the nest: whatever
    became of it later."""
    if window.healed or window.after_token:
        return
    spans = [[row for row in scene.proofs(which) if row.visible] for which in (is_info, is_room)]
    if not all(spans):
        return
    start = max(rows[0].received for rows in spans)
    end = min(rows[-1].sent for rows in spans)
    amid = Window(
        tuple(row for row in window.absents if row.sent >= start and row.received <= end),
        healed=False,
        after_token=False,
    )
    if (
        amid.rounds >= AMID_ROUNDS
        and amid.end - amid.start >= AMID_S * SECOND_NS
        and {row.operation for row in amid.absents} >= {Operation.JOIN, Operation.GUEST}
    ):
        said = f"{len(amid.absents)} joins answered 404 from {scene.at(amid.absents[0]).removeprefix('at ')} on, while"
        last = [row for rows in spans for row in rows if row.sent >= end][:2]
        yield Fact.AMID, scene.say(f"{said} /info and LiveKit showed it before and after", [*amid.absents, *last])


def _inside(row: Row) -> int:
    told = row.facts.get("info")
    count = told.get("participantCount") if isinstance(told, dict) else None
    return count if type(count) is int else 0


def _before(scene: Scene, window: Window) -> Iterator[tuple[Key, Evidence]]:
    """What was there before the doors were shut for good."""
    if window.healed or window.ended:
        return
    for which, fact, name in ((is_info, Fact.RECORD_WENT, "the record"), (is_room, Fact.ROOM_WENT, "the room")):
        proofs = scene.proofs(which)
        shown = [row for row in proofs if row.visible]
        gone = [row for row in proofs if row.absent and shown and row.sent >= shown[-1].sent]
        if gone:
            yield fact, scene.say(f"{name} was there {scene.at(shown[-1])}, not {scene.at(gone[0])}", gone[:1])
            if fact is Fact.ROOM_WENT and gone[-1].sent - gone[0].received > RESTART_S * SECOND_NS:
                yield Fact.STAYED_AWAY, Evidence("")
    shown = [row for row in scene.proofs(_is_seat_proof) if row.visible and row.received <= window.end]
    if shown:
        yield Fact.SEEN_BEFORE, scene.say(f"it could be joined {scene.at(shown[-1])}", shown[-1:])


def _is_seat_proof(row: Row) -> bool:
    """Whether it is about a token or a seat; the host's own comes with the nest, whatever joins are answered."""
    seat = row.source == Source.LIVEKIT and row.operation in (Operation.SIGNAL, Operation.MEDIA)
    return (is_token(row) or seat) and row.role != Role.HOST
