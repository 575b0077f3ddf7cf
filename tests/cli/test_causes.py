"""What `join`, `ready` and `canary` say of a nest that cannot be joined: is it the race, or is it broken?

Each with LiveKit's keys and without, on labs that speak like the API's faulty releases and like the races. Requests are
counted by the lab itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nestobs.lab.scenario import read_scenario
from worlds.command_line import Host, LabBeside

pytestmark = pytest.mark.slow

NEVER = "{ kind = 'never' }"
KINDS = {
    "join-fault": "[api]\njoin_fault = '404'\n",
    "bad-token": "[api]\ntoken_fault = 'object'\n",
    "record-late": f"[api]\nrecord = {NEVER}\n",
    "livekit-late": "[livekit]\ncreated = { kind = 'constant', s = 600.0 }\n",
    "relay-late": f"[api]\nrecord = {NEVER}\n[relays]\nlast = {NEVER}\n",
}
FAULTS = {"join-fault": "api_join_fault", "bad-token": "bad_token"}
RACES = ("record-late", "livekit-late", "relay-late")


class Faulty(LabBeside):
    """A lab whose API counts its requests."""

    def __init__(self, directory: Path) -> None:
        scenarios = [read_scenario(text, name=name, where=name) for name, text in KINDS.items()]
        super().__init__(scenarios, directory, stamps=True)
        self.stamps = directory / "stamps.jsonl"

    def requests(self) -> int:
        """API requests so far."""
        return sum('"request_id"' in line for line in self.stamps.read_text().splitlines())

    def way_to(self, kind: str, *, keys: bool) -> tuple[str, ...]:
        """Flags that name a target, with LiveKit's keys or without."""
        if keys:
            return self.target(kind)
        way = self.way(kind)
        relays = [word for relay in way["relays"] for word in ("--relay", relay)]
        return ("--api", way["api"], "--livekit", way["livekit"], *relays)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    with Faulty(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def asked(lab, run):
    """`asked("ready", kind, …)`: what came of the command for a new nest, its JSON, and the API requests it made."""

    def of(command, kind, *words, keys=True):
        host = Host(lab, kind)
        address = host.open(wait=False)
        before = lab.requests()
        said = run(command, str(address), *words, *lab.way_to(kind, keys=keys), "--json")
        return said, said.data, lab.requests() - before

    return of


def ids(data):
    return [each["id"] for each in data["causes"]]


KEYS = pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])


@KEYS
@pytest.mark.parametrize("kind", FAULTS)
def test_ready_names_a_standing_fault_within_three_requests(kind, keys, asked):
    said, data, made = asked("ready", kind, keys=keys)
    assert said.code == 1
    assert FAULTS[kind] in ids(data)[:2]
    assert made <= 3
    assert data["state"] != "gone or closed"
    if keys or kind == "bad-token":
        assert ids(data)[0] == FAULTS[kind]
    if kind == "bad-token":
        assert (data["state"], data["fault"]) == ("fault", "bad_token")


@KEYS
@pytest.mark.parametrize("kind", RACES)
def test_ready_says_not_yet_of_a_race_and_calls_it_no_fault(kind, keys, asked):
    said, data, made = asked("ready", kind, keys=keys)
    assert (said.code, data["state"], data["fault"]) == (1, "not yet", "")
    assert ids(data)[0] not in FAULTS.values()
    assert made <= 3


@KEYS
@pytest.mark.parametrize("kind", FAULTS)
def test_a_join_names_the_fault_and_what_to_do(kind, keys, asked):
    said, data, made = asked("join", kind, "--policy", "guide", keys=keys)
    assert (said.code, made) == (1, 3 if kind == "join-fault" else 2)
    assert FAULTS[kind] in ids(data)[:2]
    advice = next(each["advice"] for each in data["causes"] if each["id"] == FAULTS[kind])
    assert {"guest", "operator"} <= set(advice)


