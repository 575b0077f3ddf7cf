"""Tables of a recommendation and of its proof: every number in words, with its interval."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from nestobs.figures import amount, percent, span
from nestobs.figures.decisions import decided
from nestobs.observation.columns import records
from nestobs.reports.display import Table, numbers
from nestobs.tuning.decisions import never_share
from nestobs.tuning.replay import COST, METRICS
from nestobs.tuning.threshold import Clock, Joiners, message_errors

if TYPE_CHECKING:
    from nestobs.estimate.npmle import DelayLaw, Number, Resampled
    from nestobs.tuning.recommendation import Recommendation

_RELAY: Final = re.compile(r"\bwss?://([^\s/,;]+)[^\s,;]*")

SKEWS_S: Final = (0.0, 1.0, -1.0, 5.0, -5.0, 30.0, -30.0)
_NAMES: Final = dict(zip(METRICS, ("joined", "lost", "mean delay, s", "requests per join"), strict=True))

_PAIRS: Final = {
    COST: ("cost in all, s of waiting", 1.0, 2),
    "joined_share": ("joined, %", 100.0, 1),
    "lost_share": ("lost, %", 100.0, 1),
    "mean_delay_s": ("mean delay, s", 1.0, 2),
    "requests_per_join": ("requests", 1.0, 2),
}
"""What differs -> in words, the unit's size, and digits after the point."""


def policies(found: Recommendation) -> Table:
    """What each policy would have done: each metric and the cost with their intervals."""
    return numbers(
        {
            "policy": _role(found, one.policy.name),
            **{_NAMES[name]: of_metric(name, number) for name, number in one.numbers.items()},
            "cost, s of waiting": with_ends(one.cost),
        }
        for one in found.replays
    )


def _role(found: Recommendation, name: str) -> str:
    roles = [word for word, policy in (("today", found.today), ("advised", found.policy)) if policy.name == name]
    return f"{name} ({', '.join(roles)})" if roles else name


def persons(found: Recommendation) -> Table:
    """How the comparison to today's rule moves with the person who presses Retry."""
    name = found.tuned.name if found.kept else found.policy.name
    return numbers(
        {
            "half press within, s": f"{one.reaction_s:g}",
            "leave after each failure": percent(one.leaves),
            f"joined, {found.today.name}": percent(one.joined),
            f"lost, {found.today.name}": percent(one.lost),
            f"cost, s of waiting: {name} less {found.today.name}": with_ends(one.apart),
        }
        for one in found.persons
    )


def differences(found: Recommendation) -> Table:
    """What each policy would have done, less what today's rule would have."""
    return numbers(
        {
            "less today's": _role(found, one.policy.name),
            **{_NAMES[name]: signed(name, number) for name, number in one.against.items()},
        }
        for one in found.replays
        if one.against
    )


def thresholds(found: Recommendation) -> Table:
    """The message threshold of each cost ratio, and its interval."""
    rows = []
    for ratio, number in found.thresholds.items():
        used = ratio == found.terms.cost_ratio
        rows.append(
            {
                "ρ": f"{ratio:g}{' (used)' if used else ''}",
                "starting up while likelier than": percent(ratio / (1.0 + ratio)),
                "threshold, s (95 %)": with_ends(number),
            }
        )
    return numbers(rows)


def errors(found: Recommendation) -> Table:
    """How often today's threshold, and the advised one where it is another, say the wrong thing, as clocks differ."""
    ways: list[tuple[str, float, Clock]] = [(_skew(skew_s), skew_s, "joiner") for skew_s in SKEWS_S]
    ways.append(("read from the answer's Date", 0.0, "date"))
    turns = dict.fromkeys((found.today.message_threshold_s, found.policy.message_threshold_s))
    resampled = decided(found)
    rows = []
    for words, skew_s, clock in ways:
        row = {"the joiner's clock": words}
        for turn in turns:
            row |= _wrong(found, resampled, turn, skew_s, clock)
        rows.append(row)
    return numbers(rows)


def _skew(skew_s: float) -> str:
    return "right" if not skew_s else f"{abs(skew_s):g} s {'ahead' if skew_s > 0 else 'behind'}"


def _wrong(found: Recommendation, resampled: Resampled, turn: float, skew_s: float, clock: Clock) -> dict[str, str]:
    """Two cells: the rates of both false messages when the message turns at `turn` seconds."""
    joiners = Joiners.of(found.terms.arrivals)

    def rates(law: DelayLaw, never: float | None = None) -> tuple[float, float]:
        made = message_errors(law, never, turn, joiners, skew_s=skew_s, clock=clock)
        return made.false_starting, made.false_gone

    values, (low, high) = rates(found.smooth, never_share(found.smooth)), resampled.interval(rates)
    names = (f"{turn:g} s: false “{name}”" for name in ("starting up", "no longer"))
    return {
        name: f"{percent(value)} ({percents(min(least, value), max(most, value))})"
        for name, value, least, most in zip(names, values, low, high, strict=True)
    }


