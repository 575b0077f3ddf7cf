"""When to poll, fitted to a request budget before anything is sent, and the polling, which canary and watch share.

Polls of one layer stand at ages a_k = H * ((k - u) / n) ** p, k = 1..n: dense at first, sparse later, one random phase
u in [0, 1) for each nest and layer, so that over many nests every age is asked about (a fixed phase leaves the
distribution inside each cell unidentified). The gap at age a is close to (p * H / n) * (a / H) ** (1 - 1 / p).

A nest costs, at one API host: a PUT, a DELETE and the look whether it is gone, its joins, and n polls on each of info,
join and guest for each vantage behind that host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Any, Final

from nestobs.collector.station import Station
from nestobs.errors import BudgetError
from nestobs.join.policy import Uniform
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import Offset
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Source
from nestobs.sources.api import Answer
from nestobs.sources.vantage import Trace

EXPONENT: Final = 1.6
API_LAYERS: Final = 3
WANTED_POLLS: Final = 40
LEAST_POLLS: Final = 5
HORIZON_S: Final = 90.0
IN_FLIGHT: Final = 3
"""Attempts of one layer of one nest that may overlap; further ones are skipped, with a row."""

DEEDS: Final = 3
"""Requests that a nest costs whatever is asked of it: made, deleted, and looked for."""

LEAST_JOIN_REQUESTS: Final = 3
"""Requests of one round of a join: info, authenticated, guest."""

WANTED_JOIN_REQUESTS: Final = 15
RELAY_POLLS, CLIENT_LOADS = 20, 8
"""Queries of one relay about one nest, whose upper end the subscription beside them gives anyway; and of what the web
client would load."""

FIRST_ARRIVAL_S, LAST_ARRIVAL_SHARE = 0.5, 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What one nest gets: `polls` on each API layer until `horizon_s`, `join_requests` at most for each join."""

    polls: int
    horizon_s: float
    join_requests: int

    def ages_s(self, rng: Uniform, polls: int | None = None) -> tuple[float, ...]:
        """Ages of the polls of one layer of one nest, seconds, ascending, with a phase drawn from `rng`."""
        count = self.polls if polls is None else polls
        phase = rng.random()
        return tuple(self.horizon_s * ((k - phase) / count) ** EXPONENT for k in range(1, count + 1))

    def gap_s(self, age_s: float) -> float:
        """About how far apart two polls of one layer are at this age, seconds."""
        share = min(1.0, max(age_s, 1e-9) / self.horizon_s)
        return float(EXPONENT * self.horizon_s / self.polls * share ** (1 - 1 / EXPONENT))

    def resolution(self) -> str:
        """What the plan buys, in a sentence for people."""
        ages = [age for age in (2.0, 10.0, 30.0) if age < self.horizon_s] or [self.horizon_s]
        gaps = ", ".join(f"{self.gap_s(age):.1f} s at age {age:g} s" for age in ages)
        return f"{self.polls} polls of each API layer over {self.horizon_s:g} s: about one every {gaps}"


