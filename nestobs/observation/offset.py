"""How far our clock is ahead of another, as an interval, from the stamps that the other puts on its answers. Pure.

An answer to a question sent at s and whole at r, on our clock, carries a stamp D that was cut off to whole seconds
(`Date`, RFC 9110, 6.6.1). The other clock read something in [D, D + 1) at an instant that ours calls at least s and at
most r, so our clock less the other is in

    (s - D - 1, r - D]

Answers at other fractions of a second bound it closer; n of them at random come to about 2 / n s, and one that was
asked just before the stamp turns halves what is left. The intersection of all is what they allow, each widened by what
two crystals may drift since (`DRIFT`).

Where they contradict each other one of the clocks was stepped, or several servers answer under one name. Then what
they said before and what they say now both count for `UNSURE_S`: a step is forgotten after that, servers that take
turns never agree, and the interval holds them all.

What is compared with is the clock that stamps, whatever it is: a server that renews its stamp once a second by a timer
of its own is late by a constant, for everybody alike. By `LATE_S` it may be late now and then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from nestobs.observation.duration import SECOND_NS

DRIFT: Final = 200e-6
"""Seconds a second by which two free-running clocks part at most: 100 ppm each, twice what crystals are sold for."""

APART_S: Final = 2.0
"""Clocks that are surely apart by more are related where one stamp or age is told; less harms nobody."""

UNSURE_S: Final = 120.0
"""For so long what answers said before a contradiction counts."""

LATE_S: Final = 0.02
"""A server that keeps a stamp for a second (Node, nginx) renews it so late when it is busy."""

_GRAIN_NS: Final = round((1.0 + LATE_S) * SECOND_NS)
MOST_KEPT: Final = 64
"""Contradictions that are remembered: of servers that take turns, more than enough."""


@dataclass(frozen=True, slots=True)
class Offset:
    """Our clock less the other, seconds: within error_s of offset_s. age_s: since the last answer that bounds it."""

    offset_s: float
    error_s: float
    age_s: float

    @property
    def least_off_s(self) -> float:
        """The least that the clocks are surely apart, with its sign: above 0 where ours is ahead; 0.0 where they may
        agree."""
        if self.offset_s > self.error_s:
            return self.offset_s - self.error_s
        return min(0.0, self.offset_s + self.error_s)


@dataclass(slots=True)
class _Bounds:
    """Within [low, high] ns at the instant `at`."""

    low: float
    high: float
    at: int

    def by(self, now: int) -> _Bounds:
        """What is left of it at `now`."""
        drift = DRIFT * abs(now - self.at)
        return _Bounds(self.low - drift, self.high + drift, now)


@dataclass(slots=True)
class Relation:
    """What the answers so far say of our clock and another's."""

    _now: _Bounds | None = None
    _before: list[_Bounds] = field(default_factory=list)
    _learnt_at: int = 0

    def learn(self, sent_at: int, received_at: int, stamp: int) -> None:
        """An answer that is surely the other's own, with its stamp (ns UTC), to a question sent at `sent_at`."""
        told = _Bounds(float(sent_at - stamp - _GRAIN_NS), float(received_at - stamp), received_at)
        self._learnt_at = max(self._learnt_at, received_at)
        if self._now is None:
            self._now = told
            return
        held = self._now.by(max(received_at, self._now.at))
        both = _Bounds(max(held.low, told.low), min(held.high, told.high), held.at)
        if both.low <= both.high:
            self._now = both
            return
        self._before = [*self._before[-MOST_KEPT:], self._now]
        self._now = told

    def at(self, now: int) -> Offset | None:
        """What is known at the instant `now` of our clock (ns UTC); None where nothing was learnt."""
        if self._now is None:
            return None
        since = now - round(UNSURE_S * SECOND_NS)
        self._before = [one for one in self._before if one.at >= since]
        found = [one.by(now) for one in (self._now, *self._before)]
        low, high = min(one.low for one in found), max(one.high for one in found)
        age_s = max(0, now - self._learnt_at) / SECOND_NS
        return Offset((low + high) / 2 / SECOND_NS, (high - low) / 2 / SECOND_NS, age_s)
