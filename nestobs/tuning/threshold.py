"""Two decisions about a 404, which one constant cannot serve.

What to tell the user. Of those answered 404 at age t, the share that is still starting is

    P(starting | 404 at t) = (1 - c) (1 - G(t)) / S(t),    S(t) = c + (1 - c) (1 - G(t))

A false "starting" costs rho times a false "gone", so say "starting up" while 1 - G(t) >= rho c / (1 - c): the *message
threshold* is the last age at which that holds. It depends on c only by the odds, and not on when people join; rates of
error do, and so does the best threshold when clocks differ, because the age that is told is then not the true one.

When to stop asking. Waiting costs w a second, joining is worth V: a joiner who asks without pause until T gains

    J(T) = V (1 - c) G(T) - w (integral of S from 0 to T)

The best T is its global maximum. V h(T) = w, with the hazard h = (1 - c) g / S, holds there, but a lognormal's hazard
first rises, so that it also holds at a minimum.

c and G are those of a law (estimate/law.py); ages in seconds since the nest was made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from nestobs.estimate.law import SURELY, Law, LawError, survival
from nestobs.estimate.npmle import Resampled
from nestobs.estimate.proportion import LEVEL
from nestobs.observation.arrays import Floats

Clock = Literal["joiner", "date"]

TODAY_S: Final = 30.0
"""The web client's constant."""

COST_RATIO: Final = 0.25
COST_RATIOS: Final = (0.1, 0.25, 1.0)
"""Costs of a false "starting" over a false "gone": judgements, so always several."""

LONGEST_S: Final = 1e7


def posterior_starting(law: Law, never: float | None, ages: ArrayLike) -> Floats:
    """P(still starting | 404 at each age), ages in seconds; shape of `ages`. 0 where nobody is answered 404.

    never: c; None: the law's own.
    """
    held = survival(law, never)
    coming = held.coming(ages)
    at = held.never + coming
    return np.where(at > 0, coming / np.where(at > 0, at, 1.0), 0.0)


def message_threshold(law: Law, never: float | None = None, cost_ratio: float = COST_RATIO) -> float:
    """The last age, seconds, at which "starting up" is the cheaper thing to say; inf when nothing ever stays away.

    cost_ratio: rho, the cost of a false "starting" over that of a false "gone", above 0. 0.0: never say it.
    """
    if not 0 < cost_ratio < math.inf:
        raise LawError(f"the cost ratio is a number above 0, as 0.25, not {cost_ratio:g}")
    held = survival(law, never)
    if held.never >= 1.0:
        return 0.0
    if held.never <= 0.0:
        return math.inf
    share = 1.0 - cost_ratio * held.never / (1.0 - held.never)
    return held.age_of(share) if share > 0 else 0.0


def stop_age(law: Law, never: float | None, wait_cost: float, value: float) -> float:
    """The age T, seconds, of greatest J(T): until then asking on is worth the wait. 0.0: not at all.

    wait_cost: w, per second; value: V, of a join, in the same unit. Without a cost it is the age by which all that
    come have come, which may be inf.
    """
    for name, number in (("wait_cost", wait_cost), ("value", value)):
        if not 0 <= number < math.inf:
            raise LawError(f"{name} is a number from 0, not {number:g}")
    held = survival(law, never)
    if wait_cost == 0:
        return held.age_of(1.0)
    if value == 0 or held.never >= 1.0:
        return 0.0
    # No later age can be worth it: by then the wait alone of those who never come would cost the whole value.
    late = min(held.age_of(SURELY), LONGEST_S, value / (wait_cost * held.never) if held.never else math.inf)

    def gain(nodes: Floats) -> Floats:
        begin = np.concatenate([[0.0], nodes]) if nodes[0] > 0 else nodes
        area = held.area(begin)[len(begin) - len(nodes) :]
        return value * (1.0 - held.never - held.coming(nodes)) - wait_cost * (held.never * nodes + area)

    nodes = np.unique(np.concatenate([np.linspace(0.0, late, 4001), np.geomspace(late * 1e-6, late, 2001)]))
    for _ in range(3):
        best = int(np.argmax(gain(nodes)))
        low, high = nodes[max(best - 1, 0)], nodes[min(best + 1, len(nodes) - 1)]
        found = float(nodes[best])
        nodes = np.unique(np.concatenate([np.linspace(0.0, low, 400), np.linspace(low, high, 401)]))
    return found


