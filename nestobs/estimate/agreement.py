"""Do the places where a nest shows agree, and which of them is last?

A timeline says of one layer and vantage: surely absent until `lower_s`, surely visible from `upper_s` to
`seen_until_s`, surely absent again from `gone_upper_s`; in between, and after the last proof, either. From that follow
bounds, whatever lies inside the intervals. All rows of a nest **surely agree** where all are surely visible or all
surely absent; they **possibly agree** unless one is surely visible while another is surely absent. The true share lies
between the two. A row that flapped may be either from `upper_s` to `seen_until_s`. A nest counts from its origin to its
last proof, on any of its rows. Layers of one nest depend on each other, so its rows are combined, never shares.

Only layers that are asked again and again count (`watched`): signalling and media are tried when somebody has a token,
and then seldom, and the client's own load repeats a relay.

Which layer is **last**: surely L where its lower end is not below any other's upper end, possibly L where its upper end
is above every other's lower end. Where several are possible it is ambiguous, which is said and never split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nestobs.estimate.proportion import Share, share
from nestobs.observation.arrays import Floats, Ints
from nestobs.observation.columns import unit_of
from nestobs.observation.duration import SECOND_NS
from nestobs.timeline.delays import edited

WATCHED: Final = ("relay:", "api:", "livekit:room")
"""How the layers begin that are asked again and again."""


def watched(timelines: pd.DataFrame) -> pd.DataFrame:
    """The rows that count, with a column `unit` (trace_id, else the nest's address): of layers in WATCHED, with an
    origin and a proof, of nests that have at least two of them and are no edits of older rooms."""
    told = timelines["layer"].str.startswith(WATCHED) & (timelines["polls"] > 0)
    told &= ~edited(timelines) & timelines["origin_at"].notna() & timelines["lower_s"].notna()
    rows = timelines[told]
    rows = rows.assign(unit=unit_of(rows))
    return rows[rows.groupby("unit")["layer"].transform("size") > 1].reset_index(drop=True)


def stretches(rows: pd.DataFrame) -> pd.DataFrame:
    """Each nest's life in stretches [start_s, end_s) of age within which nothing changes, from 0 to its last proof.

    rows: of `watched`. Columns: unit, origin_at, start_s, end_s (seconds), sure, possible (bool: whether all rows
    surely and possibly agree), shown (bool: whether one is surely visible). Single instants, as an end, are not told.
    """
    unit, names = pd.factorize(rows["unit"], sort=True)
    size = np.bincount(unit, minlength=len(names)).astype(np.int64)
    end = np.zeros(len(names))
    np.maximum.at(end, unit, _last_proof(rows))
    of, at, visible, absent = _events(rows, unit.astype(np.int64), end)
    order = np.lexsort((at, of))
    of, at = of[order], at[order]
    visible, absent = np.cumsum(visible[order]), np.cumsum(absent[order])  # each unit's changes sum to 0
    until = np.append(at[1:], 0.0)
    keeps = np.append(of[1:] == of[:-1], False) & (until > at) if len(of) else np.zeros(0, dtype=bool)
    of, visible, absent = of[keeps], visible[keeps], absent[keeps]
    origin = rows["origin_at"].astype("int64").groupby(unit).min().to_numpy(np.int64)
    return pd.DataFrame(
        {
            "unit": pd.Series(np.asarray(names, dtype=object)[of], dtype="str"),
            "origin_at": pd.to_datetime(origin[of], utc=True),
            "start_s": at[keeps],
            "end_s": until[keeps],
            "sure": (visible == size[of]) | (absent == size[of]),
            "possible": (visible == 0) | (absent == 0),
            "shown": visible > 0,
        }
    )


def by_age(found: pd.DataFrame, ages_s: ArrayLike) -> pd.DataFrame:
    """Of the nests watched at each age, how many agree. found: of `stretches`; ages_s: seconds, shape (k,).

    Columns: age_s, n (nests watched then), sure, possible (of them), low, high (as shares, NaN where n is 0).
    """
    ages = np.asarray(ages_s, dtype=np.float64)
    counts = {"n": _standing(found, ages)}
    counts |= {name: _standing(found[found[name]], ages) for name in ("sure", "possible")}
    return pd.DataFrame({"age_s": ages} | counts | _shares(counts["n"], counts["sure"], counts["possible"]))


def by_time(found: pd.DataFrame, edges: ArrayLike) -> pd.DataFrame:
    """Of the time that nests were watched between two edges (ns UTC, ascending, shape (k + 1,)), how much they agree.

    found: of `stretches`. Columns: start_at, end_at (datetime64[ns, UTC]), watched_s (summed over nests), sure_s,
    possible_s, low, high (as shares, NaN where nothing was watched).
    """
    at = np.asarray(edges, dtype=np.int64)
    spent = {"watched_s": _spent(found, at)}
    spent |= {f"{name}_s": _spent(found[found[name]], at) for name in ("sure", "possible")}
    bins = {"start_at": pd.to_datetime(at[:-1], utc=True), "end_at": pd.to_datetime(at[1:], utc=True)}
    return pd.DataFrame(bins | spent | _shares(*spent.values()))


def total(found: pd.DataFrame) -> tuple[float, float]:
    """The least and greatest share of all the time watched in which nests agree; NaN of none."""
    length = (found["end_s"] - found["start_s"]).to_numpy(dtype=np.float64)
    whole = float(length.sum())
    if not whole > 0:
        return float("nan"), float("nan")
    return float(length[found["sure"]].sum()) / whole, float(length[found["possible"]].sum()) / whole


@dataclass(frozen=True, slots=True)
class Last:
    """Which layer was last to show a nest, over nests at one vantage. `shares`: by layer, of `nests`.

    nests: those that some layer showed and that two layers or more were asked about; ambiguous: of them, those where
    more than one layer may have been last; unshown: nests that no layer showed, which have no last one.
    """

    vantage: str
    shares: dict[str, Share]
    nests: int
    ambiguous: int
    unshown: int


def last(rows: pd.DataFrame) -> list[Last]:
    """By vantage. rows: of `watched`. Who alone never showed a nest that others showed is the last."""
    return [_last(name, rows[rows["vantage"] == name]) for name in sorted(set(rows["vantage"]))]


def _last(vantage: str, rows: pd.DataFrame) -> Last:
    many = rows.groupby("unit")["layer"].transform("nunique") > 1
    rows = rows[many.to_numpy(dtype=bool)]
    unit, names = pd.factorize(rows["unit"])
    lower, upper = (rows[name].to_numpy(dtype=np.float64) for name in ("lower_s", "upper_s"))
    size = len(names)
    shown = np.full(size, np.inf)
    np.minimum.at(shown, unit, upper)
    possible = upper > _greatest_of_others(lower, unit, size)
    candidates = np.bincount(unit[possible], minlength=size)
    counts = np.isfinite(shown)
    sure = possible & (candidates[unit] == 1)
    mine, n = counts[unit], int(counts.sum())
    layers = {str(layer): (rows["layer"] == layer).to_numpy(dtype=bool) for layer in sorted(set(rows["layer"]))}
    shares = {
        layer: share(int((sure & mine & at).sum()), n, int((possible & mine & at).sum()))
        for layer, at in layers.items()
    }
    return Last(vantage, shares, n, int((counts & (candidates > 1)).sum()), int((~counts).sum()))


def _greatest_of_others(values: Floats, unit: Ints, size: int) -> Floats:
    """Per row the greatest value of its unit's other rows, of which each has some."""
    order = np.lexsort((values, unit))
    last = np.cumsum(np.bincount(unit, minlength=size)) - 1
    found = values[order[last]][unit]
    found[order[last]] = values[order[last - 1]]
    return np.asarray(found)


def _last_proof(rows: pd.DataFrame) -> Floats:
    """Per row the age of its last proof, seconds; 0 where that is before the origin or not known."""
    ends = rows[["lower_s", "seen_until_s", "gone_upper_s"]].to_numpy(dtype=np.float64)
    upper = rows["upper_s"].to_numpy(dtype=np.float64)
    ends = np.column_stack([ends, np.where(np.isfinite(upper), upper, -np.inf)])
    return np.asarray(np.where(np.isnan(ends), -np.inf, ends).max(axis=1, initial=0.0), dtype=np.float64)


def _events(rows: pd.DataFrame, unit: Ints, end: Floats) -> list[NDArray[Any]]:
    """Ages at which the number of rows that are surely visible or absent changes: unit, age, by how much the two do."""
    lower, upper, until, gone = (
        rows[name].to_numpy(dtype=np.float64) for name in ("lower_s", "upper_s", "seen_until_s", "gone_upper_s")
    )
    stop = end[unit]
    steady = np.isfinite(upper) & (until > upper) & (rows["flaps"] == 0).to_numpy(dtype=bool)
    went = ~np.isnan(gone)
    zero = np.zeros(len(rows))
    every, nothing = np.arange(len(end), dtype=np.int64), np.zeros(len(end), dtype=np.int64)
    made = [(every, np.zeros(len(end)), nothing, nothing), (every, end, nothing, nothing)]
    for mask, begin, finish, shows in (
        (lower > 0, zero, lower, False),
        (steady, upper, until, True),
        (went, gone, stop, False),
    ):
        first, then = (np.clip(ages[mask], 0.0, stop[mask]) for ages in (begin, finish))
        one = np.ones(int(mask.sum()), dtype=np.int64)
        for ages, step in ((first, one), (np.maximum(first, then), -one)):
            made.append((unit[mask], ages, step if shows else 0 * step, 0 * step if shows else step))
    return [np.concatenate(column) for column in zip(*made, strict=True)]


def _standing(found: pd.DataFrame, ages: Floats) -> Ints:
    """How many stretches hold each age."""
    starts, ends = (np.sort(found[name].to_numpy(dtype=np.float64)) for name in ("start_s", "end_s"))
    begun, ended = (np.searchsorted(values, ages, "right").astype(np.int64) for values in (starts, ends))
    return begun - ended


def _spent(found: pd.DataFrame, edges: Ints) -> Floats:
    """Seconds of stretches between successive edges."""
    origin = found["origin_at"].astype("int64").to_numpy(np.int64)
    first = int(edges[0])
    start, end = (
        (origin - first) / SECOND_NS + found[name].to_numpy(dtype=np.float64) for name in ("start_s", "end_s")
    )
    at = (edges - first) / SECOND_NS
    begun, ended = (_past(values, at) for values in (start, end))
    return np.maximum(np.diff(begun - ended), 0.0)


def _past(values: Floats, at: Floats) -> Floats:
    """At each instant, the seconds that have gone by since each value that is past, summed."""
    ordered = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    count = np.searchsorted(ordered, at, "right")
    return np.asarray(at * count - sums[count], dtype=np.float64)


def _shares(whole: NDArray[Any], sure: NDArray[Any], possible: NDArray[Any]) -> dict[str, Floats]:
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = (np.where(whole > 0, part / whole, np.nan) for part in (sure, possible))
    return {"low": np.clip(low, 0.0, 1.0), "high": np.clip(high, 0.0, 1.0)}
