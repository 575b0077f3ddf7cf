"""What is excused by the machine's own slowness, and what never is: a claim that the truth contradicts."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from nestobs.observation.schema import Failure
from nestobs.trial.held_up import contradictions, held_up

S = 1_000_000_000


def observations(*rows):
    names = ["vantage", "planned_at", "sent_at", "received_at", "failure", "loop_lag_s"]
    frame = pd.DataFrame(rows, columns=names).astype({"planned_at": "Int64", "received_at": "Int64"})
    at = {name: frame[name] * S for name in ("sent_at", "received_at")}
    return frame.assign(**at, run_id="run", source="api")


def judged(*, contains=False, upper_s=math.inf):
    row = {"room": "r", "layer": "api:guest", "vantage": "A", "contains": contains, "upper_s": upper_s}
    return pd.DataFrame([row | {"cause": "too late"}]).astype({"contains": "boolean"})


CAME_AND_WENT = [
    {"room": "r", "layer": "api:guest", "change": "shown", "not_yet_at": 1 * S, "now_at": 2 * S},
    {"room": "r", "layer": "api:guest", "change": "gone", "not_yet_at": 12 * S, "now_at": 13 * S},
]
BLOCKED = ("A", None, 5, 7, Failure.LOOP_BLOCKED, 2.0)


def test_what_came_and_went_while_the_observer_was_held_up_is_no_contradiction():
    assert contradictions(judged(), CAME_AND_WENT, observations(BLOCKED)).empty
    skipped = ("A", 5, 5, None, Failure.SKIPPED, 0.0)
    assert contradictions(judged(), CAME_AND_WENT, observations(skipped)).empty


@pytest.mark.parametrize(
    ("miss", "truth", "row"),
    [
        (judged(), CAME_AND_WENT, ("A", None, 5, 6, None, 0.0)),  # nothing held it up
        (judged(), CAME_AND_WENT, ("B", None, 5, 7, Failure.LOOP_BLOCKED, 2.0)),  # somebody else was
        (judged(), CAME_AND_WENT, ("A", None, 20, 30, Failure.LOOP_BLOCKED, 2.0)),  # only when it was gone
        (judged(), CAME_AND_WENT[:1], BLOCKED),  # it is there still, and was not seen
        (judged(upper_s=1.5), CAME_AND_WENT, BLOCKED),  # seen, at a wrong time
        (judged(), [], BLOCKED),  # seen, and never there
    ],
)
def test_everything_else_that_misses_the_truth_is_one(miss, truth, row):
    assert len(contradictions(miss, truth, observations(row))) == 1


@pytest.mark.parametrize("contains", [True, None])
def test_what_holds_or_cannot_be_judged_is_none(contains):
    assert contradictions(judged(contains=contains), [], observations(BLOCKED)).empty


def test_the_share_held_up_is_of_planned_attempts():
    rows = observations(
        ("A", 1, 1, 2, None, 0.0),
        ("A", 2, 2, 3, None, 0.7),
        ("A", 3, 3, None, Failure.SKIPPED, 0.0),
        ("A", 4, 4, 5, Failure.TIMEOUT, 0.1),
        ("A", None, 4, 5, None, 9.0),
    )
    assert held_up(rows) == 0.5
    assert held_up(rows.iloc[:0]) == 0.0
