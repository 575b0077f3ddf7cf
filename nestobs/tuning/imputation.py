"""Recorded nests as instants: drawn from a law within their intervals, several times, and at the intervals' ends. Pure.

"Never" means not by the last age at which anything was seen to come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nestobs.estimate.npmle import DelayLaw, Rows, fit, rows
from nestobs.observation.arrays import Flags, Floats, Ints
from nestobs.timeline.delays import blocks as blocks_of
from nestobs.timeline.delays import nests_in

IMPUTATIONS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Nests to replay on, one row a nest and vantage.

    rows: intervals in which they became joinable. gone: shape (n,), the age from which they are gone again, inf for
    never. nests: how many different ones. blocks: shape (n,), labels. law: the smoothed law that ambiguous rows are
    drawn from. times: shape (m, n), imputed instants, inf for never. extremes: shape (3, n), as `extremes` gives them.
    own: shape (m, n), from when the authenticated join itself succeeds, not before `times`. own_ends: shape (3, n), the
    same of `extremes`. apart: shape (n,), of which nests it is proven that the guest's join succeeded before the
    authenticated one: only of those is somebody a listener who could have spoken later. Of others `own` may be later
    than `times` for want of a better clock.
    """

    rows: Rows
    gone: Floats
    nests: int
    blocks: Ints
    law: DelayLaw = field(repr=False)
    times: Floats = field(repr=False)
    extremes: Floats = field(repr=False)
    own: Floats = field(repr=False)
    own_ends: Floats = field(repr=False)
    apart: Flags = field(repr=False)

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.gone)

    def take(self, keeps: NDArray[np.bool_]) -> Recorded:
        """Some of the nests, as they were imputed."""
        names = ("gone", "blocks", "times", "extremes", "own", "own_ends", "apart")
        some: dict[str, Any] = {name: getattr(self, name)[..., keeps] for name in names}
        return replace(self, rows=self.rows.take(keeps), **some)


def recorded(
    delays: pd.DataFrame, rng: np.random.Generator, *, law: DelayLaw | None = None, imputations: int = IMPUTATIONS
) -> Recorded:
    """`delays` as delays.joinable gives them, imputed from `law` (None: the smoothed law of these very rows)."""
    data = rows(delays["lower_s"].to_numpy(), delays["upper_s"].to_numpy())
    labels, _ = blocks_of(delays)
    smooth = fit(data).smooth(blocks=labels) if law is None else law
    times, ends = impute(smooth, data, rng, imputations), extremes(data)
    latest = np.maximum(delays["join_upper_s"].fillna(-math.inf).to_numpy(np.float64), ends[:2])
    return Recorded(
        rows=data,
        gone=delays["gone_lower_s"].fillna(math.inf).to_numpy(np.float64),
        nests=nests_in(delays),
        blocks=labels,
        law=smooth,
        times=times,
        extremes=ends,
        own=by_own(delays, times, rng.spawn(1)[0]),
        own_ends=np.stack([*latest, ends[2]]),
        apart=(delays["guest_upper_s"] <= delays["join_lower_s"]).to_numpy(bool),
    )


def by_own(delays: pd.DataFrame, times: Floats, rng: np.random.Generator) -> Floats:
    """From when the authenticated join itself succeeds, where some join does from `times` on: shape (m, n).

    Which route came first is drawn evenly from the intervals of both, the later one from what is left of its own. A
    nest of which only one route was asked is joined by that.
    """
    ends = [
        delays[f"{route}_{end}_s"].to_numpy(np.float64) for route in ("join", "guest") for end in ("lower", "upper")
    ]
    low, high, guest_low, guest_high = ends
    first = ~(_even(low, high, rng.random(times.shape)) > _even(guest_low, guest_high, rng.random(times.shape)))
    later = _even(np.fmax(low, times), np.fmax(high, times), rng.random(times.shape))
    return np.where(first, times, later)


def _even(low: Floats, high: Floats, u: Floats) -> Floats:
    """Evenly in (low, high]; inf where that has no end, NaN where it is not known."""
    from_s = np.where(np.isfinite(low), low, np.minimum(high, 0.0))
    with np.errstate(invalid="ignore"):
        even = high - u * (high - from_s)
    return np.where(np.isinf(high), math.inf, even)


def impute(law: DelayLaw, data: Rows, rng: np.random.Generator, imputations: int = IMPUTATIONS) -> Floats:
    """Instants drawn from `law` within each row's (lower, upper]: shape (imputations, n); inf for never.

    A row to which the law gives no mass is drawn evenly in its interval. What a row never seen would draw later than
    anything was seen is never: the smoothed law reaches beyond the end of watching, of which nothing is known.
    """
    low = law.cdf(data.below)
    mass = law.cdf(data.upper) - low
    u = rng.random((imputations, len(low)))
    drawn = np.asarray(law.quantile(np.minimum(low + u * mass, 1.0)))
    drawn = np.clip(drawn, np.nextafter(data.lower, math.inf), data.upper)
    found = np.where(mass > 1e-9, drawn, _even(data.lower, data.upper, u))
    return np.where(np.isinf(data.upper) & (found > last_seen(data)), math.inf, found)


def last_seen(data: Rows) -> float:
    """The latest age by which anything was seen to come, seconds; -inf when nothing was."""
    return float(data.upper[np.isfinite(data.upper)].max(initial=-math.inf))


def extremes(data: Rows) -> Floats:
    """The instants that the rows allow at their latest, the latest that come at all, and the earliest: shape (3, n).

    A row never seen may have come after its lower end where others were seen later; else it is never.
    """
    last = last_seen(data)
    comes = np.isfinite(data.upper) | (data.lower < last)
    coming = np.where(np.isfinite(data.upper), data.upper, np.where(comes, last, math.inf))
    earliest = np.where(comes, np.minimum(np.nextafter(data.lower, math.inf), coming), math.inf)
    return np.stack([data.upper, coming, np.maximum(earliest, -1e12)])


def time_parts(labels: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """A part from 0 for each row, rows in order of time: whole blocks, successive ones together, parts about equal."""
    place, names = pd.factorize(labels)
    return np.asarray(place * min(parts, len(names)) // len(names), dtype=np.int64)
