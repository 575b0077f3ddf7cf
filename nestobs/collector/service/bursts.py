"""Canaries on their schedule: as many as the budget can pay, each turn once, whatever becomes of the service.

A turn that cannot be paid is left out, with a row that says so, and never made up for: the next comes at its own
instant. The budget is everybody's behind this address, and what is queued up would only be spent on the next turn's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from nestobs.collector import canary
from nestobs.collector.campaign import Campaign, Report
from nestobs.collector.keyring import Keyring
from nestobs.collector.polling import fit
from nestobs.collector.service.hours import Every, Hours, Slot
from nestobs.collector.service.memory import Notebook
from nestobs.collector.service.settings import Canaries
from nestobs.collector.service.state import Burst, State
from nestobs.collector.station import Target
from nestobs.errors import BudgetError, NestobsError, StoreError
from nestobs.join.budget import Budget
from nestobs.join.policy import Uniform
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Source
from nestobs.sources.clock import uuid7
from nestobs.sources.vantage import NO_TRACE, Vantage
from nestobs.store.reader import Store
from nestobs.store.sink import Pen
from nestobs.store.writer import Writer

_BEFORE_START: Final = "the service was not at work then, or the burst before it took so long"


@dataclass(slots=True, kw_only=True)
class Bursts:
    """The canaries of a service. stands: a burst stands for the time until the next (uptime.bursts), since nothing else
    observes."""

    target: Target
    wanted: Canaries
    stands: bool
    keyring: Keyring
    budget: Budget
    rng: Uniform
    hours: Hours
    notebook: Notebook
    state: State
    progress: canary.Progress

    async def run(self, store: Store, writer: Writer) -> None:
        """Clean what an earlier service left, then burst after burst, until cancelled. Raises StoreError."""
        await self._cleaned(store, writer)
        every = Every(self.wanted.every_s, self.wanted.jitter_s, self.target.api)
        while True:
            done = self.notebook.memory.burst
            slot = every.next(self.hours.now(), done)
            if done is not None and slot.number > done + 1:
                self._missed(every.slot(slot.number - 1), slot.number - done - 1)
            self.state.next_burst_at = self.hours.real(slot.due_at)
            await self.hours.until(slot.due_at)
            # before it begins: killed in the middle, it is not made again
            await asyncio.to_thread(self.notebook.note, burst=slot.number)
            self.state.burst = await self._made(store, writer, slot)
            self._tell(f"{self.state.burst.said}{self.state.burst.lacking}")

    async def _cleaned(self, store: Store, writer: Writer) -> None:
        if store.ledger() or any(self.keyring.folder.glob("*")):
            report = await self._tried(lambda: self._campaign(store, writer, self._plan(0, None)))
            if isinstance(report, Report) and report.left:
                self._tell(f"left behind: {report.left[0]}")

    async def _made(self, store: Store, writer: Writer, slot: Slot) -> Burst:
        """One burst, as far as it can be paid."""
        due_at = self.hours.real(slot.due_at)
        count, why_not = self._payable()
        if not count:
            self._left_out(writer, slot, why_not)
            return Burst(due_at, "", f"canaries of {_at(due_at)} not made: {why_not}")
        plan = self._plan(count, self.hours.real(slot.grid_at))
        report = await self._tried(lambda: self._campaign(store, writer, plan))
        if isinstance(report, NestobsError):
            if isinstance(report, BudgetError):
                self._left_out(writer, slot, str(report))
            return Burst(due_at, "", f"canaries of {_at(due_at)} not made: {report}")
        fewer = "" if count == self.wanted.count else f" ({count} of {self.wanted.count}: the budget pays no more)"
        ends = ", ".join(f"{n} {kind}" for kind, n in sorted(report.verdicts.items())) or "none"
        said = f"canaries of {_at(due_at)}: made {report.made} nests{fewer}; joins: {ends}"
        return Burst(due_at, "; ".join(filter(None, (said, report.problem(), report.shut_out()))))

    async def _tried(self, work: Callable[[], Coroutine[None, None, Report]]) -> Report | NestobsError:
        try:
            return await work()
        except StoreError:
            raise
        except NestobsError as error:
            return error

    async def _campaign(self, store: Store, writer: Writer, plan: Campaign) -> Report:
        return await canary.run(
            [self.target],
            plan,
            store=store,
            keyring=self.keyring,
            budget=self.budget,
            rng=self.rng,
            progress=self.progress,
            writer=writer,
        )

    def _plan(self, count: int, planned_at: int | None) -> Campaign:
        return Campaign(
            count=count,
            policies=(self.wanted.policy,),
            horizon_s=self.wanted.horizon_s,
            period_s=self.hours.real_s(self.wanted.every_s),
            planned_at=planned_at,
            stands=self.stands,
        )

    def _payable(self) -> tuple[int, str]:
        """How many nests what is left of the budget pays for, of those that are wanted; of none also why."""
        left = self.state.limiter.left(self.state.clock.now(), bursts=False)
        why = ""
        for count in range(self.wanted.count, 0, -1):
            try:
                fit(left, count, horizon_s=self.wanted.horizon_s)
                return count, ""
            except BudgetError as error:
                why = str(error)
        return 0, why

    def _left_out(self, writer: Writer, slot: Slot, why: str) -> None:
        now = self.state.clock.now()
        Vantage(self.target.vantage, uuid7(now), Pen(writer), self.state.clock).record(
            NO_TRACE,
            sent_at=now,
            planned_at=self.hours.real(slot.grid_at),
            source=Source.CLOCK,
            target="clock:",
            operation=Operation.STEP,
            outcome=Outcome.PROBE_ERROR,
            failure=Failure.BUDGET,
            failure_layer=FailureLayer.PROBER,
            reason=f"canaries not made: {why}",
        )

    def _missed(self, last: Slot, count: int) -> None:
        at = _at(self.hours.real(last.due_at))
        which = f"the canaries of {at} were" if count == 1 else f"{count} turns of canaries, the last of {at}, were"
        self._tell(f"{which} not made: {_BEFORE_START}")

    def _tell(self, words: str) -> None:
        self.progress("service", {"said": words})


def _at(instant: int) -> str:
    return f"{datetime.fromtimestamp(instant // SECOND_NS, UTC):%H:%M:%S}"
