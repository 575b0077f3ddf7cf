"""Where there are neither fcntl nor POSIX signals, each command says in one sentence where it runs."""

from __future__ import annotations

import pytest

from nestobs.cli import main as cli
from worlds.command_line import here, is_one_sentence


@pytest.mark.parametrize("words", [("timeline",), ("diagnose", "--store", "example"), ("store", "info")], ids=" ".join)
def test_on_windows_a_command_names_wsl(words, capsys, monkeypatch):
    monkeypatch.setattr(cli.sys, "platform", "win32")
    is_one_sentence(here(capsys, *words), 2, "Windows", "WSL")


@pytest.mark.parametrize("platform", ["linux", "darwin", "freebsd14"])
def test_elsewhere_it_runs(platform):
    cli._check_system(platform)
