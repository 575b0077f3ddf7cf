"""Durations: float seconds everywhere; how many nanoseconds of an instant a second is."""

from __future__ import annotations

from typing import Final

SECOND_NS: Final = 1_000_000_000
"""A second, in the integer nanoseconds of instants."""
