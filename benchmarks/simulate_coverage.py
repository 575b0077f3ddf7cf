"""Do nominal 95 % intervals hold the truth in 93 to 97 % of simulated sets? (make coverage)

    PYTHONPATH=tests python -m benchmarks.simulate_coverage [--sets 200] [--sizes 100 500 5000] [--draws 200] [--shares]

For each truth and number of nests: the band of P(delay <= t) at 2, 5, 10 and 30 s, the interval of the tuned
message threshold (cost ratio .25), and the predicted cost per joiner of the tuned policy, judged across parts of the
data, against the cost that this very policy has under the truth. The binomial error of the share is printed beside it.

--shares: of the joined share alone, as replayed, of SHOWN. What it rests on was measured by itself, 600 sets of 50
nests of known instants, of both truths: who asks once .94 and .97, the person .96 and .95, every 2 s to 30 s .95 and
.95, to 90 s .96 and .96; by plain resampling .91, .96, .93, .92, .94, .89, .92 and .91 of the same sets.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
from scipy.optimize import brentq
from threadpoolctl import threadpool_limits

from nestobs.estimate.npmle import npmle
from nestobs.join.policy import GUIDE, MANUAL_RETRY, Policy, exponential, fixed
from nestobs.timeline.delays import joinable
from nestobs.tuning.decisions import Terms
from nestobs.tuning.doubts.unseen import Unseen
from nestobs.tuning.imputation import recorded
from nestobs.tuning.replay import PRICES, Arena, middles
from nestobs.tuning.simulation import courses, score
from nestobs.tuning.threshold import COST_RATIO, threshold_interval
from nestobs.tuning.tuner import Tuner
from worlds.simulated import NEVER, TRUTHS, Truth, observe, timelines

AGES = (2.0, 5.0, 10.0, 30.0)
SHOWN = (GUIDE, MANUAL_RETRY, fixed(2), exponential())
"""Nobody asks again; a person does; so often that only those who never come are lost."""

NAMES = (*(f"F({age:g} s)" for age in AGES), "threshold", "cost")


def below_inside_above(low: float, high: float, truth: float) -> int:
    """-1: the truth is below the interval, 0: inside, 1: above."""
    return -1 if truth < low else 1 if truth > high else 0


def one(task: tuple[int, int, int, int]) -> list[int]:
    """One simulated set: where the truth of each of NAMES lies."""
    which, n, number, draws = task
    truth = TRUTHS[which]
    rng = np.random.default_rng([which, n, number])
    with threadpool_limits(1, "blas"):
        delays = joinable(timelines(*observe(truth.draw(n, rng), rng)))
        labels = np.arange(n)
        law = npmle(delays["lower_s"].to_numpy(), delays["upper_s"].to_numpy())
        found = law.bootstrap(labels, rng, draws=draws)
        low, high = found.cdf(AGES)
        places = [below_inside_above(*each) for each in zip(low, high, truth.cdf(AGES), strict=True)]
        edge = brentq(lambda t: 1.0 - truth.cdf(t) - NEVER * (1.0 + COST_RATIO), 0.1, 1000.0)
        places.append(below_inside_above(*threshold_interval(found, COST_RATIO), float(edge)))
        return [*places, cost_place(truth, delays, law, labels, draws, rng)]


def joined(task: tuple[int, int, int, int]) -> list[int]:
    """One simulated set: where the true joined share of each of SHOWN lies."""
    which, n, number, draws = task
    truth, rng = TRUTHS[which], np.random.default_rng([which, n, number])
    with threadpool_limits(1, "blas"):
        delays = joinable(timelines(*observe(truth.draw(n, rng), rng)))
        arena = Arena(recorded(delays, rng), Terms(arrivals=middles(None), prices=PRICES), draws, rng)
        places = []
        for policy in SHOWN:
            found = arena.numbers(arena.play(policy).scores, arena.courses(policy))["joined_share"]
            places.append(below_inside_above(found.lower, found.upper, true_share(which, policy)))
    return places


@cache
def true_share(which: int, policy: Policy) -> float:
    """What replay comes to on as many nests as one likes."""
    ways = courses(policy, middles(None), np.random.default_rng(0), shapes=100, people=64)
    times = true_times(TRUTHS[which], 2_000)
    return float(score(ways, np.tile(times, (len(ways[0]), 1)), np.full(len(times), math.inf)).joined.mean())


def true_times(truth: Truth, n: int) -> np.ndarray:
    """Delays at the middles of so many equal parts of the law, seconds; inf for never."""
    shares = (np.arange(n) + 0.5) / n
    grid = np.geomspace(1e-3, 1e4, 200_001)
    times = np.interp(shares, truth.cdf(grid), grid, right=math.inf)
    times[shares > 1.0 - NEVER] = math.inf
    return times


def cost_place(truth: Truth, delays: object, law: object, labels: object, draws: int, rng: np.random.Generator) -> int:
    """Predicted cost of the tuned policy against its true one."""
    ages = middles(None)
    terms = Terms(arrivals=ages, prices=PRICES)
    tuner = Tuner(delays=delays, terms=terms, today=MANUAL_RETRY, rng=rng, draws=draws)
    smooth = law.smooth(blocks=labels)
    plan = terms.decide(Unseen.of(law.rows, law.n).added(smooth), 30.0)
    arena = Arena(recorded(delays, rng, law=smooth), terms, draws, rng)
    tuned, _ = tuner.crossfit(arena, smooth, labels)
    predicted = arena.cost(tuned.scores)
    times = true_times(truth, 20_000)
    real = score(arena.courses(plan.policy), np.tile(times, (4, 1)), np.full(len(times), math.inf))
    return below_inside_above(predicted.lower, predicted.upper, float(real.cost(PRICES).mean()))


def main() -> None:
    """Print a line a figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 500, 5000])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--shares", action="store_true")
    args = parser.parse_args()
    names = [policy.name for policy in SHOWN] if args.shares else NAMES
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for which, n in itertools.product(range(len(TRUTHS)), args.sizes):
            tasks = [(which, n, number, args.draws) for number in range(args.sets)]
            places = np.array(list(pool.map(joined if args.shares else one, tasks, chunksize=4)))
            for name, column in zip(names, places.T, strict=True):
                share, error = float((column == 0).mean()), math.sqrt(0.95 * 0.05 / args.sets)
                good = 0.93 - 1.96 * error <= share <= 0.97 + 1.96 * error
                print(
                    f"{TRUTHS[which].name:10} n {n:5} {name:10} covers {share:.3f} +- {1.96 * error:.3f}"
                    f"   truth below {int((column < 0).sum()):3} above {int((column > 0).sum()):3}"
                    f"   {'ok' if good else 'NOT within 93-97 % and error'}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
