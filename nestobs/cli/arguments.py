"""What the words of a command mean: the types of arguments, the flags that several commands take, and what those name.

Imports happen inside functions, so that --help is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from nestobs.cli.terminal import detail
from nestobs.errors import UsageError, meant
from nestobs.observation.duration import duration_words, read_duration

if TYPE_CHECKING:
    from pathlib import Path

    from nestobs.collector.manners import Manners
    from nestobs.collector.station import Target
    from nestobs.config import Config
    from nestobs.store.reader import Store


class Command(NamedTuple):
    """A command: its word, what it does in a sentence, what adds its arguments, in the order of its help, and `run`,
    which takes the parsed words and gives the exit code. Where there are commands `below`, one of them follows.

    examples: lines as they are typed, `nestobs` left out. exits: the exit codes it can have, on one line, each with a
    word or two: "0 joined, 1 not joined"; 2, and 130 with 129, are every command's and may be left out.
    home: where in `cli` the command is written, for one of which only word and sentence are known.
    """

    name: str
    text: str
    adds: Sequence[Callable[[argparse.ArgumentParser], None]] = ()
    run: Callable[[argparse.Namespace], int] | None = None
    below: Sequence[Command] = ()
    examples: Sequence[str] = ()
    exits: str = ""
    home: str = ""

    def whole(self) -> Command:
        """With what is written at its home."""
        if not self.home:
            return self
        from importlib import import_module

        module, _, name = self.home.partition(".")
        found: Command = getattr(import_module(f"nestobs.cli.{module}"), name)
        return found


def command(
    *adds: Callable[[argparse.ArgumentParser], None], examples: Sequence[str], exits: str
) -> Callable[[Callable[[argparse.Namespace], int]], Command]:
    """Make a function a command: its name is the word, its docstring the sentence of the help."""
    return lambda run: Command(
        run.__name__.strip("_").replace("_", "-"),
        " ".join(str(run.__doc__).split()),
        adds,
        run,
        examples=examples,
        exits=exits,
    )


class CommandParser(argparse.ArgumentParser):
    """Of one command. Its arguments are added when it is the one that is chosen: the help of all needs none.

    variables: what of the environment its flags have it read.
    """

    command: Command | None = None
    variables: tuple[str, ...] = ()
    _complete = False

    def complete(self) -> None:
        """Add its arguments, once."""
        if (command := self.command) is None or self._complete:
            return
        self._complete = True
        self.command = command = command.whole()
        self.set_defaults(command=command.run)
        for add in (*command.adds, with_voice):
            add(self)
        if command.below:
            add_commands(self, command.below)

    def parse_known_args(self, *words: Any, **more: Any) -> Any:
        """As every parser, once it is complete; but a flag that there is not is an error here, where it can be
        said what was likely meant."""
        self.complete()
        if self.command is not None and not self.command.below:
            self._refuse(itertools.takewhile(lambda word: word != "--", words[0]))
        found, left = super().parse_known_args(*words, **more)
        if left:
            self._refuse(left)
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left

    def _refuse(self, words: Iterable[str]) -> None:
        """End where one of these is a flag that there is not; before it is said what else is missing."""
        known = [each for action in self._actions for each in action.option_strings if each.startswith("--")]
        for word in words:
            flag = word.partition("=")[0]
            if flag.startswith("--") and " " not in flag and not any(each.startswith(flag) for each in known):
                self.error(f"there is no flag {flag[:40]}{meant(flag, known)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As every parser, and says what was likely meant."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += meant(str(value), [str(each) for each in action.choices or ()])
            raise

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, its usage in short and what is wrong."""
        from nestobs.cli.help import usage

        self.exit(2, f"{usage(self)}\n{self.prog}: {message}\n")

    def format_help(self) -> str:
        """What fits a screen, and where the rest is."""
        from nestobs.cli.help import screen

        self.complete()
        return screen(self)


def add_commands(parser: argparse.ArgumentParser, commands: Sequence[Command]) -> None:
    """Let one of these commands follow; the chosen one's `run` becomes `command`."""
    inner = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=CommandParser, prog=parser.prog
    )
    for one in commands:
        made = inner.add_parser(one.name, help=one.text, description=one.text)
        made.command = one


def reads(parser: argparse.ArgumentParser, *variables: str) -> None:
    """Say that a command reads these variables of the environment."""
    if isinstance(parser, CommandParser):
        parser.variables = tuple(dict.fromkeys((*parser.variables, *variables)))


# flags


def option(
    parser: argparse.ArgumentParser, name: str, metavar: str, kind: Callable[[str], object], text: str, **more: Any
) -> None:
    """A flag with a value. `kind` reads the word that is given, and a default that is a word."""
    parser.add_argument(name, metavar=metavar, type=kind, help=text, **more)


