"""Python looks for garbage seldom while something is observed, and finds all of it all the same."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter

import pytest

from nestobs.collector.loop.garbage import collected_seldom

pytestmark = pytest.mark.slow

OBJECTS = 20_000


class Ring:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.itself, self.weight = self, bytearray(10_000)


@pytest.fixture
def looks():
    """How often each generation was looked at."""
    found: Counter[int] = Counter()

    def heard(phase: str, facts: dict[str, int]) -> None:
        found[facts["generation"]] += phase == "start"

    gc.callbacks.append(heard)
    yield found
    gc.callbacks.remove(heard)


def aged() -> weakref.ref[Ring]:
    """A ring that lived on until it was old, and has been let go."""
    ring = Ring()
    for _ in range(2):
        gc.collect(1)
    return weakref.ref(ring)


async def test_objects_that_stay_do_not_make_it_look_at_all_there_is(looks):
    kept = []
    async with collected_seldom():
        looks.clear()
        for _ in range(20 * OBJECTS):
            kept.append([kept])
    assert looks[2] == 0 < looks[0]


async def test_as_python_has_it_they_do(looks):
    kept = [[looks] for _ in range(20 * OBJECTS)]
    assert looks[2] > 0, "else the test above says nothing"
    del kept


async def test_rings_that_die_young_are_freed_at_once():
    async with collected_seldom():
        rings = [weakref.ref(Ring()) for _ in range(OBJECTS)]
        assert sum(ring() is not None for ring in rings) < OBJECTS / 10


async def test_rings_that_grew_old_are_freed_when_it_looks():
    async with collected_seldom(every_s=0.01):
        freed = asyncio.Event()
        weakref.finalize(aged()(), freed.set)
        await freed.wait()


async def test_and_not_before():
    async with collected_seldom():
        ring = aged()
        kept = [[ring] for _ in range(20 * OBJECTS)]
        assert ring() is not None
        del kept
    gc.collect()
    assert ring() is None


async def test_memory_stays_flat_over_many_rounds_of_rings_that_grow_old():
    async with collected_seldom(every_s=0.01):
        rings = []
        for _ in range(50):
            rings += [aged() for _ in range(5)]
            await asyncio.sleep(0.011)
        left = sum(ring() is not None for ring in rings)
    assert left <= 50, "of 250"


async def test_what_was_there_before_is_not_looked_at_until_the_block_is_left():
    ring = Ring()
    async with collected_seldom():
        found, ring = weakref.ref(ring), None
        gc.collect()
        assert found() is not None
    gc.collect()
    assert found() is None


async def test_python_is_left_as_it_was_by_the_last_of_blocks_that_overlap():
    before = gc.get_threshold()
    first, second = collected_seldom(), collected_seldom()
    await first.__aenter__()
    within = gc.get_threshold()
    assert within[:2] == before[:2]
    assert within[2] > 1_000 * before[2]
    await second.__aenter__()
    await first.__aexit__(None, None, None)
    assert gc.get_threshold() == within
    assert gc.get_freeze_count() > 0
    await second.__aexit__(None, None, None)
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


async def test_who_turned_it_off_finds_it_off(looks):
    gc.disable()
    try:
        async with collected_seldom(every_s=0.01):
            looks.clear()
            await asyncio.sleep(0.1)
        assert not looks
    finally:
        gc.enable()
