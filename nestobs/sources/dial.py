"""Opening a websocket so that a failure has a name: on which layer, what, in which words.

One attempt per call, no redirect followed, no proxy, no keepalive by the library. The name is resolved anew each time;
addresses of both families are tried as RFC 8305 says (Happy Eyeballs), so a dead IPv6 route does not pass for a dead
relay. The stages are dns, tcp, tls and ws; whatever fails while TLS is being set up is `tls_failed`, a plain-text
server behind a wss:// address included.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import aiohappyeyeballs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from nestobs.errors import UsageError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources.clock import Clock

FRAME_BYTES: Final = 2 * 1024 * 1024
"""A longer message ends the connection: no honest event is near it."""

_OUR_FAULT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Opened:
    """An open websocket, the address it leads to, and the seconds each stage took."""

    ws: ClientConnection
    address: str
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class NotOpened:
    """Why a websocket could not be opened, in an observation's words. `status`, `body`: of an HTTP answer instead."""

    outcome: Outcome
    failure: Failure
    layer: FailureLayer
    reason: str
    status: int | None = None
    body: str = ""


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
    """Where asyncio says that TLS stands, and what the socket died of: the handshake's own errors say neither."""

    def __init__(self, progress: _Progress, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._progress = progress

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._progress.enter(FailureLayer.WS)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._progress.broke = exc
        super().connection_lost(exc)


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
        shown = repr(url if len(url) <= 80 else url[:79] + "…") if "@" not in url else "the relay URL"
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
    url: str, *, tls: ssl.SSLContext | None, clock: Clock, timeout_s: float, close_timeout_s: float = 0.5
) -> Opened | NotOpened:
    """One attempt to open `url`, within `timeout_s` over all stages. Never raises for a failure of the world."""
    progress = _Progress(clock)
    try:
        async with asyncio.timeout(timeout_s):
            ws = await _open(url, tls, progress, close_timeout_s)
    except (OSError, InvalidHandshake, ValueError) as error:  # ValueError: a redirect, a name that is no name
        return _named(error, progress, timeout_s)
    host, port, *_ = ws.remote_address or ("", 0)
    return Opened(ws, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", progress.seconds())


async def _open(url: str, tls: ssl.SSLContext | None, progress: _Progress, close_timeout_s: float) -> ClientConnection:
    parts = read_url(url)
    progress.enter(FailureLayer.DNS)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.host, parts.port, type=socket.SOCK_STREAM)
    progress.enter(FailureLayer.TCP)
    sock = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=0.25, interleave=1)
    if parts.secure:
        progress.enter(FailureLayer.TLS)
    return await _Once(
        url,
        sock=sock,
        ssl=tls,
        create_connection=partial(_Connection, progress),  # type: ignore[arg-type]  # "a wrapper or a subclass"
        compression=None,
        user_agent_header="nestobs",
        proxy=None,
        open_timeout=None,
        ping_interval=None,
        close_timeout=close_timeout_s,
        max_size=FRAME_BYTES,
    )


def _named(error: Exception, progress: _Progress, timeout_s: float) -> NotOpened:  # noqa: PLR0911 - a table
    """The failure in the closed vocabulary. The order matters: the stage decides before the kind of exception."""
    stage, root, words = progress.stage, progress.broke or _root(error), _words(error)
    if isinstance(error, OSError) and error.errno in _OUR_FAULT:
        return NotOpened(Outcome.PROBE_ERROR, Failure.INTERNAL, FailureLayer.PROBER, f"our own limit: {words}")
    if isinstance(error, TimeoutError) and stage is not FailureLayer.TLS:
        return NotOpened(Outcome.UNKNOWN, Failure.TIMEOUT, stage, f"not open within {timeout_s:g} s, stuck in {stage}")
    if stage is FailureLayer.DNS:
        return NotOpened(Outcome.UNKNOWN, Failure.DNS, stage, f"the name does not resolve: {words}")
    if stage is FailureLayer.TLS or isinstance(error, ssl.SSLError):
        slow = f"not finished within {timeout_s:g} s" if isinstance(error, TimeoutError) else words
        hint = " (does it speak plain ws:// there?)" if not isinstance(error, ssl.SSLCertVerificationError) else ""
        return NotOpened(Outcome.UNKNOWN, Failure.TLS, FailureLayer.TLS, f"TLS failed: {slow}{hint}")
    if isinstance(error, InvalidStatus):
        return _answered(error)
    if isinstance(error, ConnectionRefusedError):
        return NotOpened(Outcome.UNKNOWN, Failure.REFUSED, stage, f"connection refused: {words}")
    if isinstance(root, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        return NotOpened(Outcome.UNKNOWN, Failure.RESET, stage, f"connection reset: {words}")
    if isinstance(root, EOFError):
        return NotOpened(Outcome.UNKNOWN, Failure.CLOSED, stage, f"closed before it was open: {words}")
    if isinstance(error, OSError):
        return NotOpened(Outcome.UNKNOWN, Failure.UNREACHABLE, stage, f"unreachable: {words}")
    return NotOpened(Outcome.UNKNOWN, Failure.PROTOCOL, stage, f"no websocket there: {words}")


_REFUSALS = {401: Failure.UNAUTHORISED, 403: Failure.FORBIDDEN, 429: Failure.RATE_LIMITED}


def _answered(error: InvalidStatus) -> NotOpened:
    status = error.response.status_code
    reason = f"HTTP {status} instead of a websocket"
    body = " ".join(bytes(error.response.body or b"")[:160].decode("utf-8", "replace").split())
    if status in _REFUSALS:
        return NotOpened(Outcome.REFUSED, _REFUSALS[status], FailureLayer.HTTP, reason, status, body)
    failure = Failure.SERVER_ERROR if status >= 500 else Failure.UNEXPECTED
    return NotOpened(Outcome.UNKNOWN, failure, FailureLayer.HTTP, reason, status, body)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
