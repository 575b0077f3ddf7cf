"""Parametric delay laws with a share that never comes, where a smooth formula may stand for the estimate.

On log time each is a kernel K moved to mu and stretched by s, or two of them, and a share c never comes:

    P(T <= t) = (1 - c) sum over k of a_k K((ln t - mu_k) / s_k)     K normal, least extreme value (Weibull) or logistic

A row (L, R] is worth P(T <= R) - P(T <= L), an exact one the density, one never seen 1 - P(T <= L). The likelihood is
maximised from several starts by bounded quasi-Newton steps with the exact gradient, and finished by Newton's; standard
errors are those of the observed information. Ages up to FLOOR_S count as FLOOR_S, as they do for the smoothed law.

A wrong family costs more than no smoothing. So one replaces the smoothed estimate only if rows left out are likelier
under it, and if it stays inside the band that resampling gives the estimate itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.optimize import Bounds, minimize

from nestobs.estimate.npmle import (
    FLOOR_S,
    FOLDS,
    LEVEL,
    WIDTHS,
    DataError,
    DelayLaw,
    Resampled,
    Rows,
    best_width,
    fit,
    folds,
    log_likelihood,
    smoothed,
)
from nestobs.observation.arrays import Flags, Floats

Curve = Callable[[Floats], Floats]
Objective = Callable[[Floats], tuple[float, Floats]]
Name = Literal["lognormal", "weibull", "log-logistic", "two-part lognormal"]

UNITS: Final[Mapping[str, str]] = {
    "median_s": "s",
    "scale_s": "s",
    "sigma": "log s",
    "shape": "",
    "early_median_s": "s",
    "early_sigma": "log s",
    "late_median_s": "s",
    "late_sigma": "log s",
    "early_share": "share of those that come",
    "never": "share of all",
}
"""Units of the parameters."""

SMOOTHED: Final = "smoothed"
"""The kernel-smoothed estimate, as a competitor of the families."""

OUTSIDE: Final = 0.1
"""A family leaves the band when it is outside at more than so much of the mass, by cells. Bands are pointwise: a true
law is outside at 1 - level of the points on average, and neighbours are outside together."""

LEAST_WIDTH: Final = WIDTHS[0]
"""No kernel is narrower, log seconds: a law of one instant is none, and one of two kernels could chase a single row."""

_MOST_WIDTH: Final = 20.0
_LEAST_SHARE: Final = 1e-3
_NOWHERE: Final = 1e4  # stands for an infinite log age
_TINY: Final = 1e-300
_STEP: Final = 1e-4
_NEWTON: Final = 10
_INF: Final = math.inf


# Kernels


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A distribution of log time, centred, of unit stretch: its share below z and above z, its density, the slope of
    that, its quantile. last: no z beyond it makes a difference."""

    below: Curve
    above: Curve
    density: Curve
    slope: Curve
    quantile: Curve
    last: float = 700.0


def _normal(z: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi))


def _extreme(z: Floats) -> Floats:
    return np.asarray(np.exp(z - np.exp(z)))


def _logistic(z: Floats) -> Floats:
    return np.asarray(special.expit(z) * special.expit(-z))


_NORMAL: Final = _Kernel(special.ndtr, lambda z: special.ndtr(-z), _normal, lambda z: -z * _normal(z), special.ndtri)
_EXTREME: Final = _Kernel(
    lambda z: -np.expm1(-np.exp(z)),
    lambda z: np.exp(-np.exp(z)),
    _extreme,
    lambda z: -np.expm1(z) * _extreme(z),
    lambda p: np.log(-np.log1p(-p)),
    40.0,
)
_LOGISTIC: Final = _Kernel(
    special.expit,
    lambda z: special.expit(-z),
    _logistic,
    lambda z: -np.tanh(z / 2.0) * _logistic(z),
    special.logit,
)

_FAMILIES: Final[Mapping[str, tuple[_Kernel, tuple[str, ...]]]] = {
    "lognormal": (_NORMAL, ("median_s", "sigma")),
    "weibull": (_EXTREME, ("scale_s", "shape")),
    "log-logistic": (_LOGISTIC, ("median_s", "shape")),
    "two-part lognormal": (
        _NORMAL,
        ("early_median_s", "early_sigma", "late_median_s", "late_sigma", "early_share"),
    ),
}
NAMES: Final = tuple(_FAMILIES)
"""The families, each with a share that never comes."""


