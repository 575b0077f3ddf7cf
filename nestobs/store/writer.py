"""The one writer of a store: a thread that commits what any thread appends.

    append ──queue──> writer thread ──1000 rows or 50 ms, one commit──> journal ──seal──> Parquet
                                          flush() returns: acknowledged

Acknowledged rows survive the death of the process (kill -9): the journal is in WAL mode with synchronous=NORMAL. A
power cut may lose the commits since the last checkpoint or ledger entry, whole commits and newest first, and never
damages the file. The ledger of what was made in the world is synced to the disk before its calls return
(synchronous=FULL), and every row committed before it with it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from nestobs.errors import NestobsError, StoreError
from nestobs.observation.schema import Observation
from nestobs.store import ledger, sql
from nestobs.store.connection import Connection, identity
from nestobs.store.sealing import FOLDER, Sealer, tidy
from nestobs.store.sql import explained

BATCH_ROWS: Final = 1_000
BATCH_S: Final = 0.05
QUEUE_ROWS: Final = 20_000
"""`append` blocks while this many rows wait for the disk."""

_LOCK: Final = "writer.lock"


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A promise to be kept once the first `mark` rows are committed, with work to do then, if any."""

    mark: int
    job: Callable[[Connection], Any] | None
    future: Future[Any]


class Writer:
    """The one that writes, by a thread of its own. Use as `with` or `async with`: leaving commits what was appended.

    A process that ends without `close` loses the rows not yet acknowledged. Once the writer has failed (a full disk),
    it stays stopped: `failed` says why, every later call raises it, and nothing is kept in memory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = take_lock(directory)
        with ExitStack() as undone:
            undone.callback(os.close, self._lock)
            self._connection = sql.connect(directory, write=True)
            undone.callback(self._connection.close)
            tidy(directory)
            undone.pop_all()
        self._guard = threading.RLock()
        self._work = threading.Condition(self._guard)
        self._space = threading.Condition(self._guard)
        self._rows: list[Observation] = []
        self._tickets: list[_Ticket] = []
        self._appended = self._committed = 0
        self._ended = self._closing = False
        self._failed: StoreError | None = None
        self._sealer = Sealer(directory, self.perform, sql.unsealed(self._connection))
        self._thread = threading.Thread(target=self._run, name="nestobs-writer", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> StoreError | None:
        """What stopped the writer; None while it works."""
        return self._failed

    @property
    def newest(self) -> int | None:
        """The latest instant of sending of a row that this writer has committed, ns UTC; None before any."""
        return self._sealer.newest

    @property
    def alive(self) -> bool:
        """Whether it still takes rows."""
        return not self._closing and self._failed is None

    def append(self, rows: Iterable[Observation]) -> None:
        """Queue rows, from any thread, without waiting for the disk; blocks only while `QUEUE_ROWS` are queued.

        Queued is not kept: `flush` says when it is. Text that UTF-8 cannot carry (lone surrogates) is stored with
        backslash escapes, an integer beyond 64 bits as the nearest one that fits, NaN as null. Raises what stopped the
        writer, or StoreError when it is closed.
        """
        self._refuse()
        pending = iter(rows)
        while chunk := list(islice(pending, BATCH_ROWS)):
            with self._guard:
                self._space.wait_for(lambda: len(self._rows) < QUEUE_ROWS or not self.alive)
                self._refuse()
                idle = not self._rows
                self._rows += chunk
                self._appended += len(chunk)
                if idle or len(self._rows) >= BATCH_ROWS:
                    self._work.notify()

    def flush(self) -> None:
        """Block until everything appended before is committed: acknowledged. Raises what stopped the writer."""
        self._ticket(None).result()

    async def flushed(self) -> None:
        """`flush`, without blocking the event loop. Cancelling it takes nothing back."""
        import asyncio

        await asyncio.wrap_future(self._ticket(None))

    def perform(self, job: Callable[[Connection], Any]) -> Any:
        """What `job` returns, run in the writer's thread after all rows appended before, in one synced transaction.

        For this module alone. A NestobsError it raises rolls back and comes out here; anything else stops the writer.
        """
        return self._ticket(job).result()

    def open_entry(
        self,
        *,
        kind: str,
        run_id: str,
        vantage: str,
        api: str,
        room: str,
        nest: str,
        relays: Sequence[str],
        key_ref: str,
        at: int,
        note: str = "",
    ) -> int:
        """Enter in the ledger what is about to be made; its number. On the disk when the call returns.

        `kind` is "room" or "event", `key_ref` the name of a key file or "env". Raises UsageError when `key_ref` looks
        like a key.
        """
        values = {
            "kind": kind, "run_id": run_id, "vantage": vantage, "api": api, "room": room, "nest": nest,
            "relays": relays, "key_ref": key_ref, "opened_at": at, "how": "", "note": note,
        }  # fmt: skip  # a row of the ledger
        stored = ledger.stored(values)
        return int(self.perform(lambda connection: sql.add_entry(connection, stored)))

    def update_entry(self, entry: int, **changes: str | Sequence[str]) -> None:
        """Change what an entry says (room, nest, relays, note, …), on the disk when the call returns.

        Raises TypeError for a field that cannot be changed, StoreError when there is no such entry.
        """
        if wrong := set(changes) - ledger.CHANGEABLE:
            raise TypeError(f"a ledger entry's {sorted(wrong)[0]!r} cannot be changed")
        if changes:
            self._change(entry, ledger.stored(changes), open_only=False)

    def close_entry(self, entry: int, *, at: int, how: str) -> None:
        """Note that the thing is gone, when (ns UTC) and how; on the disk when the call returns.

        Closing it again changes nothing. Raises StoreError when there is no such entry.
        """
        self._change(entry, {"closed_at": at, "how": how}, open_only=True)

    def _change(self, entry: int, values: Mapping[str, object], *, open_only: bool) -> None:
        def job(connection: Connection) -> None:
            if not sql.change_entry(connection, entry, values, open_only=open_only):
                raise StoreError(f"the ledger in {self._directory} has no entry {entry}")

        self.perform(job)

    def seal(self, before: int) -> list[Path]:
        """Seal the UTC days that end at or before `before` (ns), of what was appended before; the new files, by day.

        Without being asked it does so in the background, once a day is over or has enough rows. Raises StoreError.
        """
        self.flush()
        return self._sealer.seal(before)

    def seal_beside(self, before: int) -> list[Path]:
        """`seal`, by a process of its own and from a thread of the caller's, so that who observes is not held up."""
        self.flush()
        return self._sealer.seal_beside(before)

    def forget(self, before: int) -> list[Path]:
        """Remove the sealed files of which every row was sent before `before`, ns UTC; those that went. What no file is
        made of stays. Raises StoreError."""
        gone: list[str] = self.perform(lambda connection: sql.forget(connection, before))
        paths = [self._directory / FOLDER / name for name in gone]
        for path in paths:
            path.unlink(missing_ok=True)
        return paths

    def close(self) -> None:
        """Commit what is queued, seal what is over, fold the WAL into the journal, let go of the lock.

        A second call does nothing. Raises what stopped the writer; what cannot be sealed stays in the journal.
        """
        with self._guard:
            again, self._ended = self._ended, True
        if self.alive and not again:
            with suppress(StoreError):
                self.flush()
            self._sealer.end()
        with self._guard:
            self._closing = True
            self._work.notify()
            self._space.notify_all()
        self._thread.join()
        if again:
            return
        os.close(self._lock)
        if self._failed is not None:
            raise self._failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except StoreError:
            if error is None:  # an error on its way out says more
                raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import asyncio

        await asyncio.to_thread(self.__exit__, kind, error, trace)

    # queueing

    def _refuse(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._closing:
            raise StoreError(f"the writer of {self._directory} is closed: open another with Store.writer()")

    def _ticket(self, job: Callable[[Connection], Any] | None) -> Future[Any]:
        with self._guard:
            self._refuse()
            ticket = _Ticket(self._appended, job, Future())
            self._tickets.append(ticket)
            self._work.notify()
        return ticket.future

    # the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:  # whatever it is, those who wait must hear of it
            self._stop(explained(error, self._directory))
        sql.close(self._connection)

    def _turn(self) -> bool:
        """Write one batch and keep the promises due; False when closed and nothing is left."""
        batch = self._next_batch()
        if batch:
            sql.commit(self._connection, batch)
            self._sealer.committed(batch)
        if identity(self._directory / sql.JOURNAL) != self._connection.was:
            raise StoreError(
                f"the store in {self._directory} was deleted or replaced while this process wrote to it: what it wrote"
                " went with it; bring the folder back from a copy, or start again"
            )
        with self._guard:
            self._committed += len(batch)
            self._space.notify_all()
        while ticket := self._due():
            self._keep(ticket)
        with self._guard:
            return not self._closing or bool(self._rows or self._tickets)

    def _next_batch(self) -> list[Observation]:
        def pressed() -> bool:
            return len(self._rows) >= BATCH_ROWS or bool(self._tickets) or self._closing

        with self._guard:
            self._work.wait_for(lambda: self._rows or pressed())
            self._work.wait_for(pressed, timeout=BATCH_S)
            batch = self._rows[:BATCH_ROWS]
            del self._rows[:BATCH_ROWS]
            return batch

    def _due(self) -> _Ticket | None:
        with self._guard:
            due = bool(self._tickets) and self._tickets[0].mark <= self._committed
            return self._tickets.pop(0) if due else None

    def _keep(self, ticket: _Ticket) -> None:
        if not ticket.future.set_running_or_notify_cancel():
            return
        try:
            result = sql.synced(self._connection, ticket.job) if ticket.job else None
        except NestobsError as error:
            ticket.future.set_exception(error)
        except BaseException as error:
            ticket.future.set_exception(explained(error, self._directory))
            raise
        else:
            ticket.future.set_result(result)

    def _stop(self, failed: StoreError) -> None:
        with self._guard:
            self._failed = failed
            self._rows.clear()
            tickets, self._tickets = self._tickets, []
            self._space.notify_all()
        for ticket in tickets:
            if ticket.future.set_running_or_notify_cancel():
                ticket.future.set_exception(failed)


def take_lock(directory: Path, name: str = _LOCK, doing: str = "is writing to the store in") -> int:
    """The descriptor that holds a lock of the store's folder, the writer's unless named; closing it, or the death of
    the process, lets go. Raises StoreError that names the process that holds it."""
    import fcntl  # not on Windows, where reading still works

    try:
        handle = os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise explained(error, directory) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise StoreError(f"process {pid} {doing} {directory}: stop it, or give --store another folder") from error
    except OSError as error:
        os.close(handle)
        raise explained(error, directory) from error
    return handle
