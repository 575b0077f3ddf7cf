"""How a client joins, as a value: fallback, polls, give-up age, message threshold, budget.

Two ages are told apart. The *message threshold* is the age below which a 404 is called "still starting up"; the
*give-up age* is the age from which no further wait begins. Today's client has one constant, 30 s, for the first and
no polling at all.

A `Schedule` gives the gap to the next poll from the number of polls made and the nest's age. A policy is plain data:
it is written to JSON and read back equal, and both drivers of flow.py, the live one and the replay, run the same one.

A policy may come from a stranger's file, so every field is bounded: durations by LONGEST_S, counts by MOST, a table by
TABLE_ROWS, a name by NAME_CHARACTERS.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from operator import itemgetter
from statistics import NormalDist
from typing import Any, Final, Literal, Protocol

from nestobs.errors import UsageError, meant
from nestobs.observation.duration import read_duration
from nestobs.observation.text import percent

ScheduleKind = Literal["none", "fixed", "exponential", "full_jitter", "table"]
_KINDS: Final = ("none", "fixed", "exponential", "full_jitter", "table")

LONGEST_S: Final = 1e6
"""The longest duration and the greatest factor a policy may hold: more than eleven days, and exact in nanoseconds."""

MOST: Final = 10_000
"""The greatest count a policy may hold."""

TABLE_ROWS: Final = 1_000
NAME_CHARACTERS: Final = 100
WORDED: Final = 6
"""So many parts of a schedule people will read."""

_AGE: Final = itemgetter(0)
_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class PolicyError(UsageError):
    """A policy that contradicts itself or is not one."""


class Uniform(Protocol):
    """A source of uniform numbers in [0, 1): numpy's Generator and random.Random both fit."""

    def random(self) -> float:
        """The next number."""


MESSAGE_S: Final = 30.0
"""The age at which today's web client turns from "starting up" to "no longer available"."""

FAULT_AFTER_S: Final = 60.0
"""Where nothing was measured: for so long can /info say active and the room be late. A room is late while the API's
call to make it is under way (6 ms where it was seen), and no such call outlives what lies between: nginx
(`proxy_read_timeout`) and AWS load balancers (idle timeout) cut it after 60 s."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Gaps between polls, in seconds.

    none: no second poll. fixed: `interval_s`. exponential: min(cap_s, interval_s * factor**k) for the k-th gap from 0.
    full_jitter: uniform in [0, that) (Brooker 2015). table: rows (age_s, gap_s), ascending; the gap of the last row
    whose age is not above the nest's.
    """

    kind: ScheduleKind = "none"
    interval_s: float = 0.0
    factor: float = 2.0
    cap_s: float = 30.0
    table: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise PolicyError(f"schedule {str(self.kind)[:40]!r} is unknown: use one of {', '.join(_KINDS)}")
        for name in ("interval_s", "factor", "cap_s"):
            _number(name, getattr(self, name))
        if self.kind in ("fixed", "exponential", "full_jitter") and self.interval_s <= 0:
            raise PolicyError(f"a {self.kind} schedule needs interval_s above 0")
        self._check_table()

    def _check_table(self) -> None:
        least = 1 if self.kind == "table" else 0
        rows = self.table if least <= len(self.table) <= TABLE_ROWS else None
        for cell in (cell for row in rows or () for cell in row):
            _number("table", cell)
        ages = [row[0] for row in rows or () if len(row) == 2]
        if rows is None or len(ages) < len(rows) or ages != sorted(set(ages)) or any(gap <= 0 for _, gap in rows):
            raise PolicyError(
                f"a table needs {least} to {TABLE_ROWS} rows (age_s, gap_s), ages ascending, gaps above 0"
            )

    @property
    def words(self) -> str:
        """When it asks, for people: "at once; then every 1 s; from 2 s every 1.5 s", ages of the nest. A long table is
        told in at most WORDED parts, each with the gaps it spans."""
        if self.kind == "none":
            return "at once, and not again"
        if self.kind == "table":
            return f"at once; {_table_words(self.table)}"
        if self.kind == "fixed":
            return f"at once; then every {self.interval_s:g} s"
        grows = f"{self.interval_s:g} s, {self.factor:g} times as long after each, {self.cap_s:g} s at most"
        return f"at once; then after {grows}{', drawn from 0 to that' if self.kind == 'full_jitter' else ''}"

    def gap_s(self, polls: int, age_s: float, rng: Uniform) -> float | None:
        """Seconds from the answer of poll number `polls` (from 1) to the next; None: there is no next."""
        if self.kind == "none":
            return None
        if self.kind == "fixed":
            return self.interval_s
        if self.kind == "table":
            return gap_at(self.table, age_s)
        ceiling = min(self.cap_s, self.interval_s * growth(self.factor, polls - 1))
        return ceiling * rng.random() if self.kind == "full_jitter" else ceiling


