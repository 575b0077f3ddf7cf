"""Where the work of a command is done: `--engine`, and the processes that share the work of tuning."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nestobs.cli.arguments import option

if TYPE_CHECKING:
    from concurrent.futures import Executor

MANY_ROWS = 1_000
"""From so many nests on, resamples are fitted by as many processes as there are processors."""


def with_engine(parser: argparse.ArgumentParser) -> None:
    """--engine."""
    text = "here (default), processes[:N] or dask://HOST:PORT: who works on the parts of a large store"
    option(parser, "--engine", "NAME", _engine, text)


def _engine(text: str) -> str:
    from nestobs.errors import UsageError
    from nestobs.store.partitions.engine import check

    try:
        return check(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@contextlib.contextmanager
def processes(rows: int, engine: str | None = None) -> Iterator[Executor | None]:
    """The engine that is named; of none a pool where it pays."""
    from nestobs.store.partitions import opened

    many = "processes" if rows >= 100 * MANY_ROWS else None
    with opened(engine or many) as executor:
        yield executor
