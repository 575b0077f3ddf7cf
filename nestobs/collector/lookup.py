"""From what a person typed to a nest: ask every relay of a station, keep the newest event and who has it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from nestobs.collector.station import Station, Target, recording
from nestobs.join.budget import Budget
from nestobs.join.decision import Kind
from nestobs.nostr import ROOM_KIND, Address, Event, Keys, room_filter
from nestobs.observation.nest import Nest, read_nest
from nestobs.observation.schema import Outcome
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store


@dataclass(frozen=True, slots=True)
class Found:
    """What the relays know. `nest` is None when none has the event; `relays` have it; `silent` gave no proof."""

    trace: Trace
    nest: Nest | None
    relays: tuple[str, ...]
    silent: tuple[str, ...]


async def find(station: Station, wanted: Address | str, *, timeout_s: float = 5.0) -> Found:
    """Look a nest up by its address or its room id on all relays of the station. One row a relay."""
    room = wanted if isinstance(wanted, str) else wanted.identifier
    authors = [] if isinstance(wanted, str) else [wanted.pubkey]
    nest_name = "" if isinstance(wanted, str) else f"{ROOM_KIND}:{wanted.pubkey}:{room}"
    trace = Trace(station.vantage.new_id(), nest_name, room)
    filters = room_filter(authors=authors, identifiers=[room], limit=1)

    async def ask(relay: Relay) -> tuple[str, Outcome, Event | None]:
        await relay.ready(timeout_s)
        row, event = await relay.query(trace, filters=filters, timeout_s=timeout_s)
        return relay.url, row.outcome, event

    answers = await asyncio.gather(*(ask(relay) for relay in station.relays))
    events = [event for _, _, event in answers if event is not None]
    if len({event.pubkey for event in events}) > 1:
        events = await _hosted(station, trace, events)
    events.sort(key=lambda event: event.created_at)
    nest = read_nest(events[-1]) if events else None
    for event in events[:-1]:
        nest = nest.renewed(read_nest(event)) if nest else None
    return Found(
        trace=Trace(trace.trace_id, str(nest.address) if nest else nest_name, room),
        nest=nest,
        relays=tuple(url for url, _, event in answers if event in events),
        silent=tuple(url for url, outcome, _ in answers if outcome not in (Outcome.VISIBLE, Outcome.ABSENT)),
    )


async def _hosted(station: Station, trace: Trace, events: list[Event]) -> list[Event]:
    """Anybody may announce a room id. The events by the host that the API names; else those by the newest's author."""
    answer = await station.api.info(trace)
    host = answer.body.get("host") if answer.body is not None else None
    newest = max(events, key=lambda event: event.created_at)
    author = host if any(event.pubkey == host for event in events) else newest.pubkey
    return [event for event in events if event.pubkey == author]


READY, NOT_YET, GONE, CANNOT_TELL = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Readiness:
    """`code`: 0 ready, 1 not yet, 2 gone or closed, 3 cannot tell. `why` in words."""

    code: int
    why: str


async def readiness(station: Station, found: Found, *, message_threshold_s: float = 30.0) -> Readiness:
    """Whether a guest could join now, by one request; a 404 is read by the nest's age, as the web client does."""
    nest = found.nest
    if nest is not None and nest.status == "closed":
        return Readiness(GONE, "its event says closed")
    answer = await station.api.guest(found.trace)
    row = answer.row
    if row.outcome is Outcome.VISIBLE:
        return Readiness(READY, "a guest is given a token")
    if row.outcome is not Outcome.ABSENT:
        return Readiness(CANNOT_TELL, f"the API gave no proof: {row.reason}")
    if nest is None:
        return Readiness(CANNOT_TELL, "the API answers 404 and no relay has the event, so its age is unknown")
    age_s = nest.age_s(row.received_at or row.sent_at)
    if age_s < message_threshold_s:
        return Readiness(NOT_YET, f"the API answers 404 at age {age_s:.0f} s: {Kind.STARTING_UP.value}")
    return Readiness(
        GONE, f"the API answers 404 at age {age_s:.0f} s, above the threshold of {message_threshold_s:g} s"
    )


async def ready_once(
    target: Target, wanted: Address | str, store: Store, *, keys: Keys | None = None, budget: Budget | None = None
) -> Readiness:
    """What `nestobs ready` does: look a nest up, and say whether a guest could join it now.

    keys: for relays that want to know who asks (NIP-42). budget: this process's own unless given.
    """
    async with recording(store, [target], budget or Budget(), keys=keys) as ([station], pen):

        async def work() -> Readiness:
            return await readiness(station, await find(station, wanted))

        return await pen.during(work())
