"""join() of the client package is join_flow once more: in any world the same steps, waits and words, nothing left."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from nestobs.exports.javascript import module
from nestobs.exports.package import package
from nestobs.join.policy import GUIDE
from nestobs.tuning.policy_file import PolicyFile
from worlds.client_episodes import ALL, S, followed, random_episode
from worlds.client_package import need_node

pytestmark = pytest.mark.slow

CLIENT = Path(__file__).parent / "client"
TOOK = S // 7 + 13
"""Of a request, ns: odd, so that no age meets a bound of a policy to the last bit."""

EPISODES = 40


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """What join() of each of ALL's packages does in its episodes."""
    folder = tmp_path_factory.mktemp("played")
    kit = package(PolicyFile(policy=GUIDE))
    for number, policy in enumerate(ALL.values()):
        (folder / str(number)).mkdir()
        for name, text in (kit | {"policy.js": module(PolicyFile(policy=policy))}).items():
            (folder / str(number) / name).write_text(text, "ascii")

    def run(episodes, **more):
        jobs = [
            {"path": (folder / str(number) / "index.js").as_uri(), "episodes": episodes[name], "took": TOOK, **more}
            for number, name in enumerate(ALL)
        ]
        said = subprocess.run(
            [need_node(), str(CLIENT / "episodes.mjs")],
            input=json.dumps(jobs),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (said.returncode, said.stderr) == (0, "")
        return dict(zip(ALL, json.loads(said.stdout), strict=True))

    return run


@pytest.fixture(scope="module")
def episodes():
    """By policy. No Retry-After that is believed to be shorter than it says."""
    made = {name: [random_episode(random.Random(f"{name} {n}")) for n in range(EPISODES)] for name in ALL}
    for one in (one for each in made.values() for one in each):
        one["retryAfter"] = None if one["retryAfter"] == 1e9 else one["retryAfter"]
    return made


@pytest.fixture(scope="module")
def played(play, episodes):
    return play(episodes)


def test_it_takes_the_steps_of_join_flow_and_says_the_same(played, episodes):
    odd = []
    for name, policy in ALL.items():
        for episode, client in zip(episodes[name], played[name], strict=True):
            log, verdict = followed(policy, episode, took=TOOK, timeouts=True)
            told = {
                "kind": verdict.kind,
                "joined": verdict.joined,
                "message": verdict.message,
                "retryOffered": verdict.retry_offered,
                "requests": verdict.requests,
            }
            if client["log"] != log or {part: client.get(part) for part in told} != told:
                odd.append((name, policy, episode, log, told, client))
    assert odd[:1] == []
    kinds = {client["kind"] for each in played.values() for client in each}
    assert kinds >= {"authenticated", "guest", "guest_instead", "starting_up", "gone", "api_fault", "unauthorised"}
    assert kinds >= {"forbidden", "rate_limited", "api_down", "bad_token", "livekit_unreachable", "not_loaded"}


def test_the_host_is_given_restart_where_others_are_given_retry(played, episodes):
    given = 0
    for name, policy in ALL.items():
        for episode, client in zip(episodes[name], played[name], strict=True):
            _, other = followed(policy, episode | {"host": False}, took=TOOK, timeouts=True)
            wanted = episode["host"] and other.retry_offered and not other.joined
            assert client["restartOffered"] is wanted
            given += wanted
    assert given > 20


def test_it_keeps_the_budget_and_the_horizon(played):
    for name, policy in ALL.items():
        for client in played[name]:
            assert client["requests"] == len([step for step, _ in client["log"] if step in ("info", "join", "guest")])
            assert client["requests"] <= policy.max_requests
            assert sum(ns for step, ns in client["log"] if step == "wait") <= policy.horizon_s * S + 1


def test_each_step_is_an_event_and_the_verdict_is_the_last(played):
    for client in (client for each in played.values() for client in each):
        assert client["told"]
        attempts = client["types"].count("attempt")
        assert attempts == len(client["attempts"]) == len([step for step, _ in client["log"] if step != "wait"])
        assert client["types"].count("wait") == len([step for step, _ in client["log"] if step == "wait"])
        assert ("seat" in client["types"]) is client["joined"]
        assert "t" not in [value for attempt in client["attempts"] for value in attempt.values()]  # the token


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 9], ids="after {} events".format)
def test_whenever_it_is_aborted_nothing_is_left(after, play, episodes):
    """No timer, no request, no listener, no event; the error is the signal's reason."""
    some = {name: each[:10] for name, each in episodes.items()}
    said = [client for each in play(some, abortAt=after).values() for client in each]
    assert {tuple(client["left"].values()) for client in said} == {(0, 0, 0)}
    stopped = [client for client in said if "error" in client]
    assert {client["error"] for client in stopped} <= {"enough"}
    assert len(stopped) > 20
    assert after > 0 or [client["log"] for client in said if client["log"]] == []


def test_nothing_is_left_of_one_that_ended_by_itself(played):
    assert {tuple(client["left"].values()) for each in played.values() for client in each} == {(0, 0, 0)}
