"""From observations to joins: one row per real join, and whether what the two baselines would have said was true.

At arrival every real join also tells what a person with the web client would have been told: as its guide describes it
(`guide`) and as it was released (`released`). What was said is judged by what the same vantage saw after it, in its own
clock, so no offset between clocks enters. A person draws one of two conclusions:

    wait    "still starting up"                                   true if a later request got a token
    leave   "no longer available", "Failed to join nest: …" (no   true if no later request got one, and the nest was
            Retry, at any age), "Loading nest..." (for ever)      proven absent at least `SETTLED_S` after the arrival

A token is a `visible` answer of `api:join` or `api:guest` (for a guest `api:guest` alone) to a request sent at or after
the arrival, whoever sent it. So "then or later": a message to leave is false too when the nest was joinable at that
very moment. Neither proof (the watch ended too soon, every later attempt failed, or the only later token belongs to a
request already under way) leaves the truth unknown, NA. A message that the joiner is in the room is true. Any other
message (unauthorised, rate limited, no answer, …) says something about a request, not about the nest: NA.

A join is **lost** as seats.py defines it, from what its vantage saw of its nest. It was there from its arrival until
its verdict; joins of one run, nest, vantage and role that arrive within `TOGETHER_S` of each other are one arrival
under several policies, and all there until the last of them ended. NA where it cannot be known: nothing was proven of
the nest, or its origin is unknown; it was never seen, and not proven absent as late as the joiner itself asked for the
last time; or the join ended by a fault of our own: `own_fault`. Such a join says nothing of the deployment, and no
share counts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.join.decision import GONE, JOINED, LOADING, RELEASED_FAILED, STARTING, Kind
from nestobs.observation.arrays import BELOW, Flags, Floats, Ints, Texts, count_of, greatest_at
from nestobs.observation.columns import codes_of, equals, framed, instants_of, paired, ranked, unit_of
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Column, Failure, Operation, Outcome, Role, Source
from nestobs.observation.text import encodable
from nestobs.timeline import intervals
from nestobs.timeline.delays import seat_intervals
from nestobs.timeline.intervals import shifts
from nestobs.timeline.nests import subjects_of
from nestobs.timeline.seats import are_known, are_lost

BASELINES: Final = ("guide", "released")
"""Today's clients, whose messages at arrival are judged."""

SETTLED_S: Final = 20.0
"""A nest that still answers 404 so long after a message, and is never seen again, is taken not to come."""

TOGETHER_S: Final = 0.5
"""Joins that begin so soon after each other came at one instant, to be compared: a busy machine starts them apart."""

SCHEMA: Final[tuple[Column, ...]] = (
    Column("run_id", "text", "UUIDv7", "the run that joined", False),
    Column("attempt_group", "text", "UUIDv7", "the join: what its requests and its verdict have in common", False),
    Column("nest", "text", "30312:pubkey:d", "address of the nest; empty while unknown", False),
    Column("room", "text", "", "LiveKit room; empty while unknown", False),
    Column("trace_id", "text", "UUIDv7", "one nest under observation; may be empty", False),
    Column("vantage", "text", "", "place and clock from which it was joined", False),
    Column("role", "text", "", "joiner (signed in) or guest", False),
    Column("policy", "text", "", "the policy the join followed", False),
    Column("arrived_at", "instant", "UTC", "when the joiner arrived, on the vantage's clock", False),
    Column("arrival_age_s", "real", "s", "arrival since the origin of the nest's timelines; NaN without one", True),
    Column("event_age_s", "real", "s", "arrival since the event's created_at: a client's age; NaN without one", True),
    Column("verdict", "text", "", "how it ended: a nestobs.join.decision.Kind; empty when the row tells none", False),
    Column("joined", "bool", "", "whether the joiner got into the room", False),
    Column("elapsed_s", "real", "s", "from arrival to verdict", True),
    Column("requests", "int", "count", "API requests made", False),
    Column("guide_verdict", "text", "", "what `guide` would have concluded at arrival", False),
    Column("guide_message", "text", "", "what its page would have shown; empty when joined", False),
    Column("released_verdict", "text", "", "what `released` would have concluded at arrival", False),
    Column("released_message", "text", "", "what its page would have shown; empty when joined", False),
    Column("own_fault", "bool", "", "a fault of our own, a spent budget or a visit that was skipped ended it", False),
    Column("lost", "flag", "", "it could have had a seat, and had none (seats.py); NA when that cannot be known", True),
    Column("became_joinable", "flag", "", "a token was seen by the end of watching; NA when nothing was proven", True),
    Column("guide_true", "flag", "", "whether what `guide` would have said was true; NA when it cannot be told", True),
    Column("released_true", "flag", "", "the same of `released`", True),
)
"""The columns of `joins`, in order. Types as in timeline.SCHEMA; flag is pandas' nullable boolean."""

