"""The JSON Schema of policy files, as it is shipped, and what holds a file against it."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

SCHEMA = json.loads((files("nestobs.tuning") / "policy.schema.json").read_text("utf-8"))


@cache
def validator() -> Draft202012Validator:
    """Takes a second to import: for slow tests."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(SCHEMA)
