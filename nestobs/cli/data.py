"""The commands about what was observed: timeline, export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from nestobs.cli.arguments import Command, check_file, open_store, with_json, with_store
from nestobs.cli.terminal import show, timeline_table


def _add_timeline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", nargs="?", help="one nest (default: all)")
    with_store(parser)
    with_json(parser)


def _run_timeline(args: argparse.Namespace) -> int:
    from nestobs.observation.nest import read_address
    from nestobs.timeline.intervals import timelines

    store = open_store(args)
    wanted = read_address(args.address) if args.address else None
    frame = timelines(store.frame())
    if wanted is not None:
        same = frame["room"] == wanted if isinstance(wanted, str) else frame["nest"] == str(wanted)
        frame = frame[same]
    if args.json:
        print(frame.to_json(orient="records", date_format="iso", indent=2))
    else:
        if frame.empty:
            show(args, {}, [f"no timelines: nothing was observed of {args.address or 'any nest'} in {store.directory}"])
        timeline_table(frame)
    return 0


def _add_export(parser: argparse.ArgumentParser) -> None:
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--parquet", metavar="FILE", type=Path, help="write Parquet")
    kind.add_argument("--csv", metavar="FILE", type=Path, help="write CSV (text cells are guarded against formulas)")
    parser.add_argument("--timelines", action="store_true", help="timelines in place of observations")
    with_store(parser)
    with_json(parser)


def _run_export(args: argparse.Namespace) -> int:
    from nestobs.exports.frames import write_csv, write_parquet
    from nestobs.timeline.intervals import timelines

    frame = open_store(args).frame()
    if args.timelines:
        frame = timelines(frame)
    path: Path = args.parquet or args.csv
    check_file(path)
    (write_parquet if args.parquet else write_csv)(frame, path)
    show(args, {"file": str(path), "rows": len(frame)}, [f"{len(frame)} rows in {path}"])
    return 0


TIMELINE: Final = Command(
    "timeline", "Show in which interval each layer showed each nest.", _add_timeline, _run_timeline
)
EXPORT: Final = Command("export", "Write observations (or timelines) to a file.", _add_export, _run_export)
