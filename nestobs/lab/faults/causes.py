"""What can be wrong with a nest, as data: on which side it lies, in which kinds it comes, and who acts it out.

The ids are those of the diagnosis, spelled once more since the lab is below what observes it. Some faults are a host's
or an observer's doing, and no server can play them: the lab draws them and tells of them (`planned`), and whoever plays
the host acts them out; what then shows at the lab's own doors is in the truth as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Side: TypeAlias = Literal["relay", "api", "livekit", "host", "observer"]
Actor: TypeAlias = Literal["lab", "host", "observer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Theory:
    """One cause. says: what the lab does. kinds: it is drawn among them, each as likely, unless a scenario names one.

    by: who acts it out. begins: with the nest's creation, whatever it is, so that it has no `from`. wide: it lies at a
    door that all nests of the scenario share, and while it lasts they share it too. real: only the real livekit-server
    can do it.
    """

    side: Side
    says: str
    kinds: tuple[str, ...] = ("plain",)
    by: Actor = "lab"
    begins: bool = False
    wide: bool = False
    real: bool = False


_RELAYS: Final = ("all", "first", "last")

CAUSES: Final[Mapping[str, Theory]] = {
    "relay_delay": Theory(side="relay", begins=True, kinds=_RELAYS, says="relays store the accepted event after `for`"),
    "relay_rejected": Theory(side="relay", begins=True, kinds=_RELAYS, says="relays answer the event with OK false"),
    "relay_dropped": Theory(side="relay", begins=True, kinds=_RELAYS, says="relays accept the event, never store it"),
    "relay_unreachable": Theory(
        side="relay",
        wide=True,
        kinds=("closed", "cut", "stall"),
        says="no relay can be reached: port closed, connections cut, or nothing answered",
    ),
    "relay_wants_auth": Theory(side="relay", wide=True, says="relays want to know who asks (NIP-42)"),
    "client_cutoff": Theory(side="relay", says="relays answer questions about the nest after 2.5 s"),
    "api_behind_livekit": Theory(side="api", begins=True, says="the record is late by `for` on all routes"),
    "late_record_made_a_listener": Theory(
        side="api", begins=True, says="the record is late by `for`, and the guest route asks LiveKit alone"
    ),
    "replicas_disagree": Theory(side="api", begins=True, says="a second replica learns of the nest after `for`"),
    "negative_cache": Theory(
        side="api",
        begins=True,
        kinds=("x_cache", "cf", "cache_status"),
        says="the record is late by a second or so, and what answered 404 is repeated from a cache until `for`",
    ),
    "api_join_fault": Theory(
        side="api", kinds=("not_found", "no_longer_active"), says="both joins answer 404, /info says active"
    ),
    "bad_token": Theory(
        side="api",
        kinds=("object", "null", "number", "empty", "missing", "foreign_key"),
        says="the token is no string, empty, not there, or signed with a key that LiveKit does not have",
    ),
    "wrong_room_token": Theory(side="api", says="the token is for another room"),
    "wrong_door": Theory(
        side="api",
        kinds=("nginx", "traefik", "kong", "web_page", "other_service"),
        says="another server answers in the API's place: a proxy's 404, a web page's 200, a service's own 404",
    ),
    "auth_clock_skew": Theory(
        side="api", kinds=("ahead", "behind"), says="signatures are judged by a clock that is 300 s off, as Date shows"
    ),
    "auth_rejected": Theory(side="api", says="signed joins are answered 401, whatever they say"),
    "forbidden": Theory(side="api", says="signed joins are answered 403"),
    "rate_limited": Theory(side="api", kinds=("draft_6", "draft_8", "retry_after"), says="all answers are 429"),
    "api_down": Theory(
        side="api",
        kinds=("status_500", "status_502", "status_503", "stall", "reset"),
        says="the nest's routes answer a 5xx, nothing at all, or a reset",
    ),
    "livekit_behind_api": Theory(side="livekit", begins=True, says="LiveKit's room is late by `for`"),
    "room_expired": Theory(side="livekit", says="the room ends, and nobody was ever inside"),
    "ended_by_departure": Theory(side="livekit", says="the host leaves just before, and the room ends"),
    "livekit_down": Theory(
        side="livekit",
        wide=True,
        kinds=("closed", "reset", "stall"),
        says="LiveKit is down for everybody: the API, which asks it, answers 404 to joins",
    ),
    "livekit_unreachable": Theory(
        side="livekit",
        wide=True,
        kinds=("closed", "reset", "stall", "other_server"),
        says="observers cannot reach LiveKit, the API can: port closed, reset, stalled, another server there",
    ),
    "media_blocked": Theory(
        side="livekit", begins=True, wide=True, real=True, says="LiveKit signals, and offers no address for media"
    ),
    "restart_window": Theory(side="livekit", says="the room is ended, and made anew after `for`"),
    "duplicate_identity": Theory(side="livekit", says="somebody comes in under the identity of each who signed in"),
    "not_begun": Theory(
        side="host", begins=True, by="host", kinds=("planned", "starts"), says="it is announced for later, no room yet"
    ),
    "room_id_mismatch": Theory(side="host", begins=True, by="host", says="the event has another `d` than the room"),
    "closed_by_host": Theory(
        side="host", by="host", kinds=("closed", "ended"), says="the host edits the event: it is over"
    ),
    "withdrawn": Theory(side="host", by="host", says="the host deletes the event (kind 5)"),
    "deleted": Theory(side="host", by="host", says="the host deletes the nest at the API, the event stays"),
    "restart_without_effect": Theory(
        side="host", by="host", says="the host restarts the nest, and the room stays the same one"
    ),
    "age_rule_misled": Theory(
        side="host",
        by="host",
        kinds=("old_clock", "edited"),
        says="the record is late by `for` and the event dated an hour ago; or the room ends and the event is edited",
    ),
    "observer_fault": Theory(
        side="observer",
        by="observer",
        says="the observer's own network is gone, or its event loop stands still",
    ),
}
"""In the order in which draws are made; `joined` and `undetermined` are the lack of all."""
