"""What was shipped is read as one store: each row once, conflicts refused and named, windows and columns pruned."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import nestobs
from nestobs.errors import ForeignStoreError, StoreError, UsageError
from nestobs.observation.schema import Outcome
from nestobs.store.inventory import contents, verify
from nestobs.store.reader import Store
from nestobs.store.shipments import twins
from nestobs.store.shipments.names import Shipped, read_path
from nestobs.store.shipments.place import Place
from nestobs.store.shipments.reader import Shipments
from nestobs.store.sql import DAY
from worlds.shipped_stores import NOON, at, files_at, held, in_order, seen, shipped, stored

pytestmark = pytest.mark.slow


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "fleet"


def apart(tmp_path: Path, *more: object, **changes: object) -> tuple[Store, Store]:
    """A store, and a copy of it that went on from the same journal: its one file is cut otherwise."""
    store = stored(tmp_path / "a", seen(*range(100)), sealed=False)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    stored(tmp_path / "a", seen(200))
    return store, stored(tmp_path / "copy", seen(*range(100, 150)))


# as a folder is


@pytest.mark.parametrize("spelt", [str, Path, lambda path: f"file://{path}", lambda path: f"{path}/"])
def test_a_folder_and_its_url_open_as_a_store(tmp_path, to, spelt):
    shipped(stored(tmp_path / "a", seen(1)), to)
    assert nestobs.open(spelt(to)).count() == 1
    assert nestobs.open(spelt(tmp_path / "a")).count() == 1
    assert Store.open(spelt(tmp_path / "a"), create=False).directory == tmp_path / "a"


def test_every_reading_method_says_what_the_store_says(tmp_path, to):
    rows = seen(*range(700), nest="n", room="r", trace_id="t") + seen(*range(30), day=1)
    store = stored(tmp_path / "a", rows)
    shipped(store, to)
    found = Store.open(to)
    window = {"start": at(100), "end": at(100) + DAY}
    assert found.count() == store.count() == 730
    assert found.digest() == store.digest()
    assert found.digest(**window) == store.digest(**window)
    assert found.newest()[1] == store.newest()[1]
    for more in ({}, window, {"columns": ["outcome"]}):
        assert scanned(found, **more) == scanned(store, **more)
    for more in ({}, window, {"room": "r"}, {"trace_id": "t", "columns": ["outcome"]}, {"columns": ["observation_id"]}):
        for categories in (False, True):
            pd.testing.assert_frame_equal(
                found.frame(**more, categories=categories),
                store.frame(**more, categories=categories),
                check_categorical=False,
            )
    assert list(found.observations(start=at(690))) == list(store.observations(start=at(690)))
    assert (found.ledger(), found.tail(0, 10), found.passed(0), found.seal(before=0)) == ([], ([], 0), False, [])
    assert found.location == str(to)


def scanned(store: Store, **more: object) -> list[dict]:
    batches = list(store.scan(**more))
    assert all(batch.num_rows for batch in batches)
    assert {tuple(map(str, batch.schema)) for batch in batches} == {tuple(map(str, batches[0].schema))}
    return sorted((row for batch in batches for row in batch.to_pylist()), key=repr)


def test_it_is_only_read(tmp_path, to):
    shipped(stored(tmp_path / "a", seen(1)), to)
    for call in (lambda: Store.open(to).writer(), lambda: Store.open(to).directory):
        with pytest.raises(StoreError, match=r"is only read: give --store a folder, and ship what it holds"):
            call()


def test_where_nothing_was_shipped_that_is_said(tmp_path):
    (tmp_path / "shipped-1").mkdir()
    with pytest.raises(StoreError, match=r"nothing was shipped to .* yet: `nestobs ship --to"):
        nestobs.open(tmp_path)
    with pytest.raises(StoreError, match="nothing was shipped to memory://nowhere yet"):
        nestobs.open("memory://nowhere")


def test_a_url_in_a_path_is_told(tmp_path):
    with pytest.raises(UsageError, match="was a URL before it was made a Path: give it as text"):
        Store.open(Path("s3://bucket/prefix"))


def test_a_window_reads_its_files_alone(tmp_path, to):
    shipped(stored(tmp_path / "a", [row for day in range(5) for row in seen(1, 2, day=day)]), to)
    for path in to.rglob("*.parquet"):
        if "2024-10-06" not in str(path):
            path.write_bytes(b"")  # whoever asks for it, hears of it
    (path,) = (to / "shipped-1" / "here").glob("2024-10-06")
    start = NOON + 2 * DAY
    assert list(Store.open(to).observations(start=start, end=start + DAY)) == seen(1, 2, day=2)
    with pytest.raises(StoreError):
        Store.open(to).frame()


# overlapping, doubled, conflicting


def test_the_same_rows_cut_otherwise_count_once(tmp_path, to):
    for store in apart(tmp_path):
        shipped(store, to)
    wanted = seen(*range(150), 200)
    assert len(files_at(to)) == 2
    assert held(to) == wanted
    assert Store.open(to).count() == 151
    assert list(Store.open(to).frame(columns=["sent_at"])["sent_at"]) == [row.sent_at for row in wanted]
    window = {"start": at(50), "end": at(120)}
    assert list(Store.open(to).observations(**window)) == wanted[50:120]


def test_rows_that_are_there_twice_are_told_and_nothing_is_wrong(tmp_path, to):
    for store in apart(tmp_path):
        shipped(store, to)
    (found,) = verify(Store.open(to))
    assert not found.wrong
    assert found.said.startswith("100 rows are in shipped-1/here/2024-10-04/")
    assert contents(Store.open(to)).rows == 151


def test_one_id_of_two_rows_is_refused_and_both_files_are_named(tmp_path, to):
    rows = seen(*range(10))
    shipped(stored(tmp_path / "a", rows), to)
    other = seen(*range(5, 9)) + seen(9, outcome=Outcome.VISIBLE)
    shipped(stored(tmp_path / "b", other), to)
    first, second = files_at(to)
    found = Store.open(to)
    for call in (found.count, found.frame, found.digest, lambda: found.frame(columns=["nest"])):
        with pytest.raises(StoreError, match=rows[9].observation_id) as refused:
            call()
        assert "outcome differ" in str(refused.value)
        assert {first, second} <= set(str(refused.value).replace(",", " ").replace("(", " ").split())
    (bad,) = [each for each in verify(Store.open(to)) if each.wrong]
    assert {bad.file, bad.said.split()[-1]} == {first, second}
    assert rows[9].observation_id in bad.said


def test_a_window_is_refused_for_a_row_whose_twin_is_outside_it(tmp_path, to):
    row = seen(1)[0]
    shipped(stored(tmp_path / "a", [row]), to)
    later = seen(1, day=1, observation_id=row.observation_id)
    shipped(stored(tmp_path / "b", later + seen(2, day=1)), to)
    with pytest.raises(StoreError, match="sent_at"):
        Store.open(to).frame(end=at(1) + 1)
    with pytest.raises(StoreError, match="sent_at"):
        Store.open(to).frame(start=at(1) + DAY)


def test_vantages_whose_ids_interleave_are_read_whole(tmp_path, to):
    rows = [seen(*range(place, 900, 3), vantage=f"v{place}") for place in range(3)]
    for place, each in enumerate(rows):
        shipped(stored(tmp_path / str(place), each), to)
    assert held(to) == in_order(*rows[0], *rows[1], *rows[2])


def test_more_files_than_are_compared_at_once(tmp_path, to):
    """Each day once, and the first and last again from a backup: met though many files lie between."""
    days = 2 * twins.GROUP + 3
    rows = [each for day in range(days) for each in seen(1, 2, day=day)]
    shipped(stored(tmp_path / "a", rows), to)
    shipped(stored(tmp_path / "b", [*rows[:1], rows[-1]]), to)
    shipped(stored(tmp_path / "c", [rows[0], *seen(3, observation_id="no uuid"), rows[-1]]), to)
    assert held(to) == in_order(*rows, *seen(3, observation_id="no uuid"))
    assert Store.open(to).count() == len(rows) + 1


def test_rows_are_known_again_from_one_lot_of_files_to_the_next(tmp_path, to, monkeypatch):
    monkeypatch.setattr("nestobs.store.shipments.reader.GROUP", 1)
    for store in apart(tmp_path):
        shipped(store, to)
    assert held(to) == seen(*range(150), 200)


def test_only_what_may_meet_another_file_is_read_to_be_counted(tmp_path, to):
    shipped(stored(tmp_path / "a", seen(1, 2) + seen(1, 2, day=1)), to)
    for path in to.rglob("*.parquet"):
        path.write_bytes(b"")
    assert Store.open(to).count() == 4


# half, changed, foreign


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def foreign(path: Path) -> None:
    import hashlib

    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(path.with_name(f"{path.name.rpartition('_')[0]}_{digest}.parquet"))


def renamed(path: Path) -> None:
    first, rest = path.name.split("_", 1)
    path.rename(path.with_name(f"{int(first) - 1}_{rest}"))


def changed(path: Path) -> None:
    """As long, as many rows, sent when they were, every checksum right: but not what was shipped."""
    import pyarrow.parquet as pq

    from nestobs.store import parquet

    table, size = pq.ParquetFile(path).read(), path.stat().st_size
    place = table.schema.get_field_index("vantage")
    other = table.set_column(place, table.schema.field(place), pa.array(["hero"] * len(table), pa.large_string()))
    parquet.write(path, other.to_batches())
    assert path.stat().st_size == size


@pytest.mark.parametrize("harm", [half, flipped, foreign, renamed, changed])
def test_what_is_not_whole_is_refused_by_name(tmp_path, to, harm: Callable[[Path], None]):
    shipped(stored(tmp_path / "a", seen(*range(10))), to)
    (path,) = to.rglob("*.parquet")
    harm(path)
    (path,) = to.rglob("*.parquet")
    with pytest.raises(StoreError, match=r"cannot be read .*: remove it, and ship it again from its store") as refused:
        Store.open(to).frame()
    assert path.name in str(refused.value)
    (bad,) = verify(Store.open(to))
    assert (bad.wrong, bad.lost, bad.file) == (True, 10, str(path.relative_to(to)))


def test_what_nestobs_did_not_ship_is_left_and_told(tmp_path, to, caplog):
    shipped(stored(tmp_path / "a", seen(1)), to)
    (path,) = to.rglob("*.parquet")
    (path.with_name("mine.parquet")).write_bytes(b"PAR1")
    path.with_name(f".{path.name}.ab.tmp").write_bytes(b"")
    shutil.copytree(to / "shipped-1" / "here", to / "shipped-1" / "there", ignore=shutil.ignore_patterns("mine*", ".*"))
    store = Store.open(to)
    assert store.count() == len(store.frame()) == 1
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        f"1 files at {to} are none that nestobs shipped"
    ]
    assert sorted(each.said.split(":")[0] for each in verify(store)) == [
        "a copy of a file that is there",
        "being written, or left half written",
        "not one that nestobs shipped",
    ]
    assert not any(each.wrong for each in verify(store))


def test_a_store_beside_what_was_shipped_to_it_is_a_store(tmp_path, to):
    shipped(stored(tmp_path / "a", seen(1)), to)
    shutil.copytree(tmp_path / "a", to, dirs_exist_ok=True)
    assert not isinstance(Store.open(to), Shipments)
    with pytest.raises(UsageError, match="is the folder of a store"):
        shipped(stored(tmp_path / "b", seen(3)), to)


def test_a_journal_of_others_is_told_as_ever(tmp_path):
    (tmp_path / "journal.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 9)
    (tmp_path / "shipped-1").mkdir()
    with pytest.raises(ForeignStoreError):
        Store.open(tmp_path)


# the parts


def test_equal_texts_have_equal_hashes_whatever_stands_beside_them():
    texts = ["", "a", "b", "id-000000001", "id-000000002", *(row.observation_id for row in seen(1, 2, 3)), "é" * 30]
    together = dict(zip(texts, twins.hashes(pa.array(texts, pa.large_string())), strict=True))
    assert len(set(together.values())) == len(texts)
    for text in texts:
        assert twins.hashes(pa.array([text], pa.string())) == [together[text]]
        assert twins.hashes(pa.chunked_array([["x"], [text]]))[1] == together[text]
    assert len(twins.hashes(pa.array([], pa.large_string()))) == 0
    sliced = pa.array(texts, pa.large_string()).slice(3, 2)
    assert list(twins.hashes(sliced)) == [together[texts[3]], together[texts[4]]]


def file(low: int, high: int, name: str) -> Shipped:
    return Shipped(path=name, size=1, first_at=0, last_at=0, rows=1, low=low, high=high, digest=name)


def test_files_are_alone_whose_ids_no_other_can_have():
    files = [file(0, 1, "a"), file(2, 5, "b"), file(5, 6, "c"), file(8, 8, "d"), file(7, 7, "e")]
    assert twins.alone(files) == {"a", "d", "e"}
    assert twins.alone([*files, file(0, 2**48 - 1, "all")]) == set()


def test_a_path_is_read_back(tmp_path, to):
    shipped(stored(tmp_path / "a", seen(1, 7)), to)
    (path,) = files_at(to)
    read = read_path(path, 5)
    assert (read.first_at, read.last_at, read.rows, read.size) == (at(1), at(7), 2, 5)
    assert (read.low, read.high) == (at(1) // 1_000_000, at(7) // 1_000_000)
    assert read_path(f"x{path}", 5) is None
    assert read_path(path.replace("_2_", "_0_"), 5) is None


def test_places_of_memory_are_read_and_written():
    place = Place.of("memory://somewhere/else")
    place.put("shipped-1/a", b"x")
    assert (place.read("shipped-1/a"), place.sizes("shipped-1")) == (b"x", {"shipped-1/a": 1})
    place.remove("shipped-1/a")
    place.remove("shipped-1/a")
    assert place.sizes("shipped-1") == {}
