"""What a nest's faults put in the place of the API's answers, or make of its tokens.

The foreign answers are in the words of those who give them: nginx, Traefik, Kong, a web app that answers 200 to
everything, and a Python web service. Rate limits come in three of the forms that are in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from nestobs.lab.api.answers import NO_RECORD, NO_ROOM, UNAUTHORIZED, Refused
from nestobs.lab.faults.course import Course
from nestobs.lab.faults.draw import Fault

_NGINX: Final = (
    "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    "<hr><center>nginx/1.24.0</center>\r\n</body>\r\n</html>\r\n"
)
_HTML: Final = {"Content-Type": "text/html", "Server": "nginx/1.24.0"}
_JSON: Final = {"Content-Type": "application/json"}

SKEW_S: Final = {"ahead": 300.0, "behind": -300.0}
"""By how much the server's clock is off, by kind."""


class Foreign(Exception):
    """An answer that is not in the API's form: another server gave it."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


class Hung(Exception):
    """The connection is reset without an answer."""


_DOORS: Final[dict[str, tuple[int, str, dict[str, str]]]] = {
    "nginx": (404, _NGINX.format(title="404 Not Found"), _HTML),
    "traefik": (404, "404 page not found\n", {"Content-Type": "text/plain; charset=utf-8"}),
    "kong": (404, '{\n  "message":"no Route matched with those values"\n}', _JSON | {"Server": "kong/3.4.2"}),
    "web_page": (
        200,
        '<!doctype html><html lang="en"><head><title>Nests</title></head><body><div id="root"></div></body></html>',
        {"Content-Type": "text/html; charset=utf-8"},
    ),
    "other_service": (404, '{"detail":"Not Found"}', _JSON | {"Server": "uvicorn"}),
}
_DOWN: Final = {
    "status_502": (502, _NGINX.format(title="502 Bad Gateway"), _HTML),
    "status_503": (503, _NGINX.format(title="503 Service Temporarily Unavailable"), _HTML),
}
_JOINS: Final = ("join", "guest")


async def spoil(course: Course, route: str, signed: bool) -> None:
    """Raise what the faults in force answer to this route instead (Refused, Foreign, Hung), if they do. A stall ends
    with the fault and by a reset."""
    for fault in course.on:
        match fault.cause:
            case "api_down":
                await _down(course, fault)
            case "wrong_door":
                raise Foreign(*_DOORS[fault.kind])
            case "rate_limited":
                raise _limited(fault.kind, course.left_s(fault))
            case "auth_rejected" if route == "join" and signed:
                raise Refused(401, UNAUTHORIZED)
            case "forbidden" if route == "join" and signed:
                raise Refused(403, "You are not allowed to join this nest")
            case "api_join_fault" if route in _JOINS:
                raise Refused(404, NO_RECORD if fault.kind == "not_found" else NO_ROOM[route])
            case "livekit_down" if route in _JOINS:
                raise Refused(404, NO_ROOM[route])


async def _down(course: Course, fault: Fault) -> None:
    if fault.kind == "status_500":
        raise Refused(500, "Internal server error")
    if fault.kind in _DOWN:
        raise Foreign(*_DOWN[fault.kind])
    if fault.kind == "stall":
        await asyncio.sleep(course.left_s(fault))
    raise Hung


def _limited(kind: str, left_s: float) -> Refused:
    wait = str(max(1, round(left_s)))
    headers = {
        "draft_6": {"RateLimit-Remaining": "0", "RateLimit-Reset": wait, "Retry-After": wait},
        "draft_8": {"RateLimit": f'"default";r=0;t={wait}', "Retry-After": wait},
        "retry_after": {"Retry-After": wait},
    }
    return Refused(429, "Too many requests, please try again later.", *headers[kind].items())


def cached(course: Course) -> tuple[str, float] | None:
    """The kind of cache in front of the nest's routes and how long it keeps a 404, where there is one."""
    fault = course.has("negative_cache")
    return None if fault is None else (fault.kind, course.left_s(fault))


def hit_headers(kind: str, age_s: int) -> tuple[tuple[str, str], ...]:
    """How a cache of this kind says that it answers from its store."""
    said = {
        "x_cache": (("X-Cache", "HIT"),),
        "cf": (("CF-Cache-Status", "HIT"),),
        "cache_status": (("Cache-Status", "lab; hit; ttl=30"),),
    }
    return (("Age", str(age_s)), *said[kind])


BAD_TOKENS: Final[dict[str, object]] = {"object": {}, "null": None, "number": 42, "empty": ""}


def granted(course: Course, token: str) -> dict[str, Any]:
    """The part of an answer that holds the token, as the faults in force leave it."""
    fault = course.has("bad_token")
    if fault is None or fault.kind == "foreign_key":
        return {"token": token}
    return {} if fault.kind == "missing" else {"token": BAD_TOKENS[fault.kind]}


def signed_elsewhere(course: Course) -> bool:
    """Whether tokens are signed with a key that LiveKit does not have."""
    fault = course.has("bad_token")
    return fault is not None and fault.kind == "foreign_key"


def skew_s(course: Course) -> float:
    """By how much the clock is off that judges the nest's requests, seconds."""
    fault = course.has("auth_clock_skew")
    return 0.0 if fault is None else SKEW_S[fault.kind]
