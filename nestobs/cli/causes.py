"""Causes in words for a terminal: what is the matter and how that is known, what to do, and what would tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from nestobs.observation.text import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nestobs.diagnosis import Diagnosis, Found

MOST: Final = 3
"""Causes that are named beside the first one."""


def leads(diagnosis: Diagnosis | None) -> bool:
    """Whether it says what stood in somebody's way: then it comes first. That one could join, that we ourselves were at
    fault, or that nothing is known, comes after how it went."""
    from nestobs.diagnosis import Cause

    behind = (Cause.JOINED, Cause.OBSERVER_FAULT, Cause.UNDETERMINED)
    return diagnosis is not None and diagnosis.first.blocks and diagnosis.first.cause not in behind


def cause_words(diagnosis: Diagnosis, who: Literal["host", "guest"]) -> list[str]:
    """The first cause with its evidence, or those that fit with their odds; then what to do, for who asks and for the
    operator, and what to ask next."""
    first, others = diagnosis.first, diagnosis.causes[1 : 1 + MOST]
    if first.sure:
        said = [diagnosis.line()]
        said += [_line("also", _named(each)) for each in others]
    else:
        said = ["It is not certain what is the matter; with their odds:"]
        said += [_line(percent(each.confidence), _named(each)) for each in (first, *others)]
        said += [_line("evidence", ", ".join(each.said for each in first.evidence))] if first.evidence else []
    advice = first.advice
    said += [_line("you", advice[who])] if who in advice else []
    said += [_line("operator", advice["operator"])] if "operator" in advice else []
    return said + ([_line("ask next", first.next)] if first.next else [])


def nest_words(found: Sequence[Diagnosis]) -> list[str]:
    """Why the nests of a run could not be joined, a line a cause with its first example; those that could are left out.

    found: of each nest and vantage.
    """
    groups: dict[str, list[Diagnosis]] = {}
    for each in found:
        if leads(each):
            groups.setdefault(each.first.cause.value, []).append(each)
    said = []
    for cause, ours in sorted(groups.items(), key=lambda group: -len(group[1])):
        one = max(ours, key=lambda each: each.first.confidence)
        said.append(f"{cause}, {len(ours)} of {len(found)} views of a nest (up to {percent(one.first.confidence)}):")
        said.append(f"  {one.line()} ({one.room} from {one.vantage})")
    return said


def fault_words(found: Sequence[Diagnosis]) -> str:
    """What is broken and stays so, where that is sure of any nest; "" for nothing."""
    from nestobs.collector.lookup.inquiry import standing_fault

    faults = {fault.value: each.first.said for each in found if (fault := standing_fault(each)) is not None}
    return "; ".join(f"{fault}: {said}" for fault, said in faults.items())


def _named(found: Found) -> str:
    return f"{found.cause.value}: {found.said}"


def _line(name: str, text: str) -> str:
    return f"  {name:<10} {text}"
