"""Any policy over recorded nests, in virtual time, through the very join core that runs live.

One recorded interval (lower, upper] answers for every policy: an attempt at or before `lower` fails, at or after
`upper` succeeds, and between them it is ambiguous. Ambiguity is treated twice: the *bounds* take every instant at its
latest and at its earliest; *imputation* draws it from the smoothed law within its interval, several times. Error comes
from a bootstrap of blocks in which each resample also takes another imputation. Policies are compared on the same
nests, joiners, imputations and resamples.

Requests fail as often as they were measured to (timeline/failures.py). That share is imputed, too: each imputation
draws its own from what the counts leave open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nestobs.estimate.npmle import DataError, Number, block_counts, percentile
from nestobs.estimate.proportion import LEVEL
from nestobs.join.policy import MANUAL_RETRY, Policy, named_policy
from nestobs.observation.arrays import Floats
from nestobs.timeline.delays import joinable
from nestobs.timeline.failures import Failures
from nestobs.tuning.costs import Prices
from nestobs.tuning.decisions import Terms
from nestobs.tuning.doubts.unseen import Unseen
from nestobs.tuning.imputation import Recorded, recorded
from nestobs.tuning.network import drawn_shares
from nestobs.tuning.simulation import PERSONS, Course, Scores, courses, of_each, score
from nestobs.tuning.threshold import TODAY_S

DRAWS: Final = 500
ARRIVALS: Final = 32
"""So many ages of arrival stand for all: the middles of as many equal parts of their distribution."""

PRICES: Final = Prices(request_cost=0.1, delay_cost=1.0, lost_value=60.0, never_cost=0.05, listener_share=0.25)
"""Judgements, in seconds of waiting: a join lost is as bad as a minute of it, a request as a tenth of a second, and a
second waited in vain counts a twentieth. A listener's seat is a quarter of none to somebody who signed in."""

METRICS: Final = ("joined_share", "lost_share", "mean_delay_s", "requests_per_join")
COST: Final = "cost_s"
"""What a join costs in all, by its prices: seconds of waiting."""


def drawn_sums(values: Floats, counts: Floats) -> Floats:
    """Sum over rows of values, shape (m, n), by counts, shape (draws, n): draw d takes values[d modulo m]."""
    found = np.empty(len(counts))
    for row, each in enumerate(values):
        found[row :: len(values)] = counts[row :: len(values)] @ each
    return found


def metrics(scores: Scores) -> dict[str, Floats]:
    """METRICS of each imputation, shape (m,)."""
    return _metrics(scores.map(lambda values: values.sum(axis=1)), scores.joined.shape[1])


def _metrics(sums: Scores, n: Floats | int) -> dict[str, Floats]:
    """METRICS of sums over n rows."""
    with np.errstate(invalid="ignore", divide="ignore"):
        delay = np.asarray(sums.delay / sums.joined, dtype=np.float64)
    return {
        "joined_share": sums.joined / n,
        "lost_share": sums.lost / n,
        "mean_delay_s": delay,
        "requests_per_join": sums.requests / n,
    }


