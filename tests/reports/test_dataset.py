"""What a report reads of a store: the rows of its window, the nests made in it."""

from __future__ import annotations

import itertools

import pytest

from nestobs.errors import StoreError, UsageError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import Window
from nestobs.reports.dataset import read
from worlds.stored_nests import NOON, drawn, nest_rows, store_of

MINUTE = 60 * SECOND_NS


@pytest.fixture
def store(tmp_path):
    """Forty nests, one a minute from noon."""
    return str(store_of(tmp_path / "store", nest_rows(*drawn(40))).directory)


@pytest.mark.slow
def test_all_without_a_window(store):
    found = read(store)
    assert (found.nests, found.window, found.rows.empty) == (40, None, False)
    assert found.result([], [], [], {}).rows == {"observations": len(found.rows), "nests": 40, "joins": 0}


@pytest.mark.slow
def test_nests_made_from_the_begin_to_before_the_end(store):
    found = read(store, Window(NOON + 5 * MINUTE, NOON + 8 * MINUTE).text)
    assert sorted(found.timelines["room"].unique()) == ["nest-5", "nest-6", "nest-7"]
    assert found.rows["sent_at"].between(NOON + 5 * MINUTE, NOON + 8 * MINUTE, inclusive="left").all()


@pytest.mark.slow
def test_windows_side_by_side_share_no_nest_and_lose_none(store):
    ends = [NOON + minutes * MINUTE for minutes in (0, 7, 11, 40)]
    parts = [read(store, Window(*pair).text) for pair in itertools.pairwise(ends)]
    assert sum(part.nests for part in parts) == 40
    whole = read(store)
    for part in parts:
        same = whole.timelines[whole.timelines["trace_id"].isin(part.timelines["trace_id"])]
        assert part.timelines["upper_s"].tolist() == same["upper_s"].tolist()


def test_an_empty_window_is_empty(store):
    found = read(store, "2020-01-01")
    assert (found.nests, found.rows.empty, len(found.joins)) == (0, True, 0)


def test_mistakes(store, tmp_path):
    with pytest.raises(UsageError, match="no window"):
        read(store, "yesterday")
    with pytest.raises(StoreError, match="no store"):
        read(str(tmp_path / "none"))
