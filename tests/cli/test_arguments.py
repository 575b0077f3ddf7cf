"""Flags that several commands take: what they mean, and how a wrong one is told."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from nestobs.cli.main import _parser
from nestobs.observation.duration import read_duration
from nestobs.store.reader import Store
from nestobs.timeline.board import MOST_NESTS
from worlds.command_line import NOBODY, is_one_sentence

# words that are wrong


def test_an_unknown_target_lists_the_known_ones(home, run):
    (home / "nestobs.toml").write_text(
        '[targets.one]\napi="http://h"\nrelays=["ws://h"]\n[targets.two]\napi="x"\nrelays=[]'
    )
    is_one_sentence(run("canary", "--count", "1", "--target", "three"), 2, "'three'", "one, two", "--api")


def test_without_a_target_the_ways_to_name_one_are_told(run):
    for words in (("canary", "--count", "1"), ("watch",), ("join", "room"), ("ready", "room")):
        is_one_sentence(run(*words), 2, "--target", "nestobs.toml", "--relay")


def test_a_target_without_relays_is_told_so_and_not_that_there_is_no_target(home, run):
    (home / "nestobs.toml").write_text('[targets.one]\napi = "http://h/api/v1/nests"\nrelays = []\n')
    said = run("ready", "room", "--target", "one")
    is_one_sentence(said, 2, "relay")
    assert "no target" not in said.err


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "ftp://host/api/v1/nests",
        "http:///api/v1/nests",
        "http://[::1/api/v1/nests",
        "http://127.0.0.1:99999/api/v1/nests",
        "http://127.0.0.1:port/api/v1/nests",
    ],
)
def test_a_malformed_api_address_is_refused(url, run):
    is_one_sentence(run("ready", "room", "--api", url, "--relay", "ws://127.0.0.1:9"), 2, "http")


@pytest.mark.parametrize(
    "url", ["nonsense", "http://127.0.0.1:9", "ws://", "ws://[::1", "ws://127.0.0.1:99999", "ws://a b"]
)
def test_a_malformed_relay_address_is_refused(url, run):
    is_one_sentence(run("ready", "room", *NOBODY[:2], "--relay", url), 2, "wss://")


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "ws://", "ws://[::1", "ws://127.0.0.1:99999"])
def test_a_malformed_livekit_address_is_refused(url, run):
    is_one_sentence(run("ready", "room", *NOBODY, "--livekit", url), 2, "wss://")


@pytest.mark.parametrize("flag", ["--api", "--relay", "--livekit"])
def test_a_password_in_an_address_is_refused_and_not_repeated(flag, run, home):
    scheme = "http" if flag == "--api" else "ws"
    flags = dict(zip(NOBODY[::2], NOBODY[1::2], strict=True)) | {
        flag: f"{scheme}://me:pass1234@127.0.0.1:9/api/v1/nests"
    }
    said = run("ready", "room", *(word for pair in flags.items() for word in pair))
    assert "pass1234" not in said.out + said.err
    journal = home / "nestobs-data" / "journal.sqlite"
    kept = Store.open("nestobs-data").observations() if journal.exists() else ()
    assert "pass1234" not in "".join(map(repr, kept))
    is_one_sentence(said, 2)


@pytest.mark.parametrize("text", ["targets = [", "\x00", "[targets.a", "store = ", 'a = "\n"'])
def test_a_configuration_that_is_no_toml_is_named(text, home, run):
    (home / "nestobs.toml").write_text(text)
    is_one_sentence(run("ready", "room", *NOBODY), 2, "nestobs.toml", "TOML")


def test_a_configuration_that_is_no_text_is_named(home, run):
    (home / "nestobs.toml").write_bytes(b"\xff\xfe\x00")
    is_one_sentence(run("ready", "room", *NOBODY), 2, "nestobs.toml")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("sotre = 'x'", "sotre"),
        ("[targets.a]\napi='x'\nrelays=[]\nnsec='x'", "targets.a.nsec"),
        ("[targets.a]\nrelays=[]", "targets.a.api"),
        ("[targets.a]\napi=1\nrelays=[]", "targets.a.api"),
        ("[targets.a]\napi='x'\nrelays='ws://h'", "targets.a.relays"),
    ],
)
def test_an_unknown_or_wrong_key_of_the_configuration_is_named(text, key, home, run):
    (home / "nestobs.toml").write_text(text)
    is_one_sentence(run("doctor"), 2, "nestobs.toml", key)


def test_a_configuration_named_but_missing_is_told(run, monkeypatch):
    is_one_sentence(run("doctor", "--config", "none.toml"), 2, "none.toml", "--config")
    monkeypatch.setenv("NESTOBS_CONFIG", "neither.toml")
    is_one_sentence(run("doctor"), 2, "neither.toml", "NESTOBS_CONFIG")


def test_a_control_address_that_is_none_is_told(home, run):
    (home / "nestobs.toml").write_text(
        '[targets.a]\napi="http://127.0.0.1:9"\nrelays=["ws://127.0.0.1:9"]\ncontrol="x"'
    )
    is_one_sentence(run("ready", "room"), 2, "host:port")


SAMPLES = ("90", "90s", "1.5m", "15min", "1w", "1d", "2h30m", "1h 30m", "500ms", " 7 d ")


def durations(parser: argparse.ArgumentParser, words: str = "") -> Iterator[tuple[str, argparse.Action]]:
    """Every flag of every command whose metavar says that it takes a duration."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                below.complete()
                yield from durations(below, f"{words} {name}".strip())
        elif action.metavar == "DURATION":
            yield f"{words} {action.option_strings[0]}", action


DURATIONS = dict(durations(_parser()))


