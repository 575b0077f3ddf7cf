"""One relay as seen from one vantage: questions, publications and subscriptions over one raw websocket.

A question to a relay (NIP-01 REQ) has six different ends, and only two of them prove anything:

    the event itself      visible, at the event's own receipt: a relay that never says EOSE has still answered
    EOSE without it       absent
    CLOSED                refused
    the socket closed     unknown
    our own timer         unknown: it is not an EOSE
    never asked           unknown, for the reason the last attempt to connect failed

A relay that wants to know who asks (NIP-42) is answered where there are keys, and asked again as the next attempt;
until it has taken the answer, its EOSE and its silence are `refused`, auth_required, like its own word for it.

NOTICE ends nothing and is kept as evidence. An event counts only when its id and signature are true and it is the one
asked for; a relay that lies proves nothing, so EOSE after a false event is `unknown` too.

Nothing is retried in silence: each attempt to connect, each lost connection, each question is a row of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Final

from websockets.exceptions import ConnectionClosed

from nestobs import nostr
from nestobs.errors import UsageError
from nestobs.nostr import Address, Event, Keys
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Role, Source
from nestobs.sources.address import Refuse
from nestobs.sources.dial import NotOpened, Opened, dial, read_url, trust
from nestobs.sources.failures import Judgement, intended, timed_out
from nestobs.sources.relay.connection import CHALLENGE_S, Feed, Link, Lost, first
from nestobs.sources.relay.flood import FRAME_BYTES, QUEUED_FRAMES, Meter
from nestobs.sources.relay.pauses import LONGEST_FLOOD_PAUSE_S, SETTLED_S, flood_pauses, pauses
from nestobs.sources.relay.pushes import Pushes, Seen, Subscription
from nestobs.sources.relay.questions import NOT_YET, OURS, End, Looked, Question, Wanted, read_back_end, unheard
from nestobs.sources.relay.rows import RelayRows, facts_of_event
from nestobs.sources.vantage import NO_TRACE, Trace, Vantage

AGAIN: Final = 2
"""How often something is asked again because the relay has come to know who we are."""

READ_BACK_AFTER_S: Final = (0.0, 0.25, 1.0)
READ_BACK_TIMEOUT_S: Final = 2.0


class Relay:
    """One relay for one vantage: connects, keeps connected and reconnects while entered; every attempt is a row.

    `keys` answer a relay that asks who we are (NIP-42); refuse: where only an event names it, see address.py. A ping
    leaves every `ping_s`; one unanswered for `pong_timeout_s` ends the connection. Raises UsageError for a URL that is
    none. An error of the sink (a full disk) ends the connection task and is raised by the next call and on leaving.
    """

    def __init__(
        self,
        vantage: Vantage,
        url: str,
        *,
        keys: Keys | None = None,
        refuse: Refuse | None = None,
        ping_s: float = 2.0,
        pong_timeout_s: float = 4.0,
        open_timeout_s: float = 5.0,
    ) -> None:
        self.url = url
        self._tls = trust(read_url(url))
        self._vantage, self._clock, self._keys, self._refuse = vantage, vantage.clock, keys, refuse
        self._ping_s, self._pong_timeout_s, self._open_timeout_s = ping_s, pong_timeout_s, open_timeout_s
        self._rows = RelayRows(vantage, url)
        self._pushes = Pushes(self._rows)
        self._link: Link | None = None
        self._up = asyncio.Event()
        self._down, self._connecting_at = NOT_YET, vantage.clock.now()
        self._subscriptions: list[Subscription] = []
        self._unfollowed: asyncio.Queue[Subscription] = asyncio.Queue()  # of the present connection
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    async def __aenter__(self) -> Relay:
        # The first verification imports nostr-sdk, a quarter of a second: now, not between two receipts.
        nostr.read_public_key("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
        self._task = asyncio.create_task(self._stay_connected(), name=f"relay {self.url}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._closing = True
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
        newest: bool = False,
    ) -> tuple[Observation, Event | None]:
        """Ask once for the event with this address, id or filter: its row, and the event when it is `visible`.

        One row per question, whatever came (see the module). Not connected is answered at once: `ready` waits. When the
        relay asks who we are, has sent a challenge and there are keys, the question is asked again after AUTH as the
        next attempt: a second row, with `timeout_s` of its own, and that one is returned. newest: wait for EOSE and
        take the newest version, as relays send them in any order; without EOSE, until the timeout. The row's receipt is
        that of the first all the same.
        """
        if address is None and event_id is None and not filters:
            raise UsageError("a relay cannot be asked for nothing: give an address, an event id or a filter")
        self._raise_if_dead()
        wanted = Wanted(address, event_id, filters or {}, versions=newest)
        fields: dict[str, Any] = {
            "role": role,
            "source": source,
            "operation": operation,
            "attempt_group": attempt_group or self._vantage.new_id(),
            "timeout_s": timeout_s,
        }
        row, event, _ = await self._query(trace, wanted, fields | {"planned_at": planned_at, "attempt_no": attempt_no})
        return row, event

    async def look(
        self,
        trace: Trace,
        *,
        address: Address | None = None,
        filters: dict[str, Any] | None = None,
        timeout_s: float = 5.0,
        role: Role = Role.OBSERVER,
        operation: Operation = Operation.QUERY,
    ) -> Looked:
        """Ask for all that the relay has of a nest: one row, or more where it wants to know who asks.

        By address: its newest version, and its author's deletions. By a filter: the newest version of each nest.
        """
        if address is None and not filters:
            raise UsageError("a relay cannot be asked for nothing: give an address or a filter")
        self._raise_if_dead()
        wanted = Wanted(address, None, filters or {}, versions=True)
        fields = {"role": role, "operation": operation, "attempt_group": self._vantage.new_id(), "attempt_no": 1}
        row, _, question = await self._query(trace, wanted, fields | {"timeout_s": timeout_s})
        if question is None:
            return Looked(row)
        return Looked(row, tuple(question.found.values()), tuple(question.deletions))

    async def _query(
        self, trace: Trace, wanted: Wanted, fields: dict[str, Any], **facts: object
    ) -> tuple[Observation, Event | None, Question | None]:
        for again in range(AGAIN + 1):
            answers = await self._introduce()
            row, event, question = await self._ask(trace, wanted, fields, **facts)
            if event is not None or again == AGAIN or not await self._known_since(answers, row):
                break
            fields = fields | {"planned_at": None, "attempt_no": row.attempt_no + 1}
            facts["authenticated"] = True
        return row, event, question

    async def _ask(
        self, trace: Trace, wanted: Wanted, fields: dict[str, Any], **facts: object
    ) -> tuple[Observation, Event | None, Question | None]:
        link, observation_id = self._link, self._vantage.new_id()
        if link is None:
            fields = fields | {"sent_at": self._clock.now(), "began_at": self._connecting_at, "detail": detail(**facts)}
            return self._rows.write(trace, self._not_connected(), fields), None, None
        name, reused = observation_id.replace("-", ""), link.take()
        question = Question(wanted, asyncio.get_running_loop().create_future(), link.identity.answers)
        link.questions[name] = question
        link.meter.ask(wanted.most)
        end: End | None = None
        try:
            sent_at, end = await link.exchange(
                nostr.req(name, *wanted.all_asked()), question.ended, fields["timeout_s"]
            )
            end = await self._judged(link, question, end or question.late(fields["timeout_s"]))
            row = self._rows.write(
                trace,
                read_back_end(end) if "published" in facts else end,
                fields,
                observation_id=observation_id,
                sent_at=sent_at,
                connection_reused=reused,
                detail=detail(**facts_of_event(end.event), **question.heard(), **facts),
            )
        finally:
            del link.questions[name]
            if link is self._link and (end is None or end.outcome is not Outcome.REFUSED):
                await link.say(nostr.close(name))
        return row, end.event, question

    async def _judged(self, link: Link, question: Question, end: End) -> End:
        """An end without the event, which proves nothing while the relay does not know who asks."""
        if end.outcome is Outcome.ABSENT:
            await link.may_still_ask()
        mine, silent = link.identity, end.outcome is Outcome.ABSENT or end.judgement.failure is Failure.TIMEOUT
        hidden = silent and mine.hidden_from(question.answers)
        return unheard(end.at, mine.words(), mine.held) if hidden else mine.told(end)

    def _not_connected(self) -> End:
        down = self._down.judgement
        outcome = Outcome.PROBE_ERROR if down.outcome is Outcome.PROBE_ERROR else Outcome.UNKNOWN
        reason = down.reason if self._down is NOT_YET else f"not connected: {down.reason}"
        return End(down._replace(outcome=outcome, reason=reason))

    def identify(self, keys: Keys) -> None:
        """Answer by these keys from now on, a challenge that is open included."""
        self._keys = keys
        if self._link is not None and self._link.identity.challenge:
            self._link.identity.came.set()

    def knows_us(self) -> bool:
        """Whether the relay wanted to know who asks, on the present connection, and took our answer."""
        return self._link is not None and self._link.identity.answers > 0 and not self._link.identity.wanted

    def silence(self) -> str:
        """Why nothing that the subscriptions do not bring is proved just now; "" when all have had their EOSE."""
        link = self._link
        if link is None:
            return self._not_connected().judgement.reason
        return next((feed.trouble for feed in link.feeds.values() if feed.trouble), "")

    async def _introduce(self) -> int:
        """Answer an open challenge before something is asked; how many answers the relay has taken by now."""
        link = self._link
        if link is None:
            return 0
        if self._keys is not None:
            await link.answer(self.url, self._keys)
        return link.identity.answers

    async def _known_since(self, answers: int, row: Observation) -> bool:
        """Whether the relay has said more of who asks since it was asked, under so many `answers`, with this end."""
        link = self._link
        if link is None or self._keys is None:
            return False
        mine = link.identity
        if row.failure is Failure.AUTH_REQUIRED and mine.answers == answers and not mine.challenge:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHALLENGE_S):
                    await mine.came.wait()
        await link.answer(self.url, self._keys)
        return mine.answers != answers or mine.refusal not in row.reason

    async def _answer_challenges(self, link: Link) -> None:
        while True:
            await link.identity.came.wait()
            link.identity.came.clear()
            if self._keys is not None:
                await link.answer(self.url, self._keys)
            if link.feeds:
                self._as_a_stranger(link)

    def _as_a_stranger(self, link: Link) -> None:
        """Write, where it is so, that what a subscription is not brought proves nothing."""
        if link.identity.wanted:
            mine, fields = link.identity, {"operation": Operation.SUBSCRIBE}
            end = unheard(None, mine.words(), mine.held)
            self._rows.write(NO_TRACE, end, fields, sent_at=self._clock.now(), connection_reused=True)

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
        """Hand one signed event to the relay: the row of what came of it, after the row of the intent.

        OK true is `accepted`, OK false `refused`, our timer `unknown`; an OK after the timer writes one more row of the
        same group and number, with `late` in its detail, which corrects it. Nothing is signed again; only where the
        relay wanted to know who we are and has been told (NIP-42) the same event is sent again, as the next attempt
        with an intent of its own; the last row is returned. With `read_back`, an accepted event is then asked for by
        its id, in up to three rows under a group of their own, whose detail names the publication's: `visible`, or
        `absent` with the failure not_stored. OK is not proof of storage.
        """
        self._raise_if_dead()
        fields: dict[str, Any] = {
            "role": Role.HOST,
            "operation": Operation.PUBLISH,
            "attempt_group": attempt_group or self._vantage.new_id(),
            "attempt_no": attempt_no,
            "timeout_s": timeout_s,
        }
        for again in range(AGAIN + 1):
            answers, intent = await self._introduce(), End(intended("publish"))
            fields = fields | {"attempt_no": attempt_no + again}
            self._rows.write(trace, intent, fields, sent_at=self._clock.now(), detail=detail(**facts_of_event(event)))
            row = await self._hand_over(trace, event, fields)
            if row.outcome is Outcome.ACCEPTED or again == AGAIN or not await self._known_since(answers, row):
                break
        if read_back and row.outcome is Outcome.ACCEPTED:
            await self._read_back(trace, event, row.attempt_group, min(timeout_s, READ_BACK_TIMEOUT_S))
        return row

    async def _hand_over(self, trace: Trace, event: Event, fields: dict[str, Any]) -> Observation:
        link = self._link
        sent_at, facts = self._clock.now(), facts_of_event(event)
        if link is None:
            fields = fields | {"began_at": self._connecting_at}
            return self._rows.write(trace, self._not_connected(), fields, sent_at=sent_at, detail=detail(**facts))
        fields = fields | {"connection_reused": link.take()}

        def late(end: End) -> None:
            self._rows.write(trace, end, fields, sent_at=sent_at, detail=detail(**facts, late=True))

        ended = link.expect_ok(event.id, late)
        sent_at, end = await link.exchange(nostr.publish(event), ended, fields["timeout_s"])
        end = link.identity.told(end or End(timed_out(fields["timeout_s"], FailureLayer.NOSTR, "OK")))
        return self._rows.write(trace, end, fields, sent_at=sent_at, detail=detail(**facts))

    async def _read_back(self, trace: Trace, event: Event, published: str, timeout_s: float) -> None:
        began, attempt_no = self._clock.now(), 1
        fields: dict[str, Any] = {
            "role": Role.HOST,
            "operation": Operation.READ_BACK,
            "attempt_group": self._vantage.new_id(),
            "timeout_s": timeout_s,
        }
        for after_s in READ_BACK_AFTER_S:
            await self._clock.until(began + round(after_s * SECOND_NS))
            wanted = Wanted(None, event.id, {})
            row, found, _ = await self._query(trace, wanted, fields | {"attempt_no": attempt_no}, published=published)
            if found is not None:
                return
            attempt_no = row.attempt_no + 1

    # Subscriptions

    def subscribe(
        self,
        filters: Mapping[str, Any],
        trace_of: Callable[[Event], Trace | None],
        on_seen: Callable[[Seen], None] | None = None,
        on_withdrawn: Callable[[Event], None] | None = None,
    ) -> None:
        """Follow stored and new 30312 events as long as the relay is entered, over every reconnection.

        For each verified event new to this subscription (by id, the last 10 000 are remembered), when `trace_of` gives
        a trace: an `absent` row for the last instant the socket was known alive and silent, when there is one (see the
        module), then a `visible` row at its receipt. `on_seen` is then called for every new event, traced or not. An
        edit is a new id. `on_withdrawn` is called for each verified deletion (kind 5) of a nest, and makes the REQ ask
        for them. CLOSED is a row and the subscription is asked for again, after AUTH or a growing pause. An error in a
        callback is a `probe_error` row; the watching goes on.
        """
        subscription = Subscription(dict(filters), trace_of, on_seen, on_withdrawn)
        self._subscriptions.append(subscription)
        self._unfollowed.put_nowait(subscription)

    async def _follow_all(self, link: Link, tasks: asyncio.TaskGroup) -> None:
        unfollowed = self._unfollowed
        while True:
            tasks.create_task(self._follow(link, await unfollowed.get()))

    async def _follow(self, link: Link, subscription: Subscription) -> None:
        gaps = pauses()
        push = partial(self._pushes.take, link, subscription)
        group, attempt_no = self._vantage.new_id(), 1
        while True:
            answers = await self._introduce()
            self._as_a_stranger(link)
            name = self._vantage.new_id().replace("-", "")
            feed = link.feeds[name] = Feed(push, asyncio.get_running_loop().create_future(), answers)
            link.take()
            sent_at = self._clock.now()
            with suppress(ConnectionClosed):
                await link.ws.send(nostr.req(name, *subscription.all_asked()))
            end = link.identity.told(await feed.closed)
            feed.eose_at, feed.trouble = 0, end.judgement.reason
            fields = {"operation": Operation.SUBSCRIBE, "attempt_group": group, "attempt_no": attempt_no}
            row = self._rows.write(NO_TRACE, end, fields, sent_at=sent_at, connection_reused=True)
            attempt_no += 1
            if self._clock.now() - sent_at > SETTLED_S * SECOND_NS:
                gaps = pauses()
            if not await self._known_since(answers, row):
                await self._clock.until(self._clock.now() + round(next(gaps) * SECOND_NS))
            del link.feeds[name]

    # The connection

    async def _stay_connected(self) -> None:
        gaps, group, attempt_no = pauses(), self._vantage.new_id(), 1
        after_floods = flood_pauses()
        while True:
            meter = Meter(self._clock)
            opened = await self._connect(group, attempt_no, meter)
            attempt_no += 1
            if isinstance(opened, Opened):
                now = self._clock.now()
                parts: dict[str, Any] = {"ws": opened.ws, "order": opened.order, "clock": self._clock}
                parts["watch"] = self._vantage.watch
                link = Link(**parts, meter=meter, opened_at=now, heard_at=now)
                await self._serve(link)
                group, attempt_no = self._vantage.new_id(), 1
                lived_s = (self._clock.now() - link.opened_at) / SECOND_NS
                gaps = pauses() if lived_s > SETTLED_S else gaps
                after_floods = flood_pauses() if lived_s > LONGEST_FLOOD_PAUSE_S else after_floods
            pause_s = next(after_floods if meter.flooded else gaps)
            await self._clock.until(self._clock.now() + round(pause_s * SECOND_NS))

    async def _connect(self, group: str, attempt_no: int, meter: Meter) -> Opened | NotOpened:
        sent_at = self._connecting_at = self._clock.now()
        how: dict[str, Any] = {"tls": self._tls, "clock": self._clock, "refuse": self._refuse}
        how |= {"max_size": FRAME_BYTES, "max_queue": QUEUED_FRAMES, "borne": meter.bears}
        found = await dial(self.url, timeout_s=self._open_timeout_s, **how)
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
            self._down = End(found.judgement, answered, found.status)
            self._down = self._down.as_written(self._rows.write(NO_TRACE, self._down, fields))
        else:
            headers = found.ws.response.headers if found.ws.response else {}
            fields["software"] = str(headers.get("Server", ""))[:100]
            fields["detail"] = detail(address=found.address, **found.stages)
            self._rows.write(NO_TRACE, End(Judgement(Outcome.ACCEPTED), at), fields)
        return found

    async def _serve(self, link: Link) -> None:
        """Use a connection until it is lost."""
        end = OURS
        self._unfollowed = asyncio.Queue()
        for subscription in self._subscriptions:
            self._unfollowed.put_nowait(subscription)
        self._link = link
        self._up.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(link.read())
                tasks.create_task(self._answer_challenges(link))
                tasks.create_task(link.keep_pinging(self._ping_s, self._pong_timeout_s))
                tasks.create_task(self._follow_all(link, tasks))
        except* Lost as lost:
            end = first(lost).end
            end = end.as_written(self._lost_row(link, end))
        finally:
            self._link, self._down = None, end
            self._up.clear()
            link.end_all(end)
            await link.shut()
        if self._closing:
            raise asyncio.CancelledError  # a TaskGroup that fails while it is cancelled tells of the failure only

    def _lost_row(self, link: Link, end: End) -> Observation:
        """`sent_at`: the last sign of life. `received_at`: when the loss was noticed."""
        now = self._clock.now()
        fields = {"operation": Operation.CONNECT, "connection_reused": True}
        lived = detail(lived_s=(now - link.opened_at) / SECOND_NS, lost=True)
        return self._rows.write(NO_TRACE, replace(end, at=now), fields, sent_at=link.heard_at, detail=lived)

    def _raise_if_dead(self) -> None:
        if self._task is None or not self._task.done() or self._task.cancelled():
            return
        error = self._task.exception()
        if error is not None:
            raise first(error)
