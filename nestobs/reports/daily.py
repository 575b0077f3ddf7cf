"""What notebooks/daily_report.ipynb calls: a window against those before it, what changed, and a verdict by rules.

`load` reads, compares and tunes; the rest lays out what came of it. The verdict is for a scheduler: breached only where
the whole interval lies beyond a limit, and too little data before any rule is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from nestobs.errors import NestobsError, UsageError
from nestobs.estimate import comparison as changes
from nestobs.estimate.comparison import JOINABLE, Change, Span
from nestobs.estimate.dependence import lost_share
from nestobs.estimate.difference import Ends
from nestobs.exports.spans import Told, told
from nestobs.figures import amount, comparison, percent, plain, span
from nestobs.figures.comparison import difference_words, name_of
from nestobs.join.policy import MANUAL_RETRY, Policy
from nestobs.observation.columns import records
from nestobs.observation.detail import finite
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import DAY_S, Window
from nestobs.reports.answer import Answer, tiles
from nestobs.reports.causes import Failed, of_failed
from nestobs.reports.commands import pages_of
from nestobs.reports.coverage import burst_words
from nestobs.reports.dataset import watched
from nestobs.reports.display import Result, Section, Table, Text, judged, many, numbers
from nestobs.reports.workbench.given import given
from nestobs.reports.workbench.jupyterlab import step
from nestobs.store.files import text_in
from nestobs.store.partitions import PARTITION_ROWS
from nestobs.store.partitions.engine import HERE
from nestobs.store.reader import Store
from nestobs.timeline import uptime
from nestobs.timeline.delays import made_at, median_s
from nestobs.timeline.intervals import clock_words
from nestobs.timeline.nests import count_nests
from nestobs.timeline.omissions import standing_words

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nestobs.tuning.recommendation import Recommendation

TITLE: Final = "Who can join, when, and why not: what changed?"
BEFORE: Final = 7
DRAWS: Final = 60
"""Resamples of the recommendation in short."""

MOST_TUNED: Final = 400
"""Nests tuned on: of more, so many evenly spread in time. The tuning notebook takes all."""

MOST_BUDGETS: Final = 4
"""Vantages and hosts in the table of the request budget: those that came closest to its end."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a window is good. least_coverage, least_nests: below, there is too little to judge. most_lost: share of
    joins lost; most_median_s: seconds until half of `layer` is there, 0 for no rule."""

    least_coverage: float = 0.5
    least_nests: int = 10
    most_lost: float = 0.1
    most_median_s: float = 0.0
    layer: str = JOINABLE


@dataclass(frozen=True)
class Daily:
    """What the page is about. now: None where the store holds nothing. earlier: the spans before, joined; days: each
    by itself, oldest first, `now` last; failed: the window's failed joins and their causes; tuned: None where there was
    too little, and why_not says so."""

    title: str
    rules: Rules
    now: Span | None = None
    earlier: Span | None = None
    days: tuple[Span, ...] = ()
    found: tuple[Change, ...] = ()
    failed: Failed | None = None
    tuned: Recommendation | None = None
    why_not: str = ""
    every: int = 1
    policy: Policy = MANUAL_RETRY
    allowed: int = 100
    allowed_window_s: float = 900.0
    store: str = ""


@given
def load(
    store: str,
    *,
    window: str = "",
    before: int = BEFORE,
    policy: str = "",
    title: str = "",
    allowed: int = 100,
    allowed_window_s: float = 900.0,
    least_coverage: float = 0.5,
    least_nests: int = 10,
    most_lost: float = 0.1,
    most_median_s: float = 0.0,
    layer: str = JOINABLE,
    engine: str = HERE,
) -> Daily:
    """A window of a store ("": the last day on which it holds anything) beside the `before` windows before it.

    policy: a policy.json in use, "" for today's rule. allowed: API requests in allowed_window_s that one address may
    make. engine: where parts of a large store are worked on: here, processes:2 or dask://HOST:PORT. The rest: see
    Rules. Raises StoreError when there is no store, UsageError for words and files that cannot be used.
    """
    rules = Rules(least_coverage, least_nests, most_lost, most_median_s, layer)
    if before < 1 or allowed < 1 or not allowed_window_s > 0:
        raise UsageError("before, allowed and allowed_window_s are numbers above 0")
    in_use = read_policy(policy) if policy else MANUAL_RETRY
    shared = Daily(
        title or TITLE,
        rules,
        store=store,
        policy=in_use,
        allowed=allowed,
        allowed_window_s=allowed_window_s,
    )
    opened = Store.open(store, create=False)
    wanted = Window.parse(window) if window else last_day(opened)
    return shared if wanted is None else of(opened, wanted, before, shared, engine)


def of(
    opened: Store, wanted: Window, before: int, shared: Daily, engine: str | None = None, *, most: int = PARTITION_ROWS
) -> Daily:
    """What `load` finds of a window; most: rows of a part."""
    past = wanted.earlier(before)
    whole = Window(past.start, wanted.end)
    length = wanted.end - wanted.start
    windows = [Window(wanted.start - back * length, wanted.end - back * length) for back in range(before, -1, -1)]
    seen = told(opened, [past, *windows], watched(whole), engine, step, most=most)
    earlier, *days = seen.spans([past, *windows])
    step("comparing, and looking for why joins failed")
    return replace(
        shared,
        now=days[-1],
        earlier=earlier,
        days=tuple(days),
        found=tuple(changes.compare(days[-1], earlier)),
        failed=of_failed(opened, days[-1].joins, wanted),
        **_tuned(seen, whole, shared.policy),
    )


def last_day(store: Store) -> Window | None:
    """The last day, UTC, on which anything was sent; None for an empty store."""
    _, last = store.ends()
    if last is None:
        return None
    start = last // (DAY_S * SECOND_NS) * DAY_S * SECOND_NS
    return Window(start, start + DAY_S * SECOND_NS)


def read_policy(path: str) -> Policy:
    """The policy in a policy.json. Raises UsageError for a file that is none."""
    from nestobs.tuning.policy_file import loads

    try:
        return loads(text_in(path), plain(path, 200)).policy
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a policy ({error}): give the policy.json of nestobs tune") from None


def _tuned(seen: Told, window: Window, today: Policy) -> dict[str, Any]:
    """A recommendation from all nests made in the window, or why there is none; and of how many nests each is one."""
    from nestobs.tuning.tuner import recommend

    lines = seen.timelines
    made = made_at(lines)
    inside = (made.astype("int64") >= window.start) & (made.astype("int64") < window.end)
    ours, every = thinned(lines[made.notna() & inside], MOST_TUNED)
    took_s, failed = median_s(seen.trips), seen.counted.failures()
    step(f"tuning on {many(count_nests(ours), 'nest')}")
    try:
        found = recommend(ours, today=today, draws=DRAWS, baselines=(), round_trip_s=took_s, failures=failed)
    except NestobsError as error:  # too little data, or a policy that cannot be compared
        return {"why_not": str(error), "every": every}
    return {"tuned": found, "every": every}


def thinned(lines: pd.DataFrame, most: int) -> tuple[pd.DataFrame, int]:
    """The timelines of every k-th nest in order of making, k the least for at most `most` nests; and k."""
    key = ["trace_id", "nest"]
    nests = lines.sort_values("origin_at", kind="stable")[key].drop_duplicates()
    every = max(1, math.ceil(len(nests) / most))
    if every == 1:
        return lines, 1
    chosen = pd.MultiIndex.from_frame(nests.iloc[::every])
    return lines[pd.MultiIndex.from_frame(lines[key]).isin(chosen)], every


# what is shown


def answer(daily: Daily) -> Answer:
    """What the page opens with: what changed, or why nothing can be said, and tiles, beside those before."""
    came, now, rules = result(daily), daily.now, daily.rules
    if now is None:
        words = "This store holds no observation, so there is nothing to report."
        return Answer(daily.title, words, result=came)
    shown = tiles(
        now,
        daily.earlier,
        most_lost=rules.most_lost,
        least_coverage=rules.least_coverage,
        allowed=daily.allowed,
        allowed_window_s=daily.allowed_window_s,
    )
    said = _found(daily) if came.verdict == "good" else came.reasons[0]
    return Answer(daily.title, said, shown, came, _warning(daily, now), ruled=True)


def _warning(daily: Daily, now: Span) -> str:
    """What its reader has to know before: how the observer was, and what stands."""
    faults = " ".join(daily.failed.standing()) if daily.failed is not None else ""
    return " ".join(filter(None, (now.account.observer.words, faults and f"Standing faults. {faults}")))


def seen(daily: Daily) -> Text:
    """What is compared, and how much there is of it: `heading` under a title of the page's own."""
    return replace(heading(daily), heading="", warning="")


