"""A function of each partition, on any executor: results in order, and what a lost process had is done again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from nestobs.errors import FailedError, NestobsError
from nestobs.store.partitions.partition import Partition

T = TypeVar("T")
P = TypeVar("P", bound=Partition)

AHEAD: Final = 64
"""So many partitions are given out at once: their results wait here for the first."""


def worked(
    function: Callable[[P], T],
    partitions: Sequence[P],
    executor: Executor | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[T]:
    """`function` of each partition, in their order; executor: where, None: here, one after the other.

    A worker process that is killed loses what it was at: that is done again, once. Raises FailedError where it is lost
    again, and whatever the function does.
    """
    if executor is None:
        for partition in partitions:
            yield function(partition)
            _tell(progress, partition)
        return
    waiting: deque[tuple[P, Future[T]]] = deque()
    rest = iter(partitions)
    try:
        while True:
            for given in islice(rest, AHEAD - len(waiting)):
                waiting.append((given, _given(executor, function, given)))
            if not waiting:
                return
            partition, future = waiting.popleft()
            yield _result(partition, future, partial(_given, executor, function, partition))
            _tell(progress, partition)
    finally:
        for _, future in waiting:
            future.cancel()


def _given(executor: Executor, function: Callable[[P], T], partition: P) -> Future[T]:
    try:
        return executor.submit(function, partition)
    except BrokenExecutor as error:  # of an executor that does not mend itself (`engine.opened`)
        raise _lost(partition, error) from error


def _result(partition: Partition, future: Future[T], again: Callable[[], Future[T]]) -> T:
    try:
        return future.result()
    except BrokenExecutor:
        pass
    except NestobsError:
        raise
    except CancelledError as error:
        raise _lost(partition, error) from error
    except Exception as error:
        if _foreign(error):
            raise _lost(partition, error) from error
        raise
    try:
        return again().result()
    except BrokenExecutor as error:
        raise _lost(partition, error) from error


def _foreign(error: Exception) -> bool:
    """Whether it is an executor's own."""
    return type(error).__module__.partition(".")[0] == "distributed"


def _lost(partition: Partition, error: BaseException) -> FailedError:
    """In a sentence, what came to nothing."""
    return FailedError(
        f"part {partition.number} of {partition.of} ({partition.rows:,} observations) was lost with its process, again"
        f" after it was begun anew ({type(error).__name__}): was it killed, for want of memory? Nothing was written;"
        " give it a machine with more, or fewer processes by --engine processes:1"
    )


def _tell(progress: Callable[[str], None], partition: Partition) -> None:
    if partition.of > 1:
        progress(f"part {partition.number} of {partition.of}: {partition.rows:,} observations")
