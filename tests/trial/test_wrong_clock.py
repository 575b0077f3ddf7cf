"""A machine whose clock is wrong: all that its process reads is, and in one way; the truth can be worked out."""

from __future__ import annotations

import subprocess

import pytest

from nestobs.sources.clock import Clock, Machine, count
from nestobs.store.reader import Store
from nestobs.trial.wrong_clock import WrongClock, WrongMachine, words

S = 1_000_000_000
TABLE = {"skew_s": -118.0, "drift_ppm": -80.0, "steps": [{"at_s": 10.0, "by_s": 15.0}, {"at_s": 40.0, "by_s": -2.0}]}
CLOCK = WrongClock.of(TABLE | {"began_at": 1_000 * S, "first_at": 1_000 * S})


@pytest.fixture
def wrong(monkeypatch, tmp_path):
    """This process on a machine whose clock is wrong since 100 s ago, and what it is ahead now, seconds."""

    def made(**table):
        since = Machine().wall() - 100 * S
        usual = {"skew_s": 0.0, "drift_ppm": 0.0, "steps": [], "began_at": since, "first_at": since}
        clock = WrongClock.of(usual | table)
        monkeypatch.setattr(Clock, "machine", WrongMachine(clock, tmp_path / "first"))
        return lambda: clock.ahead_s(Machine().wall())

    return made


def close(first, second):
    return abs(first - second) < 0.5


def test_it_is_ahead_by_skew_drift_and_the_steps_so_far():
    at = [1_000 * S, 1_009 * S, 1_020 * S, 1_100 * S]
    assert [CLOCK.ahead_s(one) for one in at] == pytest.approx([-118.0, -118.00072, -103.0016, -105.008])


def test_a_step_does_not_move_what_took_its_anchor_before():
    assert CLOCK.ahead_s(1_100 * S, anchored_at=1_005 * S) == pytest.approx(-118.008)
    assert CLOCK.ahead_s(1_100 * S, anchored_at=1_030 * S) == pytest.approx(-103.008)


@pytest.mark.parametrize("skew_s", [120.0, -120.0])
def test_a_clock_on_such_a_machine_is_off_by_as_much(wrong, skew_s):
    ahead_s = wrong(skew_s=skew_s, steps=[{"at_s": 50.0, "by_s": 3600.0}])
    assert close(ahead_s(), skew_s + 3600.0)
    assert close((Clock().now() - Machine().wall()) / S, skew_s + 3600.0)


def test_its_count_drifts_as_its_wall_clock_does(wrong):
    wrong(drift_ppm=50_000.0)
    clock, begun = Clock(), count()
    assert (clock.at(begun + 100 * S) - clock.at(begun)) / S == pytest.approx(105.0)
    assert abs(clock.wall_departure_s()) < 0.1, "drift reads as a step"


def test_another_process_tells_a_count_as_it_is(wrong):
    wrong(skew_s=-60.0, drift_ppm=90.0)
    clock = Clock()
    assert close(clock.at(count()) / S, clock.now() / S)


def test_a_step_while_it_runs_is_a_departure_and_moves_no_instant(wrong):
    wrong(steps=[{"at_s": 100.5, "by_s": -3600.0}])
    clock = Clock()
    before = clock.now()
    while clock.wall_departure_s() > -3000.0:
        assert clock.now() - before < 10 * S
    assert clock.wall_departure_s() == pytest.approx(-3600.0)
    assert clock.now() >= before


def test_steps_count_from_the_first_nest_once_that_is_told(wrong, tmp_path):
    wrong(steps=[{"at_s": 5.0, "by_s": 3600.0}], first_at=None)
    clock = Clock()
    assert close(clock.wall_departure_s(), 0.0)
    (tmp_path / "first").write_text(f"{Machine().wall()}\n")
    assert close(clock.wall_departure_s(), 0.0)
    again = WrongMachine(WrongClock(steps=((5.0, 3600.0),)), tmp_path / "first")
    (tmp_path / "first").write_text(f"{Machine().wall() - 6 * S}\n")
    assert close(again.wall() / S, Machine().wall() / S + 3600.0)


def test_without_a_trial_a_clock_is_this_machines():
    assert type(Clock.machine) is Machine
    assert close(Clock().now() / S, Machine().wall() / S)


@pytest.mark.slow
def test_the_command_line_goes_by_it(tmp_path):
    """`run_id` is a UUIDv7: it holds the instant at which it was made."""
    began_at = Machine().wall()
    nobody = ["--api", "http://127.0.0.1:9/api/v1/nests", "--relay", "ws://127.0.0.1:9", "--store", str(tmp_path / "s")]
    command = [
        *words({"skew_s": 7_200.0, "drift_ppm": 0.0, "steps": []}, began_at, tmp_path),
        "watch",
        "--for",
        "1s",
        *nobody,
    ]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 3
    rows = list(Store.open(tmp_path / "s", create=False).observations())
    assert rows
    made = [int(row.run_id.replace("-", "")[:12], 16) / 1_000 for row in rows]
    assert all(7_190 < at - began_at / S < 7_300 for at in made)
