"""The walls: who may import whom, who may touch clock, environment and database; and names that say nothing.

Rooms are named here (a folder of nestobs/, or one of the few files beside them), modules never: a list of those drifts.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nestobs

PACKAGE = Path(nestobs.__file__).parent
ROOT = PACKAGE.parent
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONTRACTS = {contract["type"]: contract for contract in PYPROJECT["tool"]["importlinter"]["contracts"]}
PURE = [name.removeprefix("nestobs.") for name in CONTRACTS["forbidden"]["source_modules"]]


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


def room(file: str) -> str:
    """The folder of nestobs/ that a file lies in, or the file's own name without its ending."""
    return file.partition("/")[0].removesuffix(".py")


def rooms(files: set[str]) -> set[str]:
    return {room(file) for file in files}


def files_of(name: str) -> list[Path]:
    return [path for file, path in FILES.items() if room(file) == name]


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([tool, "--no-cache"], cwd=root, capture_output=True, text=True, timeout=100, check=False)


def test_there_is_something_to_look_at():
    assert len(FILES) > 40
    assert "nestobs.errors" in {name for path in files_of("cli") for name in imports_of(path)}
    assert "nestobs.session" in imports_of(FILES["__init__.py"])
    assert "pandas" in imports_of(FILES["session.py"])  # under TYPE_CHECKING and inside a function
    assert len(PURE) > 5


def test_the_contracts_of_the_layers_hold():
    said = lint(ROOT)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "named"),
    [
        ("observation/window.py", "import nestobs.tuning", "nestobs.observation.window -> nestobs.tuning (l."),
        ("sources/vantage.py", "import nestobs.tuning", "nestobs.sources.vantage -> nestobs.tuning (l."),
        ("observation/fresh.py", "import nestobs.store", "nestobs.observation.fresh -> nestobs.store (l.1)"),
        ("timeline/fresh.py", "import sqlite3", "nestobs.timeline.fresh -> sqlite3 (l.1)"),
        ("attic/__init__.py", "", "nestobs.attic"),
    ],
)
def test_a_breach_is_named_with_its_line(tmp_path, file, line, named):
    for path in (ROOT / "pyproject.toml", *FILES.values()):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    breach = tmp_path / "nestobs" / file
    breach.parent.mkdir(exist_ok=True)
    with breach.open("a", encoding="utf-8") as end:
        end.write(f"{line}\n")
    said = lint(tmp_path)
    assert said.returncode == 1
    assert named in said.stdout


def test_the_lab_shares_only_the_protocol_and_the_errors():
    """So that a bug cannot hide by standing on both sides."""
    allowed = ("nestobs.lab", "nestobs.nostr", "nestobs.errors")
    ours = {name for path in files_of("lab") for name in imports_of(path) if name.split(".")[0] == "nestobs"}
    assert {name for name in ours - {"nestobs"} if not name.startswith(allowed)} == set()


@pytest.mark.slow
def test_nobody_but_its_starters_imports_the_lab():
    assert rooms(importers("nestobs.lab")) - {"lab"} <= {"cli", "trial"}


@pytest.mark.slow
def test_only_the_protocol_and_the_labs_relays_know_nostr_sdk():
    assert rooms(importers("nostr_sdk")) == {"nostr", "lab"}


@pytest.mark.slow
def test_only_the_two_clocks_import_time():
    found = importers("time")
    assert rooms(found) == {"sources", "lab"}
    assert len(found) == 2


@pytest.mark.slow
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


@pytest.mark.slow
def test_only_the_store_knows_sql():
    assert rooms(importers("sqlite3")) == {"store"}
    words = ("sqlite3", "SELECT ", "INSERT INTO", "DELETE FROM", "CREATE TABLE", "PRAGMA ")
    spoken = {file for file, path in FILES.items() if any(word in path.read_text("utf-8") for word in words)}
    assert rooms(spoken) == {"store"}


