"""The nests that nobody saw: half a nest more, later than all that came within the watch. Pure.

A sample without late nests does not prove that there are none. Who plans by it gives up early, and looks better by the
requests saved. Where k of n nests came later than an age, Jeffreys' posterior of how many do is gamma-distributed of
shape k + 1/2. So half a nest more counts wherever a policy is planned or judged: in the law that polls are planned by
with its mean weight, in the draws that policies are compared by with a drawn one (gamma of shape 1/2).

It comes at no single age, which an optimum would ask at and at no other, but evenly on log time from the last age at
which a nest was seen to come to the end of the watch: the density 1 / t, which prefers no scale of delays. It always
has the later half of the watch at least, so that one late nest does not push it onto one age. Beyond the watch nothing
is known, and nothing is added there. Source: Jeffreys, Theory of Probability (1961), 3.1 and 3.10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from nestobs.estimate.npmle import FLOOR_S, LOG_STEP, DelayLaw, Rows
from nestobs.observation.arrays import Floats

HALF: Final = 0.5


@dataclass(frozen=True, slots=True)
class Unseen:
    """Half a nest more: its share of all nests, and the ages, seconds, between which it comes, begin_s below end_s."""

    share: float
    begin_s: float
    end_s: float

    @classmethod
    def of(cls, rows: Rows, nests: float) -> Unseen:
        """Beside the rows of so many nests. Where none stayed away, the watch ends with the last that came."""
        came = np.isfinite(rows.upper)
        last = float(rows.upper[came].max(initial=0.0))
        end = max(float(rows.lower[~came].max(initial=0.0)) or last, 2.0 * FLOOR_S)
        return cls(HALF / (nests + HALF), min(max(last, FLOOR_S), end / 2.0), end)

    def ages(self, count: int) -> Floats:
        """So many ages that stand for it, seconds: the middles of equal parts."""
        return self._ages((np.arange(count) + 0.5) / count)

    def _ages(self, shares: Floats) -> Floats:
        return np.asarray(self.begin_s * (self.end_s / self.begin_s) ** shares)

    def added(self, law: DelayLaw) -> DelayLaw:
        """A smoothed law of the others with this half nest in it, which lessens all its other mass a little."""
        finite = np.isfinite(law.edges[:, 1])
        steps = math.ceil(math.log(self.end_s / self.begin_s) / LOG_STEP)
        mine = self._ages(np.arange(steps + 1) / steps)
        ages = np.union1d(law.edges[finite, 1], mine)
        heap = (1.0 - self.share) * law.cdf(ages) + self.share * np.interp(ages, mine, np.arange(steps + 1) / steps)
        edges = np.column_stack([np.append(-math.inf, ages[:-1]), ages])
        mass = np.diff(heap, prepend=0.0)
        if law.never > 0:
            edges = np.vstack([edges, [ages[-1], math.inf]])
            mass = np.append(mass, (1.0 - self.share) * law.never)
        has = mass > 0
        return replace(law, edges=edges[has], mass=mass[has], log_likelihood=math.nan, gap=math.nan)
