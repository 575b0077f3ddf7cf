"""The name of a shipped file: all that a reader must know to leave it alone, and the digest by which it is whole.

    shipped-1/<vantages>/<day>/<first_at>_<last_at>_<rows>_<low>_<high>_<sha256>.parquet

It follows from what is in the file and nothing else. So the same file has one name, whoever ships it, how often, from
a copy of the store or from a backup; another file has another name, and none takes the place of another. There is no
list beside the files that could fall behind them.

low, high: between these the ids are, as `key_of` has them. An id is in two files only where both ranges hold it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from nestobs.store.sealing import day_of

FOLDER: Final = "shipped-1"
"""Below the URL; the number is the format's."""

MOST_KEY: Final = 2**48 - 1
_NAME: Final = re.compile(
    r"(-?\d{1,19})_(-?\d{1,19})_([1-9]\d{0,11})_([0-9a-f]{12})_([0-9a-f]{12})_([0-9a-f]{64})\.parquet"
)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAMED: Final = 3
"""So many vantages of a file are named by its folder; of more it is said how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A shipped file as its name tells it. path: from the URL on; size: bytes; first_at, last_at: when the first and
    the last row was sent, ns UTC; low, high: the ends of its ids' keys, both among them; digest: SHA-256 in hex."""

    path: str
    size: int
    first_at: int
    last_at: int
    rows: int
    low: int
    high: int
    digest: str

    def meets(self, other: Shipped) -> bool:
        """Whether an id may be in both."""
        return self.low <= other.high and other.low <= self.high


def key_of(low: str, high: str) -> tuple[int, int]:
    """Between what the keys of ids lie of which these are the least and the greatest text: of a UUIDv7 its first 48
    bits, the milliseconds; of any other text all that there are."""
    if _UUID.fullmatch(low) and _UUID.fullmatch(high):
        first, last = (int(each[:8] + each[9:13], 16) for each in (low, high))
        return first, last
    return 0, MOST_KEY


def path_of(
    *, first_at: int, last_at: int, rows: int, keys: tuple[int, int], digest: str, vantages: Iterable[str]
) -> str:
    """The path of a file, from the URL on."""
    name = f"{first_at}_{last_at}_{rows}_{keys[0]:012x}_{keys[1]:012x}_{digest}.parquet"
    return f"{FOLDER}/{_folder(vantages)}/{day_of(first_at)}/{name}"


def read_path(path: str, size: int) -> Shipped | None:
    """The file of that path and size; None for a path that is none of ours."""
    folder, _, name = path.rpartition("/")
    found = _NAME.fullmatch(name)
    if found is None or not folder.startswith(f"{FOLDER}/"):
        return None
    first, last, rows, low, high, digest = found.groups()
    made = Shipped(
        path=path,
        size=size,
        first_at=int(first),
        last_at=int(last),
        rows=int(rows),
        low=int(low, 16),
        high=int(high, 16),
        digest=digest,
    )
    return made if made.first_at <= made.last_at and made.low <= made.high else None


@dataclass(frozen=True, slots=True)
class Listing:
    """What is at a place: files, by their first instant; doubled: more paths of a file that is counted already;
    drafts: what a shipper writes, or left half written; others: what nestobs did not put there."""

    files: list[Shipped]
    doubled: list[str]
    drafts: list[str]
    others: list[str]


def listing(sizes: Mapping[str, int]) -> Listing:
    """What is there, by the paths and sizes of all files below `FOLDER`. Of two that are named alike the one with the
    first path counts."""
    files: dict[str, Shipped] = {}
    doubled, drafts, others = list[str](), list[str](), list[str]()
    for path in sorted(sizes):
        shipped = read_path(path, sizes[path])
        if shipped is None:
            (drafts if path.endswith(".tmp") else others).append(path)
        elif files.setdefault(shipped.digest, shipped) is not shipped:
            doubled.append(path)
    return Listing(sorted(files.values(), key=lambda each: (each.first_at, each.path)), doubled, drafts, others)


def _folder(vantages: Iterable[str]) -> str:
    names = sorted({_slug(each) for each in vantages})
    if len(names) > _NAMED:
        mark = hashlib.sha256("+".join(names).encode()).hexdigest()[:8]
        names = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1}-more-{mark}"]
    return "+".join(names) or "nobody"


def _slug(vantage: str) -> str:
    """A vantage's name as the name of a folder; where that changes it, with what tells it from others."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", vantage)[:40].strip("-.")
    if plain == vantage:
        return plain
    mark = hashlib.sha256(vantage.encode("utf-8", "backslashreplace")).hexdigest()[:6]
    return f"{plain or 'vantage'}-{mark}"
