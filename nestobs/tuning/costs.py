"""What polls cost: prices, and the parts of the cost on a survival function's nodes. Pure.

Somebody gets a 404 at age 0 and polls again at ages x_1 < x_2 < ... < x_n <= horizon, all in seconds, x_0 = 0. With the
share c that never comes, H(t) = (1 - c) (1 - G(t)) still to come and S = c + H still answered 404 at t (estimate.law):

    cost = sum over k of [c_r S(x_{k-1}) + w ((x_k - x_{k-1}) H(x_{k-1}) - integral of H over the gap)]
           + V H(x_n) + w0 c x_n

c_r: a request, paid by all still at 404. w: a second between coming and the poll that sees it; the bracket is the
integral of (x_k - t) dF(t), the never-share cancels. V: one who comes but is not seen. w0: a second of waiting of one
who never gets in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Final

import numpy as np

from nestobs.estimate.law import SURELY, LawError, Survival
from nestobs.observation.arrays import Floats, Ints

MAX_NODES: Final = 50_000


@dataclass(frozen=True, slots=True)
class Curve:
    """A survival function on ascending nodes: what is still to come, and the integral of that to the last node."""

    nodes: Floats
    never: float
    coming: Floats
    rest: Floats

    @classmethod
    def of(cls, truth: Survival, nodes: Floats, fill: Floats | None = None) -> Curve:
        """On `nodes`; the ages of `fill` between them only make the integral exact. Raises LawError for a law that is
        no number at some of them."""
        every = nodes if fill is None else np.union1d(nodes, fill)
        coming = np.minimum.accumulate(truth.coming(every))
        # summed from the far end, where next to nothing is left: so rounding does not look like a gain there
        rest = np.append(np.cumsum(np.diff(truth.area(every))[::-1])[::-1], 0.0)
        if not (np.isfinite(coming).all() and np.isfinite(rest).all()):
            raise LawError("the law's cdf is no number at some ages up to the horizon: give a law that has one at each")
        at = np.searchsorted(every, nodes)
        return cls(nodes, truth.never, coming[at], rest[at])


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost, in one unit: a request, a second of delay, one lost, a second of one who never gets in.

    listener_share: how much of a seat somebody lacks who is signed in and sits as a guest, and so only listens, from 0
    to 1: of `lost_value` if they stay that though they could have had a seat of their own, and of `delay_cost` for each
    second until they have it.

    Finite numbers from 0; `lost_value` may be inf. Raises LawError for others.
    """

    request_cost: float
    delay_cost: float
    lost_value: float
    never_cost: float = 0.0
    listener_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("request_cost", "delay_cost", "lost_value", "never_cost", "listener_share"):
            check_number(name, getattr(self, name), infinite=name == "lost_value")
        if self.listener_share > 1.0:
            raise LawError(f"give listener_share as a share of a seat, from 0 to 1, not {self.listener_share:g}")

    def step(self, curve: Curve, start: Ints, end: Ints) -> Floats:
        """Cost of waiting from node `start` for a poll at node `end`."""
        gap, coming = curve.nodes[end] - curve.nodes[start], curve.coming[start]
        delay = gap * coming - (curve.rest[start] - curve.rest[end])
        waiting = self.never_cost * curve.never * gap
        return self.request_cost * (curve.never + coming) + self.delay_cost * delay + waiting

    def stop(self, curve: Curve) -> Floats:
        """Cost of polling no more, at each node. An infinite value is charged until SURELY all have come."""
        if math.isfinite(self.lost_value):
            return self.lost_value * curve.coming
        over = curve.coming <= (1.0 - SURELY) * (1.0 - curve.never)
        over[-1] = True  # the horizon ends it
        return np.where(over, 0.0, math.inf)

    def total(self, seen: tuple[Floats, Floats, Floats], never: float, last: Floats) -> Floats:
        """Cost of (requests, delay, lost) with the last poll at `last`. An infinite value charges nothing more."""
        requests, delay, lost = seen
        value = self.lost_value if math.isfinite(self.lost_value) else 0.0
        return self.request_cost * requests + self.delay_cost * delay + value * lost + self.never_cost * never * last


def check_number(name: str, value: float, *, infinite: bool = False) -> None:
    """Raise LawError unless it is a number from 0, which may be inf where that is `infinite`."""
    if not isinstance(value, Real) or math.isnan(value) or value < 0.0 or (math.isinf(value) and not infinite):
        raise LawError(f"give {name} as a {'' if infinite else 'finite '}number from 0, not {value!r}")


def grid_nodes(horizon: float, grid: float) -> Floats:
    """0, grid, 2 grid, ... and the horizon, seconds. Raises LawError where that is no grid of at most MAX_NODES."""
    check_number("horizon", horizon)
    check_number("grid", grid)
    if not 0.0 < grid <= horizon:
        raise LawError(f"give a grid above 0 and a horizon of at least one grid step, not {grid:g} and {horizon:g} s")
    if horizon / grid > MAX_NODES:
        raise LawError(
            f"{horizon:g} s on a grid of {grid:g} s are too many nodes: give at least {horizon / MAX_NODES:g}"
        )
    return np.append(np.arange(math.ceil(horizon / grid - 1e-6)) * grid, horizon)


def seen(truth: Survival, walk: Floats, fill: Floats) -> tuple[Floats, Floats, Floats]:
    """Requests, delay and lost of polls at walk[1:] after a 404 at walk[0], per joiner of age 0; by column.

    An age that repeats the one before it is no poll.
    """
    ages, at = np.unique(walk, return_inverse=True)
    curve = Curve.of(truth, ages, fill)
    coming, rest = curve.coming[at], curve.rest[at]
    gap, before = np.diff(walk, axis=0), coming[:-1]
    requests = ((gap > 0.0) * (truth.never + before)).sum(axis=0)
    return requests, (gap * before + np.diff(rest, axis=0)).sum(axis=0), coming[-1]
