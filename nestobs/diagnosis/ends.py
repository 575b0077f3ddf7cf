"""How a nest ended, or that it has not begun: what its event, its host, the API and LiveKit say of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nestobs.diagnosis.answers import is_seat
from nestobs.diagnosis.facts import Fact, Key
from nestobs.diagnosis.rows import Row
from nestobs.diagnosis.scene import Evidence, Scene
from nestobs.diagnosis.windows import RESTART_S
from nestobs.errors import AddressError
from nestobs.nostr import read_naddr
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import says_over
from nestobs.observation.schema import Operation, Outcome, Role, Source

DEPARTURE: Final = "departure timeout"
"""LiveKit's own words for a room that ended because the last one had left."""

DEPARTURE_S: Final = 330.0
"""A room that goes later than this after the last one left did not go for that: departure timeouts are 20 to 60 s, or
300 s where somebody set them so."""


VISITED_S: Final = 15.0
"""A room that goes sooner after a visit of our own did not go for that: departure timeouts are 20 s and more."""


ANEW_S: Final = 4.0
"""A restart waits 2 s between deletion and creation; a room that is not there some seconds later is not coming."""


EMPTY_S: Final = 1.0
"""Whoever was inside a room that is found empty so soon was not there long enough to leave it."""


def of_ends(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """What says that nobody can be in the nest, or not in this room any more."""
    if deletions := scene.nest.deletions:
        asked = scene.tokens[-1][0].received if scene.tokens else 0
        if deletions[0].sent <= asked:  # what its maker does to it when all is over kept nobody out
            yield Fact.DELETED, scene.say(f"a DELETE was accepted {scene.at(deletions[0])}", deletions[:1])
    else:
        yield from _by_event(scene)
    yield from _by_livekit(scene)
    yield from _restarts(scene)
    yield from _names(scene)


def _by_event(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    if noted := scene.nest.withdrawals:
        yield Fact.WITHDRAWN, scene.say(f"its author's kind 5 came {scene.at(noted[0])}", noted[:1])
    if (newest := newest_event(scene)) is None:
        return
    status, starts = newest.text("status").strip().lower(), newest.facts.get("starts")
    if says_over(status):
        yield Fact.CLOSED, scene.say(f"its event says {status} {scene.at(newest)}", [newest])
    ahead_s = starts - newest.received / SECOND_NS if type(starts) is int else 0.0
    if status == "planned" or (not says_over(status) and ahead_s > 0):
        said = "planned" if status == "planned" else f"that it starts in {ahead_s:.0f} s"
        yield Fact.PLANNED, scene.say(f"its event says {said} {scene.at(newest)}", [newest])


def newest_event(scene: Scene) -> Row | None:
    """The row that shows the newest version of the nest's event, None where none shows any."""
    return max(scene.nest.events, key=lambda row: (_stamp(row), row.received), default=None)


def _stamp(row: Row) -> int:
    stamp = row.facts.get("created_at")
    return stamp if type(stamp) is int else 0


# LiveKit


def _by_livekit(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """That LiveKit ended the room, and whether that was because the last one left."""
    hooks = scene.nest.hooks
    finished = [row for row in hooks if row.text("event") == "room_finished"]
    if finished:
        yield Fact.FINISHED, scene.say(f"LiveKit's room_finished came {scene.at(finished[-1])}", finished[-1:])
    gone, why = _gone_by(scene), _said_why(scene)
    if gone is not None:
        yield Fact.ROOM_GONE, scene.say(f"LiveKit does not have the room any more {scene.at(gone)}", [gone])
        counts = [row for row in scene.nest.rows if _count(row) is not None and row.received <= gone.received]
        came = [row for row in hooks if row.text("event") == "participant_joined"]
        early = counts and scene.age_s(counts[0].received) <= EMPTY_S and scene.nest.made_at is not None
        if early and not came and not any(map(_count, counts)):
            yield Fact.EMPTY, scene.say(f"LiveKit counts nobody inside {scene.at(counts[-1])}", counts[-1:])
    if why is not None and why.text("closed") == DEPARTURE:
        yield Fact.LEFT, scene.say(f"LiveKit closed the room after its {DEPARTURE} {scene.at(why)}", [why])
    if gone is None or why is not None:
        return
    last = _last_left(scene, hooks, gone)
    if last is not None and (gone.received - last.received) / SECOND_NS <= DEPARTURE_S:
        after_s = (gone.received - last.received) / SECOND_NS
        said = f"the last one left by {scene.at(last).removeprefix('at ')}, {after_s:.0f} s before it was found gone"
        yield Fact.LEFT, scene.say(said, [last])


def _said_why(scene: Scene) -> Row | None:
    """The last row in which LiveKit's own log says why it closed the room (see imports), None where none does."""
    told = [row for row in scene.nest.rows if row.operation == Operation.ROOMS and row.absent and row.text("closed")]
    return told[-1] if told else None


def _last_left(scene: Scene, hooks: list[Row], gone: Row) -> Row | None:
    """What says that nobody was inside any more, after somebody had been: LiveKit's webhooks, else who was seen inside
    and did not come in again. A host that is sent away comes again at once, so that one who does not had left."""
    told = [row for row in hooks if row.received <= gone.received and row.text("event") in _MOVES]
    if told:
        return told[-1] if told[-1].text("event") != "participant_joined" else None
    rows = [row for row in scene.nest.rows if is_seat(row) or _count(row) is not None]
    inside = [row for row in rows if row.visible and row.received <= gone.received and _count(row) != 0]
    visit_s = (gone.received - inside[-1].received) / SECOND_NS if inside else 0.0
    if all(is_seat(row) and row.role != Role.HOST for row in inside) and visit_s < VISITED_S:
        return None
    again = [row for row in rows if row.role == Role.HOST and row.sent >= gone.sent]
    return inside[-1] if inside and not again else None


_MOVES: Final = ("participant_joined", "participant_left", "participant_connection_aborted")


def _count(row: Row) -> int | None:
    """How many LiveKit counts inside, None where a row does not say."""
    count = row.facts.get("participants") if row.operation == Operation.ROOMS and row.visible else None
    return count if type(count) is int else None


def _gone_by(scene: Scene) -> Row | None:
    """The first row that says that the room is gone for good; None where none does."""
    rooms = [row for row in scene.nest.rows if row.operation == Operation.ROOMS and row.proof]
    shown = [row for row in rooms if row.visible]
    unlisted = [row for row in rooms if row.absent and shown and row.sent > shown[-1].received]
    finished = [row for row in scene.nest.hooks if row.text("event") == "room_finished"]
    later = [row for row in finished if not shown or row.received > shown[-1].sent]
    return min([*unlisted[:1], *later[:1]], key=lambda row: row.received, default=None)


def _restarts(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """Whether the room is another one than before, and whether a restart made it so."""
    sids = [(row, sid) for row in scene.nest.rows if (sid := _sid(row))]
    deeds = [row for row in scene.nest.rows if row.operation == Operation.RESTART and row.outcome == Outcome.ACCEPTED]
    renewed = next((row for row, sid in sids if sid != sids[0][1]), None)
    ended = None if renewed is None else _ended_before(scene, sids[0][1], renewed, deeds)
    if ended is not None:
        said = f"LiveKit did not have the room {scene.at(ended)}, before it was made anew"
        yield Fact.GONE_BEFORE, scene.say(said, [ended, *deeds])
    if renewed is not None:
        yield Fact.RESTARTED, scene.say(f"another room under its name {scene.at(renewed)}", [*deeds, renewed])
    if not deeds:
        return
    before = [(row, sid) for row, sid in sids if row.sent < deeds[0].sent]
    after = [(row, sid) for row, sid in sids if row.sent > deeds[-1].received]
    listed = [row for row in scene.nest.rows if row.operation == Operation.ROOMS and row.proof]
    none = [row for row in listed if row.absent and row.sent > deeds[-1].received + round(ANEW_S * SECOND_NS)]
    if none and not after:
        said = f"a restart was accepted {scene.at(deeds[0])}, and LiveKit has no room {scene.at(none[-1])}"
        yield Fact.NO_ROOM_ANEW, scene.say(said, [*deeds, none[-1]])
    if before and after and after[-1][1] == before[-1][1]:
        said = f"a restart was accepted {scene.at(deeds[0])}, and it is the same room {scene.at(after[-1][0])}"
        yield Fact.SAME_ROOM, scene.say(said, [*deeds, before[-1][0], after[-1][0]])


def _ended_before(scene: Scene, sid: str, renewed: Row, deeds: list[Row]) -> Row | None:
    """What says that the room had gone before a restart took it away: LiveKit's list, before the restart was asked for
    or, where nobody saw that, for longer than a restart takes. None where nothing does."""
    seen = (row.received for row in scene.nest.rows if _sid(row) == sid and row.received <= renewed.received)
    last = max(seen, default=renewed.sent)
    listed = [row for row in scene.nest.rows if row.operation == Operation.ROOMS and row.proof and row.absent]
    missing = [row for row in listed if last <= row.sent < renewed.sent]
    asked = min((row.sent for row in deeds if row.received > last), default=None)
    if asked is not None:
        return next((row for row in missing if row.received <= asked), None)
    long = bool(missing) and missing[-1].sent - missing[0].received > RESTART_S * SECOND_NS
    return missing[0] if long else None


def _sid(row: Row) -> str:
    """The id of the room that a row shows, "" where it shows none."""
    hooks = row.source == Source.WEBHOOK and row.text("event") != "room_finished"
    if not hooks and not (row.source == Source.LIVEKIT and row.visible):
        return ""
    return row.text("sid") or row.text("room_sid")


# names


def _names(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """Whether the API calls the nest otherwise than its event does."""
    event = scene.nest.address.split(":", 2)[-1] or scene.nest.room
    for row, name in scene.nest.named():
        given = _identifier(name) if row.operation == Operation.INFO else name
        if given and event and given != event:
            said = f"the API calls it {given[:60]!r} {scene.at(row)}, its event {event[:60]!r}"
            yield Fact.OTHER_ROOM, scene.say(said, [row])
            return


def _identifier(link: str) -> str:
    """The room that a link's naddr names, "" where it holds none."""
    try:
        return read_naddr(link[link.index("naddr1") :]).identifier
    except (AddressError, ValueError):
        return ""
