"""One HTTP request to a Nests API as a log line tells it, and what that proves.

A log has the status and mostly the size of an answer, and not its words. The Nests API's own log is its own word: its
404 is its own "no". Of a proxy's log that is not known: proxies answer 404 themselves, web apps 200 to anything. But
the API says its errors in so few fixed words that the size of a body tells them apart (`{"error":"Nest not found"}` is
26 bytes, and no proxy's page is as short as that and as long as this). So of a proxy's log

    404     is the API's own where its size is that of one of its errors, and nobody else is named as who answered
    200     where the log names the upstream's status, too, and had the API's own words on these routes elsewhere
    else    `unknown`, or what the status refuses
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from nestobs.collector.imports.lines import Line, Stamp, stamp_of
from nestobs.collector.imports.said import Said, Sighting
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import LONGEST_ROOM, Failure, FailureLayer, Operation, Outcome, Role, Source
from nestobs.sources.failures import Judgement, absent, answered, unproved
from nestobs.sources.proof import judge

PATH: Final = "/api/v1/nests"
"""Where a Nests API has its routes, where nobody says otherwise."""

_COMBINED: Final = re.compile(
    r"(?:[\w.:-]{0,200}\w )?\S{1,200} \S{1,200} \S{1,200} \[([^\]]{1,40})\] "
    r'"([A-Z]{3,10}) (\S{1,8000})(?: HTTP/[\d.]{1,4})?" (\d{3}|-) (\d{1,15}|-)(.*)',
    re.ASCII,
)
_AGENT: Final = re.compile(r'\s{1,4}"(?:[^"\\]|\\.){0,4000}"\s{1,4}"(?:[^"\\]|\\.){0,4000}"')
_BARE_TIME: Final = re.compile(r'\s{1,4}"?(\d{1,6}\.\d{1,9})"?(?=\s|$)', re.ASCII)
_NAMED: Final = re.compile(r'\b([a-z_]{1,40})[=:]"?([\w.,: -]{1,60}?)"?(?=\s[a-z_]{1,40}[=:]|"|\s*$)', re.ASCII)
_TOOK: Final = ("rt", "request_time", "req_time", "duration", "time")
_UPSTREAM: Final = ("us", "upstream_status", "ups_status", "ustatus")
_CACHE: Final = ("cs", "cache", "ucs", "upstream_cache_status", "cache_status")
_ERRORS: Final = (
    "Nest not found",
    "Nest is no longer active",
    "Nest not found or no longer active",
    "Endpoint not found",
    "Missing or invalid authorization header",
    "Invalid NIP-98 authentication",
)
_SIZES: Final = {len(json.dumps({"error": words}, separators=(",", ":"))): words for words in _ERRORS}
"""By the size of a body which of its errors the Nests API says in it."""

_LEAST_TOKEN: Final = 40
"""Bytes of an answer with a token: one with less holds none (`{"token":{}}` is 12)."""

_HIT: Final = re.compile(r"hit|stale|updating|revalidated", re.IGNORECASE)


class Route(NamedTuple):
    """Which call of the API a request is, and of which room ("" for none)."""

    operation: Operation
    room: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that was answered by `stamp`. size: bytes of the body. took_s: how long it took. upstream: the status
    that who was asked behind it gave, "-" where nobody was. cache: what a cache says of itself. None: not told."""

    method: str
    path: str
    status: int | None
    stamp: Stamp
    size: int | None = None
    took_s: float | None = None
    upstream: str | None = None
    cache: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def span(self, longest_s: float) -> tuple[int, int, float | None]:
        """Within what it was asked and answered (ns), and, where its beginning is not told, the bound taken for it."""
        took_s = longest_s if self.took_s is None else self.took_s
        begun = self.stamp.at - round(took_s * SECOND_NS) - (0 if self.took_s is None else 1_000_000)
        return begun, self.stamp.end, longest_s if self.took_s is None else None


def combined(text: str) -> Request | None:
    """A line in the combined format of nginx, Apache and morgan, with what is often appended; None for another."""
    if (found := _COMBINED.fullmatch(text)) is None or (stamp := stamp_of(found[1])) is None:
        return None
    rest = found[6]
    more = rest[agent.end() :] if (agent := _AGENT.match(rest)) is not None else ""
    named = {name: value.strip() for name, value in _NAMED.findall(more[:2_000])}
    bare = _BARE_TIME.match(more)
    return Request(
        method=found[2],
        path=found[3],
        status=None if found[4] == "-" else int(found[4]),
        size=None if found[5] == "-" else int(found[5]),
        stamp=stamp,
        took_s=_seconds(bare[1] if bare else _first(named, _TOOK)),
        upstream=_last(_first(named, _UPSTREAM)),
        cache=_first(named, _CACHE),
    )


