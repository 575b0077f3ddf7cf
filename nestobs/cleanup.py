"""Undo what a run made in the world, from its ledger: now at the end of a run, or at the next start after a crash.

A room is deleted by the API as its host; where the API has no such route, by LiveKit with the operator's key; where
neither is possible the entry stays open and says so. A PUT whose answer never came may have made a room whose name we
were not told: rooms that LiveKit lists from about that instant are looked up by `/info`, and ours is the one whose
host is our key. Nothing is ever deleted on a guess. Events are withdrawn by a deletion request (NIP-09).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from nestobs.keyring import Keyring
from nestobs.nostr import DELETION_KIND, Keys
from nestobs.observation import Failure, Outcome, Role
from nestobs.sources.relay import Relay
from nestobs.station import Station
from nestobs.store import Entry, Writer
from nestobs.vantage import Trace

SECOND_NS: Final = 1_000_000_000
SEARCH_S: Final = 15.0
"""A room may be listed this long after the PUT was sent."""


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
    rooms = [entry.room] if entry.room else await _search(station, entry, keys)
    if rooms is None:
        return "the PUT was not answered and LiveKit's room list cannot be asked: it ends by its own empty timeout"
    for room in rooms:
        if problem := await delete_room(station, room, keys):
            return problem
    how = "deleted" if rooms else "never made"
    await _closed(station, writer, entry, how)
    return ""


async def delete_room(station: Station, room: str, keys: Keys) -> str:
    """Delete one room of ours by the API, or by LiveKit where the API cannot; "" when gone, else why not."""
    trace = Trace(room=room)
    answer = await station.api.delete(trace, keys, role=Role.HOST, timeout_s=5.0)
    row = answer.row
    if row.outcome in (Outcome.ACCEPTED, Outcome.ABSENT) and row.failure is not Failure.WRONG_PATH:
        return ""
    no_route = row.failure is Failure.WRONG_PATH or row.status in (405, 501)
    if no_route and station.livekit is not None and station.livekit.lists_rooms:
        row = await station.livekit.delete(trace)
        return "" if row.outcome is Outcome.ACCEPTED else row.reason
    if no_route:
        return "this API has no DELETE and there is no LiveKit key: the room ends by its own empty timeout"
    return row.reason


async def _search(station: Station, entry: Entry, keys: Keys) -> list[str] | None:
    """Rooms of ours that may come from an unanswered PUT; None when the room list cannot be asked."""
    if station.livekit is None or not station.livekit.lists_rooms:
        return None
    found = []
    first, last = entry.opened_at - 2 * SECOND_NS, entry.opened_at + round(SEARCH_S * SECOND_NS)
    for room, created_at in (await station.livekit.all_rooms()).items():
        if first <= created_at <= last:
            answer = await station.api.info(Trace(room=room), role=Role.HOST)
            if answer.body is not None and answer.body.get("host") == keys.public:
                found.append(room)
    return found


async def _event(station: Station, writer: Writer, entry: Entry, keys: Keys) -> str:
    """Ask the relays to delete an event; "" when one of them took the request."""
    if await withdraw(station, entry.nest, keys):
        await _closed(station, writer, entry, "deletion requested")
        return ""
    return "no relay took the deletion request"


async def withdraw(station: Station, nest: str, keys: Keys) -> bool:
    """Publish a deletion request (NIP-09) for an address to every relay; whether any accepted."""
    event = keys.sign(
        DELETION_KIND,
        created_at=station.clock.now() // SECOND_NS,
        tags=[("a", nest), ("k", nest.split(":", 1)[0])],
        content="made by nestobs to measure propagation",
    )
    trace = Trace(nest=nest, room=nest.split(":", 2)[2])

    async def one(relay: Relay) -> bool:
        await relay.ready(3.0)
        row = await relay.publish(trace, event, timeout_s=3.0, read_back=False)
        return row.outcome is Outcome.ACCEPTED

    return any(await asyncio.gather(*(one(relay) for relay in station.relays)))


async def _closed(station: Station, writer: Writer, entry: Entry, how: str) -> None:
    await asyncio.to_thread(writer.close_entry, entry.entry_id, at=station.clock.now(), how=how)
