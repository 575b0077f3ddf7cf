"""Completion: what is offered, and that bash and zsh, run at a terminal, complete it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestobs.cli import names
from nestobs.cli.completion import script
from nestobs.cli.help import below
from nestobs.cli.main import _parser
from nestobs.join.policy import standard_policies
from nestobs.lab import scenario_names
from nestobs.reports.publishing.execute import notebook
from worlds.command_line import Said
from worlds.shells import SHELLS, Shell

pytestmark = pytest.mark.slow

TOML = """
[targets.production]
api = "http://h"
relays = []
[targets]
"odd name".api = "http://h"
dotted.relays = []
"""


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("shell")
    (folder / "nestobs.toml").write_text(TOML)
    (folder / "other.toml").write_text(TOML.replace("production", "staging"))
    (folder / "tuned.json").write_text("{}")
    (folder / "stores").mkdir()
    made = Shell(request.param, folder)
    try:
        yield made
    finally:
        made.end()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("nestobs can", "nestobs canary"),
        ("nestobs -v exp", "nestobs -v export"),
        ("nestobs store ver", "nestobs store verify"),
        ("nestobs report catch", "nestobs report catch-up"),
        ("nestobs canary --hor", "nestobs canary --horizon"),
        ("nestobs report run daily_report --yes", "nestobs report run daily_report --yesterday"),
        ("nestobs join naddr1x --gue", "nestobs join naddr1x --guest"),
        ("nestobs canary --target prod", "nestobs canary --target production"),
        ("nestobs canary --target=prod", "nestobs canary --target=production"),
        ("nestobs doctor --config other.toml --target st", "nestobs doctor --config other.toml --target staging"),
        ("nestobs lab --scenario slow-r", "nestobs lab --scenario slow-relay"),
        ("nestobs notebook prop", "nestobs notebook propagation"),
        ("nestobs report run daily", "nestobs report run daily_report"),
        ("nestobs join x --policy manual", "nestobs join x --policy manual_retry"),
        ("nestobs replay --policy guide tun", "nestobs replay --policy guide tuned.json"),
        ("nestobs policy export guide --format vec", "nestobs policy export guide --format vectors"),
        ("nestobs timeline --store sto", "nestobs timeline --store stores"),
        ("nestobs help exit", "nestobs help exit-codes"),
        ("nestobs completion z", "nestobs completion zsh"),
        ("nestobs canary --count 1 --target nobo", "nestobs canary --count 1 --target nobo"),
        ("nestobs xyz", "nestobs xyz"),
        ("nestobs canary --horizon tun", "nestobs canary --horizon tun"),
    ],
)
def test_a_shell_completes_it(typed, completed, shell):
    assert shell.completed(typed).removesuffix("/") == completed


def test_a_shell_offers_the_targets_of_the_configuration_in_its_environment(shell):
    shell.enter("export NESTOBS_CONFIG=other.toml")
    try:
        assert shell.completed("nestobs canary --target st") == "nestobs canary --target staging"
    finally:
        shell.enter("unset NESTOBS_CONFIG")


@pytest.mark.parametrize("kind", SHELLS)
def test_a_script_has_every_command_and_flag(kind):
    said = script(kind)
    parsers = [_parser()]
    for parser in parsers:
        for name, found in below(parser).items():
            found.complete()
            assert name in said
            parsers.append(found)
        for action in parser._actions:
            assert [flag for flag in action.option_strings if flag.startswith("--") and flag not in said] == []
    assert len(parsers) > 25


def test_the_command_prints_the_script(run):
    assert run("completion", "bash") == Said(0, script("bash"), "")
    assert run("completion", "fish").code == 2


# names


def test_names_are_those_that_are_read(run):
    assert run("completion", "names", "scenarios").out.split() == scenario_names()
    assert run("completion", "names", "policies").out.split() == list(standard_policies())
    found = run("completion", "names", "notebooks").out.split()
    assert [notebook(name).stem for name in found] == found
    assert "incident" in found


def test_targets_are_of_the_configuration_that_is_named(home, run):
    assert run("completion", "names", "targets").out == ""
    (home / "nestobs.toml").write_text(TOML)
    (home / "other.toml").write_text("[targets.staging]\n")
    assert run("completion", "names", "targets").out.splitlines() == ["production", "odd name", "dotted"]
    assert run("completion", "names", "targets", "canary", "--config", "other.toml").out == "staging\n"
    assert run("completion", "names", "targets", "canary", "--config=other.toml").out == "staging\n"
    words = ("--config", "nestobs.toml", "canary", "--config", "other.toml")
    assert run("completion", "names", "targets", *words).out == "staging\n"


@pytest.mark.parametrize(
    "text", ["targets = 3", "targets = [", "[targets.\x1b]", '"targets"."a\\u001bb".api = 1', "[" * 50_000, "\xff"]
)
def test_a_configuration_that_is_none_offers_nothing_that_harms(text, home, run):
    (home / "nestobs.toml").write_bytes(text.encode("latin-1"))
    assert run("completion", "names", "targets") == Said(0, "", "")


@pytest.mark.parametrize("words", [(), ("nothing",), ("rooms", "--config")])
def test_of_what_nobody_knows_nothing_is_offered(words, run):
    assert run("completion", "names", *words) == Said(0, "", "")


def test_asking_for_names_imports_nothing_heavy():
    code = "import sys; from nestobs.cli.main import main\nmain(['completion', 'names', 'targets'])\n"
    code += "print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("argparse", "pydantic", "nestobs.config", "nestobs.lab", "nestobs.cli.arguments", "pathlib"):
        assert f"'{heavy}'" not in loaded


def test_the_package_is_where_names_look_for_it():
    assert Path(names._PACKAGE, "lab", "scenarios").is_dir()
