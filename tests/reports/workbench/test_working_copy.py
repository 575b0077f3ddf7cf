"""A copy of a notebook to work in: one parameters cell, filled in; nobody's file is written over."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from nestobs.errors import UsageError
from nestobs.reports.publishing.execute import notebook, run
from nestobs.reports.publishing.parameters import defaults
from nestobs.reports.workbench.working_copy import working_copy

pytestmark = pytest.mark.slow

NAMES = [path.stem for path in sorted(notebook("incident").parent.glob("*.ipynb"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_has_one_parameters_cell_with_the_values_and_the_comments(name: str, tmp_path: Path) -> None:
    path, written = working_copy(
        name, tmp_path / "deep" / "down", {"store": "/some/where", "title": 'A "title"\n\u202e'}
    )
    assert (path.name, written) == (f"{name}.ipynb", True)
    made, source = nbformat.read(path, as_version=4), nbformat.read(notebook(name), as_version=4)
    nbformat.validate(made)
    assert defaults(path) == defaults(notebook(name)) | {"store": "/some/where", "title": 'A "title"\n\u202e'}
    first, was = made.cells[0].source.splitlines(), source.cells[0].source.splitlines()
    assert [line.partition("  # ")[2] for line in first] == [line.partition("  # ")[2] for line in was]
    assert first[0].startswith('store = "/some/where"  # ')
    assert [cell.source for cell in made.cells[1:]] == [cell.source for cell in source.cells[1:]]
    assert not any(cell.get("outputs") for cell in made.cells)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_runs_on_the_example(name: str, tmp_path: Path) -> None:
    path, _ = working_copy(name, tmp_path, {"store": "example"})
    page = run(path, tmp_path / "page" / "report.html", {})
    cells = nbformat.read(page.with_suffix(".ipynb"), as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [each for each in outputs if each["output_type"] == "error" or each.get("name") == "stderr"]
    figures = [each["data"]["application/vnd.plotly.v1+json"] for each in outputs
               if "application/vnd.plotly.v1+json" in each.get("data", {})]  # fmt: skip  # as it is read
    assert figures
    assert all(figure["data"] for figure in figures)


def test_the_same_again_is_the_same_file_and_what_was_written_into_it_stays(tmp_path: Path) -> None:
    path, _ = working_copy("incident", tmp_path, {"store": "one"})
    made = nbformat.read(path, as_version=4)
    made.cells[-1].source = "mine = 1"
    nbformat.write(made, path)
    before = path.read_bytes()
    assert working_copy("incident", tmp_path, {"store": "one"}) == (path, False)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "there", ["{}", "not json", "", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'],
    ids=["json", "text", "nothing", "no cells"],
)  # fmt: skip  # a table
def test_whatever_else_has_the_name_stays_and_the_copy_is_the_next(there: str, tmp_path: Path) -> None:
    (tmp_path / "incident.ipynb").write_text(there)
    (tmp_path / "incident-2.ipynb").mkdir()
    path, written = working_copy("incident", tmp_path, {"store": "two"})
    assert (path.name, written) == ("incident-3.ipynb", True)
    assert (tmp_path / "incident.ipynb").read_text() == there
    assert working_copy("incident", tmp_path, {"store": "two"}) == (path, False)
    other, _ = working_copy("incident", tmp_path, {"store": "three"})
    assert other.name == "incident-4.ipynb"


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "incident.ipynb").symlink_to(tmp_path / "elsewhere" / "file")
    path, _ = working_copy("incident", tmp_path, {})
    assert path.name == "incident-2.ipynb"


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("incidnt", {}, "did you mean incident"),
        ("daily", {}, "did you mean daily_report"),
        ("Daily-Report", {}, "did you mean daily_report"),
        ("notebooks/Joins.ipynb", {}, "did you mean joins"),
        ("", {}, "there are daily_report"),
        ("\u0000" * 1_000, {}, "there are daily_report"),
        ("incident", {"nset": "x"}, r"no parameter 'nset' \(did you mean nest\?\): it knows store, nest"),
    ],
    ids=["slip", "beginning", "spelling", "path", "nothing", "no name", "parameter"],
)
def test_a_wrong_name_is_a_usage_error_that_says_the_right_one(name, parameters, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        working_copy(name, tmp_path / "none", parameters)
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written .*: give --to a folder"):
        working_copy("incident", tmp_path / "file" / "in", {})