def flag(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """A flag without a value."""
    parser.add_argument(name, action="store_true", help=text)


def with_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    flag(parser, "--json", "print the result as JSON on standard output")


def with_store(parser: argparse.ArgumentParser) -> None:
    """--store and --config."""
    option(parser, "--store", "DIR", str, "folder of observations, or URL of shipped ones (default ./nestobs-data)")
    option(parser, "--config", "FILE", pathname, "configuration (default ./nestobs.toml)")
    reads(parser, "NESTOBS_CONFIG")


def with_voice(parser: argparse.ArgumentParser, default: object = argparse.SUPPRESS) -> None:
    """-v and -q, which every command has."""
    voice = parser.add_mutually_exclusive_group()
    text = "tell progress and detail on standard error"
    voice.add_argument("-v", "--verbose", action="store_true", default=default, help=text)
    text = "tell nothing but errors there; results stay as they are"
    voice.add_argument("-q", "--quiet", action="store_true", default=default, help=text)


def with_target(parser: argparse.ArgumentParser) -> None:
    """--store, --config, and what names a target."""
    with_store(parser)
    option(parser, "--target", "NAME", target_name, "a target of nestobs.toml")
    option(parser, "--api", "URL", str, "base of the Nests API, https://HOST/api/v1/nests")
    option(parser, "--relay", "URL", str, "a relay; the first is the selected one", action="append", default=[])
    option(parser, "--livekit", "URL", str, "LiveKit, wss://HOST: tokens go there, and nowhere that only a nest names")
    reads(parser, "NESTOBS_NSEC", "NESTOBS_LIVEKIT_API_KEY", "NESTOBS_LIVEKIT_API_SECRET")
    reads(parser, "NESTOBS_VANTAGE", "NESTOBS_STATE_DIR")


def with_manners(parser: argparse.ArgumentParser) -> None:
    """--visit-empty and --follow-events: what is done only for who insists."""
    flag(parser, "--visit-empty", "join rooms though nobody, or nobody known, is inside: leaving again can end them")
    flag(
        parser,
        "--follow-events",
        "also dial relays and LiveKit that only a nest's event names: public addresses, and without any secret",
    )


def with_investigation(parser: argparse.ArgumentParser) -> None:
    """--investigate."""
    flag(
        parser,
        "--investigate",
        "where several causes fit, ask what decides: at most 6 requests more, which harm nobody",
    )


def with_policy(parser: argparse.ArgumentParser) -> None:
    """--policy."""
    text = "guide, released, manual_retry, fixed(S), … (default exponential(1))"
    option(parser, "--policy", "NAME", policy_name, text, default="exponential(1)")


def with_period(parser: argparse.ArgumentParser) -> None:
    """--period."""
    text = "it is run so often by a schedule: once it has come to its end, it counts as observation until the next"
    option(parser, "--period", "DURATION", duration_between(60.0, 86_400.0), text, default=0.0)


def with_webhooks(parser: argparse.ArgumentParser) -> None:
    """--webhook-port."""
    option(parser, "--webhook-port", "PORT", port, "receive LiveKit's webhooks here (needs LiveKit's keys)")


# types: each reads a word, and raises ArgumentTypeError in a sentence


def pathname(text: str) -> Path:
    """A file or folder, whether it is there or not."""
    from pathlib import Path

    return Path(text)


def target_name(text: str) -> str:
    """A target of nestobs.toml; such types tell a shell what to offer (cli/completion.py)."""
    return text


def scenario_name(text: str) -> str:
    """A scenario of the lab."""
    return text


def notebook_name(text: str) -> str:
    """A notebook that comes with nestobs."""
    return text


def policy_name(text: str) -> str:
    """A policy: `guide`, `fixed(2)`."""
    return text


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
    if (found := _whole(text)) is None or found > 100_000:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no count: write a whole number from 0 to 100000")
    return found


def port(text: str) -> int:
    """A port; 0 is a free one."""
    if (found := _whole(text)) is None or found > 65_535:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no port: write a number from 1 to 65535, or 0 for any")
    return found


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
        if (found := _whole(text)) is not None and least <= found <= most:
            return found
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number from {least} to {most}")

    return read


def _whole(text: str) -> int | None:
    """Digits and nothing else, fewer than twenty."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


# what flags name


def store_folder(args: argparse.Namespace) -> Path | str:
    """The folder or URL that --store or --config name, whether there is a store or not."""
    from nestobs.config import Config

    config = Config(args.config)
    folder = config.store(args.store)
    detail(f"configuration: {_whether(config.path)}; store: {_whether(folder)}")
    return folder


def _whether(path: Path | str) -> str:
    return f"{path}" if isinstance(path, str) or path.exists() else f"{path} (is not there)"


def open_store(args: argparse.Namespace) -> Store:
    """The store there is. Raises StoreError where there is none."""
    from nestobs.store.reader import Store

    return Store.open(store_folder(args), create=False)


def configured(args: argparse.Namespace) -> tuple[Config, Target]:
    """The configuration, and the target that flags name. Raises UsageError or ConfigError."""
    from nestobs.config import Config

    config = Config(args.config)
    target = config.target(args.target, api=args.api, relays=args.relay, livekit=args.livekit)
    detail(f"configuration: {_whether(config.path)}; store: {_whether(config.store(args.store))}")
    detail(f"target: {target.name} from {target.vantage}: {target.api}, {', '.join(target.relays)}, {target.livekit}")
    return config, target


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
