"""What is asked of a relay, and the ends of it: pure bookkeeping of one REQ, and the verdicts on EOSE, CLOSED and OK.

An ended question takes no second end. Which frames reach it is connection.py's, when to ask is client.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nestobs import nostr
from nestobs.nostr import Address, Event, MalformedEvent
from nestobs.observation.nest import withdrawn_at
from nestobs.observation.schema import Failure, FailureLayer, Observation, Outcome
from nestobs.sources.clock import Held
from nestobs.sources.failures import Judgement, held_up, timed_out

_NOTICES: Final = 3
_NESTS: Final = 100
_NOTICE_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class End:
    """How something asked of a relay ended. `at`: receipt of the answer, None when none came; status: a close code."""

    judgement: Judgement
    at: int | None = None
    status: int | None = None
    event: Event | None = None

    @property
    def outcome(self) -> Outcome:
        """What it proves."""
        return self.judgement.outcome

    def as_written(self, row: Observation) -> End:
        """The same, judged as its row was: what we held up ourselves is our own fault wherever it is told again."""
        return replace(self, judgement=Judgement(row.outcome, row.failure, row.failure_layer, row.reason))


OURS = End(Judgement(Outcome.PROBE_ERROR, Failure.CLOSED, FailureLayer.PROBER, "we ended the connection ourselves"))
NOT_YET = End(Judgement(Outcome.UNKNOWN, Failure.CLOSED, FailureLayer.WS, "not connected yet"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """The event asked for: by address, by id, by filter, or by all that are given. `versions`: all of it that the relay
    has, until EOSE, with what its author withdrew when it is asked for by its address; else the first that comes.
    """

    address: Address | None
    event_id: str | None
    filters: Mapping[str, Any]
    versions: bool = False

    def all_asked(self) -> list[dict[str, Any]]:
        """The filters of the REQ."""
        withdrawn = nostr.deletion_filters(self.address) if self.versions and self.address is not None else []
        return [self.asked(), *withdrawn]

    @property
    def most(self) -> int:
        """So many frames answer it where a relay keeps to the limits asked: events, and the end of them."""
        return sum(int(one.get("limit", 1)) for one in self.all_asked()) + 1

    def asked(self) -> dict[str, Any]:
        """The NIP-01 filter that asks for it."""
        asked = dict(self.filters)
        if self.address is not None:
            address = {"kinds": [self.address.kind], "authors": [self.address.pubkey], "#d": [self.address.identifier]}
            asked = address | asked
        if self.event_id is not None:
            asked["ids"] = [self.event_id]
        return asked

    def is_it(self, event: Event) -> bool:
        """Whether a verified event is the one: a relay can answer with any other."""
        at = self.address
        if at is not None and (event.kind, event.pubkey, event.tag("d")) != (at.kind, at.pubkey, at.identifier):
            return False
        return _matches(event, self.asked())

    def withdraws(self, event: Event) -> bool:
        """Whether a verified event is a deletion that was asked for."""
        if not self.versions or self.address is None:
            return False
        return event.kind == nostr.DELETION_KIND and event.pubkey == self.address.pubkey


def _matches(event: Event, wanted: Mapping[str, Any]) -> bool:
    """NIP-01: whether an event passes a filter. Fields this does not know (search, limit) let everything pass."""
    for field_name, value in (("ids", event.id), ("authors", event.pubkey), ("kinds", event.kind)):
        if field_name in wanted and value not in wanted[field_name]:
            return False
    if not wanted.get("since", 0) <= event.created_at <= wanted.get("until", event.created_at):
        return False
    tags = {(row[0], row[1]) for row in event.tags if len(row) > 1}
    letters = {name[1]: values for name, values in wanted.items() if len(name) == 2 and name[0] == "#"}
    return all(any((letter, value) in tags for value in values) for letter, values in letters.items())


@dataclass(slots=True)
class Question:
    """One REQ in flight, and what was heard meanwhile that does not end it. `answers`: see connection.Identity."""

    wanted: Wanted
    ended: asyncio.Future[End]
    answers: int = 0
    notices: list[str] = field(default_factory=list)
    false_event: str = ""
    unasked: int = 0
    unreadable: int = 0
    found_at: int = 0
    found: dict[tuple[str, str | None], Event] = field(default_factory=dict)
    deletions: list[Event] = field(default_factory=list)

    def end(self, end: End) -> None:
        """End it, unless it has ended. What was shown before is shown, however it ends."""
        if not self.ended.done():
            self.ended.set_result(self._shown() if self.found else end)

    def _shown(self) -> End:
        newest = next(iter(self.found.values()))
        for event in self.found.values():
            newest = event if event.replaces(newest) else newest
        return End(Judgement(Outcome.VISIBLE), self.found_at, event=newest)

    def _keep(self, at: int, event: Event) -> None:
        """The newest version of each nest: an author and a room."""
        self.found_at = self.found_at or at
        nest = event.pubkey, event.tag("d")
        earlier = self.found.get(nest)
        if earlier is None or event.replaces(earlier):
            self.found[nest] = event
        if len(self.found) > _NESTS:
            del self.found[next(iter(self.found))]

    def event(self, at: int, raw: object) -> bool:
        """An event came for it: a true one that was asked for ends it, or is kept until EOSE. Whether it is one."""
        try:
            event = nostr.read_event(raw)
        except MalformedEvent as error:
            self.false_event = str(error) or "no event"
            return False
        if self.wanted.withdraws(event):
            self.deletions = [*self.deletions, event][-2 * nostr.DELETIONS :]
        elif self.wanted.is_it(event) and self.wanted.versions:
            self._keep(at, event)
        elif self.wanted.is_it(event):
            self.end(End(Judgement(Outcome.VISIBLE), at, event=event))
        else:
            self.unasked += 1
            return False
        return True

    def eose(self, at: int) -> None:
        """All that is stored has come: proof of absence, unless the relay lied on the way."""
        if self.false_event:
            self.end(End(false_event(f"sent a false event: {self.false_event}"), at))
        else:
            self.end(End(Judgement(Outcome.ABSENT), at))

    def notice(self, text: str) -> None:
        """The relay said something that is tied to nothing: evidence for all that is in flight."""
        if len(self.notices) < _NOTICES:
            self.notices.append(text[:_NOTICE_CHARACTERS])

    def late(self, timeout_s: float) -> End:
        """Our patience ended: what was shown is shown, else with the relay's last words if there were any."""
        if self.found:
            return self._shown()
        judgement = timed_out(timeout_s, FailureLayer.NOSTR)
        said = f"{judgement.reason} (NOTICE: {self.notices[-1]})" if self.notices else judgement.reason
        return End(judgement._replace(reason=said))

    def heard(self) -> dict[str, object]:
        """What goes into the row's detail."""
        return {
            "notices": self.notices or None,
            "false_event": self.false_event or None,
            "unasked_events": self.unasked or None,
            "unreadable_frames": self.unreadable or None,
            "withdrawn": self._withdrawn() or None,
        }

    def _withdrawn(self) -> bool:
        """Whether what came says that the author withdrew the nest asked for, no earlier than its newest version."""
        address = self.wanted.address
        newest = self._shown().event if self.found else None
        return address is not None and withdrawn_at(address, newest, self.deletions) is not None


