"""The dynamic program finds the published schedules and the brute-force optimum; what it says of a schedule is true."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from scipy import stats

from nestobs.estimate.law import LawError, survival
from nestobs.join.policy import Schedule
from nestobs.tuning import schedule
from nestobs.tuning.costs import Curve, Prices, seen
from nestobs.tuning.schedule import (
    CHANGE_AGES_S,
    ROUND_GAPS_S,
    SIMPLE_ENOUGH,
    Expected,
    jittered,
    optimal_polls,
    rows,
    simple,
)

pytestmark = pytest.mark.slow

LOGNORMAL = stats.lognorm(0.9, scale=4.0)
COSTS = {"request_cost": 0.3, "delay_cost": 1.0, "lost_value": 100.0}


def on_grid(table, law, never):
    """What the polls on the grid bring."""
    return Expected(*map(float, seen(survival(law, never), np.array([0.0, *table.grid_times]), table.nodes)))


class Jumps:
    """A law of atoms: all its mass at some ages."""

    def __init__(self, ages, masses, never=0.0):
        self.ages, self.masses, self.never = np.array(ages), np.array(masses), never

    def cdf(self, t):
        return (self.masses * (np.asarray(t)[..., None] >= self.ages)).sum(axis=-1)


def histogram(masses, edges):
    return stats.rv_histogram((np.array(masses), np.array(edges)), density=False)


def table_of(law=LOGNORMAL, never=0.08, **changed):
    return optimal_polls(law, never, **({"horizon": 120.0} | COSTS | changed))


def plain_cost(polls, mass_between, still, never, costs, horizon):
    """The cost by its definition. mass_between(a, b): (mass, first moment) of those that come in (a, b]."""
    total, last = 0.0, 0.0
    for at in polls:
        mass, moment = mass_between(last, at)
        total += costs["request_cost"] * (never + still(last)) + costs["delay_cost"] * (at * mass - moment)
        last = at
    value = costs["lost_value"]
    if math.isinf(value):
        total += 0.0 if still(last) <= 1e-9 * (1 - never) or last == horizon else math.inf
    else:
        total += value * still(last)
    return total + costs.get("never_cost", 0.0) * never * last


def any_case(seed):
    """A small random case: law, grid, costs, limit, and the cost of any polls by the definition."""
    rng = np.random.default_rng(seed)
    size, grid, never = int(rng.integers(2, 9)), float(rng.choice([0.25, 0.5, 1.0])), float(rng.choice([0.0, 0.1, 0.6]))
    nodes = np.arange(size + 1) * grid
    masses = rng.random(size) ** 3 * (rng.random(size) < 0.7) + 1e-3
    inside = rng.uniform(0.5, 1.0) if seed % 3 else 1.0  # a part may come only after the horizon
    if seed % 2:
        ages, atoms = nodes[1:], inside * masses / masses.sum()
        law = Jumps([*ages, 1e3], [*atoms, 1.0 - inside])
        law.masses = law.masses / law.masses.sum()
        moments = atoms * ages
    else:
        tail = [*nodes, nodes[-1] + 5.0]
        counts = np.append(inside * masses / masses.sum(), 1.0 - inside + 1e-12)
        law = histogram(counts, tail)
        atoms = counts[:-1] / counts.sum()
        moments = atoms * (nodes[1:] + nodes[:-1]) / 2.0

    def between(a, b):
        part = (nodes[1:] > a) & (nodes[1:] <= b)
        return (1 - never) * atoms[part].sum(), (1 - never) * moments[part].sum()

    def still(a):
        return (1 - never) * (1.0 - atoms[nodes[1:] <= a].sum())

    costs = {
        "request_cost": float(rng.choice([0.0, 0.01, 0.1, 0.5])),
        "delay_cost": float(rng.choice([0.0, 0.3, 1.0])),
        "lost_value": float(rng.choice([0.0, 1.0, 10.0, math.inf])),
        "never_cost": float(rng.choice([0.0, 0.05])),
    }
    limit = None if seed % 5 < 2 else int(rng.integers(1, size + 1))
    return (
        law,
        never,
        nodes,
        grid,
        costs,
        limit,
        lambda polls: plain_cost(polls, between, still, never, costs, float(nodes[-1])),
    )


# known answers


def test_an_exponential_delay_is_checked_every_1_146193_at_cost_2_146193():
    for value in (math.inf, 1e6):
        table = optimal_polls(stats.expon(), request_cost=1.0, delay_cost=1.0, lost_value=value, horizon=40.0)
        gaps = np.diff([0.0, *table.times])
        assert gaps[:6] == pytest.approx([1.146193] * 6, abs=1e-6)
        assert table.cost == pytest.approx(2.146193, abs=5e-7)


def test_a_uniform_delay_has_the_published_checks_and_cost_14_35():
    law = stats.uniform(0.0, 100.0)
    table = optimal_polls(law, request_cost=2.0, delay_cost=1.0, lost_value=math.inf, horizon=110.0, grid=0.7)
    assert table.times == pytest.approx([19, 36, 51, 64, 75, 84, 91, 96, 99, 100], abs=2e-5)
    assert table.cost == pytest.approx(14.35, abs=1e-9)
    assert table.grid_cost > 14.35


@pytest.mark.parametrize(
    "law",
    [
        stats.weibull_min(1.6, scale=6.0),
        stats.weibull_min(0.8, scale=6.0),
        stats.lognorm(0.9, scale=4.0),
        stats.gamma(3.0, scale=2.0),
        stats.truncnorm(-2.0, np.inf, loc=8.0, scale=4.0),
    ],
)
@pytest.mark.parametrize("never", [0.0, 0.2])
def test_the_recursion_of_barlow_and_proschan_holds(law, never):
    """Each inner poll: the next gap is (F(x_k) - F(x_{k-1})) / f(x_k) - c_r / w. The last: stopping is as good."""
    costs = {"request_cost": 0.4, "delay_cost": 0.8, "lost_value": 30.0, "never_cost": 0.03}
    table = optimal_polls(law, never, horizon=400.0, **costs)
    x = np.array([0.0, *table.times])
    inner = np.flatnonzero(law.sf(x) > 1e-3)
    inner = inner[(inner > 0) & (inner < len(x) - 1)]
    assert len(inner) > 2
    gap = (law.cdf(x[inner]) - law.cdf(x[inner - 1])) / law.pdf(x[inner]) - 0.4 / 0.8
    assert np.diff(x)[inner] == pytest.approx(gap, abs=2e-3)
    if never:  # else it need not stop before the horizon
        assert x[-1] < 399.0
        least = 0.8 * (1 - never) * (law.cdf(x[-1]) - law.cdf(x[-2])) + 0.03 * never
        assert least == pytest.approx(30.0 * (1 - never) * law.pdf(x[-1]), abs=1e-6)


def test_a_law_of_atoms_is_asked_right_when_they_come():
    law = Jumps([3.3, 7.77, 20.1], [0.5, 0.3, 0.2])
    table = optimal_polls(law, request_cost=0.1, delay_cost=1.0, lost_value=50.0, horizon=60.0)
    assert table.times == pytest.approx([3.3, 7.77, 20.1], abs=1e-6)
    assert (np.array(table.times) >= law.ages).all()
    assert table.expected(law).delay < 1e-6


# exactness


@pytest.mark.parametrize("seed", range(120))
def test_no_subset_of_a_small_grid_costs_less(seed):
    law, never, nodes, grid, costs, limit, cost_of = any_case(seed)
    table = optimal_polls(law, never, horizon=float(nodes[-1]), grid=grid, polls=limit, **costs)
    most = len(nodes) - 1 if limit is None else limit
    subsets = (polls for n in range(most + 1) for polls in itertools.combinations(nodes[1:].tolist(), n))
    least = min(cost_of(polls) for polls in subsets)
    assert table.grid_cost == pytest.approx(least, abs=1e-10)
    assert cost_of(table.grid_times) == pytest.approx(least, abs=1e-10)
    assert len(table.grid_times) <= most


def plain_program(curve, prices, polls=None):
    """The same recursion without its order: every state tries every later node."""
    stop = prices.stop(curve)
    values = stop.copy()
    for _ in range(polls or 1):
        known = values if polls is None else values.copy()
        for i in range(len(stop) - 2, -1, -1):
            later = np.arange(i + 1, len(stop))
            values[i] = min(stop[i], (prices.step(curve, i, later) + known[later]).min())
    return values


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("polls", [None, 1, 4])
def test_the_lines_give_what_trying_every_pair_gives(seed, polls):
    rng = np.random.default_rng(seed)
    law = [LOGNORMAL, stats.weibull_min(0.6, scale=3.0), stats.gamma(4.0), histogram(rng.random(9), np.arange(10.0))]
    truth = survival(law[seed % 4], float(rng.choice([0.0, 0.3])))
    nodes = np.concatenate([[0.0], np.cumsum(rng.random(150) ** 4 + 1e-6)])
    prices = Prices(*rng.choice([0.0, 0.02, 0.3, 2.0], 2), float(rng.choice([1.0, 40.0, np.inf])), 0.01)
    curve = Curve.of(truth, nodes)
    expected = plain_program(curve, prices, polls)
    known = prices.stop(curve).tolist()
    for _ in range(polls or 1):
        known, following = schedule._sweep(curve, prices, None if polls is None else known)
    assert known == pytest.approx(expected.tolist(), abs=1e-10)
    going = [j for j in following if j >= 0]
    assert going == sorted(going)


class Wavering:
    """An exponential law whose distribution function also falls a little, as an interpolated one may."""

    def cdf(self, t):
        t = np.asarray(t)
        return np.clip(1.0 - np.exp(-t / 4.0) + 0.02 * np.sin(5.0 * t) * np.exp(-t / 8.0), 0.0, 1.0)


def test_a_law_that_wavers_is_read_as_one_that_never_falls():
    truth = survival(Wavering())
    table = optimal_polls(Wavering(), horizon=30.0, request_cost=0.05, delay_cost=1.0, lost_value=10.0)
    curve = Curve.of(truth, table.nodes)
    assert (np.diff(truth.coming(table.nodes)) > 0.0).any()
    assert (np.diff(curve.coming) <= 0.0).all()
    assert table.grid_cost == pytest.approx(plain_program(curve, table.prices)[0], abs=1e-12)


def test_many_polls_are_as_good_as_unlimited_ones():
    free, many = table_of(), table_of(polls=400)
    assert len(many.following) < 400
    assert many.grid_cost == pytest.approx(free.grid_cost, abs=1e-12)
    assert many.grid_times == free.grid_times
    assert many.times == free.times
    assert (many.following[-1] == free.following[0]).all()


def test_more_polls_never_cost_more_and_a_limit_is_kept():
    tables = [table_of(polls=n) for n in range(1, 20)]
    costs = [table.grid_cost for table in tables]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[3] > costs[-1]
    for n, table in enumerate(tables, 1):
        assert len(table.grid_times) <= n
    for n in (1, 3, 8):
        assert len(tables[n - 1].times) == n
        assert tables[n - 1].cost <= tables[n - 1].grid_cost


def test_a_state_with_fewer_left_is_the_table_of_that_limit():
    few, many = table_of(polls=3), table_of(polls=9)
    for age in (0.0, 2.0, 11.3, 60.0):
        assert many.next(age, 3) == few.next(age)
        assert many.next(age, 30) == many.next(age)


def test_ties_take_fewer_polls_and_the_later_one():
    free = {"request_cost": 0.0, "delay_cost": 0.0, "lost_value": 1.0}
    bounded = stats.uniform(0.0, 10.0)
    assert optimal_polls(bounded, horizon=20.0, **free).grid_times == (20.0,)
    assert optimal_polls(bounded, 1.0, horizon=20.0, **free).times == ()
    assert optimal_polls(bounded, horizon=20.0, **(free | {"lost_value": 0.0})).times == ()


def test_an_infinite_value_polls_until_all_have_come_or_the_horizon():
    costs = {"request_cost": 1.0, "delay_cost": 1.0, "lost_value": math.inf}
    assert optimal_polls(stats.uniform(0.0, 10.0), 0.3, horizon=50.0, **costs).times[-1] == pytest.approx(10.0)
    assert optimal_polls(LOGNORMAL, 0.3, horizon=50.0, **costs).times[-1] == 50.0
    assert optimal_polls(LOGNORMAL, 0.3, horizon=50.0, polls=2, **costs).times[-1] == 50.0
    assert optimal_polls(LOGNORMAL, 1.0, horizon=50.0, **costs).times == ()


def test_the_laws_own_never_is_used_unless_another_is_given():
    own = Jumps([5.0], [0.75], never=0.25)
    tables = [optimal_polls(law, never, horizon=30.0, **COSTS) for law, never in ((own, None), (own, 0.0), (own, 0.5))]
    assert [on_grid(table, own, table.truth.never).lost for table in tables] == [0.0, 0.0, 0.0]
    assert [round(table.grid_cost, 9) for table in tables] == [0.3, 0.3, 0.3]
    assert [table.truth.never for table in tables] == [0.25, 0.0, 0.5]


# refinement


@pytest.mark.parametrize("seed", range(8))
def test_off_the_grid_it_is_never_worse_and_inside_the_horizon(seed):
    rng = np.random.default_rng(seed)
    law = stats.weibull_min(float(rng.uniform(0.6, 3.0)), scale=float(rng.uniform(1.0, 12.0)))
    costs = {"request_cost": float(rng.uniform(0.05, 3.0)), "delay_cost": 1.0, "lost_value": float(rng.uniform(2, 99))}
    horizon = float(rng.uniform(10.0, 90.0))
    table = optimal_polls(law, 0.1, horizon=horizon, grid=0.5, polls=None if seed % 2 else 5, **costs)
    assert table.cost <= table.grid_cost + 1e-12
    assert all(a < b for a, b in itertools.pairwise([0.0, *table.times]))
    assert table.times[-1] <= horizon
    finer = optimal_polls(law, 0.1, horizon=horizon, grid=0.05, polls=table.polls, **costs)
    assert table.cost <= finer.grid_cost + 1e-12


def test_no_small_move_of_a_poll_makes_it_cheaper():
    table = table_of()
    times = np.array([0.0, *table.times])
    for k, move in itertools.product(range(1, len(times)), (-1e-3, 1e-3)):
        moved = times.copy()
        moved[k] += move
        assert float(schedule._costs(table, table.truth, moved)) > table.cost


def test_a_schedule_that_is_best_on_the_grid_is_kept_to_the_last_digit():
    costs = {"request_cost": 2.0, "delay_cost": 1.0, "lost_value": math.inf}
    table = optimal_polls(stats.uniform(0.0, 100.0), horizon=120.0, **costs)
    assert table.times == table.grid_times == (19, 36, 51, 64, 75, 84, 91, 96, 99, 100)


@pytest.mark.parametrize("law", [stats.weibull_min(1.6, scale=6.0), stats.expon(scale=2.0), LOGNORMAL])
def test_rounding_where_next_to_nothing_is_still_to_come_makes_no_polls(law):
    table = optimal_polls(law, request_cost=0.4, delay_cost=0.8, lost_value=30.0, horizon=400.0)
    assert len(table.times) < 80
    for times in (table.times, table.grid_times):
        assert np.diff(times).min() > 0.3


def test_free_requests_stay_on_the_grid_and_cheap_ones_end_at_the_limit_of_nodes(monkeypatch):
    free = table_of(request_cost=0.0, grid=1.0, horizon=60.0)
    assert free.times == free.grid_times == tuple(np.arange(1.0, 61.0))
    monkeypatch.setattr(schedule, "MAX_NODES", 3_000)
    cheap = table_of(request_cost=1e-7, grid=1.0, horizon=60.0)
    assert len(free.times) < len(cheap.times) < 3_000
    assert cheap.cost < cheap.grid_cost


# the table


@pytest.mark.parametrize("polls", [None, 6])
def test_following_next_from_age_0_gives_the_grids_schedule(polls):
    table = table_of(polls=polls)
    assert table.follow() == table.grid_times
    assert set(table.follow(119.9)) <= {120.0}


@pytest.mark.parametrize(("changed", "left"), [({}, None), ({"polls": 9}, 4), ({"lost_value": math.inf}, None)])
def test_next_is_later_than_the_age_monotone_and_within_the_horizon(changed, left):
    table = table_of(horizon=59.9, **changed)
    rng = random.Random(5)
    ages = sorted([*(rng.uniform(0.0, 60.0) for _ in range(2_000)), *table.nodes.tolist()])
    found = [(age, table.next(age, left)) for age in ages]
    polled = [(age, at) for age, at in found if at is not None]
    assert len(polled) > 200
    assert all(age < at <= 59.9 for age, at in polled)
    assert [at for _, at in polled] == sorted(at for _, at in polled)
    many = table.after(np.array(ages), left)
    assert [None if np.isnan(at) else at for at in many] == [at for _, at in found]


def test_next_stops_at_the_horizon_without_polls_left_and_reads_negative_ages_as_0():
    table = table_of(lost_value=math.inf, horizon=30.0)
    assert table.next(30.0) is None
    assert table.next(1e9) is None
    assert table.next(0.0, 0) is None
    assert table.next(-3.0) == table.next(0.0) == table.next(0.0, 7) == table.grid_times[0]
    assert table.next(29.9) == 30.0
    with pytest.raises(LawError, match="give the age"):
        table.next(math.nan)


def test_a_pause_may_be_worth_less_than_the_wait_that_follows_it():
    """The stop need not be at the end: nothing comes before 50 s, and those who never get in pay for the wait."""
    law = stats.uniform(50.0, 5.0)
    table = optimal_polls(law, 0.5, request_cost=0.1, delay_cost=1.0, lost_value=20.0, horizon=60.0, never_cost=0.8)
    assert table.next(0.0) is None
    assert table.next(48.0) is not None
    assert 48.0 < table.stop_age <= 55.0
    first_going = rows(table)[1][0]
    assert rows(table)[0] == (0.0, 60.0)
    assert table.next(first_going) is not None
    assert table.next(first_going - 0.3) is None


@pytest.mark.parametrize("never_cost", [0.0, 0.02])
def test_what_is_expected_times_its_price_is_the_cost(never_cost):
    table = table_of(never_cost=never_cost)
    for times, found, cost in (
        (table.times, table.expected(LOGNORMAL, 0.08), table.cost),
        (table.grid_times, on_grid(table, LOGNORMAL, 0.08), table.grid_cost),
        (table.grid_times, on_grid(table, LOGNORMAL, 0.08), table.grid_cost_under(LOGNORMAL, 0.08)),
    ):
        paid = 0.3 * found.requests + 1.0 * found.delay + 100.0 * found.lost + never_cost * 0.08 * times[-1]
        assert paid == pytest.approx(cost, abs=1e-12)


def simulated(times, delays):
    """Requests, delay and lost of joiners with these delays (inf: never) that got a 404 at age 0."""
    polls = np.array(times)
    seen = np.searchsorted(polls, delays, "left")
    got = seen < len(polls)
    requests = np.minimum(seen + 1, len(polls)) * (delays > 0.0)
    waited = np.where(got, polls[np.minimum(seen, len(polls) - 1)] - delays, 0.0)
    return Expected(requests.mean(), waited[got].sum() / len(delays), (np.isfinite(delays) & ~got).mean())


def test_expectations_agree_with_simulated_joiners_of_another_law():
    table, rng = table_of(), np.random.default_rng(8)
    law, n = stats.gamma(2.0, scale=5.0), 400_000
    delays = np.where(rng.random(n) < 0.3, math.inf, law.rvs(n, random_state=rng))
    for found, at, those in (
        (table.expected(law, 0.3), table.times, delays),
        (on_grid(table, law, 0.3), table.grid_times, delays),
    ):
        assert tuple(found) == pytest.approx(tuple(simulated(at, those)), rel=0.01, abs=2e-4)


def test_a_memoryless_law_is_polled_at_the_same_gaps_from_every_age():
    law = stats.expon(scale=4.0)
    table = optimal_polls(law, request_cost=0.5, delay_cost=1.0, lost_value=1e3, horizon=200.0)
    for age in (3.25, 20.0):
        assert np.diff([age, *table.follow(age)])[:12] == pytest.approx(np.diff([0.0, *table.grid_times])[:12])


# rows of a policy


@pytest.mark.parametrize(
    "changed",
    [{}, {"lost_value": math.inf}, {"request_cost": 2.0}, {"horizon": 33.3, "grid": 0.4}, {"never_cost": 0.05}],
)
def test_a_policy_with_the_rows_polls_when_the_table_does(changed):
    table = table_of(**changed)
    made = Schedule("table", table=rows(table))
    below = table.nodes[table.nodes < table.stop_age]
    assert len(below) > 20
    for age in below.tolist():
        gap = made.gap_s(1, age, random.Random(0))
        assert age + gap == pytest.approx(table.next(age), abs=1e-5)
    age, times = 0.0, []
    while age < table.stop_age:
        age += made.gap_s(1, age + 1e-9, random.Random(0))
        times.append(age)
    assert times == pytest.approx(table.grid_times, abs=1e-4)


def test_rows_are_few_however_many_gaps_there_are(monkeypatch):
    table = table_of()
    every = rows(table)
    monkeypatch.setattr(schedule, "MAX_ROWS", len(every) - 1)
    assert len(rows(table)) < len(every)
    assert rows(table)[0] == every[0]
    monkeypatch.setattr(schedule, "MAX_ROWS", 3)
    assert 1 <= len(rows(table)) <= 3


def test_a_table_that_stops_at_once_makes_a_row_that_never_ends_in_a_poll():
    table = table_of(lost_value=0.0)
    assert (table.stop_age, table.follow()) == (0.0, ())
    assert rows(table) == ((0.0, 120.0),)
    Schedule("table", table=rows(table))


# jitter


def test_jitter_of_a_fifth_costs_about_a_percent_and_full_jitter_a_third():
    table = table_of()
    fifth = jittered(table, LOGNORMAL, 0.08, rng=np.random.default_rng(1), draws=2_000)
    full = jittered(table, LOGNORMAL, 0.08, full=True, rng=np.random.default_rng(1), draws=2_000)
    assert 0.005 < fifth.price < 0.02
    assert 0.23 < full.price < 0.65
    assert fifth.error < 1e-3
    assert fifth.cost == pytest.approx(table.grid_cost * (1.0 + fifth.price))


@pytest.mark.parametrize("polls", [None, 7])
def test_no_jitter_has_no_price_and_a_generator_decides_the_rest(polls):
    table = table_of(polls=polls)
    none = jittered(table, LOGNORMAL, 0.08, jitter=0.0, rng=np.random.default_rng(1), draws=5)
    assert none.price == pytest.approx(0.0, abs=1e-12)
    assert none.error == pytest.approx(0.0, abs=1e-12)
    once, again, other = (
        jittered(table, LOGNORMAL, 0.08, rng=np.random.default_rng(seed), draws=50) for seed in (3, 3, 4)
    )
    assert once == again != other


def test_the_price_of_jitter_grows_with_it():
    found = [
        jittered(table_of(), LOGNORMAL, 0.08, jitter=jitter, rng=np.random.default_rng(2), draws=1_000).price
        for jitter in (0.1, 0.3, 0.6, 1.0)
    ]
    assert found == sorted(found)
    assert found[-1] > 20 * found[0]


def test_polls_do_not_pile_up_before_the_horizon_under_full_jitter():
    """Every gap would be a part of what is left, for ever: a grid step is the least before the factor."""
    table = table_of(never=0.9, request_cost=1.0, lost_value=math.inf, horizon=10.0)
    assert len(table.grid_times) == 1
    assert jittered(table, LOGNORMAL, 0.9, full=True, rng=np.random.default_rng(1)).price < 5.0


def test_jitter_where_nothing_costs_anything_has_no_price():
    table = table_of(lost_value=0.0)
    assert jittered(table, LOGNORMAL, 0.08, rng=np.random.default_rng(1)) == (0.0, 0.0, 0.0)


# along prices

LIMITS = {"delay_cost": 1.0, "lost_value": 100.0, "horizon": 120.0}


def test_along_the_front_requests_fall_and_no_point_beats_another():
    prices = np.geomspace(0.01, 200.0, 12)
    tables = [optimal_polls(LOGNORMAL, 0.08, request_cost=price, **LIMITS) for price in prices]
    points = [on_grid(table, LOGNORMAL, 0.08) for table in tables]
    requests = [point.requests for point in points]
    assert requests == sorted(requests, reverse=True)
    assert requests[0] > 20.0
    assert requests[-1] == 0.0
    for one, other in itertools.permutations(points, 2):
        assert one == other or not all(a <= b for a, b in zip(one, other, strict=True))


# a schedule a person would type


def as_typed(kept, stop, horizon):
    """The polls of policy.Schedule with these rows and that give-up age, none after the horizon."""
    made, age, times = Schedule("table", table=kept), 0.0, []
    while age < min(stop, horizon):
        age = min(age + made.gap_s(1, age, random.Random(0)), horizon)
        times.append(age)
    return tuple(times)


@pytest.mark.parametrize(
    "changed",
    [{}, {"request_cost": 3.0}, {"lost_value": 5.0}, {"lost_value": math.inf, "horizon": 37.3}, {"horizon": 4.25}],
)
def test_the_simple_neighbour_is_round_and_states_its_true_price(changed):
    table = table_of(**changed)
    found = simple(table)
    assert found.price >= -1e-9
    assert found.price < 0.15
    assert found.cost == pytest.approx(table.cost * (1.0 + found.price))
    assert 1 <= len(found.rows) <= 3
    assert [age for age, _ in found.rows] == sorted({age for age, _ in found.rows})
    assert {age for age, _ in found.rows} <= {0.0, *CHANGE_AGES_S}
    assert {gap for _, gap in found.rows} <= set(ROUND_GAPS_S)
    assert found.give_up_age % 5.0 == 0.0
    assert all(age < found.give_up_age for age, _ in found.rows)
    assert as_typed(found.rows, found.give_up_age, table.horizon) == found.times
    assert float(schedule._costs(table, table.truth, np.array([0.0, *found.times]))) == pytest.approx(found.cost)


@pytest.mark.parametrize("lost_value", [1.0, 2.0, 5.0, 100.0, math.inf])
def test_the_search_for_a_simple_schedule_equals_trying_all_of_them(lost_value):
    table = table_of(horizon=22.0, request_cost=0.1, lost_value=lost_value)
    curve = Curve.of(table.truth, np.append(np.arange(0.0, 22.0, 0.5), 22.0), table.nodes)
    over = table.prices.stop(curve)

    def cost_of(kept, stop):
        at = np.searchsorted(curve.nodes, [0.0, *as_typed(kept, stop, 22.0)])
        return table.prices.step(curve, at[:-1], at[1:]).sum() + over[at[-1]]

    one = [((0.0, gap),) for gap in ROUND_GAPS_S]
    two = [(*first, (age, gap)) for first in one for age in CHANGE_AGES_S[:3] for gap in ROUND_GAPS_S]
    ahead, known = np.array(schedule._sweep(curve, table.prices)[0]), None
    for count, plans in ((1, one), (2, one + two)):
        cost, kept, stop = known = schedule._cheapest(curve, table.prices, count, ahead, known)
        assert cost == pytest.approx(min(cost_of(plan, end) for plan in plans for end in range(0, 30, 5)))
        assert cost == pytest.approx(cost_of(kept, stop))


def test_no_other_simple_schedule_is_cheaper_by_more_than_a_row_is_worth():
    table, rng = table_of(horizon=40.0), random.Random(3)
    best = simple(table).cost
    for _ in range(300):
        ages = sorted(rng.sample(CHANGE_AGES_S, rng.randrange(3)))
        kept = tuple((age, rng.choice(ROUND_GAPS_S[:11])) for age in (0.0, *ages))
        times = as_typed(kept, rng.randrange(5, 45, 5), 40.0)
        assert float(schedule._costs(table, table.truth, np.array([0.0, *times]))) * (1.0 + SIMPLE_ENOUGH) >= best


def test_a_memoryless_law_needs_one_simple_row():
    law = stats.expon(scale=4.0)
    table = optimal_polls(law, 0.1, request_cost=0.5, delay_cost=1.0, lost_value=200.0, horizon=120.0)
    memoryless = simple(optimal_polls(law, request_cost=0.5, delay_cost=1.0, lost_value=1e3, horizon=120.0))
    assert len(memoryless.rows) == 1
    assert len(simple(table).rows) > 1


def test_where_no_poll_is_worth_it_the_simple_schedule_gives_up_at_0():
    found = simple(table_of(lost_value=0.0))
    assert (found.give_up_age, found.times, found.cost, found.price) == (0.0, (), 0.0, 0.0)
    Schedule("table", table=found.rows)


# refusals

WRONG = [
    ({"request_cost": math.nan}, "give request_cost as a finite number from 0, not nan"),
    ({"request_cost": -1.0}, "give request_cost as a finite number from 0, not -1.0"),
    ({"request_cost": "1"}, "give request_cost as a finite number from 0, not '1'"),
    ({"delay_cost": math.inf}, "give delay_cost as a finite number from 0, not inf"),
    ({"never_cost": math.inf}, "give never_cost as a finite number from 0, not inf"),
    ({"lost_value": math.nan}, "give lost_value as a number from 0, not nan"),
    ({"lost_value": -math.inf}, "give lost_value as a number from 0, not -inf"),
    ({"horizon": 0.0}, "give a grid above 0 and a horizon of at least one grid step, not 0.25 and 0 s"),
    ({"horizon": math.inf}, "give horizon as a finite number"),
    ({"grid": 0.0}, "give a grid above 0"),
    ({"grid": math.nan}, "give grid as a finite number"),
    ({"grid": 121.0}, "a horizon of at least one grid step, not 121 and 120 s"),
    ({"grid": 0.001}, "120 s on a grid of 0.001 s are too many nodes: give at least 0.0024"),
    ({"polls": 0}, "give polls as a whole number from 1, or None for no limit, not 0"),
    ({"polls": 2.5}, "give polls as a whole number from 1"),
    ({"polls": True}, "give polls as a whole number from 1"),
    ({"never": 1.5}, "never is a share from 0 to 1"),
    ({"law": "fast"}, "it has a cdf"),
    ({"law": Jumps([math.nan], [math.nan])}, "the law's cdf is no number"),
]


@pytest.mark.parametrize(("changed", "said"), WRONG)
def test_what_cannot_be_used_is_refused_with_its_remedy(changed, said):
    with pytest.raises(LawError) as refused:
        table_of(**changed)
    assert said in str(refused.value)


def test_other_questions_refuse_what_they_cannot_use():
    limited, rng = table_of(polls=3), np.random.default_rng(1)
    with pytest.raises(LawError, match="polls=None"):
        rows(limited)
    with pytest.raises(LawError, match="polls=None"):
        simple(limited)
    for wrong in ({"jitter": 1.1}, {"jitter": math.nan}, {"draws": 1}):
        with pytest.raises(LawError, match="jitter as a share"):
            jittered(limited, LOGNORMAL, rng=rng, **wrong)


def test_a_table_shows_its_polls_and_where_it_stops():
    table = optimal_polls(stats.expon(scale=5.0), 0.2, **COSTS, horizon=40.0)
    assert repr(table).startswith(f"<PollTable: polls at {table.grid_times[0]:g}, ")
    assert repr(table).endswith(f"({len(table.grid_times)} polls) s, stops at {table.stop_age:g} s>")
    assert table._repr_html_().count("<tr>") == 1 + len(table.grid_times)
