"""The instants of a plan, on a grid that begins at 1970-01-01 UTC, and the time they go by.

A plan goes by the wall clock, so that 00:20 is what people call so, also after a clock was set or a machine slept.
Nothing is ever due "so long after the last": an instant that was missed is missed, and the next one is where it was.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import DAY_S
from nestobs.sources.clock import Clock

_LOOK_S: Final = 5.0
"""A clock that was set, or a machine that slept, is noticed within it."""

LATE: Final = 0.25
"""Of its period: so much later what is due is still made, else it is missed."""


class Hours:
    """The plan's time. rate: so many of its seconds pass in one of the clock; they are the same at `since`, ns UTC.

    Only for the plan: what is observed is stamped by the vantage's own clock, at any rate.
    """

    def __init__(self, clock: Clock, *, rate: int = 1, since: int = 0) -> None:
        self._clock, self.rate, self._since = clock, rate, since

    def now(self) -> int:
        """The present instant of the plan, ns UTC."""
        wall = self._clock.now() + round(self._clock.wall_departure_s() * SECOND_NS)
        return self._since + (wall - self._since) * self.rate

    def real(self, at: int) -> int:
        """The wall clock's instant of one of the plan, both ns UTC."""
        return self._since + (at - self._since) // self.rate

    def real_s(self, length_s: float) -> float:
        """How long that is by the clock, seconds."""
        return length_s / self.rate

    async def until(self, at: int) -> None:
        """Sleep until an instant of the plan; at once when it is past."""
        while (left_s := (at - self.now()) / SECOND_NS / self.rate) > 0:
            await self._clock.until(self._clock.now() + round(min(left_s, _LOOK_S) * SECOND_NS))


@dataclass(frozen=True, slots=True)
class Slot:
    """One turn of what comes every so often: its number, its instant on the grid, and when it is due, ns UTC."""

    number: int
    grid_at: int
    due_at: int


@dataclass(frozen=True, slots=True)
class Every:
    """A grid of `period_s`, each instant up to `jitter_s` later, by a chance that is the same whenever it is asked."""

    period_s: float
    jitter_s: float = 0.0
    key: str = ""

    def slot(self, number: int) -> Slot:
        """The turn of that number."""
        grid_at = number * round(self.period_s * SECOND_NS)
        chance = random.Random(f"{self.key} {number}").random()  # spreads those who share a server, hides nothing
        return Slot(number, grid_at, grid_at + round(chance * self.jitter_s * SECOND_NS))

    def next(self, now: int, done: int | None) -> Slot:
        """The next turn after number `done`, but none that is late by more than LATE of the period. The first of all,
        where none was ever done, is the present one, now, unless the next is as near as that."""
        number = now // round(self.period_s * SECOND_NS)
        if done is None:
            following = self.slot(number + 1)
            near = following.due_at - now < LATE * self.period_s * SECOND_NS
            return following if near else Slot(number, now, now)
        slot = self.slot(max(number, done + 1))
        late = now - slot.due_at > LATE * self.period_s * SECOND_NS
        return self.slot(slot.number + 1) if late else slot


def daily(now: int, at_s: Sequence[int]) -> tuple[int, int]:
    """The last instant up to now and the first one after it of those that lie at these seconds of a UTC day, ns."""
    day = now // (DAY_S * SECOND_NS) * DAY_S
    every = sorted((day + back * DAY_S + second) * SECOND_NS for back in (-1, 0, 1) for second in at_s)
    return max(at for at in every if at <= now), min(at for at in every if at > now)
