"""One statement of what is needed, three files that follow from it: pyproject, environment.yml, constraints.txt."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import nestobs

ROOT = Path(nestobs.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
EXTRAS = {name: [*map(Requirement, texts)] for name, texts in PROJECT["optional-dependencies"].items()}
DIRECT = [*map(Requirement, PROJECT["dependencies"]), *(each for extra in EXTRAS.values() for each in extra)]
INSTALLED = [*map(Requirement, PROJECT["dependencies"]), *EXTRAS["dev"], *EXTRAS["fleet"], *EXTRAS["otel"]]
"""What the Makefile installs: the other extras are for who asks for them."""


def pins() -> dict[str, Version]:
    found = {}
    for line in LINES:
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        found[canonicalize_name(requirement.name)] = Version(pin.version)
    return found


@pytest.mark.slow
def test_environment_yml_is_what_the_makefile_writes(tmp_path):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    line = re.search(r"^\t\$\(BIN\)/(pyproject2conda .*) --output environment\.yml$", makefile, re.M)
    assert line, "the Makefile no longer writes environment.yml with pyproject2conda"
    tool, *words = shlex.split(line.group(1))
    made = tmp_path / "environment.yml"
    program = Path(sys.executable).with_name(tool)
    subprocess.run([program, *words, "--output", made], cwd=ROOT, check=True, capture_output=True, timeout=100)
    assert made.read_text("utf-8") == (ROOT / "environment.yml").read_text("utf-8"), "run `make environment`"


def test_constraints_hold_no_url_and_no_path():
    for line in LINES:
        assert not re.search(r"://|@|\.\.|/|\\|--|-e ", line), line


def test_every_constraint_is_one_exact_version():
    assert len(pins()) == len(LINES)


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_every_direct_dependency_is_pinned_to_a_version_it_allows(requirement):
    pin = pins().get(canonicalize_name(requirement.name))
    assert pin is not None, f"{requirement.name} is not in constraints.txt: run `make constraints`"
    assert pin in requirement.specifier


def test_what_runs_here_is_what_is_pinned():
    from importlib.metadata import version

    here = {r.name: version(r.name) for r in INSTALLED}
    assert {name: pin for name, pin in here.items() if pins()[canonicalize_name(name)] != Version(pin)} == {}


BROUGHT = {
    "pydantic": "pydantic-settings",  # whose models these are
    "google": "livekit-api",  # protobuf, which its messages are
    "IPython": "ipykernel",
    "jupyter_client": "ipykernel",
    "jupyter_core": "ipykernel",
    "nbformat": "nbconvert",  # notebooks are handed to it in this form
}


@pytest.mark.slow
def test_every_library_that_the_package_imports_is_declared_or_is_the_face_of_one_that_is():
    """A library that comes along with another may leave with it."""
    import ast
    from importlib.metadata import packages_distributions

    names = set()
    for path in (ROOT / "nestobs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [n.name for n in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names |= {module.partition(".")[0] for module in modules}
    core = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    told = [*EXTRAS["fleet"], *EXTRAS["otel"]]  # where they are missing, how to install them
    declared = core | {canonicalize_name(each.name) for each in told}
    owners = packages_distributions()
    undeclared = {
        name: owners[name]
        for name in names - set(sys.stdlib_module_names) - {"nestobs", *BROUGHT}
        if not {canonicalize_name(owner) for owner in owners.get(name, ["?"])} & declared
    }
    assert undeclared == {}
    assert {canonicalize_name(name) for name in BROUGHT.values()} <= declared


def test_the_version_is_told_once():
    assert PROJECT["version"] == nestobs.__version__
    assert f"## {nestobs.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8") or "Unreleased" in (
        ROOT / "CHANGELOG.md"
    ).read_text("utf-8")
