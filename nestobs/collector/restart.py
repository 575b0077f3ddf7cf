"""Restart a nest of ours by its host's call, and look whether that made the room anew.

The API's word is not enough: released versions answer 200 and skip the deletion, so that LiveKit's room stays the same
one (its sid). The sid before and after tells, by LiveKit's list or, without its key, by a visit with the token that the
restart gave. An API that has no restart (implementation D) says so by 404 for such a path, 405 or 501.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from nestobs.collector.station import Station
from nestobs.diagnosis import Cause
from nestobs.nostr import Keys
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Observation, Outcome, Role
from nestobs.sources.api import Answer
from nestobs.sources.livekit import LiveKit
from nestobs.sources.vantage import Trace

ANSWER_S: Final = 5.0
"""An API that does it waits two of these itself, between deleting and creating."""

PAUSES_S: Final = (0.0, 0.3, 1.0, 1.5)
"""Before each look at LiveKit, while it does not show the room again."""


@dataclass(frozen=True, slots=True)
class Restart:
    """What came of it. looks: LiveKit's rows after it. before, after: the room's sids, "" where not known. was_gone:
    LiveKit had no such room before."""

    answer: Answer
    before: str
    was_gone: bool = False
    after: str = ""
    looks: list[Observation] = field(default_factory=list)

    @property
    def row(self) -> Observation:
        """What the API answered."""
        return self.answer.row

    @property
    def has_route(self) -> bool:
        """Whether this API has a restart at all."""
        return not no_route(self.row)

    @property
    def cause(self) -> str:
        """The id of what is wrong with it, "" where it did what it is for, or is not there."""
        if not self.has_route or self.row.outcome is not Outcome.ACCEPTED:
            return ""
        if self.before and self.before == self.after:
            return Cause.RESTART_WITHOUT_EFFECT
        return Cause.RESTART_WINDOW if self._lost() else ""

    @property
    def failed(self) -> bool:
        """Whether it is there, and did not do what it is for."""
        return self.has_route and (bool(self.cause) or self.row.outcome is not Outcome.ACCEPTED)

    @property
    def known(self) -> bool:
        """Whether it is known that the room is another one now."""
        return bool(self.after) and (bool(self.before) or self.was_gone)

    def _lost(self) -> bool:
        return bool(self.looks) and self.looks[-1].outcome is Outcome.ABSENT

    def words(self) -> str:
        """What came of it, in a sentence without an end."""
        row = self.row
        if not self.has_route:
            return "this API has none"
        if row.outcome is not Outcome.ACCEPTED:
            return f"not done: {row.reason}"
        if self.cause == Cause.RESTART_WITHOUT_EFFECT:
            return f"HTTP 200, and the room is the same as before ({self.after}): it restarted nothing"
        if self._lost():
            last, ended = self.looks[-1], row.received_at or row.sent_at
            after_s = ((last.received_at or last.sent_at) - ended) / SECOND_NS
            return f"HTTP 200, and LiveKit lists no room {after_s:.1f} s later"
        if not self.known:
            return "HTTP 200; whether the room was made anew is not known, as its sid was not to be had"
        return f"the room was made anew ({self.before or 'none'} before, {self.after} after)"

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "room": self.row.room,
            "status": self.row.status,
            "sid_before": self.before,
            "sid_after": self.after,
            "cause": str(self.cause),
            "said": self.words(),
        }


async def restart(
    station: Station, livekit: LiveKit | None, trace: Trace, keys: Keys, *, seen: Sequence[Observation] = ()
) -> Restart:
    """Restart a nest of ours; one request. seen: LiveKit's rows of the room so far, where there are any.

    Rows: the intent, what the API answered, and LiveKit's before and after.
    """
    lists = livekit is not None and livekit.lists_rooms
    known = list(seen)
    if not sid_of(known) and livekit is not None and lists:
        known.append(await livekit.rooms(trace))
    before, was_gone = sid_of(known), bool(known) and known[-1].outcome is Outcome.ABSENT
    answer = await station.api.restart(trace, keys, role=Role.HOST, timeout_s=ANSWER_S)
    if answer.row.outcome is not Outcome.ACCEPTED or livekit is None:
        return Restart(answer, before, was_gone)
    looks: list[Observation] = []
    for pause_s in PAUSES_S:
        await asyncio.sleep(pause_s)
        if not lists:
            looks += await _visited(livekit, trace, answer.token)
            break
        looks.append(await livekit.rooms(trace))
        if looks[-1].outcome is not Outcome.ABSENT:
            break
    return Restart(answer, before, was_gone, sid_of(looks), looks)


async def _visited(livekit: LiveKit, trace: Trace, token: object) -> list[Observation]:
    """The row of a visit with the token, where it is one."""
    if not isinstance(token, str) or not token:
        return []
    row, session = await livekit.signal(trace, token, role=Role.HOST, timeout_s=ANSWER_S)
    if session is not None:
        await asyncio.shield(session.close())
    return [row]


def no_route(row: Observation) -> bool:
    """Whether an answer says that this API has no such call."""
    return row.failure is Failure.WRONG_PATH or row.status in (405, 501)


def sid_of(rows: Sequence[Observation]) -> str:
    """The room's sid by the last of LiveKit's rows that tells it; "" where none does."""
    facts = (facts_of(row.detail) for row in reversed(rows))
    return next((str(sid) for each in facts if (sid := each.get("sid") or each.get("room_sid"))), "")
