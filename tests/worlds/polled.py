"""Simulated delays as polls see them, for the tests of the statistics."""

from __future__ import annotations

import math

import numpy as np


def polled(delays, rng, spacing=1.0, horizon=60.0):
    """(lower, upper] of each delay under polls about `spacing` apart, with a phase per nest; inf past the horizon."""
    gap = spacing * np.exp(0.3 * rng.standard_normal(len(delays)))
    phase = rng.random(len(delays)) * gap
    seen = np.maximum(np.ceil((np.minimum(delays, horizon) - phase) / gap), 0.0)
    upper = phase + seen * gap
    return np.where(seen > 0, upper - gap, 0.0), np.where(delays > horizon, math.inf, upper)


def delays_of(n, rng, never=0.08, sigma=0.9):
    """Delays of n nests, lognormal around 4 s; inf for the share `never`."""
    return np.where(rng.random(n) < never, math.inf, 4.0 * np.exp(sigma * rng.standard_normal(n)))
