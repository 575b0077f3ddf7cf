"""How a nest ended, or that it has not begun: what its event, its host and LiveKit say of it."""

from __future__ import annotations

from collections.abc import Iterator

from nestobs.diagnosis.facts import Fact, Key
from nestobs.diagnosis.rows import Row
from nestobs.diagnosis.scene import Evidence, Scene
from nestobs.observation.nest import says_over
from nestobs.observation.schema import Operation, Outcome, Source


def of_ends(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """What says that nobody can be in the nest."""
    if deletions := scene.deletions:
        said = f"a DELETE was accepted {scene.at(deletions[0])}"
        yield Fact.DELETED, scene.say(said, deletions[:1])
    noted = [row for row in scene.nest.rows if row.source == Source.RELAY and row.facts.get("withdrawn") is True]
    if noted and not scene.deletions:
        yield Fact.WITHDRAWN, scene.say(f"its author's kind 5 came {scene.at(noted[0])}", noted[:1])
    if (newest := newest_event(scene)) is None:
        return
    status = newest.text("status").strip().lower()
    if says_over(status) and not scene.deletions:
        yield Fact.CLOSED, scene.say(f"its event says {status} {scene.at(newest)}", [newest])
    if status == "planned":
        yield Fact.PLANNED, scene.say(f"its event says planned {scene.at(newest)}", [newest])


def newest_event(scene: Scene) -> Row | None:
    """The row that shows the newest version of the nest's event, None where none shows any."""
    reads = (Operation.QUERY, Operation.SUBSCRIBE, Operation.LOAD)
    shown = [row for row in scene.nest.rows if row.outcome == Outcome.VISIBLE and row.operation in reads]
    shown = [row for row in shown if row.source in (Source.RELAY, Source.CLIENT)]
    return max(shown, key=lambda row: (_stamp(row), row.received), default=None)


def _stamp(row: Row) -> int:
    stamp = row.facts.get("created_at")
    return stamp if type(stamp) is int else 0
