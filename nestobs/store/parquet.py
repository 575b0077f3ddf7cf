"""Observations as Arrow has them: schemas, sealed files (Parquet), their order, their hash, and pandas' types.

pyarrow takes long to import, so whoever only writes the journal does not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, groupby, islice
from pathlib import Path
from types import NoneType
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeAlias

from nestobs.errors import StoreError
from nestobs.observation.schema import COLUMNS, Column

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nestobs.store.sql import SealedFile

NAMES: Final = tuple(column.name for column in COLUMNS)
AT, ID = (NAMES[NAMES.index(name)] for name in ("sent_at", "observation_id"))  # a renamed column fails here

Filters: TypeAlias = "list[tuple[str, str, int | str]]"
"""Conditions (column, sign, value), all of which hold."""


def schema_of(names: Iterable[str], *, encoded: bool = False) -> pa.Schema:
    """The columns of those names; encoded: text as dictionaries, except for ids, of which no two are alike."""
    import pyarrow as pa

    types = {"text": pa.large_string(), "int": pa.int64(), "real": pa.float64(), "bool": pa.bool_()}
    if encoded:
        types["text"] = pa.dictionary(pa.int32(), pa.string())
    columns = {column.name: column for column in COLUMNS}
    kinds = {name: pa.large_string() if name == ID else types[columns[name].type] for name in names}
    return pa.schema([pa.field(name, kind, columns[name].nullable) for name, kind in kinds.items()])


def batch_of(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of the journal, at least one, in the order of the schema's columns.

    Raises ValueError, TypeError for a value that is not what its column holds: Arrow would make 404 of 404.5.
    """
    import pyarrow as pa

    numbers: dict[pa.DataType, set[type]] = {
        pa.int64(): {int, NoneType},
        pa.bool_(): {int, NoneType},
        pa.float64(): {float, int, NoneType},
    }

    arrays = []
    for values, field in zip(zip(*rows, strict=True), schema, strict=True):
        if not set(map(type, values)) <= numbers.get(field.type, {str, NoneType}):
            raise TypeError(f"{field.name} holds what it cannot hold")
        stored = pa.int64() if field.type == pa.bool_() else field.type
        arrays.append(pa.array(values, stored).cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def in_order(table: pa.Table, read_ids: Callable[[], pa.ChunkedArray]) -> pa.Table:
    """The rows by instant of sending and then id. Where they stand so already, as sealed rows nearly always do, nothing
    is moved: that would take longer than reading, and so would reading ids that decide nothing."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    at = table[AT]
    instants = at.to_numpy()
    rising = not bool((instants[1:] < instants[:-1]).any())
    ties = np.flatnonzero(instants[1:] == instants[:-1])
    if rising and not len(ties):
        return table
    ids = read_ids().combine_chunks()
    if rising and pc.less_equal(ids[:-1], ids[1:]).to_numpy(zero_copy_only=False)[ties].all():
        return table
    return table.take(pc.sort_indices(pa.table({AT: at, ID: ids}), [(AT, "ascending"), (ID, "ascending")]))


def put_aside(
    place: IO[bytes], pages: Iterable[Sequence[tuple[Any, ...]]], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Batches of pages of the journal's rows, written there to be read later, one at a time."""
    import pyarrow as pa

    # a stream's dictionaries may not change from batch to batch
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in schema]
    plain = pa.schema([field.with_type(kind) for field, kind in zip(schema, kinds, strict=True)])
    with pa.ipc.new_stream(place, plain) as sink:
        for page in pages:
            sink.write_batch(batch_of(page, plain))
    place.seek(0)
    return (batch.cast(schema) for batch in pa.ipc.open_stream(place))


def frame_of(rows: pa.Table, names: Iterable[str], *, categories: bool) -> pd.DataFrame:
    """Rows as `Store.frame` gives them, of the columns of those names; the text of the rows is dictionaries if
    `categories`."""
    import pandas as pd

    kinds = {column.name: column for column in COLUMNS}
    dtypes = {name: pandas_type(kinds[name], categories=categories) for name in names}
    return pd.DataFrame(
        {name: rows[name].to_pandas(types_mapper=lambda _, d=dtype: d) for name, dtype in dtypes.items()},
        index=pd.RangeIndex(rows.num_rows),
    )


