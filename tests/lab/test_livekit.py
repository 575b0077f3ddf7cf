"""LiveKit as an observer sees it: the same tests for the stand-in and for the real server."""

from __future__ import annotations

import asyncio
import os
import time

import aiohttp
import pytest
from aiohttp import web
from livekit import api
from livekit.protocol import rtc

from nestobs.errors import UsageError
from nestobs.lab import Lab


def keys_of(lab):
    from pathlib import Path

    path = Path(lab.info["files"]["livekit_keys"])
    assert path.stat().st_mode & 0o777 == 0o600
    key, secret = path.read_text().strip().split(": ")
    return key, secret


def url_of(lab, scenario="made"):
    return lab.info["scenarios"][scenario]["vantages"][0]["livekit"]


async def answer_of(ws):
    message = await asyncio.wait_for(ws.receive(), 10)
    assert message.type is aiohttp.WSMsgType.BINARY, message
    return rtc.SignalResponse.FromString(message.data)


async def pong_of(ws):
    """The next pong; the real server offers media in between."""
    while not (answer := await answer_of(ws)).HasField("pong_resp"):
        assert not answer.HasField("leave")
    return answer.pong_resp


async def test_it_says_what_it_is(open_lab, scenario, livekit):
    async with open_lab(scenario(), livekit=livekit) as (lab, _):
        told = lab.info["livekit"]
        assert told["kind"] == {"server": "livekit-server"}.get(livekit, livekit)
        assert (told["version"] == "stand-in") == (livekit == "stand-in")


async def test_rooms_are_listed_and_ended(open_lab, scenario, livekit):
    async with open_lab(scenario(), livekit=livekit) as (lab, host):
        room = await host.create()
        async with api.LiveKitAPI(url_of(lab), *keys_of(lab), failover=False) as sdk:
            listed = (await sdk.room.list_rooms(api.ListRoomsRequest())).rooms
            assert [(each.name, each.sid[:3]) for each in listed] == [(room, "RM_")]
            assert abs(listed[0].creation_time - time.time()) < 30
            assert (await sdk.room.list_rooms(api.ListRoomsRequest(names=["other"]))).rooms == []
            await sdk.room.delete_room(api.DeleteRoomRequest(room=room))
            with pytest.raises(api.TwirpError) as caught:
                await sdk.room.delete_room(api.DeleteRoomRequest(room=room))
            assert (caught.value.status, caught.value.code) == (404, "not_found")
        async with api.LiveKitAPI(url_of(lab), "APIwrong", "wrong" * 8, failover=False) as sdk:
            with pytest.raises(api.TwirpError) as caught:
                await sdk.room.list_rooms(api.ListRoomsRequest())
            assert caught.value.status == 401


async def test_signal_handshake_with_the_token_of_the_api(open_lab, scenario, livekit, until):
    async with open_lab(scenario(), livekit=livekit) as (lab, host), aiohttp.ClientSession() as session:
        room = await host.create()
        guest = (await host.http.get(f"{host.base}/{room}/guest")).json()["token"]
        query = {"access_token": guest, "protocol": "16", "auto_subscribe": "1"}
        async with session.get(url_of(lab).replace("ws", "http", 1) + "/rtc/validate", params=query) as answer:
            assert (answer.status, await answer.text()) == (200, "success")
        async with session.ws_connect(url_of(lab) + "/rtc", params=query) as ws:
            joined = (await answer_of(ws)).join
            assert joined.room.name == room
            assert joined.room.sid == lab.api["made"].nests[room].room_sid
            assert joined.participant.identity.startswith("guest-")
            assert joined.participant.permission.can_publish is False
            assert joined.server_info.version == lab.info["livekit"]["version"]
            ping = rtc.SignalRequest(ping_req=rtc.Ping(timestamp=42))
            await ws.send_bytes(ping.SerializeToString())
            assert (await pong_of(ws)).last_ping_timestamp == 42
            async with api.LiveKitAPI(url_of(lab), *keys_of(lab), failover=False) as sdk:
                there = await sdk.room.list_participants(api.ListParticipantsRequest(room=room))
            assert [each.identity for each in there.participants] == [joined.participant.identity]
            await ws.send_bytes(rtc.SignalRequest(leave=rtc.LeaveRequest()).SerializeToString())
            while (await asyncio.wait_for(ws.receive(), 10)).type is aiohttp.WSMsgType.BINARY:
                pass


@pytest.mark.parametrize(("room", "token", "status"), [("nowhere", None, 404), ("nowhere", "bad", 401)])
async def test_signal_refusals(open_lab, scenario, livekit, room, token, status):
    async with open_lab(scenario(), livekit=livekit) as (lab, _), aiohttp.ClientSession() as session:
        grants = api.VideoGrants(room_join=True, room=room)
        made = api.AccessToken(*keys_of(lab)).with_identity("me").with_grants(grants).to_jwt()
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(url_of(lab) + "/rtc", params={"access_token": token or made, "protocol": "16"})
        assert caught.value.status == status
        assert await lab.rooms() == []  # nobody can create a room by joining it


