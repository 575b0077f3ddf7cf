"""Observations as arrays, and the timeline that each poll belongs to: what intervals are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import Flags, Ints, Texts, count_of
from nestobs.observation.columns import (
    codes_of,
    distinct,
    equals,
    equals_any,
    instants_of,
    paired,
    ranked,
    reals_of,
    units_of,
)
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Source, layer_of
from nestobs.timeline.nests import nests_of, subjects_of

LATE_S: Final = 0.1
"""A poll sent later than this after it was planned is late."""

HELD_UP_S: Final = 0.5
"""An attempt during which the event loop stood still for so long was held up by ourselves (`clock.LAG_S`)."""

DISTURBED: Final = (Failure.CLOCK_STEP, Failure.SUSPENDED, Failure.LOOP_BLOCKED)
"""What a vantage notes of its own machine."""


_ASKED: Final = ("trace_id", "nest", "room", "vantage", "run_id", "source", "operation", "target")


@dataclass(frozen=True, slots=True)
class Asks:
    """What many rows have in common, each once: who asked whom what about which nest. frame: that, in words.

    unit: nest under observation, -1 for none; clock: (vantage, run); place: (unit, clock); nest: as nests_of tells;
    subject, run: as subjects_of and runs_of tell, where something is named.
    """

    frame: pd.DataFrame
    unit: Ints
    vantage: Ints
    clock: Ints
    place: Ints
    nest: Ints
    subject: Ints
    run: Ints


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows as arrays. ask: what each asked, of `asks`; unit, nest, subject: those of it; run: as runs_of tells.

    sent: of the silence before a push that of its ping, less what our own lag explains. held: made while we ourselves
    were held up. Absents that bound nothing are not `absent` any more (proofs.py): held; ended: they came after the
    nest's end; down: while LiveKit could not be reached.
    """

    asks: Asks
    ask: Ints
    unit: Ints
    nest: Ints
    subject: Ints
    run: Ints
    sent: Ints
    received: Ints
    late: Flags
    intent: Flags
    visible: Flags
    absent: Flags
    pushed: Flags
    held: Flags
    ended: Flags
    down: Flags
    remade: Flags


@dataclass(frozen=True, slots=True)
class Groups:
    """The rows of the result. of: the group of each observation, -1 for none; asked: that of each of `Rows.asks`; the
    rest per group. layer: which of `layers`, that are sorted."""

    of: Ints
    asked: Ints
    unit: Ints
    vantage: Ints
    layer: Ints
    layers: Texts

    @property
    def relay(self) -> Flags:
        """Of relays."""
        return np.array([name.startswith("relay:") for name in self.layers], dtype=bool)[self.layer]


def read(observations: pd.DataFrame) -> Rows:
    """All rows, in their order."""
    asks, ask = _asked(observations)
    sent, _ = instants_of(observations["sent_at"])
    received, answered = instants_of(observations["received_at"])
    planned, due = instants_of(observations["planned_at"])
    intent = equals(observations["failure"], Failure.INTENT)
    proof = answered & ~intent
    absent = proof & equals(observations["outcome"], Outcome.ABSENT)
    pushed = equals(observations["operation"], Operation.SUBSCRIBE)
    silent = np.flatnonzero(pushed & absent)
    lag_s = np.nan_to_num(reals_of(observations["loop_lag_s"].iloc[silent]))
    since = sent.copy()
    since[silent] -= np.round(lag_s * SECOND_NS).astype(np.int64)
    subject, run = asks.subject[ask], asks.run[ask]
    nothing = np.flatnonzero(subject < 0)
    run[nothing] = count_of(asks.run) + np.arange(len(nothing))  # each by itself
    none = np.zeros(len(sent), dtype=bool)
    return Rows(
        asks=asks,
        ask=ask,
        unit=asks.unit[ask],
        nest=asks.nest[ask],
        subject=subject,
        run=run,
        sent=since,
        received=np.where(answered, received, sent),
        late=due & ~intent & (sent - planned > round(LATE_S * SECOND_NS)),
        intent=intent,
        visible=proof & equals(observations["outcome"], Outcome.VISIBLE),
        absent=absent,
        pushed=pushed,
        held=held_up(observations),
        ended=none,
        down=none,
        remade=none,
    )


