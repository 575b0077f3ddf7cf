"""Differences with their intervals: published examples, exact laws, and that dependent rows are not counted twice."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nestobs.estimate import comparison as changes
from nestobs.estimate.comparison import JOINABLE, Ends, Quantile, Share, Span, difference, holm, rate_ratio, touching
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure
from nestobs.observation.window import Window
from nestobs.store.reader import Store
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins
from worlds.full_nests import NOON, all_rows, store_of

HOUR = 3_600 * SECOND_NS

NEWCOMBE = {  # Newcombe (1998), table II, method 10: a/m less b/n
    (56, 70, 48, 80): (0.0524, 0.3339),
    (9, 10, 3, 10): (0.1705, 0.8090),
    (6, 7, 2, 7): (0.0582, 0.8062),
    (5, 56, 0, 29): (-0.0381, 0.1926),
    (0, 10, 0, 20): (-0.1611, 0.2775),
    (0, 10, 0, 10): (-0.2775, 0.2775),
    (10, 10, 0, 20): (0.6791, 1.0),
    (10, 10, 0, 10): (0.6075, 1.0),
}


@pytest.mark.parametrize("case", NEWCOMBE)
def test_a_difference_of_shares_is_newcombes(case: tuple[int, int, int, int]) -> None:
    a, m, b, n = case
    assert difference(Share(a, m), Share(b, n)) == pytest.approx(NEWCOMBE[case], abs=5e-5)


def test_a_share_has_wilsons_interval() -> None:
    low, least, most, high = Share(81, 263).at(0.95)  # Newcombe (1998), single proportion, table I, method 3
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert least == most == 81 / 263


@pytest.mark.parametrize(("n", "ranks"), [(10, (2, 9)), (20, (6, 15)), (30, (10, 21)), (5, (0, 6)), (6, (1, 6))])
def test_a_median_is_between_two_order_statistics(n: int, ranks: tuple[int, int]) -> None:
    times = np.arange(1.0, n + 1.0)
    low, _, _, high = Quantile(0.5, times, times).at(0.95)
    assert (low, high) == (ranks[0] or -math.inf, ranks[1] if ranks[1] <= n else math.inf)


@given(st.integers(1, 5_000), st.floats(0.01, 0.99), st.sampled_from([1e-9, 0.005, 0.025, 0.5, 0.975, 0.995]))
def test_ranks_are_quantiles_of_the_binomial_law(n: int, p: float, share: float) -> None:
    assert changes._binomial(share, n, p) == stats.binom.ppf(share, n, p)


def test_what_rows_leave_open_adds_up_and_error_is_squared() -> None:
    exact = np.arange(1.0, 101.0)
    one, other = Quantile(0.5, exact - 1.0, exact), Quantile(0.5, exact - 3.0, exact)
    ends, than = one.at(0.95), other.at(0.95)
    low, high = difference(one, other)
    assert low == pytest.approx((ends.least - than.most) - math.hypot(ends.least - ends.low, than.high - than.most))
    assert high == pytest.approx((ends.most - than.least) + math.hypot(ends.high - ends.most, than.least - than.low))
    assert (ends.least, ends.most) == (49.0, 50.0)


def test_where_half_never_came_a_difference_has_no_end() -> None:
    came, not_come = np.arange(1.0, 41.0), np.full(40, np.inf)
    never, all_came = Quantile(0.5, np.full(40, 90.0), not_come), Quantile(0.5, came, came)
    low, high = difference(never, all_came)
    assert low > 50
    assert high == math.inf
    assert difference(never, never) == (-math.inf, math.inf)


def test_intervals_of_medians_differ_no_more_often_than_they_say() -> None:
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(300):
        one, other = (np.sort(np.exp(rng.standard_normal(60))) for _ in range(2))
        step = 0.05 * rng.random()
        low, high = difference(*(Quantile(0.5, times - step, times + step) for times in (one, other)))
        missed += not low <= 0.0 <= high
    assert missed <= 0.05 * 300


@pytest.mark.parametrize(("after", "before"), [(10, 20), (0, 7), (7, 0), (1, 1), (300, 250)])
def test_a_ratio_of_rates_is_exact(after: int, before: int) -> None:
    low, high = rate_ratio(after, 1.0, before, 2.0)
    share = stats.binomtest(after, after + before).proportion_ci(0.95, "exact")
    assert low == pytest.approx(2.0 * share.low / (1.0 - share.low))
    assert high == pytest.approx(2.0 * share.high / (1.0 - share.high)) if before else high == math.inf


def test_nothing_counted_and_no_time_to_count_say_nothing() -> None:
    assert rate_ratio(0, 1.0, 0, 1.0) == (0.0, math.inf)
    assert rate_ratio(3, 0.0, 4, 1.0) == (0.0, math.inf)


@pytest.mark.parametrize(("count", "ends"), [(0, (0.0, 3.689)), (1, (0.0253, 5.572)), (10, (4.795, 18.39))])
def test_a_count_has_garwoods_interval(count: int, ends: tuple[float, float]) -> None:
    assert changes.poisson(count) == pytest.approx(ends, rel=1e-3, abs=1e-3)


def test_p_is_where_the_interval_touches() -> None:
    p = touching(lambda level: difference(Share(56, 70), Share(48, 80), level))
    assert difference(Share(56, 70), Share(48, 80), 1.0 - p)[0] == pytest.approx(0.0, abs=1e-4)
    assert p == pytest.approx(0.0081, abs=2e-4)
    assert touching(lambda level: difference(Share(5, 10), Share(5, 10), level)) == 1.0
    assert touching(lambda _: (1.0, 2.0)) == 1e-12


def test_holm_is_that_of_others() -> None:
    """R: p.adjust(c(.01, .04, .03, .005), "holm")."""
    assert list(holm([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert list(holm([])) == []
    assert list(holm([0.9, 0.8])) == [1.0, 1.0]


@given(st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=30))
def test_holm_never_lowers_and_keeps_the_order(ps: list[float]) -> None:
    held = holm(ps)
    assert (held >= np.array(ps) - 1e-15).all()
    assert (np.diff(held[np.argsort(ps, kind="stable")]) >= 0).all()


def test_rows_that_are_all_alike_in_a_block_count_once() -> None:
    hit = np.repeat(np.arange(40) % 2 == 0, 25)
    block = np.repeat(np.arange(40), 25)
    assert changes.design_effect(hit, block) == pytest.approx(25.0, rel=0.05)
    assert changes.design_effect(hit, np.arange(1000)) == pytest.approx(1.0, rel=0.01)
    assert math.isnan(changes.design_effect(np.zeros(10, bool), np.arange(10)))
    assert math.isnan(changes.design_effect(hit, np.zeros(1000, np.int64)))
    once = changes.share_of(hit, np.arange(1000))
    together = changes.share_of(hit, block)
    assert together.high - together.low > 4 * (once.high - once.low)


def test_rows_of_an_hour_are_a_block_where_there_are_enough_hours() -> None:
    days = np.arange(50) * HOUR // 2
    assert changes.blocks(days, lambda: np.arange(50)).max() == 24
    assert changes.blocks(days[:30], lambda: np.arange(30) // 3).max() == 9


# from rows


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Rows, timelines and joins of 48 nests, two an hour."""
    directory = store_of(tmp_path_factory.mktemp("changes") / "store", all_rows(48, spacing_s=1_800.0))
    rows = Store.open(directory).frame()
    lines = timelines(rows)
    return rows, lines, joins(rows, lines)


