import numpy as np
import pandas as pd
import pytest

from nestobs.estimate.change_point import LEAST, LEVEL, changes
from nestobs.timeline.delays import joinable
from worlds.simulated import TRUTHS, observe, timelines


def watched(delays, rng, polls=40):
    return joinable(timelines(*observe(delays, rng, polls=polls)))


def place(at, rows):
    return round((at - rows["origin_at"].min()).total_seconds() / 60.0)


@pytest.mark.slow
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
@pytest.mark.parametrize("at", [40, 120, 200])
def test_a_change_is_found_and_dated_wherever_it_is(truth, at):
    rng = np.random.default_rng(at)
    delays = truth.draw(240, rng)
    delays[at:] *= 5.0
    rows = watched(delays, rng)
    (found,) = changes(rows)
    assert place(found.first, rows) < at <= place(found.last, rows)
    assert found.first <= found.at <= found.last
    assert found.p <= LEVEL
    assert found.n_before + found.n_after == 240
    before, after = (float(np.median(part)) for part in (delays[:at], delays[at:]))
    assert found.before.lower <= before <= found.before.upper < found.after.lower <= after <= found.after.upper


@pytest.mark.slow
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_an_outage_is_two_changes(truth):
    rng = np.random.default_rng(5)
    delays = truth.draw(240, rng)
    delays[90:150] *= 8.0
    rows = watched(delays, rng)
    begun, over = changes(rows)
    assert place(begun.first, rows) < 90 <= place(begun.last, rows)
    assert place(over.first, rows) < 150 <= place(over.last, rows)
    assert (begun.n_after, over.n_before) == (place(over.at, rows) - place(begun.at, rows),) * 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_one_law_is_no_change(truth, seed):
    rng = np.random.default_rng(seed)
    assert changes(watched(truth.draw(240, rng), rng)) == []


@pytest.mark.slow
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_of_many_sets_of_one_law_at_most_one_in_twenty_changed(truth):
    rng = np.random.default_rng(11)
    assert sum(bool(changes(watched(truth.draw(240, rng), rng))) for _ in range(100)) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("polls", [8, 15])
def test_who_polls_more_seldom_changes_no_law(polls):
    rng = np.random.default_rng(polls)
    delays = TRUTHS[0].draw(240, rng)
    often, seldom = watched(delays[:120], rng), watched(delays[120:], rng, polls=polls)
    rows = pd.concat(
        [
            often,
            seldom.assign(
                unit="later " + seldom["unit"],
                nest="later " + seldom["nest"],
                origin_at=seldom["origin_at"] + pd.Timedelta(2, "h"),
            ),
        ]
    )
    assert changes(rows) == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["host", "vantage"])
def test_other_nests_watched_later_are_no_change(what):
    rng = np.random.default_rng(3)
    delays = TRUTHS[0].draw(240, rng)
    delays[120:] *= 5.0
    rows = watched(delays, rng)
    rows[what] = np.where(np.arange(240) < 120, "one", "other")
    assert changes(rows) == []


@pytest.mark.slow
def test_the_order_of_rows_and_the_unit_of_time_do_not_matter():
    rng = np.random.default_rng(1)
    delays = TRUTHS[0].draw(120, rng)
    delays[60:] *= 5.0
    rows = watched(delays, rng)
    (found,) = changes(rows)
    (mixed,) = changes(rows.sample(frac=1.0, random_state=1))
    assert mixed == found
    (slower,) = changes(rows.assign(lower_s=1e3 * rows["lower_s"], upper_s=1e3 * rows["upper_s"]))
    assert (slower.first, slower.at, slower.last, slower.p) == (found.first, found.at, found.last, found.p)


@pytest.mark.parametrize("n", [0, 1, 2 * LEAST - 1, 2 * LEAST])
def test_few_nests_or_nests_that_are_all_alike_tell_nothing(n):
    rows = watched(TRUTHS[0].draw(max(n, 1), np.random.default_rng(0)), np.random.default_rng(0)).head(n)
    assert changes(rows.assign(lower_s=1.0, upper_s=2.0)) == []


@pytest.mark.slow
def test_of_very_many_nests_the_date_is_as_well_known():
    rng = np.random.default_rng(2)
    delays = TRUTHS[0].draw(3_000, rng)
    delays[1_900:] *= 5.0
    rows = watched(delays, rng)
    (found,) = changes(rows)
    assert place(found.first, rows) < 1_900 <= place(found.last, rows)
    assert place(found.last, rows) - place(found.first, rows) < 60
