"""Which answers of absence bound when a layer began to show a nest: those that surely were from before it began.

An absent proves that a layer did not show the nest then. Read as "not yet", it bounds the first showing from below, and
that reading is wrong in three ways, all of them found in the rows of any vantage:

    came and went   A nest that has ended is absent for that. What is asked after the last instant at which it was
                    certainly there, and before the layer first showed it, tells nothing: the layer may have shown it
                    between two polls, or before the first
    LiveKit down    E asks LiveKit for every join and answers 404 for any error. Where LiveKit could not be reached at
                    about that time, the API's 404 to a join proves nothing
    held up         We ourselves were held up while it ran (polls.held_up); or we asked so late that a room may have
                    come and gone meanwhile: of a layer that never showed the nest, what was answered after the room
                    was last there tells nothing then

An end is told by LiveKit and the API (a room that one of their calls had shown, and does not show any more),
`room_finished`, another sid under the same name, the DELETE that was accepted, and the event (closed, ended,
withdrawn). All but the last end what the API and LiveKit show. A relay goes on showing the event of a room that is
gone, until it is withdrawn: it tells that the room has ended, and never that it has not. Nor does it tell what other
relays have dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import BELOW, NONE, Flags, Ints, count_of, greatest_at, least_at
from nestobs.observation.columns import codes_of, equals, instants_of, paired
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import says_over
from nestobs.observation.schema import Operation, Outcome, Source
from nestobs.timeline.intervals.down import Down, tokens, while_down
from nestobs.timeline.intervals.polls import HELD_UP_S, Groups, Rows, stamps_of

_CALLS: Final = (
    Operation.ROOMS, Operation.SIGNAL, Operation.MEDIA, Operation.INFO, Operation.JOIN, Operation.GUEST,
)  # fmt: skip  # a list of words
_LATE_NS: Final = round(HELD_UP_S * SECOND_NS)
_STAMP_NS: Final = SECOND_NS  # webhooks are stamped in whole seconds


def proven(observations: pd.DataFrame, rows: Rows, groups: Groups, heard: Ints, down_at: Down) -> Rows:
    """The rows, less the absents that bound nothing, and with those between two rooms of one name. heard: as
    origins.origins takes it. down_at: when LiveKit could not be reached."""
    first = least_at(rows.received[rows.visible], groups.of[rows.visible], len(groups.unit) + 1)
    early = rows.absent & (groups.of >= 0) & (rows.sent < first[groups.of])
    said, down = _said(observations, rows), rows.absent & while_down(observations, rows, down_at)
    over, unwatched = _after_the_end(observations, rows, said, heard, down)
    ended = early & over
    down &= ~ended
    never = early & (first[groups.of] == NONE)
    held = early & ~ended & ~down & (rows.held | never & unwatched)
    absent, remade = rows.absent & ~(ended | down | held), _between_rooms(rows, said, heard)
    return replace(rows, absent=absent, held=held, ended=ended, down=down, remade=remade)


# came and went

_OPEN, _OVER, _WITHDRAWN = range(3)
_HAPPENED, _FINISHED = range(2)


@dataclass(frozen=True, slots=True)
class _Said:
    """What rows say of nests beside what they prove, per row. nest: which, -1 for none. sid: of its room, -1 for none.
    webhook: _HAPPENED or _FINISHED, -1 for no webhook. event: _OPEN, _OVER or _WITHDRAWN, -1 where none is shown."""

    nest: Ints
    sid: Ints
    webhook: Ints
    event: Ints


def _after_the_end(
    observations: pd.DataFrame, rows: Rows, said: _Said, heard: Ints, down: Flags
) -> tuple[Flags, Flags]:
    """Which rows may speak of a nest that had ended, by what its rows of any vantage say; and which of the API and of
    LiveKit were answered when their vantage had been late, and nothing shows that the room was there later."""
    nest, size = said.nest, count_of(said.nest) + 1  # the last is of rows of no nest
    sent = rows.sent + (heard - rows.received)  # on the clock of `heard`
    source, operation = observations["source"], observations["operation"]
    relay = equals(source, Source.RELAY) | equals(source, Source.CLIENT)
    accepted = equals(observations["outcome"], Outcome.ACCEPTED) & ~rows.intent
    deleted, made = (accepted & equals(operation, one) for one in (Operation.DELETE, Operation.CREATE))
    first, again = _first_rooms(said, heard, size)

    def ended(*evidence: Flags) -> Ints:
        """Per nest by when it had ended; NONE where nothing says that it did."""
        chosen = np.logical_or.reduce(evidence) & (nest >= 0)
        return least_at(heard[chosen], nest[chosen], size)

    def there(end: Ints, place: Ints, *evidence: tuple[Flags, Ints]) -> Ints:
        """Per place the last instant before its nest's end at which it was certainly there, BELOW for none."""
        found = np.full(count_of(place) + 1, BELOW, dtype=np.int64)
        for among, at in evidence:
            chosen = np.flatnonzero(among & (nest >= 0))
            chosen = chosen[at[chosen] < end[nest[chosen]]]
            found = np.maximum(found, greatest_at(at[chosen], place[chosen], len(found)))
        return found

    shown = rows.visible & (tokens(observations) | equals(source, Source.LIVEKIT))
    shown &= (first[nest] < 0) | ~again[nest] | (said.sid == first[nest])
    stamped, known = stamps_of(observations)
    happened = (said.webhook >= 0) & known
    alive = [(shown, sent), (made, heard), (happened, np.minimum(stamped - _STAMP_NS, heard))]
    over = ended(
        _not_any_more(operation, rows, said, heard, down),
        *(deleted, said.webhook == _FINISHED, _renewed(said, first), said.event >= _OVER),
    )
    room = np.where(over == NONE, NONE, there(over, nest, *alive, (deleted, sent)))
    withdrawn = ended(deleted, said.event == _WITHDRAWN)
    one_relay = paired(nest, codes_of(observations["target"])[0])
    opened = (relay & ((said.event == _OPEN) | (rows.absent & rows.pushed)), sent)
    event = np.maximum(there(withdrawn, nest, (deleted, sent))[nest], there(withdrawn, one_relay, opened)[one_relay])
    until = np.where(relay, np.where(withdrawn[nest] == NONE, NONE, event), room[nest])
    unwatched = ~relay & (heard > there(np.full(size, NONE), nest, *alive)[nest])
    unwatched &= heard > _late_since(observations, rows, nest, sent, ended(made))[rows.place]
    return np.asarray((nest >= 0) & (heard > until), dtype=bool), np.asarray((nest >= 0) & unwatched, dtype=bool)


