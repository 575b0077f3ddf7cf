"""Files: written whole or not at all, and read within bounds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 10_000_000


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, that no `*.parquet` or the like matches; leaving syncs it and puts it in place.

    An error removes it and leaves `path` as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def at_home(path: Path) -> Path:
    """The path, in a home folder where it begins with ~ or ~NAME; as it is, as shells have it, where nobody is of that
    name, or nobody can be."""
    try:
        return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's raises RuntimeError for nobody's home
    except ValueError:  # NUL in the name
        return path


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def text_in(path: Path | str, most: int = MOST_BYTES) -> str:
    """The text of a file in UTF-8, without the mark some editors begin it with. No more is read than `most` bytes.

    Raises OSError where it cannot be read; ValueError where it is longer or no such text, or where no file can have
    that name.
    """
    with Path(path).open("rb") as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise ValueError(f"it is longer than {most} bytes")
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8") from None


def write(path: Path, text: str) -> None:
    """The text as a file in UTF-8, whole or not at all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
