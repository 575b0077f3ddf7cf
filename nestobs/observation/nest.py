"""A nest: an audio room announced by an addressable event of kind 30312 (NIP-53).

A nest is named by its address `30312:pubkey:d`; the LiveKit room bears the name `d`. Addressable events are replaced
by newer ones, and each edit renews `created_at`: so the first `created_at` seen for an address is kept apart from the
current one, because an age counted from an edit makes a dead room look new.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote

from nestobs.errors import AddressError
from nestobs.nostr import ROOM_KIND, Address, Event, read_naddr, read_public_key
from nestobs.observation.duration import SECOND_NS

STATUSES: Final = ("open", "private", "closed")
LONGEST_LINK: Final = 10_000
_ROOM_ID = re.compile(r"[A-Za-z0-9._~-]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nest:
    """What a 30312 event says. Instants are ns UTC on the host's clock, whole seconds.

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

    @property
    def room(self) -> str:
        """Name of the LiveKit room: the event's `d` tag."""
        return self.address.identifier

    def age_s(self, at: int) -> float:
        """Seconds from the current `created_at` to `at` (ns UTC): the web client's age. Negative under clock skew."""
        return (at - self.created_at) / SECOND_NS

    def renewed(self, newer: Nest) -> Nest:
        """This nest after an edit arrived: the newer event's words, the oldest `created_at` kept as the first."""
        kept = newer if newer.created_at >= self.created_at else self
        return replace(kept, first_created_at=min(self.first_created_at, newer.first_created_at))


def read_nest(event: Event) -> Nest:
    """The nest in a verified event. Raises ValueError when it is no 30312 event or has no `d` tag."""
    if event.kind != ROOM_KIND:
        raise ValueError(f"kind {event.kind} is not a nest")
    identifier = event.tag("d")
    if identifier is None:
        raise ValueError("the event has no d tag, so it names no room")
    tags = {name: event.tag(name) for name in ("room", "status", "service", "streaming")}
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
        name=tags["room"] or "",
        status=tags["status"] or "",
        service=tags["service"] or "",
        streaming=tags["streaming"] or "",
        host=hosts[0] if hosts else event.pubkey,
        relays=tuple(cell for row in event.tags if row and row[0] == "relays" for cell in row[1:]),
        lacks=tuple(sorted(lacks)),
    )


def room_tags(
    *, room: str, name: str, host: str, service: str, streaming: str, relays: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """Tags of the event the web client publishes for a new open nest."""
    return [
        ("d", room),
        ("room", name),
        ("status", "open"),
        ("service", service),
        ("streaming", streaming),
        ("p", host, "", "host"),
        ("relays", *relays),
    ]


def read_address(text: str) -> Address | str:
    """What a person typed to name a nest: an Address from an naddr or `30312:pubkey:d`, else the room id as text; or a
    page's link that holds an naddr or an address, or ends with `/room/` and a room id.

    Raises AddressError with the forms that are understood.
    """
    text = text.strip()
    if text[:8].lower().startswith(("https://", "http://")):
        return read_address(_in_link(text))
    if text.startswith(("naddr1", "nostr:naddr1")):
        address = read_naddr(text)
        if address.kind != ROOM_KIND:
            raise AddressError(f"this naddr names an event of kind {address.kind}; a nest is kind {ROOM_KIND}")
        return address
    if text.count(":") >= 2:
        kind, pubkey, identifier = text.split(":", 2)
        if kind != str(ROOM_KIND):
            raise AddressError(f"{kind[:20]!r} is not the kind of a nest: write {ROOM_KIND}:pubkey:d")
        if not identifier:
            raise AddressError("the address ends without a room: write 30312:pubkey:d")
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
