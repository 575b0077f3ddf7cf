"""The Nests API as a source: one HTTP request, one observation.

Each request is signed afresh (NIP-98), tried once (transport retries 0, no redirects followed), and recorded whatever
came of it: status, timing by phase, the answer's own Date (whole seconds), cache and rate-limit headers. `sent_at` is
the instant the request's head was about to be written, `received_at` the instant its answer was whole.

What an answer proves: 200 is `visible`; a 404 from the API itself is `absent`; a 404 for an unknown path, a web
server's page or a cache's copy proves nothing. The body of a 200 is never stored, since it may hold a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from nestobs.errors import UsageError
from nestobs.join.budget import BURST_S, Limiter
from nestobs.join.rate_limits import pause_s
from nestobs.nostr import Keys, http_auth, json_object
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Role, Source
from nestobs.sources.clock import Clock
from nestobs.sources.failures import Judgement, answered, intended, named
from nestobs.sources.http_answer import PLAIN, HttpAnswer, receive
from nestobs.sources.vantage import NO_TRACE, Trace, Vantage

IN_FLIGHT: Final = 16
"""Polls of one API that may be under way at once from one vantage; further ones wait, and their rows show it by
`planned_at`. httpcore's pool slows with the square of this, so it is kept small. Joins and deeds never wait here."""
PATIENCE_S: Final = BURST_S
"""How long a request waits for its turn in a budget that is spent."""

_CACHE_HEADERS: Final = ("age", "x-cache", "cf-cache-status", "x-cache-hits", "cache-control", "etag", "via")
_ASKING: Final = {"user-agent": "nestobs/0.1", "accept": "application/json", **PLAIN}
_ASKS_LIVEKIT: Final = frozenset({Operation.JOIN, Operation.GUEST})
_DEEDS: Final = frozenset({Operation.CREATE, Operation.RESTART, Operation.DELETE})


@dataclass(frozen=True, slots=True)
class Answer:
    """An observation and what it may not hold: the decoded body. `body` is None when it is not a JSON object."""

    row: Observation
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    retry_after_s: float | None = None

    @property
    def token(self) -> object:
        """Whatever stands under `token`."""
        return None if self.body is None else self.body.get("token")


@dataclass(slots=True)
class _Phases:
    """Instants (ns) collected from httpx's trace events, by name."""

    clock: Clock
    at: dict[str, int] = field(default_factory=dict)

    async def note(self, name: str, _: Mapping[str, Any]) -> None:
        """httpx's trace extension."""
        self.at[name.split(".", 1)[1]] = self.clock.now()

    def stage(self) -> FailureLayer:
        """How far the request has come."""
        if "start_tls.failed" in self.at:
            return FailureLayer.TLS
        connected = "connect_tcp.complete" in self.at or "connect_tcp.started" not in self.at
        return FailureLayer.HTTP if connected else FailureLayer.TCP

    def spans_s(self) -> dict[str, float]:
        """Seconds that each phase took which began and ended."""
        ends = {name: (self.at.get(first), self.at.get(last)) for name, (first, last) in _SPANS.items()}
        return {
            name: round((end - begin) / SECOND_NS, 6)
            for name, (begin, end) in ends.items()
            if begin is not None and end is not None
        }


_SPANS: Final = {
    "tcp_s": ("connect_tcp.started", "connect_tcp.complete"),
    "tls_s": ("start_tls.started", "start_tls.complete"),
    "send_s": ("send_request_headers.started", "send_request_body.complete"),
    "wait_s": ("send_request_body.complete", "receive_response_headers.complete"),
    "body_s": ("receive_response_headers.complete", "receive_response_body.complete"),
}


