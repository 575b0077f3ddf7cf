"""Vantages on this machine beside a canary: each is a `nestobs watch --host` in a process and with a store of its own.

They are told whose nests to watch, and nothing else: each finds them on its relays. So one that dies, or never begins,
costs its own rows alone; what became of each is said at the end. They end with the canary; where that is killed, by
themselves after the time that it would have taken.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

READY_S: Final = 20.0
"""How long the first nest waits for vantages to watch."""

LINGER_S: Final = 2.0
"""How long they go on after the last nest was deleted: that is news to them, too."""

END_S: Final = 15.0
"""How long one may take to end when it is told to."""

LINE_BYTES: Final = 2**20
LAST_LINES: Final = 5
ENDED: Final = frozenset({0, 130})
"""The exit codes of one that did as it was told."""

_WATCHES: Final = "watches the nests of"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A vantage that is to be started. words: the flags that name its target; start: what starts nestobs there; store:
    its folder; shares: its requests count as the canary's own, being of one address at one API."""

    name: str
    words: tuple[str, ...]
    store: Path
    start: tuple[str, ...] = (sys.executable, "-m", "nestobs")
    shares: bool = True


@dataclass(slots=True)
class Beside:
    """What became of a vantage. code: its exit code, None while it is at work. told: whether it was told to end. why:
    why it could not be started, or its last words."""

    name: str
    store: str
    code: int | None = None
    told: bool = False
    why: str = ""

    @property
    def lost(self) -> bool:
        """Whether it did not observe to the end."""
        return not self.told or self.code not in ENDED

    def words(self) -> str:
        """For people."""
        if not self.lost:
            return f"vantage {self.name}: its rows are in {self.store}"
        if self.code is None:
            return f"vantage {self.name} was not started: {self.why}"
        early, why = "" if self.told else ", early", f": {self.why}" if self.why else ""
        return f"vantage {self.name} ended with {_ending(self.code)}{early}{why}; its rows are in {self.store}"

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {"name": self.name, "store": self.store, "code": self.code, "lost": self.lost, "why": self.why}


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


@dataclass(slots=True)
class _Running:
    found: Beside
    process: asyncio.subprocess.Process
    watches: asyncio.Event = field(default_factory=asyncio.Event)
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))

    async def hear(self) -> None:
        """Read what it says until it has ended."""
        assert self.process.stderr is not None
        with suppress(ValueError):  # a line of a megabyte
            async for line in self.process.stderr:
                text = line.decode("utf-8", "replace").strip()
                self.last.append(text)
                if _WATCHES in text:
                    self.watches.set()
        self.found.code = await self.process.wait()
        if self.found.lost:
            self.found.why = next((text for text in reversed(self.last) if text.startswith("nestobs: ")), "")
        self.watches.set()

    async def end(self) -> None:
        """Tell it to end, and wait until it has."""
        self.found.told = self.process.returncode is None
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(END_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()


@asynccontextmanager
async def beside(
    placed: Sequence[Placed], words: Sequence[str], progress: Callable[[str, dict[str, Any]], None]
) -> AsyncIterator[list[Beside]]:
    """Start these vantages, all with these words beside their own, and end them when the block is left.

    The block begins when each watches, has ended, or READY_S is over. The list says what became of each, when the block
    is left.
    """
    found = [Beside(each.name, str(each.store)) for each in placed]
    running: list[_Running] = []
    hearing: list[asyncio.Task[None]] = []
    try:
        for each, its in zip(placed, found, strict=True):
            if (one := await _started(each, its, words)) is not None:
                running.append(one)
                hearing.append(asyncio.create_task(one.hear()))
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                await asyncio.gather(*(one.watches.wait() for one in running))
        at_work = [one.found.name for one in running if one.watches.is_set() and one.found.code is None]
        progress(
            "vantages", {"said": f"{len(at_work)} of {len(placed)} vantages watch: {', '.join(at_work) or 'none'}"}
        )
        yield found
        await asyncio.sleep(LINGER_S)
    finally:
        await asyncio.gather(*(one.end() for one in running))
        await asyncio.gather(*hearing)


async def _started(placed: Placed, found: Beside, words: Sequence[str]) -> _Running | None:
    """The process of a vantage; None where there is none, with the reason in `found`."""
    command = [*placed.start, "watch", *placed.words, *words]
    command += ["--vantage", placed.name, "--store", str(placed.store), "-v", "--json"]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # no such program; a word that no program can be given
        found.why = f"{placed.start[0]!r} cannot be started ({getattr(error, 'strerror', '') or 'its words are none'})"
        return None
    return _Running(found, process)
