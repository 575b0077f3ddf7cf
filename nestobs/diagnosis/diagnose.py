"""Observations in, causes out: for each nest and vantage the causes that its evidence tells, the most deciding first.

    observations ─> rows.nests ─> Scene (a nest from one vantage) ─> facts ─> cases that fit ─> Found, by what blocks

Several causes may hold. First comes the one that would have to change for the join to succeed: what stood in the way,
the surest first; then what is a fact beside it. Nothing that fits: `undetermined`, with what to ask next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.diagnosis.cases import DOORS, ENDS, HEALED, RELAYS, SHUT, UNREACHED, Case
from nestobs.diagnosis.causes import Cause
from nestobs.diagnosis.clocks import of_clocks
from nestobs.diagnosis.doors import of_doors
from nestobs.diagnosis.ends import of_ends
from nestobs.diagnosis.facts import Fact, Facts
from nestobs.diagnosis.livekit import of_livekit
from nestobs.diagnosis.priors import DEFAULT, Priors
from nestobs.diagnosis.relays import of_relays
from nestobs.diagnosis.rows import nests
from nestobs.diagnosis.rules import RULES
from nestobs.diagnosis.scene import Evidence, Scene, Window
from nestobs.diagnosis.windows import of_layers, of_window
from nestobs.join.decision import Kind
from nestobs.observation import reasons
from nestobs.observation.arrays import Flags
from nestobs.observation.columns import codes_of, equals, equals_any, observations_of, paired
from nestobs.observation.detail import facts_of
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Source
from nestobs.timeline.delays import STANDING
from nestobs.timeline.intervals import Elsewhere
from nestobs.timeline.intervals import elsewhere as elsewhere_of
from nestobs.timeline.nests import nests_of
from nestobs.timeline.standing import standing

__all__ = ["Diagnosis", "Evidence", "Found", "diagnose", "diagnose_rows", "suspects", "with_standing"]


@dataclass(frozen=True, slots=True)
class Found:
    """A cause that holds. confidence: a probability. said: the rule's theory. next: what to ask next, "" for nothing.
    blocks: it stood in the way of a join; else a fact beside it. listed: LiveKit has told of the room. healed: it was
    over when somebody got in."""

    cause: Cause
    confidence: float
    evidence: tuple[Evidence, ...]
    blocks: bool = True
    listed: bool = False
    healed: bool = False

    @property
    def said(self) -> str:
        """The cause in a sentence."""
        return RULES[self.cause].theory

    @property
    def advice(self) -> dict[str, str]:
        """What to do, by who: host, guest, operator."""
        return RULES[self.cause].advice()

    @property
    def next(self) -> str:
        """What to ask next, "" where nothing is left to ask."""
        rule = RULES[self.cause]
        return "" if self.confidence >= SURE else (self.listed and rule.listed) or rule.next

    @property
    def sure(self) -> bool:
        """Whether it is told without its odds."""
        return self.confidence >= SURE and self.cause is not Cause.UNDETERMINED

    @property
    def standing_fault(self) -> bool:
        """Whether something is broken that time does not heal, and that is the likelier reading."""
        rule = RULES[self.cause]
        return rule.standing and rule.fault and self.blocks and self.confidence > 0.5

    @property
    def tells(self) -> bool:
        """Whether it tells something of the nest, and more likely so than not."""
        return self.confidence > 0.5 and self.cause not in (Cause.OBSERVER_FAULT, Cause.UNDETERMINED)

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "id": self.cause.value,
            "confidence": round(self.confidence, 3),
            "evidence": [{"said": each.said, "rows": list(each.rows)} for each in self.evidence],
            "advice": self.advice,
            "next": self.next,
        }


SURE = 0.9
"""From this confidence on a cause is told without a may be."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The causes of one nest as one vantage saw it, most deciding first, never empty."""

    nest: str
    room: str
    vantage: str
    causes: tuple[Found, ...]

    @property
    def first(self) -> Found:
        """The most deciding cause."""
        return self.causes[0]

    def line(self) -> str:
        """What is the matter, in a sentence, and the evidence for it."""
        first = self.first
        said = first.said
        also = [each for each in self.causes[1:] if each.blocks and each.confidence >= MENTIONED]
        if first.confidence < SURE and also:
            said += f" Or else: {also[0].said}"
        words = ", ".join(each.said for each in first.evidence)
        return f"{said} Evidence: {words}." if words else said

    def as_dict(self) -> dict[str, Any]:
        """JSON data: what `nestobs diagnose --json` prints."""
        return {
            "nest": self.nest or self.room,
            "vantage": self.vantage,
            "causes": [each.as_dict() for each in self.causes],
        }


