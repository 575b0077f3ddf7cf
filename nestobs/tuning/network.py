"""A network that fails as often as was measured (timeline/failures.py), by chance, for joins in virtual time. Pure.

Failures are taken to be independent of each other, of the nest and of the time. An outage is none of that.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from nestobs.join.flow import Guest, Info, Join, Reply, Signal
from nestobs.observation.arrays import Floats
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Outcome
from nestobs.timeline.failures import KINDS, Failures, Tally

CHANCES: Final = 3
"""Uniform numbers that a request takes: its own fate, how many connections with its token fail, and how."""

_MOST_LOST: Final = 100_000


def drawn_shares(failures: Failures, rng: np.random.Generator, size: int) -> Floats:
    """Shares as they may truly be, shape (size, 3): by Jeffreys' posterior, evenly through its quantiles.

    A kind of which none failed stays at 0.
    """
    from scipy import special  # whoever only reads courses does not wait for it

    found = np.zeros((size, len(KINDS)))
    for column, kind in enumerate(KINDS):
        tally: Tally = getattr(failures, kind)
        if tally.failed:
            evenly = (rng.permutation(size) + 0.5) / size
            found[:, column] = special.betaincinv(tally.failed + 0.5, tally.asked - tally.failed + 0.5, evenly)
    return found


class Network:
    """What becomes of each request of one join, and of each connection to LiveKit, by chance.

    A request takes its chances when it is made, those of the connections that a token of it would lead to as well. So
    two joins that make the same requests with the same chances fare alike, whatever the nest answers.
    """

    def __init__(
        self,
        failures: Failures,
        rng: np.random.Generator,
        *,
        shares: tuple[float, ...] | None = None,
        first: Floats | None = None,
    ) -> None:
        """shares: of each of KINDS, instead of the measured ones. first: shape (k, CHANCES), uniform numbers for the
        first k requests; `rng` gives the rest."""
        self.failures, self.rng = failures, rng
        self.shares = failures.shares() if shares is None else shares
        self.first = [] if first is None else first.tolist()
        self.made = 0
        self.lost = 0
        """So many connections with the last token fail before one succeeds."""
        self._how = 0.0

    def request(self, step: Info | Join | Guest, sent: int, late: int) -> Reply | None:
        """The failure of a request sent at `sent` (ns), of which an answer takes `late`; None: it is answered."""
        fate, lost, self._how = self.first[self.made] if self.made < len(self.first) else self.rng.random(CHANCES)
        self.made += 1
        info, token, signal = self.shares
        self.lost = _lost(signal, lost)
        share, tally = (info, self.failures.info) if isinstance(step, Info) else (token, self.failures.token)
        if fate >= share:
            return None
        how, took_s = _failure(tally, fate / share)
        if how is Failure.RATE_LIMITED:
            return Reply(sent + late, Outcome.REFUSED, 429, how, retry_after_s=tally.retry_after_s)
        took_s = step.timeout_s if how is Failure.TIMEOUT else min(took_s, step.timeout_s)
        return Reply(sent + round(took_s * SECOND_NS), Outcome.UNKNOWN, failure=how)

    def connect(self, step: Signal, sent: int) -> Reply | None:
        """The failure of a connection with the last token; None: it succeeds."""
        if not self.lost:
            return None
        self.lost -= 1
        how, took_s = _failure(self.failures.signal, self._how)
        took_s = step.timeout_s if math.isnan(took_s) else min(took_s, step.timeout_s)
        return Reply(sent + round(took_s * SECOND_NS), Outcome.UNKNOWN, failure=how)


def _lost(share: float, chance: float) -> int:
    """How many fail before one succeeds: at least k of them with probability share**k."""
    if chance >= share:
        return 0
    if share >= 1.0 or chance <= 0.0:
        return _MOST_LOST
    return min(_MOST_LOST, int(math.log(chance) / math.log(share)))


def _failure(tally: Tally, chance: float) -> tuple[Failure, float]:
    """How one fails, and seconds it takes, NaN where what it takes is not its own; `chance` in [0, 1).

    Where none failed, as a reset at once.
    """
    place = chance * tally.failed
    if place < tally.timed_out:
        return Failure.TIMEOUT, math.nan
    if place < tally.timed_out + tally.limited:
        return Failure.RATE_LIMITED, math.nan
    if not tally.broken_s:
        return Failure.RESET, 0.0
    rest = (place - tally.timed_out - tally.limited) / max(tally.broken, 1)
    return Failure.RESET, tally.broken_s[min(int(rest * len(tally.broken_s)), len(tally.broken_s) - 1)]
