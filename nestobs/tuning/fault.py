"""When 404s beside an active /info are called the API's fault, and whether asking /info is worth it. Pure.

A share phi of nests has a standing fault (timeline/standing.py); of the others the lag from /info to a token has the
survival function S. After t seconds of 404s beside an active /info the odds of the race are at most (1 - phi) S(t) to
phi, since /info was active no later than it was seen to be. A false fault costs rho times a false "not yet", so it is
said from the first t on at which S(t) <= phi / ((1 - phi) rho); and, whatever the costs, not before S(t) <= MOST_FALSE.

So far out there are no nests to count, so the tail is the power law of the latest tenth (Weissman 1978), its index the
mean log excess (Hill 1975) at its upper 95 % end: steeper tails than that, as the lognormal's, are called sooner than
they could be, never later. And never sooner than after the longest lag that was seen, or LEAST_S.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.diagnosis.causes import Cause
from nestobs.join.decision import LEAST_S
from nestobs.join.policy import FAULT_AFTER_S, LONGEST_S, MOST, Policy
from nestobs.observation.arrays import Floats
from nestobs.observation.detail import finite
from nestobs.timeline.delays import STANDING, created, joinable, nests_in
from nestobs.timeline.nests import count_nests
from nestobs.timeline.standing import lags, standing
from nestobs.tuning.costs import Prices
from nestobs.tuning.decisions import Terms
from nestobs.tuning.simulation import course, courses, score

MOST_FALSE: Final = 0.001
"""Of races that may be called a fault, at most."""

FAULT_RATIO: Final = 100.0
FAULT_RATIOS: Final = (10.0, 100.0, 1000.0)
"""Costs of a false "fault" over a false "not yet": judgements, so always several."""

LEAST_LAGS: Final = 30
"""Fewer lags make no law: then what is taken is what is taken where nothing was measured."""

INFO_FROM: Final = 2
"""Whoever is let in at once need not ask."""

LEAST_TAIL: Final = 10
NORMAL_95: Final = 1.645
SOON_S: Final = 0.01
"""At once: no clock here resolves less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What was seen of standing faults. nests: with proof; standing: of them; lags, listed: nests that the two laws
    rest on. after_s: by cost ratio, seconds; listed_s: the same where a witness sees the room, None: not measured.
    others: shape (1, n), by when each of the other nests, a row a vantage, could be joined; inf: never."""

    nests: int
    standing: int
    lags: int
    listed: int
    after_s: Mapping[float, float]
    listed_s: Mapping[float, float] | None
    others: Floats = field(repr=False)
    ratio: float = FAULT_RATIO

    @property
    def share(self) -> float:
        """phi."""
        return self.standing / self.nests

    def policy(self, policy: Policy) -> Policy:
        """The policy, asking /info and saying when it is a fault; it may make a request more a round for it."""
        most = policy.max_requests + policy.max_requests // 2  # one for each of two
        return replace(
            policy,
            ask_info=True,
            info_from=INFO_FROM,
            fault_after_s=self.after_s[self.ratio],
            fault_listed_s=None if self.listed_s is None else self.listed_s[self.ratio],
            max_requests=min(MOST, most),
        )

    def saved(self, policy: Policy, arrivals: Floats, prices: Prices, *, signed_in: bool, round_trip_s: float) -> float:
        """What asking /info saves a joiner, in the prices' unit: of a nest of a standing fault what is not waited and
        asked in vain, less what /info costs with the others while they are late. Negative where it does not pay."""
        how: dict[str, Any] = {"signed_in": signed_in, "round_trip_s": round_trip_s}

        def vain(asked: Policy) -> float:
            met = [course(asked, float(age), np.random.default_rng(0), active=True, **how) for age in arrivals]
            each = [prices.request_cost * one.total + prices.never_cost * (one.ended - one.arrival_s) for one in met]
            return float(np.mean(each))

        def asks(asked: Policy) -> float:
            met = courses(asked, arrivals, np.random.default_rng(0), **how)
            return float(score(met, self.others, np.full(self.others.shape[1], math.inf)).requests.mean())

        watchful = self.policy(policy)
        more = prices.request_cost * (asks(watchful) - asks(policy))
        return self.share * (vain(policy) - vain(watchful)) - (1.0 - self.share) * more

    def said(self) -> list[str]:
        """Sentences on what this rests on."""
        ends = ", ".join(f"{self.after_s[ratio]:.1f} s at {ratio:g}" for ratio in FAULT_RATIOS)
        what = "nest has" if self.standing == 1 else "nests have"
        found = [
            f"{self.standing} {what} a standing fault (of {self.nests}): /info active, the room there, and no join ever"
            f" got in. It is called the API's fault after {ends}, by what a false one costs over a false “not yet”."
        ]
        if self.lags < LEAST_LAGS:
            found.append(f"Only {self.lags} nests tell how late joins are behind /info: {FAULT_AFTER_S:g} s is taken.")
        elif self.lags < 1.0 / MOST_FALSE:
            rare = f"at most 1 race in {1.0 / MOST_FALSE:.0f}"
            found.append(f"That {rare} is called so rests on the tail of {self.lags} lags.")
        return found

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        by_ratio = {str(ratio): finite(age) for ratio, age in self.after_s.items()}
        listed = None if self.listed_s is None else {str(ratio): finite(age) for ratio, age in self.listed_s.items()}
        return {"nests": self.nests, "standing": self.standing, "lags": self.lags} | {
            "fault_after_s": by_ratio,
            "fault_listed_s": listed,
        }


def faults(timelines: pd.DataFrame, *, signed_in: bool = True, ratio: float = FAULT_RATIO) -> Faults | None:
    """What `timelines` say of standing faults; None where no nest has one: then nothing is decided anew. Nests of other
    standing faults than those of the API's joins are left out, where they are marked."""
    if STANDING in timelines:  # and those of the joins as if they were not
        timelines = timelines[timelines[STANDING].isin(["", Cause.API_JOIN_FAULT])].drop(columns=STANDING)
    stand = standing(timelines)
    stood = nests_in(stand)
    if not stood:
        return None
    seats = joinable(timelines, signed_in=signed_in)
    others = seats.loc[~seats["unit"].isin(stand["unit"]), "upper_s"].to_numpy(np.float64)
    made = created(timelines)
    nests = count_nests(made[made["layer"].isin(("api:join", "api:guest")) & (made["polls"] > 0)])
    share = min(stood / nests, 1.0 - 1e-9)
    ratios = sorted({*FAULT_RATIOS, ratio})
    alone, listed = (lags(timelines, signed_in=signed_in, listed=listed) for listed in (False, True))
    measured = after(alone, share, ratios)
    return Faults(
        nests=nests,
        standing=stood,
        lags=len(alone),
        listed=len(listed),
        after_s=dict.fromkeys(ratios, FAULT_AFTER_S) if measured is None else measured,
        listed_s=after(listed, share, ratios),
        others=others[None, :],
        ratio=ratio,
    )


