"""What a timeline takes from rows of other nests, as a value: so that some nests can be looked at by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pandas as pd

from nestobs.timeline.intervals import compared as clocks
from nestobs.timeline.intervals import down as livekit
from nestobs.timeline.intervals.compared import Compared
from nestobs.timeline.intervals.down import Down

NEEDED: Final = tuple(dict.fromkeys([*livekit.NEEDED, *clocks.NEEDED]))
"""The columns of observations that `elsewhere` reads."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """down: when LiveKit could not be reached. compared: with what each run's clock was."""

    down: Down
    compared: Compared

    def within(self, start: int, end: int) -> Elsewhere:
        """What tells of rows that were under way in [start, end), ns."""
        return Elsewhere(livekit.within(self.down, start, end), clocks.within(self.compared, start, end))


def elsewhere(observations: pd.DataFrame) -> Elsewhere:
    """What rows of whatever nests tell."""
    return Elsewhere(livekit.down(observations), clocks.compared(observations))
