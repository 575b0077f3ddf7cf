"""The faults of one nest as they come and go, and the truth about that.

Truth rows of a fault have the layer `fault:<cause>`, and beside the usual fields `kind`, `by` and `for_s` (null: for
ever). `planned`, at the creation: it was drawn, to begin `planned_delay_s` seconds later. `shown` and `gone`: the lab
began to do it and stopped, with the bracket of that act; what a host or an observer is to do has neither. The rows of
the layers stay what they are without it: of delays, of rooms that were made and ended, not of what a fault answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from nestobs.lab.clock import LabClock
from nestobs.lab.faults.draw import Fault
from nestobs.lab.truth import Bracket

Note = Callable[..., None]
Hook = Callable[[Fault, bool], None]
"""Told of a fault that begins (True) or ends (False)."""


class Course:
    """`on` holds the faults that are in force now. `hook` acts out what is more than an answer."""

    def __init__(self, faults: Iterable[Fault], clock: LabClock, note: Note, hook: Hook) -> None:
        self.faults = tuple(faults)
        self.on: list[Fault] = []
        self.since: dict[str, float] = {}
        self._clock, self._note, self._hook = clock, note, hook
        self._timers: list[asyncio.TimerHandle] = []

    def start(self) -> None:
        """Begin what begins at once, and set timers for the rest."""
        loop, now_at = asyncio.get_running_loop(), self._clock.now_at()
        for fault in self.faults:
            self._tell(fault, "planned", Bracket(now_at, now_at))
            if fault.theory.by == "observer":
                continue
            if fault.from_s == 0.0:
                self._turn(fault, True)
            elif fault.from_s != float("inf"):
                self._timers.append(loop.call_later(fault.from_s, self._turn, fault, True))

    def _turn(self, fault: Fault, begins: bool) -> None:
        not_yet_at = self._clock.now_at()
        if begins:
            self.on.append(fault)
            self.since[fault.cause] = self._clock.elapsed_s()
        elif fault in self.on:
            self.on.remove(fault)
        self._hook(fault, begins)
        if fault.theory.by == "lab":
            self._tell(fault, "shown" if begins else "gone", Bracket(not_yet_at, self._clock.now_at()))
        if begins and fault.for_s is not None:
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(fault.for_s, self._turn, fault, False))

    def left_s(self, fault: Fault) -> float:
        """Seconds that a fault in force still lasts; an hour where it has no end."""
        if fault.for_s is None:
            return 3600.0
        return max(0.0, self.since[fault.cause] + fault.for_s - self._clock.elapsed_s())

    def has(self, cause: str) -> Fault | None:
        """The fault of this cause that is in force now."""
        return next((fault for fault in self.on if fault.cause == cause), None)

    def cancel(self) -> None:
        """No more comes or goes; what is in force and wide is taken back."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for fault in [fault for fault in self.on if fault.theory.wide]:
            self._turn(fault, False)

    def _tell(self, fault: Fault, change: str, bracket: Bracket) -> None:
        extra: dict[str, Any] = fault.as_dict()
        self._note(f"fault:{fault.cause}", change, bracket, fault.from_s, extra=extra)
