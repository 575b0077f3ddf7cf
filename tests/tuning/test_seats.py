"""When to fall back to a guest's seat, tuned on nests whose truth is known: near what can be computed by hand."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from nestobs.join.policy import SEATS, fixed
from nestobs.timeline.delays import joinable
from nestobs.tuning.costs import Prices
from nestobs.tuning.decisions import FALLBACK_AGES_S, UPGRADES, Allowance, Terms, seated
from nestobs.tuning.imputation import recorded
from nestobs.tuning.tuner import recommend
from worlds.fresh_nests import rng
from worlds.simulated import observe, timelines

pytestmark = pytest.mark.slow

GAP_S = 0.25
POLLING = replace(
    fixed(GAP_S), ask_info=False, fault_after_s=None, give_up_age_s=60.0, horizon_s=90.0, max_requests=500
)
LAWS = {
    "early": stats.lognorm(0.9, scale=1.5),
    "middling": stats.lognorm(0.9, scale=4.0),
    "late": stats.lognorm(0.9, scale=30.0),
    "soon or never": stats.lognorm(2.5, scale=3.0),
}


def observed(guest, own, seed=5, polls=150):
    """Nests whose guest's route comes at these ages and whose authenticated one at those, as they were watched."""
    draw = rng(seed)
    routes = {"api:guest": guest, "api:join": own}
    tables = [timelines(*observe(ages, draw, polls=polls)).assign(layer=layer) for layer, ages in routes.items()]
    return pd.concat(tables, ignore_index=True)


def terms(**prices):
    given = Prices(0.0, 1.0, **{"lost_value": 15.0, "listener_share": 1.0} | prices)
    return Terms(arrivals=np.array([0.0]), prices=given, allowance=Allowance(requests=10**6))


def by_hand(law, age_s, asks_on_s=0.0, lost_value=15.0):
    """Of who asks without pause for a seat of their own until that age, then from a guest's for so long: the mean wait,
    the mean time as a guest of those who then have their own, and what the others lack."""
    until_s = age_s + asks_on_s
    listening = integrate.quad(lambda t: (t - age_s) * law.pdf(t), age_s, until_s)[0]
    return integrate.quad(law.sf, 0.0, age_s)[0] + listening + lost_value * law.sf(until_s)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_the_tuned_age_is_near_the_optimum_by_hand(law):
    n = 400
    own = law.ppf((rng().permutation(n) + 0.5) / n)
    nests = recorded(joinable(observed(np.full(n, 0.01), 0.02 + own)), rng())
    found = seated(POLLING, nests, terms())
    waits_s = max(found.fallback_age_s, GAP_S * (found.fallback_tries - 1))
    ages, asks_on_s = np.linspace(0.0, 60.0, 241), UPGRADES * GAP_S
    best = min(by_hand(law, age, more) for age in ages for more in (0.0, asks_on_s))
    assert by_hand(law, waits_s, GAP_S * found.upgrades) <= 1.05 * best + GAP_S
    worst = max(by_hand(law, age) for age in (0.0, *FALLBACK_AGES_S, 60.0))
    assert best < 0.8 * worst  # it could have been otherwise


def test_where_a_listeners_seat_lacks_less_it_is_taken_and_asked_on_from():
    own = LAWS["middling"].rvs(400, random_state=rng())
    nests = recorded(joinable(observed(np.full(400, 0.01), 0.02 + own)), rng())
    patient = replace(POLLING, schedule=fixed(1.0).schedule)
    assert seated(patient, nests, terms(lost_value=60.0, listener_share=0.25)).upgrades == UPGRADES
    assert seated(patient, nests, terms(lost_value=60.0, listener_share=0.0)) == patient  # as good as any


def test_a_recommendation_says_what_seats_change_on_nests_it_was_not_chosen_on():
    guest = rng().uniform(0.0, 1.0, 120)
    own = guest + LAWS["early"].rvs(120, random_state=rng())
    found = recommend(observed(guest, own), draws=100, arrivals=[0.0, 1.0, 2.0])
    [note] = [one for one in found.notes if "guest's route" in one]
    assert re.search(r"[+-]\d+\.\d\d s a joiner, 95 % -\d+\.\d\d to -\d+\.\d\d", note), note
    for policy in (found.tuned, found.simple):
        assert policy.seat_words
        assert policy.seat_words in policy.words
        assert policy.seat_words in note
    assert found.tuned.seat_words in "\n".join(found.lines())
    then, at_once = (float(share) for share in re.findall(r"([\d.]+) %", note.split("chosen on)")[1]))
    assert then < at_once


def test_where_both_routes_share_one_law_nothing_changes():
    ages = LAWS["middling"].rvs(60, random_state=rng())
    found = recommend(observed(ages, ages), draws=40)
    assert [one for one in found.notes if "guest's route" in one] == []
    for policy in (found.tuned, found.simple):
        assert {name: getattr(policy, name) for name in SEATS} == dict(SEATS)
    assert math.isclose(found.replays[0].scores.listening.sum(), 0.0)
