"""The vantage's clock: an anchor in UTC and a count from it that never steps. The only module that imports `time`.

The wall clock can be stepped while a trace runs; the count cannot, and it goes on while the machine sleeps. So instants
are the anchor's UTC plus the count since, and delays never change under a step.

What we do ourselves is evidence, too (method.md, 1.13): an answer that lay in the socket while our own event loop stood
still is no failure of who sent it. A watch beats on the loop and sees, in one way for all sources,

    a beat that came late, or is overdue     the loop stood still: a long callback, a thread that kept the interpreter,
                                             a process that was stopped, a machine that slept (boot-time clock apart
                                             from the monotonic one)
    time that the loop's thread waited       the processor was given to others (Linux's schedstat; elsewhere unseen)
    a thread of the pool that began late     names are resolved there
    a wall clock that departed               it was stepped, or slewed

Each that is large is an observation of its own, so that intervals around it can be marked; and `held` says of an
attempt whether what was judged by its timer may rest on it.

Sleeping is on absolute instants: never `sleep(interval)` after work.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Final

from nestobs.observation.duration import SECOND_NS

STEP_S: Final = 0.2
"""A departure of wall from anchored time above this is a step."""

LAG_S: Final = 0.5
"""A beat of the watch later than this is a blocked event loop, a row of its own."""

BEAT_S: Final = 0.02
"""What stands still for two beats is seen, whenever it began."""

NOISE_S: Final = 0.02
"""A beat that is less late is on time: so late an ordinary scheduler makes it."""

HELD_SHARE, HELD_S = 0.1, 0.1
"""An attempt was held up when the loop stood still for more than this share of its timeout, HELD_S at least and LAG_S
at most. What is less, `patience` makes up for."""

STARVED_SHARE: Final = 0.25
"""Or when its thread waited for a processor for more than this share of its time. No attempt bears more of its timeout
than that: so HELD_S is for those of .4 s or more."""

KEPT: Final = 16_384
"""So many late beats are remembered: ten minutes of a machine on which each is late."""

POOL_BEATS: Final = 12
"""At each so-manieth beat a thread of the pool is asked for."""

GRACE_S: Final = 1.0


def count() -> int:
    """The boot-time clock, ns: monotonic, one for all processes of a machine, and it counts sleep (CLOCK_MONOTONIC
    where there is none)."""
    return time.clock_gettime_ns(_COUNTER)


_COUNTER: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Machine:
    """What a machine's clocks show: all that a Clock reads beside `count`."""

    def wall(self) -> int:
        """The wall clock, ns UTC."""
        return time.time_ns()

    def paced(self, counted: int) -> int:
        """What its crystal makes of a `count`, ns: of one that keeps time, the same."""
        return counted


class Clock:
    """UTC instants in ns that never go back. `wall` and `monotonic` (both ns) can be replaced in tests.

    machine: whose clocks all of a process read. It is another only where a trial gives a process a clock that is wrong
    (trial/wrong_clock.py): no word, file or variable leads there.
    """

    machine: ClassVar[Machine] = Machine()

    def __init__(self, wall: Callable[[], int] | None = None, monotonic: Callable[[], int] = count) -> None:
        self._wall, self._monotonic = wall or self.machine.wall, monotonic
        self._paced = self.machine.paced
        self._anchor = self._wall() - self._paced(monotonic())

    def now(self) -> int:
        """The present instant, ns UTC, by the anchor."""
        return self.at(self._monotonic())

    def at(self, counted: int) -> int:
        """The instant, ns UTC, of a `count`, be it one that another process of this machine took."""
        return self._anchor + self._paced(counted)

    def wall_departure_s(self) -> float:
        """Wall clock minus anchored clock, seconds: far from 0 after a step."""
        return (self._wall() - self.now()) / SECOND_NS

    async def until(self, instant: int) -> None:
        """Sleep until `instant` (ns UTC); at once when it is past."""
        while (left := (instant - self.now()) / SECOND_NS) > 0:  # noqa: ASYNC110 - asyncio may wake a tick early
            await asyncio.sleep(left)