def _table_words(table: Sequence[tuple[float, float]]) -> str:
    """The rows of a table, neighbours put together whose gaps differ by less than a factor, the least that will do."""
    parts: list[list[tuple[float, float]]] = []
    for factor in (1.0, 1.25, 1.5, 2.0, 4.0, math.inf):
        parts = []
        for row in table:
            gaps = [gap for _, gap in [*(parts[-1] if parts else ()), row]]
            if parts and max(gaps) <= factor * min(gaps):
                parts[-1].append(row)
            else:
                parts.append([row])
        if len(parts) <= WORDED:
            break
    said: list[str] = []
    for part in parts:
        least, most = min(gap for _, gap in part), max(gap for _, gap in part)
        every = f"every {least:g} s" if least == most else f"every {least:g} to {most:g} s"
        said.append(f"from {part[0][0]:g} s {every}" if said else f"then {every}")
    return "; ".join(said)


def gap_at(table: Sequence[tuple[float, float]], age_s: float) -> float:
    """The gap of the row of a table that holds at an age; before the first row's age, the first one's."""
    return table[max(0, bisect_right(table, age_s, key=_AGE) - 1)][1]


def growth(factor: float, power: int) -> float:
    """factor**power by repeated squaring, 1 for a power below 1, infinite where it overflows.

    Multiplications alone, in this order, so that any IEEE 754 language gets the same bits; the power functions of
    two libraries differ in the last one.
    """
    grown, square = 1.0, float(factor)
    while power > 0:
        if power % 2:
            grown *= square
        square *= square
        power //= 2
    return grown


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody before the page, who presses Retry where it is shown and is not there for ever. Judgements.

    reaction_s: from what the page says to the button, seconds, as half of them are faster; spread: standard deviation
    of its logarithm (it is lognormal). leaves: the share that goes away after a failure; leaves_gone: after one that is
    told as "no longer available". So (1 - leaves)**k are left after k failures. The page's two sentences take 3 s to
    read (13 words, 238 words a minute: Brysbaert 2019), and say to wait a moment.
    """

    reaction_s: float = 5.0
    spread: float = 0.5
    leaves: float = 0.2
    leaves_gone: float = 0.5

    def __post_init__(self) -> None:
        for name, most in (("reaction_s", LONGEST_S), ("spread", 3.0), ("leaves", 1.0), ("leaves_gone", 1.0)):
            _number(name, value := getattr(self, name))
            if value > most:
                raise PolicyError(f"{name} of a person is a number from 0 to {most:g}")

    def drawn_s(self, rng: Uniform) -> float:
        """Seconds until the next press."""
        chance = min(max(rng.random(), 1e-12), 1.0 - 1e-12)
        return self.reaction_s * math.exp(self.spread * NormalDist().inv_cdf(chance))

    @property
    def words(self) -> str:
        """Who that is, for people."""
        return (
            f"a person presses Retry where the page shows it, half of them within {self.reaction_s:g} s;"
            f' {percent(self.leaves)} leave after each failure, {percent(self.leaves_gone)} after "no longer available"'
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All that decides a join. Ages and durations in seconds.

    max_requests: API requests in all, the budget of one join. horizon_s: no wait ends and no round begins later than
    this after arrival; a round under way is finished.
    jitter: each gap is multiplied by a uniform factor in [1 - jitter, 1 + jitter). error_retries: how many times in
    all a 5xx, a timeout or a 429 is tried again. load_cutoff_s: the nest is first read from one relay, cut off after
    so long (the released client); None: it is known or not, no matter.

    ask_info, info_from: whether /info is asked, and from which round on. fault_after_s: joins that have answered 404
    for so long since /info was first seen active are called the API's fault; None: what /info says is not used, as in
    the web client. fault_listed_s: the same where a witness has seen the room, counted from when both were seen; None:
    not measured, and judged by the pace of /info (decision.py).

    fallback_age_s, fallback_tries: a 404 to somebody signed in leads to the guest join from this age of the nest on (by
    the client's reckoning) and from this authenticated try on; before that, to the next round, unless there is none.
    upgrades: so many times at most, whoever was seated as a guest though signed in asks on for a seat of their own, at
    the next polls.

    person: who presses Retry when the client has stopped, which begins the join anew (flow.py); None: nobody. It is no
    part of what a client does.
    """

    name: str
    ask_info: bool = True
    fallback: tuple[int, ...] = (404,)
    schedule: Schedule = field(default_factory=Schedule)
    jitter: float = 0.0
    message_threshold_s: float = MESSAGE_S
    give_up_age_s: float = 30.0
    horizon_s: float = 60.0
    max_requests: int = 60
    error_retries: int = 0
    error_gap_s: float = 1.0
    request_timeout_s: float = 10.0
    connect_attempts: int = 1
    connect_timeout_s: float = 10.0
    stay_s: float = 2.0
    load_cutoff_s: float | None = None
    wording: Literal["guide", "released"] = "guide"
    info_from: int = 1
    fault_after_s: float | None = None
    fault_listed_s: float | None = None
    person: Person | None = None
    fallback_age_s: float = 0.0
    fallback_tries: int = 1
    upgrades: int = 0

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if not isinstance(self.ask_info, bool):
            raise PolicyError("ask_info is true or false")
        for spec in fields(self):
            value = getattr(self, spec.name)
            if spec.name.endswith("_s") and not (spec.name in _OR_NONE and value is None):
                _number(spec.name, value)
        _number("jitter", self.jitter)
        if not self.jitter < 1:
            raise PolicyError("jitter is a share of the gap: 0 <= jitter < 1")
        for name, least in _COUNTS.items():
            count = getattr(self, name)
            if not isinstance(count, int) or isinstance(count, bool) or not least <= count <= MOST:
                raise PolicyError(f"{name} is a whole number from {least} to {MOST}")
        if self.fallback not in ((), (404,)):
            raise PolicyError("only a 404 falls back to the guest join: 401 and 403 are answers about who asks")
        if self.wording not in ("guide", "released"):
            raise PolicyError("wording is guide or released")

    @property
    def words(self) -> str:
        """When it asks, as whom, and when it stops, for people; ages of the nest."""
        return "; ".join(filter(None, (self._polls_words, self.seat_words)))

    @property
    def seat_words(self) -> str:
        """When somebody signed in takes a guest's seat, and what of that, for people; "" for today's rule."""
        tries = f"from try {self.fallback_tries} on" if self.fallback_tries > 1 else ""
        age = f"from {self.fallback_age_s:g} s on" if self.fallback_age_s else ""
        said = [f"as a guest {' and '.join(filter(None, (age, tries)))}, or where it stops"] if age or tries else []
        many = "once more" if self.upgrades == 1 else f"up to {self.upgrades} times more"
        said += [f"seated as a guest it asks {many} for a seat of its own"] if self.upgrades else []
        return "; ".join(said) if 404 in self.fallback else ""

    @property
    def _polls_words(self) -> str:
        each = f", each gap up to {percent(self.jitter)} shorter or longer" if self.jitter else ""
        if self.schedule.kind == "none":
            return self.schedule.words if self.person is None else f"at once; {self.person.words}"
        return f"{self.schedule.words}{each}; stops at {self.give_up_age_s:g} s"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data that `read_policy` turns back into an equal policy. Of SEATS only what is not as today's: so
        every nestobs reads a policy without them."""
        return {name: value for name, value in asdict(self).items() if name not in SEATS or value != SEATS[name]}


_OR_NONE: Final = ("load_cutoff_s", "fault_after_s", "fault_listed_s")
_COUNTS: Final = {
    "max_requests": 3,
    "connect_attempts": 1,
    "error_retries": 0,
    "info_from": 1,
    "fallback_tries": 1,
    "upgrades": 0,
}
"""Whole numbers, and the least of each."""

SEATS: Final[Mapping[str, float]] = {"fallback_age_s": 0.0, "fallback_tries": 1, "upgrades": 0}
"""What decides between a guest's seat and one's own, and its values today: guest at once, and guest it stays."""


def check_name(what: str, name: object, characters: int = NAME_CHARACTERS) -> None:
    """Raise PolicyError unless this is a text of at most so many characters that pages and terminals show as it is."""
    if not isinstance(name, str) or len(name) > characters or _UNSEEN.search(name):
        raise PolicyError(f"{what} is a text of at most {characters} characters, none of them a control character")


def _number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_S:
        raise PolicyError(f"{name} is a number from 0 to {LONGEST_S:.0f}, not a negative or infinite one or a text")


def read_policy(data: Mapping[str, Any]) -> Policy:
    """The policy in decoded JSON. Raises PolicyError that names what is unknown or wrong."""
    _known("a policy", data, Policy)
    schedule = data.get("schedule", {})
    _known("a schedule", schedule, Schedule)
    person = data.get("person")
    if person is not None:
        _known("a person", person, Person)
    fallback = data.get("fallback", (404,))
    if not isinstance(fallback, list | tuple) or not all(type(status) is int for status in fallback):
        raise PolicyError("fallback is a list of HTTP statuses, as [404]")
    if "name" not in data:
        raise PolicyError("a policy has a name: add one")
    made = Schedule(**{**schedule, "table": _table(schedule.get("table", ()))})
    who = None if person is None else Person(**person)
    return Policy(**{**data, "schedule": made, "fallback": tuple(fallback), "person": who})


def _known(what: str, data: object, kind: type[Policy | Schedule | Person]) -> None:
    if not isinstance(data, Mapping):
        raise PolicyError(f"{what} is an object")
    if unknown := sorted(set(data) - {spec.name for spec in fields(kind)}):
        raise PolicyError(f"{what} has no field {unknown[0][:40]!r}: remove it, or use the nestobs that wrote it")


def _table(rows: object) -> tuple[tuple[float, float], ...]:
    try:
        return tuple((age, gap) for age, gap in rows)  # type: ignore[attr-defined]  # whatever it is, it is refused here
    except (TypeError, ValueError):
        raise PolicyError("table holds rows of two numbers: (age_s, gap_s)") from None


GUIDE: Final = Policy(name="guide")
"""The web client as its guide describes it: info, authenticated, guest on 404; 30 s message; nothing by itself."""

RELEASED: Final = Policy(name="released", load_cutoff_s=1.5, wording="released")
"""The web client as released: one relay read once within 1.5 s, and a message rule that misses the race's own words."""

