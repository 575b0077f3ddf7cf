"""Whether an answer is a cache's copy. It proves nothing: the nest may have come since it was made, or gone.

Caches say so in many ways, each vendor in its own, several of them at once and in lists. Any of them counts: a field
whose name speaks of a cache and whose value has one of `_WORDS`, an Age, RFC 9211's Cache-Status, Varnish's two ids,
hit counts, a warning of staleness, a server timing. What only says that a cache stands on the way (Via, a miss) does
not. A field that cannot be read, where only a cache writes one, counts as well.

A cache may say nothing and still show the Date of the answer that it keeps. `ServerClock` knows how far the server's
clock is ahead of ours, from the Dates of its other answers, and so which Date is older than the question.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nestobs.join.fields import FIELD_CHARACTERS, members, number
from nestobs.observation.duration import SECOND_NS

_WORDS: Final = frozenset({"hit", "hits", "stale", "revalidated", "updating", "fresh", "prerender"})
_FLAGS: Final = frozenset({"from", "cached"})
_NO_STATUS: Final = re.compile(r"control|tag|key|able|hits$|^cache-status$")
"""Fields with "cache" in their name that say something else, or are read apart."""

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_HIT_FOR_MISS: Final = re.compile(r"hit[-_ ]?for[-_ ]?(pass|miss)", re.IGNORECASE)
_HIT_IN_WORDS: Final = re.compile(r"cache[-_ ]hit\b(?![-_ ]for)", re.IGNORECASE)
"""In any field: WordPress' Batcache says it in one that it calls X-Nananana."""

_OWN_AGE: Final = re.compile(r"^x-(?!.*max-age$)([a-z0-9-]+-)?age$")
"""How long a cache has had it, in a field of its own."""

_OWN_HITS: Final = re.compile(r"cache-hits$|^x-(?!.*limit)([a-z0-9-]+-)?hits$")
_SINCE: Final = re.compile(r"cached?-(since|at|on|date|time|created)$")
_WHENCE: Final = re.compile(r"^x-([a-z0-9-]+-)?(from|source)$")
_FLAG: Final = re.compile(r"(?<!no-)(?<!use-)(?<!skip-)(?<!bypass-)cache$")
_TRUE: Final = ("1", "true", "yes", "hit")
_NOTHING: Final = ("", "-", "0", "false", "no", "none", "null", "never")
_STALE_WARNINGS: Final = ("110", "111", "112", "113")

SHOWN: Final = ("age", "etag", "via", "warning", "x-varnish", "x-served-by", "server-timing")
"""Fields that a row keeps, besides those with "cache" in their name."""

CLOCKS_APART_S: Final = 600.0
"""How far two clocks may be apart before anything is known of them: then only a Date older than that is told."""

GRAIN_S: Final = 1.0
"""A Date is in whole seconds; and it may be written a second before it is sent."""


def copied(headers: Mapping[str, str]) -> str:
    """What says that an answer is a cache's copy, as `Name: value`, cut to 60 characters; "" where nothing does.

    headers: by lower-case name, several lines of one name joined by commas.
    """
    for name, value in headers.items():
        if _says_so(name, value):
            return f"{name}: {' '.join(value.split())}"[:60]
    return ""


def cache_fields(headers: Mapping[str, str]) -> dict[str, str]:
    """What a row keeps of all that caches say, so that it can be judged again: at most 20 fields, each cut."""
    kept = [name for name, value in headers.items() if name in SHOWN or "cache" in name or _says_so(name, value)]
    return {name[:40]: headers[name][:100] for name in kept[:20]}


def _says_so(name: str, value: str) -> bool:  # noqa: PLR0911 - one return per field
    long = len(value) > FIELD_CHARACTERS
    if _HIT_IN_WORDS.search(value[:FIELD_CHARACTERS]):
        return True
    match _OWN_AGE.sub("age", name):
        case "age":
            return long or any(number(each.value) != 0 for each in members(value))
        case "x-varnish":
            return any(len(each.value.split()) > 1 for each in members(value))
        case "warning":
            return any(each.value.startswith(_STALE_WARNINGS) for each in members(value))
        case "cache-status":
            return long or any(_forwarded_not(each.parameters) for each in members(value))
        case "server-timing":
            timings = (f"{each.value} {each.parameters.get('desc', '')}" for each in members(value))
            return any("cache" in each.lower() and _has_word(each) for each in timings)
    said = value[:FIELD_CHARACTERS].strip().lower()
    if _OWN_HITS.search(name):
        return long or any(number(each.value) not in (0, None) for each in members(value))
    if _SINCE.search(name):
        return said not in _NOTHING
    if _WHENCE.search(name) and "cache" not in name:
        return "cache" in _WORD.findall(said)
    if "cache" not in name or _NO_STATUS.search(name):
        return False
    if not _FLAGS.isdisjoint(name.split("-")):
        return said in _TRUE
    return long or _has_word(value) or (said in _TRUE and _FLAG.search(name) is not None)


def _has_word(value: str) -> bool:
    words = _WORD.findall(_HIT_FOR_MISS.sub("", value[:FIELD_CHARACTERS]))
    return not _WORDS.isdisjoint(word.lower() for word in words)


def _forwarded_not(said: Mapping[str, str]) -> bool:
    """RFC 9211: whether a cache answered by itself, by what it had and was told to be unchanged, or for several."""
    held = said.get("hit", "?0") != "?0" or said.get("collapsed", "?0") != "?0"
    return held or said.get("fwd") == "stale" or said.get("fwd-status") == "304"


@dataclass(slots=True)
class ServerClock:
    """How far a server's clock is ahead of ours at least (ns), by each of the last answers that were its own."""

    _ahead: deque[int] = field(default_factory=lambda: deque(maxlen=32))

    def learn(self, remote_at: int | None, received_at: int) -> None:
        """The Date of an answer, and when it was here (ns UTC)."""
        if remote_at is not None:
            self._ahead.append(remote_at - received_at)

    def late_s(self, remote_at: int | None, sent_at: int) -> float:
        """By how many seconds a Date is older than the question sent at `sent_at`, more than the clocks explain.

        0.0 where it is not, or where there is no Date.
        """
        if remote_at is None:
            return 0.0
        ahead = max(self._ahead, default=-round(CLOCKS_APART_S * SECOND_NS))
        late_s = (sent_at + ahead - remote_at) / SECOND_NS - GRAIN_S
        return late_s if late_s > GRAIN_S else 0.0
