"""One request budget for all processes of this machine.

A server counts by address, and all that runs here has one. So each limiter's state is a file in the state folder, read
and written under a lock for each request: a shell loop of `nestobs ready`, a canary and a watch spend one budget. The
file holds an address, counts and instants, nothing secret. It is written by one call, and the lock is the operating
system's: a process that is killed leaves both as they should be. An unreadable file counts for nothing.

Where the folder cannot be had, or the lock not within `PATIENCE_S`, a process goes by its own count, which `own` says.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from nestobs.join.budget import DEFAULT_REQUESTS, DEFAULT_WINDOW_S, Budget, Limiter, host_and_port
from nestobs.nostr import json_object
from nestobs.observation.duration import SECOND_NS
from nestobs.sources.clock import Clock

PATIENCE_S: Final = 0.25
"""Others hold the lock for a millisecond or so; the event loop stands still while we wait."""

KEPT_S: Final = 2 * 86_400.0
"""A file that nobody wrote for so long is removed."""

_FILE_BYTES: Final = 1_000_000
_NO_STATE: Final = (ValueError, TypeError, KeyError, IndexError, OverflowError)


class SharedLimiter(Limiter):
    """A limiter whose state is the file `path`. Raises nothing for a file or folder that cannot be had."""

    def __init__(self, path: Path, address: str, allowed: int, window_s: float) -> None:
        super().__init__(allowed, window_s)
        self.own = False
        self._path, self._address = path, address
        self._lock = FileLock(path.with_name("lock"), mode=0o600)
        self._held = False
        self._known = b""

    def left(self, now: int, *, bursts: bool = True) -> int:
        """As Limiter's, for all of this machine."""
        with self._shared(now):
            return super().left(now, bursts=bursts)

    def opens_at(self, now: int, *, urgent: bool = False, wanted: int = 1) -> int:
        """As Limiter's, for all of this machine."""
        with self._shared(now):
            return super().opens_at(now, urgent=urgent, wanted=wanted)

    def take(self, now: int, *, urgent: bool = False) -> bool:
        """As Limiter's, for all of this machine."""
        with self._shared(now):
            return super().take(now, urgent=urgent)

    def learn(self, headers: Mapping[str, str], status: int | None, now: int) -> None:
        """As Limiter's, for all of this machine."""
        with self._shared(now):
            super().learn(headers, status, now)

    @contextmanager
    def _shared(self, now: int) -> Iterator[None]:
        """The state as the file has it, and back into it what has become of it."""
        if self._held:
            yield
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock.acquire(timeout=PATIENCE_S, poll_interval=0.002)
        except (OSError, Timeout):
            self.own = True
            yield
            return
        self._held, self.own = True, False
        try:
            self._read(now)
            before = self.state()
            yield
            if (state := self.state()) != before:
                self._write(json.dumps({"address": self._address, **state}).encode())
        finally:
            self._held = False
            self._lock.release()

    def _read(self, now: int) -> None:
        with suppress(OSError, *_NO_STATE):
            content = self._path.read_bytes() if self._path.stat().st_size < _FILE_BYTES else b""
            state = json_object(content) if content != self._known else None
            if state is not None and state.pop("address", None) == self._address:
                self.restore(state, now)
                self._known = content

    def _write(self, content: bytes) -> None:
        """In place and at once: a file that takes another's place costs milliseconds, since the disk is waited for."""
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                if os.fstat(handle).st_size >= _FILE_BYTES:
                    os.ftruncate(handle, 0)
                self._known = content.ljust(os.fstat(handle).st_size)
                os.write(handle, self._known)
            finally:
                os.close(handle)
        except OSError:  # the disk is full, say
            self.own = True


class SharedBudget(Budget):
    """The limiters of this machine, by host and port, in `folder`."""

    def __init__(self, folder: Path, allowed: int = DEFAULT_REQUESTS, window_s: float = DEFAULT_WINDOW_S) -> None:
        super().__init__(allowed, window_s)
        self._folder = folder

    def of(self, url: str) -> Limiter:
        """The one limiter of this URL's host. Raises UsageError for what is no URL."""
        address = host_and_port(url)
        if address not in self._by_host:
            _remove_old(self._folder)
            path = _file(self._folder, address)
            self._by_host[address] = SharedLimiter(path, address, self._allowed, self._window_s)
        return self._by_host[address]


def _file(folder: Path, address: str) -> Path:
    return folder / f"{hashlib.sha256(address.encode('utf-8', 'replace')).hexdigest()[:32]}.json"


def budgets_in(folder: Path, addresses: Iterable[str], now: int) -> dict[str, Limiter]:
    """Of these `host:port` the limiters that the processes of this machine share, as their files stand: only looked at.

    Of which there is none, or one that cannot be read, is left out.
    """
    found: dict[str, Limiter] = {}
    for address in sorted(addresses):
        limiter, path = Limiter(), _file(folder, address)
        with suppress(OSError, *_NO_STATE):
            state = json_object(path.read_bytes() if path.stat().st_size < _FILE_BYTES else b"") or {}
            limiter.restore(state, now)
            if state["address"] == address:
                found[address] = limiter
    return found


def _remove_old(folder: Path) -> None:
    """Files of addresses that were not asked for days."""
    with suppress(OSError):
        for path in folder.glob("*.json"):
            with suppress(OSError):
                if Clock().now() - path.stat().st_mtime_ns > KEPT_S * SECOND_NS:
                    path.unlink()
