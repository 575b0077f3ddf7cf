"""The processes that share the work of tuning."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor

MANY_ROWS = 1_000
"""From so many nests on, resamples are fitted by as many processes as there are processors."""


@contextlib.contextmanager
def processes(rows: int) -> Iterator[Executor | None]:
    """A pool where it pays. Workers start afresh: this process has threads. After Ctrl-C they end their fits first."""
    if rows < 100 * MANY_ROWS:
        yield None
        return
    import multiprocessing
    import os
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import resource_tracker

    workers = os.cpu_count() or 1
    resource_tracker.ensure_running()  # when it starts it lets Ctrl-C through again: so not within
    with _held_back():
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver"), initializer=_serve)
        for _ in range(workers):
            pool.submit(os.getpid)  # half a pool would never end
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Ctrl-C comes after it; to a process started within it, never: a terminal sends it to all of them."""
    import signal

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
    import os
    import threading

    def end_with_it() -> None:
        if (served := multiprocessing.parent_process()) is not None:
            served.join()
            os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
