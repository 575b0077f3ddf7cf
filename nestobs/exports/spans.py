"""Spans of time set side by side, of a store of any size: each part tells counts and its nests, and they add up.

parts of nests ──timelines, joins, an account of each window──> Told ──joined──> a span of each window
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nestobs.diagnosis.diagnose import TELLING
from nestobs.estimate import account
from nestobs.estimate.account import Account
from nestobs.estimate.comparison import Span, dated, spans_of
from nestobs.exports.parts import judged, lines_of, mapped, together
from nestobs.observation.arrays import Floats
from nestobs.observation.window import Window
from nestobs.store.partitions import PARTITION_ROWS, Partition
from nestobs.store.reader import Store
from nestobs.timeline import intervals, uptime
from nestobs.timeline import joins as real
from nestobs.timeline.delays import round_trips
from nestobs.timeline.failures import Counted, counted
from nestobs.timeline.intervals import Elsewhere

_READ = tuple(dict.fromkeys([*real.NEEDED, *TELLING, *account.NEEDED]))


@dataclass(frozen=True, slots=True)
class Told:
    """What observations tell of windows of time; parts add up. timelines, joins: of all their nests, `dated`; accounts:
    of each window; stretches, bursts: as uptime has them; trips: ns, as delays.round_trips."""

    timelines: pd.DataFrame
    joins: pd.DataFrame
    accounts: tuple[Account, ...]
    stretches: pd.DataFrame
    bursts: pd.DataFrame
    trips: Floats
    counted: Counted

    @classmethod
    def joined(cls, parts: Iterable[Told]) -> Told:
        """All of them together; at least one."""
        every = list(parts)
        return cls(
            timelines=together([part.timelines for part in every], intervals.ORDER),
            joins=together([part.joins for part in every], real.ORDER),
            accounts=tuple(map(Account.joined, zip(*(part.accounts for part in every), strict=True))),
            stretches=pd.concat([part.stretches for part in every], ignore_index=True),
            bursts=together([part.bursts for part in every], ["vantage", "start_at"]),
            trips=np.concatenate([part.trips for part in every]),
            counted=sum((part.counted for part in every), Counted()),
        )

    def spans(self, windows: Sequence[Window]) -> list[Span]:
        """The span of each window, by the time in which any vantage was at work, and which bursts stand for. windows:
        those of the accounts."""
        found = uptime.spans_of(self.stretches)

        def seconds(spans: pd.DataFrame) -> list[float]:
            every = uptime.together(spans)
            return [uptime.covered(every, window.start, window.end).get("", 0.0) * window.seconds for window in windows]

        covered = seconds(uptime.combined(found, self.bursts))
        return spans_of(self.accounts, self.timelines, self.joins, windows, seconds(found), covered_s=covered)


@dataclass(frozen=True, slots=True)
class ToCompare:
    """What a part tells of these windows."""

    windows: tuple[Window, ...]

    def __call__(self, partition: Partition, *, elsewhere: Elsewhere | None) -> Told:
        """As Told has it."""
        part = partition.read(_READ)
        rows, mine = part.rows, part.mine
        own = rows if mine.all() else rows[mine]
        lines = judged(lines_of(part, elsewhere), part, partition, elsewhere)
        lines, joins = dated(own, lines, real.joins(own, lines, elsewhere=elsewhere))
        sent = rows["sent_at"].to_numpy(np.int64)
        none, accounts = Account.of(rows.iloc[:0]), []
        for window in self.windows:
            inside = (sent >= window.start) & (sent < window.end)
            there = (rows, mine) if inside.all() else (rows[inside], mine[inside])
            accounts.append(Account.of(*there) if inside.any() else none)
        return Told(
            timelines=lines,
            joins=joins,
            accounts=tuple(accounts),
            stretches=uptime.stretches(own),
            bursts=uptime.bursts(own),
            trips=round_trips(rows, mine=mine),
            counted=counted(rows, mine=mine),
        )


def told(
    store: Store,
    windows: Sequence[Window],
    sent: Window,
    engine: Executor | str | None = None,
    progress: Callable[[str], None] = lambda _: None,
    *,
    most: int = PARTITION_ROWS,
) -> Told:
    """What a store tells of these windows, by rows sent in `sent`; the rest as parts.mapped takes it."""
    task = ToCompare(tuple(windows))
    return Told.joined(mapped(store, task, engine, progress, most=most, sent=(sent.start, sent.end)))
