"""Rows that share their fate, and how much less they prove than as many independent ones.

Rows of one hour, or of one nest, are a **block**. A share of rows counts as so many fewer of them as its variance
between blocks is greater: the design effect (Rao & Scott 1992).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from nestobs.estimate.proportion import Share
from nestobs.observation.arrays import Flags, Ints
from nestobs.observation.duration import SECOND_NS

LEAST_BLOCKS: Final = 20
"""Rows of one hour are a block; where there are fewer hours than this, those of one nest."""

_HOUR_NS: Final = 3_600 * SECOND_NS


def blocks(sent_at: ArrayLike, unit: Callable[[], ArrayLike]) -> Ints:
    """A number for each row from 0: its hour, or, where the hours are fewer than LEAST_BLOCKS, its nest (`unit`)."""
    codes, hours = pd.factorize(np.asarray(sent_at, dtype=np.int64) // _HOUR_NS)
    return np.asarray(codes if len(hours) >= LEAST_BLOCKS else pd.factorize(np.asarray(unit()))[0], dtype=np.int64)


def design_effect(hit: Flags, block: Ints) -> float:
    """How much greater the variance of the share of hits is than if rows were independent; at least 1, NaN where all
    rows are alike or one block."""
    block, names = pd.factorize(block)  # of some rows: without gaps
    count = len(names)
    p = float(hit.mean()) if len(hit) else 0.0
    if count < 2 or p in (0.0, 1.0):
        return math.nan
    apart = np.bincount(block, weights=hit - p, minlength=count)
    return max(1.0, count / (count - 1.0) * float(apart @ apart) / (len(hit) * p * (1.0 - p)))


def share_of(hit: Flags, block: Ints, deff: float = math.nan) -> Share:
    """The share of hits. deff: a design effect known from elsewhere, for want of one of its own."""
    own = design_effect(hit, block)
    found = deff if math.isnan(own) else own
    hits = int(hit.sum())
    return Share(hits, hits, len(hit), 1.0 if math.isnan(found) else found)


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
