"""The half nest that nobody saw: how much of it, when it comes, and what it does to plans and comparisons."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nestobs.estimate.npmle import npmle
from nestobs.join.policy import MANUAL_RETRY, fixed
from nestobs.timeline.delays import joinable
from nestobs.tuning.decisions import Terms
from nestobs.tuning.doubts.persons import moved
from nestobs.tuning.doubts.unseen import Unseen
from nestobs.tuning.imputation import recorded
from nestobs.tuning.replay import COST, PRICES, Arena
from worlds.fresh_nests import EVENLY, rng
from worlds.simulated import timelines

INF = math.inf
TERMS = Terms(arrivals=EVENLY, prices=PRICES)


def soon(stayed_away=2, count=40, last_s=2.0):
    """Nests that come within 2 s, one of them by `last_s`; some stay away all 90 s of the watch."""
    lower, upper = np.full(count, 0.5), np.linspace(1.0, 2.0, count)
    lower[0], upper[0] = last_s - 0.5, last_s
    lower[count - stayed_away :], upper[count - stayed_away :] = 90.0, INF
    return timelines(lower, upper)


def law_of(table):
    return npmle(table["lower_s"].to_numpy(), table["upper_s"].to_numpy())


def added(table, nests=40):
    law = law_of(table)
    return Unseen.of(law.rows, nests).added(law.smooth(0.02))


class TestTheLaw:
    @pytest.mark.parametrize("stayed_away", [2, 10])
    def test_counts_half_a_nest_more_later_than_the_last_that_came(self, stayed_away):
        found = added(soon(stayed_away))
        late = 1.0 - found.cdf(2.3) - found.never
        assert late == pytest.approx(0.5 / 40.5 * (1 - math.log(2.3 / 2.0) / math.log(45.0)), rel=1e-3)
        assert found.never == pytest.approx(stayed_away / 40.5)
        assert found.mass.sum() == pytest.approx(1.0)

    def test_has_it_evenly_on_log_time_up_to_the_end_of_the_watch(self):
        found = added(soon())
        late = [1.0 - float(found.cdf(age)) - found.never for age in (3.0, math.sqrt(3.0 * 90.0), 90.0)]
        assert late[1] == pytest.approx(late[0] / 2.0, rel=1e-3)
        assert late[2] == pytest.approx(0.0, abs=1e-12)

    @pytest.mark.parametrize("last_s", [60.0, 89.0, 90.0])
    def test_leaves_it_the_later_half_of_the_watch_where_a_nest_came_late(self, last_s):
        found = Unseen.of(law_of(soon(last_s=last_s)).rows, 40)
        assert (found.begin_s, found.end_s) == (45.0, 90.0)
        assert (found.ages(4) > 45.0).all()

    def test_counts_nests_and_not_rows(self):
        once, twice = (Unseen.of(law_of(soon()).rows, nests).share for nests in (40, 20))
        assert (once, twice) == (0.5 / 40.5, 0.5 / 20.5)

    @pytest.mark.parametrize("ends", [(0.0, 0.0), (-INF, 0.001), (0.0, 5.0), (3.0, INF)])
    def test_bears_any_rows(self, ends):
        table = timelines(np.full(8, ends[0]), np.full(8, ends[1]))
        found = added(table, 8)
        assert found.mass.sum() == pytest.approx(1.0)
        assert (found.mass > 0).all()
        assert (np.diff(found.edges[:, 1]) > 0).all()


def test_who_plans_by_it_asks_on_where_no_late_nest_was_seen():
    plain, late = law_of(soon()).smooth(0.02), added(soon())
    stops = [TERMS.decide(law, 30.0).table.stop_age for law in (plain, late)]
    assert stops[0] < 3.0
    assert 45.0 < stops[1] <= 90.0


def until(give_up_age_s, every_s=2):
    """Asks so often until then."""
    name = f"every {every_s} s until {give_up_age_s:g} s"
    return replace(fixed(every_s), name=name, give_up_age_s=give_up_age_s, horizon_s=120.0, max_requests=300)


def arena(table, **changed):
    return Arena(recorded(joinable(table), rng()), replace(TERMS, **changed), 400, rng())


class TestAComparison:
    def test_does_not_take_requests_saved_for_proof(self):
        """Who stops at 5 s saves requests at each nest of the sample and loses none of it."""
        made = arena(soon(stayed_away=5))
        brief, long = until(5.0), until(85.0)
        scores, base = (made.play(policy).scores for policy in (brief, long))
        number = made.difference(brief, scores, long, base)
        assert number.value < 0 < number.upper
        assert made.differences(brief, scores, long, base)["lost_share"].upper > 0.01
        made._sizes_late = made._sizes
        assert made.difference(brief, scores, long, base).upper < 0

    def test_of_policies_that_ask_as_long_is_hardly_wider(self):
        made = arena(soon(stayed_away=5))
        ours, theirs = until(85.0), until(85.0, every_s=3)
        scores, base = (made.play(policy).scores for policy in (ours, theirs))
        widths = []
        for sizes in (made._sizes_late, made._sizes):
            made._sizes_late = sizes
            number = made.difference(ours, scores, theirs, base)
            widths.append(number.upper - number.lower)
        assert widths[0] == pytest.approx(widths[1], rel=0.05)

    @pytest.mark.slow
    def test_with_the_person_as_it_is_is_the_same_as_in_the_table(self):
        made, policy = arena(soon()), until(40.0)
        today = made.compare([MANUAL_RETRY])[0]
        scores = made.play(policy).scores
        person = MANUAL_RETRY.person
        [same] = [
            one
            for one in moved(made, policy, scores, MANUAL_RETRY)
            if (one.reaction_s, one.leaves) == (person.reaction_s, person.leaves)
        ]
        number = made.paired(policy, scores, MANUAL_RETRY, today.scores)[COST]
        assert (same.apart.lower, same.apart.upper) == pytest.approx((number.lower, number.upper))
