"""Nests of a truth as they were observed, to decide on, and fresh ones of a law, to judge what was decided by."""

from __future__ import annotations

import math

import numpy as np

from nestobs.timeline.failures import Failures, Tally
from nestobs.tuning.replay import PRICES, middles
from nestobs.tuning.simulation import courses, score
from worlds.simulated import TRUTHS, observe, timelines

EVENLY = middles(np.linspace(0.0, 30.0, 31))
LOSSY = Failures(
    info=Tally(200, broken=20, broken_s=(0.01,)),
    token=Tally(250, timed_out=2, broken=28, broken_s=(0.005, 0.02)),
    signal=Tally(200, broken=24, broken_s=(0.01,)),
)


def rng(seed=5):
    return np.random.default_rng(seed)


def seen(n, truth=TRUTHS[0], seed=5, slower=1.0, **more):
    """Nests of a truth, as they were observed."""
    draws = rng(seed)
    lower, upper = observe(truth.draw(n, draws) * slower, draws)
    return timelines(lower, upper).assign(**more)


def many(law, n=4000):
    """Instants of n fresh nests of a law or truth, evenly through its quantiles, four times."""
    shares, ages = (np.arange(n) + 0.5) / n, np.geomspace(1e-3, 1e4, 100_001)
    heap = np.asarray(law.cdf(ages))
    times = np.where(shares > 1.0 - law.never, math.inf, np.interp(shares, heap, ages))
    return np.tile(times, (4, 1))


def fresh(policy, law, *, prices=PRICES, ages=EVENLY, signed_in=True):
    """(cost, requests) per joiner of a policy on fresh nests."""
    times = many(law)
    found = score(courses(policy, ages, rng(), signed_in=signed_in), times, np.full(times.shape[1], math.inf))
    return float(found.cost(prices).mean()), float(found.requests.mean())
