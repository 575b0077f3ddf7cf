"""Undo what a run made in the world, from its ledger: now at the end of a run, or at the next start after a crash.

A room is deleted by the API as its host; where the API has no such route, by LiveKit with the operator's key; where
neither is possible the entry stays open and says so. A PUT whose answer never came may have made a room whose name we
were not told: rooms that LiveKit lists from about that instant are looked up by `/info`, and ours is the one whose
host is our key. Where `/info` does not say (yet), a key made for that run alone settles it: it has hosted nothing else,
so the API's own check on DELETE answers 204 for ours and 403 for anybody else's. An operator's key is not used so: it
may host rooms that are none of ours. Nothing is deleted on a guess. Events are withdrawn by deletion requests (NIP-09).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from nestobs.collector.keyring import OPERATOR, Keyring
from nestobs.collector.station import Station
from nestobs.nostr import DELETION_KIND, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Outcome, Role
from nestobs.sources.livekit import LiveKit
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace
from nestobs.store.ledger import Entry
from nestobs.store.writer import Writer

SEARCH_S: Final = 120.0
"""LiveKit's stamp of a room may be this far from our own of the PUT: clocks differ, and rooms may come late."""


@dataclass(slots=True)
class Cleaned:
    """What was undone: rooms and events, and what had to stay, each with the reason."""

    rooms: int = 0
    events: int = 0
    left: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """For people."""
        words = f"deleted {self.rooms} rooms and withdrew {self.events} events"
        return words if not self.left else f"{words}; left {len(self.left)}: {self.left[0]}"


async def clean_up(station: Station, writer: Writer, keyring: Keyring, entries: Iterable[Entry]) -> Cleaned:
    """Undo the entries that belong to this station's API; entries of other APIs are left to their own target's run."""
    cleaned = Cleaned()
    done: set[str] = set()
    still: set[str] = set()
    for entry in entries:
        if entry.api != station.api.url:
            continue
        keys = keyring.find(entry.key_ref)
        if keys is None:
            problem = f"its key {entry.key_ref} is not here; set NESTOBS_NSEC if it was yours"
        else:
            problem = await (_room if entry.kind == "room" else _event)(station, writer, entry, keys)
        (still if problem else done).add(entry.key_ref)
        if problem:
            cleaned.left.append(f"{_name(entry)}: {problem}")
        elif entry.kind == "room":
            cleaned.rooms += 1
        else:
            cleaned.events += 1
    for name in done - still:
        keyring.forget(name)
    return cleaned


def _name(entry: Entry) -> str:
    return entry.room or entry.nest or f"a room asked for in run {entry.run_id}"


async def _room(station: Station, writer: Writer, entry: Entry, keys: Keys) -> str:
    """Delete a room; "" when it is gone, else why it is not."""
    unproved: list[str] = []
    if entry.room:
        rooms: list[str] | None = [entry.room]
    else:
        rooms, unproved = await _search(station, entry, keys)
    if rooms is None:
        return "the PUT was not answered and LiveKit's room list cannot be asked: it ends by its own empty timeout"
    for room in rooms:
        if problem := await delete_room(station, Trace(nest=entry.nest, room=room), keys):
            return problem
    if unproved and not rooms:
        return f"the PUT was not answered, and whose room {unproved[0]} is the API does not say yet: start again later"
    how = "deleted" if rooms else "never made"
    await _closed(station, writer, entry, how)
    return ""


async def delete_room(station: Station, trace: Trace, keys: Keys) -> str:
    """Delete one room of ours by the API, or by LiveKit where the API cannot; "" when gone, else why not."""
    answer = await station.api.delete(trace, keys, role=Role.HOST, timeout_s=5.0)
    row = answer.row
    if row.outcome is Outcome.ACCEPTED:
        return ""
    no_route = row.failure is Failure.WRONG_PATH or row.status in (405, 501)
    if (no_route or row.outcome is Outcome.ABSENT) and station.livekit is not None and station.livekit.lists_rooms:
        return await _end_in_livekit(station.livekit, trace)  # the record may be gone, or never was, and the room not
    if row.outcome is Outcome.ABSENT:
        return ""
    if no_route:
        return "this API has no DELETE and there is no LiveKit key: the room ends by its own empty timeout"
    return row.reason


async def _end_in_livekit(livekit: LiveKit, trace: Trace) -> str:
    """Delete a room of ours that LiveKit lists; "" when it lists none or has deleted it, else why not."""
    listed = await livekit.rooms(trace)
    if listed.outcome is Outcome.ABSENT:
        return ""
    row = await livekit.delete(trace)
    return "" if row.outcome is Outcome.ACCEPTED else row.reason


async def _search(station: Station, entry: Entry, keys: Keys) -> tuple[list[str] | None, list[str]]:
    """Rooms of ours that may come from an unanswered PUT, and rooms whose host the API did not prove.

    (None, []) when the room list cannot be asked. A room whose host is somebody else is neither.
    """
    listed = await station.livekit.all_rooms() if station.livekit is not None else None
    if listed is None:
        return None, []
    found, unproved = [], []
    for room, created_at in listed.items():
        if abs(created_at - entry.opened_at) <= SEARCH_S * SECOND_NS:
            answer = await station.api.info(Trace(room=room), role=Role.HOST)
            host = answer.body.get("host") if answer.body is not None else None
            if host == keys.public:
                found.append(room)
            elif not (answer.row.outcome is Outcome.VISIBLE and isinstance(host, str)):
                ours = None if entry.key_ref == OPERATOR else await _deletable(station, room, keys)
                found += [room] if ours else []
                unproved += [room] if ours is None else []
    return found, unproved


async def _deletable(station: Station, room: str, keys: Keys) -> bool | None:
    """Delete a room by a key that has hosted nothing but ours: True, it was ours; False, it is not; None, no answer."""
    row = (await station.api.delete(Trace(room=room), keys, role=Role.HOST, timeout_s=5.0)).row
    return {204: True, 200: True, 202: True, 403: False}.get(row.status or 0)


async def _event(station: Station, writer: Writer, entry: Entry, keys: Keys) -> str:
    """Ask the relays to delete an event; "" when one of them took the request."""
    trace = Trace(nest=entry.nest, room=entry.nest.split(":", 2)[-1])
    if await withdraw(station, trace, keys):
        await _closed(station, writer, entry, "deletion requested")
        return ""
    return "no relay took the deletion request"


async def withdraw(station: Station, trace: Trace, keys: Keys) -> bool:
    """Publish a deletion request (NIP-09) for a nest's address to every relay; whether any accepted."""
    event = keys.sign(
        DELETION_KIND,
        created_at=station.clock.now() // SECOND_NS,
        tags=[("a", trace.nest), ("k", trace.nest.split(":", 1)[0])],
        content="made by nestobs to measure propagation",
    )

    async def one(relay: Relay) -> bool:
        await relay.ready(3.0)
        row = await relay.publish(trace, event, timeout_s=3.0, read_back=False)
        return row.outcome is Outcome.ACCEPTED

    return any(await asyncio.gather(*(one(relay) for relay in station.relays)))


async def _closed(station: Station, writer: Writer, entry: Entry, how: str) -> None:
    await asyncio.to_thread(writer.close_entry, entry.entry_id, at=station.clock.now(), how=how)
