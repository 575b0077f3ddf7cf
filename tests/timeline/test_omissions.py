"""What is left out of the laws is said, counted by nests."""

from __future__ import annotations

import pandas as pd
import pytest

from nestobs.observation.schema import Failure, Observation
from nestobs.timeline.failures import Failures
from nestobs.timeline.intervals import timelines
from nestobs.timeline.omissions import held_up_words, omitted, remarks
from worlds.nest_rows import NOON_S, created, deleted, event, frame, guest, info, rooms


def nests(count: int, *rows: Observation, first: int = 0) -> pd.DataFrame:
    """The rows, once for each of so many nests."""
    parts = []
    for number in range(first, first + count):
        names = {"trace_id": f"trace-{number}", "nest": f"30312:{'ab' * 32}:room-{number}", "room": f"room-{number}"}
        parts.append(frame(*rows).assign(**names))
    return pd.concat(parts, ignore_index=True)


NEW = (event(1), info(2, createdAt=NOON_S * 1_000), guest("absent", 1), guest("visible", 4))
EDIT = (event(1), info(2, createdAt=(NOON_S - 3_600) * 1_000), guest("visible", 4))
ENDED = (created(), deleted(3), guest("absent", 30))
DOWN = (created(), rooms("unknown", 4, failure=Failure.REFUSED), guest("absent", 5))
HELD = (created(), guest("absent", 4, loop_lag_s=2.0))
UNTOLD = (event(1), guest("absent", 1), guest("visible", 4))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (NEW, ["3 nests were edits of older rooms and are left out."]),
        (
            UNTOLD,
            ["3 nests were edits of older rooms and are left out.", "Of 4 of 4 nests only the event tells the age"],
        ),
        (ENDED, ["edits", "4 nests had ended before it was proven when they could be joined, and are left out."]),
        (DOWN, ["edits", "4 nests were asked for only while LiveKit could not be reached, when an API's 404 proves"]),
        (HELD, ["edits", "4 nests were asked for only while the observing machine itself was held up, and are left"]),
    ],
    ids=["edits", "no age", "ended", "LiveKit down", "held up"],
)
def test_each_reason_is_said_with_how_many_nests(rows: tuple[Observation, ...], said: list[str]) -> None:
    found = omitted(timelines(pd.concat([nests(4, *rows), nests(3, *EDIT, first=4)], ignore_index=True)))
    assert len(found) == len(said)
    assert all(words in sentence for words, sentence in zip(said, found, strict=True))


def test_one_is_said_as_one() -> None:
    assert omitted(timelines(nests(1, *EDIT))) == ["1 nest was an edit of an older room and is left out."]
    assert omitted(timelines(nests(1, *ENDED)))[0].startswith("1 nest had ended before it was proven when it could")


def test_where_nothing_is_left_out_nothing_is_said() -> None:
    assert omitted(timelines(nests(4, *NEW))) == []
    assert omitted(timelines(frame())) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (NEW, []),
        (EDIT, ["an edit of an older room"]),
        (ENDED, ["absent after its end: 1"]),
        (DOWN, ["absent with LiveKit down: 1"]),
        (HELD, ["absent while we were held up: 1"]),
    ],
    ids=["new", "edit", "ended", "LiveKit down", "held up"],
)
def test_each_line_is_remarked_on(rows: tuple[Observation, ...], said: list[str]) -> None:
    table = timelines(nests(1, *rows))
    (line,) = table[table["layer"] == "api:guest"].to_dict("records")
    assert remarks(line) == said


def test_that_too_much_was_held_up_is_said_with_the_bound() -> None:
    assert held_up_words(Failures(requests=100, held_up=10)) == []
    (said,) = held_up_words(Failures(requests=100, held_up=42))
    assert said.startswith(
        "42 % of the requests in this window were held up by the observing machine itself (42 of 100;"
    )
    assert "no recommendation can be made of it" in said
