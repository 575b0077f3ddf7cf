"""Crowds: what a server sees of them, and that no address gets more than its budget, whatever the policy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.join.budget import Limiter
from nestobs.join.policy import (
    GUIDE,
    Policy,
    Schedule,
    exponential,
    fixed,
    full_jitter,
    standard_policies,
)
from nestobs.observation.arrays import busiest
from nestobs.observation.duration import SECOND_NS
from nestobs.tuning.herd import crowd
from worlds.played import play

INF = math.inf
TABLE = Policy(
    name="table",
    ask_info=False,
    schedule=Schedule("table", table=((0.0, 0.5), (3.0, 2.0), (12.5, 7.25))),
    jitter=0.2,
    give_up_age_s=40.0,
    horizon_s=70.0,
)
POLICIES = [*standard_policies().values(), TABLE]


def rng():
    return np.random.default_rng(3)


def most(instants, window_s):
    """By counting from each instant on, its window's end left out."""
    return max((sum(a <= b < a + round(window_s * SECOND_NS) for b in instants) for a in instants), default=0)


@dataclass
class Watched(Limiter):
    """A limiter that remembers what it let through."""

    let: list[int] = field(default_factory=list)

    def take(self, now, *, urgent=False):
        taken = super().take(now, urgent=urgent)
        self.let += [now] if taken else []
        return taken


class TestTheBudget:
    @settings(max_examples=60, deadline=None)
    @given(
        policy=st.sampled_from(POLICIES),
        arrivals=st.lists(st.floats(0.0, 40.0), min_size=1, max_size=25),
        joinable_s=st.one_of(st.floats(0.0, 40.0), st.just(INF)),
        allowed=st.integers(1, 60),
        window_s=st.sampled_from([0.5, 3.0, 20.0, 900.0]),
        signed_in=st.booleans(),
    )
    def test_is_exceeded_in_no_window(self, policy, arrivals, joinable_s, allowed, window_s, signed_in):
        limiter = Watched(allowed, window_s)
        found = crowd(
            policy,
            joinable_s=joinable_s,
            arrivals=arrivals,
            rng=rng(),
            limiter=limiter,
            window_s=window_s,
            signed_in=signed_in,
        )
        assert most(limiter.let, window_s) == found.peak_in_window <= allowed
        assert found.requests == len(limiter.let)
        assert found.refused == limiter.refused

    def test_that_is_spent_ends_a_join(self):
        """80 requests: 26 whole rounds of three and two requests more; the rest is told that there are too many."""
        found = crowd(GUIDE, joinable_s=INF, arrivals=[0.0] * 50, rng=rng(), limiter=Limiter())
        assert found.requests == 80
        assert found.joined_share == 0.0
        assert found.refused > 0

    def test_large_enough_changes_nothing(self):
        alone, shared = (
            crowd(fixed(1), joinable_s=6.0, arrivals=[0.0, 1.0, 2.5], rng=rng(), limiter=limiter)
            for limiter in (None, Limiter(10_000))
        )
        assert alone == shared

    def test_small_gets_fewer_in(self):
        shares = [
            crowd(fixed(1), joinable_s=5.0, arrivals=[0.0] * 20, rng=rng(), limiter=Limiter(allowed)).joined_share
            for allowed in (40, 120, 300, 1000)
        ]
        assert shares == sorted(shares)
        assert shares[0] == 0.0
        assert shares[-1] == 1.0


class TestACrowd:
    @pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
    @pytest.mark.parametrize("joinable_s", [0.0, 7.7, INF])
    def test_of_one_is_a_join_step_by_step(self, policy, joinable_s):
        verdict = play(policy, joinable_s, 2.0, rng(), round_trip_s=0.02)
        found = crowd(policy, joinable_s=joinable_s, arrivals=[2.0], rng=rng())
        assert (found.requests, found.joined_share) == (verdict.requests, float(verdict.joined))

    def test_of_nobody_asks_nothing(self):
        found = crowd(GUIDE, joinable_s=0.0, arrivals=[], rng=rng())
        assert (found.joiners, found.requests, found.peak_per_s, found.joined_share) == (0, 0, 0, 0.0)

    def test_that_comes_at_once_shows_in_the_peak(self):
        """Each makes three requests within 40 ms, and three more five seconds later."""
        robot = Policy(name="pressed", schedule=Schedule("fixed", 5.0))
        found = crowd(robot, joinable_s=INF, arrivals=[0.0] * 30, rng=rng(), window_s=6.0)
        assert (found.joiners, found.peak_per_s, found.peak_in_window) == (30, 90, 180)

    def test_comes_back_as_a_herd_unless_jitter_spreads_it(self):
        """All arrive at once, 120 requests in the first second; the second wave is as high, or far lower."""
        later = []
        for policy in (exponential(8.0), replace(exponential(8.0), jitter=0.2), full_jitter(8.0)):
            seen = Watched(100_000)
            crowd(policy, joinable_s=INF, arrivals=[0.0] * 40, rng=rng(), limiter=seen)
            assert most(seen.let, 1.0) >= 120
            begin = min(seen.let)
            later.append(most([at for at in seen.let if begin + 2 * SECOND_NS <= at < begin + 16 * SECOND_NS], 1.0))
        herd, jittered, full = later
        assert herd == 120
        assert jittered < herd / 2
        assert full < herd / 4

    def test_of_a_nest_that_is_there_joins_by_one_round_each(self):
        found = crowd(GUIDE, joinable_s=0.0, arrivals=[0.0, 0.5, 9.0], rng=rng())
        assert (found.requests, found.joined_share) == (6, 1.0)
        assert crowd(GUIDE, joinable_s=0.0, arrivals=[0.0], rng=rng(), signed_in=False).requests == 2

    @settings(max_examples=30, deadline=None)
    @given(st.permutations([0.0, 0.0, 1.5, 4.0, 11.0]))
    def test_does_not_depend_on_the_order_in_which_joiners_are_named(self, arrivals):
        found = crowd(fixed(2), joinable_s=6.0, arrivals=arrivals, rng=rng())
        assert found == crowd(fixed(2), joinable_s=6.0, arrivals=sorted(arrivals), rng=rng())


class TestTheBusiestWindow:
    @pytest.mark.slow
    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.integers(0, 5 * SECOND_NS) | st.sampled_from([0, SECOND_NS, 2 * SECOND_NS]), max_size=40),
        st.sampled_from([0.001, 0.5, 1.0, 2.0, 100.0]),
    )
    def test_is_that_of_counting(self, instants, window_s):
        assert busiest(sorted(instants), window_s) == most(instants, window_s)

    def test_leaves_its_end_out(self):
        assert busiest([0, SECOND_NS], 1.0) == 1
        assert busiest([0, SECOND_NS - 1], 1.0) == 2
