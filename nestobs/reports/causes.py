"""Causes on pages: of one nest, a line and its evidence; of many, how often each kept somebody out.

What is told is `nestobs.diagnosis`' own. A failed join's cause is the first one of its nest, as seen from its vantage
point, that stood in somebody's way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.diagnosis import RULES, Cause, Diagnosis, Found, diagnose
from nestobs.diagnosis.diagnose import SURE
from nestobs.estimate.dependence import join_blocks, share_of
from nestobs.exports.parts import rows_of
from nestobs.figures import percent
from nestobs.observation.columns import dicts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import Window
from nestobs.reports.dataset import watched
from nestobs.reports.display import Section, Table, Text, many, numbers
from nestobs.store.follow import Followed
from nestobs.store.partitions import ALWAYS
from nestobs.store.reader import Store
from nestobs.timeline.board import Row, State

MOST_NESTS: Final = 300
"""Nests whose failed joins are explained; of more, so many evenly spread."""

MOST_ROWS: Final = 20
MOST_TRACES: Final = 3
WORST: Final = 3

READ: Final = (
    "observation_id", "run_id", "trace_id", "vantage", "role", "nest", "room", "source", "target", "operation",
    "attempt_group", "planned_at", "sent_at", "received_at", "outcome", "status", "failure", "failure_layer", "reason",
    "remote_at", "remote_grain_s", "timeout_s", "loop_lag_s", "clock_offset_s", "clock_error_s", "sync_age_s",
    "cache", "detail",
)  # fmt: skip  # a list of words
"""The columns of observations that a diagnosis reads."""


def of_one(found: Sequence[Diagnosis]) -> Section:
    """What is the matter with one nest, from each vantage point: the line, what to do, and the evidence. Empty where
    nothing was observed."""
    if not found:
        return Section()
    together: dict[str, list[str]] = {}
    for each in found:
        together.setdefault(each.line(), []).append(each.vantage)
    lines = [line if len(found) == 1 else f"From {', '.join(who)}: {line}" for line, who in together.items()]
    firsts = {each.first.cause: each.first for each in found}
    advice = [
        {"about": cause.value, "who": who, "what to do": words}
        for cause, first in firsts.items()
        for who, words in (first.advice | ({"ask next": first.next} if first.next else {})).items()
    ]
    evidence = [
        {
            "cause": each.cause.value,
            "how sure": percent(each.confidence),
            "from": one.vantage,
            "what tells it": told.said,
            "observations": ", ".join(told.rows),
        }
        for one in found
        for each in one.causes
        for told in each.evidence or ()
        if told.said
    ]
    parts: list[Table | Text] = [Text(lines)]
    parts += [Table(pd.DataFrame(rows), style="nestobs-words") for rows in (advice, evidence) if rows]
    return Section(tuple(parts))


def ids(found: Sequence[Diagnosis]) -> frozenset[str]:
    """The ids of all causes that are named."""
    return frozenset(each.cause.value for one in found for each in one.causes)


@dataclass(frozen=True, slots=True)
class Failed:
    """The failed joins of a window and their causes. joins: as timeline.joins has them; cause: of each its cause's id,
    first: that cause as found; every: of how many nests one was explained."""

    joins: pd.DataFrame
    cause: tuple[str, ...]
    first: tuple[Found, ...]
    every: int = 1

    def standing(self) -> list[str]:
        """A sentence for each fault that no waiting heals and that is sure, the most frequent first."""
        said = []
        for cause, places in self._groups():
            rule, one = RULES[Cause(cause)], self.joins.iloc[places[0]]
            if rule.standing and rule.fault and max(self.first[at].confidence for at in places) >= SURE:
                where = f"{many(len(places), 'join')} of {many(self._nests(places), 'nest')}"
                said.append(f"{cause}: {rule.theory} {where}, for example {one['room'] or one['nest']}.")
        return said

    def table(self) -> Section:
        """A row a cause: joins, their share with its interval, nests, and an example. Nothing where none failed."""
        if self.joins.empty:
            return Section((Text(["No join failed."]),))
        block = join_blocks(self.joins)
        causes = np.asarray(self.cause, dtype=object)
        rows = []
        for cause, places in self._groups()[:MOST_ROWS]:
            one = share_of(causes == cause, block)
            lower, upper = one.score()
            example = self.joins.iloc[max(places, key=lambda at: self.first[at].confidence)]
            rows.append(
                {
                    "cause": cause,
                    "failed joins": f"{one.least:,}",
                    "share (95 %)": f"{percent(one.value)} ({percent(lower)} to {percent(upper)})",
                    "nests": f"{self._nests(places):,}",
                    "at most so sure": percent(max(self.first[at].confidence for at in places)),
                    "an example": f"{str(example['room'] or example['nest'])[:60]} from {example['vantage']}",
                }
            )
        some = f" Of every {self.every} nests one was explained." if self.every > 1 else ""
        words = f"{many(len(self.joins), 'join')} ended outside the room.{some} Each is put down to its first cause."
        said = [{"cause": cause, "what that is": RULES[Cause(cause)].theory} for cause, _ in self._groups()[:MOST_ROWS]]
        return Section((Text([words]), numbers(rows), Table(pd.DataFrame(said), style="nestobs-words")))

    def by_nest(self) -> Section:
        """A row a nest and vantage point whose joins failed: how many, why, and what tells it."""
        if self.joins.empty:
            return Section((Text(["No join failed."]),))
        rows = []
        groups = self.joins.assign(place=range(len(self.joins))).groupby(["nest", "room", "vantage"], sort=False)
        ordered = sorted(groups, key=lambda group: -len(group[1]))
        for (nest, room, vantage), mine in ordered[:MOST_ROWS]:
            one = self.first[int(mine["place"].iloc[0])]
            rows.append(
                {
                    "nest": room or nest,
                    "from": vantage,
                    "failed joins": len(mine),
                    "cause": one.cause.value,
                    "how sure": percent(one.confidence),
                    "what tells it": ", ".join(told.said for told in one.evidence if told.said),
                }
            )
        more = len(ordered) - len(rows)
        rest = (Text([f"{many(more, 'nest')} more are not listed."]),) if more else ()
        return Section((Table(pd.DataFrame(rows), style="nestobs-words"), *rest))

    def worst(self) -> list[str]:
        """The nests of most failed joins, at most WORST, by their rooms; by the address where several have one room."""
        pairs = self.joins.groupby(["room", "nest"]).size().sort_values(ascending=False, kind="stable").index[:WORST]
        rooms = self.joins[["room", "nest"]].drop_duplicates()["room"].value_counts()
        return [room if room and rooms[room] == 1 else nest for room, nest in pairs]

    def _groups(self) -> list[tuple[str, list[int]]]:
        """The causes and where their joins stand, the most frequent first."""
        places: dict[str, list[int]] = {}
        for place, cause in enumerate(self.cause):
            places.setdefault(cause, []).append(place)
        return sorted(places.items(), key=lambda group: (-len(group[1]), group[0]))

    def _nests(self, places: Sequence[int]) -> int:
        return len(self.joins.iloc[list(places)][["nest", "room"]].drop_duplicates())


def of_failed(opened: Store, joins: pd.DataFrame, window: Window | None) -> Failed:
    """Why the joins that ended outside the room did. joins: of `timeline.joins`; window: in which their nests were
    made, None for all there is."""
    failed = joins[~joins["joined"].to_numpy(dtype=bool)]
    names = failed["room"].where(failed["room"] != "", failed["nest"]).drop_duplicates()
    every = max(1, -(-len(names) // MOST_NESTS))
    chosen = set(names.iloc[::every])
    failed = failed[failed["room"].isin(chosen) | failed["nest"].isin(chosen)].reset_index(drop=True)
    if failed.empty:
        return Failed(failed, (), (), every)
    sent = ALWAYS if window is None else (watched(window).start, watched(window).end)
    among = {"room": chosen, "nest": chosen | {""}, "trace_id": set(failed["trace_id"]) - {""}}
    known: dict[tuple[str, str], Diagnosis] = {}
    for each in diagnose(rows_of(opened, READ, among, sent)):
        known |= {(name, each.vantage): each for name in (each.nest, each.room) if name}
    first = [_kept_out(known, join) for join in dicts_of(failed)]
    return Failed(failed, tuple(each.cause.value for each in first), tuple(first), every)


class Looked:
    """Why nests of a store that grows are not ready: looked up when their state or message changes, and kept."""

    def __init__(self, followed: Followed) -> None:
        self._followed = followed
        self._known: dict[tuple[str, str], tuple[object, Diagnosis | None]] = {}

    def look(self, rows: Sequence[Row], until: int, now: Callable[[], int]) -> None:
        """Look up those of the nests that are not ready and have changed, as many as there is time for until `until`,
        ns UTC. Lets go of all nests that are not among them."""
        self._known = {key: known for row in rows if (known := self._known.get(key := (row.nest, row.room)))}
        for row in rows:
            if row.state is not State.READY and self._known.get((row.nest, row.room), ("",))[0] != _version(row):
                if now() >= until:
                    return
                self._known[row.nest, row.room] = (_version(row), self.find(row.nest, row.room))

    def of(self, row: Row) -> Diagnosis | None:
        """What was found last; None for a nest that is ready, or not looked up yet."""
        return None if row.state is State.READY else self._known.get((row.nest, row.room), (None, None))[1]

    def find(self, nest: str, room: str) -> Diagnosis | None:
        """The diagnosis of one nest, from the vantage where most stood in the way; None where nothing did."""
        store = self._followed.store
        if store is None or not (room or nest):
            return None
        newest = store.newest()[1] or 0
        start = newest - round(self._followed.last_s * SECOND_NS)
        rows = store.frame(start=start, room=room) if room else store.frame(start=start, nest=nest)
        traces = [trace for trace in rows["trace_id"].unique() if trace][:MOST_TRACES]  # its creation names no room
        parts = [rows, *(store.frame(start=start, trace_id=trace) for trace in traces)]
        rows = pd.concat(parts).drop_duplicates("observation_id").sort_values("sent_at", ignore_index=True)
        told = [each for each in diagnose(rows) if each.first.blocks and each.first.cause not in _QUIET]
        return max(told, key=lambda each: each.first.confidence, default=None)


_QUIET: Final = (Cause.JOINED, Cause.UNDETERMINED, Cause.OBSERVER_FAULT)


def _version(row: Row) -> object:
    return row.state, row.message


def in_short(found: Diagnosis | None) -> str:
    """A cause in a line without its evidence; "" for none."""
    if found is None:
        return ""
    first = found.first
    return f"{first.cause.value} ({percent(first.confidence)}): {first.said}"


_NONE: Final = Found(Cause.UNDETERMINED, 0.0, ())


def _kept_out(known: dict[tuple[str, str], Diagnosis], join: dict[str, Any]) -> Found:
    """What stood in the way of a join; what is not known, where nothing that did is known."""
    vantage = str(join["vantage"])
    found = known.get((str(join["nest"]), vantage)) or known.get((str(join["room"]), vantage))
    causes = found.causes if found is not None else ()
    return next((each for each in causes if each.blocks and each.cause is not Cause.JOINED), _NONE)
