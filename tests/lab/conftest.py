"""Labs for tests: real relays, API and proxies on loopback; LiveKit is the stand-in unless a test asks for both."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from nestobs import nostr
from nestobs.lab import Lab, Scenario
from nestobs.lab.livekit.server import find_binary


class Person:
    """Somebody with a key who calls an API under `base`."""

    def __init__(self, base: str, http: httpx.AsyncClient) -> None:
        self.base, self.http, self.keys = base, http, nostr.Keys.generate()

    async def call(self, method: str, path: str = "", body: Any = None, **headers: str) -> httpx.Response:
        """A request with a fresh NIP-98 header."""
        content = b"" if body is None else json.dumps(body).encode()
        url = self.base + path
        auth = nostr.http_auth(
            self.keys, url=url, method=method, created_at=int(time.time()), body=content if content else None
        )
        return await self.http.request(method, url, content=content, headers={"Authorization": auth, **headers})

    async def create(self) -> str:
        """A new nest's room id."""
        answer = await self.call("PUT", body={"relays": ["wss://relay.example"]})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["roomId"])

    def room_event(self, room: str, created_at: int | None = None) -> nostr.Event:
        """A signed 30312 event."""
        return self.keys.sign(30312, created_at=created_at or int(time.time()), tags=[("d", room)])


@pytest.fixture
def open_lab(tmp_path: Path) -> Callable[..., Any]:
    """`async with open_lab(scenario, ...) as (lab, person)`."""

    @asynccontextmanager
    async def opened(*scenarios: str | Scenario, **options: Any) -> AsyncIterator[tuple[Lab, Person]]:
        options = {"livekit": "stand-in", "relays": 3, **options}
        async with (
            Lab(list(scenarios), tmp_path / "lab", **options) as lab,
            httpx.AsyncClient(timeout=10) as http,
        ):
            first = next(iter(lab.info["scenarios"].values()))
            yield lab, Person(first["vantages"][0]["api"], http)

    return opened


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Awaitable[Any]]:
    """Wait for a truthy value, 10 s at most."""

    async def wait(check: Callable[[], Any]) -> Any:
        async with asyncio.timeout(10):
            while not (found := check()):  # noqa: ASYNC110 - what is waited for has no event to set
                await asyncio.sleep(0.01)
        return found

    return wait


@pytest.fixture(params=["stand-in", "server"])
def livekit(request: pytest.FixtureRequest) -> str:
    """Both kinds of LiveKit; the real one is skipped where there is none, unless it is required."""
    kind = str(request.param)
    if kind == "server":
        _skip_without_server()
    return kind


@pytest.fixture
def real_livekit() -> str:
    """The real server only."""
    _skip_without_server()
    return "server"


def _skip_without_server() -> None:
    if find_binary() is None and os.environ.get("NESTOBS_REQUIRE_LIVEKIT") != "1":
        pytest.skip("there is no livekit-server here: `make livekit` installs it")
