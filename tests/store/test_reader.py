"""What goes into a store comes out of it, whoever reads it and when, and what is no store is refused."""

import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nestobs
from nestobs.errors import ForeignStoreError, StoreError, UsageError
from nestobs.observation.schema import COLUMNS, Failure, FailureLayer, Observation, Operation, Outcome, Role, Source
from nestobs.store.reader import Store
from nestobs.store.sql import DAY
from worlds.stored_rows import NOON, child, ids, row, rows

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "data")


# what goes in comes out

TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("\x00\u202e\u200f\x1b\n="), max_size=40)
INT = st.integers(-(2**63), 2**63 - 1)
REAL = st.floats(allow_nan=False)
STRATEGIES = {"text": TEXT, "int": INT, "real": REAL, "bool": st.booleans()}
ENUMS = {
    "role": st.sampled_from(Role),
    "source": st.sampled_from(Source),
    "operation": st.sampled_from(Operation),
    "outcome": st.sampled_from(Outcome),
    "failure": st.none() | st.sampled_from(Failure),
    "failure_layer": st.none() | st.sampled_from(FailureLayer),
    "reason": TEXT.filter(bool),
}
OBSERVATION = st.fixed_dictionaries(
    {c.name: st.none() | STRATEGIES[c.type] if c.nullable else STRATEGIES[c.type] for c in COLUMNS} | ENUMS
).map(lambda values: Observation(**values))


@settings(max_examples=30, deadline=None)
@given(st.lists(OBSERVATION, max_size=4, unique_by=lambda one: one.observation_id))
def test_every_observation_comes_back_as_it_was_from_the_journal_and_from_parquet(given_rows):
    expected = sorted(given_rows, key=lambda one: (one.sent_at, one.observation_id.encode()))
    with tempfile.TemporaryDirectory() as directory:
        store = Store.open(directory)
        with store.writer() as writer:
            writer.append(given_rows)
            writer.flush()
            assert list(store.observations()) == expected
            assert store.tail(0, 10)[0] == given_rows
            frame, digest = store.frame(), store.digest()
            ids = sorted(one.observation_id for one in given_rows)
            assert digest == hashlib.sha256("".join(f"{one}\n" for one in ids).encode()).hexdigest()
            encoded = store.frame(categories=True)
        store.seal(before=2**63 - 1)
        assert list(store.observations()) == expected
        pd.testing.assert_frame_equal(store.frame(), frame)
        for as_categories in (encoded, store.frame(categories=True)):
            pd.testing.assert_frame_equal(as_categories.astype(frame.dtypes), frame)
        assert store.digest() == digest
        assert store.count() == len(expected)


def test_what_sqlite_cannot_bind_is_mended_and_stops_nobody(store):
    bad = row(2, target="wss://\ud800", remote_at=10**30, status=-(10**30), loop_lag_s=float("nan"))
    with store.writer() as writer:
        writer.append([row(1), bad, row(3)])
    first, mended, last = store.observations()
    assert (first, last) == (row(1), row(3))
    assert mended.target == "wss://\\ud800"
    assert (mended.remote_at, mended.status, mended.loop_lag_s) == (2**63 - 1, -(2**63), None)


def test_an_empty_store_gives_an_empty_frame_with_every_column_and_type(store):
    empty = store.frame()
    assert list(empty.columns) == [column.name for column in COLUMNS]
    assert len(empty) == store.count() == 0
    assert list(store.observations()) == store.ledger() == []
    assert store.tail(0, 5) == ([], 0)
    with store.writer() as writer:
        writer.append(rows(1, failure=Failure.DNS, reason="no such host", connection_reused=True, timeout_s=1.0))
    pd.testing.assert_series_equal(store.frame().dtypes, empty.dtypes)
    kinds = {column.name: str(empty[column.name].dtype) for column in COLUMNS}
    for column in COLUMNS:
        expected = {"text": "string", "int": "Int64", "real": "Float64", "bool": "boolean"}[column.type]
        assert kinds[column.name] == (expected if column.nullable else {"text": "str", "int": "int64"}[column.type])


def test_a_window_is_half_open_and_columns_keep_the_order_of_the_schema(store):
    with store.writer() as writer:
        writer.append([*rows(1, 2, 3), row(4, room="a"), row(5, room="b", trace_id="t", nest="n", run_id="other")])
    for _ in range(2):
        assert store.frame(start=NOON + 2, end=NOON + 4)["sent_at"].tolist() == [NOON + 2, NOON + 3]
        assert list(store.frame(columns=["sent_at", "vantage"]).columns) == ["vantage", "sent_at"]
        assert store.frame(columns=["status"]).shape == (5, 1)
        for wanted in ({"room": "b"}, {"trace_id": "t"}, {"nest": "n"}, {"run_id": "other"}):
            assert [one.sent_at for one in store.observations(**wanted)] == [NOON + 5]
            assert store.frame(**wanted, categories=True)["sent_at"].tolist() == [NOON + 5]
        assert len(store.frame(start=NOON + 4, end=NOON + 4)) == 0
        store.seal(before=NOON + DAY)
    assert [str(kind) for kind in store.frame(columns=["room", "failure"], categories=True).dtypes] == ["category"] * 2
    with pytest.raises(UsageError, match="no column 'sent'"):
        store.frame(columns=["sent"])


