"""Rows move to Parquet by hand, by day, by number and at the end, and none is lost or doubled on the way."""

import asyncio
import random
import signal
import tempfile
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.observation.duration import SECOND_NS
from nestobs.store import parquet as sealed
from nestobs.store import sealing, sql
from nestobs.store.inventory import verify
from nestobs.store.reader import Store
from nestobs.store.sql import DAY
from worlds.stored_rows import NOON, child, ids, row, rows

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "data")


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


def test_who_observes_has_a_process_of_its_own_seal_the_days_that_are_over(store):
    with store.writer() as writer:
        writer.append(rows(1, 2) + rows(3, sent_at=NOON + DAY) + rows(4, sent_at=NOON + 2 * DAY))
        over = (NOON + 2 * DAY) // DAY * DAY
        assert [path.name[:10] for path in writer.seal_beside(over)] == ["2024-10-04", "2024-10-05"]
        assert writer.seal_beside(over) == []
        assert writer.newest == NOON + 2 * DAY
    assert store.count() == 4


def test_only_sealed_days_that_are_older_than_asked_are_forgotten(store):
    with store.writer() as writer:
        writer.append(rows(1, 2) + rows(3, sent_at=NOON + DAY) + rows(4, sent_at=NOON + 2 * DAY))
        writer.seal((NOON + 2 * DAY) // DAY * DAY)
        assert writer.forget(NOON) == []
        (gone,) = writer.forget((NOON + DAY) // DAY * DAY)
        assert gone.name.startswith("2024-10-04")
        assert not gone.exists()
        assert writer.forget(NOON + 3 * DAY)[0].name.startswith("2024-10-05")
    assert store.frame()["sent_at"].tolist() == [NOON + 2 * DAY], "what is in the journal stays"
    assert [found.name for found in verify(store)] == []


def test_a_row_of_the_day_that_comes_while_it_is_sealed_stays_in_the_journal(store, monkeypatch):
    write_sealed = sealed.write

    def and_then_a_late_row(path, batches):
        written = write_sealed(path, batches)
        writer.append(rows(3))
        writer.flush()
        return written

    monkeypatch.setattr(sealed, "write", and_then_a_late_row)
    with store.writer() as writer:
        writer.append(rows(1, 2))
        store.seal(before=NOON + DAY)
    assert ids(store) == ["id-000000001", "id-000000002", "id-000000003"]
    assert store.count() == 3


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


# without being asked


MINUTE = 60 * SECOND_NS


def files(store: Store) -> list[str]:
    folder = store.directory / "observations"
    return sorted(path.name for path in folder.glob("[!.]*.parquet")) if folder.exists() else []


async def left(count: int, store: Store) -> None:
    while len(store.tail(0, 1_000)[0]) > count:  # noqa: ASYNC110 - a thread and a process seal the others meanwhile
        await asyncio.sleep(0.01)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(sealing, "PART_ROWS", 100)
    monkeypatch.setattr(sealing, "_LOOK_ROWS", 10)


async def test_a_day_that_ends_while_its_rows_are_written_is_sealed_meanwhile(store):
    async with store.writer() as writer:
        writer.append(rows(1, 2))
        await writer.flushed()
        writer.append(rows(3, sent_at=NOON + DAY))
        await writer.flushed()
        await left(1, store)
        assert files(store) == ["2024-10-04-000000000002.parquet"]
        assert store.tail(0, 10) == (rows(3, sent_at=NOON + DAY), 3)
    assert ids(store) == ["id-000000001", "id-000000002", "id-000000003"]


async def test_settled_rows_of_a_long_day_are_sealed_meanwhile_so_many_at_a_time(store, small_parts):
    long_day = [row(n, sent_at=NOON + n * MINUTE) for n in range(350)]
    async with store.writer() as writer:
        writer.append(long_day)
        await writer.flushed()
        await left(50, store)
        assert len(files(store)) == 3
        assert list(store.observations()) == long_day
        assert store.tail(0, 1_000)[0] == long_day[300:]
    assert list(store.observations()) == long_day
    assert len(files(store)) == 3


def test_the_end_of_a_run_seals_the_days_before_its_newest_row_and_no_small_part_of_that_days(store):
    with store.writer() as writer:
        writer.append(rows(1, sent_at=NOON - DAY) + rows(2) + rows(3, sent_at=NOON + DAY // 4))
    assert files(store) == ["2024-10-03-000000000001.parquet"]
    with store.writer() as writer:
        writer.append(rows(4, sent_at=NOON - 7 * DAY))
    assert len(files(store)) == 1, "a run that wrote of a day long past does not say that today is over"
    with store.writer() as writer:
        writer.append(rows(5, sent_at=NOON + DAY))
    assert [name[:10] for name in files(store)] == ["2024-09-27", "2024-10-03", "2024-10-04"]
    assert ids(store) == [f"id-{n:09d}" for n in (4, 1, 2, 3, 5)]


def test_a_writer_that_wrote_nothing_seals_nothing(store):
    with store.writer() as writer:
        writer.append(rows(1, sent_at=NOON - DAY) + rows(2, sent_at=NOON - DAY))
    store.writer().close()
    assert files(store) == []


@settings(max_examples=25)
@given(
    st.lists(st.integers(-3, 3).map(lambda step: step * DAY // 3), min_size=1, max_size=60),
    st.integers(1, 7),
    st.integers(-2, 2),
)
def test_parts_hold_every_row_once_and_do_not_overlap(offsets, most, days):
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "PART_ROWS", most)
        store = Store.open(directory)
        given_rows = [row(n, sent_at=NOON + offset) for n, offset in enumerate(offsets)]
        with store.writer() as writer:
            writer.append(given_rows)
            writer.flush()
            before = store.frame()
            writer.seal(NOON + days * DAY)
            pd.testing.assert_frame_equal(store.frame(), before)
        pd.testing.assert_frame_equal(store.frame(), before)
        with sql.reading(store.directory) as connection:
            sealed_files = sql.sealed_files(connection)
        assert sum(file.rows for file in sealed_files) + len(store.tail(0, 100)[0]) == store.count() == len(offsets)
        for one, other in pairwise(sealed_files):
            assert one.last_at < other.first_at
        assert all(file.rows <= most or file.first_at == file.last_at for file in sealed_files)


def test_what_cannot_be_sealed_stays_in_the_journal_is_told_and_stops_nobody(store, caplog):
    (store.directory / "observations").write_text("in the way")
    with store.writer() as writer:
        writer.append(rows(1) + rows(2, sent_at=NOON + DAY))
    assert "not sealed (the store in" in caplog.text
    assert store.count() == 2
    (store.directory / "observations").unlink()
    assert len(store.seal(before=NOON + DAY)) == 1


# crashes


@pytest.mark.parametrize("where", ["files.sync", "sql_module.record", "sealed.batch_of"])
def test_a_sealing_that_dies_half_way_loses_and_doubles_nothing(store, where):
    with store.writer() as writer:
        writer.append(rows(*range(2000)))
    before = store.frame()
    victim = child(store.directory, f"{where} = die; Store.open(directory).seal(before={NOON + DAY})")
    with victim:
        assert victim.wait() == -signal.SIGKILL
    left = list((store.directory / "observations").iterdir())
    assert len(left) == (where != "sealed.batch_of"), "no file is begun before there is something to write"
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
    victim = child(store.directory, f"sealing._sweep = die; Store.open(directory).seal(before={NOON + DAY})")
    with victim:
        assert victim.wait() == -signal.SIGKILL
    pd.testing.assert_frame_equal(store.frame(), before)
    assert store.seal(before=NOON + DAY) == []


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


@pytest.mark.parametrize("after", range(1, 4))
def test_a_writer_killed_while_it_seals_in_the_background_loses_and_doubles_nothing(store, after):
    code = """
sealing.PART_ROWS, sealing._LOOK_ROWS = 50, 10
with Store.open(directory).writer() as writer:
    for number in range(0, 100_000, 10):
        writer.append([row(n, sent_at=NOON + n * 60 * 10**9) for n in range(number, number + 10)])
        writer.flush()
        say(number + 10, len(list((writer._directory / "observations").glob("*"))) if number >= 700 else 0)
"""
    victim = child(store.directory, code)
    with victim:
        for line in victim.stdout:
            acknowledged, made = map(int, line.split())
            if made >= after:
                break
        victim.kill()
    found = ids(store)
    assert len(found) >= acknowledged
    assert found == [f"id-{number:09d}" for number in range(len(found))]
    store.seal(before=NOON + 99 * DAY)
    assert ids(store) == found
    assert list((store.directory / "observations").glob(".*")) == []
