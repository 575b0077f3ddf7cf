"""Whether delays differ by what nests have in common: relays, day, hour, part of the day, host, vantage.

All cells of a kind are tested at once, by a score test on interval-censored ranks, and all kinds together (Holm); so a
cell of a few nests counts, though nothing could be tuned on it alone. Cells of fewer than LEAST_CELL nests are one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from nestobs.estimate.difference import holm
from nestobs.estimate.npmle import DelayLaw
from nestobs.observation.arrays import Floats

LEAST_CELL: Final = 5
OTHERS: Final = "others"
"""The cell of those whose own is too small."""

LEAST_PAIRS: Final = 10
"""Nests seen from all vantages, to compare these nest by nest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Rows by what they share. label: of each row; p: of equal delays in all of its groups, Holm-corrected."""

    kind: str
    label: NDArray[Any]
    p: float


def groupings(law: DelayLaw, delays: pd.DataFrame) -> list[Grouping]:
    """Of `delays.joinable`, whose law is `law`: each kind of which there are two groups at least, the least p first."""
    hour = delays["hour"].to_numpy(np.int64)
    labels = {
        "relays": delays["relays"],
        "day": delays["origin_at"].dt.strftime("%Y-%m-%d"),
        "hour": delays["hour"].astype(str),
        "hours": [f"{6 * part:02} to {6 * part + 5:02}" for part in hour // 6],
        "host": delays["host"],
        "vantage": delays["vantage"],
    }
    units, score = delays["unit"].to_numpy(), scores(law)
    found = []
    for kind, names in labels.items():
        label = pooled(units, np.asarray(names, dtype=str))
        if len(np.unique(label)) > 1:
            p = by_pairs(score, units, label) if kind == "vantage" else math.nan
            found.append((kind, label, differ(score, units, label) if math.isnan(p) else p))
    held = holm([p for *_, p in found])
    made = [Grouping(kind=kind, label=label, p=float(p)) for (kind, label, _), p in zip(found, held, strict=True)]
    return sorted(made, key=lambda one: one.p)


def pooled(units: NDArray[Any], label: NDArray[Any]) -> NDArray[Any]:
    """The labels, those of fewer than LEAST_CELL nests put together; dropped into the rest where even that is less."""
    nests = pd.DataFrame({"unit": units, "label": label}).groupby("label")["unit"].nunique()
    small = nests[nests < LEAST_CELL]
    found = np.where(np.isin(label, small.index.to_numpy(str)), OTHERS, label)
    if 0 < int(small.sum()) < LEAST_CELL and len(small) < len(nests):
        found = np.where(found == OTHERS, str(nests.idxmax()), found)
    return found


def scores(law: DelayLaw) -> Floats:
    """Of each row the middle of the law's distribution function over its interval (Peto and Peto 1972)."""
    low = law.cdf(np.nextafter(law.rows.lower, math.inf))
    return np.asarray((low + law.cdf(law.rows.upper)) / 2.0)


def differ(score: Floats, units: NDArray[Any], label: NDArray[Any]) -> float:
    """p of equal delays in all groups of `label`.

    The scores of one nest's rows are averaged, and nests are taken as independent. Chi-square with groups - 1 degrees.
    """
    table = pd.DataFrame({"unit": units, "label": label, "score": score})
    each = table.groupby(["unit", "label"])["score"].mean().reset_index()
    spread = float(each["score"].var(ddof=1))
    groups = each.groupby("label")["score"].agg(["mean", "size"])
    if len(groups) < 2 or not spread > 0:
        return 1.0
    apart = float((groups["size"] * (groups["mean"] - each["score"].mean()) ** 2).sum()) / spread
    return float(special.chdtrc(len(groups) - 1, apart))


def by_pairs(score: Floats, units: NDArray[Any], label: NDArray[Any]) -> float:
    """The same of what sees one and the same nest, by the differences of each nest's scores (Hotelling 1931): two
    vantages share the nest's fate. NaN where fewer than LEAST_PAIRS nests were seen from all."""
    table = pd.DataFrame({"unit": units, "label": label, "score": score})
    wide = table.pivot_table(index="unit", columns="label", values="score", aggfunc="mean").dropna()
    if len(wide) < LEAST_PAIRS or wide.shape[1] < 2:
        return math.nan
    apart = wide.to_numpy()[:, 1:] - wide.to_numpy()[:, :1]
    count, groups = apart.shape
    if count <= groups + 1:
        return math.nan
    middle, spread = apart.mean(axis=0), np.atleast_2d(np.cov(apart.T))
    if np.linalg.matrix_rank(spread) != groups:
        return 1.0 if not np.abs(middle).max() > 0 else math.nan
    t2 = count * float(middle @ np.linalg.solve(spread, middle))
    return float(special.fdtrc(groups, count - groups, t2 * (count - groups) / (groups * (count - 1))))
