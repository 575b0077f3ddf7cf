"""Undo what a run made in the world, from its ledger: now at the end of a run, or at the next start after a crash.

A room is deleted by the API as its host; where the API has no such route, by LiveKit with the operator's key; where
neither is possible the entry stays open and says so. A PUT whose answer never came may have made a room whose name we
were not told: rooms that LiveKit lists from about that instant are looked up by `/info`, and ours is the one whose
host is our key. Where `/info` does not say (yet), a key made for that run alone settles it: it has hosted nothing else,
so the API's own check on DELETE answers 204 for ours and 403 for anybody else's. An operator's key is not used so: it
may host rooms that are none of ours. A room that another entry names was made by that entry's PUT. Nothing is deleted
on a guess. Events are withdrawn by deletion requests (NIP-09).

A timeout or a 5xx proves nothing: at the end of a run it is asked again, until it is known or `SETTLE_S` are over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from nestobs.collector.keyring import OPERATOR, Keyring
from nestobs.collector.station import Station
from nestobs.errors import StoreError
from nestobs.nostr import DELETION_KIND, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Outcome, Role
from nestobs.sources.livekit import LiveKit
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace
from nestobs.store.ledger import Entry
from nestobs.store.reader import Store
from nestobs.store.writer import Writer

SEARCH_S: Final = 120.0
"""LiveKit's stamp of a room may be this far from our own of the PUT: clocks differ, and rooms may come late."""

GRACE_S: Final = 20.0
"""A server may still work on a PUT for so long after it was sent, though we no longer wait for its answer."""

SETTLE_S, PAUSE_S = 60.0, 1.0
"""For how long what is not proven is asked again at the end of a run, and the first pause; each is twice the last."""

_ENDS: Final = ": it ends by its own empty timeout"


@dataclass(frozen=True, slots=True)
class Left:
    """Why something is not undone. settled: that is proven, and asking again would tell nothing new. gone: the room
    is, and only its record may be left."""

    why: str
    settled: bool = True
    gone: bool = False


@dataclass(slots=True)
class Cleaned:
    """What was undone: rooms and events, and what is left, each with the reason. unsettled: of how many it is not
    proven yet that they are, or are not."""

    rooms: int = 0
    events: int = 0
    left: list[str] = field(default_factory=list)
    unsettled: int = 0

    def sentence(self) -> str:
        """For people."""
        words = f"deleted {self.rooms} rooms and withdrew {self.events} events"
        return words if not self.left else f"{words}; left {len(self.left)}: {self.left[0]}"


@dataclass(slots=True)
class Deeds:
    """What a run makes in the world, in the ledger before it is done. Each call waits for the disk, off the loop.

    entering: entries on their way; their key must not be forgotten before they are there.
    """

    host: Station
    writer: Writer
    key_ref: str
    entering: set[asyncio.Future[int]] = field(default_factory=set)

    async def enter(self, kind: str, trace: Trace) -> int:
        """Say that a room or an event is about to be made; the entry. Interrupted, it gets there all the same."""
        entering = asyncio.ensure_future(
            asyncio.to_thread(
                self.writer.open_entry,
                kind=kind,
                run_id=self.host.vantage.run_id,
                vantage=self.host.vantage.name,
                api=self.host.api.url,
                room=trace.room,
                nest=trace.nest,
                relays=[relay.url for relay in self.host.relays],
                key_ref=self.key_ref,
                at=self.host.clock.now(),
            )
        )
        self.entering.add(entering)
        entering.add_done_callback(self.entering.discard)
        return await asyncio.shield(entering)

    async def update(self, entry: int, **changes: str) -> None:
        """Add to an entry what has become known."""
        await asyncio.to_thread(self.writer.update_entry, entry, **changes)

    async def close(self, entry: int, how: str) -> None:
        """Say that nothing is left of it."""
        await asyncio.to_thread(self.writer.close_entry, entry, at=self.host.clock.now(), how=how)

    async def undo(self, trace: Trace, keys: Keys, entry: int, events: list[int], patience_s: float) -> Left | None:
        """Delete a room and withdraw its event; why the room is left, None when it is gone. What is not done within
        `patience_s` stays open."""
        try:
            async with asyncio.timeout(patience_s):
                deleting = delete_room(self.host, trace, keys)
                left, *kept = await asyncio.gather(deleting, *(withdraw(self.host, trace, keys) for _ in events))
                if left is not None:
                    await self.update(entry, note=left.why)
                else:
                    await self.close(entry, "deleted")
                for event in [event for event, why in zip(events, kept, strict=True) if why is None]:
                    await self.close(event, "deletion requested")
        except (TimeoutError, StoreError) as error:
            return Left(str(error) or f"not deleted within {patience_s:g} s", settled=False)
        return left


