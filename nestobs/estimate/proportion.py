"""A share of things counted, with its Clopper-Pearson interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from scipy import special

LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """`least` to `most` of `n`, where some may or may not count. lower, upper: ends of the central 95 %.

    Each end is the exact one (Clopper, Pearson 1934) of its own count, so the interval holds what chance and what the
    doubt leave open. n = 0: from 0 to 1, and no value.
    """

    least: int
    most: int
    n: int
    lower: float
    upper: float

    @property
    def value(self) -> float:
        """The share of those that surely count; NaN of none."""
        return self.least / self.n if self.n else math.nan

    @property
    def doubt(self) -> float:
        """The share of those that may or may not count; NaN of none."""
        return (self.most - self.least) / self.n if self.n else math.nan


def share(least: int, n: int, most: int | None = None, *, level: float = LEVEL) -> Share:
    """`least` of `n` surely, `most` possibly (None: no doubt). Raises ValueError unless 0 <= least <= most <= n."""
    top = least if most is None else most
    if not 0 <= least <= top <= n:
        raise ValueError(f"{least} to {top} of {n} is no share")
    tail = (1.0 - level) / 2.0
    lower = float(special.betaincinv(least, n - least + 1, tail)) if least else 0.0
    upper = float(special.betaincinv(top + 1, n - top, 1.0 - tail)) if top < n else 1.0
    return Share(least, top, n, lower, upper)
