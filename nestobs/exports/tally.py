"""What a store tells of its deployment, as counts that only grow: folded from its rows, each of them once.

    rows ──> attempts, joins, the observer        counted as they come
    rows of a nest ──> pending ──HORIZON_S later──> timelines ──> delays by layer
                                                 └> diagnose  ──> causes, where the nest was joined

A delay is an interval (lower, upper]. What is counted is its upper end: the layer had the nest by then, at the latest.
Shares below an edge are never overrated by that. A layer enters by one of `RESULTS`, once a nest and vantage:

    shown            the nest was made under observation, or proven absent there first: its upper end is a delay
    not_seen         proven absent, and not seen within HORIZON_S of the nest's first row: no delay, but it counts
    seen_at_once     a nest of others that was there at the first look: nothing says since when
    nothing_proven   asked, and only failed

An edit of an older room is no new nest and counts nowhere (timeline/intervals/origins.py). What a nest is asked after
its horizon moves no delay. No name of a nest is a label here, so memory does not grow with what strangers make:
pending rows are bounded, and so are the names of relays and vantages. No clock is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Any, Final, cast
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from nestobs.diagnosis.diagnose import diagnose
from nestobs.errors import UsageError
from nestobs.join.budget import host_and_port
from nestobs.observation.arrays import BELOW, NONE, Flags, Floats, Ints, Texts, least_at
from nestobs.observation.columns import codes_of, equals, instants_of, reals_of
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Source
from nestobs.observation.text import shortened
from nestobs.timeline.delays import created
from nestobs.timeline.intervals import timelines
from nestobs.timeline.intervals.polls import HELD_UP_S, layers_of
from nestobs.timeline.joins import KINDS, own_faults, verdicts
from nestobs.timeline.nests import nests_of
from nestobs.timeline.uptime import observer

DELAY_EDGES_S: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300)
"""Edges of delays: 30 s, today's message threshold, is one; the last is the horizon."""

LAG_EDGES_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, HELD_UP_S, 1, 2.5, 5, 10)

HORIZON_S: Final = 300.0
"""A nest's delays are counted so long after its first row, and by the rows up to then."""

_SPARE_S: Final = 30.0
"""A row is written when its answer has come: those of the horizon's end are waited for so long."""

RESULTS: Final = ("shown", "not_seen", "seen_at_once", "nothing_proven")

OTHER: Final = "other"
OWN_FAULT: Final = "own_fault"
"""In place of the verdict of a join that a fault of our own ended: it says nothing of the deployment."""

MOST_NAMES: Final = 20
"""So many relays beside the operator's own, and so many vantages, have labels of their own; all others share one."""

MOST_PENDING: Final = 50_000
"""Rows that wait for their nest's horizon. Of more, the oldest nests are counted early."""

MOST_COUNTED: Final = 50_000
"""Names of nests that were counted, which are not counted again."""

ATTEMPT: Final = ("source", "operation", "layer", "outcome", "failure")
"""What attempts are counted by."""

_VOCABULARIES: Final = {"source": Source, "operation": Operation, "outcome": Outcome, "failure": Failure}
_LONGEST: Final = 200


class Names:
    """Names that may be labels: the operator's `own`, and the first MOST_NAMES of others; the rest are OTHER."""

    def __init__(self, own: Iterable[str] = ()) -> None:
        self._own = frozenset(own)
        self._others: dict[str, None] = {}

    def label(self, name: str) -> str:
        """The name, or OTHER."""
        if name in self._own or name in self._others:
            return name
        if len(self._others) >= MOST_NAMES:
            return OTHER
        self._others[name] = None
        return name


@dataclass(slots=True)
class Histogram:
    """How many values are at most each edge, and their sum. counts: by the space below each edge, and beyond them."""

    edges: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def add(self, values: Floats) -> None:
        """Count these, finite ones."""
        at = np.searchsorted(self.edges, values)
        found = np.bincount(at, minlength=len(self.edges) + 1).tolist()
        self.counts = [old + new for old, new in zip(self.counts or [0] * len(found), found, strict=True)]
        self.total += float(values.sum())

    def cumulative(self) -> list[tuple[str, float]]:
        """How many are at most each edge, and at most any, by the edges' words."""
        sums = accumulate(self.counts or [0] * (len(self.edges) + 1))
        return [(str(edge), float(count)) for edge, count in zip((*map(float, self.edges), "+Inf"), sums, strict=True)]


