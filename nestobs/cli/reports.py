"""The commands about reports: report run, catch-up, incident, index, prune. Words in, one call, an exit code out."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from nestobs.cli.arguments import (
    Command,
    command,
    duration_s,
    flag,
    notebook_name,
    option,
    pathname,
    store_folder,
    whole_between,
    with_json,
    with_store,
)
from nestobs.cli.terminal import Voice, ends, harmless, interruption, note, remark, show
from nestobs.errors import UsageError
from nestobs.observation.duration import SECOND_NS, duration_words, read_duration

if TYPE_CHECKING:
    import signal

    from nestobs.observation.window import Window
    from nestobs.reports.publishing.retention import Gone
    from nestobs.reports.publishing.schedule import Made, Order, Stop

OUT: Final = "runs/reports"
INCIDENTS: Final = "runs/incidents"
_LONGEST_NAME: Final = 40

BUSY: Final = 75
"""Another process is making that report: sysexits' EX_TEMPFAIL, try again later."""

_QUIET_S, _PAUSE_S = 2.0, 10.0
"""Progress is told of what takes longer than the one, and not more often than the other."""

_LEAST_KEPT_S: Final = 3_600.0
"""`--keep 30` means thirty seconds: nobody who prunes does."""

_MOST_WINDOWS: Final = 1_000_000
"""Each is looked for among what is published."""

_BREACHED: Final = "breached"


def _add_run(parser: argparse.ArgumentParser) -> None:
    text = "a report (a notebook of nestobs), or the path of an .ipynb"
    parser.add_argument("name", metavar="NAME", type=notebook_name, help=text)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--window", metavar="START/END", help="ISO 8601, UTC, half-open; or one day, as 2026-01-01")
    which.add_argument("--yesterday", action="store_true", help="the last whole UTC day")
    which.add_argument(
        "--last",
        metavar="DURATION",
        type=duration_s,
        help="the last aligned window of that length that is over: 6h, 1d",
    )
    flag(parser, "--force", "make it again although it is made")


def _add_catch_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=notebook_name, nargs="+", help="reports, or paths of .ipynb files")
    option(parser, "--since", "WHEN", str, "from an instant, or so long ago: 7d", required=True)
    option(parser, "--every", "DURATION", duration_s, "length of the windows (1d)", default="1d")
    option(parser, "--jobs", "N", whole_between(1, 64), "so many at a time (1)", default=1)
    option(parser, "--most", "N", whole_between(1, 100_000), "make at most N (100)", default=100)


def _with_making(parser: argparse.ArgumentParser) -> None:
    option(parser, "--parameter", "NAME=VALUE", str, "of the notebook, may be repeated", action="append", default=[])
    option(parser, "--cell-timeout", "DURATION", duration_s, "longest time of a cell (10m)", default=600.0)
    option(parser, "--timeout", "DURATION", duration_s, "longest time of a report in all (1h)", default=3_600.0)
    flag(parser, "--shared-js", "one plotly.js for all reports, in place of one in each")
    parser.add_argument(
        "--fail-on", choices=[_BREACHED], help="exit 3 when its rules are breached (default: 0, it was made)"
    )
    option(
        parser,
        "--on-result",
        "CMD",
        str,
        "run this (no shell) with the manifest on its standard input, one minute at most; its failure is told, and"
        " does not change the exit code",
    )


def _with_out(parser: argparse.ArgumentParser) -> None:
    option(parser, "--out", "DIR", pathname, f"folder of the reports (default {OUT})", default=OUT)


def _add_prune(parser: argparse.ArgumentParser) -> None:
    option(parser, "--keep", "DURATION", duration_s, "keep windows that ended within it: 30d", required=True)
    option(parser, "--keep-failed", "DURATION", duration_s, "the same for failed reports (default: as --keep)")
    flag(parser, "--yes", "do it; else only show what would go")


_MADE: Final = "0 ok, 1 failed, 3 breach, 4 scant, 5 store, 75 busy"
_MAKING: Final = (with_store, _with_out, _with_making, with_json)


# run, catch-up


@command(
    _add_run,
    *_MAKING,
    examples=("report run daily_report --yesterday", "report run daily_report --window 2026-01-01"),
    exits=_MADE,
)
def run(args: argparse.Namespace) -> int:
    """Make the report of one window, unless it is made already."""
    order = _order(args, args.name)
    window = _window(args)
    return _made(args, [(order, window)], jobs=1)


@command(_add_catch_up, *_MAKING, examples=("report catch-up daily_report joins --since 7d",), exits=_MADE)
def catch_up(args: argparse.Namespace) -> int:
    """Make the reports of windows that are missing or failed, oldest first."""
    from nestobs.reports.publishing.archive import Archive
    from nestobs.reports.publishing.schedule import due

    orders = [_order(args, name) for name in dict.fromkeys(args.name)]
    if len({order.name for order in orders}) < len(orders):
        raise UsageError("two of these notebooks have the same name, so their reports would lie in one place")
    windows = _since(args.since, args.every)
    wanted = due(Archive(args.out), orders, windows)
    if len(wanted) > args.most:
        remark(f"{len(wanted)} are missing or failed; making the oldest {args.most} (--most)")
    return _made(args, wanted[: args.most], jobs=args.jobs)