def _late_since(observations: pd.DataFrame, rows: Rows, nest: Ints, sent: Ints, made: Ints) -> Ints:
    """Per place when a poll was first due that we sent `HELD_UP_S` late; NONE where we never did. made: per nest when
    it was known to be made, for none of it is asked before. The last is of no place."""
    planned, due = instants_of(observations["planned_at"])
    planned += sent - rows.sent
    known = made[nest]
    planned = np.where(known == NONE, planned, np.maximum(planned, known))
    late = due & ~rows.intent & (rows.unit >= 0) & (sent - planned >= _LATE_NS)
    return least_at(planned[late], rows.place[late], rows.places + 1)


def _said(observations: pd.DataFrame, rows: Rows) -> _Said:
    """Each different detail is read once."""
    source = observations["source"]
    accepted = equals(observations["outcome"], Outcome.ACCEPTED)
    noted = accepted & equals(source, Source.RELAY) & equals(observations["operation"], Operation.RECEIVE)
    relay = noted | (rows.visible & (equals(source, Source.RELAY) | equals(source, Source.CLIENT)))
    hooks = accepted & equals(source, Source.WEBHOOK)
    livekit = rows.visible & equals(source, Source.LIVEKIT)
    index = np.flatnonzero(relay | hooks | livekit)
    code, texts = pd.factorize(observations["detail"].iloc[index])
    facts = [facts_of(text) for text in texts]
    sids = pd.Series([_text(one.get("sid") or one.get("room_sid")) for one in facts], dtype=object)
    tables = (
        codes_of(sids)[0].tolist(),
        [_FINISHED if one.get("event") == "room_finished" else _HAPPENED for one in facts],
        [_state(one) for one in facts],
    )
    found = np.full((3, len(rows.unit)), -1, dtype=np.int64)
    for row, table in enumerate(tables):
        found[row, index] = np.asarray([*table, -1], dtype=np.int64)[code]
    return _Said(rows.nest, found[0], np.where(hooks, found[1], -1), np.where(relay, found[2], -1))


