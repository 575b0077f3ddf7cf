"""The command that watches others observe: `nestobs live`. It reads a store that another process writes, and shows how
far each nest is: redrawn in place on a terminal, a line a change elsewhere."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from nestobs.cli.arguments import command, count, duration_s, flag, option, store_folder, with_store
from nestobs.cli.terminal import as_json, harmless, interruptible, plain
from nestobs.observation.duration import SECOND_NS

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console, RenderableType
    from rich.text import Text

    from nestobs.reports.causes import Looked
    from nestobs.sources.clock import Clock
    from nestobs.store.follow import Followed
    from nestobs.timeline.board import Board, Change, Lane, Row, View

PERIOD_S: Final = 0.5
"""Between two drawings, from deadline to deadline."""

LOOK_S: Final = 10.0
"""So long, at most, causes are looked up where it is shown once."""

_SIGNS: Final = {"failed": "✗", "starting": "…", "unknown": "?", "ready": "✓"}
_PLAIN_SIGNS: Final = {"failed": "x", "starting": ".", "unknown": "?", "ready": "+"}
_COLOURS: Final = {"failed": "red", "starting": "yellow", "unknown": "dim", "ready": "green"}
"""By state (timeline.board.State), what is not ready first."""


def _add_live(parser: argparse.ArgumentParser) -> None:
    option(parser, "--last", "DURATION", duration_s, "begin so long before the newest row (15m)", default=900.0)
    option(parser, "--most", "N", count, "keep the newest N nests (50)", default=50)
    option(parser, "--for", "DURATION", duration_s, "stop after (default: Ctrl-C)", dest="for_s")
    flag(parser, "--once", "show how it stands now, and end")
    flag(parser, "--json", "a line of JSON per change; with --once, per nest")


@command(
    with_store,
    _add_live,
    examples=("live", "live --once --store example", "live --json --for 1h"),
    exits="0 ended, 5 store",
)
def live(args: argparse.Namespace) -> int:
    """Show how far each nest is, as another process observes them."""
    try:
        return interruptible(_live(args))
    except KeyboardInterrupt:  # the usual way to end it
        return 0


async def _live(args: argparse.Namespace) -> int:
    """Show a store's nests until told to stop."""
    from nestobs.sources.clock import Clock
    from nestobs.store.follow import Followed
    from nestobs.timeline.board import Board

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # strangers choose the names, and not every terminal is UTF-8
    directory, clock = store_folder(args), Clock()
    reader = Reader(Followed(directory, args.last), Board(most=args.most))
    if args.once:
        return _once(args, reader, clock)
    end = None if args.for_s is None else clock.now() + round(args.for_s * SECOND_NS)
    on_terminal = sys.stdout.isatty() and not args.json
    with ExitStack() as stack:
        show = stack.enter_context(_Screen(directory)) if on_terminal else _Lines(directory, as_json=args.json)
        due = clock.now()
        while end is None or clock.now() < end:
            changes = reader.read(until=due + round(PERIOD_S * SECOND_NS), clock=clock)
            show.show(reader, changes, clock.now())
            due = max(due + round(PERIOD_S * SECOND_NS), clock.now())
            await clock.until(due if end is None else min(due, end))
    return 0


class Reader:
    """A store followed into a board."""

    def __init__(self, followed: Followed, board: Board) -> None:
        from nestobs.reports.causes import Looked

        self.followed, self.board, self.causes = followed, board, Looked(followed)

    def read(self, *, until: int, clock: Clock) -> list[Change]:
        """Fold in what is new, until there is no more or it is `until`, ns UTC; what changed by it and is news."""
        changes: list[Change] = []
        for part, news in self.followed.read(until, clock.now):
            found = self.board.fold(part)
            changes += found if news else []
        return changes


