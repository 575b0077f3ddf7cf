"""The README is true, and so are the pages of the site: commands parse, targets exist, tables are the code's."""

from __future__ import annotations

import pkgutil
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

import nestobs
from nestobs import errors
from nestobs.cli.help import EXIT_CODES
from nestobs.cli.main import _parser
from worlds.written_pages import DOCS, README, SITE

ROOT = Path(nestobs.__file__).parent.parent
PAGES = [README, *SITE]
blocks, commands, inline = README.blocks, README.commands, README.inline


def lines(first: str) -> list[Any]:
    """Commands that begin so, of the README and of the site's pages, in blocks and in running text."""
    found = [(page, line) for page in PAGES for line in page.commands(first) + page.inline(first)]
    return [pytest.param(line, id=f"{page}: {line}") for page, line in found]


def test_there_are_blocks_to_read():
    assert len(commands("nestobs")) > 8
    assert len(commands("make")) >= 2
    assert len(blocks("python")) == 1
    assert len(blocks("toml")) == 1


@pytest.mark.parametrize("line", lines("nestobs"))
def test_a_command_parses(line):
    words = shlex.split(line, comments=True)[1:]
    args = _parser().parse_args(words)
    assert callable(args.command)


def test_every_command_is_mentioned():
    named = {shlex.split(line)[1] for line in commands("nestobs") + inline("nestobs")}
    known = {"doctor", "join", "ready", "canary", "timeline", "lab", "watch", "export"}
    known |= {"tune", "replay", "prove", "policy", "report"}
    assert known <= named


@pytest.mark.parametrize("line", lines("make"))
def test_a_make_target_exists(line):
    target = shlex.split(line, comments=True)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.M), target


def test_every_make_target_is_phony_and_explains_itself():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.M)[0].split())
    assert set(re.findall(r"^([a-z0-9]+):", makefile, re.M)) == phony
    assert set(re.findall(r"^([a-z0-9]+):.*## ", makefile, re.M)) == phony


def test_the_python_block_runs_against_a_small_store(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    nestobs.open("nestobs-data")
    names: dict[str, object] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    assert list(names["frame"].columns)


def test_the_toml_block_is_a_configuration(monkeypatch, tmp_path):
    from nestobs.config import Config

    (tmp_path / "nestobs.toml").write_text(blocks("toml")[0])
    target = Config(tmp_path / "nestobs.toml").target("production")
    assert len(target.relays) == 2


def test_names_of_python_in_the_text_exist():
    dotted = [words for words in re.findall(r"`(?:await )?nestobs\.([\w.]+)", README.text) if words != "toml"]
    assert "timeline.SCHEMA" in dotted
    for words in dotted:
        assert pkgutil.resolve_name(f"nestobs.{words}") is not None


def tree(kind: type[errors.NestobsError]) -> set[type[errors.NestobsError]]:
    return {kind}.union(*(tree(below) for below in kind.__subclasses__()))


def test_exit_codes_are_the_errors_own():
    import nestobs.join.policy
    import nestobs.trial.demo

    assert nestobs.trial.demo
    table = {int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.*) \|$", README.text, re.M)}
    assert set(table) == {0, 1, 2, 3, 4, 5, 6, 75, 129, 130}
    assert {kind.exit_code for kind in tree(errors.NestobsError)} - {1} == {2, 3, 4, 5}
    words = {
        errors.UsageError: "words are wrong",
        errors.UnreachableError: "does not",
        errors.BudgetError: "budget",
        errors.StoreError: "store cannot be used",
    }
    for kind, said in words.items():
        assert said in table[kind.exit_code], kind
        assert {below.exit_code for below in tree(kind)} == {kind.exit_code}


def test_the_help_has_the_same_codes():
    assert set(re.findall(r"^  (\d+)  ", EXIT_CODES, re.M)) == set(re.findall(r"^\| (\d+) \| ", README.text, re.M))


def test_the_tree_in_the_words_of_errors_is_the_tree():
    drawn = set(re.findall(r"(\w+Error)\b", (errors.__doc__ or "").partition("Failures")[0]))
    made = {name for name in vars(errors) if name.endswith("Error")}
    assert drawn == made


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_files_that_a_text_links_to_exist(page):
    for link in page.links():
        remedy = ": take a picture of the demo's report, `make demo`" if link.endswith(".png") else ""
        folder = DOCS if link.startswith("/") else page.path.parent
        assert (folder / link.strip("/")).is_file(), f"{page} links to {link}, which is not there{remedy}"


def test_the_map_shows_the_rooms_there_are_from_top_to_bottom():
    block = next(
        b for _, b in re.findall(r"^```(\w*)\n(.*?)^```$", README.text, re.M | re.S) if b.startswith("nestobs/")
    )
    tops = [line.split()[0] for line in block.splitlines() if not line.startswith(" ")]
    assert [top for top in tops if not (ROOT / top).is_dir()] == []
    drawn = re.findall(r"^(?:nestobs/| {8}) {4}(\w+/?) ", block, re.M)
    package = ROOT / "nestobs"
    there = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()}
    there |= {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    assert set(drawn) == there
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"][0][
        "layers"
    ]
    assert [name.strip("/") for name in drawn] == [name for layer in layers for name in layer.split(" | ")]


def test_the_test_command_is_what_ci_runs():
    ci = ROOT / ".ci" / "run"
    assert ci.is_file(), "there is no .ci/run"
    said = ci.read_text("utf-8")
    assert "make test" in said
    assert "make livekit" in said
    assert "make browser" in said
    assert "make zsh" in said
    assert "make site" in said
    assert "make s3" in said
    for what in ("LIVEKIT", "NODE", "BROWSER", "ZSH", "SITE", "S3"):
        assert f"NESTOBS_REQUIRE_{what}=1" in said


def test_the_reference_has_every_public_name():
    page = (DOCS / "reference" / "python.md").read_text("utf-8")
    named = set(re.findall(r"^\.\. auto(?:class|function):: (?:nestobs\.(?:\w+\.)*)?(\w+)$", page, re.M))
    assert {*dir(nestobs)} - {"__version__"} - named <= {"NestobsError"}, "NestobsError is among nestobs.errors there"
    assert ".. automodule:: nestobs.errors" in page
