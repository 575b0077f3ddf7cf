"""The long-running observer: nests of others, found on relays, asked about gently until stopped; or a fleet's own.

A nest is followed for three minutes from its event: each relay a few times, and, where its `service` names our API
or names none, info and guest as far as the shared budget goes, at most a quarter of what is left for any one nest. Only
what may be live costs budget: a nest that is over, planned for later, withdrawn, of another day, or dated ahead of our
clock is seen and counted, not asked about; what its relays hold besides the event that came is looked up first. Nor is
what one relay brings beyond `MOST_FROM_ONE` at a time: a flood of events would be asked of all the others. What
only its event names is not dialled, unless the operator insists (strangers.py). With `joins`, one real guest joins
each, where somebody is inside (manners.py). What the relays push is recorded for all. For a fleet, only the nests of
its host key are followed, as that host itself follows them (fleet/nests.py). How old a nest is goes by the API's clock,
where ours is known to be off. Nothing is made, so nothing is
cleaned. While it runs it says so once a minute (`Vantage.heartbeat`): an hour without nests is not an hour without a
watch.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from nestobs.collector.canary import Progress
from nestobs.collector.fleet import nests as own
from nestobs.collector.fleet.settings import Fleet
from nestobs.collector.manners import POLITE, Care, Manners, is_fleets, is_ours
from nestobs.collector.polling import Ask, Plan, compare_clocks, poll
from nestobs.collector.prober import join
from nestobs.collector.station import Station, Target, at_work, greet, recording
from nestobs.collector.strangers import follow_event
from nestobs.errors import BudgetError, UnreachableError
from nestobs.join.budget import Budget
from nestobs.join.flow import Verdict
from nestobs.join.policy import Policy, Uniform
from nestobs.nostr import Event, Keys, room_filter
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest, State, read_nest, trace_told, withdrawn_at
from nestobs.observation.schema import Operation, Outcome, Source
from nestobs.sources.clock import Clock
from nestobs.sources.relay.pushes import Seen
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store
from nestobs.store.writer import Writer

FOLLOW_S: Final = 180.0
RELAY_POLLS: Final = 8
MOST_POLLS: Final = 16
LEAST_POLLS: Final = 3
ROOM_POLLS: Final = 30
JOIN_REQUESTS: Final = 8
REMEMBERED: Final = 10_000
_SHARE: Final = 4 * 2
"""A nest gets a quarter of what is left, for each of two questions."""

BACKLOG_S: Final = 60
"""Events this old when the watch begins are still followed."""

MOST_FROM_ONE: Final = 100
"""So many nests are followed at a time that one relay was the first to bring."""

LOOK_S: Final = 2.0
"""How long relays may take to show all they have of a nest before it is asked about."""


@dataclass(slots=True)
class Watched:
    """What a watch saw. `not_live`: nests that were not asked about, by why. `silent`: relays of which it is not proved
    that they brought all they have, with why."""

    run_id: str
    relays: int = 0
    nests: int = 0
    followed: int = 0
    unasked: int = 0
    not_live: Counter[str] = field(default_factory=Counter)
    silent: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, int] = field(default_factory=dict)
    rows: int = 0

    def blind(self) -> str:
        """That no relay proved anything at all, in words; "" where one did."""
        if self.nests or not self.relays or len(self.silent) < self.relays:
            return ""
        return f"none of {self.relays} relays gave proof of what it has: whether there were nests is not known"

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "run_id": self.run_id,
            "nests": self.nests,
            "followed_on_api": self.followed,
            "not_asked_for_budget": self.unasked,
            "not_asked_as_not_live": dict(self.not_live),
            "silent_relays": self.silent,
            "verdicts": self.verdicts,
            "observations": self.rows,
        }

    def sentences(self) -> list[str]:
        """For people."""
        said = [f"saw {self.nests} nests, asked the API about {self.followed}; {self.rows} observations"]
        if self.not_live:
            said.append("not asked about: " + ", ".join(f"{n} {why}" for why, n in sorted(self.not_live.items())))
        if self.unasked:
            said.append(f"not asked about, the budget being spent: {self.unasked}")
        return said + [f"{url} gave no proof of what it has not: {why}" for url, why in self.silent.items()]


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
    period_s: float = 0.0,
    writer: Writer | None = None,
    ours: Callable[[str], bool] | None = None,
    patient: bool = False,
    fleet: Fleet | None = None,
) -> Watched:
    """Watch until `for_s` seconds have passed, or until cancelled. Rows are safe when this returns.

    keys: for relays that want to know who asks (NIP-42), and for nothing else. period_s: this watch is one of a
    schedule, and the next begins so much later; 0.0: of none. writer: as of `recording`. ours: whether a room is one
    that this process makes and observes itself, and so none to follow. patient: go on where the API does not answer.
    fleet: follow the nests of its host key alone, as their host does; `joins` is then how its joiners go about it.
    """
    async with recording(store, [target], budget, keys=keys, writer=writer) as ([station], pen):
        watcher = _Watcher(
            station=station,
            store=store,
            rng=rng,
            progress=progress,
            joins=joins,
            manners=manners,
            ours=ours or _nobodys,
            patient=patient,
            fleet=fleet,
            watched=Watched(station.vantage.run_id, len(station.relays)),
        )
        if webhook_port is not None:
            await station.hear_webhooks(watcher.trace_of_room, webhook_port)
        try:
            await pen.during(at_work([station], watcher.work(for_s, period_s)))
        except asyncio.CancelledError:
            said = f"interrupted: saw {watcher.watched.nests} nests, wrote {pen.written} observations"
            progress("interrupted", {"said": said})
            raise
        finally:
            watcher.watched.rows = pen.written
        return watcher.watched


@dataclass(slots=True)
class _Known:
    """A nest that was seen: its newest version, when its author withdrew its address (ns UTC, -1: never), and which
    version by its id."""

    trace: Trace
    nest: Nest
    gone_at: int = -1
    gone_id: str = ""

    def hear(self, deletions: Sequence[Event]) -> None:
        """Verified deletions came, of anybody."""
        self.gone_at = max(self.gone_at, withdrawn_at(self.nest.address, None, deletions) or -1)
        if self.nest.withdrawn_by(deletions):
            self.gone_id = self.nest.event_id

    @property
    def withdrawn(self) -> bool:
        """Whether its newest version is."""
        return self.gone_at >= self.nest.created_at or self.gone_id == self.nest.event_id

    def why_not(self, at: int, most_s: float = FOLLOW_S) -> str:
        """Why it can hold nobody new at `at`, in a word; "" when it may be live. most_s: the age above which it is too
        old to follow."""
        if self.withdrawn:
            return "withdrawn"
        if (state := self.nest.state(at)) is not State.OPEN:
            return "over" if state is State.OVER else "not begun"
        if self.nest.ahead_s(at):
            return "dated ahead (clock skew)"
        return f"older than {most_s:g} s" if self.nest.age_s(at) > most_s else ""


@dataclass(slots=True)
class _Watcher:
    station: Station
    store: Store
    rng: Uniform
    progress: Progress
    joins: Policy | None
    manners: Manners
    ours: Callable[[str], bool]
    patient: bool
    fleet: Fleet | None
    watched: Watched
    known: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    arrived: asyncio.Queue[tuple[_Known, str]] = field(default_factory=asyncio.Queue)
    following: Counter[str] = field(default_factory=Counter)
    asking: bool = True

    async def work(self, for_s: float | None, period_s: float) -> None:
        clock = self.station.clock
        began_at = clock.now()
        try:
            await greet(self.station, again=not self.patient)  # relays are not kept waiting for an API
        except UnreachableError as error:  # that is an observation
            if not self.patient:
                self._ended(began_at, period_s)
                raise
            self.progress("unreachable", {"said": f"{error}; watching all the same"})
        else:
            offset = await compare_clocks(self.station)
            untold = "how far this clock is off the API's is not known yet"
            self.progress("clock", {"said": untold if offset is None else f"this clock is {offset.words}"})
        self._subscribe()
        end = None if for_s is None else clock.now() + round(for_s * SECOND_NS)
        tasks: set[asyncio.Task[None]] = set()
        try:
            while (left := _left_s(clock, end)) is None or left > 0:
                try:
                    known, url = await asyncio.wait_for(self.arrived.get(), left)
                except TimeoutError:
                    break
                task = asyncio.create_task(self._follow(known, url))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            silent = ((relay.url, relay.silence()) for relay in self.station.relays)
            self.watched.silent = {url: why for url, why in silent if why}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._ended(began_at, period_s)

    def _subscribe(self) -> None:
        fleet, now = self.fleet, self._theirs() // SECOND_NS
        wanted = room_filter(since=now - BACKLOG_S)
        if fleet is not None:
            wanted = room_filter(authors=[fleet.host], since=now - own.BACKLOG_S)
            self.progress("watching", {"said": f"{self.station.vantage.name} watches the nests of {fleet.host[:8]}…"})
        for relay in self.station.relays:
            withdrawn = partial(self._withdrawn, relay.url)
            relay.subscribe(wanted, partial(self._trace_of, relay.url), self._seen, withdrawn)

    def _theirs(self) -> int:
        """This instant as the API's clock has it."""
        return self.station.vantage.theirs(self.station.clock.now())

    def _ended(self, began_at: int, period_s: float) -> None:
        if period_s:
            self.station.vantage.burst(began_at, began_at, period_s)

    def trace_of_room(self, room: str) -> Trace:
        """The trace of a known nest with this room name, else one with the name alone."""
        traces = (known.trace for known in self.known.values())
        return next((trace for trace in traces if trace.room == room), Trace(room=room))

    def _trace_of(self, url: str, event: Event) -> Trace | None:
        try:
            nest = read_nest(event)
        except ValueError:
            return None
        if self.ours(nest.room) or (self.fleet is not None and not is_fleets(nest, self.fleet.host)):
            return None
        address = str(nest.address)
        if (known := self.known.get(address)) is not None:
            known.nest = known.nest.renewed(nest)
            return known.trace
        told = "" if self.fleet is None else trace_told(event)
        known = _Known(Trace(told or self.station.vantage.new_id(), address, nest.room), nest)
        self.known[address] = known
        while len(self.known) > REMEMBERED:
            self.known.popitem(last=False)
        self.watched.nests += 1
        if self.following[url] < MOST_FROM_ONE:
            self.following[url] += 1
            self.arrived.put_nowait((known, url))
        else:
            self.watched.not_live[f"too many at once from {url}"] += 1
            self._not_asked(f"{url} brings more than {MOST_FROM_ONE} nests at once")
        return known.trace

    def _withdrawn(self, url: str, deletion: Event) -> None:
        for known in self.known.values():
            if known.nest.address.pubkey == deletion.pubkey and not known.withdrawn:
                known.hear([deletion])
                if known.withdrawn:
                    self._note_withdrawn(known.trace, url, deletion)

    def _note_withdrawn(self, trace: Trace, url: str, deletion: Event) -> None:
        """A row of no layer: what is absent after it may have come and gone (timeline/intervals/proofs.py)."""
        now = self.station.clock.now()
        self.station.vantage.record(
            trace,
            source=Source.RELAY,
            target=url,
            operation=Operation.RECEIVE,
            sent_at=now,
            received_at=now,
            outcome=Outcome.ACCEPTED,
            remote_at=deletion.created_at * SECOND_NS if 0 <= deletion.created_at < 2**33 else None,
            remote_grain_s=1.0,
            detail=detail(withdrawn=True, event_id=deletion.id),
        )

    def _seen(self, found: Seen) -> None:
        self.progress("seen", {"room": found.event.tag("d") or "", "n": self.watched.nests})

    async def _follow(self, known: _Known, url: str) -> None:
        try:
            if why := await self._why_not_live(known):
                self.watched.not_live[why] += 1
            elif self.fleet is not None:
                await self._ask_own(known, self.fleet)
            else:
                await self._ask(known)
        finally:
            self.following[url] -= 1

    async def _ask(self, known: _Known) -> None:
        station, trace, nest = self.station, known.trace, known.nest
        origin, gentle = station.vantage.ours(nest.created_at), Plan(RELAY_POLLS, FOLLOW_S, 3)
        asks: list[tuple[tuple[float, ...], Ask]] = [
            (gentle.ages_s(self.rng), partial(relay.query, trace, address=nest.address)) for relay in station.relays
        ]
        polls = self._polls(nest)
        if polls:
            self.watched.followed += 1
            plan = Plan(polls, FOLLOW_S, 3)
            requests: tuple[Ask, ...] = (partial(station.api.info, trace), partial(station.api.guest, trace))
            asks += [(plan.ages_s(self.rng), partial(self._while_live, known, request)) for request in requests]
            if station.livekit is not None and station.livekit.lists_rooms:
                asks.append((Plan(ROOM_POLLS, FOLLOW_S, 3).ages_s(self.rng), partial(station.livekit.rooms, trace)))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll(known, origin, asks))
            if self.manners.follow_events:
                group.create_task(follow_event(station, trace, nest))
            if polls and self.joins is not None:
                group.create_task(self._join(trace, nest, self.joins))

    async def _ask_own(self, known: _Known, fleet: Fleet) -> None:
        """Ask about a nest of the fleet's as its host does, and join it."""
        station, trace = self.station, known.trace
        origin, plan, joins = own.origin(station, known.nest), self._plan_own(fleet), self.joins
        async with asyncio.TaskGroup() as group:
            asked = own.asks(fleet, station, trace, known.nest, plan, rng=self.rng)
            asks = [(ages_s, partial(self._while_live, known, ask)) for ages_s, ask in asked]
            group.create_task(self._poll(known, origin, asks))
            if joins is None or not plan.polls:
                return
            for age_s, keys in own.arrivals(fleet, self.rng):
                policy, at = own.fitted(joins, plan, age_s), origin + round(age_s * SECOND_NS)
                group.create_task(self._join_own(known, policy, keys, at))

    def _plan_own(self, fleet: Fleet) -> Plan:
        """What a nest of the fleet's gets; no polls where the budget is spent."""
        limiter, now = self.station.api.limiter, self.station.clock.now()
        try:
            plan = own.plan(fleet, limiter.left(now, bursts=False))
        except BudgetError as error:
            self.watched.unasked += 1
            self._not_asked(str(error))
            return Plan(0, fleet.horizon_s, 0)
        self.asking, self.watched.followed = True, self.watched.followed + 1
        return plan

    async def _join_own(self, known: _Known, policy: Policy, keys: Keys | None, at: int) -> None:
        await self.station.clock.until(at)
        if known.withdrawn or known.nest.state(self._theirs()) is not State.OPEN:
            return
        care = Care(ours=True, manners=self.manners)
        verdict = await join(
            self.station, known.trace, policy, rng=self.rng, nest=known.nest, keys=keys, media=False, care=care
        )
        self._told(verdict, known.trace)

    async def _poll(self, known: _Known, origin: int, asks: Iterable[tuple[Sequence[float], Ask]]) -> None:
        """Poll at those of these ages that are still to come."""
        now = self.station.clock.now()
        later = [([age for age in ages_s if origin + round(age * SECOND_NS) >= now], ask) for ages_s, ask in asks]
        await poll(self.station, known.trace, origin, later)

    async def _why_not_live(self, known: _Known) -> str:
        """Why it is not asked about: by the event that came; else by all that the relays have of it."""
        nest = known.nest
        if self.fleet is not None:  # the host's clock is one of the fleet's, and may be off
            return known.why_not(max(self._theirs(), nest.created_at), own.BACKLOG_S)
        if why := known.why_not(self._theirs()):
            return why
        if not _names(nest.service, self.station.api.url):
            return ""
        look = (relay.look(known.trace, address=nest.address, timeout_s=LOOK_S) for relay in self.station.relays)
        for looked in await asyncio.gather(*look):
            for event in looked.events:
                known.nest = known.nest.renewed(read_nest(event))
            known.hear(looked.deletions)
        return known.why_not(self._theirs())

    async def _while_live(self, known: _Known, ask: Ask, *, planned_at: int) -> object:
        """Ask, unless the nest was closed or withdrawn meanwhile; what came of it."""
        if known.withdrawn or known.nest.state(self.station.vantage.theirs(planned_at)) is not State.OPEN:
            return None
        return await ask(planned_at=planned_at)

    def _polls(self, nest: Nest) -> int:
        """Polls of info and of guest this nest gets: a quarter of what is left, none for another API's nests."""
        if not _names(nest.service, self.station.api.url):
            return 0
        limiter, now = self.station.api.limiter, self.station.clock.now()
        polls = polls_paid(limiter.left(now, bursts=False))
        if polls:
            self.asking = True
        else:
            self.watched.unasked += 1
            self._not_asked(limiter.why_shut(now, LEAST_POLLS * _SHARE))
        return polls

    def _not_asked(self, why: str) -> None:
        """Say once that nests are seen and not asked about, until one is again."""
        if self.asking:
            self.asking = False
            self.progress("unasked", {"said": f"{why}: nests are seen, and not asked about until there is room again"})

    async def _join(self, trace: Trace, nest: Nest, policy: Policy) -> None:
        station = self.station
        await station.clock.until(station.clock.now() + round(self.rng.random() * 20 * SECOND_NS))
        polite = replace(policy, max_requests=min(policy.max_requests, JOIN_REQUESTS))
        care = Care(ours=await asyncio.to_thread(is_ours, self.store, trace.room), manners=self.manners)
        self._told(await join(station, trace, polite, rng=self.rng, nest=nest, media=False, care=care), trace)

    def _told(self, verdict: Verdict, trace: Trace) -> None:
        self.watched.verdicts[verdict.kind.value] = self.watched.verdicts.get(verdict.kind.value, 0) + 1
        self.progress("verdict", {"kind": verdict.kind.value, "room": trace.room})


def polls_paid(left: int) -> int:
    """Polls of info, and as many of guest, that one nest gets of so many requests that are left; 0 of too few."""
    share = left // _SHARE
    return min(MOST_POLLS, share) if share >= LEAST_POLLS else 0


def _nobodys(_: str) -> bool:
    return False


def _left_s(clock: Clock, end: int | None) -> float | None:
    return None if end is None else (end - clock.now()) / SECOND_NS


def _names(service: str, api: str) -> bool:
    """Whether an event's service tag means this API's host, or none. A stranger wrote it: it may be no URL at all."""
    try:
        return urlsplit(service).netloc in ("", urlsplit(api).netloc)
    except ValueError:
        return False
