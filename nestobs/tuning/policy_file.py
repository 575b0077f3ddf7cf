"""A policy as a file: what a client should do, how sure we are of it, and of what it was made.

    {"nestobs_policy": 1,     the format; a higher one was written by a newer nestobs and is refused
     "policy": {...},         Policy.as_dict()
     "intervals": {...},      tuned field -> [low, high], seconds; high null: no finite end
     "predicted": {...},      name -> field -> {"value", "lower", "upper", "sd", "n"}; null: not finite or not known
     "differences": {...},    of the policy less another at the same nests: that one's name -> field -> the same
     "provenance": {...},     window, n, whose nests, store digest, nestobs version; what was assumed
     "notes": [...]}          sentences for people

The text is ASCII, so that nothing in it acts on a terminal or depends on an encoding, and strict JSON. Only `policy`
must be there: a person can write one by hand. policy.schema.json describes the format; the reader is the stricter of
the two, for it also sees what a schema cannot: ascending ages, a key given twice, 60.0 where a whole number belongs.

A file may come from a stranger. Whatever it holds, reading it gives a PolicyFile within the bounds below or one
PolicyError; a PolicyFile that exists can be written and is read back equal.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, NoReturn, TypeGuard

from nestobs.join.policy import LONGEST_S, Policy, PolicyError, check_name, read_policy
from nestobs.observation.detail import finite

FORMAT: Final = 1
FILE_CHARACTERS: Final = 1_000_000
NOTES: Final = 100
NOTE_CHARACTERS: Final = 1_000
PREDICTED: Final = 50
"""The most names in `predicted`, and the most fields of one name."""

ARRIVALS: Final = 1_000
DEPLOYMENTS: Final = 50
DEPLOYMENT_CHARACTERS: Final = 300
"""A host's name has 253 at most, and a port."""

COUNT: Final = 1_000_000_000
DIGEST_CHARACTERS: Final = 200
INTERVALS: Final = ("message_threshold_s", "give_up_age_s")
FAILURES: Final = ("info", "token", "signal")
TALLY: Final = ("asked", "timed_out", "limited", "broken")
PRICES: Final = ("request_cost", "delay_cost", "lost_value", "never_cost")
LISTENER: Final = "listener_share"
"""A price that may be left out: 0."""
CELL: Final = ("value", "lower", "upper", "sd", "n")

_DAY: Final = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
_INSTANT: Final = re.compile(rf"{_DAY}T{_TIME}(Z|\+00:00)")

