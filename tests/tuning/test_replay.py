"""Replay: what the intervals allow, what is imputed, and how far a number may be from what the next joins bring."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import special

from nestobs.estimate.npmle import DataError, rows
from nestobs.join.policy import GUIDE, MANUAL_RETRY, RELEASED, Policy, PolicyError, Schedule, fixed, standard_policies
from nestobs.timeline.delays import joinable
from nestobs.timeline.failures import Failures, Tally
from nestobs.timeline.intervals import SCHEMA
from nestobs.tuning.decisions import Terms
from nestobs.tuning.imputation import extremes, recorded
from nestobs.tuning.network import Network
from nestobs.tuning.prediction import predictive
from nestobs.tuning.replay import (
    ARRIVALS,
    COST,
    MANY_PERSONS,
    METRICS,
    PRICES,
    Arena,
    Replays,
    metrics,
    middles,
    pair_differences,
    replay,
)
from nestobs.tuning.simulation import GRAIN_S, PERSONS, of_each
from worlds.played import play
from worlds.simulated import TRUTHS, observe, timelines

pytestmark = pytest.mark.slow

INF = math.inf
POLICIES = list(standard_policies().values())
PRESSED = Policy(name="pressed", schedule=Schedule("fixed", 5.0))
TABLE = Policy(
    name="table",
    ask_info=False,
    schedule=Schedule("table", table=((0.0, 0.5), (3.0, 2.0), (12.5, 7.25))),
    jitter=0.2,
    give_up_age_s=40.0,
    horizon_s=70.0,
)


def rng(seed=7):
    return np.random.default_rng(seed)


def nests(*intervals, **more):
    """Timelines of nests with these intervals."""
    lower, upper = np.array(intervals, dtype=float).T
    return timelines(lower, upper).assign(**more)


def seen(n=80, seed=1, truth=TRUTHS[0], **more):
    """Nests of a truth as they were observed."""
    draws = rng(seed)
    return timelines(*observe(truth.draw(n, draws), draws, **more))


def ended_early(table, seed=1):
    """The same where each watch ended at an age of its own."""
    ends = rng(seed).uniform(5.0, 90.0, len(table))
    cut = (table["upper_s"] > ends).to_numpy()
    lower = np.where(cut, np.minimum(table["lower_s"], ends), table["lower_s"])
    return table.assign(lower_s=lower, upper_s=np.where(cut, INF, table["upper_s"]))


def arena(table, *, arrivals=(0.0, 30.0), round_trip_s=0.0, draws=50, seed=7, failures=None):
    """What replays of these nests are judged on."""
    draw = rng(seed)
    terms = Terms(arrivals=middles(arrivals), prices=PRICES, round_trip_s=round_trip_s, failures=failures)
    return Arena(recorded(joinable(table), draw), terms, draws, draw)


class TestWhatTheIntervalsAllow:
    @pytest.mark.parametrize("seed", range(4))
    def test_holds_every_imputed_value(self, seed):
        """Of each policy and each imputation, whether or not all nests were watched to the end."""
        truth, polls = TRUTHS[seed % 2], 4 + 10 * seed
        policies = [GUIDE, fixed(1), standard_policies()["full_jitter(1)"], TABLE]
        table = seen(60, seed, truth, polls=polls)
        for one in (table, ended_early(table, seed)):
            for found in replay(policies, one, rng=rng(seed), draws=20, round_trip_s=0.1):
                imputed = metrics(found.scores)
                if found.policy.person is not None:  # persons differ from one to the next: bounds are of their mean
                    imputed = {name: values.mean(keepdims=True) for name, values in imputed.items()}
                for name, (least, greatest) in found.bounds.items():
                    assert least - 1e-9 <= imputed[name].min(), (found.policy.name, name)
                    assert imputed[name].max() <= greatest + 1e-9, (found.policy.name, name)

    @pytest.mark.parametrize("policy", [GUIDE, PRESSED, RELEASED, fixed(2)], ids=lambda policy: policy.name)
    @pytest.mark.parametrize("arrival", [0.0, 3.5, 12.0])
    def test_is_just_what_some_instants_bring(self, policy, arrival):
        """The least and the greatest of playing every instant that an interval allows, step by step.

        Of the nests never seen, one was watched to the end, and one no longer than others took to come.
        """
        intervals = [(0.0, 4.0), (3.0, 11.0), (9.5, 10.0), (25.0, 33.0), (90.0, INF), (6.0, INF)]
        [found] = replay([], nests(*intervals), baseline=policy, arrivals=[arrival], rng=rng(), draws=20)
        every = {name: [] for name in ("joined_share", "lost_share", "requests_per_join")}
        polls = [arrival + 5.0 * k for k in range(8)] + [arrival + 2.0 * k for k in range(20)]
        for low, high in intervals:
            last = high if high < INF else 33.0
            some = [low, last, *polls, *np.linspace(low, last, 23).tolist()]
            instants = {near for at in some for near in (at, math.nextafter(at, INF)) if low < near <= last}
            instants |= {INF} if high == INF else set()
            verdicts = [(at, play(policy, at, arrival, rng())) for at in instants]
            every["joined_share"].append([one.joined for _, one in verdicts])
            every["lost_share"].append([at < INF and not one.joined for at, one in verdicts])
            every["requests_per_join"].append([one.requests for _, one in verdicts])
        for name, values in every.items():
            least, greatest = (sum(end(one) for one in values) / len(intervals) for end in (min, max))
            assert found.bounds[name] == pytest.approx((least, greatest)), name

    def test_is_one_value_when_the_intervals_are_tight(self):
        delays = TRUTHS[0].draw(50, rng())
        tight = timelines(np.where(delays < INF, delays - 1e-9, 90.0), delays)
        for found in replay([*POLICIES, TABLE], tight, arrivals=[2.5], rng=rng(), draws=20):
            assert found.ambiguous == 0.0
            if found.policy.person is None and found.policy.jitter == 0 and found.policy.schedule.kind != "full_jitter":
                for name, (least, greatest) in found.bounds.items():
                    assert least == pytest.approx(greatest, abs=1e-6), name
                    assert found.numbers[name].value == pytest.approx(least, abs=1e-6)

    def test_leaves_a_join_open_only_inside_an_interval(self):
        """One request at age 5, of three nests of four open."""
        table = nests((3.0, 7.0), (4.9, 5.1), (5.0, 9.0), (0.0, 60.0))
        [found] = replay([], table, baseline=GUIDE, arrivals=[5.0], draws=20)
        assert found.ambiguous == 0.75
        assert found.bounds["joined_share"] == (0.0, 0.75)

    def test_makes_a_request_at_the_lower_end_fail_and_at_the_upper_succeed(self):
        fails, succeeds = nests((5.0, 9.0)), nests((1.0, 5.0))
        for table, share in ((fails, 0.0), (succeeds, 1.0)):
            [found] = replay([], table, baseline=GUIDE, arrivals=[5.0], draws=20)
            assert found.bounds["joined_share"] == (share, share)
            assert (metrics(found.scores)["joined_share"] == share).all()

    def test_says_nothing_of_how_long_nobody_waited(self):
        """Nobody joins: there is no delay to bound."""
        [found] = replay([], nests((90.0, INF), (90.0, INF)), baseline=GUIDE, draws=20)
        assert all(math.isnan(end) for end in found.bounds["mean_delay_s"])
        assert math.isnan(found.numbers["mean_delay_s"].value)


class TestComparison:
    def test_begins_with_the_baseline_which_has_no_difference(self):
        found = replay(["fixed(2)", MANUAL_RETRY, GUIDE], seen(40), rng=rng(), draws=20)
        assert [one.policy.name for one in found] == ["manual_retry", "fixed(2)", "guide"]
        assert found[0].against == {}
        assert set(found[1].against) == set(METRICS)

    @pytest.mark.parametrize("policy", [MANUAL_RETRY, TABLE, standard_policies()["full_jitter(1)"]])
    def test_of_a_policy_to_itself_is_nothing(self, policy):
        _, twin = replay(replace(policy, name="twin"), seen(40), baseline=policy, rng=rng(), draws=30)
        for number in twin.against.values():
            assert (number.value, number.lower, number.upper) == (0.0, 0.0, 0.0)
        made = arena(seen(40))
        of_itself = (policy, made.play(policy).scores) * 2
        assert made.difference(*of_itself) == replace(made.difference(*of_itself), value=0, lower=0, upper=0)

    def test_of_pairs_is_closer_than_of_each_alone(self):
        """The same nests and joiners under both: what they share falls out."""
        first, second = replay(fixed(2), seen(80), baseline=PRESSED, rng=rng(), draws=200)
        apart, alone = second.against["joined_share"], second.numbers["joined_share"]
        assert apart.upper - apart.lower < 0.5 * (alone.upper - alone.lower)
        assert apart.value == pytest.approx(alone.value - first.numbers["joined_share"].value)

    def test_by_pairs_says_how_far_two_joins_of_one_nest_stray(self):
        made = arena(seen(60))
        scores, base = (made.play(policy).scores for policy in (TABLE, GUIDE))
        found = made.paired(TABLE, scores, GUIDE, base)
        assert set(found) == {COST, *METRICS}
        assert found[COST] == replace(made.difference(TABLE, scores, GUIDE, base), sd=found[COST].sd)
        one, other = (
            of_each(made.courses(policy), made.nests.times, made.nests.gone, made.nests.own, made.nests.apart)
            for policy in (TABLE, GUIDE)
        )
        apart = one.cost(made.prices) - other.cost(made.prices)
        assert found[COST].sd == pytest.approx(apart.std())
        assert apart.mean() == pytest.approx(found[COST].value)
        joined = one.joined - other.joined
        assert found["joined_share"].sd == pytest.approx(joined.std())
        assert set(np.unique(joined)) <= {-1.0, 0.0, 1.0}, "each joiner by itself"
        delays = pair_differences(one, other, made.prices)["mean_delay_s"]
        assert delays.mean() == pytest.approx(found["mean_delay_s"].value), "its linear part has the same mean"

    @pytest.mark.parametrize("policy", [GUIDE, TABLE])
    def test_by_pairs_of_a_policy_with_itself_is_nothing_without_a_spread(self, policy):
        made = arena(seen(40))
        scores = made.play(policy).scores
        for number in made.paired(policy, scores, policy, scores).values():
            assert (number.value, number.lower, number.upper, number.sd) == (0.0, 0.0, 0.0, 0.0)

    def test_is_the_same_again_for_the_same_seed_and_another_for_another(self):
        one, again, other = (
            replay(["fixed(2)", "full_jitter"], seen(40), rng=rng(seed), draws=50).frame() for seed in (1, 1, 2)
        )
        pd.testing.assert_frame_equal(one, again)
        assert not one.equals(other)
        fixed_seed = [replay("guide", seen(40), draws=50).frame() for _ in range(2)]
        pd.testing.assert_frame_equal(*fixed_seed)

    def test_shows_that_asking_more_often_never_loses_more(self):
        """The polls of one are among those of the next, nest by nest and joiner by joiner."""
        ladder = [replace(fixed(gap), max_requests=10_000) for gap in (8.0, 4.0, 2.0, 1.0, 0.5)]
        ladder += [replace(ladder[-1], name="longer", give_up_age_s=60.0, horizon_s=90.0)]
        found = replay(ladder, seen(80, polls=30), baseline=replace(GUIDE, max_requests=10_000), rng=rng(), draws=20)
        for less, more in itertools.pairwise(found):
            assert (more.scores.lost <= less.scores.lost + 1e-12).all()
            assert (more.scores.joined >= less.scores.joined - 1e-12).all()
            for end in (0, 1):
                assert more.bounds["lost_share"][end] <= less.bounds["lost_share"][end] + 1e-12

    def test_regrets_nothing_less_than_the_clairvoyant(self):
        """Not on average, not on any draw, and not for any nest."""
        made = arena(ended_early(seen(60)), round_trip_s=0.3)
        for found in made.compare([*POLICIES, TABLE]):
            assert 0.0 <= found.regret.lower <= found.regret.value <= found.regret.upper
            comes = np.isfinite(made.nests.times)
            assert (found.scores.cost(PRICES) - PRICES.request_cost * comes >= -1e-12).all()

    def test_regrets_nothing_of_who_asks_once_at_the_right_time(self):
        table = nests(*[(0.5, 1.0)] * 30)
        [found] = replay([], table, baseline=replace(GUIDE, ask_info=False), arrivals=[1.0], draws=20)
        assert found.regret.value == 0.0

    def test_in_a_frame_has_a_row_a_policy_and_metric(self):
        table = replay(["fixed(2)"], seen(40), rng=rng(), draws=30).frame()
        assert list(zip(table["policy"], table["metric"], strict=True)) == [
            (name, metric) for name in ("manual_retry", "fixed(2)") for metric in METRICS
        ]
        assert (table["lower"] <= table["value"]).all()
        assert (table["value"] <= table["upper"]).all()
        assert (table["least"] <= table["greatest"]).all()
        assert table.loc[table["policy"] == "manual_retry", "difference"].isna().all()
        assert table.loc[table["policy"] == "fixed(2)", "difference"].notna().all()


class TestError:
    def test_of_a_share_is_a_binomials(self):
        table = nests(*[(0.0, 1e-6)] * 120, *[(90.0, INF)] * 280)
        [found] = replay([], table, baseline=GUIDE, draws=1000, rng=rng())
        number = found.numbers["joined_share"]
        wanted = 1.96 * math.sqrt(0.3 * 0.7 / 400)
        assert number.value == pytest.approx(0.3)
        assert (number.upper - number.lower) / 2 == pytest.approx(wanted, rel=0.12)
        assert number.sd == pytest.approx(math.sqrt(0.3 * 0.7))

    def test_of_a_share_covers_it(self):
        """A nominal 95 % of intervals hold the share in 90 to 99 % of 150 sets."""
        held, made = 0, recorded(joinable(nests(*[(0.0, 1e-6)] * 150)), rng())
        for number in range(150):
            draw = rng(number)
            came = draw.random(150) < 0.4
            data = rows(np.where(came, 0.0, 90.0), np.where(came, 1e-6, INF))
            times, ends = np.tile(data.upper, (10, 1)), extremes(data)
            some = replace(made, rows=data, times=times, own=times, extremes=ends, own_ends=ends)
            judge = Arena(some, Terms(arrivals=np.array([1.0]), prices=PRICES), 200, draw)
            share = judge.compare([GUIDE])[0].numbers["joined_share"]
            held += share.lower <= 0.4 <= share.upper
        assert 0.90 <= held / 150 <= 0.99

    def test_keeps_nests_of_one_day_together(self):
        """Four nests a day that share their fate are worth one: intervals are twice as wide as of as many alone."""
        came = np.repeat(rng().random(100) < 0.5, 4)
        lower, upper = np.where(came, 0.0, 90.0), np.where(came, 1e-6, INF)
        days = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.repeat(np.arange(100), 4), unit="D")
        alone = timelines(lower, upper)
        together = alone.assign(origin_at=days)
        made = arena(together, draws=400)
        by_day = made.counts.reshape(400, 100, 4)
        assert (by_day == by_day[:, :, :1]).all()
        assert (made.counts.sum(axis=1) == 400).all()
        [one], [other] = (replay([], t, baseline=GUIDE, draws=600, rng=rng()) for t in (together, alone))
        wide, narrow = (found.numbers["joined_share"] for found in (one, other))
        assert (wide.upper - wide.lower) / (narrow.upper - narrow.lower) == pytest.approx(2.0, rel=0.2)
        assert (one.blocks, other.blocks) == (100, 400)

    def test_keeps_the_vantages_of_a_nest_together(self):
        table = seen(30)
        both = pd.concat([table, table.assign(vantage="B")], ignore_index=True)
        made = arena(both, draws=40)
        delays = joinable(both)
        for unit in set(delays["unit"]):
            columns = made.counts[:, (delays["unit"] == unit).to_numpy()]
            assert (columns == columns[:, :1]).all()
        assert made.nests.nests == 30

    def test_of_what_was_never_lost_is_not_nothing(self):
        """60 nests there from the start: at most 2.5 lost of 60 (Jeffreys), at least none."""
        [found] = replay([], nests(*[(0.0, 1e-6)] * 60), baseline=GUIDE, draws=2000, rng=rng(), arrivals=[1.0])
        lost = found.numbers["lost_share"]
        assert (lost.value, found.bounds["lost_share"]) == (0.0, (0.0, 0.0))
        assert lost.lower < 0.001
        assert lost.upper == pytest.approx(2.51 / 60, rel=0.15)
        assert found.cost.upper == pytest.approx(found.cost.value + 60.0 * lost.upper, rel=0.05)

    def test_of_imputing_widens_an_interval(self):
        """One request at age 5, half of 200 nests there: known which, or each as likely as not. Variances add up."""
        known = nests(*[(4.0, 4.001)] * 100, *[(6.0, 6.001)] * 100)
        open_ = nests(*[(4.0, 6.25)] * 200)
        widths = []
        for table in (known, open_):
            [found] = replay([], table, baseline=GUIDE, arrivals=[5.0], draws=2000, rng=rng())
            share = found.numbers["joined_share"]
            assert share.value == pytest.approx(0.5, abs=0.06)
            widths.append(share.upper - share.lower)
        assert widths[1] / widths[0] == pytest.approx(math.sqrt(2.0), rel=0.25)

    @pytest.mark.parametrize("factor", [0.5, 3.0])
    def test_and_value_scale_with_the_unit_of_time(self, factor):
        delays = TRUTHS[0].draw(60, rng())

        def found(scale):
            lower = np.where(delays < INF, delays - 1e-9, 1e3) * scale
            policy = Policy(
                name="any",
                schedule=Schedule("fixed", 2.0 * scale),
                give_up_age_s=30.0 * scale + GRAIN_S,  # ages are told from whole seconds, whatever the unit
                horizon_s=60.0 * scale,
                max_requests=100,
            )
            ages = np.linspace(0.0, 30.0, 31) * scale
            table = timelines(lower, delays * scale)
            ways = {"arrivals": ages, "round_trip_s": 0.1 * scale, "rng": rng(), "draws": 50}
            return replay([], table, baseline=policy, **ways)[0].numbers

        one, other = found(1.0), found(factor)
        for name in METRICS:
            unit = factor if name == "mean_delay_s" else 1.0
            for part in ("value", "lower", "upper", "sd"):
                assert getattr(other[name], part) == pytest.approx(unit * getattr(one[name], part), rel=1e-5), name


def failing(token=25, signal=0, asked=250, took_s=0.01):
    """So many of so many requests for a token failed, and of connections."""
    return Failures(
        token=Tally(asked, broken=token, broken_s=(took_s,)), signal=Tally(asked, broken=signal, broken_s=(took_s,))
    )


AT_ONCE = replace(GUIDE, ask_info=False)
"""One authenticated request, and a guest's after a 404."""


