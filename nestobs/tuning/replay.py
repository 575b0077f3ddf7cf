"""Any policy over recorded nests, in virtual time, through the very join core that runs live.

One recorded interval (lower, upper] answers for every policy: an attempt at or before `lower` fails, at or after
`upper` succeeds, and between them it is ambiguous. Ambiguity is treated twice: the *bounds* take every instant at its
latest and at its earliest; *imputation* draws it from the smoothed law within its interval, several times. Error comes
from a bootstrap of blocks in which each resample also takes another imputation. Policies are compared on the same
nests, joiners, imputations and resamples. "Never" means not by the last age at which anything was seen to come.

Requests fail as often as they were measured to (timeline/failures.py). That share is imputed, too: each imputation
draws its own from what the counts leave open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from nestobs.estimate.npmle import LEVEL, DataError, DelayLaw, Number, Rows, block_counts, fit, percentile, rows
from nestobs.join.policy import MANUAL_RETRY, Policy, named_policy
from nestobs.observation.arrays import Floats, Ints
from nestobs.timeline.delays import blocks as blocks_of
from nestobs.timeline.delays import joinable
from nestobs.timeline.failures import Failures
from nestobs.tuning.costs import Prices
from nestobs.tuning.network import drawn_shares
from nestobs.tuning.simulation import Course, Scores, courses, score

IMPUTATIONS: Final = 10
DRAWS: Final = 500
ARRIVALS: Final = 32
"""So many ages of arrival stand for all: the middles of as many equal parts of their distribution."""

PRICES: Final = Prices(request_cost=0.1, delay_cost=1.0, lost_value=60.0, never_cost=0.05)
"""Judgements, in seconds of waiting: a join lost is as bad as a minute of it, a request as a tenth of a second, and a
second waited in vain counts a twentieth."""

METRICS: Final = ("joined_share", "lost_share", "mean_delay_s", "requests_per_join")
_INF: Final = math.inf


@dataclass(frozen=True)
class Recorded:
    """Nests to replay on, one row a nest and vantage.

    rows: intervals in which they became joinable. gone: shape (n,), the age from which they are gone again, inf for
    never. nests: how many different ones. blocks: shape (n,), labels. law: the smoothed law that ambiguous rows are
    drawn from. times: shape (m, n), imputed instants, inf for never. extremes: shape (3, n), as `extremes` gives them.
    own: shape (m, n), from when the authenticated join itself succeeds, not before `times`. own_ends: shape (3, n), the
    same of `extremes`.
    """

    rows: Rows
    gone: Floats
    nests: int
    blocks: Ints
    law: DelayLaw = field(repr=False)
    times: Floats = field(repr=False)
    extremes: Floats = field(repr=False)
    own: Floats = field(repr=False)
    own_ends: Floats = field(repr=False)

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.gone)

    def take(self, keeps: NDArray[np.bool_]) -> Recorded:
        """Some of the nests, as they were imputed."""
        some = (self.rows.take(keeps), self.gone[keeps], self.nests, self.blocks[keeps])
        each = (one[:, keeps] for one in (self.times, self.extremes, self.own, self.own_ends))
        return Recorded(*some, self.law, *each)


def recorded(
    delays: pd.DataFrame, rng: np.random.Generator, *, law: DelayLaw | None = None, imputations: int = IMPUTATIONS
) -> Recorded:
    """`delays` as delays.joinable gives them, imputed from `law` (None: the smoothed law of these very rows)."""
    data = rows(delays["lower_s"].to_numpy(), delays["upper_s"].to_numpy())
    labels, _ = blocks_of(delays)
    smooth = fit(data).smooth(blocks=labels) if law is None else law
    gone = delays["gone_lower_s"].fillna(_INF).to_numpy(np.float64)
    nests = int(delays["unit"].nunique())
    times, ends = impute(smooth, data, rng, imputations), extremes(data)
    own = by_own(delays, times, rng.spawn(1)[0])
    latest = np.maximum(delays["join_upper_s"].fillna(-_INF).to_numpy(np.float64), ends[:2])
    return Recorded(data, gone, nests, labels, smooth, times, ends, own, np.stack([*latest, ends[2]]))


def by_own(delays: pd.DataFrame, times: Floats, rng: np.random.Generator) -> Floats:
    """From when the authenticated join itself succeeds, where some join does from `times` on: shape (m, n).

    Which route came first is drawn evenly from the intervals of both, the later one from what is left of its own. A
    nest of which only one route was asked is joined by that.
    """
    ends = [
        delays[f"{route}_{end}_s"].to_numpy(np.float64) for route in ("join", "guest") for end in ("lower", "upper")
    ]
    low, high, guest_low, guest_high = ends
    first = ~(_even(low, high, rng.random(times.shape)) > _even(guest_low, guest_high, rng.random(times.shape)))
    later = _even(np.fmax(low, times), np.fmax(high, times), rng.random(times.shape))
    return np.where(first, times, later)


def _even(low: Floats, high: Floats, u: Floats) -> Floats:
    """Evenly in (low, high]; inf where that has no end, NaN where it is not known."""
    from_s = np.where(np.isfinite(low), low, np.minimum(high, 0.0))
    with np.errstate(invalid="ignore"):
        even = high - u * (high - from_s)
    return np.where(np.isinf(high), _INF, even)


def impute(law: DelayLaw, data: Rows, rng: np.random.Generator, imputations: int = IMPUTATIONS) -> Floats:
    """Instants drawn from `law` within each row's (lower, upper]: shape (imputations, n); inf for never.

    A row to which the law gives no mass is drawn evenly in its interval. What a row never seen would draw later than
    anything was seen is never: the smoothed law reaches beyond the end of watching, of which nothing is known.
    """
    low = law.cdf(data.below)
    mass = law.cdf(data.upper) - low
    u = rng.random((imputations, len(low)))
    drawn = np.asarray(law.quantile(np.minimum(low + u * mass, 1.0)))
    drawn = np.clip(drawn, np.nextafter(data.lower, _INF), data.upper)
    from_s = np.where(np.isfinite(data.lower), data.lower, np.minimum(data.upper, 0.0))
    with np.errstate(invalid="ignore"):
        even = data.upper - u * (data.upper - from_s)
    found = np.where(mass > 1e-9, drawn, np.where(np.isinf(data.upper), _INF, even))
    return np.where(np.isinf(data.upper) & (found > last_seen(data)), _INF, found)


def last_seen(data: Rows) -> float:
    """The latest age by which anything was seen to come, seconds; -inf when nothing was."""
    return float(data.upper[np.isfinite(data.upper)].max(initial=-_INF))


def extremes(data: Rows) -> Floats:
    """The instants that the rows allow at their latest, the latest that come at all, and the earliest: shape (3, n).

    A row never seen may have come after its lower end where others were seen later; else it is never.
    """
    last = last_seen(data)
    comes = np.isfinite(data.upper) | (data.lower < last)
    coming = np.where(np.isfinite(data.upper), data.upper, np.where(comes, last, _INF))
    earliest = np.where(comes, np.minimum(np.nextafter(data.lower, _INF), coming), _INF)
    return np.stack([data.upper, coming, np.maximum(earliest, -1e12)])


def drawn_sums(values: Floats, counts: Floats) -> Floats:
    """Sum over rows of values, shape (m, n), by counts, shape (draws, n): draw d takes values[d modulo m]."""
    found = np.empty(len(counts))
    for row, each in enumerate(values):
        found[row :: len(values)] = counts[row :: len(values)] @ each
    return found


def metrics(scores: Scores, counts: Floats | None = None) -> dict[str, Floats]:
    """METRICS of each imputation, shape (m,); or, with counts of shape (draws, n), of each draw, shape (draws,).

    Draw d takes imputation d modulo m: so its spread holds the error of imputing, too.
    """

    def total(values: Floats) -> Floats:
        return np.asarray(values.sum(axis=1)) if counts is None else drawn_sums(values, counts)

    n = np.full(len(scores.joined), scores.joined.shape[1]) if counts is None else counts.sum(axis=1)
    joined = total(scores.joined)
    with np.errstate(invalid="ignore", divide="ignore"):
        delay = np.asarray(total(scores.delay) / joined, dtype=np.float64)
    return {
        "joined_share": joined / n,
        "lost_share": total(scores.lost) / n,
        "mean_delay_s": delay,
        "requests_per_join": total(scores.requests) / n,
    }


@dataclass(frozen=True, slots=True)
class Played:
    """A policy's `scores` of the imputed instants, `ends` of the extremes, each with each of its courses.

    troubled: these differ by what failed, too, which no interval bounds: bounds are of the mean over them.
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


