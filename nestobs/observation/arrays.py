"""Kinds of numpy arrays that columns of many rows become, the least or greatest of a group, and the busiest window."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nestobs.observation.duration import SECOND_NS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Texts = NDArray[np.object_]

NONE: Final = np.iinfo(np.int64).max
"""No instant, where the least is looked for."""

BELOW: Final = np.iinfo(np.int64).min
"""No instant, where the greatest is looked for; numpy's NaT, too."""


_BITS: Final = 63


def count_of(codes: Ints) -> int:
    """One more than the greatest code."""
    return int(codes.max(initial=-1)) + 1


def least_at(values: Ints, at: Ints, size: int) -> Ints:
    """Per place the least value, NONE where there is none."""
    least = np.full(size, NONE, dtype=np.int64)
    np.minimum.at(least, at, values)
    return least


def greatest_at(values: Ints, at: Ints, size: int) -> Ints:
    """Per place the greatest value, BELOW where there is none."""
    greatest = np.full(size, BELOW, dtype=np.int64)
    np.maximum.at(greatest, at, values)
    return greatest


def sorted_within(of: Ints, values: Ints) -> tuple[Ints, Ints]:
    """Groups (codes from 0) in order, each with its values in order: both as one number are sorted in a fifth of the
    time, where they fit in it."""
    least = int(values.min(initial=NONE))
    bits = int(values.max(initial=least) - least).bit_length() if len(values) else 0
    if count_of(of).bit_length() + bits > _BITS:
        order = np.lexsort((values, of))
        return of[order], values[order]
    both = np.sort((of << bits) | (values - least))
    return both >> bits, (both & ((1 << bits) - 1)) + least


def busiest(instants: ArrayLike, window_s: float) -> int:
    """The most of these instants (ns, ascending) within any `window_s` seconds, its later end left out."""
    at = np.asarray(instants, dtype=np.int64)
    inside = np.searchsorted(at, at + round(window_s * SECOND_NS)) - np.arange(len(at))
    return int(inside.max(initial=0))
