"""From polls to intervals: per nest, layer and vantage, the interval (lower, upper] in which it became visible.

The answer to a poll speaks of one hidden instant u between `sent_at` s and `received_at` r. Let the layer switch at T:
visible from T on, absent before. An absent answer proves u < T, and u may be as early as s: all it proves is s < T. A
visible answer proves T <= u, and u may be as late as r: all it proves is T <= r. So T lies in

    (greatest s of the absent rows, least r of the visible rows]

and, since u = s and u = r are possible, every T in it is consistent with every row: no sound rule can be tighter,
however the attempts overlap and in whatever order they were sent (interval censoring, Turnbull 1976).

A layer may also flap (replicas that disagree) or go again (an expired room). An absent row sent at or after the first
visible was received (s >= upper) cannot be about an instant before T: it never moves a bound, so the interval is never
reversed. The same argument run backwards in time: such a late absent is read as after the last visible unless it was
received by the time that one was sent. Late absents before the last visible are flaps; those after it bound the going,
(greatest s of the visible rows, least r of those absents]. A push has no s: when its relay sent it nobody knows, and a
network that stood still delivers it long after; the order of what came is what it was. An absent sent before the first
visible was received is read as one from before T: a layer that went while its first visible answer was still on the way
is beyond this reading.

Only proof moves a bound. Never seen is right-censored (upper = inf), seen at the first proof is left-censored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from nestobs.observation.arrays import (
    BELOW,
    NONE,
    Floats,
    Ints,
    Texts,
    count_of,
    greatest_at,
    least_at,
    sorted_within,
)
from nestobs.observation.columns import codes_of, equals, framed, texts_at
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Column, Failure
from nestobs.timeline.intervals.clocks import clock_offsets
from nestobs.timeline.intervals.down import down
from nestobs.timeline.intervals.elsewhere import Elsewhere
from nestobs.timeline.intervals.origins import EDIT, GRAIN_S, Origins, origins
from nestobs.timeline.intervals.polls import LATE_S, Groups, Rows, grouped, read
from nestobs.timeline.intervals.proofs import proven

STABLE_POLLS: Final = 3
"""So many successive visible answers make a layer stable."""

MARKS: Final = (Failure.CLOCK_STEP, Failure.SUSPENDED, Failure.LOOP_BLOCKED, Failure.NO_NETWORK)
"""Disturbances of a vantage that mark an interval, in the order in which `marked` lists them."""

SCHEMA: Final[tuple[Column, ...]] = (
    Column("nest", "text", "30312:pubkey:d", "address of the nest; empty while unknown", False),
    Column("room", "text", "", "LiveKit room; empty while unknown", False),
    Column("trace_id", "text", "UUIDv7", "one nest under observation; empty for rows kept by address", False),
    Column("vantage", "text", "", "place and clock from which it was observed", False),
    Column("layer", "text", "", "where it became visible: relay:<url>, api:info, …", False),
    Column("target", "text", "", "URL of whom was asked; of the last one where there were several", False),
    Column("origin_at", "instant", "UTC", "what delays count from; NaT when there is no origin", True),
    Column("origin_kind", "text", "", "create, publish, created_at, room or edit (origins.py); empty when none", False),
    Column("origin_error_s", "real", "s", "by how much every bound is widened; NaN without an origin", True),
    Column("lower_s", "real", "s", "the delay is above this; -inf when nothing bounds it", True),
    Column("upper_s", "real", "s", "the delay is at most this; inf when right-censored", True),
    Column("lower_at", "instant", "UTC", "sent_at of the last proven absent, not widened; NaT when none", True),
    Column("upper_at", "instant", "UTC", "received_at of the first proven visible, not widened; NaT when none", True),
    Column("left_censored", "bool", "", "visible, with no absent proven before", False),
    Column("right_censored", "bool", "", "never visible by the end of watching", False),
    Column("width_s", "real", "s", "upper_s - lower_s", True),
    Column("polls", "int", "count", "attempts that prove visible or absent; 0: asked, but nothing proven", False),
    Column("unknown", "int", "count", "attempts that prove neither", False),
    Column("late", "int", "count", f"attempts sent more than {LATE_S} s after they were planned", False),
    Column(
        "stable_s", "real", "s", f"delay of the first of {STABLE_POLLS} visible in a row, as upper_s; else NaN", True
    ),
    Column("flaps", "int", "count", "absents proven between two visibles", False),
    Column(
        "seen_until_s",
        "real",
        "s",
        "still visible at this delay, when the last poll that found it so was sent; else NaN",
        True,
    ),
    Column("gone_lower_s", "real", "s", "it went for good after this delay; NaN when it did not go", True),
    Column("gone_upper_s", "real", "s", "it went for good by this delay; NaN when it did not go", True),
    Column("spacing_s", "real", "s", "gap between the sent_at of the bracketing polls; see timelines", True),
    Column("marked", "text", "", "comma list of disturbances while the bracketing polls ran; see MARKS", False),
    Column("room_at", "instant", "UTC", "when the API or LiveKit say that the room was made; NaT: they do not", True),
    Column("event_at", "instant", "UTC", "the least created_at that this trace saw: a client's age; NaT: none", True),
    Column("after_end", "int", "count", "absents that bound nothing: the nest may have come and gone before", False),
    Column("livekit_down", "int", "count", "absents that bound nothing: LiveKit could not be reached then", False),
    Column("held_up", "int", "count", "absents that bound nothing: we ourselves were held up", False),
)
"""The columns of `timelines`, in order; their types are those of observation.columns.DTYPES."""

ORDER: Final = ["nest", "trace_id", "layer", "vantage"]
"""What `timelines` are sorted by; no two rows agree in all."""

NEEDED: Final = (
    "run_id", "trace_id", "vantage", "nest", "room", "source", "target", "operation", "planned_at", "sent_at",
    "received_at", "outcome", "status", "failure", "remote_at", "loop_lag_s", "clock_offset_s", "clock_error_s",
    "sync_age_s", "detail",
)  # fmt: skip  # a list of words
"""The columns of observations that `timelines` reads."""


def timelines(observations: pd.DataFrame, *, elsewhere: Elsewhere | None = None) -> pd.DataFrame:
    """One row per (trace_id, layer, vantage), or per (nest, layer, vantage) where its nest has no trace_id at all.

    `observations` has the columns of observation.COLUMNS, instants as (nullable) int64 ns, text of any dtype, the
    categorical included; row order and index do not matter. Rows about no layer or no nest make no row, but give
    origins, offsets and marks. The result has the columns and dtypes of SCHEMA, also when empty, sorted by nest,
    trace_id, layer, vantage.

    Intervals are (lower_s, upper_s] in seconds since the origin. `visible` and `absent` answers that were received move
    bounds. Everything else moves only `unknown` and `late`; an intent counts nowhere, its attempt does. Nothing is
    dropped: a layer that was asked and only failed has a row with polls = 0, a layer never asked has none. An absent of
    a subscription says that up to its `sent_at` the living connection had brought nothing: it bounds the first visible,
    but is no flap and no going, since relays push an event once (NIP-01) and an edit is pushed after silence, too.
    An absent bounds nothing where the nest may have come and gone before it, where the API could not ask LiveKit, or
    where we were held up (proofs.py): it counts as `unknown`, and in a column of its own. Absents between two rooms of
    one name are no flaps.

    Origin: see origins.py. An imported creation, whose line tells its end alone, counts from that, and its error grows
    by how long before it may have begun. With no origin `origin_kind` is empty, and delays are NaN. An `edit` is no
    creation: what counts from it is true, and says nothing of how long a new nest takes.

    Clocks: within a trace, each run is shifted by what is known of its clock to the reference clock (clocks.py), when
    all runs of the row and its origin have been compared. Where one never was, what one vantage saw of a nest that
    another made in another run has no origin: how far their clocks are apart is not known. The runs of one vantage, and
    nests of others with their hosts, are then read as of one clock (clock_words). `origin_error_s` is the sum of both
    clock errors (0 when row and origin share a clock), for others' nests 1 s plus the observer's; bounds that rest on
    an instant are widened by it on either side. Negative delays stay: they are evidence of skew.

    Without an absent before it, `lower_s` is the age before which the layer cannot have shown the nest: 0 after
    "create"; for relays 0 after "publish" and -origin_error_s after "created_at" and "room", for the others -inf, since
    the API may show a nest before its event is made; -inf after "edit". Absents sent before that age of a nest of our
    own are raised to it. It is not used where `upper_s` is not above it: then lower_s is the bare proof, or -inf. The
    interval is never empty.

    `spacing_s` is inf when right-censored, NaN when left-censored. `marked` lists the disturbances of the same vantage
    and run that overlap the time from the sending of the earlier to the receipt of the later bracketing poll; a lone
    poll's own time; when left-censored, the time since the origin if this vantage made it.

    Each nest is treated alone, its rows being those that share a trace, an address or a room, but for three things: the
    disturbances of its vantages, which may be rows of any nest; when LiveKit could not be reached; and with what a run
    was compared that was not while it watched the nest. elsewhere: the last two, as rows of all nests tell (`elsewhere`
    of elsewhere.py); None: as these do.

    Raises KeyError for a missing column, TypeError for instants that are no integers.
    """
    rows = read(observations)
    groups = grouped(rows)
    if not len(groups.unit):
        return framed(SCHEMA, {column.name: [] for column in SCHEMA})
    offsets = clock_offsets(observations, rows.sent, rows.subject, rows.run, elsewhere)
    heard = rows.received - np.round(np.nan_to_num(offsets[0]) * SECOND_NS).astype(np.int64)[rows.run]
    begun = origins(observations, rows, heard)
    rows = proven(observations, rows, groups, heard, down(observations) if elsewhere is None else elsewhere.down)
    shifts = _shifts(rows, groups, begun, *offsets)
    bounds = _bounds(rows, groups, shifts)
    found, order = _names(rows, groups)
    found |= _delays(bounds, groups, begun, shifts) | _counts(rows, groups, bounds)
    found |= {"room_at": begun.room[groups.unit], "event_at": begun.event[groups.unit]}
    found["marked"] = _marked(observations, rows, groups, begun, bounds)
    return framed(SCHEMA, found).take(order).reset_index(drop=True)


@dataclass(frozen=True, slots=True)
class _Shifts:
    """row: ns to subtract from each observation's instants. Per group: the origin, NONE for none; its kind, error_s."""

    row: Ints
    origin: Ints
    kind: Texts
    error_s: Floats


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Per group, in shifted ns, NONE or BELOW when there is none. last_absent, first_visible, flaps: which observations
    they are."""

    lower: Ints
    upper: Ints
    stable: Ints
    gone_lower: Ints
    gone_upper: Ints
    spacing_s: Floats
    last_absent: Ints
    first_visible: Ints
    flaps: Ints


def _shifts(rows: Rows, groups: Groups, begun: Origins, offset: Floats, error: Floats) -> _Shifts:
    """offset, error: as clock_offsets gives them."""
    known = ~np.isnan(offset)
    made = begun.row[groups.unit]  # -1 is masked by `own` wherever it is used
    own = made >= 0
    home = np.where(own, rows.run[made], -1)
    asked = np.flatnonzero(groups.asked >= 0)
    of, run = groups.asked[asked], rows.asks.run[asked]
    compared = np.bincount(of[~known[run]], minlength=len(made)) == 0
    together = np.bincount(of[run != home[of]], minlength=len(made)) == 0
    compared &= ~own | known[home]
    worst = np.zeros(len(made))
    np.maximum.at(worst, of, error[run])
    shift = np.round(np.where(known, offset, 0.0) * SECOND_NS).astype(np.int64)
    moved = np.zeros(len(groups.asked), dtype=np.int64)
    moved[asked] = np.where(compared[of], shift[run], 0)
    home_shift = np.where(compared & own, shift[home], 0)
    own_error = np.where(compared & ~together, error[home] + worst, 0.0) + begun.unsure_s[groups.unit]
    maker = rows.asks.vantage[rows.ask[made]]
    apart = own & ~together & ~compared & (groups.vantage != maker)  # by how much, nobody knows
    kind = np.where(apart, "", begun.kind[groups.unit])
    others_error = GRAIN_S + np.where(compared, worst, 0.0)
    made_at = np.where(begun.unsure_s[groups.unit] > 0, rows.received[made], rows.sent[made])
    return _Shifts(
        row=moved[rows.ask],
        origin=np.select([apart, own], [NONE, made_at - home_shift], begun.told[groups.unit]),
        kind=kind,
        error_s=np.select([own & ~apart, kind != ""], [own_error, others_error], default=np.nan),
    )


def _bounds(rows: Rows, groups: Groups, shifts: _Shifts) -> _Bounds:
    size = len(groups.unit)
    of, sent, received = groups.of, rows.sent - shifts.row, rows.received - shifts.row
    visible, absent = np.flatnonzero(rows.visible & (of >= 0)), np.flatnonzero(rows.absent & (of >= 0))
    shown = of[visible]
    upper = least_at(received[visible], shown, size)
    before = sent[absent] < upper[of[absent]]
    early, late = absent[before], absent[~before]
    lower = greatest_at(sent[early], of[early], size)
    asked = visible[~rows.pushed[visible]]
    late = late[~rows.pushed[late]]  # an event is pushed once: silence after it proves nothing
    after = received[late] > greatest_at(sent[visible], shown, size)[of[late]]
    first_visible = visible[received[visible] == upper[shown]]
    from_sent = greatest_at(sent[first_visible], of[first_visible], size)
    gap = np.abs(_minus(from_sent, lower)) / SECOND_NS
    flaps = late[~after]
    return _Bounds(
        lower=lower,
        upper=upper,
        stable=_stable(of, received, visible, late, upper),
        gone_lower=greatest_at(sent[asked], of[asked], size),
        gone_upper=least_at(received[late[after]], of[late[after]], size),
        spacing_s=np.where(upper == NONE, np.inf, gap),
        last_absent=early[sent[early] == lower[of[early]]],
        first_visible=first_visible,
        flaps=flaps[~rows.remade[flaps]],
    )


def _stable(of: Ints, received: Ints, visible: Ints, late: Ints, upper: Ints) -> Ints:
    """Receipt of the first of STABLE_POLLS visible rows that no late absent parts, in order of receipt; else NONE."""
    index = np.concatenate([late, visible])
    shown = np.repeat([0, 1], [len(late), len(visible)])
    of = of[index]
    of, turn = sorted_within(of, 2 * (received[index] - upper[of]) + shown)  # ties: the absent first
    is_shown = (turn & 1).astype(bool)
    reach = max(0, len(of) - STABLE_POLLS + 1)
    steady = of[:reach] == of[len(of) - reach :]
    for step in range(STABLE_POLLS):
        steady &= is_shown[step : step + reach]
    of, after = of[:reach][steady], turn[:reach][steady] >> 1
    return least_at(upper[of] + after, of, len(upper))


def _delays(bounds: _Bounds, groups: Groups, begun: Origins, shifts: _Shifts) -> dict[str, Any]:
    error, start = shifts.error_s, shifts.origin
    kind = shifts.kind
    own = (kind == "create") | (kind == "publish")
    known, shown = bounds.lower != BELOW, bounds.upper != NONE
    went = bounds.gone_upper != NONE
    upper = np.where(shown, _minus(bounds.upper, start) / SECOND_NS + error, np.inf)
    lower = _minus(bounds.lower, start) / SECOND_NS - error
    event = np.where(groups.relay & (kind != EDIT), np.where(kind == "publish", 0.0, -error), -np.inf)
    floor = np.where(
        (kind == "create") | (kind == ""), 0.0 - begun.unsure_s[groups.unit], event
    )  # before it none can have
    above = ~(upper <= floor)
    lower = np.where(known, np.where(own & above, np.maximum(lower, floor), lower), np.where(above, floor, -np.inf))
    lower = np.where(np.isnan(upper), np.nan, lower)
    seen_until = _minus(bounds.gone_lower, start) / SECOND_NS - error
    return {
        "origin_at": start,
        "origin_kind": kind,
        "origin_error_s": error,
        "lower_s": lower,
        "upper_s": upper,
        "lower_at": bounds.lower,
        "upper_at": bounds.upper,
        "left_censored": shown & ~known,
        "right_censored": ~shown,
        "width_s": np.where(shown, upper - np.where(shown, lower, 0.0), np.inf),
        "stable_s": _minus(bounds.stable, start) / SECOND_NS + error,
        "seen_until_s": seen_until,
        "gone_lower_s": np.where(went, np.where(np.isnan(seen_until), lower, seen_until), np.nan),
        "gone_upper_s": _minus(bounds.gone_upper, start) / SECOND_NS + error,
        "spacing_s": bounds.spacing_s,
    }


def _counts(rows: Rows, groups: Groups, bounds: _Bounds) -> dict[str, Any]:
    proof = rows.visible | rows.absent
    counted = {"polls": proof, "unknown": ~proof & ~rows.intent, "late": rows.late}
    counted |= {"after_end": rows.ended, "livekit_down": rows.down, "held_up": rows.held}
    size, member = len(groups.unit), groups.of >= 0
    found = {name: np.bincount(groups.of[which & member], minlength=size) for name, which in counted.items()}
    return found | {"flaps": np.bincount(groups.of[bounds.flaps], minlength=size)}


def _names(rows: Rows, groups: Groups) -> tuple[dict[str, Any], Ints]:
    """The columns of text that name a group, and the groups in ORDER: codes are sorted in a tenth of the time."""
    asks = rows.asks
    last = np.full(len(groups.unit) + 1, -1, dtype=np.int64)  # what was asked last, and one more place for no group
    last[groups.of] = rows.ask
    target, targets = codes_of(asks.frame["target"])
    _, vantages = codes_of(asks.frame["vantage"])
    codes = {
        "layer": (groups.layer, groups.layers),
        "vantage": (groups.vantage, vantages),
        "target": (target[last[:-1]], targets),
    }
    for name in ("nest", "room", "trace_id"):  # a trace knows its nest and room from whichever row knew them
        code, names = codes_of(asks.frame[name])
        known = (code >= 0) & (asks.unit >= 0)
        told = np.maximum(greatest_at(code[known], asks.unit[known], count_of(asks.unit)), -1)
        codes[name] = told[groups.unit], names
    order = np.lexsort([codes[name][0] for name in reversed(ORDER)])
    return {name: texts_at(names, code) for name, (code, names) in codes.items()}, order


def _marked(observations: pd.DataFrame, rows: Rows, groups: Groups, begun: Origins, bounds: _Bounds) -> Texts:
    """Per group the disturbances that overlap the bracketing polls, by the vantage's own clock."""
    size, of = len(groups.unit), groups.of
    polls = bounds.last_absent, bounds.first_visible
    bracket = np.concatenate(polls)
    end = greatest_at(rows.received[bracket], of[bracket], size)
    start = least_at(rows.sent[bracket], of[bracket], size)
    made = begun.row[groups.unit]
    here = (bounds.lower == BELOW) & (made >= 0) & (rows.asks.vantage[rows.ask[made]] == groups.vantage)
    start = np.where(here, np.minimum(start, rows.sent[made]), start)
    clock = rows.asks.clock
    clocks = [greatest_at(clock[rows.ask[poll]], of[poll], size) for poll in polls]
    code = np.zeros(size, dtype=np.int64)
    for bit, mark in enumerate(MARKS):
        disturbed = np.flatnonzero(equals(observations["failure"], mark))
        for one, starts, ends in _by_clock(rows, disturbed):
            on = np.flatnonzero((clocks[0] == one) | (clocks[1] == one))
            overlaps = np.searchsorted(starts, end[on], "right") > np.searchsorted(ends, start[on], "left")
            code[on[overlaps]] |= 1 << bit
    texts = [",".join(mark for bit, mark in enumerate(MARKS) if number >> bit & 1) for number in range(1 << len(MARKS))]
    return cast(Texts, np.array(texts, dtype=object)[code])


def _by_clock(rows: Rows, index: Ints) -> Iterator[tuple[int, Ints, Ints]]:
    """Each clock of these rows with its sorted starts and its sorted ends."""
    clock = rows.asks.clock[rows.ask[index]]
    order = np.argsort(clock, kind="stable")
    cuts = np.flatnonzero(np.diff(clock[order])) + 1
    for part in np.split(order, cuts) if len(order) else ():
        begun = rows.sent[index[part]]
        yield int(clock[part[0]]), np.sort(begun), np.sort(np.maximum(begun, rows.received[index[part]]))


def _minus(first: Ints, second: Ints) -> Floats:
    """first - second in ns, exact before it is made a float; NaN where either is none."""
    none = (first == NONE) | (first == BELOW) | (second == NONE) | (second == BELOW)
    return np.where(none, np.nan, np.where(none, 0, first) - np.where(none, 0, second))