@asynccontextmanager
async def patience(until: float) -> AsyncIterator[None]:
    """asyncio.timeout_at, but for a timer that our own loop came late to.

    What came meanwhile lies in the socket, unread: so there is as much time again to read it, GRACE_S at most.
    """
    loop = asyncio.get_running_loop()

    def strike() -> None:
        now = loop.time()
        late_s = now - until
        timer.reschedule(now + min(late_s, GRACE_S) if late_s > NOISE_S else now)

    async with asyncio.timeout(None) as timer:
        striking = loop.call_at(until, strike)
        try:
            yield
        finally:
            striking.cancel()


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that happened to our own clock or loop. kind: clock_step, suspended, loop_blocked; size in seconds."""

    kind: str
    at: int
    size_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """How we held an attempt up ourselves. kind: suspended or loop_blocked; words: what was seen, with its size."""

    kind: str
    words: str


@dataclass(slots=True)
class _Late:
    """What came late, by when it came, ascending, and by how much, both ns. `due`: when the next is due, None: none."""

    due: int | None = None
    came: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)

    def add(self, now: int, late: int) -> None:
        if late > NOISE_S * SECOND_NS:
            self.came.append(now)
            self.late.append(late)
            if len(self.came) >= 2 * KEPT:
                del self.came[:KEPT], self.late[:KEPT]

    def since(self, since: int, now: int) -> list[tuple[int, int]]:
        """What came after `since` or is overdue: by how much it was late, and by how much of that after `since`."""
        first = bisect_left(self.came, since)
        found = [(late, min(late, at - since)) for at, late in zip(self.came[first:], self.late[first:], strict=True)]
        if self.due is not None and now - self.due > NOISE_S * SECOND_NS:
            found.append((now - self.due, now - max(self.due, since)))
        return found

    def sum_s(self, since: int, now: int) -> float:
        """All of it after `since`, seconds."""
        return sum(max(0, part) for _, part in self.since(since, now)) / SECOND_NS


class LoopWatch:
    """Watches clock, event loop and thread pool while it runs; of other times it knows nothing."""

    def __init__(self, clock: Clock, report: Callable[[Disturbance], None]) -> None:
        self._clock, self._report = clock, report
        self._beats, self._pool, self._sleeps = _Late(), _Late(), _Late()
        self._waits: list[tuple[int, float]] = []
        self._waited_s: Callable[[], float] = _nothing_waited
        self._departure = clock.wall_departure_s()
        self._slept = _suspended_s()

    def lag_s(self, since: int) -> float:
        """Worst lag of a beat since `since` (ns UTC), seconds; 0.0 when none was late.

        A beat that is overdue counts: who runs first when the loop goes on again knows of it.
        """
        return max((late for late, _ in self._beats.since(since, self._clock.now())), default=0) / SECOND_NS

    def held(self, since: int, timeout_s: float | None, *, most_s: float = LAG_S, threads: bool = False) -> Held | None:
        """Whether what was judged just now of an attempt that began at `since` may be our own doing; None where not.

        timeout_s: the attempt's, None where it had none. most_s: what it bears at most. threads: it may have waited for
        a thread of the pool.
        """
        now = self._clock.now()
        if timeout_s is not None:
            most_s = min(most_s, max(HELD_S, HELD_SHARE * timeout_s), STARVED_SHARE * timeout_s)
        of = " meanwhile" if timeout_s is None else f" of {timeout_s:g} s"
        just_slept_s = _suspended_s() - self._slept  # no beat has seen it yet
        slept_s = self._sleeps.sum_s(since, now) + (just_slept_s if just_slept_s > STEP_S else 0.0)
        if slept_s > 0:
            return Held("suspended", f"the machine slept for {slept_s:.1f} s meanwhile")
        if (stood_s := self._beats.sum_s(since, now)) > most_s:
            return Held("loop_blocked", f"our own event loop stood still for {stood_s:.2f} s{of}")
        first = max(0, bisect_left(self._waits, (since,)) - 1)
        waited_s = self._waited_s() - self._waits[first][1] if self._waits else 0.0
        if waited_s > max(most_s, STARVED_SHARE * (now - since) / SECOND_NS):
            return Held("loop_blocked", f"our own process waited for a processor for {waited_s:.2f} s{of}")
        if threads and (queued_s := self._pool.sum_s(since, now)) > most_s:
            return Held("loop_blocked", f"no thread of our own was free for {queued_s:.2f} s{of}")
        return None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LoopWatch]:
        """Watch until the block is left."""
        with _schedstat() as waited_s:
            self._waited_s = waited_s
            self._waits, self._beats.due = [], self._clock.now()
            self._next = asyncio.get_running_loop().call_soon(self._beat, 0)
            try:
                yield self
            finally:
                self._next.cancel()
                self._beats.due = self._pool.due = None
                self._waited_s = _nothing_waited

    def _beat(self, number: int) -> None:
        loop, now, due = asyncio.get_running_loop(), self._clock.now(), self._beats.due
        self._beats.due = now + round(BEAT_S * SECOND_NS)
        self._next = loop.call_later(BEAT_S, self._beat, number + 1)
        self._waits.append((now, self._waited_s()))
        del self._waits[:-KEPT]
        if number % POOL_BEATS == 0 and self._pool.due is None:
            self._pool.due = now
            loop.run_in_executor(None, self._thread_began)
        if due is not None:
            self._look(now, now - due)

    def _thread_began(self) -> None:
        if (asked := self._pool.due) is not None:
            now = self._clock.now()
            self._pool.add(now, now - asked)
            self._pool.due = None

    def _look(self, now: int, late: int) -> None:
        """Take a beat that came at `now`, so much too late (ns)."""
        self._beats.add(now, late)
        slept = _suspended_s()
        slept_s, self._slept = slept - self._slept, slept
        if slept_s > STEP_S:
            self._sleeps.add(now, round(slept_s * SECOND_NS))
            self._report(Disturbance("suspended", now, slept_s))
        elif late > LAG_S * SECOND_NS:
            self._report(Disturbance("loop_blocked", now, late / SECOND_NS))
        departure = self._clock.wall_departure_s()
        moved = departure - self._departure
        if abs(moved) > STEP_S:
            self._departure = departure
            self._report(Disturbance("clock_step", now, moved))


def _nothing_waited() -> float:
    return 0.0


@contextmanager
def _schedstat() -> Iterator[Callable[[], float]]:
    """What tells how long this thread has waited for a processor so far, seconds; 0.0 where nothing tells it."""
    try:
        descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        yield _nothing_waited
        return

    def waited_s() -> float:
        fields = os.pread(descriptor, 64, 0).split()  # ns run, ns waited, times run (Linux's sched-stats.rst)
        return int(fields[1]) / SECOND_NS if len(fields) == 3 else 0.0

    try:
        yield waited_s
    finally:
        os.close(descriptor)


def _suspended_s() -> float:
    """Seconds this machine has slept since boot (CLOCK_BOOTTIME - CLOCK_MONOTONIC, Linux); 0.0 elsewhere."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if boot is None else time.clock_gettime(boot) - time.clock_gettime(time.CLOCK_MONOTONIC)


def uuid7(at: int, rest: bytes = b"") -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds of `at` (ns UTC), and 10 bytes but for version and variant: `rest`,
    or random ones."""
    value = (at // 1_000_000) << 80 | int.from_bytes(rest or os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