ORDER: Final = ["arrived_at", "trace_id", "run_id", "attempt_group"]
"""What `joins` are sorted by."""

NEEDED: Final = (*intervals.NEEDED, "role", "attempt_group")
"""The columns of observations that `joins` reads, its timelines' among them."""

_MOST: Final = 1e15
_WAYS: Final = (Operation.JOIN, Operation.GUEST)
"""What gives a token; to a guest the last alone."""

_OURS: Final = (Failure.BUDGET, Failure.SKIPPED)

_LEAVE: Final = (GONE, RELEASED_FAILED, LOADING)


def joins(
    observations: pd.DataFrame,
    timelines: pd.DataFrame,
    *,
    patience_s: float = 0.0,
    elsewhere: intervals.Elsewhere | None = None,
) -> pd.DataFrame:
    """One row per join that came to a verdict, with the columns and dtypes of SCHEMA, in ORDER.

    A join is known by run_id and attempt_group and has one row, its first verdict's, however often it was written.
    `observations` as Store.frame gives them; `timelines` made of the same. Joins that a crash cut off have no row: see
    `open_intents`. `arrival_age_s` counts on the reference clock, by the offset with the least error that the vantage's
    run knew of this nest, as the timelines do; on the vantage's own clock where it knew none. patience_s: joiners are
    taken to stay so long after their arrival, where that is longer, since they are compared with others who would; of
    real joins alone: 0. elsewhere: as `timelines` takes it. No join: an empty frame.
    """
    index = once(observations, np.flatnonzero(verdicts(observations)))
    if not len(index):
        return framed(SCHEMA, {column.name: [] for column in SCHEMA})
    rows, found = observations.iloc[index], _evidence(observations, timelines, index, elsewhere)
    arrived, ended = (instants_of(rows[name])[0] for name in ("sent_at", "received_at"))
    made: dict[str, Any] = {name: np.asarray(rows[name], dtype=object) for name in _KEPT}
    made |= _told(rows["detail"], (ended - arrived) / SECOND_NS)
    made |= {
        "arrived_at": arrived,
        "arrival_age_s": found.age_s(arrived),
        "event_age_s": found.age_s(arrived, since=found.event),
        "joined": np.array([verdict in JOINED for verdict in made["verdict"]], dtype=bool),
        "became_joinable": [None if one < 0 else bool(one) for one in found.became.tolist()],
    }
    made["own_fault"] = own_faults(rows)
    lost = _lost(rows, timelines, found, made["joined"], patience_s)
    made["lost"] = [None if ours else one for ours, one in zip(made["own_fault"], lost, strict=True)]
    for one in BASELINES:
        verdict, message = made[f"{one}_verdict"], made[f"{one}_message"]
        made[f"{one}_true"] = _true(verdict, message, arrived, found)
    return framed(SCHEMA, made).sort_values(ORDER, ignore_index=True, kind="stable")


def own_faults(rows: pd.DataFrame) -> Flags:
    """Which of these verdicts a fault of our own brought about: see the module."""
    failures = [equals(rows["failure"], one) for one in _OURS]
    return np.asarray(np.logical_or.reduce([equals(rows["outcome"], Outcome.PROBE_ERROR), *failures]), dtype=bool)


