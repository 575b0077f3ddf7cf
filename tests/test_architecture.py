"""The walls: who may import whom, who may touch clock, environment and database; and names that say nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nestobs

PACKAGE = Path(nestobs.__file__).parent
ROOT = PACKAGE.parent
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, in functions and under `if TYPE_CHECKING` too; `from a import b` is a and a.b."""
    found = set()
    package = ["nestobs", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{name.name}" for name in node.names}
    return found


def importers(name: str) -> set[str]:
    """Files that import a module or something below it."""
    return {
        file for file, path in FILES.items() if any(m == name or m.startswith(f"{name}.") for m in imports_of(path))
    }


def test_there_is_something_to_look_at():
    assert len(FILES) > 40
    assert "nestobs.errors" in imports_of(FILES["cli.py"])
    assert "nestobs.session" in imports_of(FILES["__init__.py"])
    assert "pandas" in imports_of(FILES["session.py"])  # under TYPE_CHECKING and inside a function


def test_the_contracts_of_the_layers_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    said = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("file", sorted(file for file in FILES if file.startswith("lab/")))
def test_the_lab_shares_only_the_protocol_and_the_errors(file):
    """So that a bug cannot hide by standing on both sides."""
    allowed = ("nestobs.lab", "nestobs.nostr", "nestobs.errors")
    ours = {name for name in imports_of(FILES[file]) if name.split(".")[0] == "nestobs"}
    ours -= {"nestobs"} if "nestobs.nostr" in ours else set()  # `from nestobs import nostr`
    assert {name for name in ours if not name.startswith(allowed)} == set()


def test_nobody_but_its_starters_imports_the_lab():
    assert {file for file in importers("nestobs.lab") if not file.startswith("lab/")} <= {"cli.py", "demo.py"}


def test_only_one_module_and_the_labs_relays_know_nostr_sdk():
    assert importers("nostr_sdk") == {"nostr.py", "lab/relays.py"}


def test_only_the_two_clocks_import_time():
    assert importers("time") == {"clock.py", "lab/clock.py"}


def test_nobody_reads_the_wall_clock_another_way():
    """datetime.now and its kin are clocks too."""
    wall = ("now", "utcnow", "today", "localtime", "gmtime")
    found = {}
    for file, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in wall:
                owner = node.value
                if isinstance(owner, ast.Name | ast.Attribute) and ast.unparse(owner).split(".")[-1] in (
                    "datetime",
                    "date",
                    "Timestamp",
                    "time",
                ):
                    found[file] = ast.unparse(node)
    assert found == {}


def test_only_the_store_knows_sql():
    assert importers("sqlite3") == {"store.py"}
    spoken = {file for file, path in FILES.items() if "sqlite3" in path.read_text("utf-8")}
    assert spoken == {"store.py"}
    statements = ("SELECT ", "INSERT INTO", "DELETE FROM", "CREATE TABLE", "PRAGMA ")
    assert {f for f, path in FILES.items() if any(word in path.read_text("utf-8") for word in statements)} == {
        "store.py"
    }


ENVIRONMENT = {
    "config.py",
    "lab/livekit_server.py",  # NESTOBS_LIVEKIT_SERVER and PATH: where the lab's own server is, no setting of nestobs
    "lab/lab.py",  # NESTOBS_REQUIRE_LIVEKIT: the tests insist on the real server
}


def test_only_the_configuration_reads_the_environment():
    found = set()
    for file, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in ("environ", "environb", "getenv", "BaseSettings", "expandvars"):
                found.add(file)
    assert found == ENVIRONMENT
    assert importers("pydantic_settings") == {"config.py"}


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "helper", "common", "base", "misc", "core", "tools"])
def test_no_file_has_a_name_that_says_nothing(name):
    everywhere = [*PACKAGE.rglob("*"), *(ROOT / "tests").rglob("*")]
    assert [path for path in everywhere if path.stem.lower().strip("_") == name] == []


PURE = (
    "observation nest nostr policy policy_file join plan budget timeline joins calibrate figures law turnbull estimate "
    "families threshold schedule delays failures courses crowd replaying recommendation tuning window incident live "
    "arrays changes agreement grouped shares uptime worth"
)
WORLDLY = {
    "asyncio",
    "time",
    "socket",
    "ssl",
    "sqlite3",
    "subprocess",
    "threading",
    "httpx",
    "websockets",
    "aiohttp",
    "livekit",
}


@pytest.mark.parametrize("module", PURE.split())
def test_vocabulary_and_inference_touch_no_world(module):
    files = [path for file, path in FILES.items() if file == f"{module}.py" or file.startswith(f"{module}/")]
    names = {name.partition(".")[0] for path in files for name in imports_of(path)}
    assert files
    assert names & (WORLDLY | {"random"}) == set()


@pytest.mark.parametrize("module", [m for m in PURE.split() if m not in ("figures", "nostr")])
def test_vocabulary_and_inference_load_no_world(module):
    """What they import must not bring it in either, beyond what pandas itself does; nor scipy.stats, which takes longer
    to import than all of theirs."""
    heavy = WORLDLY - {"time", "socket", "ssl", "threading", "subprocess", "asyncio", "sqlite3"}
    code = f"import sys, nestobs.{module}; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert {name.partition(".")[0] for name in said.split()} & heavy == set()
    assert "scipy.stats" not in said.split()


def test_every_module_says_what_it_is():
    assert [file for file, path in FILES.items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []


def test_no_module_is_temporary():
    words = [
        f for f, path in FILES.items() if (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "") == "Temporary."
    ]
    assert words == []


def test_every_suppression_has_its_reason():
    bare = []
    for file, path in FILES.items():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            found = re.search(r"# (?:noqa|type: ignore)(?:: [A-Z0-9, ]+|\[[a-z, -]+\])?(.*)", line)
            if found and not re.search(r"[a-z]{3}", found.group(1)):
                bare.append(f"{file}:{number}")
    assert bare == []
