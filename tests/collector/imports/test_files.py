"""Files in, new rows of a store out: told by content, packed or not, twice without a second row, and said."""

from __future__ import annotations

import gzip
import json
import random

import pytest

from nestobs.cli.main import main
from nestobs.collector.imports import files
from nestobs.collector.imports.files import import_files
from nestobs.collector.imports.said import Names
from nestobs.collector.imports.words import words_of
from nestobs.errors import UsageError
from nestobs.observation.detail import facts_of
from nestobs.store.reader import Store
from worlds.imported import HOST, NEST, ROOM, access, morgan, store_of, winston, zap
from worlds.parsers_of_logs import ACCESS, API, CONSOLE, HAR, LIVEKIT, TRANSCRIPT

ASKED = f"GET /api/v1/nests/{ROOM}"
KINDS = {"api": API, "livekit": LIVEKIT, "nginx": ACCESS, "relay": TRANSCRIPT, "console": CONSOLE, "har": HAR}


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_is_told_by_content(kind, tmp_path, store):
    found = import_files(store, [put(tmp_path, "file.txt", KINDS[kind])])
    assert [part.word for part in found.parts] == [kind]
    assert found.new == len(found.rows) > 0


def test_one_file_of_several_programs_is_told_line_by_line(tmp_path, store):
    lines = [*API.split("\n")[:2], *LIVEKIT.split("\n"), *ACCESS.split("\n")]
    random.Random(1).shuffle(lines)
    found = import_files(store, [put(tmp_path, "compose.log", "\n".join(lines))])
    assert {part.word for part in found.parts} == {"api", "livekit", "nginx"}
    assert {row.vantage for row in found.rows} == {"api-log", "livekit-log", "nginx-log"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_file_twice_adds_nothing_whatever_it_is_called_and_however_it_is_packed(kind, tmp_path, store):
    first = import_files(store, [put(tmp_path, "a.log", KINDS[kind])])
    for name, content in (("b.log", KINDS[kind].encode()), ("a.log.1.gz", gzip.compress(KINDS[kind].encode()))):
        again = import_files(store, [put(tmp_path, name, content)])
        assert (again.new, again.known) == (0, first.new)
    assert store.count() == first.new


def test_a_log_that_has_grown_adds_what_is_new_and_equal_lines_stay_apart(tmp_path, store):
    line = access(1, f"{ASKED}/guest", 404)
    assert import_files(store, [put(tmp_path, "a.log", f"{line}\n{line}\n")]).new == 2
    assert import_files(store, [put(tmp_path, "a.log", f"{line}\n{line}\n{line}\n{access(2, ASKED, 404)}\n")]).new == 2


def test_a_row_says_where_it_came_from(tmp_path):
    frame = store_of(tmp_path, api__log=API).frame()
    imported = [facts_of(text)["imported"] for text in frame["detail"]]
    assert {one["file"] for one in imported} == {"api.log"}
    assert all(len(one["digest"]) == 16 and one["line"] >= 1 and one["format"] == "api" for one in imported)
    assert frame["run_id"].nunique() == frame["vantage"].nunique()  # a run is one clock


def test_files_that_are_imported_together_name_the_nest_of_each_others_rows(tmp_path):
    frame = store_of(tmp_path, api__log=API, livekit__log=LIVEKIT, access__log=ACCESS).frame()
    assert set(frame.loc[frame["room"] == ROOM, "nest"]) == {NEST}
    assert frame.loc[frame["room"] == ROOM, "trace_id"].nunique() == 1


def test_what_is_not_understood_is_counted_and_named(tmp_path, store):
    lines = [morgan(1, ASKED, 404), "what is this", "", "\x00\x01", winston(2, "Environment: production")]
    found = import_files(store, [put(tmp_path, "a.log", "\n".join(lines))])
    said = words_of(found)
    assert "a.log: the Nests API's log, 4 lines, 1 observations, 1 about no nest; 2 not understood" in said[0]
    assert "first lines 2, 4" in said[0]


def test_what_was_assumed_and_what_relates_the_clocks_is_said(tmp_path, store):
    said = "\n".join(words_of(import_files(store, [put(tmp_path, "a", API), put(tmp_path, "b", f"{TRANSCRIPT}\n")])))
    assert "tell only their end: each is taken to have begun at most 2 s before" in said
    assert "api-log: its clock is the one that others are compared with" in said
    assert "relay-log: nothing in these files relates its clock" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello\nworld\n", "in no format that is known here"),
        (b"", "in no format"),
        (b"\x1f\x8b\x08\x00broken", "cannot be unpacked"),
        (b'{"log": {"entries": [', "in no format"),
    ],
)
def test_a_file_of_nothing_known_is_a_sentence_and_nothing_is_written(content, words, tmp_path, store):
    good = put(tmp_path, "good.log", API)
    with pytest.raises(UsageError, match=words):
        import_files(store, [good, put(tmp_path, "bad", content)])
    assert store.count() == 0


def test_a_bomb_is_refused(tmp_path, store, monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", 1_000_000)
    with pytest.raises(UsageError, match="cut it to the hours that matter"):
        import_files(store, [put(tmp_path, "a.gz", gzip.compress(b"\n" * 2_000_000))])


@pytest.mark.parametrize("url", ["https://u:p@n.example/api/v1/nests", "wss://n.example/rtc?access_token=x"])
def test_a_url_with_a_secret_in_it_is_refused(url, tmp_path, store):
    with pytest.raises(UsageError, match="password or token"):
        import_files(store, [put(tmp_path, "a", API)], Names(api=url))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_powershell_wrote_is_read(encoding, tmp_path, store):
    assert import_files(store, [put(tmp_path, "a.log", API.encode(encoding))]).new > 5


def test_the_command_says_it_in_words_and_in_json(tmp_path, capsys):
    log = put(tmp_path, "api.log", API)
    words = ["import", str(log), "--store", str(tmp_path / "s"), "--vantage", "server"]
    assert main(words) == 0
    assert "seen from server" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["new"], data["clocks"]["server"]) == (0, {"offset_s": 0.0, "error_s": 0.0, "events": 0, "agree": True})
    assert main(["import", str(tmp_path / "none.log"), "--store", str(tmp_path / "s")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_line_of_any_length_costs_its_length(tmp_path, store):
    lines = [f'{{"level":"info","message":"{"x" * 1_000_000}"}}', zap(1, "room closed"), "y" * 3_000_000]
    found = import_files(
        store, [put(tmp_path, "a.log", "\n".join([*lines, winston(1, f"Created nest {ROOM} for host {HOST}")]))]
    )
    assert found.new == 2
