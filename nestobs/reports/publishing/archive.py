"""Where scheduled reports lie, published whole:

    OUT/index.html, feed.xml           an overview of all of them (index.py)
    OUT/NAME/WINDOW/                   report.html, report.ipynb, manifest.json; the good one, else the failed one
    OUT/NAME/WINDOW.failed/            the same three of a later run that failed, beside a good one
    OUT/.versions/NAME@WINDOW@TOKEN/   what those two are: each is a relative symbolic link to a version
    OUT/.locks/                        a file for each report being made

A version is written to the end and synced to the disk before anything points to it, and never changed afterwards. To
publish is to rename a new link over the old one, which POSIX does in one step: whoever opens OUT/NAME/WINDOW/… is led
to the old version or to the new one, whole, whenever the publishing process dies. There is no instant without a report,
as between the two renames that real folders would need. A version that nothing points to was being made when its
process died, or has been replaced; it is removed by the next start, or at the end of the run that replaced it, once the
lock of its report and window is free. Links are relative and the versions lie in the same folder, so the folder can be
served, opened as file:// or copied as it is (`rsync -a`); `rsync -aL --exclude '.*'` makes plain folders of it.

The lock is flock on a file: the kernel takes it from a process that dies, in whatever way, so none is ever stale.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from nestobs.errors import StoreError, StoreFullError, UsageError
from nestobs.observation.window import Window
from nestobs.reports.publishing.execute import socket_folder
from nestobs.store.files import sync

PAGE, NOTEBOOK, MANIFEST = "report.html", "report.ipynb", "manifest.json"
FAILED: Final = ".failed"
SCHEMA: Final = 1
"""Of manifest.json."""

_VERSIONS, _LOCKS = ".versions", ".locks"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VERSION: Final = re.compile(rf"({_NAME.pattern})@([0-9TZ-]+)@([0-9a-f]{{12}})(\.link)?")
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})
_PATIENCE_S: Final = 1.0
"""A sweep holds the locks of what it looks at for an instant: so long a run waits before it says that another works."""

_MOST_BYTES: Final = 10_000_000
"""A larger manifest.json is none of ours."""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """What is published for a window of a report. failed: the manifest of a later, failed run beside a good report.

    manifest is empty where the file is damaged.
    """

    name: str
    window: Window
    manifest: Manifest
    failed: Manifest | None = None

    @property
    def verdict(self) -> str:
        """Of the report that stands at the window's own place; "unreadable" for a damaged one."""
        return str(self.manifest.get("verdict", "unreadable"))

    @property
    def made(self) -> bool:
        """Whether a report was made: not failed, whatever it says."""
        return self.verdict not in ("failed", "unreadable")

    @property
    def latest(self) -> Manifest:
        """Of what was made last: the failed run beside a good report, else the report itself."""
        return self.manifest if self.failed is None else self.failed

    @property
    def final(self) -> bool:
        """Whether it was made when its window was over, so that it need not be made again."""
        return self.made and _made_at(self.manifest) >= self.window.end


