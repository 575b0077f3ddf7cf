"""The long-running observer: nests of others, found on relays, asked about gently until stopped.

A nest is followed for three minutes from its event: each relay a few times, and, where its `service` names our API
or names none, info and guest as far as the shared budget goes, at most a quarter of what is left for any one nest. What
only its event names is not dialled, unless the operator insists (strangers.py). With `joins`, one real guest joins
each, where somebody is inside (manners.py). What the relays push is recorded for all. Nothing is made, so nothing is
cleaned. While it runs it says so once a minute (`Vantage.heartbeat`): an hour without nests is not an hour without a
watch.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from nestobs.collector.canary import Progress
from nestobs.collector.manners import POLITE, Care, Manners, is_ours
from nestobs.collector.polling import Ask, Plan, poll
from nestobs.collector.prober import join
from nestobs.collector.station import Station, Target, at_work, greet, recording
from nestobs.collector.strangers import follow_event
from nestobs.join.budget import Budget
from nestobs.join.policy import Policy, Uniform
from nestobs.nostr import Event, Keys, room_filter
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest, read_nest
from nestobs.sources.clock import Clock
from nestobs.sources.relay.pushes import Seen
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store

FOLLOW_S: Final = 180.0
RELAY_POLLS: Final = 8
MOST_POLLS: Final = 16
LEAST_POLLS: Final = 3
REMEMBERED: Final = 10_000
BACKLOG_S: Final = 60
"""Events this old when the watch begins are still followed."""


@dataclass(slots=True)
class Watched:
    """What a watch saw."""

    run_id: str
    nests: int = 0
    followed: int = 0
    unasked: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    rows: int = 0

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "run_id": self.run_id,
            "nests": self.nests,
            "followed_on_api": self.followed,
            "not_asked_for_budget": self.unasked,
            "verdicts": self.verdicts,
            "observations": self.rows,
        }


async def run(
    target: Target,
    *,
    store: Store,
    budget: Budget,
    rng: Uniform,
    progress: Progress,
    for_s: float | None = None,
    joins: Policy | None = None,
    webhook_port: int | None = None,
    keys: Keys | None = None,
    manners: Manners = POLITE,
) -> Watched:
    """Watch until `for_s` seconds have passed, or until cancelled. Rows are safe when this returns.

    keys: for relays that want to know who asks (NIP-42), and for nothing else.
    """
    async with recording(store, [target], budget, keys=keys) as ([station], pen):
        watcher = _Watcher(
            station=station,
            store=store,
            rng=rng,
            progress=progress,
            joins=joins,
            manners=manners,
            watched=Watched(station.vantage.run_id),
        )
        if webhook_port is not None:
            await station.hear_webhooks(watcher.trace_of_room, webhook_port)
        try:
            await pen.during(at_work([station], watcher.work(for_s)))
        except asyncio.CancelledError:
            said = f"interrupted: saw {watcher.watched.nests} nests, wrote {pen.written} observations"
            progress("interrupted", {"said": said})
            raise
        finally:
            watcher.watched.rows = pen.written
        return watcher.watched


@dataclass(slots=True)
class _Watcher:
    station: Station
    store: Store
    rng: Uniform
    progress: Progress
    joins: Policy | None
    manners: Manners
    watched: Watched
    known: OrderedDict[str, Trace] = field(default_factory=OrderedDict)
    arrived: asyncio.Queue[tuple[Trace, Nest]] = field(default_factory=lambda: asyncio.Queue(1_000))

    async def work(self, for_s: float | None) -> None:
        clock = self.station.clock
        await greet(self.station)
        since = clock.now() // SECOND_NS - BACKLOG_S
        for relay in self.station.relays:
            relay.subscribe(room_filter(since=since), self._trace_of, self._seen)
        end = None if for_s is None else clock.now() + round(for_s * SECOND_NS)
        following: set[asyncio.Task[None]] = set()
        try:
            while (left := _left_s(clock, end)) is None or left > 0:
                try:
                    trace, nest = await asyncio.wait_for(self.arrived.get(), left)
                except TimeoutError:
                    break
                task = asyncio.create_task(self._follow(trace, nest))
                following.add(task)
                task.add_done_callback(following.discard)
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    def trace_of_room(self, room: str) -> Trace:
        """The trace of a known nest with this room name, else one with the name alone."""
        return next((trace for trace in self.known.values() if trace.room == room), Trace(room=room))

    def _trace_of(self, event: Event) -> Trace | None:
        try:
            nest = read_nest(event)
        except ValueError:
            return None
        address = str(nest.address)
        if address in self.known:
            return self.known[address]
        trace = Trace(self.station.vantage.new_id(), address, nest.room)
        self.known[address] = trace
        while len(self.known) > REMEMBERED:
            self.known.popitem(last=False)
        self.watched.nests += 1
        if nest.status != "closed" and not self.arrived.full():
            self.arrived.put_nowait((trace, nest))
        return trace

    def _seen(self, found: Seen) -> None:
        self.progress("seen", {"room": found.event.tag("d") or "", "n": self.watched.nests})

    async def _follow(self, trace: Trace, nest: Nest) -> None:
        station, origin = self.station, nest.created_at
        gentle = Plan(RELAY_POLLS, FOLLOW_S, 3)
        asks: list[tuple[tuple[float, ...], Ask]] = [
            (gentle.ages_s(self.rng), partial(relay.query, trace, address=nest.address)) for relay in station.relays
        ]
        polls = self._polls(nest)
        if polls:
            self.watched.followed += 1
            plan = Plan(polls, FOLLOW_S, 3)
            asks.append((plan.ages_s(self.rng), partial(station.api.info, trace)))
            asks.append((plan.ages_s(self.rng), partial(station.api.guest, trace)))
            if station.livekit is not None and station.livekit.lists_rooms:
                asks.append((Plan(30, FOLLOW_S, 3).ages_s(self.rng), partial(station.livekit.rooms, trace)))
        async with asyncio.TaskGroup() as group:
            for ages_s, ask in asks:
                later = [age for age in ages_s if origin + round(age * SECOND_NS) >= station.clock.now()]
                group.create_task(poll(station, trace, origin, later, ask))
            if self.manners.follow_events:
                group.create_task(follow_event(station, trace, nest))
            if polls and self.joins is not None:
                group.create_task(self._join(trace, nest, self.joins))

    def _polls(self, nest: Nest) -> int:
        """Polls of info and of guest this nest gets: a quarter of what is left, none for another API's nests."""
        if not _names(nest.service, self.station.api.url):
            return 0
        share = self.station.api.limiter.left(self.station.clock.now(), bursts=False) // 4 // 2
        if share < LEAST_POLLS:
            self.watched.unasked += 1
            return 0
        return min(MOST_POLLS, share)

    async def _join(self, trace: Trace, nest: Nest, policy: Policy) -> None:
        station = self.station
        await station.clock.until(station.clock.now() + round(self.rng.random() * 20 * SECOND_NS))
        polite = replace(policy, max_requests=min(policy.max_requests, 8))
        care = Care(ours=await asyncio.to_thread(is_ours, self.store, trace.room), manners=self.manners)
        verdict = await join(station, trace, polite, rng=self.rng, nest=nest, media=False, care=care)
        self.watched.verdicts[verdict.kind.value] = self.watched.verdicts.get(verdict.kind.value, 0) + 1
        self.progress("verdict", {"kind": verdict.kind.value, "room": trace.room})


def _left_s(clock: Clock, end: int | None) -> float | None:
    return None if end is None else (end - clock.now()) / SECOND_NS


def _names(service: str, api: str) -> bool:
    """Whether an event's service tag means this API's host, or none. A stranger wrote it: it may be no URL at all."""
    try:
        return urlsplit(service).netloc in ("", urlsplit(api).netloc)
    except ValueError:
        return False
