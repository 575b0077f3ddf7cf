"""The command line: words in, one call, an exit code out. Imports happen inside commands, so that --help is quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from nestobs import __version__
from nestobs.cli import data, exports, live, notebooks, observe, reports, tuning
from nestobs.cli.arguments import add_commands
from nestobs.cli.terminal import HungUp, hung_up, mute, note
from nestobs.errors import NestobsError

EXIT_CODES: Final = """\
exit codes:
  0  done; for `ready`: ready
  1  the answer is no: not joined, nobody got into a canary's nests, something left, a check or report failed, too
     little data; for `ready`: not yet, or a standing fault; for `diagnose` and `doctor`: a standing fault
  2  the words are wrong: flags, nestobs.toml, an address, a key; for `ready` also: gone or closed
  3  a target that must answer does not; for `ready`, `diagnose` and `doctor`: cannot tell; for `report --fail-on
     breached`: it is
  4  the request budget does not allow it; for `report`: there is too little data
  5  the store cannot be used, or the disk is full (what was acknowledged is safe)
  75  another process is making that report: try again later
  129  the terminal was closed (SIGHUP); cleaned up as for 130
  130  interrupted (Ctrl-C, SIGTERM); what was made has been cleaned up, or stays in the ledger for the next start
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. An operator's mistake is one sentence on stderr, never a traceback."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
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
    finally:
        _let_go()


def _let_go() -> None:
    """So that the interpreter's own last flush finds no pipe that is broken, and no terminal that is gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            mute(stream)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nestobs",
        description="Observe how audio rooms (nests) become visible on relays, API and LiveKit; join them for real.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nestobs {__version__}")
    looking = (data.timeline, data.diagnose, live.live, data.export, exports.metrics, data.IMPORT, data.STORE)
    add_commands(parser, (*observe.COMMANDS, *looking, *tuning.COMMANDS, notebooks.notebook, reports.COMMAND))
    return parser
