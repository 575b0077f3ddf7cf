"""What LiveKit answers over HTTP: RoomService (Twirp), `/rtc/validate`, and whether it is there at all.

One call is one request: no retry, no failover, no redirect followed, an answer bounded before it is decoded. A call
that needs the operator's key carries a token made for it alone: the one grant it takes, one room where the grant is of
a room, and a minute's life. An answer counts only in LiveKit's own form: a 200 that is no protobuf (a web page, JSON)
is no empty room list.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx
import jwt
from google.protobuf.message import Message
from livekit.protocol import room as protocol

from nestobs.join.fields import instant
from nestobs.nostr import json_object
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import Relation
from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources.caching import copied
from nestobs.sources.clock import Clock
from nestobs.sources.failures import REFUSALS, Judgement, answered, named
from nestobs.sources.http_answer import PLAIN, HttpAnswer, receive
from nestobs.sources.livekit_words import http_answer, is_page, plain_text, redirected, refusal, scrubbed

LIFE_S: Final = 60
"""How long a token of ours is good for: it is made for one request."""

ONE_ROOM_BYTES: Final = 64 * 1024
ROOM_LIST_BYTES: Final = 1024 * 1024
"""The longest answer that is decoded: some three thousand rooms."""

ALIVE_S: Final = 2.0
UNREACHED: Final = frozenset({Failure.REFUSED, Failure.RESET, Failure.CLOSED, Failure.TIMEOUT, Failure.UNREACHABLE})
"""What says that LiveKit is down, or the way to it, and nothing of whether its address is right."""

_PROTOBUF: Final = "application/protobuf"
_SERVICE: Final = "/twirp/livekit.RoomService/"

Reply = TypeVar("Reply", bound=Message)


class NotSaid(Exception):
    """What was asked was not answered; `judgement` says what came instead, `status` of which HTTP answer."""

    def __init__(self, judgement: Judgement, status: int | None = None) -> None:
        super().__init__(judgement.reason)
        self.judgement, self.status = judgement, status


@dataclass(frozen=True, slots=True)
class Access:
    """The operator's key pair, shown nowhere."""

    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)

    def token(self, now: int, **grants: object) -> str:
        """A token for one call: these grants and no other, for a minute from `now` (s)."""
        claims = {"iss": self.key, "nbf": now, "exp": now + LIFE_S, "video": grants}
        return jwt.encode(claims, self.secret, algorithm="HS256")


