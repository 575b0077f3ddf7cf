"""When an API's 404 to a join proves nothing: while the LiveKit that it asks could not be reached.

    failures to reach a LiveKit ──until an answer of it, DOWN_S at most──> spans in which it may have been down
    who asked it, and an API for a token                              ──> which APIs ask that LiveKit

A timeline takes that from rows of other nests, so it is a value: `down` finds it in rows of whatever nests, and what
several lots of rows tell is put together by `joined`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from nestobs.observation.arrays import BELOW, NONE, Flags, Ints, count_of
from nestobs.observation.columns import codes_of, equals, instants_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Source
from nestobs.timeline.intervals.polls import Rows, clocks

DOWN_S: Final = 15.0
"""So long before and after a failure to reach LiveKit it is taken to be down, unless it answered meanwhile."""

NEEDED: Final = (
    "run_id", "vantage", "source", "target", "operation", "sent_at", "received_at", "outcome", "failure",
)  # fmt: skip  # a list of words
"""The columns of observations that `down` reads."""

Down: TypeAlias = Mapping[str, tuple[Ints, Ints]]
"""By the API that is asked for tokens, when its LiveKit may have been down: starts and ends, ns, ascending, apart."""

_UNREACHED: Final = (
    Failure.REFUSED, Failure.RESET, Failure.CLOSED, Failure.TIMEOUT, Failure.UNREACHABLE, Failure.SERVER_ERROR,
)  # fmt: skip  # a list of words
_DOWN_NS: Final = round(DOWN_S * SECOND_NS)


def tokens(observations: pd.DataFrame) -> Flags:
    """Which rows ask an API for a token."""
    operation = observations["operation"]
    joins = equals(operation, Operation.JOIN) | equals(operation, Operation.GUEST)
    return np.asarray(equals(observations["source"], Source.API) & joins, dtype=bool)


def asked_livekit(observations: pd.DataFrame) -> Flags:
    """Which rows ask LiveKit for its rooms, or to be let in."""
    operation = observations["operation"]
    asks = equals(operation, Operation.ROOMS) | equals(operation, Operation.SIGNAL)
    return np.asarray(equals(observations["source"], Source.LIVEKIT) & asks, dtype=bool)


def unreached(observations: pd.DataFrame) -> Flags:
    """Which of those did not reach it."""
    failed = np.any([equals(observations["failure"], one) for one in _UNREACHED], axis=0)
    failed &= asked_livekit(observations) & equals(observations["outcome"], Outcome.UNKNOWN)
    return np.asarray(failed, dtype=bool)


def reached(observations: pd.DataFrame) -> Flags:
    """Which of those did."""
    ours = equals(observations["outcome"], Outcome.PROBE_ERROR)
    return asked_livekit(observations) & ~unreached(observations) & ~ours


def down(observations: pd.DataFrame) -> Down:
    """When LiveKit could not be reached from anywhere, by these rows. Whose way there is blocked, so that it was never
    answered, says nothing where another was."""
    token, asked = tokens(observations), asked_livekit(observations)
    index = np.flatnonzero(token | asked)
    token, asked = token[index], asked[index]
    those = observations[list(NEEDED)].iloc[index]
    failed = unreached(those)
    if not failed.any():
        return {}
    target, targets = codes_of(those["target"])
    sent, _ = instants_of(those["sent_at"])
    received, known = instants_of(those["received_at"])
    received = np.where(known, received, sent)
    clock, answered = clocks(those), reached(those)
    token &= target >= 0
    found: list[Down] = []
    for livekit in np.unique(target[failed]):
        ours = asked & (target == livekit)
        apis = np.unique(target[token & _those_of(clock, ours)])
        good, bad = answered & ours, failed & ours
        if good.any():
            bad &= _those_of(clock, good)
        spans = _spans(sent, received, bad, good)
        found += [{str(targets[api]): spans} for api in apis if len(spans[0])]
    return joined(found)


def _those_of(clock: Ints, some: Flags) -> Flags:
    """Which rows are of a clock that some of them are of."""
    seen = np.zeros(count_of(clock), dtype=bool)
    seen[clock[some]] = True
    return seen[clock]


def joined(found: Iterable[Down]) -> Down:
    """All that several tell."""
    lots: dict[str, list[tuple[Ints, Ints]]] = {}
    for each in found:
        for api, spans in each.items():
            lots.setdefault(api, []).append(spans)
    return {api: _apart(*(np.concatenate(ends) for ends in zip(*spans, strict=True))) for api, spans in lots.items()}


def within(found: Down, start: int, end: int) -> Down:
    """What touches [start, end], ns."""
    cut = {}
    for api, (begun, ended) in found.items():
        keeps = (begun <= end) & (ended >= start)
        cut[api] = begun[keeps], ended[keeps]
    return {api: spans for api, spans in cut.items() if len(spans[0])}


def while_down(observations: pd.DataFrame, rows: Rows, found: Down) -> Flags:
    """Which rows are an API's answers of absence to a join while its LiveKit may have been down."""
    hit = np.zeros(len(rows.sent), dtype=bool)
    if not found:
        return hit
    mine = np.flatnonzero(tokens(observations) & rows.absent)
    code, targets = codes_of(observations["target"].iloc[mine])
    places = {str(target): place for place, target in enumerate(targets)}
    for api, (begun, ended) in found.items():
        index = mine[code == places.get(api, -2)]
        late = np.searchsorted(begun, rows.received[index], "right")
        hit[index] |= late > np.searchsorted(ended, rows.sent[index], "left")
    return hit


def _spans(sent: Ints, received: Ints, failed: Flags, answered: Flags) -> tuple[Ints, Ints]:
    """When a server may have been down: about each failure, to either side until an answer, and for DOWN_S at most."""
    good_begun, good_ended = np.sort(sent[answered]), np.sort(received[answered])
    sent, received = sent[failed], received[failed]
    before = np.searchsorted(good_ended, sent, "right") - 1
    after = np.searchsorted(good_begun, received, "left")
    since = np.append(good_ended, BELOW)[before]  # -1: none
    until = np.append(good_begun, NONE)[after]
    return np.maximum(since, sent - _DOWN_NS), np.minimum(until, received + _DOWN_NS)


def _apart(begun: Ints, ended: Ints) -> tuple[Ints, Ints]:
    """The same spans in order, those that touch as one."""
    order = np.argsort(begun, kind="stable")
    begun, ended = begun[order], np.maximum.accumulate(ended[order])
    cuts = np.flatnonzero(begun[1:] > ended[:-1])
    return begun[np.append(0, cuts + 1)], ended[np.append(cuts, len(ended) - 1)]
