"""One open connection to a relay: what is in flight on it, and what each frame that comes ends.

A connection carries many things at once: questions (a REQ each, until the event, EOSE or CLOSED), feeds (a REQ that
stays), deeds (an EVENT or AUTH, until its OK) and our own pings. Here are the socket and the bookkeeping; when to ask,
and writing rows, is client.py's. A deed whose timer has run out gets its OK as a late one.

A relay may want to know who asks (NIP-42): its challenge comes on connect, after CLOSED, or while it holds a REQ back.
Until our answer is taken, nothing it does not show is proof; what was asked before is asked again after.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from nestobs import nostr
from nestobs.nostr import Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources.clock import Clock, Held, LoopWatch, patience
from nestobs.sources.dial import Order
from nestobs.sources.failures import Judgement, closed, held_up, timed_out
from nestobs.sources.relay.flood import REJECTED, Meter
from nestobs.sources.relay.questions import End, Question, closed_end, ok_end, unheard

_SAY_TIMEOUT_S: Final = 1.0
_OPEN_DEEDS: Final = 1_000

ANSWER_S: Final = 2.0
"""How long a relay may take to say that it took our answer to its challenge."""

CHALLENGE_S: Final = 1.0
"""How long the challenge may come after a refusal that asks for an answer."""

BEHIND_EOSE_S: Final = 0.1
"""How long after the first EOSE of a connection its challenge may come and take that EOSE's proof away."""

CHALLENGES: Final = 20
"""How many challenges of one connection are answered: a relay that asks for ever is left unanswered."""


class Lost(Exception):
    """The connection is gone; `end` says how, for the connection's row and for everything in flight on it."""

    def __init__(self, end: End) -> None:
        super().__init__(end.judgement.reason)
        self.end = end


def first(error: BaseException) -> Any:
    """The first that a group of tasks raised, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@dataclass(slots=True)
class _Deed:
    """One EVENT or AUTH awaiting its OK. After our timer the OK goes to `late`."""

    ended: asyncio.Future[End]
    late: Callable[[End], None]


@dataclass(slots=True)
class Feed:
    """A subscription on one connection, from its REQ to its CLOSED. `push` takes what comes, unverified; of an event
    that is too long to be read, its size."""

    push: Callable[[Feed, int, object], None]
    closed: asyncio.Future[End]
    answers: int = 0
    eose_at: int = 0
    false_event: bool = False
    trouble: str = "no EOSE yet"

    def end(self, end: End) -> None:
        """End it, unless it has ended."""
        if not self.closed.done():
            self.closed.set_result(end)


@dataclass(slots=True)
class Ping:
    """One of our pings, both instants ns UTC; `answered_at` None while no pong came. `behind`: how many messages had
    begun to come before the pong did."""

    sent_at: int
    answered_at: int | None = None
    behind: int = 0


@dataclass(slots=True)
class Identity:
    """NIP-42 on one connection. `challenge`: the relay's last one, while we have not answered it; `wanted`: it has
    asked and not yet taken an answer; `answers`: how many of ours it took, or let pass in silence.

    What was asked under fewer `answers` than there are now was asked by a stranger, and is to be asked again. refusal:
    why the relay does not take our answer; held: how we held it up ourselves, where it may be that.
    """

    challenge: str = ""
    wanted: bool = False
    answers: int = 0
    heard: int = 0
    refusal: str = ""
    held: Held | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def ask(self, challenge: str) -> None:
        """The relay's challenge came."""
        self.wanted = True
        self.heard += 1
        if self.heard <= CHALLENGES:
            self.challenge = challenge
            self.came.set()

    def hidden_from(self, answers: int) -> bool:
        """Whether something asked under so many answers may have been withheld."""
        return self.wanted or self.answers != answers

    def told(self, end: End) -> End:
        """An end that asks for our answer, with what became of the answer that was given."""
        if (
            end.judgement.failure is not Failure.AUTH_REQUIRED
            or not self.refusal
            or self.refusal in end.judgement.reason
        ):
            return end
        return replace(end, judgement=end.judgement._replace(reason=f"{end.judgement.reason}; {self.words()}"))

    def words(self) -> str:
        """Why what the relay does not show proves nothing."""
        if self.held is not None:
            return "whether the relay took our answer to who asks (NIP-42) is not known"
        if self.refusal:
            return f"the relay does not take our answer to who asks (NIP-42): {self.refusal}"
        if self.wanted:
            return "the relay wants to know who asks (NIP-42) and has no answer: what it does not show proves nothing"
        return "the relay wanted to know who asks (NIP-42) while this was asked: asked again"


