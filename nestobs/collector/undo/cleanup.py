"""Undo what a run made in the world, from its ledger: now at the end of a run, or at the next start after a crash.

A room is removed and its event withdrawn, and then it is looked whether they are gone (removal.py, withdrawal.py): what
is found then, and not what was said to it, closes an entry of the ledger or is its note.

A PUT whose answer never came may have made a room whose name we were not told: rooms that LiveKit lists from about that
instant are looked up by `/info`, and ours is the one whose host is our key. Where `/info` does not say (yet), a key
made for that run alone settles it: it has hosted nothing else, so the API's own check on DELETE answers 204 for ours
and 403 for anybody else's. An operator's key is not used so: it may host rooms that are none of ours. A room that
another entry names was made by that entry's PUT. Nothing is deleted on a guess. A room of which it is not proven yet is
entered as a candidate of that key: LiveKit may have forgotten it at the next look, and the API not. A server may still
be at work on a young PUT, so of that nothing is concluded before GRACE_S. Where the answer came, and the process ended
before its ledger knew, the PUT's row names the room.

A key file that no ledger names is of a run that was killed at once, or whose store is gone: what it made is looked for
on the relays and in LiveKit's list, entered in the ledger and undone; where nothing of it exists it is forgotten.

What an API without a DELETE keeps, nobody can undo: that is said once, and the entry is closed as leaked.

A timeout or a 5xx proves nothing: at the end of a run it is asked again, until it is known or `SETTLE_S` are over. What
is asked here is recorded as a `read_back`, which speaks of no layer, so that it makes no timeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from nestobs.collector.keyring import OPERATOR, KeyFile, Keyring
from nestobs.collector.station import Station
from nestobs.collector.undo.deeds import DELETED, of_run, withdraw
from nestobs.collector.undo.removal import EMPTY_S, ENDS, Left, Whose, delete_room, record_of
from nestobs.collector.undo.withdrawal import PATIENCE_S, is_over
from nestobs.errors import StoreError
from nestobs.nostr import ROOM_KIND, Keys, room_filter
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Operation, Outcome, Role
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import NO_TRACE, Trace
from nestobs.store.ledger import Entry
from nestobs.store.reader import Store
from nestobs.store.writer import Writer

SEARCH_S: Final = 120.0
"""LiveKit's stamp of a room may be this far from our own of the PUT: clocks differ, and rooms may come late."""

GRACE_S: Final = 20.0
"""A server may still work on a PUT for so long after it was sent, though we no longer wait for its answer."""

RECORD_S: Final = 86_400.0
"""How long an API keeps a record of a room (E)."""

CANDIDATE: Final = "candidate"
"""The kind of an entry of a room that a PUT without an answer may have made; whose it is was not proven yet."""

_UNPROVED: Final = "the PUT was not answered, and whose room {} is the API does not say yet: start again later"

AT_ONCE: Final = 8
"""So many rooms are deleted, or events withdrawn, at a time."""

SETTLE_S, PAUSE_S = 60.0, 1.0
"""For how long what is not proven is asked again at the end of a run, and the first pause; each is twice the last."""

MOST_ASKED: Final = 20
"""How many rooms of LiveKit's list are looked up by `/info` for a key that no ledger names, at a start."""

ROUNDS: Final = 5
"""How often it is looked what such a key made, each time after what was found is undone."""


@dataclass(slots=True)
class Cleaned:
    """What was undone: rooms and events, and what is left, each with the reason. unsettled: of how many it is not
    proven yet that they are, or are not."""

    rooms: int = 0
    events: int = 0
    left: list[str] = field(default_factory=list)
    unsettled: int = 0

    def add(self, more: Cleaned) -> None:
        """Add what else was undone, or is left."""
        self.rooms, self.events = self.rooms + more.rooms, self.events + more.events
        self.left, self.unsettled = self.left + more.left, self.unsettled + more.unsettled

    def again(self, later: Cleaned) -> None:
        """Add what was undone of the same later; what is left is what is left now."""
        self.rooms, self.events = self.rooms + later.rooms, self.events + later.events
        self.left, self.unsettled = later.left, later.unsettled

    def sentence(self) -> str:
        """For people."""
        words = f"deleted {self.rooms} rooms and withdrew {self.events} events"
        return words if not self.left else f"{words}; left {len(self.left)}: {self.left[0]}"