def _order(args: argparse.Namespace, name: str) -> Order:
    import shlex
    from pathlib import Path

    from nestobs.reports.publishing.execute import notebook
    from nestobs.reports.publishing.parameters import read
    from nestobs.reports.publishing.schedule import Order, checked
    from nestobs.store.reader import Store

    path = Path(name) if name.endswith(".ipynb") else notebook(name)
    store = store_folder(args)
    try:
        on_result = shlex.split(args.on_result or "")
    except ValueError as error:
        raise UsageError(f"--on-result cannot be read as words ({error})") from None
    made = checked(
        Order(
            notebook=path,
            store=store,
            parameters=read(path, args.parameter),
            cell_timeout_s=math.ceil(args.cell_timeout),
            timeout_s=args.timeout,
            force=getattr(args, "force", False),
            shared_js=args.shared_js,
            on_result=on_result,
        )
    )
    Store.open(store, create=False)  # before anything is made
    return made


def _window(args: argparse.Namespace) -> Window:
    from nestobs.observation.window import DAY_S, Window, latest

    if args.window:
        return Window.parse(args.window)
    return latest(_now(), DAY_S if args.yesterday else args.last)


def _since(text: str, length_s: float) -> list[Window]:
    """The aligned windows from then on that are over: of "7d" with days the last seven."""
    from nestobs.observation.window import Window, latest

    newest = latest(_now(), length_s)
    try:
        day = len(text.strip()) == 10
        start = Window.parse(text if day else f"{text}/1s").start
    except UsageError:
        try:
            start = newest.end - round(read_duration(text)) * SECOND_NS
        except UsageError as error:
            raise UsageError(f"--since: write an instant as 2026-01-01T00:00, or a duration; {error}") from None
    if (newest.end - start) / SECOND_NS / length_s > _MOST_WINDOWS:
        raise UsageError(f"--since: more than {_MOST_WINDOWS:,} windows of {duration_words(length_s)}: begin later")
    return list(Window(start, newest.end).parts(length_s)) if start < newest.end else []


def _made(args: argparse.Namespace, wanted: Sequence[tuple[Order, Window]], *, jobs: int) -> int:
    """Make them, say so, and the exit code that sums them up."""
    from nestobs.reports.publishing import index
    from nestobs.reports.publishing.archive import Archive, writing
    from nestobs.reports.publishing.schedule import Stop, catch_up, dumps

    archive, stop, teller = Archive.open(args.out), Stop(), _Teller(quiet=args.json and not Voice.verbose)
    done: list[Made] = []
    with _stopped_by_signals(stop) as came:
        for made in catch_up(archive, wanted, jobs=jobs, stop=stop, tell=note, progress=teller.cells):
            done.append(made)
            if not args.json and made.state != "interrupted":
                print(_sentence(made), flush=True)
            elif made.state == "busy":
                note(_sentence(made))
    with writing(args.out):
        index.refresh(archive)
    if args.json:
        manifests = [made.manifest for made in done if made.manifest]
        print(dumps(manifests if hasattr(args, "since") else manifests[0] if manifests else None), end="")
    elif not wanted:
        print("nothing is missing")
    if stop.stopped:
        note("interrupted: what was not finished is not published; the next catch-up makes it")
        raise interruption(came)
    return _code(done, args.fail_on)


def _sentence(made: Made) -> str:
    what = f"{made.name} {made.window.name}"
    if made.state == "busy":
        return f"{what}: another process is making it"
    reasons = made.manifest.get("reasons") or []
    said = f"{made.verdict}" + (f": {reasons[0]}" if reasons else "")
    before = " (made before; --force makes it again)" if made.state == "already" else ""
    if made.manifest["made_at"] < made.manifest["window"]["end"]:  # both in ISO 8601, UTC
        before = " (its window is not over yet, so it will be made again)"
    return f"{what}: {harmless(said, 600)}{before}\n  {harmless(str(made.place))}/report.html"


def _code(done: Iterable[Made], fail_on: str | None) -> int:
    """Of several the gravest: failed, being made by another, breached, too little data."""
    codes = {"failed": 1, "busy": BUSY, "too little data": 4} | ({fail_on: 3} if fail_on else {})
    found = {codes.get(made.verdict, 0) for made in done}
    return next((code for code in (1, BUSY, 3, 4) if code in found), 0)


