"""A nest: an audio room announced by an addressable event of kind 30312 (NIP-53).

A nest is named by its address `30312:pubkey:d`; the LiveKit room bears the name `d`. Addressable events are replaced
by newer ones, and each edit renews `created_at`: so the first `created_at` seen for an address is kept apart from the
current one, because an age counted from an edit makes a dead room look new.

A stranger wrote the event: its words are read for what they are and no longer than anybody would write them, its
`created_at` is a claim, and its author may have withdrawn it (NIP-09, kind 5).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from nestobs.errors import AddressError
from nestobs.nostr import DELETION_KIND, ROOM_KIND, Address, Event, read_naddr, read_public_key
from nestobs.observation.duration import SECOND_NS, about
from nestobs.observation.schema import LONGEST_ROOM

STATUSES: Final = ("open", "private", "closed")
"""What the web client takes for a status."""

AHEAD_S: Final = 60.0
"""A `created_at` further ahead of the reader's clock is clock skew: it tells no age."""

LONGEST_WORDS: Final = 1_000
MOST_RELAYS: Final = 20
TRACE_TAG: Final = "nestobs-trace"
"""By it a host of ours says under which trace it observes its nest, so that its other vantages do the same."""

_TRACE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LAST_START: Final = 253_402_300_799  # the last second of the year 9999
LONGEST_LINK: Final = 10_000
_ROOM_ID = re.compile(r"[A-Za-z0-9._~-]{1,255}")


