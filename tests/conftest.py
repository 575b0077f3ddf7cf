"""Shared by all tests: rows in a list, labs on loopback, targets and canaries against them."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, settings

from nestobs.collector.canary import Campaign, Report
from nestobs.collector.canary import run as run_canary
from nestobs.collector.keyring import Keyring
from nestobs.collector.loop.pace import Pace
from nestobs.collector.station import Station, Target, open_station
from nestobs.join.budget import Budget, Limiter
from nestobs.join.policy import Policy, fixed
from nestobs.lab import Lab, Scenario
from nestobs.lab.livekit.server import find_binary
from nestobs.lab.scenario import read_scenario
from nestobs.observation.schema import Failure, Observation
from nestobs.sources.vantage import Vantage
from nestobs.store.reader import Store

# How fast examples are drawn says something of the machine, and nothing of the code.
settings.register_profile("here", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.register_profile("quick", settings.get_profile("here"), max_examples=10)
settings.load_profile("here")


def pytest_configure(config: pytest.Config) -> None:
    """Where slow tests are left out, properties are tried on few examples."""
    if config.option.markexpr == "not slow":
        settings.load_profile("quick")


SERVERS = {"open_lab", "open_station_on", "canary", "livekit", "livekit_server", "lab", "serving", "browser"}
"""Fixtures behind which servers or a browser stand: what uses one of them is `slow`."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files of slow tests alone are not even imported where slow tests are left out: that takes a while, too."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return "\npytestmark = pytest.mark.slow\n" in collection_path.read_text("utf-8") or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make check` leaves out what needs servers or a browser; other slow tests carry the mark themselves."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@dataclass(eq=False)
class Rows(list[Observation]):
    """A sink: what was recorded, in order."""

    def of(self, *operations: str, intents: bool = False) -> list[Observation]:
        """The rows of these operations, without the intents."""
        return [row for row in self if row.operation in operations and (intents or row.failure is not Failure.INTENT)]

    def text(self) -> str:
        """Every field of every row: what may never hold a secret."""
        return "\n".join(repr(row) for row in self)


@pytest.fixture
def rows() -> Rows:
    """Where the vantage's rows go."""
    return Rows()


@pytest.fixture
def vantage(rows: Rows) -> Vantage:
    """Computer A, writing to `rows`."""
    return Vantage("Computer A", "run", rows.append)


@pytest.fixture
def scenario() -> Callable[..., Scenario]:
    """A scenario from TOML text; without text everything is there at once."""

    def make(text: str = "", name: str = "made") -> Scenario:
        return read_scenario(text, name=name, where=f"{name}.toml")

    return make


@pytest.fixture
def open_lab(tmp_path: Path) -> Callable[..., Any]:
    """`async with open_lab("calm", ...) as lab`: the stand-in and two relays unless told otherwise."""

    def opened(*scenarios: str | Scenario, **options: Any) -> Lab:
        return Lab(list(scenarios), tmp_path / "lab", **{"livekit": "stand-in", "relays": 2, **options})

    return opened


def target_of(lab: Lab, vantage: int = 0, *, keys: bool = True) -> Target:
    """The lab's first scenario as an operator would write it down."""
    way = next(iter(lab.info["scenarios"].values()))["vantages"][vantage]
    key, _, secret = Path(lab.info["files"]["livekit_keys"]).read_text().strip().partition(": ")
    return Target(
        name="lab",
        vantage=way["name"],
        api=way["api"],
        relays=tuple(way["relays"]),
        livekit=way["livekit"],
        livekit_key=key if keys else "",
        livekit_secret=secret if keys else "",
    )


@pytest.fixture(name="target_of")
def target_of_fixture() -> Callable[..., Target]:
    """`target_of(lab)`."""
    return target_of


@pytest.fixture
def open_station_on(rows: Rows) -> Callable[..., Any]:
    """`async with open_station_on(lab) as station`, its rows in `rows`, its relays connected."""

    @asynccontextmanager
    async def opened(lab: Lab, **options: Any) -> AsyncIterator[Station]:
        async def committed() -> bool:
            return True

        target = target_of(lab, **options)
        async with open_station(
            target, run_id="run", sink=rows.append, committed=committed, limiter=Limiter(100_000)
        ) as station:
            await asyncio.gather(*(relay.ready(5) for relay in station.relays))
            yield station

    return opened


POLICY = replace(fixed(0.5), stay_s=0.2)


@dataclass
class Canary:
    """A store, a keyring, and canary runs on them."""

    directory: Path
    store: Store = field(init=False)
    keyring: Keyring = field(init=False)
    told: list[str] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    when: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What is done the moment the run tells of something."""

    def __post_init__(self) -> None:
        self.store = Store.open(self.directory / "store")
        self.keyring = Keyring(self.directory / "keys")

    async def run(
        self, lab: Lab, count: int, *, policy: Policy = POLICY, pace: Pace | None = None, **options: Any
    ) -> Report:
        """Run a campaign on the lab's first scenario; `count=0` only cleans up what was left."""
        shape = {"horizon_s": 4.0, "stagger_s": 0.1, "media": 0, "wanted_polls": 8, **options}
        return await run_canary(
            [target_of(lab, number) for number in range(len(next(iter(lab.info["scenarios"].values()))["vantages"]))],
            Campaign(count=count, **{"policies": (policy,), **shape}),
            store=self.store,
            keyring=self.keyring,
            budget=Budget(100_000),
            rng=random.Random(1),
            progress=self._tell,
            pace=pace,
        )

    def _tell(self, what: str, facts: dict[str, Any]) -> None:
        self.told.append(what)
        self.said[what] = str(facts.get("said", ""))
        if what in self.when:
            self.when[what]()

    async def told_of(self, what: str, times: int = 1) -> None:
        """Wait until the run has told of something so many times."""
        async with asyncio.timeout(20):
            while self.told.count(what) < times:  # noqa: ASYNC110 - the run tells by a plain callback
                await asyncio.sleep(0.01)

    def rows(self) -> Rows:
        """All rows of the store."""
        found = Rows()
        found.extend(self.store.observations())
        return found


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    """A store and keyring of this test's own, and runs on them."""
    return Canary(tmp_path)


@pytest.fixture
def serving() -> Callable[..., Any]:
    """`async with serving(handler) as port`: a small HTTP server on loopback that answers as `handler` says."""

    @asynccontextmanager
    async def opened(handler: Any, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
        runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()

    return opened


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Awaitable[Any]]:
    """Wait for a truthy value, 10 s at most."""

    async def wait(check: Callable[[], Any]) -> Any:
        async with asyncio.timeout(10):
            while not (found := check()):  # noqa: ASYNC110 - any condition, of any part
                await asyncio.sleep(0.01)
        return found

    return wait


def _need_server() -> None:
    if find_binary() is None:
        if os.environ.get("NESTOBS_REQUIRE_LIVEKIT") == "1":
            pytest.fail("NESTOBS_REQUIRE_LIVEKIT is 1 and there is no livekit-server: run `make livekit`")
        pytest.skip("there is no livekit-server here: `make livekit` installs it")


@pytest.fixture(params=["stand-in", "server"])
def livekit(request: pytest.FixtureRequest) -> str:
    """Both kinds of LiveKit; the real one is skipped where there is none, unless it is required."""
    if request.param == "server":
        _need_server()
    return str(request.param)


@pytest.fixture
def livekit_server() -> str:
    """The real livekit-server only."""
    _need_server()
    return "server"
