"""One number on every page: how many joins of a store were lost, of how many, and what share that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestobs.reports import daily, incident, joins
from nestobs.store.reader import Store
from nestobs.timeline import funnel
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins as joins_of
from nestobs.tuning.prediction import outcomes, realised
from worlds.full_nests import DAY, all_rows, let_down, store_of

pytestmark = pytest.mark.slow

NESTS = 24


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Nests of one day, each joined four times; some joins get no seat though there is one, some nests never come."""
    return store_of(tmp_path_factory.mktemp("lost") / "store", let_down(all_rows(NESTS, spacing_s=1_200.0), every=6))


@pytest.fixture(scope="module")
def counted(store: str) -> tuple[float, float, float]:
    """As the table of joins has it: lost, known, share."""
    rows = Store.open(Path(store)).frame()
    told = joins_of(rows, timelines(rows))["lost"].dropna()
    return float(told.sum()), float(len(told)), float(told.sum() / len(told))


def test_some_are_lost_and_some_are_not(counted: tuple[float, float, float]) -> None:
    lost, known, _ = counted
    assert 0 < lost < known == 4 * NESTS


@pytest.mark.parametrize("window", ["", DAY])
def test_the_joins_page_and_the_daily_page_say_the_same(
    store: str, window: str, counted: tuple[float, float, float]
) -> None:
    page, day = joins.result(joins.load(store, window)), daily.result(daily.load(store, window=DAY))
    names = ("lost", "lost_known", "lost_share")
    assert tuple(page.facts[name] for name in names) == tuple(day.facts[name] for name in names) == counted


def test_they_give_it_the_same_interval(store: str) -> None:
    lower, upper = joins.load(store, DAY).lost.score()
    facts = daily.result(daily.load(store, window=DAY)).facts
    assert (facts["lost_share_low"], facts["lost_share_high"]) == (lower, upper)


def test_the_incident_pages_of_all_nests_add_up_to_it(store: str, counted: tuple[float, float, float]) -> None:
    pages = [incident.result(incident.load(store, f"room-{number:04}")).facts for number in range(NESTS)]
    lost, known = (sum(float(page[name] or 0) for page in pages) for name in ("lost", "lost_known"))
    assert (lost, known, lost / known) == counted


def test_the_funnel_counts_the_same(store: str, counted: tuple[float, float, float]) -> None:
    rows = Store.open(Path(store)).frame()
    fates = list(funnel.fates(funnel.journeys(rows, joins_of(rows, timelines(rows)))))
    lost, known = fates.count("lost"), len(fates) - fates.count("unclear")
    assert (lost, known, lost / known) == counted


def test_what_is_set_beside_a_prediction_is_the_same(store: str, counted: tuple[float, float, float]) -> None:
    rows = Store.open(Path(store)).frame()
    value, error, known = realised(outcomes(rows, timelines(rows)))["lost_share"]
    assert (value * known, known, value, error) == pytest.approx((*counted, 0.0))
