"""The lab's own clock, so that ground truth shares no code with the observer's clock."""

from __future__ import annotations

import time
from typing import Final

SECOND_NS: Final = 1_000_000_000
"""A second of an instant, said once more: the lab is below what observes it."""


class LabClock:
    """UTC in integer nanoseconds: one wall-clock anchor plus the monotonic clock.

    Never steps back and ignores steps of the wall clock after it was made. `elapsed_s` counts from the making.
    """

    def __init__(self) -> None:
        self._started = time.monotonic_ns()
        self._offset = time.time_ns() - self._started

    @property
    def began_at(self) -> int:
        """When the clock was made, ns UTC."""
        return self._started + self._offset

    def now_at(self) -> int:
        """This instant, ns UTC."""
        return time.monotonic_ns() + self._offset

    def elapsed_s(self) -> float:
        """Seconds since the clock was made."""
        return (time.monotonic_ns() - self._started) / SECOND_NS

    def wall_s(self, skew_s: float = 0.0) -> float:
        """This instant as float seconds since the epoch, shifted by a server's skew."""
        return self.now_at() / SECOND_NS + skew_s
