"""Starting, ready or failed: the state of each layer of the newest nests, folded from observations as they come.

A cell is one layer of one nest as one vantage sees it. Its last proof decides, in the order of sending:

    absent, never visible, asked below the message threshold's age     starting   404 means "not yet" to today's client
    absent, never visible, asked at or above it                        failed     "late": to a person it is gone; it may
                                                                                  still come, and is then ready
    visible                                                            ready
    absent, sent after a visible answer had been received              failed     "gone"; visible again: ready again
    refused (401, 403, 429), and nothing proven by a later answer      failed     "refused"
    only answers that prove nothing                                    unknown    "nothing proven"

An absent of a subscription is the relay's silence: it begins a cell, and never ends a visible one. Joins are a cell of
their own: starting from the intent on, ready when in the room, failed by any other verdict ("gone", "api down", ...).
A nest is failed if any cell is, else starting if any is, else unknown if any is, else ready. Where nobody has asked for
`QUIET_S`, a starting cell is told as unknown: whoever stopped asking does not know.

Ages count from the creation that was accepted, else from the publishing, else from the event's created_at, else from
the first row of the nest; by the API's clock, where that of who wrote a row is surely apart from it, and so does the
present: whoever looks is taken to have the clock of the newest row that was compared. That is good enough for a glance;
the timelines have the intervals and their errors.

Memory is bounded whatever is watched: the newest `most` nests are kept, each with at most `MOST_CELLS` cells and short
names; a nest that was let go does not come back. No clock is read: `now` is given.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from nestobs.join.policy import MESSAGE_S
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import APART_S, Offset
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Source
from nestobs.observation.text import shortened

MOST_NESTS: Final = 50
MOST_CELLS: Final = 64
MOST_NAMES: Final = 100
QUIET_S: Final = 60.0
_AHEAD_S: Final = 60
LONGEST_NAME: Final = 200
_REMEMBERED: Final = 100
"""So many times `most` nests that were let go are remembered by a hash."""


class State(StrEnum):
    """How far a layer, a join or a nest is."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    UNKNOWN = "unknown"


_WORST: Final = (State.FAILED, State.STARTING, State.UNKNOWN, State.READY)
JOIN: Final = "join"
"""The layer of real joins."""


@dataclass(frozen=True, slots=True)
class Change:
    """A cell that is in another state, or has another reason for it. at: ns UTC; age_s: of the nest then."""

    at: int
    nest: str
    room: str
    layer: str
    vantage: str
    was: State | None
    state: State
    why: str
    age_s: float
    message: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON data; `at` in seconds."""
        facts = asdict(self) | {"at": self.at / SECOND_NS, "age_s": round(self.age_s, 3)}
        return facts if self.message else {name: value for name, value in facts.items() if name != "message"}


@dataclass(frozen=True, slots=True)
class Lane:
    """One layer of one nest over all vantages. ready of seen: how many vantages have it, of those that asked."""

    layer: str
    state: State
    why: str
    ready: int
    seen: int


@dataclass(frozen=True, slots=True)
class Row:
    """One nest of a view. age_s: now; asked_s: seconds since anything was asked of it. message: what a joiner was last
    shown, at which age; "" when none joined."""

    nest: str
    room: str
    state: State
    age_s: float
    asked_s: float
    lanes: tuple[Lane, ...]
    message: str
    message_age_s: float


@dataclass(frozen=True, slots=True)
class View:
    """The board at an instant. rows: newest nest first. let_go: nests no longer kept. newest_at: the newest row's
    sending, ns UTC, None while there is none. clock: by how much ages are not by the clock of who looks, in words; ""
    where they are."""

    rows: tuple[Row, ...]
    counts: dict[State, int]
    folded: int
    let_go: int
    newest_at: int | None
    clock: str = ""


@dataclass(slots=True)
class _Cell:
    """What is known of one layer from one vantage. Instants are ns of the vantage's own clock, -1 for never."""

    state: State = State.UNKNOWN
    why: str = "nothing proven"
    visible_sent: int = -1
    visible_received: int = -1
    proof_sent: int = -1
    asked_at: int = -1


@dataclass(slots=True)
class _Nest:
    key: str
    nest: str = ""
    room: str = ""
    origin: int = 0
    rank: int = 9
    asked_at: int = 0
    cells: dict[tuple[str, str], _Cell] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    message: str = ""
    message_at: int = 0
    verdict_at: int = -1

    @property
    def known(self) -> bool:
        """Whether it is a nest by what nestobs.timeline.nests says one is."""
        return bool(self.nest or (self.room and any(name[0] == "t" for name in self.names)))


