"""Many joiners of one nest at once, behind one address, in virtual time: the herd that a policy makes.

Each joiner is a join_flow of its own; all share one budget, the same Limiter that live runs ask before each request. So
what is counted here is what a server would see of them, and no policy gets more out of the address than it allows.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nestobs.join.budget import Limiter
from nestobs.join.flow import REQUESTS, Flow, Reply, Step, Verdict, Wait, join_flow
from nestobs.join.policy import Policy
from nestobs.observation.arrays import busiest
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Outcome
from nestobs.tuning.simulation import answer, nest_at

_ORIGIN: Final = 1_000_000_000 * SECOND_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What a server sees of a crowd. requests: in all; peak_per_s: in the busiest second; peak_in_window: in the
    busiest window of the budget; refused: kept back by it; joined_share: of the joiners."""

    policy: str
    joiners: int
    requests: int
    peak_per_s: int
    peak_in_window: int
    refused: int
    joined_share: float


def crowd(
    policy: Policy,
    *,
    joinable_s: float,
    arrivals: Sequence[float],
    rng: np.random.Generator,
    limiter: Limiter | None = None,
    window_s: float = 900.0,
    signed_in: bool = True,
    round_trip_s: float = 0.02,
) -> Crowd:
    """Joiners of a nest that is joinable from `joinable_s` on (inf: never), who arrive at these ages, seconds.

    limiter: their common budget; None: none, so that the herd is seen as it would be. window_s: over which
    `peak_in_window` counts.
    """
    late = round(round_trip_s * SECOND_NS)
    queue: list[tuple[int, int, Flow, Step]] = []
    sent: list[int] = []
    verdicts: list[Verdict] = []

    def go_on(flow: Flow, number: int, reply: Reply | None) -> None:
        try:
            step = next(flow) if reply is None else flow.send(reply)
        except StopIteration as ended:
            verdicts.append(ended.value)
            return
        now = begins[number] if reply is None else reply.at
        heapq.heappush(queue, (step.until if isinstance(step, Wait) else now, number, flow, step))

    begins = [_ORIGIN + round(age * SECOND_NS) for age in arrivals]
    for number, begin in enumerate(begins):
        flow = join_flow("replayed", signed_in, policy, arrived_at=begin, rng=rng, nest=nest_at(_ORIGIN))
        go_on(flow, number, None)
    while queue:
        now, number, flow, step = heapq.heappop(queue)
        there = (now - _ORIGIN) / SECOND_NS >= joinable_s
        if not isinstance(step, REQUESTS):
            go_on(flow, number, answer(step, now, there=there))
        elif limiter is None or limiter.take(now):
            sent.append(now)
            go_on(flow, number, answer(step, now + late, there=there))
        else:
            go_on(flow, number, Reply(now, Outcome.PROBE_ERROR, failure=Failure.BUDGET))
    return Crowd(
        policy=policy.name,
        joiners=len(begins),
        requests=len(sent),
        peak_per_s=busiest(sent, 1.0),
        peak_in_window=busiest(sent, window_s),
        refused=0 if limiter is None else limiter.refused,
        joined_share=sum(verdict.joined for verdict in verdicts) / max(1, len(begins)),
    )
