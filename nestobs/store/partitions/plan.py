"""A store cut into partitions: one pass over a few columns, then so many nests at a time as their rows allow.

    scan ──> which rows belong together, how many, from when to when  ──> by how long they last, then by time ──> cut

A partition reads the windows of its nests, and so the days they lie in. Nests that last long are put with such as last
as long: else one of them would have each partition read its days.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from nestobs.observation.duration import SECOND_NS
from nestobs.store.parquet import AT
from nestobs.store.partitions.partition import ASKED, WITNESSES, Partition, among_words
from nestobs.store.partitions.ties import NAMES, Ints, Lots, Ties
from nestobs.store.partitions.work import worked
from nestobs.store.reader import Store

if TYPE_CHECKING:
    import pyarrow as pa

PARTITION_ROWS: Final = 1_000_000
"""Rows of a partition, unless one nest has more: some 400 MB while its timelines are made."""

SHORT_S: Final = 900.0
"""Nests that last no longer are put together whatever they last; of the others, each class lasts four times as long."""

_NEAR_NS: Final = 60 * SECOND_NS
"""Witnesses that began so soon after each other are read together."""

Sent: TypeAlias = tuple[int | None, int | None]
"""[start, end) in which rows were sent, ns UTC; None: without that end."""

ALWAYS: Final[Sent] = (None, None)

NEEDED: Final = (*NAMES, "source", "failure", AT, "received_at")


@dataclass(frozen=True, slots=True)
class Plan:
    """The partitions of a store, and how many rows and lots of rows that belong together it has. noted: by whoever was
    shown all rows, one for each part of the pass."""

    partitions: tuple[Partition, ...]
    rows: int
    lots: int
    noted: tuple[Any, ...] = ()


class Note(Protocol):
    """Who is shown the rows of a part of the pass, and then sent back."""

    def see(self, batch: pa.RecordBatch) -> None:
        """The rows of a batch."""

    def end(self) -> None:
        """No more come."""


def plan(
    store: Store,
    *,
    most: int = PARTITION_ROWS,
    columns: tuple[str, ...] = (),
    also: Callable[[], Note] | None = None,
    executor: Executor | None = None,
    progress: Callable[[str], None] = lambda _: None,
    window: Sent = ALWAYS,
) -> Plan:
    """Partitions of at most so many rows, by the time at which their nests begin. A store of no more rows is one,
    and so is nothing.

    also: makes who is shown the batches of a part of the pass, with `columns` beside those of NEEDED; not where there
    is no pass. executor: where the parts of the pass are done, None: here, as one. window: only rows sent in
    [start, end), ns, are there. Raises StoreError, and what `worked` raises.
    """
    count = store.count()
    if count <= most:
        return Plan((Partition(store.location, 1, 1, count, (window,)),), count, 1)
    progress(f"looking for what belongs together, in {count:,} observations")
    passed = list(worked(_Pass(columns, also), _spans(store, window, None if executor is None else most), executor))
    seen, noted = _Seen.joined([each for each, _ in passed]), tuple(note for _, note in passed if note is not None)
    lots, end = seen.ties.lots(), window[1]
    partitions = [*_owned(lots, _cut(lots, most)), *seen.rest(most)]
    if not partitions:
        return Plan((Partition(store.location, 1, 1, 0, (window,)),), 0, 0, noted)
    found = tuple(
        Partition(
            store=store.location,
            number=number,
            of=len(partitions),
            rows=own.rows,
            windows=((own.start, own.end if end is None else min(own.end, end)), *seen.reaching(own.start)),
            names=own.names,
            asked=own.asked,
            nothing=own.nothing,
        )
        for number, own in enumerate(partitions, 1)
    )
    return Plan(found, seen.rows, int((lots.rows > 0).sum()), noted)


def _spans(store: Store, window: Sent, rows: int | None) -> list[Partition]:
    """The rows of a window in parts of about so many that were sent one after the other; None: as one."""
    start, end = window
    inside = [at for at in (store.cuts(rows) if rows else ()) if at > (start or at - 1) and at < (end or at + 1)]
    ends = [*pairwise([start, *inside, end])]
    return [Partition(store.location, number, len(ends), rows or 0, (span,)) for number, span in enumerate(ends, 1)]


@dataclass(frozen=True, slots=True)
class _Pass:
    """What is noted of all rows of a part."""

    columns: tuple[str, ...]
    also: Callable[[], Note] | None

    def __call__(self, part: Partition) -> tuple[_Seen, Note | None]:
        seen, note = _Seen(), None if self.also is None else self.also()
        store = Store.open(part.store, create=False)
        for batch in store.scan([*dict.fromkeys([*NEEDED, *self.columns])], *part.windows[0]):
            seen.see(batch)
            if note is not None:
                note.see(batch)
        if note is not None:
            note.end()
        return _Seen.joined([seen]), note


@dataclass(frozen=True, slots=True)
class _Own:
    """What a partition is to be."""

    start: int
    end: int
    names: npt.NDArray[np.uint64]
    rows: int
    asked: bool = False
    nothing: tuple[int, int] | None = None


@dataclass(slots=True)
class _Seen:
    """What the pass has seen. Of witnesses, and of rows that name nothing, when they were sent and ended."""

    ties: Ties = field(default_factory=Ties)
    rows: int = 0
    _witnesses: list[tuple[Ints, Ints]] = field(default_factory=list)
    _asked: list[tuple[Ints, Ints]] = field(default_factory=list)
    _nothing: list[tuple[Ints, Ints]] = field(default_factory=list)

    def see(self, batch: pa.RecordBatch) -> None:
        """The rows of a batch."""
        sent = batch.column(AT).to_numpy()
        ended = np.maximum(sent, batch.column("received_at").fill_null(np.iinfo(np.int64).min).to_numpy())
        nothing = self.ties.see(batch, sent, ended)
        witness, asked = among_words(batch, "failure", WITNESSES), among_words(batch, "source", ASKED)
        kinds = ((self._witnesses, witness), (self._asked, nothing & asked), (self._nothing, nothing & ~asked))
        for kept, chosen in kinds:
            if chosen.any():
                kept.append((sent[chosen], ended[chosen]))
        self.rows += batch.num_rows

    @classmethod
    def joined(cls, every: Sequence[_Seen]) -> _Seen:
        """What all of them have seen, in as little room."""
        whole = cls(Ties.joined([each.ties for each in every]), sum(each.rows for each in every))
        for each in every:
            whole._witnesses.append(_both(each._witnesses))
            whole._asked.append(_both(each._asked))
            whole._nothing.append(_both(each._nothing))
        return whole

    def reaching(self, start: int) -> list[tuple[int, int]]:
        """Windows of the witnesses that were sent before that and not over by then."""
        sent, ended = _both(self._witnesses)
        reach = np.sort(sent[(sent < start) & (ended >= start)])
        if not len(reach):
            return []
        cuts = np.flatnonzero(np.diff(reach) > _NEAR_NS)
        begun, last = reach[np.append(0, cuts + 1)], reach[np.append(cuts, len(reach) - 1)]
        return [(int(one), min(int(other) + 1, start)) for one, other in zip(begun, last, strict=True)]

    def rest(self, most: int) -> list[_Own]:
        """Partitions of what names nothing: what joins may consist of in one, the other rows by time."""
        none = np.zeros(0, np.uint64)
        found = []
        asked, ended = _both(self._asked)
        if len(asked):
            found.append(_Own(int(asked.min()), int(ended.max()) + 1, none, len(asked), asked=True))
        sent = np.sort(_both(self._nothing)[0])
        at = 0
        while at < len(sent):
            past = int(np.searchsorted(sent, sent[min(at + most, len(sent)) - 1], "right"))
            start, end = int(sent[at]), int(sent[past - 1]) + 1
            found.append(_Own(start, end, none, past - at, nothing=(start, end)))
            at = past
        return found


def _both(kept: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """All that was kept, as one."""
    none = np.zeros(0, np.int64)
    sent, ended = (np.concatenate([none, *(pair[k] for pair in kept)]) for k in (0, 1))
    kept[:] = [(sent, ended)]
    return sent, ended


def _cut(lots: Lots, most: int) -> list[Ints]:
    """The lots of each partition: alike in how long they last, in order of time, of so many rows at most together."""
    there = np.flatnonzero(lots.rows)
    lasted_s = (lots.last[there] - lots.first[there]) / SECOND_NS
    kind = np.ceil(np.log2(np.maximum(lasted_s / SHORT_S, 1.0)) / 2.0)
    there = there[np.lexsort((lots.first[there], kind))]
    kind = np.sort(kind)
    found: list[Ints] = []
    begin, held = 0, 0
    for place, rows in enumerate(lots.rows[there].tolist()):
        if place > begin and (held + rows > most or kind[place] != kind[begin]):
            found.append(there[begin:place])
            begin, held = place, 0
        held += rows
    found += [there[begin:]] if len(there) else []
    return sorted(found, key=lambda chosen: int(lots.first[chosen].min()))


def _owned(lots: Lots, cuts: list[Ints]) -> list[_Own]:
    """Each cut with its names and its window."""
    into = np.full(len(lots.rows) + 1, -1, dtype=np.int64)  # the last is of the name of nothing
    for number, chosen in enumerate(cuts):
        into[chosen] = number
    place = into[lots.of]
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], np.arange(len(cuts) + 1))
    names = [lots.names[order[begin:end]] for begin, end in pairwise(ends.tolist())]
    return [
        _Own(
            int(lots.first[chosen].min()),
            int(lots.last[chosen].max()) + 1,
            mine,
            int(lots.rows[chosen].sum()),
        )
        for chosen, mine in zip(cuts, names, strict=True)
    ]
