"""A join in virtual time the long way, step by step: what tuning/simulation.py shortens to a course."""

from __future__ import annotations

import math

import numpy as np

from nestobs.join.flow import REQUESTS, Signal, Verdict, Wait, join_flow
from nestobs.join.policy import Policy
from nestobs.observation.duration import SECOND_NS
from nestobs.tuning.network import Network
from nestobs.tuning.simulation import answer, nest_at

ORIGIN = 1_000_000_000 * SECOND_NS


def play(
    policy: Policy,
    joinable_s: float,
    arrival_s: float,
    rng: np.random.Generator,
    *,
    gone_s: float = math.inf,
    signed_in: bool = True,
    round_trip_s: float = 0.0,
    network: Network | None = None,
) -> Verdict:
    """One join of a nest that is joinable from `joinable_s` until `gone_s`."""
    late = round(round_trip_s * SECOND_NS)
    now = arrived = ORIGIN + round(arrival_s * SECOND_NS)
    flow = join_flow("replayed", signed_in, policy, arrived_at=arrived, rng=rng, nest=nest_at(ORIGIN))
    try:
        step = next(flow)
        while True:
            there = joinable_s <= (now - ORIGIN) / SECOND_NS < gone_s
            failed = None
            if network is not None and isinstance(step, REQUESTS):
                failed = network.request(step, now, late)
            elif network is not None and isinstance(step, Signal):
                failed = network.connect(step, now)
            if failed is not None:
                now = failed.at
            elif isinstance(step, REQUESTS):
                now += late
            now = max(now, step.until) if isinstance(step, Wait) else now
            step = flow.send(failed or answer(step, now, there=there))
    except StopIteration as ended:
        verdict: Verdict = ended.value
        return verdict
