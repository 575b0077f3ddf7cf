"""Delay laws of groups: which rows are one law, what its summary says, where its curve ends."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from nestobs.estimate.groups import ages, by_hour, by_layer, by_relay, by_vantage, curves, summary
from nestobs.estimate.npmle import npmle
from nestobs.timeline.intervals import SCHEMA
from worlds.figure_frames import ORIGIN, frame, line

API = "https://nests.example/api/v1/nests"


def nests(n: int = 8) -> pd.DataFrame:
    """Joinable from A in (k, k + 1], from B 2 s later; the last never; the second half is made in the next hour."""
    rows = []
    for k in range(n):
        at = ORIGIN + pd.Timedelta(hours=int(k >= n // 2), minutes=k)
        for place, later in (("A", 0.0), ("B", 2.0)):
            upper = math.inf if k == n - 1 else k + 1 + later
            shared = {"trace_id": str(k), "origin_at": at, "target": API}
            rows.append(line("api:guest", k + later, upper, place, **shared))
            rows.append(line("relay:wss://one.example/", 0.0, 0.5, place, **shared))
    return frame(SCHEMA, *rows)


def test_layers_and_relays_are_apart_and_so_are_vantages() -> None:
    assert [(one.kind, one.name, one.vantage) for one in by_layer(nests())] == [
        ("layer", "api:guest", "A"), ("layer", "api:guest", "B"),
    ]  # fmt: skip
    assert [(one.name, one.vantage, one.law.n) for one in by_relay(nests())] == [
        ("relay:wss://one.example/", "A", 8), ("relay:wss://one.example/", "B", 8),
    ]  # fmt: skip


def test_a_summary_is_that_of_the_law_of_its_rows() -> None:
    found = summary(by_vantage(nests())).set_index("name")
    law = npmle([float(k) for k in range(8)], [k + 1.0 for k in range(7)] + [math.inf])
    assert (found.loc["A", "n"], found.loc["A", "censored"]) == (8, 1)
    assert found.loc["A", "q50_s"] == pytest.approx(float(law.quantile(0.5)))
    assert (found.loc["A", "q50_low_s"], found.loc["A", "q50_high_s"]) == law.quantile_bounds(0.5)
    assert math.isinf(found.loc["A", "q90_s"])
    assert found.loc["B", "q50_s"] == pytest.approx(float(law.quantile(0.5)) + 2.0)


def test_by_hour_each_nest_counts_once_at_its_slowest_vantage() -> None:
    groups = by_hour(nests())
    assert [(one.name, one.law.n, one.law.censored) for one in groups] == [("12", 4, 0), ("13", 4, 1)]
    assert list(groups[0].law.rows.upper) == [3.0, 4.0, 5.0, 6.0]


def test_a_curve_ends_with_its_own_rows_and_lies_in_its_band() -> None:
    groups = by_vantage(nests())
    found = curves(groups, ages(groups))
    assert found[found["name"] == "A"]["age_s"].max() <= 7.0
    assert found[found["name"] == "B"]["age_s"].max() <= 9.0 + 1e-9
    assert ((found["low"] <= found["share"]) & (found["share"] <= found["high"])).all()


def test_without_rows_there_is_no_law() -> None:
    none = nests().iloc[:0]
    for groups in (by_layer(none), by_relay(none), by_vantage(none), by_hour(none)):
        assert groups == []
        assert summary(groups).empty
        assert curves(groups, ages(groups)).empty


def test_rows_without_proof_or_origin_are_in_no_law() -> None:
    rows = frame(SCHEMA, line("api:info", math.nan, math.inf, origin_at=pd.NaT), line("api:info", 0, math.inf, polls=0))
    assert by_layer(rows) == []
