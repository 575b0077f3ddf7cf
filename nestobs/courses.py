"""What a policy does while it is answered 404, and what comes of it: the join core in virtual time.

That a nest becomes joinable does not depend on our asking. So all that a policy does with a nest that is not there is
its *course*: the ages at which it asks, found by driving `join_flow` once through a world where nothing ever comes. A
nest that becomes joinable at T is then joined by the first attempt of the course at or after T. A course is driven once
and scored against any number of nests by a search in sorted ages; `play` goes the long way, step by step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nestobs.join import Guest, Info, Join, Load, Media, Reply, Signal, Stay, Step, Verdict, Wait, join_flow
from nestobs.nest import SECOND_NS, Nest
from nestobs.nostr import ROOM_KIND, Address
from nestobs.observation import Outcome
from nestobs.policy import Policy
from nestobs.schedule import Prices

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

SHAPES: Final = 4
"""A policy with jitter is driven so many times from each arrival."""

_INF: Final = math.inf
_ORIGIN: Final = 1_000_000_000 * SECOND_NS
GRAIN_S: Final = 0.5
"""created_at is whole seconds, cut: by a client's reckoning a nest is half a second older than it is, on average."""

_ADDRESS: Final = Address(ROOM_KIND, "0" * 64, "replayed")


@dataclass(frozen=True, slots=True)
class Course:
    """What a policy does from one arrival while it is answered 404. Ages in seconds since the nest was made.

    asked: shape (k,), ascending: when requests for a token are sent, the authenticated and the guest's; of those at one
    instant the first, which gets what there is. answered: shape (k,): when its answer comes. requests: shape (k,): API
    requests made with it, should it succeed. total: those made when all fail. ended: the age at the verdict. own: shape
    (k,): whether it is the authenticated one. falls_back: whether a guest's follows that. round_trip_s: of a request.
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


def nest_at(origin: int) -> Nest:
    """A nest made at `origin` (ns UTC), for joins in virtual time; its event says so in whole seconds."""
    said = origin - round(GRAIN_S * SECOND_NS)
    return Nest(_ADDRESS, "", said, said, "", "open", "", "", "", ())


def course(
    policy: Policy, arrival_s: float, rng: np.random.Generator, *, signed_in: bool = True, round_trip_s: float = 0.0
) -> Course:
    """Drive the join core from `arrival_s` through a world of 404s, each of which takes `round_trip_s`."""
    asked: list[tuple[int, int, int, bool]] = []
    now = arrived = _ORIGIN + round(arrival_s * SECOND_NS)
    late, requests = round(round_trip_s * SECOND_NS), 0
    flow = join_flow("replayed", signed_in, policy, arrived_at=arrived, rng=rng, nest=nest_at(_ORIGIN))
    try:
        step = next(flow)
        while True:
            sent = now
            if isinstance(step, Wait):
                now = max(now, step.until)
            elif isinstance(step, Info | Join | Guest):
                now, requests = now + late, requests + 1
            if isinstance(step, Join | Guest) and (not asked or asked[-1][0] < sent):
                asked.append((sent, now, requests, isinstance(step, Join)))
            step = flow.send(_absent(step, now))
    except StopIteration:
        pass
    begun, ended, made, own = zip(*asked, strict=True) if asked else ((), (), (), ())
    return Course(
        arrival_s,
        _ages(begun),
        _ages(ended),
        np.array(made, dtype=np.int64),
        requests,
        (now - _ORIGIN) / SECOND_NS,
        np.array(own, dtype=np.bool_),
        404 in policy.fallback,
        round_trip_s,
    )


def _ages(instants: Sequence[int]) -> Floats:
    return np.array([(at - _ORIGIN) / SECOND_NS for at in instants], dtype=np.float64)


def _absent(step: Step, at: int) -> Reply:
    if isinstance(step, Load):
        return Reply(at, Outcome.VISIBLE, nest=nest_at(_ORIGIN))
    return Reply(at, Outcome.VISIBLE if isinstance(step, Wait) else Outcome.ABSENT, status=404)


def play(
    policy: Policy,
    joinable_s: float,
    arrival_s: float,
    rng: np.random.Generator,
    *,
    gone_s: float = _INF,
    signed_in: bool = True,
    round_trip_s: float = 0.0,
) -> Verdict:
    """One join of a nest that is joinable from `joinable_s` until `gone_s`, step by step: what courses shorten."""
    now = arrived = _ORIGIN + round(arrival_s * SECOND_NS)
    flow = join_flow("replayed", signed_in, policy, arrived_at=arrived, rng=rng, nest=nest_at(_ORIGIN))
    try:
        step = next(flow)
        while True:
            there = joinable_s <= (now - _ORIGIN) / SECOND_NS < gone_s
            now += round(round_trip_s * SECOND_NS) if isinstance(step, Info | Join | Guest) else 0
            now = max(now, step.until) if isinstance(step, Wait) else now
            step = flow.send(answer(step, now, there=there))
    except StopIteration as ended:
        verdict: Verdict = ended.value
        return verdict


def answer(step: Step, at: int, *, there: bool) -> Reply:
    """What a nest says to a step: 404 while it is not there, a token and a seat when it is."""
    if isinstance(step, Info | Join | Guest) and not there:
        return Reply(at, Outcome.ABSENT, status=404)
    if isinstance(step, Join | Guest):
        return Reply(at, Outcome.VISIBLE, status=200, token="replayed")
    if isinstance(step, Signal | Media | Stay | Info | Wait):
        return Reply(at, Outcome.VISIBLE)
    return _absent(step, at)


@dataclass(frozen=True, slots=True)
class Scores:
    """What came of each row: shape (m, n), m imputations or bounds, means over the row's joiners.

    joined; lost: it was there to be joined at or after the arrival, and was not. delay: seconds from when it could be
    joined (or the arrival, if later) to the token, 0 when not joined, so that delay / joined is the mean of those who
    joined. requests: API requests. vain: seconds waited by those who did not join. delay_squared, requests_squared:
    the means of their squares, for the spread between joiners.
    """

    joined: Floats
    lost: Floats
    delay: Floats
    requests: Floats
    vain: Floats
    delay_squared: Floats
    requests_squared: Floats

    @classmethod
    def joint(cls, parts: Sequence[tuple[NDArray[np.bool_], Scores]]) -> Scores:
        """Scores of some rows each, put together: (which rows of all, their scores)."""
        size = len(parts[0][0])
        fields = []
        for name in cls.__slots__:
            whole = np.zeros((len(parts[0][1].joined), size))
            for rows, part in parts:
                whole[:, rows] = getattr(part, name)
            fields.append(whole)
        return cls(*fields)

    def cost(self, prices: Prices) -> Floats:
        """Per joiner."""
        waited = prices.delay_cost * self.delay + prices.never_cost * self.vain
        return prices.request_cost * self.requests + waited + prices.lost_value * self.lost


def courses(
    policy: Policy,
    arrivals: Floats,
    rng: np.random.Generator,
    *,
    signed_in: bool = True,
    round_trip_s: float = 0.0,
    shapes: int = SHAPES,
) -> list[list[Course]]:
    """For each arrival its courses: `shapes` of them where chance enters, else one."""
    chance = policy.jitter > 0 or policy.schedule.kind == "full_jitter"
    return [
        [
            course(policy, float(age), rng, signed_in=signed_in, round_trip_s=round_trip_s)
            for _ in range(shapes if chance else 1)
        ]
        for age in arrivals
    ]


def score(found: Sequence[Sequence[Course]], times: Floats, gone: Floats, own: Floats | None = None) -> Scores:
    """Each course's arrival against each row. times: shape (m, n). Imputation i takes the i-th course of an arrival.

    own: shape (m, n): from when the authenticated join itself succeeds; before that, from `times` on, only the guest's
    that follows it does, for one request more. None: both from `times` on.
    """
    own = times if own is None else own
    sums = np.zeros((7, *times.shape))
    for shapes in found:
        for row, (at, by_own) in enumerate(zip(times, own, strict=True)):
            sums[:, row] += _one(shapes[row % len(shapes)], at, by_own, gone)
    return Scores(*(sums / len(found)))


def _one(way: Course, at: Floats, own: Floats, gone: Floats) -> Floats:
    """The fields of Scores for one course against times of shape (n,)."""
    at = at if way.falls_back else np.where(way.own.any(), own, at)
    attempts = len(way.asked)
    if not attempts:
        there = (at < _INF) & (gone > np.maximum(at, way.arrival_s))
        idle = np.zeros(len(at))
        asked = idle + way.total
        return np.stack([idle, there.astype(np.float64), idle, asked, idle + way.ended - way.arrival_s, idle, asked**2])
    index = np.searchsorted(way.asked, at)
    reached = index < attempts
    index = np.minimum(index, attempts - 1)
    as_guest = way.own[index] & (way.asked[index] < own)
    later = np.where(as_guest, way.round_trip_s, 0.0)
    joined = reached & (way.asked[index] + later < gone)
    since = np.maximum(at, way.arrival_s)
    lost = ~joined & (since < _INF) & (gone > since)
    delay = np.where(joined, way.answered[index] + later - np.where(joined, since, 0.0), 0.0)
    requests = np.where(joined, way.requests[index] + as_guest, way.total)
    vain = np.where(joined, 0.0, way.ended - way.arrival_s)
    return np.stack([joined, lost, delay, requests, vain, delay**2, requests**2])
