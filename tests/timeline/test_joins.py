"""Real joins as rows, and the rule by which what was said is true, false, or cannot be told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from nestobs.join.decision import GONE, LOADING, RELEASED_FAILED, SIGN_IN_HINT, STARTING
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Role, Source
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import KINDS, SCHEMA, SETTLED_S, joins, open_intents
from worlds.asked import frame

pytestmark = pytest.mark.slow

NOON = 1_750_000_000 * SECOND_NS
NEST = "30312:" + "ab" * 32 + ":room"


def at(seconds: float) -> int:
    return NOON + round(seconds * SECOND_NS)


def api(operation: Operation, outcome: Outcome, sent: float, received: float | None = None, **more: Any) -> Observation:
    values: dict[str, Any] = {
        "observation_id": f"{operation}-{sent}",
        "run_id": "run",
        "trace_id": "trace",
        "vantage": "here",
        "nest": NEST,
        "room": "room",
        "source": Source.API,
        "target": "https://nests.example",
        "operation": operation,
        "sent_at": at(sent),
        "received_at": at(sent + 0.01 if received is None else received),
        "outcome": outcome,
    }
    return Observation(**values | more)


def made() -> Observation:
    return api(Operation.CREATE, Outcome.ACCEPTED, 0.0, role=Role.HOST)


def verdict(
    said: str, arrived: float, *, verdict: str = "starting_up", role: Role = Role.JOINER, **more: Any
) -> Observation:
    words = {"verdict": verdict, "message": said, "age_s": arrived, "retry": False}
    facts = detail(
        verdict=verdict, policy="fixed(1)", requests=3, elapsed_s=2.5, said={"guide": words, "released": words}
    )
    values: dict[str, Any] = {"source": Source.JOIN, "role": role, "attempt_group": f"group-{arrived}", "detail": facts}
    return api(Operation.VERDICT, Outcome.ABSENT, arrived, arrived + 2.5, **values | more)


def intent(row: Observation) -> Observation:
    return replace(
        row, received_at=None, outcome=Outcome.UNKNOWN, failure=Failure.INTENT, reason="about to join", detail="{}"
    )


def judged(*rows: Observation, **more: Any) -> pd.DataFrame:
    observations = frame([made(), *rows])
    return joins(observations, timelines(observations), **more)


def absent(sent: float, received: float | None = None, way: Operation = Operation.GUEST) -> Observation:
    return api(way, Outcome.ABSENT, sent, received)


def token(sent: float, received: float | None = None, way: Operation = Operation.GUEST) -> Observation:
    return api(way, Outcome.VISIBLE, sent, received)


def truth(found: pd.DataFrame) -> object:
    value = found["guide_true"].iloc[0]
    assert (value is pd.NA) == (found["released_true"].iloc[0] is pd.NA)
    return None if value is pd.NA else bool(value)


def test_a_join_is_one_row_with_the_documented_columns() -> None:
    row = verdict(STARTING, 5.0)
    found = judged(intent(row), row, absent(5.1), token(9.0))
    assert list(found.columns) == [column.name for column in SCHEMA]
    only = found.iloc[0]
    assert (only["nest"], only["room"], only["vantage"], only["role"]) == (NEST, "room", "here", "joiner")
    assert (only["policy"], only["verdict"], only["joined"], only["requests"]) == ("fixed(1)", "starting_up", False, 3)
    assert only["arrived_at"] == pd.Timestamp(at(5.0), tz="UTC")
    assert only["arrival_age_s"] == pytest.approx(5.0)
    assert only["elapsed_s"] == 2.5
    assert only["guide_message"] == STARTING
    assert only["became_joinable"]


def test_no_observation_gives_an_empty_frame_of_the_same_columns_and_types() -> None:
    nothing = joins(frame([]), timelines(frame([])))
    assert nothing.empty
    some = judged(verdict(STARTING, 5.0))
    assert dict(nothing.dtypes) == dict(some.dtypes)
    assert str(some["arrived_at"].dtype) == "datetime64[ns, UTC]"


@pytest.mark.parametrize("said", [STARTING, STARTING + SIGN_IN_HINT])
def test_starting_up_is_true_when_a_later_request_got_a_token(said: str) -> None:
    assert truth(judged(verdict(said, 5.0), absent(5.1), token(40.0))) is True


def test_starting_up_is_false_when_the_nest_was_still_absent_long_after_and_never_came() -> None:
    assert truth(judged(verdict(STARTING, 5.0), absent(5.1), absent(5.0 + SETTLED_S + 0.1))) is False


@pytest.mark.parametrize("said", [GONE, GONE + SIGN_IN_HINT, RELEASED_FAILED, LOADING])
def test_a_message_to_leave_is_true_only_when_it_never_could_be_joined_again(said: str) -> None:
    late = 5.0 + SETTLED_S + 0.1
    assert truth(judged(verdict(said, 5.0), absent(5.1), absent(late))) is True
    assert truth(judged(verdict(said, 5.0), absent(5.1), token(late))) is False
    assert truth(judged(verdict(said, 5.0), token(5.0))) is False  # joinable at that very moment


@pytest.mark.parametrize("said", [STARTING, GONE])
def test_a_watch_that_ends_too_soon_cannot_tell(said: str) -> None:
    assert truth(judged(verdict(said, 5.0), absent(5.1), absent(5.0 + SETTLED_S - 0.1))) is None
    assert truth(judged(verdict(said, 5.0))) is None


def test_a_token_seen_only_before_the_arrival_is_no_proof_that_it_came_later() -> None:
    assert truth(judged(verdict(GONE, 5.0), token(1.0), absent(5.1), absent(40.0))) is True


def test_a_token_to_a_request_already_under_way_cannot_tell() -> None:
    assert truth(judged(verdict(GONE, 5.0), token(4.9, 5.1), absent(40.0))) is None


def test_only_proof_counts_as_absence() -> None:
    timed_out = api(Operation.GUEST, Outcome.UNKNOWN, 50.0, failure=Failure.TIMEOUT, reason="no answer in 5 s")
    assert truth(judged(verdict(GONE, 5.0), absent(5.1), timed_out)) is None


def test_a_guest_is_not_helped_by_the_authenticated_join() -> None:
    rows = [absent(40.0), token(40.0, way=Operation.JOIN)]
    assert truth(judged(verdict(GONE, 5.0, role=Role.GUEST), *rows)) is True
    assert truth(judged(verdict(GONE, 5.0), *rows)) is False


def test_another_vantage_or_trace_proves_nothing_here() -> None:
    rows = [absent(40.0), replace(token(41.0), vantage="there"), replace(token(41.0), trace_id="other")]
    found = judged(verdict(GONE, 5.0), *rows)
    assert truth(found) is True
    assert not found["became_joinable"].iloc[0]


def test_a_message_that_one_is_in_is_true_and_one_about_a_request_cannot_be_judged() -> None:
    assert truth(judged(verdict("", 5.0, verdict="authenticated"))) is True
    assert truth(judged(verdict("Joined as Guest", 5.0, verdict="guest_instead"), absent(40.0))) is True
    assert truth(judged(verdict("The nests server does not answer.", 5.0, verdict="api_down"), absent(40.0))) is None


def test_whether_it_became_joinable_is_unknown_when_nothing_was_proven() -> None:
    assert judged(verdict(GONE, 5.0))["became_joinable"].iloc[0] is pd.NA


def test_an_unanswered_intent_is_counted_and_makes_no_row() -> None:
    done, cut = verdict(STARTING, 5.0), verdict(STARTING, 6.0)
    observations = frame([made(), intent(done), done, intent(cut)])
    assert open_intents(observations) == 1
    assert len(joins(observations, timelines(observations))) == 1
    assert open_intents(frame([])) == 0


def test_a_lone_surrogate_in_a_detail_makes_a_row() -> None:
    found = judged(replace(verdict(STARTING, 5.0), detail=json.dumps({"verdict": "gone", "policy": "\ud800 alone"})))
    assert found["policy"].iloc[0] == "? alone"


@pytest.mark.parametrize("text", ["{}", "[]", "not json", json.dumps({"verdict": 7, "said": {"guide": []}})])
def test_a_detail_of_any_shape_makes_a_row(text: str) -> None:
    found = judged(replace(verdict(STARTING, 5.0), detail=text))
    assert found["verdict"].iloc[0] == ""
    assert truth(found) is None


def test_a_join_of_a_nest_without_an_origin_has_no_age() -> None:
    observations = frame([verdict(STARTING, 5.0), absent(5.1)])
    found = joins(observations, timelines(observations))
    assert pd.isna(found["arrival_age_s"].iloc[0])


def test_the_age_is_the_same_on_whichever_clock_the_joiner_was() -> None:
    fast = {"vantage": "fast", "run_id": "other", "clock_offset_s": 2.0, "clock_error_s": 0.01}
    rows = [
        replace(verdict(STARTING, 7.0), **fast),
        replace(absent(8.0), **fast),
        replace(absent(6.0), clock_offset_s=0.0),
    ]
    assert judged(*rows)["arrival_age_s"].iloc[0] == pytest.approx(5.0)


# lost


def joining(arrived: float, *, group: str = "g", ended: float | None = None, **more: Any) -> Observation:
    """A join that ended without a seat, 2.5 s after its arrival."""
    row = verdict(STARTING, arrived, attempt_group=group, **more)
    return row if ended is None else replace(row, received_at=at(ended))


def own(sent: float, outcome: Outcome = Outcome.ABSENT, group: str = "g", **more: Any) -> Observation:
    """A guest's request of a join itself."""
    return api(Operation.GUEST, outcome, sent, attempt_group=group, **more)


