"""The process in which the RTC library runs: `python -m nestobs.sources.media.worker_main`.

The library ends the process it is in when its event loop stood still (for 15 s in the middle of entering, for 45 s at
another time), and has aborted one at its exit: so it has a process to itself, that can be lost. It is spoken to by
lines of JSON, one object each:

    in   {"do": "enter", "visit": 1, "url": ..., "token": ..., "timeout_s": 10}    "look" and "leave": visit alone
    out  {"said": "ready"}
         {"visit": 1, "said": "entered" | "timed_out" | "failed" | "fault", ...}   once to "enter"
         {"visit": 1, "said": "inside" | "outside", ...}                           to "look"
         {"visit": 1, "said": "sent_away", "reason": 5}                            LiveKit's DisconnectReason
         {"visit": 1, "said": "out"}                                               it is over, whatever came of it

Instants are counts of one clock, which all processes of a machine share (clock.count). When the standard input ends,
however the other side ended, so does this process: it leaves what it is in, and takes `LEAVE_S` for it at most. Ctrl-C
does not reach it. Its tokens came by the pipe and are in no core that it dumps.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import json
import logging
import os
import resource
import signal
import sys
import threading
from typing import Any, Final

from nestobs.sources.clock import Clock, LoopWatch, count

LEAVE_S: Final = 3.0
_PR_SET_PDEATHSIG: Final = 1


class Worker:
    """The visits of this process. `hear` takes a line, answers go to the file `out`."""

    def __init__(self, out: int) -> None:
        self.over = asyncio.Event()
        self._out = out
        self._watch = LoopWatch(Clock(count, count), lambda _: None)
        self._called: dict[int, asyncio.Event] = {}
        self._inside: set[int] = set()
        self._visits: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Do what is asked for until it is over, then leave every room."""
        async with self._watch.running():
            self._say({"said": "ready"})
            await self.over.wait()
            for called in self._called.values():
                called.set()
            if self._visits:
                await asyncio.wait(self._visits, timeout=LEAVE_S)

    def hear(self, line: bytes) -> None:
        """One line of the standard input."""
        asked = json.loads(line)
        number = asked["visit"]
        if asked["do"] == "enter":
            self._called[number] = asyncio.Event()
            task = asyncio.create_task(self._visit(number, asked["url"], asked["token"], asked["timeout_s"]))
            self._visits.add(task)
            task.add_done_callback(self._visits.discard)
        elif asked["do"] == "look":
            self._tell(number, "inside" if number in self._inside else "outside")
        elif number in self._called:
            self._called[number].set()

    async def _visit(self, number: int, url: str, token: str, timeout_s: float) -> None:
        from livekit import rtc

        began, called, room = count(), self._called[number], rtc.Room()
        connecting = asyncio.ensure_future(room.connect(url, token, rtc.RoomOptions(auto_subscribe=False)))
        leaving = asyncio.create_task(called.wait())
        try:
            await asyncio.wait({connecting, leaving}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            told = {"began": began, "ended": count(), "lag_s": self._watch.lag_s(began)}
            if not connecting.done() and not called.is_set():
                self._tell(number, "timed_out", **told)
                called.set()
            await connecting  # it goes on by itself, however long nobody has waited for it
            if not called.is_set():
                self._inside.add(number)
                room.on("disconnected", lambda reason: self._sent_away(number, reason))
                self._tell(number, "entered", **told, **await _facts(room))
            await leaving
        except rtc.ConnectError as error:
            if not called.is_set():
                self._tell(number, "failed", **told, words=str(error))
        except Exception as error:  # whatever it is, it has a name; its text may hold a secret
            self._tell(number, "fault", words=type(error).__name__)
        finally:
            leaving.cancel()
            self._inside.discard(number)
            with contextlib.suppress(Exception):  # whatever it fails with now, it is not in the room
                async with asyncio.timeout(LEAVE_S):
                    await room.disconnect()
            del self._called[number]
            self._tell(number, "out")

    def _sent_away(self, number: int, reason: int) -> None:
        if number in self._inside:
            self._inside.discard(number)
            self._tell(number, "sent_away", reason=reason)

    def _tell(self, number: int, said: str, **facts: Any) -> None:
        self._say({"visit": number, "said": said, **facts})

    def _say(self, line: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more: the input has ended, too
            os.write(self._out, f"{json.dumps(line)}\n".encode())


async def _facts(room: Any) -> dict[str, str]:
    """What the library knows of a room that it is in: names, sids, and by what its packets go."""
    sid, over = "", ""
    with contextlib.suppress(Exception):  # facts beside the point
        async with asyncio.timeout(0.5):
            sid = await room.sid
            over = _way(await room.get_rtc_stats())
    return {"room": room.name, "room_sid": sid, "participant_sid": room.local_participant.sid, "over": over}


def _way(stats: Any) -> str:
    """The pair of ICE candidates in use, as "udp host-relay" (ours, theirs)."""
    reports = [*stats.publisher_stats, *stats.subscriber_stats]
    kind = {part.WhichOneof("stats"): part for part in reports}
    if "transport" not in kind:
        return ""
    pairs = [report.candidate_pair for report in reports if report.WhichOneof("stats") == "candidate_pair"]
    used = next(
        pair for pair in pairs if pair.rtc.id == kind["transport"].transport.transport.selected_candidate_pair_id
    )
    ends = {}
    for report in reports:
        if (name := report.WhichOneof("stats")) in ("local_candidate", "remote_candidate"):
            end = getattr(report, name)
            ends[end.rtc.id] = end.candidate
    ours, theirs = (
        ends[end] for end in (used.candidate_pair.local_candidate_id, used.candidate_pair.remote_candidate_id)
    )
    names = ours.DESCRIPTOR.fields_by_name["candidate_type"].enum_type.values_by_number
    kinds = "-".join(names[end.candidate_type].name.lower() for end in (ours, theirs))
    return f"{theirs.protocol} {kinds}"


def _listen(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    """Read the standard input in a thread of its own: its end is heard whatever holds the loop up."""
    for line in sys.stdin.buffer:
        loop.call_soon_threadsafe(worker.hear, line)
    loop.call_soon_threadsafe(worker.over.set)
    threading.Event().wait(2 * LEAVE_S)
    os._exit(1)


def _be_alone() -> int:
    """Take no signal of the terminal's, leave no core. The file for answers: what a library prints goes elsewhere."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # who was stopped goes on when its master dies, and sees that its input has ended
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
    out = os.dup(1)
    os.dup2(2, 1)
    return out


async def _work(out: int) -> None:
    worker = Worker(out)
    listening = threading.Thread(target=_listen, args=(asyncio.get_running_loop(), worker), daemon=True)
    listening.start()
    await worker.work()


def main() -> None:
    """Work until the standard input ends."""
    out = _be_alone()
    os.putenv("RUST_LOG", "off")  # what the library says by itself while Python is ending
    importlib.import_module("livekit.rtc")
    logging.disable()  # words of the library's or of asyncio's may hold a token
    asyncio.run(_work(out))
    os._exit(0)  # what the library does at an orderly exit has aborted it


if __name__ == "__main__":
    main()
