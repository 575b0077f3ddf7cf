"""A day of `nestobs run` in a few minutes, against a lab that shares its clock: does all happen at its hour?

    python -m benchmarks.service_day --out runs/service-day [--day 240]

The plan's time runs `rate` times as fast as the lab's and the observations' (service/hours.py): a day of bursts every
three hours and a report after midnight passes in `--day` seconds, while each nest is watched in real seconds. The lab's
limit is 100 requests in a twentieth of the plan's day. In the middle the service is killed (kill -9) in a burst and
started again, and for a while its files cannot grow.

Exit code 1 and the reasons where a row that was read is gone, a room or an entry of the ledger is left, a turn of
canaries came twice, the lab counted more requests than its limit, the day's report was not made, or twice, or says that
there is too little data, an older day is not sealed, memory grew, or the service ended otherwise than by its signal.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from nestobs.lab import Lab
from nestobs.lab.scenario import Scenario
from nestobs.observation.arrays import busiest
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import PERIOD
from nestobs.observation.window import Window
from nestobs.store.reader import Store

DAY_S = 86_400
REQUESTS = 100
GROWN = 1.3
"""Memory at the end, at most so many times that of the first minute."""


def serve(config: Path, store: Path, rate: int) -> None:
    """`nestobs run` with a plan whose time runs so much faster since the midnight of today."""
    from nestobs.cli.terminal import Teller, interruptible
    from nestobs.collector.service.hours import Hours
    from nestobs.collector.service.service import run
    from nestobs.config import Config, plain_environment
    from nestobs.sources.clock import Clock

    read, clock = Config(config), Clock()
    target, settings = read.service()
    since = clock.now() // (DAY_S * SECOND_NS) * DAY_S * SECOND_NS
    asked = {"keyring": read.keyring(target.name), "budget": read.budget(), "environment": plain_environment()}
    hours = Hours(clock, rate=rate, since=since)
    try:
        interruptible(
            run(target, settings, store=Store.open(store), progress=Teller().tell, hours=hours, **asked)  # type: ignore[arg-type]  # by name
        )
    except KeyboardInterrupt:
        sys.exit(130)


class Day:
    """One run. `found` holds a sentence for each thing that must not be."""

    def __init__(self, out: Path, day_s: int) -> None:
        self.out, self.day_s, self.rate, self.window_s = out, day_s, DAY_S // day_s, day_s // 20
        self.store = out / "store"
        self.found: list[str] = []
        self.memory: list[int] = []
        self.url = ""

    async def run(self) -> dict[str, Any]:
        """All of it; what is printed."""
        limit = {"requests": REQUESTS, "window_s": self.window_s}
        delays = {name: {"kind": "lognormal", "median_s": 0.2, "sigma": 0.5} for name in ("info", "join", "guest")}
        scenario = Scenario.model_validate({"name": "day", "api": delays, "rate_limit": limit})
        self._older_day()
        async with Lab([scenario], self.out / "lab", seed=1, livekit="stand-in", logs="json") as self.lab:
            plan = '[run]\nlisten = "127.0.0.1:0"\n[run.canaries]\nevery = "3h"\ncount = 2\nhorizon = "8s"\n'
            plan += '[run.reports]\nat = "00:40"\nsince = "1d"\nout = "../reports"\n'
            config = self.out / "lab" / "nestobs.toml"
            config.write_text(config.read_text("utf-8") + plan, "utf-8")
            start = -(-(time.time_ns() // SECOND_NS + 8) // self.day_s) * self.day_s
            await asyncio.sleep(start - 6 - time.time())
            self._begin(config)
            await self._at(start + 0.30 * self.day_s)
            await self._killed(config)
            await self._at(start + 0.60 * self.day_s)
            held = await self._full()
            window = Window(start * SECOND_NS, (start + self.day_s) * SECOND_NS)
            report = self.out / "reports" / "daily_report" / window.name / "manifest.json"

            async def reported() -> bool:
                return report.exists()

            await self._until(reported, self.day_s + 240, "the day's report was not made")
            await self._sampled(5)
            self.process.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(self.process.wait, 60)
            self._must(code == 130, f"it ended with {code}")
            self._must(await self.lab.rooms() == [], "rooms are left")
            return self._judged(window, report, held)

    def _older_day(self) -> None:
        """Rows of the day before yesterday, to be sealed."""
        from nestobs.store.example import EXAMPLE

        at = (time.time_ns() // (DAY_S * SECOND_NS) - 2) * DAY_S * SECOND_NS
        rows = [row for _, row in zip(range(500), Store.open(EXAMPLE, create=False).observations(), strict=False)]
        with Store.open(self.store).writer() as writer:
            writer.append(replace(row, sent_at=at + number, received_at=None) for number, row in enumerate(rows))

    def _begin(self, config: Path) -> None:
        said = (self.out / "service.log").open("a")
        words = [sys.executable, "-m", "benchmarks.service_day", "serve", str(config), str(self.store), str(self.rate)]
        self.process = subprocess.Popen(
            words, stderr=said, env=os.environ | {"NESTOBS_STATE_DIR": str(self.out / "state")}
        )
        self.memory.clear()

    async def _health(self) -> dict[str, Any]:
        log = (self.out / "service.log").read_text("utf-8")
        url = log.rpartition("health is told at ")[2].split()[0]
        async with httpx.AsyncClient() as client:
            found: dict[str, Any] = (await client.get(url, timeout=30)).json()
        return found

    async def _at(self, instant_s: float) -> None:
        await self._sampled(max(0.0, instant_s - time.time()))

    async def _sampled(self, seconds: float) -> None:
        """Wait, and look at its memory meanwhile."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            text = Path(f"/proc/{self.process.pid}/status").read_text()
            self.memory.append(next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")))
            await asyncio.sleep(min(2.0, seconds))

    async def _until(self, check: Callable[[], Awaitable[object]], within_s: float, words: str) -> None:
        """Wait for what is true; after so long it is something that must not be."""
        ends = time.monotonic() + within_s
        while not (true := await check()) and time.monotonic() < ends:
            await self._sampled(0.3)
        self._must(bool(true), words)

    async def _made(self) -> bool:
        return bool(await self.lab.rooms())

    async def _clean(self) -> bool:
        return not await self.lab.rooms()

    async def _out_of_room(self) -> bool:
        return bool((await self._health())["disk"]["full"])

    async def _has_room(self) -> bool:
        return not await self._out_of_room()

    async def _killed(self, config: Path) -> None:
        """In the middle of a burst, and begun again."""
        await self._until(self._made, 60, "no burst began")
        await self._sampled(2)
        self.process.kill()
        self.process.wait()
        self._must(await self._made(), "it was not killed in the middle of a burst")
        self._begin(config)
        await self._until(self._clean, 60, "what was killed is not cleaned up")

    async def _full(self) -> set[str]:
        """Its files cannot grow until it says so, and some seconds longer; the rows that were read before."""
        held = {row.observation_id for row in Store.open(self.store).observations()}
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (1, hard))
        await self._until(self._out_of_room, 90, "a full disk was not told of")
        await self._sampled(10)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        await self._until(self._has_room, 60, "it does not go on when there is room")
        return held

    def _judged(self, window: Window, report: Path, held: set[str]) -> dict[str, Any]:
        store = Store.open(self.store)
        rows = list(store.observations())
        self._must(held <= {row.observation_id for row in rows}, "rows that were read are gone")
        self._must(store.ledger() == [], "entries of the ledger are left")
        self._must(any((self.store / "observations").glob("*.parquet")), "the older day is not sealed")
        bursts = [row.planned_at for row in rows if row.planned_at and facts_of(row.detail).get(PERIOD)]
        self._must(len(bursts) == len(set(bursts)), "a turn of canaries came twice")
        asked, refused = self._counted()
        peak = busiest(asked, float(self.window_s))
        self._must(peak <= REQUESTS, f"the lab counted {peak} requests in a window of its limit, {REQUESTS}")
        self._must(not refused, f"the lab refused {refused} requests")
        about = json.loads(report.read_text("utf-8")) if report.exists() else {}
        self._must(about.get("verdict") in ("good", "breached"), f"the day's report: {about.get('verdict')}")
        versions = [path for path in (self.out / "reports" / ".versions").iterdir() if window.name in path.name]
        self._must(len(versions) == 1, f"the day's report was made {len(versions)} times")
        first, last = max(self.memory[:15]), max(self.memory[-5:])
        self._must(last < GROWN * first, f"memory grew from {first} to {last} kB")
        return {
            "day_s": self.day_s,
            "rate": self.rate,
            "rows": len(rows),
            "nests": len({row.nest for row in rows if row.nest and row.sent_at >= window.start}),
            "bursts": len(bursts),
            "requests": len(asked),
            "busiest_window": peak,
            "refused": refused,
            "report": {name: about.get(name) for name in ("verdict", "reasons", "coverage", "rows")},
            "memory_kb": [first, last],
            "found": self.found,
        }

    def _counted(self) -> tuple[list[int], int]:
        """When the lab was asked, ns UTC, ascending, and how often it refused for its limit: by its own log."""
        lines = (self.out / "lab" / "api-day.log").read_text("utf-8").splitlines()
        answered = [json.loads(line) for line in lines if "HTTP/1.1" in line]
        at = [round(datetime.fromisoformat(one["timestamp"]).timestamp() * SECOND_NS) for one in answered]
        return sorted(at), sum('HTTP/1.1" 429' in one["message"] for one in answered)

    def _must(self, fine: bool, words: str) -> None:
        if not fine:
            self.found.append(words)


def main() -> int:
    """Run the day; the exit code."""
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/service-day"))
    parser.add_argument("--day", type=int, default=240, help="seconds of a day of the plan; they divide a day")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    day = Day(args.out, args.day)
    told = asyncio.run(day.run())
    print(json.dumps(told, indent=2))
    return 1 if told["found"] else 0


if __name__ == "__main__":
    sys.exit(main())