MENTIONED = 0.1


def diagnose(
    observations: pd.DataFrame, *, priors: Priors = DEFAULT, elsewhere: Elsewhere | None = None
) -> list[Diagnosis]:
    """The causes of each nest from each vantage that asked about it, by nest, then vantage.

    `observations` as Store.frame gives them, with rows about no nest among them where there are any. priors: see there.
    elsewhere: what rows of other nests tell, as `timelines` takes it; None: what these do. No row of a nest: an empty
    list.
    """
    found = []
    for nest in nests(observations, elsewhere):
        asked = {row.vantage for row in nest.rows if row.source != Source.WEBHOOK}
        for vantage in sorted(asked or {row.vantage for row in nest.rows}):
            scene = Scene(nest, vantage)
            found.append(Diagnosis(nest.address, nest.room, vantage, tuple(_causes(scene, priors))))
    return found


def diagnose_rows(rows: Iterable[Observation]) -> list[Diagnosis]:
    """The same of rows that are not in a store yet."""
    return diagnose(observations_of(rows))


def _causes(scene: Scene, priors: Priors) -> list[Found]:
    """The most deciding first; of each cause the surest."""
    best: dict[Cause, Found] = {}
    for each in _fitting(scene, priors):
        known = best.get(each.cause)
        if known is None or (each.blocks, each.confidence) > (known.blocks, known.confidence):
            best[each.cause] = each
    joined, others = best.get(Cause.JOINED), [each for each in best.values() if each.cause is not Cause.JOINED]
    if joined is not None and (scene.came_late or any(each.tells for each in others)):
        best[Cause.JOINED] = replace(joined, confidence=min(joined.confidence, JOINED_BESIDE))
    shut = any(not (window.healed or window.ended) for window in scene.windows)
    found = sorted(best.values(), key=lambda each: _rank(each, shut=shut))
    return found or [Found(Cause.UNDETERMINED, 0.5, ())]


def _rank(found: Found, *, shut: bool) -> tuple[int, float, int]:
    """What stood in the way first, then that it can be joined, then what is a fact beside it; each the surest first.
    Where the doors are shut at the end, a race that was over before comes after what shuts them."""
    in_the_way = found.blocks and found.confidence > JOINED_ALL_THE_SAME
    place = 2 if found.cause is Cause.JOINED else int(shut and found.healed) if in_the_way else 3
    return place, -found.confidence, _ORDER[found.cause]


JOINED_BESIDE = 0.85
"""That nothing was the matter is sure only where nothing else was, if only for a moment, and it was looked at from its
first moments on: what had healed before anybody asked shows nowhere."""

JOINED_ALL_THE_SAME = 0.5
_ORDER = {cause: place for place, cause in enumerate(Cause)}


def _fitting(scene: Scene, priors: Priors) -> Iterator[Found]:
    parts = (of_doors, of_livekit, of_relays, of_ends, of_clocks, of_layers)
    facts: Facts = {key: evidence for part in parts for key, evidence in part(scene)}
    seen: list[tuple[Facts, Window | None]] = [(facts, None)]
    seen += [(facts | dict(of_window(scene, window, priors.lived_s)), window) for window in scene.windows]
    shut = any(not window.healed for window in scene.windows)
    for known, window in seen:
        after = [HEALED] if window is not None and window.healed else [SHUT, ENDS]
        after = [SHUT] if window is not None and window.ended else after
        tables = ([DOORS, RELAYS] if shut else [DOORS, RELAYS, ENDS]) if window is None else after
        yield from (found for table in tables for case in table if (found := _fit(case, known, priors, window)))


