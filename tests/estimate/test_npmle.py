"""One delay law: known answers, what it says of itself, its bounds, its bootstrap and its smoothing."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from nestobs.estimate.npmle import (
    DataError,
    best_width,
    block_counts,
    fit,
    folds,
    log_likelihood,
    npmle,
    percentile,
    rows,
    smoothed,
)
from worlds.polled import delays_of, polled

INF = math.inf

# R's `interval` package, `bcos`, treatment "Rad" (Finkelstein and Wolfe 1985).
RADIATION = """
45- 6-10 0-7 46- 46- 7-16 17- 7-14 37-44 0-8 4-11 15- 11-15 22- 46- 46- 25-37 46- 26-40 46- 27-34 36-44 46- 36-48
37- 40- 17-25 46- 11-18 38- 5-12 37- 0-5 18- 24- 36- 5-11 19-35 17-25 24- 32- 33- 19-26 37- 34- 36-
"""


def radiation():
    pairs = [text.partition("-") for text in RADIATION.split()]
    return [float(low) for low, _, _ in pairs], [float(high or "inf") for _, _, high in pairs]


def law_of(n, seed=1, **options):
    rng = np.random.default_rng(seed)
    return npmle(*polled(delays_of(n, rng, **options), rng))


ROWS = st.lists(
    st.tuples(
        st.one_of(st.integers(-3, 9), st.just(-INF)),
        st.one_of(st.integers(-3, 9), st.just(INF)),
        st.integers(1, 5),
    ).filter(lambda row: row[0] <= row[1]),
    min_size=1,
    max_size=14,
).map(lambda rows: tuple(np.array(column, dtype=float) for column in zip(*rows, strict=True)))


# Known answers


def test_polls_on_one_common_grid_give_the_plain_proportions():
    rng = np.random.default_rng(1)
    ages = np.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, INF])
    which = rng.integers(0, 6, 500)
    law = npmle(ages[which], ages[which + 1])
    assert law.cdf(ages[1:-1]) == pytest.approx([(which < k).mean() for k in range(1, 6)], abs=1e-9)
    assert law.never == pytest.approx((which == 5).mean(), abs=1e-9)


@pytest.mark.parametrize("width", [0.0, 1e-9])
def test_exact_delays_give_the_empirical_distribution(width):
    times = np.random.default_rng(2).exponential(4.0, 200).round(1) + 1.0
    law = npmle(times - width, times)
    known = stats.ecdf(times).cdf
    assert law.cdf(known.quantiles) == pytest.approx(known.probabilities, abs=1e-9)
    assert law.cdf(known.quantiles - 0.05) == pytest.approx(np.append(0.0, known.probabilities[:-1]), abs=1e-9)


def test_right_censored_exact_delays_give_kaplan_meier():
    rng = np.random.default_rng(3)
    times, ends = rng.exponential(4.0, (2, 300)).round(1)
    seen = np.minimum(times, ends)
    law = npmle(seen, np.where(times <= ends, seen, INF))
    known = stats.ecdf(stats.CensoredData.right_censored(seen, times > ends)).sf
    assert 1.0 - law.cdf(known.quantiles) == pytest.approx(known.probabilities, abs=1e-9)


def test_the_ten_rows_of_the_textbook():
    law = npmle([1, 8, 8, 7, 7, 17, 37, 46, 46, 45], [7, 8, 10, 16, 14, INF, 44, INF, INF, INF])
    assert 1.0 - law.cdf([7, 8, 10, 44]) == pytest.approx([0.9, 0.7, 0.5, 0.375], abs=1e-9)


def test_breast_cosmesis_after_radiation():
    lower, upper = radiation()
    law = npmle(lower, upper)
    assert law.n == 46
    assert law.mass.round(4).tolist() == [0.0463, 0.0334, 0.0887, 0.0708, 0.0926, 0.0818, 0.1209, 0.4656]
    assert law.edges.tolist() == [[4, 5], [6, 7], [7, 8], [11, 12], [24, 25], [33, 34], [38, 40], [46, 48]]
    assert round(law.log_likelihood, 4) == -58.06
    assert law.gap <= 1e-6


@settings(max_examples=50, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, random):
    lower, upper, weight = rows
    order = list(range(len(lower)))
    random.shuffle(order)
    law, other = npmle(lower, upper, weight), npmle(lower[order], upper[order], weight[order])
    assert other.mass.sum() == pytest.approx(1.0, abs=1e-12)
    assert other.log_likelihood == pytest.approx(law.log_likelihood, abs=1e-6)
    assert other.edges.tolist() == law.edges.tolist()
    assert other.mass == pytest.approx(law.mass, abs=1e-6)


def test_milliseconds_for_seconds_scale_the_answer():
    rng = np.random.default_rng(4)
    lower, upper = polled(delays_of(500, rng), rng)
    law, other = npmle(lower, upper), npmle(1000 * lower, 1000 * upper)
    share = np.array([0.1, 0.5, 0.9])
    assert other.quantile(share) == pytest.approx(1000 * law.quantile(share), rel=1e-9)
    assert other.never == pytest.approx(law.never, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_a_weight_is_so_many_equal_rows(rows):
    lower, upper, weight = rows
    counts = weight.astype(int)
    law, other = npmle(lower, upper, weight), npmle(np.repeat(lower, counts), np.repeat(upper, counts))
    assert other.log_likelihood == pytest.approx(law.log_likelihood, abs=2e-6)
    assert other.mass == pytest.approx(law.mass, abs=1e-6)


def test_rows_of_weight_0_are_left_out():
    law = npmle([1, 5, 9], [2, 6, 9], [1, 0, 2])
    assert law.n == 2
    assert law.edges.tolist() == [[1, 2], [9, 9]]


# Rows that are and are not data


@pytest.mark.parametrize(
    ("lower", "upper", "weight", "said"),
    [
        ([], [], None, "there are no rows"),
        ([1, 2], [3], None, "have 2, 1 and 2 rows"),
        ([1], [2], [1, 1], "have 1, 1 and 2 rows"),
        ([1, 5], [2, 4], None, r"row 1, \(5, 4\], ends before it begins"),
        ([1, math.nan], [2, 3], None, r"row 1, \(nan, 3\], holds NaN"),
        ([1, 2], [2, None], None, r"row 1, \(2, nan\], holds NaN"),
        ([1], [2], [math.nan], "row 0, .* holds NaN"),
        ([INF], [INF], None, "row 0, .* lies at infinity"),
        ([-INF], [-INF], None, "row 0, .* lies at infinity"),
        ([1, 1], [2, 2], [1, -1], "row 1, .* negative or infinite"),
        ([1], [2], [INF], "row 0, .* negative or infinite"),
        ([1], [2], [0], "all weights are 0"),
        ([[1, 2]], [[2, 3]], None, "lower is one column of numbers, not of 2 dimensions"),
        (1, 2, None, "lower is one column of numbers, not of 0 dimensions"),
        (["soon"], ["late"], None, "lower holds something that is no number of seconds"),
        ([1], [2 + 1j], None, "upper holds something that is no number of seconds"),
        (pd.to_timedelta(["1s"]), pd.to_timedelta(["2s"]), None, "lower holds something that is no number of seconds"),
        (
            pd.to_datetime(["2026-01-01"]),
            pd.to_datetime(["2026-01-02"]),
            None,
            "lower holds something that is no number of seconds",
        ),
    ],
)
def test_what_is_no_data_is_refused_in_a_sentence(lower, upper, weight, said):
    with pytest.raises(DataError, match=said):
        npmle(lower, upper, weight)


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ([1, 2], [3, INF]),
        (np.array([1, 2], dtype=object), np.array([3, INF], dtype=object)),
        (np.array([1, 2], dtype=np.int32), np.array([3, INF], dtype=np.float32)),
        (pd.Series([1, 2], index=[7, 7]), pd.Series([3, INF], index=["b", "a"])),
        (pd.Series([1, 2], dtype="Int64"), pd.Series([3, INF], dtype="Float64")),
    ],
)
def test_any_column_of_numbers_will_do(lower, upper):
    assert npmle(lower, upper).cdf([2, 3]) == pytest.approx(npmle([1.0, 2.0], [3.0, INF]).cdf([2, 3]))


EDGES = {
    "one": ([1], [2]),
    "one exact": ([1], [1]),
    "one never": ([1], [INF]),
    "one of which nothing is known": ([-INF], [INF]),
    "all right-censored": ([1, 2, 3], [INF] * 3),
    "all left-censored": ([-INF, 0, -INF], [1, 2, 3]),
    "all equal": ([1] * 9, [2] * 9),
    "all exact and equal": ([2] * 9, [2] * 9),
    "at zero": ([0, 0], [0, INF]),
    "minus zero": ([-0.0, 0.0], [0.0, 1.0]),
    "negative": ([-5, -3, -0.5], [-4, -2, 0.5]),
    "before the floor": ([0.001, 0.002, 0.003], [0.001, 0.004, 0.003]),
    "tiny and huge": ([1e-9, 1e9], [2e-9, 2e9]),
    "close exact times": ([1, 1.0001, 1.0002], [1, 1.0001, 1.0002]),
}


@pytest.mark.parametrize("name", EDGES)
def test_everything_works_without_a_warning(name):
    """Warnings are errors here."""
    lower, upper = EDGES[name]
    law = npmle(lower, upper)
    for one in (law, law.smooth(), law.smooth(0.1), *law.smooth().bootstrap(draws=2).laws):
        assert one.mass.sum() == pytest.approx(1.0, abs=1e-9)
        assert (one.mass > 0).all()
        assert one.never == pytest.approx(1.0 if np.isinf(upper).all() else one.never)
        at = one.cdf([-INF, -9, 0, 1.5, 1e12, INF])
        assert (at[1:] >= at[:-1]).all()
        assert (at[0], at[-1]) == (0, 1)
        assert at[-2] == pytest.approx(1.0 - one.never)
        ages = one.quantile([0, 0.3, 0.6, 1])
        assert (ages[1:] >= ages[:-1]).all()
        low, high = one.bounds([-9, 0, 1, 2])
        assert ((low >= 0) & (low <= high) & (high <= 1)).all()
        first, last = one.quantile_bounds(0.5)
        assert first <= last
    assert math.isfinite(log_likelihood(law.smooth(), law.rows))


# The law


@settings(max_examples=60, deadline=None)
@given(ROWS, st.floats(0.0, 1.0))
def test_quantile_and_cdf_are_inverse_to_each_other(rows, p):
    law = npmle(*rows)
    at = float(law.quantile(p))
    if p > 1.0 - law.never + 1e-9:
        assert at == INF
        return
    assume(law.never < 1)
    assert float(law.cdf(at)) >= p - 1e-9
    finite = law.edges[np.isfinite(law.edges)]
    before = math.nextafter(at, -INF) - 1e-9 * max(1.0, float(np.abs(finite).max()))
    assert float(law.cdf(before)) <= p + 1e-9


def test_cdf_is_the_mass_at_the_ends_of_cells_and_a_straight_line_inside():
    law = npmle([0, 4, 4, 9], [2, 8, 8, INF])
    assert law.cdf([-1, 0, 1, 2, 3, 4, 6, 8, 100, INF]) == pytest.approx(
        [0, 0, 0.125, 0.25, 0.25, 0.25, 0.5, 0.75, 0.75, 1]
    )
    assert law.quantile([0.125, 0.25, 0.5, 0.75]) == pytest.approx([1, 2, 6, 8])
    assert law.quantile(0.76) == INF
    assert (law.n, law.censored, law.never) == (4, 1, pytest.approx(0.25))


def test_a_cell_without_a_lower_end_is_drawn_at_its_upper_one():
    law = npmle([-INF, 3], [2, 4])
    assert law.cdf([1.99, 2, 3, 4]) == pytest.approx([0, 0.5, 0.5, 1])


def test_every_shape_of_question_has_an_answer_of_that_shape():
    law = npmle([1, 2], [2, INF])
    for one in (law, law.smooth(0.1)):
        assert one.cdf(1.5).shape == one.quantile(0.2).shape == ()
        assert one.cdf([[1, 2, 3]]).shape == one.quantile([[0.1, 0.2, 0.3]]).shape == (1, 3)
        assert one.cdf([]).shape == (0,)
        assert math.isnan(one.cdf(math.nan))


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan, [0.5, 2]])
def test_a_quantile_of_what_is_no_share_is_refused(p):
    with pytest.raises(DataError, match="p is a share from 0 to 1"):
        npmle([1], [2]).quantile(p)


@pytest.mark.slow
def test_never_is_what_did_not_come_by_the_end_of_watching():
    law = law_of(4000)
    assert law.never == pytest.approx(0.08, abs=0.02)
    assert law.censored / law.n == pytest.approx(law.never, abs=0.01)


@pytest.mark.slow
def test_the_share_that_stays_away_and_the_delays_of_the_others_are_recovered_from_many_nests():
    n, coming, shares = 20_000, stats.lognorm(0.9, scale=4.0), np.array([0.1, 0.5, 0.9])
    law = law_of(n)
    away = 0.08 + 0.92 * coming.sf(45.0)
    assert 1.0 - law.cdf(45.0) == pytest.approx(away, abs=3.0 * math.sqrt(away * (1.0 - away) / n))
    assert law.smooth(0.1).quantile(0.92 * shares) == pytest.approx(coming.ppf(shares), rel=0.03)


# Bounds that assume no law


def by_hand(lower, upper, t):
    """(surely, possibly) visible by t, counted row by row."""
    sure = sum(high <= t for high in upper)
    possible = sum(low < t or low == high == t for low, high in zip(lower, upper, strict=True))
    return sure / len(lower), possible / len(lower)


@given(ROWS)
def test_sure_and_possible_are_counted_row_by_row(rows):
    lower, upper, _ = rows
    law = npmle(lower, upper)
    ends = np.unique(np.concatenate([lower, upper]))
    at = np.unique(np.concatenate([ends, ends[np.isfinite(ends)] + 0.5, [-INF, INF]]))
    sure, possible = law.certain(at)
    known = np.array([by_hand(lower, upper, t) for t in at])
    assert sure == pytest.approx(known[:, 0])
    assert possible == pytest.approx(known[:, 1])
    assert law.ambiguous(at) == pytest.approx(possible - sure)


def test_an_exact_row_and_one_that_straddles_it_are_both_possible():
    law = npmle([5, 1], [5, 10])
    assert (law.certain([5.0])[0][0], law.certain([5.0])[1][0], law.ambiguous([5.0])[0]) == (0.5, 1.0, 0.5)


def test_the_ambiguous_share_is_that_of_the_rows_that_straddle_the_threshold():
    law = npmle([25, 28, 29.9, 30, 31], [29, 30, 30.1, 40, INF])
    assert law.ambiguous([30.0]) == pytest.approx([0.2])


@given(ROWS)
def test_the_estimate_lies_between_the_sure_and_the_possible(rows):
    lower, upper, weight = rows
    law = npmle(lower, upper, weight)
    ends = law.edges[np.isfinite(law.edges[:, 1]), 1]
    sure, possible = law.certain(ends)
    assert (sure - 1e-6 <= law.cdf(ends)).all()
    assert (law.cdf(ends) <= possible + 1e-6).all()


def test_the_ends_are_those_of_clopper_and_pearson():
    ages = np.array([0.0, 1.0, 2.0, 3.0, INF])
    counts = [0, 7, 21, 12]
    which = np.repeat(np.arange(4), counts)
    law = npmle(ages[which], ages[which + 1])
    for level in (0.5, 0.95, 0.999):
        low, high = law.bounds([1, 2, 3], level)
        for k, below, above in zip(np.cumsum(counts), low, high, strict=False):
            known = stats.binomtest(int(k), 40).proportion_ci(level, method="exact")
            assert (below, above) == pytest.approx((known.low, known.high))


def test_weights_count_by_their_effective_number():
    even = npmle([0, 1], [1, 2], [50, 50])
    plain = npmle([0, 1], [1, 2])
    uneven = npmle([0, 1, 1], [1, 2, 2], [2, 1, 1])
    assert even.bounds([1.0]) == plain.bounds([1.0])  # two rows are two, whatever they weigh
    known = stats.beta.ppf(0.025, 0.5 * 16 / 6, 0.5 * 16 / 6 + 1)
    assert uneven.bounds([1.0])[0][0] == pytest.approx(known)


@pytest.mark.slow
def test_the_bounds_hold_the_truth():
    rng = np.random.default_rng(5)
    ages = np.array([1.0, 4.0, 10.0, 30.0])
    truth = 0.92 * stats.lognorm.cdf(ages, 0.9, scale=4)
    outside = np.zeros(4)
    for _ in range(200):
        law = npmle(*polled(delays_of(60, rng), rng, spacing=2.0))
        low, high = law.bounds(ages)
        outside += (truth < low) | (truth > high)
    assert (outside <= 10).all()  # conservative: 5 % at most, less where rows straddle


def test_a_quantile_without_a_law_lies_between_the_ends_of_the_rows_that_may_hold_it():
    """A hundred rows (1, 10]: the median may be anywhere in there, not only at 10."""
    assert npmle([1] * 100, [10] * 100).quantile_bounds(0.5) == (1, 10)
    assert npmle([1] * 100, [INF] * 100).quantile_bounds(0.5) == (1, INF)
    assert npmle([-INF] * 100, [3] * 100).quantile_bounds(0.5) == (-INF, 3)
    assert npmle([2] * 100, [2] * 100).quantile_bounds(0.5) == (2, 2)


def test_two_rows_bound_no_median():
    assert npmle([1, 1], [2, 2]).quantile_bounds(0.5) == (-INF, INF)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(ROWS, st.sampled_from([0.1, 0.5, 0.9]))
def test_the_bounds_of_a_quantile_hold_the_quantile_and_cross_the_bounds(rows, p):
    lower, upper, _ = rows
    law = npmle(np.tile(lower, 10), np.tile(upper, 10))
    low, high = law.quantile_bounds(p, 0.8)
    assert low <= float(law.quantile(p)) + 1e-9
    assert float(law.quantile(p)) <= high + 1e-9
    if math.isfinite(low):
        assert law.bounds([low - 1e-6], 0.8)[1][0] < p <= law.bounds([low + 1e-6], 0.8)[1][0]
    if math.isfinite(high):
        assert law.bounds([high - 1e-6], 0.8)[0][0] < p <= law.bounds([high], 0.8)[0][0]


@pytest.mark.parametrize("level", [0, 1, 95, math.nan])
def test_a_level_is_a_share(level):
    law = npmle([1], [2])
    for asked in (lambda: law.bounds([1.0], level), lambda: law.bootstrap(draws=2).cdf(1, level)):
        with pytest.raises(DataError, match="level is a share between 0 and 1"):
            asked()


# Bootstrap


def test_one_seed_gives_one_bootstrap():
    law = law_of(80)
    one, again = (law.bootstrap(rng=np.random.default_rng(3), draws=20) for _ in range(2))
    other = law.bootstrap(rng=np.random.default_rng(4), draws=20)
    assert np.array_equal(one.counts, again.counts)
    assert np.array_equal(one.of(lambda law: law.quantile(0.5)), again.of(lambda law: law.quantile(0.5)))
    assert not np.array_equal(one.counts, other.counts)
    assert np.array_equal(law.bootstrap(draws=5).counts, law.bootstrap(draws=5).counts)  # without one, too


def test_blocks_are_drawn_whole():
    labels = np.repeat(["a", "b", "c", "d"], [1, 2, 3, 4])
    counts = block_counts(labels, 300, np.random.default_rng(1))
    assert all(len(set(draw[labels == name])) == 1 for draw in counts for name in "abcd")
    ones = counts[:, [0, 1, 3, 6]]
    assert (ones.sum(axis=1) == 4).all()
    assert ones.mean() == pytest.approx(1.0)
    assert ones.var() == pytest.approx(0.75, abs=0.1)  # multinomial


@pytest.mark.slow
def test_rows_that_go_together_make_the_interval_wider():
    rng = np.random.default_rng(6)
    hosts = rng.integers(0, 20, 400)
    times = 4.0 * np.exp(0.3 * rng.standard_normal(400) + 0.9 * rng.standard_normal(20)[hosts])
    law = npmle(*polled(times, rng))
    apart, together = (law.bootstrap(blocks, draws=100).quantile(0.5) for blocks in (None, hosts))
    assert together[1] - together[0] > 2.0 * (apart[1] - apart[0])


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_an_executor_gives_the_same(kind):
    law = law_of(60)
    with kind(max_workers=2) as executor:
        found = law.bootstrap(draws=20, executor=executor)
    for one, other in zip(found.laws, law.bootstrap(draws=20).laws, strict=True):
        assert np.array_equal(one.edges, other.edges)
        assert np.array_equal(one.mass, other.mass)


def test_a_warm_started_fit_is_the_cold_fit_of_the_rows_drawn():
    law = law_of(150)
    found = law.bootstrap(draws=30)
    for one, counts in zip(found.laws, found.counts, strict=True):
        cold = npmle(law.rows.lower, law.rows.upper, counts)
        assert one.gap <= 1e-4
        assert one.rows is law.rows  # not those drawn: see Resampled
        assert one.log_likelihood == pytest.approx(cold.log_likelihood, abs=1e-4)


def test_a_smoothed_law_is_resampled_smoothed_as_it_is():
    law = law_of(60).smooth(0.2)
    found = law.bootstrap(draws=5)
    assert {one.width for one in found.laws} == {0.2}


def test_the_band_of_a_law_holds_the_law():
    law = law_of(200)
    found = law.bootstrap(draws=100)
    ages = np.array([1.0, 3.0, 10.0, 30.0])
    low, high = found.cdf(ages)
    assert (low <= law.cdf(ages)).all()
    assert (law.cdf(ages) <= high).all()
    low, high = found.quantile([0.5, 0.99])
    assert low[0] < law.quantile(0.5) < high[0]
    assert high[1] == INF


def test_the_band_of_a_share_that_nobody_missed_is_no_line():
    """Resampling rows that were all seen by 10 s says 1 each time; of 100 rows that proves no more than 97.5 %."""
    low, high = npmle(np.arange(100) / 50, np.arange(100) / 50 + 1).bootstrap(draws=50).cdf([-1.0, 10.0])
    assert low == pytest.approx([0, stats.beta.ppf(0.025, 100.5, 0.5)])
    assert high == pytest.approx([stats.beta.ppf(0.975, 0.5, 100.5), 1])


@pytest.mark.slow
def test_the_band_of_exact_rows_that_stand_alone_is_close_to_the_binomial_one():
    times = np.r_[np.ones(60), np.full(40, 9.0)]
    low, high = npmle(times, times).bootstrap(rng=np.random.default_rng(1), draws=4000).cdf(5.0)
    assert low == pytest.approx(stats.beta.ppf(0.025, 60, 41), abs=0.02)
    assert high == pytest.approx(stats.beta.ppf(0.975, 61, 40), abs=0.02)


@pytest.mark.slow
def test_the_band_is_wide_where_blocks_share_their_fate():
    times = np.repeat([1.0, 1.0, 9.0, 1.0, 1.0, 9.0, 1.0, 1.0], 50)
    law = npmle(times, times)
    rng = np.random.default_rng(2)
    alone, together = (law.bootstrap(blocks, rng, draws=400).cdf(5.0) for blocks in (None, np.repeat(np.arange(8), 50)))
    assert alone[1] - alone[0] < 0.1
    assert together[0] <= 0.5
    assert together[1] == 1


@pytest.mark.parametrize(("draws", "blocks"), [(0, None), (5, [1, 2]), (5, [[1, 2, 3]])])
def test_a_bootstrap_of_nothing_or_with_other_blocks_is_refused(draws, blocks):
    with pytest.raises(DataError):
        npmle([1, 2, 3], [2, 3, 4]).bootstrap(blocks, draws=draws)


def test_infinities_have_percentiles_like_other_values():
    values = np.array([1.0, 2.0, 3.0, INF, INF, INF])
    assert percentile(values, 0.5) == (2, INF)
    assert percentile(np.array([-INF, -INF, 0.0, INF]), 0.6) == (-INF, INF)
    assert percentile(np.full(5, INF)) == (INF, INF)
    assert percentile(np.arange(1.0, 501.0)) == (13, 488)  # as many outside on either side


def test_few_blocks_make_percentiles_wider_by_students_t():
    values = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    for blocks in (5, 20, 1000):
        reach = stats.t.ppf(0.975, blocks - 1) * math.sqrt(blocks / (blocks - 1))
        assert percentile(values, 0.95, blocks) == pytest.approx((-reach, reach), abs=0.05)
    assert percentile(values, 0.95, 1) == percentile(values, 0.95)
    found = npmle([1, 2, 3, 4], [2, 3, 4, 5]).bootstrap(["a", "a", "b", "b"], draws=5)
    assert found.blocks == 2


# Smoothing


def test_smoothing_keeps_the_mass_and_never():
    law = law_of(300)
    for width in (0.02, 0.2, 0.6):
        smooth = law.smooth(width)
        assert smooth.mass.sum() == pytest.approx(1.0, abs=1e-12)
        assert smooth.never == pytest.approx(law.never, abs=1e-12)
        assert smooth.cdf(1e6) == pytest.approx(1.0 - law.never, abs=1e-12)
        assert (smooth.edges[1:, 0] >= smooth.edges[:-1, 1]).all()
        assert smooth.smooth(0.5) is smooth
        assert (smooth.width, smooth.n, math.isnan(smooth.gap)) == (width, 300, True)


def test_smoothing_is_a_normal_kernel_on_log_time():
    smooth = npmle([4.0], [4.0]).smooth(0.3)
    ages = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 10.0])
    assert smooth.cdf(ages) == pytest.approx(stats.lognorm.cdf(ages, 0.3, scale=4.0), abs=0.006)


def test_smoothing_of_exact_delays_closer_than_a_step_keeps_them_in_order():
    """Ages of all ranks, many within a thousandth of each other, and below the floor of log time."""
    times = np.sort(np.random.default_rng(7).exponential(4.0, 3000))
    smooth = npmle(times, times).smooth(0.02)
    ages = np.array([0.02, 0.5, 1.0, 3.0, 8.0, 20.0])
    assert smooth.cdf(ages) == pytest.approx([(times <= age).mean() for age in ages], abs=0.01)
    early = npmle([-3, -2, 0.001, 1], [-2.5, -1, 0.005, 1]).smooth(0.02)
    assert early.cdf([0.0099, 0.0101, 0.02, 0.5, 2]) == pytest.approx([0, 0.75, 0.75, 0.75, 1], abs=0.01)


@pytest.mark.slow
def test_smoothing_comes_closer_to_the_truth_than_the_steps_and_ever_closer_with_n():
    ages = np.geomspace(0.5, 40, 60)
    truth = 0.92 * stats.lognorm.cdf(ages, 0.9, scale=4)
    far = []
    for n in (100, 1000, 10_000):
        sets = [law_of(n, seed) for seed in range(6 if n < 10_000 else 2)]
        steps = np.mean([np.abs(law.cdf(ages) - truth).mean() for law in sets])
        smooth = np.mean([np.abs(law.smooth().cdf(ages) - truth).mean() for law in sets])
        assert smooth < steps
        far.append(smooth)
    assert far[0] > 1.3 * far[1] > 1.69 * far[2]


@pytest.mark.slow
def test_a_sharper_law_is_smoothed_less():
    wide, sharp = law_of(600, sigma=0.9), law_of(600, sigma=0.15)
    assert best_width(sharp) < best_width(wide)
    rng = np.random.default_rng(8)
    exact = {sigma: delays_of(600, rng, never=0, sigma=sigma) for sigma in (0.9, 0.05)}
    assert best_width(npmle(exact[0.05], exact[0.05])) < best_width(npmle(exact[0.9], exact[0.9]))


def test_the_width_is_judged_by_whole_blocks_left_out():
    """Every nest twice: with copies on both sides of the cut the narrowest kernel looks best."""
    rng = np.random.default_rng(9)
    times = np.repeat(delays_of(120, rng, never=0), 2)
    law = npmle(times, times)
    assert best_width(law, np.repeat(np.arange(120), 2)) > best_width(law, rng.permutation(240))


@pytest.mark.parametrize("width", [0, -1, math.nan, INF])
def test_a_width_is_above_0(width):
    with pytest.raises(DataError, match="width is a number of log seconds above 0"):
        npmle([1], [2]).smooth(width)


def test_the_log_likelihood_of_left_out_rows_is_the_mean_log_of_mass_and_of_density_where_exact():
    law = npmle([0, 1, 9], [1, 2, INF])
    assert log_likelihood(law, rows([0, 0], [1, INF], [1, 3])) == pytest.approx((math.log(1 / 3) + 0) / 4)
    truth = stats.lognorm(0.9, scale=4)
    ages = np.array([0.5, 3.0, 20.0])
    assert log_likelihood(truth, rows(ages, ages)) == pytest.approx(truth.logpdf(ages).mean(), abs=1e-3)
    assert log_likelihood(law, rows([4], [5])) == pytest.approx(math.log(1e-12))


def test_folds_are_whole_blocks_dealt_out_in_turn():
    labels = np.array(["c", "a", "c", "b", "a", "d", "e", "f"])
    assert folds(labels, 5).tolist() == [0, 1, 0, 2, 1, 3, 4, 0]
    assert folds(np.array([7, 7, 7]), 5).tolist() == [0, 0, 0]
    assert folds(np.array([2, 1]), 5).tolist() == [0, 1]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 8))
def test_folds_keep_blocks_together_and_are_even(labels, count):
    part = folds(np.array(labels), count)
    sizes = []
    for number in range(min(count, len(set(labels)))):
        inside = {label for label, where in zip(labels, part, strict=True) if where == number}
        sizes.append(len(inside))
    assert sum(sizes) == len(set(labels))
    assert max(sizes) - min(sizes) <= 1
    assert part.max() == len(sizes) - 1


def test_smoothed_laws_and_the_rows_kept_by_a_fit_are_the_callers():
    data = rows([1, 2, 5], [2, 4, INF])
    law = fit(data)
    assert law.rows is data
    assert smoothed(law, 0.1).rows is data
    assert all(not np.shares_memory(a, b) for a, b in itertools.combinations((law.mass, law.edges, data.lower), 2))