class State(StrEnum):
    """What a nest's event says of it."""

    OPEN = "open"
    PLANNED = "planned"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nest:
    """What a 30312 event says. Instants are ns UTC on the host's clock, whole seconds; `starts_at` is 0 where it says
    none. Texts are cut at LONGEST_WORDS.

    `lacks` names the tags the web client needs and does not find (d, room, status, service, p): it does not show such
    a nest at all.
    """

    address: Address
    event_id: str
    created_at: int
    first_created_at: int
    name: str
    status: str
    service: str
    streaming: str
    host: str
    relays: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    starts_at: int = 0

    @property
    def room(self) -> str:
        """Name of the LiveKit room: the event's `d` tag."""
        return self.address.identifier

    def age_s(self, at: int) -> float:
        """Seconds from the current `created_at` to `at` (ns UTC): the web client's age. Negative under clock skew."""
        return (at - self.created_at) / SECOND_NS

    def ahead_s(self, at: int) -> float:
        """By how much its `created_at` lies after `at` beyond what clocks differ by (AHEAD_S), seconds; else 0."""
        age_s = self.age_s(at)
        return -age_s if age_s < -AHEAD_S else 0.0

    def state(self, at: int) -> State:
        """Whether it is over, has not begun at `at` (ns UTC), or may be live. Any case, and words that are unknown."""
        if says_over(self.status):
            return State.OVER
        planned = self.status.strip().lower() == "planned"
        return State.PLANNED if planned or self.starts_at > at else State.OPEN

    def why_not_live(self, at: int) -> str:
        """Why nobody can be in it at `at`, in words; "" when somebody may be."""
        state = self.state(at)
        if state is State.OVER:
            return f"its event says {self.status.strip().lower()}"
        if state is State.PLANNED and not self.starts_at:
            return "not begun: its event says planned, and not for when"
        if state is State.PLANNED:
            when = datetime.fromtimestamp(self.starts_at // SECOND_NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            gap_s = (self.starts_at - at) / SECOND_NS
            return f"not begun: planned for {when}, " + (f"in {about(gap_s)}" if gap_s > 0 else f"{about(-gap_s)} ago")
        return ""

    def withdrawn_by(self, deletions: Iterable[Event]) -> bool:
        """Whether one of these verified deletions is its author's and withdraws this version or the address."""
        return _withdrawn_at(self.address, self.event_id, self.created_at // SECOND_NS, deletions) is not None

    def renewed(self, newer: Nest) -> Nest:
        """This nest after an edit arrived: the newer event's words, of one second those of the lowest id (NIP-01), the
        oldest `created_at` kept as the first."""
        kept = newer if (newer.created_at, self.event_id) >= (self.created_at, newer.event_id) else self
        return replace(kept, first_created_at=min(self.first_created_at, newer.first_created_at))


def says_over(status: str) -> bool:
    """Whether an event's status says that nobody will be in the nest any more; in any case."""
    return status.strip().lower() in ("closed", "ended")


def read_nest(event: Event) -> Nest:
    """The nest in a verified event. Raises ValueError when it is no 30312 event, has no `d` tag, or one that is longer
    than any room's name."""
    if event.kind != ROOM_KIND:
        raise ValueError(f"kind {event.kind} is not a nest")
    identifier = event.tag("d")
    if identifier is None:
        raise ValueError("the event has no d tag, so it names no room")
    if len(identifier) > LONGEST_ROOM:
        raise ValueError(f"its d tag has {len(identifier)} characters: no room has such a name")
    tags = {name: (event.tag(name) or "")[:LONGEST_WORDS] for name in ("room", "status", "service")}
    hosts = [row[1] for row in event.tags if len(row) > 3 and row[0] == "p" and row[3].lower() == "host"]
    people = any(row[0] == "p" and len(row) > 1 for row in event.tags if row)
    needed = {"d": identifier, "p": people, "room": tags["room"], "service": tags["service"]}
    lacks = [name for name, said in needed.items() if not said]
    lacks += ["status"] if tags["status"] not in STATUSES else []
    at = event.created_at * SECOND_NS
    return Nest(
        address=Address(event.kind, event.pubkey, identifier),
        event_id=event.id,
        created_at=at,
        first_created_at=at,
        name=tags["room"],
        status=tags["status"],
        service=tags["service"],
        streaming=_streaming(event),
        host=hosts[0][:LONGEST_WORDS] if hosts else event.pubkey,
        relays=_relays(event),
        lacks=tuple(sorted(lacks)),
        starts_at=starts_of(event) * SECOND_NS,
    )


def _streaming(event: Event) -> str:
    """The first `streaming` tag that says livekit, else the first: a nest may be streamed in several ways."""
    named = [row[1][:LONGEST_WORDS] for row in event.tags if len(row) > 1 and row[0] == "streaming"]
    return next((url for url in named if "livekit" in url.lower()), named[0] if named else "")


def _relays(event: Event) -> tuple[str, ...]:
    cells = (cell[:LONGEST_WORDS] for row in event.tags if row and row[0] == "relays" for cell in row[1:])
    return tuple(itertools.islice(cells, MOST_RELAYS))


def starts_of(event: Event) -> int:
    """When an event says that its nest begins, whole seconds since the epoch; 0 where it does not."""
    digits = (event.tag("starts") or "")[:LONGEST_WORDS].strip()
    known = digits.isascii() and digits.isdigit() and len(digits) <= 12
    return int(digits) if known and int(digits) <= _LAST_START else 0


def trace_told(event: Event) -> str:
    """The trace under which an event's author observes the nest; "" where it tells none. Worth as much as the author:
    who takes it from a stranger has rows of theirs and of others under one trace."""
    told = event.tag(TRACE_TAG) or ""
    return told if _TRACE.fullmatch(told) else ""


def withdrawn_at(address: Address, newest: Event | None, deletions: Iterable[Event]) -> int | None:
    """When its author withdrew a nest (NIP-09), ns UTC on the author's clock; None where nobody did.

    newest: the latest version that is known, None where no relay has any. deletions: verified events. One counts that
    is the author's own, not older than that version, and names the address (`a`) or that version (`e`).
    """
    known = ("", 0) if newest is None else (newest.id, newest.created_at)
    return _withdrawn_at(address, *known, deletions)


def _withdrawn_at(address: Address, event_id: str, since: int, deletions: Iterable[Event]) -> int | None:
    named = {("a", f"{address.kind}:{address.pubkey}:{address.identifier}"), ("e", event_id)} - {("e", "")}
    counting = (
        event.created_at
        for event in deletions
        if event.kind == DELETION_KIND
        and event.pubkey == address.pubkey
        and event.created_at >= since
        and any(row[:2] in named for row in event.tags)
    )
    latest = max(counting, default=None)
    return None if latest is None else latest * SECOND_NS


def room_tags(
    *, room: str, name: str, host: str, service: str, streaming: str, relays: tuple[str, ...], trace_id: str = ""
) -> list[tuple[str, ...]]:
    """Tags of the event the web client publishes for a new open nest; and under which trace we observe it, if any."""
    return [
        ("d", room),
        ("room", name),
        ("status", "open"),
        ("service", service),
        ("streaming", streaming),
        ("p", host, "", "host"),
        ("relays", *relays),
        *([(TRACE_TAG, trace_id)] if trace_id else []),
    ]


def read_address(text: str) -> Address | str:
    """What a person typed to name a nest: an Address from an naddr or `30312:pubkey:d`, else the room id as text; or a
    page's link that holds an naddr or an address, or ends with `/room/` and a room id.

    Raises AddressError with the forms that are understood.
    """
    text = text.strip()
    if re.search("[\ud800-\udfff]", text):
        raise AddressError("the nest is not understood: what was typed is no UTF-8: give an naddr, or 30312:pubkey:d")
    if text[:8].lower().startswith(("https://", "http://")):
        return read_address(_in_link(text))
    if text.startswith(("naddr1", "nostr:naddr1")):
        address = read_naddr(text)
        if address.kind != ROOM_KIND:
            raise AddressError(f"this naddr names an event of kind {address.kind}; a nest is kind {ROOM_KIND}")
        if len(address.identifier) > LONGEST_ROOM:
            raise AddressError("this naddr names a room by more characters than any room has")
        return address
    if text.count(":") >= 2:
        kind, pubkey, identifier = text.split(":", 2)
        if kind != str(ROOM_KIND):
            raise AddressError(f"{kind[:20]!r} is not the kind of a nest: write {ROOM_KIND}:pubkey:d")
        if not identifier or len(identifier) > LONGEST_ROOM:
            raise AddressError("the address ends without a room, or with one longer than any: write 30312:pubkey:d")
        return Address(ROOM_KIND, read_public_key(pubkey), identifier)
    if _ROOM_ID.fullmatch(text) and not text.startswith(("npub1", "nsec1", "note1", "nevent1")):
        return text
    raise AddressError(
        "the nest is not understood: give an naddr, a page's link that holds one, 30312:pubkey:d or a room id"
        " (letters, digits, . _ ~ -)"
    )


def _in_link(link: str) -> str:
    """The part of a page's link that names a nest, in its path or else its fragment; "" where none does."""
    if len(link) > LONGEST_LINK:
        return ""
    _, _, rest = link.partition("://")
    path, _, fragment = rest.partition("#")
    for place in (path, fragment):
        parts = [unquote(part) for part in place.partition("?")[0].split("/")[place is path :]]
        for part in parts[::-1]:
            if part.startswith(("naddr1", "nostr:naddr1", f"{ROOM_KIND}:")):
                return part
        rooms = [part for before, part in itertools.pairwise(parts) if before == "room" and "/" not in part]
        if rooms:
            return rooms[-1]
    return ""
