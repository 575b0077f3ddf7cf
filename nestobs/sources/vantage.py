"""One place and clock from which things are observed, and the pen that writes its rows.

Every source is handed a Vantage and records each attempt through it, so that ids, clock facts and loop lag are filled
in once, here. Rows go to a sink: the store's writer in a run, a list in a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import Relation
from nestobs.observation.schema import (
    HEARTBEAT_S,
    PERIOD,
    Failure,
    FailureLayer,
    Observation,
    Operation,
    Outcome,
    Source,
)
from nestobs.sources.clock import Clock, Disturbance, LoopWatch, uuid7
from nestobs.sources.failures import JUDGED, REQUEST_TIMEOUT, STALE_S, held_up


@dataclass(frozen=True, slots=True)
class Trace:
    """One nest under observation: what its rows carry. `nest` and `room` are empty while unknown."""

    trace_id: str = ""
    nest: str = ""
    room: str = ""


NO_TRACE = Trace()


async def _nothing_to_commit() -> bool:
    return True


@dataclass(slots=True)
class Vantage:
    """Name, run, clock and sink. `record` writes one row and returns it.

    relation: what the API's stamps say of this clock, one for all vantages of a process that look at one API.

    `committed` waits until the rows recorded so far are safe: awaited between an intent and its deed. False where they
    never will be: then nothing may be made.
    """

    name: str
    run_id: str
    sink: Callable[[Observation], None]
    clock: Clock = field(default_factory=Clock)
    committed: Callable[[], Awaitable[bool]] = _nothing_to_commit
    relation: Relation = field(default_factory=Relation)
    watch: LoopWatch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = LoopWatch(self.clock, self._disturbed)

    def theirs(self, at: int) -> int:
        """An instant of our clock (ns UTC) as the API's has it, where the two are surely apart; else as it is."""
        return at - self._apart(at)

    def ours(self, at: int) -> int:
        """An instant of the API's clock (ns UTC) as ours has it: the other way round."""
        return at + self._apart(self.clock.now())

    def _apart(self, at: int) -> int:
        """What our clock is ahead of the API's, ns, where the two are surely apart; else 0."""
        apart = self.relation.apart(at)
        return 0 if apart is None else round(apart.offset_s * SECOND_NS)

    def new_id(self) -> str:
        """A fresh UUIDv7 of this instant."""
        return uuid7(self.clock.now())

    def record(
        self,
        trace: Trace,
        *,
        sent_at: int,
        observation_id: str = "",
        began_at: int | None = None,
        lag_s: float = 0.0,
        **fields: Any,
    ) -> Observation:
        """Write one observation: the fields of observation.Observation, ids and loop lag filled in.

        What was judged of an attempt that we held up ourselves is written as our own fault (failures.JUDGED). began_at:
        when the attempt began, where that was before `sent_at`. lag_s: of another process of ours that took part.
        """
        since = sent_at if began_at is None else min(began_at, sent_at)
        fields |= self._own(since, **fields)
        if (offset := self.relation.at(self.clock.now())) is not None:
            known = {"clock_offset_s": offset.offset_s, "clock_error_s": offset.error_s, "sync_age_s": offset.age_s}
            fields = {name: round(value, 6) for name, value in known.items()} | fields
        row = Observation(
            observation_id=observation_id or self.new_id(),
            run_id=self.run_id,
            vantage=self.name,
            trace_id=trace.trace_id,
            nest=trace.nest,
            room=trace.room,
            sent_at=sent_at,
            loop_lag_s=max(self.watch.lag_s(since), lag_s),
            **fields,
        )
        self.sink(row)
        return row

    def _own(
        self,
        since: int,
        *,
        operation: Operation,
        outcome: Outcome,
        failure: Failure | None = None,
        failure_layer: FailureLayer | None = None,
        reason: str = "",
        timeout_s: float | None = None,
        status: int | None = None,
        **_: object,
    ) -> dict[str, Any]:
        """The columns that say so, where a failure was judged, not proved, and may be our own doing.

        A join's verdict is not judged here: it rests on its attempts.
        """
        if operation is Operation.VERDICT:
            return {}
        judged = outcome is Outcome.UNKNOWN and (failure in JUDGED or status == REQUEST_TIMEOUT)
        held = None
        if judged:
            threads = failure_layer in (FailureLayer.DNS, FailureLayer.TCP)
            held = self.watch.held(since, timeout_s, threads=threads)
        elif outcome is Outcome.REFUSED and failure is Failure.UNAUTHORISED:
            held = self.watch.held(since, None, most_s=STALE_S)
        return {} if held is None else held_up(held, reason)._asdict()

    @asynccontextmanager
    async def heartbeat(self) -> AsyncIterator[None]:
        """Say every `HEARTBEAT_S`, and once on leaving, that this vantage was at work.

        A row runs from `sent_at`, the beat before, to `received_at`, and carries the greatest lag of the event loop in
        between. It speaks of no layer, so no timeline sees it. Killed, the last beat is missing: what is claimed is
        what is certain.
        """
        task = asyncio.create_task(self._beats(), name="heartbeat")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def burst(self, since: int, planned_at: int, period_s: float, *, stands: bool = True) -> None:
        """Say that a run that began at `since` has come to its end. It was planned for `planned_at`, and the next of
        its schedule is `period_s` later: for so long it stands (timeline/uptime.py), unless there is a watch beside it.
        """
        facts = {PERIOD: period_s, "watched": None if stands else True}
        self._health(since, planned_at=planned_at, detail=detail(**facts))

    async def _beats(self) -> None:
        since = self.clock.now()
        try:
            while True:
                await self.clock.until(since + round(HEARTBEAT_S * SECOND_NS))
                since = self._beat(since)
        finally:
            self._beat(since)

    def _beat(self, since: int) -> int:
        return self._health(since)

    def _health(self, since: int, **more: Any) -> int:
        now = self.clock.now()
        self.record(
            NO_TRACE,
            sent_at=since,
            received_at=now,
            source=Source.CLOCK,
            target="clock:",
            operation=Operation.HEALTH,
            outcome=Outcome.ACCEPTED,
            **more,
        )
        return now

    def _disturbed(self, found: Disturbance) -> None:
        words = {
            "clock_step": "the wall clock was stepped; instants keep to the anchored clock",
            "suspended": "the machine slept",
            "loop_blocked": "the event loop was blocked",
        }
        self.record(
            NO_TRACE,
            sent_at=found.at - round(abs(found.size_s) * SECOND_NS) if found.kind != "clock_step" else found.at,
            received_at=found.at,
            source=Source.CLOCK,
            target="clock:",
            operation=Operation.STEP,
            outcome=Outcome.PROBE_ERROR,
            failure=Failure(found.kind),
            failure_layer=FailureLayer.PROBER,
            reason=f"{words[found.kind]} ({found.size_s:+.3f} s)",
            detail=detail(size_s=found.size_s),
        )
