"""LiveKit's webhooks: what the server says of its rooms, when it gets round to it.

Webhooks come late, twice, out of order or not at all, with stamps of whole seconds. So they are evidence and a reason
to look, and never a layer: a row is `accepted`, not `visible`, and the absence of a webhook proves nothing. Rows stand
in the order of receipt; the server's own stamp is kept beside it as `remote_at`. A webhook counts when its token is
signed with the API secret and carries the sha256 of the body; of anything else not one byte of the body is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeAlias

from aiohttp import web

from nestobs.errors import NestobsError, UsageError
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Source
from nestobs.sources.failures import Judgement, ours, words_of
from nestobs.sources.livekit_http import claims_of
from nestobs.sources.vantage import NO_TRACE, Trace, Vantage

BODY_BYTES: Final = 64 * 1024
"""A larger body is answered 413: LiveKit's own are a few kilobytes."""

BODY_S: Final = 10.0
REMEMBERED_IDS: Final = 10_000
IDENTITY_CHARACTERS: Final = 12


_Span: TypeAlias = tuple[int, int]  # when a request began to arrive, and when its body was whole


class _Unsigned(Exception):
    """Token or hash does not fit; the message says which, without a byte of the body."""


@dataclass(frozen=True, slots=True)
class _Said:
    """One verified webhook. `created_at`: ns UTC on the server's clock, whole seconds; 0 when it gives none."""

    event_id: str
    event: str
    room: str
    created_at: int
    facts: dict[str, object]


