"""How far our clock is ahead of another, as an interval, from the stamps that the other puts on its answers. Pure.

An answer to a question sent at s and whole at r, on our clock, carries a stamp D that was cut off to whole seconds
(`Date`, RFC 9110, 6.6.1). The other clock read something in [D, D + 1) at an instant that ours calls at least s and at
most r, so our clock less the other is in

    (s - D - 1, r - D]

The intersection of all is what they allow, each widened by what two clocks may drift since (`DRIFT`). n answers at
random fractions of a second come to about 2 / n s. One that is asked so that the stamp turns, by the middle of what is
left, when it is on its way halves it (`best_near`): five do what twenty at random do. Nothing tells more than the way
of an answer: half of the quickest one, and half of LATE_S, is what is left at last. A stamp that is finer (`timestamp`
of /health, milliseconds) comes to that at once.

Questions are asked so only while it is not sure enough (`AIMED_S`). Whoever asked so for ever would be told what they
expect: of a clock that was stepped meanwhile an answer at a chosen fraction says "later", whichever it is, and what is
left shrinks onto its end. Answers at fractions that nobody chose contradict it, each with as much chance as the step
has of a second.

Where they contradict each other one of the clocks was stepped, or several servers answer under one name. Then what
they said before and what they say now both count, until UNSURE_S have passed and `AGREED` answers have contradicted
nothing: a step is forgotten after that, servers that take turns never agree, and the interval holds them all.

What is compared with is the clock that stamps, whatever it is: a proxy's where a proxy writes the `Date`. A server that
renews its stamp once a second by a timer of its own is late by a constant, for everybody alike. By `LATE_S` it may be
late now and then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from nestobs.observation.duration import SECOND_NS

DRIFT: Final = 500e-6
"""Seconds a second by which two clocks part at most: as fast as a kernel slews one that NTP corrects (ntpd, timesyncd);
crystals part by 100e-6 each."""

APART_S: Final = 2.0
"""Clocks that are surely apart by more are related where one stamp or age is told; less harms nobody."""

UNSURE_S: Final = 120.0
AGREED: Final = 20
"""For so long, and for so many answers, what was said before a contradiction counts."""

LATE_S: Final = 0.02
"""A server that keeps a stamp for a second (Node, nginx) renews it so late when it is busy."""

AIMED_S: Final = 0.05
"""So sure is sure enough: then nothing is asked at an instant that is chosen for it."""

_LATE_NS: Final = round(LATE_S * SECOND_NS)
_FLOOR: Final = 0.6
"""Of the way of an answer, with LATE_S: as close as choosing the instant comes, with a little to spare."""

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

    @property
    def words(self) -> str:
        """As in "this clock is ...": by how much, and how sure."""
        return apart_words(self.offset_s, self.error_s)


def apart_words(offset_s: float, error_s: float) -> str:
    """By how much a clock is off the API's, and how sure that is; of clocks that may agree, to within what they do."""
    if abs(offset_s) <= error_s:
        return f"the API's to within {_error(abs(offset_s) + error_s, 2)} s"
    digits, side = 1 if abs(offset_s) >= _WHOLE_S else 2, "ahead of" if offset_s > 0 else "behind"
    return f"{abs(offset_s):.{digits}f} s {side} the API's, give or take {_error(error_s, digits)} s"


_WHOLE_S: Final = 10.0
"""Of more than that tenths are told, of less hundredths."""


def _error(seconds: float, digits: int) -> str:
    """Rounded up, with what rounding takes from what it is the error of."""
    grain = 10.0**-digits
    return f"{math.ceil(seconds / grain + 0.5) * grain:.{digits}f}"