def claims_of(token: str) -> Mapping[str, Any]:
    """What a token says of itself, unverified; {} for what is none."""
    try:
        found = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class LiveKitHttp:
    """The HTTP side of one LiveKit server. `base`: https://HOST/prefix. Close it when done.

    Each call raises NotSaid, and nothing else for a failure of the world.
    """

    def __init__(self, base: str, access: Access, tls: ssl.SSLContext | None, clock: Clock) -> None:
        self._base, self._access, self._clock = base, access, clock
        self._relation = Relation()
        self._transport = httpx.AsyncHTTPTransport(retries=0, verify=True if tls is None else tls)

    async def close(self) -> None:
        """End the connections."""
        await self._transport.aclose()

    def _now_s(self) -> int:
        """LiveKit's time, as the Date of its answers has it, where ours is surely apart from that: it compares with it
        what we sign. Else the wall clock's, steps included."""
        now = self._clock.now()
        apart = self._relation.apart(now)
        return int(now / SECOND_NS + (self._clock.wall_departure_s() if apart is None else -apart.offset_s))

    async def rooms(self, names: list[str], timeout_s: float) -> list[Any]:
        """The rooms of these names that exist, as livekit's Room; all where no name is given."""
        asked = protocol.ListRoomsRequest(names=names)
        most = ONE_ROOM_BYTES if names else ROOM_LIST_BYTES
        answer = await self._call("ListRooms", asked, protocol.ListRoomsResponse, timeout_s, most, roomList=True)
        return list(answer.rooms)

    async def participants(self, room: str, timeout_s: float) -> set[str]:
        """The identities of who is inside a room. A room that is not there has nobody inside."""
        asked, kind = protocol.ListParticipantsRequest(room=room), protocol.ListParticipantsResponse
        grants = {"roomAdmin": True, "room": room}
        answer = await self._call("ListParticipants", asked, kind, timeout_s, ROOM_LIST_BYTES, **grants)
        return {each.identity for each in answer.participants}

    async def delete(self, room: str, timeout_s: float) -> None:
        """End a room."""
        asked = protocol.DeleteRoomRequest(room=room)
        await self._call("DeleteRoom", asked, protocol.DeleteRoomResponse, timeout_s, ONE_ROOM_BYTES, roomCreate=True)

    async def validate(self, token: str, timeout_s: float) -> None:
        """Whether a token would let its bearer in, asked without going in. Raises NotSaid that says why not."""
        path = "/rtc/validate"
        found = await self._exchange("GET", path, token, timeout_s)
        said = scrubbed(found.content[:2_048].decode("utf-8", "replace"), token)
        content_type = found.headers.get("content-type", "")
        if found.status == 200 and not is_page(content_type, said) and said.lower() in ("success", "ok", ""):
            return
        if found.status in REFUSALS and not is_page(content_type, said):
            said = refusal(said, claims_of(token), self._now_s())
        raise NotSaid(http_answer(found.status, said, content_type, path), found.status)

    async def alive(self) -> str:
        """Why LiveKit is not to be reached just now; "" where something there answers that is not out of order, and
        where it is our own address of it that is wrong."""
        try:
            status = (await self._exchange("GET", "/", None, ALIVE_S)).status
        except NotSaid as error:
            return error.judgement.reason if error.judgement.failure in UNREACHED else ""
        return f"HTTP {status}" if status >= 500 else ""

    async def _call(
        self, method: str, asked: Message, kind: type[Reply], timeout_s: float, most: int, **grants: object
    ) -> Reply:
        """One Twirp call. Twirp's errors are JSON, whatever the content type (its specification, v7)."""
        token, body = self._access.token(self._now_s(), **grants), asked.SerializeToString()
        found = await self._exchange("POST", f"{_SERVICE}{method}", token, timeout_s, most=most, content=body)
        content_type = found.headers.get("content-type", "")
        if found.status != 200:
            raise NotSaid(self._twirp_error(found, token, method), found.status)
        if content_type.partition(";")[0].strip().lower() != _PROTOBUF:
            page = "a web page" if is_page(content_type, found.content[:200].decode("latin-1")) else "something else"
            reason = f"HTTP 200 with {page} ({scrubbed(content_type)[:60] or 'of no type'}) instead of a room list"
            raise NotSaid(_unreadable(reason), 200)
        if not {"content-length", "transfer-encoding"} & found.headers.keys():
            raise NotSaid(_unreadable("the answer does not tell where it ends: it may be cut off"), 200)
        try:
            return kind.FromString(found.content)
        except Exception as error:  # DecodeError; whatever it is, it has a name
            raise NotSaid(named(error, stage=FailureLayer.HTTP), 200) from None

    def _twirp_error(self, found: HttpAnswer, token: str, method: str) -> Judgement:
        error = json_object(found.content) or {}
        code, words = error.get("code"), error.get("msg")
        content_type, secrets = found.headers.get("content-type", ""), (token, self._access.secret, self._access.key)
        if isinstance(code, str):
            said = scrubbed(f"{code}: {words}" if isinstance(words, str) and words else code, *secrets)
            if found.status in REFUSALS:
                said += ": LiveKit refused the call; is the key right?"
            return answered(found.status, said)
        said = scrubbed(found.content[:2_048].decode("utf-8", "replace"), *secrets)
        if found.status in REFUSALS and not is_page(content_type, said):
            why = refusal(said, claims_of(token), self._now_s())
            return answered(found.status, f"LiveKit refused the call; is the key right? {why}")
        return http_answer(found.status, said, content_type, f"{_SERVICE}{method}")._replace(
            failure_layer=FailureLayer.API
        )

    async def _exchange(
        self,
        method: str,
        path: str,
        token: str | None,
        timeout_s: float,
        *,
        most: int = 16 * 1024,
        content: bytes = b"",
    ) -> HttpAnswer:
        headers = {"user-agent": "nestobs/0.1", "content-type": _PROTOBUF, **PLAIN}
        if token is not None and token.isprintable() and token.isascii():  # what no header can hold is no token
            headers["authorization"] = f"Bearer {token}"
        asked_at = self._clock.now()
        try:
            request = httpx.Request(method, self._base + path, content=content, headers=headers)
            found = await receive(self._transport, request, timeout_s=timeout_s, body_bytes=most)
        except Exception as error:  # whatever it is, it has a name
            raise NotSaid(plain_text(named(error, stage=FailureLayer.HTTP, timeout_s=timeout_s))) from None
        if found.broken is not None:
            raise NotSaid(named(found.broken, stage=FailureLayer.HTTP, timeout_s=timeout_s), found.status)
        if (date := instant(found.headers.get("date"))) is not None and not copied(found.headers):
            self._relation.learn(asked_at, self._clock.now(), date)
        if 300 <= found.status < 400:
            raise NotSaid(redirected(found.status, found.headers.get("location", "")), found.status)
        return found


def _unreadable(reason: str) -> Judgement:
    return Judgement(Outcome.UNKNOWN, Failure.PROTOCOL, FailureLayer.HTTP, reason)
