"""The Nests API as a test's own handler answers for it (`serving` of conftest.py)."""

from __future__ import annotations

from nestobs.join.budget import Limiter
from nestobs.sources.api import Api
from nestobs.sources.vantage import Vantage


def nests_url(port: int) -> str:
    """The base URL of an API that listens on this port of the loopback."""
    return f"http://127.0.0.1:{port}/api/v1/nests"


def served_api(vantage: Vantage, port: int) -> Api:
    """That API as a source, with a budget that is not spent: `async with served_api(...) as station.api`."""
    return Api(vantage, nests_url(port), Limiter(1_000))
