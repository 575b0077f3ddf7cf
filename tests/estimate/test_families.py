"""Parametric laws: recovered from simulated rows, checked against scipy's, chosen only where they deserve it."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from nestobs.estimate.families import (
    NAMES,
    OUTSIDE,
    SMOOTHED,
    UNITS,
    Family,
    chosen,
    families,
    fit_family,
    outside_band,
)
from nestobs.estimate.law import survival
from nestobs.estimate.npmle import DataError, log_likelihood, npmle, rows
from nestobs.tuning.threshold import message_threshold
from worlds.polled import delays_of, polled

INF = math.inf
NEVER = 0.08
LAWS = {
    "lognormal": (stats.lognorm(0.9, scale=4.0), {"median_s": 4.0, "sigma": 0.9}),
    "weibull": (stats.weibull_min(1.3, scale=5.0), {"scale_s": 5.0, "shape": 1.3}),
    "log-logistic": (stats.fisk(2.0, scale=4.0), {"median_s": 4.0, "shape": 2.0}),
    "two-part lognormal": (
        None,
        {"early_median_s": 1.5, "early_sigma": 0.4, "late_median_s": 14.0, "late_sigma": 0.25, "early_share": 0.7},
    ),
}


def drawn(name, n, rng, never=NEVER):
    """Delays of a law of LAWS; inf for never."""
    law, parameters = LAWS[name]
    if law is not None:
        times = law.rvs(n, random_state=rng)
    else:
        early = rng.random(n) < parameters["early_share"]
        middle = np.where(early, parameters["early_median_s"], parameters["late_median_s"])
        times = middle * np.exp(
            np.where(early, parameters["early_sigma"], parameters["late_sigma"]) * rng.standard_normal(n)
        )
    return np.where(rng.random(n) < never, INF, times)


def known(name, never=NEVER):
    """The law itself."""
    return Family(name, LAWS[name][1], never, {}, 0.0, 0)


# Fits


@pytest.mark.parametrize("name", NAMES)
def test_a_family_is_recovered_within_three_standard_errors(name):
    """Lognormal: c = .08, lognormal(ln 4, .9), n = 20 000."""
    rng = np.random.default_rng(1)
    found = fit_family(rows(*polled(drawn(name, 20_000, rng), rng)), name)
    truth = LAWS[name][1] | {"never": NEVER}
    assert set(found.errors) == set(truth)
    for key, value in found.parameters.items() | {("never", found.never)}:
        assert abs(value - truth[key]) <= 3.0 * found.errors[key], key
        assert found.errors[key] < 0.1 * truth[key], key
    assert (found.name, found.n) == (name, 20_000)


def test_standard_errors_are_the_spread_of_estimates():
    rng = np.random.default_rng(2)
    sets = [fit_family(rows(*polled(drawn("lognormal", 400, rng), rng)), "lognormal") for _ in range(100)]
    for key in ("median_s", "sigma", "never"):
        values = [one.never if key == "never" else one.parameters[key] for one in sets]
        assert np.std(values) == pytest.approx(np.mean([one.errors[key] for one in sets]), rel=0.25)


@pytest.mark.parametrize("name", ["lognormal", "weibull", "log-logistic"])
def test_exact_rows_count_by_their_density_as_scipy_counts_them(name):
    """All exact and none never: scipy's own fit has the same maximum."""
    times = drawn(name, 500, np.random.default_rng(3), never=0.0)
    found = fit_family(rows(times, times), name)
    law = {"lognormal": stats.lognorm, "weibull": stats.weibull_min, "log-logistic": stats.fisk}[name]
    shape, _, scale = law.fit(times, floc=0)
    values = dict(found.parameters)
    assert values.get("sigma", values.get("shape")) == pytest.approx(shape, rel=1e-3)
    assert values.get("median_s", values.get("scale_s")) == pytest.approx(scale, rel=1e-3)
    assert found.never == 0.0
    best = law(shape, scale=scale).logpdf(times).sum()
    assert found.log_likelihood == pytest.approx(best, abs=1e-3)
    assert found.log_likelihood >= best - 1e-6


