"""The wheel holds all that the source tree does: what is no Python, too, as an installed nestobs reads it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import nestobs

pytestmark = pytest.mark.slow

ROOT = Path(nestobs.__file__).parents[1]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel that is built now."""
    if not UV.exists():
        pytest.skip("there is no uv beside this Python: `make test` installs it")
    out = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [UV, "build", "--quiet", "--wheel", "--out-dir", out, ROOT], capture_output=True, text=True, check=False
    )
    if "hatchling" in built.stderr and built.returncode:
        pytest.skip(f"the build's own packages cannot be had: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stderr
    (made,) = out.glob("*.whl")
    return set(zipfile.ZipFile(made).namelist())


def of_the_source() -> set[str]:
    """The files under version control that belong into a wheel, by their names in it."""
    listed = subprocess.run(
        ["git", "ls-files", "nestobs", "notebooks"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return {f"nestobs/{name}" if name.startswith("notebooks/") else name for name in listed}


def test_a_wheel_has_every_file_of_the_package_and_no_other(wheel: set[str]) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout: which files belong to the project is not known")
    inside = {name for name in wheel if not name.startswith("nestobs-")}
    assert inside == of_the_source()


@pytest.mark.parametrize(
    "name",
    [
        "nestobs/py.typed",
        "nestobs/exports/policy.js.in",
        "nestobs/exports/npm/package.json.in",
        "nestobs/exports/npm/LICENSE",
        "nestobs/reports/publishing/page.css",
        "nestobs/reports/publishing/page.js",
        "nestobs/reports/publishing/glossary.toml",
        "nestobs/store/example_store/journal.sqlite",
        "nestobs/tuning/policy.schema.json",
        "nestobs/lab/scenarios/calm.toml",
        "nestobs/notebooks/incident.ipynb",
    ],
)
def test_what_is_read_at_run_time_is_in_it(wheel: set[str], name: str) -> None:
    assert name in wheel