@dataclass(slots=True)
class Link:
    """One open connection and everything in flight on it. `heard_at`: the last sign of life, ns UTC; `heard`: messages.
    `open_to_strangers`: it has answered a question for good without asking who we are.
    """

    ws: ClientConnection
    order: Order
    clock: Clock
    watch: LoopWatch
    meter: Meter
    opened_at: int
    heard_at: int
    heard: int = 0
    used: bool = False
    identity: Identity = field(default_factory=Identity)
    open_to_strangers: bool = False
    questions: dict[str, Question] = field(default_factory=dict)
    feeds: dict[str, Feed] = field(default_factory=dict)
    deeds: OrderedDict[str, deque[_Deed]] = field(default_factory=OrderedDict)
    pings: deque[Ping] = field(default_factory=lambda: deque(maxlen=256))

    async def may_still_ask(self) -> None:
        """Wait whether a challenge follows the first EOSE of a connection, as some relays send it behind."""
        if not (self.open_to_strangers or self.identity.heard):
            await asyncio.sleep(BEHIND_EOSE_S)
            self.open_to_strangers = not self.identity.heard

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
        deed = next((deed for deed in waiting if not deed.ended.done()), waiting[0])
        waiting.remove(deed)
        if not waiting:
            del self.deeds[frame.event_id]
        end = ok_end(at, frame)
        if deed.ended.done():
            deed.late(end)
        else:
            deed.ended.set_result(end)

    def silent_until(self, since: int) -> Ping | None:
        """The latest ping sent after `since` whose pong came before the message that is being heard."""
        for ping in reversed(self.pings):
            if ping.answered_at is not None and since < ping.sent_at and ping.behind < self.heard:
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
            with suppress(TimeoutError):
                async with patience(asyncio.get_running_loop().time() + max(0.0, left)):
                    await asyncio.wait([ended])
            return sent_at, ended.result() if ended.done() else None
        finally:
            ended.cancel()  # from now on an OK is late, also when we are being cancelled

    async def say(self, text: str) -> None:
        """Send something that asks for no answer; a connection that does not take it is the reader's business."""
        with suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(_SAY_TIMEOUT_S):
                await self.ws.send(text)

    async def shut(self) -> None:
        """Close politely, but not for longer than a second, since a half-open socket may take not one byte more; and
        not where the relay floods."""
        try:
            if not self.meter.flooded:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SAY_TIMEOUT_S):
                        await self.ws.close()
        finally:
            self.ws.transport.abort()
        await self.ws.wait_closed()

    async def read(self) -> None:
        """Hear whatever comes, until the connection is lost: raises Lost."""
        while True:
            try:
                data = await self.ws.recv(decode=False)
            except ConnectionClosed as error:
                judgement, code = closed(error)
                raise Lost(self._flood() or End(judgement, status=code)) from None
            at = self.heard_at = self.clock.now()
            self.heard += 1
            self.hear(at, nostr.read_frame(data))
            if flood := self._flood():
                raise Lost(flood)
            await asyncio.sleep(0)  # frames that wait already would be read without the others' turn

    def _flood(self) -> End | None:
        """The end of a connection that brought more than is borne."""
        why = self.meter.flooded
        return End(Judgement(Outcome.UNKNOWN, Failure.FLOODED, FailureLayer.NOSTR, why)) if why else None

    def reject(self) -> None:
        """Something came that is no true event: a relay that does so often is cut off."""
        self.meter.over(REJECTED)

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
                    why = timed_out(pong_timeout_s, FailureLayer.WS, "pong")
                    held = self.watch.held(oldest.sent_at, pong_timeout_s)
                    raise Lost(End(why if held is None else held_up(held, why.reason)))

    async def _ping(self, pong_timeout_s: float) -> None:
        ping = Ping(self.clock.now())

        def answered(pong: asyncio.Future[float]) -> None:
            if not pong.cancelled() and pong.exception() is None:
                ping.answered_at = self.heard_at = self.clock.now()
                ping.behind = self.order.begun_at_pong

        self.pings.append(ping)
        with suppress(ConnectionClosed, TimeoutError):  # closed: the reader says how; full: no pong will say it
            async with asyncio.timeout(pong_timeout_s):
                pong = asyncio.ensure_future(await self.ws.ping())
                pong.add_done_callback(answered)

    def hear(self, at: int, frame: nostr.RelayFrame) -> None:
        """Let a frame received at `at` end or feed what it speaks of. A frame about nothing we asked is passed over."""
        match frame:
            case nostr.EventFrame(name, raw) if name in self.questions:
                if not self.questions[name].event(at, raw):
                    self.reject()
            case nostr.TooLong(name, size) if name in self.questions:
                self.questions[name].false_event = f"{size} bytes, not read"
                self.reject()
            case nostr.EventFrame(name, raw) | nostr.TooLong(name, raw) if name in self.feeds:
                self.feeds[name].push(self.feeds[name], at, raw)
            case nostr.Eose(name):
                self._eose(at, name)
            case nostr.Closed(name, reason):
                self._closed(at, name, reason)
            case nostr.Ok():
                self._ok(at, frame)
            case nostr.AuthChallenge(challenge):
                self._challenged(challenge)
            case nostr.Notice() | nostr.Unreadable():
                self._remark(frame)

    def _eose(self, at: int, name: str) -> None:
        asked: Question | Feed | None = self.questions.get(name) or self.feeds.get(name)
        if asked is None:
            return
        if self.identity.hidden_from(asked.answers):
            self._unheard(asked, at)
        elif isinstance(asked, Question):
            asked.eose(at)
        else:
            asked.eose_at, asked.trouble = asked.eose_at or at, ""

    def _unheard(self, asked: Question | Feed, at: int) -> None:
        """The end of what was asked before the relay knew who we are; a feed without a key goes on, and proves less."""
        why = self.identity.words()
        if isinstance(asked, Question) or not self.identity.wanted:
            asked.end(unheard(at, why, self.identity.held))
        else:
            asked.trouble = why

    def _closed(self, at: int, name: str, reason: str) -> None:
        asked: Question | Feed | None = self.questions.get(name) or self.feeds.get(name)
        if asked is not None:
            asked.end(closed_end(at, reason))

    def _challenged(self, challenge: str) -> None:
        self.identity.ask(challenge)
        for feed in self.feeds.values():
            feed.eose_at, feed.trouble = 0, self.identity.words()

    async def answer(self, url: str, keys: Keys) -> None:
        """Answer the relay's challenge, if there is one: what a stranger asked then ends, to be asked again (NIP-42).

        A relay that does not say OK in `ANSWER_S` is asked again, and proves nothing by what it does not show.
        """
        mine = self.identity
        async with mine.lock:
            if not mine.challenge:
                return
            now_s = self.clock.now() // SECOND_NS
            text = nostr.relay_auth(keys, relay=url, challenge=mine.challenge, created_at=now_s)
            mine.challenge, heard = "", mine.heard
            ended = self.expect_ok(json.loads(text)[1]["id"], late=partial(self._answered, heard))
            sent_at, end = await self.exchange(text, ended, ANSWER_S)
            if end is None:
                mine.answers, mine.refusal = mine.answers + 1, f"no OK within {ANSWER_S:g} s"
                mine.held = self.watch.held(sent_at, ANSWER_S)
            else:
                self._answered(heard, end)

    def _answered(self, heard: int, end: End) -> None:
        """The relay's OK to our answer, in time or late; one to an earlier challenge says nothing of the last."""
        mine = self.identity
        mine.held = None
        if end.outcome is Outcome.REFUSED:
            mine.refusal = end.judgement.reason
        elif end.outcome is Outcome.ACCEPTED:
            mine.answers += 1
            mine.wanted, mine.refusal = mine.wanted and mine.heard != heard, ""
            under_way: list[Question | Feed] = [*self.questions.values(), *self.feeds.values()]
            for asked in under_way:
                if asked.answers != mine.answers:
                    asked.end(unheard(end.at, mine.words(), mine.held))

    def _remark(self, frame: nostr.Notice | nostr.Unreadable) -> None:
        """Something tied to no question: evidence for all that are in flight."""
        if isinstance(frame, nostr.Unreadable):
            self.reject()
        for question in self.questions.values():
            if isinstance(frame, nostr.Unreadable):
                question.unreadable += 1
            else:
                question.notice(frame.text)
        for feed in self.feeds.values():
            if not feed.eose_at and isinstance(frame, nostr.Notice):
                feed.trouble = f"NOTICE: {frame.text[:200]}"

    def end_all(self, end: End) -> None:
        """The connection is gone: everything in flight ends so."""
        for question in self.questions.values():
            question.end(end)
        for deed in (deed for waiting in self.deeds.values() for deed in waiting):
            if not deed.ended.done():
                deed.ended.set_result(end)
