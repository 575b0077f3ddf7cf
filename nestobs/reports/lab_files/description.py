"""What a lab says of itself: its lab.json, and when each layer really showed each nest, its truth.jsonl."""

from __future__ import annotations

import json
from typing import Any, Final

from nestobs.errors import UsageError
from nestobs.figures import host
from nestobs.store.files import text_in

_TRUTH_BYTES: Final = 200_000_000
"""A longer truth.jsonl is of no lab that anybody could wait for."""


def truth(path: str) -> list[dict[str, Any]]:
    """The rows of a truth.jsonl, none for "". Raises UsageError for a file that is none."""
    try:
        lines = text_in(path, _TRUTH_BYTES).split("\n") if path else []
        rows = [json.loads(line) for line in lines if line.strip()]
        needed = {"scenario", "room", "layer", "change", "not_yet_at", "now_at"}
        if not all(isinstance(row, dict) and needed <= set(row) for row in rows):
            raise ValueError("a row lacks a field of a truth row")
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no truth of a lab ({error}): give its truth.jsonl, or nothing") from error
    return rows


def lab_facts(path: str) -> dict[str, Any]:
    """What a lab.json says, nothing for "". livekit: its kind and version; scenarios: relay URL -> name, each in its
    own order; hosts: scenario -> those of its APIs. Raises UsageError for a file that is none."""
    try:
        found = json.loads(text_in(path)) if path else {}
        scenarios = dict(found.get("scenarios", {}))
        hosts = {
            name: [host(str(vantage["api"])) for vantage in scenario.get("vantages", [])]
            for name, scenario in scenarios.items()
        }
        names = [dict(scenario["truth_names"]) for scenario in scenarios.values()]
        return {"livekit": dict(found.get("livekit", {})), "scenarios": names, "hosts": hosts}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} does not describe a lab ({error}): give its lab.json, or nothing") from error