Cell = Mapping[str, float | int | None]
"""One estimate, by the names in CELL: value, ends of its interval, standard deviation, and of how many nests it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Of what a policy was made. Instants are ISO 8601 texts in UTC (`2026-01-31T12:00:00Z`), empty where unknown.

    n: nests in the window, n_censored of them never seen. store_digest: of the observations. nestobs: its version.
    arrivals_s: ages at which people were taken to ask, each as likely; none: unknown. round_trip_s: of a request, as it
    was taken. failures: kind of FAILURES -> counts by TALLY, of what joins asked how much failed and how; empty:
    unknown. What is predicted holds for these. left_out: cause of a standing fault (diagnosis.causes) -> nests that are
    not among the n for it.
    """

    window_start: str = ""
    window_end: str = ""
    n: int = 0
    n_censored: int = 0
    store_digest: str = ""
    nestobs: str = ""
    made_at: str = ""
    arrivals_s: tuple[float, ...] = ()
    round_trip_s: float = 0.0
    failures: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    prices: Mapping[str, float | None] = field(default_factory=dict)
    deployments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("window_start", "window_end", "made_at"):
            instant = getattr(self, name)
            if not isinstance(instant, str) or (instant and not _INSTANT.fullmatch(instant)):
                raise PolicyError(f"{name} is an instant in UTC such as 2026-01-31T12:00:00Z, or empty")
        for name in ("n", "n_censored"):
            _check_count(name, getattr(self, name))
        if self.n_censored > self.n:
            raise PolicyError("n_censored counts some of the n nests: it is at most n")
        check_name("store_digest", self.store_digest, DIGEST_CHARACTERS)
        check_name("nestobs", self.nestobs)
        ages = self.arrivals_s
        if not isinstance(ages, tuple | list) or len(ages) > ARRIVALS or not all(_is_seconds(age) for age in ages):
            raise PolicyError(f"arrivals_s is a list of at most {ARRIVALS} ages, seconds from 0 to {LONGEST_S:.0f}")
        if not _is_seconds(self.round_trip_s):
            raise PolicyError(f"round_trip_s is a number of seconds from 0 to {LONGEST_S:.0f}")
        object.__setattr__(self, "arrivals_s", tuple(ages))
        _known("failures", self.failures, FAILURES)
        for tally in self.failures.values():
            _known("a kind of failures", tally, TALLY, needs=TALLY)
            for name in TALLY:
                _check_count(name, tally[name])
            if sum(tally[name] for name in TALLY[1:]) > tally["asked"]:
                raise PolicyError("what failed is some of what was asked: timed_out, limited and broken are at most it")
        if not isinstance(self.left_out, Mapping) or len(self.left_out) > PREDICTED:
            raise PolicyError(f"left_out is an object of at most {PREDICTED} causes, each with how many nests")
        for cause, nests in self.left_out.items():
            check_name("a cause in left_out", cause)
            _check_count(f"left_out {cause}", nests)
        _known("prices", self.prices, (*PRICES, LISTENER), needs=PRICES if self.prices else ())
        if not all(_is_price(name, one) for name, one in self.prices.items()):
            none = "null for an infinite lost_value alone"
            raise PolicyError(f"prices are finite numbers from 0, {LISTENER} to 1, and {none}")
        self._check_deployments()

    def _check_deployments(self) -> None:
        if not isinstance(self.deployments, tuple | list) or len(self.deployments) > DEPLOYMENTS:
            raise PolicyError(f"deployments is a list of at most {DEPLOYMENTS} names")
        for name in self.deployments:
            check_name("a name in deployments", name, DEPLOYMENT_CHARACTERS)
        object.__setattr__(self, "deployments", tuple(self.deployments))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """What the file says. Raises PolicyError for what the file cannot hold.

    intervals: field of INTERVALS -> (low, high) in seconds, high None (or infinite, kept as None): no finite end.
    predicted: name -> field -> Cell; a number that is not finite is kept as None. differences: name of another policy
    -> field -> Cell of how this one differs from it, the same joiners under both; sd: between such pairs.
    """

    policy: Policy
    provenance: Provenance = field(default_factory=Provenance)
    intervals: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)
    predicted: Mapping[str, Mapping[str, Cell]] = field(default_factory=dict)
    differences: Mapping[str, Mapping[str, Cell]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _known("intervals", self.intervals, INTERVALS)
        _check_predicted(self.predicted)
        _check_predicted(self.differences)
        if not isinstance(self.notes, tuple | list) or len(self.notes) > NOTES:
            raise PolicyError(f"notes is a list of at most {NOTES} texts")
        if not all(isinstance(note, str) and len(note) <= NOTE_CHARACTERS for note in self.notes):
            raise PolicyError(f"each of the notes is a text of at most {NOTE_CHARACTERS} characters")
        intervals = {name: _interval(name, self.intervals[name]) for name in INTERVALS if name in self.intervals}
        object.__setattr__(self, "intervals", intervals)
        object.__setattr__(self, "predicted", _finite(self.predicted))
        object.__setattr__(self, "differences", _finite(self.differences))
        object.__setattr__(self, "notes", tuple(self.notes))


def dumps(file: PolicyFile) -> str:
    """The file's text: strict JSON for people to read, a row of a table a line, ending in a newline.

    Raises PolicyError where it would exceed FILE_CHARACTERS.
    """
    data = {
        "nestobs_policy": FORMAT,
        "policy": file.policy.as_dict(),
        "intervals": file.intervals,
        "predicted": file.predicted,
        "differences": file.differences,
        "provenance": asdict(file.provenance),
        "notes": file.notes,
    }
    text = _layout(data) + "\n"
    if len(text) > FILE_CHARACTERS:
        raise PolicyError(f"the policy file would exceed {FILE_CHARACTERS} characters: predict less, or note less")
    return text


def loads(text: str, what: str = "policy file") -> PolicyFile:
    """The file in `text`. Raises PolicyError: one sentence that begins with `what`: what is wrong, and what to do."""
    try:
        return _read(_decoded(text))
    except PolicyError as error:
        raise PolicyError(f"{what}: {error}") from None
    except RecursionError:
        raise PolicyError(f"{what}: it is nested too deep for a policy: give the file nestobs wrote") from None


def _read(data: object) -> PolicyFile:
    version = data.get("nestobs_policy") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or type(version) is not int or version < 1:
        raise PolicyError(f'it is no object with "nestobs_policy": {FORMAT}: give the file nestobs wrote')
    if version > FORMAT:
        raise PolicyError("it was written by a newer nestobs, in a format that this one does not read: upgrade")
    _known("the file", data, ("nestobs_policy", *(spec.name for spec in fields(PolicyFile))), needs=("policy",))
    parts = {name: value for name, value in data.items() if name not in ("nestobs_policy", "policy", "provenance")}
    provenance = data.get("provenance", {})
    _known("provenance", provenance, [spec.name for spec in fields(Provenance)])
    return PolicyFile(policy=read_policy(data["policy"]), provenance=Provenance(**provenance), **parts)


def _decoded(text: str) -> object:
    if len(text) > FILE_CHARACTERS:
        raise PolicyError(f"it exceeds {FILE_CHARACTERS} characters, as no policy does: give the file nestobs wrote")
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_float, parse_int=_int, object_pairs_hook=_unique)
    except ValueError as error:
        raise PolicyError(f"it is not JSON ({error}): give the file nestobs wrote") from None