@dataclass(frozen=True, slots=True)
class Played:
    """A policy's `scores` of the imputed instants, `ends` of the extremes, each with each of its courses.

    troubled: these differ by what failed or by who pressed, too, which no interval bounds: bounds are of the mean over
    them.
    """

    scores: Scores
    ends: Scores
    troubled: bool = False

    @classmethod
    def joint(cls, parts: Sequence[tuple[NDArray[np.bool_], Played]]) -> Played:
        """Of some rows each, put together, as Scores.joint."""
        scores = Scores.joint([(rows, part.scores) for rows, part in parts])
        return cls(scores, Scores.joint([(rows, part.ends) for rows, part in parts]), parts[0][1].troubled)

    def bounds(self) -> dict[str, tuple[float, float]]:
        """METRICS -> (least, greatest), as Replay has them; NaN where there is no value."""
        delays = np.concatenate([self._delays(one) for one in (self.ends, self.scores)])
        delays = delays[~np.isnan(delays)]
        return {
            "joined_share": self._ends("joined"),
            "lost_share": self._ends("lost"),
            "mean_delay_s": (float(delays.min()), float(delays.max())) if len(delays) else (math.nan, math.nan),
            "requests_per_join": self._ends("requests"),
        }

    @property
    def ambiguous(self) -> float:
        """Share of joiners whose outcome the intervals leave open."""
        return float(np.ptp(_by_course(self.ends.joined), axis=0).mean())

    def _ends(self, name: str) -> tuple[float, float]:
        """The least and the greatest mean: each row at its own least or greatest, whichever the course."""
        each = _by_course(getattr(self.ends, name))
        least, greatest = each.min(axis=0).mean(axis=1), each.max(axis=0).mean(axis=1)
        if not self.troubled:
            return float(least.min()), float(greatest.max())
        imputed = float(getattr(self.scores, name).mean())  # what fails may fail between the extremes, too
        return min(float(least.mean()), imputed), max(float(greatest.mean()), imputed)

    def _delays(self, scores: Scores) -> Floats:
        """Mean delays of those who joined: of each row of scores, or of each extreme and of all imputations."""
        if not self.troubled:
            return metrics(scores)["mean_delay_s"]
        parts = 3 if scores is self.ends else 1
        delay, joined = (each.reshape(parts, -1).sum(axis=1) for each in (scores.delay, scores.joined))
        with np.errstate(invalid="ignore"):
            return np.asarray(delay / joined)


def _by_course(values: Floats) -> Floats:
    """Shape (3, courses, n)."""
    return values.reshape(3, -1, values.shape[1])


@dataclass(frozen=True, kw_only=True, repr=False)
class Replay:
    """What a policy would have done on recorded nests.

    numbers: METRICS -> Number. bounds: METRICS -> (least, greatest) over all instants that the intervals allow (no
    error of sampling); of the delay, which rises and falls between two polls, and where requests fail of all, over
    extremes and imputed instants.
    against: METRICS -> Number of the paired difference to the baseline, empty for the baseline itself. regret: cost
    over that of a clairvoyant, who asks once, at the right instant, and never for a nest that does not come. ambiguous:
    share of joiners whose outcome the intervals leave open. n: rows; blocks: of how many. joiners: arrivals per row.
    """

    policy: Policy
    numbers: Mapping[str, Number]
    bounds: Mapping[str, tuple[float, float]]
    against: Mapping[str, Number]
    cost: Number
    regret: Number
    ambiguous: float
    n: int
    blocks: int
    joiners: int
    scores: Scores

    def __repr__(self) -> str:
        """What it would have done, of how many rows."""
        joined, lost, delay, requests = (self.numbers[name] for name in METRICS)
        return (
            f"<Replay of {self.policy.name}, {self.n} rows: joined {_share(joined)}, lost {_share(lost)}, after"
            f" {_plain(delay)} s, {_plain(requests)} requests>"
        )

    def _repr_html_(self) -> str:
        return Replays([self])._repr_html_()


class Replays(list[Replay]):
    """Policies on the same nests, the baseline first."""

    def __repr__(self) -> str:
        return "\n".join(replay_lines(self))

    def _repr_html_(self) -> str:
        return self.frame().to_html(index=False, border=0, float_format="{:.3g}".format, na_rep="")

    def frame(self) -> pd.DataFrame:
        """One row per policy and metric: policy, metric, value, lower, upper, least, greatest (bounds), difference,
        difference_lower, difference_upper (to the first policy; NaN for itself)."""
        made = []
        for one in self:
            for name, number in one.numbers.items():
                apart = one.against.get(name, Number(math.nan, math.nan, math.nan))
                ends = (number.value, number.lower, number.upper, *one.bounds[name])
                made.append((one.policy.name, name, *ends, apart.value, apart.lower, apart.upper))
        names = ["policy", "metric", "value", "lower", "upper", "least", "greatest"]
        return pd.DataFrame(made, columns=[*names, "difference", "difference_lower", "difference_upper"])


