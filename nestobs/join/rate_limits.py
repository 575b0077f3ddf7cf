"""What an answer says of a server's rate limits, in whichever of the ways there are.

    RateLimit-Policy: 100;w=900, 10;w=1               RateLimit-Limit, -Remaining, -Reset  (IETF drafts 3 to 6)
    RateLimit: limit=100, remaining=5, reset=600                                           (draft 7)
    RateLimit-Policy: "day";q=1000;w=86400            RateLimit: "day";r=5;t=600           (draft 8 and later)
    X-RateLimit-Limit: 100                            X-Rate-Limit-..., Rate-Limit-...     (before and beside them)
    X-RateLimit-Limit-Minute: 30, X-RateLimit-Limit-Requests: 100                          (a window in the name)

A reset is a delay in seconds, a duration (`1m30s`), a date, or an epoch in seconds, milliseconds or finer; what names
an instant is read against the answer's own Date, so that our clock does not matter. What cannot be read is left out,
and so is what is beyond any limit that an operator sets (`MOST_REQUESTS`, `LONGEST_WINDOW_S`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from nestobs.errors import UsageError
from nestobs.join.fields import Member, instant, members, number
from nestobs.observation.duration import SECOND_NS, read_duration

MOST_REQUESTS: Final = 1_000_000
LONGEST_WINDOW_S: Final = 31 * 86_400.0
LONGEST_WAIT_S: Final = 3_600.0
"""No longer wait is believed, unless the server's own window is longer."""

_PREFIXES: Final = ("ratelimit", "x-ratelimit", "x-rate-limit", "rate-limit")
_WINDOWS_S: Final = {
    "": None,
    "-requests": None,
    "-second": 1.0,
    "-minute": 60.0,
    "-hour": 3_600.0,
    "-day": 86_400.0,
    "-month": 30 * 86_400.0,
}
_EPOCH_FROM: Final = 1e9
"""A greater reset is no delay (31 years), but an epoch."""

_PAST_S: Final = 86_400.0
"""An epoch longer ago is none, but an absurd delay, bounded where it is used."""

_FINEST_EPOCH: Final = 1e11
"""A greater epoch is in milliseconds, or finer."""


@dataclass(frozen=True, slots=True)
class Quota:
    """`limit` requests in `window_s` seconds. name: "" where it has none; window_s: None where it is not said."""

    limit: int
    window_s: float | None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Remaining:
    """So many requests are left until `reset_s` seconds from now. quota: of which; None where that is not said."""

    requests: int
    reset_s: float | None
    quota: Quota | None


@dataclass(frozen=True, slots=True)
class Said:
    """All that one answer says of limits."""

    quotas: tuple[Quota, ...]
    remaining: tuple[Remaining, ...]


def read_limits(headers: Mapping[str, str], now: int | None) -> Said:
    """The quotas and what is left of them. now: ns UTC, for an instant in an answer without Date; None: left out.

    headers: by lower-case name, several lines of one name joined by commas.
    """
    date = instant(headers.get("date")) or now
    quotas: list[Quota] = []
    remaining: list[Remaining] = []
    for prefix in _PREFIXES:
        policies = _quotas(headers.get(f"{prefix}-policy"))
        quotas += policies
        for suffix, window_s in _WINDOWS_S.items():
            limits = _quotas(headers.get(f"{prefix}-limit{suffix}"), window_s)
            quotas += limits
            left = [number(each.value) for each in members(headers.get(f"{prefix}-remaining{suffix}"))]
            if counts := [count for count in left if count is not None]:
                reset_s = max(_resets_s(headers, f"{prefix}-reset{suffix}", date), default=None)
                quota = _whose(limits, [*policies, *limits], reset_s)
                if quota or reset_s is not None:  # a count of what, until when, must be said
                    remaining.append(_remaining(min(counts), reset_s, quota))
    remaining += _combined(members(headers.get("ratelimit")), quotas, date)
    return Said(tuple(dict.fromkeys(quotas)), tuple(remaining))


def pause_s(status: int | None, headers: Mapping[str, str], now: int | None = None) -> float | None:
    """Seconds that the server wants to be left alone: of a 429 as `retry_after_s`, of a 503 by Retry-After alone."""
    if status == 429 or (status == 503 and _retry_after(headers, now)):
        return retry_after_s(headers, now)
    return None


