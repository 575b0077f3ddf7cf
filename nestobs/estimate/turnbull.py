"""The nonparametric maximum likelihood of interval-censored times (Peto 1973, Turnbull 1976), as numbers only.

Likelihood sees only the mass of the innermost intervals, the *cells* (cells.py); row i covers the cells
first_i..last_i, and has probability p_i = q[first_i] + … + q[last_i].

    maximise   l(q) = sum of w_i log p_i      over q >= 0 with sum 1
    gradient   D_j = sum over the rows that cover j of w_i / p_i;   at the maximum D_j <= W, with = where q_j > 0
    gap        max D_j - W >= l(maximum) - l(q) >= 0, because l is concave: the certificate of every fit

A fit without a start is brought near the maximum by the iterative convex minorant (Groeneboom and Wellner 1992), at a
few passes over the rows each, which leaves about the cells that have mass in the end. What finishes it, and what begins
from a start, is a constrained Newton method on the support (Wang 2007): cells enter at local maxima of the gradient, at
most one between two support points, a quadratic model of l on the support is maximised over q >= 0, cells whose mass
becomes zero leave, and a line search keeps l rising. Cells that the model wants below zero leave all at once, which is
fast; where l does not rise along that, one after another, along which it must; and an EM step takes over where rounding
forbids even that. It converges quadratically, and the support is small (of the order of the cube root of n) unless
times are exact. On a large support the model is solved by conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import isotonic_regression

from nestobs.estimate.cells import Cells
from nestobs.observation.arrays import Floats, Ints

Solver = Callable[[Ints, Floats], Floats]

GAP: Final = 1e-6
"""A fit ends when its log-likelihood is proven to be within so much of the greatest."""

ROUNDS: Final = 300
STALLED: Final = 20
"""Rounds without any rise after which rounding allows none."""

DENSE: Final = 2000
"""Supports up to this size are solved as a dense matrix."""

HALVINGS: Final = 30
FEW_HALVINGS: Final = 4
"""Of the first, fast aim: below a sixteenth of the way there it was no aim."""

SMALL: Final = 1e-7
"""Probabilities below this are summed cell by cell: the difference of two sums would leave nothing of them."""

CONJUGATE: Final = 100
RIDGE: Final = 1e-10
"""Makes the model's curvature invertible where masses are not unique; the solution is not moved by it."""

SPREAD: Final = 64
"""Some mass is mixed into a start in about so many cells, where it may have left a row without any."""

FEW: Final = 12
"""Of so few cells no start is looked for."""

SWEEPS: Final = 60
"""Of the iterative convex minorant at most: some ten do, be there a thousand rows or a million."""

NEAR: Final = 100.0
"""Gap from which on Newton's method is the faster: between 30 and 300 it makes no difference."""

TRACE: Final = 1e-13
"""Less mass than this is what rounding leaves of none."""

GROUPED: Final = 8
"""Pairs of cells are counted in a table of at most so many times as many places as there are rows."""


@dataclass(frozen=True, slots=True)
class Fit:
    """mass: shape (m,), sums to 1. gap: bound on what the log-likelihood still lacks."""

    mass: Floats
    log_likelihood: float
    gap: float


def maximise(found: Cells, weight: Floats, start: Floats | None = None, *, gap: float = GAP) -> Fit:
    """The masses of greatest likelihood. weight: shape (n,), above 0. start: masses to begin from, shape (m,).

    Ends when the gap is at most `gap` (times the mean weight, where that is below 1, so that light rows are fitted
    like heavy ones), or when rounding allows no further rise; the fit says which gap it reached.
    """
    problem = _Problem(found, weight)
    goal = gap * min(1.0, problem.total / len(weight))
    now = best = problem.at(problem.begin(start))
    highest, stalled = best.log_likelihood, 0
    for _ in range(ROUNDS):
        if best.gap <= goal or stalled > STALLED:
            break
        now = problem.at(problem.step(now))
        stalled = 0 if now.gap < best.gap or now.log_likelihood > highest else stalled + 1
        best = min(best, now, key=lambda point: point.gap)
        highest = max(highest, now.log_likelihood)
    return Fit(best.mass, best.log_likelihood, best.gap)


