"""Rows in, causes out: the main cases, each by the rows that a collector writes of it."""

from __future__ import annotations

import pytest

from nestobs.diagnosis import RULES, Cause, diagnose, diagnose_rows
from nestobs.diagnosis.answers import Answer
from nestobs.diagnosis.diagnose import SURE, Diagnosis
from nestobs.diagnosis.facts import Ends, Had
from nestobs.join.decision import GONE, STARTING
from nestobs.observation.detail import detail
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Role, Source
from worlds.asked import NOON, RELAY, frame, join, made, polls, row

V, AB, UN, RE, OURS = Outcome.VISIBLE, Outcome.ABSENT, Outcome.UNKNOWN, Outcome.REFUSED, Outcome.PROBE_ERROR
INFO, JOIN, GUEST, ROOMS, SIGNAL = Operation.INFO, Operation.JOIN, Operation.GUEST, Operation.ROOMS, Operation.SIGNAL
LATER = (2.0, 4.0, 8.0, 16.0, 32.0, 45.0)


def told(rows: list[Observation]) -> Diagnosis:
    found = diagnose_rows(rows)
    assert len(found) == 1
    return found[0]


def shut(at=LATER, **more) -> list[Observation]:
    return [*polls(Source.API, JOIN, 1e9, at, **more), *polls(Source.API, GUEST, 1e9, at, **more)]


def api(operation, failure, at=LATER, outcome=UN, **more) -> list[Observation]:
    facts = {"outcome": outcome, "failure": failure, "failure_layer": FailureLayer.API, "reason": "so it said"} | more
    return [
        row(Source.API, operation, facts["outcome"], s, **{k: v for k, v in facts.items() if k != "outcome"})
        for s in at
    ]


def event(status="open", at=1.0, **more) -> Observation:
    facts = detail(created_at=1_772_625_600, event_id="e", status=status)
    return row(Source.RELAY, Operation.QUERY, V, at, **{"detail": facts} | more)


def test_each_cause_has_one_rule_in_full():
    assert set(RULES) == set(Cause)
    for cause, rule in RULES.items():
        assert rule.cause is cause
        assert all((rule.theory, rule.needs, rule.refuted_by))
        assert rule.theory.endswith(".")
        assert not (rule.standing and rule.fault) or rule.operator, cause


def test_nothing_observed_is_nothing_diagnosed():
    assert diagnose(frame([])) == []


ACTIVE = polls(Source.API, INFO, 0.0, LATER)
NO_RECORD = polls(Source.API, INFO, 1e9, LATER)
LISTED = polls(Source.LIVEKIT, ROOMS, 0.0, LATER)


def seated(at: float) -> list[Observation]:
    return join(at, [(JOIN, V, 0.1), (SIGNAL, V, 0.2)], "authenticated", "")


