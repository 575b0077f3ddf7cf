"""What the words of a command mean: the types of arguments, the flags that several commands take, and what those name.

Imports happen inside functions, so that --help is quick.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nestobs.errors import UsageError
from nestobs.observation.duration import duration_words, read_duration

if TYPE_CHECKING:
    from nestobs.collector.manners import Manners
    from nestobs.collector.station import Target
    from nestobs.config import Config
    from nestobs.store.reader import Store


class Command(NamedTuple):
    """A command: its word, what it does in a sentence, and what adds its arguments.

    `run` takes the parsed words and gives the exit code; None where `add` adds commands below it.
    """

    name: str
    text: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int] | None = None


def add_commands(parser: argparse.ArgumentParser, commands: Sequence[Command]) -> None:
    """Let one of these commands follow, each with the parser's own epilog; the chosen one's `run` becomes `command`."""
    inner = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in commands:
        made = inner.add_parser(
            command.name,
            help=command.text,
            description=command.text,
            epilog=parser.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(command=command.run)
        command.add(made)


# flags


def with_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")


def with_store(parser: argparse.ArgumentParser) -> None:
    """--store and --config."""
    parser.add_argument("--store", metavar="DIR", help="folder of observations (default ./nestobs-data)")
    parser.add_argument("--config", metavar="FILE", type=Path, help="configuration (default ./nestobs.toml)")


def with_target(parser: argparse.ArgumentParser) -> None:
    """--store, --config, and what names a target."""
    with_store(parser)
    parser.add_argument("--target", metavar="NAME", help="a target of nestobs.toml")
    parser.add_argument("--api", metavar="URL", help="base of the Nests API, https://HOST/api/v1/nests")
    parser.add_argument(
        "--relay", metavar="URL", action="append", default=[], help="a relay; the first is the selected one"
    )
    parser.add_argument(
        "--livekit", metavar="URL", help="LiveKit, wss://HOST: tokens go there, and nowhere that only a nest names"
    )


def with_manners(parser: argparse.ArgumentParser) -> None:
    """--visit-empty and --follow-events: what is done only for who insists."""
    parser.add_argument(
        "--visit-empty",
        action="store_true",
        help="join rooms though nobody, or nobody known, is inside: leaving again can end them",
    )
    parser.add_argument(
        "--follow-events",
        action="store_true",
        help="also dial relays and LiveKit that only a nest's event names: public addresses, and without any secret",
    )


def with_policy(parser: argparse.ArgumentParser, default: str) -> None:
    """--policy."""
    parser.add_argument(
        "--policy",
        metavar="NAME",
        default=default,
        help=f"guide, released, manual_retry, fixed(S), … (default {default})",
    )


def with_webhooks(parser: argparse.ArgumentParser) -> None:
    """--webhook-port."""
    parser.add_argument(
        "--webhook-port", metavar="PORT", type=port, help="receive LiveKit's webhooks here (needs LiveKit's keys)"
    )


# types: each reads a word, and raises ArgumentTypeError in a sentence


def duration_s(text: str) -> float:
    """A duration above 0, in seconds."""
    try:
        return read_duration(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def duration_between(least_s: float, most_s: float) -> Callable[[str], float]:
    """For a duration within these, both included; in seconds."""

    def read(text: str) -> float:
        with contextlib.suppress(UsageError):
            if least_s <= (found := read_duration(text, zero=True)) <= most_s:
                return found
        ends = f"from {duration_words(least_s)} to {duration_words(most_s)}"
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no duration {ends}: write 90s, 15min or 2h30m")

    return read


def count(text: str) -> int:
    """A whole number from 0 to 100000."""
    if not (text.isascii() and text.isdigit()) or int(text) > 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no count: write a whole number from 0 to 100000")
    return int(text)


def port(text: str) -> int:
    """A port; 0 is a free one."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: write a number from 1 to 65535, or 0 for a free one")
    return int(text)


def number_between(least: float, most: float) -> Callable[[str], float]:
    """For a number within these, both included."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            if least <= (found := float(text)) <= most:
                return found
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number from {least:g} to {most:g}")

    return read


def whole_between(least: int, most: int) -> Callable[[str], int]:
    """For a whole number within these, both included."""

    def read(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number from {least} to {most}")

    return read


# what flags name


def store_folder(args: argparse.Namespace) -> Path:
    """The folder that --store or --config name, whether there is a store or not."""
    from nestobs.config import Config

    return Config(args.config).store(args.store)


def open_store(args: argparse.Namespace) -> Store:
    """The store there is. Raises StoreError where there is none."""
    from nestobs.store.reader import Store

    return Store.open(store_folder(args), create=False)


def configured(args: argparse.Namespace) -> tuple[Config, Target]:
    """The configuration, and the target that flags name. Raises UsageError or ConfigError."""
    from nestobs.config import Config

    config = Config(args.config)
    return config, config.target(args.target, api=args.api, relays=args.relay, livekit=args.livekit)


def manners_of(args: argparse.Namespace) -> Manners:
    """What the operator insists on."""
    from nestobs.collector.manners import Manners

    return Manners(
        visit_empty=args.visit_empty,
        as_yourself=getattr(args, "as_yourself", False),
        follow_events=args.follow_events,
    )


def check_file(path: Path) -> None:
    """Raise UsageError for what cannot be the file to write."""
    with contextlib.suppress(OSError):  # a name that no file can have: writing says so
        if path.is_dir():
            raise UsageError(f"{path} is a folder: name the file to write")