def judged(joins: pd.DataFrame) -> pd.DataFrame:
    """The joins that say something of the deployment: not those that a fault of our own ended."""
    return joins[~joins["own_fault"].to_numpy(bool)]


def open_intents(observations: pd.DataFrame) -> int:
    """How many joins were begun and never came to a verdict: a crash cut them off."""
    asked = observations[_of(observations, Source.JOIN, Operation.VERDICT)]
    keys = asked["run_id"].astype("str") + "\n" + asked["attempt_group"].astype("str")
    intent = equals(asked["failure"], Failure.INTENT)
    return len(set(keys[intent]) - set(keys[~intent]))


_KEPT: Final = ("run_id", "attempt_group", "nest", "room", "trace_id", "vantage", "role")
"""Columns of a join that are those of its row."""


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Per join, of its vantage and nest and of the ways open to it: when the last token was asked for and received, and
    the last proven absence asked for, ns, BELOW for never. became: 1 or 0, whether a token was ever seen; -1: nothing
    proven. origin, event: of its nest, ns, BELOW for none. offset_s: of its clock, 0 where it was never compared.
    asked: when it asked for a token for the last time itself, ns, BELOW for never. subject, unit: as subjects_of tells
    and names it, "" for a room that is nobody's."""

    subject: Ints
    unit: Texts
    token_sent: Ints
    token_received: Ints
    absent_sent: Ints
    became: Ints
    origin: Ints
    event: Ints
    offset_s: Floats
    asked: Ints

    def age_s(self, at: Ints, since: Ints | None = None) -> Floats:
        """These instants as ages on the reference clock, seconds, since the origin; NaN of a nest without one."""
        since = self.origin if since is None else since
        return np.where(since == BELOW, np.nan, (at - since) / SECOND_NS - self.offset_s)


def _evidence(
    observations: pd.DataFrame, timelines: pd.DataFrame, index: Ints, elsewhere: intervals.Elsewhere | None
) -> _Evidence:
    """Of the joins whose verdicts are these observations."""
    unit, units = subjects_of(observations)
    vantage, vantages = codes_of(observations["vantage"])
    pair = _pairs(unit, vantage, len(vantages))
    place = ranked(pair)
    pairs = np.empty(count_of(place), dtype=np.int64)
    pairs[place] = pair
    sent, _ = instants_of(observations["sent_at"])
    received, answered = instants_of(observations["received_at"])
    asked = equals(observations["source"], Source.API) & answered & ~equals(observations["failure"], Failure.INTENT)
    token, absent = (asked & equals(observations["outcome"], one) for one in (Outcome.VISIBLE, Outcome.ABSENT))
    line_unit = _found(units, unit_of(timelines))
    line_pair = _pairs(line_unit, _found(vantages, timelines["vantage"]), len(vantages))
    line_place = np.minimum(np.searchsorted(pairs, line_pair), len(pairs) - 1)
    proven = (timelines["polls"] > 0).to_numpy(bool) & (line_unit >= 0) & (pairs[line_place] == line_pair)
    shown = np.where(timelines["right_censored"], 0, 1)
    guest, mine = equals(observations["role"].iloc[index], Role.GUEST), place[index]

    def last(at: Ints, rows: Flags) -> Ints:
        """Of these rows the greatest instant, by the ways open to each join."""
        by_way = [rows & equals(observations["operation"], way) for way in _WAYS]
        return _open([greatest_at(at[those], place[those], len(pairs))[mine] for those in by_way], guest)

    layers = [proven & equals(timelines["layer"], f"api:{way}") for way in _WAYS]
    became = [greatest_at(shown[those], line_place[those], len(pairs))[mine] for those in layers]
    begun = {name: np.full(count_of(unit) + 1, BELOW, dtype=np.int64) for name in ("origin_at", "event_at")}
    for name, of_unit in begun.items():
        known = (line_unit >= 0) & timelines[name].notna().to_numpy(bool)
        of_unit[line_unit[known]] = timelines[name].astype("int64").to_numpy(np.int64)[known]
    return _Evidence(
        subject=unit[index],
        unit=np.append(units, "")[np.where(unit[index] < len(units), unit[index], -1)],
        token_sent=last(sent, token),
        token_received=last(received, token),
        absent_sent=last(sent, absent),
        became=np.maximum(_open(became, guest), -1),
        origin=begun["origin_at"][unit[index]],
        event=begun["event_at"][unit[index]],
        offset_s=shifts(observations, elsewhere)[index] / SECOND_NS,
        asked=_last_asked(observations, index),
    )


