"""Sealing: settled rows move from the journal to Parquet, which is read 5 to 25 times as fast.

    part due ──rows──> observations/.<day>-<row>.parquet.<pid>.tmp ──synced, named──> entered, its rows deleted

A part is a whole UTC day, or so many rows of one as make a file worth it. The last step is one transaction of the
journal's writer: until then the rows are the journal's, and a file that a crash leaves behind counts for nothing.

No clock is read. Whether a day is over is judged by the rows that this writer wrote: their instants come from clocks
that the collector compares, and a store filled from an archive seals by the archive's time. A wrong instant does no
harm: a day sealed too early gets another file when more of it comes.

While others observe in this process, a part is written by a process of its own (`python -m nestobs.store.sealing`): it
would hold up their event loop, whose lag is measured. At the end, or by hand, it is done here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date, timedelta
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from nestobs.errors import StoreError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation
from nestobs.store import parquet, sql
from nestobs.store.connection import Connection
from nestobs.store.files import replacing
from nestobs.store.sql import DAY, Part

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS: Final = 20_000
"""Rows of a day that is not over are sealed so many at a time. So few, because reading one in fifty rows from the
journal takes half as long as the rest from Parquet; and because deleting them holds the writer up."""

SETTLED_S: Final = 300
"""Rows that are older than the newest by so much are taken to be complete: what comes later goes to another file."""

FOLDER: Final = "observations"
_NAME: Final = re.compile(r"\.?\d+-\d\d-\d\d-(\d{12,})\.parquet(\.\d+\.tmp)?")
_LOOK_ROWS: Final = PART_ROWS // 4

Perform: TypeAlias = Callable[[Callable[[Connection], Any]], Any]
Write: TypeAlias = Callable[[Path, Part, Path], int]


def seal_due(directory: Path, perform: Perform, *, settled: int, over: int, write: Write) -> Iterator[Path]:
    """Seal part after part, yielding each new file: all of the days that end by `over`, of the others `PART_ROWS` at a
    time of what was sent before `settled`. `perform` runs a job in the writer's thread, in one transaction.

    Raises StoreError, StoreFullError; the parts yielded before are sealed.
    """
    folder = directory / FOLDER
    try:
        with sql.reading(directory) as connection:
            top, _ = sql.newest(connection)  # so that it ends, however fast others write
        while (part := _due(directory, settled, over, top)) is not None:
            folder.mkdir(exist_ok=True)
            path = folder / f"{day_of(part.start)}-{part.top:012d}.parquet"
            with replacing(path) as temporary:
                rows = write(directory, part, temporary)
                mark = parquet.mark_of(temporary)
            perform(partial(sql.record, part=part, name=path.name, rows=rows, mark=mark))
            _sweep(directory, part.top)
            yield path
    except OSError as error:
        raise sql.explained(error, directory) from error


def _due(directory: Path, settled: int, over: int, top: int) -> Part | None:
    with sql.reading(directory) as connection:
        return sql.part_due(connection, min(settled, sql.INT64), min(over, sql.INT64), top, PART_ROWS)


def write_part(directory: Path, part: Part, path: Path) -> int:
    """The part as a Parquet file; how many rows it has."""
    return parquet.write(path, _pages(directory, part))


def _pages(directory: Path, part: Part) -> Iterator[pa.RecordBatch]:
    """A page a transaction: nothing but sealing removes rows."""
    schema = parquet.schema_of(parquet.NAMES)
    after = (part.start, -1)
    while True:
        with sql.reading(directory) as connection:
            page = sql.page(connection, part, after)
        if not page:
            return
        yield parquet.batch_of([values[:-2] for values in page], schema)
        after = page[-1][-2:]


def _sweep(directory: Path, top: int) -> None:
    """Remove what an earlier, crashed sealing of these rows left; files of any other origin stay."""
    with sql.reading(directory) as connection:
        counted = {file.name for file in sql.sealed_files(connection)}
        aside = {file.name for file in sql.sealed_files(connection, set_aside=True)}
    for path in (directory / FOLDER).iterdir():
        other = _NAME.fullmatch(path.name)
        if path.name not in counted | aside and other and int(other[1]) <= top:
            path.unlink(missing_ok=True)


def tidy(directory: Path) -> None:
    """Remove what killed processes left half written. Only for who holds the writer's lock: nobody else seals then."""
    for path in (directory / FOLDER).glob(".*.parquet.*.tmp"):
        path.unlink(missing_ok=True)
    for draft in directory.glob(f".{sql.JOURNAL}.*"):
        if not _alive(draft):
            draft.unlink(missing_ok=True)


