"""What a token is worth before anybody has tried it. Pure: the token itself is read and not kept.

LiveKit takes a JWT that grants `roomJoin` for one room (its own documentation of access tokens). A released Nests API
gave `{}` in its place, as an unawaited promise is written in JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nestobs.diagnosis import Cause
from nestobs.sources.livekit_http import claims_of
from nestobs.sources.livekit_words import scrubbed
from nestobs.sources.proof import is_jwt

KINDS = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Token:
    """A token as its claims have it. trouble: why it lets nobody into the room, "" where it may; cause: the id then.
    speaks: whether its bearer may publish."""

    trouble: str = ""
    cause: str = ""
    speaks: bool = False


def read_token(value: object, room: str, now_s: float) -> Token:
    """What stands under `token` in an answer about `room`. now_s: seconds since the epoch; an expiry that lies before
    is trouble, whoever's clock it is."""
    if not isinstance(value, str):
        kind = "missing" if value is None else KINDS.get(type(value), "no string")
        return _bad(f"the token is {kind}, not a string" + (" (`{}`)" if value == {} else ""))
    if not value:
        return _bad("the token is empty")
    claims = claims_of(value) if is_jwt(value) else {}
    grant = claims.get("video")
    if not isinstance(grant, Mapping):
        return _bad("the token is no JWT" if not claims else "the token grants nothing of LiveKit's (no `video`)")
    return _granted(grant, claims, room, now_s)


def _granted(grant: Mapping[str, Any], claims: Mapping[str, Any], room: str, now_s: float) -> Token:
    if (named := grant.get("room")) != room:
        whose = f"room {scrubbed(named)[:80]!r}" if isinstance(named, str) and named else "no room"
        return Token(f"the token is for {whose}, not for {scrubbed(room)[:80]!r}", Cause.WRONG_ROOM_TOKEN)
    if grant.get("roomJoin") is not True:
        return _bad("the token does not allow to join (no `roomJoin`)")
    expires = claims.get("exp")
    if isinstance(expires, int | float) and -1e12 < expires < 1e12 and expires <= now_s:
        return _bad(f"the token had expired {now_s - expires:.0f} s before it came")
    return Token(speaks=grant.get("canPublish", True) is True)


def _bad(trouble: str) -> Token:
    return Token(trouble, Cause.BAD_TOKEN)
