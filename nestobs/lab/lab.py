"""The lab: relays, Nests APIs, LiveKit and a network that can fail, in one process on loopback, with ground truth."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from nestobs.errors import UsageError
from nestobs.lab.api.log import FORMS
from nestobs.lab.api.server import NestsApi
from nestobs.lab.clock import LabClock
from nestobs.lab.fault_proxy import FaultProxy
from nestobs.lab.gate import Gate
from nestobs.lab.livekit.rooms import LivekitRooms
from nestobs.lab.livekit.server import LivekitServer, find_binary, write_private
from nestobs.lab.livekit.stand_in import LivekitStandIn
from nestobs.lab.livekit.tokens import LivekitKeys
from nestobs.lab.livekit.webhook_sink import receive_webhooks
from nestobs.lab.plan import Planner
from nestobs.lab.relays import start_relay
from nestobs.lab.scenario import Scenario, load_scenario
from nestobs.lab.stage import Stage
from nestobs.lab.truth import JsonLines, TruthLog
from nestobs.lab.world import World

LIVEKIT_CHOICES = ("auto", "server", "stand-in")


class Lab:
    """`async with Lab(...) as lab`: everything listens when the block begins and is gone when it ends.

    `scenarios` are names of those that ship, paths of TOML files, or Scenario values. `directory` gets the files of
    `info["files"]` and livekit.log. The same `seed` gives the n-th nest of a scenario the same delays. `delay_scale`
    multiplies all of them, and when things happen to a fleet's vantages. `vantages`: of scenarios that do not say by
    themselves which they have. `livekit`: "auto" takes the real server if there is one, "server" insists on it,
    "stand-in" never does. `webhooks`: URLs that LiveKit tells as well. `api_port`: fixed port of the first scenario's
    API for Computer A. `logs`: "json" or "plain": APIs and livekit-server write logs as deployed ones do, the APIs' in
    that form, livekit-server's in JSON. Raises UsageError for words it cannot use, UnreachableError when
    livekit-server fails.
    """

    def __init__(
        self,
        scenarios: Sequence[str | Path | Scenario],
        directory: Path,
        *,
        seed: int = 1,
        livekit: str = "auto",
        delay_scale: float = 1.0,
        vantages: int = 1,
        relays: int = 4,
        stamps: bool = False,
        webhooks: Sequence[str] = (),
        api_port: int = 0,
        logs: str = "",
    ) -> None:
        self.scenarios = [entry if isinstance(entry, Scenario) else load_scenario(entry) for entry in scenarios]
        _check(self.scenarios, livekit=livekit, delay_scale=delay_scale, vantages=vantages, relays=relays, seed=seed)
        if logs not in ("", *FORMS):
            raise UsageError(f"logs are {' or '.join(FORMS)}, not {logs!r}")
        self.directory = Path(directory).absolute()
        self.clock = LabClock()
        self.info: dict[str, Any] = {}
        self.gates: dict[str, list[Gate]] = {}
        self.api: dict[str, NestsApi] = {}
        self.api_proxy: dict[str, FaultProxy] = {}
        self.livekit_proxy: dict[str, FaultProxy] = {}
        self._seed, self._scale, self._vantages, self._relays = seed, delay_scale, vantages, relays
        self._livekit, self._webhooks, self._api_port = livekit, tuple(webhooks), api_port
        self._stamping, self._log_form = stamps, logs
        self.livekit_pid: int | None = None
        self._keys = LivekitKeys.generate()
        self._stack: AsyncExitStack
        self._truth: TruthLog | None = None
        self.world: World

    def truth(self) -> list[dict[str, Any]]:
        """The rows of ground truth so far; readable after the end as well."""
        return list(self._truth.rows) if self._truth is not None else []

    async def rooms(self) -> list[str]:
        """Names of the LiveKit rooms that exist now, of all scenarios."""
        return await self.world.rooms.names()

    def nests(self) -> list[str]:
        """Room ids that have a record in some API."""
        return [room for api in self.api.values() for room, nest in api.nests.items() if not nest.deleted]

    async def __aenter__(self) -> Lab:
        async with AsyncExitStack() as stack:
            self._stack = stack
            await self._start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{self.directory} cannot be made ({error.strerror}): give the lab another folder"
            ) from None
        truth = self._truth = TruthLog(self.directory / "truth.jsonl")
        self._stack.callback(truth.close)
        stamps = JsonLines(self.directory / "stamps.jsonl") if self._stamping else None
        if stamps is not None:
            self._stack.callback(stamps.close)
        livekit = await self._start_livekit()
        mute = await self._start_mute_livekit(livekit)
        rooms = LivekitRooms(livekit.url, self._keys)
        self._stack.push_async_callback(rooms.close)
        mute_rooms = None
        if mute is not None:
            mute_rooms = LivekitRooms(mute.url, self._keys)
            self._stack.push_async_callback(mute_rooms.close)
        relay_urls = [await self._start_relay() for _ in range(self._relays)]
        self.world = World(
            clock=self.clock,
            truth=truth,
            stamps=stamps,
            keys=self._keys,
            rooms=rooms,
            relay_urls=tuple(relay_urls),
            livekit_port=livekit.port,
            mute_rooms=mute_rooms,
            mute_port=0 if mute is None else mute.port,
            directory=self.directory,
            log_form=self._log_form,
        )
        stages = [await self._start_stage(scenario) for scenario in self.scenarios]
        self.info = self._describe(livekit, stages)
        self._write_files(stages)

    async def _start_livekit(self) -> LivekitServer | LivekitStandIn:
        sink = await receive_webhooks(self._stack, self._keys, self.clock, self.api)
        self._hooks = urls = (sink, *self._webhooks)
        binary = _binary(self._livekit)
        livekit: LivekitServer | LivekitStandIn
        if binary is None:
            livekit = LivekitStandIn(self._keys, urls)
        else:
            livekit = LivekitServer(binary, self._keys, self.directory, urls, logs=bool(self._log_form))
        await livekit.start(self._stack)
        self.livekit_pid = livekit.pid
        return livekit

    async def _start_mute_livekit(self, livekit: LivekitServer | LivekitStandIn) -> LivekitServer | None:
        """A second real server, for nests whose media are blocked. The stand-in cannot do that, and such faults are
        left out with it. Raises UsageError where a scenario then has none."""
        wanted = [where for where in self.scenarios if any(entry.theory.real for entry in where.faults)]
        if not wanted:
            return None
        if isinstance(livekit, LivekitServer):
            directory = self.directory / "mute"
            directory.mkdir(exist_ok=True)
            binary = _binary("server")
            assert binary is not None
            mute = LivekitServer(binary, self._keys, directory, self._hooks, media=False)
            await mute.start(self._stack)
            return mute
        self.scenarios = [_without_real(scenario) for scenario in self.scenarios]
        return None

    async def _start_relay(self) -> str:
        relay, url = await start_relay()
        self._stack.callback(relay.shutdown)
        return url

    async def _start_stage(self, scenario: Scenario) -> Stage:
        stage = Stage(Planner(scenario, self._seed, self._relays, self._scale), self.world)
        await stage.start(self._stack, vantages=self._vantages, api_port=0 if self.api else self._api_port)
        self.gates[scenario.name], self.api[scenario.name] = stage.gates, stage.api
        for way in stage.ways:
            self.api_proxy[way.target], self.livekit_proxy[way.target] = way.api_proxy, way.livekit_proxy
        return stage

    def _describe(self, livekit: LivekitServer | LivekitStandIn, stages: list[Stage]) -> dict[str, Any]:
        files = {"config": "nestobs.toml", "livekit_keys": "livekit-keys.txt", "truth": "truth.jsonl"}
        if self._stamping:
            files["stamps"] = "stamps.jsonl"
        if self._log_form and isinstance(livekit, LivekitServer):
            files["livekit_log"] = livekit.log.name
        if self._log_form:
            logs = (self.world.log_of(stage.scenario.name) for stage in stages)
            files |= {log.stem: log.name for log in logs if log is not None}
        return {
            "began_at": self.clock.began_at,
            "livekit": {"kind": livekit.kind, "version": livekit.version},
            "relays": [{"name": f"relay-{number}"} for number in range(1, self._relays + 1)],
            "scenarios": {stage.scenario.name: stage.as_dict() for stage in stages},
            "files": {name: str(self.directory / file) for name, file in files.items()},
        }

    def _write_files(self, stages: list[Stage]) -> None:
        keys = Path(self.info["files"]["livekit_keys"])
        write_private(keys, f"{self._keys.key}: {self._keys.secret}\n")
        Path(self.info["files"]["config"]).write_text(_targets(stages, keys), "utf-8")
        (self.directory / "lab.json").write_text(json.dumps(self.info, indent=1) + "\n", "utf-8")


def _check(
    scenarios: list[Scenario], *, livekit: str, delay_scale: float, vantages: int, relays: int, seed: int
) -> None:
    names = [scenario.name for scenario in scenarios]
    if not names or len(set(names)) < len(names):
        raise UsageError("give the lab at least one scenario, and each only once")
    if livekit not in LIVEKIT_CHOICES:
        raise UsageError(f"livekit is one of {', '.join(LIVEKIT_CHOICES)}, not {livekit!r}")
    if vantages not in (1, 2):
        raise UsageError("the lab has one vantage or two")
    if not 1 <= relays <= 50:
        raise UsageError("the lab has 1 to 50 relays")
    if not 0 <= delay_scale < 1e6 or seed < 0:
        raise UsageError("delay_scale and seed are zero or more, and finite")


def _binary(choice: str) -> Path | None:
    """The livekit-server to run; None for the stand-in. Raises UsageError when one is required and missing."""
    if choice == "stand-in":
        return None
    binary = find_binary()
    if binary is None and (choice == "server" or os.environ.get("NESTOBS_REQUIRE_LIVEKIT") == "1"):
        raise UsageError("there is no livekit-server: run `make livekit`, or name one in NESTOBS_LIVEKIT_SERVER")
    return binary


def _without_real(scenario: Scenario) -> Scenario:
    """The scenario without the faults that only the real livekit-server can do."""
    kept = [entry for entry in scenario.faults if not entry.theory.real]
    if scenario.faults and not kept:
        causes = ", ".join(sorted({entry.cause for entry in scenario.faults}))
        raise UsageError(f"scenario {scenario.name}: {causes} takes the real livekit-server: run `make livekit`")
    return scenario.model_copy(update={"faults": kept})


def _targets(stages: Iterable[Stage], keys: Path) -> str:
    """nestobs.toml: one target for each scenario and vantage. A JSON string is a TOML string."""
    lines = ["# Written by the nestobs lab; its targets live as long as the lab."]
    for way in (way for stage in stages for way in stage.ways):
        name = way.target if re.fullmatch(r"[A-Za-z0-9_-]+", way.target) else json.dumps(way.target)
        reached = way.as_dict()
        values = {"vantage": reached.pop("name"), **reached, "livekit_keys_file": str(keys)}
        lines += ["", f"[targets.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


async def run(
    scenarios: Sequence[str | Path | Scenario],
    directory: Path,
    *,
    on_ready: Callable[[Lab], None] | None = None,
    **options: Any,
) -> None:
    """Run a lab until SIGINT, SIGTERM or cancellation; `on_ready` is called once it is up. `options` are Lab's."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, ended.set)
    try:
        async with Lab(scenarios, directory, **options) as lab:
            if on_ready is not None:
                on_ready(lab)
            await ended.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
