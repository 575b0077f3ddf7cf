"""What is asked of LiveKit over HTTP: answers in its own form count, all others are named; tokens are for one call."""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager

import jwt
import pytest
from aiohttp import web
from livekit.protocol import models
from livekit.protocol import room as protocol

from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources.clock import Clock
from nestobs.sources.livekit_http import LIFE_S, ROOM_LIST_BYTES, Access, LiveKitHttp, NotSaid

pytestmark = pytest.mark.slow

KEY, SECRET = "APIkey", "a-secret-of-more-than-thirty-two-bytes"
PROTOBUF = "application/protobuf"
ROOMS = protocol.ListRoomsResponse(rooms=[models.Room(name="room", sid="RM_1", creation_time=1_700_000_000)])
LISTED = ROOMS.SerializeToString()
TOKEN = jwt.encode({"iss": KEY, "video": {"roomJoin": True, "room": "room"}}, SECRET)


@pytest.fixture
def asking(serving):
    """`async with asking(answer) as (http, requests)`: a server that answers so, and what it was sent."""

    @asynccontextmanager
    async def opened(answer, prefix=""):
        requests = []

        async def handle(request):
            requests.append((request.method, request.path, dict(request.headers), await request.read()))
            return answer(request) if callable(answer) else answer

        async with serving(handle) as port:
            http = LiveKitHttp(f"http://127.0.0.1:{port}{prefix}", Access(KEY, SECRET), None, Clock())
            yield http, requests
            await http.close()

    return opened


def answer(body=b"", status=200, content_type=PROTOBUF, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return web.Response(status=status, body=body, headers={"Content-Type": content_type, **headers})


async def said_of(asking, what, names=("room",)):
    async with asking(what) as (http, _):
        with pytest.raises(NotSaid) as raised:
            await http.rooms(list(names), 5.0)
    return raised.value


async def test_a_room_list_is_read_and_an_empty_one_is_empty(asking):
    async with asking(answer(LISTED), prefix="/livekit") as (http, requests):
        assert [room.sid for room in await http.rooms(["room"], 5.0)] == ["RM_1"]
    assert [(method, path) for method, path, _, _ in requests] == [
        ("POST", "/livekit/twirp/livekit.RoomService/ListRooms")
    ]
    async with asking(answer(b"")) as (http, _):
        assert await http.rooms([], 5.0) == []


NOT_PROTOBUF = {
    "a fall-back page": answer(b"<!doctype html><div id=app></div>", content_type="text/html"),
    "an empty page": answer(b"", content_type="text/html; charset=utf-8"),
    "a page that calls itself protobuf": answer(b"<!doctype html><html>We will be right back</html>"),
    "JSON": answer({"rooms": [{"name": "room"}]}, content_type="application/json"),
    "JSON that calls itself protobuf": answer({"rooms": []}),
    "text": answer(b"OK", content_type="text/plain"),
    "no type": answer(b"", content_type=""),
    "cut off": answer(LISTED[:-3]),
    "garbage": answer(b"\xff" * 40),
    "another message": answer(b"\x0a\xff\xff\xff\xff\x0f"),
    "a captive portal": answer(b"<HTML><META http-equiv=refresh></HTML>", content_type="text/html"),
}


@pytest.mark.parametrize("what", NOT_PROTOBUF)
async def test_a_200_that_is_no_room_list_proves_nothing(asking, what):
    found = (await said_of(asking, NOT_PROTOBUF[what])).judgement
    assert (found.outcome, found.failure) == (Outcome.UNKNOWN, Failure.PROTOCOL)
    assert found.reason


ERRORS = {
    "twirp": (401, {"code": "unauthenticated", "msg": "permissions denied"}, "", "is the key right?"),
    "LiveKit's text": (401, b"invalid API key: APIkey", "text/plain", "an API key that LiveKit does not have"),
    "twirp's route": (404, {"code": "bad_route", "msg": "no handler for path"}, "", "bad_route"),
    "nginx 404": (404, b"<html><h1>404 Not Found</h1></html>", "text/html", "a web page where /twirp"),
    "Go's mux": (404, b"404 page not found", "text/plain", "another server's words where /twirp"),
    "an API's JSON": (404, {"error": "Not Found"}, "application/json", "is the path right?"),
    "nginx 502": (502, b"<html>502 Bad Gateway</html>", "text/html", "HTTP 502 and a web page"),
    "busy": (503, {"code": "unavailable", "msg": "no response from servers"}, "", "unavailable"),
    "wrong shape": (500, {"code": ["x"], "msg": 5}, "application/json", "["),
    "deep": (500, b"[" * 5_000, "application/json", "["),
    "method": (405, b"Method Not Allowed", "text/plain", "is the path right?"),
    "a redirect": (308, b"", "", "not followed"),
}


@pytest.mark.parametrize("who", ERRORS)
async def test_an_error_says_whose_it_is(asking, who):
    status, body, content_type, words = ERRORS[who]
    headers = {"Location": f"https://sso.invalid/?t={SECRET}"} if status == 308 else {}
    found = await said_of(asking, answer(body, status, content_type or "application/json", **headers))
    assert found.status == status
    assert found.judgement.outcome in (Outcome.UNKNOWN, Outcome.REFUSED)
    assert words in found.judgement.reason
    assert SECRET not in found.judgement.reason
    assert KEY not in found.judgement.reason


@pytest.mark.parametrize("names", [(), ("room",)], ids=["all", "one"])
async def test_a_room_list_without_end_is_given_up_early(serving, names):
    sent = 0

    async def endless(request):
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": PROTOBUF})
        await response.prepare(request)
        while sent < 600 * ROOM_LIST_BYTES:
            await response.write(LISTED * 1_000)
            sent += len(LISTED) * 1_000
        return response

    async with serving(endless) as port:
        http = LiveKitHttp(f"http://127.0.0.1:{port}", Access(KEY, SECRET), None, Clock())
        with pytest.raises(NotSaid, match="longer than"):
            await http.rooms(list(names), 20.0)
        await http.close()
    assert sent < 20 * ROOM_LIST_BYTES


@pytest.mark.parametrize(
    ("call", "grants"),
    [
        (lambda http: http.rooms(["room"], 5.0), {"roomList": True}),
        (lambda http: http.rooms([], 5.0), {"roomList": True}),
        (lambda http: http.participants("room", 5.0), {"roomAdmin": True, "room": "room"}),
        (lambda http: http.delete("room", 5.0), {"roomCreate": True}),
    ],
    ids=["one room", "all rooms", "participants", "delete"],
)
async def test_a_token_of_ours_grants_one_thing_for_a_minute(asking, call, grants):
    async with asking(answer()) as (http, requests):
        await call(http)
    [(_, _, headers, _)] = requests
    claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), SECRET, algorithms=["HS256"])
    assert claims["video"] == grants
    assert claims["exp"] - claims["nbf"] == LIFE_S == 60
    assert abs(claims["nbf"] - time.time()) < 30
    assert set(claims) == {"iss", "nbf", "exp", "video"}


