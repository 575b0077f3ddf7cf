"""One writer, against real files, real signals and a really full disk."""

import asyncio
import os
import random
import shutil
import subprocess
import threading
from itertools import count
from pathlib import Path

import pytest

from nestobs.errors import StoreError
from nestobs.store.reader import Store
from nestobs.store.sink import Pen
from nestobs.store.writer import BATCH_ROWS, QUEUE_ROWS
from worlds.stored_rows import child, ids, row, rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "data")


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_memory_stays_flat_however_much_is_appended(store):
    total, waiting = 60_000, []

    def endless():
        for number in range(total):
            if number % 10_000 == 0:
                waiting.append(number - store.count())
            yield row(number)

    with store.writer() as writer:
        writer.append(endless())
    assert store.count() == total
    assert max(waiting) <= QUEUE_ROWS + 3 * BATCH_ROWS


# crashes


@pytest.mark.slow
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


@pytest.mark.slow
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


# a store that goes away


def removed(directory: Path) -> None:
    shutil.rmtree(directory)


def moved(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))


def made_anew(directory: Path) -> None:
    moved(directory)
    Store.open(directory)


def written_over(directory: Path) -> None:
    other = Store.open(directory.with_name("other")).directory
    (other / "journal.sqlite").replace(directory / "journal.sqlite")


@pytest.mark.parametrize("vanish", [removed, moved, made_anew, written_over])
@pytest.mark.parametrize("busy", [True, False], ids=["while it writes", "while it waits"])
def test_a_store_that_is_deleted_or_replaced_stops_its_writer_and_nothing_after_is_acknowledged(store, vanish, busy):
    writer = store.writer()
    writer.append(rows(1))
    writer.flush()
    vanish(store.directory)
    if busy:
        writer.append(rows(2))
        with pytest.raises(StoreError, match="deleted or replaced while this process wrote"):
            writer.flush()
    with pytest.raises(StoreError, match="deleted or replaced while this process wrote") as stopped:
        writer.close()
    assert stopped.value.exit_code == 5
    assert "\n" not in str(stopped.value)


def test_a_journal_that_was_replaced_is_not_read_beside_the_one_that_was_there(store):
    """SQLite would cut short what the writer's connection has mapped: the process ended with SIGBUS, now and then."""
    writer = store.writer()
    writer.append(rows(1))
    writer.flush()
    written_over(store.directory)
    with pytest.raises(StoreError, match="deleted or replaced while this process used it") as refused:
        ids(store)
    assert refused.value.exit_code == 5
    with pytest.raises(StoreError, match="deleted or replaced while this process wrote"):
        writer.close()
    assert ids(store) == []


async def test_a_collector_whose_store_is_deleted_is_told_and_ends(store):
    async def collect() -> None:
        for number in count():
            pen(row(number))
            await asyncio.sleep(0.01)

    writer = store.writer()
    pen = Pen(writer)
    asyncio.get_running_loop().call_later(0.2, removed, store.directory)
    with pytest.raises(StoreError, match="deleted or replaced"):
        await pen.during(collect())
    assert not writer.alive


# what killed processes left


def test_a_writer_removes_what_killed_processes_left_half_written_and_nothing_else(store):
    gone = subprocess.Popen(["true"])
    gone.wait()
    folder = store.directory / "observations"
    folder.mkdir()
    left = [folder / ".2024-10-04-000000000300.parquet.123.tmp", store.directory / f".journal.sqlite.{gone.pid}-7"]
    kept = [folder / "mine.tmp", folder / "2024-10-04-000000000001.parquet", store.directory / ".notes"]
    kept.append(store.directory / f".journal.sqlite.{os.getpid()}-7")  # one that is being made just now
    for path in (*left, *kept):
        path.write_bytes(b"half")
    store.writer().close()
    assert [path.exists() for path in left] == [False] * 2
    assert all(path.exists() for path in kept)
