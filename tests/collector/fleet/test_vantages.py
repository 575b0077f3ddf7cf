"""Vantages in processes of their own beside a canary: what is started, ended, and said of those that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nestobs.collector.fleet import vantages
from nestobs.collector.fleet.vantages import Beside, Placed, beside
from nestobs.store.reader import Store
from worlds.command_line import LabBeside, clear_environment, is_one_sentence, process

pytestmark = pytest.mark.slow

WATCHING = "import sys, time; print('here watches the nests of x', file=sys.stderr, flush=True); time.sleep({})"


def placed(tmp_path, name, code, *, program=sys.executable):
    return Placed(name=name, words=(), store=tmp_path / name, start=(program, "-c", code))


@pytest.fixture(autouse=True)
def soon(monkeypatch, tmp_path):
    clear_environment(monkeypatch, tmp_path)
    monkeypatch.setattr(vantages, "READY_S", 8.0)
    monkeypatch.setattr(vantages, "LINGER_S", 0.1)


async def test_one_that_dies_or_never_begins_is_named_and_the_others_go_on(tmp_path):
    said = []
    places = [
        placed(tmp_path, "well", WATCHING.format(60)),
        placed(tmp_path, "dead", WATCHING.format(0.1) + "; import os; os.kill(os.getpid(), 9)"),
        placed(tmp_path, "wrong", "import sys; print('nestobs: the disk is full', file=sys.stderr); sys.exit(5)"),
        placed(tmp_path, "absent", "", program="no-such-program"),
    ]
    async with beside(places, ["--host", "x"], lambda what, facts: said.append(facts["said"])) as found:
        assert said[0].startswith("2 of 4 vantages watch: well") or said[0].startswith("1 of 4 vantages watch: well")
        while found[1].code is None:
            await vantages.asyncio.sleep(0.01)
    by_name = {each.name: each for each in found}
    assert not by_name["well"].lost or by_name["well"].code == -signal.SIGTERM  # a plain sleep has no handler
    assert (by_name["dead"].code, by_name["dead"].lost) == (-9, True)
    assert "signal 9, early" in by_name["dead"].words()
    assert (by_name["wrong"].code, by_name["wrong"].lost) == (5, True)
    assert "the disk is full" in by_name["wrong"].words()
    assert by_name["absent"].code is None
    assert "cannot be started" in by_name["absent"].words()
    assert all(str(tmp_path / name) in by_name[name].words() for name in ("well", "dead", "wrong"))


async def test_one_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(vantages, "END_S", 0.3)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WATCHING.format(60)
    async with beside([placed(tmp_path, "deaf", deaf)], [], lambda what, facts: None) as (found,):
        pass
    assert (found.told, found.code, found.lost) == (True, -9, True)


def test_one_that_was_told_to_end_and_did_is_not_lost():
    assert not Beside("a", "s", code=130, told=True).lost
    assert not Beside("a", "s", code=0, told=True).lost
    assert Beside("a", "s", code=0).lost
    assert Beside("a", "s", code=5, told=True).lost


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    text = '[[vantages]]\nname = "here"\n[[vantages]]\nname = "berlin"\n[[vantages]]\nname = "quito"\n'
    path = tmp_path_factory.mktemp("lab") / "places.toml"
    path.write_text(text)
    with LabBeside([path], path.parent / "lab", livekit="stand-in") as running:
        yield running


VANTAGES = (
    '[vantages.berlin]\ntarget = "places-berlin"\n[vantages.quito]\ntarget = "places-quito"\nstore = "far/quito"\n'
)
CANARY = ("canary", "--count", "1", "--horizon", "4s", "--policy", "fixed(0.5)", "--vantages", "vantages.toml")


def test_a_canary_with_vantages_leaves_a_store_each_of_one_nest(lab, tmp_path):
    Path("vantages.toml").write_text(VANTAGES)
    said = process(*CANARY, "--json", *lab.target("places"))
    assert said.code == 0, said
    assert [(each["name"], each["lost"]) for each in said.data["vantages"]] == [("berlin", False), ("quito", False)]
    stores = {"here": "nestobs-data", "berlin": "nestobs-data-berlin", "quito": "far/quito"}
    (room,) = said.data["rooms"]
    traces = set()
    for name, folder in stores.items():
        rows = list(Store.open(tmp_path / folder, create=False).observations())
        assert {row.vantage for row in rows} == {name}
        about = {row.trace_id for row in rows if row.room == room}
        assert about, f"{name} did not find the nest"
        traces |= about
    assert len(traces) == 1
    assert lab.nests() == []


def test_a_vantage_that_is_killed_costs_its_own_rows_and_is_told(lab, tmp_path):
    Path("vantages.toml").write_text(VANTAGES)
    words = [sys.executable, "-m", "nestobs", *CANARY, "-v", *lab.target("places")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        for line in running.stderr:
            if "vantages watch" in line:
                break
        assert "2 of 2 vantages watch" in line
        os.kill(_process_of("quito", running.pid), signal.SIGKILL)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 1, (out, err)
    assert "vantage quito ended with signal 9, early" in out
    assert "1 of 2 vantages did not observe to the end: quito" in err
    assert "made 1 nests" in out
    assert list(Store.open(tmp_path / "nestobs-data-berlin", create=False).observations())


def test_an_interrupted_canary_takes_its_vantages_along(lab):
    Path("vantages.toml").write_text(VANTAGES)
    words = [sys.executable, "-m", "nestobs", *CANARY, "-v", *lab.target("places")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        for line in running.stderr:
            if "vantages watch" in line:
                break
        others = [_process_of(name, running.pid) for name in ("berlin", "quito")]
        running.terminate()
        running.communicate(timeout=60)
    assert running.returncode == 130
    assert [pid for pid in others if Path(f"/proc/{pid}").exists()] == []
    assert lab.nests() == []


def _process_of(name: str, parent: int) -> int:
    """The child whose words name this vantage."""
    for _ in range(200):
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().decode().split("\0")
                of = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if of == parent and "--vantage" in words and words[words.index("--vantage") + 1] == name:
                return int(path.name)
        time.sleep(0.05)
    raise AssertionError(f"no process of {name}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "vantages: Field required"),
        ("[vantages]", "vantages: "),
        ("[vantages.a]\nspeed = 1", "vantages.a.speed is no known key"),
        ("[vantages.'../a']\n", "vantages"),
        ("[vantages.a]\ntarget = 'none'", "target 'none' is unknown"),
        ("[vantages.a]\napi = 'http://127.0.0.1:9/api/v1/nests'", "--relay"),
        ("[vantages", "is not valid TOML"),
    ],
)
def test_a_file_of_vantages_that_cannot_be_is_one_sentence(lab, text, words):
    Path("vantages.toml").write_text(text)
    is_one_sentence(process(*CANARY, *lab.target("places")), 2, words)


def test_a_file_that_is_not_there_is_one_sentence(lab):
    is_one_sentence(process(*CANARY, *lab.target("places")), 2, "there is no vantages.toml", "--vantages")


def test_both_joiners_are_for_ones_own_nests_alone(lab):
    is_one_sentence(process("watch", "--join", "both", *lab.target("places")), 2, "--host")
    said = process("watch", "--host", "npub1nonsense", *lab.target("places"))
    is_one_sentence(said, 2, "neither an npub nor 64 hex digits")


def test_what_was_said_is_json(lab):
    """An empty table is the canary's own target once more."""
    Path("vantages.toml").write_text("[vantages.again]\n")
    said = process(*CANARY, "--json", *lab.target("places"))
    assert said.code == 0, said
    assert json.loads(said.out)["vantages"][0]["store"].endswith("/nestobs-data-again")
