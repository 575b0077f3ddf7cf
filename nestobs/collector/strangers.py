"""Hosts that only an event names: dialled where the operator asks for it, at public addresses, without any secret.

Anybody can write an event, so what it names is a stranger's. Its relays are asked for the event, by a connection that
has no key to sign in with; its LiveKit is asked whether it is there, by a handshake without a token, which proves
nothing of the nest. The API and the endpoint it names are not asked: a nest of another API is none of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from nestobs.collector.station import Station
from nestobs.errors import UsageError
from nestobs.observation.nest import Nest
from nestobs.observation.schema import Operation, Outcome, Source
from nestobs.sources.address import Refuse, kinds_at, strangers_only
from nestobs.sources.dial import read_url, trust
from nestobs.sources.livekit import signal_url
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace
from nestobs.sources.visit import by_signal

MOST_RELAYS: Final = 5
PATIENCE_S: Final = 5.0


async def follow_event(station: Station, trace: Trace, nest: Nest) -> None:
    """Dial what a nest's event names and the operator does not, once each; rows say what came."""
    refuse = strangers_only(await kinds_at(station.operators()))
    relays = _strange(station, nest.relays)[:MOST_RELAYS]
    async with asyncio.TaskGroup() as group:
        for url in relays:
            group.create_task(_relay(station, trace, nest, url, refuse))
        for url in _strange(station, [nest.streaming]):
            group.create_task(_livekit(station, trace, url, refuse))


def _strange(station: Station, urls: Iterable[str]) -> list[str]:
    """Those of these URLs whose hosts the operator did not name, each host once."""
    known, found = {_host(url) for url in station.operators()}, []
    for url in urls:
        if (host := _host(url)) and host not in known:
            known.add(host)
            found.append(url)
    return found


def _host(url: str) -> str:
    """Host and port as written; "" of what is no URL: a stranger wrote it."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


async def _relay(station: Station, trace: Trace, nest: Nest, url: str, refuse: Refuse) -> None:
    with contextlib.suppress(UsageError):
        async with Relay(station.vantage, url, refuse=refuse) as relay:
            if await relay.ready(PATIENCE_S):
                await relay.query(trace, address=nest.address, timeout_s=PATIENCE_S)


async def _livekit(station: Station, trace: Trace, named: str, refuse: Refuse) -> None:
    clock = station.clock
    with contextlib.suppress(UsageError):
        url = signal_url(named)
        tls, sent_at = trust(read_url(url)), clock.now()
        entry = await by_signal(url, "", tls=tls, clock=clock, timeout_s=PATIENCE_S, refuse=refuse)
        if entry.session is not None:
            await entry.session.close()
        found = entry.judgement._asdict()
        if entry.judgement.outcome in (Outcome.VISIBLE, Outcome.ABSENT):  # a stranger's server proves nothing
            found["outcome"] = Outcome.UNKNOWN if entry.judgement.failure else Outcome.ACCEPTED
        station.vantage.record(
            trace,
            source=Source.LIVEKIT,
            target=url,
            operation=Operation.CONNECT,
            sent_at=sent_at,
            received_at=clock.now(),
            timeout_s=PATIENCE_S,
            status=entry.status,
            **found,
        )
