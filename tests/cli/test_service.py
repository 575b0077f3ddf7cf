"""`nestobs run` as a process beside a lab: what it does, its health, and how it ends, is killed, runs out of room."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Source
from nestobs.sources.clock import Clock
from nestobs.store.reader import Store
from worlds import scheduled_reports as reports
from worlds.command_line import NOBODY, Host, LabBeside, clear_environment, is_one_sentence, process
from worlds.stored_nests import NOON, drawn, nest_rows

pytestmark = pytest.mark.slow

DAY = 86_400 * SECOND_NS
CANARIES = '[run.canaries]\nevery = "1m"\ncount = 1\nhorizon = "4s"\n'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabBeside]:
    with LabBeside(["calm"], tmp_path_factory.mktemp("lab"), delay_scale=0.3) as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with nothing in it."""
    clear_environment(monkeypatch, tmp_path)
    return tmp_path


class Service:
    """`nestobs run` by the lab's targets and this [run], its health on a free port."""

    def __init__(self, home: Path, targets: str, run: str, *, text: str = "") -> None:
        (home / "nestobs.toml").write_text(f'{targets}\n[run]\nlisten = "127.0.0.1:0"\n{text}{run}')
        self.err = (home / f"err-{time.monotonic_ns()}").open("w+")
        self.process = subprocess.Popen([sys.executable, "-m", "nestobs", "run"], stderr=self.err)
        self.until(lambda: "health is told at" in self.said)
        self.url = self.said.split("health is told at ")[1].split("/health")[0]

    @property
    def said(self) -> str:
        self.err.seek(0)
        return self.err.read()

    def health(self) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/health", timeout=20)
        found: dict[str, Any] = answer.json()
        assert answer.status_code == (200 if found["status"] == "ok" else 503)
        assert bool(found["reasons"]) == (found["status"] == "degraded")
        return found

    def until(self, check: Callable[[], object]) -> Any:
        """Wait for what is true, a minute at most."""
        ends = time.monotonic() + 60
        while not (found := check()):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < ends, f"it does not come so far: {self.said}"
            time.sleep(0.05)
        return found

    def burst(self) -> str:
        """What came of the last burst, once there is one."""
        return str(self.until(lambda: self.health()["canaries"]["last"]))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert "Traceback" not in self.said
        return code


@pytest.fixture
def service(home: Path, lab: LabBeside) -> Iterator[Callable[..., Service]]:
    """Begins one beside the lab; what still runs at the end is killed."""
    begun: list[Service] = []

    def begin(run: str = CANARIES, *, targets: str = "", text: str = "") -> Service:
        begun.append(Service(home, targets or Path(lab.config).read_text("utf-8"), run, text=text))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.wait()
        each.err.close()


def rows() -> list[Any]:
    return list(Store.open("nestobs-data").observations())


def test_it_watches_makes_canaries_and_reports_and_tells_its_health(
    lab: LabBeside, home: Path, service: Callable[..., Service]
) -> None:
    at = Clock().now() // DAY * DAY - DAY  # yesterday, of which there is a report to make, and which is to be sealed
    reports.write(home / "mine.ipynb")
    with Store.open("nestobs-data").writer() as writer:
        writer.append(_at(row, at + row.sent_at - NOON) for row in nest_rows(*drawn(3)))
    running = service(f'{CANARIES}[run.reports]\nnames = "mine.ipynb"\nat = "00:00"\n[run.keep]\nreports = "90d"\n')
    assert "made 1 nests; joins: 1 authenticated, 1 guest" in running.burst()
    theirs = str(Host(lab).open())
    made = running.until(lambda: running.health()["reports"]["last"].get("mine"))
    assert made["verdict"] == "good"
    day = f"{time.strftime('%Y-%m-%d', time.gmtime(at // SECOND_NS))}"
    assert made["window"] == day
    assert reports.whole(home / "reports" / "mine" / day)["verdict"] == "good"
    running.until((home / "nestobs-data" / "observations").is_dir)
    told = running.health()
    assert told["watching"] is True
    assert 0 < told["budget"]["left"] < told["budget"]["allowed"]
    assert told["canaries"]["next_at"] > told["canaries"]["last_due_at"]
    text = httpx.get(f"{running.url}/metrics", timeout=20).text
    assert "nestobs_build_info" in text
    assert httpx.get(f"{running.url}/other").status_code == 404

    second = process("run")
    is_one_sentence(second, 5, f"process {running.process.pid} is the service of the store")
    running.until(lambda: any(row.nest == theirs and row.source is Source.API for row in rows()))
    assert running.stop() == 130
    found = [row for row in rows() if row.nest and row.sent_at > at + DAY]
    traces = {row.nest: {other.trace_id for other in found if other.nest == row.nest} for row in found}
    assert {len(each) for each in traces.values()} == {1}, "a nest of its own was watched as one of others, too"
    assert Store.open("nestobs-data").ledger() == []
    assert lab.rooms() == [theirs.split(":")[2]]


def _at(row: Any, at: int) -> Any:
    return replace(row, sent_at=at, received_at=None if row.received_at is None else at + row.received_at - row.sent_at)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 129)])
def test_it_ends_by_a_signal_in_the_middle_of_a_burst_and_leaves_nothing(
    lab: LabBeside, service: Callable[..., Service], number: int, code: int
) -> None:
    before = set(lab.rooms())
    running = service(CANARIES.replace('"4s"', '"25s"'))
    running.until(lambda: set(lab.rooms()) - before)
    assert running.stop(number) == code
    assert set(lab.rooms()) == before
    assert Store.open("nestobs-data").ledger() == []


