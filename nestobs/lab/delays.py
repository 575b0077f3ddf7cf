"""Delay distributions: how long a layer takes to show a nest.

    constant   {kind, s}                    always s
    lognormal  {kind, median_s, sigma}      median_s * exp(sigma * Z)
    weibull    {kind, scale_s, shape}       scale_s * E ** (1 / shape), E unit exponential
    mixture    {kind, parts: [{weight, ...}]}
    never      {kind}                       it is never shown: None

All draws are seconds from zero to LONGEST_S. A draw takes the same amount of randomness whatever its result, so that a
change of one distribution in a scenario does not shift the draws of the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Delay: TypeAlias = float | None
"""Seconds, or None for never."""

LONGEST_S: Final = 1e9
"""More than thirty years: nothing is longer, be it drawn or written down."""

NotNegative: TypeAlias = Annotated[FiniteFloat, Field(ge=0, le=LONGEST_S)]
Positive: TypeAlias = Annotated[FiniteFloat, Field(gt=0, le=LONGEST_S)]


class Table(BaseModel):
    """A table of a scenario file: no unknown key, no value of another kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Constant(Table):
    """Always `s` seconds."""

    kind: Literal["constant"] = "constant"
    s: NotNegative


class Lognormal(Table):
    """Median in seconds, sigma of the natural logarithm."""

    kind: Literal["lognormal"]
    median_s: Positive
    sigma: Annotated[NotNegative, Field(le=10)]


class Weibull(Table):
    """Scale in seconds; shape below 1 has the heavier tail."""

    kind: Literal["weibull"]
    scale_s: Positive
    shape: Annotated[Positive, Field(ge=0.1)]


class Never(Table):
    """Not shown at all."""

    kind: Literal["never"]


class Part(Table):
    """A part of a mixture, which is no mixture itself. In a file its weight stands among the delay's own keys."""

    weight: NotNegative
    delay: Annotated[Constant | Lognormal | Weibull | Never, Field(discriminator="kind")]

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, table: object) -> object:
        if not isinstance(table, Mapping):
            return table
        weight = {key: cell for key, cell in table.items() if key == "weight"}
        return {**weight, "delay": {key: cell for key, cell in table.items() if key != "weight"}}


class Mixture(Table):
    """Parts with weights that need not sum to one."""

    kind: Literal["mixture"]
    parts: list[Part] = Field(min_length=1)

    @model_validator(mode="after")
    def _weighs(self) -> Mixture:
        if not sum(part.weight for part in self.parts):
            raise ValueError("the weights of a mixture sum to zero")
        return self


Distribution: TypeAlias = Annotated[Constant | Lognormal | Weibull | Never | Mixture, Field(discriminator="kind")]

AT_ONCE = Constant(s=0.0)


def draw(distribution: Distribution, rng: np.random.Generator, scale: float = 1.0) -> Delay:
    """One delay in seconds times `scale`, or None for never. Takes two deviates from `rng`, always."""
    drawn = _at(distribution, float(rng.random()), float(rng.standard_normal()))
    return None if drawn is None else min(drawn, LONGEST_S) * scale


def _at(distribution: Distribution, pick: float, normal: float) -> Delay:
    """The delay for a uniform `pick` in [0, 1) and a standard normal deviate."""
    match distribution:
        case Constant():
            return distribution.s
        case Lognormal():
            return distribution.median_s * math.exp(distribution.sigma * normal)
        case Weibull():  # the normal deviate is turned into a unit exponential by its survival
            survival = max(0.5 * math.erfc(normal / math.sqrt(2.0)), 1e-300)
            return float(distribution.scale_s * (-math.log(survival)) ** (1.0 / distribution.shape))
        case Mixture():
            return _at(_picked(distribution.parts, pick), pick, normal)
    return None


def _picked(parts: list[Part], pick: float) -> Distribution:
    left = pick * sum(part.weight for part in parts)
    for part in parts:
        if left < part.weight:
            return part.delay
        left -= part.weight
    return parts[-1].delay
