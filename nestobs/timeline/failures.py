"""How often what a join asks fails, measured.

A request fails when nothing comes of it that says anything about the nest: a reset, a refused connection, a timeout, a
5xx; or a 429. So does a connection to LiveKit with a token. A failure is no 404: the join core decides what comes next
(join/flow.py), and a policy without error retries then ends. What is counted is what joins asked, since they open
connections as people do; polls reuse theirs. Where joins asked too little, everybody's requests stand for theirs.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import Flags, count_of
from nestobs.observation.columns import equals, equals_any, instants_of, reals_of
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Role, Source
from nestobs.timeline.delays import asked_at
from nestobs.timeline.intervals.polls import held_up
from nestobs.timeline.nests import subjects_of
from nestobs.timeline.uptime import Observer, Watched, watched

LEAST_JOINS: Final = 30
"""With fewer attempts of a kind by joins, those of others are counted, too."""

DURATIONS: Final = 8
"""So many quantiles stand for how long failures took."""

KINDS: Final = ("info", "token", "signal")
_NEEDED: Final = (
    "trace_id", "nest", "room", "role", "source", "target", "operation", "sent_at", "received_at", "outcome", "status",
    "failure", "detail",
)  # fmt: skip  # a list of words
_JOINERS: Final = (Role.JOINER, Role.GUEST)
_ANSWERED: Final = (Failure.UNAUTHORISED, Failure.FORBIDDEN, Failure.BAD_TOKEN, Failure.CACHED)


@dataclass(frozen=True, slots=True)
class Tally:
    """Attempts of one kind, counted. asked: those of which it is known what came.

    Those that failed: timed_out: no answer within their timeout; limited: answered 429; broken: otherwise (a reset, a
    5xx). broken_s: quantiles of how long the broken ones took, seconds, ascending, each as likely. retry_after_s: the
    median that a 429 asked for; None: it asked for none.
    """

    asked: int = 0
    timed_out: int = 0
    limited: int = 0
    broken: int = 0
    broken_s: tuple[float, ...] = ()
    retry_after_s: float | None = None

    @property
    def failed(self) -> int:
        """All that failed."""
        return self.timed_out + self.limited + self.broken

    @property
    def share(self) -> float:
        """Of those asked, those that failed; 0 where none was asked."""
        return self.failed / self.asked if self.asked else 0.0

    def as_dict(self) -> dict[str, int]:
        """The counts, as JSON data."""
        return {"asked": self.asked, "timed_out": self.timed_out, "limited": self.limited, "broken": self.broken}


@dataclass(frozen=True, slots=True)
class Failures:
    """What joins asked and how much of it failed: info requests, requests for a token, connections to LiveKit.

    held_up: of all `requests`, whoever made them, those that ran while we ourselves were held up. They are in no tally:
    what becomes of them says nothing of whom they asked. observer: the state of who observed, over all its attempts.
    """

    info: Tally = field(default_factory=Tally)
    token: Tally = field(default_factory=Tally)
    signal: Tally = field(default_factory=Tally)
    requests: int = 0
    held_up: int = 0
    observer: Observer = field(default_factory=Observer, compare=False)

    @property
    def held_up_share(self) -> float:
        """Of all requests; 0 where none was made."""
        return self.held_up / self.requests if self.requests else 0.0

    @property
    def seen(self) -> bool:
        """Whether anything failed."""
        return any(self.shares())

    def shares(self) -> tuple[float, ...]:
        """Of each of KINDS."""
        return tuple(getattr(self, kind).share for kind in KINDS)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Kind -> counts, as JSON data."""
        return {kind: getattr(self, kind).as_dict() for kind in KINDS}


