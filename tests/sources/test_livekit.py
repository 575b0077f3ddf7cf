"""LiveKit as a source: against the real livekit-server and the stand-in, behind a network that fails."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from contextlib import asynccontextmanager

import jwt
import pytest
from aiohttp import web
from livekit.protocol import rtc
from websockets.asyncio.server import serve

from nestobs.errors import UsageError
from nestobs.lab import ProxyMode
from nestobs.nostr import Keys
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Role
from nestobs.sources.failures import Judgement
from nestobs.sources.livekit import LiveKit, signal_url
from nestobs.sources.vantage import NO_TRACE, Trace

pytestmark = pytest.mark.slow

S = 1_000_000_000
DELETED = Judgement(Outcome.UNKNOWN, Failure.REMOVED, FailureLayer.SIGNAL, "the room was deleted while we were inside")


@pytest.fixture
def on_stage(open_lab, scenario, open_station_on):
    """`async with on_stage(kind) as (lab, livekit, trace, token)`: a room, and a host's token for it."""

    @asynccontextmanager
    async def opened(kind="stand-in"):
        async with open_lab(scenario(), livekit=kind, relays=1) as lab, open_station_on(lab) as station:
            keys = Keys.generate()
            made = await station.api.create(NO_TRACE, keys, ("wss://relay.example",))
            yield lab, station.livekit, Trace("trace", "nest", made.body["roomId"]), made.token

    return opened


@pytest.fixture
def livekit_at(vantage):
    """`async with livekit_at(url) as livekit`, with a key that no server knows unless told otherwise."""

    def opened(url, key="key", secret="a-secret-of-more-than-thirty-two-bytes", **options):
        return LiveKit(vantage, url, key=key, secret=secret, **options)

    return opened


def token_of(secret, room="room", **claims):
    now = int(time.time())
    video = {"room": room, "roomJoin": True}
    return jwt.encode({"iss": "key", "sub": "me", "nbf": now, "exp": now + 60, "video": video} | claims, secret)


# The room list


async def test_a_room_is_listed_while_it_exists(on_stage, livekit):
    async with on_stage(livekit) as (lab, server, trace, _):
        nowhere = await server.rooms(Trace(room="nowhere"))
        there = await server.rooms(trace, planned_at=7)
        assert set(await server.all_rooms()) == {trace.room}
        await lab.world.rooms.delete(trace.room)
        gone = await server.rooms(trace)
    assert [(row.outcome, row.failure) for row in (nowhere, there, gone)] == [
        (Outcome.ABSENT, Failure.NOT_FOUND),
        (Outcome.VISIBLE, None),
        (Outcome.ABSENT, Failure.NOT_FOUND),
    ]
    assert (there.layer, there.planned_at, there.trace_id) == ("livekit:room", 7, "trace")
    assert json.loads(there.detail)["sid"].startswith("RM_")
    assert (there.remote_at % S, there.remote_grain_s) == (0, 1.0)
    assert abs(there.remote_at - there.received_at) < 30 * S
    assert there.sent_at < there.received_at


async def test_a_room_we_made_can_be_deleted_here(on_stage, livekit):
    async with on_stage(livekit) as (lab, server, trace, _):
        row = await server.delete(trace)
        assert await lab.rooms() == []
        again = await server.delete(trace)
    assert (row.operation, row.outcome) == (Operation.DELETE, Outcome.ACCEPTED)
    assert again.outcome is not Outcome.ACCEPTED


async def test_a_false_key_is_refused(on_stage, livekit, livekit_at):
    async with on_stage(livekit) as (_, server, trace, _), livekit_at(server.url) as stranger:
        row = await stranger.rooms(trace)
    assert (row.outcome, row.failure, row.status) == (Outcome.REFUSED, Failure.UNAUTHORISED, 401)
    assert "key" in row.reason


async def test_without_a_key_the_room_list_is_not_asked(livekit_at):
    async with livekit_at("ws://127.0.0.1:1", key="", secret="") as livekit:
        assert not livekit.lists_rooms


FAULTS = [
    (ProxyMode.REFUSE, Failure.REFUSED),
    (ProxyMode.RESET, Failure.RESET),
    (ProxyMode.STALL, Failure.TIMEOUT),
    (ProxyMode.BLACKHOLE, Failure.TIMEOUT),
]


