"""When a room of others is visited: only where that does no harm, unless the operator insists.

A visit can end a room: the last one who leaves starts LiveKit's departure timeout (20 to 60 s), where an empty room has
300 s or more to go. So a room is visited only where somebody is inside, seen just now: by LiveKit's own list of
participants, which takes the operator's key, else by the number that `/info` tells. And a second one who comes in under
an identity throws the first out: where the joiner's own is inside, or may be, it is not visited. What cannot be known
is taken for harm. Rooms that our own ledger names are ours to visit; and to a fleet's vantages those whose event its
host key has signed, whatever else the event says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nestobs.observation.nest import Nest
from nestobs.store.reader import Store

FRESH_S: Final = 5.0
"""How old an answer of /info may be that says whether somebody is inside."""


@dataclass(frozen=True, slots=True)
class Manners:
    """What an operator insists on. visit_empty: visit rooms though nobody, or nobody known, is inside. as_yourself:
    sign in though one's own identity is, or may be, inside. follow_events: dial what only an event names."""

    visit_empty: bool = False
    as_yourself: bool = False
    follow_events: bool = False


POLITE: Final = Manners()


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """What a visit has to mind. ours: the room is our own, so there is nobody to harm. standing_key: the joiner's keys
    are somebody's own, who may be inside, and not made for this join. manners: what the operator insists on."""

    ours: bool = False
    standing_key: bool = False
    manners: Manners = POLITE


CAREFUL: Final = Care()


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who would visit. identity: the token's own, "" where it tells none. pubkey: of a standing key, which may be in
    use elsewhere; "" of a key made for this join, and of a guest. visited: identities of our own earlier visits, which
    LiveKit may still count."""

    identity: str
    pubkey: str = ""
    visited: frozenset[str] = frozenset()

    def may_be_known(self) -> bool:
        """Whether somebody else may be inside under this identity."""
        return bool(self.pubkey) and self.identity in ("", self.pubkey)


def objection(inside: Collection[str] | None, count: object, visitor: Visitor, manners: Manners) -> str:
    """Why a room is not to be visited, "" where it may be.

    inside: the identities of who is there; None where that is not known: then count, as /info told it.
    """
    if inside is not None:
        others = set(inside) - visitor.visited
        if not manners.as_yourself and others & {visitor.identity, visitor.pubkey} - {""}:
            return f"not visited: {_short(visitor)} is inside already, {_THROWN_OUT}"
        return "" if others or manners.visit_empty else f"not visited: nobody is inside, {_CLOSED}"
    if not manners.as_yourself and visitor.may_be_known():
        return f"not visited: whether {_short(visitor)} is inside already cannot be known, {_THROWN_OUT}"
    if manners.visit_empty:
        return ""
    if not isinstance(count, int) or isinstance(count, bool):
        return f"not visited: whether somebody is inside cannot be known, {_NO_COUNT}"
    return "" if count > len(visitor.visited) else f"not visited: nobody is inside, {_CLOSED}"


_CLOSED: Final = "and the last to leave starts the room's end: --visit-empty visits all the same"
_THROWN_OUT: Final = (
    "and coming in under the same identity throws that one out: --as-yourself does it, --guest need not"
)
_NO_COUNT: Final = "as /info gives no count and there is no LiveKit key: --visit-empty visits all the same"


def _short(visitor: Visitor) -> str:
    name = visitor.identity or visitor.pubkey
    return name if len(name) <= 12 else f"{name[:8]}…"


def is_ours(store: Store, room: str) -> bool:
    """Whether a run of ours made a room and has not deleted it yet: the ledger knows."""
    return any(entry.kind == "room" and entry.room == room for entry in store.ledger())


def is_fleets(nest: Nest, host: str) -> bool:
    """Whether the fleet's host key (64 hex digits) has signed a nest's event: then it is made to be visited. Whom the
    event calls its host is anybody's word."""
    return bool(host) and nest.address.pubkey == host


def count_in(body: Mapping[str, Any] | None) -> object:
    """How many are inside by an answer of /info; None where it does not say."""
    return None if body is None else body.get("participantCount")
