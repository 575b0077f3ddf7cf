"""What is wrong with a journal, named: pages that SQLite cannot read, cells that hold what does not belong there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from nestobs.observation.schema import from_row
from nestobs.store.ledger import FIELDS
from nestobs.store.parquet import NAMES

MOST: Final = 5
"""So many faults of a kind are named."""


def complaints(connection: sqlite3.Connection) -> list[str]:
    """What SQLite's own check finds, and the wrong cells; nothing when the journal is whole."""
    try:
        said = [line for (line,) in connection.execute(f"PRAGMA integrity_check({MOST})")]
        return [line for line in said if line != "ok"] + wrong_cells(connection)
    except sqlite3.DatabaseError as error:
        return [str(error)]


_TYPES: Final = {"TEXT": str, "INTEGER": int}


def wrong_cells(connection: sqlite3.Connection) -> list[str]:
    """Cells that hold what does not belong there, a few of them: SQLite keeps anything in any column, so a flipped bit
    or another program can make text of a number. Nothing when all is as it should be."""
    connection.text_factory = _text
    try:
        return list(islice(_wrong_cells(connection), MOST))
    except UnicodeDecodeError:  # SQLite's own words quote the schema
        return ["its schema holds bytes that are no text"]
    finally:
        connection.text_factory = str


def _text(stored: bytes) -> str | bytes:
    with suppress(UnicodeDecodeError):
        return stored.decode()
    return stored


def _wrong_cells(connection: sqlite3.Connection) -> Iterator[str]:
    for row, *values in connection.execute(f"SELECT row, {', '.join(NAMES)} FROM observations"):
        try:
            from_row(dict(zip(NAMES, values, strict=True)))
        except ValueError as error:
            yield f"observations, row {row}: {error}"
    for table in ("sealed", "ledger"):
        found = connection.execute(f"PRAGMA main.table_info({table})").fetchall()
        if not found or not all(isinstance(name, str) and name.isidentifier() for _, name, *_ in found):
            yield f"{table}: its columns are not those of a journal"
            continue
        (_, key, *_), *columns = found
        names = [name for _, name, *_ in columns]
        if table == "ledger" and {key, *names} != set(FIELDS):
            yield "ledger: its columns are not those of a journal"
        for number, *values in connection.execute(f"SELECT {key}, {', '.join(names)} FROM main.{table}"):
            for value, (_, name, kind, needed, *_) in zip(values, columns, strict=True):
                if not isinstance(value, _TYPES.get(kind, ())) and (needed or value is not None):
                    yield f"{table}, {key} {number}: {name} holds {value!r:.40}, which is no {str(kind).lower():.40}"
