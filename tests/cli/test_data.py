"""timeline, export and store: what was observed, by any name of a nest, whole in a file; and whether it is whole."""

from __future__ import annotations

import re

import pandas as pd
import pytest

import nestobs
from nestobs.nostr import ROOM_KIND, Address, Keys, write_naddr
from nestobs.store.reader import Store
from nestobs.store.sql import DAY
from nestobs.timeline.intervals import SCHEMA
from worlds.command_line import GOLDEN, WRITE_GOLDEN, is_one_sentence
from worlds.stored_rows import NOON, row, rows

pytestmark = pytest.mark.slow

# words that are wrong


def test_a_malformed_address_of_a_timeline_is_refused(stored, run):
    is_one_sentence(run("timeline", "a room"), 2, "naddr")


# timeline


def test_timelines_of_all_nests_are_json(observed, run):
    said = run("timeline", "--store", str(observed[1]), "--json")
    assert said.code == 0
    rows = [row for row in said.data if row["room"] in observed[0].data["rooms"]]
    assert {row["room"] for row in rows} == set(observed[0].data["rooms"])
    assert {row["vantage"] for row in rows} == {"Computer A", "Computer B"}
    layers = {row["layer"].partition(":")[0] for row in rows}
    assert layers == {"relay", "api", "livekit", "client"}
    assert set(rows[0]) == {column.name for column in SCHEMA}


def test_timelines_as_json_are_the_frames_of_python(observed, run):
    frame = nestobs.timelines(observed[1])
    rows = run("timeline", "--store", str(observed[1]), "--json").data
    assert len(rows) == len(frame)
    finite = frame[~frame["right_censored"]].iloc[0]
    row = next(r for r in rows if all(r[name] == finite[name] for name in ("room", "layer", "vantage")))
    assert row["upper_s"] == pytest.approx(finite["upper_s"])
    assert pd.Timestamp(row["origin_at"]) == pytest.approx(finite["origin_at"], abs=pd.Timedelta("1ms"))


def test_one_nest_is_asked_for_by_any_of_its_names(observed, run):
    store, room = str(observed[1]), observed[0].data["rooms"][0]
    nest = next(row["nest"] for row in run("timeline", "--store", store, "--json").data if row["room"] == room)
    _, pubkey, _ = nest.split(":")
    names = [room, nest, write_naddr(Address(ROOM_KIND, pubkey, room))]
    answers = [run("timeline", name, "--store", store, "--json").data for name in names]
    assert {row["room"] for row in answers[0]} == {room}
    assert answers[0] == answers[1] == answers[2]


def test_the_address_of_somebody_elses_nest_with_the_same_room_is_another_nest(observed, run):
    stranger = Keys.generate().public
    said = run("timeline", f"30312:{stranger}:{observed[0].data['rooms'][0]}", "--store", str(observed[1]), "--json")
    assert said.data == []