def retry_after_s(headers: Mapping[str, str], now: int | None = None) -> float | None:
    """Seconds to wait, by Retry-After (RFC 9110, 10.2.3) or else by the latest reset of what is spent; None if neither.

    At most LONGEST_WAIT_S, or the server's longest window where that is longer.
    """
    said = read_limits(headers, now)
    waits = _retry_after(headers, now)
    if not waits:
        waits = [each.reset_s for each in said.remaining if each.requests == 0 and each.reset_s is not None]
    if not waits:
        date = instant(headers.get("date")) or now
        waits = [wait_s for prefix in _PREFIXES for wait_s in _resets_s(headers, f"{prefix}-reset", date)]
    return min(max(waits), longest_wait_s(said.quotas)) if waits else None


def longest_wait_s(quotas: Iterable[Quota]) -> float:
    """How long a wait can be believed."""
    return max([LONGEST_WAIT_S, *(quota.window_s or 0.0 for quota in quotas)])


def _retry_after(headers: Mapping[str, str], now: int | None) -> list[float]:
    date = instant(headers.get("date")) or now
    names = ("retry-after", *(f"{prefix}-retry-after" for prefix in _PREFIXES))
    return [wait_s for name in names for wait_s in _resets_s(headers, name, date)]


def _remaining(count: float, reset_s: float | None, quota: Quota | None) -> Remaining:
    return Remaining(int(min(count, MOST_REQUESTS)), reset_s, quota)


def _quotas(text: str | None, window_s: float | None = None) -> list[Quota]:
    return [quota for member in members(text) if (quota := _quota(member, window_s)) is not None]


def _quota(member: Member, window_s: float | None = None) -> Quota | None:
    """A quota of requests; None where it counts something else, or cannot be a quota."""
    value, said = member
    if said.get("qu", "requests") != "requests":
        return None
    limit = number(said.get("q", value))
    window = number(said.get("w", said.get("window")))
    if limit is None or not 1 <= limit <= MOST_REQUESTS or (window is not None and not 0 < window <= LONGEST_WINDOW_S):
        return None
    return Quota(int(limit), window_s if window is None else window, value if "q" in said else "")


def _combined(found: tuple[Member, ...], quotas: list[Quota], date: int | None) -> Iterator[Remaining]:
    """What `RateLimit` says, in the form of draft 7 or of draft 8. Adds the quota that draft 7 holds to `quotas`."""
    pairs = {name.strip().lower(): said.strip() for name, _, said in (each.value.partition("=") for each in found)}
    left = number(pairs.get("remaining"))
    if left is not None:
        limits = _quotas(pairs.get("limit"))
        quotas += limits
        reset_s = _reset_s(pairs.get("reset", ""), date)
        yield _remaining(left, reset_s, _whose(limits, quotas, reset_s))
    for name, said in found:
        left, reset_s = number(said.get("r")), _reset_s(said.get("t", ""), date)
        if left is not None:
            named = next((quota for quota in quotas if quota.name == name), None)
            yield _remaining(left, reset_s, named or _whose([], quotas, reset_s))


def _whose(limits: list[Quota], quotas: list[Quota], reset_s: float | None) -> Quota | None:
    """The quota that a remainder is of: of that limit where one is said, else the shortest that resets no sooner."""
    same = [quota for quota in quotas if not limits or quota.limit == limits[0].limit]
    able = [quota for quota in same if (quota.window_s or LONGEST_WINDOW_S) >= (reset_s or 0.0)] or same
    return min(able, key=lambda quota: quota.window_s or LONGEST_WINDOW_S, default=None)


def _resets_s(headers: Mapping[str, str], name: str, date: int | None) -> list[float]:
    """The resets of a field that holds a number or a date: a date has a comma of its own."""
    text = headers.get(name, "")
    values = [text] if instant(text) is not None else [each.value for each in members(text)]
    return [found for value in values if (found := _reset_s(value, date)) is not None]


def _reset_s(text: str, date: int | None) -> float | None:
    """Seconds from `date` to a reset, 0 when it is just past. What names an instant needs a date to be read by."""
    found = number(text)
    if found is None:
        until = instant(text)
        if until is None:
            return _duration_s(text)
        return None if date is None else max(0.0, (until - date) / SECOND_NS)
    if found < _EPOCH_FROM:
        return found
    if date is None:
        return None
    epoch = found
    while epoch >= _FINEST_EPOCH:
        epoch /= 1_000
    wait_s = epoch - date / SECOND_NS
    return found if wait_s < -_PAST_S else max(0.0, wait_s)


def _duration_s(text: str) -> float | None:
    """Of `1m30s` and the like."""
    if not text[:1].isdigit() or len(text) > 30:
        return None
    try:
        return read_duration(text, zero=True)
    except UsageError:
        return None
