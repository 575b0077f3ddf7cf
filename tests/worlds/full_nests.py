"""Nests watched in every way there is, as the rows of a collector: what makes every notebook draw every figure.

Each nest is created and published, its layers are asked from every vantage point, and two people try to join. Some
come late, some never; requests fail now and then. The names of everything are a value, so a test can make them hostile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nestobs.join.decision import GONE, LOADING, RELEASED_FAILED, STARTING
from nestobs.observation.detail import detail, facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Role, Source
from nestobs.store.reader import Store

NOON = 1_772_625_600 * SECOND_NS
"""2026-03-04T12:00:00Z: when the first nest is made."""

DAY = "2026-03-04"
POLLS_S = (0.1, 0.3, 0.6, 1.0, 1.6, 2.5, 4.0, 6.0, 9.0, 13.0, 18.0, 25.0, 34.0, 45.0, 60.0, 80.0)
_FAULT_EVERY = 37
_ABSENT = {"status": 404, "failure": Failure.NOT_FOUND, "failure_layer": FailureLayer.API}


@dataclass(frozen=True, slots=True)
class Names:
    """What others wrote, or an operator: of one nest and of everything about it."""

    room: str = "room"
    trace: str = "trace"
    vantages: Sequence[str] = ("Computer A", "Computer B")
    relays: Sequence[str] = ("wss://relay-one.example/", "wss://relay-two.example/")
    api: str = "https://nests.example/api/v1/nests"
    livekit: str = "wss://livekit.example"
    software: str = "nests/1.4.2"
    reason: str = "Nest not found"
    message: str = ""
    policy: str = "guide"
    more: dict[str, object] = field(default_factory=dict)
    """Put into every `detail`."""


def nest_rows(
    number: int, names: Names | None = None, *, at: int = NOON, polls: Sequence[float] = POLLS_S, seed: int = 1
) -> Iterator[Observation]:
    """All rows of one nest made at `at`; the delays depend on number and seed alone."""
    nest = _Nest(number, names or Names(room=f"room-{number:04}", trace=f"trace-{number:05}"), at)
    rng = np.random.default_rng([seed, number])
    join = math.inf if number % 8 == 7 else 4.0 * math.exp(0.8 * rng.standard_normal())
    yield from nest.made()
    for away, vantage in enumerate(nest.names.vantages):
        for place, relay in enumerate(nest.names.relays):
            seen = 0.4 + 0.5 * place + rng.gamma(2.0, 0.3)
            yield from nest.asked(Source.RELAY, Operation.QUERY, relay, vantage, seen, polls)
        yield from nest.asked(Source.CLIENT, Operation.LOAD, nest.names.relays[0], vantage, 1.0 + away, polls)
        api, livekit = nest.names.api, nest.names.livekit
        yield from nest.asked(Source.API, Operation.INFO, api, vantage, 0.5 + 0.4 * join, polls)
        yield from nest.asked(Source.API, Operation.JOIN, api, vantage, join, polls)
        yield from nest.asked(Source.API, Operation.GUEST, api, vantage, 0.9 * join, polls)
        yield from nest.asked(Source.LIVEKIT, Operation.ROOMS, livekit, vantage, 0.3 + rng.gamma(2.0, 0.2), polls)
        yield from nest.asked(Source.LIVEKIT, Operation.SIGNAL, livekit, vantage, 0.8 + rng.gamma(2.0, 0.3), polls)
        yield from nest.asked(Source.LIVEKIT, Operation.MEDIA, livekit, vantage, 1.2 + rng.gamma(2.0, 0.5), polls)
        yield from nest.joined(Role.JOINER, vantage, 1.0 + 3.0 * away, join)
        yield from nest.joined(Role.GUEST, vantage, 5.0 + 20.0 * away, 0.9 * join)
    if number % 5 == 4:
        yield nest.cut_off(30.0)


def all_rows(count: int, *, start: int = NOON, spacing_s: float = 30.0, first: int = 0) -> Iterator[Observation]:
    """The rows of so many nests, numbered from `first`, each made `spacing_s` after the one before."""
    for place in range(count):
        yield from nest_rows(first + place, at=start + round(place * spacing_s * SECOND_NS))


def rows_of_days(count: int, days: int) -> Iterator[Observation]:
    """The same on each of so many days, `DAY` the last of them."""
    for day in range(days):
        yield from all_rows(count, start=NOON - (days - 1 - day) * 86_400 * SECOND_NS, first=day * count)


def let_down(rows: Iterable[Observation], every: int = 5) -> Iterator[Observation]:
    """The same, but each so many-th join has its connection to LiveKit reset, so that it gets a token and no seat."""
    groups: dict[str, int] = {}
    broken = {"outcome": Outcome.UNKNOWN, "failure": Failure.RESET, "failure_layer": FailureLayer.SIGNAL}
    broken |= {"reason": "the connection was reset"}
    for row in rows:
        group = row.attempt_group
        is_let_down = group.startswith("join-") and groups.setdefault(group, len(groups)) % every == 0
        if is_let_down and row.operation is Operation.SIGNAL:
            yield replace(row, **broken)
        elif is_let_down and row.operation is Operation.VERDICT:
            facts = facts_of(row.detail) | {"verdict": "livekit_unreachable"}
            yield replace(row, **broken, detail=detail(**facts))
        else:
            yield row


def store_of(directory: Path, rows: Iterator[Observation] | Sequence[Observation]) -> str:
    """The folder of a store with these rows."""
    store = Store.open(directory)
    with store.writer() as writer:
        writer.append(rows)
    return str(store.directory)


class _Nest:
    """Rows of one nest, numbered."""

    def __init__(self, number: int, names: Names, at: int) -> None:
        self.number, self.names, self.at = number, names, at
        self.address = f"30312:{'ab' * 32}:{names.room}"
        self.written = 0

    def row(self, sent_s: float, taken_s: float | None, **facts: Any) -> Observation:
        self.written += 1
        sent = self.at + round(sent_s * SECOND_NS)
        usual: dict[str, Any] = {
            "observation_id": f"01960000-0000-7000-8000-{self.number:06d}{self.written:06d}",
            "run_id": "run",
            "trace_id": self.names.trace,
            "nest": self.address,
            "room": self.names.room,
            "sent_at": sent,
            "received_at": None if taken_s is None else sent + round(taken_s * SECOND_NS),
            "software": self.names.software,
            "timeout_s": 10.0,
            "detail": detail(**self.names.more),
        }
        return Observation(**usual | facts)

    def made(self) -> Iterator[Observation]:
        """Created, then published to every relay, each with its intent."""
        host = {"vantage": self.names.vantages[0], "role": Role.HOST, "outcome": Outcome.ACCEPTED}
        intent = {"outcome": Outcome.UNKNOWN, "failure": Failure.INTENT, "reason": "about to ask"}
        create = host | {"source": Source.API, "operation": Operation.CREATE, "target": self.names.api}
        create |= {"attempt_group": f"create-{self.number}", "nest": "", "room": ""}
        yield self.row(-0.002, None, **create | intent)
        yield self.row(0.0, 0.1, **create, status=200)
        for relay in self.names.relays:
            publish = host | {"source": Source.RELAY, "operation": Operation.PUBLISH, "target": relay}
            publish |= {"attempt_group": f"publish-{self.number}-{relay}"}
            yield self.row(0.12, None, **publish | intent)
            yield self.row(0.12, 0.05, **publish)

    def asked(
        self,
        source: Source,
        operation: Operation,
        target: str,
        vantage: str,
        seen_s: float,
        polls: Sequence[float],
        role: Role = Role.OBSERVER,
    ) -> Iterator[Observation]:
        """Polls of one layer that shows the nest `seen_s` after its creation; a few of them fail."""
        shared: dict[str, Any] = {"source": source, "operation": operation, "target": target, "vantage": vantage}
        shared["role"] = role
        for place, sent in enumerate(polls):
            if (self.written + place) % _FAULT_EVERY == 0:
                failed = {"failure": Failure.TIMEOUT, "failure_layer": FailureLayer.HTTP, "reason": self.names.reason}
                yield self.row(sent, None, **shared | failed, outcome=Outcome.UNKNOWN)
            elif sent >= seen_s:
                yield self.row(sent, 0.01, **shared, outcome=Outcome.VISIBLE, status=200)
            else:
                absent = {} if source in (Source.RELAY, Source.CLIENT) else _ABSENT | {"reason": self.names.reason}
                yield self.row(sent, 0.01, **shared | absent, outcome=Outcome.ABSENT)

    def joined(self, role: Role, vantage: str, arrived: float, ready_s: float) -> Iterator[Observation]:
        """A join that asks six times in 30 s, and what came of it."""
        group = f"join-{self.number}-{role}-{vantage}"
        tries = [arrived + gap for gap in (0.0, 1.0, 3.0, 7.0, 15.0, 30.0)]
        in_time = [each for each in tries if each >= ready_s]
        ways = (Operation.GUEST,) if role is Role.GUEST else (Operation.JOIN, Operation.GUEST)
        asked = tries[: len(tries) - len(in_time) + 1]
        shared: dict[str, Any] = {"vantage": vantage, "role": role, "attempt_group": group}
        for attempt, sent in enumerate(asked, 1):
            for place, way in enumerate(ways):
                told = {"source": Source.API, "operation": way, "target": self.names.api, "attempt_no": attempt}
                came = sent >= ready_s
                facts = {"status": 200} if came else _ABSENT | {"reason": self.names.reason}
                outcome = Outcome.VISIBLE if came else Outcome.ABSENT
                yield self.row(sent + 0.02 * place, 0.01, **shared | told | facts, outcome=outcome)
        if in_time:
            signal = {"source": Source.LIVEKIT, "operation": Operation.SIGNAL, "target": self.names.livekit}
            yield self.row(in_time[0] + 0.05, 0.03, **shared | signal, outcome=Outcome.VISIBLE)
        yield self._verdict(shared, arrived, (in_time or tries[-1:])[0] + 0.1, bool(in_time), arrived >= ready_s)

    def _verdict(self, shared: dict[str, Any], arrived: float, ended: float, came: bool, at_once: bool) -> Observation:
        guest = shared["role"] is Role.GUEST
        verdict = ("guest" if guest else "authenticated") if came else "gone"
        told = self.names.message or ("" if at_once else STARTING if arrived < 30 else GONE)
        released = self.names.message or ("" if at_once else LOADING if self.number % 3 == 0 else RELEASED_FAILED)
        facts = detail(
            verdict=verdict,
            message=self.names.message or ("" if came else GONE),
            policy=self.names.policy,
            requests=6,
            elapsed_s=ended - arrived,
            age_s=ended,
            said={
                "guide": {"verdict": verdict if at_once else "starting_up", "message": told, "age_s": arrived},
                "released": {"verdict": verdict if at_once else "loading", "message": released, "age_s": arrived},
            },
            **self.names.more,
        )
        failed = {} if came else {"failure": Failure.NOT_FOUND, "failure_layer": FailureLayer.API, "reason": verdict}
        told_of = {"source": Source.JOIN, "operation": Operation.VERDICT, "target": self.names.api, "detail": facts}
        outcome = Outcome.VISIBLE if came else Outcome.ABSENT
        return self.row(arrived, ended - arrived, **shared | told_of | failed, outcome=outcome)

    def cut_off(self, arrived: float) -> Observation:
        """A join of which only the intent was written."""
        facts = {"source": Source.JOIN, "operation": Operation.VERDICT, "target": self.names.api}
        facts |= {"vantage": self.names.vantages[0], "role": Role.JOINER, "attempt_group": f"cut-{self.number}"}
        facts |= {"outcome": Outcome.UNKNOWN, "failure": Failure.INTENT, "reason": "about to join"}
        return self.row(arrived, None, **facts)
