"""What a decision needs of a delay law, whoever made it: the share that never comes and the delay of the rest.

    c        share that never comes (not by the end of watching)
    G(t)     share of the others visible by age t
    S(t)     c + (1 - c) (1 - G(t)): answered 404 at age t

A law is anything with a distribution function: an estimate of ours (a DelayLaw, whose `never` is part of it) or any
frozen scipy distribution (which always comes, unless `never` says otherwise). Ages and delays in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike

from nestobs.errors import UsageError
from nestobs.observation.arrays import Floats

# Gauss-Legendre with 8 points: exact to rounding on cells of a grid for smooth laws, and kinks fall on its ends.
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(8)

SURELY: Final = 1.0 - 1e-9
"""The share by which a law that always comes is taken to have come."""

ROUNDING: Final = 1e-12
"""Masses that sum to 1 do so to about this."""

LONGEST_S: Final = 1e9


class Law(Protocol):
    """A delay law: a distribution function of seconds. `never`, where it has one, is the mass that never comes."""

    def cdf(self, t: ArrayLike, /) -> Any:
        """P(delay <= t), for each t in seconds."""


class LawError(UsageError):
    """What was given as a law, a share or a cost is none."""


@dataclass(frozen=True, slots=True)
class Survival:
    """S(t) and its parts. `cdf` is G, of those that come."""

    never: float
    cdf: Callable[[Floats], Floats]

    def coming(self, ages: ArrayLike) -> Floats:
        """(1 - c) (1 - G(t)): still starting, and it will come."""
        return (1.0 - self.never) * np.clip(1.0 - self.cdf(np.asarray(ages, dtype=np.float64)), 0.0, 1.0)

    def at(self, ages: ArrayLike) -> Floats:
        """S(t): answered 404 at these ages."""
        return self.never + self.coming(ages)

    def area(self, nodes: Floats) -> Floats:
        """Integral of `coming` from nodes[0] to each of the ascending nodes, seconds; the first is 0."""
        gaps = np.diff(nodes)
        inside = nodes[:-1, None] + gaps[:, None] * (_POINTS + 1.0) / 2.0
        return np.concatenate([[0.0], np.cumsum(gaps / 2.0 * (self.coming(inside) @ _WEIGHTS))])

    def age_of(self, share: float) -> float:
        """The least age from 0 by which `share` (to rounding) of those that come have come; inf when above 1e9 s."""

        def reached(age: float) -> bool:
            return float(self.cdf(np.array([age]))[0]) >= share - ROUNDING

        if reached(0.0):
            return 0.0
        low, high = 0.0, 1.0
        while not reached(high) and high < LONGEST_S:
            low, high = high, 2.0 * high
        for _ in range(64):
            middle = (low + high) / 2.0
            low, high = (low, middle) if reached(middle) else (middle, high)
        return high if high <= LONGEST_S else math.inf


def survival(law: Law, never: float | None = None) -> Survival:
    """The survival function of `law` with the share `never`, or with the law's own (0 where it has none).

    Raises LawError for what has no cdf, and for a share outside [0, 1].
    """
    own = float(getattr(law, "never", 0.0))
    share = own if never is None else float(never)
    if not callable(getattr(law, "cdf", None)):
        raise LawError("a law is a DelayLaw or a frozen scipy distribution: it has a cdf")
    if not 0.0 <= share <= 1.0:
        raise LawError(f"never is a share from 0 to 1, not {share:g}")

    def cdf(ages: Floats) -> Floats:
        found = np.asarray(law.cdf(ages), dtype=np.float64)
        return found / (1.0 - own) if own < 1.0 else np.zeros_like(found)

    return Survival(share, cdf)
