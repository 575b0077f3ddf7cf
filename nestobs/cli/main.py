"""The command line: words in, one call, an exit code out.

`nestobs --help` takes about as long as a bare interpreter: this module knows the commands by name, and imports argparse
and the one that is asked for when it is. So there is no `typing` here either.
"""

from __future__ import annotations

import sys

from nestobs import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

COMMANDS = (
    ("demo", "observe.demo", "Run the lab, observe it from two vantages, and write a report."),
    ("lab", "observe.lab", "Run relays, a Nests API and LiveKit on loopback until interrupted."),
    ("doctor", "observe.doctor", "Check this machine, the configuration and a target, step by step."),
    ("canary", "observe.canary", "Make nests, watch every layer from the start, join them, clean up."),
    ("watch", "observe.watch", "Observe nests of others, gently, or a fleet's own, until stopped."),
    ("join", "observe.join", "Join a nest for real, with fallback and retry, and say how it went."),
    ("ready", "observe.ready", "Say by the exit code, for scripts, whether a nest can be joined now."),
    ("run", "observe.run", "Observe by the [run] table of nestobs.toml until stopped."),
    ("timeline", "data.timeline", "Show in which interval each layer showed each nest."),
    ("diagnose", "data.diagnose", "Say why nests could not be joined: the causes, with their evidence."),
    ("live", "live.live", "Show how far each nest is, as another process observes them."),
    ("export", "data.export", "Write observations (or timelines) to a file."),
    ("import", "data.import_", "Make observations of logs, transcripts, consoles and HARs."),
    ("store", "data.STORE", "Look after a store."),
    ("ship", "data.ship", "Put sealed days into a folder or bucket, whole files, each once."),
    ("tune", "tuning.tune", "A defended threshold and polling policy from what was seen."),
    ("replay", "tuning.replay", "What policies would have done on the nests observed."),
    ("herd", "tuning.herd", "Millions of joiners at an API that counts: peaks, lost joins."),
    ("prove", "tuning.prove", "A policy and today's rule in a fresh lab, predicted beside realised."),
    ("policy", "tuning.POLICY", "Write a policy for web clients."),
    ("notebook", "notebooks.notebook", "Open a copy of a notebook on a store, in JupyterLab."),
    ("report", "reports.REPORT", "Make reports, each window once, published whole; or of a nest, now."),
    ("metrics", "exports.metrics", "Print metrics for Prometheus, serve them, or keep them in a file."),
    ("traces", "exports.traces", "Send a trace of each nest to an OpenTelemetry receiver."),
    ("completion", "completion.completion", "Print what lets bash or zsh complete commands, flags and names."),
    ("help", "help.help_", "All about a command, the exit codes or the environment."),
)
"""Each command: its word, where in `cli` it is at home, and what it does, as its docstring says."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. An operator's mistake is one sentence on stderr, never a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("-h", "--help"):
        return _say(overview())
    if words[:2] == ["completion", "names"]:  # as a shell asks, while somebody waits
        from nestobs.cli.names import offered

        return _say(offered(words[2:]))
    return _run(words)


def _run(words: list[str]) -> int:
    from nestobs.cli.terminal import detail, speak

    args = _parser().parse_args(words)
    speak(verbose=args.verbose, quiet=args.quiet)
    try:
        code = _ended(args)
        detail(f"ended with exit code {code}")
        return code
    finally:
        _let_go()


def _ended(args: argparse.Namespace) -> int:
    """The exit code of the command that was asked for, once it has come to its end."""
    from nestobs.cli.terminal import HungUp, ended_as_by_ctrl_c, hung_up, note
    from nestobs.errors import NestobsError

    try:
        _check_system(sys.platform)
        with ended_as_by_ctrl_c():
            code: int = args.command(args)
            sys.stdout.flush()
        return code
    except NestobsError as error:
        note(str(error))
        return error.exit_code
    except KeyboardInterrupt as ended:
        return 129 if isinstance(ended, HungUp) else 130
    except BrokenPipeError:  # whoever read us has gone
        return 1
    except OSError:
        if not hung_up(sys.stdout):
            raise
        return 129


def _check_system(platform: str) -> None:
    """Raises UsageError where the locks and signals that every command relies on are not to be had."""
    from nestobs.errors import UsageError

    if platform == "win32":
        raise UsageError("nestobs runs on Linux and macOS: on Windows, install and run it in WSL (`wsl --install`)")


def _let_go() -> None:
    """So that the interpreter's own last flush finds no pipe that is broken, and no terminal that is gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            from nestobs.cli.terminal import mute

            mute(stream)


def _say(text: str) -> int:
    """Print it; 1 where whoever reads us has gone."""
    try:
        print(text, end="", flush=True)
        return 0
    except OSError:
        return 1
    finally:
        _let_go()


def overview(lines: int | None = 24) -> str:
    """What `nestobs --help` says: each command in a line, as many as fit; the others are named. None: all in lines."""
    told = [f"  {name:<10} {text.rstrip('.')}" for name, _, text in COMMANDS]
    room = len(COMMANDS) if lines is None or lines >= len(COMMANDS) + 3 else lines - 4
    also = [f"  also {', '.join(name for name, _, _ in COMMANDS[room:])}: nestobs help"] if told[room:] else []
    return "\n".join([*_HEAD, *told[:room], *also, _REST, ""])


_HEAD = (
    "usage: nestobs [--version] [-v | -q] COMMAND ...",
    "Observe how audio rooms (nests) become visible, join them for real, say why not.",
)
_REST = "the rest: nestobs COMMAND --help, nestobs help COMMAND|exit-codes|environment"


def _parser() -> argparse.ArgumentParser:
    """Of all commands; the arguments of one are added when it is the one that is chosen."""
    from nestobs.cli.arguments import Command, CommandParser, add_commands, with_voice

    made = CommandParser(prog="nestobs")
    made.add_argument("--version", action="version", version=f"nestobs {__version__}")
    with_voice(made, default=False)
    add_commands(made, [Command(name, text, home=home) for name, home, text in COMMANDS])
    return made