def _once(args: argparse.Namespace, reader: Reader, clock: Clock) -> int:
    from nestobs.store.reader import Store

    Store.open(reader.followed.directory, create=False)  # nobody waits for it
    reader.read(until=clock.now(), clock=clock)
    view = reader.board.view(clock.now())
    reader.causes.look(view.rows, clock.now() + round(LOOK_S * SECOND_NS), clock.now)
    if args.json:
        told = {"clock": view.clock} if view.clock else {}
        for row in view.rows:
            found = reader.causes.of(row)
            print(as_json(as_dict(row) | told | {"causes": [] if found is None else found.as_dict()["causes"]}))
        return 0
    from rich.console import Console

    console = Console(highlight=False)
    console.print(drawn(view, clock.now(), console, reader.causes))
    return 0


def as_dict(row: Row) -> dict[str, Any]:
    """How a nest stands, as JSON data."""
    from dataclasses import asdict

    return {
        "nest": row.nest,
        "room": row.room,
        "state": row.state,
        "age_s": round(row.age_s, 3),
        "asked_s": round(row.asked_s, 3),
        "layers": [asdict(lane) for lane in row.lanes],
        "message": row.message,
    }


class _Lines:
    """A line a change, for pipes and files."""

    def __init__(self, directory: Path | str, *, as_json: bool) -> None:
        self._directory, self._json = directory, as_json
        self._said = ""

    def show(self, reader: Reader, changes: list[Change], now: int) -> None:
        """Print what is new; on stderr, once each, that there is no store yet, and that it is followed."""
        from nestobs.reports.causes import in_short

        self._say(_waiting(reader) or _following(reader, now))
        for change in changes:
            why = reader.causes.find(change.nest, change.room) if _refused(change) else None
            if self._json:
                causes = {"causes": [] if why is None else why.as_dict()["causes"]} if _refused(change) else {}
                print(as_json(change.as_dict() | causes))
            else:
                print(line(change) + (f"; {harmless(in_short(why), 200)}" if why is not None else ""))
        sys.stdout.flush()

    def _say(self, text: str) -> None:
        """Once for the waiting, once for the beginning."""
        kind = text.partition(":")[0]
        if kind != self._said:
            self._said = kind
            print(harmless(text), file=sys.stderr, flush=True)


def _refused(change: Change) -> bool:
    """Whether a join has ended outside the room."""
    from nestobs.timeline.board import JOIN

    return change.layer == JOIN and change.state == "failed"


def _waiting(reader: Reader) -> str:
    return f"no store at {reader.followed.directory} yet: waiting for one" if reader.followed.store is None else ""


def _following(reader: Reader, now: int) -> str:
    view = reader.board.view(now)
    clock = f"; {view.clock}" if view.clock else ""
    known = f"{len(view.rows)} nests of the last minutes known"
    return f"following {reader.followed.directory}: {known}; changes come below{clock}"


def line(change: Change) -> str:
    """A change in words, harmless to a terminal."""
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(change.at / SECOND_NS, UTC)
    why = f" ({change.why})" if change.why else ""
    was = f"{change.was} -> " if change.was else ""
    said = f": {change.message}" if change.message else ""
    name = change.room or change.nest or "a nest without a name"
    words = f"{at:%H:%M:%S}.{at.microsecond // 1000:03} {harmless(name, 400)}  {harmless(change.layer, 60)}"
    where = f"  from {harmless(change.vantage, 24)} at {change.age_s:.1f} s"
    return f"{words}  {was}{change.state}{harmless(why)}{where}{harmless(said, 120)}"


class _Screen:
    """The table redrawn in place."""

    def __init__(self, directory: Path | str) -> None:
        from rich.console import Console
        from rich.live import Live

        from nestobs.sources.clock import Clock

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._directory, self._clock = directory, Clock()

    def __enter__(self) -> _Screen:
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)

    def show(self, reader: Reader, changes: list[Change], now: int) -> None:
        """Draw the board as it stands."""
        waiting = _waiting(reader)
        view = reader.board.view(now)
        reader.causes.look(view.rows, self._clock.now() + round(PERIOD_S / 5 * SECOND_NS), self._clock.now)
        shown = plain(waiting, 200) if waiting else drawn(view, now, self._console, reader.causes)
        self._live.update(shown, refresh=True)


