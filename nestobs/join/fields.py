"""Values of HTTP header fields: numbers, instants, lists with parameters.

Whoever answers may write anything here, of any length. So each function is total, takes time linear in a bounded text,
and has one answer for all that it cannot read: nothing. A text too long to be honest is not read at all, since what
its beginning says may be the contrary of the whole.

A list is read as RFC 9651 writes structured fields, and more leniently: members between commas, parameters after
semicolons, quotes around either; what is between quotes divides nothing.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from nestobs.observation.duration import SECOND_NS

FIELD_CHARACTERS: Final = 2_000
"""A longer list says nothing."""

_NUMBER: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{0,9})?", re.ASCII)
_FRACTION: Final = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ][0-9]{2}:?[0-9]{2}:?[0-9]{2}[.,]([0-9]+)", re.ASCII)
_DIGITS: Final = 6
_LAST: Final = 9_223_372_036  # seconds: an instant in ns is a signed 64-bit integer (year 2262)


class Member(NamedTuple):
    """One member of a list: its value, and its parameters by lower-case name, quotes taken away."""

    value: str
    parameters: dict[str, str]


def number(text: str | None) -> float | None:
    """A number without sign, as digits with or without a fraction; None for anything else."""
    found = (text or "")[:40].strip(" \t")
    return float(found) if _NUMBER.fullmatch(found) else None


def instant(text: str | None) -> int | None:
    """The instant (ns UTC, whole seconds) of a date as HTTP or ISO 8601 writes it.

    None for anything else, for a date without a zone, and for one before 1970 or after 2262.
    """
    found = (text or "")[:60].strip(" \t")
    if not 10 <= len(found) <= 50:
        return None
    try:
        date = datetime.fromisoformat(found) if found[:4].isdigit() else parsedate_to_datetime(found)
        seconds = None if date.tzinfo is None else round(date.timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return seconds * SECOND_NS if seconds is not None and 0 <= seconds < _LAST else None


def fine_instant(text: str) -> tuple[int, float] | None:
    """The instant of a date that ISO 8601 writes with a fraction of a second: ns UTC, and to how many seconds it is cut
    off. None for one without a fraction, and for what `instant` takes for none."""
    fraction = _FRACTION.match(text[:60].strip(" \t"))
    if fraction is None or instant(text) is None:
        return None
    digits = min(len(fraction[1]), _DIGITS)
    whole = datetime.fromisoformat(text[:60].strip(" \t")).replace(microsecond=0)
    return int(whole.timestamp()) * SECOND_NS + int(fraction[1][:digits].ljust(9, "0")), 10.0**-digits


def members(text: str | None) -> tuple[Member, ...]:
    """The members of a list, in order; none where there is no list or it is too long."""
    if not text or len(text) > FIELD_CHARACTERS:
        return ()
    return tuple(_member(part) for part in _split(text, ",") if part.strip())


def _member(text: str) -> Member:
    value, *parameters = _split(text, ";")
    pairs = (part.partition("=") for part in parameters)
    return Member(_plain(value), {name.strip().lower(): _plain(said) for name, _, said in pairs})


def _split(text: str, at: str) -> list[str]:
    """The parts between each `at` that is not between quotes."""
    parts, begin, quoted, escaped = [], 0, False, False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == '"':
            quoted = not quoted
        elif quoted:
            escaped = character == "\\"
        elif character == at:
            parts.append(text[begin:index])
            begin = index + 1
    return [*parts, text[begin:]]


def _plain(text: str) -> str:
    text = text.strip()
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
