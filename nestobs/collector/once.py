"""One nest, once: what `nestobs join` and `nestobs ready` do, from looking it up to the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from nestobs.collector.lookup import Found, Readiness, find, readiness
from nestobs.collector.prober import join
from nestobs.collector.station import Station, Target, open_station
from nestobs.join.budget import Budget
from nestobs.join.flow import Verdict
from nestobs.join.policy import named_policy
from nestobs.nostr import Address, Keys
from nestobs.sources.clock import Clock, uuid7
from nestobs.store.sink import Pen
from nestobs.store.store import Store


@asynccontextmanager
async def _at(target: Target, directory: Path, keys: Keys | None = None) -> AsyncIterator[tuple[Station, Pen]]:
    async with Store.open(directory).writer() as writer:
        pen = Pen(writer)
        limiter = Budget().of(target.api)
        run_id = uuid7(Clock().now())
        async with open_station(
            target, run_id=run_id, sink=pen, committed=pen.committed, limiter=limiter, keys=keys
        ) as station:
            yield station, pen


async def join_once(
    target: Target, wanted: Address | str, directory: Path, *, policy: str, stay_s: float, keys: Keys | None
) -> tuple[Found, Verdict]:
    """Look a nest up and join it under a named policy; with `keys` authenticated first, else as a guest."""
    import random

    chosen = replace(named_policy(policy), stay_s=stay_s)
    async with _at(target, directory, keys) as (station, pen):

        async def work() -> tuple[Found, Verdict]:
            found = await find(station, wanted)
            if found.nest is not None:
                await station.meet_livekit(found.nest.streaming)
            verdict = await join(
                station,
                found.trace,
                chosen,
                rng=random.Random(),
                nest=found.nest,
                address=None if isinstance(wanted, str) else wanted,
                keys=keys,
                relays=found.relays,
            )
            return found, verdict

        return await pen.during(work())


async def ready_once(target: Target, wanted: Address | str, directory: Path) -> Readiness:
    """Look a nest up and say whether a guest could join it now."""
    async with _at(target, directory) as (station, pen):

        async def work() -> Readiness:
            return await readiness(station, await find(station, wanted))

        return await pen.during(work())
