"""A store: what was observed and what was made, on disk; one writer, any number of readers, no row lost or doubled.

A store is a folder. `journal.sqlite` takes every row first; UTC days (by the instant of sending), whole or in parts,
later move to `observations/<day>-<row>.parquet`. A row is in the journal or in one sealed file, never in both: the
journal's table `sealed` names the files that count, and one SQLite transaction both enters a file there and deletes its
rows. Readers take that list and the journal's rows from one snapshot, so a crash at any point changes nothing they see;
a file that the table does not name is ignored.

It reads no clock. pandas and pyarrow are imported where they are used.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Final, TypeVar

from nestobs.errors import StoreError, UsageError
from nestobs.observation.schema import Observation, from_row
from nestobs.store import parquet as sealed
from nestobs.store import sql
from nestobs.store.example import EXAMPLE, SHIPPED, folder
from nestobs.store.ledger import Entry, entry_of
from nestobs.store.parquet import AT, ID, NAMES
from nestobs.store.sealing import FOLDER
from nestobs.store.sql import DAY, SealedFile, Window
from nestobs.store.writer import BATCH_ROWS, Writer

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

T = TypeVar("T")

AHEAD_BYTES: Final = 64 * 2**20
"""So much of the journal is held in memory while a store is scanned; more is put aside on the disk."""

_MANY: Final = 4
"""So many sealed files are read side by side, each by one thread; fewer, one column beside the other."""


class Store:
    """A folder of observations and the ledger. Reading locks nobody; each call reads one snapshot and lets go of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: Writer | None = None

    @property
    def directory(self) -> Path:
        """Its folder, absolute."""
        return self._directory

    @classmethod
    def open(cls, directory: Path | str, *, create: bool = True) -> Store:
        """The store in `directory`, made when it is not there and `create` is true. Cheap; holds nothing open.

        `example`, where there is no folder of that name, is the store that comes with nestobs, which is only read. So
        is what stores were shipped to: a URL (`s3://BUCKET/FOLDER`), or a folder.

        Raises StoreError when there is none (`create=False`) or the folder cannot be used, ForeignStoreError when its
        journal is another program's or a newer nestobs', UsageError for what names no folder.
        """
        if (elsewhere := shipped(directory)) is not None:
            return elsewhere
        try:
            store = cls(folder(directory))
            os.access(store.directory, os.F_OK)  # ValueError for a name that no folder can have; pathlib says no then
            is_file = store.directory.exists() and not store.directory.is_dir()
        except TypeError:
            raise UsageError(f"{directory!r} names no store: write the name of its folder, in quotes") from None
        except ValueError:
            raise UsageError(f"{str(directory)!a} names no store: no folder can have that name") from None
        except OSError as error:
            raise sql.explained(error, Path(directory)) from None
        if is_file:
            raise StoreError(f"{store.directory} is a file, not a folder: give --store a folder")
        if create and not (store.directory / sql.JOURNAL).exists():
            sql.make(store.directory)
        with sql.reading(store.directory):
            return store

    @property
    def location(self) -> str:
        """What opens it again, in another process, too; and what it is called: its folder, or a URL."""
        return str(self.directory.resolve())

    # writing

    def writer(self) -> Writer:
        """The one writer, its lock taken. Raises StoreError naming the process that holds the lock, if one does, and
        for the example, which is nobody's to write."""
        if self.directory == SHIPPED:
            raise StoreError(f"{EXAMPLE} is the store that comes with nestobs, and only read: give --store a folder")
        self._writer = Writer(self.directory)
        return self._writer

    def seal(self, *, before: int) -> list[Path]:
        """Move the UTC days that end at or before `before` (ns) from the journal to Parquet; the new files, by day.

        Uses this store's open writer, else takes the lock for the while; a writer seals by itself, too. Rows of a day
        that come after its sealing go to another file of that day at the next sealing. No such day gives []. Raises
        StoreError, StoreFullError.
        """
        if self._writer is not None and self._writer.alive:
            return self._writer.seal(before - before % DAY)
        with self.writer() as writer:
            return writer.seal(before - before % DAY)

    # reading

    def frame(
        self,
        *,
        start: int | None = None,
        end: int | None = None,
        trace_id: str | None = None,
        nest: str | None = None,
        room: str | None = None,
        run_id: str | None = None,
        columns: Sequence[str] | None = None,
        categories: bool = False,
    ) -> pd.DataFrame:
        """The rows sent in [start, end) ns UTC that match, by instant of sending, then by id.

        Columns stand in the order of `COLUMNS` whatever the order asked; instants are int64 or Int64 ns, nullable
        columns have pandas' nullable types, other text is `str`. categories: all text but the ids is categorical,
        which takes a fraction of the time and memory where rows are many. No row gives an empty frame with the same
        columns and types. Raises UsageError for a column there is none of, StoreError for a sealed file that is gone
        or damaged: rows are never left out in silence.
        """
        wanted = _known(columns)
        window = Window(start, end, _equal(trace_id, nest, room, run_id))
        return sealed.frame_of(self._table(window, wanted, encoded=categories), wanted, categories=categories)

    def observations(
        self,
        *,
        start: int | None = None,
        end: int | None = None,
        trace_id: str | None = None,
        nest: str | None = None,
        room: str | None = None,
        run_id: str | None = None,
    ) -> Iterator[Observation]:
        """The rows of `frame`, as values. All are read at the call, so a slow consumer holds no transaction open."""
        table = self._table(Window(start, end, _equal(trace_id, nest, room, run_id)), NAMES)
        return (from_row(row) for batch in table.to_batches(BATCH_ROWS) for row in batch.to_pylist())

    def scan(
        self, columns: Sequence[str] | None = None, start: int | None = None, end: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows that `frame` gives, a batch at a time and in no order: days without any are not opened, columns not
        asked for are not read, and in memory are a few sealed files and AHEAD_BYTES of the journal.

        Text but ids is dictionaries, each batch's its own; columns stand in the order of `COLUMNS`. One snapshot, taken
        at the first batch; a slow consumer holds no transaction open. No row: no batch. Raises UsageError at once,
        StoreError where it finds the damage.
        """
        return self._batches(sealed.schema_of(_known(columns), encoded=True), Window(start, end))

    def _batches(self, schema: pa.Schema, window: Window) -> Iterator[pa.RecordBatch]:
        with SpooledTemporaryFile(AHEAD_BYTES) as aside, ThreadPoolExecutor(os.cpu_count()) as pool:
            with sql.reading(self.directory) as connection:
                files = sql.sealed_files(connection, window)
                pages = sql.rows_in(connection, window, schema.names)
                journal = sealed.put_aside(aside, pages, schema)

            def some(lot: Sequence[SealedFile]) -> Iterator[pa.Table]:
                filters = window.within(min(f.first_at for f in lot), max(f.last_at for f in lot)).conditions()
                tables = sealed.scan_lot(self.directory / FOLDER, schema, filters, lot)
                return chain([next(tables)], tables)  # the first is read by the pool's thread

            for tables in _ahead(pool, some, sealed.lots(files)):
                for table in tables:
                    yield from (batch for batch in table.combine_chunks().to_batches() if batch.num_rows)
            yield from journal

    def tail(self, after: int, limit: int) -> tuple[list[Observation], int]:
        """At most `limit` journal rows written after row number `after`, and the number to go on from.

        Row numbers only grow, over sealing too; rows sealed meanwhile are passed over. Start from 0. Nothing new gives
        ([], after). `passed` tells whether there were such.
        """
        with sql.reading(self.directory) as connection:
            rows = sql.rows_after(connection, after, limit)
            found = [from_row(dict(zip(NAMES, values, strict=True))) for _, *values in rows]
        return found, rows[-1][0] if rows else after

    def passed(self, after: int) -> bool:
        """Whether rows written after row number `after` have been sealed, which `tail` passes over. Ask it after
        `tail`, with the number that was given there."""
        with sql.reading(self.directory) as connection:
            return sql.sealed_past(connection, after)

    def newest(self) -> tuple[int, int | None]:
        """The number to `tail` from for what is not there yet, and when the last row was sent (ns UTC), None when there
        is none."""
        with sql.reading(self.directory) as connection:
            return sql.newest(connection)

    def ends(self) -> tuple[int | None, int | None]:
        """When the first and the last row was sent, ns UTC, None where there is none. No sealed file is read."""
        with sql.reading(self.directory) as connection:
            return sql.ends(connection)

    def count(self) -> int:
        """How many observations there are, sealed or not, less those in files set aside."""
        with sql.reading(self.directory) as connection:
            return sql.count(connection)

    def cuts(self, rows: int) -> list[int]:
        """Instants of sending, ns, ascending, that cut what is sealed into spans of about so many rows."""
        with sql.reading(self.directory) as connection:
            return sealed.cuts_of(sql.sealed_files(connection), rows)

    def digest(self, *, start: int | None = None, end: int | None = None) -> str:
        """SHA-256 in hex over the ids sent in [start, end), sorted as bytes, a newline after each: what a result was
        made from.

        The same before and after sealing and in whatever order rows came. No row gives the hash of nothing.
        """
        return sealed.digest_of(self._table(Window(start, end), [ID], ordered=False)[ID])

    def ledger(self, *, open_only: bool = True) -> list[Entry]:
        """What was made in the world, oldest first; only what is not closed, unless asked for all."""
        with sql.reading(self.directory) as connection:
            return [entry_of(row) for row in sql.entries(connection, open_only=open_only)]

    def _table(self, window: Window, names: Sequence[str], *, encoded: bool = False, ordered: bool = True) -> pa.Table:
        """The rows of the window as Arrow, by instant of sending and then by id if `ordered`; that instant is always
        among the columns. encoded: text as dictionaries, one a column."""
        import pyarrow as pa

        schema = sealed.schema_of(dict.fromkeys([*names, AT]), encoded=encoded)
        whole = sealed.schema_of(dict.fromkeys([*schema.names, ID]), encoded=encoded)
        with sql.reading(self.directory) as connection:
            files = sql.sealed_files(connection, window)
            batches = [sealed.batch_of(rows, whole) for rows in sql.rows_in(connection, window, whole.names)]
        journal = pa.Table.from_batches(batches, whole)
        if ordered:
            journal = sealed.in_order(journal, lambda: journal[ID])

        def read(columns: pa.Schema) -> pa.Table:
            def some(lot: Sequence[SealedFile]) -> pa.Table:
                first, last = min(file.first_at for file in lot), max(file.last_at for file in lot)
                filters = window.within(first, last).conditions()
                return sealed.read_lot(self.directory / FOLDER, columns, filters, lot, threads=len(files) < _MANY)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                tables = pool.map(some, sealed.lots(files))
            return pa.concat_tables([*tables, journal.select(columns.names)]).combine_chunks()

        table = read(schema)
        if not ordered:
            return table
        return sealed.in_order(table, lambda: (table if ID in schema.names else read(sealed.schema_of([ID])))[ID])


def shipped(named: Path | str) -> Store | None:
    """What stores were shipped to, where that is what is named; None for the folder of a store. Raises as `open`."""
    from nestobs.store.shipments.names import FOLDER as SHIPPED_TO
    from nestobs.store.shipments.place import plain_path

    if not isinstance(named, str | Path):
        return None
    path = plain_path(named)
    if path is not None:
        try:
            if (path / sql.JOURNAL).exists() or not (path / SHIPPED_TO).is_dir():
                return None
        except OSError:  # opening it as a store says why
            return None
    from nestobs.store.shipments.reader import Shipments

    return Shipments.at(named)


def _known(columns: Sequence[str] | None) -> list[str]:
    """The names of these columns, in the order of COLUMNS; None: all. Raises UsageError for one there is none of."""
    if unknown := set(columns or ()) - set(NAMES):
        raise UsageError(f"observations have no column {sorted(unknown)[0]!r}: see nestobs.observation.COLUMNS")
    return [name for name in NAMES if columns is None or name in columns]


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Sequence[SealedFile]], T], lots: Sequence[Sequence[SealedFile]]
) -> Iterator[T]:
    """`work` of each lot in order, a few of them ahead of whom takes it."""
    waiting: deque[Future[T]] = deque()
    for lot in lots:
        waiting.append(pool.submit(work, lot))
        if len(waiting) > (os.cpu_count() or 1):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _equal(trace_id: str | None, nest: str | None, room: str | None, run_id: str | None) -> dict[str, str | None]:
    return {"trace_id": trace_id, "nest": nest, "room": room, "run_id": run_id}
