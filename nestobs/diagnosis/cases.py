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
_DOUBT: Final = (Had(A.DOUBTED), F.LIVEKIT_FAILS)
_TOLD: Final = (F.ROOM_YES, F.ROOM_NO, *_DOUBT)
_FLAPS: Final = (F.FLAPS, F.FLAPPED_ONCE)
_COPY: Final = Had(A.CACHED_NO)
UNREACHED: Final = frozenset(
    {C.RELAY_UNREACHABLE, C.CLIENT_CUTOFF, C.API_DOWN, C.LIVEKIT_DOWN, C.LIVEKIT_UNREACHABLE, C.MEDIA_BLOCKED}
)
"""What it looks like when our own network is gone."""

_HOSTS: Final = (F.DELETED, F.WITHDRAWN, F.CLOSED, F.PLANNED)

DOORS: Final[tuple[Case, ...]] = (
    Case(C.JOINED, 0.97, (Ends(A.ENTERED),)),
    Case(C.JOINED, 0.97, (Ends(A.MEDIA),)),
    Case(C.JOINED, 0.85, (Ends(A.GRANTED),)),
    Case(C.JOINED, 0.85, (Ends(A.VALIDATED),)),
    Case(C.LATE_RECORD_MADE_A_LISTENER, 0.95, (F.LISTENER,), (F.FLAPS, F.FLAPPED_ONCE, _COPY)),
    Case(C.LATE_RECORD_MADE_A_LISTENER, 0.85, (F.SPLIT,), (F.FLAPS, F.FLAPPED_ONCE, _COPY)),
    Case(C.LATE_RECORD_MADE_A_LISTENER, 0.6, (F.LISTENER,), blocks=False),
    Case(C.LATE_RECORD_MADE_A_LISTENER, 0.4, (F.LISTENER_ALL_THE_SAME,), blocks=False),
    # who asks
    Case(C.AUTH_CLOCK_SKEW, 0.95, (F.CLOCKS_APART,)),
    Case(C.AUTH_REJECTED, 0.93, (Ends(A.UNAUTHORISED), F.CLOCKS_AGREE)),
    Case(C.AUTH_REJECTED, 0.9, (Had(A.UNAUTHORISED), F.CLOCKS_AGREE)),
    Case(C.AUTH_REJECTED, 0.6, (Had(A.UNAUTHORISED),), (F.CLOCKS_APART, F.CLOCKS_AGREE)),
    Case(C.AUTH_CLOCK_SKEW, 0.35, (Had(A.UNAUTHORISED),), (F.CLOCKS_APART, F.CLOCKS_AGREE)),
    Case(C.AUTH_CLOCK_SKEW, 0.93, (Had(A.TOKEN_TIME),)),
    Case(C.FORBIDDEN, 0.95, (Had(A.FORBIDDEN),)),
    Case(C.FORBIDDEN, 0.7, (Ends(A.SENT_AWAY),)),
    Case(C.RATE_LIMITED, 0.95, (Had(A.LIMITED),)),
    # the API's door
    Case(C.API_DOWN, 0.93, (Ends(A.UNANSWERED),), (F.ANSWERED_OTHERS,)),
    Case(C.API_DOWN, 0.6, (Ends(A.UNANSWERED), F.ANSWERED_OTHERS)),
    Case(C.API_DOWN, 0.85, (Had(A.UNANSWERED), F.UP_AGAIN)),
    Case(C.API_DOWN, 0.7, (Had(A.UNANSWERED),)),
    Case(C.WRONG_DOOR, 0.93, (Had(A.FOREIGN),), (F.OWN_ANSWERS,)),
    Case(C.WRONG_DOOR, 0.85, (Had(A.FOREIGN), F.FOREIGN_TO_THE_END)),
    Case(C.WRONG_DOOR, 0.6, (Had(A.FOREIGN),)),
    Case(C.API_DOWN, 0.3, (Had(A.FOREIGN), F.OWN_ANSWERS), blocks=False),
    Case(C.RESTART_WINDOW, 0.2, (Had(A.FOREIGN), F.UP_AGAIN), blocks=False),
    Case(C.BAD_TOKEN, 0.97, (Had(A.BAD_TOKEN),)),
    Case(C.BAD_TOKEN, 0.93, (Had(A.TOKEN_REFUSED),)),
    Case(C.WRONG_ROOM_TOKEN, 0.97, (Had(A.WRONG_ROOM),)),
    Case(C.ROOM_ID_MISMATCH, 0.95, (F.OTHER_ROOM,)),
    Case(C.NEGATIVE_CACHE, 0.93, (Had(A.CACHED_NO),)),
    Case(C.REPLICAS_DISAGREE, 0.95, (F.FLAPS,), (F.RESTARTED, F.LIVEKIT_FAILS)),
    Case(C.REPLICAS_DISAGREE, 0.8, (F.FLAPPED_ONCE,), (F.RESTARTED, F.LIVEKIT_FAILS, F.ROOM_WENT)),
    Case(C.REPLICAS_DISAGREE, 0.85, (F.RECORD_FLAPS,), (F.RESTARTED,), blocks=False),
    Case(C.API_BEHIND_LIVEKIT, 0.8, (F.RECORD_LATE,), blocks=False),
    Case(C.LIVEKIT_BEHIND_API, 0.8, (F.ROOM_LATE,), blocks=False),
    Case(C.API_BEHIND_LIVEKIT, 0.6, (F.RECORD_SHORTLY_LATE,), blocks=False),
    Case(C.LIVEKIT_BEHIND_API, 0.6, (F.ROOM_SHORTLY_LATE,), blocks=False),
    # LiveKit
    Case(C.LIVEKIT_DOWN, 0.95, (F.LIVEKIT_FAILS, F.LIVEKIT_DOWN, F.LIVEKIT_DOUBTED), (F.LIVEKIT_MIXED,)),
    Case(C.LIVEKIT_DOWN, 0.85, (F.LIVEKIT_FAILS, F.LIVEKIT_DOWN), (F.LIVEKIT_MIXED,)),
    Case(C.LIVEKIT_UNREACHABLE, 0.15, (F.LIVEKIT_FAILS, F.LIVEKIT_DOWN), (F.LIVEKIT_DOUBTED,)),
    Case(C.LIVEKIT_DOWN, 0.88, (F.LIVEKIT_FAILS, F.LIVEKIT_DOUBTED), (F.LIVEKIT_MIXED,)),
    Case(C.LIVEKIT_UNREACHABLE, 0.7, (F.LIVEKIT_FAILS, F.LIVEKIT_MIXED)),
    Case(C.LIVEKIT_DOWN, 0.4, (F.LIVEKIT_FAILS, F.LIVEKIT_MIXED)),
    Case(C.LIVEKIT_UNREACHABLE, 0.12, (F.LIVEKIT_FAILS, F.LIVEKIT_DOUBTED)),
    Case(C.LIVEKIT_DOWN, 0.85, (Ends(A.DOUBTED),)),
    Case(C.LIVEKIT_UNREACHABLE, 0.92, (F.LIVEKIT_FAILS, F.LIVEKIT_UP)),
    Case(C.LIVEKIT_UNREACHABLE, 0.55, (F.LIVEKIT_FAILS,), (F.LIVEKIT_UP, F.LIVEKIT_DOWN, F.LIVEKIT_DOUBTED)),
    Case(C.LIVEKIT_DOWN, 0.4, (F.LIVEKIT_FAILS,), (F.LIVEKIT_UP, F.LIVEKIT_DOWN, F.LIVEKIT_DOUBTED)),
    Case(C.LIVEKIT_UNREACHABLE, 0.5, (Ends(A.LIVEKIT_LOST),), (F.LIVEKIT_FAILS,)),
    Case(C.LIVEKIT_UNREACHABLE, 0.62, (Had(A.LIVEKIT_FOREIGN),)),
    Case(C.WRONG_DOOR, 0.6, (Had(A.LIVEKIT_FOREIGN),)),
    Case(C.LIVEKIT_UNREACHABLE, 0.35, (Ends(A.DROPPED),)),
    Case(C.MEDIA_BLOCKED, 0.95, (Had(A.MEDIA_FAILED),), (Had(A.MEDIA),)),
    Case(C.MEDIA_BLOCKED, 0.5, (Had(A.MEDIA_FAILED), Had(A.MEDIA)), blocks=False),
    Case(C.DUPLICATE_IDENTITY, 0.97, (Had(A.REPLACED),)),
    # ages, and ourselves
    Case(C.AGE_RULE_MISLED, 0.96, (F.EVENT_AGE_OFF, F.MISLED), (F.CLOCKS_APART,)),
    Case(C.AGE_RULE_MISLED, 0.8, (F.EVENT_AGE_OFF, F.MISLED, F.CLOCKS_APART)),
    Case(C.AGE_RULE_MISLED, 0.5, (F.EVENT_AGE_OFF,), blocks=False),
    Case(C.OBSERVER_FAULT, 0.95, (Ends(A.OURS),)),
    Case(C.OBSERVER_FAULT, 0.95, (F.CUT,)),
    Case(C.OBSERVER_FAULT, 0.93, (F.SPOILT,)),
    Case(C.OBSERVER_FAULT, 0.91, (F.HELD_JOIN,)),
    Case(C.OBSERVER_FAULT, 0.6, (F.HELD_UP,), blocks=False),
    Case(C.OBSERVER_FAULT, 0.5, (Had(A.OURS),), blocks=False),
)
"""What was answered tells by itself."""

