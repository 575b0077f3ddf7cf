"""Shipping to a folder: whole files, each once, whoever ships how often; what cannot be shipped is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nestobs.errors import StoreError, UsageError
from nestobs.store.reader import Store
from nestobs.store.shipments.names import FOLDER
from nestobs.store.shipments.place import Place
from nestobs.store.shipments.shipping import destination, ship
from nestobs.store.sql import DAY
from worlds.shipped_stores import EVER, NOON, files_at, held, in_order, seen, shipped, stored

pytestmark = pytest.mark.slow


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "fleet"


def test_what_was_shipped_is_read_as_it_was_written(tmp_path, to):
    rows = seen(*range(300)) + seen(*range(300), day=1)
    made = shipped(stored(tmp_path / "a", rows), to)
    assert (len(made.shipped), made.there, made.rows) == (2, 0, 600)
    assert held(to) == rows


def test_a_path_tells_vantage_day_and_digest(tmp_path, to):
    import hashlib

    shipped(stored(tmp_path / "a", seen(1, vantage="Computer A")), to)
    (path,) = files_at(to)
    folder, vantage, day, name = path.split("/")
    assert (folder, day) == (FOLDER, "2024-10-04")
    assert vantage.startswith("Computer-A-")
    assert name.endswith(f"_{hashlib.sha256((to / path).read_bytes()).hexdigest()}.parquet")


def test_shipping_again_puts_nothing_and_changes_nothing(tmp_path, to):
    store = stored(tmp_path / "a", seen(*range(10)))
    shipped(store, to)
    before = {path: path.stat().st_mtime_ns for path in to.rglob("*.parquet")}
    again = shipped(store, to)
    assert (again.shipped, again.there) == ([], 1)
    assert {path: path.stat().st_mtime_ns for path in to.rglob("*.parquet")} == before


def test_what_is_new_follows(tmp_path, to):
    store = stored(tmp_path / "a", seen(1))
    shipped(store, to)
    stored(tmp_path / "a", seen(2, day=1))
    assert len(shipped(store, to).shipped) == 1
    assert held(to) == seen(1) + seen(2, day=1)


def test_days_that_are_over_are_sealed_first_and_others_are_left(tmp_path, to):
    store = Store.open(tmp_path / "a")
    with store.writer() as writer:
        writer.append(seen(1) + seen(2, day=1))
    made = shipped(store, to, before=NOON + DAY)
    assert (made.rows, made.unsealed, made.unsealed_why) == (1, 1, "")
    assert held(to) == seen(1)
    made = shipped(store, to)
    assert (made.rows, made.unsealed) == (1, 0)


def test_a_store_that_is_being_written_ships_what_is_sealed(tmp_path, to):
    store = stored(tmp_path / "a", seen(1))
    with Store.open(tmp_path / "a").writer() as writer:
        writer.append(seen(2))
        writer.flush()
        made = shipped(store, to)
    assert (made.rows, made.unsealed) == (1, 1)
    assert "is writing to the store" in made.unsealed_why


def test_many_vantages_ship_into_one_place(tmp_path, to):
    rows = [seen(*range(50), vantage=name) for name in ("Computer A", "Computer B", "../..", "")]
    for number, each in enumerate(rows):
        shipped(stored(tmp_path / str(number), each), to)
    assert held(to) == in_order(*rows[0], *rows[1], *rows[2], *rows[3])
    assert len({path.split("/")[1] for path in files_at(to)}) == 4
    assert all(path.is_relative_to(to / FOLDER) for path in to.rglob("*.parquet"))


def test_files_that_a_nestobs_before_sealed_have_no_digest_in_the_journal_and_are_shipped(tmp_path, to):
    from worlds.format_1 import write_format_1

    write_format_1(tmp_path / "a", seen(1, 2), seen(3, day=1))
    store = Store.open(tmp_path / "a", create=False)
    assert shipped(store, to, before=0).rows == 2
    assert (shipped(store, to, before=0).shipped, held(to)) == ([], seen(1, 2))


def test_a_file_of_which_half_is_there_is_put_whole(tmp_path, to):
    store = stored(tmp_path / "a", seen(*range(10)))
    shipped(store, to)
    (path,) = to.rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    assert len(shipped(store, to).shipped) == 1
    assert held(to) == seen(*range(10))


def test_a_damaged_file_is_named_and_the_others_are_shipped(tmp_path, to):
    store = stored(tmp_path / "a", seen(1) + seen(2, day=1))
    bad, _ = sorted((tmp_path / "a" / "observations").iterdir())
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    made = shipped(store, to)
    assert bad.name in made.damaged[0]
    assert len(made.damaged) == len(made.shipped) == 1
    assert held(to) == seen(2, day=1)


def test_a_file_that_is_gone_is_named(tmp_path, to):
    store = stored(tmp_path / "a", seen(1) + seen(2, day=1))
    min((tmp_path / "a" / "observations").iterdir()).unlink()
    assert "it is missing" in shipped(store, to).damaged[0]


def test_drafts_that_a_killed_shipper_left_are_swept_once_their_file_is_there(tmp_path, to):
    store = stored(tmp_path / "a", seen(1))
    shipped(store, to)
    (path,) = to.rglob("*.parquet")
    ours, strange = path.with_name(f".{path.name}.0a1b2c3d.tmp"), path.with_name(".other.parquet.0a1b2c3d.tmp")
    for each in (ours, strange):
        each.write_bytes(b"half")
    shipped(store, to)
    assert (ours.exists(), strange.exists()) == (False, True)
    assert held(to) == seen(1)


def test_a_draft_that_another_took_for_left_over_is_no_failure(tmp_path, monkeypatch):
    """Two put the same file: one sweeps the other's draft before it has its name."""
    place = Place.of(tmp_path)
    place.put("a/b", b"content")
    replace = Path.replace

    def swept(self: Path, target: Path) -> Path:
        self.unlink()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", swept)
    place.put("a/b", b"content")
    assert place.read("a/b") == b"content"
    with pytest.raises(StoreError):
        place.put("a/c", b"content")


def test_the_folder_of_a_store_is_no_destination(tmp_path):
    store = stored(tmp_path / "a", seen(1))
    with pytest.raises(UsageError, match="is the folder of a store: ship to another one"):
        destination(store, tmp_path / "a")


def test_a_folder_that_may_not_be_written_is_a_sentence_and_the_store_stays(tmp_path):
    store = stored(tmp_path / "a", seen(1))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=r"cannot be used \(Not a directory\): name a folder that you may read"):
        ship(store, destination(store, tmp_path / "file"), before=EVER)
    assert store.count() == 1


def test_what_was_shipped_cannot_be_shipped_on(tmp_path, to):
    shipped(stored(tmp_path / "a", seen(1)), to)
    with pytest.raises(StoreError, match="is only read"):
        destination(Store.open(to), tmp_path / "other")


def test_a_copy_and_a_backup_ship_the_same_files(tmp_path, to):
    store = stored(tmp_path / "a", seen(*range(10)))
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    shipped(store, to)
    assert shipped(Store.open(tmp_path / "copy"), to).shipped == []


def test_progress_counts_what_is_there(tmp_path, to):
    store, told = stored(tmp_path / "a", seen(1) + seen(2, day=1)), []
    ship(store, destination(store, to), before=EVER, progress=lambda *facts: told.append(facts))
    assert [facts[:2] for facts in told] == [(0, 2), (1, 2), (2, 2)]
    assert told[-1][2] == sum(path.stat().st_size for path in to.rglob("*.parquet"))