def lost(*rows: Observation) -> dict[str, bool | None]:
    """By attempt group, None for NA."""
    found = judged(*rows)
    return {group: None if told is pd.NA else bool(told)
            for group, told in zip(found["attempt_group"], found["lost"], strict=True)}  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "was"),
    [
        pytest.param([token(8.0)], True, id="it came at 6.5 s, the middle of 5 and 8, and the join ended at 7.5 s"),
        pytest.param([token(10.1)], False, id="it came at 7.55 s, the middle of 5 and 10.1, when the join had ended"),
        pytest.param([absent(6.0), token(9.2)], False, id="a later proof of absence moves the middle to 7.6 s"),
        pytest.param([token(1.0)], True, id="it was there before the arrival"),
        pytest.param([token(1.0), absent(2.0), absent(3.0)], False, id="it had gone for good before the arrival"),
        pytest.param([absent(30.0)], False, id="it never came"),
        pytest.param([], False, id="it was not there when asked for the last time"),
    ],
)
def test_lost_is_without_a_seat_though_one_could_be_had_while_there(seen: list[Observation], was: bool) -> None:
    rows = [] if any(row.outcome is Outcome.VISIBLE and row.sent_at < at(5.0) for row in seen) else [own(5.0)]
    assert lost(joining(5.0), *rows, *seen) == {"g": was}