class _Teller:
    """Which cell of how many, on stderr, for what takes its time."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def cells(self, order: Order, window: Window) -> Callable[[int, int], None]:
        """To be called before each cell of that report."""
        began = _now()
        told = began - round((_PAUSE_S - _QUIET_S) * SECOND_NS)

        def tell(cell: int, cells: int) -> None:
            nonlocal told
            now = _now()
            if not self._quiet and now - told >= _PAUSE_S * SECOND_NS:
                told = now
                remark(f"{order.name} {window.name}: cell {cell} of {cells}, {(now - began) / SECOND_NS:.0f} s")

        return tell


@contextlib.contextmanager
def _stopped_by_signals(stop: Stop) -> Iterator[list[signal.Signals]]:
    """Ctrl-C, SIGTERM and SIGHUP end what is being made, as soon as it can be ended well. Gives those that came."""
    import signal

    came: list[signal.Signals] = []

    def end(number: int, _: object) -> None:
        came.append(signal.Signals(number))
        stop()

    before = {number: signal.signal(number, end) for number in ends()}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# incident


def _add_incident(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "nest", metavar="NEST", help="naddr, a page's link, 30312:pubkey:d or room id, or how it begins"
    )
    option(
        parser, "--out", "FILE", pathname, f"the page, .html (default {INCIDENTS}/NEST.html); its notebook beside it"
    )


@command(
    _add_incident,
    with_store,
    with_json,
    examples=("report incident naddr1…", "report incident 5dc7d2a5 --store example"),
    exits="0 made, 1 failed, 4 scant, 5 store",
)
def incident(args: argparse.Namespace) -> int:
    """Make the page of one nest now: what happened to it, and what to ask next."""
    import re
    from pathlib import Path

    import nbformat

    from nestobs.reports.publishing.execute import notebook
    from nestobs.reports.publishing.execute import run as make
    from nestobs.reports.publishing.manifest import result
    from nestobs.store.reader import Store

    store = store_folder(args)
    Store.open(store, create=False)  # where there is none, no kernel is started
    name = re.sub(r"[^A-Za-z0-9]+", "-", args.nest).strip("-")[-_LONGEST_NAME:] or "nest"
    out = args.out or Path(INCIDENTS, f"{name}.html")
    if out.suffix != ".html":
        raise UsageError(f"--out {out}: name the page, as {out.with_suffix('.html')}")
    if not out.exists() and out.with_suffix(".ipynb").exists():  # somebody may have worked in it
        raise UsageError(f"{out.with_suffix('.ipynb')} is there, and not of an earlier page: give --out another name")
    page = make(notebook("incident"), out, {"store": str(store), "nest": args.nest})
    made: Any = nbformat.read(page.with_suffix(".ipynb"), as_version=4)  # type: ignore[no-untyped-call]  # typed in part
    found = result(made)
    facts = {"page": str(page), "verdict": found["verdict"], "reasons": found["reasons"]}
    show(args, facts, [": ".join([found["verdict"], *found["reasons"][:1]]), f"  {page}"])
    return 4 if found["verdict"] == "too little data" else 0


# index, prune


@command(_with_out, with_json, examples=("report index",), exits="0 done, 5 disk")
def index(args: argparse.Namespace) -> int:
    """Write index.html and feed.xml anew from what is published."""
    from nestobs.reports.publishing import index
    from nestobs.reports.publishing.archive import Archive, writing

    archive = Archive.open(args.out)
    with writing(args.out):
        index.refresh(archive)
    count = len(archive.entries())
    page, feed = args.out / index.INDEX, args.out / index.FEED
    show(args, {"reports": count, "index": str(page), "feed": str(feed)}, [f"{count} reports: {page}"])
    return 0


@command(
    _add_prune,
    _with_out,
    with_json,
    examples=("report prune --keep 30d", "report prune --keep 30d --keep-failed 7d --yes"),
    exits="0 done, 5 disk",
)
def prune(args: argparse.Namespace) -> int:
    """Remove old reports: shows which, and with --yes does it."""
    from nestobs.reports.publishing import retention as prune
    from nestobs.reports.publishing.archive import Archive

    keep_failed_s = args.keep_failed or args.keep
    if min(args.keep, keep_failed_s) < _LEAST_KEPT_S:
        kept = duration_words(min(args.keep, keep_failed_s))
        raise UsageError(f"to keep the reports of the last {kept} is to keep next to none: write days, as 30d")
    if not args.out.is_dir():
        raise UsageError(f"there are no reports in {args.out}: give --out their folder")
    archive = Archive.open(args.out) if args.yes else Archive(args.out)
    going = prune.going(archive, now=_now(), keep_s=args.keep, keep_failed_s=keep_failed_s)
    gone = prune.remove(archive, going) if args.yes else going
    facts = {
        "removed": args.yes,
        "bytes": sum(each.bytes for each in gone),
        "reports": [each.as_dict() for each in gone],
    }
    show(args, facts, list(_told(gone, args.yes)))
    return 0


def _told(gone: Sequence[Gone], done: bool) -> Iterator[str]:
    for each in gone:
        yield f"{each.entry.name} {each.entry.window.name}: {each.what}, {each.bytes:,} bytes"
    total = sum(each.bytes for each in gone)
    remedy = "" if done or not gone else "; --yes does it"
    yield f"{len(gone)} {'went' if done else 'would go'}, {total:,} bytes{remedy}"


# shared


def _now() -> int:
    from nestobs.sources.clock import Clock

    return Clock().now()


REPORT: Final = Command(
    "report",
    "Make reports, each window once, published whole; or of a nest, now.",
    below=(run, catch_up, incident, index, prune),
    examples=("report run daily_report --yesterday", "report incident naddr1…"),
    exits=_MADE,
)
