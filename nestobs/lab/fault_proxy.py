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
import struct
from collections import deque

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
BACKLOG = 512


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
        self.rng = random.Random(seed)
        self._mode = ProxyMode.PASS
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._reopening: asyncio.Task[None] | None = None

    async def start(self, port: int = 0) -> int:
        """Listen; returns the port. Raises OSError when a given port is taken."""
        self._socket = _bound(port)
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
        if mode is ProxyMode.REFUSE:
            self._stop_listening()
        elif before is ProxyMode.REFUSE and self._socket is not None:
            self._socket.listen(BACKLOG)
            self._reopening = asyncio.get_running_loop().create_task(self._listen())
        for link in list(self._links):
            link.mode_changed()

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
        for link in list(self._links):
            link.abort()
        if server is not None:
            await server.wait_closed()  # from Python 3.12 on it waits for the connections too
        await asyncio.sleep(0)

    def delay_s(self) -> float:
        """The wait of one chunk, seconds."""
        return self.latency_s + (self.jitter_s * self.rng.random() if self.jitter_s else 0.0)

    async def _listen(self) -> None:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Link(self).client, sock=self._socket, backlog=BACKLOG)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket = _bound(self.port)  # bound and not listening: the port stays ours and refuses

    def joined(self, link: _Link) -> None:
        """A link is open."""
        self._links.add(link)

    def left(self, link: _Link) -> None:
        """A link is closed."""
        self._links.discard(link)


def _bound(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


class _Link:
    """One client connection and its connection to the target."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.client = _End(self)
        self.server = _End(self)
        self.client.other, self.server.other = self.server, self.client
        self._dialling: asyncio.Task[None] | None = None

    def accepted(self) -> None:
        self.proxy.joined(self)
        lost = self.proxy.loss and self.proxy.rng.random() < self.proxy.loss
        if lost or self.proxy.mode is ProxyMode.RESET:
            self.abort()
        elif self.proxy.mode is not ProxyMode.STALL:
            self._dial()

    def mode_changed(self) -> None:
        if self.proxy.mode is ProxyMode.RESET:
            self.abort()
        elif self.proxy.mode is not ProxyMode.STALL:
            if self._dialling is None:
                self._dial()
            self.client.flush()
            self.server.flush()

    def _dial(self) -> None:
        self._dialling = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.server, *self.proxy.target)
        except OSError:
            self.abort()

    def ended(self) -> None:
        """One end is gone: what it sent before still reaches the other, then that is closed too."""
        if self.client.gone and (self.server.gone or self.server.transport is None):
            if self._dialling is not None and not self._dialling.done():
                self._dialling.cancel()
            self.proxy.left(self)

    def close(self) -> None:
        """Both ends have said all they had to say."""
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.close()

    def abort(self) -> None:
        """RST to both ends."""
        for end in (self.client, self.server):
            end.reset()
        if self._dialling is not None and not self._dialling.done():
            self._dialling.cancel()
        self.proxy.left(self)


class _End(asyncio.Protocol):
    """One end of a link. What it receives waits in its own queue for the delay, then goes to the other end."""

    HIGH_WATER = 1 << 20

    def __init__(self, link: _Link) -> None:
        self.link = link
        self.other: _End
        self.transport: asyncio.Transport | None = None
        self.gone = False
        self.finished = False
        self.choked = False
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._forwarded = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self is self.link.client:
            self.link.accepted()
        else:
            self.other.flush()

    def data_received(self, data: bytes) -> None:
        self._hold(data)

    def eof_received(self) -> bool:
        self._hold(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if exc is not None:
            self.other.reset()
        elif not self._queue or self._queue[-1][1] is not None:
            self._hold(None)
        if self._drained() and self.other.transport is not None:
            self.other.transport.close()
        self.link.ended()

    def _hold(self, data: bytes | None) -> None:
        proxy = self.link.proxy
        at_once = not self._queue and not proxy.latency_s and not proxy.jitter_s
        due = 0.0 if at_once else asyncio.get_running_loop().time() + proxy.delay_s()
        if self._queue:
            due = max(due, self._queue[-1][0])
        self._queue.append((due, data))
        self._waiting += len(data) if data else 0
        if self._waiting > self.HIGH_WATER and self.transport is not None and not self.gone:
            self.transport.pause_reading()
        self.flush()

    def flush(self) -> None:
        """Forward what is due; comes back by itself for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        receiver = self.other.transport
        if receiver is None or self.link.proxy.mode is ProxyMode.STALL:
            return
        loop = asyncio.get_running_loop()
        while self._queue:
            due, data = self._queue[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self.flush)
                break
            self._queue.popleft()
            self._forward(receiver, data)
        self._go_on_reading()
        if self.gone and self._drained():
            receiver.close()

    def pause_writing(self) -> None:
        self.choked = True
        if self.other.transport is not None and not self.other.gone:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.choked = False
        self.other._go_on_reading()

    def _go_on_reading(self) -> None:
        ready = self._waiting <= self.HIGH_WATER and not self.other.choked
        if ready and self.transport is not None and not self.gone:
            self.transport.resume_reading()

    def _forward(self, receiver: asyncio.Transport, data: bytes | None) -> None:
        if data is None:
            self.finished = True
            if not receiver.is_closing():
                receiver.write_eof()
            if self.other.finished:
                self.link.close()
            return
        self._waiting -= len(data)
        if self.link.proxy.mode is ProxyMode.BLACKHOLE and self is self.link.server:
            data = data[: max(0, self.link.proxy.blackhole_after - self._forwarded)]
        self._forwarded += len(data)
        if data and not receiver.is_closing():
            receiver.write(data)

    def _drained(self) -> bool:
        return not self._queue

    def reset(self) -> None:
        """Close with RST, if still open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._queue.clear()
        if self.transport is not None and not self.gone:
            plain = self.transport.get_extra_info("socket")
            if plain is not None and plain.fileno() >= 0:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
