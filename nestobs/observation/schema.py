"""One attempt at one target, whatever came of it: the schema everything else reads.

An observation says what happened, not what it means. Its outcome is one of six: `visible` and `absent` are proofs
about a layer, `accepted` and `refused` are answers to something asked, `unknown` proves nothing, `probe_error` is our
own fault. Only the first two ever move a bound of an interval (timeline/intervals).

Instants are integer nanoseconds since the epoch, UTC, as the vantage's anchored clock had them; durations are float
seconds. A repeated attempt is a row of its own: `attempt_group` ties the rows, `attempt_no` counts from 1. A deed that
changes the world (create, publish, join, delete) is written twice under one group and number: as an intent before
(`failure` is `intent`, no `received_at`), and as what came of it.

This is the only module that spells column names: `COLUMNS` is the schema of the journal, of Parquet and of frames.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_type_hints

from nestobs.observation.text import encodable, shortened

DETAIL_BYTES = 4_096
"""Longest `detail`, in bytes of UTF-8 JSON; longer values are cut and the row says so."""

REASON_CHARACTERS = 400

LONGEST_ROOM = 1_024
"""Longest name of a room (the event's `d` tag), in characters: a longer one names no nest that could be asked about."""

LONGEST_TEXT = 2_048
"""Longest text of any other column but `detail`, in characters: what is longer is cut, and ends with its digest."""

HEARTBEAT_S = 60.0
"""A collector at work writes a row about nothing but itself at least so often (source clock, operation health), so that
quiet can be told from not having looked. See `Vantage.heartbeat`."""

PERIOD = "period_s"
"""In the detail of such a row with a `planned_at`: it ends a run that was planned for then, and the next of its
schedule is so many seconds later. See `Vantage.burst`."""


class Source(StrEnum):
    """Who was asked."""

    RELAY = "relay"
    API = "api"
    LIVEKIT = "livekit"
    WEBHOOK = "webhook"
    JOIN = "join"
    CLIENT = "client"
    CLOCK = "clock"


class Operation(StrEnum):
    """What was asked or done."""

    CONNECT = "connect"
    QUERY = "query"
    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    READ_BACK = "read_back"
    HEALTH = "health"
    INFO = "info"
    JOIN = "join"
    GUEST = "guest"
    CREATE = "create"
    RESTART = "restart"
    DELETE = "delete"
    ROOMS = "rooms"
    SIGNAL = "signal"
    MEDIA = "media"
    STAY = "stay"
    RECEIVE = "receive"
    LOAD = "load"
    VERDICT = "verdict"
    STEP = "step"


class Role(StrEnum):
    """As whom it was asked."""

    HOST = "host"
    JOINER = "joiner"
    GUEST = "guest"
    OBSERVER = "observer"


class Outcome(StrEnum):
    """What an attempt proves (design.md, section 3)."""

    VISIBLE = "visible"
    ABSENT = "absent"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    PROBE_ERROR = "probe_error"


class Failure(StrEnum):
    """Why an attempt did not bring what was asked: a closed vocabulary."""

    INTENT = "intent"
    DNS = "dns_failed"
    REFUSED = "connection_refused"
    RESET = "connection_reset"
    CLOSED = "connection_closed"
    TIMEOUT = "timeout"
    TLS = "tls_failed"
    UNREACHABLE = "unreachable"
    PROTOCOL = "protocol_error"
    NOT_FOUND = "not_found"
    WRONG_PATH = "wrong_path"
    CACHED = "served_from_cache"
    UNAUTHORISED = "unauthorised"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    UNEXPECTED = "unexpected_answer"
    BAD_TOKEN = "bad_token"
    RELAY_CLOSED = "closed_by_relay"
    RELAY_REFUSED = "refused_by_relay"
    AUTH_REQUIRED = "auth_required"
    NOT_STORED = "not_stored"
    BAD_EVENT = "bad_event"
    ICE = "ice_failed"
    DROPPED = "dropped"
    REMOVED = "removed"
    FLOODED = "flooded"
    BUDGET = "budget_spent"
    CLOCK_STEP = "clock_step"
    SUSPENDED = "suspended"
    LOOP_BLOCKED = "loop_blocked"
    NO_NETWORK = "no_network"
    SKIPPED = "skipped"
    BAD_SIGNATURE = "bad_signature"
    INTERNAL = "internal"


class FailureLayer(StrEnum):
    """Where on the way it failed."""

    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    HTTP = "http"
    WS = "ws"
    NOSTR = "nostr"
    API = "api"
    SIGNAL = "signal"
    ICE = "ice"
    PROBER = "prober"


_DETAIL = f"anything else, at most {DETAIL_BYTES} bytes, never a secret"
_TEXTS = (
    "nest",
    "room",
    "target",
    "cache",
    "software",
    "vantage",
    "trace_id",
    "run_id",
    "attempt_group",
    "observation_id",
)


def _cut(text: str) -> str:
    """A text no longer than LONGEST_TEXT that stays apart from others with the same beginning."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[: LONGEST_TEXT - 17]}…{digest}"


_SECRET = re.compile(r"nsec1[a-z0-9]{20,}|eyJ[A-Za-z0-9+/=_.-]{20,}")
"""A secret key (NIP-19), and what every JWT and every NIP-98 token begins with: base64 of `{"`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One row. Every field is a column, with its unit and meaning. `reason` is never empty with a failure."""

    observation_id: Annotated[str, "UUIDv7", "unique id of the row"]
    run_id: Annotated[str, "UUIDv7", "the process run that wrote it"]
    trace_id: Annotated[str, "UUIDv7", "one nest under observation; empty for rows about no nest"] = ""
    vantage: Annotated[str, "", "place and clock from which it was observed"]
    role: Annotated[Role, "", "host, joiner, guest or observer"] = Role.OBSERVER
    nest: Annotated[str, "30312:pubkey:d", "address of the nest; empty while unknown"] = ""
    room: Annotated[str, "", "LiveKit room, the event's d tag; empty while unknown"] = ""
    source: Annotated[Source, "", "relay, api, livekit, webhook, join, client or clock"]
    target: Annotated[str, "URL", "what was asked"]
    operation: Annotated[Operation, "", "what was asked of it"]
    attempt_group: Annotated[str, "UUIDv7", "ties the attempts at one thing"] = ""
    attempt_no: Annotated[int, "count from 1", "which attempt of its group"] = 1
    planned_at: Annotated[int | None, "ns UTC", "when it was due; null when unplanned"] = None
    sent_at: Annotated[int, "ns UTC", "when the question left; for a pushed event its receipt, less our own lag"]
    received_at: Annotated[
        int | None, "ns UTC", "when the answer was whole; null while only intended or when none came"
    ] = None
    outcome: Annotated[Outcome, "", "visible, absent, accepted, refused, unknown or probe_error"]
    status: Annotated[int | None, "HTTP status", "status of the answer, or websocket close code"] = None
    failure: Annotated[Failure | None, "", "why it did not bring what was asked; null when it did"] = None
    failure_layer: Annotated[FailureLayer | None, "", "where on the way it failed"] = None
    reason: Annotated[str, "", "the failure in words, never empty with a failure"] = ""
    remote_at: Annotated[int | None, "ns UTC", "the other side's own stamp"] = None
    remote_grain_s: Annotated[float | None, "s", "how coarse that stamp is"] = None
    timeout_s: Annotated[float | None, "s", "the effective timeout of the attempt"] = None
    connection_reused: Annotated[bool | None, "", "whether an open connection was used"] = None
    cache: Annotated[str, "JSON", "Age, X-Cache, Cache-Control, ETag as answered; empty when none"] = ""
    loop_lag_s: Annotated[float | None, "s", "greatest lag of our event loop while the attempt ran"] = None
    clock_offset_s: Annotated[float | None, "s", "vantage clock minus reference clock; null when never compared"] = None
    clock_error_s: Annotated[float | None, "s", "half width of that offset"] = None
    sync_age_s: Annotated[float | None, "s", "age of that comparison"] = None
    software: Annotated[str, "", "the other side's name and version, when it says so"] = ""
    detail: Annotated[str, "JSON", _DETAIL] = "{}"

    def __post_init__(self) -> None:
        if self.failure is not None and not self.reason:
            raise ValueError(f"an observation with failure {self.failure} needs a reason")
        reason = encodable(self.reason)  # a peer's lone surrogate must not reach a file
        reason = _SECRET.sub("[secret]", reason)  # nor a token it echoes
        object.__setattr__(self, "reason", shortened(reason, REASON_CHARACTERS))
        for name in _TEXTS:
            text = getattr(self, name)
            if len(text) > LONGEST_TEXT:
                object.__setattr__(self, name, _cut(text))
        if len(self.detail) > 2 * DETAIL_BYTES:
            object.__setattr__(self, "detail", '{"cut": true}')
        if "eyJ" in self.detail or "nsec1" in self.detail:
            object.__setattr__(self, "detail", _SECRET.sub("[secret]", self.detail))

    @property
    def layer(self) -> str:
        """The layer this row speaks of, "" when it speaks of none. See `layer_of`."""
        return layer_of(self.source, self.operation, self.target)


_LAYERS: dict[tuple[str, str], str] = {
    (Source.API, Operation.INFO): "api:info",
    (Source.API, Operation.JOIN): "api:join",
    (Source.API, Operation.GUEST): "api:guest",
    (Source.LIVEKIT, Operation.ROOMS): "livekit:room",
    (Source.LIVEKIT, Operation.SIGNAL): "livekit:signal",
    (Source.LIVEKIT, Operation.MEDIA): "livekit:media",
}


def layer_of(source: str, operation: str, target: str) -> str:
    """The layer an attempt speaks of: `relay:<url>`, `api:info`, …, `client`; "" when it speaks of none."""
    if source == Source.RELAY:
        return f"relay:{target}" if operation in (Operation.QUERY, Operation.SUBSCRIBE) else ""
    return "client" if source == Source.CLIENT else _LAYERS.get((source, operation), "")


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name, storage type (`text`, `int`, `real`, `bool`), unit and meaning."""

    name: str
    type: str
    unit: str
    meaning: str
    nullable: bool


_TYPES = {int: "int", float: "real", bool: "bool"}
_HINTS = {name: get_args(hint) for name, hint in get_type_hints(Observation, include_extras=True).items()}


def _present(hint: Any) -> Any:
    """The type of a value that is there."""
    return get_args(hint)[0] if isinstance(hint, UnionType) else hint


COLUMNS: tuple[Column, ...] = tuple(
    Column(name, _TYPES.get(_present(hint), "text"), unit, meaning, isinstance(hint, UnionType))
    for name, (hint, unit, meaning) in _HINTS.items()
)
"""The schema, in order: journal, Parquet and frames all follow it."""

INSTANTS: tuple[str, ...] = tuple(column.name for column in COLUMNS if column.name.endswith("_at"))
"""Columns that hold an instant."""

_ENUMS = {name: _present(hint) for name, (hint, *_) in _HINTS.items() if issubclass(_present(hint), StrEnum)}
_NAMES = tuple(column.name for column in COLUMNS)
_KINDS: dict[str, tuple[type, ...]] = {"text": (str,), "int": (int,), "real": (float, int), "bool": (bool, int)}
_HELD = [(column, _KINDS[column.type] + (NoneType,) * column.nullable) for column in COLUMNS]

as_row: Callable[[Observation], tuple[Any, ...]] = attrgetter(*_NAMES)
"""The observation's values in the order of `COLUMNS`. Enums are StrEnum, which SQLite and frames take as their text."""


def from_row(row: Mapping[str, Any]) -> Observation:
    """The observation of a stored row. Raises ValueError when a closed vocabulary is broken, or a value is not what its
    column holds."""
    values = {name: row[name] for name in _NAMES}
    for column, types in _HELD:
        if not isinstance(values[column.name], types):
            raise ValueError(f"{column.name} holds {values[column.name]!r:.40}, which is no {column.type}")
    for name, kind in _ENUMS.items():
        if values[name] is not None:
            values[name] = kind(values[name])
    if values["connection_reused"] is not None:
        values["connection_reused"] = bool(values["connection_reused"])
    return Observation(**values)