# The law


@dataclass(frozen=True)
class Family:
    """A fitted parametric law of the delays of all nests; usable wherever a law.Law is.

    parameters: by name; UNITS has their units. never: c. errors: the standard error of each parameter and of "never";
    NaN where the likelihood has no curvature or its maximum is at a bound (c = 0). log_likelihood: of the rows it was
    fitted to, exact rows by their density per second. n: rows.
    """

    name: str
    parameters: Mapping[str, float]
    never: float
    errors: Mapping[str, float]
    log_likelihood: float
    n: int

    def cdf(self, t: ArrayLike) -> Floats:
        """P(delay <= t) for each t, seconds, of all nests: tends to 1 - never, and is 1 at inf as a DelayLaw's is."""
        at = np.asarray(t, dtype=np.float64)
        found = (1.0 - self.never) * self._share(np.log(np.maximum(at, _TINY)))
        return np.where(at <= 0, 0.0, np.where(at == _INF, 1.0, found))

    def quantile(self, p: ArrayLike) -> Floats:
        """The age, seconds, at which cdf reaches p; inf from 1 - never on. Raises DataError where p is no share."""
        wanted = np.asarray(p, dtype=np.float64)
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise DataError(f"p is a share from 0 to 1, as 0.5, not {wanted}")
        share = np.minimum(wanted / (1.0 - self.never), 1.0)
        inner = np.clip(share, _TINY, 1.0 - 1e-16)
        ends = np.array([mu + s * _FAMILIES[self.name][0].quantile(inner) for _, mu, s in self._parts])
        low, high = ends.min(axis=0), ends.max(axis=0)
        for _ in range(64):
            middle = (low + high) / 2.0
            short = self._share(middle) < inner
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        return np.where(share <= 0, 0.0, np.where(share >= 1.0, _INF, np.exp(np.minimum(high, 700.0))))

    @property
    def _parts(self) -> list[tuple[float, float, float]]:
        """Share, mu and stretch of each kernel."""
        _, names = _FAMILIES[self.name]
        values = [self.parameters[name] for name in names]
        pairs = [
            (math.log(middle), 1.0 / width if name == "shape" else width)
            for middle, width, name in zip(values[0:4:2], values[1:4:2], names[1:4:2], strict=True)
        ]
        shares = [values[4], 1.0 - values[4]] if len(pairs) > 1 else [1.0]
        return [(share, *pair) for share, pair in zip(shares, pairs, strict=True)]

    def _share(self, log_age: Floats) -> Floats:
        """G, of those that come, at ages on log time."""
        kernel = _FAMILIES[self.name][0]
        parts = [a * kernel.below(np.clip((log_age - mu) / s, -700.0, kernel.last)) for a, mu, s in self._parts]
        return np.asarray(sum(parts))


# The likelihood


@dataclass(frozen=True, slots=True)
class _Data:
    """Rows on log time, equal ones as one. low, high: -_NOWHERE and _NOWHERE where infinite; equal when exact."""

    low: Floats
    high: Floats
    weight: Floats

    @classmethod
    def of(cls, data: Rows) -> _Data:
        exact = data.lower == data.upper
        high = np.log(np.maximum(np.minimum(data.upper, math.exp(700.0)), FLOOR_S))
        high = np.where(data.upper == _INF, _NOWHERE, high)
        low = np.where(data.lower > FLOOR_S, np.log(np.maximum(data.lower, FLOOR_S)), -_NOWHERE)
        ends, group = np.unique(np.column_stack([np.where(exact, high, low), high]), axis=0, return_inverse=True)
        weight = np.bincount(group.ravel(), weights=data.weight)
        return cls(ends[:, 0], ends[:, 1], weight.astype(np.float64))

    @property
    def unseen(self) -> Flags:
        """Never visible by the end of watching."""
        return np.asarray(self.high == _NOWHERE)

    @property
    def exact(self) -> Flags:
        return np.asarray(self.low == self.high)


