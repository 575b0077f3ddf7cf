"""How two estimates differ, with an interval and a p. Pure numbers.

    counts    how many times as many an hour: the exact interval of a ratio of Poisson rates, from the binomial law of
              the one count given the sum of both (Przyborowski & Wilenski 1940), by the hours the collector worked
    shares    the difference, by Newcombe (1998), method 10: Wilson's interval of each, their arms squared and added
    delays    the difference of two quantiles of interval-censored delays. Of each the interval by order statistics
              assumes nothing: its lower end is a lower bound of a row, its upper end an upper one. What the rows leave
              open even without any error adds up; what sampling adds beyond it is squared and added, as for shares

Of twenty comparisons one differs by chance. `holm` says which still differ when all are taken together (Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from nestobs.estimate.proportion import LEVEL, Share, share
from nestobs.observation.arrays import Floats

Interval = Callable[[float], tuple[float, float]]
"""An interval at a level."""


class Ends(NamedTuple):
    """An estimate's interval from `low` to `high`; within it, from `least` to `most`, what the rows themselves leave
    open without any error of sampling: nothing, and both the estimate, where they are exact."""

    low: float
    least: float
    most: float
    high: float


@dataclass(frozen=True, slots=True)
class Quantile:
    """The p-quantile of delays in (lower, upper]: both sorted, shape (n,), n above 0, seconds; n / deff independent."""

    p: float
    lower: Floats
    upper: Floats
    deff: float = 1.0

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.lower)

    def at(self, level: float) -> Ends:
        """By order statistics: distribution-free, exact for independent rows. Open ends are infinite."""
        n = self.n
        whole, tail = max(1, math.floor(n / self.deff)), (1.0 - level) / 2.0
        first, last = (_binomial(share, whole, self.p) for share in (tail, 1.0 - tail))
        low, high = math.floor(first / whole * n), math.ceil((last + 1.0) / whole * n)
        middle = max(1, math.ceil(self.p * n - 1e-9))
        return Ends(
            float(self.lower[low - 1]) if low >= 1 else -math.inf,
            float(self.lower[middle - 1]),
            float(self.upper[middle - 1]),
            float(self.upper[high - 1]) if high <= n else math.inf,
        )


def _binomial(share: float, n: int, p: float) -> float:
    """The least count at or below which the law of `n` draws at `p` has at least `share`."""
    least = share * (1.0 - 1e-12)  # half of an odd number of fair draws is half, whatever rounding says
    count = math.ceil(special.bdtrik(share, n, p))
    return float(count - 1 if count > 0 and special.bdtr(count - 1, n, p) >= least else count)


Estimate = Share | Quantile


def ends(one: Estimate, level: float = LEVEL) -> Ends:
    """The interval of either. A share's rows leave nothing open: each surely counts, or not."""
    if isinstance(one, Quantile):
        return one.at(level)
    lower, upper = one.score(level)
    return Ends(lower, one.value, one.value, upper)


def difference(after: Estimate, before: Estimate, level: float = LEVEL) -> tuple[float, float]:
    """The interval of `after` less `before`; an end that nothing bounds is infinite."""
    now, then = ends(after, level), ends(before, level)
    low = _less(now.least, then.most, -math.inf) - math.hypot(_arm(now.least, now.low), _arm(then.high, then.most))
    high = _less(now.most, then.least, math.inf) + math.hypot(_arm(now.high, now.most), _arm(then.least, then.low))
    return low, high


def _less(one: float, other: float, unknown: float) -> float:
    """one - other; two infinities leave it open."""
    return unknown if math.isinf(one) and math.isinf(other) else one - other


def _arm(one: float, other: float) -> float:
    return 0.0 if one == other else one - other


def rate_ratio(after: int, after_s: float, before: int, before_s: float, level: float = LEVEL) -> tuple[float, float]:
    """The interval of how many times as many came in a second, of Poisson counts in so many seconds; (0, inf) when
    nothing came in either or there was no time to count in."""
    if after + before == 0 or not after_s > 0 or not before_s > 0:
        return 0.0, math.inf
    low, high = share(after, after + before).by_chance(level)
    scale = before_s / after_s
    return scale * low / (1.0 - low), scale * high / (1.0 - high) if before else math.inf


def poisson(count: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of the mean of a Poisson count (Garwood 1936)."""
    tail = (1.0 - level) / 2.0
    low = float(special.gammaincinv(count, tail)) if count else 0.0
    return low, float(special.gammaincinv(count + 1.0, 1.0 - tail))


def touching(interval: Interval, null: float = 0.0) -> float:
    """p: one less the level at which an interval just reaches `null`; to three digits, 1 at most, 1e-12 at least."""

    def leaves_out(p: float) -> bool:
        low, high = interval(1.0 - p)
        return low > null or high < null

    least, most = 1e-12, 1.0 - 1e-9
    if not leaves_out(most):
        return 1.0
    if leaves_out(least):
        return least
    while most > 1.001 * least:
        middle = math.sqrt(least * most)
        least, most = (least, middle) if leaves_out(middle) else (middle, most)
    return most


def holm(ps: ArrayLike) -> Floats:
    """Each p corrected for how many there are, in their order: at most .05 where a difference remains at that level."""
    found = np.asarray(ps, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    raised = np.minimum(1.0, np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)))
    held = np.empty_like(found)
    held[order] = raised
    return held
