"""What the clocks of host and LiveKit show of themselves, where how far they are off is known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.observation.schema import Observation
from nestobs.timeline.intervals.stamps import Ahead, stamp_words
from worlds.nest_rows import NOON_S, at, created, event, frame, info, rooms, webhook

APART = st.floats(-600, 600)
OURS = {"clock_offset_s": 0.0, "clock_error_s": 0.1, "sync_age_s": 0.0}


def stamped(off_s: float, at_s: float) -> int:
    """What a clock that is so far ahead writes at this second after noon, as seconds after noon."""
    return math.floor(at_s + off_s)


def told(*rows: Observation) -> str:
    return " ".join(stamp_words(frame(*rows)))


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert stamp_words(frame()) == []
    assert told(created()) == ""
    assert told(event(1, created=stamped(0.0, 1.0))) == ""


@pytest.mark.parametrize(("off_s", "words"), [(40.0, "ahead of"), (-40.0, "behind")])
def test_a_host_whose_clock_is_off_shows_it_in_its_event(off_s: float, words: str) -> None:
    made = info(2, createdAt=round((NOON_S + 0.4) * 1_000), **OURS)
    said = told(event(1.5, created=stamped(off_s, 1.0), **OURS), made)
    found = [float(word) for word in said.replace(" to ", " ").split() if word.replace(".", "").isdigit()]
    assert said.startswith("The host's clock was ")
    assert f" s {words} the API's" in said
    assert abs(off_s) - 1.8 <= found[0] <= abs(off_s) <= found[1] <= abs(off_s) + 1.8


def test_a_host_that_is_right_is_said_to_be_so_with_how_sure_that_is() -> None:
    made = info(2, createdAt=round((NOON_S + 0.4) * 1_000), **OURS)
    said = told(event(1.5, created=stamped(0.0, 1.0), **OURS), made)
    assert said.startswith("The host's clock was between ")


def test_of_clocks_that_nobody_compared_nothing_is_said() -> None:
    """The API's own stamp is on its clock, and our receipt on ours."""
    here = event(1.5, created=stamped(40.0, 1.0), run_id="here", vantage="here")
    there = event(1.5, created=stamped(40.0, 1.0), run_id="there", vantage="there", **OURS)
    assert told(here, there) == ""


@given(off_s=APART, made_s=st.floats(0.1, 5), signs_s=st.floats(0, 3), shows_s=st.floats(0.1, 100))
def test_what_is_said_of_a_host_is_true(off_s: float, made_s: float, signs_s: float, shows_s: float) -> None:
    from nestobs.timeline.intervals.stamps import _read, host_ahead

    signed_s = made_s + signs_s
    rows = [event(signed_s + shows_s, created=stamped(off_s, signed_s), **OURS)]
    rows.append(info(9, createdAt=math.floor((NOON_S + made_s) * 1_000), **OURS))
    read = _read(frame(*rows))
    assert read is not None
    found = host_ahead(read)
    assert found.least_s <= off_s <= found.most_s + 0.001
    assert found.most_s - found.least_s <= signs_s + shows_s + 1.3


@given(off_s=APART, takes_s=st.floats(0, 2), late_s=st.lists(st.floats(0, 300), max_size=4))
def test_what_is_said_of_livekit_is_true_however_late_its_webhooks_come(
    off_s: float, takes_s: float, late_s: list[float]
) -> None:
    from nestobs.timeline.intervals.stamps import _read, livekit_ahead

    begun = stamped(off_s, takes_s)
    rows = [created(), rooms("visible", takes_s + 1.0, remote_at=at(begun))]
    rows += [webhook("room_started", takes_s + late, remote_at=at(begun)) for late in late_s]
    read = _read(frame(*rows))
    assert read is not None
    found = livekit_ahead(read)
    assert found.least_s <= off_s <= found.most_s
    assert found.most_s - found.least_s <= takes_s + 2.2


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (Ahead(), ""),
        (Ahead(-1.0), ""),
        (Ahead(most_s=0.5), ""),
        (Ahead(12.0), "at least 12.0 s ahead of"),
        (Ahead(most_s=-12.0), "at least 12.0 s behind"),
        (Ahead(-1.2, 0.8), "between 1.2 s behind and 0.8 s ahead of"),
        (Ahead(-1.2, 80.0), ""),
        (Ahead(30.0, 80.0), "30.0 to 80.0 s ahead of"),
        (Ahead(-31.4, -30.0), "30.0 to 31.4 s behind"),
    ],
)
def test_what_is_known_is_said_in_words(ahead: Ahead, words: str) -> None:
    assert ahead.words == words
