"""The journal: an SQLite database. Only this module spells its tables, transactions and errors.

    observations   `row`, which only grows, over sealing too, and the columns of `COLUMNS`: what is not sealed
    sealed         the Parquet files that count, and those set aside
    ledger         what was made in the world

It is in WAL mode. Rows are committed with synchronous=NORMAL, the ledger and the list of files with FULL.

Formats (SQLite's user_version): 1 knew neither a file's last row nor its digest, and set none aside; 2 knew neither its
size nor its footer. A writer migrates them in one transaction; a reader sees them through a view of its own, and writes
nothing.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from nestobs.errors import ForeignStoreError, StoreError, StoreFullError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import COLUMNS, Observation, as_row
from nestobs.store import connection as connecting
from nestobs.store.connection import Connection
from nestobs.store.damage import wrong_cells
from nestobs.store.ledger import FIELDS
from nestobs.store.parquet import AT, NAMES, Mark

Row: TypeAlias = tuple[Any, ...]

APPLICATION: Final = 0x6E4F6273
"""SQLite's application_id of a journal of ours: "nObs"."""

FORMAT: Final = 3
"""SQLite's user_version of a journal that this module makes."""

DAY: Final = 86_400 * SECOND_NS
INT64: Final = 2**63 - 1
CHUNK_ROWS: Final = 50_000
_BUSY_S: Final = 30.0

JOURNAL: Final = "journal.sqlite"

_STORED: Final = {"text": "TEXT", "int": "INTEGER", "real": "REAL", "bool": "INTEGER"}
_ADDED: Final = {
    2: {
        "last_row": "INTEGER NOT NULL DEFAULT 0",
        "digest": "TEXT NOT NULL DEFAULT ''",
        "set_aside": "INTEGER NOT NULL DEFAULT 0",
    },
    3: {"size": "INTEGER NOT NULL DEFAULT 0", "footer": "TEXT NOT NULL DEFAULT ''"},
}
"""What each format added to the columns of `sealed`."""

_LAST_ROW_IN_1: Final = "CAST(substr(name, 12) AS INTEGER)"
_CREATE: Final = f"""
PRAGMA journal_mode = WAL;
BEGIN;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE observations (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    {", ".join(f"{c.name} {_STORED[c.type]}{'' if c.nullable else ' NOT NULL'}" for c in COLUMNS)}
);
CREATE INDEX observations_in_time ON observations ({AT});
CREATE TABLE sealed (
    name TEXT PRIMARY KEY, rows INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL,
    {", ".join(f"{name} {kind}" for added in _ADDED.values() for name, kind in added.items())}
);
CREATE TABLE ledger (
    entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
    {", ".join(f"{name} {'INTEGER' if name.endswith('_at') else 'TEXT NOT NULL'}" for name in FIELDS[1:])}
);
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A Parquet file of sealed rows.

    Its rows were sent from `first_at` to `last_at`, ns UTC; `last_row` is the highest number one had in the journal.
    """

    name: str
    rows: int
    first_at: int
    last_at: int
    last_row: int
    mark: Mark


