"""The host role: make nests, watch every layer from the first instant, join as people would, and clean up.

For each nest, at its own absolute start: the ledger notes the intent; PUT makes the room; the event is published to
every write relay at once; from then each vantage asks every layer at ages of a randomly phased plan, well past 30 s,
while joiners arrive, authenticated and as guests. The host stays in the room by a signalling connection, as hosts do,
because an empty room closes by itself. At the end, or when interrupted, everything made is deleted.

Whatever an earlier run left is cleaned first. Vantages in other processes (fleet/vantages.py) watch before the first
nest is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, Final

from nestobs.collector.campaign import Campaign, Report
from nestobs.collector.fleet.vantages import Placed
from nestobs.collector.fleet.vantages import beside as vantages
from nestobs.collector.keyring import Keyring
from nestobs.collector.lookup import load
from nestobs.collector.lookup.inquiry import Heard, explained
from nestobs.collector.loop.pace import Pace
from nestobs.collector.manners import Care
from nestobs.collector.polling import CLIENT_LOADS, LEAST_POLLS, Ask, Plan, arrival_age_s, fit, poll
from nestobs.collector.prober import join
from nestobs.collector.restart import restart
from nestobs.collector.station import Station, Target, at_work, greet, recording
from nestobs.collector.undo import cleanup
from nestobs.collector.undo.deeds import STAYS, Deeds, Made, hear_out, of_run
from nestobs.collector.undo.withdrawal import is_over
from nestobs.errors import UnreachableError
from nestobs.join.budget import Budget
from nestobs.join.policy import Policy, Uniform
from nestobs.nostr import ROOM_KIND, Address, Event, Keys, room_filter
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest, read_nest, room_tags
from nestobs.observation.schema import Outcome, Role
from nestobs.sources.api import Answer
from nestobs.sources.livekit import LiveKit
from nestobs.sources.relay import Relay
from nestobs.sources.relay.pushes import Seen
from nestobs.sources.vantage import Trace
from nestobs.sources.visit import Session
from nestobs.store.ledger import Entry
from nestobs.store.reader import Store
from nestobs.store.writer import Writer

__all__ = ["Campaign", "Progress", "Report", "run", "silent"]

CLEAN_S, INTERRUPTED_S = 15.0, 2.4
"""How long deleting one nest and looking whether it is gone may take, at the end and when interrupted; then it stays in
the ledger."""

ALONE_S: Final = 120.0
"""How long vantages in other processes go on, at most, after all should have ended."""

SIGNAL_POLLS, RESTART_JOINS = 24, 2


Progress = Callable[[str, dict[str, Any]], None]


def silent(_: str, __: dict[str, Any]) -> None:
    """Progress that nobody hears."""


async def run(
    targets: Sequence[Target],
    campaign: Campaign,
    *,
    store: Store,
    keyring: Keyring,
    budget: Budget,
    rng: Uniform,
    progress: Progress = silent,
    run_id: str = "",
    writer: Writer | None = None,
    pace: Pace | None = None,
    beside: Sequence[Placed] = (),
) -> Report:
    """Run a campaign; the first target is the host's, each target a vantage. Returns when all is deleted.

    A nest begins when it is due, or later where the machine cannot carry as many at a time. pace: one of its own unless
    given; campaigns that run beside each other share one, and may share a writer. beside: vantages in other
    processes, which observe these nests as planned, and join them by the first policy.

    Rows are safe when this returns. Raises UnreachableError when the API does not answer at all, BudgetError when the
    budget is too small, StoreError when the store stops (what was made is deleted first).
    """
    heard = Heard() if campaign.investigate else None
    async with recording(store, targets, budget, run_id=run_id, writer=writer, heard=heard) as (stations, pen):
        crew = _Crew(
            stations=stations,
            campaign=campaign,
            writer=pen.writer,
            rng=rng,
            progress=progress,
            report=Report(stations[0].vantage.run_id),
            pace=pace or Pace(),
            heard=heard,
            beside=beside,
        )
        return await pen.during(at_work(stations, crew.work(store, keyring)))


def _plan(stations: Sequence[Station], campaign: Campaign, others: int) -> Plan:
    """What each nest gets. others: vantages of other processes that spend the same budget."""
    left = stations[0].api.limiter.left(stations[0].clock.now(), bursts=False)
    at_restart = 2 * RESTART_JOINS if campaign.restart else 0
    return fit(
        left - campaign.count * campaign.restart,
        campaign.count,
        vantages=len(stations) + others,
        joins=(campaign.joins + at_restart) * len(campaign.policies),
        horizon_s=campaign.horizon_s,
        wanted=campaign.wanted_polls,
    )


@dataclass(slots=True)
class _Crew:
    """Everything the tasks of one campaign share. `plan`, `keys` and `deeds` are set when the work begins."""

    stations: list[Station]
    campaign: Campaign
    writer: Writer
    rng: Uniform
    progress: Progress
    report: Report
    pace: Pace
    heard: Heard | None
    beside: Sequence[Placed]
    plan: Plan = field(init=False)
    keys: Keys = field(init=False)
    deeds: Deeds = field(init=False)
    traces: dict[str, Trace] = field(default_factory=dict)
    undoing: set[asyncio.Task[None]] = field(default_factory=set)
    restarting: set[str] = field(default_factory=set)
    seen: dict[tuple[str, str], Nest] = field(default_factory=dict)
    holders: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    seats: dict[str, Session] = field(default_factory=dict)

    async def work(self, store: Store, keyring: Keyring) -> Report:
        """Greet, clean what was left before, plan, perform, and say what is left now."""
        report = self.report
        began_at = self.stations[0].clock.now()
        try:
            for station in self.stations:
                await greet(station)
        except UnreachableError:  # that is an observation
            self._ended(began_at)
            raise
        if keyring.operator is not None:
            self._identify(keyring.operator)
        before = [entry for entry in store.ledger() if entry.api == self.stations[0].api.url]
        await self._clean(store, keyring, before)
        earlier = {entry.run_id for entry in store.ledger()}
        if self.campaign.count < 1:
            report.left = report.earlier.left
            return report
        self.plan = _plan(self.stations, self.campaign, sum(each.shares for each in self.beside))
        report.plan = self.plan.resolution()
        self.progress("plan", {"said": report.plan})
        whose = {"api": self.stations[0].api.url, "store": str(store.directory)}
        self.keys, key_ref = keyring.host(report.run_id, **whose)
        with keyring.held(key_ref):
            await self._made_and_settled(store, keyring, key_ref)
        if report.earlier.unsettled:  # it may be known by now
            await self._clean(store, keyring, [entry for entry in store.ledger() if entry.run_id in earlier])
        self._ended(began_at)
        return report

    def _ended(self, began_at: int) -> None:
        """Say what the run stands for, where it is one of a schedule."""
        planned_at, period_s, stands = self.campaign.planned_at, self.campaign.period_s, self.campaign.stands
        for station in self.stations if period_s else ():
            station.vantage.burst(began_at, began_at if planned_at is None else planned_at, period_s, stands=stands)

    async def _clean(self, store: Store, keyring: Keyring, before: Sequence[Entry]) -> None:
        """Undo what earlier runs left: by these entries of the ledger, and by keys that no ledger names. Where nothing
        else is to be done, what is not proven is asked again."""
        host, report = self.stations[0], self.report
        files = cleanup.strays(host, keyring, store)
        if not before and not files:
            return
        self.progress("cleaning", {"entries": len(before)})
        if self.campaign.count < 1:
            cleaned = await cleanup.settle(host, self.writer, keyring, store)
        else:
            cleaned = await cleanup.clean_up(host, self.writer, keyring, store, before)
        cleaned.add(await cleanup.clean_strays(host, self.writer, keyring, store, files))
        report.earlier.again(cleaned)
        self.progress("cleaned", {"said": cleaned.sentence()})

    async def _made_and_settled(self, store: Store, keyring: Keyring, key_ref: str) -> None:
        host, report = self.stations[0], self.report
        self._identify(self.keys)
        self.deeds = Deeds(host, self.writer, key_ref)
        interrupted = False
        try:
            async with AsyncExitStack() as stack:
                if self.beside:
                    at_work = vantages(self.beside, self._words_beside(), self.progress)
                    report.vantages = await stack.enter_async_context(at_work)
                await self.perform()
            if count := len(of_run(store, report.run_id)):
                self.progress("settling", {"said": f"looking up {count} rooms and events that no answer settled"})
            settled = await cleanup.settle(host, self.writer, keyring, store, report.run_id, traces=self.traces)
            report.left = settled.left
        except asyncio.CancelledError:
            interrupted = True
            raise
        finally:
            if self.undoing:  # interrupted when it was at it
                await asyncio.wait(self.undoing, timeout=INTERRUPTED_S)
            await asyncio.gather(*self.deeds.entering, return_exceptions=True)  # an entry on its way keeps the key
            mine = of_run(store, report.run_id)
            if not mine:
                keyring.forget(key_ref)
            if interrupted and self.writer.failed is None:
                left = f"{len(mine)} rooms and events {STAYS}" if mine else "nothing left"
                said = f"interrupted: made {report.made} nests, deleted {report.deleted}, {left}"
                self.progress("interrupted", {"said": said})

    def _words_beside(self) -> list[str]:
        """What vantages in other processes are told. Where nobody ends them they end by themselves."""
        campaign, plan = self.campaign, self.plan
        most_s = 2 * (campaign.count * campaign.stagger_s + campaign.horizon_s) + ALONE_S
        words = ["--host", self.keys.public, "--join", "both", "--policy", campaign.policies[0].name]
        words += ["--polls", str(max(LEAST_POLLS, plan.polls)), "--horizon", f"{plan.horizon_s:g}s"]
        return [*words, "--for", f"{most_s:g}s"]

    def _identify(self, keys: Keys) -> None:
        """Every relay that wants to know who asks (NIP-42) is told the host's key."""
        for relay in (relay for station in self.stations for relay in station.relays):
            relay.identify(keys)

    async def perform(self) -> None:
        if (port := self.campaign.webhook_port) is not None:
            url = await self.stations[0].hear_webhooks(lambda room: self.traces.get(room, Trace(room=room)), port)
            self.progress("webhooks", {"said": f"LiveKit may send its webhooks to {url}"})
        for station in self.stations:
            for number, relay in enumerate(station.relays):
                self._subscribe(station, relay, selected=number == 0)
        await asyncio.gather(*(relay.ready(3.0) for station in self.stations for relay in station.relays))
        if self.campaign.media and (livekit := self.stations[0].livekit) is not None:
            await livekit.expect_media()
        clock = self.stations[0].clock
        start = clock.now()
        async with asyncio.TaskGroup() as group:
            for number in range(self.campaign.count):
                due = start + round(number * self.campaign.stagger_s * SECOND_NS)
                group.create_task(self._begin(due, number), name=f"nest-{number}")

    def _subscribe(self, station: Station, relay: Relay, *, selected: bool) -> None:
        def trace_of(event: Event) -> Trace | None:
            ended = is_over(event, station.clock.now())  # by our own hand: it says nothing of the layer
            return None if ended else self.traces.get(event.tag("d") or "")

        def seen(found: Seen) -> None:
            nest = read_nest(found.event)
            where = (station.vantage.name, nest.room)
            self.holders.setdefault(where, set()).add(relay.url)
            if selected:
                self.seen[where] = self.seen[where].renewed(nest) if where in self.seen else nest

        relay.subscribe(room_filter(authors=[self.keys.public], since=None), trace_of, seen)

    # one nest

    async def _begin(self, due: int, number: int) -> None:
        """One nest, as soon as it is due and the machine can carry it."""
        vantage = self.stations[0].vantage
        await vantage.clock.until(due)
        async with self.pace.place(vantage):
            await self._nest(number)

    async def _nest(self, number: int) -> None:
        host = self.stations[0]
        trace = Trace(trace_id=host.vantage.new_id())
        entry = await self.deeds.enter("room", trace)
        asking = host.api.create(trace, self.keys, self._write_relays(), role=Role.HOST)
        creating = asyncio.create_task(asking)
        try:
            answer = await asyncio.shield(creating)
        except asyncio.CancelledError:
            if room := await hear_out(creating):
                named = replace(trace, room=room, nest=self._address(room))
                await self._undo(named, Made(entry), INTERRUPTED_S)
            raise
        room = answer.room
        if not room:
            await self._not_made(answer, entry)
            return
        trace = replace(trace, room=room, nest=self._address(room))
        made = Made(entry)
        try:
            await self.deeds.update(entry, room=room, nest=trace.nest)
            self.report.made += 1
            self.report.rooms.append(room)
            self.progress("created", {"room": room, "n": self.report.made})
            await self._live(trace, answer, number, made)
        finally:
            task = asyncio.current_task()
            patience_s = INTERRUPTED_S if task is not None and task.cancelling() else CLEAN_S
            undoing = asyncio.create_task(self._undo(trace, made, patience_s))
            self.undoing.add(undoing)
            undoing.add_done_callback(self.undoing.discard)
            await asyncio.shield(undoing)
            if self.heard is not None:
                self.heard.forget(trace)
            for station in self.stations:
                self.seen.pop((station.vantage.name, room), None)
                self.holders.pop((station.vantage.name, room), None)

    def _address(self, room: str) -> str:
        return str(Address(ROOM_KIND, self.keys.public, room))

    async def _not_made(self, answer: Answer, entry: int) -> None:
        self.report.refused += 1
        self.report.refusals[answer.row.reason or "the answer names no room"] += 1
        await self.deeds.not_made(entry, answer.row)
        self.progress("refused", {"reason": answer.row.reason})

    async def _live(self, trace: Trace, answer: Answer, number: int, made: Made) -> None:
        """From the PUT's answer to the horizon: publish, watch, join. What is made goes into `made`."""
        body = answer.body or {}
        self.traces[trace.room] = trace
        event, relays = self._event(trace, answer, number), list(self.stations[0].relays)
        entry = await self.deeds.enter("event", trace)
        made.event, made.entry, made.relays = event, entry, relays
        livekits = [await station.livekit_of(answer.streaming) for station in self.stations]
        async with asyncio.TaskGroup() as group:
            for relay in self.stations[0].relays:
                group.create_task(self._publish(relay, trace, event, made))
            self._observe(group, trace, answer.row.sent_at, livekits)
            if (token := str(body.get("token") or "")) and livekits[0] is not None:
                group.create_task(self._host_stays(livekits[0], trace, answer.row.sent_at, token))
            if self.campaign.restart:
                group.create_task(self._restart(group, trace, answer.row.sent_at, livekits))
        if self.heard is not None:
            for station in self.stations:
                await explained(station, trace, self.heard.of(trace), investigate=True)

    async def _restart(
        self, group: asyncio.TaskGroup, trace: Trace, origin: int, livekits: Sequence[LiveKit | None]
    ) -> None:
        """Restart the nest in the middle of its watch; some come meanwhile, and some when it is done."""
        clock, joins = self.stations[0].clock, self.campaign.joins
        await clock.until(origin + round(self.plan.horizon_s / 2 * SECOND_NS))
        self.restarting.add(trace.room)
        doing = group.create_task(restart(self.stations[0], livekits[0], trace, self.keys))
        doing.add_done_callback(lambda _: self.restarting.discard(trace.room))
        for first in (joins, joins + RESTART_JOINS):
            age_s = (clock.now() - origin) / SECOND_NS
            for station, livekit in zip(self.stations, livekits, strict=True):
                for number, policy in product(range(first, first + RESTART_JOINS), self.campaign.policies):
                    at = origin, age_s, number
                    group.create_task(self._join(station, livekit, trace, policy, at=at))
            await asyncio.wait({doing})
        self.report.restarts.append(doing.result())

    async def _publish(self, relay: Relay, trace: Trace, event: Event, made: Made) -> None:
        """Publish an event; a relay that cannot have it, since it was never sent or is refused, is struck out."""
        row = await relay.publish(trace, event)
        if made.entry is not None and (row.outcome is Outcome.REFUSED or row.connection_reused is None):
            made.relays.remove(relay)
            await self.deeds.update(made.entry, relays=[each.url for each in made.relays])

    def _write_relays(self) -> tuple[str, ...]:
        return tuple(relay.url for relay in self.stations[0].relays)[:10]

    def _event(self, trace: Trace, answer: Answer, number: int) -> Event:
        host = self.stations[0]
        tags = room_tags(
            room=answer.room,
            name=f"nestobs canary {number + 1}",
            host=self.keys.public,
            service=self.campaign.service or host.target.api,
            streaming=answer.streaming,
            relays=self._write_relays(),
            trace_id=trace.trace_id,
        )
        return self.keys.sign(ROOM_KIND, created_at=host.clock.now() // SECOND_NS, tags=tags)

    async def _undo(self, trace: Trace, made: Made, patience_s: float) -> None:
        left = await self.deeds.undo(trace, self.keys, made, patience_s)
        if left is None:
            self.report.deleted += 1
            self.traces.pop(trace.room, None)
        self.progress("deleted", {"room": trace.room, "left": "" if left is None else left.why})

    # observers and joiners

    def _observe(self, group: asyncio.TaskGroup, trace: Trace, origin: int, livekits: Sequence[LiveKit | None]) -> None:
        address = Address(ROOM_KIND, self.keys.public, trace.room)
        rooms = self.campaign.room_polls
        room_polls = self.campaign.wanted_polls if rooms is None else rooms
        for station, livekit in zip(self.stations, livekits, strict=True):
            watcher, api = Keys.generate(), station.api
            asks: list[tuple[int | None, Ask]] = [
                (None, partial(api.info, trace)),
                (None, partial(api.guest, trace)),
                (None, partial(api.join, trace, watcher)),
                (CLIENT_LOADS, partial(load, station, trace, address)),
            ]
            for relay in station.relays:
                asks.append((self.campaign.relay_polls, partial(relay.query, trace, address=address)))
            if livekit is not None and livekit.lists_rooms:
                asks.append((room_polls, partial(livekit.rooms, trace)))
            aged = [(self.plan.ages_s(self.rng, polls), ask) for polls, ask in asks]
            group.create_task(poll(station, trace, origin, aged))
            for number in range(self.campaign.joins):
                at = origin, self._arrival_s(), number
                for policy in self.campaign.policies:
                    group.create_task(self._join(station, livekit, trace, policy, at=at))

    def _arrival_s(self) -> float:
        """An age at which somebody comes; log-uniform by itself, so that both sides of 30 s are asked about."""
        ages = self.campaign.arrivals
        if ages is not None:
            return ages[int(self.rng.random() * len(ages))]
        return arrival_age_s(self.plan.horizon_s, self.rng)

    def _fitted(self, policy: Policy, age_s: float) -> Policy:
        """The policy as somebody who comes at this age runs it."""
        if self.campaign.as_written:
            return policy
        left_s = max(0.0, self.plan.horizon_s - age_s)
        return replace(policy, max_requests=self.plan.join_requests, horizon_s=min(policy.horizon_s, left_s))

    async def _join(
        self, station: Station, livekit: LiveKit | None, trace: Trace, policy: Policy, *, at: tuple[int, float, int]
    ) -> None:
        """One joiner. at: the nest's origin, the age at which the joiner comes, the number of the arrival, from 0."""
        origin, age_s, number = at
        await station.clock.until(origin + round(age_s * SECOND_NS))
        where = (station.vantage.name, trace.room)
        verdict = await join(
            station,
            trace,
            self._fitted(policy, age_s),
            rng=self.rng,
            nest=self.seen.get(where),
            relays=tuple(sorted(self.holders.get(where, ()))),
            address=Address(ROOM_KIND, self.keys.public, trace.room),
            keys=Keys.generate() if number % 2 == 0 else None,
            media=number < self.campaign.media and station is self.stations[0],
            livekit=livekit,
            care=Care(ours=True),
            seat=lambda: trace.room in self.seats and not self.seats[trace.room].dropped.is_set(),
            own_clock=True,  # as the event is dated
        )
        self.report.verdicts[verdict.kind.value] += 1
        self.report.joined += verdict.joined
        self.progress("verdict", {"kind": verdict.kind.value, "vantage": station.vantage.name, "room": trace.room})

    async def _host_stays(self, livekit: LiveKit, trace: Trace, origin: int, token: str) -> None:
        """The host's own connection: asked until it stands, then held until the end, again when it is lost."""
        host = self.stations[0]
        session: Session | None = None
        end = origin + round(self.plan.horizon_s * SECOND_NS)
        try:
            for age_s in self.plan.ages_s(self.rng, SIGNAL_POLLS):
                due = origin + round(age_s * SECOND_NS)
                await host.clock.until(due)
                if (session is None or session.dropped.is_set()) and trace.room not in self.restarting:
                    _, session = await livekit.signal(trace, token, role=Role.HOST, planned_at=due)
                    self.seats |= {} if session is None else {trace.room: session}
            await host.clock.until(end)
        finally:
            self.seats.pop(trace.room, None)
            if session is not None:
                await asyncio.shield(session.close())
