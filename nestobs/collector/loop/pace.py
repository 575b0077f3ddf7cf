"""How many nests are under way at a time, fitted to how late our own event loop runs.

A nest costs processor time. On a machine that is busy the loop runs late: answers that came are read after their
timeout, polls are skipped, and what is observed says more of us than of the deployment. So the number of nests at a
time is controlled as TCP controls what it has in flight (Chiu and Jain 1989), with the loop's lag as the sign of too
much. By the worst lag of the last `LOOK_BACK_S`, every `LOOK_S` while a nest waits to begin:

    lag > LATE_S    narrower: three quarters of those under way, at least 1
    lag < CALM_S    wider by 1, where all places are taken
    else            as it was

Nests under way are never cut short; new ones wait, in the order in which they were due. There is always one place, so
every run comes to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from nestobs.observation.duration import SECOND_NS
from nestobs.sources.vantage import Vantage

WIDTH: Final = 8
"""Nests at a time before anything is known of the machine."""

LOOK_S, LOOK_BACK_S = 0.5, 2.0
CALM_S, LATE_S = 0.1, 0.25
"""An attempt is marked as disturbed when the loop was blocked for twice LATE_S (`clock.LAG_S`): it should not come to
that."""

NARROWER: Final = 0.75


@dataclass(slots=True)
class Pace:
    """The places of one event loop: campaigns that run in it at a time share one Pace.

    `width`: nests that may be under way; `under_way`: those that are; `narrowest`: the least width so far.
    """

    width: int = WIDTH
    under_way: int = 0
    narrowest: int = WIDTH
    _door: asyncio.Lock = field(default_factory=asyncio.Lock)
    _next_look: int = 0

    def look(self, lag_s: float) -> None:
        """Fit the width to the worst lag of late, seconds."""
        if lag_s > LATE_S:
            self.width = max(1, int(self.under_way * NARROWER))
            self.narrowest = min(self.narrowest, self.width)
        elif lag_s < CALM_S and self.under_way >= self.width:
            self.width += 1

    @asynccontextmanager
    async def place(self, vantage: Vantage) -> AsyncIterator[None]:
        """Wait for a place, first come first served, and keep it until the block is left."""
        clock = vantage.clock
        async with self._door:  # one looks, the others queue behind
            while self.under_way >= self.width or clock.now() >= self._next_look:
                await clock.until(self._next_look)
                self._next_look = (now := clock.now()) + round(LOOK_S * SECOND_NS)
                self.look(vantage.watch.lag_s(now - round(LOOK_BACK_S * SECOND_NS)))
            self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
