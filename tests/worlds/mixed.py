"""Nests of several days with everything that could tie one nest's rows to another's, drawn by a seed.

Some are watched for days, some from two places whose clocks differ, some twice; rows leave out the trace, the address
or the room; rooms are known by a trace alone, webhooks by a room alone. Clocks are stepped, machines sleep, networks
and LiveKit go down, joins and polls name nothing at all, and rooms are nobody's. Runs are cut off from their API while
they watch a nest, so that of their clocks only what they were told beside other nests is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Role, Source
from nestobs.store.reader import Store
from worlds.full_nests import NOON, POLLS_S, Names, nest_rows

DAYS = 4
LIVEKITS = ("wss://livekit.example", "wss://other-livekit.example")
APIS = ("https://nests.example/api/v1/nests", "https://other.example:8443/api/v1/nests")
_LONG = (*POLLS_S, 600.0, 7_200.0, 90_000.0, 170_000.0)


def mixed_rows(seed: int, nests: int = 30) -> list[Observation]:
    """All rows, in no order."""
    rng = np.random.default_rng(seed)
    rows = [row for number in range(nests) for row in _nest(number, rng)]
    rows += _loose(rng, rows)
    rows = [_disturbed(row, rng) for row in rows]
    for target in LIVEKITS:
        rows = _livekit_down(rows, target, rng)
    order = rng.permutation(len(rows))
    ids = count(1)
    return [replace(rows[at], observation_id=f"01960000-0000-7000-8000-{next(ids):012d}") for at in order]


def mixed_store(directory: Path, seed: int, nests: int = 30) -> Store:
    """A store with them: most are sealed, in several files of overlapping times, some are in the journal."""
    rows = mixed_rows(seed, nests)
    store = Store.open(directory)
    with store.writer() as writer:
        for part in range(3):
            writer.append(rows[part::3])
            writer.flush()
            writer.seal(NOON + (part + 1) * 86_400 * SECOND_NS)
    return store


def _nest(number: int, rng: np.random.Generator) -> Iterator[Observation]:
    """Rows of one nest: of whose trace, how long it was watched and what they leave out, is drawn."""
    at = NOON + int(rng.integers(0, DAYS * 86_400 * SECOND_NS))
    api, livekit = APIS[number % 2], LIVEKITS[number % 2]
    both = ("Computer A", "Computer B") if rng.random() < 0.6 else ("Computer B",)
    names = Names(
        room=f"room-{number:04}", trace=f"trace-{number:05}", api=api, livekit=livekit, vantages=both,
        software="nestobs-lab/slow-api" if number % 3 == 0 else "nests/1.4.2",
    )  # fmt: skip  # as it was made
    polls = _LONG if rng.random() < 0.2 else POLLS_S[: int(rng.integers(4, len(POLLS_S) + 1))]
    kind = rng.choice(["whole", "address", "trace", "room", "twice", "foreign"])
    for row in nest_rows(number, names, at=at, polls=polls, seed=int(rng.integers(1000))):
        made = row.operation in (Operation.CREATE, Operation.PUBLISH)
        if kind == "foreign" and made:
            continue
        yield _on_clock(_unnamed(row, str(kind), rng), number)
    sids = [f"RM_{number}", f"RM_{number}b"] if rng.random() < 0.3 else [f"RM_{number}"]
    for place, sid in enumerate(sids):
        for event, after in (("room_started", 1.0), ("room_finished", 20.0)):
            sent = at + round((after + 30 * place) * SECOND_NS)
            facts: dict[str, Any] = {"source": Source.WEBHOOK, "operation": Operation.RECEIVE, "target": "http://hook/"}
            facts |= {"outcome": Outcome.ACCEPTED, "status": 200, "detail": detail(event=event, room_sid=sid)}
            facts |= {"sent_at": sent, "received_at": sent, "remote_at": sent - sent % SECOND_NS, "nest": ""}
            told = replace(row, **facts, trace_id="", role=Role.OBSERVER, attempt_group="", failure=None, reason="")
            yield _on_clock(told, number)


def _unnamed(row: Observation, kind: str, rng: np.random.Generator) -> Observation:
    """The row, less what it does not name."""
    if kind in ("address", "foreign"):
        return replace(row, trace_id="" if row.nest else row.trace_id, room=row.room if rng.random() < 0.5 else "")
    if kind == "trace":
        return replace(row, nest="", room=row.room if rng.random() < 0.05 else "")
    if kind == "room":
        return replace(row, nest="", trace_id=row.trace_id if rng.random() < 0.5 else "")
    if kind == "twice" and row.vantage == "Computer B":
        return replace(row, trace_id=f"{row.trace_id}-again")
    return row


def _on_clock(row: Observation, number: int) -> Observation:
    """The row on its vantage's clock; some of a run's rows say how far it is off."""
    run = f"{row.vantage}-{number % 5}"
    off_s = {0: 0.0, 1: 40.0, 2: -7.25, 3: 0.003, 4: 0.0}[number % 5] * (1 if row.vantage == "Computer A" else 0.5)
    moved = replace(row, run_id=run, sent_at=row.sent_at + round(off_s * SECOND_NS))
    if row.received_at is not None:
        moved = replace(moved, received_at=row.received_at + round(off_s * SECOND_NS))
    cut_off = number % 7 == 6  # from the API, while it watched this nest
    if row.sent_at // SECOND_NS % 3 or number % 5 == 4 or cut_off:
        return moved
    error_s = 0.05 + row.sent_at // SECOND_NS % 7 / 100
    return replace(moved, clock_offset_s=off_s + error_s / 3, clock_error_s=error_s, sync_age_s=1.0)


def _loose(rng: np.random.Generator, rows: list[Observation]) -> list[Observation]:
    """Rows about no nest: of the machine, polls and joins that name nothing, and rooms that are nobody's."""
    found = []
    base = replace(rows[0], trace_id="", nest="", room="", attempt_group="", failure=None, reason="", detail="{}")
    for place in range(160):
        like = rows[int(rng.integers(len(rows)))]
        sent = like.sent_at + int(rng.integers(-3, 3)) * SECOND_NS
        kept = replace(base, vantage=like.vantage, run_id=like.run_id, sent_at=sent, received_at=sent + SECOND_NS)
        own = {"source": Source.CLOCK, "operation": Operation.STEP, "target": "", "outcome": Outcome.PROBE_ERROR}
        kind = place % 8
        if kind < 3:
            failure = (Failure.CLOCK_STEP, Failure.SUSPENDED, Failure.LOOP_BLOCKED)[kind]
            slept = int(rng.integers(1, 20_000)) * SECOND_NS if kind == 1 and place % 3 else 0
            found.append(replace(kept, **own, sent_at=sent - slept, failure=failure, reason=str(failure)))
        elif kind == 3:
            found.append(replace(kept, source=Source.CLOCK, operation=Operation.HEALTH, target="", clock_offset_s=3.0))
        elif kind == 4:
            asked = {"source": Source.API, "operation": Operation.GUEST, "target": APIS[0], "outcome": Outcome.VISIBLE}
            found.append(replace(kept, **asked, status=200, attempt_group=f"loose-{place % 5}", role=Role.GUEST))
        elif kind == 5:
            told = {"source": Source.JOIN, "operation": Operation.VERDICT, "target": APIS[0], "role": Role.GUEST}
            facts = detail(verdict="gone", requests=2, elapsed_s=1.0)
            found.append(replace(kept, **told, attempt_group=f"loose-{place}", detail=facts, outcome=Outcome.ABSENT))
        elif kind == 6:
            listed = {"source": Source.LIVEKIT, "operation": Operation.ROOMS, "outcome": Outcome.VISIBLE}
            found.append(replace(kept, **listed, room=f"nobody-{place % 4}", target=LIVEKITS[0], clock_offset_s=9.0))
        else:
            told = {"source": Source.JOIN, "operation": Operation.VERDICT, "target": APIS[0], "role": Role.GUEST}
            facts = detail(verdict="gone", requests=1, elapsed_s=1.0, said={"guide": {"message": "This nest is no"}})
            room = f"nobody-{place % 4}" if place % 3 else like.room
            found.append(replace(kept, **told, room=room, attempt_group=f"room-{place}", detail=facts))
    return found