@dataclass(frozen=True, slots=True)
class Joiners:
    """Ages at which people ask for a nest, seconds, shape (k,), and how often each, shape (k,)."""

    ages: Floats
    weight: Floats

    @classmethod
    def of(cls, ages: ArrayLike) -> Joiners:
        """As many joiners of each of these ages."""
        at = np.asarray(ages, dtype=np.float64)
        if at.ndim != 1 or not len(at) or not np.isfinite(at).all():
            raise LawError("ages of joiners are one column of seconds, at least one, none infinite")
        return cls(at, np.full(len(at), 1.0 / len(at)))


@dataclass(frozen=True, slots=True)
class MessageErrors:
    """Of 1 joiner answered 404: told "starting" of a nest that will not come, and "gone" of one that will.

    answered_404: the share of joiners to whom that happens at all.
    """

    false_starting: float
    false_gone: float
    answered_404: float


def message_errors(
    law: Law, never: float | None, threshold_s: float, joiners: Joiners, *, skew_s: float = 0.0, clock: Clock = "joiner"
) -> MessageErrors:
    """How often a threshold says the wrong thing.

    skew_s: how far the joiner's clock is ahead of the host's, whose `created_at`, whole seconds cut off (NIP-01), is
    what ages are told from. clock: "joiner" tells the age by the joiner's clock; "date" by the `Date` of the 404 itself
    (RFC 9110, whole seconds), which takes the joiner's skew out, if host and API agree.
    """
    held = survival(law, never)
    coming = held.coming(joiners.ages)
    told = _told_starting(threshold_s, joiners.ages, skew_s, clock)
    asked = float(joiners.weight @ (coming + held.never))
    if asked <= 0:
        return MessageErrors(0.0, 0.0, 0.0)
    return MessageErrors(
        held.never * float(joiners.weight @ told) / asked,
        float(joiners.weight @ ((1.0 - told) * coming)) / asked,
        asked,
    )


def _told_starting(threshold_s: float, ages: Floats, skew_s: float, clock: Clock) -> Floats:
    """P(told age < threshold): `created_at` is cut off to whole seconds, evenly, so that ages look greater by U, even
    in [0, 1) s. `Date` is cut off, too: the age told is the whole part of age + U."""
    reach = threshold_s - skew_s if clock == "joiner" else np.ceil(threshold_s)
    return np.asarray(np.clip(reach - ages, 0.0, 1.0))


def posterior_band(found: Resampled, ages: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Percentile band of `posterior_starting` over resampled laws."""
    return found.interval(lambda law: posterior_starting(law, None, ages), level)


def threshold_interval(found: Resampled, cost_ratio: float = COST_RATIO, level: float = LEVEL) -> tuple[float, float]:
    """An interval of the message threshold: the ages at which indifference is not rejected; inf when it has no end.

    At the threshold the mass A(t) yet to come equals rho c. Its difference D = A - rho c is tested at every age by a
    score test: variance rho S(t) / n under indifference, times the factor by which resampling (of blocks, of censored
    rows) exceeds multinomial error. The plain percentile interval fails here with few nests: a handful decide c, and
    it covers 85 % at n = 100. An open end is an answer: so few nests stayed away that no age can be ruled out.
    """
    law = found.law
    last = law.edges[np.isfinite(law.edges)].max(initial=1.0)
    ends = np.unique(np.concatenate([[0.0], law.edges.ravel(), np.geomspace(0.1, last, 400)]))
    ages = ends[np.isfinite(ends) & (ends >= 0)]
    never, n = law.never, law.rows.total
    coming = np.maximum(1.0 - law.cdf(ages) - never, 0.0)
    gap = coming - cost_ratio * never
    spread = np.var([1.0 - one.cdf(ages) - (1.0 + cost_ratio) * one.never for one in found.laws], axis=0)
    plain = np.maximum((coming + cost_ratio**2 * never - gap**2) / n, 1e-12)
    error = np.sqrt(cost_ratio * (coming + never) / n * np.maximum(1.0, spread / plain))
    reach = float(special.ndtri(0.5 + level / 2.0)) * error
    low = np.flatnonzero(gap <= reach)
    high = np.flatnonzero(gap >= -reach)
    lower = ages[max(low[0] - 1, 0)] if len(low) else ages[-1]
    if not len(high):
        return float(lower), float(ages[0])
    return float(lower), float(ages[high[-1] + 1]) if high[-1] < len(ages) - 1 else math.inf


def more_for_width(n: int, width: float, wanted: float) -> int:
    """How many more than n rows bring an interval of `width` to `wanted`, as widths fall with the root of n."""
    return max(0, math.ceil(n * (width / wanted) ** 2) - n)
