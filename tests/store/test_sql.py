"""Formats of the journal: a newer one is refused, an older one is read as it is and migrated by who writes."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nestobs.errors import ForeignStoreError
from nestobs.store import sql
from nestobs.store.inventory import verify
from nestobs.store.reader import Store
from nestobs.store.sql import DAY
from worlds.format_1 import write_format_1
from worlds.stored_rows import NOON, child, ids, row, rows

ALL = [f"id-{number:09d}" for number in range(1, 6)]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_format_1(tmp_path / "data", rows(1, 2, 3), rows(4, 5))


def format_of(directory: Path) -> int:
    with closing(sqlite3.connect(f"file:{directory / 'journal.sqlite'}?mode=ro", uri=True)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_readers_of_an_older_store_read_all_of_it_and_write_nothing(old):
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file() and not path.name.endswith("-shm")}
    store = Store.open(old)
    assert ids(store) == ALL
    assert ids(Store.open(old, create=False)) == ALL
    assert store.count() == 5
    assert store.frame(start=NOON + 3)["sent_at"].tolist() == [NOON + 3, NOON + 4, NOON + 5]
    assert store.tail(0, 10) == (rows(4, 5), 5)
    assert (store.passed(2), store.passed(3)) == (True, False)
    assert store.newest() == (5, NOON + 5)
    assert [entry.relays for entry in store.ledger()] == [("wss://a", "wss://b")]
    assert verify(store) == []
    assert {path: path.read_bytes() for path in before} == before
    assert format_of(old) == 1


def test_a_writer_migrates_an_older_store_and_everything_goes_on(old):
    store = Store.open(old)
    with store.writer() as writer:
        assert format_of(old) == sql.FORMAT
        writer.append(rows(6))
        writer.close_entry(1, at=8, how="deleted")
    assert ids(store) == [*ALL, "id-000000006"]
    assert [path.name for path in store.seal(before=NOON + DAY)] == ["2024-10-04-000000000006.parquet"]
    assert ids(store) == [*ALL, "id-000000006"]
    assert store.passed(5)
    assert verify(store) == []
    with sql.reading(old) as connection:
        assert [(file.last_row, bool(file.mark.digest)) for file in sql.sealed_files(connection)] == [
            (3, False),
            (6, True),
        ]


def test_a_store_of_the_second_format_is_read_as_it_is_and_migrated(tmp_path):
    store = Store.open(tmp_path / "data")
    with store.writer() as writer:
        writer.append(rows(1, 2))
        writer.seal(NOON + DAY)
        writer.append(rows(3))
    with closing(sqlite3.connect(store.directory / "journal.sqlite")) as connection:
        connection.executescript(
            "ALTER TABLE sealed DROP COLUMN size; ALTER TABLE sealed DROP COLUMN footer; PRAGMA user_version = 2"
        )
    assert (ids(store), verify(store), store.passed(1)) == ([f"id-{number:09d}" for number in (1, 2, 3)], [], True)
    assert format_of(store.directory) == 2
    store.writer().close()
    assert format_of(store.directory) == sql.FORMAT
    assert (store.count(), verify(store)) == (3, [])
    with sql.reading(store.directory) as connection:
        (file,) = sql.sealed_files(connection)
    assert (file.last_row, file.mark.size, bool(file.mark.digest)) == (2, 0, True)


def test_a_migration_that_dies_leaves_the_older_format_as_it_was(old):
    code = """
import sqlite3
migrate = sql_module._migrate
def half(connection, directory):
    migrate(connection, directory)
    die()
sql_module._migrate = half
Store.open(directory).writer()
"""
    with child(old, code) as victim:
        assert victim.wait() < 0
    assert format_of(old) == 1
    assert ids(Store.open(old)) == ALL
    with Store.open(old).writer() as writer:
        writer.append([row(6)])
    assert format_of(old) == sql.FORMAT
    assert ids(Store.open(old)) == [*ALL, "id-000000006"]


def test_a_format_of_a_newer_nestobs_is_refused_by_readers_and_writers_in_one_sentence(old):
    with closing(sqlite3.connect(old / "journal.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {sql.FORMAT + 1}")
    for write in (False, True):
        with pytest.raises(ForeignStoreError, match=f"newer nestobs .format {sql.FORMAT + 1}, .*upgrade") as refused:
            sql.connect(old, write=write)
        assert "\n" not in str(refused.value)