@dataclass(frozen=True, slots=True)
class Looked:
    """What a relay has: the newest version of each nest asked for, and deletions; of no connection, nothing."""

    row: Observation
    events: tuple[Event, ...] = ()
    deletions: tuple[Event, ...] = ()


def ok_end(at: int, frame: nostr.Ok) -> End:
    """OK: accepted, or refused in the relay's words."""
    if frame.accepted:
        return End(Judgement(Outcome.ACCEPTED, reason=frame.reason), at)
    return _refused(at, Failure.RELAY_REFUSED, frame.reason or "OK false, no reason given")


def closed_end(at: int, reason: str) -> End:
    """CLOSED: refused, in the relay's words."""
    return _refused(at, Failure.RELAY_CLOSED, reason or "CLOSED, no reason given")


def _refused(at: int, failure: Failure, reason: str) -> End:
    named = Failure.AUTH_REQUIRED if asks_auth(reason) else failure
    return End(Judgement(Outcome.REFUSED, named, FailureLayer.NOSTR, reason), at)


def unheard(at: int | None, why: str, held: Held | None = None) -> End:
    """What a relay says, or does not say, before it knows who asks: it proves nothing (NIP-42). held: how we ourselves
    held up what we heard of our answer."""
    if held is not None:
        return End(held_up(held, why), at)
    return End(Judgement(Outcome.REFUSED, Failure.AUTH_REQUIRED, FailureLayer.NOSTR, why), at)


def false_event(what: str) -> Judgement:
    """A relay that lies proves nothing."""
    return Judgement(Outcome.UNKNOWN, Failure.BAD_EVENT, FailureLayer.NOSTR, f"the relay {what}")


def asks_auth(reason: str) -> bool:
    """Whether a CLOSED or OK false wants NIP-42 first."""
    return reason.startswith("auth-required")


def read_back_end(end: End) -> End:
    """The end of asking for what was just accepted: not there is not stored."""
    if end.outcome is not Outcome.ABSENT:
        return end
    missing = Judgement(end.outcome, Failure.NOT_STORED, FailureLayer.NOSTR, "OK but not there when read back")
    return replace(end, judgement=missing)