class Board:
    """The newest nests and the states of their layers. `fold` takes rows in, `view` tells how it stands."""

    def __init__(self, *, most: int = MOST_NESTS, message_s: float = MESSAGE_S) -> None:
        self._most = max(1, most)
        self._message_ns = round(message_s * SECOND_NS)
        self._nests: dict[str, _Nest] = {}
        self._by: dict[str, _Nest] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._let_go = 0
        self._folded = 0
        self._newest: int | None = None
        self._compared: tuple[int, Offset] | None = None

    # folding

    def fold(self, rows: Iterable[Observation]) -> list[Change]:
        """Take rows in, in any order, a row twice or once alike; what changed by them."""
        changes: list[Change] = []
        for row in rows:
            self._folded += 1
            self._newest = row.sent_at if self._newest is None else max(self._newest, row.sent_at)
            if row.clock_offset_s is not None and (self._compared is None or row.sent_at >= self._compared[0]):
                self._compared = row.sent_at, _offset(row)
            nest = self._nest_of(row)
            if nest is not None:
                changes += self._taken(nest, row)
        return changes

    def _taken(self, nest: _Nest, row: Observation) -> Iterator[Change]:
        at = _shared(row)
        nest.asked_at = max(nest.asked_at, at)
        joins = row.source is Source.JOIN and row.operation is Operation.VERDICT
        layer = JOIN if joins else "" if row.failure is Failure.INTENT else _short(row.layer)
        cell = self._cell(nest, layer, _short(row.vantage)) if layer else None
        if cell is not None:
            was, why = (cell.state, cell.why) if cell.asked_at >= 0 else (None, "")
            (self._joined if joins else self._judge)(nest, cell, row, at)
            if (was, why) != (cell.state, cell.why):
                yield _change(nest, row, layer, was, cell)

    def _judge(self, nest: _Nest, cell: _Cell, row: Observation, at: int) -> None:
        """Let a row move its cell. A proof that was sent before the last one is old news."""
        cell.asked_at = max(cell.asked_at, row.sent_at)
        if row.outcome is Outcome.VISIBLE and row.received_at is not None:
            first = row.received_at if cell.visible_received < 0 else min(cell.visible_received, row.received_at)
            cell.visible_received, cell.visible_sent = first, max(cell.visible_sent, row.sent_at)
            if row.sent_at >= cell.proof_sent:
                cell.proof_sent, cell.state, cell.why = row.sent_at, State.READY, ""
            elif cell.state is State.STARTING or cell.why == "late":  # it comes late: a later absent was known before
                over = cell.proof_sent >= row.received_at and row.operation is not Operation.SUBSCRIBE
                cell.state, cell.why = (State.FAILED, "gone") if over else (State.READY, "")
        elif row.sent_at < cell.proof_sent or row.received_at is None:
            return
        elif row.outcome is Outcome.ABSENT and cell.visible_sent < 0:
            late = at - nest.origin >= self._message_ns
            cell.proof_sent = row.sent_at
            cell.state, cell.why = (State.FAILED, "late") if late else (State.STARTING, "")
        elif row.outcome is Outcome.ABSENT and row.operation is not Operation.SUBSCRIBE:
            if row.sent_at >= cell.visible_received and row.sent_at >= cell.visible_sent:
                cell.proof_sent, cell.state, cell.why = row.sent_at, State.FAILED, "gone"
        elif row.outcome is Outcome.REFUSED:
            cell.proof_sent, cell.state, cell.why = row.sent_at, State.FAILED, _refused(row)

    def _joined(self, nest: _Nest, cell: _Cell, row: Observation, at: int) -> None:
        """Let a join that begins or has ended move its cell. The one that arrived last tells."""
        begins = row.failure is Failure.INTENT
        if row.sent_at < cell.proof_sent or (begins and row.sent_at == cell.proof_sent):
            return  # folded again: what came of it is known
        cell.asked_at = cell.proof_sent = row.sent_at
        facts = {} if begins else facts_of(row.detail)
        kind = str(facts.get("verdict", "")).replace("_", " ")
        if begins:
            cell.state, cell.why = State.STARTING, "under way"
        elif row.outcome is Outcome.VISIBLE:
            cell.state, cell.why = State.READY, _short(kind, 40)
        else:
            cell.state, cell.why = State.FAILED, _short(kind, 40) or "not joined"
        if not begins and row.sent_at >= nest.verdict_at:
            nest.verdict_at = row.sent_at
            nest.message_at = at + (row.received_at or row.sent_at) - row.sent_at
            nest.message = _short(str(facts.get("message", ""))) or ("in the room" if cell.state is State.READY else "")

    def _cell(self, nest: _Nest, layer: str, vantage: str) -> _Cell | None:
        """The cell, made where there is room for one more; None where there is none."""
        if (layer, vantage) not in nest.cells:
            if len(nest.cells) >= MOST_CELLS:
                return None
            nest.cells[layer, vantage] = _Cell()
        return nest.cells[layer, vantage]

    def _date(self, nest: _Nest, row: Observation, at: int) -> None:
        """Let a row say when the nest was made, if it knows better than those before: the least of the best kind."""
        rank, when = 3, at
        if row.failure is not Failure.INTENT:
            if row.operation is Operation.CREATE and row.outcome is Outcome.ACCEPTED:
                rank = 0
            elif row.operation is Operation.PUBLISH and row.outcome is not Outcome.PROBE_ERROR:
                rank = 1
            elif row.source is Source.RELAY and row.outcome is Outcome.VISIBLE and nest.rank >= 2:
                rank, when = _created(row.detail, at)
        nest.rank, nest.origin = min((nest.rank, nest.origin), (rank, when))

    # nests

    def _nest_of(self, row: Observation) -> _Nest | None:
        """The nest that a row is about; None for none, and for one that was let go."""
        keys = [_key(kind, name) for kind, name in (("n", row.nest), ("t", row.trace_id), ("r", row.room)) if name]
        sure = [key for key in keys if key[0] != "r"] or keys  # a room's name can be another nest's too
        if not keys or any(key in self._gone for key in sure):
            return None
        address = _short(row.nest)
        found = {id(nest): nest for key in keys if (nest := self._by.get(key)) is not None}
        known = [nest for nest in found.values() if not (address and nest.nest and nest.nest != address)]
        nest = known[0] if known else self._made(keys[0])
        for other in known[1:]:
            if not (nest.nest and other.nest and nest.nest != other.nest):
                self._unite(nest, other)
        nest.nest, nest.room = nest.nest or address, nest.room or _short(row.room)
        for key in keys:
            if len(nest.names) < MOST_NAMES and self._by.setdefault(key, nest) is nest:
                nest.names.add(key)
        self._date(nest, row, _shared(row))
        self._trim()
        return nest if nest.key in self._nests else None

    def _made(self, key: str) -> _Nest:
        while key in self._nests:  # an address of another nest in the same room
            key += "'"
        nest = self._nests[key] = _Nest(key)
        return nest

    def _unite(self, nest: _Nest, other: _Nest) -> None:
        """Two that turn out to be one: its trace was known, and its address."""
        for key, cell in other.cells.items():
            mine = nest.cells.get(key)
            if mine is None or mine.proof_sent < cell.proof_sent:
                nest.cells[key] = cell
        nest.rank, nest.origin = min((nest.rank, nest.origin), (other.rank, other.origin))
        if other.verdict_at > nest.verdict_at:
            nest.message, nest.message_at, nest.verdict_at = other.message, other.message_at, other.verdict_at
        nest.nest, nest.room = nest.nest or other.nest, nest.room or other.room
        nest.asked_at = max(nest.asked_at, other.asked_at)
        for name in other.names:
            self._by[name] = nest
        nest.names |= other.names
        del self._nests[other.key]

    def _trim(self) -> None:
        """Let the oldest nests go, and all but the newest names of the others."""
        while len(self._nests) > self._most:
            oldest = min(self._nests.values(), key=lambda nest: (nest.origin, nest.key))
            del self._nests[oldest.key]
            self._let_go += 1
            for name in oldest.names:
                del self._by[name]
                if name[0] != "r" or not oldest.nest:
                    self._gone[name] = None
        while len(self._gone) > _REMEMBERED * self._most:
            self._gone.popitem(last=False)

    # telling

    def view(self, now: int) -> View:
        """How it stands at `now`, ns UTC, by the clock of who looks."""
        apart = None if self._compared is None or not _surely_apart(self._compared[1]) else self._compared[1]
        shared = now if apart is None else now - round(apart.offset_s * SECOND_NS)
        rows = [self._row(nest, now, shared) for nest in self._nests.values() if nest.known]
        rows.sort(key=lambda row: (row.age_s, row.nest, row.room))
        counts = {state: sum(row.state is state for row in rows) for state in State}
        clock = "" if apart is None else f"ages are by the API's clock: this one is {apart.words}"
        view = View(tuple(rows), counts, self._folded, self._let_go, self._newest)
        return replace(view, clock=clock)

    def _row(self, nest: _Nest, now: int, shared: int) -> Row:
        lanes: dict[str, list[Lane]] = {}
        for (layer, _), cell in nest.cells.items():
            quiet = cell.state is State.STARTING and now - cell.asked_at > QUIET_S * SECOND_NS
            state, why = (State.UNKNOWN, "nothing since") if quiet else (cell.state, cell.why)
            lanes.setdefault(layer, []).append(Lane(layer, state, why, ready=state is State.READY, seen=1))
        made = tuple(_worst(layer, lanes[layer]) for layer in sorted(lanes, key=_order))
        state = min((lane.state for lane in made), key=_WORST.index, default=State.UNKNOWN)
        return Row(
            nest=nest.nest,
            room=nest.room,
            state=state,
            age_s=(shared - nest.origin) / SECOND_NS,
            asked_s=(shared - nest.asked_at) / SECOND_NS,
            lanes=made,
            message=nest.message,
            message_age_s=(nest.message_at - nest.origin) / SECOND_NS,
        )