def test_rows_of_all_kinds_reach_the_maximum_that_a_plain_search_finds():
    rng = np.random.default_rng(4)
    times = drawn("lognormal", 200, rng)
    lower, upper = polled(times, rng, horizon=20.0)
    exact = np.isfinite(upper) & (rng.random(200) < 0.3)
    lower, upper = np.where(exact, times, lower), np.where(exact, times, upper)
    lower[:3] = -INF
    weight = rng.integers(1, 4, 200).astype(float)

    def minus(theta):
        c, mu, s = theta
        law = stats.lognorm(math.exp(s), scale=math.exp(mu))
        with np.errstate(divide="ignore"):
            worth = np.where(
                lower == upper,
                (1 - c) * law.pdf(upper),
                np.where(upper == INF, 1 - (1 - c) * law.cdf(lower), (1 - c) * (law.cdf(upper) - law.cdf(lower))),
            )
        return -float(weight @ np.log(worth))

    limits = [(1e-6, 0.9), (-3, 5), (-2, 2)]
    plain = optimize.minimize(minus, [0.2, 1.0, 0.0], method="Nelder-Mead", bounds=limits, options={"xatol": 1e-9})
    found = fit_family(rows(lower, upper, weight), "lognormal")
    assert found.log_likelihood == pytest.approx(-plain.fun, abs=1e-5)
    assert [found.never, found.parameters["median_s"], found.parameters["sigma"]] == pytest.approx(
        [plain.x[0], math.exp(plain.x[1]), math.exp(plain.x[2])], abs=1e-3
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_log_likelihood_is_that_of_the_law_itself(name):
    rng = np.random.default_rng(5)
    data = rows(*polled(drawn(name, 300, rng), rng))
    found = fit_family(data, name)
    assert found.log_likelihood == pytest.approx(log_likelihood(found, data) * data.total, abs=1e-6)


def test_milliseconds_and_weights_scale_the_answer():
    rng = np.random.default_rng(6)
    lower, upper = polled(drawn("weibull", 500, rng), rng)
    one, other = fit_family(rows(lower, upper), "weibull"), fit_family(rows(lower * 1000, upper * 1000), "weibull")
    assert other.parameters["scale_s"] == pytest.approx(1000 * one.parameters["scale_s"], rel=1e-4)
    assert (other.parameters["shape"], other.never) == pytest.approx((one.parameters["shape"], one.never), rel=1e-4)
    heavy = fit_family(rows(lower, upper, np.full(500, 100.0)), "weibull")
    assert heavy.parameters == pytest.approx(one.parameters)
    assert heavy.errors["never"] == pytest.approx(one.errors["never"] / 10)


def test_where_all_come_never_is_at_its_bound_and_has_no_error():
    rng = np.random.default_rng(7)
    found = fit_family(rows(*polled(drawn("lognormal", 300, rng, never=0.0), rng, horizon=INF)), "lognormal")
    assert found.never == 0.0
    assert math.isnan(found.errors["never"])
    assert 0 < found.errors["sigma"] < 0.1


@pytest.mark.parametrize("seed", [9, 10])
def test_no_kernel_hides_the_nests_that_never_came_beyond_the_last_that_did(seed):
    """Watching ends at about 15 s, not at one instant: a narrow part just after that would explain it best."""
    rng = np.random.default_rng(seed)
    lower, upper = polled(delays_of(2000, rng, never=0.3), rng, horizon=15.0)
    lower = np.where(upper == INF, 15.0 - rng.random(2000), lower)
    found = fit_family(rows(lower, upper), "two-part lognormal")
    last = upper[np.isfinite(upper)].max()
    assert found.parameters["early_median_s"] <= found.parameters["late_median_s"] <= last * (1 + 1e-9)
    assert found.cdf(14.0) == pytest.approx(npmle(lower, upper).cdf(14.0), abs=0.02)


@pytest.mark.parametrize("seed", [1, 2, 10])
def test_the_early_part_is_the_one_with_the_smaller_median_wherever_the_search_began(seed):
    """A narrow part before a broad one: the lowest times are the broad one's, and the parts change places."""
    rng = np.random.default_rng(seed)
    narrow = rng.random(600) < 0.35
    times = np.where(narrow, 4.0, 5.0) * np.exp(np.where(narrow, 0.15, 1.3) * rng.standard_normal(600))
    data = rows(times, times)
    found = fit_family(data, "two-part lognormal")
    assert found.parameters["early_median_s"] == pytest.approx(4.0, abs=0.3)
    assert found.parameters["early_sigma"] == pytest.approx(0.15, abs=0.05)
    assert found.parameters["early_share"] == pytest.approx(0.35, abs=0.1)
    assert found.log_likelihood == pytest.approx(log_likelihood(found, data) * data.total, abs=1.0)
    assert found.errors["early_median_s"] < 0.1 < found.errors["late_median_s"] < 0.5


EDGES = {
    "one": ([1], [2]),
    "one exact": ([1], [1]),
    "all left-censored": ([-INF, 0, -INF], [1, 2, 3]),
    "all equal": ([1] * 9, [2] * 9),
    "all exact and equal": ([2] * 9, [2] * 9),
    "two instants": ([2] * 9 + [9] * 9, [2] * 9 + [9] * 9),
    "at zero": ([0, 0], [0, INF]),
    "negative": ([-5, -3, -0.5], [-4, -2, 0.5]),
    "before the floor": ([1e-9, 1e-3], [2e-9, 2e-3]),
    "after ages": ([1e9, 2e9], [2e9, 3e9]),
    "of all sizes": ([1e-6, 1, 1e8], [1e-5, 2, 1e9]),
    "nearly all never": ([1] * 50 + [2], [INF] * 50 + [3]),
    "anywhere": ([-INF, 0, 1], [INF, 1e9, 2]),
}


@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("name", NAMES)
def test_every_set_of_rows_that_came_has_a_fit_without_a_warning(name, case):
    """Warnings are errors here."""
    found = fit_family(rows(*EDGES[case]), name)
    assert math.isfinite(found.log_likelihood)
    assert 0 <= found.never < 1
    assert all(math.isfinite(value) and value > 0 for value in found.parameters.values())
    at = found.cdf([-1, 0, 1e-3, 1, 5, 1e10, INF])
    assert (at[1:] >= at[:-1]).all()
    ages = found.quantile([0, 0.3, 0.6, 1])
    assert (ages[1:] >= ages[:-1]).all()


@pytest.mark.parametrize("case", ["one", "negative", "nearly all never", "two instants"])
def test_every_set_of_rows_has_a_law_chosen_without_a_warning(case):
    law = npmle(*EDGES[case])
    found, why = chosen(law, law.bootstrap(draws=10))
    assert 0 <= float(found.cdf(3.0)) <= 1
    assert why


def test_where_none_came_there_is_no_family():
    law = npmle([1, 2], [INF, INF])
    with pytest.raises(DataError, match="no row was ever visible: a weibull law needs delays that ended"):
        fit_family(law.rows, "weibull")
    assert [one.name for one in families(law.rows)] == [SMOOTHED]
    found, why = chosen(law, law.bootstrap(draws=3))
    assert found.never == 1
    assert why.startswith("the smoothed estimate")


def test_another_family_is_none():
    with pytest.raises(DataError, match="a family is one of lognormal, weibull, log-logistic, two-part lognormal, not"):
        fit_family(rows([1], [2]), "gamma")


# As a law


@pytest.mark.parametrize("name", ["lognormal", "weibull", "log-logistic"])
def test_its_distribution_function_is_scipys_of_those_that_come(name):
    ages = np.array([0.0, 0.01, 0.5, 4.0, 30.0, 1e3])
    assert known(name).cdf(ages) == pytest.approx((1 - NEVER) * LAWS[name][0].cdf(ages), abs=1e-12)
    share = np.array([0.1, 0.5, 0.9])
    assert known(name).quantile(share) == pytest.approx(LAWS[name][0].ppf(share / (1 - NEVER)), rel=1e-9)


def test_two_parts_are_a_mixture_of_two_lognormals():
    ages = np.array([0.5, 1.5, 5.0, 14.0, 30.0])
    parts = 0.7 * stats.lognorm.cdf(ages, 0.4, scale=1.5) + 0.3 * stats.lognorm.cdf(ages, 0.25, scale=14)
    assert known("two-part lognormal").cdf(ages) == pytest.approx((1 - NEVER) * parts)


@pytest.mark.parametrize("name", NAMES)
@given(p=st.floats(0.001, 0.919))
@settings(max_examples=30, deadline=None)
def test_quantile_and_cdf_are_inverse_to_each_other(name, p):
    assert float(known(name).cdf(known(name).quantile(p))) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_its_ends_are_those_of_an_estimate(name):
    law = known(name)
    assert law.cdf([-INF, -1, 0, INF]).tolist() == [0, 0, 0, 1]
    assert law.cdf(1e300) == pytest.approx(1 - NEVER)
    assert math.isnan(law.cdf(math.nan))
    assert law.quantile([0, 0.9200001, 1]).tolist() == [0, INF, INF]
    assert law.cdf(1.0).shape == law.quantile(0.5).shape == ()
    assert law.cdf([[1.0, 2.0]]).shape == (1, 2)
    with pytest.raises(DataError, match="p is a share"):
        law.quantile(1.5)


def test_decisions_take_it_as_any_law():
    law = known("lognormal")
    assert message_threshold(law, None, 0.25) == pytest.approx(24.618, abs=1e-3)
    assert message_threshold(law, 0.3, 0.25) == pytest.approx(message_threshold(LAWS["lognormal"][0], 0.3, 0.25))
    assert survival(law, 0.3).at([5.0]) == pytest.approx(0.3 + 0.7 * LAWS["lognormal"][0].sf(5.0))


def test_it_goes_to_other_processes_and_its_parameters_have_units():
    found = fit_family(rows([0, 1, 2, 3, 5], [1, 2, 3, 5, INF], [9, 30, 20, 9, 9]), "log-logistic")
    assert not any(math.isnan(error) for error in found.errors.values())
    assert pickle.loads(pickle.dumps(found)) == found
    assert {key for name in NAMES for key in LAWS[name][1]} | {"never"} == set(UNITS)


# The choice


def test_all_are_compared_on_the_same_rows_left_out_the_best_first():
    rng = np.random.default_rng(9)
    data = rows(*polled(drawn("weibull", 1000, rng), rng))
    found = families(data)
    assert {one.name for one in found} == {SMOOTHED, *NAMES}
    assert [one.held_out for one in found] == sorted((one.held_out for one in found), reverse=True)
    by = {one.name: one for one in found}
    assert by["weibull"].held_out > by[SMOOTHED].held_out > by["lognormal"].held_out
    assert by["weibull"].law == fit_family(data, "weibull")
    truth = log_likelihood(known("weibull"), data)
    assert by["weibull"].held_out == pytest.approx(truth, abs=0.01)
    assert by["weibull"].held_out < by["weibull"].law.log_likelihood / data.total  # judged by rows it has not seen


def test_blocks_are_left_out_whole_and_a_single_one_leaves_nothing():
    data = rows(*polled(drawn("lognormal", 60, np.random.default_rng(10)), np.random.default_rng(10)))
    assert all(math.isnan(one.held_out) for one in families(data, np.zeros(60)))
    assert families(data, np.arange(60) // 20)[0].held_out != families(data)[0].held_out
    with pytest.raises(DataError, match="blocks has 2 labels for 60 rows"):
        families(data, [1, 2])


@pytest.mark.parametrize("name", ["lognormal", "weibull", "two-part lognormal"])
def test_the_true_family_replaces_the_smoothed_estimate(name):
    rng = np.random.default_rng(11)
    law = npmle(*polled(drawn(name, 1000, rng), rng))
    found, why = chosen(law, law.bootstrap(draws=60))
    assert isinstance(found, Family)
    assert found.name == name
    assert why.startswith(f"{name}: rows left out are likelier")


def test_a_law_of_no_family_stays_smoothed():
    rng = np.random.default_rng(12)
    middle = rng.choice([1.0, 3.0, 20.0], 800, p=[0.4, 0.4, 0.2])
    times = np.where(rng.random(800) < NEVER, INF, middle * np.exp(0.2 * rng.standard_normal(800)))
    law = npmle(*polled(times, rng, spacing=0.5))
    found, why = chosen(law, law.bootstrap(draws=60))
    assert found.width > 0
    assert found.never == pytest.approx(law.never)
    assert why == "the smoothed estimate: no parametric family is likelier on rows left out"


def test_a_family_that_leaves_the_band_is_refused_however_likely():
    """A band of another law: the likeliest family of these rows is far outside."""
    rng = np.random.default_rng(13)
    law = npmle(*polled(drawn("weibull", 600, rng), rng))
    other = npmle(*polled(2.0 * drawn("weibull", 600, rng), rng)).bootstrap(draws=30)
    found, why = chosen(law, other)
    assert found.width > 0
    assert "weibull is likelier on rows left out, but outside the band at" in why


def test_the_smoothed_estimate_given_is_the_one_returned():
    rng = np.random.default_rng(14)
    law = npmle(*polled(drawn("two-part lognormal", 100, rng), rng, spacing=5.0))
    smooth = law.smooth(0.3)
    found, _ = chosen(smooth, law.bootstrap(draws=20), np.zeros(100))
    assert found is smooth  # one block: nothing can be left out


def test_outside_is_counted_by_mass_at_the_ends_of_cells():
    law = npmle([0, 0, 1, 1, 1, 2], [1, 1, 2, 2, 2, INF], [20] * 6)
    found = npmle(*np.tile([[0, 0, 1, 1, 1, 2], [1, 1, 2, 2, 2, INF]], 20)).bootstrap(draws=100)
    assert outside_band(law, found) == 0.0
    assert outside_band(known("lognormal", 0.999), found) == 1.0
    low, high = found.cdf([1.0, 2.0])
    step = npmle([0.5, 1.5, 3], [1.0, 2.0, INF], [low[0] / 2, high[1] - low[0] / 2, 1 - high[1] + 1e-9])
    assert outside_band(step, found) == pytest.approx(2 / 5, abs=1e-6)  # two of the five that came are in the first
    assert outside_band(law, npmle([1, 2], [INF, INF]).bootstrap(draws=3)) == 0.0


def test_a_true_law_is_seldom_outside_and_a_wrong_one_mostly():
    rng = np.random.default_rng(15)
    refused = {"lognormal": 0, "weibull": 0}
    for _ in range(12):
        law = npmle(*polled(drawn("lognormal", 800, rng), rng, spacing=2.0))
        found = law.bootstrap(draws=60)
        for name in refused:
            refused[name] += outside_band(fit_family(law.rows, name), found) > OUTSIDE
    assert refused["lognormal"] <= 1
    assert refused["weibull"] >= 10
