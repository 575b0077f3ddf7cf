"""One delay law from interval-censored delays, with what is known of its error.

A nest was absent at a proven instant and visible at a later one, so its delay is in (lower, upper]; never seen is
(lower, inf], visible at the first look is (-inf or 0, upper]. All rows stay in every estimate. The law is the
nonparametric maximum likelihood estimate (turnbull.py); its mass beyond the last finite end never came by the end of
watching, and "never" means that and no more.

What the likelihood leaves open stays visible: between the ends of a cell the distribution function is drawn as a
straight line, but only its values at the ends are estimated. Beside it stands a bound that assumes nothing: at t, the
rows certainly visible and the rows possibly visible, each with its Clopper-Pearson end. Error otherwise comes from a
bootstrap of blocks, since nests of one day and host share their fate.

Decisions use a smoothed law: the raw steps would be exploited by any optimiser. Smoothing is a normal kernel on log
time, its width chosen by the likelihood of rows left out.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nestobs.errors import UsageError
from nestobs.estimate.cells import Cells, Ends, cells, ends_of
from nestobs.estimate.law import Law
from nestobs.estimate.proportion import LEVEL, exact, jeffreys
from nestobs.estimate.turnbull import GAP, maximise
from nestobs.observation.arrays import Floats, Ints
from nestobs.observation.text import percent

_INF: Final = math.inf
DRAWS: Final = 500
DRAW_GAP: Final = 1e-4
"""Of a resampled fit: far below what resampling moves."""
FITS_A_TASK: Final = 8
"""For an executor: more would keep whom presses Ctrl-C waiting for the last, fewer would send the rows too often."""
FLOOR_S: Final = 0.01
"""On log time, anything sooner counts as so soon: no clock here resolves less."""

LOG_STEP: Final = 0.01
WIDTHS: Final = tuple(float(width) for width in np.geomspace(0.02, 0.6, 14))
"""Kernel widths tried, in log seconds."""

FOLDS: Final = 5


class DataError(UsageError):
    """Rows that are no delays: the sentence names the first of them and what to do."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Interval-censored rows: (lower, upper] in seconds, exact where equal; weight above 0. All of shape (n,)."""

    lower: Floats
    upper: Floats
    weight: Floats

    @property
    def below(self) -> Floats:
        """What each time is above: the lower end, or just below an exact one."""
        return np.where(self.lower == self.upper, np.nextafter(self.lower, -_INF), self.lower)

    @property
    def total(self) -> float:
        """Sum of weights."""
        return float(self.weight.sum())

    @property
    def effective(self) -> float:
        """Rows of equal weight that would say as much (Kish 1965)."""
        return self.total**2 / float((self.weight**2).sum())

    def take(self, keeps: NDArray[Any]) -> Rows:
        """Some of the rows, by mask or index."""
        return Rows(self.lower[keeps], self.upper[keeps], self.weight[keeps])


def rows(lower: ArrayLike, upper: ArrayLike, weight: ArrayLike | None = None) -> Rows:
    """Checked rows. Raises DataError that names the first bad row, counted from 0."""
    low, high = _column("lower", lower), _column("upper", upper)
    mass = np.ones(len(low)) if weight is None else _column("weight", weight)
    if not len(low) == len(high) == len(mass):
        raise DataError(f"lower, upper and weight have {len(low)}, {len(high)} and {len(mass)} rows: give one of each")
    if not len(low):
        raise DataError("there are no rows: at least one observed delay is needed")
    unknown = np.isnan(low) | np.isnan(high) | np.isnan(mass)
    _refuse(unknown, "holds NaN: leave it out, or say what bounds it", low, high)
    _refuse(high < low, "ends before it begins: swap its ends, or look for a clock that stepped", low, high)
    _refuse((low == _INF) | (high == -_INF), "lies at infinity: the lower end is finite or -inf", low, high)
    _refuse((mass < 0) | ~np.isfinite(mass), "has a weight that is negative or infinite", low, high)
    if not mass.any():
        raise DataError("all weights are 0: at least one row must count")
    return Rows(low, high, mass).take(mass > 0) if (mass == 0).any() else Rows(low, high, mass)