def heading(daily: Daily) -> Text:
    """The title, what is compared, and how much there is of it."""
    now, past = daily.now, daily.earlier
    if now is None or past is None:
        words = "This store holds no observation, so there is nothing to report. Run a watch or a canary first."
        return Text([words], heading=daily.title)
    if not now.account.rows and not now.nests:
        words = f"The store holds no observation of {now.window.words}."
        return Text([words, _about(past, "Before it, from")], heading=daily.title)
    counted = f"{_about(now, 'From')} {_about(past, f'Before it, in {len(daily.days) - 1} windows as long, from')}"
    said = [counted, *standing_words(now.timelines), *clock_words(now.account.clocks, now.timelines), _found(daily)]
    return Text(said, heading=daily.title, warning=_warning(daily, now))


def causes(daily: Daily) -> Section:
    """Why joins of the window failed: how often each cause, with an example."""
    if daily.failed is None:
        return Section()
    pages = pages_of(daily.failed.worst(), daily.store) if len(daily.failed.joins) else ()
    return Section((*daily.failed.table().parts, *pages))


def _about(one: Span, word: str) -> str:
    worked = percent(min(1.0, one.worked_s / one.window.seconds))
    begun = uptime.within(one.account.bursts, one.window.start, one.window.end)
    bursts = burst_words(len(begun), one.coverage)
    return (
        f"{word} {one.window.words}, {many(one.nests, 'nest')} and {many(len(one.joins), 'join')} were seen; the"
        f" collector was at work {worked} of the time{bursts and f': {bursts}'}.{_turns(one)}"
    )