@dataclass(frozen=True, slots=True)
class _Attempts:
    """Attempts of one kind, as a Tally counts them, before they are summed up. broken_s, waits_s: of each."""

    asked: int = 0
    timed_out: int = 0
    limited: int = 0
    broken_s: tuple[float, ...] = ()
    waits_s: tuple[float, ...] = ()

    def __add__(self, other: _Attempts) -> _Attempts:
        return _Attempts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def tally(self) -> Tally:
        parts = min(DURATIONS, len(self.broken_s))
        quantiles = np.quantile(self.broken_s, (np.arange(parts) + 0.5) / parts) if parts else ()
        return Tally(
            asked=self.asked,
            timed_out=self.timed_out,
            limited=self.limited,
            broken=len(self.broken_s),
            broken_s=tuple(float(each) for each in quantiles),
            retry_after_s=float(np.median(self.waits_s)) if self.waits_s else None,
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """What `failures` is made of, of some of the rows; parts add up. attempts: of each of KINDS, those of joins, and of
    all."""

    attempts: tuple[tuple[_Attempts, _Attempts], ...] = ((_Attempts(), _Attempts()),) * len(KINDS)
    requests: int = 0
    held_up: int = 0
    watched: Watched = field(default_factory=Watched)

    def __add__(self, other: Counted) -> Counted:
        pairs = zip(self.attempts, other.attempts, strict=True)
        return Counted(
            tuple((one + more, every + others) for (one, every), (more, others) in pairs),
            self.requests + other.requests,
            self.held_up + other.held_up,
            self.watched + other.watched,
        )

    def failures(self) -> Failures:
        """What all of it tells."""
        of = [of_joins if of_joins.asked >= LEAST_JOINS else of_all for of_joins, of_all in self.attempts]
        return Failures(
            **{kind: one.tally() for kind, one in zip(KINDS, of, strict=True)},
            requests=self.requests,
            held_up=self.held_up,
            observer=self.watched.observer(),
        )


def failures(observations: pd.DataFrame, host: str | Collection[str] = ()) -> Failures:
    """What failed of what joins asked, in `observations` as Store.frame gives them.

    Our own faults do not count, nor does what ran while we ourselves were held up (polls.held_up), or what we did not
    ask for want of budget. host: only of joins at these API hosts
    (`HOST:PORT`); none named: all.
    """
    return counted(observations, host).failures()


def counted(observations: pd.DataFrame, host: str | Collection[str] = (), mine: Flags | None = None) -> Counted:
    """What `failures` counts. mine: which rows count; None: all. The others tell what befell the observer, and are
    of other nests."""
    mine = np.ones(len(observations), dtype=bool) if mine is None else mine
    failure = observations["failure"]
    unasked = equals_any(failure, (Failure.INTENT, Failure.BUDGET, Failure.SKIPPED))
    held = held_up(observations)
    ours = equals(observations["outcome"], Outcome.PROBE_ERROR) | unasked
    made, signals = _requests(observations, host)
    made = (made | signals) & ~unasked & mine
    came = observations["received_at"].notna().to_numpy(bool) & ~ours & ~held & mine
    rows = observations[[*_NEEDED]].iloc[np.flatnonzero(came)]
    asked, signals = _requests(rows, host)
    is_info = equals(rows["operation"], Operation.INFO)
    kinds = (asked & is_info, asked & ~is_info, signals)
    return Counted(
        tuple(_attempts(rows.iloc[np.flatnonzero(kind)]) for kind in kinds),
        requests=int(made.sum()),
        held_up=int((made & held).sum()),
        watched=watched(observations, mine),
    )


def _requests(rows: pd.DataFrame, host: str | Collection[str]) -> tuple[Flags, Flags]:
    """Which rows are requests to these API hosts, and which connections to LiveKit of the nests asked for there."""
    asked = asked_at(rows, host)
    signals = equals(rows["source"], Source.LIVEKIT) & equals(rows["operation"], Operation.SIGNAL)
    if host:
        subject, _ = subjects_of(rows)
        named = np.zeros(count_of(subject) + 1, dtype=bool)  # the last is of rows that name nothing
        named[subject[asked]] = True
        signals &= named[subject]
    return asked, signals


def _attempts(rows: pd.DataFrame) -> tuple[_Attempts, _Attempts]:
    """Of one kind, those of joins, and all."""
    of_joins = equals_any(rows["role"], _JOINERS)
    failure, api = rows["failure"], equals(rows["source"], Source.API)
    status = reals_of(rows["status"])
    limited = api & (equals(failure, Failure.RATE_LIMITED) | (status == 429))
    answered = equals_any(failure, _ANSWERED)
    unanswered = equals(rows["outcome"], Outcome.UNKNOWN) & ~answered & ~limited
    unanswered &= ~api | np.isnan(status) | (status >= 500)
    timed_out = unanswered & equals(failure, Failure.TIMEOUT)
    broken = unanswered & ~timed_out
    sent, received = (instants_of(rows[name])[0] for name in ("sent_at", "received_at"))
    took_s = np.maximum((received - sent) / SECOND_NS, 0.0)
    waits = np.full(len(rows), np.nan)
    waits[limited] = [_retry_after_s(text) for text in rows["detail"][limited]]

    def those(chosen: Flags) -> _Attempts:
        return _Attempts(
            asked=int(chosen.sum()),
            timed_out=int((chosen & timed_out).sum()),
            limited=int((chosen & limited).sum()),
            broken_s=tuple(took_s[chosen & broken].tolist()),
            waits_s=tuple(waits[chosen & ~np.isnan(waits)].tolist()),
        )

    return those(of_joins), those(np.ones(len(rows), dtype=bool))


def _retry_after_s(detail: object) -> float:
    """NaN where it tells none."""
    try:
        wait_s = float(facts_of(detail)["retry-after"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return math.nan
    return wait_s if math.isfinite(wait_s) and wait_s >= 0 else math.nan
