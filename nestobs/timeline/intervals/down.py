"""When an API's 404 to a join proves nothing: while the LiveKit that it asks could not be reached.

    failures to reach a LiveKit ──until an answer of it, DOWN_S at most──> spans in which it may have been down
    who asked it, and an API for a token                              ──> which APIs ask that LiveKit

A timeline takes that from rows of other nests, so it is a value: `down` finds it in rows of whatever nests, and what
several lots of rows tell is put together by `joined`. What a row is to it is told of rows in whatever form (`Has`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from nestobs.observation.arrays import BELOW, NONE, Flags, Ints, count_of
from nestobs.observation.columns import codes_of, equals_any, instants_of
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

Answers: TypeAlias = Mapping[str, tuple[Ints, Ints]]
"""By the LiveKit that answered, when it was asked and when its answer was there, ns, in no order."""

Has: TypeAlias = Callable[[str, frozenset[str]], Flags]
"""Which rows have one of these words in the column of that name."""


def _words(*words: str) -> frozenset[str]:
    return frozenset(map(str, words))


_LIVEKIT, _API = _words(Source.LIVEKIT), _words(Source.API)
_ASKS, _TOKENS = _words(Operation.ROOMS, Operation.SIGNAL), _words(Operation.JOIN, Operation.GUEST)
_UNKNOWN, _OURS = _words(Outcome.UNKNOWN), _words(Outcome.PROBE_ERROR)
_UNREACHED: Final = _words(
    Failure.REFUSED, Failure.RESET, Failure.CLOSED, Failure.TIMEOUT, Failure.UNREACHABLE, Failure.SERVER_ERROR,
)  # fmt: skip  # a list of words
_DOWN_NS: Final = round(DOWN_S * SECOND_NS)
_NO_INSTANTS: Final = np.zeros(0, dtype=np.int64)


def words_of(observations: pd.DataFrame) -> Has:
    """Of the rows of a frame."""
    return lambda name, words: equals_any(observations[name], words)


def tokens(has: Has) -> Flags:
    """Which rows ask an API for a token."""
    return has("source", _API) & has("operation", _TOKENS)


def asked_livekit(has: Has) -> Flags:
    """Which rows ask LiveKit for its rooms, or to be let in."""
    return has("source", _LIVEKIT) & has("operation", _ASKS)


def unreached(has: Has) -> Flags:
    """Which of those did not reach it."""
    return has("failure", _UNREACHED) & asked_livekit(has) & has("outcome", _UNKNOWN)


def reached(has: Has) -> Flags:
    """Which of those did."""
    return asked_livekit(has) & ~unreached(has) & ~has("outcome", _OURS)


def down(observations: pd.DataFrame, more: Answers = MappingProxyType({})) -> Down:
    """When LiveKit could not be reached from anywhere, by these rows. Whose way there is blocked, so that it was never
    answered, says nothing where another was. more: answers of whoever has one among these rows."""
    has = words_of(observations)
    token, asked = tokens(has), asked_livekit(has)
    index = np.flatnonzero(token | asked)
    token, asked = token[index], asked[index]
    those = observations[list(NEEDED)].iloc[index]
    has = words_of(those)
    failed = unreached(has)
    if not failed.any():
        return {}
    target, targets = codes_of(those["target"])
    sent, _ = instants_of(those["sent_at"])
    received, known = instants_of(those["received_at"])
    received = np.where(known, received, sent)
    clock, answered = clocks(those), reached(has)
    token &= target >= 0
    found: list[Down] = []
    for livekit in np.unique(target[failed]):
        ours = asked & (target == livekit)
        apis = np.unique(target[token & _those_of(clock, ours)])
        good, bad = answered & ours, failed & ours
        if good.any():
            bad &= _those_of(clock, good)
        begun, ended = more.get(str(np.append(targets, "")[livekit]), (_NO_INSTANTS, _NO_INSTANTS))
        answers = np.sort(np.append(sent[good], begun)), np.sort(np.append(received[good], ended))
        spans = _spans(sent[bad], received[bad], *answers)
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
    mine = np.flatnonzero(tokens(words_of(observations)) & rows.absent)
    code, targets = codes_of(observations["target"].iloc[mine])
    places = {str(target): place for place, target in enumerate(targets)}
    for api, (begun, ended) in found.items():
        index = mine[code == places.get(api, -2)]
        late = np.searchsorted(begun, rows.received[index], "right")
        hit[index] |= late > np.searchsorted(ended, rows.sent[index], "left")
    return hit


def _spans(sent: Ints, received: Ints, begun: Ints, ended: Ints) -> tuple[Ints, Ints]:
    """When a server may have been down: about each failure, to either side until an answer, and for DOWN_S at most.
    begun, ended: of its answers when they were asked for and when they came, each ascending."""
    before = np.searchsorted(ended, sent, "right") - 1
    after = np.searchsorted(begun, received, "left")
    since = np.append(ended, BELOW)[before]  # -1: none
    until = np.append(begun, NONE)[after]
    return np.maximum(since, sent - _DOWN_NS), np.minimum(until, received + _DOWN_NS)


def _apart(begun: Ints, ended: Ints) -> tuple[Ints, Ints]:
    """The same spans in order, those that touch as one."""
    order = np.argsort(begun, kind="stable")
    begun, ended = begun[order], np.maximum.accumulate(ended[order])
    cuts = np.flatnonzero(begun[1:] > ended[:-1])
    return begun[np.append(0, cuts + 1)], ended[np.append(cuts, len(ended) - 1)]
