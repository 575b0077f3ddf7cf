"""Where parts of a store are worked on: here, in processes, on a Dask cluster; and what becomes of killed workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import sleep

import numpy as np
import pandas as pd
import pytest

import nestobs
from nestobs.errors import FailedError, StoreError, UnreachableError, UsageError
from nestobs.exports.parts import Timelines, mapped, together
from nestobs.store.partitions import Partition, opened, plan, worked
from nestobs.store.reader import Store
from nestobs.store.sealing import FOLDER
from nestobs.timeline import intervals
from worlds.mixed import mixed_store
from worlds.stored_nests import drawn, nest_rows, store_of

pytestmark = pytest.mark.slow

MOST = 900


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A few thousand rows of everything."""
    return mixed_store(tmp_path_factory.mktemp("engines") / "store", 7, nests=14)


@pytest.fixture(scope="module")
def whole(store: Store) -> pd.DataFrame:
    """What one process makes of the whole of it."""
    return intervals.timelines(store.frame())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Dask scheduler with two worker processes, of their own, on loopback: the words that name it."""
    folder = tmp_path_factory.mktemp("dask")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = f"tcp://127.0.0.1:{port}"
    paths = os.pathsep.join([str(Path(nestobs.__file__).parents[1]), str(Path(__file__).parents[1])])
    settings = {"env": os.environ | {"PYTHONPATH": paths}, "cwd": folder}
    settings |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    started = [subprocess.Popen([*command, "--no-dashboard", "--no-show"], **settings)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", place, "--nthreads", "1", "--no-dashboard"]
    started += [subprocess.Popen([*worker, "--local-directory", str(folder)], **settings) for _ in range(2)]
    try:
        yield place.replace("tcp", "dask")
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)


@pytest.fixture
def ready(cluster: str) -> str:
    """The cluster, once both workers have come."""
    for _ in range(200):
        try:
            with opened(cluster) as executor:
                if len(executor._client.scheduler_info()["workers"]) == 2:
                    return cluster
        except UnreachableError:
            pass
        sleep(0.2)
    raise AssertionError("the workers do not come")


@dataclass(frozen=True)
class KilledOnce:
    """Timelines; whose process is killed at the first partition that it comes to, `times` times in all."""

    folder: Path
    times: int = 1

    def __call__(self, partition: Partition, *, elsewhere: intervals.Elsewhere | None) -> pd.DataFrame:
        for number in range(self.times):
            try:
                (self.folder / str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return Timelines()(partition, elsewhere=elsewhere)


def same(store: Store, task: object, engine: object, whole: pd.DataFrame) -> None:
    """All parts of it, on that engine, are the whole."""
    found = list(mapped(store, task, engine, most=MOST))
    assert len(found) > 2
    pd.testing.assert_frame_equal(together(found, intervals.ORDER), whole, check_exact=True)


@pytest.mark.parametrize("engine", [None, "here", "processes:2"])
def test_every_engine_gives_the_same(store: Store, whole: pd.DataFrame, engine: str | None) -> None:
    same(store, Timelines(), engine, whole)


def test_an_executor_of_ones_own_is_used_and_left_open(store: Store, whole: pd.DataFrame) -> None:
    with ThreadPoolExecutor(2) as executor:
        same(store, Timelines(), executor, whole)
        assert executor.submit(int, "7").result() == 7


def test_a_worker_that_is_killed_changes_nothing(store: Store, whole: pd.DataFrame, tmp_path: Path) -> None:
    same(store, KilledOnce(tmp_path), "processes:2", whole)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_a_part_that_is_lost_again_is_said_in_a_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FailedError, match=r"part 1 of \d+ .* was lost with its process, again") as told:
        list(mapped(store, KilledOnce(tmp_path, 20), "processes:1", most=MOST))
    assert "\n" not in str(told.value)
    broken = ProcessPoolExecutor(1, get_context("forkserver"))
    with pytest.raises(FailedError, match="was lost"), broken:
        list(mapped(store, KilledOnce(tmp_path, 40), broken, most=MOST))


def test_dask_gives_the_same_though_a_worker_is_killed(
    store: Store, whole: pd.DataFrame, ready: str, tmp_path: Path
) -> None:
    same(store, Timelines(), ready, whole)
    same(store, KilledOnce(tmp_path), ready, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_tuning_on_dask_is_tuning_here(ready: str, tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", nest_rows(*drawn(60)))
    here, there = (
        nestobs.tune(store, rng=np.random.default_rng(3), draws=100, engine=engine).as_dict()
        for engine in (None, ready)
    )
    assert here == there


def test_what_a_worker_cannot_read_is_said_as_here(tmp_path: Path) -> None:
    store = mixed_store(tmp_path / "store", 8, nests=6)
    partitions = plan(store, most=MOST).partitions
    for path in (store.directory / FOLDER).glob("*.parquet"):
        path.unlink()
    with opened("processes:1") as executor, pytest.raises(StoreError, match="is missing"):
        list(worked(Partition.read, partitions, executor))


def test_a_lack_of_dask_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'nestobs\[fleet\]'"), opened("dask://127.0.0.1:9"):
        pass