async def settle(
    station: Station,
    writer: Writer,
    keyring: Keyring,
    store: Store,
    run_id: str = "",
    *,
    traces: Mapping[str, Trace] | None = None,
) -> Cleaned:
    """Undo what a run left open, or ("") all runs at this API, asking again where nothing is proven.

    A room that LiveKit does not list is not left, though its entry stays while the API does not answer. traces: of
    rooms of the run, whose rows go on.
    """
    clock, pause_s, cleaned = station.clock, PAUSE_S, Cleaned()

    def mine() -> list[Entry]:
        return of_run(store, run_id) if run_id else [each for each in store.ledger() if each.api == station.api.url]

    unanswered = [entry.opened_at for entry in mine() if entry.kind == "room" and not entry.room]
    youngest = min(max(unanswered, default=0), clock.now())  # later ones were entered by a clock that was ahead
    await clock.until(youngest + round(GRACE_S * SECOND_NS))
    end = clock.now() + round(SETTLE_S * SECOND_NS)
    async with AsyncExitStack() as stack:
        cleaner = _Cleaner(
            station=station, writer=writer, keyring=keyring, store=store, stack=stack, traces=traces or {}
        )
        while entries := mine():
            now = await cleaner.undo(entries)
            cleaned.again(now)
            if not now.unsettled or clock.now() >= end:
                return cleaned
            await clock.until(clock.now() + round(pause_s * SECOND_NS))
            pause_s *= 2
    return cleaned


async def clean_up(
    station: Station, writer: Writer, keyring: Keyring, store: Store, entries: Iterable[Entry]
) -> Cleaned:
    """Undo the entries that belong to this station's API; entries of other APIs are left to their own target's run."""
    async with AsyncExitStack() as stack:
        return await _Cleaner(station=station, writer=writer, keyring=keyring, store=store, stack=stack).undo(entries)


def strays(station: Station, keyring: Keyring, store: Store) -> list[KeyFile]:
    """Key files for this station's API, or that do not say for which, that the ledger of their store does not name."""
    named = {entry.key_ref for entry in store.ledger()}
    return [
        file
        for file in keyring.files()
        if file.api in ("", station.api.url) and file.name not in named and not _named_elsewhere(file)
    ]


def _named_elsewhere(file: KeyFile) -> bool:
    try:
        there = Store.open(file.store, create=False).ledger() if file.store else []
    except StoreError:
        return False  # it is gone
    return any(entry.key_ref == file.name for entry in there)


async def clean_strays(
    station: Station, writer: Writer, keyring: Keyring, store: Store, files: Iterable[KeyFile]
) -> Cleaned:
    """Undo what the keys of these files made, if they made anything; then they are forgotten."""
    cleaned = Cleaned()
    async with AsyncExitStack() as stack:
        cleaner = _Cleaner(station=station, writer=writer, keyring=keyring, store=store, stack=stack)
        for file in files:
            with keyring.held(file.name) as mine:
                if mine:
                    cleaned.add(await cleaner.stray(file))
    return cleaned


