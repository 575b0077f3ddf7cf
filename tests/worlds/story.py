"""A store written as a story: what was done at which second, row by row."""

from __future__ import annotations

from typing import Any

from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation, Operation, Outcome, Role, Source

NOON = 1_772_625_600 * SECOND_NS  # 2026-03-04 12:00 UTC


RELAY = "wss://relay.example/"


class Story:
    """Hand-written rows of one nest, seconds after noon."""

    def __init__(self, room: str, trace: str = "trace") -> None:
        self.rows: list[Observation] = []
        self.trace, self.room = trace, room
        self.row(Source.API, Operation.CREATE, Outcome.ACCEPTED, 0.0, role=Role.HOST)

    def row(self, source: Source, operation: Operation, outcome: Outcome, sent: float, **more: Any) -> None:
        at = NOON + round(sent * SECOND_NS)
        values: dict[str, Any] = {
            "observation_id": f"{self.trace}-{len(self.rows):04}",
            "run_id": "run",
            "trace_id": self.trace,
            "vantage": "Computer A",
            "nest": f"30312:{'ab' * 32}:{self.room}",
            "room": self.room,
            "source": source,
            "target": RELAY if source is Source.RELAY else "https://nests.example/api/v1/nests",
            "operation": operation,
            "sent_at": at,
            "received_at": at + 10_000_000,
            "outcome": outcome,
        }
        self.rows.append(Observation(**values | more))

    def polls(self, source: Source, operation: Operation, shown: float, end: float = 60.0, **more: Any) -> None:
        for sent in (0.1, 0.5, 1, 2, 4, 8, 16, 32, 45, end):
            outcome = Outcome.VISIBLE if sent >= shown else Outcome.ABSENT
            self.row(source, operation, outcome, float(sent), **more)

    def join(self, arrived: float, verdict: str, message: str, **more: Any) -> None:
        words = {"verdict": verdict, "message": message, "age_s": arrived, "retry": False}
        facts = detail(
            verdict=verdict, policy="fixed(1)", requests=2, elapsed_s=2.0, said={"guide": words, "released": words}
        )
        values: dict[str, Any] = {"received_at": NOON + round((arrived + 2) * SECOND_NS), "attempt_group": str(arrived)}
        self.row(Source.JOIN, Operation.VERDICT, Outcome.ABSENT, arrived, **values | {"detail": facts} | more)
