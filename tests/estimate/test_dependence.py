"""Dependent rows are not counted twice."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nestobs.estimate.dependence import blocks, design_effect, share_of
from nestobs.observation.duration import SECOND_NS

HOUR = 3_600 * SECOND_NS


def test_rows_that_are_all_alike_in_a_block_count_once() -> None:
    hit = np.repeat(np.arange(40) % 2 == 0, 25)
    block = np.repeat(np.arange(40), 25)
    assert design_effect(hit, block) == pytest.approx(25.0, rel=0.05)
    assert design_effect(hit, np.arange(1000)) == pytest.approx(1.0, rel=0.01)
    assert math.isnan(design_effect(np.zeros(10, bool), np.arange(10)))
    assert math.isnan(design_effect(hit, np.zeros(1000, np.int64)))
    once, together = share_of(hit, np.arange(1000)), share_of(hit, block)
    assert (once.least, once.n) == (together.least, together.n) == (500, 1000)
    assert np.diff(together.score()) > 4 * np.diff(once.score())


def test_for_want_of_its_own_another_design_effect_counts() -> None:
    alike, mixed = np.ones(10, bool), np.arange(10) % 2 == 0
    assert share_of(alike, np.arange(10), 3.0).deff == 3.0
    assert share_of(alike, np.arange(10)).deff == 1.0
    assert share_of(mixed, np.arange(10), 3.0).deff == pytest.approx(10 / 9)


def test_rows_of_an_hour_are_a_block_where_there_are_enough_hours() -> None:
    days = np.arange(50) * HOUR // 2
    assert blocks(days, lambda: np.arange(50)).max() == 24
    assert blocks(days[:30], lambda: np.arange(30) // 3).max() == 9