def _worst(name: str, lanes: list[Lane]) -> Lane:
    """Several lanes as one, the worst of them telling, of equals the first."""
    told = min(lanes, key=lambda lane: _WORST.index(lane.state))
    ready, seen = sum(lane.ready for lane in lanes), sum(lane.seen for lane in lanes)
    return Lane(name, told.state, told.why, ready, seen)


_ORDER: Final = ("relay:", "client", "api:info", "api:join", "api:guest", "livekit:", JOIN)


def _order(layer: str) -> tuple[int, str]:
    places = [place for place, start in enumerate(_ORDER) if layer.startswith(start)]
    return (places[0] if places else len(_ORDER), layer)


def _change(nest: _Nest, row: Observation, layer: str, was: State | None, cell: _Cell) -> Change:
    return Change(
        at=row.received_at or row.sent_at,
        nest=nest.nest,
        room=nest.room,
        layer=layer,
        vantage=_short(row.vantage),
        was=was,
        state=cell.state,
        why=cell.why,
        age_s=(_shared(row) - nest.origin) / SECOND_NS,
        message=nest.message if layer == JOIN and cell.state is not State.STARTING else "",
    )


def _key(kind: str, name: str) -> str:
    """A short key, however long the name is that a stranger gave."""
    if len(name) <= LONGEST_NAME:
        return kind + name
    return kind + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _short(text: str, limit: int = LONGEST_NAME) -> str:
    return shortened(text, limit)


