"""The page of capacity tells what the code says: its tables are those that the command prints."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import nestobs
from benchmarks.capacity import (
    LEAST_REQUESTS,
    MOST_REQUESTS,
    RELAY_ROWS,
    RELAYS,
    Rates,
    bounds,
    costs,
    expected,
    measured_bounds,
    planned,
    steady,
)
from nestobs.collector.polling import Plan
from nestobs.collector.watch import FOLLOW_S, polls_paid
from nestobs.join.budget import DEFAULT_REQUESTS, DEFAULT_WINDOW_S

PAGE = Path(nestobs.__file__).parents[1] / "docs" / "capacity.md"
HOUR_S = 3_600.0


def test_the_page_holds_what_follows_from_the_code():
    page = PAGE.read_text("utf-8")
    for table in planned().split("\n\n"):
        assert table in page, "put what `python -m benchmarks.capacity --planned` prints into docs/capacity.md"


def test_what_was_measured_is_on_the_page_in_the_form_of_the_command():
    page = PAGE.read_text("utf-8")
    any_rates = Rates(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    for table in (costs(any_rates), measured_bounds(any_rates)):
        names = [line.split("|")[1] for line in table.splitlines()]
        assert all(f"|{name}|" in page for name in names if not name.startswith(" ---"))


@pytest.mark.parametrize("begun_s", [0.0, 0.7, 5.0, 60.0, 179.0, 500.0])
def test_what_is_expected_is_what_plans_ask_on_average(begun_s):
    rng, plan, times = random.Random(1), Plan(8, FOLLOW_S, 3), 4_000
    asked = sum(sum(age_s >= begun_s for age_s in plan.ages_s(rng)) for _ in range(times)) / times
    assert asked == pytest.approx(expected(8, begun_s), abs=0.05)


@pytest.mark.parametrize("spacing_s", [3_600.0, 60.0, 5.0])
def test_no_more_is_asked_than_the_budget_pays(spacing_s):
    found = steady(spacing_s)
    assert found.requests <= DEFAULT_REQUESTS * HOUR_S / DEFAULT_WINDOW_S * 1.01
    assert 0 < found.asked <= HOUR_S / spacing_s
    assert 0 < found.requests / found.asked <= MOST_REQUESTS  # fewer than planned where others spent it meanwhile


def test_a_nest_is_asked_about_in_full_or_with_what_is_left_or_not_at_all():
    assert 2 * polls_paid(10**6) == MOST_REQUESTS
    assert [polls_paid(left) for left in (24, 23, 0)] == [LEAST_REQUESTS // 2, 0, 0]
    assert all(2 * polls_paid(left) <= left for left in range(200))


def test_bounds_come_the_tightest_first():
    days = [each.day for each in bounds()]
    assert days == sorted(days)
    assert days[0] == DEFAULT_REQUESTS * 86_400 / DEFAULT_WINDOW_S / MOST_REQUESTS


def test_costs_grow_with_vantages_and_not_with_nests_that_are_not_followed():
    lines = [line.split(" | ") for line in costs(Rates(100.0, 600.0, 1.0, 1e6, 0.001, 0.001)).splitlines()[2:]]
    rows = {line[0].strip("| "): line[2] for line in lines}
    assert rows["1 and 1,000"].strip() == f"{(1_000 * RELAYS * RELAY_ROWS + 7_680) / 1_000:.3g} k"
    assert rows["100 and 1,000,000"].split()[0] == rows["1 and 1,000,000"].split()[0].replace("20.8", "2.08")
