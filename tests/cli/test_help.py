"""What is said of each command: on one screen, whole, and the same everywhere. Each rule is over all parsers."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator

import pytest

from nestobs.cli.arguments import CommandParser
from nestobs.cli.help import ENVIRONMENT, EXIT_CODES, LINES, WIDTH, below, whole
from nestobs.cli.main import COMMANDS, _parser, overview
from nestobs.errors import meant
from worlds.command_line import GOLDEN, WRITE_GOLDEN, is_one_sentence


def parsers(parser: argparse.ArgumentParser, words: str = "") -> Iterator[tuple[str, CommandParser]]:
    """Every command there is, by what is typed, after `nestobs`."""
    for name, found in below(parser).items():
        found.complete()
        yield f"{words} {name}".strip(), found
        yield from parsers(found, f"{words} {name}".strip())


PARSERS = dict(parsers(_parser()))
RUN = [words for words, parser in PARSERS.items() if not parser.command.below]
CODES = {int(code) for code in re.findall(r"^  (\d+)  ", EXIT_CODES, re.M)}


def test_there_are_commands_with_others_below():
    assert {"canary", "report run", "store info", "help"} <= set(PARSERS)
    assert {"report", "store", "policy"}.isdisjoint(RUN)


@pytest.mark.parametrize("kind", ["help", "whole"])
@pytest.mark.parametrize("words", ["", *PARSERS])
def test_help_is_as_written_down(words, kind, monkeypatch, run):
    """Regenerate with NESTOBS_WRITE_GOLDEN=1 and read the difference."""
    monkeypatch.setenv("COLUMNS", "100")
    said = run(*words.split(), "--help") if kind == "help" else run("help", *words.split())
    file = GOLDEN / f"{kind}-{words.replace(' ', '-') or 'nestobs'}.txt"
    if WRITE_GOLDEN:
        file.write_text(said.out, "utf-8")
    assert said.code == 0
    assert said.err == ""
    assert said.out == file.read_text("utf-8")


def test_no_text_is_kept_of_a_command_that_is_gone():
    names = {words.replace(" ", "-") or "nestobs" for words in ("", *PARSERS)}
    assert {path.stem.partition("-")[2] for path in GOLDEN.glob("*.txt")} == names


# one screen


@pytest.mark.parametrize("words", ["", *PARSERS])
def test_help_fits_a_screen_and_says_where_the_rest_is(words, run):
    lines = run(*words.split(), "--help").out.splitlines()
    assert len(lines) <= LINES == 24
    assert max(map(len, lines)) <= WIDTH == 80
    assert re.search(rf"^the rest: .*nestobs help {words or 'COMMAND'}", lines[-1])
    assert lines[0].startswith("usage: nestobs")


@pytest.mark.parametrize("lines", [24, len(COMMANDS) + 3, len(COMMANDS) + 2, 12, None])
def test_the_list_names_those_for_which_there_is_no_line(lines):
    said = overview(lines)
    assert said.count("\n") <= (lines or len(COMMANDS) + 3)
    assert [name for name, _, _ in COMMANDS if not re.search(rf"^  (also .*)?\b{name}\b", said, re.M)] == []
    assert ("also" in said) == (lines is not None and lines < len(COMMANDS) + 3)


@pytest.mark.parametrize("words", PARSERS)
def test_no_argument_is_missing_on_the_screen_nor_in_the_whole(words, run):
    parser = PARSERS[words]
    screen, all_of_it = run(*words.split(), "--help").out, whole(parser)
    for action in parser._actions:
        for place, flag in enumerate(action.option_strings if action.dest != "help" else ()):
            assert place or re.search(rf"(^|\W){re.escape(flag)}\b", screen), flag
            assert re.search(rf"(^|\W){re.escape(flag)}\b", all_of_it), flag
        if action.help and not action.option_strings:
            assert "".join(action.help.split()) in "".join(all_of_it.split())


def test_a_command_with_more_flags_than_a_screen_has_lines_names_them_all(run):
    parser = CommandParser(prog="nestobs many")
    parser.command = PARSERS["lab"].command._replace(adds=(), home="")
    for number in range(60):
        parser.add_argument(f"--flag-{number}", metavar="N", required=number > 57, help="a very long word " * 20)
    said = parser.format_help()
    assert {f"--flag-{number}" for number in range(60)} == set(re.findall(r"--flag-\d+", said))
    assert "usage: nestobs many --flag-58 N --flag-59 N [flags]" in said


# examples, environment, exit codes


@pytest.mark.parametrize("words", PARSERS)
def test_each_command_has_examples_that_parse(words, run):
    said = run(*words.split(), "--help").out
    examples = re.findall(r"^  nestobs (.*)$", said, re.M)
    assert list(PARSERS[words].command.examples) == examples
    assert examples
    for example in examples:
        assert example.startswith(f"{words} ") or example == words
        args = _parser().parse_args(shlex.split(re.split(" [>|&]", example)[0]))
        assert callable(args.command)


@pytest.mark.parametrize("words", PARSERS)
def test_each_command_tells_the_environment_that_its_flags_read(words):
    parser, said = PARSERS[words], whole(PARSERS[words])
    flags = {flag for action in parser._actions for flag in action.option_strings}
    due = {"--config": ["NESTOBS_CONFIG"], "--target": ["NESTOBS_NSEC", "NESTOBS_LIVEKIT_API_KEY", "NESTOBS_STATE_DIR"]}
    for name in [*parser.variables, *(name for flag in due if flag in flags for name in due[flag])]:
        assert name in parser.variables
        assert f"  {name} " in said
        assert ENVIRONMENT[name] in said


def test_help_on_the_environment_has_every_variable_that_is_read(run):
    from nestobs.config import Environment

    said = run("help", "environment").out
    read = {field.validation_alias or f"NESTOBS_{name.upper()}" for name, field in Environment.model_fields.items()}
    assert read <= set(ENVIRONMENT)
    assert [name for name in ENVIRONMENT if f"{name}\n" not in said] == []


@pytest.mark.parametrize("words", PARSERS)
def test_each_command_has_its_exit_codes_on_one_line(words, run):
    line = next(each for each in run(*words.split(), "--help").out.splitlines() if each.startswith("exit codes: "))
    found = [int(code) for code in re.findall(r"(\d+) [^,]+", line)]
    assert found == sorted(set(found))
    assert {0, 2, 130} <= set(found) <= CODES
    assert line in whole(PARSERS[words]).splitlines()


def test_help_on_exit_codes_has_them_all(run):
    assert run("help", "exit-codes").out == EXIT_CODES


def test_no_usage_error_has_the_code_of_a_nest_that_is_gone():
    from nestobs.collector.lookup import GONE
    from nestobs.errors import UsageError

    assert GONE in CODES
    assert UsageError.exit_code != GONE


# -v and -q


@pytest.mark.parametrize("words", PARSERS)
def test_every_command_takes_v_and_q(words):
    flags = {flag: action for action in PARSERS[words]._actions for flag in action.option_strings}
    assert flags["-v"] is flags["--verbose"]
    assert flags["-q"] is flags["--quiet"]


@pytest.mark.parametrize("line", ["-v live", "live -v", "live --verbose"])
def test_v_is_heard_before_and_after_the_command(line):
    args = _parser().parse_args(line.split())
    assert (args.verbose, args.quiet) == (True, False)


def test_v_and_q_together_are_refused(run):
    said = run("live", "-v", "-q")
    assert said.code == 2
    assert "not allowed with" in said.err


# the list of commands


def test_the_list_of_commands_says_what_each_says_of_itself():
    assert list(below(_parser())) == [name for name, _, _ in COMMANDS]
    for name, _, text in COMMANDS:
        assert PARSERS[name].command.name == name
        assert PARSERS[name].command.text == text


def test_help_without_a_topic_is_the_list(run):
    assert run("--help").out == run("-h").out
    assert [line for line in run("--help").out.splitlines() if line not in run("help").out and "also" not in line] == []
    assert run("help").out == overview(None)


@pytest.mark.parametrize(
    ("line", "near"),
    [("help cannary", "canary"), ("help exit", "exit-codes"), ("help report rnu", "run"), ("help EXPORT", "export")],
)
def test_help_on_what_there_is_not_says_what_was_meant(line, near, run):
    is_one_sentence(run(*line.split()), 2, f"did you mean {near}?", "nestobs --help")


def test_help_on_nonsense_suggests_nothing(run):
    said = run("help", "qqqqqqqq" * 1000)
    is_one_sentence(said, 2, "nestobs --help")
    assert "mean" not in said.err
    assert len(said.err) < 200


# words that are near


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("cannary --count 1", "canary"),
        ("Ready room", "ready"),
        ("reports run x", "report"),
        ("repaly", "replay"),
        ("canary --cout 1", "--count"),
        ("canary --count 1 --polcy guide", "--policy"),
        ("canary --count=1 --horizons=3s", "--horizon"),
        ("report run x --yesturday", "--yesterday"),
        ("report rnu x", "run"),
        ("store verfy", "verify"),
        ("policy export guide --format jsn", "json"),
        ("lab --api_port 1", "--api-port"),
        ("join room --joson", "--json"),
    ],
)
def test_a_word_that_is_near_is_asked_for(line, near, run):
    said = run(*line.split())
    assert said.code == 2
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("nestobs")
    assert f"did you mean {near}?" in said.err.splitlines()[-1]


@pytest.mark.parametrize("line", ["qqqq", "canary --count 1 --xyzzy", "store zzzz"])
def test_a_word_that_is_near_to_none_is_only_refused(line, run):
    said = run(*line.split())
    assert said.code == 2
    assert "mean" not in said.err


def test_a_value_that_looks_like_a_flag_after_two_dashes_is_none(run):
    is_one_sentence(run("help", "--", "--cout"), 2, "no help")


def test_the_beginning_of_a_flag_will_still_do():
    assert _parser().parse_args(["canary", "--count", "1", "--hor", "3s"]).horizon == 3.0


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("ready room --target prodction", "production"),
        ("doctor --target Production", "production"),
        ("canary --count 1 --target production --also stag", "staging"),
        ("lab --scenario slow_api", "slow-api"),
        ("lab --scenario clam", "calm"),
        ("join room --target production --policy manual-retry", "manual_retry"),
        ("join room --target production --policy exponental(1)", "exponential(1)"),
        ("policy export relased --format js", "released"),
        ("notebook incidents", "incident"),
        ("notebook incident --parameter stoer=x", "store"),
    ],
)
def test_a_name_that_is_near_is_asked_for(line, near, home, run):
    head = 'api = "http://127.0.0.1:9"\nrelays = ["ws://127.0.0.1:9"]\n'
    (home / "nestobs.toml").write_text(f"[targets.production]\n{head}[targets.staging]\n{head}")
    is_one_sentence(run(*line.split()), 2, f"did you mean {near}?")


@pytest.mark.parametrize("line", ["doctor --target qqqq", "lab --scenario qqqq", "policy export qqqq --format js"])
def test_a_name_that_is_near_to_none_is_only_refused(line, home, run):
    (home / "nestobs.toml").write_text('[targets.production]\napi = "http://127.0.0.1:9"\nrelays = []\n')
    said = run(*line.split())
    is_one_sentence(said, 2)
    assert "mean" not in said.err


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("CALM", ["calm"], "calm"),
        ("slow", ["slow-api", "slow-relay"], "slow-api"),
        ("slow_a", ["slow-api", "slow-relay"], "slow-api"),
        ("", ["a", "b"], ""),
        ("--", ["--json"], ""),
        ("x" * 10**6, ["xx"], ""),
        ("calm", [], ""),
    ],
    ids=["case", "one of two that begin so", "one begins so", "nothing", "dashes", "very long", "none known"],
)
def test_what_is_meant_is_the_one_that_is_near(word, known, near):
    assert meant(word, known) == (f" (did you mean {near}?)" if near else "")
