"""Observations as arrays, and the timeline that each poll belongs to: what intervals are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import BELOW, Flags, Ints, Texts, count_of, greatest_at, least_at
from nestobs.observation.columns import codes_of, equals, instants_of, paired, ranked, units_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, layer_of

LATE_S: Final = 0.1
"""A poll sent later than this after it was planned is late."""


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows as arrays. unit: nest under observation, -1 for none; clock: (vantage, run); place: (unit, clock)."""

    unit: Ints
    vantage: Ints
    clock: Ints
    place: Ints
    places: int
    sent: Ints
    received: Ints
    late: Flags
    intent: Flags
    visible: Flags
    absent: Flags
    pushed: Flags


@dataclass(frozen=True, slots=True)
class Groups:
    """The rows of the result. of: the group of each observation, -1 for none; the rest per group."""

    of: Ints
    unit: Ints
    vantage: Ints
    layer: Texts

    @property
    def relay(self) -> Flags:
        """Of relays."""
        return np.array([name.startswith("relay:") for name in self.layer], dtype=bool)


def read(observations: pd.DataFrame) -> Rows:
    """All rows, in their order."""
    sent, _ = instants_of(observations["sent_at"])
    received, answered = instants_of(observations["received_at"])
    planned, due = instants_of(observations["planned_at"])
    intent = equals(observations["failure"], Failure.INTENT)
    proof = answered & ~intent
    vantage, _ = codes_of(observations["vantage"])
    run, _ = codes_of(observations["run_id"])
    clock = paired(vantage, run)
    unit, _ = units_of(observations)
    place = paired(unit, clock)
    return Rows(
        unit=unit,
        vantage=vantage,
        clock=clock,
        place=place,
        places=count_of(place),
        sent=sent,
        received=np.where(answered, received, sent),
        late=due & ~intent & (sent - planned > round(LATE_S * SECOND_NS)),
        intent=intent,
        visible=proof & equals(observations["outcome"], Outcome.VISIBLE),
        absent=proof & equals(observations["outcome"], Outcome.ABSENT),
        pushed=equals(observations["operation"], Operation.SUBSCRIBE),
    )


def without_ended(observations: pd.DataFrame, rows: Rows) -> Rows:
    """The rows, less absents of LiveKit's signalling that may speak of a room that had ended.

    Signalling is tried only with a token, seldom and late. Where the same vantage saw the room listed and then not, an
    absent sent after the last listing tells nothing of when signalling began; unless it had been seen before, when it
    bounds the going as any other.
    """
    operation, known = observations["operation"], rows.unit >= 0
    rooms, signal = (equals(operation, name) & known for name in (Operation.ROOMS, Operation.SIGNAL))
    listed = rooms & rows.visible
    last = greatest_at(rows.sent[listed], rows.place[listed], rows.places)
    missing = rooms & rows.absent & (rows.sent > last[rows.place]) & (last[rows.place] != BELOW)
    ended = np.bincount(rows.place[missing], minlength=rows.places) > 0
    shown = signal & rows.visible
    first = least_at(rows.received[shown], rows.place[shown], rows.places)
    late = ended[rows.place] & (rows.sent >= last[rows.place]) & (rows.sent < first[rows.place])
    return replace(rows, absent=rows.absent & ~(signal & rows.absent & late))


def grouped(observations: pd.DataFrame, rows: Rows) -> Groups:
    """Which timeline each row belongs to: one a nest under observation, layer and vantage."""
    asked, names = layers_of(observations)
    code = np.where((rows.unit >= 0) & (asked >= 0), paired(paired(rows.unit, asked), rows.vantage), -1)
    code = ranked(code)
    first = np.full(count_of(code), -1, dtype=np.int64)
    first[code[code >= 0]] = np.flatnonzero(code >= 0)  # any row of the group: all agree on what is read here
    return Groups(of=code, unit=rows.unit[first], vantage=rows.vantage[first], layer=names[asked[first]])


def layers_of(observations: pd.DataFrame) -> tuple[Ints, Texts]:
    """Per observation (source, operation, target) the code of its layer, -1 for none; and the sorted layers' names."""
    asked = [codes_of(observations[name]) for name in ("source", "operation", "target")]
    (source, sources), (operation, operations), (target, targets) = asked
    kind = paired(paired(source, operation), target)
    first = np.zeros(count_of(kind), dtype=np.int64)
    first[kind] = np.arange(len(kind))
    text = [
        layer_of(_name(sources, source[i]), _name(operations, operation[i]), _name(targets, target[i])) for i in first
    ]
    code, names = codes_of(pd.Series(text, dtype=object))
    return code[kind] if len(kind) else kind, names


def _name(names: Texts, code: int) -> str:
    return str(names[code]) if code >= 0 else ""
