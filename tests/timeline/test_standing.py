"""Nests of a standing fault told from those that are late, gone, or never had a room."""

from __future__ import annotations

import pandas as pd
import pytest

from nestobs.timeline.standing import LISTED_S, UNLISTED_S, lags, standing

INF, NONE = float("inf"), float("nan")


def layer(name, lower=0.0, upper=0.5, seen=90.0, *, polls=20, gone=NONE, vantage="A", trace="trace"):
    """One row of a timelines frame; never visible: upper is infinite, and the last 404 was at `lower`."""
    return {
        "trace_id": trace,
        "nest": f"30312:ab:{trace}",
        "vantage": vantage,
        "layer": name,
        "target": "https://nests.example/api/v1/nests",
        "origin_at": pd.Timestamp("2026-01-01", tz="UTC"),
        "lower_s": lower,
        "upper_s": upper,
        "seen_until_s": seen if upper < INF else NONE,
        "gone_lower_s": gone,
        "gone_upper_s": gone,
        "left_censored": False,
        "polls": polls,
    }


def refused(until=90.0, **more):
    """Both joins answered 404 until then."""
    return [layer(f"api:{route}", until, INF, **more) for route in ("join", "guest")]


INFO, ROOM = layer("api:info"), layer("livekit:room")
UNLISTED = layer("livekit:room", 90.0, INF)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "stands"),
    [
        pytest.param([INFO, ROOM, *refused()], True, id="listed"),
        pytest.param([INFO, *refused()], True, id="livekit not asked"),
        pytest.param([INFO, ROOM, refused()[1]], True, id="guests only"),
        pytest.param([INFO, layer("livekit:room", polls=0), *refused()], True, id="livekit proved nothing"),
        pytest.param([INFO, ROOM, *refused(0.5 + LISTED_S)], True, id="listed, just long enough"),
        pytest.param([INFO, ROOM, *refused(0.4 + LISTED_S)], False, id="listed, just too short"),
        pytest.param([INFO, *refused(0.4 + UNLISTED_S)], False, id="not asked, just too short"),
        pytest.param([INFO, UNLISTED, *refused()], False, id="no room ever"),
        pytest.param([layer("api:info", 90.0, INF), ROOM, *refused()], False, id="no record ever"),
        pytest.param([ROOM, *refused()], False, id="info not asked"),
        pytest.param([INFO, ROOM], False, id="joins not asked"),
        pytest.param([INFO, ROOM, *refused(polls=0)], False, id="joins proved nothing"),
        pytest.param([layer("api:info", seen=10.0, gone=10.0), ROOM, *refused()], False, id="closed at 10 s"),
        pytest.param([INFO, layer("livekit:room", seen=12.0, gone=12.0), *refused()], False, id="expired at 12 s"),
        pytest.param([INFO, ROOM, layer("api:join", 40.0, 41.0), refused()[1]], False, id="let in at 41 s"),
        pytest.param([INFO, ROOM, *refused(), layer("api:join", 2.0, 3.0, vantage="B")], False, id="let in elsewhere"),
        pytest.param([INFO, *refused(), {**ROOM, "vantage": "B"}], True, id="listed to another vantage"),
    ],
)
def test_a_nest_stands_in_a_fault_where_the_room_is_there_and_nobody_ever_got_in(rows, stands):
    found = standing(pd.DataFrame(rows))
    assert list(found["unit"]) == ["trace"] * stands


def test_says_from_when_and_until_when_it_is_known():
    late = layer("livekit:room", 4.0, 5.0)
    [found] = standing(pd.DataFrame([INFO, late, *refused(70.0)])).to_dict("records")
    assert found == {"unit": "trace", "nest": "30312:ab:trace", "since_s": 5.0, "until_s": 70.0, "listed": True}


def test_no_nest_has_none():
    empty = pd.DataFrame([INFO]).iloc[:0]
    assert standing(empty).empty
    assert lags(empty).empty


def test_a_lag_lies_between_the_ends_of_both():
    rows = [layer("api:info", 1.0, 2.0), layer("livekit:room", 5.0, 6.0), layer("api:join", 7.0, 9.0)]
    assert lags(pd.DataFrame(rows)).to_numpy().tolist() == [[5.0, 8.0]]
    assert lags(pd.DataFrame(rows), listed=True).to_numpy().tolist() == [[1.0, 4.0]]


def test_whoever_is_let_in_no_later_lags_not_at_all():
    assert lags(pd.DataFrame([layer("api:info", 5.0, 6.0), layer("api:join", 1.0, 2.0)])).to_numpy().tolist() == [
        [0, 0]
    ]


def test_a_nest_that_nobody_got_into_has_no_lag():
    assert lags(pd.DataFrame([INFO, ROOM, *refused()])).empty
