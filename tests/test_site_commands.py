"""Each `nestobs` command of the README and of the site is run as it is written, in a folder such as its page describes.

The deployment that pages call `production` is a lab here. What would go on for long, or until it is interrupted, is run
shorter; what is not run says why.
"""

from __future__ import annotations

import gzip
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest

from nestobs.join.policy import exponential
from nestobs.store.example import SHIPPED
from nestobs.store.reader import Store
from nestobs.tuning.policy_file import PolicyFile, dumps
from worlds.command_line import Host, LabBeside
from worlds.parsers_of_logs import ACCESS, API, CONSOLE, HAR, LIVEKIT, TRANSCRIPT
from worlds.shipped_stores import shipped
from worlds.written_pages import README, SITE

pytestmark = pytest.mark.slow

Value = TypeVar("Value")

NOT_RUN = {
    "nestobs lab": "it runs until it is interrupted: the lab of these tests is one",
    "nestobs notebook": "it opens JupyterLab: tests/cli/test_notebooks.py does that without a browser",
    "nestobs prove": "it takes minutes: tests/trial/test_prove.py runs it",
    "nestobs run": "it is a service, and has tests of its own",
    "nestobs timeline --engine dask://10.0.0.5:8786": "it asks a cluster: tests/store/test_engines.py has one",
    "nestobs metrics --listen": "it serves until it is interrupted, and has tests of its own",
}
"""Beginnings of commands, and why they are not run here."""

ADDED = {
    "nestobs canary": ["--horizon", "3s"],
    "nestobs live": ["--once"],
    "nestobs join": ["--visit-empty"],
    "nestobs metrics --textfile": ["--once"],
}
"""What ends a command soon, and lets it visit a room of the lab, in which nobody is."""

SHORTER = {
    "1h": "2s",
    "7d": "1d",
    "30d": "1d",
    "10000000": "10000",
    "2026-11-01/2026-11-08": "2026-11-27/2026-11-28",  # when the example was made
    "/var/lib/node_exporter/nestobs.prom": "nestobs.prom",
    "s3://fleet/nests": "fleet",
    "/mnt/fleet": "elsewhere",
    "curl --fail --json @- https://hooks.example/nests": "cat",
}
"""Words, and what stands for them here."""

BEFORE = {"nestobs report prune": "nestobs report run daily_report --window 2026-01-01T06:00/2026-01-01T12:00"}
"""What a page has done by then."""

IN_THE_EXAMPLE = "5dc7d2a5"

ANSWERS = {
    "nestobs diagnose": {0, 1},  # 1: a standing fault
    "nestobs ready": {0, 1},  # 1: not yet
    "nestobs doctor": {0, 1, 3},  # on a busy machine a room is late, or the observer
    "nestobs canary": {0, 1},  # likewise: nobody got in
    "nestobs join": {0, 1},
    "nestobs tune": {0, 1},  # 1: it recommends nothing
    "nestobs report": {0, 4},  # 4: too little data for a verdict
}
"""Exit codes that are answers; every other command ends with 0."""


def of(table: Mapping[str, Value], line: str) -> Value | None:
    return next((value for start, value in table.items() if f"{line} ".startswith(f"{start} ")), None)


def written() -> list[str]:
    lines = [line for page in (README, *SITE) for line in page.commands("nestobs")]
    return sorted({shlex.join(shlex.split(line, comments=True)) for line in lines})


FILES = {
    "api.log": API,
    "livekit.log": LIVEKIT,
    "access.log.1.gz": gzip.compress(ACCESS.encode()),
    "relay.txt": TRANSCRIPT,
    "console.txt": CONSOLE,
    "b.har": HAR,
    "policy.json": dumps(PolicyFile(policy=exponential())),
    "vantages.toml": "[vantages.beside]\n",
}


class Taking(BaseHTTPRequestHandler):
    """Where pages send spans: it takes whatever is sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def taking_spans() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with all that pages speak of and a deployment, and what stands for the words of the pages."""
    folder = tmp_path_factory.mktemp("pages")
    for store in ("nestobs-data", "incident"):
        shutil.copytree(SHIPPED, folder / store)
    shipped(Store.open(folder / "nestobs-data"), folder / "fleet")
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    lab = LabBeside(["slow-api", "calm"], folder / "runs" / "lab", livekit="stand-in")
    with lab, taking_spans() as spans:
        config = Path(lab.config).read_text("utf-8")
        (folder / "nestobs.toml").write_text(config.replace("[targets.calm]", "[targets.production]"), "utf-8")
        host = Host(lab, "calm")
        named = {"naddr1…": str(host.open()), "npub1…": host.keys.public}
        yield folder, SHORTER | named | {"http://127.0.0.1:4318": spans}


def test_there_is_a_reason_for_what_is_not_run_and_it_is_no_large_part():
    left = [line for line in written() if of(NOT_RUN, line)]
    assert 0 < len(left) < len(written()) / 5


def run(line: str, place: tuple[Path, dict[str, str]], state: Path) -> subprocess.CompletedProcess[str]:
    folder, words = place
    if "--target" not in line:  # of a store, then, and not of the deployment
        words = words | {"naddr1…": IN_THE_EXAMPLE}
    asked = [words.get(word, word) for word in shlex.split(line)[1:]] + (of(ADDED, line) or [])
    return subprocess.run(
        [sys.executable, "-m", "nestobs", *asked],
        cwd=folder,
        env=os.environ | {"NESTOBS_STATE_DIR": str(state), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.timeout(300)  # a report or a tuning takes seconds, and minutes on a machine that has much else to do
@pytest.mark.parametrize("line", written())
def test_a_command_does_what_its_page_says(line, place, tmp_path):
    if why := of(NOT_RUN, line):
        pytest.skip(why)
    if before := of(BEFORE, line):
        run(before, place, tmp_path / "state")
    said = run(line, place, tmp_path / "state")
    assert said.returncode in (of(ANSWERS, line) or {0}), f"{said.stdout[-2000:]}\n{said.stderr[-2000:]}"
    assert "Traceback" not in said.stderr
