"""Paired differences: intervals that hold what they say where losses are rare, and the power to have shown any."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nestobs.estimate.npmle import Number
from nestobs.estimate.pairs import MOST, POWER, error, expected, fails, mean, needed, seen, to_see

pytestmark = pytest.mark.slow

SETS = 2_000
LOST_S = 60.0


def rng():
    return np.random.default_rng(7)


def test_without_anything_rare_it_is_students_interval_of_a_pair_more():
    found = mean(np.array([1.0, 2.0, 4.0, 7.0]))
    assert (found.value, found.sd) == (3.5, pytest.approx(np.std([1, 2, 4, 7], ddof=1)))
    low, high = stats.t.interval(0.95, 3, loc=3.5, scale=math.sqrt(21.0 / (4 * 5)))
    assert (found.lower, found.upper) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(("differences", "value"), [([], math.nan), ([2.5], 2.5)], ids=["none", "one"])
def test_too_few_pairs_have_no_ends(differences, value):
    found = mean(np.array(differences))
    assert found.value == pytest.approx(value, nan_ok=True)
    assert (found.lower, found.upper) == (-math.inf, math.inf)


def losses(n, first, second, sets=SETS):
    """Differences of pairs of which such shares are lost by the one alone and by the other alone."""
    drawn = rng().random((sets, n))
    return (drawn < first).astype(float) - ((drawn >= first) & (drawn < first + second))


@pytest.mark.parametrize("n", [20, 60, 200])
@pytest.mark.parametrize(("first", "second"), [(0.002, 0.0), (0.02, 0.0), (0.03, 0.03), (0.0, 0.15), (0.1, 0.3)])
def test_its_interval_holds_the_truth_where_what_differs_is_rare(n, first, second):
    """A plain interval of no width is sure that nothing is lost where nothing was."""
    each = LOST_S * losses(n, first, second) + rng().normal(-1.0, 3.0, (SETS, n))
    truth = LOST_S * (first - second) - 1.0
    ends = [mean(one, LOST_S) for one in each]
    held = np.mean([one.lower <= truth <= one.upper for one in ends])
    assert held >= 0.95 - 3.0 * math.sqrt(0.05 * 0.95 / SETS) - 0.02


@pytest.mark.parametrize("n", [30, 120])
@pytest.mark.parametrize("true", [0.0, -2.0])
def test_a_mean_falls_where_it_is_expected_in_95_of_100(n, true):
    """Prediction and sample both err."""
    own, sd = 0.8, 6.0
    told = rng().normal(true, own, SETS)
    came = np.random.default_rng(8).normal(true, sd / math.sqrt(n), SETS)
    inside = [
        low <= value <= high
        for value, (low, high) in zip(
            came, (expected(Number(one, one - 1.96 * own, one + 1.96 * own, sd), n, 0) for one in told), strict=True
        )
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / SETS))


@pytest.mark.parametrize("number", [Number(-3.0, -4.0, -2.0, 12.0), Number(0.4, 0.1, 0.6, 1.0)])
@pytest.mark.parametrize("n", [10, 50, 400])
def test_it_fails_as_often_as_it_says_where_nothing_differs(number, n):
    low, high = expected(number, n, 60, 1.0)
    came = rng().normal(0.0, error(number.sd, n, 1.0), 40_000)
    assert fails(number, n, 60, 1.0) == pytest.approx(np.mean((came < low) | (came > high)), abs=0.01)


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        pytest.param(Number(-4.0, -5.6, -2.4, 14.8), LOST_S, id="dear losses"),
        pytest.param(Number(0.3, 0.25, 0.35, 1.0), 0.0, id="requests"),
        pytest.param(Number(-0.07, -0.1, -0.04, 0.25), 1.0, id="a share"),
        pytest.param(Number(2.0, 2.0, 2.0, 0.0), 0.0, id="always as much"),
    ],
)
def test_so_many_pairs_are_needed_for_it_to_fail(number, unit):
    many = needed(number, 500, unit)
    assert many is not None
    assert fails(number, many, 500, unit) >= POWER
    assert many == 2 or fails(number, many - 1, 500, unit) < POWER + 1e-6


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(Number(-1.0, -3.0, 1.0, 5.0), id="it may be nothing"),
        pytest.param(Number(0.0, 0.0, 0.0, 0.0), id="nothing"),
        pytest.param(Number(math.nan, math.nan, math.nan), id="unknown"),
        pytest.param(Number(-1.0, -math.inf, math.inf, 1.0), id="no ends"),
        pytest.param(Number(-1.0, -1.1, -0.9, math.nan), id="no spread"),
        pytest.param(Number(1e-6, 1e-6, 1e-6, 1e3), id="next to nothing"),
    ],
)
def test_what_no_number_of_pairs_could_show_is_not_promised(number):
    assert needed(number, 30) is None


def test_what_so_many_pairs_show_is_what_they_are_needed_for():
    for difference, sd, unit in ((4.0, 15.0, 60.0), (0.2, 1.0, 0.0), (0.05, 0.3, 1.0)):
        many = to_see(difference, sd, unit)
        assert many is not None
        assert seen(sd, many, unit) <= difference < seen(sd, many - 1, unit)
    assert to_see(1e-9, 1.0) is None
    assert seen(1.0, 1) == seen(math.nan, 50) == math.inf
    assert seen(1.0, MOST) < 0.01


def test_a_difference_that_is_seen_excludes_zero_with_that_power():
    n, sd = 80, 5.0
    difference = seen(sd, n)
    ends = [mean(one) for one in rng().normal(difference, sd, (SETS, n))]
    assert np.mean([one.lower > 0 for one in ends]) == pytest.approx(POWER, abs=0.03)
