"""Chances keep to what was measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.join.flow import Guest, Info, Join, Signal
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Outcome
from nestobs.timeline.failures import Failures, Tally
from nestobs.tuning.network import Network, drawn_shares

FAILING = Failures(
    info=Tally(200, broken=10, broken_s=(0.1,)),
    token=Tally(100, timed_out=10, limited=6, broken=4, broken_s=(0.01, 0.02), retry_after_s=3.0),
    signal=Tally(50, timed_out=5, broken=5, broken_s=(0.03,)),
)


def rng(seed=7):
    return np.random.default_rng(seed)


class TestShares:
    def test_drawn_are_jeffreys_posterior_by_its_quantiles(self):
        drawn = drawn_shares(FAILING, rng(), 2000)
        for column, (failed_, asked) in enumerate([(10, 200), (20, 100), (10, 50)]):
            a, b = failed_ + 0.5, asked - failed_ + 0.5
            assert drawn[:, column].mean() == pytest.approx(a / (a + b), rel=1e-3)
            assert drawn[:, column].std() == pytest.approx(math.sqrt(a * b / (a + b) ** 2 / (a + b + 1)), rel=0.01)
        assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.1

    def test_drawn_of_what_never_failed_are_none(self):
        assert (drawn_shares(Failures(token=Tally(100, broken=1, broken_s=(0.1,))), rng(), 10)[:, [0, 2]] == 0.0).all()


class TestANetwork:
    def test_fails_as_often_and_in_the_ways_that_were_measured(self):
        network, replies = Network(FAILING, rng()), []
        for _ in range(20_000):
            replies.append(network.request(Join(4.0), 0, SECOND_NS))
        share = {how: np.mean([reply is not None and reply.failure is how for reply in replies]) for how in Failure}
        assert share[Failure.TIMEOUT] == pytest.approx(0.10, abs=0.01)
        assert share[Failure.RATE_LIMITED] == pytest.approx(0.06, abs=0.008)
        assert share[Failure.RESET] == pytest.approx(0.04, abs=0.006)
        spent = {reply.failure: set() for reply in replies if reply}
        for reply in filter(None, replies):
            spent[reply.failure].add((reply.at / SECOND_NS, reply.retry_after_s, reply.outcome))
        assert spent == {
            Failure.TIMEOUT: {(4.0, None, Outcome.UNKNOWN)},
            Failure.RATE_LIMITED: {(1.0, 3.0, Outcome.REFUSED)},
            Failure.RESET: {(0.01, None, Outcome.UNKNOWN), (0.02, None, Outcome.UNKNOWN)},
        }

    def test_fails_info_and_guest_requests_as_their_kinds_do(self):
        network = Network(FAILING, rng())
        infos, guests = (
            np.mean([network.request(step, 0, 0) is not None for _ in range(20_000)]) for step in (Info(1), Guest(1))
        )
        assert infos == pytest.approx(0.05, abs=0.006)
        assert guests == pytest.approx(0.2, abs=0.012)

    def test_loses_k_connections_with_the_kth_power_of_their_share(self):
        network, lost = Network(FAILING, rng()), []
        for _ in range(20_000):
            network.request(Join(4.0), 0, 0)
            lost.append(network.lost)
            for _ in range(network.lost):
                assert network.connect(Signal("x", 5.0), 0).at in (30_000_000, 5 * SECOND_NS)
            assert network.connect(Signal("x", 5.0), 0) is None
        for k in (1, 2, 3):
            assert np.mean(np.array(lost) >= k) == pytest.approx(0.2**k, abs=0.012)

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from([0.0, 1e-12, 0.3, 1.0]), st.sampled_from([0.0, 1e-300, 0.5, 1 - 1e-16]))
    def test_bears_any_share_and_any_chance(self, share, chance):
        network = Network(FAILING, rng(), shares=(share,) * 3, first=np.full((1, 3), chance))
        reply = network.request(Join(4.0), 0, 0)
        assert (reply is not None) == (chance < share)
        assert (network.lost > 0) == (chance < share)

    def test_takes_the_first_chances_it_is_given_and_then_its_own(self):
        network = Network(FAILING, rng(), first=np.array([[0.0, 0.9, 0.0], [0.99, 0.9, 0.0]]))
        assert network.request(Join(4.0), 0, 0).failure is Failure.TIMEOUT
        assert network.request(Join(4.0), 0, 0) is None
        later = [network.request(Join(4.0), 0, 0) is None for _ in range(50)]
        own = Network(FAILING, rng())
        assert later == [own.request(Join(4.0), 0, 0) is None for _ in range(50)]
