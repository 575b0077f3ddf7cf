"""What a page about one nest says of its age, of a room made anew, and of answers that bound nothing."""

from __future__ import annotations

import inspect
import re

import pytest

from nestobs.diagnosis import Cause
from nestobs.observation.schema import Failure, Observation
from nestobs.timeline import incident
from nestobs.timeline.incident import facts
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins
from nestobs.timeline.layers import layers
from nestobs.timeline.requests import attempts
from worlds.nest_rows import NOON_S, created, deleted, event, frame, guest, info, rooms


def said(*rows: Observation) -> list[str]:
    observed = frame(*rows)
    lines = timelines(observed)
    return facts(observed, layers(observed, lines), attempts(observed, joins(observed, lines)), frame())


EDIT = "This was an edit of an older room, and no new nest: the nest was made at 2026-05-28 19:26:40 UTC, 1.0 h before"
ANEW = "LiveKit made the room anew between 2026-05-28 20:26:45 UTC and 2026-05-28 20:27:05 UTC (RM_a became RM_b): what"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([event(1), info(2, createdAt=(NOON_S - 3_600) * 1_000)], EDIT),
        ([created(), rooms("visible", 5, sid="RM_a"), rooms("absent", 15), rooms("visible", 25, sid="RM_b")], ANEW),
        (
            [created(), deleted(3), guest("absent", 30), guest("absent", 31)],
            "Of absents, 2 came after the nest had ended",
        ),
        (
            [created(), rooms("unknown", 4, failure=Failure.RESET), guest("absent", 5)],
            "Of absents, 1 came while LiveKit",
        ),
        ([created(), guest("absent", 4, loop_lag_s=2.0)], "Of absents, 1 came while we ourselves were held up"),
    ],
    ids=["edit", "made anew", "ended", "LiveKit down", "held up"],
)
def test_what_is_found_is_said_once(rows: list[Observation], words: str) -> None:
    assert len([sentence for sentence in said(*rows) if sentence.startswith(words)]) == 1


def test_what_a_cause_says_is_not_said_again() -> None:
    observed = frame(created(), guest("refused", 4, failure=Failure.FORBIDDEN, status=403))
    lines = timelines(observed)
    given = (observed, layers(observed, lines), attempts(observed, joins(observed, lines)), frame())
    assert [one for one in facts(*given) if "403" in one] == ["1 request was 403, forbidden."]
    assert not [one for one in facts(*given, told={"forbidden"}) if "403" in one]


def test_the_ids_of_causes_are_those_that_there_are() -> None:
    named = set(re.findall(r'"([a-z]+(?:_[a-z]+)+)"', inspect.getsource(incident)))
    assert {"api_join_fault", "bad_token", "rate_limited"} <= named & set(Cause)


def test_a_room_that_is_made_anew_all_the_time_does_not_fill_the_page() -> None:
    sentences = said(created(), *(rooms("visible", n, sid=f"RM_{n}") for n in range(1, 10)))
    assert len([one for one in sentences if "made the room anew between" in one]) == 3
    assert "It made the room anew 5 times more." in sentences


def test_of_a_new_nest_nothing_of_the_kind_is_said() -> None:
    rows = [event(1), info(2, createdAt=NOON_S * 1_000), *(rooms("visible", 5 * n, sid="RM_a") for n in (1, 2, 3))]
    sentences = said(*rows, guest("absent", 1), guest("visible", 3))
    assert not [one for one in sentences if "older" in one or "anew" in one or one.startswith("Of absents")]
