"""One relay as seen from one vantage: questions, publications and subscriptions over one raw websocket.

A question to a relay (NIP-01 REQ) has six different ends, and only two of them prove anything:

    the event itself      visible, at the event's own receipt: a relay that never says EOSE has still answered
    EOSE without it       absent
    CLOSED                refused
    the socket closed     unknown
    our own timer         unknown: it is not an EOSE
    never asked           unknown, for the reason the last attempt to connect failed

NOTICE ends nothing and is kept as evidence. An event counts only when its id and signature are true and it is the one
asked for; a relay that lies proves nothing, so EOSE after a false event is `unknown` too.

A pushed event is bounded from below by the connection's liveness. We ping by ourselves and stamp both ends. A pong
proves that the socket lived, not that the relay had nothing to push: so an event received at t is taken as absent at
the sending of the latest answered ping that left at least PUSH_MARGIN_S before t, after the subscription's EOSE on this
same connection. The assumption is that a relay pushes a new event over a living socket within PUSH_MARGIN_S.

Nothing is retried in silence: each attempt to connect, each lost connection, each question is a row of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from nestobs import nostr
from nestobs.clock import SECOND_NS
from nestobs.errors import NestobsError, UsageError
from nestobs.nostr import Address, Event, Keys, MalformedEvent
from nestobs.observation import Failure, FailureLayer, Observation, Operation, Outcome, Role, Source, detail
from nestobs.sources.dial import NotOpened, Opened, dial, read_url, trust
from nestobs.vantage import NO_TRACE, Trace, Vantage

PUSH_MARGIN_S: Final = 1.0
"""How long a relay may take to push a new event over a living socket: the assumption under every pushed lower bound."""

REMEMBERED_IDS: Final = 10_000
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 10.0
SETTLED_S: Final = 10.0
"""A connection that lived this long starts the pauses over; a relay that drops us at once does not."""

READ_BACK_AFTER_S: Final = (0.0, 0.25, 1.0)
READ_BACK_TIMEOUT_S: Final = 2.0
_AUTH_TIMEOUT_S: Final = 2.0
_SAY_TIMEOUT_S: Final = 1.0
_NOTICES: Final = 3
_OPEN_DEEDS: Final = 1_000
_LAST_SECOND: Final = 2**63 // SECOND_NS  # a stamp beyond it is no ns in 64 bits, and no honest one


@dataclass(frozen=True, slots=True)
class Seen:
    """A verified 30312 event that a subscription brought, new to it.

    `alive_at`: the last instant at which the socket was known alive and silent, 0 when there is none since subscribing
    (the event was stored before, or no ping fits PUSH_MARGIN_S). `received_at`: its receipt. Both ns UTC.
    """

    event: Event
    alive_at: int
    received_at: int


@dataclass(frozen=True, slots=True)
class _End:
    """How something asked of a relay ended. `at`: receipt of the answer, None when none came."""

    outcome: Outcome
    at: int | None = None
    failure: Failure | None = None
    layer: FailureLayer | None = None
    reason: str = ""
    status: int | None = None
    event: Event | None = None


class _Lost(Exception):
    """The connection is gone; `end` says how, for the connection's row and for everything in flight on it."""

    def __init__(self, end: _End) -> None:
        super().__init__(end.reason)
        self.end = end


_OURS = _End(Outcome.PROBE_ERROR, None, Failure.CLOSED, FailureLayer.PROBER, "we ended the connection ourselves")
_NOT_YET = _End(Outcome.UNKNOWN, None, Failure.CLOSED, FailureLayer.WS, "not connected yet")


@dataclass(frozen=True, slots=True)
class _Wanted:
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
class _Question:
    """One REQ in flight, and what was heard meanwhile that does not end it."""

    wanted: _Wanted
    ended: asyncio.Future[_End]
    notices: list[str] = field(default_factory=list)
    false_event: str = ""
    unasked: int = 0
    unreadable: int = 0

    def end(self, end: _End) -> None:
        if not self.ended.done():
            self.ended.set_result(end)

    def event(self, at: int, raw: object) -> None:
        try:
            event = nostr.read_event(raw)
        except MalformedEvent as error:
            self.false_event = str(error) or "no event"
            return
        if self.wanted.is_it(event):
            self.end(_End(Outcome.VISIBLE, at, event=event))
        else:
            self.unasked += 1

    def eose(self, at: int) -> None:
        if self.false_event:
            reason = f"the relay sent a false event: {self.false_event}"
            self.end(_End(Outcome.UNKNOWN, at, Failure.BAD_EVENT, FailureLayer.NOSTR, reason))
        else:
            self.end(_End(Outcome.ABSENT, at))

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

    ended: asyncio.Future[_End]
    late: Callable[[_End], None]


