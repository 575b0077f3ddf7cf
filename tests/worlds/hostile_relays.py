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
