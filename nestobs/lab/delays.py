"""Delay distributions: how long a layer takes to show a nest.

    constant   {kind, s}                    always s
    lognormal  {kind, median_s, sigma}      median_s * exp(sigma * Z)
    weibull    {kind, scale_s, shape}       scale_s * E ** (1 / shape), E unit exponential
    mixture    {kind, parts: [{weight, ...}]}
    never      {kind}                       it is never shown: None

All draws are seconds, zero or more. A draw takes the same amount of randomness whatever its result, so that a change
of one distribution in a scenario does not shift the draws of the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nestobs.errors import UsageError

Delay: TypeAlias = float | None
"""Seconds, or None for never."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Always `s` seconds."""

    s: float

    def at(self, pick: float, normal: float) -> Delay:
        """The delay for a uniform `pick` in [0, 1) and a standard normal deviate."""
        return self.s


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Median in seconds, sigma of the natural logarithm."""

    median_s: float
    sigma: float

    def at(self, pick: float, normal: float) -> Delay:
        """See `Constant.at`."""
        return self.median_s * math.exp(self.sigma * normal)


@dataclass(frozen=True, slots=True)
class Weibull:
    """Scale in seconds; shape below 1 has the heavier tail."""

    scale_s: float
    shape: float

    def at(self, pick: float, normal: float) -> Delay:
        """See `Constant.at`. The normal deviate is turned into a unit exponential by its survival."""
        survival = max(0.5 * math.erfc(normal / math.sqrt(2.0)), 1e-300)
        return float(self.scale_s * (-math.log(survival)) ** (1.0 / self.shape))


@dataclass(frozen=True, slots=True)
class Never:
    """Not shown at all."""

    def at(self, pick: float, normal: float) -> Delay:
        """See `Constant.at`."""
        return None


@dataclass(frozen=True, slots=True)
class Mixture:
    """Parts with weights that need not sum to one. A mixture does not contain mixtures."""

    weights: tuple[float, ...]
    parts: tuple[Constant | Lognormal | Weibull | Never, ...]

    def at(self, pick: float, normal: float) -> Delay:
        """See `Constant.at`."""
        left = pick * sum(self.weights)
        for weight, part in zip(self.weights, self.parts, strict=True):
            if left < weight:
                return part.at(pick, normal)
            left -= weight
        return self.parts[-1].at(pick, normal)


Distribution: TypeAlias = Constant | Lognormal | Weibull | Never | Mixture

AT_ONCE = Constant(0.0)


def draw(distribution: Distribution, rng: np.random.Generator, scale: float = 1.0) -> Delay:
    """One delay in seconds times `scale`, or None for never. Takes two deviates from `rng`, always."""
    drawn = distribution.at(float(rng.random()), float(rng.standard_normal()))
    return None if drawn is None else drawn * scale


_FIELDS: dict[str, tuple[str, ...]] = {
    "constant": ("s",),
    "lognormal": ("median_s", "sigma"),
    "weibull": ("scale_s", "shape"),
    "mixture": ("parts",),
    "never": (),
}


def read_distribution(value: object, where: str) -> Distribution:
    """The distribution in a decoded TOML table. Raises UsageError that names `where` and the key at fault."""
    if not isinstance(value, Mapping) or value.get("kind") not in _FIELDS:
        raise UsageError(f"{where}: a delay is a table with kind = one of {', '.join(_FIELDS)}")
    kind = str(value["kind"])
    if unknown := set(value) - {"kind", *_FIELDS[kind]}:
        raise UsageError(f"{where}: unknown key {sorted(unknown)[0]!r} in a delay of kind {kind}")
    if kind == "mixture":
        return _read_mixture(value.get("parts"), where)
    numbers = [_number(value, name, where) for name in _FIELDS[kind]]
    match kind:
        case "constant":
            return Constant(*numbers)
        case "lognormal":
            return Lognormal(*numbers)
        case "weibull":
            return Weibull(*numbers)
    return Never()


def _read_mixture(parts: object, where: str) -> Mixture:
    if not isinstance(parts, list) or not parts:
        raise UsageError(f"{where}: a mixture needs parts = [ {{weight = ..., kind = ...}}, ... ]")
    weights, found = [], []
    for number, part in enumerate(parts, 1):
        spot = f"{where}, part {number}"
        if not isinstance(part, Mapping):
            raise UsageError(f"{spot}: a part is a table")
        weights.append(_number(part, "weight", spot))
        inner = read_distribution({key: cell for key, cell in part.items() if key != "weight"}, spot)
        if isinstance(inner, Mixture):
            raise UsageError(f"{spot}: a mixture cannot contain a mixture, list its parts here")
        found.append(inner)
    if sum(weights) <= 0:
        raise UsageError(f"{where}: the weights of a mixture sum to zero")
    return Mixture(tuple(weights), tuple(found))


def _number(table: Mapping[str, object], name: str, where: str) -> float:
    number = table.get(name)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise UsageError(f"{where}: {name} must be a number, zero or more")
    if name in ("shape", "median_s", "scale_s") and number == 0:
        raise UsageError(f"{where}: {name} must be above zero")
    return float(number)
