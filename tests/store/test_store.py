"""The store against real files, real processes, real signals and a really full disk."""

import asyncio
import hashlib
import os
import random
import signal
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
from nestobs.store import parquet as sealed
from nestobs.store.files import replacing
from nestobs.store.reader import Store
from nestobs.store.sql import DAY
from nestobs.store.writer import BATCH_ROWS, QUEUE_ROWS

NOON = 20_000 * DAY + DAY // 2


def row(number: int, **changes: object) -> Observation:
    values: dict = {
        "observation_id": f"id-{number:09d}",
        "run_id": "run",
        "vantage": "here",
        "source": Source.RELAY,
        "target": "wss://relay.example",
        "operation": Operation.QUERY,
        "sent_at": NOON + number,
        "outcome": Outcome.ABSENT,
    }
    return Observation(**values | changes)


def rows(*numbers: int, **changes: object) -> list[Observation]:
    return [row(number, **changes) for number in numbers]


def ids(store: Store) -> list[str]:
    return [observation.observation_id for observation in store.observations()]


CHILD = (
    f"NOON = {NOON}"
    + """
import os, resource, signal, sys
import nestobs.store.sql as sql_module
from nestobs.store import files
from nestobs.store import parquet as sealed
from nestobs.errors import StoreError, StoreFullError
from nestobs.observation.schema import *
from nestobs.store.reader import Store
from nestobs.store.sql import DAY
def row(number):
    return Observation(observation_id=f"id-{number:09d}", run_id="run", vantage="here", source=Source.RELAY,
                       target="wss://relay.example", operation=Operation.QUERY, sent_at=NOON + number,
                       outcome=Outcome.ABSENT)
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def say(*words):
    print(*words, flush=True)
directory = sys.argv[1]
"""
)


def child(directory: Path, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CHILD + code, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(nestobs.__file__).parents[1])},
    )


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


# one writer


def test_a_second_writer_is_refused_by_name_until_the_first_is_closed(store):
    holder = child(store.directory, "writer = Store.open(directory).writer(); say('ready'); sys.stdin.read()")
    with holder:
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(
            StoreError, match=rf"process {holder.pid} is writing .*: stop it, or give --store"
        ) as refused:
            store.writer()
        assert "\n" not in str(refused.value)
        holder.kill()
    with store.writer() as writer, pytest.raises(StoreError, match=f"process {os.getpid()} "):
        store.writer()
    assert not writer.alive
    store.writer().close()


def test_threads_may_append_at_once_and_flush_covers_their_rows(store):
    with store.writer() as writer:

        def work(first: int) -> None:
            for number in range(first, first + 500, 5):
                writer.append(rows(*range(number, number + 5)))
            writer.flush()
            assert {f"id-{number:09d}" for number in range(first, first + 500)} <= set(ids(store))

        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 4000, 500)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ids(store) == [f"id-{number:09d}" for number in range(4000)]


async def test_flushed_waits_without_blocking_the_loop_and_may_be_cancelled(store):
    async with store.writer() as writer:
        writer.append(rows(1))
        given_up = asyncio.ensure_future(writer.flushed())
        await asyncio.sleep(0)
        given_up.cancel()
        writer.append(rows(2))
        await asyncio.gather(*(writer.flushed() for _ in range(20)))
        assert store.count() == 2
        writer.append(rows(3))
    assert store.count() == 3


def test_rows_are_committed_without_a_flush(store):
    with store.writer() as writer:
        writer.append(rows(1))
        while store.count() < 1:
            pass


def test_a_closed_writer_takes_nothing_and_says_so(store):
    writer = store.writer()
    writer.close()
    writer.close()
    for call in (lambda: writer.append(rows(1)), lambda: writer.append([]), writer.flush):
        with pytest.raises(StoreError, match="closed: open another"):
            call()


def test_a_row_that_is_none_stops_the_writer_and_everybody_hears_of_it(store):
    writer = store.writer()
    writer.append(rows(1))
    writer.flush()
    writer.append([row(2, detail={"not": "text"})])
    with pytest.raises(StoreError, match="please report it"):
        writer.flush()
    assert isinstance(writer.failed, StoreError)
    with pytest.raises(StoreError):
        writer.append(rows(3))
    with pytest.raises(StoreError):
        writer.close()
    assert store.count() == 1


def test_memory_stays_flat_however_much_is_appended(store):
    total, waiting = 200_000, []

    def endless():
        for number in range(total):
            if number % 10_000 == 0:
                waiting.append(number - store.count())
            yield row(number)

    with store.writer() as writer:
        writer.append(endless())
    assert store.count() == total
    assert max(waiting) <= QUEUE_ROWS + 3 * BATCH_ROWS


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


# crashes


