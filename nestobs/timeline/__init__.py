"""From rows to intervals, joins, incidents and uptime: what happened, not yet what it means. Pure.

`SCHEMA` documents the columns of `nestobs.timelines`; it is imported when first asked for, as it brings pandas in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nestobs.timeline.intervals import SCHEMA as SCHEMA


def __getattr__(name: str) -> object:
    if name != "SCHEMA":
        raise AttributeError(f"module 'nestobs.timeline' has no attribute {name!r}")
    from nestobs.timeline.intervals import SCHEMA

    return SCHEMA
