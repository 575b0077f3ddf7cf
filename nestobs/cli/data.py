"""The commands about what was observed: timeline, diagnose, export, store, ship; and import, of what others wrote."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from nestobs.cli.arguments import (
    Command,
    check_file,
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
from nestobs.cli.pool import with_engine
from nestobs.cli.terminal import Paced, sentences, show, teller, timeline_table
from nestobs.observation.duration import SECOND_NS

if TYPE_CHECKING:
    from pathlib import Path

    from nestobs.diagnosis.diagnose import Diagnosis
    from nestobs.store.shipments.shipping import Shipment


def _with_nest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        nargs="?",
        default="",
        help="one nest: naddr, a page's link, 30312:pubkey:d, room id, or how one of these begins (default: all)",
    )


@command(
    _with_nest,
    with_store,
    with_engine,
    with_json,
    examples=("timeline", "timeline naddr1… --store example", "timeline --json > timelines.json"),
    exits="0 done, 1 a part was lost, 3 no engine, 5 store",
)
def timeline(args: argparse.Namespace) -> int:
    """Show in which interval each layer showed each nest."""
    from nestobs.exports.parts import surest_clocks
    from nestobs.session import timelines
    from nestobs.timeline.intervals import clock_words
    from nestobs.timeline.nests import named

    store, tell = open_store(args), teller(args)
    frame = timelines(store, engine=args.engine, progress=lambda said: tell("timeline", {"said": said}))
    if args.address:
        wanted = named(args.address, frame)
        same = frame["room"] == wanted if isinstance(wanted, str) else frame["nest"] == str(wanted)
        frame = frame[same]
    if args.json:
        print(frame.to_json(orient="records", date_format="iso", indent=2))
    else:
        if frame.empty:
            show(args, {}, [f"no timelines: nothing was observed of {args.address or 'any nest'} in {store.location}"])
        timeline_table(frame)
        clocks = surest_clocks(store)
        sentences(clock_words(clocks[clocks["vantage"].isin(frame["vantage"])], frame))
    return 0


def _add_diagnose(parser: argparse.ArgumentParser) -> None:
    option(parser, "--vantage", "NAME", str, "as seen from there alone (default: from each)", default="")


@command(
    _with_nest,
    _add_diagnose,
    with_store,
    with_json,
    examples=("diagnose --store example", "diagnose naddr1…"),
    exits="0 done, 1 a standing fault, 3 cannot tell, 5 store",
)
def diagnose(args: argparse.Namespace) -> int:
    """Say why nests could not be joined: the causes, with their evidence."""
    import json

    from nestobs import session

    store = open_store(args)
    found = session.diagnose(store, args.address, vantage=args.vantage)
    if args.json:
        print(json.dumps([each.as_dict() for each in found], indent=2))
    else:
        lines = [line for each in found for line in _told(each, whole=bool(args.address))]
        where = f" from {args.vantage}" if args.vantage else ""
        none = f"nothing to diagnose: nothing was observed of {args.address or 'any nest'}{where} in {store.location}"
        show(args, {}, lines or [none])
    if any(each.first.standing_fault and each.first.sure for each in found):
        return 1
    return 0 if any(each.first.tells for each in found) or not args.address else 3


def _told(found: Diagnosis, *, whole: bool) -> list[str]:
    """One line a nest and vantage; of one nest all that is known."""
    first = found.first
    head = (
        f"{found.room or found.nest} from {found.vantage}: {first.cause.value} ({first.confidence:.2f}). {found.line()}"
    )
    if not whole:
        return [head]
    lines = [head]
    for each in found.causes:
        lines.append(f"  {each.cause.value} ({each.confidence:.2f}): {each.said}")
        lines += [f"    seen: {one.said}" for one in each.evidence]
        lines += [f"    {who}: {words}" for who, words in each.advice.items()]
        lines += [f"    next: {each.next}"] if each.next else []
    return lines


def _add_export(parser: argparse.ArgumentParser) -> None:
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--parquet", metavar="FILE", type=pathname, help="write Parquet")
    kind.add_argument(
        "--csv", metavar="FILE", type=pathname, help="write CSV (text cells are guarded against formulas)"
    )
    flag(parser, "--timelines", "timelines in place of observations")


@command(
    _add_export,
    with_store,
    with_engine,
    with_json,
    examples=("export --parquet observations.parquet", "export --timelines --csv timelines.csv"),
    exits="0 done, 1 a part was lost, 3 no engine, 5 store",
)
def export(args: argparse.Namespace) -> int:
    """Write observations (or timelines) to a file."""
    from nestobs.exports.frames import write_csv, write_parquet
    from nestobs.session import timelines

    store, tell = open_store(args), teller(args)
    if args.timelines:
        frame = timelines(store, engine=args.engine, progress=lambda said: tell("export", {"said": said}))
    else:
        frame = store.frame()
    path: Path = args.parquet or args.csv
    check_file(path)
    (write_parquet if args.parquet else write_csv)(frame, path)
    show(args, {"file": str(path), "rows": len(frame)}, [f"{len(frame)} rows in {path}"])
    return 0


@command(with_store, with_json, examples=("store info", "store info --store example --json"), exits="0 done, 5 store")
def info(args: argparse.Namespace) -> int:
    """Say what a store holds: rows, days, sealed or not, lost."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from nestobs.store.inventory import contents

    store = open_store(args)
    held = contents(store)
    ends = [datetime.fromtimestamp(at / SECOND_NS, UTC) for at in (held.first_at, held.last_at) if at is not None]
    lines = [
        f"{store.location}: {held.rows} observations, {held.size / 1e6:.1f} MB",
        *([f"sent from {ends[0]:%Y-%m-%d %H:%M:%S} to {ends[1]:%Y-%m-%d %H:%M:%S} UTC"] if ends else []),
        f"sealed: {held.rows - held.unsealed} in {held.files} files; in the journal: {held.unsealed}",
        *([f"lost: {held.lost}, in files set aside (`nestobs store verify` names them)"] if held.lost else []),
        *([f"open in the ledger: {held.open_entries}"] if held.open_entries else []),
    ]
    first, last = (end.isoformat() for end in ends) if ends else (None, None)
    show(args, asdict(held) | {"store": store.location, "first_at": first, "last_at": last}, lines)
    return 0


