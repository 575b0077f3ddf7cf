"""What delays count from: the making of a nest, by whoever knows it best.

    create      sent_at of the accepted PUT, where a vantage made the nest; a PUT without an answer counts only where
                the nest was seen later: it may have created nothing
    publish     sent_at of the first publish of the event, where there is no PUT
    created_at  of a nest of others the least `created_at` seen of its address: edits renew it, the first counts
    room        when its room was made, where that is known to be before `created_at`: the least instant wins
    edit        the same, where the event that began the watch is later by more than `EDITED_S`, or where every version
                that was seen says that the nest is over: it was made before

30312 is addressable: a host's edit signs a fresh `created_at`, and so a room that has run for an hour looks new. Its
true age is told by `/info` (`createdAt`), by LiveKit (`creation_time`, in the room list and to whoever enters), and by
an older version of the same address, seen by any vantage at any time. An edit is no creation: it tells nothing of how
long a new nest takes, so it enters no law of delays (`delays.joinable`). A host may take some time between its PUT and
its event, and that is no edit; then the room's own instant is the better origin. Where nobody tells the room's age, an
edit cannot be told from a new nest: that a nest was visible at once everywhere is no proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import NONE, Floats, Ints, Texts, count_of, greatest_at, least_at
from nestobs.observation.columns import codes_of, equals, reals_of
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import says_over
from nestobs.observation.schema import Observation, Operation, Outcome, Source
from nestobs.timeline.intervals.polls import Rows, stamps_of

GRAIN_S: Final = 1.0
"""How coarse `created_at` and LiveKit's `creation_time` are: whole seconds."""

EDITED_S: Final = 30.0
"""A room that is older than the event that tells of it, by more than this, was not made with that event. A client
publishes as soon as its PUT is answered; a person may have to allow the signature."""

EDIT: Final = "edit"

_DATED_S: Final = 2.0
"""What whole seconds and the way of an answer explain between its Date and its receipt."""

_MOST_OFF_S: Final = 86_400.0
"""A Date further off is none."""

_FIRST_S: Final = 1_577_836_800
"""No room of a nest is older than the year 2020: an earlier stamp is none."""

_LAST_S: Final = NONE // SECOND_NS


@dataclass(frozen=True, slots=True)
class Origins:
    """Per unit: the observation that is the origin (-1: none), its kind, and of others' nests the instant; the room's
    own instant, as the API or LiveKit told it, and the least created_at of the unit's own rows. ns, NONE for none.
    unsure_s: within what the making of a nest of our own lies: 0 unless it comes from a log that tells its end."""

    row: Ints
    kind: Texts
    told: Ints
    room: Ints
    event: Ints
    unsure_s: Floats


def origins(observations: pd.DataFrame, rows: Rows, heard: Ints) -> Origins:
    """heard: when each row's answer was whole, on the reference clock as far as it is known, ns."""
    create, published = _made(observations, rows)
    foreign = (create < 0) & (published < 0)
    nest = _nests(rows)
    room = _merged(_rooms(observations, rows, heard), nest)
    event, oldest, opened, first_heard = _events(observations, rows, heard, nest)
    told = np.where(foreign, np.minimum(room, oldest), NONE)
    earlier = room < oldest - _ns(GRAIN_S)
    told = np.where(foreign & ~earlier, np.where(oldest == NONE, room, oldest), told)
    known = np.minimum(event, first_heard)  # a host whose clock is ahead has edited nothing
    edit = (event != NONE) & ((told < known - _ns(EDITED_S)) | (opened == NONE) & (room == NONE))
    kinds = [create >= 0, published >= 0, told == NONE, edit, (room == told) & (room != oldest)]
    kind = np.select(kinds, ["create", "publish", "", EDIT, "room"], "created_at").astype(object)
    made = np.where(create >= 0, create, published)
    unsure_s = _unsure_s(observations, made)
    return Origins(row=made, kind=kind, told=told, room=room, event=event, unsure_s=unsure_s)


