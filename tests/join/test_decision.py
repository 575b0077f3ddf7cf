"""The decision by itself: a situation in, an action out. Driven through a whole join it is tested in test_flow.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nestobs.join.decision import (
    JOINED_AS_GUEST,
    LOADING,
    MESSAGES,
    THERE,
    TRYING,
    WAITING,
    Action,
    Answer,
    Kind,
    Situation,
    answer_to,
    next_action,
)
from nestobs.join.policy import GUIDE, RELEASED, Schedule, fixed, full_jitter

POLLING = fixed(1)


class Drawn:
    """Uniform numbers of the test's choice; `left` are those not yet drawn."""

    def __init__(self, *numbers):
        self.left = list(numbers)

    def random(self):
        return self.left.pop(0)


def after(asked, answer, policy=POLLING, rng=None, **more):
    """What is decided in this situation of somebody signed in, a nest of 5 s and one round."""
    told = {"signed_in": True, "age_s": 5.0, "polls": 1, "requests": 3} | more
    return next_action(policy, Situation(asked=asked, answer=answer, **told), rng or Drawn(0.5))


class TestTheDecision:
    """One pure function, which clients in other languages have too."""

    @pytest.mark.parametrize(
        ("policy", "signed_in", "first"),
        [
            (GUIDE, True, "info"),
            (GUIDE, False, "info"),
            (replace(GUIDE, ask_info=False), True, "join"),
            (replace(GUIDE, ask_info=False), False, "guest"),
        ],
    )
    def test_a_round_begins_as_the_policy_says(self, policy, signed_in, first):
        assert next_action(policy, Situation(signed_in=signed_in, age_s=None), Drawn()) == Action(first)

    def test_the_released_client_begins_nothing_without_the_event(self):
        told = next_action(RELEASED, Situation(signed_in=True, age_s=None), Drawn())
        assert told == Action("stop", kind=Kind.NOT_LOADED, message=LOADING)
        assert next_action(RELEASED, Situation(signed_in=True, age_s=1.0), Drawn()).do == "info"

    @pytest.mark.parametrize("answer", [answer for answer in Answer if answer is not Answer.LIMITED])
    def test_after_info_the_join_is_asked_whatever_it_said_short_of_a_limit(self, answer):
        assert after("info", answer) == Action("join")
        assert after("info", answer, signed_in=False) == Action("guest")

    def test_a_token_is_connected_with_and_the_page_told_what_then_holds(self):
        assert after("join", Answer.GRANTED) == Action("connect", kind=Kind.AUTHENTICATED)
        assert after("guest", Answer.GRANTED, signed_in=False) == Action("connect", kind=Kind.GUEST)
        instead = after("guest", Answer.GRANTED)
        assert instead == Action("connect", kind=Kind.GUEST_INSTEAD, message=JOINED_AS_GUEST)

    def test_a_404_to_the_join_asks_the_guests_join_at_once(self):
        assert after("join", Answer.ABSENT) == Action("guest")
        assert after("join", Answer.ABSENT, replace(POLLING, fallback=())).do == "wait"

    def test_a_wait_says_what_the_page_shows_meanwhile(self):
        young = f"{WAITING[Kind.STARTING_UP]}{TRYING}"
        assert after("guest", Answer.ABSENT) == Action("wait", 1.0, Kind.STARTING_UP, young, True)
        late = after("guest", Answer.ABSENT, replace(POLLING, message_threshold_s=5.0))
        assert late == Action("wait", 1.0, Kind.GONE, f"{WAITING[Kind.GONE]}{TRYING}", True)
        active = after("guest", Answer.ABSENT, age_s=3600.0, info_active=True, active_s=0.1)
        assert active == Action("stop", 0.0, Kind.STARTING_UP, THERE, True)
        assert after("guest", Answer.ABSENT, info_active=True, active_s=0.1).message == f"{THERE}{TRYING}"

    @pytest.mark.parametrize("answer", [Answer.ABSENT, Answer.LIMITED, Answer.UNANSWERED])
    @pytest.mark.parametrize("active_s", [None, 1.0])
    @pytest.mark.parametrize("age_s", [None, 1.0, 25.0, 29.0])
    @pytest.mark.parametrize("wording", ["guide", "released"])
    def test_whatever_waits_says_that_it_tries_by_itself_and_asks_nobody_to(self, answer, active_s, age_s, wording):
        policy = replace(POLLING, message_threshold_s=20.0, wording=wording)
        told = after("guest", answer, policy, age_s=age_s, active_s=active_s, signed_in=False)
        assert told.do == "wait"
        assert TRYING.strip() in told.message
        assert not any(words in told.message for words in ("try again", "no longer", "wait a moment"))

    @pytest.mark.parametrize("age_s", [None, 0.0, 3600.0])
    @pytest.mark.parametrize("room_there", [None, True, False])
    @pytest.mark.parametrize("asked", ["join", "guest"])
    def test_beside_an_active_info_nothing_is_no_longer_available(self, age_s, room_there, asked):
        policy = replace(POLLING, schedule=Schedule(), fallback=())
        facts = {"info_active": True, "active_s": 0.1, "room_there": room_there, "age_s": age_s}
        told = after(asked, Answer.ABSENT, policy, **facts)
        assert told.do == ("wait" if room_there and age_s == 3600.0 else "stop")  # one look more tells it
        assert "no longer" not in told.message

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (Answer.UNAUTHORISED, Kind.UNAUTHORISED),
            (Answer.FORBIDDEN, Kind.FORBIDDEN),
            (Answer.SPENT, Kind.RATE_LIMITED),
            (Answer.OTHER, Kind.API_DOWN),
            (Answer.BAD_TOKEN, Kind.BAD_TOKEN),
            (Answer.UNREACHABLE, Kind.LIVEKIT_UNREACHABLE),
        ],
    )
    def test_an_answer_that_time_does_not_mend_ends_the_join(self, answer, kind):
        told = after("guest", answer, replace(POLLING, error_retries=9))
        assert (told.do, told.kind, told.retry_offered) == ("stop", kind, False)

    @pytest.mark.parametrize("schedule", [Schedule(), fixed(2).schedule, full_jitter(2).schedule])
    def test_numbers_are_drawn_for_the_schedule_first_and_then_for_the_jitter(self, schedule):
        policy = replace(POLLING, schedule=schedule, jitter=0.5, horizon_s=0.0)  # no wait fits: drawn for all the same
        rng = Drawn(0.25, 0.75)
        assert after("guest", Answer.ABSENT, policy, rng).do == "stop"
        assert rng.left == {"none": [0.25, 0.75], "fixed": [0.75], "full_jitter": []}[schedule.kind]
        fits = after("guest", Answer.ABSENT, replace(policy, horizon_s=60.0), Drawn(0.25, 0.75))
        assert fits.wait_s == {"none": 0.0, "fixed": 2 * 0.75, "full_jitter": 2 * 0.25 * 1.25}[schedule.kind]

    def test_a_wait_may_end_at_the_horizon_and_not_a_nanosecond_later(self):
        policy = replace(POLLING, horizon_s=10.0)
        assert after("guest", Answer.ABSENT, policy, elapsed_s=9.0).do == "wait"
        assert after("guest", Answer.ABSENT, policy, elapsed_s=9.000_000_001).do == "stop"
        tenths = replace(fixed(0.2), horizon_s=0.3)  # .1 + .2 > .3 in floating point
        assert after("guest", Answer.ABSENT, tenths, elapsed_s=0.1).do == "wait"

    def test_error_retries_are_counted_by_the_caller(self):
        policy = replace(GUIDE, error_retries=2)
        told = [after("join", Answer.UNANSWERED, policy, errors=errors) for errors in range(3)]
        assert [(action.do, action.wait_s) for action in told] == [("wait", 1.0), ("wait", 2.0), ("stop", 0.0)]

    def test_every_kind_has_its_words(self):
        assert set(MESSAGES) == set(Kind)


@pytest.mark.parametrize("status", [0, None])
def test_no_status_is_no_answer(status):
    assert answer_to("guest", status) is Answer.UNANSWERED
    assert answer_to("connect", status) is Answer.UNREACHABLE