def _add_seal(parser: argparse.ArgumentParser) -> None:
    flag(parser, "--all", "what there is of today, too, as before a large report")


@command(_add_seal, with_store, with_json, examples=("store seal", "store seal --all"), exits="0 done, 5 store")
def seal(args: argparse.Namespace) -> int:
    """Move days that are over to Parquet; a writer does so by itself."""
    from nestobs.sources.clock import Clock

    store = open_store(args)
    made = store.seal(before=2**63 - 1 if args.all else Clock().now())
    lines = [f"sealed: {path}" for path in made] or ["nothing to seal: no day is over that is not sealed"]
    show(args, {"sealed": [str(path) for path in made]}, lines)
    return 0


def _add_verify(parser: argparse.ArgumentParser) -> None:
    flag(
        parser, "--set-aside", "go on without damaged and missing files, and with those set aside that are whole again"
    )


@command(
    _add_verify,
    with_store,
    with_json,
    examples=("store verify", "store verify --set-aside"),
    exits="0 whole, 1 not whole, 5 store",
)
def verify(args: argparse.Namespace) -> int:
    """Read a whole store and name what is damaged, missing or twice."""
    from dataclasses import asdict

    from nestobs.store.inventory import set_aside, verify

    store = open_store(args)
    found = verify(store)
    aside, back = [one.file for one in found if one.wrong and one.lost] if args.set_aside else [], []
    if args.set_aside:
        with store.writer() as writer:
            back = set_aside(store, writer, aside)
        found = verify(store)
    wrong = any(one.wrong for one in found)
    lines = [f"{'BAD ' if one.wrong else 'note'}  {one.file}: {one.said}" for one in found]
    lines += [f"set aside: {name}" for name in aside] + [f"counts again: {name}" for name in back]
    last = "not whole: bring back what is damaged from a copy, or go on without it by --set-aside" if wrong else "whole"
    data = {"whole": not wrong, "findings": [asdict(one) for one in found], "set_aside": aside, "back": back}
    show(args, data, [*lines, f"{store.location} is {last}"])
    return 1 if wrong else 0


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=pathname, help="logs, transcripts, consoles or HARs; .gz too"
    )
    formats = ("api", "livekit", "nginx", "relay", "console", "har")
    option(parser, "--format", "NAME", str, f"{', '.join(formats)} (default: told by content)", choices=formats)
    option(parser, "--vantage", "NAME", str, "the one place and clock that all of them come from (default: by format)")
    option(parser, "--api", "URL", str, "base of the Nests API, where the files do not tell it")
    option(parser, "--relay", "URL", str, "the relay of a transcript")
    option(parser, "--livekit", "URL", str, "LiveKit, where the files do not tell it")
    text = "how long a request lasted at most whose line tells only its end (default 2s)"
    option(parser, "--longest", "DURATION", duration_s, text, default="2s")


