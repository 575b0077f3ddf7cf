"""One scenario on stage: its API, its gates, and for each vantage its own way (URLs) to all of them.

Computer A reaches the gates directly and API and LiveKit through a fault proxy each. Computer B has proxies of its own
in front of everything, with latency on top, and its list of relays begins with the last relay, the slow one of
`slow-relay`: what B reads first is what hurts most.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from nestobs.errors import UsageError
from nestobs.lab.api.server import PREFIX, NestsApi
from nestobs.lab.clock import LabClock
from nestobs.lab.fault_proxy import FaultProxy
from nestobs.lab.gate import Gate
from nestobs.lab.livekit.rooms import LivekitRooms
from nestobs.lab.livekit.tokens import LivekitKeys
from nestobs.lab.plan import Planner
from nestobs.lab.scenario import Scenario
from nestobs.lab.truth import JsonLines, TruthLog

VANTAGES = ("Computer A", "Computer B")
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all stages of a lab share."""

    clock: LabClock
    truth: TruthLog
    stamps: JsonLines | None
    keys: LivekitKeys
    rooms: LivekitRooms
    relay_urls: tuple[str, ...]
    livekit_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one vantage reaches one scenario."""

    target: str
    name: str
    api: str
    relays: tuple[str, ...]
    livekit: str
    truth_names: dict[str, str]
    api_proxy: FaultProxy
    livekit_proxy: FaultProxy
    relay_proxies: tuple[FaultProxy, ...]

    def as_dict(self) -> dict[str, Any]:
        """The part of lab.json about this vantage."""
        return {"name": self.name, "api": self.api, "relays": list(self.relays), "livekit": self.livekit}


class Stage:
    """`start` brings it up on a stack that ends it again."""

    def __init__(self, scenario: Scenario, planner: Planner, world: World) -> None:
        self.scenario, self._planner, self._world = scenario, planner, world
        self.api = NestsApi(
            scenario,
            planner,
            clock=world.clock,
            truth=world.truth,
            rooms=world.rooms,
            keys=world.keys,
            stamps=world.stamps,
        )
        self.gates = [self._gate(index, url) for index, url in enumerate(world.relay_urls)]
        self.ways: list[Way] = []

    def _gate(self, index: int, url: str) -> Gate:
        world = self._world
        return Gate(
            url,
            scenario=self.scenario.name,
            index=index,
            clock=world.clock,
            truth=world.truth,
            plan_of=self.api.plan_of,
            stamps=world.stamps,
        )

    async def start(self, stack: AsyncExitStack, *, vantages: int, api_port: int = 0) -> None:
        """Start API, gates and ways. `api_port`: fixed port of Computer A's API, 0 for a free one."""
        stack.push_async_callback(self.api.close)
        await self.api.start()
        for gate in self.gates:
            stack.push_async_callback(gate.close)
            await gate.start()
        for number, fault in self.scenario.relays.faults.items():
            self._numbered(number).fault = fault
        self.ways.append(await self._way_a(stack, api_port))
        if vantages > 1:
            self.ways.append(await self._way_b(stack))
        self.api.livekit_url = self.ways[0].livekit

    def _numbered(self, number: int) -> Gate:
        if not 1 <= number <= len(self.gates):
            raise UsageError(
                f"scenario {self.scenario.name} has a fault for relay {number}: there are {len(self.gates)}"
            )
        return self.gates[number - 1]

    def as_dict(self) -> dict[str, Any]:
        """The part of lab.json about this scenario."""
        names = {url: name for way in self.ways for url, name in way.truth_names.items()}
        return {"vantages": [way.as_dict() for way in self.ways], "truth_names": names}

    async def _way_a(self, stack: AsyncExitStack, api_port: int) -> Way:
        urls = {gate.url: gate.name for gate in self.gates}
        return await self._way(stack, target=self.scenario.name, name=VANTAGES[0], relays=urls, api_port=api_port)

    async def _way_b(self, stack: AsyncExitStack) -> Way:
        extra = self.scenario.network
        proxies, urls = [], {}
        for gate in [self.gates[-1], *self.gates[:-1]]:
            proxy = await self._proxy(stack, gate.port, extra.b_relays_s)
            proxies.append(proxy)
            urls[f"ws://{HOST}:{proxy.port}/"] = gate.name
        return await self._way(
            stack,
            target=f"{self.scenario.name}-b",
            name=VANTAGES[1],
            relays=urls,
            relay_proxies=tuple(proxies),
            extra_s=extra.b_api_s,
        )

    async def _way(
        self,
        stack: AsyncExitStack,
        *,
        target: str,
        name: str,
        relays: dict[str, str],
        relay_proxies: tuple[FaultProxy, ...] = (),
        extra_s: float = 0.0,
        api_port: int = 0,
    ) -> Way:
        try:
            api = await self._proxy(stack, self.api.port, extra_s, api_port)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", "") or "a port is 1 to 65535"
            raise UsageError(
                f"port {api_port} cannot be had ({why}): stop what uses it, or leave the port to the lab"
            ) from None
        livekit = await self._proxy(stack, self._world.livekit_port, extra_s)
        return Way(
            target=target,
            name=name,
            api=f"http://{HOST}:{api.port}{PREFIX}",
            relays=tuple(relays),
            livekit=f"ws://{HOST}:{livekit.port}",
            truth_names=relays,
            api_proxy=api,
            livekit_proxy=livekit,
            relay_proxies=relay_proxies,
        )

    async def _proxy(self, stack: AsyncExitStack, port: int, extra_s: float, listen: int = 0) -> FaultProxy:
        where = self.scenario.network
        proxy = FaultProxy(
            HOST,
            port,
            latency_s=where.latency_s + extra_s,
            jitter_s=where.jitter_s,
            loss=where.loss,
            seed=self._planner.seed,
        )
        stack.push_async_callback(proxy.close)
        await proxy.start(listen)
        return proxy
