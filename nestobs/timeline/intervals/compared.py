"""With what the clock of each run was compared, whatever nest it watched then: for a nest of which it was not.

    rows that tell of a comparison ──of each run and minute the first and the last──> what was known before and after

A timeline takes that from rows of other nests, so it is a value: `compared` finds it in rows of whatever nests, and
what several lots of rows tell is put together by `joined`, in any order. It grows with the time that was watched, not
with the rows. Whoever looks for the last comparison before an instant finds it, or one a little before it in the same
minute, and then one after the instant, too: what those two allow holds what one between them does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from nestobs.observation.arrays import NONE, Flags, Floats, Ints, count_of, greatest_at, least_at
from nestobs.observation.columns import codes_of, instants_of, paired, reals_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import DRIFT

NEEDED: Final = ("run_id", "sent_at", "clock_offset_s", "clock_error_s", "sync_age_s")
"""The columns of observations that `compared` reads."""

_MINUTE_NS: Final = 60 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Those of one run, ascending. at: when the row was sent that tells of it, ns, no two at one instant; offset_s, and
    error_s of that, NaN where it is not stated; drift: seconds a second by which it holds less with time."""

    at: Ints
    offset_s: Floats
    error_s: Floats
    drift: Floats

    def between(self, start: int, end: int) -> Comparisons:
        """Those of [start, end), ns, and the nearest on either side."""
        first, past = np.searchsorted(self.at, [start, end], "left")
        return self.those(slice(max(0, int(first) - 1), int(past) + 1))

    def those(self, which: Ints | slice) -> Comparisons:
        """These of them."""
        return Comparisons(self.at[which], self.offset_s[which], self.error_s[which], self.drift[which])

    def allow(self, place: Ints, first: Ints, last: Ints) -> tuple[Floats, Floats]:
        """The least and the greatest offset from `first` to `last` (ns, arrays alike) that the comparison at `place`
        allows, seconds; inf and -inf where there is none at that place."""
        there = (place >= 0) & (place < len(self.at))
        known = self.those(np.clip(place, 0, len(self.at) - 1))
        far_s = np.maximum(np.abs(first - known.at), np.abs(last - known.at)) / SECOND_NS
        within_s = np.nan_to_num(known.error_s) + known.drift * far_s
        low, high = known.offset_s - within_s, known.offset_s + within_s
        return np.where(there, low, np.inf), np.where(there, high, -np.inf)


Compared: TypeAlias = Mapping[str, Comparisons]
"""By the run_id."""


def compared(observations: pd.DataFrame) -> Compared:
    """What these rows tell, in whatever order they are."""
    known = np.flatnonzero(observations["clock_offset_s"].notna().to_numpy(bool))
    sent, _ = instants_of(observations["sent_at"].iloc[known])
    rows = observations[list(NEEDED)].iloc[known[telling(codes_of(observations["run_id"].iloc[known])[0], sent)]]
    run, runs = codes_of(rows["run_id"])
    sent, _ = instants_of(rows["sent_at"])
    drift = np.where(np.isnan(reals_of(rows["sync_age_s"])), 0.0, DRIFT)
    told = Comparisons(sent, reals_of(rows["clock_offset_s"]), reals_of(rows["clock_error_s"]), drift)
    return {str(runs[one]): _few(told.those(run == one)) for one in np.unique(run[run >= 0])}


def telling(run: Ints, sent: Ints) -> Flags:
    """Which of rows that were compared are enough: of each run (a code) and minute those of the first and of the last
    instant."""
    minute = sent // _MINUTE_NS
    place = paired(minute - minute.min(initial=NONE), run)
    size = count_of(place)
    first, last = least_at(sent, place, size), greatest_at(sent, place, size)
    return np.asarray((sent == first[place]) | (sent == last[place]), dtype=bool)


def joined(found: Iterable[Compared]) -> Compared:
    """All that several tell."""
    lots: dict[str, list[Comparisons]] = {}
    for each in found:
        for run, told in each.items():
            lots.setdefault(run, []).append(told)
    return {run: _few(_together(all_of)) for run, all_of in lots.items()}


def within(found: Compared, start: int, end: int) -> Compared:
    """What rows sent in [start, end), ns, may need."""
    return {run: told.between(start, end) for run, told in found.items()}


def _together(lots: list[Comparisons]) -> Comparisons:
    """All of them, at least one, in no order."""
    return Comparisons(
        np.concatenate([each.at for each in lots]),
        np.concatenate([each.offset_s for each in lots]),
        np.concatenate([each.error_s for each in lots]),
        np.concatenate([each.drift for each in lots]),
    )


def _few(told: Comparisons) -> Comparisons:
    """Of each instant the surest, of each minute the first and the last."""
    told = told.those(np.lexsort((told.drift, told.offset_s, told.error_s, told.at)))  # NaN sorts last
    told = told.those(np.flatnonzero(np.diff(told.at, prepend=told.at[:1] - 1)))
    turns = np.diff(told.at // _MINUTE_NS) != 0
    return told.those(np.flatnonzero(np.append(True, turns) | np.append(turns, True)))
