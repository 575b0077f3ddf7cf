"""Servers that stamp their answers, on clocks whose true offset is known at every instant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import LATE_S, Offset, Relation

NOON: Final = 1_767_960_000 * SECOND_NS
KINDS: Final = ("exact", "kept", "beaten", "fine")
"""How a server stamps: with each answer anew; with what it renews as the second turns, up to LATE_S late; with what it
renews once a second by a timer of its own; to the millisecond."""

Truth = Callable[[float], float]
"""The offset, ours less theirs, seconds, at a second of ours."""


def ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)


@dataclass
class Server:
    """Seconds are ours, since noon. offset: how far ours is ahead of the clock that stamps."""

    offset: Truth
    kind: str = "exact"
    draw: Random = field(default_factory=lambda: Random(1))
    phase_s: float = 0.0

    def __post_init__(self) -> None:
        self.phase_s = self.draw.random() if self.kind == "beaten" else 0.0

    def true_s(self, at_s: float) -> float:
        """How far ours is ahead of what stamps: of a timer's, by how long after the turn of a second it beats."""
        return self.offset(at_s) + self.phase_s

    def stamp(self, at_s: float) -> int:
        """What an answer says that is written at this second, ns UTC."""
        theirs = NOON + ns(at_s) - ns(self.true_s(at_s))
        if self.kind == "fine":
            return theirs // 1_000_000 * 1_000_000
        late = ns(self.draw.uniform(0, LATE_S)) if self.kind == "kept" else 0
        return (theirs - late) // SECOND_NS * SECOND_NS

    def ask(self, relation: Relation, sent_s: float, way_s: float, back_s: float) -> float:
        """Ask at this second; when the answer is here."""
        received_s = sent_s + way_s + back_s
        stamp = self.stamp(sent_s + way_s)
        fine = {"grain_s": 0.001, "late_s": 0.0} if self.kind == "fine" else {}
        relation.learn(NOON + ns(sent_s), NOON + ns(received_s), stamp, **fine)
        return received_s

    def is_held(self, relation: Relation, at_s: float, within_s: float = 2e-6) -> bool:
        """Whether what is known at this second is true."""
        found = at(relation, at_s)
        return abs(found.offset_s - self.true_s(at_s)) <= found.error_s + within_s


def at(relation: Relation, at_s: float) -> Offset:
    """What is known at this second."""
    found = relation.at(NOON + ns(at_s))
    assert found is not None
    return found


def way(draw: Random, least_s: float = 0.001, most_s: float = 0.2) -> tuple[float, float]:
    """Out and back: a round trip, log-uniform, and any part of it on the way out."""
    whole_s = least_s * (most_s / least_s) ** draw.random()
    out_s = whole_s * draw.random()
    return out_s, whole_s - out_s


@dataclass
class Met:
    """A clock compared, answer by answer: the error after each, and how often it did not hold the truth."""

    errors_s: list[float] = field(default_factory=list)
    false: int = 0


def compared(
    server: Server, draw: Random, answers: int, *, aimed: bool, gap_s: float = 4.0, most_s: float = 0.2
) -> Met:
    """Questions about `gap_s` apart, at random or, where that is asked for, near instants of the relation's choosing.
    The ways of one course are alike: within a factor of two of each other."""
    relation, met, now_s = Relation(), Met(), draw.random()
    usual_s = sum(way(draw, most_s=most_s))
    for _ in range(answers):
        due_s = now_s + gap_s * draw.uniform(0.5, 1.5)
        if aimed:
            due = relation.best_near(NOON + ns(due_s), earliest=NOON + ns(now_s), latest=NOON + ns(due_s + 1))
            due_s = (due - NOON) / SECOND_NS + draw.uniform(0, 0.003)  # a timer is late, and a request takes to be made
        out_s, back_s = way(draw, usual_s / 1.4, usual_s * 1.4)
        now_s = server.ask(relation, due_s, out_s, back_s)
        met.errors_s.append(at(relation, now_s).error_s)
        met.false += not server.is_held(relation, now_s)
    return met