@dataclass(slots=True)
class _Bounds:
    """Our clock less the other within [low, high] ns, at the instant `at`."""

    low: float
    high: float
    at: int

    def by(self, now: int) -> _Bounds:
        """What is left of it at `now`."""
        drift = DRIFT * abs(now - self.at)
        return _Bounds(self.low - drift, self.high + drift, now)

    def within(self, other: _Bounds) -> _Bounds | None:
        """What both allow, of the same instant; None where they contradict each other."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return _Bounds(low, high, self.at) if low <= high else None

    def hull(self, other: _Bounds) -> _Bounds:
        """What either allows, and what lies between."""
        return _Bounds(min(self.low, other.low), max(self.high, other.high), self.at)


@dataclass(slots=True)
class _Past:
    """One side of a contradiction that was found at `found_at`. since: how many answers came after that."""

    bounds: _Bounds
    found_at: int
    since: int = 0

    def counts(self, now: int) -> bool:
        return self.since < AGREED or now - self.found_at < UNSURE_S * SECOND_NS


@dataclass(slots=True)
class Relation:
    """What the answers so far say of our clock and another's."""

    _now: _Bounds | None = None
    _before: list[_Past] = field(default_factory=list)
    _learnt_at: int = 0
    _way: int = 0
    _aimed: int | None = None

    @property
    def known(self) -> bool:
        """Whether anything was learnt."""
        return self._now is not None

    def learn(
        self,
        sent_at: int,
        received_at: int,
        stamp: int,
        *,
        grain_s: float = 1.0,
        late_s: float = LATE_S,
        sure: bool = True,
    ) -> None:
        """An answer with its stamp (ns UTC, cut off to grain_s) to a question sent at `sent_at`. late_s: by how much
        the stamp may be older than that. Where it is not `sure` to be the other's own it counts only where something is
        known, and where it contradicts nothing."""
        early = round((grain_s + late_s) * SECOND_NS)
        told = _Bounds(float(sent_at - stamp - early), float(received_at - stamp), sent_at).by(received_at)
        if self._now is None:
            if sure:
                self._now = told
                self._heard(sent_at, received_at)
            return
        at = max(received_at, self._now.at)
        held, told = self._now.by(at), told.by(at)
        both = held.within(told)
        if both is None and not sure:
            return
        for past in self._before:
            past.since += 1
        if both is None:  # what is held may be the outcome of answers of several servers, and true of none
            found = [past for past in self._before if past.counts(at)]
            self._before = [*found[-MOST_KEPT:], _Past(held, at), _Past(told, at)]
        self._now = told if both is None else both
        self._heard(sent_at, received_at)

    def _heard(self, sent_at: int, received_at: int) -> None:
        self._learnt_at = max(self._learnt_at, received_at)
        self._way = received_at - sent_at
        self._aimed = None if self._aimed is None or sent_at >= self._aimed else self._aimed

    def at(self, now: int) -> Offset | None:
        """What is known at the instant `now` of our clock (ns UTC); None where nothing was learnt."""
        if self._now is None:
            return None
        self._before = [past for past in self._before if past.counts(now)]
        found = [one.by(now) for one in (self._now, *(past.bounds for past in self._before))]
        low, high = min(one.low for one in found), max(one.high for one in found)
        age_s = max(0, now - self._learnt_at) / SECOND_NS
        return Offset((low + high) / 2 / SECOND_NS, (high - low) / 2 / SECOND_NS, age_s)

    def apart(self, now: int) -> Offset | None:
        """The same, where the clocks are surely apart by APART_S; else None."""
        offset = self.at(now)
        return None if offset is None or abs(offset.least_off_s) < APART_S else offset

    def settled(self, now: int) -> bool:
        """Whether asking at a chosen instant would tell no more: it is sure enough, or the way of an answer is so long
        that it will not be surer."""
        if self._now is None:
            return False
        held = self._now.by(now)
        return (held.high - held.low) / 2 <= max(AIMED_S * SECOND_NS, _FLOOR * (self._way + _LATE_NS))

    def best_near(self, due: int, *, earliest: int, latest: int) -> int:
        """When to ask, so that the answer halves what is left: the instant nearest to `due`, less than a second from
        it, within [earliest, latest]; `due` itself where there is none, where nothing is known yet, where it is sure
        enough already, and while another answer to a question so asked is awaited. All on our clock, ns UTC.
        """
        if self._now is None or not earliest <= due <= latest:
            return due
        if self._aimed is not None and abs(due - self._aimed) < 2 * SECOND_NS:
            return due
        if self.settled(due):
            return due
        held = self._now.by(due)
        aim = round((held.low + held.high - self._way + _LATE_NS) / 2)
        before = due - (due - aim) % SECOND_NS
        found = [at for at in (before, before + SECOND_NS) if earliest <= at <= latest]
        if not found:
            return due
        self._aimed = min(found, key=lambda at: abs(at - due))
        return self._aimed