def digest_of(ids: pa.ChunkedArray) -> str:
    """SHA-256 in hex over these texts, sorted as bytes, a newline after each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    one = ids.combine_chunks()
    one = one.take(pc.array_sort_indices(one))
    lines = pc.binary_join_element_wise(one, pa.scalar("", one.type), pa.scalar("\n", one.type))
    length = pc.sum(pc.binary_length(lines)).as_py() or 0  # of the buffer, which may be longer
    return hashlib.sha256(memoryview(lines.buffers()[2] or b"")[:length]).hexdigest()


def hashes_of(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """64-bit hashes of texts: what tells many of them apart in little room."""
    import numpy as np
    import pandas as pd

    return pd.util.hash_array(np.array(ids, object), categorize=False)


SMALL_ROWS: Final = 500
"""A file of fewer rows is neither compressed nor has it dictionaries: that makes it smaller, and quicker to read by a
factor of three, which counts where there are thousands."""

_LOT: Final = 50
"""So many small files are read together."""


def write(path: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """A file of these batches; how many rows it has. Each page has a checksum."""
    import pyarrow.parquet as pq

    rest = iter(batches)
    first = list(islice(rest, 1))
    small = sum(batch.num_rows for batch in first) < SMALL_ROWS
    how: dict[str, Any] = {"compression": "none" if small else "zstd", "use_dictionary": not small}
    rows = 0
    with pq.ParquetWriter(path, schema_of(NAMES), write_page_checksum=True, **how) as sink:
        for batch in chain(first, rest):
            sink.write_batch(batch)
            rows += batch.num_rows
    return rows


@dataclass(frozen=True, slots=True)
class Mark:
    """What a sealed file is known by. size: bytes; footer: SHA-256 in hex of its footer, which says where everything
    stands and how much of it; digest: of all of it. 0 and "" where an earlier format did not keep it."""

    size: int
    footer: str
    digest: str


def mark_of(path: Path) -> Mark:
    """The marks of a file as it is. Raises OSError, ValueError for what is no Parquet file."""
    with path.open("rb") as content:
        size, footer = _footer(content)
        content.seek(0)
        return Mark(size, footer, hashlib.file_digest(content, "sha256").hexdigest())


def _footer(content: BinaryIO) -> tuple[int, str]:
    size = content.seek(0, os.SEEK_END)
    content.seek(max(size - 8, 0))
    length = int.from_bytes(content.read(4), "little")
    if content.read() != b"PAR1" or length + 12 > size:
        raise ValueError("no Parquet file")
    content.seek(size - 8 - length)
    return size, hashlib.sha256(content.read(length)).hexdigest()


class Spanned(Protocol):
    """A file of which is known how many rows it has and when the first was sent, ns."""

    @property
    def rows(self) -> int:
        """How many."""

    @property
    def first_at(self) -> int:
        """When."""


def cuts_of(files: Iterable[Spanned], rows: int) -> list[int]:
    """Instants, ascending, at which files begin, with about so many rows from one to the next."""
    cuts: list[int] = []
    held = 0
    for file in sorted(files, key=lambda file: file.first_at):
        if held >= rows:
            cuts.append(file.first_at)
            held = 0
        held += file.rows
    return sorted(set(cuts))


def lots(files: Sequence[SealedFile]) -> list[Sequence[SealedFile]]:
    """The files in their order, so divided as they are best read: a large one alone, small ones by the dozen, whose
    rows are put together while they are at hand (ten thousand pieces take longer to put together than to read)."""
    divided: list[Sequence[SealedFile]] = []
    for small, run in groupby(files, _small):
        alike, size = list(run), _LOT if small else 1
        divided += [alike[at : at + size] for at in range(0, len(alike), size)]
    return divided


def read_lot(
    folder: Path, schema: pa.Schema, filters: Filters, lot: Sequence[SealedFile], *, threads: bool
) -> pa.Table:
    """The rows of a lot of sealed files that match, under that schema. threads: whether columns are read side by side.

    Raises DamageError as `read` does.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = not _small(lot[0]) and any(map(pa.types.is_dictionary, schema.types))
    names = dict.fromkeys([*schema.names, *(name for name, *_ in filters)])
    columns = schema_of(names, encoded=encoded)
    table = pa.concat_tables([read(folder / file.name, columns, file, threads=threads) for file in lot])
    if filters:
        table = table.filter(pq.filters_to_expression(filters))
    if len(lot) > 1:
        table = table.combine_chunks()
    return table.select(schema.names).cast(schema)


def read(path: Path, schema: pa.Schema, file: SealedFile, *, threads: bool = True) -> pa.Table:
    """The rows of a sealed file, under that schema.

    Raises DamageError when it is gone, or holds something else, as far as its size, its footer and the checksums of
    what is read tell; where an earlier format kept no marks, its footer's count of rows, first and last instant.
    """
    with _damage_told(path):
        return _whole(_opened(path, schema, file), schema, threads=threads)