def worth_asking(seen: Faults | None, tuned: Policy, terms: Terms) -> tuple[Faults | None, list[str]]:
    """What policies ask /info by: `seen` where that pays with the tuned one, None where it does not or no standing
    fault was seen. And sentences on that."""
    if seen is None:
        return None, []
    saved = seen.saved(tuned, terms.arrivals, terms.prices, signed_in=terms.signed_in, round_trip_s=terms.round_trip_s)
    words = f"Asking /info from the second round on saves {saved:+.2f} s a joiner"
    if saved <= 0:
        return None, [*seen.said(), f"{words}, so it is not asked."]
    counted = "what is predicted counts its requests, and not what it saves at nests of a standing fault"
    return seen, [*seen.said(), f"{words}; {counted}."]


def after(found: pd.DataFrame, share: float, ratios: list[float]) -> dict[float, float] | None:
    """By cost ratio, the seconds after which it is a fault, of lags and a share of standing faults; None: too few."""
    if len(found) < LEAST_LAGS:
        return None
    ends = np.sort(found["upper_s"].to_numpy(np.float64))
    odds = share / (1.0 - share)
    return {ratio: max(LEAST_S, float(ends[-1]), _tail(ends, min(MOST_FALSE, odds / ratio))) for ratio in ratios}


def _tail(ends: Floats, share: float) -> float:
    """The lag, seconds, that no more than this share exceeds. ends: upper ends of lags, ascending."""
    most = max(LEAST_TAIL, len(ends) // 10)
    begin, tail = max(SOON_S, float(ends[-most - 1])), np.maximum(ends[-most:], SOON_S)
    index = float(np.log(tail / begin).mean()) * (1.0 + NORMAL_95 / math.sqrt(most))
    return min(LONGEST_S, begin * math.exp(min(100.0, index * math.log(max(1.0, most / (len(ends) * share))))))
