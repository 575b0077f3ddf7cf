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

SHAPES: Final = 4
"""A policy with jitter is driven so many times from each arrival."""

_INF: Final = math.inf
_ORIGIN: Final = 1_000_000_000 * SECOND_NS
_ADDRESS: Final = Address(ROOM_KIND, "0" * 64, "replayed")


@dataclass(frozen=True, slots=True)
class Course:
    """What a policy does from one arrival while it is answered 404. Ages in seconds since the nest was made.

    asked: shape (k,), ascending: when each round's join request is sent. answered: shape (k,): when its answer comes.
    requests: shape (k,): API requests made with it, should it succeed. total: those made when all fail. ended: the age
    at the verdict.
    """

    arrival_s: float
    asked: Floats
    answered: Floats
    requests: Ints
    total: int
    ended: float


def nest_at(origin: int) -> Nest:
    """A nest made at `origin` (ns UTC), for joins in virtual time."""
    return Nest(_ADDRESS, "", origin, origin, "", "open", "", "", "", ())


def course(
    policy: Policy, arrival_s: float, rng: np.random.Generator, *, signed_in: bool = True, round_trip_s: float = 0.0
) -> Course:
    """Drive the join core from `arrival_s` through a world of 404s, each of which takes `round_trip_s`."""
    asked: list[tuple[float, float, int]] = []
    now = arrived = _ORIGIN + round(arrival_s * SECOND_NS)
    late, requests = round(round_trip_s * SECOND_NS), 0
    telling = Join if signed_in else Guest
    flow = join_flow("replayed", signed_in, policy, arrived_at=arrived, rng=rng, nest=nest_at(_ORIGIN))
    try:
        step = next(flow)
        while True:
            sent = now
            if isinstance(step, Wait):
                now = max(now, step.until)
            elif isinstance(step, Info | Join | Guest):
                now, requests = now + late, requests + 1
            if isinstance(step, telling):
                asked.append(((sent - _ORIGIN) / SECOND_NS, (now - _ORIGIN) / SECOND_NS, requests))
            step = flow.send(_absent(step, now))
    except StopIteration:
        pass
    sent_s, answered_s, made = zip(*asked, strict=True) if asked else ((), (), ())
    return Course(
        arrival_s,
        np.array(sent_s, dtype=np.float64),
        np.array(answered_s, dtype=np.float64),
        np.array(made, dtype=np.int64),
        requests,
        (now - _ORIGIN) / SECOND_NS,
    )


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


def score(found: Sequence[Sequence[Course]], times: Floats, gone: Floats) -> Scores:
    """Each course's arrival against each row. times: shape (m, n). Imputation i takes the i-th course of an arrival."""
    sums = np.zeros((7, *times.shape))
    for shapes in found:
        for row, at in enumerate(times):
            sums[:, row] += _one(shapes[row % len(shapes)], at, gone)
    return Scores(*(sums / len(found)))


def _one(way: Course, at: Floats, gone: Floats) -> Floats:
    """The fields of Scores for one course against times of shape (n,)."""
    attempts = len(way.asked)
    if not attempts:
        there = (at < _INF) & (gone > np.maximum(at, way.arrival_s))
        idle = np.zeros(len(at))
        asked = idle + way.total
        return np.stack([idle, there.astype(np.float64), idle, asked, idle + way.ended - way.arrival_s, idle, asked**2])
    index = np.searchsorted(way.asked, at)
    reached = index < attempts
    index = np.minimum(index, attempts - 1)
    joined = reached & (way.asked[index] < gone)
    since = np.maximum(at, way.arrival_s)
    lost = ~joined & (since < _INF) & (gone > since)
    delay = np.where(joined, way.answered[index] - np.where(joined, since, 0.0), 0.0)
    requests = np.where(joined, way.requests[index], way.total)
    vain = np.where(joined, 0.0, way.ended - way.arrival_s)
    return np.stack([joined, lost, delay, requests, vain, delay**2, requests**2])
