"""One open connection to a relay: what is in flight on it, and what each frame that comes ends.

A connection carries many things at once: questions (a REQ each, until the event, EOSE or CLOSED), feeds (a REQ that
stays), deeds (an EVENT or AUTH, until its OK) and our own pings. Here are the socket, the bookkeeping and the verdicts;
when to ask, and writing rows, is relay.py's. An ended question takes no second end, and a deed whose timer has run out
gets its OK as a late one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from nestobs import nostr
from nestobs.nostr import Address, Event, MalformedEvent
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources.clock import Clock
from nestobs.sources.failures import Judgement, closed, timed_out
from nestobs.sources.vantage import Trace

_SAY_TIMEOUT_S: Final = 1.0
_NOTICES: Final = 3
_OPEN_DEEDS: Final = 1_000
REMEMBERED_IDS: Final = 10_000


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


class Lost(Exception):
    """The connection is gone; `end` says how, for the connection's row and for everything in flight on it."""

    def __init__(self, end: End) -> None:
        super().__init__(end.judgement.reason)
        self.end = end


@dataclass(frozen=True, slots=True)
class Wanted:
    """The event asked for: by address, by id, by filter, or by all that are given."""

    address: Address | None
    event_id: str | None
    filters: Mapping[str, Any]

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
    """One REQ in flight, and what was heard meanwhile that does not end it."""

    wanted: Wanted
    ended: asyncio.Future[End]
    notices: list[str] = field(default_factory=list)
    false_event: str = ""
    unasked: int = 0
    unreadable: int = 0

    def end(self, end: End) -> None:
        """End it, unless it has ended."""
        if not self.ended.done():
            self.ended.set_result(end)

    def event(self, at: int, raw: object) -> None:
        """An event came for it: only a true one that was asked for ends it."""
        try:
            event = nostr.read_event(raw)
        except MalformedEvent as error:
            self.false_event = str(error) or "no event"
            return
        if self.wanted.is_it(event):
            self.end(End(Judgement(Outcome.VISIBLE), at, event=event))
        else:
            self.unasked += 1

    def eose(self, at: int) -> None:
        """All that is stored has come: proof of absence, unless the relay lied on the way."""
        if self.false_event:
            self.end(End(false_event(f"sent a false event: {self.false_event}"), at))
        else:
            self.end(End(Judgement(Outcome.ABSENT), at))

    def heard(self) -> dict[str, object]:
        """What goes into the row's detail."""
        return {
            "notices": self.notices or None,
            "false_event": self.false_event or None,
            "unasked_events": self.unasked or None,
            "unreadable_frames": self.unreadable or None,
        }


@dataclass(slots=True)
class _Deed:
    """One EVENT or AUTH awaiting its OK. After our timer the OK goes to `late`."""

    ended: asyncio.Future[End]
    late: Callable[[End], None]


