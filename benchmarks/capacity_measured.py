"""What capacity.py measures: vantages that watch nests of a lab, and stores of rows like theirs.

A lab's API and RELAYS real relays in processes of their own; nests of strangers are published, each to all relays, each
relay in turn first. Every vantage is a `nestobs watch` of its own, with a store and a budget. Of each nest it is
counted what was asked and written, and held against what the plan says of the age at which asking began
(capacity.expected): over n nests the sum differs by less than a few times the square root of n, since a phase moves one
question at most.

The synthetic store repeats those rows: fresh ids and nests, times spread over a day, sealed in files as at work.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from math import sqrt
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute  # pa.compute
from websockets.asyncio.client import connect

from benchmarks.bench_relays import beside
from benchmarks.bench_store import enter
from benchmarks.capacity import PUSH_ROWS, RELAYS, expected
from nestobs import nostr
from nestobs.collector.watch import FOLLOW_S, MOST_POLLS, RELAY_POLLS
from nestobs.nostr import Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Operation, Source
from nestobs.sources.api import NOBODYS
from nestobs.sources.clock import Clock
from nestobs.store import parquet
from nestobs.store.parquet import AT, ID, NAMES
from nestobs.store.reader import Store
from nestobs.store.sealing import FOLDER, PART_ROWS
from nestobs.store.sql import DAY, JOURNAL, commit
from nestobs.store.sql import connect as opened
from nestobs.trial.lab_process import running_lab

NESTS, OTHER = "calm", "never"
"""The API that the nests name, and another one: who watches that asks relays alone."""

SPREAD_S, START_S, END_S = 30.0, 8.0, 15.0
CHANCE = 3.0
"""So many standard deviations are chance: a phase is uniform, so each of n sums of it varies by at most a quarter."""


def machine() -> str:
    """Processors, memory and load."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} processors, {size:.0f} GiB, load {os.getloadavg()[0]:.1f}"


def measure(nests: int, vantages: int, rows: int) -> tuple[dict[str, Any], bool]:
    """All of it, and whether counts agree with what was computed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        watched, born = asyncio.run(watching(folder, nests, vantages))
        watchers = [Store.open(folder / f"store-{number}") for number in range(vantages)]
        counts = [counted(each, born) for each in watchers]
        relays_alone = Store.open(folder / f"store-{vantages}").count()
        print(json.dumps({"watched": watched, "counts": counts}, indent=2), file=sys.stderr, flush=True)
        stores = {"journal_bytes": journal_bytes(folder / "journal", watchers[0])}
        stores |= {"sealed_bytes_of_the_run": sealed_bytes(watchers)}
        stores |= stored(folder / "synthetic", watchers[0], rows)
    *cpu_s, alone_s = watched["cpu_s"]
    requests = sum(each["requests"]["found"] for each in counts)
    of_relays = alone_s / relays_alone
    rest = sum(each["rows"] for each in counts) - requests
    rates = {name: stores[name] for name in ("sealed_bytes", "journal_bytes", "read_bytes", "read_rows_per_s")}
    rates |= {"relay_row_s": of_relays, "request_s": (sum(cpu_s) - rest * of_relays) / requests}
    found = {"nests": nests, "vantages": vantages, "watched": watched, "counts": counts, "stores": stores}
    agree = all(each["agrees"] for each in counts) and watched["requests_in_the_api_log"] == requests
    return found | {"rates": rates}, agree


async def watching(folder: Path, nests: int, vantages: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Let the vantages watch; what each process cost, how many requests the API got, and when each room was born."""
    seconds = START_S + SPREAD_S + FOLLOW_S + END_S
    with beside("serving", RELAYS) as (_, urls):
        async with running_lab(folder / "lab", [NESTS, OTHER], seed=1, vantages=1, options=["--logs", "json"]) as lab:
            api, other = (lab["scenarios"][name]["vantages"][0]["api"] for name in (NESTS, OTHER))
            running = [watch(folder, number, api, urls, seconds) for number in range(vantages)]
            running.append(watch(folder, vantages, other, urls, seconds))
            await asyncio.sleep(START_S)
            born = await publish(urls, api, nests)
            ended = [await asyncio.to_thread(os.wait4, each.pid, 0) for each in running]
            log = next(Path(file) for file in lab["files"].values() if file.endswith(f"api-{NESTS}.log"))
    lines = [line for line in log.read_text().splitlines() if NOBODYS not in line]  # those ask for the time
    requests = sum("/guest HTTP" in line or "/info HTTP" in line for line in lines)
    cost = {
        "seconds": seconds,
        "cpu_s": [usage.ru_utime + usage.ru_stime for _, _, usage in ended],
        "peak_mb": [usage.ru_maxrss / 1024 for _, _, usage in ended],
        "exit_codes": [os.waitstatus_to_exitcode(status) for _, status, _ in ended],
        "requests_in_the_api_log": requests,
        "load": os.getloadavg()[0],
    }
    return cost, born


