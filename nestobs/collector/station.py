"""A vantage at work: every source of one target, open, with the run's clock and sink.

A Target says where things are, as an operator wrote it; a Station holds the connections to them. It is the only place
that knows which sources there are, and so the place where it is decided who gets a secret:

    the operator's LiveKit key    goes to the operator's own `livekit`, in tokens for one call each
    a token that the API gave     goes there too; where the operator named none, to the LiveKit that the same API named
                                  when it made that very nest for us (`livekit_of`), and nowhere else
    a host that only an event     is not dialled; where the operator wants it all the same (`stranger`), at public
    names                         addresses and without any secret
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from nestobs.collector.loop.garbage import collected_seldom
from nestobs.errors import UnreachableError, UsageError
from nestobs.join.budget import Budget, Limiter
from nestobs.nostr import Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import APART_S, Relation
from nestobs.observation.schema import Failure, Observation
from nestobs.sources.api import Api
from nestobs.sources.clock import Clock, uuid7
from nestobs.sources.control import Control
from nestobs.sources.livekit import LiveKit
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace, Vantage
from nestobs.store.reader import Store
from nestobs.store.sink import Pen
from nestobs.store.writer import Writer

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a deployment is, seen from one vantage. The first relay is the selected one. `livekit` may be empty: then
    rooms of others are not joined, since what an event names is a stranger's word.

    `name` is the target's in nestobs.toml; the LiveKit key pair is empty when there is none and never shown. `control`:
    host:port of something unrelated, which tells our own network's failures from theirs; may be empty.
    """

    name: str
    vantage: str
    api: str
    relays: tuple[str, ...]
    livekit: str = ""
    livekit_key: str = field(default="", repr=False)
    livekit_secret: str = field(default="", repr=False)
    control: str = ""


@dataclass(slots=True)
class Station:
    """The open sources of one vantage. `livekit` is the operator's own, None where there is none."""

    target: Target
    vantage: Vantage
    api: Api
    relays: tuple[Relay, ...]
    livekit: LiveKit | None
    _stack: AsyncExitStack
    _named: dict[str, LiveKit] = field(default_factory=dict)

    @property
    def clock(self) -> Clock:
        """The vantage's clock."""
        return self.vantage.clock

    async def hear_webhooks(self, trace_of: Callable[[str], Trace], port: int) -> str:
        """Receive LiveKit's webhooks on this port until the station closes; the URL to give to LiveKit.

        Raises UsageError when the port is taken or the target has no LiveKit key to verify them by.
        """
        from nestobs.sources.webhook import Webhooks

        key, secret = self.target.livekit_key, self.target.livekit_secret
        receiver = Webhooks(self.vantage, api_key=key, api_secret=secret, trace_of=trace_of, port=port)
        return (await self._stack.enter_async_context(receiver)).url

    async def livekit_of(self, named: str) -> LiveKit | None:
        """The LiveKit of a nest that the API made for us and said to be at `named`: the operator's own where there is
        one, else that, without the operator's key. None where the URL cannot be used."""
        if self.livekit is not None or not named:
            return self.livekit
        if named not in self._named:
            with contextlib.suppress(UsageError):
                self._named[named] = await self._stack.enter_async_context(LiveKit(self.vantage, named))
        return self._named.get(named)

    def operators(self) -> tuple[str, ...]:
        """The URLs that the operator named."""
        return (self.target.api, *self.target.relays, *([self.target.livekit] if self.target.livekit else []))


def both(
    first: Callable[[Observation], object], second: Callable[[Observation], object]
) -> Callable[[Observation], None]:
    """What hands each row to the first and then to the second."""

    def each(row: Observation) -> None:
        first(row)
        second(row)

    return each


@asynccontextmanager
async def open_station(
    target: Target,
    *,
    run_id: str,
    sink: Callable[[Observation], None],
    committed: Callable[[], Awaitable[bool]],
    limiter: Limiter,
    keys: Keys | None = None,
    relation: Relation | None = None,
) -> AsyncIterator[Station]:
    """Open a target's sources and close them at the end. Connecting is theirs to do, row by row.

    limiter: of the API's host; stations of one process that look at one deployment share it, since the server counts
    by address; and relation, since they share a clock.
    """
    relation = Relation() if relation is None else relation
    vantage = Vantage(target.vantage, run_id, sink, committed=committed, relation=relation)
    async with AsyncExitStack() as stack:
        if target.control:
            beside = Vantage(target.vantage, run_id, sink, vantage.clock, relation=relation)
            beside.watch = vantage.watch
            control = Control(beside, target.control)
            vantage.sink = both(sink, control.consider)
            stack.push_async_callback(control.close)
        await stack.enter_async_context(vantage.watch.running())
        relays = [
            await stack.enter_async_context(Relay(vantage, url, keys=keys)) for url in dict.fromkeys(target.relays)
        ]
        api = await stack.enter_async_context(Api(vantage, target.api, limiter))
        livekit = None
        if target.livekit:
            own = LiveKit(vantage, target.livekit, key=target.livekit_key, secret=target.livekit_secret)
            livekit = await stack.enter_async_context(own)
            api.livekit_down = livekit.down
        yield Station(target=target, vantage=vantage, api=api, relays=tuple(relays), livekit=livekit, _stack=stack)


