"""A store followed as it grows: its last minutes first, then what comes, over sealing too."""

import random

import pytest

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation
from nestobs.store import follow, sealing
from nestobs.store.follow import Followed
from nestobs.store.reader import Store
from worlds.stored_rows import NOON, row, rows


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
