"""What is said of the commands: on one screen by --help, whole by `nestobs help`; and what every command shares, the
exit codes and the environment."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from nestobs.cli.arguments import Command, CommandParser, command
from nestobs.errors import UsageError, meant

WIDTH: Final = 80
LINES: Final = 24
"""A screen: that of a terminal which nobody has made larger."""

EXIT_CODES: Final = """\
exit codes:
  0  done; for `ready`: ready
  1  the answer is no: not joined, nobody got into a canary's nests, something left, a check or report failed, too
     little data; for `ready`: not yet, or a standing fault; for `diagnose` and `doctor`: a standing fault
  2  the words are wrong: flags, nestobs.toml, an address, a key
  3  a target that must answer does not; for `ready`, `diagnose` and `doctor`: cannot tell; for `report --fail-on
     breached`: it is
  4  the request budget does not allow it; for `report`: there is too little data
  5  the store cannot be used, or the disk is full (what was acknowledged is safe)
  6  for `ready`: the nest is gone or closed
  75  another process is making that report: try again later
  129  the terminal was closed (SIGHUP); cleaned up as for 130
  130  interrupted (Ctrl-C, SIGTERM); what was made has been cleaned up, or stays in the ledger for the next start
"""

ENVIRONMENT: Final = {
    "NESTOBS_CONFIG": "the configuration, where --config does not name it",
    "NESTOBS_NSEC": "a secret key: whom to join or host as; without it a fresh key is made for the run",
    "NESTOBS_LIVEKIT_API_KEY": "with NESTOBS_LIVEKIT_API_SECRET: the key for LiveKit's list of rooms",
    "NESTOBS_LIVEKIT_API_SECRET": "the secret of that key",
    "NESTOBS_VANTAGE": "the name of this place and clock (default: this machine's)",
    "NESTOBS_STATE_DIR": "folder of run keys and of the request budget (default: nestobs in XDG_STATE_HOME)",
    "NESTOBS_LIVEKIT_SERVER": "the livekit-server of the lab (default: that on PATH, or of `make livekit`)",
    "AWS_ACCESS_KEY_ID": "with AWS_SECRET_ACCESS_KEY, or AWS_PROFILE: who opens buckets of S3 (docs/fleet.md)",
    "AWS_ENDPOINT_URL": "another S3 server than Amazon's",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "where traces go, without --to; OpenTelemetry's other variables count, too",
    "XDG_STATE_HOME": "default ~/.local/state; where that holds a nestobs already, that one stays in use",
    "XDG_CONFIG_HOME": "its nestobs/nestobs.toml is read where there is none here (default ~/.config)",
    "XDG_CACHE_HOME": "what `make livekit` has built is in its nestobs/bin (default ~/.cache)",
    "NO_COLOR": "where it is not empty: no colours; where no terminal reads, there are none anyhow",
    "COLUMNS": "how wide the terminal is, where it cannot be asked",
}
"""What nestobs reads of the environment, each in a sentence."""

_SHARED: Final = ("--target", "--api", "--relay", "--livekit", "--store", "--config", "--json", "-v", "-q")
"""Flags of many commands: --help names them, and explains a command's own."""


def usage(parser: argparse.ArgumentParser) -> str:
    """How a command is called: what must be there, and that there are flags."""
    if isinstance(parser, CommandParser) and parser.command is None:
        return f"usage: {parser.prog} COMMAND ... (nestobs --help)"
    words, exclusive = ["usage:", parser.prog], [group for group in parser._mutually_exclusive_groups if group.required]
    words += [_counted(each) for each in parser._actions if not each.option_strings]
    words += [" | ".join(map(_called, group._group_actions)).join("()") for group in exclusive]
    grouped = [action for group in exclusive for action in group._group_actions]
    needed = [each for each in parser._actions if each.required and each.option_strings and each not in grouped]
    words += [*(_called(each) for each in needed), "[flags]"]
    return textwrap.fill(" ".join(words), WIDTH, subsequent_indent=" " * 7, break_on_hyphens=False)


def _called(action: argparse.Action) -> str:
    """An argument as it is typed: `--count N`, `NAME`."""
    if isinstance(action, argparse._SubParsersAction):
        return f"{action.metavar} ..."
    values = f"{{{','.join(map(str, action.choices))}}}" if action.choices else (action.dest.upper())
    value = "" if action.nargs == 0 else str(action.metavar or values)
    flag = next((each for each in action.option_strings if each.startswith("--")), "")
    return f"{flag} {value}".strip()


def _counted(action: argparse.Action) -> str:
    """A positional argument, and how often it may be there."""
    called = _called(action)
    return {"?": f"[{called}]", "+": f"{called} [{called} ...]", "*": f"[{called} ...]"}.get(str(action.nargs), called)