@dataclass(slots=True)
class _Cleaner:
    """What undoing takes. others: rooms that no unanswered PUT of ours has made. `stack` ends the relays it opens.
    more: what was found beside what was looked for."""

    station: Station
    writer: Writer
    keyring: Keyring
    store: Store
    stack: AsyncExitStack
    traces: Mapping[str, Trace] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    whose: Whose = field(default_factory=Whose)
    more: list[tuple[Entry, Left | str]] = field(default_factory=list)
    relays: dict[tuple[str, str], Relay] = field(default_factory=dict)

    async def undo(self, entries: Iterable[Entry], *, forgetting: bool = True) -> Cleaned:
        """Undo entries of this API; a key is forgotten when nothing of these is left, if `forgetting`."""
        mine = await asyncio.to_thread(self.told, [each for each in entries if each.api == self.station.api.url])
        places = asyncio.Semaphore(AT_ONCE)

        async def in_turn(entry: Entry) -> tuple[Entry, Left | str]:
            async with places:
                return await self.one(entry)

        rooms = [entry for entry in mine if entry.kind != "event"]
        if self.station.api.ration is None:
            ends = await asyncio.gather(*(in_turn(entry) for entry in rooms if entry.room))
        else:  # few requests undo a few, one after the other, and not none of many
            ends = [await self.one(entry) for entry in rooms if entry.room]
        ends += [await self.one(entry) for entry in rooms if not entry.room]  # what is left in the list may be theirs
        ends, self.more = ends + self.more, []
        ends += await asyncio.gather(*(in_turn(entry) for entry in mine if entry.kind == "event"))
        cleaned = Cleaned()
        for entry, found in ends:
            if isinstance(found, Left):
                cleaned.left += [] if found.gone else [f"{_name(entry)}: {found.why}"]
                cleaned.unsettled += not found.settled
            elif entry.kind == "event":
                cleaned.events += 1
            elif found == DELETED:
                cleaned.rooms += 1
        still = {entry.key_ref for entry, found in ends if isinstance(found, Left) and not self.leaked(entry, found)}
        for name in {entry.key_ref for entry in mine} - still if forgetting else ():
            self.keyring.forget(name)
        return cleaned

    def told(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries, of a PUT without a room under the one that a row of its run's PUTs names and no entry does:
        then the process ended when it had the answer and its ledger had not. What any entry names is nobody else's."""
        ledger = self.store.ledger(open_only=False)
        self.others |= {entry.room for entry in ledger if entry.room and entry.kind == "room"}
        nameless = [entry for entry in entries if entry.kind == "room" and not entry.room]
        found = {run_id: self.rooms_told(run_id, nameless) for run_id in {entry.run_id for entry in nameless}}
        return [self.named(each, found[each.run_id]) if each in nameless else each for each in entries]

    def named(self, entry: Entry, rooms: list[str]) -> Entry:
        """The entry under one of these rooms, if there is any, and no other's any more."""
        if not rooms:
            return entry
        room = rooms.pop()
        self.writer.update_entry(entry.entry_id, room=room)
        self.others.add(room)
        return replace(entry, room=room)

    def rooms_told(self, run_id: str, nameless: Iterable[Entry]) -> list[str]:
        """Rooms that answers to a run's PUTs named, and no entry names; none where rows cannot be read: what was made
        is undone all the same, as far as the ledger and LiveKit know."""
        since = min(entry.opened_at for entry in nameless if entry.run_id == run_id)
        try:
            rows = list(self.store.observations(run_id=run_id, start=since - round(SEARCH_S * SECOND_NS)))
        except StoreError:
            return []
        told = (str(facts_of(row.detail).get("room") or "") for row in rows if row.operation is Operation.CREATE)
        return [room for room in dict.fromkeys(told) if room and room not in self.others]

    async def one(self, entry: Entry) -> tuple[Entry, Left | str]:
        """Undo one entry: close it, or note why it stays."""
        keys = self.keyring.find(entry.key_ref)
        found: Left | str
        if keys is None:
            found = Left(f"its key {entry.key_ref} is not here; set NESTOBS_NSEC if it was yours")
        elif entry.kind == "room":
            found = await self.room(entry, keys)
        elif entry.kind == CANDIDATE:
            found = await self.candidate(entry, keys)
        else:
            trace = self.trace(entry.nest.split(":", 2)[-1], entry.nest)
            found = await withdraw(self.station, trace, keys, await self.of(entry.key_ref, keys, entry.relays))
        if isinstance(found, Left) and not self.leaked(entry, found):
            if found.why != entry.note:
                await asyncio.to_thread(self.writer.update_entry, entry.entry_id, note=found.why)
            return entry, found
        how = f"leaked: {found.why}" if isinstance(found, Left) else found
        await asyncio.to_thread(self.writer.close_entry, entry.entry_id, at=self.station.clock.now(), how=how)
        return entry, found

    def leaked(self, entry: Entry, found: Left) -> bool:
        """Whether nothing more is tried."""
        return self.station.clock.now() - entry.opened_at >= found.leaked_s * SECOND_NS

    async def of(self, key_ref: str, keys: Keys, urls: Iterable[str]) -> list[Relay]:
        """The relays at these addresses, the station's where there are none, which know us by these keys (NIP-42)."""
        wanted = list(dict.fromkeys(urls)) or [relay.url for relay in self.station.relays]
        for url in wanted:
            if (key_ref, url) not in self.relays:
                self.relays[key_ref, url] = Relay(self.station.vantage, url, keys=keys)
                await self.stack.enter_async_context(self.relays[key_ref, url])
        return [self.relays[key_ref, url] for url in wanted]

    def trace(self, room: str, nest: str = "") -> Trace:
        return self.traces.get(room) or Trace(nest=nest, room=room)

    async def room(self, entry: Entry, keys: Keys) -> Left | str:
        """Delete a room; how it went, as Left when it is not gone. What a PUT without an answer made is entered before:
        LiveKit may have forgotten it at the next look, and the API not."""
        room, unproved = entry.room, list[str]()
        if not room:
            ends = f"{ENDS}, at the latest by {_clock(entry.opened_at + round(EMPTY_S * SECOND_NS))}"
            livekit = self.station.livekit
            if livekit is None or not livekit.lists_rooms:
                if self.station.clock.now() - entry.opened_at > RECORD_S * SECOND_NS:
                    return "not known, and over by itself"
                why = "the PUT was not answered, and what it made cannot be known without LiveKit's key"
                return Left(f"{why}, since its room list cannot be asked{ends}")
            listed = await livekit.all_rooms()
            if listed is None:
                return Left(f"neither the PUT nor LiveKit's room list was answered{ends}", settled=False)
            asked_at, far = self.clocks(entry.opened_at), SEARCH_S * SECOND_NS
            near = (room for room, at in listed.items() if min(abs(at - each) for each in asked_at) <= far)
            rooms, unproved = await self.search(near, entry.key_ref, keys)
            await self.remember(entry, unproved)
            for number, room in enumerate(rooms):
                if number:
                    self.more.append(await self.one(await self.entered(entry, room)))
            if rooms:
                room = rooms[0]
                await asyncio.to_thread(self.writer.update_entry, entry.entry_id, room=room)
        if room:
            return await delete_room(self.station, self.trace(room, entry.nest), keys) or DELETED
        if self.station.clock.now() - entry.opened_at < GRACE_S * SECOND_NS:
            return Left("the PUT was not answered, and its server may still be at it: start again later", settled=False)
        return "never made" if not unproved else f"not known: {' or '.join(unproved)}, or never made"

    def clocks(self, at: int) -> tuple[int, int]:
        """An instant of our clock as it is, and as the API's has it, by which LiveKit's may go: ours may have been as
        wrong then as it is now."""
        now = self.station.clock.now()
        return at, at + self.station.vantage.theirs(now) - now

    async def candidate(self, entry: Entry, keys: Keys) -> Left | str:
        """Delete a room that a PUT without an answer may have made, once it is proven to be ours; how it went. Nothing
        more is tried when it is somebody else's, or no part has it any more."""
        trace = self.trace(entry.room)
        ours = await self.whose.ours(self.station, entry.room, keys, asks=entry.key_ref != OPERATOR)
        if ours:
            await asyncio.to_thread(self.writer.update_entry, entry.entry_id, kind="room")
            return await delete_room(self.station, trace, keys) or DELETED
        if ours is False:
            return "not ours"
        age_s = (self.station.clock.now() - entry.opened_at) / SECOND_NS
        if age_s > RECORD_S:
            return "not known, and over by itself"
        if age_s > SEARCH_S and await self.nowhere(trace):
            return "gone"
        return Left(_UNPROVED.format(entry.room), settled=False)

    async def nowhere(self, trace: Trace) -> bool:
        """Whether the API has no record of a room, and LiveKit does not list it."""
        listed = await self.station.livekit.all_rooms() if self.station.livekit else None
        return listed is not None and trace.room not in listed and await record_of(self.station, trace) is None

    async def remember(self, entry: Entry, rooms: Iterable[str]) -> None:
        """Enter rooms as candidates of an entry's key, those that are not."""
        there = {(each.key_ref, each.room) for each in self.store.ledger() if each.kind == CANDIDATE}
        for room in rooms:
            if (entry.key_ref, room) not in there:
                why = Left(_UNPROVED.format(room), settled=False)
                self.more.append((await self.entered(entry, room, kind=CANDIDATE, note=why.why), why))

    async def entered(self, like: Entry, room: str, *, kind: str = "room", note: str = "") -> Entry:
        """One more entry of a key's, of a room that was found with another, or may be its."""
        found = replace(like, room=room, kind=kind, note=note)
        names = ("kind", "run_id", "vantage", "api", "room", "nest", "relays", "key_ref", "note")
        values: dict[str, Any] = {name: getattr(found, name) for name in names}
        number = await asyncio.to_thread(self.writer.open_entry, at=like.opened_at, **values)
        if kind == "room":
            self.others.add(room)
        return replace(found, entry_id=number)

    async def search(self, listed: Iterable[str], key_ref: str, keys: Keys) -> tuple[list[str], list[str]]:
        """Of rooms that LiveKit lists those that are ours, and those whose host the API did not prove.

        A room whose host is somebody else is neither.
        """
        found, unproved = [], []
        for room in listed:
            if room not in self.others:
                ours = await self.whose.ours(self.station, room, keys, asks=key_ref != OPERATOR)
                if ours is None:
                    unproved.append(room)
                elif ours:
                    found.append(room)
        return found, unproved

    async def stray(self, file: KeyFile) -> Cleaned:
        """Undo what a key made that no ledger names, and forget it when nothing of it is found."""
        keys, cleaned = self.keyring.find(file.name), Cleaned()
        age_s = (self.station.clock.now() - file.made_at) / SECOND_NS
        if keys is None:
            if age_s > GRACE_S:  # else it may be just being written
                self.keyring.forget(file.name)
            return cleaned
        for _ in range(ROUNDS):
            nests, unproved, unknown = await self.made_by(file, keys)
            if not nests and unproved and not unknown:
                for room in unproved:
                    found = await self.adopted(file, keys, room, kinds=(CANDIDATE,))
                    cleaned.left += [f"{room}: {_UNPROVED.format(room)}" for _ in found]
                    cleaned.unsettled += len(found)
                return cleaned
            if not nests:
                if unknown:
                    cleaned.left.append(f"a key of the run {_run_of(file)} that no ledger names: {'; '.join(unknown)}")
                    cleaned.unsettled += 1
                elif self.lists_rooms or age_s > EMPTY_S:
                    self.keyring.forget(file.name)
                return cleaned
            entries = list[Entry]()
            for room, relays in nests.items():
                entries += await self.adopted(file, keys, room, relays, kinds=("room", "event")[: 2 if relays else 1])
            undone = await self.undo(entries, forgetting=False)
            cleaned.add(undone)
            if undone.left or undone.unsettled:
                break  # it is in the ledger now
        return cleaned

    @property
    def lists_rooms(self) -> bool:
        return self.station.livekit is not None and self.station.livekit.lists_rooms

    async def made_by(self, file: KeyFile, keys: Keys) -> tuple[dict[str, list[str]], list[str], list[str]]:
        """What a key is found to have made and left: room -> relays that show it open; rooms of which it is not proven;
        and why more is not known."""
        relays = await self.of(file.name, keys, ())
        asked: dict[str, Any] = {"role": Role.HOST, "operation": Operation.READ_BACK, "timeout_s": PATIENCE_S}
        await asyncio.gather(*(relay.ready(PATIENCE_S) for relay in relays))
        filters = room_filter(authors=[keys.public])
        looks = await asyncio.gather(*(relay.look(NO_TRACE, filters=filters, **asked) for relay in relays))
        nests: dict[str, list[str]] = {}
        unknown: list[str] = []
        for relay, looked in zip(relays, looks, strict=True):
            if looked.row.outcome not in (Outcome.VISIBLE, Outcome.ABSENT):
                unknown.append(f"not known of {relay.url} ({looked.row.reason})")
            for event in looked.events:
                if (room := event.tag("d")) and not is_over(event, self.station.clock.now()):
                    nests.setdefault(room, []).append(relay.url)
        listed = await self.station.livekit.all_rooms() if self.lists_rooms and self.station.livekit else {}
        if listed is None:
            unknown.append("LiveKit's room list was not answered")
        since = min(self.clocks(file.made_at)) - round(SEARCH_S * SECOND_NS)
        late = [room for room, at in (listed or {}).items() if at >= since and room not in nests]
        rooms, unproved = await self.search(late[:MOST_ASKED], file.name, keys)
        if more := len(late[MOST_ASKED:]):
            unknown.append(f"whose {more} of the rooms in LiveKit's list are is not known")
        return nests | {room: [] for room in rooms}, unproved, unknown

    async def adopted(
        self, file: KeyFile, keys: Keys, room: str, relays: Sequence[str] = (), *, kinds: Iterable[str]
    ) -> list[Entry]:
        """The entries of a nest that was found, made now."""
        common = {
            "run_id": _run_of(file),
            "vantage": self.station.vantage.name,
            "api": self.station.api.url,
            "room": room,
            "nest": f"{ROOM_KIND}:{keys.public}:{room}",
            "key_ref": file.name,
        }
        entries = []
        for kind in kinds:
            at = self.station.clock.now()
            values: dict[str, Any] = common | {"kind": kind, "relays": tuple(relays)}
            number = await asyncio.to_thread(self.writer.open_entry, at=at, **values)
            entries.append(Entry(entry_id=number, opened_at=at, closed_at=None, how="", note="", **values))
        return entries


def _run_of(file: KeyFile) -> str:
    return file.name.removesuffix(".nsec")


def _clock(at: int) -> str:
    return datetime.fromtimestamp(at // SECOND_NS, UTC).strftime("%H:%M:%S UTC")


def _name(entry: Entry) -> str:
    said = entry.room or entry.nest or f"a room asked for in run {entry.run_id}"
    return f"the event of {said}" if entry.kind == "event" else said
