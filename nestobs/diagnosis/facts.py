"""The named facts that cases are made of: the vocabulary, each with the rows that carry it.

    Ends(answer)   how it stood at the end, from this vantage
    Had(answer)    what came of some step, at any time
    Fact           what is read from several rows together: a layer that showed the nest while the doors were shut, an
                   end, a relay that was late

They are found once for a scene: by doors.py (what was answered), livekit.py, relays.py, ends.py and clocks.py; and once
for each window in which the doors were shut (windows.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from nestobs.diagnosis.answers import Answer
from nestobs.diagnosis.scene import Evidence


@dataclass(frozen=True, slots=True)
class Ends:
    """How it stood at the end."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Had:
    """What came of some step."""

    answer: Answer


class Fact(StrEnum):
    """Read from several rows."""

    # while the doors were shut
    SHUT = "every join is answered 404, to the end"
    HEALED = "joins were answered 404, and then a token came"
    WAITED = "somebody had to wait for it"
    AGAIN = "more than once, and for a while"
    OVERDUE = "for longer than a route is behind the others"
    BOTH_WAYS = "signed in and as a guest"
    INFO_YES = "/info was active meanwhile"
    INFO_NO = "/info was 404 meanwhile"
    ROOM_YES = "LiveKit had the room meanwhile"
    ROOM_NO = "LiveKit had no such room meanwhile"
    RECORD_LATE = "the record came late"
    ROOM_LATE = "LiveKit's room came late"
    RECORD_SHORTLY_LATE = "the record came a little late"
    ROOM_SHORTLY_LATE = "LiveKit's room came a little late"
    ROOM_NEVER = "LiveKit never had the room, from its first moments on"
    INSIDE = "/info counts somebody inside meanwhile"
    AMID = "404s while /info and LiveKit showed it before and after"
    SEEN_BEFORE = "it was there before"
    RECORD_WENT = "the record was there and went"
    ROOM_WENT = "the room was there and went"
    YOUNG = "younger than any empty room ends"
    OLD = "older than an empty room lives"
    CAME_LATE = "first looked at when it was old"
    # what its host and LiveKit did to it
    DELETED = "it was deleted"
    FINISHED = "LiveKit ended the room"
    STAYED_AWAY = "the room was gone for longer than a restart takes"
    ROOM_GONE = "LiveKit does not have the room any more"
    EMPTY = "nobody was counted inside before the room ended"
    LEFT = "the last one left, and then the room ended"
    WITHDRAWN = "its author withdrew it"
    CLOSED = "its event says closed"
    PLANNED = "its event announces it for later"
    OTHER_ROOM = "event and API name different rooms"
    RESTARTED = "the room was made anew"
    GONE_BEFORE = "LiveKit did not have the room before it was made anew"
    NO_ROOM_ANEW = "a restart after which there is no room"
    SAME_ROOM = "a restart that left the room as it was"
    # relays
    RELAY_AUTH = "a relay wants to know who asks"
    RELAY_REFUSES = "a relay refuses"
    RELAY_DROPPED = "a relay took it and has it not"
    RELAY_DROPPED_OR_LATE = "a relay took it and has it not yet"
    RELAY_LATE = "a relay showed it late"
    RELAY_LATE_A_LITTLE = "a relay showed it a little late"
    RELAY_LACKS = "a relay never showed it, and others did"
    RELAY_LOST = "a relay gave no answer for a while"
    RELAY_SILENT = "a relay gives no answer"
    CUT_OFF = "the client gave up on a relay that has it"
    # doors, LiveKit, clocks, and ourselves
    LISTENER = "signed in, and seated as a guest before the record was there"
    LISTENER_ALL_THE_SAME = "signed in, and seated as a guest though the record was there"
    SPLIT = "guests were let in while there was no record for the signed in"
    OWN_ANSWERS = "the API itself answered there"
    FOREIGN_TO_THE_END = "others answered in the API's place to the end"
    UP_AGAIN = "the API answered before and after"
    ANSWERED_OTHERS = "the API answered another vantage meanwhile"
    FLAPS = "404 between answers that showed it"
    RECORD_FLAPS = "the record, which does not ask LiveKit, came and went again and again"
    FLAPPED_ONCE = "one 404 between answers that showed it"
    CACHED = "a cache answered 404"
    LIVEKIT_FAILS = "LiveKit gives no answer"
    LIVEKIT_UP = "LiveKit answered others, or the API, meanwhile"
    LIVEKIT_MIXED = "the API, which asks LiveKit, gave both tokens and 404s meanwhile"
    LIVEKIT_DOWN = "LiveKit answered nobody meanwhile"
    LIVEKIT_DOUBTED = "the API, which asks LiveKit, answered 404 meanwhile"
    CLOCKS_APART = "this clock and the server's differ by more than a signature may"
    CLOCKS_AGREE = "this clock and the server's agree"
    EVENT_AGE_OFF = "created_at is not when it was made"
    MISLED = "what people were told by age was false"
    CUT = "our own network was gone, to the end"
    HELD_UP = "we ourselves were held up"
    HELD_JOIN = "we ourselves held up a join"
    SPOILT = "a join was spoilt by ourselves"


Key: TypeAlias = Fact | Ends | Had
Facts: TypeAlias = dict[Key, Evidence]
