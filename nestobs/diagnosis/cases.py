"""Which facts tell which cause, as data: each case names what must be there, what must not, and how sure it is then.

All cases that fit count; of one cause the surest. `blocks`: the cause stood in the way of a join, as against a fact
beside it. A confidence of .9 and more stands only where the deciding evidence is among what is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from nestobs.diagnosis.answers import Answer
from nestobs.diagnosis.causes import Cause
from nestobs.diagnosis.facts import Ends, Fact, Had, Key
from nestobs.diagnosis.priors import Priors
from nestobs.diagnosis.scene import Window
from nestobs.observation.duration import SECOND_NS

Odds: TypeAlias = Callable[[Priors, Window], float]


@dataclass(frozen=True, slots=True)
class Case:
    """cause: what the facts tell. needs: all of them. unless: none of them. sure: how sure it is then, or the odds."""

    cause: Cause
    sure: float | Odds
    needs: tuple[Key, ...]
    unless: tuple[Key, ...] = ()
    blocks: bool = True


def _fault(priors: Priors, window: Window) -> float:
    return priors.fault((window.end - window.start) / SECOND_NS, window.rounds)


def _late(priors: Priors, window: Window) -> float:
    return 1.0 - _fault(priors, window)


C, F, A = Cause, Fact, Answer

_ENDED: Final = (F.ROOM_WENT, F.RECORD_WENT, F.SEEN_BEFORE)

DOORS: Final[tuple[Case, ...]] = (
    Case(C.JOINED, 0.97, (Ends(A.ENTERED),)),
    Case(C.JOINED, 0.97, (Ends(A.MEDIA),)),
    Case(C.JOINED, 0.85, (Ends(A.GRANTED),)),
    Case(C.JOINED, 0.85, (Ends(A.VALIDATED),)),
    Case(C.LATE_RECORD_MADE_A_LISTENER, 0.95, (F.LISTENER,)),
    Case(C.AUTH_REJECTED, 0.6, (Ends(A.UNAUTHORISED),)),
    Case(C.AUTH_CLOCK_SKEW, 0.35, (Ends(A.UNAUTHORISED),)),
    Case(C.FORBIDDEN, 0.95, (Ends(A.FORBIDDEN),)),
    Case(C.RATE_LIMITED, 0.95, (Ends(A.LIMITED),)),
    Case(C.RATE_LIMITED, 0.9, (Had(A.LIMITED),), blocks=False),
    Case(C.API_DOWN, 0.9, (Ends(A.UNANSWERED),)),
    Case(C.API_DOWN, 0.6, (Had(A.UNANSWERED),), blocks=False),
    Case(C.WRONG_DOOR, 0.9, (Ends(A.FOREIGN),), (Had(A.GRANTED), Had(A.ABSENT))),
    Case(C.WRONG_DOOR, 0.5, (Ends(A.FOREIGN),)),
    Case(C.BAD_TOKEN, 0.97, (Ends(A.BAD_TOKEN),)),
    Case(C.BAD_TOKEN, 0.93, (Ends(A.TOKEN_REFUSED),)),
    Case(C.WRONG_ROOM_TOKEN, 0.97, (Ends(A.WRONG_ROOM),)),
    Case(C.AUTH_CLOCK_SKEW, 0.93, (Ends(A.TOKEN_TIME),)),
    Case(C.NEGATIVE_CACHE, 0.9, (Ends(A.CACHED_NO),)),
    Case(C.LIVEKIT_DOWN, 0.93, (Ends(A.DOUBTED),)),
    Case(C.LIVEKIT_UNREACHABLE, 0.6, (Ends(A.LIVEKIT_LOST),)),
    Case(C.LIVEKIT_DOWN, 0.35, (Ends(A.LIVEKIT_LOST),)),
    Case(C.LIVEKIT_UNREACHABLE, 0.35, (Ends(A.DROPPED),)),
    Case(C.WRONG_DOOR, 0.85, (Ends(A.LIVEKIT_FOREIGN),)),
    Case(C.MEDIA_BLOCKED, 0.95, (Ends(A.MEDIA_FAILED),)),
    Case(C.DUPLICATE_IDENTITY, 0.97, (Ends(A.REPLACED),)),
    Case(C.DUPLICATE_IDENTITY, 0.95, (Had(A.REPLACED),), blocks=False),
    Case(C.FORBIDDEN, 0.7, (Ends(A.SENT_AWAY),)),
    Case(C.DELETED, 0.6, (Ends(A.ENDED_INSIDE),)),
    Case(C.OBSERVER_FAULT, 0.95, (Ends(A.OURS),)),
    Case(C.OBSERVER_FAULT, 0.6, (Had(A.OURS),), blocks=False),
)
"""What the last answers tell by themselves."""

SHUT: Final[tuple[Case, ...]] = (
    Case(C.API_JOIN_FAULT, 0.96, (F.SHUT, F.INFO_YES, F.ROOM_YES, F.BOTH_WAYS, F.AGAIN), _ENDED),
    Case(C.API_JOIN_FAULT, 0.8, (F.SHUT, F.INFO_YES, F.ROOM_YES), _ENDED),
    Case(C.LIVEKIT_BEHIND_API, 0.15, (F.SHUT, F.INFO_YES, F.ROOM_YES), (*_ENDED, F.AGAIN)),
    Case(C.LIVEKIT_BEHIND_API, 0.92, (F.SHUT, F.INFO_YES, F.ROOM_NO, F.YOUNG), _ENDED),
    Case(C.LIVEKIT_BEHIND_API, 0.5, (F.SHUT, F.INFO_YES, F.ROOM_NO), _ENDED),
    Case(C.ROOM_EXPIRED, 0.5, (F.SHUT, F.INFO_YES, F.ROOM_NO, F.OLD), _ENDED),
    Case(C.API_JOIN_FAULT, _fault, (F.SHUT, F.INFO_YES), (*_ENDED, F.ROOM_YES, F.ROOM_NO)),
    Case(C.LIVEKIT_BEHIND_API, _late, (F.SHUT, F.INFO_YES), (*_ENDED, F.ROOM_YES, F.ROOM_NO)),
    Case(C.ROOM_EXPIRED, 0.4, (F.SHUT, F.INFO_YES, F.OLD), (*_ENDED, F.ROOM_YES, F.ROOM_NO)),
    Case(C.API_BEHIND_LIVEKIT, 0.93, (F.SHUT, F.INFO_NO, F.ROOM_YES), (F.RECORD_WENT, F.SEEN_BEFORE)),
    Case(C.API_BEHIND_LIVEKIT, 0.7, (F.SHUT, F.INFO_NO, F.YOUNG), (*_ENDED, F.ROOM_YES)),
    Case(C.API_BEHIND_LIVEKIT, 0.5, (F.SHUT, F.YOUNG), (*_ENDED, F.INFO_YES, F.INFO_NO)),
    Case(C.LIVEKIT_BEHIND_API, 0.3, (F.SHUT, F.YOUNG), (*_ENDED, F.INFO_YES, F.INFO_NO, F.ROOM_YES)),
    Case(C.ROOM_EXPIRED, 0.5, (F.SHUT, F.OLD), (F.INFO_YES, F.ROOM_YES)),
    Case(C.DELETED, 0.3, (F.SHUT, F.OLD, F.INFO_NO), (F.ROOM_YES,)),
    Case(C.DELETED, 0.75, (F.SHUT, F.INFO_NO, F.RECORD_WENT), (F.ROOM_YES,)),
    Case(C.ROOM_EXPIRED, 0.8, (F.SHUT, F.ROOM_WENT), (F.ROOM_YES, F.RECORD_WENT)),
    Case(C.ROOM_EXPIRED, 0.7, (F.SHUT, F.SEEN_BEFORE), (F.ROOM_YES, F.RECORD_WENT)),
)
"""What it means that every join is answered 404."""

HEALED: Final[tuple[Case, ...]] = (
    Case(C.LIVEKIT_BEHIND_API, 0.93, (F.HEALED, F.INFO_YES, F.ROOM_NO)),
    Case(C.LIVEKIT_BEHIND_API, 0.7, (F.HEALED, F.INFO_YES), (F.ROOM_YES, F.ROOM_NO)),
    Case(C.API_BEHIND_LIVEKIT, 0.95, (F.HEALED, F.INFO_NO, F.ROOM_YES)),
    Case(C.API_BEHIND_LIVEKIT, 0.85, (F.HEALED, F.INFO_NO), (F.ROOM_YES,)),
    Case(C.API_BEHIND_LIVEKIT, 0.8, (F.HEALED, F.INFO_YES, F.ROOM_YES)),
    Case(C.API_BEHIND_LIVEKIT, 0.6, (F.HEALED,), (F.INFO_YES, F.INFO_NO)),
)
"""What it was that time healed: a race, whatever it looked like."""

ENDS: Final[tuple[Case, ...]] = (
    Case(C.DELETED, 0.97, (F.DELETED, F.SHUT)),
    Case(C.WITHDRAWN, 0.96, (F.WITHDRAWN,)),
    Case(C.CLOSED_BY_HOST, 0.96, (F.CLOSED,)),
    Case(C.NOT_BEGUN, 0.96, (F.PLANNED,)),
)
"""What says that nobody can be in it."""

RELAYS: Final[tuple[Case, ...]] = (
    Case(C.RELAY_WANTS_AUTH, 0.95, (F.RELAY_AUTH,), blocks=False),
    Case(C.RELAY_REJECTED, 0.95, (F.RELAY_REFUSES,), blocks=False),
    Case(C.RELAY_DROPPED, 0.93, (F.RELAY_DROPPED,), blocks=False),
    Case(C.RELAY_DROPPED, 0.5, (F.RELAY_DROPPED_OR_LATE,), blocks=False),
    Case(C.RELAY_DELAY, 0.45, (F.RELAY_DROPPED_OR_LATE,), blocks=False),
    Case(C.RELAY_DELAY, 0.95, (F.RELAY_LATE,), blocks=False),
    Case(C.RELAY_UNREACHABLE, 0.9, (F.RELAY_SILENT,), blocks=False),
)
"""What relays did with its event."""