@dataclass(frozen=True, slots=True)
class Archive:
    """A folder of reports. Only `open` writes to it at once: it clears what a process that died has left."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> Archive:
        """The archive in that folder, made if need be and swept. Raises StoreError when it cannot be written."""
        archive = cls(root)
        with writing(root):
            for folder in (_VERSIONS, _LOCKS):
                (root / folder).mkdir(parents=True, exist_ok=True)
            archive.sweep()
        return archive

    def place(self, name: str, window: Window, *, failed: bool = False) -> Path:
        """The folder of a report; `failed`: of the failed run beside a good one."""
        return self.root / name / f"{window.name}{FAILED if failed else ''}"

    # reading

    def entry(self, name: str, window: Window) -> Entry | None:
        """What is published for that window, or None."""
        found = _manifest(self.place(name, window))
        beside = _manifest(self.place(name, window, failed=True))
        if found is None:
            return None if beside is None else Entry(name, window, beside)
        later = beside if beside is not None and _made_at(beside) >= _made_at(found) else None
        return Entry(name, window, found, later)

    def entries(self) -> list[Entry]:
        """All that is published, by name and window. What else lies in the folder is passed over."""
        found = []
        for report in sorted(self.root.iterdir() if self.root.is_dir() else []):
            if _NAME.fullmatch(report.name) and report.is_dir():
                windows = {window for path in report.iterdir() if (window := _window(path.name)) is not None}
                found += [entry for window in sorted(windows) if (entry := self.entry(report.name, window))]
        return found

    def size(self, name: str, window: Window, *, only_failed: bool = False) -> int:
        """Bytes of what is published for that window, or of the failed run beside a good one."""
        places = self._places(name, window)[only_failed:]
        return sum(path.stat().st_size for place in places for path in place.glob("*"))

    # writing

    @contextmanager
    def holding(self, name: str, window: Window) -> Iterator[bool]:
        """Whether this call holds the lock of that report and window while the block runs; False: another one does."""
        with _locked(self._lock(f"{name}@{window.name}"), patience_s=_PATIENCE_S) as mine:
            yield mine

    @contextmanager
    def indexing(self) -> Iterator[None]:
        """Wait for the lock of what is about all reports: index and feed."""
        with _locked(self._lock("index"), patience_s=math.inf):
            yield

    @contextmanager
    def draft(self, name: str, window: Window) -> Iterator[Path]:
        """A new folder for a version; hold the lock. Leaving removes it, unless it was published."""
        folder = self.root / _VERSIONS / f"{name}@{window.name}@{secrets.token_hex(6)}"
        folder.mkdir()
        try:
            yield folder
        finally:
            if not self._published(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self, draft: Path, *, failed: bool) -> Path:
        """Put a finished draft in its place, in one step; the folder it is at now.

        A failed report stands at the window's own place only while no good one does, else beside it.
        """
        name, window, _ = _told(draft.name)
        for path in [*draft.iterdir(), draft]:
            sync(path)
        entry = self.entry(name, window)
        place = self.place(name, window, failed=failed and entry is not None and entry.made)
        place.parent.mkdir(exist_ok=True)
        link = draft.with_name(f"{draft.name}.link")
        link.symlink_to(os.path.relpath(draft, place.parent))
        link.replace(place)
        sync(place.parent)
        if not failed:
            self.place(name, window, failed=True).unlink(missing_ok=True)
        return place

    def remove(self, name: str, window: Window, *, only_failed: bool = False) -> None:
        """Remove what is published for that window, or the failed run beside a good one; the caller holds its lock."""
        for place in self._places(name, window)[only_failed:]:
            if place.is_symlink():
                place.unlink()  # from here on nobody finds it
            elif place.is_dir():
                shutil.rmtree(place)
        self.tidy(name, window)
        with suppress(OSError):
            (self.root / name).rmdir()  # where it is empty

    def sweep(self) -> None:
        """Remove what nothing points to, except what is being made now."""
        versions = [path for path in (self.root / _VERSIONS).iterdir() if _is_version(path.name)]
        for name, window in sorted({_told(path.name)[:2] for path in versions if not self._published(path)}):
            with _locked(self._lock(f"{name}@{window.name}")) as mine:
                if mine:
                    self.tidy(name, window)
        for path in (self.root / _LOCKS).iterdir():
            with _locked(path):  # letting go of it removes the file
                pass
        with self.indexing():
            for path in self.root.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def tidy(self, name: str, window: Window) -> None:
        """Remove the versions of that window that nothing points to; the caller holds its lock."""
        for path in (self.root / _VERSIONS).glob(f"{name}@{window.name}@*"):
            if not _is_version(path.name) or self._published(path):
                continue
            shutil.rmtree(socket_folder() / private_name(path), ignore_errors=True)
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path, ignore_errors=True)

    def _published(self, version: Path) -> bool:
        name, window, _ = _told(version.name)
        places = self._places(name, window)
        return any(place.is_symlink() and place.readlink().name == version.name for place in places)

    def _places(self, name: str, window: Window) -> tuple[Path, Path]:
        return self.place(name, window), self.place(name, window, failed=True)

    def _lock(self, name: str) -> Path:
        return self.root / _LOCKS / name


def report_name(notebook: Path) -> str:
    """The report's name: the notebook's, which must do as a part of a path. Raises UsageError."""
    if not _NAME.fullmatch(notebook.stem):
        raise UsageError(
            f"the notebook's name {notebook.stem[:80]!r} cannot be a report's: use letters, digits, - and _, at most 64"
        )
    return notebook.stem


def private_name(draft: Path) -> str:
    """The name of the folder for temporary files that belongs to a version being made: sweeping finds it by that."""
    return f"nestobs-{_told(draft.name)[2]}"


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """What the system says of writing in the archive, as one sentence with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFullError(
                f"no room to write in {root} ({error.strerror}): the reports there are whole; free space, then"
                " `nestobs report catch-up`"
            ) from error
        raise StoreError(f"{root} cannot be written ({error.strerror}): give --out a folder you may write") from error


def _told(version: str) -> tuple[str, Window, str]:
    """Name, window and token of a version."""
    name, window, token = version.removesuffix(".link").split("@")
    return name, Window.parse(window), token


def _is_version(name: str) -> bool:
    """Whether we made what bears that name."""
    parts = _VERSION.fullmatch(name)
    return parts is not None and _window(parts[2]) is not None


def _window(name: str) -> Window | None:
    """The window of a published folder's name; None for another's."""
    text = name.removesuffix(FAILED)
    try:
        found = Window.parse(text)
    except UsageError:
        return None
    return found if found.name == text else None


def _manifest(place: Path) -> Manifest | None:
    """What it says; {} for a damaged one, None where there is no report."""
    if not place.is_dir():
        return None
    try:
        with (place / MANIFEST).open("rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else {}


def _made_at(manifest: Manifest) -> int:
    """ns UTC; 0 for a damaged one."""
    try:
        made_at = datetime.fromisoformat(str(manifest.get("made_at")))
        return round(made_at.timestamp() * 1e6) * 1_000
    except (ValueError, OverflowError):
        return 0


@contextmanager
def _locked(path: Path, *, patience_s: float = 0.0) -> Iterator[bool]:
    handle, waited_s, pause = _lock(path), 0.0, threading.Event()
    while handle is None and waited_s < patience_s:
        pause.wait(0.05)
        handle, waited_s = _lock(path), waited_s + 0.05
    try:
        yield handle is not None
    finally:
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)


def _lock(path: Path) -> int | None:
    """A handle that holds the lock, None when another does. The holder removes the file, so the one locked must be the
    one that lies there still."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