@asynccontextmanager
async def recording(
    store: Store,
    targets: Sequence[Target],
    budget: Budget,
    *,
    run_id: str = "",
    keys: Keys | None = None,
    writer: Writer | None = None,
    heard: Callable[[Observation], None] | None = None,
) -> AsyncIterator[tuple[list[Station], Pen]]:
    """The stations of one run, in the targets' order, and the pen their rows go through to the store.

    They share the limiter of the first target's API: one process is one address, whatever name a vantage uses. run_id:
    a fresh one unless given; writer: the store's own, opened for the run, unless given. heard: told of every row, too.
    """
    async with AsyncExitStack() as stack:
        if writer is None:
            writer = await stack.enter_async_context(store.writer())
        pen = Pen(writer)
        run_id = run_id or uuid7(Clock().now())
        sink = pen if heard is None else both(pen, heard)
        shared: dict[str, Any] = {"sink": sink, "committed": pen.committed, "limiter": budget.of(targets[0].api)}
        relations: defaultdict[str, Relation] = defaultdict(Relation)
        opening = [
            open_station(target, run_id=run_id, keys=keys, relation=relations[target.api], **shared)
            for target in targets
        ]
        yield [await stack.enter_async_context(each) for each in opening], pen


async def at_work(stations: Sequence[Station], work: Awaitable[Result]) -> Result:
    """The result of `work`; meanwhile each vantage says once a minute that it is at work, and Python seldom looks for
    garbage."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(collected_seldom())
        for station in stations:
            await stack.enter_async_context(station.vantage.heartbeat())
        return await work


AT_ONCE_S, RESTART_S = 1.0, 4.0
"""How long relays are given to connect; and how much longer all of a deployment of which nothing answers: a container
that restarts refuses for some seconds."""

_PAUSES_S: Final = (0.5, 1.0, RESTART_S - 1.5)
"""Before an API that refused or broke off is asked again: a poor network loses single connections, too."""


async def greet(station: Station, *, again: bool = True) -> None:
    """Learn the server's limit, and that it is there at all; where its clock seems to be another, also that, since the
    first signature would be refused. Raises UnreachableError when nothing answers for RESTART_S, or in time; not
    `again`: at once, for who has more to do meanwhile."""
    row = (await station.api.health()).row
    for pause_s in _PAUSES_S if again else ():
        if row.status is not None or row.failure in (Failure.BUDGET, Failure.TIMEOUT):
            break
        await asyncio.sleep(pause_s)
        row = (await station.api.health()).row
    if row.status is None and row.failure is not Failure.BUDGET:
        raise UnreachableError(
            f"the API at {station.api.url} does not answer ({row.reason}): is the address right, the server up?"
        )
    apart_s = 0.0 if row.remote_at is None else abs(row.sent_at - row.remote_at) / SECOND_NS
    if apart_s > APART_S and not station.vantage.relation.known:
        await station.api.time()


async def expect_anybody(station: Station) -> None:
    """Return once a relay is connected or the API answers, whatever it says. Raises UnreachableError where none of them
    can be reached within AT_ONCE_S, nor RESTART_S later."""
    if await _unreached(station, AT_ONCE_S) and (why := await _unreached(station, RESTART_S)):
        raise UnreachableError(
            f"neither the API at {station.api.url} nor any relay can be reached ({why}): are the addresses right, "
            "is the deployment up?"
        )


async def _unreached(station: Station, patience_s: float) -> str:
    """Why the API does not answer, where no relay is connected within that time either; else ""."""
    waiting = [asyncio.ensure_future(relay.ready(patience_s)) for relay in station.relays]
    try:
        for first in asyncio.as_completed(waiting):
            if await first:
                return ""
    finally:
        for each in waiting:
            each.cancel()
    row = (await station.api.health()).row
    return row.reason if row.status is None and row.failure is not Failure.BUDGET else ""
