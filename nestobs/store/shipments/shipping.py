"""Shipping: the sealed files of a store go to a folder or bucket, each whole, under a name that follows from it.

    what is due: sealed -> the journal's list of files -> less what is there by digest and size -> read, checked, put

No order can hurt: a file is there whole or not, it names its own digest, and no list beside it has to keep up. Killed
at any instant it leaves whole files, and at most a draft that no reader matches; called again it puts what is missing.
Two at once put the same bytes under the same names. Nothing is ever removed there but drafts of files that are whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nestobs.errors import StoreError, StoreFullError, UsageError
from nestobs.store import parquet, sql
from nestobs.store.parquet import AT, ID, DamageError
from nestobs.store.reader import Store
from nestobs.store.sealing import FOLDER
from nestobs.store.shipments import names
from nestobs.store.shipments.place import Place
from nestobs.store.sql import SealedFile

Progress = Callable[[int, int, int], None]
"""Is told how many of how many files are there, and how many bytes were put."""


@dataclass(slots=True)
class Shipment:
    """What came of shipping. shipped: paths of the files that were put; there: how many were there already; damaged:
    sentences, one for each file that could not be shipped; aside: files set aside, which are not shipped; unsealed:
    rows that stay in the journal; unsealed_why: why what was due could not be sealed, "" where it could."""

    to: str
    shipped: list[str] = field(default_factory=list)
    there: int = 0
    rows: int = 0
    size: int = 0
    damaged: list[str] = field(default_factory=list)
    aside: int = 0
    unsealed: int = 0
    unsealed_why: str = ""


def destination(store: Store, to: Path | str) -> Place:
    """Where a store may be shipped to. Raises UsageError for a URL that is none, and for the folder of a store."""
    place = Place.of(to)
    if place.scheme == "file" and (Path(place.root) / sql.JOURNAL).exists():
        raise UsageError(f"{place.url} is the folder of a store: ship to another one, which holds nothing else")
    if not store.directory.is_dir():
        raise StoreError(f"there is no store at {store.location}")
    return place


def ship(store: Store, place: Place, *, before: int, progress: Progress = lambda *_: None) -> Shipment:
    """Seal the days that end by `before` (ns UTC), and put all sealed files that are not there.

    Where another process writes to the store, that seals: what it has sealed is shipped. A damaged file is left out and
    named. Raises StoreError where the place cannot be used: what was put before stays, and the next call goes on.
    """
    made = Shipment(place.url)
    _seal(store, before, made)
    with sql.reading(store.directory) as connection:
        files = sql.sealed_files(connection)
        made.aside, made.unsealed = len(sql.sealed_files(connection, set_aside=True)), sql.unsealed(connection)
    found = names.listing(place.sizes(names.FOLDER))
    there = {file.digest: file.size for file in found.files}
    missing = [file for file in files if not file.mark.digest or there.get(file.mark.digest) != file.mark.size]
    made.there = len(files) - len(missing)
    progress(made.there, len(files), 0)

    def put(file: SealedFile) -> tuple[str, int] | DamageError | None:
        try:
            content, path = packed(store.directory / FOLDER / file.name, file)
        except DamageError as error:
            return error
        if there.get(path[1]) == len(content):
            return None
        place.put(path[0], content)
        return path[0], len(content)

    for file, put_there in zip(missing, place.each(put, missing), strict=True):
        if isinstance(put_there, DamageError):
            if _counts(store, file):
                made.damaged.append(str(put_there))
        elif put_there is None:
            made.there += 1
        else:
            made.shipped.append(put_there[0])
            made.rows, made.size = made.rows + file.rows, made.size + put_there[1]
        progress(made.there + len(made.shipped), len(files), made.size)
    _sweep(place, found.drafts, {*(file.path for file in found.files), *made.shipped})
    return made


def _seal(store: Store, before: int, made: Shipment) -> None:
    with sql.reading(store.directory) as connection:
        first, _ = sql.unsealed_span(connection)
    if first is None or first >= before - before % sql.DAY:
        return
    try:
        store.seal(before=before)
    except StoreFullError:
        raise
    except StoreError as error:  # another process writes, or the disk is only read
        made.unsealed_why = str(error)


def packed(path: Path, file: SealedFile) -> tuple[bytes, tuple[str, str]]:
    """The bytes of a sealed file that is as it was sealed; its path at a place, and its digest. Raises DamageError."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamageError(path, "it is missing" if isinstance(error, FileNotFoundError) else "it is damaged") from None
    digest = hashlib.sha256(content).hexdigest()
    if file.mark.digest and digest != file.mark.digest:
        raise DamageError(path, "it is damaged")
    try:
        columns = parquet.schema_of([AT, ID, "vantage"])
        table = parquet.decoded(pa.BufferReader(content), columns, small=True)
        ends, ids = pc.min_max(table[AT]).as_py(), pc.min_max(table[ID]).as_py()
        vantages = pc.unique(table["vantage"]).to_pylist()
    except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException):
        raise DamageError(path, "it is damaged") from None
    if (len(table), ends["min"], ends["max"]) != (file.rows, file.first_at, file.last_at):
        raise DamageError(path, "it holds other rows than were sealed")
    keys = names.key_of(ids["min"], ids["max"])
    about = {"first_at": file.first_at, "last_at": file.last_at, "rows": file.rows}
    return content, (names.path_of(**about, keys=keys, digest=digest, vantages=vantages), digest)


def _counts(store: Store, file: SealedFile) -> bool:
    """Whether a file still counts: it may have been removed for its age, or set aside, while it was to be shipped."""
    with sql.reading(store.directory) as connection:
        return file.name in {each.name for each in sql.sealed_files(connection)}


def _sweep(place: Place, drafts: Sequence[str], whole: set[str]) -> None:
    """Remove drafts, left by who was killed, of files that are there."""
    for draft in drafts:
        folder, _, name = draft.rpartition("/")
        if f"{folder}/{name[1:].rpartition('.tmp')[0].rpartition('.')[0]}" in whole:
            place.remove(draft)
