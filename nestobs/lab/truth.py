"""Ground truth: when each layer really showed each nest, as brackets of the lab's own clock.

A bracket (not_yet_at, now_at] is two stamps around one act: immediately before it the layer did not show the nest,
immediately after it did. Every measured interval must overlap it. Rows are JSON lines, flushed one by one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Change: TypeAlias = Literal["shown", "gone", "never", "planned"]

LIVEKIT_LAYERS = ("livekit:room", "livekit:signal", "livekit:media")


@dataclass(frozen=True, slots=True)
class Bracket:
    """The act happened after `not_yet_at` and no later than `now_at`, ns UTC."""

    not_yet_at: int
    now_at: int


def both(first: Bracket, second: Bracket) -> Bracket:
    """When two conditions hold together: the bracket of the later one, whichever that is."""
    return Bracket(max(first.not_yet_at, second.not_yet_at), max(first.now_at, second.now_at))


class JsonLines:
    """An append-only file of JSON objects, each line flushed at once."""

    def __init__(self, path: Path) -> None:
        self.rows: list[dict[str, Any]] = []
        self._file = path.open("a", encoding="utf-8")

    def append(self, row: dict[str, Any]) -> None:
        """Keep the row and write it."""
        self.rows.append(row)
        if not self._file.closed:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; rows stay readable, later rows stay in memory only."""
        self._file.close()


class TruthLog(JsonLines):
    """truth.jsonl: one row for each change of a layer for a nest.

    `planned_delay_s` is what the scenario drew, None for never. A `never` row has null instants; with a planned delay
    it says that the nest was deleted before the layer showed it. Rows of the layer `fault:<cause>` tell of a nest's
    faults, with three fields more: see faults/course.py; `planned` is a change of theirs alone.
    """

    def note(
        self,
        layer: str,
        change: Change,
        bracket: Bracket | None = None,
        planned_delay_s: float | None = None,
        *,
        scenario: str,
        address: str,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one change. `address` is 30312:pubkey:d; the room is its `d`."""
        self.append(
            {
                "scenario": scenario,
                "room": address.split(":", 2)[2],
                "address": address,
                "layer": layer,
                "change": change,
                "not_yet_at": bracket.not_yet_at if bracket else None,
                "now_at": bracket.now_at if bracket else None,
                "planned_delay_s": planned_delay_s,
                **(extra or {}),
            }
        )
