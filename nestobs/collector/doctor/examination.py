"""The examination of a target: its doors, with a room behind them where one may be made, and what that comes to.

It ends within WHOLE_S of its beginning, cleaning up included, on a machine that runs at all: what could not be asked,
or not be said, is called so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nestobs.collector.doctor import doors
from nestobs.collector.doctor.doors import Check
from nestobs.collector.doctor.judgement import judge
from nestobs.collector.doctor.room import KEPT_REQUESTS, MOST_REQUESTS, Throwaway, Tried
from nestobs.collector.doctor.steps import Log, Step, was_asked
from nestobs.collector.doctor.verdict import Verdict, of_the_doors, of_the_room
from nestobs.collector.keyring import Keyring
from nestobs.collector.station import Station, Target, at_work, both, open_station, recording
from nestobs.collector.undo import cleanup
from nestobs.diagnosis import Cause
from nestobs.errors import StoreError
from nestobs.join.budget import Budget, Ration
from nestobs.nostr import Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation
from nestobs.sources.clock import Clock, uuid7
from nestobs.store.ledger import Entry
from nestobs.store.reader import Store
from nestobs.store.writer import Writer

WHOLE_S: Final = 22.0
"""Of the 30 s that are promised; the rest is for the interpreter to start and for the store to be written."""

EARLIER_S, EARLIER_REQUESTS = 6.0, 6
"""What cleaning up after earlier runs may take of it."""

MARKS: Final = {"good": "ok  ", "bad": "BAD ", "note": "note", "unsaid": "?   ", "skipped": "skip"}

LEAST_REQUESTS: Final = 12
"""A room is made only where the budget has so many."""


@dataclass(slots=True)
class Examination:
    """What was found. tried: whether a room was asked for; steps: of it. requests: to the API, in all."""

    checks: list[Check]
    verdict: Verdict
    tried: bool = False
    steps: list[Step] = field(default_factory=list)
    requests: int = 0
    seconds: float = 0.0
    left: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people: a line a check and a step, a bug report under what is bad, and the verdict last."""
        lines = [f"{MARKS[check.state]}  {check.name}: {check.said}" for check in self.checks]
        for step in self.steps:
            lines += [f"{MARKS[step.state]}  {step.name}: {step.said}", *(step.report() if step.is_told() else [])]
        lines += [f"left behind: {sentence}" for sentence in self.left]
        asked = f"{self.requests} requests, {self.seconds:.0f} s" if self.requests else ""
        return [*lines, self.verdict.line() + (f" ({asked})" if asked else "")]

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "checks": [
                {"name": c.name, "state": c.state, "said": c.said} | ({"cause": c.cause} if c.cause else {})
                for c in self.checks
            ],
            "verdict": self.verdict.as_dict(),
            "steps": [step.as_dict() for step in self.steps],
            "requests": self.requests,
            "seconds": round(self.seconds, 2),
            "left": self.left,
        }


async def examine(
    target: Target | None,
    store: Path | str,
    *,
    keys: Keys | None = None,
    budget: Budget | None = None,
    keyring: Keyring | None = None,
    insist: bool = True,
) -> Examination:
    """Look at this machine, the store, and the target if there is one; with a keyring, make a room on it as well.

    keys: for relays that want to know who asks (NIP-42). budget: this process's own unless given. Without a keyring no
    row is written, and nothing is made. Where a room is to be made and the store cannot be used: raises StoreError, or
    looks at the doors alone where that is not insisted on.
    """
    clock = Clock()
    began = clock.now()
    checks = doors.of_the_machine(store)
    if target is None:
        checks.append(Check("target", "note", "none named: give --target NAME, or --api and --relay"))
        return Examination(checks, of_the_doors(checks, "no target is named"))
    budget, rows = budget or Budget(), list[Observation]()
    async with AsyncExitStack() as stack:
        writer, why = None, "no room was made (--make makes one)"
        if keyring is not None:
            try:
                opened = Store.open(store)
                writer = await stack.enter_async_context(opened.writer())
            except StoreError as error:
                if insist:
                    raise
                why = str(error)
        if keyring is None or writer is None:
            looks = await _doors(target, rows, limiter=budget.of(target.api), keys=keys, run_id=uuid7(began))
            checks += looks
            found = Examination(checks, of_the_doors(checks, why, wanted=keyring is not None))
        else:
            how = recording(opened, [target], budget, keys=keys, writer=writer)
            [station], pen = await stack.enter_async_context(how)
            station.vantage.sink = both(station.vantage.sink, rows.append)
            ends_at = began + round(WHOLE_S * SECOND_NS)
            parts: dict[str, Any] = {"station": station, "writer": writer, "store": opened, "keyring": keyring}
            visit = _Visit(**parts, rows=rows, ends_at=ends_at)
            found = await pen.during(at_work([station], visit.run(checks)))
    found.requests = sum(map(was_asked, rows))
    found.seconds = (clock.now() - began) / SECOND_NS
    return found


