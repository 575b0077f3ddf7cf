"""From what a person typed to a nest: ask every relay of a station, keep the newest event and who has it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from nestobs.collector.station import Station, Target, recording
from nestobs.join.budget import Budget
from nestobs.join.decision import Kind
from nestobs.nostr import ROOM_KIND, Address, Event, Keys, room_filter
from nestobs.observation.duration import about
from nestobs.observation.nest import Nest, State, read_nest, withdrawn_at
from nestobs.observation.schema import Failure, Observation, Outcome
from nestobs.sources.relay import Looked, Relay
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store


@dataclass(frozen=True, slots=True)
class Silent:
    """A relay that proved nothing, and why in words."""

    url: str
    why: str

    def __str__(self) -> str:
        return f"{self.url} gave no answer ({self.why})"


@dataclass(frozen=True, slots=True)
class Found:
    """What the relays know. `nest` is None when none has the event; `relays` have it; `silent` gave no proof, each with
    why. `at`: when they were asked, ns UTC. `withdrawn_at`: when its author withdrew it, on the author's clock.
    """

    trace: Trace
    at: int
    nest: Nest | None
    relays: tuple[str, ...]
    silent: tuple[Silent, ...]
    answered: tuple[str, ...] = ()
    withdrawn_at: int | None = None

    def nobody_has_it(self) -> str:
        """Why there is no event: that no relay has it is said only where relays answered."""
        if not self.silent:
            return "no relay has the event"
        said = "; ".join(str(each) for each in self.silent[:_SAID]) + ("; …" if len(self.silent) > _SAID else "")
        return f"no relay that answered has the event; {said}" if self.answered else said

    def is_over(self) -> bool:
        """Whether its author says that nobody will be in it any more."""
        return self.withdrawn_at is not None or (self.nest is not None and self.nest.state(self.at) is State.OVER)

    def why_not_live(self) -> str:
        """Why nobody can be in the nest, by what its author says; "" when somebody may be."""
        if self.withdrawn_at is not None:
            return "its author withdrew it"
        return "" if self.nest is None else self.nest.why_not_live(self.at)

    def skew(self) -> str:
        """What a `created_at` ahead of our clock is, in words; "" when it is not."""
        ahead_s = 0.0 if self.nest is None else self.nest.ahead_s(self.at)
        return f"its event is dated {about(ahead_s)} ahead of this clock: clock skew" if ahead_s else ""


_SAID: Final = 3


async def find(station: Station, wanted: Address | str, *, timeout_s: float = 5.0) -> Found:
    """Look a nest up by its address or its room id on all relays of the station, with all its versions and what its
    author withdrew. One row a relay; by a room id that somebody has, two: whose it is, then that one's.
    """
    room = wanted if isinstance(wanted, str) else wanted.identifier
    at = station.clock.now()
    trace = Trace(station.vantage.new_id(), "" if isinstance(wanted, str) else _name(wanted), room)
    address = None if isinstance(wanted, str) else wanted
    earlier: list[Event] = []
    if address is None:
        filters = room_filter(identifiers=[room])
        looked = await _ask_all(station, trace, timeout_s, filters=filters)
        address, earlier = await _whose(station, trace, looked)
        if address is None:
            return Found(trace=trace, at=at, nest=None, relays=(), silent=_silent(looked), answered=_answered(looked))
        trace = Trace(trace.trace_id, _name(address), room)
    looked = await _ask_all(station, trace, timeout_s, address=address)
    events = [*earlier, *(event for one in looked for event in one.events if event.pubkey == address.pubkey)]
    newest: Event | None = None
    nest: Nest | None = None
    for event in events:
        newest = event if newest is None or event.replaces(newest) else newest
        nest = read_nest(event) if nest is None else nest.renewed(read_nest(event))
    return Found(
        trace=trace,
        at=at,
        nest=nest,
        relays=tuple(one.row.target for one in looked if one.events),
        silent=_silent(looked),
        answered=_answered(looked),
        withdrawn_at=withdrawn_at(address, newest, [event for one in looked for event in one.deletions]),
    )


async def _ask_all(station: Station, trace: Trace, timeout_s: float, **wanted: Any) -> list[Looked]:
    async def ask(relay: Relay) -> Looked:
        await relay.ready(timeout_s)
        return await relay.look(trace, timeout_s=timeout_s, **wanted)

    return await asyncio.gather(*(ask(relay) for relay in station.relays))


def _name(address: Address) -> str:
    return f"{ROOM_KIND}:{address.pubkey}:{address.identifier}"


def _answered(looked: Sequence[Looked]) -> tuple[str, ...]:
    return tuple(one.row.target for one in looked if one.row.outcome in _PROOF)


def _silent(looked: Sequence[Looked]) -> tuple[Silent, ...]:
    return tuple(Silent(one.row.target, why_silent(one.row)) for one in looked if one.row.outcome not in _PROOF)


_PROOF: Final = (Outcome.VISIBLE, Outcome.ABSENT)


def why_silent(row: Observation) -> str:
    """Why a relay's row proves nothing, and what to do about it where that is known."""
    if row.failure is not Failure.AUTH_REQUIRED:
        return row.reason
    return row.reason if "does not take" in row.reason else f"it wants to know who asks: set NESTOBS_NSEC; {row.reason}"


async def _whose(station: Station, trace: Trace, looked: Sequence[Looked]) -> tuple[Address | None, list[Event]]:
    """Anybody may announce a room id: the address of the host that the API names, where one of several authors is; else
    of the newest event's author. With the events by that author."""
    events = [event for one in looked for event in one.events]
    if not events:
        return None, []
    newest = events[0]
    for event in events:
        newest = event if event.replaces(newest) else newest
    author = newest.pubkey
    if len({event.pubkey for event in events}) > 1:
        answer = await station.api.info(trace)
        host = answer.body.get("host") if answer.body is not None else None
        author = str(host) if any(event.pubkey == host for event in events) else author
    return Address(ROOM_KIND, author, trace.room), [event for event in events if event.pubkey == author]


READY, NOT_YET, GONE, CANNOT_TELL = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Readiness:
    """`code`: 0 ready, 1 not yet, 2 gone or closed, 3 cannot tell. `why` in words."""

    code: int
    why: str


async def readiness(station: Station, found: Found, *, message_threshold_s: float = 30.0) -> Readiness:
    """Whether a guest could join now, by one request; a 404 is read by the nest's age, as the web client does."""
    if why := found.why_not_live():
        return Readiness(GONE if found.is_over() else NOT_YET, why)
    answer = await station.api.guest(found.trace)
    row = answer.row
    if row.outcome is Outcome.VISIBLE:
        return Readiness(READY, "a guest is given a token")
    if row.outcome is not Outcome.ABSENT:
        return Readiness(CANNOT_TELL, f"the API gave no proof: {row.reason}")
    return _absent(found, row.received_at or row.sent_at, message_threshold_s)


def _absent(found: Found, answered_at: int, message_threshold_s: float) -> Readiness:
    """What a proven 404 makes of a nest, by its age at the answer; an age that is none tells nothing."""
    if found.nest is None:
        why = f"the API answers 404 and {found.nobody_has_it()}, so its age is unknown"
        return Readiness(CANNOT_TELL, why)
    if skew := found.skew():
        return Readiness(CANNOT_TELL, f"the API answers 404, and {skew}, so its age is unknown")
    age_s = max(0.0, found.nest.age_s(answered_at))
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