class Tally:
    """All counts. relays: the operator's own, whose labels are kept.

    attempts: by source, operation, layer, outcome, failure; joins: by verdict and role; causes: by cause and whether it
    is a standing fault; results: by layer and result; observers: by vantage and a field of uptime.Observer. delays are
    by layer, waits of joins by whether they got in, lags by vantage; seconds. early: nests that were counted before
    their horizon, for want of room. newest_at: the last sending, ns UTC, None where there is none.
    """

    def __init__(self, relays: Iterable[str] = ()) -> None:
        self.attempts: Counter[tuple[str, ...]] = Counter()
        self.joins: Counter[tuple[str, str]] = Counter()
        self.causes: Counter[tuple[str, bool]] = Counter()
        self.results: Counter[tuple[str, str]] = Counter()
        self.observers: Counter[tuple[str, str]] = Counter()
        self.delays: dict[str, Histogram] = {}
        self.waits: dict[bool, Histogram] = {}
        self.lags: dict[str, Histogram] = {}
        self.rows = self.early = 0
        self.apis: set[str] = set()
        self.newest_at: int | None = None
        self._relays, self._vantages = Names(cleaned(url) for url in relays), Names()
        self._pending = pd.DataFrame()
        self._next: int = NONE
        self._counted: dict[str, None] = {}

    def layer(self, name: str) -> str:
        """A layer's label: `relay:other` for relays beyond those that have names."""
        kind, _, url = name.partition(":")
        return f"relay:{self._relays.label(cleaned(url))}" if kind == "relay" else name

    def fold(self, rows: pd.DataFrame, upto: int) -> None:
        """Take rows in, as Store.frame gives them; all that was sent before `upto`, ns UTC, is in now."""
        if len(rows):
            self.rows += len(rows)
            sent, _ = instants_of(rows["sent_at"])
            self.newest_at = max(int(sent.max()), self.newest_at or 0)
            self._count_attempts(rows)
            self._note_apis(rows.loc[equals(rows["source"], Source.API), "target"])
            self._count_joins(rows[verdicts(rows)])
            for vantage, mine in rows.groupby("vantage", observed=True):
                self._count_observer(self._vantages.label(shortened(str(vantage), _LONGEST)), mine)
            self._wait(rows)
        self.settle(upto)

    def _note_apis(self, targets: pd.Series) -> None:
        for target in targets.unique():
            if len(self.apis) < MOST_NAMES:
                with suppress(UsageError, ValueError):  # an imported log may have anything there
                    self.apis.add(host_and_port(str(target)))

    def _count_attempts(self, rows: pd.DataFrame) -> None:
        asked, layers = layers_of(rows)
        labels = np.array([*map(self.layer, layers), ""], dtype=object)
        table = pd.DataFrame({name: _within(rows[name], kind) for name, kind in _VOCABULARIES.items()})
        table = table.assign(layer=labels[asked])[~equals(rows["failure"], Failure.INTENT)]
        found = table.groupby([*ATTEMPT]).size()
        self.attempts.update({tuple(map(str, cast(Any, key))): int(count) for key, count in found.items()})

    def _count_joins(self, rows: pd.DataFrame) -> None:
        for role, detail, ours in zip(rows["role"], rows["detail"], own_faults(rows), strict=True):
            verdict = facts_of(detail).get("verdict")
            self.joins[OWN_FAULT if ours else str(verdict) if verdict in KINDS else OTHER, str(role)] += 1
        waited_s = np.maximum(0.0, (instants_of(rows["received_at"])[0] - instants_of(rows["sent_at"])[0]) / SECOND_NS)
        visible = equals(rows["outcome"], Outcome.VISIBLE)
        for joined in (True, False):
            self.waits.setdefault(joined, Histogram(DELAY_EDGES_S)).add(waited_s[visible == joined])

    def _count_observer(self, vantage: str, rows: pd.DataFrame) -> None:
        found = observer(rows)
        counts = {name: getattr(found, name) for name in ("attempts", "held_up", "skipped", "late", "sleeps")}
        for name, count in {**counts, "clock_steps": found.steps}.items():
            self.observers[vantage, name] += count
        beats = equals(rows["source"], Source.CLOCK) & equals(rows["operation"], Operation.HEALTH)
        lags = reals_of(rows["loop_lag_s"][beats])
        self.lags.setdefault(vantage, Histogram(LAG_EDGES_S)).add(lags[np.isfinite(lags)])

    # nests

    def _wait(self, rows: pd.DataFrame) -> None:
        """Keep the rows of nests that are not counted yet."""
        trace, nest = rows["trace_id"].astype("str"), rows["nest"].astype("str")
        known = trace.isin(self._counted) | nest.isin(self._counted)
        mine = rows[((trace != "") | (nest != "")) & ~known.to_numpy(bool)]
        if len(mine):
            self._pending = pd.concat([self._pending, mine], ignore_index=True) if len(self._pending) else mine
            self._next = min(self._next, _due(int(mine["sent_at"].min())))

    def settle(self, upto: int) -> None:
        """Count the nests whose horizon is over by `upto`, ns UTC."""
        if self._next > upto and len(self._pending) <= MOST_PENDING:
            return
        rows = self._pending
        unit = nests_of(rows).unit
        sent, _ = instants_of(rows["sent_at"])
        first = least_at(sent[unit >= 0], unit[unit >= 0], int(unit.max(initial=-1)) + 1)
        due = np.append(
            first + round((HORIZON_S + _SPARE_S) * SECOND_NS) <= upto, True
        )  # the last is of rows of no nest
        over = len(rows) - int(due[unit].sum()) - MOST_PENDING
        if over > 0:
            self.early += _add_oldest(due, unit, first, over)
        now = due[unit]
        within = now & (unit >= 0) & (sent < np.append(first, BELOW)[unit] + round(HORIZON_S * SECOND_NS))
        self._pending = rows[~now].reset_index(drop=True)
        self._next = _due(int(first[~due[:-1]].min(initial=NONE)))
        self._count_nests(rows[within].reset_index(drop=True))
        for name in ("trace_id", "nest"):
            self._counted.update(dict.fromkeys(set(rows.loc[now, name].astype("str")) - {""}))
        for old in [*self._counted][: max(0, len(self._counted) - MOST_COUNTED)]:
            del self._counted[old]

    def _count_nests(self, rows: pd.DataFrame) -> None:
        lines = created(timelines(rows))
        result = _results(lines)
        upper = lines["upper_s"].to_numpy(np.float64)
        of, layers = codes_of(lines["layer"])
        labels = np.array([self.layer(layer) for layer in layers], dtype=object)[of]
        for label in sorted(set(labels)):
            mine = labels == label
            for name in RESULTS:
                self.results[label, name] += int((mine & (result == name)).sum())
            shown = upper[mine & (result == "shown")]
            self.delays.setdefault(label, Histogram(DELAY_EDGES_S)).add(np.maximum(shown, 0.0))
        about = nests_of(rows)
        joined = np.isin(about.unit, np.unique(about.unit[verdicts(rows)]))
        for each in diagnose(rows[joined & (about.unit >= 0)]):
            self.causes[each.first.cause.value, each.first.standing_fault] += 1