def test_who_has_a_seat_has_not_lost_it() -> None:
    assert lost(joining(5.0, verdict="guest", role=Role.GUEST)) == {"g": False}  # whatever is known of the nest
    assert lost(joining(5.0, verdict="guest"), token(1.0)) == {"g": False}


def test_what_cannot_be_known_is_not_lost_and_not_counted() -> None:
    assert lost(joining(5.0)) == {"g": None}  # nothing was asked
    timed_out = {"failure": Failure.TIMEOUT, "reason": "no answer in 2 s"}
    assert lost(joining(5.0), absent(4.0), own(5.5, Outcome.UNKNOWN, **timed_out)) == {"g": None}
    assert lost(joining(5.0), absent(6.0), own(5.5, Outcome.UNKNOWN, **timed_out)) == {"g": False}
    spent = {"outcome": Outcome.PROBE_ERROR, "failure": Failure.BUDGET, "reason": "our own request budget is spent"}
    assert lost(replace(joining(5.0), **spent), token(1.0)) == {"g": None}
    observations = frame([joining(5.0), token(1.0)])  # of a nest whose origin nobody saw
    assert joins(observations, timelines(observations))["lost"].isna().all()


def test_only_the_ways_open_to_a_joiner_give_a_seat() -> None:
    rows = [token(1.0, way=Operation.JOIN), own(5.0)]
    assert lost(joining(5.0, role=Role.GUEST), *rows) == {"g": False}
    assert lost(joining(5.0), *rows) == {"g": True}
    refused = replace(absent(5.5), source=Source.LIVEKIT, operation=Operation.SIGNAL, target="wss://livekit.example")
    unusable = own(5.0, Outcome.VISIBLE)  # a token that LiveKit let nobody in with
    assert lost(joining(5.0), unusable, refused) == {"g": False}


