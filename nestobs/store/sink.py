"""Between sources and store: rows go to the writer, and a store that fails ends the work, not the cleaning up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from nestobs.errors import StoreError, mistake_in
from nestobs.observation.schema import Observation
from nestobs.store.writer import Writer

Result = TypeVar("Result")


class Pen:
    """A sink of rows. Its first failure is kept and told; later rows are dropped, so that cleaning up can go on."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.failed: StoreError | None = None
        self.written = 0
        self._stopped = asyncio.Event()

    def __call__(self, row: Observation) -> None:
        """Queue one row. Never raises."""
        if self.failed is None:
            try:
                self.writer.append([row])
                self.written += 1
            except StoreError as error:
                self._fail(error)

    async def committed(self) -> bool:
        """Wait until the rows so far are safe; False when the store has failed. Never raises."""
        if self.failed is None:
            try:
                await self.writer.flushed()
            except StoreError as error:
                self._fail(error)
        return self.failed is None

    async def during(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`, its rows safe. When the store fails, `work` is cancelled, may clean up, and the
        StoreError is raised; an operator's mistake inside a group of tasks comes out as itself."""
        task = asyncio.create_task(work)
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)
            await self.committed()
        if self.failed is not None:
            raise self.failed
        try:
            return task.result()
        except BaseExceptionGroup as group:
            raise mistake_in(group) or group from None

    def _fail(self, error: StoreError) -> None:
        self.failed = error
        self._stopped.set()
