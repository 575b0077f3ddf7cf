"""Connections to a journal that know which file they hold, so that none pulls the ground from under another.

What SQLite's connections share of a journal in WAL mode stands in a mapped file beside it, which is found by the
journal's name. Locks keep other processes from cutting that file short while it is in use; between connections of one
process they do not hold. So where a journal was replaced while one connection was open, the next by the same name cut
the first one's memory short, and the process ended with SIGBUS.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias
from weakref import WeakSet

from nestobs.errors import StoreError

Identity: TypeAlias = tuple[int, int]

_guard: Final = threading.RLock()


def identity(journal: Path) -> Identity | None:
    """Which file it is; None when there is none."""
    with suppress(OSError):
        found = journal.stat()
        return found.st_dev, found.st_ino
    return None


class Connection(sqlite3.Connection):
    """One that `connect` made to the journal of that path, which was that file."""

    journal: Path
    was: Identity | None = None

    def close(self) -> None:
        """As `sqlite3.Connection.close`; a second call does nothing."""
        super().close()
        with _guard:
            _open.discard(self)


_open: Final[WeakSet[Connection]] = WeakSet()
"""The connections of this process that nobody has closed."""


def connect(journal: Path, mode: str, **options: Any) -> Connection:
    """A connection to the journal by SQLite's URI parameters `mode`. Raises sqlite3.Error, and StoreError where the
    journal was replaced while this process still holds the one that was there."""
    path = journal.resolve()
    with _guard:
        found = identity(path)
        others = any(other.was != found for other in _open if other.journal == path)
        if others and path.with_name(f"{path.name}-shm").exists():
            raise _replaced(path)
        made = sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, factory=Connection, **options)
        made.journal, made.was = path, found
        _open.add(made)
    if identity(path) != found:
        made.close()
        raise _replaced(path)
    return made


def _replaced(journal: Path) -> StoreError:
    return StoreError(
        f"the store in {journal.parent} was deleted or replaced while this process used it: start again, or bring the"
        " folder back from a copy first"
    )
