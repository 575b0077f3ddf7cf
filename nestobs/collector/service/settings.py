"""What a service is told to do. Durations in seconds; what is None is not done."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nestobs.collector.fleet.settings import Fleet
from nestobs.join.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Canaries:
    """`count` nests every `every_s`, each burst up to `jitter_s` after its instant of the grid; as many of them as the
    budget can pay."""

    every_s: float
    count: int
    jitter_s: float
    horizon_s: float
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """Reports of windows of `length_s`, made at these seconds after midnight UTC into `out`, those missing or failed of
    the last `since_s`."""

    names: tuple[str, ...]
    at_s: tuple[int, ...]
    length_s: float
    since_s: float
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """For how long sealed days of the store are kept, reports, and failed ones."""

    store_s: float | None = None
    reports_s: float | None = None
    failed_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it. listen: host and port of /health, None for nowhere; port 0 takes a free one. fleet: whose nests the
    watch is for, and `joins` how they are joined; None: for those of anybody. ship: where sealed files are shipped to,
    "" for nowhere."""

    watch: bool = True
    fleet: Fleet | None = None
    joins: Policy | None = None
    canaries: Canaries | None = None
    reports: Reports | None = None
    keep: Keep = field(default_factory=Keep)
    ship: str = ""
    listen: tuple[str, int] | None = None
