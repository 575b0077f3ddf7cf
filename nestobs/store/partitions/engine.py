"""Executors by name: `here`, `processes`, `processes:4`, `dask://scheduler:8786`.

Worker processes start afresh (this one may have threads), and end when this one does, however it ends. A pool that a
killed worker has broken is replaced by a new one: whoever waits for what it had begun is told (`work.worked`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from nestobs.errors import UnreachableError, UsageError

P = ParamSpec("P")
T = TypeVar("T")

HERE: Final = "here"
WORDS: Final = f"{HERE}, processes, processes:N or dask://HOST:PORT"
CONNECT_S: Final = 10.0
MOST_PROCESSES: Final = 1_024


@contextlib.contextmanager
def opened(engine: Executor | str | None) -> Iterator[Executor | None]:
    """What these words name, to be used within; None: here. An executor is used as it is, and left open.

    Raises UsageError for words that name none and where Dask is not installed, UnreachableError where no scheduler
    answers.
    """
    if engine is None or engine == HERE:
        yield None
    elif isinstance(engine, Executor):
        yield engine
    elif (kind := str(engine).partition(":")[0]) == "processes":
        with Processes(_number(str(engine))) as pool:
            yield pool
    elif kind == "dask":
        with _dask(str(engine)) as pool:
            yield pool
    else:
        raise UsageError(f"{str(engine)[:80]!r} is no engine: write {WORDS}")


def check(engine: str) -> str:
    """The words, if they name an engine as far as can be told without it. Raises UsageError."""
    kind = engine.partition(":")[0]
    if kind == "processes":
        _number(engine)
    elif kind == "dask":
        _scheduler(engine)
    elif engine != HERE:
        raise UsageError(f"{engine[:80]!r} is no engine: write {WORDS}")
    return engine


def _number(engine: str) -> int:
    """How many processes; as many as there are processors where that is not said."""
    _, colon, number = engine.partition(":")
    if not colon:
        return os.cpu_count() or 1
    if not (number.isascii() and number.isdigit() and 0 < int(number[:9]) <= MOST_PROCESSES):
        raise UsageError(f"{engine[:80]!r}: write how many processes, processes:4")
    return int(number)


class Processes(Executor):
    """A pool of processes that mends itself: what is submitted after a worker was killed goes to a new one."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As every executor."""
        try:
            return self._begun().submit(fn, *args, **kwargs)
        except BrokenExecutor:
            self.shutdown(wait=False)
            return self._begun().submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Let the processes end what they are at, and go."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait, cancel_futures=cancel_futures)

    def _begun(self) -> ProcessPoolExecutor:
        if self._pool is None:
            import multiprocessing
            from multiprocessing import resource_tracker

            resource_tracker.ensure_running()  # when it starts it lets Ctrl-C through again: so not within
            with _held_back():
                context = multiprocessing.get_context("forkserver")
                self._pool = ProcessPoolExecutor(self._workers, context, initializer=_serve)
                for _ in range(self._workers):
                    self._pool.submit(os.getpid)  # half a pool would never end
        return self._pool


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Ctrl-C comes after it; to a process started within it, never: a terminal sends it to all of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        for number in came:
            signal.raise_signal(number)


def _serve() -> None:
    """A worker ends when the process it works for does, however that ended."""
    import multiprocessing

    def end_with_it() -> None:
        if (served := multiprocessing.parent_process()) is not None:
            served.join()
            os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()


def _scheduler(engine: str) -> str:
    """HOST:PORT of a Dask scheduler."""
    place = engine.removeprefix("dask://").removesuffix("/")
    host, _, port = place.rpartition(":")
    named = engine.startswith("dask://") and host and not set(place) & set("/@?#")
    if not (named and port.isascii() and port.isdigit() and 0 < int(port[:9]) <= 65_535):
        raise UsageError("--engine dask:// names a Dask scheduler: write dask://HOST:PORT, as dask://10.0.0.5:8786")
    return place


@contextlib.contextmanager
def _dask(engine: str) -> Iterator[Executor]:
    place = _scheduler(engine)
    try:
        import distributed
    except ImportError:
        raise UsageError("a Dask engine needs Dask: pip install 'nestobs[fleet]'") from None
    import logging

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it says is said in a sentence
    try:
        with ThreadPoolExecutor(1) as apart:  # of a loop that may run here, as in a notebook
            apart.submit(lambda: asyncio.run(_greeted(place))).result()
        client: Any = distributed.Client(  # type: ignore[no-untyped-call] # Dask ships no types
            f"tcp://{place}", timeout=CONNECT_S, set_as_default=False, direct_to_workers=True
        )
    except Exception as error:
        none = isinstance(error, OSError)
        what = f"no Dask scheduler answers at {place}" if none else f"what answers at {place} is no Dask scheduler"
        raise UnreachableError(
            f"{what} ({type(error).__name__}): start one with `dask scheduler`, or leave --engine out"
        ) from None
    try:
        yield _workers_of(client, place)
    finally:
        client.close()


async def _greeted(place: str) -> None:
    """Raises whatever comes of one that is no scheduler: what another server says is read as lengths of anything, and
    a client waits for ever for one that says nothing, and again when it is let go."""
    from distributed.comm.core import connect

    connecting = connect(f"tcp://{place}", timeout=CONNECT_S)  # type: ignore[no-untyped-call] # Dask ships no types
    scheduler = await asyncio.wait_for(connecting, 2 * CONNECT_S)
    await scheduler.close()


def _workers_of(client: Any, place: str) -> Executor:
    """Raises UnreachableError for a scheduler without any."""
    if not client.scheduler_info().get("workers"):
        raise UnreachableError(
            f"the Dask scheduler at {place} has no worker: start some with `dask worker tcp://{place}`, where nestobs"
            " is installed and the store can be read under the same name"
        )
    executor: Executor = client.get_executor(pure=False)  # else each task is hashed whole, for a name
    return executor
