"""The greatest likelihood is found and proven: against SurPyval, a plain EM, and its own definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surpyval import Turnbull

from nestobs.estimate import turnbull
from nestobs.estimate.cells import cells, ends_of
from nestobs.estimate.turnbull import GAP, maximise
from worlds.polled import delays_of, polled
from worlds.simulated import TRUTHS, observe

pytestmark = pytest.mark.slow

INF = math.inf


def some_rows(rng, n, *, top=12):
    """Rows of every kind on whole numbers, so that ends tie, with whole weights."""
    kind = rng.integers(0, 4, n)
    low = rng.integers(0, top, n).astype(float)
    high = low + rng.integers(1, top, n)
    lower = np.select([kind == 0, kind == 1, kind == 2], [low, low, -INF], low)
    upper = np.select([kind == 0, kind == 1, kind == 2], [low, INF, high], high)
    return lower, upper, rng.integers(1, 6, n).astype(float)


def covers(piece, row):
    """Whether the row (lower, upper] holds the piece, a point or an open stretch between neighbouring ends."""
    (a, b), (lower, upper) = piece, row
    if lower == upper:
        return a == b == lower
    return (lower < a <= upper) if a == b else (lower <= a and b <= upper)


def likelihood(pieces, masses, lower, upper, weight):
    """By its definition: the sum of weight times log of the mass of the pieces in each row."""
    p = [
        sum(mass for piece, mass in zip(pieces, masses, strict=True) if covers(piece, row))
        for row in zip(lower, upper, strict=True)
    ]
    return float(np.dot(weight, np.log(p)))


def plain_em(lower, upper, weight, rounds):
    """Log-likelihood that self-consistency reaches on all pieces between ends, innermost or not."""
    ends = sorted({*lower, *upper, -INF, INF})
    pieces = [(end, end) for end in ends if math.isfinite(end)] + list(itertools.pairwise(ends))
    table = np.array([[covers(piece, row) for piece in pieces] for row in zip(lower, upper, strict=True)], dtype=float)
    mass = np.full(len(pieces), 1.0 / len(pieces))
    for _ in range(rounds):
        mass = mass * (table.T @ (weight / (table @ mass))) / weight.sum()
    return float(weight @ np.log(table @ mass))


def fitted(lower, upper, weight=None, **options):
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    return maximise(cells(ends_of(lower, upper)), np.ones(len(lower)) if weight is None else weight, **options)


# Cells


def test_cells_lie_between_a_lower_and_an_upper_end_with_no_other_between():
    found = cells(ends_of(np.array([0.0, 1.0, 4.0]), np.array([2.0, 3.0, 6.0])))
    assert found.edges.tolist() == [[1, 2], [4, 6]]
    assert (found.first.tolist(), found.last.tolist()) == ([0, 0, 1], [0, 0, 1])


def test_an_exact_row_is_a_cell_of_its_own_which_a_row_holds_at_its_upper_but_not_at_its_lower_end():
    found = cells(ends_of(np.array([5.0, 3.0, 5.0]), np.array([5.0, 5.0, 8.0])))
    assert found.edges.tolist() == [[5, 5], [5, 8]]
    assert (found.first.tolist(), found.last.tolist()) == ([0, 0, 1], [0, 0, 1])


def test_rows_that_only_touch_share_no_cell():
    found = cells(ends_of(np.array([0.0, 2.0]), np.array([2.0, 4.0])))
    assert found.edges.tolist() == [[0, 2], [2, 4]]


ROWS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 9), st.just(-INF)),
        st.one_of(st.integers(0, 9), st.just(INF)),
        st.integers(1, 5),
    ).filter(lambda row: row[0] <= row[1]),
    min_size=1,
    max_size=14,
).map(lambda rows: tuple(np.array(column, dtype=float) for column in zip(*rows, strict=True)))


@given(ROWS)
def test_each_row_covers_exactly_the_cells_that_lie_in_it(rows):
    lower, upper, _ = rows
    found = cells(ends_of(lower, upper))
    for row, first, last in zip(zip(lower, upper, strict=True), found.first, found.last, strict=True):
        inside = [j for j, edges in enumerate(found.edges) if covers(tuple(edges), row)]
        assert inside == list(range(first, last + 1))
        assert inside


@given(ROWS, st.data())
def test_some_of_the_rows_have_the_cells_they_would_have_by_themselves(rows, data):
    lower, upper, _ = rows
    keeps = np.array(data.draw(st.lists(st.booleans(), min_size=len(lower), max_size=len(lower))), dtype=bool)
    if keeps.any():
        known, plain = cells(ends_of(lower, upper).among(keeps)), cells(ends_of(lower[keeps], upper[keeps]))
        for name in ("edges", "first", "last"):
            assert np.array_equal(getattr(known, name), getattr(plain, name))


# The maximum


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_a_long_plain_em_gets_no_higher_and_almost_as_high(rows):
    lower, upper, weight = rows
    best = fitted(lower, upper, weight)
    em = plain_em(lower, upper, weight, 2000)
    assert best.gap <= GAP
    assert em <= best.log_likelihood + best.gap + 1e-9
    assert best.log_likelihood - em < 0.05  # it creeps where two cells compete
    assert best.mass.sum() == pytest.approx(1.0, abs=1e-12)


def test_what_a_fit_lacks_is_at_most_its_gap_wherever_it_stopped():
    rng = np.random.default_rng(7)
    gaps = []
    for _ in range(30):
        lower, upper, weight = some_rows(rng, 40)
        best = fitted(lower, upper, weight)
        for gap in (100.0, 10.0, 1.0, 0.1, 1e-3):
            early = fitted(lower, upper, weight, gap=gap)
            assert early.gap <= gap
            assert -1e-9 <= best.log_likelihood - early.log_likelihood <= early.gap + 1e-9
            gaps.append(early.gap)
    assert max(gaps) > 1.0  # some did stop early


def test_the_log_likelihood_is_that_of_its_definition():
    rng = np.random.default_rng(8)
    for _ in range(20):
        lower, upper, weight = some_rows(rng, 20)
        found = cells(ends_of(lower, upper))
        fit = maximise(found, weight)
        pieces = [tuple(edges) for edges in found.edges]
        assert likelihood(pieces, fit.mass, lower, upper, weight) == pytest.approx(fit.log_likelihood, abs=1e-9)


def surpyvals(lower, upper, weight):
    """SurPyval's pieces and their masses, and whether it converged."""
    kind = np.select([lower == upper, upper == INF, lower == -INF], [0, 1, -1], 2)
    both = np.column_stack([np.where(kind == -1, upper, lower), np.where(kind == 1, lower, upper)])
    model = Turnbull.fit(
        x=both, c=kind, n=weight.astype(int), turnbull_estimator="Kaplan-Meier", tol=1e-12, max_iter=100_000
    )
    ends = np.append(model.bounds[: len(model.R) + 1], INF)
    masses = -np.diff(np.concatenate([[1.0], model.R, [0.0]]))
    return list(itertools.pairwise(ends)), np.maximum(masses, 0.0), model.converged


