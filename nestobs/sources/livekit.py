"""LiveKit as a source: the room list, the signalling handshake, the media connection. Three layers, three questions.

*Room*: `ListRooms`, which needs the server's key (livekit_http.py). *Signal*: the `/rtc` websocket with the joiner's
token; the first message is a JoinResponse. A 404 there is a proof of absence only where rooms are not made by joining
(`auto_create`), so whether the room existed is recorded apart. *Media*: the RTC library's ICE and DTLS, in a process of
its own (media/), whose loss is a `probe_error`. It makes up to four tries inside one connect and does not expose them:
the row says so in `detail`.

A visit can do harm (the last to leave starts LiveKit's departure timeout; a second one under the same identity throws
the first out), so there are two questions that visit nobody: `inside`, who is there, and `validate`, whether a token
would be let in.

The room that a JoinResponse names is compared with the one asked for. A room whose sid changed was made anew: the row
says which it was before. Tokens and keys appear in no row: the signalling URL, which carries the token, is never shown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from functools import partial
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

from nestobs.errors import UsageError
from nestobs.observation import reasons
from nestobs.observation.detail import detail, facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Source
from nestobs.sources.dial import read_url, trust
from nestobs.sources.failures import Judgement, absent, unproved
from nestobs.sources.livekit_http import ALIVE_S, UNREACHED, Access, LiveKitHttp, NotSaid
from nestobs.sources.livekit_words import scrubbed
from nestobs.sources.media import MediaWorker, WorkerLostError, has_library
from nestobs.sources.vantage import Trace, Vantage
from nestobs.sources.visit import Entry, Session, by_media, by_signal

RTC_TRIES: Final = 4
TAKE_OUT_S: Final = 2.0
REMEMBERED_ROOMS: Final = 10_000
LOOK_S, DOUBT_S = 1.0, 5.0
"""Whether LiveKit is there is looked up at most so often, and doubted so long after it was not."""

STAND_IN: Final = "stand-in"
"""What the lab's stand-in calls its version: it signals, and carries no media."""


