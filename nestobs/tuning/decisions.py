"""What a delay law asks for: message threshold, poll table, give-up age and the policy they make. Pure.

The threshold follows from the cost ratio, the table from the prices. The request budget is kept by raising the price of
a request until the joins expected in a window fit; then the simple policy, in round numbers, is looked for within the
same budget. A law here is one that was smoothed: decisions would exploit the raw steps. What polls are planned by holds
half a nest that nobody saw, too (doubts/unseen.py), lest they stop where the sample does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.estimate.law import LawError, Survival, survival
from nestobs.estimate.npmle import DelayLaw, Number, Resampled, percentile, smoothed
from nestobs.join.policy import LONGEST_S, SEATS, Policy, Schedule
from nestobs.observation.arrays import Floats
from nestobs.observation.text import percent
from nestobs.timeline.failures import Failures
from nestobs.tuning.costs import Prices
from nestobs.tuning.doubts.unseen import Unseen
from nestobs.tuning.imputation import Recorded
from nestobs.tuning.schedule import PollTable, optimal_polls, rows, simple, walked
from nestobs.tuning.simulation import GRAIN_S, courses, score
from nestobs.tuning.threshold import COST_RATIO, message_threshold, threshold_interval

GRID_S: Final = 0.25
LEAST_HORIZON_S: Final = 120.0
JITTER: Final = 0.2
JITTERS: Final = 8
"""A budget is counted over so many courses from each age of arrival."""

FRONT_PRICES: Final = tuple(float(price) for price in np.geomspace(0.02, 50.0, 12))
MOST_PRICE: Final = 1e5
"""At such a price of a request nobody asks twice: a budget that is not kept then cannot be kept."""

ERROR_RETRIES: Final = 5
MOST_FAILING: Final = 0.9
"""Of requests; a budget is planned for no more."""

GIVE_UP_DRAWS: Final = 200

FALLBACK_AGES_S: Final = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
FALLBACK_TRIES: Final = (2, 3)
UPGRADES: Final = 10
"""What is tried about seats: in round numbers, for the optimum is flat, and clients have to be written."""

LEAST_APART: Final = 10
"""Of fewer rows with the guest's route proven to be first nothing is decided."""

SEATED_ROWS: Final = 2_000
"""Of more rows every so-many-th decides."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an API lets one address do, and how many people join from behind it.

    requests in window_s seconds; reserve: share kept back; joins: expected in a window.
    """

    requests: int = 100
    window_s: float = 900.0
    reserve: float = 0.2
    joins: float = 10.0

    def __post_init__(self) -> None:
        if self.requests < 1 or not self.window_s > 0 or not 0 <= self.reserve < 1 or not self.joins > 0:
            raise LawError("an allowance has requests, a window and joins above 0, and a reserve from 0 to below 1")

    @property
    def per_window(self) -> int:
        """Requests that may be planned in a window."""
        return int(self.requests * (1.0 - self.reserve) + 1e-9)

    @property
    def per_join(self) -> float:
        """Requests that a join may make on average."""
        return self.per_window / self.joins


