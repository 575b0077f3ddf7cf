"""A race is called no fault, however its parts are late; a fault is named for what it is, whatever its maker does."""

from __future__ import annotations

import numpy as np
import pytest

from nestobs.diagnosis import diagnose
from nestobs.observation.schema import Operation, Outcome, Role, Source
from worlds.asked import frame, join, made, polls, row

J, G, S = Operation.JOIN, Operation.GUEST, Operation.SIGNAL
NO, YES = Outcome.ABSENT, Outcome.VISIBLE
AGES = (0.2, 0.6, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0, 20.0, 28.0, 38.0, 50.0)


def nest(name, *, info_s, room_s, guest_s, join_s, ages=AGES):
    """A nest whose layers show it from these ages on, asked at these ages."""
    names = {"trace_id": name, "nest": f"30312:{'ab' * 32}:{name}", "room": name}
    layers = (
        (Source.API, Operation.INFO, info_s),
        (Source.LIVEKIT, Operation.ROOMS, room_s),
        (Source.API, G, guest_s),
        (Source.API, J, join_s),
    )
    rows = [made(trace_id=name)]
    return rows + [each for layer in layers for each in polls(*layer, ages, **names)]


@pytest.mark.slow  # many races, each watched to its end
@pytest.mark.parametrize("sigma", [0.7, 0.9])
@pytest.mark.parametrize("late", ["all routes", "the record", "LiveKit"])
def test_of_races_that_are_watched_until_they_end_none_is_surely_a_fault(late, sigma):
    """Each is looked at just before it ends: the worst moment."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(150):
        info, guest, signed_in = 7.5 * np.exp(sigma * rng.standard_normal(3))
        room = 0.3
        if late == "the record":
            info = guest = signed_in
        if late == "LiveKit":
            info, room = 0.1, guest
            guest = signed_in = room
        ages = [age for age in AGES if age < min(guest, signed_in)] or AGES[:1]
        if ages[-1] < min(guest, signed_in) and late != "the record":
            rows += nest(f"n{number}", info_s=info, room_s=room, guest_s=99, join_s=99, ages=ages)
        else:
            rows += nest(f"n{number}", info_s=99, room_s=room, guest_s=99, join_s=99, ages=ages)
    found = diagnose(frame(rows))
    assert len(found) == 150
    sure = [each for each in found if each.first.cause == "api_join_fault" and each.first.confidence >= 0.9]
    assert len(sure) <= 1
    if late != "all routes":
        assert not [each for each in found if each.first.cause == "api_join_fault"]


FAULT = nest("room", info_s=0.1, room_s=0.1, guest_s=99, join_s=99)
SEAT = [row(Source.LIVEKIT, S, YES, 0.4, role=Role.HOST)]
DELETED = [row(Source.API, Operation.DELETE, Outcome.ACCEPTED, 60.0, role=Role.HOST, status=204)]


@pytest.mark.parametrize(
    "more",
    [[], SEAT, DELETED, [*SEAT, *DELETED], join(5, [(J, NO, 0.0), (G, NO, 0.1)], "gone", "")],
    ids=["alone", "its host is inside", "deleted when all was over", "both", "a join"],
)
def test_the_fault_is_named_whatever_its_maker_does(more):
    [found] = diagnose(frame([*FAULT, *more]))
    assert (found.first.cause, found.first.confidence >= 0.9) == ("api_join_fault", True)


def test_a_nest_that_was_deleted_while_people_came_was_deleted():
    late = [row(Source.API, Operation.DELETE, Outcome.ACCEPTED, 7.0, role=Role.HOST, status=204)]
    [found] = diagnose(frame([*nest("room", info_s=0.1, room_s=0.1, guest_s=99, join_s=99), *late]))
    assert found.first.cause == "deleted"