def _lost(
    rows: pd.DataFrame, timelines: pd.DataFrame, found: _Evidence, joined: Flags, patience_s: float
) -> list[bool | None]:
    """Whether the joins of these verdicts were lost, None where that cannot be known, faults of our own apart. The rule
    is the module's."""
    arrived, ended = (instants_of(rows[name])[0] for name in ("sent_at", "received_at"))
    arrival = _arrivals(rows, arrived, found.subject)
    asked = np.where(found.asked == BELOW, ended, found.asked)
    until, asked = (greatest_at(at, arrival, count_of(arrival))[arrival] for at in (ended, asked))
    arrived_s, until_s, asked_s = map(found.age_s, (arrived, until, asked))
    lower, upper, gone = _intervals(rows, found.unit, timelines)
    lost = are_lost(joined, arrived_s, np.maximum(until_s, arrived_s + patience_s), lower, upper, gone)
    known = are_known(joined, asked_s, lower, upper)
    return [bool(one) if told else None for one, told in zip(lost.tolist(), known.tolist(), strict=True)]


def _last_asked(observations: pd.DataFrame, index: Ints) -> Ints:
    """When each join asked for a token for the last time, ns: by the way that it tried last longest ago; BELOW where it
    asked for none. Both ways are asked in one round, so that the guest's request does not make the other look early."""
    group = groups_of(observations)
    size = count_of(group)
    asked = equals(observations["source"], Source.API) & ~equals(observations["failure"], Failure.INTENT)
    asked &= codes_of(observations["attempt_group"])[0] >= 0
    sent, _ = instants_of(observations["sent_at"])
    by_way = []
    for way in _WAYS:
        those = asked & equals(observations["operation"], way)
        by_way.append(greatest_at(sent[those], group[those], size)[group[index]])
    first, second = by_way
    return np.where(first == BELOW, second, np.where(second == BELOW, first, np.minimum(first, second)))


def groups_of(observations: pd.DataFrame) -> Ints:
    """A number for each run and attempt group."""
    return paired(codes_of(observations["run_id"])[0], codes_of(observations["attempt_group"])[0])


def once(observations: pd.DataFrame, index: Ints) -> Ints:
    """The first of the rows `index` of each attempt group, and all that are of none."""
    rows = observations.iloc[index]
    alone = codes_of(rows["attempt_group"])[0] < 0
    _, first = np.unique(groups_of(rows), return_index=True)
    alone[first] = True
    return index[alone]


def _arrivals(rows: pd.DataFrame, arrived: Ints, subject: Ints) -> Ints:
    """A number from 0 for each arrival: joins of one run, nest, vantage and role that came at one instant."""
    place = paired(codes_of(rows["run_id"])[0], subject)
    for name in ("vantage", "role"):
        place = paired(place, codes_of(rows[name])[0])
    order = np.lexsort((arrived, place))
    apart = (np.diff(place[order]) != 0) | (np.diff(arrived[order]) > round(TOGETHER_S * SECOND_NS))
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.concatenate([[0], np.cumsum(apart)])
    return found


