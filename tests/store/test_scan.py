"""A store read a batch at a time: the rows of `frame`, whatever is sealed, in bounded memory."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from nestobs.errors import StoreError, UsageError
from nestobs.observation.schema import COLUMNS
from nestobs.store import parquet, reader
from nestobs.store.reader import Store
from nestobs.store.sealing import FOLDER
from nestobs.store.sql import DAY
from worlds.full_nests import NOON as NESTS_AT
from worlds.full_nests import all_rows
from worlds.stored_rows import NOON, rows

pytestmark = pytest.mark.slow

NEXT = NESTS_AT + DAY
NAMES = [column.name for column in COLUMNS]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Nests of two days: one sealed, one in the journal; and a few small files."""
    found = Store.open(tmp_path / "store")
    with found.writer() as writer:
        for first in range(0, 40, 10):
            writer.append(rows(*range(first, first + 10), room="r", status=404))
            writer.seal(NOON + 2 * DAY)
        writer.append(all_rows(8))
        writer.append(all_rows(4, start=NEXT, first=8))
        writer.seal(NEXT - NEXT % DAY)
        writer.append(rows(*range(50, 60), sent_at=NEXT + 40 * DAY))
    return found


def framed(batches: list[pa.RecordBatch], names: list[str]) -> pd.DataFrame:
    table = pa.Table.from_batches(batches).combine_chunks()
    frame = parquet.frame_of(table, names, categories=True)
    return frame.sort_values(["sent_at", "observation_id"], ignore_index=True)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    plain = [each.astype({n: "str" for n in each if each[n].dtype == "category"}) for each in (one, other)]
    pd.testing.assert_frame_equal(*plain)


@pytest.mark.parametrize("scanned", [1_000_000, 17])
@pytest.mark.parametrize("ahead", [64 * 2**20, 1])
def test_a_scan_gives_the_rows_of_frame(
    store: Store, scanned: int, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "SCANNED_ROWS", scanned)
    monkeypatch.setattr(reader, "AHEAD_BYTES", ahead)
    whole = store.frame(categories=True)
    batches = list(store.scan())
    assert len(batches) > 2
    assert all(batch.num_rows for batch in batches)
    same(framed(batches, NAMES), whole.sort_values(["sent_at", "observation_id"], ignore_index=True))
    if scanned == 17:
        sealed = store.count() - sum(batch.num_rows for batch in batches if batch.num_rows > scanned)
        assert sealed > 0


def test_columns_and_days_are_pruned(store: Store) -> None:
    some = ["observation_id", "sent_at", "room", "status"]
    wanted = [name for name in NAMES if name in some]
    inside = store.frame(start=NEXT, end=NEXT + DAY, columns=some, categories=True)
    batches = list(store.scan(some[::-1], NEXT, NEXT + DAY))
    assert batches[0].schema.names == wanted
    same(framed(batches, wanted), inside)
    for path in (store.directory / FOLDER).glob("*.parquet"):
        path.unlink()  # what lies outside of the window is not even opened
    assert sum(batch.num_rows for batch in store.scan(["sent_at"], NEXT + 40 * DAY)) == 10
    assert not list(store.scan(["sent_at"], NEXT + 41 * DAY))


def test_what_is_written_and_sealed_meanwhile_changes_nothing(store: Store) -> None:
    count, scan = store.count(), store.scan(["observation_id"])
    found = [next(scan)]
    with store.writer() as writer:
        writer.append(rows(*range(1_000, 1_100)))
        writer.seal(NEXT + 50 * DAY)
    found += scan
    ids = [one for batch in found for one in batch[0].to_pylist()]
    assert len(ids) == len(set(ids)) == count


def test_a_scan_that_is_left_ends(store: Store) -> None:
    assert len(list(islice(store.scan(["sent_at"]), 1))) == 1
    with store.writer() as writer:
        writer.append(rows(2_000))


def test_a_damaged_file_and_a_wrong_column_are_said(store: Store) -> None:
    with pytest.raises(UsageError, match="no column 'colour'"):
        store.scan(["colour"])
    path = sorted((store.directory / FOLDER).glob("*.parquet"))[-1]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="damaged"):
        list(store.scan(["sent_at"]))
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        list(store.scan(["sent_at"]))