@dataclass(frozen=True, slots=True)
class Part:
    """What becomes one sealed file: the journal's rows sent in [start, end) of one UTC day, up to row `top`."""

    start: int
    end: int
    top: int


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows are wanted: [start, end) on the instant of sending, and columns that must equal a value."""

    start: int | None = None
    end: int | None = None
    equal: Mapping[str, str | None] | None = None

    def conditions(self) -> list[tuple[str, str, int | str]]:
        """(column, sign, value), all of which hold."""
        made: list[tuple[str, str, int | str]] = []
        if self.start is not None:
            made.append((AT, ">=", self.start))
        if self.end is not None:
            made.append((AT, "<", self.end))
        return made + [(name, "==", value) for name, value in (self.equal or {}).items() if value is not None]

    def within(self, first: int, last: int) -> Window:
        """The same for rows that were sent from `first` to `last`: less what holds for all of them."""
        start = self.start if self.start is not None and self.start > first else None
        end = self.end if self.end is not None and self.end <= last else None
        return replace(self, start=start, end=end)


# opening


def make(directory: Path) -> None:
    """An empty journal in `directory`, there whole or not at all, though several processes make it at once."""
    draft = directory / f".{JOURNAL}.{os.getpid()}-{threading.get_ident()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.executescript(_CREATE)
        finally:
            connection.close()
        with suppress(FileExistsError):  # another process was faster, and its journal is as good
            os.link(draft, directory / JOURNAL)
    except (OSError, sqlite3.Error) as error:
        raise explained(error, directory) from error
    finally:
        with suppress(OSError):
            draft.unlink()


def connect(directory: Path, *, write: bool) -> Connection:
    """A connection to the journal, checked to be ours. Raises StoreError, ForeignStoreError."""
    journal = directory / JOURNAL
    if not journal.exists():
        raise StoreError(
            f"no store at {directory}: run nestobs canary first, or give --store (`example` comes with nestobs)"
        )
    mode = "mode=rw" if write else "mode=ro"
    if not write and not os.access(directory, os.W_OK) and not journal.with_name(f"{JOURNAL}-wal").exists():
        mode += "&immutable=1"  # an archive on a read-only disk: SQLite could not make its shared memory there
    connection = None
    try:
        connection = connecting.connect(journal, mode, isolation_level=None, timeout=_BUSY_S, check_same_thread=False)
        found = _format(connection, directory)
        if write:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=1000"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute(f"PRAGMA journal_size_limit={64 * 2**20}")
            with _transaction(connection):
                _migrate(connection, directory)
        elif found < FORMAT:
            connection.execute("PRAGMA temp_store=MEMORY")
            absent = {name: kind.split()[-1] for at in _after(found) for name, kind in _ADDED[at].items()}
            if found < 2:
                absent["last_row"] = _LAST_ROW_IN_1
            values = ", ".join(f"{value} AS {name}" for name, value in absent.items())
            connection.execute(f"CREATE TEMP VIEW sealed AS SELECT *, {values} FROM main.sealed")
    except (sqlite3.Error, StoreError) as error:
        if connection is not None:
            connection.close()
        raise explained(error, directory) from error
    return connection


def _format(connection: Connection, directory: Path) -> int:
    """The journal's format. Raises ForeignStoreError for none of ours, and for one of a newer nestobs."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise ForeignStoreError(f"{directory / JOURNAL} is not a journal of nestobs: give --store another folder")
    if found > FORMAT:
        raise ForeignStoreError(
            f"the store in {directory} was written by a newer nestobs (format {found}, this one knows {FORMAT}):"
            " upgrade nestobs, or give --store another folder"
        )
    return int(found)


def _migrate(connection: Connection, directory: Path) -> None:
    """Bring an older journal to this format; inside a transaction."""
    found = _format(connection, directory)
    for at in _after(found):
        for name, kind in _ADDED[at].items():
            connection.execute(f"ALTER TABLE sealed ADD COLUMN {name} {kind}")
    if found < 2:
        connection.execute(f"UPDATE sealed SET last_row = {_LAST_ROW_IN_1}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _after(found: int) -> range:
    return range(found + 1, FORMAT + 1)


@contextmanager
def reading(directory: Path) -> Iterator[Connection]:
    """A connection inside one read transaction, closed at the end; SQLite's words become a StoreError."""
    try:
        connection = connect(directory, write=False)
        try:
            connection.execute("BEGIN")
            yield connection
        except (TypeError, ValueError, AttributeError, sqlite3.OperationalError) as error:
            if wrong := wrong_cells(connection):
                raise _damaged(directory, "; ".join(wrong)) from error
            raise
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise explained(error, directory) from error


def close(connection: Connection) -> None:
    """Fold the WAL into the journal and let go of it. Readers may hold it up, the disk may be full: it then stays."""
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA busy_timeout = 1000")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with suppress(sqlite3.Error):
        connection.close()


_NO_ROOM: Final = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_TRUNCATE"})
NO_ROOM_ERRNO: Final = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})


def explained(error: BaseException, directory: Path) -> StoreError:
    """The error as one sentence with the remedy. A StoreError stays itself."""
    if isinstance(error, StoreError):
        return error
    name = getattr(error, "sqlite_errorname", "")
    if name in _NO_ROOM or getattr(error, "errno", None) in NO_ROOM_ERRNO:
        return StoreFullError(
            f"no room to write in {directory} ({error}): everything acknowledged is safe and can be read;"
            " free space there, or raise the quota or file size limit, and start again"
        )
    if name == "SQLITE_NOTADB":
        return ForeignStoreError(f"{directory / JOURNAL} is not a database: give --store another folder")
    if name.startswith("SQLITE_CORRUPT"):
        return _damaged(directory, str(error))
    if isinstance(error, OSError | sqlite3.OperationalError):
        said = getattr(error, "strerror", None) or error
        return StoreError(f"the store in {directory} cannot be used ({said}): give --store a folder you may write")
    return StoreError(f"the writer of {directory} stopped ({error!r}): please report it; acknowledged rows are safe")


def _damaged(directory: Path, said: str) -> StoreError:
    return StoreError(
        f"{directory / JOURNAL} is damaged ({said}): copy the folder away, then mend the copy with sqlite3 (`.recover`"
        " takes out what can be read, DELETE a row that cannot), or give --store another folder"
    )


