"""Servers that only a stranger's event names: they keep every byte they are sent, and answer so as to get more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from websockets.frames import Frame
from websockets.http11 import Request
from websockets.server import ServerProtocol


class Listener:
    """One port on loopback for HTTP and websockets. `heard`: every byte that came, of all connections, and what
    websockets' frames held, which go masked over the wire."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.connections = 0
        self.port = 0
        self.open: set[asyncio.StreamWriter] = set()

    def url(self, scheme: str, path: str = "") -> str:
        """This host, as an event would name it."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a request: shake hands for a websocket and ask who is there (NIP-42), else answer with a token."""
        self.connections += 1
        self.open.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            more = await reader.readuntil(b"\r\n\r\n")
            socket = ServerProtocol() if b"upgrade: websocket" in more.lower() else None
            if socket is None:
                writer.write(_answered())
            async with asyncio.timeout(1):
                while more:
                    self.heard += more
                    if socket is not None:
                        writer.writelines(self.converse(socket, more))
                    await writer.drain()
                    more = await reader.read(65_536)
        await self.end(writer)

    def converse(self, socket: ServerProtocol, more: bytes) -> list[bytes]:
        """What a websocket answers to these bytes."""
        socket.receive_data(more)
        for event in socket.events_received():
            if isinstance(event, Request):
                socket.send_response(socket.accept(event))
                socket.send_text(json.dumps(["AUTH", "who-is-there"]).encode())
            elif isinstance(event, Frame):
                self.heard += bytes(event.data)
        return socket.data_to_send()

    async def end(self, writer: asyncio.StreamWriter) -> None:
        """Close a connection, and wait until it is."""
        self.open.discard(writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def _answered() -> bytes:
    body = json.dumps({"token": "a.b.c", "roomId": "r", "host": "h", "status": "active"}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    """A listener at work."""
    listener = Listener()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listener
        for writer in list(listener.open):
            await listener.end(writer)


def found_in(secrets: Iterable[str], *where: bytes) -> list[str]:
    """Those of these secrets, or of what gives them away, that stand in any of these bytes; each by its beginning."""
    marks = {*secrets, "uthorization", "access_token=ey", "nsec1"}
    return sorted(mark[:12] for mark in marks if mark and any(mark.encode() in text for text in where))


def written(folder: Path) -> bytes:
    """Every byte of every file of a folder."""
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def overhear(api: object, tokens: list[str]) -> None:
    """Keep every token that a lab's API gives out from now on."""
    given: Callable[[object, str], object] = api._granted  # type: ignore[attr-defined]  # where they are made
    api._granted = lambda nest, token: tokens.append(token) or given(nest, token)  # type: ignore[attr-defined, func-returns-value]