@dataclass(slots=True)
class _Subscription:
    """What is followed on every connection, and the ids already seen."""

    filters: Mapping[str, Any]
    trace_of: Callable[[Event], Trace | None]
    on_seen: Callable[[Seen], None] | None
    seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def knows(self, event_id: object) -> bool:
        return isinstance(event_id, str) and event_id in self.seen  # a relay can send anything

    def remember(self, event_id: str) -> None:
        self.seen[event_id] = None
        if len(self.seen) > REMEMBERED_IDS:
            self.seen.popitem(last=False)


@dataclass(slots=True)
class _Feed:
    """A subscription on one connection, from its REQ to its CLOSED."""

    subscription: _Subscription
    closed: asyncio.Future[tuple[int, str]]
    eose_at: int = 0
    false_event: bool = False


@dataclass(slots=True)
class _Ping:
    sent_at: int
    answered_at: int | None = None


@dataclass(slots=True)
class _Link:
    """One open connection and everything in flight on it."""

    ws: ClientConnection
    opened_at: int
    heard_at: int
    used: bool = False
    challenge: str = ""
    authenticated: bool = False
    auth_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    questions: dict[str, _Question] = field(default_factory=dict)
    feeds: dict[str, _Feed] = field(default_factory=dict)
    deeds: OrderedDict[str, deque[_Deed]] = field(default_factory=OrderedDict)
    pings: deque[_Ping] = field(default_factory=lambda: deque(maxlen=256))
    unfollowed: asyncio.Queue[_Subscription] = field(default_factory=asyncio.Queue)

    def take(self) -> bool:
        """Mark the connection as used; whether it had been used before."""
        used, self.used = self.used, True
        return used

    def expect_ok(self, event_id: str, late: Callable[[_End], None]) -> asyncio.Future[_End]:
        ended: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
        self.deeds.setdefault(event_id, deque()).append(_Deed(ended, late))
        if len(self.deeds) > _OPEN_DEEDS:
            self.deeds.popitem(last=False)
        return ended

    def ok(self, at: int, frame: nostr.Ok) -> None:
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

    def oldest_unanswered(self) -> _Ping | None:
        return next((ping for ping in self.pings if ping.answered_at is None), None)

    def alive_before(self, received_at: int, since: int) -> _Ping | None:
        """The latest answered ping sent after `since` and PUSH_MARGIN_S or more before `received_at`."""
        last = received_at - round(PUSH_MARGIN_S * SECOND_NS)
        for ping in reversed(self.pings):
            if ping.answered_at is not None and since < ping.sent_at <= last:
                return ping
        return None

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

    def eose(self, at: int, name: str) -> None:
        if name in self.questions:
            self.questions[name].eose(at)
        elif name in self.feeds:
            self.feeds[name].eose_at = self.feeds[name].eose_at or at

    def closed(self, at: int, name: str, reason: str) -> None:
        if name in self.questions:
            self.questions[name].end(_closed_end(at, reason))
        elif name in self.feeds and not self.feeds[name].closed.done():
            self.feeds[name].closed.set_result((at, reason))

    def remark(self, frame: nostr.Notice | nostr.Unreadable) -> None:
        """Something tied to no question: evidence for all that are in flight."""
        for question in self.questions.values():
            if isinstance(frame, nostr.Unreadable):
                question.unreadable += 1
            elif len(question.notices) < _NOTICES:
                question.notices.append(frame.text[:200])

    def end_all(self, end: _End) -> None:
        for question in self.questions.values():
            question.end(end)
        for deed in (deed for waiting in self.deeds.values() for deed in waiting):
            if not deed.ended.done():
                deed.ended.set_result(end)


def _ok_end(at: int, frame: nostr.Ok) -> _End:
    if frame.accepted:
        return _End(Outcome.ACCEPTED, at, reason=frame.reason)
    failure = Failure.AUTH_REQUIRED if _asks_auth(frame.reason) else Failure.RELAY_REFUSED
    return _End(Outcome.REFUSED, at, failure, FailureLayer.NOSTR, frame.reason or "OK false, no reason given")