def test_killed_in_the_middle_of_a_burst_it_cleans_up_and_goes_on_with_the_next_turn(
    lab: LabBeside, home: Path, service: Callable[..., Service]
) -> None:
    before = set(lab.rooms())
    minute = Clock().now() // SECOND_NS // 60
    period = next(each for each in range(60, 120) if minute % each < each / 3)  # its present turn is not nearly over
    every = CANARIES.replace('"1m"', f'"{period}m"').replace('"4s"', '"25s"')
    running = service(every)
    running.until(lambda: set(lab.rooms()) - before and Store.open("nestobs-data").ledger())
    running.process.kill()
    running.process.wait()
    burst = json.loads((home / "nestobs-data" / "service.json").read_text())["burst"]
    made, runs = len([row for row in rows() if row.operation is Operation.CREATE]), {row.run_id for row in rows()}
    again = service(every)
    again.until(lambda: Store.open("nestobs-data").ledger() == [] and set(lab.rooms()) == before)
    again.until(lambda: again.health()["canaries"]["next_at"])
    told = again.health()
    assert told["canaries"]["last"] is None, "the burst that was killed was made again"
    assert json.loads((home / "nestobs-data" / "service.json").read_text())["burst"] == burst
    assert again.stop() == 130
    assert len([row for row in rows() if row.operation is Operation.CREATE]) == made
    polls = (Operation.INFO, Operation.GUEST, Operation.JOIN)
    assert [row for row in rows() if row.run_id not in runs and row.operation in polls] == [], "watched as of others"


def test_a_disk_without_room_is_told_waited_for_and_loses_nothing(
    lab: LabBeside, service: Callable[..., Service]
) -> None:
    running = service()
    running.burst()
    held = {row.observation_id for row in rows()}
    pid, (_, hard) = running.process.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    told = running.until(lambda: (found := running.health())["disk"]["full"] and found)
    assert told["status"] == "degraded"
    assert "no room to write" in told["reasons"][0]
    assert held <= {row.observation_id for row in rows()}
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    running.until(lambda: not running.health()["disk"]["full"])
    assert "there is room again" in running.said
    count = len(rows())
    running.until(lambda: len(rows()) > count)
    assert running.stop() == 130
    assert held <= {row.observation_id for row in rows()}
    assert Store.open("nestobs-data").ledger() == []


def test_what_cannot_be_reached_is_observed_and_ends_nothing(service: Callable[..., Service]) -> None:
    api, relay = NOBODY[1], NOBODY[3]
    running = service(targets=f'[targets.nobody]\napi = "{api}"\nrelays = ["{relay}"]\n')
    assert "not made: the API at" in running.burst()
    assert running.health()["status"] == "degraded"
    assert running.stop() == 130
    assert any(row.operation is Operation.HEALTH and row.outcome is Outcome.UNKNOWN for row in rows())


def test_what_the_budget_cannot_pay_is_left_out_and_said(
    home: Path, tmp_path_factory: pytest.TempPathFactory, service: Callable[..., Service], scenario: Any
) -> None:
    with LabBeside([scenario("[rate_limit]\nrequests = 30")], tmp_path_factory.mktemp("poor")) as poor:
        running = service("watch = false\n" + CANARIES, targets=Path(poor.config).read_text("utf-8"))
        running.burst()
        running.until(lambda: any(row.failure is Failure.BUDGET and row.planned_at for row in rows()))
        told = running.health()
        assert "canaries of" in " ".join(told["reasons"])
        assert "not made" in " ".join(told["reasons"])
        assert running.stop() == 130
        assert poor.rooms() == []


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        pytest.param("", "there is no [run] in", id="no table"),
        pytest.param("[run]\nwatch = false", "observes nothing", id="nothing to do"),
        pytest.param('[run]\nlisten = "127.0.0.1:1x"', "is no address", id="no address"),
        pytest.param('[run]\ntarget = "other"', "target 'other' is unknown", id="no such target"),
    ],
)
def test_a_plan_that_is_none_is_one_sentence(home: Path, toml: str, words: str) -> None:
    target = f'[targets.one]\napi = "{NOBODY[1]}"\nrelays = ["{NOBODY[3]}"]\n'
    (home / "nestobs.toml").write_text(f"{target}{toml}\n")
    is_one_sentence(process("run"), 2, words)


def test_a_port_that_is_taken_is_one_sentence(home: Path, lab: LabBeside) -> None:
    taken = lab.way("calm")["api"].split("/")[2]
    (home / "nestobs.toml").write_text(f'{Path(lab.config).read_text()}\n[run]\nlisten = "{taken}"\n')
    is_one_sentence(process("run", env=dict(os.environ)), 2, "/health cannot be answered at")


def test_what_is_sealed_is_shipped_and_until_then_kept(home: Path, service: Callable[..., Service]) -> None:
    from nestobs.store.sealing import FOLDER

    store, written = Store.open("nestobs-data"), list(nest_rows(*drawn(3)))
    with store.writer() as writer:
        writer.append(written)
    (home / "fleet").write_text("no folder")
    sealed = home / "nestobs-data" / FOLDER
    begun = service('watch = true\n[run.keep]\nstore = "1d"\n', text='ship = "fleet"\n')
    begun.until(lambda: "sealed files were not shipped" in begun.said)
    assert any("sealed files were not shipped" in reason for reason in begun.health()["reasons"])
    assert list(sealed.glob("*.parquet"))
    begun.stop()
    (home / "fleet").unlink()
    begun = service('watch = true\n[run.keep]\nstore = "1d"\n', text='ship = "fleet"\n')
    begun.until(lambda: "older than they are to be kept" in begun.said)
    assert begun.stop() == 130
    written.sort(key=lambda row: (row.sent_at, row.observation_id))
    assert list(Store.open(home / "fleet").observations(end=NOON + DAY)) == written
    assert not list(store.observations(end=NOON + DAY))