async def _doors(target: Target, rows: list[Observation], **how: Any) -> list[Check]:
    async def nothing() -> bool:
        return True

    async with open_station(target, sink=rows.append, committed=nothing, **how) as station:
        at_api, others = await asyncio.gather(doors.of_the_api(station), _others(station, rows))
    return [*at_api, *others]


async def _others(station: Station, rows: list[Observation]) -> list[Check]:
    """The doors of relays and LiveKit."""
    relays = asyncio.gather(*(doors.of_a_relay(relay, rows) for relay in station.relays))
    at_relays, at_livekit = await asyncio.gather(relays, doors.of_livekit(station))
    return [*at_relays, *at_livekit]


@dataclass(slots=True)
class _Visit:
    """A target, its doors and a room of ours behind them. rows: all that are recorded."""

    station: Station
    writer: Writer
    store: Store
    keyring: Keyring
    rows: list[Observation]
    ends_at: int

    async def run(self, checks: list[Check]) -> Examination:
        """Doors first: where what answers is surely not the API, or nothing does, no room is asked for."""
        self.station.api.ration = Ration(MOST_REQUESTS, KEPT_REQUESTS)
        at_api = await doors.of_the_api(self.station)
        async with asyncio.TaskGroup() as group:  # interrupted, it waits for the room to be undone
            others = group.create_task(_others(self.station, self.rows))
            room = group.create_task(self._room(at_api))
        earlier, why, tried = room.result()
        checks = [*checks, *at_api, *others.result(), *earlier]
        if tried is None:
            return Examination(checks, of_the_doors(checks, f"no room was made: {why}", wanted=True))
        steps = judge(tried, Log(self.rows, tried.origin))
        return Examination(checks, of_the_room(checks, steps), tried=True, steps=steps, left=tried.left)

    async def _room(self, at_api: Sequence[Check]) -> tuple[list[Check], str, Tried | None]:
        """What earlier runs left, why no room was made, and what came of it where one was."""
        if (bad := next((c for c in at_api if c.cause in (Cause.API_DOWN, Cause.WRONG_DOOR)), None)) is not None:
            return [], bad.said, None
        earlier = await self._earlier()
        left = self.station.api.limiter.left(self.station.clock.now())
        if left < LEAST_REQUESTS:
            why = f"{left} requests are left in the budget, and a room takes {LEAST_REQUESTS} to {MOST_REQUESTS}"
            return earlier, why, None
        whole = Throwaway(self.station, self.writer, self.store, self.keyring, self.ends_at)
        return earlier, "", await whole.run()

    def _open(self) -> list[Entry]:
        return [entry for entry in self.store.ledger() if entry.api == self.station.api.url]

    async def _earlier(self) -> list[Check]:
        """Undo what earlier runs left at this API, as far as a few requests and seconds go."""
        before = self._open()
        files = cleanup.strays(self.station, self.keyring, self.store)
        if not before and not files:
            return []
        api, cleaned = self.station.api, cleanup.Cleaned()
        whole, api.ration = api.ration, Ration(EARLIER_REQUESTS, KEPT_REQUESTS)
        with suppress(TimeoutError):
            async with asyncio.timeout(EARLIER_S):
                cleaned = await cleanup.clean_up(self.station, self.writer, self.keyring, self.store, before)
                cleaned.add(await cleanup.clean_strays(self.station, self.writer, self.keyring, self.store, files))
        if whole is not None:
            whole.left -= EARLIER_REQUESTS - api.ration.left
        api.ration = whole
        if still := self._open():
            said = f"{len(still)} rooms and events of earlier runs are left: nestobs canary --count 0 cleans up"
            return [Check("left before", "note", said)]
        return [Check("left before", "note", f"{cleaned.sentence()}, which earlier runs had left")]
