"""Differences with their intervals: published examples and exact laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from nestobs.estimate.difference import Quantile, _binomial, difference, holm, poisson, rate_ratio, touching
from nestobs.estimate.proportion import share

NEWCOMBE = {  # Newcombe (1998), table II, method 10: a/m less b/n
    (56, 70, 48, 80): (0.0524, 0.3339),
    (9, 10, 3, 10): (0.1705, 0.8090),
    (6, 7, 2, 7): (0.0582, 0.8062),
    (5, 56, 0, 29): (-0.0381, 0.1926),
    (0, 10, 0, 20): (-0.1611, 0.2775),
    (0, 10, 0, 10): (-0.2775, 0.2775),
    (10, 10, 0, 20): (0.6791, 1.0),
    (10, 10, 0, 10): (0.6075, 1.0),
}


@pytest.mark.parametrize("case", NEWCOMBE)
def test_a_difference_of_shares_is_newcombes(case: tuple[int, int, int, int]) -> None:
    a, m, b, n = case
    assert difference(share(a, m), share(b, n)) == pytest.approx(NEWCOMBE[case], abs=5e-5)


@pytest.mark.parametrize(("n", "ranks"), [(10, (2, 9)), (20, (6, 15)), (30, (10, 21)), (5, (0, 6)), (6, (1, 6))])
def test_a_median_is_between_two_order_statistics(n: int, ranks: tuple[int, int]) -> None:
    times = np.arange(1.0, n + 1.0)
    low, _, _, high = Quantile(0.5, times, times).at(0.95)
    assert (low, high) == (ranks[0] or -math.inf, ranks[1] if ranks[1] <= n else math.inf)


@given(st.integers(1, 5_000), st.floats(0.01, 0.99), st.sampled_from([1e-9, 0.005, 0.025, 0.5, 0.975, 0.995]))
def test_ranks_are_quantiles_of_the_binomial_law(n: int, p: float, below: float) -> None:
    assume((p, below) != (0.5, 0.5))  # of an odd number a tie, which scipy's rounding breaks either way
    assert _binomial(below, n, p) == stats.binom.ppf(below, n, p)


@pytest.mark.parametrize("n", [1, 3, 45, 101, 171, 4_999])
def test_half_of_an_odd_number_of_fair_draws_is_the_lesser_middle(n: int) -> None:
    assert _binomial(0.5, n, 0.5) == (n - 1) / 2


def test_what_rows_leave_open_adds_up_and_error_is_squared() -> None:
    exact = np.arange(1.0, 101.0)
    one, other = Quantile(0.5, exact - 1.0, exact), Quantile(0.5, exact - 3.0, exact)
    ends, than = one.at(0.95), other.at(0.95)
    low, high = difference(one, other)
    assert low == pytest.approx((ends.least - than.most) - math.hypot(ends.least - ends.low, than.high - than.most))
    assert high == pytest.approx((ends.most - than.least) + math.hypot(ends.high - ends.most, than.least - than.low))
    assert (ends.least, ends.most) == (49.0, 50.0)


def test_where_half_never_came_a_difference_has_no_end() -> None:
    came, not_come = np.arange(1.0, 41.0), np.full(40, np.inf)
    never, all_came = Quantile(0.5, np.full(40, 90.0), not_come), Quantile(0.5, came, came)
    low, high = difference(never, all_came)
    assert low > 50
    assert high == math.inf
    assert difference(never, never) == (-math.inf, math.inf)


def test_intervals_of_medians_differ_no_more_often_than_they_say() -> None:
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(300):
        one, other = (np.sort(np.exp(rng.standard_normal(60))) for _ in range(2))
        step = 0.05 * rng.random()
        low, high = difference(*(Quantile(0.5, times - step, times + step) for times in (one, other)))
        missed += not low <= 0.0 <= high
    assert missed <= 0.05 * 300


@pytest.mark.parametrize(("after", "before"), [(10, 20), (0, 7), (7, 0), (1, 1), (300, 250)])
def test_a_ratio_of_rates_is_exact(after: int, before: int) -> None:
    low, high = rate_ratio(after, 1.0, before, 2.0)
    theirs = stats.binomtest(after, after + before).proportion_ci(0.95, "exact")
    assert low == pytest.approx(2.0 * theirs.low / (1.0 - theirs.low))
    assert high == pytest.approx(2.0 * theirs.high / (1.0 - theirs.high)) if before else high == math.inf


def test_nothing_counted_and_no_time_to_count_say_nothing() -> None:
    assert rate_ratio(0, 1.0, 0, 1.0) == (0.0, math.inf)
    assert rate_ratio(3, 0.0, 4, 1.0) == (0.0, math.inf)


@pytest.mark.parametrize(("count", "ends"), [(0, (0.0, 3.689)), (1, (0.0253, 5.572)), (10, (4.795, 18.39))])
def test_a_count_has_garwoods_interval(count: int, ends: tuple[float, float]) -> None:
    assert poisson(count) == pytest.approx(ends, rel=1e-3, abs=1e-3)


def test_p_is_where_the_interval_touches() -> None:
    p = touching(lambda level: difference(share(56, 70), share(48, 80), level))
    assert difference(share(56, 70), share(48, 80), 1.0 - p)[0] == pytest.approx(0.0, abs=1e-4)
    assert p == pytest.approx(0.0081, abs=2e-4)
    assert touching(lambda level: difference(share(5, 10), share(5, 10), level)) == 1.0
    assert touching(lambda _: (1.0, 2.0)) == 1e-12


def test_holm_is_that_of_others() -> None:
    """R: p.adjust(c(.01, .04, .03, .005), "holm")."""
    assert list(holm([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert list(holm([])) == []
    assert list(holm([0.9, 0.8])) == [1.0, 1.0]


@given(st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=30))
def test_holm_never_lowers_and_keeps_the_order(ps: list[float]) -> None:
    held = holm(ps)
    assert (held >= np.array(ps) - 1e-15).all()
    assert (np.diff(held[np.argsort(ps, kind="stable")]) >= 0).all()