class Api:
    """One Nests API seen from one vantage. `url` is its base, `https://HOST/api/v1/nests`. Use as a context manager.

    livekit_down: why LiveKit cannot be reached just now, "" where it can; unset where no LiveKit is known.
    """

    def __init__(self, vantage: Vantage, url: str, limiter: Limiter, *, timeout_s: float = 10.0) -> None:
        _check(url)
        self.url = url.rstrip("/")
        self.limiter = limiter
        self.timeout_s = timeout_s
        self.livekit_down: Callable[[], Awaitable[str]] | None = None
        self._vantage = vantage
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._transport = httpx.AsyncHTTPTransport(
            retries=0,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=IN_FLIGHT, keepalive_expiry=10.0),
        )

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    # one method an operation; each writes one row, or two for a deed (intent first)

    async def health(self, **options: Any) -> Answer:
        """GET /health, beside /api. Not a layer."""
        origin = urlsplit(self.url)
        prefix = origin.path.split("/api/")[0] if "/api/" in origin.path else ""
        return await self._ask(
            Operation.HEALTH, "GET", f"{origin.scheme}://{origin.netloc}{prefix}/health", NO_TRACE, **options
        )

    async def info(self, trace: Trace, **options: Any) -> Answer:
        """GET /{room}/info."""
        return await self._ask(Operation.INFO, "GET", self._of(trace.room, "/info"), trace, **options)

    async def join(self, trace: Trace, keys: Keys, **options: Any) -> Answer:
        """GET /{room} with NIP-98."""
        return await self._ask(Operation.JOIN, "GET", self._of(trace.room), trace, keys=keys, **options)

    async def guest(self, trace: Trace, **options: Any) -> Answer:
        """GET /{room}/guest."""
        return await self._ask(Operation.GUEST, "GET", self._of(trace.room, "/guest"), trace, **options)

    async def create(self, trace: Trace, keys: Keys, relays: tuple[str, ...], **options: Any) -> Answer:
        """PUT /: makes a room. An answer that does not come is `unknown`; it is never repeated blindly."""
        body = json.dumps({"relays": list(relays)}).encode()
        return await self._ask(Operation.CREATE, "PUT", self.url, trace, keys=keys, body=body, **options)

    async def restart(self, trace: Trace, keys: Keys, **options: Any) -> Answer:
        """POST /{room}/restart."""
        return await self._ask(Operation.RESTART, "POST", self._of(trace.room, "/restart"), trace, keys=keys, **options)

    async def delete(self, trace: Trace, keys: Keys, **options: Any) -> Answer:
        """DELETE /{room}."""
        return await self._ask(Operation.DELETE, "DELETE", self._of(trace.room), trace, keys=keys, **options)

    def _of(self, room: str, tail: str = "") -> str:
        return f"{self.url}/{quote(room, safe='')}{tail}"

    async def _ask(
        self,
        operation: Operation,
        method: str,
        url: str,
        trace: Trace,
        *,
        keys: Keys | None = None,
        body: bytes | None = None,
        role: Role = Role.OBSERVER,
        timeout_s: float | None = None,
        attempt_group: str = "",
        **options: Any,
    ) -> Answer:
        common: dict[str, Any] = {
            "source": Source.API,
            "target": self.url,
            "operation": operation,
            "role": role,
            "timeout_s": self.timeout_s if timeout_s is None else timeout_s,
            "attempt_group": attempt_group or self._vantage.new_id(),
            **options,
        }
        waiting = self._places if role is Role.OBSERVER else contextlib.nullcontext()
        async with waiting:
            vantage = self._vantage
            if (why := await self._kept_back(urgent=operation is Operation.DELETE)) is not None:
                return self._not_asked(trace, common, why)
            if operation in _DEEDS:
                vantage.record(trace, sent_at=vantage.clock.now(), **common, **intended("ask")._asdict())
                await vantage.committed()
            headers = dict(_ASKING) if body is None else {**_ASKING, "content-type": "application/json"}
            if keys is not None:
                created_at = vantage.clock.now() // SECOND_NS
                headers["authorization"] = http_auth(keys, url=url, method=method, created_at=created_at, body=body)
            return await self._once(trace, common, method=method, url=url, headers=headers, content=body)

    async def _kept_back(self, *, urgent: bool) -> str | None:
        """Count a request, waiting up to PATIENCE_S for its turn; why it is kept back, None where it may go."""
        clock = self._vantage.clock
        patience = clock.now() + round(PATIENCE_S * SECOND_NS)
        while not self.limiter.take(now := clock.now(), urgent=urgent):
            if (turn := self.limiter.opens_at(now, urgent=urgent)) > patience:
                return self.limiter.why_shut(now)
            await clock.until(turn)
        return None

    def _not_asked(self, trace: Trace, common: dict[str, Any], why: str) -> Answer:
        """The row of a request that was kept back; where the server itself asked for a pause, how long it goes on."""
        now = self._vantage.clock.now()
        judgement = Judgement(Outcome.PROBE_ERROR, Failure.BUDGET, FailureLayer.PROBER, f"not asked: {why}")
        pause_s = (self.limiter.closed_until - now) / SECOND_NS
        row = self._vantage.record(trace, sent_at=now, **common, **judgement._asdict())
        return Answer(row, retry_after_s=pause_s if pause_s > 0 else None)

    async def _doubted(self, operation: Operation, judgement: Judgement) -> Judgement:
        """A "no" to a join proves nothing while LiveKit, which the API asks for it, cannot be reached."""
        if judgement.outcome is not Outcome.ABSENT or operation not in _ASKS_LIVEKIT or self.livekit_down is None:
            return judgement
        if not (why := await self.livekit_down()):
            return judgement
        said = f"{judgement.reason}: proves nothing, since LiveKit cannot be reached ({why})"
        return Judgement(Outcome.UNKNOWN, Failure.UNREACHABLE, FailureLayer.SIGNAL, said)

    async def _once(self, trace: Trace, common: dict[str, Any], *, headers: dict[str, str], **request: Any) -> Answer:
        """One request, whose row bears the id it goes out under."""
        vantage, clock, timeout_s = self._vantage, self._vantage.clock, float(common["timeout_s"])
        request_id, phases = vantage.new_id(), _Phases(clock)
        headers["x-request-id"] = request_id
        started_at = clock.now()
        decoded, facts, columns, wait_s = None, {}, {}, None
        try:
            extensions = {"trace": phases.note}
            asked = httpx.Request(headers=headers, extensions=extensions, **request)
            answer = await receive(self._transport, asked, timeout_s=timeout_s)
        except Exception as error:  # whatever it is, it has a name
            received_at = clock.now()
            judgement = named(error, stage=phases.stage(), timeout_s=timeout_s)
        else:
            received_at = clock.now()
            self.limiter.learn(answer.headers, answer.status, received_at)
            decoded = json_object(answer.content)
            if answer.broken is None:
                judgement = judge(common["operation"], answer.status, answer.headers, decoded)
                judgement = await self._doubted(common["operation"], judgement)
            else:
                judgement = named(answer.broken, stage=FailureLayer.HTTP, timeout_s=timeout_s, awaited="whole answer")
            facts = _facts(common["operation"], answer.headers, decoded)
            columns = _columns(answer) | {"connection_reused": "connect_tcp.started" not in phases.at}
            wait_s = pause_s(answer.status, answer.headers, received_at)
        row = vantage.record(
            trace,
            observation_id=request_id,
            sent_at=phases.at.get("send_request_headers.started", started_at),
            received_at=received_at,
            detail=detail(phases=phases.spans_s(), **facts),
            **judgement._asdict(),
            **columns,
            **common,
        )
        return Answer(row, decoded, wait_s)


