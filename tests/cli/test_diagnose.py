"""`nestobs diagnose`: one line a nest, all that is known of one, JSON for scripts, and exit codes that follow."""

from __future__ import annotations

import pytest

import nestobs
from nestobs.nostr import ROOM_KIND, Address, write_naddr
from nestobs.observation.schema import Operation, Outcome, Source
from worlds.asked import join, made, polls, row, store_of
from worlds.command_line import is_one_sentence

pytestmark = pytest.mark.slow

AT = (2.0, 4.0, 8.0, 16.0, 32.0)
ADDRESS = Address(ROOM_KIND, "ab" * 32, "room")


def fault(**more):
    """A nest that every layer shows, and whose joins all answer 404."""
    shown = [
        *polls(Source.API, Operation.INFO, 0.0, AT, **more),
        *polls(Source.LIVEKIT, Operation.ROOMS, 0.0, AT, **more),
    ]
    shut = [*polls(Source.API, Operation.JOIN, 1e9, AT, **more), *polls(Source.API, Operation.GUEST, 1e9, AT, **more)]
    return [made(**more), *shown, *shut]


def well():
    """A nest somebody got into."""
    other = {"nest": f"30312:{'cd' * 32}:other", "room": "other", "trace_id": "other"}
    asked = [(Operation.JOIN, Outcome.VISIBLE, 0.1), (Operation.SIGNAL, Outcome.VISIBLE, 0.2)]
    return [made(trace_id="other"), *join(2.0, asked, "authenticated", "", **other)]


@pytest.fixture
def store(home):
    return store_of(home / "nestobs-data", [*fault(), *well()])


def test_all_nests_are_a_line_each_and_a_standing_fault_is_exit_code_1(store, run):
    said = run("diagnose")
    assert said.code == 1
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines] == ["room", "other"]
    assert "api_join_fault" in lines[0]
    assert "waiting will not help. Evidence: " in lines[0]
    assert "joined" in lines[1]


@pytest.mark.parametrize("name", ["room", str(ADDRESS), write_naddr(ADDRESS), "roo"])
def test_one_nest_by_any_of_its_names_with_all_that_is_known(name, store, run):
    said = run("diagnose", name)
    assert said.code == 1
    assert "joined" not in said.out
    assert all(words in said.out for words in ("    seen: /info active", "    operator: ", "    guest: "))


def test_json_is_what_python_gives(store, run):
    said = run("diagnose", "--json")
    assert said.data == [each.as_dict() for each in nestobs.diagnose(store)]
    assert [each["causes"][0]["id"] for each in said.data] == ["api_join_fault", "joined"]
    assert set(said.data[0]) == {"nest", "vantage", "causes"}


def test_one_vantage_is_diagnosed_with_the_others_as_witnesses(home, run):
    away = {"vantage": "Computer B"}
    asked = [polls(Source.API, way, 1e9, AT, **away) for way in (Operation.JOIN, Operation.GUEST)]
    witness = [row(Source.API, Operation.INFO, Outcome.VISIBLE, s) for s in AT]
    witness += [row(Source.LIVEKIT, Operation.ROOMS, Outcome.VISIBLE, s) for s in AT]
    store_of(home / "nestobs-data", [made(), *witness, *asked[0], *asked[1]])
    found = run("diagnose", "--vantage", "Computer B", "--json").data
    assert [(each["vantage"], each["causes"][0]["id"]) for each in found] == [("Computer B", "api_join_fault")]


def test_a_nest_that_got_in_is_0_and_what_tells_nothing_is_3(home, run):
    store_of(home / "nestobs-data", [*well(), row(Source.RELAY, Operation.QUERY, Outcome.VISIBLE, 1.0)])
    assert run("diagnose", "other").code == 0
    said = run("diagnose", "room")
    assert said.code == 3
    assert ": undetermined (" in said.out
    assert "next: " in said.out
    assert run("diagnose", "nobody-has-it").code == 3
    assert run("diagnose", "nobody-has-it", "--json").data == []


def test_a_malformed_address_is_refused(store, run):
    is_one_sentence(run("diagnose", "a room"), 2, "naddr")
