"""Nostr on the wire: events, frames, filters, HTTP auth and addresses. Pure: no clock, no socket.

An event (NIP-01) is a signed statement; its id is the sha256 of its canonical form, its signature BIP-340 Schnorr
over that id. Relays speak JSON arrays: we send EVENT, REQ, CLOSE, AUTH; they answer EVENT, EOSE, OK, CLOSED, NOTICE,
AUTH. HTTP auth (NIP-98) is a kind 27235 event carrying URL and method in base64. An naddr (NIP-19) is kind, author
and `d` tag of an addressable event in bech32.

Keys, signing and bech32 are nostr-sdk's; this is the only module that imports it, since its names change at every
minor version. A secret key is held by `Keys` alone and is never shown by `repr`, errors or frames.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from nestobs.errors import AddressError, KeyFormatError

ROOM_KIND = 30312
HTTP_AUTH_KIND = 27235
DELETION_KIND = 5
RELAY_AUTH_KIND = 22242

READ_BYTES = 128 * 1024
"""A longer frame is not parsed: relays keep events of up to 64 kB mostly, the event of a nest has one or two."""

_KEY = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{256}")

LONGEST_BECH32 = 5_000
"""No naddr that anybody copies is longer (NIP-19), and no key."""

MOST_TAGS, MOST_CELLS = 2_000, 10_000
"""An event of more tags, or of more cells in them, is not looked at: relays keep up to 2 000 tags (NIP-11)."""

_EVENT = re.compile(r'\s*\[\s*"EVENT"\s*,\s*"([^"\\]{1,100})"')

DELETIONS = 50
"""How many of an author's latest deletions are looked through for the id of one event."""

CHALLENGE_CHARACTERS = 1_024
"""A longer challenge is not answered: what is signed goes back to whoever sent it (NIP-42 has tens)."""


class MalformedEvent(ValueError):
    """What a peer sent is not an event, or its id or signature is false."""


class MalformedAuth(ValueError):
    """An Authorization header that is not a NIP-98 one."""


