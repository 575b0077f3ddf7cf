"""How far the clock of each run was ahead of the reference while it watched a nest, by what its rows say.

A run is one process, so its vantages share one clock; where a run has made the nest itself and nobody else watched it,
no other clock is needed, and none is compared. The comparison with the least error serves all rows of the run about the
nest, widened by what the clocks may drift until the last of them (observation/offset.py). Where comparisons contradict
each other a clock was stepped, or servers disagree: then all that they allow counts. A run that was compared only while
it watched other nests (its API was cut off meanwhile) has of those the last before and the first after, and all that
both allow. Clocks that may agree are taken to agree, and the error says by how much they may not: an instant is not
moved by what is not known.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import Flags, Floats, Ints, count_of, greatest_at, least_at
from nestobs.observation.columns import codes_of, equals, instants_of, paired, reals_of, units_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import APART_S, DRIFT
from nestobs.observation.schema import Operation
from nestobs.observation.text import shortened

MOST_TOLD: Final = 3
_COMPARED: Final = ["clock_offset_s", "clock_error_s"]


def clock_offsets(observations: pd.DataFrame, sent: Ints, unit: Ints, place: Ints) -> tuple[Floats, Floats]:
    """Per place (unit and run: a code for each row, sent at `sent` ns) the clock's offset and the error of that, in
    seconds; NaN and 0 where none is known or needed."""
    offsets, errors = reals_of(observations["clock_offset_s"]), reals_of(observations["clock_error_s"])
    index = np.flatnonzero(~np.isnan(offsets))
    keys = (offsets[index], sent[index], errors[index])  # NaN sorts last: a stated error is better than none
    index = index[np.lexsort(keys)][::-1]
    size = count_of(place)
    best = np.full(size, -1, dtype=np.int64)
    best[place[index]] = index  # the last write stands: the least error
    offset, error = np.where(best >= 0, offsets[best], np.nan), np.where(best >= 0, np.nan_to_num(errors[best]), 0.0)
    since_s = np.where(best[place] >= 0, np.abs(sent - sent[best[place]]) / SECOND_NS, 0.0)
    aged = ~np.isnan(reals_of(observations["sync_age_s"])[best])  # else it holds for the whole file that was compared
    drift_s = np.where(aged[place], DRIFT * since_s, 0.0)
    told = (offsets[index], np.nan_to_num(errors)[index], drift_s[index])
    _hull(offset, error, told, place[index])
    reach_s = np.zeros(size)
    np.maximum.at(reach_s, place, drift_s)
    error += np.where(np.isnan(offset), 0.0, reach_s)
    _of_other_nests(offset, error, observations, sent, place)
    agree = np.abs(offset) <= error  # NaN does not
    offset, error = np.where(agree, 0.0, offset), np.where(agree, np.abs(offset) + error, error)
    offset[_alone(observations, unit, place)] = np.nan
    error[np.isnan(offset)] = 0.0
    return offset, error


def _of_other_nests(offset: Floats, error: Floats, observations: pd.DataFrame, sent: Ints, place: Ints) -> None:
    """For places without a comparison what the nearest of the same run allow, before and after, in `offset` and
    `error`."""
    run, _ = codes_of(observations["run_id"])
    offsets, errors = reals_of(observations["clock_offset_s"]), np.nan_to_num(reals_of(observations["clock_error_s"]))
    drift = np.where(np.isnan(reals_of(observations["sync_age_s"])), 0.0, DRIFT / SECOND_NS)
    size = len(offset)
    first, last = least_at(sent, place, size), greatest_at(sent, place, size)
    of = greatest_at(run, place, size)
    known = np.flatnonzero(~np.isnan(offsets) & (run >= 0))
    known = known[np.lexsort((sent[known], run[known]))]
    lacking = np.flatnonzero(np.isnan(offset) & np.isin(of, run[known]))
    for one in np.unique(of[lacking]):
        mine = known[np.searchsorted(run[known], one, "left") : np.searchsorted(run[known], one, "right")]
        here = lacking[of[lacking] == one]
        low, high = np.full(len(here), np.inf), np.full(len(here), -np.inf)
        before = np.searchsorted(sent[mine], last[here], "right") - 1
        after = np.searchsorted(sent[mine], first[here], "left")
        for side in (before, after):  # of which there is one at least
            there = (side >= 0) & (side < len(mine))
            row = mine[np.clip(side, 0, len(mine) - 1)]
            far = np.maximum(np.abs(first[here] - sent[row]), np.abs(last[here] - sent[row]))
            within = errors[row] + drift[row] * far
            low = np.where(there, np.minimum(low, offsets[row] - within), low)
            high = np.where(there, np.maximum(high, offsets[row] + within), high)
        offset[here], error[here] = (low + high) / 2, (high - low) / 2


def shifts(observations: pd.DataFrame) -> Ints:
    """Per row, ns to subtract from its instants: what its run's clock was ahead of the reference; 0 where that is not
    known or not needed."""
    unit, _ = units_of(observations)
    run = paired(unit, codes_of(observations["run_id"])[0])
    offset, _ = clock_offsets(observations, instants_of(observations["sent_at"])[0], unit, run)
    return np.asarray(np.round(np.nan_to_num(offset)[run] * SECOND_NS), dtype=np.int64)


def _hull(offset: Floats, error: Floats, told: tuple[Floats, Floats, Floats], place: Ints) -> None:
    """Where comparisons (`told`: offset, error and drift, of the place of each) contradict the best of their place, all
    that they allow, in `offset` and `error`."""
    offsets, errors, drift_s = told
    apart = np.abs(offsets - offset[place]) - errors - error[place] - drift_s > 1e-6
    torn = np.zeros(len(offset), dtype=bool)
    torn[place[apart]] = True
    low, high = np.full(len(offset), np.inf), np.full(len(offset), -np.inf)
    np.minimum.at(low, place, offsets - errors)
    np.maximum.at(high, place, offsets + errors)
    offset[torn], error[torn] = (low[torn] + high[torn]) / 2, (high[torn] - low[torn]) / 2


def _alone(observations: pd.DataFrame, unit: Ints, place: Ints) -> Flags:
    """Places of units that one run alone made and watched."""
    makes = equals(observations["operation"], Operation.CREATE) | equals(observations["operation"], Operation.PUBLISH)
    made = np.zeros(count_of(unit) + 2, dtype=bool)
    made[unit[makes]] = True
    of = greatest_at(unit, place, count_of(place))
    runs = np.bincount(of + 1, minlength=count_of(unit) + 2)
    return np.asarray(made[of] & (runs[of + 1] == 1) & (of >= 0), dtype=bool)


def clock_words(observations: pd.DataFrame) -> list[str]:
    """A sentence for each vantage whose clock was surely more than APART_S from the API's in some run, by its surest
    comparison; of more than MOST_TOLD the rest is counted. Columns run_id, vantage, clock_offset_s, clock_error_s."""
    told = observations.loc[observations["clock_offset_s"].notna(), ["vantage", "run_id", *_COMPARED]]
    told = told.astype({"vantage": "str", "run_id": "str"}).sort_values("clock_error_s", kind="stable")
    surest = told.drop_duplicates(["vantage", "run_id"])
    apart = surest["clock_offset_s"].abs() - surest["clock_error_s"].fillna(0.0)
    off = surest[apart > APART_S].drop_duplicates("vantage").sort_values("vantage")
    said = []
    for vantage, offset, error in off[["vantage", *_COMPARED]].fillna(0.0).itertuples(index=False):
        side = "ahead of" if offset > 0 else "behind"
        how = f"{abs(offset):.1f} s {side} the API's, give or take {max(error, 0.05):.1f} s"
        seen = "what it saw beside other computers, and of nests of others, is put on the API's clock"
        said.append(f"The clock of {shortened(vantage, 32)} was {how}: {seen}.")
    more = len(said) - MOST_TOLD
    return [*said[:MOST_TOLD], *([f"So it is with {more} more clocks."] if more > 0 else [])]
