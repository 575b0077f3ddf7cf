"""Our clock and the API's: what its answers tell, on clocks that are off by a known amount."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from aiohttp import web

from nestobs.join.budget import Limiter
from nestobs.nostr import Keys
from nestobs.observation.detail import facts_of
from nestobs.observation.schema import Failure, Operation, Outcome
from nestobs.sources.api import Api
from nestobs.sources.clock import Clock
from nestobs.sources.vantage import Trace, Vantage
from nestobs.timeline.intervals import timelines
from worlds.asked import frame
from worlds.served_api import served_api

pytestmark = pytest.mark.slow

S = 1_000_000_000
RELAYS = ("wss://relay.example",)
OFF_S = {"right": 0.0, "a little behind": -0.4, "behind": -120.0, "ahead": 40.0}
off_by = pytest.mark.parametrize("off_s", OFF_S.values(), ids=OFF_S)


def computer(rows, off_s, name="there"):
    """A vantage whose clock is ahead by that of this machine's, which is the lab's."""
    return Vantage(name, f"run of {name}", rows.append, clock=Clock(wall=lambda: time.time_ns() + round(off_s * S)))


@pytest.fixture
def on_lab(open_lab, scenario, target_of):
    """`async with on_lab(toml) as (lab, url)`."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def opened(toml=""):
        async with open_lab(scenario(toml), relays=1) as lab:
            yield lab, target_of(lab).api

    return opened


@off_by
async def test_each_row_says_how_far_its_clock_is_off_and_how_sure_that_is(on_lab, rows, off_s):
    vantage, draw = computer(rows, off_s), random.Random(1)
    async with on_lab() as (_, url), Api(vantage, url, Limiter(1000)) as api:
        for _ in range(20):
            await api.guest(Trace(room="nowhere"))
            await asyncio.sleep(draw.uniform(0.05, 0.3))
    first, *_, last = rows
    for row in (first, last):
        assert abs(row.clock_offset_s - off_s) <= row.clock_error_s + 0.001
    assert first.clock_error_s <= 1.0
    assert last.clock_error_s < first.clock_error_s
    assert last.sync_age_s < 1.0


@pytest.mark.parametrize("off_s", [-120.0, 120.0])
async def test_a_signature_bears_the_apis_time_where_ours_is_known_to_be_off(on_lab, rows, off_s):
    async with on_lab() as (_, url), Api(computer(rows, off_s), url, Limiter(1000)) as api:
        before = (await api.create(Trace(), Keys.generate(), RELAYS)).row
        await api.guest(Trace(room="nowhere"))
        row = (await api.create(Trace(), Keys.generate(), RELAYS)).row
    assert (before.outcome, before.failure) == (Outcome.REFUSED, Failure.UNAUTHORISED)
    assert row.outcome is Outcome.ACCEPTED
    assert facts_of(row.detail)["stamp_moved_s"] == pytest.approx(-off_s, abs=2)


@off_by
async def test_the_time_that_health_tells_is_known_to_the_way_of_its_answer(on_lab, rows, off_s):
    """Once an answer that is surely the API's own agrees with it, before it or after."""
    async with on_lab() as (_, url):
        for asks in (("health", "time"), ("time", "health")):
            vantage = computer(rows, off_s)
            async with Api(vantage, url, Limiter(1000)) as api:
                for ask in asks:
                    await getattr(api, ask)()
                found = vantage.relation.at(vantage.clock.now())
            assert abs(found.offset_s - off_s) <= found.error_s
            assert found.error_s < 0.5
            took_s = max((row.received_at - row.sent_at) / S for row in rows)
            assert found.error_s <= took_s + 0.01


async def test_a_health_of_another_clock_than_the_apis_tells_nothing(serving, rows):
    """What answers at /health may be anything: here a gateway, ten seconds ahead of the API behind it."""

    async def answer(request):
        if request.path == "/health":
            told = time.time() + 10.0
            said = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(told))
            body = {"status": "ok", "timestamp": f"{said}.000Z"}
            return web.json_response(body)
        return web.json_response({"error": "Nest not found"}, status=404)

    vantage = computer(rows, 0.0)
    async with serving(answer) as port, served_api(vantage, port) as api:
        for _ in range(2):
            await api.health()
            await api.time()
        found = vantage.relation.at(vantage.clock.now())
    assert abs(found.offset_s) <= found.error_s
    assert 0.2 < found.error_s < 1.0


async def test_a_clock_that_may_be_right_is_not_corrected(on_lab, rows):
    async with on_lab() as (_, url), Api(computer(rows, 0.7), url, Limiter(1000)) as api:
        await api.guest(Trace(room="nowhere"))
        row = (await api.create(Trace(), Keys.generate(), RELAYS)).row
    assert row.outcome is Outcome.ACCEPTED
    assert "stamp_moved_s" not in facts_of(row.detail)


@off_by
async def test_what_another_computer_saw_is_put_on_one_clock(on_lab, rows, off_s):
    """The host's computer watches, too: both must have seen the same nest at about the same age."""
    here, there = computer(rows, 0.0, "here"), computer(rows, off_s)
    async with (
        on_lab("[api]\nrecord = { kind = 'constant', s = 1.0 }\n") as (_, url),
        Api(here, url, Limiter(1000)) as host,
        Api(there, url, Limiter(1000)) as other,
    ):
        for api in (host, other):
            await api.guest(Trace(room="nowhere"))
        trace = Trace(here.new_id())
        made = await host.create(trace, Keys.generate(), RELAYS)
        trace = Trace(trace.trace_id, room=made.room)
        draw = random.Random(2)
        for _ in range(20):
            await asyncio.gather(host.info(trace), other.info(trace))
            await asyncio.sleep(draw.uniform(0.05, 0.15))
    lines = timelines(frame(rows)).set_index("vantage")
    lines = lines[lines["layer"] == "api:info"]
    mine, theirs = lines.loc["here"], lines.loc["there"]
    assert theirs.origin_error_s > 0
    assert theirs.lower_s < mine.upper_s
    assert mine.lower_s < theirs.upper_s
    assert theirs.upper_s - theirs.lower_s < 5.0
    assert {row.operation for row in rows} >= {Operation.CREATE, Operation.INFO}
