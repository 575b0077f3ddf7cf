"""A vantage at work: every source of one target, open, with the run's clock and sink.

A Target says where things are, as an operator wrote it; a Station holds the connections to them. It is the only place
that knows which sources there are.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nestobs.errors import UnreachableError, UsageError
from nestobs.join.budget import Budget, Limiter
from nestobs.nostr import Keys
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
    """Where a deployment is, seen from one vantage. The first relay is the selected one. `livekit` may be empty.

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
    """The open sources of one vantage. `livekit` is None until the target or a nest names a server."""

    target: Target
    vantage: Vantage
    api: Api
    relays: tuple[Relay, ...]
    livekit: LiveKit | None
    _stack: AsyncExitStack

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

    async def meet_livekit(self, url: str) -> None:
        """Use the LiveKit server that a nest names, unless the operator named one. An unusable URL is left alone."""
        if self.livekit is None and url:
            with contextlib.suppress(UsageError):
                self.livekit = await self._stack.enter_async_context(_livekit(self.vantage, self.target, url))


def _livekit(vantage: Vantage, target: Target, url: str) -> LiveKit:
    return LiveKit(vantage, url, key=target.livekit_key, secret=target.livekit_secret)


def _both(first: Callable[[Observation], None], second: Callable[[Observation], None]) -> Callable[[Observation], None]:
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
    committed: Callable[[], Awaitable[None]],
    limiter: Limiter,
    keys: Keys | None = None,
) -> AsyncIterator[Station]:
    """Open a target's sources and close them at the end. Connecting is theirs to do, row by row.

    limiter: of the API's host; stations of one process that look at one deployment share it, since the server counts
    by address.
    """
    vantage = Vantage(target.vantage, run_id, sink, committed=committed)
    async with AsyncExitStack() as stack:
        if target.control:
            control = Control(Vantage(target.vantage, run_id, sink, vantage.clock), target.control)
            vantage.sink = _both(sink, control.consider)
            stack.push_async_callback(control.close)
        await stack.enter_async_context(vantage.watch.running())
        relays = [
            await stack.enter_async_context(Relay(vantage, url, keys=keys)) for url in dict.fromkeys(target.relays)
        ]
        api = await stack.enter_async_context(Api(vantage, target.api, limiter))
        livekit = None
        if target.livekit:
            livekit = await stack.enter_async_context(_livekit(vantage, target, target.livekit))
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
) -> AsyncIterator[tuple[list[Station], Pen]]:
    """The stations of one run, in the targets' order, and the pen their rows go through to the store.

    They share the limiter of the first target's API: one process is one address, whatever name a vantage uses. run_id:
    a fresh one unless given; writer: the store's own, opened for the run, unless given.
    """
    async with AsyncExitStack() as stack:
        if writer is None:
            writer = await stack.enter_async_context(store.writer())
        pen = Pen(writer)
        run_id = run_id or uuid7(Clock().now())
        shared: dict[str, Any] = {"sink": pen, "committed": pen.committed, "limiter": budget.of(targets[0].api)}
        opening = [open_station(target, run_id=run_id, keys=keys, **shared) for target in targets]
        yield [await stack.enter_async_context(each) for each in opening], pen


async def at_work(stations: Sequence[Station], work: Awaitable[Result]) -> Result:
    """The result of `work`; meanwhile each vantage says once a minute that it is at work."""
    async with AsyncExitStack() as stack:
        for station in stations:
            await stack.enter_async_context(station.vantage.heartbeat())
        return await work


async def greet(station: Station) -> None:
    """Learn the server's limit, and that it is there at all. Raises UnreachableError when nothing answers."""
    answer = await station.api.health()
    if answer.row.status is None and answer.row.failure is not Failure.BUDGET:
        raise UnreachableError(
            f"the API at {station.api.url} does not answer ({answer.row.reason}): is the address right, the server up?"
        )