def test_surpyval_finds_the_same_log_likelihood_on_a_hundred_sets_with_ties():
    """Its rows are half-open as ours, an exact time belongs to the row that ends there; no row is scored by ours."""
    rng = np.random.default_rng(11)
    apart = []
    for number in range(100):
        lower, upper, weight = some_rows(rng, int(rng.integers(2, 60)), top=int(rng.integers(3, 30)))
        pieces, masses, converged = surpyvals(lower, upper, weight)
        ours = fitted(lower, upper, weight)
        assert converged, number
        assert ours.gap <= GAP
        apart.append(ours.log_likelihood - likelihood(pieces, masses, lower, upper, weight))
    assert np.abs(apart).max() <= 1e-6


# The certificate


def seconds(scale):
    rng = np.random.default_rng(2)
    lower, upper = polled(delays_of(2000, rng), rng)
    return lower * scale, upper * scale, None


def exact(n):
    times = np.random.default_rng(3).exponential(4.0, n)
    return times, times, None


def mixed(n, share):
    rng = np.random.default_rng(4)
    times = delays_of(n, rng, never=0.0)
    lower, upper = polled(times, rng, horizon=INF)
    known = rng.random(n) < share
    return np.where(known, times, lower), np.where(known, times, upper), None


def duplicates():
    rng = np.random.default_rng(5)
    lower, upper = polled(delays_of(20_000, rng), rng)
    return np.floor(lower), np.ceil(upper), None


def whenever(n):
    """Rows as wide as the delays: current status, which has the flattest likelihood."""
    rng = np.random.default_rng(6)
    times, looked = rng.exponential(4.0, (2, n))
    return np.where(times < looked, -INF, looked), np.where(times < looked, looked, INF), None


def planned(n):
    """As the collector polls: about 1 s apart at first, 5 s in the end, and none after 90 s."""
    rng = np.random.default_rng(10)
    return *observe(TRUTHS[0].draw(n, rng), rng), None


