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
from nestobs.timeline.intervals.down import Down, tokens, while_down, words_of
from nestobs.timeline.intervals.polls import HELD_UP_S, Groups, Rows, stamps_of

_CALLS: Final = (
    Operation.ROOMS, Operation.SIGNAL, Operation.MEDIA, Operation.INFO, Operation.JOIN, Operation.GUEST,
)  # fmt: skip  # a list of words
_LATE_NS: Final = round(HELD_UP_S * SECOND_NS)
_STAMP_NS: Final = SECOND_NS  # webhooks are stamped in whole seconds


def proven(observations: pd.DataFrame, rows: Rows, groups: Groups, heard: Ints, down_at: Down) -> Rows:
    """The rows, less the absents that bound nothing, and with those between two rooms of one name. heard: as
    origins.origins takes it. down_at: when LiveKit could not be reached."""
    shown, absent = np.flatnonzero(rows.visible), np.flatnonzero(rows.absent)
    first = least_at(rows.received[shown], groups.of[shown], len(groups.unit) + 1)  # the last is of no group
    first = first[groups.of[absent]]
    early, never = np.zeros((2, len(heard)), dtype=bool)
    early[absent] = (groups.of[absent] >= 0) & (rows.sent[absent] < first)
    never[absent] = first == NONE
    said, down = _said(observations, rows, heard), rows.absent & while_down(observations, rows, down_at)
    over, unwatched = _after_the_end(observations, rows, said, down)
    ended = early & over
    down &= ~ended
    held = early & ~ended & ~down & (rows.held | never & unwatched)
    proves = rows.absent & ~(ended | down | held)
    return replace(rows, absent=proves, held=held, ended=ended, down=down, remade=_between_rooms(rows, said))


# came and went

_OPEN, _OVER, _WITHDRAWN = range(3)
_HAPPENED, _FINISHED = range(2)


@dataclass(frozen=True, slots=True)
class _Said:
    """What rows say of nests beside what they prove, per row. sid: of its room, -1 for none. webhook: _HAPPENED or
    _FINISHED, -1 for no webhook. event: _OPEN, _OVER or _WITHDRAWN, -1 where none is shown. asked, heard: when, on the
    reference clock, ns."""

    sid: Ints
    webhook: Ints
    event: Ints
    asked: Ints
    heard: Ints


def _after_the_end(observations: pd.DataFrame, rows: Rows, said: _Said, down: Flags) -> tuple[Flags, Flags]:
    """Which rows may speak of a nest that had ended, by what its rows of any vantage say; and which of the API and of
    LiveKit were answered when their vantage had been late, and nothing shows that the room was there later."""
    nest, size = rows.nest, count_of(rows.asks.nest) + 1  # the last is of rows of no nest
    source, operation = observations["source"], observations["operation"]
    relay = equals(source, Source.RELAY) | equals(source, Source.CLIENT)
    accepted = equals(observations["outcome"], Outcome.ACCEPTED) & ~rows.intent
    deleted, made = (accepted & equals(operation, one) for one in (Operation.DELETE, Operation.CREATE))
    first, again = _first_rooms(rows, said, size)

    def ended(*evidence: Flags) -> Ints:
        """Per nest by when it had ended; NONE where nothing says that it did."""
        chosen = np.flatnonzero(np.logical_or.reduce(evidence) & (nest >= 0))
        return least_at(said.heard[chosen], nest[chosen], size)

    def there(end: Ints, place: Ints, *evidence: tuple[Flags, Ints]) -> Ints:
        """Per place the last instant before its nest's end at which it was certainly there, BELOW for none."""
        found = np.full(count_of(place) + 1, BELOW, dtype=np.int64)
        for among, at in evidence:
            chosen = np.flatnonzero(among & (nest >= 0))
            chosen = chosen[at[chosen] < end[nest[chosen]]]
            np.maximum.at(found, place[chosen], at[chosen])
        return found

    shown = rows.visible & (tokens(words_of(observations)) | equals(source, Source.LIVEKIT))
    if again.any():
        shown &= ~again[nest] | (said.sid == first[nest])
    stamped, known = stamps_of(observations)
    happened = (said.webhook >= 0) & known
    alive = [(shown, said.asked), (made, said.heard), (happened, np.minimum(stamped - _STAMP_NS, said.heard))]
    gone = _not_any_more(rows, said, down)
    over = ended(gone, deleted, said.webhook == _FINISHED, _renewed(rows, said, first), said.event >= _OVER)
    withdrawn = ended(deleted, said.event == _WITHDRAWN)
    until = np.full(len(nest), NONE)
    those = np.flatnonzero(over[nest] != NONE)  # what was withdrawn has ended, too
    if len(those):
        of, one_relay = nest[those], paired(rows.asks.nest, codes_of(rows.asks.frame["target"])[0])[rows.ask]
        event = there(withdrawn, nest, (deleted, said.asked))[of]
        opened = relay & ((said.event == _OPEN) | (rows.absent & rows.pushed))
        event = np.maximum(event, there(withdrawn, one_relay, (opened, said.asked))[one_relay[those]])
        event = np.where(withdrawn[of] == NONE, NONE, event)
        until[those] = np.where(relay[those], event, there(over, nest, *alive, (deleted, said.asked))[of])
    since = _late_since(observations, rows, said, ended(made))
    those = np.flatnonzero((since != NONE)[rows.asks.place][rows.ask] & ~relay & (nest >= 0))
    unwatched = np.zeros(len(nest), dtype=bool)
    if len(those):
        last = there(np.full(size, NONE), nest, *alive)[nest[those]]
        unwatched[those] = said.heard[those] > np.maximum(last, since[rows.asks.place[rows.ask[those]]])
    return np.asarray(said.heard > until, dtype=bool), unwatched


