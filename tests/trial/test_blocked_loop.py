"""A lab in a process of its own, our loop blocked at random: no interval without the truth, and nobody is blamed."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time

import pytest

from nestobs.collector.canary import Campaign, run
from nestobs.collector.keyring import Keyring
from nestobs.collector.loop.pace import Pace
from nestobs.config import Config
from nestobs.join.budget import Budget
from nestobs.join.policy import exponential
from nestobs.observation.schema import Failure
from nestobs.store.reader import Store
from nestobs.timeline.calibration import coverage, missed
from nestobs.timeline.failures import failures
from nestobs.timeline.intervals import timelines
from nestobs.timeline.intervals.polls import HELD_UP_S
from nestobs.timeline.omissions import held_up_words
from nestobs.timeline.uptime import observer
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
    ours = observer(rows)
    assert (ours.late + ours.skipped > 0.05 * ours.attempts) or longest_s < HELD_UP_S
    assert bool(ours.words) or longest_s < HELD_UP_S
    assert bool(held_up_words(failures(rows))) == ours.much, "then nothing is recommended"


STEPPED = """
import sys, time
ns, began = time.time_ns, time.time_ns()
time.time_ns = lambda: ns() + (40 * 10**9 if ns() - began > 5 * 10**9 else 0)
from nestobs.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The command line on a machine whose clock is stepped by 40 s after 5 s."""


async def test_a_run_whose_clock_was_stepped_says_so_first(tmp_path):
    options = ["--delay-scale", "0.2", "--stand-in"]
    async with running_lab(tmp_path / "lab", ["calm"], seed=1, vantages=1, options=options):
        words = ["canary", "--config", str(tmp_path / "lab" / "nestobs.toml"), "--target", "calm", "--count", "2"]
        words += ["--horizon", "8s", "--store", str(tmp_path / "store")]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", STEPPED, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"NESTOBS_STATE_DIR": str(tmp_path / "state")},
        )  # fmt: skip
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    first = out.decode().splitlines()[0]
    assert first.startswith("The observing machine itself was held up in")
    assert "its clock was stepped once (by up to 40.0 s)" in first
    ours = observer(Store.open(tmp_path / "store", create=False).frame())
    assert (ours.steps, round(ours.stepped_s)) == (1, 40)
