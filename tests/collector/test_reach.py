"""A deployment of which nothing answers, told from one that restarts and one of which a part answers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from nestobs.collector.prober import join_once
from nestobs.collector.station import Target, expect_anybody, open_station
from nestobs.errors import UnreachableError
from nestobs.join.budget import Limiter
from nestobs.join.decision import Kind
from nestobs.join.policy import fixed
from nestobs.observation.schema import Outcome, Source
from nestobs.store.reader import Store
from worlds import hostile_relays as hostile

pytestmark = pytest.mark.slow


@pytest.fixture
def at(rows):
    """`async with at(api=…, relays=[…]) as station`: a station whose relays need not be there."""

    def opened(api, relays):
        async def committed() -> bool:
            return True

        target = Target(name="t", vantage="here", api=api, relays=tuple(relays), livekit="")
        return open_station(target, run_id="run", sink=rows.append, committed=committed, limiter=Limiter())

    return opened


def dead(host="127.0.0.1", port=None):
    """An API and a relay that are not there."""
    return f"http://{host}:{port or hostile.free_port()}/api/v1/nests", f"ws://{host}:{hostile.free_port()}"


async def says_eose(peer, verb, *rest):
    if verb == "REQ":
        await peer.say("EOSE", rest[0])


async def anything(request):
    return web.Response(status=502)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "nobody.invalid"], ids=["refused", "refused by IPv6", "no name"]
)
async def test_where_nothing_can_be_reached_it_is_said(host, at):
    api, relay = dead(host)
    async with at(api, [relay, relay]) as station:
        with pytest.raises(UnreachableError, match=r"neither the API at .* nor any relay can be reached"):
            await expect_anybody(station)


async def test_an_api_that_is_back_after_a_moment_is_waited_for(at, serving):
    port = hostile.free_port()
    api, relay = dead(port=port)
    async with at(api, [relay]) as station, AsyncExitStack() as stack:

        async def restart():
            await asyncio.sleep(0.5)
            await stack.enter_async_context(serving(anything, port=port))

        restarting = asyncio.create_task(restart())
        await expect_anybody(station)
        await restarting


async def test_an_api_that_answers_anything_is_there(at, serving):
    async with serving(anything) as port, at(*[dead(port=port)[0]], [dead()[1]]) as station:
        await expect_anybody(station)


async def test_a_relay_that_is_connected_is_enough_and_the_api_is_not_asked(at, rows):
    async with hostile.relay(says_eose) as (url, _), at(dead()[0], [dead()[1], url]) as station:
        await station.relays[1].ready(5.0)
        rows.clear()
        await expect_anybody(station)
        assert [row for row in rows if row.source is Source.API] == []


async def test_a_join_of_what_cannot_be_reached_ends_with_that(tmp_path):
    api, relay = dead()
    target = Target(name="t", vantage="here", api=api, relays=(relay,), livekit="")
    with pytest.raises(UnreachableError):
        await join_once(target, "room", Store.open(tmp_path / "store"), policy=fixed(1), keys=None)
    asked = [row for row in Store.open(tmp_path / "store").observations() if row.outcome is Outcome.UNKNOWN]
    assert len(asked) >= 2  # what was asked is in the store all the same


async def test_a_join_whose_api_alone_refuses_goes_on_by_its_policy(tmp_path):
    from dataclasses import replace

    async with hostile.relay(says_eose) as (url, _):
        target = Target(name="t", vantage="here", api=dead()[0], relays=(url,), livekit="")
        policy = replace(fixed(1), horizon_s=3.0)
        _, verdict, _ = await join_once(target, "room", Store.open(tmp_path / "store"), policy=policy, keys=None)
    assert verdict.kind is Kind.API_DOWN
    assert len([attempt for attempt in verdict.attempts if attempt.step == "guest"]) > 1