def _intervals(rows: pd.DataFrame, unit: Texts, timelines: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Of each join's nest at its vantage, by the ways open to it: lower_s and upper_s, NaN where nothing is known, and
    gone_lower_s, inf where it stayed."""
    table = seat_intervals(timelines)
    table = table[~table.index.duplicated(keep=False)]  # a nest called as another's trace: not told apart
    place = pd.MultiIndex.from_arrays([~equals(rows["role"], Role.GUEST), unit, rows["vantage"].astype(object)])
    lower, upper, gone = table.reindex(place).to_numpy(np.float64).T
    return lower, upper, np.where(np.isnan(gone), np.inf, gone)


def _open(by_way: Sequence[Ints], guest: Flags) -> Ints:
    """The greatest of the values of _WAYS that are open to each: to a guest only the last."""
    return np.where(guest, by_way[-1], np.max(by_way, axis=0))


def _found(texts: Texts, wanted: Iterable[str]) -> Ints:
    """The place of each among the texts, -1 for none of them."""
    places = {text: place for place, text in enumerate(texts)}
    return np.array([places.get(text, -1) for text in wanted], dtype=np.int64)


def _pairs(unit: Ints, vantage: Ints, vantages: int) -> Ints:
    """A number for each pair of codes, either of which may be -1."""
    return (unit + 1) * (vantages + 1) + vantage + 1


def _told(details: pd.Series, took_s: Floats) -> dict[str, Any]:
    """What joins wrote down when they ended: a list for each column."""
    made: dict[str, Any] = {name: [] for name in ("policy", "verdict", "elapsed_s", "requests")}
    made |= {f"{one}_{what}": [] for one in BASELINES for what in ("verdict", "message")}
    for detail, seconds in zip(details.astype(object), took_s.tolist(), strict=True):
        facts = facts_of(detail)
        made["policy"].append(_text(facts.get("policy")))
        made["verdict"].append(_text(facts.get("verdict")))
        made["elapsed_s"].append(_number(facts.get("elapsed_s"), seconds))
        made["requests"].append(int(_number(facts.get("requests"), 0.0)))
        said = facts.get("said")
        for one in BASELINES:
            words = said.get(one) if isinstance(said, dict) else None
            for what in ("verdict", "message"):
                made[f"{one}_{what}"].append(_text(words.get(what)) if isinstance(words, dict) else "")
    return made


def _true(verdicts: Iterable[str], messages: Iterable[str], said_at: Ints, found: _Evidence) -> list[bool | None]:
    """Whether each message was true, None when it cannot be told. The rule is the module's."""
    token, under_way = found.token_sent >= said_at, found.token_received >= said_at
    settles = ~under_way & (found.absent_sent >= said_at + round(SETTLED_S * SECOND_NS))
    proofs = zip(verdicts, messages, token.tolist(), settles.tolist(), strict=True)
    return [_judged(*one) for one in proofs]


def _judged(verdict: str, message: str, token: bool, settles: bool) -> bool | None:
    if verdict in JOINED:
        return True
    wait = message.startswith(STARTING)
    if not wait and not message.startswith(_LEAVE):
        return None
    if token:
        return wait
    return not wait if settles else None


def verdicts(observations: pd.DataFrame) -> Flags:
    """Which rows end a join: its verdict, not the intent before it."""
    return (
        _of(observations, Source.JOIN, Operation.VERDICT)
        & ~equals(observations["failure"], Failure.INTENT)
        & observations["received_at"].notna().to_numpy(bool)
    )


def _of(observations: pd.DataFrame, source: Source, operation: Operation) -> Flags:
    return equals(observations["source"], source) & equals(observations["operation"], operation)


def _text(value: object) -> str:
    return encodable(value) if isinstance(value, str) else ""


def _number(value: object, otherwise: float) -> float:
    """A number that may be one: none of what JSON's readers make of NaN or of 400 digits."""
    return float(value) if isinstance(value, int | float) and abs(value) < _MOST else otherwise


KINDS: Final = tuple(kind.value for kind in Kind)
"""Every verdict a join can have, in the order in which figures list them."""
