"""With what clocks were compared, of rows of whatever nests: few, the same in lots, and enough for any instant."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest

from nestobs.observation.duration import SECOND_NS
from nestobs.timeline.intervals import clock_words, surest
from nestobs.timeline.intervals.compared import Compared, compared, joined, telling, within

MINUTE_NS = 60 * SECOND_NS


def drawn(count: int, seed: int, runs: int = 3) -> pd.DataFrame:
    """Rows of an hour, of several runs, in no order; some were not compared, some say no error, some no age."""
    rng = np.random.default_rng(seed)
    some = rng.integers(0, runs, count)
    return pd.DataFrame(
        {
            "run_id": pd.Series([f"run-{each}" for each in some]).where(rng.random(count) < 0.95, ""),
            "vantage": pd.Series([f"vantage {each % 2}" for each in some]),
            "sent_at": rng.integers(0, 3_600, count) * SECOND_NS,
            "clock_offset_s": pd.Series(rng.normal(0, 5, count).round(1)).where(rng.random(count) < 0.8),
            "clock_error_s": pd.Series(rng.random(count).round(1)).where(rng.random(count) < 0.9),
            "sync_age_s": pd.Series(rng.random(count)).where(rng.random(count) < 0.9),
        }
    )


def same(found: Compared, other: Compared) -> None:
    assert found.keys() == other.keys()
    for run, told in found.items():
        for mine, theirs in zip(astuple(told), astuple(other[run]), strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("seed", range(5))
def test_lots_in_any_order_tell_what_all_rows_tell(seed: int) -> None:
    rows = drawn(2_000, seed)
    whole = compared(rows)
    mixed = rows.sample(frac=1, random_state=seed)
    lots = [compared(mixed[start::7]) for start in range(7)]
    same(joined(lots), whole)
    same(joined([joined(lots[3:]), *lots[:3]]), whole)
    assert all(len(told.at) <= 2 * 60 for told in whole.values())
    same(compared(rows[:0]), {})


@pytest.mark.parametrize("seed", range(5))
def test_the_first_and_the_last_of_each_run_and_minute_tell_what_all_rows_tell(seed: int) -> None:
    rows = drawn(20_000, seed).dropna(subset=["clock_offset_s"])
    chosen = rows[telling(pd.factorize(rows["run_id"])[0].astype(np.int64), rows["sent_at"].to_numpy(np.int64))]
    assert len(chosen) < len(rows) / 10
    same(compared(chosen), compared(rows))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_kept_is_the_nearest_or_lies_on_either_side(seed: int) -> None:
    rows = drawn(600, seed, runs=1).dropna(subset=["clock_offset_s"])
    every = np.unique(rows.loc[rows["run_id"] != "", "sent_at"])
    kept = compared(rows)["run-0"].at
    at = np.random.default_rng(seed).integers(every[0] + 1, every[-1], 500)
    nearest, found = every[np.searchsorted(every, at, "right") - 1], kept[np.searchsorted(kept, at, "right") - 1]
    nearer = nearest > found
    assert 0 < nearer.sum() < len(at)
    assert (found[nearer] // MINUTE_NS == nearest[nearer] // MINUTE_NS).all()
    after = kept[np.searchsorted(kept, at[nearer])]
    assert (after // MINUTE_NS == nearest[nearer] // MINUTE_NS).all()


def test_of_what_other_nests_tell_the_nearest_on_either_side_of_a_window_are_enough() -> None:
    rows = drawn(3_000, 7)
    start, end = 1_200 * SECOND_NS, 1_300 * SECOND_NS
    whole, part = compared(rows), within(compared(rows), start, end)
    at = np.arange(start, end, SECOND_NS // 2)
    for run, told in whole.items():
        mine = part[run]
        assert len(mine.at) < len(told.at)
        for side in ("left", "right"):
            there, here = (np.searchsorted(each.at, at, side) - (side == "right") for each in (told, mine))
            np.testing.assert_array_equal(told.allow(there, at, at), mine.allow(here, at, at))


def test_the_surest_comparison_of_each_run_says_what_all_say_of_clocks() -> None:
    rows = drawn(2_000, 3, runs=5)
    few = surest(rows)
    assert len(few) == rows[rows["clock_offset_s"].notna()].drop_duplicates(["vantage", "run_id"]).shape[0]
    lots = [surest(rows[start::4]) for start in range(4)]
    pd.testing.assert_frame_equal(surest(pd.concat(lots, ignore_index=True)), few)
    assert clock_words(few) == clock_words(rows) != []
