"""When to poll: the schedule of least expected cost, by an exact dynamic program. Pure.

What polls cost is said in costs.py. These are inspection schedules (Barlow & Proschan 1963, with a choice to stop).

On ascending nodes t_i the state is (i, polls left). A poll at j ties state i to its future by the product w H_i t_j
alone: the rest of the step is a function of i plus one of j. H falls and t rises, so (t_j - t_j') (H_i - H_i') <= 0:
the step is Monge, the best next poll is monotone in the age, and it is the lowest of the lines t_j q + u_j at
q = w H_i. Going backwards q rises while ever flatter lines join, so one pass over their lower envelope is exact and
takes O(N) for each number of polls left; with unlimited polls one pass is all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from numbers import Integral
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nestobs.estimate.law import Law, LawError, Survival, survival
from nestobs.join.policy import gap_at
from nestobs.observation.arrays import Floats
from nestobs.tuning.costs import MAX_NODES, Curve, Prices, grid_nodes, seen

Steps = NDArray[np.int32]

RESOLUTION_S: Final = 2e-7
"""How fine `PollTable.times` are searched. The cost is flat there: rounding leaves them good to about 1e-6 s."""

MAX_ROWS: Final = 1_000
"""What a table of policy.Schedule holds."""

FINER: Final = 8
REACH: Final = 10
"""A window of the refinement reaches so many of its steps to either side: more than one of the round before."""

RECENTRINGS: Final = 20

ROUND_GAPS_S: Final = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0)
CHANGE_AGES_S: Final = (2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)
ROUND_STOP_S: Final = 5.0
SIMPLE_ENOUGH: Final = 0.01
"""A row more is worth having only for more than this share of the cost."""


class Expected(NamedTuple):
    """Per joiner: requests after the first 404, seconds between coming and the poll that saw it, share come unseen."""

    requests: float
    delay: float
    lost: float


class Jittered(NamedTuple):
    """cost: mean over the draws. price: relative to the same table without jitter. error: standard error of `price`."""

    cost: float
    price: float
    error: float


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PollTable:
    """The next poll for every age of the last 404 and every number of polls left; immutable, made by `optimal_polls`.

    truth: the law it was made for. nodes: the grid, from 0 to the horizon. following[k, i]: node of the next poll of
    one whose last 404 was at node i with k + 1 polls left (at least that many in the last row), -1 to stop; one row
    when `polls` is None, unlimited. grid_cost: the least cost of polls on the grid.
    """

    truth: Survival
    prices: Prices
    grid: float
    polls: int | None
    nodes: Floats
    following: Steps
    grid_cost: float

    def __repr__(self) -> str:
        """When it polls, from age 0."""
        some = ", ".join(f"{age:g}" for age in self.grid_times[:6])
        more = f", ... ({len(self.grid_times)} polls)" if len(self.grid_times) > 6 else ""
        return f"<PollTable: polls at {some or 'no age'}{more} s, stops at {self.stop_age:g} s>"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{number}</td><td>{age:g}</td></tr>" for number, age in enumerate(self.grid_times, 1))
        return f"<table><tr><th>poll</th><th>at age, s</th></tr>{rows}</table>"

    @property
    def horizon(self) -> float:
        """No poll is later than this age, seconds."""
        return float(self.nodes[-1])

    @property
    def stop_age(self) -> float:
        """The least grid age from which it says stop for good, with all polls left; a policy's give-up age, seconds."""
        going = np.flatnonzero(self.following[-1] >= 0)
        return float(self.nodes[going[-1] + 1]) if len(going) else 0.0

    @cached_property
    def grid_times(self) -> tuple[float, ...]:
        """Ages of the polls from age 0, on the grid, seconds: what `next` gives."""
        return tuple(self.nodes[_path(self.following, self.polls)].tolist())

    @cached_property
    def times(self) -> tuple[float, ...]:
        """Ages of the polls from age 0 with all polls left, off the grid to RESOLUTION_S seconds.

        The same program on windows around each poll, FINER times as fine each round, about new centres until every
        poll lies inside its window: the best schedule near the grid's, never worse. A request that is free would be
        made without end: then, as where it would need more than MAX_NODES nodes, the times found so far are kept.
        """
        times, step = np.array(self.grid_times), self.grid
        while self.prices.request_cost > 0.0 and step > RESOLUTION_S and len(times):
            step /= FINER
            for _ in range(RECENTRINGS):
                nodes = _windows(times, step, self.horizon)
                if len(nodes) + len(self.nodes) > MAX_NODES:
                    return tuple(times.tolist())
                curve, centres = Curve.of(self.truth, nodes, self.nodes), times
                times = _least(curve, self.prices, self.polls, centres)
                if len(times) == len(centres) and (np.abs(times - centres) < (REACH - 0.5) * step).all():
                    break
        return tuple(times.tolist())

    @cached_property
    def cost(self) -> float:
        """Expected cost of `times` under the table's own law."""
        return float(_costs(self, self.truth, np.array([0.0, *self.times])))

    def next(self, age: float, left: int | None = None) -> float | None:
        """Age of the next poll of one whose last 404 was at `age` with `left` polls left, seconds; None: stop.

        Between nodes the gap of the node below is kept, but no longer than to the next poll of the node above: so the
        result never falls with the age, is above it, and at most the horizon. Ages below 0 are read as 0. left: None is
        all of them; a table of unlimited polls heeds only 0. Raises LawError when the age is not a number.
        """
        if math.isnan(age):
            raise LawError("give the age of the last 404 as a number of seconds, not nan")
        found = float(self.after(np.array([age]), left)[0])
        return None if math.isnan(found) else found

    def after(self, ages: Floats, left: int | None = None) -> Floats:
        """`next` for many ages; NaN: stop."""
        if left is not None and left < 1:
            return np.full(len(ages), math.nan)
        row = self.following[-1 if left is None else min(left, len(self.following)) - 1]
        ages = np.maximum(ages, 0.0)
        at = np.searchsorted(self.nodes, ages, "right") - 1
        ahead, above = row[at], row[np.minimum(at + 1, len(row) - 1)]
        kept = self.nodes[ahead] + (ages - self.nodes[at])
        return np.where(ahead < 0, math.nan, np.minimum(kept, np.where(above < 0, self.horizon, self.nodes[above])))

    def follow(self, age: float = 0.0) -> tuple[float, ...]:
        """Ages of all polls by `next` of one whose last 404 was at `age`, with all polls left; none when it stops."""
        times: list[float] = []
        left, at = self.polls, self.next(age, self.polls)
        while at is not None:
            times.append(at)
            left = None if left is None else left - 1
            at = self.next(at, left)
        return tuple(times)

    def expected(self, law: Law, never: float | None = None) -> Expected:
        """What `times` bring under any law, by joiner of age 0; those who come by age 0 need nothing and count.

        Under the table's own law, c_r requests + w delay + V lost + w0 c x_n is `cost`. Raises as `survival`.
        """
        walk = np.array([0.0, *self.times])
        return Expected(*(float(part) for part in seen(survival(law, never), walk, self.nodes)))

    def grid_cost_under(self, law: Law, never: float | None = None) -> float:
        """Expected cost of `grid_times` under any law. Raises as `survival`."""
        return float(_costs(self, survival(law, never), np.array([0.0, *self.grid_times])))


