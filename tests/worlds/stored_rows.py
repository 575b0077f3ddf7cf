"""Rows as plain as can be, and processes that write, read or die on a store of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nestobs
from nestobs.observation.schema import Observation, Operation, Outcome, Source
from nestobs.store.reader import Store
from nestobs.store.sql import DAY

NOON = 20_000 * DAY + DAY // 2
"""2024-10-04T12:00:00Z: when row 0 was sent; each further one a nanosecond later."""


def row(number: int, **changes: object) -> Observation:
    """Row number so and so."""
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
    """The rows of these numbers."""
    return [row(number, **changes) for number in numbers]


def ids(store: Store) -> list[str]:
    """The ids of a store's rows, in its order."""
    return [observation.observation_id for observation in store.observations()]


_PROLOGUE = """
import os, resource, signal, sys
import nestobs.store.sql as sql_module
from nestobs.store import files, sealing
from nestobs.store import parquet as sealed
from nestobs.errors import StoreError, StoreFullError
from nestobs.store.reader import Store
from nestobs.store.sql import DAY
from worlds.stored_rows import NOON, row, rows
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def say(*words):
    print(*words, flush=True)
directory = sys.argv[1]
"""


def child(directory: Path, code: str) -> subprocess.Popen[str]:
    """A process that runs this with the folder as `directory`, and `say`, `die`, `row` at hand."""
    paths = [str(Path(nestobs.__file__).parents[1]), str(Path(__file__).parents[1])]
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _PROLOGUE + code, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