@pytest.mark.slow
def test_only_the_configuration_reads_the_environment():
    """And the lab: where its own server is, and that the tests insist on it, are no settings of nestobs."""
    found = set()
    for file, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in ("environ", "environb", "getenv", "BaseSettings", "expandvars"):
                found.add(file)
    assert rooms(found) == {"config", "lab"}
    assert rooms(importers("pydantic_settings")) == {"config"}


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "helper", "common", "base", "misc", "core", "tools"])
def test_no_file_has_a_name_that_says_nothing(name):
    everywhere = [*PACKAGE.rglob("*"), *(ROOT / "tests").rglob("*")]
    assert [path for path in everywhere if path.stem.lower().strip("_") == name] == []


def test_no_room_has_the_name_of_a_public_function():
    public = {name for name in nestobs.__all__ if name[0].islower()} | {"replay", "tune"}
    assert public & {room(file) for file in FILES} == set()


def test_the_house_can_be_taken_in_at_a_glance():
    """At most 15 folders, 6 modules beside them, and 15 modules in a folder that one works in."""
    folders = {path.parent for path in FILES.values()} - {PACKAGE}
    assert len([folder for folder in folders if folder.parent == PACKAGE]) <= 15
    assert len([file for file in FILES if "/" not in file]) <= 6
    crowded = {folder.name: len([p for p in folder.glob("*.py") if p.stem != "__init__"]) for folder in folders}
    assert {name: size for name, size in crowded.items() if size > 15} == {}


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


@pytest.mark.parametrize("name", PURE)
def test_vocabulary_and_inference_touch_no_world(name):
    names = {name.partition(".")[0] for path in files_of(name) for name in imports_of(path)}
    assert files_of(name)
    assert names & (WORLDLY | {"random"}) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PURE if name not in ("figures", "nostr")])
def test_vocabulary_and_inference_load_no_world(name):
    """What they import must not bring it in either, beyond what pandas itself does; nor scipy.stats, which takes longer
    to import than all of theirs."""
    heavy = WORLDLY - {"time", "socket", "ssl", "threading", "subprocess", "asyncio", "sqlite3"}
    files = [path.relative_to(ROOT).with_suffix("") for path in files_of(name) if path.stem != "__init__"]
    modules = [".".join(file.parts) for file in files]
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert {name.partition(".")[0] for name in said.split()} & heavy == set()
    assert "scipy.stats" not in said.split()


@pytest.mark.slow
def test_every_module_says_what_it_is():
    assert [file for file, path in FILES.items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []


@pytest.mark.slow
def test_no_module_is_temporary():
    words = [
        f for f, path in FILES.items() if (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "") == "Temporary."
    ]
    assert words == []


@pytest.mark.slow
def test_a_value_of_many_parts_is_made_by_name():
    """A capitalised name called with more than five arguments takes them by keyword: so many positions tell nothing."""
    made = {}
    for file, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and len(node.args) > 5:
                name = ast.unparse(node.func).rpartition(".")[2].lstrip("_")
                if name[:1].isupper():
                    made[f"{file}:{node.lineno}"] = name
    assert made == {}


def test_every_suppression_has_its_reason():
    bare = []
    for file, path in FILES.items():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            found = re.search(r"# (?:noqa|type: ignore|fmt: \w+)(?:: [A-Z0-9, ]+|\[[a-z, -]+\])?(.*)", line)
            if found and not re.search(r"[a-z]{3}", found.group(1)):
                bare.append(f"{file}:{number}")
    assert bare == []


@pytest.mark.slow
def test_no_file_and_no_function_is_long_without_a_reason():
    """Above 500 lines a module's docstring, above 60 a function's, says "Long, because ...". Complexity is ruff's."""
    found = []
    for file, path in FILES.items():
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        if text.count("\n") > 500 and "Long, because" not in (ast.get_docstring(tree) or ""):
            found.append(f"{file}: {text.count(chr(10))} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > 60 and "Long, because" not in (ast.get_docstring(node) or ""):
                    found.append(f"{file}: {node.name}, {lines} lines")
    assert found == []
