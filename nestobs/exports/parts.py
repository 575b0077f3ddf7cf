"""What is made of a store that may be larger than memory, or is worked on elsewhere: part by part, each whole nests.

    store ──one pass──> partitions, and what crosses nests (Elsewhere) ──executor──> a result of each, in order

Each task is a value that is called with a partition: it reads its rows, makes of them what is made of a whole store,
and keeps what is of the partition's own nests. So that all of it together is what the whole store gives, to the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np
import pandas as pd

from nestobs.diagnosis.diagnose import TELLING, doubted, with_standing
from nestobs.observation.arrays import Flags, Floats, Ints
from nestobs.observation.columns import codes_of, observations_of, paired
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Outcome
from nestobs.store.parquet import AT, ID, NAMES, frame_of, in_order, schema_of
from nestobs.store.partitions import (
    ALWAYS,
    PARTITION_ROWS,
    Part,
    Partition,
    Sent,
    among_words,
    opened,
    plan,
    worked,
)
from nestobs.store.reader import Store
from nestobs.timeline import intervals
from nestobs.timeline import joins as real
from nestobs.timeline.delays import among, asked_of, round_trips
from nestobs.timeline.failures import Counted, counted
from nestobs.timeline.intervals import Elsewhere, compared, down
from nestobs.timeline.intervals.compared import Compared
from nestobs.timeline.intervals.down import Answers, Down
from nestobs.timeline.intervals.elsewhere import NEEDED
from nestobs.timeline.intervals.elsewhere import elsewhere as all_elsewhere
from nestobs.timeline.intervals.polls import clocks

if TYPE_CHECKING:
    import pyarrow as pa

T_co = TypeVar("T_co", covariant=True)
Window = tuple[pd.Timestamp, pd.Timestamp]


class Task(Protocol[T_co]):
    """What is made of a partition. elsewhere: what the whole store tells; None: the partition is it."""

    def __call__(self, partition: Partition, *, elsewhere: Elsewhere | None) -> T_co:
        """The result."""


def mapped(
    store: Store,
    task: Task[T_co],
    engine: Executor | str | None = None,
    progress: Callable[[str], None] = lambda _: None,
    *,
    most: int = PARTITION_ROWS,
    sent: Sent = ALWAYS,
) -> Iterator[T_co]:
    """The task's result of each partition of at most `most` rows, in order of time; at least one. engine: as
    `engine.opened` takes it. sent: only rows sent in [start, end), ns, are there. Raises StoreError, and what `opened`
    and `worked` raise."""
    with opened(engine) as executor:
        found = plan(
            store, most=most, columns=NEEDED, also=_Elsewhere, executor=executor, progress=progress, window=sent
        )
        told = _Elsewhere.joined(found.noted).told(store, sent, executor)
        yield from worked(_Bound(task, told), found.partitions, executor, progress)


@dataclass(frozen=True, slots=True, repr=False)
class _Bound:
    """A task, and what crosses nests. Dask names a task by what it looks like: all of that takes longer than to send
    it."""

    task: Task[Any]
    elsewhere: Elsewhere

    def __call__(self, partition: Partition) -> Any:
        span = None if partition.names is None else partition.span
        return self.task(partition, elsewhere=None if span is None else self.elsewhere.within(*span))


@dataclass(frozen=True, slots=True)
class Timelines:
    """The timelines of nests made in a window, None for all."""

    window: Window | None = None

    def __call__(self, partition: Partition, *, elsewhere: Elsewhere | None) -> pd.DataFrame:
        """As intervals.timelines gives them."""
        part = partition.read(intervals.NEEDED)
        return among(lines_of(part, elsewhere), window=self.window).reset_index(drop=True)


@dataclass(frozen=True, slots=True)
class Joins:
    """The real joins."""

    def __call__(self, partition: Partition, *, elsewhere: Elsewhere | None) -> pd.DataFrame:
        """As joins.joins gives them."""
        part = partition.read(real.NEEDED)
        rows = part.rows if part.mine.all() else part.rows[part.mine]
        return real.joins(rows, intervals.timelines(part.rows, elsewhere=elsewhere), elsewhere=elsewhere)


@dataclass(frozen=True, slots=True)
class Seen:
    """What tuning takes of a store; parts add up. trips: ns, as delays.round_trips; asked: as delays.asked_of."""

    timelines: pd.DataFrame
    trips: Floats
    counted: Counted
    asked: dict[tuple[str, str], int]

    @classmethod
    def joined(cls, parts: Iterable[Seen]) -> Seen:
        """All of them together; at least one."""
        every = list(parts)
        asked: dict[tuple[str, str], int] = {}
        for part in every:
            for pair, at in part.asked.items():
                asked[pair] = min(at, asked.get(pair, at))
        return cls(
            together([part.timelines for part in every], intervals.ORDER),
            np.concatenate([part.trips for part in every]),
            sum((part.counted for part in every), Counted()),
            asked,
        )


@dataclass(frozen=True, slots=True)
class ToTune:
    """The timelines of nests made in the window (None: ever) and asked for at these hosts (none: any), with what
    standing faults kept shut; and of requests there what failed. sent: of those sent in that window (None: ever)."""

    window: Window | None = None
    host: str | Collection[str] = ()
    sent: Window | None = None

    def __call__(self, partition: Partition, *, elsewhere: Elsewhere | None) -> Seen:
        """What a partition tells."""
        part = partition.read([*real.NEEDED, "software", *TELLING])
        lines = among(lines_of(part, elsewhere), window=self.window, host=self.host)
        lines = judged(lines, part, partition, elsewhere)
        rows, mine = part.rows, part.mine
        if self.sent is not None:
            start, end = (instant.value for instant in self.sent)
            inside = rows["sent_at"].between(start, end, inclusive="left").to_numpy(bool)
            rows, mine = rows[inside], mine[inside]
        return Seen(
            lines.reset_index(drop=True),
            round_trips(part.rows, self.host, part.mine),
            counted(rows, self.host, mine),
            asked_of(rows, self.host, mine),
        )


def judged(lines: pd.DataFrame, part: Part, partition: Partition, elsewhere: Elsewhere | None) -> pd.DataFrame:
    """Timelines of a partition with what standing faults kept shut. part: columns TELLING among them; of the nests that
    may be such all columns are read."""
    names = doubted(lines, part.rows)
    told = all_elsewhere(part.rows) if names and elsewhere is None else elsewhere
    return with_standing(lines, partition.among(names).read().rows if names else part.rows.iloc[:0], told)


def lines_of(part: Part, elsewhere: Elsewhere | None) -> pd.DataFrame:
    """The timelines of a partition's own nests."""
    lines = intervals.timelines(part.rows, elsewhere=elsewhere)
    if part.mine.all():
        return lines
    own = part.rows[part.mine]
    traces, nests = (set(own[name].astype("str").unique()) - {""} for name in ("trace_id", "nest"))
    traced = lines["trace_id"] != ""
    keeps = lines["trace_id"].isin(traces).where(traced, lines["nest"].isin(nests))
    return lines[keeps].reset_index(drop=True)


