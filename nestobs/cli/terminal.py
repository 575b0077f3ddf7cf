"""What the terminal shows: results, progress, tables, with text of others escaped; and what Ctrl-C there does."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import unicodedata
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

from nestobs.errors import FailedError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.text import shortened

if TYPE_CHECKING:
    import logging
    import signal

    import pandas as pd

    from nestobs.sources.clock import Clock

T = TypeVar("T")

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

PATIENCE_S: Final = 10.0
"""How long cleaning up is left in peace, whatever else is sent: it is bounded by itself (see collector/canary.py)."""


class HungUp(KeyboardInterrupt):
    """Interrupted because the terminal went away (SIGHUP)."""


def harmless(text: str, most: int = 2_000) -> str:
    """Text that cannot harm a terminal: no control, format (right-to-left marks) or private characters, cut."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" else "�" for c in text[: most + 1])
    return shortened(kept, most)


def plain(text: str, most: int = 60) -> str:
    """As `harmless`, and what rich would read as markup escaped."""
    from rich.markup import escape

    return escape(harmless(text, most))


def show(args: argparse.Namespace, data: dict[str, Any], lines: Sequence[str]) -> None:
    """A command's result on standard output, at once: as JSON with --json, else in words."""
    print(as_json(data, indent=2) if args.json else "\n".join(harmless(line) for line in lines), flush=True)


def as_json(data: dict[str, Any], indent: int | None = None) -> str:
    """A result as JSON, on one line where no indent is given."""
    import json

    return json.dumps(data, indent=indent, default=str)


def check(problem: str) -> int:
    """0 where there is no problem. Raises FailedError with it, the last thing that is said."""
    if problem:
        raise FailedError(problem)
    return 0


class Voice:
    """How much is said on stderr beside errors: with -v also detail, with -q nothing."""

    verbose = False
    quiet = False


def speak(*, verbose: bool, quiet: bool) -> None:
    """Say from now on as much as -v and -q ask for."""
    Voice.verbose, Voice.quiet = verbose, quiet


def note(text: str) -> None:
    """An error, as a sentence on stderr, at once; see `aside`."""
    aside(f"nestobs: {harmless(text)}\n")


def remark(text: str) -> None:
    """As `note`, of what is no error: not with -q."""
    if not Voice.quiet:
        note(text)


def detail(text: str) -> None:
    """As `note`, of what only -v asks for."""
    if Voice.verbose:
        note(text)


def aside(text: str) -> None:
    """Something on stderr, at once. Where nobody reads it any more it goes nowhere: what is under way goes on. Where it
    is a file on a disk that is full, it is said when there is room."""
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except OSError as error:
        if error.errno not in _FULL:
            mute(sys.stderr)


def mute(stream: IO[str]) -> None:
    """Let what is still written to a stream that nobody reads go nowhere, the interpreter's last flush included."""
    with suppress(OSError, ValueError):  # a stream without a file is no terminal
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def hung_up(stream: IO[str]) -> bool:
    """Whether the terminal that a stream writes to is gone."""
    try:
        os.write(stream.fileno(), b"")
    except OSError:
        return True
    except ValueError:
        return False
    return False


def ends() -> list[signal.Signals]:
    """The signals that end a command which cleans up first. SIGHUP that is ignored (nohup) stays so."""
    import signal

    hangup: list[signal.Signals] = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []  # not on Windows
    return [signal.SIGINT, signal.SIGTERM, *(each for each in hangup if signal.getsignal(each) != signal.SIG_IGN)]


def interruption(came: Iterable[signal.Signals]) -> KeyboardInterrupt:
    """What is raised after these signals, of which the first counts; after none as after Ctrl-C."""
    first = next((number.name for number in came), "")
    return HungUp() if first == "SIGHUP" else KeyboardInterrupt()


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt and HungUp, until a command has something better for them."""
    import signal
    import threading

    def raised(number: int, _: object) -> None:
        raise interruption([signal.Signals(number)])

    ours = threading.current_thread() is threading.main_thread()
    before = [each for each in ends() if ours and signal.getsignal(each) is signal.SIG_DFL]
    for each in before:
        signal.signal(each, raised)
    try:
        yield
    finally:
        for each in before:
            signal.signal(each, signal.SIG_DFL)


def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine. Ctrl-C, SIGTERM and a terminal that closes (SIGHUP) cancel it, it cleans up, and
    KeyboardInterrupt is raised, HungUp after SIGHUP.

    What comes while it cleans up is passed over for PATIENCE_S. That a connection is gone, asyncio would say on stderr
    at each write to it: it is a row.
    """
    import asyncio
    import logging
    import signal

    logging.getLogger("asyncio").addFilter(_is_news)

    async def supervised() -> T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        came: list[tuple[signal.Signals, float]] = []

        def interrupt(number: signal.Signals) -> None:
            now = loop.time()
            if not came or now - came[-1][1] > PATIENCE_S:
                came.append((number, now))
                task.cancel()

        for number in ends():
            loop.add_signal_handler(number, interrupt, number)
        try:
            return await task
        except asyncio.CancelledError:
            raise interruption(number for number, _ in came) from None

    before = {number: signal.getsignal(number) for number in ends()}
    try:
        return asyncio.run(supervised())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).endswith("raised exception.")