def _unsure_s(observations: pd.DataFrame, made: Ints) -> Floats:
    """Of the rows that make each unit's nest (-1: none), how long before its end it may have begun, as an import tells
    of a line that tells its end alone."""
    found = np.zeros(len(made))
    index = np.flatnonzero(made >= 0)
    for place, text in zip(index, observations["detail"].iloc[made[index]], strict=True):
        if '"begun_within_s"' in str(text) and isinstance(said := facts_of(text).get("imported"), dict):
            within_s = said.get("begun_within_s")
            found[place] = within_s if isinstance(within_s, int | float) and 0 <= within_s < 1e6 else 0.0
    return found


def _made(observations: pd.DataFrame, rows: Rows) -> tuple[Ints, Ints]:
    """Per unit the row of the PUT and of the first publish, -1 for none."""
    seen = np.zeros(count_of(rows.asks.unit) + 1, dtype=bool)
    seen[rows.unit[rows.visible]] = True
    makes = equals(observations["operation"], Operation.CREATE) | equals(observations["operation"], Operation.PUBLISH)
    index = np.flatnonzero(makes & (rows.unit >= 0))
    those = observations[["source", "operation", "outcome"]].iloc[index]
    source, operation, outcome = (those[name] for name in those)
    intent, later = rows.intent[index], seen[rows.unit[index]]
    unanswered = equals(outcome, Outcome.UNKNOWN) | intent
    accepted = equals(outcome, Outcome.ACCEPTED) & ~intent
    put = equals(source, Source.API) & equals(operation, Operation.CREATE) & (accepted | unanswered & later)
    left = ~equals(outcome, Outcome.PROBE_ERROR) & (~intent | later)  # the first never left, the second may have
    publish = equals(source, Source.RELAY) & equals(operation, Operation.PUBLISH) & left
    create = _earliest(rows, index[put], np.where(accepted, 0, np.where(intent, 2, 1))[put])
    return create, _earliest(rows, index[publish], np.where(intent, 1, 0)[publish])


def _earliest(rows: Rows, index: Ints, rank: Ints) -> Ints:
    """Per unit the row of least rank, of these the first sent; -1 for none."""
    place = rows.asks.place[rows.ask[index]]
    index = index[np.lexsort((place, rows.sent[index], rank))][::-1]
    first = np.full(count_of(rows.asks.unit), -1, dtype=np.int64)
    first[rows.unit[index]] = index  # the last write stands: the least
    return first


def _nests(rows: Rows) -> Ints:
    """Per unit the code of its nest, -1 for none."""
    nest, _ = codes_of(rows.asks.frame["nest"])
    unit = rows.asks.unit
    known = (nest >= 0) & (unit >= 0)
    return np.maximum(greatest_at(nest[known], unit[known], count_of(unit)), -1)


def _merged(stamps: Ints, nest: Ints) -> Ints:
    """Per unit the least stamp of any unit of its nest: what one watch learnt of a nest, all know."""
    least = least_at(stamps, nest, count_of(nest) + 1)  # the last is of units of no nest
    return np.where(nest >= 0, np.minimum(stamps, least[nest]), stamps)