@pytest.mark.parametrize("seed", range(4))
def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(store, seed):
    code = """
with Store.open(directory).writer() as writer:
    number = 0
    while True:
        writer.append(row(number + step) for step in range(37))
        number += 37
        if number % 3:
            writer.flush()
            say(number)
"""
    victim = child(store.directory, code)
    with victim:
        for _ in range(random.Random(seed).randrange(1, 120)):
            acknowledged = int(victim.stdout.readline())
        victim.kill()
        for line in victim.stdout:  # said before it died
            acknowledged = int(line) if line.endswith("\n") else acknowledged
    found = ids(store)
    assert found == [f"id-{number:09d}" for number in range(len(found))]
    assert len(found) >= acknowledged
    with store.writer() as writer:
        writer.append(rows(10**8))
    assert store.count() == len(found) + 1


@pytest.mark.parametrize("where", ["files.sync", "sql_module.record", "sealed.batch_of"])
def test_a_sealing_that_dies_half_way_loses_and_doubles_nothing(store, where):
    with store.writer() as writer:
        writer.append(rows(*range(2000)))
    before = store.frame()
    victim = child(store.directory, f"{where} = die; Store.open(directory).seal(before={NOON + DAY})")
    with victim:
        assert victim.wait() == -signal.SIGKILL
    left = list((store.directory / "observations").iterdir())
    assert len(left) == 1
    pd.testing.assert_frame_equal(store.frame(), before)
    with store.writer() as writer:
        writer.append(rows(2000))
    sealed = store.seal(before=NOON + DAY)
    assert list((store.directory / "observations").iterdir()) == sealed
    assert len(sealed) == 1
    pd.testing.assert_frame_equal(store.frame(end=NOON + 2000), before)
    assert store.count() == 2001


def test_a_sealing_that_dies_right_after_its_commit_is_done(store):
    with store.writer() as writer:
        writer.append(rows(*range(10)))
    before = store.frame()
    victim = child(store.directory, f"Store._sweep = die; Store.open(directory).seal(before={NOON + DAY})")
    with victim:
        assert victim.wait() == -signal.SIGKILL
    pd.testing.assert_frame_equal(store.frame(), before)
    assert store.seal(before=NOON + DAY) == []


def test_the_ledger_keeps_an_intent_of_a_process_killed_right_after(store):
    code = """
Store.open(directory).writer().open_entry(kind="room", run_id="run", vantage="here", api="https://api.example",
    room="", nest="", relays=["wss://a", "wss://b"], key_ref="host.key", at=7, note="\\ud800")
die()
"""
    with child(store.directory, code) as victim:
        assert victim.wait() == -signal.SIGKILL
    (entry,) = store.ledger()
    assert (entry.kind, entry.relays, entry.opened_at, entry.closed_at) == ("room", ("wss://a", "wss://b"), 7, None)
    assert entry.note == "\\ud800"


def test_a_full_disk_stops_the_writer_and_everything_acknowledged_stays(store):
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
store = Store.open(directory)
number = 0
try:
    with store.writer() as writer:
        while True:
            writer.append(row(number + step) for step in range(100))
            writer.flush()
            number += 100
            say(number)
except StoreFullError as error:
    say(error)
assert writer.failed is not None and not writer.alive
for call in (writer.flush, lambda: writer.append([row(0)]), lambda: writer.close_entry(1, at=1, how="x")):
    try:
        call()
    except StoreFullError:
        pass
    else:
        raise SystemExit("took more")
assert store.count() >= number and len(list(store.observations())) == store.count()
"""
    with child(store.directory, code) as filler:
        *acknowledged, said = filler.stdout.read().splitlines()
    assert filler.returncode == 0
    assert "everything acknowledged is safe" in said
    assert "free space" in said
    found = ids(store)
    assert len(found) >= int(acknowledged[-1]) > 0
    assert found == [f"id-{number:09d}" for number in range(len(found))]
    with store.writer() as writer:  # there is room again
        writer.append(rows(10**8))
    assert store.count() == len(found) + 1


def test_a_disk_that_fills_while_sealing_says_so_and_changes_nothing(store):
    with store.writer() as writer:
        writer.append(row(n, detail=f'"{random.Random(n).randbytes(400).hex()}"') for n in range(2000))
    before = store.frame()
    code = f"""
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    Store.open(directory).seal(before={NOON + DAY})
except StoreFullError as error:
    say(error)
