"""Remove a room of ours, and look whether it is gone: from LiveKit's list, and the API's record of it from `/info`.

The API's DELETE does it, as its host; where the API has no such route, or something else answers in its place, LiveKit
does with the operator's key. Neither's
word is enough: an API may drop its record and leave the room, or the room and leave the record.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Final

from nestobs.collector.station import Station
from nestobs.nostr import Keys
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Role
from nestobs.sources.livekit import LiveKit
from nestobs.sources.vantage import Trace

TIMEOUT_S: Final = 5.0

PAUSES_S: Final = (0.0, 0.25, 0.75)
"""Before each look at LiveKit's list, while it shows a room that was deleted."""

EMPTY_S: Final = 1_800.0
"""The longest empty timeout known: so long after it was made, LiveKit ends a room to which nobody comes."""

ENDS: Final = ": it ends by its own empty timeout"


@dataclass(frozen=True, slots=True)
class Left:
    """Why something is not undone. settled: that is proven, and asking again would tell nothing new. gone: the room
    is, and only its record may be left. leaked_s: when it is so old, nothing more is tried."""

    why: str
    settled: bool = True
    gone: bool = False
    leaked_s: float = math.inf


async def delete_room(station: Station, trace: Trace, keys: Keys) -> Left | None:
    """Delete one room of ours by the API, or by LiveKit where the API cannot; None when it is found to be gone, else
    why it is left."""
    row = (await station.api.delete(trace, keys, role=Role.HOST, timeout_s=TIMEOUT_S)).row
    no_route = row.failure is Failure.WRONG_PATH or row.status in (405, 501)
    somebody_else = row.failure is Failure.UNEXPECTED and row.failure_layer is FailureLayer.HTTP
    livekit = station.livekit if station.livekit is not None and station.livekit.lists_rooms else None
    if row.outcome in (Outcome.ACCEPTED, Outcome.ABSENT):
        ended, dropped = await asyncio.gather(_end_in_livekit(livekit, trace), record_of(station, trace))
        return _both(ended, dropped)
    if no_route and livekit is not None:
        return await _end_in_livekit(livekit, trace) or await record_of(station, trace, for_good=True)
    if somebody_else and livekit is not None:
        return await _end_in_livekit(livekit, trace) or await record_of(station, trace)
    if no_route:
        return Left(f"this API has no DELETE and there is no LiveKit key{ENDS}", leaked_s=EMPTY_S)
    if row.outcome is not Outcome.UNKNOWN:
        return Left(row.reason, settled=row.failure not in (Failure.RATE_LIMITED, Failure.BUDGET))
    listed = Outcome.UNKNOWN if livekit is None else (await _listed(livekit, trace)).outcome
    said = "LiveKit lists the room" if listed is Outcome.VISIBLE else "whether LiveKit has the room is not known"
    return Left(f"DELETE: {row.reason}; {said}", settled=False, gone=listed is Outcome.ABSENT)


async def _end_in_livekit(livekit: LiveKit | None, trace: Trace) -> Left | None:
    """Delete a room of ours for as long as LiveKit lists it; None when it lists none or cannot be asked at all, else
    why it is left."""
    if livekit is None:
        return None
    said, settled = "", True
    for number, pause_s in enumerate(PAUSES_S):
        if number:
            row = await livekit.delete(trace, role=Role.HOST)
            said = "" if row.outcome is Outcome.ACCEPTED else f" ({row.reason})"
            settled = row.outcome is not Outcome.UNKNOWN
        await asyncio.sleep(pause_s)
        listed = await _listed(livekit, trace)
        if listed.outcome is Outcome.ABSENT:
            return None
        if listed.outcome is not Outcome.VISIBLE:
            return Left(f"whether LiveKit has the room is not known: {listed.reason}", settled=False)
    return Left(f"LiveKit still lists the room{said}", settled=settled)


async def _listed(livekit: LiveKit, trace: Trace) -> Observation:
    return await livekit.rooms(trace, operation=Operation.READ_BACK, role=Role.HOST)


async def record_of(station: Station, trace: Trace, *, for_good: bool = False) -> Left | None:
    """None when the API says that it has no record of a room, else that it has, or that this is not known.

    for_good: the API has no DELETE, so nothing that we do will change the former.
    """
    row = (await station.api.read_back(trace, role=Role.HOST, timeout_s=TIMEOUT_S)).row
    if row.outcome is Outcome.ABSENT:
        return None
    if row.outcome is Outcome.VISIBLE:
        why = f"the API still has its record: /info answers {row.status}"
        return Left(f"{why}; it has no DELETE", leaked_s=0.0) if for_good else Left(why, settled=False)
    return Left(f"whether the API still has its record is not known: {row.reason}", settled=False, gone=True)


def _both(ended: Left | None, dropped: Left | None) -> Left | None:
    if ended is None or dropped is None:
        return ended or dropped
    return Left(f"{ended.why}; {dropped.why}", settled=ended.settled and dropped.settled)


@dataclass(slots=True)
class Whose:
    """Whose rooms are. hosts: by the API's word; not_ours: rooms and keys that it did not let delete them."""

    hosts: dict[str, str] = field(default_factory=dict)
    not_ours: set[tuple[str, str]] = field(default_factory=set)

    async def ours(self, station: Station, room: str, keys: Keys, *, asks: bool) -> bool | None:
        """Whether this key hosts a room; None where that is not proven. Of each room it is asked once for all keys.

        asks: where /info does not say, the room is deleted by the key, which has hosted nothing but ours.
        """
        if room in self.hosts:
            return self.hosts[room] == keys.public
        if (room, keys.public) in self.not_ours:
            return False
        answer = await station.api.read_back(Trace(room=room), role=Role.HOST)
        host = answer.body.get("host") if answer.body is not None else None
        if isinstance(host, str) and (host == keys.public or answer.row.outcome is Outcome.VISIBLE):
            self.hosts[room] = host
            return host == keys.public
        if not asks:
            return None
        row = (await station.api.delete(Trace(room=room), keys, role=Role.HOST, timeout_s=TIMEOUT_S)).row
        if row.status == 403:
            self.not_ours.add((room, keys.public))
        return True if row.outcome is Outcome.ACCEPTED else False if row.status == 403 else None