def _turns(one: Span) -> str:
    """What became of a schedule of canaries, where there was one."""
    made, unpaid = one.account.turns
    if not made + unpaid:
        return ""
    lacking = f"; {many(unpaid, 'turn')} could not be paid by the request budget" if unpaid else ""
    return f" Its schedule had {many(made, 'turn')} of canaries made{lacking}."


def _found(daily: Daily) -> str:
    """How many comparisons, how many differ, and how many by chance."""
    looked = len(daily.found)
    if not looked:
        return "Nothing could be compared: one of the two spans has neither nests nor requests."
    apart = [one for one in daily.found if one.differs]
    held = [one for one in apart if one.remains]
    names = f": {'; '.join(_said(one) for one in held)}" if held else ""
    return (
        f"{looked} things were compared. By chance alone 1 in 20 would seem to differ, here about {looked / 20:.1g}; "
        f"{len(apart)} do, and {len(held)} still when all are taken together (Holm){names}."
    )


def _said(one: Change) -> str:
    (row,) = records(changes.frame([one]))
    kind = {"median": "median delay, ", "ninth": "90 % delay, "}.get(one.group, "")
    times = " times as many an hour" if one.group == "count" else ""
    return f"{kind}{_name(one.name)} {difference_words(row).replace('×', '')}{times}"


def _name(name: str) -> str:
    """A measure or a layer as plain text."""
    import html

    return html.unescape(name_of(name))


