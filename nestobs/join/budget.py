"""The request budget: one limiter per host, shared by every part of the process and, in a run, of the machine.

A Nests API allows 100 requests per 15 minutes per address, over all routes, for everybody behind that address. So the
default is 80 in 900 s, counted over a sliding window. When the server announces limits of its own (rate_limits.py) four
fifths of each are used instead, the tightest in the long run for all planning; and when it says fewer remain than we
counted, because others share the address, the fewer counts. A quota of a few seconds (`BURST_S`) is no budget but a
pace: it is waited for, and nothing is planned by it.

A 429, or a 503 that says for how long, closes the gate until the instant it names. Cleaning up is urgent: it may use
the share that is kept back, and waits for a closed gate `URGENT_S` at most, since what it leaves behind is harm.

What was sent is remembered request by request where a window allows up to `EXACT` of them, else in grains of the
window, each counted as if all of it had been sent with its last.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from nestobs.errors import UsageError
from nestobs.join.rate_limits import (
    LONGEST_WINDOW_S,
    MOST_REQUESTS,
    Quota,
    Remaining,
    longest_wait_s,
    pause_s,
    read_limits,
)
from nestobs.observation import reasons
from nestobs.observation.duration import SECOND_NS

SHARE: Final = 0.8
DEFAULT_REQUESTS: Final = 80
DEFAULT_WINDOW_S: Final = 900.0
BURST_S: Final = 10.0
URGENT_S: Final = 10.0
PAUSE_S: Final = 60.0
"""How long the gate is closed by a 429 that does not say."""

EXACT: Final = 200
_MOST_KEPT: Final = 10_000
MOST_QUOTAS: Final = 8
"""Of more than so many that a server names, the tightest are heeded."""


@dataclass(slots=True)
class Window:
    """`allowed` requests in any `window_s` seconds, and what was sent of late: instants (ns UTC) and counts."""

    allowed: int
    window_s: float
    sent: deque[tuple[int, int]] = field(default_factory=deque)

    def left(self, now: int) -> int:
        """Requests that may be sent now; below 0 where more was urgent."""
        edge = now - round(self.window_s * SECOND_NS)
        while self.sent and self.sent[0][0] <= edge:
            self.sent.popleft()
        return self.allowed - sum(count for _, count in self.sent)

    def opens_at(self, now: int, wanted: int = 1) -> int:
        """When so many may be sent: `now`, or when enough of what was sent is a window ago."""
        lacking = wanted - self.left(now)
        if lacking < 1:
            return now
        for at, count in self.sent:
            lacking -= count
            if lacking < 1:
                return at + round(self.window_s * SECOND_NS)
        return now + round(LONGEST_WINDOW_S * SECOND_NS)  # none is ever allowed

    def add(self, now: int) -> None:
        """Count one that was sent."""
        grain = 1 if self.allowed <= EXACT else round(self.window_s * SECOND_NS / EXACT)
        same = self.sent and self.sent[-1][0] // grain == now // grain
        self.sent.append((now, self.sent.pop()[1] + 1 if same else 1))


@dataclass(slots=True)
class Ceiling:
    """So many requests are left until an instant (ns UTC), by the server's own count; `burst`: of a short quota."""

    spare: int
    until: int
    burst: bool = False


