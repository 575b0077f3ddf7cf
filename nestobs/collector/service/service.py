"""`nestobs run`: watch, canaries, sealing, reports, retention and health in one process, until it is told to end.

    lock of the store ── health ──┬── reports, at their hours: child processes
                                  └── a writer ──┬── watch
                                      again,     ├── canaries, on their grid
                                      when it    └── days that are over: sealed, and those too old removed
                                      was full

What cannot be reached is observed as such and ends nothing. A disk without room ends what needs the writer, which
cleans up what it made in the world; the service says so, looks every FULL_S whether there is room, and goes on. All
else that the store cannot do is raised. What a killed service left is cleaned at the next start, by the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from nestobs.collector import watch
from nestobs.collector.canary import Progress
from nestobs.collector.keyring import Keyring
from nestobs.collector.service.bursts import Bursts
from nestobs.collector.service.children import RETRY_S, Children, days_ago, midnight_after
from nestobs.collector.service.health import Metrics, answering
from nestobs.collector.service.hours import Hours
from nestobs.collector.service.memory import Notebook
from nestobs.collector.service.settings import Settings
from nestobs.collector.service.state import State
from nestobs.collector.station import Target
from nestobs.errors import StoreError, StoreFullError, mistake_in
from nestobs.join.budget import Budget
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Operation, Outcome, Source
from nestobs.observation.window import DAY_S
from nestobs.sources.clock import Clock, LoopWatch, uuid7
from nestobs.sources.vantage import NO_TRACE, Vantage
from nestobs.store.inventory import contents
from nestobs.store.reader import Store
from nestobs.store.sink import Pen
from nestobs.store.writer import Writer, take_lock

FULL_S: Final = 5.0
LEAST_ROOM: Final = 1_000_000
"""Bytes without which it is not tried to write again."""

_LOCK: Final = "service.lock"
_REMEMBERED: Final = 10_000


async def run(
    target: Target,
    settings: Settings,
    *,
    store: Store,
    keyring: Keyring,
    budget: Budget,
    environment: Mapping[str, str],
    buckets: Mapping[str, str],
    progress: Progress,
    metrics: Metrics | None = None,
    hours: Hours | None = None,
) -> None:
    """Observe and report by these settings until cancelled. environment: of reports, so without secrets; buckets: what
    shipping needs besides.

    Raises StoreError where another service has this store, or it cannot be used for another reason than want of room;
    UsageError where `settings.listen` cannot be had.
    """
    lock = take_lock(store.directory, _LOCK, "is the service of the store in")
    clock = Clock()
    loop = LoopWatch(clock, lambda _: None)
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(loop.running())
            state = State(
                clock=clock,
                folder=store.directory,
                target=target.name,
                limiter=budget.of(target.api),
                loop=loop,
                began_at=clock.now(),
                watching=settings.watch,
            )
            if settings.listen is not None:
                url = await stack.enter_async_context(answering(settings.listen, state, metrics))
                progress("service", {"said": f"its health is told at {url}/health"})
            service = _Service(
                target=target,
                settings=settings,
                store=store,
                keyring=keyring,
                budget=budget,
                environment=environment,
                buckets=buckets,
                progress=progress,
                state=state,
                hours=hours or Hours(clock),
                notebook=Notebook(store.directory),
            )
            await service.work()
    except BaseExceptionGroup as group:
        raise mistake_in(group) or group from None
    finally:
        os.close(lock)


@dataclass(slots=True, kw_only=True)
class _Service:
    target: Target
    settings: Settings
    store: Store
    keyring: Keyring
    budget: Budget
    environment: Mapping[str, str]
    buckets: Mapping[str, str]
    progress: Progress
    state: State
    hours: Hours
    notebook: Notebook
    rng: random.Random = field(default_factory=random.Random)
    rooms: OrderedDict[str, None] = field(default_factory=OrderedDict)

    async def work(self) -> None:
        if self.notebook.memory.first_at is None:
            oldest, now = contents(self.store).first_at, self.hours.now()
            first = now if self.hours.rate != 1 or oldest is None else min(now, oldest)
            with contextlib.suppress(StoreFullError):
                self.notebook.note(first_at=first)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._observing(), name="observing")
            group.create_task(self._reporting(), name="reporting")

    # what needs the writer

    async def _observing(self) -> None:
        """Observe, and again whenever there is room again."""
        while True:
            try:
                async with self.store.writer() as writer:
                    await self._written(writer)
            except* StoreFullError as full:
                self._full(mistake_in(full))
            finally:
                self.state.writer = None
            await self._room()

    async def _written(self, writer: Writer) -> None:
        clock, pen = self.state.clock, Pen(writer)
        now = clock.now()
        Vantage(self.target.vantage, uuid7(now), pen, clock).record(
            NO_TRACE,
            sent_at=now,
            source=Source.CLOCK,
            target="clock:",
            operation=Operation.HEALTH,
            outcome=Outcome.ACCEPTED,
        )
        if not await pen.committed() and pen.failed is not None:
            raise pen.failed
        self._begun()
        for entry in await asyncio.to_thread(self.store.ledger):  # of one that was killed: they are still open
            self._own(entry.room)
        self.state.writer = writer
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keeping(writer), name="keeping")
            if self.settings.watch:
                group.create_task(self._watching(writer), name="watching")
            if self.settings.canaries is not None:
                group.create_task(self._bursts(self.settings.canaries).run(self.store, writer), name="canaries")

    def _begun(self) -> None:
        if self.state.full:
            self.state.full = ""
            self._tell("there is room again: it goes on")

    async def _watching(self, writer: Writer) -> None:
        await watch.run(
            self.target,
            store=self.store,
            budget=self.budget,
            rng=self.rng,
            progress=self._heard,
            keys=self.keyring.operator,
            writer=writer,
            ours=self.rooms.__contains__,
            patient=True,
            fleet=self.settings.fleet,
            joins=self.settings.joins,
        )

    def _bursts(self, wanted: Any) -> Bursts:
        return Bursts(
            target=self.target,
            wanted=wanted,
            stands=not self.settings.watch,
            keyring=self.keyring,
            budget=self.budget,
            rng=self.rng,
            hours=self.hours,
            notebook=self.notebook,
            state=self.state,
            progress=self._heard,
        )

    def _heard(self, what: str, facts: dict[str, Any]) -> None:
        """Progress of a part. A room is known to be ours before its event is published."""
        if what == "created":
            self._own(str(facts["room"]))
        self.progress(what, facts)

    def _own(self, room: str) -> None:
        self.rooms[room] = None
        while len(self.rooms) > _REMEMBERED:
            self.rooms.popitem(last=False)

    async def _keeping(self, writer: Writer) -> None:
        """Seal the days that are over, ship what is sealed, and remove what is too old: at once, and after each
        midnight. While not all is shipped nothing is removed, and shipping is tried again."""
        while True:
            now, shipped = self.state.clock.now(), False
            try:
                await asyncio.to_thread(writer.seal_beside, days_ago(now, 600.0))
                shipped = not self.settings.ship or await self._children(self.buckets).ship(self.settings.ship)
                if (kept_s := self.settings.keep.store_s) is not None and shipped:
                    gone = await asyncio.to_thread(writer.forget, days_ago(now, kept_s))
                    if gone:
                        self._tell(f"{len(gone)} sealed files went, older than they are to be kept")
                self.state.sealing_lacking = ""
            except StoreFullError:
                raise
            except StoreError as error:  # the rows stay in the journal
                self.state.sealing_lacking = f"days that are over are not sealed: {error}"
                self._tell(self.state.sealing_lacking)
            again = self.hours.now() + RETRY_S * SECOND_NS
            following = midnight_after(self.hours.now())
            await self.hours.until(following if shipped else min(following, again))

    def _full(self, error: BaseException | None) -> None:
        """Say once that there is no room."""
        if not self.state.full:
            self.state.full = f"{error}"
            self._tell(f"{error}; it waits for room")

    async def _room(self) -> None:
        clock, due = self.state.clock, self.state.clock.now()
        while True:
            due += round(FULL_S * SECOND_NS)
            await clock.until(due)
            free = self.state.free()
            if free is None or free > LEAST_ROOM:
                return

    # what does not

    async def _reporting(self) -> None:
        wanted, keep = self.settings.reports, self.settings.keep
        if wanted is None:
            return
        children = self._children({})
        async with asyncio.TaskGroup() as group:
            group.create_task(children.report(wanted), name="reports")
            if keep.reports_s is not None:
                group.create_task(self._pruning(children), name="pruning")

    def _children(self, more: Mapping[str, str]) -> Children:
        """Processes with the environment of reports, and more of it."""
        return Children(
            store=self.store.directory,
            environment={**self.environment, **more},
            hours=self.hours,
            notebook=self.notebook,
            state=self.state,
            progress=self.progress,
        )

    async def _pruning(self, children: Children) -> None:
        assert self.settings.reports is not None
        while True:
            await children.prune(self.settings.reports, self.settings.keep)
            await self.hours.until(midnight_after(self.hours.now()) + DAY_S // 48 * SECOND_NS)

    def _tell(self, words: str) -> None:
        self.progress("service", {"said": words})
