"""From recorded nests to a policy that can be defended: method, judgement and doubt in one value.

    timelines -> delays -> law, its resamples, its smoothed form -> message threshold, poll table, give-up age
              -> policies -> replayed on nests they were not tuned on -> Recommendation

What is tuned is never judged on itself: nests are cut into parts by time, each part is judged under the policy tuned
on the others, and what is predicted for the tuned policy is what these gave. A change is recommended only where the
interval of the paired difference to today's rule excludes zero; among policies that cannot be told apart, the simplest.
Half a late nest that nobody saw counts in what polls are planned by and in what is compared (doubts/unseen.py).

Costs are judgements, so they are stated and varied. The request budget is not: the API allows so many requests in a
window for all behind one address, and the price of a request is raised until the joins expected there fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from nestobs.errors import NestobsError
from nestobs.estimate.change_point import changes
from nestobs.estimate.law import survival
from nestobs.estimate.npmle import DelayLaw, Number, fit, npmle, smoothed
from nestobs.estimate.strata import Grouping, groupings
from nestobs.join.policy import GUIDE, MANUAL_RETRY, RELEASED, Policy, exponential, fixed, full_jitter
from nestobs.timeline.delays import blocks, joinable, nests_in
from nestobs.timeline.failures import Failures
from nestobs.timeline.omissions import held_up_words, omitted, standing, standing_words
from nestobs.tuning.costs import Prices
from nestobs.tuning.decisions import (
    JITTER,
    LEAST_APART,
    Allowance,
    Decisions,
    Terms,
    never_share,
    seated,
    seats_said,
    whole,
    with_seats,
)
from nestobs.tuning.doubts.notes import notes
from nestobs.tuning.doubts.persons import moved
from nestobs.tuning.doubts.unseen import Unseen
from nestobs.tuning.fault import FAULT_RATIO, Faults, faults, worth_asking
from nestobs.tuning.herd import Crowd, crowd
from nestobs.tuning.imputation import recorded, time_parts
from nestobs.tuning.recommendation import STRATUM_ROWS, Recommendation, Since, Stratum
from nestobs.tuning.replay import PRICES, Arena, Played, Replay, middles
from nestobs.tuning.schedule import jittered
from nestobs.tuning.threshold import (
    COST_RATIO,
    COST_RATIOS,
    TODAY_S,
    message_threshold,
    stop_age,
)

Progress = Callable[[str], None]

LEAST_NESTS: Final = 30
LEAST_CAME: Final = 15
LEAST_WATCH_S: Final = 45.0
"""A watch that ends sooner cannot tune a threshold of 30 s."""

PARTS: Final = 5
DRAWS: Final = 500
CROWD: Final = 50
CROWD_S: Final = 5.0
STRATUM_P: Final = 0.01
BASELINES: Final = (GUIDE, RELEASED, fixed(1), fixed(2), fixed(5), exponential(), full_jitter())
"""What candidates are shown beside: today's clients, and the schedules that everybody knows."""

_ASSUMED: Final = ("Nobody said when people ask: evenly from 0 to 30 s was assumed.",)


class TooLittleDataError(NestobsError):
    """There are too few nests to tune on; the sentence says how many are needed."""

    exit_code = 1


class HeldUpError(TooLittleDataError):
    """What was observed says more of the observing machine than of whom it asked."""


