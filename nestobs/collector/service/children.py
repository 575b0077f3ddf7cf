"""Reports, their pruning and shipping as processes of their own: a kernel that computes does not hold up who observes.

They are told what to do by the words of the command line, and know no secret. Who made which report when is the
archive's to know: `report catch-up` makes what is missing, so one that was killed, failed for want of room or missed
its hour is made by the next. What ends with "not now" is tried again, every RETRY_S.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from nestobs.collector.canary import Progress
from nestobs.collector.service.hours import Hours, daily
from nestobs.collector.service.memory import Notebook
from nestobs.collector.service.settings import Keep, Reports
from nestobs.collector.service.state import Made, State
from nestobs.errors import StoreFullError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import DAY_S

RETRY_S: Final = 600
END_S: Final = 8.0
"""A child that is told to end may take so long."""

DONE: Final = (0, 3, 4)
"""Of `report catch-up`: made, breached, too little data. Whatever else: not made, or not all."""

LATER: Final = (5, 75)
_MOST_SAID: Final = 1_000_000


@dataclass(slots=True, kw_only=True)
class Children:
    """What a service has others do. environment: theirs, without secrets; words: how nestobs is called."""

    store: Path
    environment: Mapping[str, str]
    hours: Hours
    notebook: Notebook
    state: State
    progress: Progress
    words: tuple[str, ...] = (sys.executable, "-m", "nestobs")

    async def report(self, wanted: Reports) -> None:
        """Make reports at their hours, until cancelled, beginning with what was missed. Raises StoreError."""
        while True:
            last, following = daily(self.hours.now(), wanted.at_s)
            if (self.notebook.memory.reports_at or 0) < last:
                self.state.next_reports_at = self.hours.real(last)
                if not (await self._caught_up(wanted) and await asyncio.to_thread(self._noted, last)):
                    now = self.hours.now()
                    following = min(following, (now // (RETRY_S * SECOND_NS) + 1) * RETRY_S * SECOND_NS)
            self.state.next_reports_at = self.hours.real(following)
            await self.hours.until(following)

    def _noted(self, last: int) -> bool:
        try:
            self.notebook.note(reports_at=last)
        except StoreFullError:  # who writes says so
            return False
        return True

    async def prune(self, wanted: Reports, keep: Keep) -> None:
        """Remove reports that are older than they are to be kept."""
        if keep.reports_s is None or not wanted.out.is_dir():
            return
        failed_s = keep.reports_s if keep.failed_s is None else keep.failed_s
        kept = ("--keep", f"{keep.reports_s:.0f}s", "--keep-failed", f"{failed_s:.0f}s")
        code, _, said = await self._run("report", "prune", *kept, "--yes", "--out", str(wanted.out))
        if code:
            self._tell(f"old reports were not removed: {said}")

    async def ship(self, to: str) -> bool:
        """Ship what is sealed; whether all of it is there. What is lacking is told, and by /health."""
        code, out, said = await self._run("ship", "--to", to, "--json", "--store", str(self.store))
        lacking = _damaged(out) if code == 1 else said if code else ""
        self.state.shipping_lacking = f"sealed files were not shipped: {lacking}" if code else ""
        if code:
            self._tell(f"{self.state.shipping_lacking}; it is tried again")
        elif put := _shipped(out):
            self._tell(f"{put} sealed files were shipped to {to}")
        return code == 0

    async def _caught_up(self, wanted: Reports) -> bool:
        """Whether all that was missing is made."""
        length_s, since_s = (round(self.hours.real_s(each)) for each in (wanted.length_s, wanted.since_s))
        now, first = self.hours.now(), self.notebook.memory.first_at
        over_s, first_s = (self.hours.real(at) // SECOND_NS // length_s * length_s for at in (now, first or now))
        since = datetime.fromtimestamp(max(first_s, over_s - since_s), UTC)
        code, out, said = await self._run(
            *("report", "catch-up", *wanted.names, "--json", "--shared-js"),
            *("--since", f"{since:%Y-%m-%dT%H:%M:%S}", "--every", f"{length_s}s"),
            *("--store", str(self.store), "--out", str(wanted.out)),
        )
        for made in _manifests(out):
            self._note(*made)
        self.state.reports_lacking = "" if code in (*DONE, 1) else f"reports were not made: {said}"
        if self.state.reports_lacking:
            self._tell(f"{self.state.reports_lacking}; they are tried again")
        return code in (*DONE, 1)

    def _note(self, name: str, window: str, verdict: str, reasons: list[str]) -> None:
        said = reasons[0] if reasons else ""
        lacking = f"failed: {said}" if verdict == "failed" else ""
        self.state.reports[name] = Made(window, self.state.clock.now(), verdict, said, lacking)
        self._tell(f"report {name} {window}: {verdict}{said and f': {said}'}")

    async def _run(self, *words: str) -> tuple[int, bytes, str]:
        """How nestobs with these words ends, what it prints, and its last sentence. It ends with this service."""
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *self.words, *words, stdout=pipe, stderr=pipe, env=dict(self.environment), process_group=0
        )
        try:
            out, errors = await child.communicate()
        except asyncio.CancelledError:
            await _ended(child)
            raise
        lines = [line.strip() for line in errors[-_MOST_SAID:].decode("utf-8", "replace").splitlines() if line.strip()]
        code = child.returncode or 0
        return code, out[-_MOST_SAID:], lines[-1].removeprefix("nestobs: ") if lines else f"it ended with {code}"

    def _tell(self, words: str) -> None:
        self.progress("service", {"said": words})


async def _ended(child: asyncio.subprocess.Process) -> None:
    """Ask it to end, and kill what of it does not."""
    with suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            await child.communicate()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    await child.wait()


def _manifests(out: bytes) -> list[tuple[str, str, str, list[str]]]:
    """Name, window, verdict and reasons of what was made, as `--json` prints it; nothing of what is no such thing."""
    try:
        found: Any = json.loads(out)
        return [
            (str(each["report"]), str(each["window"]["name"]), str(each["verdict"]), [str(r) for r in each["reasons"]])
            for each in found
        ]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def _shipped(out: bytes) -> int:
    """How many files were put, as `ship --json` prints it."""
    try:
        return len(json.loads(out)["shipped"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0


def _damaged(out: bytes) -> str:
    """Why not all was, as `ship --json` prints it."""
    try:
        return str(json.loads(out)["damaged"][0])
    except (ValueError, TypeError, LookupError, RecursionError):
        return "not all"


def midnight_after(now: int) -> int:
    """The next 00:10 UTC: by then what was sent before midnight has settled (store/sealing.py), ns UTC."""
    return daily(now, (600,))[1]


def days_ago(now: int, length_s: float) -> int:
    """The midnight before so long ago, ns UTC."""
    return (now - round(length_s * SECOND_NS)) // (DAY_S * SECOND_NS) * DAY_S * SECOND_NS