def test_timelines_in_words_tell_relays_apart_in_a_narrow_terminal(observed, lab, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = run("timeline", observed[0].data["rooms"][0], "--store", str(observed[1]))
    assert said.code == 0
    ports = {relay.rstrip("/").rpartition(":")[2] for relay in lab.way("calm")["relays"]}
    assert [port for port in ports if port not in said.out] == []


def test_timelines_in_words_show_each_layer_and_interval(observed, run):
    said = run("timeline", observed[0].data["rooms"][0], "--store", str(observed[1]))
    assert said.code == 0
    assert said.out.count("api:info") == 2
    assert re.search(r"\(\d+\.\d\d, \d+\.\d\d\]", said.out)
    assert observed[0].data["rooms"][1] not in said.out


def test_a_nest_that_the_store_does_not_know_is_told_so(observed, run):
    said = run("timeline", "no-such-room", "--store", str(observed[1]))
    assert said.code in (0, 1)
    assert "no-such-room" in said.out + said.err
    assert "the store holds no observation of a nest" not in said.out


def test_an_empty_store_has_no_timelines(home, run):
    Store.open(home / "nestobs-data")
    assert run("timeline", "--json").data == []
    assert "no timelines" in run("timeline").out


# export


def test_observations_go_to_parquet_and_come_back_whole(observed, run, home):
    said = run("export", "--parquet", "x.parquet", "--store", str(observed[1]), "--json")
    assert said.code == 0
    frame = Store.open(observed[1]).frame()
    assert said.data == {"file": "x.parquet", "rows": len(frame)}
    pd.testing.assert_frame_equal(pd.read_parquet(home / "x.parquet"), frame, check_dtype=False)


def test_observations_go_to_csv_with_every_row_and_column(observed, run, home):
    assert run("export", "--csv", "x.csv", "--store", str(observed[1])).code == 0
    frame, back = Store.open(observed[1]).frame(), pd.read_csv(home / "x.csv")
    assert list(back.columns) == list(frame.columns)
    assert list(back["observation_id"]) == list(frame["observation_id"])


def test_timelines_are_exported_too(observed, run, home):
    for flag, read in (("--csv", pd.read_csv), ("--parquet", pd.read_parquet)):
        assert run("export", "--timelines", flag, "x", "--store", str(observed[1])).code == 0
        back = read(home / "x")
        assert list(back["layer"]) == list(nestobs.timelines(observed[1])["layer"])


def test_an_export_needs_exactly_one_kind(stored, run):
    assert run("export").code == 2
    assert run("export", "--csv", "a", "--parquet", "b").code == 2


# store


@pytest.fixture
def two_days(home):
    """A store of one sealed row of a day, one of the next, and a newer one in the journal."""
    store = Store.open(home / "data")
    with store.writer() as writer:
        writer.append([row(1), row(2, sent_at=NOON + DAY), row(3, sent_at=NOON + 2 * DAY)])
    assert len(list((store.directory / "observations").iterdir())) == 2
    return store


@pytest.mark.parametrize("command", ["info", "seal", "verify"])
def test_help_of_the_store_is_as_written_down(command, monkeypatch, run):
    monkeypatch.setenv("COLUMNS", "100")
    said, file = run("store", command, "--help"), GOLDEN / f"help-store-{command}.txt"
    if WRITE_GOLDEN:
        file.write_text(said.out, "utf-8")
    assert (said.code, said.err, said.out) == (0, "", file.read_text("utf-8"))


def test_info_says_how_much_there_is_and_of_when(two_days, run):
    said = run("store", "info", "--store", str(two_days.directory), "--json")
    assert said.code == 0
    assert (said.data["rows"], said.data["unsealed"], said.data["files"], said.data["lost"]) == (3, 1, 2, 0)
    assert said.data["first_at"].startswith("2024-10-04T12:00:00")
    assert said.data["last_at"].startswith("2024-10-06T12:00:00")
    said = run("store", "info", "--store", str(two_days.directory))
    assert "3 observations" in said.out
    assert "sent from 2024-10-04 12:00:00 to 2024-10-06 12:00:00 UTC" in said.out
    assert run("store", "info", "--store", str(Store.open("empty").directory), "--json").data["first_at"] is None


def test_days_that_are_over_are_sealed_once(two_days, run):
    words = ("store", "seal", "--store", str(two_days.directory))
    assert [name[-31:] for name in run(*words, "--json").data["sealed"]] == ["2024-10-06-000000000003.parquet"]
    said = run(*words)
    assert (said.code, said.out) == (0, "nothing to seal: no day is over that is not sealed\n")


def test_the_rows_of_today_are_sealed_only_when_all_are_asked_for(two_days, run):
    ahead = rows(4, sent_at=2**62)  # the year 2116: that day is not over
    with two_days.writer() as writer:
        writer.append(ahead)
    words = ("store", "seal", "--store", str(two_days.directory), "--json")
    assert run(*words).data["sealed"] == []
    assert len(run(*words, "--all").data["sealed"]) == 1
    assert run("store", "info", "--store", str(two_days.directory), "--json").data["unsealed"] == 0


def test_sealing_beside_a_writer_names_it(two_days, run):
    with two_days.writer():
        is_one_sentence(run("store", "seal", "--store", str(two_days.directory)), 5, "is writing to the store")


def test_verify_names_what_is_wrong_and_goes_on_without_it(two_days, run):
    words = ("store", "verify", "--store", str(two_days.directory))
    assert (run(*words).code, run(*words, "--json").data["whole"]) == (0, True)
    torn = two_days.directory / "observations" / "2024-10-04-000000000001.parquet"
    torn.write_bytes(torn.read_bytes()[:-9])
    is_one_sentence(run("export", "--csv", "x.csv", "--store", str(two_days.directory)), 5, torn.name)
    said = run(*words)
    assert said.code == 1
    assert f"BAD   {torn.name}: it is damaged: 1 rows of 2024-10-04 cannot be read" in said.out
    said = run(*words, "--set-aside")
    assert said.code == 0
    assert f"note  {torn.name}: set aside: 1 rows of 2024-10-04 are lost" in said.out
    assert run("export", "--csv", "x.csv", "--store", str(two_days.directory)).code == 0
    assert "lost: 1, in files set aside" in run("store", "info", "--store", str(two_days.directory)).out


# ship


def test_ship_says_what_it_put_and_what_it_left(tmp_path, run):
    from worlds.shipped_stores import seen, stored

    stored(tmp_path / "a", seen(1, 2))
    words = ("ship", "--to", str(tmp_path / "fleet"), "--store", str(tmp_path / "a"))
    said = run(*words)
    assert said.code == 0
    assert said.out.startswith(f"{tmp_path / 'fleet'}: 1 files put, 2 rows, ")
    again = run(*words, "--json")
    assert (again.code, again.data["shipped"], again.data["there"]) == (0, [], 1)
    info = run("store", "info", "--store", str(tmp_path / "fleet"))
    assert (info.code, info.out.splitlines()[0].split(": ")[1][:14]) == (0, "2 observations")
    assert run("store", "verify", "--store", str(tmp_path / "fleet")).out.endswith(" is whole\n")


def test_ship_names_a_damaged_file_and_ends_with_1(tmp_path, run):
    from worlds.shipped_stores import seen, stored

    stored(tmp_path / "a", seen(1, 2))
    (file,) = (tmp_path / "a" / "observations").iterdir()
    file.write_bytes(b"")
    said = run("ship", "--to", str(tmp_path / "fleet"), "--store", str(tmp_path / "a"))
    assert said.code == 1
    assert file.name in said.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("ship", "--to", "s3://me:horse@bucket/x", "--store", "example"), 2, "holds a password"),
        (("ship", "--to", "pigeon://loft/x", "--store", "example"), 2, "nobody knows how to open pigeon://"),
        (("timeline", "--store", "s3://me:horse@bucket/x"), 2, "holds a password"),
        (("timeline", "-v", "--store", "memory://nowhere"), 5, "nothing was shipped to memory://nowhere yet"),
        (
            (
                "canary",
                "--count",
                "1",
                "--store",
                "memory://nowhere",
                "--api",
                "http://h/api/v1/nests",
                "--relay",
                "ws://h",
            ),
            5,
            "nothing",
        ),
        (("store", "verify", "--set-aside", "--store", "fleet"), 5, "is only read"),
    ],
)
def test_a_place_that_will_not_do_is_a_sentence(tmp_path, run, monkeypatch, words, code, said):
    from worlds.shipped_stores import seen, shipped, stored

    monkeypatch.chdir(tmp_path)
    shipped(stored(tmp_path / "a", seen(1)), tmp_path / "fleet")
    found = run(*words)
    assert found.code == code
    assert said in found.err
    assert "horse" not in found.err + found.out
    assert "Traceback" not in found.err
