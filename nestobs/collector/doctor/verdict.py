"""What an examination comes to: one id, one sentence, one exit code, and what was not tried. Pure.

    0    all that was tried is good
    1    something is broken and stays so: `id` names what would have to change first for a join to succeed
    3    it cannot be said: held up by this machine, no request or time left, or a race that had not ended

What is bad at a door is a fault like any other; that all doors are good says nothing of a room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from nestobs.collector.doctor.doors import Check
from nestobs.collector.doctor.steps import Step

GOOD, FAULT, CANNOT_TELL = 0, 1, 3

STEPS: Final = "creating a room, publishing it, /info, join, guest, its tokens, restart and DELETE"

RANK: Final = ("create", "join", "guest", "info", "visit", "list", "publish", "restart", "delete", "event")
"""Whose fault is named first: without the first no join succeeds, and the last spoil none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """code: see the module. id: a `diagnosis.Cause`, or what DELETE leaves; "" where nothing is the matter, or it has
    no id. faults: all ids, the first first. not_tried: in words."""

    code: int
    said: str
    id: str = ""
    faults: tuple[str, ...] = ()
    not_tried: tuple[str, ...] = ()

    def line(self) -> str:
        """For people."""
        word = {GOOD: "good", FAULT: f"fault {self.id}".strip()}.get(self.code, "cannot tell")
        besides = [id_ for id_ in self.faults if id_ != self.id]
        return f"{word}: {self.said}" + (f"; besides: {', '.join(besides)}" if besides else "")

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "code": self.code,
            "id": self.id,
            "said": self.said,
            "faults": list(self.faults),
            "not_tried": list(self.not_tried),
        }


def of_the_doors(checks: Sequence[Check], why: str, *, wanted: bool = False) -> Verdict:
    """Where no room was made, and why; `wanted`: though it was to be."""
    bad = [check for check in checks if check.state == "bad"]
    left_out = (f"{STEPS}: {why}",)
    if bad:
        faults = tuple(dict.fromkeys(check.cause for check in bad if check.cause))
        said = f"{len(bad)} of {len(checks)} checks are bad: {bad[0].name}, {bad[0].said}"
        return Verdict(FAULT, said, faults[0] if faults else "", faults, left_out)
    if wanted:
        return Verdict(CANNOT_TELL, f"whether a room can be made and joined could not be said: {why}", "", (), left_out)
    return Verdict(
        GOOD, f"only the doors were tried, and nothing is bad there; not tried: {left_out[0]}", "", (), left_out
    )


def of_the_room(checks: Sequence[Check], steps: Sequence[Step]) -> Verdict:
    """Where a room was tried: what its steps say, then what is bad at a door."""
    ranked = sorted(steps, key=lambda step: RANK.index(step.name))
    skipped = tuple(f"{step.name}: {step.said}" for step in steps if step.state == "skipped")
    bad = [step for step in ranked if step.state == "bad"]
    shut = [check for check in checks if check.state == "bad"]
    unsaid = [step for step in ranked if step.state == "unsaid"]
    faults = tuple(dict.fromkeys([*(step.cause for step in bad), *(check.cause for check in shut)]))
    faults = tuple(filter(None, faults))
    if bad:
        said = f"{bad[0].name}: {bad[0].said}"
        said += f"; and it could not be said of {unsaid[0].name}: {unsaid[0].said}" if unsaid else ""
        return Verdict(FAULT, said, bad[0].cause, faults, skipped)
    if shut:
        said = f"the room was tried; {shut[0].name}: {shut[0].said}"
        return Verdict(FAULT, said, shut[0].cause, faults, skipped)
    if unsaid:
        said = f"it could not be said whether all is well; {unsaid[0].name}: {unsaid[0].said}"
        return Verdict(CANNOT_TELL, said, unsaid[0].cause, (), skipped)
    said = "a room was made, published, joined, visited, restarted and deleted, and nothing of it is left"
    notes = [step for step in steps if step.state == "note"]
    if notes or skipped:
        parts = [*(f"{step.name}: {step.said}" for step in notes), *skipped]
        said = f"all that was tried of a room is well, and nothing of it is left; {'; '.join(parts)}"
    return Verdict(GOOD, said, "", (), skipped)
