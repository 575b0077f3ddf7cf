"""Agreement and who is last: known answers of hand-written timelines; the truth lies between the bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.estimate.agreement import by_age, by_time, last, stretches, total, watched
from nestobs.timeline.intervals import SCHEMA
from worlds.figure_frames import ORIGIN, frame, line


def row(layer: str, lower: float, upper: float, until: float = 60.0, unit: str = "one", **more: Any) -> dict[str, Any]:
    until = until if math.isfinite(upper) else math.nan
    return line(layer, lower, upper, **{"trace_id": unit, "seen_until_s": until} | more)


def told(*rows: dict[str, Any]) -> list[tuple[float, float, bool, bool]]:
    found = stretches(watched(frame(SCHEMA, *rows)))
    return list(zip(found["start_s"], found["end_s"], found["sure"], found["possible"], strict=True))


def test_two_layers_agree_before_and_after_and_may_in_between() -> None:
    assert told(row("relay:a", 1, 2), row("api:info", 5, 6)) == [
        (0, 1, True, True),  # both surely absent
        (1, 2, False, True),  # the relay may show it
        (2, 5, False, False),  # the relay does, the API does not
        (5, 6, False, True),
        (6, 60, True, True),
    ]


def test_intervals_that_overlap_never_surely_disagree() -> None:
    assert told(row("relay:a", 1, 6), row("api:info", 2, 5)) == [
        (0, 1, True, True), (1, 2, False, True), (2, 5, False, True), (5, 6, False, True), (6, 60, True, True),
    ]  # fmt: skip


def test_a_layer_that_never_shows_it_disagrees_as_long_as_that_is_proven() -> None:
    assert told(row("relay:a", 1, 2), row("api:join", 30, math.inf)) == [
        (0, 1, True, True), (1, 2, False, True), (2, 30, False, False), (30, 60, False, True),
    ]  # fmt: skip


def test_gone_everywhere_is_agreement_again_until_the_last_proof() -> None:
    assert told(
        row("relay:a", 0, 1, 20, gone_lower_s=20.0, gone_upper_s=22.0),
        row("api:info", 0, 1, 30, gone_lower_s=30.0, gone_upper_s=40.0),
        row("api:guest", 50, math.inf),
    )[-2:] == [(30, 40, False, True), (40, 50, True, True)]


def test_a_layer_that_flapped_may_be_either() -> None:
    assert told(row("relay:a", 0, 1, flaps=2), row("api:info", 0, 1)) == [(0, 1, False, True), (1, 60, False, True)]


def test_two_vantages_of_one_layer_must_agree_too() -> None:
    found = told(row("api:info", 1, 2), row("api:info", 8, 9, vantage="Computer B"))
    assert (2, 8, False, False) in found


def test_what_is_not_watched_does_not_count() -> None:
    rows = [row("relay:a", 1, 2), row("livekit:signal", 0, 9), row("client", 0, 9), row("api:info", 1, 2, polls=0)]
    assert told(*rows) == []  # one row alone agrees with itself
    assert told() == []
    unknown = row("api:info", math.nan, math.inf, origin_at=pd.NaT)
    assert told(row("relay:a", 1, 2), unknown) == []


def test_a_nest_seen_before_its_origin_counts_from_it() -> None:
    assert told(row("relay:a", -3, -1), row("api:info", 1, 2)) == [
        (0, 1, False, False), (1, 2, False, True), (2, 60, True, True),
    ]  # fmt: skip


TWO = frame(
    SCHEMA,
    row("relay:a", 1, 2), row("api:info", 5, 6),
    row("relay:a", 0, 4, 30, "two"), row("api:info", 2, 4, 30, "two"),
)  # fmt: skip


def test_by_age_counts_nests() -> None:
    found = by_age(stretches(watched(TWO)), [0.5, 3.0, 10.0, 45.0, 99.0])
    assert list(found["n"]) == [2, 2, 2, 1, 0]
    assert list(found["sure"]) == [1, 0, 2, 1, 0]
    assert list(found["possible"]) == [2, 1, 2, 1, 0]
    assert list(found["low"].fillna(-1)) == [0.5, 0.0, 1.0, 1.0, -1]
    assert list(found["high"].fillna(-1)) == [1.0, 0.5, 1.0, 1.0, -1]


def test_by_time_weighs_nests_by_the_time_they_were_watched() -> None:
    edges = [ORIGIN.value + round(at * 1e9) for at in (-10, 0, 4, 40, 100)]
    found = by_time(stretches(watched(TWO)), edges)
    assert list(found["watched_s"]) == pytest.approx([0, 8, 36 + 26, 20])
    assert list(found["sure_s"]) == pytest.approx([0, 1 + 0, 34 + 26, 20])
    assert list(found["possible_s"]) == pytest.approx([0, 2 + 4, 35 + 26, 20])
    assert math.isnan(found["low"][0])
    assert found["low"][2] == pytest.approx(60 / 62)
    whole = total(stretches(watched(TWO)))
    assert whole == pytest.approx((81 / 90, 87 / 90))


def test_of_nothing_nothing_is_said() -> None:
    found = stretches(watched(frame(SCHEMA)))
    assert math.isnan(total(found)[0])
    assert by_age(found, [0.0, 1.0])["low"].isna().all()
    assert by_time(found, [0, 10])["high"].isna().all()
    assert last(watched(frame(SCHEMA))) == []


@pytest.mark.slow
@given(st.data())
def test_the_truth_lies_between_the_bounds(data: st.DataObject) -> None:
    """Layers switch once, at known ages; whatever polls find of them, the bounds hold what was."""
    ages = st.floats(0, 50, allow_nan=False)
    rows, truth = [], {}
    for unit in range(data.draw(st.integers(1, 4))):
        for place in range(data.draw(st.integers(2, 4))):
            at = data.draw(st.one_of(ages, st.just(math.inf)))
            polls = np.sort(np.array(data.draw(st.lists(ages, min_size=1, max_size=8, unique=True))))
            absent, visible = polls[polls < at], polls[polls >= at]
            lower = float(absent.max()) if len(absent) else 0.0
            upper = float(visible.min()) if len(visible) else math.inf
            until = float(visible.max()) if len(visible) else math.nan
            rows.append(row(f"relay:{place}", lower, upper, until, str(unit)))
            truth.setdefault(str(unit), []).append(at)
    found = stretches(watched(frame(SCHEMA, *rows)))
    for age in data.draw(st.lists(ages, min_size=1, max_size=5)):
        for unit, ends in truth.items():
            now = found[(found["unit"] == unit) & (found["start_s"] < age) & (age < found["end_s"])]
            agrees = len({end <= age for end in ends}) == 1
            assert all(sure <= agrees <= possible for sure, possible in zip(now["sure"], now["possible"], strict=True))


# who is last


def test_the_last_one_is_sure_where_no_other_can_be_later() -> None:
    rows = [row("relay:a", 1, 2), row("api:info", 2, 6), row("api:join", 0, 1)]
    found = last(watched(frame(SCHEMA, *rows)))[0]
    assert (found.nests, found.ambiguous, found.unshown) == (1, 0, 0)
    assert {layer: (s.least, s.most) for layer, s in found.shares.items()} == {
        "api:info": (1, 1), "api:join": (0, 0), "relay:a": (0, 0),
    }  # fmt: skip


def test_overlapping_intervals_are_ambiguous_and_split_nothing() -> None:
    found = last(watched(frame(SCHEMA, row("relay:a", 1, 4), row("api:info", 2, 6), row("api:join", 0, 1))))[0]
    assert found.ambiguous == 1
    assert {layer: (s.least, s.most) for layer, s in found.shares.items()} == {
        "api:info": (0, 1), "api:join": (0, 0), "relay:a": (0, 1),
    }  # fmt: skip
    assert found.shares["api:info"].by_chance_and_doubt().upper == 1.0


def test_who_never_shows_it_is_last_and_two_of_them_are_ambiguous() -> None:
    never = last(watched(frame(SCHEMA, row("relay:a", 1, 2), row("api:join", 60, math.inf))))[0]
    assert (never.shares["api:join"].least, never.ambiguous) == (1, 0)
    both = last(
        watched(frame(SCHEMA, row("relay:a", 1, 2), row("api:join", 60, math.inf), row("api:guest", 60, math.inf)))
    )[0]
    assert both.ambiguous == 1
    none = last(watched(frame(SCHEMA, row("relay:a", 60, math.inf), row("api:join", 60, math.inf))))[0]
    assert (none.nests, none.unshown, none.ambiguous) == (0, 1, 0)
    assert math.isnan(none.shares["relay:a"].value)


def test_each_vantage_has_its_own_last_one() -> None:
    rows = [row("relay:a", 1, 2), row("api:info", 5, 6)]
    rows += [row("relay:a", 5, 6, vantage="Computer B"), row("api:info", 1, 2, vantage="Computer B")]
    rows += [row("api:info", 1, 2, vantage="Computer C")]
    found = {one.vantage: one for one in last(watched(frame(SCHEMA, *rows)))}
    assert found["Computer A"].shares["api:info"].least == 1
    assert found["Computer B"].shares["relay:a"].least == 1
    assert found["Computer C"].nests == 0  # it was asked about one layer alone


@given(st.data())
def test_the_truly_last_one_is_always_possible_and_no_other_is_sure(data: st.DataObject) -> None:
    at = data.draw(st.lists(st.integers(0, 50), min_size=2, max_size=5, unique=True))
    widths = [(data.draw(st.integers(1, 9)), data.draw(st.integers(0, 9))) for _ in at]
    rows = [row(f"relay:{n}", max(0, t - w[0]), t + w[1]) for n, (t, w) in enumerate(zip(at, widths, strict=True))]
    found = last(watched(frame(SCHEMA, *rows)))[0]
    truly = f"relay:{int(np.argmax(at))}"
    assert found.shares[truly].most == 1
    assert sum(share.least for layer, share in found.shares.items() if layer != truly) == 0
    assert found.ambiguous == (sum(share.most for share in found.shares.values()) > 1)


@pytest.mark.slow
def test_thousands_of_nests_take_seconds() -> None:
    rng = np.random.default_rng(1)
    one = frame(SCHEMA, row("relay:a", 1, 2))
    many = one.loc[one.index.repeat(100_000)].reset_index(drop=True)
    lower = rng.exponential(5, len(many))
    layers = [f"relay:{n % 10}" for n in range(len(many))]
    many = many.assign(trace_id=[str(n // 20) for n in range(len(many))], layer=layers, lower_s=lower,
                       upper_s=lower + rng.exponential(1, len(many)), seen_until_s=90.0,
                       vantage=[f"V{n // 10 % 2}" for n in range(len(many))])  # fmt: skip
    rows = watched(many)
    found = stretches(rows)
    curve = by_age(found, np.linspace(0, 80, 200))
    assert (curve["low"] <= curve["high"]).all()
    assert sum(one.nests for one in last(rows)) == 10_000