class TestRequestsThatFail:
    def there(self, n=60):
        """Nests that are there from the start."""
        return nests(*[(0.0, 1e-6)] * n)

    @pytest.mark.parametrize("none", [None, Failures(), failing(0)])
    def test_where_none_do_change_nothing(self, none):
        table = seen(40)
        one, other = (
            replay(["fixed(2)", TABLE], table, rng=rng(), draws=30, round_trip_s=0.1, failures=some)
            for some in (none, None)
        )
        assert repr(Replays(one).frame().to_dict()) == repr(Replays(other).frame().to_dict())
        assert [each.bounds for each in one] == [each.bounds for each in other]

    @pytest.mark.parametrize("failed", [5, 50, 200])
    def test_lose_their_share_of_who_asks_once(self, failed):
        """With its error: Jeffreys' of the count, and half a nest's beside it."""
        [found] = replay([], self.there(), baseline=AT_ONCE, draws=1000, rng=rng(), failures=failing(failed))
        lost, share = found.numbers["lost_share"], (failed + 0.5) / 251
        assert lost.value == pytest.approx(share, abs=0.006)
        assert found.numbers["joined_share"].value == pytest.approx(1.0 - share, abs=0.006)
        error = math.sqrt(share * (1 - share) / 252)
        assert 1.2 * error < lost.upper - lost.value < 2.0 * error + 0.05
        assert 1.2 * error < lost.value - lost.lower < 3.0 * error + 0.02
        assert found.bounds["lost_share"] == pytest.approx((lost.value, lost.value), abs=1e-9)

    def test_are_survived_by_who_tries_again_and_cost_the_wait(self):
        retrying = replace(AT_ONCE, name="again", error_retries=5, connect_attempts=3)
        once, again = replay(retrying, self.there(), baseline=AT_ONCE, rng=rng(), failures=failing(30, 30))
        assert once.numbers["lost_share"].value > 0.2
        assert again.numbers["lost_share"].value < 0.005
        assert again.numbers["mean_delay_s"].value == pytest.approx(
            sum(0.12**k * (2 ** (k - 1) + 0.01) for k in range(1, 6)), abs=0.05
        )
        assert again.numbers["requests_per_join"].value == pytest.approx(1 / 0.88, abs=0.02)
        assert once.numbers["requests_per_join"].value == 1.0

    def test_widen_what_is_predicted_the_less_the_more_was_asked(self):
        widths = []
        for asked in (50, 500, 50_000):
            some = failing(asked // 10, asked=asked)
            [found] = replay([], self.there(400), baseline=AT_ONCE, rng=rng(), failures=some)
            lost = found.numbers["lost_share"]
            widths.append(lost.upper - lost.lower)
        assert widths == sorted(widths, reverse=True)
        assert widths[0] > 3 * widths[2]

    def test_hold_in_the_bounds_what_was_imputed(self):
        for policy in (MANUAL_RETRY, TABLE, fixed(2)):
            made = arena(seen(60), failures=failing(30, 20), round_trip_s=0.1)
            found = made.judge(policy, made.play(policy), None)
            for name, (least, greatest) in found.bounds.items():
                value = np.mean(metrics(found.scores)[name])
                assert least - 1e-9 <= value <= greatest + 1e-9 or name == "mean_delay_s", (policy.name, name)
            delay = found.scores.delay.sum() / found.scores.joined.sum()
            assert found.bounds["mean_delay_s"][0] <= delay <= found.bounds["mean_delay_s"][1]
            assert 0.0 < found.ambiguous < 1.0

    def test_of_parts_put_together_are_those_of_the_whole(self):
        made = arena(seen(40), failures=failing(30))
        odd = np.arange(40) % 2 == 0
        parts = [(some, made.play(fixed(2), made.nests.take(some))) for some in (odd, ~odd)]
        whole, joint = made.play(fixed(2)), type(parts[0][1]).joint(parts)
        for name, ends in whole.bounds().items():
            assert joint.bounds()[name] == pytest.approx(ends, rel=1e-9), name
        assert joint.scores.lost.tolist() == whole.scores.lost.tolist()

    @pytest.mark.parametrize("policy", [AT_ONCE, replace(AT_ONCE, name="again", error_retries=3)], ids=lambda p: p.name)
    def test_fall_into_the_prediction(self, policy):
        """In truth .12 fail; 150 requests were seen, 150 joins follow: in nine sets of ten, and more."""
        draws, held, tries = rng(), dict.fromkeys(METRICS, 0), 24
        for _ in range(tries):
            some = failing(int(draws.binomial(150, 0.12)), asked=150)
            [found] = replay([], self.there(150), baseline=policy, rng=draws, draws=200, failures=some)
            plays = [play(policy, 0.0, 1.0, draws, network=Network(failing(18, asked=150), draws)) for _ in range(150)]
            came = {
                "joined_share": np.mean([one.joined for one in plays]),
                "lost_share": np.mean([not one.joined for one in plays]),
                "mean_delay_s": np.mean([one.elapsed_s for one in plays if one.joined]),
                "requests_per_join": np.mean([one.requests for one in plays]),
            }
            for name, value in came.items():
                low, high = predictive(name, found.numbers[name], 150, 150)
                held[name] += low - 1e-9 <= value <= high + 1e-9
        assert min(held.values()) >= 0.9 * tries, held


class TestWhatIsGiven:
    def test_without_a_nest_is_refused_in_a_sentence(self):
        kinds = {"text": "str", "int": "int64", "real": "float64", "bool": "bool", "instant": "datetime64[ns, UTC]"}
        nothing = pd.DataFrame({one.name: pd.Series([], dtype=kinds[one.type]) for one in SCHEMA})
        other = seen(20).assign(layer="api:info")
        unborn = seen(20).assign(origin_at=pd.NaT)
        for table in (nothing, other, unborn):
            with pytest.raises(DataError, match=r"^[^\n]*api:join[^\n]*observe some$"):
                replay("guide", table)

    def test_as_a_guests_only_is_replayed_for_guests(self):
        table = seen(20).assign(layer="api:guest")
        signed, guest = (replay([], table, baseline=GUIDE, signed_in=way, draws=20)[0] for way in (True, False))
        assert signed.numbers["joined_share"].value == guest.numbers["joined_share"].value
        assert signed.numbers["requests_per_join"].value > guest.numbers["requests_per_join"].value
        with pytest.raises(DataError):
            replay("guide", seen(20), signed_in=False)

    @pytest.mark.parametrize(
        "table",
        [
            pytest.param(nests((2.0, 3.0)), id="one"),
            pytest.param(nests(*[(90.0, INF)] * 5), id="none comes"),
            pytest.param(nests(*[(-INF, 0.4)] * 5), id="all there before"),
            pytest.param(nests((-INF, 0.4), (0.0, 0.2), (3.0, 3.0), (0.5, INF)), id="of every kind"),
            pytest.param(nests((0.0, 2.0), (0.0, 3.0), gone_lower_s=[9.0, 1.0], gone_upper_s=[10.0, 4.0]), id="gone"),
        ],
    )
    def test_however_poor_is_replayed(self, table):
        for found in replay([*POLICIES, TABLE], table, draws=30):
            joined = found.numbers["joined_share"]
            assert 0.0 <= joined.lower <= joined.value <= joined.upper <= 1.0
            assert found.n == len(table)

    def test_that_is_gone_again_cannot_be_joined_then(self):
        """There from 1 s, gone from 9 s: of joiners at 5 s and 12 s one gets in, and the other loses nothing."""
        table = nests((0.5, 1.0), gone_lower_s=9.0, gone_upper_s=9.5)
        [found] = replay([], table, baseline=GUIDE, arrivals=[5.0] * 50 + [12.0] * 50, draws=20)
        assert found.numbers["joined_share"].value == 0.5
        assert found.numbers["lost_share"].value == 0.0

    def test_as_a_policy_that_is_none_is_refused(self):
        with pytest.raises(PolicyError, match="'nope' is unknown"):
            replay("nope", seen(20))

    @pytest.mark.parametrize("arrivals", [[], [1.0, math.nan], [INF], np.zeros(0)])
    def test_as_arrivals_that_are_none_is_refused(self, arrivals):
        with pytest.raises(DataError, match="arrivals are ages"):
            replay("guide", seen(20), arrivals=arrivals)


def test_middles_stand_for_a_sample_by_equal_parts():
    assert middles(np.array([4.0])).tolist() == [4.0] * ARRIVALS
    assert middles(np.linspace(0.0, 32.0, 33)).tolist() == [k + 0.5 for k in range(32)]
    assert middles([3.0, 1.0, 2.0]).mean() == pytest.approx(2.0)


def test_the_route_of_the_guest_costs_one_request_more():
    """Everybody comes at 5 s, when only the guest's join works."""
    joint = nests(*[(1.0, 1.001)] * 50)
    both = pd.concat([joint.assign(layer="api:guest"), joint.assign(layer="api:join", lower_s=8.0, upper_s=9.0)])
    [first] = replay([], joint, baseline=GUIDE, arrivals=[5.0], draws=20)
    [second] = replay([], both.reset_index(drop=True), baseline=GUIDE, arrivals=[5.0], draws=20)
    assert second.numbers["requests_per_join"].value == first.numbers["requests_per_join"].value + 1.0
    assert second.numbers["joined_share"].value == 1.0


def test_no_second_round_seen_is_no_proof_of_none():
    """All are there at once: the plain resamples would promise exactly two requests and no wait to anybody."""
    [found] = replay([], nests(*[(0.1, 0.2)] * 100), baseline=MANUAL_RETRY, arrivals=[5.0], draws=200)
    requests, delay = found.numbers["requests_per_join"], found.numbers["mean_delay_s"]
    assert (requests.value, delay.value) == (2.0, 0.0)
    assert 2.01 < requests.upper < 2.2
    assert 0.01 < delay.upper < 0.3
    assert requests.sd > 0.1
    assert predictive("requests_per_join", requests, 200)[1] > 2.015


def test_replays_say_what_they_found_shortly_and_as_a_table():
    found = replay(["fixed(2)"], seen(40), draws=30)
    head, *lines = repr(found).splitlines()
    assert head.split() == ["policy", "joined", "lost", "delay,", "s", "requests", "cost,", "s"]
    assert [line.split()[0] for line in lines] == ["manual_retry", "fixed(2)"]
    assert re.match(r"<Replay of fixed\(2\), 40 rows: joined \d+\.\d % \d", repr(found[1]))
    for shown in (found._repr_html_(), found[1]._repr_html_()):
        assert shown.count("<table") == 1
        assert "fixed(2)" in shown


@pytest.mark.parametrize("came", [20, 37, 40])
def test_the_joined_share_of_nests_that_come_or_do_not_has_jeffreys_interval(came):
    made = arena(seen(40), draws=20_000)
    drawn = made._share(np.tile((np.arange(40) < came).astype(float), (10, 1)))
    ends = np.quantile(drawn, [0.025, 0.975])
    hits = np.array([came + 0.5, 40 - came + 0.5])
    assert ends == pytest.approx(special.betaincinv(*hits, [0.025, 0.975]), abs=0.006)


def test_the_luck_of_persons_is_no_error_of_what_is_predicted():
    """The nests are the data, persons are ours: the interval is as wide as nests differ, and not as some persons do."""
    made = arena(seen(120), draws=400)
    today, ours = made.play(MANUAL_RETRY).scores, made.play(fixed(2)).scores
    each = ours.cost(PRICES) - today.cost(PRICES)
    by_nests = each.std(axis=1).mean() / math.sqrt(120)
    assert each.mean(axis=1).std() < 0.4 * by_nests
    number = made.difference(fixed(2), ours, MANUAL_RETRY, today)
    assert 0.8 < (number.upper - number.lower) / (2 * 1.96 * by_nests) < 1.25


def test_more_persons_meet_many_nests():
    made = arena(seen(40), draws=20)
    found = made.courses(MANUAL_RETRY), made.courses(MANUAL_RETRY, MANY_PERSONS)
    assert [len(ways[0]) for ways in found] == [PERSONS, MANY_PERSONS]
    assert [ways[0][0].turns for ways in found] == [PERSONS, MANY_PERSONS]