def _state(facts: dict[str, Any]) -> int:
    if facts.get("withdrawn"):
        return _WITHDRAWN
    return _OVER if says_over(_text(facts.get("status"))) else _OPEN


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _first_rooms(said: _Said, heard: Ints, size: int) -> tuple[Ints, Flags]:
    """Per nest the sid of the first room that was seen under its name, -1 for none, and whether another came after."""
    index = np.flatnonzero((said.sid >= 0) & (said.nest >= 0))
    index = index[np.argsort(-heard[index], kind="stable")]
    first = np.full(size, -1, dtype=np.int64)
    first[said.nest[index]] = said.sid[index]  # the last write stands: the earliest
    again = np.zeros(size, dtype=bool)
    again[said.nest[index][said.sid[index] != first[said.nest[index]]]] = True
    return first, again


def _renewed(said: _Said, first: Ints) -> Flags:
    """Which rows show another room under the name than the first: that one had ended."""
    return np.asarray((said.sid >= 0) & (said.nest >= 0) & (said.sid != first[said.nest]), dtype=bool)


def _between_rooms(rows: Rows, said: _Said, heard: Ints) -> Flags:
    """Which rows were asked after the last that showed one room and before the first that showed the next of the same
    name: a restart, or a vanished room that its host's token made again."""
    sent = rows.sent + (heard - rows.received)
    index = np.flatnonzero((said.sid >= 0) & (said.nest >= 0) & rows.visible)
    index = index[np.lexsort((heard[index], said.nest[index]))]
    before, after = index[:-1], index[1:]
    anew = (said.nest[before] == said.nest[after]) & (said.sid[before] != said.sid[after])
    if not anew.any():
        return np.zeros(len(heard), dtype=bool)
    instants, rank = np.unique(np.concatenate([sent, heard]), return_inverse=True)
    asked, answered = (said.nest * len(instants) + part for part in np.split(rank, 2))  # in order of nest, then time
    ended, begun = np.sort(asked[before[anew]]), np.sort(answered[after[anew]])
    return np.searchsorted(ended, answered, "left") > np.searchsorted(begun, asked, "right")


def _not_any_more(operation: pd.Series, rows: Rows, said: _Said, heard: Ints, down: Flags) -> Flags:
    """Which rows say that a call does not show a nest any more that it had shown to the same vantage, and never does
    again; LiveKit lists a room to all or to none. down: what an API says while it cannot ask LiveKit."""
    sent, found = rows.sent + (heard - rows.received), np.zeros(len(heard), dtype=bool)
    ours = paired(said.nest, rows.vantage)
    for one in _CALLS:
        place = said.nest if one is Operation.ROOMS else ours
        size = count_of(place) + 1
        asked = equals(operation, one) & (said.nest >= 0)
        shown = asked & rows.visible
        first = least_at(heard[shown], place[shown], size)
        last = greatest_at(sent[shown], place[shown], size)
        index = np.flatnonzero(asked & rows.absent & ~down)
        found[index] |= (sent[index] >= first[place[index]]) & (heard[index] > last[place[index]])
    return found
