"""The causes there are: why a join of a nest came to nothing, or what it had to wait for; each with its rule.

A cause has one stable id, in code, in JSON and in reports. `standing`: time does not heal it. `fault`: something is
broken or wrongly set up, as against the race between the parts of a nest, an ordinary end, or a limit that was asked
too much of.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """The ids, in the order of a nest's way: its event, the API, LiveKit, its end, and who asks."""

    JOINED = "joined"
    RELAY_DELAY = "relay_delay"
    RELAY_REJECTED = "relay_rejected"
    RELAY_DROPPED = "relay_dropped"
    RELAY_UNREACHABLE = "relay_unreachable"
    RELAY_WANTS_AUTH = "relay_wants_auth"
    API_BEHIND_LIVEKIT = "api_behind_livekit"
    LIVEKIT_BEHIND_API = "livekit_behind_api"
    API_JOIN_FAULT = "api_join_fault"
    BAD_TOKEN = "bad_token"
    WRONG_ROOM_TOKEN = "wrong_room_token"
    ROOM_EXPIRED = "room_expired"
    ENDED_BY_DEPARTURE = "ended_by_departure"
    CLOSED_BY_HOST = "closed_by_host"
    WITHDRAWN = "withdrawn"
    DELETED = "deleted"
    NOT_BEGUN = "not_begun"
    ROOM_ID_MISMATCH = "room_id_mismatch"
    WRONG_DOOR = "wrong_door"
    AUTH_CLOCK_SKEW = "auth_clock_skew"
    AUTH_REJECTED = "auth_rejected"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    API_DOWN = "api_down"
    LIVEKIT_DOWN = "livekit_down"
    LIVEKIT_UNREACHABLE = "livekit_unreachable"
    MEDIA_BLOCKED = "media_blocked"
    NEGATIVE_CACHE = "negative_cache"
    REPLICAS_DISAGREE = "replicas_disagree"
    RESTART_WINDOW = "restart_window"
    RESTART_WITHOUT_EFFECT = "restart_without_effect"
    DUPLICATE_IDENTITY = "duplicate_identity"
    AGE_RULE_MISLED = "age_rule_misled"
    CLIENT_CUTOFF = "client_cutoff"
    LATE_RECORD_MADE_A_LISTENER = "late_record_made_a_listener"
    OBSERVER_FAULT = "observer_fault"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One cause for people. theory: what is the matter, in a sentence that stands in front of the evidence. needs,
    refuted_by: the evidence, in words (cases.py has it as data). host, guest, operator: advice, "" where there is
    nothing to do. next: what to ask next, "" where nothing is left to ask; listed: the same where LiveKit's list has
    told already, "" where that makes no difference."""

    cause: Cause
    theory: str
    needs: str
    refuted_by: str
    host: str = ""
    guest: str = ""
    operator: str = ""
    next: str = ""
    listed: str = ""
    standing: bool = False
    fault: bool = False

    def advice(self) -> dict[str, str]:
        """For whom there is something to do."""
        said = {"host": self.host, "guest": self.guest, "operator": self.operator}
        return {who: words for who, words in said.items() if words}
