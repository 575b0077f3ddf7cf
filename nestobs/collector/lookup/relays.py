"""From what a person typed to a nest: ask every relay of a station, keep the newest event and who has it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from nestobs.collector.station import Station
from nestobs.join.flow import Reply
from nestobs.nostr import ROOM_KIND, Address, Event, room_filter
from nestobs.observation.duration import SECOND_NS, about
from nestobs.observation.nest import Nest, State, read_nest, withdrawn_at
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Source
from nestobs.sources.relay import Looked, Relay
from nestobs.sources.vantage import Trace


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
    why. `at`: when they were asked, ns UTC; `by`: on another clock than ours, in words, "" where it is ours.
    `withdrawn_at`: when its author withdrew it, on the author's clock.
    """

    trace: Trace
    at: int
    nest: Nest | None
    relays: tuple[str, ...]
    silent: tuple[Silent, ...]
    answered: tuple[str, ...] = ()
    withdrawn_at: int | None = None
    by: str = ""

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
        """What a `created_at` ahead of the clock is, in words; "" when it is not."""
        ahead_s, clock = 0.0 if self.nest is None else self.nest.ahead_s(self.at), "the API's" if self.by else "this"
        return f"its event is dated {about(ahead_s)} ahead of {clock} clock: clock skew" if ahead_s else ""

    def timed(self, station: Station, at: int) -> Found:
        """The same at another instant of our clock; on the API's, where ours is surely apart from it."""
        apart = station.vantage.relation.apart(at)
        by = "" if apart is None else f"by the API's clock, since this one is {apart.words}"
        return replace(self, at=station.vantage.theirs(at), by=by)


_SAID: Final = 3

SOON_S: Final = 3_600.0
CLIENT_CUTOFF_S: Final = 1.5
"""After which the released web client gives up reading the nest."""


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


async def on_time(station: Station, found: Found) -> Found:
    """`found` as `timed` gives it. Where an instant decides what it is (it is dated ahead, or begins within SOON_S) and
    nothing is known of the API's clock yet, that is learnt by one request, `/info`."""
    nest = found.nest
    soon = nest is not None and 0 < nest.starts_at - found.at < SOON_S * SECOND_NS
    if (soon or found.skew()) and not station.vantage.relation.known:
        await station.api.info(found.trace)
    return found.timed(station, found.at)


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


async def load(
    station: Station,
    trace: Trace,
    address: Address | None,
    timeout_s: float = CLIENT_CUTOFF_S,
    *,
    planned_at: int | None = None,
) -> Reply:
    """What the released web client would hold: the selected relay asked once, cut off, never asked again.

    A cut-off proves nothing of the relay and is `unknown`; the client shows "Loading nest..." all the same.
    """
    if address is None or not station.relays:
        return Reply(station.clock.now(), Outcome.UNKNOWN, failure=Failure.UNREACHABLE)
    row, event = await station.relays[0].query(
        trace,
        address=address,
        timeout_s=timeout_s,
        source=Source.CLIENT,
        operation=Operation.LOAD,
        planned_at=planned_at,
        newest=True,
    )
    return Reply(row.received_at or row.sent_at, row.outcome, row.status, row.failure, nest=_nest_of(event))


def _nest_of(event: Event | None) -> Nest | None:
    try:
        return None if event is None else read_nest(event)
    except ValueError:
        return None


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
