"""A crowd behind one address, at an API that counts, joiner by joiner and request by request: what tuning/herd plays as
arrays."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import numpy as np

from nestobs.join.flow import REQUESTS, Reply, Verdict, Wait, join_flow
from nestobs.join.policy import Policy
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Outcome
from nestobs.tuning.herd import Limit
from nestobs.tuning.simulation import answer, nest_at
from worlds.played import ORIGIN


@dataclass
class Counter:
    """One address at an API: a window begins with the first request, all are counted, those above are refused."""

    limit: Limit
    until: int = 0
    used: int = 0
    most: int = 0

    def refuses(self, now: int) -> float | None:
        """Seconds until its end where this request is one too many."""
        if now >= self.until:
            self.until, self.used = now + round(self.limit.window_s * SECOND_NS), 0
        self.used += 1
        self.most = max(self.most, self.used)
        return (self.until - now) / SECOND_NS if self.used > self.limit.requests else None


@dataclass
class Seen:
    """answered, refused: when requests were sent, ns since the nest was made, ascending. verdicts, seats_s: of each
    joiner, the latter from arrival to its token, None where there is none. most: requests in one window."""

    answered: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    seats_s: dict[int, float] = field(default_factory=dict)
    most: int = 0


def one_by_one(
    policy: Policy,
    arrivals: np.ndarray,
    joinable_s: float,
    rng: np.random.Generator,
    limit: Limit,
    *,
    signed_in: bool = True,
    round_trip_s: float = 0.02,
) -> Seen:
    """Joiners who arrive at these ages at one nest, from behind one address: each a join_flow of its own."""
    late, seen, counter = round(round_trip_s * SECOND_NS), Seen(), Counter(limit)
    queue: list = []
    begins = [ORIGIN + round(float(age) * SECOND_NS) for age in arrivals]

    def go_on(number, flow, reply):
        try:
            step = next(flow) if reply is None else flow.send(reply)
        except StopIteration as ended:
            seen.verdicts[number] = ended.value
            return
        now = begins[number] if reply is None else reply.at
        heapq.heappush(queue, (step.until if isinstance(step, Wait) else now, number, flow, step))

    for number, begin in enumerate(begins):
        flow = join_flow("replayed", signed_in, policy, arrived_at=begin, rng=rng, nest=nest_at(ORIGIN))
        go_on(number, flow, None)
    while queue:
        now, number, flow, step = heapq.heappop(queue)
        there = (now - ORIGIN) / SECOND_NS >= joinable_s
        if not isinstance(step, REQUESTS):
            go_on(number, flow, answer(step, now, there=there))
        elif (left_s := counter.refuses(now)) is None:
            seen.answered.append(now - ORIGIN)
            reply = answer(step, now + late, there=there)
            if reply.token is not None:
                seen.seats_s.setdefault(number, (reply.at - begins[number]) / SECOND_NS)
            go_on(number, flow, reply)
        else:
            seen.refused.append(now - ORIGIN)
            told = float(math.ceil(left_s)) if limit.retry_after else None
            no = Reply(now + late, Outcome.REFUSED, status=429, failure=Failure.RATE_LIMITED, retry_after_s=told)
            go_on(number, flow, no)
    seen.most = counter.most
    return seen