@dataclass(frozen=True)
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
    scores: Scores = field(repr=False)


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
) -> list[Replay]:
    """Policies over the nests of `timelines` (as nestobs.timelines gives them), the baseline first.

    policy: one or several, by value or name. arrivals: ages at which people ask, seconds; None: evenly from 0 to 30 s,
    the window in which today's client retries. round_trip_s: of an API request. failures: of requests, as
    failures.failures measures them; None: of a network that always answers. rng: a numpy Generator; None: a fixed seed.
    Raises DataError when no nest of `timelines` has a join layer with an origin.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    delays = joinable(timelines, signed_in=signed_in)
    if delays.empty:
        raise DataError("these timelines hold no api:join or api:guest of a nest whose start is known: observe some")
    wanted = [policy] if isinstance(policy, Policy | str) else list(policy)
    chosen = [named_policy(one) if isinstance(one, str) else one for one in wanted]
    ages = middles(np.linspace(0.0, 30.0, 31) if arrivals is None else np.asarray(arrivals, dtype=np.float64))
    arena = Arena(recorded(delays, rng), ages, prices or PRICES, signed_in, round_trip_s, draws, rng, failures)
    return arena.compare([baseline, *(one for one in chosen if one != baseline)])


def middles(ages: Floats, count: int = ARRIVALS) -> Floats:
    """`count` ages that stand for a sample of them: quantiles at the middles of equal parts."""
    if not len(ages) or not np.isfinite(ages).all():
        raise DataError("arrivals are ages in seconds, at least one, none infinite")
    return np.asarray(np.quantile(ages, (np.arange(count) + 0.5) / count))


class Arena:
    """Nests, joiners and resamples that policies are compared on: the same for each.

    Resampling cannot draw what was not seen, and a lost join is rare and dear: where none was seen, the plain bootstrap
    would be certain of none. So each draw's lost share gets half an event more, gamma-distributed (with the events
    drawn, Jeffreys' posterior of a rate), and its cost the price of that; its mean delay and requests get half a nest
    more that took one round more.

    failures: of requests. Each imputation has its own share of them, drawn from what their counts leave open, and goes
    by courses of its own: since draw d takes imputation d modulo m, intervals hold that error, too.
    """

    def __init__(  # noqa: PLR0917 - one place makes it, with all it has
        self,
        nests: Recorded,
        arrivals: Floats,
        prices: Prices,
        signed_in: bool,
        round_trip_s: float,
        draws: int,
        rng: np.random.Generator,
        failures: Failures | None = None,
    ) -> None:
        self.nests, self.arrivals, self.prices = nests, arrivals, prices
        self.signed_in, self.round_trip_s = signed_in, round_trip_s
        self.seed = int(rng.integers(2**63))
        self.counts = block_counts(nests.blocks, draws, rng).astype(np.float64)
        self.blocks = len(np.unique(nests.blocks))
        self.unseen = rng.gamma(0.5, size=draws) / nests.nests
        self.failures = failures if failures is not None and failures.seen else None
        self.shares: Floats | None = None
        if self.failures is not None:
            self.shares = drawn_shares(self.failures, rng, len(nests.times))
        self._ways: dict[Policy, list[list[Course]]] = {}

    def courses(self, policy: Policy) -> list[list[Course]]:
        """Driven with the same chances for each policy, once; where requests fail, one course an imputation."""
        if policy not in self._ways:
            self._ways[policy] = courses(
                policy,
                self.arrivals,
                np.random.default_rng(self.seed),
                signed_in=self.signed_in,
                round_trip_s=self.round_trip_s,
                failures=self.failures,
                shares=self.shares,
            )
        return self._ways[policy]

    def play(self, policy: Policy, nests: Recorded | None = None) -> Played:
        """A policy on the nests, all or some."""
        nests, ways = self.nests if nests is None else nests, self.courses(policy)
        most = max(len(shapes) for shapes in ways)
        each, own = (np.repeat(ends, most, axis=0) for ends in (nests.extremes, nests.own_ends))
        imputed = score(ways, nests.times, nests.gone, nests.own)
        return Played(imputed, score(ways, each, nests.gone, own), self.failures is not None)

    def cost(self, scores: Scores) -> Number:
        """Per joiner, with the price of what was not seen."""
        each = scores.cost(self.prices)
        drawn = drawn_sums(each, self.counts) / self.counts.sum(axis=1)
        return self._number(float(each.mean()), drawn + self.prices.lost_value * self.unseen)

    def difference(self, scores: Scores, base: Scores) -> Number:
        """Of cost per joiner, on the same draws."""
        return self.of(lambda one: one.cost(self.prices) - base.cost(self.prices), scores)

    def compare(self, policies: Sequence[Policy]) -> list[Replay]:
        """Each policy, and its differences to the first."""
        found: list[Replay] = []
        for policy in policies:
            found.append(self.judge(policy, self.play(policy), found[0].scores if found else None))
        return found

    def judge(self, policy: Policy, played: Played, base: Scores | None) -> Replay:
        """What came of a policy, against another's scores."""
        scores = played.scores
        return Replay(
            policy,
            self.numbers(scores, self.courses(policy)),
            played.bounds(),
            self.differences(scores, base) if base else {},
            self.cost(scores),
            self.of(lambda one: one.cost(self.prices) - self._clairvoyant(), scores),
            played.ambiguous,
            self.nests.n,
            len(np.unique(self.nests.blocks)),
            len(self.arrivals),
            scores,
        )

    def numbers(self, scores: Scores, ways: Sequence[Sequence[Course]]) -> dict[str, Number]:
        """METRICS with their intervals, of a policy with these courses."""
        drawn, now = metrics(scores, self.counts), metrics(scores)
        spread, more = self._spread(scores), {"lost_share": 1.0} | _one_round_more(ways)
        for name, size in more.items():
            drawn[name] = drawn[name] + self.unseen * size
            spread[name] = math.hypot(spread[name], size * math.sqrt(0.5 / self.nests.nests))
        return {name: self._number(float(np.mean(now[name])), drawn[name], spread[name]) for name in METRICS}

    def differences(self, scores: Scores, base: Scores) -> dict[str, Number]:
        """METRICS of one less METRICS of the other, on the same draws."""
        drawn, now = metrics(scores, self.counts), metrics(scores)
        other, then = metrics(base, self.counts), metrics(base)
        return {
            name: self._number(float(np.mean(now[name] - then[name])), drawn[name] - other[name]) for name in METRICS
        }

    def of(self, values: Callable[[Scores], Floats], scores: Scores) -> Number:
        """The mean of a value per row, shape (m, n), with its interval."""
        each = values(scores)
        drawn = drawn_sums(each, self.counts) / self.counts.sum(axis=1)
        return self._number(float(each.mean()), drawn)

    def _number(self, value: float, drawn: Floats, sd: float = math.nan) -> Number:
        kept = drawn[~np.isnan(drawn)]
        if not len(kept):
            return Number(value, math.nan, math.nan, sd)
        low, high = percentile(kept, LEVEL, self.blocks)
        return Number(value, min(float(low), value), max(float(high), value), sd)

    def _clairvoyant(self) -> Floats:
        """Cost of asking once, when it will succeed: one request, no delay, nothing lost."""
        comes = np.isfinite(self.nests.times) & (self.nests.gone > self.nests.times)
        return np.where(comes, self.prices.request_cost, 0.0)

    def _spread(self, scores: Scores) -> dict[str, float]:
        """Standard deviation between joiners; of the delay, between those who joined."""
        joined, lost = float(scores.joined.mean()), float(scores.lost.mean())
        requests = float(scores.requests.mean())
        delay = float(scores.delay.mean()) / joined if joined else math.nan
        return {
            "joined_share": math.sqrt(max(0.0, joined * (1.0 - joined))),
            "lost_share": math.sqrt(max(0.0, lost * (1.0 - lost))),
            "mean_delay_s": math.sqrt(max(0.0, float(scores.delay_squared.mean()) / joined - delay**2))
            if joined
            else math.nan,
            "requests_per_join": math.sqrt(max(0.0, float(scores.requests_squared.mean()) - requests**2)),
        }