SEATED = seated(2.0)
UNLISTED = polls(Source.LIVEKIT, ROOMS, 1e9, LATER)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "cause", "sure"),
    [
        pytest.param(seated(0.8), Cause.JOINED, True, id="joined"),
        pytest.param(SEATED, Cause.JOINED, False, id="joined by who came when a race may have been over"),
        pytest.param([*ACTIVE, *shut(), *LISTED], Cause.API_JOIN_FAULT, True, id="all three layers disagree"),
        pytest.param([*ACTIVE, *shut(), *UNLISTED], Cause.LIVEKIT_BEHIND_API, True, id="no room"),
        pytest.param([*NO_RECORD, *shut(), *LISTED], Cause.API_BEHIND_LIVEKIT, True, id="no record"),
        pytest.param(api(JOIN, Failure.BAD_TOKEN), Cause.BAD_TOKEN, True, id="token is an object"),
        pytest.param(api(JOIN, Failure.FORBIDDEN, outcome=RE), Cause.FORBIDDEN, True, id="403"),
        pytest.param(api(JOIN, Failure.RATE_LIMITED, outcome=RE), Cause.RATE_LIMITED, True, id="429"),
        pytest.param(api(JOIN, Failure.UNAUTHORISED, outcome=RE), Cause.AUTH_REJECTED, False, id="401"),
        pytest.param(api(JOIN, Failure.SERVER_ERROR, status=502), Cause.API_DOWN, True, id="502"),
        pytest.param(api(JOIN, Failure.UNEXPECTED, status=404), Cause.WRONG_DOOR, True, id="a page"),
        pytest.param(api(JOIN, Failure.BUDGET, outcome=OURS), Cause.OBSERVER_FAULT, True, id="our budget"),
        pytest.param([event("closed"), *NO_RECORD, *shut()], Cause.CLOSED_BY_HOST, True, id="closed"),
        pytest.param([event("planned"), *NO_RECORD, *shut()], Cause.NOT_BEGUN, True, id="planned"),
        pytest.param(
            [*shut(), row(Source.API, Operation.DELETE, Outcome.ACCEPTED, 1.0, role=Role.HOST)],
            Cause.DELETED,
            True,
            id="deleted",
        ),
        pytest.param(
            [row(Source.RELAY, Operation.PUBLISH, RE, 0.2, failure=Failure.RELAY_REFUSED, reason="blocked: no")],
            Cause.RELAY_REJECTED,
            True,
            id="refused by a relay",
        ),
        pytest.param(
            [row(Source.RELAY, Operation.QUERY, RE, 1.0, failure=Failure.AUTH_REQUIRED, reason="auth-required: who?")],
            Cause.RELAY_WANTS_AUTH,
            True,
            id="a relay wants a key",
        ),
        pytest.param([event()], Cause.UNDETERMINED, False, id="nobody asked"),
    ],
)  # fmt: skip  # a table reads better
def test_the_first_cause(rows, cause, sure):
    found = told([made(), *rows])
    assert found.first.cause is cause, found.as_dict()
    assert (found.first.confidence >= SURE) is sure
    if cause is not Cause.UNDETERMINED:
        assert {each for one in found.first.evidence for each in one.rows} <= {each.observation_id for each in rows}
        assert "Evidence: " in found.line()


def test_without_livekits_keys_both_readings_are_named_and_what_decides():
    found = told([made(), *ACTIVE, *shut()])
    assert {each.cause for each in found.causes[:2]} == {Cause.API_JOIN_FAULT, Cause.LIVEKIT_BEHIND_API}
    assert all(each.confidence < SURE for each in found.causes)
    assert "list" in found.first.next


def test_livekits_list_is_not_asked_for_where_it_has_told():
    at = (0.5, 1.5, 2.5)
    seen = [made(), *polls(Source.API, INFO, 0.0, at), *shut(at=at)]
    for rooms, asked in (([], True), (polls(Source.LIVEKIT, ROOMS, 0.0, at), False)):
        unsure = [each for each in told([*seen, *rooms]).causes if each.confidence < SURE]
        assert {each.cause for each in unsure} >= {Cause.API_JOIN_FAULT}
        assert any("LiveKit's list" in each.next for each in unsure) is asked
        assert all(each.next for each in unsure)


def test_a_nest_that_was_joined_later_was_a_race():
    at = (1.0, 2.0, 4.0, 8.0, 16.0)
    shown = [*polls(Source.API, JOIN, 6.0, at), *polls(Source.API, GUEST, 6.0, at)]
    found = told([made(), *polls(Source.API, INFO, 0.0, at), *polls(Source.LIVEKIT, ROOMS, 5.0, at), *shown])
    assert {Cause.JOINED, Cause.LIVEKIT_BEHIND_API} <= {each.cause for each in found.causes}
    assert not any(RULES[each.cause].fault for each in found.causes)


