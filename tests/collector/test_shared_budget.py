"""One budget for all processes of a machine: real files, real locks, real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from nestobs.collector.shared_budget import KEPT_S, SharedBudget
from nestobs.join.budget import Limiter

S = 1_000_000_000
NOW = 1_700_000_000 * S
URL = "https://nests.example/api/v1/nests"


def opened(folder, *shape):
    """As another process would."""
    return SharedBudget(folder, *shape).of(URL)


def test_what_one_process_spends_the_others_have_not(tmp_path):
    first, second = opened(tmp_path), opened(tmp_path)
    assert sum(first.take(NOW) for _ in range(50)) == 50
    assert second.left(NOW) == 30
    assert sum(second.take(NOW) for _ in range(50)) == 30
    assert (first.left(NOW), first.opens_at(NOW)) == (0, NOW + 900 * S)
    assert opened(tmp_path).left(NOW + 900 * S) == 80


def test_what_one_process_is_told_holds_for_all(tmp_path):
    first, second = opened(tmp_path), opened(tmp_path)
    first.learn({"ratelimit-policy": "10;w=60"}, 200, NOW)
    assert (second.left(NOW), second.window_s) == (8, 60.0)
    second.learn({"retry-after": "30"}, 429, NOW)
    assert first.left(NOW) == 0
    assert "the server asked for a pause until 22:13:50 UTC" in first.why_shut(NOW)


def test_one_address_has_one_budget_and_another_its_own(tmp_path):
    budget = SharedBudget(tmp_path, 5, 10)
    assert budget.of(URL) is budget.of("https://NESTS.example:443/other")
    assert budget.of(URL).take(NOW)
    assert budget.of("https://nests.example:8443/api").left(NOW) == 5
    assert len(list(tmp_path.glob("*.json"))) == 2 - 1  # nothing is written of what was only looked at


def test_the_file_is_the_owners_and_holds_counts_and_instants(tmp_path):
    limiter = opened(tmp_path / "new")
    limiter.take(NOW)
    limiter.learn({"ratelimit-policy": "10;w=60", "authorization": "Nostr secret", "set-cookie": "secret"}, 200, NOW)
    (path,) = (tmp_path / "new").glob("*.json")
    assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    state = json.loads(path.read_text())
    assert set(state) == {"address", "announced", "closed", "windows", "ceilings"}
    assert state["address"] == "nests.example:443"
    assert "secret" not in path.read_text()


SPEND = """
import sys
from pathlib import Path
from nestobs.collector.shared_budget import SharedBudget
limiter = SharedBudget(Path(sys.argv[1]), 1_000).of("https://nests.example/api/v1/nests")
for turn in range(int(sys.argv[2])):
    limiter.take(1_700_000_000_000_000_000 + turn)
    if turn == 20:
        print("under way", flush=True)
print(limiter.own)
"""


def spending(folder, turns):
    return subprocess.Popen([sys.executable, "-c", SPEND, str(folder), str(turns)], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_at_once_lose_no_request(tmp_path):
    processes = [spending(tmp_path, 150) for _ in range(3)]
    said = [process.communicate(timeout=100)[0] for process in processes]
    assert said == ["under way\nFalse\n"] * 3
    assert opened(tmp_path, 1_000).left(NOW + S) == 1_000 - 3 * 150


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_a_state_and_no_lock(tmp_path):
    for _ in range(5):
        with spending(tmp_path, 10**9) as process:
            assert process.stdout.readline() == "under way\n"
            process.send_signal(signal.SIGKILL)
    limiter = opened(tmp_path, 1_000)
    assert limiter.left(NOW + S) <= 1_000 - 5 * 21
    assert not limiter.own


BROKEN = {
    "nothing": b"",
    "half a state": b'{"address": "nests.example:443", "windows": [[80, 900.0, [[17',
    "no JSON": b"\x00\xff" * 1_000,
    "a list": b"[]",
    "another address": b'{"address":"x:1","announced":1,"closed":[0,0],"windows":[[0,9,[]]],"ceilings":[]}',
    "deep": b"[" * 100_000,
    "absurd": b'{"address":"nests.example:443","announced":1,"closed":[0,1e400],"windows":[[5,9,[]]],"ceilings":[]}',
    "endless": b" " * 3_000_000,
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_counts_for_nothing_and_is_made_anew(tmp_path, what):
    opened(tmp_path).take(NOW)
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(BROKEN[what])
    limiter = opened(tmp_path)
    assert limiter.left(NOW) == 80
    assert limiter.take(NOW)
    assert opened(tmp_path).left(NOW) == 79


def test_a_clock_that_was_set_back_shuts_nothing_for_long(tmp_path):
    limiter = opened(tmp_path)
    assert sum(limiter.take(NOW) for _ in range(80)) == 80
    past = NOW - 86_400 * S
    assert opened(tmp_path).left(past) == 0
    assert opened(tmp_path).opens_at(past) <= past + 900 * S


def test_a_folder_that_cannot_be_had_leaves_a_budget_of_ones_own(tmp_path):
    (tmp_path / "file").write_text("mine")
    limiter = opened(tmp_path / "file" / "below", 2, 10.0)
    assert [limiter.take(NOW) for _ in range(3)] == [True, True, False]
    assert limiter.own
    assert (tmp_path / "file").read_text() == "mine"


def test_a_lock_that_is_held_for_long_is_not_waited_for(tmp_path):
    from filelock import FileLock

    limiter = opened(tmp_path, 2, 10.0)
    assert limiter.take(NOW)
    with FileLock(tmp_path / "lock"):
        assert limiter.take(NOW)
        assert limiter.own
    assert isinstance(limiter, Limiter)


def test_files_that_nobody_wrote_for_days_are_removed(tmp_path):
    opened(tmp_path).take(NOW)
    (path,) = tmp_path.glob("*.json")
    old = time.time() - KEPT_S - 60
    os.utime(path, (old, old))
    SharedBudget(tmp_path).of("https://another.example")
    assert list(tmp_path.glob("*.json")) == []
