"""How a service is: what its parts tell of themselves, and what of that is not as it should be.

It is degraded where the observing lacks something, so that what it observes later has to be doubted: no room on the
disk, no row although it watches, an event loop that is late, a spent budget, a burst or report that was not made. That
nobody can join is no such thing: it is what it is there to see.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from nestobs.join.budget import Limiter
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import HEARTBEAT_S
from nestobs.sources.clock import LAG_S, Clock, LoopWatch
from nestobs.store.writer import Writer

QUIET_S: Final = 2.5 * HEARTBEAT_S
"""Who watches writes a row at least once in it."""

LOOK_BACK_S: Final = 60.0
LEAST_FREE: Final = 50_000_000
"""Bytes; with fewer the disk is told of before it is full."""


@dataclass(slots=True)
class Burst:
    """The last burst of canaries: when it was due (ns UTC), and what came of it. lacking: why it was not made as it
    should be, "" where it was."""

    due_at: int
    said: str
    lacking: str = ""


@dataclass(slots=True)
class Made:
    """The last report of a name: its window, when it was made (ns UTC), the verdict, the first reason. lacking: as of a
    burst."""

    window: str
    at: int
    verdict: str
    said: str = ""
    lacking: str = ""


@dataclass(slots=True)
class State:
    """What the parts tell. Instants are ns UTC; writer: None while the disk is full."""

    clock: Clock
    folder: Path
    target: str
    limiter: Limiter
    loop: LoopWatch
    began_at: int
    watching: bool
    writer: Writer | None = None
    last_row_at: int | None = None
    full: str = ""
    burst: Burst | None = None
    next_burst_at: int | None = None
    reports: dict[str, Made] = field(default_factory=dict)
    next_reports_at: int | None = None
    reports_lacking: str = ""
    sealing_lacking: str = ""
    shipping_lacking: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON data: status is "ok" or "degraded", with the reasons."""
        now = self.clock.now()
        newest = None if self.writer is None else self.writer.newest
        self.last_row_at = newest or self.last_row_at
        lag_s, left = self.loop.lag_s(now - round(LOOK_BACK_S * SECOND_NS)), self.limiter.left(now, bursts=False)
        free = self.free()
        reasons = self._reasons(now, lag_s, left, free)
        burst = self.burst
        return {
            "status": "degraded" if reasons else "ok",
            "reasons": reasons,
            "target": self.target,
            "began_at": _utc(self.began_at),
            "last_row_at": _utc(self.last_row_at),
            "watching": self.watching,
            "canaries": {
                "last_due_at": None if burst is None else _utc(burst.due_at),
                "last": burst and (burst.lacking or burst.said),
                "next_at": _utc(self.next_burst_at),
            },
            "reports": {
                "last": {
                    name: {"window": made.window, "at": _utc(made.at), "verdict": made.verdict, "said": made.said}
                    for name, made in self.reports.items()
                },
                "next_at": _utc(self.next_reports_at),
            },
            "budget": {"left": left, "allowed": self.limiter.allowed, "window_s": self.limiter.window_s},
            "loop_lag_s": round(lag_s, 3),
            "disk": {"free_bytes": free, "full": bool(self.full)},
        }

    def _reasons(self, now: int, lag_s: float, left: int, free: int | None) -> list[str]:
        said = [self.full, self.sealing_lacking, self.shipping_lacking, self.reports_lacking]
        if not self.full and free is not None and free < LEAST_FREE:
            said.append(f"only {free:,} bytes are free on the store's disk")
        since = max(self.began_at, self.last_row_at or 0)
        if self.watching and not self.full and (quiet_s := (now - since) / SECOND_NS) > QUIET_S:
            said.append(f"no row was written for {quiet_s:.0f} s, although it watches")
        if lag_s > LAG_S:
            said.append(f"the event loop stood still for {lag_s:.2f} s within the last minute")
        if left < 1:
            said.append(self.limiter.why_shut(now))
        said += [self.burst.lacking] if self.burst is not None else []
        said += [f"{name} {made.window}: {made.lacking}" for name, made in self.reports.items() if made.lacking]
        return [each for each in said if each]

    def free(self) -> int | None:
        """Bytes free on the disk of the store; None where that is not told."""
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return None


def _utc(at: int | None) -> str | None:
    return None if at is None else f"{datetime.fromtimestamp(at // SECOND_NS, UTC):%Y-%m-%dT%H:%M:%SZ}"
