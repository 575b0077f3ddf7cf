"""When the collector was at work, so that a gap in what was seen is not read as an outage of what was watched.

Every row proves that its vantage was at work at its `sent_at` and at its `received_at`; a collector with nothing to say
writes a heartbeat every `HEARTBEAT_S`. Two successive such instants of one run, at most `GAP_S` apart, make a span in
which it was at work; what lies between two runs, or two instants further apart, does not count. So coverage is
underrated by at most a beat at the end of a run that was killed, and never overrated by more than `GAP_S` a gap. Stores
written before there were heartbeats read as off wherever nothing happened.

Instants are the vantage's own, by its anchored clock: a stepped wall clock moves none of them, a machine that slept
lacks the time it slept. Both are listed by `disturbances`, to be shown beside the spans.

Who observes in bursts, every three hours say, is at work for a small part of a day and has all the same done what was
planned: each burst is a sample of the time until the next. A run that is one of a schedule says so in a row
(`Vantage.burst`), with the schedule's instant and period, and only once it has come to its end. `bursts` gives the time
that such runs stand for. It is the time in which nothing that was planned is lacking, not time at work: rates are by
`spans`, whether there is enough to judge by both (`combined`). A burst that was killed, skipped or never begun stands
for nothing.

While it was at work it may have been held up: its loop stood still, it slept, its clock was stepped, a poll came too
late to be made. `observer` says in which share of its attempts, and what of that has to be said before anything else.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import (
    BELOW,
    NONE,
    Flags,
    Ints,
    Texts,
    count_of,
    greatest_at,
    least_at,
    sorted_within,
)
from nestobs.observation.columns import codes_of, equals, equals_any, instants_of, paired
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import HEARTBEAT_S, PERIOD, Failure, Operation, Source
from nestobs.observation.text import percent
from nestobs.timeline.intervals.polls import HELD_UP_S, held_up

GAP_S: Final = 2.5 * HEARTBEAT_S
"""Instants further apart are a gap: one beat may be lost and the next come late."""

MOST_PERIOD_S: Final = 86_400.0
"""A burst stands for a day at most, however seldom there is one."""

NEEDED: Final = (
    "vantage",
    "run_id",
    "source",
    "operation",
    "planned_at",
    "sent_at",
    "received_at",
    "failure",
    "detail",
)
"""The columns of observations that are read here."""

MOST_HELD_UP: Final = 0.1
"""Of the attempts: a tenth is what chance leaves open of any share with a hundred nests (the 95 % interval of a half is
0.4 to 0.6). Where the machine's own share is more, more nests would not make it right."""

LEAST_SAID: Final = 0.01
"""A smaller share held up is not worth a word."""

_UNMADE: Final = (Failure.INTENT, Failure.BUDGET)
_ASKED: Final = (Source.RELAY, Source.API, Source.LIVEKIT)

_MARKS: Final = (str(Failure.CLOCK_STEP), str(Failure.SUSPENDED))


