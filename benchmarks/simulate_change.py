"""How often a change of the delay law is found, where it is dated, and how often one is found that is none.

Prints one JSON object. Sets of nests a minute apart, of the two truths of tests/worlds/simulated.py, polled as the
collector does. `changed`: delays five times as long from a nest between the 40th and the 200th of 240 on; `stationary`:
one law all the time; `by_the_hour`: the nests of each hour share a factor of sigma .3, as no stationary law has it.
"""

import argparse
import json

import numpy as np

from nestobs.estimate.change_point import changes
from nestobs.timeline.delays import joinable
from worlds.simulated import TRUTHS, Floats, Truth, observe, timelines

NESTS, FACTOR = 240, 5.0


def found_at(delays: Floats, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Of each change that is found, the ends of where it lies, as places among the nests."""
    rows = joinable(timelines(*observe(delays, rng)))
    began = rows["origin_at"].iloc[0]
    return [
        tuple(round((end - began).total_seconds() / 60.0) for end in (one.first, one.last)) for one in changes(rows)
    ]


def changed(truth: Truth, rng: np.random.Generator) -> tuple[bool, bool, int, int]:
    """Whether the change was found, and its date covers the truth; how long that is, in nests; how many were found."""
    at = int(rng.integers(40, 201))
    delays = truth.draw(NESTS, rng)
    delays[at:] *= FACTOR
    found = found_at(delays, rng)
    around = [(first, last) for first, last in found if first - 12 <= at <= last + 12]
    covers = any(first < at <= last for first, last in around)
    return bool(around), covers, min((last - first for first, last in around), default=0), len(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=200)
    sets = parser.parse_args().sets
    rng = np.random.default_rng(7)
    told = {}
    for truth in TRUTHS:
        got = np.array([changed(truth, rng) for _ in range(sets)])
        still = [found_at(truth.draw(NESTS, rng), rng) for _ in range(sets)]
        hourly = [np.repeat(np.exp(0.3 * rng.standard_normal(-(-NESTS // 60))), 60)[:NESTS] for _ in range(sets)]
        shared = [found_at(truth.draw(NESTS, rng) * factor, rng) for factor in hourly]
        told[truth.name] = {
            "found": got[:, 0].mean(),
            "date_covers": got[got[:, 0] > 0, 1].mean(),
            "date_nests": float(np.median(got[got[:, 0] > 0, 2])),
            "more_than_one": (got[:, 3] > 1).mean(),
            "stationary_found": sum(map(bool, still)) / sets,
            "by_the_hour_found": sum(map(bool, shared)) / sets,
        }
    print(json.dumps({"sets": sets, "nests": NESTS} | told, indent=2))


if __name__ == "__main__":
    main()
