"""How the doctor judges what it saw: tokens by what they hold, and a race told from a fault by what else is there."""

from __future__ import annotations

import uuid

import jwt
import pytest

from nestobs.collector.doctor.judgement import judge
from nestobs.collector.doctor.room import LOOKS_S, Tried
from nestobs.collector.doctor.steps import Log
from nestobs.collector.doctor.tokens import read_token
from nestobs.collector.doctor.verdict import of_the_doors, of_the_room
from nestobs.diagnosis import Cause
from nestobs.join.budget import Ration
from nestobs.lab.plan import Planner
from nestobs.lab.scenario import load_scenario
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Source
from nestobs.sources.vantage import Trace

NOW_S = 1_795_000_000


def signed(video=None, **claims):
    """A token as LiveKit takes it, or with something else in it."""
    grant = {"room": "r", "roomJoin": True} if video is None else video
    return jwt.encode({"exp": NOW_S + 60, "video": grant} | claims, "a-secret-of-more-than-thirty-two-bytes")


TOKENS = {
    "sound": (signed(), "", ""),
    "without an expiry": (jwt.encode({"video": {"room": "r", "roomJoin": True}}, "x" * 32), "", ""),
    "missing": (None, "bad_token", "missing"),
    "an unawaited promise": ({}, "bad_token", "(`{}`)"),
    "a list": (["eyJ"], "bad_token", "a list"),
    "a number": (7, "bad_token", "a number"),
    "true": (True, "bad_token", "true or false"),
    "empty": ("", "bad_token", "empty"),
    "words": ("token", "bad_token", "no JWT"),
    "a JWT of nothing": (jwt.encode({}, "x" * 32), "bad_token", "no JWT"),
    "of another service": (jwt.encode({"sub": "x"}, "x" * 32), "bad_token", "no `video`"),
    "a grant that is none": (signed(video="all"), "bad_token", "no `video`"),
    "for another room": (signed(video={"room": "x", "roomJoin": True}), "wrong_room_token", "room 'x'"),
    "for no room": (signed(video={"roomJoin": True}), "wrong_room_token", "no room"),
    "for a room that is a number": (signed(video={"room": 1, "roomJoin": True}), "wrong_room_token", "no room"),
    "to look on": (signed(video={"room": "r", "roomList": True}), "bad_token", "roomJoin"),
    "expired": (signed(exp=NOW_S - 5), "bad_token", "expired 5 s before"),
    "expired beyond all bounds": (signed(exp=-(10**400)), "", ""),
}


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_is_judged_before_anybody_tries_it(kind):
    value, cause, words = TOKENS[kind]
    token = read_token(value, "r", NOW_S)
    assert (str(token.cause), bool(token.trouble)) == (cause, bool(cause))
    assert words in token.trouble


def row(operation, at_s, outcome, **fields):
    """An answer at this age."""
    absent = {"failure": Failure.NOT_FOUND, "failure_layer": FailureLayer.API, "reason": "Nest not found"}
    shown = {"detail": '{"info": {"host": "me"}}'} if operation is Operation.INFO else {}
    at = round(at_s * SECOND_NS)
    return Observation(
        observation_id=str(uuid.uuid4()),
        run_id="run",
        vantage="here",
        source=Source.LIVEKIT if operation is Operation.ROOMS else Source.API,
        target="http://h/api/v1/nests",
        operation=operation,
        sent_at=at,
        received_at=at,
        outcome=outcome,
        **((absent if outcome is Outcome.ABSENT else shown) | fields),
    )


CALLS = {"info": Operation.INFO, "join": Operation.JOIN, "guest": Operation.GUEST, "list": Operation.ROOMS}


def tried(delays, looks=(*LOOKS_S, 10.5)):
    """What is seen at these looks of parts that show a room after these delays; inf for never."""
    found = Tried("me", trace=Trace(room="r"), lists_rooms=True)
    found.rows["create"] = [row(Operation.CREATE, 0.0, Outcome.ACCEPTED, status=200)]
    found.tokens["create"] = read_token(signed(), "r", NOW_S)
    for step, delay_s in delays.items():
        for at_s in looks:
            shown = at_s >= delay_s
            outcome = Outcome.VISIBLE if shown else Outcome.ABSENT
            found.rows.setdefault(step, []).append(row(CALLS[step], at_s, outcome))
            if shown:
                break
    return found