def _late_since(observations: pd.DataFrame, rows: Rows, said: _Said, made: Ints) -> Ints:
    """Per place when a poll was first due that we sent `HELD_UP_S` late; NONE where we never did. made: per nest when
    it was known to be made, for none of it is asked before."""
    planned, due = instants_of(observations["planned_at"])
    late = np.flatnonzero(due & ~rows.intent & (rows.unit >= 0) & (rows.sent - planned >= _LATE_NS))
    asked = said.asked[late]
    planned = planned[late] + (asked - rows.sent[late])
    known = made[rows.nest[late]]
    planned = np.where(known == NONE, planned, np.maximum(planned, known))
    still = asked - planned >= _LATE_NS
    place = rows.asks.place
    return least_at(planned[still], place[rows.ask[late[still]]], count_of(place))


def _said(observations: pd.DataFrame, rows: Rows, heard: Ints) -> _Said:
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
        (codes_of(sids)[0].tolist(), None),
        ([_FINISHED if one.get("event") == "room_finished" else _HAPPENED for one in facts], hooks),
        ([_state(one) for one in facts], relay),
    )
    found = np.full((3, len(rows.ask)), -1, dtype=np.int64)
    for row, (table, of) in zip(found, tables, strict=True):
        told = np.array([*table, -1], dtype=np.int64)
        tells = (told >= 0)[code] if of is None else of[index]
        row[index[tells]] = told[code[tells]]
    asked = rows.sent + (heard - rows.received)
    return _Said(sid=found[0], webhook=found[1], event=found[2], asked=asked, heard=heard)


def _state(facts: dict[str, Any]) -> int:
    if facts.get("withdrawn"):
        return _WITHDRAWN
    return _OVER if says_over(_text(facts.get("status"))) else _OPEN


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _first_rooms(rows: Rows, said: _Said, size: int) -> tuple[Ints, Flags]:
    """Per nest the sid of the first room that was seen under its name, -1 for none, and whether another came after."""
    index = np.flatnonzero((said.sid >= 0) & (rows.nest >= 0))
    index = index[np.argsort(-said.heard[index], kind="stable")]
    nest, sid = rows.nest[index], said.sid[index]
    first = np.full(size, -1, dtype=np.int64)
    first[nest] = sid  # the last write stands: the earliest
    again = np.zeros(size, dtype=bool)
    again[nest[sid != first[nest]]] = True
    return first, again


def _renewed(rows: Rows, said: _Said, first: Ints) -> Flags:
    """Which rows show another room under the name than the first: that one had ended."""
    index = np.flatnonzero((said.sid >= 0) & (rows.nest >= 0))
    renewed = np.zeros(len(rows.ask), dtype=bool)
    renewed[index] = said.sid[index] != first[rows.nest[index]]
    return renewed


def _between_rooms(rows: Rows, said: _Said) -> Flags:
    """Which rows were asked after the last that showed one room and before the first that showed the next of the same
    name: a restart, or a vanished room that its host's token made again."""
    between = np.zeros(len(rows.ask), dtype=bool)
    index = np.flatnonzero((said.sid >= 0) & (rows.nest >= 0) & rows.visible)
    index = index[np.lexsort((said.heard[index], rows.nest[index]))]
    before, after = index[:-1], index[1:]
    anew = (rows.nest[before] == rows.nest[after]) & (said.sid[before] != said.sid[after])
    if not anew.any():
        return between
    before, after = before[anew], after[anew]
    those = np.flatnonzero(np.isin(rows.nest, rows.nest[before]))
    instants = np.unique(np.concatenate([said.asked[those], said.heard[those]]))

    def in_turn(which: Ints, at: Ints) -> Ints:
        """In order of nest, then time."""
        return np.asarray(rows.nest[which] * len(instants) + np.searchsorted(instants, at[which]))

    ended, begun = np.sort(in_turn(before, said.asked)), np.sort(in_turn(after, said.heard))
    asked, answered = in_turn(those, said.asked), in_turn(those, said.heard)
    between[those] = np.searchsorted(ended, answered, "left") > np.searchsorted(begun, asked, "right")
    return between


def _not_any_more(rows: Rows, said: _Said, down: Flags) -> Flags:
    """Which rows say that a call does not show a nest any more that it had shown to the same vantage, and never does
    again; LiveKit lists a room to all or to none. down: what an API says while it cannot ask LiveKit."""
    asks, asked, heard = rows.asks, said.asked, said.heard
    found = np.zeros(len(heard), dtype=bool)
    call = np.full(len(asks.nest), -1, dtype=np.int64)
    for number, one in enumerate(_CALLS):
        call[equals(asks.frame["operation"], one)] = number
    whom = np.where(call == _CALLS.index(Operation.ROOMS), -1, asks.vantage)
    place = np.where((call >= 0) & (asks.nest >= 0), paired(paired(asks.nest, call), whom), -1)
    size, place = count_of(place), place[rows.ask]
    shown = np.flatnonzero(rows.visible & (place >= 0))
    first = least_at(heard[shown], place[shown], size)
    index = np.flatnonzero(rows.absent & ~down & (place >= 0))
    index = index[asked[index] >= first[place[index]]]
    if len(index):
        found[index] = heard[index] > greatest_at(asked[shown], place[shown], size)[place[index]]
    return found
