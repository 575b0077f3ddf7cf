"""What a policy does while it is answered 404, and what comes of it: the join core in virtual time.

That a nest becomes joinable does not depend on our asking. So all that a policy does with a nest that is not there is
its *course*: the ages at which it asks, found by driving `join_flow` once through a world where nothing ever comes. A
nest that becomes joinable at T is then joined by the first attempt of the course at or after T. A course is driven once
and scored against any number of nests by a search in sorted ages.

Nor does it depend on the nest whether a request fails (timeline/failures.py). Where requests fail by chance, a course
is driven through a world of 404s and failures: an attempt that failed in it fails in any, and what the join core then
does, it does in any. So the nest is joined by the first attempt at or after T that did not fail, unless each connection
to LiveKit that its token pays for fails, too: that ends the join.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nestobs.join.flow import REQUESTS, Guest, Info, Join, Load, Reply, Signal, Step, Verdict, Wait, join_flow
from nestobs.join.policy import SEATS, Policy
from nestobs.nostr import ROOM_KIND, Address
from nestobs.observation.arrays import Flags, Floats, Ints
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest
from nestobs.observation.schema import Outcome
from nestobs.timeline.failures import Failures
from nestobs.timeline.seats import are_lost
from nestobs.tuning.costs import Prices
from nestobs.tuning.network import CHANCES, Network

SHAPES: Final = 4
"""A policy with jitter is driven so many times from each arrival."""

PERSONS: Final = 8
"""And one with a person by so many persons, whom nests meet in turn. Their patience and first reactions fill the space
of all evenly (Sobol), so what is left of the luck of these few is small: at 32 arrivals .06 s of the cost of
`manual_retry`, of which as many drawn by themselves leave .3 s."""

FEWER_PERSONS: Final = 4
"""As many where requests fail, for each imputation."""

LED: Final = 4
"""A person's first so many chances: patience, and three reactions."""

PATIENCE_S: Final = math.inf
"""The longest that is compared: tuning weighs every give-up age, and regret is to somebody who waits until it comes."""

AT_ONCE: Final = 16_384
"""So many nests at most are scored at once: what comes of them stays in a processor's cache."""

STRATIFIED: Final = 16
"""For so many first requests of the courses, the shares that fail are those that were asked for, as near as can be."""

_TOKENS: Final = (Join, Guest)
_ORIGIN: Final = 1_000_000_000 * SECOND_NS
GRAIN_S: Final = 0.5
"""created_at is whole seconds, cut: by a client's reckoning a nest is half a second older than it is, on average."""

