"""Durations: float seconds everywhere, and one grammar for all that people write.

A duration is a number and a unit, or several of them, each unit smaller than the one before: `500ms`, `90s`, `1.5m`,
`15min`, `2h30m`, `1d`, `1w`. Units are ms, s, m or min (minutes), h, d and w; blanks between do no harm. A bare number
is seconds.
"""

from __future__ import annotations

import re
from typing import Final

from nestobs.errors import UsageError

SECOND_NS: Final = 1_000_000_000
"""A second, in the integer nanoseconds of instants."""

LONGEST_S: Final = 1e9
"""The longest duration that can be written, more than thirty years."""

_UNITS_S: Final = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "min": 60.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER: Final = r"((?:\d{1,20}\.?\d{0,20}|\.\d{1,20})(?:[eE][+-]?\d{1,3})?)"
_PART: Final = re.compile(rf"{_NUMBER}\s*({'|'.join(sorted(_UNITS_S, key=len, reverse=True))})\s*", re.ASCII)
_LONGEST_TEXT: Final = 100


def read_duration(text: str, *, zero: bool = False) -> float:
    """Seconds in the words of a duration, above 0 (with `zero`, from 0) and at most LONGEST_S.

    Raises UsageError, which says what to write, for anything else.
    """
    said = text.strip()
    if len(said) <= _LONGEST_TEXT:
        found = float(said) if re.fullmatch(_NUMBER, said, re.ASCII) else _sum(said)
        if found is not None and (0 < found <= LONGEST_S or (zero and found == 0)):
            return found
    raise UsageError(
        f"{text[:40]!r} is no duration{' from 0' if zero else ''}: write 90s, 500ms, 1.5m, 15min, 2h30m, 1d or 1w"
        f" (a bare number is seconds), at most {LONGEST_S / _UNITS_S['d']:.0f}d"
    )


def _sum(text: str) -> float | None:
    """Of the parts, None where the text is not made of them or a unit is not smaller than the one before."""
    total, unit_s, end = 0.0, float("inf"), 0
    while part := _PART.match(text, end):
        if _UNITS_S[part[2]] >= unit_s:
            return None
        unit_s, end = _UNITS_S[part[2]], part.end()
        total += float(part[1]) * unit_s
    return total if end and end == len(text) else None


def duration_words(seconds: float) -> str:
    """A duration for people, as `read_duration` reads it back: 90 s, 15 min, 6 h; to the last digit."""
    unit = "s" if seconds < 120 else "min" if seconds < 7_200 else "h"
    number = f"{seconds / _UNITS_S[unit]:g}"
    return (
        f"{number} {unit}" if float(number) * _UNITS_S[unit] == seconds else f"{float(seconds)!r} s".replace(".0 ", " ")
    )


def about(seconds: float) -> str:
    """A time from 0 for people, in the largest unit of which it has two."""
    if seconds > _LONG_S:
        return "more than 1000 years"
    for unit, size in (("years", 31_557_600), ("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


_LONG_S: Final = 1_000 * 31_557_600