def optimal_polls(
    law: Law,
    never: float | None = None,
    *,
    request_cost: float,
    delay_cost: float,
    lost_value: float,
    horizon: float,
    polls: int | None = None,
    grid: float = 0.25,
    never_cost: float = 0.0,
) -> PollTable:
    """The schedule of least expected cost (see the module) after a 404, for every age of the last one.

    law, never: as for `survival`; None takes the law's own share. Costs are in one unit: request_cost of a request,
    delay_cost of a second of delay, lost_value of one who comes unseen, never_cost of a second of one who never gets
    in. lost_value may be inf: then it polls until SURELY all have come, else until the horizon, and what is still to
    come there is not charged. horizon, grid: seconds; polls stand on multiples of `grid` in (0, horizon] and on the
    horizon. polls: at most so many; None is unlimited. Ties: fewer polls, then the later one.

    Raises LawError for costs that are negative, infinite or NaN, a horizon or grid that is not above 0, a grid above
    the horizon, more than MAX_NODES nodes, polls below 1, and as `survival`. Source: Barlow & Proschan (1963).
    """
    prices = Prices(request_cost, delay_cost, lost_value, never_cost)
    truth = survival(law, never)
    if polls is not None:
        if isinstance(polls, bool) or not isinstance(polls, Integral) or polls < 1:
            raise LawError(f"give polls as a whole number from 1, or None for no limit, not {polls!r}")
        polls = int(polls)
    curve = Curve.of(truth, grid_nodes(horizon, grid))
    following, cost = _solve(curve, prices, polls)
    return PollTable(
        truth=truth, prices=prices, grid=grid, polls=polls, nodes=curve.nodes, following=following, grid_cost=cost
    )


