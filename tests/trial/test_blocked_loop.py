"""A lab in a process of its own, our loop blocked at random: no interval without the truth, and nobody is blamed."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from nestobs.collector.canary import Campaign, run
from nestobs.collector.keyring import Keyring
from nestobs.collector.pace import Pace
from nestobs.config import Config
from nestobs.join.budget import Budget
from nestobs.join.policy import exponential
from nestobs.observation.schema import Failure
from nestobs.store.reader import Store
from nestobs.timeline.calibration import coverage, missed
from nestobs.timeline.intervals import timelines
from nestobs.trial.demo import read_truth, relay_names
from nestobs.trial.lab_process import running_lab

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("seed", "longest_s"), [(1, 0.4), (2, 2.5)], ids=["often", "long"])
async def test_intervals_hold_the_truth_and_nobody_is_blamed_while_our_loop_is_blocked(tmp_path, seed, longest_s):
    rng, store = random.Random(seed), Store.open(tmp_path / "store")
    options = ["--delay-scale", "0.2", "--stand-in"]
    async with running_lab(tmp_path / "lab", ["slow-api"], seed=seed, vantages=1, options=options) as info:

        async def block():
            while True:
                await asyncio.sleep(rng.uniform(0.1, 2 * longest_s))
                time.sleep(rng.uniform(0, longest_s))  # noqa: ASYNC251 - the fault itself

        blocking = asyncio.create_task(block())
        campaign = Campaign(count=4, policies=(exponential(0.5, give_up_age_s=6.0),), horizon_s=8.0, stagger_s=0.5)
        await run(
            [Config(tmp_path / "lab" / "nestobs.toml").target("slow-api")],
            campaign,
            store=store,
            keyring=Keyring(tmp_path / "keys"),
            budget=Budget(100_000),
            rng=rng,
            pace=Pace(),
        )
        blocking.cancel()
        await asyncio.gather(blocking, return_exceptions=True)
    rows, truth = store.frame(), read_truth(tmp_path / "lab")
    judged = coverage(timelines(rows), truth, relay_names(info))
    assert judged["contains"].notna().sum() > 20
    assert missed(judged).empty
    blamed = rows[(rows["outcome"] == "unknown") & rows["failure"].isin([Failure.TIMEOUT, Failure.UNREACHABLE])]
    assert blamed.empty, blamed[["operation", "loop_lag_s", "reason"]].to_string()
    assert rows["loop_lag_s"].max() > longest_s / 2, "it was blocked"