@dataclass(slots=True)
class Feed:
    """A subscription on one connection, from its REQ to its CLOSED. `push` takes what comes, unverified."""

    push: Callable[[Feed, int, Mapping[str, Any]], None]
    closed: asyncio.Future[tuple[int, str]]
    eose_at: int = 0
    false_event: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A verified 30312 event that a subscription brought, new to it, and its receipt, ns UTC."""

    event: Event
    received_at: int


@dataclass(slots=True)
class Subscription:
    """What is followed on every connection, and the ids already seen."""

    filters: Mapping[str, Any]
    trace_of: Callable[[Event], Trace | None]
    on_seen: Callable[[Seen], None] | None
    seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def knows(self, event_id: object) -> bool:
        """Whether it brought this event before."""
        return isinstance(event_id, str) and event_id in self.seen  # a relay can send anything

    def remember(self, event_id: str) -> None:
        """Know an event from now on, at the cost of the oldest."""
        self.seen[event_id] = None
        if len(self.seen) > REMEMBERED_IDS:
            self.seen.popitem(last=False)


@dataclass(slots=True)
class Ping:
    """One of our pings, both instants ns UTC; `answered_at` None while no pong came."""

    sent_at: int
    answered_at: int | None = None


@dataclass(slots=True)
class Link:
    """One open connection and everything in flight on it. `heard_at`: the last sign of life, ns UTC."""

    ws: ClientConnection
    clock: Clock
    opened_at: int
    heard_at: int
    used: bool = False
    challenge: str = ""
    authenticated: bool = False
    auth_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    questions: dict[str, Question] = field(default_factory=dict)
    feeds: dict[str, Feed] = field(default_factory=dict)
    deeds: OrderedDict[str, deque[_Deed]] = field(default_factory=OrderedDict)
    pings: deque[Ping] = field(default_factory=lambda: deque(maxlen=256))

    def take(self) -> bool:
        """Mark the connection as used; whether it had been used before."""
        used, self.used = self.used, True
        return used

    def expect_ok(self, event_id: str, late: Callable[[End], None]) -> asyncio.Future[End]:
        """What an OK for this event will end. Once it is cancelled, the OK goes to `late` instead."""
        ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.deeds.setdefault(event_id, deque()).append(_Deed(ended, late))
        if len(self.deeds) > _OPEN_DEEDS:
            self.deeds.popitem(last=False)
        return ended

    def _ok(self, at: int, frame: nostr.Ok) -> None:
        waiting = self.deeds.get(frame.event_id)
        if not waiting:
            return
        deed = waiting.popleft()
        if not waiting:
            del self.deeds[frame.event_id]
        end = _ok_end(at, frame)
        if deed.ended.done():
            deed.late(end)
        else:
            deed.ended.set_result(end)

    def alive_before(self, at: int, since: int) -> Ping | None:
        """The latest answered ping sent after `since` and not after `at`."""
        for ping in reversed(self.pings):
            if ping.answered_at is not None and since < ping.sent_at <= at:
                return ping
        return None

    async def exchange(self, text: str, ended: asyncio.Future[End], timeout_s: float) -> tuple[int, End | None]:
        """Send and wait: when it left, and how it ended, None when our timer did. `ended` is done or cancelled then."""
        sent_at = self.clock.now()
        try:
            with suppress(TimeoutError, ConnectionClosed):  # closed: the reader ends everything in flight and says why
                async with asyncio.timeout(timeout_s):
                    await self.ws.send(text)
            left = timeout_s - (self.clock.now() - sent_at) / SECOND_NS
            await asyncio.wait([ended], timeout=max(0.0, left))
            return sent_at, ended.result() if ended.done() else None
        finally:
            ended.cancel()  # from now on an OK is late, also when we are being cancelled

    async def say(self, text: str) -> None:
        """Send something that asks for no answer; a connection that does not take it is the reader's business."""
        with suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(_SAY_TIMEOUT_S):
                await self.ws.send(text)

    async def shut(self) -> None:
        """Close politely, but not for longer than a second: a half-open socket may take not one byte more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SAY_TIMEOUT_S):
                await self.ws.close()
        self.ws.transport.abort()
        await self.ws.wait_closed()

    async def read(self) -> None:
        """Hear whatever comes, until the connection is lost: raises Lost."""
        while True:
            try:
                data = await self.ws.recv(decode=False)
            except ConnectionClosed as error:
                judgement, code = closed(error)
                raise Lost(End(judgement, status=code)) from None
            at = self.heard_at = self.clock.now()
            self.hear(at, nostr.read_frame(data))

    async def keep_pinging(self, every_s: float, pong_timeout_s: float) -> None:
        """Ping at once and then every `every_s`. Raises Lost when one stays unanswered for `pong_timeout_s`."""
        due, patience = self.clock.now(), round(pong_timeout_s * SECOND_NS)
        while True:
            if self.clock.now() >= due:
                due = self.clock.now() + round(every_s * SECOND_NS)
                await self._ping(pong_timeout_s)
            oldest = next((ping for ping in self.pings if ping.answered_at is None), None)
            await self.clock.until(min(due, oldest.sent_at + patience) if oldest else due)
            if oldest and oldest.answered_at is None and self.clock.now() >= oldest.sent_at + patience:
                await asyncio.sleep(0.05)  # after a blocked loop the pong may lie in the socket, unread
                if oldest.answered_at is None:
                    raise Lost(End(timed_out(pong_timeout_s, FailureLayer.WS, "pong")))

    async def _ping(self, pong_timeout_s: float) -> None:
        ping = Ping(self.clock.now())

        def answered(pong: asyncio.Future[float]) -> None:
            if not pong.cancelled() and pong.exception() is None:
                ping.answered_at = self.heard_at = self.clock.now()

        self.pings.append(ping)
        with suppress(ConnectionClosed, TimeoutError):  # closed: the reader says how; full: no pong will say it
            async with asyncio.timeout(pong_timeout_s):
                pong = asyncio.ensure_future(await self.ws.ping())
                pong.add_done_callback(answered)

    def hear(self, at: int, frame: nostr.RelayFrame) -> None:
        """Let a frame received at `at` end or feed what it speaks of. A frame about nothing we asked is passed over."""
        match frame:
            case nostr.EventFrame(name, raw) if name in self.questions:
                self.questions[name].event(at, raw)
            case nostr.EventFrame(name, dict(raw)) if name in self.feeds:
                self.feeds[name].push(self.feeds[name], at, raw)
            case nostr.Eose(name):
                self._eose(at, name)
            case nostr.Closed(name, reason):
                self._closed(at, name, reason)
            case nostr.Ok():
                self._ok(at, frame)
            case nostr.AuthChallenge(challenge):
                self.challenge, self.authenticated = challenge, False
            case nostr.Notice() | nostr.Unreadable():
                self._remark(frame)

    def _eose(self, at: int, name: str) -> None:
        if name in self.questions:
            self.questions[name].eose(at)
        elif name in self.feeds:
            self.feeds[name].eose_at = self.feeds[name].eose_at or at

    def _closed(self, at: int, name: str, reason: str) -> None:
        if name in self.questions:
            self.questions[name].end(closed_end(at, reason))
        elif name in self.feeds and not self.feeds[name].closed.done():
            self.feeds[name].closed.set_result((at, reason))

    def _remark(self, frame: nostr.Notice | nostr.Unreadable) -> None:
        """Something tied to no question: evidence for all that are in flight."""
        for question in self.questions.values():
            if isinstance(frame, nostr.Unreadable):
                question.unreadable += 1
            elif len(question.notices) < _NOTICES:
                question.notices.append(frame.text[:200])

    def end_all(self, end: End) -> None:
        """The connection is gone: everything in flight ends so."""
        for question in self.questions.values():
            question.end(end)
        for deed in (deed for waiting in self.deeds.values() for deed in waiting):
            if not deed.ended.done():
                deed.ended.set_result(end)


def _ok_end(at: int, frame: nostr.Ok) -> End:
    if frame.accepted:
        return End(Judgement(Outcome.ACCEPTED, reason=frame.reason), at)
    return _refused(at, Failure.RELAY_REFUSED, frame.reason or "OK false, no reason given")


def closed_end(at: int, reason: str) -> End:
    """CLOSED: refused, in the relay's words."""
    return _refused(at, Failure.RELAY_CLOSED, reason or "CLOSED, no reason given")


def _refused(at: int, failure: Failure, reason: str) -> End:
    named = Failure.AUTH_REQUIRED if asks_auth(reason) else failure
    return End(Judgement(Outcome.REFUSED, named, FailureLayer.NOSTR, reason), at)


def false_event(what: str) -> Judgement:
    """A relay that lies proves nothing."""
    return Judgement(Outcome.UNKNOWN, Failure.BAD_EVENT, FailureLayer.NOSTR, f"the relay {what}")


def asks_auth(reason: str) -> bool:
    """Whether a CLOSED or OK false wants NIP-42 first."""
    return reason.startswith("auth-required")
