"""kill -9 a canary at random instants; is every acknowledged row there, does the next start leave nothing behind?

Nothing: no room, no record, no event that a relay shows open, no entry of the ledger, no key, and of what cleaning
asked no row of a timeline.

    PYTHONPATH=tests python -m benchmarks.kill_canary --kills 20

A row is acknowledged when a reader of the store can see it. After each kill `nestobs canary --count 0` is the next
start. Prints one line a kill and exits 1 when anything was lost or left.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

from websockets.asyncio.client import connect

from nestobs.lab import Lab
from nestobs.nostr import ROOM_KIND, req
from nestobs.store.reader import Store
from nestobs.timeline.intervals import timelines

WORDS = ["--count", "8", "--horizon", "10s", "--every", "500ms"]


async def canary(folder: Path, *words: str) -> asyncio.subprocess.Process:
    """A canary in a process of its own."""
    command = [sys.executable, "-m", "nestobs", "canary", "--config", str(folder / "lab" / "nestobs.toml")]
    command += ["--target", "slow-api", "--store", str(folder / "store"), "--json", *words]
    environment = os.environ | {"NESTOBS_STATE_DIR": str(folder / "state")}
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )


async def open_events(lab: Lab) -> list[str]:
    """Where an event still says that its nest is open."""
    found = []
    for url in lab.info["scenarios"]["slow-api"]["vantages"][0]["relays"]:
        async with connect(url) as relay:
            await relay.send(req("all", {"kinds": [ROOM_KIND]}))
            while (frame := json.loads(await relay.recv()))[0] != "EOSE":
                if ["status", "open"] in frame[2]["tags"]:
                    found.append(url)
    return found


async def kills(folder: Path, count: int, seed: int) -> int:
    """How many kills lost or left something."""
    dice, bad = random.Random(seed), 0
    async with Lab(["slow-api"], folder / "lab", seed=seed) as lab:
        for number in range(count):
            process = await canary(folder, *WORDS)
            after_s = dice.uniform(1.0, 14.0)
            await asyncio.sleep(after_s)
            store = Store.open(folder / "store")
            seen = {row.observation_id for row in store.observations()}
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()
            kept = {row.observation_id for row in store.observations()}
            open_entries, alive = len(store.ledger()), len(lab.nests())
            mended = await canary(folder, "--count", "0")
            _, said = await mended.communicate()
            left = [*await lab.rooms(), *lab.nests(), *store.ledger(), *(folder / "state" / "keys").glob("*")]
            left += await open_events(lab)
            lost = len(seen - kept)
            bad += bool(lost or left or mended.returncode)
            print(
                f"{number + 1:>2}  killed after {after_s:5.2f} s: {len(seen)} rows acknowledged, {lost} lost; "
                f"{open_entries} ledger entries open, {alive} nests alive; after the next start {len(left)} left",
                said.decode().strip() if mended.returncode else "",
                flush=True,
            )
        found = timelines(Store.open(folder / "store").frame())
        lacking = int((found["origin_kind"] == "").sum())
        print(f"{len(found)} timelines, {lacking} without an origin", flush=True)
    return bad + bool(lacking)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        raise SystemExit(1 if asyncio.run(kills(Path(name), args.kills, args.seed)) else 0)
