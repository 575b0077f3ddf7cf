"""What each vantage saw of a nest, on one clock: bare intervals, and beside each the clock that they were read on.

`timelines` widens a delay by the error of every clock between it and its nest's origin. Who of two saw a nest first
rests on less: vantages of one process share a clock, and of an origin that both count from nothing is left in a
difference. So here an interval is as its vantage saw it, put on the reference clock as far as that is known
(clocks.py), and each says on which clock it was read and how far that may be off. Then, with e = 0 on one clock and
else the sum of both errors,

    T2 - T1 is in (L2 - U1 - e, U2 - L1 + e)

A run whose clock was never compared with the reference may be off by anything, but for itself: its error is infinite.
A nest is one, whoever watched it and under however many traces.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import BELOW, NONE, Flags, Floats, Ints, count_of, greatest_at, least_at
from nestobs.observation.columns import codes_of, equals, instants_of, paired, ranked, units_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Column, Failure, Operation, Outcome
from nestobs.timeline.intervals.bounds import SCHEMA as LINES
from nestobs.timeline.intervals.bounds import timelines
from nestobs.timeline.intervals.clocks import clock_offsets
from nestobs.timeline.intervals.polls import layers_of
from nestobs.timeline.nests import nests_of

_OURS: Final = ("planned_at", "sent_at", "received_at")
_NOTHING: Final = {"clock_offset_s": 0.0, "clock_error_s": 0.0, "sync_age_s": np.nan}
_MOVED: Final = ("seen_until_s", "gone_lower_s", "gone_upper_s")
_MAKERS: Final = -(2**40)
"""Numbers from here down are of nests that several runs made: no clock of proofs is called so."""

_KEY: Final = ["trace_id", "layer", "vantage"]

SCHEMA: Final[tuple[Column, ...]] = (
    *(column for column in LINES if column.name not in ("origin_error_s", "width_s", "stable_s", "spacing_s")),
    Column("until_s", "real", "s", "its last proof, whatever it says, was at this age", False),
    Column("clock", "int", "", "what its proofs were timed by: equal within a nest where that is one clock", False),
    Column("clock_error_s", "real", "s", "so far that clock may be off the reference; inf: never compared", False),
    Column("floor_s", "real", "s", "the layer cannot have shown the nest by this age; -inf: nothing says so", False),
    Column("home", "int", "", "the clock of floor_s, as `clock`", False),
    Column("home_error_s", "real", "s", "the same of it as clock_error_s", False),
)
"""The columns of `sightings`, in order; ages count from `origin_at`."""


def sightings(observations: pd.DataFrame) -> pd.DataFrame:
    """One row per nest, layer and vantage that proved anything, sorted as `timelines` sorts; columns of SCHEMA.

    `observations` as `timelines` takes them. trace_id is the nest's name (its address, else its room). Ages, in
    seconds, count from the nest's origin or, where it has none, from the first that was proven of it; they are not
    widened, by no clock and no grain: lower_s is -inf where no absent was proven, upper_s inf where it was never
    visible. Rows of no nest make no row, but give marks and tell of clocks.
    """
    one = _one_trace_a_nest(observations)
    unit, _ = units_of(one)
    place = paired(unit, codes_of(one["run_id"])[0])
    sent, _ = instants_of(one["sent_at"])
    offset, error = clock_offsets(one, sent, unit, place)
    runs = np.bincount(_owners(unit, place) + 1, minlength=count_of(unit) + 2)[1:]
    known = np.where(np.isnan(offset) & (runs[_owners(unit, place)] > 1), np.inf, error)
    lines = timelines(_moved(one, np.round(np.nan_to_num(offset)[place] * SECOND_NS).astype(np.int64)))
    lines = lines[lines["polls"] > 0].reset_index(drop=True)
    return _framed(lines, _read_on(one, unit, place, known), _homes(one, unit, place, known))


def _one_trace_a_nest(observations: pd.DataFrame) -> pd.DataFrame:
    about = nests_of(observations)
    names = pd.array(np.append(about.names, "")[about.unit], dtype="str")
    texts = {name: pd.array(about.texts(name), dtype="str") for name in ("nest", "room")}
    return observations.assign(trace_id=names, nest=texts["nest"], room=texts["room"])


def _owners(unit: Ints, place: Ints) -> Ints:
    """Per place the unit that it is of, -1 for none."""
    return greatest_at(unit, place, count_of(place))


def _moved(rows: pd.DataFrame, shift: Ints) -> pd.DataFrame:
    """The rows on the reference clock, as far as that is known: nothing is left to move, and none is withheld."""
    moved: dict[str, Any] = {name: rows[name] - shift for name in _OURS}
    return rows.assign(**moved, **_NOTHING)


def _read_on(rows: pd.DataFrame, unit: Ints, place: Ints, error_s: Floats) -> pd.DataFrame:
    """By _KEY: clock, and how far it may be off. Proofs of several runs are of no one clock, and off as the worst."""
    layer, layers = layers_of(rows)
    vantage, vantages = codes_of(rows["vantage"])
    proof = equals(rows["outcome"], Outcome.VISIBLE) | equals(rows["outcome"], Outcome.ABSENT)
    proof &= rows["received_at"].notna().to_numpy(bool) & ~equals(rows["failure"], Failure.INTENT)
    index = np.flatnonzero(proof & (unit >= 0) & (layer >= 0))
    group = ranked(paired(paired(unit, layer), vantage)[index])
    clock, worst = _clock_of(place[index], group, error_s)
    first = np.full(count_of(group), -1, dtype=np.int64)
    first[group[::-1]] = index[::-1]
    keys = (rows["trace_id"].to_numpy(object)[first], layers[layer[first]], np.append(vantages, "")[vantage[first]])
    made = pd.MultiIndex.from_arrays([key.astype(object) for key in keys], names=_KEY)
    return pd.DataFrame({"clock": clock, "clock_error_s": worst}, index=made)


def _homes(rows: pd.DataFrame, unit: Ints, place: Ints, error_s: Floats) -> pd.DataFrame:
    """By trace_id: the clock of whoever made the nest, and how far it may be off; none of nests of others."""
    makes = equals(rows["operation"], Operation.CREATE) | equals(rows["operation"], Operation.PUBLISH)
    index = np.flatnonzero(makes & (unit >= 0))
    group = ranked(unit[index])
    clock, worst = _clock_of(place[index], group, error_s, several=_MAKERS)
    names = np.empty(count_of(group), dtype=object)
    names[group] = rows["trace_id"].to_numpy(object)[index]
    return pd.DataFrame({"home": clock, "home_error_s": worst}, index=pd.Index(names, name="trace_id"))


def _clock_of(place: Ints, group: Ints, error_s: Floats, *, several: int = -2) -> tuple[Ints, Floats]:
    """Per group the place that all of its rows are of, else a number of its own, from `several` down; and the worst
    error."""
    size = count_of(group)
    first, last = least_at(place, group, size), greatest_at(place, group, size)
    worst = np.zeros(size)
    np.maximum.at(worst, group, error_s[place])
    return np.where(first == last, first, several - np.arange(size)), worst


def _framed(lines: pd.DataFrame, read_on: pd.DataFrame, homes: pd.DataFrame) -> pd.DataFrame:
    kind, widened = lines["origin_kind"], lines["origin_error_s"].fillna(0.0)
    origin = _ns(lines["origin_at"])
    upper, lower = _ns(lines["upper_at"]), _ns(lines["lower_at"])
    of, _ = codes_of(lines["trace_id"])
    proven = np.minimum(np.where(upper == BELOW, NONE, upper), np.where(lower == BELOW, NONE, lower))
    base = np.where(origin == BELOW, least_at(proven, of, count_of(of))[of], origin)
    relay = lines["layer"].str.startswith("relay:").to_numpy(bool)
    lower_s = np.where(lower == BELOW, -np.inf, (lower - np.where(lower == BELOW, 0, base)) / SECOND_NS)
    upper_s = np.where(upper == BELOW, np.inf, (upper - np.where(upper == BELOW, 0, base)) / SECOND_NS)
    later = {name: lines[name] + (-widened if name == "gone_upper_s" else widened) for name in _MOVED}
    told = read_on.reindex(pd.MultiIndex.from_frame(lines[_KEY].astype(object)))
    home = homes.reindex(lines["trace_id"].astype(object))
    ours: Flags = ((kind == "create") | ((kind == "publish") & relay)).to_numpy(bool)
    ends = [lower_s, np.where(upper == BELOW, -np.inf, upper_s), *(later[name].to_numpy(float) for name in later)]
    found = lines.assign(
        origin_at=pd.Series(base.view("M8[ns]")).dt.tz_localize("UTC"),
        lower_s=lower_s,
        upper_s=upper_s,
        **later,
        until_s=np.fmax.reduce(ends),
        clock=told["clock"].to_numpy(np.int64),
        clock_error_s=told["clock_error_s"].to_numpy(float),
        floor_s=np.where(ours, -widened, -np.inf),
        home=home["home"].fillna(-1).to_numpy(np.int64),
        home_error_s=home["home_error_s"].fillna(np.inf).to_numpy(float),
    )
    return found[[column.name for column in SCHEMA]]


def _ns(values: pd.Series) -> Ints:
    """Instants in ns, BELOW for none."""
    return np.asarray(values.astype("int64"), dtype=np.int64)


def clock_table(observations: pd.DataFrame) -> pd.DataFrame:
    """A row a vantage, by name: how far its clock was ahead of the API's, by what its rows say.

    Columns: vantage, runs, compared (of them, those whose clock was compared), low_s, high_s (the surest comparison of
    each run allows this, over all runs; NaN: none), error_s (half of the widest of these), together (the vantages that
    share a run with it, and so a clock, sorted, ", " between).
    """
    names = ["vantage", "run_id", "clock_offset_s", "clock_error_s"]
    rows = observations[names].astype({"vantage": "str", "run_id": "str"})
    rows = rows[(rows["vantage"] != "") & (rows["run_id"] != "")]
    surest = rows.sort_values("clock_error_s", kind="stable").drop_duplicates(["vantage", "run_id"])
    of_run = surest.groupby("run_id")["vantage"].agg(set).to_dict()
    found = []
    for vantage, runs in surest.groupby("vantage"):
        told = runs[runs["clock_offset_s"].notna()].fillna({"clock_error_s": 0.0})
        offset, error = (told[name].astype("float64") for name in names[2:])
        beside = set().union(*(of_run[run] for run in runs["run_id"])) - {vantage}
        ends = (float((offset - error).min()), float((offset + error).max()), float(error.max()))
        found.append((str(vantage), len(runs), len(told), *ends, ", ".join(sorted(beside))))
    return pd.DataFrame(found, columns=["vantage", "runs", "compared", "low_s", "high_s", "error_s", "together"])
