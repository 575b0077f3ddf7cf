"""The share of attempts that were held up by the machine's own slowness."""

from __future__ import annotations

import pandas as pd

from nestobs.observation.schema import Failure
from nestobs.trial.held_up import held_up

S = 1_000_000_000


def observations(*rows):
    names = ["vantage", "planned_at", "sent_at", "received_at", "failure", "loop_lag_s"]
    frame = pd.DataFrame(rows, columns=names).astype({"planned_at": "Int64", "received_at": "Int64"})
    at = {name: frame[name] * S for name in ("sent_at", "received_at")}
    return frame.assign(**at, run_id="run", source="api")


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