def together(parts: Sequence[pd.DataFrame], order: list[str]) -> pd.DataFrame:
    """The rows of all parts, in that order; at least one part."""
    if len(parts) == 1:
        return parts[0]
    every = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return every.sort_values(order, ignore_index=True, kind="stable")


def surest_clocks(store: Store) -> pd.DataFrame:
    """Rows of which `intervals.clock_words` says what it says of the whole store. Raises StoreError."""
    found = [observations_of([])[list(intervals.COMPARED)]]
    for rows in _frames(store.scan(intervals.COMPARED), intervals.COMPARED):
        found = [intervals.surest(pd.concat([*found, _plain(intervals.surest(rows))], ignore_index=True))]
    return found[0]


def rows_of(store: Store, columns: Sequence[str], among: Mapping[str, Collection[str]], sent: Sent) -> pd.DataFrame:
    """The rows sent in [start, end), ns, that have one of these texts in one of these columns, as Store.frame gives
    them; the others are passed by. columns: with the id and those asked for. Raises StoreError."""
    import pyarrow as pa

    words = {name: frozenset(texts) for name, texts in among.items()}
    found = []
    for batch in store.scan(columns, *sent):
        chosen = np.any([among_words(batch, name, texts) for name, texts in words.items()], axis=0)
        found += [batch.filter(pa.array(chosen))] if chosen.any() else []
    names = [name for name in NAMES if name in columns]
    table = pa.Table.from_batches(found, schema_of(names, encoded=True)).unify_dictionaries().combine_chunks()
    return frame_of(in_order(table, lambda: table[ID]), names, categories=True)


# what crosses nests