def _closed_end(at: int, reason: str) -> _End:
    failure = Failure.AUTH_REQUIRED if _asks_auth(reason) else Failure.RELAY_CLOSED
    return _End(Outcome.REFUSED, at, failure, FailureLayer.NOSTR, reason or "CLOSED, no reason given")


def _asks_auth(reason: str) -> bool:
    return reason.startswith("auth-required")


def _own_timer(timeout_s: float, awaited: str) -> _End:
    reason = f"no {awaited} within {timeout_s:g} s by our own timer"
    return _End(Outcome.UNKNOWN, None, Failure.TIMEOUT, FailureLayer.NOSTR, reason)


def _lost_end(error: ConnectionClosed) -> _End:
    if error.rcvd is not None:
        code, failure, reason = error.rcvd.code, Failure.CLOSED, f"closed by the relay: {error.rcvd}"
    elif error.sent is not None:
        code, failure, reason = error.sent.code, Failure.PROTOCOL, f"closed by us: {error.sent}"
    elif isinstance(error.__cause__, ConnectionResetError):
        code, failure, reason = 1006, Failure.RESET, "the connection was reset"
    else:
        code, failure, reason = 1006, Failure.CLOSED, "closed without a close frame"
    return _End(Outcome.UNKNOWN, None, failure, FailureLayer.WS, reason, code)


def _pauses() -> Iterator[float]:
    """Seconds to wait before each attempt after the first: doubling from 0.25 to 10, each up to a fifth shorter."""
    pause = FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.8, 1.0)
        pause = min(pause * 2, LONGEST_PAUSE_S)


