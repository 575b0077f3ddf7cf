"""What is made of a store part by part is what is made of it as a whole, to the row, the dtype and the order."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nestobs.diagnosis.diagnose import with_standing
from nestobs.exports.parts import Joins, Seen, Timelines, ToTune, mapped, surest_clocks, together
from nestobs.observation.duration import SECOND_NS
from nestobs.store.partitions import Partition, plan
from nestobs.store.reader import Store
from nestobs.timeline import intervals
from nestobs.timeline import joins as real
from nestobs.timeline.delays import STANDING, among, deployments, median_s, named_deployments, round_trip_s
from nestobs.timeline.failures import failures
from worlds.full_nests import NOON, POLLS_S, Names, nest_rows, rows_of_days, store_of
from worlds.mixed import mixed_store
from worlds.nest_rows import NEST, created, guest, info, rooms

pytestmark = pytest.mark.slow

SIZES = (700, 3_000)
"""Rows of a partition: a few nests, many."""


@pytest.fixture(scope="module", params=["mixed 1", "mixed 2", "example", "days"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Stores of many kinds of rows."""
    kind, _, seed = request.param.partition(" ")
    folder = tmp_path_factory.mktemp("parts") / "store"
    if kind == "example":
        return Store.open("example", create=False)
    if kind == "days":
        return Store.open(store_of(folder, rows_of_days(12, 3)))
    return mixed_store(folder, int(seed), nests=14)


def same(found: pd.DataFrame, whole: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, whole, check_exact=True)


@pytest.mark.parametrize("most", SIZES)
def test_timelines_of_parts_are_those_of_the_whole(store: Store, most: int) -> None:
    whole = intervals.timelines(store.frame())
    found = list(mapped(store, Timelines(), most=most))
    assert len(found) > (most == min(SIZES))
    same(together(found, intervals.ORDER), whole)


@pytest.mark.parametrize("most", SIZES)
def test_joins_of_parts_are_those_of_the_whole(store: Store, most: int) -> None:
    rows = store.frame(categories=True)
    whole = real.joins(rows, intervals.timelines(rows))
    assert len(whole)
    same(together(list(mapped(store, Joins(), most=most)), real.ORDER), whole)


@pytest.mark.parametrize("most", SIZES)
@pytest.mark.parametrize("host", [(), ("other.example:8443",)])
def test_what_tuning_takes_is_that_of_the_whole(store: Store, most: int, host: tuple[str, ...]) -> None:
    window = tuple(pd.Timestamp(NOON + day * 86_400 * SECOND_NS, tz="UTC") for day in (0, 2))
    rows = store.frame(categories=True)
    lines = among(intervals.timelines(rows), window=window, host=host)
    sent = rows[rows["sent_at"].between(window[0].value, window[1].value, inclusive="left")]
    found = Seen.joined(mapped(store, ToTune(window, host, window), most=most))
    same(found.timelines, with_standing(lines, rows).reset_index(drop=True))
    assert median_s(found.trips) == round_trip_s(rows, host)
    whole, counted = failures(sent, host), found.counted.failures()
    assert counted == whole
    assert counted.observer == whole.observer
    assert named_deployments(found.asked) == deployments(sent, host)


def test_a_standing_fault_is_told_by_a_clock_that_was_compared_beside_another_nest(tmp_path: Path) -> None:
    known: dict[str, Any] = {"clock_offset_s": 0.0, "clock_error_s": 0.05, "sync_age_s": 0.0}
    there: dict[str, Any] = {"vantage": "B", "run_id": "there"}
    other = {"trace_id": "other", "nest": NEST.replace(":room", ":other"), "room": "other"}
    ahead = known | there | other | {"clock_offset_s": 60.0}
    rows = [replace(created(0.0), **known), *(rooms("visible", at_s, **known) for at_s in (1, 2, 3, 4))]
    rows += [info(at_s + 0.1, **known) for at_s in (1, 2, 3, 4)]
    rows += [guest("absent", 60 + at_s, status=404, **there) for at_s in (1.2, 2.2, 3.2, 4.2)]
    store = Store.open(tmp_path / "store")
    with store.writer() as writer:
        writer.append([*rows, *(guest("visible", at_s, **ahead) for at_s in (30, 90))])
    whole = store.frame(categories=True)
    lines = with_standing(intervals.timelines(whole), whole)
    assert "api_join_fault" in set(lines[STANDING])
    same(Seen.joined(mapped(store, ToTune(), most=1)).timelines, lines)


