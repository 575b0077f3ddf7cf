"""The media worker as seen from here: a process (worker_main.py) that is started, asked, and missed when it is lost.

Whatever becomes of it is our own fault and nobody else's: what is asked of it then raises WorkerLostError, and the
seats that it held end with the same words. It is lost when it ends by itself, by a signal, or stands still, which ends
in its being killed. It is started again at once after one loss, and later and later after more in a row. Tokens go to
it by the pipe alone; of what it writes to its standard error the last line is told, without them.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from nestobs.nostr import json_object
from nestobs.observation.duration import SECOND_NS
from nestobs.sources.clock import count
from nestobs.sources.livekit_words import scrubbed

COMMAND: Final = (sys.executable, "-P", "-m", "nestobs.sources.media.worker_main")
START_S: Final = 30.0
"""So long may it take to import the library, which takes a third of a second where nothing else is done."""

ANSWER_S: Final = 3.0
"""So much later than asked for may an answer come, before the worker is taken to stand still."""

AGAIN_S: Final = 1.0
"""Then it is looked once more: what is there already may be unread, where it was our own loop that stood still."""

END_S: Final = 5.0
"""So long may leaving take: of one room, or of all at the end (LEAVE_S of worker_main.py, and some)."""

LONGEST_PAUSE_S: Final = 60.0
STDERR_BYTES: Final = 4_096
_JWT: Final = re.compile(r"eyJ[\w.+/=-]+|access_token=\S+")

Result = TypeVar("Result")


class WorkerLostError(Exception):
    """The worker is not there, and why, in plain words."""


class Seat:
    """One visit that the worker makes. `ended` is set when it is over, with or without us: to the line that says so, or
    to how the worker was lost."""

    def __init__(self, worker: MediaWorker, number: int, token: str) -> None:
        self.ended: asyncio.Future[Mapping[str, Any] | WorkerLostError] = asyncio.get_running_loop().create_future()
        self.token = token
        self._worker, self._number = worker, number
        self._out = asyncio.Event()
        self._answers: asyncio.Queue[Mapping[str, Any] | WorkerLostError] = asyncio.Queue()

    async def ask(self, do: str, patience_s: float, **what: Any) -> Mapping[str, Any]:
        """What the worker answers within about so long. Raises WorkerLostError."""
        self._worker.send({"do": do, "visit": self._number, **what})
        answer = await self._worker.soon(patience_s, self._answers.get)
        if isinstance(answer, WorkerLostError):
            raise answer
        return answer

    async def look(self) -> None:
        """Make sure that it holds the seat still: `ended` is set where it does not, or stands still."""
        with contextlib.suppress(WorkerLostError):
            await self.ask("look", ANSWER_S)

    async def leave(self) -> None:
        """Leave the room. Never raises: with a worker that is lost, so is the seat."""
        self.give_up()
        await self._worker.soon(END_S, self._out.wait)

    def give_up(self) -> None:
        """Have it leave, be it in the middle of entering, and wait for nothing."""
        with contextlib.suppress(WorkerLostError):
            self._worker.send({"do": "leave", "visit": self._number})

    def hear(self, line: Mapping[str, Any] | WorkerLostError) -> None:
        """What the worker says of this visit, or that it is lost."""
        said = "lost" if isinstance(line, WorkerLostError) else line.get("said")
        if said in ("lost", "sent_away", "outside", "out") and not self.ended.done():
            self.ended.set_result(line)
        if said in ("lost", "out"):
            self._out.set()
        if said not in ("sent_away", "out"):
            self._answers.put_nowait(line)


class MediaWorker:
    """At most one process at a time, started by `ready`. `held` gives the one that an event loop's users share."""

    def __init__(self) -> None:
        self._users = 0
        self._process: Process | None = None
        self._up: asyncio.Future[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._seats: dict[int, Seat] = {}
        self._number = self._losses = self._not_before = 0
        self._lost = WorkerLostError("the media worker does not run")
        self._why = ""
        self._closed = False

    @classmethod
    def held(cls) -> MediaWorker:
        """The worker of this event loop, for one more user, who is to `release` it."""
        worker = _OF_LOOP.setdefault(asyncio.get_running_loop(), cls())
        worker._users += 1
        return worker

    async def release(self) -> None:
        """One user less. With the last one it leaves every room and ends, or is killed: nothing of it is left."""
        self._users -= 1
        if self._users == 0:
            del _OF_LOOP[asyncio.get_running_loop()]
            await self._close()

    async def ready(self) -> None:
        """Wait until it runs, started where it does not. Raises WorkerLostError: it fails to, or is not yet to."""
        async with self._starting:
            if self._up is None:
                await self._start()
            up = self._up
        assert up is not None
        await self.soon(START_S, lambda: asyncio.shield(up))

    async def enter(self, url: str, token: str, timeout_s: float) -> tuple[Mapping[str, Any], Seat]:
        """Have it enter a room: its answer, and the seat, to be left. Raises WorkerLostError."""
        await self.ready()
        self._number += 1
        seat = self._seats[self._number] = Seat(self, self._number, token)
        try:
            told = await seat.ask("enter", timeout_s + ANSWER_S, url=url, token=token, timeout_s=timeout_s)
        except asyncio.CancelledError:
            seat.give_up()
            raise
        if told.get("said") == "entered":
            self._losses = 0
        return told, seat

    def send(self, line: Mapping[str, Any]) -> None:
        """Write a line to it. Raises WorkerLostError where it does not run."""
        if self._process is None or self._process.stdin is None:
            raise self._lost
        self._process.stdin.write(f"{json.dumps(line)}\n".encode())

    async def soon(self, patience_s: float, awaited: Callable[[], Awaitable[Result]]) -> Result:
        """What is awaited of it. Where that does not come in about so long it is killed, which is an answer, too."""
        for left_s in (patience_s, AGAIN_S):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    return await awaited()
        self._kill(f"the media worker stood still: it did not answer within {patience_s:g} s and was killed")
        return await awaited()

    async def _close(self) -> None:
        self._closed = True
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        if self._process is None or self._following is None or self._up is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            if self._up.done():
                await asyncio.wait({self._following}, timeout=END_S)
        finally:
            self._kill("the media worker was closed")
            await self._following

    def _warm(self) -> None:
        """Have it start while nobody needs it."""

        async def start() -> None:
            with contextlib.suppress(WorkerLostError):  # whoever needs it is told
                await self.ready()

        if not self._closed and (self._warming is None or self._warming.done()):
            self._warming = asyncio.create_task(start(), name="media-worker-warming")

    async def _start(self) -> None:
        if self._closed:
            raise WorkerLostError("the media worker was closed")
        pause = self._not_before - count()
        if pause > 0:
            again = f"it is started again in {-(-pause // SECOND_NS)} s"
            raise WorkerLostError(f"{self._lost} ({self._losses} times in a row: {again})")
        pipes: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
        try:
            process = await asyncio.create_subprocess_exec(*COMMAND, **pipes, start_new_session=True)
        except OSError as error:
            raise WorkerLostError(f"the media worker cannot be started: {error.strerror}") from None
        self._process, self._why = process, ""
        self._up = asyncio.get_running_loop().create_future()
        self._following = asyncio.create_task(self._follow(process, self._up), name="media-worker")

    async def _follow(self, process: Process, up: asyncio.Future[None]) -> None:
        """Hear what it says until it has ended; then tell all who wait for it."""
        assert process.stdout is not None
        assert process.stderr is not None
        complaining = asyncio.create_task(_end_of(process.stderr))
        try:
            while line := await process.stdout.readline():
                self._hear(json_object(line) or {}, up)
        except ValueError:  # longer than any of its lines
            self._kill("the media worker said what is not understood and was killed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
        self._kill("the media worker said no more and was killed")
        code, complaint = await process.wait(), await complaining
        lost = WorkerLostError(self._why or f"the media worker {_ended(code)}{self._printable(complaint)}")
        self._process = self._up = None
        self._lost, self._losses = lost, self._losses + 1
        pause_s = 0.0 if self._losses == 1 else min(2.0 ** (self._losses - 2), LONGEST_PAUSE_S)
        self._not_before = count() + round(pause_s * SECOND_NS)
        if not up.done():
            up.set_exception(lost)
            up.exception()  # retrieved: maybe nobody waits
        seats, self._seats = self._seats, {}
        for seat in seats.values():
            seat.hear(lost)
        self._warm()

    def _hear(self, line: Mapping[str, Any], up: asyncio.Future[None]) -> None:
        if line.get("said") == "ready" and not up.done():
            up.set_result(None)
        number = line.get("visit")
        seat = self._seats.get(number) if isinstance(number, int) else None
        if seat is not None:
            seat.hear(line)
        if seat is not None and line.get("said") == "out":
            del self._seats[int(str(number))]

    def _kill(self, why: str) -> None:
        if self._process is not None and self._process.returncode is None and not self._why:
            self._why = why
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _printable(self, complaint: bytes) -> str:
        """The last line of its standard error, without a secret; "" where it said nothing."""
        lines = complaint.decode(errors="replace").strip().splitlines() or [""]
        last = scrubbed(lines[-1], *(seat.token for seat in self._seats.values()))
        return f": {_JWT.sub('[token]', last)}" if last else ""


_OF_LOOP: Final[dict[asyncio.AbstractEventLoop, MediaWorker]] = {}


async def _end_of(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while chunk := await stream.read(STDERR_BYTES):
        kept = (kept + chunk)[-STDERR_BYTES:]
    return kept


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def has_library() -> bool:
    """Whether the RTC library is installed: told without importing it."""
    try:
        return importlib.util.find_spec("livekit.rtc") is not None
    except ImportError:
        return False
