"""The odds between two readings of one picture, where nothing that was observed decides.

`/info` is active and both joins answer 404. Either LiveKit's room is late (the record came first: time heals it) or the
API fails every join (nothing heals it). After t seconds of that

    P(fault | t) = p / (p + (1 - p) S(t)),    S(t) = P(the room is later than t, given that it is late)

where p is the share of standing faults among the nests that are found so at first, and S is lognormal (median, sigma),
as delays between the parts of a nest are. Both can be measured (`measured`): by the nests whose joins came after their
/info, and those whose joins never came though LiveKit had the room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

UNDECIDED_AT_MOST: Final = 0.85
"""Where no evidence decides, no reading is held more surely than this."""

LATE_S: Final = 0.5
"""A join that came sooner after /info was not late: two requests are as far apart."""

WATCHED_S: Final = 30.0
"""Joins that had not come so long after /info, with LiveKit's room there, are counted as a standing fault."""

ENOUGH: Final = 10
"""So many late nests tell a law."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """What is known beforehand. The defaults are judgements, not measurements; `measured` replaces them.

    standing_share: of nests whose /info is active while joins answer 404, how many have a standing fault. Default .1:
    two released versions of the API are known to have one. lag_median_s, lag_sigma: how much later than the record a
    room is, where it is late. Default 4 s and 1.3, so that one in seventeen takes over 30 s: as late as the slowest
    races that were reported. lived_s: by which age an empty room has ended (LiveKit's empty timeout: 180 to 1 800 s).
    """

    standing_share: float = 0.1
    lag_median_s: float = 4.0
    lag_sigma: float = 1.3
    lived_s: float = 300.0

    def later_than(self, lag_s: float) -> float:
        """S(t)."""
        if lag_s <= 0.0:
            return 1.0
        return 0.5 * math.erfc(math.log(lag_s / self.lag_median_s) / (self.lag_sigma * math.sqrt(2.0)))

    def fault(self, lag_s: float, rounds: int = 1) -> float:
        """P(fault | the joins answered 404 for so long while /info was active), never surer than UNDECIDED_AT_MOST.

        rounds: how often they did: one look tells no length of time.
        """
        late = (1.0 - self.standing_share) * self.later_than(lag_s if rounds > 1 else 0.0)
        found = self.standing_share / (self.standing_share + late)
        return min(UNDECIDED_AT_MOST, max(1.0 - UNDECIDED_AT_MOST, found))


DEFAULT: Final = Priors()


def measured(timelines: pd.DataFrame, otherwise: Priors = DEFAULT) -> Priors:
    """The odds as these nests show them; `otherwise` where there are fewer than ENOUGH that were late.

    `timelines` of any nests; each nest counts once, by the vantage that saw it first. The share is smoothed by the
    other one's, worth ten nests.
    """
    seen = timelines[timelines["layer"].isin(["api:info", "api:join", "api:guest", "livekit:room"])]
    nest = np.where(seen["nest"].astype("str") != "", seen["nest"].astype("str"), seen["room"].astype("str"))
    table = seen.assign(nest=nest).pivot_table(
        index="nest", columns="layer", values=["upper_s", "lower_s"], aggfunc="min", observed=True
    )
    column = {name: _column(table, *name) for name in _WANTED}
    info, room = column["upper_s", "api:info"], column["upper_s", "livekit:room"]
    joined = np.fmin(column["upper_s", "api:join"], column["upper_s", "api:guest"])
    absent = np.fmax(column["lower_s", "api:join"], column["lower_s", "api:guest"])
    with np.errstate(invalid="ignore"):
        lags = (joined - info)[np.isfinite(info) & np.isfinite(joined)]
        stuck = np.isfinite(info) & np.isinf(joined) & (absent - info > WATCHED_S) & np.isfinite(room)
    late = lags[lags > LATE_S]
    if len(late) < ENOUGH:
        return otherwise
    share = (10 * otherwise.standing_share + stuck.sum()) / (10 + stuck.sum() + len(late))
    logs = np.log(late)
    return replace(
        otherwise,
        standing_share=float(share),
        lag_median_s=float(np.exp(np.median(logs))),
        lag_sigma=max(0.5, float(logs.std(ddof=1))),
    )


_WANTED: Final = (
    ("upper_s", "api:info"),
    ("upper_s", "livekit:room"),
    ("upper_s", "api:join"),
    ("upper_s", "api:guest"),
    ("lower_s", "api:join"),
    ("lower_s", "api:guest"),
)


def _column(table: pd.DataFrame, value: str, layer: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Of each nest; NaN where it was never asked."""
    if (value, layer) not in table.columns:
        return np.full(len(table), np.nan)
    return table[value, layer].to_numpy(dtype=np.float64)
