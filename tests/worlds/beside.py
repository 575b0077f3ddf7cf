"""Nests that several vantages watched, with known truth, on clocks that are off by known amounts, as rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Role, Source

NOON = 1_772_625_600 * SECOND_NS
"""2026-03-04T12:00:00Z: when the first nest is made, by the reference clock."""

API = "https://nests.example/api/v1/nests"
RELAY = "wss://relay.example/"
TOOK_NS = 10_000_000
Truth = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Watcher:
    """A vantage. run: its process, and so its clock, which is ahead_s ahead; its rows say that it is `told_s` ahead,
    within error_s, or nothing (None). until_s: it asks no longer than that after the first nest was made."""

    name: str
    run: str = "run"
    ahead_s: float = 0.0
    told_s: float | None = None
    error_s: float = 0.0
    until_s: float = math.inf
    gap_s: float = 1.0

    def clock(self) -> dict[str, Any]:
        """What its rows say of it."""
        if self.told_s is None:
            return {}
        return {"clock_offset_s": self.told_s, "clock_error_s": self.error_s, "sync_age_s": 0.0}


A, B = Watcher("Computer A"), Watcher("Computer B")


def elsewhere(name: str, ahead_s: float = 0.0, error_s: float = 0.05, **more: Any) -> Watcher:
    """One on another computer, whose clock was compared."""
    return Watcher(name, f"run of {name}", ahead_s, ahead_s, error_s, **more)


def rows(
    truth: Truth,
    watchers: Sequence[Watcher],
    *,
    seed: int = 1,
    ours: bool = True,
    source: Source = Source.API,
    operation: Operation = Operation.GUEST,
    target: str = "",
    horizon_s: float = 40.0,
    spacing_s: float = 60.0,
) -> Iterator[Observation]:
    """truth: seconds after its making at which each nest shows to each watcher, shape (nests, watchers); inf: never.
    Each asks at a phase of its own, about every gap_s. ours: the first watcher's run makes the nests. Every run has a
    trace of its own for each nest."""
    rng = np.random.default_rng(seed)
    target = target or (RELAY if source is Source.RELAY else API)
    for number, shown in enumerate(truth):
        born = number * spacing_s
        if ours:
            yield _row(watchers[0], number, born, source=Source.API, operation=Operation.CREATE, role=Role.HOST,
                       outcome=Outcome.ACCEPTED, target=API, attempt_no=0)  # fmt: skip  # a table
        for watcher, at in zip(watchers, shown, strict=True):
            ages = np.arange(rng.random() * watcher.gap_s, horizon_s, watcher.gap_s)
            for place, age in enumerate(ages[born + ages < watcher.until_s]):
                seen = age >= at
                missing = {"status": 404, "failure": Failure.NOT_FOUND, "reason": "Nest not found"}
                facts: dict[str, Any] = {"status": 200} if seen else missing
                if source is Source.RELAY:
                    facts = {}
                outcome = Outcome.VISIBLE if seen else Outcome.ABSENT
                yield _row(watcher, number, born + float(age), source=source, operation=operation, target=target,
                           outcome=outcome, attempt_no=place + 1, **facts)  # fmt: skip  # a table


def _row(watcher: Watcher, number: int, at_s: float, **facts: Any) -> Observation:
    sent = NOON + round((at_s + watcher.ahead_s) * SECOND_NS)
    name = f"{watcher.run}-{watcher.name}-{number}-{facts['target']}-{facts['operation']}-{facts['attempt_no']}"
    usual: dict[str, Any] = {
        "observation_id": name,
        "run_id": watcher.run,
        "trace_id": f"{watcher.run}-{number}",
        "vantage": watcher.name,
        "nest": f"30312:{'ab' * 32}:room-{number}",
        "room": f"room-{number}",
        "sent_at": sent,
        "received_at": sent + TOOK_NS,
    }
    return Observation(**usual | watcher.clock() | facts)


def delays(count: int, vantages: int, *, last_s: float = 0.0, seed: int = 2, median_s: float = 4.0) -> Truth:
    """Lognormal delays of each nest, the same for all vantages but the last, to which it comes last_s later."""
    each = median_s * np.exp(0.5 * np.random.default_rng(seed).standard_normal(count))
    found = np.repeat(each[:, None], vantages, axis=1)
    found[:, -1] += last_s
    return found