def sharing(found: Recommendation) -> Table:
    """From which age so many joiners succeed at once, at the slowest vantage."""
    return numbers(
        {"joiners who succeed at once": percent(share), "if shared at age, s (95 %)": with_ends(number)}
        for share, number in found.sharing_age_s.items()
    )


def strata(found: Recommendation) -> Table:
    """Nests that differ from the others, and what the common policy costs them."""
    return numbers(
        {
            "same": f"{one.kind}: {without_schemes(one.name) or 'none'}",
            "intervals": str(one.n),
            "threshold, s": amount(one.threshold_s),
            "give up at, s": amount(one.give_up_age_s),
            "the common policy costs more by": percent(one.regret),
            "a policy of their own": "would pay" if one.differs else "would not pay",
        }
        for one in found.strata
    )


def without_schemes(text: str) -> str:
    """A text in which each relay's URL is its host: a URL with its path is too long for a sentence of several."""
    return _RELAY.sub(r"\1", text)


def peaks(found: Recommendation) -> Table:
    """What a server sees of a crowd, in one virtual run of each policy."""
    return numbers(
        {
            "policy": _role(found, one.policy),
            "joiners": str(one.joiners),
            "requests": str(one.requests),
            "in the busiest second": str(one.peak_per_s),
            "joined": percent(one.joined_share),
        }
        for one in found.peaks
    )


def proof(cells: pd.DataFrame) -> Table:
    """Each number that was predicted, and what came. cells: as realised.cells gives them."""
    return numbers(
        {
            "policy": cell.policy,
            "": _NAMES[cell.metric],
            "predicted (95 % of so many joins)": _predicted(cell),
            "came": _came(cell),
            "joins": str(cell.n),
            "inside": "not judged" if pd.isna(cell.inside) else "yes" if cell.inside else "no",
        }
        for cell in records(cells)
    )


def pairs(found: pd.DataFrame) -> Table:
    """How two joins of one nest differed, predicted and as it came. found: as prediction.paired gives it."""
    return numbers(
        {
            "a join under the policy, less one under today's rule": _PAIRS[one.metric][0],
            "predicted (95 % of so many pairs)": _apart(one.metric, one.value, one.lower, one.upper),
            "came (95 %)": _apart(one.metric, one.realised, one.realised_lower, one.realised_upper),
            "pairs": str(one.n),
            "as predicted": "not judged" if pd.isna(one.inside) else "yes" if one.inside else "no",
        }
        for one in records(found)
        if one.metric in _PAIRS
    )


def _apart(metric: str, value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "nothing"
    _, unit, places = _PAIRS[metric]
    told = f"{unit * value:+.{places}f}"
    return f"{told} ({unit * low:+.{places}f} to {unit * high:+.{places}f})" if math.isfinite(high) else told


def _predicted(cell: Any) -> str:
    if math.isnan(cell.value):
        return "nothing"
    if cell.metric.endswith("_share"):
        return f"{percent(cell.value)} ({percents(max(cell.lower, 0.0), min(cell.upper, 1.0))})"
    return f"{amount(cell.value)} ({span(cell.lower, cell.upper)})"


def _came(cell: Any) -> str:
    if math.isnan(cell.realised):
        return "nobody joined"
    if cell.metric.endswith("_share"):
        return percent(cell.realised)
    return amount(cell.realised) + (f" ± {amount(cell.error_s)}" if cell.error_s > 0 else "")


# numbers in words


def percents(low: float, high: float) -> str:
    """The ends of an interval of shares."""
    return f"{percent(float(low)).removesuffix(' %')} to {percent(float(high))}"


def with_ends(number: Number) -> str:
    """A number with its interval, where it has one."""
    value = amount(number.value) if math.isfinite(number.value) else "not within the watch"
    return value if math.isnan(number.lower) else f"{value} ({span(number.lower, number.upper)})"


def of_metric(metric: str, number: Number) -> str:
    """A metric with its interval, shares in percent."""
    if math.isnan(number.value):
        return "nobody joins"
    if metric.endswith("_share"):
        return f"{percent(number.value)} ({percents(number.lower, number.upper)})"
    return with_ends(number)


def signed(metric: str, number: Number) -> str:
    """A difference, in points of percent for shares."""
    if math.isnan(number.value):
        return "nobody joins"
    scale, unit = (100.0, " points") if metric.endswith("_share") else (1.0, "")
    value, low, high = (scale * one for one in (number.value, number.lower, number.upper))
    if max(abs(low), abs(high)) < 0.005:
        return "the same"
    return f"{value:+.2f}{unit} ({low:+.2f} to {high:+.2f})"