def _refused(token: str) -> NoReturn:
    raise PolicyError(f"{token[:20]} is no number that a policy can hold: use a finite one, or null for no finite end")


def _float(token: str) -> float:
    value = float(token)
    return value if math.isfinite(value) else _refused(token)


def _int(token: str) -> int:
    return int(token) if len(token) <= 20 else _refused(token)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise PolicyError(f"{name[:40]!r} is given twice: keep one")
        found[name] = value
    return found


def _known(what: str, data: object, names: Iterable[str], needs: Iterable[str] = ()) -> None:
    """Raise PolicyError unless `data` is an object with no fields but `names`, and with all of `needs`."""
    if not isinstance(data, Mapping):
        raise PolicyError(f"{what} is an object")
    if unknown := sorted(set(data) - set(names)):
        raise PolicyError(f"{what} has no field {unknown[0][:40]!r}: remove it, or use the nestobs that wrote it")
    if missing := [name for name in needs if name not in data]:
        raise PolicyError(f"{what} lacks {missing[0]!r}: add it")


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value <= COUNT:
        raise PolicyError(f"{name} is a whole number from 0 to {COUNT}")


def _check_predicted(predicted: object) -> None:
    levels = [predicted, *(predicted.values() if isinstance(predicted, Mapping) else ())]
    for level in levels:
        if not isinstance(level, Mapping) or len(level) > PREDICTED:
            raise PolicyError(f"predicted holds at most {PREDICTED} names of at most {PREDICTED} fields each")
        for name in level:
            check_name("a name in predicted", name)
    for cell in (cell for level in levels[1:] for cell in level.values()):
        _known("what is predicted", cell, CELL, needs=CELL)
        _check_count("n", cell["n"])
        if not all(value is None or _is_number(value) for value in cell.values()):
            raise PolicyError("what is predicted has numbers or null for value, lower, upper and sd")


def _finite(predicted: Mapping[str, Mapping[str, Cell]]) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """As it is kept: what is not finite as None, a cell's parts in the order of CELL."""
    return {
        name: {
            part: {key: cell[key] if key == "n" else finite(cell[key]) for key in CELL} for part, cell in parts.items()
        }
        for name, parts in predicted.items()
    }


def _interval(name: str, ends: object) -> tuple[float, float | None]:
    """The ends as they are kept, checked."""
    if isinstance(ends, tuple | list) and len(ends) == 2:
        low, high = ends
        high = None if high == math.inf else high
        top = LONGEST_S if high is None else high
        if _is_number(low) and _is_number(top) and 0 <= low <= top <= LONGEST_S:
            return low, high
    raise PolicyError(f"the interval of {name} is [low, high], seconds from 0 to {LONGEST_S:.0f}, high null for no end")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_price(name: str, value: object) -> bool:
    if value is None:
        return name == "lost_value"
    return _is_number(value) and 0 <= value < math.inf and (name != LISTENER or value <= 1)


def _is_seconds(value: object) -> bool:
    return _is_number(value) and 0 <= value <= LONGEST_S


def _layout(value: object, margin: str = "") -> str:
    """JSON, indented; an array or object that holds nothing but numbers and null takes one line."""
    inner = f"{margin}  "
    inside = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(inside, list | tuple) or all(part is None or _is_number(part) for part in inside):
        return json.dumps(value, allow_nan=False)
    if isinstance(value, Mapping):
        lines = [f"{inner}{json.dumps(name)}: {_layout(part, inner)}" for name, part in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
    return "[\n" + ",\n".join(f"{inner}{_layout(part, inner)}" for part in inside) + f"\n{margin}]"
