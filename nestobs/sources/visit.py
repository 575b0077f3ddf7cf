"""One visit to a LiveKit room: how it is entered, held and left. No rows here: what came of it is a value.

Entering is asked of two parts: `by_signal` opens the signalling socket and reads the JoinResponse; `by_media` has the
RTC library signal for itself and then do ICE and DTLS, up to four tries of it inside one connect. Each is one function
that takes an address and a token and returns an Entry, so that the RTC library may live elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import websockets
from websockets.asyncio.client import ClientConnection

from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources.address import Refuse
from nestobs.sources.clock import Clock
from nestobs.sources.dial import NotOpened, dial
from nestobs.sources.failures import Judgement, closed, named, timed_out
from nestobs.sources.livekit_words import http_answer, left, plain_text, redirected, scrubbed

PROTOCOL: Final = 16
PING_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What came of trying to enter. `session` stands only where the judgement is `visible`; room, sids and version are
    as the server told them, "" where it did not. status: of an HTTP answer instead."""

    judgement: Judgement
    status: int | None = None
    session: Session | None = None
    room: str = ""
    room_sid: str = ""
    participant_sid: str = ""
    version: str = ""


class Session:
    """A joiner's open connection: a signalling socket, kept alive by pings, or an RTC room. Close it when done.

    Once `dropped` is set, `failure` and `why` say how it was lost.
    """

    def __init__(self, socket: ClientConnection | None, rtc_room: Any = None) -> None:
        self._socket, self._rtc_room = socket, rtc_room
        self.dropped = asyncio.Event()
        self.why = ""
        self.failure = Failure.DROPPED
        self._task = asyncio.create_task(self._keep(socket)) if socket is not None else None
        if rtc_room is not None:
            rtc_room.on("disconnected", self._sent_away)

    async def stays(self, duration_s: float) -> bool:
        """Whether the connection lives for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                await self.dropped.wait()
        return not self.dropped.is_set()

    async def close(self) -> None:
        """Leave the room. Never raises for a connection that is gone already."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._socket is not None:
            with contextlib.suppress(websockets.WebSocketException, OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._socket.send(_leave())
                    await self._socket.close()
        if self._rtc_room is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await self._rtc_room.disconnect()

    def _sent_away(self, reason: object) -> None:
        self.failure, self.why = left(_reason_name(reason))
        self.dropped.set()

    async def _keep(self, socket: ClientConnection) -> None:
        from livekit.protocol.rtc import SignalRequest, SignalResponse

        pinging = asyncio.create_task(_ping(socket, SignalRequest))
        try:
            async for message in socket:
                if isinstance(message, bytes):
                    answer = SignalResponse.FromString(message)
                    if answer.WhichOneof("message") == "leave":
                        self._sent_away(answer.leave.reason)
                        return
            self.why = f"the signalling socket was closed ({socket.close_code})"
        except (websockets.WebSocketException, OSError):
            self.why = f"the signalling socket was lost ({socket.close_code})"
        except Exception as error:  # a message that cannot be read: whatever it is, it has a name
            self.why = f"the signalling socket was left: {named(error, stage=FailureLayer.SIGNAL).reason}"
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)
            self.dropped.set()


async def _ping(socket: ClientConnection, request: Any) -> None:
    count = 0
    with contextlib.suppress(websockets.WebSocketException, OSError):
        while True:
            await asyncio.sleep(PING_S)  # keep-alive only: no instant is derived from it
            count += 1
            await socket.send(request(ping=count).SerializeToString())


def _reason_name(reason: object) -> str:
    """The name of LiveKit's DisconnectReason; "" for one that this protocol does not know."""
    from livekit.protocol.models import DisconnectReason

    return next((name for name, value in DisconnectReason.items() if value == reason), "")


def _leave() -> bytes:
    from livekit.protocol.models import DisconnectReason
    from livekit.protocol.rtc import SignalRequest

    request = SignalRequest()
    request.leave.reason = DisconnectReason.CLIENT_INITIATED
    return bytes(request.SerializeToString())


