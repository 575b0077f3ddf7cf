"""A lab of our own for one run: its process, the folder it works in, and what it would leave behind.

The lab runs in a process of its own, as a deployment would; nothing of it is imported here.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from nestobs.collector.station import Target
from nestobs.errors import NestobsError, UsageError
from nestobs.observation.duration import SECOND_NS
from nestobs.sources.livekit import LiveKit
from nestobs.sources.vantage import Vantage

READY_S: Final = 60.0
LISTED_S: Final = 10.0
OURS: Final = (Path("lab", "lab.json"), Path("store", "journal.sqlite"))
"""A folder that holds one of these is of an earlier run."""


class LabFailedError(NestobsError):
    """The lab's process did not come up."""

    exit_code = 3


def empty(out: Path, made: Collection[str], what: str) -> None:
    """Make the folder `out` empty. Only what `what` (an earlier demo, …) leaves is ever removed, the names in `made`,
    and only where there is nothing else. Raises UsageError otherwise."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: give --out a folder")
    found = {path.name for path in out.iterdir()} if out.exists() else set()
    if found:
        if found - set(made) or not any((out / path).exists() for path in OURS):
            raise UsageError(f"{out} holds other things than {what}: give --out another folder")
        shutil.rmtree(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be made ({error.strerror}): give --out another folder") from None


@asynccontextmanager
async def running_lab(
    directory: Path, scenarios: Sequence[str], *, seed: int, vantages: int, options: Sequence[str] = ()
) -> AsyncIterator[dict[str, Any]]:
    """A lab in a process of its own; yields what it says of itself (lab.json). Raises LabFailedError with why not."""
    words = [sys.executable, "-m", "nestobs", "lab", "--json", "--dir", str(directory), "--seed", str(seed)]
    words += ["--vantages", str(vantages), *options, *(w for name in scenarios for w in ("--scenario", name))]
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**20, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        try:
            async with asyncio.timeout(READY_S):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            await _ended(process, 1.0)  # it has most likely ended by itself, and said why
            said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
            raise LabFailedError(f"the lab did not start: {said[-1] if said else 'it said nothing'}")
        draining = asyncio.create_task(process.stderr.read())
        yield json.loads(line)
        draining.cancel()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await _ended(process, 10.0)


async def _ended(process: asyncio.subprocess.Process, patience_s: float) -> None:
    """Wait until it has ended; killed when that takes longer."""
    try:
        async with asyncio.timeout(patience_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def listed(target: Target, made: Collection[str]) -> list[str]:
    """A sentence for each of these rooms that LiveKit still lists, sorted; asked again until it answers and lists none,
    `LISTED_S` at most."""
    vantage = Vantage("leaks", "", lambda _: None)
    clock = vantage.clock
    end = clock.now() + round(LISTED_S * SECOND_NS)
    async with LiveKit(vantage, target.livekit, key=target.livekit_key, secret=target.livekit_secret) as livekit:
        while (rooms := await livekit.all_rooms()) is None or set(made) & set(rooms):
            if clock.now() >= end:
                break
            await clock.until(clock.now() + SECOND_NS)
    if rooms is None:
        return ["LiveKit's room list is not answered, so what is left is not known"]
    return [f"LiveKit lists {room}" for room in sorted(set(made) & set(rooms))]
