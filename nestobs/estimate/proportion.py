"""A share of things counted, and the intervals of one: the only place that computes them.

What is not known of a share is of two kinds. *Chance*: others would have come out otherwise. *Doubt*: of some it is not
known whether they count. A Share says which it is: `by_chance` takes those that surely count for all that do,
`by_chance_and_doubt` holds both. The ends are

    exact      Clopper, Pearson 1934: beyond it so few, or so many, would be too unlikely; holds at least as often as it
               says
    jeffreys   quantiles of Beta(k + 1/2, n - k + 1/2): holds as often as it says, on average (Brown, Cai, DasGupta
               2001)
    score      Wilson 1927: what the difference of two shares is made of (Newcombe 1998)

Rows that share their fate count as n / deff independent ones (Korn, Graubard 1998): see dependence.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from nestobs.observation.arrays import Floats

LEVEL: Final = 0.95


class Interval(NamedTuple):
    """From `lower` to `upper`."""

    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Share:
    """`least` to `most` of `n`, where some may or may not count. n = 0: intervals from 0 to 1, and no value."""

    least: int
    most: int
    n: int
    deff: float = 1.0

    @property
    def value(self) -> float:
        """The share of those that surely count; NaN of none."""
        return self.least / self.n if self.n else math.nan

    @property
    def doubt(self) -> float:
        """The share of those that may or may not count; NaN of none."""
        return (self.most - self.least) / self.n if self.n else math.nan

    def by_chance(self, level: float = LEVEL) -> Interval:
        """What chance alone leaves open, if those that surely count are all that do: exact."""
        lower, upper = exact(self.value, self.n / self.deff, level)
        return Interval(float(lower), float(upper))

    def by_chance_and_doubt(self, level: float = LEVEL) -> Interval:
        """What chance and doubt leave open: each end the exact one of its own count."""
        (lower, _), (_, upper) = (exact(p, self.n / self.deff, level) for p in (self.value, self.value + self.doubt))
        return Interval(float(lower), float(upper))

    def score(self, level: float = LEVEL) -> Interval:
        """What chance alone leaves open, as differences need it: Wilson's; the value is always inside."""
        if not self.n:
            return Interval(0.0, 1.0)
        z, n, p = float(special.ndtri(0.5 + level / 2.0)), self.n / self.deff, self.value
        middle, arm = 2.0 * n * p + z * z, z * math.sqrt(z * z + 4.0 * n * p * (1.0 - p))
        whole = 2.0 * (n + z * z)
        return Interval(max(0.0, min(p, (middle - arm) / whole)), min(1.0, max(p, (middle + arm) / whole)))


def share(least: int, n: int, most: int | None = None) -> Share:
    """`least` of `n` surely, `most` possibly (None: no doubt). Raises ValueError unless 0 <= least <= most <= n."""
    top = least if most is None else most
    if not 0 <= least <= top <= n:
        raise ValueError(f"{least} to {top} of {n} is no share")
    return Share(least, top, n)


def exact(p: ArrayLike, n: float, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Clopper and Pearson's ends of the shares p (any shape) of n, which need not be whole; NaN: from 0 to 1."""
    value, tail = np.asarray(p, dtype=np.float64), (1.0 - level) / 2.0
    hits = value * n
    lower = np.where(value > 0, special.betaincinv(hits, n - hits + 1.0, tail), 0.0)
    upper = np.where(value < 1, special.betaincinv(hits + 1.0, n - hits, 1.0 - tail), 1.0)
    return lower, upper


def jeffreys(p: ArrayLike, n: float, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Jeffreys' ends of the shares p (any shape) of n; from 0 where none counts, to 1 where all do."""
    value, tail = np.asarray(p, dtype=np.float64), (1.0 - level) / 2.0
    hits, rest = value * n + 0.5, (1.0 - value) * n + 0.5
    lower = np.where(value > 0, special.betaincinv(hits, rest, tail), 0.0)
    upper = np.where(value < 1, special.betaincinv(hits, rest, 1.0 - tail), 1.0)
    return lower, upper
