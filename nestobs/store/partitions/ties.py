"""Which rows belong together, in room that grows with the number of nests and not of rows.

A row names a trace, an address (nest) and a room, or some of them. Rows that share one belong together, and so on
(connected components): all that is said of one nest, under whatever names; a trace that is called as another's room
ties, too. Names are kept as 64-bit hashes: where two collide, two nests are one lot; whoever reads tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

NAMES: Final = ("trace_id", "nest", "room")
"""The columns by which rows are tied to each other."""

_MANY: Final = 2_000_000
"""So many sightings are kept until equal ones are put together."""


def hashes_of(names: Iterable[str]) -> Hashes:
    """The hash of each name, 0 for none."""
    import pandas as pd

    texts = np.array([*names], dtype=object)
    hashes = pd.util.hash_array(texts, categorize=False)
    return np.where(texts == "", np.uint64(0), np.maximum(hashes, 1))


def hashed(batch: pa.RecordBatch, name: str) -> tuple[Ints, Hashes]:
    """Of a column of names, dictionary-encoded: each row's place among the names, and their hashes."""
    column = batch.column(name)
    return column.indices.to_numpy(), hashes_of(column.dictionary.to_numpy(zero_copy_only=False))


@dataclass(frozen=True, slots=True)
class Sightings:
    """Triples of names that stand in one row, each once. names: shape (n, 3), hashes, 0 for none; rows: how many have
    it; first, last: from when to when they were under way, ns."""

    names: Hashes
    rows: Ints
    first: Ints
    last: Ints

    @classmethod
    def joined(cls, lots: list[Sightings]) -> Sightings:
        """All of them, equal ones put together."""
        names = np.concatenate([np.zeros((0, 3), np.uint64), *(lot.names for lot in lots)])
        if not len(names):
            return cls(names, *(np.zeros(0, np.int64) for _ in range(3)))
        rows, first, last = (np.concatenate([getattr(lot, n) for lot in lots]) for n in ("rows", "first", "last"))
        order = np.lexsort(names.T)
        names = names[order]
        begins = np.flatnonzero(np.append(True, (names[1:] != names[:-1]).any(axis=1)))
        return cls(
            names[begins],
            np.add.reduceat(rows[order], begins),
            np.minimum.reduceat(first[order], begins),
            np.maximum.reduceat(last[order], begins),
        )


@dataclass(slots=True)
class Ties:
    """What has been seen of names together, batch after batch."""

    _lots: list[Sightings] = field(default_factory=list)
    _held: int = 0

    def see(self, batch: pa.RecordBatch, sent: Ints, ended: Ints) -> npt.NDArray[np.bool_]:
        """Take note of the rows of a batch, under way from `sent` to `ended`; which of them name nothing."""
        import pandas as pd

        (trace, traces), (nest, nests), (room, rooms) = (hashed(batch, name) for name in NAMES)
        key = (trace.astype(np.int64) * len(nests) + nest) * len(rooms) + room
        code, found = pd.factorize(key)
        rest, place = np.divmod(found, len(rooms))
        names = np.stack([traces[rest // len(nests)], nests[rest % len(nests)], rooms[place]], axis=1)
        size = len(found)
        first, last = np.full(size, np.iinfo(np.int64).max), np.full(size, np.iinfo(np.int64).min)
        np.minimum.at(first, code, sent)
        np.maximum.at(last, code, ended)
        nothing = np.asarray(~names.any(axis=1), dtype=bool)
        lot = Sightings(names, np.bincount(code, minlength=size), first, last)
        self._lots.append(Sightings(*(getattr(lot, n)[~nothing] for n in ("names", "rows", "first", "last"))))
        self._held += size
        if self._held > _MANY:
            self._lots = [Sightings.joined(self._lots)]
            self._held = len(self._lots[0].rows) // 2  # so that it is not done again at once
        return np.asarray(nothing[code], dtype=bool)

    @classmethod
    def joined(cls, every: Sequence[Ties]) -> Ties:
        """What all of them have seen, each triple once."""
        seen = Sightings.joined([lot for each in every for lot in each._lots])
        return cls([seen], len(seen.rows))

    def lots(self) -> Lots:
        """What belongs together, by its first instant."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        seen = Sightings.joined(self._lots)
        self._lots = [seen]
        nodes, place = np.unique(seen.names, return_inverse=True)
        place = place.reshape(seen.names.shape)
        named = seen.names != 0
        ends = [(place[both, one], place[both, other]) for one, other in ((0, 1), (0, 2), (1, 2))
                if (both := named[:, one] & named[:, other]).any()]  # fmt: skip  # one thing after the other
        begin, end = (np.concatenate([np.zeros(0, np.int64), *(pair[k] for pair in ends)]) for k in (0, 1))
        graph = coo_array((np.ones(len(begin), dtype=np.int8), (begin, end)), shape=(len(nodes), len(nodes)))
        _, part = connected_components(graph, directed=False)
        own = place[np.arange(len(place)), np.argmax(named, axis=1)]
        of = part[own] if len(own) else np.zeros(0, np.int64)
        size = int(part.max(initial=-1)) + 1
        first, last = np.full(size, np.iinfo(np.int64).max), np.full(size, np.iinfo(np.int64).min)
        np.minimum.at(first, of, seen.first)
        np.maximum.at(last, of, seen.last)
        rows = np.bincount(of, weights=seen.rows, minlength=size).astype(np.int64)
        return Lots(nodes, np.where(nodes == 0, -1, part), rows, first, last)


@dataclass(frozen=True, slots=True)
class Lots:
    """What belongs together. names: hashes; of: the lot of each, -1 for the name of nothing; of each lot how many rows
    it has (none: it is no lot), and from when to when they were under way, ns."""

    names: Hashes
    of: Ints
    rows: Ints
    first: Ints
    last: Ints