async def test_a_token_is_validated_without_a_visit(asking):
    async with asking(answer(b"success", content_type="text/plain")) as (http, requests):
        await http.validate(TOKEN, 5.0)
    [(method, path, headers, _)] = requests
    assert (method, path, headers["Authorization"]) == ("GET", "/rtc/validate", f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    ("status", "body", "content_type", "outcome", "words"),
    [
        (
            401,
            f"invalid token: {TOKEN}, error: token not valid yet (nbf)",
            "text/plain",
            Outcome.REFUSED,
            "not valid yet",
        ),
        (404, "requested room does not exist", "text/plain", Outcome.ABSENT, "does not exist"),
        (200, "<!doctype html>", "text/html", Outcome.UNKNOWN, "a web page"),
        (200, "hello", "text/plain", Outcome.UNKNOWN, "another server's words"),
        (404, "<h1>Not Found</h1>", "text/html", Outcome.UNKNOWN, "is the path right?"),
    ],
    ids=["not yet", "no room", "a page", "another", "a 404 page"],
)
async def test_what_validating_says_no_with(asking, status, body, content_type, outcome, words):
    async with asking(answer(body.encode(), status, content_type)) as (http, _):
        with pytest.raises(NotSaid) as raised:
            await http.validate(TOKEN, 5.0)
    found = raised.value.judgement
    assert (found.outcome, found.failure_layer) == (outcome, FailureLayer.SIGNAL)
    assert words in found.reason
    assert TOKEN not in found.reason


@pytest.mark.parametrize(
    ("status", "alive"), [(200, True), (406, True), (404, True), (301, True), (502, False), (503, False)]
)
async def test_whether_livekit_is_there_is_asked_without_a_secret(asking, status, alive):
    async with asking(answer(b"OK", status, "text/plain")) as (http, requests):
        assert (await http.alive() == "") is alive
    assert "Authorization" not in requests[0][2]


async def test_where_nothing_listens_livekit_is_not_there():
    http = LiveKitHttp("http://127.0.0.1:1", Access(), None, Clock())
    assert "refused" in await http.alive()
    await http.close()
