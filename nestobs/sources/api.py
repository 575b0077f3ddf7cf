"""The Nests API as a source: one HTTP request, one observation.

Each request is signed afresh (NIP-98), tried once (transport retries 0, no redirects followed), and recorded whatever
came of it: status, timing by phase, the answer's own Date (whole seconds), cache and rate-limit headers. `sent_at` is
the instant the request's head was about to be written, `received_at` the instant its answer was whole.

What an answer proves is proof.py's to say, by the form in which this API answers. The body of a 200 is never stored,
since it may hold a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from nestobs.errors import UsageError
from nestobs.join.budget import BURST_S, Limiter, Ration
from nestobs.join.fields import instant, number
from nestobs.join.rate_limits import pause_s
from nestobs.nostr import Keys, http_auth, json_object
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Role, Source
from nestobs.sources.caching import GRAIN_S, ServerClock, cache_fields, copied
from nestobs.sources.clock import Clock
from nestobs.sources.failures import Judgement, intended, named
from nestobs.sources.http_answer import PLAIN, HttpAnswer, receive
from nestobs.sources.proof import Form, Heard, find, judge, told_by_health, told_by_info
from nestobs.sources.vantage import NO_TRACE, Trace, Vantage

__all__ = ["Answer", "Api", "judge"]

IN_FLIGHT: Final = 16
"""Polls of one API that may be under way at once from one vantage; further ones wait, and their rows show it by
`planned_at`. httpcore's pool slows with the square of this, so it is kept small. Joins and deeds never wait here."""
PATIENCE_S: Final = BURST_S
"""How long a request waits for its turn in a budget that is spent."""

OFF_S: Final = 5.0
"""A clock further from the server's is said to be off; the doctor calls it bad."""

NOBODYS: Final = "nestobs-what-time-is-it"
"""A room that nobody makes."""

