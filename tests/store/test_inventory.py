"""What a store holds and whether it is whole: torn, flipped, empty and missing files are named, the rest is read."""

import contextlib
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nestobs.errors import StoreError
from nestobs.store.inventory import contents, set_aside, verify
from nestobs.store.reader import Store
from nestobs.store.sql import DAY
from worlds.format_1 import write_format_1
from worlds.stored_rows import NOON, ids, row, rows

pytestmark = pytest.mark.slow

FIRST, SECOND = "2024-10-04-000000000300.parquet", "2024-10-05-000000000600.parquet"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two sealed days of 300 rows, and two rows of the third in the journal."""
    made = Store.open(tmp_path / "data")
    days = [row(n, sent_at=NOON + n // 300 * DAY + n, detail=f'"{random.Random(n).random()}"') for n in range(602)]
    with made.writer() as writer:
        writer.append(days)
    assert sorted(path.name for path in (made.directory / "observations").iterdir()) == [FIRST, SECOND]
    return made


def file(store: Store, name: str = FIRST) -> Path:
    return store.directory / "observations" / name


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1_000])


def flipped_where(place: float) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return flip


def empty(path: Path) -> None:
    path.write_bytes(b"")


def another(path: Path) -> None:
    shutil.copyfile(path.with_name(SECOND), path)


def changed(path: Path) -> None:
    """As many rows, sent when they were, and a whole file: but not what was sealed."""
    table = pq.read_table(path, partitioning=None)
    other = pa.array(["somebody else"] * len(table), pa.large_string())
    pq.write_table(table.set_column(table.schema.get_field_index("vantage"), "vantage", other), path)


def longer(path: Path) -> None:
    path.write_bytes(b"PAR1" + path.read_bytes())


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FLIPS = [flipped_where(place) for place in (0.0, 0.01, 0.2, 0.5, 0.8, 0.95, 0.999, 1.0)]
DAMAGES = {
    "torn": torn,
    "empty": empty,
    "missing": Path.unlink,
    "a folder": folder,
    "another": another,
    "changed": changed,
    "longer": longer,
    **{f"flipped at {number}": flip for number, flip in enumerate(FLIPS)},
}


def test_a_whole_store_has_nothing_to_tell(store):
    assert verify(store) == []
    held = contents(store)
    assert (held.rows, held.unsealed, held.files, held.lost, held.open_entries) == (602, 2, 2, 0, 0)
    assert (held.first_at, held.last_at) == (NOON, NOON + 2 * DAY + 601)
    assert held.size > 100_000


def test_an_empty_store_holds_nothing(tmp_path):
    store = Store.open(tmp_path / "data")
    held = contents(store)
    assert (held.rows, held.files, held.first_at, held.last_at) == (0, 0, None, None)
    assert verify(store) == []


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_with_its_loss_and_the_rest_is_read_without_it(store, damage):
    whole = file(store).read_bytes()
    damage(file(store))
    (found,) = [one for one in verify(store) if one.wrong]
    assert (found.file, found.lost) == (FIRST, 300)
    assert found.said.endswith("300 rows of 2024-10-04 cannot be read")
    assert len(store.frame(start=NOON + DAY)) == 302, "what needs the file least is read as before"
    with store.writer() as writer:
        assert set_aside(store, writer, [FIRST]) == []
    assert ids(store) == [f"id-{number:09d}" for number in range(300, 602)]
    assert (store.count(), contents(store).lost) == (302, 300)
    (told,) = verify(store)
    assert (told.file, told.wrong) == (FIRST, False)
    assert told.said == "set aside: 300 rows of 2024-10-04 are lost"
    file(store).write_bytes(whole)  # from a copy
    with store.writer() as writer:
        assert set_aside(store, writer, []) == [FIRST]
    assert verify(store) == []
    assert len(ids(store)) == store.count() == 602


def read(store: Store, columns: list[str] | None) -> pd.DataFrame | StoreError:
    try:
        return store.frame(columns=columns)
    except StoreError as error:
        return error


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_no_read_passes_a_damaged_file_over_in_silence(store, damage):
    """It says so, or all that it read is right: of pages that nobody asked for it knows nothing."""
    asked = (None, ["detail"], ["sent_at"])
    before = [read(store, columns) for columns in asked]
    damage(file(store))
    for columns, right in zip(asked, before, strict=True):
        found = read(store, columns)
        if isinstance(found, StoreError):
            assert re.search(f"{FIRST} cannot be read.*nestobs store verify", str(found))
            assert "\n" not in str(found)
        else:
            pd.testing.assert_frame_equal(found, right)
            assert damage in FLIPS


def test_no_flipped_bit_changes_what_is_read_in_silence(store):
    path, before = file(store), store.frame()
    whole, rng = path.read_bytes(), random.Random(7)
    for _ in range(120):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        assert [one.file for one in verify(store)] == [FIRST]
        found = read(store, None)
        assert isinstance(found, StoreError) or found.equals(before)


def test_a_damaged_file_of_the_first_format_is_found_by_reading_it(tmp_path):
    store = Store.open(write_format_1(tmp_path / "data", rows(1, 2, 3), rows(4, 5)))
    path = file(store, "2024-10-04-000000000003.parquet")
    torn_at = path.read_bytes()
    path.write_bytes(torn_at[: len(torn_at) // 2])
    assert [(one.file, one.lost) for one in verify(store)] == [(path.name, 3)]


def test_rows_that_are_in_two_places_are_counted(store):
    with store.writer() as writer:
        writer.append(rows(7, 8, sent_at=NOON + 2 * DAY + 700))
    assert [(one.file, one.said, one.lost) for one in verify(store)] == [
        ("journal.sqlite", "2 rows have an id that another row has, too", 0),
        (FIRST, "2 rows have an id that another row has, too", 0),
    ]


def test_leftovers_and_strangers_are_told_and_are_nothing_wrong(store):
    strays = [f".{FIRST}.123.tmp", "2023-01-01-000000000001.parquet", "notes.txt"]
    for name in strays:
        file(store, name).write_bytes(b"torn")
    assert [(one.file, one.wrong) for one in verify(store)] == [(name, False) for name in strays[:2]]
    assert len(store.frame()) == 602


def test_a_damaged_journal_is_named_and_the_sealed_days_are_checked_all_the_same(store):
    journal = store.directory / "journal.sqlite"
    with closing(sqlite3.connect(journal)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'observations'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(journal.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    journal.write_bytes(content)
    file(store, SECOND).unlink()
    assert {one.file for one in verify(store) if one.wrong} == {"journal.sqlite", SECOND}


SCHEMAS = {
    "a name that is no text": (b"opened_at", b"open\xfcd_at"),
    "a name of another sort": (b"opened_at", b"open'd_at"),
    "another name": (b"opened_at", b"opened_if"),
    "another type": (b"INTEGER", b"INTEGEQ"),
    "another table": (b"ledger", b"ledgex"),
    "no table": (b"CREATE TABLE sealed", b"CREATE TABLF sealed"),
    "an observation's column": (b"sent_at", b"sen\xff_at"),
}


@pytest.mark.parametrize(("there", "instead"), SCHEMAS.values(), ids=SCHEMAS)
def test_a_journal_whose_schema_is_damaged_is_said_to_be_so(store, there, instead):
    journal = store.directory / "journal.sqlite"
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = journal.read_bytes()
    assert there in content
    journal.write_bytes(content.replace(there, instead))
    with contextlib.suppress(StoreError):  # a sentence, and no traceback
        named = [one for one in verify(store) if one.file == "journal.sqlite" and one.wrong]
        try:
            store.ledger()
            assert len(store.frame()) == 602
        except StoreError:
            assert named


WRONG = {
    "text for an instant": ("sent_at", "noon", "sent_at holds 'noon', which is no int"),
    "bytes for text": ("reason", b"\xff\xfe", "reason holds b'\\xff\\xfe', which is no text"),
    "text for a duration": ("loop_lag_s", "long", "loop_lag_s holds 'long', which is no real"),
    "a fraction for a status": ("status", 404.5, "status holds 404.5, which is no int"),
    "an unknown word": ("outcome", "perhaps", "'perhaps' is not a valid Outcome"),
}


@pytest.mark.parametrize(("column", "value", "said"), WRONG.values(), ids=WRONG)
def test_a_cell_of_the_journal_that_holds_what_does_not_belong_there_is_named(store, column, value, said):
    with closing(sqlite3.connect(store.directory / "journal.sqlite")) as connection, connection:
        connection.execute(f"UPDATE observations SET {column} = ? WHERE row = 602", [value])
    named = f"observations, row 602: {said}"
    assert [(one.file, one.said) for one in verify(store)] == [("journal.sqlite", f"damaged: {named}")]
    with pytest.raises(StoreError, match=re.escape(named)):
        store.tail(0, 10)
    if column != "outcome":  # a frame holds words as they are
        with pytest.raises(StoreError, match=re.escape(named)):
            store.frame()
    assert len(store.frame(end=NOON + 2 * DAY)) == 600, "what is sealed is read all the same"


def test_text_that_is_no_utf_8_is_named(store):
    with closing(sqlite3.connect(store.directory / "journal.sqlite")) as connection, connection:
        connection.execute("UPDATE observations SET target = CAST(x'ff41' AS TEXT) WHERE row = 601")
    for reading in (store.frame, lambda: store.tail(0, 10)):
        with pytest.raises(StoreError, match=r"row 601: target holds b'\\xffA', which is no text"):
            reading()
