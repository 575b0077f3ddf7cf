"""Rows of one nest written by hand: who asked what, so many seconds after noon, and what came."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import COLUMNS, Failure, Observation, Operation, Outcome, Role, Source, as_row
from nestobs.store.reader import Store

NOON = 1_772_625_600 * SECOND_NS
"""2026-03-04T12:00:00Z: when the nest is made."""

API = "https://nests.example/api/v1/nests"
RELAY = "wss://relay.example/"
LIVEKIT = "wss://livekit.example"
_TARGETS = {Source.API: API, Source.RELAY: RELAY, Source.LIVEKIT: LIVEKIT, Source.JOIN: API, Source.CLOCK: "clock:"}
_NUMBERS = count(1)


_TYPES = {"int": "Int64", "real": "Float64", "bool": "boolean", "text": "str"}


def frame(rows: Sequence[Observation]) -> pd.DataFrame:
    """The rows as a store hands them out."""
    table = pd.DataFrame([as_row(each) for each in rows], columns=[column.name for column in COLUMNS])
    kinds = {column.name: _TYPES[column.type] for column in COLUMNS}
    return table.astype(kinds | {"sent_at": "int64", "attempt_no": "int64"})


def row(source: Source, operation: Operation, outcome: Outcome, sent_s: float, **more: Any) -> Observation:
    """An attempt answered after 10 ms; `absent` of the API is a 404."""
    at = NOON + round(sent_s * SECOND_NS)
    values: dict[str, Any] = {
        "observation_id": f"01960000-0000-7000-8000-{next(_NUMBERS):012d}",
        "run_id": "run",
        "trace_id": "trace",
        "vantage": "Computer A",
        "nest": f"30312:{'ab' * 32}:room",
        "room": "room",
        "source": source,
        "target": _TARGETS.get(source, ""),
        "operation": operation,
        "sent_at": at,
        "received_at": at + 10_000_000,
        "outcome": outcome,
    }
    if source is Source.API and outcome in (Outcome.ABSENT, Outcome.VISIBLE):
        found = outcome is Outcome.VISIBLE
        values |= (
            {"status": 200} if found else {"status": 404, "failure": Failure.NOT_FOUND, "reason": "Nest not found"}
        )
    return Observation(**values | more)


def made(sent_s: float = 0.0, **more: Any) -> Observation:
    """Its creation, accepted; as a collector writes it: nest and room are not known yet."""
    return row(
        Source.API, Operation.CREATE, Outcome.ACCEPTED, sent_s, **{"role": Role.HOST, "nest": "", "room": ""} | more
    )


def polls(source: Source, operation: Operation, shown_s: float, at: Sequence[float], **more: Any) -> list[Observation]:
    """A layer asked at these ages, that shows the nest from `shown_s` on."""
    return [row(source, operation, Outcome.VISIBLE if s >= shown_s else Outcome.ABSENT, s, **more) for s in at]


def join(
    arrived_s: float,
    asked: Sequence[tuple[Operation, Outcome, float]],
    verdict: str,
    message: str,
    *,
    role: Role = Role.JOINER,
    group: str = "",
    **more: Any,
) -> list[Observation]:
    """A join: its intent, what it asked (operation, outcome, seconds after arrival), and its verdict 0.1 s later."""
    group = group or f"join-{arrived_s}-{next(_NUMBERS)}"
    shared = {"role": role, "attempt_group": group} | more
    intent = {"failure": Failure.INTENT, "reason": "about to join", "received_at": None}
    rows = [row(Source.JOIN, Operation.VERDICT, Outcome.UNKNOWN, arrived_s, **shared | intent)]
    for operation, outcome, after in asked:
        source = Source.LIVEKIT if operation in (Operation.SIGNAL, Operation.MEDIA) else Source.API
        rows.append(row(source, operation, outcome, arrived_s + after, **shared))
    if not verdict:
        return rows
    joined = verdict in ("authenticated", "guest", "guest_instead")
    last = max((after for _, _, after in asked), default=0.0) + 0.1
    words = {"verdict": verdict, "message": message, "age_s": arrived_s, "retry": False}
    facts = detail(
        verdict=verdict,
        message=message,
        policy="fixed(1)",
        requests=len(asked),
        elapsed_s=last,
        retry_offered=verdict == "starting_up",
        said={"guide": words, "released": words},
    )
    ended: dict[str, Any] = {"detail": facts, "received_at": NOON + round((arrived_s + last) * SECOND_NS)}
    failed = {} if joined else {"failure": Failure.NOT_FOUND, "reason": verdict}
    outcome = Outcome.VISIBLE if joined else Outcome.ABSENT
    rows.append(row(Source.JOIN, Operation.VERDICT, outcome, arrived_s, **shared | ended | failed))
    return rows


def store_of(directory: Path, rows: Sequence[Observation]) -> str:
    """The folder of a store with these rows."""
    store = Store.open(directory)
    with store.writer() as writer:
        writer.append(rows)
    return str(store.directory)
