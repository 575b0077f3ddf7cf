"""The command line on a machine whose clock is wrong: by a skew, a drift, and steps at given instants.

    python -m nestobs.trial.wrong_clock '{"skew_s": -40, "drift_ppm": 80, "steps": [], "began_at": 0}' FIRST watch ...

Steps count from the instant (ns UTC) that the file FIRST holds once it is there.

All that this process takes for the time of the day comes from there: instants of rows, `created_at`, what HTTP auth and
LiveKit's tokens are stamped with, deadlines. Its count goes too fast or too slow with the drift, as a crystal does; how
long asyncio's timers take is true, since nobody could tell the difference.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nestobs.observation.duration import SECOND_NS
from nestobs.sources.clock import Clock, Machine, count

MODULE: Final = "nestobs.trial.wrong_clock"


@dataclass(frozen=True, slots=True)
class WrongClock:
    """How a clock is wrong. `t` s after `began_at` (ns UTC, true) its wall clock reads `skew_s` + `drift` * t + the
    steps so far ahead of the true time: (at_s, by_s), counted from `first_at`, None: that is still to come."""

    skew_s: float = 0.0
    drift: float = 0.0
    steps: tuple[tuple[float, float], ...] = ()
    began_at: int = 0
    first_at: int | None = None

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> WrongClock:
        """As a vantage of lab.json tells it, with the lab's `began_at`, and `first_at` where that is known."""
        return cls(
            skew_s=float(table["skew_s"]),
            drift=float(table["drift_ppm"]) * 1e-6,
            steps=tuple((float(step["at_s"]), float(step["by_s"])) for step in table["steps"]),
            began_at=int(table["began_at"]),
            first_at=table.get("first_at"),
        )

    def ahead_s(self, at: int, anchored_at: int | None = None) -> float:
        """How far it is ahead of the true time at the instant `at` (ns UTC, true), seconds. anchored_at: of what a
        process reads that took its anchor then: later steps do not move it."""
        ahead_s = self.skew_s + self.drift * (at - self.began_at) / SECOND_NS
        if self.first_at is None:
            return ahead_s
        until_s = ((at if anchored_at is None else anchored_at) - self.first_at) / SECOND_NS
        return ahead_s + sum(by_s for at_s, by_s in self.steps if at_s <= until_s)


class WrongMachine(Machine):
    """The clocks of a machine that has a wrong one. first: the file that tells `first_at`, once it is there."""

    def __init__(self, clock: WrongClock, first: Path) -> None:
        self._clock, self._first = clock, first
        self._true_less_count = super().wall() - count()
        self._since = clock.began_at - self._true_less_count

    def wall(self) -> int:
        """The wall clock, ns UTC."""
        if self._clock.first_at is None and self._clock.steps and self._first.exists():
            self._clock = replace(self._clock, first_at=int(self._first.read_text()))
        true = self._true_less_count + count()
        return true + round(self._clock.ahead_s(true) * SECOND_NS)

    def paced(self, counted: int) -> int:
        """A count as this machine's crystal makes it, ns."""
        return counted + round(self._clock.drift * (counted - self._since))


def words(table: Mapping[str, Any], began_at: int, first: Path) -> Sequence[str]:
    """What starts nestobs on the clock of a vantage of lab.json; the words of the command follow. first: the file that
    tells when the first nest was made; it is written whole, once."""
    told = {name: table[name] for name in ("skew_s", "drift_ppm", "steps")} | {"began_at": began_at}
    return sys.executable, "-m", MODULE, json.dumps(told), str(first)


def main() -> None:
    """Read the clock, set it, and be the command line."""
    Clock.machine = WrongMachine(WrongClock.of(json.loads(sys.argv.pop(1))), Path(sys.argv.pop(1)))
    sys.argv[0] = "nestobs"
    runpy.run_module("nestobs", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
