"""What can be looked at without making anything: this machine, the store, and whether each part of a target answers.

A door that opens says nothing of the room behind it (room.py tries that). Each check is one line with its remedy.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from nestobs.collector.lookup import why_silent
from nestobs.collector.station import Station
from nestobs.diagnosis import Cause
from nestobs.errors import NestobsError
from nestobs.nostr import room_filter
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import Offset
from nestobs.observation.schema import Failure, FailureLayer, Observation, Outcome
from nestobs.sources.api import OFF_S
from nestobs.sources.media import has_library
from nestobs.sources.proof import UNTOLD
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store

State: TypeAlias = Literal["good", "bad", "note"]

NIP98_S: Final = 60.0
"""The narrowest window known within which a signature's time must lie."""

PATIENCE_S: Final = 5.0
"""For a connection, and for an answer."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. state: good, bad, or note (nothing broken, something to know). cause: where it is bad on the other
    side of the wire, an id of `diagnosis.Cause`."""

    name: str
    state: State
    said: str
    cause: str = ""


def of_the_machine(store: Path | str) -> list[Check]:
    """Python, the RTC library, and whether there is or can be a store in this folder."""
    return [_python(), _rtc(), _store(store)]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Check("python", "good" if good else "bad", version if good else f"{version}: nestobs needs 3.11 or newer")


def _rtc() -> Check:
    if not has_library():
        return Check("media", "note", "the LiveKit RTC library is not installed: joins end at signalling")
    return Check("media", "good", "the LiveKit RTC library is here")


def _store(path: Path | str) -> Check:
    if isinstance(path, Path) and (not path.exists() or (path.is_dir() and not any(path.iterdir()))):
        parent = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
        writable = parent.is_dir() and os.access(parent, os.W_OK)
        return Check("store", "good" if writable else "bad", f"{path} can{'' if writable else 'not'} be made")
    try:
        return Check("store", "good", f"{path} holds {Store.open(path, create=False).count()} observations")
    except NestobsError as error:
        return Check("store", "bad", str(error))


async def of_the_api(station: Station) -> list[Check]:
    """Whether the API answers, what it allows, whether the clocks agree, and whether a 404 is its own. Two requests."""
    row = (await station.api.health(timeout_s=PATIENCE_S)).row
    if row.status is None:
        return [Check("api", "bad", row.reason, _down(row))]
    checks = [Check("api", "good", f"{station.api.url} answers ({row.software or 'HTTP ' + str(row.status)})")]
    limit = station.api.limiter
    said = f"announces {limit.announced} requests" if limit.announced else "announces no limit"
    left = limit.left(station.clock.now(), bursts=False)
    checks.append(
        Check("budget", "good" if left else "bad", f"the server {said}; {left} in {limit.window_s:g} s are ours")
    )
    probe = (await station.api.guest(Trace(room="nestobs-doctor-no-such-room"), timeout_s=PATIENCE_S)).row
    checks.append(_clock(station, row if row.remote_at is not None else probe))
    clean = probe.outcome is Outcome.ABSENT
    said = "a room that is not there is the API's own 404" if clean else probe.reason
    untold = probe.reason.endswith(UNTOLD) or probe.failure_layer is FailureLayer.SIGNAL  # LiveKit's door says the rest
    state: State = "good" if clean else "note" if untold else "bad"
    return [*checks, Check("api path", state, said, _down(probe) if state == "bad" else "")]


def _clock(station: Station, row: Observation) -> Check:
    """How far our clock is off the API's: by all that it answered so far; where nothing of that is surely its own, by
    the Date of this row. What we sign bears the API's time then; what a client here signs does not."""
    offset = station.vantage.relation.at(station.clock.now())
    if offset is None and row.remote_at is not None and row.received_at is not None:
        low, high = (row.sent_at - row.remote_at) / SECOND_NS - 1.0, (row.received_at - row.remote_at) / SECOND_NS
        offset = Offset((low + high) / 2, (high - low) / 2, 0.0)
    if offset is None:
        return Check("clock", "note", "not compared: no answer of the API's says what time it is (Date)")
    off_s, said = abs(offset.least_off_s), f"this clock is {offset.words}"
    if off_s < OFF_S:
        return Check("clock", "good", said)
    refused = off_s > NIP98_S
    harm = (
        "the API refuses what a client here signs" if refused else "ages and signatures of a client here are off by it"
    )
    return Check("clock", "bad", f"{said}: set the clock (NTP); {harm}", Cause.AUTH_CLOCK_SKEW if refused else "")


def _down(row: Observation) -> str:
    """The cause that an API's answer to a plain question speaks for."""
    if row.outcome is Outcome.PROBE_ERROR:
        return Cause.OBSERVER_FAULT
    if row.failure is Failure.RATE_LIMITED:
        return Cause.RATE_LIMITED
    wrong = row.failure in (Failure.WRONG_PATH, Failure.UNEXPECTED) or row.outcome is Outcome.VISIBLE
    return Cause.WRONG_DOOR if wrong and (row.status or 0) < 500 else Cause.API_DOWN


async def of_a_relay(relay: Relay, rows: list[Observation]) -> Check:
    """Whether a relay answers a question: that it lets us connect says nothing. rows: what was recorded so far."""
    name = f"relay {relay.url}"
    if not await relay.ready(PATIENCE_S):
        said = _last_reason(rows, relay.url) or f"no connection within {PATIENCE_S:g} s"
        return Check(name, "bad", said, Cause.RELAY_UNREACHABLE)
    looked = await relay.look(Trace(), filters=room_filter(limit=1))
    if looked.row.outcome not in (Outcome.VISIBLE, Outcome.ABSENT):
        wants_auth = looked.row.failure is Failure.AUTH_REQUIRED
        cause = Cause.RELAY_WANTS_AUTH if wants_auth else Cause.RELAY_UNREACHABLE
        return Check(name, "bad", f"connected, but no answer: {why_silent(looked.row)}", cause)
    known = "; it wants to know who asks (NIP-42) and took your key" if relay.knows_us() else ""
    return Check(name, "good", f"connected, and answers{known}")


async def of_livekit(station: Station) -> list[Check]:
    """Whether LiveKit answers, and takes the operator's keys where there are any."""
    livekit = station.livekit
    if livekit is None:
        said = "no URL given: a canary uses what the API names, rooms of others are not joined"
        unused = "; LiveKit's keys are sent nowhere" if station.target.livekit_key else ""
        return [Check("livekit", "note", said + unused)]
    row, session = await livekit.signal(Trace(room="nestobs-doctor"), "not-a-token", timeout_s=PATIENCE_S)
    if session is not None:
        await session.close()
    alive = row.outcome in (Outcome.REFUSED, Outcome.ABSENT, Outcome.VISIBLE)  # a web page has a status, too
    said, cause = (f"{livekit.url} answers", "") if alive else (row.reason, Cause.LIVEKIT_UNREACHABLE)
    checks = [Check("livekit", "good" if alive else "bad", said, cause)]
    if not livekit.lists_rooms:
        checks.append(Check("livekit keys", "note", "none: everything works but the room list"))
        return checks
    listed = await livekit.rooms(Trace(room="nestobs-doctor"))
    good = listed.outcome is Outcome.ABSENT
    checks.append(Check("livekit keys", "good" if good else "bad", "the room list answers" if good else listed.reason))
    return checks


def _last_reason(rows: list[Observation], url: str) -> str:
    return next((row.reason for row in reversed(rows) if row.target == url and row.reason), "")
