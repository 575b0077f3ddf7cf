"""A TCP proxy that misbehaves on command: latency, jitter, refusal, reset, stall, black hole, loss of connections.

One `FaultProxy` stands in front of one target. Bytes are never reordered, dropped or changed: TCP does not do that.
What the settings say applies at once, also to connections that are open. The TCP handshake with the proxy is never
delayed, only bytes are.
"""

from __future__ import annotations

import asyncio
import enum
import random
import socket
from asyncio import StreamReader, StreamWriter
from typing import TypeAlias

from nestobs.lab.background import Background
from nestobs.lab.listening import bound, reset

BACKLOG = 512
CHUNK = 1 << 16
CHUNKS_HELD = 16

Held: TypeAlias = asyncio.Queue[tuple[float, bytes]]
"""What one direction has received and not forwarded: when it is due, and the bytes."""


class ProxyMode(enum.Enum):
    """What the proxy does with connections.

    PASS forwards. REFUSE stops listening: new connections get ECONNREFUSED, open ones go on. RESET answers every
    connection, new and open, with RST. STALL accepts and forwards nothing until the mode changes. BLACKHOLE forwards
    `blackhole_after` bytes from the target on each connection, then silently nothing in that direction.
    """

    PASS = "pass"
    REFUSE = "refuse"
    RESET = "reset"
    STALL = "stall"
    BLACKHOLE = "blackhole"


class FaultProxy:
    """Listens on a free loopback port and forwards to host:port. Settings may be assigned at any time.

    `latency_s` and `jitter_s` are one way, in both directions: each chunk of bytes waits latency plus a uniform share
    of the jitter. `loss` is the probability that a new connection is reset at its start.
    """

    def __init__(
        self, host: str, port: int, *, latency_s: float = 0.0, jitter_s: float = 0.0, loss: float = 0.0, seed: int = 0
    ) -> None:
        self.target = (host, port)
        self.latency_s = latency_s
        self.jitter_s = jitter_s
        self.loss = loss
        self.blackhole_after = 0
        self.port = 0
        self._rng = random.Random(seed)
        self._mode = ProxyMode.PASS
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._links: dict[StreamWriter, list[StreamWriter]] = {}  # of each client, both ends
        self._background = Background()
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._reopening: asyncio.Task[None] | None = None

    async def start(self, port: int = 0) -> int:
        """Listen; returns the port. Raises OSError when a given port is taken."""
        self._socket = bound(port)
        self.port = int(self._socket.getsockname()[1])
        await self._listen()
        return self.port

    @property
    def mode(self) -> ProxyMode:
        """The present mode; assign to change it."""
        return self._mode

    @mode.setter
    def mode(self, mode: ProxyMode) -> None:
        before, self._mode = self._mode, mode
        if mode is before:
            return
        (self._flowing.clear if mode is ProxyMode.STALL else self._flowing.set)()
        if mode is ProxyMode.REFUSE:
            self._stop_listening()
        elif before is ProxyMode.REFUSE and self._socket is not None:
            self._socket.listen(BACKLOG)
            self._reopening = asyncio.get_running_loop().create_task(self._listen())
        if mode is ProxyMode.RESET:
            self._drop_all()

    @property
    def connections(self) -> int:
        """How many client connections are open."""
        return len(self._links)

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._reopening is not None:
            await self._reopening
        server, self._server = self._server, None
        if server is not None:
            server.close()
        elif self._socket is not None:
            self._socket.close()
        self._drop_all()
        await self._background.close()
        if server is not None:
            await server.wait_closed()  # from Python 3.12 on it waits for the connections too
        await asyncio.sleep(0)

    async def _listen(self) -> None:
        assert self._socket is not None
        self._server = await asyncio.start_server(self._accept, sock=self._socket, backlog=BACKLOG)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket = bound(self.port)  # bound and not listening: the port stays ours and refuses

    def _accept(self, reader: StreamReader, client: StreamWriter) -> None:
        self._links[client] = [client]
        lost = self.loss and self._rng.random() < self.loss
        if lost or self._mode is ProxyMode.RESET:
            self._drop(client)
        else:
            self._background.start(self._carry(reader, client))

    def _drop(self, client: StreamWriter) -> None:
        """RST to both ends."""
        for end in self._links.pop(client, ()):
            reset(end.transport)

    def _drop_all(self) -> None:
        for client in list(self._links):
            self._drop(client)

    async def _carry(self, reader: StreamReader, client: StreamWriter) -> None:
        """Connect to the target and forward both ways until both have said all, or until one is reset."""
        try:
            await self._flowing.wait()
            if client.is_closing():
                return
            answers, server = await asyncio.open_connection(*self.target)
            if client not in self._links:  # dropped meanwhile
                reset(server.transport)
                return
            self._links[client].append(server)
            async with asyncio.TaskGroup() as group:
                for source, sink, answering in ((reader, server, False), (answers, client, True)):
                    held: Held = asyncio.Queue(CHUNKS_HELD)
                    group.create_task(self._hold(source, held))
                    group.create_task(self._forward(held, sink, answering))
        except* OSError:
            self._drop(client)
        finally:
            for end in self._links.pop(client, ()):
                end.close()

    async def _hold(self, source: StreamReader, held: Held) -> None:
        """Each chunk is due after the delay and not before the one before it. An empty one is the end."""
        loop, due, data = asyncio.get_running_loop(), 0.0, b"-"
        while data:
            data = await source.read(CHUNK)
            due = max(due, loop.time() + self.latency_s + (self.jitter_s * self._rng.random() if self.jitter_s else 0))
            await held.put((due, data))

    async def _forward(self, held: Held, sink: StreamWriter, answering: bool) -> None:
        loop, forwarded = asyncio.get_running_loop(), 0
        while True:
            due, data = await held.get()
            if (wait_s := due - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            await self._flowing.wait()
            if not data:
                sink.write_eof()
                return
            if answering and self._mode is ProxyMode.BLACKHOLE:
                data = data[: max(0, self.blackhole_after - forwarded)]
            forwarded += len(data)
            sink.write(data)
            await sink.drain()
