"""What is written down: the row, the nest it speaks of, windows of time, columns of many rows. Pure.

`COLUMNS` documents the columns of `nestobs.observations`; imported when first asked for, as a duration needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nestobs.observation.schema import COLUMNS as COLUMNS


def __getattr__(name: str) -> object:
    if name != "COLUMNS":
        raise AttributeError(f"module 'nestobs.observation' has no attribute {name!r}")
    from nestobs.observation.schema import COLUMNS

    return COLUMNS
