"""Which absents bound the first showing: nests that came and went, LiveKit that was down, an observer held up."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.observation.detail import detail
from nestobs.observation.schema import Failure, Observation, Operation, Source
from nestobs.timeline.delays import joinable
from nestobs.timeline.intervals import timelines
from nestobs.timeline.intervals.down import DOWN_S
from worlds.nest_rows import (
    RELAY,
    at,
    created,
    deleted,
    disturbed,
    event,
    frame,
    guest,
    info,
    rooms,
    row,
    webhook,
)


def line(layer: str, *rows: Observation, vantage: str = "A") -> Any:
    table = timelines(frame(*rows))
    return next(table[(table["layer"] == layer) & (table["vantage"] == vantage)].itertuples())


LATE = (guest("absent", 30), guest("absent", 90))
ENDS = [
    pytest.param([rooms("visible", 5), rooms("absent", 25)], id="not listed any more"),
    pytest.param([rooms("visible", 5, vantage="B"), rooms("absent", 25, vantage="B")], id="seen by another vantage"),
    pytest.param([rooms("visible", 5, sid="RM_a"), rooms("visible", 25, sid="RM_b")], id="another room by its sid"),
    pytest.param([webhook("room_started", 5), webhook("room_finished", 25)], id="webhooks"),
    pytest.param([webhook("room_finished", 25, remote_at=None, remote_grain_s=None)], id="a webhook without a stamp"),
    pytest.param([webhook("room_finished", 28, remote_at=at(20))], id="a webhook that came late"),
    pytest.param([deleted(25)], id="deleted"),
    pytest.param([deleted(25, trace_id="", nest="", run_id="cleaning")], id="deleted by the next run's cleaning"),
    pytest.param([row(Source.LIVEKIT, Operation.DELETE, "accepted", 25)], id="deleted in LiveKit"),
    pytest.param([event(5), event(25, created=24, status="closed")], id="its event says closed"),
    pytest.param([event(5), event(25, created=24, status=" Ended")], id="its event says ended"),
    pytest.param([event(5, status="CLOSED")], id="closed before it was asked for"),
    pytest.param([guest("visible", 5, vantage="B"), deleted(25)], id="joined from elsewhere, then deleted"),
    *(
        pytest.param([row(source, call, "visible", 5), row(source, call, "absent", 25)], id=f"{call} no more")
        for source, call in [
            (Source.LIVEKIT, Operation.SIGNAL),
            (Source.LIVEKIT, Operation.MEDIA),
            (Source.API, Operation.JOIN),
            (Source.API, Operation.INFO),
        ]
    ),
    pytest.param([guest("visible", 5, vantage="B"), guest("absent", 25, vantage="B")], id="no seat elsewhere any more"),
]
TELL_NO_LIFE = ("its event says closed", "its event says ended", "a webhook without a stamp", "info no more")
"""A relay shows an event, and an API a record, whether the room is there or not."""


@pytest.mark.slow
@pytest.mark.parametrize("told", ENDS)
def test_a_nest_that_had_ended_when_it_was_asked_for_is_not_never(told: list[Observation]) -> None:
    rows = [created(), *told, *LATE]
    found = line("api:guest", *rows)
    assert (found.polls, found.unknown, found.after_end) == (0, 2, 2)
    assert (found.lower_s, found.upper_s) == (0, math.inf)
    mine = joinable(timelines(frame(*rows)), signed_in=False)
    assert "A" not in set(mine["vantage"])


@pytest.mark.parametrize(
    "told", [each for each in ENDS if each.id not in ("closed before it was asked for", *TELL_NO_LIFE)]
)
def test_what_was_asked_before_it_ended_stays_a_bound(told: list[Observation]) -> None:
    """A room that goes between two polls: never seen by the last that was asked while it was surely there."""
    found = line("api:guest", created(), guest("absent", 2), *told, *LATE)
    assert (found.lower_s, found.polls, found.after_end, found.right_censored) == (2, 1, 2, True)


@pytest.mark.parametrize("told", [each for each in ENDS if each.id in TELL_NO_LIFE])
def test_where_nothing_tells_that_the_room_was_there_nothing_is_a_bound(told: list[Observation]) -> None:
    found = line("api:guest", created(), guest("absent", 2), *told, *LATE)
    assert (found.lower_s, found.polls, found.after_end) == (0, 0, 3)


def test_an_event_that_is_still_open_on_a_relay_is_no_proof_that_the_room_is_there() -> None:
    """A slow 404, answered when the room had gone and the host had not yet told the relays."""
    slow = info(3, outcome="absent", received=9)
    rows = [event(1), info(2, outcome="absent"), slow, event(10), event(12, created=11, status="closed")]
    found = line("api:info", *rows)
    assert (found.polls, found.unknown, found.after_end) == (0, 2, 2)
    found = line("api:info", *rows, rooms("visible", 2.5, received=2.6))
    assert (found.polls, found.after_end, found.lower_at) == (1, 1, pd.Timestamp(at(2), tz="UTC"))


NO_ENDS = [
    pytest.param([], id="nothing tells"),
    pytest.param([rooms("absent", 25)], id="never listed"),
    pytest.param([rooms("visible", 5), rooms("unknown", 25, failure=Failure.TIMEOUT)], id="the list does not come"),
    pytest.param([rooms("visible", 5), rooms("absent", 25), rooms("visible", 95)], id="a list that flickers"),
    pytest.param([rooms("visible", 5, sid="RM_a"), rooms("visible", 95, sid="RM_a")], id="the same room"),
    pytest.param([guest("visible", s, vantage="B") for s in (5, 95)] + [guest("absent", 25, vantage="B")], id="flaps"),
    pytest.param([info(5), info(25, outcome="absent", vantage="B")], id="another vantage that never had its record"),
    pytest.param([row(Source.API, Operation.DELETE, "refused", 25, failure=Failure.FORBIDDEN)], id="refused to delete"),
    pytest.param([webhook("room_started", 5), webhook("participant_left", 25)], id="a webhook of something else"),
    pytest.param([event(5), event(25, created=24, status="open")], id="an edit"),
    pytest.param([webhook("room_finished", 25, room="another")], id="another room's end"),
]


@pytest.mark.parametrize("told", NO_ENDS)
def test_without_an_end_absents_bound_as_ever(told: list[Observation]) -> None:
    assert line("api:guest", created(), *told, *LATE).lower_s == 90


def test_what_was_seen_goes_as_ever() -> None:
    found = line(
        "api:guest", created(), guest("absent", 2), guest("visible", 6), rooms("visible", 7), *LATE, deleted(20)
    )
    assert (found.lower_s, found.upper_s, found.gone_lower_s, found.gone_upper_s) == (2, 6.1, 6, 30.1)
    assert (found.after_end, found.polls) == (0, 4)


def test_a_relay_goes_on_showing_the_event_of_a_room_that_is_gone() -> None:
    silent = row(Source.RELAY, Operation.QUERY, "absent", 60, target="wss://two")
    gone = [rooms("visible", 5), rooms("absent", 25), webhook("room_finished", 25)]
    assert line("relay:wss://two", created(), event(1), *gone, silent).lower_s == 60
    assert line("relay:wss://two", created(), event(1), event(40, status="closed"), silent).lower_s == 60
    assert line("relay:wss://two", created(), event(1), deleted(40), silent).lower_s == 0
    assert line("relay:wss://two", created(), event(1), event(40, withdrawn=True), silent).lower_s == 0


def test_what_one_relay_still_shows_another_may_have_dropped() -> None:
    silent = row(Source.RELAY, Operation.QUERY, "absent", 20, target="wss://two")
    seen = row(Source.RELAY, Operation.QUERY, "visible", 22, target="wss://two", detail=detail(created_at=1))
    gone = event(40, withdrawn=True)
    assert line("relay:wss://two", event(1), silent, event(30), gone).polls == 0
    assert line("relay:wss://two", event(1), silent, event(30), gone, seen).lower_at == pd.Timestamp(at(20), tz="UTC")


def test_the_going_between_two_rooms_of_one_name_is_no_flap() -> None:
    first, second = rooms("visible", 5, sid="RM_a"), rooms("visible", 40, sid="RM_b")
    between = [rooms("absent", 20), guest("absent", 21)]
    asked = [created(), first, guest("visible", 6), *between, second, guest("visible", 41)]
    assert line("livekit:room", *asked).flaps == 0
    assert line("api:guest", *asked).flaps == 0
    same = [created(), first, guest("visible", 6), *between, rooms("visible", 40, sid="RM_a"), guest("visible", 41)]
    assert line("livekit:room", *same).flaps == 1
    assert line("api:guest", *same).flaps == 1


@st.composite
def lives(draw: st.DrawFn) -> tuple[int, int, int, list[tuple[int, int]]]:
    """A room there from `born` to `died`, a layer that shows it from `shown` on, and polls (sent, answered), ticks."""
    born = draw(st.integers(0, 20))
    died = draw(st.integers(born + 2, 50))
    polls = draw(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 3)), min_size=1, max_size=12))
    return born, died, draw(st.integers(born, died + 30)), polls


@pytest.mark.slow
@given(lives(), st.sampled_from(["list", "delete", "webhook", "sid"]), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=2 * settings.default.max_examples, deadline=None)  # a loaded machine is no failure
def test_however_it_ends_the_interval_holds_the_truth(
    life: tuple[int, int, int, list[tuple[int, int]]], how: str, seen: int, looked: int
) -> None:
    """Where something tells of the end, a layer that came and went between two polls is in its interval, too."""
    born, died, shown, polls = life
    rows = [created()]
    for sent, took in polls:
        shows = shown <= sent + took < died
        rows.append(guest("visible" if shows else "absent", sent, received=sent + 2 * took + 0.1))
    there = min(max(seen, born), died - 1)
    rows.append(rooms("visible", there, received=there + 0.1, vantage="B", sid="RM_a"))
    end: dict[str, Observation] = {
        "list": rooms("absent", died + looked, vantage="B"),
        "delete": deleted(died - 0.05, received=died + 0.01, vantage="B"),
        "webhook": webhook("room_finished", died + looked, remote_at=at(math.floor(died)), vantage="B"),
        "sid": rooms("visible", died + looked + 1, sid="RM_b", vantage="B"),
    }
    found = line("api:guest", *rows, end[how])
    truth = shown if shown < died else math.inf
    assert found.lower_s < truth or (found.lower_s <= truth and truth == 0)
    assert truth <= found.upper_s


# LiveKit down

REFUSED = {"failure": Failure.REFUSED, "received": None}


def lost(sent: float, failure: Failure = Failure.REFUSED, **more: Any) -> Observation:
    return rooms("unknown", sent, failure=failure, **more)


@pytest.mark.parametrize(
    "failure",
    [Failure.REFUSED, Failure.RESET, Failure.CLOSED, Failure.TIMEOUT, Failure.UNREACHABLE, Failure.SERVER_ERROR],
)
def test_a_404_to_a_join_proves_nothing_while_livekit_is_down(failure: Failure) -> None:
    down = [rooms("absent", 1), lost(4, failure), rooms("absent", 12)]
    asked = [guest("absent", 0.5), guest("absent", 6), guest("visible", 20)]
    found = line("api:guest", created(), *down, *asked)
    assert (found.lower_s, found.polls, found.unknown, found.livekit_down) == (0.5, 2, 1, 1)
    assert line("api:info", created(), *down, row(Source.API, Operation.INFO, "absent", 6)).lower_s == 6


DOWN = [
    pytest.param([lost(4)], 0, id="until long after"),
    pytest.param([lost(4), rooms("visible", 5)], 6, id="it answered before the 404"),
    pytest.param([rooms("visible", 4.5), lost(4)], 6, id="it answered after the failure"),
    pytest.param([lost(8)], 0, id="it failed after the 404, and nothing says when it began"),
    pytest.param([rooms("visible", 7), lost(8)], 6, id="it answered between the 404 and the failure"),
    pytest.param([lost(6 - DOWN_S - 1)], 6, id="long ago"),
    pytest.param([lost(4, vantage="B")], 0, id="as another vantage found"),
    pytest.param([lost(4, vantage="B"), rooms("visible", 1, received=1.1)], 6, id="whose way there is blocked"),
    pytest.param([lost(4, target="wss://other", run_id="other")], 6, id="another LiveKit"),
    pytest.param([lost(4, Failure.UNAUTHORISED)], 6, id="a refusal is an answer"),
    pytest.param([rooms("probe_error", 4, failure=Failure.INTERNAL)], 6, id="our own fault"),
    pytest.param([row(Source.LIVEKIT, Operation.MEDIA, "unknown", 4, failure=Failure.TIMEOUT)], 6, id="media alone"),
]


@pytest.mark.parametrize(("down", "lower"), DOWN)
def test_livekit_is_down_from_answer_to_answer(down: list[Observation], lower: float) -> None:
    asked = [guest("absent", 6), guest("absent", 6, vantage="B"), guest("visible", 40)]
    assert line("api:guest", created(), *down, *asked).lower_s == lower


# held up


@pytest.mark.parametrize(
    "marks",
    [
        pytest.param([guest("absent", 4, loop_lag_s=14.0)], id="its own lag"),
        pytest.param([guest("absent", 4), disturbed(Failure.LOOP_BLOCKED, 4.05, 9)], id="a blocked loop"),
        pytest.param([guest("absent", 4), disturbed(Failure.SUSPENDED, 2, 5)], id="a sleep"),
        pytest.param([guest("absent", 4), disturbed(Failure.CLOCK_STEP, 4.05, 4.05)], id="a step of the clock"),
    ],
)
def test_an_absent_of_an_observer_who_was_held_up_bounds_nothing(marks: list[Observation]) -> None:
    found = line("api:guest", created(), guest("absent", 1), *marks, guest("visible", 8, loop_lag_s=9.0))
    assert (found.lower_s, found.upper_s, found.held_up) == (1, 8.1, 1)


@pytest.mark.parametrize(
    "marks",
    [
        pytest.param([guest("absent", 4, loop_lag_s=0.3)], id="a little lag"),
        pytest.param([guest("absent", 4), disturbed(Failure.LOOP_BLOCKED, 4.2, 9)], id="after it"),
        pytest.param([guest("absent", 4), disturbed(Failure.LOOP_BLOCKED, 1, 9, run_id="other")], id="another run"),
        pytest.param([guest("absent", 4), disturbed(Failure.LOOP_BLOCKED, 1, 9, vantage="B")], id="another vantage"),
    ],
)
def test_who_was_not_held_up_proves_as_ever(marks: list[Observation]) -> None:
    found = line("api:guest", created(), guest("absent", 1), *marks, guest("visible", 8))
    assert (found.lower_s, found.held_up) == (4, 0)


def late(sent: float, due: float, outcome: str = "absent") -> Observation:
    return guest(outcome, sent, planned_at=at(due))


UNWATCHED = [
    pytest.param([late(3, 0.7), late(5, 5)], 0, 2, id="late at first"),
    pytest.param([late(1, 1), late(5, 2), late(7, 7)], 1, 2, id="late later"),
    pytest.param([late(1, 1), late(5, 4.6), late(7, 7)], 7, 0, id="a little late"),
    pytest.param([late(3, 0.7), late(5, 5), rooms("visible", 8)], 5, 0, id="the room was there afterwards"),
    pytest.param([late(3, 0.7), late(5, 5), info(8)], 0, 2, id="a record is no room"),
    pytest.param([late(3, 0.7), late(5, 5), event(8), deleted(9)], 0, 2, id="nor is an event, or a DELETE"),
    pytest.param([late(3, 0.7), late(5, 5), late(8, 8, "visible")], 5, 0, id="it showed in the end"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "lower", "held"), UNWATCHED)
def test_what_could_come_and_go_while_we_were_late_is_not_never(
    asked: list[Observation], lower: float, held: int
) -> None:
    found = line("api:guest", created(), *asked)
    assert (found.lower_s, found.held_up) == (lower, held)


def test_nobody_is_late_for_a_nest_that_is_not_made_yet() -> None:
    """A PUT that takes 4 s: what was due meanwhile is asked after it."""
    slow = row(Source.API, Operation.CREATE, "accepted", 0, nest="", room="", received=4)
    found = line("api:guest", slow, late(4.1, 0.7), late(4.2, 2), late(6, 6))
    assert (found.lower_s, found.held_up) == (6, 0)


@pytest.mark.parametrize(("lag_s", "lower"), [(None, 5.0), (0.0, 5.0), (0.25, 4.75)])
def test_the_silence_before_a_push_ends_earlier_by_our_own_lag(lag_s: float | None, lower: float) -> None:
    """A relay that shares our machine pushes late when it is starved, as late as our loop runs."""
    pushed = {"received": 6.5, "loop_lag_s": lag_s}
    silence = row(Source.RELAY, Operation.SUBSCRIBE, "absent", 5, **pushed)
    push = row(Source.RELAY, Operation.SUBSCRIBE, "visible", 6.5, **pushed | {"detail": detail(created_at=1)})
    found = line(f"relay:{RELAY}", created(), silence, push)
    assert (found.lower_s, found.upper_s) == (lower, 6.5)
    assert found.lower_at == pd.Timestamp(at(lower), tz="UTC")
