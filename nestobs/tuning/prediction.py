"""What real joins came to, in the terms of replay, and whether it is what replay predicted.

One row a join: whether it got in, how long that took, what it cost. The definitions are those of simulation.Scores,
with what was seen in place of what is known in virtual time:

    joined      the verdict is one of decision.JOINED, by a token that was seen
    lost        as of every join (timeline/seats.py); the share is of those of which it is known
    delay       from when the nest was joinable, or the join's first request, if later, to the answer with the token
    requests    API requests made

A nest became joinable within an interval only (delays.joinable). The middle is taken; half the range that the ends
would give is the error of that. A join's own answer bounds its nest's interval like any other poll, so the interval of
somebody who waited is no wider than the wait.

A prediction is a value with its error and the spread between joiners (npmle.Number). So many fresh joins should
fall into the interval of `predictive`, in 95 of 100 cells. How fast requests are answered is no part of a policy:
the delay is predicted for the requests as fast as they were answered this time, moved by what those that led to the
token took beyond the round trip that was assumed.

Two policies that joined the same nests at the same instants are compared by pairs (`paired`): what they share falls
out. `helped` says in a sentence what came of it, and what so many pairs could not have shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import special

from nestobs.estimate import pairs
from nestobs.estimate.npmle import Number
from nestobs.estimate.proportion import LEVEL
from nestobs.join.decision import Kind
from nestobs.observation.columns import records
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Operation, Outcome, Role, Source
from nestobs.observation.text import percent
from nestobs.timeline.delays import joinable
from nestobs.timeline.joins import joins, verdicts
from nestobs.tuning.costs import Prices
from nestobs.tuning.replay import COST, METRICS, pair_differences
from nestobs.tuning.simulation import Scores

OUTCOMES: Final = {
    "unit": "str",
    "vantage": "str",
    "policy": "str",
    "signed_in": "bool",
    "asked_s": "float64",
    "joined": "bool",
    "lost": "boolean",
    "delay_s": "float64",
    "error_s": "float64",
    "requests": "int64",
    "path_s": "float64",
    "path": "int64",
    "vain_s": "float64",
    "listener": "bool",
    "listening_s": "float64",
}
"""Columns of `outcomes` and their dtypes."""

CELLS: Final = {
    "policy": "str",
    "metric": "str",
    "value": "float64",
    "lower": "float64",
    "upper": "float64",
    "realised": "float64",
    "error_s": "float64",
    "n": "int64",
    "inside": "boolean",
}
"""Columns of `cells` and their dtypes."""

PAIRED: Final = {
    "metric": "str",
    "value": "float64",
    "lower": "float64",
    "upper": "float64",
    "realised": "float64",
    "realised_lower": "float64",
    "realised_upper": "float64",
    "sd": "float64",
    "n": "int64",
    "inside": "boolean",
    "fails": "float64",
    "seen": "float64",
}
"""Columns of `paired` and their dtypes."""

_EVER: Final = -1e12
"""Before anything, seconds: what stands for a lower end at -inf."""

HELPED: Final = ("helped", "worse", "no_difference", "too_few")
POWER_WORDS: Final = f"{100 * pairs.POWER:.0f} % power"

_LISTENING: Final = {"listener": "listener", "listening": "listening_s"}
_TOKENS: Final = (Operation.JOIN, Operation.GUEST)
_ASKS: Final = (Operation.INFO, *_TOKENS)


def outcomes(observations: pd.DataFrame, timelines: pd.DataFrame, *, patience_s: float = 0.0) -> pd.DataFrame:
    """One row per join that came to a verdict about a nest of known origin, with the columns of OUTCOMES.

    `observations` as Store.frame gives them, `timelines` made of the same. asked_s: age at the join's first request.
    delay_s and error_s, half the range that the interval leaves: NaN when not joined. path: requests of the last round
    up to the one that gave the token, from the first that was answered; path_s: how much of the delay they took; 0 and
    NaN when not joined. vain_s: from arrival to verdict, 0 when joined. listener: signed in, and a guest to the end
    though the nest's authenticated route, proven to be the later one, came too; listening_s: from the guest's token to
    the own one, of whoever had both. All on the clock of the vantage: meant for one
    vantage, the host's own. patience_s: as `joins` takes it; beside what replay predicted, its simulation.PATIENCE_S.
    """
    made = joins(observations, timelines, patience_s=patience_s)
    found = made.merge(_requests(observations), on=["run_id", "attempt_group"], how="left")
    found = found.assign(
        unit=found["trace_id"].where(found["trace_id"] != "", found["nest"]),
        signed_in=found["role"] == Role.JOINER,
        sent_at=found["asked_at"].fillna(found["arrived_at"].astype("int64")).astype("int64"),
    )
    parts = []
    for way in (True, False):
        delays = joinable(timelines, signed_in=way)
        late = (delays["guest_upper_s"] <= delays["join_lower_s"]) & np.isfinite(delays["join_upper_s"])
        delays = delays[["unit", "vantage", "lower_s", "upper_s", "origin_at"]].assign(own_late=late)
        parts.append(found[found["signed_in"] == way].merge(delays, on=["unit", "vantage"]))
    scored = _scored(pd.concat(parts, ignore_index=True))
    return scored.sort_values(["unit", "vantage", "policy", "asked_s"], ignore_index=True)


def span(observations: pd.DataFrame) -> tuple[str, ...]:
    """When the first join that came to a verdict began and when the last one ended: ISO 8601, UTC; () for none."""
    rows = observations[verdicts(observations)]
    ends = pd.to_datetime([int(rows["sent_at"].min()), int(rows["received_at"].max())]) if len(rows) else ()
    return tuple(f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in ends)


def _requests(observations: pd.DataFrame) -> pd.DataFrame:
    """Per run and attempt group: asked_at, when its first API request was sent; and, in seconds after that, NaN where
    no token came: token_s, when the last one came (of one's own after a guest's: the guest's), round_s, when the first
    answered request of its round was sent; path: requests between; listening_s: from a guest's token to the own one."""
    asked = observations["source"].isin([Source.API]) & observations["operation"].isin(_ASKS)
    asked &= observations["role"].isin([Role.JOINER, Role.GUEST]) & observations["received_at"].notna()
    rows = observations[asked]
    proven = rows["outcome"].isin([Outcome.VISIBLE, Outcome.ABSENT])
    rows = rows.assign(proven=proven, given=rows["operation"].isin(_TOKENS) & rows["outcome"].isin([Outcome.VISIBLE]))
    groups = rows.sort_values("sent_at", kind="stable").groupby(["run_id", "attempt_group"], sort=False)
    found = [(*key, *_path(part)) for key, part in groups]
    kinds = {"run_id": "str", "attempt_group": "str", "asked_at": "Int64"}
    kinds |= dict.fromkeys(("round_s", "token_s", "path", "listening_s"), "float64")
    return pd.DataFrame(found, columns=list(kinds)).astype(kinds)


def _path(part: pd.DataFrame) -> tuple[int, float, float, int, float]:
    sent, operation = part["sent_at"].to_numpy("int64"), part["operation"].to_numpy(str)
    given = np.flatnonzero(part["given"])
    if not len(given):
        return int(sent[0]), math.nan, math.nan, 0, 0.0
    guests = given[operation[given] == Operation.GUEST]
    last = guests[-1] if len(guests) else given[-1]
    begin = np.flatnonzero(operation[: last + 1] == operation[0])[-1]  # each round begins with the same request
    begin += np.flatnonzero(part["proven"].iloc[begin : last + 1])[0]  # an info that failed took no round trip
    token_s, end_s = ((int(part["received_at"].iloc[at]) - sent[0]) / SECOND_NS for at in (last, given[-1]))
    begun_s = float(sent[begin] - sent[0]) / SECOND_NS
    return int(sent[0]), begun_s, float(token_s), int(last - begin + 1), float(end_s - token_s)


def _scored(rows: pd.DataFrame) -> pd.DataFrame:
    origin = rows["origin_at"].astype("int64")
    asked = ((rows["sent_at"] - origin) / SECOND_NS).to_numpy(np.float64)
    token = asked + rows["token_s"].to_numpy(np.float64)  # NaN where none came
    joined = rows["joined"].to_numpy(bool) & ~np.isnan(token)
    upper = np.where(joined, np.fmin(rows["upper_s"], token), rows["upper_s"])
    lower = np.maximum(np.minimum(rows["lower_s"], upper), _EVER)
    latest, earliest = np.maximum(upper, asked), np.maximum(lower, asked)
    since = np.maximum((lower + upper) / 2.0, asked)
    made = {
        "asked_s": asked,
        "joined": joined,
        "delay_s": np.where(joined, token - since, math.nan),
        "error_s": np.where(joined, (latest - earliest) / 2.0, math.nan),
        "path_s": np.where(joined, token - np.maximum(asked + rows["round_s"].to_numpy(np.float64), since), math.nan),
        "path": np.where(joined, rows["path"].to_numpy(np.float64), 0),
        "vain_s": np.where(joined, 0.0, rows["elapsed_s"].to_numpy(np.float64)),
        "listener": (rows["verdict"] == Kind.GUEST_INSTEAD) & rows["own_late"],
        "listening_s": np.where((rows["verdict"] == Kind.AUTHENTICATED) & rows["own_late"], rows["listening_s"], 0.0),
    }
    return rows.assign(**made)[list(OUTCOMES)].astype(OUTCOMES)


def realised(joins: pd.DataFrame) -> dict[str, tuple[float, float, int]]:
    """METRICS of some rows of `outcomes`: (value, error, of so many joins). NaN where there are none.

    error: by how much the value may be off because instants are known as intervals. lost_share: of the joins of which
    it is known.
    """
    n, got_in, lost = len(joins), int(joins["joined"].sum()), joins["lost"].dropna().astype("float64")
    return {
        "joined_share": (float(joins["joined"].mean()), 0.0, n),
        "lost_share": (float(lost.mean()), 0.0, len(lost)),
        "mean_delay_s": (float(joins["delay_s"].mean()), float(joins["error_s"].mean()), got_in),
        "requests_per_join": (float(joins["requests"].mean()), 0.0, n),
    }


def slower_s(joins: pd.DataFrame, round_trip_s: float) -> float:
    """By how much the joins of `outcomes` took longer because requests did not take `round_trip_s`; mean, seconds.

    0 when nobody joined.
    """
    got_in = joins[joins["joined"]]
    return float((got_in["path_s"] - got_in["path"] * round_trip_s).mean()) if len(got_in) else 0.0


def cells(
    joins: pd.DataFrame,
    predicted: Mapping[str, Mapping[str, Mapping[str, float | int | None]]],
    names: Sequence[str],
    *,
    round_trip_s: float = 0.0,
) -> pd.DataFrame:
    """What was predicted beside what came, one row a policy and metric, with the columns of CELLS.

    joins: `outcomes`. predicted: policy -> metric -> cell, as in policy_file, where a request takes `round_trip_s`.
    names: the policies, in order. value: predicted, of mean_delay_s with the requests as fast as they were; [lower,
    upper]: where the value of n such joins should fall, 95 %. inside: whether it did; NA where nothing was predicted or
    nobody joined, (lower, upper) then being (-inf, inf).
    """
    rows = []
    for name in names:
        mine, told = joins[joins["policy"] == name], predicted.get(name, {})
        moved = {"mean_delay_s": slower_s(mine, round_trip_s)}
        for metric, (value, error, n) in realised(mine).items():
            number, nests = number_of(told.get(metric, {}), moved.get(metric, 0.0))
            lower, upper = predictive(metric, number, n, nests)
            lower = max(lower, 0.0) if math.isfinite(lower) else lower
            inside = lower <= value <= upper if math.isfinite(upper) else None
            rows.append((name, metric, number.value, lower, upper, value, error, n, inside))
    return pd.DataFrame(rows, columns=list(CELLS)).astype(CELLS)


def paired(
    joins: pd.DataFrame,
    predicted: Mapping[str, Mapping[str, float | int | None]],
    names: tuple[str, str],
    prices: Prices,
    *,
    round_trip_s: float = 0.0,
) -> pd.DataFrame:
    """How joins under names[1] differ from those under names[0] at the same nests, a row for COST and each of METRICS,
    with the columns of PAIRED. Nests that only one of them joined do not count.

    joins: `outcomes`. predicted: metric -> cell, as in policy_file.differences, where a request takes `round_trip_s`;
    empty: nothing is. prices: with a finite lost_value. value: predicted, with the requests as fast as they were;
    [lower, upper]: where the difference of n such pairs should fall, 95 %, (-inf, inf) where nothing says. realised,
    its interval and sd: of the pairs, as pairs.mean. n: pairs; of COST and the lost share those of which it is known
    whether either is lost. inside: whether it fell there; NA where nothing was predicted. fails: the chance that it had
    not, if the two did not differ; seen: the least difference that so many pairs show with a chance of pairs.POWER.
    """
    today, mine = (joins[joins["policy"] == name].drop_duplicates(["unit", "vantage"]) for name in names)
    both = mine.merge(today, on=["unit", "vantage"], suffixes=("", "_other"))
    known = both[both["lost"].notna() & both["lost_other"].notna()]
    every, sure = (pair_differences(_scores(rows), _scores(rows, "_other"), prices) for rows in (both, known))
    slower = [(slower_s(rows, round_trip_s), float(rows["joined"].mean())) for rows in (mine, today)]
    moved = {
        "mean_delay_s": slower[0][0] - slower[1][0],
        COST: prices.delay_cost * (slower[0][0] * slower[0][1] - slower[1][0] * slower[1][1]),
    }
    units = {"joined_share": 1.0, "lost_share": 1.0, COST: prices.lost_value}
    rows = []
    for metric in (COST, *METRICS):
        unit, each = units.get(metric, 0.0), (sure if metric in (COST, "lost_share") else every)[metric]
        each = each[np.isfinite(each)]
        came, n = pairs.mean(each, unit), len(each)
        number, of = number_of(predicted.get(metric, {}), moved.get(metric, 0.0))
        lower, upper = pairs.expected(number, n, of, unit)
        inside = lower <= came.value <= upper if math.isfinite(upper) else None
        ends = (came.value, came.lower, came.upper, came.sd)
        told = (pairs.fails(number, n, of, unit), pairs.seen(came.sd, n, unit))
        rows.append((metric, number.value, lower, upper, *ends, n, inside, *told))
    return pd.DataFrame(rows, columns=list(PAIRED)).astype(PAIRED)


def _scores(rows: pd.DataFrame, suffix: str = "") -> Scores:
    """Some rows of `outcomes` as replay has them, shape (n,); lost where it is known."""
    joined, delay, requests, vain = (
        rows[f"{name}{suffix}"].fillna(0.0).to_numpy(np.float64) for name in ("joined", "delay_s", "requests", "vain_s")
    )
    lost = np.asarray(rows[f"lost{suffix}"].fillna(False), dtype=np.float64)
    listening = {name: rows[f"{column}{suffix}"].to_numpy(np.float64) for name, column in _LISTENING.items()}
    squared = {"delay_squared": delay**2, "requests_squared": requests**2}
    return Scores(joined=joined, lost=lost, delay=delay, requests=requests, vain=vain, **squared, **listening)


def helped(found: pd.DataFrame, names: tuple[str, str], prices: Prices) -> tuple[str, str]:
    """Did the change help? One of HELPED, and a sentence or two. found: `paired` of these names and prices."""
    [cost] = records(found[found["metric"] == COST])
    today, name = names
    pair = f"{cost.n} {'nest' if cost.n == 1 else 'nests'} that both joined"
    if not math.isfinite(cost.realised_upper):
        return "too_few", f"n was too small to tell: {pair}, and a difference needs two at least."
    came = f"{cost.realised:+.2f} s [{cost.realised_lower:+.2f}, {cost.realised_upper:+.2f}]"
    said = f"a join under {name} cost {came} against {today}, {pair}{_foretold(cost)}"
    if cost.realised_upper < 0:
        return "helped", f"The change helped: {said}."
    if cost.realised_lower > 0:
        return "worse", f"It made it worse: {said}."
    if not math.isfinite(cost.upper):
        return (
            "no_difference",
            f"No difference is shown: {said}; one of {cost.seen:.2f} s would be seen with {POWER_WORDS}.",
        )
    wanted = pairs.to_see(cost.value, cost.sd, prices.lost_value)
    if wanted is not None and wanted <= cost.n:
        return "no_difference", f"No difference is shown: {said}; one as predicted would be seen with {POWER_WORDS}."
    told = f"with n = {cost.n} one of {cost.seen:.2f} s would be seen with {POWER_WORDS}"
    if wanted is not None:
        told = f"with n = {wanted} a difference of {abs(cost.value):.2f} s would be seen with {POWER_WORDS}"
    return "too_few", f"n was too small to tell: {said}; {told}."


def _foretold(cost: Any) -> str:
    """Whether it came as predicted, and what that is worth."""
    if not math.isfinite(cost.upper):
        return ""
    held = "as predicted" if cost.inside else "not as predicted"
    told = f"; {held}: {cost.value:+.2f} s, so many within [{cost.lower:+.2f}, {cost.upper:+.2f}]"
    return f"{told}, which would fail in {percent(cost.fails)} of cases had the change done nothing"


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
        return -math.inf, math.inf
    if name.endswith("_share"):
        known = number.value * (1.0 - number.value) / max(error**2, 1e-9)
        if min(number.value, 1.0 - number.value) * nests < 1.0:
            known = nests
        from scipy import stats  # .6 s at import, and nothing else here needs it

        law = stats.betabinom(joins, number.value * known + 0.5, (1.0 - number.value) * known + 0.5)
        return float(law.ppf(tail)) / joins, float(law.ppf(1.0 - tail)) / joins
    if not math.isfinite(number.sd):
        return -math.inf, math.inf
    reach = float(special.ndtri(1.0 - tail)) * math.hypot(error, number.sd / math.sqrt(joins))
    return max(0.0, number.value - reach), number.value + reach


def number_of(cell: Mapping[str, float | int | None], moved: float = 0.0) -> tuple[Number, int]:
    """What a cell of a policy file says, moved by so much, and of how many nests it is."""
    value, lower, upper, sd = (
        math.nan if (part := cell.get(name)) is None else float(part) for name in ("value", "lower", "upper", "sd")
    )
    return Number(value + moved, lower + moved, upper + moved, sd), int(cell.get("n") or 0)
