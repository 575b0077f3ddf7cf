"""Simulated nests with known delay laws, for the scripts that measure how well estimates and policies do.

Two truths, each with 8 % that never come: `lognormal`, median 4 s, sigma .9; `bimodal`, 65 % around 1.5 s (sigma .4)
and 27 % around 14 s (sigma .25). Observed as the collector does: polls at ages of plan.Plan, its phase drawn per nest.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

from nestobs.collector.polling import Plan
from nestobs.observation.arrays import Floats

NEVER = 0.08


@dataclass(frozen=True)
class Truth:
    """A mixture of lognormal parts (weight, median_s, sigma); the weights sum to 1 - NEVER."""

    name: str
    parts: tuple[tuple[float, float, float], ...]
    never: float = NEVER

    def cdf(self, t: object) -> Floats:
        """P(delay <= t), seconds, of all nests."""
        ages = np.maximum(np.asarray(t, dtype=np.float64), 1e-300)
        return np.asarray(sum(w * ndtr((np.log(ages) - np.log(m)) / s) for w, m, s in self.parts))

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Delays of n nests, seconds; inf for never."""
        pick, normal = rng.random(n), rng.standard_normal(n)
        found, begin = np.full(n, np.inf), 0.0
        for weight, median_s, sigma in self.parts:
            found = np.where((pick >= begin) & (pick < begin + weight), median_s * np.exp(sigma * normal), found)
            begin += weight
        return found


TRUTHS = (
    Truth("lognormal", ((0.92, 4.0, 0.9),)),
    Truth("bimodal", ((0.65, 1.5, 0.4), (0.27, 14.0, 0.25))),
)


def observe(
    delays: Floats, rng: np.random.Generator, *, polls: int = 40, horizon_s: float = 90.0
) -> tuple[Floats, Floats]:
    """(lower, upper] of each delay, polled at the ages of a Plan after a first look at age 0."""
    phases = random.Random(int(rng.integers(2**32)))
    ages = np.array([(0.0, *Plan(polls, horizon_s, 0).ages_s(phases)) for _ in delays])
    ages = np.column_stack([ages, np.full(len(delays), np.inf)])
    seen = (ages[:, :-1] < delays[:, None]).sum(axis=1)
    rows = np.arange(len(delays))
    return ages[rows, np.maximum(seen - 1, 0)], ages[rows, seen]


def timelines(lower: Floats, upper: Floats, *, spacing_s: float = 60.0) -> pd.DataFrame:
    """A frame as nestobs.timelines gives it, one nest a row, `spacing_s` apart, of one host and vantage."""
    n = len(lower)
    at = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(n) * spacing_s, unit="s")
    return pd.DataFrame(
        {
            "trace_id": [f"trace-{number}" for number in range(n)],
            "nest": [f"30312:ab:room-{number}" for number in range(n)],
            "room": [f"room-{number}" for number in range(n)],
            "vantage": "A",
            "layer": "api:join",
            "target": "https://nests.example/api/v1/nests",
            "origin_at": at,
            "lower_s": lower,
            "upper_s": upper,
            "seen_until_s": np.where(np.isfinite(upper), 90.0, np.nan),
            "gone_lower_s": np.nan,
            "gone_upper_s": np.nan,
            "polls": 5,
            "left_censored": False,
        }
    )
