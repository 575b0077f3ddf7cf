"""The vantage's clock: an anchor in UTC and a monotonic count from it. The only module that imports `time`.

The wall clock can be stepped while a trace runs; the monotonic clock cannot. So instants are the anchor's UTC plus the
monotonic time since, and delays never change under a step. A watcher compares the two once a beat: when the wall clock
departs from the anchored one it was stepped (or slewed); when the boot-time clock departs from the monotonic one the
machine slept; when the beat itself came late, the event loop was blocked. Each is an observation of its own, so that
intervals around it can be marked.

Sleeping is on absolute instants: never `sleep(interval)` after work.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from nestobs.observation.duration import SECOND_NS

STEP_S: Final = 0.2
"""A departure of wall from anchored time above this is a step."""

LAG_S: Final = 0.5
"""A beat of the watcher later than this is a blocked event loop."""

BEAT_S: Final = 0.25
LATE_S: Final = 0.005

count: Final = time.monotonic_ns
"""The monotonic clock, ns: one for all processes of a machine."""


class Clock:
    """UTC instants in ns that never go back. `wall` and `monotonic` (both ns) can be replaced in tests."""

    def __init__(
        self, wall: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._anchor = wall() - monotonic()

    def now(self) -> int:
        """The present instant, ns UTC, by the anchor."""
        return self.at(self._monotonic())

    def at(self, counted: int) -> int:
        """The instant, ns UTC, of a `count`, be it one that another process of this machine took."""
        return self._anchor + counted

    def wall_departure_s(self) -> float:
        """Wall clock minus anchored clock, seconds: far from 0 after a step."""
        return (self._wall() - self.now()) / SECOND_NS

    async def until(self, instant: int) -> None:
        """Sleep until `instant` (ns UTC); at once when it is past."""
        while (left := (instant - self.now()) / SECOND_NS) > 0:  # noqa: ASYNC110 - asyncio may wake a tick early
            await asyncio.sleep(left)


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that happened to our own clock or loop. kind: clock_step, suspended, loop_blocked; size in seconds."""

    kind: str
    at: int
    size_s: float


class LoopWatch:
    """Watches clock and event loop while it runs. `lag_s(since)`: the worst lag of the loop since an instant."""

    def __init__(self, clock: Clock, report: Callable[[Disturbance], None]) -> None:
        self._clock, self._report = clock, report
        self._lags: list[tuple[int, float]] = []
        self._due: int | None = None
        self._departure = clock.wall_departure_s()
        self._slept = _suspended_s()

    def lag_s(self, since: int) -> float:
        """Worst lag of a beat since `since` (ns UTC), seconds; 0.0 when none was late. Looks back 60 s at most.

        A beat that is due and has not come counts: who runs first when the loop goes on again knows of it.
        """
        late = max((lag for at, lag in reversed(self._lags) if at >= since), default=0.0)
        overdue = 0.0 if self._due is None else (self._clock.now() - self._due) / SECOND_NS
        return max(late, overdue) if overdue > LATE_S else late

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LoopWatch]:
        """Watch until the block is left."""
        task = asyncio.create_task(self._beat(), name="loop-watch")
        try:
            yield self
        finally:
            self._due = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _beat(self) -> None:
        due = self._clock.now()
        while True:
            due = max(due, self._clock.now() - SECOND_NS) + round(BEAT_S * SECOND_NS)
            self._due = due
            await self._clock.until(due)
            self._look(due)

    def _look(self, due: int) -> None:
        now = self._clock.now()
        lag = (now - due) / SECOND_NS
        if lag > LATE_S:
            self._lags.append((now, lag))
            if len(self._lags) > 1_000 or self._lags[0][0] < now - 60 * SECOND_NS:
                self._lags = [row for row in self._lags if row[0] >= now - 60 * SECOND_NS][-1_000:]
        slept = _suspended_s()
        if slept - self._slept > STEP_S:
            self._report(Disturbance("suspended", now, slept - self._slept))
        elif lag > LAG_S:
            self._report(Disturbance("loop_blocked", now, lag))
        departure = self._clock.wall_departure_s()
        moved = departure - self._departure
        if abs(moved) > STEP_S and slept - self._slept <= STEP_S:
            self._report(Disturbance("clock_step", now, moved))
        if abs(moved) > STEP_S:
            self._departure = departure
        self._slept = slept


def _suspended_s() -> float:
    """Seconds this machine has slept since boot (CLOCK_BOOTTIME - CLOCK_MONOTONIC, Linux); 0.0 elsewhere."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if boot is None else time.clock_gettime(boot) - time.clock_gettime(time.CLOCK_MONOTONIC)


def uuid7(at: int) -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds of `at` (ns UTC), the rest random but for version and variant."""
    value = (at // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
