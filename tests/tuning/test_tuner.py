"""Tuning: on simulated nests whose truth is known, on poor and odd ones, and within the budget it is given."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nestobs.estimate.law import LawError
from nestobs.estimate.npmle import DataError, Number, npmle
from nestobs.estimate.strata import differ, groupings, scores
from nestobs.join.policy import GUIDE, MANUAL_RETRY, exponential, fixed
from nestobs.timeline.delays import joinable
from nestobs.timeline.failures import Failures, Tally
from nestobs.tuning.costs import Prices
from nestobs.tuning.decisions import Allowance, Terms
from nestobs.tuning.doubts.notes import failed
from nestobs.tuning.imputation import recorded, time_parts
from nestobs.tuning.replay import METRICS, PRICES, Arena
from nestobs.tuning.simulation import course
from nestobs.tuning.threshold import more_for_width
from nestobs.tuning.tuner import (
    JITTER,
    LEAST_CAME,
    LEAST_NESTS,
    STRATUM_P,
    HeldUpError,
    TooLittleDataError,
    Tuner,
    recommend,
)
from worlds.fresh_nests import EVENLY, LOSSY, fresh, rng, seen
from worlds.simulated import TRUTHS, Truth, observe, timelines

pytestmark = pytest.mark.slow

INF = math.inf
LOGNORMAL, BIMODAL = TRUTHS


def together(*tables):
    """Nests of several sources, each with units of its own."""
    named = [table.assign(trace_id=table["trace_id"] + f" of {number}") for number, table in enumerate(tables)]
    return pd.concat(named, ignore_index=True)


@cache
def usual():
    """A hundred nests of the bimodal truth."""
    return recommend(seen(100, BIMODAL), draws=100)


@cache
def lossy():
    """The nests of `usual`, where one request in eight failed."""
    return recommend(seen(100, BIMODAL), draws=100, failures=LOSSY)


@cache
def few():
    """Forty nests, and another cost ratio, and joiners of known ages."""
    return recommend(seen(40), draws=40, cost_ratio=0.6, arrivals=[0.0, 3.0, 9.0])


@cache
def tight(joins):
    """Fifty nests, where so many joins are expected in a window."""
    return recommend(seen(50), draws=20, allowance=Allowance(joins=joins))


@cache
def large():
    """Three hundred nests of the lognormal truth."""
    return recommend(seen(300), draws=100)


def tuner(table, *, today=MANUAL_RETRY, **changed):
    """The parts of a tuning, to be taken one by one."""
    usual = {"arrivals": EVENLY, "signed_in": True, "prices": PRICES, "allowance": Allowance(), "cost_ratio": 0.25}
    terms = Terms(**usual | changed)
    return Tuner(delays=joinable(table), terms=terms, today=today, rng=rng(), draws=30)


class TestTooLittle:
    @pytest.mark.parametrize(
        ("table", "said"),
        [
            (timelines(np.zeros(0), np.zeros(0)), "0 nests were observed, 0 became joinable.*at least 30 more"),
            (seen(22), "22 nests were observed, .*at least 8 more"),
            (timelines(np.array([0.0] * 9 + [90.0] * 51), np.array([1.0] * 9 + [INF] * 51)), "9 .*at least 6 more"),
            (timelines(np.array([0.0] * 30 + [20.0] * 10), np.array([1.0] * 30 + [INF] * 10)), "ends 20 s .*45 s"),
        ],
    )
    def test_is_refused_with_how_much_is_needed(self, table, said):
        with pytest.raises(TooLittleDataError, match=said) as error:
            recommend(table)
        assert error.value.exit_code == 1
        assert "\n" not in str(error.value)

    def test_counts_nests_and_not_what_two_vantages_saw_of_them(self):
        half = seen(20)
        with pytest.raises(TooLittleDataError, match="20 nests"):
            recommend(pd.concat([half, half.assign(vantage="B")], ignore_index=True))

    def test_is_refused_where_the_observing_machine_itself_was_held_up(self):
        said = "^25 % of the requests in this window were held up by the observing machine itself .*no recommendation"
        with pytest.raises(HeldUpError, match=said) as error:
            recommend(seen(100), failures=Failures(requests=400, held_up=100))
        assert error.value.exit_code == 1

    def test_does_not_complain_of_a_watch_whose_nests_all_came_soon(self):
        """Just as many as are needed, and none that stayed away: nobody can tell how long they were watched."""
        ends = np.linspace(0.5, 4.0, LEAST_NESTS)
        found = recommend(timelines(ends, ends + 0.3), draws=20)
        assert found.law.never == 0.0
        assert found.nests == LEAST_NESTS >= LEAST_CAME


class TestEditsOfOlderRooms:
    """Forty edits of hour-old rooms among forty new nests turned "keep today's rule" into another policy."""

    def test_change_nothing_but_a_note(self):
        new = seen(40).assign(origin_kind="created_at")
        edits = timelines(np.full(40, -INF), np.full(40, 3601.0)).assign(origin_kind="edit")
        edits["trace_id"] = edits["nest"] = [f"old-{number}" for number in range(40)]
        alone, both = (recommend(table, draws=40) for table in (new, pd.concat([new, edits], ignore_index=True)))
        assert both.notes == (*alone.notes, "40 nests were edits of older rooms and are left out.")
        assert both.as_dict() | {"notes": []} == alone.as_dict() | {"notes": []}

    def test_are_no_nests_to_tune_on(self):
        with pytest.raises(TooLittleDataError, match="0 nests were observed"):
            recommend(seen(40).assign(origin_kind="edit"))


class TestWhatIsGiven:
    def test_a_lost_join_without_a_finite_value_is_refused(self):
        with pytest.raises(LawError, match="finite value"):
            recommend(seen(40), prices=Prices(0.1, 1.0, INF))

    @pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan, INF])
    def test_a_cost_ratio_that_is_none_is_refused(self, ratio):
        with pytest.raises(LawError, match="cost ratio"):
            recommend(seen(40), draws=20, cost_ratio=ratio)

    @pytest.mark.parametrize("arrivals", [[], [math.nan], [1.0, INF]])
    def test_arrivals_that_are_none_are_refused(self, arrivals):
        with pytest.raises(DataError, match="arrivals"):
            recommend(seen(40), draws=20, arrivals=arrivals)

    def test_arrivals_that_nobody_named_are_said_to_be_assumed(self):
        assert "evenly from 0 to 30 s was assumed" in usual().notes[0]
        assert not any("assumed" in note for note in few().notes)
        assert (few().terms.arrivals.min(), few().terms.arrivals.max()) == pytest.approx((0.0, 9.0), abs=0.2)


class TestPolicies:
    @pytest.mark.parametrize("found", [usual, lambda: tight(30.0), lambda: tight(1000.0)])
    def test_tuned_are_such_as_clients_can_follow(self, found):
        for policy in (found().tuned, found().simple):
            assert policy.ask_info is False
            assert policy.jitter == JITTER
            assert 3 <= policy.max_requests <= max(3, found().terms.allowance.per_window)
            assert policy.horizon_s >= policy.give_up_age_s + 30.0
            assert policy.message_threshold_s == round(policy.message_threshold_s)
        assert len(found().simple.schedule.table) <= 3

    def test_are_compared_with_todays_rule_first_and_the_tuned_ones_last(self):
        names = [one.policy.name for one in usual().replays]
        assert names[0] == "manual_retry"
        assert names[-2:] == ["tuned", "simple"]
        assert len(set(names)) == len(names) == 10
        for one in usual().replays:
            assert set(one.numbers) == set(METRICS)

    def test_of_the_last_tuning_may_be_todays_rule(self):
        """Its name is wanted for the new one."""
        last = replace(GUIDE, name="tuned")
        found = recommend(seen(50), draws=20, today=last)
        assert found.today == found.replays[0].policy == replace(last, name="today")
        assert found.tuned == found.replays[-2].policy
        assert not found.kept
        assert "against today" in found.why

    def test_with_the_name_of_another_are_todays_all_the_same(self):
        odd = replace(fixed(5), give_up_age_s=0.0)
        table = seen(30)
        made = tuner(table, today=odd)
        plan = made.terms.decide(made_law(made), 30.0)
        judge = Arena(recorded(made.delays, rng(), law=made_law(made)), made.terms, made.draws, rng())
        tries = made.crossfit(judge, made_law(made), np.arange(30))
        replays = made._replays(judge, (plan.policy, plan.policy), tries)
        assert [one.policy for one in replays if one.policy.name == "fixed(5)"] == [odd]

    def test_along_the_front_ask_ever_less(self):
        front = usual().front
        assert (np.diff(front["request_cost"]) > 0).all()
        assert (np.diff(front["requests_per_join"]) <= 1e-9).all()
        assert (np.diff(front["lost_share"]) >= -1e-9).all()
        assert front["chosen"].sum() == 1

    def test_show_the_herd_they_make(self):
        peaks = {one.policy: one.peak_per_s for one in usual().peaks}
        assert set(peaks) == {"manual_retry", "tuned", "simple", "full_jitter(1)"}
        assert all(one.joiners == 50 and one.requests >= 50 for one in usual().peaks)
        assert min(peaks.values()) > 0


def made_law(made):
    """The smoothed law of a tuner's nests."""
    return npmle(made.delays["lower_s"].to_numpy(), made.delays["upper_s"].to_numpy()).smooth()


