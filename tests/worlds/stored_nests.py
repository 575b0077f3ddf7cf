"""Simulated nests as the rows that a collector would have stored of them, with ground truth known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation, Operation, Outcome, Role, Source
from nestobs.store.reader import Store
from worlds.simulated import TRUTHS, Floats, Truth, observe

NOON = 1_767_268_800 * SECOND_NS
"""2026-01-01T12:00:00Z: when the first nest is made."""

API = "https://nests.example/api/v1/nests"


def drawn(n: int, seed: int = 1, truth: Truth = TRUTHS[0]) -> tuple[Floats, Floats]:
    """(lower, upper] of n nests of a truth."""
    rng = np.random.default_rng(seed)
    return observe(truth.draw(n, rng), rng)


def nest_rows(
    lower: Floats,
    upper: Floats,
    *,
    api: str = API,
    vantage: str = "here",
    operation: Operation = Operation.JOIN,
    spacing_s: float = 60.0,
    name: str = "nest",
    round_trip_s: float = 0.02,
) -> Iterator[Observation]:
    """Each nest's creation, its last absent and its first visible, each answered after `round_trip_s`."""
    for number, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
        made = NOON + round(number * spacing_s * SECOND_NS)
        shared = {
            "run_id": "run",
            "trace_id": f"{name}-{number}",
            "vantage": vantage,
            "nest": f"30312:{'ab' * 32}:{name}-{number}",
            "room": f"{name}-{number}",
            "source": Source.API,
            "target": api,
        }

        def row(
            what: Operation, outcome: Outcome, begin: float, made: int = made, shared: dict[str, str] = shared
        ) -> Observation:
            return Observation(
                observation_id=f"{shared['trace_id']}-{shared['vantage']}-{what}-{outcome}",
                operation=what,
                outcome=outcome,
                role=Role.HOST if what is Operation.CREATE else Role.JOINER,
                sent_at=made + round(begin * SECOND_NS),
                received_at=made + round((begin + round_trip_s) * SECOND_NS),
                status={Outcome.ABSENT: 404, Outcome.VISIBLE: 200}.get(outcome),
                **shared,
            )

        yield row(Operation.CREATE, Outcome.ACCEPTED, 0.0)
        if low > 0:
            yield row(operation, Outcome.ABSENT, low)
        if math.isfinite(high):
            yield row(operation, Outcome.VISIBLE, max(low, high - round_trip_s))


def store_of(directory: Path, *parts: Iterator[Observation]) -> Store:
    """A store in this folder with these rows."""
    store = Store.open(directory)
    with store.writer() as writer:
        for part in parts:
            writer.append(list(part))
    return store
