"""What a store holds, and whether it is whole: each file present, readable and as it was sealed, no row twice.

A file's SHA-256 is kept where it is entered, so a single flipped bit is found. Files that a nestobs before that sealed
have none: they are read to the end, and their rows counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from nestobs.errors import StoreError
from nestobs.store import parquet, sql
from nestobs.store.damage import complaints
from nestobs.store.parquet import ID, DamageError
from nestobs.store.sealing import FOLDER, day_of
from nestobs.store.sql import JOURNAL, SealedFile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from nestobs.store.reader import Store
    from nestobs.store.writer import Writer

Hashes: TypeAlias = "npt.NDArray[np.uint64]"

ASIDE: Final = "set-aside"
"""The folder in the folder of sealed files for those that no longer count."""


@dataclass(frozen=True, slots=True)
class Contents:
    """How much there is. rows: all that count; first_at, last_at: when the first and last was sent, ns UTC, None where
    there is none; unsealed: rows in the journal; lost: rows of files set aside; open_entries: of the ledger."""

    rows: int
    unsealed: int
    files: int
    first_at: int | None
    last_at: int | None
    size: int
    lost: int
    open_entries: int


def contents(store: Store) -> Contents:
    """What a store holds, by its journal; no sealed file is read. Of what was shipped to a place, what is there.

    Raises StoreError.
    """
    from nestobs.store.shipments import inventory as shipped
    from nestobs.store.shipments.reader import Shipments

    if isinstance(store, Shipments):
        return shipped.contents(store)
    with sql.reading(store.directory) as connection:
        files, aside = sql.sealed_files(connection), sql.sealed_files(connection, set_aside=True)
        unsealed, entries = sql.unsealed(connection), sql.entries(connection, open_only=True)
        first, last = sql.ends(connection)
    return Contents(
        rows=unsealed + sum(file.rows for file in files),
        unsealed=unsealed,
        files=len(files),
        first_at=first,
        last_at=last,
        size=sum(path.stat().st_size for path in store.directory.rglob("*") if path.is_file()),
        lost=sum(file.rows for file in aside),
        open_entries=len(entries),
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one file. wrong: a reader misses rows by it or has them twice; else it is only told. lost: rows
    that cannot be read."""

    file: str
    said: str
    wrong: bool = True
    lost: int = 0


def verify(store: Store) -> list[Finding]:
    """What is to be said of a store: nothing when it is whole and tidy. Reads all of it, and writes nothing.

    Raises StoreError when there is none, or its list of files cannot be read.
    """
    from nestobs.store.shipments import inventory as shipped
    from nestobs.store.shipments.reader import Shipments

    if isinstance(store, Shipments):
        return shipped.verify(store)
    with sql.reading(store.directory) as connection:
        files, aside = sql.sealed_files(connection), sql.sealed_files(connection, set_aside=True)
    found, ids = [], []
    try:
        with sql.reading(store.directory) as connection:  # rows sealed meanwhile are in neither
            found += [Finding(JOURNAL, f"damaged: {said}") for said in complaints(connection)]
            for page in sql.rows_in(connection, sql.Window(), [ID]):
                ids.append((JOURNAL, parquet.hashes_of([one for (one,) in page])))
    except StoreError as error:
        found.append(Finding(JOURNAL, str(error)))
    folder = store.directory / FOLDER
    for file in files:
        try:
            ids.append((file.name, parquet.hashes_of(_checked(folder / file.name, file)[ID].to_pylist())))
        except DamageError as error:
            found.append(Finding(file.name, f"{error.why}: {_of(file)} cannot be read", lost=file.rows))
    found += [Finding(name, f"{count} rows have an id that another row has, too") for name, count in _twice(ids)]
    found += [Finding(file.name, f"set aside: {_of(file)} are lost", False, file.rows) for file in aside]
    return found + list(_strays(folder, {file.name for file in (*files, *aside)}))


def set_aside(store: Store, writer: Writer, damaged: list[str]) -> list[str]:
    """Take damaged files out of the count, so that the rest can be read, and move them to `ASIDE` as they are.

    Files set aside before that are whole at their place again, from a copy, count again: the names of those.
    """
    folder = store.directory / FOLDER
    back = []
    with sql.reading(store.directory) as connection:
        aside = sql.sealed_files(connection, set_aside=True)
    for file in aside:
        try:
            _checked(folder / file.name, file)
        except DamageError:
            continue
        writer.perform(partial(sql.set_aside, name=file.name, out=False))
        back.append(file.name)
    for name in damaged:
        writer.perform(partial(sql.set_aside, name=name, out=True))
        if (folder / name).exists():
            (folder / ASIDE).mkdir(exist_ok=True)
            (folder / name).replace(folder / ASIDE / name)
    return back


def _of(file: SealedFile) -> str:
    return f"{file.rows} rows of {day_of(file.first_at)}"


def _checked(path: Path, file: SealedFile) -> pa.Table:
    """The ids of a sealed file that is as it was sealed; without a digest, all of it. Raises DamageError."""
    digest = file.mark.digest
    if digest and path.is_file() and not _is(path, digest):
        raise DamageError(path, "it is damaged")
    return parquet.read(path, parquet.schema_of([ID] if digest else parquet.NAMES), file)


def _is(path: Path, digest: str) -> bool:
    try:
        return parquet.mark_of(path).digest == digest
    except (OSError, ValueError):
        return False


def _twice(ids: list[tuple[str, Hashes]]) -> Iterator[tuple[str, int]]:
    """Files with ids that are elsewhere too, and how many. Ids are compared by 64-bit hashes."""
    import numpy as np

    if not ids:
        return
    values, counts = np.unique(np.concatenate([hashes for _, hashes in ids]), return_counts=True)
    many = values[counts > 1]
    held: Counter[str] = Counter()
    for name, hashes in ids:
        held[name] += int(np.isin(hashes, many).sum())
    yield from ((name, count) for name, count in held.items() if count)


def _strays(folder: Path, known: set[str]) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.endswith(".tmp"):
            yield Finding(path.name, "left half written: no row is in it alone, and the next sealing removes it", False)
        elif path.suffix == ".parquet" and path.name not in known:
            yield Finding(path.name, "not one of the store's files: it is not read", False)
