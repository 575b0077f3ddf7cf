"""Coverage of truth: an interval contains a bracket when they meet, and nothing is dropped quietly."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.observation.duration import SECOND_NS
from nestobs.timeline.calibration import SCHEMA, coverage, missed, summary, truth_width
from nestobs.timeline.intervals import SCHEMA as TIMELINES

ORIGIN = 1_750_000_000 * SECOND_NS
NAMES = {"ws://one/": "relay-1", "ws://two/": "relay-2", "ws://b-two/": "relay-2", "ws://b-one/": "relay-1"}


def line(layer: str, lower: float, upper: float, **more: Any) -> dict[str, Any]:
    """A timeline since ORIGIN, seconds."""
    values: dict[str, Any] = {
        "nest": "30312:ab:room",
        "room": "room",
        "trace_id": "trace",
        "vantage": "A",
        "layer": layer,
        "target": "",
        "origin_at": pd.Timestamp(ORIGIN, tz="UTC"),
        "origin_kind": "create",
        "origin_error_s": 0.0,
        "lower_s": lower,
        "upper_s": upper,
        "lower_at": pd.Timestamp(ORIGIN + round(lower * SECOND_NS), tz="UTC") if math.isfinite(lower) else pd.NaT,
        "upper_at": pd.Timestamp(ORIGIN + round(upper * SECOND_NS), tz="UTC") if math.isfinite(upper) else pd.NaT,
        "left_censored": False,
        "right_censored": math.isinf(upper),
        "width_s": upper - lower,
        "polls": 10,
        "unknown": 0,
        "late": 0,
        "stable_s": math.nan,
        "flaps": 0,
        "seen_until_s": math.nan,
        "gone_lower_s": math.nan,
        "gone_upper_s": math.nan,
        "spacing_s": upper - lower,
        "marked": "",
        "room_at": pd.NaT,
        "event_at": pd.NaT,
        "after_end": 0,
        "livekit_down": 0,
        "held_up": 0,
    }
    return values | more


def true(layer: str, not_yet: float | None, now: float | None, change: str = "shown", **more: Any) -> dict[str, Any]:
    values = {
        "scenario": "calm",
        "room": "room",
        "address": "30312:ab:room",
        "layer": layer,
        "change": change,
        "not_yet_at": None if not_yet is None else ORIGIN + round(not_yet * SECOND_NS),
        "now_at": None if now is None else ORIGIN + round(now * SECOND_NS),
        "planned_delay_s": now,
    }
    return values | more


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    dtypes = {"instant": "datetime64[ns, UTC]", "real": "float64", "bool": "bool", "int": "int64", "text": "str"}
    columns = {c.name: pd.Series([row[c.name] for row in rows], dtype=dtypes[c.type]) for c in TIMELINES}  # type: ignore[call-overload]  # pandas-stubs wants literals
    return pd.DataFrame(columns)


def judge(row: dict[str, Any], *truth: dict[str, Any]) -> tuple[object, str]:
    only = coverage(table(row), truth, NAMES).iloc[0]
    return (None if only["contains"] is pd.NA else bool(only["contains"])), only["cause"]


@pytest.mark.parametrize(
    ("lower", "upper", "contains", "cause"),
    [
        (1.0, 2.0, True, ""),
        (0.0, 1.4, False, "too early"),
        (1.6, 2.0, False, "too late"),
        (0.0, 1.5005, True, ""),  # they meet
        (1.5005, 3.0, True, ""),
        (0.0, 1.5, False, "too early"),  # the truth is above its not_yet_at
        (1.501, 3.0, False, "too late"),  # and the interval above its lower end
        (1.0, math.inf, True, ""),
        (2.0, math.inf, False, "too late"),
        (-math.inf, 2.0, True, ""),
    ],
)
def test_an_interval_contains_a_bracket_that_it_meets(lower: float, upper: float, contains: bool, cause: str) -> None:
    assert judge(line("api:info", lower, upper), true("api:info", 1.5, 1.501)) == (contains, cause)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 100), st.integers(1, 20))
def test_it_contains_the_bracket_just_when_some_instant_lies_in_both(
    low: int, wide: int, not_yet: int, more: int
) -> None:
    row = line("api:info", low / 8, (low + wide) / 8)
    both = any(low < t <= low + wide and not_yet < t <= not_yet + more for t in range(200))
    assert judge(row, true("api:info", not_yet / 8, (not_yet + more) / 8))[0] is both


def test_a_miss_says_by_how_much_and_under_which_disturbance() -> None:
    row = line("api:info", 0.0, 1.0, marked="clock_step")
    only = coverage(table(row), [true("api:info", 1.5, 1.6)], NAMES).iloc[0]
    assert only["miss_by_s"] == pytest.approx(0.5)
    assert only["cause"] == "too early (clock_step)"


def test_never_is_contained_by_a_right_censored_interval_only() -> None:
    never = true("api:join", None, None, "never")
    assert judge(line("api:join", 30.0, math.inf), never) == (True, "")
    assert judge(line("api:join", 30.0, 31.0), never) == (False, "seen but never shown")


def test_the_going_is_judged_where_the_timeline_bounds_it() -> None:
    shown, gone = true("api:join", 1.0, 1.001), true("api:join", 9.0, 9.001, "gone")
    assert judge(line("api:join", 0.9, 1.2, gone_lower_s=8.0, gone_upper_s=9.5), shown, gone) == (True, "")
    assert judge(line("api:join", 0.9, 1.2, gone_lower_s=5.0, gone_upper_s=6.0), shown, gone)[1] == "gone too early"
    assert judge(line("api:join", 0.9, 1.2, gone_lower_s=5.0, gone_upper_s=6.0), shown)[1] == "gone but still shown"
    assert judge(line("api:join", 0.9, 1.2), shown, gone) == (True, "")


def test_what_cannot_be_judged_is_said_and_not_counted() -> None:
    assert judge(line("api:join", 0.9, 1.2)) == (None, "no truth")
    assert judge(line("api:join", 0.0, math.inf, polls=0), true("api:join", 1.0, 1.1)) == (None, "nothing proven")
    assert summary(coverage(table(line("api:join", 0.9, 1.2)), [], NAMES))["n"] == 0


def test_whatever_misses_the_truth_is_missed_and_what_cannot_be_judged_is_not() -> None:
    rows = [line("api:info", 1.0, 2.0), line("api:join", 1.0, 2.0), line("livekit:room", 1.0, 2.0)]
    judged = coverage(table(*rows), [true("api:info", 1.5, 1.6), true("api:join", 5.0, 5.1)], NAMES)
    assert list(missed(judged)["layer"]) == ["api:join"]
    assert missed(judged.iloc[:0]).empty


def test_relays_go_by_the_names_of_the_truth_and_the_client_by_its_selected_relay() -> None:
    rows = [line("relay:ws://one/", 0.9, 1.2), line("relay:ws://two/", 4.0, 5.0), line("client", 0.8, 1.3)]
    rows += [line("relay:ws://b-two/", 4.0, 5.0, vantage="B"), line("relay:ws://b-one/", 0.9, 1.2, vantage="B")]
    rows += [line("client", 4.2, 4.9, vantage="B"), line("relay:ws://other/", 0.9, 1.2)]
    truth = [true("relay:relay-1", 1.0, 1.001), true("relay:relay-2", 4.5, 4.501)]
    found = coverage(table(*rows), truth, NAMES)
    assert list(found["contains"][:6]) == [True] * 6
    assert list(found["layer"][:3]) == ["relay:relay-1", "relay:relay-2", "client"]
    assert found["cause"].iloc[6] == "no truth"


def test_an_interval_without_an_origin_is_judged_by_its_instants() -> None:
    blank = {"origin_at": pd.NaT, "lower_s": math.nan, "upper_s": math.nan, "origin_kind": ""}
    assert judge(line("api:info", 1.0, 2.0) | blank, true("api:info", 1.5, 1.6)) == (True, "")
    assert judge(line("api:info", 1.0, 1.4) | blank, true("api:info", 1.5, 1.6)) == (False, "too early")


def test_the_summary_is_exactly_what_is_documented_and_is_json() -> None:
    rows = [line("api:info", 1.0, 2.0), line("api:info", 5.0, 6.0, vantage="B"), line("relay:ws://one/", 1.0, 1.4)]
    rows += [line("api:join", 9.0, math.inf, spacing_s=math.inf)]
    truth = [true("api:info", 1.5, 1.502), true("relay:relay-1", 1.1, 1.101), true("api:join", None, None, "never")]
    judged = coverage(table(*rows), truth, NAMES)
    found = json.loads(json.dumps(summary(judged), allow_nan=False))
    assert list(found) == ["n", "contain_truth", "median_width_s", "by_layer"]
    assert (found["n"], found["contain_truth"], found["median_width_s"]) == (4, 3, 1.0)
    assert found["by_layer"]["api:info"] == {
        "n": 2, "contain_truth": 1, "median_width_s": 1.0, "max_width_over_spacing": 1.0,
    }  # fmt: skip
    assert found["by_layer"]["api:join"]["median_width_s"] is None
    assert set(found["by_layer"]) == {"api:info", "api:join", "relay:relay-1"}
    assert truth_width(judged)["max"] == pytest.approx(0.002)


def test_nothing_at_all_gives_an_empty_frame_and_an_empty_summary() -> None:
    judged = coverage(table(), [], {})
    assert list(judged.columns) == [column.name for column in SCHEMA]
    assert summary(judged) == {"n": 0, "contain_truth": 0, "median_width_s": None, "by_layer": {}}
    assert truth_width(judged) == {"median": None, "max": None}
