"""The command that opens a notebook to work in: a copy of it, on any store, in JupyterLab."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from nestobs.cli.arguments import command, flag, notebook_name, option, pathname, reads, store_folder
from nestobs.cli.terminal import harmless, remark

if TYPE_CHECKING:
    from pathlib import Path


def _add_notebook(parser: argparse.ArgumentParser) -> None:
    text = "incident, vantages, joins, propagation, tuning, daily_report, live or demo"
    parser.add_argument("name", metavar="NAME", type=notebook_name, help=text)
    text = "folder of observations (default: nestobs.toml's or ./nestobs-data where it is there, else example)"
    option(parser, "--store", "DIR", str, text)
    option(parser, "--config", "FILE", pathname, "configuration (default ./nestobs.toml)")
    reads(parser, "NESTOBS_CONFIG")
    option(
        parser,
        "--to",
        "DIR",
        pathname,
        "folder of the copy (default: this one); nothing there is overwritten",
        default=".",
    )
    option(parser, "--parameter", "NAME=VALUE", str, "of the notebook, may be repeated", action="append", default=[])
    flag(parser, "--no-browser", "start JupyterLab without opening a browser: it prints its address")


@command(
    _add_notebook,
    examples=("notebook incident", "notebook daily_report --store nestobs-data --no-browser"),
    exits="0 ended, 5 store",
)
def notebook(args: argparse.Namespace) -> int:
    """Open a copy of a notebook on a store, in JupyterLab."""
    from nestobs.reports.publishing.execute import notebook
    from nestobs.reports.publishing.parameters import read
    from nestobs.reports.workbench.working_copy import working_copy

    given = read(notebook(args.name), args.parameter)
    path, written = working_copy(args.name, args.to, {"store": _store(args)} | given)
    print(
        harmless(f"{path} is there{'' if written else ' already, and stays as it is'}; JupyterLab opens it"), flush=True
    )
    return _become(_lab(path, browser=not args.no_browser))


def _store(args: argparse.Namespace) -> str:
    """The store as the notebook names it: it runs in its own folder. Without --store the example stands in for one
    that is not there."""
    from nestobs.store.example import EXAMPLE, SHIPPED
    from nestobs.store.follow import opened
    from nestobs.store.reader import Store

    named = store_folder(args)
    if not args.store and opened(named) is None:
        remark(f"there is no store at {named}, so the notebook is on the example")
        return EXAMPLE
    found = Store.open(named, create=False).location
    return EXAMPLE if found == str(SHIPPED.resolve()) else found


def _lab(path: Path, *, browser: bool) -> list[str]:
    """The command that opens the notebook in JupyterLab; the addresses that this prints lead to it, too."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    flags = [*(["--allow-root"] if root else []), *([] if browser else ["--no-browser"])]
    place = [f"--ServerApp.root_dir={path.parent.absolute()}", f"--LabApp.default_url=/lab/tree/{path.name}"]
    return [sys.executable, "-m", "jupyterlab", *flags, *place]


def _become(words: list[str]) -> int:
    """Let JupyterLab have this process: Ctrl-C and the terminal's end are its own."""
    os.execv(words[0], words)