_ADDRESS: Final = Address(ROOM_KIND, "0" * 64, "replayed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a policy does from one arrival while it is answered 404. Ages in seconds since the nest was made.

    asked: shape (k,), ascending: when requests for a token are sent, the authenticated and the guest's; without `seats`
    of those at one instant the first, which gets what there is. answered: shape (k,): when its answer comes. requests:
    shape (k,): API requests made with it, should it succeed. total: those made when all fail. ended: the age at the
    verdict. own: shape (k,): whether it is the authenticated one. falls_back: whether a guest's follows that.
    round_trip_s: of a request.

    turns: so many courses of an arrival, one after the other, are of as many persons, whom nests meet in turn.

    seats: where requests fail, or the policy chooses between a guest's seat and the own one. Requests that failed then
    have no place in `asked`; all others have. upgrades: so many of the next authenticated requests are made from a
    guest's seat, too, at the ages at which they would be made without one (so where `max_requests` ends the rounds,
    a few fewer than live, where such a round takes one request).
    """

    arrival_s: float
    asked: Floats
    answered: Floats
    requests: Ints
    total: int
    ended: float
    own: Flags
    falls_back: bool
    round_trip_s: float
    seats: Seats | None = None
    upgrades: int = 0
    turns: int = 1


@dataclass(frozen=True, slots=True)
class Seats:
    """What the tokens of a course would lead to, where connections to LiveKit and requests fail, or who is signed in
    does not ask as a guest each time.

    taken: shape (k,): whether into the room. known: shape (k,): the age at which that is settled. own, guest: which of
    the k are authenticated and which a guest's, ascending, and then k.
    """

    taken: Flags
    known: Floats
    own: Ints
    guest: Ints

    def first(self, asked: Floats, at: Floats, own: Floats) -> Ints:
        """Of the course's requests `asked`, the first that gets a token, where guests do from `at` on and others from
        `own` on, each of shape (n,); k for none."""
        by_own = self.own[np.searchsorted(asked[self.own[:-1]], own)]
        return np.asarray(np.minimum(by_own, self.guest[np.searchsorted(asked[self.guest[:-1]], at)]))


def nest_at(origin: int) -> Nest:
    """A nest made at `origin` (ns UTC), for joins in virtual time; its event says so in whole seconds."""
    said = origin - round(GRAIN_S * SECOND_NS)
    return Nest(
        address=_ADDRESS,
        event_id="",
        created_at=said,
        first_created_at=said,
        name="",
        status="open",
        service="",
        streaming="",
        host="",
        relays=(),
    )


def course(
    policy: Policy,
    arrival_s: float,
    rng: np.random.Generator,
    *,
    signed_in: bool = True,
    round_trip_s: float = 0.0,
    network: Network | None = None,
    active: bool = False,
    person: Sequence[float] = (),
    turns: int = 1,
) -> Course:
    """Drive the join core from `arrival_s` through a world of 404s, each of which takes `round_trip_s`, and of the
    failures of `network`; None: of none. active: /info says active all the while, as of a standing fault. person: the
    first chances of the policy's person, each in [0, 1), patience first; what is not given is drawn. turns: as Course
    has it."""
    asked: list[tuple[int, int, int, bool]] = []
    seats: list[tuple[bool, int]] = []
    now = arrived = _ORIGIN + round(arrival_s * SECOND_NS)
    late, requests = round(round_trip_s * SECOND_NS), 0
    chooses = signed_in and any(getattr(policy, name) != now for name, now in SEATS.items())
    draws = _Led(person, rng) if person else rng
    flow = join_flow("replayed", signed_in, policy, arrived_at=arrived, rng=draws, nest=nest_at(_ORIGIN))
    try:
        step = next(flow)
        while True:
            sent, failed = now, None
            if isinstance(step, Wait):
                now = max(now, step.until)
            elif isinstance(step, REQUESTS):
                failed = None if network is None else network.request(step, sent, late)
                now, requests = now + late if failed is None else failed.at, requests + 1
            if failed is None and isinstance(step, _TOKENS):
                seat = None
                if network is not None:
                    seat = _seat(policy, network, rng, signed_in=signed_in, arrived=arrived, granted=now)
                elif chooses:
                    seat = True, now
                seats += [] if seat is None else [seat]
                if seat is not None or (network is None and (not asked or asked[-1][0] < sent)):
                    asked.append((sent, now, requests, isinstance(step, Join)))
            step = flow.send(failed or answer(step, now, there=active and isinstance(step, Info)))
    except StopIteration:
        pass
    begun, ended, made, own = zip(*asked, strict=True) if asked else ((), (), (), ())
    return Course(
        arrival_s=arrival_s,
        asked=_ages(begun),
        answered=_ages(ended),
        requests=np.array(made, dtype=np.int64),
        total=requests,
        ended=(now - _ORIGIN) / SECOND_NS,
        own=np.array(own, dtype=np.bool_),
        falls_back=404 in policy.fallback or not signed_in,
        round_trip_s=round_trip_s,
        seats=None if network is None and not chooses else _seats(seats, own),
        upgrades=policy.upgrades if signed_in else 0,
        turns=turns,
    )


def _seats(found: Sequence[tuple[bool, int]], own: Sequence[bool]) -> Seats:
    flags = np.array(own, dtype=np.bool_)
    by_own, by_guest = (np.append(np.flatnonzero(some), len(flags)) for some in (flags, ~flags))
    taken = np.array([seated for seated, _ in found], dtype=np.bool_)
    return Seats(taken, _ages([at for _, at in found]), by_own, by_guest)


def _seat(
    policy: Policy, network: Network, rng: np.random.Generator, *, signed_in: bool, arrived: int, granted: int
) -> tuple[bool, int] | None:
    """Whether a token that came at `granted` leads into the room, and when that is known: by the join core, which is
    given it for its first request. None: it does not, and a person finds Retry, as after any failed request (that it
    took the connection's time as well is left out)."""
    if not network.lost:
        return True, granted
    now, alone = granted, replace(policy, person=None)
    flow = join_flow("replayed", signed_in, alone, arrived_at=arrived, rng=rng, nest=nest_at(_ORIGIN))
    try:
        step = next(flow)
        while True:
            reply = (network.connect(step, now) if isinstance(step, Signal) else None) or answer(step, now, there=True)
            now = reply.at
            step = flow.send(reply)
    except StopIteration as ended:
        verdict: Verdict = ended.value
        return None if policy.person is not None and verdict.retry_offered else (verdict.joined, now)


class _Led:
    """Uniform numbers of which the first are given."""

    def __init__(self, first: Sequence[float], rest: np.random.Generator) -> None:
        self._first, self._rest = list(first), rest

    def random(self) -> float:
        return self._first.pop(0) if self._first else self._rest.random()


def _ages(instants: Sequence[int]) -> Floats:
    return np.array([(at - _ORIGIN) / SECOND_NS for at in instants], dtype=np.float64)


def answer(step: Step, at: int, *, there: bool) -> Reply:
    """What a nest says to a step: 404 while it is not there, a token and a seat when it is."""
    if isinstance(step, REQUESTS) and not there:
        return Reply(at, Outcome.ABSENT, status=404)
    if isinstance(step, _TOKENS):
        return Reply(at, Outcome.VISIBLE, status=200, token="replayed")
    return Reply(at, Outcome.VISIBLE, nest=nest_at(_ORIGIN) if isinstance(step, Load) else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What came of each row: shape (m, n), m imputations or bounds, means over the row's joiners.

    joined; lost: as timeline/seats.py defines it, under a patience of `PATIENCE_S`. delay: seconds from when it could
    be joined (or the arrival, if later) to the token, 0 when not joined, so that delay / joined is the mean of those
    who joined. requests: API requests. vain: seconds waited by those who did not join. delay_squared, requests_squared:
    the means of their squares, for the spread between joiners. listener: signed in, and a guest to the end though they
    could have had a seat of their own; listening: seconds as a guest of those who then had it. Both only of nests of
    which it is proven that the guest's route was first.
    """

    joined: Floats
    lost: Floats
    delay: Floats
    requests: Floats
    vain: Floats
    delay_squared: Floats
    requests_squared: Floats
    listener: Floats
    listening: Floats

    @classmethod
    def joint(cls, parts: Sequence[tuple[NDArray[np.bool_], Scores]]) -> Scores:
        """Scores of some rows each, put together: (which rows of all, their scores)."""
        size = len(parts[0][0])
        fields = {name: np.zeros((len(parts[0][1].joined), size)) for name in cls.__slots__}
        for name, whole in fields.items():
            for rows, part in parts:
                whole[:, rows] = getattr(part, name)
        return cls(**fields)

    @classmethod
    def stacked(cls, parts: Sequence[Scores]) -> Scores:
        """The rows of each, one below the other."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__})

    def map(self, change: Callable[[Floats], Floats]) -> Scores:
        """Each field changed alike."""
        return Scores(**{name: change(getattr(self, name)) for name in Scores.__slots__})

    def cost(self, prices: Prices) -> Floats:
        """Per joiner; of sums, the sum."""
        lacking = prices.listener_share
        waited = prices.delay_cost * (self.delay + lacking * self.listening) + prices.never_cost * self.vain
        return prices.request_cost * self.requests + waited + prices.lost_value * (self.lost + lacking * self.listener)


def courses(
    policy: Policy,
    arrivals: Floats,
    rng: np.random.Generator,
    *,
    signed_in: bool = True,
    round_trip_s: float = 0.0,
    shapes: int = SHAPES,
    people: int = PERSONS,
    failures: Failures | None = None,
    shares: Floats | None = None,
) -> list[list[Course]]:
    """For each arrival its courses: `shapes` of them where chance enters, else one; `people` where a person presses.

    failures: of requests; None, or none seen: there are none. shares: shape (shapes, 3), how much fails of each of
    failures.KINDS in each course of an arrival; None: as much as was measured. The chances of all courses together are
    stratified (a Latin hypercube): each course by itself is as any, and in all of them as much fails as should. Where a
    person presses as well, each of these shares has FEWER_PERSONS courses, in a row, at most `people`.
    """
    driven = partial(course, policy, rng=rng, signed_in=signed_in, round_trip_s=round_trip_s)
    luck = rng.spawn(1)[0]
    if failures is None or not failures.seen:
        if policy.person is not None:
            return [
                [driven(float(age), person=one, turns=people) for one in each]
                for age, each in zip(arrivals, persons(len(arrivals), people, luck).tolist(), strict=True)
            ]
        chance = policy.jitter > 0 or policy.schedule.kind == "full_jitter"
        return [[driven(float(age)) for _ in range(shapes if chance else 1)] for age in arrivals]
    each = np.tile(failures.shares(), (shapes, 1)) if shares is None else shares
    turns, who = 1, np.zeros((len(arrivals), len(each), 0))
    if policy.person is not None:
        turns = min(people, FEWER_PERSONS)
        each = np.repeat(each, turns, axis=0)
        who = persons(len(arrivals), len(each), rng.spawn(1)[0])
    return [
        [
            driven(
                float(age), network=Network(failures, luck, shares=tuple(share), first=first), person=one, turns=turns
            )
            for share, first, one in zip(each.tolist(), chances, met, strict=True)
        ]
        for age, chances, met in zip(arrivals, stratified(len(arrivals), len(each), luck), who.tolist(), strict=True)
    ]


def persons(arrivals: int, people: int, rng: np.random.Generator) -> Floats:
    """The first chances of so many persons of each arrival: shape (arrivals, people, LED).

    Points of a scrambled Sobol sequence, each uniform; one each for the arrivals of person 0, then of person 1, ..., so
    that these and all together fill the space evenly, arrivals with it.
    """
    from scipy.stats import qmc  # heavy, and wanted only where a person presses

    powers = math.ceil(math.log2(max(2, arrivals * people)))
    points = qmc.Sobol(LED + 1, rng=rng).random_base2(powers)[: arrivals * people].reshape(people, arrivals, LED + 1)
    order = np.argsort(points[..., :1], axis=1)
    return np.asarray(np.swapaxes(np.take_along_axis(points, order, axis=1)[..., 1:], 0, 1))


def stratified(arrivals: int, shapes: int, rng: np.random.Generator) -> Floats:
    """Uniform numbers of the first requests of courses: shape (arrivals, shapes, STRATIFIED, CHANCES).

    Each is uniform and independent of the others of its course; over the arrivals of one shape each lies in a part of
    its own of as many equal ones, and over all courses likewise.
    """
    size = (shapes, STRATIFIED, CHANCES)
    part = rng.permuted(np.broadcast_to(np.arange(arrivals), (*size, arrivals)), axis=-1)
    within = rng.permuted(np.broadcast_to(np.arange(shapes), (*size[1:], shapes)), axis=-1)
    within = (np.moveaxis(within, -1, 0)[..., None] + rng.random((*size, arrivals))) / shapes
    return np.asarray(np.moveaxis((part + within) / arrivals, -1, 0))


def score(
    found: Sequence[Sequence[Course]],
    times: Floats,
    gone: Floats,
    own: Floats | None = None,
    apart: Flags | None = None,
) -> Scores:
    """Each course's arrival against each row. times: shape (m, n). Imputation i takes the i-th course of an arrival;
    where those are of several persons, nest j the (i + j)-th of these.

    own: shape (m, n): from when the authenticated join itself succeeds; before that, from `times` on, only the guest's
    that follows it does, for one request more. None: both from `times` on. apart: shape (n,), where that is proven;
    None: everywhere.
    """
    own = times if own is None else own
    apart = np.ones(times.shape[1], dtype=np.bool_) if apart is None else apart
    met = _Meetings.of(found[0], times, gone, own, apart)
    sums = np.zeros((len(Scores.__slots__), times.size))
    for ways in found:
        for way, lot, nests in met.lots:
            sums[:, lot] += _one(ways[way], *nests)
    sums /= len(found)
    return Scores(**dict(zip(Scores.__slots__, met.sorted_back(sums), strict=True)))


def of_each(found: Sequence[Sequence[Course]], times: Floats, gone: Floats, own: Floats, apart: Flags) -> Scores:
    """As `score`, and of each joiner by itself: shape (m times arrivals, n)."""
    met = _Meetings.of(found[0], times, gone, own, apart)
    every = np.empty((len(Scores.__slots__), len(found), *times.shape))
    for number, ways in enumerate(found):
        each = np.concatenate([_one(ways[way], *nests) for way, _, nests in met.lots], axis=1)
        every[:, number] = met.sorted_back(each)
    every = every.reshape(len(every), -1, times.shape[1])
    return Scores(**dict(zip(Scores.__slots__, every, strict=True)))


@dataclass(frozen=True, slots=True)
class _Meetings:
    """Which course of an arrival meets which nest of which imputation, as `score` says: all that one course meets is
    scored at once. The same for each arrival, since all have as many courses.

    lots: which course, which places of those in the order of courses, and the nests there as `_one` takes them. order:
    the place of each of those among the (m, n).
    """

    lots: tuple[tuple[int, slice, tuple[Floats, Floats, Floats, Flags]], ...]
    order: Ints
    shape: tuple[int, int]

    @classmethod
    def of(cls, ways: Sequence[Course], times: Floats, gone: Floats, own: Floats, apart: Flags) -> _Meetings:
        """Of the courses of an arrival, as many as those of any other."""
        (imputations, nests), turns = times.shape, ways[0].turns
        rounds, which = np.divmod(np.arange(imputations)[:, None], len(ways) // turns)
        way = (which * turns + (rounds + np.arange(nests)) % turns).ravel()
        order = np.argsort(way, kind="stable")
        ends = np.searchsorted(way[order], np.arange(len(ways) + 1)).tolist()
        lots = []
        for number, (first, past) in enumerate(pairwise(ends)):
            for begin in range(first, past, AT_ONCE):
                lot = slice(begin, min(begin + AT_ONCE, past))
                of = order[lot] % nests
                lots.append((number, lot, (times.flat[order[lot]], own.flat[order[lot]], gone[of], apart[of])))
        return cls(tuple(lots), order, times.shape)

    def sorted_back(self, values: Floats) -> Floats:
        """Values in the order of courses, shape (k, m * n), as (k, m, n)."""
        found = np.empty_like(values)
        found[:, self.order] = values
        return found.reshape(-1, *self.shape)


def _one(way: Course, at: Floats, own: Floats, gone: Floats, apart: Flags) -> Floats:
    """The fields of Scores, in order, for one course against times of shape (n,)."""
    at = at if way.falls_back else own
    attempts = len(way.asked)
    if not attempts:
        idle = np.zeros(len(at))
        lost, asked = _lost(idle > 0, way, at, gone), idle + way.total
        return np.stack([idle, lost, idle, asked, idle + way.ended - way.arrival_s, idle, asked**2, idle, idle])
    seats = way.seats
    index = np.searchsorted(way.asked, at) if seats is None else seats.first(way.asked, at, own)
    reached = index < attempts
    index = np.minimum(index, attempts - 1)
    asked, answered, by_own = way.asked[index], way.answered[index], way.own[index]
    requests, ended = way.requests[index], np.asarray(way.ended)
    as_guest = ~by_own & bool(way.own.any())
    if seats is None:
        falls = by_own & (asked < own)
        later = np.where(falls, way.round_trip_s, 0.0)
        asked, answered, requests, as_guest = asked + later, answered + later, requests + falls, as_guest | falls
    granted = joined = reached & (asked < gone)
    if seats is not None:  # who falls back is in `asked`
        joined, ended = granted & seats.taken[index], np.where(granted, seats.known[index], ended)
    since = np.maximum(at, way.arrival_s)
    seated, more, listening = _upgraded(way, index, own, gone)
    could = joined & as_guest & apart & (own < gone)
    found = np.empty((len(Scores.__slots__), len(at)))
    found[0], found[1] = joined, _lost(joined, way, at, gone)
    found[2] = delay = np.where(joined, answered - np.where(joined, since, 0.0), 0.0)
    found[3] = requests = np.where(granted, requests, way.total) + np.where(joined & as_guest, more, 0)
    found[4] = np.where(joined, 0.0, ended - way.arrival_s)
    found[5], found[6] = delay**2, requests**2
    found[7], found[8] = could & ~seated, np.where(could & seated, listening, 0.0)
    return found


def _upgraded(way: Course, index: Ints, own: Floats, gone: Floats) -> tuple[Flags, Ints, Floats]:
    """Of those seated as a guest by request `index`: whether they come to a seat of their own, how many requests more
    they make for it, and after how many seconds they have it (0 where they do not)."""
    if not way.upgrades or way.seats is None or len(way.seats.own) < 2:  # the last one stands for none
        none = np.zeros(len(index))
        return none > 0, none.astype(np.int64), none
    mine = way.seats.own[:-1]
    begin = np.searchsorted(mine, index)
    right = np.maximum(np.searchsorted(way.asked[mine], own), begin)
    last = np.minimum(begin + way.upgrades, len(mine))
    found = np.minimum(right, len(mine) - 1)
    at = mine[found]
    seated = (right < last) & (way.asked[at] < gone) & way.seats.taken[at]
    return seated, np.minimum(right + 1, last) - begin, np.where(seated, way.answered[at] - way.answered[index], 0.0)


def _lost(joined: Flags, way: Course, at: Floats, gone: Floats) -> Floats:
    """1.0 where a joiner is lost; the instant at which the nest became joinable is known, so both its ends are that."""
    return are_lost(joined, way.arrival_s, way.arrival_s + PATIENCE_S, at, at, gone).astype(np.float64)
