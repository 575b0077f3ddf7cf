"""Whether delays kept one law while they were observed, and if not, when it changed.

Each nest has a score, the middle of the pooled law's distribution function over its interval (Peto and Peto 1972),
whose mean is one half under one law however it was watched. Scores are centred for each group of nests that are watched
alike (a host and vantage), so that other hosts or places at another time are no change, and averaged over the rows of a
nest. In order of time, a stretch of m of the n nests takes

    Z = S^2 n / (m (n - m)),    S: the sum of its scores

off the sum of squares, which is large where nests had other delays within than without it: since a release, or for as
long as an outage took (Olshen et al. 2004). The greatest Z is set beside those of the same nests with their order lost:
successive ones are kept together, n^(1/3) at a time, since they share their fate (Künsch 1989). What lies between the
changes so found is searched again; so of nests of one law at most LEVEL are said to have changed. A date is known to
where the Gaussian likelihood ratio, n log(RSS(k) / RSS(best)), of the nests up to the changes beside it is at most
7.35, its 95 % point (Hinkley 1970; Eo and Morley 2015).

It finds that delays changed, never why: who polls more seldom widens intervals, but does not move scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nestobs.estimate.npmle import Number, npmle
from nestobs.observation.arrays import Floats

LEVEL: Final = 0.01
"""The share of stationary sets that are said to have changed, at most."""

LEAST: Final = 10
"""So many nests are at least on each side: fewer have no median to speak of."""

ORDERS: Final = 1_999
"""Random orders that the statistic is set beside; p is at least one of so many and one."""

_BINS: Final = 120
"""To find changes, not to date them, successive nests are taken together until there are no more than this."""

_RATIO: Final = 7.35


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of the law. at: when the first nest after it was made; [first, last]: where that lies, 95 %, instants.
    p: that nests of one law would look so. before, after: the median delay on each side, up to the next change, with
    its interval that assumes no law; n_before, n_after: nests. wider: how many times as wide intervals are after it."""

    at: pd.Timestamp
    first: pd.Timestamp
    last: pd.Timestamp
    p: float
    n_before: int
    n_after: int
    before: Number
    after: Number
    wider: float


def changes(delays: pd.DataFrame, *, seed: int = 0) -> list[Change]:
    """The changes of the law of `delays` (as `timeline.delays.joinable` gives them), by time; none of fewer nests than
    two times LEAST. The same delays and seed give the same."""
    if delays["unit"].nunique() < 2 * LEAST:
        return []
    nests = _scored(delays)
    score = nests["score"].to_numpy(np.float64)
    dated = _kept(score, sorted(_edges(score, 0, len(score), np.random.default_rng(seed))))
    edges = [0, *(at for at, *_ in dated), len(score)]
    place, made = nests.index.get_indexer(pd.Index(delays["unit"])), nests["origin_at"]
    parts = [delays[(place >= begin) & (place < end)] for begin, end in pairwise(edges)]
    return [
        Change(
            at=made.iloc[at],
            first=made.iloc[first - 1],
            last=made.iloc[last],
            p=p,
            n_before=at - begin,
            n_after=end - at,
            before=_median(before),
            after=_median(after),
            wider=_width(after) / _width(before),
        )
        for (at, first, last, p), begin, end, before, after in zip(
            dated, edges, edges[2:], parts, parts[1:], strict=False
        )
    ]


def _scored(delays: pd.DataFrame) -> pd.DataFrame:
    """Per nest, by time: origin_at and score, centred for each host and vantage. Index: the unit."""
    law = npmle(delays["lower_s"].to_numpy(), delays["upper_s"].to_numpy())
    low = law.cdf(np.nextafter(law.rows.lower, np.inf))
    rows = delays[["unit", "origin_at", "host", "vantage"]].assign(score=(low + law.cdf(law.rows.upper)) / 2.0)
    rows["score"] -= rows.groupby(["host", "vantage"])["score"].transform("mean")
    return rows.groupby("unit").agg({"origin_at": "min", "score": "mean"}).sort_values("origin_at", kind="stable")