def _worth(kernel: _Kernel, data: _Data, mu: float, log_s: float) -> tuple[Floats, Floats, Floats]:
    """Each row's mass (density of log time, if exact) under one kernel, and its derivatives by mu and by ln s."""
    s = math.exp(log_s)
    low, high = (np.clip((ends - mu) / s, -700.0, kernel.last) for ends in (data.low, data.high))
    begin, end = kernel.density(low), kernel.density(high)
    mass = np.where(low > 0, kernel.above(low) - kernel.above(high), kernel.below(high) - kernel.below(low))
    by_mu, by_s = (begin - end) / s, low * begin - high * end
    if data.exact.any():
        slope = kernel.slope(high)
        mass = np.where(data.exact, end / s, mass)
        by_mu = np.where(data.exact, -slope / s**2, by_mu)
        by_s = np.where(data.exact, -(end + high * slope) / s, by_s)
    return mass, by_mu, by_s


def _objective(kernel: _Kernel, data: _Data) -> Objective:
    """The mean log-likelihood, exact rows by the density of log time, and its gradient.

    Of c, mu and ln s of a kernel; for two kernels, mu and ln s of the other and the share of the first follow.
    """
    weight = data.weight / data.weight.sum()
    unseen = data.unseen.astype(np.float64)

    def value(theta: Floats) -> tuple[float, Floats]:
        never = float(theta[0])
        worth = [_worth(kernel, data, theta[i], theta[i + 1]) for i in range(1, min(len(theta), 5) - 1, 2)]
        shares = [1.0] if len(worth) == 1 else [theta[5], 1.0 - theta[5]]
        inner = sum((a * one[0] for a, one in zip(shares, worth, strict=True)), np.zeros(len(unseen)))
        p = np.maximum(never * unseen + (1.0 - never) * inner, _TINY)
        slopes = [unseen - inner]
        for a, one in zip(shares, worth, strict=True):
            slopes += [(1.0 - never) * a * one[1], (1.0 - never) * a * one[2]]
        if len(worth) > 1:
            slopes.append((1.0 - never) * (worth[0][0] - worth[1][0]))
        return float(weight @ np.log(p)), np.array([weight @ (slope / p) for slope in slopes])

    return value


# The maximum


def fit_family(rows: Rows, name: str) -> Family:
    """The member of a family of NAMES, with its never-share, of greatest likelihood given the rows.

    Raises DataError for another name, and where no row was ever seen visible: nothing tells of the delay then.
    """
    return _fit(rows, name, None)


def _fit(rows: Rows, name: str, start: Family | None) -> Family:
    """`fit_family`, from `start` alone where there is one."""
    if name not in _FAMILIES:
        raise DataError(f"a family is one of {', '.join(NAMES)}, not {name!r}")
    if not np.isfinite(rows.upper).any():
        raise DataError(f"no row was ever visible: a {name} law needs delays that ended")
    kernel, names = _FAMILIES[name]
    data = _Data.of(rows)
    value = _objective(kernel, data)
    bounds = _bounds(data, len(names) + 1)
    starts = _starts(data, len(names)) if start is None else [_vector(start)]
    theta = max((_climbed(value, one, bounds) for one in starts), key=lambda found: value(found)[0])
    curve, free = _information(value, theta, bounds)
    offset = float(data.weight[data.exact] @ data.high[data.exact])
    total = float(data.weight.sum())
    error = _errors(curve * total, free)
    return _family(name, theta, error, total * value(theta)[0] - offset, len(rows.lower))


def _bounds(data: _Data, size: int) -> Floats:
    """Least and greatest value of each of `size` parameters, shape (size, 2).

    No kernel's middle lies beyond the last age at which a nest came: what would lie there never came while watched.
    """
    last = float(data.high[~data.unseen].max())
    middle, width = (math.log(FLOOR_S), last), (math.log(LEAST_WIDTH), math.log(_MOST_WIDTH))
    each = [(0.0, 1.0 - 1e-6), middle, width, middle, width, (_LEAST_SHARE, 1.0 - _LEAST_SHARE)]
    return np.array(each[:size])


