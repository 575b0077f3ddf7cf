"""The instants of a service's plan: on a grid, none twice, none made up for late, whatever happens to the clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.collector.service.hours import LATE, Every, Hours, daily
from nestobs.collector.service.memory import FILE, Notebook
from nestobs.observation.duration import SECOND_NS
from nestobs.sources.clock import Clock

MIDNIGHT = 1_772_582_400 * SECOND_NS
"""2026-03-04T00:00:00Z."""

HOUR = 3_600 * SECOND_NS
FIRST = MIDNIGHT // (3 * HOUR)
THREE = Every(10_800.0)


@pytest.mark.parametrize(
    ("at_s", "done", "number", "due_s"),
    [
        pytest.param(3_600, None, 0, 3_600, id="the first of all is made at once"),
        pytest.param(10_000, None, 1, 10_800, id="unless the next is near"),
        pytest.param(60, 0, 1, 10_800, id="the next on the grid"),
        pytest.param(10_860, 0, 1, 10_800, id="begun a minute late"),
        pytest.param(10_800 + 2_800, 0, 2, 21_600, id="later than a quarter: it is missed"),
        pytest.param(10_860, 1, 2, 21_600, id="not twice after a restart"),
        pytest.param(86_400 + 60, 0, 8, 86_400, id="a day was missed, and is not made up for"),
        pytest.param(-3_600, 1, 2, 21_600, id="a clock that was set back repeats nothing"),
    ],
)
def test_which_turn_is_next(at_s: int, done: int | None, number: int, due_s: int) -> None:
    slot = THREE.next(MIDNIGHT + at_s * SECOND_NS, None if done is None else FIRST + done)
    assert (slot.number - FIRST, (slot.due_at - MIDNIGHT) // SECOND_NS) == (number, due_s)


@pytest.mark.slow
@given(
    now=st.integers(0, 2**61),
    period_s=st.integers(60, 86_400),
    share=st.floats(0.0, 0.5),
    back=st.integers(-3, 50),
    key=st.text(max_size=20),
)
def test_no_turn_comes_twice_or_before_its_instant(now: int, period_s: int, share: float, back: int, key: str) -> None:
    every = Every(float(period_s), share * period_s, key)
    done = now // (period_s * SECOND_NS) - back
    slot = every.next(now, done)
    assert slot.number > done
    assert slot == every.slot(slot.number)  # by chance, and the same whenever it is asked
    assert 0 <= slot.due_at - slot.grid_at <= round(share * period_s * SECOND_NS)
    assert now - slot.due_at <= LATE * period_s * SECOND_NS
    assert slot.grid_at % (period_s * SECOND_NS) == 0


def test_those_who_share_a_server_do_not_come_together() -> None:
    dues = {Every(10_800.0, 600.0, f"https://{name}").slot(1).due_at for name in "abcdefgh"}
    assert len(dues) == 8


@pytest.mark.parametrize(
    ("now_s", "at_s", "last_s", "next_s"),
    [
        pytest.param(0, (1_200,), -85_200, 1_200, id="midnight"),
        pytest.param(1_200, (1_200,), 1_200, 87_600, id="on the dot"),
        pytest.param(30_000, (64_800, 1_200, 22_800, 44_400), 22_800, 44_400, id="four a day, in any order"),
        pytest.param(86_399, (0,), 0, 86_400, id="just before midnight"),
    ],
)
def test_the_hours_before_and_after_an_instant(now_s: int, at_s: tuple[int, ...], last_s: int, next_s: int) -> None:
    found = daily(MIDNIGHT + now_s * SECOND_NS, at_s)
    assert [(at - MIDNIGHT) // SECOND_NS for at in found] == [last_s, next_s]


def test_a_plan_goes_by_the_wall_clock_also_after_it_was_set() -> None:
    wall = [MIDNIGHT]
    hours = Hours(Clock(wall=lambda: wall[0], monotonic=lambda: 5))
    assert hours.now() == MIDNIGHT
    wall[0] += HOUR
    assert hours.now() == MIDNIGHT + HOUR


@pytest.mark.parametrize("rate", [1, 60, 720])
def test_a_faster_plan_is_the_same_plan(rate: int) -> None:
    wall = MIDNIGHT + 10 * SECOND_NS
    hours = Hours(Clock(wall=lambda: wall, monotonic=lambda: 5), rate=rate, since=MIDNIGHT)
    assert hours.now() == MIDNIGHT + 10 * rate * SECOND_NS
    assert hours.real(hours.now()) == wall
    assert hours.real_s(86_400.0) == 86_400.0 / rate


async def test_an_instant_that_is_past_is_not_waited_for() -> None:
    hours = Hours(Clock())
    await hours.until(hours.now() - HOUR)
    await hours.until(hours.now() + 1_000)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"burst": "7"}', '{"burst": true}', "[" * 5_000, '{"burst": 1e400}', "x" * 20_000],
    ids=["empty", "torn", "a list", "null", "words", "a flag", "deep", "infinite", "long"],
)
def test_a_memory_that_is_none_begins_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert Notebook(tmp_path).memory.burst is None


def test_a_memory_is_as_it_was(tmp_path: Path) -> None:
    Notebook(tmp_path).note(burst=7, first_at=MIDNIGHT)
    again = Notebook(tmp_path)
    again.note(burst=8)
    assert (Notebook(tmp_path).memory.burst, Notebook(tmp_path).memory.first_at) == (8, MIDNIGHT)
