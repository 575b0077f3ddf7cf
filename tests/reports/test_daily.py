"""The daily report: verdicts by stated rules, what changed with intervals, and stores that are odd or too small."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from nestobs.errors import StoreError, UsageError
from nestobs.estimate import comparison as changes
from nestobs.estimate.dependence import lost_share
from nestobs.join.policy import fixed
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Role, Source
from nestobs.observation.window import Window
from nestobs.reports import coverage, daily, dataset
from nestobs.reports.commands import Commands
from nestobs.reports.display import RESULT, Result, Table, Text
from nestobs.reports.publishing.execute import notebook, run
from nestobs.store.reader import Store
from nestobs.tuning import policy_file
from nestobs.tuning.tuner import recommend
from worlds import asked
from worlds.full_nests import DAY, NOON, Names, all_rows, nest_rows, store_of
from worlds.shown import said
from worlds.simulated import TRUTHS, observe, timelines

pytestmark = pytest.mark.slow

DAY_NS = 86_400 * SECOND_NS
MIDNIGHT = NOON - DAY_NS // 2
HOSTILE = "<script>window.pwned=1</script>{{7*7}}$x$"
SECTIONS = (daily.causes, daily.changed, daily.budget)


def beats(start: int, end: int, vantage: str = "Computer A") -> Iterator[Observation]:
    """A collector at work from start to end."""
    for number, at in enumerate(range(start, end, 60 * SECOND_NS)):
        yield Observation(
            observation_id=f"beat-{vantage}-{start}-{number:05}",
            run_id=f"run-{start}",
            vantage=vantage,
            source=Source.CLOCK,
            target="clock:",
            operation=Operation.HEALTH,
            sent_at=at,
            received_at=min(end, at + 60 * SECOND_NS),
            outcome=Outcome.ACCEPTED,
        )


def nests(day: int, count: int, *, slower: float = 1.0, spacing_s: float = 1_200.0) -> Iterator[Observation]:
    """Nests from midnight of a day after the first, watched with few polls and each joined once."""
    polls = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    for number in range(count):
        at = MIDNIGHT + day * DAY_NS + round((60 + number * spacing_s) * SECOND_NS)
        rows = nest_rows(1_000 * day + number, at=at, polls=polls)
        yield from (stretched(row, slower) for row in rows) if slower != 1.0 else rows


def stretched(row: Observation, by: float) -> Observation:
    """The same row, its answer a proof of absence where a layer slower by that factor would not show the nest yet."""
    age = (row.sent_at - MIDNIGHT) / SECOND_NS % 1_200 - 60
    early = row.source is Source.API and row.outcome is Outcome.VISIBLE and age < 10.0 * by
    return replace(row, outcome=Outcome.ABSENT, status=404) if early else row


def week(directory: Path, *last: Iterator[Observation]) -> str:
    """Seven usual days and what the eighth is made of; the collector was at work on all."""
    usual = [row for day in range(7) for row in nests(day, 12)]
    store = store_of(directory, [*usual, *beats(MIDNIGHT, MIDNIGHT + 8 * DAY_NS)])
    store_of(directory, [row for part in last for row in part])
    return store


EIGHTH = "2026-03-11"


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    return week(tmp_path_factory.mktemp("daily") / "store", nests(7, 40))


@pytest.fixture(scope="module")
def seen(usual: str) -> daily.Daily:
    return daily.load(usual, window=EIGHTH)


def judged(found: daily.Daily, **rules: Any) -> Result:
    return daily.result(replace(found, rules=daily.Rules(**rules)))


def figures_of(found: daily.Daily) -> list[Any]:
    parts = [part for section in SECTIONS for part in section(found).parts] + [daily.days(found)]
    return [part for part in parts if not isinstance(part, Table | Text | Commands)]


def everything(found: daily.Daily) -> str:
    parts = [daily.heading(found), *(section(found) for section in SECTIONS), daily.days(found), daily.advice(found)]
    return " ".join(said(part) for part in parts)


# verdicts


def test_a_usual_day_is_good(seen: daily.Daily) -> None:
    result = daily.result(seen)
    assert result.verdict == "good"
    assert result.coverage == pytest.approx(1.0, abs=1e-3)
    assert result.rows["nests"] == 40
    assert result.rows["joins"] == 160
    assert re.fullmatch(r"Lost joins: .* to .* of the 160 of which it is known; the limit is 10 %\.", result.reasons[0])
    assert not any(one.remains for one in seen.found if one.group in ("share", "median", "ninth"))
    facts = result.facts
    assert 0 < facts["median_delay_low_s"] < facts["median_delay_high_s"] < 20
    assert facts["lost_share_low"] <= facts["lost_share"] <= facts["lost_share_high"]
    assert facts["message_threshold_s"] > 0
    json.dumps(result._repr_mimebundle_(), allow_nan=False)


def test_the_last_day_with_anything_is_taken_where_none_is_named(usual: str) -> None:
    found = daily.load(usual)
    assert found.now is not None
    assert found.now.window.name == EIGHTH
    assert found.days[0].window.name == "2026-03-04"
    assert len(found.days) == 8


def test_limits_are_breached_only_by_the_whole_interval(seen: daily.Daily) -> None:
    median = daily.median_delay(seen.now, "joinable")
    assert median is not None
    strict, lenient = (judged(seen, most_median_s=factor * median.low) for factor in (0.9, 1.1))
    assert (strict.verdict, lenient.verdict) == ("breached", "good")
    assert strict.reasons[0].startswith("Median delay (a join succeeds): ")
    assert "Lost joins" in strict.reasons[1]
    guest = judged(seen, most_median_s=0.01, layer="api:guest")
    assert guest.reasons[0].startswith("Median delay (api:guest): ")
    nothing = judged(seen, most_median_s=0.01, layer="api:none")
    assert nothing.verdict == "good"
    assert "Nothing is known of when api:none" in nothing.reasons[1]


def test_no_lost_join_is_tolerated_where_the_limit_is_none(seen: daily.Daily) -> None:
    assert seen.now is not None
    lower, _ = lost_share(seen.now.joins).score()
    assert judged(seen, most_lost=0.0).verdict == ("breached" if lower > 0 else "good")


def test_too_little_comes_before_any_rule(seen: daily.Daily, tmp_path: Path) -> None:
    few = judged(seen, least_nests=41, most_median_s=0.01)
    assert few.verdict == "too little data"
    assert few.reasons == ["40 nests seen, fewer than 41."]
    off = store_of(tmp_path / "store", [*nests(0, 12), *beats(MIDNIGHT, MIDNIGHT + DAY_NS // 4)])
    asleep = daily.result(daily.load(off, window=DAY))
    assert asleep.verdict == "too little data"
    assert "less than 50 %" in asleep.reasons[0]
    assert judged(daily.load(off, window=DAY), least_coverage=0.2).verdict == "good"


def bursts(start: int, count: int, *, period_s: int = 10_800) -> Iterator[Observation]:
    """Two nests at the beginning of each period, watched for a minute, by runs that say so at their end."""
    polls = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    for number in range(count):
        at = start + number * period_s * SECOND_NS
        for each in range(2):
            yield from nest_rows(2 * number + each, at=at + (1 + each) * SECOND_NS, polls=polls)
        for vantage in ("Computer A", "Computer B"):
            yield Observation(
                observation_id=f"burst-{vantage}-{at}",
                run_id=f"run-{at}",
                vantage=vantage,
                source=Source.CLOCK,
                target="clock:",
                operation=Operation.HEALTH,
                planned_at=at,
                sent_at=at,
                received_at=at + 60 * SECOND_NS,
                outcome=Outcome.ACCEPTED,
                detail=detail(period_s=period_s),
            )


def test_a_day_of_bursts_as_planned_is_judged_and_says_what_they_are(tmp_path: Path) -> None:
    """The README's recipe for who cannot observe all day: a few nests every three hours."""
    found = daily.load(store_of(tmp_path / "store", bursts(MIDNIGHT, 8)), window=DAY)
    came = daily.result(found)
    assert (came.verdict, came.coverage) == ("good", 1.0)
    words = said(daily.heading(found))
    assert "16 bursts that came to their end stand for the time until the next of their schedule" in words
    assert "100 % of the time is covered" in words
    at_work = re.search(r"at work ([\d.]+) % of the time", words)
    assert at_work is not None
    assert float(at_work[1]) < 5.0
    assert changes.daily(found.days)["covered"].tolist()[-1] == 1.0


