"""What a decision needs of a law: survival, its area, the age of a share; of ours and of scipy's."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from nestobs.estimate.law import LawError, survival
from nestobs.estimate.npmle import npmle

INF = math.inf
LOGNORMAL = stats.lognorm(0.9, scale=4.0)
AGES = np.array([0.0, 0.5, 3.0, 30.0, 1e4])


def test_survival_is_never_and_the_rest_still_coming():
    held = survival(LOGNORMAL, 0.08)
    assert held.coming(AGES) == pytest.approx(0.92 * LOGNORMAL.sf(AGES))
    assert held.at(AGES) == pytest.approx(0.08 + 0.92 * LOGNORMAL.sf(AGES))


def test_a_law_of_scipys_comes_always_unless_told_otherwise():
    assert survival(LOGNORMAL).never == 0
    assert survival(LOGNORMAL).at(AGES) == pytest.approx(LOGNORMAL.sf(AGES))


def test_a_law_of_ours_brings_its_never_share_which_another_may_replace():
    law = npmle([0, 1, 2, 5], [1, 2, 3, INF])
    assert survival(law).never == pytest.approx(0.25)
    assert survival(law).at([0, 1, 2, 3, 100]) == pytest.approx([1, 0.75, 0.5, 0.25, 0.25])
    assert survival(law, 0.1).at([0, 1, 2, 3, 100]) == pytest.approx(0.1 + 0.9 * np.array([1, 2 / 3, 1 / 3, 0, 0]))


def test_of_a_law_that_never_comes_nothing_is_coming():
    held = survival(npmle([1, 2], [INF, INF]))
    assert held.never == 1
    assert held.at(AGES).tolist() == [1.0] * 5
    assert held.coming(AGES).tolist() == [0.0] * 5
    assert survival(LOGNORMAL, 1.0).coming(AGES).tolist() == [0.0] * 5


def test_beyond_all_ages_nothing_is_coming():
    for law in (LOGNORMAL, npmle([0, 1], [1, INF])):
        assert survival(law).coming(INF) == 0


@pytest.mark.parametrize("never", [-0.1, 1.1, math.nan, INF])
def test_never_is_a_share(never):
    with pytest.raises(LawError, match="never is a share from 0 to 1"):
        survival(LOGNORMAL, never)


@pytest.mark.parametrize("law", [3, None, {"cdf": 1}])
def test_what_has_no_cdf_is_no_law(law):
    with pytest.raises(LawError, match="it has a cdf"):
        survival(law)


@pytest.mark.parametrize(
    ("law", "nodes"),
    [(LOGNORMAL, np.geomspace(0.01, 60, 80)), (npmle([0, 1, 5], [1, 4, INF]), np.array([0.0, 0.5, 1.0, 4.0, 9.0]))],
)
def test_the_area_is_the_integral_of_what_is_coming_between_nodes(law, nodes):
    held = survival(law)
    known = [integrate.quad(lambda t: float(held.coming(t)), a, b)[0] for a, b in itertools.pairwise(nodes)]
    assert held.area(nodes) == pytest.approx(np.concatenate([[0], np.cumsum(known)]), abs=1e-9)


@given(st.floats(1e-6, 0.9999))
def test_the_age_of_a_share_is_its_quantile(share):
    assert survival(LOGNORMAL, 0.3).age_of(share) == pytest.approx(LOGNORMAL.ppf(share), rel=1e-6)


def test_the_age_of_a_share_of_a_law_in_cells():
    held = survival(npmle([0, 1, 2, 5], [1, 2, 3, INF]))
    assert [held.age_of(share) for share in (1 / 6, 1 / 3, 1)] == pytest.approx([0.5, 1, 3])
    assert survival(npmle([2], [2])).age_of(0.5) == pytest.approx(2)
    assert survival(npmle([-3], [-2])).age_of(0.5) == 0.0
    assert held.age_of(0.0) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 7, 10, 49, 1000])
def test_all_have_come_by_the_last_end_whatever_rounding_makes_of_the_sum(n):
    upper = np.arange(1.0, n + 1)
    law = npmle(np.append(upper - 1, 1.0), np.append(upper, INF))
    assert survival(law).age_of(1.0) == pytest.approx(n)


def test_an_age_above_1e9_seconds_is_none():
    assert survival(stats.expon(scale=1e12)).age_of(0.5) == INF
    assert survival(stats.uniform(0, 1.2e9)).age_of(0.99) == INF
    assert survival(stats.uniform(0, 1.2e9)).age_of(0.5) == pytest.approx(6e8)
    assert survival(npmle([1], [INF])).age_of(0.5) == INF