def test_what_proves_nothing_is_no_evidence_of_a_nests_absence():
    dull = {"failure": Failure.TIMEOUT, "failure_layer": FailureLayer.HTTP, "reason": "no answer"}
    rows = [row(Source.API, each, UN, s, **dull) for s in LATER for each in (INFO, JOIN, GUEST)]
    assert {each.cause for each in told([made(), *rows]).causes} == {Cause.API_DOWN}


def test_json_has_the_contracts_fields():
    found = told([made(), *ACTIVE, *shut(), *LISTED]).as_dict()
    assert set(found) == {"nest", "vantage", "causes"}
    assert set(found["causes"][0]) == {"id", "confidence", "evidence", "advice", "next"}
    assert found["causes"][0]["id"] == "api_join_fault"
    assert set(found["causes"][0]["advice"]) <= {"host", "guest", "operator"}


def test_a_frame_and_its_rows_tell_the_same():
    rows = [made(), *ACTIVE, *shut(), *LISTED, *join(50.0, [(JOIN, AB, 0.1), (GUEST, AB, 0.2)], "gone", GONE)]
    assert diagnose(frame(rows)) == diagnose_rows(rows)


def test_each_nest_and_vantage_is_diagnosed_for_itself():
    away = {"vantage": "Computer B", "trace_id": "away"}
    other = {"nest": f"30312:{'cd' * 32}:other", "room": "other", "trace_id": "other"}
    rows = [made(), *shut(), *shut(**away), *shut(**other), event(target=RELAY)]
    found = [(each.room, each.vantage) for each in diagnose(frame(rows))]
    assert found == [("room", "Computer A"), ("room", "Computer B"), ("other", "Computer A")]


# the decision table of the guide: three looks at a nest, young and old, without LiveKit's keys


def look(at: float, info: Outcome, guest: Outcome, signed: Outcome = AB) -> list[Observation]:
    """/info, the signed in's join and the guest's, once, by a stranger who has the event."""
    made_at = {"room": "room", "detail": detail(created_at=1_772_625_600, event_id="e", status="open")}
    asked = [(INFO, info), (JOIN, signed), (GUEST, guest)]
    seen = row(Source.RELAY, Operation.QUERY, V, at - 0.5, **made_at)
    return [seen, *(row(Source.API, each, came, at + n / 10) for n, (each, came) in enumerate(asked))]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        pytest.param(look(3.0, V, AB), {"livekit_behind_api", "api_join_fault"}, id="info 200 and guest 404, young"),
        pytest.param(look(900.0, V, AB), {"room_expired", "api_join_fault"}, id="info 200 and guest 404, old"),
        pytest.param(look(3.0, AB, V), {"api_behind_livekit", "joined"}, id="info 404 and guest 200"),
        pytest.param(look(3.0, AB, AB), {"api_behind_livekit"}, id="all 404, young"),
        pytest.param(look(900.0, AB, AB), {"room_expired", "deleted"}, id="all 404, old"),
        pytest.param(look(3.0, V, V, V), {"joined"}, id="all 200"),
    ],
)
def test_the_guides_decision_table(rows, named):
    found = told(rows)
    assert named <= {each.cause.value for each in found.causes}
    assert found.first.cause.value in named
    assert all(each.confidence < SURE for each in found.causes)
    if "joined" not in named:
        assert found.first.next


# gullibility


@pytest.mark.parametrize(
    ("more", "named"),
    [
        pytest.param(
            {"failure": Failure.CACHED, "status": 404, "reason": "a cache's copy"}, "negative_cache", id="copy"
        ),
        pytest.param({"failure": Failure.UNEXPECTED, "status": 404, "reason": "a page"}, "wrong_door", id="page"),
        pytest.param({"failure": Failure.TIMEOUT, "reason": "no answer"}, "api_down", id="silence"),
    ],
)
def test_a_404_that_proves_nothing_is_no_sign_of_the_join_fault(more, named):
    """/info is active and LiveKit lists the room: the joins' own words are what is missing."""
    rows = [
        row(Source.API, way, UN, s, failure_layer=FailureLayer.HTTP, **more) for s in LATER for way in (JOIN, GUEST)
    ]
    causes = {each.cause.value for each in told([made(), *ACTIVE, *LISTED, *rows]).causes}
    assert named in causes
    assert "api_join_fault" not in causes