def _column(name: str, values: ArrayLike) -> Floats:
    try:
        if np.asarray(values).dtype.kind in "mM":
            raise TypeError("pandas would turn it into nanoseconds")
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} holds something that is no number of seconds") from None
    if found.ndim != 1:
        raise DataError(f"{name} is one column of numbers, not of {found.ndim} dimensions")
    return found


def _refuse(bad: NDArray[np.bool_], why: str, low: Floats, high: Floats) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"row {row}, ({low[row]:g}, {high[row]:g}], {why}")


@dataclass(frozen=True, slots=True)
class Number:
    """An estimate with its interval. lower, upper: ends of the central 95 %, either may be infinite.

    sd: between joiners; NaN where that has no meaning. It tells how far a new sample may stray.
    """

    value: float
    lower: float
    upper: float
    sd: float = math.nan

    @classmethod
    def around(cls, value: float, lower: ArrayLike, upper: ArrayLike, sd: float = math.nan) -> Number:
        """With an interval from elsewhere, as far as the value where it leaves that out."""
        return cls(value, float(np.minimum(lower, value)), float(np.maximum(upper, value)), sd)


@dataclass(frozen=True, repr=False)
class DelayLaw:
    """A delay law in cells: mass[j] lies in (edges[j, 0], edges[j, 1]], exactly at it where the two are equal.

    edges: shape (m, 2), seconds, ascending and not overlapping; the first lower end may be -inf, the last upper end
    inf. mass: shape (m,), above 0, sums to 1. n: rows; censored: rows never seen visible. log_likelihood, gap: of the
    fit, the gap being a proven bound on what the likelihood lacks; NaN for a smoothed law. rows: what it rests on.
    width: of the smoothing kernel, log seconds; 0 for the estimate itself.
    """

    edges: Floats
    mass: Floats
    log_likelihood: float
    gap: float
    rows: Rows
    width: float = 0.0

    def __repr__(self) -> str:
        """Of how many rows, when half and nine in ten are there, and how many never came."""
        half, most = (f"{age:.3g} s" if np.isfinite(age) else "never" for age in self.quantile([0.5, 0.9]))
        return (
            f"<DelayLaw of {self.n} rows: half by {half}, 90 % by {most}, {percent(self.never)} not within the watch>"
        )

    def _repr_html_(self) -> str:
        shares = (0.5, 0.8, 0.9, 0.95, 0.99)
        ages = (f"{age:.3g}" if np.isfinite(age) else "never" for age in self.quantile(shares))
        rows = "".join(
            f"<tr><td>{percent(share)}</td><td>{age}</td></tr>" for share, age in zip(shares, ages, strict=True)
        )
        return f"<table><tr><th>share there</th><th>by, s</th></tr>{rows}</table>"

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.rows.lower)

    @property
    def censored(self) -> int:
        """Rows that were never visible by the end of watching."""
        return int(np.isposinf(self.rows.upper).sum())

    @property
    def never(self) -> float:
        """Mass beyond the last finite end: what did not come by the end of watching."""
        return float(self.mass[np.isposinf(self.edges[:, 1])].sum())

    @cached_property
    def _knots(self) -> tuple[Floats, Floats]:
        """Ages, ascending, and the distribution function there: straight lines between them."""
        finite = np.isfinite(self.edges[:, 1])
        low, high = self.edges[finite].T
        after = np.minimum(np.cumsum(self.mass[finite]), 1.0)
        low = np.where((low == high) | np.isneginf(low), np.nextafter(high, -_INF), low)
        ages = np.column_stack([low, high]).ravel()
        return ages, np.column_stack([np.concatenate([[0.0], after])[:-1], after]).ravel()

    def cdf(self, t: ArrayLike) -> Floats:
        """P(delay <= t) for each t, seconds: exact at the ends of cells, a straight line inside them."""
        at = np.asarray(t, dtype=np.float64)
        ages, share = self._knots
        if not len(ages):
            return np.where(at == _INF, 1.0, 0.0)
        found = np.interp(at, ages, share, left=0.0)
        return np.where(at == _INF, 1.0, found)

    def quantile(self, p: ArrayLike) -> Floats:
        """The least age, seconds, at which the drawn distribution function reaches p; inf above 1 - never.

        Raises DataError where p is no share from 0 to 1.
        """
        wanted = np.asarray(p, dtype=np.float64)
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise DataError(f"p is a share from 0 to 1, as 0.5, not {wanted}")
        ages, share = self._knots
        if not len(ages):
            return np.full(wanted.shape, _INF)
        index = np.clip(np.searchsorted(share, wanted - 1e-12, side="left"), 1, len(ages) - 1)
        low, high = share[index - 1], share[index]
        part = np.clip((wanted - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
        before, age = ages[index - 1], ages[index]
        found = np.where(np.nextafter(before, _INF) == age, age, before + part * (age - before))  # an exact time whole
        return np.where(wanted > share[-1] + 1e-9, _INF, found)

    def certain(self, t: ArrayLike) -> tuple[Floats, Floats]:
        """Shares of rows surely visible by t (upper <= t), and possibly (lower < t, or an exact row at t)."""
        at = np.asarray(t, dtype=np.float64)
        data = self.rows
        sure = _share(data.upper, data.weight, at, "right")
        return sure, _share(data.below, data.weight, at, "left")

    def ambiguous(self, t: ArrayLike) -> Floats:
        """Share of rows that straddle t: neither surely visible by t nor surely absent."""
        sure, possible = self.certain(t)
        return possible - sure

    def bounds(self, t: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Bounds of P(delay <= t) that assume no law: the lower Clopper-Pearson end of the rows surely visible by t,
        the upper end of those possibly visible, each at (1 - level) / 2. Weighted rows count by Kish's effective n."""
        sure, possible = self.certain(t)
        n = self.rows.effective
        return exact(sure, n, _level(level))[0], exact(possible, n, level)[1]

    def quantile_bounds(self, p: float, level: float = LEVEL) -> tuple[float, float]:
        """The ages from and at which the bounds of `bounds` reach p: an interval of the quantile that assumes no law.

        Either end may be infinite: so few rows say nothing there.
        """
        ends = np.unique(np.concatenate([[-_INF], self.rows.lower, self.rows.upper]))
        (_, possible), (sure, _) = self.certain(np.nextafter(ends, _INF)), self.certain(ends)
        n, sided = self.rows.effective, _level(level)
        # Both rise with age. A row is possibly visible just after its lower end.
        first = bisect_left(possible, p, key=lambda part: float(exact(part, n, sided)[1]))
        last = bisect_left(sure, p, key=lambda part: float(exact(part, n, sided)[0]))
        return float(ends[first]), float(ends[last]) if last < len(ends) else _INF

    def bootstrap(
        self,
        blocks: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
        *,
        draws: int = DRAWS,
        executor: Executor | None = None,
    ) -> Resampled:
        """Laws of `draws` samples of whole blocks, drawn with replacement, each fitted from this one.

        blocks: a label for each row (shape (n,)): rows of one label are drawn together; None: each row is a block.
        A smoothed law gives smoothed laws of the same width. executor: where the fits run; None: here.
        """
        if draws < 1:
            raise DataError(f"draws is at least 1, not {draws}")
        labels = np.arange(self.n) if blocks is None else np.asarray(blocks)
        if labels.shape != (self.n,):
            raise DataError(f"blocks has {labels.size} labels for {self.n} rows: give one each")
        counts = block_counts(labels, draws, np.random.default_rng(0) if rng is None else rng)
        ends = ends_of(self.rows.lower, self.rows.upper)
        parts = np.array_split(counts, max(1, draws // FITS_A_TASK))
        run = map if executor is None else executor.map
        laws = run(_refit, [self] * len(parts), [ends] * len(parts), parts)
        return Resampled(self, tuple(law for part in laws for law in part), counts, len(np.unique(labels)))

    def smooth(self, width: float | None = None, blocks: ArrayLike | None = None) -> DelayLaw:
        """The law smoothed by a normal kernel on log time, in cells of 1 % each; a smoothed law is returned as it is.

        width: of the kernel, in log seconds; None: that of `WIDTHS` under which rows left out are likeliest, a fifth
        of the blocks at a time. What never came stays apart. Raises DataError for a width that is not above 0.
        """
        if width is not None and not 0.0 < width < _INF:
            raise DataError(f"width is a number of log seconds above 0, as 0.1, not {width:g}")
        if self.width:
            return self
        chosen = best_width(self, blocks) if width is None else width
        return smoothed(self, chosen)


def _level(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise DataError(f"level is a share between 0 and 1, as 0.95, not {level:g}")
    return level


def _share(values: Floats, weight: Floats, at: Floats, side: Literal["left", "right"]) -> Floats:
    """Share of weight with values < at ("left"), or <= at ("right")."""
    order = np.argsort(values, kind="stable")
    heap = np.concatenate([[0.0], np.cumsum(weight[order])])
    return np.asarray(heap[np.searchsorted(values[order], at, side=side)] / heap[-1])


def npmle(lower: ArrayLike, upper: ArrayLike, weight: ArrayLike | None = None) -> DelayLaw:
    """The law of greatest likelihood of delays known to be in (lower, upper], seconds (Turnbull 1976).

    lower, upper: shape (n,); lower = upper is an exact delay, lower = -inf or 0 left-censored, upper = inf
    right-censored. weight: how often each row counts, above 0 (0: left out). Equal rows are grouped. The fit ends when
    its log-likelihood is proven to be within 1e-6 of the greatest (or when rounding allows no more): see `.gap`.
    Raises DataError for no rows, NaN, an upper end below its lower, and names the row.
    """
    return fit(rows(lower, upper, weight))


def fit(data: Rows) -> DelayLaw:
    """`npmle` of checked rows."""
    return _law(data, cells(ends_of(data.lower, data.upper)))


def _law(data: Rows, found: Cells, start: Floats | None = None, gap: float = GAP) -> DelayLaw:
    best = maximise(found, data.weight, start, gap=gap)
    has = best.mass > 0
    return DelayLaw(found.edges[has], best.mass[has], best.log_likelihood, best.gap, data)


# Bootstrap


def block_counts(labels: NDArray[Any], draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each row is drawn: shape (draws, n), whole blocks with replacement."""
    names, block = np.unique(labels, return_inverse=True)
    picked = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=draws)
    return np.asarray(picked[:, block], dtype=np.int64)


@dataclass(frozen=True)
class Resampled:
    """A law and its laws under resampling. counts: shape (draws, n), how often each row was drawn; the rows that a
    resampled law names are those of the first. blocks: how many blocks there were to draw."""

    law: DelayLaw
    laws: tuple[DelayLaw, ...]
    counts: NDArray[np.int64] = field(repr=False)
    blocks: int

    def of(self, statistic: Callable[[DelayLaw], ArrayLike]) -> Floats:
        """The statistic of each resampled law: shape (draws, ...)."""
        return np.asarray([statistic(law) for law in self.laws], dtype=np.float64)

    def interval(self, statistic: Callable[[DelayLaw], ArrayLike], level: float = LEVEL) -> tuple[Floats, Floats]:
        """Percentile interval of a statistic, widened as few blocks ask for: see `percentile`."""
        return percentile(self.of(statistic), level, self.blocks)

    def cdf(self, t: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Band of P(delay <= t): percentile, and nowhere narrower than the Jeffreys interval of as many exact rows.

        Alone, the percentile band fails near 0 and 1: of 100 nests that were all seen in time it says "from 1 to 1",
        and where 92 of 100 come it covers 92 %, nearly all misses on one side. Jeffreys: Brown, Cai, DasGupta 2001.
        """
        low, high = self.interval(lambda law: law.cdf(t), level)
        lower, upper = jeffreys(self.law.cdf(t), self.law.rows.effective, _level(level))
        return np.minimum(low, lower), np.maximum(high, upper)

    def quantile(self, p: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Percentile interval of the quantiles p, seconds."""
        return self.interval(lambda law: law.quantile(p), level)


def percentile(values: Floats, level: float = LEVEL, blocks: int | None = None) -> tuple[Floats, Floats]:
    """The central `level` of the first axis, its ends at values that were drawn; infinities are values like others.

    blocks: how many were resampled. The spread of resampled means is too small by a factor of sqrt(1 - 1 / blocks), and
    a normal tail too thin for a spread that is estimated: the level is raised by both (Hesterberg 2015, "expanded").
    """
    tail = (1.0 - _level(level)) / 2.0
    if blocks is not None and blocks > 1:
        reach = math.sqrt(blocks / (blocks - 1.0)) * float(special.stdtrit(blocks - 1, 1.0 - tail))
        tail = float(special.ndtr(-reach))
    low = np.quantile(values, tail, axis=0, method="lower")
    return low, np.quantile(values, 1.0 - tail, axis=0, method="higher")


def _refit(law: DelayLaw, ends: Ends, counts: NDArray[np.int64]) -> list[DelayLaw]:
    """The law of each row of counts, fitted from `law`; smoothed alike. ends: of its rows."""
    made = []
    for count in counts:
        keeps = count > 0
        data = replace(law.rows.take(keeps), weight=law.rows.weight[keeps] * count[keeps])
        found = cells(ends.among(keeps))
        start = law.cdf(found.edges[:, 1]) - law.cdf(np.nextafter(found.edges[:, 0], -_INF))
        one = replace(_law(data, found, np.maximum(start, 0.0), DRAW_GAP), rows=law.rows)
        made.append(smoothed(one, law.width) if law.width else one)
    return made


# Smoothing


def smoothed(law: DelayLaw, width: float) -> DelayLaw:
    """`law` smoothed by a normal kernel of `width` log seconds. Cells are spread evenly on log time first."""
    finite = np.isfinite(law.edges[:, 1])
    if not finite.any():
        return replace(law, width=width)
    low, high = np.log(np.maximum(law.edges[finite], FLOOR_S)).T
    low = np.where(low < high, low, high - LOG_STEP / 10)
    low[1:] = np.maximum(low[1:], high[:-1])
    reach = 4.0 * width + LOG_STEP
    steps = np.arange(math.log(FLOOR_S), high[-1] + 2.0 * reach, LOG_STEP)
    heap = np.cumsum(law.mass[finite])
    raw = np.interp(
        steps, np.column_stack([low, high]).ravel(), np.column_stack([np.r_[0.0, heap[:-1]], heap]).ravel(), left=0.0
    )
    half = max(1, math.ceil(4.0 * width / LOG_STEP))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) * LOG_STEP / width) ** 2)
    padded = np.concatenate([np.full(half, raw[0]), raw, np.full(half, raw[-1])])
    share = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    ages = np.exp(steps)
    edges = np.column_stack([np.concatenate([[-_INF], ages[:-1]]), ages])
    mass = np.diff(share, prepend=0.0)
    mass[-1] += heap[-1] - share[-1]
    if law.never > 0:
        edges = np.vstack([edges, [ages[-1], _INF]])
        mass = np.append(mass, law.never)
    has = mass > 0
    return replace(law, edges=edges[has], mass=mass[has], log_likelihood=math.nan, gap=math.nan, width=width)


def log_likelihood(law: Law, data: Rows) -> float:
    """Of rows under a law, per unit of weight; no row is held for less likely than 1e-12.

    Of an exact row it is the log of the density, per second: the mean over 1 % of its age (FLOOR_S at least) on both
    sides.
    """
    exact = data.lower == data.upper
    middle = np.maximum(data.upper[exact], FLOOR_S)
    lower, upper, width = data.lower.copy(), data.upper.copy(), np.ones(len(exact))
    lower[exact], upper[exact] = middle * math.exp(-LOG_STEP), middle * math.exp(LOG_STEP)
    width[exact] = 2.0 * middle * math.sinh(LOG_STEP)
    p = np.maximum(np.asarray(law.cdf(upper)) - np.asarray(law.cdf(lower)), 1e-12)
    return float(data.weight @ np.log(p / width) / data.total)


def best_width(law: DelayLaw, blocks: ArrayLike | None = None) -> float:
    """The width under which rows left out are likeliest: FOLDS parts of whole blocks, each left out once."""
    parts = folds(np.arange(law.n) if blocks is None else np.asarray(blocks), FOLDS)
    if parts.max() == 0:
        return WIDTHS[len(WIDTHS) // 2]
    score = np.zeros(len(WIDTHS))
    for part in range(int(parts.max()) + 1):
        out = law.rows.take(parts == part)
        rest = fit(law.rows.take(parts != part))
        score += out.total * np.array([log_likelihood(smoothed(rest, width), out) for width in WIDTHS])
    return WIDTHS[int(np.argmax(score))]


def folds(labels: NDArray[Any], count: int) -> Ints:
    """A part from 0 for each row: blocks in their order of appearance are dealt out in turn, at most `count` parts."""
    _, first, block = np.unique(labels, return_index=True, return_inverse=True)
    turn = np.argsort(np.argsort(first))
    return np.asarray(turn[block] % min(count, len(first)))
