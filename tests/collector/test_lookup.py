"""From what a person typed to a nest: which event counts, who has it, who was silent, and what that makes of it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from nestobs.collector.lookup import CANNOT_TELL, GONE, NOT_YET, READY, find, readiness
from nestobs.collector.prober import join_once
from nestobs.collector.station import open_station
from nestobs.join.budget import Limiter
from nestobs.join.policy import fixed
from nestobs.lab import GateFault
from nestobs.nostr import ROOM_KIND, Address, Keys
from nestobs.observation.nest import room_tags
from nestobs.observation.schema import Operation, Outcome
from nestobs.sources.vantage import NO_TRACE
from nestobs.store.reader import Store
from worlds import hostile_relays as hostile
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
    assert len(rows.of(Operation.QUERY)) == 6  # one a relay; by the room alone first whose it is


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
    assert {each.url: each.why for each in found.silent} == {
        station.relays[1].url: "no answer within 0.5 s",
        station.relays[2].url: "error: the lab closes subscriptions here",
    }


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


@pytest.mark.parametrize("fault", ["join_fault = '404'", "token_fault = 'object'"])
@pytest.mark.parametrize("age_s", [0, 25, 31, 3_600])
async def test_a_nest_that_the_api_fails_to_let_anybody_into_is_not_gone_at_any_age(on, keys, say, rows, fault, age_s):
    async with on(f"[api]\n{fault}\n") as (_, station):
        found = await find(station, await say(station, keys, room=await live(station, keys), age_s=age_s))
        state = await readiness(station, found, rows)
    assert state.code == NOT_YET
    assert "no longer" not in state.why
    assert {"api_join_fault", "bad_token"} & {each["id"] for each in state.as_dict()["causes"]}


@pytest.mark.parametrize(("age_s", "code"), [(0, NOT_YET), (25, NOT_YET), (31, GONE), (3600, GONE), (-50, NOT_YET)])
async def test_a_404_is_read_by_the_age(on, keys, say, age_s, code):
    async with on() as (_, station):
        state = await readiness(station, await find(station, await say(station, keys, age_s=age_s)))
    assert state.code == code
    assert "404" in state.why


@pytest.mark.parametrize("skew_s", [-300, 300])
@pytest.mark.parametrize(("age_s", "code"), [(0, NOT_YET), (25, NOT_YET), (45, GONE)])
async def test_the_age_is_read_by_the_apis_clock_where_ours_is_off(on, keys, say, skew_s, age_s, code):
    """Host and API agree, and we do not."""
    async with on(f"[api]\ndate_skew_s = {skew_s}\n") as (_, station):
        state = await readiness(station, await find(station, await say(station, keys, age_s=age_s - skew_s)))
    assert (state.code, "404" in state.why) == (code, True), state.why


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
    assert [row.outcome for row in rows.of(Operation.QUERY)] == [Outcome.VISIBLE, Outcome.VISIBLE]


@pytest.fixture
def asked(open_lab, target_of, scenario, rows, open_station_on):
    """`await asked(*relays)`: what is found of the nest, and whether it is ready, of relays that answer so."""
    from contextlib import AsyncExitStack
    from dataclasses import replace

    async def looked(*answers, keys=None, wanted=None, **options):
        async with AsyncExitStack() as stack:
            urls = [(await stack.enter_async_context(hostile.relay(**answer)))[0] for answer in answers]
            lab = await stack.enter_async_context(open_lab(scenario()))
            target = replace(target_of(lab), relays=(*urls, *options.get("also", ())))
            opened = open_station(
                target, run_id="run", sink=rows.append, committed=_nothing, limiter=Limiter(1_000), keys=keys
            )
            station = await stack.enter_async_context(opened)
            found = await find(station, wanted or Address(ROOM_KIND, HOST.public, ROOM), timeout_s=0.5)
            return found, await readiness(station, found)

    return looked


async def _nothing():
    return True


HOST = Keys.generate()


def version(age_s, status="open", **more):
    tags = [("d", ROOM), ("status", status), *more.items()]
    return HOST.sign(ROOM_KIND, created_at=now_s() - age_s, tags=tags)


def withdrawal(age_s, *tags):
    return HOST.sign(5, created_at=now_s() - age_s, tags=tags)


def holding(*events):
    """A relay that keeps every version, and sends them in this order, whatever is asked."""

    async def answer(peer, verb, *rest):
        for event in events if verb == "REQ" else ():
            await peer.say("EVENT", rest[0], event.as_dict())
        if verb == "REQ":
            await peer.say("EOSE", rest[0])

    return {"answer": answer}


@pytest.mark.parametrize("order", [1, -1], ids=["old first", "new first"])
@pytest.mark.parametrize("relays", [1, 2])
@pytest.mark.parametrize("by", ["address", "room"])
async def test_the_newest_version_counts_in_any_order_on_the_wire_and_of_the_relays(asked, order, relays, by):
    versions = [version(600), version(5, "closed")][::order]
    holders = [holding(*versions)] if relays == 1 else [holding(each) for each in versions]
    found, state = await asked(*holders, wanted=ROOM if by == "room" else None)
    assert (found.nest.status, state.code, state.why) == ("closed", GONE, "its event says closed")
    assert len(found.relays) == relays


@pytest.mark.parametrize("order", [1, -1])
async def test_of_two_versions_of_one_second_the_lowest_id_counts(asked, order):
    at = now_s() - 5
    two = [HOST.sign(ROOM_KIND, created_at=at, tags=[("d", ROOM), ("status", word)]) for word in ("open", "closed")]
    found, _ = await asked(*(holding(each) for each in two[::order]))
    assert found.nest.event_id == min(each.id for each in two)


@pytest.mark.parametrize("left", ["its event too", "the deletion alone"])
@pytest.mark.parametrize("by", ["a", "e", "both"])
async def test_what_its_author_withdrew_is_gone(asked, left, by):
    event = version(10)
    tags = {"a": [("a", f"{ROOM_KIND}:{HOST.public}:{ROOM}")], "e": [("e", event.id)]}
    deleting = withdrawal(4, *(tags["a"] + tags["e"] if by == "both" else tags[by]))
    found, state = await asked(holding(event, deleting) if left == "its event too" else holding(deleting))
    if by == "e" and left != "its event too":  # an id says nothing of which address it was
        assert state.code == CANNOT_TELL
    else:
        assert (state.code, state.why) == (GONE, "its author withdrew it")
        assert found.withdrawn_at is not None


async def test_a_deletion_on_one_relay_counts_for_the_event_on_another(asked):
    deleting = withdrawal(4, ("a", f"{ROOM_KIND}:{HOST.public}:{ROOM}"))
    _, state = await asked(holding(version(10)), holding(deleting))
    assert (state.code, state.why) == (GONE, "its author withdrew it")


async def test_a_nest_announced_again_after_its_withdrawal_is_there(asked):
    deleting = withdrawal(10, ("a", f"{ROOM_KIND}:{HOST.public}:{ROOM}"))
    found, state = await asked(holding(version(20), deleting, version(4)))
    assert (found.withdrawn_at, state.code) == (None, NOT_YET)


@pytest.mark.parametrize(
    ("event", "code", "why"),
    [
        (lambda: version(5, "planned", starts=str(now_s() + 3_600)), NOT_YET, "not begun: planned for"),
        (lambda: version(172_800, "planned", starts=str(now_s() + 3_600)), NOT_YET, "not begun: planned for"),
        (lambda: version(5, "open", starts=str(now_s() + 3_600)), NOT_YET, "not begun: planned for"),
        (lambda: version(5, "ended"), GONE, "its event says ended"),
        (lambda: version(5, "CLOSED"), GONE, "its event says closed"),
        (lambda: version(5, "Live"), NOT_YET, "the API answers 404 at age"),
        (lambda: version(-600), CANNOT_TELL, "10 min ahead of this clock: clock skew"),
        (lambda: version(-(2**40)), CANNOT_TELL, "more than 1000 years ahead of this clock"),
    ],
    ids=["planned", "planned long ago", "starts ahead", "ended", "closed", "live", "ahead", "far ahead"],
)
async def test_what_an_event_says_is_read_for_what_it_is(asked, rows, event, code, why):
    _, state = await asked(holding(event()))
    assert state.code == code
    assert why in state.why
    assert bool(rows.of(Operation.GUEST)) is ("404" in state.why)


async def test_that_no_relay_has_it_is_said_where_all_answered(asked):
    found, state = await asked(holding(), holding())
    assert (state.code, found.silent) == (CANNOT_TELL, ())
    assert "no relay has the event" in state.why


async def _notices(peer, verb, *rest):
    if verb == "REQ":
        await peer.say("NOTICE", "ERROR: too many concurrent REQs")


async def _shut(peer, verb, *rest):
    if verb == "REQ":
        await peer.say("CLOSED", rest[0], "rate-limited: slow down")


@pytest.mark.parametrize(
    ("silent", "why"),
    [
        ({"answer": _notices}, "no answer within 0.5 s (NOTICE: ERROR: too many concurrent REQs)"),
        ({"answer": _shut}, "rate-limited: slow down"),
        (hostile.members_only("before EOSE"), "it wants to know who asks: set NESTOBS_NSEC"),
        (hostile.members_only("on connect"), "it wants to know who asks: set NESTOBS_NSEC"),
    ],
    ids=["notice", "closed", "auth and eose", "auth on connect"],
)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside one that answers"])
async def test_a_relay_without_proof_is_named_with_why(asked, silent, why, beside):
    found, state = await asked(silent, *([holding()] if beside else []))
    assert state.code == CANNOT_TELL
    assert "no relay has the event" not in state.why
    assert why in state.why
    assert ("no relay that answered has the event" in state.why) is beside
    assert [each.why.startswith(why) for each in found.silent] == [True]


async def test_a_relay_that_nobody_runs_is_named_too(asked):
    _, state = await asked(also=(f"ws://127.0.0.1:{hostile.free_port()}",))
    assert "gave no answer (not connected: connection refused" in state.why
    assert "no relay has the event" not in state.why


@pytest.mark.parametrize("when", hostile.CHALLENGES)
async def test_with_a_key_a_look_up_is_answered_by_relays_that_ask_who_asks(asked, when):
    found, _ = await asked(hostile.members_only(when, stored=[version(5)]), keys=HOST)
    assert found.nest is not None
    assert found.silent == ()


@pytest.mark.parametrize(
    ("events", "rounds"),
    [
        (lambda: [version(5)], 2),
        (lambda: [version(5, "closed")], 1),
        (lambda: [version(5, "Ended")], 1),
        (lambda: [version(5, "planned", starts=str(now_s() + 3_600))], 1),
        (lambda: [version(5, starts=str(now_s() + 3_600))], 1),
        (lambda: [version(-600)], 1),
        (lambda: [version(9), withdrawal(4, ("a", f"{ROOM_KIND}:{HOST.public}:{ROOM}"))], 1),
    ],
    ids=["open", "closed", "ended", "planned", "starts ahead", "dated ahead", "withdrawn"],
)
@pytest.mark.parametrize(("keys", "polls"), [(Keys.generate(), 3), (None, 2)], ids=["signed in", "guest"])
async def test_a_join_waits_only_for_what_is_new(open_lab, target_of, scenario, tmp_path, events, rounds, keys, polls):
    async with AsyncExitStack() as stack:
        url, _ = await stack.enter_async_context(hostile.relay(**holding(*events())))
        lab = await stack.enter_async_context(open_lab(scenario()))
        _, verdict, _ = await join_once(
            replace(target_of(lab), relays=(url,)),
            Address(ROOM_KIND, HOST.public, ROOM),
            Store.open(tmp_path / "store"),
            policy=replace(fixed(0.1), max_requests=2 * polls),
            keys=keys,
        )
    assert not verdict.joined
    assert verdict.requests == rounds * polls