def watch(folder: Path, number: int, api: str, urls: Sequence[str], seconds: float) -> subprocess.Popen[bytes]:
    """A vantage."""
    words = [sys.executable, "-m", "nestobs", "watch", "--for", f"{seconds:g}s", "--api", api, "--quiet"]
    words += [word for url in urls for word in ("--relay", url)]
    words += ["--vantage", f"vantage-{number}", "--store", str(folder / f"store-{number}")]
    state = os.environ | {"NESTOBS_STATE_DIR": str(folder / f"state-{number}")}
    return subprocess.Popen(words, env=state, cwd=folder, stdout=subprocess.DEVNULL)


async def publish(urls: Sequence[str], api: str, nests: int) -> dict[str, int]:
    """Announce nests of strangers, one after another, each relay in turn first; `created_at` of each room, ns UTC."""
    clock, keys = Clock(), [Keys.generate() for _ in range(20)]
    lines = [await connect(url) for url in urls]
    begin, born = clock.now(), dict[str, int]()
    for number in range(nests):
        await clock.until(begin + round(number * SPREAD_S / nests * SECOND_NS))
        room = f"{os.urandom(8).hex()}-{number}"
        tags = [("d", room), ("room", "Evening talk"), ("status", "open"), ("service", api)]
        tags += [("p", keys[number % 20].public, "", "host"), ("streaming", "wss+livekit://nests.example.org:443")]
        born[room] = clock.now() // SECOND_NS * SECOND_NS
        event = keys[number % 20].sign(nostr.ROOM_KIND, created_at=born[room] // SECOND_NS, tags=tags)
        for turn in range(len(lines)):
            line = lines[(number + turn) % len(lines)]
            await line.send(nostr.publish(event))
            await line.recv()
    for line in lines:
        await line.close()
    return born


def counted(store: Store, born: dict[str, int]) -> dict[str, Any]:
    """What one vantage asked and wrote of its nests, beside what its plans say. born: rooms, and when, ns UTC."""
    rows = store.frame(columns=["room", "source", "operation", "planned_at", "received_at"])
    own, nests = rows[rows["room"] != ""], len(born)
    asked, pushed = own[own["planned_at"].notna()], own[own["operation"] == Operation.SUBSCRIBE]
    relays, api = (asked[asked["source"] == source] for source in (Source.RELAY, Source.API))
    looked = own[own["planned_at"].isna() & (own["operation"] == Operation.QUERY)]
    ended = looked.groupby("room")["received_at"].max()
    begun_s = [(int(at) - born[str(room)]) / SECOND_NS for room, at in ended.items()]
    questions, requests = (sum(expected(polls, age_s) for age_s in begun_s) for polls in (RELAY_POLLS, MOST_POLLS))
    compares = {
        "pushes": compared(len(pushed), PUSH_ROWS * RELAYS * nests, at_most=True),
        "looks": compared(len(looked), RELAYS * nests),
        "questions": compared(len(relays), RELAYS * questions, RELAYS * nests),
        "requests": compared(len(api), 2 * requests, 2 * nests),
        "nests": compared(own["room"].nunique(), nests),
    }
    agrees = all(each["agrees"] for each in compares.values())
    begins = {"rows": len(rows), "rows_a_nest": round(len(own) / nests, 2), "begun_s": round(median(begun_s), 2)}
    return begins | compares | {"agrees": agrees}


def compared(found: int, computed: float, terms: int = 0, *, at_most: bool = False) -> dict[str, Any]:
    """Whether a count is as computed: but for chance, where it is a sum of so many terms of a random phase each."""
    agrees = found <= computed if at_most else abs(found - computed) <= CHANCE * sqrt(terms) / 2
    return {"found": found, "computed": round(computed, 1), "agrees": bool(agrees)}


def journal_bytes(folder: Path, like: Store) -> float:
    """Bytes a row in a journal of rows like these, index and all."""
    observations = list(like.observations())
    store = Store.open(folder)
    with closing(opened(store.directory, write=True)) as connection:
        for first in range(0, len(observations), 1_000):
            commit(connection, observations[first : first + 1_000])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (store.directory / JOURNAL).stat().st_size / len(observations)


def sealed_bytes(stores: Sequence[Store]) -> float:
    """Bytes a row of what the vantages wrote, all of it sealed."""
    for store in stores:
        store.seal(before=2**63 - 1)
    size = sum(path.stat().st_size for store in stores for path in (store.directory / FOLDER).iterdir())
    return size / sum(store.count() for store in stores)


def sealed(folder: Path, table: pa.Table, rows: int, seed: int = 1) -> Store:
    """A store of about so many rows like these, sealed as at work."""
    store, rng = Store.open(folder), np.random.default_rng(seed)
    (store.directory / FOLDER).mkdir(exist_ok=True)
    for number, part in enumerate(parts(table, rows, rng)):
        path = store.directory / FOLDER / f"1970-01-02-{number + 1:012d}.parquet"
        parquet.write(path, part.to_batches())
        at = part[AT].to_numpy()
        enter(store, [(path, len(part), int(at.min()), int(at.max()), number + 1)])
    return store


def stored(folder: Path, like: Store, rows: int) -> dict[str, Any]:
    """A sealed store of so many rows like these: bytes a row, and what reading it takes."""
    began = perf_counter()
    store = sealed(folder, pa.Table.from_batches(like.scan()).cast(parquet.schema_of(NAMES)), rows)
    made_s = perf_counter() - began
    files = list((store.directory / FOLDER).iterdir())
    size, held = sum(path.stat().st_size for path in files), store.count()
    scanned = _read("scan", store)
    day = _read("frame", store, DAY, DAY + DAY // 10)
    return {
        "rows": held,
        "files": len(files),
        "made_s": round(made_s, 1),
        "sealed_bytes": size / held,
        "read_rows_per_s": scanned["rows"] / scanned["s"],
        "scan_peak_mb": scanned["peak_mb"],
        "read_bytes": (day["peak_mb"] - day["before_mb"]) * 2**20 / day["rows"],
        "frame_of_a_tenth": day,
        "load": os.getloadavg()[0],
    }


def parts(table: pa.Table, rows: int, rng: np.random.Generator) -> Iterator[pa.Table]:
    """The rows again and again, with ids, nests and instants of their own, in parts as they are sealed at work."""
    laps = -(-rows // len(table))
    step = (DAY - 600 * SECOND_NS) // laps
    first = int(table[AT].to_numpy().min())
    waiting: list[pa.Table] = []
    for lap in range(laps):
        waiting.append(again(table, DAY + lap * step - first, rng))
        if sum(len(each) for each in waiting) >= PART_ROWS:
            whole = pa.concat_tables(waiting).combine_chunks()
            for at in range(0, len(whole) - PART_ROWS + 1, PART_ROWS):
                yield whole.slice(at, PART_ROWS)
            waiting = [whole.slice(len(whole) - len(whole) % PART_ROWS)]
    if len(waiting[0]):
        yield pa.concat_tables(waiting).combine_chunks()


def again(table: pa.Table, later: int, rng: np.random.Generator) -> pa.Table:
    """The rows, so much later (ns), as of other nests."""
    fresh: dict[str, pa.Array] = {}
    for name in ("planned_at", "sent_at", "received_at", "remote_at"):
        fresh[name] = pa.compute.add(table[name].combine_chunks(), later)
    at = fresh[AT].to_numpy()
    fresh[ID] = ids(at, rng)
    fresh["attempt_group"] = ids(at, rng)
    rooms = table["room"].combine_chunks().dictionary_encode()
    hexes = rng.bytes(8 * len(rooms.dictionary)).hex()
    for name in ("room", "nest", "trace_id"):
        coded = table[name].combine_chunks().dictionary_encode()
        others = [_other(text, hexes[16 * n : 16 * n + 16]) for n, text in enumerate(coded.dictionary.to_pylist())]
        fresh[name] = pa.DictionaryArray.from_arrays(coded.indices, pa.array(others, pa.large_string())).cast(
            pa.large_string()
        )
    columns = [fresh.get(name, table[name]) for name in NAMES]
    return pa.table(columns, schema=parquet.schema_of(NAMES))


def _other(text: str, fresh: str) -> str:
    """A name of the same length and form, ending otherwise: the rows of a nest keep one."""
    return text[:-16] + fresh if len(text) >= 16 else text


def ids(at: np.ndarray, rng: np.random.Generator) -> pa.Array:
    """UUIDv7 of these instants (ns UTC)."""
    stamps = at // 1_000_000
    tail = rng.bytes(10 * len(at)).hex()
    return pa.array(
        [
            f"{(head := f'{stamp:012x}')[:8]}-{head[8:]}-7{(r := tail[20 * n : 20 * n + 20])[:3]}-8{r[3:6]}-{r[6:18]}"
            for n, stamp in enumerate(stamps.tolist())
        ],
        pa.large_string(),
    )


READER = """
import json, sys
from pathlib import Path
from time import perf_counter
import pandas, pyarrow.parquet
from nestobs.store.reader import Store
peak = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
store, before = Store.open(sys.argv[2]), peak()
began = perf_counter()
if sys.argv[1] == "scan":
    rows = sum(batch.num_rows for batch in store.scan())
else:
    rows = len(store.frame(start=int(sys.argv[3]), end=int(sys.argv[4]), categories=True))
print(json.dumps({"rows": rows, "s": perf_counter() - began, "before_mb": before, "peak_mb": peak()}))
"""


def _read(how: str, store: Store, *ends: int) -> dict[str, Any]:
    """Reading in a process of its own: rows, seconds, and the most memory, MiB."""
    words = [sys.executable, "-c", READER, how, str(store.directory), *map(str, ends)]
    found: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    return found