def jittered(
    table: PollTable,
    law: Law,
    never: float | None = None,
    *,
    jitter: float = 0.2,
    full: bool = False,
    rng: np.random.Generator,
    draws: int = 200,
) -> Jittered:
    """What the table costs when each gap is multiplied by a uniform factor in [1 - jitter, 1 + jitter), from age 0.

    full: the factor is in [0, 1) instead (full jitter, Brooker 2015). The gaps follow `next` from the ages the polls
    really had, and are no shorter than a grid step before the factor; a poll may so fall after the horizon. `price`
    compares with the same table without jitter. Raises LawError for a jitter outside [0, 1] or fewer than 2 draws.
    """
    if not 0.0 <= jitter <= 1.0 or draws < 2:
        raise LawError("give jitter as a share of the gap from 0 to 1, and at least 2 draws")
    truth = survival(law, never)
    low, high = (0.0, 1.0) if full else (1.0 - jitter, 1.0 + jitter)
    walk, left = [np.zeros(draws)], table.polls
    while not np.isnan(following := table.after(walk[-1], left)).all():
        gaps = np.maximum(following - walk[-1], table.grid) * rng.uniform(low, high, draws)
        walk.append(np.where(np.isnan(gaps), walk[-1], walk[-1] + gaps))
        left = None if left is None else left - 1
    plain = table.grid_cost_under(law, never)
    costs = _costs(table, truth, np.array(walk))
    mean, error = float(costs.mean()), float(costs.std(ddof=1) / math.sqrt(draws))
    return Jittered(mean, mean / plain - 1.0, error / plain) if plain > 0.0 else Jittered(mean, 0.0, 0.0)


def rows(table: PollTable) -> tuple[tuple[float, float], ...]:
    """Rows (age_s, gap_s) for policy.Schedule("table"), ages ascending from 0, at most MAX_ROWS.

    A row holds from its age to the next row's; there is one wherever the gap differs from the last row's, and where
    those would be too many, wherever it differs by enough. At every grid age below `stop_age`, the policy's give-up
    age, age + gap is then what `next` says, to that much. Where the table stops for a while only, and in the one row of
    a table that stops at once, the gap is the horizon: such a wait ends after it. Raises LawError for a table of
    limited polls, whose gaps depend on how many are left.
    """
    if table.polls is not None:
        raise LawError("rows have no number of polls left: give a table made with polls=None")
    following = table.following[-1][table.nodes < table.stop_age]
    gaps = np.where(following < 0, table.horizon, table.nodes[following] - table.nodes[: len(following)])
    slack = table.grid * 1e-6
    while len(found := _changes(gaps, slack)) > MAX_ROWS:
        slack *= 2.0
    return tuple((float(table.nodes[at]), float(gaps[at])) for at in found) or ((0.0, table.horizon),)


def walked(rows: Sequence[tuple[float, float]], until: float) -> list[float]:
    """Age 0 and the ages of the polls by the rows of a table after it, seconds, up to the first from `until` on."""
    ages = [0.0]
    while ages[-1] < until:
        ages.append(ages[-1] + gap_at(rows, ages[-1]))
    return ages


