"""The commands that hand what was observed to other people's tools: metrics and traces."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from nestobs.cli.arguments import (
    command,
    duration_s,
    flag,
    open_store,
    option,
    pathname,
    reads,
    store_folder,
    with_json,
    with_store,
)
from nestobs.cli.terminal import interruptible, remark, show
from nestobs.observation.duration import SECOND_NS

if TYPE_CHECKING:
    from nestobs.exports.metrics import Metrics

LISTEN: Final = "127.0.0.1:9464"

LATER_S: Final = 3_600
"""What was observed of a window's nests so long after it, in seconds, is in their traces, too."""


def _address(text: str) -> tuple[str, int]:
    """HOST:PORT, or a port of this machine alone."""
    host, colon, number = text.rpartition(":")
    if number.isascii() and number.isdigit() and int(number[:6]) < 65_536 and (host or not colon):
        return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(number)
    raise argparse.ArgumentTypeError(
        f"{text[:40]!r} is no address: write HOST:PORT, or PORT to be asked from here only"
    )


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    text = f"serve scrapes there until it is stopped (without a word: {LISTEN})"
    where.add_argument("--listen", metavar="HOST:PORT", type=_address, nargs="?", const=_address(LISTEN), help=text)
    text = "keep a file, NAME.prom, for node_exporter's textfile collector"
    where.add_argument("--textfile", metavar="FILE", type=pathname, help=text)
    option(parser, "--every", "DURATION", duration_s, "between two writings of that file (15s)", default=15.0)
    flag(parser, "--once", "write that file once, and end")
    reads(parser, "NESTOBS_STATE_DIR")


@command(
    with_store,
    _add_metrics,
    examples=("metrics --listen", "metrics --textfile nestobs.prom", "metrics --store example"),
    exits="0 done, 5 store",
)
def metrics(args: argparse.Namespace) -> int:
    """Print metrics for Prometheus, serve them, or keep them in a file."""
    from nestobs.config import Config
    from nestobs.exports.metrics import Metrics

    config = Config(args.config)
    made = Metrics(store_folder(args), relays=config.relays, apis=config.apis, budgets=config.budgets)
    if args.listen or (args.textfile and not args.once):
        try:
            interruptible(_follow(args, made))
        except KeyboardInterrupt:  # the usual way to end it
            return 0
    open_store(args)  # nobody waits for it
    while not made.advance():
        pass
    if args.textfile:
        made.write(args.textfile)
    else:
        sys.stdout.write(made.scrape().decode())
    return 0


def _add_traces(parser: argparse.ArgumentParser) -> None:
    text = "nests made in it: ISO 8601, UTC; or one day, as 2026-01-01 (default: all)"
    option(parser, "--window", "START/END", str, text)
    option(parser, "--to", "URL", str, "OTLP/HTTP receiver: http://HOST:4318")
    reads(parser, "OTEL_EXPORTER_OTLP_ENDPOINT")


@command(
    with_store,
    _add_traces,
    with_json,
    examples=("traces --store example --to http://127.0.0.1:4318", "traces --window 2026-11-27"),
    exits="0 done, 3 the receiver does not take them, 5 store",
)
def traces(args: argparse.Namespace) -> int:
    """Send a trace of each nest to an OpenTelemetry receiver."""
    from nestobs.config import Config
    from nestobs.exports.traces import send, spans
    from nestobs.observation.window import Window

    to, store = Config(args.config).receiver(args.to), open_store(args)
    window = None if args.window is None else Window.parse(args.window)
    start, end = (None, None) if window is None else (window.start, window.end)
    rows = store.frame(start=start, end=None if end is None else end + LATER_S * SECOND_NS, categories=True)
    sent = send(spans(rows, None if start is None or end is None else (start, end)), to)
    show(args, {"spans": sent}, [f"{sent} spans sent"])
    return 0


async def _follow(args: argparse.Namespace, made: Metrics) -> None:
    """Keep up with the store until told to stop."""
    import asyncio

    from nestobs.sources.clock import Clock

    clock = Clock()
    server = made.listen(*args.listen) if args.listen else None
    if server is not None:
        host = f"[{args.listen[0]}]" if ":" in args.listen[0] else args.listen[0]
        remark(f"metrics at http://{host}:{server.server_port}/metrics")
    try:
        while True:
            due = clock.now() + round(args.every * SECOND_NS)
            while not await asyncio.to_thread(made.advance, 1.0):
                pass
            if args.textfile:
                await asyncio.to_thread(made.write, args.textfile)
            await clock.until(due)
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