def test_what_we_held_up_ourselves_is_nobodys_fault():
    lost = api(JOIN, Failure.TIMEOUT, loop_lag_s=4.0) + api(GUEST, Failure.TIMEOUT, loop_lag_s=4.0)
    assert told([made(), *ACTIVE, *LISTED, *lost]).first.cause is Cause.OBSERVER_FAULT


def test_a_proven_no_stays_one_however_late_we_took_notice_of_it():
    rows = [*ACTIVE, *LISTED, *shut(loop_lag_s=4.0), *shut(loop_lag_s=4.0, role=Role.GUEST)]
    assert told([made(), *rows]).first.cause is Cause.API_JOIN_FAULT


@pytest.mark.parametrize("other", Answer, ids=lambda answer: answer.name)
def test_what_once_came_of_a_step_is_not_how_it_stands_at_the_end(other):
    assert Ends(other) != Had(other)
    assert len({Ends(other), Had(other)}) == 2


RACES = {
    "a person is turned away for a moment": (Cause.API_BEHIND_LIVEKIT, (0.2, 0.5, 1.4), 1.2, Role.GUEST, True),
    "nobody but the observer": (Cause.API_BEHIND_LIVEKIT, (0.2, 0.5, 1.4), 1.2, Role.OBSERVER, False),
}


@pytest.mark.parametrize(("cause", "ages", "from_s", "role", "first"), RACES.values(), ids=list(RACES))
def test_a_race_that_is_short_is_named_and_never_surely_called_joined(cause, ages, from_s, role, first):
    shown = [each for way in (JOIN, GUEST) for each in polls(Source.API, way, from_s, ages, role=role)]
    records = polls(Source.API, INFO, from_s, ages)
    found = told([made(), *records, *polls(Source.LIVEKIT, ROOMS, 0.0, ages), *shown, *seated(2.0)])
    named = {each.cause: each for each in found.causes}
    assert cause in named
    assert (found.first.cause is cause) is first
    assert named[Cause.JOINED].confidence < SURE


def test_a_join_that_got_in_later_refutes_the_fault():
    later = join(50.0, [(JOIN, V, 0.1), (SIGNAL, V, 0.2)], "authenticated", "")
    causes = {each.cause for each in told([made(), *ACTIVE, *shut(), *LISTED, *later]).causes}
    assert Cause.API_JOIN_FAULT not in causes


def test_with_livekits_list_the_fault_is_named_at_once_and_surely_when_it_lasts():
    first = [row(Source.API, INFO, V, 2.0), row(Source.API, JOIN, AB, 2.1), row(Source.API, GUEST, AB, 2.2)]
    found = told([made(), *first, row(Source.LIVEKIT, ROOMS, V, 2.3)])
    assert found.first.cause is Cause.API_JOIN_FAULT
    assert found.first.standing_fault
    assert told([made(), *ACTIVE, *shut(), *LISTED]).first.confidence > found.first.confidence


def test_a_hosts_own_seat_does_not_say_that_the_nest_could_be_joined():
    seat = row(Source.LIVEKIT, SIGNAL, V, 1.0, role=Role.HOST)
    found = told([made(), seat, *NO_RECORD, *shut(), *LISTED])
    assert found.first.cause is Cause.API_BEHIND_LIVEKIT


def test_copies_of_a_404_come_before_the_race_that_they_prolong():
    copies = api(JOIN, Failure.CACHED, at=(8.0, 16.0, 32.0), status=404)
    early = (0.5, 1.0)
    found = told([made(), *polls(Source.API, INFO, 1e9, early), *shut(at=early), *LISTED, *copies])
    assert found.first.cause is Cause.NEGATIVE_CACHE