_FACT_CHARACTERS: Final = 200
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

    @property
    def room(self) -> str:
        """The room that the answer to a PUT names; "" when it made none that we know of."""
        if self.row.outcome is not Outcome.ACCEPTED or self.body is None:
            return ""
        return str(self.body.get("roomId") or "")

    @property
    def streaming(self) -> str:
        """The LiveKit that the answer to a PUT names; "" when it names none."""
        named = None if self.body is None else self.body.get("endpoints")
        named = named if isinstance(named, list) else []
        return next((each for each in named if isinstance(each, str) and "livekit" in each), "")


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

    livekit_down: why LiveKit cannot be reached just now, "" where it can; unset where no LiveKit is known. ration: how
    many requests may be asked, where that is bounded beyond the budget. Signatures bear the API's time where ours is
    surely apart from it.
    """

    def __init__(self, vantage: Vantage, url: str, limiter: Limiter, *, timeout_s: float = 10.0) -> None:
        _check(url)
        self.url = url.rstrip("/")
        self.limiter = limiter
        self.timeout_s = timeout_s
        self.livekit_down: Callable[[], Awaitable[str]] | None = None
        self.ration: Ration | None = None
        self._vantage = vantage
        self._form, self._clock = Form(), ServerClock()
        self._told: tuple[int, int, int, float] | None = None
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

    async def time(self, **options: Any) -> Answer:
        """GET /{room}/info of a room that nobody has: what counts is when it is answered. Not a layer."""
        return await self._ask(
            Operation.INFO, "GET", self._of(NOBODYS, "/info"), NO_TRACE, recorded=Operation.HEALTH, **options
        )

    async def info(self, trace: Trace, **options: Any) -> Answer:
        """GET /{room}/info."""
        return await self._ask(Operation.INFO, "GET", self._of(trace.room, "/info"), trace, **options)

    async def read_back(self, trace: Trace, **options: Any) -> Answer:
        """GET /{room}/info, of what we made: whether the record is there. Not a layer."""
        url = self._of(trace.room, "/info")
        return await self._ask(Operation.INFO, "GET", url, trace, recorded=Operation.READ_BACK, **options)

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
        recorded: Operation | None = None,
        **options: Any,
    ) -> Answer:
        common: dict[str, Any] = {
            "source": Source.API,
            "target": self.url,
            "operation": recorded or operation,
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
                if not await vantage.committed() and operation is not Operation.DELETE:
                    return self._not_asked(trace, common, "what it would make could not be noted", Failure.SKIPPED)
            headers = dict(_ASKING) if body is None else {**_ASKING, "content-type": "application/json"}
            moved_s = 0
            if keys is not None:
                now = vantage.clock.now()
                moved_s = (vantage.theirs(now) - now) // SECOND_NS
                created_at = now // SECOND_NS + moved_s
                headers["authorization"] = http_auth(keys, url=url, method=method, created_at=created_at, body=body)
            asked: dict[str, Any] = {"method": method, "url": url, "headers": headers, "content": body}
            return await self._once(trace, operation, common, moved_s, **asked)

    async def _kept_back(self, *, urgent: bool) -> str | None:
        """Count a request, waiting up to PATIENCE_S for its turn; why it is kept back, None where it may go."""
        if self.ration is not None and not self.ration.take(urgent=urgent):
            return "the requests that this is to do with are spent"
        clock = self._vantage.clock
        patience = clock.now() + round(PATIENCE_S * SECOND_NS)
        while not self.limiter.take(now := clock.now(), urgent=urgent):
            if (turn := self.limiter.opens_at(now, urgent=urgent)) > patience:
                return self.limiter.why_shut(now)
            await clock.until(turn)
        return None

    def _not_asked(self, trace: Trace, common: dict[str, Any], why: str, failure: Failure = Failure.BUDGET) -> Answer:
        """The row of a request that was kept back; where the server itself asked for a pause, how long it goes on."""
        now = self._vantage.clock.now()
        judgement = Judgement(Outcome.PROBE_ERROR, failure, FailureLayer.PROBER, f"not asked: {why}")
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

    async def _once(
        self,
        trace: Trace,
        operation: Operation,
        common: dict[str, Any],
        moved_s: int,
        *,
        headers: dict[str, str],
        **request: Any,
    ) -> Answer:
        """One request, whose row bears the id it goes out under. moved_s: by how much its stamp is not our own time."""
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
            wait_s = pause_s(answer.status, answer.headers, received_at)
            if answer.broken is None:
                sent_at = phases.at.get("send_request_headers.started", started_at)
                judgement = self._proved(operation, answer, decoded, (sent_at, received_at))
                judgement = await self._doubted(operation, judgement)
            else:
                judgement = named(answer.broken, stage=FailureLayer.HTTP, timeout_s=timeout_s, awaited="whole answer")
            facts = _facts(operation, answer.headers, decoded, wait_s)
            columns = _columns(answer) | {"connection_reused": "connect_tcp.started" not in phases.at}
        row = vantage.record(
            trace,
            observation_id=request_id,
            began_at=started_at,
            sent_at=phases.at.get("send_request_headers.started", started_at),
            received_at=received_at,
            detail=detail(phases=phases.spans_s(), **facts, **({"stamp_moved_s": moved_s} if moved_s else {})),
            **judgement._asdict(),
            **columns,
            **common,
        )
        return Answer(row, decoded, wait_s)

    def _proved(
        self, operation: Operation, answer: HttpAnswer, body: Mapping[str, Any] | None, span: tuple[int, int]
    ) -> Judgement:
        """What a whole answer proves, in the light of those before it; learns from it. span: asked, received (ns)."""
        sent_at, received_at = span
        remote_at = instant(answer.headers.get("date"))
        heard = Heard(answer.status, answer.headers, body, answer.content[:4_096].decode("utf-8", "replace"))
        late_s = self._clock.late_s(remote_at, sent_at)
        judgement, sure, worded = find(operation, heard, self._form, late_s=late_s)
        if judgement.failure is not Failure.UNEXPECTED:
            self._clock.learn(remote_at, received_at)
        if sure and not copied(answer.headers):
            self._form.learn(answer.headers, worded=worded)
        if judgement.outcome is Outcome.ABSENT or sure or operation is Operation.HEALTH:
            self._dated(operation, judgement, heard, span, None if late_s else remote_at)
        asked_s, wait_s = number(answer.headers.get("retry-after")), pause_s(answer.status, answer.headers, received_at)
        if asked_s is not None and wait_s is not None and asked_s > wait_s:
            bounded = f"its Retry-After of {asked_s:g} s is taken as {wait_s:g} s"
            return judgement._replace(reason=f"{judgement.reason}; {bounded}")
        if answer.status == 401 and remote_at is not None and (off := _off(sent_at, received_at, remote_at)):
            return judgement._replace(reason=f"{judgement.reason}; {off}")
        return judgement

    def _dated(
        self, operation: Operation, judgement: Judgement, heard: Heard, span: tuple[int, int], date: int | None
    ) -> None:
        """Relate our clock to the API's by an answer of its own; and by the time that its /health tells, which counts
        where it agrees with those, since anything may answer there. A copy tells nothing."""
        if copied(heard.headers):
            return
        if operation is not Operation.HEALTH:
            if date is not None:
                self._vantage.relation.learn(*span, date)
        elif judgement.outcome is Outcome.ACCEPTED and (told := told_by_health(heard.body)) is not None:
            self._told = (*span, *told)
        relation = self._vantage.relation
        alone = date is None and self._form.marks is not None and not self._form.contradicts(heard.headers)
        if self._told is not None and (relation.known or alone):
            sent_at, received_at, stamp, grain_s = self._told
            relation.learn(sent_at, received_at, stamp, grain_s=grain_s, late_s=0.0, sure=not relation.known)
            self._told = None


def _off(sent_at: int, received_at: int, remote_at: int) -> str:
    """By how much our clock differs from the server's Date, in words; "" where it does not matter."""
    behind_s, ahead_s = (remote_at - received_at) / SECOND_NS, (sent_at - remote_at) / SECOND_NS - GRAIN_S
    off_s, how = max((behind_s, "behind"), (ahead_s, "ahead of"))
    return f"our clock is {off_s:.0f} s {how} the server's: set it (NTP)" if off_s > OFF_S else ""


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


def _facts(
    operation: Operation, headers: Mapping[str, str], body: Mapping[str, Any] | None, wait_s: float | None
) -> dict[str, object]:
    """What may be kept of an answer: never a token. `retry-after` is in seconds, in whatever form it came."""
    facts: dict[str, object] = {
        name.replace("ratelimit-", ""): headers[name][:_FACT_CHARACTERS]
        for name in ("ratelimit", "ratelimit-policy", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
        if name in headers
    }
    if wait_s is not None:
        facts["retry-after"] = f"{wait_s:g}"
    if operation in (Operation.CREATE, Operation.RESTART) and body is not None and isinstance(body.get("roomId"), str):
        facts["room"] = body["roomId"][:_FACT_CHARACTERS]
    if operation is Operation.INFO and body is not None:
        facts["info"] = told_by_info(body)
    return facts


def _columns(answer: HttpAnswer) -> dict[str, Any]:
    """What a row says of an answer besides what it proves."""
    headers = answer.headers
    remote_at, cached = instant(headers.get("date")), cache_fields(headers)
    return {
        "status": answer.status,
        "remote_at": remote_at,
        "remote_grain_s": None if remote_at is None else 1.0,
        "cache": json.dumps(cached) if cached else "",
        "software": headers.get("server", "")[:80] or headers.get("x-powered-by", "")[:80],
    }
