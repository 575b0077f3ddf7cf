"""Recommendations for tests of what is drawn and written of them: made from nests with known delays, quickly."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from nestobs.estimate.npmle import Number
from nestobs.join.policy import Policy
from nestobs.tuning.recommendation import Recommendation, Stratum
from nestobs.tuning.tuner import recommend

NOON = pd.Timestamp("2026-03-04 12:00:00", tz="UTC")
DRAWS = 40


def nests(
    count: int = 40, *, never: float = 0.15, exact: bool = False, soon: bool = False, seed: int = 1
) -> pd.DataFrame:
    """A timelines frame: nests half a minute apart, each seen from two vantages, polled ever less often to 90 s.

    exact: no intervals. soon: of every other nest not seen, watching ended after a second.
    """
    rng = np.random.default_rng(seed)
    delays = np.where(rng.random(count) < never, np.inf, 4.0 * np.exp(0.9 * rng.standard_normal(count)))
    polls = 90.0 * (np.arange(25) / 24.0) ** 2
    lower = np.array([polls[polls < delay].max(initial=0.0) for delay in delays])
    upper = np.array([polls[polls >= delay].min(initial=np.inf) for delay in delays])
    came = np.isfinite(upper)
    ended = np.where(soon & (np.arange(count) % 2 == 0), 1.0, 90.0)
    lower = np.where(came, upper if exact else lower, ended)
    made = {
        "trace_id": [f"trace-{number}" for number in range(count)],
        "nest": [f"30312:ab:room-{number}" for number in range(count)],
        "room": [f"room-{number}" for number in range(count)],
        "layer": "api:join",
        "target": "https://nests.example/api/v1/nests",
        "origin_at": NOON + pd.to_timedelta(np.arange(count) * 30.0, unit="s"),
        "lower_s": lower,
        "upper_s": upper,
        "seen_until_s": np.where(came, 90.0, np.nan),
        "gone_lower_s": np.nan,
        "gone_upper_s": np.nan,
        "polls": 5,
        "left_censored": False,
    }
    return pd.concat([pd.DataFrame(made).assign(vantage=name) for name in ("Computer A", "Computer B")])


@cache
def usual() -> Recommendation:
    """Some come late, some never."""
    return recommend(nests(), draws=DRAWS)


def stratum(kind: str, name: str, *, threshold_s: float = 8.0, regret: float = 0.2) -> Stratum:
    """Nests of a kind, for which a policy of their own would pay unless `regret` is small."""
    return Stratum(kind=kind, name=name, n=30, p=0.001, threshold_s=threshold_s, give_up_age_s=20.0, regret=regret)


def hostile(name: str) -> Recommendation:
    """Today's rule has a stranger's name, the tuned and the simple one too, and so has every sentence."""
    found = usual()
    others = {found.today.name: name, found.tuned.name: f"{name} tuned", found.simple.name: f"{name} simple"}
    return replace(
        found,
        policy=_renamed(found.policy, others),
        today=_renamed(found.today, others),
        tuned=_renamed(found.tuned, others),
        simple=_renamed(found.simple, others),
        replays=tuple(replace(one, policy=_renamed(one.policy, others)) for one in found.replays),
        peaks=tuple(replace(one, policy=name) for one in found.peaks),
        strata=(stratum("host", name),),
        notes=(name, *found.notes),
        why=name,
    )


def _renamed(policy: Policy, others: dict[str, str]) -> Policy:
    return replace(policy, name=others.get(policy.name, policy.name))


def many() -> Recommendation:
    """Forty policies, no two alike."""
    found = usual()
    copies = []
    for number in range(40):
        one = found.replays[number % len(found.replays)]
        numbers = {
            name: Number(n.value + 0.01 * number, n.lower, n.upper + 0.01 * number, n.sd)
            for name, n in one.numbers.items()
        }
        copies.append(replace(one, policy=replace(one.policy, name=f"policy {number}"), numbers=numbers))
    return replace(found, replays=(*found.replays, *copies))


@cache
def odd() -> dict[str, Recommendation]:
    """What figures and tables must bear."""
    found = usual()
    endless = Number(26.0, 19.0, np.inf)
    unknown = Number(np.inf, 40.0, np.inf)
    strata = (stratum("host", "a<b>"), stratum("relays", "", threshold_s=np.inf, regret=0.01))
    nobody = {name: Number(np.nan, np.nan, np.nan) for name in found.replays[1].numbers}
    idle = replace(found.replays[1], numbers=nobody, against=nobody)
    return {
        "usual": found,
        "none stayed away": recommend(nests(never=0.0), draws=DRAWS),
        "mostly censored": recommend(nests(60, never=0.7, seed=3), draws=DRAWS),
        "exact": recommend(nests(exact=True), draws=DRAWS),
        "watched briefly": recommend(nests(never=0.4, soon=True), draws=DRAWS),
        "open-ended": replace(found, message_threshold_s=endless, give_up_age_s=endless),
        "all thresholds unknown": replace(
            found,
            message_threshold_s=unknown,
            thresholds={0.1: unknown, 0.25: unknown, 1.0: Number(0.0, 0.0, 0.5)},
            sharing_age_s={0.5: endless, 0.9: unknown},
        ),
        "strata": replace(found, strata=strata),
        "kept": replace(found, policy=found.today, kept=True),
        "nobody joins under one": replace(found, replays=(found.replays[0], idle, *found.replays[2:])),
        "many policies": many(),
        "another cost ratio": replace(found, thresholds={**found.thresholds, 0.5: endless, 2.0: endless}),
    }
