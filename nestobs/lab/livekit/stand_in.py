"""A stand-in for livekit-server: what an observer can see of LiveKit short of media, in this process.

It serves RoomService over Twirp (CreateRoom, ListRooms, DeleteRoom, ListParticipants; protobuf bodies), signed
webhooks, `/rtc/validate` and the `/rtc` websocket with LiveKit's own protobuf types: JoinResponse first, pings
answered, leave obeyed. It calls itself "stand-in" wherever a version is told and carries no media: after the
JoinResponse no offer comes. Rooms do not time out; there is no auto_create.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jwt
from aiohttp import web
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError, Message
from livekit.protocol import models, room, rtc, webhook

from nestobs.lab.background import Background
from nestobs.lab.clock import LabClock
from nestobs.lab.listening import HOST, listen
from nestobs.lab.livekit.tokens import LivekitKeys

VERSION = "stand-in"
TWIRP = "/twirp/livekit.RoomService/"
PING_INTERVAL_S = 5
PING_TIMEOUT_S = 15


@dataclass
class _Room:
    info: models.Room
    joined: dict[str, tuple[models.ParticipantInfo, web.WebSocketResponse]] = field(default_factory=dict)


_clock = LabClock()


class LivekitStandIn:
    """Serves on a free loopback port; `url` is http://127.0.0.1:port."""

    kind = "stand-in"
    version = VERSION
    pid: int | None = None

    def __init__(self, keys: LivekitKeys, webhooks: Sequence[str]) -> None:
        self.url = ""
        self.port = 0
        self._keys, self._webhooks = keys, webhooks
        self._rooms: dict[str, _Room] = {}
        self._session: aiohttp.ClientSession
        self._background = Background()

    async def start(self, stack: AsyncExitStack) -> None:
        """Listen. At the end visitors are dropped."""
        app = web.Application()
        app.router.add_get("/", self._root)
        app.router.add_get("/rtc", self._rtc)
        app.router.add_get("/rtc/validate", self._validate)
        app.router.add_post(TWIRP + "{method}", self._twirp)
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        self._session = await stack.enter_async_context(session)
        self.port = await listen(web.AppRunner(app, access_log=None, shutdown_timeout=0.2), stack)
        self.url = f"http://{HOST}:{self.port}"
        stack.push_async_callback(self._background.close)
        stack.push_async_callback(self._drop)

    async def _drop(self) -> None:
        for each in self._rooms.values():
            for _, socket in list(each.joined.values()):
                await socket.close()

    async def _root(self, request: web.Request) -> web.Response:
        return web.Response(text="OK")

    # RoomService

    async def _twirp(self, request: web.Request) -> web.Response:
        calls: dict[str, tuple[type[Message], str, Callable[[Any], Message | None]]] = {
            "CreateRoom": (room.CreateRoomRequest, "roomCreate", self._create),
            "ListRooms": (room.ListRoomsRequest, "roomList", self._list),
            "DeleteRoom": (room.DeleteRoomRequest, "roomCreate", self._delete),
            "ListParticipants": (room.ListParticipantsRequest, "roomAdmin", self._participants),
        }
        method = request.match_info["method"]
        if method not in calls:
            return _twirp_error(404, "bad_route", f"no handler for path {request.path!r}")
        kind, grant, call = calls[method]
        claims = self._claims(_bearer(request))
        if claims is None:
            return web.Response(status=401, text="invalid authorization token")
        if not claims.get("video", {}).get(grant):
            return _twirp_error(401, "unauthenticated", "permissions denied")
        asked = kind()
        try:
            asked.ParseFromString(await request.read())
        except DecodeError:
            return _twirp_error(400, "malformed", "the protobuf request could not be decoded")
        answer = call(asked)
        if answer is None:
            return _twirp_error(404, "not_found", "requested room does not exist")
        return web.Response(body=answer.SerializeToString(), content_type="application/protobuf")

    def _create(self, asked: room.CreateRoomRequest) -> models.Room:
        found = self._rooms.get(asked.name)
        if found is not None:
            return found.info
        now = _clock.wall_s()
        info = models.Room(
            sid=_sid("RM_"),
            name=asked.name,
            empty_timeout=asked.empty_timeout or 300,
            departure_timeout=asked.departure_timeout or 20,
            max_participants=asked.max_participants,
            metadata=asked.metadata,
            creation_time=int(now),
            creation_time_ms=int(now * 1000),
        )
        self._rooms[asked.name] = _Room(info)
        self._tell("room_started", info)
        return info

    def _list(self, asked: room.ListRoomsRequest) -> room.ListRoomsResponse:
        wanted = set(asked.names)
        return room.ListRoomsResponse(
            rooms=[each.info for name, each in self._rooms.items() if not wanted or name in wanted]
        )

    def _delete(self, asked: room.DeleteRoomRequest) -> room.DeleteRoomResponse | None:
        found = self._rooms.pop(asked.room, None)
        if found is None:
            return None
        for _, socket in list(found.joined.values()):
            self._background.start(_dismiss(socket, models.ROOM_DELETED))
        self._tell("room_finished", found.info)
        return room.DeleteRoomResponse()

    def _participants(self, asked: room.ListParticipantsRequest) -> room.ListParticipantsResponse:
        found = self._rooms.get(asked.room)
        return room.ListParticipantsResponse(
            participants=[] if found is None else [info for info, _ in found.joined.values()]
        )

    # signalling

    def _admit(self, request: web.Request) -> tuple[_Room, dict[str, Any]]:
        """The room a token lets its bearer into, and the token's claims; else LiveKit's refusal is raised."""
        claims = self._claims(request.query.get("access_token", "") or _bearer(request))
        if claims is None or not claims.get("video", {}).get("roomJoin"):
            raise web.HTTPUnauthorized(text="invalid authorization token")
        found = self._rooms.get(claims["video"].get("room", ""))
        if found is None:
            raise web.HTTPNotFound(text="requested room does not exist")
        return found, claims

    async def _validate(self, request: web.Request) -> web.Response:
        self._admit(request)
        return web.Response(text="success")

    async def _rtc(self, request: web.Request) -> web.StreamResponse:
        where, claims = self._admit(request)
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        await socket.prepare(request)
        info = _participant(claims)
        others = [other for other, _ in where.joined.values()]
        if (earlier := where.joined.get(info.identity)) is not None:
            self._background.start(_dismiss(earlier[1], models.DUPLICATE_IDENTITY))
        where.joined[info.identity] = (info, socket)
        where.info.num_participants = len(where.joined)
        try:
            await socket.send_bytes(_join_response(where.info, info, others).SerializeToString())
            self._tell("participant_joined", where.info, info)
            await _converse(socket)
        finally:
            if where.joined.get(info.identity, (None, None))[1] is socket:
                del where.joined[info.identity]
            where.info.num_participants = len(where.joined)
            self._tell("participant_left", where.info, info)
        return socket

    # tokens and webhooks

    def _claims(self, token: str) -> dict[str, Any] | None:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._keys.secret,
                algorithms=["HS256"],
                issuer=self._keys.key,
                leeway=60,
                options={"require": ["exp"]},
            )
        except jwt.PyJWTError:
            return None
        return claims if isinstance(claims.get("video", {}), dict) else None

    def _tell(self, what: str, info: models.Room, who: models.ParticipantInfo | None = None) -> None:
        event = webhook.WebhookEvent(event=what, id=_sid("EV_"), created_at=int(_clock.wall_s()), room=info)
        if who is not None:
            event.participant.CopyFrom(who)
        body = MessageToJson(event, indent=None).encode()
        for url in self._webhooks:
            self._background.start(self._post(url, body))

    async def _post(self, url: str, body: bytes) -> None:
        """One signed webhook, tried once: JWT with the body's sha256, as LiveKit signs."""
        now = int(_clock.wall_s())
        claims = {
            "iss": self._keys.key,
            "nbf": now,
            "exp": now + 300,
            "sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
        }
        headers = {
            "Authorization": jwt.encode(claims, self._keys.secret, algorithm="HS256"),
            "Content-Type": "application/webhook+json",
        }
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.post(url, data=body, headers=headers):
                pass