def told(found):
    steps = judge(found, Log([each for rows in found.rows.values() for each in rows], 1))
    return {step.name: step for step in steps}


NEVER = float("inf")
PICTURES = {
    "joins fail": ({"info": 0.0, "join": NEVER, "guest": NEVER, "list": 0.0}, "bad", Cause.API_JOIN_FAULT),
    "joins fail, all else within a second": (
        {"info": 1.0, "join": NEVER, "guest": NEVER, "list": 0.9},
        "bad",
        Cause.API_JOIN_FAULT,
    ),
    "all is slow": ({"info": 3.0, "join": NEVER, "guest": NEVER, "list": 0.1}, "unsaid", Cause.API_JOIN_FAULT),
    "LiveKit is slow": ({"info": 0.0, "join": NEVER, "guest": NEVER, "list": 8.0}, "unsaid", Cause.API_JOIN_FAULT),
    "LiveKit is late": (
        {"info": 0.0, "join": NEVER, "guest": NEVER, "list": NEVER},
        "unsaid",
        Cause.LIVEKIT_BEHIND_API,
    ),
    "the record is late": (
        {"info": NEVER, "join": NEVER, "guest": NEVER, "list": 0.0},
        "unsaid",
        Cause.API_BEHIND_LIVEKIT,
    ),
    "the race ended": ({"info": 0.5, "join": 6.0, "guest": 6.0, "list": 0.2}, "good", ""),
}


@pytest.mark.parametrize("picture", PICTURES)
def test_a_join_that_answers_404_is_judged_by_what_else_is_there(picture):
    delays, state, cause = PICTURES[picture]
    step = told(tried(delays))["join"]
    assert (step.state, step.cause) == (state, cause)
    if state == "unsaid" and cause is Cause.API_JOIN_FAULT:
        assert step.or_else, "both readings are named"


@pytest.mark.slow  # 2000 rooms each
@pytest.mark.parametrize("name", ["slow-api", "races", "calm"])
def test_a_race_of_the_lab_is_called_a_fault_at_most_once_in_a_thousand(name):
    planner, alarms = Planner(load_scenario(name), 1, 2), 0
    for number in range(2_000):
        plan = planner.nth(number)
        late = {step: max(NEVER if s is None else s for s in plan.routes[step]) for step in ("info", "join", "guest")}
        room = NEVER if plan.livekit_s is None else plan.livekit_s
        joins = {step: max(late[step], room) for step in ("join", "guest")}
        steps = told(tried(late | joins | {"list": room}))
        alarms += any(step.state == "bad" for step in steps.values())
    assert alarms <= 2, f"{alarms} of 2000 races"


def test_the_first_fault_is_the_one_without_which_no_join_succeeds():
    found = tried({"info": 0.0, "join": NEVER, "guest": NEVER, "list": 0.0})
    found.rows["ws://relay"] = [
        row(Operation.PUBLISH, 0.1, Outcome.REFUSED, failure=Failure.RELAY_REFUSED, reason="blocked")
    ]
    verdict = of_the_room([], list(told(found).values()))
    assert (verdict.code, verdict.id) == (1, Cause.API_JOIN_FAULT)
    assert verdict.faults[:2] == (Cause.API_JOIN_FAULT, Cause.RELAY_REJECTED)


def test_what_was_not_tried_is_not_said_to_be_well():
    assert of_the_doors([], "no room was made").not_tried
    assert of_the_doors([], "the budget is spent", wanted=True).code == 3


def test_a_ration_keeps_some_for_what_is_urgent():
    ration = Ration(3, 1)
    assert [ration.take(), ration.take(), ration.take()] == [True, True, False]
    assert [ration.take(urgent=True), ration.take(urgent=True)] == [True, False]
