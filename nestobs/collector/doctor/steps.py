"""A step as it is told: what was asked, what was answered, what should have been, and by which requests that is known.

The words are an operator's, made to be pasted into a bug report: they hold no key, token or address of anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from nestobs.diagnosis import RULES, Cause, Evidence
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Source

State: TypeAlias = Literal["good", "bad", "note", "unsaid", "skipped"]

ASKED: Final[Mapping[str, str]] = {
    Operation.HEALTH: "GET /health",
    Operation.CREATE: "PUT / (NIP-98)",
    Operation.INFO: "GET /{room}/info",
    Operation.READ_BACK: "GET /{room}/info",
    Operation.JOIN: "GET /{room} (NIP-98)",
    Operation.GUEST: "GET /{room}/guest",
    Operation.RESTART: "POST /{room}/restart (NIP-98, the host's key)",
    Operation.DELETE: "DELETE /{room} (NIP-98, the host's key)",
}

NO_AWAIT: Final = "a release of the Nests API (Node) that does not await its token: a promise is `{}` in JSON"

TRANSIENT: Final = frozenset({Failure.TIMEOUT, Failure.RESET, Failure.CLOSED, Failure.SERVER_ERROR})
"""What may be otherwise a moment later."""

LEAVES_ROOM: Final = "room_left_behind"
LEAVES_RECORD: Final = "record_left_behind"
LEAVES_EVENT: Final = "event_left_behind"
"""Faults that no join shows, and so no cause of a join's end: what DELETE and withdrawing leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step and what came of it. state: good; bad, a standing fault; note, nothing broken and something to know;
    unsaid, where it cannot be said; skipped, not taken. cause: an id of `diagnosis.Cause` or one of the LEAVES_ above,
    "" where nothing is the matter. or_else: what else it may be. The other texts are "" where there is no fault."""

    name: str
    state: State
    said: str
    cause: str = ""
    or_else: str = ""
    asked: str = ""
    answered: str = ""
    should: str = ""
    looks_like: str = ""
    evidence: tuple[Evidence, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON data; of a good step no more than its name, its state and what was said."""
        said = {"name": self.name, "state": self.state, "said": self.said}
        texts = {
            name: getattr(self, name) for name in ("cause", "or_else", "asked", "answered", "should", "looks_like")
        }
        seen = [{"said": each.said, "rows": list(each.rows)} for each in self.evidence]
        return said | {name: text for name, text in texts.items() if text} | ({"evidence": seen} if seen else {})

    def is_told(self) -> bool:
        """Whether there is something to report."""
        return self.state in ("bad", "unsaid") and bool(self.asked)

    def advice(self) -> str:
        """What the operator may do, as the cause's rule has it; "" where there is none."""
        return RULES[Cause(self.cause)].operator if self.cause in set(Cause) else ""

    def report(self) -> list[str]:
        """The lines of a bug report."""
        fault = self.cause + (f", or else {self.or_else}" if self.or_else else "")
        parts = {"cause": fault, "asked": self.asked, "answered": self.answered, "should be": self.should}
        parts |= {"looks like": self.looks_like, "to do": self.advice()}
        lines = [f"      {name:<10} {text}" for name, text in parts.items() if text]
        return lines + [f"      {'seen' if not n else '':<10} {each.said}" for n, each in enumerate(self.evidence)]


@dataclass(frozen=True, slots=True)
class Log:
    """The rows of one run by which it can be told: requests to the API are numbered as they were sent. origin: when
    the PUT left, from which ages count, ns UTC; 0 where there was none."""

    rows: Sequence[Observation]
    origin: int
    _numbers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        asked = sorted(filter(was_asked, self.rows), key=lambda row: row.sent_at)
        object.__setattr__(self, "_numbers", {row.observation_id: n for n, row in enumerate(asked, 1)})

    def requests(self) -> int:
        """How many requests went to the API."""
        return len(self._numbers)

    def age_s(self, row: Observation) -> float:
        """Seconds from the PUT to the answer."""
        return ((row.received_at or row.sent_at) - self.origin) / SECOND_NS

    def cite(self, rows: Iterable[Observation]) -> tuple[Evidence, ...]:
        """These rows as evidence, one after the other; the same answers in a run are one, with how many there were."""
        groups: list[list[Observation]] = []
        for row in rows:
            same = groups and self._what(groups[-1][-1]) == self._what(row)
            groups[-1].append(row) if same else groups.append([row])
        return tuple(Evidence(self._words(group), tuple(row.observation_id for row in group)) for group in groups)

    def _what(self, row: Observation) -> tuple[str, ...]:
        return (row.source, row.operation, row.target, answer(row))

    def _words(self, group: Sequence[Observation]) -> str:
        row, last = group[0], group[-1]
        ages = f"at {self.age_s(row):.1f} s" + (f" to {self.age_s(last):.1f} s" if len(group) > 1 else "")
        numbers = [n for each in group if (n := self._numbers.get(each.observation_id))]
        which = f"request{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} " if numbers else ""
        return f"{which}{ages}: {_what_was_asked(row)}: {answer(row)}"