def load(at, **more) -> Observation:
    cut = {"failure": Failure.TIMEOUT, "failure_layer": FailureLayer.NOSTR, "reason": "no answer within 1.5 s"}
    return row(Source.CLIENT, Operation.LOAD, UN, at, **{"timeout_s": 1.5} | cut | more)


def test_a_relay_that_showed_the_event_before_the_client_asked_need_not_be_slow():
    lost = {"failure": Failure.TIMEOUT, "failure_layer": FailureLayer.NOSTR, "reason": "no answer within 5 s"}
    silent = [row(Source.RELAY, Operation.QUERY, UN, at, target=RELAY, **lost) for at in (9.0, 12.0, 20.0)]
    found = told([event(at=1.0, target=RELAY), load(10.0, target=RELAY), *silent])
    assert found.first.cause is Cause.RELAY_UNREACHABLE
    assert Cause.CLIENT_CUTOFF not in {each.cause for each in found.causes}


def test_what_is_not_reached_when_our_own_network_is_gone_is_our_fault():
    gone = {"failure": Failure.NO_NETWORK, "failure_layer": FailureLayer.PROBER, "reason": "the control is not reached"}
    control = row(Source.CLOCK, Operation.STEP, OURS, 3.0, nest="", room="", trace_id="", **gone)
    lost = api(JOIN, Failure.REFUSED, at=(4.0, 8.0, 16.0))
    found = [each for each in diagnose_rows([made(), *shut(at=(1.0,)), control, *lost]) if each.room]
    assert found[0].first.cause is Cause.OBSERVER_FAULT
    assert Cause.API_DOWN not in {each.cause for each in found[0].causes}
    before = [each for each in diagnose_rows([made(), *shut(at=(1.0,)), *lost]) if each.room]
    assert before[0].first.cause is Cause.API_DOWN


def test_an_answer_with_a_status_tells_however_late_we_read_it():
    late = {"loop_lag_s": 3.0, "reason": "HTTP 200 (text/html): the answer is not a JSON object"}
    found = told([made(), *api(JOIN, Failure.UNEXPECTED, status=200, **late)])
    assert found.first.cause is Cause.WRONG_DOOR


def test_a_relay_that_was_lost_for_a_while_is_listed_and_does_not_come_first():
    lost = {"failure": Failure.REFUSED, "failure_layer": FailureLayer.TCP, "reason": "connection refused"}
    silent = [row(Source.RELAY, Operation.QUERY, UN, at, target=RELAY, **lost) for at in (5.0, 6.0, 7.0)]
    found = told([made(), event(target=RELAY), *SEATED, *silent, event(at=9.0, target=RELAY)])
    assert [each.cause for each in found.causes] == [Cause.JOINED, Cause.RELAY_UNREACHABLE]


def test_another_server_in_livekits_place_is_seen_by_its_list_alone():
    page = {"failure": Failure.WRONG_PATH, "failure_layer": FailureLayer.SIGNAL, "reason": "a web page"}
    rooms = [row(Source.LIVEKIT, ROOMS, UN, at, **page) for at in LATER]
    causes = {each.cause for each in told([made(), *ACTIVE, *api(JOIN, Failure.BAD_TOKEN), *rooms]).causes}
    assert {Cause.BAD_TOKEN, Cause.LIVEKIT_UNREACHABLE} <= causes


@pytest.mark.parametrize(("info", "named"), [(AB, True), (V, False)])
def test_a_listener_is_made_by_a_late_record_only_where_the_record_was_late(info, named):
    seat = [(INFO, info, 0.1), (JOIN, AB, 0.2), (GUEST, V, 0.3), (SIGNAL, V, 0.4)]
    causes = {each.cause for each in told([made(), *join(2.0, seat, "guest_instead", "")]).causes}
    assert (Cause.LATE_RECORD_MADE_A_LISTENER in causes) is named