def halves(frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> list[Span]:
    windows = [Window(NOON, NOON + 12 * HOUR), Window(NOON + 12 * HOUR, NOON + 24 * HOUR)]
    return changes.spans(*frames, windows, [12 * 3_600.0] * 2)


def test_every_nest_join_and_row_belongs_to_its_window(
    frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
) -> None:
    one, other = halves(frames)
    assert one.nests == other.nests == 24
    assert len(one.joins) + len(other.joins) == len(frames[2])
    assert set(one.joins["nest"]) == set(one.timelines["nest"])
    assert one.rows["sent_at"].max() < other.window.start <= other.rows["sent_at"].min()
    shuffled = frames[0].sample(frac=1.0, random_state=1), *frames[1:]
    assert [len(span.rows) for span in halves(shuffled)] == [len(one.rows), len(other.rows)]


def test_a_nest_without_an_origin_belongs_to_where_it_was_first_seen(
    frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
) -> None:
    rows = frames[0][~frames[0]["operation"].isin(["create", "publish"])]
    lines = timelines(rows)
    assert lines["origin_at"].isna().all()
    assert [span.nests for span in halves((rows, lines, joins(rows, lines)))] == [24, 24]


def test_the_same_world_shows_no_change(frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    one, other = halves(frames)
    found = changes.compare(other, one)
    assert not any(change.remains for change in found)
    kinds = {change.group for change in found}
    assert kinds == {"count", "share", "median", "ninth"}
    medians = [change.name for change in found if change.group == "median"]
    assert {JOINABLE, "api:info", "client", "livekit:media"} <= set(medians)
    assert [change.name for change in found if change.group == "share"] == list(changes.SHARES)
    table = changes.frame(found)
    assert (table["low"] <= table["high"]).all()
    assert (table["before_low"] <= table["before_high"]).all()


def test_another_world_shows_in_what_changed_and_nowhere_else(
    frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
) -> None:
    rows, _, _ = frames
    later = rows["sent_at"] >= NOON + 12 * HOUR
    info = later & (rows["operation"] == "info") & (rows["failure"].fillna("") != Failure.INTENT)
    broken = rows.assign(
        status=rows["status"].mask(info, 503),
        outcome=rows["outcome"].mask(info, "unknown"),
        failure=rows["failure"].mask(info, str(Failure.SERVER_ERROR)),
    )
    lines = timelines(broken)
    one, other = halves((broken, lines, joins(broken, lines)))
    found = changes.compare(other, one)
    assert [change.name for change in found if change.remains] == ["status_5xx"]
    (server,) = [change for change in found if change.name == "status_5xx"]
    assert server.before.high < server.low + server.after.high
    assert server.p < 1e-6
    assert "api:info" not in {change.name for change in found}  # nothing is proven of it any more


def test_nothing_is_compared_with_nothing(frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    _, other = halves(frames)
    empty = Span(other.window, 0.0, frames[0].iloc[:0], frames[1].iloc[:0], frames[2].iloc[:0])
    assert changes.compare(other, empty) == []
    assert changes.compare(empty, empty) == []
    assert changes.frame([]).empty
    days = changes.daily([empty, other])
    assert list(days.columns) == list(changes.DAYS)
    assert days["nests"].tolist() == [0, 24]
    assert math.isnan(days["median_high_s"][0])
    assert 0 < days["median_low_s"][1] < days["median_high_s"][1]
    assert changes.budget_used(empty, 900.0).empty


def test_the_busiest_window_slides(frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    one, _ = halves(frames)
    used = changes.budget_used(one, 900.0)
    assert used["host"].unique().tolist() == ["nests.example"]
    for row in used.itertuples():
        asked = one.rows[(one.rows["source"] == "api") & (one.rows["vantage"] == row.vantage)]
        sent = asked.loc[asked["failure"].fillna("") != "intent", "sent_at"].to_numpy(np.int64)
        most = max(int(((sent >= start) & (sent < start + 900 * SECOND_NS)).sum()) for start in sent)
        assert (row.requests, row.peak) == (len(sent), most)
        assert row.per_hour == pytest.approx(len(sent) / 12)


def test_only_the_most_watched_relays_are_compared() -> None:
    def rows(n: int) -> changes.Delays:
        return changes.Delays(np.zeros(n), np.ones(n), np.arange(n))

    many = {f"relay:wss://{number}/": rows(number + 1) for number in range(10)} | {"client": rows(1)}
    assert changes.compared_layers(many, many) == [
        *(f"relay:wss://{number}/" for number in range(4, 10)),
        "client",
    ]
    assert changes.compared_layers(many, {"client": rows(1)}) == ["client"]


def test_ends_stand_in_order() -> None:
    assert Ends(*changes.quantile_of(changes.Delays(np.zeros(1), np.ones(1), np.zeros(1, np.int64)), 0.5)) == (
        -math.inf, 0.0, 1.0, math.inf,
    )  # fmt: skip
