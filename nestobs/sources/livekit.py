"""LiveKit as a source: the room list, the signalling handshake, the media connection. Three layers, three questions.

*Room*: `ListRooms` by livekit-api, which needs the server's key; its failover is off, so one call is one request.
*Signal*: the `/rtc` websocket with the joiner's token; the first message is a JoinResponse. A 404 there is a proof of
absence only where rooms are not made by joining (`auto_create`), so whether the room existed is recorded apart.
*Media*: the RTC library's ICE and DTLS. It makes up to four tries inside one connect and does not expose them: the row
says so in `detail`.

Tokens and keys appear in no row: the signalling URL, which carries the token, is never shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, urlsplit

import websockets
from websockets.asyncio.client import ClientConnection

from nestobs.errors import UsageError
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Source
from nestobs.sources.dial import NotOpened, dial, read_url, trust
from nestobs.sources.failures import REFUSALS, Judgement, answered, closed, named, timed_out
from nestobs.sources.vantage import Trace, Vantage

PROTOCOL: Final = 16
PING_S: Final = 5.0
RTC_TRIES: Final = 4
STAND_IN: Final = "stand-in"
"""What the lab's stand-in calls its version: it signals, and carries no media."""


def signal_url(text: str) -> str:
    """`ws://` or `wss://` from what an operator, an event or the API gives; `wss+livekit` means wss.

    Raises UsageError when it is no such URL.
    """
    schemes = {"wss+livekit": "wss", "ws+livekit": "ws", "https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}
    scheme, separator, rest = text.partition("://")
    if scheme not in schemes or not separator:
        raise UsageError(f"the LiveKit address {text[:80]!r} is not a URL: write wss://HOST")
    plain = f"{schemes[scheme]}://{rest}"
    try:
        read_url(plain)
    except UsageError as error:
        raise UsageError(f"LiveKit: {error}; write wss://HOST") from None
    parts = urlsplit(plain)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


class Session:
    """A joiner's open connection: a signalling socket, kept alive by pings, or an RTC room. Close it when done."""

    def __init__(self, socket: ClientConnection | None, rtc_room: Any = None) -> None:
        self._socket, self._rtc_room = socket, rtc_room
        self.dropped = asyncio.Event()
        self.why = ""
        self._task = asyncio.create_task(self._keep(socket)) if socket is not None else None
        if rtc_room is not None:
            rtc_room.on("disconnected", self._rtc_gone)

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

    def _rtc_gone(self, reason: object) -> None:
        self.why = f"disconnected by the server (reason {reason})"
        self.dropped.set()

    async def _keep(self, socket: ClientConnection) -> None:
        from livekit.protocol.rtc import SignalRequest, SignalResponse

        pinging = asyncio.create_task(_ping(socket, SignalRequest))
        try:
            async for message in socket:
                if isinstance(message, bytes):
                    kind = SignalResponse.FromString(message).WhichOneof("message")
                    if kind == "leave":
                        self.why = "the server told us to leave"
                        return
            self.why = f"the signalling socket was closed ({socket.close_code})"
        except (websockets.WebSocketException, OSError):
            self.why = f"the signalling socket was lost ({socket.close_code})"
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


def _leave() -> bytes:
    from livekit.protocol.models import DisconnectReason
    from livekit.protocol.rtc import SignalRequest

    request = SignalRequest()
    request.leave.reason = DisconnectReason.CLIENT_INITIATED
    return bytes(request.SerializeToString())


class LiveKit:
    """One LiveKit server seen from one vantage. Without `key` and `secret` all but the room list works.

    `carries_media` is false once a server has said that it is a stand-in.
    """

    def __init__(self, vantage: Vantage, url: str, *, key: str = "", secret: str = "", timeout_s: float = 10.0) -> None:
        self.url = signal_url(url)
        self.timeout_s = timeout_s
        self.lists_rooms = bool(key and secret)
        self.carries_media = True
        self._vantage, self._key, self._secret = vantage, key, secret
        self._api: Any = None
        self._tls = trust(read_url(self.url))
        self._given_up: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> LiveKit:
        if self.lists_rooms:
            from livekit import api  # slow to import: before the first stamp, not under it

            self._api = api.LiveKitAPI(self.url.replace("ws", "http", 1), self._key, self._secret, failover=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._given_up:
            task.cancel()
        await asyncio.gather(*self._given_up, return_exceptions=True)
        if self._api is not None:
            await self._api.aclose()

    async def rooms(self, trace: Trace, **options: Any) -> Observation:
        """Ask whether the server lists `trace.room`. Needs the key."""
        from livekit import api

        def proof(answer: Any) -> dict[str, Any]:
            found = next((room for room in answer.rooms if room.name == trace.room), None)
            if found is None:
                missing = Judgement(Outcome.ABSENT, Failure.NOT_FOUND, FailureLayer.API, "not in the room list")
                return missing._asdict()
            return {
                "outcome": Outcome.VISIBLE,
                "remote_at": found.creation_time * SECOND_NS or None,
                "remote_grain_s": 1.0,
                "detail": detail(sid=found.sid, participants=found.num_participants),
            }

        call = self._api.room.list_rooms(api.ListRoomsRequest(names=[trace.room]))
        return await self._twirp(trace, Operation.ROOMS, call, proof, **options)

    async def all_rooms(self) -> dict[str, int] | None:
        """Names of all rooms and their creation instants (ns UTC, whole seconds); None when it cannot be asked.

        For cleaning up; writes no row.
        """
        from livekit import api

        if self._api is None:
            return None
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await self._api.room.list_rooms(api.ListRoomsRequest())
        except Exception:  # of what it fails with there is no row
            return None
        return {room.name: room.creation_time * SECOND_NS for room in answer.rooms}

    async def delete(self, trace: Trace, **options: Any) -> Observation:
        """Delete `trace.room`: only for what we made, where the API did not. Needs the key."""
        from livekit import api

        call = self._api.room.delete_room(api.DeleteRoomRequest(room=trace.room))
        return await self._twirp(trace, Operation.DELETE, call, lambda _: {"outcome": Outcome.ACCEPTED}, **options)

    async def _twirp(
        self, trace: Trace, operation: Operation, call: Any, proof: Callable[[Any], dict[str, Any]], **options: Any
    ) -> Observation:
        from livekit import api

        sent_at = self._vantage.clock.now()
        try:
            async with asyncio.timeout(self.timeout_s):
                found = proof(await call)
        except api.TwirpError as error:
            wrong_key = ": LiveKit refused the call; is the key right?" if error.status in REFUSALS else ""
            found = answered(error.status, f"{error.code}{wrong_key}"[:200])._asdict() | {"status": error.status}
        except Exception as error:  # whatever it is, it has a name
            found = named(error, stage=FailureLayer.HTTP, timeout_s=self.timeout_s)._asdict()
        return self._row(trace, operation, sent_at, found, **options)

    def _row(
        self, trace: Trace, operation: Operation, sent_at: int, found: dict[str, Any], **options: Any
    ) -> Observation:
        """Write what was found now. `options`: other fields of the row, `timeout_s` where it is not the usual one."""
        return self._vantage.record(
            trace,
            source=Source.LIVEKIT,
            target=self.url,
            operation=operation,
            sent_at=sent_at,
            received_at=self._vantage.clock.now(),
            **{"timeout_s": self.timeout_s, **options, **found},
        )

    async def signal(
        self, trace: Trace, token: str, *, timeout_s: float | None = None, **options: Any
    ) -> tuple[Observation, Session | None]:
        """Open the signalling socket with `token`. The session, still open, is None unless `visible`."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        sent_at = self._vantage.clock.now()
        session: Session | None = None
        try:
            async with asyncio.timeout(timeout_s):
                found, socket = await self._handshake(token, timeout_s)
            session = None if socket is None else Session(socket)
        except TimeoutError:
            found = timed_out(timeout_s, FailureLayer.SIGNAL, "JoinResponse")._asdict()
        return self._row(trace, Operation.SIGNAL, sent_at, found, timeout_s=timeout_s, **options), session

    async def _handshake(self, token: str, timeout_s: float) -> tuple[dict[str, Any], ClientConnection | None]:
        from livekit.protocol.rtc import SignalResponse

        query = f"access_token={quote(token)}&protocol={PROTOCOL}&sdk=python&auto_subscribe=0"
        opened = await dial(f"{self.url}/rtc?{query}", tls=self._tls, clock=self._vantage.clock, timeout_s=timeout_s)
        if isinstance(opened, NotOpened):
            return _signal_failure(opened), None
        socket = opened.ws
        try:
            message = await socket.recv()
            answer = SignalResponse.FromString(message if isinstance(message, bytes) else message.encode())
        except Exception as error:  # whatever it is, it has a name
            await socket.close()
            layer = FailureLayer.SIGNAL
            why = closed(error)[0] if isinstance(error, websockets.ConnectionClosed) else named(error, stage=layer)
            return why._replace(failure_layer=layer)._asdict(), None
        except asyncio.CancelledError:
            await asyncio.shield(socket.close())
            raise
        if answer.WhichOneof("message") != "join":
            await socket.close()
            said = answer.WhichOneof("message")
            return _unknown(Failure.UNEXPECTED, FailureLayer.SIGNAL, f"the first message was {said}, not join"), None
        version = answer.join.server_info.version or answer.join.server_version
        self.carries_media = version != STAND_IN
        facts = detail(room_sid=answer.join.room.sid, participant_sid=answer.join.participant.sid)
        return {"outcome": Outcome.VISIBLE, "software": f"livekit {version}"[:80], "detail": facts}, socket

    async def media(
        self, trace: Trace, token: str, *, timeout_s: float | None = None, **options: Any
    ) -> tuple[Observation, Session | None]:
        """Connect media with the RTC library. The session, still open, is None unless `visible`."""
        os.putenv("RUST_LOG", "off")  # what the library says by itself while Python is ending
        from livekit import rtc

        logging.getLogger("livekit").disabled = True  # its own words may hold the URL with the token
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        room = rtc.Room()
        sent_at = self._vantage.clock.now()
        connecting = asyncio.ensure_future(room.connect(self.url, token, rtc.RoomOptions(auto_subscribe=False)))
        session: Session | None = None
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(connecting)
            found: dict[str, Any] = {"outcome": Outcome.VISIBLE}
            session = Session(None, room)
        except TimeoutError:
            found = timed_out(timeout_s, FailureLayer.ICE, "media")._asdict()
            self._give_up(connecting, room)
        except asyncio.CancelledError:
            self._give_up(connecting, room)
            raise
        except rtc.ConnectError as error:
            found = _media_failure(str(error))
        found["detail"] = detail(tries_inside_at_most=RTC_TRIES)
        return self._row(trace, Operation.MEDIA, sent_at, found, timeout_s=timeout_s, **options), session

    def _give_up(self, connecting: asyncio.Future[None], room: Any) -> None:
        """The RTC library goes on by itself after we have stopped waiting: when it gets in, it leaves at once."""

        async def leave() -> None:
            with contextlib.suppress(Exception):  # whatever it fails with now, it is not in the room
                await connecting
                await room.disconnect()

        task = asyncio.create_task(leave(), name="media-given-up")
        self._given_up.add(task)
        task.add_done_callback(self._given_up.discard)


def _unknown(failure: Failure, layer: FailureLayer, reason: str) -> dict[str, Any]:
    return Judgement(Outcome.UNKNOWN, failure, layer, reason)._asdict()


def _media_failure(said: str) -> dict[str, Any]:
    """What the RTC library's words mean. What follows `http` in them may be a URL with the token, so it is cut."""
    words = said.split("http", 1)[0][:160]
    if "404" in words and "room" in words:  # it was there to be signalled a moment ago: gone, and no proof of "not yet"
        return _unknown(Failure.NOT_FOUND, FailureLayer.SIGNAL, words) | {"status": 404}
    return _unknown(Failure.ICE, FailureLayer.ICE, f"media failed: {words}")


def _signal_failure(failed: NotOpened) -> dict[str, Any]:
    judgement = failed.judgement
    if failed.status == 404:
        gone = "room" in failed.body
        outcome, failure = (Outcome.ABSENT, Failure.NOT_FOUND) if gone else (Outcome.UNKNOWN, Failure.WRONG_PATH)
        judgement = judgement._replace(outcome=outcome, failure=failure)
    if failed.status is not None or judgement.failure is Failure.TIMEOUT:
        judgement = judgement._replace(failure_layer=FailureLayer.SIGNAL)
    return judgement._replace(reason=failed.body or judgement.reason)._asdict() | {"status": failed.status}
