"""The odds between two readings of one picture, where nothing that was observed decides.

`/info` is active and both joins answer 404. Either LiveKit's room is late (the record came first: time heals it) or the
API fails every join (nothing heals it). After t seconds of that

    P(fault | t) = p / (p + (1 - p) S(t)),    S(t) = P(the room is later than t, given that it is late at all)

where p is the share of standing faults among the nests that are found so at first. S is lognormal (median, sigma): it
is the same law as other delays between the parts of a nest, whose defaults the lab has from released clients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

UNDECIDED_AT_MOST: Final = 0.85
"""Where no evidence decides, no reading is held more surely than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """What is known beforehand. Replace the defaults by what a deployment's own nests showed.

    standing_share: of nests whose /info is active while joins answer 404, how many have a standing fault. Default .3:
    two of the seven releases of the API that are known had one. lag_median_s, lag_sigma: the law of how much later than
    the record a room is, where it is late. Default 2.5 s and 1.2: the lab's scenarios, half of them under 2.5 s and one
    in fifty over 30 s. lived_s: by which age an empty room has ended (LiveKit's empty timeout: 180 to 1 800 s).
    """

    standing_share: float = 0.3
    lag_median_s: float = 2.5
    lag_sigma: float = 1.2
    lived_s: float = 300.0

    def later_than(self, lag_s: float) -> float:
        """S(t)."""
        if lag_s <= 0.0:
            return 1.0
        return 0.5 * math.erfc(math.log(lag_s / self.lag_median_s) / (self.lag_sigma * math.sqrt(2.0)))

    def fault(self, lag_s: float, rounds: int = 1) -> float:
        """P(fault | the joins answered 404 for so long while /info was active), never surer than UNDECIDED_AT_MOST.

        rounds: how often they did; a single look says less than its age.
        """
        late = (1.0 - self.standing_share) * self.later_than(lag_s if rounds > 1 else min(lag_s, self.lag_median_s))
        found = self.standing_share / (self.standing_share + late)
        return min(UNDECIDED_AT_MOST, max(1.0 - UNDECIDED_AT_MOST, found))


DEFAULT: Final = Priors()
