"""herd as its users meet it."""

from __future__ import annotations

import json

import pytest

import nestobs
from nestobs.join.policy import fixed
from nestobs.tuning.policy_file import PolicyFile, dumps
from worlds.command_line import is_one_sentence

pytestmark = pytest.mark.slow

FEW = ("--joiners", "400")


def test_it_says_what_the_function_finds(run):
    words = ("--arrivals", "decay(5s)", "--behind", "20", "--requests", "50", "--request-window", "1min", "--seed", "3")
    said = run("herd", "fixed(2)", *FEW, *words, "--json")
    found = nestobs.herd("fixed(2)", 400, arrivals="decay(5s)", behind="20", requests=50, window_s=60.0, seed=3)
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == json.loads(json.dumps(found.as_dict()))
    assert run("herd", "fixed(2)", *FEW, *words).out.splitlines() == found.lines()


def test_a_policy_and_ages_may_be_files(run, tmp_path):
    (tmp_path / "ages.txt").write_text("0\n1.5\n20s\n", "utf-8")
    (tmp_path / "policy.json").write_text(dumps(PolicyFile(policy=fixed(2))), "utf-8")
    said = run("herd", str(tmp_path / "policy.json"), *FEW, "--arrivals", str(tmp_path / "ages.txt"), "--json")
    found = json.loads(said.out)
    assert (found["policy"], found["arrivals"]) == ("fixed(2)", "at one of 3 ages given, from 0 s to 20 s")


def test_a_store_tells_when_nests_can_be_joined(run):
    found = json.loads(run("herd", "guide", *FEW, "--joinable", "example", "--json").out)
    assert found["joinable"].startswith("as the ")
    assert 0 < found["lost"]["value"] < 400
    guests = json.loads(run("herd", "guide", *FEW, "--guest", "--joinable", "example", "--json").out)
    assert {each["kind"] for each in guests["told"]} <= {"guest", "starting_up", "gone"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("guide", "--arrivals", "soon"), "are no law"),
        (("guide", "--joinable", "soon"), "is no duration"),
        (("guide", "--behind", "2:10%"), "100 % in all"),
        (("nobody",), "is unknown"),
        (("there/is/none.json",), "there is no such policy file"),
    ],
)
def test_a_mistake_is_one_sentence(run, words, said):
    found = run("herd", *words)
    is_one_sentence(found, 2, said)


def test_an_empty_store_has_no_law(run, tmp_path):
    nestobs.open(tmp_path / "store")
    found = run("herd", "guide", "--joinable", str(tmp_path / "store"))
    is_one_sentence(found, 1)