@dataclass(frozen=True, slots=True)
class _Point:
    """Masses of sum 1, and what they make: the probability of each row, the gradient of each cell."""

    mass: Floats
    p: Floats
    gradient: Floats
    log_likelihood: float
    gap: float


class _Problem:
    """One likelihood. Masses are of shape (m,); rows that cover the same cells are one, of the sum of their weights."""

    def __init__(self, found: Cells, weight: Floats) -> None:
        self.m = len(found.edges)
        keys = found.first * self.m + found.last
        if self.m**2 <= GROUPED * len(keys):
            weights = np.bincount(keys, weights=weight)
            keys = np.flatnonzero(weights)
            self.weight = weights[keys]
        else:
            keys, group = np.unique(keys, return_inverse=True)
            self.weight = np.bincount(group, weights=weight, minlength=len(keys))
        self.first, self.last = np.divmod(keys, self.m)
        self.after = self.last + 1
        self.whole = self.first == self.last
        self.total = float(self.weight.sum())

    def begin(self, start: Floats | None) -> Floats:
        """Masses that give every row some: `start` and a little in cells that hit all rows and in some more; without a
        start, what the iterative convex minorant makes of equal masses."""
        if (start is None or not start.any()) and self.m > FEW:
            start = self._minorant()
            if self.sums(start).min() > 0:
                return start
        mass = np.zeros(self.m)
        hits = np.union1d(self._hits(), np.linspace(0, self.m - 1, min(self.m, SPREAD)).astype(np.int64))
        mass[hits] = 1.0 / len(hits)
        return mass if start is None or not start.any() else 0.98 * start / start.sum() + 0.02 * mass

    def _hits(self) -> list[int]:
        """Greedy by right end: cells such that each row covers one of them."""
        soonest = np.full(self.m + 1, self.m, dtype=np.int64)
        np.minimum.at(soonest, self.first, self.last)
        ends = np.minimum.accumulate(soonest[::-1])[::-1].tolist()
        found = [ends[0]]
        while (end := ends[found[-1] + 1]) < self.m:
            found.append(end)
        return found

    def _minorant(self) -> Floats:
        """Masses near the greatest likelihood (Wellner and Zhan 1997, from equal ones): an EM step, which goes far at
        first, and is all where times are exact; then Newton's of each value of the distribution function by itself,
        made to rise by isotonic regression, which finds where the mass will be; and so on until the gap is small and
        the last step was taken whole, so that there is mass only where the function rises by steps of its own. Where
        weights differ so much that rounding leaves a row without any, it ends before."""
        mass = self.spread(self.weight / self.sums(np.full(self.m, 1.0 / self.m))) / self.m / self.total
        if self.sums(mass).min() > 0 and self.at(mass).gap <= GAP:
            return mass
        heap, whole = np.arange(self.m + 1) / self.m, False
        for _ in range(SWEEPS):
            gradient = self.spread(self.weight / self._steps(heap))
            if whole and gradient.max() - self.total <= NEAR:
                break
            risen = np.concatenate([[0.0], np.cumsum(np.diff(heap) * gradient)])
            risen /= risen[-1]
            if self._steps(risen).min() <= 0:
                break
            heap, whole = self._risen(risen)
        mass = np.diff(heap)
        mass[mass < TRACE] = 0.0
        return np.asarray(mass / mass.sum())

    def _steps(self, heap: Floats) -> Floats:
        """The probability of each row under a distribution function, shape (m + 1,)."""
        return np.asarray(heap[self.after] - heap[self.first])

    def _risen(self, heap: Floats) -> tuple[Floats, bool]:
        """A distribution function, shape (m + 1,), of greater likelihood, and whether the step was taken whole."""
        p = self._steps(heap)
        once = self.weight / p
        twice = once / p
        size = self.m + 1
        slope = np.bincount(self.after, once, size) - np.bincount(self.first, once, size)
        curve = np.bincount(self.after, twice, size) + np.bincount(self.first, twice, size)
        aim = heap.copy()
        aim[1:-1] = isotonic_regression(heap[1:-1] + slope[1:-1] / curve[1:-1], weights=curve[1:-1]).x
        aim = np.clip(aim, 0.0, 1.0)
        now, length = float(self.weight @ np.log(p)), 1.0
        for _ in range(HALVINGS):
            tried = aim if length == 1.0 else heap + length * (aim - heap)
            p = self._steps(tried)
            if p.min() > 0 and float(self.weight @ np.log(p)) >= now:
                return tried, length == 1.0
            length /= 2.0
        return heap, False

    def rows(self, mass: Floats) -> Floats:
        """p: the probability of each row."""
        p = self.sums(mass)
        for row in np.flatnonzero((p < SMALL) & ~self.whole):
            p[row] = mass[self.first[row] : self.after[row]].sum()
        return p

    def sums(self, values: Floats) -> Floats:
        """For each row the sum over the cells that it covers."""
        heap = np.concatenate([[0.0], np.cumsum(values)])
        return np.asarray(np.where(self.whole, values[self.first], heap[self.after] - heap[self.first]))

    def spread(self, rows: Floats) -> Floats:
        """For each cell the sum over the rows that cover it."""
        heap = np.bincount(self.first, weights=rows, minlength=self.m + 1)
        heap -= np.bincount(self.after, weights=rows, minlength=self.m + 1)
        return np.asarray(np.cumsum(heap[:-1]))

    def value(self, mass: Floats) -> float:
        """l(q) - W sum(q), whose greatest point over q >= 0 has sum 1; -inf where a row has no probability."""
        p = self.rows(mass)
        if p.min() <= 0:
            return -np.inf
        return float(self.weight @ np.log(p) - self.total * mass.sum())

    def at(self, mass: Floats) -> _Point:
        """What these masses make."""
        p = self.rows(mass)
        gradient = self.spread(self.weight / p)
        gap = max(float(gradient.max()) - self.total, 0.0)
        return _Point(mass, p, gradient, float(self.weight @ np.log(p)), gap)

    def step(self, now: _Point) -> Floats:
        """Masses of greater likelihood, sum 1: Newton on the support, or EM where Newton does not rise."""
        mass, gradient = now.mass, now.gradient
        support = self._support(mass, gradient)
        solve = self._dense(support, mass, now.p) if len(support) <= DENSE else self._iterative(mass, now.p)
        found = self._search(now, self._aim(solve, support, gradient) - mass, FEW_HALVINGS)
        if found is None:
            found = self._search(now, self._rising(solve, support, mass, gradient) - mass, HALVINGS)
        if found is None:
            found = mass * gradient / self.total
        return np.asarray(found / found.sum())

    def _support(self, mass: Floats, gradient: Floats) -> Ints:
        """Where there is mass, and between two such cells the one with the steepest gradient, if it promises a rise."""
        has = mass > 0
        segment = np.cumsum(has)
        steepest = np.full(int(segment[-1]) + 1, -np.inf)
        np.maximum.at(steepest, segment, np.where(has, -np.inf, gradient))
        enters = np.flatnonzero(~has & (gradient >= steepest[segment]) & (gradient > self.total))
        _, unique = np.unique(segment[enters], return_index=True)
        return np.union1d(np.flatnonzero(has), enters[unique])

    def _aim(self, solve: Solver, support: Ints, gradient: Floats) -> Floats:
        """About the quadratic model's greatest point on the support: cells that come out below zero leave at once."""
        aim = np.zeros(self.m)
        keeps = support
        while len(keeps):
            solved = solve(keeps, 2.0 * gradient[keeps] - self.total)
            if solved.min() >= 0:
                aim[keeps] = solved
                break
            keeps = keeps[solved > 0]
        return aim

    def _rising(self, solve: Solver, support: Ints, mass: Floats, gradient: Floats) -> Floats:
        """Masses on the support of which the model makes more than of `mass`: towards its greatest point as far as the
        first cell that comes down to zero, without that cell on towards the next, and so on."""
        at, keeps = mass.copy(), support
        while len(keeps):
            now, wanted = at[keeps], solve(keeps, 2.0 * gradient[keeps] - self.total)
            sinks = wanted < 0
            if not sinks.any():
                at[keeps] = wanted
                break
            part = now[sinks] / (now[sinks] - wanted[sinks])
            leaves = np.zeros(len(keeps), dtype=np.bool_)
            leaves[sinks] = part <= part.min()
            at[keeps] = np.where(leaves, 0.0, now + part.min() * (wanted - now))
            keeps = keeps[~leaves]
        return np.maximum(at, 0.0)

    def _dense(self, support: Ints, mass: Floats, p: Floats) -> Solver:
        """Solves with the model's curvature among some of the support, as a matrix."""
        size = len(support)
        before = np.zeros(self.m + 1, dtype=np.int64)
        before[support + 1] = 1
        before = np.cumsum(before)
        low, high = before[self.first], before[self.after] - 1
        curve = np.bincount(low * size + high, weights=self.weight / p**2, minlength=size * size).reshape(size, size)
        curve = np.cumsum(np.cumsum(curve, axis=0)[:, ::-1], axis=1)[:, ::-1]
        curve = np.triu(curve) + np.triu(curve, 1).T

        def solve(keeps: Ints, wanted: Floats) -> Floats:
            among = np.searchsorted(support, keeps)
            part, now = curve[np.ix_(among, among)], mass[keeps]
            rest = wanted - part @ now
            np.fill_diagonal(part, part.diagonal() * (1.0 + RIDGE))
            _, change, singular = lapack.dposv(part, rest)
            return np.asarray(now + (np.linalg.lstsq(part, rest)[0] if singular else change))

        return solve

    def _iterative(self, mass: Floats, p: Floats) -> Solver:
        """The same by conjugate gradients from the present masses, preconditioned by the diagonal."""
        bend = self.weight / p**2
        scale = 1.0 / self.spread(bend)

        def curved(keeps: Ints, values: Floats) -> Floats:
            full = np.zeros(self.m)
            full[keeps] = values
            return self.spread(bend * self.sums(full))[keeps]

        def solve(keeps: Ints, wanted: Floats) -> Floats:
            found = mass[keeps]
            rest = wanted - curved(keeps, found)
            along = scale[keeps] * rest
            steep = least = float(rest @ along)
            for _ in range(CONJUGATE):
                if steep <= 1e-12 * least or steep <= 0:
                    break
                turned = curved(keeps, along)
                length = steep / float(along @ turned)
                found = found + length * along
                rest = rest - length * turned
                before, steep = steep, float(rest @ (scale[keeps] * rest))
                along = scale[keeps] * rest + (steep / before) * along
            return np.asarray(found)

        return solve

    def _search(self, point: _Point, change: Floats, halvings: int) -> Floats | None:
        """The masses + a * change with l rising (Armijo), a halved from 1; None when it does not rise."""
        mass, promised = point.mass, float((point.gradient - self.total) @ change)
        now, length = point.log_likelihood - self.total * float(mass.sum()), 1.0
        rounding = 1e-15 * abs(now)
        if promised < -rounding:
            return None
        for _ in range(halvings):
            tried = np.maximum(mass + length * change, 0.0)
            if self.value(tried) >= now + 1e-4 * length * promised - rounding:
                return np.asarray(tried)
            length /= 2.0
        return None
