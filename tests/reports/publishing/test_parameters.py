"""NAME=VALUE read as the type of the notebook's default."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestobs.errors import UsageError
from nestobs.reports.publishing.parameters import defaults, filled, read
from worlds import scheduled_reports as reports

pytestmark = pytest.mark.slow

CELL = 'text = ""\nwhole = 3\nnumber = 0.5\nyes = False\nmany = [1.5]\nnames = []\nnone = None\nmade = 2 * 3\n'
CELL += "wait_s = 0.0\nwindow_s = 900\n"


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return reports.write(tmp_path / "one.ipynb", parameters=CELL)


@pytest.mark.parametrize(
    ("word", "value"),
    [("text=a=b", "a=b"), ("text=", ""), ("text=3", "3"), ("whole=-7", -7), ("number=2", 2.0), ("number=1e-3", 0.001),
     ("yes=true", True), ("yes=No", False), ("many=[1, 2.5]", [1, 2.5]), ("names=[\"a\"]", ["a"]), ("many=[]", []),
     ("none=x", "x"), ("made=7", "7"), ("wait_s=500ms", 0.5), ("wait_s=0", 0.0), ("window_s=15min", 900),
     ("window_s=90", 90)],
)  # fmt: skip  # a table
def test_a_value_has_the_type_of_the_default(notebook: Path, word: str, value: object) -> None:
    found = read(notebook, [word])[word.partition("=")[0]]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("word", "said"),
    [("whole=3.5", "no whole number"), ("whole=", "no whole number"), ("number=many", "no number"),
     ("number=inf", "no number"), ("number=nan", "no number"), ("yes=maybe", "no truth value"), ("many=1", "no list"),
     ('many=["a"]', "no list"), ("many=[" * 100_000, "no list"), ("text", "write NAME=VALUE"),
     ("txet=a", "it knows text, whole, number, yes, many, names, none, made"), ("window_s=1.5", "no whole number"),
     ("wait_s=-1", "wait_s: '-1' is no duration"), ("window_s=soon", "is no duration")],
)  # fmt: skip  # a table
def test_a_value_of_another_type_is_a_usage_error(notebook: Path, word: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(notebook, [word])


def test_the_defaults_come_in_their_order_and_what_is_no_literal_is_none(notebook: Path) -> None:
    assert list(defaults(notebook).items()) == [
        ("text", ""), ("whole", 3), ("number", 0.5), ("yes", False), ("many", [1.5]), ("names", []), ("none", None),
        ("made", None), ("wait_s", 0.0), ("window_s", 900),
    ]  # fmt: skip  # a table


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"cells": 3}', "\x00"])
def test_a_file_that_is_no_notebook_is_a_usage_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "one.ipynb").write_text(content)
    with pytest.raises(UsageError, match="cannot be read as a notebook"):
        defaults(tmp_path / "one.ipynb")


VALUES = ["", "a'b\"c", "ä\u202e\x00\n'''", "\udc80", "C:\\new", True, -3, 2.5, None, ["x", "é"], [[1]]]


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_a_value_set_in_the_cell_is_read_back_and_all_else_stays(tmp_path: Path, value: object) -> None:
    cell = 'é = "ü"  # größe\ntext = ("a"\n        "b")  # two lines\none: int = 1; two = 2\nlast = 2 * 3  # ü'
    made = filled(cell, {"text": value, "two": value, "last": value, "é": value, "unknown": 1})
    found = defaults(reports.write(tmp_path / "one.ipynb", parameters=made))
    assert found == {"é": value, "text": value, "one": 1, "two": value, "last": value}
    assert [line.partition("  # ")[2] for line in made.splitlines() if "  # " in line][:2] == ["größe", "two lines"]


def test_nothing_set_leaves_the_cell_as_it_is() -> None:
    assert filled(CELL, {}) == CELL
