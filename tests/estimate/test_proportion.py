"""Shares: exact intervals with known answers, doubt on top, and none of nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nestobs.estimate.proportion import Share, jeffreys, share


def test_known_intervals() -> None:
    """Of none in ten the upper end is 1 - .025 ** (1 / 10); of all the lower end is its mirror."""
    none, every = share(0, 10), share(10, 10)
    assert none.by_chance() == (0.0, pytest.approx(1 - 0.025**0.1))
    assert every.by_chance() == (pytest.approx(0.025**0.1), 1.0)
    assert (none.value, every.value) == (0.0, 1.0)


def test_doubt_widens_it_by_the_interval_of_its_own_count() -> None:
    found = share(2, 10, 5)
    assert (found.value, found.doubt) == (0.2, 0.3)
    assert found.by_chance() == share(2, 10).by_chance()
    assert found.by_chance_and_doubt() == (share(2, 10).by_chance().lower, share(5, 10).by_chance().upper)
    assert share(2, 10).by_chance_and_doubt() == share(2, 10).by_chance()


def test_of_nothing_there_is_no_share() -> None:
    found = share(0, 0)
    assert math.isnan(found.value)
    assert math.isnan(found.doubt)
    assert found.by_chance() == found.by_chance_and_doubt() == found.score() == (0.0, 1.0)


@pytest.mark.parametrize(("least", "n", "most"), [(-1, 3, None), (4, 3, None), (2, 3, 1), (2, 3, 4)])
def test_what_is_no_share_is_refused(least: int, n: int, most: int | None) -> None:
    with pytest.raises(ValueError, match="is no share"):
        share(least, n, most)


@given(st.integers(1, 300), st.data())
def test_it_is_the_interval_of_scipy(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    theirs = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    ours = share(k, n)
    assert ours.by_chance() == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    theirs = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert ours.score() == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_a_share_has_wilsons_interval() -> None:
    """Newcombe (1998), single proportion, table I, method 3."""
    assert share(81, 263).score() == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(st.integers(1, 300), st.data())
def test_jeffreys_ends_are_quantiles_of_a_beta_law(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    lower, upper = jeffreys(k / n, n)
    law = stats.beta(k + 0.5, n - k + 0.5)
    assert lower == pytest.approx(law.ppf(0.025), abs=1e-9)
    assert upper == pytest.approx(law.ppf(0.975) if k < n else 1.0, abs=1e-9)
    assert jeffreys(0.0, n)[0] == 0.0


def test_rows_that_share_their_fate_prove_as_few_as_they_are_worth() -> None:
    many, few = Share(20, 20, 100, deff=10.0), share(2, 10)
    assert many.by_chance() == pytest.approx(few.by_chance())
    assert many.score() == pytest.approx(few.score())
    assert many.value == few.value
