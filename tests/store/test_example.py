"""The store that ships: whole, of this format, small, with what the README promises of it, and only read."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import nestobs
from nestobs.cli.main import main
from nestobs.errors import StoreError
from nestobs.observation.schema import COLUMNS
from nestobs.store.example import EXAMPLE, SHIPPED, folder
from nestobs.store.inventory import contents, verify
from nestobs.store.reader import Store
from nestobs.store.sql import FORMAT, JOURNAL


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def files() -> dict[str, bytes]:
    return {str(path.relative_to(SHIPPED)): path.read_bytes() for path in sorted(SHIPPED.rglob("*")) if path.is_file()}


def test_it_is_whole_sealed_and_small():
    store = Store.open(EXAMPLE, create=False)
    assert verify(store) == []
    held = contents(store)
    assert (held.unsealed, held.lost, held.open_entries) == (0, 0, 0)
    assert held.rows > 5_000
    assert held.size < 500_000


def test_it_is_of_the_format_that_is_written_now():
    with closing(sqlite3.connect(f"{(SHIPPED / JOURNAL).as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
    assert list(Store.open(EXAMPLE).frame().columns) == [column.name for column in COLUMNS]


def test_reading_it_leaves_no_file_and_changes_none():
    before = files()
    assert len(nestobs.timelines(EXAMPLE)) > 100
    assert main(["store", "verify", "--store", EXAMPLE]) == 0
    assert files() == before
    assert set(before) == {JOURNAL, *(name for name in before if name.endswith(".parquet"))}


def test_it_can_be_read_where_nobody_may_write(tmp_path):
    copy = shutil.copytree(SHIPPED, tmp_path / "archive")
    for path in (*copy.rglob("*"), copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert Store.open(copy, create=False).count() == Store.open(EXAMPLE).count()
    finally:
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755)


@pytest.mark.slow
def test_a_race_and_a_standing_fault_are_in_it_seen_from_two_places():
    frame = nestobs.timelines(EXAMPLE)
    assert (frame["nest"].nunique(), frame["vantage"].nunique()) == (39, 2)  # as README says
    late = frame[(frame["layer"] == "api:guest") & (frame["lower_s"] > 1.0)]
    assert late["nest"].nunique() > 10
    faulty = {each.nest for each in nestobs.diagnose(EXAMPLE) if each.first.cause == "api_join_fault"}
    assert len(faulty) == 3


@pytest.mark.slow
def test_there_is_enough_in_it_to_tune():
    assert nestobs.tune(EXAMPLE, draws=20).why


def test_no_secret_and_no_path_of_a_machine_is_in_it():
    frame = nestobs.observations(EXAMPLE)
    said = "\n".join("\n".join(frame[name].dropna().astype(str).unique()) for name in frame.select_dtypes("str"))
    assert not re.search(r"nsec1|eyJ[\w-]+\.|Authorization|access_token|/(home|root|tmp|Users)/", said)


def test_nobody_writes_it(capsys):
    before = files()
    with pytest.raises(StoreError, match="only read: give --store"):
        Store.open(EXAMPLE).writer()
    line = '203.0.113.1 - - [04/Mar/2026:12:00:00 +0000] "GET /api/v1/nests/room/info HTTP/1.1" 404 30 "-" "-"\n'
    Path("access.log").write_text(line)
    for words in (["import", "access.log"], ["store", "seal", "--all"], ["store", "verify", "--set-aside"]):
        assert main([*words, "--store", EXAMPLE]) == StoreError.exit_code
        assert "only read" in capsys.readouterr().err
    assert files() == before


@pytest.mark.parametrize("named", ["./example", "example/", Path("example")], ids=str)
def test_each_way_to_write_the_word_names_it(named):
    assert folder(named) == SHIPPED


def test_a_folder_of_that_name_goes_first(tmp_path):
    mine = Store.open(tmp_path / EXAMPLE)
    assert Store.open(EXAMPLE, create=False).directory == mine.directory
    assert nestobs.timelines(EXAMPLE).empty


@pytest.mark.parametrize("named", ["examples", "Example", "stores/example"])
def test_no_other_word_names_it(named):
    with pytest.raises(StoreError, match=r"no store at .*`example` comes with nestobs"):
        Store.open(named, create=False)
