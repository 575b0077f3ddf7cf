"""Estimates, tuning and replay against their peers, in one run. Run by `make bench`; prints one JSON object.

npmle_to_surpyval: our fit over SurPyval's of the same nests (limit: 1), proven to be within `gap` of the greatest
likelihood. No two rows are equal, as each nest is polled at a phase of its own; of `20000 on a grid` of seconds most.
tune_to_500_surpyval_fits: all of tuning 5 000 nests (500 resamples, front, judged across parts), with processes and
without, over 500 times one SurPyval fit of them (aim: at most 1; and under 10 s on two cores). peak_mib: of this
process then. moved_s: for a slider's figure of one place, for those 5 000 (limit: 0.3 s). pairs_per_s: nests times
policies replayed a second on one core, courses driven included (aim: 1e6).
tune_50000: all of tuning 50 000 nests with processes (limit: 60 s on two idle cores), and the peak memory of this
process and of the largest of the others.
npmle_slope: of log time over log n from 2 000 to 200 000 (n log n has 1.09), drawn in runs/bench/npmle.html.
lifelines_ratio: lifelines' fit of the same 2 000 nests over ours, in an environment of its own, since it keeps pandas
below 3; for scale only, absent where that cannot be made.
"""

import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: one core means one

import numpy as np

from nestobs.estimate.npmle import npmle
from nestobs.figures.sliders import polls_moved, threshold_moved
from nestobs.join.policy import exponential, fixed, named_policy
from nestobs.tuning.recommendation import Recommendation
from nestobs.tuning.simulation import courses, score
from nestobs.tuning.tuner import recommend
from nestobs.tuning.whatif import BUDGETS, COST_RATIOS, WhatIf
from worlds.simulated import TRUTHS, observe, timelines

MOVED_S = 0.3
LARGE_S = 60.0

LIFELINES = """
import json, sys, time, numpy as np
from lifelines import KaplanMeierFitter
low, high = np.array(json.load(sys.stdin))
high[np.isnan(high)] = np.inf
begin = time.perf_counter()
KaplanMeierFitter().fit_interval_censoring(low, high)
print(time.perf_counter() - begin)
"""


def nests(n: int, seed: int = 1) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return observe(TRUTHS[0].draw(n, rng), rng)


def timed(work: Any, rounds: int = 3) -> tuple[float, Any]:
    """Median seconds, and the last result."""
    took = []
    for _ in range(rounds):
        begin = time.perf_counter()
        found = work()
        took.append(time.perf_counter() - begin)
    return median(took), found


