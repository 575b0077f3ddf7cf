"""A store followed as it grows, by a reader that never holds up its writer and never keeps what it read.

    wait for the store -> find its newest row -> the rows of the last minutes, part by part -> what comes after

Each read is one short transaction (`Store.tail`, `Store.observations`), so the writer's checkpoints find the journal
free. Where the last minutes begin is counted back from the newest row, not from our clock: an archive shows its end.
Rows sealed meanwhile are read from their file at the start and passed over later, by when they have been seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nestobs.errors import ForeignStoreError, StoreError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation
from nestobs.store.reader import Store

BATCH: Final = 2_000
"""Rows read at once."""

LAST_S: Final = 900.0
_SLICES: Final = 30
"""The last minutes are read in so many parts."""


def opened(directory: Path | str) -> Store | None:
    """The store, or None where there is none yet. Raises StoreError for a folder that will never be one."""
    path = Path(directory).expanduser()
    try:
        return Store.open(path, create=False)
    except ForeignStoreError:
        raise
    except StoreError:
        if not path.exists() or (path.is_dir() and not any(path.glob("[!.]*"))):
            return None
        raise


def backlog(store: Store, last_s: float = LAST_S) -> tuple[Iterator[list[Observation]], int]:
    """The rows of the last `last_s` seconds before the newest one, in parts, and the row number to `tail` from.

    Rows written while these are read come in both; to fold a row twice has to be the same as once. An empty store gives
    no part and 0.
    """
    end = _last_row(store)
    newest = _newest_at(store, end)
    return _parts(store, newest - round(last_s * SECOND_NS), newest) if newest is not None else iter(()), end


def _parts(store: Store, start: int, newest: int) -> Iterator[list[Observation]]:
    step = (newest - start) // _SLICES + 1
    while start <= newest:
        yield list(store.observations(start=start, end=start + step))
        start += step


def _last_row(store: Store) -> int:
    """A number after which the journal has no row now: found by doubling, then halving, since numbers may have gaps."""
    high = 1
    while store.tail(high, 1)[0]:
        high *= 2
    low = high // 2
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if store.tail(middle, 1)[0] else (low, middle)
    return low


def _newest_at(store: Store, end: int) -> int | None:
    """When the last row was sent, ns UTC: the journal's, else of what was sealed."""
    rows = store.tail(end - 1, 1)[0] if end else []
    if rows:
        return rows[0].sent_at
    sent = store.frame(columns=["sent_at"])["sent_at"]
    return int(sent.max()) if len(sent) else None
