"""What was shipped to a place, and whether it is whole: each file as its name says, no id of two different rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from nestobs.errors import StoreError
from nestobs.store import parquet
from nestobs.store.inventory import Contents, Finding
from nestobs.store.parquet import ID
from nestobs.store.sealing import day_of
from nestobs.store.shipments.names import Listing, Shipped, key_of
from nestobs.store.shipments.twins import GROUP, Walk

if TYPE_CHECKING:
    import pyarrow as pa

    from nestobs.store.shipments.reader import Shipments


def contents(store: Shipments) -> Contents:
    """What is there, by the names of the files; only those are read that may share rows. Raises StoreError."""
    files = store.listed().files
    return Contents(
        rows=store.count(),
        unsealed=0,
        files=len(files),
        first_at=min((file.first_at for file in files), default=None),
        last_at=max((file.last_at for file in files), default=None),
        size=sum(file.size for file in files),
        lost=0,
        open_entries=0,
    )


def verify(store: Shipments) -> list[Finding]:
    """What is to be said: nothing where all is whole, each row there once, and nothing else beside. Reads all of it.

    Raises StoreError where it cannot be asked.
    """
    import pyarrow as pa

    listed = store.listed()
    found: list[Finding] = []

    def read(file: Shipped) -> tuple[Shipped, pa.Table | StoreError]:
        try:
            return file, store.read(file, parquet.schema_of(parquet.NAMES))
        except StoreError as error:
            return file, error

    def ids() -> Iterator[pa.Array]:
        for file, table in store.place.each(read, listed.files):
            if isinstance(table, StoreError):
                found.append(Finding(file.path, f"{table}: {_of(file)}", lost=file.rows))
                yield pa.array([], pa.large_string())
            else:
                found.extend(_own(file, table[ID]))
                yield table[ID].combine_chunks()

    walk, each = Walk(listed.files, store.rows), ids()
    while group := list(islice(each, GROUP)):
        walk.step(group)
    for conflict in walk.conflicts:
        found.append(Finding(conflict.second, f"{conflict.said}: the other is {conflict.first}"))
    for (first, second), rows in walk.again.items():
        found.append(Finding(second, f"{rows} rows are in {first}, too: they count once", wrong=False))
    return [*found, *_beside(listed)]


def _own(file: Shipped, ids: pa.ChunkedArray) -> Iterator[Finding]:
    """What is wrong with the ids of one file."""
    import pyarrow.compute as pc

    if (twice := len(ids) - pc.count_distinct(ids).as_py()) > 0:
        yield Finding(file.path, f"{twice} rows have an id that another row of it has, too")
    ends = pc.min_max(ids).as_py()
    if key_of(ends["min"], ends["max"]) != (file.low, file.high):
        yield Finding(file.path, "it holds other ids than its name says: remove it, and ship it again")


def _beside(listed: Listing) -> Iterator[Finding]:
    for path in listed.doubled:
        yield Finding(path, "a copy of a file that is there: it is not read", wrong=False)
    for path in listed.drafts:
        yield Finding(path, "being written, or left half written: no reader sees it", wrong=False)
    for path in listed.others:
        yield Finding(path, "not one that nestobs shipped: it is not read", wrong=False)


def _of(file: Shipped) -> str:
    return f"{file.rows} rows of {day_of(file.first_at)}"
