"""One visit to a LiveKit room: how it is entered, held and left. No rows here: what came of it is a value.

Entering is asked of two parts: `by_signal` opens the signalling socket and reads the JoinResponse; `by_media` has the
RTC library signal for itself and then do ICE and DTLS, up to four tries of it inside one connect. The library lives in
a process of its own (media/): that one's loss is our own fault, and proves nothing of a room.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import websockets
from websockets.asyncio.client import ClientConnection

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources.address import Refuse
from nestobs.sources.clock import LAG_S, Clock, patience
from nestobs.sources.dial import NotOpened, dial
from nestobs.sources.failures import Judgement, closed, named, timed_out
from nestobs.sources.livekit_words import http_answer, left, plain_text, redirected, scrubbed
from nestobs.sources.media import MediaWorker, Seat, WorkerLostError

PROTOCOL: Final = 16
PING_S: Final = 5.0

TakeOut: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What came of trying to enter. `session` stands only where the judgement is `visible`; room, sids and version are
    as the server told them, "" where it did not. room_made_at: when that room was, ns, 0 where it is not told. status:
    of an HTTP answer instead. began_at, ended_at, lag_s, over: instants and loop of the media worker, and by what its
    packets go, where it told them."""

    judgement: Judgement
    status: int | None = None
    session: Session | None = None
    room: str = ""
    room_sid: str = ""
    participant_sid: str = ""
    version: str = ""
    room_made_at: int = 0
    began_at: int | None = None
    ended_at: int | None = None
    lag_s: float = 0.0
    over: str = ""


class Session:
    """A joiner's open connection: a signalling socket, kept alive by pings, or a seat that the media worker holds.

    Close it when done. Once `dropped` is set, `lost` says how it was lost.
    """

    def __init__(
        self, socket: ClientConnection | None, seat: Seat | None = None, take_out: TakeOut | None = None
    ) -> None:
        self._socket, self._seat, self._take_out = socket, seat, take_out
        self.dropped = asyncio.Event()
        self.lost = Judgement(Outcome.UNKNOWN, Failure.DROPPED, FailureLayer.SIGNAL, "the connection was lost")
        self._task = asyncio.create_task(self._keep(socket)) if socket is not None else None
        if seat is not None:
            seat.ended.add_done_callback(lambda ended: self._ended(ended.result()))

    async def stays(self, duration_s: float) -> bool:
        """Whether the connection lives for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                await self.dropped.wait()
        if self._seat is not None and not self.dropped.is_set():
            await self._seat.look()
            if self._seat.ended.done():
                self._ended(self._seat.ended.result())
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
        if self._seat is not None and self._take_out is not None:
            take_out, self._take_out = self._take_out, None
            await self._seat.leave()
            if isinstance(self._seat.ended.result(), WorkerLostError):
                await take_out()

    def _sent_away(self, reason: object) -> None:
        failure, why = left(_reason_name(reason))
        self.lost = self.lost._replace(failure=failure, reason=why)
        self.dropped.set()

    def _ended(self, line: Mapping[str, Any] | WorkerLostError) -> None:
        """What the media worker said of the end of its seat."""
        if isinstance(line, WorkerLostError):
            self.lost = _ours(str(line))
        elif line.get("said") == "sent_away":
            self._sent_away(line.get("reason"))
        self.dropped.set()

    def _left(self, why: str) -> None:
        self.lost = self.lost._replace(reason=why)

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
            self._left(f"the signalling socket was closed ({socket.close_code})")
        except (websockets.WebSocketException, OSError):
            self._left(f"the signalling socket was lost ({socket.close_code})")
        except Exception as error:  # a message that cannot be read: whatever it is, it has a name
            self._left(f"the signalling socket was left: {named(error, stage=FailureLayer.SIGNAL).reason}")
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
        async with patience(asyncio.get_running_loop().time() + timeout_s):
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
        room_made_at=answer.join.room.creation_time * SECOND_NS,
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
    url: str, token: str, worker: MediaWorker, *, clock: Clock, timeout_s: float, take_out: TakeOut
) -> Entry:
    """Enter with media by the RTC library within `timeout_s`, once its process is there.

    The library goes on by itself after nobody waits any more; the worker then leaves at once. take_out: ends what is
    left of the visit where the worker is lost.
    """
    asked_at = None
    try:
        await worker.ready()
        asked_at = clock.now()
        told, seat = await worker.enter(url, token, timeout_s)
    except WorkerLostError as error:
        lost = Entry(judgement=_ours(str(error)), began_at=asked_at, ended_at=clock.now())
        if asked_at is not None:
            await take_out()
        return lost
    now = clock.now()
    began_at, ended_at = sorted(
        min(max(clock.at(counted), asked_at), now) if isinstance(counted := told.get(name), int) else otherwise
        for name, otherwise in (("began", asked_at), ("ended", now))
    )
    lag_s = told["lag_s"] if isinstance(told.get("lag_s"), float) else 0.0
    room, room_sid, participant_sid, over = (
        str(told.get(name) or "") for name in ("room", "room_sid", "participant_sid", "over")
    )
    judgement, status = _told(told, token, timeout_s)
    if lag_s > LAG_S and judgement.outcome is not Outcome.VISIBLE:
        stood = f"the media worker's own loop stood still for {lag_s:.1f} s: {judgement.reason}"
        judgement, status = _ours(stood)._replace(failure=Failure.LOOP_BLOCKED), None
    return Entry(
        judgement=judgement,
        status=status,
        session=Session(None, seat, take_out) if judgement.outcome is Outcome.VISIBLE else None,
        began_at=began_at,
        ended_at=ended_at,
        lag_s=lag_s,
        room=room,
        room_sid=room_sid,
        participant_sid=participant_sid,
        over=over,
    )


def _told(told: Mapping[str, Any], token: str, timeout_s: float) -> tuple[Judgement, int | None]:
    """What the worker's answer means, and LiveKit's status in it."""
    words = str(told.get("words", ""))
    match told.get("said"):
        case "entered":
            return Judgement(Outcome.VISIBLE), None
        case "timed_out":
            return timed_out(timeout_s, FailureLayer.ICE, "media"), None
        case "failed":
            return _no_media(scrubbed(words.split("http", 1)[0], token))  # what follows may be a URL with the token
        case _:
            return _ours(f"the media worker failed: {scrubbed(words, token) or 'it said what is not understood'}"), None


def _no_media(words: str) -> tuple[Judgement, int | None]:
    """What the RTC library's words mean."""
    if "404" in words and "room" in words:  # it was there to be signalled a moment ago: gone, and no proof of "not yet"
        return Judgement(Outcome.UNKNOWN, Failure.NOT_FOUND, FailureLayer.SIGNAL, words), 404
    return Judgement(Outcome.UNKNOWN, Failure.ICE, FailureLayer.ICE, f"media failed: {words}"), None


def _ours(why: str) -> Judgement:
    return Judgement(Outcome.PROBE_ERROR, Failure.INTERNAL, FailureLayer.PROBER, why)