def _asked(observations: pd.DataFrame) -> tuple[Asks, Ints]:
    """What was asked, and per row which of that."""
    frame, ask = distinct(observations, _ASKED)
    about = nests_of(frame)
    unit, _ = units_of(frame)
    subject, _ = subjects_of(frame, about)
    clock = clocks(frame)
    asks = Asks(
        frame=frame,
        unit=unit,
        vantage=codes_of(frame["vantage"])[0],
        clock=clock,
        place=paired(unit, clock),
        nest=about.unit,
        subject=subject,
        run=paired(subject, codes_of(frame["run_id"])[0]),
    )
    return asks, ask


def stamps_of(observations: pd.DataFrame) -> tuple[Ints, Flags]:
    """The other side's own stamps, ns, 0 where there is none, and where there is one. Whatever else stands there is
    none: no bound rests on them."""
    stamps = observations["remote_at"]
    if not pd.api.types.is_integer_dtype(stamps.dtype):
        stamps = pd.to_numeric(stamps, errors="coerce").astype("Float64").round().astype("Int64")
    return instants_of(stamps)


def clocks(observations: pd.DataFrame) -> Ints:
    """A number for each vantage and run: what shares one clock and one event loop."""
    return paired(codes_of(observations["vantage"])[0], codes_of(observations["run_id"])[0])


def held_up(observations: pd.DataFrame) -> Flags:
    """Which attempts ran while the observing machine itself was held up: its event loop stood still for `HELD_UP_S`, it
    slept, or its clock was stepped. What was judged from them (a timeout, a loss) says nothing of whom they asked.

    Found by the row's own lag, its own failure, or by a disturbance that the same vantage and run noted meanwhile.
    """
    failure = observations["failure"]
    own = equals_any(failure, DISTURBED)
    held = own | (reals_of(observations["loop_lag_s"]) >= HELD_UP_S)  # NaN is not
    step = own & equals(observations["source"], Source.CLOCK)
    if not step.any():
        return np.asarray(held, dtype=bool)
    begun, _ = instants_of(observations["sent_at"])
    received, answered = instants_of(observations["received_at"])
    ended = np.maximum(begun, np.where(answered, received, begun))
    begun = np.where(step & equals(failure, Failure.SUSPENDED), ended - SECOND_NS, begun)  # it is reckoned back
    clock = clocks(observations)
    disturbed = np.unique(clock[step])
    those = np.flatnonzero(np.isin(clock, disturbed))
    those = those[np.argsort(clock[those], kind="stable")]
    for mine in np.split(those, np.searchsorted(clock[those], disturbed[1:])):
        steps = mine[step[mine]]
        starts, ends = np.sort(begun[steps]), np.sort(ended[steps])
        held[mine] |= np.searchsorted(starts, ended[mine], "right") > np.searchsorted(ends, begun[mine], "left")
    return np.asarray(held & ~step, dtype=bool)


def grouped(rows: Rows) -> Groups:
    """Which timeline each row belongs to: one a nest under observation, layer and vantage."""
    asks = rows.asks
    layer, names = layers_of(asks.frame)
    code = np.where((asks.unit >= 0) & (layer >= 0), paired(paired(asks.unit, layer), asks.vantage), -1)
    code = ranked(code)
    first = np.full(count_of(code), -1, dtype=np.int64)
    first[code[code >= 0]] = np.flatnonzero(code >= 0)  # any of the group: all agree on what is read here
    return Groups(
        of=code[rows.ask],
        asked=code,
        unit=asks.unit[first],
        vantage=asks.vantage[first],
        layer=layer[first],
        layers=names,
    )


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