def test_there_are_durations_in_many_commands():
    assert {"canary --horizon", "live --last", "report prune --keep", "tune --request-window"} <= set(DURATIONS)


@pytest.mark.parametrize("flag", DURATIONS)
def test_every_duration_takes_the_same_words(flag):
    read, least_s = DURATIONS[flag].type, 60.0 if flag.endswith(" --period") else 0.0
    within = [text for text in SAMPLES if least_s <= read_duration(text) <= (86_400.0 if least_s else 1e6)]
    assert [read(text) for text in within] == [read_duration(text) for text in within]
    assert len(within) > 5


@pytest.mark.parametrize("flag", DURATIONS)
@pytest.mark.parametrize("text", ["", "x", "-1", "inf", "nan", "5 parsecs", "1e400", "5m5", "٣s!", "9" * 10**6])
def test_every_duration_refuses_the_same_words_and_says_what_to_write(flag, text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"is no duration.*write 90s") as refused:
        DURATIONS[flag].type(text)
    assert len(str(refused.value)) < 300


def test_no_flag_asks_for_seconds_another_way():
    def metavars(parser: argparse.ArgumentParser) -> Iterator[object]:
        for action in parser._actions:
            yield action.metavar
            if isinstance(action, argparse._SubParsersAction):
                for below in action.choices.values():
                    below.complete()
                    yield from metavars(below)

    found = set(metavars(_parser()))
    assert "DURATION" in found
    assert {"S", "SECONDS", "LENGTH", "TIME", "AGE"} & found == set()


@pytest.mark.slow
@pytest.mark.parametrize("words", ["", "x", "-1", "0", "inf", "nan", "5 parsecs", "1e400", "5m5", "٣s!"])
def test_a_duration_that_is_none_is_explained(words, run):
    said = run("canary", "--count", "1", *NOBODY, f"--horizon={words}")
    assert said.code == 2
    assert "--horizon" in said.err
    assert "write 90s" in said.err


@pytest.mark.parametrize("words", ["", "x", "-1", "1.5", "100001", "²", "1e3", "9" * 5_000])
def test_a_count_that_is_none_is_explained(words, run):
    said = run("canary", *NOBODY, f"--count={words}")
    assert said.code == 2
    assert "--count" in said.err
    assert "whole number" in said.err


@pytest.mark.parametrize("policy", ["", "nope", "fixed(-1)", "fixed(nan)", "fixed(x)", "exponential(0)", "guide()"])
@pytest.mark.parametrize("words", [("join", "room"), ("canary", "--count", "1"), ("watch", "--join", "guest")])
def test_an_unknown_policy_is_refused(policy, words, run, home):
    said = run(*words, *NOBODY, f"--policy={policy}")
    assert said.code == 2, said
    is_one_sentence(said, 2)


@pytest.mark.parametrize("port", ["99999", "-1", "²", "9" * 5_000])
def test_a_port_that_cannot_be_is_refused(port, run):
    said = run("lab", "--stand-in", f"--api-port={port}")
    assert said.code == 2
    assert "port" in said.err
    assert said.err.splitlines()[-1].startswith("nestobs")


# keys


def test_a_key_that_is_none_is_told_without_the_key(run, monkeypatch):
    monkeypatch.setenv("NESTOBS_NSEC", "garbage-that-may-be-a-secret")
    for words in (("canary", "--count", "1"), ("join", "room")):
        said = run(*words, *NOBODY)
        is_one_sentence(said, 2, "NESTOBS_NSEC")
        assert "garbage" not in said.err + said.out


def test_a_key_file_that_holds_none_is_named_without_the_key(home, run):
    (home / "key.nsec").write_text("garbage-that-may-be-a-secret\n")
    text = '[targets.a]\napi = "http://127.0.0.1:9"\nrelays = ["ws://127.0.0.1:9"]\nnsec_file = "key.nsec"\n'
    (home / "nestobs.toml").write_text(text)
    said = run("canary", "--count", "1", "--target", "a")
    is_one_sentence(said, 2, "key.nsec")
    assert "garbage" not in said.err


def test_a_missing_key_file_is_named(home, run):
    head = '[targets.a]\napi = "http://127.0.0.1:9"\nrelays = ["ws://127.0.0.1:9"]\n'
    for key in ("nsec_file", "livekit_keys_file"):
        (home / "nestobs.toml").write_text(f'{head}{key} = "none.txt"\n')
        is_one_sentence(run("canary", "--count", "1", "--target", "a"), 2, "none.txt", "nestobs.toml")


def test_a_livekit_key_file_of_another_shape_is_named_without_its_words(home, run):
    (home / "keys").write_text("only-one-secret-word")
    text = '[targets.a]\napi = "http://127.0.0.1:9"\nrelays = ["ws://127.0.0.1:9"]\nlivekit_keys_file = "keys"\n'
    (home / "nestobs.toml").write_text(text)
    said = run("canary", "--count", "1", "--target", "a")
    is_one_sentence(said, 2, "keys", "key: secret")
    assert "only-one" not in said.err


@pytest.mark.parametrize("name", ["NESTOBS_LIVEKIT_API_KEY", "NESTOBS_LIVEKIT_API_SECRET"])
def test_only_one_of_livekits_two_variables_is_refused(name, run, monkeypatch):
    monkeypatch.setenv(name, "half-of-a-secret")
    said = run("ready", "room", *NOBODY)
    is_one_sentence(said, 2, "NESTOBS_LIVEKIT_API_KEY", "NESTOBS_LIVEKIT_API_SECRET", "both")
    assert "half-of" not in said.err


def test_live_keeps_as_many_nests_as_a_board_does():
    assert _parser().parse_args(["live"]).most == MOST_NESTS