class TestNumbers:
    def test_stand_inside_their_intervals(self):
        found = usual()
        ages = [found.message_threshold_s, found.give_up_age_s, *found.thresholds.values()]
        for number in [*ages, *found.sharing_age_s.values(), *(one.cost for one in found.replays)]:
            assert number.lower <= number.value <= number.upper
        assert found.message_threshold_s == found.thresholds[found.terms.cost_ratio]

    def test_of_thresholds_fall_as_a_false_starting_costs_more(self):
        values = [usual().thresholds[ratio].value for ratio in sorted(usual().thresholds)]
        assert values == sorted(values, reverse=True)
        assert sorted(usual().thresholds) == [0.1, 0.25, 1.0]

    def test_of_another_cost_ratio_stand_beside_the_usual_ones(self):
        assert sorted(few().thresholds) == [0.1, 0.25, 0.6, 1.0]
        assert few().message_threshold_s == few().thresholds[0.6]

    def test_of_the_simple_policy_and_of_jitter_are_prices(self):
        assert -0.02 < usual().simple_price < 0.25
        assert -0.05 < usual().jitter_price < 0.1

    def test_know_their_nests(self):
        found = usual()
        assert (found.nests, found.law.n, found.block_kind) == (100, 100, "nest")
        assert found.window == ("2026-01-01T00:00:00Z", "2026-01-01T01:39:00Z")


