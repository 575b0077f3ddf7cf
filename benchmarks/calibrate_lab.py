"""Calibrate the instrument: many nests against the lab's ground truth; does every interval contain it?

`make calibrate`. Delays are scaled down so that a short watch sees them all. Prints, by layer and by scenario, how many
intervals contain the truth, the median width, and the widest interval over the spacing of the polls that bracket it;
how many attempts we held up ourselves, which are marked and bound nothing by a judgement; and how many layers nothing
was proven of for that. Writes the same to OUT/calibration.json. Exit code 1 when any interval misses. With --busy the
machine is kept busy beside it.
"""

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nestobs.cli.terminal import Teller
from nestobs.collector.canary import Campaign, run
from nestobs.collector.loop.pace import Pace
from nestobs.config import Config
from nestobs.join.budget import Budget
from nestobs.join.policy import exponential
from nestobs.lab import load_scenario, scenario_names
from nestobs.sources.clock import Clock
from nestobs.store.reader import Store
from nestobs.timeline.calibration import coverage, missed, summary
from nestobs.timeline.intervals import timelines
from nestobs.timeline.intervals.polls import held_up
from nestobs.trial.demo import read_truth, relay_names, running_lab

SHARES = {"calm": 0.2, "slow-relay": 0.2, "slow-api": 0.3, "api-join-fault": 0.1, "expired-room": 0.1, "never": 0.1}
WITHOUT_FAULTS = [name for name in scenario_names() if not load_scenario(name).faults]
EVERY = {name: 1 / len(WITHOUT_FAULTS) for name in WITHOUT_FAULTS}
"""Every scenario that ships, in equal parts, but for those with faults of single nests: what a fault answers in a
layer's place is told in the truth apart."""

FEW = frozenset({"rate-limited"})
"""A server's own budget pays for one nest of it."""

SCALE = 0.2
HORIZON_S = 16.0
NESTS_PER_S = 2.1


class Footprint(Teller):
    """Progress, and at every hundredth nest deleted: resident memory (MiB) and open descriptors of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted = 0

    def tell(self, what: str, facts: dict) -> None:
        super().tell(what, facts)
        if what == "deleted":
            self.deleted += 1
            if self.deleted % 100 == 0:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                mib = pages * resource.getpagesize() >> 20
                descriptors = len(list(Path("/proc/self/fd").iterdir()))
                print(f"after {self.deleted} nests: {mib} MiB resident, {descriptors} descriptors")


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that take whatever processor they are given."""
    running = [subprocess.Popen(["yes"], stdout=subprocess.DEVNULL) for _ in range(processes)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


async def measure(out: Path, nests: int, seed: int, shares: dict[str, float]) -> dict:
    """Run the campaigns; lab.json's content."""
    counts = {name: 1 if name in FEW else max(1, round(nests * share)) for name, share in shares.items()}
    pace = Pace()
    tell = Footprint().tell
    async with running_lab(
        out / "lab", list(counts), seed=seed, vantages=1, options=["--delay-scale", str(SCALE)]
    ) as info:
        config = Config(out / "lab" / "nestobs.toml")
        store = Store.open(out / "store")
        async with store.writer() as writer, asyncio.TaskGroup() as group:
            for name, count in counts.items():
                campaign = Campaign(
                    count=count,
                    policies=(exponential(0.5, give_up_age_s=12.0),),
                    horizon_s=HORIZON_S,
                    stagger_s=nests / NESTS_PER_S / count,
                    wanted_polls=16,
                    relay_polls=10,
                )
                group.create_task(
                    run(
                        [config.target(name)],
                        campaign,
                        store=store,
                        keyring=config.keyring(),
                        budget=Budget(),
                        rng=random.Random(f"{seed}/{name}"),
                        progress=tell,
                        writer=writer,
                        pace=pace,
                    )
                )
    return info


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", action="store_true", help="every scenario that ships, in equal parts")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="beside N processes that never rest")
    parser.add_argument("--out", type=Path, default=Path("runs/calibrate"))
    args = parser.parse_args()
    if (args.out / "store").exists():
        print(f"{args.out} holds an earlier run: give --out another folder, or remove it", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    began = clock.now()
    with busy(args.busy):
        info = asyncio.run(measure(args.out, args.nests, args.seed, EVERY if args.every else SHARES))
    observations = Store.open(args.out / "store").frame()
    truth = read_truth(args.out / "lab")
    lines = timelines(observations)
    table = coverage(lines, truth, relay_names(info))
    found = summary(table) | {"livekit": info["livekit"], "observations": len(observations)}
    held = held_up(observations)
    found["held_up"], found["held_up_share"] = int(held.sum()), float(held.mean())
    found["nothing_proven_for_that"] = int(((lines["polls"] == 0) & (lines["held_up"] > 0)).sum())
    found["by_scenario"] = {name: summary(part)["contain_truth"] for name, part in table.groupby("scenario") if name}
    found["wall_s"] = round((clock.now() - began) / 1e9, 1)
    (args.out / "calibration.json").write_text(json.dumps(found, indent=2) + "\n")
    for layer, row in found["by_layer"].items():
        widest = row["max_width_over_spacing"]
        ratio = "" if widest is None else f", widest {widest:.3f} of the spacing"
        print(f"{layer:<16} {row['contain_truth']}/{row['n']} contain, median width {row['median_width_s']} s{ratio}")
    for name, part in table[table["contains"].notna()].groupby("scenario"):
        print(f"{name:<16} {int(part['contains'].sum())}/{len(part)} contain")
    print(f"held up ourselves: {found['held_up']} of {len(observations)} rows ({found['held_up_share']:.1%})")
    print(f"nothing proven for that: {found['nothing_proven_for_that']} of {len(lines)} timelines")
    print(f"all {found['contain_truth']}/{found['n']}; {len(observations)} observations in {found['wall_s']} s")
    print(f"{info['livekit']['kind']} {info['livekit']['version']}")
    misses = missed(table)
    if len(misses):
        print(misses.to_string())
    return 1 if len(misses) else 0


if __name__ == "__main__":
    raise SystemExit(main())
