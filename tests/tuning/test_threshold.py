"""What to say of a 404 and when to stop asking: known answers, brute force, simulated joiners and clocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from nestobs.estimate.law import LawError, survival
from nestobs.estimate.npmle import DelayLaw, Resampled, npmle, rows
from nestobs.tuning.threshold import (
    COST_RATIOS,
    Joiners,
    message_errors,
    message_threshold,
    posterior_band,
    posterior_starting,
    stop_age,
    threshold_interval,
)

INF = math.inf
LOGNORMAL = stats.lognorm(0.9, scale=4.0)
EXPONENTIAL = stats.expon(scale=4.0)
NEVER = 0.08


def histogram(masses, edges):
    """A law that is even between the edges."""
    return stats.rv_histogram((np.array(masses), np.array(edges)), density=False)


def on_a_grid(n, rng, never=NEVER):
    """An estimate of `n` nests polled at the same ages, every 2 s for 60 s."""
    times = np.where(rng.random(n) < never, INF, 4.0 * np.exp(0.9 * rng.standard_normal(n)))
    ends = np.append(np.arange(0.0, 61.0, 2.0), INF)
    which = np.searchsorted(ends[1:-1], times)
    return npmle(ends[which], ends[which + 1])


# The posterior


def test_the_posterior_has_its_known_values():
    assert posterior_starting(LOGNORMAL, NEVER, [10, 20, 30, 60]).round(4).tolist() == [0.6396, 0.2977, 0.1264, 0.0149]


def test_the_posterior_is_one_without_nevers_and_zero_where_nobody_is_answered_404():
    law = npmle([0, 1], [1, 2])
    assert posterior_starting(law, None, [0, 1.5, 2, 3]).tolist() == [1, 1, 0, 0]
    assert posterior_starting(law, 1.0, [0, 1]).tolist() == [0, 0]
    assert posterior_starting(LOGNORMAL, NEVER, 10.0).shape == ()
    assert posterior_starting(LOGNORMAL, NEVER, [[10.0, 20.0]]).shape == (1, 2)


def test_the_posterior_is_the_share_of_those_answered_404_who_will_get_in():
    rng = np.random.default_rng(1)
    times = np.where(rng.random(400_000) < NEVER, INF, LOGNORMAL.rvs(400_000, random_state=rng))
    for age in (5.0, 15.0):
        left = times[times > age]
        assert posterior_starting(LOGNORMAL, NEVER, age) == pytest.approx(np.isfinite(left).mean(), abs=0.01)


def test_the_band_of_the_posterior_holds_it():
    law = on_a_grid(200, np.random.default_rng(2))
    low, high = posterior_band(law.bootstrap(draws=100), [2.0, 10.0, 30.0])
    at = posterior_starting(law, None, [2.0, 10.0, 30.0])
    assert (low <= at).all()
    assert (at <= high).all()
    assert (high - low).max() > 0.01


# The message threshold


def test_the_thresholds_of_an_exponential_law_are_known():
    found = [message_threshold(EXPONENTIAL, NEVER, ratio) for ratio in COST_RATIOS]
    assert [round(at, 3) for at in found] == [18.980, 15.315, 9.769]


def test_the_threshold_of_a_lognormal_law_is_known():
    assert round(message_threshold(LOGNORMAL, NEVER, 0.25), 3) == 24.618


@given(st.floats(0.01, 0.9), st.floats(0.01, 5.0), st.floats(1.001, 10.0))
def test_a_dearer_false_starting_brings_the_threshold_forward(never, ratio, times):
    later, sooner = (message_threshold(LOGNORMAL, never, each) for each in (ratio, ratio * times))
    assert sooner <= later
    assert sooner < later or later == 0


@given(st.floats(0.01, 0.5), st.floats(0.01, 0.9))
def test_at_the_threshold_both_messages_cost_the_same(never, ratio):
    at = message_threshold(LOGNORMAL, never, ratio)
    posterior = float(posterior_starting(LOGNORMAL, never, at))
    assert posterior == pytest.approx(ratio / (1.0 + ratio), abs=1e-6) or at == 0


def test_the_threshold_of_an_estimate_is_where_so_much_is_still_to_come():
    law = npmle([0, 1, 2, 3, 9], [1, 2, 3, 4, INF])
    assert message_threshold(law, cost_ratio=0.5) == pytest.approx(3.5)  # half of .2 is in (3, 4]
    assert message_threshold(law, cost_ratio=1.0) == pytest.approx(3.0)
    assert message_threshold(law, 0.0, cost_ratio=1.0) == INF


def test_where_none_stays_away_it_is_always_starting_and_where_all_do_never():
    for law in (LOGNORMAL, npmle([0, 1, 2], [1, 2, 3])):
        assert message_threshold(law, 0.0) == message_threshold(law) == INF
        assert message_threshold(law, 1.0) == 0
    assert message_threshold(npmle([5], [INF])) == 0
    assert message_threshold(LOGNORMAL, 0.6, 1.0) == 0  # already at age 0 more stay away than come


@pytest.mark.parametrize("ratio", [0, -1, math.nan, INF])
def test_a_cost_ratio_is_above_0(ratio):
    with pytest.raises(LawError, match="the cost ratio is a number above 0"):
        message_threshold(LOGNORMAL, NEVER, ratio)


# When to stop asking


def gain(law, never, wait_cost, value, ages):
    """J at the ages, by its definition, summed in steps."""
    held = survival(law, never)
    at = held.at(ages)
    area = np.concatenate([[0.0], np.cumsum(np.diff(ages) * (at[1:] + at[:-1]) / 2.0)])
    return value * (1.0 - held.never) * law.cdf(ages) - wait_cost * area


def test_the_stop_of_an_exponential_law_is_known():
    assert round(stop_age(EXPONENTIAL, 0.1, 0.02, 1.0), 3) == 18.558


@pytest.mark.slow
@pytest.mark.parametrize("wait_cost", [0.001, 0.02, 0.05, 0.1, 0.15, 0.18, 0.2, 1.0])
def test_the_stop_of_a_law_whose_hazard_first_rises_is_the_best_of_all_ages(wait_cost):
    ages = np.linspace(0.0, 120.0, 1_200_001)
    best = ages[np.argmax(gain(LOGNORMAL, NEVER, wait_cost, 1.0, ages))]
    assert stop_age(LOGNORMAL, NEVER, wait_cost, 1.0) == pytest.approx(best, abs=2e-3)


def test_where_the_hazard_balances_twice_the_stop_is_the_later_age_or_none():
    def hazard(t):
        return (1 - NEVER) * LOGNORMAL.pdf(t) / (NEVER + (1 - NEVER) * LOGNORMAL.sf(t))

    early = optimize.brentq(lambda t: hazard(t) - 0.15, 0.01, 2.0)
    late = optimize.brentq(lambda t: hazard(t) - 0.15, 4.0, 60.0)
    assert early < 2 < late
    assert stop_age(LOGNORMAL, NEVER, 0.15, 1.0) == pytest.approx(late, abs=1e-3)  # early is the worst age of all
    assert stop_age(LOGNORMAL, NEVER, 0.19, 1.0) == 0.0  # the hazard reaches .19, but too late to repay the wait
    assert max(hazard(np.linspace(0.1, 10, 100))) > 0.19


@pytest.mark.parametrize(("late_share", "expected"), [(0.05, 2.0), (0.4, 12.0)])
def test_of_two_bursts_the_second_is_waited_for_if_it_is_worth_it(late_share, expected):
    law = histogram([1 - late_share, 0, late_share], [1, 2, 11, 12])
    assert stop_age(law, 0.1, 0.05, 1.0) == pytest.approx(expected, abs=1e-3)


def test_the_stop_of_an_estimate_is_the_end_of_a_cell():
    law = npmle([0, 0, 0, 0, 5, 30], [1, 1, 1, 1, 6, INF])
    assert stop_age(law, None, 0.02, 1.0) == pytest.approx(6.0, abs=1e-3)
    assert stop_age(law, None, 0.15, 1.0) == pytest.approx(1.0, abs=1e-3)
    assert stop_age(law, None, 0.0, 1.0) == pytest.approx(6.0)


def test_without_a_cost_asking_goes_on_until_all_have_come():
    assert stop_age(histogram([1.0], [2, 3]), 0.3, 0.0, 1.0) == pytest.approx(3.0)
    assert stop_age(stats.pareto(0.5), 0.0, 0.0, 1.0) == INF


def test_what_is_worth_nothing_or_never_comes_is_not_asked_for():
    assert stop_age(LOGNORMAL, NEVER, 0.1, 0.0) == 0.0
    assert stop_age(LOGNORMAL, 1.0, 0.1, 1.0) == 0.0
    assert stop_age(npmle([5], [INF]), None, 0.1, 1.0) == 0.0


@given(st.floats(1e-3, 1e3))
@settings(max_examples=15, deadline=None)
def test_the_unit_of_cost_does_not_matter(unit):
    assert stop_age(LOGNORMAL, NEVER, 0.05 * unit, unit) == pytest.approx(17.144, abs=2e-3)


@pytest.mark.parametrize(("wait_cost", "value"), [(-1, 1), (math.nan, 1), (1, -1), (1, INF)])
def test_costs_are_numbers_from_0(wait_cost, value):
    with pytest.raises(LawError, match="is a number from 0"):
        stop_age(LOGNORMAL, NEVER, wait_cost, value)


# Errors among joiners


def simulated_errors(joiners, threshold_s, skew_s, clock, n, rng):
    """One by one: a nest with a host's clock, a joiner with another, a 404 with the API's `Date`."""
    which = rng.choice(len(joiners.ages), n, p=joiners.weight)
    age = joiners.ages[which]
    comes = np.where(rng.random(n) < NEVER, INF, LOGNORMAL.rvs(n, random_state=rng))
    made = 1e6 + rng.random(n) * 100
    now = made + age + skew_s if clock == "joiner" else np.floor(made + age)
    told = now - np.floor(made)
    missed = comes > age
    hopeless = ~np.isfinite(comes)
    starting = told < threshold_s
    share = missed.sum()
    return (starting & missed & hopeless).sum() / share, (~starting & missed & ~hopeless).sum() / share, missed.mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threshold_s", "skew_s", "clock"),
    [
        (30.0, 0.0, "joiner"),
        (30.0, 5.0, "joiner"),
        (30.0, -5.0, "joiner"),
        (10.25, 1.0, "joiner"),
        (10.0, 30.0, "joiner"),
        (10.0, 30.0, "date"),
        (10.0, 0.0, "date"),
        (10.25, 0.0, "date"),
    ],
)
def test_errors_are_those_of_simulated_joiners_and_clocks(threshold_s, skew_s, clock):
    """All joiners ask within 2 s of the threshold, where a wrong second shows."""
    rng = np.random.default_rng(3)
    ages = threshold_s - skew_s * (clock == "joiner") + np.linspace(-2.0, 2.0, 33) + 0.05
    ages = ages[ages > 0] if (ages > 0).any() else np.array([0.5, 3.0, 12.0])
    joiners = Joiners(ages, np.full(len(ages), 1.0 / len(ages)))
    found = message_errors(LOGNORMAL, NEVER, threshold_s, joiners, skew_s=skew_s, clock=clock)
    known = simulated_errors(joiners, threshold_s, skew_s, clock, 1_000_000, rng)
    assert (found.false_starting, found.false_gone, found.answered_404) == pytest.approx(known, abs=0.005)


def test_the_date_of_the_404_takes_the_skew_out():
    joiners = Joiners.of(np.arange(1.0, 60.0))
    by = [message_errors(LOGNORMAL, NEVER, 30.0, joiners, skew_s=skew, clock="date") for skew in (-30, 0, 30)]
    assert by[0] == by[1] == by[2]
    skewed = [message_errors(LOGNORMAL, NEVER, 30.0, joiners, skew_s=skew) for skew in (-30, 0, 30)]
    assert skewed[0].false_starting > skewed[1].false_starting > skewed[2].false_starting
    assert skewed[0].false_gone < skewed[1].false_gone < skewed[2].false_gone


def test_where_nobody_is_answered_404_there_are_no_errors():
    found = message_errors(npmle([0], [1]), None, 30.0, Joiners.of([5.0]))
    assert (found.false_starting, found.false_gone, found.answered_404) == (0, 0, 0)


@pytest.mark.parametrize("ages", [[], [[1.0]], [1.0, INF], [math.nan]])
def test_joiners_have_ages(ages):
    with pytest.raises(LawError, match="of joiners are"):
        Joiners.of(ages)


def test_joiners_of_some_ages_weigh_the_same():
    assert Joiners.of([5.0, 15.0, 40.0, 41.0]).weight.tolist() == [0.25] * 4


# The interval of the threshold


@pytest.mark.slow
def test_the_interval_holds_the_true_threshold_in_about_95_of_100_samples():
    """Polls at the same ages for all, where the estimate is the proportions, and a resample needs no fit."""
    rng = np.random.default_rng(5)
    ends = np.append(np.arange(0.0, 61.0, 2.0), INF)
    edges = np.column_stack([ends[:-1], ends[1:]])
    truth = np.diff(np.append((1 - NEVER) * LOGNORMAL.cdf(ends[:-1]), 1.0))
    edge = message_threshold(DelayLaw(edges, truth, 0.0, 0.0, rows([0], [1])), None, 0.25)

    def proportions(counts):
        has = counts > 0
        data = rows(edges[has, 0], edges[has, 1], counts[has])
        return DelayLaw(edges[has], counts[has] / counts.sum(), 0.0, 0.0, data)

    for n in (100, 400):
        missed = 0
        for _ in range(300):
            law = proportions(rng.multinomial(n, truth))
            drawn = rng.multinomial(n, law.mass, size=30)
            again = tuple(proportions(np.bincount(np.searchsorted(ends, law.edges[:, 0]), one, 31)) for one in drawn)
            low, high = threshold_interval(Resampled(law, again, drawn, n))
            missed += not low <= edge <= high
        assert 4 <= missed <= 26, n  # 15 are due


@pytest.mark.slow
def test_the_interval_holds_the_estimate_and_moves_with_the_cost_ratio():
    for seed in range(5):
        law = on_a_grid(400, np.random.default_rng(seed))
        found = law.bootstrap(draws=60)
        ends = [threshold_interval(found, ratio) for ratio in COST_RATIOS]
        for ratio, (low, high) in zip(COST_RATIOS, ends, strict=True):
            assert low <= message_threshold(law, None, ratio) <= high
        assert ends[0][0] >= ends[1][0] >= ends[2][0]
        assert ends[0][1] >= ends[1][1] >= ends[2][1]


def test_so_few_nests_that_stay_away_leave_the_interval_open():
    times = np.arange(1.0, 31.0)
    for nevers in (0, 1):
        law = npmle(np.append(times - 1, [60.0] * nevers), np.append(times, [INF] * nevers))
        assert threshold_interval(law.bootstrap(draws=60))[1] == INF
    many = npmle(np.append(times - 1, [60.0] * 30), np.append(times, [INF] * 30))
    assert threshold_interval(many.bootstrap(draws=60))[1] < 60


def test_more_nests_and_a_lower_level_make_the_interval_narrower():
    rng = np.random.default_rng(6)
    few, many = (on_a_grid(n, rng).bootstrap(draws=60, rng=rng) for n in (300, 3000))
    width = [high - low for low, high in (threshold_interval(few), threshold_interval(many))]
    assert width[1] < 0.6 * width[0]
    low, high = threshold_interval(many, level=0.5)
    assert high - low < 0.7 * width[1]


def test_nests_that_share_their_fate_widen_the_interval():
    rng = np.random.default_rng(7)
    bad = np.repeat(rng.random(40) < 0.15, 10)
    times = np.where(bad & (rng.random(400) < 0.8), INF, 4.0 * np.exp(0.9 * rng.standard_normal(400)))
    ends = np.append(np.arange(0.0, 61.0, 2.0), INF)
    which = np.searchsorted(ends[1:-1], times)
    law = npmle(ends[which], ends[which + 1])
    apart = threshold_interval(law.bootstrap(draws=60))
    together = threshold_interval(law.bootstrap(np.repeat(np.arange(40), 10), draws=60))
    assert together[0] < apart[0] < apart[1] < together[1]


def test_where_all_stay_away_or_all_is_known_the_interval_has_its_ends():
    low, high = threshold_interval(npmle([60] * 30, [INF] * 30).bootstrap(draws=5))
    assert low == 0
    assert high < 60
    assert threshold_interval(npmle([1] * 30, [2] * 30).bootstrap(draws=5))[1] == INF