class TestAgainstTheTruth:
    def test_what_is_predicted_of_the_tuned_holds_on_fresh_nests(self):
        """Judged on nests it was not tuned on: the intervals of cost and requests hold the truth."""
        cost, requests = fresh(large().tuned, LOGNORMAL)
        replayed = large().replayed("tuned")
        assert replayed.cost.lower <= cost <= replayed.cost.upper
        asked = replayed.numbers["requests_per_join"]
        assert asked.lower <= requests <= asked.upper

    def test_a_change_is_recommended_where_it_is_clearly_better(self):
        for found in (usual(), large()):
            assert not found.kept
            assert found.policy.name in ("tuned", "simple")
            assert re.match(r"Use the (tuned|simple) policy.*cost -\d.*against manual_retry", found.why)
            chosen = found.replayed(found.policy.name)
            told = [float(number) for number in re.findall(r"[+-]\d+\.\d+", found.why)]
            assert told[0] == pytest.approx(chosen.cost.value - found.replays[0].cost.value, abs=0.006)
            assert told[2] < 0

    def test_todays_rule_is_kept_where_nothing_better_is_proven(self):
        """All nests are there at once, and today's client asks as little as can be."""
        table = timelines(np.zeros(40), np.full(40, 0.01))
        today = replace(MANUAL_RETRY, ask_info=False)
        found = recommend(table, draws=40, today=today)
        assert found.kept
        assert found.why.startswith("Keep manual_retry: nothing better is proven")
        assert replace(found.policy, message_threshold_s=30.0) == today

    def test_what_was_not_seen_is_no_proof_that_there_is_none_of_it(self):
        """All that came did so within 2 s. Who then gives up saves some requests for those that never come, and loses
        all who would have come at 10 s: the tuned policy asks on, and one that gives up is not proven to be better."""
        lower, upper = np.full(40, 0.5), np.linspace(1.0, 2.0, 40)
        lower[::20], upper[::20] = 90.0, INF
        table = timelines(lower, upper)
        found = recommend(table, draws=40, today=exponential(), baselines=(replace(fixed(1), give_up_age_s=5.0),))
        assert found.tuned.give_up_age_s > 30.0
        brief = found.replayed("fixed(1)")
        assert brief.cost.value < found.replays[0].cost.value
        assert brief.against["lost_share"].upper > 0.01

    def test_a_threshold_that_cannot_be_told_from_the_best_stays_as_it_is(self):
        for today_s in (30.0, 25.0):
            found = tuner(seen(40), today=replace(MANUAL_RETRY, message_threshold_s=today_s))
            assert found._moved(Number(20.0, today_s, INF))[0] == today_s
            assert f"{today_s:g} s as message threshold cannot be told" in found._moved(Number(20.0, 10.0, INF))[1]
        assert tight(1.0).message_threshold_s.upper == INF
        assert tight(1.0).policy.message_threshold_s == 30.0

    def test_a_threshold_that_is_proven_wrong_moves(self):
        """Nests come within 2 s or not at all, half of them: 30 s is a long time to say starting."""
        lower, upper = np.tile([0.5, 90.0], 60), np.tile([2.0, INF], 60)
        found = recommend(timelines(lower, upper), draws=40)
        assert found.message_threshold_s.upper < 30.0
        assert found.policy.message_threshold_s == max(1, round(found.message_threshold_s.value)) <= 3.0
        assert "The message threshold moves from 30 s to" in found.why