def _one_round_more(ways: Sequence[Sequence[Course]]) -> dict[str, float]:
    """What a second round costs a joiner: seconds of delay and requests; of policies that make none, one request."""
    rounds = [(0.0, 0.0)]
    for way in (way for shapes in ways for way in shapes):
        first = np.flatnonzero(way.own if way.own.any() else ~way.own)[:2]
        if len(first) == 2:
            rounds.append((np.diff(way.answered[first])[0], np.diff(way.requests[first])[0]))
    delay, requests = np.max([np.mean(rounds[1:] or rounds, axis=0), (ways[0][0].round_trip_s, 1.0)], axis=0)
    return {"mean_delay_s": float(delay), "requests_per_join": float(requests)}


def predictive(name: str, number: Number, joins: int, nests: int = 0, *, level: float = LEVEL) -> tuple[float, float]:
    """Where METRICS[name] of `joins` fresh joins, one a nest, will be with probability `level`.

    The error of the estimate and that of the sample: for shares a beta-binomial law whose beta has the estimate's mean
    and spread (with Jeffreys' half an event), for means a normal one. joins: for mean_delay_s, those that joined.
    nests: that the estimate rests on; what a share is worth that less than one of them would make, where resampling
    knows nothing. Without a value, an interval or, of a mean, an sd: (-inf, inf).
    """
    tail = (1.0 - level) / 2.0
    error = (number.upper - number.lower) / (2.0 * float(special.ndtri(0.975)))
    if joins < 1 or not math.isfinite(number.value) or not math.isfinite(error):
        return -_INF, _INF
    if name.endswith("_share"):
        known = number.value * (1.0 - number.value) / max(error**2, 1e-9)
        if min(number.value, 1.0 - number.value) * nests < 1.0:
            known = nests
        from scipy import stats  # .6 s at import, and nothing else here needs it

        law = stats.betabinom(joins, number.value * known + 0.5, (1.0 - number.value) * known + 0.5)
        return float(law.ppf(tail)) / joins, float(law.ppf(1.0 - tail)) / joins
    if not math.isfinite(number.sd):
        return -_INF, _INF
    reach = float(special.ndtri(1.0 - tail)) * math.hypot(error, number.sd / math.sqrt(joins))
    return max(0.0, number.value - reach), number.value + reach


def frame(replays: Iterable[Replay]) -> pd.DataFrame:
    """One row per policy and metric: policy, metric, value, lower, upper, least, greatest (bounds), difference,
    difference_lower, difference_upper (to the first policy; NaN for itself)."""
    made = []
    for one in replays:
        for name, number in one.numbers.items():
            apart = one.against.get(name, Number(math.nan, math.nan, math.nan))
            least, greatest = one.bounds[name]
            made.append(
                {
                    "policy": one.policy.name,
                    "metric": name,
                    "value": number.value,
                    "lower": number.lower,
                    "upper": number.upper,
                    "least": least,
                    "greatest": greatest,
                    "difference": apart.value,
                    "difference_lower": apart.lower,
                    "difference_upper": apart.upper,
                }
            )
    return pd.DataFrame(made)
