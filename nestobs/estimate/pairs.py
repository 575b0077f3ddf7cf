"""Two things done to each of many, how they differ, and what such a comparison could have shown. Pure numbers.

Of n pairs the differences d_1 ... d_n have the mean m. Its interval is Student's, with one addition: what is rare and
dear (a lost join) may not have been seen in so few pairs, and a sample without it would be certain that it is none. So
half a pair more counts that differs by `unit` one way, and half a one that differs by it the other way (Agresti, Min
2005, who add as much to a table of matched pairs); they move the mean nowhere, and its variance is

    error(n)^2 = (sum of (d_i - m)^2 + unit^2) / (n (n + 1))

A prediction P of the mean, with an error of its own e, holds where m falls within P +- z hypot(e, error(n)). It proves
something only if it could have failed: `fails` is the chance that it does where nothing differs, `needed` how many
pairs make that POWER.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from scipy import special

from nestobs.estimate.npmle import Number
from nestobs.estimate.proportion import LEVEL
from nestobs.observation.arrays import Floats

POWER: Final = 0.8
MOST: Final = 100_000
"""More pairs are not counted."""

_Z: Final = float(special.ndtri((1.0 + LEVEL) / 2.0))
_POWER_Z: Final = float(special.ndtri(POWER))


def mean(differences: Floats, unit: float = 0.0) -> Number:
    """The mean of paired differences, shape (n,), its interval, and their standard deviation. unit: what one pair may
    differ by that is too rare to be sure to be seen; 0: nothing is. With fewer than two pairs the interval is infinite,
    of none there is no value."""
    n = len(differences)
    value = float(differences.mean()) if n else math.nan
    if n < 2:
        return Number(value, -math.inf, math.inf)
    squares = float(((differences - value) ** 2).sum())
    reach = float(special.stdtrit(n - 1, (1.0 + LEVEL) / 2.0)) * math.sqrt((squares + unit**2) / (n * (n + 1.0)))
    return Number(value, value - reach, value + reach, math.sqrt(squares / (n - 1)))


def error(sd: float, n: float, unit: float = 0.0) -> float:
    """Of the mean of n pairs, n above 0, that differ with this standard deviation."""
    return math.hypot(sd / math.sqrt(n), unit / n)


def expected(number: Number, n: int, of: int, unit: float = 0.0) -> tuple[float, float]:
    """Where the mean of n fresh pairs will be, in 95 of 100 cases. number: predicted, of `of` nests. (-inf, inf) where
    it has no value, interval or sd, or n is 0."""
    own = _error(number, of, unit)
    if n < 1 or not math.isfinite(own + number.sd):
        return -math.inf, math.inf
    reach = _Z * math.hypot(own, error(number.sd, n, unit))
    return number.value - reach, number.value + reach


def fails(number: Number, n: int, of: int, unit: float = 0.0) -> float:
    """The chance that the mean of n pairs that do not differ on average falls outside of `expected`; NaN where that is
    infinite."""
    low, high = expected(number, n, of, unit)
    if not math.isfinite(low):
        return math.nan
    spread = error(number.sd, n, unit)
    if not spread:
        return float(not low <= 0.0 <= high)
    return float(1.0 - special.ndtr(high / spread) + special.ndtr(low / spread))


def needed(number: Number, of: int, unit: float = 0.0) -> int | None:
    """With how many pairs `fails` is POWER at least; None where MOST would not do, or nothing is predicted."""
    own = _error(number, of, unit)
    if not math.isfinite(own + number.sd):
        return None
    n = np.arange(2.0, MOST + 1.0)
    spread = np.hypot(number.sd / np.sqrt(n), unit / n)
    enough = abs(number.value) - _Z * np.hypot(own, spread) >= _POWER_Z * spread
    return int(n[np.argmax(enough)]) if enough.any() and number.value else None


def seen(sd: float, n: int, unit: float = 0.0) -> float:
    """The least difference that n pairs show (its interval excludes 0) with a chance of POWER; inf where that is
    unknown."""
    return (_Z + _POWER_Z) * error(sd, n, unit) if n > 1 and math.isfinite(sd) else math.inf


def to_see(difference: float, sd: float, unit: float = 0.0) -> int | None:
    """With how many pairs `seen` is this difference at most; None where MOST would not do."""
    return needed(Number(difference, difference, difference, sd), 0, unit)


def _error(number: Number, of: int, unit: float) -> float:
    """Of what is predicted; what was not seen in `of` nests counts as in `mean`."""
    return math.hypot((number.upper - number.lower) / (2.0 * _Z), unit / of if of else 0.0)