class TestPoorNests:
    def test_of_which_none_stayed_away(self):
        always = Truth("always", ((1.0, 4.0, 0.9),), never=0.0)
        found = recommend(seen(30, always), draws=20)
        assert found.law.never == 0.0
        assert any("the share that never comes is not known" in note for note in found.notes)
        assert any("no upper end: 0 of 30 rows never came" in note for note in found.notes)
        assert found.message_threshold_s.upper == INF

    def test_of_which_all_but_a_few_were_there_at_the_first_look(self):
        lower, upper = np.full(60, -INF), np.full(60, 0.3)
        lower[:5], upper[:5] = [1.0, 2.0, 5.0, 90.0, 90.0], [2.0, 4.0, 9.0, INF, INF]
        found = recommend(timelines(lower, upper), draws=40)
        assert found.replayed("guide").numbers["joined_share"].value > 0.85

    def test_that_came_only_while_one_part_of_the_time_lasted(self):
        """The parts without them are judged by policies that know of them, and the other way round."""
        lower, upper = np.full(60, 90.0), np.full(60, INF)
        lower[40:], upper[40:] = np.linspace(0.0, 20.0, 20), np.linspace(1.0, 25.0, 20)
        found = recommend(timelines(lower, upper), draws=40)
        assert 0.0 < found.replayed("tuned").numbers["joined_share"].value <= 1 / 3

    def test_for_guests_are_those_that_guests_were_let_into(self):
        table = seen(40).assign(layer="api:guest")
        plans = [tuner(table, signed_in=way).terms.decide(made_law(tuner(table)), 30.0) for way in (False, True)]
        assert plans[0].requests < plans[1].requests
        with pytest.raises(TooLittleDataError, match="0 nests"):
            recommend(seen(40), signed_in=False)