@dataclass(slots=True)
class Limiter:
    """Requests to one host: `allowed` in any `window_s` seconds, and no more than the server's `others` allow.

    announced: the server's own number for `allowed`. closed_until: by its own no, which came at `closed_at`. refused:
    requests that were not let through. Instants are ns UTC.
    """

    allowed: int = DEFAULT_REQUESTS
    window_s: float = DEFAULT_WINDOW_S
    announced: int | None = None
    closed_until: int = 0
    closed_at: int = 0
    refused: int = 0
    others: list[Window] = field(default_factory=list)
    _sent: deque[tuple[int, int]] = field(default_factory=deque)
    _ceilings: list[Ceiling] = field(default_factory=list)

    @property
    def windows(self) -> list[Window]:
        """The one that planning goes by, then the others."""
        return [Window(self.allowed, self.window_s, self._sent), *self.others]

    def left(self, now: int, *, bursts: bool = True) -> int:
        """Requests that may be sent now. Without `bursts`: that can be planned on, as short quotas are waited for."""
        if now < self.closed_until:
            return 0
        main, *others = self.windows
        spare = [each.left(now) for each in others if bursts or each.window_s > BURST_S]
        spare += [each.spare for each in self._ceilings if now < each.until and (bursts or not each.burst)]
        return max(0, min([main.left(now), *spare]))

    def opens_at(self, now: int, *, urgent: bool = False, wanted: int = 1) -> int:
        """The first instant at which so many requests may be sent, as far as is known now; `now` when they may."""
        if urgent:
            return max(now, min(self.closed_until, self.closed_at + round(URGENT_S * SECOND_NS)))
        spent = [each.until for each in self._ceilings if each.spare < wanted and now < each.until]
        return max([now, self.closed_until, *spent, *(each.opens_at(now, wanted) for each in self.windows)])

    def take(self, now: int, *, urgent: bool = False) -> bool:
        """Count one request if it may be sent now; False, and counted as refused, when it may not."""
        if self.opens_at(now, urgent=urgent) > now:
            self.refused += 1
            return False
        for window in self.windows:
            window.add(now)
        for ceiling in self._ceilings:
            ceiling.spare -= 1
        return True

    def learn(self, headers: Mapping[str, str], status: int | None, now: int) -> None:
        """Correct the limits by an answer's headers, by lower-case name. What cannot be read changes nothing."""
        said = read_limits(headers, now)
        quotas = _tightest(said.quotas)
        if quotas:
            self._heed(quotas)
        if said.remaining:
            ceilings = [self._ceiling(each, quotas, now) for each in said.remaining]
            self._ceilings = sorted(ceilings, key=lambda each: each.spare)[:MOST_QUOTAS]
        wait_s = pause_s(status, headers, now)
        if wait_s is None and status == 429:
            wait_s = PAUSE_S
        if wait_s is not None:
            self.closed_until = max(self.closed_until, now + round(wait_s * SECOND_NS))
            self.closed_at = now

    def why_shut(self, now: int, wanted: int = 1) -> str:
        """Why so many requests may not be sent now, and until when, in words."""
        until = self.opens_at(now, wanted=wanted)
        form = "%H:%M:%S UTC" if until < now + 43_200 * SECOND_NS else "%Y-%m-%d %H:%M UTC"
        when = datetime.fromtimestamp(math.ceil(until / SECOND_NS), UTC).strftime(form)
        if until == self.closed_until:
            return f"{reasons.SERVER_PAUSES} until {when}"
        if any(each.spare < wanted and each.until == until for each in self._ceilings):
            return f"the request budget of this address is spent, {reasons.SERVER_COUNTS}, until {when}"
        spent = f"the request budget of this host ({self.allowed} in {self.window_s:g} s) is spent"
        return f"{spent} until {when}" if self.allowed >= wanted else spent

    def state(self) -> dict[str, Any]:
        """All of it but `refused`, as plain JSON."""
        return {
            "announced": self.announced,
            "closed": [self.closed_at, self.closed_until],
            "windows": [[each.allowed, each.window_s, list(each.sent)] for each in self.windows],
            "ceilings": [[each.spare, each.until, each.burst] for each in self._ceilings],
        }

    def restore(self, state: Mapping[str, Any], now: int) -> None:
        """Take over a state. What lies in the future, because a clock was set back, is taken as of now, and no wait
        as longer than any that is believed.

        Raises ValueError, TypeError, KeyError, IndexError or OverflowError for what is no state, and changes nothing.
        """
        main, *others = [_window(*each, now=now) for each in state["windows"][: 2 * MOST_QUOTAS]]
        lengths = (Quota(1, each.window_s) for each in (main, *others))
        most = now + round(longest_wait_s(lengths) * SECOND_NS)
        ceilings = [
            Ceiling(int(spare), min(int(until), most), bool(burst))
            for spare, until, burst in state["ceilings"][:MOST_QUOTAS]
        ]
        closed_at, closed_until = (int(at) for at in state["closed"])
        self.announced = None if state["announced"] is None else int(state["announced"])
        self.allowed, self.window_s, self._sent, self.others = main.allowed, main.window_s, main.sent, others
        self.closed_at, self.closed_until, self._ceilings = min(closed_at, now), min(closed_until, most), ceilings

    def _heed(self, quotas: list[Quota]) -> None:
        """Allow four fifths of each quota; planning goes by the least in the long run."""
        least = min(quotas, key=lambda quota: (_is_burst(quota), _rate(quota)))
        if _is_burst(least):  # over a longer time it allows as much again and again
            in_all = min(MOST_REQUESTS, int(least.limit * DEFAULT_WINDOW_S / _length_s(least)))
            least = Quota(max(1, in_all), DEFAULT_WINDOW_S)
        known = max(self.windows, key=lambda each: each.window_s)
        sent = {each.window_s: each.sent for each in self.windows}
        self.announced, self.allowed, self.window_s = least.limit, _ours(least.limit), _length_s(least)
        self._sent = deque(sent.get(self.window_s, known.sent))
        self.others = [
            Window(_ours(each.limit), _length_s(each), deque(sent.get(_length_s(each), known.sent)))
            for each in quotas
            if each != least
        ]

    def _ceiling(self, said: Remaining, quotas: list[Quota], now: int) -> Ceiling:
        """What is ours of what remains."""
        quota = said.quota
        if quota is not None and quota.window_s is None:
            quota = next((each for each in quotas if each.limit == quota.limit), quota)
        limit = self.announced if quota is None else quota.limit
        length_s = self.window_s if quota is None else _length_s(quota)
        kept_back = said.requests - int(said.requests * SHARE) if limit is None else limit - _ours(limit)
        wait_s = min(length_s if said.reset_s is None else said.reset_s, longest_wait_s(quotas))
        return Ceiling(max(0, said.requests - kept_back), now + round(wait_s * SECOND_NS), burst=length_s <= BURST_S)


