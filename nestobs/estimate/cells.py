"""The cells of interval-censored rows: the innermost intervals, which alone carry mass (Peto 1973, Turnbull 1976).

Row i says that its time is in (L_i, R_i], or, where L_i = R_i, that it is exactly that: then it begins just below. A
*cell* lies between a lower and an upper end with no other end between, and each row covers the cells that lie in it, a
run of neighbours. So a cell begins at the last lower end before some upper end, and ends at the first upper end after
that; ends of the same value are one. They are numbered once, by sorting; the cells of some of the rows, as a resample
needs them, then take no sorting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nestobs.observation.arrays import Flags, Floats, Ints


@dataclass(frozen=True, slots=True)
class Cells:
    """Innermost intervals and which rows cover which. edges: shape (m, 2), (lower, upper], equal when exact.

    first, last: shape (n,), the first and the last cell that a row covers.
    """

    edges: Floats
    first: Ints
    last: Ints


@dataclass(frozen=True, slots=True)
class Ends:
    """The ends of n rows, numbered. lowers, uppers: the values of each kind, ascending, an exact time's lower one just
    below it. low, high: shape (n,), which of them a row has. ahead: of each lower end the first upper one above it.
    exact: shape (n,), which rows are exact."""

    lowers: Floats
    uppers: Floats
    low: Ints
    high: Ints
    ahead: Ints
    exact: Flags

    def among(self, keeps: Flags) -> Ends:
        """Of some of the rows: the numbers stay."""
        return replace(self, low=self.low[keeps], high=self.high[keeps], exact=self.exact[keeps])


def ends_of(lower: Floats, upper: Floats) -> Ends:
    """The ends of rows (lower, upper], at least one; lower = upper is exact. They may be infinite, not NaN."""
    exact = lower == upper
    below = np.where(exact, np.nextafter(lower, -np.inf), lower) if exact.any() else lower
    lowers, low = np.unique(below, return_inverse=True)
    uppers, high = np.unique(upper, return_inverse=True)
    ahead = np.searchsorted(uppers, lowers, side="right")
    return Ends(lowers=lowers, uppers=uppers, low=low, high=high, ahead=ahead, exact=exact)


def cells(found: Ends) -> Cells:
    """The cells of these rows."""
    begins, ends = _there(found.low, len(found.lowers)), _there(found.high, len(found.uppers))
    none = len(ends)
    after = np.minimum.accumulate(np.where(ends, np.arange(none), none)[::-1])[::-1]
    lows = np.flatnonzero(begins)
    nexts = after[found.ahead[lows]]  # a row's own upper end is above its lower one
    last = np.append(nexts[1:] != nexts[:-1], True)
    begin, end = lows[last], nexts[last]
    marks = _there(begin, len(begins))
    first: Ints = np.cumsum(marks) - marks
    until = np.cumsum(_there(end, none)) - 1
    edges = np.column_stack([found.lowers[begin], found.uppers[end]])
    if found.exact.any():
        exact = _there(found.high[found.exact], none)[end] & (np.nextafter(edges[:, 1], -np.inf) == edges[:, 0])
        edges[exact, 0] = edges[exact, 1]
    return Cells(edges, first[found.low], until[found.high])


def _there(numbers: Ints, size: int) -> Flags:
    """Which of the numbers from 0 to below `size` are among these."""
    found = np.zeros(size, dtype=np.bool_)
    found[numbers] = True
    return found