class TestTheBudget:
    def test_that_binds_raises_the_price_of_a_request_and_says_so(self):
        notes = [" ".join(tight(joins).notes) for joins in (1.0, 30.0, 45.0)]
        assert "The budget binds" not in notes[0]
        prices = [float(re.search(r"The budget binds: at .* a join, one costs (\S+) s", note)[1]) for note in notes[1:]]
        assert PRICES.request_cost < prices[0] < prices[1]
        asked = [tight(joins).replayed("tuned").numbers["requests_per_join"].value for joins in (1.0, 30.0, 45.0)]
        assert asked == sorted(asked, reverse=True)
        assert asked[1] <= 1.1 * tight(30.0).terms.allowance.per_join

    def test_that_cannot_be_kept_is_said_to_be_such(self):
        found = tight(1000.0)
        assert any("does not even pay the first attempts" in note for note in found.notes)
        assert len(course(found.tuned, 0.0, rng()).asked) == 1

    def test_that_todays_rule_breaks_is_said_too(self):
        said = "manual_retry itself makes"
        assert any(note.startswith(said) and "more than the budget allows" in note for note in tight(30.0).notes)
        assert not any(note.startswith(said) for note in tight(1.0).notes)


def strata(table):
    """What is found to differ."""
    made = tuner(table)
    law = npmle(made.delays["lower_s"].to_numpy(), made.delays["upper_s"].to_numpy())
    smooth = law.smooth()
    apart = [one for one in groupings(law, made.delays) if one.p < STRATUM_P]
    return made._strata(law, smooth, made.terms.decide(smooth, 30.0), apart)


class TestFailures:
    def test_that_are_not_known_are_said_to_be_left_out(self):
        assert any("How often requests fail is not known" in note for note in usual().notes)
        known = tuner(seen(40), failures=Failures(token=Tally(100)))
        assert failed(known.terms, MANUAL_RETRY, MANUAL_RETRY) == []

    def test_that_were_seen_are_told_with_what_policies_make_of_them(self):
        [note] = [note for note in lossy().notes if "Of what joins asked" in note]
        assert "one request for a token in 8.3 failed (30 of 250)" in note
        assert "one connection to LiveKit in 8.3 failed (24 of 200)" in note
        assert "manual_retry retries errors 0 times and tries a connection 1 times" in note
        assert f"tuned retries errors {lossy().tuned.error_retries} times and tries a connection 3 times" in note
        assert not any("not known" in note for note in lossy().notes)
        assert lossy().terms.failures == LOSSY

    def test_lose_joins_of_todays_rule_and_hardly_any_of_the_tuned(self):
        """One in eight requests, and one in eight connections: who asks once gets in with .88 times .88 of the chance;
        who asks in several rounds is lost by a failure in any."""
        today, tuned = (lossy().replayed(name).numbers["lost_share"].value for name in ("manual_retry", "tuned"))
        before = usual().replayed("manual_retry").numbers["lost_share"].value
        assert 0.2 < today - before < 0.33
        assert tuned < 0.02
        assert lossy().policy.name in ("tuned", "simple")

    def test_leave_the_tuned_enough_requests_and_no_more_than_a_window_has(self):
        calm, more = usual().tuned.max_requests, lossy().tuned.max_requests
        assert calm < more <= lossy().terms.allowance.per_window


