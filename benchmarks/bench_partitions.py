"""What `timelines` costs beside hand-written SQL, how much memory a large store takes, and what more processes gain.

    python -m benchmarks.bench_partitions [--rows 10000000] [--part core|memory|dask|report ...]

Prints one JSON object a part; ends with 1 where a limit is missed. A store is made first (`benchmarks.made_store`).

core    timelines of a frame that is at hand, over DuckDB's time for the two bounds alone, of the same rows in memory,
        on as many threads (one): at most 1.5. Beside it DuckDB on all processors, a plain groupby of pandas, and what
        reading the columns takes: by pyarrow alone, and into the frame. Processor seconds, in turns, the least of each,
        so that what else the machine does counts little; of all processors the wall's.
memory  peak RSS of timelines of the sealed store, part by part, counted and not kept: at most 2 GiB.
dask    a LocalCluster of two worker processes against one process, on twice the rows: at least 1.6 times as fast.
report  from sealed Parquet to the daily report, here and by two processes: at most 30 s by the quicker, and 2 GiB.
        At a load of 8 on two processors what the page tells of 2 and 10 M rows took 15 and 48 s of processor time in
        one process, and 1.1 and 1.33 GiB; whole, before parts, one of 10 M took 15.7 GiB. Some 6 s of it are tuning,
        whatever the rows; the start comes to it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import pandas as pd

from benchmarks.made_store import MIDNIGHT, made_store
from nestobs.observation.schema import COLUMNS
from nestobs.store.reader import Store
from nestobs.store.sealing import FOLDER
from nestobs.timeline.intervals import NEEDED, timelines

MOST_TO_SQL, MOST_RSS, LEAST_GAIN, MOST_REPORT_S = 1.5, 2 * 2**30, 1.6, 30.0
ROUNDS = 5

ASKED = """
WITH asked AS (
    SELECT trace_id, vantage, outcome, sent_at, received_at,
        CASE source WHEN 'relay' THEN 'relay:' || target WHEN 'client' THEN 'client'
            ELSE source || ':' || operation END AS layer
    FROM rows WHERE trace_id <> '' AND received_at IS NOT NULL
        AND (source IN ('api', 'livekit', 'client') OR (source = 'relay' AND operation = 'query'))
        AND operation <> 'create' AND outcome IN ('visible', 'absent')
), shown AS ("""
SQL = f"""{ASKED}
    SELECT *, min(received_at) FILTER (outcome = 'visible') OVER (PARTITION BY trace_id, layer, vantage) AS upper
    FROM asked
)
SELECT trace_id, layer, vantage, any_value(upper) AS upper,
    max(sent_at) FILTER (outcome = 'absent' AND (upper IS NULL OR sent_at < upper)) AS lower
FROM shown GROUP BY trace_id, layer, vantage
"""
GROUPED = f"""{ASKED}
    SELECT trace_id, layer, vantage, min(received_at) FILTER (outcome = 'visible') AS upper
    FROM asked GROUP BY trace_id, layer, vantage
)
SELECT trace_id, layer, vantage, any_value(upper) AS upper,
    max(sent_at) FILTER (outcome = 'absent' AND (upper IS NULL OR sent_at < upper)) AS lower