def teller(args: argparse.Namespace) -> Callable[[str, dict[str, Any]], None]:
    """Progress on stderr, so that standard output stays the result's: with --json only with -v."""
    return Teller(quiet=Voice.quiet or (args.json and not Voice.verbose)).tell


class Teller:
    """Progress on stderr: one live line where it is a terminal, sparse plain lines elsewhere; with -v a line for each.

    Quiet, it says only that it was interrupted, and what of that was cleaned.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._counts: dict[str, int] = {}
        self._verdicts: dict[str, int] = {}
        self._drawn = 0

    def tell(self, what: str, facts: dict[str, Any]) -> None:
        """Take one piece of news: a sentence (`said`), or something to count."""
        if self._quiet and what != "interrupted":
            return
        if "said" in facts:
            self._print(harmless(str(facts["said"])))
            return
        if Voice.verbose:
            self._print(harmless(f"{what}: {', '.join(f'{name} {fact}' for name, fact in facts.items())}"))
            return
        self._counts[what] = self._counts.get(what, 0) + 1
        if what == "verdict":
            kind = str(facts.get("kind", ""))
            self._verdicts[kind] = self._verdicts.get(kind, 0) + 1
        if sys.stderr.isatty():
            self._redraw(self._line())
        elif sum(self._counts.values()) % 50 == 0:
            self._print(self._line())

    def _redraw(self, line: str) -> None:
        import shutil

        line = line[: shutil.get_terminal_size().columns - 1]
        aside("\r" + line.ljust(self._drawn))
        self._drawn = len(line)

    def _print(self, line: str) -> None:
        aside(("\n" if self._drawn else "") + line + "\n")
        self._drawn = 0

    def _line(self) -> str:
        counts = " ".join(f"{name} {n}" for name, n in self._counts.items() if name != "verdict")
        verdicts = ", ".join(f"{kind} {n}" for kind, n in sorted(self._verdicts.items()))
        return f"{counts}" + (f" · joins: {verdicts}" if verdicts else "")


class Paced:
    """What is under way, on stderr, every few seconds: for what takes long. quiet: only with -v."""

    EVERY_S: Final = 2.0

    def __init__(self, clock: Clock, *, quiet: bool) -> None:
        self._clock, self._quiet, self._told = clock, quiet and not Voice.verbose, clock.now()

    def __call__(self, text: str) -> None:
        """Say it, unless something was said just now."""
        now = self._clock.now()
        if not self._quiet and now - self._told >= self.EVERY_S * SECOND_NS:
            self._told = now
            remark(text)


def sentences(lines: Sequence[str]) -> None:
    """Print sentences, each set to the width of the terminal."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size((160, 24)).columns
    for line in lines:
        print(textwrap.fill(harmless(line), width))


def timeline_table(frame: pd.DataFrame) -> None:
    """Print timelines: a block a nest, a line a layer and vantage, the interval in seconds since the origin."""
    import shutil

    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=shutil.get_terminal_size((160, 24)).columns)
    for room, rows in frame.groupby("room", sort=False):
        table = Table(title=plain(str(room), 400), title_justify="left")
        for name in ("layer", "vantage", "visible within (s]", "polls", "unknown", "flaps", "note"):
            table.add_column(name, overflow="fold")
        for row in rows.sort_values(["layer", "vantage"]).to_dict("records"):
            table.add_row(
                plain(row["layer"]),
                plain(row["vantage"], 24),
                _interval(row),
                str(row["polls"]),
                str(row["unknown"]),
                str(row["flaps"]),
                _note(row),
            )
        console.print(table)


def _interval(row: dict[Any, Any]) -> str:
    if not row["polls"]:
        return "asked, nothing proven"
    if row["right_censored"]:
        return f"({row['lower_s']:.2f}, not seen by then"
    return f"({row['lower_s']:.2f}, {row['upper_s']:.2f}]"


def _note(row: dict[Any, Any]) -> str:
    from nestobs.timeline.omissions import remarks  # pandas comes with it

    notes = [str(row["marked"])] if row["marked"] else []
    if row["gone_upper_s"] == row["gone_upper_s"]:
        notes.append(f"gone by {row['gone_upper_s']:.1f} s")
    return ", ".join([*notes, *remarks(row)])
