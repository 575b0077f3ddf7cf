"""Rows that are in two files: the same row counts once, and one id of two different rows is refused.

A store that was copied, or brought back from a backup and sealed anew, ships rows that are there already, in files cut
otherwise. An id is in two files only where the ranges of their ids, which their names tell, meet: so files are walked
in order, and the hashes of a file's ids are kept only while files to come may meet it. Where two hashes are equal, the
rows themselves are compared, column by column: nothing is decided by a hash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from nestobs.errors import StoreError
from nestobs.store.parquet import ID
from nestobs.store.shipments.names import MOST_KEY, Shipped

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Hashes: TypeAlias = npt.NDArray[np.uint64]

GROUP: Final = 16
"""Files are compared with those before them so many at a time: to sort once is quicker than many times."""


class ConflictError(StoreError):
    """One id, two different rows."""

    def __init__(self, conflict: Conflict, url: str) -> None:
        super().__init__(
            f"{conflict.said} ({conflict.first}, {conflict.second} at {url}): one of the two is wrong, so none is read;"
            " remove the wrong file, and see `nestobs store verify`"
        )


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two files that hold different rows of one id, and in how many ids."""

    first: str
    second: str
    ids: int
    example: str
    columns: tuple[str, ...]

    @property
    def said(self) -> str:
        """What is wrong, without the files."""
        more = f", and {self.ids - 1} more" if self.ids > 1 else ""
        return f"two files hold different rows of the id {self.example} ({', '.join(self.columns)} differ){more}"


@dataclass(slots=True)
class Walk:
    """Which rows of files were there before, in the files before them. files: all that are walked, in this order.

    rows: what gives all columns of the rows of a file whose ids are among these. conflicts, again: what was found,
    and in which two files how many rows are the same.
    """

    files: Sequence[Shipped]
    rows: Callable[[Shipped, pa.Array], pa.Table]
    conflicts: list[Conflict] = field(default_factory=list)
    again: dict[tuple[str, str], int] = field(default_factory=dict)
    _kept: list[tuple[Shipped, Hashes]] = field(default_factory=list)
    _least: list[int] = field(default_factory=list)
    _walked: int = 0

    def __post_init__(self) -> None:
        least = MOST_KEY + 1
        for each in reversed(self.files):
            least = min(least, each.low)
            self._least.append(least)
        self._least.reverse()  # of each file and all after it, the least key

    def step(self, ids: Sequence[pa.Array]) -> list[npt.NDArray[np.bool_] | None]:
        """Of the next files, whose ids these are: which rows are new; None for all of them."""
        import numpy as np

        group = self.files[self._walked : self._walked + len(ids)]
        self._walked += len(ids)
        hashed = [hashes(each) for each in ids]
        before = list(self._kept)
        self._kept += zip(group, hashed, strict=True)
        many = _many([each for _, each in self._kept])
        found: list[npt.NDArray[np.bool_] | None] = []
        for file, texts, own in zip(group, ids, hashed, strict=True):
            new = np.ones(len(own), bool)
            if len(many) and np.isin(own, many).any():
                for other, theirs in before:
                    if file.meets(other) and (same := np.isin(own, theirs)).any():
                        new &= ~self._compared(other, file, texts, same)
            before.append((file, own))
            found.append(None if new.all() else new)
        rest = self._least[self._walked] if self._walked < len(self.files) else MOST_KEY + 1
        self._kept = [(file, own) for file, own in self._kept if file.high >= rest]
        return found

    def _compared(
        self, first: Shipped, second: Shipped, ids: pa.Array, suspected: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Which rows of the second file are in the first."""
        import pyarrow as pa
        import pyarrow.compute as pc

        suspects = ids.filter(pa.array(suspected))
        one, other = (self.rows(file, suspects).sort_by(ID) for file in (first, second))
        there = one[ID].combine_chunks()
        other = other.filter(pc.is_in(other[ID], value_set=there))
        one = one.filter(pc.is_in(one[ID], value_set=other[ID].combine_chunks()))
        if len(other):
            self.again[first.path, second.path] = self.again.get((first.path, second.path), 0) + len(other)
        if not one.equals(other):
            self.conflicts.append(_conflict(first, second, one, other))
        same: npt.NDArray[np.bool_] = pc.is_in(ids, value_set=there).to_numpy(zero_copy_only=False)
        return same & suspected


def _conflict(first: Shipped, second: Shipped, one: pa.Table, other: pa.Table) -> Conflict:
    """What differs between rows of the same ids, both in their order."""
    import pandas as pd

    left, right = (each.to_pandas().drop_duplicates(ID).set_index(ID) for each in (one, other))
    differs = (left != right) & ~(left.isna() & right.isna())
    rows = differs.any(axis=1)
    if not rows.any():  # the same rows, one of them several times in one file
        return Conflict(first.path, second.path, 1, str(left.index[0]), ("how often they are there",))
    worst = pd.Index(differs.columns[differs.any(axis=0)])
    return Conflict(first.path, second.path, int(rows.sum()), str(differs.index[rows][0]), tuple(worst[:4]))


def hashes(ids: pa.Array) -> Hashes:
    """64 bits of each text; equal texts have equal hashes. Quick where all are equally long, as ids of ours are."""
    import numpy as np
    import pyarrow as pa

    texts = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if not len(texts):
        return np.zeros(0, np.uint64)
    texts = texts.cast(pa.large_string())
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    lengths = np.diff(offsets)
    found = np.zeros(len(texts), np.uint64)
    content = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    for length in np.unique(lengths):
        here = np.flatnonzero(lengths == length)
        words = -(-int(length) // 8)
        block = np.zeros((len(here), words * 8), np.uint8)
        if len(here) == len(texts):
            block[:, :length] = content[offsets[0] : offsets[-1]].reshape(len(texts), length)
        else:
            block[:, :length] = content[offsets[:-1][here][:, None] + np.arange(length)]
        mixed = np.full(len(here), length, np.uint64)
        for word in block.view(np.uint64).reshape(len(here), words).T:
            mixed = (mixed ^ word) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        found[here] = mixed
    return found


def _many(kept: Sequence[Hashes]) -> Hashes:
    """The hashes that are there more than once."""
    import numpy as np

    if not kept:
        return np.zeros(0, np.uint64)
    every = np.sort(np.concatenate(kept))
    return np.unique(every[1:][every[1:] == every[:-1]])


def alone(files: Sequence[Shipped]) -> set[str]:
    """The paths of those that can share an id with no other."""
    found, high = set(), -1
    ordered = sorted(files, key=lambda each: each.low)
    for place, each in enumerate(ordered):
        after = ordered[place + 1].low if place + 1 < len(ordered) else MOST_KEY + 1
        if high < each.low and each.high < after:
            found.add(each.path)
        high = max(high, each.high)
    return found
