"""The public names: exactly these, each importable, and none of them heavy until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nestobs

PUBLIC = (
    "DelayLaw",
    "NestobsError",
    "Observation",
    "Policy",
    "PollTable",
    "Recommendation",
    "Store",
    "Target",
    "__version__",
    "canary",
    "diagnose",
    "herd",
    "joins",
    "message_threshold",
    "named_policy",
    "npmle",
    "observations",
    "open",
    "optimal_polls",
    "posterior_starting",
    "replay",
    "stop_age",
    "timelines",
    "timelines_in_parts",
    "tune",
)


def test_the_public_names_are_these_and_no_others():
    assert sorted([*nestobs.__all__, "open"]) == sorted(PUBLIC)
    assert dir(nestobs) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_there(name):
    assert getattr(nestobs, name) is not None


def test_public_things_know_their_documentation():
    for name in set(PUBLIC) - {"__version__"}:
        assert getattr(nestobs, name).__doc__, name


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'nestobs' has no attribute 'nonsense'"):
        _ = nestobs.nonsense


@pytest.mark.slow
def test_from_nestobs_import_everything_works_and_hides_no_builtin():
    code = (
        "import builtins\nfrom nestobs import *\nassert open is builtins.open"
        f"\nassert {{{', '.join(repr(name) for name in PUBLIC if name != 'open')}}} <= set(globals())"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_importing_nestobs_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import nestobs; print(*sorted(set(sys.modules) - before))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    new = set(said.split()) - {"nestobs", "typing", "__future__"}
    assert not [name for name in new if name.partition(".")[0] not in sys.stdlib_module_names], new
    assert not {"asyncio", "sqlite3", "ssl", "socket"} & new


@pytest.mark.parametrize(
    ("name", "heavy"), [("Policy", "pandas"), ("NestobsError", "asyncio"), ("Observation", "httpx")]
)
def test_a_pure_name_brings_no_io_library(name, heavy):
    code = f"import sys, nestobs; nestobs.{name}; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
