"""join() against a lab in node: in the race, in the fault, in a 429; aborted, it is gone."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from nestobs.join.decision import GONE, THERE, TRYING, WAITING, Kind
from nestobs.join.policy import Policy
from worlds.client_front import Front
from worlds.client_labs import FRUGAL, PATIENT, world
from worlds.client_package import Project, installed_policy, need_node

pytestmark = pytest.mark.slow

CLIENT = Path(__file__).parent / "client"


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    folder = tmp_path_factory.mktemp("driven")
    made = {policy.name: installed_policy(folder / policy.name, policy) for policy in (PATIENT, FRUGAL)}
    for project in made.values():
        (project.folder / "driven.mjs").write_text((CLIENT / "driven.mjs").read_text("utf-8"))
    return made


@pytest.fixture
def drive(projects):
    """join() in node on a nest: what it told and what came of it."""

    def run(front: Front, *, signed: bool = True, stop_at: str = "", policy: Policy = PATIENT, **more: Any):
        words = {
            "api": front.api,
            "sign": f"{front.origin}/sign" if signed else None,
            "stopAt": stop_at,
            **more,
        }
        said = subprocess.run(
            [need_node(), "driven.mjs", json.dumps(words)],
            cwd=projects[policy.name].folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert said.returncode == 0, said.stderr
        found = json.loads(said.stdout)
        assert found["made"] > 0
        assert found["left"] == 0
        if "verdict" in found:
            assert found["verdict"]["requests"] == len(front.asked) <= policy.max_requests
        return found

    return run


def of(said: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in said["events"] if event["type"] == kind]


class TestInNode:
    @pytest.mark.parametrize("signed", [True, False], ids=["signed in", "guest"])
    def test_in_the_race_it_waits_and_joins(self, signed, drive, tmp_path):
        with world("slow-api", tmp_path) as front:
            said = drive(front, signed=signed)
        verdict = said["verdict"]
        assert verdict["kind"] in ((Kind.AUTHENTICATED, Kind.GUEST_INSTEAD) if signed else (Kind.GUEST,))
        assert verdict["token"].count(".") == 2
        assert of(said, "wait")[0]["message"].startswith(WAITING[Kind.STARTING_UP] + TRYING)
        assert [status for _, _, status in front.asked] == [each["status"] for each in of(said, "attempt")]

    def test_in_the_fault_it_says_that_the_room_is_there(self, drive, tmp_path):
        with world("api-join-fault", tmp_path) as front:
            said = drive(front)
        assert (said["verdict"]["kind"], said["verdict"]["message"]) == (Kind.API_FAULT, THERE)
        assert said["verdict"]["token"] is None

    @pytest.mark.parametrize("dated", [False, True], ids=["seconds", "date"])
    def test_a_429_is_waited_for_as_it_says(self, dated, drive, tmp_path):
        with world("limited", tmp_path, dated=dated) as front:
            said = drive(front)
        assert said["verdict"]["kind"] == Kind.AUTHENTICATED
        limited = [event for event in of(said, "attempt") if event["status"] == 429]
        waits = [event["seconds"] for event in of(said, "wait") if event["kind"] == Kind.RATE_LIMITED]
        assert [event["retryAfterSeconds"] for event in limited] == waits
        assert 1 <= len(waits) <= 3
        assert all(1 <= wait <= 4 for wait in waits)

    def test_a_429_for_longer_than_anybody_waits_ends_it_with_the_time(self, drive, tmp_path):
        with world("limited-long", tmp_path) as front:
            said = drive(front)
        assert said["verdict"]["kind"] == Kind.RATE_LIMITED
        assert re.fullmatch(r"Too many requests .* Try again in (8\d\d|900) s\.", said["verdict"]["message"])
        assert not said["verdict"]["retryOffered"]

    @pytest.mark.parametrize("host", [False, True], ids=["anybody", "host"])
    def test_it_stops_within_its_budget_with_the_words_of_the_page(self, host, drive, tmp_path):
        with world("never", tmp_path) as front:
            said = drive(front, policy=FRUGAL, host=host)
        verdict = said["verdict"]
        assert (verdict["kind"], verdict["message"], verdict["requests"]) == (Kind.GONE, GONE, 6)
        assert (verdict["retryOffered"], verdict["restartOffered"]) == (not host, host)

    def test_a_signature_that_the_server_does_not_take_ends_it(self, drive, tmp_path):
        with world("limited-long", tmp_path) as front:
            said = drive(front, sign=f"{front.origin}/no-signer")
        assert said["verdict"]["kind"] == Kind.UNAUTHORISED
        assert [each["step"] for each in of(said, "attempt")] == ["info", "join"]

    def test_aborted_while_it_waits_it_is_gone(self, drive, tmp_path):
        with world("never", tmp_path) as front:
            said = drive(front, stop_at="wait")
            assert said["error"] == "enough"
            assert [event["type"] for event in said["events"]][-1] == "wait"
            assert len(front.asked) == 3

    def test_aborted_while_it_asks_it_hangs_up(self, drive, tmp_path):
        with world("never", tmp_path) as front:
            front.holds = True
            said = drive(front, stop_at="held")
            assert (said["error"], said["events"], front.held) == ("enough", [], 1)
            for _ in range(500):
                if front.left:
                    break
                time.sleep(0.01)
            assert front.left == 1
