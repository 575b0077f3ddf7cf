"""Who of several vantages saw a nest first, by how much, and how surely. Pure.

Of a nest, layer and two vantages the second's delay less the first's lies in (lower, upper), which holds whatever the
intervals leave open and both clocks' errors (timeline/intervals/sightings.py). It is never made a point:

    first surely     lower >= 0: the second was told "no" when the first had been told "yes"
    second surely    upper <= 0
    cannot be told   else; where the bare intervals would tell, the clocks are to blame

A nest that neither saw says nothing of the two, and is counted apart; one that only one saw has no upper (or no lower)
end, and stays. The distribution of differences is looked at by order statistics (difference.Quantile): the lower ends
bound a quantile below, the upper ends above, whatever lies in between and however nests were censored. Nests of one
hour share their fate (dependence.py). Several pairs are judged together, each at 1 - .05 / pairs (Bonferroni): of a
dozen vantages the last and the first are found by these very data.

Of many, each is set beside **the first of the others**: max over u of T - T_u, bounded end by end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import pandas as pd

from nestobs.estimate import agreement
from nestobs.estimate.dependence import blocks, design_effect
from nestobs.estimate.difference import Ends, Quantile
from nestobs.estimate.proportion import LEVEL, Share
from nestobs.observation.arrays import Flags, Floats, Ints, Texts
from nestobs.observation.columns import codes_of
from nestobs.timeline.delays import joinable

MOST_VANTAGES: Final = 12
"""Beyond the most watching none is compared: 66 pairs are many already."""

ROUTES: Final = ("api:join", "api:guest")
SEAT: Final = "joinable"
"""The layer of `seats`: when a nest could be joined."""

_SEVERAL: Final = -(2**50)
"""Numbers from here down are clocks of seats whose routes were timed by several; `sightings` has none so low."""

_CLOCKS: Final = ["clock", "clock_error_s", "floor_s", "home", "home_error_s", "until_s", "flaps"]

MOST_LATE: Final = 0.1
"""A relay serves a vantage late where more than this share of nests surely comes to it late."""

Way = Literal["later", "earlier", "not shown"]
Served = Literal["late", "in time", "cannot be told"]


def seats(sightings: pd.DataFrame) -> pd.DataFrame:
    """When a nest could be joined from each vantage (`delays.joinable`), as sightings of one layer more, SEAT.

    A vantage that asks as a guest alone is set beside what others were told as guests: of each nest those routes count
    that all asked who asked for any. Nests without such a route make no row.
    """
    asked = sightings[sightings["layer"].isin(ROUTES)]
    everybody = asked.groupby("trace_id")["vantage"].nunique()
    by_route = asked.groupby(["trace_id", "layer"])["vantage"].transform("nunique")
    kept = asked[by_route == asked["trace_id"].map(everybody)]
    parts = pd.concat([kept, sightings[sightings["layer"] == "livekit:signal"]])
    ends = joinable(parts).drop(columns=["nest", "host", "relays", "hour"]).rename(columns={"unit": "trace_id"})
    how: dict[str, str] = dict.fromkeys(_CLOCKS, "max") | {"floor_s": "min", "home": "first", "flaps": "sum"}
    whole = parts.groupby(["trace_id", "vantage"])
    clocks = whole[_CLOCKS].agg(how)
    clocks["clock"] = clocks["clock"].where(whole["clock"].nunique() == 1, _SEVERAL - np.arange(len(clocks)))
    return ends.merge(clocks.reset_index(), on=["trace_id", "vantage"]).assign(layer=SEAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sights:
    """One layer as n nests and k vantages saw it: what is in `sightings`, shape (n, k), NaN where a vantage proved
    nothing of a nest. vantages: their names; nests: names, shape (n,); block: those that share their fate; floor_s,
    home, home_error_s: shape (n,). left_out: vantages beyond MOST_VANTAGES."""

    layer: str
    vantages: tuple[str, ...]
    nests: Texts
    block: Ints
    lower: Floats
    upper: Floats
    error: Floats
    clock: Ints
    floor: Floats
    home: Ints
    home_error: Floats
    left_out: int = 0

    @property
    def watched(self) -> Flags:
        """Which vantages proved anything of which nests."""
        return ~np.isnan(self.upper)

    def apart(self, first: int, second: int, *, clocks: bool = True) -> tuple[Floats, Floats]:
        """The ends of the second's delay less the first's, of each nest; NaN where not both were watching. clocks:
        False: as if no clock were off."""
        error = np.where(
            self.clock[:, first] == self.clock[:, second], 0.0, self.error[:, first] + self.error[:, second]
        )
        made = np.where(self.clock == self.home[:, None], 0.0, self.error + self.home_error[:, None])
        if not clocks:
            error, made = np.zeros_like(error), np.zeros_like(made)
        low = self.lower[:, second] - self.upper[:, first] - error
        high = self.upper[:, second] - self.lower[:, first] + error
        born = np.where(self.upper > self.floor[:, None], self.floor[:, None], -np.inf)
        low = np.maximum(low, born[:, second] - self.upper[:, first] - made[:, first])
        return low, np.minimum(high, self.upper[:, second] - born[:, first] + made[:, second])


def sights(rows: pd.DataFrame, layer: str) -> Sights:
    """Of the rows of one layer of `sightings` or `seats`: the vantages of most nests, by name."""
    counts = rows.groupby("vantage")["trace_id"].nunique().sort_values(ascending=False, kind="stable")
    kept = rows[rows["vantage"].isin(counts.index[:MOST_VANTAGES])]
    nest, nests = codes_of(kept["trace_id"])
    vantage, vantages = codes_of(kept["vantage"])
    shape = (len(nests), len(vantages))

    def wide(name: str) -> Floats:
        found = np.full(shape, np.nan)
        found[nest, vantage] = kept[name].to_numpy(np.float64)
        return found

    def whole(name: str) -> Floats:
        found = np.full(len(nests), -np.inf)
        np.maximum.at(found, nest, kept[name].to_numpy(np.float64))
        return found

    made = np.zeros(len(nests), dtype=np.int64)
    made[nest] = kept["origin_at"].astype("int64").to_numpy(np.int64)
    clock, home = np.full(shape, -1, dtype=np.int64), np.full(len(nests), -1, dtype=np.int64)
    clock[nest, vantage], home[nest] = kept["clock"], kept["home"]
    return Sights(
        layer=layer,
        vantages=tuple(map(str, vantages)),
        nests=nests,
        block=blocks(made, lambda: np.arange(len(nests))),
        lower=wide("lower_s"),
        upper=wide("upper_s"),
        error=wide("clock_error_s"),
        clock=clock,
        floor=whole("floor_s"),
        home=home,
        home_error=whole("home_error_s"),
        left_out=max(0, len(counts) - MOST_VANTAGES),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two vantages and one layer. lower, upper: the second's delay less the first's, of each nest that either saw,
    seconds; nests, block: of each; neither: nests that neither saw; by_clocks: nests of which it could be told who was
    first if no clock were off; one_clock: nests that both timed by one clock; error_s: the most that their clocks may
    be apart, inf where one was never compared; level: of the intervals, so that those of all pairs hold together."""

    layer: str
    first: str
    second: str
    nests: Texts
    lower: Floats
    upper: Floats
    block: Ints
    neither: int
    by_clocks: int
    one_clock: int
    error_s: float
    level: float = LEVEL

    @property
    def n(self) -> int:
        """Nests that either saw."""
        return len(self.lower)

    @property
    def first_first(self) -> Share:
        """The share of which the first surely was first, and possibly was."""
        return _share(self.lower >= 0.0, self.upper > 0.0, self.block)

    @property
    def second_first(self) -> Share:
        """The share of which the second surely was first, and possibly was."""
        return _share(self.upper <= 0.0, self.lower < 0.0, self.block)

    @property
    def untold(self) -> int:
        """Nests of which it cannot be told."""
        return int(((self.lower < 0.0) & (self.upper > 0.0)).sum())

    def quantile(self, p: float = 0.5) -> Ends:
        """Of the differences, at `level`; n above 0."""
        return quantile(self.lower, self.upper, self.block, p, self.level)

    @property
    def way(self) -> Way:
        """Whether the second surely is later, or earlier, in half of nests at least."""
        if not self.n:
            return "not shown"
        half = self.quantile()
        return "later" if half.low > 0.0 else "earlier" if half.high < 0.0 else "not shown"

    def turned(self) -> Pair:
        """The same, the first less the second."""
        return replace(self, first=self.second, second=self.first, lower=-self.upper, upper=-self.lower)


