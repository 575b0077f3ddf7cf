"""docs/examples are true: units, crontab and workflow are checked by their own tools, their commands parse, and the
workflow's shell does what it says."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import nestobs
from nestobs.cli.main import _parser
from nestobs.collector.service.settings import Keep
from nestobs.config import Config
from worlds import scheduled_reports as reports
from worlds.command_line import clear_environment
from worlds.programs import tool
from worlds.prometheus import promtool

pytestmark = pytest.mark.slow

ROOT = Path(nestobs.__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small store, ./nestobs-data, of long ago."""
    clear_environment(monkeypatch, tmp_path)
    reports.store(tmp_path / "nestobs-data")
    return tmp_path


EXAMPLES = sorted((DOCS / "examples").iterdir())
WRITTEN = [DOCS / "scheduling.md", DOCS / "service.md", *EXAMPLES]


def commands(path: Path) -> Iterator[str]:
    """Every call of nestobs in a file, its folder and what a shell or crontab adds cut off."""
    for line in path.read_text("utf-8").splitlines():
        for found in re.finditer(r"(?:^|[\s=/`])nestobs ((?:report|watch|merge|canary|run) [^`#|>&;]*)", line):
            yield found[1].strip()


def test_there_are_examples_to_read() -> None:
    assert {path.suffix for path in EXAMPLES} >= {".service", ".timer", ".crontab", ".yaml"}
    assert sum(1 for path in WRITTEN for _ in commands(path)) > 8
    for path in EXAMPLES:
        assert any(path.name in page.read_text("utf-8") for page in [*WRITTEN[:2], DOCS / "metrics.md"])


@pytest.mark.parametrize("line", [line for path in WRITTEN for line in commands(path)])
def test_a_command_that_is_written_down_parses(line: str) -> None:
    args = _parser().parse_args(shlex.split(line.replace("%%", "%")))
    assert callable(args.command)