def _fit(case: Case, facts: Facts, priors: Priors, window: Window | None) -> Found | None:
    """What a case tells where its facts are there."""
    if not all(each in facts for each in case.needs) or any(each in facts for each in case.unless):
        return None
    if Fact.CUT in facts and case.cause in UNREACHED:
        return None
    if callable(case.sure):
        assert window is not None
        sure = case.sure(priors, window)
    else:
        sure = case.sure
    blocks = case.blocks and (Fact.HEALED not in facts or Fact.WAITED in facts)
    evidence = dict.fromkeys(facts[each] for each in case.needs if facts[each].said)
    listed = Fact.ROOM_YES in facts or Fact.ROOM_NO in facts
    healed = window is not None and window.healed
    return Found(case.cause, sure, tuple(evidence), blocks=blocks, listed=listed, healed=healed)


# timelines of nests that were kept shut for good

_TOKENS: Final = ("api:join", "api:guest")
_DOOR_FAULTS: Final = frozenset(
    {
        Cause.API_JOIN_FAULT,
        Cause.BAD_TOKEN,
        Cause.WRONG_ROOM_TOKEN,
        Cause.ROOM_ID_MISMATCH,
        Cause.WRONG_DOOR,
        Cause.AUTH_CLOCK_SKEW,
        Cause.AUTH_REJECTED,
    }
)
"""What keeps the doors shut. A relay that dropped the event, or blocked media, say nothing of when they open."""


TELLING: Final = (
    "trace_id", "nest", "room", "source", "operation", "outcome", "failure", "reason", "detail",
)  # fmt: skip  # a list of words
"""The columns of observations that `doubted` reads."""

_TELLING_FAILURES: Final = (
    Failure.BAD_TOKEN, Failure.UNAUTHORISED, Failure.FORBIDDEN, Failure.WRONG_PATH, Failure.PROTOCOL, Failure.TLS,
    Failure.UNEXPECTED,
)  # fmt: skip  # a list of words
_TELLING_VERDICTS: Final = (Kind.BAD_TOKEN, Kind.UNAUTHORISED)


def with_standing(
    timelines: pd.DataFrame, observations: pd.DataFrame, elsewhere: Elsewhere | None = None
) -> pd.DataFrame:
    """The timelines with the column STANDING: the id of the cause of a standing fault of the nest as that vantage saw
    it, "" where there is none. `delays.joinable` and whatever is made of it leave such rows out, and
    `omissions.omitted` says so: no waiting helps there, and taken for nests that stay away they would move the never-
    share. Diagnosed are those only into which nobody was seen to get, and of which something may tell such a fault
    (`doubted`); what timelines tell by themselves (timeline/standing.py) counts, too.

    observations: of which the timelines were made, all columns, as Store.frame gives them; those of the nests that are
    doubted and those of none are enough. elsewhere: as `timelines` takes it.
    """
    about = nests_of(timelines)
    names = np.append(about.names, "")[about.unit].astype(str)
    asked = suspects(timelines)
    found: dict[tuple[str, str], str] = {}
    if asked.any() and len(wanted := _doubted(set(names[asked]) - {""}, observations)):
        of = nests_of(observations)
        mine = np.isin(np.append(of.names, "")[of.unit].astype(str), list(wanted))
        told = elsewhere_of(observations) if elsewhere is None else elsewhere
        for each in diagnose(observations[mine | (of.unit < 0)], elsewhere=told):
            shut = (one for one in each.causes if one.standing_fault and one.cause in _DOOR_FAULTS)
            if (fault := next(shut, None)) is not None:
                found[each.nest or each.room, each.vantage] = str(fault.cause)
    pairs = zip(names, timelines["vantage"].astype(str), strict=True)
    cause = np.array([found.get(pair, "") for pair in pairs], dtype=object)
    plain = np.isin(names, standing(timelines)["nest"].astype(str)) & (cause == "") & (names != "")
    cause = np.where(plain, str(Cause.API_JOIN_FAULT), cause)
    return timelines.assign(**{STANDING: pd.array(np.where(asked, cause, ""), dtype="str")})


