"""Stores with sealed files to ship, of ids as a collector makes them, and what is at a place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from nestobs.observation.schema import Observation
from nestobs.sources.clock import uuid7
from nestobs.store.reader import Store
from nestobs.store.shipments.names import FOLDER
from nestobs.store.shipments.place import Place
from nestobs.store.shipments.reader import Shipments
from nestobs.store.shipments.shipping import Shipment, destination, ship
from nestobs.store.sql import DAY
from worlds.stored_rows import NOON, row

EVER = 2**63 - 1
MS = 1_000_000


def at(number: int) -> int:
    """When row `number` was sent: so many ms after noon."""
    return NOON + number * MS


def seen(*numbers: int, vantage: str = "here", day: int = 0, **changes: object) -> list[Observation]:
    """Rows of these numbers, with the ids of UUIDv7 of that vantage, so many days after the first."""
    made = []
    for number in numbers:
        sent = at(number) + day * DAY
        mark = hashlib.sha256(f"{vantage}{number}".encode()).digest()[:10]
        values = {"sent_at": sent, "vantage": vantage, "observation_id": uuid7(sent, mark), "run_id": f"run {vantage}"}
        made.append(row(number, **values | changes))
    return made


def stored(folder: Path, rows: Sequence[Observation], *, sealed: bool = True) -> Store:
    """A store with these rows more; sealed: in one file a day, as `ship --all` does it first."""
    store = Store.open(folder)
    with store.writer() as writer:
        writer.append(rows)
        writer.flush()
        if sealed:
            writer.seal(EVER)
    return store


def shipped(store: Store, to: Path | str, *, before: int = EVER) -> Shipment:
    return ship(store, destination(store, to), before=before)


def files_at(to: Path | str) -> list[str]:
    """All paths at a place, in order."""
    return sorted(Place.of(to).sizes(FOLDER))


def held(to: Path | str) -> list[Observation]:
    """All rows at a place, in order."""
    return list(Shipments.at(to).observations())


def in_order(*rows: Observation) -> list[Observation]:
    return sorted(rows, key=lambda each: (each.sent_at, each.observation_id))