# rows


def rows_in(connection: Connection, window: Window, names: Sequence[str]) -> Iterator[list[Row]]:
    """The journal's rows of a window, so many at a time."""
    conditions = window.conditions()
    where = " AND ".join(f"{name} {sign} ?" for name, sign, _ in conditions) or "1"
    cursor = connection.execute(
        f"SELECT {', '.join(names)} FROM observations WHERE {where}", [value for _, _, value in conditions]
    )
    return iter(lambda: cursor.fetchmany(CHUNK_ROWS), [])


def rows_after(connection: Connection, after: int, limit: int) -> list[Row]:
    """(row, the columns of `NAMES`) of at most `limit` journal rows written after that one, in order."""
    return connection.execute(
        f"SELECT row, {', '.join(NAMES)} FROM observations WHERE row > ? ORDER BY row LIMIT ?", [after, limit]
    ).fetchall()


def count(connection: Connection) -> int:
    """How many observations there are, sealed or not."""
    return unsealed(connection) + sum(file.rows for file in sealed_files(connection))


def unsealed(connection: Connection) -> int:
    """How many rows are in the journal."""
    return int(connection.execute("SELECT count(*) FROM observations").fetchone()[0])


def unsealed_span(connection: Connection) -> tuple[int | None, int | None]:
    """When the first and the last row in the journal were sent."""
    found: tuple[int | None, int | None] = connection.execute(
        f"SELECT (SELECT min({AT}) FROM observations), (SELECT max({AT}) FROM observations)"
    ).fetchone()
    return found


def ends(connection: Connection) -> tuple[int | None, int | None]:
    """When the first and the last row was sent, sealed or not."""
    every = [at for file in sealed_files(connection) for at in (file.first_at, file.last_at)]
    every += [at for at in unsealed_span(connection) if at is not None]
    return min(every, default=None), max(every, default=None)


def newest(connection: Connection) -> tuple[int, int | None]:
    """The highest number a row ever had, and when the last row was sent; the last that is sealed, if none is left."""
    (top,) = connection.execute(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'observations'"
    ).fetchone()
    left = connection.execute(f"SELECT {AT} FROM observations ORDER BY row DESC LIMIT 1").fetchone()
    sealed = connection.execute(
        "SELECT last_at FROM sealed WHERE NOT set_aside ORDER BY last_row DESC LIMIT 1"
    ).fetchone()
    return top, next((int(at) for (at,) in filter(None, (left, sealed))), None)


_INSERTS: Final = {
    size: f"INSERT INTO observations ({', '.join(NAMES)}) VALUES "
    + ", ".join([f"({', '.join('?' * len(NAMES))})"] * size)
    for size in (250, 25, 1)
}


def commit(connection: Connection, batch: Sequence[Observation]) -> None:
    """The batch in one transaction; values that SQLite cannot bind are mended first, only when there are some."""
    with _transaction(connection):
        try:
            _insert(connection, [as_row(observation) for observation in batch])
            return
        except (UnicodeEncodeError, OverflowError):
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
        _insert(connection, [tuple(map(_mended, as_row(observation))) for observation in batch])


def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    """Many rows a statement: SQLite lets go of the GIL at each one, and a busy thread gives it back 5 ms later."""
    at = 0
    for size, statement in _INSERTS.items():
        while len(rows) - at >= size:
            connection.execute(statement, [value for row in rows[at : at + size] for value in row])
            at += size


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return max(-INT64 - 1, min(value, INT64))
    return value


def synced(connection: Connection, job: Callable[[Connection], Any]) -> Any:
    """What `job` returns, in one transaction that is on the disk when this returns."""
    connection.execute("PRAGMA synchronous = FULL")
    try:
        with _transaction(connection):
            return job(connection)
    finally:
        connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


# sealing


