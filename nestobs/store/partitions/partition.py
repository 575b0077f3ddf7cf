"""A part of a store that can be worked on by itself: whole nests, and whatever befell who observed them.

    windows of time ──read, a batch at a time──> rows of the nests that are its own, and witnesses ──> one frame

Witnesses are rows of whatever nest that tell of the observing machine (a stepped clock, a loop that stood still, a
network that was gone): they mark the intervals of all nests that were watched meanwhile. All that is made of a
partition's rows is made of both, and only what is of its own nests counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from nestobs.observation.schema import Failure, Source
from nestobs.store import parquet
from nestobs.store.parquet import AT, ID
from nestobs.store.partitions.ties import NAMES, Hashes, hashed, hashes_of
from nestobs.store.reader import Store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Flags = npt.NDArray[np.bool_]

WITNESSES: Final = frozenset(
    map(str, (Failure.CLOCK_STEP, Failure.SUSPENDED, Failure.LOOP_BLOCKED, Failure.NO_NETWORK))
)
"""Failures that tell of the observing machine (timeline.MARKS)."""

ASKED: Final = frozenset(map(str, (Source.JOIN, Source.API, Source.LIVEKIT)))
"""What a join consists of. Rows of these that name nothing are of one partition: a join may be among them."""

_NEEDED: Final = (*NAMES, "source", "failure", AT)


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a partition, in order of sending and then of ids, as `Store.frame(categories=True)` gives them. mine:
    which of them are of its own nests; the others are witnesses."""

    rows: pd.DataFrame
    mine: Flags


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """Nests of a store, known by hashes of their names (`ties`); small, and it can be sent anywhere from where the
    store can be opened.

    store: what opens it. number, of: which it is, from 1. rows: how many are its own. windows: [start, end) of sending
    in which they and their witnesses are, ns; the first for its own, the others for witnesses alone; None: without that
    end. names: None for all rows of the first window. nothing: of the rows that name nothing, those of ASKED, and those
    sent in that [start, end).
    """

    store: str
    number: int
    of: int
    rows: int
    windows: tuple[tuple[int | None, int | None], ...] = ((None, None),)
    names: Hashes | None = None
    asked: bool = False
    nothing: tuple[int, int] | None = None

    @property
    def span(self) -> tuple[int, int] | None:
        """From when to when its rows were under way, ns; None: always."""
        start, end = self.windows[0]
        return None if start is None or end is None else (start, end)

    def among(self, names: Iterable[str]) -> Partition:
        """Of its nests those with these names (of traces, addresses, rooms), and its witnesses."""
        return replace(self, names=np.unique(hashes_of(names)), asked=False, nothing=None)

    def read(self, columns: Sequence[str] | None = None) -> Part:
        """Its rows, with these columns, None for all. Raises StoreError."""
        import pyarrow as pa

        store = Store.open(self.store, create=False)
        if self.names is None:
            start, end = self.windows[0]
            rows = store.frame(start=start, end=end, columns=columns, categories=True)
            return Part(rows, np.ones(len(rows), dtype=bool))
        wanted = list(parquet.NAMES) if columns is None else [name for name in parquet.NAMES if name in columns]
        table = self._table(store, _schema({*wanted, *_NEEDED}))
        at = table[AT].to_numpy()
        if not (at[1:] >= at[:-1]).all():
            table = table.combine_chunks().take(pa.array(np.argsort(at, kind="stable")))
        at = table[AT].to_numpy()
        if (at[1:] == at[:-1]).any():  # ids decide, and they take as long to read as all the rest
            table = self._table(store, _schema({*wanted, *_NEEDED, ID}))
            table = parquet.in_order(table.combine_chunks(), lambda: table[ID])
        mine = table["mine"].to_numpy().astype(bool)
        return Part(parquet.frame_of(table, wanted, categories=True), mine)

    def _table(self, store: Store, schema: pa.Schema) -> pa.Table:
        """Its rows and the witnesses, as they come, with a column `mine`."""
        import pyarrow as pa

        whole = schema.append(pa.field("mine", pa.bool_()))
        return pa.Table.from_batches(list(self._batches(store, schema)), whole).unify_dictionaries()

    def _batches(self, store: Store, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for number, (start, end) in enumerate(self.windows):
            for batch in store.scan(schema.names, start, end):
                mine = self._mine(batch) if number == 0 else np.zeros(batch.num_rows, dtype=bool)
                keeps = mine | among_words(batch, "failure", WITNESSES)
                if keeps.any():
                    found = batch.append_column("mine", pa.array(mine))
                    yield found if keeps.all() else found.filter(pa.array(keeps))

    def _mine(self, batch: pa.RecordBatch) -> Flags:
        mine = np.zeros(batch.num_rows, dtype=bool)
        names_nothing = np.ones(batch.num_rows, dtype=bool)
        assert self.names is not None
        for name in NAMES:
            place, hashes = hashed(batch, name)
            mine |= _among(hashes, self.names)[place]
            names_nothing &= (hashes == 0)[place]
        if self.asked or self.nothing is not None:
            asked = among_words(batch, "source", ASKED)
            sent = batch.column(AT).to_numpy()
            start, end = self.nothing or (0, 0)
            mine |= names_nothing & np.where(asked, self.asked, (sent >= start) & (sent < end))
        return mine


def _among(hashes: Hashes, names: Hashes) -> Flags:
    """Which are among these names, that ascend and are many."""
    place = np.searchsorted(names, hashes)
    return np.asarray(np.append(names, np.uint64(0))[place] == hashes) & (place < len(names))


def _schema(names: set[str]) -> pa.Schema:
    """Of the columns of these names, as `Store.scan` gives them."""
    return parquet.schema_of([name for name in parquet.NAMES if name in names], encoded=True)


def among_words(batch: pa.RecordBatch, name: str, words: frozenset[str]) -> Flags:
    """Which rows have one of these words in a dictionary-encoded column; a null is none."""
    column = batch.column(name)
    known = np.array([*(text in words for text in column.dictionary.to_pylist()), False], dtype=bool)
    place = column.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(known[place], dtype=bool)