ENDS: Final[tuple[Case, ...]] = (
    Case(C.DELETED, 0.97, (F.DELETED, F.SHUT)),
    Case(C.DELETED, 0.6, (F.DELETED,), blocks=False),
    Case(C.WITHDRAWN, 0.96, (F.WITHDRAWN,)),
    Case(C.CLOSED_BY_HOST, 0.96, (F.CLOSED,)),
    Case(C.NOT_BEGUN, 0.96, (F.PLANNED,)),
    Case(C.RESTART_WINDOW, 0.95, (F.RESTARTED,), (F.DELETED, F.GONE_BEFORE)),
    Case(C.RESTART_WINDOW, 0.5, (F.RESTARTED, F.GONE_BEFORE), (F.DELETED,)),
    Case(C.ROOM_EXPIRED, 0.45, (F.GONE_BEFORE,), (F.DELETED,), blocks=False),
    Case(C.ENDED_BY_DEPARTURE, 0.4, (F.GONE_BEFORE,), (F.DELETED, F.EMPTY), blocks=False),
    Case(C.RESTART_WITHOUT_EFFECT, 0.95, (F.SAME_ROOM,), (F.RESTARTED,)),
    Case(C.RESTART_WITHOUT_EFFECT, 0.7, (F.NO_ROOM_ANEW,), (F.RESTARTED, F.SAME_ROOM, F.DELETED), blocks=False),
    Case(C.ENDED_BY_DEPARTURE, 0.85, (F.LEFT, F.FINISHED), (F.DELETED, F.RESTARTED, F.RECORD_WENT, F.INFO_NO)),
    Case(C.ROOM_EXPIRED, 0.92, (F.FINISHED, F.INFO_YES, F.EMPTY), (F.DELETED, F.RESTARTED, F.LEFT)),
    Case(C.ROOM_EXPIRED, 0.85, (F.FINISHED, F.INFO_YES), (F.DELETED, F.RESTARTED, F.LEFT)),
    Case(C.ENDED_BY_DEPARTURE, 0.25, (F.FINISHED, F.INFO_YES), (F.DELETED, F.RESTARTED, F.LEFT, F.EMPTY)),
    Case(C.ENDED_BY_DEPARTURE, 0.6, (F.LEFT,), (F.DELETED, F.RESTARTED, F.ROOM_YES), blocks=False),
    Case(C.ROOM_EXPIRED, 0.55, (F.ROOM_GONE,), (F.DELETED, F.RESTARTED, F.LEFT, F.ROOM_YES), blocks=False),
    Case(C.ENDED_BY_DEPARTURE, 0.2, (F.ROOM_GONE,), (F.DELETED, F.RESTARTED, F.EMPTY, F.ROOM_YES), blocks=False),
    Case(C.ROOM_EXPIRED, 0.6, (F.FINISHED,), (F.DELETED, F.RESTARTED, F.LEFT, F.RECORD_WENT, F.INFO_NO)),
    Case(C.DELETED, 0.8, (F.FINISHED, F.SHUT, F.INFO_NO), (F.RESTARTED,)),
)
"""What says that nobody can be in it."""