def _ours(limit: int) -> int:
    return max(1, int(limit * SHARE))


def _length_s(quota: Quota) -> float:
    return DEFAULT_WINDOW_S if quota.window_s is None else quota.window_s


def _rate(quota: Quota) -> float:
    return quota.limit / _length_s(quota)


def _is_burst(quota: Quota) -> bool:
    return _length_s(quota) <= BURST_S


def _tightest(quotas: Iterable[Quota]) -> list[Quota]:
    """The tightest of each window. A limit said with a window and again without is one."""
    quotas = list(quotas)
    timed = {quota.limit for quota in quotas if quota.window_s is not None}
    by_window: dict[float, Quota] = {}
    for quota in quotas:
        if quota.window_s is not None or quota.limit not in timed:
            known = by_window.get(_length_s(quota), quota)
            by_window[_length_s(quota)] = min(known, quota, key=lambda each: each.limit)
    return sorted(by_window.values(), key=_rate)[:MOST_QUOTAS]


def _window(allowed: Any, window_s: Any, sent: Any, *, now: int) -> Window:
    """A window of a stored state, of which no more is kept than it can hold."""
    requests, length_s = int(allowed), float(window_s)
    if not (0 <= requests <= MOST_REQUESTS and 0 < length_s <= LONGEST_WINDOW_S):
        raise ValueError(f"{requests} requests in {length_s} s")
    pairs = sorted((min(int(at), now), int(count)) for at, count in sent[-_MOST_KEPT:] if int(count) > 0)
    return Window(requests, length_s, deque(pairs))


@dataclass(slots=True)
class Ration:
    """So many requests are `left` to a piece of work, whatever the budget allows, `kept` of them for what is urgent."""

    left: int
    kept: int = 0

    def take(self, *, urgent: bool = False) -> bool:
        """Count one request if it may be asked; False when it may not."""
        if self.left <= (0 if urgent else self.kept):
            return False
        self.left -= 1
        return True


class Budget:
    """The limiters of a process, by host and port."""

    def __init__(self, allowed: int = DEFAULT_REQUESTS, window_s: float = DEFAULT_WINDOW_S) -> None:
        self._allowed, self._window_s = allowed, window_s
        self._by_host: dict[str, Limiter] = {}

    def of(self, url: str) -> Limiter:
        """The one limiter of this URL's host. Raises UsageError for what is no URL."""
        address = host_and_port(url)
        return self._by_host.setdefault(address, Limiter(self._allowed, self._window_s))


def host_and_port(url: str) -> str:
    """`host:port` of a URL. Raises UsageError for what is none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "wss": 443}.get(parts.scheme, 80)
    except ValueError:  # a host or a port that is none
        raise UsageError("the API address is not a URL: write https://HOST/api/v1/nests") from None
    return f"{parts.hostname}:{port}"
