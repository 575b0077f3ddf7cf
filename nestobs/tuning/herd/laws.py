"""When joiners come, when a nest can be joined, how many share an address, and what an API allows each: as laws.

Ages are seconds since the nest was made. People write them so (durations as in observation/duration.py):

    arrivals   uniform(30s)  uniform(5s, 60s)  burst(2s)  decay(60s)  decay(5s, 60s)
               evenly over ages; all at one age; from an age on ever fewer, exponentially, after so long on average
    joinable   5s  never  lognormal(4s, 0.9)  lognormal(4s, 0.9, 8%)
               at an age; at none; half of them by a median, spread (of the logarithm), share that never can be
    behind     1  20  1:60%,20:30%,1000:10%
               people per address; shares are of people
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import special

from nestobs.errors import UsageError
from nestobs.observation.arrays import Floats
from nestobs.observation.duration import duration_words, read_duration
from nestobs.observation.text import percent

LONGEST_S: Final = 86_400.0
"""A herd is of a day at most."""

MOST_BEHIND: Final = 100_000
MOST_KINDS: Final = 20

_CALL: Final = re.compile(r"([a-z]+)\(([^()]*)\)")
_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%")
_ARRIVALS: Final = "write uniform(30s), uniform(5s, 60s), burst(2s), decay(60s) or decay(5s, 60s), of a day at most"
_JOINABLE: Final = "write 5s, never, lognormal(4s, 0.9) or lognormal(4s, 0.9, 8%)"
_BEHIND: Final = f"write 20, or 1:60%,20:40%: people (at most {MOST_BEHIND}) and their share, 100 % in all"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """At which ages joiners come. uniform: evenly from `from_s` to `span_s`; burst: all at `from_s`; decay: from
    `from_s` on, `span_s` later on average, exponentially; ages: any of `ages`, as likely as any other."""

    kind: Literal["uniform", "burst", "decay", "ages"]
    from_s: float = 0.0
    span_s: float = 0.0
    ages: tuple[float, ...] = ()

    @property
    def words(self) -> str:
        """When they come, for people."""
        if self.kind == "ages":
            return f"at one of {len(self.ages)} ages given, from {min(self.ages):g} s to {max(self.ages):g} s"
        begin, end = duration_words(self.from_s), duration_words(self.span_s)
        if self.kind == "burst":
            return f"all at {begin}"
        return f"evenly from {begin} to {end}" if self.kind == "uniform" else f"from {begin} on, {end} later on average"

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Ages of n joiners, seconds, none above LONGEST_S."""
        if self.kind == "ages":
            return np.asarray(rng.choice(np.array(self.ages), n))
        if self.kind == "burst":
            return np.full(n, self.from_s)
        if self.kind == "uniform":
            return self.from_s + (self.span_s - self.from_s) * rng.random(n)
        return np.minimum(self.from_s + self.span_s * rng.standard_exponential(n), LONGEST_S)


def arrivals_of(text: str) -> Arrivals:
    """What `text` says of arrivals. Raises UsageError."""
    kind, parts = _call(text)
    try:
        ages = [read_duration(part, zero=True) for part in parts]
    except UsageError as error:
        raise UsageError(f"arrivals {text[:40]!r}: {error}") from None
    within = all(age <= LONGEST_S for age in ages)
    if kind == "burst" and len(ages) == 1 and within:
        return Arrivals("burst", ages[0])
    begin, end = (0.0, *ages) if len(ages) == 1 else ages if len(ages) == 2 else (0.0, 0.0)
    if kind == "uniform" and begin < end and within:
        return Arrivals("uniform", begin, end)
    if kind == "decay" and end > 0 and within:
        return Arrivals("decay", begin, end)
    raise UsageError(f"arrivals {text[:40]!r} are no law: {_ARRIVALS}")


def arrivals_among(ages: Floats | list[float]) -> Arrivals:
    """Those of a list of ages, seconds. Raises UsageError for none, or one outside 0 to LONGEST_S."""
    given = tuple(float(age) for age in ages)
    if not given or not all(0.0 <= age <= LONGEST_S for age in given):
        raise UsageError(f"ages of arrival are from 0 to {duration_words(LONGEST_S)}, at least one")
    return Arrivals("ages", ages=given)