class TestStrata:
    def test_hosts_that_differ_are_named_and_warned_of(self):
        slow = seen(60, seed=6, slower=8.0, target="https://slow.example/api/v1/nests")
        found = recommend(together(seen(60), slow), draws=40)
        assert [(one.kind, one.name, one.n) for one in found.strata] == [
            ("host", "nests.example", 60),
            ("host", "slow.example", 60),
        ]
        quick, slowly = found.strata
        assert quick.p == slowly.p < 0.01
        assert quick.threshold_s < slowly.threshold_s
        assert quick.give_up_age_s < slowly.give_up_age_s
        assert max(quick.regret, slowly.regret) > 0.05
        assert any(re.search(r"would differ for: host nests\.example", note) for note in found.notes)

    def test_hours_that_differ_are_named(self):
        noon = seen(45)
        late = seen(45, seed=6, slower=8.0)
        late = late.assign(origin_at=late["origin_at"] + pd.Timedelta(hours=5))
        assert [(one.kind, one.name) for one in strata(together(noon, late))] == [("hour", "0"), ("hour", "5")]

    def test_that_do_not_differ_are_not_named(self):
        same = seen(50, seed=6, target="https://other.example/api/v1/nests")
        assert strata(together(seen(50), same)) == ()

    def test_seen_by_few_are_named_though_nothing_is_tuned_on_them(self):
        few = seen(15, seed=6, slower=20.0, target="https://slow.example/api/v1/nests")
        assert [(one.kind, one.name) for one in strata(together(seen(40), few))] == [("host", "nests.example")]
        found = recommend(together(seen(40), few), draws=20)
        [note] = [note for note in found.notes if note.startswith("Delays differ by host")]
        assert "1 of 2 groups have fewer than 20 rows" in note

    def test_of_many_small_cells_are_tested_together(self):
        """Evenings six times as slow, ten nests an hour: no hour could be tuned on."""
        hours = [seen(10, seed=hour, slower=6.0 if hour >= 18 else 1.0) for hour in range(24)]
        apart = [one.assign(origin_at=one["origin_at"] + pd.Timedelta(hours=h)) for h, one in enumerate(hours)]
        found = strata(together(*apart))
        assert [(one.kind, one.name) for one in found if one.kind == "hours"] == [
            ("hours", f"{part:02} to {part + 5:02}") for part in (0, 6, 12, 18)
        ]
        *usual_hours, evening = (one for one in found if one.kind == "hours")
        assert evening.threshold_s > max(one.threshold_s for one in usual_hours)
        assert evening.differs

    def test_of_vantages_that_differ_are_said_and_not_pooled_in_silence(self):
        near = seen(40)
        ends = {end: near[end] + 3.0 for end in ("lower_s", "upper_s")}
        far = near.assign(vantage="B", **ends)
        found = recommend(pd.concat([near, far], ignore_index=True), draws=20)
        [note] = [note for note in found.notes if note.startswith("Delays differ by vantage")]
        assert re.search(r"by themselves the message thresholds were: A \d+ s, B \d+ s", note)
        same = recommend(pd.concat([near, near.assign(vantage="B")], ignore_index=True), draws=20)
        assert not any("Delays differ" in note for note in same.notes)

    def test_of_vantages_make_no_difference_of_a_nest(self):
        """Two vantages see the same nests; no more certainty of a host's delays comes from that."""
        table = together(seen(40), seen(40, seed=6, target="https://other.example/api/v1/nests"))
        both = pd.concat([table, table.assign(vantage="B")], ignore_index=True)
        p = []
        for each in (table, both):
            delays = joinable(each)
            law = npmle(delays["lower_s"].to_numpy(), delays["upper_s"].to_numpy())
            p.append(differ(scores(law), delays["unit"].to_numpy(), delays["host"].to_numpy(str)))
        assert p[0] == pytest.approx(p[1], rel=1e-6)

    def test_without_a_difference_have_an_even_p(self):
        """300 sets of nests dealt out to two or three groups at random: Kolmogorov and Smirnov see no other law."""
        draws, found = rng(), []
        law = npmle(*observe(LOGNORMAL.draw(120, draws), draws))
        units = np.arange(120)
        for number in range(300):
            label = draws.integers(0, 2 + number % 2, 120).astype(str)
            found.append(differ(scores(law), units, label))
        assert stats.kstest(found, "uniform").pvalue > 0.01

    def test_with_a_difference_have_a_small_p(self):
        draws = rng()
        delays = np.concatenate([LOGNORMAL.draw(60, draws), 3.0 * LOGNORMAL.draw(60, draws)])
        law = npmle(*observe(delays, draws))
        assert differ(scores(law), np.arange(120), np.repeat(["a", "b"], 60)) < 0.001

    def test_of_one_group_or_without_spread_have_none(self):
        law = npmle(np.full(40, 1.0), np.full(40, 2.0))
        assert differ(scores(law), np.arange(40), np.repeat(["a", "b"], 20)) == 1.0
        assert differ(scores(npmle(*observe(LOGNORMAL.draw(40, rng()), rng()))), np.arange(40), np.full(40, "a")) == 1


