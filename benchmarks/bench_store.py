"""How much of SQLite's own speed the writer keeps, and how long a commit takes. Run by `make bench`.

Prints one JSON object. `writer_to_sqlite` (aim: at least 0.7) is durable rows a second through Writer over those of
bare sqlite3 (same schema and settings, 1,000 rows a commit by executemany, tuples of plain values made beforehand) in
the same run; the median of several interleaved rounds. `writer_to_sqlite_as_row` lets bare sqlite3 make its tuples by
as_row. Milliseconds depend on the machine; the ratios between them last.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Any

import pyarrow.parquet as pq

from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import (
    COLUMNS,
    Failure,
    FailureLayer,
    Observation,
    Operation,
    Outcome,
    Role,
    Source,
    as_row,
)
from nestobs.store.inventory import contents
from nestobs.store.parquet import AT, NAMES, mark_of
from nestobs.store.reader import Store
from nestobs.store.sealing import FOLDER, PART_ROWS, SETTLED_S
from nestobs.store.sql import DAY as DAY_NS
from nestobs.store.sql import Window, commit, connect
from nestobs.store.writer import BATCH_ROWS

ROWS, ROUNDS, COMMITS, COMMIT_ROWS = 50_000, 5, 400, 100
LIMIT, MANY_LIMIT_S = 1.5, 5.0
INSERT = f"INSERT INTO observations ({', '.join(c.name for c in COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"


def observation(number: int) -> Observation:
    ident = f"01920000-0000-7000-8000-{number:012d}"
    return Observation(
        observation_id=ident,
        run_id="01920000-0000-7000-8000-000000000000",
        trace_id="01920000-0000-7000-8000-000000000001",
        vantage="bench",
        role=Role.JOINER,
        nest=f"30312:{'a' * 64}:room",
        room="room",
        source=Source.RELAY,
        target="wss://relay.example.com",
        operation=Operation.QUERY,
        attempt_group=ident,
        planned_at=number * 10**6,
        sent_at=number * 10**6,
        received_at=number * 10**6 + 5,
        outcome=Outcome.ABSENT,
        failure=Failure.NOT_FOUND,
        failure_layer=FailureLayer.NOSTR,
        reason="EOSE without the event",
        timeout_s=5.0,
        connection_reused=True,
        loop_lag_s=0.001,
        clock_offset_s=0.01,
        detail=detail(events=0, subscription="s1"),
    )


def through_writer(directory: Path, rows: list[Observation]) -> float:
    """Durable rows a second, from the first append to the return of flush."""
    with Store.open(directory).writer() as writer:
        began = perf_counter()
        writer.append(rows)
        writer.flush()
        return len(rows) / (perf_counter() - began)


def bare(directory: Path, rows: list[Any]) -> float:
    """Durable rows a second by sqlite3 alone, of ready tuples or of observations by as_row."""
    Store.open(directory)
    connection = connect(directory, write=True)
    began = perf_counter()
    for at in range(0, len(rows), BATCH_ROWS):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            INSERT, (one if isinstance(one, tuple) else as_row(one) for one in rows[at : at + BATCH_ROWS])
        )
        connection.execute("COMMIT")
    taken = perf_counter() - began
    connection.close()
    return len(rows) / taken


def beside_a_busy_thread(directory: Path, rows: list[Observation]) -> float:
    """Durable rows a second through Writer while another thread computes without a pause."""
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(range(200))

    busy = threading.Thread(target=compute)
    busy.start()
    try:
        return through_writer(directory, rows)
    finally:
        over.set()
        busy.join()


def commits(store: Store, first: int) -> dict[str, float]:
    """p50 and p99 in ms of append and flush of 100 rows."""
    taken = []
    batches = [[observation(first + commit * COMMIT_ROWS + n) for n in range(COMMIT_ROWS)] for commit in range(COMMITS)]
    with store.writer() as writer:
        for batch in batches:
            began = perf_counter()
            writer.append(batch)
            writer.flush()
            taken.append(1e3 * (perf_counter() - began))
    cuts = quantiles(taken, n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3)}


def with_a_reader(store: Store, first: int) -> dict[str, float]:
    """`commits`, while another process reads the whole store over and over."""
    code = "import sys\nfrom nestobs.store.reader import Store\ns = Store.open(sys.argv[1])\n"
    code += "s.frame()\nprint(flush=True)\nwhile True: s.frame()"
    with subprocess.Popen([sys.executable, "-c", code, str(store.directory)], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        try:
            return commits(store, first)
        finally:
            reader.kill()


def while_sealing(directory: Path, rows: list[Observation]) -> float:
    """Durable rows a second through Writer, which seals meanwhile: the rows are those of a longer time."""
    return through_writer(directory, [replace(row, sent_at=row.sent_at * 100) for row in rows])


def a_day(number: int, rows: int) -> Observation:
    """A row of a day of so many, sent up to two seconds before or after its turn."""
    at = DAY_NS + number * ((DAY_NS - 10 * SECOND_NS) // rows) + number * 982_451_653 % (2 * SECOND_NS)
    return replace(observation(number), sent_at=at, target=f"wss://relay{number % 5}.example.com", status=number % 7)


def read_s(store: Store) -> float:
    """Seconds to read a day, as reports do."""
    began = perf_counter()
    store.frame(start=DAY_NS, end=2 * DAY_NS, categories=True)
    return perf_counter() - began


def reading(root: Path, rows: int) -> dict[str, float]:
    """Reading a day as a user has it against one Parquet file, and against a journal that nobody seals."""
    store, sealed = Store.open(root / "day"), Store.open(root / "sealed")
    with store.writer() as writer:
        for first in range(0, rows, 10_000):
            writer.append(a_day(number, rows) for number in range(first, min(first + 10_000, rows)))
            writer.flush()
            while contents(store).unsealed > 3 * PART_ROWS:  # a day has the time
                sleep(0.1)
        while contents(store).unsealed > 1.5 * PART_ROWS + rows * SETTLED_S / 86_400:
            sleep(0.1)
        held = contents(store)
        as_one_file(store, sealed)
        taken = [(read_s(store), read_s(sealed)) for _ in range(ROUNDS)]
    journal = Store.open(root / "journal")
    with closing(connect(journal.directory, write=True)) as connection:
        for first in range(0, rows // 10, BATCH_ROWS):
            commit(connection, [a_day(number, rows) for number in range(first, first + BATCH_ROWS)])
    part = [read_s(journal) for _ in range(2)]
    parquet_s = median(one for _, one in taken)
    return {
        "rows": held.rows,
        "in_the_journal": held.unsealed,
        "day_s": round(median(one for one, _ in taken), 2),
        "parquet_s": round(parquet_s, 2),
        "day_to_parquet": round(median(one / other for one, other in taken), 2),
        "journal_to_parquet": round(10 * min(part) / parquet_s, 1),
    }


def as_one_file(store: Store, sealed: Store) -> None:
    """The rows of a store as one sealed file of another, of row groups as large as pyarrow makes them."""
    table = store._table(Window(), NAMES)
    path = sealed.directory / FOLDER / "1970-01-02-000000000001.parquet"
    path.parent.mkdir()
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    at = table[AT].to_numpy()
    enter(sealed, [(path, len(table), int(at.min()), int(at.max()), 1)])


def enter(store: Store, files: list[tuple[Path, int, int, int, int]]) -> None:
    """Name files in a store as sealed: path, rows, first and last instant, last row."""
    mark = mark_of(files[0][0])
    entry = (
        "INSERT INTO sealed (name, rows, first_at, last_at, last_row, size, footer, digest) VALUES (?,?,?,?,?,?,?,?)"
    )
    with closing(connect(store.directory, write=True)) as connection, connection:
        connection.execute("BEGIN")
        connection.executemany(entry, [(path.name, *values, *astuple(mark)) for path, *values in files])


def many_files_s(directory: Path) -> float:
    """Seconds to read a store of 10 000 sealed files, all alike, of a row each."""
    store = Store.open(directory)
    with store.writer() as writer:
        writer.append([a_day(0, 1)])
        (first,) = writer.seal(2 * DAY_NS)
    at, content = a_day(0, 1).sent_at, first.read_bytes()
    files = [(first.with_name(f"1970-01-02-{number:012d}.parquet"), 1, at, at, number) for number in range(2, 10_001)]
    for path, *_ in files:
        path.write_bytes(content)
    enter(store, files)
    began = perf_counter()
    assert len(store.frame()) == 10_000
    return perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the day that is read")
    day_rows = parser.parse_args().rows
    rows = [observation(number) for number in range(ROWS)]
    tuples = [as_row(row) for row in rows]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        rounds = [
            (through_writer(root / f"w{n}", rows), bare(root / f"t{n}", tuples), bare(root / f"a{n}", rows))
            for n in range(ROUNDS)
        ]
        sealing = median(while_sealing(root / f"s{n}", rows) for n in range(3))
        read = reading(root, day_rows)
        many = many_files_s(root / "many")
        busy = beside_a_busy_thread(root / "busy", rows[:10_000])
        alone = commits(Store.open(root / "alone"), 0)
        reader = with_a_reader(Store.open(root / "w0"), ROWS)
    writer = median(one for one, _, _ in rounds)
    written = {
        "rows_per_s_writer": round(writer),
        "rows_per_s_sqlite": round(median(tuples for _, tuples, _ in rounds)),
        "writer_to_sqlite": round(median(one / tuples for one, tuples, _ in rounds), 2),
        "writer_to_sqlite_as_row": round(median(one / by_row for one, _, by_row in rounds), 2),
        "sealing_to_alone": round(sealing / writer, 2),
        "busy_thread_to_alone": round(busy / writer, 2),
        "commit_100_alone": alone,
        "commit_100_beside_a_reader": reader,
        "reading": read,
        "ten_thousand_files_s": round(many, 2),
    }
    print(json.dumps(written, indent=2))
    if read["day_to_parquet"] > LIMIT:
        sys.exit(f"a day is read {read['day_to_parquet']} times as long as Parquet: the limit is {LIMIT}")
    if many > MANY_LIMIT_S:
        sys.exit(f"10 000 sealed files are read in {many:.1f} s: the limit is {MANY_LIMIT_S} s")


if __name__ == "__main__":
    main()
