"""Real servers on loopback that misbehave as relays do: each is a websocket or TCP server on a port of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


class Peer:
    """One client as a server sees it: `say` sends a frame; `heard` is every frame of every client so far."""

    def __init__(self, ws, heard):
        self.ws, self.heard = ws, heard

    async def say(self, *row):
        await self.ws.send(json.dumps(row))


@asynccontextmanager
async def relay(answer, *, greet=None, port=0, host="127.0.0.1", **options):
    """A websocket server: `greet(peer)` on each connection, `answer(peer, *frame)` for each frame. Gives url, heard."""
    heard = []

    async def talk(ws):
        peer = Peer(ws, heard)
        with suppress(ConnectionClosed):
            if greet is not None:
                await greet(peer)
            async for text in ws:
                heard.append(json.loads(text))
                await answer(peer, *heard[-1])

    async with serve(talk, host, port, ping_interval=None, close_timeout=0.1, **options) as server:
        yield f"ws://{host}:{server.sockets[0].getsockname()[1]}", heard


@asynccontextmanager
async def tcp(handle):
    """A plain TCP server: `handle(reader, writer)` per connection. Gives its port."""
    writers = []

    async def connected(reader, writer):
        writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await handle(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def silence(reader, writer):
    """Accept, read, and never say a thing."""
    while await reader.read(65_536):
        pass


async def hang_up(reader, writer):
    """Close as soon as something comes."""
    await reader.read(1)
    writer.close()


async def reset(reader, writer):
    """Answer with RST."""
    await reader.read(1)
    rst(writer.transport)


def rst(transport):
    """Drop a connection so that the peer sees a reset."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


CHALLENGES = (
    "on connect",
    "on connect, then EOSE",
    "behind EOSE",
    "before EOSE",
    "after CLOSED",
    "late after CLOSED",
    "held",
    "held and served",
)
"""When a relay says its NIP-42 challenge; what it does with a question from somebody unknown goes with it."""


def members_only(when, *, stored=(), ok="true", refuses="auth-required: who are you?"):
    """A relay that shows and takes events only once its challenge is answered: `greet` and `answer` of `relay`.

    ok: what it says to AUTH: "true", "false", or "" for nothing. Each AUTH that it was sent is kept in the list that
    the answer function has as `known`: (kind, pubkey, tags).
    """
    kept, known, waiting = list(stored), [], {}

    async def greet(peer):
        peer.ws.known = False
        if when.startswith("on connect"):
            await peer.say("AUTH", "challenge-1")

    async def answer(peer, verb, *rest):
        if verb == "AUTH":
            known.append((rest[0]["kind"], rest[0]["pubkey"], dict(row[:2] for row in rest[0]["tags"])))
            peer.ws.known = ok != "false"
            if ok:
                await peer.say("OK", rest[0]["id"], ok == "true", "" if ok == "true" else "restricted: not a member")
            for frame in waiting.pop(peer.ws, ()):
                await answer(peer, *frame)
        elif peer.ws.known and verb == "REQ":
            for event in kept:
                await peer.say("EVENT", rest[0], event.as_dict() if hasattr(event, "as_dict") else event)
            await peer.say("EOSE", rest[0])
        elif peer.ws.known and verb == "EVENT":
            kept.append(rest[0])
            await peer.say("OK", rest[0]["id"], True, "")
        elif verb in ("REQ", "EVENT"):
            await _stranger(peer, verb, rest[0])
            if when == "held and served":
                waiting.setdefault(peer.ws, []).append((verb, *rest))

    async def _stranger(peer, verb, first):
        if when in ("before EOSE", "held", "held and served"):
            await peer.say("AUTH", "challenge-1")
        if when.startswith("held"):
            return
        if verb == "EVENT":
            await peer.say("OK", first["id"], False, refuses)
        else:
            await peer.say(*(("EOSE", first) if when.endswith("EOSE") else ("CLOSED", first, refuses)))
        if when == "late after CLOSED":
            await asyncio.sleep(0.05)
        if when in ("behind EOSE", "after CLOSED", "late after CLOSED"):
            await peer.say("AUTH", "challenge-1")

    answer.known = known
    return {"greet": greet, "answer": answer}


def storing(*, honours="ea", versions="newest", refuses=()):
    """A relay that keeps what it is given, by `answer` of `relay`; what it has is the list `answer.kept`.

    honours: what of a deletion request it goes by: ids (e), addresses (a), both or neither. versions: which versions of
    an addressable event it keeps: the newest, all, or the first for good, whatever it says. refuses: kinds, or kinds
    with a status (`30312 closed`), that it does not take.
    """
    kept = []

    async def answer(peer, verb, *rest):
        if verb == "EVENT":
            await peer.say("OK", rest[0]["id"], *_taken(rest[0]))
        elif verb == "REQ":
            for event in [each for each in kept if any(_fits(each, wanted) for wanted in rest[1:])]:
                await peer.say("EVENT", rest[0], event)
            await peer.say("EOSE", rest[0])

    def _taken(event):
        status = next((row[1] for row in event["tags"] if row[0] == "status"), "")
        if str(event["kind"]) in refuses or f"{event['kind']} {status}" in refuses:
            return False, "blocked: not here"
        if event["kind"] == 5:
            kept[:] = [each for each in kept if not _withdraws(event, each, honours)]
        same = [each for each in kept if event["kind"] >= 30_000 and _address(each) == _address(event)]
        if not same or versions != "first":
            kept.append(event)
        if same and versions == "newest":
            oldest = min([*same, event], key=lambda each: each["created_at"])
            kept.remove(oldest)
        return True, ""

    answer.kept = kept
    return {"answer": answer}


def _address(event):
    name = next((row[1] for row in event["tags"] if row[0] == "d"), "")
    return f"{event['kind']}:{event['pubkey']}:{name}"


def _withdraws(request, event, honours):
    named = {(row[0], row[1]) for row in request["tags"] if row[0] in honours}
    return request["pubkey"] == event["pubkey"] and bool(named & {("e", event["id"]), ("a", _address(event))})


def _fits(event, wanted):
    plain = {"ids": "id", "authors": "pubkey", "kinds": "kind"}
    if any(event[field] not in wanted[name] for name, field in plain.items() if name in wanted):
        return False
    letters = {name[1]: values for name, values in wanted.items() if name.startswith("#")}
    return all(
        any(row[0] == letter and row[1] in values for row in event["tags"]) for letter, values in letters.items()
    )
