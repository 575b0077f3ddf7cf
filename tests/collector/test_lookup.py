"""From what a person typed to a nest: which event counts, who has it, who was silent, and what that makes of it."""

from __future__ import annotations

import pytest

from nestobs.collector.lookup import CANNOT_TELL, GONE, NOT_YET, READY, find, readiness
from nestobs.lab import GateFault
from nestobs.nostr import ROOM_KIND, Address, Keys
from nestobs.observation.nest import room_tags
from nestobs.observation.schema import Operation, Outcome
from nestobs.sources.vantage import NO_TRACE
from worlds.command_line import now_s, publish

ROOM = "a-room"


@pytest.fixture
def keys():
    return Keys.generate()


@pytest.fixture
def say():
    """`await say(station, keys, …)`: the event of a nest, on some relays of the station."""
    import asyncio

    async def said(station, keys, *, room=ROOM, age_s=0, status="open", name="a nest", relays=None):
        tags = room_tags(room=room, name=name, host=keys.public, service="", streaming="", relays=())
        tags = [("status", status) if tag[0] == "status" else tag for tag in tags]
        event = keys.sign(ROOM_KIND, created_at=now_s() - age_s, tags=tags)
        for relay in station.relays if relays is None else relays:
            await asyncio.to_thread(publish, relay.url, event)
        return Address(ROOM_KIND, keys.public, room)

    return said


@pytest.fixture
def on(open_lab, open_station_on, scenario):
    """A lab whose relays show an event at once, and a station on it."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def opened(text="", **options):
        async with open_lab(scenario(text), **options) as lab, open_station_on(lab) as station:
            yield lab, station

    return opened


async def test_a_nest_is_found_by_its_address_and_by_its_room(on, keys, say, rows):
    async with on() as (_, station):
        address = await say(station, keys)
        for wanted in (address, ROOM):
            found = await find(station, wanted)
            assert found.nest is not None
            assert found.nest.address == address
            assert set(found.relays) == {relay.url for relay in station.relays}
            assert found.silent == ()
            assert (found.trace.nest, found.trace.room) == (str(address), ROOM)
    assert len(rows.of(Operation.QUERY)) == 4  # one a relay and question


async def test_relays_that_have_it_are_told_from_those_that_have_not(on, keys, say):
    async with on(relays=3) as (_, station):
        await say(station, keys, relays=station.relays[1:2])
        found = await find(station, ROOM)
    assert found.relays == (station.relays[1].url,)
    assert found.silent == ()


async def test_a_relay_without_proof_is_silent_and_not_without_the_event(on, keys, say):
    async with on(relays=3) as (lab, station):
        address = await say(station, keys, relays=station.relays[:1])
        lab.gates["made"][1].fault = GateFault.NEVER_EOSE
        lab.gates["made"][2].fault = GateFault.CLOSED
        found = await find(station, address, timeout_s=0.5)
    assert found.nest is not None
    assert found.relays == (station.relays[0].url,)
    assert set(found.silent) == {station.relays[1].url, station.relays[2].url}


async def test_the_newest_event_counts_and_the_oldest_age_is_kept(on, keys, say):
    async with on(relays=2) as (_, station):
        await say(station, keys, age_s=100, name="old", relays=station.relays[:1])
        await say(station, keys, age_s=5, name="new", relays=station.relays[1:])
        found = await find(station, Address(ROOM_KIND, keys.public, ROOM))
    assert found.nest is not None
    assert found.nest.name == "new"
    assert 94 <= (found.nest.created_at - found.nest.first_created_at) / 1e9 <= 96


async def test_a_strangers_event_with_the_same_room_is_not_the_nest_that_was_named(on, keys, say):
    async with on() as (_, station):
        address = await say(station, keys, age_s=10)
        await say(station, Keys.generate(), status="closed")
        found = await find(station, address)
    assert found.nest is not None
    assert (found.nest.address, found.nest.status) == (address, "open")


async def test_two_nests_of_one_room_name_do_not_lend_each_other_their_age(on, keys, say):
    """By the room alone either may be meant; whichever it is, its age is its own."""
    async with on() as (_, station):
        ages = {str(await say(station, keys, age_s=500, relays=station.relays[:1])): 500}
        ages[str(await say(station, Keys.generate(), age_s=5, relays=station.relays[1:]))] = 5
        found = await find(station, ROOM)
    assert found.nest is not None
    age_s = now_s() - found.nest.first_created_at / 1e9
    assert abs(age_s - ages[str(found.nest.address)]) < 5


async def test_what_nobody_has_is_none_and_keeps_the_name_that_was_asked_for(on, keys):
    async with on() as (_, station):
        address = Address(ROOM_KIND, keys.public, "nowhere")
        found = await find(station, address)
    assert found.nest is None
    assert found.relays == found.silent == ()
    assert (found.trace.nest, found.trace.room) == (str(address), "nowhere")


async def live(station, keys):
    """A room of this host, which a guest can join."""
    made = await station.api.create(NO_TRACE, keys, ("wss://relay.example",))
    return str((made.body or {})["roomId"])


async def test_ready_is_one_request(on, keys, say, rows):
    async with on() as (_, station):
        found = await find(station, await say(station, keys, room=await live(station, keys)))
        assert (await readiness(station, found)).code == READY
    assert len(rows.of(Operation.GUEST, Operation.INFO, Operation.JOIN)) == 1


@pytest.mark.parametrize(("age_s", "code"), [(0, NOT_YET), (25, NOT_YET), (31, GONE), (3600, GONE), (-60, NOT_YET)])
async def test_a_404_is_read_by_the_age(on, keys, say, age_s, code):
    async with on() as (_, station):
        state = await readiness(station, await find(station, await say(station, keys, age_s=age_s)))
    assert state.code == code
    assert "404" in state.why


async def test_a_closed_nest_is_gone_without_asking_the_api(on, keys, say, rows):
    async with on() as (_, station):
        state = await readiness(station, await find(station, await say(station, keys, status="closed")))
    assert (state.code, state.why) == (GONE, "its event says closed")
    assert rows.of(Operation.GUEST) == []


async def test_without_an_event_a_404_tells_nothing(on):
    async with on() as (_, station):
        state = await readiness(station, await find(station, "nowhere"))
    assert state.code == CANNOT_TELL
    assert "age is unknown" in state.why


@pytest.mark.parametrize(
    "fault", ["server_error_s = 60", "join_fault = 'none'\n[rate_limit]\nrequests = 1\nwindow_s = 900"]
)
async def test_an_api_without_proof_cannot_tell(on, keys, say, fault):
    async with on(f"[api]\n{fault}\n") as (_, station):
        room = await live(station, keys)
        found = await find(station, await say(station, keys, room=room))
        state = await readiness(station, found)
    assert state.code == CANNOT_TELL
    assert state.why


async def test_the_newest_of_a_relay_that_knows_several_is_asked_for(on, keys, say, rows):
    async with on(relays=1) as (_, station):
        for age_s in (50, 5):
            await say(station, keys, age_s=age_s, name=f"at {age_s}")
        found = await find(station, ROOM)
    assert found.nest is not None
    assert found.nest.name == "at 5"
    assert [row.outcome for row in rows.of(Operation.QUERY)] == [Outcome.VISIBLE]
