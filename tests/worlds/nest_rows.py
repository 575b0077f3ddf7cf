"""Rows of one nest, in seconds after noon: what any source may have seen of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import COLUMNS, Failure, Observation, Operation, Outcome, Source, as_row

NOON_S = 1_780_000_000
NEST = "30312:" + "cd" * 32 + ":room"
API, LIVEKIT, RELAY = "https://nests.example/api/v1/nests", "wss://livekit.example", "wss://relay.example/"


def at(seconds: float) -> int:
    return NOON_S * SECOND_NS + round(seconds * SECOND_NS)


def row(source: Source, operation: Operation, outcome: str, sent: float, **more: Any) -> Observation:
    """Answered a tenth of a second later, by the vantage A, under the trace `trace`."""
    target = {Source.API: API, Source.LIVEKIT: LIVEKIT, Source.RELAY: RELAY}.get(source, "here:")
    received = more.pop("received", sent + 0.1)
    facts: dict[str, Any] = {
        "observation_id": f"{source}-{operation}-{sent}",
        "run_id": "run",
        "trace_id": "trace",
        "vantage": "A",
        "nest": NEST,
        "room": "room",
        "target": target,
        "sent_at": at(sent),
        "received_at": None if received is None else at(received),
    }
    facts |= more
    if facts.get("failure"):
        facts.setdefault("reason", "said so")
    return Observation(source=source, operation=operation, outcome=Outcome(outcome), **facts)


def event(sent: float, created: float = 0.0, **more: Any) -> Observation:
    """A relay shows the event of that created_at; `status` and other facts of it go into the detail."""
    facts = {name: more.pop(name) for name in ("status", "withdrawn") if name in more}
    said = detail(created_at=NOON_S + round(created), event_id=f"e{created}", **facts)
    return row(Source.RELAY, Operation.QUERY, "visible", sent, **{"detail": said} | more)


def info(sent: float, **more: Any) -> Observation:
    """The API shows the nest; `createdAt` as it stands in its answer."""
    facts = {"info": {"createdAt": more.pop("createdAt")}} if "createdAt" in more else {}
    outcome = more.pop("outcome", "visible")
    return row(Source.API, Operation.INFO, outcome, sent, **{"detail": detail(**facts)} | more)


def guest(outcome: str, sent: float, **more: Any) -> Observation:
    return row(Source.API, Operation.GUEST, outcome, sent, **more)


def rooms(outcome: str, sent: float, **more: Any) -> Observation:
    """LiveKit's list; `made`: its creation_time, `sid`: that of the room."""
    made, sid = more.pop("made", None), more.pop("sid", None)
    stamp = {} if made is None else {"remote_at": at(made), "remote_grain_s": 1.0}
    return row(Source.LIVEKIT, Operation.ROOMS, outcome, sent, **stamp | {"detail": detail(sid=sid)} | more)


def created(sent: float = 0.0) -> Observation:
    return row(Source.API, Operation.CREATE, "accepted", sent, nest="", room="")


def deleted(sent: float, **more: Any) -> Observation:
    return row(Source.API, Operation.DELETE, "accepted", sent, **more)


def webhook(name: str, sent: float, **more: Any) -> Observation:
    """As a receiver writes it that knows the room alone."""
    stamp = {"remote_at": at(sent), "remote_grain_s": 1.0, "trace_id": "", "nest": ""}
    return row(Source.WEBHOOK, Operation.RECEIVE, "accepted", sent, **stamp | {"detail": detail(event=name)} | more)


def disturbed(failure: Failure, sent: float, received: float, **more: Any) -> Observation:
    """What a vantage notes of its own machine."""
    fields = {"trace_id": "", "nest": "", "room": "", "failure": failure, "received": received}
    return row(Source.CLOCK, Operation.STEP, "probe_error", sent, **fields | more)


def frame(*rows: Observation) -> pd.DataFrame:
    """As a store hands them out."""
    made = pd.DataFrame([as_row(one) for one in rows], columns=[column.name for column in COLUMNS], dtype=object)
    kinds = {"int": "Int64", "real": "float64", "bool": "boolean"}
    return made.astype({column.name: kinds.get(column.type, "object") for column in COLUMNS})