@pytest.mark.parametrize(
    ("late", "cause"),
    [
        (polls(Source.RELAY, Operation.QUERY, 1.0, (0.1, 0.6, 1.2, 3.0), target=RELAY), Cause.RELAY_DELAY),
        ([*shut(at=(0.2, 0.7)), *polls(Source.API, INFO, 0.0, (0.1, 0.5)), *UNLISTED], Cause.LIVEKIT_BEHIND_API),
        ([*shut(at=(0.2, 0.7)), *polls(Source.API, INFO, 1.0, (0.1, 0.6, 1.2)), *LISTED], Cause.API_BEHIND_LIVEKIT),
    ],
    ids=["relay", "room", "record"],
)
def test_who_got_in_after_a_short_race_joined_and_that_there_was_none_is_not_sure(late, cause):
    found = told([made(), *late, *SEATED])
    assert found.first.cause is Cause.JOINED
    assert found.first.confidence < SURE
    assert cause in {each.cause for each in found.causes}
    assert told([made(), *seated(0.8)]).first.sure


@pytest.mark.parametrize("how", ["deleted", "room went"])
def test_what_shut_the_doors_before_it_ended_is_told_beside_its_end(how):
    early, late = (0.5, 1.5, 2.5, 3.5), (6.0, 8.0, 12.0)
    live = [*polls(Source.API, INFO, 0.0, early), *polls(Source.LIVEKIT, ROOMS, 0.0, (1.0, 2.0, 3.9))]
    end = [*polls(Source.API, INFO, 1e9, late), *polls(Source.LIVEKIT, ROOMS, 1e9, late)]
    if how == "deleted":
        end.append(row(Source.API, Operation.DELETE, Outcome.ACCEPTED, 4.5, role=Role.HOST))
    found = told([made(), *live, *shut(at=(*early, *late)), *end])
    assert found.first.cause is (Cause.DELETED if how == "deleted" else found.first.cause)
    [fault] = [each for each in found.causes if each.cause is Cause.API_JOIN_FAULT]
    assert not fault.sure  # so young, it may have been a race
    assert Cause.API_JOIN_FAULT not in {each.cause for each in told([made(), *shut(at=late), *end]).causes}


