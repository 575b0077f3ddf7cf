"""What one row says about joining a nest, in one word of a closed vocabulary: the alphabet of all evidence.

Only proofs and refusals say something of the nest or of who asks; what we held up ourselves is `OURS` whatever it looks
like, and a row that proves nothing is named by why it does not.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from nestobs.diagnosis.rows import Row
from nestobs.join.decision import JOINED, Kind
from nestobs.observation import reasons
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Source


class Answer(StrEnum):
    """What came of one step of a join."""

    GRANTED = "a token"
    ABSENT = "404"
    UNAUTHORISED = "401"
    FORBIDDEN = "403"
    LIMITED = "429"
    UNANSWERED = "no answer"
    FOREIGN = "an answer that is not the API's"
    BAD_TOKEN = "no usable token"
    WRONG_ROOM = "another room"
    CACHED_NO = "404 from a cache"
    CACHED_YES = "a token from a cache"
    DOUBTED = "404 while LiveKit cannot be reached"
    ENTERED = "a seat"
    VALIDATED = "a token that would do"
    LIVEKIT_LOST = "no answer of LiveKit"
    LIVEKIT_FOREIGN = "an answer that is not LiveKit's"
    TOKEN_REFUSED = "a token that LiveKit refuses"
    TOKEN_TIME = "a token whose time is wrong"
    NO_ROOM = "no such room in LiveKit"
    MEDIA = "media"
    MEDIA_FAILED = "no media"
    REPLACED = "thrown out by the same identity"
    SENT_AWAY = "sent away"
    ENDED_INSIDE = "the room ended around us"
    DROPPED = "the connection was lost"
    OURS = "our own fault"
    NOTHING = "nothing"


_LOST: Final = frozenset(
    {
        Failure.SERVER_ERROR,
        Failure.TIMEOUT,
        Failure.RESET,
        Failure.REFUSED,
        Failure.CLOSED,
        Failure.DNS,
        Failure.UNREACHABLE,
        Failure.NOT_FOUND,
    }
)
_REFUSED: Final = {
    Failure.UNAUTHORISED: Answer.UNAUTHORISED,
    Failure.FORBIDDEN: Answer.FORBIDDEN,
    Failure.RATE_LIMITED: Answer.LIMITED,
}
_SERVERS_PAUSE: Final = (reasons.SERVER_PAUSES, reasons.SERVER_COUNTS)
_REMOVALS: Final = (
    (reasons.REPLACED, Answer.REPLACED),
    (reasons.REMOVED, Answer.SENT_AWAY),
    (reasons.ROOM_DELETED, Answer.ENDED_INSIDE),
    (reasons.ROOM_CLOSED, Answer.ENDED_INSIDE),
)
_VERDICTS: Final = {
    Kind.STARTING_UP: Answer.ABSENT,
    Kind.GONE: Answer.ABSENT,
    Kind.UNAUTHORISED: Answer.UNAUTHORISED,
    Kind.FORBIDDEN: Answer.FORBIDDEN,
    Kind.RATE_LIMITED: Answer.LIMITED,
    Kind.API_DOWN: Answer.UNANSWERED,
    Kind.BAD_TOKEN: Answer.BAD_TOKEN,
    Kind.LIVEKIT_UNREACHABLE: Answer.LIVEKIT_LOST,
    Kind.NOT_VISITED: Answer.VALIDATED,
    Kind.PROBE_ERROR: Answer.OURS,
}


def token_answer(row: Row) -> Answer:  # noqa: PLR0911 - one return per way to be answered
    """What an API answered to a join, signed in or as a guest."""
    if row.visible:
        return Answer.GRANTED
    if row.absent:
        return Answer.ABSENT
    if row.outcome == Outcome.REFUSED and row.failure in _REFUSED:
        return _REFUSED[Failure(row.failure)]
    judged = row.status is None or row.failure == Failure.NOT_FOUND  # what else came with a status is as it was read
    if row.outcome == Outcome.PROBE_ERROR or (row.held and judged):
        paused = row.failure == Failure.BUDGET and any(words in row.reason for words in _SERVERS_PAUSE)
        return Answer.LIMITED if paused else Answer.OURS
    match row.failure:
        case Failure.BAD_TOKEN:
            return Answer.BAD_TOKEN
        case Failure.CACHED:
            return Answer.CACHED_NO if row.status == 404 else Answer.CACHED_YES
        case Failure.UNREACHABLE if row.layer == FailureLayer.SIGNAL:
            return Answer.DOUBTED
        case Failure.WRONG_PATH | Failure.PROTOCOL | Failure.TLS:
            return Answer.FOREIGN
        case Failure.UNEXPECTED:
            own = row.status == 408 or reasons.ERROR_INSIDE in row.reason
            return Answer.UNANSWERED if own else Answer.FOREIGN
    return Answer.UNANSWERED if row.failure in _LOST else Answer.NOTHING


def seat_answer(row: Row) -> Answer:  # noqa: PLR0911 - one return per way to be answered
    """What LiveKit answered to a token, by signalling or media, or what became of the seat."""
    if row.visible:
        return Answer.MEDIA if row.operation == Operation.MEDIA else Answer.ENTERED
    if row.absent:
        return Answer.NO_ROOM
    if reasons.OTHER_ROOM in row.reason or reasons.OTHER_TOKEN in row.reason:
        return Answer.WRONG_ROOM
    if row.failure == Failure.SKIPPED:
        return Answer.VALIDATED
    if row.outcome == Outcome.PROBE_ERROR or row.held or row.reason.startswith(reasons.NO_LIVEKIT):
        return Answer.OURS
    if row.failure == Failure.REMOVED:
        return next((answer for words, answer in _REMOVALS if words in row.reason), Answer.SENT_AWAY)
    if row.failure == Failure.DROPPED:
        return Answer.DROPPED
    if row.outcome == Outcome.REFUSED and row.failure in (Failure.UNAUTHORISED, Failure.FORBIDDEN):
        timed = any(words in row.reason for words in reasons.TOKEN_TIMES)
        return Answer.TOKEN_TIME if timed else Answer.TOKEN_REFUSED
    if row.operation == Operation.MEDIA:
        return Answer.NO_ROOM if row.failure == Failure.NOT_FOUND else Answer.MEDIA_FAILED
    if row.failure in (Failure.WRONG_PATH, Failure.UNEXPECTED, Failure.PROTOCOL):
        return Answer.LIVEKIT_FOREIGN
    return Answer.LIVEKIT_LOST


def verdict_answer(row: Row) -> Answer:
    """What a join came to, by its own word: for those whose steps nobody kept."""
    said = row.text("verdict")
    if said in JOINED:
        return Answer.ENTERED
    return _VERDICTS.get(Kind(said), Answer.NOTHING) if said in _KINDS else Answer.NOTHING


_KINDS: Final = frozenset(kind.value for kind in Kind)


def is_token(row: Row) -> bool:
    """Whether it asks an API for a token."""
    return row.source == Source.API and row.operation in (Operation.JOIN, Operation.GUEST)


def is_seat(row: Row) -> bool:
    """Whether it is about a seat in LiveKit."""
    asks = row.operation in (Operation.SIGNAL, Operation.MEDIA, Operation.STAY)
    return asks and row.source in (Source.LIVEKIT, Source.JOIN)


def is_verdict(row: Row) -> bool:
    """Whether it is how a join ended."""
    return row.source == Source.JOIN and row.operation == Operation.VERDICT


_LOST_LIVEKIT: Final = frozenset(map(str, _LOST - {Failure.NOT_FOUND}))
_ASKS_LIVEKIT: Final = (Operation.ROOMS, Operation.SIGNAL)


def is_livekit_lost(row: Row) -> bool:
    """Whether LiveKit was asked and did not answer."""
    asked = row.source == Source.LIVEKIT and row.operation in _ASKS_LIVEKIT
    return asked and row.outcome == Outcome.UNKNOWN and row.failure in _LOST_LIVEKIT and not row.held


def is_livekit_answer(row: Row) -> bool:
    """Whether LiveKit answered, whatever it said."""
    asked = row.source == Source.LIVEKIT and row.operation in _ASKS_LIVEKIT
    return asked and row.outcome in (Outcome.VISIBLE, Outcome.ABSENT, Outcome.REFUSED) and row.answered


def is_info(row: Row) -> bool:
    """Whether it is about the API's record."""
    return row.source == Source.API and row.operation == Operation.INFO


def is_room(row: Row) -> bool:
    """Whether it is about LiveKit's room: its list, or somebody who was let in."""
    if row.source != Source.LIVEKIT:
        return False
    return row.operation == Operation.ROOMS or (row.operation in (Operation.SIGNAL, Operation.MEDIA) and row.visible)
