"""Is everything there? Each check is one line with its remedy."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nestobs.collector.lookup import why_silent
from nestobs.collector.station import Station, Target, open_station
from nestobs.errors import NestobsError
from nestobs.join.budget import Budget
from nestobs.nostr import Keys, room_filter
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation, Outcome
from nestobs.sources.clock import Clock, uuid7
from nestobs.sources.media import has_library
from nestobs.sources.proof import UNTOLD
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. state: good, bad, or note (nothing broken, something to know)."""

    name: str
    state: Literal["good", "bad", "note"]
    said: str


async def examine(
    target: Target | None, store: Path, *, keys: Keys | None = None, budget: Budget | None = None
) -> list[Check]:
    """Look at this machine, the store, and the target if there is one. Writes no row.

    keys: for relays that want to know who asks (NIP-42). budget: this process's own unless given.
    """
    checks = [_python(), _rtc(), _store(store)]
    if target is None:
        checks.append(Check("target", "note", "none named: give --target NAME, or --api and --relay"))
        return checks
    rows: list[Observation] = []

    async def nothing() -> None:
        return

    limiter = (budget or Budget()).of(target.api)
    run_id = uuid7(Clock().now())
    async with open_station(
        target, run_id=run_id, sink=rows.append, committed=nothing, limiter=limiter, keys=keys
    ) as station:
        checks += await _api(station)
        checks += await asyncio.gather(*(_relay(relay, rows) for relay in station.relays))
        checks += await _livekit(station)
    return checks


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Check("python", "good" if good else "bad", version if good else f"{version}: nestobs needs 3.11 or newer")


def _rtc() -> Check:
    if not has_library():
        return Check("media", "note", "the LiveKit RTC library is not installed: joins end at signalling")
    return Check("media", "good", "the LiveKit RTC library is here")


def _store(path: Path) -> Check:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        parent = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
        writable = parent.is_dir() and os.access(parent, os.W_OK)
        return Check("store", "good" if writable else "bad", f"{path} can{'' if writable else 'not'} be made")
    try:
        return Check("store", "good", f"{path} holds {Store.open(path, create=False).count()} observations")
    except NestobsError as error:
        return Check("store", "bad", str(error))


async def _api(station: Station) -> list[Check]:
    row = (await station.api.health()).row
    if row.status is None:
        return [Check("api", "bad", row.reason)]
    checks = [Check("api", "good", f"{station.api.url} answers ({row.software or 'HTTP ' + str(row.status)})")]
    limit = station.api.limiter
    said = f"announces {limit.announced} requests" if limit.announced else "announces no limit"
    left = limit.left(station.clock.now(), bursts=False)
    checks.append(
        Check("budget", "good" if left else "bad", f"the server {said}; {left} in {limit.window_s:g} s are ours")
    )
    if row.remote_at is not None and row.received_at is not None:
        low, high = (row.sent_at - row.remote_at) / SECOND_NS - 1.0, (row.received_at - row.remote_at) / SECOND_NS
        good = low < 5 and high > -5
        words = f"this clock minus the API's Date: between {low:+.1f} and {high:+.1f} s"
        checks.append(Check("clock", "good" if good else "bad", words if good else words + ": set the clock (NTP)"))
    probe = (await station.api.guest(Trace(room="nestobs-doctor-no-such-room"))).row
    clean = probe.outcome is Outcome.ABSENT
    said = "a room that is not there is the API's own 404" if clean else probe.reason
    checks.append(Check("api path", "good" if clean else "note" if probe.reason.endswith(UNTOLD) else "bad", said))
    return checks


async def _relay(relay: Relay, rows: list[Observation]) -> Check:
    """Whether a relay answers a question: that it lets us connect says nothing."""
    name = f"relay {relay.url}"
    if not await relay.ready(5.0):
        return Check(name, "bad", _last_reason(rows, relay.url) or "no connection within 5 s")
    looked = await relay.look(Trace(), filters=room_filter(limit=1))
    if looked.row.outcome not in (Outcome.VISIBLE, Outcome.ABSENT):
        return Check(name, "bad", f"connected, but no answer: {why_silent(looked.row)}")
    known = "; it wants to know who asks (NIP-42) and took your key" if relay.knows_us() else ""
    return Check(name, "good", f"connected, and answers{known}")


async def _livekit(station: Station) -> list[Check]:
    livekit = station.livekit
    if livekit is None:
        said = "no URL given: a canary uses what the API names, rooms of others are not joined"
        unused = "; LiveKit's keys are sent nowhere" if station.target.livekit_key else ""
        return [Check("livekit", "note", said + unused)]
    row, session = await livekit.signal(Trace(room="nestobs-doctor"), "not-a-token", timeout_s=5.0)
    if session is not None:
        await session.close()
    alive = row.outcome in (Outcome.REFUSED, Outcome.ABSENT, Outcome.VISIBLE)  # a web page has a status, too
    checks = [Check("livekit", "good" if alive else "bad", f"{livekit.url} answers" if alive else row.reason)]
    if not livekit.lists_rooms:
        checks.append(Check("livekit keys", "note", "none: everything works but the room list"))
        return checks
    listed = await livekit.rooms(Trace(room="nestobs-doctor"))
    good = listed.outcome is Outcome.ABSENT
    checks.append(Check("livekit keys", "good" if good else "bad", "the room list answers" if good else listed.reason))
    return checks


def _last_reason(rows: list[Observation], url: str) -> str:
    return next((row.reason for row in reversed(rows) if row.target == url and row.reason), "")