SHUT: Final[tuple[Case, ...]] = (
    Case(C.API_JOIN_FAULT, 0.96, (F.SHUT, F.INFO_YES, F.ROOM_YES, F.BOTH_WAYS, F.AGAIN, F.OVERDUE), _ENDED),
    Case(C.API_JOIN_FAULT, 0.95, (F.AMID, F.OVERDUE), _DOUBT),
    Case(C.API_JOIN_FAULT, 0.6, (F.AMID,), _DOUBT),
    Case(C.API_JOIN_FAULT, 0.9, (F.SHUT, F.INFO_YES, F.ROOM_YES, F.AGAIN, F.OVERDUE), _ENDED),
    Case(C.API_JOIN_FAULT, 0.85, (F.SHUT, F.INFO_YES, F.INSIDE, F.BOTH_WAYS, F.AGAIN), (*_ENDED, F.ROOM_NO, *_DOUBT)),
    Case(C.API_JOIN_FAULT, 0.8, (F.SHUT, F.INFO_YES, F.ROOM_YES, F.OVERDUE), _ENDED),
    Case(C.API_JOIN_FAULT, 0.6, (F.SHUT, F.INFO_YES, F.ROOM_YES), (*_ENDED, *_DOUBT)),
    Case(C.API_BEHIND_LIVEKIT, 0.35, (F.SHUT, F.INFO_YES, F.ROOM_YES), (*_ENDED, F.OVERDUE)),
    Case(
        C.API_JOIN_FAULT, 0.85, (F.SHUT, F.INFO_YES, F.ROOM_YES, F.SEEN_BEFORE), (F.ROOM_WENT, F.RECORD_WENT, *_FLAPS)
    ),
    Case(C.LIVEKIT_BEHIND_API, 0.1, (F.SHUT, F.INFO_YES, F.ROOM_YES), (*_ENDED, F.AGAIN)),
    Case(C.LIVEKIT_BEHIND_API, 0.92, (F.SHUT, F.INFO_YES, F.ROOM_NO), (*_ENDED, F.CAME_LATE, F.OVERDUE, F.FINISHED)),
    Case(C.LIVEKIT_BEHIND_API, 0.92, (F.SHUT, F.INFO_YES, F.ROOM_NO, F.ROOM_NEVER), (*_ENDED, F.CAME_LATE, F.FINISHED)),
    Case(C.LIVEKIT_BEHIND_API, 0.85, (F.SHUT, F.INFO_YES, F.ROOM_NO, F.OVERDUE), (*_ENDED, F.CAME_LATE)),
    Case(C.LIVEKIT_BEHIND_API, 0.3, (F.SHUT, F.INFO_YES, F.ROOM_NO, F.FINISHED), (*_ENDED, F.CAME_LATE, F.OVERDUE)),
    Case(C.ROOM_EXPIRED, 0.2, (F.SHUT, F.INFO_YES, F.ROOM_NO, F.OVERDUE), (*_ENDED, F.CAME_LATE)),
    Case(C.LIVEKIT_BEHIND_API, 0.3, (F.SHUT, F.INFO_YES, F.ROOM_NO, F.CAME_LATE), _ENDED),
    Case(C.ROOM_EXPIRED, 0.65, (F.SHUT, F.INFO_YES, F.ROOM_NO, F.CAME_LATE), _ENDED),
    Case(C.API_JOIN_FAULT, _fault, (F.SHUT, F.INFO_YES), (*_ENDED, *_TOLD, F.CAME_LATE)),
    Case(C.LIVEKIT_BEHIND_API, _late, (F.SHUT, F.INFO_YES), (*_ENDED, *_TOLD, F.CAME_LATE)),
    Case(C.ROOM_EXPIRED, 0.5, (F.SHUT, F.INFO_YES, F.CAME_LATE), (*_ENDED, F.ROOM_YES, F.ROOM_NO)),
    Case(C.API_JOIN_FAULT, 0.35, (F.SHUT, F.INFO_YES, F.CAME_LATE), (*_ENDED, F.ROOM_YES, F.ROOM_NO)),
    Case(C.API_BEHIND_LIVEKIT, 0.93, (F.SHUT, F.INFO_NO, F.ROOM_YES), (F.RECORD_WENT, F.SEEN_BEFORE, *_HOSTS, _COPY)),
    Case(C.API_BEHIND_LIVEKIT, 0.5, (F.SHUT, F.INFO_NO, F.ROOM_YES, _COPY), (F.RECORD_WENT, F.SEEN_BEFORE, *_HOSTS)),
    Case(C.API_BEHIND_LIVEKIT, 0.7, (F.SHUT, F.INFO_NO), (*_ENDED, F.ROOM_YES, F.CAME_LATE, *_HOSTS)),
    Case(C.API_BEHIND_LIVEKIT, 0.5, (F.SHUT,), (*_ENDED, F.INFO_YES, F.INFO_NO, F.CAME_LATE, *_HOSTS)),
    Case(C.LIVEKIT_BEHIND_API, 0.3, (F.SHUT,), (*_ENDED, F.INFO_YES, F.INFO_NO, F.ROOM_YES, F.CAME_LATE, *_HOSTS)),
    Case(C.ROOM_EXPIRED, 0.5, (F.SHUT, F.CAME_LATE), (*_ENDED, F.INFO_YES, F.ROOM_YES, *_HOSTS)),
    Case(C.DELETED, 0.35, (F.SHUT, F.CAME_LATE, F.INFO_NO), (*_ENDED, F.ROOM_YES, *_HOSTS)),
    Case(C.DELETED, 0.85, (F.SHUT, F.RECORD_WENT), (F.ROOM_YES, F.INFO_YES)),
    Case(C.ENDED_BY_DEPARTURE, 0.8, (F.SHUT, F.ROOM_WENT, F.LEFT), (F.ROOM_YES, F.RECORD_WENT, *_HOSTS)),
    Case(C.ROOM_EXPIRED, 0.2, (F.SHUT, F.ROOM_WENT, F.LEFT), (F.ROOM_YES, F.RECORD_WENT, *_HOSTS)),
    Case(
        C.ROOM_EXPIRED,
        0.92,
        (F.SHUT, F.ROOM_WENT, F.STAYED_AWAY, F.EMPTY),
        (F.ROOM_YES, F.RECORD_WENT, F.LEFT, *_HOSTS),
    ),
    Case(C.ROOM_EXPIRED, 0.85, (F.SHUT, F.ROOM_WENT), (F.ROOM_YES, F.RECORD_WENT, F.LEFT, *_HOSTS)),
    Case(C.ENDED_BY_DEPARTURE, 0.25, (F.SHUT, F.ROOM_WENT), (F.ROOM_YES, F.RECORD_WENT, F.LEFT, F.EMPTY, *_HOSTS)),
    Case(C.ROOM_EXPIRED, 0.7, (F.SHUT, F.SEEN_BEFORE), (F.ROOM_YES, F.ROOM_WENT, F.RECORD_WENT, F.LEFT, *_HOSTS)),
    Case(C.ENDED_BY_DEPARTURE, 0.3, (F.SHUT, F.SEEN_BEFORE), (F.ROOM_YES, F.ROOM_WENT, F.RECORD_WENT, *_HOSTS)),
)
"""What it means that every join is answered 404."""

