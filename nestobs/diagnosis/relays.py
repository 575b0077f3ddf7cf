"""What the relays did with a nest's event: from here, and in what way it differs from what others had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from nestobs.diagnosis.facts import Fact, Key
from nestobs.diagnosis.rows import Row
from nestobs.diagnosis.scene import Evidence, Scene
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Source

LATE_S: Final = 2.0
"""A relay that shows an event later than this was late: a person has loaded the page by then."""

_READS: Final = (Operation.QUERY, Operation.SUBSCRIBE, Operation.READ_BACK)
_SILENT: Final = frozenset(
    map(
        str,
        (
            Failure.DNS,
            Failure.REFUSED,
            Failure.RESET,
            Failure.CLOSED,
            Failure.TIMEOUT,
            Failure.TLS,
            Failure.UNREACHABLE,
            Failure.PROTOCOL,
            Failure.BAD_EVENT,
            Failure.FLOODED,
            Failure.SERVER_ERROR,
        ),
    )
)


def of_relays(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """Of each kind of misbehaviour the first relay that shows it, by name."""
    by_url: dict[str, list[Row]] = {}
    for row in scene.mine:
        if row.source in (Source.RELAY, Source.CLIENT) and row.operation != Operation.RECEIVE:
            by_url.setdefault(row.target, []).append(row)
    found: dict[Fact, Evidence] = {}
    for url, rows in by_url.items():
        for fact, evidence in _of_relay(scene, url, rows):
            found.setdefault(fact, evidence)
    yield from found.items()


def _of_relay(scene: Scene, url: str, rows: Sequence[Row]) -> Iterator[tuple[Fact, Evidence]]:
    name = url if len(url) <= 60 else url[:59] + "…"
    reads = [row for row in rows if row.operation in _READS or row.source == Source.CLIENT]
    shown = [row for row in reads if row.visible]
    absent = [row for row in reads if row.absent]
    wants = [row for row in rows if row.failure == Failure.AUTH_REQUIRED]
    if wants and not shown:
        yield Fact.RELAY_AUTH, scene.say(f"{name} wants to know who asks {scene.at(wants[0])}", wants)
        return
    refused = [row for row in rows if row.failure in (Failure.RELAY_REFUSED, Failure.RELAY_CLOSED)]
    if refused and not shown:
        yield Fact.RELAY_REFUSES, scene.say(f"{name} says no: {refused[-1].reason}", refused)
    took = [row for row in rows if row.operation == Operation.PUBLISH and row.outcome == Outcome.ACCEPTED]
    if took and absent and not shown and not scene.deletions:
        gap_s = (absent[-1].received - took[0].received) / SECOND_NS
        fact = Fact.RELAY_DROPPED if gap_s > 30.0 else Fact.RELAY_DROPPED_OR_LATE
        yield fact, scene.say(f"{name} took it {scene.at(took[0])} and has not got it {scene.at(absent[-1])}", absent)
    if shown and (before := [row for row in absent if row.sent < shown[0].received]):
        late_s = scene.age_s(before[-1].sent)
        if late_s > LATE_S:
            said = f"{name} had it not {late_s:.1f} s after it was made, and showed it {scene.at(shown[0])}"
            yield Fact.RELAY_LATE, scene.say(said, [before[-1], shown[0]])
    lost = [row for row in rows if row.failure in _SILENT and not row.held and row.outcome == Outcome.UNKNOWN]
    if lost and not shown and not absent:
        yield Fact.RELAY_SILENT, scene.say(f"{name} gave no answer {scene.at(lost[-1])} ({lost[-1].reason})", lost)