async def test_webhooks_are_signed_and_tell_of_rooms(open_lab, scenario, livekit, until):
    got = []

    async def receive(request):
        got.append((await request.text(), request.headers["Authorization"], request.headers["Content-Type"]))
        return web.Response()

    runner = web.ServerRunner(web.Server(receive))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        async with open_lab(scenario(), livekit=livekit, webhooks=[hook]) as (lab, host):
            room = await host.create()
            await host.call("DELETE", f"/{room}")
            await until(lambda: len(got) == 2)
            receiver = api.WebhookReceiver(api.TokenVerifier(*keys_of(lab)))
            events = [receiver.receive(body, token) for body, token, _ in got]
            assert {event.event for event in events} == {"room_started", "room_finished"}
            assert {event.room.name for event in events} == {room}
            assert len({event.id for event in events}) == 2
            assert {kind for _, _, kind in got} == {"application/webhook+json"}
            with pytest.raises(Exception, match="hash mismatch"):
                receiver.receive(got[0][0] + " ", got[0][1])
    finally:
        await runner.cleanup()


async def test_a_room_ended_behind_the_apis_back_is_known_by_webhook(open_lab, scenario, livekit, until):
    async with open_lab(scenario(), livekit=livekit) as (lab, host):
        room = await host.create()
        not_yet_at = lab.clock.now_at()
        await lab.world.rooms.delete(room)
        now_at = lab.clock.now_at()
        rows = await until(lambda: [row for row in lab.truth() if row["change"] == "gone"])
        assert {row["layer"] for row in rows} == {
            "livekit:room",
            "livekit:signal",
            "livekit:media",
            "api:join",
            "api:guest",
        }
        assert all(row["not_yet_at"] < now_at and not_yet_at < row["now_at"] for row in rows)
        assert (await host.http.get(f"{host.base}/{room}/info")).json()["status"] == "active"


async def test_the_room_comes_and_goes_as_the_scenario_says(open_lab, scenario, livekit, until):
    text = '[livekit]\ncreated = {kind="constant", s=0.3}\nexpires = {kind="constant", s=0.5}'
    async with open_lab(scenario(text), livekit=livekit) as (lab, host):
        room = await host.create()
        created_at = lab.clock.now_at()
        assert (await host.call("GET", f"/{room}")).json() == {"error": "Nest is no longer active"}
        await until(lambda: lab.api["made"].nests[room].room_sid)
        assert (await host.call("GET", f"/{room}")).status_code == 200
        await until(lambda: [row for row in lab.truth() if row["change"] == "gone"])
        assert (await host.call("GET", f"/{room}")).json() == {"error": "Nest is no longer active"}
        rows = {(row["layer"], row["change"]): row for row in lab.truth()}
        shown, gone = rows["livekit:room", "shown"], rows["livekit:room", "gone"]
        assert shown["planned_delay_s"] == 0.3
        assert shown["now_at"] - created_at > 0.25e9
        assert gone["now_at"] - shown["now_at"] > 0.45e9
        assert rows["api:join", "shown"]["not_yet_at"] == shown["not_yet_at"]
        for row in (shown, gone):
            assert 0 < row["now_at"] - row["not_yet_at"] < 1e9


async def test_the_second_participant_is_told_of_the_first(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host), aiohttp.ClientSession() as session:
        room = await host.create()
        tokens = [(await host.http.get(f"{host.base}/{room}/guest")).json()["token"] for _ in range(2)]
        async with session.ws_connect(url_of(lab) + "/rtc", params={"access_token": tokens[0]}) as first:
            one = (await answer_of(first)).join
            async with session.ws_connect(url_of(lab) + "/rtc", params={"access_token": tokens[1]}) as second:
                two = (await answer_of(second)).join
                assert [other.identity for other in two.other_participants] == [one.participant.identity]
                await lab.world.rooms.delete(room)
                assert (await answer_of(second)).HasField("leave")


async def test_a_missing_server_is_an_error_that_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("nestobs.lab.lab.find_binary", lambda: None)
    with pytest.raises(UsageError, match="make livekit"):
        async with Lab(["calm"], tmp_path, livekit="server"):
            pass
    monkeypatch.setenv("NESTOBS_REQUIRE_LIVEKIT", "1")
    with pytest.raises(UsageError, match="make livekit"):
        async with Lab(["calm"], tmp_path):
            pass


async def test_a_named_server_that_is_none_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("NESTOBS_LIVEKIT_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="NESTOBS_LIVEKIT_SERVER"):
        async with Lab(["calm"], tmp_path):
            pass
    fake = tmp_path / "fake"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("NESTOBS_LIVEKIT_SERVER", str(fake))
    with pytest.raises(UsageError, match="not a livekit-server"):
        async with Lab(["calm"], tmp_path):
            pass


async def test_the_server_ends_with_the_lab(open_lab, scenario, real_livekit):
    async with open_lab(scenario(), livekit=real_livekit) as (lab, _):
        pid = lab.livekit_pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