MANUAL_RETRY: Final = Policy(name="manual_retry", person=Person(), horizon_s=45.0, max_requests=100)
"""`guide`, and a person before it. Nobody looks at the page for longer than 45 s, nor gets more than the API gives."""


def fixed(seconds: float, *, give_up_age_s: float = 30.0) -> Policy:
    """Poll every `seconds` until `give_up_age_s`."""
    return _polling(f"fixed({seconds:g})", Schedule("fixed", seconds), give_up_age_s)


def exponential(base_s: float = 1.0, *, cap_s: float = 30.0, give_up_age_s: float = 60.0) -> Policy:
    """Poll with gaps that double from `base_s` to at most `cap_s`."""
    return _polling(f"exponential({base_s:g})", Schedule("exponential", base_s, cap_s=cap_s), give_up_age_s)


def full_jitter(base_s: float = 1.0, *, cap_s: float = 30.0, give_up_age_s: float = 60.0) -> Policy:
    """As `exponential`, each gap drawn uniformly from nothing to the whole."""
    return _polling(f"full_jitter({base_s:g})", Schedule("full_jitter", base_s, cap_s=cap_s), give_up_age_s)


def _polling(name: str, schedule: Schedule, give_up_age_s: float) -> Policy:
    return Policy(
        name=name,
        schedule=schedule,
        give_up_age_s=give_up_age_s,
        horizon_s=give_up_age_s + 30.0,
        error_retries=5,
        connect_attempts=3,
        fault_after_s=FAULT_AFTER_S,
    )


def standard_policies() -> dict[str, Policy]:
    """The named baselines, by name."""
    found = [GUIDE, RELEASED, MANUAL_RETRY, fixed(1), fixed(2), fixed(5), exponential(), full_jitter()]
    return {policy.name: policy for policy in found}


def named_policy(text: str) -> Policy:
    """The policy of a name such as `guide`, `fixed(2)` or `full_jitter(500ms)`. Raises PolicyError."""
    known = standard_policies()
    if text in known:
        return known[text]
    name, _, rest = text.partition("(")
    makers: dict[str, Callable[[float], Policy]] = {
        "fixed": fixed,
        "exponential": exponential,
        "full_jitter": full_jitter,
    }
    try:
        if name in makers and (text == name or text.endswith(")")):
            return makers[name](read_duration(rest.removesuffix(")")) if rest else 1.0)
    except UsageError as error:
        raise PolicyError(f"policy {text[:40]!r}: {error}") from None
    near = meant(text, [*known, *makers])
    raise PolicyError(f"policy {text[:40]!r} is unknown{near}: use one of {', '.join(known)}, or fixed(DURATION)")
