"""Decisions: by any prices, within the budget, and near the best that the truth allows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nestobs.estimate.npmle import npmle
from nestobs.join.policy import LONGEST_S, MANUAL_RETRY, Policy
from nestobs.tuning.costs import Prices
from nestobs.tuning.decisions import Allowance, Terms
from nestobs.tuning.replay import PRICES
from nestobs.tuning.simulation import course, courses, score
from worlds.fresh_nests import EVENLY, LOSSY, fresh, many, rng, seen
from worlds.simulated import TRUTHS

pytestmark = pytest.mark.slow

LOGNORMAL, BIMODAL = TRUTHS
SMALL = Allowance(requests=6, reserve=0.0, joins=0.01)


def terms(**changed):
    usual = {"arrivals": EVENLY, "signed_in": True, "prices": PRICES, "allowance": Allowance(), "cost_ratio": 0.25}
    return Terms(**usual | changed)


def law_of(n, truth=LOGNORMAL, seed=5):
    """The smoothed law of so many nests of a truth."""
    table = seen(n, truth, seed)
    return npmle(table["lower_s"].to_numpy(), table["upper_s"].to_numpy()).smooth()


@pytest.mark.parametrize(
    "prices",
    [
        Prices(0.0, 1.0, 60.0, 0.05),
        Prices(0.0, 0.0, 0.0),
        Prices(0.1, 0.0, 60.0),
        Prices(0.1, 1.0, 0.0),
        Prices(0.1, 1.0, 1e6, 1e6),
    ],
)
def test_any_prices_give_policies(prices):
    made, law = terms(prices=prices), law_of(40)
    plan = made.decide(law, 30.0)
    for policy in (plan.policy, made.simplify(law, plan, 30.0)[0]):
        assert isinstance(policy, Policy)
        assert math.isfinite(fresh(policy, law, prices=prices)[0])


@pytest.mark.parametrize("signed_in", [True, False])
@pytest.mark.parametrize("prices", [PRICES, Prices(0.1, 0.0, 60.0), Prices(2.0, 1.0, 300.0)])
def test_a_policy_ends_by_its_give_up_age_and_not_by_another_bound(prices, signed_in):
    """Sparse tables, too: neither the horizon nor the count of requests cuts a wait that the table asks for."""
    policy = terms(prices=prices, signed_in=signed_in).decide(law_of(60), 30.0).policy
    free = replace(policy, horizon_s=policy.horizon_s + 1000.0, max_requests=10_000)
    for age in EVENLY:
        one, other = (course(each, float(age), rng(), signed_in=signed_in) for each in (policy, free))
        assert one.asked.tolist() == other.asked.tolist()


def test_a_policy_stops_where_asking_on_is_not_worth_it_though_later_it_would_be():
    """Between two modes, where a lost join is cheap: who is answered 404 at 3 s leaves, who comes at 10 s stays."""
    cheap = Prices(0.1, 1.0, 5.0, 1.0)
    policy = terms(prices=cheap).decide(BIMODAL, 30.0).policy
    gaps = dict(policy.schedule.table)
    stops = [age for age, gap in gaps.items() if gap == LONGEST_S]
    assert stops
    assert max(stops) < policy.give_up_age_s
    late = course(replace(policy, jitter=0.0), max(stops), rng())
    assert len(late.asked) == 1


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_the_table_and_the_simple_policy_beat_todays_rule_and_come_near_the_optimum(truth):
    """On fresh nests, of six sets of 300: the optimum is tuned on the truth itself."""
    best, _ = fresh(terms().decide(truth, 30.0).policy, truth)
    today, _ = fresh(MANUAL_RETRY, truth)
    regrets = []
    for seed in range(6):
        law = law_of(300, truth, seed)
        plan = terms().decide(law, 30.0)
        policies = (plan.policy, terms().simplify(law, plan, 30.0)[0])
        regrets.append([fresh(policy, truth)[0] / best - 1.0 for policy in policies])
    tuned, simple = np.array(regrets).T
    assert max(tuned.max(), simple.max()) < 0.8 * today / best - 1.0
    assert -0.01 < tuned.mean() < 0.05
    assert tuned.max() < 0.15
    assert simple.mean() < 0.15


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
@pytest.mark.parametrize("signed_in", [True, False])
def test_the_budget_is_kept(truth, signed_in):
    """Of the law it was tuned on, with jitter and all: at most one request in a hundred more."""
    for joins in (5.0, 20.0, 30.0, 45.0):
        made, law = terms(allowance=Allowance(joins=joins), signed_in=signed_in), law_of(100, truth)
        plan = made.decide(law, 30.0)
        plain, _ = made.simplify(law, plan, 30.0)
        for policy in (plan.policy, plain):
            _, requests = fresh(policy, law, signed_in=signed_in)
            assert requests <= 1.01 * made.allowance.per_join, (joins, policy.name)


@pytest.mark.parametrize("failures", [None, LOSSY])
def test_a_window_bounds_a_single_join(failures):
    policy = terms(allowance=SMALL, failures=failures).decide(law_of(60), 30.0).policy
    assert policy.max_requests == 6
    for age in EVENLY:
        assert course(policy, float(age), rng()).total <= 6


@pytest.mark.parametrize("signed_in", [True, False])
def test_requests_that_fail_count_into_the_budget(signed_in):
    """Requests made again are requests: on fresh nests no more than planned, and that not too much."""
    for joins in (5.0, 20.0, 30.0):
        made, law = terms(allowance=Allowance(joins=joins), signed_in=signed_in, failures=LOSSY), law_of(100)
        plan = made.decide(law, 30.0)
        ways = courses(plan.policy, EVENLY, rng(), signed_in=signed_in, failures=LOSSY, shapes=16)
        times = np.tile(many(law, 500)[0], (16, 1))
        requests = float(score(ways, times, np.full(times.shape[1], math.inf)).requests.mean())
        assert 0.8 * plan.requests < requests < 1.01 * plan.requests <= 1.01 * made.allowance.per_join, joins