def test_a_date_that_the_hosts_own_clock_explains_is_a_clock_that_is_wrong():
    hour = 3_600 * 1_000_000_000
    refused = api(JOIN, Failure.UNAUTHORISED, outcome=RE, status=401, remote_at=NOON + 2_000_000_000 - hour)
    said = join(314.0, [(GUEST, AB, 0.1)], "starting_up", STARTING, role=Role.GUEST)
    dated = event(detail=detail(created_at=NOON // 1_000_000_000 + 3_600, event_id="e", status="open"))
    found = told([made(), dated, *refused, *said])
    assert found.first.cause is Cause.AUTH_CLOCK_SKEW
    [misled] = [each for each in found.causes if each.cause is Cause.AGE_RULE_MISLED]
    assert not misled.sure
    alone = told([made(), dated, *said])
    assert (alone.first.cause, alone.first.sure) == (Cause.AGE_RULE_MISLED, True)


def test_while_livekit_fails_a_404_beside_what_was_there_is_not_the_apis_fault():
    lost = {"failure": Failure.REFUSED, "failure_layer": FailureLayer.TCP, "reason": "connection refused"}
    rooms = [*polls(Source.LIVEKIT, ROOMS, 0.0, (1.0, 3.0)), row(Source.LIVEKIT, ROOMS, UN, 30.0, **lost)]
    found = told([made(), *polls(Source.API, INFO, 0.0, (1.0, 3.0)), *shut(at=(2.0, 2.5)), *rooms])
    assert Cause.API_JOIN_FAULT not in {each.cause for each in found.causes}


@pytest.mark.parametrize("late", ["room", "record"])
def test_what_is_shown_after_the_last_404_alone_is_no_contradiction(late):
    asked, after = (1.0, 4.0, 8.0, 12.0), (13.0, 13.5)
    info, room = (0.0, 12.9) if late == "room" else (12.9, 0.0)
    seen = [*polls(Source.API, INFO, info, (*asked, *after)), *polls(Source.LIVEKIT, ROOMS, room, (*asked, *after))]
    causes = {each.cause: each.confidence for each in told([made(), *seen, *shut(at=asked)]).causes}
    assert causes.get(Cause.API_JOIN_FAULT, 0.0) <= 0.5
    assert (Cause.LIVEKIT_BEHIND_API if late == "room" else Cause.API_BEHIND_LIVEKIT) in causes


def test_a_room_that_went_a_moment_ago_may_be_made_anew():
    def gone(until: float, inside: int = 0) -> Diagnosis:
        nobody = {"detail": detail(participants=inside)}
        late = [9.0 + step for step in range(0, round(until), 2)]
        room = [*polls(Source.LIVEKIT, ROOMS, 0.0, (0.5, 7.0), **nobody), *polls(Source.LIVEKIT, ROOMS, 1e9, late)]
        return told([made(), *polls(Source.API, INFO, 0.0, (1.0, 7.0, *late)), *room, *shut(at=late)])

    assert [gone(until).first.cause for until in (4.0, 30.0)] == [Cause.ROOM_EXPIRED] * 2
    assert [gone(until).first.sure for until in (4.0, 30.0)] == [False, True]
    assert not gone(30.0, inside=1).first.sure  # it may have ended as the last one left


@pytest.mark.parametrize("copied", [True, False], ids=["a copy among them", "the API's own"])
def test_a_late_record_is_not_sure_where_a_copy_of_a_404_was_given_out(copied):
    cached = api(GUEST, Failure.CACHED, (0.9,), status=404, reason="a cache's copy (Age: 12): Nest not found")
    rows = [made(), *polls(Source.API, INFO, 3.0, (0.4, 2.9, 3.5)), *polls(Source.LIVEKIT, ROOMS, 0.0, (0.3, 3.0))]
    rows += [*shut(at=(0.5, 1.5, 2.5)), *(cached if copied else ()), *seated(4.0)]
    [late] = [each for each in told(rows).causes if each.cause is Cause.API_BEHIND_LIVEKIT]
    assert late.sure is not copied


def listed(at: float, sid: str = "", outcome: Outcome = V) -> Observation:
    return row(Source.LIVEKIT, ROOMS, outcome, at, detail=detail(sid=sid or None))


@pytest.mark.parametrize("own", [True, False], ids=["the host's own restart", "somebody's"])
@pytest.mark.parametrize("before", [False, True], ids=["by the restart", "before it"])
def test_a_room_that_was_gone_before_it_was_made_anew_may_have_ended_by_itself(own, before):
    """LiveKit lists it to 2 s, another from 30 s on, and none in between."""
    at, missing = (25.0, (3.3, 10.0, 20.0)) if before else (3.0, (3.3, 4.0))
    restart = [row(Source.API, Operation.RESTART, Outcome.ACCEPTED, at, role=Role.HOST)] if own else []
    shut = [row(Source.API, operation, AB, at) for at in missing for operation in (JOIN, GUEST)]
    rows = [listed(2.0, "RM_1"), *(listed(at, outcome=AB) for at in missing), listed(30.0, "RM_2")]
    found = told([made(), *seated(1.0), *rows, *shut, *restart, *seated(31.0)])
    named = {each.cause: each.confidence for each in found.causes}
    assert (named[Cause.RESTART_WINDOW] >= SURE) != before
    assert (named.get(Cause.ROOM_EXPIRED, 0.0) >= 0.4) == before