FROM asked JOIN shown USING (trace_id, layer, vantage) GROUP BY trace_id, layer, vantage
"""
"""The two bounds and nothing else: no origin, no clocks, no marks, no ends. By whichever of the two is quicker."""


def timed(work: Any, clock: Any = perf_counter) -> tuple[float, Any]:
    began = clock()
    found = work()
    return clock() - began, found


def grouped(frame: pd.DataFrame) -> pd.DataFrame:
    """The two bounds by groupby, as one would first write it."""
    layer = frame["source"].astype("str") + ":" + frame["operation"].astype("str") + frame["target"].astype("str")
    keyed = frame.assign(layer=layer.astype("category"))
    keys = ["trace_id", "layer", "vantage"]
    upper = keyed[keyed["outcome"] == "visible"].groupby(keys, observed=True)["received_at"].min().rename("upper")
    absent = keyed[keyed["outcome"] == "absent"].join(upper, on=keys)
    early = absent[absent["upper"].isna() | (absent["sent_at"] < absent["upper"])]
    lower = early.groupby(keys, observed=True)["sent_at"].max().rename("lower")
    return pd.concat([upper, lower], axis=1)


def core(store: Store, rows: int) -> dict[str, Any]:
    """Of a frame at hand, against SQL."""
    import duckdb
    import pyarrow as pa

    frame = store.frame(columns=NEEDED, categories=True)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    taken: dict[str, list[float]] = {}

    def told(name: str, work: Any, clock: Any = process_time) -> Any:
        spent, found = timed(work, clock)
        taken.setdefault(name, []).append(spent)
        return found

    for _ in range(ROUNDS):
        lines = told("timelines_s", lambda: timelines(frame))
        for threads, clock in ((1, process_time), (os.cpu_count(), perf_counter)):
            with duckdb.connect() as connection:
                connection.register("rows", table)
                connection.execute(f"SET threads = {threads}")
                name = "duckdb_one_thread_s" if threads == 1 else "duckdb_all_threads_wall_s"
                for query in (SQL, GROUPED):
                    found = told(name, connection.sql(query).to_arrow_table, clock)
                    assert found.num_rows == int((lines["polls"] > 0).sum())
        told("pandas_groupby_s", lambda: grouped(frame))
        told("decoded_s", lambda: decoded(store))
        told("frame_s", lambda: store.frame(columns=NEEDED, categories=True))
    least = {name: min(each) for name, each in taken.items()}
    ratio = least["timelines_s"] / least["duckdb_one_thread_s"]
    return {
        "rows": len(frame),
        **{name: round(spent, 2) for name, spent in least.items()},
        "to_sql": round(ratio, 2),
        "to_groupby": round(least["timelines_s"] / least["pandas_groupby_s"], 2),
        "missed": ratio > MOST_TO_SQL,
    }


def decoded(store: Store) -> None:
    """The columns decoded by pyarrow alone, text as dictionaries: what no reader of them can do without."""
    import pyarrow.parquet as pq

    text = [column.name for column in COLUMNS if column.type == "text"]
    for path in sorted((store.directory / FOLDER).iterdir()):
        pq.ParquetFile(path, read_dictionary=text).read([*NEEDED], use_threads=False)


COUNTED = """
import resource, sys, time
import nestobs
began, lines = time.perf_counter(), 0
for part in nestobs.timelines_in_parts(sys.argv[1], engine=sys.argv[2]):
    lines += len(part)
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
most = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
print(lines, most * 1024, time.perf_counter() - began)
"""


def counted(store: Store, engine: str) -> tuple[int, int, float]:
    """How many timelines, the peak RSS of the largest process in bytes, and seconds; in a process of its own."""
    words = [sys.executable, "-c", COUNTED, store.location, engine]
    lines, most, spent = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    return int(lines), int(most), float(spent)


def memory(store: Store, rows: int) -> dict[str, Any]:
    """Part by part, here and by two processes."""
    found: dict[str, Any] = {"rows": store.count()}
    for engine in ("here", "processes:2"):
        lines, most, spent = counted(store, engine)
        found[engine] = {"lines": lines, "peak_gib": round(most / 2**30, 2), "s": round(spent, 1)}
        found["missed"] = found.get("missed", False) or most > MOST_RSS
    return found


def dask(store: Store, rows: int) -> dict[str, Any]:
    """Two workers against one process, on twice the rows."""
    import distributed

    with tempfile.TemporaryDirectory(prefix="nestobs-bench-") as place:
        twice = made_store(Path(place), 2 * rows, 2)
        (lines, _, here), cluster = (
            counted(twice, "here"),
            distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None),
        )
        with cluster:
            cluster.wait_for_workers(2)
            address = cluster.scheduler_address.replace("tcp://", "dask://")
            counted(store, address)  # workers import what they need
            same, _, there = counted(twice, address)
        assert same == lines
    found = {
        "rows": 2 * rows,
        "here_s": round(here, 1),
        "two_workers_s": round(there, 1),
        "gain": round(here / there, 2),
    }
    return found | {"missed": here / there < LEAST_GAIN}


def report(store: Store, rows: int) -> dict[str, Any]:
    """The daily report of that day."""
    day = pd.Timestamp(MIDNIGHT, tz="UTC").strftime("%Y-%m-%d")
    found: dict[str, Any] = {"rows": rows}
    with tempfile.TemporaryDirectory(prefix="nestobs-bench-") as place:
        words = ["report", "run", "daily_report", "--window", day, "--store", store.location, "--out", place, "--force"]
        for engine in ("here", "processes:2"):
            command = [sys.executable, "-m", "nestobs", *words, "--parameter", f"engine={engine}"]
            spent, _ = timed(lambda command=command: subprocess.run(command, check=True, capture_output=True))
            found[engine] = round(spent, 1)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    slow = min(found["here"], found["processes:2"]) > MOST_REPORT_S * max(1.0, rows / 1e7)
    return found | {"peak_gib": round(most / 2**30, 2), "missed": slow or most > MOST_RSS}


def main() -> int:
    parts = {"core": core, "memory": memory, "dask": dask, "report": report}
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--part", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--store", type=Path, help="one made before, of one day")
    args = parser.parse_args()
    missed = []
    with tempfile.TemporaryDirectory(prefix="nestobs-bench-") as place:
        store = Store.open(args.store) if args.store else made_store(Path(place), args.rows)
        for name in args.part:
            found = parts[name](store, store.count())
            print(json.dumps({name: found}), flush=True)
            missed += [name] if found["missed"] else []
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