def _changes(gaps: Floats, slack: float) -> list[int]:
    found: list[int] = []
    for at, gap in enumerate(gaps.tolist()):
        if not found or abs(gap - gaps[found[-1]]) > slack:
            found.append(at)
    return found


@dataclass(frozen=True, slots=True)
class SimplePolls:
    """A schedule a person would type. rows: (age_s, gap_s) as of policy.Schedule. times: its polls from age 0, seconds.

    cost: expected, at the table's prices and law. price: what it costs more than the table, relative to that.
    """

    rows: tuple[tuple[float, float], ...]
    give_up_age: float
    times: tuple[float, ...]
    cost: float
    price: float


def simple(table: PollTable) -> SimplePolls:
    """The cheapest schedule in round numbers at the table's law and prices, with what it costs more than the table.

    One to three rows: gaps of ROUND_GAPS_S, changed at CHANGE_AGES_S, a give-up age that is a multiple of
    ROUND_STOP_S; a poll that would fall after the horizon is made at the horizon. All of these are tried, and the
    fewest rows within SIMPLE_ENOUGH of the best are taken. Raises LawError for a table of limited polls, and for a
    horizon of more than MAX_NODES of the smallest gap.
    """
    if table.polls is not None:
        raise LawError("a simple schedule has no number of polls left: give a table made with polls=None")
    unit = ROUND_GAPS_S[0]
    curve = Curve.of(table.truth, grid_nodes(table.horizon, min(unit, table.horizon)), table.nodes)
    ahead = np.array(_sweep(curve, table.prices)[0])
    found: list[_Cheapest] = []
    for count in (1, 2, 3):
        found.append(_cheapest(curve, table.prices, count, ahead, found[-1] if found else None))
    enough = min(cost for cost, *_ in found) * (1.0 + SIMPLE_ENOUGH)
    _, kept, stop = next(one for one in found if one[0] <= enough)
    times = np.minimum(walked(kept, min(stop, table.horizon)), table.horizon)
    cost = float(_costs(table, table.truth, times))
    price = cost / table.cost - 1.0 if table.cost > 0.0 else 0.0
    return SimplePolls(kept, stop, tuple(times[1:].tolist()), cost, price)


_Cheapest = tuple[float, tuple[tuple[float, float], ...], float]