"""
    with child(store.directory, code) as filler:
        assert "everything acknowledged is safe" in filler.stdout.read()
    assert filler.returncode == 0
    assert list((store.directory / "observations").iterdir()) == []
    pd.testing.assert_frame_equal(store.frame(), before)


# sealing


def test_sealing_moves_whole_past_days_only_and_late_rows_next_time(store):
    with store.writer() as writer:
        writer.append(rows(1, 2) + rows(3, sent_at=NOON + DAY) + rows(4, sent_at=NOON + 2 * DAY))
        writer.flush()
        before, digest = store.frame(), store.digest()
        sealed = store.seal(before=NOON + 2 * DAY)
        assert [path.name[:10] for path in sealed] == ["2024-10-04", "2024-10-05"]
        pd.testing.assert_frame_equal(store.frame(), before)
        assert store.digest() == digest
        assert store.seal(before=NOON + 2 * DAY) == []
        writer.append(rows(5))
        (late,) = store.seal(before=NOON + 2 * DAY)
        assert late.name.startswith("2024-10-04")
        assert late not in sealed
    assert store.frame()["sent_at"].tolist() == [NOON + 1, NOON + 2, NOON + 5, NOON + DAY, NOON + 2 * DAY]
    assert store.digest(end=NOON + 2 * DAY) != store.digest()
    assert store.count() == 5


def test_a_row_of_the_day_that_comes_while_it_is_sealed_stays_in_the_journal(store, monkeypatch):
    write_sealed = sealed.write

    def and_then_a_late_row(path, batches):
        write_sealed(path, batches)
        writer.append(rows(3))
        writer.flush()

    monkeypatch.setattr(sealed, "write", and_then_a_late_row)
    with store.writer() as writer:
        writer.append(rows(1, 2))
        store.seal(before=NOON + DAY)
    assert ids(store) == ["id-000000001", "id-000000002", "id-000000003"]
    assert store.count() == 3


def test_the_digest_knows_ids_and_not_their_order(tmp_path):
    one, other = Store.open(tmp_path / "one"), Store.open(tmp_path / "other")
    for store, order in ((one, (1, 2, 3)), (other, (3, 1, 2))):
        with store.writer() as writer:
            writer.append(rows(*order))
    assert one.digest() == other.digest()
    assert one.digest(start=0, end=1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_files_the_journal_does_not_name_are_ignored_and_kept(store):
    folder = store.directory / "observations"
    folder.mkdir()
    strays = [folder / "2024-10-04-999999999999.parquet", folder / "mine.parquet", folder / "notes.txt"]
    for stray in strays:
        stray.write_bytes(b"torn")
    with store.writer() as writer:
        writer.append(rows(1))
    assert len(store.frame()) == 1
    store.seal(before=NOON + DAY)
    assert len(store.frame()) == 1
    assert all(stray.exists() for stray in strays)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1torn")])
def test_a_sealed_file_gone_or_damaged_is_named(store, damage):
    with store.writer() as writer:
        writer.append(rows(1))
    (sealed,) = store.seal(before=NOON + DAY)
    damage(sealed)
    with pytest.raises(StoreError, match=f"{sealed.name} is gone or damaged: bring it back"):
        store.frame()
    assert len(store.frame(start=NOON + DAY)) == 0


# the ledger


def test_an_entry_is_open_until_closed_and_closed_once(store):
    with store.writer() as writer:
        made = [
            writer.open_entry(
                kind=kind, run_id="r", vantage="v", api="a", room="", nest="", relays=[], key_ref="env", at=1
            )
            for kind in ("room", "event")
        ]
        writer.update_entry(made[0], room="abc", relays=["wss://a"], note="created")
        writer.update_entry(made[0])
        writer.close_entry(made[1], at=2, how="deleted")
        writer.close_entry(made[1], at=3, how="again")
        with pytest.raises(StoreError, match="no entry 99"):
            writer.close_entry(99, at=3, how="deleted")
        with pytest.raises(TypeError, match="'opened_at' cannot be changed"):
            writer.update_entry(made[0], opened_at="3")
        writer.append(rows(1))
    (entry,) = store.ledger()
    assert (entry.entry_id, entry.room, entry.relays, entry.note) == (made[0], "abc", ("wss://a",), "created")
    assert [(one.closed_at, one.how) for one in store.ledger(open_only=False)] == [(None, ""), (2, "deleted")]
    assert store.count() == 1


def test_the_ledger_is_written_with_synchronous_full_and_rows_with_normal(store):
    with store.writer() as writer:
        (before,) = writer._connection.execute("PRAGMA synchronous").fetchone()
        (during,) = writer.perform(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
        (after,) = writer._connection.execute("PRAGMA synchronous").fetchone()
    assert (before, during, after) == (1, 2, 1)


@pytest.mark.parametrize("key", ["nsec1" + "q" * 58, "ab" * 32])
def test_a_key_does_not_get_into_the_ledger_nor_the_message(store, key):
    with store.writer() as writer, pytest.raises(UsageError) as refused:
        writer.open_entry(kind="room", run_id="r", vantage="v", api="a", room="", nest="", relays=[], key_ref=key, at=1)
    assert key not in str(refused.value)
    assert store.ledger() == []


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


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (foreign_database, ForeignStoreError, "not a journal of nestobs: give --store another folder"),
        (no_database, ForeignStoreError, "not a database: give --store another folder"),
        (empty_database, ForeignStoreError, "not a journal of nestobs"),
        (newer_database, ForeignStoreError, "newer nestobs .schema 99.*upgrade"),
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


def test_replacing_leaves_what_was_there_when_it_fails(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
