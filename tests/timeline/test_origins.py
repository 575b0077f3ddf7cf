"""When a nest was made: what its event claims, and what the API, LiveKit and older versions know better."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.observation.arrays import NONE
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Source
from nestobs.timeline.delays import among, joinable
from nestobs.timeline.intervals import timelines
from nestobs.timeline.intervals.origins import EDITED_S, instant_told, room_made_at
from nestobs.timeline.joins import joins
from worlds.nest_rows import NEST, NOON_S, at, created, event, frame, guest, info, rooms, row

HOUR_S = 3600.0


def ms(seconds: float) -> int:
    return round((NOON_S + seconds) * 1_000)


def lines(*rows: Any) -> pd.DataFrame:
    return timelines(frame(*rows)).set_index("layer")


OLDER = [
    pytest.param([info(2, createdAt=ms(-HOUR_S))], -HOUR_S, id="the API's createdAt in ms"),
    pytest.param([info(2, createdAt=NOON_S - 3600)], -HOUR_S, id="in seconds"),
    pytest.param([info(2, createdAt=str(ms(-HOUR_S)))], -HOUR_S, id="as text"),
    pytest.param([info(2, createdAt="2026-05-28T19:26:40.000Z")], -HOUR_S, id="as a date"),
    pytest.param([info(2, createdAt="2026-05-28T21:26:40+02:00")], -HOUR_S, id="as a date of another zone"),
    pytest.param(
        [info(2, createdAt=ms(-HOUR_S), outcome="unknown", status=200, failure=Failure.UNEXPECTED)],
        -HOUR_S,
        id="an /info that is no proof by itself",
    ),
    pytest.param([rooms("visible", 2, made=-HOUR_S)], -HOUR_S, id="LiveKit's list"),
    pytest.param(
        [row(Source.LIVEKIT, Operation.SIGNAL, "visible", 2, remote_at=at(-HOUR_S))], -HOUR_S, id="who enters is told"
    ),
    pytest.param([rooms("visible", 2, made=-60), info(3, createdAt=ms(-HOUR_S))], -HOUR_S, id="the oldest counts"),
    pytest.param([info(2, createdAt=ms(-HOUR_S), vantage="B")], -HOUR_S, id="another vantage's"),
    pytest.param([info(2, createdAt=ms(-HOUR_S), trace_id="other")], -HOUR_S, id="another trace's"),
    pytest.param([event(-500, created=-500, trace_id="other")], -500, id="an older version, seen before"),
    pytest.param([event(2, created=-500, trace_id="other", vantage="B")], -500, id="an older version, seen elsewhere"),
]


@pytest.mark.parametrize(("told", "made"), OLDER)
def test_an_edit_of_an_older_room_is_no_new_nest(told: list[Any], made: float) -> None:
    table = lines(event(1), guest("visible", 1), *told)
    mine = table[(table["trace_id"] == "trace") & (table["vantage"] == "A")]
    assert set(mine["origin_kind"]) == {"edit"}
    assert set(mine["origin_at"]) == {pd.Timestamp(at(made), tz="UTC")}
    assert set(mine["event_at"]) == {pd.Timestamp(at(0), tz="UTC")}
    line = mine.loc["api:guest"]
    assert line.lower_s == -math.inf
    assert line.upper_s == pytest.approx(1.1 - made + 1)  # widened by the grain
    assert "trace" not in set(joinable(table.reset_index(), signed_in=False)["unit"])


@pytest.mark.parametrize("status", ["closed", "Closed", "ENDED"])
def test_a_nest_whose_every_version_says_that_it_is_over_was_made_before_its_event(status: str) -> None:
    over = event(1, status=status)
    assert set(lines(over, guest("absent", 2))["origin_kind"]) == {"edit"}
    assert lines(over).iloc[0].lower_s == -math.inf
    opened = event(-1, created=-3, status="open")
    assert set(lines(opened, over, guest("absent", 2))["origin_kind"]) == {"created_at"}


NOT_OLDER = [
    pytest.param([], id="nobody tells"),
    pytest.param([info(2)], id="an API that does not say"),
    pytest.param([info(2, createdAt=ms(-0.4))], id="made just before its event"),
    pytest.param([info(2, createdAt=ms(90))], id="made after it, on a clock that is ahead"),
    pytest.param([rooms("visible", 2, made=-1)], id="within the grain of both stamps"),
    pytest.param([event(500, created=490)], id="edited while it was watched"),
    *(
        pytest.param([info(2, createdAt=value)], id=f"createdAt {value!r}")
        for value in (0, 1, -5, True, "", "soon", "²", "9" * 39, 1e300, 1e18, 12_345, "0001-01-01", "9999-12-31T23:59Z")
    ),
    pytest.param([rooms("visible", 2, made=-NOON_S)], id="a creation_time of 1970"),
    pytest.param([rooms("absent", 2, made=-HOUR_S)], id="a stamp of an absent row"),
    pytest.param([info(2, createdAt=ms(-HOUR_S), outcome="absent", status=404)], id="a 404 that says so"),
]


TOLD_BY_ONE = [
    pytest.param(info(2, createdAt=ms(-HOUR_S)), -HOUR_S, id="by /info"),
    pytest.param(info(2, createdAt=ms(-40), remote_at=at(-38), received=2), 0, id="by an /info that is 40 s behind"),
    pytest.param(rooms("visible", 2, made=-HOUR_S), -HOUR_S, id="by LiveKit's list"),
]


@pytest.mark.parametrize(("row", "made_s"), TOLD_BY_ONE)
def test_one_row_tells_when_the_room_was_made(row: Any, made_s: float) -> None:
    assert room_made_at(row) == at(made_s)


@pytest.mark.parametrize("told", NOT_OLDER)
def test_and_none_tells_an_age_that_it_has_not(told: list[Any]) -> None:
    assert all((room_made_at(row) or at(0)) > at(-1.5) for row in told)


@pytest.mark.slow
@pytest.mark.parametrize("told", NOT_OLDER)
def test_a_new_nest_stays_one(told: list[Any]) -> None:
    table = lines(event(1), guest("visible", 1), *told)
    assert set(table["origin_kind"]) == {"created_at"}
    assert set(table["origin_at"]) == {pd.Timestamp(at(0), tz="UTC")}
    assert len(joinable(table.reset_index(), signed_in=False)) == 1


def test_a_host_who_took_some_time_between_put_and_event_has_edited_nothing() -> None:
    table = lines(event(1), guest("absent", 1), guest("visible", 4), info(2, createdAt=ms(-EDITED_S + 2)))
    assert set(table["origin_kind"]) == {"room"}
    assert table.loc["api:guest", "upper_s"] == pytest.approx(4.1 + EDITED_S - 2 + 1)
    assert len(joinable(table.reset_index(), signed_in=False)) == 1


@pytest.mark.parametrize("ahead_s", [40.0, 7200.0])
def test_a_host_whose_clock_is_ahead_has_edited_nothing(ahead_s: float) -> None:
    table = lines(event(1, created=ahead_s), info(2, createdAt=ms(0)))
    assert set(table["origin_kind"]) == {"room"}
    assert table.loc["api:info", "upper_s"] == pytest.approx(3.1)


@pytest.mark.parametrize("off_s", [-300.0, 300.0])
def test_an_api_whose_clock_is_off_makes_no_edit_of_a_new_nest_and_no_new_nest_of_an_edit(off_s: float) -> None:
    date = {"remote_at": at(2 + off_s), "remote_grain_s": 1.0}
    assert set(lines(event(1), info(2, createdAt=ms(off_s), **date))["origin_kind"]) <= {"created_at", "room"}
    assert set(lines(event(1), info(2, createdAt=ms(off_s - HOUR_S), **date))["origin_kind"]) == {"edit"}


def test_a_nest_of_our_own_counts_from_its_put_whatever_is_told() -> None:
    table = lines(created(), event(1), info(2, createdAt=ms(-HOUR_S)))
    assert set(table["origin_kind"]) == {"create"}
    assert set(table["room_at"]) == {pd.Timestamp(at(-HOUR_S), tz="UTC")}


def test_a_nest_without_an_event_has_the_rooms_origin() -> None:
    line = lines(info(2, createdAt=ms(-HOUR_S), nest="")).loc["api:info"]
    assert (line.origin_kind, line.upper_s) == ("room", pytest.approx(3603.1))


def test_an_edit_belongs_to_the_window_in_which_it_was_made() -> None:
    table = timelines(frame(event(1), guest("visible", 1), info(2, createdAt=ms(-HOUR_S))))
    window = tuple(pd.Timestamp(at(second), tz="UTC") for second in (-60, 60))
    assert len(among(table, window=window)) == len(table)  # type: ignore[arg-type]  # two ends


def test_a_join_tells_both_ages() -> None:
    verdict = row(
        Source.JOIN, Operation.VERDICT, "visible", 5, attempt_group="g", detail=detail(verdict="guest", policy="p")
    )
    rows = frame(event(1), info(2, createdAt=ms(-HOUR_S)), verdict)
    (line,) = joins(rows, timelines(rows)).itertuples()
    assert (line.arrival_age_s, line.event_age_s) == (3605, 5)


@given(st.floats(-1e6, 1e6), st.floats(0, 60), st.floats(0, 30), st.floats(-20, 20))
@settings(deadline=None)  # a loaded machine is no failure
def test_whatever_is_told_the_interval_holds_the_truth(older: float, heard: float, later: float, skew: float) -> None:
    """The room was made `older` before noon (after it: at noon), its guests were let in at once, its event is of noon
    on a host's clock that is off by `skew`."""
    made = min(-older, 0.0)
    table = lines(event(heard, created=skew), info(heard + later, createdAt=ms(made)), guest("visible", heard))
    line = table.loc["api:guest"]
    truth = (at(made) - line.origin_at.value) / SECOND_NS
    assert line.lower_s < truth <= line.upper_s + 1e-6
    if made < min(skew, heard) - EDITED_S - 2:
        assert line.origin_kind == "edit"
    if made > min(skew, heard) - EDITED_S + 2:
        assert line.origin_kind != "edit"


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=60), st.lists(st.integers())))
def test_whatever_an_api_tells_is_an_instant_or_none(value: object) -> None:
    found = instant_told(value)
    assert found == NONE or 1_577_836_800 * SECOND_NS <= found < NONE


def test_a_row_without_a_trace_is_of_its_nests_last_one() -> None:
    cleaning = rooms("absent", 120, trace_id="", run_id="later")
    table = timelines(frame(created(), rooms("visible", 5), event(6), rooms("absent", 30), cleaning))
    assert table["layer"].is_unique
    assert (table["nest"] == NEST).all()
    assert (table["origin_kind"] == "create").all()


def test_a_creation_that_was_imported_counts_from_its_lines_end_and_is_as_unsure_as_its_beginning() -> None:
    told = detail(imported={"file": "api.log", "line": 1, "begun_within_s": 2.0})
    put = row(Source.API, Operation.CREATE, "accepted", 0.0, detail=told)
    found = lines(put, guest("visible", 3.0)).loc["api:guest"]
    assert (found["origin_kind"], found["origin_error_s"]) == ("create", 2.0)
    assert found["origin_at"].value == put.received_at
    assert found["lower_s"] == -2.0  # it may have shown the nest as soon as it was begun
    assert found["upper_s"] == (found["upper_at"] - found["origin_at"]).total_seconds() + 2.0
