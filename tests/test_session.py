"""The commands as functions, for a notebook or a script."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import pandas as pd
import pytest

import nestobs
import nestobs.session
from nestobs.errors import ConfigError, KeyFormatError, StoreError, UnreachableError, UsageError
from nestobs.join.policy import GUIDE
from nestobs.nostr import Keys
from nestobs.observation.schema import COLUMNS, INSTANTS
from nestobs.timeline.delays import STANDING
from nestobs.timeline.failures import failures
from nestobs.timeline.intervals import SCHEMA
from nestobs.tuning.tuner import TooLittleDataError, recommend
from worlds.stored_nests import drawn, nest_rows, store_of

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    for name in ("NSEC", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "CONFIG", "VANTAGE"):
        monkeypatch.delenv(f"NESTOBS_{name}", raising=False)
    monkeypatch.setenv("NESTOBS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def test_a_store_is_made_when_it_is_opened():
    store = nestobs.open("mine")
    assert store.count() == 0
    assert Path("mine").is_dir()


@pytest.mark.parametrize("read", [nestobs.observations, nestobs.timelines])
def test_reading_makes_no_store(read):
    with pytest.raises(StoreError, match="no store at"):
        read("none")
    assert not Path("none").exists()


def test_an_empty_store_gives_empty_frames_with_all_columns():
    store = nestobs.open("mine")
    rows, lines = nestobs.observations(store), nestobs.timelines(store)
    assert list(rows.columns) == [column.name for column in COLUMNS]
    assert list(lines.columns) == [column.name for column in SCHEMA]
    assert len(rows) == len(lines) == 0
    for name in INSTANTS:
        assert isinstance(rows[name].dtype, pd.DatetimeTZDtype)


def test_a_window_and_columns_choose_what_is_read():
    store = store_of(Path("mine"), nest_rows(*drawn(6)))
    rows, lines = nestobs.observations(store), nestobs.timelines(store)
    middle = lines["origin_at"].drop_duplicates().sort_values().iloc[3]
    window = (middle, rows["sent_at"].max())
    assert len(seen := nestobs.observations(store, window=window, columns=["sent_at", "nest"])) > 0
    assert list(seen.columns) == ["nest", "sent_at"]
    assert (seen["sent_at"] >= middle).all()
    assert len(seen) == ((rows["sent_at"] >= window[0]) & (rows["sent_at"] < window[1])).sum()
    made = nestobs.timelines(store, window=window, columns=["upper_s", "origin_at", "nest"])
    assert list(made.columns) == ["upper_s", "origin_at", "nest"]
    assert set(made["nest"]) == set(lines["nest"][lines["origin_at"] >= middle])
    for read in (nestobs.observations, nestobs.timelines):
        with pytest.raises(UsageError, match="no column 'colour'"):
            read(store, columns=["colour"])
        written = tuple(f"{end.tz_convert('Asia/Tokyo').isoformat()}" for end in window)
        for other in (written, tuple(end.tz_localize(None) for end in window)):
            pd.testing.assert_frame_equal(read(store, window=other), read(store, window=window))


@pytest.mark.parametrize(
    "window",
    [(), ("2026-01-02", "2026-01-01"), ("yesterday evening", "now"), (pd.NaT, "2026-01-01"), 5, ("2026-01-01",)],
    ids=repr,
)
def test_a_window_that_is_none_is_said(window):
    store = store_of(Path("mine"), nest_rows(*drawn(2)))
    for read in (nestobs.observations, nestobs.timelines, nestobs.tune):
        with pytest.raises(UsageError, match="a window is"):
            read(store, window=window)


async def test_a_canary_by_the_target_of_a_file_does_what_the_command_does(open_lab, tmp_path):
    async with open_lab("calm", vantages=2, delay_scale=0.2, livekit="auto") as lab:
        report = await nestobs.canary(
            "calm",
            also=("calm-b",),
            store="rows",
            policy=GUIDE,
            horizon_s=1.0,
            seed=1,
            config=Path(lab.info["files"]["config"]),
        )
        assert await lab.rooms() == []
        assert lab.nests() == []
    assert report.made == 1
    assert report.left == []
    frame = nestobs.observations("rows")
    assert set(frame["vantage"]) == {"Computer A", "Computer B"}
    for name in INSTANTS:
        assert str(frame[name].dtype) == "datetime64[ns, UTC]"
    lines = nestobs.timelines(nestobs.open("rows"))
    assert set(lines["room"]) == set(report.rooms)
    assert str(lines["origin_at"].dtype) == "datetime64[ns, UTC]"
    assert lines["upper_s"].map(math.isinf).equals(lines["right_censored"])
    assert list(tmp_path.rglob("*.nsec")) == []


async def test_a_canary_by_a_target_of_ones_own(open_lab, target_of):
    async with open_lab("calm", delay_scale=0.2, livekit="auto") as lab:
        report = await nestobs.canary(target_of(lab), store=nestobs.open("rows"), policy=GUIDE, horizon_s=1.0)
    assert report.made == 1


async def test_the_key_of_a_lone_target_is_used_though_it_was_not_named(open_lab):
    keys = Keys.generate()
    Path("key.nsec").write_text(keys.to_nsec())
    async with open_lab("calm", delay_scale=0.2, livekit="auto") as lab:
        text = Path(lab.info["files"]["config"]).read_text()
        Path("nestobs.toml").write_text(text + 'nsec_file = "key.nsec"\n')
        await nestobs.canary(store="rows", policy=GUIDE, horizon_s=1.0)
        hosts = {row["address"].split(":")[1] for row in lab.truth()}
    assert hosts == {keys.public}


async def test_a_mistake_is_the_commands_own_error(monkeypatch):
    with pytest.raises(UsageError, match="no target"):
        await nestobs.canary()
    with pytest.raises(ConfigError, match="'nope' is unknown"):
        await nestobs.canary("nope")
    target = nestobs.Target("x", "here", "http://127.0.0.1:9/api/v1/nests", ("ws://127.0.0.1:9",))
    with pytest.raises(UnreachableError, match="does not answer"):
        await nestobs.canary(target)
    monkeypatch.setenv("NESTOBS_NSEC", "garbage")
    with pytest.raises(KeyFormatError):
        await nestobs.canary(target)


@pytest.fixture
def stored():
    """Forty nests of one host, a minute apart from noon, answered in 20 ms, and thirty of another, in 40 ms."""
    other = nest_rows(*drawn(30, 3), name="other", api="https://other.example:8443/api/v1/nests", round_trip_s=0.04)
    return store_of(Path("rows"), nest_rows(*drawn(40)), other)


@pytest.fixture
def handed_on(monkeypatch):
    """What `nestobs.tune` tunes on and how: the words of each call to `recommend`, which is not made."""
    found = []
    monkeypatch.setattr("nestobs.tuning.tuner.recommend", lambda table, **words: found.append((table, words)))
    return found


def hosts(table):
    return set(table["target"].map(lambda url: url.split("/")[2]))


def test_tuning_takes_a_store_its_folder_or_its_timelines(stored, handed_on):
    for observed in (stored, "rows", Path("rows"), nestobs.timelines("rows")):
        nestobs.tune(observed)
    for table, _ in handed_on:
        assert not table.get(STANDING, pd.Series(dtype=str)).any()
        pd.testing.assert_frame_equal(table.drop(columns=STANDING, errors="ignore"), nestobs.timelines(stored))
    assert [words["round_trip_s"] for _, words in handed_on] == [pytest.approx(0.02)] * 3 + [0.0]
    counted = failures(stored.frame())
    assert [words["failures"] for _, words in handed_on] == [counted] * 3 + [None]
    assert [words["deployments"] for _, words in handed_on] == [("nests.example", "other.example:8443")] * 3 + [()]
    assert (counted.token.asked, counted.seen) == (len(stored.frame()) - 70, False)  # all but the nests' creations


def test_tuning_leaves_to_recommend_what_it_does_not_know(stored, handed_on):
    nestobs.tune(stored)
    usual = {name: each.default for name, each in inspect.signature(recommend).parameters.items()}
    for name, value in handed_on[0][1].items():
        assert name in ("round_trip_s", "failures", "progress", "deployments") or value == usual[name], name
    nestobs.tune(stored, arrivals=[1.0, 2.0], signed_in=False, cost_ratio=0.5, draws=7)
    words = handed_on[1][1]
    assert (words["arrivals"], words["signed_in"], words["cost_ratio"], words["draws"]) == ([1.0, 2.0], False, 0.5, 7)


def test_tuning_takes_nests_made_from_the_begin_to_before_the_end_of_a_window(stored, handed_on):
    noon = pd.Timestamp("2026-01-01T12:00Z")
    for begin, end in ((0, 40), (0, 39), (1, 2), (7, 7)):
        nestobs.tune(stored, window=(noon + pd.Timedelta(minutes=begin), noon + pd.Timedelta(minutes=end)))
        made = handed_on[-1][0]["origin_at"].unique()
        assert sorted(made) == [noon + pd.Timedelta(minutes=k) for k in range(begin, end)]


def test_tuning_takes_only_the_hosts_that_are_named_and_their_round_trips(stored, handed_on):
    first, other = "nests.example", "other.example:8443"
    for named, wanted in ((first, {first}), ([other], {other}), ((first, other), {first, other}), ("", {first, other})):
        nestobs.tune(stored, host=named)
        assert hosts(handed_on[-1][0]) == wanted
    nestobs.tune(stored, host="example")
    assert handed_on[-1][0].empty
    asked = [words["failures"].token.asked for _, words in handed_on[:3]]
    assert asked[0] + asked[1] == asked[2]
    trips = [words["round_trip_s"] for _, words in handed_on[:2]]
    assert trips == [pytest.approx(0.02), pytest.approx(0.04)]


def test_tuning_a_store_gives_a_recommendation(stored):
    found = nestobs.tune(stored, host="nests.example", draws=20)
    assert (found.nests, found.terms.round_trip_s) == (40, pytest.approx(0.02))
    assert found.window[0] == "2026-01-01T12:00:00Z"


def test_tuning_without_a_store_or_nests_is_refused_in_a_sentence(stored):
    with pytest.raises(StoreError, match="no store at"):
        nestobs.tune("none")
    assert not Path("none").exists()
    nestobs.open("empty")
    with pytest.raises(TooLittleDataError, match=r"^0 nests[^\n]*$"):
        nestobs.tune("empty")
    with pytest.raises(TooLittleDataError, match=r"^0 nests[^\n]*$"):
        nestobs.tune(stored, host="nowhere.example")


def test_the_calls_in_the_modules_words_exist():
    """Documentation that names a function nobody can call is worse than none."""
    named = set(re.findall(r"nestobs\.(\w+)\(", inspect.getdoc(nestobs.session) or ""))
    assert named
    assert named <= set(dir(nestobs))