HEALED: Final[tuple[Case, ...]] = (
    Case(C.LIVEKIT_BEHIND_API, 0.93, (F.HEALED, F.INFO_YES, F.ROOM_NO)),
    Case(C.LIVEKIT_BEHIND_API, 0.85, (F.HEALED, F.ROOM_LATE)),
    Case(C.API_BEHIND_LIVEKIT, 0.85, (F.HEALED, F.RECORD_LATE), (*_FLAPS, F.SPLIT)),
    Case(C.LIVEKIT_BEHIND_API, 0.7, (F.HEALED, F.INFO_YES), (F.ROOM_YES, F.ROOM_NO)),
    Case(C.API_BEHIND_LIVEKIT, 0.25, (F.HEALED, F.INFO_YES), (F.ROOM_YES, F.ROOM_NO)),
    Case(C.API_BEHIND_LIVEKIT, 0.95, (F.HEALED, F.INFO_NO, F.ROOM_YES), (*_FLAPS, F.SPLIT, _COPY)),
    Case(C.API_BEHIND_LIVEKIT, 0.8, (F.HEALED, F.INFO_NO, F.ROOM_YES, _COPY), _FLAPS),
    Case(C.API_BEHIND_LIVEKIT, 0.8, (F.HEALED, F.INFO_NO, F.ROOM_YES, F.SPLIT), _FLAPS),
    Case(C.API_BEHIND_LIVEKIT, 0.85, (F.HEALED, F.INFO_NO), (F.ROOM_YES, *_FLAPS)),
    Case(C.API_BEHIND_LIVEKIT, 0.8, (F.HEALED, F.INFO_YES, F.ROOM_YES), _FLAPS),
    Case(C.API_BEHIND_LIVEKIT, 0.4, (F.HEALED, F.INFO_NO, F.FLAPS)),
    Case(C.API_BEHIND_LIVEKIT, 0.6, (F.HEALED,), (F.INFO_YES, F.INFO_NO)),
    Case(C.LIVEKIT_BEHIND_API, 0.35, (F.HEALED,), (F.INFO_YES, F.INFO_NO, F.ROOM_YES)),
)
"""What it was that time healed: a race, whatever it looked like."""