def screen(parser: CommandParser) -> str:
    """What fits on one screen: each argument in a line, as many as there is room for; the others are named."""
    if (asked := parser.command) is None:
        from nestobs.cli.main import overview

        return overview()
    head = [*usage(parser).splitlines(), *textwrap.wrap(asked.text, WIDTH)]
    rows, named = _rows(parser)
    pad = min(24, max((len(called) for called, _ in rows), default=0))
    lines = [*head, *(line for row in rows for line in _row(*row, pad)), *_tail(parser, asked, named)]
    for shown in range(len(rows), -1, -1):
        if len(lines) <= LINES:
            break
        tail = _tail(parser, asked, [*(row[0] for row in rows[shown:]), *named])
        lines = [*head, *(_cut(_row(*row, pad)) for row in rows[:shown]), *tail]
    return "\n".join([*lines, ""])


def _rows(parser: CommandParser) -> tuple[list[tuple[str, str]], list[str]]:
    """Arguments of its own or commands below, each with its text, what must be there first; and flags it shares."""
    rows, named = [], []
    shown = [each for each in parser._actions if each.dest != "help"]
    for action in sorted(shown, key=lambda each: (bool(each.option_strings), not each.required)):
        if isinstance(action, argparse._SubParsersAction):
            rows += [(each.dest, str(each.help)) for each in action._choices_actions]
        elif action.option_strings and action.option_strings[0] in _SHARED:
            named.append(_called(action) if len(action.option_strings) == 1 else action.option_strings[0])
        else:
            rows.append((_called(action), str(action.help)))
    return rows, sorted(named, key=lambda each: _SHARED.index(each.split()[0]))


def _row(called: str, text: str, pad: int) -> list[str]:
    """An argument and what it is, on as many lines as it takes."""
    return _folded(f"  {called:<{pad}}  ", text, " " * (pad + 4))


def _cut(lines: list[str]) -> str:
    """The first line, and that it is not all."""
    first = lines[0] if len(lines[0]) <= WIDTH - 2 else lines[0].rpartition(" ")[0]
    return lines[0] if len(lines) == 1 else f"{first.rstrip(',;:')} …"


def _tail(parser: CommandParser, asked: Command, named: Sequence[str]) -> Iterator[str]:
    """What stands below the arguments."""
    if named:
        yield from _folded("  also ", ", ".join(named))
    if asked.examples:
        yield "examples:"
        yield from (f"  nestobs {example}" for example in asked.examples)
    if parser.variables:
        yield from _folded("environment: ", ", ".join(parser.variables))
    yield exits_line(asked)
    yield f"the rest: nestobs help {parser.prog.removeprefix('nestobs ')}; nestobs help environment"


def _folded(label: str, text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=label, subsequent_indent=indent, break_on_hyphens=False)


def exits_line(asked: Command) -> str:
    """The exit codes that a command can have, on one line."""
    codes = re.findall(r"(\d+) ([^,]+)", asked.exits or "0 done")
    told = sorted({(int(code), said) for code, said in codes} | {(2, "usage"), (130, "^C")})
    return "exit codes: " + ", ".join(f"{code} {said}" for code, said in told)


# nestobs help


def whole(parser: CommandParser) -> str:
    """All that there is to say of a command, at the width of the terminal."""
    parser.complete()
    asked = parser.command
    assert asked is not None
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    lines = ["examples:", *(f"  nestobs {example}" for example in asked.examples), ""] if asked.examples else []
    told = {name: ENVIRONMENT[name] for name in parser.variables}
    lines += ["environment:", *(f"  {name:<27} {said}" for name, said in told.items()), ""] if told else []
    parser.epilog = "\n".join([*lines, exits_line(asked), "  (nestobs help exit-codes: each in a sentence)"])
    return argparse.ArgumentParser.format_help(parser)


def _environment() -> str:
    return "".join(f"{name}\n    {said}\n" for name, said in ENVIRONMENT.items())


TOPICS: Final = {"exit-codes": lambda: EXIT_CODES, "environment": _environment}


def _add_topic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC", nargs="*", help="a command, or exit-codes, or environment")


@command(_add_topic, examples=("help canary", "help report run", "help exit-codes"), exits="0 done")
def help_(args: argparse.Namespace) -> int:
    """All about a command, the exit codes or the environment."""
    print(about(args.topic), end="", flush=True)
    return 0


def about(topic: Sequence[str]) -> str:
    """What there is to say. Raises UsageError for a topic that is none."""
    from nestobs.cli.main import _parser, overview

    if not topic:
        return overview(lines=None)
    if (told := TOPICS.get(topic[0])) is not None:
        return told()
    parser: argparse.ArgumentParser = _parser()
    for place, word in enumerate(topic):
        known = below(parser)
        if word not in known:
            names = [*known, *([] if place else TOPICS)]
            near = meant(word, names)
            raise UsageError(f"there is no help on {' '.join(topic)[:80]!r}{near}: nestobs --help lists the commands")
        parser = known[word]
        known[word].complete()
    assert isinstance(parser, CommandParser)
    return whole(parser)


def below(parser: argparse.ArgumentParser) -> dict[str, CommandParser]:
    """The commands that may follow, by their words."""
    found = [each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}
