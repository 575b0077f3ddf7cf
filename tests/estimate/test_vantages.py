"""Who saw a nest first: known answers on one clock and on several, ties, what one never saw, and how often it holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.estimate import vantages
from nestobs.estimate.vantages import SEAT, Pair, Sights, behind, pairs, parted, seats, sights, told_no, worst
from nestobs.observation.columns import observations_of
from nestobs.observation.schema import Operation, Source
from nestobs.timeline.intervals.sightings import sightings
from worlds.beside import A, B, Watcher, delays, elsewhere, rows

GUEST = "api:guest"
Ends = tuple[float, float]


def seen(
    *ends: Sequence[Ends | None],
    clock: Sequence[int] = (),
    error: Sequence[float] = (),
    floor: float = -math.inf,
    home: int = -1,
    home_error: float = math.inf,
) -> Sights:
    """By nest and vantage (lower, upper), None where it was not watching. All on one clock, unless told."""
    count = len(ends[0])
    table = [
        {
            "trace_id": f"{nest:03}", "vantage": f"v{place}", "lower_s": one[0], "upper_s": one[1],
            "origin_at": pd.Timestamp("2026-03-04T12:00", tz="UTC") + pd.Timedelta(minutes=nest),
            "clock": (clock or [1] * count)[place], "clock_error_s": (error or [0.5] * count)[place],
            "floor_s": floor, "home": home, "home_error_s": home_error,
        }
        for nest, row in enumerate(ends) for place, one in enumerate(row) if one is not None
    ]  # fmt: skip  # a table
    return sights(pd.DataFrame(table), GUEST)


def only(found: Sights) -> Pair:
    (one,) = pairs(found)
    return one


def test_on_one_clock_the_difference_is_between_the_ends_and_no_clock_counts() -> None:
    one = only(seen([(1.0, 2.0), (5.0, 7.0)]))
    assert (one.lower.tolist(), one.upper.tolist()) == ([3.0], [6.0])
    assert (one.one_clock, one.error_s, one.by_clocks) == (1, 0.0, 0)
    assert (one.first_first.least, one.second_first.most) == (1, 0)


def test_on_two_clocks_it_is_wider_by_both_errors() -> None:
    one = only(seen([(1.0, 2.0), (5.0, 7.0)], clock=(1, 2), error=(0.5, 0.25)))
    assert (one.lower.tolist(), one.upper.tolist()) == ([2.25], [6.75])
    assert (one.one_clock, one.error_s) == (0, 0.75)


@pytest.mark.parametrize(("error_s", "untold", "blamed"), [(0.4, 0, 0), (0.6, 1, 1), (math.inf, 1, 1)])
def test_clocks_that_may_be_too_far_apart_leave_who_was_first_undecided_and_are_blamed(
    error_s: float, untold: int, blamed: int
) -> None:
    one = only(seen([(1.0, 2.0), (3.0, 4.0)], clock=(1, 2), error=(error_s, 0.5)))
    assert (one.untold, one.by_clocks) == (untold, blamed)
    assert one.first_first.least == 1 - untold
    assert one.first_first.most == 1


def test_ties_and_what_overlaps_cannot_be_told_and_no_clock_is_blamed() -> None:
    one = only(seen([(1.0, 2.0), (1.0, 2.0)], [(1.0, 3.0), (2.9, 4.0)], clock=(1, 2), error=(9.0, 9.0)))
    assert (one.untold, one.by_clocks, one.way) == (2, 0, "not shown")
    assert (one.first_first.least, one.first_first.most) == (0, 2)
    assert (one.second_first.least, one.second_first.most) == (0, 2)


def test_intervals_that_only_touch_are_told() -> None:
    """T1 <= 2 and T2 > 2: the ends are half-open."""
    one = only(seen([(1.0, 2.0), (2.0, 3.0)]))
    assert (one.first_first.least, one.untold) == (1, 0)


def test_what_one_never_saw_stays_without_an_upper_end() -> None:
    one = only(seen([(1.0, 2.0), (30.0, math.inf)]))
    assert (one.lower.tolist(), one.upper.tolist()) == ([28.0], [math.inf])
    assert one.first_first.least == 1


def test_what_one_stopped_to_ask_for_too_early_is_no_evidence() -> None:
    one = only(seen([(5.0, 6.0), (2.0, math.inf)]))
    assert (one.lower.tolist(), one.upper.tolist()) == ([-4.0], [math.inf])
    assert one.untold == 1


def test_what_neither_saw_is_counted_apart() -> None:
    one = only(seen([(1.0, 2.0), (5.0, 7.0)], [(30.0, math.inf), (30.0, math.inf)]))
    assert (one.n, one.neither) == (1, 1)


def test_who_was_not_watching_a_nest_is_in_no_pair_of_it() -> None:
    found = seen([(1.0, 2.0), (5.0, 7.0), None], [None, (1.0, 2.0), (1.5, 2.5)])
    assert [(one.first, one.second, one.n) for one in pairs(found)] == [("v0", "v1", 1), ("v1", "v2", 1)]


def test_a_nest_of_our_own_was_nowhere_before_it_was_made() -> None:
    late = [(-math.inf, 9.0), (3.0, 4.0)]
    assert only(seen(late)).upper.tolist() == [math.inf]
    assert only(seen(late, floor=0.0, home=1)).upper.tolist() == [4.0]
    far = only(seen(late, floor=0.0, home=1, home_error=0.25, clock=(2, 3), error=(0.5, 1.0)))
    assert far.upper.tolist() == [5.25]  # 4 - 0, and the errors of the second and of the maker


def test_a_floor_that_a_clock_contradicts_is_none() -> None:
    found = seen([(-math.inf, -1.0), (3.0, 4.0)], floor=0.0, home=1)
    assert only(found).upper.tolist() == [math.inf]


def test_turned_is_the_same_the_other_way_round() -> None:
    one = only(seen([(1.0, 2.0), (5.0, 7.0)], [(4.0, 5.0), (1.0, 2.0)], [(1.0, 4.0), (1.0, 4.0)]))
    other = one.turned()
    assert (other.first_first, other.second_first) == (one.second_first, one.first_first)
    assert other.quantile().low == -one.quantile().high
    assert np.array_equal(other.turned().lower, one.lower)


def test_of_many_each_is_beside_the_first_of_the_others() -> None:
    found = seen([(1.0, 2.0), (5.0, 6.0), (8.0, 9.0)], [(1.0, 2.0), (1.0, 2.0), (30.0, math.inf)])
    v0, v1, v2 = behind(found)
    assert (v0.lower.tolist(), v0.upper.tolist()) == ([-5.0, -1.0], [-3.0, 1.0])
    assert (v2.lower.tolist(), v2.upper.tolist()) == ([6.0, 28.0], [8.0, math.inf])
    assert (v0.first.least, v0.first.most) == (1, 2)
    assert (v1.first.least, v1.first.most) == (0, 1)
    assert (v2.late(7.0).least, v2.late(7.0).most, v2.missing(7.0)) == (1, 2, 1)
    assert told_no(found).least == 2
    assert told_no(seen([(1.0, 2.0), (1.0, 2.0)])).least == 0


def test_a_relay_that_drops_or_delays_for_one_serves_it_late_and_few_nests_tell_nothing() -> None:
    calm, late = ((1.0, 1.4), (1.0, 1.4)), ((1.0, 1.4), (3.0, 3.4))
    for count, first, second in ((60, "in time", "late"), (1, "cannot be told", "cannot be told")):
        for nests, ways in (([calm] * count, (first, first)), ([late] * count, (first, second))):
            assert tuple(one.served(1.0) for one in behind(seen(*nests))) == ways
    dropped = [calm] * 40 + [((1.0, 1.4), (30.0, math.inf))] * 20
    assert [one.served(1.0) for one in behind(seen(*dropped))] == ["in time", "late"]
    assert [one.missing(1.0) for one in behind(seen(*dropped))] == [0, 20]


def test_how_long_one_could_get_in_and_the_other_not() -> None:
    one = only(seen([(1.0, 2.0), (5.0, 7.0)], [(1.0, 2.0), (8.0, 9.0)], [(1.0, 4.0), (1.0, 4.0)]))
    assert parted(one) == vantages.Parted(2, 3.0, 6.0, 6.0)
    assert parted(one.turned()).count == 0


def test_ages_count_as_long_as_two_were_asking_and_clocks_make_what_is_sure_less() -> None:
    def told(until_s: float, clocks: tuple[int, int]) -> list[tuple[float, float, bool]]:
        ends = {"gone_lower_s": math.nan, "gone_upper_s": math.nan, "flaps": 0, "clock_error_s": 0.5}
        ends |= {"trace_id": "one", "origin_at": pd.Timestamp("2026-03-04T12:00", tz="UTC")}
        a = {"vantage": "a", "lower_s": 1.0, "upper_s": 2.0, "seen_until_s": 60.0, "until_s": 60.0, "clock": clocks[0]}
        b = {"vantage": "b", "lower_s": 5.0, "upper_s": 6.0, "seen_until_s": until_s, "until_s": until_s}
        found = vantages.stretches(pd.DataFrame([ends | a, ends | b | {"clock": clocks[1]}]))
        return [(row.start_s, row.end_s, bool(row.possible)) for row in found.itertuples()]  # type: ignore[misc]  # floats

    assert told(30.0, (1, 1)) == [
        (0.0, 1.0, True), (1.0, 2.0, True), (2.0, 5.0, False), (5.0, 6.0, True), (6.0, 30.0, True),
    ]  # fmt: skip  # a list
    assert [one for one in told(30.0, (1, 2)) if not one[2]] == [(2.5, 4.5, False)]
    assert told(4.0, (1, 1))[-1] == (2.0, 4.0, False)


def test_the_pair_that_is_surely_furthest_apart_comes_with_its_later_one_last() -> None:
    found = seen(*[[(8.0, 8.5), (1.0, 1.5), (4.0, 4.5)] for _ in range(40)])
    one = worst(pairs(found))
    assert one is not None
    assert (one.first, one.second, one.way) == ("v1", "v0", "later")
    assert worst([]) is None


def test_intervals_of_many_pairs_hold_together() -> None:
    found = seen(*[[(1.0, 2.0)] * 4 for _ in range(9)])
    assert {round(one.level, 6) for one in pairs(found)} == {round(1 - 0.05 / 6, 6)}


def test_beyond_a_dozen_the_most_watching_are_compared_and_the_rest_is_counted() -> None:
    whole = [(1.0, 2.0)] * 14
    found = seen(whole, [*whole[:11], None, *whole[12:]])
    assert (len(found.vantages), found.left_out) == (12, 2)
    assert "v11" not in found.vantages


# from rows


def found_of(truth: Any, watchers: Sequence[Watcher], **more: Any) -> pd.DataFrame:
    return sightings(observations_of(rows(np.asarray(truth, dtype=float), watchers, **more)))


def guests(made: pd.DataFrame) -> Sights:
    return sights(made[made["layer"] == GUEST], GUEST)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("b", [B, elsewhere("Computer B", 40.0, 0.05), elsewhere("Computer B", -3.0, 0.4)])
def test_a_clock_that_is_off_moves_no_difference(b: Watcher, ours: bool) -> None:
    a = A if b is B else elsewhere("Computer A", 0.0, 0.01)
    truth = delays(30, 2, last_s=2.5)
    one = only(guests(found_of(truth, [a, b], ours=ours)))
    assert one.n == 30
    assert ((one.lower < 2.5) & (one.upper > 2.5)).all()
    assert one.one_clock == (30 if b is B else 0)
    assert float(one.upper.max() - one.lower.min()) < 6.0
    assert one.way == "later"


def test_two_vantages_of_one_process_share_its_clock_whoever_made_the_nest() -> None:
    host = elsewhere("host", 0.0, 0.3)
    c, d = (Watcher(name, "fleet", 9.0, 9.2, 0.4) for name in ("C", "D"))
    found = guests(found_of(delays(20, 3), [host, c, d]))
    by_name = {(one.first, one.second): one for one in pairs(found)}
    together, apart = by_name["C", "D"], by_name["C", "host"]
    assert (together.one_clock, together.error_s) == (20, 0.0)
    assert apart.one_clock == 0
    assert apart.error_s == pytest.approx(0.7, abs=0.05)
    assert float((together.upper - together.lower).max()) < 2.1 + 2 * 0.01  # two gaps of polls, and the answers' way


def test_a_clock_that_was_never_compared_tells_nothing_of_who_was_first() -> None:
    one = only(guests(found_of(delays(20, 2, last_s=15.0), [elsewhere("A"), Watcher("B", "other")])))
    assert (one.untold, one.by_clocks, one.error_s) == (20, 20, math.inf)
    alone = only(guests(found_of(delays(20, 2, last_s=15.0), [Watcher("A", "one"), Watcher("B", "one")])))
    assert (alone.untold, alone.error_s) == (0, 0.0)


def test_a_vantage_whose_run_was_begun_anew_is_off_as_its_worst_clock() -> None:
    first, again = elsewhere("A", 1.0, 0.2), replace(elsewhere("A", -1.0, 0.3), run="again")
    truth, beside = delays(10, 1), elsewhere("B", 0.0, 0.1)
    parts = [*rows(truth, [first]), *rows(truth, [again], seed=5, ours=False), *rows(truth, [beside], ours=False)]
    one = only(guests(sightings(observations_of(parts))))
    assert one.error_s == pytest.approx(0.4, abs=0.05)
    assert one.one_clock == 0


def test_who_was_begun_anew_shares_no_clock_with_who_was_not() -> None:
    truth, first = delays(6, 2), [Watcher(name, "one", 0.0, 0.0, 0.2) for name in ("A", "B")]
    parts = [*rows(truth, first), *rows(truth[:, :1], [Watcher("A", "two", 0.0, 0.0, 0.3)], seed=5, ours=False)]
    one = only(guests(sightings(observations_of(parts))))
    assert one.one_clock == 0
    assert one.error_s == pytest.approx(0.5, abs=0.05)


def test_nests_are_one_whoever_watched_them_and_under_however_many_traces() -> None:
    made = found_of(delays(5, 2), [A, elsewhere("B")])
    assert made.groupby("trace_id")["vantage"].nunique().tolist() == [2] * 5
    assert set(made["trace_id"]) == set(made["nest"])


def test_rows_in_any_order_and_none_at_all() -> None:
    table = observations_of(rows(delays(4, 2), [A, elsewhere("B")]))
    mixed = table.sample(frac=1.0, random_state=3).reset_index(drop=True)
    columns = ["trace_id", "vantage", "layer", "lower_s", "upper_s", "clock_error_s", "until_s"]
    assert sightings(mixed)[columns].equals(sightings(table)[columns])
    none = sightings(table.iloc[:0])
    assert none.empty
    assert list(none.columns) == list(sightings(table).columns)
    assert pairs(guests(none)) == behind(guests(none)) == []
    assert seats(none).empty
    assert told_no(guests(none)).n == 0


def test_seats_are_compared_by_the_routes_that_all_asked_for() -> None:
    truth = delays(12, 2, median_s=3.0)
    asked = [
        *rows(truth[:, :1] - 2.0, [A], operation=Operation.JOIN),
        *rows(truth, [A, elsewhere("B")], operation=Operation.GUEST, ours=False),
    ]
    asked = [replace(row, clock_offset_s=0.0, clock_error_s=0.01, sync_age_s=0.0) for row in asked]
    made = sightings(observations_of(asked))
    one = only(sights(seats(made), SEAT))
    assert one.n == 12
    assert ((one.lower < 0.0) & (one.upper > 0.0)).all()  # not the two seconds of a route that B never asked for
    joins = seats(made[(made["layer"] == "api:join") | (made["vantage"] == "Computer A")])
    early = joins["upper_s"].to_numpy() - truth[:, 0]
    assert len(joins) == 12
    assert (early < 0.5).all()


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0.1, 9.0), st.floats(-5.0, 9.0)), min_size=1, max_size=4),
    st.floats(-60.0, 60.0),
    st.floats(0.0, 0.5),
    st.floats(-1.0, 1.0),
    st.booleans(),
    st.integers(0, 1_000),
)
def test_the_true_difference_is_always_inside(
    nests: list[tuple[float, float]], ahead_s: float, error_s: float, wrong: float, ours: bool, seed: int
) -> None:
    truth = np.array([(first, max(0.05, first + more)) for first, more in nests])
    b = Watcher("B", "b", ahead_s, ahead_s + wrong * error_s, error_s)
    found = guests(found_of(truth, [elsewhere("A", 0.0, 0.02), b], ours=ours, seed=seed, horizon_s=12.0))
    low, high = found.apart(0, 1)
    names = [f"30312:{'ab' * 32}:room-{number}" for number in range(len(truth))]
    true = dict(zip(names, truth[:, 1] - truth[:, 0], strict=True))
    for name, least, most in zip(found.nests, low, high, strict=True):
        assert math.isnan(least) or least - 1e-6 < true[name] < most + 1e-6


# how often it holds


def drawn(rng: np.random.Generator, n: int, k: int, *, later_s: float = 0.0, error_s: float = 0.0) -> Sights:
    """n nests at k vantages, each asking at a phase of its own every .7 s; the last is `later_s` later at the median,
    and all clocks but the first are off by up to error_s."""
    shared = 4.0 * np.exp(0.5 * rng.standard_normal((n, 1)))
    true = shared + rng.exponential(0.8, (n, k))
    true[:, -1] += later_s
    phase, gap = rng.random((n, k)) * 0.7, 0.7
    upper = phase + np.maximum(np.ceil((true - phase) / gap), 0.0) * gap
    lower = np.where(upper > phase, upper - gap, -math.inf)
    off = rng.uniform(-error_s, error_s, k) if error_s else np.zeros(k)
    ends = [[(lower[i, j] + off[j], upper[i, j] + off[j]) for j in range(k)] for i in range(n)]
    return seen(*ends, clock=range(k) if error_s else (), error=[error_s] * k, floor=-math.inf)


@pytest.mark.slow
@pytest.mark.parametrize("error_s", [0.0, 0.3])
@pytest.mark.parametrize("later_s", [0.0, 2.5])
def test_the_interval_of_the_median_difference_holds_it(later_s: float, error_s: float) -> None:
    rng, held, shown = np.random.default_rng(11), 0, 0
    for _ in range(200):
        one = only(drawn(rng, 40, 2, later_s=later_s, error_s=error_s))
        half = one.quantile()
        held += half.low <= later_s <= half.high
        shown += one.way == "later"
    assert held >= 186
    assert shown >= 150 if later_s else shown <= 10


@pytest.mark.slow
def test_of_six_that_do_not_differ_seldom_any_two_are_said_to() -> None:
    rng = np.random.default_rng(12)
    shown = sum(any(one.way != "not shown" for one in pairs(drawn(rng, 30, 6))) for _ in range(100))
    assert shown <= 8


@pytest.mark.slow
def test_nests_of_one_hour_that_share_their_fate_make_the_interval_wider() -> None:
    rng = np.random.default_rng(13)
    block = np.repeat(np.arange(30), 10)
    late = np.where(rng.random(30) < 0.5, 0.0, 3.0)[block] + rng.exponential(0.1, 300)
    wide = vantages.quantile(late, late, block, 0.5)
    narrow = vantages.quantile(late, late, np.arange(300), 0.5)
    assert wide.low <= narrow.low
    assert wide.high >= narrow.high
    share = vantages._share(late > 1.0, late > 1.0, block)
    assert share.deff > 3.0


def test_sources_and_operations_of_relays_are_layers_of_their_own() -> None:
    made = found_of(delays(3, 2), [A, B], source=Source.RELAY, operation=Operation.QUERY, target="wss://one/")
    assert set(made["layer"]) == {"relay:wss://one/"}
