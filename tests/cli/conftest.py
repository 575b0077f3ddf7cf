"""What the tests of the command line share: an empty home, a lab beside, a store that was observed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nestobs.lab.scenario import read_scenario
from nestobs.nostr import Address
from nestobs.observation.schema import Observation, Operation, Outcome, Source
from nestobs.store.reader import Store
from worlds.command_line import SECOND_NS, STARTING, Host, LabBeside, Said, clear_environment, here, now_s, process


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and no variable of the developer's own."""
    clear_environment(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabBeside]:
    starting = read_scenario(STARTING, name="starting", where="starting.toml")
    scenarios = ["calm", "rate-limited", starting]
    directory = tmp_path_factory.mktemp("lab")
    with LabBeside(scenarios, directory, vantages=2, delay_scale=0.3) as running:
        yield running


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """`run("ready", room, …)`: the command in this process."""

    return partial(here, capsys)


@pytest.fixture(scope="module")
def observed(lab: LabBeside, tmp_path_factory: pytest.TempPathFactory) -> tuple[Said, Path]:
    """What a canary of two nests from two vantages said, and its store."""
    store = tmp_path_factory.mktemp("observed") / "store"
    with pytest.MonkeyPatch.context() as patch:
        clear_environment(patch, store.parent)
        words = ("--also", "calm-b", "--count", "2", "--horizon", "3s", "--every", "100ms", "--seed", "1", "--json")
        return process("canary", *lab.target("calm"), "--store", str(store), *words), store


def _row(number: int) -> Observation:
    return Observation(
        observation_id=f"id-{number}",
        run_id="run",
        vantage="here",
        source=Source.API,
        target="http://h/api/v1/nests",
        operation=Operation.INFO,
        sent_at=now_s() * SECOND_NS,
        received_at=now_s() * SECOND_NS + 1,
        outcome=Outcome.VISIBLE,
        status=200,
    )


@pytest.fixture
def stored(home: Path) -> Path:
    """./nestobs-data with three rows."""
    with Store.open(home / "nestobs-data").writer() as writer:
        writer.append([_row(number) for number in range(3)])
    return home / "nestobs-data"


@pytest.fixture(scope="module")
def nest(lab: LabBeside) -> Address:
    """A live nest of somebody else."""
    return Host(lab).open()
