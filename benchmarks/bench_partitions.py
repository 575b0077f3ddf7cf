"""What `timelines` costs beside hand-written SQL, how much memory a large store takes, and what more processes gain.

    python -m benchmarks.bench_partitions [--rows 10000000] [--part core|memory|dask|report ...]

Prints one JSON object a part; ends with 1 where a limit is missed. A store is made first (`benchmarks.made_store`).

core    timelines of a frame that is at hand, over DuckDB's time for the two bounds alone, of the same rows in memory,
        on as many threads (one): at most 1.5. Beside it DuckDB on all processors, and a plain groupby of pandas.
memory  peak RSS of timelines of the sealed store, part by part, counted and not kept: at most 2 GiB.
dask    a LocalCluster of two worker processes against one process, on twice the rows: at least 1.6 times as fast.
report  from sealed Parquet to the daily report: at most 30 s.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pandas as pd

from benchmarks.made_store import MIDNIGHT, made_store
from nestobs.store.reader import Store
from nestobs.timeline.intervals import NEEDED, timelines

MOST_TO_SQL, MOST_RSS, LEAST_GAIN, MOST_REPORT_S = 1.5, 2 * 2**30, 1.6, 30.0
ROUNDS = 3

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


def timed(work: Any) -> tuple[float, Any]:
    began = perf_counter()
    found = work()
    return perf_counter() - began, found


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
    taken: dict[str, list[float]] = {"timelines": [], "one": [], "all": []}
    for _ in range(ROUNDS):
        spent, lines = timed(lambda: timelines(frame))
        taken["timelines"].append(spent)
        for threads in ("one", "all"):
            with duckdb.connect() as connection:
                connection.register("rows", table)
                if threads == "one":
                    connection.execute("SET threads = 1")
                both = [timed(connection.sql(query).to_arrow_table) for query in (SQL, GROUPED)]
                taken[threads].append(min(spent for spent, _ in both))
                assert {found.num_rows for _, found in both} == {int((lines["polls"] > 0).sum())}
    plain, _ = timed(lambda: grouped(frame))
    ratio = median(ours / sql for ours, sql in zip(taken["timelines"], taken["one"], strict=True))
    return {
        "rows": len(frame),
        "timelines_s": round(median(taken["timelines"]), 2),
        "duckdb_one_thread_s": round(median(taken["one"]), 2),
        "duckdb_all_threads_s": round(median(taken["all"]), 2),
        "pandas_groupby_s": round(plain, 2),
        "to_sql": round(ratio, 2),
        "missed": ratio > MOST_TO_SQL,
    }


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
    with tempfile.TemporaryDirectory(prefix="nestobs-bench-") as place:
        words = ["report", "run", "daily_report", "--window", day, "--store", store.location, "--out", place, "--force"]
        command = [sys.executable, "-m", "nestobs", *words]
        spent, _ = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    limit = MOST_REPORT_S * max(1.0, rows / 1e7)
    return {"rows": rows, "s": round(spent, 1), "peak_gib": round(most / 2**30, 2), "missed": spent > limit}


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
