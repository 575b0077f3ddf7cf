"""What a recommendation would be if costs or the request budget were other, at once: no resampling, no replay. Pure.

The two knobs move different things. The cost ratio (of a false "starting up" over a false "no longer available") moves
the message threshold and its rates of error, the budget the price of a request and with it the poll table. Everything
is computed from smoothed laws, whose size does not depend on how many nests they rest on, on terms (decisions.py):
at the point that was tuned it is what tuning said. What a policy would have done is replayed by tuning alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from nestobs.estimate.npmle import Number
from nestobs.join.policy import Policy
from nestobs.tuning.decisions import never_share
from nestobs.tuning.recommendation import Recommendation
from nestobs.tuning.schedule import walked
from nestobs.tuning.threshold import TODAY_S, Joiners, message_errors

COST_RATIOS: Final = tuple(round(float(ratio), 3) for ratio in np.geomspace(0.05, 2.0, 17))
"""A grid of cost ratios: a false "starting" costs from a twentieth of a false "gone" to twice as much."""

BUDGETS: Final = (20, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500)
"""A grid of requests allowed in a window."""

LOST_VALUES: Final = (10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""A grid of what a lost join is worth, seconds of waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What would be recommended. threshold_s: with its interval; false_starting, false_gone: shares of joiners answered
    404 who are told so wrongly at that threshold.

    policy: the tuned one; price: of a request, seconds of waiting; binds: whether the budget raised it. requests (per
    joiner), delay_s (mean of those who join), lost: share, under the law that polls are planned by; give_up_age_s: the
    policy's.
    """

    cost_ratio: float
    allowed: int
    threshold_s: Number
    false_starting: float
    false_gone: float
    policy: Policy
    price: float
    binds: bool
    requests: float
    delay_s: float
    lost: float
    give_up_age_s: float

    @property
    def level(self) -> float:
        """The posterior "still starting" at which both messages cost the same."""
        return self.cost_ratio / (1.0 + self.cost_ratio)

    @property
    def asked_s(self) -> tuple[float, ...]:
        """Ages at which a joiner who arrives at once and is never let in asks, seconds, gaps at their middle."""
        ages = walked(self.policy.schedule.table, self.give_up_age_s)
        return tuple(age for age in ages if age <= self.policy.horizon_s)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A recommendation whose costs can be moved."""

    found: Recommendation

    def at(
        self, cost_ratio: float | None = None, allowed: int | None = None, *, lost_value: float | None = None
    ) -> Answer:
        """The answer at a cost ratio, a budget of requests in a window, and a value of a lost join in seconds of
        waiting; None: as it was tuned. Raises LawError for what is none of these."""
        found, given = self.found, self.found.terms
        terms = replace(
            given,
            cost_ratio=given.cost_ratio if cost_ratio is None else cost_ratio,
            allowance=given.allowance if allowed is None else replace(given.allowance, requests=allowed),
            prices=given.prices if lost_value is None else replace(given.prices, lost_value=lost_value),
        )
        threshold = terms.threshold(found.smooth, found.resampled)
        errors = message_errors(found.smooth, never_share(found.smooth), threshold.value, Joiners.of(terms.arrivals))
        plan = terms.decide(found.planned, threshold.value)
        requests, delay, lost = terms.expected(found.planned, plan.table)
        return Answer(
            cost_ratio=terms.cost_ratio,
            allowed=terms.allowance.requests,
            threshold_s=threshold,
            false_starting=errors.false_starting,
            false_gone=errors.false_gone,
            policy=plan.policy,
            price=plan.price,
            binds=plan.price > terms.prices.request_cost,
            requests=requests,
            delay_s=delay,
            lost=lost,
            give_up_age_s=plan.table.stop_age,
        )

    def threshold(self, cost_ratio: float) -> Number:
        """The message threshold of a cost ratio, with its interval."""
        return self.found.terms.threshold(self.found.smooth, self.found.resampled, cost_ratio)

    # what would change the answer

    def keeps_today(self, ratios: Sequence[float] = COST_RATIOS) -> tuple[float, ...]:
        """Those of the cost ratios at which today's threshold cannot be told from the best one."""
        now = self.found.today.message_threshold_s
        return tuple(r for r in ratios if (t := self.threshold(r)).lower <= now <= t.upper)

    def break_even(self, name: str) -> float:
        """The value of a lost join, seconds of waiting, at which a replayed policy and today's rule cost the same, as
        replayed; NaN where they lose as much or none is above 0. Raises KeyError."""
        one, base = self.found.replayed(name), self.found.replayed(self.found.today.name)
        more = one.numbers["lost_share"].value - base.numbers["lost_share"].value
        if abs(more) < 1e-12:
            return math.nan
        value = self.found.terms.prices.lost_value - (one.cost.value - base.cost.value) / more
        return value if value > 0 else math.nan

    def enough(self) -> int:
        """The requests in a window from which on more change nothing: the budget no longer binds."""
        allowance = self.found.terms.allowance
        free = replace(self.found.terms, allowance=replace(allowance, requests=10**9))
        per_join = free.decide(self.found.planned, TODAY_S).requests
        wanted = max(1, math.ceil(per_join * allowance.joins / (1.0 - allowance.reserve) - 1e-9))
        while replace(allowance, requests=wanted).per_join < per_join:
            wanted += 1
        return wanted
