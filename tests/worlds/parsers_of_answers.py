"""What reads a stranger's bytes: of APIs, caches, relays, LiveKit, and events."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import logging
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import jwt
from livekit.protocol.models import ParticipantInfo, Room
from livekit.protocol.room import ListRoomsResponse
from livekit.protocol.rtc import SignalResponse
from livekit.protocol.webhook import WebhookEvent
from websockets.asyncio.server import ServerConnection, serve

from nestobs import nostr
from nestobs.join.budget import Limiter
from nestobs.join.fields import fine_instant, instant, members, number
from nestobs.join.rate_limits import LONGEST_WINDOW_S, pause_s, read_limits
from nestobs.nostr import EventFrame, Keys, MalformedAuth, MalformedEvent
from nestobs.observation.detail import detail, facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import read_nest, withdrawn_at
from nestobs.observation.schema import DETAIL_BYTES, Failure, Observation, Operation, Outcome, Source
from nestobs.sources.address import kind_of
from nestobs.sources.api import Api
from nestobs.sources.caching import cache_fields, copied
from nestobs.sources.clock import Clock
from nestobs.sources.http_answer import Unpacking, joined
from nestobs.sources.livekit_http import Access, LiveKitHttp, NotSaid, claims_of
from nestobs.sources.livekit_words import http_answer, is_page, redirected, refusal, scrubbed
from nestobs.sources.proof import Form, Heard, find
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace, Vantage
from nestobs.sources.visit import by_signal
from nestobs.sources.webhook import Webhooks
from nestobs.timeline.board import Board
from nestobs.timeline.failures import failures
from nestobs.timeline.incident import facts
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins
from nestobs.timeline.layers import layers
from nestobs.timeline.requests import attempts
from worlds import nest_rows
from worlds.parser import Parser, Read, parser, storable, text_of
from worlds.stored_nests import NOON

KEYS = Keys.from_secret("11" * 32)
TRACE = Trace(trace_id="trace", nest=f"30312:{KEYS.public}:room", room="room")
SECRET = "secret-of-thirty-two-bytes-or-more"


def _vantage(rows: list[Observation]) -> Vantage:
    return Vantage("here", "run", rows.append)


# fields of an answer's head


def _headers(data: bytes) -> dict[str, str]:
    lines = (line.partition(b":") for line in data.split(b"\n"))
    return joined((name.strip(), value.strip()) for name, _, value in lines)


def _limits(data: bytes) -> object:
    headers, limiter = _headers(data), Limiter()
    for status in (200, 429, 503):
        limiter.learn(headers, status, NOON)
        pause_s(status, headers, NOON)
    read_limits(headers, None)
    assert limiter.opens_at(NOON) <= NOON + round(LONGEST_WINDOW_S) * SECOND_NS
    assert limiter.opens_at(NOON, urgent=True) <= NOON + 10 * SECOND_NS
    limiter.take(NOON)
    kept = json.dumps(limiter.state())
    limiter.restore(json.loads(kept), NOON)
    return limiter.left(NOON), limiter.why_shut(NOON)


def _field(data: bytes) -> object:
    text = data.decode("latin-1")
    return number(text), instant(text), fine_instant(text), members(text)


def _found(data: bytes) -> object:
    """What an answer proves: its first line is a status, then its head, then its body."""
    first, _, rest = data.partition(b"\n")
    head, _, body = rest.partition(b"\n\n")
    status = int(first) if first.isdigit() and len(first) == 3 else 404
    heard = Heard(status, _headers(head), nostr.json_object(body), body[:4_096].decode("utf-8", "replace"))
    form, rows = Form(), list[Observation]()
    for operation in Operation:
        for known in (Form(), form):
            found = find(operation, heard, known)
            _vantage(rows).record(
                TRACE, sent_at=NOON, source=Source.API, target="x", operation=operation, **found.judgement._asdict()
            )
        form.learn(heard.headers)
    return [storable(row) for row in rows], cache_fields(heard.headers), copied(heard.headers)


def _unpacked(data: bytes) -> object:
    """The first line is the encoding."""
    encoding, _, body = data.partition(b"\n")
    unpacking = Unpacking(encoding.decode("latin-1"), 10_000)
    for at in range(0, len(body), 1_000):
        unpacking.feed(body[at : at + 1_000])
    found = unpacking.end()
    assert len(found) <= 10_000
    return found


# events


def _frame(data: bytes) -> object:
    frame = nostr.read_frame(data)
    return nostr.read_event(frame.event) if isinstance(frame, EventFrame) else frame


def _event_of(data: bytes) -> nostr.Event:
    """A genuine event of a stranger who signs anything: its fields as JSON."""
    fields = nostr.json_object(data) or {}
    made, kind, tags = fields.get("created_at"), fields.get("kind"), fields.get("tags")
    event = {
        "pubkey": KEYS.public,
        "created_at": made if type(made) is int and 0 <= made < 2**63 else 1,
        "kind": kind if type(kind) is int and 0 <= kind < 2**16 else 30312,
        "tags": [[str(cell) for cell in row] for row in tags if isinstance(row, list) and row]
        if isinstance(tags, list)
        else [],
        "content": str(fields.get("content", "")),
    }
    try:
        signed = KEYS.sign(event["kind"], **{name: event[name] for name in ("created_at", "tags", "content")})
    except UnicodeEncodeError:
        raise MalformedEvent("half a character") from None
    return nostr.read_event(json.loads(json.dumps(signed.as_dict())))


def _nest(data: bytes) -> object:
    event = _event_of(data)
    nest = read_nest(event)
    at = NOON
    said = nest.state(at), nest.why_not_live(at), nest.age_s(at), nest.ahead_s(at), nest.renewed(nest)
    rows: list[Observation] = []
    where = Trace(trace_id="t", nest=str(nest.address), room=nest.room)
    _vantage(rows).record(
        where,
        sent_at=at,
        source=Source.RELAY,
        target="wss://r",
        operation=Operation.QUERY,
        outcome=Outcome.VISIBLE,
        detail=detail(name=nest.name, status=nest.status, created_at=event.created_at),
    )
    return said, withdrawn_at(nest.address, event, [event]), storable(rows[0]), quote(nest.room), nostr.publish(event)


def _detail(data: bytes) -> object:
    written = detail(**facts_of(text_of(data)))
    return facts_of(written), written.encode()


def _timelines(data: bytes) -> object:
    """What is made of rows with this detail, whoever wrote it."""
    said: Any = {"detail": text_of(data)[: 2 * DETAIL_BYTES]}
    rows = [
        nest_rows.created(),
        nest_rows.info(1, **said),
        nest_rows.event(2, **said),
        nest_rows.row(Source.API, Operation.GUEST, "refused", 3, failure=Failure.RATE_LIMITED, status=429, **said),
        nest_rows.row(Source.API, Operation.JOIN, "visible", 4, status=200, **said),
        nest_rows.rooms("visible", 5, made=1, **said),
        nest_rows.webhook("room_started", 6, **said),
        nest_rows.disturbed(Failure.CLOCK_STEP, 7, 7.5, **said),
        nest_rows.row(Source.JOIN, Operation.VERDICT, "visible", 8, **said),
    ]
    frame, board = nest_rows.frame(*rows), Board()
    board.fold(rows)
    lines = timelines(frame)
    made = joins(frame, lines)
    return (
        lines,
        facts(frame, layers(frame, lines), attempts(frame, made), frame),
        failures(frame),
        board.view(nest_rows.at(9)),
    )


# words of LiveKit


def _refusal(data: bytes) -> object:
    """The first line is what a token holds, the rest what LiveKit says of it."""
    held, _, said = data.partition(b"\n")
    token = f"eyJhbGciOiJub25lIn0.{base64.urlsafe_b64encode(held).decode().rstrip('=')}."
    words = scrubbed(said.decode("utf-8", "replace"), token)
    return refusal(words, claims_of(token), 1.7e9), claims_of(text_of(said))


def _words(data: bytes) -> object:
    text = data.decode("latin-1")
    said = scrubbed(text, "secret")
    return said, is_page(text[:80], text), http_answer(404, said, text[:80], "/rtc"), redirected(302, text)


# what answers over a socket

SILENT = logging.Logger("server", logging.CRITICAL + 1)

Ask = Callable[[bytes], Awaitable[object]]


@contextmanager
def running(opened: Callable[[AsyncExitStack], Awaitable[Ask]]) -> Iterator[Read]:
    """What reads in an event loop, with the servers it needs."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        ask = runner.run(opened(stack))
        try:
            yield lambda data: runner.run(ask(data))
        finally:
            runner.run(stack.aclose())


