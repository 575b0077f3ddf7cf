"""What an observer that was held up cannot say: the machine's own slowness is no finding about what it observed.

Instants are stamped when they are, on a busy machine too, so an interval stays true however late the loop runs. But
polls are skipped or sent late, and what came and went in the meantime is not seen; and joins take longer than the
deployment made them. The first excuses one kind of miss of the truth, the second forbids to judge a prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pandas as pd

from nestobs.observation.columns import equals
from nestobs.observation.schema import Failure
from nestobs.timeline.intervals.polls import held_up as held_up_ourselves
from nestobs.timeline.omissions import MOST_HELD_UP

MUCH: Final = MOST_HELD_UP
"""Above this share of polls held up, what was predicted of joins is not judged by them."""

_HELD: Final = [Failure.SKIPPED, Failure.LOOP_BLOCKED, Failure.SUSPENDED]


def held_up(observations: pd.DataFrame) -> float:
    """The share of planned attempts that were skipped, or made while the observer was held up; 0.0 without any."""
    planned = observations["planned_at"].notna().to_numpy(bool)
    held = held_up_ourselves(observations) | equals(observations["failure"], Failure.SKIPPED)
    return float(held[planned].mean()) if planned.any() else 0.0


def contradictions(
    judged: pd.DataFrame, truth: Iterable[Mapping[str, Any]], observations: pd.DataFrame
) -> pd.DataFrame:
    """The rows of `coverage` that miss the truth, but for those that an observer who was held up could not know of.

    That is: a layer came and went, no poll proved it, and meanwhile the same vantage was held up.
    """
    came: dict[tuple[str, str], int] = {}
    went: dict[tuple[str, str], int] = {}
    for row in truth:
        key = (row["room"], row["layer"])
        if row["change"] == "shown":
            came[key] = min(row["now_at"], came.get(key, row["now_at"]))
        elif row["change"] == "gone":
            went[key] = max(row["not_yet_at"], went.get(key, row["not_yet_at"]))
    held = observations[observations["failure"].isin(_HELD)]
    spans = held.assign(until=held["received_at"].fillna(held["sent_at"]))

    def excused(row: Any) -> bool:
        key = (row.room, row.layer)
        if not math.isinf(row.upper_s) or key not in came or key not in went:
            return False
        mine = spans[spans["vantage"] == row.vantage]
        return bool(((mine["until"] >= came[key]) & (mine["sent_at"] <= went[key])).any())

    missed = judged[judged["contains"].eq(False).fillna(value=False).to_numpy(dtype=bool)]
    return missed[[not excused(row) for row in missed.itertuples()]]
