"""Calibrate the instrument: many nests against the lab's ground truth; does every interval contain it?

`make calibrate`. Delays are scaled down so that a short watch sees them all. Prints, by layer, how many intervals
contain the truth, the median width, and the widest interval over the spacing of the polls that bracket it; writes the
same to OUT/calibration.json. Exit code 1 when any interval misses.
"""

import argparse
import asyncio
import json
import random
import resource
import sys
from pathlib import Path

from nestobs.cli.terminal import Teller
from nestobs.collector.canary import Campaign, run
from nestobs.config import Config
from nestobs.join.budget import Budget
from nestobs.join.policy import exponential
from nestobs.sources.clock import Clock
from nestobs.store.reader import Store
from nestobs.timeline.calibration import coverage, summary
from nestobs.timeline.intervals import timelines
from nestobs.trial.demo import read_truth, relay_names, running_lab

SHARES = {"calm": 0.2, "slow-relay": 0.2, "slow-api": 0.3, "api-join-fault": 0.1, "expired-room": 0.1, "never": 0.1}
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


async def measure(out: Path, nests: int, seed: int) -> dict:
    """Run the campaigns; lab.json's content."""
    counts = {name: round(nests * share) for name, share in SHARES.items()}
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
                    )
                )
    return info


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/calibrate"))
    args = parser.parse_args()
    if (args.out / "store").exists():
        print(f"{args.out} holds an earlier run: give --out another folder, or remove it", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    began = clock.now()
    info = asyncio.run(measure(args.out, args.nests, args.seed))
    observations = Store.open(args.out / "store").frame()
    table = coverage(timelines(observations), read_truth(args.out / "lab"), relay_names(info))
    found = summary(table) | {"livekit": info["livekit"], "observations": len(observations)}
    found["wall_s"] = round((clock.now() - began) / 1e9, 1)
    (args.out / "calibration.json").write_text(json.dumps(found, indent=2) + "\n")
    for layer, row in found["by_layer"].items():
        widest = row["max_width_over_spacing"]
        ratio = "" if widest is None else f", widest {widest:.3f} of the spacing"
        print(f"{layer:<16} {row['contain_truth']}/{row['n']} contain, median width {row['median_width_s']} s{ratio}")
    print(f"all {found['contain_truth']}/{found['n']}; {len(observations)} observations in {found['wall_s']} s")
    print(f"{info['livekit']['kind']} {info['livekit']['version']}")
    misses = table[~table["contains"]]
    if len(misses):
        print(misses.to_string())
    return 0 if found["contain_truth"] == found["n"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
