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

from nestobs.errors import StoreError

Identity: TypeAlias = tuple[int, int]

_guard: Final = threading.Lock()
_held: Final[dict[Path, list[Identity | None]]] = {}
"""The journals that connections of this process hold, by their resolved paths: one entry a connection."""


def identity(journal: Path) -> Identity | None:
    """Which file it is; None when there is none."""
    with suppress(OSError):
        found = journal.stat()
        return found.st_dev, found.st_ino
    return None


class Connection(sqlite3.Connection):
    """One that `connect` made: closing it lets go of its journal."""

    holds: tuple[Path, Identity | None] | None = None

    def close(self) -> None:
        """As `sqlite3.Connection.close`; a second call does nothing."""
        super().close()
        if self.holds is not None:
            held, self.holds = self.holds, None
            _let_go(*held)


def connect(journal: Path, mode: str, **options: Any) -> Connection:
    """A connection to the journal by SQLite's URI parameters `mode`. Raises sqlite3.Error, and StoreError where the
    journal was replaced while this process still holds the one that was there."""
    path = journal.resolve()
    holds = path, _hold(path)
    try:
        made = sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, factory=Connection, **options)
    except BaseException:
        _let_go(*holds)
        raise
    made.holds = holds
    if identity(path) != holds[1]:
        made.close()
        raise _replaced(path)
    return made


def _hold(path: Path) -> Identity | None:
    with _guard:
        found = identity(path)
        others = _held.get(path, [])
        if any(other != found for other in others) and path.with_name(f"{path.name}-shm").exists():
            raise _replaced(path)
        _held.setdefault(path, []).append(found)
        return found


def _let_go(path: Path, held: Identity | None) -> None:
    with _guard:
        _held[path].remove(held)
        if not _held[path]:
            del _held[path]


def _replaced(journal: Path) -> StoreError:
    return StoreError(
        f"the store in {journal.parent} was deleted or replaced while this process used it: start again, or bring the"
        " folder back from a copy first"
    )