def result(daily: Daily) -> Result:
    """The verdict by the rules, with its reasons."""
    now, rules = daily.now, daily.rules
    if now is None:
        none = {"observations": 0, "nests": 0, "joins": 0}
        return Result("too little data", ["The store holds no observation."], None, none, {})
    lacks = _lacks(now, rules)
    broken, kept = _ruled(now, rules)
    counts = {"observations": now.account.rows, "nests": now.nests, "joins": len(now.joins)}
    return Result(*judged(lacks, broken and [*broken, *kept], kept), now.coverage, counts, _facts(daily, now))


def _lacks(now: Span, rules: Rules) -> list[str]:
    """Why there is too little to judge the window, or to advise anything on it; none where there is enough."""
    coverage, ours = now.coverage, now.account.observer
    lacks = [ours.words] if ours.much else []
    if coverage < rules.least_coverage:
        least = percent(rules.least_coverage)
        planned = " or had done what was planned" if len(now.account.bursts) else ""
        lacks.append(f"The collector was at work{planned} {percent(coverage)} of the time, less than {least}.")
    if now.nests < rules.least_nests:
        lacks.append(f"{many(now.nests, 'nest')} seen, fewer than {rules.least_nests}.")
    return lacks


def _ruled(now: Span, rules: Rules) -> tuple[list[str], list[str]]:
    """A sentence for each rule: broken ones, and the others."""
    broken: list[str] = []
    kept: list[str] = []
    lost = lost_share(now.joins)
    if not lost.n:
        kept.append("Of no join is it known whether it was lost.")
    else:
        lower, upper = lost.score()
        limit = f"the limit is {percent(rules.most_lost)}"
        words = f"Lost joins: {percent(lower)} to {percent(upper)} of the {lost.n:,} of which it is known; {limit}."
        (broken if lower > rules.most_lost else kept).append(words)
    if rules.most_median_s > 0:
        median = median_delay(now, rules.layer)
        limit = f"the limit is {rules.most_median_s:g} s"
        if median is None:
            kept.append(f"Nothing is known of when {_name(rules.layer)}; {limit}.")
        else:
            words = f"Median delay ({_name(rules.layer)}): {span(median.low, median.high, unit='s')}; {limit}."
            (broken if median.low > rules.most_median_s else kept).append(words)
    return broken, kept


def median_delay(now: Span, layer: str) -> Ends | None:
    """The interval of the median delay of a layer, seconds; None where nothing is known of it."""
    rows = now.delays.get(layer)
    return changes.quantile_of(rows, 0.5) if rows is not None else None


def _facts(daily: Daily, now: Span) -> dict[str, float | str | None]:
    """Numbers to follow over time; None for what is not known."""
    lost, median = lost_share(now.joins), median_delay(now, daily.rules.layer)
    lower, upper = lost.score() if lost.n else (math.nan, math.nan)
    tuned = daily.tuned
    return {
        "median_delay_low_s": finite(median.low) if median else None,
        "median_delay_high_s": finite(median.high) if median else None,
        "lost": float(lost.least),
        "lost_known": float(lost.n),
        "lost_share": finite(lost.value),
        "lost_share_low": finite(lower),
        "lost_share_high": finite(upper),
        "message_threshold_s": finite(tuned.message_threshold_s.value) if tuned else None,
        "give_up_age_s": finite(tuned.policy.give_up_age_s) if tuned else None,
        "changes": float(sum(one.differs for one in daily.found)),
        "changes_among_all": float(sum(one.differs and one.remains for one in daily.found)),
    }


def changed(daily: Daily) -> Section:
    """Every difference with its interval, drawn and in a table."""
    if daily.now is None or daily.earlier is None:
        return Section()
    if not daily.found:
        return Section((Text(["One of the two spans has nothing to compare with the other."]),))
    now, past, lines = daily.now, daily.earlier, daily.now.timelines
    unseen = int(lines["right_censored"].sum()) if len(lines) else 0
    note = (
        f"95 % intervals. n = {many(now.nests, 'nest')} now, {past.nests:,} before; {len(lines):,} intervals now,"
        f" {unseen:,} not seen by the end. {now.window.words}, less {past.window.words}"
    )
    return Section((comparison.changes(changes.frame(daily.found), note=note), changes_table(daily.found)))