def _shared(row: Observation) -> int:
    """The sending on the reference clock, where the row's own clock is surely apart from that; else as it is: a board
    tells whole seconds, and rows of one clock know its offset each a little better than the one before."""
    offset = _offset(row)
    return row.sent_at - round(offset.offset_s * SECOND_NS) if _surely_apart(offset) else row.sent_at


def _offset(row: Observation) -> Offset:
    return Offset(row.clock_offset_s or 0.0, row.clock_error_s or 0.0, row.sync_age_s or 0.0)


def _surely_apart(offset: Offset) -> bool:
    return abs(offset.least_off_s) > APART_S


def _refused(row: Observation) -> str:
    return f"refused {row.status}" if row.status else "refused"


def _created(detail: str, at: int) -> tuple[int, int]:
    """The rank and instant of an event's created_at; those of a mere row, where it has none that can be (a stranger's
    date in the future would keep its nest on the board for ever)."""
    facts = facts_of(detail)
    stamps = [facts.get(name) for name in ("created_at", "first_created_at")]
    known = [stamp * SECOND_NS for stamp in stamps if type(stamp) is int and 0 < stamp < 2**33]
    return (2, min(known)) if known and min(known) <= at + _AHEAD_S * SECOND_NS else (3, at)


# for figures and tables

KINDS: Final = ("relays", "client", "info", "join", "guest", "rooms", "signal", "media", "joiners")
"""What `kind_of` makes of layers, in the order in which a nest passes through them."""

_KINDS: Final = {
    "api:info": "info",
    "api:join": "join",
    "api:guest": "guest",
    "livekit:room": "rooms",
    "livekit:signal": "signal",
    "livekit:media": "media",
    JOIN: "joiners",
}


def kind_of(layer: str) -> str:
    """A layer's short name; all relays have one."""
    return "relays" if layer.startswith("relay:") else _KINDS.get(layer, layer)


def by_kind(row: Row) -> dict[str, Lane]:
    """The nest's lanes by kind, in the order of KINDS; several relays are one lane, the worst of them telling."""
    found: dict[str, list[Lane]] = {}
    for lane in row.lanes:
        found.setdefault(kind_of(lane.layer), []).append(lane)
    return {kind: _worst(kind, found[kind]) for kind in KINDS if kind in found}


def span(seconds: float) -> str:
    """A length of time, short: 0.4 s, 12 s, 5 min, 3 h, 40 d."""
    if seconds < 0:
        return f"-{span(-seconds)}"
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
