"""What changed from one span of time to another: counts, shares and delays, each difference with its interval. Pure.

The intervals are those of difference.py; rows of one hour, or of one nest, count as the fewer that they prove
(dependence.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from nestobs.estimate.account import REQUEST_SHARES, Account
from nestobs.estimate.dependence import Blocked, blocks, design_effect, join_blocks, lost_joins, lost_share
from nestobs.estimate.difference import Ends, Estimate, Quantile, difference, ends, holm, poisson, rate_ratio, touching
from nestobs.estimate.proportion import LEVEL
from nestobs.join.decision import Kind
from nestobs.observation.arrays import Flags, Floats, Ints, busiest
from nestobs.observation.columns import unit_of
from nestobs.observation.window import Window
from nestobs.timeline.delays import created, joinable, made_at
from nestobs.timeline.joins import judged
from nestobs.timeline.nests import count_nests

Group = Literal["count", "share", "median", "ninth"]

MOST_RELAYS: Final = 6
"""Relays beyond the most watched are not compared: each comparison more makes the others' harder to believe."""

HOUR_S: Final = 3_600
JOINABLE: Final = "joinable"
"""When a join succeeds (delays.joinable), beside the layers."""

QUANTILES: Final[dict[Group, float]] = {"median": 0.5, "ninth": 0.9}


# two spans


@dataclass(frozen=True)
class Span:
    """What was observed in a window. account: of observations sent in it; timelines, joins: of nests made in it.
    worked_s: for so long the collector was at work; covered_s: that, and what its bursts stand for, None where there
    were none (uptime.bursts)."""

    window: Window
    worked_s: float
    account: Account
    timelines: pd.DataFrame
    joins: pd.DataFrame
    covered_s: float | None = None

    @property
    def coverage(self) -> float:
        """In which share of the window the collector was at work or had done what was planned, 0 to 1."""
        covered_s = self.worked_s if self.covered_s is None else max(self.covered_s, self.worked_s)
        return min(1.0, covered_s / self.window.seconds)

    @property
    def nests(self) -> int:
        """Different nests."""
        return count_nests(self.timelines)

    @cached_property
    def delays(self) -> dict[str, Delays]:
        """See `delay_rows`."""
        return delay_rows(self.timelines)

    @cached_property
    def join_shares(self) -> dict[str, tuple[Flags, Ints]]:
        """See `join_shares`."""
        return join_shares(self.joins)


def spans(
    rows: pd.DataFrame,
    timelines: pd.DataFrame,
    joins: pd.DataFrame,
    windows: Sequence[Window],
    worked_s: Sequence[float],
    *,
    covered_s: Sequence[float] = (),
) -> list[Span]:
    """A span for each window: `rows` as Store.frame gives them, also those around the windows, `timelines` and `joins`
    made of them. covered_s: none where there were no bursts. A nest belongs to the window it was made in; without an
    origin, to that of its first observation."""
    sent = rows["sent_at"].to_numpy(np.int64)
    accounts = [Account.of(rows[(sent >= window.start) & (sent < window.end)]) for window in windows]
    return spans_of(accounts, *dated(rows, timelines, joins), windows, worked_s, covered_s=covered_s)