@dataclass(frozen=True, slots=True)
class Joinable:
    """From which age on a nest can be joined: the age that a share of nests does not exceed, inf beyond all that come.

    words: which law that is, for people. chance: whether it differs from nest to nest.
    """

    words: str
    quantile: Callable[[Floats], Floats]
    chance: bool

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Ages of n nests, seconds; inf: never."""
        return np.asarray(self.quantile(rng.random(n)), dtype=np.float64)


def joinable_at(age_s: float) -> Joinable:
    """All from one age on; inf: never."""
    return Joinable("never" if math.isinf(age_s) else f"from {age_s:g} s on", _Constant(age_s), chance=False)


def lognormal(median_s: float, spread: float, never: float = 0.0) -> Joinable:
    """Of those that come, half by the median, normal on log time."""
    said = f"lognormal, half by {median_s:g} s, spread {spread:g}, {percent(never)} never"
    return Joinable(said, _Lognormal(median_s, spread, never), chance=True)


@dataclass(frozen=True, slots=True)
class _Constant:
    age_s: float

    def __call__(self, p: Floats) -> Floats:
        return np.full(p.shape, self.age_s)


@dataclass(frozen=True, slots=True)
class _Lognormal:
    median_s: float
    spread: float
    never: float

    def __call__(self, p: Floats) -> Floats:
        comes = p < 1.0 - self.never
        part = np.where(comes, p, 0.5) / (1.0 - self.never)
        return np.where(comes, self.median_s * np.exp(self.spread * special.ndtri(part)), np.inf)


def joinable_of(text: str) -> Joinable:
    """What `text` says of when nests can be joined. Raises UsageError."""
    if text.strip() == "never":
        return joinable_at(math.inf)
    kind, parts = _call(text)
    try:
        if not kind:
            return joinable_at(read_duration(text, zero=True))
        if kind == "lognormal" and len(parts) in (2, 3):
            spread, never = float(parts[1]), _share(parts[2]) if len(parts) == 3 else 0.0
            if 0.0 < spread <= 3.0 and never is not None and never < 1.0:
                return lognormal(read_duration(parts[0]), spread, never)
    except ValueError:
        pass
    except UsageError as error:
        raise UsageError(f"joinable {text[:40]!r}: {error}; {_JOINABLE}") from None
    raise UsageError(f"joinable {text[:40]!r} is no law: {_JOINABLE}")


@dataclass(frozen=True, slots=True)
class Behind:
    """So many people share an address, and which share of all people does."""

    people: int
    share: float = 1.0


def behind_of(text: str) -> tuple[Behind, ...]:
    """What `text` says of people per address, fewest first. Raises UsageError."""
    found = []
    for part in text.split(",")[: MOST_KINDS + 1]:
        people, _, said = part.partition(":")
        share = _share(said) if said else 1.0
        if share is None or not people.strip().isascii() or not people.strip().isdigit() or len(people) > 9:
            raise UsageError(f"people per address {text[:40]!r}: {_BEHIND}")
        found.append(Behind(int(people), share))
    total = sum(each.share for each in found)
    if not all(1 <= each.people <= MOST_BEHIND for each in found) or abs(total - 1.0) > 1e-6 or len(found) > MOST_KINDS:
        raise UsageError(f"people per address {text[:40]!r}: {_BEHIND}")
    return tuple(sorted((each for each in found if each.share > 0), key=lambda each: each.people))


@dataclass(frozen=True, slots=True)
class Limit:
    """What an API lets one address do: `requests` in a window of `window_s` seconds, which begins with its first one
    and is followed by another; a request more is answered 429, and counts. retry_after: whether that says for how long
    (whole seconds, rounded up)."""

    requests: int = 100
    window_s: float = 900.0
    retry_after: bool = True

    def __post_init__(self) -> None:
        if self.requests < 1 or not 0.001 <= self.window_s <= 1e6:
            raise UsageError("a limit is a request at least, in a window of 1 ms to 1e6 s")


def _call(text: str) -> tuple[str, list[str]]:
    """The name and the parts of `name(part, part)`; no name where it is none."""
    match = _CALL.fullmatch(text.strip())
    return ("", []) if match is None else (match[1], [part.strip() for part in match[2].split(",")])


def _share(text: str) -> float | None:
    """From 0 to 1, of a text such as 8% or 0.08."""
    match = _SHARE.fullmatch(text.strip())
    try:
        share = float(match[1]) / 100.0 if match else float(text)
    except ValueError:
        return None
    return share if 0.0 <= share <= 1.0 else None
