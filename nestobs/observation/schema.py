"""One attempt at one target, whatever came of it: the schema everything else reads.

An observation says what happened, not what it means. Its outcome is one of six: `visible` and `absent` are proofs
about a layer, `accepted` and `refused` are answers to something asked, `unknown` proves nothing, `probe_error` is our
own fault. Only the first two ever move a bound of an interval (timeline/intervals.py).

Instants are integer nanoseconds since the epoch, UTC, as the vantage's anchored clock had them; durations are float
seconds. A repeated attempt is a row of its own: `attempt_group` ties the rows, `attempt_no` counts from 1. A deed that
changes the world (create, publish, join, delete) is written twice under one group and number: as an intent before
(`failure` is `intent`, no `received_at`), and as what came of it.

This is the only module that spells column names: `COLUMNS` is the schema of the journal, of Parquet and of frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

DETAIL_BYTES = 4_096
"""Longest `detail`, in bytes of UTF-8 JSON; longer values are cut and the row says so."""

REASON_CHARACTERS = 400

HEARTBEAT_S = 60.0
"""A collector at work writes a row about nothing but itself at least so often (source clock, operation health), so that
quiet can be told from not having looked. See `Vantage.heartbeat`."""


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


_SECRET = re.compile(r"nsec1[a-z0-9]{20,}|eyJ[A-Za-z0-9+/=_.-]{20,}")
"""A secret key (NIP-19), and what every JWT and every NIP-98 token begins with: base64 of `{"`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One row. Every field is a column; see `COLUMNS` for what each means. `reason` is never empty with a failure."""

    observation_id: str
    run_id: str
    trace_id: str = ""
    vantage: str
    role: Role = Role.OBSERVER
    nest: str = ""
    room: str = ""
    source: Source
    target: str
    operation: Operation
    attempt_group: str = ""
    attempt_no: int = 1
    planned_at: int | None = None
    sent_at: int
    received_at: int | None = None
    outcome: Outcome
    status: int | None = None
    failure: Failure | None = None
    failure_layer: FailureLayer | None = None
    reason: str = ""
    remote_at: int | None = None
    remote_grain_s: float | None = None
    timeout_s: float | None = None
    connection_reused: bool | None = None
    cache: str = ""
    loop_lag_s: float | None = None
    clock_offset_s: float | None = None
    clock_error_s: float | None = None
    sync_age_s: float | None = None
    software: str = ""
    detail: str = "{}"

    def __post_init__(self) -> None:
        if self.failure is not None and not self.reason:
            raise ValueError(f"an observation with failure {self.failure} needs a reason")
        reason = self.reason.encode("utf-8", "replace").decode()  # a peer's lone surrogate must not reach a file
        reason = _SECRET.sub("[secret]", reason)  # nor a token it echoes
        if len(reason) > REASON_CHARACTERS:
            reason = reason[: REASON_CHARACTERS - 1] + "…"
        object.__setattr__(self, "reason", reason)
        if "eyJ" in self.detail or "nsec1" in self.detail:
            object.__setattr__(self, "detail", _SECRET.sub("[secret]", self.detail))

    @property
    def layer(self) -> str:
        """The layer this row speaks of, "" when it speaks of none. See `layer_of`."""
        return layer_of(self.source, self.operation, self.target)


_API_LAYERS = {Operation.INFO: "api:info", Operation.JOIN: "api:join", Operation.GUEST: "api:guest"}
_LIVEKIT_LAYERS = {
    Operation.ROOMS: "livekit:room",
    Operation.SIGNAL: "livekit:signal",
    Operation.MEDIA: "livekit:media",
}


def layer_of(source: str, operation: str, target: str) -> str:
    """The layer an attempt speaks of: `relay:<url>`, `api:info`, …, `client`; "" when it speaks of none."""
    match source:
        case Source.RELAY if operation in (Operation.QUERY, Operation.SUBSCRIBE):
            return f"relay:{target}"
        case Source.API:
            return _API_LAYERS.get(Operation(operation), "")
        case Source.LIVEKIT:
            return _LIVEKIT_LAYERS.get(Operation(operation), "")
        case Source.CLIENT:
            return "client"
    return ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name, storage type (`text`, `int`, `real`, `bool`), unit and meaning."""

    name: str
    type: str
    unit: str
    meaning: str
    nullable: bool


_MEANINGS: dict[str, tuple[str, str]] = {
    "observation_id": ("UUIDv7", "unique id of the row"),
    "run_id": ("UUIDv7", "the process run that wrote it"),
    "trace_id": ("UUIDv7", "one nest under observation; empty for rows about no nest"),
    "vantage": ("", "place and clock from which it was observed"),
    "role": ("", "host, joiner, guest or observer"),
    "nest": ("30312:pubkey:d", "address of the nest; empty while unknown"),
    "room": ("", "LiveKit room, the event's d tag; empty while unknown"),
    "source": ("", "relay, api, livekit, webhook, join, client or clock"),
    "target": ("URL", "what was asked"),
    "operation": ("", "what was asked of it"),
    "attempt_group": ("UUIDv7", "ties the attempts at one thing"),
    "attempt_no": ("count from 1", "which attempt of its group"),
    "planned_at": ("ns UTC", "when it was due; null when unplanned"),
    "sent_at": ("ns UTC", "when the question left; for a pushed event its receipt"),
    "received_at": ("ns UTC", "when the answer was whole; null while only intended or when none came"),
    "outcome": ("", "visible, absent, accepted, refused, unknown or probe_error"),
    "status": ("HTTP status", "status of the answer, or websocket close code"),
    "failure": ("", "why it did not bring what was asked; null when it did"),
    "failure_layer": ("", "where on the way it failed"),
    "reason": ("", "the failure in words, never empty with a failure"),
    "remote_at": ("ns UTC", "the other side's own stamp"),
    "remote_grain_s": ("s", "how coarse that stamp is"),
    "timeout_s": ("s", "the effective timeout of the attempt"),
    "connection_reused": ("", "whether an open connection was used"),
    "cache": ("JSON", "Age, X-Cache, Cache-Control, ETag as answered; empty when none"),
    "loop_lag_s": ("s", "greatest lag of our event loop while the attempt ran"),
    "clock_offset_s": ("s", "vantage clock minus reference clock; null when never compared"),
    "clock_error_s": ("s", "half width of that offset"),
    "sync_age_s": ("s", "age of that comparison"),
    "software": ("", "the other side's name and version, when it says so"),
    "detail": ("JSON", f"anything else, at most {DETAIL_BYTES} bytes, never a secret"),
}

_TYPES = {int: "int", float: "real", bool: "bool"}


def _columns() -> tuple[Column, ...]:
    hints = get_type_hints(Observation)
    made = []
    for spec in fields(Observation):
        hint = hints[spec.name]
        nullable = isinstance(hint, UnionType)
        plain = next(arg for arg in get_args(hint) if arg is not type(None)) if nullable else hint
        unit, meaning = _MEANINGS[spec.name]
        made.append(Column(spec.name, _TYPES.get(plain, "text"), unit, meaning, nullable))
    return tuple(made)


COLUMNS: tuple[Column, ...] = _columns()
"""The schema, in order: journal, Parquet and frames all follow it."""

INSTANTS: tuple[str, ...] = tuple(column.name for column in COLUMNS if column.name.endswith("_at"))
"""Columns that hold an instant."""

_ENUMS = {
    "role": Role,
    "source": Source,
    "operation": Operation,
    "outcome": Outcome,
    "failure": Failure,
    "failure_layer": FailureLayer,
}
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