def structured(entry: Mapping[str, Any], stamp: Stamp | None) -> Request | None:
    """A request in a JSON line: as nginx is often told to write it, or as pino, express-winston, Caddy, Traefik do."""
    inner = [entry, *(entry[name] for name in ("request", "req", "res", "response", "meta") if _is_object(entry, name))]
    inner += [one[name] for one in inner[1:] for name in ("req", "res") if _is_object(one, name)]
    method = _told(inner, ("method", "request_method", "RequestMethod", "verb"))
    path = _told(inner, ("request_uri", "originalUrl", "url", "uri", "path", "RequestPath"))
    status = _told(inner, ("status", "statusCode", "status_code", "DownstreamStatus", "StatusCode"))
    when = _told(inner, ("time_iso8601", "time_local", "StartUTC", "time", "ts", "timestamp", "msec"))
    known = stamp or stamp_of(when)
    if not (isinstance(method, str) and isinstance(path, str) and known and method.isalpha() and len(method) <= 10):
        return None
    return Request(
        method=method.upper(),
        path=path[:8_000],
        status=_number(status),
        size=_number(_told(inner, ("body_bytes_sent", "size", "DownstreamContentSize", "contentLength"))),
        stamp=known,
        took_s=_took(inner),
        upstream=_last(_told(inner, ("upstream_status", "OriginStatus"))),
        cache=_word(_told(inner, ("upstream_cache_status", "cache_status"))),
    )


def route_of(method: str, url: str, base: str = "") -> Route | None:
    """Which call of a Nests API this is; None for none that is about a nest. base: the API's URL, if it was told."""
    try:
        path = urlsplit(url).path
        prefix = urlsplit(base).path.rstrip("/") or PATH
    except ValueError:
        return None
    if (at := path.find(prefix)) < 0 or path[at + len(prefix) :][:1] not in ("", "/"):
        return None
    room, *rest = path[at + len(prefix) :].strip("/").split("/")
    room = unquote(room)
    call = _CALLS.get((method, "/".join(rest)))
    if (
        call is None
        or (not room) is not (call is Operation.CREATE)
        or len(room) > LONGEST_ROOM
        or room.startswith("eyJ")
    ):
        return None
    return Route(call, room)


_CALLS: Final = {
    ("GET", ""): Operation.JOIN,
    ("GET", "guest"): Operation.GUEST,
    ("GET", "info"): Operation.INFO,
    ("PUT", ""): Operation.CREATE,
    ("POST", "restart"): Operation.RESTART,
    ("DELETE", ""): Operation.DELETE,
}
_ROLES: Final = {
    Operation.JOIN: Role.JOINER,
    Operation.GUEST: Role.GUEST,
    Operation.CREATE: Role.HOST,
    Operation.RESTART: Role.HOST,
    Operation.DELETE: Role.HOST,
}


def role_of(operation: Operation) -> Role:
    """As whom a call is made."""
    return _ROLES.get(operation, Role.OBSERVER)


def said_of(line: Line, request: Request, route: Route, judgement: Judgement, *, target: str, longest_s: float) -> Said:
    """The observation that a request is."""
    begun, ended, within_s = request.span(longest_s)
    return Said(
        line=line.number,
        mark=line.mark,
        source=Source.API,
        operation=route.operation,
        judgement=judgement,
        begun_at=begun,
        ended_at=ended,
        begun_within_s=within_s,
        target=target or PATH,
        room=route.room,
        role=role_of(route.operation),
        status=request.status,
        facts={"bytes": request.size, "took_s": request.took_s, "upstream": request.upstream, **request.facts},
    )


def sighting_of(request: Request, route: Route, longest_s: float, depth: int) -> Sighting:
    """The request as another log may have it, too."""
    begun, ended, bound = request.span(longest_s)
    late = ended if bound is not None else ended - round((request.took_s or 0.0) * SECOND_NS) + 1_000_000
    key = ("http", route.operation, route.room, str(request.status))
    return Sighting(
        key=key, begun=begun, ended=ended, depth=depth, late_begun=min(late, ended), early_ended=request.stamp.at
    )