def _check(url: str) -> None:
    """Raise UsageError unless this can be an API's base. A password in it is never quoted."""
    remedy = "write https://HOST/api/v1/nests"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port or a host that is none
        raise UsageError(f"the API address is not a URL: {remedy}") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"the API address holds a user name or password, which would reach every row: {remedy}")
    if not usable or not url.isprintable() or " " in url:
        raise UsageError(f"the API address {url[:80]!r} is not a URL: {remedy}")


def judge(operation: Operation, status: int, headers: Mapping[str, str], body: Mapping[str, Any] | None) -> Judgement:
    """What an answer proves: outcome, failure, its layer, and the reason in words. Pure."""
    said = _said(body)
    if status == 404:
        return _judge_404(operation, headers, body, said)
    if 200 <= status < 300:
        return _judge_2xx(operation, body)
    return answered(status, said)


def _judge_404(
    operation: Operation, headers: Mapping[str, str], body: Mapping[str, Any] | None, said: str
) -> Judgement:
    if _from_cache(headers):
        return _unknown(Failure.CACHED, f"a cache's copy: {said or 'HTTP 404'}", FailureLayer.HTTP)
    if said == "Endpoint not found" or operation is Operation.HEALTH:
        return _unknown(Failure.WRONG_PATH, f"{said or 'no such path'}: check the API address")
    if body is None and "html" in headers.get("content-type", ""):
        return _unknown(Failure.UNEXPECTED, "a 404 page of a web server, not of the Nests API", FailureLayer.HTTP)
    return Judgement(Outcome.ABSENT, Failure.NOT_FOUND, FailureLayer.API, said or "HTTP 404")


