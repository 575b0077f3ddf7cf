"""Imputed instants: inside their intervals, as the law has it, and never where nobody looked."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.estimate.npmle import npmle, rows
from nestobs.tuning.imputation import by_own, impute
from worlds.simulated import TRUTHS, observe

INF = math.inf


def rng(seed=7):
    return np.random.default_rng(seed)


class TestImputed:
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from([-INF, 0.0, 1.0, 2.5, 30.0]), st.sampled_from([0.0, 1e-9, 0.7, 20.0, INF])),
            min_size=1,
            max_size=12,
        ),
        st.integers(0, 99),
    )
    def test_instants_lie_inside_their_intervals(self, ends, seed):
        """Above the lower end, at most the upper; an exact one is itself."""
        lower = np.array([low for low, _ in ends])
        upper = np.array([max(low, 0.0) + width for low, width in ends])
        data = rows(lower, upper)
        law = npmle(lower, upper).smooth(0.3)
        drawn = impute(law, data, rng(seed), 20)
        exact = lower == upper
        assert ((drawn > lower) | exact).all()
        assert (drawn <= upper).all()
        assert (drawn[:, exact] == lower[exact]).all()
        assert np.isfinite(drawn[:, np.isfinite(upper)]).all()

    def test_instants_follow_the_law_within_an_interval(self):
        law = npmle(*observe(TRUTHS[0].draw(400, rng()), rng())).smooth()
        drawn = impute(law, rows(np.full(4000, 2.0), np.full(4000, 12.0)), rng(), 1)[0]
        at = np.array([3.0, 4.0, 6.0, 9.0])
        wanted = (law.cdf(at) - law.cdf(2.0)) / (law.cdf(12.0) - law.cdf(2.0))
        assert (drawn[:, None] <= at).mean(axis=0) == pytest.approx(wanted, abs=0.03)

    def test_instants_where_the_law_has_no_mass_are_even(self):
        law = npmle(np.full(40, 1.0), np.full(40, 2.0)).smooth(0.02)
        drawn = impute(law, rows([50.0] * 2000, [60.0] * 2000), rng(), 1)[0]
        assert np.mean(drawn) == pytest.approx(55.0, abs=0.3)
        assert drawn.min() > 50.0
        assert drawn.max() <= 60.0

    def test_nests_never_seen_stay_away_unless_others_came_later(self):
        """Of one watched to the end nothing is known beyond; one given up at 2 s may have come like the others."""
        low, high = np.array([0.0, 3.0, 20.0, 90.0, 2.0]), np.array([1.0, 8.0, 30.0, INF, INF])
        drawn = impute(npmle(low, high).smooth(0.5), rows(low, high), rng(), 400)
        assert np.isinf(drawn[:, 3]).all()
        came = np.isfinite(drawn[:, 4])
        assert 0.4 < came.mean() < 0.9
        assert drawn[came, 4].max() <= 30.0


class TestTheRouteThatCame:
    """Where the guest's join came first, the authenticated one follows by itself, later."""

    def drawn(self, *ends, joinable_s):
        columns = ("join_lower_s", "join_upper_s", "guest_lower_s", "guest_upper_s")
        return by_own(pd.DataFrame([ends], columns=columns), np.full((400, 1), joinable_s), rng())[:, 0]

    def test_is_the_authenticated_one_at_once_where_that_came_first(self):
        assert set(self.drawn(1.0, 2.0, 3.0, 4.0, joinable_s=1.5)) == {1.5}
        assert set(self.drawn(1.0, 2.0, 3.0, INF, joinable_s=1.5)) == {1.5}

    def test_is_the_authenticated_one_in_its_own_interval_where_the_guest_s_came_first(self):
        later = self.drawn(5.0, 6.0, 1.0, 2.0, joinable_s=1.5)
        assert later.min() > 5.0
        assert later.max() <= 6.0
        assert later.mean() == pytest.approx(5.5, abs=0.05)
        assert set(self.drawn(5.0, INF, 1.0, 2.0, joinable_s=1.5)) == {INF}

    def test_is_either_where_nothing_tells_and_never_before_a_join_succeeds(self):
        found = self.drawn(1.0, 2.0, 1.0, 2.0, joinable_s=1.5)
        assert 0.4 < np.mean(found == 1.5) < 0.6
        assert found.min() == 1.5
        assert found.max() <= 2.0

    @pytest.mark.parametrize("ends", [(1.0, 2.0, math.nan, math.nan), (math.nan, math.nan, 1.0, 2.0)])
    def test_is_the_only_one_that_was_asked(self, ends):
        assert set(self.drawn(*ends, joinable_s=1.5)) == {1.5}

    def test_that_never_came_stays_away(self):
        assert set(self.drawn(9.0, INF, 9.0, INF, joinable_s=INF)) == {INF}