def doubted(timelines: pd.DataFrame, observations: pd.DataFrame) -> set[str]:
    """What the rows of nests are called (trace, address and room) of which a diagnosis may tell what keeps their doors
    shut; columns TELLING, `reason` where it is at hand.

    Of nests into which nobody was seen to get most just stay away, and a diagnosis of each takes as long as all else.
    What keeps doors shut shows in a row: an /info that was active, an answer that is not the API's or not LiveKit's, a
    refusal, a token of no use, another name; each fact that a case of _DOOR_FAULTS needs rests on one of these.
    """
    asked = suspects(timelines)
    if not asked.any():
        return set()
    about = nests_of(timelines)
    names = set(np.append(about.names, "")[about.unit][asked]) - {""}
    wanted = _doubted(names, observations)
    if not wanted:
        return set()
    of = nests_of(observations)
    mine = observations[np.isin(np.append(of.names, "")[of.unit].astype(str), list(wanted))]
    return {str(text) for name in ("trace_id", "nest", "room") for text in mine[name].unique()} - {""}


def _doubted(names: set[str], observations: pd.DataFrame) -> set[str]:
    """Of the nests of these names (nests_of) those of which a row may tell what keeps their doors shut."""
    about = nests_of(observations)
    wanted = np.append(np.isin(about.names.astype(str), list(names)), False)[about.unit]
    rows, unit = observations[wanted], about.unit[wanted]
    nest, room = (about.texts(name)[wanted] for name in ("nest", "room"))
    told = _tells(rows, lambda row: str(nest[row].split(":", 2)[-1] or room[row]))
    return set(about.names[np.unique(unit[told])].astype(str))


def _tells(rows: pd.DataFrame, called: Callable[[int], str]) -> Flags:
    """Which rows may tell what keeps doors shut. called: what a row's nest is called, by its event."""
    source, operation, outcome = rows["source"], rows["operation"], rows["outcome"]
    api, shown = equals(source, Source.API), equals(outcome, Outcome.VISIBLE) | equals(outcome, Outcome.ACCEPTED)
    told = equals_any(rows["failure"], _TELLING_FAILURES)
    told |= api & equals(operation, Operation.INFO) & shown
    seats = equals_any(operation, (Operation.SIGNAL, Operation.MEDIA, Operation.STAY))
    seats &= ~shown & ~equals(outcome, Outcome.ABSENT) & rows["failure"].notna().to_numpy(bool)
    index = np.flatnonzero(seats) if "reason" in rows else np.zeros(0, dtype=np.int64)
    for row, reason in zip(index.tolist(), rows["reason"].iloc[index].astype("str") if len(index) else (), strict=True):
        seats[row] = reasons.OTHER_ROOM in reason or reasons.OTHER_TOKEN in reason
    told |= seats
    verdict = equals(source, Source.JOIN) & equals(operation, Operation.VERDICT)
    index = np.flatnonzero((api & shown | verdict) & ~told)
    for row, detail in zip(index.tolist(), rows["detail"].iloc[index], strict=True):
        facts = facts_of(detail)
        name = facts.get("room")
        other = "info" in facts or (isinstance(name, str) and name != called(row))
        told[row] = facts.get("verdict") in _TELLING_VERDICTS if verdict[row] else other
    return np.asarray(told, dtype=bool)


def suspects(timelines: pd.DataFrame) -> Flags:
    """Which rows are of nests that were asked for from their vantage, and that nobody there was seen to get into: no
    token was given, or LiveKit was asked with one and did not let anybody in."""
    layer = timelines["layer"].astype(str)
    seen = np.isfinite(timelines["upper_s"].to_numpy(np.float64, na_value=np.nan))
    token, seat = layer.isin(_TOKENS).to_numpy(bool), (layer == "livekit:signal").to_numpy(bool)
    pair = paired(nests_of(timelines).unit, codes_of(timelines["vantage"])[0])
    given, shut = set(pair[token & seen]), set(pair[seat & ~seen])
    asked = set(pair[token | seat])
    return np.isin(pair, list(asked - (given - shut)))