def cleaned(url: str) -> str:
    """A relay's URL as a label: without what may be secret or endless in it (user, query, fragment)."""
    try:
        parts = urlsplit(url)
        if not parts.hostname:
            return "no URL"
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "no URL"
    return shortened(f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/"), _LONGEST)


def _within(values: pd.Series, kind: type[StrEnum]) -> Texts:
    """The words, OTHER for what is none of the vocabulary's, "" for null."""
    words = values.astype("str").fillna("")
    return np.asarray(words.where(words.isin(["", *kind]), OTHER), dtype=object)


def _due(first: int) -> int:
    """When a nest can be counted whose first row was sent then."""
    return NONE if first == NONE else first + round((HORIZON_S + _SPARE_S) * SECOND_NS)


def _add_oldest(due: Flags, unit: Ints, first: Ints, over: int) -> int:
    """Let the oldest nests be due, too, until at most so many rows are over; how many nests those are."""
    sizes = np.bincount(unit[unit >= 0], minlength=len(first))
    order = np.argsort(first, kind="stable")
    order = order[~due[order]]
    enough = int(np.searchsorted(np.cumsum(sizes[order]), over)) + 1
    due[order[:enough]] = True
    return min(enough, len(order))


def _results(lines: pd.DataFrame) -> Any:
    """Of each timeline one of RESULTS; "" without an origin."""
    own = lines["origin_kind"].isin(["create", "publish"]).to_numpy(bool)
    known = (lines["origin_kind"] != "").to_numpy(bool)
    proven = (lines["polls"] > 0).to_numpy(bool)
    shown = ~lines["right_censored"].to_numpy(bool)
    bounded = own | ~lines["left_censored"].to_numpy(bool)
    cases = [~proven, ~shown, known & bounded, ~bounded]
    return np.select(cases, ["nothing_proven", "not_seen", "shown", "seen_at_once"], "").astype(object)