class Webhooks:
    """Receives LiveKit's webhooks at `url` while entered: one row each, once per event id (the last 10 000 are known).

    `port` 0 takes a free one. `trace_of` gives the trace of a room by its name. `on_event` is called after the row with
    the event's name, the room's name ("" for events about no room) and the receipt (ns UTC); an error in either is a
    `probe_error` row. Entering raises UsageError when the address cannot be had or key or secret are missing. An error
    of the sink (a full disk) is answered 500, so that LiveKit sends again, and raised on leaving.
    """

    def __init__(
        self,
        vantage: Vantage,
        *,
        api_key: str,
        api_secret: str,
        trace_of: Callable[[str], Trace],
        on_event: Callable[[str, str, int], None] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = "/webhook",
    ) -> None:
        if not api_key or not api_secret:
            raise UsageError("webhooks cannot be verified without LiveKit's API key and secret: give both")
        self._vantage, self._clock = vantage, vantage.clock
        self._key, self._secret = api_key, api_secret
        self._trace_of, self._on_event = trace_of, on_event
        self._host, self._port, self._path = host, port, "/" + path.lstrip("/")
        self._known: OrderedDict[str, None] = OrderedDict()
        self._runner: web.AppRunner | None = None
        self._receiver: Any = None
        self._broken: NestobsError | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Where LiveKit is to send to; "" before entering."""
        return self._url

    async def __aenter__(self) -> Webhooks:
        from livekit import api

        self._receiver = api.WebhookReceiver(api.TokenVerifier(self._key, self._secret))
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_post(self._path, self._receive)
        # LiveKit packs nothing: a packed body is left as it is, so that it cannot grow, and fails its hash
        silent = logging.Logger("webhooks", logging.CRITICAL + 1)  # what is no HTTP would be repeated on stderr
        runner = web.AppRunner(app, access_log=None, logger=silent, shutdown_timeout=1.0, auto_decompress=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except (OSError, OverflowError, UnicodeError) as error:
            await runner.cleanup()
            raise UsageError(
                f"webhooks cannot be received at {self._host}:{self._port} ({words_of(error)}): "
                "give a port that is free, or 0 to take any, and an address of this machine"
            ) from None
        self._runner = runner
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self._url = f"http://{shown}:{runner.addresses[0][1]}{self._path}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        if error is None and self._broken is not None:
            raise self._broken

    async def _receive(self, request: web.Request) -> web.Response:
        began = self._clock.now()
        try:
            async with asyncio.timeout(BODY_S):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            self._refused((began, self._clock.now()), 413, Failure.UNEXPECTED, f"a body above {BODY_BYTES} bytes")
            return web.Response(status=413)
        except TimeoutError:
            self._refused((began, self._clock.now()), 408, Failure.TIMEOUT, f"no whole body within {BODY_S:g} s")
            return web.Response(status=408)
        when = began, self._clock.now()
        try:
            return web.Response(status=self._take(when, body, request.headers.get("Authorization", "")))
        except NestobsError as error:
            self._broken = error
            return web.Response(status=500)

    def _take(self, when: _Span, body: bytes, token: str) -> int:
        """Verify and write: the HTTP status to answer."""
        try:
            said = self._verified(body, token)
        except _Unsigned as error:
            self._refused(when, 401, Failure.BAD_SIGNATURE, str(error))
            return 401
        except ValueError as error:
            self._refused(when, 400, Failure.UNEXPECTED, str(error))
            return 400
        if said.event_id not in self._known:
            self._accepted(when, said)
            self._remember(said.event_id)
        return 200

    def _verified(self, body: bytes, token: str) -> _Said:
        """Raises _Unsigned, or ValueError for a signed body that is no webhook."""
        from google.protobuf.json_format import ParseError

        try:
            found = self._receiver.receive(body.decode(), token.removeprefix("Bearer ").strip())
        except ParseError:
            raise ValueError("signed, but not a webhook event") from None
        except Exception as error:  # the library raises bare Exception for a wrong hash
            raise _Unsigned(_why_not(error, token, self._clock.now() // SECOND_NS)) from None
        return _read(found)

    def _accepted(self, when: _Span, said: _Said) -> None:
        at = when[1]
        stamp = {"remote_at": said.created_at, "remote_grain_s": 1.0} if said.created_at else {}
        trace = self._guarded(at, lambda: self._trace_of(said.room)) if said.room else NO_TRACE
        trace = trace or Trace(room=said.room)
        facts = detail(event=said.event, event_id=said.event_id, **said.facts)
        self._row(trace, when, outcome=Outcome.ACCEPTED, status=200, detail=facts, **stamp)
        if (call := self._on_event) is not None:
            self._guarded(at, lambda: call(said.event, said.room, at))

    def _remember(self, event_id: str) -> None:
        if event_id:
            self._known[event_id] = None
        if len(self._known) > REMEMBERED_IDS:
            self._known.popitem(last=False)

    def _guarded(self, at: int, call: Callable[[], Any]) -> Any:
        """What a callback returns; None and a row when it fails, since LiveKit must not be asked to send again."""
        try:
            return call()
        except NestobsError:
            raise
        except Exception as error:
            self._row(NO_TRACE, (at, at), **ours("our own callback failed", error)._asdict())
            return None

    def _refused(self, when: _Span, status: int, failure: Failure, reason: str) -> None:
        why = Judgement(Outcome.REFUSED, failure, FailureLayer.HTTP, reason)
        self._row(NO_TRACE, when, status=status, **why._asdict())

    def _row(self, trace: Trace, when: _Span, **fields: Any) -> Observation:
        return self._vantage.record(
            trace,
            source=Source.WEBHOOK,
            target=self._url,
            operation=Operation.RECEIVE,
            sent_at=when[0],
            received_at=when[1],
            **fields,
        )


_WHY_NOT: Final = {
    "ImmatureSignatureError": "signed for later: LiveKit's clock is ahead of ours by {ahead}, or ours is slow",
    "ExpiredSignatureError": "signed for earlier, it ran out {ago} ago: LiveKit's clock is slow, or this came late",
    "InvalidSignatureError": "signed with another secret than ours",
    "InvalidIssuerError": "signed under another API key than ours",
    "DecodeError": "its token cannot be read",
    "Exception": "the signature does not hold: {said}",  # the library's own two, without a byte of the body
}
"""By the type of what the library raises; a token's stamps are looked at only where its signature held."""


def _why_not(error: Exception, token: str, now_s: int) -> str:
    """Why a webhook's token does not count."""
    claims, kind = claims_of(token.removeprefix("Bearer ").strip()), type(error).__name__
    begins, ended = claims.get("nbf"), claims.get("exp")
    ahead = f"{begins - now_s} s" if isinstance(begins, int) and 0 <= begins < 10**12 else "some time"
    ago = f"{now_s - ended} s" if isinstance(ended, int) and 0 <= ended < 10**12 else "some time"
    words = _WHY_NOT.get(kind, f"the signature does not hold: {kind}")
    return words.format(ahead=ahead, ago=ago, said=error)


def _read(found: Any) -> _Said:
    """What matters of a WebhookEvent. Identities are cut short: whose they are is not ours to keep."""
    room = found.room.name or found.egress_info.room_name or found.ingress_info.room_name
    identity = found.participant.identity
    short = identity if len(identity) <= IDENTITY_CHARACTERS else identity[:IDENTITY_CHARACTERS] + "…"
    created_at = found.created_at * SECOND_NS
    return _Said(
        event_id=found.id,
        event=found.event,
        room=room,
        created_at=created_at if 0 < created_at < 2**63 else 0,
        facts={
            "room_sid": found.room.sid or None,
            "participant_sid": found.participant.sid or None,
            "identity": short or None,
            "dropped_before": found.num_dropped or None,
        },
    )