@dataclass(frozen=True, slots=True)
class Event:
    """One signed event (NIP-01). `created_at` is whole seconds since the epoch, on the author's clock."""

    id: str
    pubkey: str
    created_at: int
    kind: int
    tags: tuple[tuple[str, ...], ...]
    content: str
    sig: str

    def tag(self, name: str) -> str | None:
        """First value of the first tag so named; None when there is none."""
        for row in self.tags:
            if len(row) > 1 and row[0] == name:
                return row[1]
        return None

    def replaces(self, other: Event) -> bool:
        """Whether it is the later version of one replaceable event: the newer, of one second the lowest id (NIP-01)."""
        return (self.created_at, other.id) > (other.created_at, self.id)

    def as_dict(self) -> dict[str, Any]:
        """The event as the JSON object of NIP-01."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        return values | {"tags": [list(row) for row in self.tags]}


def read_event(value: object) -> Event:
    """The event in a decoded JSON object, id and signature verified (NIP-01, BIP-340).

    Raises MalformedEvent with the reason; a relay can send anything.
    """
    event = _shape(value)
    if event.id != _id(event):
        raise MalformedEvent("id or signature is false")
    _verify(event)
    return event


def _id(event: Event) -> str:
    """The sha256 of an event's canonical form (NIP-01). Here and not in nostr-sdk, which takes .25 ms a kB to be handed
    an event: of a long one that is an event loop's patience."""
    form = [0, event.pubkey, event.created_at, event.kind, event.tags, event.content]
    try:
        return hashlib.sha256(json.dumps(form, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
    except UnicodeEncodeError:
        raise MalformedEvent("not an event: it holds half a character") from None


_GENUINE: OrderedDict[tuple[str, str, str], None] = OrderedDict()
_REMEMBERED = 4_096


def _verify(event: Event) -> None:
    """Raise MalformedEvent unless the signature over the id is the author's (BIP-340). Remembered without what was
    signed, which the id stands for: relays hand over the same event again and again, and events may be long. By
    coincurve, a quarter of nostr-sdk's time, which wants all of an event as JSON first.
    """
    from coincurve import PublicKeyXOnly

    signed = (event.id, event.pubkey, event.sig)
    if signed in _GENUINE:
        return
    try:
        author = PublicKeyXOnly(bytes.fromhex(event.pubkey))
    except ValueError:
        raise MalformedEvent("not an event: its pubkey is no point of the curve") from None
    if not author.verify(bytes.fromhex(event.sig), bytes.fromhex(event.id)):
        raise MalformedEvent("id or signature is false")
    _GENUINE[signed] = None
    if len(_GENUINE) > _REMEMBERED:
        _GENUINE.popitem(last=False)


def _shape(value: object) -> Event:
    if not isinstance(value, Mapping):
        raise MalformedEvent("an event must be a JSON object")
    tags = value.get("tags")
    if not isinstance(tags, list) or not all(
        isinstance(row, list) and all(isinstance(cell, str) for cell in row) for row in tags
    ):
        raise MalformedEvent("tags must be a list of lists of strings")
    if len(tags) > MOST_TAGS or sum(map(len, tags)) > MOST_CELLS:
        raise MalformedEvent(f"not an event: it has {len(tags)} tags")
    for name in ("id", "pubkey", "content", "sig"):
        if not isinstance(value.get(name), str):
            raise MalformedEvent(f"{name} must be a string")
    for name in ("created_at", "kind"):
        number = value.get(name)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**64:
            raise MalformedEvent(f"not an event: {name} must be a whole number of 64 bits, zero or more")
    known = {spec.name: value[spec.name] for spec in fields(Event)}
    if not _HEX.fullmatch(f"{known['id']}{known['pubkey']}{known['sig']}"):
        raise MalformedEvent("not an event: id, pubkey and sig must be 64, 64 and 128 hex digits")
    return Event(**known | {"tags": tuple(tuple(row) for row in tags)})


def _plain(error: Exception) -> str:
    return str(error).strip("'\"")[:200]


@dataclass(frozen=True, slots=True)
class Keys:
    """A key pair. `public` is 64 hex digits. The secret is kept out of `repr` and leaves only by `to_nsec`."""

    public: str
    _native: Any = field(repr=False, compare=False)

    @classmethod
    def generate(cls) -> Keys:
        """A fresh random pair, from the system's randomness."""
        import nostr_sdk

        native = nostr_sdk.Keys.generate()
        return cls(native.public_key().to_hex(), native)

    @classmethod
    def from_secret(cls, secret: str) -> Keys:
        """From an nsec or 64 hex digits. Raises KeyFormatError, which does not quote what was given."""
        import nostr_sdk

        try:
            native = nostr_sdk.Keys.parse(secret.strip())
        except (nostr_sdk.NostrSdkError, UnicodeEncodeError):
            raise KeyFormatError("the secret key is neither an nsec nor 64 hex digits: check NESTOBS_NSEC") from None
        return cls(native.public_key().to_hex(), native)

    def to_nsec(self) -> str:
        """The secret, as NIP-19 text: for a key file readable by its owner only, and for nothing else."""
        return str(self._native.secret_key().to_bech32())

    def sign(self, kind: int, *, created_at: int, tags: Iterable[Sequence[str]] = (), content: str = "") -> Event:
        """A signed event with these fields. `created_at`: whole seconds since the epoch."""
        import nostr_sdk

        event = (
            nostr_sdk.EventBuilder(nostr_sdk.Kind(kind), content)
            .tags([nostr_sdk.Tag.parse(list(row)) for row in tags])
            .custom_created_at(nostr_sdk.Timestamp.from_secs(created_at))
            .finalize(self._native)
        )
        return _shape(json.loads(event.as_json()))


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object that a stranger sent; None for anything else, be it nested too deep to be read."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# Frames (NIP-01, NIP-42)


@dataclass(frozen=True, slots=True)
class EventFrame:
    """A relay's EVENT: not yet verified, see `read_event`."""

    subscription: str
    event: object


@dataclass(frozen=True, slots=True)
class Eose:
    """End of stored events."""

    subscription: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The relay ended a subscription; `reason` may start with a machine-readable word and a colon."""

    subscription: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ok:
    """The relay's word on an event. True is not proof of storage: read it back."""

    event_id: str
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for people, tied to nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class AuthChallenge:
    """NIP-42: the relay wants to know who asks."""

    challenge: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Anything else that came: kept as evidence, cut to 200 characters."""

    text: str


@dataclass(frozen=True, slots=True)
class TooLong:
    """An EVENT of so many bytes that it is not read."""

    subscription: str
    size: int


RelayFrame: TypeAlias = EventFrame | Eose | Closed | Ok | Notice | AuthChallenge | TooLong | Unreadable


def read_frame(text: str | bytes) -> RelayFrame:  # noqa: PLR0911 - one return per kind of frame
    """What a relay said. Never raises: what cannot be read is `Unreadable`. Nothing longer than READ_BYTES is."""
    shown = text[:200] if isinstance(text, str) else text[:200].decode("utf-8", "replace")
    if len(text) > READ_BYTES:
        found = _EVENT.match(shown)
        return TooLong(found[1], len(text)) if found else Unreadable(shown)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return Unreadable(shown)
    match row:
        case ["EVENT", str(subscription), dict(event)]:
            return EventFrame(subscription, event)
        case ["EOSE", str(subscription), *_]:
            return Eose(subscription)
        case ["OK", str(event_id), bool(accepted), *rest]:
            return Ok(event_id, accepted, rest[0] if rest and isinstance(rest[0], str) else "")
        case ["CLOSED", str(subscription), *rest]:
            return Closed(subscription, rest[0] if rest and isinstance(rest[0], str) else "")
        case ["NOTICE", str(notice), *_]:
            return Notice(notice)
        case ["AUTH", str(challenge)] if len(challenge) <= CHALLENGE_CHARACTERS and challenge.isprintable():
            return AuthChallenge(challenge)
    return Unreadable(shown)


def room_filter(
    *, authors: Iterable[str] = (), identifiers: Iterable[str] = (), since: int | None = None, limit: int | None = None
) -> dict[str, Any]:
    """A filter for 30312 events (NIP-01). `since`: whole seconds, inclusive."""
    wanted = {"kinds": [ROOM_KIND], "authors": list(authors), "#d": list(identifiers), "since": since, "limit": limit}
    return {name: value for name, value in wanted.items() if value not in ([], None)}


def deletion_filters(address: Address) -> list[dict[str, Any]]:
    """Filters for what withdraws this address (NIP-09): by its `a` tag; by a version's id, which is not known yet when
    this is asked, so the author's latest deletions."""
    by = {"kinds": [DELETION_KIND], "authors": [address.pubkey]}
    return [by | {"#a": [f"{address.kind}:{address.pubkey}:{address.identifier}"]}, by | {"limit": DELETIONS}]


def withdrawals() -> dict[str, Any]:
    """A filter for all deletions that say they are of nests (NIP-09, `k`)."""
    return {"kinds": [DELETION_KIND], "#k": [str(ROOM_KIND)]}


def req(subscription: str, *filters: Mapping[str, Any]) -> str:
    """REQ: ask for stored events and then for new ones."""
    return json.dumps(["REQ", subscription, *filters])


def close(subscription: str) -> str:
    """CLOSE: end a subscription."""
    return json.dumps(["CLOSE", subscription])


def publish(event: Event) -> str:
    """EVENT: hand an event to a relay."""
    return json.dumps(["EVENT", event.as_dict()])


def relay_auth(keys: Keys, *, relay: str, challenge: str, created_at: int) -> str:
    """AUTH: answer a relay's challenge (NIP-42)."""
    event = keys.sign(RELAY_AUTH_KIND, created_at=created_at, tags=[("relay", relay), ("challenge", challenge)])
    return json.dumps(["AUTH", event.as_dict()])


# HTTP auth (NIP-98)


def http_auth(keys: Keys, *, url: str, method: str, created_at: int, body: bytes | None = None) -> str:
    """The Authorization header of one request: "Nostr " and the base64 of a kind 27235 event (NIP-98).

    Sign a fresh one for each attempt. With a body, its sha256 goes into the `payload` tag.
    """
    tags = [("u", url), ("method", method.upper())]
    if body is not None:
        tags.append(("payload", hashlib.sha256(body).hexdigest()))
    event = keys.sign(HTTP_AUTH_KIND, created_at=created_at, tags=tags)
    return "Nostr " + base64.b64encode(json.dumps(event.as_dict()).encode()).decode()


def read_http_auth(header: str) -> Event:
    """The event of an Authorization header, id and signature verified. Raises MalformedAuth with the reason.

    Whether kind, URL, method, time and payload fit the request is for the server to judge.
    """
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "nostr" or not token:
        raise MalformedAuth("the header does not start with the word Nostr")
    try:
        return read_event(json.loads(base64.b64decode(token.strip(), validate=True)))
    except MalformedEvent as error:
        raise MalformedAuth(str(error)) from None
    except (binascii.Error, ValueError, RecursionError):
        raise MalformedAuth("the token is not base64 of JSON") from None


# Addresses (NIP-01, NIP-19)


@dataclass(frozen=True, slots=True)
class Address:
    """kind:pubkey:d of an addressable event, and the relays where it was said to be."""

    kind: int
    pubkey: str
    identifier: str
    relays: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}:{self.pubkey}:{self.identifier}"


def read_naddr(text: str) -> Address:
    """The address in an naddr, `nostr:` prefix allowed (NIP-19, NIP-21). Raises AddressError."""
    import nostr_sdk

    if not text.isascii() or len(text) > LONGEST_BECH32:
        raise AddressError(f"{_shown(text)} is not a valid naddr: copy it again, whole")
    try:
        found = nostr_sdk.Nip19Coordinate.from_bech32(text.removeprefix("nostr:").strip())
    except nostr_sdk.NostrSdkError as error:
        raise AddressError(f"{_shown(text)} is not a valid naddr ({_plain(error)}): copy it again, whole") from None
    inner = found.coordinate()
    return Address(
        inner.kind().as_u16(),
        inner.public_key().to_hex(),
        inner.identifier(),
        tuple(str(relay) for relay in found.relays()),
    )


def write_naddr(address: Address) -> str:
    """The naddr of an address (NIP-19). Raises AddressError when a part cannot be encoded."""
    import nostr_sdk

    try:
        inner = nostr_sdk.Coordinate(
            nostr_sdk.Kind(address.kind), nostr_sdk.PublicKey.parse(address.pubkey), address.identifier
        )
        return str(
            nostr_sdk.Nip19Coordinate(inner, [nostr_sdk.RelayUrl.parse(relay) for relay in address.relays]).to_bech32()
        )
    except nostr_sdk.NostrSdkError as error:
        raise AddressError(f"{_shown(str(address))} cannot be written as an naddr ({_plain(error)})") from None


def read_public_key(text: str) -> str:
    """64 hex digits from an npub or from hex. Raises AddressError."""
    import nostr_sdk

    refused = AddressError(f"{_shown(text)} is neither an npub nor 64 hex digits")
    if not text.isascii() or len(text) > LONGEST_BECH32:
        raise refused
    try:
        found = str(nostr_sdk.PublicKey.parse(text.strip()).to_hex())
    except nostr_sdk.NostrSdkError:
        raise refused from None
    if not _KEY.fullmatch(found):
        raise refused
    return found


def _shown(text: str) -> str:
    if "nsec1" in text:
        return "a secret key"
    return repr(text if len(text) <= 40 else text[:37] + "...")
