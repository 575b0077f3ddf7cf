"""How far the clock of each run was ahead of the reference while it watched a nest, by what its rows say.

A run is one process, so its vantages share one clock; where a run has made the nest itself and nobody else watched it,
no other clock is needed, and none is compared. The comparison with the least error serves all rows of the run about the
nest, widened by what the clocks may drift until the last of them (observation/offset.py). Where comparisons contradict
each other a clock was stepped, or servers disagree: then all that they allow counts. A run that was compared only while
it watched other nests (its API was cut off meanwhile) has of those the last before and the first after, and all that
both allow (compared.py). Clocks that may agree are taken to agree, and the error says by how much they may not: an
instant is not moved by what is not known.

Rows that name a room alone are read as those of its nest; a row that names nothing, by what it says itself, or by what
its run says before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import Flags, Floats, Ints, count_of, greatest_at, least_at
from nestobs.observation.columns import codes_of, equals, instants_of, paired, reals_of, records
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import APART_S, DRIFT, apart_words
from nestobs.observation.schema import Operation
from nestobs.observation.text import shortened
from nestobs.timeline.intervals.compared import compared
from nestobs.timeline.intervals.elsewhere import Elsewhere
from nestobs.timeline.intervals.origins import EDIT, GRAIN_S
from nestobs.timeline.nests import runs_of, subjects_of

MOST_TOLD: Final = 3

_ROUNDED_S: Final = 1e-6

COMPARED: Final = ("run_id", "vantage", "clock_offset_s", "clock_error_s")
"""The columns of observations that `clock_words` reads."""


def clock_offsets(
    observations: pd.DataFrame, sent: Ints, unit: Ints, place: Ints, elsewhere: Elsewhere | None = None
) -> tuple[Floats, Floats]:
    """Per place (nests.runs_of: a code for each row, sent at `sent` ns; unit: its subject) the clock's offset and the
    error of that, in seconds; NaN and 0 where none is known or needed. elsewhere: what rows of all nests tell; None:
    what these do."""
    offsets = reals_of(observations["clock_offset_s"])
    index = np.flatnonzero(~np.isnan(offsets))
    errors = reals_of(observations["clock_error_s"])[index]
    unstated = np.isnan(errors)
    told = _Told(offsets[index], np.where(unstated, 0.0, errors), sent[index], place[index])
    size = count_of(place)
    best = np.flatnonzero(_least(np.where(unstated, np.inf, errors), told.place, size))  # stated is better
    best = best[np.lexsort((told.offset[best], told.sent[best]))[::-1]]  # the last write stands: that was sent first
    at = told.place[best]
    offset, error, since, drift = np.full(size, np.nan), np.zeros(size), np.zeros(size, dtype=np.int64), np.zeros(size)
    offset[at], error[at], since[at] = told.offset[best], told.error[best], told.sent[best]
    aged = ~np.isnan(reals_of(observations["sync_age_s"].iloc[index[best]]))
    drift[at] = np.where(aged, DRIFT, 0.0)  # else it holds for the whole file that was compared

    def drifted_s(sent: Ints, place: Ints | slice) -> Floats:
        return np.asarray(drift[place] * (np.abs(sent - since[place]) / SECOND_NS))

    ends = least_at(sent, place, size), greatest_at(sent, place, size)
    reach_s = np.maximum(*(drifted_s(end, slice(None)) for end in ends))
    _hull(offset, error, told, drifted_s)
    error += np.where(np.isnan(offset), 0.0, reach_s)
    _of_other_nests(offset, error, observations, place, elsewhere)
    agree = np.abs(offset) <= error  # NaN does not
    offset, error = np.where(agree, 0.0, offset), np.where(agree, np.abs(offset) + error, error)
    offset[_alone(observations, unit, place)] = np.nan
    error[np.isnan(offset)] = 0.0
    return offset, error


@dataclass(frozen=True, slots=True)
class _Told:
    """What rows say of the clock of their place: its offset, and the error of that, seconds; and when, ns."""

    offset: Floats
    error: Floats
    sent: Ints
    place: Ints

    def those(self, which: Ints | Flags) -> _Told:
        """These of them."""
        return _Told(self.offset[which], self.error[which], self.sent[which], self.place[which])


def _of_other_nests(
    offset: Floats, error: Floats, observations: pd.DataFrame, place: Ints, elsewhere: Elsewhere | None
) -> None:
    """For places without a comparison what the nearest of the same run allow, before and after, in `offset` and
    `error`."""
    if not np.isnan(offset).any():
        return
    run, runs = codes_of(observations["run_id"])
    size = len(offset)
    of = greatest_at(run, place, size)
    lacking = np.flatnonzero(np.isnan(offset) & (of >= 0))
    if not len(lacking):
        return
    found = compared(observations[np.isin(run, of[lacking])]) if elsewhere is None else elsewhere.compared
    sent, _ = instants_of(observations["sent_at"])
    first, last = least_at(sent, place, size), greatest_at(sent, place, size)
    for one in np.unique(of[lacking]):
        if (known := found.get(str(runs[one]))) is None:
            continue
        here = lacking[of[lacking] == one]
        begun, ended = first[here], last[here]
        before, after = np.searchsorted(known.at, ended, "right") - 1, np.searchsorted(known.at, begun, "left")
        ends = [known.allow(side, begun, ended) for side in (before, after)]  # of which there is one at least
        low, high = np.minimum(*(lows for lows, _ in ends)), np.maximum(*(highs for _, highs in ends))
        offset[here], error[here] = (low + high) / 2, (high - low) / 2


def shifts(observations: pd.DataFrame, elsewhere: Elsewhere | None = None) -> Ints:
    """Per row, ns to subtract from its instants: what its run's clock was ahead of the reference; 0 where that is not
    known or not needed. elsewhere: as clock_offsets takes it."""
    subject, _ = subjects_of(observations)
    run = runs_of(subject, codes_of(observations["run_id"])[0])
    offset, _ = clock_offsets(observations, instants_of(observations["sent_at"])[0], subject, run, elsewhere)
    return np.asarray(np.round(np.nan_to_num(offset)[run] * SECOND_NS), dtype=np.int64)


def _least(values: Floats, place: Ints, size: int) -> Flags:
    """Which are the least of their place."""
    least = np.full(size, np.inf)
    np.minimum.at(least, place, values)
    return np.asarray(values == least[place], dtype=bool)


def _hull(offset: Floats, error: Floats, told: _Told, drifted_s: Callable[[Ints, Ints], Floats]) -> None:
    """Where comparisons contradict the best of their place, all that they allow, in `offset` and `error`. drifted_s: by
    how much that of a place holds less at an instant, seconds."""
    apart_s = np.abs(told.offset - offset[told.place]) - told.error - error[told.place]
    doubtful = np.flatnonzero(apart_s > _ROUNDED_S)
    if not len(doubtful):
        return
    place = told.place[doubtful]
    apart = apart_s[doubtful] - drifted_s(told.sent[doubtful], place) > _ROUNDED_S
    torn = np.zeros(len(offset), dtype=bool)
    torn[place[apart]] = True
    told = told.those(torn[told.place])
    low, high = np.full(len(offset), np.inf), np.full(len(offset), -np.inf)
    np.minimum.at(low, told.place, told.offset - told.error)
    np.maximum.at(high, told.place, told.offset + told.error)
    offset[torn], error[torn] = (low[torn] + high[torn]) / 2, (high[torn] - low[torn]) / 2


def _alone(observations: pd.DataFrame, unit: Ints, place: Ints) -> Flags:
    """Places of units that one run alone made and watched."""
    makes = equals(observations["operation"], Operation.CREATE) | equals(observations["operation"], Operation.PUBLISH)
    made = np.zeros(count_of(unit) + 2, dtype=bool)
    made[unit[makes]] = True
    of = np.full(count_of(place), -1, dtype=np.int64)
    of[place] = unit  # a place is of one
    runs = np.bincount(of + 1, minlength=count_of(unit) + 2)
    return np.asarray(made[of] & (runs[of + 1] == 1) & (of >= 0), dtype=bool)


def clock_words(observations: pd.DataFrame, lines: pd.DataFrame | None = None) -> list[str]:
    """By how much the clock of each vantage was off the API's in its runs, and how sure that is, by the surest
    comparison of each: a sentence for each that was surely more than APART_S off, one for all others, of more than
    MOST_TOLD the rest is counted. lines: the timelines made of them, for which it is said how much wider they are, and
    which clocks were never compared though they tell of nests of others, or of another's. Columns run_id, vantage,
    clock_offset_s, clock_error_s; none of them compared: nothing is said of them."""
    surest = _surest(observations)
    far = np.abs(surest["offset"]) - surest["error"] > APART_S
    off, others = surest[far].drop_duplicates("vantage"), surest[~far]
    seen = "what it saw beside other computers, and of nests of others, is put on the API's clock"
    said = [
        f"The clock of {shortened(row.vantage, 32)} was {apart_words(row.offset, row.error)}: {seen}."
        for row in records(off.head(MOST_TOLD))
    ]
    if (more := len(off) - MOST_TOLD) > 0:
        said.append(f"So it is with {more} more clocks.")
    others = others[~others["vantage"].isin(off["vantage"])]
    return [*said, *_near(others), *([] if lines is None else _applied(observations, lines))]


def surest(observations: pd.DataFrame) -> pd.DataFrame:
    """Of each vantage and run the comparison of the least error, columns as `clock_words` takes them: it says the same
    of these alone, and they add up."""
    rows = observations[list(COMPARED)].iloc[np.flatnonzero(observations["clock_offset_s"].notna())]
    place = paired(codes_of(rows["vantage"])[0], codes_of(rows["run_id"])[0])
    errors = reals_of(rows["clock_error_s"])
    best = np.flatnonzero(_least(np.where(np.isnan(errors), np.inf, errors), place, count_of(place)))
    rows, place = rows.iloc[best], place[best]
    order = np.lexsort((reals_of(rows["clock_offset_s"]), reals_of(rows["clock_error_s"]), place))  # NaN sorts last
    return rows.iloc[order[np.flatnonzero(np.diff(place[order], prepend=-1))]].reset_index(drop=True)


def _surest(observations: pd.DataFrame) -> pd.DataFrame:
    """The same: columns vantage, offset, error; by vantage."""
    rows = surest(observations)
    code, names = codes_of(rows["vantage"])
    offset, error = reals_of(rows["clock_offset_s"]), np.nan_to_num(reals_of(rows["clock_error_s"]))
    return pd.DataFrame({"vantage": np.append(names, "")[code], "offset": offset, "error": error})


def _near(surest: pd.DataFrame) -> list[str]:
    """One sentence of clocks that are not far off, each as it was in its worst run."""
    worst = surest.assign(most=surest["offset"].abs() + surest["error"]).sort_values("most", kind="stable")
    worst = worst.drop_duplicates("vantage", keep="last").sort_values("vantage", kind="stable")
    if worst.empty:
        return []
    told = [f"of {shortened(row.vantage, 32)} was {apart_words(row.offset, row.error)}" for row in records(worst)]
    parts = "; that ".join(told[:MOST_TOLD])
    rest = worst["most"].iloc[MOST_TOLD:]
    more = f"; {len(rest)} more were the API's to within {rest.max() + 0.005:.2f} s" if len(rest) else ""
    return [f"The clock {parts}{more}."]


def _applied(observations: pd.DataFrame, lines: pd.DataFrame) -> list[str]:
    """By how much intervals are wider for what is not known of clocks; and which clocks nothing is known of."""
    foreign = lines["origin_kind"].isin([*_FOREIGN]).to_numpy(bool)
    wider = lines["origin_error_s"].to_numpy(np.float64) - np.where(foreign, GRAIN_S, 0.0)
    wider = wider[wider > _TOLD_S]
    said = []
    if len(wider):
        ends = f"by {np.median(wider):.2f} s in the middle, {wider.max():.2f} s at most"
        said.append(f"{len(wider):,} of {len(lines):,} intervals are wider for what is not known of clocks: {ends}.")
    known = set(observations.loc[observations["clock_offset_s"].notna(), "vantage"].unique())
    if never := {*lines.loc[foreign, "vantage"]} - known:
        why = "no answer that is surely the API's said what time it is, so times are taken as they are"
        said.append(f"The clock of {_listed(never)} was never compared with the API's: {why}.")
    made = lines.loc[lines["origin_kind"].isin(_OWN), ["trace_id", "vantage"]]
    withheld = lines[(lines["origin_kind"] == "") & lines["trace_id"].isin(made["trace_id"])]
    makers = made.loc[made["trace_id"].isin(withheld["trace_id"]), "vantage"]
    if len(withheld) and (never := {*withheld["vantage"], *makers} - known):
        told = f"{len(withheld):,} intervals of nests that another computer made are withheld"
        said.append(f"{told}: the clock of {_listed(never)} was never compared with the API's.")
    return said


def _listed(vantages: set[str]) -> str:
    names = sorted(vantages)
    more = f" and of {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return ", ".join(shortened(name, 32) for name in names[:MOST_TOLD]) + more


_OWN: Final = ("create", "publish")

_FOREIGN: Final = ("created_at", "room", EDIT)
"""What the origin of a nest of others is."""

_TOLD_S: Final = 0.005
