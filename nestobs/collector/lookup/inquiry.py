"""Why, by what a run has heard so far; and where several causes fit, the questions that decide between them.

What is asked harms nobody: lists, events, and tokens that are given and not used. It goes through the shared budget, as
everything does, and leaves rows, as everything does: whoever reads the store finds the same causes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from nestobs.collector.station import Station
from nestobs.diagnosis import Cause, Diagnosis, Found, diagnose_rows
from nestobs.nostr import ROOM_KIND, Address, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation
from nestobs.sources.vantage import Trace

MOST_REQUESTS: Final = 6
"""An inquiry asks so often at most, whomever."""

PAUSE_S: Final = 2.0
"""Until the same is asked again, where only time decides; each time so much longer."""

AGAIN: Final = 2
"""So many questions of a repeated round, so that what only time decides is given time."""

FRESH_S: Final = 5.0
"""What was asked so short a time ago is known."""

Question: TypeAlias = Callable[[], Awaitable[Any]]


class Heard:
    """The rows of the nests under observation, by trace: a sink beside the store's."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Observation]] = {}

    def __call__(self, row: Observation) -> None:
        """Keep a row about a nest."""
        if row.trace_id:
            self._rows.setdefault(row.trace_id, []).append(row)

    def of(self, trace: Trace) -> list[Observation]:
        """The rows of a trace; the list grows as they come."""
        return self._rows.setdefault(trace.trace_id, [])

    def forget(self, trace: Trace) -> None:
        """Let the rows of a trace go."""
        self._rows.pop(trace.trace_id, None)


def diagnosis_of(rows: Iterable[Observation], trace: Trace, vantage: str = "") -> Diagnosis | None:
    """What these rows say of one nest as seen from a vantage, "": the first there is. None where they say nothing."""
    return next(
        (
            found
            for found in diagnose_rows(rows)
            if trace.room in ("", found.room) and trace.nest in ("", found.nest) and vantage in ("", found.vantage)
        ),
        None,
    )


def standing_fault(diagnosis: Diagnosis | None) -> Cause | None:
    """What is broken and stays so, where that is sure; None where there is no such thing."""
    first = None if diagnosis is None else diagnosis.first
    return first.cause if first is not None and first.sure and first.standing_fault else None


async def explained(
    station: Station, trace: Trace, heard: Sequence[Observation], *, investigate: bool = False
) -> Diagnosis | None:
    """The causes by what was `heard` of a nest, a sequence that grows as the station writes rows; None where that says
    nothing. LiveKit's list, which costs the API nothing, is asked where it tells more and there is a key.

    investigate: ask what decides between the causes that fit, until one is sure, MOST_REQUESTS have been made, or there
    is no more to ask.
    """
    asked, rounds = 0, 0
    now = diagnosis_of(heard, trace, station.target.vantage)
    while now is not None and not _is_decided(now) and asked < MOST_REQUESTS:
        names = _names(station, trace, heard, now.causes, again=rounds > 0)
        questions = [each for name in names if investigate or name == "rooms" for each in _asking(station, trace, name)]
        if not questions and (rounds or not investigate):
            break
        if rounds:
            await station.clock.until(station.clock.now() + round(PAUSE_S * rounds * SECOND_NS))
        for question in questions[: min(AGAIN, MOST_REQUESTS - asked) if rounds else MOST_REQUESTS - asked]:
            asked += 1
            await question()
            now = diagnosis_of(heard, trace, station.target.vantage)
            if now is None or _is_decided(now):
                return now
        if not investigate:
            break
        rounds += 1
    return now


def _is_decided(diagnosis: Diagnosis) -> bool:
    """Whether nothing is left to ask."""
    return diagnosis.first.sure or not diagnosis.first.next


def _names(
    station: Station, trace: Trace, heard: Sequence[Observation], causes: Sequence[Found], *, again: bool
) -> list[str]:
    """What the causes in question say differently about: what was not asked a moment ago, or, again, what time may
    change, the joins first."""
    wanted = list(dict.fromkeys(each for found in causes for each in _TELLING.get(found.cause, ())))
    if again:
        return sorted(wanted, key=_CHANGING.index)
    since = station.clock.now() - round(FRESH_S * SECOND_NS)
    fresh = {row.operation.value for row in heard if row.room == trace.room and row.sent_at >= since}
    return [name for name in wanted if name not in fresh]


def _asking(station: Station, trace: Trace, name: str) -> Iterator[Question]:
    api, livekit = station.api, station.livekit
    match name:
        case "rooms" if livekit is not None and livekit.lists_rooms:
            yield partial(livekit.rooms, trace)
        case "info":
            yield partial(api.info, trace)
        case "guest":
            yield partial(api.guest, trace)
        case "join":
            yield partial(api.join, trace, Keys.generate())
        case "health":
            yield api.health
        case "query" if trace.nest:
            _, pubkey, identifier = trace.nest.split(":", 2)
            address = Address(ROOM_KIND, pubkey, identifier)
            yield from (partial(relay.query, trace, address=address) for relay in station.relays)


_JOINS: Final = ("rooms", "info", "guest", "join")
_CHANGING: Final = ("join", "guest", "info", "rooms", "query", "health")
_TELLING: Final = {
    Cause.API_JOIN_FAULT: _JOINS,
    Cause.LIVEKIT_BEHIND_API: _JOINS,
    Cause.API_BEHIND_LIVEKIT: _JOINS,
    Cause.ROOM_EXPIRED: ("rooms", "info"),
    Cause.DELETED: ("rooms", "info"),
    Cause.ENDED_BY_DEPARTURE: ("rooms",),
    Cause.NEGATIVE_CACHE: ("info", "guest"),
    Cause.REPLICAS_DISAGREE: ("info", "guest"),
    Cause.WRONG_DOOR: ("health", "info"),
    Cause.API_DOWN: ("health", "info"),
    Cause.LIVEKIT_DOWN: ("rooms",),
    Cause.LIVEKIT_UNREACHABLE: ("rooms",),
    Cause.RELAY_DELAY: ("query",),
    Cause.RELAY_DROPPED: ("query",),
    Cause.RELAY_UNREACHABLE: ("query",),
    Cause.UNDETERMINED: _JOINS,
}
"""By cause what to ask, the most telling first: what its rule's `next` says in words, as far as a program can do it."""
