"""Ages by the API's clock, where this computer's is surely apart from it: what is told and followed by them.

The lab's API is off, and hosts date their events by its clock: so it is this computer that is wrong.
"""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import replace

import pytest

from nestobs.collector.lookup import GONE, NOT_YET, find, readiness
from nestobs.collector.prober import join_once
from nestobs.collector.watch import run
from nestobs.join.budget import Budget
from nestobs.join.decision import STARTING, Kind
from nestobs.join.policy import fixed
from nestobs.nostr import ROOM_KIND, Address, Keys
from nestobs.observation.detail import facts_of
from nestobs.observation.nest import room_tags
from nestobs.observation.schema import Operation
from nestobs.store.reader import Store
from worlds.command_line import now_s, publish

pytestmark = pytest.mark.slow

ROOM = "a-room"
OURS_IS = {"ahead": -100.0, "behind": 100.0}
wrong = pytest.mark.parametrize("skew_s", OURS_IS.values(), ids=OURS_IS)


@pytest.fixture
def dated(open_lab, scenario, target_of):
    """`async with dated(skew_s, age_s) as (lab, address, say)`: `say` announces a nest of that age by the API's clock,
    which is so far ahead of ours."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def opened(skew_s, age_s):
        keys = Keys.generate()
        async with open_lab(scenario(f"[api]\ndate_skew_s = {skew_s}\n"), relays=1) as lab:

            async def say():
                made_s = now_s() + round(skew_s) - age_s
                tags = room_tags(room=ROOM, name="a nest", host=keys.public, service="", streaming="", relays=())
                event = keys.sign(ROOM_KIND, created_at=made_s, tags=tags)
                await asyncio.to_thread(publish, target_of(lab).relays[0], event)

            yield lab, Address(ROOM_KIND, keys.public, ROOM), say

    return opened


@wrong
@pytest.mark.parametrize(("age_s", "code"), [(5, NOT_YET), (60, GONE)])
async def test_ready_reads_the_age_of_a_nest_by_the_apis_clock_and_says_so(dated, open_station_on, skew_s, age_s, code):
    async with dated(skew_s, age_s) as (lab, address, say), open_station_on(lab) as station:
        await say()
        found = await readiness(station, await find(station, address))
    assert found.code == code
    side = "ahead of" if skew_s < 0 else "behind"
    said = rf"\(by the API's clock, since this one is (99|100)\.\d s {side} the API's, give or take 0\.\d s\)"
    assert re.search(said, found.why)


@wrong
async def test_a_join_tells_by_the_apis_clock_and_a_web_page_by_the_computers_own(dated, target_of, tmp_path, skew_s):
    store = Store.open(tmp_path / "store")
    async with dated(skew_s, 5) as (lab, address, say):
        await say()
        policy = replace(fixed(0.5), max_requests=3)
        found, verdict, _ = await join_once(target_of(lab), address, store, policy=policy, keys=None)
    assert (verdict.kind, verdict.message.startswith(STARTING)) == (Kind.STARTING_UP, True)
    assert verdict.age_s == pytest.approx(6, abs=4)
    assert re.search(r"since this one is (99|100)\.\d s", found.by)
    [row] = [row for row in store.observations() if row.operation is Operation.VERDICT and row.received_at]
    facts = facts_of(row.detail)
    assert facts["ages_moved_s"] == pytest.approx(skew_s, abs=1.0)
    assert facts["said"]["guide"]["age_s"] == pytest.approx(6 - skew_s, abs=4)


@wrong
async def test_a_watch_follows_a_nest_that_is_new_by_the_apis_clock(dated, target_of, tmp_path, skew_s):
    said = {}
    async with dated(skew_s, 0) as (lab, _, say):
        watching = asyncio.create_task(
            run(
                target_of(lab),
                store=Store.open(tmp_path / "store"),
                budget=Budget(),
                rng=random.Random(1),
                progress=said.setdefault,
                for_s=5.0,
            )
        )
        while "clock" not in said:  # noqa: ASYNC110 - it is said once
            await asyncio.sleep(0.05)
        await say()
        watched = await watching
    assert re.match(r"this clock is (99|100)\.\d s", said["clock"]["said"])
    assert (watched.nests, watched.followed, watched.not_live) == (1, 1, {})
    asked = [row for row in Store.open(tmp_path / "store").observations() if row.operation is Operation.INFO]
    assert asked


async def test_who_joins_a_nest_of_ones_own_goes_by_the_clock_that_dated_it(canary, open_lab, scenario):
    text = "[api]\ndate_skew_s = -100.0\njoin = { kind = 'constant', s = 60.0 }\n"
    async with open_lab(scenario(text), relays=1) as lab:
        await canary.run(lab, count=1, horizon_s=5.0)
    ended = [row for row in canary.rows().of(Operation.VERDICT) if row.received_at]
    assert ended
    assert all(facts_of(row.detail)["age_s"] < 30 for row in ended)