@pytest.mark.parametrize(("mode", "failure"), FAULTS, ids=lambda value: getattr(value, "value", ""))
async def test_a_network_that_fails_proves_nothing_of_the_room_list(on_stage, mode, failure):
    async with on_stage() as (lab, server, trace, _):
        server.timeout_s = 0.3
        lab.livekit_proxy["made"].mode = mode
        row = await server.rooms(trace)
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, failure)
    assert row.reason


# Signalling


async def test_a_joiner_is_signalled_in_and_stays(on_stage, livekit):
    async with on_stage(livekit) as (_, server, trace, token):
        row, session = await server.signal(trace, token, role=Role.HOST, attempt_group="g", attempt_no=3)
        listed = await server.rooms(trace)
        assert await session.stays(0.3)
        await session.close()
    assert (row.outcome, row.failure, row.layer) == (Outcome.VISIBLE, None, "livekit:signal")
    assert (row.role, row.attempt_group, row.attempt_no) == (Role.HOST, "g", 3)
    assert row.software.startswith("livekit ")
    assert ("stand-in" in row.software) is (livekit == "stand-in")
    facts = json.loads(row.detail)
    assert facts["room_sid"] == json.loads(listed.detail)["sid"]
    assert row.remote_at == listed.remote_at  # who enters is told when the room was made, without the server's key
    assert row.remote_grain_s == 1.0
    assert facts["participant_sid"].startswith("PA_")


async def test_a_room_that_is_not_there_is_absent_to_its_joiner(on_stage, livekit):
    async with on_stage(livekit) as (lab, server, trace, token):
        await lab.world.rooms.delete(trace.room)
        row, session = await server.signal(trace, token)
    assert (row.outcome, row.status, row.failure) == (Outcome.ABSENT, 404, Failure.NOT_FOUND)
    assert row.failure_layer is FailureLayer.SIGNAL
    assert session is None


STRANGERS = token_of("another-secret-of-more-than-thirty-two")


@pytest.mark.parametrize("token", ["", "nonsense", STRANGERS, "é\n☃"], ids=["none", "no jwt", "a stranger's", "é"])
async def test_a_false_token_is_refused(on_stage, livekit, token):
    async with on_stage(livekit) as (_, server, trace, _):
        row, session = await server.signal(trace, token)
    assert (row.outcome, row.status, row.failure) == (Outcome.REFUSED, 401, Failure.UNAUTHORISED)
    assert session is None
    assert not token or token not in row.reason


@pytest.mark.parametrize(("mode", "failure"), FAULTS, ids=lambda value: getattr(value, "value", ""))
async def test_a_network_that_fails_proves_nothing_of_the_signal(on_stage, rows, mode, failure):
    async with on_stage() as (lab, server, trace, token):
        lab.livekit_proxy["made"].mode = mode
        row, session = await server.signal(trace, token, timeout_s=0.3)
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, failure)
    assert session is None
    assert token not in rows.text()


async def test_a_server_that_goes_silent_in_mid_handshake_costs_the_timeout(on_stage):
    async with on_stage() as (lab, server, trace, token):
        lab.livekit_proxy["made"].blackhole_after = 60
        lab.livekit_proxy["made"].mode = ProxyMode.BLACKHOLE
        row, _ = await server.signal(trace, token, timeout_s=0.3)
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.TIMEOUT)


