"""One scenario on stage: its API, its gates, and for each vantage its own way (URLs) to all of them.

Computer A reaches the gates directly and API and LiveKit through a fault proxy each. Computer B has proxies of its own
in front of everything, with latency on top, and its list of relays begins with the last relay, the slow one of
`slow-relay`: what B reads first is what hurts most.

A scenario that says of which vantages it is has them instead: each with proxies of its own in front of everything,
which carry nothing while its network is cut.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from nestobs.errors import UsageError
from nestobs.lab.api.server import PREFIX, NestsApi
from nestobs.lab.background import Background
from nestobs.lab.cuts import cut
from nestobs.lab.fault_proxy import FaultProxy
from nestobs.lab.faults.doors import Doors
from nestobs.lab.gate import Gate
from nestobs.lab.listening import HOST
from nestobs.lab.plan import Planner
from nestobs.lab.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one vantage reaches one scenario. `relays`: the lab's name of each by the URL that leads there. `plays`: of a
    fleet's, what happens to it; empty for others."""

    target: str
    name: str
    api: str
    relays: dict[str, str]
    livekit: str
    api_proxy: FaultProxy
    livekit_proxy: FaultProxy
    plays: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The part of lab.json about this vantage."""
        return {"name": self.name, "api": self.api, "relays": list(self.relays), "livekit": self.livekit}


class Stage:
    """`start` brings it up on a stack that ends it again."""

    def __init__(self, planner: Planner, world: World) -> None:
        self.scenario, self._planner, self._world = planner.scenario, planner, world
        self.api = NestsApi(planner, world)
        self.gates = [
            Gate(index, self.scenario.name, world, self.api.plan_of, self.api.suffers)
            for index in range(len(world.relay_urls))
        ]
        self.ways: list[Way] = []
        self._proxies: list[FaultProxy] = []

    async def start(self, stack: AsyncExitStack, *, vantages: int, api_port: int = 0) -> None:
        """Start API, gates and ways. `api_port`: fixed port of Computer A's API, 0 for a free one."""
        await self.api.start(stack)
        for gate in self.gates:
            await gate.start(stack)
        for number, fault in self.scenario.relays.faults.items():
            self._numbered(number).fault = fault
        if self.scenario.vantages:
            await self._fleet(stack, api_port)
        else:
            await self._computers(stack, vantages, api_port)
        self.api.livekit_url = self.ways[0].livekit
        self.api.doors = doors = Doors(
            self.gates,
            [way.livekit_proxy for way in self.ways],
            usual={number - 1: fault for number, fault in self.scenario.relays.faults.items()},
            api_port=self.api.port,
            livekit_port=self._world.livekit_port,
            mute_port=self._world.mute_port,
        )
        stack.callback(doors.close)

    async def _computers(self, stack: AsyncExitStack, vantages: int, api_port: int) -> None:
        """The ways of Computer A and, where there are two vantages, of Computer B."""
        name, relays = self.scenario.name, {gate.url: gate.name for gate in self.gates}
        self.ways.append(await self._way(stack, name, "Computer A", relays, api_port=api_port))
        if vantages > 1:
            gates, network = [self.gates[-1], *self.gates[:-1]], self.scenario.network
            relays = await self._relays(stack, gates, network.b_relays_s)
            self.ways.append(await self._way(stack, f"{name}-b", "Computer B", relays, extra_s=network.b_api_s))

    async def _fleet(self, stack: AsyncExitStack, api_port: int) -> None:
        """A way for each vantage of the scenario; the target of the first bears the scenario's name."""
        cutting = Background()
        stack.push_async_callback(cutting.close)
        for number, given in enumerate(self.scenario.vantages):
            where = given.scaled(self._planner.scale)
            before = len(self._proxies)
            relays = await self._relays(stack, self.gates)
            target = f"{self.scenario.name}-{where.name}" if number else self.scenario.name
            way = await self._way(stack, target, where.name, relays, api_port=0 if number else api_port)
            self.ways.append(replace(way, plays={"target": target, **where.model_dump(exclude={"name"})}))
            cutting.start(cut(self._proxies[before:], where.cuts, self.api.begun, self._world.clock))

    def _numbered(self, number: int) -> Gate:
        if not 1 <= number <= len(self.gates):
            raise UsageError(
                f"scenario {self.scenario.name} has a fault for relay {number}: there are {len(self.gates)}"
            )
        return self.gates[number - 1]

    def as_dict(self) -> dict[str, Any]:
        """The part of lab.json about this scenario."""
        names = {url: name for way in self.ways for url, name in way.relays.items()}
        ways = [way.as_dict() | way.plays for way in self.ways]
        return {"vantages": ways, "truth_names": names}

    async def _relays(self, stack: AsyncExitStack, gates: list[Gate], extra_s: float = 0.0) -> dict[str, str]:
        urls = {}
        for gate in gates:
            proxy = await self._proxy(stack, gate.port, extra_s)
            urls[f"ws://{HOST}:{proxy.port}/"] = gate.name
        return urls

    async def _way(
        self,
        stack: AsyncExitStack,
        target: str,
        name: str,
        relays: dict[str, str],
        *,
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
            relays=relays,
            livekit=f"ws://{HOST}:{livekit.port}",
            api_proxy=api,
            livekit_proxy=livekit,
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
        self._proxies.append(proxy)
        return proxy