def _starts(data: _Data, size: int) -> list[Floats]:
    """Parameters to begin from: moments of the middles of seen rows, for two kernels those of both sides of a cut."""
    seen = ~data.unseen
    high, weight = data.high[seen], data.weight[seen]
    middle = (np.maximum(data.low[seen], high - 2.0) + high) / 2.0  # within a factor e of the upper end
    unseen = 1.0 - float(weight.sum() / data.weight.sum())
    one = _moments(middle, weight)
    if size == 2:
        return [np.array([share * unseen, *one]) for share in (0.95, 0.3)]
    found = [np.array([0.95 * unseen, one[0] - 0.3, one[1], one[0] + 0.3, one[1], 0.5])]
    order = np.argsort(middle, kind="stable")
    heap = np.cumsum(weight[order]) / weight.sum()
    for cut in (0.25, 0.5, 0.75):
        early = np.zeros(len(order), dtype=np.bool_)
        early[order[: max(1, int(np.searchsorted(heap, cut)))]] = True
        if not early.all():
            sides = [_moments(middle[part], weight[part]) for part in (early, ~early)]
            found.append(np.array([0.95 * unseen, *sides[0], *sides[1], cut]))
    return found


def _moments(values: Floats, weight: Floats) -> tuple[float, float]:
    """Mean, and log of the standard deviation (0.1 at least)."""
    mean = float(np.average(values, weights=weight))
    return mean, math.log(max(0.1, math.sqrt(float(np.average((values - mean) ** 2, weights=weight)))))


def _climbed(value: Objective, start: Floats, bounds: Floats) -> Floats:
    """The maximum above `start`: by quasi-Newton steps, then by Newton's until the gradient is lost in rounding."""

    def down(theta: Floats) -> tuple[float, Floats]:
        height, slope = value(theta)
        return -height, -slope

    begin = np.clip(start, bounds[:, 0], bounds[:, 1])
    limits = Bounds(bounds[:, 0], bounds[:, 1])
    found = minimize(down, begin, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 500, "ftol": 1e-13})
    theta = np.asarray(found.x, dtype=np.float64)
    for _ in range(_NEWTON):
        height, slope = value(theta)
        curve, free = _information(value, theta, bounds)
        if not free.any() or not _curved(curve):
            break
        step = np.zeros(len(theta))
        step[free] = np.linalg.solve(curve, slope[free])
        tried = np.clip(theta + step, bounds[:, 0], bounds[:, 1])
        if value(tried)[0] <= height:
            break
        theta = tried
    return theta


def _information(value: Objective, theta: Floats, bounds: Floats) -> tuple[Floats, Flags]:
    """Curvature of minus the objective among the parameters that are not at a bound, and which they are.

    By central differences of the exact gradient.
    """
    room = np.minimum(theta - bounds[:, 0], bounds[:, 1] - theta)
    free = room > 1e-7
    places = np.flatnonzero(free)
    curve = np.empty((len(places), len(places)))
    for row, place in enumerate(places):
        step = np.zeros(len(theta))
        step[place] = min(_STEP, room[place] / 2.0)
        apart = value(theta - step)[1] - value(theta + step)[1]
        curve[row] = apart[places] / (2.0 * step[place])
    return (curve + curve.T) / 2.0, free


def _curved(curve: Floats) -> bool:
    """Whether it is positive definite beyond rounding."""
    scale = np.sqrt(np.abs(curve.diagonal()))
    if not (scale > 0).all():
        return False
    return bool(np.linalg.eigvalsh(curve / np.outer(scale, scale)).min() > 1e-9)


def _errors(curve: Floats, free: Flags) -> Floats:
    """Standard errors of the parameters; NaN at a bound, and all NaN where the maximum is flat."""
    found = np.full(len(free), math.nan)
    if free.any() and _curved(curve):
        found[free] = np.sqrt(np.linalg.inv(curve).diagonal())
    return found


def _family(name: str, theta: Floats, error: Floats, height: float, n: int) -> Family:
    """From parameters on log time to those that have a name, the early kernel first."""
    names = _FAMILIES[name][1]
    if len(names) > 2 and theta[1] > theta[3]:
        turned = np.array([0, 3, 4, 1, 2, 5])
        theta, error = theta[turned], error[turned]
        theta[5] = 1.0 - theta[5]
    values, errors = {}, {"never": float(error[0])}
    for key, at, by in zip(names, theta[1:].tolist(), error[1:].tolist(), strict=True):
        values[key] = at if key == "early_share" else math.exp(-at if key == "shape" else at)
        errors[key] = by if key == "early_share" else values[key] * by
    return Family(name, values, float(theta[0]), errors, height, n)


