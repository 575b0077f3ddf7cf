"""A store followed as it grows, by a reader that never holds up its writer and never keeps what it read.

    wait for the store -> find its newest row -> the rows of the last minutes, part by part -> what comes after

Each read is one short transaction (`Store.tail`, `Store.observations`), so the writer's checkpoints find the journal
free. Where the last minutes begin is counted back from the newest row, not from our clock: an archive shows its end.
Rows are sealed when they are settled, and by then they have been seen; a reader who has slept longer begins again.

Who counts reads the whole of it, once (`Whole`): the sealed files part by part, then the journal as it grows.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from nestobs.errors import ForeignStoreError, StoreError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation
from nestobs.store import sql
from nestobs.store.reader import Store
from nestobs.store.shipments.place import plain_path

if TYPE_CHECKING:
    import pandas as pd

BATCH: Final = 2_000
"""Rows read at once."""

PART_ROWS: Final = 20_000
"""Rows of the sealed files are read so many at once, or a file's where that has more."""

_Span: TypeAlias = tuple[int | None, int | None]
"""[start, end) of the sending, ns UTC; None: open."""

REMEMBERED: Final = 50_000
"""So many ids of the last rows are kept, by which a row that comes a second time is known."""

LAST_S: Final = 900.0
_SLICES: Final = 30
"""The last minutes are read in so many parts."""


def opened(directory: Path | str) -> Store | None:
    """The store, or None where there is none yet. Raises StoreError for a folder that will never be one, and for a URL
    to which nothing was shipped."""
    try:
        return Store.open(directory, create=False)
    except ForeignStoreError:
        raise
    except StoreError:
        path = plain_path(directory)
        if path is None:
            raise
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

    directory: Path | str
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


@dataclass(slots=True)
class Whole:
    """A store that is read from its first row on, and then as it grows: each row once, as frames.

    level: all was read that was there at the last look. A row may be missed or come twice only where more than
    `REMEMBERED` rows were written between two looks, and sealed by the second.
    """

    directory: Path | str
    level: bool = False
    store: Store | None = None
    _after: int = 0
    _parts: deque[_Span] = field(default_factory=deque)
    _again: bool = False
    _known: frozenset[str] = frozenset()
    _ids: dict[str, None] = field(default_factory=dict)

    def read(self, until: int, now: Callable[[], int]) -> Iterator[tuple[pd.DataFrame, int]]:
        """What is new, part by part, until there is no more or it is `until`, ns UTC; and the instant up to which all
        that was sent has been read.

        Raises StoreError for a folder that will never be a store, and for one that cannot be read: the next call goes
        on where this one failed.
        """
        from nestobs.observation.columns import observations_of

        if self.store is None:
            if (store := opened(self.directory)) is None:
                return
            self._after, _ = store.newest()
            self._parts, self.store = self._sealed(store, whole=True), store
        while now() < until:
            if self._parts:
                start, end = self._parts[0]
                part = self._fresh(self.store.frame(start=start, end=end, categories=True))
                self._parts.popleft()
                self._again &= bool(self._parts)
                yield part, now() if end is None else end
                continue
            rows, after = self.store.tail(self._after, BATCH)
            self._parts = self._sealed(self.store)
            self._again, self._after = bool(self._parts), after
            self.level = len(rows) < BATCH and not self._parts
            if rows:
                sent_at = max(row.sent_at for row in rows)
                yield self._fresh(observations_of(rows)), now() if self.level else sent_at
            if self.level:
                return

    def _sealed(self, store: Store, *, whole: bool = False) -> deque[_Span]:
        """When what was sealed before `tail` could give it was sent; whole: all rows, those of the journal, too."""
        with sql.reading(store.directory) as connection:
            files = sql.sealed_files(connection)
        past = [file for file in files if file.last_row > self._after]
        new = files if whole else [file for file in past if file.name not in self._known]
        self._known = frozenset(file.name for file in past)
        cuts: list[int | None] = []
        held = 0
        for file in new:
            if held >= PART_ROWS and file.first_at not in cuts[-1:]:
                cuts.append(file.first_at)
                held = 0
            held += file.rows
        if whole:
            return deque(zip([None, *cuts], [*cuts, None], strict=True))
        ends = [new[0].first_at, *cuts, max(file.last_at for file in new) + 1] if new else []
        return deque(itertools.pairwise(ends))

    def _fresh(self, part: pd.DataFrame) -> pd.DataFrame:
        """The rows that were not read before."""
        ids = part["observation_id"].astype("str")
        new = ~ids.isin(list(self._ids))
        if self._again and self._ids:
            new &= ids > next(iter(self._ids))  # ids grow with time: what is older was read, and is not remembered
        self._ids.update(dict.fromkeys(ids[new]))
        for old in [*self._ids][: max(0, len(self._ids) - REMEMBERED)]:
            del self._ids[old]
        return part[new]