def changes_table(found: Sequence[Change]) -> Table:
    """A row a comparison, in words."""
    rows = []
    for one, row in zip(found, records(changes.frame(found)), strict=True):
        rows.append(
            {
                "what": {"median": "median: ", "ninth": "90 %: "}.get(one.group, "") + _name(one.name),
                "before (95 %)": _ends(one.group, one.before),
                "now (95 %)": _ends(one.group, one.after),
                "difference (95 %)": difference_words(row),
                "n before, now": f"{one.before_n:,}, {one.after_n:,}",
                "told from none": "among all" if one.differs and one.remains else "by itself" if one.differs else "no",
            }
        )
    return numbers(rows)


def _ends(group: str, ends: Ends) -> str:
    if group == "share":
        return f"{percent(ends.least)} ({percent(ends.low).removesuffix(' %')} to {percent(ends.high)})"
    if group == "count":
        return f"{amount(ends.least)} an hour ({span(ends.low, ends.high)})"
    return span(ends.low, ends.high, unit="s")


def days(daily: Daily) -> go.Figure | Section:
    """The last days as strips."""
    if daily.now is None:
        return Section()
    nests = sum(day.nests for day in daily.days)
    last = f"{len(daily.days)} windows up to {daily.now.window.words}; n = {nests:,} nests."
    return comparison.days(changes.daily(daily.days), note=last, least_coverage=daily.rules.least_coverage)


def budget(daily: Daily) -> Section:
    """API requests against what one address may make."""
    now, past = daily.now, daily.earlier
    if now is None or past is None:
        return Section()
    used, before = (changes.budget_used(one, daily.allowed_window_s) for one in (now, past))
    if used.empty:
        return Section((Text(["No API request was made in this window."]),))
    earlier = {(row.vantage, row.host): row for row in records(before)}
    rows = []
    for row in records(used.sort_values("peak", ascending=False, kind="stable").head(MOST_BUDGETS)):
        was = earlier.get((row.vantage, row.host))
        rows.append(
            {
                "vantage point": row.vantage,
                "API": row.host,
                "requests an hour": amount(float(row.per_hour)),
                "before": "none" if was is None else amount(float(was.per_hour)),
                f"busiest {daily.allowed_window_s:g} s": f"{row.peak} of {daily.allowed}",
                "of the allowance": percent(row.peak / daily.allowed),
                "busiest before": "none" if was is None else f"{was.peak}",
            }
        )
    words = (
        f"An address may make {daily.allowed} requests in any {daily.allowed_window_s:g} s. Each vantage point is taken"
        " for one address: those behind the same one add up."
    )
    more = len(used) - MOST_BUDGETS
    rest = (Text([f"{more} more, with a quieter busiest time, are not listed."]),) if more > 0 else ()
    return Section((Text([words]), numbers(rows), *rest))


def advice(daily: Daily) -> Text | Section:
    """The recommendation in short, and whether it differs from the policy in use; none where there is too little to
    judge the window."""
    found, used = daily.tuned, daily.policy
    if daily.now is None:
        return Section()
    if found is None:
        return Text([f"Nothing is tuned on these windows: {daily.why_not}."])
    if lacks := _lacks(daily.now, daily.rules):
        return Text([f"Nothing is advised: there is too little data. {' '.join(lacks)}"])
    differs = f"This is the policy in use ({used.name})."
    if not found.kept:
        differs = f"This differs from the policy in use ({used.name})."
    elif found.policy.message_threshold_s != used.message_threshold_s:
        differs = f"Only the message threshold differs from the policy in use ({used.name})."
    some = "" if daily.every == 1 else f", one in {daily.every} of those there are"
    threshold = found.message_threshold_s
    return Text(
        [
            found.why,
            *found.changed,
            differs,
            f"Message threshold {amount(threshold.value)} s ({span(threshold.lower, threshold.upper, unit='s')}),"
            f" give-up age {found.policy.give_up_age_s:g} s. Tuned on {many(found.nests, 'nest')}{some}, with {DRAWS}"
            " resamples: the tuning notebook takes all and says why.",
        ]
    )
