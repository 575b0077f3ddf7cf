"""The joins report: what it says of little, of nothing, of a collector that was off, and how it judges."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nestobs.diagnosis import Cause
from nestobs.observation.schema import Failure, Operation, Source
from nestobs.reports import joins
from nestobs.reports.publishing.execute import notebook, run
from worlds.full_nests import DAY, NOON, all_rows, let_down, nest_rows
from worlds.shown import HOUR_S, beats, figures, page, stepped, store, text, whole

pytestmark = pytest.mark.slow

SECTIONS = (
    joins.heading,
    joins.over_time,
    joins.funnel,
    joins.verdicts,
    joins.causes,
    joins.saved,
    joins.answers,
    joins.time_spent,
    joins.told,
    joins.result,
)


def load(directory: Path, rows: Any, window: str = "") -> joins.Found:
    return joins.load(store(directory / "store", rows), window)


def test_many_joins_give_every_figure_and_its_description(tmp_path: Path) -> None:
    found = load(tmp_path, all_rows(40))
    said = page(found, SECTIONS)
    assert "160 joins of 40 nests from 2 vantage points under guide" in said
    assert "Lost:" in said
    assert "8 joins more came to no verdict: cut off by a crash." in said
    whole(found, SECTIONS, count=8)
    assert joins.result(found).verdict == "good"
    facts = joins.result(found).facts
    assert facts["joined"] == float(found.journeys["joined"].sum())
    assert isinstance(facts["saved_by_retry"], float)
    assert facts["saved_by_retry"] > 0


@pytest.mark.parametrize("window", ["", DAY])
def test_an_empty_store_says_so(tmp_path: Path, window: str) -> None:
    found = load(tmp_path, [], window)
    said = page(found, SECTIONS)
    assert "holds no observation" in said
    assert "nothing to draw" in said
    assert not [figure for section in SECTIONS for figure in figures(section(found))]
    assert joins.result(found).verdict == "too little data"
    assert joins.result(found).coverage == (None if not window else 0.0)


def test_nests_that_nobody_joined_say_so(tmp_path: Path) -> None:
    rows = [row for row in all_rows(12) if row.source is not Source.JOIN]
    found = load(tmp_path, rows)
    assert "Nobody joined: 12 nests" in page(found, SECTIONS)
    assert joins.result(found).verdict == "too little data"


def test_one_row_and_one_nest_are_too_little_and_break_nothing(tmp_path: Path) -> None:
    assert "1 observation" in page(load(tmp_path / "row", list(nest_rows(0))[:1]), SECTIONS)
    nest = load(tmp_path / "nest", nest_rows(0))
    assert "4 joins of 1 nest" in page(nest, SECTIONS)
    assert joins.result(nest).verdict == "too little data"


def test_joins_of_nests_that_never_came_are_not_lost(tmp_path: Path) -> None:
    """Each eighth nest never comes: nobody could have joined it."""
    found = load(tmp_path, [row for number in range(7, 64, 8) for row in nest_rows(number, at=NOON + number * 10**10)])
    assert not found.observed.timelines["layer"].empty
    assert (found.lost.least, found.lost.n) == (0, 32)
    assert "32 more had no seat, and there was none to be had while they were there." in page(found, SECTIONS)
    assert joins.result(found).facts["lost_share"] == 0.0


def test_a_gap_of_days_in_the_collector_is_said_and_drawn(tmp_path: Path) -> None:
    later = 48 * HOUR_S
    rows = [*beats((0, HOUR_S), (later, later + HOUR_S)), *all_rows(12), *nest_rows(20, at=NOON + later * 10**9)]
    found = load(tmp_path, rows)
    said = page(found, SECTIONS)
    assert re.search(r"the longest gap of Computer [AB] took 47", said)
    assert "it is no outage" in said
    strip = figures(joins.over_time(found))[0]
    assert len(next(trace for trace in strip.data if trace.name == "collector off").y) >= 1


def test_a_clock_step_in_the_middle_is_said_and_marked(tmp_path: Path) -> None:
    found = load(tmp_path, [*beats((0, HOUR_S)), *all_rows(12), stepped(1800.0, 3600.0)])
    assert "the wall clock was stepped once" in page(found, SECTIONS)
    assert "clock stepped" in {trace.name for trace in figures(joins.over_time(found))[0].data}


def test_lost_joins_proven_to_be_more_than_asked_for_are_a_breach(tmp_path: Path) -> None:
    found = load(tmp_path, let_down(all_rows(60)))
    lower, _ = found.lost.score()
    assert found.lost.least > 0
    assert lower > 0
    assert joins.result(found, most_lost=lower / 2).verdict == "breached"
    assert joins.result(found, most_lost=lower).verdict == "good"  # not proven
    assert joins.result(found, most_lost=1.0).verdict == "good"
    assert joins.result(found, least_joins=10_000).verdict == "too little data"
    assert "is asked for" in text(joins.result(found, most_lost=0.0))


def test_a_join_that_ends_after_the_window_keeps_its_steps(tmp_path: Path) -> None:
    found = load(tmp_path, all_rows(4), "2026-03-04T12:00/2026-03-04T12:00:31")
    assert found.observed.nests == 2
    assert len(found.journeys) == len(found.observed.joins) == 8
    assert (found.journeys["rounds"] > 0).all()


def test_answers_are_apart_and_the_table_is_short(tmp_path: Path) -> None:
    rows = list(all_rows(12))
    told = [row for row in rows if row.attempt_group.startswith("join-") and row.operation is Operation.GUEST]
    refused = {"failure": Failure.RATE_LIMITED, "reason": "too many", "status": 429, "outcome": "refused"}
    changed = {id(told[0])}
    made = [_with(row, refused) if id(row) in changed else row for row in rows]
    found = load(tmp_path, made)
    assert "429" in page(found, SECTIONS)
    assert found.answers.loc[found.answers["answer"] == "429", "n"].sum() == 1


def _with(row: Any, changes: dict[str, Any]) -> Any:
    from dataclasses import replace

    from nestobs.observation.schema import Outcome

    return replace(row, **changes | {"outcome": Outcome(changes["outcome"])})


def test_the_notebook_says_it_on_its_page(tmp_path: Path) -> None:
    made = run(notebook("joins"), tmp_path / "page.html", {"store": store(tmp_path / "store", all_rows(12))})
    assert "48 joins of 12 nests" in re.sub(r"</?dfn[^>]*>", "", made.read_text())
    assert "application/vnd.nestobs.result+json" in made.with_suffix(".ipynb").read_text()


def test_each_failed_join_has_a_cause_and_the_shares_are_of_all_that_failed(tmp_path: Path) -> None:
    found = load(tmp_path, all_rows(40))
    failed = int((~found.observed.joins["joined"].astype(bool)).sum())
    assert len(found.failed.joins) == len(found.failed.cause) == failed > 0
    said = page(found, (joins.causes,))
    assert f"{failed} joins ended outside the room." in said
    assert set(found.failed.cause) <= {str(cause) for cause in Cause} - {"joined"}