def surpyval_fit(low: Any, high: Any) -> Any:
    from surpyval import Turnbull

    ends = np.column_stack([low, high])
    kinds = np.where(np.isinf(high), 1, np.where(low <= 0, -1, 2))
    ends[kinds == 1, 1] = low[kinds == 1]
    ends[kinds == -1, 0] = high[kinds == -1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a peer's own
        return Turnbull.fit(x=ends, c=kinds, turnbull_estimator="Kaplan-Meier")


def against_surpyval(n: int, rounds: int, *, grid: bool = False) -> dict[str, float]:
    low, high = nests(n)
    if grid:
        low, high = np.floor(low), np.ceil(high)
    ours, law = timed(lambda: npmle(low, high), 5)
    theirs, _ = timed(lambda: surpyval_fit(low, high), rounds)
    return {"ours_s": ours, "surpyval_s": theirs, "ratio": ours / theirs, "gap": law.gap}


def lifelines_ratio(n: int = 2_000) -> float | None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists() and not shutil.which("uv"):
        return None
    low, high = nests(n)
    ours, _ = timed(lambda: npmle(low, high), 5)
    data = json.dumps([low.tolist(), [None if np.isinf(x) else x for x in high]]).replace("null", "NaN")
    command = [str(uv) if uv.exists() else "uv", "run", "--quiet", "--no-project", "--isolated", "--with", "lifelines"]
    try:
        done = subprocess.run(
            [*command, "python", "-c", LIFELINES], input=data, capture_output=True, text=True, timeout=300, check=True
        )
        return float(done.stdout.split()[-1]) / ours
    except (subprocess.SubprocessError, ValueError, IndexError):
        return None


def moved(found: Recommendation) -> dict[str, float]:
    """Seconds to the figure of one place of a slider of the tuning notebook in JSON, the slowest place of each."""
    whatif = WhatIf(found)
    ratios = [timed(lambda v=v: threshold_moved(found, [whatif.at(cost_ratio=v)]).to_json())[0] for v in COST_RATIOS]
    budgets = [timed(lambda v=v: polls_moved(found, [whatif.at(allowed=v)]).to_json())[0] for v in BUDGETS]
    return {"ρ": max(ratios), "requests": max(budgets), "limit": MOVED_S}


def tuning(surpyval_s: float) -> dict[str, Any]:
    table = timelines(*nests(5_000))
    alone, found = timed(lambda: recommend(table, rng=np.random.default_rng(0)), 1)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("forkserver")) as pool:
        list(pool.map(abs, range(os.cpu_count() or 1)))  # started
        together, _ = timed(lambda: recommend(table, rng=np.random.default_rng(0), executor=pool), 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    fits = 500 * surpyval_s
    return {
        "alone_s": alone,
        "with_processes_s": together,
        "peak_mib": peak,
        "fits_s": fits,
        "tune_to_500_surpyval_fits": together / fits,
        "moved_s": moved(found),
    }


def large_tuning() -> dict[str, float]:
    table = timelines(*nests(50_000))
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("forkserver")) as pool:
        took, _ = timed(lambda: recommend(table, rng=np.random.default_rng(0), executor=pool), 1)
    own, others = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"with_processes_s": took, "peak_mib": own, "peak_of_others_mib": others, "limit_s": LARGE_S}


def replay_rate() -> float:
    times = np.tile(TRUTHS[0].draw(200_000, np.random.default_rng(3)), (1, 1))
    gone = np.full(times.shape[1], np.inf)
    policies = [named_policy("manual_retry"), fixed(1), fixed(2), exponential(), named_policy("full_jitter")]

    def work() -> None:
        rng = np.random.default_rng(0)
        for policy in policies:
            score(courses(policy, np.array([1.0]), rng, shapes=1), times, gone)

    took, _ = timed(work)
    return float(len(policies) * times.shape[1] / took)


def slope() -> float:
    sizes = (2_000, 5_000, 20_000, 50_000, 200_000)
    drawn = [nests(n) for n in sizes]
    took = [timed(lambda made=made: npmle(*made), 3)[0] for made in drawn]
    import plotly.graph_objects as go

    figure = go.Figure(go.Scatter(x=sizes, y=took, mode="lines+markers", name="npmle"))
    figure.update_layout(title="Time of one fit, s, by number of nests", xaxis_type="log", yaxis_type="log")
    out = Path("runs/bench")
    out.mkdir(parents=True, exist_ok=True)
    figure.write_html(out / "npmle.html", include_plotlyjs=True)
    return float(np.polyfit(np.log(sizes), np.log(took), 1)[0])


def main() -> None:
    small, medium, big = against_surpyval(2_000, 3), against_surpyval(5_000, 2), against_surpyval(20_000, 3)
    fits = {"2000": small, "5000": medium, "20000": big, "20000 on a grid": against_surpyval(20_000, 5, grid=True)}
    found = {
        "npmle_to_surpyval": fits,
        "lifelines_ratio_2000": lifelines_ratio(),
        "tune_5000": tuning(medium["surpyval_s"]),
        "pairs_per_s": replay_rate(),
        "npmle_slope": slope(),
    }
    found["tune_50000"] = large = large_tuning()
    print(json.dumps(found, indent=2))
    if (worst := max(each["ratio"] for each in fits.values())) > 1:
        sys.exit(f"a fit takes {worst:.2f} times SurPyval's time: the limit is 1")
    if large["with_processes_s"] > LARGE_S:
        sys.exit(f"50 000 nests are tuned in {large['with_processes_s']:.0f} s: the limit is {LARGE_S:.0f} s")


if __name__ == "__main__":
    main()
