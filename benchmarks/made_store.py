"""A sealed store of as many rows as wanted, made by columns: what speed and memory are measured on.

    python -m benchmarks.made_store --rows 10000000 --days 1 --to FOLDER

Each nest has 300 rows, as a canary from two vantages writes them: its creation, its publication, and 16 polls of nine
layers from each place in 80 s. When each layer showed it is drawn (lognormal; one nest in eight never), polls are at
random phases, one answer in fifty is a timeout. Files are of 20 000 rows, written by the store's own code.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Role, Source
from nestobs.store import parquet
from nestobs.store.parquet import NAMES, mark_of
from nestobs.store.reader import Store
from nestobs.store.sealing import FOLDER, PART_ROWS, day_of
from nestobs.store.sql import DAY, connect
from worlds.full_nests import NOON, POLLS_S

MIDNIGHT = NOON - NOON % DAY
VANTAGES = ("Computer A", "Computer B")
API, LIVEKIT = "https://nests.example/api/v1/nests", "wss://livekit.example"
RELAYS = ("wss://relay-one.example/", "wss://relay-two.example/")
LAYERS = (
    *((Source.RELAY, Operation.QUERY, relay) for relay in RELAYS),
    (Source.CLIENT, Operation.LOAD, RELAYS[0]),
    (Source.API, Operation.INFO, API),
    (Source.API, Operation.JOIN, API),
    (Source.API, Operation.GUEST, API),
    (Source.LIVEKIT, Operation.ROOMS, LIVEKIT),
    (Source.LIVEKIT, Operation.SIGNAL, LIVEKIT),
    (Source.LIVEKIT, Operation.MEDIA, LIVEKIT),
)
MADE = ((Source.API, Operation.CREATE, API), *((Source.RELAY, Operation.PUBLISH, relay) for relay in RELAYS))
POLLS = np.array(POLLS_S)
PER_NEST = len(MADE) + len(VANTAGES) * len(LAYERS) * len(POLLS)
CHUNK = 2_000
"""So many nests are drawn at once."""


@dataclass(frozen=True)
class Rows:
    """Rows by codes. kind: which of MADE, else len(MADE) + vantage x layer; answer: 0 visible, 1 absent, 2 none."""

    nest: Any
    kind: Any
    sent: Any
    received: Any
    answer: Any

    def take(self, index: Any) -> Rows:
        return Rows(*(each[index] for each in vars(self).values()))

    @classmethod
    def joined(cls, *lots: Rows) -> Rows:
        return cls(*(np.concatenate(each) for each in zip(*(vars(lot).values() for lot in lots), strict=True)))


def drawn(first: int, count: int, begun: Any, rng: np.random.Generator) -> Rows:
    """The rows of so many nests, made at `begun`, ns."""
    kinds = len(VANTAGES) * len(LAYERS)
    shown_s = np.exp(rng.normal(np.log(2.0), 0.8, (count, kinds, 1)))
    shown_s[rng.random(count) < 0.125, len(RELAYS) + 1 :] = np.inf
    at_s = POLLS * rng.uniform(0.9, 1.1, (count, kinds, len(POLLS)))
    nest = np.broadcast_to(np.arange(first, first + count)[:, None, None], at_s.shape)
    kind = np.broadcast_to(len(MADE) + np.arange(kinds)[:, None], at_s.shape)
    sent = begun[:, None, None] + np.round(at_s * SECOND_NS).astype(np.int64)
    answer = np.where(rng.random(at_s.shape) < 0.02, 2, np.where(at_s >= shown_s, 0, 1))
    received = sent + rng.integers(3_000_000, 60_000_000, at_s.shape)
    made = begun[:, None] + np.array([0, 120_000_000, 125_000_000])
    polls = Rows(*(each.ravel() for each in (nest, kind, sent, received, answer)))
    own = np.broadcast_to(np.arange(len(MADE)), made.shape).ravel()
    numbers = np.repeat(np.arange(first, first + count), len(MADE))
    return Rows.joined(polls, Rows(numbers, own, made.ravel(), made.ravel() + 100_000_000, np.full(made.size, 3)))


def files_of(rows: int, days: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Rows in order of sending, as many as a sealed file has; none of two days."""
    nests = max(1, rows // PER_NEST)
    begun = MIDNIGHT + np.sort(rng.integers(0, days * DAY - 100 * SECOND_NS, nests))
    rest = drawn(0, 0, begun[:0], rng)
    for first in range(0, nests, CHUNK):
        some = begun[first : first + CHUNK]
        rest = Rows.joined(rest, drawn(first, len(some), some, rng))
        rest = rest.take(np.argsort(rest.sent, kind="stable"))
        settled = len(rest.sent) if first + CHUNK >= nests else int(np.searchsorted(rest.sent, begun[first + CHUNK]))
        last = first + CHUNK >= nests
        while settled >= PART_ROWS or (last and settled):
            midnight = (rest.sent[0] // DAY + 1) * DAY
            end = min(PART_ROWS, settled, int(np.searchsorted(rest.sent, midnight)))
            yield rest.take(slice(0, end))
            rest = rest.take(slice(end, None))
            settled -= end


def batch_of(rows: Rows, number: int) -> pa.RecordBatch:
    """They as the store's columns."""
    size, kinds = len(rows.nest), [*MADE, *(layer for _ in VANTAGES for layer in LAYERS)]
    whose = [VANTAGES[0]] * len(MADE) + [vantage for vantage in VANTAGES for _ in LAYERS]
    created = rows.kind == 0
    answer = rows.answer
    unique, place = np.unique(rows.nest, return_inverse=True)
    shown = (rows.kind >= len(MADE)) & (rows.kind % len(LAYERS) != 99) & (answer == 0)
    source = np.array([kind[0] for kind in kinds], dtype=object)
    details = ["{}", '{"created_at": 1772625600, "status": "open", "version": 1}']
    of_relay = np.isin(source, [Source.RELAY, Source.CLIENT])[rows.kind] & shown

    def coded(texts: Any, codes: Any, nulls: Any = None) -> pa.Array:
        index = pa.array(codes.astype(np.int32), mask=nulls)
        return pa.DictionaryArray.from_arrays(index, pa.array([str(each) for each in texts])).cast(pa.large_string())

    def number_of(values: Any, kind: pa.DataType, nulls: Any = None) -> pa.Array:
        return pa.array(values, kind, mask=nulls)

    none, ones = np.ones(size, dtype=bool), np.zeros(size, dtype=np.int64)
    outcomes = (Outcome.VISIBLE, Outcome.ABSENT, Outcome.UNKNOWN, Outcome.ACCEPTED)
    ids = [f"0196{number:08x}-{n:04x}-7000-8000-{bits:012x}" for n, bits in enumerate(
        np.random.default_rng(number).integers(0, 2**48, size).tolist())]  # fmt: skip  # one thing after the other
    named = np.where(created, len(unique), place)
    columns = {
        "observation_id": pa.array(ids, pa.large_string()),
        "run_id": coded([f"run-{hour}" for hour in range(24)], rows.sent // (3_600 * SECOND_NS) % 24),
        "trace_id": coded([f"0196aaaa-0000-7000-8000-{each:012d}" for each in unique], place),
        "vantage": coded(whose, rows.kind),
        "role": coded([Role.HOST if kind < len(MADE) else Role.OBSERVER for kind in range(len(kinds))], rows.kind),
        "nest": coded([*(f"30312:{'ab' * 32}:room-{each}" for each in unique), ""], named),
        "room": coded([*(f"room-{each}" for each in unique), ""], named),
        "source": coded(source, rows.kind),
        "target": coded([kind[2] for kind in kinds], rows.kind),
        "operation": coded([kind[1] for kind in kinds], rows.kind),
        "attempt_group": coded([""], ones),
        "attempt_no": number_of(ones + 1, pa.int64()),
        "planned_at": number_of(rows.sent - 2_000_000, pa.int64()),
        "sent_at": number_of(rows.sent, pa.int64()),
        "received_at": number_of(rows.received, pa.int64(), answer == 2),
        "outcome": coded(outcomes, answer),
        "status": number_of(np.array([200, 404, 0, 200])[answer], pa.int64(), answer == 2),
        "failure": coded(
            [Failure.NOT_FOUND, Failure.TIMEOUT], np.maximum(answer - 1, 0), (answer == 0) | (answer == 3)
        ),
        "failure_layer": coded([FailureLayer.API, FailureLayer.HTTP], np.maximum(answer - 1, 0), answer != 2),
        "reason": coded(["", "Nest not found", "no answer within 5 s"], np.array([0, 1, 2, 0])[answer]),
        "remote_at": number_of(rows.received // SECOND_NS * SECOND_NS, pa.int64(), answer == 2),
        "remote_grain_s": number_of(np.ones(size), pa.float64(), answer == 2),
        "timeout_s": number_of(np.full(size, 5.0), pa.float64()),
        "connection_reused": number_of(none, pa.bool_()),
        "cache": coded([""], ones),
        "loop_lag_s": number_of((rows.sent % 1_000) / 1e6, pa.float64()),
        "clock_offset_s": number_of(np.full(size, 0.02), pa.float64()),
        "clock_error_s": number_of(0.02 + (rows.sent % 997) / 1e5, pa.float64()),
        "sync_age_s": number_of((rows.sent % 60_000) / 1e3, pa.float64()),
        "software": coded(["nests/1.4.2"], ones),
        "detail": coded(details, of_relay.astype(np.int64)),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in NAMES], schema=parquet.schema_of(NAMES))


def made_store(directory: Path, rows: int, days: int = 1, seed: int = 1) -> Store:
    """A store of about so many rows of so many days from MIDNIGHT on, all of them sealed."""
    store = Store.open(directory)
    (directory / FOLDER).mkdir(exist_ok=True)
    entry = (
        "INSERT INTO sealed (name, rows, first_at, last_at, last_row, size, footer, digest) VALUES (?,?,?,?,?,?,?,?)"
    )
    top = 0
    entries = []
    for number, part in enumerate(files_of(rows, days, np.random.default_rng(seed))):
        top += len(part.sent)
        path = directory / FOLDER / f"{day_of(int(part.sent[0]))}-{top:012d}.parquet"
        held = parquet.write(path, [batch_of(part, number)])
        marks = astuple(mark_of(path))
        entries.append((path.name, held, int(part.sent[0]), int(part.sent[-1]), top, *marks))
    with closing(connect(directory, write=True)) as connection, connection:
        connection.execute("BEGIN")
        for lot in itertools.batched(entries, 1_000) if hasattr(itertools, "batched") else [entries]:
            connection.executemany(entry, lot)
    return store


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()
    began = perf_counter()
    store = made_store(args.to, args.rows, args.days)
    size = sum(path.stat().st_size for path in args.to.rglob("*") if path.is_file())
    print(f"{store.count():,} rows, {size / 1e9:.2f} GB, in {perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
