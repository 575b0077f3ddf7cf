"""Completion for shells: a script that knows all commands and flags, and asks `names` for what is only known here.

    nestobs completion bash >> ~/.bashrc       zsh: source <(nestobs completion zsh), after compinit

The script is made of the parsers, so that a shell need not start Python for a command or a flag. What a flag or an
argument takes is its `kind`: words to choose from, or :files, :dirs, :targets, :scenarios, :notebooks, :policies.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from typing import Final

from nestobs.cli.arguments import (
    command,
    notebook_name,
    pathname,
    policy_name,
    scenario_name,
    target_name,
)
from nestobs.cli.help import TOPICS, below
from nestobs.cli.main import COMMANDS, _parser

_BY_TYPE: Final = {
    notebook_name: ":notebooks",
    pathname: ":files",
    policy_name: ":policies",
    scenario_name: ":scenarios",
    target_name: ":targets",
}

_SHARED: Final = """\
_nestobs_names() {  # nestobs as it was typed, a kind, the words before the one at hand: the names that there are
    local typed="$1" kind="$2" config="${NESTOBS_CONFIG:-nestobs.toml}"
    if [ ! -e "$config" ]; then config="${XDG_CONFIG_HOME:-$HOME/.config}/nestobs/nestobs.toml"; fi
    shift 2
    "$typed" completion names "$kind" --config "$config" "$@" 2>/dev/null
}
_nestobs_offer() {  # the words before the one at hand; then that one: a line for each that may stand there
    local at="" flag="" word here="" count=$#
    for word in "$@"; do
        count=$((count - 1))
        if [ $count -eq 0 ]; then here="$word"; continue; fi
        if [ "$word" = "=" ]; then continue; fi
        if [ -n "$flag" ]; then flag=""; continue; fi
        case "$word" in
            --*=*) ;;
            -*) if [ -n "$(_nestobs_value "$at" "$word")" ]; then flag="$word"; fi ;;
            *) if _nestobs_below "$at" | grep -qxF -e "$word"; then at="${at:+$at }$word"; fi ;;
        esac
    done
    if [ -n "$flag" ]; then _nestobs_value "$at" "$flag"; return; fi
    case "$here" in
        --*=*) _nestobs_value "$at" "${here%%=*}" ;;
        -*) _nestobs_flags "$at" ;;
        *) _nestobs_below "$at"; _nestobs_value "$at" "" ;;
    esac
}
"""

_BASH: Final = """\
_nestobs() {
    local IFS=$'\\n' here="${COMP_WORDS[COMP_CWORD]}" line
    local before=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
    if [ "$here" = "=" ]; then here=""; fi
    COMPREPLY=()
    while read -r line; do
        case "$line" in
            :files) compopt -o filenames; COMPREPLY+=($(compgen -f -- "$here")) ;;
            :dirs) compopt -o filenames; COMPREPLY+=($(compgen -d -- "$here")) ;;
            :none) ;;
            :*) while read -r line; do
                    if [[ "$line" == "$here"* ]]; then COMPREPLY+=("$(printf '%q' "$line")"); fi
                done < <(_nestobs_names "$1" "${line#:}" "${before[@]}") ;;
            "$here"*) COMPREPLY+=("$line") ;;
        esac
    done < <(_nestobs_offer "${before[@]}" "$here")
}
complete -F _nestobs nestobs
"""

_ZSH: Final = """\
_nestobs() {
    local here="$PREFIX" line
    local -a before=("${(@)words[2,CURRENT-1]}") named
    local -a lines=("${(@f)$(_nestobs_offer "${before[@]}" "$here")}")
    case "$here" in --*=*) compset -P '*=' ;; esac
    for line in "${lines[@]}"; do
        case "$line" in
            :files) _files ;;
            :dirs) _files -/ ;;
            :none|"") ;;
            :*) named=("${(@f)$(_nestobs_names "${words[1]}" "${line#:}" "${before[@]}")}")
                compadd -a named ;;
            *) compadd -- "$line" ;;
        esac
    done
}
compdef _nestobs nestobs
"""


def _add_shell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh"), help="bash or zsh")


@command(
    _add_shell,
    examples=("completion bash > ~/.local/share/bash-completion/completions/nestobs", "completion zsh > _nestobs"),
    exits="0 done",
)
def completion(args: argparse.Namespace) -> int:
    """Print what lets bash or zsh complete commands, flags and names."""
    print(script(args.shell), end="", flush=True)
    return 0


def script(shell: str) -> str:
    """What bash or zsh is to read: by itself, or from a folder of completions."""
    commands = dict(_commands(_parser(), ""))
    flags = {at: _flags(parser) for at, parser in commands.items()}
    found = {at: list(below(parser)) for at, parser in commands.items()}
    kinds = {(at, flag): kind for at, parser in commands.items() for flag, kind in _kinds(parser)}
    tables = [
        _table("below", "$1", {at: words for at, words in found.items() if words}),
        _table("flags", "$1", flags),
        _table("value", "$1 $2", {f"{at} {flag}": kind.split() for (at, flag), kind in kinds.items()}),
    ]
    head = f"# completion of nestobs for {shell}: nestobs completion {shell}\n"
    return "".join([f"#compdef nestobs\n{head}" if shell == "zsh" else head, *tables, _SHARED, _LAST[shell]])


_LAST: Final = {"bash": _BASH, "zsh": _ZSH}


def _commands(parser: argparse.ArgumentParser, at: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield at, parser
    for name, found in below(parser).items():
        found.complete()
        yield from _commands(found, f"{at} {name}".strip())


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]


def _kinds(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """What follows each flag that takes a value, and, under "", what stands where no flag is."""
    loose = ""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or (action.nargs in (0, "?") and action.option_strings):
            continue
        kind = kind_of(action)
        for flag in action.option_strings:
            yield flag, kind
        if not action.option_strings or action.nargs == "+":  # of which another may follow
            loose = loose or kind
    if loose:
        yield "", loose


def kind_of(action: argparse.Action) -> str:
    """What an argument takes, see the module; ":none" where nothing can be offered."""
    if action.choices is not None:
        return " ".join(map(str, action.choices))
    words = [_BY_TYPE[action.type]] if action.type in _BY_TYPE else []
    metavar = str(action.metavar)
    if "FILE" in metavar and ":files" not in words:
        words.append(":files")
    if metavar == "DIR":
        words = [":dirs"]
    if metavar == "TOPIC":
        words = [*(name for name, _, _ in COMMANDS), *TOPICS]
    return " ".join(words) or ":none"


def _table(name: str, key: str, rows: dict[str, list[str]]) -> str:
    """A function of the shell that prints the lines of a row."""
    cases = [f"        {shlex.quote(at)}) printf '%s\\n' {shlex.join(words)} ;;" for at, words in rows.items()]
    return "\n".join([f"_nestobs_{name}() {{", f'    case "{key}" in', *cases, "    esac", "}", ""])
