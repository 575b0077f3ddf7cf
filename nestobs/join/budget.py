"""The request budget: one limiter per host, shared by every part of the process.

A Nests API allows 100 requests per 15 minutes per address, over all routes, for everybody behind that address. So the
default is 80 in 900 s, counted over a sliding window. When the server announces its own limit (RateLimit headers of
draft-ietf-httpapi-ratelimit-headers, as express-rate-limit sends them) four fifths of that are used instead; and when
it says fewer remain than we counted, because others share the address, the fewer counts. A 429 closes the gate until
the instant it names.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from nestobs.errors import UsageError
from nestobs.observation.duration import SECOND_NS

SHARE: Final = 0.8
DEFAULT_REQUESTS: Final = 80
DEFAULT_WINDOW_S: Final = 900.0
_POLICY = re.compile(r"(\d+)\s*;\s*w=(\d+)")


@dataclass(slots=True)
class Limiter:
    """Requests to one host. `allowed` in any `window_s` seconds. Instants are ns UTC."""

    allowed: int = DEFAULT_REQUESTS
    window_s: float = DEFAULT_WINDOW_S
    announced: int | None = None
    closed_until: int = 0
    refused: int = 0
    _sent: deque[int] = field(default_factory=deque)
    _ceiling: tuple[int, int] | None = None

    def left(self, now: int) -> int:
        """Requests that may be sent now."""
        if now < self.closed_until:
            return 0
        self._forget(now)
        left = self.allowed - len(self._sent)
        if self._ceiling is not None:
            remaining, until = self._ceiling
            left = min(left, remaining) if now < until else left
        return max(0, left)

    def take(self, now: int, *, urgent: bool = False) -> bool:
        """Count one request if the budget has it; False, and counted as refused, when it has not.

        Cleaning up is urgent: it may use the share that is kept back, and is stopped only by the server's own no.
        """
        if self.left(now) < 1 and not (urgent and now >= self.closed_until):
            self.refused += 1
            return False
        self._sent.append(now)
        if self._ceiling is not None:
            self._ceiling = (self._ceiling[0] - 1, self._ceiling[1])
        return True

    def learn(self, headers: Mapping[str, str], status: int | None, now: int) -> None:
        """Correct the limit by what an answer's headers say. Unreadable ones change nothing."""
        policy = _POLICY.search(headers.get("ratelimit-policy", ""))
        limit = _number(headers.get("ratelimit-limit")) or (int(policy.group(1)) if policy else None)
        if limit:
            self.announced = limit
            self.allowed = max(1, int(limit * SHARE))
            self.window_s = float(policy.group(2)) if policy and int(policy.group(2)) else self.window_s
        remaining = _number(headers.get("ratelimit-remaining"))
        reset_s = _number(headers.get("ratelimit-reset"))
        if remaining is not None and limit:
            spare = max(0, remaining - (limit - self.allowed))
            until = now + round((reset_s if reset_s is not None else self.window_s) * SECOND_NS)
            self._ceiling = (spare, until)
        if status == 429:
            wait_s = retry_after_s(headers)
            self.closed_until = now + round((60.0 if wait_s is None else wait_s) * SECOND_NS)

    def _forget(self, now: int) -> None:
        edge = now - round(self.window_s * SECOND_NS)
        while self._sent and self._sent[0] <= edge:
            self._sent.popleft()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from Retry-After in its delay form (RFC 9110, 10.2.3) or else RateLimit-Reset; None if neither.

    The date form of Retry-After is read against the answer's own Date, so that our clock does not matter.
    """
    text = headers.get("retry-after", "")
    if (seconds := _number(text)) is not None:
        return float(seconds)
    if text:
        from email.utils import parsedate_to_datetime

        try:
            until, date = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("date", ""))
            return max(0.0, (until - date).total_seconds())
        except (ValueError, TypeError):
            pass
    reset = _number(headers.get("ratelimit-reset"))
    return None if reset is None else float(reset)


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


class Budget:
    """The limiters of a process, by host and port."""

    def __init__(self, allowed: int = DEFAULT_REQUESTS, window_s: float = DEFAULT_WINDOW_S) -> None:
        self._allowed, self._window_s = allowed, window_s
        self._by_host: dict[str, Limiter] = {}

    def of(self, url: str) -> Limiter:
        """The one limiter of this URL's host. Raises UsageError for what is no URL."""
        try:
            parts = urlsplit(url)
            port = parts.port or {"https": 443, "wss": 443}.get(parts.scheme, 80)
        except ValueError:  # a host or a port that is none
            raise UsageError("the API address is not a URL: write https://HOST/api/v1/nests") from None
        return self._by_host.setdefault(f"{parts.hostname}:{port}", Limiter(self._allowed, self._window_s))