_LOT_ROWS: Final = 200_000
"""So many rows are kept until they are looked at together: to look at a batch costs more than its rows do."""

_LOT_BATCHES: Final = 500
"""And of so many batches: each keeps its dictionaries."""

_NEAR_NS: Final = 600 * SECOND_NS
_LONGEST_NS: Final = 3_600 * SECOND_NS
_ANSWERED: Final = tuple(name for name in down.NEEDED if name not in {"run_id", "vantage"})
_WHO: Final = ("vantage", "run_id", "source", "target", "outcome")


def _frames(batches: Iterable[pa.RecordBatch], names: Sequence[str]) -> Iterator[pd.DataFrame]:
    """The rows of batches, which have these columns, as Store.frame gives them: many batches at a time."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    for batch in chain(batches, [None]):
        if batch is not None:
            held.append(batch)
        if held and (batch is None or sum(each.num_rows for each in held) >= _LOT_ROWS):
            yield frame_of(pa.Table.from_batches(held).unify_dictionaries().combine_chunks(), names, categories=True)
            held = []


@dataclass(slots=True)
class _Lot:
    """Batches that wait until they are many. names: their columns; look: is shown what came of them."""

    names: Sequence[str]
    look: Callable[[pd.DataFrame], None]
    held: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0

    def add(self, batch: pa.RecordBatch, chosen: Ints) -> None:
        """Those rows of a batch, by their places."""
        import pyarrow as pa

        self.held.append(batch.select(list(self.names)).take(pa.array(chosen)))
        self.rows += self.held[-1].num_rows
        if self.rows >= _LOT_ROWS or len(self.held) >= _LOT_BATCHES:
            self.end()

    def end(self) -> None:
        """No more come."""
        for frame in _frames(self.held, self.names):
            self.look(frame)
        self.held, self.rows = [], 0


@dataclass(slots=True)
class _LiveKit:
    """What a pass over a store keeps, of whatever nests, to tell when LiveKit could not be reached: each failure to
    reach one, and once who asked which (as a row that tells no more), who was answered, and who asked which API for a
    token."""

    failures: list[pd.DataFrame] = field(default_factory=list)
    known: list[pd.DataFrame] = field(default_factory=list)
    seen: set[tuple[str, str, str, int]] = field(default_factory=set)
    longest: int = 0

    def see(self, batch: pa.RecordBatch) -> Flags:
        """Take note of how long answers took; which rows tell more: failures, and of each clock one that it asked of
        whom, by what came of it."""
        has = partial(among_words, batch)
        reached, token = down.reached(has), down.tokens(has)
        asked = np.flatnonzero(token | down.asked_livekit(has))
        tells = down.unreached(has)
        if not len(asked):
            return tells
        sent, received = _instants(batch)
        self.longest = max(self.longest, int((received - sent)[reached].max(initial=0)))
        place = np.select([token, reached], [0, 1], 2)[asked]
        for name in ("vantage", "run_id", "target"):
            place = paired(place, batch.column(name).indices.to_numpy()[asked])
        tells[asked[np.unique(place, return_index=True)[1]]] = True
        return tells

    def keep(self, frame: pd.DataFrame) -> None:
        """Rows that tell more."""
        has = down.words_of(frame)
        failed, reached = down.unreached(has), down.reached(has)
        if failed.any():
            self.failures.append(_plain(frame[failed]))
        kind = np.select([down.tokens(has), reached], [0, 1], 2)
        place = paired(paired(clocks(frame), codes_of(frame["target"])[0]), kind)
        _, first = np.unique(place, return_index=True)
        once = _plain(frame.iloc[first])
        once["outcome"] = once["outcome"].where(kind[first] < 2, str(Outcome.PROBE_ERROR))
        keys = [*zip(once["vantage"], once["run_id"], once["target"], kind[first].tolist(), strict=True)]
        fresh = [key not in self.seen for key in keys]
        if any(fresh):
            self.seen |= set(keys)
            self.known.append(once[fresh])

    def take(self, other: _LiveKit) -> None:
        """What another has seen."""
        self.failures += other.failures
        self.known += other.known
        self.seen |= other.seen
        self.longest = max(self.longest, other.longest)

    def down(self, store: Store, window: Sent, executor: Executor | None) -> Down:
        """When it could not be. Answers near the failures are read again, of those sent in the window, ns."""
        if not self.failures:
            return {}
        failed = pd.concat(self.failures, ignore_index=True).sort_values("sent_at", ignore_index=True)
        known = pd.concat(self.known, ignore_index=True).drop_duplicates([*_WHO])
        sent = failed["sent_at"].to_numpy(np.int64)
        ended = np.maximum(sent, failed["received_at"].fillna(0).to_numpy(np.int64))
        reach = round(down.DOWN_S * SECOND_NS) + self.longest + 1
        turns = np.flatnonzero((np.diff(sent) > _NEAR_NS) | (np.diff(sent // _LONGEST_NS) > 0)) + 1
        near = []
        for number, place in enumerate(np.split(np.arange(len(sent)), turns), 1):
            span = _cut((int(sent[place[0]]) - reach, int(ended[place].max()) + reach), window)
            tells = (known, failed.iloc[place])
            near.append(_Near(store.location, number, len(turns) + 1, len(place), (span,), tells=tells))
        return down.joined(worked(_Near.down, near, executor))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Near(Partition):
    """The rows near some failures to reach LiveKit. tells: who asked, and these failures."""

    tells: tuple[pd.DataFrame, ...]

    def down(self) -> Down:
        """When it could not be reached."""
        store = Store.open(self.store, create=False)
        (start, end), *_ = self.windows
        return down.down(pd.concat(self.tells), _answers(store, start, end))


@dataclass(slots=True)
class _Elsewhere:
    """What a pass over a store keeps of it."""

    livekit: _LiveKit = field(default_factory=_LiveKit)
    compared: list[Compared] = field(default_factory=list)
    _asked: _Lot = field(init=False)
    _told: _Lot = field(init=False)

    def __post_init__(self) -> None:
        self._asked = _Lot(down.NEEDED, self.livekit.keep)
        self._told = _Lot(compared.NEEDED, self._compare)

    def see(self, batch: pa.RecordBatch) -> None:
        """The rows of a batch."""
        if len(asked := np.flatnonzero(self.livekit.see(batch))):
            self._asked.add(batch, asked)
        known = np.flatnonzero(batch.column("clock_offset_s").is_valid())
        if len(known):
            run, sent = batch.column("run_id").indices.to_numpy()[known], batch.column(AT).to_numpy()[known]
            self._told.add(batch, known[compared.telling(run, sent)])

    def _compare(self, rows: pd.DataFrame) -> None:
        self.compared = [compared.joined([*self.compared, compared.compared(rows)])]

    def end(self) -> None:
        """No more come."""
        self._asked.end()
        self._told.end()

    @classmethod
    def joined(cls, every: Iterable[_Elsewhere]) -> _Elsewhere:
        """What all of them have kept."""
        whole = cls()
        for each in every:
            whole.livekit.take(each.livekit)
            whole.compared += each.compared
        return whole

    def told(self, store: Store, window: Sent, executor: Executor | None) -> Elsewhere:
        """All of it. window: in which the rows that were seen were sent."""
        return Elsewhere(self.livekit.down(store, window, executor), compared.joined(self.compared))


def _answers(store: Store, start: int | None, end: int | None) -> Answers:
    """Of the rows sent in [start, end) those with which LiveKit was reached."""
    found: dict[str, list[tuple[Ints, Ints]]] = {}
    for batch in store.scan(_ANSWERED, start, end):
        reached = np.flatnonzero(down.reached(partial(among_words, batch)))
        if not len(reached):
            continue
        (sent, received), target = _instants(batch), batch.column("target")
        of, names = target.indices.to_numpy()[reached], target.dictionary
        for place in np.unique(of).tolist():
            mine = reached[of == place]
            found.setdefault(names[place].as_py(), []).append((sent[mine], received[mine]))
    ends = {name: zip(*lots, strict=True) for name, lots in found.items()}
    return {name: (np.concatenate(sent), np.concatenate(received)) for name, (sent, received) in ends.items()}


def _instants(batch: pa.RecordBatch) -> tuple[Ints, Ints]:
    """When each row was sent, and when its answer was there, ns; where none came the same."""
    sent, received = batch.column(AT).to_numpy(), batch.column("received_at")
    return sent, np.where(received.is_valid(), received.fill_null(0), sent)


def _cut(span: tuple[int, int], window: Sent) -> tuple[int, int]:
    """What of a span is in a window."""
    (start, end), (first, past) = span, window
    return start if first is None else max(start, first), end if past is None else min(end, past)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """With text as such: categories of several batches are not alike."""
    return frame.astype({name: "str" for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)})