async def settle(
    station: Station, writer: Writer, keyring: Keyring, store: Store, run_id: str, *, traces: Mapping[str, Trace]
) -> list[str]:
    """Undo what a run left open, asking again where nothing is proven; a sentence for each room or event that is left.

    A room that LiveKit does not list is not left, though its entry stays while the API does not answer. traces: of
    rooms of the run, whose rows go on.
    """
    clock, pause_s = station.clock, PAUSE_S
    cleaner = _Cleaner(station, writer, keyring, traces)
    unanswered = [entry.opened_at for entry in of_run(store, run_id) if entry.kind == "room" and not entry.room]
    await clock.until(max(unanswered, default=0) + round(GRACE_S * SECOND_NS))
    end = clock.now() + round(SETTLE_S * SECOND_NS)
    while mine := of_run(store, run_id):
        cleaner.others |= {entry.room for entry in store.ledger(open_only=False) if entry.room}
        cleaned = await cleaner.undo(mine)
        if not cleaned.unsettled or clock.now() >= end:
            return cleaned.left
        await clock.until(clock.now() + round(pause_s * SECOND_NS))
        pause_s *= 2
    return []


def of_run(store: Store, run_id: str) -> list[Entry]:
    """What the ledger holds open of a run."""
    return [entry for entry in store.ledger() if entry.run_id == run_id]


async def clean_up(station: Station, writer: Writer, keyring: Keyring, entries: Iterable[Entry]) -> Cleaned:
    """Undo the entries that belong to this station's API; entries of other APIs are left to their own target's run."""
    return await _Cleaner(station, writer, keyring).undo(entries)


@dataclass(slots=True)
class _Cleaner:
    """What undoing takes. others: rooms that no unanswered PUT of ours has made."""

    station: Station
    writer: Writer
    keyring: Keyring
    traces: Mapping[str, Trace] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)

    async def undo(self, entries: Iterable[Entry]) -> Cleaned:
        cleaned = Cleaned()
        done: set[str] = set()
        still: set[str] = set()
        for entry in entries:
            if entry.api != self.station.api.url:
                continue
            keys = self.keyring.find(entry.key_ref)
            if keys is None:
                left: Left | None = Left(f"its key {entry.key_ref} is not here; set NESTOBS_NSEC if it was yours")
            else:
                left = await (self.room if entry.kind == "room" else self.event)(entry, keys)
            (still if left else done).add(entry.key_ref)
            if left is not None:
                cleaned.left += [] if left.gone else [f"{_name(entry)}: {left.why}"]
                cleaned.unsettled += not left.settled
            elif entry.kind == "room":
                cleaned.rooms += 1
            else:
                cleaned.events += 1
        for name in done - still:
            self.keyring.forget(name)
        return cleaned

    def trace(self, room: str, nest: str = "") -> Trace:
        return self.traces.get(room) or Trace(nest=nest, room=room)

    async def room(self, entry: Entry, keys: Keys) -> Left | None:
        """Delete a room; None when it is gone, else why it is not."""
        rooms: list[str] = [entry.room]
        unproved: list[str] = []
        if not entry.room:
            livekit = self.station.livekit
            if livekit is None or not livekit.lists_rooms:
                return Left("the PUT was not answered, and without LiveKit's key its room list cannot be asked" + _ENDS)
            listed = await livekit.all_rooms()
            if listed is None:
                return Left("neither the PUT nor LiveKit's room list was answered" + _ENDS, settled=False)
            rooms, unproved = await self.search(listed, entry, keys)
        for room in rooms:
            if left := await delete_room(self.station, self.trace(room, entry.nest), keys):
                return left
        if unproved and not rooms:
            whose = f"whose room {unproved[0]} is the API does not say yet"
            return Left(f"the PUT was not answered, and {whose}: start again later", settled=False)
        await self.close(entry, "deleted" if rooms else "never made")
        return None

    async def search(self, listed: Mapping[str, int], entry: Entry, keys: Keys) -> tuple[list[str], list[str]]:
        """Rooms of ours that may come from an unanswered PUT, and rooms whose host the API did not prove.

        listed: name -> instant of making, as LiveKit has it. A room whose host is somebody else is neither.
        """
        found, unproved = [], []
        for room, created_at in listed.items():
            if room not in self.others and abs(created_at - entry.opened_at) <= SEARCH_S * SECOND_NS:
                ours = await self.ours(room, entry, keys)
                if ours is None:
                    unproved.append(room)
                elif ours:
                    found.append(room)
                else:
                    self.others.add(room)
        return found, unproved

    async def ours(self, room: str, entry: Entry, keys: Keys) -> bool | None:
        """Whether we host a room; None where that is not proven.

        Where /info does not say, the room is deleted by a key that has hosted nothing but ours, if it is such a one.
        """
        answer = await self.station.api.info(Trace(room=room), role=Role.HOST)
        host = answer.body.get("host") if answer.body is not None else None
        if host == keys.public or (answer.row.outcome is Outcome.VISIBLE and isinstance(host, str)):
            return bool(host == keys.public)
        if entry.key_ref == OPERATOR:
            return None
        row = (await self.station.api.delete(Trace(room=room), keys, role=Role.HOST, timeout_s=5.0)).row
        return True if row.outcome is Outcome.ACCEPTED else False if row.status == 403 else None

    async def event(self, entry: Entry, keys: Keys) -> Left | None:
        """Ask the relays to delete an event; None when one of them took the request."""
        room = entry.nest.split(":", 2)[-1]
        left = await withdraw(self.station, self.trace(room, entry.nest), keys)
        if left is None:
            await self.close(entry, "deletion requested")
        return left

    async def close(self, entry: Entry, how: str) -> None:
        await asyncio.to_thread(self.writer.close_entry, entry.entry_id, at=self.station.clock.now(), how=how)


