"""How good are policies tuned on simulated nests? Against every 2 s, full jitter and the true optimum, over many sets.

PYTHONPATH=tests python -m benchmarks.simulate_policy [--sets 80]
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import brentq

from nestobs.estimate.law import survival
from nestobs.estimate.npmle import npmle
from nestobs.tuning.schedule import Expected, PollTable, optimal_polls
from worlds.simulated import TRUTHS, Truth, observe

PRICES = {"delay_cost": 1.0, "lost_value": 300.0, "never_cost": 0.0, "horizon": 240.0}


def under(truth: Truth, times: list[float] | tuple[float, ...]) -> Expected:
    """Requests, delay and lost share of polls at these ages, from a 404 at age 0."""
    held = survival(truth)
    walk = np.array([0.0, *times])
    asked, coming, area = (
        held.at(walk),
        held.coming(walk),
        held.area(np.unique(np.r_[walk, np.linspace(0, walk[-1], 2000)])),
    )
    nodes = np.unique(np.r_[walk, np.linspace(0, walk[-1], 2000)])
    passed = np.interp(walk, nodes, area)
    delay = float((np.diff(walk) * coming[:-1]).sum() - (passed[-1] - passed[0]))
    return Expected(float(asked[:-1].sum()), delay, float(coming[-1]))


def full_jitter_times(rng: np.random.Generator, end: float = 60.0) -> list[float]:
    """One course of full jitter: base 1 s, factor 2, cap 30 s, no gap begun at `end` or later."""
    age, times = 0.0, []
    while age < end:
        age += min(30.0, 2.0 ** len(times)) * rng.random()
        times.append(age)
    return times


def at_requests(law: object, truth: Truth, requests: float) -> PollTable:
    """The table tuned on `law` whose polls, under the truth, make as many requests."""

    def table(log_price: float) -> PollTable:
        return optimal_polls(law, request_cost=float(np.exp(log_price)), **PRICES)

    found = brentq(lambda x: under(truth, table(x).grid_times).requests - requests, -7.0, 5.0, xtol=1e-3)
    return table(float(found))


def regret(law: object, truth: Truth) -> float:
    """Cost under the truth of the table tuned on `law`, over the least, less 1."""
    prices = {**PRICES, "lost_value": 60.0, "request_cost": 0.5}
    best, tuned = optimal_polls(truth, **prices), optimal_polls(law, **prices)
    costs = []
    for table in (best, tuned):
        seen = under(truth, table.grid_times)
        costs.append(0.5 * seen.requests + seen.delay + 60.0 * seen.lost)
    return costs[1] / costs[0] - 1.0


def main() -> None:
    """Print one line a truth and figure: mean, and the 5th and 95th percentile over the sets."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=80)
    sets = parser.parse_args().sets

    def tell(what: str, values: list[float], limit: str) -> None:
        low, high = np.percentile(values, [5, 95])
        print(
            f"{what}: mean {np.mean(values):.4f}, 5-95 % {low:.4f} to {high:.4f} over {len(values)} sets ({limit})",
            flush=True,
        )

    for truth in TRUTHS:
        fixed = under(truth, [2.0 * k for k in range(1, 16)])
        rng = np.random.default_rng(1)
        herd = [under(truth, full_jitter_times(rng)) for _ in range(400)]
        jitter = Expected(*np.mean(herd, axis=0))
        lost, delay, asked, far = [], [], [], []
        for number in range(sets):
            rng = np.random.default_rng([number, 500])
            law = npmle(*observe(truth.draw(500, rng), rng)).smooth()
            first = under(truth, at_requests(law, truth, fixed.requests).grid_times)
            second = under(truth, at_requests(law, truth, jitter.requests).grid_times)
            lost.append(first.lost / fixed.lost)
            asked.append(first.requests / fixed.requests)
            delay.append(second.delay / jitter.delay)
            rng = np.random.default_rng([number, 1000])
            far.append(regret(npmle(*observe(truth.draw(1000, rng), rng)).smooth(), truth))
        print(f"{truth.name}: every 2 s to 30 s {fixed}; full jitter {jitter}")
        tell("  lost joins over every 2 s to 30 s, equal requests, n = 500", lost, "wanted at most .1")
        tell("  requests over those", asked, "1")
        tell("  delay over full jitter, equal requests, n = 500", delay, "wanted at most .5 for bimodal")
        tell("  regret to the true optimum, n = 1000", far, "wanted under .03")


if __name__ == "__main__":
    main()
