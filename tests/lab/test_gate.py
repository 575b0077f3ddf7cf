"""Gates against a real relay, by raw websockets."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from nestobs import nostr
from nestobs.lab import GateFault


async def heard(ws, timeout_s=10.0):
    return json.loads(await asyncio.wait_for(ws.recv(), timeout_s))


async def stored(url, **wanted):
    """Events a fresh REQ finds, up to EOSE."""
    async with connect(url) as ws:
        await ws.send(nostr.req("q", nostr.room_filter(**wanted)))
        found = []
        while (frame := await heard(ws))[0] == "EVENT":
            found.append(frame[2]["id"])
        assert frame == ["EOSE", "q"]
        return found


@pytest.fixture
def held(scenario):
    return scenario('[relays]\neach = {kind="constant", s=0.4}')


async def test_a_held_event_is_acknowledged_at_once_and_seen_only_within_its_truth(open_lab, held, until):
    async with open_lab(held) as (lab, host):
        gate = lab.gates["made"][1]
        event = host.room_event("room")
        looks = []
        async with connect(gate.url) as ws:
            await ws.send(nostr.publish(event))
            assert await heard(ws) == ["OK", event.id, True, ""]
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            asked_at = lab.clock.now_at()
            found = await stored(gate.url, identifiers=["room"])
            looks.append((asked_at, lab.clock.now_at(), bool(found)))
            if len(looks) > 3 and all(look[2] for look in looks[-3:]):
                break
        row = await until(lambda: [row for row in lab.truth() if row["layer"] == "relay:relay-2"])
        row = row[0]
        assert (row["change"], row["planned_delay_s"], row["room"]) == ("shown", 0.4, "room")
        assert row["address"] == f"30312:{host.keys.public}:room"
        assert row["not_yet_at"] < row["now_at"]
        assert not looks[0][2]
        assert not any(found for _, answered_at, found in looks if answered_at < row["not_yet_at"])
        assert all(found for asked_at, _, found in looks if asked_at > row["now_at"])


async def test_a_held_event_reaches_a_subscriber_that_was_there_before(open_lab, held):
    async with open_lab(held) as (lab, host):
        gate = lab.gates["made"][0]
        async with connect(gate.url) as watching, connect(gate.url) as ws:
            await watching.send(nostr.req("w", nostr.room_filter()))
            assert await heard(watching) == ["EOSE", "w"]
            event = host.room_event("room")
            await ws.send(nostr.publish(event))
            frame = await heard(watching)
            seen_at = lab.clock.now_at()
        assert frame[2]["id"] == event.id
        row = next(row for row in lab.truth() if row["layer"] == "relay:relay-1")
        assert seen_at >= row["not_yet_at"]


async def test_edits_and_deletions_queue_behind_the_held_first(open_lab, held, until):
    async with open_lab(held) as (lab, host):
        gate, now = lab.gates["made"][0], int(time.time())
        deletion = host.keys.sign(5, created_at=now + 2, tags=[("a", f"30312:{host.keys.public}:room")])
        async with connect(gate.url) as ws:
            for event in (host.room_event("room", now), host.room_event("room", now + 1), deletion):
                await ws.send(nostr.publish(event))
                assert (await heard(ws))[2] is True
        rows = await until(lambda: [row for row in lab.truth() if row["change"] == "gone"])
        assert rows[0]["layer"] == "relay:relay-1"
        assert await stored(gate.url) == []


@pytest.mark.parametrize("by", ["a", "e"])
async def test_a_deletion_by_address_or_by_id_is_the_end_of_the_layer(open_lab, scenario, by):
    async with open_lab(scenario()) as (lab, host):
        gate, now = lab.gates["made"][0], int(time.time())
        event = host.room_event("room", now)
        tag = (by, event.id if by == "e" else f"30312:{host.keys.public}:room")
        async with connect(gate.url) as ws:
            for each in (event, host.keys.sign(5, created_at=now + 1, tags=[tag])):
                await ws.send(nostr.publish(each))
                assert await heard(ws) == ["OK", each.id, True, ""]
        assert await stored(gate.url) == []
        assert [row["change"] for row in lab.truth()] == ["shown", "gone"]


async def test_a_deletion_by_somebody_else_changes_nothing(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        gate, now = lab.gates["made"][0], int(time.time())
        event, other = host.room_event("room", now), nostr.Keys.generate()
        async with connect(gate.url) as ws:
            for each in (event, other.sign(5, created_at=now + 1, tags=[("a", f"30312:{host.keys.public}:room")])):
                await ws.send(nostr.publish(each))
                await heard(ws)
        assert await stored(gate.url) == [event.id]
        assert [row["change"] for row in lab.truth()] == ["shown"]


async def test_a_hostile_event_passes_as_it_is(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        gate, text = lab.gates["made"][0], "<script>\u202e\x00\x1b[31m" + "x" * 60_000
        event = host.keys.sign(30312, created_at=int(time.time()), tags=[("d", "../../x"), ("room", text)])
        async with connect(gate.url) as ws:
            await ws.send(nostr.publish(event))
            assert (await heard(ws))[2] is True
            await ws.send(nostr.req("q", nostr.room_filter()))
            assert (await heard(ws))[2]["tags"][1][1] == text
        assert lab.truth()[0]["room"] == "../../x"


@pytest.mark.parametrize(("delay_s", "told", "truth"), [(0, False, []), (0.1, True, ["never"])])
async def test_an_event_too_large_for_the_relay(open_lab, scenario, until, delay_s, told, truth):
    """The real relay takes 64 KiB; a gate that held the event has promised otherwise by then."""
    async with open_lab(scenario(f'[relays]\neach = {{kind="constant", s={delay_s}}}')) as (lab, host):
        gate, now = lab.gates["made"][0], int(time.time())
        huge = host.keys.sign(30312, created_at=now, tags=[("d", "room"), ("room", "x" * 100_000)])
        async with connect(gate.url) as ws:
            await ws.send(nostr.publish(huge))
            assert (await heard(ws))[2] is told
            await until(lambda: [row["change"] for row in lab.truth()] == truth)
            small = host.room_event("room", now + 1)
            await ws.send(nostr.publish(small))
            assert await heard(ws) == ["OK", small.id, True, ""]
        await until(lambda: [row["change"] for row in lab.truth()] == [*truth, "shown"])
        assert await stored(gate.url) == [small.id]


async def test_a_hundred_readers_at_once(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        gate = lab.gates["made"][0]
        async with connect(gate.url) as ws:
            await ws.send(nostr.publish(host.room_event("room")))
            await heard(ws)
        found = await asyncio.gather(*[stored(gate.url) for _ in range(100)])
        assert {len(each) for each in found} == {1}


async def test_an_edit_after_the_first_passes_at_once(open_lab, held, until):
    async with open_lab(held) as (lab, host):
        gate, now = lab.gates["made"][0], int(time.time())
        async with connect(gate.url) as ws:
            await ws.send(nostr.publish(host.room_event("room", now)))
            await heard(ws)
            await until(lab.truth)
            edit = host.room_event("room", now + 1)
            await ws.send(nostr.publish(edit))
            assert await heard(ws) == ["OK", edit.id, True, ""]
            assert await stored(gate.url) == [edit.id]


async def test_never_is_acknowledged_and_not_stored(open_lab, scenario):
    async with open_lab(scenario('[relays]\neach = {kind="never"}')) as (lab, host):
        async with connect(lab.gates["made"][0].url) as ws:
            await ws.send(nostr.publish(host.room_event("room")))
            assert (await heard(ws))[2] is True
        assert await stored(lab.gates["made"][0].url) == []
        row = lab.truth()[0]
        assert (row["change"], row["not_yet_at"], row["now_at"], row["planned_delay_s"]) == ("never", None, None, None)


async def test_late_ok_comes_when_it_is_stored(open_lab, held):
    async with open_lab(held) as (lab, host):
        gate = lab.gates["made"][0]
        gate.fault = GateFault.LATE_OK
        async with connect(gate.url) as ws:
            event = host.room_event("room")
            await ws.send(nostr.publish(event))
            assert (await heard(ws))[:3] == ["OK", event.id, True]
            assert await stored(gate.url) == [event.id]


async def test_drop_and_refuse(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        gate = lab.gates["made"][0]
        async with connect(gate.url) as ws:
            gate.fault = GateFault.DROP
            await ws.send(nostr.publish(host.room_event("dropped")))
            assert (await heard(ws))[2] is True
            gate.fault = GateFault.REFUSE
            await ws.send(nostr.publish(host.room_event("refused")))
            assert (await heard(ws))[2:] == [False, "blocked: the lab refuses events here"]
        assert await stored(gate.url) == []
        assert [(row["room"], row["change"]) for row in lab.truth()] == [("dropped", "never")]


async def test_an_event_that_is_none_is_refused_by_reason(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        value = host.room_event("room").as_dict() | {"content": "changed"}
        async with connect(lab.gates["made"][0].url) as ws:
            await ws.send(json.dumps(["EVENT", value]))
            frame = await heard(ws)
        assert frame[2] is False
        assert frame[3].startswith("invalid:")


async def test_cut_closes_without_a_close_frame(open_lab, scenario):
    async with open_lab(scenario()) as (lab, _):
        gate = lab.gates["made"][0]
        async with connect(gate.url) as ws:
            gate.fault = GateFault.CUT
            await ws.send(nostr.req("q", nostr.room_filter()))
            with pytest.raises(ConnectionClosed) as caught:
                await heard(ws)
        assert caught.value.rcvd is None


async def test_never_eose_sends_events_and_no_end(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        gate = lab.gates["made"][0]
        async with connect(gate.url) as ws:
            await ws.send(nostr.publish(host.room_event("room")))
            await heard(ws)
            gate.fault = GateFault.NEVER_EOSE
            await ws.send(nostr.req("q", nostr.room_filter()))
            assert (await heard(ws))[0] == "EVENT"
            with pytest.raises(TimeoutError):
                await heard(ws, 0.2)


async def test_closed_answers_a_question(open_lab, scenario):
    async with open_lab(scenario("[relays]\nfaults = {2 = 'closed'}")) as (lab, _):
        async with connect(lab.gates["made"][1].url) as ws:
            await ws.send(nostr.req("q", nostr.room_filter()))
            frame = await heard(ws)
        assert frame[:2] == ["CLOSED", "q"]
        assert frame[2].startswith("error:")


async def test_auth_comes_first(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        gate = lab.gates["made"][0]
        gate.fault = GateFault.AUTH
        async with connect(gate.url) as ws:
            kind, challenge = await heard(ws)
            await ws.send(nostr.req("q", nostr.room_filter()))
            assert (await heard(ws))[2].startswith("auth-required:")
            await ws.send(nostr.publish(host.room_event("room")))
            assert (await heard(ws))[3].startswith("auth-required:")
            for answer, accepted in (("other", False), (challenge, True)):
                said = nostr.relay_auth(host.keys, relay=gate.url, challenge=answer, created_at=int(time.time()))
                await ws.send(said)
                assert (await heard(ws))[2] is accepted
            await ws.send(nostr.req("q", nostr.room_filter()))
            assert (kind, await heard(ws)) == ("AUTH", ["EOSE", "q"])


async def test_a_stalled_gate_answers_nothing_not_even_pings_until_it_flows_again(open_lab, scenario):
    async with open_lab(scenario()) as (lab, _):
        gate = lab.gates["made"][0]
        async with connect(gate.url, ping_interval=None) as before:
            gate.fault = GateFault.STALL
            async with connect(gate.url, ping_interval=None) as after:
                for ws in (before, after):
                    pong = await ws.ping()
                    await ws.send(nostr.req("q", nostr.room_filter()))
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(pong, 0.2)
                gate.fault = GateFault.PASS
                assert await heard(before) == await heard(after) == ["EOSE", "q"]


async def test_a_lab_can_end_while_a_gate_is_stalled_and_events_are_held(open_lab, scenario):
    async with open_lab(scenario('[relays]\neach = {kind="constant", s=60}')) as (lab, host):
        ws = await connect(lab.gates["made"][0].url)
        await ws.send(nostr.publish(host.room_event("room")))
        await heard(ws)
        lab.gates["made"][0].fault = GateFault.STALL
    await ws.wait_closed()
    assert lab.truth() == []


async def test_stamps_of_questions_and_ends(open_lab, scenario):
    async with open_lab(scenario(), stamps=True) as (lab, host):
        before = lab.clock.now_at()
        await stored(lab.gates["made"][0].url)
        await host.http.get(f"{host.base}/x/info", headers={"X-Request-Id": "abc"})
        from pathlib import Path

        rows = [json.loads(line) for line in Path(lab.info["files"]["stamps"]).read_text().splitlines()]
        req, eose = [row for row in rows if row.get("subscription") == "q"]
        assert (req["what"], eose["what"]) == ("req", "eose")
        assert before < req["at"] < eose["at"] < lab.clock.now_at()
        asked = rows[-1]
        assert (asked["request_id"], asked["status"]) == ("abc", 404)
        assert before < asked["received_at"] <= asked["answered_at"]


async def test_a_reader_may_ask_more_often_than_the_relay_allows_one_connection(open_lab, scenario):
    async with open_lab(scenario("")) as (lab, _), connect(lab.gates["made"][0].url) as ws:
        for number in range(1_500):  # LocalRelay refuses the 1 201st of a burst
            await ws.send(nostr.req(f"q{number}", nostr.room_filter(limit=1)))
            assert await heard(ws) == ["EOSE", f"q{number}"]
            await ws.send(nostr.close(f"q{number}"))
