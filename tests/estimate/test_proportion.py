"""Shares: exact intervals with known answers, doubt on top, and none of nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nestobs.estimate.proportion import share


def test_known_intervals() -> None:
    """Of none in ten the upper end is 1 - .025 ** (1 / 10); of all the lower end is its mirror."""
    none, every = share(0, 10), share(10, 10)
    assert (none.lower, round(none.upper, 6)) == (0.0, round(1 - 0.025**0.1, 6))
    assert (round(every.lower, 6), every.upper) == (round(0.025**0.1, 6), 1.0)
    assert (none.value, every.value) == (0.0, 1.0)


def test_doubt_widens_it_by_the_interval_of_its_own_count() -> None:
    found = share(2, 10, 5)
    assert (found.value, found.doubt) == (0.2, 0.3)
    assert found.lower == share(2, 10).lower
    assert found.upper == share(5, 10).upper


def test_of_nothing_there_is_no_share() -> None:
    found = share(0, 0)
    assert math.isnan(found.value)
    assert math.isnan(found.doubt)
    assert (found.lower, found.upper) == (0.0, 1.0)


@pytest.mark.parametrize(("least", "n", "most"), [(-1, 3, None), (4, 3, None), (2, 3, 1), (2, 3, 4)])
def test_what_is_no_share_is_refused(least: int, n: int, most: int | None) -> None:
    with pytest.raises(ValueError, match="is no share"):
        share(least, n, most)


@given(st.integers(1, 300), st.data())
def test_it_is_the_interval_of_scipy(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    theirs = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    ours = share(k, n)
    assert ours.lower == pytest.approx(theirs.low, abs=1e-9)
    assert ours.upper == pytest.approx(theirs.high, abs=1e-9)
