"""A fleet of five in the lab: wrong clocks, cut networks, one late and one killed; is every interval still true?

    python -m benchmarks.fleet_lab --out runs/fleet

Prints, for each vantage, its rows, how many of its intervals contain the truth, and how many of the offsets that its
rows state are within their stated error; then how wide intervals are that rest on two clocks. Writes the same to
OUT/fleet.json. Exit code 1 and the reasons when an interval misses, an offset is off by more than it says, or a row is
lost or doubled.
"""

import argparse
import asyncio
from pathlib import Path

from nestobs.cli.terminal import Teller
from nestobs.trial.fleet import Work, sentences, trial


def main() -> int:
    """Run it, print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/fleet"))
    parser.add_argument("--scale", type=float, default=1.0, help="of all delays and of when things happen")
    parser.add_argument("--nests", type=int, default=40)
    parser.add_argument("--every", type=float, default=6.0, help="seconds between two nests")
    parser.add_argument("--horizon", type=float, default=30.0, help="seconds each is watched")
    parser.add_argument("--polls", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stand-in", action="store_true")
    args = parser.parse_args()
    work = Work(nests=args.nests, every_s=args.every, horizon_s=args.horizon, polls=args.polls, scale=args.scale)
    running = trial(args.out, work=work, seed=args.seed, stand_in=args.stand_in, progress=Teller().tell)
    found = asyncio.run(running)
    print("\n".join(sentences(found)))
    for said in found["failed"][:40]:
        print(f"FAILED {said}")
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
