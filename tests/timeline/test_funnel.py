"""What fallback and retry are worth: hand-written joins with known answers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from nestobs.estimate.comparison import join_shares
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Role, Source
from nestobs.timeline import funnel as worth
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins, judged
from worlds.asked import frame
from worlds.story import NOON, Story

pytestmark = pytest.mark.slow


class Joins(Story):
    """A story whose joins have steps, each 0.1 s long."""

    def asked(self, group: str, operation: Operation, attempt: int, sent: float, **more: Any) -> None:
        source = Source.LIVEKIT if operation in (Operation.SIGNAL, Operation.MEDIA) else Source.API
        shared = {"attempt_group": group, "attempt_no": attempt, "received_at": NOON + round((sent + 0.1) * SECOND_NS)}
        outcome = more.pop("outcome", Outcome.VISIBLE)
        if outcome is Outcome.ABSENT:
            more = {"status": 404, "failure": Failure.NOT_FOUND, "reason": "Nest not found"} | more
        self.row(source, operation, outcome, sent, **shared | more)

    def missed(self, group: str, operation: Operation, attempt: int, sent: float, **more: Any) -> None:
        self.asked(group, operation, attempt, sent, outcome=Outcome.ABSENT, **more)

    def ended(self, group: str, verdict: str, arrived: float, **more: Any) -> None:
        more = {"role": Role.JOINER} | more
        self.join(arrived, verdict, "", attempt_group=group, **more)


def table(made: Joins) -> pd.DataFrame:
    rows = frame(made.rows)
    found = worth.journeys(rows, joins(rows, timelines(rows)))
    return found.set_index("attempt_group")


def test_a_join_that_is_let_in_at_once_was_saved_by_nothing() -> None:
    made = Joins("room")
    made.asked("a", Operation.JOIN, 1, 5.0)
    made.asked("a", Operation.SIGNAL, 1, 5.2)
    made.ended("a", "authenticated", 5.0)
    one = table(made).loc["a"]
    assert (one["rounds"], one["token"], one["signalled"], one["media_tried"]) == (1, True, True, False)
    assert (one["by_fallback"], one["by_retry"], one["first_round"], one["lost"]) == (False, False, "granted", False)


def test_a_guest_token_after_a_404_of_its_own_is_fallback() -> None:
    made = Joins("room")
    made.missed("a", Operation.JOIN, 1, 5.0)
    made.asked("a", Operation.GUEST, 1, 5.2)
    made.asked("a", Operation.SIGNAL, 1, 5.4)
    made.ended("a", "guest_instead", 5.0)
    one = table(made).loc["a"]
    assert (one["by_fallback"], one["by_retry"]) == (True, False)


def test_a_guest_who_came_as_one_was_not_saved_by_fallback() -> None:
    made = Joins("room")
    made.asked("a", Operation.GUEST, 1, 5.0)
    made.asked("a", Operation.SIGNAL, 1, 5.2)
    made.ended("a", "guest", 5.0, role=Role.GUEST)
    assert not table(made).loc["a", "by_fallback"]


def test_a_later_round_is_retry_after_a_404_an_error_or_livekit() -> None:
    made = Joins("room")
    made.missed("a", Operation.GUEST, 1, 5.0, role=Role.GUEST)
    made.asked("a", Operation.GUEST, 2, 7.0, role=Role.GUEST)
    made.asked("a", Operation.SIGNAL, 2, 7.2)
    made.ended("a", "guest", 5.0, role=Role.GUEST)
    late = {"failure": Failure.TIMEOUT, "reason": "none", "received_at": None, "timeout_s": 3.0}
    made.asked("b", Operation.GUEST, 1, 15.0, outcome=Outcome.UNKNOWN, **late)
    made.asked("b", Operation.GUEST, 2, 19.0)
    made.asked("b", Operation.SIGNAL, 1, 19.2)
    made.ended("b", "guest", 15.0, role=Role.GUEST)
    made.asked("c", Operation.GUEST, 1, 25.0)
    made.asked("c", Operation.SIGNAL, 1, 25.2, outcome=Outcome.UNKNOWN, failure=Failure.RESET, reason="reset")
    made.asked("c", Operation.GUEST, 2, 27.0)
    made.asked("c", Operation.SIGNAL, 2, 27.2)
    made.ended("c", "guest", 25.0, role=Role.GUEST)
    found = table(made)
    assert found["by_retry"].all()
    assert found["first_round"].to_dict() == {"a": "404", "b": "error", "c": "LiveKit"}
    assert found["rounds"].tolist() == [2, 2, 2]


def test_fallback_and_retry_may_both_have_saved_one() -> None:
    made = Joins("room")
    for attempt, sent in ((1, 5.0), (2, 8.0)):
        made.missed("a", Operation.JOIN, attempt, sent)
    made.missed("a", Operation.GUEST, 1, 5.2)
    made.asked("a", Operation.GUEST, 2, 8.2)
    made.asked("a", Operation.SIGNAL, 1, 8.4)
    made.ended("a", "guest_instead", 5.0)
    one = table(made).loc["a"]
    assert one["by_fallback"]
    assert one["by_retry"]


def test_the_time_to_the_room_is_split_and_adds_up() -> None:
    made = Joins("room")
    made.missed("a", Operation.JOIN, 1, 5.0)
    made.missed("a", Operation.GUEST, 1, 5.2)
    made.asked("a", Operation.JOIN, 2, 9.0)
    made.asked("a", Operation.SIGNAL, 1, 9.2)
    made.asked("a", Operation.MEDIA, 1, 9.5)
    made.ended("a", "authenticated", 5.0)
    one = table(made).loc["a"]
    assert [one[name] for name in worth.PARTS] == pytest.approx([4.6 - 0.5, 0.3, 0.1, 0.1])
    assert one["total_s"] == pytest.approx(4.6)
    assert one["media_tried"]
    assert one["media"]


def test_an_unanswered_request_takes_its_timeout() -> None:
    made = Joins("room")
    late = {"failure": Failure.TIMEOUT, "reason": "none", "received_at": None, "timeout_s": 3.0}
    made.asked("a", Operation.GUEST, 1, 5.0, outcome=Outcome.UNKNOWN, **late)
    made.asked("a", Operation.GUEST, 2, 9.0)
    made.asked("a", Operation.SIGNAL, 1, 9.2)
    made.ended("a", "guest", 5.0, role=Role.GUEST)
    assert table(made).loc["a", "requests_s"] == pytest.approx(3.1)


def test_who_is_not_in_the_room_has_no_times() -> None:
    made = Joins("room")
    made.missed("a", Operation.GUEST, 1, 5.0)
    made.ended("a", "gone", 5.0, role=Role.GUEST)
    assert math.isnan(table(made).loc["a", "total_s"])


def test_the_fate_of_a_join_is_what_is_known_of_its_seat() -> None:
    made = Joins("room")
    made.asked("in", Operation.GUEST, 1, 4.0, vantage="Computer A")
    made.ended("in", "guest", 4.0, role=Role.GUEST)
    made.missed("lost", Operation.GUEST, 1, 5.0, vantage="Computer B")
    made.ended("lost", "gone", 5.0, role=Role.GUEST, vantage="Computer B")  # it ends at 7 s
    made.asked("", Operation.GUEST, 1, 8.0, vantage="Computer B")  # a poll of the same vantage
    made.ended("other", "gone", 6.0, role=Role.GUEST, vantage="Computer C")  # nothing was asked there
    made.missed("never", Operation.GUEST, 1, 7.0, vantage="Computer D")
    made.ended("never", "gone", 7.0, role=Role.GUEST, vantage="Computer D")
    found = table(made)
    assert dict(zip(found.index, worth.fates(found), strict=True)) == {
        "in": "joined", "lost": "lost", "other": "unclear", "never": "not_had",
    }  # fmt: skip


OWN_FAULTS = {
    "a budget that was spent": (Outcome.PROBE_ERROR, Failure.BUDGET, "rate_limited"),
    "a visit that was skipped": (Outcome.UNKNOWN, Failure.SKIPPED, "not_visited"),
    "a worker that was lost": (Outcome.PROBE_ERROR, Failure.INTERNAL, "livekit_unreachable"),
}


@pytest.mark.parametrize(("outcome", "failure", "verdict"), OWN_FAULTS.values(), ids=OWN_FAULTS)
def test_what_ended_by_our_own_fault_is_lost_to_nobody_and_counts_in_no_share(
    outcome: Outcome, failure: Failure, verdict: str
) -> None:
    made = Joins("room")
    own = {"outcome": outcome, "failure": failure, "reason": "our own doing"}
    made.asked("a", Operation.GUEST, 1, 5.0, **own)
    made.ended("a", verdict, 5.0, role=Role.GUEST)
    made.rows[-1] = replace(made.rows[-1], **own)
    made.asked("", Operation.GUEST, 1, 20.0)
    found = table(made)
    assert found.loc["a", "own_fault"]
    assert found["lost"].isna().all()
    assert list(worth.fates(found)) == ["unclear"]
    assert judged(found).empty
    assert {name: len(hit) for name, (hit, _) in join_shares(found).items()} == dict.fromkeys(
        ["joined", "lost", "guest_instead", "guide_untrue"], 0
    )


def test_answers_are_kept_apart_by_operation_target_and_vantage() -> None:
    made = Joins("room")
    refused = [Failure.UNAUTHORISED, Failure.FORBIDDEN, Failure.RATE_LIMITED, Failure.SERVER_ERROR, Failure.TIMEOUT,
               Failure.RESET, Failure.DNS, Failure.BAD_TOKEN, Failure.BUDGET, Failure.UNEXPECTED]  # fmt: skip
    for number, failure in enumerate(refused):
        made.asked("a", Operation.GUEST, number, 5.0 + number, outcome=Outcome.UNKNOWN, failure=failure, reason="x")
    made.missed("a", Operation.GUEST, 11, 16.0)
    made.asked("a", Operation.GUEST, 12, 17.0, target="https://other.example/api/v1/nests")
    made.asked("", Operation.GUEST, 1, 17.0)  # a poll is no join's request
    made.ended("a", "gone", 5.0, role=Role.GUEST)
    rows = frame(made.rows)
    found = worth.answers(rows, table(made).reset_index())
    assert set(found["operation"]) == {"guest"}
    assert dict(zip(found["answer"], found["n"], strict=True)) == dict.fromkeys(worth.ANSWERS, 1)
    assert found.loc[found["answer"] == "granted", "target"].tolist() == ["https://other.example/api/v1/nests"]


def test_joins_are_counted_where_they_arrived() -> None:
    made = Joins("room")
    for number, arrived in enumerate((5.0, 15.0, 16.0, 500.0)):
        made.asked(str(number), Operation.GUEST, 1, arrived)
        made.asked(str(number), Operation.SIGNAL, 1, arrived + 0.2)
        made.ended(str(number), "guest", arrived, role=Role.GUEST)
    found = worth.by_time(table(made).reset_index(), [NOON + s * SECOND_NS for s in (0, 10, 20, 30)])
    assert found["joined"].tolist() == [1, 2, 0]
    assert found[["lost", "not_had", "unclear"]].to_numpy().sum() == 0


def test_two_joins_of_the_same_instant_keep_their_own_steps() -> None:
    made = Joins("room")
    made.asked("a", Operation.GUEST, 1, 5.0)
    made.asked("a", Operation.SIGNAL, 1, 5.2)
    made.missed("b", Operation.GUEST, 1, 5.0)
    made.ended("a", "guest", 5.0, role=Role.GUEST)
    made.ended("b", "gone", 5.0, role=Role.GUEST)
    found = table(made)
    assert found["verdict"].to_dict() == {"a": "guest", "b": "gone"}
    assert found["token"].to_dict() == {"a": True, "b": False}


def test_no_join_gives_an_empty_table() -> None:
    rows = frame(Joins("room").rows)
    found = worth.journeys(rows, joins(rows, timelines(rows)))
    assert found.empty
    assert {column.name for column in worth.SCHEMA} <= set(found.columns)
    assert worth.answers(rows, found).empty
    assert worth.by_time(found, [0, 1])["joined"].tolist() == [0]
