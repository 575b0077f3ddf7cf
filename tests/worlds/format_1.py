"""A store as the first format had it, made without the code of today: what is out there must be read, and migrated."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nestobs.observation.schema import Observation

_SCHEMA = """
PRAGMA journal_mode = WAL;
BEGIN;
PRAGMA application_id = 1850696307;
PRAGMA user_version = 1;
CREATE TABLE observations (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    observation_id TEXT NOT NULL, run_id TEXT NOT NULL, trace_id TEXT NOT NULL, vantage TEXT NOT NULL,
    role TEXT NOT NULL, nest TEXT NOT NULL, room TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
    operation TEXT NOT NULL, attempt_group TEXT NOT NULL, attempt_no INTEGER NOT NULL, planned_at INTEGER,
    sent_at INTEGER NOT NULL, received_at INTEGER, outcome TEXT NOT NULL, status INTEGER, failure TEXT,
    failure_layer TEXT, reason TEXT NOT NULL, remote_at INTEGER, remote_grain_s REAL, timeout_s REAL,
    connection_reused INTEGER, cache TEXT NOT NULL, loop_lag_s REAL, clock_offset_s REAL, clock_error_s REAL,
    sync_age_s REAL, software TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE INDEX observations_in_time ON observations (sent_at);
CREATE TABLE sealed (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL);
CREATE TABLE ledger (
    entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, run_id TEXT NOT NULL, vantage TEXT NOT NULL, api TEXT NOT NULL, room TEXT NOT NULL,
    nest TEXT NOT NULL, relays TEXT NOT NULL, key_ref TEXT NOT NULL, opened_at INTEGER, closed_at INTEGER,
    how TEXT NOT NULL, note TEXT NOT NULL
);
COMMIT;
"""
_TYPES = {"TEXT": pa.large_string(), "INTEGER": pa.int64(), "REAL": pa.float64()}


def write_format_1(directory: Path, sealed: list[Observation], journal: list[Observation]) -> Path:
    """A store of that format: the first rows of one day in a sealed file, the others in the journal, one open room."""
    (directory / "observations").mkdir(parents=True)
    with closing(sqlite3.connect(directory / "journal.sqlite", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        names = [name for _, name, *_ in connection.execute("PRAGMA table_info(observations)")][1:]
        values = [[getattr(one, name) for name in names] for one in [*sealed, *journal]]
        insert = f"INSERT INTO observations ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        connection.executemany(insert, values)
        connection.execute("DELETE FROM observations WHERE row <= ?", [len(sealed)])
        file, at = f"2024-10-04-{len(sealed):012d}.parquet", [one.sent_at for one in sealed]
        connection.execute("INSERT INTO sealed VALUES (?, ?, ?, ?)", [file, len(sealed), min(at), max(at)])
        room = (
            "room",
            "run",
            "here",
            "https://api.example",
            "abc",
            "",
            "wss://a\nwss://b",
            "host.key",
            7,
            None,
            "",
            "",
        )
        connection.execute(f"INSERT INTO ledger VALUES (1, {', '.join('?' * len(room))})", room)
        kinds = [kind for _, name, kind, *_ in connection.execute("PRAGMA table_info(observations)")][1:]
    columns = dict(zip(names, zip(*values[: len(sealed)], strict=True), strict=True))
    types = [pa.bool_() if n == "connection_reused" else _TYPES[kind] for n, kind in zip(names, kinds, strict=True)]
    arrays = [pa.array(columns[name], kind) for name, kind in zip(names, types, strict=True)]
    pq.write_table(pa.table(arrays, names), directory / "observations" / file, compression="zstd")
    return directory
