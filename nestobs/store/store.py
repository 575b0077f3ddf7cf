"""What was observed and what was made, on disk: one writer, any number of readers, no row lost or doubled.

A store is a folder. `journal.sqlite` takes every row first; whole UTC days (by the instant of sending) later move to
`observations/<day>-<row>.parquet`. A row is in the journal or in one sealed file, never in both: the journal's table
`sealed` names the files that count, and one SQLite transaction both enters a file there and deletes its rows. Readers
take that list and the journal's rows from one snapshot, so a crash at any point changes nothing they see; a file that
the table does not name is ignored.

    append ──queue──> writer thread ──1000 rows or 50 ms, one commit──> journal ──seal──> Parquet
                                          flush() returns: acknowledged

Acknowledged rows survive the death of the process (kill -9): the journal is in WAL mode with synchronous=NORMAL. A
power cut may lose the commits since the last checkpoint or ledger entry, whole commits and newest first, and never
damages the file. The ledger of what was made in the world is synced to the disk before its calls return
(synchronous=FULL), and every row committed before it with it.

This is the only module that knows SQL. It reads no clock. pandas and pyarrow are imported where they are used.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nestobs.errors import ForeignStoreError, NestobsError, StoreError, StoreFullError, UsageError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import COLUMNS, Observation, from_row
from nestobs.store import parquet as sealed
from nestobs.store.parquet import AT, ID, NAMES, Filters

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

APPLICATION = 0x6E4F6273
"""SQLite's application_id of a journal of ours: "nObs"."""

SCHEMA = 1
"""SQLite's user_version: which schema a journal has."""

BATCH_ROWS = 1_000
BATCH_S = 0.05
QUEUE_ROWS = 20_000
"""`append` blocks while this many rows wait for the disk."""

DAY = 86_400 * SECOND_NS
_BUSY_S = 30.0
_CHUNK_ROWS = 50_000
_INT64 = 2**63 - 1

_JOURNAL, _SEALED, _LOCK = "journal.sqlite", "observations", "writer.lock"
_SEALED_NAME = re.compile(r"\.?(\d+-\d\d-\d\d)-(\d{12,})\.parquet(\.\d+\.tmp)?")