def fit(
    left: int,
    nests: int,
    *,
    vantages: int = 1,
    joins: int = 2,
    horizon_s: float = HORIZON_S,
    wanted: int = WANTED_POLLS,
) -> Plan:
    """The densest plan for `nests` nests that `left` requests at one host can pay.

    vantages: how many stations share that host; joins: how many joins each of them makes per nest. Raises BudgetError
    that says how many nests would fit.
    """

    def polls(count: int, join_requests: int) -> int:
        share = left // count - DEEDS - vantages * joins * join_requests
        return min(wanted, share // (API_LAYERS * vantages))

    for join_requests in range(WANTED_JOIN_REQUESTS, LEAST_JOIN_REQUESTS - 1, -1):
        if polls(nests, join_requests) >= min(wanted, max(LEAST_POLLS, 3 * join_requests)):
            return Plan(polls(nests, join_requests), horizon_s, join_requests)
    if (found := polls(nests, LEAST_JOIN_REQUESTS)) >= LEAST_POLLS:
        return Plan(found, horizon_s, LEAST_JOIN_REQUESTS)
    each = DEEDS + vantages * (joins * LEAST_JOIN_REQUESTS + API_LAYERS * LEAST_POLLS)
    raise BudgetError(
        f"{left} requests are left in this host's budget and one nest needs at least {each}: "
        + (f"ask for at most {left // each} nests" if left >= each else "wait until the window has passed")
    )


def arrival_age_s(horizon_s: float, rng: Uniform) -> float:
    """At which age of a nest that is watched so long a joiner comes: log-uniform, from half a second to its middle."""
    latest_s = horizon_s * LAST_ARRIVAL_SHARE
    return float(FIRST_ARRIVAL_S * (latest_s / FIRST_ARRIVAL_S) ** rng.random())


Ask = Callable[..., Coroutine[Any, Any, object]]
"""One question to one target: told nothing but `planned_at`, when it was due."""


async def poll(station: Station, trace: Trace, origin: int, asks: Iterable[tuple[Sequence[float], Ask]]) -> None:
    """Ask each question of a nest at origin + each of its ages, on absolute deadlines; attempts of a question may
    overlap, at most `IN_FLIGHT` of them.

    A poll that would be one too many is not asked and leaves a row that says so. Once the API has shown the nest the
    phase of what is asked of it is no evidence any more: such a poll is put off or brought forward, by less than a
    second and not past its neighbours, to where it tells most of the API's clock, while that is not known well enough
    (`Relation.best_near`). It is planned anew then: `planned_at` is that instant.

    One task waits for all questions of a nest, since thousands of nests may be followed at a time: what waits is small.
    """
    polls = [_Polls(tuple(origin + round(age_s * SECOND_NS) for age_s in ages_s), ask) for ages_s, ask in asks]
    due = [(each.dues[0], number) for number, each in enumerate(polls) if each.dues]
    heapify(due)
    async with asyncio.TaskGroup() as group:
        while due:
            at, number = due[0]
            await station.clock.until(at)
            each = polls[number]
            if len(each.under_way) < IN_FLIGHT:
                each.begin(group, at)
            else:
                _skip(station, trace, at)
            after = each.after(station)
            heappop(due) if after is None else heapreplace(due, (after, number))


@dataclass(slots=True)
class _Polls:
    """One question at the instants at which it is due, ascending. free: whether the API has shown the nest last."""

    dues: tuple[int, ...]
    ask: Ask
    turn: int = 0
    free: bool = False
    under_way: tuple[asyncio.Task[object], ...] = ()

    def begin(self, group: asyncio.TaskGroup, at: int) -> None:
        """Ask."""
        task = group.create_task(self.ask(planned_at=at))
        self.under_way = (*self.under_way, task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[object]) -> None:
        self.under_way = tuple(each for each in self.under_way if each is not task)
        if not task.cancelled() and task.exception() is None and isinstance(found := task.result(), Answer):
            outcome = found.row.outcome
            self.free = outcome is Outcome.VISIBLE or (self.free and outcome is not Outcome.ABSENT)

    def after(self, station: Station) -> int | None:
        """When it is to be asked next, ns UTC; None: it was the last time."""
        self.turn += 1
        if self.turn == len(self.dues):
            return None
        due = self.dues[self.turn]
        if not self.free:
            return due
        latest = self.dues[self.turn + 1] if self.turn + 1 < len(self.dues) else due + SECOND_NS
        return station.vantage.relation.best_near(due, earliest=station.clock.now(), latest=latest)


CLOCK_REQUESTS: Final = 5
"""So many questions at instants that are chosen for it tell the API's clock to some hundredths of a second."""

_SPARE: Final = 8 * CLOCK_REQUESTS


async def compare_clocks(station: Station) -> Offset | None:
    """Ask the API a few times when its second turns, where the budget has requests to spare and it is not known well
    enough; how far our clock is ahead then, None where no answer tells. A few seconds at most."""
    relation, clock = station.vantage.relation, station.clock
    for _ in range(CLOCK_REQUESTS):
        now = clock.now()
        if relation.settled(now) or station.api.limiter.left(now, bursts=False) < _SPARE:
            break
        soon = now + SECOND_NS // 2 if relation.known else now
        due = relation.best_near(soon, earliest=now, latest=now + 2 * SECOND_NS)
        await clock.until(due)
        await station.api.time(planned_at=due)
        told = relation.at(now)
        if told is None or told.age_s > 0.0:  # that answer told nothing, so another will not either
            break
    return relation.at(clock.now())


def _skip(station: Station, trace: Trace, due: int) -> None:
    station.vantage.record(
        trace,
        sent_at=station.clock.now(),
        planned_at=due,
        source=Source.CLOCK,
        target="clock:",
        operation=Operation.STEP,
        outcome=Outcome.PROBE_ERROR,
        failure=Failure.SKIPPED,
        failure_layer=FailureLayer.PROBER,
        reason=f"not asked: {IN_FLIGHT} attempts still under way",
    )
