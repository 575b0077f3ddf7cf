"""What a subscription brings: which events are true and new to it, and the rows of each.

A pushed event is bounded from below by the connection's liveness, in the order of what came on it: read late by us, the
order is what it was. We ping by ourselves, and a pong that came before the event says that the relay had not pushed it
when the ping left. Only the socket is proved by that, not that the relay had nothing to push: it is taken to push a new
event over a living socket within PUSH_MARGIN_S, and as much later as its pong took. So the event was absent that long
before the latest such ping, if that left after the subscription's EOSE on this same connection. It is visible from
since when it may have lain unread.

That is said of the first version of a nest alone. Silence before an edit says that the edit was not there, and nothing
of the nest, which was.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from nestobs import nostr
from nestobs.errors import NestobsError
from nestobs.nostr import Event, MalformedEvent
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import LONGEST_ROOM, Operation, Outcome
from nestobs.sources.clock import BEAT_S
from nestobs.sources.failures import Judgement, ours
from nestobs.sources.relay.connection import Feed, Link, Ping
from nestobs.sources.relay.flood import PUSHED
from nestobs.sources.relay.questions import End, false_event
from nestobs.sources.relay.rows import RelayRows, facts_of_event
from nestobs.sources.vantage import NO_TRACE, Trace

PUSH_MARGIN_S: Final = 1.0
"""How long a relay may take to push a new event over a living socket: the assumption under every pushed lower bound."""

T = TypeVar("T")
R = TypeVar("R")

REMEMBERED_IDS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A verified 30312 event that a subscription brought, new to it, and its receipt, ns UTC."""

    event: Event
    received_at: int


@dataclass(slots=True)
class Subscription:
    """What is followed on every connection, the ids already seen, and of which nests."""

    filters: Mapping[str, Any]
    trace_of: Callable[[Event], Trace | None]
    on_seen: Callable[[Seen], None] | None
    on_withdrawn: Callable[[Event], None] | None
    seen: OrderedDict[str, None] = field(default_factory=OrderedDict)
    nests: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)

    def all_asked(self) -> list[Mapping[str, Any]]:
        """The filters of its REQ."""
        if self.on_withdrawn is None:
            return [self.filters]
        since = {"since": self.filters["since"]} if "since" in self.filters else {}
        return [self.filters, nostr.withdrawals() | since]

    def knows(self, event_id: object) -> bool:
        """Whether it brought this event before."""
        return isinstance(event_id, str) and event_id in self.seen  # a relay can send anything

    def remember(self, event_id: str) -> None:
        """Know an event from now on, at the cost of the oldest."""
        self.seen[event_id] = None
        if len(self.seen) > REMEMBERED_IDS:
            self.seen.popitem(last=False)

    def is_edit(self, event: Event) -> bool:
        """Whether it brought another version of this nest before; it knows the nest from now on."""
        nest = event.pubkey, event.tag("d") or ""
        known = nest in self.nests
        self.nests[nest] = None
        if len(self.nests) > REMEMBERED_IDS:
            self.nests.popitem(last=False)
        return known


@dataclass(frozen=True, slots=True)
class Pushes:
    """Takes what the subscriptions of one relay bring."""

    rows: RelayRows

    def take(self, link: Link, subscription: Subscription, feed: Feed, at: int, raw: object) -> None:
        """An unverified event came for a subscription: its rows and callbacks, if it is true and new."""
        if isinstance(raw, int):
            link.reject()
            self._false_push(feed, at, f"pushed an event of {raw} bytes, which is not read")
            return
        if isinstance(raw, dict) and subscription.knows(raw.get("id")):
            return
        try:
            event = nostr.read_event(raw)
        except MalformedEvent as error:
            link.reject()
            self._false_push(feed, at, f"pushed a false event: {error}")
            return
        if link.meter.over(PUSHED):
            return
        if event.kind == nostr.DELETION_KIND and subscription.on_withdrawn is not None:
            subscription.remember(event.id)
            self._call(subscription.on_withdrawn, event, event, at)
        if event.kind != nostr.ROOM_KIND:
            return
        subscription.remember(event.id)
        if (length := len(event.tag("d") or "")) > LONGEST_ROOM:
            self._false_push(feed, at, f"pushed a nest whose d tag has {length} characters")
            return
        first = not subscription.is_edit(event)
        ping = link.silent_until(feed.eose_at) if feed.eose_at and first else None
        trace = self._call(subscription.trace_of, event, event, at)
        if trace is not None:
            self._pushed_rows(trace, event, ping, at)
        if subscription.on_seen is not None:
            self._call(subscription.on_seen, Seen(event, at), event, at)

    def _call(self, callback: Callable[[T], R], value: T, event: Event, at: int) -> R | None:
        """What a callback gives; one that fails is a `probe_error` row, and the watching goes on."""
        try:
            return callback(value)
        except NestobsError:
            raise
        except Exception as error:
            self._callback_failed(event, at, error)
            return None

    def _pushed_rows(self, trace: Trace, event: Event, ping: Ping | None, at: int) -> None:
        fields = {"operation": Operation.SUBSCRIBE, "connection_reused": True}
        if ping is not None and ping.answered_at is not None:
            silent_at = ping.sent_at - round(PUSH_MARGIN_S * SECOND_NS) - (ping.answered_at - ping.sent_at)
            known = detail(known_by="answered ping, then the event", push_margin_s=PUSH_MARGIN_S, event_id=event.id)
            self.rows.write(
                trace, End(Judgement(Outcome.ABSENT), ping.answered_at), fields, sent_at=silent_at, detail=known
            )
        seen = End(Judgement(Outcome.VISIBLE), at, event=event)
        unread_s = self.rows.vantage.watch.lag_s(at - round(BEAT_S * SECOND_NS))
        came_at = at - round(unread_s * SECOND_NS)
        self.rows.write(trace, seen, fields, sent_at=came_at, detail=detail(**facts_of_event(event)))

    def _false_push(self, feed: Feed, at: int, what: str) -> None:
        """One row per subscription and connection: a relay that lies does so as often as it likes."""
        if not feed.false_event:
            feed.false_event = True
            end = End(false_event(what), at)
            self.rows.write(NO_TRACE, end, {"operation": Operation.SUBSCRIBE}, sent_at=at)

    def _callback_failed(self, event: Event, at: int, error: Exception) -> None:
        end = End(ours("our own callback failed", error), at)
        self.rows.write(
            NO_TRACE, end, {"operation": Operation.SUBSCRIBE}, sent_at=at, detail=detail(**facts_of_event(event))
        )