def _disturbed(row: Observation, rng: np.random.Generator) -> Observation:
    """Now and then the row itself tells of the machine, was late, or held up."""
    drawn = rng.random()
    if drawn < 0.01 and row.operation is not Operation.VERDICT:
        failed = {"failure": Failure.NO_NETWORK, "failure_layer": FailureLayer.PROBER, "reason": "no way out"}
        return replace(row, **failed, outcome=Outcome.PROBE_ERROR, received_at=row.sent_at + 5 * SECOND_NS)
    if drawn < 0.02 and row.source is not Source.CLOCK:
        return replace(row, failure=Failure.LOOP_BLOCKED, reason="we stood still", outcome=Outcome.PROBE_ERROR)
    if drawn < 0.05:
        return replace(row, loop_lag_s=float(rng.random() * 2))
    if drawn < 0.10:
        return replace(row, planned_at=row.sent_at - int(rng.integers(0, SECOND_NS)))
    if drawn < 0.12 and row.source is Source.API:
        limited = {"failure": Failure.RATE_LIMITED, "reason": "too many", "status": 429, "outcome": Outcome.REFUSED}
        return replace(row, **limited, detail=detail(**{"retry-after": str(int(rng.integers(1, 90)))}))
    if drawn < 0.14 and row.source is Source.API:
        return replace(row, outcome=Outcome.UNKNOWN, status=502, failure=Failure.SERVER_ERROR, reason="bad gateway")
    return row


def _livekit_down(rows: list[Observation], target: str, rng: np.random.Generator) -> list[Observation]:
    """From time to time nobody reaches that LiveKit, and one run never does."""
    asked = [row.sent_at for row in rows if row.target == target]
    spans = [(at, at + int(rng.integers(1, 120)) * SECOND_NS) for at in rng.choice(asked, 12).tolist()]
    failed = {"outcome": Outcome.UNKNOWN, "failure": Failure.TIMEOUT, "reason": "no answer", "status": None}

    def told(row: Observation) -> Observation:
        ours = row.source is Source.LIVEKIT and row.target == target and row.failure is None
        out = any(start <= row.sent_at < end for start, end in spans) or row.run_id == "Computer B-3"
        return replace(row, **failed) if ours and out else row

    return [told(row) for row in rows]
