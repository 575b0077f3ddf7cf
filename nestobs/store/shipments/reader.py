"""Shipped files read as a store: what its methods say holds, whoever shipped how often, and nothing can be written.

    list -> files of the window, and those that may share an id with them -> each fetched whole, its digest checked
         -> decoded, compared with those before it (twins.py) -> rows of the window

A file holds 20 000 rows or fewer and is asked for once, whole: several parts of it would take as many round trips, and
half of it could not be told from all. Each call lists anew; a file that is shipped while it reads may be missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from nestobs.errors import StoreError
from nestobs.observation.schema import Observation
from nestobs.store import parquet
from nestobs.store.ledger import Entry
from nestobs.store.parquet import AT, ID
from nestobs.store.reader import Store
from nestobs.store.shipments.names import FOLDER, Listing, Shipped, listing
from nestobs.store.shipments.place import Place
from nestobs.store.shipments.twins import GROUP, ConflictError, Walk, alone
from nestobs.store.sql import Window

if TYPE_CHECKING:
    import pyarrow as pa

    from nestobs.store.writer import Writer


class Shipments(Store):
    """What was shipped to a folder or bucket, read as one store. No ledger comes with it, and nothing is tailed."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._writer = None
        self._told: set[str] = set()

    @classmethod
    def at(cls, named: Path | str) -> Shipments:
        """What was shipped there. Raises StoreError where nothing was, or it cannot be asked; UsageError for a URL that
        is none."""
        found = cls(Place.of(named))
        if not found.listed().files:
            raise StoreError(
                f"nothing was shipped to {found.location} yet: `nestobs ship --to {found.location}` ships the sealed"
                " days of a store; observations themselves are written to a folder of this computer"
            )
        return found

    @property
    def location(self) -> str:
        """The URL, or the folder."""
        return self.place.url

    @property
    def directory(self) -> Path:
        """There is no folder of a store. Raises StoreError."""
        self._only_read()

    def listed(self) -> Listing:
        """What is there now. Raises StoreError."""
        return listing(self.place.sizes(FOLDER))

    # writing

    def writer(self) -> Writer:
        """Nothing is written there but by shipping. Raises StoreError."""
        self._only_read()

    def seal(self, *, before: int) -> list[Path]:
        """What is shipped is sealed: none."""
        return []

    def _only_read(self) -> NoReturn:
        raise StoreError(
            f"what was shipped to {self.location} is only read: give --store a folder, and ship what it holds with"
            f" `nestobs ship --to {self.location}`"
        )

    # reading

    def tail(self, after: int, limit: int) -> tuple[list[Observation], int]:
        """There is no journal: nothing new."""
        return [], after

    def passed(self, after: int) -> bool:
        """There is no journal: none."""
        return False

    def newest(self) -> tuple[int, int | None]:
        """0, and when the last row was sent, ns UTC."""
        return 0, max((file.last_at for file in self.listed().files), default=None)

    def ends(self) -> tuple[int | None, int | None]:
        """When the first and the last row was sent, ns UTC, None where there is none."""
        files = self.listed().files
        return min((file.first_at for file in files), default=None), max((file.last_at for file in files), default=None)

    def count(self) -> int:
        """How many different observations were shipped; files of whose ids none can be elsewhere are not read."""
        files = self._files()
        single = alone(files)
        others = [file for file in files if file.path not in single]
        rows: int = sum(table.num_rows for table in self._walked(others, others, Window(), parquet.schema_of([AT, ID])))
        return rows + sum(file.rows for file in files if file.path in single)

    def cuts(self, rows: int) -> list[int]:
        """As of what is sealed: by what the names of the files say."""
        return parquet.cuts_of(self.listed().files, rows)

    def ledger(self, *, open_only: bool = True) -> list[Entry]:
        """None: the ledger stays with its store."""
        return []

    def _table(self, window: Window, names: Sequence[str], *, encoded: bool = False, ordered: bool = True) -> pa.Table:
        import pyarrow as pa

        schema = parquet.schema_of(dict.fromkeys([*names, AT, ID]), encoded=encoded)
        table = pa.concat_tables([*self._tables(window, schema), schema.empty_table()]).combine_chunks()
        if ordered:
            table = parquet.in_order(table, lambda: table[ID])
        return table.select(list(dict.fromkeys([*names, AT])))

    def _batches(self, schema: pa.Schema, window: Window) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        types = {field.name: field.type for field in parquet.schema_of([AT, ID])}
        added = [pa.field(name, kind, False) for name, kind in types.items() if name not in schema.names]
        for table in self._tables(window, pa.schema([*schema, *added])):
            yield from (batch for batch in table.select(schema.names).combine_chunks().to_batches() if batch.num_rows)

    def _tables(self, window: Window, schema: pa.Schema) -> Iterator[pa.Table]:
        """The rows of the window, a table a file, in the order of the files. schema: with the instant of sending and
        the id. Raises StoreError."""
        files = self._files()
        wanted = [file for file in files if _within(file, window)]
        low, high = min((file.low for file in wanted), default=1), max((file.high for file in wanted), default=0)
        met = [file for file in files if _within(file, window) or (file.low <= high and low <= file.high)]
        return self._walked(met, wanted, window, schema)

    def _files(self) -> list[Shipped]:
        found = self.listed()
        if (others := set(found.others) - self._told) and found.others:
            self._told |= others
            example = sorted(others)[0]
            getLogger(__name__).warning(
                "%d files at %s are none that nestobs shipped (%s), and are not read",
                len(others),
                self.location,
                example,
            )
        return found.files

    def _walked(
        self, files: Sequence[Shipped], wanted: Sequence[Shipped], window: Window, schema: pa.Schema
    ) -> Iterator[pa.Table]:
        """Of files, in their order, the rows of the window that are wanted and in no file before. schema: with the
        instant of sending and the id. Raises StoreError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        single, given = alone(files), {file.path for file in wanted}
        walk = Walk([file for file in files if file.path not in single], self.rows)
        ids, encoded = parquet.schema_of([AT, ID]), any(map(pa.types.is_dictionary, schema.types))
        names = dict.fromkeys([*schema.names, *(name for name, *_ in window.conditions())])
        columns = parquet.schema_of(names, encoded=encoded)

        def read(file: Shipped) -> tuple[Shipped, pa.Table]:
            return file, self.read(file, columns if file.path in given else ids)

        tables = self.place.each(read, files)
        while group := list(islice(tables, GROUP)):
            met = [table[ID] for file, table in group if file.path not in single]
            kept = iter(walk.step(met))
            if walk.conflicts:
                raise ConflictError(walk.conflicts[0], self.location)
            for file, table in group:
                new = None if file.path in single else next(kept)
                if file.path not in given:
                    continue
                fresh = table if new is None else table.filter(pa.array(new))
                if conditions := window.within(file.first_at, file.last_at).conditions():
                    fresh = fresh.filter(pq.filters_to_expression(conditions))
                yield fresh.select(schema.names)

    def rows(self, file: Shipped, ids: pa.Array) -> pa.Table:
        """All columns of the rows of a file whose ids are among these. Raises StoreError."""
        import pyarrow.compute as pc

        table = self.read(file, parquet.schema_of(parquet.NAMES))
        return table.filter(pc.is_in(table[ID], value_set=ids))

    def read(self, file: Shipped, schema: pa.Schema) -> pa.Table:
        """The rows of a file, under that schema. Raises StoreError where it is gone, or not what its name says."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            content = self.place.read(file.path)
        except FileNotFoundError:
            raise self._damaged(file, "it is gone") from None
        if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.digest:
            raise self._damaged(file, "its digest is not that of its name: half of it, or changed")
        try:
            source = pa.BufferReader(content)
            if parquet.held(pq.read_metadata(source)) != (file.rows, file.first_at, file.last_at):
                raise self._damaged(file, "it holds other rows than its name says")
            source.seek(0)
            return parquet.decoded(source, schema, small=file.rows < parquet.SMALL_ROWS)
        except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException):
            raise self._damaged(file, "it holds no observations") from None

    def _damaged(self, file: Shipped, why: str) -> StoreError:
        return StoreError(
            f"{self.location}/{file.path} cannot be read ({why}): remove it, and ship it again from its store by"
            f" `nestobs ship --to {self.location}`; `nestobs store verify --store {self.location}` names all such"
        )


def _within(file: Shipped, window: Window) -> bool:
    """Whether the file may have rows of the window."""
    return (window.start is None or file.last_at >= window.start) and (window.end is None or file.first_at < window.end)
