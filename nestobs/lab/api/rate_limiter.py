"""A fixed window per client address, counted over all routes, with the RateLimit headers of the IETF draft 6."""

from __future__ import annotations

import math

from nestobs.lab.clock import LabClock
from nestobs.lab.scenario import RateLimit


class RateLimiter:
    """Counts requests by address. The window of an address starts with its first request."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._clock = LabClock()
        self._windows: dict[str, tuple[float, int]] = {}

    def count(self, address: str) -> tuple[bool, dict[str, str]]:
        """Count one request: whether it is within the limit, and the headers of its answer, seconds rounded up."""
        now = self._clock.elapsed_s()
        ends, used = self._windows.get(address, (0.0, 0))
        if now >= ends:
            ends, used = now + self.limit.window_s, 0
        used += 1
        self._windows[address] = (ends, used)
        left = str(math.ceil(ends - now))
        headers = {
            "RateLimit-Policy": f"{self.limit.requests};w={self.limit.window_s:.0f}",
            "RateLimit-Limit": str(self.limit.requests),
            "RateLimit-Remaining": str(max(0, self.limit.requests - used)),
            "RateLimit-Reset": left,
        }
        if used > self.limit.requests:
            headers["Retry-After"] = left
            return False, headers
        return True, headers
