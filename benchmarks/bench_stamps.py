"""The instrument's own stamps against the lab's stamps of the same requests, in ms: how far apart are they?

For the API and the relays: the lab's arrival minus our `sent_at`, and our `received_at` minus the lab's departure.
Run it on an idle machine. Aim: p99 under 5 ms.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from nestobs.collector.station import open_station
from nestobs.config import Config
from nestobs.join.budget import Limiter
from nestobs.nostr import ROOM_KIND, Address, Keys
from nestobs.observation.schema import Observation
from nestobs.sources.vantage import Trace
from nestobs.trial.demo import running_lab

REQUESTS = 500
SPACING_S = 0.02


async def measure(folder: Path) -> list[Observation]:
    """Ask API and first relay in turn; the rows."""
    rows: list[Observation] = []

    async def nothing() -> bool:
        return True

    async with running_lab(folder, ["calm"], seed=1, vantages=1, options=["--stamps"]):
        target = Config(folder / "nestobs.toml").target("calm")
        async with open_station(
            target, run_id="bench", sink=rows.append, committed=nothing, limiter=Limiter(10**6)
        ) as station:
            await station.relays[0].ready(5)
            address = Address(ROOM_KIND, Keys.generate().public, "none")
            for _ in range(REQUESTS):
                await station.api.info(Trace(room="none"))
                await station.relays[0].query(Trace(room="none"), address=address)
                await asyncio.sleep(SPACING_S)
    return rows


def report(rows: list[Observation], stamps: list[dict]) -> None:
    """Print median and p99 of both gaps, by source."""
    arrived = {key(stamp): stamp.get("received_at") or stamp["at"] for stamp in stamps if stamp.get("what") != "eose"}
    left = {key(stamp): stamp.get("answered_at") or stamp["at"] for stamp in stamps if stamp.get("what") != "req"}
    for source in ("api", "relay"):
        pairs = [(row, plain(row.observation_id)) for row in rows if row.source == source]
        to = np.array([arrived[name] - row.sent_at for row, name in pairs if name in arrived]) / 1e6
        back = np.array([row.received_at - left[name] for row, name in pairs if name in left]) / 1e6
        for name, gap in (("sent -> lab", to), ("lab -> received", back)):
            median, p99 = np.percentile(gap, [50, 99])
            print(f"{source:<6} {name:<16} n {len(gap)}  median {median:.3f} ms  p99 {p99:.3f}  least {gap.min():.3f}")


def key(stamp: dict) -> str:
    """The observation a stamp belongs to, as 32 hex digits."""
    return plain(stamp.get("request_id") or stamp["subscription"])


def plain(name: str) -> str:
    """A UUID without its hyphens."""
    return name.replace("-", "")


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    found = asyncio.run(measure(folder))
    report(found, [json.loads(line) for line in (folder / "stamps.jsonl").read_text().splitlines()])