def _name(entry: Entry) -> str:
    return entry.room or entry.nest or f"a room asked for in run {entry.run_id}"


async def delete_room(station: Station, trace: Trace, keys: Keys) -> Left | None:
    """Delete one room of ours by the API, or by LiveKit where the API cannot; None when gone, else why not."""
    answer = await station.api.delete(trace, keys, role=Role.HOST, timeout_s=5.0)
    row = answer.row
    if row.outcome is Outcome.ACCEPTED:
        return None
    no_route = row.failure is Failure.WRONG_PATH or row.status in (405, 501)
    livekit = station.livekit if station.livekit is not None and station.livekit.lists_rooms else None
    if (no_route or row.outcome is Outcome.ABSENT) and livekit is not None:
        return await _end_in_livekit(livekit, trace)  # the record may be gone, or never was, and the room not
    if row.outcome is Outcome.ABSENT:
        return None
    if no_route:
        return Left("this API has no DELETE and there is no LiveKit key" + _ENDS)
    if row.outcome is not Outcome.UNKNOWN:
        return Left(row.reason)
    listed = Outcome.UNKNOWN if livekit is None else (await livekit.rooms(trace)).outcome
    said = "LiveKit lists the room" if listed is Outcome.VISIBLE else "whether LiveKit has the room is not known"
    return Left(f"DELETE: {row.reason}; {said}", settled=False, gone=listed is Outcome.ABSENT)


async def _end_in_livekit(livekit: LiveKit, trace: Trace) -> Left | None:
    """Delete a room of ours that LiveKit lists; None when it lists none or has deleted it, else why not."""
    listed = await livekit.rooms(trace)
    if listed.outcome is Outcome.ABSENT:
        return None
    row = await livekit.delete(trace)
    return None if row.outcome is Outcome.ACCEPTED else Left(row.reason, settled=row.outcome is not Outcome.UNKNOWN)


async def withdraw(station: Station, trace: Trace, keys: Keys) -> Left | None:
    """Publish a deletion request (NIP-09) for a nest's address to every relay; None when any accepted."""
    event = keys.sign(
        DELETION_KIND,
        created_at=station.clock.now() // SECOND_NS,
        tags=[("a", trace.nest), ("k", trace.nest.split(":", 1)[0])],
        content="made by nestobs to measure propagation",
    )

    async def one(relay: Relay) -> Outcome:
        await relay.ready(3.0)
        return (await relay.publish(trace, event, timeout_s=3.0, read_back=False)).outcome

    outcomes = await asyncio.gather(*(one(relay) for relay in station.relays))
    if Outcome.ACCEPTED in outcomes:
        return None
    return Left("no relay took the deletion request", settled=Outcome.UNKNOWN not in outcomes)