@dataclass(frozen=True, slots=True)
class Observer:
    """The state of who observed. attempts: requests to relays, API and LiveKit, those of the plan where there is one;
    held_up: of them, those that ran while the machine stood still, slept or had its clock stepped; skipped: those that
    were planned and not made, for being too late; late: those that were sent HELD_UP_S after their time, which widens
    intervals and makes none untrue. steps, sleeps: how often the clock was stepped, and the machine slept; stepped_s,
    slept_s: by how much at most, 0.0 where that is not told.
    """

    attempts: int = 0
    held_up: int = 0
    skipped: int = 0
    late: int = 0
    steps: int = 0
    stepped_s: float = 0.0
    sleeps: int = 0
    slept_s: float = 0.0

    @property
    def share(self) -> float:
        """Of the attempts, those held up or skipped; 0.0 without any."""
        return (self.held_up + self.skipped) / self.attempts if self.attempts else 0.0

    @property
    def much(self) -> bool:
        """Whether that is too much for a verdict or a recommendation."""
        return self.share > MOST_HELD_UP

    @property
    def words(self) -> str:
        """What has to be said of it above everything; "" where it kept to its plan and to its clock."""
        late = self.late / self.attempts if self.attempts else 0.0
        if self.share < LEAST_SAID and late <= MOST_HELD_UP and not self.steps and not self.sleeps:
            return ""
        bad = self.held_up + self.skipped
        borne = f"up to {percent(MOST_HELD_UP)} is borne"
        if self.much:
            borne = f"above {percent(MOST_HELD_UP)} is too much: nothing is recommended or judged by it"
        held = f"held up in {percent(self.share)} of its attempts ({bad} of {self.attempts}): {borne}"
        said = [f"The observing machine itself was {held}"]
        wider = "which widens intervals and makes none untrue"
        said += [f"{percent(late)} came {HELD_UP_S:g} s late or later, {wider}"] if late > MOST_HELD_UP else []
        said += [f"its clock was stepped {_times(self.steps)}{_most(self.stepped_s)}"] if self.steps else []
        said += [f"it slept {_times(self.sleeps)}{_most(self.slept_s)}"] if self.sleeps else []
        return f"{'; '.join(said)}."

    def as_dict(self) -> dict[str, float]:
        """JSON data."""
        return {"share": self.share, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Watched:
    """What `observer` is made of, of some of the rows; parts add up. due: requests that a plan asked for, made or not.
    Of those made: planned and all of them, and of each those held up. The rest as an Observer has it."""

    due: int = 0
    planned: int = 0
    planned_held_up: int = 0
    made: int = 0
    made_held_up: int = 0
    skipped: int = 0
    late: int = 0
    steps: int = 0
    stepped_s: float = 0.0
    sleeps: int = 0
    slept_s: float = 0.0

    def __add__(self, other: Watched) -> Watched:
        found = replace(self, stepped_s=max(self.stepped_s, other.stepped_s), slept_s=max(self.slept_s, other.slept_s))
        counts = [each.name for each in fields(self) if not each.name.endswith("_s")]
        return replace(found, **{name: getattr(self, name) + getattr(other, name) for name in counts})

    def observer(self) -> Observer:
        """The state that all of it tells."""
        made, held = (self.planned, self.planned_held_up) if self.due else (self.made, self.made_held_up)
        same = ("skipped", "late", "steps", "stepped_s", "sleeps", "slept_s")
        return Observer(attempts=made + self.skipped, held_up=held, **{name: getattr(self, name) for name in same})


def watched(observations: pd.DataFrame, mine: Flags | None = None) -> Watched:
    """What some rows tell of who observed. mine: which of them count; None: all. The others tell what befell it."""
    mine = np.ones(len(observations), dtype=bool) if mine is None else mine
    failure, source = observations["failure"], observations["source"]
    asked = mine & equals_any(source, _ASKED) & ~equals_any(failure, _UNMADE)
    due, is_due = instants_of(observations["planned_at"])
    sent, _ = instants_of(observations["sent_at"])
    unmade = equals(failure, Failure.SKIPPED)
    skipped = mine & is_due & unmade & equals(source, Source.CLOCK)
    made, held = asked & ~unmade, held_up(observations)
    late = made & is_due & (sent - due >= round(HELD_UP_S * SECOND_NS))
    found = disturbances(observations if mine.all() else observations[mine])
    steps, sleeps = (found.loc[found["kind"] == kind, "size_s"].abs().fillna(0.0) for kind in _MARKS)
    return Watched(
        due=int((asked & is_due).sum()),
        planned=int((made & is_due).sum()),
        planned_held_up=int((made & is_due & held).sum()),
        made=int(made.sum()),
        made_held_up=int((made & held).sum()),
        late=int(late.sum()),
        skipped=int(skipped.sum()),
        steps=len(steps),
        stepped_s=float(steps.max()) if len(steps) else 0.0,
        sleeps=len(sleeps),
        slept_s=float(sleeps.max()) if len(sleeps) else 0.0,
    )


def observer(observations: pd.DataFrame) -> Observer:
    """The state of who observed, by rows as Store.frame gives them."""
    return watched(observations).observer()


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _most(seconds: float) -> str:
    return f" (by up to {seconds:.1f} s)" if seconds else ""


def spans(observations: pd.DataFrame) -> pd.DataFrame:
    """Columns vantage, start_at, end_at (datetime64[ns, UTC]): [start, end) in which a vantage was at work.

    Sorted by vantage and time; those of one vantage neither overlap nor touch. observations: as Store.frame gives them.
    A run of a single instant has no length and no span.
    """
    return spans_of(stretches(observations))


def stretches(observations: pd.DataFrame) -> pd.DataFrame:
    """Of each vantage and run the stretches in which no two instants are GAP_S apart: columns vantage, run_id, first,
    last (ns, of the instants). They add up: those of several parts of the rows, put together, tell what all do."""
    sent, _ = instants_of(observations["sent_at"])
    received, answered = instants_of(observations["received_at"])
    slept = equals(observations["failure"], Failure.SUSPENDED)  # its sent_at is reckoned back
    (vantage, vantages), (run, runs) = (codes_of(observations[name]) for name in ("vantage", "run_id"))
    clock = paired(vantage, run)
    at, of = np.concatenate([sent[~slept], received[answered]]), np.concatenate([clock[~slept], clock[answered]])
    whose = np.full((count_of(clock), 2), -1, dtype=np.int64)
    whose[clock, 0], whose[clock, 1] = vantage, run
    of, first, last = _near(of, at, at)
    names = (np.append(texts, "")[whose[of, place]] for place, texts in enumerate((vantages, runs)))
    columns = dict(zip(("vantage", "run_id"), (pd.Series(texts, dtype="str") for texts in names), strict=True))
    return pd.DataFrame({**columns, "first": first, "last": last})


def spans_of(found: pd.DataFrame) -> pd.DataFrame:
    """`spans` of stretches, of however many parts."""
    vantage, names = codes_of(found["vantage"])
    clock = paired(vantage, codes_of(found["run_id"])[0])
    whose = np.full(count_of(clock), -1, dtype=np.int64)
    whose[clock] = vantage
    of, first, last = _near(clock, found["first"].to_numpy(np.int64), found["last"].to_numpy(np.int64))
    return _merged(whose[of], first, last, np.append(names, ""))


def _near(of: Ints, first: Ints, last: Ints) -> tuple[Ints, Ints, Ints]:
    """Stretches of each clock, those that are GAP_S apart at most as one; by clock and time."""
    if first is last:
        of, first = sorted_within(of, first)
        reached = first
    else:
        order = np.lexsort((first, of))
        of, first, last = of[order], first[order], last[order]
        reached = pd.Series(last).groupby(of).cummax().to_numpy(np.int64) if len(of) else last
    breaks = (np.diff(of) != 0) | (first[1:] - reached[:-1] > round(GAP_S * SECOND_NS))
    begin, end = _runs(breaks, len(of))
    return of[begin], first[begin], reached[end]


def bursts(observations: pd.DataFrame) -> pd.DataFrame:
    """A row for each burst that came to its end without a watch beside it, by vantage and time: columns as of `spans`,
    [start, end) the time it stands for. That is from the instant for which it was planned to the next of its schedule;
    MOST_PERIOD_S at most."""
    due, planned = instants_of(observations["planned_at"])
    beat = equals(observations["source"], Source.CLOCK) & equals(observations["operation"], Operation.HEALTH)
    rows = np.flatnonzero(beat & planned)
    facts = [facts_of(text) for text in observations["detail"].iloc[rows]]
    period_s = np.array([0.0 if one.get("watched") else _period_s(one.get(PERIOD)) for one in facts], dtype=np.float64)
    rows, period_s = rows[period_s > 0.0], period_s[period_s > 0.0]
    names = observations["vantage"].iloc[rows].to_numpy(dtype=object)
    found = _frame(names, due[rows], due[rows] + np.round(period_s * SECOND_NS).astype(np.int64))
    return found.sort_values(["vantage", "start_at"], kind="stable", ignore_index=True)


def turns(observations: pd.DataFrame) -> tuple[int, int]:
    """How many turns of a schedule came to their end, beside a watch or not, and how many were left out since the
    request budget could not pay them. A turn counts once, of however many vantages."""
    due, planned = instants_of(observations["planned_at"])
    clock = equals(observations["source"], Source.CLOCK) & planned
    ended = np.flatnonzero(clock & equals(observations["operation"], Operation.HEALTH))
    details = observations["detail"].to_numpy(dtype=object)
    ended = np.array([row for row in ended if _period_s(facts_of(details[row]).get(PERIOD))], dtype=np.int64)
    unpaid = clock & equals(observations["operation"], Operation.STEP) & equals(observations["failure"], Failure.BUDGET)
    return len(set(due[ended].tolist())), len(set(due[unpaid].tolist()))


def attended(observations: pd.DataFrame) -> pd.DataFrame:
    """A row a vantage, by name. Columns: vantage, first_at, last_at (datetime64[ns, UTC]: its first and last row),
    late_s, early_s (so much after the first of all, and before the last of all), held_up (`Observer.share` of its own
    rows), much (bool: too much). What a vantage did not see before its first row and after its last is no evidence."""
    vantage, names = codes_of(observations["vantage"])
    sent, _ = instants_of(observations["sent_at"])
    first = least_at(sent, vantage, len(names) + 1)[: len(names)]  # the last is of rows of none
    last = greatest_at(sent, vantage, len(names) + 1)[: len(names)]
    held = [observer(observations[vantage == number]) for number in range(len(names))]
    return pd.DataFrame(
        {
            "vantage": pd.Series(names, dtype="str"),
            "first_at": _utc(first),
            "last_at": _utc(last),
            "late_s": (first - first.min(initial=NONE)) / SECOND_NS,
            "early_s": (last.max(initial=BELOW) - last) / SECOND_NS,
            "held_up": np.array([one.share for one in held], dtype=np.float64),
            "much": np.array([one.much for one in held], dtype=bool),
        }
    )


def combined(*found: pd.DataFrame) -> pd.DataFrame:
    """Spans of several kinds as one set of disjoint ones for each vantage."""
    every = pd.concat(found, ignore_index=True)
    of, names = codes_of(every["vantage"])
    return _merged(of, _ns(every["start_at"]), _ns(every["end_at"]), np.append(names, ""))


def together(found: pd.DataFrame) -> pd.DataFrame:
    """The spans in which any vantage was at work; their vantage is empty."""
    zeros = np.zeros(len(found), dtype=np.int64)
    return _merged(zeros, _ns(found["start_at"]), _ns(found["end_at"]), np.array([""], dtype=object))


def within(found: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
    """The spans cut to [start, end), ns UTC."""
    begins, ends = (np.clip(_ns(found[name]), start, end) for name in ("start_at", "end_at"))
    keeps = begins < ends
    return _frame(found["vantage"].to_numpy(dtype=object)[keeps], begins[keeps], ends[keeps])


def covered(found: pd.DataFrame, start: int, end: int) -> dict[str, float]:
    """By vantage the share of [start, end), ns UTC, in which it was at work; 0 to 1. NaN in a window of no length."""
    inside = within(found, start, end)
    length = (inside["end_at"] - inside["start_at"]).dt.total_seconds()
    sums = length.groupby(inside["vantage"]).sum()
    whole = (end - start) / SECOND_NS
    return {str(name): _part(float(sums.get(name, 0.0)), whole) for name in sorted(set(found["vantage"]))}


def gaps(found: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
    """Where no span is: columns vantage, start_at, end_at, gap_s, longest first. Of each vantage that has a span."""
    made = []
    for name in sorted(set(found["vantage"])):
        mine = within(found[found["vantage"] == name], start, end)
        edges = np.concatenate([[start], np.column_stack([_ns(mine["start_at"]), _ns(mine["end_at"])]).ravel(), [end]])
        begins, ends = edges[::2], edges[1::2]
        keeps = begins < ends
        made.append(_frame(np.full(int(keeps.sum()), name, dtype=object), begins[keeps], ends[keeps]))
    table = pd.concat(made) if made else _frame(np.empty(0, object), np.empty(0, np.int64), np.empty(0, np.int64))
    table["gap_s"] = (table["end_at"] - table["start_at"]).dt.total_seconds()
    return table.sort_values(["gap_s", "vantage", "start_at"], ascending=[False, True, True], ignore_index=True)


def disturbances(observations: pd.DataFrame) -> pd.DataFrame:
    """Columns vantage, at (datetime64[ns, UTC]), kind (clock_step or suspended), size_s (NaN: not told), by time."""
    clock = equals(observations["source"], Source.CLOCK) & equals(observations["operation"], Operation.STEP)
    found = observations.iloc[np.flatnonzero(clock & equals_any(observations["failure"], _MARKS))]
    noticed, known = instants_of(found["received_at"])
    noticed = np.where(known, noticed, instants_of(found["sent_at"])[0])
    table = pd.DataFrame(
        {
            "vantage": found["vantage"].to_numpy(dtype=object),
            "at": _utc(noticed),
            "kind": found["failure"].to_numpy(dtype=object),
            "size_s": np.array([_size(text) for text in found["detail"]], dtype=np.float64),
        }
    )
    return table.sort_values(["at", "vantage"], ignore_index=True)


def _merged(of: Ints, begins: Ints, ends: Ints, names: Texts) -> pd.DataFrame:
    """Spans of several runs as one set of disjoint ones each."""
    order = np.lexsort((begins, of))
    of, begins, ends = of[order], begins[order], ends[order]
    reached = pd.Series(ends).groupby(of).cummax().to_numpy(np.int64)
    first, last = _runs((np.diff(of) != 0) | (begins[1:] > reached[:-1]), len(of))
    keeps = begins[first] < reached[last]
    return _frame(names[of[first]][keeps], begins[first][keeps], reached[last][keeps])


def _runs(breaks: Flags, count: int) -> tuple[Ints, Ints]:
    """The first and the last of each part that these breaks make of so many things in a row."""
    ends = np.append(np.flatnonzero(breaks), count - 1)[:count]
    return np.append(0, ends[:-1] + 1)[: len(ends)], ends


def _period_s(value: object) -> float:
    """A schedule's period as a row tells it, seconds; 0.0 where it tells none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0.0
    return min(float(min(value, 1e9)), MOST_PERIOD_S)


def _part(seconds: float, whole: float) -> float:
    return min(1.0, seconds / whole) if whole > 0 else math.nan


def _size(detail: object) -> float:
    size = facts_of(detail).get("size_s")
    return float(size) if isinstance(size, int | float) else math.nan


def _ns(values: pd.Series) -> Ints:
    return np.asarray(values.astype("int64"), dtype=np.int64)


def _utc(values: Ints) -> pd.Series:
    return pd.Series(values.astype("M8[ns]")).dt.tz_localize("UTC")


def _frame(vantage: Texts, begins: Ints, ends: Ints) -> pd.DataFrame:
    names = pd.Series(vantage, dtype="str")
    return pd.DataFrame({"vantage": names, "start_at": _utc(begins), "end_at": _utc(ends)})