def test_the_digest_knows_ids_and_not_their_order(tmp_path):
    one, other = Store.open(tmp_path / "one"), Store.open(tmp_path / "other")
    for store, order in ((one, (1, 2, 3)), (other, (3, 1, 2))):
        with store.writer() as writer:
            writer.append(rows(*order))
    assert one.digest() == other.digest()
    assert one.digest(start=0, end=1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


# many readers


def test_another_process_sees_whole_commits_only_and_every_acknowledged_row(store):
    code = """
store = Store.open(directory, create=False)
seen = 0
for line in sys.stdin:
    found = [one.observation_id for one in store.observations()]
    assert found == [f"id-{n:09d}" for n in range(len(found))] and len(found) >= max(seen, int(line)), len(found)
    seen = len(found)
    say(seen)
"""
    reader = child(store.directory, code)
    with reader, store.writer() as writer:
        for step in range(20):
            writer.append(rows(*range(step * 150, step * 150 + 150)))
            writer.flush()
            reader.stdin.write(f"{step * 150 + 150}\n")
            reader.stdin.flush()
            writer.append([])
        reader.stdin.close()
        seen = [int(line) for line in reader.stdout]
    assert reader.returncode == 0
    assert len(seen) == 20


def test_a_slow_reader_does_not_keep_the_wal_from_being_folded_in(store):
    with store.writer() as writer, closing(sqlite3.connect(store.directory / "journal.sqlite")) as idle:
        idle.execute("SELECT count(*) FROM observations").fetchall()
        writer.append(rows(*range(3000)))
        writer.flush()
        slow = store.observations()
        next(slow)
        writer.close()
        wal = store.directory / "journal.sqlite-wal"
        assert wal.stat().st_size == 0
    assert len(list(slow)) == 2999


def test_tail_goes_on_where_it_stopped_over_a_sealing_too(store):
    with store.writer() as writer:
        writer.append(rows(*range(5)))
        writer.flush()
        found, after = store.tail(0, 3)
        assert found == rows(0, 1, 2)
        assert store.tail(after, 3) == (rows(3, 4), 5)
        store.seal(before=NOON + DAY)
        assert store.tail(after, 3) == ([], after)
        writer.append(rows(5))
        writer.flush()
        assert store.tail(5, 3) == (rows(5), 6)


# opening


def foreign_database(directory: Path) -> Path:
    connection = sqlite3.connect(directory / "journal.sqlite")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    return directory


def no_database(directory: Path) -> Path:
    (directory / "journal.sqlite").write_text("dear diary, " * 100)
    return directory


def empty_database(directory: Path) -> Path:
    (directory / "journal.sqlite").touch()
    return directory


def newer_database(directory: Path) -> Path:
    Store.open(directory)
    connection = sqlite3.connect(directory / "journal.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    return directory


def a_file(directory: Path) -> Path:
    (directory / "file").touch()
    return directory / "file"


def below_a_file(directory: Path) -> Path:
    return a_file(directory) / "data"


@pytest.mark.parametrize("name", ["a\0b", "~a\0b", "\ud800"], ids=ascii)
@pytest.mark.parametrize("create", [True, False])
def test_what_no_folder_can_be_called_is_a_usage_error(name, create):
    with pytest.raises(UsageError, match="no folder can have that name") as refused:
        Store.open(name, create=create)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (foreign_database, ForeignStoreError, "not a journal of nestobs: give --store another folder"),
        (no_database, ForeignStoreError, "not a database: give --store another folder"),
        (empty_database, ForeignStoreError, "not a journal of nestobs"),
        (newer_database, ForeignStoreError, "newer nestobs .format 99.*upgrade"),
        (a_file, StoreError, "is a file, not a folder: give --store a folder"),
        (below_a_file, StoreError, "give --store a folder you may write"),
    ],
)
def test_what_cannot_be_a_store_is_refused_in_one_sentence_and_left_alone(tmp_path, make, kind, said):
    directory = make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".sqlite"}
    with pytest.raises(kind, match=said) as refused:
        Store.open(directory)
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".sqlite"} == before


@pytest.mark.parametrize("create", [True, False])
def test_a_name_that_is_too_long_is_a_store_error(create):
    with pytest.raises(StoreError, match="name too long"):
        Store.open("x" * 300, create=create)


def test_reading_a_store_that_is_not_there_makes_nothing(tmp_path):
    with pytest.raises(StoreError, match=r"no store at .*none: run nestobs canary first, or give --store"):
        Store.open(tmp_path / "none", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_vanishes_is_missed_at_the_next_call(store):
    (store.directory / "journal.sqlite").unlink()
    with pytest.raises(StoreError, match="no store at"):
        store.frame()
    with pytest.raises(StoreError, match="no store at"):
        store.writer()


def test_a_damaged_journal_is_named_with_the_remedy(store):
    with store.writer() as writer:
        writer.append(rows(*range(3000)))
    journal = store.directory / "journal.sqlite"
    content = bytearray(journal.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    journal.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged .*recover"):
        store.frame()


def test_many_may_make_the_same_store_at_once(tmp_path):
    made, wrong = [], []

    def make() -> None:
        try:
            made.append(Store.open(tmp_path / "data" / "deep").count())
        except StoreError as error:
            wrong.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made, wrong) == ([0] * 8, [])
    assert not [path for path in (tmp_path / "data" / "deep").iterdir() if path.name.startswith(".")]


def test_a_folder_with_a_difficult_name_holds_a_store(tmp_path):
    directory = tmp_path / "50% of ?mode=memory&#\u202e nests"
    with Store.open(directory).writer() as writer:
        writer.append(rows(1))
    assert ids(Store.open(str(directory), create=False)) == ["id-000000001"]


def test_importing_the_store_does_not_load_pandas_or_pyarrow():
    code = "import sys, nestobs.store.reader; assert not {'pandas', 'pyarrow', 'asyncio', 'numpy'} & set(sys.modules)"
    root = str(Path(nestobs.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": root})