def recommend(
    timelines: pd.DataFrame,
    *,
    arrivals: ArrayLike | None = None,
    signed_in: bool = True,
    prices: Prices = PRICES,
    allowance: Allowance | None = None,
    cost_ratio: float = COST_RATIO,
    fault_ratio: float = FAULT_RATIO,
    round_trip_s: float = 0.0,
    failures: Failures | None = None,
    today: Policy = MANUAL_RETRY,
    rng: np.random.Generator | None = None,
    draws: int = DRAWS,
    executor: Executor | None = None,
    progress: Progress = lambda _: None,
    baselines: Sequence[Policy] = BASELINES,
    deployments: tuple[str, ...] = (),
) -> Recommendation:
    """A policy from `timelines` (as nestobs.timelines gives them), with what it predicts and how sure that is.

    arrivals: ages at which people ask, seconds; None: evenly from 0 to 30 s. signed_in: of the joiners. prices: what
    things cost, in seconds of waiting; request_cost is the least price of an API request. cost_ratio: of a false
    "starting" over a false "gone". fault_ratio: of a false "fault" over a false "not yet" (fault.py). round_trip_s: of
    an API request. failures: of requests, as measured; None: unknown, predicted is for a network that always answers.
    today: the rule a change is judged against; named `tuned` or `simple`, as the last tuning is, it is `today`. rng:
    None: of a fixed seed. draws: resamples. executor: where they are fitted; None: here. progress: told each step.
    baselines: replayed beside the candidates; nothing is chosen by them. deployments: as delays.deployments tells.

    Raises TooLittleDataError that says how much is needed, HeldUpError where too many requests were held up by the
    observing machine itself (uptime.MOST_HELD_UP), LawError for prices that are none.
    """
    if today.name in ("tuned", "simple"):
        today = replace(today, name="today")  # last time's: its name is wanted for this time's
    terms = Terms(
        arrivals=middles(arrivals),
        prices=prices,
        signed_in=signed_in,
        allowance=allowance or Allowance(),
        cost_ratio=cost_ratio,
        round_trip_s=round_trip_s,
        failures=failures,
    )
    delays = joinable(timelines, signed_in=signed_in)
    _of_whom(failures)
    _enough(delays, standing_words(timelines))
    with threadpool_limits(1, "blas"):  # matrices are small: threads would only wait for each other
        tuner = Tuner(
            delays=delays,
            terms=terms,
            today=today,
            rng=np.random.default_rng(0) if rng is None else rng,
            draws=draws,
            executor=executor,
            baselines=baselines,
            seen=faults(timelines, signed_in=signed_in, ratio=fault_ratio),
        )
        found = replace(tuner.run(progress), left_out=standing(timelines), deployments=deployments)
    assumed = _ASSUMED if arrivals is None else ()
    return _dated(replace(found, notes=(*assumed, *found.notes, *omitted(timelines))), delays)


def _dated(found: Recommendation, delays: pd.DataFrame) -> Recommendation:
    """The recommendation with the changes of the law within its window, and the part since them."""
    changed = tuple(changes(delays))
    return replace(found, changes=changed, since=Since.of(delays, changed, LEAST_NESTS) if changed else None)


def _of_whom(failures: Failures | None) -> None:
    for said in held_up_words(failures) if failures is not None else ():
        remedy = "observe again from a machine that has less to do, or choose another --window"
        raise HeldUpError(f"{said.removesuffix('.')}; {remedy}")