def _cheapest(curve: Curve, prices: Prices, count: int, ahead: Floats, known: _Cheapest | None) -> _Cheapest:
    """Cost, rows and give-up age of the best of all schedules with `count` rows, walked side by side; `known`, that of
    fewer rows, where none of them is better.

    One is dropped that costs more than the best with what is surely still to come: `ahead`, the least cost from each
    node on by any schedule at all.
    """
    gaps, ages = _both(list(product(ROUND_GAPS_S, repeat=count)), list(combinations(CHANGE_AGES_S, count - 1)))
    jumps = np.round(gaps / ROUND_GAPS_S[0]).astype(np.int64)
    over, last = prices.stop(curve), len(curve.nodes) - 1
    best: _Cheapest = (float(over[0]), ((0.0, ROUND_GAPS_S[-1]),), 0.0) if known is None else known
    at, spent = np.zeros(len(gaps), dtype=np.int64), np.zeros(len(gaps))
    while len(at):
        row = (ages <= curve.nodes[at, None]).sum(axis=1)
        to = np.minimum(at + jumps[np.arange(len(at)), row], last)
        spent = spent + prices.step(curve, at, to)
        stop = np.where(to < last, curve.nodes[to] // ROUND_STOP_S, np.ceil(curve.nodes[to] / ROUND_STOP_S))
        total = np.where(stop * ROUND_STOP_S > curve.nodes[at], spent + over[to], math.inf)
        if total.min() < best[0]:
            i, end = int(total.argmin()), float(stop[total.argmin()] * ROUND_STOP_S)
            best = float(total[i]), tuple(zip((0.0, *ages[i].tolist()), gaps[i].tolist(), strict=True)), end
        on = (to < last) & (spent + ahead[to] <= best[0] * (1.0 + 1e-12))  # rounding drops none that is as good
        at, spent, gaps, ages, jumps = to[on], spent[on], gaps[on], ages[on], jumps[on]
    return best


def _both(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> tuple[Floats, Floats]:
    """Each of the first with each of the second."""
    return np.repeat(np.array(first), len(second), axis=0), np.tile(np.array(second, dtype=np.float64), (len(first), 1))


def _solve(curve: Curve, prices: Prices, polls: int | None) -> tuple[Steps, float]:
    """`following` of PollTable, and the cost at age 0. Limited: rows until one more poll left changes nothing."""
    if polls is None:
        values, following = _sweep(curve, prices)
        return np.array([following], dtype=np.int32), values[0]
    found, known = [], prices.stop(curve).tolist()
    for _ in range(polls):
        values, following = _sweep(curve, prices, known)
        found.append(np.array(following, dtype=np.int32))
        if values == known:
            break
        known = values
    return np.array(found), values[0]


def _sweep(curve: Curve, prices: Prices, known: list[float] | None = None) -> tuple[list[float], list[int]]:
    """Least cost from each node on and its next poll (-1: stop), given the cost after that poll; None: the same.

    hull: the lines that are lowest somewhere, by rising begin, the q from which each is below the one before it.
    """
    past = prices.never_cost * curve.never * curve.nodes + prices.delay_cost * curve.rest
    q = prices.delay_cost * curve.coming
    own = (prices.request_cost * (curve.never + curve.coming) - q * curve.nodes - past).tolist()
    values = prices.stop(curve).tolist()
    known = values if known is None else known
    following, nodes, past, q = [-1] * len(values), curve.nodes.tolist(), past.tolist(), q.tolist()
    hull: list[tuple[float, float, float, int]] = []
    head = 0
    for i in range(len(values) - 2, -1, -1):
        t, u, begin = nodes[i + 1], known[i + 1] + past[i + 1], 0.0
        if u < math.inf:
            while len(hull) > head:
                above, slope, level, _ = hull[-1]
                begin = (u - level) / (slope - t)
                if begin > above or len(hull) == head + 1:
                    break
                hull.pop()
            hull.append((begin, t, u, i + 1))
        while head + 1 < len(hull) and hull[head + 1][0] < q[i]:
            head += 1
        _, t, u, j = hull[head]
        cost = own[i] + t * q[i] + u
        if cost < values[i]:
            values[i], following[i] = cost, j
    return values, following


def _path(following: Steps, polls: int | None) -> list[int]:
    """Nodes of the polls from age 0."""
    path: list[int] = []
    at, left = 0, len(following) if polls is None else polls
    while left > 0 and (at := int(following[min(left, len(following)) - 1, at])) >= 0:
        path.append(at)
        left -= polls is not None
    return path


def _windows(times: Floats, step: float, horizon: float) -> Floats:
    """0, the multiples of `step` around each time, and the horizon."""
    near = np.unique(np.round(times / step)[:, None] + np.arange(-REACH, REACH + 1)) * step
    return np.concatenate([[0.0], near[(near > 0.0) & (near < horizon - step / 2.0)], [horizon]])


def _least(curve: Curve, prices: Prices, polls: int | None, known: Floats) -> Floats:
    """Ages of the best polls; those `known`, each on a node, unless beaten by more than rounding."""
    following, cost = _solve(curve, prices, None)
    path = _path(following, None)
    if polls is not None and len(path) > polls:  # the layers are needed only where the limit binds
        following, cost = _solve(curve, prices, polls)
        path = _path(following, polls)
    held = np.searchsorted(curve.nodes, np.append(0.0, known) - RESOLUTION_S / 10.0)
    before = prices.step(curve, held[:-1], held[1:]).sum() + prices.stop(curve)[held[-1]]
    return known if before - cost <= 1e-14 * cost else curve.nodes[path]


def _costs(table: PollTable, truth: Survival, walk: Floats) -> Floats:
    """Cost of the polls at walk[1:] after age 0, by column."""
    return table.prices.total(seen(truth, walk, table.nodes), truth.never, walk[-1])
