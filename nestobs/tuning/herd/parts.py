"""A herd: millions of joiners by a law of arrival, under one policy, behind shared addresses, at an API that counts.

What each joiner does is played request by request (rounds.py), and what the API answers is settled by address and
window (server.py). Addresses have nothing to do with each other, but that their people come by the same laws. So where
a herd asks for more requests than are to be played, an even part of its addresses is, and each of these stands for as
many others: all that is said of the whole then has a standard error, of that part. Where nests differ in when they can
be joined, the people behind one address are of one nest, and others of others.

Times within a second count in grains of 10 ms (100 ms where people come over more than an hour): so much may a peak
be missed by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from nestobs.errors import UsageError
from nestobs.join.decision import MESSAGES, RELEASED_FAILED, SIGN_IN_HINT, Kind
from nestobs.join.policy import Policy
from nestobs.observation.arrays import Floats, Ints
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.text import percent
from nestobs.timeline.seats import are_lost
from nestobs.tuning.herd.laws import LONGEST_S, Arrivals, Behind, Joinable, Limit
from nestobs.tuning.herd.rounds import KINDS, LIMITED, SEATED, Ends, Play
from nestobs.tuning.herd.server import answer

MOST_JOINERS: Final = 10_000_000_000
PLAYED: Final = 12_000_000
"""Requests that are played, about."""

PART: Final = 1 << 14
"""Joiners of a part, about: whole addresses."""

LEAST_PARTS: Final = 8
"""Of whole herds, where there are addresses enough: how parts differ is how sure a peak is."""

TOLD_AT: Final = 1_000_000
"""After so many joiners each it is told how far the playing has come."""

_FAR_S: Final = 1e9
"""When a nest can be joined that never can be: later than anybody asks."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A count, and its standard error as an estimate of what is to be expected; NaN where one address is all."""

    value: float
    error: float

    def __str__(self) -> str:
        """Rounded to what its error lets be known."""
        if not self.error > 0:
            return f"{self.value:,.0f}"
        grain = 10.0 ** max(0, math.floor(math.log10(self.error)))
        return f"{round(self.value / grain) * grain:,.0f} ± {math.ceil(self.error / grain) * grain:,.0f}"


