"""How much of one relay is borne: beyond it the relay is cut off, so that it cannot cost the others their stamps.

Each bound is a leaking bucket: `burst` at once, `rate` a second for good. An honest relay sends what was asked for,
which is not counted as frames, and the events of nests, a few a minute; the bursts leave room for a backlog. What a
bound is for: bytes, memory and parsing; frames, the time that a frame takes however small (pings included); pushed
events, the rows that each of them makes; rejects, the cost of finding out that an event is false.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from nestobs.observation.duration import SECOND_NS
from nestobs.sources.clock import Clock

FRAME_BYTES: Final = 512 * 1024
"""A longer message ends the connection (close code 1009). Relays that say their `max_message_length` (NIP-11) take from
us 64 kB to 512 kB, and hand out no longer events than they took."""

QUEUED_FRAMES: Final = 4
"""So many frames may wait to be read before nothing more is taken from the socket: with FRAME_BYTES, so many bytes."""


@dataclass(slots=True)
class Bucket:
    """Takes `burst` at once and `rate` a second, and what was asked for besides."""

    what: str
    rate: float
    burst: float
    level: float = 0.0
    at: int = 0
    owed: float = 0.0

    def ask(self, amount: float) -> None:
        """So much more is asked for, and counts for nothing when it comes: of `burst` at most."""
        self.owed = min(self.owed + amount, self.burst)

    def over(self, now: int, amount: float = 1.0) -> bool:
        """Count so much at `now` (ns, never before the last one); whether that is too much."""
        paid = min(self.owed, amount)
        self.owed -= paid
        self.level = max(0.0, self.level - self.rate * (now - self.at) / SECOND_NS) + amount - paid
        self.at = now
        return self.level > self.burst


def _kinds() -> dict[str, Bucket]:
    made = (
        Bucket("bytes", rate=1_000_000, burst=8_000_000),
        Bucket("frames", rate=500, burst=5_000),
        Bucket("pushed events", rate=20, burst=1_000),
        Bucket("false or unreadable events", rate=1, burst=100),
    )
    return {bucket.what: bucket for bucket in made}


BYTES, FRAMES, PUSHED, REJECTED = _kinds()


@dataclass(slots=True)
class Meter:
    """What one connection has brought. `flooded`: why it is cut off, "" while it is borne."""

    clock: Clock
    buckets: dict[str, Bucket] = field(default_factory=_kinds)
    flooded: str = ""

    def bears(self, size: int, frames: int) -> bool:
        """Whether so many bytes, or frames, more are borne (dial.Borne)."""
        return not (self.over(FRAMES, frames) if frames else self.over(BYTES, size))

    def ask(self, frames: int) -> None:
        """A question goes out that so many frames may answer."""
        self.buckets[FRAMES].ask(frames)

    def over(self, what: str, amount: float = 1.0) -> bool:
        """Count; whether the relay is to be cut off, or has been."""
        bucket = self.buckets[what]
        if bucket.over(self.clock.now(), amount) and not self.flooded:
            self.flooded = (
                f"cut off: it sent more than {bucket.burst:,.0f} {what} at once and {bucket.rate:,.0f} a second"
            )
        return bool(self.flooded)