def _edges(score: Floats, begin: int, end: int, rng: np.random.Generator) -> Iterator[tuple[int, float]]:
    """About where the law changes among score[begin:end], and the p of that."""
    size = -(-(end - begin) // _BINS)
    bins = np.add.reduceat(score[begin:end], np.arange(0, end - begin, size)) / size
    least = max(1, -(-LEAST // size))
    if len(bins) < 2 * least or not np.ptp(bins) > 0.0:
        return
    block = max(1, round((end - begin) ** (1 / 3) / size))
    greatest, stretch = _greatest(bins[None, :], least)
    others, _ = _greatest(bins[_orders(len(bins), block, rng)], least)
    p = (1 + int((others >= greatest[0] * (1.0 - 1e-9)).sum())) / (1 + ORDERS)
    if p > LEVEL:
        return
    places = [begin + size * place for place in stretch if 0 < place < len(bins)]
    yield from ((place, p) for place in places)
    for first, last in pairwise([begin, *places, end]):
        yield from _edges(score, first, last, rng)


def _greatest(score: Floats, least: int) -> tuple[Floats, tuple[int, int]]:
    """Per row the greatest Z of a stretch that is, as what it leaves on each side, at least so long; and the stretch of
    the first row."""
    rows, n = score.shape
    sums = np.zeros((rows, n + 1))
    np.cumsum(score - score.mean(axis=1, keepdims=True), axis=1, out=sums[:, 1:])
    best, stretch = np.full(rows, -1.0), (0, n)
    for m in range(least, n - least + 1):
        begins = np.array([0, *range(least, n - m - least + 1), n - m])
        z = (sums[:, begins + m] - sums[:, begins]) ** 2 * (n / (m * (n - m)))
        top = z.max(axis=1)
        if top[0] > best[0]:
            at = int(begins[np.argmax(z[0])])
            stretch = (at, at + m)
        np.maximum(best, top, out=best)
    return best, stretch


def _kept(score: Floats, edges: list[tuple[int, float]]) -> list[tuple[int, int, int, float]]:
    """Where the law changes, the first and last place of that, and p: of these edges those that tell more than chance
    between the changes beside them, 4 log n; a stretch has two edges, of which one may be none (3 log n for many nests:
    Zhang and Siegmund 2007; a dozen on one side are alike by chance more often)."""
    while edges:
        ends = [0, *(place for place, _ in edges), len(score)]
        dated = [_dated(score[begin:end]) for begin, end in zip(ends, ends[2:], strict=False)]
        weakest = min(range(len(edges)), key=lambda number: dated[number][3])
        if dated[weakest][3] >= 4.0 * math.log(len(score)):
            return [
                (begin + at, begin + first, begin + last, p)
                for begin, (at, first, last, _), (_, p) in zip(ends, dated, edges, strict=False)
            ]
        del edges[weakest]
    return []


def _dated(score: Floats) -> tuple[int, int, int, float]:
    """Where these scores change once: the likeliest place, the first and last that are as good as likely, and twice how
    much likelier that is than no change."""
    n = len(score)
    least = min(LEAST, n // 3)
    k = np.arange(least, n - least + 1)
    total = float(((score - score.mean()) ** 2).sum())
    rest = np.maximum(total - np.cumsum(score - score.mean())[k - 1] ** 2 * n / (k * (n - k)), 1e-12 * total)
    near = k[n * np.log(rest / rest.min()) <= _RATIO]
    return int(k[np.argmin(rest)]), int(near[0]), int(near[-1]), n * math.log(total / float(rest.min()))


def _orders(n: int, block: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """ORDERS times the places from 0 to n, blocks of successive ones shuffled, the first of any length up to that."""
    starts = (np.arange(n) + rng.integers(block)) // block
    return np.argsort(rng.random((ORDERS, starts[-1] + 1))[:, starts], axis=1, kind="stable")


def _median(rows: pd.DataFrame) -> Number:
    law = npmle(rows["lower_s"].to_numpy(), rows["upper_s"].to_numpy())
    return Number(float(law.quantile(0.5)), *map(float, law.quantile_bounds(0.5)))


def _width(rows: pd.DataFrame) -> float:
    """The median width of the intervals that end."""
    width = (rows["upper_s"] - rows["lower_s"]).to_numpy(np.float64)
    return float(np.median(width[np.isfinite(width)])) if np.isfinite(width).any() else math.nan
