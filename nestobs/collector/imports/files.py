"""Files in, new rows of a store out, and what was done, said.

All is read before anything is written: a file that is in no format stops the import, with nothing done.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from nestobs.collector.imports.clocks import Apart, Seen, offsets
from nestobs.collector.imports.formats import FORMATS, read_text
from nestobs.collector.imports.rows import Part, observations
from nestobs.collector.imports.said import Names
from nestobs.errors import UsageError
from nestobs.observation.schema import Observation
from nestobs.sources.clock import Clock, uuid7
from nestobs.store.reader import Store

MOST_BYTES: Final = 256 * 1024 * 1024
"""Bytes of a file that are read, unpacked; a larger one is refused."""

_NAME: Final = 80
_GZIP: Final = b"\x1f\x8b"
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. new: rows written; known: rows that were there already. rows: all of them. run_ids: of each
    vantage, since a run is one clock."""

    parts: tuple[Part, ...]
    offsets: dict[str, Apart]
    rows: tuple[Observation, ...] = ()
    new: int = 0
    known: int = 0
    run_ids: Mapping[str, str] = field(default_factory=dict)


def import_files(
    store: Store, paths: Sequence[Path], names: Names | None = None, *, word: str = "", vantage: str = ""
) -> Imported:
    """Write what files say to a store, a run for each vantage, but for the rows that it has already.

    word: the format of all of them; "": each line's own. vantage: the one place and clock that all of them come from;
    "": one for each kind. Raises UsageError for a file that cannot be read or is in no format, StoreError.
    """
    names = names or Names()
    for url in (names.api, names.relay, names.livekit):
        if "@" in url.partition("?")[0] or "token=" in url:
            raise UsageError("a URL that is given holds a name, password or token, which would reach every row")
    parts = [part for path in paths for part in read_file(path, names, word=word, vantage=vantage)]
    apart, now = related(parts), Clock().now()
    run_ids = {vantage: uuid7(now) for vantage in dict.fromkeys(part.vantage for part in parts)}
    rows = list({row.observation_id: row for row in observations(parts, apart, run_ids)}.values())
    there = _known(store, rows)
    fresh = [row for row in rows if row.observation_id not in there]
    if fresh:
        with store.writer() as writer:
            writer.append(fresh)
            writer.flush()
    counts = {"new": len(fresh), "known": len(rows) - len(fresh)}
    return Imported(tuple(parts), apart, tuple(rows), run_ids=run_ids, **counts)


def related(parts: Sequence[Part]) -> dict[str, Apart]:
    """How far the clock of each vantage is ahead of the reference, where anything tells."""
    places: dict[str, Seen] = {}
    for part in parts:
        seen = places.get(part.vantage, Seen(()))
        places[part.vantage] = replace(
            seen,
            sightings=[*seen.sightings, *part.reading.seen],
            ahead=[*seen.ahead, *part.reading.ahead],
            is_api=seen.is_api or part.word == "api",
            is_proxy=seen.is_proxy or part.word == "nginx",
        )
    return offsets(places)


def read_file(path: Path, names: Names, *, word: str = "", vantage: str = "") -> list[Part]:
    """What a file says: one part for each format that is in it. Raises UsageError where that is none."""
    data, changed_at = _bytes_of(path)
    texts = _text(data).split("\n")
    found = read_text(texts, replace(names, changed_at=changed_at), word)
    if not found or not any(reading.said or reading.idle for reading in found.values()):
        wanted = f"not in the format {word!r}" if word else "in no format that is known here"
        known = ", ".join(f"{name} ({one.words})" for name, one in FORMATS.items())
        raise UsageError(f"{path} is {wanted}: these are {known}; --format names one")
    digest = hashlib.sha256(data).hexdigest()
    return [
        Part(path.name[:_NAME], digest, name, vantage or FORMATS[name].vantage, reading)
        for name, reading in found.items()
    ]


def _bytes_of(path: Path) -> tuple[bytes, int]:
    """A file's bytes, unpacked, and when it was last changed (ns)."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
            changed_at = path.stat().st_mtime_ns
        if data.startswith(_GZIP):
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path} cannot be unpacked ({error}): unpack it, or copy it again") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}): name a file that can be") from None
    if len(data) > MOST_BYTES:
        raise UsageError(
            f"{path} holds more than {MOST_BYTES // 1024**2} MiB: cut it to the hours that matter (sed, grep,"
            " journalctl --since), and import that"
        )
    return data, changed_at


def _text(data: bytes) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    return data.decode("utf-8", "replace")


def _known(store: Store, rows: Sequence[Observation]) -> set[str]:
    """The ids that a store has already, of the time of these rows."""
    if not rows:
        return set()
    first, last = (end(row.sent_at for row in rows) for end in (min, max))
    there = store.frame(start=first, end=last + 1, columns=["observation_id"])
    return set(there["observation_id"])