class TestJudging:
    def test_parts_are_whole_blocks_in_the_order_of_time(self):
        labels = np.repeat([7, 3, 9, 1, 4, 8, 2], [3, 1, 5, 2, 2, 1, 4])
        part = time_parts(labels, 3)
        assert (np.diff(part) >= 0).all()
        assert sorted(set(part)) == [0, 1, 2]
        for label in set(labels):
            assert len(set(part[labels == label])) == 1
        blocks = [len(set(labels[part == number])) for number in range(3)]
        assert max(blocks) - min(blocks) <= 1

    def test_parts_are_no_more_than_blocks(self):
        assert time_parts(np.array([5, 5, 2]), 5).tolist() == [0, 0, 1]
        assert time_parts(np.zeros(4, dtype=np.int64), 5).tolist() == [0, 0, 0, 0]

    def test_parts_hold_a_block_together_whose_rows_lie_among_others(self):
        part = time_parts(np.array([0, 1, 0, 1, 2, 2, 0]), 3)
        assert part.tolist() == [0, 1, 0, 1, 2, 2, 0]

    def test_of_a_part_is_by_policies_that_have_not_seen_it(self):
        """Two sets that differ in the first part only: for that part the same policies, for the others not."""
        used = []
        for slower in (1.0, 6.0):
            table = pd.concat([seen(20, slower=slower), seen(80, seed=6)], ignore_index=True)
            table = table.assign(
                trace_id=[f"nest-{number}" for number in range(100)],
                origin_at=pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(100), unit="min"),
            )
            made = tuner(table)
            smooth = made_law(tuner(seen(100)))
            arena = Watched(recorded(made.delays, rng(), law=smooth), made.terms, 20, rng())
            made.crossfit(arena, smooth, np.arange(100))
            used.append(arena.used)
        first, other = used
        assert len(first) == len(other) == 10
        for (mine, policy), (same, changed) in zip(first, other, strict=True):
            assert mine == same
            assert (policy == changed) == (mine[0] == 0)
        assert [rows for rows, _ in first] == [list(range(20 * (k // 2), 20 * (k // 2) + 20)) for k in range(10)]

    def test_is_the_same_wherever_resamples_are_fitted(self):
        told = []
        with ThreadPoolExecutor(2) as executor:
            ways = {"cost_ratio": 0.6, "arrivals": [0.0, 3.0, 9.0], "executor": executor}
            found = recommend(seen(40), draws=40, progress=told.append, **ways)
        assert found.as_dict() == few().as_dict()
        assert len(told) == 5
        assert "resampling it 40 times" in told


def test_the_sharing_age_is_that_of_the_slowest_vantage():
    fast, slow, never = (
        timelines(np.tile([0.0, low], 20), np.tile([1.0, high], 20)).assign(vantage=name)
        for name, low, high in (("fast", 1.0, 2.0), ("slow", 4.0, 6.0), ("never", 4.0, INF))
    )
    for tables, age in (([fast], 1.9), ([fast, slow], 5.8), ([fast, never], INF)):
        assert tuner(pd.concat(tables))._sharing()[0.95].value == pytest.approx(age)


class Watched(Arena):
    """An arena that remembers which nests were played by which policy."""

    def __init__(self, *given):
        super().__init__(*given)
        self.used = []

    def play(self, policy, nests=None):
        self.used.append((nests.blocks.tolist(), policy))
        return super().play(policy, nests)


@pytest.mark.parametrize(("n", "width", "more"), [(100, 20.0, 300), (100, 10.0, 0), (100, 5.0, 0), (80, 12.0, 36)])
def test_an_interval_narrows_with_the_root_of_the_nests(n, width, more):
    assert more_for_width(n, width, 10.0) == more