def part_due(connection: Connection, settled: int, over: int, top: int, most: int) -> Part | None:
    """The first part to seal, of rows up to row `top`: of a day that ends by `over` whatever there is, of any other
    `most` rows that were sent before `settled`. No part has more, but of rows of one instant. None: nothing is due."""
    at = -INT64 - 1
    where = f"FROM observations WHERE {AT} >= ? AND {AT} < ? AND row <= ?"
    while True:
        (first,) = connection.execute(f"SELECT min({AT}) {where}", [at, max(settled, over), top]).fetchone()
        if first is None:
            return None
        tomorrow = (first // DAY + 1) * DAY
        whole = tomorrow <= over
        end = tomorrow if whole else min(tomorrow, settled)
        beyond = connection.execute(
            f"SELECT {AT} {where} ORDER BY {AT} LIMIT 1 OFFSET ?", [first, end, top, most]
        ).fetchone()
        if beyond is None and not whole:
            at = min(tomorrow, INT64)
            continue
        if beyond is not None:
            end = max(beyond[0], first + 1)
        return Part(first, end, connection.execute(f"SELECT max(row) {where}", [first, end, top]).fetchone()[0])


def page(connection: Connection, part: Part, after: tuple[int, int]) -> list[Row]:
    """Rows of a part behind (instant, row), in the order of sending; those two at the end."""
    return connection.execute(
        f"SELECT {', '.join(NAMES)}, {AT}, row FROM observations"
        f" WHERE ({AT}, row) > (?, ?) AND {AT} < ? AND row <= ? ORDER BY {AT}, row LIMIT {CHUNK_ROWS}",
        [*after, part.end, part.top],
    ).fetchall()


def record(connection: Connection, part: Part, name: str, rows: int, mark: Mark) -> None:
    """Enter a sealed file and delete its rows: the moment from which the file counts. Raises StoreError when it has
    not as many rows as the journal."""
    where, values = f"FROM observations WHERE {AT} >= ? AND {AT} < ? AND row <= ?", [part.start, part.end, part.top]
    held, first, last = connection.execute(f"SELECT count(*), min({AT}), max({AT}) {where}", values).fetchone()
    if held != rows:
        raise StoreError(f"{name} has {rows} rows, the journal {held}: please report it; they stay in the journal")
    connection.execute(
        "INSERT INTO sealed (name, rows, first_at, last_at, last_row, size, footer, digest) VALUES (?,?,?,?,?,?,?,?)",
        [name, rows, first, last, part.top, *astuple(mark)],
    )
    connection.execute(f"DELETE {where}", values)


def sealed_files(connection: Connection, window: Window | None = None, *, set_aside: bool = False) -> list[SealedFile]:
    """The sealed files that may have rows of a window, by their first instant: those that count, or those set aside."""
    start, end = (window.start, window.end) if window else (None, None)
    rows = connection.execute(
        "SELECT name, rows, first_at, last_at, last_row, size, footer, digest FROM sealed WHERE set_aside = ?"
        " AND last_at >= coalesce(?, last_at) AND (? IS NULL OR first_at < ?) ORDER BY first_at, name",
        [set_aside, start, end, end],
    )
    names = [spec.name for spec in fields(SealedFile)][:-1]
    return [SealedFile(**dict(zip(names, row, strict=False)), mark=Mark(*row[-3:])) for row in rows]


def set_aside(connection: Connection, name: str, *, out: bool) -> None:
    """Take a sealed file out of the count, or into it again."""
    connection.execute("UPDATE sealed SET set_aside = ? WHERE name = ?", [out, name])


def forget(connection: Connection, before: int) -> list[str]:
    """Strike out the sealed files whose last row was sent before `before`; their names."""
    names = [
        name for (name,) in connection.execute("SELECT name FROM sealed WHERE last_at < ? AND set_aside = 0", [before])
    ]
    connection.executemany("DELETE FROM sealed WHERE name = ?", [(name,) for name in names])
    return names


def sealed_past(connection: Connection, row: int) -> bool:
    """Whether rows of higher numbers have been sealed."""
    return connection.execute("SELECT 1 FROM sealed WHERE last_row > ? LIMIT 1", [row]).fetchone() is not None


# the ledger


def entries(connection: Connection, *, open_only: bool) -> list[Row]:
    """What the ledger holds, in the order of `FIELDS`, oldest first."""
    where = "closed_at IS NULL" if open_only else "1"
    return connection.execute(f"SELECT {', '.join(FIELDS)} FROM ledger WHERE {where} ORDER BY entry_id").fetchall()


def add_entry(connection: Connection, values: Mapping[str, Any]) -> int:
    """The number of a new entry."""
    sql = f"INSERT INTO ledger ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
    return int(connection.execute(sql, [_mended(value) for value in values.values()]).lastrowid or 0)


def change_entry(connection: Connection, entry: int, values: Mapping[str, Any], *, open_only: bool) -> bool:
    """Whether there is that entry; its values are changed, if `open_only` only while it is open."""
    only = "closed_at IS NULL" if open_only else "1"
    sql = f"UPDATE ledger SET {', '.join(f'{name} = ?' for name in values)} WHERE entry_id = ? AND {only}"
    connection.execute(sql, [*(_mended(value) for value in values.values()), entry])
    return connection.execute("SELECT 1 FROM ledger WHERE entry_id = ?", [entry]).fetchone() is not None
