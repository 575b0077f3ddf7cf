"""What an observer that was held up cannot say: the machine's own slowness is no finding about what it observed.

Instants are stamped when they are, on a busy machine too, so an interval stays true however late the loop runs, and
what may have come and gone in the meantime bounds nothing (timeline/intervals/proofs.py). But joins take longer than
the deployment made them, which forbids to judge a prediction.
"""

from __future__ import annotations

from typing import Final

import pandas as pd

from nestobs.observation.columns import equals
from nestobs.observation.schema import Failure
from nestobs.timeline.intervals.polls import held_up as held_up_ourselves
from nestobs.timeline.omissions import MOST_HELD_UP

MUCH: Final = MOST_HELD_UP
"""Above this share of polls held up, what was predicted of joins is not judged by them."""


def held_up(observations: pd.DataFrame) -> float:
    """The share of planned attempts that were skipped, or made while the observer was held up; 0.0 without any."""
    planned = observations["planned_at"].notna().to_numpy(bool)
    held = held_up_ourselves(observations) | equals(observations["failure"], Failure.SKIPPED)
    return float(held[planned].mean()) if planned.any() else 0.0
