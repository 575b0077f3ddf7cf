"""Lines of a log: what containers and daemons put before them, and instants in all the ways in which logs write them.

An instant in a log is a whole number of some unit, cut off: what happened lies in [at, at + grain). One that names no
zone is read as UTC.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, NamedTuple

from nestobs.nostr import json_object
from nestobs.observation.duration import SECOND_NS

LONGEST_LINE: Final = 262_144
"""Characters of a line; a longer one is not read."""

_ANSI: Final = re.compile(r"\x1b\[[0-9;]{0,16}m")
_ISO: Final = (
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\d{0,9} ?"
    r"(Z\b|UTC\b|[+-]\d\d:?\d\d(?!\d))?"
)
_INSTANT: Final = re.compile(_ISO, re.ASCII)
_LEADING: Final = re.compile(rf"[\[(]?{_ISO}[\])]?(?:\s+|:\s|$)", re.ASCII)
_COMPOSE: Final = re.compile(r"[\w.-]{1,80} {0,40}\| ", re.ASCII)
_CRI: Final = re.compile(r"(?:stdout|stderr) [FP] ")
_SYSLOG: Final = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S{1,100} \S{1,100}: ", re.ASCII)
_CLF: Final = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)", re.ASCII)
_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # noqa: SIM905 - shorter so
_FIRST_S: Final = 946_684_800
_LAST_S: Final = 9_223_372_036
"""No log is older than the year 2000, and an instant in ns is a signed 64-bit integer."""


class Stamp(NamedTuple):
    """When: the event lies in [at, at + grain), ns UTC. zoned: whether a zone was named."""

    at: int
    grain: int
    zoned: bool = True

    @property
    def end(self) -> int:
        """By when it was over."""
        return self.at + self.grain


def stamp_of(value: object) -> Stamp | None:
    """An instant as a text of ISO 8601 or of an access log, or as a number of s, ms, µs or ns; None for anything else.

    A number's unit is told by its size.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _epoch(value)
    if not isinstance(value, str):
        return None
    text = value.strip()[:64]
    if (found := _INSTANT.match(text)) is not None:
        return _of_iso(found.groups())
    if (found := _CLF.match(text)) is not None:
        return _of_clf(found)
    return _epoch(float(text)) if re.fullmatch(r"\d{9,19}(\.\d{1,9})?", text, re.ASCII) else None


def _epoch(value: float) -> Stamp | None:
    for unit in (SECOND_NS, 1_000_000, 1_000, 1):
        if _FIRST_S * SECOND_NS <= value * unit < _LAST_S * SECOND_NS:
            at = value * unit if isinstance(value, int) else round(value * 1_000_000) * unit // 1_000_000
            return Stamp(at, 1_000 if isinstance(value, float) else unit)
    return None


def _of_iso(parts: tuple[str | None, ...]) -> Stamp | None:
    *numbers, fraction, zone = parts
    offset_s = 0
    if zone and zone[0] in "+-":
        digits = zone[1:].replace(":", "")
        offset_s = (int(digits[:2]) * 3_600 + int(digits[2:]) * 60) * (-1 if zone[0] == "-" else 1)
    ns = int((fraction or "").ljust(9, "0") or 0)
    grain: int = 10 ** (9 - len(fraction or ""))
    return _made([int(number or 0) for number in numbers], offset_s, ns, grain, zoned=zone is not None)


def _of_clf(found: re.Match[str]) -> Stamp | None:
    day, month, year, hour, minute, second, sign, hours, minutes = found.groups()
    if month not in _MONTHS:
        return None
    offset_s = (int(hours) * 3_600 + int(minutes) * 60) * (-1 if sign == "-" else 1)
    numbers = [int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second)]
    return _made(numbers, offset_s, 0, SECOND_NS)


def _made(numbers: list[int], offset_s: int, ns: int, grain: int, *, zoned: bool = True) -> Stamp | None:
    try:
        zone = timezone(timedelta(seconds=offset_s)) if offset_s else UTC
        seconds = int(datetime(*numbers, tzinfo=zone).timestamp())  # type: ignore[arg-type,misc]  # six numbers
    except (ValueError, OverflowError):
        return None
    return Stamp(seconds * SECOND_NS + ns, grain, zoned) if _FIRST_S <= seconds < _LAST_S else None


@dataclass(frozen=True, slots=True)
class Line:
    """One line. text: what the program wrote, without what containers, daemons and terminals add, and without the
    instant that it begins with, which is `stamp`; raw: all of it."""

    number: int
    raw: str
    text: str
    stamp: Stamp | None = None

    @property
    def mark(self) -> str:
        """A digest of the line, by which it is known again."""
        return digest(self.raw)


def digest(text: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def lines_of(texts: Iterable[str]) -> Iterator[Line]:
    """The lines, numbered from 1, blank ones left out. One longer than LONGEST_LINE has an empty text."""
    for number, text in enumerate(texts, 1):
        raw = text.rstrip("\r\n")
        if len(raw) > LONGEST_LINE:
            yield Line(number, raw[:1_000], "")
        elif raw.strip():
            yield line_of(number, raw)


def line_of(number: int, raw: str) -> Line:
    """The line, unwrapped: of colours, of what Docker, compose, Kubernetes or syslog put before it, of its instant."""
    text, stamp = _ANSI.sub("", raw).lstrip("\ufeff"), None
    if text.startswith('{"log":'):
        held = json_object(text) or {}
        if isinstance(held.get("log"), str) and "time" in held:
            text, stamp = _ANSI.sub("", held["log"]).rstrip("\r\n"), stamp_of(held["time"])
    for _ in range(3):
        for prefix in (_COMPOSE, _SYSLOG, _CRI):
            if (found := prefix.match(text)) is not None:
                text = text[found.end() :]
        if (found := _LEADING.match(text)) is None or (said := _of_iso(found.groups())) is None:
            break
        text, stamp = text[found.end() :], said
    return Line(number, raw, text.strip(), stamp)