def decoded(source: Any, schema: pa.Schema, *, small: bool) -> pa.Table:
    """The rows of a file that is at hand, under that schema. small: of fewer than SMALL_ROWS. Raises what pyarrow
    raises."""
    return _whole(_file(source, schema, small=small), schema, threads=False)


def _whole(content: pq.ParquetFile, schema: pa.Schema, *, threads: bool) -> pa.Table:
    some = schema.names if len(schema) < len(NAMES) else None  # to look up each takes as long as to read it
    table = content.read(some, use_threads=threads)  # pq.read_table takes twice as long
    table = table if table.schema.names == schema.names else table.select(schema.names)
    return table if table.schema == schema else table.cast(schema)


SCANNED_ROWS: Final = 1_000_000
"""Of a file with more rows than that so many at a time are held by who scans it."""


def scan_lot(folder: Path, schema: pa.Schema, filters: Filters, lot: Sequence[SealedFile]) -> Iterator[pa.Table]:
    """`read_lot` in pieces of at most SCANNED_ROWS rows, without threads. Raises DamageError as `read` does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if sum(file.rows for file in lot) <= SCANNED_ROWS:
        yield read_lot(folder, schema, filters, lot, threads=False)
        return
    names = dict.fromkeys([*schema.names, *(name for name, *_ in filters)])
    columns = schema_of(names, encoded=any(map(pa.types.is_dictionary, schema.types)))
    for file in lot:
        with _damage_told(folder / file.name):
            for batch in _opened(folder / file.name, columns, file).iter_batches(SCANNED_ROWS, columns=columns.names):
                table = pa.Table.from_batches([batch]).select(columns.names).cast(columns)
                if filters:
                    table = table.filter(pq.filters_to_expression(filters))
                yield table.select(schema.names).cast(schema)


def _opened(path: Path, schema: pa.Schema, file: SealedFile) -> pq.ParquetFile:
    """A sealed file that is as it was entered, its text to be read as that schema has it."""
    source = _as_entered(path, file)
    if source is None:
        raise DamageError(path, "it holds other rows than were sealed")
    return _file(source, schema, small=_small(file))


def _file(source: Any, schema: pa.Schema, *, small: bool) -> pq.ParquetFile:
    """small: it has no dictionaries, and to look through the schema takes a tenth of the time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = [] if small else [field.name for field in schema if pa.types.is_dictionary(field.type)]
    return pq.ParquetFile(source, read_dictionary=encoded, page_checksum_verification=True)


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """What goes wrong within, as a DamageError."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise DamageError(path, "it is missing") from error
    except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
        raise DamageError(path, "it is damaged") from error


def _small(file: SealedFile) -> bool:
    return file.rows < SMALL_ROWS


def _as_entered(path: Path, file: SealedFile) -> Path | pa.BufferReader | None:
    """Where to read a file that is as it was entered, as far as its footer tells: on disk, or, if it is small, from all
    it holds, since to open it twice takes longer. None for another file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.mark.footer:
        return path if held(pq.read_metadata(path)) == (file.rows, file.first_at, file.last_at) else None
    entered = (file.mark.size, file.mark.footer)
    with path.open("rb", buffering=0) as content:
        if not _small(file):
            return path if _footer(content) == entered else None
        whole = content.read(file.mark.size + 1)
    return pa.BufferReader(whole) if _footer(BytesIO(whole)) == entered else None


def held(metadata: pq.FileMetaData) -> tuple[int, int, int]:
    """How many rows, the first and the last instant of sending, as the footer has them."""
    place = metadata.schema.to_arrow_schema().names.index(AT)
    spans = [metadata.row_group(group).column(place).statistics for group in range(metadata.num_row_groups)]
    return metadata.num_rows, min(span.min for span in spans), max(span.max for span in spans)


class DamageError(StoreError):
    """A sealed file that is gone or does not hold what was sealed. `why` says which."""

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(
            f"the sealed file {path} cannot be read ({why}): bring it back from a copy, or see with `nestobs store"
            " verify` what is lost, and go on without it by `nestobs store verify --set-aside`"
        )

    def __reduce__(self) -> tuple[type[DamageError], tuple[Path, str]]:
        return type(self), (self.path, self.why)  # a worker's error is told where the work was given out


def pandas_type(column: Column, *, categories: bool = False) -> Any:
    """The pandas type of a column; None for what pandas makes of it."""
    import pandas as pd

    if column.type == "text":
        if categories and column.name != ID:
            return None
        return pd.StringDtype("pyarrow") if column.nullable else pd.StringDtype("pyarrow", na_value=float("nan"))
    if not column.nullable:
        return None
    return {"int": pd.Int64Dtype(), "real": pd.Float64Dtype(), "bool": pd.BooleanDtype()}[column.type]