def dated(rows: pd.DataFrame, timelines: pd.DataFrame, joins: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Timelines and joins with a column more, made_at: by when their nest belongs to a window (see `spans`), ns; -1 for
    a nest of which nothing tells."""
    lines = timelines.assign(made_at=_made_at(rows, timelines))
    key = ["trace_id", "nest"]
    nests = lines[[*key, "made_at"]].drop_duplicates(key)
    made = joins[key].merge(nests, on=key, how="left")["made_at"].fillna(-1).to_numpy(np.int64)
    return lines, joins.assign(made_at=made)


def spans_of(
    accounts: Sequence[Account],
    timelines: pd.DataFrame,
    joins: pd.DataFrame,
    windows: Sequence[Window],
    worked_s: Sequence[float],
    *,
    covered_s: Sequence[float] = (),
) -> list[Span]:
    """`spans` of what was accounted for in each window, and of timelines and joins that are `dated`."""
    found = []
    every: Sequence[float | None] = covered_s or [None] * len(windows)
    for window, account, worked, covered in zip(windows, accounts, worked_s, every, strict=True):
        built, joined = ((at["made_at"] >= window.start) & (at["made_at"] < window.end) for at in (timelines, joins))
        ours = joins[joined].drop(columns="made_at")
        found.append(Span(window, worked, account, timelines[built], ours, covered_s=covered))
    return found


def _made_at(rows: pd.DataFrame, timelines: pd.DataFrame) -> Ints:
    """Per timeline the instant its nest was made, or first observed, ns."""
    origin = made_at(timelines)
    made = np.array(origin.astype("int64"), dtype=np.int64)
    unknown = origin.isna().to_numpy(bool)
    if unknown.any():
        wanted = timelines.loc[unknown, ["trace_id", "nest"]]
        about = rows[rows["nest"].isin(wanted["nest"]) & rows["trace_id"].isin(wanted["trace_id"])]
        about = about[["trace_id", "nest", "sent_at"]].astype({"trace_id": "str", "nest": "str"})
        first = about.groupby(["trace_id", "nest"])["sent_at"].min().rename("first")
        began = wanted.join(first, on=["trace_id", "nest"])["first"]
        made[unknown] = began.fillna(-1).to_numpy(np.int64)
    return np.asarray(made, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Change:
    """One comparison. name: of a measure or a layer. before_n, after_n: what each rests on. before, after: at LEVEL;
    counts are per hour. low, high: of the difference, in the same unit, or of the ratio, for counts. p: see `touching`.
    """

    group: Group
    name: str
    before_n: int
    after_n: int
    before: Ends
    after: Ends
    low: float
    high: float
    p: float
    remains: bool = False

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out that nothing changed."""
        null = 1.0 if self.group == "count" else 0.0
        return self.low > null or self.high < null


def compare(after: Span, before: Span) -> list[Change]:
    """All comparisons for which both spans have something, in a fixed order; `remains` is by Holm over all of them."""
    found = [*_counts(after, before), *_shares(after, before), *_delays(after, before)]
    held = holm([one.p for one in found])
    return [replace(one, remains=bool(p <= 1.0 - LEVEL)) for one, p in zip(found, held, strict=True)]


def _counts(after: Span, before: Span) -> list[Change]:
    made = []
    for name, now, then in (("nests", after.nests, before.nests), ("joins", len(after.joins), len(before.joins))):
        if now + then == 0 or not after.worked_s > 0 or not before.worked_s > 0:
            continue
        ratio = partial(rate_ratio, now, after.worked_s, then, before.worked_s)
        low, high = ratio(LEVEL)
        made.append(
            Change(
                group="count",
                name=name,
                before_n=then,
                after_n=now,
                before=_hourly(then, before.worked_s),
                after=_hourly(now, after.worked_s),
                low=low,
                high=high,
                p=touching(ratio, 1.0),
            )
        )
    return made


def _hourly(count: int, worked_s: float) -> Ends:
    low, high = poisson(count)
    scale = HOUR_S / worked_s
    return Ends(scale * low, scale * count, scale * count, scale * high)


SHARES: Final = ("joined", "lost", "guest_instead", "guide_untrue", *REQUEST_SHARES)
"""Names of the shares, in their order."""


def _shares(after: Span, before: Span) -> list[Change]:
    now, then = (
        {name: Blocked.of(*those) for name, those in one.join_shares.items()} | one.account.shares
        for one in (after, before)
    )
    made = []
    for name in SHARES:
        if now[name].n and then[name].n:
            one, other = now[name].share(then[name].design_effect), then[name].share(now[name].design_effect)
            made.append(_change("share", name, one, other))
    return made


def _change(group: Group, name: str, one: Estimate, other: Estimate) -> Change:
    apart = partial(difference, one, other)
    low, high = apart(LEVEL)
    p = touching(apart) if low > 0.0 or high < 0.0 else 1.0  # only small ones matter, and each costs time
    return Change(
        group=group,
        name=name,
        before_n=other.n,
        after_n=one.n,
        before=ends(other),
        after=ends(one),
        low=low,
        high=high,
        p=p,
    )


def join_shares(joins: pd.DataFrame) -> dict[str, tuple[Flags, Ints]]:
    """Some of SHARES -> of which joins it is: whether each is a hit, and its block.

    Joins that a fault of our own ended are not among them. joined: joins that got in. lost: joins lost, of those of
    which that is known. guest_instead: signed in, joined as a guest. guide_untrue: what the guide's client would have
    said was untrue, among what can be judged.
    """
    joins = judged(joins)
    block = join_blocks(joins)
    told = joins["guide_true"].notna().to_numpy(bool)
    untrue = ~joins["guide_true"].fillna(value=True).to_numpy(bool)
    guest = joins["verdict"].isin([Kind.GUEST_INSTEAD]).to_numpy(bool)
    return {
        "joined": (joins["joined"].to_numpy(bool), block),
        "lost": lost_joins(joins),
        "guest_instead": (guest, block),
        "guide_untrue": (untrue[told], block[told]),
    }


def _delays(after: Span, before: Span) -> list[Change]:
    now, then = after.delays, before.delays
    made = []
    for group, p in QUANTILES.items():
        for layer in compared_layers(now, then):
            deffs = _spread(now[layer], p), _spread(then[layer], p)
            one, other = _quantile(now[layer], p, *deffs), _quantile(then[layer], p, *reversed(deffs))
            made.append(_change(group, layer, one, other))
    return made


@dataclass(frozen=True, slots=True)
class Delays:
    """Of a layer: (lower, upper] of each nest and vantage, seconds, and blocks; all of shape (n,)."""

    lower: Floats
    upper: Floats
    block: Ints


def delay_rows(timelines: pd.DataFrame) -> dict[str, Delays]:
    """The proven delays of each layer of which there are any, and of JOINABLE."""
    found: dict[str, Delays] = {}
    if timelines.empty:
        return found
    join = joinable(timelines)
    if len(join):
        found[JOINABLE] = _rows(join)
    timelines = created(timelines)
    proven = timelines[(timelines["polls"] > 0) & timelines["upper_s"].notna() & timelines["origin_at"].notna()]
    proven = proven.assign(unit=unit_of(proven))
    return found | {str(layer): _rows(rows) for layer, rows in proven.groupby("layer", sort=True)}


def _rows(rows: pd.DataFrame) -> Delays:
    lower, upper = (rows[name].to_numpy(np.float64) for name in ("lower_s", "upper_s"))
    return Delays(lower, upper, blocks(rows["origin_at"].astype("int64"), lambda: rows["unit"].to_numpy(object)))


def compared_layers(*parts: dict[str, Delays]) -> list[str]:
    """Layers that all parts have; of relays the MOST_RELAYS with the most rows in the first."""
    shared = [layer for layer in parts[0] if all(layer in part for part in parts[1:])]
    relays = sorted((one for one in shared if one.startswith("relay:")), key=lambda one: -len(parts[0][one].lower))
    return [layer for layer in shared if not layer.startswith("relay:") or layer in relays[:MOST_RELAYS]]


def _quantile(rows: Delays, p: float, *deffs: float) -> Quantile:
    """deffs: design effects, of which the first known one counts."""
    known = [one for one in deffs if not math.isnan(one)]
    return Quantile(p, np.sort(rows.lower), np.sort(rows.upper), known[0] if known else 1.0)


def _spread(rows: Delays, p: float) -> float:
    """The greater design effect of the two shares, surely and possibly visible, where each is about p."""
    place = max(1, math.ceil(p * len(rows.lower))) - 1
    found = [design_effect(ends <= np.sort(ends)[place], rows.block) for ends in (rows.lower, rows.upper)]
    known = [one for one in found if not math.isnan(one)]
    return max(known, default=math.nan)


def quantile_of(rows: Delays, p: float, level: float = LEVEL) -> Ends:
    """The interval of a quantile of delays, rows of a block sharing their fate."""
    return _quantile(rows, p, _spread(rows, p)).at(level)


def frame(changes: Sequence[Change]) -> pd.DataFrame:
    """A row a change: its fields, each of the ends of `before` and `after` by itself, and `differs`."""
    made: list[dict[str, Any]] = []
    for one in changes:
        row: dict[str, Any] = {"group": one.group, "name": one.name, "before_n": one.before_n, "after_n": one.after_n}
        row |= {f"before_{end}": value for end, value in one.before._asdict().items()}
        row |= {f"after_{end}": value for end, value in one.after._asdict().items()}
        row |= {"low": one.low, "high": one.high, "p": one.p, "differs": one.differs, "remains": one.remains}
        made.append(row)
    return pd.DataFrame(made)


# day by day

DAYS: Final = {
    "start": "datetime64[ns, UTC]",
    "nests": "int64",
    "joins": "int64",
    "covered": "float64",
    "median_low_s": "float64",
    "median_high_s": "float64",
    "lost_low": "float64",
    "lost_high": "float64",
}
"""Columns of `daily` and their dtypes."""


def daily(spans: Sequence[Span]) -> pd.DataFrame:
    """A row a span: nests, joins, share of the window that is covered (`Span.coverage`), and 95 % intervals of the
    median delay until a join succeeds and of the lost share; NaN where there is nothing. Columns DAYS."""
    made = []
    for span in spans:
        start = pd.Timestamp(span.window.start, unit="ns", tz="UTC")
        join = span.delays.get(JOINABLE)
        median = quantile_of(join, 0.5) if join is not None else Ends(*[math.nan] * 4)
        share = lost_share(span.joins)
        lost = share.score() if share.n else (math.nan, math.nan)
        made.append((start, span.nests, len(span.joins), span.coverage, median.low, median.high, *lost))
    return pd.DataFrame(made, columns=list(DAYS)).astype(DAYS)


# the request budget

BUDGET: Final = {"vantage": "str", "host": "str", "requests": "int64", "per_hour": "float64", "peak": "int64"}
"""Columns of `budget_used` and their dtypes."""


def budget_used(span: Span, window_s: float) -> pd.DataFrame:
    """API requests by vantage and host: how many, per hour of the window, and in its busiest `window_s` seconds.

    One vantage stands for one address; several behind one address share what it may ask. Columns BUDGET.
    """
    made = []
    for (vantage, host), sent in sorted(span.account.requests.items()):
        hourly = len(sent) * HOUR_S / span.window.seconds
        made.append((vantage, host, len(sent), hourly, busiest(np.sort(sent), window_s)))
    return pd.DataFrame(made, columns=list(BUDGET)).astype(BUDGET)