def _enough(delays: pd.DataFrame, left_out: Sequence[str]) -> None:
    nests, came = nests_in(delays), nests_in(delays[np.isfinite(delays["upper_s"])])
    missing = delays.loc[~np.isfinite(delays["upper_s"]), "lower_s"]
    watched = float(missing.max()) if len(missing) else math.inf  # where all came, the watch was long enough
    if nests < LEAST_NESTS or came < LEAST_CAME:
        raise TooLittleDataError(
            f"{nests} nests were observed, {came} became joinable; tuning needs {LEAST_NESTS} and {LEAST_CAME}: "
            f"observe at least {max(LEAST_NESTS - nests, LEAST_CAME - came)} more, or widen --window"
            + "".join(f". {words.removesuffix('.')}" for words in left_out)
        )
    if watched < LEAST_WATCH_S:
        raise TooLittleDataError(
            f"the watch ends {watched:.0f} s after a nest is made, too soon to tune a threshold of {TODAY_S:g} s: "
            f"watch for at least {LEAST_WATCH_S:g} s (canary --horizon 90s)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuner:
    """One tuning: what it is of, and its steps."""

    delays: pd.DataFrame
    terms: Terms
    today: Policy
    rng: np.random.Generator
    draws: int
    executor: Executor | None = None
    baselines: Sequence[Policy] = BASELINES
    seen: Faults | None = None

    @property
    def watched_s(self) -> float:
        """The age to which nests were watched: of those never seen, or where there is none, of the last that came."""
        lower, upper = (self.delays[name].to_numpy(np.float64) for name in ("lower_s", "upper_s"))
        return float(lower[np.isposinf(upper)].max(initial=0.0) or upper.max())

    def run(self, progress: Progress) -> Recommendation:
        """All of it; `progress` is told each step."""
        terms = self.terms
        progress("estimating the delay law")
        labels, block_kind = blocks(self.delays)
        law = npmle(self.delays["lower_s"].to_numpy(), self.delays["upper_s"].to_numpy())
        smooth = law.smooth(blocks=labels)
        progress(f"resampling it {self.draws} times")
        resampled = law.bootstrap(labels, self.rng, draws=self.draws, executor=self.executor)
        progress("choosing threshold and polls")
        ratios = sorted({*COST_RATIOS, terms.cost_ratio})
        thresholds = {ratio: terms.threshold(smooth, resampled, ratio) for ratio in ratios}
        message = thresholds[terms.cost_ratio]
        unseen = Unseen.of(law.rows, nests_in(self.delays))
        planned = unseen.added(smooth)
        plan, (plain, simple_price), (asking, of_faults) = self._planned(planned, message.value)
        progress("replaying policies on nests they were not tuned on")
        arena = Arena(recorded(self.delays, self.rng, law=smooth), terms, self.draws, self.rng)
        tuned, plain, tries, of_seats = self._tries(arena, smooth, (plan.policy, plain), labels, asking)
        plan, replays = replace(plan, policy=tuned), self._replays(arena, (tuned, plain), tries)
        progress("looking for what is not identifiable")
        chosen, kept, why = self._choice(arena, replays, plan.policy, plain, message)
        apart = [one for one in groupings(law, self.delays) if one.p < STRATUM_P]
        strata = self._strata(law, smooth, plan, apart)
        doubts: dict[str, Any] = {"strata": strata, "apart": apart, "block_kind": block_kind}
        base, last = replays[0], replays[-2:]
        shown = last[-1] if chosen.name == plain.name else last[0]
        said = notes(law=law, plan=plan, message=message, base=base, terms=terms, watched_s=self.watched_s, **doubts)
        return Recommendation(
            policy=chosen,
            kept=kept,
            why=why,
            today=self.today,
            tuned=plan.policy,
            simple=plain,
            simple_price=simple_price,
            message_threshold_s=message,
            thresholds=thresholds,
            give_up_age_s=terms.give_up(plan, resampled, smooth.width, unseen),
            stop_age_s=stop_age(planned, None, terms.prices.never_cost, terms.prices.lost_value),
            sharing_age_s=self._sharing(),
            replays=tuple(replays),
            jitter_price=jittered(plan.table, planned, jitter=JITTER, rng=self.rng).price,
            peaks=tuple(self._crowd(policy, smooth) for policy in (self.today, plan.policy, plain, full_jitter())),
            front=terms.front(planned, plan),
            strata=strata,
            paired={one.policy.name: arena.paired(one.policy, one.scores, self.today, base.scores) for one in last},
            persons=moved(arena, shown.policy, shown.scores, self.today),
            faults=self.seen,
            notes=(*said, *of_faults, *of_seats),
            law=law,
            smooth=smooth,
            resampled=resampled,
            terms=terms,
            nests=nests_in(self.delays),
            block_kind=block_kind,
            window=_window(self.delays),
        )

    def _planned(
        self, law: DelayLaw, threshold_s: float
    ) -> tuple[Decisions, tuple[Policy, float], tuple[Faults | None, list[str]]]:
        """The tuned policy, the simple one and its price, and by what they ask /info, with what is said of that."""
        plan = self.terms.decide(law, threshold_s)
        plain, simple_price = self.terms.simplify(law, plan, threshold_s)
        asking, said = worth_asking(self.seen, plan.policy, self.terms)
        if asking is not None:
            plan, plain = replace(plan, policy=asking.policy(plan.policy)), asking.policy(plain)
        return plan, (plain, simple_price), (asking, said)

    # What policies would have done

    def _replays(self, arena: Arena, candidates: tuple[Policy, Policy], tries: tuple[Played, Played]) -> list[Replay]:
        found = arena.compare([self.today, *(one for one in self.baselines if one.name != self.today.name)])
        return [*found, *(arena.judge(one, played, found[0]) for one, played in zip(candidates, tries, strict=True))]

    def _tries(
        self,
        arena: Arena,
        smooth: DelayLaw,
        candidates: tuple[Policy, Policy],
        labels: NDArray[np.int64],
        asking: Faults | None,
    ) -> tuple[Policy, Policy, tuple[Played, Played], list[str]]:
        """The tuned and the simple policy, choosing between seats where that is proven to pay, how they did on nests
        they were not tuned on, and what to say of seats."""
        tries = self.crossfit(arena, smooth, labels, asking)
        if not self.terms.signed_in or arena.nests.apart.sum() < LEAST_APART:
            return *candidates, tries, []
        choosing = self.crossfit(arena, smooth, labels, asking, seats=True)
        best = seated(candidates[0], arena.nests, self.terms)
        gain = arena.difference(best, choosing[0].scores, candidates[0], tries[0].scores)
        at_once, then = (float(one[0].scores.listener.mean()) for one in (tries, choosing))
        said = [seats_said(best, arena.nests, gain, (at_once, then))]
        if gain.upper >= 0 or best == candidates[0]:
            return *candidates, tries, said
        return best, with_seats(candidates[1], best), choosing, said

    def crossfit(
        self,
        arena: Arena,
        smooth: DelayLaw,
        labels: NDArray[np.int64],
        asking: Faults | None = None,
        *,
        seats: bool = False,
    ) -> tuple[Played, Played]:
        """The tuned and the simple policy, each part of the nests under policies tuned on the others; asking /info by
        `asking`. seats: they choose between a guest's and their own."""
        nests = arena.nests
        part = time_parts(labels, PARTS)
        both: list[list[tuple[NDArray[np.bool_], Played]]] = [[], []]
        for number in range(int(part.max()) + 1):
            out = part == number
            rows = nests.rows.take(~out)
            unseen = Unseen.of(rows, nests.nests * float(np.mean(~out)))
            law = unseen.added(smoothed(fit(rows), smooth.width))
            plan = self.terms.decide(law, TODAY_S)
            plain, _ = self.terms.simplify(law, plan, TODAY_S)
            best = seated(plan.policy, nests.take(~out), self.terms) if seats else plan.policy
            for parts, policy in zip(both, (best, with_seats(plain, best)), strict=True):
                played = policy if asking is None else asking.policy(policy)
                parts.append((out, arena.play(played, nests.take(out))))
        return Played.joint(both[0]), Played.joint(both[1])

    def _choice(
        self, arena: Arena, replays: list[Replay], tuned: Policy, plain: Policy, message: Number
    ) -> tuple[Policy, bool, str]:
        """The recommended policy, whether that is today's rule, and why."""
        base, best, easy = replays[0], replays[-2], replays[-1]

        def apart(one: Replay, other: Replay) -> Number:
            return arena.difference(one.policy, one.scores, other.policy, other.scores)

        gain, easy_gain = apart(best, base), apart(easy, base)
        ties = easy_gain.upper < 0 and apart(easy, best).lower <= 0
        gain = easy_gain if ties else gain
        threshold_s, words = self._moved(message)
        told = (
            f"cost {gain.value:+.2f} s a joiner against {self.today.name}, 95 % {gain.lower:+.2f} to {gain.upper:+.2f}"
        )
        if gain.upper >= 0:
            kept = replace(self.today, message_threshold_s=threshold_s)
            if threshold_s != self.today.message_threshold_s:
                as_good = f"As far as is proven the polls of {self.today.name} are as good as any ({told})."
                return kept, True, f"{words}. {as_good}"
            return kept, True, f"Keep {self.today.name}: nothing better is proven ({told}). {words}."
        why = "the simple policy, which cannot be told from the tuned one" if ties else "the tuned policy"
        chosen = replace(plain if ties else tuned, message_threshold_s=threshold_s)
        return chosen, False, f"Use {why} ({told}). {words}."

    def _moved(self, message: Number) -> tuple[float, str]:
        """The message threshold to use: today's unless its interval leaves that out, and never one beyond the age to
        which nests were watched; and what to say of it."""
        now = self.today.message_threshold_s
        if message.lower <= now <= message.upper:
            return now, f"{now:g} s as message threshold cannot be told from the best one and stays"
        threshold_s, watched = whole(message.value), self.watched_s
        if threshold_s > watched:
            beyond = f"The best message threshold lies beyond the {watched:.0f} s that nests were watched"
            return (
                (now, f"{beyond}, so {now:g} s stays")
                if now > watched
                else (
                    float(math.floor(watched)),
                    f"{beyond}: it moves from {now:g} s to that and no further",
                )
            )
        return threshold_s, f"The message threshold moves from {now:g} s to {threshold_s:g} s"

    def _crowd(self, policy: Policy, smooth: DelayLaw) -> Crowd:
        """CROWD joiners who arrive within CROWD_S seconds of a nest that takes as long as one in ten does."""
        late = survival(smooth).age_of(0.9)
        arrivals = np.linspace(0.0, CROWD_S, CROWD)
        rng = np.random.default_rng(0)
        return crowd(policy, joinable_s=late, arrivals=arrivals.tolist(), rng=rng, signed_in=self.terms.signed_in)

    def _sharing(self) -> dict[float, Number]:
        """Sharing ages, with the intervals that assume no law: the latest of any vantage's ends."""
        laws = [
            npmle(rows_of["lower_s"].to_numpy(), rows_of["upper_s"].to_numpy())
            for _, rows_of in self.delays.groupby("vantage")
        ]
        found = {}
        for share in (0.5, 0.8, 0.9, 0.95):
            ends = np.array([law.quantile_bounds(share) for law in laws]).max(axis=0)
            found[share] = Number(max(float(law.quantile(share)) for law in laws), float(ends[0]), float(ends[1]))
        return found

    # Doubts

    def _strata(
        self, law: DelayLaw, smooth: DelayLaw, plan: Decisions, apart: Sequence[Grouping]
    ) -> tuple[Stratum, ...]:
        """A policy of their own for each group that is large enough, by whatever delays differ."""
        found: list[Stratum] = []
        unseen = Unseen.of(law.rows, nests_in(self.delays))  # of all: a group is not judged by its size
        for one in apart:
            names, many = np.unique(one.label, return_counts=True)
            for name in names[many >= STRATUM_ROWS]:
                own = smoothed(fit(law.rows.take(one.label == name)), smooth.width)
                found.append(self._stratum(one, str(name), own, unseen.added(own), plan))
        return tuple(found)

    def _stratum(self, one: Grouping, name: str, own: DelayLaw, planned: DelayLaw, plan: Decisions) -> Stratum:
        """own: the law of these nests, smoothed; planned: the same with the half nest that nobody saw."""
        table = self.terms.table(planned, plan.price, plan.table.horizon)
        least, common = table.grid_cost_under(planned), plan.table.grid_cost_under(planned)
        regret = common / least - 1.0 if least > 0 else 0.0
        return Stratum(
            kind=one.kind,
            name=name,
            n=own.n,
            p=one.p,
            threshold_s=message_threshold(own, never_share(own), self.terms.cost_ratio),
            give_up_age_s=table.stop_age,
            regret=max(0.0, regret),
        )


def _window(delays: pd.DataFrame) -> tuple[str, str]:
    first, last = (delays["origin_at"].agg(end).strftime("%Y-%m-%dT%H:%M:%SZ") for end in ("min", "max"))
    return first, last