@dataclass(frozen=True, slots=True)
class Told:
    """How the joins of some ended: `kind`, what the page then said, how many these are, and how many of them are lost,
    which is that their nest could be joined (timeline/seats.py)."""

    kind: Kind
    message: str
    joiners: float
    lost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """What comes of a herd. Counts are of the whole, estimated where `played` is less than `joiners`.

    joiners: in whole addresses. played: those that were played. addresses: that they share. requests: that the API saw,
    `refused` of them answered 429. peak_per_s: in the busiest second, which begins at the age peak_at_s.
    peak_in_window: in the busiest window of the limit, over all addresses. most_by_address: of one address in one of
    its windows; of one that was never refused, in all. full_addresses: that were refused something. joined, lost:
    joiners. wait_median_s, wait_p95_s: from arrival to the token, of those who joined; NaN where nobody did. told: the
    ends of joins, most first. arrivals, joinable: the laws, in words.
    """

    policy: str
    arrivals: str
    joinable: str
    joiners: int
    played: int
    addresses: int
    requests: Figure
    refused: Figure
    peak_per_s: Figure
    peak_at_s: float
    peak_in_window: float
    most_by_address: int
    full_addresses: Figure
    joined: Figure
    lost: Figure
    wait_median_s: float
    wait_p95_s: float
    told: tuple[Told, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: a figure is {"value", "error"}; null: not known."""
        found: dict[str, Any] = {}
        for name in Herd.__slots__:
            value = getattr(self, name)
            if isinstance(value, Figure):
                value = {"value": _known(value.value), "error": _known(value.error)}
            found[name] = _known(value) if isinstance(value, float) else value
        found["told"] = [
            {"kind": str(each.kind), "message": each.message, "joiners": each.joiners, "lost": each.lost}
            for each in self.told
        ]
        return found

    def lines(self) -> list[str]:
        """The same for people."""
        share = 0.0 if not self.joiners else self.lost.value / self.joiners
        part = "" if self.played == self.joiners else f", of whom {self.played:,} were played: ± is the standard error"
        waits = "nobody joins"
        if math.isfinite(self.wait_median_s):
            waits = f"wait: {self.wait_median_s:.2f} s in the median, {self.wait_p95_s:.2f} s for 95 in 100"
        told = [
            f"  {each.joiners:,.0f} {str(each.kind).replace('_', ' ')}, {each.lost:,.0f} lost: {each.message or 'in'}"
            for each in self.told
        ]
        return [
            f"{self.policy}: {self.joiners:,} joiners behind {self.addresses:,} addresses{part}",
            f"they come {self.arrivals}; joinable {self.joinable}",
            f"requests: {self.requests}, of which {self.refused} are answered 429",
            f"peak: {self.peak_per_s} in the second from {self.peak_at_s:.2f} s on,"
            f" {self.peak_in_window:,.0f} in a window, {self.most_by_address:,} of one address in its window",
            f"addresses refused something: {self.full_addresses}",
            f"joined: {self.joined}; lost: {self.lost} ({percent(share)})",
            waits,
            *told,
        ]


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What a part is played by. grain_s: of instants. addresses: of this part; seed: its own."""

    policy: Policy
    arrivals: Arrivals
    joinable: Joinable
    limit: Limit
    signed_in: bool
    round_trip_s: float
    people: int
    addresses: int
    grain_s: float
    seed: np.random.SeedSequence


@dataclass(slots=True)
class _Part:
    """What came of a part. played: requests. load: requests by grain of age. sums, squares: over its addresses, of
    each one's _COUNTED. kinds, lost: joiners by how they ended, and those lost. waits: of those who joined, in grains.
    pauses_s: the shortest and the longest that anybody was told."""

    joiners: int
    addresses: int
    played: int
    load: Ints
    sums: Floats
    squares: Floats
    most: int
    kinds: Ints
    lost: Ints
    waits: Ints
    pauses_s: tuple[float, float]


_COUNTED: Final = ("requests", "refused", "full_addresses", "joined", "lost")


def herd(
    policy: Policy,
    joiners: int,
    arrivals: Arrivals,
    joinable: Joinable,
    *,
    behind: tuple[Behind, ...] = (Behind(1),),
    limit: Limit | None = None,
    signed_in: bool = True,
    round_trip_s: float = 0.02,
    seed: int = 0,
    most: int = PLAYED,
    executor: Executor | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Herd:
    """What comes of `joiners` who arrive by a law at a nest, or at one per address where `joinable` is left to chance.

    behind: how many share an address. limit: what the API lets one do; None: 100 requests in 15 minutes.
    round_trip_s: of each request. most: about so many requests are played; of a herd that makes more an even part of
    the addresses is. executor: where parts are played, which changes nothing of the result; None: here. Raises
    UsageError for numbers out of bounds.
    """
    if not 1 <= joiners <= MOST_JOINERS or most < 1 or not 0.0 <= round_trip_s <= LONGEST_S:
        raise UsageError(f"a herd has 1 to {MOST_JOINERS} joiners, and plays a request at least")
    limit = Limit() if limit is None else limit
    total = _Total(_grain_s(arrivals, policy), _waits_s(policy), limit)
    for number, each in enumerate(behind):
        here = max(1, round(joiners * each.share / each.people))
        task = _Task(
            policy=policy,
            arrivals=arrivals,
            joinable=joinable,
            limit=limit,
            signed_in=signed_in,
            round_trip_s=round_trip_s,
            people=each.people,
            addresses=here,
            grain_s=total.grain_s,
            seed=np.random.SeedSequence([seed, number]),
        )
        parts = []
        played = 0
        for part in _parts(task, most * each.share, executor):
            parts.append(part)
            before, played = played, played + part.joiners
            if before // TOLD_AT < played // TOLD_AT:
                progress(f"played {played:,} joiners, {each.people} to an address")
        total.add(parts, here, each.people)
    return total.herd(task, signed_in=signed_in)


def _grain_s(arrivals: Arrivals, policy: Policy) -> float:
    """Of instants: so that there are a million at most."""
    last_s = {"burst": arrivals.from_s, "uniform": arrivals.span_s, "ages": max(arrivals.ages, default=0.0)}
    until_s = last_s.get(arrivals.kind, min(LONGEST_S, arrivals.from_s + 20.0 * arrivals.span_s)) + policy.horizon_s
    return 0.01 if until_s <= 5_000.0 else 0.1 if until_s <= 50_000.0 else 1.0


def _waits_s(policy: Policy) -> float:
    """A grain of waits."""
    return max(0.01, policy.horizon_s / 100_000.0)


def _parts(task: _Task, most: float, executor: Executor | None) -> Iterator[_Part]:
    """Parts of a herd behind addresses of one kind, each of as many addresses (the last of all may have fewer), as many
    as make about `most` requests; the same whatever plays them."""
    each = max(1, min(PART // task.people, -(-task.addresses // LEAST_PARTS)))
    whole = -(-task.addresses // each)
    seeds = task.seed.spawn(whole)

    def part(number: int) -> _Task:
        return replace(task, addresses=min(each, task.addresses - number * each), seed=seeds[number])

    first = _play(part(0))
    yield first
    wanted = min(whole, max(LEAST_PARTS, math.ceil(most / max(1, first.played))))
    yield from (map if executor is None else executor.map)(_play, [part(number) for number in range(1, wanted)])


def _play(task: _Task) -> _Part:
    """Play one part."""
    rng = np.random.default_rng(task.seed)
    n = task.addresses * task.people
    arrived = np.rint(task.arrivals.draw(n, rng) * SECOND_NS).astype(np.int64)
    there_s = np.repeat(task.joinable.draw(task.addresses, rng), task.people)
    there = np.where(np.isfinite(there_s), np.ceil(np.minimum(there_s, _FAR_S) * SECOND_NS), _FAR_S * SECOND_NS)
    play = Play(task.policy, signed_in=task.signed_in, late=round(task.round_trip_s * SECOND_NS), rng=rng)
    ends = Ends(np.zeros(n, dtype=np.int64), arrived.copy())
    seen = answer(play, play.arrive(arrived, there.astype(np.int64)), ends, task.limit, task.people)
    joined = ends.kind < SEATED
    arrived_s = arrived / SECOND_NS
    lost = are_lost(joined, arrived_s, np.inf, there_s, there_s, np.full(n, np.inf))
    by_address = (each.reshape(-1, task.people).sum(axis=1) for each in (joined, lost))
    counted = np.stack([seen.asked, seen.denied, seen.denied > 0, *by_address]).astype(np.float64)
    grain = round(task.grain_s * SECOND_NS)
    waited = (ends.at - arrived)[joined] // round(_waits_s(task.policy) * SECOND_NS)
    pauses_s = seen.pause_s[ends.kind == LIMITED]
    told = np.isfinite(pauses_s).any()
    return _Part(
        joiners=n,
        addresses=task.addresses,
        played=seen.played,
        load=np.bincount(np.concatenate([*seen.answered, *seen.refused]) // grain),
        sums=counted.sum(axis=1),
        squares=(counted**2).sum(axis=1),
        most=int(seen.most.max()),
        kinds=np.bincount(ends.kind, minlength=len(KINDS)),
        lost=np.bincount(ends.kind[lost], minlength=len(KINDS)),
        waits=np.bincount(waited),
        pauses_s=(float(np.nanmin(pauses_s)), float(np.nanmax(pauses_s))) if told else (math.inf, -math.inf),
    )


class _Total:
    """The whole herd, from parts of it."""

    def __init__(self, grain_s: float, waits_s: float, limit: Limit) -> None:
        self.grain_s, self._waits_s, self._limit = grain_s, waits_s, limit
        self._load, self._spread, self._waits = np.zeros(0), np.zeros(0), np.zeros(0)
        self._counts, self._variances = np.zeros(len(_COUNTED)), np.zeros(len(_COUNTED))
        self._kinds, self._lost = np.zeros(len(KINDS)), np.zeros(len(KINDS))
        self._pauses_s = (math.inf, -math.inf)
        self._joiners = self._played = self._addresses = self._most = 0

    def add(self, parts: list[_Part], addresses: int, people: int) -> None:
        """The parts of one kind of address, of which there are so many."""
        n, count = sum(part.addresses for part in parts), len(parts)
        stands = addresses / n
        sums = np.sum([part.sums for part in parts], axis=0)
        spare = np.sum([part.squares for part in parts], axis=0) - sums**2 / n
        self._counts += stands * sums
        self._variances += stands**2 * n * (np.maximum(spare, 0.0) / (n - 1) if n > 1 else np.nan)
        self._load = _sum(self._load, *(stands * part.load for part in parts))
        slides = [_slide(part.load, self._second) for part in parts]
        total, square = _sum(*slides), _sum(*(slide**2 for slide in slides))
        spread = (square - total**2 / count) / (count - 1) if count > 1 else np.full(len(total), np.nan)
        self._spread = _sum(self._spread, stands**2 * count * np.maximum(spread, 0.0))
        self._waits = _sum(self._waits, *(stands * part.waits for part in parts))
        self._kinds += stands * np.sum([part.kinds for part in parts], axis=0)
        self._lost += stands * np.sum([part.lost for part in parts], axis=0)
        self._most = max(self._most, *(part.most for part in parts))
        self._played += sum(part.joiners for part in parts)
        self._joiners += addresses * people
        self._addresses += addresses
        shortest, longest = zip(self._pauses_s, *(part.pauses_s for part in parts), strict=True)
        self._pauses_s = min(shortest), max(longest)

    @property
    def _second(self) -> int:
        return round(1.0 / self.grain_s)

    def herd(self, task: _Task, *, signed_in: bool) -> Herd:
        """What it comes to; `task` names the laws."""
        slide = _slide(self._load, self._second)
        at = int(np.argmax(slide))
        figures = {
            name: Figure(float(value), math.sqrt(variance))
            for name, value, variance in zip(_COUNTED, self._counts, self._variances, strict=True)
        }
        order = np.argsort(-self._kinds, kind="stable")
        told = [
            Told(
                KINDS[kind],
                self._said(KINDS[kind], task.policy, signed_in),
                float(self._kinds[kind]),
                float(self._lost[kind]),
            )
            for kind in order.tolist()
            if self._kinds[kind] > 0
        ]
        return Herd(
            policy=task.policy.name,
            arrivals=task.arrivals.words,
            joinable=task.joinable.words,
            joiners=self._joiners,
            played=self._played,
            addresses=self._addresses,
            peak_per_s=Figure(float(slide[at]), math.sqrt(self._spread[at])),
            peak_at_s=at * self.grain_s,
            peak_in_window=float(_slide(self._load, max(1, round(self._limit.window_s / self.grain_s))).max()),
            most_by_address=self._most,
            wait_median_s=self._wait_s(0.5),
            wait_p95_s=self._wait_s(0.95),
            told=tuple(told),
            **figures,
        )

    def _wait_s(self, share: float) -> float:
        """Of those who joined, the wait that this share does not exceed, to a grain."""
        if not self._waits.sum() > 0:
            return math.nan
        heap = np.cumsum(self._waits)
        return float(np.searchsorted(heap, share * heap[-1] * (1.0 - 1e-12)) * self._waits_s)

    def _said(self, kind: Kind, policy: Policy, signed_in: bool) -> str:
        """What the page says at such an end."""
        if kind is Kind.RATE_LIMITED:
            low, high = self._pauses_s
            when = "later" if low > high else f"in {low:.0f} s" if low == high else f"in {low:.0f} to {high:.0f} s"
            return MESSAGES[kind].format(when=when)
        if kind not in (Kind.STARTING_UP, Kind.GONE):
            return MESSAGES[kind]
        if policy.wording == "released":
            return RELEASED_FAILED
        return MESSAGES[kind] + ("" if signed_in else SIGN_IN_HINT)


def _sum(*columns: ArrayLike) -> Floats:
    """Of columns that may differ in length: what is missing is 0."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    found = np.zeros(max(len(column) for column in arrays))
    for column in arrays:
        found[: len(column)] += column
    return found


def _slide(load: ArrayLike, grains: int) -> Floats:
    """From each grain on, the load of so many."""
    heap = np.concatenate([[0.0], np.cumsum(load)])
    last = np.minimum(np.arange(1, len(heap)) + grains - 1, len(heap) - 1)
    return np.asarray(heap[last] - heap[:-1])