def signal_url(text: str) -> str:
    """`ws://` or `wss://` from what an operator, an event or the API gives; `wss+livekit` means wss.

    Raises UsageError when it is no such URL.
    """
    schemes = {"wss+livekit": "wss", "ws+livekit": "ws", "https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}
    scheme, separator, rest = text.partition("://")
    if scheme not in schemes or not separator:
        raise UsageError(f"the LiveKit address {text[:80]!r} is not a URL: write wss://HOST")
    plain = f"{schemes[scheme]}://{rest}"
    try:
        read_url(plain)
    except UsageError as error:
        raise UsageError(f"LiveKit: {error}; write wss://HOST") from None
    parts = urlsplit(plain)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


class LiveKit:
    """One LiveKit server seen from one vantage. Without `key` and `secret` all but the room list works.

    `carries_media` is false without the RTC library, and once a server has said that it is a stand-in.
    """

    def __init__(
        self,
        vantage: Vantage,
        url: str,
        *,
        key: str = "",
        secret: str = "",
        timeout_s: float = 10.0,
    ) -> None:
        self.url = signal_url(url)
        self.timeout_s = timeout_s
        self.lists_rooms = bool(key and secret)
        self.carries_media = self._has_library = has_library()
        self._vantage = vantage
        self._tls = trust(read_url(self.url))
        self._http = LiveKitHttp(self.url.replace("ws", "http", 1), Access(key, secret), self._tls, vantage.clock)
        self._sids: OrderedDict[str, str] = OrderedDict()
        self._media: MediaWorker | None = None
        self._looking = asyncio.Lock()
        self._looked_at, self._down = 0, (0, "")

    async def __aenter__(self) -> LiveKit:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._media is not None:
                await self._media.release()
        finally:
            await self._http.close()

    async def rooms(self, trace: Trace, *, operation: Operation = Operation.ROOMS, **options: Any) -> Observation:
        """Ask whether the server lists `trace.room`. Needs the key. READ_BACK: of what we made, and no layer."""
        sent_at = self._vantage.clock.now()
        found: dict[str, Any]
        try:
            listed = await self._http.rooms([trace.room], self.timeout_s)
        except NotSaid as error:
            found = _of(error)
        else:
            room = next((each for each in listed if each.name == trace.room), None)
            missing = absent("not in the room list")
            found = missing._asdict() if room is None else self._listed(trace, room)
        return self._row(trace, operation, sent_at, found, **options)

    def _listed(self, trace: Trace, room: Any) -> dict[str, Any]:
        facts = self._sid_facts("sid", trace.room, room.sid) | {"participants": room.num_participants}
        return {
            "outcome": Outcome.VISIBLE,
            **_made(room.creation_time * SECOND_NS),
            "detail": detail(**facts),
        }

    async def all_rooms(self) -> dict[str, int] | None:
        """Names of all rooms and their creation instants (ns UTC, whole seconds); None when it cannot be asked.

        For cleaning up; writes no row.
        """
        if not self.lists_rooms:
            return None
        try:
            listed = await self._http.rooms([], self.timeout_s)
        except NotSaid:  # of what it fails with there is no row
            return None
        return {room.name: room.creation_time * SECOND_NS for room in listed}

    async def inside(self, room: str) -> set[str] | None:
        """The identities of who is inside a room; None where it cannot be known. Writes no row."""
        if not self.lists_rooms:
            return None
        try:
            return await self._http.participants(room, self.timeout_s)
        except NotSaid:
            return None

    async def down(self) -> str:
        """Why LiveKit could not be reached at about this instant, in words; "" where it could. Writes no row.

        An API that asks LiveKit about its rooms answers 404 then, and has proved nothing.
        """
        clock = self._vantage.clock
        async with self._looking:
            if (began := clock.now()) - self._looked_at > LOOK_S * SECOND_NS:
                why = await self._http.alive()
                if why and self._vantage.watch.held(began, ALIVE_S) is not None:
                    return why  # by a timer that we held up ourselves: no more is judged by it
                self._looked_at = clock.now()
                self._down = (self._looked_at, why) if why else self._down
        at, why = self._down
        return why if clock.now() - at < DOUBT_S * SECOND_NS else ""

    async def delete(self, trace: Trace, **options: Any) -> Observation:
        """Delete `trace.room`: only for what we made, where the API did not. Needs the key."""
        sent_at, found = self._vantage.clock.now(), dict[str, Any](outcome=Outcome.ACCEPTED)
        try:
            await self._http.delete(trace.room, self.timeout_s)
        except NotSaid as error:
            found = _of(error)
        return self._row(trace, Operation.DELETE, sent_at, found, **options)

    async def validate(self, trace: Trace, token: str, *, not_visited: str, **options: Any) -> Observation:
        """Ask whether `token` would be let in, without going in: for a room that is not to be visited, and why.

        The row is the signal's: refused and absent are proofs as there, and LiveKit may be found down. Where the token
        would do, or what answers does not say, it is `probe_error`.
        """
        sent_at, found = self._vantage.clock.now(), dict[str, Any](detail=detail(validated=True))
        skipped = Judgement(Outcome.PROBE_ERROR, Failure.SKIPPED, FailureLayer.PROBER, not_visited)._asdict()
        try:
            await self._http.validate(token, self.timeout_s)
        except NotSaid as error:
            found = _of(error)
            if found["outcome"] is Outcome.UNKNOWN and error.status is not None and error.status < 500:
                skipped["reason"] += f" (and its token was not validated: {error.judgement.reason})"
                found |= skipped
        else:
            found |= skipped
        return self._row(trace, Operation.SIGNAL, sent_at, found, **options)

    async def signal(
        self, trace: Trace, token: str, *, timeout_s: float | None = None, **options: Any
    ) -> tuple[Observation, Session | None]:
        """Open the signalling socket with `token`. The session, still open, is None unless `visible`."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        clock = self._vantage.clock
        sent_at = clock.now()
        how: dict[str, Any] = {"tls": self._tls, "clock": clock, "timeout_s": timeout_s}
        entry = await by_signal(self.url, token, **how)
        found, session = await self._entered(trace, entry)
        return self._row(trace, Operation.SIGNAL, sent_at, found, timeout_s=timeout_s, **options), session

    async def expect_media(self) -> None:
        """Wait until media can be connected, so that no interval holds what it takes to start the RTC library."""
        if self.carries_media:
            with contextlib.suppress(WorkerLostError):  # a row of `media` says so
                await self._worker().ready()

    async def media(
        self, trace: Trace, token: str, *, timeout_s: float | None = None, **options: Any
    ) -> tuple[Observation, Session | None]:
        """Connect media with the RTC library. The session, still open, is None unless `visible`."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        clock, take_out = self._vantage.clock, partial(self._take_out, token)
        sent_at = clock.now()
        how: dict[str, Any] = {"clock": clock, "timeout_s": timeout_s, "take_out": take_out}
        entry = await by_media(self.url, token, self._worker(), **how)
        found, session = await self._entered(trace, entry)
        found["detail"] = detail(**facts_of(found.get("detail")), **_media_facts(entry))
        found |= {"lag_s": entry.lag_s, "received_at": entry.ended_at}
        sent_at = entry.began_at or sent_at
        return self._row(trace, Operation.MEDIA, sent_at, found, timeout_s=timeout_s, **options), session

    def _worker(self) -> MediaWorker:
        if self._media is None:
            self._media = MediaWorker.held()
        return self._media

    async def _take_out(self, token: str) -> None:
        """End the visit that the media worker was lost in, and which LiveKit would hold for 20 s or more: who enters
        under the same identity takes its place, and leaves."""
        entry = await by_signal(self.url, token, tls=self._tls, clock=self._vantage.clock, timeout_s=TAKE_OUT_S)
        if entry.session is not None:
            await entry.session.close()

    async def _entered(self, trace: Trace, entry: Entry) -> tuple[dict[str, Any], Session | None]:
        """The columns of a visit, and its session where it is `visible`. One that led into another room than the one
        asked for is ended at once."""
        found: dict[str, Any] = entry.judgement._asdict() | {"status": entry.status}
        if entry.session is None:
            return found, None
        if entry.version:
            self.carries_media = self._has_library and entry.version != STAND_IN
            found["software"] = f"livekit {entry.version}"[:80]
        if entry.room != trace.room:
            await entry.session.close()
            other = f"LiveKit let us into {scrubbed(entry.room)[:80]!r}, which is {reasons.OTHER_ROOM}"
            return found | unproved(Failure.UNEXPECTED, other, FailureLayer.SIGNAL)._asdict(), None
        sids = self._sid_facts("room_sid", trace.room, entry.room_sid)
        found |= _made(entry.room_made_at)
        found["detail"] = detail(**sids, participant_sid=entry.participant_sid or None)
        return found, entry.session if found["outcome"] is Outcome.VISIBLE else None

    def _sid_facts(self, name: str, room: str, sid: str) -> dict[str, object]:
        """A room's sid, and the one it had when last seen, where that was another: the room was made anew."""
        before = self._sids.pop(room, sid)
        self._sids[room] = sid or before
        if len(self._sids) > REMEMBERED_ROOMS:
            self._sids.popitem(last=False)
        return {name: sid, "earlier_sid": before if sid and before and before != sid else None}

    def _row(
        self, trace: Trace, operation: Operation, sent_at: int, found: dict[str, Any], **options: Any
    ) -> Observation:
        """Write what was found now. `options`: other fields of the row, `timeout_s` where it is not the usual one."""
        now = self._vantage.clock.now()
        row = self._vantage.record(
            trace,
            source=Source.LIVEKIT,
            target=self.url,
            operation=operation,
            sent_at=sent_at,
            **{"timeout_s": self.timeout_s, **options, **found, "received_at": found.get("received_at") or now},
        )
        if row.failure in UNREACHED and row.outcome is Outcome.UNKNOWN:
            self._down = now, row.reason
        return row


def _made(at: int) -> dict[str, Any]:
    """When a room was made, ns, as the server's own stamp: whole seconds."""
    return {"remote_at": at, "remote_grain_s": 1.0} if 0 < at < 2**63 else {}


def _of(error: NotSaid) -> dict[str, Any]:
    return error.judgement._asdict() | {"status": error.status}


def _media_facts(entry: Entry) -> dict[str, object]:
    return {"tries_inside_at_most": RTC_TRIES, "over": entry.over or None, "worker_lag_s": entry.lag_s or None}
