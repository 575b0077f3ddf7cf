"""What a line says, before it is an observation: parsers make these values, `rows` makes observations of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from nestobs.observation.schema import Operation, Role, Source
from nestobs.sources.failures import Judgement

LONGEST_S: Final = 2.0
"""How long a request is taken to have lasted at most whose line does not tell its beginning."""

MOST_UNREAD: Final = 5
"""So many lines that were not understood are named."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a log leaves out and its reader was told. api, relay, livekit: URLs; "" where nobody said.

    longest_s: see LONGEST_S. changed_at: when the file was last changed, ns: all of it had happened by then.
    """

    api: str = ""
    relay: str = ""
    livekit: str = ""
    longest_s: float = LONGEST_S
    changed_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One attempt, as a line tells of it. It lay within [begun_at, ended_at], ns of the clock of who wrote the line.

    mark: a digest of the line. begun_within_s: where the line does not tell when it began: within so long before its
    end. untimed: nothing tells when it ended, either.
    """

    line: int
    mark: str
    source: Source
    operation: Operation
    judgement: Judgement
    begun_at: int
    ended_at: int
    target: str = ""
    room: str = ""
    role: Role = Role.OBSERVER
    status: int | None = None
    remote_at: int | None = None
    remote_grain_s: float | None = None
    software: str = ""
    group: str = ""
    attempt_no: int = 1
    begun_within_s: float | None = None
    untimed: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


class Sighting(NamedTuple):
    """Something that two sources may both have seen, within [begun, ended] of the clock of this one, ns.

    late_begun, early_ended: it had begun by the one, and did not end before the other. key: what it was, where several
    were alike in their order. depth: what is deeper happened within what is less deep: a call to LiveKit within the
    API's answer, that within the proxy's, that within the browser's.
    """

    key: tuple[str, ...]
    begun: int
    ended: int
    depth: int
    late_begun: int
    early_ended: int


@dataclass(slots=True)
class Reading:
    """All that a file says. ahead: how far its clock is ahead of the API's, by Date headers: each within these ns.
    nests: of rooms the address, where it is told.

    lines: how many were read. idle: understood, and of no nest. unread: the first that were not understood, of
    `misread`. zoneless: instants without a zone.
    """

    said: list[Said] = field(default_factory=list)
    seen: list[Sighting] = field(default_factory=list)
    ahead: list[tuple[int, int]] = field(default_factory=list)
    nests: dict[str, str] = field(default_factory=dict)
    lines: int = 0
    idle: int = 0
    misread: int = 0
    unread: list[int] = field(default_factory=list)
    zoneless: int = 0

    def not_understood(self, line: int) -> None:
        """Count a line that is in none of the forms of its format."""
        self.misread += 1
        if len(self.unread) < MOST_UNREAD:
            self.unread.append(line)
