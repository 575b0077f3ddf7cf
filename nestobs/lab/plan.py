"""The delays of one nest, drawn before anything happens, in a fixed order, from a seed.

The n-th nest of a scenario gets the same plan for the same seed whatever its random room id, and whatever the order in
which hosts then reach the relays. An event whose room this lab did not create gets a plan from its `d` tag.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from nestobs.lab.delays import Delay, draw
from nestobs.lab.faults.draw import Fault, draw_faults
from nestobs.lab.faults.shape import plus, shaped
from nestobs.lab.scenario import Scenario

ROUTES = ("info", "join", "guest")


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds from the creation, None for never; `routes` holds one delay for each replica, `relays` for each relay.

    `expires_s` is seconds from the creation of the LiveKit room; None for a room that stays. `faults` are the nest's
    own; those that begin with it are in the delays already.
    """

    livekit_s: Delay
    expires_s: Delay
    routes: dict[str, tuple[Delay, ...]]
    relays: tuple[Delay, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Planner:
    """Draws plans for one scenario. `scale` multiplies every delay but not the expiry's meaning of never."""

    scenario: Scenario
    seed: int
    relays: int
    scale: float = 1.0

    def nth(self, ordinal: int) -> Plan:
        """The plan of the scenario's nest number `ordinal`, counted from 0."""
        where, plan = self.scenario, self._draw(self._rng(0, ordinal))
        faults = draw_faults(where.faults, self._rng(2, ordinal), exactly=where.faults_a_nest, scale=self.scale)
        return replace(shaped(plan, faults), faults=faults)

    def stranger(self, identifier: str) -> Plan:
        """The plan of an event whose `d` tag is no room of this scenario."""
        return self._draw(self._rng(1, zlib.crc32(identifier.encode("utf-8", "surrogatepass"))))

    def _rng(self, kind: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(self.scenario.name.encode()), kind, number])

    def _draw(self, rng: np.random.Generator) -> Plan:
        where, scale = self.scenario, self.scale
        livekit = draw(where.livekit.created, rng, scale)
        expires = draw(where.livekit.expires, rng, scale) if where.livekit.expires is not None else None
        record = draw(where.api.record, rng, scale)
        routes = {
            route: tuple(plus(record, draw(getattr(where.api, route), rng, scale)) for _ in range(where.api.replicas))
            for route in ROUTES
        }
        last = self.relays - 1
        relays = tuple(
            draw(where.relays.last if number == last and where.relays.last else where.relays.each, rng, scale)
            for number in range(self.relays)
        )
        return Plan(livekit, expires, routes, relays)