def pairs(found: Sights) -> list[Pair]:
    """Of all vantages that were watching one nest at least, in the order of their names."""
    watched = found.watched
    places = [
        (i, j)
        for i in range(len(found.vantages))
        for j in range(i + 1, len(found.vantages))
        if (watched[:, i] & watched[:, j]).any()
    ]
    return [_pair(found, i, j, 1.0 - (1.0 - LEVEL) / len(places)) for i, j in places]


def _pair(found: Sights, first: int, second: int, level: float) -> Pair:
    both = found.watched[:, first] & found.watched[:, second]
    lower, upper = found.apart(first, second)
    bare_lower, bare_upper = found.apart(first, second, clocks=False)
    seen = both & (np.isfinite(found.upper[:, first]) | np.isfinite(found.upper[:, second]))
    untold = (lower < 0.0) & (upper > 0.0) & ((bare_lower >= 0.0) | (bare_upper <= 0.0))
    one = found.clock[:, first] == found.clock[:, second]
    error = np.where(one, 0.0, found.error[:, first] + found.error[:, second])[seen]
    return Pair(
        layer=found.layer,
        first=found.vantages[first],
        second=found.vantages[second],
        nests=found.nests[seen],
        lower=lower[seen],
        upper=upper[seen],
        block=found.block[seen],
        neither=int((both & ~seen).sum()),
        by_clocks=int((untold & seen).sum()),
        one_clock=int((one & seen).sum()),
        error_s=float(error.max(initial=0.0)),
        level=level,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """One vantage and layer beside the first of the others. lower, upper: its delay less theirs, of each nest that
    anybody saw, seconds; block: of each; unseen: which it did not see by the end of its own watching."""

    layer: str
    vantage: str
    lower: Floats
    upper: Floats
    block: Ints
    unseen: Flags
    level: float = LEVEL

    @property
    def n(self) -> int:
        """Nests that anybody saw while it was watching."""
        return len(self.lower)

    @property
    def first(self) -> Share:
        """The share of which it surely was the first, and possibly was."""
        return _share(self.upper <= 0.0, self.lower < 0.0, self.block)

    def late(self, by_s: float) -> Share:
        """The share that it surely saw later than the first of the others by so many seconds, or never; and possibly
        did. by_s = 0: it was told "no" when another had been told "yes"."""
        return _share(self.lower >= by_s, self.upper > by_s, self.block)

    def missing(self, by_s: float) -> int:
        """Of those, the nests that it never saw."""
        return int(((self.lower >= by_s) & self.unseen).sum())

    def served(self, by_s: float) -> Served:
        """Whether more than MOST_LATE came late, whatever chance and doubt leave open at `level`."""
        low, high = self.late(by_s).by_chance_and_doubt(self.level)
        return "late" if low > MOST_LATE else "in time" if high <= MOST_LATE else "cannot be told"

    def quantile(self, p: float = 0.5) -> Ends:
        """Of the differences, at `level`; n above 0."""
        return quantile(self.lower, self.upper, self.block, p, self.level)


def behind(found: Sights, level: float = LEVEL) -> list[Behind]:
    """Each vantage that watched with others, in the order of their names."""
    made = []
    for mine in range(len(found.vantages)):
        if others := _others(found, mine):
            made.append(_behind(found, mine, others, level))
    return [one for one in made if one.n]


def _behind(found: Sights, mine: int, others: Sequence[int], level: float) -> Behind:
    ends = np.array([found.apart(other, mine) for other in others])  # NaN where not both were watching
    ends = np.where(np.isnan(ends), -np.inf, ends).max(axis=0)
    beside = found.watched[:, others]
    seen = np.isfinite(found.upper[:, mine]) | np.isfinite(found.upper[:, others]).any(axis=1)
    kept = found.watched[:, mine] & beside.any(axis=1) & seen
    return Behind(
        layer=found.layer,
        vantage=found.vantages[mine],
        lower=ends[0][kept],
        upper=ends[1][kept],
        block=found.block[kept],
        unseen=np.isposinf(found.upper[kept, mine]),
        level=level,
    )


def told_no(found: Sights) -> Share:
    """Of the nests that two vantages watched and one saw: of how many one surely was told "no" when another had been
    told "yes"."""
    surely = np.zeros(len(found.nests), dtype=bool)
    for mine in range(len(found.vantages)):
        for other in _others(found, mine):
            surely |= found.apart(other, mine)[0] >= 0.0  # NaN is not
    kept = (found.watched.sum(axis=1) > 1) & np.isfinite(found.upper).any(axis=1)
    return _share(surely[kept], surely[kept], found.block[kept])


def _others(found: Sights, mine: int) -> list[int]:
    return [other for other in range(len(found.vantages)) if other != mine]


@dataclass(frozen=True, slots=True)
class Parted:
    """How long one could get in while the other was told "no", of the nests of which that is sure: how many, and in
    seconds half of them, from `least` to `most`, and the longest. Both NaN without any."""

    count: int
    least_s: float
    most_s: float
    longest_s: float


def parted(pair: Pair) -> Parted:
    """The first in, the second told "no"."""
    surely = pair.lower >= 0.0
    low, high = np.sort(pair.lower[surely]), np.sort(pair.upper[surely])
    if not len(low):
        return Parted(0, math.nan, math.nan, math.nan)
    middle = max(1, math.ceil(len(low) / 2)) - 1
    return Parted(len(low), float(low[middle]), float(high[middle]), float(low[-1]))


def worst(found: Sequence[Pair]) -> Pair | None:
    """The pair whose median difference is surely the greatest, turned so that its second is the later one; where none
    is shown, that of most nests. None of none."""
    told = [one for one in found if one.n]
    shown = [one.turned() if one.way == "earlier" else one for one in told if one.way != "not shown"]
    if shown:
        return max(shown, key=lambda one: one.quantile().low)
    return max(told, key=lambda one: one.n, default=None)


def quantile(lower: Floats, upper: Floats, block: Ints, p: float, level: float = LEVEL) -> Ends:
    """The p-quantile of what lies in (lower, upper), shape (n,), n above 0, and its interval. block: rows that share
    their fate."""
    low, high = np.sort(lower), np.sort(upper)
    plain = Quantile(p, low, high)
    middle = plain.at(level)
    deffs = [design_effect(lower <= middle.least, block), design_effect(upper <= middle.most, block)]
    deff = float(np.fmax.reduce(np.array([1.0, *deffs])))
    return plain.at(level) if deff == 1.0 else Quantile(p, low, high, deff).at(level)


def _share(surely: Flags, possibly: Flags, block: Ints) -> Share:
    deffs = [1.0, design_effect(surely, block), design_effect(possibly, block)]
    return Share(int(surely.sum()), int(possibly.sum()), len(surely), float(np.fmax.reduce(np.array(deffs))))


def stretches(seats: pd.DataFrame) -> pd.DataFrame:
    """When all vantages of a nest surely and possibly told the same, as agreement.stretches gives it, of rows of
    `seats`: of nests that two vantages or more were watching, as long as two were. Each row is widened by its clock's
    error where these are not all of one clock."""
    of = seats.groupby("trace_id")
    many = seats[(of["vantage"].transform("nunique") > 1).to_numpy(bool)]
    several = (many.groupby("trace_id")["clock"].transform("nunique") > 1).to_numpy(bool)
    error = np.where(several, many["clock_error_s"].to_numpy(float), 0.0)
    wide = many.assign(
        unit=many["trace_id"],
        lower_s=many["lower_s"] - error,
        upper_s=many["upper_s"] + error,
        seen_until_s=many["seen_until_s"] - error,
        gone_upper_s=many["gone_upper_s"] + error,
    )
    found = agreement.stretches(wide.reset_index(drop=True))
    ranked = many.sort_values("until_s", ascending=False, kind="stable")
    second = ranked[(ranked.groupby("trace_id").cumcount() == 1).to_numpy(bool)].set_index("trace_id")["until_s"]
    until = second.reindex(found["unit"]).to_numpy(float)
    cut = found.assign(end_s=np.minimum(found["end_s"].to_numpy(float), until))
    return cut[(cut["start_s"] < cut["end_s"]).to_numpy(bool)].reset_index(drop=True)
