"""When the collector was at work: known answers, gaps, several runs at once, and what a heartbeat writes."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import HEARTBEAT_S, Observation, Operation, Outcome, Source
from nestobs.sources import vantage as vantage_module
from nestobs.sources.vantage import Vantage
from nestobs.timeline.intervals import timelines
from nestobs.timeline.uptime import (
    GAP_S,
    LEAST_SAID,
    MOST_HELD_UP,
    MOST_PERIOD_S,
    Observer,
    bursts,
    combined,
    covered,
    disturbances,
    gaps,
    observer,
    spans,
    together,
    turns,
    within,
)
from worlds.asked import frame

NOON = 1_772_625_600 * SECOND_NS
HOUR = 3_600 * SECOND_NS


def rows(*made: tuple[float, float | None], vantage: str = "A", run: str = "run", **more: Any) -> pd.DataFrame:
    """Observations sent and received at so many seconds after noon."""
    return pd.DataFrame(
        [
            {
                "vantage": vantage, "run_id": run, "source": "clock", "operation": "health", "failure": None,
                "detail": "{}", "sent_at": NOON + round(sent * SECOND_NS),
                "received_at": None if received is None else NOON + round(received * SECOND_NS),
            } | more
            for sent, received in made
        ],
        columns=["vantage", "run_id", "source", "operation", "failure", "detail", "sent_at", "received_at"],
    ).astype({"received_at": "Int64", "sent_at": "int64"})  # fmt: skip


def told(found: pd.DataFrame) -> list[tuple[str, float, float]]:
    begin, end = ((found[name].astype("int64") - NOON) / SECOND_NS for name in ("start_at", "end_at"))
    return list(zip(found["vantage"], begin, end, strict=True))


BEATS = [(60.0 * k, 60.0 * (k + 1)) for k in range(10)]


def test_beats_make_one_span() -> None:
    assert told(spans(rows(*BEATS))) == [("A", 0.0, 600.0)]


def test_one_lost_beat_is_no_gap_and_two_are() -> None:
    assert GAP_S == 2.5 * HEARTBEAT_S
    assert told(spans(rows((0, 60), (121, 181)))) == [("A", 0.0, 181.0)]
    assert told(spans(rows((0, 60), (60 + GAP_S + 1, 300)))) == [("A", 0.0, 60.0), ("A", 61.0 + GAP_S, 300.0)]


def test_a_blocked_minute_is_covered_and_a_blocked_hour_is_not() -> None:
    """A late beat says when it began and when it ended, and no more."""
    assert told(spans(rows((0, 100)))) == [("A", 0.0, 100.0)]
    assert told(spans(rows((0, 3600)))) == []


def test_what_lies_between_two_runs_is_not_claimed() -> None:
    found = spans(pd.concat([rows((0, 60)), rows((70, 130), run="next")]))
    assert told(found) == [("A", 0.0, 60.0), ("A", 70.0, 130.0)]


def test_runs_of_one_vantage_that_overlap_are_one_span_and_vantages_are_apart() -> None:
    made = [rows((0, 100)), rows((50, 150), run="next"), rows((150, 200), run="third"), rows((10, 20), vantage="B")]
    found = spans(pd.concat(made))
    assert told(found) == [("A", 0.0, 200.0), ("B", 10.0, 20.0)]
    assert told(together(found)) == [("", 0.0, 200.0)]


def test_the_order_of_rows_and_a_missing_answer_do_not_matter() -> None:
    made = rows((0, 60), (60, 120), (130, None), (135, 140))
    assert told(spans(made.sample(frac=1, random_state=3))) == told(spans(made)) == [("A", 0.0, 140.0)]


def test_no_row_and_a_single_instant_have_no_span() -> None:
    assert told(spans(rows())) == []
    assert told(spans(rows((5, None)))) == []
    assert covered(spans(rows()), NOON, NOON + HOUR) == {}
    assert len(gaps(spans(rows()), NOON, NOON + HOUR)) == 0


def test_coverage_and_gaps_of_a_window() -> None:
    found = spans(pd.concat([rows(*BEATS), rows((3000, 3060), run="next")]))
    assert covered(found, NOON - 300 * SECOND_NS, NOON + 3300 * SECOND_NS) == {"A": pytest.approx(660 / 3600)}
    assert covered(found, NOON + 300 * SECOND_NS, NOON + 600 * SECOND_NS) == {"A": 1.0}
    assert math.isnan(covered(found, NOON, NOON)["A"])
    off = gaps(found, NOON - 300 * SECOND_NS, NOON + 3300 * SECOND_NS)
    assert told(off) == [("A", 600.0, 3000.0), ("A", -300.0, 0.0), ("A", 3060.0, 3300.0)]
    assert list(off["gap_s"]) == [2400.0, 300.0, 240.0]


def test_spans_are_cut_to_the_window() -> None:
    assert told(within(spans(rows(*BEATS)), NOON + 30 * SECOND_NS, NOON + 90 * SECOND_NS)) == [("A", 30.0, 90.0)]
    assert told(within(spans(rows(*BEATS)), NOON + HOUR, NOON + 2 * HOUR)) == []


def test_a_sleep_and_a_step_are_listed_and_the_time_slept_is_not_claimed() -> None:
    slept = rows((0, 100), source="clock", operation="step", failure="suspended", detail=detail(size_s=100.0))
    stepped = rows((200, 200), source="clock", operation="step", failure="clock_step", detail="not json")
    blocked = rows((0, 5), source="clock", operation="step", failure="loop_blocked", detail=detail(size_s=5.0))
    found = disturbances(pd.concat([stepped, slept, blocked, rows(*BEATS)]))
    assert list(found["kind"]) == ["suspended", "clock_step"]
    assert list(found["size_s"].fillna(-1)) == [100.0, -1.0]
    assert list((found["at"].astype("int64") - NOON) / SECOND_NS) == [100.0, 200.0]
    assert told(spans(slept)) == []


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("xy"), st.integers(0, 4000), st.integers(0, 300)),
             max_size=30)
)  # fmt: skip
def test_spans_are_disjoint_and_with_the_gaps_they_fill_the_window(made: list[tuple[str, str, int, int]]) -> None:
    parts = [rows((at, at + more), vantage=place, run=run) for place, run, at, more in made]
    found = spans(pd.concat(parts) if parts else rows())
    for place in "AB":
        mine = found[found["vantage"] == place]
        assert (mine["start_at"] < mine["end_at"]).all()
        assert (mine["start_at"].iloc[1:].to_numpy() > mine["end_at"].iloc[:-1].to_numpy()).all()
        if len(mine):
            off = gaps(found, NOON, NOON + 2 * HOUR)
            share = covered(found, NOON, NOON + 2 * HOUR)[place]
            assert share + off.loc[off["vantage"] == place, "gap_s"].sum() / 7200 == pytest.approx(1.0)


@pytest.mark.slow
def test_a_million_rows_take_seconds() -> None:
    rng = np.random.default_rng(1)
    sent = NOON + rng.integers(0, 86_400 * SECOND_NS, 1_000_000)
    made = pd.DataFrame({"vantage": rng.choice(["A", "B", "C"], len(sent)), "run_id": "run", "source": "api",
                         "operation": "info", "failure": None, "detail": "{}", "sent_at": sent,
                         "received_at": pd.array(sent + SECOND_NS, dtype="Int64")})  # fmt: skip
    found = spans(made)
    assert len(found) == 3


# the heartbeat


async def test_a_heartbeat_covers_the_time_between_beats_to_its_end(
    monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    monkeypatch.setattr(vantage_module, "HEARTBEAT_S", 0.05)
    made: list[Observation] = []
    place = Vantage("A", "run", made.append)
    begun = place.clock.now()
    async with asyncio.timeout(20), place.heartbeat():
        await until(lambda: len(made) >= 3)
    ended = place.clock.now()
    assert {(row.source, row.operation, row.outcome, row.failure) for row in made} == {
        (Source.CLOCK, Operation.HEALTH, Outcome.ACCEPTED, None)
    }
    assert all(row.layer == "" and row.loop_lag_s is not None for row in made)
    assert [row.sent_at for row in made[1:]] == [row.received_at for row in made[:-1]]
    assert made[-1].received_at is not None
    assert begun <= made[0].sent_at < made[-1].received_at <= ended
    assert "heartbeat" not in {task.get_name() for task in asyncio.all_tasks()}
    assert timelines(frame(made)).empty
    assert len(spans(frame(made))) == 1


async def test_a_heartbeat_that_is_cut_short_still_says_so() -> None:
    made: list[Observation] = []
    place = Vantage("A", "run", made.append)

    async def fails() -> None:
        async with place.heartbeat():
            await asyncio.sleep(0.02)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert len(made) == 1
    assert made[0].received_at is not None
    assert made[0].received_at - made[0].sent_at >= 0.02 * SECOND_NS
    assert made[0].failure is None


# The observer's own state


def asked(sent: float = 1.0, *, planned: bool = True, **more: Any) -> dict[str, Any]:
    """An attempt that took a second."""
    at = NOON + round(sent * SECOND_NS)
    return {
        "vantage": "A", "run_id": "run", "source": "api", "operation": "join", "failure": None, "detail": "{}",
        "planned_at": at if planned else None, "sent_at": at, "received_at": at + SECOND_NS, "loop_lag_s": 0.0,
    } | more  # fmt: skip


def befell(kind: str, at: float, size_s: float) -> dict[str, Any]:
    """What a vantage notes of its own machine."""
    ended = NOON + round(at * SECOND_NS)
    sent = ended - (0 if kind == "clock_step" else round(size_s * SECOND_NS))
    own = {"source": "clock", "operation": "step", "failure": kind, "detail": detail(size_s=size_s)}
    return asked(planned=False, **own, sent_at=sent, received_at=ended)


def seen(*made: dict[str, Any]) -> Observer:
    kinds = {"planned_at": "Int64", "received_at": "Int64", "sent_at": "int64"}
    columns = list(asked())
    return observer(pd.DataFrame(list(made), columns=columns).astype(kinds))


GOOD = [asked(10.0 + k) for k in range(9)]


@pytest.mark.parametrize(
    ("made", "share", "said"),
    [
        pytest.param([], 0.0, "", id="nothing"),
        pytest.param(GOOD, 0.0, "", id="as planned"),
        pytest.param([*GOOD, asked(loop_lag_s=0.7)], 0.1, "held up in 10 % of its attempts (1 of 10)", id="a lag"),
        pytest.param([*GOOD, asked(failure="skipped", source="clock")], 0.1, "(1 of 10)", id="a poll that was skipped"),
        pytest.param([*GOOD, asked(3.0, planned_at=NOON)], 0.0, "", id="a poll that came late"),
        pytest.param(
            [*GOOD, *[asked(3.0, planned_at=NOON)] * 3], 0.0, "25 % came 0.5 s late or later", id="polls that came late"
        ),
        pytest.param(
            [*GOOD, asked(2.3, planned_at=NOON + 2 * SECOND_NS)], 0.0, "", id="a poll that came a little late"
        ),
        pytest.param([*GOOD, asked(failure="loop_blocked")], 0.1, "(1 of 10)", id="a timeout of our own"),
        pytest.param(
            [*GOOD, asked(5.0), befell("clock_step", 5.5, -40.0)], 0.1, "stepped once (by up to 40.0 s)", id="step"
        ),
        pytest.param(
            [*GOOD, befell("clock_step", 50.0, 3.0), befell("clock_step", 60.0, 9.0)],
            0.0,
            "its clock was stepped 2 times (by up to 9.0 s)",
            id="steps between attempts",
        ),
        pytest.param(
            [*GOOD, asked(5.0), befell("suspended", 6.0, 600.0)], 0.1, "it slept once (by up to 600.0 s)", id="sleep"
        ),
        pytest.param([*GOOD, asked(planned=False, loop_lag_s=9.0)], 0.0, "", id="what is not of the plan"),
        pytest.param([asked(planned=False, loop_lag_s=9.0)], 1.0, "100 % of its attempts (1 of 1)", id="no plan"),
        pytest.param([*GOOD, asked(failure="intent", loop_lag_s=9.0)], 0.0, "", id="an intent is no attempt"),
        pytest.param([*GOOD, asked(failure="budget_spent", loop_lag_s=9.0)], 0.0, "", id="nor what was not afforded"),
        pytest.param([*GOOD, asked(source="client", loop_lag_s=9.0)], 0.0, "", id="nor a client's words"),
    ],
)
def test_how_the_observer_was_is_said_with_its_share(made: list[dict[str, Any]], share: float, said: str) -> None:
    found = seen(*made)
    assert found.share == pytest.approx(share)
    assert (said in found.words) if said else found.words == ""


@pytest.mark.parametrize(("bad", "much"), [(LEAST_SAID, False), (MOST_HELD_UP, False), (MOST_HELD_UP + 0.01, True)])
def test_beyond_a_stated_share_it_says_that_nothing_is_recommended(bad: float, much: bool) -> None:
    found = Observer(attempts=1_000, held_up=round(1_000 * bad))
    assert found.much == much
    assert ("nothing is recommended" in found.words) == much
    assert ("10 % is borne" in found.words) != much
    assert found.as_dict()["share"] == found.share


# bursts


def burst(start_s: float, *, period: Any = 10_800, planned_s: float | None = None, **more: Any) -> dict[str, Any]:
    """The row by which a burst of a minute ends."""
    at = NOON + round(start_s * SECOND_NS)
    planned = at if planned_s is None else NOON + round(planned_s * SECOND_NS)
    return asked(
        source="clock", operation="health", planned_at=planned, sent_at=at, received_at=at + 60 * SECOND_NS,
        detail=detail(period_s=period), **more,
    )  # fmt: skip


def table(*made: dict[str, Any]) -> pd.DataFrame:
    kinds = {"planned_at": "Int64", "received_at": "Int64", "sent_at": "int64"}
    return pd.DataFrame(list(made), columns=list(asked())).astype(kinds)


def share(found: pd.DataFrame, hours: float = 24.0) -> float:
    every = together(combined(spans(found), bursts(found)))
    return covered(every, NOON, NOON + round(hours * HOUR)).get("", 0.0)


EIGHT = [burst(10_800.0 * k + 40.0, planned_s=10_800.0 * k) for k in range(8)]
"""A day of a minute every three hours, each begun 40 s late."""


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(EIGHT, 1.0, id="a day as planned"),
        pytest.param(EIGHT[:4], 0.5, id="down for the second half"),
        pytest.param(EIGHT[4:], 0.5, id="down for the first half"),
        pytest.param(EIGHT[::2], 0.5, id="every second one lacking"),
        pytest.param(EIGHT[:1], 0.125, id="one of eight"),
        pytest.param([burst(0.0, period=7 * 86_400)], 1.0, id="one a week stands for a day"),
        pytest.param([burst(-3_600.0)], 2 / 24, id="one before it reaches into it"),
        pytest.param([burst(0.0), burst(600.0)], (10_800.0 + 600.0) / 86_400, id="two that overlap count once"),
        pytest.param([], 0.0, id="none"),
    ],
)
def test_a_burst_that_ended_stands_for_the_time_until_the_next(made: list[dict[str, Any]], expected: float) -> None:
    assert share(table(*made)) == pytest.approx(expected)


@pytest.mark.parametrize("by", ["A", "B"])
def test_bursts_are_of_a_vantage_and_leave_time_at_work_as_it_is(by: str) -> None:
    found = table(*EIGHT, *(burst(60.0 * k, vantage=by) for k in range(2)))
    assert set(bursts(found)["vantage"]) == {"A", by}
    assert covered(together(spans(found)), NOON, NOON + 24 * HOUR).get("", 0.0) < 0.01


@pytest.mark.parametrize(
    "value",
    [None, 0, -60, True, "3h", "NaN", float("nan"), float("-inf"), [10_800], {"s": 1}],
    ids=["none", "zero", "negative", "a flag", "words", "nan in words", "nan", "minus infinity", "a list", "an object"],
)
def test_a_period_that_is_none_stands_for_nothing(value: Any) -> None:
    assert bursts(table(burst(0.0, period=value))).empty


@pytest.mark.parametrize("value", [10**300, 1e308, MOST_PERIOD_S + 1], ids=["a huge count", "a huge number", "more"])
def test_a_period_of_any_length_stands_for_a_day_at_most(value: float) -> None:
    (found,) = told(bursts(table(burst(0.0, period=value))))
    assert found[1:] == (0.0, MOST_PERIOD_S)


@pytest.mark.parametrize(
    "other",
    [{"operation": "step"}, {"source": "api"}, {"planned_at": None}],
    ids=["a step", "an answer of the API", "unplanned"],
)
def test_only_what_ends_a_run_of_a_schedule_is_a_burst(other: dict[str, Any]) -> None:
    assert bursts(table(burst(0.0) | other)).empty


def test_what_a_vantage_writes_of_a_burst_is_one() -> None:
    kept: list[Observation] = []
    one = Vantage("A", "run", kept.append)
    since = one.clock.now()
    one.burst(since, since - 5 * SECOND_NS, 1_800.0)
    found = bursts(frame(kept))
    begin, end = found.loc[0, ["start_at", "end_at"]]
    assert (begin.value, (end - begin).total_seconds()) == (since - 5 * SECOND_NS, 1_800.0)
    assert spans(frame(kept)).shape[0] <= 1


def unpaid(start_s: float) -> dict[str, Any]:
    """The row by which a turn is left out."""
    at = NOON + round(start_s * SECOND_NS)
    return asked(source="clock", operation="step", planned_at=at, sent_at=at, received_at=None, failure="budget_spent")


def test_turns_of_a_schedule_are_counted_also_beside_a_watch() -> None:
    watched = burst(0.0) | {"detail": detail(period_s=10_800, watched=True)}
    found = table(watched, watched | {"vantage": "Computer B"}, burst(10_800.0), unpaid(21_600.0), unpaid(32_400.0))
    assert turns(found) == (2, 2)
    assert turns(table(asked())) == (0, 0)
    assert len(bursts(found)) == 1, "beside a watch it is the watch that counts"
    assert observer(found).skipped == 0, "what is not paid is not the machine's doing"
