"""Opening a websocket so that a failure has a name: on which layer, what, in which words.

One attempt per call, no redirect followed, no proxy, no keepalive by the library. The name is resolved anew each time;
addresses of both families are tried as RFC 8305 says (Happy Eyeballs), so a dead IPv6 route does not pass for a dead
relay. The stages are dns, tcp, tls and ws; whatever fails while TLS is being set up is `tls_failed`, a plain-text
server behind a wss:// address included (failures.py).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

import aiohappyeyeballs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.uri import WebSocketURI, parse_uri

from nestobs.errors import UsageError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import FailureLayer
from nestobs.observation.text import shortened
from nestobs.sources.address import NotDialled, Refuse, let_through
from nestobs.sources.clock import Clock, patience
from nestobs.sources.failures import Judgement, answered, named

FRAME_BYTES: Final = 2 * 1024 * 1024
"""A longer message ends the connection, unless the caller says another bound: no honest one is near it."""

SLICE_BYTES: Final = 2 * 1024
"""So much of what lies in a socket is taken apart before the event loop has its turn again: a kernel's buffer can hold
a hundred thousand frames of two bytes, a second's work."""

Borne: TypeAlias = Callable[[int, int], bool]
"""Told how many bytes and how many frames came: whether the connection may go on."""

BODY_BYTES: Final = 2_048
"""What is kept of the body of an HTTP answer: who refuses says why at its end, behind what it repeats of the URL."""


@dataclass(slots=True)
class Order:
    """In what order things came on a connection, however late they are read. `begun`: messages that have begun to come;
    `begun_at_pong`: those that had when the latest pong came."""

    begun: int = 0
    begun_at_pong: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """An open websocket, the address it leads to, and the seconds each stage took."""

    ws: ClientConnection
    order: Order
    address: str
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class NotOpened:
    """Why a websocket could not be opened. `status`, `body` in a line, `headers`: of an HTTP answer instead."""

    judgement: Judgement
    status: int | None = None
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Progress:
    """The stage being gone through, when each began, and what broke the connection if something did."""

    clock: Clock
    broke: Exception | None = None
    stage: FailureLayer = FailureLayer.DNS
    began: dict[FailureLayer, int] = field(default_factory=dict)

    def enter(self, stage: FailureLayer) -> None:
        self.stage = stage
        self.began[stage] = self.clock.now()

    def seconds(self) -> dict[str, float]:
        ends = [*list(self.began.values())[1:], self.clock.now()]
        return {
            f"{stage}_s": round((end - at) / SECOND_NS, 6)
            for (stage, at), end in zip(self.began.items(), ends, strict=True)
        }


