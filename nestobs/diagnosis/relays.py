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

LITTLE_S: Final = 0.25
"""Later than this is a little late: more than the ways there and back, and nobody need have noticed it."""

DROPPED_S: Final = 20.0
"""A relay that took an event and has it not after so long will not have it: no relay is known to be that slow."""

CUTOFF_S: Final = 1.5
"""How long the released client waits for its relay."""

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
    for row in scene.nest.rows:
        asked = row.source in (Source.RELAY, Source.CLIENT) and row.operation != Operation.RECEIVE
        if asked and (row.vantage == scene.vantage or _of_host(row)):
            by_url.setdefault(row.target, []).append(row)
    found: dict[Fact, Evidence] = {}
    for url, rows in by_url.items():
        for fact, evidence in _of_relay(scene, url, rows):
            found.setdefault(fact, evidence)
    yield from found.items()


def _of_host(row: Row) -> bool:
    """Whether a relay answered its host, which is true of the relay for everybody."""
    return row.operation in (Operation.PUBLISH, Operation.READ_BACK) and row.outcome != Outcome.UNKNOWN


def _of_relay(scene: Scene, url: str, rows: Sequence[Row]) -> Iterator[tuple[Fact, Evidence]]:
    name = url if len(url) <= 60 else url[:59] + "…"
    reads = [row for row in rows if row.operation in _READS or row.source == Source.CLIENT]
    shown = [row for row in reads if row.visible]
    wants = [row for row in rows if row.failure == Failure.AUTH_REQUIRED]
    if wants and not any(row.sent > wants[-1].received for row in shown):
        yield Fact.RELAY_AUTH, scene.say(f"{name} wants to know who asks {scene.at(wants[0])}", wants)
        return
    refused = [row for row in rows if row.failure in (Failure.RELAY_REFUSED, Failure.RELAY_CLOSED)]
    if refused and not shown:
        yield Fact.RELAY_REFUSES, scene.say(f"{name} says no: {refused[-1].reason}", refused)
        return
    yield from _stored(scene, name, rows, shown)
    yield from _silent(scene, name, rows, [row for row in reads if row.proof])
    yield from _cut_off(scene, name, reads)


def _stored(scene: Scene, name: str, rows: Sequence[Row], shown: Sequence[Row]) -> Iterator[tuple[Fact, Evidence]]:
    """Whether it stored what it took, and when it showed it."""
    absent = [row for row in rows if row.absent]
    took = [row for row in rows if row.operation == Operation.PUBLISH and row.outcome == Outcome.ACCEPTED]
    meanwhile = [row for row in absent if not scene.over_at(row.received)]
    gap_s = (meanwhile[-1].received - took[0].received) / SECOND_NS if took and meanwhile else 0.0
    if not shown and gap_s > (0.0 if meanwhile == absent else LITTLE_S):
        fact = Fact.RELAY_DROPPED if gap_s > DROPPED_S else Fact.RELAY_DROPPED_OR_LATE
        said = f"{name} took it {scene.at(took[0])} and has it not {scene.at(meanwhile[-1])}"
        yield fact, scene.say(said, [took[0], meanwhile[-1]])
    elif absent and not shown and scene.nest.events and meanwhile == absent:
        elsewhere = scene.nest.events[-1]
        said = f"{name} has it not {scene.at(absent[-1])}, and {elsewhere.target[:60]} has it {scene.at(elsewhere)}"
        yield Fact.RELAY_LACKS, scene.say(said, [absent[-1], elsewhere])
    before = [row for row in absent if shown and row.sent < shown[0].received]
    late_s = (before[-1].sent - scene.known_at) / SECOND_NS if before else 0.0
    if late_s > LITTLE_S:
        said = f"{name} had it not {late_s:.1f} s after it was there, and showed it {scene.at(shown[0])}"
        fact = Fact.RELAY_LATE if late_s > LATE_S else Fact.RELAY_LATE_A_LITTLE
        yield fact, scene.say(said, [before[-1], shown[0]])


def _silent(scene: Scene, name: str, rows: Sequence[Row], proofs: Sequence[Row]) -> Iterator[tuple[Fact, Evidence]]:
    """Whether it gave no answer to the end, or repeatedly between answers. What the client cut off is no silence."""
    lost = [row for row in rows if row.failure in _SILENT and not row.held and row.outcome == Outcome.UNKNOWN]
    lost = [row for row in lost if row.source != Source.CLIENT or row.failure != Failure.TIMEOUT or not proofs]
    if proofs:
        while_lost = [row for row in lost if proofs[0].received < row.sent <= proofs[-1].received]
        lost = [row for row in lost if row.sent > proofs[-1].received]
        if len(while_lost) > 1:
            said = f"{name} gave no answer {len(while_lost)} times, last {scene.at(while_lost[-1])}, and then again"
            yield Fact.RELAY_LOST, scene.say(f"{said} ({while_lost[-1].reason})", while_lost)
    if len(lost) > (1 if proofs else 0):
        said = f"{name} gave no answer {len(lost)} times, last {scene.at(lost[-1])} ({lost[-1].reason})"
        yield Fact.RELAY_SILENT, scene.say(said, lost)


def _cut_off(scene: Scene, name: str, reads: Sequence[Row]) -> Iterator[tuple[Fact, Evidence]]:
    """Whether the client gave up on a relay that showed the event to who waited longer, then or by a slow answer."""
    cut = [row for row in reads if row.source == Source.CLIENT and row.failure == Failure.TIMEOUT and not row.held]
    if not cut:
        return
    waited = [row for row in reads if row.visible and row.source == Source.RELAY]
    slow = [row for row in waited if row.received - row.sent > round((cut[-1].timeout_s or CUTOFF_S) * SECOND_NS)]
    had = slow or [row for row in waited if row.sent < cut[-1].received and row.received > cut[-1].sent]
    if had:
        took_s = (had[-1].received - had[-1].sent) / SECOND_NS
        said = f"the client gave {name} up {scene.at(cut[-1])}, which took {took_s:.1f} s to show it"
        yield Fact.CUT_OFF, scene.say(said, [cut[-1], had[-1]])
