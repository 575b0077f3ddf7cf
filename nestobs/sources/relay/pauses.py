"""How long to wait before a relay is tried again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 10.0
SETTLED_S: Final = 10.0
"""A connection that lived this long starts the pauses over; a relay that drops us at once does not."""


FIRST_FLOOD_PAUSE_S: Final = 30.0
LONGEST_FLOOD_PAUSE_S: Final = 600.0


def flood_pauses() -> Iterator[float]:
    """Seconds to wait before a relay that was cut off is tried again: doubling from 30 to 600."""
    pause = FIRST_FLOOD_PAUSE_S
    while True:
        yield pause
        pause = min(pause * 2, LONGEST_FLOOD_PAUSE_S)


def pauses() -> Iterator[float]:
    """Seconds to wait before each attempt after the first: doubling from 0.25 to 10, each up to a fifth shorter."""
    pause = FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.8, 1.0)
        pause = min(pause * 2, LONGEST_PAUSE_S)
