"""The odds between a late room and a failing API: by time, and as nests show them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from nestobs.diagnosis.priors import DEFAULT, UNDECIDED_AT_MOST, Priors, measured

DAY = (0.0, 0.5, 2.0, 8.0, 20.0, 62.0, 3_600.0)


def test_the_law_is_lognormal():
    law = Priors(lag_median_s=4.0, lag_sigma=1.0)
    assert law.later_than(4.0) == pytest.approx(0.5)
    assert law.later_than(4.0 * math.e) == pytest.approx(0.158655, abs=1e-6)
    assert law.later_than(0.0) == 1.0


def test_the_longer_it_lasts_the_likelier_is_the_fault_and_never_is_it_sure():
    odds = [DEFAULT.fault(lag_s, rounds=5) for lag_s in DAY]
    assert odds == sorted(odds)
    assert odds[0] < 0.2
    assert odds[-1] == UNDECIDED_AT_MOST


def test_one_look_tells_no_length_of_time():
    assert DEFAULT.fault(60.0, rounds=1) == DEFAULT.fault(0.0, rounds=5)


def test_by_bayes():
    law = Priors(standing_share=0.2, lag_median_s=4.0, lag_sigma=1.0)
    assert law.fault(4.0, rounds=3) == pytest.approx(0.2 / (0.2 + 0.8 * 0.5))


def line(nest: int, layer: str, lower_s: float, upper_s: float) -> dict[str, object]:
    return {"nest": f"30312:ab:{nest}", "room": str(nest), "layer": layer, "lower_s": lower_s, "upper_s": upper_s}


def table(lags_s, stuck: int = 0) -> pd.DataFrame:
    rows = []
    for number, lag_s in enumerate(lags_s):
        rows += [line(number, "api:info", 0.0, 1.0), line(number, "api:guest", 1.0 + lag_s / 2, 1.0 + lag_s)]
    for number in range(stuck):
        nest = 10_000 + number
        rows += [line(nest, "api:info", 0.0, 1.0), line(nest, "livekit:room", 0.0, 0.5)]
        rows += [line(nest, way, 80.0, math.inf) for way in ("api:join", "api:guest")]
    return pd.DataFrame(rows, columns=["nest", "room", "layer", "lower_s", "upper_s"])


def test_nests_tell_the_law_and_the_share():
    lags_s = np.exp(np.random.default_rng(1).normal(math.log(6.0), 0.7, 2_000))
    found = measured(table(lags_s, stuck=500))
    assert found.lag_median_s == pytest.approx(6.0, rel=0.08)
    assert found.lag_sigma == pytest.approx(0.7, rel=0.08)
    assert found.standing_share == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("few", [[], [0.1] * 50, [5.0] * 9])
def test_too_few_that_were_late_tell_nothing(few):
    assert measured(table(few)) == DEFAULT