class _Connection(ClientConnection):
    """Where asyncio says that TLS stands, and what the socket died of: the handshake's own errors say neither.

    What comes is taken apart slice by slice, a slice each turn of the loop; meanwhile, and while the queue of messages
    is full, nothing more is read from the socket.
    """

    def __init__(self, progress: _Progress, order: Order, borne: Borne | None, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._progress, self._order, self._borne = progress, order, borne
        self._waiting, self._full, self._due = bytearray(), False, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._progress.enter(FailureLayer.WS)
        super().connection_made(transport)
        self.recv_messages.pause, self.recv_messages.resume = self._hold, self._release

    def connection_lost(self, exc: Exception | None) -> None:
        self._progress.broke = exc
        self._waiting.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._borne is not None and not self._borne(len(data), 0):
            self._cut_off()
            return
        self._waiting += data
        if not self._due and not self._full:
            self._feed()

    def eof_received(self) -> None:
        while self._waiting:  # a TLS transport may say it while it is paused
            self._take()
        super().eof_received()

    def process_event(self, event: Any) -> None:
        if self._borne is not None and not self._borne(0, 1):
            self._cut_off()
            return
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._order.begun += 1
        elif isinstance(event, Frame) and event.opcode is Opcode.PONG:
            self._order.begun_at_pong = self._order.begun
        super().process_event(event)

    def _take(self) -> None:
        piece = bytes(self._waiting[:SLICE_BYTES])
        del self._waiting[:SLICE_BYTES]
        super().data_received(piece)

    def _feed(self) -> None:
        self._due = False
        if self._full:
            return
        self._take()
        if self._waiting and not self._full:
            self._due = True
            self.transport.pause_reading()
            self.loop.call_soon(self._feed)
        elif not self._full:
            self.transport.resume_reading()

    def _hold(self) -> None:
        self._full = True
        self.transport.pause_reading()

    def _release(self) -> None:
        self._full = False
        if not self._due:
            self._due = True
            self.loop.call_soon(self._feed)

    def _cut_off(self) -> None:
        self._waiting.clear()
        self.transport.abort()


class _Once(connect):
    """Follows no redirect: the answer that names one is the failure."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def read_url(url: str) -> WebSocketURI:
    """The parts of a ws:// or wss:// URL. Raises UsageError with the remedy; a password in it is never quoted."""
    remedy = "write it as wss://host, ws://host:port or with a path"
    try:
        parts = parse_uri(url)
    except (InvalidURI, ValueError) as error:  # ValueError: a port or a host that is none
        why = str(error).rpartition(": ")[2] if "@" not in url else "it cannot be read"
        shown = repr(shortened(url, 80)) if "@" not in url else "the relay URL"
        raise UsageError(f"{shown} is not a websocket URL ({why}): {remedy}") from None
    if parts.username is not None:
        raise UsageError(f"the URL holds a user name or password, which would reach every row: {remedy}")
    if not parts.host or any(character.isspace() or not character.isprintable() for character in url):
        raise UsageError(f"{url[:80]!r} is not a websocket URL (blank or control characters): {remedy}")
    return parts


def trust(parts: WebSocketURI) -> ssl.SSLContext | None:
    """The system's trusted certificates for a wss URL, None for ws. Loading them takes a while: once per target."""
    return ssl.create_default_context() if parts.secure else None


async def dial(
    url: str,
    *,
    tls: ssl.SSLContext | None,
    clock: Clock,
    timeout_s: float,
    close_timeout_s: float = 0.5,
    refuse: Refuse | None = None,
    borne: Borne | None = None,
    **limits: Any,
) -> Opened | NotOpened:
    """One attempt to open `url`, within `timeout_s` over all stages. Raises UsageError for a URL that is none, and
    nothing for a failure of the world. refuse: where the URL is a stranger's, of which addresses it is not opened.
    borne: asked of all that comes, whether the connection may go on. limits: its max_size and max_queue."""
    read_url(url)
    progress, order = _Progress(clock), Order()
    try:
        async with patience(asyncio.get_running_loop().time() + timeout_s):
            made = partial(_Connection, progress, order, borne)
            ws = await _open(url, tls, progress, refuse, made, close_timeout=close_timeout_s, **limits)
    except InvalidStatus as error:
        status, headers = error.response.status_code, dict(error.response.headers.raw_items())
        body = bytes(error.response.body or b"")[:BODY_BYTES].decode("utf-8", "replace")
        found = answered(status, f"HTTP {status} instead of a websocket", layer=FailureLayer.HTTP)
        return NotOpened(found, status, " ".join(body.split()), {name.lower(): text for name, text in headers.items()})
    except NotDialled as error:
        return NotOpened(error.judgement)
    except Exception as error:  # whatever it is, it has a name
        stage = progress.stage
        return NotOpened(named(error, progress.broke, stage=stage, timeout_s=timeout_s, awaited="open websocket"))
    host, port, *_ = ws.remote_address or ("", 0)
    return Opened(ws, order, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", progress.seconds())


async def _open(
    url: str,
    tls: ssl.SSLContext | None,
    progress: _Progress,
    refuse: Refuse | None,
    made: Callable[..., ClientConnection],
    **options: Any,
) -> ClientConnection:
    parts = read_url(url)
    progress.enter(FailureLayer.DNS)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.host, parts.port, type=socket.SOCK_STREAM)
    if refuse is not None:
        found = let_through(found, refuse)
    progress.enter(FailureLayer.TCP)
    sock = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=0.25, interleave=1)
    if parts.secure:
        progress.enter(FailureLayer.TLS)
    return await _Once(
        url,
        sock=sock,
        ssl=tls,
        create_connection=made,  # type: ignore[arg-type]  # "a wrapper or a subclass"
        compression=None,
        user_agent_header="nestobs",
        proxy=None,
        open_timeout=None,
        ping_interval=None,
        **({"max_size": FRAME_BYTES} | options),
    )
