"""Real shells at a terminal: what they make of a line when Tab is pressed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

SHELLS = {"bash": ("--norc", "--noprofile", "-i"), "zsh": ("-f", "-i")}
SET_UP = {
    "bash": "bind 'set show-all-if-ambiguous off'; source <(nestobs completion bash)",
    "zsh": "autoload -Uz compinit && compinit -u -d $ZDUMP; source <(nestobs completion zsh)",
}
PATIENCE_S = 60.0


class Shell:
    """A shell at a terminal of its own, with completion of nestobs; to be ended by `end`."""

    def __init__(self, kind: str, folder: Path) -> None:
        found = shutil.which(kind)
        if found is None:
            if os.environ.get(f"NESTOBS_REQUIRE_{kind.upper()}") == "1":
                pytest.fail(f"NESTOBS_REQUIRE_{kind.upper()} is 1 and there is no {kind}: run `make {kind}`")
            pytest.skip(f"there is no {kind} here: `make zsh` installs it")
        here = str(Path(sys.executable).parent)
        known = {"HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8", "ZDUMP": str(folder / "zcompdump")}
        known |= {"PATH": os.pathsep.join([here, os.environ["PATH"]]), "COLUMNS": "500", "PS1": "% "}
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            os.execve(found, [kind, *SHELLS[kind]], known)
        self.enter(f"{SET_UP[kind]}; cd {folder}")

    def completed(self, line: str) -> str:
        """The line after Tab is pressed at its end. Its last word has one completion, or none."""
        self._send(f"{line}\t")
        return self._answer('\x01echo "<<" \'\x05\' ">>"\n').strip()

    def enter(self, line: str) -> None:
        """Run a line, to its end."""
        self._send(f"{line}\n")
        self._answer('echo "<<" ready ">>"\n')

    def _send(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _answer(self, text: str) -> str:
        """What the shell prints between << and >> after this is sent."""
        self._send(text)
        said, end = "", time.monotonic() + PATIENCE_S
        while not (found := re.findall(r"^<< (.*) >>\s*$", said, re.M)):
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"the shell says nothing more: {said!r}"
            said += os.read(self._terminal, 65_536).decode("utf-8", "replace").replace("\r", "\n")
        return str(found[-1])

    def end(self) -> None:
        """Kill it."""
        os.kill(self._pid, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self._pid, 0)