def test_the_table_that_is_written_down_is_read(home: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", (DOCS / "service.md").read_text("utf-8"), re.M | re.S)
    target = '[targets.production]\napi = "https://nests.example/api"\nrelays = ["wss://relay.example"]\n'
    (home / "nestobs.toml").write_text(target + text)
    found, settings = Config(home / "nestobs.toml").service()
    assert (found.name, settings.watch, settings.listen) == ("production", True, ("127.0.0.1", 9464))
    assert settings.canaries is not None
    assert (settings.canaries.every_s, settings.canaries.count, settings.canaries.jitter_s) == (10_800.0, 2, 600.0)
    assert settings.reports is not None
    assert (settings.reports.names, settings.reports.at_s) == (("daily_report",), (1_200,))
    assert settings.reports.out == home / "reports"
    assert settings.keep == Keep(store_s=400 * 86_400.0, reports_s=90 * 86_400.0, failed_s=14 * 86_400.0)
    (home / "nestobs.toml").write_text(target + "[run]\n[run.canaries]\n[run.reports]\n")
    assert Config(home / "nestobs.toml").service()[1] == replace(
        settings, keep=Keep(), ship="", canaries=replace(settings.canaries, jitter_s=0.0)
    )


UNITS = [path for path in EXAMPLES if path.suffix in (".service", ".timer")]


def test_the_units_are_well_formed_and_make_up_for_what_was_missed() -> None:
    for path in UNITS:
        unit = configparser.RawConfigParser(strict=True)
        unit.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
        unit.read_string(path.read_text("utf-8"))
        assert unit.has_section("Unit")
        if path.suffix == ".timer":
            assert unit["Timer"]["Persistent"] == "true"
            assert unit["Install"]["WantedBy"] == "timers.target"
        else:
            once = "nestobs run" not in unit["Service"]["ExecStart"]
            assert (unit["Service"].get("Type") == "oneshot") == once
            assert once or unit["Service"]["SuccessExitStatus"] == "130"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_accepts_the_units(home: Path) -> None:
    nestobs_command = shutil.which("nestobs", path=f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}")
    for path in UNITS:
        text = path.read_text("utf-8").replace("/opt/nestobs/.venv/bin/nestobs", str(nestobs_command))
        (home / path.name).write_text(text)
    said = subprocess.run(
        ["systemd-analyze", "verify", *(str(home / path.name) for path in UNITS)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "Failed to initialize manager" in said.stderr or "Permission denied" in said.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {said.stderr.strip()[:100]}")
    assert (said.returncode, said.stderr) == (0, "")


def test_the_crontab_line_has_five_fields_and_a_command() -> None:
    lines = [line for line in (DOCS / "examples" / "nestobs-report.crontab").read_text("utf-8").splitlines()
             if line and not line.startswith("#") and not re.match(r"[A-Z_]+ *=", line)]  # fmt: skip
    assert lines
    for line in lines:
        assert re.fullmatch(r"([\d*/,-]+ +){5}\S.*", line)
        assert "%" not in line.replace(r"\%", ""), "cron reads % as a new line"


def test_the_workflow_is_yaml_that_runs_on_a_schedule() -> None:
    found = yaml.safe_load((DOCS / "examples" / "nestobs-report.yaml").read_text("utf-8"))
    triggers = found.get("on", found.get(True))  # YAML 1.1 reads `on` as true
    assert re.fullmatch(r"([\d*/,-]+ ?){5}", triggers["schedule"][0]["cron"])
    steps = [step for job in found["jobs"].values() for step in job["steps"]]
    assert any("nestobs report catch-up" in step.get("run", "") for step in steps)


# the workflow's shell


def shell_of(step: str) -> str:
    """What the step of that name has the shell do."""
    found = yaml.safe_load((DOCS / "examples" / "nestobs-report.yaml").read_text("utf-8"))
    return next(str(each["run"]) for job in found["jobs"].values() for each in job["steps"] if each.get("name") == step)


def ran(home: Path, step: str, program: str) -> subprocess.CompletedProcess[str]:
    """That, by the shell that runs it (bash -e), with `nestobs` being this program."""
    (home / "nestobs").write_text(f"#!/bin/sh\n{program}\n")
    (home / "nestobs").chmod(0o755)
    path = {**os.environ, "PATH": f"{home}:{os.environ['PATH']}"}
    words = ["bash", "-e", "-c", shell_of(step)]
    return subprocess.run(words, env=path, capture_output=True, text=True, timeout=120, check=False)


def test_the_workflow_passes_where_there_is_too_little_data(home: Path) -> None:
    said = ran(home, "report", f'exec "{sys.executable}" -m nestobs "$@"')
    assert (said.returncode, said.stdout.count("too little data")) == (0, 2), said.stderr  # of two days


@pytest.mark.parametrize(
    ("step", "code", "passes"),
    [
        pytest.param("report", 0, True, id="a report"),
        pytest.param("report", 3, False, id="a report that is breached"),
        pytest.param("report", 5, False, id="a report without a store"),
        pytest.param("make three nests", 1, True, id="nobody got in"),
        pytest.param("make three nests", 2, False, id="no such target"),
        pytest.param("make three nests", 130, False, id="interrupted"),
    ],
)
def test_any_other_exit_code_is_what_it_is(home: Path, step: str, code: int, passes: bool) -> None:
    assert ran(home, step, f"exit {code}").returncode == (0 if passes else code)


# containers

COMPOSE = DOCS / "examples" / "compose.yaml"
CONTAINERFILE = DOCS / "examples" / "Containerfile"


def ended(*words: str) -> int:
    """How a program ends; 127 where there is none."""
    try:
        return subprocess.run(words, capture_output=True, timeout=600, check=False).returncode
    except FileNotFoundError:
        return 127


def test_the_compose_file_names_what_is_there() -> None:
    found = yaml.safe_load(COMPOSE.read_text("utf-8"))
    service = found["services"]["nestobs"]
    context = (COMPOSE.parent / service["build"]["context"]).resolve()
    assert context == ROOT
    assert context / service["build"]["dockerfile"] == CONTAINERFILE
    used = {each.split(":")[0] for one in found["services"].values() for each in one["volumes"]}
    assert {name for name in used if name[0] != "."} == set(found["volumes"])
    assert {each["source"] for one in found["services"].values() for each in one.get("configs", ())} == set(
        found["configs"]
    )
    ports = [port for one in found["services"].values() for port in one["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports), "it is for this machine alone"
    scraped = yaml.safe_load(found["configs"]["prometheus"]["content"])["scrape_configs"][0]
    assert scraped["static_configs"][0]["targets"] == ["nestobs:9464"]


def test_prometheus_takes_the_configuration_in_the_compose_file(home: Path) -> None:
    text = yaml.safe_load(COMPOSE.read_text("utf-8"))["configs"]["prometheus"]["content"]
    (home / "prometheus.yml").write_text(text)
    assert "SUCCESS" in promtool("check", "config", str(home / "prometheus.yml"))


def test_what_reads_compose_files_for_docker_takes_ours_and_no_other(tmp_path: Path) -> None:
    program = tool("compose-go", "compose")
    assert ended(program, str(COMPOSE)) == 0
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text("utf-8").replace("restart: on-failure", "restrat: on-failure"))
    assert ended(program, str(wrong)) == 1


@pytest.mark.timeout(900)  # it installs all that nestobs needs
def test_the_container_can_be_built() -> None:
    if ended("docker", "info"):
        pytest.skip("there is no builder here")
    assert ended("docker", "build", "--tag", "nestobs-test", "--file", str(CONTAINERFILE), str(ROOT)) == 0


def test_what_lies_in_a_clone_beside_its_files_is_in_no_layer() -> None:
    """A store, a key or a report that somebody made there."""
    said = [line.split()[1:-1] for line in CONTAINERFILE.read_text("utf-8").splitlines() if line.startswith("COPY ")]
    copied = {path for paths in said if not paths[0].startswith("--from") for path in paths}
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = build["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        *wheel["packages"],
        *wheel["force-include"],
        build["project"]["readme"],
        *build["project"]["license-files"],
    }
    assert copied == needed | {"pyproject.toml", "constraints.txt"}


def test_what_the_container_runs_is_a_command(home: Path) -> None:
    """Its instructions, read as the builder does; the words that it runs parse, and its health check is Python."""
    text = CONTAINERFILE.read_text("utf-8").replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != "#"]
    names = [name for name, _ in lines]
    assert names[0] == "FROM"
    assert set(names) <= {"FROM", "COPY", "RUN", "USER", "WORKDIR", "VOLUME", "ENV", "EXPOSE", "STOPSIGNAL",
                          "HEALTHCHECK", "ENTRYPOINT", "CMD"}  # fmt: skip
    said = dict(lines)
    assert said["USER"] != "root"
    words = json.loads(said["ENTRYPOINT"]) + json.loads(said["CMD"])
    assert words[0] == "nestobs"
    assert callable(_parser().parse_args(words[1:]).command)
    compile(json.loads(said["HEALTHCHECK"].partition("CMD ")[2])[2], "health", "exec")