def _judge_2xx(operation: Operation, body: Mapping[str, Any] | None) -> Judgement:
    if operation in (Operation.DELETE, Operation.HEALTH):
        return Judgement(Outcome.ACCEPTED)
    if body is None:
        return _unknown(Failure.UNEXPECTED, "the answer is not a JSON object")
    if operation in (Operation.CREATE, Operation.RESTART):
        if isinstance(body.get("roomId"), str) and body["roomId"]:
            return Judgement(Outcome.ACCEPTED)
        return _unknown(Failure.UNEXPECTED, "the answer names no roomId")
    token = body.get("token")
    if operation in (Operation.JOIN, Operation.GUEST) and not (isinstance(token, str) and token):
        return _unknown(Failure.BAD_TOKEN, f"the token is {_kind(token)}, not a string")
    return Judgement(Outcome.VISIBLE)


def _unknown(failure: Failure, reason: str, layer: FailureLayer = FailureLayer.API) -> Judgement:
    return Judgement(Outcome.UNKNOWN, failure, layer, reason)


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", type(None): "missing", str: "empty"}.get(type(value), "a number")


def _said(body: Mapping[str, Any] | None) -> str:
    for name in ("error", "message", "title", "detail"):
        if body is not None and isinstance(found := body.get(name), str):
            return found[:200]
    return ""


def _from_cache(headers: Mapping[str, str]) -> bool:
    age = headers.get("age", "0").strip()
    hit = f"{headers.get('x-cache', '')} {headers.get('cf-cache-status', '')}".lower()
    return (age.isdigit() and int(age) > 0) or "hit" in hit.split() or hit.strip().startswith("hit")


def _facts(operation: Operation, headers: Mapping[str, str], body: Mapping[str, Any] | None) -> dict[str, object]:
    """What may be kept of an answer: never a token."""
    facts: dict[str, object] = {
        name.replace("ratelimit-", ""): headers[name]
        for name in ("ratelimit-policy", "ratelimit-remaining", "ratelimit-reset", "retry-after")
        if name in headers
    }
    if operation is Operation.INFO and body is not None:
        keep = ("host", "status", "createdAt", "participantCount", "recording", "link")
        facts["info"] = {name: body[name] for name in keep if isinstance(body.get(name), str | int | float | bool)}
    return facts


def _columns(answer: HttpAnswer) -> dict[str, Any]:
    """What a row says of an answer besides what it proves."""
    headers = answer.headers
    remote_at = _date(headers.get("date"))
    cached = {name: headers[name][:100] for name in _CACHE_HEADERS if name in headers}
    return {
        "status": answer.status,
        "remote_at": remote_at,
        "remote_grain_s": None if remote_at is None else 1.0,
        "cache": json.dumps(cached) if cached else "",
        "software": headers.get("server", "")[:80] or headers.get("x-powered-by", "")[:80],
    }


def _date(text: str | None) -> int | None:
    if not text:
        return None
    try:
        return round(parsedate_to_datetime(text).timestamp()) * SECOND_NS
    except (ValueError, TypeError, OverflowError):
        return None
