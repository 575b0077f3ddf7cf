"""When Python looks for garbage while something is observed: seldom, since nothing else runs meanwhile.

What nobody refers to any more is freed at once. Only rings of objects that refer to each other wait for the collector,
which stops the process for as long as it looks: a tenth of a second where there are half a million objects, and that by
itself several times a minute, each time their number has grown by a quarter. A question is sent, and an answer
stamped, so much too late. So, while a block is entered:

    what is there at its beginning (modules)    is not looked at again (gc.freeze), until it is left
    what is young                               is looked at as ever: the rings of failed requests die young
    all that came since                         once every `EVERY_S`, of which that takes well under a hundredth

So a ring that lived on for a while is freed within `EVERY_S` of its end, and memory stays flat.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

EVERY_S: Final = 60.0

_NEVER: Final = 1_000_000_000
"""More rounds of the young than there will be: the collector does not look at the old by itself (gc.set_threshold)."""


@dataclass(slots=True)
class _Blocks:
    """Those that are entered now. thresholds: as they were before; looked_at: by the loop's clock, seconds."""

    entered: int = 0
    thresholds: tuple[int, int, int] = (0, 0, 0)
    looked_at: float = 0.0

    def begin(self) -> None:
        self.entered += 1
        if self.entered == 1:
            gc.collect()
            gc.freeze()
            self.thresholds = gc.get_threshold()
            gc.set_threshold(*self.thresholds[:2], _NEVER)

    def end(self) -> None:
        self.entered -= 1
        if self.entered == 0:
            gc.set_threshold(*self.thresholds)
            gc.unfreeze()

    async def look(self, every_s: float) -> None:
        """Look for garbage every so often, but not where another block did so."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(every_s)
            if gc.isenabled() and loop.time() - self.looked_at > every_s / 2:
                gc.collect()
                self.looked_at = loop.time()


_of_this_process: Final = _Blocks()


@asynccontextmanager
async def collected_seldom(every_s: float = EVERY_S) -> AsyncIterator[None]:
    """Until the block is left, garbage is looked for so. Blocks may overlap: the last one that is left ends it.

    Where somebody has turned the collector off (gc.disable), it stays off.
    """
    _of_this_process.begin()
    task = asyncio.create_task(_of_this_process.look(every_s), name="garbage")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        _of_this_process.end()