# what it proves


def by_the_api(operation: Operation, status: int | None, size: int | None) -> Judgement:
    """What an answer proves of which the API's own log tells. size: of its body in bytes, None where it is not told."""
    if status is None:
        return unproved(Failure.CLOSED, "no answer was sent: who asked had gone")
    if status == 404:
        words = _SIZES.get(size or 0)
        own = absent("HTTP 404, by the API's own log")
        return own if words is None else judge(operation, 404, {}, {"error": words})
    if status not in _YES.get(operation, ()):
        return answered(status)
    if operation in (Operation.JOIN, Operation.GUEST) and size is not None and size < _LEAST_TOKEN:
        return unproved(Failure.BAD_TOKEN, f"an answer of {size} bytes holds no token")
    deed = operation in (Operation.CREATE, Operation.RESTART, Operation.DELETE)
    return Judgement(Outcome.ACCEPTED if deed else Outcome.VISIBLE)


_YES: Final = {
    Operation.INFO: (200, 304),
    Operation.JOIN: (200,),
    Operation.GUEST: (200,),
    Operation.CREATE: (200, 201),
    Operation.RESTART: (200, 201),
    Operation.DELETE: (200, 202, 204),
}
"""By call the statuses that say yes."""


def by_a_proxy(operation: Operation, request: Request, *, shown: bool) -> Judgement:
    """What an answer proves of which only a proxy's log tells. shown: whether `own_words` were in this log."""
    status, size = request.status, request.size
    if status is None:
        return unproved(Failure.CLOSED, "no answer was sent")
    if request.cache and _HIT.search(request.cache):
        return unproved(Failure.CACHED, f"HTTP {status} from the proxy's cache ({request.cache[:40]})")
    found = by_the_api(operation, status, size)
    if own_words(request):
        return found._replace(reason=f"{found.reason} (by the size of its body, {size} bytes)")
    if status != 404 and status not in _YES.get(operation, ()):
        hung_up = unproved(Failure.CLOSED, "HTTP 499: who asked hung up", FailureLayer.HTTP)
        return hung_up if status == 499 else answered(status, layer=FailureLayer.HTTP)
    if status != 404 and request.upstream == str(status) and shown:
        return found
    who = "the proxy itself" if request.upstream == "-" else "whom, the proxy's log does not tell"
    bytes_said = "" if size is None else f", {size} bytes"
    return unproved(Failure.UNEXPECTED, f"HTTP {status}{bytes_said}: answered by {who}", FailureLayer.HTTP)


def own_words(request: Request) -> bool:
    """Whether an answer in a proxy's log is the API's own by its size, which is that of one of its errors."""
    words = _SIZES.get(request.size or 0)
    right = request.status == (401 if words in _ERRORS[4:] else 404)
    return words is not None and right and request.upstream in (None, str(request.status))


# values


def _is_object(entry: Mapping[str, Any], name: str) -> bool:
    return isinstance(entry.get(name), dict)


def _told(inner: list[Any], names: tuple[str, ...]) -> object:
    return next((one[name] for name in names for one in inner if isinstance(one.get(name), str | int | float)), None)


def _number(value: object) -> int | None:
    text = str(value).strip()[:16]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _seconds(text: object) -> float | None:
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text) if 0 <= text < 1e6 else None
    found = re.match(r"\d{1,6}(\.\d{1,9})?", text, re.ASCII) if isinstance(text, str) else None
    return float(found[0]) if found else None


def _took(inner: list[Any]) -> float | None:
    """Seconds: what is called responseTime or elapsed is in ms (Node, Serilog), Traefik's Duration in ns."""
    if (ms := _seconds(_told(inner, ("responseTime", "response_time_ms", "Elapsed", "elapsed_ms")))) is not None:
        return ms / 1_000
    ns = _told(inner, ("Duration",))
    if isinstance(ns, int | float) and 0 <= ns < 1e15:
        return ns / SECOND_NS
    return _seconds(_told(inner, ("request_time", "duration")))


def _first(named: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((named[name] for name in names if name in named), None)


def _last(value: object) -> str | None:
    """The last of several upstreams: who answered."""
    if not isinstance(value, str | int):
        return None
    return re.split(r"[,:]", str(value)[:100])[-1].strip() or None


def _word(value: object) -> str | None:
    return value[:40] if isinstance(value, str) else None
