"""What a run makes in the world: in its ledger before it is made, with its name as soon as that is told, and closed
when it is found to be gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from nestobs.collector.station import Station
from nestobs.collector.undo.removal import Left, delete_room
from nestobs.collector.undo.withdrawal import Found, Withdrawal, sentence
from nestobs.errors import StoreError
from nestobs.nostr import Event, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Observation
from nestobs.sources.api import Answer
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace
from nestobs.store.ledger import Entry
from nestobs.store.reader import Store
from nestobs.store.writer import Writer

DELETED: Final = "deleted"
"""How the entry of a room is closed that was there, and is gone."""

STAYS: Final = "left: the next start undoes them, and so does `nestobs canary --count 0`, which makes nothing"
"""What becomes of what an interrupted run did not undo in the time it has."""

HEARD_OUT_S: Final = 1.2
"""How long, when interrupted, a PUT's answer is still waited for."""

GATEWAY_TIMEOUTS: Final = (408, 499)
"""What proxies say of a request that they may have handed on."""


@dataclass(slots=True)
class Made:
    """A nest of ours as far as it was made: its room's entry; its event with its entry, and the relays that may have
    it."""

    room: int
    event: Event | None = None
    entry: int | None = None
    relays: list[Relay] = field(default_factory=list)


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

    async def update(self, entry: int, **changes: str | Sequence[str]) -> None:
        """Add to an entry what has become known."""
        await asyncio.to_thread(self.writer.update_entry, entry, **changes)

    async def close(self, entry: int, how: str) -> None:
        """Say that nothing is left of it."""
        await asyncio.to_thread(self.writer.close_entry, entry, at=self.host.clock.now(), how=how)

    async def not_made(self, entry: int, row: Observation) -> None:
        """Close the entry of a PUT that named no room, where its row proves that it made none: by the server's own
        refusal, or as it was not sent."""
        if row.status is not None and 400 <= row.status < 500 and row.status not in GATEWAY_TIMEOUTS:
            await self.close(entry, f"refused: HTTP {row.status}")
        elif row.failure is Failure.BUDGET:
            await self.close(entry, "not asked: budget spent")

    async def undo(self, trace: Trace, keys: Keys, made: Made, patience_s: float) -> Left | None:
        """Delete a nest's room and withdraw its event; why the room is left, None when it is gone. What is not done
        within `patience_s`, each by itself, stays open: by its name, which may just have been heard."""
        with suppress(StoreError):  # what was made goes, whatever becomes of the ledger
            await self.update(made.room, room=trace.room, nest=trace.nest)
        room = self.end(made.room, delete_room(self.host, trace, keys), patience_s)
        if made.event is None or made.entry is None:
            return await room
        taking = withdraw(self.host, trace, keys, made.relays, made.event)
        left, _ = await asyncio.gather(room, self.end(made.entry, taking, patience_s))
        return left

    async def end(self, entry: int, undoing: Awaitable[Left | str | None], patience_s: float) -> Left | None:
        """Close an entry by what came of undoing it; why it is left, noted there, where that did not succeed within
        `patience_s`."""
        try:
            try:
                async with asyncio.timeout(patience_s):
                    found = await undoing
            except TimeoutError:
                found = Left(f"not undone within {patience_s:g} s", settled=False)
            if not isinstance(found, Left):
                await self.close(entry, found or DELETED)
                return None
            await self.update(entry, note=found.why)
        except StoreError as error:
            return Left(str(error), settled=False)
        return found


async def hear_out(creating: asyncio.Task[Answer]) -> str:
    """Interrupted while a PUT is under way: the room that its answer names, which may still come; "" where it does not
    within HEARD_OUT_S. It is not waited for any more then."""
    await asyncio.wait({creating}, timeout=HEARD_OUT_S)
    room = creating.result().room if creating.done() and not creating.cancelled() else ""
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)
    return room


async def withdraw(
    station: Station, trace: Trace, keys: Keys, relays: Sequence[Relay], event: Event | None = None
) -> Left | str:
    """Take a nest's event back from these relays; what was found after that, as Left where it is not all well.

    event: what was published, None where that is not known.
    """
    versions = {event.id: event} if event is not None else {}
    return outcome(await Withdrawal(trace, keys, station.clock.now() // SECOND_NS, versions).run(relays))


def outcome(found: Sequence[Found]) -> Left | str:
    """What taking an event back came to, as Left where it is not all well."""
    said = sentence(found)
    return said if all(e.taken_back for e in found) else Left(said, settled=not any(e.may_change for e in found))


def of_run(store: Store, run_id: str) -> list[Entry]:
    """What the ledger holds open of a run."""
    return [entry for entry in store.ledger() if entry.run_id == run_id]
