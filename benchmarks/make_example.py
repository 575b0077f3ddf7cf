"""Make the small store that ships with nestobs, from a real run of the lab: `--store example` opens it.

    PYTHONPATH=tests python -m benchmarks.make_example --seed 1

A minute and a half. Most nests are of the race itself, so that `tune` has something to say; a few are calm, of an API
whose joins fail for ever, or of rooms that expire; all are watched from two vantages. It is sealed, and its journal is
one file that a reader writes nothing beside. Nothing is replaced by a run of a machine that was too busy, or by a store
that `verify` complains of or that is larger than a wheel should carry: exit code 1.
"""

import argparse
import asyncio
import random
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from nestobs.cli.terminal import Teller
from nestobs.collector.canary import Campaign, run
from nestobs.collector.loop.pace import Pace
from nestobs.config import Config
from nestobs.join.budget import Budget
from nestobs.join.policy import exponential
from nestobs.store.example import SHIPPED
from nestobs.store.inventory import contents, verify
from nestobs.store.reader import Store
from nestobs.store.sealing import FOLDER
from nestobs.store.sql import INT64, JOURNAL
from nestobs.timeline.uptime import observer
from nestobs.trial.lab_process import running_lab

COUNTS = {"slow-api": 32, "calm": 2, "api-join-fault": 3, "expired-room": 2}
HORIZON_S = 48.0
SPREAD_S = 30.0
MOST_HELD_UP = 0.01
MOST_BYTES = 500_000


async def observe(out: Path, seed: int) -> Store:
    """All scenarios at once, from two vantages each."""
    store, pace = Store.open(out / "store"), Pace()
    async with running_lab(out / "lab", list(COUNTS), seed=seed, vantages=2):
        config = Config(out / "lab" / "nestobs.toml")
        keyring, budget, teller = config.keyring(), Budget(), Teller()

        async def one(scenario: str, count: int) -> None:
            campaign = Campaign(
                count=count,
                policies=(exponential(give_up_age_s=45.0),),
                horizon_s=HORIZON_S,
                stagger_s=SPREAD_S / count,
                wanted_polls=7,
                relay_polls=1,
                room_polls=4,
            )
            await run(
                [config.target(name) for name in (scenario, f"{scenario}-b")],
                campaign,
                store=store,
                keyring=keyring,
                budget=budget,
                rng=random.Random(f"{seed}/{scenario}"),
                progress=teller.tell,
                writer=writer,
                pace=pace,
            )

        async with store.writer() as writer, asyncio.TaskGroup() as group:
            for scenario, count in COUNTS.items():
                group.create_task(one(scenario, count))
    store.seal(before=INT64)
    return store


def compact(store: Store) -> None:
    """Leave of the journal what it holds, in one file that needs no other beside it."""
    with closing(sqlite3.connect(store.directory / JOURNAL, isolation_level=None)) as connection:
        for statement in ("DELETE FROM ledger", "PRAGMA journal_mode = DELETE", "PRAGMA page_size = 512", "VACUUM"):
            connection.execute(statement)


def problem(store: Store) -> str:
    """Why it should not ship, in a sentence; "" where it should."""
    share, size = observer(store.frame()).share, contents(store).size
    if share > MOST_HELD_UP:
        return f"{share:.1%} of what was planned was held up by this machine: run it on an idle one"
    if wrong := [f"{found.file}: {found.said}" for found in verify(store) if found.wrong]:
        return wrong[0]
    if size > MOST_BYTES:
        return f"it is {size:,} bytes, and may be {MOST_BYTES:,}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = asyncio.run(observe(Path(folder), args.seed))
        compact(store)
        found = contents(store)
        print(f"{found.rows:,} rows, {found.size:,} bytes, {observer(store.frame()).share:.2%} held up")
        if said := problem(store):
            print(f"not shipped: {said}", file=sys.stderr)
            return 1
        shutil.rmtree(SHIPPED, ignore_errors=True)
        (SHIPPED / FOLDER).mkdir(parents=True)
        for path in (
            Path(JOURNAL),
            *(each.relative_to(store.directory) for each in store.directory.rglob("*.parquet")),
        ):
            shutil.copyfile(store.directory / path, SHIPPED / path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