_STORED = {"text": "TEXT", "int": "INTEGER", "real": "REAL", "bool": "INTEGER"}
_values = attrgetter(*NAMES)  # ten times as fast as as_row; SQLite stores a StrEnum as its text
_STATEMENT_ROWS = (250, 25, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something made in the world that must not be left behind: a room or an event. Open until `closed_at` is set.

    `key_ref` names a key file, or is "env": never a key. Instants are ns UTC. `how` says how it was closed.
    """

    entry_id: int
    kind: str
    run_id: str
    vantage: str
    api: str
    room: str
    nest: str
    relays: tuple[str, ...]
    key_ref: str
    opened_at: int
    closed_at: int | None
    how: str
    note: str


_ENTRY = tuple(spec.name for spec in fields(Entry))
_CHANGEABLE = frozenset(_ENTRY) - {"entry_id", "opened_at", "closed_at", "how"}

_CREATE = f"""
PRAGMA journal_mode = WAL;
BEGIN;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {SCHEMA};
CREATE TABLE observations (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    {", ".join(f"{c.name} {_STORED[c.type]}{'' if c.nullable else ' NOT NULL'}" for c in COLUMNS)}
);
CREATE INDEX observations_in_time ON observations ({AT});
CREATE TABLE sealed (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL);
CREATE TABLE ledger (
    entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
    {", ".join(f"{name} {'INTEGER' if name.endswith('_at') else 'TEXT NOT NULL'}" for name in _ENTRY[1:])}
);
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class _Window:
    """Which rows are wanted: [start, end) on the instant of sending, and columns that must equal a value."""

    start: int | None
    end: int | None
    equal: Mapping[str, str | None]

    def conditions(self) -> list[tuple[str, str, int | str]]:
        made: list[tuple[str, str, int | str]] = []
        if self.start is not None:
            made.append((AT, ">=", self.start))
        if self.end is not None:
            made.append((AT, "<", self.end))
        return made + [(name, "==", value) for name, value in self.equal.items() if value is not None]

    def sql(self) -> tuple[str, list[int | str]]:
        conditions = self.conditions()
        text = " AND ".join(f"{name} {sign} ?" for name, sign, _ in conditions) or "1"
        return text, [value for _, _, value in conditions]

    def arrow(self) -> Filters:
        return self.conditions() or None

    def within(self, first: int, last: int) -> _Window:
        """The same for rows that were sent from `first` to `last`: less what holds for all of them."""
        start = self.start if self.start is not None and self.start > first else None
        end = self.end if self.end is not None and self.end <= last else None
        return replace(self, start=start, end=end)


class Store:
    """A folder of observations and the ledger. Reading locks nobody; each call reads one snapshot and lets go of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._writer: Writer | None = None
        self._sealing = threading.Lock()

    @classmethod
    def open(cls, directory: Path | str, *, create: bool = True) -> Store:
        """The store in `directory`, made when it is not there and `create` is true. Cheap; holds nothing open.

        Raises StoreError when there is none (`create=False`) or the folder cannot be used, ForeignStoreError when its
        journal is another program's or a newer nestobs'.
        """
        store = cls(Path(directory).expanduser().absolute())
        if store.directory.exists() and not store.directory.is_dir():
            raise StoreError(f"{store.directory} is a file, not a folder: give --store a folder")
        if create and not (store.directory / _JOURNAL).exists():
            _make(store.directory)
        with store._reading():
            return store

    # writing

    def writer(self) -> Writer:
        """The one writer, its lock taken. Raises StoreError naming the process that holds the lock, if one does."""
        self._writer = Writer(self.directory)
        return self._writer

    def seal(self, *, before: int) -> list[Path]:
        """Move the UTC days that end at or before `before` (ns) from the journal to Parquet; the new files, by day.

        Uses this store's open writer, else takes the lock for the while. Rows of a day that come after its sealing
        go to another file of that day at the next sealing. No such day gives []. Raises StoreError, StoreFullError.
        """
        with self._sealing, self._borrowed() as writer:
            writer.flush()
            folder = self.directory / _SEALED
            try:
                folder.mkdir(exist_ok=True)
                return [self._seal_day(writer, day, top) for day, top in self._days(before)]
            except OSError as error:
                raise _explained(error, self.directory) from error

    @contextmanager
    def _borrowed(self) -> Iterator[Writer]:
        if self._writer is not None and self._writer.alive:
            yield self._writer
        else:
            with self.writer() as writer:
                yield writer

    def _days(self, before: int) -> list[tuple[int, int]]:
        """Days since the epoch that end by `before`, each with its highest journal row."""
        day = f"{AT} / {DAY} - ({AT} % {DAY} < 0)"  # SQLite truncates towards zero
        with self._reading() as connection:
            return connection.execute(
                f"SELECT {day} AS day, max(row) FROM observations WHERE {AT} < ? GROUP BY day ORDER BY day",
                [before - before % DAY],
            ).fetchall()

    def _seal_day(self, writer: Writer, day: int, top: int) -> Path:
        name = f"{_date(day)}-{top:012d}.parquet"
        path = self.directory / _SEALED / name
        start, end = max(day * DAY, -_INT64 - 1), (day + 1) * DAY
        sealed.write(path, self._pages(start, end, top))
        writer.perform(lambda connection: _record(connection, name, start, end, top))
        self._sweep(_date(day), top)
        return path

    def _pages(self, start: int, end: int, top: int) -> Iterator[pa.RecordBatch]:
        """The rows up to row `top` sent in [start, end), a page a transaction: nothing but sealing removes them."""
        schema = sealed.schema_of(NAMES)
        at, row = start, -1
        while True:
            with self._reading() as connection:
                page = connection.execute(
                    f"SELECT {', '.join(NAMES)}, {AT}, row FROM observations"
                    f" WHERE ({AT}, row) > (?, ?) AND {AT} < ? AND row <= ? ORDER BY {AT}, row LIMIT {_CHUNK_ROWS}",
                    [at, row, end, top],
                ).fetchall()
            if not page:
                return
            yield sealed.batch_of([values[:-2] for values in page], schema)
            at, row = page[-1][-2:]

    def _sweep(self, day: date, top: int) -> None:
        """Remove what an earlier, crashed sealing of the same rows left; files of any other origin stay."""
        with self._reading() as connection:
            listed = {name for (name,) in connection.execute("SELECT name FROM sealed")}
        for path in (self.directory / _SEALED).iterdir():
            other = _SEALED_NAME.fullmatch(path.name)
            if path.name not in listed and other and other[1] == str(day) and int(other[2]) <= top:
                path.unlink(missing_ok=True)

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
        or damaged.
        """
        import pandas as pd

        unknown = set(columns or ()) - set(NAMES)
        if unknown:
            raise UsageError(f"observations have no column {sorted(unknown)[0]!r}: see nestobs.observation.COLUMNS")
        wanted = [column for column in COLUMNS if columns is None or column.name in columns]
        window = _Window(start, end, _equal(trace_id, nest, room, run_id))
        table = self._table(window, [c.name for c in wanted], encoded=categories)
        dtypes = {c.name: sealed.pandas_type(c, categories=categories) for c in wanted}
        return pd.DataFrame(
            {name: table[name].to_pandas(types_mapper=lambda _, d=dtype: d) for name, dtype in dtypes.items()},
            index=pd.RangeIndex(table.num_rows),
        )

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
        table = self._table(_Window(start, end, _equal(trace_id, nest, room, run_id)), NAMES)
        return (from_row(row) for batch in table.to_batches(BATCH_ROWS) for row in batch.to_pylist())

    def tail(self, after: int, limit: int) -> tuple[list[Observation], int]:
        """At most `limit` journal rows written after row number `after`, and the number to go on from.

        Row numbers only grow, over sealing too; rows sealed meanwhile are passed over. Start from 0. Nothing new gives
        ([], after).
        """
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT row, {', '.join(NAMES)} FROM observations WHERE row > ? ORDER BY row LIMIT ?", [after, limit]
            ).fetchall()
        found = [from_row(dict(zip(NAMES, values, strict=True))) for _, *values in rows]
        return found, rows[-1][0] if rows else after

    def count(self) -> int:
        """How many observations there are, sealed or not."""
        with self._reading() as connection:
            sql = "SELECT (SELECT count(*) FROM observations) + (SELECT coalesce(sum(rows), 0) FROM sealed)"
            return int(connection.execute(sql).fetchone()[0])

    def digest(self, *, start: int | None = None, end: int | None = None) -> str:
        """SHA-256 in hex over the ids sent in [start, end), sorted as bytes, a newline after each: what a result was
        made from.

        The same before and after sealing and in whatever order rows came. No row gives the hash of nothing.
        """
        return sealed.digest_of(self._table(_Window(start, end, {}), [ID], ordered=False)[ID])

    def ledger(self, *, open_only: bool = True) -> list[Entry]:
        """What was made in the world, oldest first; only what is not closed, unless asked for all."""
        where = "closed_at IS NULL" if open_only else "1"
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {', '.join(_ENTRY)} FROM ledger WHERE {where} ORDER BY entry_id")
            return [_entry(row) for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection inside one read transaction, closed at the end; SQLite's words become a StoreError."""
        try:
            connection = _connect(self.directory, write=False)
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise _explained(error, self.directory) from error

    def _table(self, window: _Window, names: Sequence[str], *, encoded: bool = False, ordered: bool = True) -> pa.Table:
        """The rows of the window as Arrow, by instant of sending and then by id if `ordered`; that instant is always
        among the columns. encoded: text as dictionaries, one a column."""
        import pyarrow as pa

        schema = sealed.schema_of(dict.fromkeys([*names, AT]), encoded=encoded)
        whole = sealed.schema_of(dict.fromkeys([*schema.names, ID]), encoded=encoded)
        condition, values = window.sql()
        with self._reading() as connection:
            files = connection.execute(
                "SELECT name, first_at, last_at FROM sealed WHERE last_at >= coalesce(?, last_at)"
                " AND first_at < coalesce(?, first_at + 1) ORDER BY name",
                [window.start, window.end],
            ).fetchall()
            cursor = connection.execute(f"SELECT {', '.join(whole.names)} FROM observations WHERE {condition}", values)
            batches = [sealed.batch_of(rows, whole) for rows in iter(lambda: cursor.fetchmany(_CHUNK_ROWS), [])]
        journal = pa.Table.from_batches(batches, whole)

        def read(columns: pa.Schema) -> pa.Table:
            folder = self.directory / _SEALED
            tables = [sealed.read(folder / name, columns, window.within(*span).arrow()) for name, *span in files]
            return pa.concat_tables([*tables, journal.select(columns.names)]).unify_dictionaries()

        table = read(schema)
        if not ordered:
            return table
        order = sealed.order_of(table[AT], lambda: read(sealed.schema_of([ID]))[ID])
        return table if order is None else table.take(order)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A promise to be kept once the first `mark` rows are committed, with work to do then, if any."""

    mark: int
    job: Callable[[sqlite3.Connection], Any] | None
    future: Future[Any]


class Writer:
    """The one that writes, by a thread of its own. Use as `with` or `async with`: leaving commits what was appended.

    A process that ends without `close` loses the rows not yet acknowledged. Once the writer has failed (a full disk),
    it stays stopped: `failed` says why, every later call raises it, and nothing is kept in memory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = _take_lock(directory)
        try:
            self._connection = _connect(directory, write=True)
        except BaseException:
            os.close(self._lock)
            raise
        self._guard = threading.RLock()
        self._work = threading.Condition(self._guard)
        self._space = threading.Condition(self._guard)
        self._rows: list[Observation] = []
        self._tickets: list[_Ticket] = []
        self._appended = self._committed = 0
        self._closing = False
        self._failed: StoreError | None = None
        self._thread = threading.Thread(target=self._run, name="nestobs-writer", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> StoreError | None:
        """What stopped the writer; None while it works."""
        return self._failed

    @property
    def alive(self) -> bool:
        """Whether it still takes rows."""
        return not self._closing and self._failed is None

    def append(self, rows: Iterable[Observation]) -> None:
        """Queue rows, from any thread, without waiting for the disk; blocks only while `QUEUE_ROWS` are queued.

        Queued is not kept: `flush` says when it is. Text that UTF-8 cannot carry (lone surrogates) is stored with
        backslash escapes, an integer beyond 64 bits as the nearest one that fits, NaN as null. Raises what stopped the
        writer, or StoreError when it is closed.
        """
        self._refuse()
        pending = iter(rows)
        while chunk := list(islice(pending, BATCH_ROWS)):
            with self._guard:
                self._space.wait_for(lambda: len(self._rows) < QUEUE_ROWS or not self.alive)
                self._refuse()
                idle = not self._rows
                self._rows += chunk
                self._appended += len(chunk)
                if idle or len(self._rows) >= BATCH_ROWS:
                    self._work.notify()

    def flush(self) -> None:
        """Block until everything appended before is committed: acknowledged. Raises what stopped the writer."""
        self._ticket(None).result()

    async def flushed(self) -> None:
        """`flush`, without blocking the event loop. Cancelling it takes nothing back."""
        import asyncio

        await asyncio.wrap_future(self._ticket(None))

    def perform(self, job: Callable[[sqlite3.Connection], Any]) -> Any:
        """What `job` returns, run in the writer's thread after all rows appended before, in one synced transaction.

        For this module alone. A NestobsError it raises rolls back and comes out here; anything else stops the writer.
        """
        return self._ticket(job).result()

    def open_entry(
        self,
        *,
        kind: str,
        run_id: str,
        vantage: str,
        api: str,
        room: str,
        nest: str,
        relays: Sequence[str],
        key_ref: str,
        at: int,
        note: str = "",
    ) -> int:
        """Enter in the ledger what is about to be made; its number. On the disk when the call returns.

        `kind` is "room" or "event", `key_ref` the name of a key file or "env". Raises UsageError when `key_ref` looks
        like a key.
        """
        values = {
            "kind": kind, "run_id": run_id, "vantage": vantage, "api": api, "room": room, "nest": nest,
            "relays": relays, "key_ref": key_ref, "opened_at": at, "how": "", "note": note,
        }  # fmt: skip
        stored = _ledger_values(values)
        sql = f"INSERT INTO ledger ({', '.join(stored)}) VALUES ({', '.join('?' * len(stored))})"
        return int(self.perform(lambda connection: connection.execute(sql, list(stored.values())).lastrowid))

    def update_entry(self, entry: int, **changes: str | Sequence[str]) -> None:
        """Change what an entry says (room, nest, relays, note, …), on the disk when the call returns.

        Raises TypeError for a field that cannot be changed, StoreError when there is no such entry.
        """
        if wrong := set(changes) - _CHANGEABLE:
            raise TypeError(f"a ledger entry's {sorted(wrong)[0]!r} cannot be changed")
        if changes:
            self._change(entry, _ledger_values(changes), "1")

    def close_entry(self, entry: int, *, at: int, how: str) -> None:
        """Note that the thing is gone, when (ns UTC) and how; on the disk when the call returns.

        Closing it again changes nothing. Raises StoreError when there is no such entry.
        """
        self._change(entry, {"closed_at": at, "how": how}, "closed_at IS NULL")

    def _change(self, entry: int, values: Mapping[str, object], only: str) -> None:
        sql = f"UPDATE ledger SET {', '.join(f'{name} = ?' for name in values)} WHERE entry_id = ? AND {only}"

        def job(connection: sqlite3.Connection) -> None:
            if not connection.execute("SELECT 1 FROM ledger WHERE entry_id = ?", [entry]).fetchone():
                raise StoreError(f"the ledger in {self._directory} has no entry {entry}: see `nestobs ledger`")
            connection.execute(sql, [*values.values(), entry])

        self.perform(job)

    def close(self) -> None:
        """Commit what is queued, fold the WAL into the journal, let go of the lock. A second call does nothing.

        Raises what stopped the writer.
        """
        with self._guard:
            again, self._closing = self._closing, True
            self._work.notify()
            self._space.notify_all()
        self._thread.join()
        if again:
            return
        os.close(self._lock)
        if self._failed is not None:
            raise self._failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except StoreError:
            if error is None:  # an error on its way out says more
                raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import asyncio

        await asyncio.to_thread(self.__exit__, kind, error, trace)

    # queueing

    def _refuse(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._closing:
            raise StoreError(f"the writer of {self._directory} is closed: open another with Store.writer()")

    def _ticket(self, job: Callable[[sqlite3.Connection], Any] | None) -> Future[Any]:
        with self._guard:
            self._refuse()
            ticket = _Ticket(self._appended, job, Future())
            self._tickets.append(ticket)
            self._work.notify()
        return ticket.future

    # the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:  # whatever it is, those who wait must hear of it
            self._stop(_explained(error, self._directory))
        with suppress(sqlite3.Error):  # readers may hold it up, the disk may be full: the WAL then stays, and is read
            self._connection.execute("PRAGMA busy_timeout = 1000")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with suppress(sqlite3.Error):
            self._connection.close()

    def _turn(self) -> bool:
        """Write one batch and keep the promises due; False when closed and nothing is left."""
        batch = self._next_batch()
        if batch:
            _commit(self._connection, batch)
        with self._guard:
            self._committed += len(batch)
            self._space.notify_all()
        while ticket := self._due():
            self._keep(ticket)
        with self._guard:
            return not self._closing or bool(self._rows or self._tickets)

    def _next_batch(self) -> list[Observation]:
        def pressed() -> bool:
            return len(self._rows) >= BATCH_ROWS or bool(self._tickets) or self._closing

        with self._guard:
            self._work.wait_for(lambda: self._rows or pressed())
            self._work.wait_for(pressed, timeout=BATCH_S)
            batch = self._rows[:BATCH_ROWS]
            del self._rows[:BATCH_ROWS]
            return batch

    def _due(self) -> _Ticket | None:
        with self._guard:
            due = bool(self._tickets) and self._tickets[0].mark <= self._committed
            return self._tickets.pop(0) if due else None

    def _keep(self, ticket: _Ticket) -> None:
        if not ticket.future.set_running_or_notify_cancel():
            return
        try:
            result = _synced(self._connection, ticket.job) if ticket.job else None
        except NestobsError as error:
            ticket.future.set_exception(error)
        except BaseException as error:
            ticket.future.set_exception(_explained(error, self._directory))
            raise
        else:
            ticket.future.set_result(result)

    def _stop(self, failed: StoreError) -> None:
        with self._guard:
            self._failed = failed
            self._rows.clear()
            tickets, self._tickets = self._tickets, []
            self._space.notify_all()
        for ticket in tickets:
            if ticket.future.set_running_or_notify_cancel():
                ticket.future.set_exception(failed)


# opening


def _make(directory: Path) -> None:
    """An empty journal in `directory`, there whole or not at all, though several processes make it at once."""
    draft = directory / f".{_JOURNAL}.{os.getpid()}-{threading.get_ident()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.executescript(_CREATE)
        finally:
            connection.close()
        with suppress(FileExistsError):  # another process was faster, and its journal is as good
            os.link(draft, directory / _JOURNAL)
    except (OSError, sqlite3.Error) as error:
        raise _explained(error, directory) from error
    finally:
        with suppress(OSError):
            draft.unlink()


def _connect(directory: Path, *, write: bool) -> sqlite3.Connection:
    journal = directory / _JOURNAL
    if not journal.exists():
        raise StoreError(f"no store at {directory}: run nestobs canary first, or give --store")
    mode = "mode=rw" if write else "mode=ro"
    if not write and not os.access(directory, os.W_OK) and not journal.with_name(f"{_JOURNAL}-wal").exists():
        mode += "&immutable=1"  # an archive on a read-only disk: SQLite could not make its shared memory there
    connection = None
    try:
        connection = sqlite3.connect(
            f"{journal.as_uri()}?{mode}", uri=True, isolation_level=None, timeout=_BUSY_S, check_same_thread=False
        )
        _check(connection, directory)
        if write:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=1000"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute(f"PRAGMA journal_size_limit={64 * 2**20}")
    except (sqlite3.Error, StoreError) as error:
        if connection is not None:
            connection.close()
        raise _explained(error, directory) from error
    return connection


def _check(connection: sqlite3.Connection, directory: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise ForeignStoreError(f"{directory / _JOURNAL} is not a journal of nestobs: give --store another folder")
    if schema > SCHEMA:
        raise ForeignStoreError(
            f"the store in {directory} was written by a newer nestobs (schema {schema}, this one knows {SCHEMA}):"
            " upgrade nestobs, or give --store another folder"
        )


def _take_lock(directory: Path) -> int:
    """The descriptor that holds the writer's lock; closing it, or the death of the process, lets go."""
    import fcntl  # not on Windows, where reading still works

    try:
        handle = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _explained(error, directory) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise StoreError(
            f"process {pid} is writing to the store in {directory}: stop it, or give --store another folder"
        ) from error
    except OSError as error:
        os.close(handle)
        raise _explained(error, directory) from error
    return handle


_NO_ROOM = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_TRUNCATE"})
_NO_ROOM_ERRNO = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})


def _explained(error: BaseException, directory: Path) -> StoreError:
    """The error as one sentence with the remedy. A StoreError stays itself."""
    if isinstance(error, StoreError):
        return error
    name = getattr(error, "sqlite_errorname", "")
    if name in _NO_ROOM or getattr(error, "errno", None) in _NO_ROOM_ERRNO:
        return StoreFullError(
            f"no room to write in {directory} ({error}): everything acknowledged is safe and can be read;"
            " free space there, or raise the quota or file size limit, and start again"
        )
    if name == "SQLITE_NOTADB":
        return ForeignStoreError(f"{directory / _JOURNAL} is not a database: give --store another folder")
    if name.startswith("SQLITE_CORRUPT"):
        return StoreError(
            f"{directory / _JOURNAL} is damaged ({error}): copy the folder away, then mend the copy with"
            " `sqlite3 journal.sqlite .recover`, or give --store another folder"
        )
    if isinstance(error, OSError | sqlite3.OperationalError):
        said = getattr(error, "strerror", None) or error
        return StoreError(f"the store in {directory} cannot be used ({said}): give --store a folder you may write")
    return StoreError(f"the writer of {directory} stopped ({error!r}): please report it; acknowledged rows are safe")


# rows


def _commit(connection: sqlite3.Connection, batch: Sequence[Observation]) -> None:
    """The batch in one transaction; values that SQLite cannot bind are mended first, only when there are some."""
    with _transaction(connection):
        try:
            _insert(connection, [_values(observation) for observation in batch])
            return
        except (UnicodeEncodeError, OverflowError):
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
        _insert(connection, [tuple(map(_mended, _values(observation))) for observation in batch])


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Many rows a statement: SQLite lets go of the GIL at each one, and a busy thread gives it back 5 ms later."""
    at = 0
    for size in _STATEMENT_ROWS:
        while len(rows) - at >= size:
            connection.execute(_INSERTS[size], [value for row in rows[at : at + size] for value in row])
            at += size


_INSERTS = {
    size: f"INSERT INTO observations ({', '.join(NAMES)}) VALUES "
    + ", ".join([f"({', '.join('?' * len(NAMES))})"] * size)
    for size in _STATEMENT_ROWS
}


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return max(-_INT64 - 1, min(value, _INT64))
    return value


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _synced(connection: sqlite3.Connection, job: Callable[[sqlite3.Connection], Any]) -> Any:
    connection.execute("PRAGMA synchronous = FULL")
    try:
        with _transaction(connection):
            return job(connection)
    finally:
        connection.execute("PRAGMA synchronous = NORMAL")


def _record(connection: sqlite3.Connection, name: str, start: int, end: int, top: int) -> None:
    """Enter a sealed file and delete its rows: the moment from which the file counts."""
    rows = f"FROM observations WHERE {AT} >= ? AND {AT} < ? AND row <= ?"
    connection.execute(f"INSERT INTO sealed SELECT ?, count(*), min({AT}), max({AT}) {rows}", [name, start, end, top])
    connection.execute(f"DELETE {rows}", [start, end, top])


def _date(day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=day)


def _equal(trace_id: str | None, nest: str | None, room: str | None, run_id: str | None) -> dict[str, str | None]:
    return {"trace_id": trace_id, "nest": nest, "room": room, "run_id": run_id}


def _ledger_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the ledger stores them. Raises UsageError, without quoting it, when `key_ref` looks like a key."""
    if re.search(r"nsec1|[0-9a-fA-F]{64}", str(values.get("key_ref", ""))):
        raise UsageError("key_ref must name a key file or be 'env', never hold a key")
    return {
        name: "\n".join(value) if name == "relays" else value if isinstance(value, int) else _mended(value)
        for name, value in values.items()
    }


def _entry(row: tuple[Any, ...]) -> Entry:
    values = dict(zip(_ENTRY, row, strict=True))
    values["relays"] = tuple(values["relays"].split("\n")) if values["relays"] else ()
    return Entry(**values)
