"""What the Nests API says and reads: answers with E's error sentences, checks of what is asked, and faults to set."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from nestobs.errors import AddressError

NO_ENDPOINT = "Endpoint not found"
UNAUTHORIZED = "Missing or invalid authorization header"
NO_RECORD = "Nest not found"
NO_ROOM = {"join": "Nest is no longer active", "guest": "Nest not found or no longer active"}


@dataclass
class ApiFaults:
    """What the API does wrong; assign at any time.

    `join` "404": every join answers "Nest not found"; nests made meanwhile keep
    that for ever. `token` "object": tokens are `{}`. `status`: every nest route
    answers that status. `server_error_s`: a nest's routes answer 500 for that long after its creation. `cache_404_s`:
    404 answers are repeated from a cache for that long. `answer_delay_s`: answers are ready and then kept that long.
    """

    join: str = "none"
    token: str = "none"
    status: int | None = None
    server_error_s: float = 0.0
    cache_404_s: float = 0.0
    answer_delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, JSON body (None: no body) and extra headers."""

    status: int
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """What a route answers instead: status, E's JSON error body, extra headers."""

    def __init__(self, status: int, error: str, *headers: tuple[str, str]) -> None:
        super().__init__(error)
        self.answer = Answer(status, {"error": error}, headers)


def etag(body: bytes) -> str:
    """The weak ETag that Express gives a body."""
    digest = base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest())[:27].decode()
    return f'W/"{len(body):x}-{digest}"'


def read_relays(value: object) -> tuple[str, ...]:
    """A list of 1 to 10 ws or wss URLs. Raises AddressError for anything else."""
    if not isinstance(value, list) or not 1 <= len(value) <= 10 or not all(_is_relay(entry) for entry in value):
        raise AddressError("not 1 to 10 relays")
    return tuple(value)


def _is_relay(value: object) -> bool:
    try:
        return isinstance(value, str) and urlsplit(value).scheme in ("ws", "wss") and bool(urlsplit(value).hostname)
    except ValueError:
        return False


def is_pubkey(value: object) -> TypeGuard[str]:
    """Whether this is 64 lower-case hex digits."""
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def put_in_or_out(group: set[str], member: str, wanted: object) -> bool:
    """Put a member in (True), take it out (False) or leave it (anything else); whether that changed the group."""
    if not isinstance(wanted, bool) or wanted is (member in group):
        return False
    (group.add if wanted else group.discard)(member)
    return True
