"""Reading what was shipped against pyarrow.dataset on the same files. Run by `make bench`.

`scan_to_dataset` (limit: LIMIT): seconds of `Store.scan` of all columns of a folder to which was shipped, over those of
pyarrow.dataset's batches; the median of interleaved rounds. What is done beside reading: each file's digest, and of
files that may share an id which rows are there twice. `overlapping`: the same where two vantages observed at the same
time, so that each file is compared with others (no limit). Prints one JSON object.
"""

import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import pyarrow as pa
import pyarrow.dataset as ds

import nestobs
from benchmarks.capacity_measured import sealed
from nestobs.store.parquet import NAMES, schema_of
from nestobs.store.reader import Store
from nestobs.store.shipments.names import FOLDER
from nestobs.store.shipments.shipping import destination, ship
from worlds.full_nests import all_rows

ROWS, NESTS, ROUNDS = 600_000, 40, 5
LIMIT = 3.0
CODED = schema_of(NAMES, encoded=True)


def place_of(folder: Path, vantages: int, rows: int) -> Path:
    """A folder to which so many vantages, that observed at the same time, shipped so many rows together."""
    first = Store.open(folder / "first")
    with first.writer() as writer:
        writer.append(all_rows(NESTS))
    like = pa.Table.from_batches(first.scan()).cast(schema_of(NAMES))
    for number in range(vantages):
        store = sealed(folder / f"store-{number}", like, rows // vantages, seed=number)
        ship(store, destination(store, folder / "place"), before=2**63 - 1)
    return folder / "place"


def scanned_s(store: Store) -> tuple[float, int]:
    """Seconds of a scan of all columns, and the rows."""
    began = perf_counter()
    rows = sum(batch.num_rows for batch in store.scan())
    return perf_counter() - began, rows


def dataset_s(folder: Path) -> tuple[float, int]:
    """The same of pyarrow.dataset, text as dictionaries as well."""
    began = perf_counter()
    how = ds.ParquetFileFormat(dictionary_columns=[field.name for field in CODED if pa.types.is_dictionary(field.type)])
    rows = sum(batch.num_rows for batch in ds.dataset(folder / FOLDER, format=how).to_batches())
    return perf_counter() - began, rows


def ratio(folder: Path, vantages: int) -> dict[str, float]:
    """Ours over pyarrow's, median of rounds."""
    place = place_of(folder, vantages, ROWS)
    store = nestobs.open(str(place))
    taken = [(scanned_s(store), dataset_s(place)) for _ in range(ROUNDS)]
    assert len({rows for pair in taken for _, rows in pair}) == 1
    return {
        "rows": taken[0][0][1],
        "scan_s": round(median(ours for (ours, _), _ in taken), 3),
        "dataset_s": round(median(theirs for _, (theirs, _) in taken), 3),
        "scan_to_dataset": round(median(ours / theirs for (ours, _), (theirs, _) in taken), 2),
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        alone = ratio(Path(folder) / "alone", 1)
        overlapping = ratio(Path(folder) / "overlapping", 2)
    print(json.dumps({"alone": alone, "overlapping": overlapping}, indent=2))
    if alone["scan_to_dataset"] > LIMIT:
        print(f"shipped rows are scanned {alone['scan_to_dataset']} times as long as by pyarrow.dataset: the limit is"
              f" {LIMIT}", file=sys.stderr)  # fmt: skip  # one sentence
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
