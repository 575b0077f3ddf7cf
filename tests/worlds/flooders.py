"""Relays that flood, each on a port of its own in a process of its own: `python -m worlds.flooders KIND...`.

Prints one JSON line: ports by kind. A flooder answers the first REQ by sending its kind of frames for ever, as fast as
the socket takes them; `honest` answers each REQ by EOSE, with the instant (ns) of the sending in a NOTICE before it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import os
import struct
import sys
import time
import zlib

from nestobs.nostr import Keys

KEYS = Keys.generate()


def frame(data, opcode=1, fin=True, rsv1=False):
    """One unmasked websocket frame (RFC 6455, 5.2)."""
    head = bytes([(0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode])
    size = len(data)
    if size < 126:
        return head + bytes([size]) + data
    return head + (struct.pack("!BH", 126, size) if size < 65_536 else struct.pack("!BQ", 127, size)) + data


def text(*row):
    return frame(json.dumps(row).encode())


def room(number, **more):
    tags = [("d", more.pop("d", f"flood-{number}")), ("status", "open"), *more.pop("tags", ())]
    return KEYS.sign(30312, created_at=int(time.time()), tags=tags, **more).as_dict()


def large(sub):
    event = text("EVENT", sub, room(0, content="x" * 2_000_000))
    return itertools.repeat(event)


def middling(sub):
    """Just short enough to be taken from the socket."""
    events = [text("EVENT", sub, room(number, content="x" * 400_000)) for number in range(4)]
    return itertools.cycle(events)


def readable(sub):
    """As long as what is parsed, and costly to parse."""
    event = text("EVENT", sub, room(0, tags=[["x", "y" * 50]] * 1_900))  # signing many such takes seconds
    return itertools.repeat(event)


def patient(sub):
    """As much as is borne for good."""
    for data in readable(sub):
        yield data
        time.sleep(len(data) / 950_000)  # this process does nothing else


def small(sub):
    return itertools.cycle([text("EVENT", sub, room(number)) for number in range(3_000)])


def forged(sub):
    made = [room(number) for number in range(500)]
    return itertools.cycle([text("EVENT", sub, event | {"sig": "0" * 128}) for event in made])


def invalid(sub):
    return itertools.repeat(frame(b'["EVENT","' + sub.encode() + b'",{"id":"' + b"a" * 1_000))


def deep(sub):
    return itertools.repeat(frame(b"[" * 100_000 + b"]" * 20_000))


def numbers(sub):
    return itertools.repeat(frame(b"[" + b",".join([b"9" * 4_000] * 30) + b"]"))


def fragments(sub):
    yield frame(b"[", fin=False)
    yield from itertools.repeat(frame(b" ", opcode=0, fin=False) * 500)


def pings(sub):
    return itertools.repeat(frame(b"", opcode=9) * 2_000)


def notices(sub):
    return itertools.repeat(text("NOTICE", "n" * 200) * 100)


def ids(sub):
    return itertools.cycle([text("EVENT", sub, room(number, d="d" * 100_000 + str(number))) for number in range(40)])


def subscriptions(sub):
    return itertools.repeat(text("EVENT", "s" * 100_000, {}))


def bombs(sub):
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(b" " * 100_000_000) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return itertools.repeat(frame(packed[:-4], rsv1=True))


def challenges(sub):
    return (text("AUTH", f"challenge-{number}") * 50 for number in itertools.count())


def closings(sub):
    """CLOSED, and EOSE, of subscriptions that nobody has."""
    return itertools.repeat((text("CLOSED", "x", "error: " + "y" * 100) + text("EOSE", "z")) * 50)


KINDS = {
    kind.__name__: kind
    for kind in (
        large,
        middling,
        readable,
        patient,
        small,
        forged,
        invalid,
        deep,
        numbers,
        fragments,
        pings,
        notices,
        ids,
        subscriptions,
        bombs,
        challenges,
        closings,
    )
}


async def handshake(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
    key = next(line.split(": ", 1)[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    accept = base64.b64encode(digest).decode()
    lines = ["HTTP/1.1 101 X", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}", "", ""]
    writer.write("\r\n".join(lines).encode())


async def heard(reader):
    """The next frame of a client: opcode and data."""
    first, second = await reader.readexactly(2)
    size = second & 127
    if size > 125:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
    mask = await reader.readexactly(4)
    data = await reader.readexactly(size)
    return first & 15, bytes(byte ^ mask[number % 4] for number, byte in enumerate(data))


def flooder(kind):
    async def serve(reader, writer):
        try:
            await handshake(reader, writer)
            while (said := await heard(reader))[0] != 1 or json.loads(said[1])[0] != "REQ":
                if said[0] == 9:
                    writer.write(frame(said[1], opcode=10))
            answering = asyncio.create_task(pongs(reader, writer))
            for data in kind(json.loads(said[1])[1]):
                writer.write(data)
                await writer.drain()
            answering.cancel()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    return serve


async def pongs(reader, writer):
    while True:
        try:
            opcode, data = await heard(reader)
        except (OSError, asyncio.IncompleteReadError):
            return
        if opcode == 9:
            writer.write(frame(data, opcode=10))


async def honest(reader, writer):
    try:
        await handshake(reader, writer)
        while True:
            opcode, data = await heard(reader)
            if opcode == 9:
                writer.write(frame(data, opcode=10))
            elif opcode == 1 and (row := json.loads(data))[0] == "REQ":
                writer.write(text("NOTICE", str(time.time_ns())) + text("EOSE", row[1]))
            elif opcode == 8:
                return
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main(kinds):
    servers = {
        kind: await asyncio.start_server(honest if kind == "honest" else flooder(KINDS[kind]), "127.0.0.1", 0)
        for kind in kinds
    }
    print(json.dumps({kind: server.sockets[0].getsockname()[1] for kind, server in servers.items()}), flush=True)
    while os.getppid() != 1:  # noqa: ASYNC110 - until whoever started it has gone
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