def negative():
    rng = np.random.default_rng(9)
    upper = -rng.exponential(3.0, 3000)
    return upper - rng.random(3000), upper, None


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(lambda: seconds(1.0), id="polls"),
        pytest.param(lambda: seconds(1e-9), id="times of nanoseconds"),
        pytest.param(lambda: seconds(1e9), id="times of 1e9 s"),
        pytest.param(lambda: planned(20_000), id="20 000 with a phase of their own, no two equal"),
        pytest.param(lambda: exact(200_000), id="all exact"),
        pytest.param(lambda: mixed(20_000, 0.5), id="half of 20 000 exact"),
        pytest.param(lambda: mixed(5000, 0.05), id="a few exact"),
        pytest.param(duplicates, id="many duplicates"),
        pytest.param(lambda: whenever(20_000), id="current status"),
        pytest.param(negative, id="negative times"),
    ],
)
def test_every_fit_is_proven_to_be_within_1e_6_of_the_greatest(rows):
    lower, upper, weight = rows()
    fit = fitted(lower, upper, weight)
    assert fit.gap <= 1e-6
    assert fit.mass.sum() == pytest.approx(1.0, abs=1e-9)
    assert fit.mass.min() >= 0


def test_so_is_one_of_200_000_polled_nests():
    rng = np.random.default_rng(1)
    lower, upper = polled(delays_of(200_000, rng), rng)
    assert fitted(lower, upper).gap <= 1e-6


@pytest.mark.parametrize("spread", [0.0, 3.0, 9.0])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_weights_of_any_size_are_fitted_as_well_as_rounding_allows(scale, spread):
    """1e-6 of the mean weight is what one row of weight 1 is promised; above, a sum of logs is not known so well."""
    rng = np.random.default_rng(12)
    lower, upper = polled(delays_of(400, rng), rng)
    weight = scale * 10.0 ** rng.uniform(-spread, spread, 400)
    fit = fitted(lower, upper, weight)
    assert fit.gap <= 1e-6 * weight.mean()
    assert fit.gap <= 1e-6 or weight.mean() > 1


def test_a_set_on_which_all_cells_leaving_at_once_leads_nowhere():
    """Weights between 1e-3 and 1e3: once stuck with a gap of 5000."""
    rng = np.random.default_rng(5)
    for _ in range(4):
        lower, upper = polled(delays_of(200, rng), rng)
        assert fitted(lower, upper, 10.0 ** rng.uniform(-3, 3, 200)).gap <= 1e-6


def test_a_large_support_is_solved_by_conjugate_gradients_to_the_same_end(monkeypatch):
    lower, upper, _ = mixed(1500, 0.3)
    dense = fitted(lower, upper)
    monkeypatch.setattr(turnbull, "DENSE", 0)
    thin = fitted(lower, upper)
    assert thin.gap <= 1e-6
    assert thin.log_likelihood == pytest.approx(dense.log_likelihood, abs=2e-6)


def test_a_start_changes_where_the_fit_begins_but_not_where_it_ends():
    rng = np.random.default_rng(13)
    lower, upper = polled(delays_of(500, rng), rng)
    found = cells(ends_of(lower, upper))
    cold = maximise(found, np.ones(500))
    for start in (np.zeros(len(found.edges)), np.eye(len(found.edges))[0], rng.random(len(found.edges)), cold.mass):
        warm = maximise(found, np.ones(500), start)
        assert warm.gap <= GAP
        assert abs(warm.log_likelihood - cold.log_likelihood) <= GAP


@pytest.mark.parametrize("sweeps", [0, 1, 3, 60])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_how_far_the_start_was_brought_makes_no_difference_to_the_end(monkeypatch, sweeps, share):
    """Cut short, it leaves mass everywhere, or where there is none in the end."""
    lower, upper, _ = mixed(1500, share)
    whole = fitted(lower, upper)
    monkeypatch.setattr(turnbull, "SWEEPS", sweeps)
    cut = fitted(lower, upper)
    assert cut.gap <= GAP
    assert cut.log_likelihood == pytest.approx(whole.log_likelihood, abs=2e-6)


def test_the_start_alone_is_near_the_end(monkeypatch):
    lower, upper, _ = planned(3000)
    whole = fitted(lower, upper)
    monkeypatch.setattr(turnbull, "ROUNDS", 0)
    start = fitted(lower, upper)
    assert start.gap <= turnbull.NEAR
    assert (start.mass > 0).sum() < 1.2 * (whole.mass > 0).sum()
    assert whole.log_likelihood - start.gap - 1e-6 <= start.log_likelihood <= whole.log_likelihood
