"""The number of nests at a time follows how late the loop runs: down when it grows, up when it falls, never to none."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.collector.loop import pace
from nestobs.collector.loop.pace import CALM_S, LATE_S, NARROWER, WIDTH, Pace
from nestobs.sources.clock import LAG_S, LoopWatch


def test_it_narrows_when_the_loop_is_late_and_widens_when_it_is_not():
    found = Pace(under_way=WIDTH)
    found.look(LATE_S + 0.01)
    assert found.width == int(WIDTH * NARROWER) < WIDTH
    found.look(LATE_S + 0.01)
    assert found.width == int(WIDTH * NARROWER), "those under way are as many as before: once is enough"
    found.look((CALM_S + LATE_S) / 2)
    assert found.width == int(WIDTH * NARROWER), "neither late nor calm"
    for _ in range(3):
        found.look(0.0)
    assert found.width == int(WIDTH * NARROWER) + 3


def test_places_that_nobody_takes_are_not_added_to():
    found = Pace(under_way=WIDTH - 1)
    found.look(0.0)
    assert found.width == WIDTH


@given(st.lists(st.floats(0.0, 100.0), max_size=60), st.integers(0, 200))
def test_there_is_always_a_place(lags, under_way):
    found = Pace(under_way=under_way)
    for lag_s in lags:
        found.look(lag_s)
        assert found.width >= 1


@given(st.integers(1, 80))
def test_it_comes_to_rest_near_what_the_machine_carries(carried):
    """A machine whose loop is late whenever more than `carried` nests are under way; each nest takes 40 looks."""
    found, ends, history = Pace(), [], []
    for now in range(1_200):
        ends = [end for end in ends if end > now]
        found.under_way = len(ends)
        found.look(2 * LATE_S if found.under_way > carried else 0.0)
        if found.under_way < found.width:
            ends.append(now + 40)
        history.append(len(ends))
    late = history[200:]
    assert max(late) <= max(carried + 1, WIDTH)
    assert sum(late) / len(late) > min(carried, 40) * 0.5


def test_what_is_late_is_well_below_what_is_blocked():
    assert 0 < CALM_S < LATE_S <= LAG_S / 2


class Lagging(LoopWatch):
    """A watch that says what it is told to."""

    says_s = 0.0

    def lag_s(self, since: int) -> float:
        return self.says_s


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(pace, "LOOK_S", 0.01)


async def test_nests_wait_while_the_loop_is_late_and_begin_in_order_when_it_is_not(vantage, quick):
    vantage.watch = watch = Lagging(vantage.clock, lambda _: None)
    watch.says_s = 1.0
    found, begun, ended = Pace(width=1), [], asyncio.Event()

    async def nest(number: int) -> None:
        async with found.place(vantage):
            begun.append(number)
            await ended.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(nest(number))
        await asyncio.sleep(0.2)
        assert begun == [0], "one is always let in, and no other while it is late"
        watch.says_s = 0.0
        async with asyncio.timeout(10):
            while len(begun) < 4:  # noqa: ASYNC110 - the nests tell by a list
                await asyncio.sleep(0.01)
        assert begun == [0, 1, 2, 3]
        ended.set()
    assert found.under_way == 0


@pytest.mark.slow
async def test_at_most_one_is_added_at_a_look(vantage):
    vantage.watch = Lagging(vantage.clock, lambda _: None)
    found = Pace(width=1)
    async with AsyncExitStack() as stack:
        start = vantage.clock.now()
        for _ in range(3):
            await stack.enter_async_context(found.place(vantage))
        assert vantage.clock.now() - start >= pace.LOOK_S * 1e9
        assert found.width <= 1 + (vantage.clock.now() - start) // (pace.LOOK_S * 1e9) + 1


async def test_a_nest_that_fails_gives_its_place_back(vantage, quick):
    found = Pace(width=1)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            async with found.place(vantage):
                raise RuntimeError
    assert found.under_way == 0


async def test_a_canary_on_a_machine_that_is_late_makes_its_nests_one_after_the_other(open_lab, canary, monkeypatch):
    monkeypatch.setattr(LoopWatch, "lag_s", lambda *_: 1.0)
    async with open_lab("calm", delay_scale=0.1, relays=1) as lab:
        report = await canary.run(lab, 3, horizon_s=1.0, stagger_s=0.0, joins=0, pace=Pace(width=1))
    assert (report.made, report.left) == (3, [])
    told = [what for what in canary.told if what in ("created", "deleted")]
    assert told == ["created", "deleted"] * 3
