"""Parts of the site that are made of the code, as Markdown: the commands, the columns, the exit codes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nestobs
from nestobs.cli.main import _parser
from nestobs.observation import COLUMNS
from nestobs.timeline import SCHEMA
from nestobs.timeline.joins import SCHEMA as JOINS

COLUMNS_WIDE = 70
"""Of a usage line: what the page has room for."""

README = Path(nestobs.__file__).parents[1] / "README.md"


def commands() -> str:
    """Each command as its own parser tells it, those below it after it."""
    return "\n".join(_told(name, parser) for name, parser in parsers())


def parsers(parser: argparse.ArgumentParser | None = None) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its parser, in the order of the help."""
    for action in (parser or _parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                each.complete()
                yield each.prog, each
                yield from parsers(each)


def _told(name: str, parser: argparse.ArgumentParser) -> str:
    level = "#" * len(name.split())
    formatter = argparse.HelpFormatter(parser.prog, width=COLUMNS_WIDE)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    usage = formatter.format_help().rstrip()
    lines = [f"{level} `{name}`", "", _words(parser.description), "", "```text", usage, "```", ""]
    for group in parser._action_groups:
        for action in group._group_actions:
            told_once = {"--verbose", "--quiet"} & set(action.option_strings)
            if told_once or isinstance(action, _UNTOLD) or action.help == argparse.SUPPRESS:
                continue
            said = formatter._format_action_invocation(action)
            lines += [f"`{said}`", f": {_words(formatter._expand_help(action) if action.help else '')}", ""]
    command = parser.command  # type: ignore[attr-defined]  # every parser below the first is a CommandParser
    if command.examples:
        lines += ["For example:", "", "```sh", *(f"nestobs {line}" for line in command.examples), "```", ""]
    if command.exits:
        lines += [f"Exit codes: {_words(command.exits)}.", ""]
    return "\n".join(lines)


_UNTOLD = (argparse._HelpAction, argparse._SubParsersAction)


def _words(text: str | None) -> str:
    """A sentence of the help as Markdown, in which nothing is markup but code."""
    return re.sub(r"([\\*_<>\[\]|#$])", r"\\\1", " ".join((text or "").split()))


def exit_codes() -> str:
    """What every command ends with: the README's table."""
    rows = re.findall(r"^\| \d+ \| .* \|$", README.read_text("utf-8"), re.M)
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows])


def observation_columns() -> str:
    """Of raw rows."""
    return _table(COLUMNS)


def timeline_columns() -> str:
    """Of `nestobs.timelines`."""
    return _table(SCHEMA)


def join_columns() -> str:
    """Of joins."""
    return _table(JOINS)


def _table(columns: Iterable[Any]) -> str:
    lines = ["| column | type | unit | what it is |", "|---|---|---|---|"]
    for each in columns:
        kind = f"{each.type}{' or null' if each.nullable else ''}"
        lines.append(f"| `{each.name}` | {kind} | {each.unit or ''} | {_words(each.meaning)} |")
    return "\n".join(lines)