@pytest.mark.parametrize(
    ("first", "count"), [(0, 3), (5, 3), (2, 3)], ids=["down after nine hours", "down until the evening", "in between"]
)
def test_a_day_in_which_most_bursts_are_lacking_still_says_so(tmp_path: Path, first: int, count: int) -> None:
    made = bursts(MIDNIGHT + first * 10_800 * SECOND_NS, count)
    came = daily.result(daily.load(store_of(tmp_path / "store", made), window=DAY))
    assert (came.verdict, came.coverage) == ("too little data", count / 8)
    assert came.reasons[0].startswith("The collector was at work or had done what was planned 38 % of the time")


def test_the_other_pages_count_bursts_as_the_daily_one_does(tmp_path: Path) -> None:
    day_before = MIDNIGHT - 3_600 * SECOND_NS  # the first burst reaches two hours into the day
    store = store_of(tmp_path / "store", bursts(day_before, 8))
    seen = dataset.read(store, DAY)
    assert seen.result([], [], [], {}).coverage == pytest.approx(23 / 24)
    assert seen.span.worked_s < 3_600 < seen.span.coverage * 86_400
    assert "stand for the time until the next" in coverage.words(seen.collector)
    assert "It was off against its plan 2 times; the longest gap of Computer A took 60 min" in coverage.words(
        seen.collector
    )
    assert coverage.part_of(Store.open(store), Window.parse(DAY)) == pytest.approx(23 / 24)


