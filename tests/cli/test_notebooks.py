"""`nestobs notebook`: which copy on which store, and what it becomes; JupyterLab itself is in test_jupyterlab.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nestobs.errors import StoreError
from nestobs.reports.publishing.parameters import defaults
from nestobs.store.reader import Store
from worlds.command_line import is_one_sentence

pytestmark = pytest.mark.slow


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have taken this process's place."""
    made: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, words: made.append(words))
    return made


def store_in(path: Path | str) -> object:
    return defaults(Path(path))["store"]


def test_without_any_store_it_is_on_the_example_and_says_so(run: Any, became: list[list[str]]) -> None:
    said = run("notebook", "incident")
    assert store_in("incident.ipynb") == "example"
    assert "no store at nestobs-data, so the notebook is on the example" in said.err
    assert "incident.ipynb is there; JupyterLab opens it" in said.out
    assert became[0][1:3] == ["-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={Path.cwd()}" in became[0]
    assert "--LabApp.default_url=/lab/tree/incident.ipynb" in became[0]
    assert "--no-browser" not in became[0]


def test_a_store_that_is_there_goes_before_the_example(run: Any, became: list[list[str]]) -> None:
    Store.open("nestobs-data")
    run("notebook", "joins", "--to", "deep/down", "--no-browser")
    assert store_in("deep/down/joins.ipynb") == str(Path("nestobs-data").absolute())
    assert "--no-browser" in became[0]
    run("notebook", "joins", "--to", "deep/down", "--store", "example")
    assert store_in("deep/down/joins-2.ipynb") == "example"


def test_a_store_of_the_configuration_counts(run: Any, became: list[list[str]]) -> None:
    Store.open("kept")
    Path("nestobs.toml").write_text('store = "kept"\n')
    run("notebook", "incident")
    assert store_in("incident.ipynb") == str(Path("kept").absolute())


def test_the_same_again_opens_what_is_there(run: Any, became: list[list[str]]) -> None:
    run("notebook", "live", "--parameter", "watch_s=1h")
    assert "live.ipynb is there already, and stays as it is" in run("notebook", "live", "--parameter", "watch_s=1h").out
    assert defaults(Path("live.ipynb"))["watch_s"] == 3_600.0
    assert became[0] == became[1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["incidnt"], 2, "did you mean incident"),
        (["incident", "--parameter", "nset=x"], 2, "no parameter 'nset'"),
        (["incident", "--parameter", "nest"], 2, "write NAME=VALUE"),
        (["incident", "--store", "none"], 5, "`example` comes with nestobs"),
        (["incident", "--store", "file"], 5, "is a file, not a folder"),
        (["incident", "--store", "mine"], 5, "no store at"),
        (["incident", "--to", "file"], 2, "give --to a folder"),
    ],
    ids=["name", "parameter", "word", "store", "file", "folder", "to"],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    words: list[str], code: int, said: str, run: Any, became: list[list[str]]
) -> None:
    Path("file").write_text("")
    Path("mine").mkdir()
    Path("mine", "letter").write_text("")
    Store.open("nestobs-data")
    is_one_sentence(run("notebook", *words), code, said)
    assert not became
    assert not list(Path().glob("*.ipynb"))


def test_a_default_folder_that_is_no_store_is_not_passed_over(run: Any, became: list[list[str]]) -> None:
    Path("nestobs-data").mkdir()
    Path("nestobs-data", "letter").write_text("")
    is_one_sentence(run("notebook", "incident"), StoreError.exit_code, "no store at")
    assert not became


def test_the_help_names_every_notebook(run: Any) -> None:
    from nestobs.reports.publishing.execute import notebook

    said = " ".join(run("notebook", "--help").out.split())
    assert [path.stem for path in notebook("joins").parent.glob("*.ipynb") if path.stem not in said] == []
