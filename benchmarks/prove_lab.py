"""Is what replay predicts what real joins then do? Observe, tune, prove, for each scenario; count the cells inside.

    PYTHONPATH=tests python -m benchmarks.prove_lab slow-api calm slow-relay --nests 200

For each scenario: a canary observes so many nests of a lab; a policy is tuned on them; it and today's rule then join as
many fresh nests of another seed. Prints every cell, and over all scenarios the share inside its predicted 95 %
interval; writes the same to OUT/proofs.json. Exit code 1 when fewer than 90 % are inside, or something was left behind.
"""

import argparse
import asyncio
import json
import random
import sys
from pathlib import Path

from nestobs.cli.terminal import Teller
from nestobs.collector.canary import Campaign, run
from nestobs.config import Config
from nestobs.join.budget import Budget
from nestobs.join.policy import exponential
from nestobs.store.reader import Store
from nestobs.timeline.delays import round_trip_s
from nestobs.timeline.failures import failures
from nestobs.timeline.intervals import timelines
from nestobs.trial.lab_process import running_lab
from nestobs.trial.prove import STAGGER_S, Proof, bare, prove
from nestobs.tuning.policy_file import dumps
from nestobs.tuning.tuner import recommend

OBSERVED_S = 60.0
"""How long nests are watched, those that are tuned on and those of the proof."""


async def observe(scenario: str, out: Path, nests: int, seed: int) -> None:
    """A canary on a lab of its own."""
    async with running_lab(out / "lab", [scenario], seed=seed, vantages=1):
        config = Config(out / "lab" / "nestobs.toml")
        campaign = Campaign(
            count=nests,
            policies=(exponential(),),
            horizon_s=OBSERVED_S,
            stagger_s=STAGGER_S,
            joins=1,
            media=0,
            wanted_polls=24,
            relay_polls=2,
            room_polls=0,
        )
        await run(
            [bare(config.target(scenario))],
            campaign,
            store=Store.open(out / "store"),
            keyring=config.keyring(),
            budget=Budget(),
            rng=random.Random(seed),
            progress=Teller(quiet=True).tell,
        )


async def one(scenario: str, out: Path, nests: int, seed: int) -> Proof:
    """Observe, tune, prove."""
    await observe(scenario, out / "observed", nests, seed)
    observations = Store.open(out / "observed" / "store").frame()
    late_s = round_trip_s(observations)
    found = recommend(timelines(observations), round_trip_s=late_s, failures=failures(observations))
    print(f"{scenario}: {found.nests} nests, {len(observations)} observations, a round trip is {late_s * 1e3:.1f} ms")
    print(found.why, flush=True)
    file = found.file(found.tuned)
    (out / "policy.json").write_text(dumps(file))
    proof = await prove(
        file, scenario, nests, out / "proof", seed=seed + 1000, horizon_s=OBSERVED_S, progress=Teller(quiet=True).tell
    )
    print("\n".join(proof.lines()), f"{proof.wall_s} s\n", sep="\n", flush=True)
    return proof


def main() -> int:
    """Run all, print, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="+")
    parser.add_argument("--nests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/prove"))
    args = parser.parse_args()
    if args.out.exists():
        print(f"{args.out} holds an earlier run: give --out another folder, or remove it", file=sys.stderr)
        return 2
    proofs = [asyncio.run(one(name, args.out / name, args.nests, args.seed)) for name in args.scenarios]
    judged = [bool(inside) for proof in proofs for inside in proof.cells["inside"].dropna()]
    told = {"inside": sum(judged), "of": len(judged), "proofs": [proof.as_dict() for proof in proofs]}
    (args.out / "proofs.json").write_text(json.dumps(told, indent=2) + "\n")
    print(f"{sum(judged)} of {len(judged)} cells inside")
    return int(sum(judged) < 0.9 * len(judged) or any(proof.left for proof in proofs))


if __name__ == "__main__":
    raise SystemExit(main())
