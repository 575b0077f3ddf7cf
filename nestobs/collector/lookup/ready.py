"""Whether a guest could join a nest now, by one request to the API; and where not, why.

A 404 alone is read by the nest's age, as the web client reads it. Two more questions tell the race from a fault:
`/info` of the API and, with its key, LiveKit's list of rooms. Where one of them has the nest it is not gone, whatever
its age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from nestobs.collector.lookup.inquiry import explained, standing_fault
from nestobs.collector.lookup.relays import Found, find, on_time
from nestobs.collector.station import Station, Target, recording
from nestobs.diagnosis import Cause, Diagnosis
from nestobs.join.budget import Budget
from nestobs.join.decision import Kind
from nestobs.nostr import Address, Keys
from nestobs.observation.schema import Observation, Operation, Outcome
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store

READY, NOT_YET, CANNOT_TELL, GONE = 0, 1, 3, 6
"""Exit codes; 2 says that the words are wrong."""

_WORDS: Final = {READY: "ready", NOT_YET: "not yet", GONE: "gone or closed", CANNOT_TELL: "cannot tell"}


@dataclass(frozen=True, slots=True)
class Readiness:
    """`code`: 0 ready, 1 not yet or a fault that no waiting heals, 3 cannot tell, 6 gone or closed. `why` in words.
    diagnosis: what the answers say of it, None where nothing is to be explained. fault: the standing fault's id."""

    code: int
    why: str
    diagnosis: Diagnosis | None = None
    fault: Cause | None = None

    @property
    def state(self) -> str:
        """The code in words."""
        return _WORDS[self.code] if self.fault is None else "fault"

    def as_dict(self) -> dict[str, Any]:
        """JSON data. `fault`: the id of a standing fault, "" for none."""
        causes = [] if self.diagnosis is None else self.diagnosis.as_dict()["causes"]
        fault = "" if self.fault is None else self.fault.value
        return {"code": self.code, "state": self.state, "why": self.why, "fault": fault, "causes": causes}


async def readiness(
    station: Station,
    found: Found,
    heard: Sequence[Observation] = (),
    *,
    message_threshold_s: float = 30.0,
    investigate: bool = False,
) -> Readiness:
    """Whether a guest could join now.

    heard: the rows that the station writes, as they come. investigate: where several causes fit, ask what decides. Ages
    are by the API's clock, where ours is surely apart from it.
    """
    found = await on_time(station, found)
    if why := found.why_not_live():
        return Readiness(GONE if found.is_over() else NOT_YET, why)
    row = (await station.api.guest(found.trace)).row
    if row.outcome is Outcome.VISIBLE:
        return Readiness(READY, "a guest is given a token")
    there = row.outcome is Outcome.ABSENT and await _is_there(station, found.trace)
    diagnosis = await explained(station, found.trace, heard, investigate=investigate)
    if investigate and _given(heard, row):
        return Readiness(READY, "a guest is given a token, though not at once")
    then = found.timed(station, row.received_at or row.sent_at)
    return _judged(then, row, there, diagnosis, message_threshold_s)


async def _is_there(station: Station, trace: Trace) -> bool:
    """Whether anybody has the nest whose join was answered 404."""
    info, livekit = await station.api.info(trace), station.livekit
    listed = livekit is not None and livekit.lists_rooms and (await livekit.rooms(trace)).outcome is Outcome.VISIBLE
    return info.row.outcome is Outcome.VISIBLE or listed


def _given(heard: Sequence[Observation], before: Observation) -> bool:
    """Whether the newest guest, if not the one before, was given a token."""
    asked = [row for row in heard if row.operation is Operation.GUEST and row.room == before.room]
    return bool(asked) and asked[-1].outcome is Outcome.VISIBLE


def _judged(
    found: Found, row: Observation, there: bool, diagnosis: Diagnosis | None, message_threshold_s: float
) -> Readiness:
    if (fault := standing_fault(diagnosis)) is not None and diagnosis is not None:
        return Readiness(NOT_YET, diagnosis.line(), diagnosis, fault)
    if row.outcome is not Outcome.ABSENT:
        return Readiness(CANNOT_TELL, f"the API gave no proof: {row.reason}", diagnosis)
    code, why = _absent(found, message_threshold_s)
    if there and code != NOT_YET:
        code, why = NOT_YET, "the API answers 404 to joins of a nest that is there"
    return Readiness(code, why, diagnosis)


def _absent(found: Found, message_threshold_s: float) -> tuple[int, str]:
    """What a proven 404 makes of a nest, by its age at the answer (`found.at`); an age that is none tells nothing."""
    if found.nest is None:
        return CANNOT_TELL, f"the API answers 404 and {found.nobody_has_it()}, so its age is unknown"
    if skew := found.skew():
        return CANNOT_TELL, f"the API answers 404, and {skew}, so its age is unknown"
    age_s = max(0.0, found.nest.age_s(found.at))
    said = f"the API answers 404 at age {age_s:.0f} s" + (f" ({found.by})" if found.by else "")
    if age_s < message_threshold_s:
        return NOT_YET, f"{said}: {Kind.STARTING_UP.value}"
    return GONE, f"{said}, above the threshold of {message_threshold_s:g} s"


async def ready_once(
    target: Target,
    wanted: Address | str,
    store: Store,
    *,
    keys: Keys | None = None,
    budget: Budget | None = None,
    investigate: bool = False,
) -> Readiness:
    """What `nestobs ready` does: look a nest up, and say whether a guest could join it now.

    keys: for relays that want to know who asks (NIP-42). budget: this process's own unless given.
    """
    heard: list[Observation] = []
    async with recording(store, [target], budget or Budget(), keys=keys, heard=heard.append) as ([station], pen):

        async def work() -> Readiness:
            return await readiness(station, await find(station, wanted), heard, investigate=investigate)

        return await pen.during(work())
