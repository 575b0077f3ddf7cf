"""Rows that share their fate, and how much less they prove than as many independent ones.

Rows of one hour, or of one nest, are a **block**. A share of rows counts as so many fewer of them as its variance
between blocks is greater: the design effect (Rao & Scott 1992).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from nestobs.estimate.proportion import Share
from nestobs.observation.arrays import Flags, Ints
from nestobs.observation.duration import SECOND_NS

LEAST_BLOCKS: Final = 20
"""Rows of one hour are a block; where there are fewer hours than this, those of one nest."""

HOUR_NS: Final = 3_600 * SECOND_NS


def blocks(sent_at: ArrayLike, unit: Callable[[], ArrayLike]) -> Ints:
    """A number for each row from 0: its hour, or, where the hours are fewer than LEAST_BLOCKS, its nest (`unit`)."""
    codes, hours = pd.factorize(np.asarray(sent_at, dtype=np.int64) // HOUR_NS)
    return np.asarray(codes if len(hours) >= LEAST_BLOCKS else pd.factorize(np.asarray(unit()))[0], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Blocked:
    """Rows of blocks, counted. hits: of each block; rows: all of it, at least one."""

    hits: Ints
    rows: Ints

    @classmethod
    def of(cls, hit: Flags, block: Ints) -> Blocked:
        """hit: which rows are hits; block: of each row."""
        block, names = pd.factorize(block)  # of some rows: without gaps
        hits, rows = (np.bincount(rows, minlength=len(names)) for rows in (block[hit], block))
        return cls(hits, rows)

    @property
    def n(self) -> int:
        """How many rows."""
        return int(self.rows.sum())

    @property
    def design_effect(self) -> float:
        """How much greater the variance of the share of hits is than if rows were independent; at least 1, NaN where
        all rows are alike or one block."""
        count, n = len(self.rows), self.n
        p = int(self.hits.sum()) / n if n else 0.0
        if count < 2 or p in (0.0, 1.0):
            return math.nan
        apart = self.hits - p * self.rows
        return max(1.0, count / (count - 1.0) * float(apart @ apart) / (n * p * (1.0 - p)))

    def share(self, deff: float = math.nan) -> Share:
        """The share of hits. deff: a design effect known from elsewhere, for want of one of its own."""
        own = self.design_effect
        found = deff if math.isnan(own) else own
        hits = int(self.hits.sum())
        return Share(hits, hits, self.n, 1.0 if math.isnan(found) else found)


def design_effect(hit: Flags, block: Ints) -> float:
    """As Blocked has it."""
    return Blocked.of(hit, block).design_effect


def share_of(hit: Flags, block: Ints, deff: float = math.nan) -> Share:
    """As Blocked has it."""
    return Blocked.of(hit, block).share(deff)


def join_blocks(joins: pd.DataFrame) -> Ints:
    """The block of each of `timeline.joins`."""
    unit = joins["trace_id"].where(joins["trace_id"] != "", joins["nest"]).to_numpy(object)
    return blocks(joins["arrived_at"].astype("int64"), lambda: unit)


def lost_joins(joins: pd.DataFrame) -> tuple[Flags, Ints]:
    """Of the joins (`timeline.joins`) of which it is known whether they were lost: whether each was, and its block."""
    known = joins["lost"].notna().to_numpy(bool)
    lost = joins["lost"].fillna(value=False).to_numpy(bool)
    return lost[known], join_blocks(joins)[known]


def lost_share(joins: pd.DataFrame) -> Share:
    """The share of joins lost, of those of which it is known; the same on every page."""
    return share_of(*lost_joins(joins))