# what changed


def test_a_slower_day_is_seen_and_the_rest_is_not(tmp_path: Path) -> None:
    found = daily.load(week(tmp_path / "store", nests(7, 40, slower=2.0)), window=EIGHTH)
    held = {one.name for one in found.found if one.remains and one.group == "median"}
    assert {"api:join", "api:guest", "joinable"} <= held
    assert "livekit:room" not in held
    words = said(daily.heading(found))
    assert re.search(r"\d+ things were compared\. By chance alone 1 in 20 would seem to differ", words)
    assert re.search(r"median delay, a join succeeds \+[\d.]+ s to \+[\d.]+ s", words)
    table = said(daily.changed(found))
    assert "among all" in table
    (drawn, *_) = daily.changed(found).parts
    assert "also among all" in drawn.layout.meta["alt"]
    assert len(drawn.layout.meta["rows"]) == len(found.found)


def test_a_day_without_anything_before_it_compares_nothing(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", [*nests(0, 12), *beats(MIDNIGHT, MIDNIGHT + DAY_NS)])
    found = daily.load(store, window=DAY)
    assert found.found == ()
    assert "Nothing could be compared" in said(daily.heading(found))
    assert len(figures_of(found)) == 1  # the days
    assert daily.result(found).verdict == "good"


def test_a_day_in_which_nothing_was_seen_is_a_gap(tmp_path: Path) -> None:
    days = [row for day in (0, 1, 2, 4, 5, 6, 7) for row in nests(day, 12)]
    work = [beats(MIDNIGHT, MIDNIGHT + 3 * DAY_NS), beats(MIDNIGHT + 4 * DAY_NS, MIDNIGHT + 8 * DAY_NS, "Computer B")]
    store = store_of(tmp_path / "store", [*days, *(row for part in work for row in part)])
    found = daily.load(store, window=EIGHTH)
    strips = changes.daily(found.days)
    assert strips["nests"].tolist() == [12, 12, 12, 0, 12, 12, 12, 12]
    assert strips["covered"][3] < 0.01
    assert math.isnan(strips["median_high_s"][3])
    counted = next(one for one in found.found if one.name == "nests")
    assert counted.low < 1.0 < counted.high  # by the time it was at work, not by the calendar
    assert daily.result(daily.load(store, window="2026-03-07")).verdict == "too little data"
    assert "The store holds no observation of 2026-03-07" in said(daily.heading(daily.load(store, window="2026-03-07")))


def test_no_nest_that_ever_came_leaves_delays_open(tmp_path: Path) -> None:
    rows = [
        replace(row, outcome=Outcome.ABSENT, status=404) if row.outcome is Outcome.VISIBLE else row
        for day in (6, 7)
        for row in nests(day, 12)
    ]
    found = daily.load(store_of(tmp_path / "store", [*rows, *beats(MIDNIGHT, MIDNIGHT + 8 * DAY_NS)]), window=EIGHTH)
    medians = [one for one in found.found if one.group == "median"]
    assert medians
    assert all((one.low, one.high) == (-math.inf, math.inf) and not one.differs for one in medians)
    assert "no lower end to no upper end" in said(daily.changed(found))
    assert daily.result(found).facts["median_delay_high_s"] is None
    assert "Nothing is tuned on these windows" in said(daily.advice(found))


def test_a_clock_that_stepped_changes_no_delay(tmp_path: Path) -> None:
    step = Observation(
        observation_id="step",
        run_id="run",
        vantage="Computer A",
        source=Source.CLOCK,
        target="clock:",
        operation=Operation.STEP,
        outcome=Outcome.PROBE_ERROR,
        failure=Failure.CLOCK_STEP,
        reason="the wall clock was stepped",
        sent_at=MIDNIGHT + 7 * DAY_NS + 100 * SECOND_NS,
        received_at=MIDNIGHT + 7 * DAY_NS + 160 * SECOND_NS,
        role=Role.OBSERVER,
    )
    plain = daily.load(week(tmp_path / "plain", nests(7, 12)), window=EIGHTH)
    stepped = daily.load(week(tmp_path / "stepped", nests(7, 12), iter([step])), window=EIGHTH)
    assert [(one.name, one.low, one.high) for one in plain.found if one.group == "median"] == [
        (one.name, one.low, one.high) for one in stepped.found if one.group == "median"
    ]
    assert daily.result(stepped).verdict == "good"


@pytest.mark.parametrize("count", [0, 1])
def test_a_store_of_nothing_or_of_one_row_is_said_to_be_that(tmp_path: Path, count: int) -> None:
    store = store_of(tmp_path / "store", list(nest_rows(0))[:count])
    found = daily.load(store)
    result = daily.result(found)
    assert result.verdict == "too little data"
    assert result.rows["observations"] == count
    words = said(daily.heading(found))
    assert ("holds no observation" in words) == (count == 0)
    assert not re.search(r"\b(nan|NaN|inf|None)\b", everything(found))


def test_one_nest_is_too_little_and_everything_is_shown(tmp_path: Path) -> None:
    found = daily.load(store_of(tmp_path / "store", all_rows(1)))
    assert daily.result(found).verdict == "too little data"
    assert "1 nest and 4 joins were seen" in said(daily.heading(found))
    assert not re.search(r"\b(nan|NaN|inf|None)\b", everything(found))


def test_every_figure_says_what_it_shows(seen: daily.Daily) -> None:
    drawn = figures_of(seen)
    assert len(drawn) == 2
    for figure in drawn:
        meta = figure.layout.meta
        assert meta["alt"]
        assert meta["rows"]
        assert not re.search(r"\b(nan|inf)\b", json.dumps(meta))


# the recommendation and the policy in use


def test_the_recommendation_is_held_against_the_policy_in_use(usual: str, seen: daily.Daily, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(policy_file.dumps(policy_file.PolicyFile(policy=fixed(2))))
    found = daily.load(usual, window=EIGHTH, policy=str(path))
    assert found.policy == fixed(2)
    assert "the policy in use (fixed(2))" in said(daily.advice(found))
    assert "the policy in use (manual_retry)" in said(daily.advice(seen))


@pytest.mark.parametrize("lacking", [{"least_nests": 1_000}, {"least_coverage": 1.01}], ids=["nests", "coverage"])
def test_nothing_is_advised_where_there_is_too_little_to_judge(seen: daily.Daily, lacking: dict[str, Any]) -> None:
    assert seen.tuned is not None
    found = replace(seen, rules=replace(seen.rules, **lacking))
    (reason,) = daily.result(found).reasons
    assert said(daily.advice(found)) == f"Nothing is advised: there is too little data. {reason}"


def test_of_many_addresses_the_budget_lists_those_that_came_closest_to_its_end(seen: daily.Daily) -> None:
    assert seen.now is not None
    requests = {(f"Place {n}", "nests.example"): np.full(7 * n, MIDNIGHT) for n in range(1, 14)}
    account = replace(seen.now.account, requests=requests)
    _, table, rest = daily.budget(replace(seen, now=replace(seen.now, account=account))).parts
    assert len(table.frame) == daily.MOST_BUDGETS
    assert table.frame["vantage point"].iloc[0] == "Place 13"
    assert said(rest).startswith("9 more")


def test_a_change_of_the_law_within_the_window_is_told_with_the_part_since(seen: daily.Daily) -> None:
    rng = np.random.default_rng(120)
    delays = TRUTHS[0].draw(240, rng)
    delays[120:] *= 5.0
    mixed = recommend(timelines(*observe(delays, rng, polls=40)), draws=40)
    told = said(daily.advice(replace(seen, tuned=mixed)))
    assert re.search(r"The delays changed between 20\d\d-\S+ \d\d:\d\d and .* UTC \(95 %; p = ", told)
    assert "nestobs tune --window" in told
    assert "The delays changed" not in said(daily.advice(seen))


def test_of_many_nests_every_so_manieth_is_tuned_on(seen: daily.Daily) -> None:
    assert seen.now is not None
    lines = seen.now.timelines
    some, every = daily.thinned(lines, 15)
    assert every == 3
    assert len(some[["trace_id", "nest"]].drop_duplicates()) == 14
    whole, all_of_them = daily.thinned(lines, 40)
    assert all_of_them == 1
    assert len(whole) == len(lines)
    assert np.isin(some.index, lines.index).all()


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"nestobs_policy": 99}'])
def test_a_policy_that_is_none_is_a_usage_error(usual: str, tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.json").write_text(text)
    with pytest.raises(UsageError):
        daily.load(usual, policy=str(tmp_path / "policy.json"))
    with pytest.raises(UsageError, match="give the policy"):
        daily.load(usual, policy=str(tmp_path / "none.json"))


@pytest.mark.parametrize("how", [{"before": 0}, {"allowed": 0}, {"allowed_window_s": 0.0}, {"window": "yesterday"}])
def test_words_that_are_none_are_usage_errors(usual: str, how: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        daily.load(usual, **how)


def test_a_store_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        daily.load(str(tmp_path / "none"))


# strangers, and the notebook


def test_names_of_strangers_stay_text(tmp_path: Path) -> None:
    names = Names(
        room=HOSTILE,
        trace="t",
        vantages=(HOSTILE, "B"),
        relays=(f"wss://{HOSTILE}/",),
        api=f"https://{HOSTILE}/api",
        reason=HOSTILE,
        message=HOSTILE,
        policy=HOSTILE,
    )
    rows = [row for day in (0, 7) for row in nest_rows(day, names, at=MIDNIGHT + day * DAY_NS)]
    found = daily.load(store_of(tmp_path / "store", rows), title=HOSTILE)
    for part in (daily.heading(found), *daily.changed(found).parts, *daily.budget(found).parts, daily.advice(found)):
        shown = part._repr_html_() if isinstance(part, Table | Text) else part.to_json()
        assert "<script" not in shown


def test_the_notebook_shows_one_result(usual: str, tmp_path: Path) -> None:
    page = run(notebook("daily_report"), tmp_path / "report.html", {"store": usual, "window": EIGHTH})
    made = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    results = [output["data"][RESULT] for output in outputs if RESULT in output.get("data", {})]
    assert [result["verdict"] for result in results] == ["good"]
    assert results[0]["rows"]["nests"] == 40
    shown = page.read_text()
    for question in ("What changed?", "How were the days?"):
        assert question in shown


def faulty(count: int) -> Iterator[Observation]:
    """Nests that the API lets nobody into, for ever."""
    ages = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    for number in range(count):
        names = {"room": f"room-{number}", "nest": f"30312:{'ab' * 32}:room-{number}", "trace_id": f"t-{number}"}
        yield asked.made(trace_id=f"t-{number}")
        yield from asked.polls(Source.API, Operation.INFO, 0.1, ages, **names)
        yield from asked.polls(Source.LIVEKIT, Operation.ROOMS, 0.1, ages, **names)
        tries = [(step, Outcome.ABSENT, at) for at in (0.0, 3.0, 6.0) for step in (Operation.JOIN, Operation.GUEST)]
        yield from asked.join(5.0 + number, tries, "gone", "", **names)


def test_a_standing_fault_is_named_on_top_and_counted_with_an_example(tmp_path: Path) -> None:
    found = daily.load(store_of(tmp_path, faulty(12)), window=DAY)
    top = said(daily.heading(found))
    assert "Standing faults. api_join_fault: The API fails every join of a room that is there" in top
    assert "12 joins of 12 nests, for example room-0." in top
    table = said(daily.causes(found))
    assert "12 joins ended outside the room." in table
    assert "api_join_fault 12 100 % (76 % to 100 %) 12" in table


def test_where_no_join_failed_nothing_is_on_top(tmp_path: Path) -> None:
    rows = asked.join(5.0, [(Operation.GUEST, Outcome.VISIBLE, 0.0)], "guest", "", role=Role.GUEST)
    found = daily.load(store_of(tmp_path, [asked.made(), *rows]), window=DAY)
    assert "Standing faults" not in said(daily.heading(found))
    assert "No join failed." in said(daily.causes(found))
