"""The demo end to end, with shorter watching: the summary's shape, the truth, nothing left, a report that is there."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nestobs.collector.canary import Report
from nestobs.errors import UnreachableError, UsageError
from nestobs.join.decision import Kind
from nestobs.lab.livekit.server import find_binary
from nestobs.trial import demo
from nestobs.tuning.tuner import recommend
from worlds.simulated import TRUTHS, observe, timelines

pytestmark = pytest.mark.slow


@pytest.fixture
def short(monkeypatch):
    """A few seconds of watching in place of most of a minute."""
    monkeypatch.setattr(demo, "HORIZON_S", 8.0)
    monkeypatch.setattr(demo, "SPREAD_S", 4.0)
    monkeypatch.setattr(demo, "TUNED_SPREAD_S", 3.0)


async def run(out):
    said = []
    summary = await demo.demo(out, nests=14, seed=3, progress=lambda what, facts: said.append((what, facts)))
    assert {"lab", "plan", "created", "verdict", "deleted", "tune", "report"} <= {what for what, _ in said}
    assert any("not tuned" in facts.get("said", "") for _, facts in said)
    return summary


def test_what_was_tuned_stands_in_the_summary():
    found = recommend(timelines(*observe(TRUTHS[0].draw(120, rng := np.random.default_rng(5)), rng)), draws=100)
    told = demo._told(found, None)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    low, high = told["message_threshold"]["interval_s"]
    assert low <= told["message_threshold"]["tuned_s"]
    assert high is None or high >= told["message_threshold"]["tuned_s"]
    assert told["recommendation"] == found.why


async def test_its_summary_has_the_shape_it_promises_and_holds(short, tmp_path):
    summary = await run(tmp_path / "demo")
    assert summary == json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert set(summary) == {
        "nestobs", "wall_s", "livekit", "relays", "observations", "scenarios", "intervals", "truth_width_s", "leaks",
        "report", "message_threshold", "recommendation", "policies", "proof", "held_up", "observer", "failed",
    }  # fmt: skip
    assert summary["message_threshold"] == {"today_s": 30.0, "tuned_s": None, "interval_s": None}, "6 nests are too few"
    assert summary["policies"] == []
    assert summary["proof"] is summary["recommendation"] is None
    assert set(summary["scenarios"]) == set(demo.SHARES)
    assert sum(scenario["nests"] for scenario in summary["scenarios"].values()) == summary["leaks"]["made"] == 14
    for scenario in summary["scenarios"].values():
        assert set(scenario["verdicts"]) <= set(map(str, Kind)) - {Kind.NOT_VISITED}, "its own rooms are visited"
    intervals = summary["intervals"]
    assert intervals["contain_truth"] == intervals["n"] > 200
    assert intervals["median_width_s"] > 0
    assert {"api:info", "api:join", "api:guest", "client", "relay:relay-1"} <= set(intervals["by_layer"])
    assert summary["leaks"]["left"] == 0
    assert summary["failed"] == []
    assert 0 <= summary["held_up"] < 0.5
    assert "<html" in (tmp_path / "demo" / summary["report"]).read_text()[:2_000]


async def test_on_the_stand_in_it_says_so_wherever_its_results_show(short, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("NESTOBS_LIVEKIT_SERVER", "NESTOBS_REQUIRE_LIVEKIT"):
        monkeypatch.delenv(name, raising=False)
    kept = [
        folder for folder in os.environ["PATH"].split(os.pathsep) if not (tmp_path / folder / "livekit-server").exists()
    ]
    monkeypatch.setenv("PATH", os.pathsep.join(kept))
    if find_binary() is not None:
        pytest.skip("a livekit-server is installed where it cannot be hidden")
    summary = await run(tmp_path / "demo")
    assert summary["livekit"]["kind"] == "stand-in"
    assert "livekit:media" not in summary["intervals"]["by_layer"]
    assert summary["intervals"]["contain_truth"] == summary["intervals"]["n"]
    assert "stand-in" in (tmp_path / "demo" / "report.ipynb").read_text()
    joined = {"authenticated", "guest", "guest_instead"}
    assert joined & set(summary["scenarios"]["calm"]["verdicts"])
    assert "livekit_unreachable" not in summary["scenarios"]["calm"]["verdicts"]


@pytest.mark.parametrize("mine", ["mine", "lab/mine", "store/mine", "lab/lab.json ../mine"])
async def test_a_folder_of_somebody_else_is_left_alone(mine, tmp_path):
    files = [tmp_path / "lab" / name if name.startswith("..") else tmp_path / name for name in mine.split()]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    with pytest.raises(UsageError, match="another folder"):
        await demo.demo(tmp_path, progress=lambda *_: None)
    assert [file.read_text() for file in files] == ["mine"] * len(files)


async def test_each_scenario_needs_a_nest(tmp_path):
    with pytest.raises(UsageError, match="at least 7"):
        await demo.demo(tmp_path / "demo", nests=6, progress=lambda *_: None)


@pytest.mark.parametrize("nests", [7, 8, 20, 66, 100, 999])
def test_the_nests_are_spread_whole(nests):
    counts = demo.spread(nests)
    assert sum(counts.values()) == nests
    assert min(counts.values()) >= 1


def test_a_demo_that_failed_says_what_of():
    good, bad = Report("a", made=3), Report("b", refused=2, refusals=Counter({"no answer within 10 s": 2}))
    assert demo._failed({"calm": good}, []) == []
    assert demo._failed({"calm": good, "never": bad}, ["LiveKit lists x"]) == [
        "never: none of 2 nests was made: no answer within 10 s",
        "1 left behind: LiveKit lists x",
    ]


async def test_a_mistake_inside_one_of_its_tasks_comes_out_as_itself(tmp_path, monkeypatch):
    async def unreachable(*_, **__):
        raise UnreachableError("the API does not answer")

    monkeypatch.setattr(demo, "run", unreachable)
    with pytest.raises(UnreachableError, match="does not answer"):
        await demo.demo(tmp_path / "demo", nests=7, progress=lambda *_: None)


def test_make_writes_nothing_into_the_demos_folder_that_the_next_demo_would_refuse():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    assert "runs/demo/" not in makefile
    assert "--to runs/notebook" in makefile  # and not into the demo's
