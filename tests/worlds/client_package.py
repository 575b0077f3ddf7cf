"""The exported npm package in a fresh folder, with the tools that `make node` installs beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from nestobs.cli.main import main
from nestobs.join.policy import Policy
from nestobs.tuning.policy_file import PolicyFile, dumps

WANTED = Path(__file__).parents[1] / "exports" / "client" / "package.json"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nestobs" / "node"


def _missing(what: str) -> NoReturn:
    if os.environ.get("NESTOBS_REQUIRE_NODE") == "1":
        pytest.fail(f"NESTOBS_REQUIRE_NODE is 1 and {what}")
    pytest.skip(what)


def need_node() -> str:
    """node; the test is skipped where it is not, unless NESTOBS_REQUIRE_NODE is 1."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        _missing("there is no node, or no npm: install Node 18 or newer")
    return found


def need_tools() -> Path:
    """The folder of TypeScript, React and esbuild, of the versions wanted; skipped or failed likewise."""
    need_node()
    here = CACHE / "package.json"
    if not here.is_file() or json.loads(here.read_text("utf-8")) != json.loads(WANTED.read_text("utf-8")):
        _missing("TypeScript, React and esbuild are not there: run `make node`")
    return CACHE / "node_modules"


@dataclass(frozen=True)
class Project:
    """A fresh folder into which the package of a policy was installed, as its user does."""

    folder: Path

    @property
    def package(self) -> Path:
        """The package as it was written."""
        return self.folder / "nest-join"

    def run(self, *words: str | Path, code: int = 0, **more: Any) -> str:
        """What a command says there."""
        said = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=100, check=False, **more)
        assert said.returncode == code, said.stdout + said.stderr
        return said.stdout + said.stderr

    def script(self, text: str, **more: Any) -> str:
        """What node says to an ES module of this text."""
        (self.folder / "script.js").write_text(text, "utf-8")
        return self.run(need_node(), "script.js", **more)

    def link_tools(self) -> Path:
        """Put what `make node` installed beside the package; where it lies."""
        tools = need_tools()
        scoped = [path for path in tools.iterdir() if path.name.startswith("@")]
        for found in [*tools.iterdir(), *(below for scope in scoped for below in scope.iterdir())]:
            here = self.folder / "node_modules" / found.relative_to(tools)
            if found not in scoped and not found.name.startswith(".") and not here.exists():
                here.parent.mkdir(parents=True, exist_ok=True)
                here.symlink_to(found)
        return tools


def installed(folder: Path, policy: str) -> Project:
    """A project at `folder`, which is made, with the package of a policy (a file or a name)."""
    need_node()
    folder.mkdir(parents=True)
    project = Project(folder)
    assert main(["policy", "export", policy, "--format", "npm", "--to", str(project.package)]) == 0
    (folder / "package.json").write_text('{"private": true, "type": "module"}', "utf-8")
    project.run("npm", "install", "--offline", "--no-audit", "--no-fund", "./nest-join")
    return project


def installed_policy(folder: Path, policy: Policy) -> Project:
    """The same of a policy that is in no file yet."""
    file = folder.with_suffix(".json")
    file.write_text(dumps(PolicyFile(policy=policy)), "utf-8")
    return installed(folder, str(file))
