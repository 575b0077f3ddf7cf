"""What others read by name stays: the columns of rows, timelines and joins, and the keys of a policy file.

tests/golden/schemas.txt has them as they were promised. A column may be added; none may go, or change its type or unit.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

import nestobs.observation
import nestobs.timeline
from nestobs.timeline.joins import SCHEMA as JOINS

PROMISED = (Path(__file__).parent / "golden" / "schemas.txt").read_text("utf-8").splitlines()
POLICY = json.loads((files("nestobs.tuning") / "policy.schema.json").read_text("utf-8"))


def lines() -> list[str]:
    tables = {"observations": nestobs.observation.COLUMNS, "timelines": nestobs.timeline.SCHEMA, "joins": JOINS}
    columns = [
        f"{table} {column.name}: {column.type}{' or null' if column.nullable else ''}, {column.unit or 'no unit'}"
        for table, schema in tables.items()
        for column in schema
    ]
    keys = [f"policy file {name}{': required' if name in POLICY['required'] else ''}" for name in POLICY["properties"]]
    return columns + keys


def test_there_is_something_promised():
    assert len(PROMISED) > 80


@pytest.mark.parametrize("line", PROMISED)
def test_what_was_promised_is_there(line):
    assert line in lines()
