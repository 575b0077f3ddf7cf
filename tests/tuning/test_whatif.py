"""What if costs were other: at the tuned point what tuning said, elsewhere what tuning there would say."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from nestobs.estimate.law import LawError
from nestobs.tuning.decisions import Allowance
from nestobs.tuning.recommendation import Recommendation
from nestobs.tuning.replay import PRICES
from nestobs.tuning.tuner import recommend
from nestobs.tuning.whatif import BUDGETS, COST_RATIOS, WhatIf
from worlds.recommended import DRAWS, nests, odd, usual

pytestmark = pytest.mark.slow


@cache
def tight() -> Recommendation:
    """A budget that binds, another cost ratio, other prices."""
    allowance = Allowance(requests=40, joins=20.0, reserve=0.0)
    prices = replace(PRICES, lost_value=120.0)
    return recommend(nests(), draws=DRAWS, allowance=allowance, cost_ratio=0.5, prices=prices)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["usual", "tight", "none stayed away", "mostly censored", "exact"])
def test_at_the_tuned_point_it_is_what_tuning_said(which: str) -> None:
    found = tight() if which == "tight" else odd()[which]
    answer = WhatIf(found).at()
    assert answer.threshold_s == found.message_threshold_s
    assert answer.policy == found.tuned
    (chosen,) = found.front[found.front["chosen"]].to_dict("records")
    assert (answer.price, answer.give_up_age_s) == (chosen["request_cost"], chosen["give_up_age_s"])
    assert answer.requests == pytest.approx(chosen["requests_per_join"], rel=1e-12)
    assert answer.delay_s == pytest.approx(chosen["mean_delay_s"], rel=1e-12, nan_ok=True)
    assert answer.lost == pytest.approx(chosen["lost_share"], rel=1e-12)
    assert answer.binds == any("The budget binds" in note for note in found.notes)


@pytest.mark.slow
def test_elsewhere_it_is_what_tuning_there_says() -> None:
    answer = WhatIf(usual()).at(0.5, 40, lost_value=120.0)
    there = recommend(nests(), draws=DRAWS, allowance=Allowance(requests=40), cost_ratio=0.5,
                      prices=replace(PRICES, lost_value=120.0))  # fmt: skip
    assert answer.threshold_s == there.message_threshold_s
    assert answer.policy == there.tuned


def test_each_knob_moves_its_own() -> None:
    whatif = WhatIf(usual())
    usual_answer, dear, tight_budget = whatif.at(), whatif.at(1.0), whatif.at(allowed=20)
    assert dear.threshold_s.value < usual_answer.threshold_s.value
    assert dear.policy.schedule == usual_answer.policy.schedule
    assert tight_budget.threshold_s == usual_answer.threshold_s
    assert tight_budget.binds
    assert tight_budget.requests < usual_answer.requests
    assert tight_budget.delay_s > usual_answer.delay_s


def test_along_the_grids_every_answer_is_monotone() -> None:
    whatif = WhatIf(usual())
    thresholds = [whatif.threshold(ratio).value for ratio in COST_RATIOS]
    assert (np.diff(thresholds) <= 0).all()
    requests = [whatif.at(allowed=allowed).requests for allowed in BUDGETS]
    assert (np.diff(requests) >= -1e-9).all()


def test_a_threshold_errs_by_its_two_rates() -> None:
    whatif = WhatIf(usual())
    lenient, strict = whatif.at(0.05), whatif.at(2.0)
    assert lenient.level < strict.level == pytest.approx(2 / 3)
    assert lenient.false_starting >= strict.false_starting
    assert lenient.false_gone <= strict.false_gone


def test_polls_rise_to_the_give_up_age() -> None:
    asked = WhatIf(usual()).at().asked_s
    assert asked[0] == 0.0
    assert (np.diff(asked) > 0).all()
    assert len(WhatIf(usual()).at(allowed=1).asked_s) <= len(asked)


# what would change the answer


def test_today_s_threshold_stays_where_the_interval_holds_it() -> None:
    whatif = WhatIf(usual())
    kept = whatif.keeps_today()
    now = usual().today.message_threshold_s
    for ratio in COST_RATIOS:
        threshold = whatif.threshold(ratio)
        assert (ratio in kept) == (threshold.lower <= now <= threshold.upper)


def test_at_the_break_even_both_cost_the_same() -> None:
    found = usual()
    for one in found.replays[1:]:
        value = WhatIf(found).break_even(one.policy.name)
        if math.isnan(value):
            continue
        more = value - found.terms.prices.lost_value
        costs = [r.cost.value + more * r.numbers["lost_share"].value for r in (one, found.replays[0])]
        assert costs[0] == pytest.approx(costs[1], rel=1e-6)


def test_from_enough_requests_on_more_change_nothing() -> None:
    whatif = WhatIf(usual())
    enough = whatif.enough()
    assert not whatif.at(allowed=enough).binds
    assert whatif.at(allowed=enough).policy.schedule == whatif.at(allowed=10 * enough).policy.schedule
    assert whatif.at(allowed=max(1, enough - 2)).binds


@pytest.mark.parametrize(
    "how", [{"cost_ratio": 0.0}, {"cost_ratio": math.nan}, {"allowed": 0}, {"lost_value": math.inf}]
)
def test_what_is_no_cost_is_an_error(how: dict[str, float]) -> None:
    with pytest.raises(LawError):
        WhatIf(usual()).at(**how)
