"""A fleet of five in the lab, shortened: wrong clocks, cut networks, one late and one killed; and all of it is true."""

from __future__ import annotations

import asyncio

import pandas as pd
import pytest

from nestobs.lab import load_scenario
from nestobs.store.reader import Store
from nestobs.trial.fleet import SCENARIO, Place, Work, sentences, stated, trial
from nestobs.trial.wrong_clock import WrongClock

pytestmark = pytest.mark.slow

WORK = Work(nests=8, every_s=2.2, horizon_s=8.0, polls=8, scale=0.12)
S = 1_000_000_000


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a trial, and what came of it."""
    out = tmp_path_factory.mktemp("fleet") / "out"
    return out, asyncio.run(trial(out, work=WORK, stand_in=True, progress=lambda what, facts: None))


def test_every_interval_offset_and_row_of_a_fleet_is_true(done):
    out, found = done
    assert found["failed"] == [], (found["failed"][:5], out)
    assert found["intervals"]["n"] == found["intervals"]["contain_truth"] > 150
    assert found["rows"]["apart"] == found["rows"]["together"] > 2_000


def test_each_place_saw_nests_by_a_clock_of_its_own(done):
    out, found = done
    names = [each.name for each in load_scenario(SCENARIO).vantages]
    assert [each["name"] for each in found["vantages"]] == names
    assert {name for name in names if found["intervals"]["by_vantage"][name]["n"] > 0} == set(names)
    assert all(found["offsets"][name]["held"] == found["offsets"][name]["n"] > 20 for name in names)
    shown = {name: Store.open(out / "stores" / name).frame()["clock_offset_s"].dropna().median() for name in names}
    assert {name: round(off_s, -1) for name, off_s in shown.items()} == pytest.approx(
        {"lisbon": 40.0, "oslo": -120.0, "quito": 120.0, "lagos": 0.0, "osaka": -40.0}
    )


def test_who_was_killed_and_who_came_late_cost_their_own_rows_alone(done):
    _, found = done
    codes = {each["name"]: each["code"] for each in found["vantages"]}
    assert codes == {"lisbon": 0, "oslo": 130, "quito": 130, "lagos": -9, "osaka": 130}
    joins = {each["name"]: each["verdicts"].get("visible", 0) for each in found["vantages"]}
    assert all(count > 0 for count in joins.values()), joins


def test_what_came_of_it_is_told_in_words(done):
    said = "\n".join(sentences(done[1]))
    assert "intervals contain the truth" in said
    assert "offsets" in said
    assert "0 doubled, 0 lost" in said


def place(**more):
    table = {"name": "oslo", "skew_s": -118.0, "drift_ppm": 0.0, "steps": [{"at_s": 50.0, "by_s": 15.0}]}
    place = Place({**table, **more}, None, None, spawned_at=10 * S, watches_at=12 * S)
    return place, WrongClock.of({**place.table, "began_at": 0, "first_at": 0})


def offsets(*told, at=100):
    rows = [{"clock_offset_s": one, "clock_error_s": 0.1, "received_at": (at - 118) * S} for one in told]
    return pd.DataFrame(rows).astype({"received_at": "Int64"})


def test_an_offset_that_is_off_by_more_than_it_says_is_found():
    found = stated(offsets(-118.0, -117.95, -117.8, -103.0), *place())
    assert list(found["held"]) == [True, True, False, False]
    assert found["off_by_s"].tolist() == pytest.approx([0.0, 0.05, 0.2, 15.0])


def test_drift_counts_by_the_true_time():
    found = stated(offsets(-119.0, -118.0), *place(drift_ppm=-10_000.0))
    assert list(found["held"]) == [True, False]


def test_where_a_step_fell_into_the_start_nothing_is_judged():
    found = stated(offsets(-118.0), *place(steps=[{"at_s": 11.0, "by_s": 1.0}]))
    assert found["held"].isna().all()
