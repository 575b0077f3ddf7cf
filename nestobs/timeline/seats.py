"""When a join is lost: the one definition, of real joins (joins.py) and of those in virtual time (tuning/simulation).

A seat can be had from when a nest becomes joinable (delays.joinable) until it goes again. A join is **lost** if it
ended without one although one could be had while the joiner was still there:

    since = max(middle of (lower, upper], arrival)
    lost  = not seated  and  since <= until  and  since < gone

    until   the end of the join: so long its policy kept the joiner there. Where several policies are compared at one
            arrival, each joiner is taken to be as patient as the most patient of them: who leaves at once would lose
            nothing
    middle  of an interval without a lower end: before every arrival; without an upper one (never seen): after all left
    gone    since when it is not known to be there any more, for good (gone_lower_s); inf where it stayed

Who was seated is not lost. Of the others it is known where the nest was seen, or was proven absent as late as the
joiner itself asked for the last time (see `are_known`). The share of joins lost is of those of which it is known.
"""

from __future__ import annotations

import numpy as np

from nestobs.observation.arrays import Flags, Floats


def are_lost(  # noqa: PLR0917 - the six things that it is made of, as in the formula above
    seated: Flags, arrived: Floats | float, until: Floats | float, lower: Floats, upper: Floats, gone: Floats
) -> Flags:
    """Which joins are lost, of shape (n,). Ages in seconds since one origin each; NaN ends: of a nest without any."""
    with np.errstate(invalid="ignore"):  # of -inf and inf nothing is known, and nobody lost it
        since = np.maximum((lower + upper) / 2.0, arrived)
    return np.asarray(~seated & (since <= until) & (since < gone), dtype=bool)


def are_known(seated: Flags, asked: Floats, lower: Floats, upper: Floats) -> Flags:
    """Of which it is known whether they are lost. asked: the age at which the joiner asked for the last time."""
    return np.asarray(seated | np.isfinite(upper) | (lower >= asked), dtype=bool)