def _alive(draft: Path) -> bool:
    """Whether the process that makes this journal may be at work."""
    number = re.match(r"\d+", draft.name.rpartition(f"{sql.JOURNAL}.")[2])
    try:
        os.kill(int(number[0]), 0) if number else None
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return number is not None


def day_of(at: int) -> date:
    """The UTC day of an instant, ns."""
    return date(1970, 1, 1) + timedelta(days=at // DAY)


def _settled(newest: int) -> int:
    return newest - SETTLED_S * SECOND_NS


class Sealer:
    """What seals beside a writer, which tells it of each batch: a thread that is there only while something is due.

    A failure loses nothing, since the rows stay in the journal; it is logged, and what was due is tried again at
    the next occasion.
    """

    def __init__(self, directory: Path, perform: Perform, unsealed: int) -> None:
        self._directory = directory
        self._perform = perform
        self._since = unsealed
        self.newest: int | None = None
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None
        self._ending = threading.Event()
        self._busy = threading.Lock()

    def committed(self, batch: Sequence[Observation]) -> None:
        """Take note of rows that are in the journal now, and begin to seal when enough has come or a day has ended."""
        newest = max(row.sent_at for row in batch)
        before = newest if self.newest is None else self.newest
        self.newest = max(newest, before)
        self._since += len(batch)
        midnight = _settled(self.newest) // DAY > _settled(before) // DAY
        if (midnight or self._since >= _LOOK_ROWS) and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._work, args=(self.newest,), name="nestobs-sealer", daemon=True)
            self._thread.start()

    def _work(self, newest: int) -> None:
        self._since = 0
        while self._try(_settled(newest), _settled(newest), self._by_process) and self._since >= _LOOK_ROWS:
            self._since, newest = 0, self.newest or newest
        self._dismiss()

    def _dismiss(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(BrokenPipeError), process:  # its standard input is closed here, and it ends
                pass

    def _by_process(self, directory: Path, part: Part, path: Path) -> int:
        """`write_part` by a process that Ctrl-C does not reach, started for the first of several parts."""
        if (process := self._process) is None:
            words = [sys.executable, "-m", __name__, str(directory)]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = self._process = subprocess.Popen(words, text=True, process_group=0, **pipes)
        if self._ending.is_set():
            process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended, and says why
            print(part.start, part.end, part.top, path.name, file=process.stdin, flush=True)
        if written := process.stdout.readline():
            return int(written)
        said = process.communicate()[1].strip().splitlines() or [f"it ended with {process.returncode}"]
        raise StoreError(f"{path.name} could not be written: {said[-1]}")

    def _try(self, settled: int, over: int, write: Write) -> bool:
        """Whether all was sealed that was due."""
        try:
            with self._busy:
                for _ in seal_due(self._directory, self._perform, settled=settled, over=over, write=write):
                    pass
            return True
        except Exception as error:  # whatever it is, the rows are safe where they are
            if not (self._ending.is_set() and write == self._by_process):
                getLogger(__name__).warning("not sealed (%s): the rows stay in the journal, read more slowly", error)
            return False

    def seal(self, before: int) -> list[Path]:
        """Seal the UTC days that end by `before`; the new files. Raises StoreError."""
        with self._busy:
            return list(seal_due(self._directory, self._perform, settled=before, over=before, write=write_part))

    def seal_beside(self, before: int) -> list[Path]:
        """`seal`, with each part written by a process of its own."""
        with self._busy:
            try:
                return list(
                    seal_due(self._directory, self._perform, settled=before, over=before, write=self._by_process)
                )
            finally:
                self._dismiss()

    def end(self) -> None:
        """Seal what this run has left behind: the days before its newest row, and of that row's day all whole parts."""
        self._ending.set()
        if (process := self._process) is not None:
            process.kill()  # it has given way to others until now; this thread need not
        if self._thread is not None:
            self._thread.join()
        if self.newest is not None:
            self._try(self.newest + 1, self.newest, write_part)


def main() -> None:
    """Write the parts of a store that are asked for on standard input, without getting in anybody's way."""
    os.nice(5)
    directory = Path(sys.argv[1])
    for line in sys.stdin:
        *numbers, name = line.split()
        print(write_part(directory, Part(*map(int, numbers)), directory / FOLDER / name), flush=True)


if __name__ == "__main__":
    main()