@command(
    _add_import,
    with_store,
    with_json,
    examples=("import api.log livekit.log access.log.1.gz --store incident", 'import b.har --vantage "Computer B"'),
    exits="0 done, 5 store",
)
def import_(args: argparse.Namespace) -> int:
    """Make observations of logs, transcripts, consoles and HARs."""
    from nestobs.collector.imports.files import import_files
    from nestobs.collector.imports.said import Names
    from nestobs.collector.imports.words import as_data, words_of
    from nestobs.store.reader import Store

    names = Names(args.api or "", args.relay or "", args.livekit or "", args.longest)
    store = Store.open(store_folder(args))
    found = import_files(store, args.files, names, word=args.format or "", vantage=args.vantage or "")
    show(args, as_data(found) | {"store": store.location}, [*words_of(found), f"store: {store.location}"])
    return 0


def _add_ship(parser: argparse.ArgumentParser) -> None:
    text = "folder or bucket: a path, s3://BUCKET/FOLDER, sftp://HOST/FOLDER (default: that of [run])"
    option(parser, "--to", "URL", str, text)
    flag(parser, "--all", "what there is of today, too, as at the end of a run")
    reads(parser, "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL")


@command(
    _add_ship,
    with_store,
    with_json,
    examples=("ship --to s3://fleet/nests", "ship --to /mnt/fleet --all"),
    exits="0 done, 1 not all, 5 store or bucket",
)
def ship(args: argparse.Namespace) -> int:
    """Put sealed days into a folder or bucket, whole files, each once."""
    from dataclasses import asdict

    from nestobs.config import Config
    from nestobs.sources.clock import Clock
    from nestobs.store.shipments import shipping

    store, clock = open_store(args), Clock()
    place = shipping.destination(store, Config(args.config).ship_to(args.to))
    teller = Paced(clock, quiet=args.json)

    def progress(there: int, files: int, size: int) -> None:
        teller(f"{there} of {files} files are at {place.url}, {size / 1e6:.1f} MB of them put now")

    made = shipping.ship(store, place, before=2**63 - 1 if args.all else clock.now(), progress=progress)
    show(args, asdict(made), _shipped(made))
    return 1 if made.damaged else 0


def _shipped(made: Shipment) -> list[str]:
    lines = [f"damaged, not shipped: {said}" for said in made.damaged]
    if made.unsealed_why:
        lines.append(f"what is due was not sealed here: {made.unsealed_why}")
    if made.aside:
        lines.append(f"{made.aside} files are set aside, and not shipped (`nestobs store verify` names them)")
    if made.unsealed:
        lines.append(f"{made.unsealed} rows are not sealed yet, and not shipped: --all seals and ships what it can")
    put = f"{len(made.shipped)} files put, {made.rows} rows, {made.size / 1e6:.1f} MB"
    return [*lines, f"{made.to}: {put}; {made.there} were there"]


STORE: Final = Command(
    "store",
    "Look after a store.",
    below=(info, seal, verify),
    examples=("store info", "store verify"),
    exits="0 done, 1 not whole, 5 store",
)