async def by_signal(
    url: str, token: str, *, tls: ssl.SSLContext | None, clock: Clock, timeout_s: float, refuse: Refuse | None = None
) -> Entry:
    """Enter by the signalling socket of `url` within `timeout_s`: the first message is a JoinResponse."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _handshake(url, token, tls=tls, clock=clock, timeout_s=timeout_s, refuse=refuse)
    except TimeoutError:
        return Entry(judgement=timed_out(timeout_s, FailureLayer.SIGNAL, "JoinResponse"))


async def _handshake(url: str, token: str, *, tls: ssl.SSLContext | None, **how: Any) -> Entry:
    from livekit.protocol.rtc import SignalResponse

    query = f"access_token={quote(token)}&protocol={PROTOCOL}&sdk=python&auto_subscribe=0"
    opened = await dial(f"{url}/rtc?{query}", tls=tls, **how)
    if isinstance(opened, NotOpened):
        return Entry(judgement=_not_opened(opened, token), status=opened.status)
    socket, layer = opened.ws, FailureLayer.SIGNAL
    try:
        message = await socket.recv()
        answer = SignalResponse.FromString(message if isinstance(message, bytes) else message.encode())
    except Exception as error:  # whatever it is, it has a name
        await socket.close()
        why = closed(error)[0] if isinstance(error, websockets.ConnectionClosed) else named(error, stage=layer)
        return Entry(judgement=why._replace(failure_layer=layer))
    except asyncio.CancelledError:
        await asyncio.shield(socket.close())
        raise
    kind = answer.WhichOneof("message")
    if kind != "join":
        await socket.close()
        said = f": {left(_reason_name(answer.leave.reason))[1]}" if kind == "leave" else ""
        reason = f"the first message was {kind}, not join{said}"
        return Entry(judgement=Judgement(Outcome.UNKNOWN, Failure.UNEXPECTED, layer, reason))
    return Entry(
        judgement=Judgement(Outcome.VISIBLE),
        session=Session(socket),
        room=answer.join.room.name,
        room_sid=answer.join.room.sid,
        participant_sid=answer.join.participant.sid,
        version=answer.join.server_info.version or answer.join.server_version,
    )


def _not_opened(failed: NotOpened, token: str) -> Judgement:
    if failed.status is None:
        timed = failed.judgement.failure is Failure.TIMEOUT
        found = failed.judgement._replace(failure_layer=FailureLayer.SIGNAL) if timed else failed.judgement
        return plain_text(found)
    if 300 <= failed.status < 400:
        return redirected(failed.status, failed.headers.get("location", ""))
    said = scrubbed(failed.body, token, quote(token))
    return http_answer(failed.status, said, failed.headers.get("content-type", ""), "/rtc")


async def by_media(
    url: str, token: str, timeout_s: float, give_up: Callable[[Coroutine[Any, Any, None]], object]
) -> Entry:
    """Enter with media by the RTC library within `timeout_s`.

    It goes on by itself after we have stopped waiting: `give_up` takes what waits for that and leaves at once.
    """
    os.putenv("RUST_LOG", "off")  # what the library says by itself while Python is ending
    from livekit import rtc

    logging.getLogger("livekit").disabled = True  # its own words may hold the URL with the token
    room = rtc.Room()
    connecting = asyncio.ensure_future(room.connect(url, token, rtc.RoomOptions(auto_subscribe=False)))
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(connecting)
    except TimeoutError:
        give_up(_out_again(connecting, room))
        return Entry(judgement=timed_out(timeout_s, FailureLayer.ICE, "media"))
    except asyncio.CancelledError:
        give_up(_out_again(connecting, room))
        raise
    except rtc.ConnectError as error:
        return _no_media(scrubbed(str(error).split("http", 1)[0], token))  # what follows may be a URL with the token
    return Entry(judgement=Judgement(Outcome.VISIBLE), session=Session(None, room), room=room.name)


async def _out_again(connecting: asyncio.Future[None], room: Any) -> None:
    with contextlib.suppress(Exception):  # whatever it fails with now, it is not in the room
        await connecting
        await room.disconnect()


def _no_media(words: str) -> Entry:
    """What the RTC library's words mean."""
    if "404" in words and "room" in words:  # it was there to be signalled a moment ago: gone, and no proof of "not yet"
        gone = Judgement(Outcome.UNKNOWN, Failure.NOT_FOUND, FailureLayer.SIGNAL, words)
        return Entry(judgement=gone, status=404)
    return Entry(judgement=Judgement(Outcome.UNKNOWN, Failure.ICE, FailureLayer.ICE, f"media failed: {words}"))
