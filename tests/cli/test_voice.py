"""-v and -q: more or less on standard error, and results as they are. Colours: none unless somebody sees them."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from nestobs.store.example import EXAMPLE
from worlds.command_line import NOBODY, is_one_sentence, raw_controls

pytestmark = pytest.mark.slow

READERS = ["timeline", "diagnose", "live --once", "store info", "store verify", "metrics", "export --csv x.csv"]


@pytest.mark.parametrize("line", READERS)
def test_a_result_is_the_same_with_v_and_with_q(line, run):
    words = [*line.split(), "--store", EXAMPLE]
    said = {flag: run(*words, flag) for flag in ("-v", "-q")}
    plain = run(*words)
    steady = {flag: re.sub(r"\d+", "0", one.out) if "live" in line else one.out for flag, one in said.items()}
    assert set(steady.values()) == {re.sub(r"\d+", "0", plain.out) if "live" in line else plain.out}
    assert {one.code for one in said.values()} == {plain.code}
    assert said["-q"].err == ""
    assert "store: example" in said["-v"].err
    assert f"with exit code {plain.code}\n" in said["-v"].err
    assert all(each.startswith("nestobs: ") for each in said["-v"].err.splitlines())


def test_an_error_is_told_with_q_and_with_json(run):
    is_one_sentence(run("timeline", "-q"), 5, "nestobs-data")
    is_one_sentence(run("ready", "-q", "--json", "room", "--target", "x"), 2, "x")


def test_progress_is_told_with_v_one_line_each_and_with_q_not_at_all(lab, run):
    words = ("canary", *lab.target("calm"), "--count", "2", "--horizon", "2s", "--every", "100ms", "--seed", "1")
    loud, still = run(*words, "-v", "--json"), run(*words, "-q", "--json")
    assert (loud.code, still.code) == (0, 0)
    assert loud.err.count("created: room ") == 2
    assert loud.err.count("deleted: room ") == 2
    assert "target: calm from " in loud.err
    assert raw_controls(loud.err) == []
    assert still.err == ""
    assert loud.data["nests"] == still.data["nests"] == 2


def test_v_tells_no_secret(lab, run, monkeypatch):
    from nestobs.nostr import Keys

    key = Keys.generate().to_nsec()
    monkeypatch.setenv("NESTOBS_NSEC", key)
    monkeypatch.setenv("NESTOBS_LIVEKIT_API_KEY", "devkey")
    monkeypatch.setenv("NESTOBS_LIVEKIT_API_SECRET", "a-secret-that-nobody-sees")
    said = run("ready", "room", *NOBODY, "-v")
    assert "nobody-sees" not in said.err + said.out
    assert key not in said.err + said.out


# colours


def at_a_terminal(*words: str, **environment: str) -> bytes:
    """All that a command writes to a terminal."""
    ours, theirs = pty.openpty()
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", "FORCE_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "nestobs", *words], stdout=theirs, stderr=theirs, env=known | environment
    ) as running:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # nobody has the other end any more
                break
            if not part:
                break
            said += part
        running.wait(60)
    os.close(ours)
    return said


COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-7]|38|9[0-7]|4[0-7]|48|10[0-7])[;m]")


def test_a_terminal_is_shown_colours():
    assert COLOUR.search(at_a_terminal("live", "--once", "--store", EXAMPLE, TERM="xterm-256color"))


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "TERM": "xterm-256color"}, {"TERM": "dumb"}])
@pytest.mark.parametrize("line", ["live --once", "timeline", "--help"])
def test_no_colour_is_no_colour(line, environment):
    words = line.split() + (["--store", EXAMPLE] if line in ("live --once", "timeline") else [])
    said = at_a_terminal(*words, **environment)
    assert said
    assert not COLOUR.search(said)


@pytest.mark.parametrize("line", ["live --once", "timeline"])
def test_where_no_terminal_reads_there_are_no_escapes(line):
    known = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"}
    words = [sys.executable, "-m", "nestobs", *line.split(), "--store", EXAMPLE]
    said = subprocess.run(words, capture_output=True, check=False, env=known)
    assert said.stdout
    assert b"\x1b" not in said.stdout + said.stderr