def _participant(claims: dict[str, Any]) -> models.ParticipantInfo:
    grants, now = claims["video"], _clock.wall_s()
    return models.ParticipantInfo(
        sid=_sid("PA_"),
        identity=claims.get("sub", ""),
        name=claims.get("name", ""),
        state=models.ParticipantInfo.State.JOINED,
        joined_at=int(now),
        joined_at_ms=int(now * 1000),
        permission=models.ParticipantPermission(
            can_subscribe=grants.get("canSubscribe", True),
            can_publish=grants.get("canPublish", True),
            can_publish_data=grants.get("canPublishData", True),
        ),
    )


def _join_response(
    info: models.Room, who: models.ParticipantInfo, others: list[models.ParticipantInfo]
) -> rtc.SignalResponse:
    return rtc.SignalResponse(
        join=rtc.JoinResponse(
            room=info,
            participant=who,
            other_participants=others,
            server_version=VERSION,
            server_info=models.ServerInfo(version=VERSION, protocol=16, node_id="ND_stand_in"),
            subscriber_primary=True,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
        )
    )


async def _converse(socket: web.WebSocketResponse) -> None:
    """Answer pings until the client leaves."""
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY:
            continue
        try:
            asked = rtc.SignalRequest.FromString(message.data)
        except DecodeError:
            break
        match asked.WhichOneof("message"):
            case "leave":
                break
            case "ping":
                await socket.send_bytes(rtc.SignalResponse(pong=int(_clock.wall_s() * 1000)).SerializeToString())
            case "ping_req":
                pong = rtc.Pong(last_ping_timestamp=asked.ping_req.timestamp, timestamp=int(_clock.wall_s() * 1000))
                await socket.send_bytes(rtc.SignalResponse(pong_resp=pong).SerializeToString())


async def _dismiss(socket: web.WebSocketResponse, reason: models.DisconnectReason) -> None:
    """Tell a participant to leave and why, then close."""
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(rtc.SignalResponse(leave=rtc.LeaveRequest(reason=reason)).SerializeToString())
    await socket.close()


def _bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _twirp_error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "msg": message}, status=status)


def _sid(prefix: str) -> str:
    return prefix + secrets.token_urlsafe(9)