async def test_a_server_that_goes_silent_after_the_handshake_does_not_hold_the_joiner(livekit_at):
    async def shake_hands(reader, writer):
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line[19:] for line in request.splitlines() if line.lower().startswith("sec-websocket-key: "))
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        lines = ["HTTP/1.1 101 x", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await over.wait()  # and never a word more, not even goodbye
        writer.close()

    over = asyncio.Event()
    server = await asyncio.start_server(shake_hands, "127.0.0.1", 0)
    async with server, livekit_at(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as livekit:
        row, session = await livekit.signal(Trace(room="room"), "token", timeout_s=0.3)
        over.set()
    assert (row.outcome, row.failure, session) == (Outcome.UNKNOWN, Failure.TIMEOUT, None)
    assert row.received_at - row.sent_at < 5 * S  # a goodbye is waited for by default for ten seconds


async def test_wss_where_plain_ws_is_spoken_is_a_tls_failure(on_stage, livekit_at):
    async with on_stage() as (_, server, trace, token), livekit_at(server.url.replace("ws", "wss", 1)) as secure:
        signal, _ = await secure.signal(trace, token)
        rooms = await secure.rooms(trace)
    for row in (signal, rooms):
        assert (row.outcome, row.failure, row.failure_layer) == (Outcome.UNKNOWN, Failure.TLS, FailureLayer.TLS)
        assert row.reason.startswith("speaks plain ws where wss was expected")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid"])
async def test_a_name_that_does_not_resolve(livekit_at, host):
    async with livekit_at(f"wss://{host}") as livekit:
        signal, _ = await livekit.signal(Trace(room="room"), "token")
        rooms = await livekit.rooms(Trace(room="room"))
    for row in (signal, rooms):
        assert (row.outcome, row.failure, row.failure_layer) == (Outcome.UNKNOWN, Failure.DNS, FailureLayer.DNS)


ODD = {
    "closes at once": (None, Failure.CLOSED),
    "sends text": ("hello", Failure.PROTOCOL),
    "sends garbage": (b"\xff\xff\xff", Failure.PROTOCOL),
    "sends another message first": (rtc.SignalResponse(pong=5).SerializeToString(), Failure.UNEXPECTED),
    "sends nothing readable": (b"", Failure.UNEXPECTED),
}


@pytest.mark.parametrize("odd", ODD)
async def test_a_socket_that_is_no_livekit_proves_nothing(livekit_at, odd):
    said, failure = ODD[odd]

    async def talk(socket):
        if said is not None:
            await socket.send(said)
            await socket.wait_closed()

    async with serve(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with livekit_at(f"ws://127.0.0.1:{port}") as livekit:
            row, session = await livekit.signal(Trace(room="room"), "token", timeout_s=5.0)
    assert (row.outcome, row.failure, row.failure_layer) == (Outcome.UNKNOWN, failure, FailureLayer.SIGNAL)
    assert session is None


@pytest.mark.parametrize(
    ("status", "text", "outcome", "failure"),
    [
        (404, "404 page not found", Outcome.UNKNOWN, Failure.WRONG_PATH),
        (404, "requested room does not exist", Outcome.ABSENT, Failure.NOT_FOUND),
        (403, "no", Outcome.REFUSED, Failure.FORBIDDEN),
        (503, "busy", Outcome.UNKNOWN, Failure.SERVER_ERROR),
        (429, "slowly", Outcome.REFUSED, Failure.RATE_LIMITED),
        (302, "elsewhere", Outcome.UNKNOWN, Failure.UNEXPECTED),
    ],
)
async def test_an_http_answer_instead_of_a_socket(livekit_at, serving, status, text, outcome, failure):
    async def answer(request):
        return web.Response(status=status, text=text, headers={"Location": "/other"} if status == 302 else {})

    async with serving(answer) as port, livekit_at(f"ws://127.0.0.1:{port}") as livekit:
        row, _ = await livekit.signal(Trace(room="room"), "token", timeout_s=5.0)
    assert (row.outcome, row.status, row.failure) == (outcome, status, failure)


async def test_a_token_for_another_room_leads_into_none(on_stage, livekit, rows):
    """The room of the JoinResponse is compared with the one asked for; we are out of the other one at once."""
    async with on_stage(livekit) as (_, server, trace, token):
        row, session = await server.signal(Trace(room="asked-for"), token)
        inside = await server.inside(trace.room)
    assert (row.outcome, row.failure, row.failure_layer) == (
        Outcome.UNKNOWN,
        Failure.UNEXPECTED,
        FailureLayer.SIGNAL,
    )
    assert trace.room in row.reason
    assert "not the room asked for" in row.reason
    assert session is None
    assert len(inside) <= 1  # LiveKit takes a moment to count who has left


async def test_who_is_inside_is_told_by_identity(on_stage, livekit):
    async with on_stage(livekit) as (_, server, trace, token):
        assert await server.inside(trace.room) == set()
        assert await server.inside("nowhere") == set()
        _, session = await server.signal(trace, token)
        inside = await server.inside(trace.room)
        await session.close()
    identity = jwt.decode(token, options={"verify_signature": False})["sub"]
    assert inside == {identity}


async def test_who_is_inside_is_not_known_without_a_key_or_an_answer(livekit_at):
    async with livekit_at("ws://127.0.0.1:1", key="", secret="") as keyless, livekit_at("ws://127.0.0.1:1") as dead:
        assert await keyless.inside("room") is None
        assert await dead.inside("room") is None


async def test_validating_visits_nobody(on_stage, livekit):
    async with on_stage(livekit) as (lab, server, trace, token):
        good = await server.validate(trace, token, not_visited="not visited: nobody is inside")
        bad = await server.validate(trace, STRANGERS, not_visited="not visited")
        assert await server.inside(trace.room) == set()
        await lab.world.rooms.delete(trace.room)
        gone = await server.validate(trace, token, not_visited="not visited")
    assert (good.outcome, good.failure, good.layer) == (Outcome.PROBE_ERROR, Failure.SKIPPED, "livekit:signal")
    assert good.reason == "not visited: nobody is inside"
    assert (bad.outcome, bad.failure, bad.status) == (Outcome.REFUSED, Failure.UNAUTHORISED, 401)
    assert (gone.outcome, gone.failure, gone.status) == (Outcome.ABSENT, Failure.NOT_FOUND, 404)


@pytest.mark.parametrize(("status", "outcome"), [(404, Outcome.PROBE_ERROR), (502, Outcome.UNKNOWN)])
async def test_where_validating_is_not_passed_on_the_room_is_not_visited_all_the_same(
    livekit_at, serving, status, outcome
):
    async def answer(request):
        return web.Response(status=status, text="<h1>no</h1>", content_type="text/html")

    async with serving(answer) as port, livekit_at(f"ws://127.0.0.1:{port}") as livekit:
        row = await livekit.validate(Trace(room="room"), "token", not_visited="not visited: nobody is inside")
    assert (row.outcome, row.status) == (outcome, status)
    assert row.reason.startswith("not visited: nobody is inside (and its token") is (status == 404)


async def test_a_room_made_anew_is_told_by_both_its_sids(on_stage, livekit):
    async with on_stage(livekit) as (lab, server, trace, _):
        first = await server.rooms(trace)
        same = await server.rooms(trace)
        await lab.world.rooms.delete(trace.room)
        assert (await server.rooms(trace)).outcome is Outcome.ABSENT
        await lab.world.rooms.create(trace.room, empty_timeout_s=60, departure_timeout_s=60)
        anew = await server.rooms(trace)
    sids = [json.loads(row.detail)["sid"] for row in (first, same, anew)]
    assert [json.loads(row.detail).get("earlier_sid") for row in (first, same, anew)] == [None, None, sids[0]]
    assert sids[2] != sids[0]


# Staying


async def test_a_session_is_dropped_when_its_room_is_deleted(on_stage, livekit):
    async with on_stage(livekit) as (lab, server, trace, token):
        _, session = await server.signal(trace, token)
        await lab.world.rooms.delete(trace.room)
        assert not await session.stays(20)
        assert session.lost == DELETED
        await session.close()


async def test_who_comes_under_the_same_identity_takes_the_place(on_stage, livekit):
    async with on_stage(livekit) as (_, server, trace, token):
        _, first = await server.signal(trace, token)
        _, second = await server.signal(trace, token)
        assert not await first.stays(20)
        assert first.lost.failure is Failure.REMOVED
        assert "same identity" in first.lost.reason
        await first.close()
        await second.close()


async def test_a_session_is_dropped_when_its_connection_is_reset(on_stage):
    async with on_stage() as (lab, server, trace, token):
        _, session = await server.signal(trace, token)
        lab.livekit_proxy["made"].mode = ProxyMode.RESET
        assert not await session.stays(20)
        assert "lost" in session.lost.reason
        await session.close()


async def test_who_leaves_is_gone_from_the_room(on_stage, livekit, until):
    async with on_stage(livekit) as (_, server, trace, token):
        _, session = await server.signal(trace, token)
        await session.close()
        for _ in range(100):
            if json.loads((await server.rooms(trace)).detail)["participants"] == 0:
                break
        else:
            pytest.fail("the participant is still counted")
        await session.close()  # twice does no harm


# Media


async def test_media_connect_stay_and_are_dropped_with_the_room(on_stage, livekit_server, rows):
    async with on_stage(livekit_server) as (lab, server, trace, token):
        row, session = await server.media(trace, token, role=Role.JOINER, attempt_group="g", attempt_no=2)
        assert (row.outcome, row.layer, row.failure) == (Outcome.VISIBLE, "livekit:media", None)
        assert (row.role, row.attempt_group, row.attempt_no) == (Role.JOINER, "g", 2)
        assert json.loads(row.detail)["tries_inside_at_most"] == 4
        assert await session.stays(0.3)
        await lab.world.rooms.delete(trace.room)
        assert not await session.stays(20)
        assert session.lost == DELETED
        await session.close()
    assert token not in rows.text()


async def test_media_with_a_token_for_another_room_lead_into_none(on_stage, livekit_server):
    async with on_stage(livekit_server) as (_, server, _, token):
        row, session = await server.media(Trace(room="asked-for"), token)
    assert (row.outcome, row.failure, session) == (Outcome.UNKNOWN, Failure.UNEXPECTED, None)


async def test_media_with_a_false_token_fail_without_showing_it(on_stage, livekit_server, rows):
    async with on_stage(livekit_server) as (_, server, trace, _):
        row, session = await server.media(trace, STRANGERS)
    assert (row.outcome, row.failure, row.failure_layer) == (Outcome.UNKNOWN, Failure.ICE, FailureLayer.ICE)
    assert session is None
    assert STRANGERS not in rows.text()
    assert STRANGERS.split(".")[1] not in rows.text()


async def test_media_of_the_stand_in_do_not_connect_within_the_timeout(on_stage):
    async with on_stage() as (_, server, trace, token):
        row, session = await server.media(trace, token, timeout_s=1.0)
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.TIMEOUT)
    assert session is None


async def test_media_that_were_given_up_do_not_join_afterwards(on_stage, livekit_server):
    async with on_stage(livekit_server) as (lab, server, trace, token):
        lab.livekit_proxy["made"].mode = ProxyMode.STALL
        row, _ = await server.media(trace, token, timeout_s=0.5)
        assert row.failure is Failure.TIMEOUT
        lab.livekit_proxy["made"].mode = ProxyMode.PASS
        for _ in range(30):  # the RTC library makes its second try about five seconds after the first
            await asyncio.sleep(0.2)
            assert json.loads((await server.rooms(trace)).detail)["participants"] == 0


# Secrets and addresses


async def test_no_token_or_key_is_ever_in_a_row(on_stage, rows, target_of):
    async with on_stage() as (lab, server, trace, token):
        target = target_of(lab)
        _, session = await server.signal(trace, token)
        await session.close()
        await server.rooms(trace)
        for mode, _ in FAULTS:
            server.timeout_s = 0.2
            lab.livekit_proxy["made"].mode = mode
            await server.signal(trace, token, timeout_s=0.2)
            await server.rooms(trace)
    kept = rows.text()
    assert target.livekit_secret not in repr(target)
    for hidden in (token, token.split(".")[1], token.split(".")[2], target.livekit_secret, target.livekit_key):
        assert hidden
        assert hidden not in kept


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("wss+livekit://h:7880", "wss://h:7880"),
        ("ws+livekit://h", "ws://h"),
        ("https://h/livekit/", "wss://h/livekit"),
        ("http://h", "ws://h"),
        ("wss://ws.example", "wss://ws.example"),
        ("ws://127.0.0.1:7880", "ws://127.0.0.1:7880"),
    ],
)
def test_whatever_names_a_server_becomes_its_signalling_address(given, url):
    assert signal_url(given) == url


@pytest.mark.parametrize("text", ["", "livekit", "ftp://h", "wss://", "127.0.0.1:7880"])
def test_an_address_that_is_none_is_a_mistake_with_its_remedy(text):
    with pytest.raises(UsageError, match="write wss://HOST"):
        signal_url(text)