def replay_lines(replays: Iterable[Replay]) -> Iterator[str]:
    """A line a policy: its metrics with their 95 % intervals, and its cost."""
    yield f"{'policy':16}{'joined':>18}{'lost':>18}{'delay, s':>20}{'requests':>20}{'cost, s':>20}"
    for one in replays:
        joined, lost, delay, requests = (one.numbers[name] for name in METRICS)
        cells = f"{_share(joined):>18}{_share(lost):>18}"
        yield f"{one.policy.name[:15]:16}{cells}" + "".join(
            f"{_plain(each):>20}" for each in (delay, requests, one.cost)
        )


def _share(number: Number) -> str:
    return f"{100 * number.value:.1f} % {100 * number.lower:.1f}-{100 * number.upper:.1f}"


def _plain(number: Number) -> str:
    return f"{number.value:.2f} {number.lower:.2f}-{number.upper:.2f}"


def replay(
    policy: Policy | str | Sequence[Policy | str],
    timelines: pd.DataFrame,
    *,
    baseline: Policy = MANUAL_RETRY,
    arrivals: ArrayLike | None = None,
    prices: Prices | None = None,
    signed_in: bool = True,
    round_trip_s: float = 0.0,
    failures: Failures | None = None,
    rng: np.random.Generator | None = None,
    draws: int = DRAWS,
) -> Replays:
    """Policies over the nests of `timelines` (as nestobs.timelines gives them), the baseline first.

    policy: one or several, by value or name. arrivals: ages at which people ask, seconds; None: evenly from 0 to 30 s,
    the window in which today's client retries. round_trip_s: of an API request. failures: of requests, as
    failures.failures measures them; None: of a network that always answers. rng: a numpy Generator; None: a fixed seed.
    Raises DataError when no nest of `timelines` has a join layer with an origin, LawError for prices that are none.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    delays = joinable(timelines, signed_in=signed_in)
    if delays.empty:
        raise DataError("these timelines hold no api:join or api:guest of a nest whose start is known: observe some")
    wanted = [policy] if isinstance(policy, Policy | str) else list(policy)
    chosen = [named_policy(one) if isinstance(one, str) else one for one in wanted]
    terms = Terms(
        arrivals=middles(arrivals),
        prices=prices or PRICES,
        signed_in=signed_in,
        round_trip_s=round_trip_s,
        failures=failures,
    )
    arena = Arena(recorded(delays, rng), terms, draws, rng)
    return Replays(arena.compare([baseline, *(one for one in chosen if one != baseline)]))


def middles(arrivals: ArrayLike | None) -> Floats:
    """ARRIVALS ages that stand for a sample of them: quantiles at the middles of equal parts; None: as `replay`."""
    ages = np.linspace(0.0, TODAY_S, 31) if arrivals is None else np.asarray(arrivals, dtype=np.float64)
    if not len(ages) or not np.isfinite(ages).all():
        raise DataError("arrivals are ages in seconds, at least one, none infinite")
    return np.asarray(np.quantile(ages, (np.arange(ARRIVALS) + 0.5) / ARRIVALS))


MANY_NESTS: Final = 2_000
MANY_PERSONS: Final = 4 * PERSONS
"""So many nests leave so little to chance that the luck of PERSONS would show: more meet them."""

LATE: Final = 32
"""So many ages stand for that of a nest that nobody saw."""

SPREAD_ROWS: Final = 1_000
"""Of more, every so-many-th tells how far joiners differ."""


class Arena:
    """Nests, joiners and resamples that policies are compared on: the same for each. Persons, who are no part of the
    data, are met by nests in turn: what one draw makes of them is no error of it.

    Resampling cannot draw what was not seen, and a lost join is rare and dear: where none was seen, the plain bootstrap
    would be certain of none. So each draw's lost share gets half an event more, gamma-distributed (with the events
    drawn, Jeffreys' posterior of a rate), and its cost the price of that; its mean delay and requests get half a nest
    more that took one round more. The joined share is drawn by Rubin's Bayesian bootstrap with half a nest more that
    never joins and half a one that always does: Jeffreys' posterior where each nest is one or the other. (By plain
    resampling its 95 % were 89 to 96 % at 50 nests: few stay away, and a sample with one too few is too sure.)
    Policies are compared with half a nest more that comes late (doubts/unseen.py), under both the same.

    Where requests fail, each imputation has its own share of them, drawn from what their counts leave open, and goes by
    courses of its own: since draw d takes imputation d modulo m, intervals hold that error, too.
    """

    def __init__(self, nests: Recorded, terms: Terms, draws: int, rng: np.random.Generator) -> None:
        self.nests, self.terms, self.prices = nests, terms, terms.prices
        self.seed = int(rng.integers(2**63))
        self.counts = block_counts(nests.blocks, draws, rng).astype(np.float64)
        self.blocks = len(np.unique(nests.blocks))
        self.unseen = rng.gamma(0.5, size=draws) / nests.nests
        failures = terms.failures
        self.failures = failures if failures is not None and failures.seen else None
        self.shares = None if self.failures is None else drawn_shares(self.failures, rng, len(nests.times))
        self.people = PERSONS if nests.nests < MANY_NESTS else MANY_PERSONS
        self.late_ages = Unseen.of(nests.rows, nests.nests).ages(LATE)
        self._ways: dict[tuple[Policy, int], list[list[Course]]] = {}
        self._late: dict[tuple[Policy, int], Scores] = {}
        self._sums: dict[int, tuple[Scores, Scores]] = {}
        self._sizes = self.counts.sum(axis=1)
        self._sizes_late = self._sizes * (1.0 + self.unseen)

    def sums(self, scores: Scores) -> Scores:
        """The sums of scores over each draw's rows, shape (draws,). Draw d takes imputation d modulo m: so their spread
        holds the error of imputing, too. Summed once, since the counts are large and the sums are asked for often."""
        if id(scores) not in self._sums:  # kept, so that its id stays its own
            m, sums = len(scores.joined), np.empty((len(Scores.__slots__), len(self.counts)))
            for row in range(m):
                each = np.column_stack([getattr(scores, name)[row] for name in Scores.__slots__])
                sums[:, row::m] = (self.counts[row::m] @ each).T
            self._sums[id(scores)] = scores, Scores(**dict(zip(Scores.__slots__, sums, strict=True)))
        return self._sums[id(scores)][1]

    def courses(self, policy: Policy, people: int | None = None) -> list[list[Course]]:
        """Driven with the same chances for each policy, once; where requests fail, each imputation by its own."""
        key, terms = (policy, people or self.people), self.terms
        if key not in self._ways:
            self._ways[key] = courses(
                policy,
                terms.arrivals,
                np.random.default_rng(self.seed),
                signed_in=terms.signed_in,
                round_trip_s=terms.round_trip_s,
                people=key[1],
                failures=self.failures,
                shares=self.shares,
            )
        return self._ways[key]

    def play(self, policy: Policy, nests: Recorded | None = None) -> Played:
        """A policy on the nests, all or some."""
        nests, ways = self.nests if nests is None else nests, self.courses(policy)
        most = max(len(shapes) // shapes[0].turns for shapes in ways)
        each = (np.repeat(ends[:, None], most, axis=1) for ends in (nests.extremes, nests.own_ends))
        ends = [score(ways, end, nests.gone, own, nests.apart) for end, own in zip(*each, strict=True)]
        imputed = score(ways, nests.times, nests.gone, nests.own, nests.apart)
        by_chance = self.failures is not None or policy.person is not None
        return Played(imputed, Scores.stacked(ends), by_chance)

    def cost(self, scores: Scores) -> Number:
        """Per joiner, with the price of what was not seen."""
        drawn = self.sums(scores).cost(self.prices) / self._sizes + self.prices.lost_value * self.unseen
        return self.number(float(scores.cost(self.prices).mean()), drawn)

    def late(self, policy: Policy, people: int | None = None) -> Scores:
        """What comes of a nest that nobody saw, per joiner: each field a mean, shape ()."""
        key = (policy, people or self.people)
        if key not in self._late:
            ways = self.courses(*key)
            times = np.tile(self.late_ages, (max(len(shapes) // shapes[0].turns for shapes in ways), 1))
            found = score(ways, times, np.full(LATE, math.inf))
            self._late[key] = found.map(lambda values: np.asarray(values.mean()))
        return self._late[key]

    def difference(self, one: Policy, scores: Scores, other: Policy, base: Scores) -> Number:
        """Of cost per joiner of two policies with these scores, on the same draws."""
        drawn, then = (self._sums_late(*each).cost(self.prices) for each in ((one, scores), (other, base)))
        apart = scores.cost(self.prices) - base.cost(self.prices)
        return self.number(float(apart.mean()), (drawn - then) / self._sizes_late)

    def _sums_late(self, policy: Policy, scores: Scores) -> Scores:
        """`sums` with the nest that nobody saw, of `_sizes_late` rows."""
        sums, late, more = self.sums(scores), self.late(policy), self._sizes_late - self._sizes
        return Scores(**{name: getattr(sums, name) + more * getattr(late, name) for name in Scores.__slots__})

    def compare(self, policies: Sequence[Policy]) -> list[Replay]:
        """Each policy, and its differences to the first."""
        found: list[Replay] = []
        for policy in policies:
            found.append(self.judge(policy, self.play(policy), found[0] if found else None))
        return found

    def judge(self, policy: Policy, played: Played, base: Replay | None) -> Replay:
        """What came of a policy, against another."""
        scores = played.scores
        return Replay(
            policy=policy,
            numbers=self.numbers(scores, self.courses(policy)),
            bounds=played.bounds(),
            against=self.differences(policy, scores, base.policy, base.scores) if base else {},
            cost=self.cost(scores),
            regret=self._regret(scores),
            ambiguous=played.ambiguous,
            n=self.nests.n,
            blocks=self.blocks,
            joiners=len(self.terms.arrivals),
            scores=scores,
        )

    def numbers(self, scores: Scores, ways: Sequence[Sequence[Course]]) -> dict[str, Number]:
        """METRICS with their intervals, of a policy with these courses."""
        drawn, now = _metrics(self.sums(scores), self._sizes), metrics(scores)
        spread, more = self._spread(scores), {"lost_share": 1.0} | one_round_more(ways)
        drawn["joined_share"] = self._share(scores.joined)
        for name, size in more.items():
            drawn[name] = drawn[name] + self.unseen * size
            spread[name] = math.hypot(spread[name], size * math.sqrt(0.5 / self.nests.nests))
        return {name: self.number(float(np.mean(now[name])), drawn[name], spread[name]) for name in METRICS}

    def differences(self, one: Policy, scores: Scores, other: Policy, base: Scores) -> dict[str, Number]:
        """METRICS of one less METRICS of the other, on the same draws."""
        drawn, drawn_then = (
            _metrics(self._sums_late(*each), self._sizes_late) for each in ((one, scores), (other, base))
        )
        now, then = metrics(scores), metrics(base)
        return {
            name: self.number(float(np.mean(now[name] - then[name])), drawn[name] - drawn_then[name])
            for name in METRICS
        }

    def paired(self, policy: Policy, scores: Scores, today: Policy, base: Scores) -> dict[str, Number]:
        """METRICS and COST of a policy with these scores less those of today's rule, the same nests and joiners under
        both. sd: between pairs of joiners, each two who come to one nest at one instant."""
        given = (policy, scores, today, base)
        every = max(1, self.nests.n // SPREAD_ROWS)
        few = (self.nests.gone[::every], self.nests.own[:, ::every], self.nests.apart[::every])
        nests = (self.nests.times[:, ::every], *few)
        one, other = (of_each(self.courses(each), *nests) for each in (policy, today))
        found = self.differences(*given) | {COST: self.difference(*given)}
        apart = pair_differences(one, other, self.prices)
        return {name: replace(number, sd=float(apart[name].std())) for name, number in found.items()}

    def _share(self, each: Floats) -> Floats:
        """Draws of the mean of values from 0 to 1, shape (m, n), by blocks; draw d of imputation d modulo m."""
        rng = np.random.default_rng(self.seed)
        names, block = np.unique(self.nests.blocks, return_inverse=True)
        rows, half = np.bincount(block).astype(np.float64), self.nests.n / self.nests.nests
        found = np.empty(len(self.counts))
        for row, values in enumerate(each):
            some = found[row :: len(each)]
            weight = rng.exponential(size=(len(some), len(names)))
            none, one = half * rng.gamma(0.5, size=(2, len(some)))
            some[:] = (weight @ np.bincount(block, values) + one) / (weight @ rows + none + one)
        return found

    def _regret(self, scores: Scores) -> Number:
        """Of cost per joiner, to who asks once, when it will succeed: one request, no delay, nothing lost."""
        value = scores.cost(self.prices).mean() - self._least.mean()
        drawn = self.sums(scores).cost(self.prices) - self._least_sums
        return self.number(float(value), drawn / self._sizes)

    @cached_property
    def _least(self) -> Floats:
        """Cost of that, shape (m, n)."""
        comes = np.isfinite(self.nests.times) & (self.nests.gone > self.nests.times)
        return np.where(comes, self.prices.request_cost, 0.0)

    @cached_property
    def _least_sums(self) -> Floats:
        return drawn_sums(self._least, self.counts)

    def number(self, value: float, drawn: Floats, sd: float = math.nan) -> Number:
        """A value with the interval of its draws, NaN for none."""
        kept = drawn[~np.isnan(drawn)]
        if not len(kept):
            return Number(value, math.nan, math.nan, sd)
        return Number.around(value, *percentile(kept, LEVEL, self.blocks), sd)

    def _spread(self, scores: Scores) -> dict[str, float]:
        """Standard deviation between joiners; of the delay, between those who joined."""
        joined, lost, requests = (float(part.mean()) for part in (scores.joined, scores.lost, scores.requests))
        got_in = joined or math.nan
        variances = {
            "joined_share": joined * (1.0 - joined),
            "lost_share": lost * (1.0 - lost),
            "mean_delay_s": float(scores.delay_squared.mean()) / got_in - (float(scores.delay.mean()) / got_in) ** 2,
            "requests_per_join": float(scores.requests_squared.mean()) - requests**2,
        }
        return {name: float(np.sqrt(np.maximum(0.0, value))) for name, value in variances.items()}


def one_round_more(ways: Sequence[Sequence[Course]]) -> dict[str, float]:
    """What a second round costs a joiner: seconds of delay and requests; of policies that make none, one request."""
    rounds = [(0.0, 0.0)]
    for way in (way for shapes in ways for way in shapes):
        first = np.flatnonzero(way.own if way.own.any() else ~way.own)[:2]
        if len(first) == 2:
            rounds.append((np.diff(way.answered[first])[0], np.diff(way.requests[first])[0]))
    delay, requests = np.max([np.mean(rounds[1:] or rounds, axis=0), (ways[0][0].round_trip_s, 1.0)], axis=0)
    return {"mean_delay_s": float(delay), "requests_per_join": float(requests)}


def pair_differences(one: Scores, other: Scores, prices: Prices) -> dict[str, Floats]:
    """METRICS and COST of each pair of joiners, one less other, that have the differences of the metrics as their
    means. Of the delay, a mean over those who joined, it is how much the pair moves that (its linear part)."""
    return {
        "joined_share": one.joined - other.joined,
        "lost_share": one.lost - other.lost,
        "mean_delay_s": _moves(one) - _moves(other),
        "requests_per_join": one.requests - other.requests,
        COST: one.cost(prices) - other.cost(prices),
    }


def _moves(scores: Scores) -> Floats:
    if not scores.joined.any():
        return np.full(scores.joined.shape, math.nan)
    share = float(scores.joined.mean())
    usual = float(scores.delay.mean()) / share
    return usual + (scores.delay - usual * scores.joined) / share