@KEYS
@pytest.mark.parametrize("kind", RACES)
def test_a_join_of_a_nest_that_is_raced_names_no_fault_first(kind, keys, asked):
    said, data, _ = asked("join", kind, "--policy", "guide", keys=keys)
    assert said.code == 1
    assert ids(data)[0] not in FAULTS.values()


@pytest.mark.parametrize("command", ["ready", "join"])
def test_with_livekits_keys_an_inquiry_makes_the_fault_certain(command, asked):
    words = ("--policy", "guide") if command == "join" else ()
    said, data, made = asked(command, "join-fault", *words, "--investigate")
    assert said.code == 1
    [first, *_] = data["causes"]
    assert first["id"] == "api_join_fault"
    assert first["confidence"] >= 0.9
    assert made <= 3 + 6


@KEYS
@pytest.mark.parametrize("kind", RACES)
def test_an_inquiry_into_a_race_calls_it_no_fault_either(kind, keys, asked):
    said, data, made = asked("ready", kind, "--investigate", keys=keys)
    assert (said.code, data["fault"]) == (1, "")
    assert data["causes"][0]["confidence"] < 0.9 or data["causes"][0]["id"] not in FAULTS.values()
    assert made <= 3 + 6


def test_a_refused_join_begins_with_the_cause_and_the_attempts_stand_below(lab, run):
    address = Host(lab, "bad-token").open(wait=False)
    said = run("join", str(address), "--guest", "--policy", "guide", *lab.target("bad-token"))
    lines = said.out.splitlines()
    assert lines[0].startswith("The API lets one in and gives no token that LiveKit takes. Evidence: ")
    assert any(line.startswith("  you        Do not wait.") for line in lines)
    assert any(line.startswith("  operator   ") for line in lines)
    verdict = next(n for n, line in enumerate(lines) if line.startswith("bad_token: "))
    assert any(line.startswith("  guest      unknown  200 bad_token") for line in lines[verdict:])


def test_the_host_of_a_nest_is_told_what_a_host_can_do(lab, run, monkeypatch):
    host = Host(lab, "livekit-late")
    address = host.open(wait=False)
    monkeypatch.setenv("NESTOBS_NSEC", host.keys.to_nsec())
    said = run("join", str(address), "--policy", "guide", *lab.target("livekit-late"))
    assert "  you        Share the link some seconds after making the nest" in said.out


@pytest.mark.parametrize("inquiry", [(), ("--investigate",)], ids=["plain", "investigate"])
@KEYS
@pytest.mark.parametrize("kind", FAULTS)
def test_a_canary_names_the_fault_of_nests_that_nobody_gets_into(kind, keys, inquiry, lab, run):
    words = ("--count", "1", "--horizon", "8s", "--policy", "fixed(1)", *inquiry)
    said = run("canary", *words, *lab.way_to(kind, keys=keys), "--json")
    assert said.code == 1
    [found] = said.data["causes"]
    assert FAULTS[kind] in ids(found)[:2]
    last = said.err.splitlines()[-1]
    assert last.startswith("nestobs: nobody got in: ")
    if keys or kind == "bad-token":
        assert ids(found)[0] == FAULTS[kind]
        assert f"; {FAULTS[kind]}: " in last
    assert said.data["left"] == []


@pytest.mark.parametrize("kind", RACES)
def test_a_canary_whose_nests_are_raced_to_its_end_names_no_fault(kind, lab, run):
    words = ("--count", "1", "--horizon", "3s", "--policy", "fixed(1)", "--investigate")
    said = run("canary", *words, *lab.way_to(kind, keys=True), "--json")
    assert said.code == 1
    [found] = said.data["causes"]
    assert ids(found)[0] not in FAULTS.values()
    assert not [fault for fault in FAULTS.values() if f"{fault}: " in said.err]


def test_a_canary_says_the_cause_once_for_all_its_nests(lab, run):
    said = run("canary", "--count", "2", "--horizon", "2s", "--every", "200ms", *lab.target("bad-token"))
    assert said.out.count("The API lets one in and gives no token that LiveKit takes.") == 1
    assert "bad_token, 2 of 2 views of a nest" in said.out