def drawn(view: View, now: int, console: Console, causes: Looked | None = None) -> RenderableType:
    """The board as a table that fits the console: as many nests as it has lines for, the newest first."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from nestobs.reports.causes import in_short
    from nestobs.timeline.board import span
    from nestobs.timeline.nests import told_apart

    signs, narrow = _signs(console.encoding), console.width < 60
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="underline")
    named, told = (8 if narrow else 13), max(12, console.width - (24 if narrow else 36))
    table.add_column("nest", no_wrap=True, overflow="ellipsis")
    table.add_column("age", no_wrap=True, justify="right")
    table.add_column("" if narrow else "state", no_wrap=True)
    table.add_column("layers; what a joiner was last shown", overflow="fold")
    cells = [(row, _cell(row, signs, "" if causes is None else in_short(causes.of(row)))) for row in view.rows]
    if sys.stdout.isatty():
        cells = list(_fitting(cells, console.height - 6 - bool(view.clock), told))
    names = {_name(row) for row in view.rows}
    for row, cell in cells:
        word = signs[row.state] if narrow else f"{signs[row.state]} {row.state}"
        name = harmless(told_apart(_name(row), names, named - 1), 80)
        table.add_row(Text(name), span(row.age_s), Text(word, style=_COLOURS[row.state]), cell)
    return Group(Text(_summary(view, now, len(cells))), table if cells else Text("no nest yet"))


def _name(row: Row) -> str:
    return row.room or row.nest or "no name yet"


def _fitting(cells: list[tuple[Row, Text]], lines: int, width: int) -> Iterator[tuple[Row, Text]]:
    """The first of them that so many lines hold, one at least."""
    for number, (row, cell) in enumerate(cells):
        lines -= sum(-(-max(1, len(part)) // width) for part in cell.plain.split("\n"))
        if lines < 0 and number:
            return
        yield row, cell


def _signs(encoding: str) -> dict[str, str]:
    try:
        "".join(_SIGNS.values()).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN_SIGNS
    return _SIGNS


def _cell(row: Row, signs: dict[str, str], cause: str) -> Text:
    """What is not ready first, each with its reason; then all that is ready; then the message, and the cause."""
    from rich.text import Text

    from nestobs.timeline.board import by_kind

    text, lanes = Text(), by_kind(row)
    for state, sign in signs.items():
        words = [_lane(kind, lane) for kind, lane in lanes.items() if lane.state == state]
        if words:
            text.append(f"{sign} {(' ' if state == 'ready' else ', ').join(words)} ", _COLOURS[state])
    if row.message:
        text.append(f"\n{harmless(row.message, 90)}", style="dim")
    if cause:
        text.append(f"\n{harmless(cause, 200)}")
    return text


def _lane(kind: str, lane: Lane) -> str:
    some = f" {lane.ready}/{lane.seen}" if lane.seen > 1 and lane.ready < lane.seen else ""
    why = f" {harmless(lane.why, 24)}" if lane.why and lane.state != "ready" else ""
    return f"{harmless(kind, 24)}{some}{why}"


def _summary(view: View, now: int, shown: int) -> str:
    from nestobs.timeline.board import span

    counts = "  ".join(f"{state} {number}" for state, number in view.counts.items())
    newest = "no row yet" if view.newest_at is None else f"newest row {span((now - view.newest_at) / SECOND_NS)} ago"
    more = len(view.rows) - shown
    left = f"  {more} more do not fit" if more > 0 else ""
    gone = f"  {view.let_go} older let go" if view.let_go else ""
    clock = f"\n{view.clock}" if view.clock else ""
    return f"{counts}  {newest}  {view.folded:,} rows read{left}{gone}{clock}"
