"""Windows of time: half-open [start, end), UTC, in whole seconds; a window's name can be part of a path.

Aligned windows do not overlap and leave no gap: those of a length that divides a day begin at midnight UTC, others at
a whole number of lengths after 1970-01-01. Nothing was observed outside the years 1678 to 2261, whose instants are what
64 bits of nanoseconds hold with some to spare: no window lies there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from nestobs.errors import UsageError
from nestobs.observation.duration import SECOND_NS, read_duration
from nestobs.observation.text import shortened

if TYPE_CHECKING:
    import pandas as pd

DAY_S: Final = 86_400
_FIRST: Final = -9_214_560_000 * SECOND_NS  # 1678-01-01
_END: Final = 9_214_646_400 * SECOND_NS  # 2262-01-01
_DAY, _INSTANT = r"\d{4}-\d\d-\d\d", r"\d{4}-\d\d-\d\dT\d{6}Z"


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """[start, end), ns UTC, whole seconds. Raises UsageError when it ends before it begins, is empty or lies in part
    outside the years 1678 to 2261."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise UsageError("the window ends before it begins: write START/END")
        if self.start % SECOND_NS or self.end % SECOND_NS:
            raise UsageError("the window has parts of a second: write START/END in whole seconds")
        if not _FIRST <= self.start < self.end <= _END:
            raise UsageError("the window lies outside the years 1678 to 2261: write START/END within them")

    @classmethod
    def parse(cls, text: str) -> Self:
        """START/END in ISO 8601 (UTC where no offset is given), START and a duration, a day, or a `name`."""
        try:
            ends = _ends(text.strip())
        except (ValueError, OverflowError, UsageError):
            raise UsageError(
                f"{shortened(text, 80)!r} is no window: write START/END in ISO 8601, as 2026-01-01/2026-01-02T12:00"
            ) from None
        return cls(*ends)

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start) / SECOND_NS

    @property
    def instants(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """Both ends for pandas, UTC."""
        import pandas as pd

        return pd.Timestamp(self.start, tz="UTC"), pd.Timestamp(self.end, tz="UTC")

    @property
    def name(self) -> str:
        """A day's date, else both ends without colons: 2026-01-01, 2026-01-01T060000Z--2026-01-01T120000Z."""
        begin, end = _at(self.start), _at(self.end)
        if self.seconds == DAY_S and begin.time() == end.time() == datetime.min.time():
            return f"{begin:%Y-%m-%d}"
        return f"{begin:%Y-%m-%dT%H%M%SZ}--{end:%Y-%m-%dT%H%M%SZ}"

    @property
    def text(self) -> str:
        """START/END as `parse` reads it."""
        return "/".join(f"{_at(end):%Y-%m-%dT%H:%M:%SZ}" for end in (self.start, self.end))

    @property
    def words(self) -> str:
        """For people: "2026-01-01 00:00:00 to 2026-01-02 00:00:00 UTC"."""
        return f"{_at(self.start):%Y-%m-%d %H:%M:%S} to {_at(self.end):%Y-%m-%d %H:%M:%S} UTC"

    def earlier(self, lengths: int) -> Window:
        """The window of as many of its own lengths just before it: for a day and 7, the week before."""
        return Window(self.start - lengths * (self.end - self.start), self.start)

    def parts(self, length_s: float) -> Iterator[Window]:
        """The aligned windows of that length that lie wholly in it, oldest first. Raises UsageError as `latest`."""
        step = _step(length_s)
        first = -(-self.start // step) * step
        for start in range(first, self.end - step + 1, step):
            yield Window(start, start + step)


def latest(now: int, length_s: float) -> Window:
    """The last aligned window of that length that is over at `now`, ns UTC. Of a day: yesterday.

    Raises UsageError for a length that is not of whole seconds.
    """
    step = _step(length_s)
    end = now // step * step
    return Window(end - step, end)


def _step(length_s: float) -> int:
    if length_s < 1 or length_s % 1:
        raise UsageError(f"a window of {length_s:g} s has parts of a second: write whole seconds, as 15m, 6h or 1d")
    return int(length_s) * SECOND_NS


def _ends(text: str) -> tuple[int, int]:
    if re.fullmatch(_DAY, text):
        start = _read(text)
        return start, start + DAY_S * SECOND_NS
    if re.fullmatch(f"{_INSTANT}--{_INSTANT}", text):
        text = text.replace("--", "/")
    start_text, end_text = text.split("/")
    start = _read(start_text)
    try:
        return start, _read(end_text)
    except ValueError:
        return start, start + round(read_duration(end_text) * SECOND_NS)


def _read(text: str) -> int:
    found = datetime.fromisoformat(text.strip())
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * DAY_S + since.seconds) * SECOND_NS + since.microseconds * 1_000


def _at(instant: int) -> datetime:
    return datetime.fromtimestamp(instant // SECOND_NS, UTC)