class Raw:
    """A server on loopback that answers each request with these bytes, and hangs up."""

    def __init__(self) -> None:
        self.answer, self.port = b"", 0

    async def open(self, stack: AsyncExitStack) -> Raw:
        server = await stack.enter_async_context(await asyncio.start_server(self._play, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        return self

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # it did not want the rest
        finally:
            writer.close()


async def _api(stack: AsyncExitStack) -> Ask:
    raw, rows = await Raw().open(stack), list[Observation]()
    api = await stack.enter_async_context(
        Api(_vantage(rows), f"http://127.0.0.1:{raw.port}/api/v1/nests", Limiter(), timeout_s=2.0)
    )

    async def ask(data: bytes) -> object:
        raw.answer, api.limiter = data, Limiter()
        asked = (
            api.info(TRACE),
            api.guest(TRACE),
            api.join(TRACE, KEYS),
            api.create(TRACE, KEYS, ("wss://r",)),
            api.delete(TRACE, KEYS),
            api.health(),
        )
        wanted = len(data) % len(asked)
        for place, call in enumerate(asked):
            if place == wanted:
                answer = await call
            else:
                call.close()
        api.limiter.why_shut(NOON)
        found = [storable(row) for row in rows]
        rows.clear()
        return found, answer.token

    return ask


async def _livekit(stack: AsyncExitStack) -> Ask:
    raw = await Raw().open(stack)
    http = LiveKitHttp(f"http://127.0.0.1:{raw.port}", Access("key", SECRET), None, Clock())
    stack.push_async_callback(http.close)
    token = jwt.encode({"nbf": 1, "exp": 2}, SECRET, algorithm="HS256")

    async def ask(data: bytes) -> object:
        raw.answer = data
        calls = (
            lambda: http.rooms(["room"], 2.0),
            lambda: http.rooms([], 2.0),
            lambda: http.participants("room", 2.0),
            lambda: http.validate(token, 2.0),
            lambda: http.delete("room", 2.0),
        )
        return await calls[len(data) % len(calls)]()

    return ask


async def _signal(stack: AsyncExitStack) -> Ask:
    message = b""

    async def play(socket: ServerConnection) -> None:
        await socket.send(message)
        await socket.wait_closed()

    server = await stack.enter_async_context(serve(play, "127.0.0.1", 0, close_timeout=0.1, logger=SILENT))
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def ask(data: bytes) -> object:
        nonlocal message
        message = data
        entry = await by_signal(url, "token", tls=None, clock=Clock(), timeout_s=2.0)
        if entry.session is not None:
            await entry.session.close()
        return entry.judgement, entry.room, scrubbed(entry.room), entry.version

    return ask


async def _relay(stack: AsyncExitStack) -> Ask:
    """Frames, a line each, that a relay sends to a question before it says EOSE."""
    frames: list[bytes] = []

    async def play(socket: ServerConnection) -> None:
        await socket.send('["AUTH","who are you?"]')
        async for text in socket:
            asked = json.loads(text)
            if asked[0] == "AUTH":
                await socket.send(json.dumps(["OK", asked[1]["id"], True, ""]))
            if asked[0] != "REQ":
                continue
            for frame in frames:
                said = frame.replace(b"SUB", asked[1].encode())
                try:
                    await socket.send(said.decode())
                except UnicodeDecodeError:
                    await socket.send(said)
            await socket.send(json.dumps(["EOSE", asked[1]]))

    server = await stack.enter_async_context(
        serve(play, "127.0.0.1", 0, close_timeout=0.1, logger=SILENT, max_size=None)
    )
    rows: list[Observation] = []
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    relay = await stack.enter_async_context(Relay(_vantage(rows), url, keys=KEYS))

    async def ask(data: bytes) -> object:
        nonlocal relay
        frames[:] = data.split(b"\n")[:20]
        if not await relay.ready(0.2):  # it was cut off, as one that floods
            relay = await stack.enter_async_context(Relay(_vantage(rows), url, keys=KEYS))
            await relay.ready(5)
        await relay.query(TRACE, filters={"kinds": [30312]}, timeout_s=0.5)
        found = [storable(row) for row in rows]
        rows.clear()
        return found

    return ask


def _signed(body: bytes, claims: dict[str, object] | None = None) -> str:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return jwt.encode({"iss": "key", "sha256": digest, **(claims or {})}, SECRET, algorithm="HS256")


def _webhooks(told: Callable[[bytes], tuple[bytes, bytes]]) -> Callable[[AsyncExitStack], Awaitable[Ask]]:
    async def opened(stack: AsyncExitStack) -> Ask:
        rows: list[Observation] = []
        hooks = Webhooks(_vantage(rows), api_key="key", api_secret=SECRET, trace_of=lambda _: TRACE)
        url = httpx.URL((await stack.enter_async_context(hooks)).url)

        async def ask(data: bytes) -> object:
            body, token = told(data)
            reader, writer = await asyncio.open_connection(url.host, url.port)
            head = f"POST {url.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
            line = b" ".join(token.split())[:4_000]
            writer.write(head.encode() + b"Authorization: " + line + b"\r\n\r\n" + body)
            try:
                said = await reader.read()
            except OSError:
                said = b""
            writer.close()
            assert b" 500 " not in said[:20], said
            found = [storable(row) for row in rows]
            rows.clear()
            return found

        return ask

    return opened


def _http(status: int, body: str | bytes, *lines: str) -> bytes:
    content = body if isinstance(body, bytes) else body.encode()
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + content


E = (
    "Content-Type: application/json; charset=utf-8",
    "RateLimit-Policy: 100;w=900",
    "RateLimit-Limit: 100",
    "RateLimit-Remaining: 99",
    "RateLimit-Reset: 900",
    "Date: Thu, 01 Jan 2026 12:00:00 GMT",
    'ETag: W/"1f-abc"',
    "X-Powered-By: Express",
)
INFO = json.dumps(
    {"host": KEYS.public, "speakers": [], "admins": [], "link": "naddr1x", "createdAt": 1_767_268_800_000}
)
TOKEN = json.dumps({"token": jwt.encode({"nbf": 1}, SECRET, algorithm="HS256")})
CREATED = json.dumps({"roomId": "a", "endpoints": ["wss+livekit://h:1"], "token": json.loads(TOKEN)["token"]})
ANSWERS = (
    _http(200, INFO, *E),
    _http(200, TOKEN, *E),
    _http(200, CREATED, *E),
    _http(404, '{"error":"Nest not found"}', *E),
    _http(404, "<html><title>404 Not Found</title></html>", "Server: nginx/1.25", "Content-Type: text/html", "Age: 3"),
    _http(429, '{"error":"slow down"}', *E, "Retry-After: 30"),
    _http(503, "", "Retry-After: Thu, 01 Jan 2026 12:05:00 GMT", "Server: Kestrel"),
    _http(200, gzip.compress(INFO.encode()), *E, "Content-Encoding: gzip"),
    _http(204, ""),
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n',
    b"HTTP/1.0 302 Found\r\nLocation: http://other.example:99999/\r\n\r\n",
)
HTTP_WORDS = (
    "Age: Retry-After: RateLimit: RateLimit-Policy: X-RateLimit-Reset: Date: Cache-Status: Content-Encoding: gzip"
    " deflate br Transfer-Encoding: chunked Content-Length: Set-Cookie: Server: Content-Type: text/html HTTP/1.1 100"
    ' 101 206 404 500 {"token": {"error": "roomId": "host": "speakers": "createdAt": "traceId":'
)
NEST = {
    "created_at": NOON // SECOND_NS,
    "kind": 30312,
    "tags": [
        ["d", "room"],
        ["room", "name"],
        ["status", "open"],
        ["service", "https://h"],
        ["p", KEYS.public, "", "host"],
    ],
    "content": "",
}
EVENT = KEYS.sign(30312, created_at=NOON // SECOND_NS, tags=NEST["tags"]).as_dict()
FRAMES = (
    json.dumps(["EVENT", "SUB", EVENT]),
    '["EOSE","SUB"]',
    '["CLOSED","SUB","auth-required: who are you"]',
    '["NOTICE","slow down"]',
    '["AUTH","challenge"]',
    '["OK","' + "ab" * 32 + '",false,"blocked: no"]',
)
QUIET = (*FRAMES[:2], '["CLOSED","SUB","error: x"]', FRAMES[3], FRAMES[5])
"""Without those that a client answers and waits for: they take seconds."""

FRAME_WORDS = (
    '["EVENT" ["EOSE" ["CLOSED" ["OK" ["AUTH" ["NOTICE" "SUB" "auth-required:" "created_at": "tags": [[ ]] 1e99'
)
ROOM = Room(name="room", sid="RM_x", creation_time=1_767_268_800, num_participants=1)
LISTED = ListRoomsResponse(rooms=[ROOM]).SerializeToString()
JOINED = SignalResponse()
JOINED.join.room.CopyFrom(ROOM)
JOINED.join.participant.CopyFrom(ParticipantInfo(sid="PA_x", identity="x"))
JOINED.join.server_info.version = "1.11.0"
LEFT = SignalResponse()
LEFT.leave.reason = 5
HOOK = json.dumps(
    {"event": "room_started", "id": "EV_x", "createdAt": "1767268800", "room": {"name": "room", "sid": "RM_x"}}
)
PROTOBUF = "Content-Type: application/protobuf"
REFUSED = "invalid token: eyJ, error: go-jose/go-jose/jwt: validation failed, token not valid yet (nbf)"

ANSWERED: tuple[Parser, ...] = (
    parser(
        "a field of a head",
        _field,
        *("100;w=900", '"day";q=1000;w=86400, "b";q=5', "Thu, 01 Jan 2026 12:00:00 GMT", "2026-01-01T12:00:00Z", "1.5"),
        "2026-01-01T12:00:00.123Z",
        words='; , = " \\ w= q= GMT -0000 +2359 Jan Thu, 24:60:61',
    ),
    parser(
        "rate limits",
        _limits,
        *("\n".join(E), 'RateLimit-Policy: "day";q=1000;w=86400\nRateLimit: "day";r=5;t=600', "Retry-After: 30"),
        *(
            "RateLimit: limit=100, remaining=5, reset=600\nX-RateLimit-Reset: 1767268800000",
            "X-RateLimit-Limit-Minute: 9",
        ),
        *(
            "Retry-After: Thu, 01 Jan 2026 12:05:00 GMT\nDate: Thu, 01 Jan 2026 12:00:00 GMT",
            "X-Rate-Limit-Limit: 5, 9",
        ),
        words="ratelimit-limit: x-ratelimit-remaining: rate-limit-reset: retry-after: ;w= ;q= ;r= ;t= reset= 1m30s",
        frame=(b"RateLimit-Policy: ", b""),
    ),
    parser(
        "what an answer proves",
        _found,
        *(f"404\n{chr(10).join(E)}\n\n" + '{"error":"Nest not found"}', "200\n" + "\n".join(E) + "\n\n" + INFO),
        *("404\nServer: Kestrel\n\n", "404\nX-Cache: HIT from a\nAge: 5\nX-Varnish: 1 2\n\nnot here", "401\n\n{}"),
        *('404\nServer-Timing: cdn-cache;desc=HIT\nCache-Status: x;hit\n\n{"traceId":"00-1","title":"Not Found"}',),
        *("200\n\n" + CREATED, "200\n\n" + TOKEN, "204\n\n"),
        words="Age: X-Cache: Cache-Status: hit Warning: 110 <title> <title   Server: / ( nest Nest the\x20nest",
        frame=(b"404\nServer: x\n\n<title", b""),
    ),
    parser(
        "what is packed",
        _unpacked,
        *(b"gzip\n" + gzip.compress(b"x" * 500), b"deflate\n" + zlib.compress(b"y" * 500), b"identity\nplain"),
        *(b"deflate\n" + zlib.compress(b"z" * 500)[2:-4], b"gzip\n" + gzip.compress(bytes(200_000)), b"br\nx"),
        allowed=(httpx.DecodingError,),
        frame=(b"gzip\n", b""),
    ),
    parser("a JSON object", nostr.json_object, INFO, '{"a":[1,2.5,null,{"b":"\\u00fc"}]}', "[]"),
    parser("a relay's frame", _frame, *FRAMES, allowed=(MalformedEvent,), words=FRAME_WORDS),
    parser(
        "a genuine event",
        _nest,
        *(json.dumps(NEST), json.dumps(NEST | {"tags": [*NEST["tags"], ["starts", "1767268900"], ["a", "x"]]})),
        json.dumps(NEST | {"tags": [["d", ""], ["relays", "wss://a", "wss://b"], ["streaming", "wss+livekit://h"]]}),
        allowed=(ValueError,),
        words='["d", ["status", ["starts", "253402300799" "253402300800" ["e", ["a", ["streaming", livekit planned 5',
        slow=True,
    ),
    parser(
        "an Authorization header",
        lambda data: nostr.read_http_auth(data.decode("latin-1")),
        *(nostr.http_auth(KEYS, url="https://h", method="GET", created_at=NOON // SECOND_NS), "Nostr e30=", "Bearer x"),
        allowed=(MalformedAuth,),
        words="Nostr nostr e30= W10= bnVsbA== ====",
    ),
    parser("a row's detail", _detail, '{"created_at":1,"info":{"a":[1,"x"]},"retry-after":"5"}', "{}", "null"),
    parser(
        "a row's detail in a timeline",
        _timelines,
        *('{"created_at":1780000000,"event_id":"e","info":{"createdAt":1780000000000,"status":"open"},"size_s":1.5}',),
        *(
            '{"retry-after":"5","policy":"guide","verdict":"joined","elapsed_s":1.5,"said":{"guide":{}}}',
            "[]",
        ),
        '{"info":{"createdAt":"2026-05-28T20:26:40Z"}}',
        words='"createdAt": "created_at": "status": "planned" "withdrawn": "sid": "elapsed_s": "requests": 1e400',
        slow=True,
    ),
    parser(
        "an address", lambda data: kind_of(text_of(data)), "127.0.0.1", "::1", "fe80::1%eth0", "64:ff9b::1", "8.8.8.8"
    ),
    parser(
        "why LiveKit refuses",
        _refusal,
        *('{"nbf":1767268800,"exp":1}\n' + REFUSED, '{"exp":1}\ntoken is expired (exp)', "{}\ninvalid API key: x"),
        *(f'{{"nbf":{"9" * 400},"exp":-{"9" * 4_300}}}\n{words}' for words in (REFUSED, "token is expired (exp)")),
        words='{"nbf": "exp": 1e400 (nbf) (exp) expired signature <html> -99999999999999999999',
    ),
    parser(
        "other words of LiveKit",
        _words,
        *("requested room does not exist", "<html>x", "https://u:p@h:8080/path?access_token=eyJ", "http://[::1", "//h"),
        words="http:// https:// @ [ ] :99999 :² #",
    ),
    parser(
        "an API's answer",
        bytes,
        *ANSWERS,
        words=HTTP_WORDS,
        opened=lambda: running(_api),
        slow=True,
        frame=(b"HTTP/1.1 404 X\r\nX-Cache: ", b"\r\n\r\n"),
    ),
    parser(
        "LiveKit's answer",
        bytes,
        *(_http(200, LISTED, PROTOBUF), _http(200, "success"), _http(401, REFUSED), _http(404, "<html>", "Server: x")),
        *(_http(403, '{"code":"permission_denied","msg":"no permissions"}'), *ANSWERS[7:]),
        words=HTTP_WORDS,
        allowed=(NotSaid,),
        opened=lambda: running(_livekit),
        slow=True,
    ),
    parser(
        "a JoinResponse",
        bytes,
        *(JOINED.SerializeToString(), LEFT.SerializeToString(), b"", "text"),
        opened=lambda: running(_signal),
        slow=True,
    ),
    parser(
        "a relay's frames",
        bytes,
        *QUIET,
        "\n".join(QUIET),
        words='["EVENT" ["EOSE" ["CLOSED" ["OK" ["NOTICE" "SUB" "created_at": "tags": [[ ]] 1e99',
        opened=lambda: running(_relay),
        slow=True,
    ),
    parser(
        "a webhook",
        bytes,
        *(HOOK, WebhookEvent(event="x").event, "{}"),
        words='"createdAt": "room": "participant": "numDropped": "egressInfo": -1 1e99 "9999999999999999999"',
        opened=lambda: running(_webhooks(lambda data: (data, _signed(data).encode()))),
        slow=True,
    ),
    parser(
        "a webhook's token",
        bytes,
        *(_signed(b"{}"), _signed(b"{}", {"nbf": 2**40, "exp": 1}), "Bearer " + _signed(b"{}", {"iss": "other"})),
        words="Bearer . .. eyJ e30 bnVsbA",
        opened=lambda: running(_webhooks(lambda data: (b"{}", data))),
        slow=True,
    ),
    parser(
        "what a webhook's token claims",
        bytes,
        *('{"nbf":99999999999,"exp":1}', '{"iss":"key","sha256":"x"}', '{"exp":null}'),
        words='"nbf": "exp": "iss": "sha256": 1e400 [] {}',
        opened=lambda: running(_webhooks(lambda data: (b"{}", _claiming(data)))),
        slow=True,
    ),
)


def _claiming(data: bytes) -> bytes:
    """A token with our signature over any claims."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (b'{"alg":"HS256","typ":"JWT"}', data)]
    signature = hmac.digest(SECRET.encode(), b".".join(parts), "sha256")
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")])