def _events(observations: pd.DataFrame, rows: Rows, heard: Ints, nest: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Per unit, of the events that relays showed: the least created_at of its own rows and of its nest's, that of its
    nest's versions which do not say that it is over, and when the first was heard of, ns; NONE for none."""
    shown = np.flatnonzero(rows.visible & equals(observations["source"], Source.RELAY) & (rows.unit >= 0))
    code, texts = pd.factorize(observations["detail"].iloc[shown])
    stamps = np.array([*map(_created_at, texts), NONE], dtype=np.int64)[code]
    over = np.array([*map(_over, texts), False])[code]
    units, all_of = count_of(rows.asks.unit), (stamps, np.where(over, NONE, stamps), heard[shown])
    event, opened, first_heard = (least_at(values, rows.unit[shown], units) for values in all_of)
    return event, _merged(event, nest), _merged(opened, nest), first_heard


def _over(detail: str) -> bool:
    return says_over(str(facts_of(detail).get("status")))


def _created_at(detail: str) -> int:
    """The lesser of created_at and first_created_at in a detail, in ns; NONE when it holds no whole seconds."""
    facts = facts_of(detail)
    stamps = [facts.get(name) for name in ("created_at", "first_created_at")]
    return min((s * SECOND_NS for s in stamps if type(s) is int and 0 <= s < _LAST_S), default=NONE)


def _rooms(observations: pd.DataFrame, rows: Rows, heard: Ints) -> Ints:
    """Per unit when its room was made, as the API and LiveKit told, ns; NONE where nobody did.

    An API whose clock is off tells so by the Date of its answer: then the room's age counts, not the instant. A 200
    that is no proof by itself (a cache's copy, an /info in another form) tells the age all the same.
    """
    source, operation, known = observations["source"], observations["operation"], rows.unit >= 0
    asked = equals(operation, Operation.ROOMS) | equals(operation, Operation.SIGNAL)
    listed = np.flatnonzero(known & rows.visible & equals(source, Source.LIVEKIT) & asked)
    stamped, dated = stamps_of(observations[["remote_at"]].iloc[listed])
    made = np.where(dated & (stamped >= _FIRST_S * SECOND_NS), stamped, NONE)
    info = np.flatnonzero(known & equals(source, Source.API) & equals(operation, Operation.INFO))
    those = observations[["outcome", "status", "remote_at", "detail"]].iloc[info]
    yes = rows.visible[info] | equals(those["outcome"], Outcome.UNKNOWN) & (reals_of(those["status"]) == 200)
    info, those = info[yes], those[yes]
    code, texts = pd.factorize(those["detail"])
    told = np.array([*map(_info_created_at, texts), NONE], dtype=np.int64)[code]
    stamped, dated = stamps_of(those)
    off = np.where(dated, heard[info] - stamped, 0)
    corrects = (told != NONE) & (np.abs(off) > _ns(_DATED_S)) & (np.abs(off) < _ns(_MOST_OFF_S))
    told = np.where(corrects, told + off, told)
    index = np.concatenate([listed, info])
    return least_at(np.concatenate([made, told]), rows.unit[index], count_of(rows.asks.unit))


def room_made_at(row: Observation) -> int | None:
    """When the room was made, ns, as one row tells, by /info or LiveKit's list; None where it does not. As `_rooms`."""
    if row.source is Source.LIVEKIT and row.operation is Operation.ROOMS and row.outcome is Outcome.VISIBLE:
        return row.remote_at if (row.remote_at or 0) >= _FIRST_S * SECOND_NS else None
    if row.source is not Source.API or row.operation is not Operation.INFO or row.outcome is not Outcome.VISIBLE:
        return None
    told = _info_created_at(row.detail)
    off = 0 if row.remote_at is None or row.received_at is None else row.received_at - row.remote_at
    return None if told == NONE else told + off if _ns(_DATED_S) < abs(off) < _ns(_MOST_OFF_S) else told


def _info_created_at(detail: str) -> int:
    info = facts_of(detail).get("info")
    return instant_told(info.get("createdAt")) if isinstance(info, dict) else NONE


def instant_told(value: object) -> int:
    """An instant that an API tells, in ns: a number of milliseconds (or seconds, which are told by their size), or a
    date as ISO 8601 writes it; NONE for anything else, and for one before there were nests."""
    if isinstance(value, str):
        value = _number(value.strip()[:40])
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        return NONE
    told = value * SECOND_NS if abs(value) < 1e11 else value * 1_000_000
    return round(told) if _FIRST_S <= told / SECOND_NS < _LAST_S else NONE


def _number(text: str) -> int | float | None:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        told = datetime.fromisoformat(text)
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)