class Relay:
    """One relay for one vantage: connects, keeps connected and reconnects while entered; every attempt is a row.

    `keys` answer a relay that asks who we are (NIP-42). A ping leaves every `ping_s`; one unanswered for
    `pong_timeout_s` ends the connection. Raises UsageError for a URL that is none. An error of the sink (a full disk)
    ends the connection task and is raised by the next call and on leaving.
    """

    def __init__(
        self,
        vantage: Vantage,
        url: str,
        *,
        keys: Keys | None = None,
        ping_s: float = 2.0,
        pong_timeout_s: float = 4.0,
        open_timeout_s: float = 5.0,
    ) -> None:
        self.url = url
        self._tls = trust(read_url(url))
        self._vantage, self._clock, self._keys = vantage, vantage.clock, keys
        self._ping_s, self._pong_timeout_s, self._open_timeout_s = ping_s, pong_timeout_s, open_timeout_s
        self._link: _Link | None = None
        self._up = asyncio.Event()
        self._down = _NOT_YET
        self._subscriptions: list[_Subscription] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Relay:
        # The first verification imports nostr-sdk, a quarter of a second: now, not between two receipts.
        nostr.read_public_key("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
        self._task = asyncio.create_task(self._stay_connected(), name=f"relay {self.url}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if error is None:
            self._raise_if_dead()

    async def ready(self, timeout_s: float) -> bool:
        """Wait until connected, `timeout_s` at most; whether it is."""
        self._raise_if_dead()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        return self._up.is_set()

    # Questions

    async def query(
        self,
        trace: Trace,
        *,
        address: Address | None = None,
        filters: dict[str, Any] | None = None,
        event_id: str | None = None,
        planned_at: int | None = None,
        timeout_s: float = 5.0,
        role: Role = Role.OBSERVER,
        source: Source = Source.RELAY,
        operation: Operation = Operation.QUERY,
        attempt_group: str = "",
        attempt_no: int = 1,
    ) -> tuple[Observation, Event | None]:
        """Ask once for the event with this address, id or filter: its row, and the event when it is `visible`.

        One row per question, whatever came (see the module). Not connected is answered at once: `ready` waits. When the
        relay asks who we are, has sent a challenge and there are keys, the question is asked again after AUTH as the
        next attempt: a second row, with `timeout_s` of its own, and that one is returned.
        """
        if address is None and event_id is None and not filters:
            raise UsageError("a relay cannot be asked for nothing: give an address, an event id or a filter")
        self._raise_if_dead()
        wanted = _Wanted(address, event_id, filters or {})
        fields: dict[str, Any] = {
            "role": role,
            "source": source,
            "operation": operation,
            "attempt_group": attempt_group or self._vantage.new_id(),
            "timeout_s": timeout_s,
        }
        row, event = await self._ask(trace, wanted, fields | {"planned_at": planned_at, "attempt_no": attempt_no})
        if row.failure is Failure.AUTH_REQUIRED and await self._authenticate(self._link):
            return await self._ask(trace, wanted, fields | {"attempt_no": attempt_no + 1}, authenticated=True)
        return row, event

    async def _ask(
        self, trace: Trace, wanted: _Wanted, fields: dict[str, Any], **facts: object
    ) -> tuple[Observation, Event | None]:
        link, observation_id = self._link, self._vantage.new_id()
        if link is None:
            fields = fields | {"sent_at": self._clock.now(), "detail": detail(**facts)}
            return self._row(trace, self._not_connected(), fields), None
        name, reused = observation_id.replace("-", ""), link.take()
        question = _Question(wanted, asyncio.get_running_loop().create_future())
        link.questions[name] = question
        end: _End | None = None
        try:
            sent_at, end = await self._exchange(
                link, nostr.req(name, wanted.asked()), question.ended, fields["timeout_s"]
            )
            end = end or _own_timer(fields["timeout_s"], "answer")
            row = self._row(
                trace,
                _read_back_end(end) if fields["operation"] is Operation.READ_BACK else end,
                fields,
                observation_id=observation_id,
                sent_at=sent_at,
                connection_reused=reused,
                detail=detail(**_facts(end.event), **question.heard(), **facts),
            )
        finally:
            del link.questions[name]
            if link is self._link and (end is None or end.outcome is not Outcome.REFUSED):
                await link.say(nostr.close(name))
        return row, end.event

    async def _exchange(
        self, link: _Link, text: str, ended: asyncio.Future[_End], timeout_s: float
    ) -> tuple[int, _End | None]:
        """Send and wait: when it left, and how it ended, None when our timer did."""
        sent_at = self._clock.now()
        with suppress(TimeoutError, ConnectionClosed):  # closed: the reader ends everything in flight, with the reason
            async with asyncio.timeout(timeout_s):
                await link.ws.send(text)
        left = timeout_s - (self._clock.now() - sent_at) / SECOND_NS
        try:
            await asyncio.wait([ended], timeout=max(0.0, left))
            return sent_at, ended.result() if ended.done() else None
        finally:
            ended.cancel()  # from now on an OK is late, also when we are being cancelled

    def _row(self, trace: Trace, end: _End, fields: Mapping[str, Any], **more: Any) -> Observation:
        """Write the row of something that ended."""
        stamp = {}
        if end.event is not None and end.event.created_at < _LAST_SECOND:
            stamp = {"remote_at": end.event.created_at * SECOND_NS, "remote_grain_s": 1.0}
        return self._vantage.record(
            trace,
            target=self.url,
            received_at=end.at,
            outcome=end.outcome,
            status=end.status,
            failure=end.failure,
            failure_layer=end.layer,
            reason=end.reason,
            **{"source": Source.RELAY, **stamp, **fields, **more},
        )

    def _not_connected(self) -> _End:
        down = self._down
        outcome = Outcome.PROBE_ERROR if down.outcome is Outcome.PROBE_ERROR else Outcome.UNKNOWN
        reason = down.reason if down is _NOT_YET else f"not connected: {down.reason}"
        return replace(down, outcome=outcome, at=None, status=None, reason=reason)

    async def _authenticate(self, link: _Link | None) -> bool:
        """Answer the relay's challenge, once per challenge; whether it may now be asked again (NIP-42)."""
        if link is None or self._keys is None:
            return False
        async with link.auth_lock:
            if link.authenticated or not link.challenge:
                return link.authenticated
            now_s = self._clock.now() // SECOND_NS
            text = nostr.relay_auth(self._keys, relay=self.url, challenge=link.challenge, created_at=now_s)
            ended = link.expect_ok(json.loads(text)[1]["id"], late=lambda end: None)
            _, end = await self._exchange(link, text, ended, _AUTH_TIMEOUT_S)
            link.authenticated = end is None or end.outcome is Outcome.ACCEPTED  # not every relay says OK to AUTH
            link.challenge = ""
            return link.authenticated

    # Publishing

    async def publish(
        self,
        trace: Trace,
        event: Event,
        *,
        timeout_s: float = 5.0,
        read_back: bool = True,
        attempt_group: str = "",
        attempt_no: int = 1,
    ) -> Observation:
        """Hand one signed event to the relay, once: the row of what came of it, after the row of the intent.

        OK true is `accepted`, OK false `refused`, our timer `unknown`; an OK after the timer writes one more row of the
        same group and number, with `late` in its detail, which corrects it. Nothing is signed or sent again: a relay
        that asks who we are is answered (NIP-42), and whether to publish again, as the next attempt, is the caller's to
        say. With `read_back`, an accepted event is then asked for by its id, up to three rows under a group of their
        own: `visible`, or `absent` with the failure not_stored. OK is not proof of storage.
        """
        self._raise_if_dead()
        fields: dict[str, Any] = {
            "role": Role.HOST,
            "operation": Operation.PUBLISH,
            "attempt_group": attempt_group or self._vantage.new_id(),
            "attempt_no": attempt_no,
            "timeout_s": timeout_s,
        }
        intent = _End(Outcome.UNKNOWN, None, Failure.INTENT, FailureLayer.PROBER, "about to publish")
        self._row(trace, intent, fields, sent_at=self._clock.now(), detail=detail(**_facts(event)))
        row = await self._hand_over(trace, event, fields)
        if row.failure is Failure.AUTH_REQUIRED:
            await self._authenticate(self._link)
        if read_back and row.outcome is Outcome.ACCEPTED:
            await self._read_back(trace, event, row.attempt_group, min(timeout_s, READ_BACK_TIMEOUT_S))
        return row

    async def _hand_over(self, trace: Trace, event: Event, fields: dict[str, Any]) -> Observation:
        link = self._link
        sent_at, facts = self._clock.now(), _facts(event)
        if link is None:
            return self._row(trace, self._not_connected(), fields, sent_at=sent_at, detail=detail(**facts))
        fields = fields | {"connection_reused": link.take()}

        def late(end: _End) -> None:
            self._row(trace, end, fields, sent_at=sent_at, detail=detail(**facts, late=True))

        ended = link.expect_ok(event.id, late)
        sent_at, end = await self._exchange(link, nostr.publish(event), ended, fields["timeout_s"])
        end = end or _own_timer(fields["timeout_s"], "OK")
        return self._row(trace, end, fields, sent_at=sent_at, detail=detail(**facts))

    async def _read_back(self, trace: Trace, event: Event, published: str, timeout_s: float) -> None:
        group, began = self._vantage.new_id(), self._clock.now()
        attempt_no = 1
        for after_s in READ_BACK_AFTER_S:
            await self._clock.until(began + round(after_s * SECOND_NS))
            row, found = await self.query(
                trace,
                event_id=event.id,
                timeout_s=timeout_s,
                role=Role.HOST,
                operation=Operation.READ_BACK,
                attempt_group=group,
                attempt_no=attempt_no,
            )
            if found is not None:
                return
            attempt_no = row.attempt_no + 1

    # Subscriptions

    def subscribe(
        self,
        filters: Mapping[str, Any],
        trace_of: Callable[[Event], Trace | None],
        on_seen: Callable[[Seen], None] | None = None,
    ) -> None:
        """Follow stored and new 30312 events as long as the relay is entered, over every reconnection.

        For each verified event new to this subscription (by id, the last 10 000 are remembered), when `trace_of` gives
        a trace: an `absent` row for the last instant the socket was known alive and silent, when there is one (see the
        module), then a `visible` row at its receipt. `on_seen` is then called for every new event, traced or not. An
        edit is a new id. CLOSED is a row and the subscription is asked for again, after AUTH or a growing pause. An
        error in either callback is a `probe_error` row; the watching goes on.
        """
        subscription = _Subscription(dict(filters), trace_of, on_seen)
        self._subscriptions.append(subscription)
        if self._link is not None:
            self._link.unfollowed.put_nowait(subscription)

    async def _follow_all(self, link: _Link, tasks: asyncio.TaskGroup) -> None:
        while True:
            tasks.create_task(self._follow(link, await link.unfollowed.get()))

    async def _follow(self, link: _Link, subscription: _Subscription) -> None:
        pauses = _pauses()
        group, attempt_no = self._vantage.new_id(), 1
        while True:
            name = self._vantage.new_id().replace("-", "")
            feed = link.feeds[name] = _Feed(subscription, asyncio.get_running_loop().create_future())
            link.take()
            sent_at = self._clock.now()
            with suppress(ConnectionClosed):
                await link.ws.send(nostr.req(name, subscription.filters))
            at, reason = await feed.closed
            del link.feeds[name]
            fields = {"operation": Operation.SUBSCRIBE, "attempt_group": group, "attempt_no": attempt_no}
            self._row(NO_TRACE, _closed_end(at, reason), fields, sent_at=sent_at, connection_reused=True)
            attempt_no += 1
            if at - sent_at > SETTLED_S * SECOND_NS:
                pauses = _pauses()
            if not (_asks_auth(reason) and not link.authenticated and await self._authenticate(link)):
                await self._clock.until(self._clock.now() + round(next(pauses) * SECOND_NS))

    def _pushed(self, link: _Link, feed: _Feed, at: int, raw: Mapping[str, Any]) -> None:
        subscription = feed.subscription
        if subscription.knows(raw.get("id")):
            return
        try:
            event = nostr.read_event(raw)
        except MalformedEvent as error:
            self._false_push(feed, at, error)
            return
        if event.kind != nostr.ROOM_KIND:
            return
        subscription.remember(event.id)
        ping = link.alive_before(at, feed.eose_at) if feed.eose_at else None
        try:
            trace = subscription.trace_of(event)
            if trace is not None:
                self._pushed_rows(trace, event, ping, at)
            if subscription.on_seen is not None:
                subscription.on_seen(Seen(event, ping.sent_at if ping else 0, at))
        except NestobsError:
            raise
        except Exception as error:
            self._callback_failed(event, at, error)

    def _pushed_rows(self, trace: Trace, event: Event, ping: _Ping | None, at: int) -> None:
        fields = {"operation": Operation.SUBSCRIBE, "connection_reused": True}
        if ping is not None:
            known = detail(known_by="answered ping, then silence", push_margin_s=PUSH_MARGIN_S, event_id=event.id)
            self._row(trace, _End(Outcome.ABSENT, ping.answered_at), fields, sent_at=ping.sent_at, detail=known)
        self._row(trace, _End(Outcome.VISIBLE, at, event=event), fields, sent_at=at, detail=detail(**_facts(event)))

    def _false_push(self, feed: _Feed, at: int, error: MalformedEvent) -> None:
        """One row per subscription and connection: a relay that lies does so as often as it likes."""
        if not feed.false_event:
            feed.false_event = True
            reason = f"the relay pushed a false event: {error}"
            end = _End(Outcome.UNKNOWN, at, Failure.BAD_EVENT, FailureLayer.NOSTR, reason)
            self._row(NO_TRACE, end, {"operation": Operation.SUBSCRIBE}, sent_at=at)

    def _callback_failed(self, event: Event, at: int, error: Exception) -> None:
        reason = f"our own callback failed: {type(error).__name__}: {error}"
        end = _End(Outcome.PROBE_ERROR, at, Failure.INTERNAL, FailureLayer.PROBER, reason)
        self._row(NO_TRACE, end, {"operation": Operation.SUBSCRIBE}, sent_at=at, detail=detail(**_facts(event)))

    # The connection

    async def _stay_connected(self) -> None:
        pauses, group, attempt_no = _pauses(), self._vantage.new_id(), 1
        while True:
            opened = await self._connect(group, attempt_no)
            attempt_no += 1
            if isinstance(opened, Opened):
                link = _Link(opened.ws, self._clock.now(), self._clock.now())
                await self._serve(link)
                group, attempt_no = self._vantage.new_id(), 1
                if self._clock.now() - link.opened_at > SETTLED_S * SECOND_NS:
                    pauses = _pauses()
            await self._clock.until(self._clock.now() + round(next(pauses) * SECOND_NS))

    async def _connect(self, group: str, attempt_no: int) -> Opened | NotOpened:
        sent_at = self._clock.now()
        found = await dial(self.url, tls=self._tls, clock=self._clock, timeout_s=self._open_timeout_s)
        at = self._clock.now()
        fields: dict[str, Any] = {
            "operation": Operation.CONNECT,
            "attempt_group": group,
            "attempt_no": attempt_no,
            "timeout_s": self._open_timeout_s,
            "connection_reused": False,
            "sent_at": sent_at,
        }
        if isinstance(found, NotOpened):
            answered = at if found.status is not None else None
            self._down = _End(found.outcome, answered, found.failure, found.layer, found.reason, found.status)
            self._row(NO_TRACE, self._down, fields)
        else:
            headers = found.ws.response.headers if found.ws.response else {}
            fields["software"] = str(headers.get("Server", ""))[:100]
            fields["detail"] = detail(address=found.address, **found.stages)
            self._row(NO_TRACE, _End(Outcome.ACCEPTED, at), fields)
        return found

    async def _serve(self, link: _Link) -> None:
        """Use a connection until it is lost."""
        end = _OURS
        for subscription in self._subscriptions:
            link.unfollowed.put_nowait(subscription)
        self._link = link
        self._up.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(link))
                tasks.create_task(self._ping(link))
                tasks.create_task(self._follow_all(link, tasks))
        except* _Lost as lost:
            end = _first(lost).end
            self._lost_row(link, end)
        finally:
            self._link, self._down = None, end
            self._up.clear()
            link.end_all(end)
            await link.shut()

    def _lost_row(self, link: _Link, end: _End) -> None:
        """`sent_at`: the last sign of life. `received_at`: when the loss was noticed."""
        now = self._clock.now()
        fields = {"operation": Operation.CONNECT, "connection_reused": True}
        lived = detail(lived_s=(now - link.opened_at) / SECOND_NS, lost=True)
        self._row(NO_TRACE, replace(end, at=now), fields, sent_at=link.heard_at, detail=lived)

    async def _read(self, link: _Link) -> None:
        while True:
            try:
                data = await link.ws.recv(decode=False)
            except ConnectionClosed as error:
                raise _Lost(_lost_end(error)) from None
            at = link.heard_at = self._clock.now()
            self._hear(link, at, nostr.read_frame(data))

    def _hear(self, link: _Link, at: int, frame: nostr.RelayFrame) -> None:
        match frame:
            case nostr.EventFrame(name, raw) if name in link.questions:
                link.questions[name].event(at, raw)
            case nostr.EventFrame(name, dict(raw)) if name in link.feeds:
                self._pushed(link, link.feeds[name], at, raw)
            case nostr.Eose(name):
                link.eose(at, name)
            case nostr.Closed(name, reason):
                link.closed(at, name, reason)
            case nostr.Ok():
                link.ok(at, frame)
            case nostr.AuthChallenge(challenge):
                link.challenge, link.authenticated = challenge, False
            case nostr.Notice() | nostr.Unreadable():
                link.remark(frame)

    async def _ping(self, link: _Link) -> None:
        """Ping every `ping_s`; the connection is lost when one stays unanswered for `pong_timeout_s`."""
        due, patience = self._clock.now(), round(self._pong_timeout_s * SECOND_NS)
        while True:
            if self._clock.now() >= due:
                due = self._clock.now() + round(self._ping_s * SECOND_NS)
                await self._send_ping(link)
            oldest = link.oldest_unanswered()
            await self._clock.until(min(due, oldest.sent_at + patience) if oldest else due)
            if oldest and oldest.answered_at is None and self._clock.now() >= oldest.sent_at + patience:
                await asyncio.sleep(0.05)  # after a blocked loop the pong may lie in the socket, unread
                if oldest.answered_at is None:
                    reason = f"no pong within {self._pong_timeout_s:g} s"
                    raise _Lost(_End(Outcome.UNKNOWN, None, Failure.TIMEOUT, FailureLayer.WS, reason))

    async def _send_ping(self, link: _Link) -> None:
        ping = _Ping(self._clock.now())

        def answered(pong: asyncio.Future[float]) -> None:
            if not pong.cancelled() and pong.exception() is None:
                ping.answered_at = link.heard_at = self._clock.now()

        link.pings.append(ping)
        with suppress(ConnectionClosed, TimeoutError):  # closed: the reader says how; full: no pong will say it
            async with asyncio.timeout(self._pong_timeout_s):
                pong = asyncio.ensure_future(await link.ws.ping())
                pong.add_done_callback(answered)

    def _raise_if_dead(self) -> None:
        if self._task is None or not self._task.done() or self._task.cancelled():
            return
        error = self._task.exception()
        if error is not None:
            raise _first(error)


def _first(error: BaseException) -> Any:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _facts(event: Event | None) -> dict[str, object]:
    """What a row's detail holds of an event."""
    if event is None:
        return {}
    return {"created_at": event.created_at, "event_id": event.id, "status": event.tag("status")}


def _read_back_end(end: _End) -> _End:
    if end.outcome is not Outcome.ABSENT:
        return end
    reason = "OK but not there when read back"
    return replace(end, failure=Failure.NOT_STORED, layer=FailureLayer.NOSTR, reason=reason)