def test_what_another_place_saw_is_not_what_could_be_had_here() -> None:
    assert lost(joining(5.0), own(5.0), replace(token(5.5), vantage="there")) == {"g": False}


def test_at_one_arrival_all_are_as_patient_as_the_most_patient() -> None:
    """It comes at 11 s, by the middle: the one who left at once lost what the other would have had at 12 s."""
    rows = [joining(5.0, group="brief", ended=5.1), own(5.0, group="brief"), own(10.0, group="long"), token(11.99)]
    assert lost(*rows, joining(5.3, group="long", ended=13.0)) == {"brief": True, "long": True}
    assert lost(*rows, joining(5.3, group="long", ended=10.1)) == {"brief": False, "long": False}
    later = joining(6.0, group="long", ended=13.0)  # another arrival
    assert lost(*rows, later) == {"brief": False, "long": True}
    elsewhere = replace(joining(5.3, group="long", ended=13.0), run_id="other")
    assert lost(*rows, elsewhere) == {"brief": False, "long": True}


def test_beside_others_who_would_stay_a_joiner_is_as_patient_as_they() -> None:
    observations = frame([made(), joining(5.0), own(5.0), token(59.0)])  # by the middle it comes at 32 s
    for patience_s, was in ((0.0, False), (26.9, False), (27.1, True), (float("inf"), True)):
        assert joins(observations, timelines(observations), patience_s=patience_s)["lost"].tolist() == [was]


def test_a_join_written_twice_is_one_row() -> None:
    first = joining(5.0)
    again = replace(first, observation_id="again", received_at=at(9.0))
    assert len(judged(intent(first), first, again, own(5.0))) == 1
    assert len(judged(first, replace(again, run_id="other"))) == 2  # another run's may be called the same
    assert len(judged(*(replace(joining(5.0 + n), attempt_group="", observation_id=str(n)) for n in range(3)))) == 3


def test_of_a_nest_called_as_a_trace_nothing_is_known() -> None:
    named = {"trace_id": "", "nest": "trace"}
    rows = [replace(made(), observation_id="other", **named), absent(5.0), replace(absent(5.0), **named)]
    assert lost(joining(5.0), *rows) == {"g": None}


# rows


def test_rows_come_by_arrival() -> None:
    found = judged(verdict(GONE, 9.0), verdict(GONE, 3.0), verdict(GONE, 6.0), absent(1.0))
    assert list(found["arrival_age_s"].round()) == [3, 6, 9]


def test_every_kind_is_listed_once() -> None:
    assert len(set(KINDS)) == len(KINDS) == 16


def test_numbers_that_are_none_are_passed_over_and_a_nest_may_be_called_as_a_trace() -> None:
    odd = [
        verdict(
            STARTING,
            1.0,
            detail=f'{{"verdict": "gone", "requests": {number}, "elapsed_s": {number}}}',
            attempt_group=f"group-{place}",
        )
        for place, number in enumerate(("NaN", "Infinity", "-Infinity", "1" + "0" * 400, "1e300", '"3"', "null"))
    ]
    named = [verdict(STARTING, 2.0, trace_id="", nest="trace"), api(Operation.JOIN, Outcome.VISIBLE, 3.0)]
    rows = frame([made(), *odd, *named])
    found = joins(rows, timelines(rows))
    assert len(found) == len(odd) + 1
    assert set(found["requests"][: len(odd)]) == {0}
    assert set(found["elapsed_s"][: len(odd)]) == {2.5}
