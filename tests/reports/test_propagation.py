"""The propagation report: what it says of little, of nothing, of a collector that was off, and how it judges."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nestobs.errors import StoreError, UsageError
from nestobs.estimate import groups
from nestobs.observation.schema import Failure, Operation, Outcome, Source
from nestobs.reports import propagation
from nestobs.reports.publishing.execute import notebook, run
from worlds.full_nests import DAY, NOON, all_rows, nest_rows, rows_of_days
from worlds.shown import HOUR_S, beats, figures, page, stepped, store, text, whole

pytestmark = pytest.mark.slow

SECTIONS = (
    propagation.answer,
    propagation.heading,
    propagation.collected,
    propagation.by_layer,
    propagation.by_relay,
    propagation.by_vantage,
    propagation.by_hour,
    propagation.last,
    propagation.agree,
    propagation.flaps,
    propagation.result,
)


def load(directory: Path, rows: Any, window: str = "") -> propagation.Found:
    return propagation.load(store(directory / "store", rows), window)


def test_many_nests_give_every_figure_and_its_description(tmp_path: Path) -> None:
    found = load(tmp_path, all_rows(40))
    said = page(found, SECTIONS)
    assert "40 nests watched on 9 layers from 2 vantage points" in said
    assert "Half of the nests could be joined after" in said
    assert "All watched places said the same in" in said
    whole(found, SECTIONS, count=9)
    assert propagation.result(found).verdict == "good"


def test_the_page_opens_with_each_places_half_judged_by_the_whole_interval(tmp_path: Path) -> None:
    found = load(tmp_path, all_rows(40))
    half = {row.name: row for row in found.groups["vantage"]}
    for limit in (0.0, 0.5, 60.0):
        opened = propagation.answer(found, most_median_s=limit)
        shown = {tile.name: tile for tile in opened.tiles}
        assert list(shown)[-2:] == ["observer held up", "coverage"]
        signs = {shown[f"half joinable, {name}"].sign for name in half}
        assert signs == {{0.0: "none", 0.5: "breached", 60.0: "good"}[limit]}
        assert opened.result == propagation.result(found, most_median_s=limit)
    for name in half:
        tile = shown[f"half joinable, {name}"]
        assert f"{tile.value} (" in opened.sentence
        assert tile.detail.startswith("95 %: ")


def test_the_time_before_stands_beside_each_half(tmp_path: Path) -> None:
    where = store(tmp_path / "store", rows_of_days(12, 3))
    alone, beside, none = (propagation.load(where, DAY, before=count) for count in (0, 2, 400))
    assert [one.before for one in propagation.answer(alone).tiles] == [""] * len(propagation.answer(alone).tiles)
    for found in (beside, none):
        assert all(one.before.startswith("before: ") for one in propagation.answer(found).tiles)
    assert "no difference shown" in propagation.answer(beside).tiles[0].before
    slower = replace(beside, groups=beside.groups | {"vantage": groups.by_vantage(late(beside, 60.0))})
    assert "▲ more" in propagation.answer(slower).tiles[0].before
    with pytest.raises(UsageError, match="0 for none"):
        propagation.load(where, DAY, before=-1)


def late(found: propagation.Found, by_s: float) -> pd.DataFrame:
    """Its timelines, all of them so much later."""
    lines = found.observed.timelines
    return lines.assign(lower_s=lines["lower_s"] + by_s, upper_s=lines["upper_s"] + by_s)


@pytest.mark.parametrize("window", ["", DAY])
def test_an_empty_store_says_so(tmp_path: Path, window: str) -> None:
    found = load(tmp_path, [], window)
    said = page(found, SECTIONS)
    assert "holds no observation" in said
    assert "nothing to draw" in said
    assert not [figure for section in SECTIONS for figure in figures(section(found))]
    assert propagation.result(found).verdict == "too little data"
    assert propagation.result(found).coverage == (None if not window else 0.0)


def test_an_idle_collector_was_at_work_and_saw_no_nest(tmp_path: Path) -> None:
    found = load(tmp_path, beats((0, HOUR_S)))
    said = page(found, SECTIONS)
    assert "60 observations, but of no nest" in said
    assert "The collector was at work in 100 % of the time." in said
    assert propagation.result(found).verdict == "too little data"


def test_one_row_and_one_nest_are_too_little_and_break_nothing(tmp_path: Path) -> None:
    one = load(tmp_path / "row", list(nest_rows(0))[6:7])
    assert "1 observation" in page(one, SECTIONS)
    assert "nothing says that the collector was at work" in page(one, SECTIONS).lower() or one.observed.nests == 1
    nest = load(tmp_path / "nest", nest_rows(0))
    said = page(nest, SECTIONS)
    assert "1 nest watched" in said
    assert propagation.result(nest).verdict == "too little data"
    assert "1 nest; from 10 on" in said


def test_all_censored_says_that_nothing_was_seen(tmp_path: Path) -> None:
    rows = [row for row in all_rows(12) if row.outcome is not Outcome.VISIBLE and row.source is not Source.JOIN]
    found = load(tmp_path, rows)
    said = page(found, SECTIONS)
    assert "not within the watch" in said
    assert "No layer showed any nest (24 looked at)" in said
    assert found.observed.timelines["right_censored"].all()
    assert propagation.result(found).verdict == "good"  # nothing was asked for
    limited = propagation.result(found, most_median_s=0.5)
    assert limited.verdict == "breached"
    assert limited.facts["median_joinable_s"] is None


DAYS = (0.0, 24 * HOUR_S, 48 * HOUR_S)


def with_a_gap() -> list[Any]:
    made = [*beats((DAYS[0], DAYS[0] + HOUR_S), (DAYS[2], DAYS[2] + HOUR_S), vantage="Computer A")]
    later = NOON + round(DAYS[2] * 1e9)
    return [*made, *all_rows(12), *nest_rows(20, at=later)]


def test_a_gap_of_days_in_the_collector_is_said_and_drawn(tmp_path: Path) -> None:
    found = load(tmp_path, with_a_gap())
    said = page(found, SECTIONS)
    assert re.search(r"the longest gap of Computer [AB] took 47\.\d h", said)
    assert "it is no outage" in said
    assert "2026-03-04 13:00:00" in said
    strips = [
        figure
        for section in SECTIONS
        for figure in figures(section(found))
        if any(trace.name == "collector off" and len(trace.y) for trace in figure.data)
    ]
    assert len(strips) == 2  # by itself, and under agreement over time


def test_the_coverage_of_a_window_is_in_the_result(tmp_path: Path) -> None:
    found = load(tmp_path, [*beats((0, HOUR_S)), *all_rows(12)], "2026-03-04T12:00/2026-03-04T14:00")
    result = propagation.result(found)
    assert result.coverage == pytest.approx(0.5, abs=0.01)
    assert result.rows["nests"] == 12
    assert "off" in text(propagation.collected(found))


def test_beats_at_the_edges_of_a_window_count_for_it(tmp_path: Path) -> None:
    """Each begins before the window or ends after it, and is cut."""
    found = load(tmp_path, beats((-90.0, HOUR_S + 90.0)), "2026-03-04T12:00/2026-03-04T13:00")
    assert propagation.result(found).coverage == 1.0


def test_a_clock_step_and_a_sleep_in_the_middle_are_said_and_marked(tmp_path: Path) -> None:
    rows = [*beats((0, HOUR_S)), *all_rows(12), stepped(1800.0, -3600.0), stepped(2000.0, 90.0, Failure.SUSPENDED)]
    found = load(tmp_path, rows)
    said = page(found, SECTIONS)
    assert "the wall clock was stepped once" in said
    assert "the machine slept once" in said
    assert "-3600.0 s" in said
    names = {trace.name for figure in figures(propagation.agree(found)) for trace in figure.data}
    assert {"clock stepped", "machine slept"} <= names


def test_a_median_proven_too_long_is_a_breach_and_no_limit_is_none(tmp_path: Path) -> None:
    found = load(tmp_path, all_rows(40))
    assert propagation.result(found, most_median_s=0.5).verdict == "breached"
    assert "more than the 0.5 s" in text(propagation.result(found, most_median_s=0.5))
    assert propagation.result(found, most_median_s=60.0).verdict == "good"
    assert propagation.result(found, most_median_s=0.0).verdict == "good"
    assert propagation.result(found, least_nests=41).verdict == "too little data"


def test_only_nests_of_the_window_count(tmp_path: Path) -> None:
    found = load(tmp_path, all_rows(12), "2026-03-04T12:01/2026-03-04T12:02")
    assert found.observed.nests == 2


def test_no_store_and_no_window_are_the_operators_mistakes(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        propagation.load(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="is no window"):
        propagation.load(store(tmp_path / "store", []), "yesterday")


def test_a_watch_that_knows_no_api_says_what_it_cannot(tmp_path: Path) -> None:
    rows = [row for row in all_rows(12) if row.source is Source.RELAY and row.operation is Operation.QUERY]
    said = page(load(tmp_path, rows), SECTIONS)
    assert "nothing to draw" in said


def test_the_notebook_says_it_on_its_page(tmp_path: Path) -> None:
    made = run(notebook("propagation"), tmp_path / "page.html", {"store": store(tmp_path / "store", with_a_gap())})
    shown = made.read_text()
    assert "the longest gap of Computer" in shown
    assert "application/vnd.nestobs.result+json" in made.with_suffix(".ipynb").read_text()