RELAYS: Final[tuple[Case, ...]] = (
    Case(C.RELAY_WANTS_AUTH, 0.95, (F.RELAY_AUTH,)),
    Case(C.RELAY_REJECTED, 0.95, (F.RELAY_REFUSES,)),
    Case(C.RELAY_DROPPED, 0.93, (F.RELAY_DROPPED,)),
    Case(C.RELAY_DROPPED, 0.55, (F.RELAY_DROPPED_OR_LATE,)),
    Case(C.RELAY_DELAY, 0.4, (F.RELAY_DROPPED_OR_LATE,)),
    Case(C.RELAY_DELAY, 0.95, (F.RELAY_LATE,)),
    Case(C.RELAY_DELAY, 0.6, (F.RELAY_LATE_A_LITTLE,), blocks=False),
    Case(C.RELAY_DELAY, 0.4, (F.RELAY_LACKS,), blocks=False),
    Case(C.RELAY_DROPPED, 0.45, (F.RELAY_LACKS,), blocks=False),
    Case(C.RELAY_UNREACHABLE, 0.93, (F.RELAY_SILENT,), (F.CUT_OFF,)),
    Case(C.RELAY_UNREACHABLE, 0.6, (F.RELAY_LOST,), blocks=False),
    Case(C.CLIENT_CUTOFF, 0.95, (F.CUT_OFF,)),
)
"""What relays did with its event."""