def was_asked(row: Observation) -> bool:
    """Whether a row is a request that went to the API."""
    return row.source is Source.API and row.failure not in (Failure.INTENT, Failure.BUDGET, Failure.SKIPPED)


def answer(row: Observation) -> str:
    """What was answered, in a few words."""
    if row.source is Source.API:
        status = "no answer" if row.status is None else f"HTTP {row.status}"
        if row.reason.startswith(status):
            return row.reason
        return f"{status}, {row.reason}" if row.reason else status
    found = {Outcome.VISIBLE: "shown", Outcome.ACCEPTED: "taken"}.get(row.outcome, str(row.outcome))
    return f"{found}, {row.reason}" if row.reason else found


def failed(name: str, row: Observation, rows: Sequence[Observation], log: Log, should: str) -> Step:
    """The step of an API's answer that is neither what was asked for nor its own "no". rows: all of this step."""
    sure, cause = _cause(row, rows)
    return Step(
        name=name,
        state="bad" if sure else "unsaid",
        said=answer(row) + ("" if sure else ": this says nothing of the room"),
        cause=cause,
        asked=ASKED[row.operation],
        answered=answer(row),
        should=should,
        looks_like=NO_AWAIT if cause == Cause.BAD_TOKEN and "an object" in row.reason else "",
        evidence=log.cite(rows),
    )


def _cause(row: Observation, rows: Sequence[Observation]) -> tuple[bool, str]:
    """Whether an answer proves a fault, and its cause. One timeout or 5xx proves none, a second one does."""
    if row.outcome is Outcome.PROBE_ERROR:
        return False, Cause.RATE_LIMITED if row.failure is Failure.BUDGET else Cause.OBSERVER_FAULT
    if row.failure is Failure.RATE_LIMITED:
        return False, Cause.RATE_LIMITED
    if row.failure is Failure.UNAUTHORISED:
        return True, Cause.AUTH_CLOCK_SKEW if "our clock is" in row.reason else Cause.AUTH_REJECTED
    if row.failure is Failure.UNREACHABLE and row.failure_layer is FailureLayer.SIGNAL:
        return True, Cause.LIVEKIT_DOWN
    if row.failure is Failure.UNEXPECTED and row.failure_layer is not FailureLayer.HTTP:
        return True, Cause.UNDETERMINED
    often = len([each for each in rows if each.failure in TRANSIENT]) > 1
    return row.failure not in TRANSIENT or often, _CAUSES.get(row.failure or Failure.INTERNAL, Cause.API_DOWN)


_CAUSES: Final[Mapping[Failure, Cause]] = {
    Failure.FORBIDDEN: Cause.FORBIDDEN,
    Failure.BAD_TOKEN: Cause.BAD_TOKEN,
    Failure.CACHED: Cause.NEGATIVE_CACHE,
    Failure.WRONG_PATH: Cause.WRONG_DOOR,
    Failure.PROTOCOL: Cause.WRONG_DOOR,
    Failure.UNEXPECTED: Cause.WRONG_DOOR,
    Failure.NOT_FOUND: Cause.UNDETERMINED,
}


def _what_was_asked(row: Observation) -> str:
    if row.source is Source.API:
        return ASKED.get(row.operation, str(row.operation))
    if row.source is Source.RELAY:
        return f"{row.operation} at {row.target}"
    told = {Operation.SIGNAL: "a visit by signalling", Operation.DELETE: "DeleteRoom"}
    return f"LiveKit, {told.get(row.operation, 'ListRooms')}"
