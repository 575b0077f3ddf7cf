"""What other clocks show of themselves in the rows of one nest: the host's in its event, LiveKit's in its rooms and
webhooks. As intervals, of the reference clock, and told as facts: no bound of any layer is moved by them.

    host      `created_at` C was cut off when the event was signed, at t: its clock read [C, C + 1) then. It was signed
              before it was first seen, by s: the clock is ahead by more than C - s. A web client signs once the PUT is
              answered, so after the room was made, at m: it is ahead by less than C + 1 - m
    LiveKit   a webhook or a room stamped D was received by r: the clock is ahead by more than D - r. A room was made
              after the PUT that asks for it was sent, at p: it is ahead by less than D + 1 - p

The making of a room is told by the API itself (`createdAt` of /info) or is that of our own PUT. A webhook that comes
late bounds less, never falsely. What relays say tells nothing of their clocks: they sign nothing, and an event's stamp
is its author's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import Floats, Ints
from nestobs.observation.columns import codes_of, equals, instants_of, paired, reals_of
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import APART_S
from nestobs.observation.schema import Operation, Outcome, Source
from nestobs.timeline.intervals.clocks import clock_offsets
from nestobs.timeline.intervals.origins import GRAIN_S, instant_told

CLOSE_S: Final = 10.0
"""A clock that may be right is told of where it is known more closely than this."""


_LAST_S: Final = 2**33
"""No stamp of a nest is later (the year 2242)."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """How far a clock is ahead of the reference: more than `least_s`, less than `most_s`; infinite where nothing says
    so."""

    least_s: float = -np.inf
    most_s: float = np.inf

    @property
    def words(self) -> str:
        """As in "the clock was ...", of the reference; "" where nothing worth telling is known."""
        if self.least_s > APART_S and np.isinf(self.most_s):
            return f"at least {self.least_s:.1f} s ahead of"
        if self.most_s < -APART_S and np.isinf(self.least_s):
            return f"at least {-self.most_s:.1f} s behind"
        if self.most_s - self.least_s > CLOSE_S and self.most_s > -APART_S and self.least_s < APART_S:
            return ""
        if self.least_s > 0 or self.most_s < 0:
            low, high = sorted((abs(self.least_s), abs(self.most_s)))
            return f"{low:.1f} to {high:.1f} s {'ahead of' if self.least_s > 0 else 'behind'}"
        return f"between {-self.least_s:.1f} s behind and {self.most_s:.1f} s ahead of"


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one nest. at, sent: receipt and sending on the reference clock, ns; error_s: of both. shared: whether
    that is the API's, else that of the one run there is."""

    frame: pd.DataFrame
    at: Floats
    sent: Floats
    error_s: Floats
    shared: bool

    def where(self, source: Source, outcome: Outcome, *operations: Operation) -> Ints:
        kept = equals(self.frame["source"], source) & equals(self.frame["outcome"], outcome)
        kept &= self.frame["received_at"].notna().to_numpy(bool)
        if operations:
            kept &= np.logical_or.reduce([equals(self.frame["operation"], one) for one in operations])
        return np.flatnonzero(kept)

    def facts(self, index: Ints) -> list[dict[str, object]]:
        return [facts_of(text) for text in self.frame["detail"].iloc[index]]


def stamp_words(observations: pd.DataFrame) -> list[str]:
    """Sentences about the clocks of the host and of LiveKit, from the rows of one nest; none where nothing is known, or
    where several computers watched whose clocks were never compared."""
    rows = _read(observations)
    if rows is None:
        return []
    reference = "the API's" if rows.shared else "the observer's own"
    said = []
    if words := host_ahead(rows).words:
        said.append(
            f"The host's clock was {words} {reference}, by its event's created_at and when that was first seen."
        )
    if words := livekit_ahead(rows).words:
        said.append(f"LiveKit's clock was {words} {reference}, by its stamps of the room and its webhooks.")
    return said


def _read(observations: pd.DataFrame) -> _Rows | None:
    if observations.empty:
        return None
    unit = np.zeros(len(observations), dtype=np.int64)  # a webhook knows the room alone
    run = paired(unit, codes_of(observations["run_id"])[0])
    sent, _ = instants_of(observations["sent_at"])
    received, _ = instants_of(observations["received_at"])
    offset, error = clock_offsets(observations, sent, unit, run)
    known = ~np.isnan(offset[run])
    if not known.all() and (known.any() or observations["run_id"].nunique() > 1):
        return None
    ahead = np.nan_to_num(offset[run]) * SECOND_NS
    return _Rows(observations, received - ahead, sent - ahead, error[run], bool(known.all()))


def host_ahead(rows: _Rows) -> Ahead:
    """Of the oldest version of the event that was seen."""
    seen = rows.where(Source.RELAY, Outcome.VISIBLE, Operation.QUERY, Operation.SUBSCRIBE)
    stamps = np.array([_second(facts) for facts in rows.facts(seen)])
    if not len(seen) or np.isnan(stamps).all():
        return Ahead()
    stamp = float(np.nanmin(stamps))
    first = seen[stamps == stamp]
    least_s = stamp - float(np.min(rows.at[first] / SECOND_NS + rows.error_s[first]))
    made = [_made_s(rows), *(_told_s(rows) if rows.shared else [])]
    return Ahead(least_s, stamp + GRAIN_S - max(made))


def _second(facts: dict[str, object]) -> float:
    stamps = [facts.get(name) for name in ("created_at", "first_created_at")]
    return min((float(s) for s in stamps if type(s) is int and 0 < s < _LAST_S), default=np.nan)


def _made_s(rows: _Rows) -> float:
    """When our own PUT had been answered, at the earliest, s; -inf where there is none: nothing is signed before it."""
    put = rows.where(Source.API, Outcome.ACCEPTED, Operation.CREATE)
    return float(np.min(rows.at[put] / SECOND_NS - rows.error_s[put])) if len(put) else -np.inf


def _told_s(rows: _Rows) -> list[float]:
    """When the API itself says that the room was made, s on its own clock."""
    shown = rows.where(Source.API, Outcome.VISIBLE, Operation.INFO)
    told = [facts.get("info") for facts in rows.facts(shown)]
    stamps = [instant_told(info.get("createdAt")) / SECOND_NS for info in told if isinstance(info, dict)]
    return [min(stamps)] if stamps and min(stamps) < _LAST_S else []


def livekit_ahead(rows: _Rows) -> Ahead:
    """By the stamps of its webhooks, and of its rooms."""
    stamps = reals_of(rows.frame["remote_at"]) / SECOND_NS
    hooks = rows.where(Source.WEBHOOK, Outcome.ACCEPTED)
    rooms = rows.where(Source.LIVEKIT, Outcome.VISIBLE, Operation.ROOMS)
    both = np.concatenate([hooks, rooms])
    both = both[np.nan_to_num(stamps[both]) > 0]
    if not len(both):
        return Ahead()
    least_s = float(np.max(stamps[both] - rows.at[both] / SECOND_NS - rows.error_s[both]))
    put = rows.where(Source.API, Outcome.ACCEPTED, Operation.CREATE)
    if not len(put):
        return Ahead(least_s)
    asked_s = float(np.min(rows.sent[put] / SECOND_NS - rows.error_s[put]))
    return Ahead(least_s, float(np.min(stamps[both])) + GRAIN_S - asked_s)
