"""A store followed as it grows: its last minutes first, then what comes, over sealing too."""

import random

import pytest

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation
from nestobs.store import follow, sealing
from nestobs.store.follow import Followed, Whole
from nestobs.store.reader import Store
from worlds.stored_rows import NOON, row, rows

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_the_last_minutes_are_found_in_a_journal_of_any_length_and_in_sealed_days(tmp_path):
    rng = random.Random(1)
    instants = sorted(rng.sample(range(7_200 * SECOND_NS), 3_000))
    store = Store.open(tmp_path / "data")
    with store.writer() as writer:
        writer.append(row(n, sent_at=NOON + at) for n, at in enumerate(instants))
    wanted = {f"id-{n:09d}" for n, at in enumerate(instants) if at >= instants[-1] - 900 * SECOND_NS}
    for before in (0, NOON + sealing.DAY):
        store.seal(before=before)
        parts, end = follow.backlog(store, 900.0)
        assert {each.observation_id for part in parts for each in part} == wanted
        assert (end, store.tail(end, 1)) == (3_000, ([], 3_000))
    with store.writer() as writer:
        writer.append([row(4_000, sent_at=NOON + 2 * sealing.DAY)])
    assert len(store.tail(end, 10)[0]) == 1


def test_an_empty_store_and_none(tmp_path):
    assert follow.opened(tmp_path / "none") is None
    (tmp_path / "empty").mkdir()
    assert follow.opened(tmp_path / "empty") is None
    parts, end = follow.backlog(Store.open(tmp_path / "store"))
    assert (list(parts), end) == ([], 0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(Exception, match="is a file"):
        follow.opened(tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(Exception, match="no store"):
        follow.opened(tmp_path / "other")


MINUTE = 60 * SECOND_NS


def came(followed: Followed) -> list[Observation]:
    return [one for part, _ in followed.read(2**62, lambda: 0) for one in part]


def test_what_was_there_is_no_news_and_what_comes_is(tmp_path):
    store = Store.open(tmp_path / "data")
    with store.writer() as writer:
        writer.append(rows(1, 2))
        writer.flush()
        followed = Followed(tmp_path / "data")
        assert [one for one in followed.read(2**62, lambda: 0) if one[0]] == [(rows(1, 2), False)]
        writer.append(rows(3))
        writer.flush()
        assert [one for one in followed.read(2**62, lambda: 0) if one[0]] == [(rows(3), True)]
        assert came(followed) == []
    assert not followed.waited


def test_a_store_that_was_waited_for_is_news(tmp_path):
    followed = Followed(tmp_path / "data")
    assert came(followed) == []
    with Store.open(tmp_path / "data").writer() as writer:
        writer.append(rows(1))
    assert [one for one in followed.read(2**62, lambda: 0) if one[0]] == [(rows(1), True)]
    assert followed.waited


@pytest.mark.slow
def test_a_reader_who_slept_while_rows_were_sealed_begins_again_and_misses_none_of_the_last_minutes(tmp_path):
    store = Store.open(tmp_path / "data")
    with store.writer() as writer:
        writer.append(rows(0))
        writer.flush()
        followed = Followed(tmp_path / "data")
        assert came(followed) == rows(0)
        slept = [row(n, sent_at=NOON + n * MINUTE) for n in range(1, 60)]
        writer.append([*slept, row(60, sent_at=NOON + sealing.DAY)])
        writer.seal(NOON + sealing.DAY)
        assert {one.observation_id for one in came(followed)} == {"id-000000060"}
        assert came(followed) == []
        writer.append([row(n, sent_at=NOON + sealing.DAY + n) for n in range(61, 70)])
        writer.seal(NOON + 2 * sealing.DAY)
        assert {one.observation_id for one in came(followed)} == {f"id-{n:09d}" for n in range(60, 70)}


# the whole, each row once


def counted(whole: Whole, until: int = 2**62) -> list[str]:
    return [one for part, _ in whole.read(until, lambda: 0) for one in part["observation_id"]]


def test_of_the_whole_each_row_comes_once_over_any_sealing(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "PART_ROWS", 60)
    monkeypatch.setattr(follow, "BATCH", 40)
    rng, sent, found = random.Random(1), 0, []
    store, whole = Store.open(tmp_path / "data"), Whole(tmp_path / "data")
    with store.writer() as writer:
        for _ in range(60):
            many = rng.randrange(120)
            numbers = range(sent, sent + many)
            writer.append(row(n, sent_at=NOON + rng.randrange(3) * sealing.DAY + n) for n in numbers)
            writer.flush()
            sent += many
            if rng.random() < 0.4:
                store.seal(before=NOON + rng.randrange(4) * sealing.DAY)
            if rng.random() < 0.6:
                found += counted(whole)
                assert whole.level
    found += counted(whole)
    assert sorted(found) == [f"id-{n:09d}" for n in range(sent)]
    assert sorted(counted(Whole(tmp_path / "data"))) == sorted(found)


def test_a_large_store_is_read_in_parts_of_bounded_size_in_the_order_of_time(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "PART_ROWS", 100)
    store = Store.open(tmp_path / "data")
    with store.writer() as writer:
        for start in range(0, 1_000, 100):
            writer.append(rows(*range(start, start + 100)))
            writer.flush()
            store.seal(before=2**63 - 1)
    parts = [
        (len(part), int(part["sent_at"].max()), upto) for part, upto in Whole(tmp_path / "data").read(2**62, lambda: 0)
    ]
    assert [size for size, _, _ in parts] == [100] * 10
    assert all(last < upto for _, last, upto in parts[:-1])


def test_reading_that_was_cut_short_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "BATCH", 10)
    store, whole, found = Store.open(tmp_path / "data"), Whole(tmp_path / "data"), []
    with store.writer() as writer:
        writer.append(rows(*range(100)))
        writer.flush()
        assert len(counted(whole)) == 100
        writer.append(rows(*range(100, 200)))
        writer.flush()
    while not found or not whole.level:
        clock = iter([0, 5])
        found += counted_within(whole, clock)
    assert len(found) == 100


def counted_within(whole: Whole, clock) -> list[str]:
    return [one for part, _ in whole.read(5, lambda: next(clock, 5)) for one in part["observation_id"]]


def test_what_was_sealed_while_nobody_looked_is_not_lost(tmp_path):
    store, whole = Store.open(tmp_path / "data"), Whole(tmp_path / "data")
    with store.writer() as writer:
        writer.append(rows(*range(50)))
        writer.flush()
        assert len(counted(whole)) == 50
        writer.append(rows(*range(50, 90)))
        writer.flush()
        store.seal(before=2**63 - 1)
        writer.append(rows(*range(90, 100)))
        writer.flush()
        assert sorted(counted(whole)) == [f"id-{n:09d}" for n in range(50, 100)]
        assert counted(whole) == []


def test_of_an_empty_store_and_of_none_there_is_nothing(tmp_path):
    whole = Whole(tmp_path / "data")
    assert counted(whole) == []
    assert not whole.level
    Store.open(tmp_path / "data")
    assert counted(whole) == []
    assert whole.level
