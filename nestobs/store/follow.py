"""A store followed as it grows, by a reader that never holds up its writer and never keeps what it read.

    wait for the store -> find its newest row -> the rows of the last minutes, part by part -> what comes after

Each read is one short transaction (`Store.tail`, `Store.observations`), so the writer's checkpoints find the journal
free. Where the last minutes begin is counted back from the newest row, not from our clock: an archive shows its end.
Rows are sealed when they are settled, and by then they have been seen; a reader who has slept longer begins again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    end, newest = store.newest()
    return _parts(store, newest - round(last_s * SECOND_NS), newest) if newest is not None else iter(()), end


def _parts(store: Store, start: int, newest: int) -> Iterator[list[Observation]]:
    step = (newest - start) // _SLICES + 1
    while start <= newest:
        yield list(store.observations(start=start, end=start + step))
        start += step


@dataclass(slots=True)
class Followed:
    """A store that is read as it grows. store: None until there is one; waited: there was none at first."""

    directory: Path
    last_s: float = LAST_S
    store: Store | None = None
    waited: bool = False
    _after: int = 0

    def read(self, until: int, now: Callable[[], int]) -> Iterator[tuple[list[Observation], bool]]:
        """What is new, part by part, until there is no more or it is `until`, ns UTC; and whether it is news.

        At first that is the last minutes, which are news only in a store that was waited for. A row may come twice.
        Raises StoreError for a folder that will never be a store.
        """
        if self.store is None:
            self.store = opened(self.directory)
            if self.store is None:
                self.waited = True
                return
            yield from self._begin(self.store, news=self.waited)
        more = True
        while more and now() < until:
            after = self._after
            rows, self._after = self.store.tail(after, BATCH)
            yield rows, True
            more = len(rows) == BATCH
            if self.store.passed(after):
                yield from self._begin(self.store, news=True)

    def _begin(self, store: Store, *, news: bool) -> Iterator[tuple[list[Observation], bool]]:
        parts, self._after = backlog(store, self.last_s)
        return ((part, news) for part in parts)