def test_what_is_said_of_clocks_is_said_of_a_store_of_any_size(store: Store) -> None:
    rows = store.frame()
    lines = intervals.timelines(rows)
    assert intervals.clock_words(surest_clocks(store), lines) == intervals.clock_words(rows, lines)


@pytest.mark.parametrize("most", SIZES)
def test_each_row_is_of_one_partition(store: Store, most: int) -> None:
    read = [partition.read(["observation_id", "sent_at"]) for partition in plan(store, most=most).partitions]
    own = pd.concat([part.rows[part.mine] for part in read])
    whole = store.frame(columns=["observation_id", "sent_at"])
    assert sorted(own["observation_id"]) == sorted(whole["observation_id"])
    assert all((np.diff(part.rows["sent_at"]) >= 0).all() for part in read)


def test_each_nest_may_be_a_partition_of_its_own(tmp_path: Path) -> None:
    store = mixed_store(tmp_path / "store", 9, nests=6)
    found = list(mapped(store, Timelines(), most=1))
    assert len(found) >= 6
    same(together(found, intervals.ORDER), intervals.timelines(store.frame()))


def test_partitions_are_no_larger_than_asked(tmp_path: Path) -> None:
    store = mixed_store(tmp_path / "store", 4)
    found = plan(store, most=3_000)
    assert sum(partition.rows for partition in found.partitions) == store.count() == found.rows
    assert max(partition.rows for partition in found.partitions) <= 3_000
    assert [partition.number for partition in found.partitions] == list(range(1, len(found.partitions) + 1))


def test_a_plan_that_is_made_in_parts_is_the_same(store: Store) -> None:
    def told(executor: Executor | None) -> list[Any]:
        found = plan(store, most=700, executor=executor)
        return [found.rows, found.lots, *(of(part) for part in found.partitions)]

    def of(part: Partition) -> tuple[Any, ...]:
        names = None if part.names is None else part.names.tolist()
        return part.number, part.of, part.rows, part.windows, names, part.asked, part.nothing

    with ThreadPoolExecutor(2) as executor:
        assert told(executor) == told(None)


def test_what_is_sealed_is_cut_where_files_begin(tmp_path: Path) -> None:
    store = Store.open(store_of(tmp_path / "store", rows_of_days(12, 3)))
    cuts = store.cuts(1)
    assert cuts
    assert cuts == sorted(set(cuts))
    rows = [len(store.frame(start=start, end=end)) for start, end in pairwise([None, *cuts, None])]
    assert sum(rows) == store.count()
    assert min(rows) > 0
    assert store.cuts(store.count() + 1) == []


def test_a_nest_that_lasts_long_does_not_widen_what_others_read(tmp_path: Path) -> None:
    start = NOON - 2 * 86_400 * SECOND_NS
    long = nest_rows(900, Names(room="long", trace="long"), at=start, polls=(*POLLS_S, 170_000.0))
    store = Store.open(store_of(tmp_path / "store", [*rows_of_days(20, 3), *long]))
    spans = [partition.span for partition in plan(store, most=3_000).partitions]
    assert len(spans) > 5
    assert sum((end - begin) / (86_400 * SECOND_NS) > 1.5 for begin, end in spans) == 1


def test_a_small_store_is_read_at_once(tmp_path: Path) -> None:
    store = mixed_store(tmp_path / "store", 6, nests=3)
    (only,) = plan(store).partitions
    assert only.span is None
    assert len(only.read().rows) == store.count()