@dataclass(frozen=True, slots=True)
class Decisions:
    """A law's decisions: the poll table at the price that the budget asks for, and the policy it makes.

    requests: of a joiner, as they are planned.
    """

    table: PollTable
    price: float
    requests: float
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms decisions are taken and judged: who asks, what things cost, what may be asked, what fails.

    arrivals: ages at which people ask, seconds, each as likely. signed_in: of them. cost_ratio: of a false "starting"
    over a false "gone". round_trip_s: of an API request. failures: of requests, as measured; None: not known, and taken
    for none.
    """

    arrivals: Floats = field(repr=False)
    prices: Prices
    signed_in: bool = True
    allowance: Allowance = field(default_factory=Allowance)
    cost_ratio: float = COST_RATIO
    round_trip_s: float = 0.0
    failures: Failures | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.prices.lost_value):
            raise LawError("a lost join has a finite value here: say how many seconds of waiting it is worth")

    @property
    def failing(self) -> float:
        """The share of requests for a token that fail."""
        return 0.0 if self.failures is None else min(self.failures.token.share, MOST_FAILING)

    @property
    def per_round(self) -> int:
        """Requests of a round that fails: /info tells nothing that the joins do not, and is not asked."""
        return 2 if self.signed_in else 1

    def threshold(self, law: DelayLaw, resampled: Resampled, ratio: float | None = None) -> Number:
        """The message threshold at a cost ratio (None: the own one), seconds, with its interval."""
        ratio = self.cost_ratio if ratio is None else ratio
        return Number.around(message_threshold(law, never_share(law), ratio), *threshold_interval(resampled, ratio))

    def decide(self, law: DelayLaw, threshold_s: float) -> Decisions:
        """The best poll table that keeps to the budget, found by raising the price of a request until it does."""
        held = survival(law, never_share(law))
        horizon = float(np.clip(3.0 * held.age_of(0.99), LEAST_HORIZON_S, 5.0 * LEAST_HORIZON_S))

        def at(price: float) -> Decisions:
            table = self.table(law, price, horizon)
            policy = self._policy("tuned", _gaps(table), table.stop_age, threshold_s)
            return Decisions(table, price, self._requests(policy, held), policy)

        low = self.prices.request_cost
        plan = at(low)
        while plan.requests > self.allowance.per_join and plan.price < MOST_PRICE:
            low = plan.price
            plan = at(max(4.0 * low, 0.01))
        while plan.price > low * 1.02 and low > 0:
            tried = at(math.sqrt(low * plan.price))
            if tried.requests > self.allowance.per_join:
                low = tried.price
            else:
                plan = tried
        return plan

    def simplify(self, law: DelayLaw, plan: Decisions, threshold_s: float) -> tuple[Policy, float]:
        """The simple policy, at a price at which it keeps to the budget, too; and what it costs more than the table."""
        held, price, easy = survival(law, never_share(law)), plan.price, simple(plan.table)
        while True:
            policy = self._policy("simple", easy.rows, easy.give_up_age, threshold_s)
            if price >= MOST_PRICE or self._requests(policy, held) <= max(self.allowance.per_join, plan.requests):
                return policy, easy.price
            price = max(1.25 * price, 0.01)
            easy = simple(self.table(law, price, plan.table.horizon))

    def table(self, law: DelayLaw, price: float, horizon: float) -> PollTable:
        """The best poll table at a price of a request."""
        return optimal_polls(
            law,
            never_share(law),
            request_cost=price * self.per_round,
            delay_cost=self.prices.delay_cost,
            lost_value=self.prices.lost_value,
            horizon=horizon,
            grid=GRID_S,
            never_cost=self.prices.never_cost,
        )

    def expected(self, law: DelayLaw, table: PollTable) -> tuple[float, float, float]:
        """Of a joiner who follows the table: requests, the mean delay of those who join (seconds; NaN where nobody
        does), the share lost. Under the law with its own never-share, over the ages of arrival."""
        held = survival(law)
        each = np.array([self._course(table, held, age) for age in self.arrivals])
        requests, delay, joined, lost = (float(one) for one in each.mean(axis=0))
        return requests, delay / joined if joined > 0 else math.nan, lost

    def _course(self, table: PollTable, held: Survival, age: float) -> tuple[float, float, float, float]:
        """Requests, seconds of delay, share joined and share lost of a joiner who arrives at `age`."""
        times = np.array([age, *table.follow(age)])
        missed = held.at(times)
        rest = held.coming(times)
        area = held.area(times)
        requests = 1.0 - float(missed[-1]) + self.per_round * float(missed.sum())
        delay = float((np.diff(times) * rest[:-1]).sum() - area[-1])
        return requests, delay, float(1.0 - missed[-1]), float(rest[-1])

    def front(self, law: DelayLaw, plan: Decisions) -> pd.DataFrame:
        """Along prices of a request: request_cost, requests_per_join, mean_delay_s (of those who join), lost_share,
        give_up_age_s, chosen (the price that the budget asks for)."""
        made = []
        for price in sorted({*FRONT_PRICES, plan.price}):
            table = plan.table if price == plan.price else self.table(law, price, plan.table.horizon)
            requests, delay, lost = self.expected(law, table)
            made.append((price, requests, delay, lost, table.stop_age, price == plan.price))
        names = ["request_cost", "requests_per_join", "mean_delay_s", "lost_share", "give_up_age_s", "chosen"]
        return pd.DataFrame(made, columns=names)

    def give_up(self, plan: Decisions, resampled: Resampled, width: float, unseen: Unseen) -> Number:
        """The give-up age of the plan, with its interval: of tables of resampled laws, smoothed by `width`, each with
        the half nest that nobody saw."""
        laws = (unseen.added(smoothed(law, width)) for law in resampled.laws[:GIVE_UP_DRAWS])
        drawn = np.array([self.table(law, plan.price, plan.table.horizon).stop_age for law in laws])
        return Number.around(plan.table.stop_age, *percentile(drawn, blocks=resampled.blocks))

    def _requests(self, policy: Policy, held: Survival) -> float:
        """API requests of a joiner under a policy with a table: one where it succeeds, else a whole round.

        Where some fail, each round is taken to be begun again at once until it is answered: a little more than are
        made, since waits after errors stand in the place of others.

        Over ages of arrival and jitter, the same chances each time.
        """
        answered = 1.0 - self.failing
        once = 1.0 / answered
        whole = once if self.per_round == 1 else (1.0 + answered) * once**2  # begun again until both are answered
        rng = np.random.default_rng(0)
        begins, gaps = np.array(policy.schedule.table).T
        ages = np.repeat(self.arrivals, JITTERS)
        ends, missed = ages + policy.horizon_s, held.at(ages)
        asked = once + (whole - once) * missed
        going = ages + GRAIN_S < policy.give_up_age_s
        while going.any():
            gap = gaps[np.maximum(np.searchsorted(begins, ages + GRAIN_S, "right") - 1, 0)]
            ages = ages + gap * (1.0 - JITTER + 2.0 * JITTER * rng.random(len(ages)))
            going &= ages <= ends
            still = held.at(ages)
            asked += np.where(going, once * missed + (whole - once) * still, 0.0)
            missed = still
            going &= ages + GRAIN_S < policy.give_up_age_s
        return float(asked.mean())

    def _policy(self, name: str, gaps: tuple[tuple[float, float], ...], give_up_s: float, threshold_s: float) -> Policy:
        longest = max((gap for begin, gap in gaps if begin < give_up_s and gap < LONGEST_S), default=0.0)
        polls = math.ceil(1.25 * (len(walked(gaps, give_up_s)) - 1)) + 2 + (ERROR_RETRIES if self.failing else 0)
        return Policy(
            name=name,
            ask_info=False,
            schedule=Schedule("table", table=gaps),
            jitter=JITTER,
            message_threshold_s=whole(threshold_s),
            give_up_age_s=give_up_s,
            horizon_s=give_up_s + float(max(30, math.ceil((1.0 + JITTER) * longest))),
            max_requests=max(3, min(self.allowance.per_window, self.per_round * polls)),
            error_retries=ERROR_RETRIES,
            connect_attempts=3,
        )


def seated(policy: Policy, nests: Recorded, terms: Terms) -> Policy:
    """The policy with those of SEATS at which it costs least on these nests, within the request budget or what it
    makes by itself: fall back from an age on, or from a try on, and ask on from a guest's seat or not."""
    every = max(1, nests.n // SEATED_ROWS)
    rows = (nests.times[:, ::every], nests.gone[::every], nests.own[:, ::every], nests.apart[::every])

    def judged(tried: Policy) -> tuple[float, float]:
        rng = np.random.default_rng(0)
        ways = courses(tried, terms.arrivals[::2], rng, round_trip_s=terms.round_trip_s, shapes=2)
        found = score(ways, *rows)
        return float(found.cost(terms.prices).mean()), float(found.requests.mean())

    best, (least, asked) = policy, judged(policy)
    most = max(terms.allowance.per_join, asked)
    ways: list[dict[str, Any]] = [{}]
    ways += [*({"fallback_age_s": age} for age in FALLBACK_AGES_S), *({"fallback_tries": n} for n in FALLBACK_TRIES)]
    for upgrades, way in product((0, UPGRADES), ways):
        tried = replace(policy, **{**SEATS, **way, "upgrades": upgrades})
        cost, requests = judged(tried)
        if cost < least - 1e-9 and requests <= most:
            best, least = tried, cost
    return best


def with_seats(policy: Policy, other: Policy) -> Policy:
    """A policy that chooses between seats as another does."""
    return replace(policy, **{name: getattr(other, name) for name in SEATS})


def seats_said(tuned: Policy, nests: Recorded, gain: Number, listeners: tuple[float, float]) -> str:
    """What is to be done about seats, in words. gain: the cost of choosing less that of guest at once; listeners: the
    shares of joiners who only listen and could have spoken, at once and then."""
    rows = f"At {int(nests.apart.sum())} of {nests.n} rows the guest's route was proven to come first"
    told = f"{gain.value:+.2f} s a joiner, 95 % {gain.lower:+.2f} to {gain.upper:+.2f}"
    if gain.upper >= 0:
        return f"{rows}; falling back to it at once stays: nothing better is proven ({told})."
    before, then = (percent(share) for share in listeners)
    only = f"{then} of joiners instead of {before} only listen who could have spoken"
    return f"{rows}: {tuned.seat_words} ({told}, beside falling back at once, on nests it was not chosen on); {only}."


def never_share(law: DelayLaw) -> float:
    """The law's never-share; where none stayed away, half a nest of one more (Jeffreys)."""
    return law.never if law.never > 0 else 0.5 / (law.n + 1.0)


def whole(threshold_s: float) -> float:
    """A message threshold in whole seconds, from 1 s to an hour: `created_at` tells no finer."""
    return float(round(min(max(threshold_s, 1.0), 3600.0)))


def _gaps(table: PollTable) -> tuple[tuple[float, float], ...]:
    """Rows of the table for a policy; where it stops, though it would go on later, the gap is beyond any horizon."""
    return tuple((age, LONGEST_S if table.next(age) is None else gap) for age, gap in rows(table))
