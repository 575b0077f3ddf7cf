"""When 404s beside an active /info are a fault: on nests whose lags are known, some of which stand in a fault."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

from nestobs.join.policy import FAULT_AFTER_S, Policy, Schedule
from nestobs.tuning import tuner
from nestobs.tuning.costs import Prices
from nestobs.tuning.fault import FAULT_RATIO, FAULT_RATIOS, LEAST_LAGS, Faults, after, faults
from nestobs.tuning.policy_file import dumps, loads
from nestobs.tuning.replay import PRICES
from nestobs.tuning.simulation import course
from nestobs.tuning.tuner import recommend
from worlds.fresh_nests import EVENLY, rng, seen

INF = math.inf


def with_info(table, *, record=False):
    """Nests whose /info was active and whose room LiveKit listed at once. record: /info is as late as the joins."""
    there = {"lower_s": 0.1, "upper_s": 0.2, "seen_until_s": 90.0}
    info = table.assign(layer="api:info", **({} if record else there))
    return pd.concat([table, info, table.assign(layer="livekit:room", **there)], ignore_index=True)


def with_standing(n, stood, *, record=False):
    """n nests of the lognormal truth, of which no join of the last `stood` ever got in."""
    table = seen(n)
    late = with_info(table.iloc[:-stood], record=record)
    refused = table.iloc[-stood:].assign(lower_s=90.0, upper_s=INF, seen_until_s=np.nan)
    return pd.concat([late, with_info(refused)], ignore_index=True)


def healthy(n):
    """n nests, of which all got in within a minute."""
    table = seen(n)
    return with_info(table[np.isfinite(table["upper_s"])])


@cache
def found():
    """A tuning on two hundred nests whose record was late, and of which twenty stood in a fault."""
    return recommend(with_standing(200, 20, record=True), draws=40)


class TestTheLaw:
    def test_none_is_made_where_no_nest_stands_in_a_fault(self):
        assert faults(healthy(100)) is None
        assert faults(seen(100)) is None  # /info was not asked

    def test_a_lag_that_is_longer_than_one_in_a_thousand_is_a_fault(self):
        draws = rng()
        lag = 2.0 * np.exp(0.6 * draws.standard_normal(400))
        table = pd.DataFrame({"lower_s": lag - 0.1, "upper_s": lag + 0.1})
        ages = after(table, 0.1, list(FAULT_RATIOS))
        fresh = 2.0 * np.exp(0.6 * draws.standard_normal(100_000))
        assert all((fresh > age).mean() <= 0.001 for age in ages.values())
        assert ages[FAULT_RATIO] < FAULT_AFTER_S

    @pytest.mark.slow
    @pytest.mark.parametrize("n", [30, 100, 300, 1000])
    @pytest.mark.parametrize("sigma", [0.3, 0.7, 1.2])
    def test_of_few_lags_as_of_many_hardly_ever_calls_more_than_one_race_in_a_thousand_a_fault(self, n, sigma):
        draws = rng()
        over = []
        for _ in range(100):
            lag = np.exp(sigma * draws.standard_normal(n)) * 20.0
            age = after(pd.DataFrame({"lower_s": lag, "upper_s": lag}), 0.5, [FAULT_RATIO])[FAULT_RATIO]
            over.append(float(ndtr(-math.log(age / 20.0) / sigma)))
        assert np.mean(over) <= 0.001

    def test_is_later_the_dearer_a_false_one_and_the_rarer_a_true_one(self):
        lag = 2.0 * np.exp(0.6 * rng().standard_normal(400))
        table = pd.DataFrame({"lower_s": lag - 0.1, "upper_s": lag + 0.1})
        often, seldom = (after(table, share, [10.0, 1e3, 1e5]) for share in (0.3, 0.003))
        assert list(often.values()) == sorted(often.values())
        assert often[1e3] < seldom[1e3] < seldom[1e5]

    def test_is_no_sooner_than_the_longest_lag_that_was_seen(self):
        lag = np.append(np.full(99, 0.5), 41.0)
        ages = after(pd.DataFrame({"lower_s": lag - 0.1, "upper_s": lag}), 0.5, [FAULT_RATIO])
        assert ages[FAULT_RATIO] >= 41.0

    def test_of_too_few_lags_is_what_holds_where_nothing_was_measured(self):
        few = with_standing(40, 39 - LEAST_LAGS // 2)
        told = faults(few)
        assert (set(told.after_s.values()), told.listed_s) == ({FAULT_AFTER_S}, None)
        assert any("60 s is taken" in words for words in told.said())


class TestAsking:
    policy = Policy(name="tuned", ask_info=False, schedule=Schedule("fixed", 3.0), give_up_age_s=60.0, horizon_s=90.0)

    def of(self, share):
        ages = dict.fromkeys((*FAULT_RATIOS, FAULT_RATIO), 8.0)
        late = seen(100)["upper_s"].to_numpy()[None, :]
        stood = round(1000 * share)
        return Faults(nests=1000, standing=stood, lags=900, listed=900, after_s=ages, listed_s=ages, others=late)

    def saved(self, share, prices=PRICES):
        return self.of(share).saved(self.policy, EVENLY, prices, signed_in=True, round_trip_s=0.02)

    def test_pays_where_many_nests_stand_and_not_where_hardly_any_does(self):
        assert self.saved(0.001) < 0 < self.saved(0.3)

    def test_pays_the_more_the_dearer_waiting_in_vain(self):
        assert self.saved(0.1, replace(PRICES, never_cost=0.5)) > self.saved(0.1, replace(PRICES, never_cost=0.05))

    def test_ends_a_join_of_a_standing_fault_after_what_was_measured(self):
        asking = self.of(0.1).policy(self.policy)
        ends = [course(one, 0.0, rng(), active=True).ended for one in (asking, self.policy)]
        assert ends[0] == pytest.approx(3.0 + 8.0, abs=3.5)
        assert ends[1] > 55.0

    def test_of_a_nest_that_is_late_with_its_record_makes_one_request_more_a_round_from_the_second_on(self):
        plain = replace(self.policy, max_requests=500)
        late, usual = (course(one, 0.0, rng()) for one in (self.of(0.1).policy(plain), plain))
        rounds = usual.total // 2
        assert (late.total, late.ended) == (usual.total + rounds - 1, usual.ended)


@pytest.mark.slow
class TestTuning:
    def test_changes_nothing_where_no_standing_fault_was_seen(self):
        came = seen(60)
        came = came[np.isfinite(came["upper_s"])]
        plain, asked = (recommend(table, draws=20).as_dict() for table in (came, with_info(came)))
        assert plain == asked
        assert "faults" not in plain
        assert (plain["policy"]["fault_after_s"], plain["policy"]["info_from"]) == (None, 1)

    def test_asks_info_and_says_when_it_is_a_fault(self):
        told = found()
        assert told.faults.standing >= 20
        for policy in (told.tuned, told.simple):
            assert (policy.ask_info, policy.info_from) == (True, 2)
            assert 0 < policy.fault_after_s == told.faults.after_s[FAULT_RATIO]
        assert told.as_dict()["faults"]["standing"] == told.faults.standing
        assert any("standing fault" in note for note in told.notes)
        assert any("Asking /info from the second round on saves +" in note for note in told.notes)

    def test_what_is_predicted_counts_the_requests_for_info(self, monkeypatch):
        def asks(told):
            return {one.policy.name: one.numbers["requests_per_join"].value for one in told.replays}

        asking, now = found(), asks(found())
        monkeypatch.setattr(tuner, "worth_asking", lambda *_: (None, []))
        silent = asks(recommend(with_standing(200, 20, record=True), draws=40))
        for policy in (asking.tuned, asking.simple):
            assert policy.ask_info
            more = now[policy.name] - silent[policy.name]
            assert 0 < more < 0.5 * silent[policy.name]  # from the second round on, one beside two
        assert now[asking.today.name] == silent[asking.today.name]

    def test_does_not_ask_where_a_request_is_too_dear(self):
        dear = recommend(with_standing(60, 3), draws=20, prices=Prices(20.0, 1.0, 60.0, 0.0))
        assert dear.faults is not None
        assert not dear.tuned.ask_info
        assert any("so it is not asked" in note for note in dear.notes)

    def test_its_file_is_read_back(self):
        file = found().file(found().tuned)
        assert loads(dumps(file)) == file