def _vector(law: Family) -> Floats:
    """The parameters on log time: the inverse of `_family`."""
    parts = law._parts
    theta = [law.never, *(number for _, mu, s in parts for number in (mu, math.log(s)))]
    return np.array(theta if len(parts) == 1 else [*theta, parts[0][0]])


# The choice


@dataclass(frozen=True, slots=True)
class Comparison:
    """A competitor: its law of all rows and the log-likelihood, a row, of rows left out; NaN with a single block."""

    name: str
    law: Family | DelayLaw
    held_out: float


def families(rows: Rows, blocks: ArrayLike | None = None) -> list[Comparison]:
    """Each family and the smoothed estimate, the likeliest for rows left out first.

    All are fitted to the same parts and judged by the same rows: a fifth of the blocks at a time (estimate.folds).
    blocks: a label for each row; None: each row is a block. The smoothing width is chosen on all rows, which flatters
    the smoothed estimate a little: a family has to win all the same.
    """
    labels = np.arange(len(rows.lower)) if blocks is None else np.asarray(blocks)
    if labels.shape != rows.lower.shape:
        raise DataError(f"blocks has {labels.size} labels for {len(rows.lower)} rows: give one each")
    raw = fit(rows)
    return _compared(rows, smoothed(raw, best_width(raw, labels)), labels)


def _compared(rows: Rows, smooth: DelayLaw, labels: NDArray[Any]) -> list[Comparison]:
    part = folds(labels, FOLDS)
    found = [Comparison(SMOOTHED, smooth, _held_out(rows, part, lambda data: smoothed(fit(data), smooth.width)))]
    for name in NAMES if np.isfinite(rows.upper).any() else ():
        law = fit_family(rows, name)
        found.append(Comparison(name, law, _held_out(rows, part, partial(_fit, name=name, start=law))))
    return sorted(found, key=lambda one: -one.held_out)


def _held_out(rows: Rows, part: NDArray[np.int64], fitted: Callable[[Rows], Family | DelayLaw]) -> float:
    """Log-likelihood, a row, of each part under the law of the others. -inf where the others saw nothing visible."""
    parts = int(part.max()) + 1
    if parts == 1:
        return math.nan
    score = 0.0
    for number in range(parts):
        out, rest = rows.take(part == number), rows.take(part != number)
        try:
            score += out.total * log_likelihood(fitted(rest), out)
        except DataError:
            return -_INF
    return score / rows.total


def chosen(law: DelayLaw, resampled: Resampled, blocks: ArrayLike | None = None) -> tuple[Family | DelayLaw, str]:
    """The law that decisions should use, and a sentence that says why.

    law: the estimate, raw or smoothed; resampled: its bootstrap. A family replaces the smoothed estimate if it beats it
    on rows left out and stays inside the pointwise band of `resampled` at the ends of its law's finite cells: outside
    at no more than OUTSIDE of the mass of these cells. Of several the likeliest; of none, the smoothed estimate.
    """
    labels = np.arange(law.n) if blocks is None else np.asarray(blocks)
    smooth = law.smooth(blocks=labels)
    compared = _compared(law.rows, smooth, labels)
    base = next(one for one in compared if one.name == SMOOTHED)
    refused = []
    for one in compared:
        ahead = one.held_out - base.held_out
        if isinstance(one.law, DelayLaw) or not ahead > 0:
            continue
        outside = outside_band(one.law, resampled)
        if outside <= OUTSIDE:
            return one.law, (
                f"{one.name}: rows left out are likelier than under the smoothed estimate (by {ahead:.4f} a row), "
                f"and it is inside the band of the estimate at {1.0 - outside:.0%} of the mass"
            )
        refused.append(f"{one.name} is likelier on rows left out, but outside the band at {outside:.0%} of the mass")
    why = "; ".join(refused) or "no parametric family is likelier on rows left out"
    return smooth, f"the smoothed estimate: {why}"


def outside_band(law: Family | DelayLaw, resampled: Resampled, level: float = LEVEL) -> float:
    """The share of the estimate's finite mass, by cells, at whose upper end `law` is outside the pointwise band."""
    own = resampled.law
    finite = np.isfinite(own.edges[:, 1])
    if not finite.any():
        return 0.0
    ends, mass = own.edges[finite, 1], own.mass[finite]
    low, high = resampled.cdf(ends, level)
    at = law.cdf(ends)
    return float(mass[(at < low) | (at > high)].sum() / mass.sum())
