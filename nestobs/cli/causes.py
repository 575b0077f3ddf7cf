"""Causes in words for a terminal: what is the matter and how that is known, what to do, and what would tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
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
    from nestobs.collector.lookup.inquiry import is_sure

    first, others = diagnosis.first, diagnosis.causes[1 : 1 + MOST]
    if is_sure(first):
        said = [diagnosis.line()]
        said += [_line("also", _named(each)) for each in others]
    else:
        said = ["It is not certain what is the matter; with their odds:"]
        said += [_line(f"{each.confidence:.0%}", _named(each)) for each in (first, *others)]
        said += [_line("evidence", ", ".join(each.said for each in first.evidence))] if first.evidence else []
    advice = first.advice
    said += [_line("you", advice[who])] if who in advice else []
    said += [_line("operator", advice["operator"])] if "operator" in advice else []
    return said + ([_line("ask next", first.next)] if first.next else [])


def _named(found: Found) -> str:
    return f"{found.cause.value}: {found.said}"


def _line(name: str, text: str) -> str:
    return f"  {name:<10} {text}"
