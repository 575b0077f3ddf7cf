"""The join, driven by hand: no clock, no network, no mock. Each reply takes a tenth of a second."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.join.decision import (
    GONE,
    JOINED_AS_GUEST,
    LEAST_S,
    LOADING,
    NO_ROOM,
    PACES,
    RELEASED_FAILED,
    SIGN_IN_HINT,
    STARTING,
    THERE,
    Answer,
    Kind,
    Situation,
    answer_to,
    next_action,
)
from nestobs.join.flow import Guest, Info, Join, Load, Media, Reply, Signal, Stay, Wait, join_flow, rehearse
from nestobs.join.policy import (
    FAULT_AFTER_S,
    GUIDE,
    MANUAL_RETRY,
    RELEASED,
    Person,
    Policy,
    Schedule,
    exponential,
    fixed,
    full_jitter,
    standard_policies,
)
from nestobs.nostr import Address
from nestobs.observation.nest import Nest
from nestobs.observation.schema import Failure, Operation, Outcome
from nestobs.sources.api import judge

S = 1_000_000_000
ARRIVED = 1_700_000_000 * S
TOKEN = "eyJ-a-token-nobody-may-see"


def born(age_s, **changed):
    """A nest that is so old at arrival."""
    at = ARRIVED - round(age_s * S)
    fields = {
        "address": Address(30312, "ab" * 32, "room"),
        "event_id": "cd" * 32,
        "created_at": at,
        "first_created_at": at,
        "name": "A nest",
        "status": "open",
        "service": "https://api.example",
        "streaming": "wss+livekit://livekit.example",
        "host": "ab" * 32,
        "relays": (),
    }
    return Nest(**fields | changed)


def said(outcome, status=None, failure=None, **more):
    return Reply(0, outcome, status, failure, **more)


YES = said(Outcome.VISIBLE, 200, token=TOKEN)
NOT_FOUND = said(Outcome.ABSENT, 404, Failure.NOT_FOUND)
CACHED = said(Outcome.UNKNOWN, 404, Failure.CACHED)
WRONG_PATH = said(Outcome.UNKNOWN, 404, Failure.WRONG_PATH)
UNAUTHORISED = said(Outcome.REFUSED, 401, Failure.UNAUTHORISED)
FORBIDDEN = said(Outcome.REFUSED, 403, Failure.FORBIDDEN)
BROKEN = said(Outcome.UNKNOWN, 500, Failure.SERVER_ERROR)
TIMEOUT = said(Outcome.UNKNOWN, None, Failure.TIMEOUT)
RESET = said(Outcome.UNKNOWN, None, Failure.RESET)
LOST = said(Outcome.UNKNOWN, None, Failure.DROPPED)
NO_MEDIA_LIBRARY = said(Outcome.UNKNOWN)
IN = (YES, YES, YES)  # signal, media, stay


def limited(retry_after_s=None):
    return said(Outcome.REFUSED, 429, Failure.RATE_LIMITED, retry_after_s=retry_after_s)


def play(policy, *replies, signed_in=True, nest=None, took_s=0.1, seed=1, **more):
    """The verdict and the steps of a flow that got these replies in order; every Wait ends on time."""
    left, steps, now = list(replies), [], ARRIVED
    flow = join_flow(
        "room", signed_in, policy, arrived_at=ARRIVED, rng=random.Random(seed), nest=nest or born(5), **more
    )
    try:
        step = next(flow)
        while True:
            steps.append(step)
            if isinstance(step, Wait):
                now = max(now, step.until)
                reply = Reply(now, Outcome.VISIBLE)
            else:
                assert left, f"the flow asks for {step} after the last reply"
                now += round(took_s * S)
                reply = replace(left.pop(0), at=now)
            step = flow.send(reply)
    except StopIteration as ended:
        assert not left, f"the flow ended before {left}"
        return ended.value, steps


def names(steps):
    return [type(step).__name__.lower() for step in steps]


def waits_s(steps):
    """When each Wait ends, seconds after arrival."""
    return [(step.until - ARRIVED) / S for step in steps if isinstance(step, Wait)]


POLLING = fixed(1)
FAULTY = replace(fixed(1), give_up_age_s=300.0, horizon_s=300.0, max_requests=500)
"""Uses what /info says; patient enough to see a fault."""

ONCE = replace(GUIDE, name="once", give_up_age_s=0.0)


class TestOrder:
    def test_a_signed_in_joiner_asks_info_then_joins_connects_and_stays(self):
        verdict, steps = play(GUIDE, YES, YES, *IN)
        assert names(steps) == ["info", "join", "signal", "media", "stay"]
        assert (verdict.kind, verdict.message, verdict.joined) == (Kind.AUTHENTICATED, "", True)
        assert (verdict.requests, verdict.last_status) == (2, 200)

    def test_a_guest_never_asks_the_authenticated_route(self):
        verdict, steps = play(GUIDE, YES, YES, *IN, signed_in=False)
        assert names(steps) == ["info", "guest", "signal", "media", "stay"]
        assert (verdict.kind, verdict.message) == (Kind.GUEST, "")

    def test_a_404_to_the_authenticated_join_falls_back_to_guest_and_says_so(self):
        verdict, steps = play(GUIDE, YES, NOT_FOUND, YES, *IN)
        assert names(steps) == ["info", "join", "guest", "signal", "media", "stay"]
        assert (verdict.kind, verdict.message) == (Kind.GUEST_INSTEAD, JOINED_AS_GUEST)
        assert verdict.joined

    def test_a_cached_404_falls_back_as_a_true_one_does(self):
        verdict, steps = play(GUIDE, YES, CACHED, YES, *IN)
        assert names(steps)[:3] == ["info", "join", "guest"]
        assert verdict.kind is Kind.GUEST_INSTEAD

    def test_info_is_left_out_where_the_policy_does_not_ask(self):
        _, steps = play(replace(GUIDE, ask_info=False), YES, *IN)
        assert names(steps) == ["join", "signal", "media", "stay"]

    @pytest.mark.parametrize("info", [NOT_FOUND, BROKEN, TIMEOUT, CACHED], ids=lambda reply: str(reply.failure))
    def test_whatever_info_says_short_of_429_the_join_is_asked(self, info):
        verdict, _ = play(GUIDE, info, YES, *IN)
        assert verdict.kind is Kind.AUTHENTICATED

    def test_without_a_fallback_a_404_asks_no_guest(self):
        verdict, steps = play(replace(GUIDE, fallback=()), YES, NOT_FOUND)
        assert names(steps) == ["info", "join"]
        assert verdict.kind is Kind.STARTING_UP

    def test_timeouts_and_stay_are_the_policys(self):
        policy = replace(GUIDE, request_timeout_s=3.0, connect_timeout_s=4.0, stay_s=5.0)
        _, steps = play(policy, YES, NOT_FOUND, YES, *IN)
        assert steps == [Info(3.0), Join(3.0), Guest(3.0), Signal(TOKEN, 4.0), Media(4.0), Stay(5.0)]


@pytest.mark.parametrize(("refusal", "kind"), [(UNAUTHORISED, Kind.UNAUTHORISED), (FORBIDDEN, Kind.FORBIDDEN)])
class TestRefusals:
    """401 and 403 are answers about who asks."""

    eager = replace(POLLING, error_retries=9)

    def test_never_fall_back_and_are_never_retried(self, refusal, kind):
        verdict, steps = play(self.eager, YES, refusal)
        assert names(steps) == ["info", "join"]
        assert (verdict.kind, verdict.retry_offered, verdict.last_status) == (kind, False, refusal.status)

    def test_end_the_guests_join_too(self, refusal, kind):
        verdict, steps = play(self.eager, YES, NOT_FOUND, refusal)
        assert names(steps) == ["info", "join", "guest"]
        assert verdict.kind is kind

    def test_end_a_later_round_as_well(self, refusal, kind):
        verdict, steps = play(self.eager, YES, NOT_FOUND, NOT_FOUND, YES, refusal)
        assert names(steps) == ["info", "join", "guest", "wait", "info", "join"]
        assert verdict.kind is kind


class TestRateLimit:
    policy = replace(GUIDE, error_retries=3, horizon_s=60.0)

    def test_retry_after_is_honoured_to_the_second(self):
        verdict, steps = play(self.policy, YES, limited(7), YES, YES, *IN)
        assert waits_s(steps) == [7.2]  # two answers of .1 s, then 7 s
        assert verdict.kind is Kind.AUTHENTICATED

    def test_without_retry_after_the_gap_doubles(self):
        _, steps = play(self.policy, *[limited()] * 3, YES, YES, *IN)
        assert waits_s(steps) == pytest.approx([0.1 + 1, 1.2 + 2, 3.3 + 4])

    def test_a_wait_that_does_not_fit_ends_as_rate_limited_and_says_when(self):
        verdict, steps = play(self.policy, YES, limited(61))
        assert "wait" not in names(steps)
        assert (verdict.kind, verdict.last_status) == (Kind.RATE_LIMITED, 429)
        assert "in 61 s" in verdict.message

    def test_info_limited_ends_the_round_before_the_join_is_asked(self):
        verdict, steps = play(GUIDE, limited(5))
        assert names(steps) == ["info"]
        assert verdict.kind is Kind.RATE_LIMITED

    def test_no_fall_back_to_guest(self):
        _, steps = play(GUIDE, YES, limited(5))
        assert "guest" not in names(steps)

    @pytest.mark.parametrize("retry_after_s", [-5.0, 0.0])
    def test_a_retry_after_in_the_past_waits_no_time(self, retry_after_s):
        _, steps = play(self.policy, limited(retry_after_s), YES, YES, *IN)
        assert waits_s(steps) == [0.1]

    @pytest.mark.parametrize("retry_after_s", [1e12, 1e300, float("inf"), float("nan")])
    def test_an_absurd_retry_after_ends_as_rate_limited(self, retry_after_s):
        verdict, _ = play(self.policy, limited(retry_after_s))
        assert verdict.kind is Kind.RATE_LIMITED


class TestErrors:
    policy = replace(GUIDE, error_retries=2, error_gap_s=0.5)

    @pytest.mark.parametrize("error", [BROKEN, TIMEOUT, RESET], ids=lambda reply: str(reply.failure))
    def test_are_retried_and_may_end_well(self, error):
        verdict, steps = play(self.policy, YES, error, YES, error, YES, YES, *IN)
        assert names(steps)[:6] == ["info", "join", "wait", "info", "join", "wait"]
        assert waits_s(steps) == pytest.approx([0.2 + 0.5, 0.9 + 1.0])
        assert verdict.kind is Kind.AUTHENTICATED

    @pytest.mark.parametrize("error", [BROKEN, TIMEOUT, RESET], ids=lambda reply: str(reply.failure))
    def test_end_as_api_down_once_the_retries_are_spent(self, error):
        verdict, steps = play(self.policy, *[YES, error] * 3)
        assert names(steps).count("wait") == 2
        assert (verdict.kind, verdict.retry_offered) == (Kind.API_DOWN, error is TIMEOUT)

    def test_do_not_fall_back_to_guest(self):
        _, steps = play(GUIDE, YES, BROKEN)
        assert names(steps) == ["info", "join"]

    def test_no_retry_begins_that_would_overdraw_the_requests(self):
        verdict, steps = play(replace(self.policy, max_requests=4), YES, BROKEN)
        assert names(steps) == ["info", "join"]
        assert verdict.kind is Kind.API_DOWN

    def test_no_retry_begins_after_the_horizon(self):
        _, steps = play(replace(self.policy, horizon_s=0.6), YES, BROKEN)
        assert names(steps) == ["info", "join"]

    def test_a_404_of_the_wrong_path_is_no_matter_of_time(self):
        verdict, steps = play(replace(POLLING, error_retries=5), YES, WRONG_PATH)
        assert names(steps) == ["info", "join"]
        assert verdict.kind is Kind.API_DOWN

    def test_very_many_retries_without_a_gap_end_too(self):
        policy = replace(GUIDE, error_retries=2_000, error_gap_s=0.0, max_requests=5_000, horizon_s=1e6)
        verdict, _ = play(policy, *[YES, BROKEN] * 2_001)
        assert verdict.kind is Kind.API_DOWN


class TestTokens:
    @pytest.mark.parametrize("token", [{}, None, "", [], 5, {"token": "x"}], ids=repr)
    def test_a_token_that_is_no_text_is_a_bad_token_and_no_crash(self, token):
        verdict, steps = play(POLLING, YES, said(Outcome.VISIBLE, 200, token=token))
        assert names(steps) == ["info", "join"]
        assert (verdict.kind, verdict.last_status) == (Kind.BAD_TOKEN, 200)

    def test_so_is_one_the_source_called_bad(self):
        verdict, _ = play(POLLING, YES, said(Outcome.UNKNOWN, 200, Failure.BAD_TOKEN))
        assert verdict.kind is Kind.BAD_TOKEN

    def test_so_is_one_that_livekit_refuses(self):
        verdict, _ = play(POLLING, YES, YES, said(Outcome.REFUSED, 401, Failure.UNAUTHORISED))
        assert verdict.kind is Kind.BAD_TOKEN

    def test_a_token_is_in_no_repr(self):
        verdict, steps = play(GUIDE, YES, YES, *IN)
        assert TOKEN not in repr((verdict, steps, YES))


class TestConnection:
    def test_a_room_that_livekit_does_not_have_yet_is_waited_for(self):
        verdict, steps = play(POLLING, YES, YES, NOT_FOUND, YES, YES, *IN)
        assert names(steps)[:4] == ["info", "join", "signal", "wait"]
        assert waits_s(steps) == pytest.approx([1.3])
        assert verdict.kind is Kind.AUTHENTICATED

    def test_and_is_gone_or_starting_up_when_nobody_waits(self):
        verdict, _ = play(GUIDE, YES, YES, NOT_FOUND, nest=born(60))
        assert verdict.kind is Kind.GONE

    def test_a_failed_connection_is_tried_again_as_often_as_the_policy_says(self):
        verdict, steps = play(replace(GUIDE, connect_attempts=3), YES, YES, TIMEOUT, TIMEOUT, *IN)
        assert names(steps) == ["info", "join", "signal", "signal", "signal", "media", "stay"]
        assert verdict.kind is Kind.AUTHENTICATED

    def test_and_then_livekit_is_unreachable(self):
        verdict, _ = play(replace(GUIDE, connect_attempts=2), YES, YES, TIMEOUT, RESET)
        assert (verdict.kind, verdict.retry_offered) == (Kind.LIVEKIT_UNREACHABLE, False)

    def test_media_that_fail_are_a_failed_connection(self):
        verdict, steps = play(GUIDE, YES, YES, YES, said(Outcome.UNKNOWN, None, Failure.ICE))
        assert names(steps)[-1] == "media"
        assert verdict.kind is Kind.LIVEKIT_UNREACHABLE

    def test_a_driver_without_media_stays_by_the_signal(self):
        verdict, _ = play(GUIDE, YES, YES, YES, NO_MEDIA_LIBRARY, YES)
        assert verdict.kind is Kind.AUTHENTICATED

    def test_a_joiner_dropped_during_the_stay_has_not_joined(self):
        verdict, _ = play(GUIDE, YES, YES, YES, YES, LOST)
        assert verdict.kind is Kind.LIVEKIT_UNREACHABLE

    @pytest.mark.parametrize("before", [(), (YES,), (YES, YES)], ids=["signal", "media", "stay"])
    def test_what_the_prober_itself_lost_is_tried_again_and_is_nobody_elses_fault(self, before):
        own = said(Outcome.PROBE_ERROR, None, Failure.INTERNAL)
        verdict, steps = play(replace(GUIDE, connect_attempts=2), YES, YES, *before, own, *before, own)
        assert names(steps).count("signal") == 2
        assert (verdict.kind, verdict.joined, verdict.message) == (Kind.PROBE_ERROR, False, "")
        verdict, _ = play(replace(GUIDE, connect_attempts=2), YES, YES, *before, own, *IN)
        assert verdict.kind is Kind.AUTHENTICATED
        verdict, _ = play(replace(GUIDE, connect_attempts=2), YES, YES, *before, own, TIMEOUT)
        assert verdict.kind is Kind.LIVEKIT_UNREACHABLE

    @pytest.mark.parametrize(
        ("replies", "kind"),
        [
            ((said(Outcome.UNKNOWN, None, Failure.BAD_TOKEN),), Kind.BAD_TOKEN),
            ((said(Outcome.PROBE_ERROR, None, Failure.SKIPPED),), Kind.NOT_VISITED),
            ((YES, YES, said(Outcome.UNKNOWN, None, Failure.REMOVED)), Kind.REMOVED),
        ],
        ids=["another room's token", "a room of others", "sent away"],
    )
    def test_what_trying_again_would_not_change_is_not_tried_again(self, replies, kind):
        verdict, steps = play(replace(GUIDE, connect_attempts=3), YES, YES, *replies)
        assert names(steps).count("signal") == 1
        assert (verdict.kind, verdict.joined, verdict.retry_offered) == (kind, False, False)

    def test_what_was_found_is_in_the_verdict(self):
        found = Reply(0, Outcome.UNKNOWN, None, Failure.TLS, reason="speaks plain ws where wss was expected")
        verdict, _ = play(GUIDE, YES, YES, found)
        assert (verdict.kind, verdict.reason) == (Kind.LIVEKIT_UNREACHABLE, found.reason)

    def test_but_may_connect_again(self):
        verdict, steps = play(replace(GUIDE, connect_attempts=2), YES, YES, YES, YES, LOST, *IN)
        assert names(steps).count("signal") == 2
        assert verdict.kind is Kind.AUTHENTICATED

    def test_but_not_once_the_horizon_has_passed(self):
        verdict, steps = play(replace(GUIDE, connect_attempts=3, horizon_s=0.25), YES, YES, TIMEOUT)
        assert names(steps) == ["info", "join", "signal"]
        assert verdict.kind is Kind.LIVEKIT_UNREACHABLE

    def test_a_token_that_came_after_the_horizon_does_not_blame_livekit(self):
        verdict, _ = play(replace(GUIDE, horizon_s=0.15), YES, YES, *IN, signed_in=True)
        assert verdict.kind is Kind.AUTHENTICATED  # a round under way is finished


class TestWhichSeat:
    """When somebody signed in takes a guest's, and what then."""

    once = ("info", "join", "wait")
    patient = replace(POLLING, fallback_age_s=8.0)  # the nest is 5 s old at arrival

    def test_before_the_fallback_age_a_404_is_asked_again_signed_in(self):
        verdict, steps = play(self.patient, *[YES, NOT_FOUND] * 2, YES, YES, *IN)
        assert names(steps) == [*self.once, *self.once, "info", "join", "signal", "media", "stay"]
        assert (verdict.kind, verdict.requests) == (Kind.AUTHENTICATED, 6)

    def test_from_it_on_the_guest_is_asked(self):
        verdict, steps = play(self.patient, *[YES, NOT_FOUND] * 3, YES, NOT_FOUND, YES, *IN)
        assert names(steps) == [*self.once * 3, "info", "join", "guest", "signal", "media", "stay"]
        assert (verdict.kind, verdict.message) == (Kind.GUEST_INSTEAD, JOINED_AS_GUEST)

    @pytest.mark.parametrize("tries", [1, 2, 4])
    def test_so_many_tries_signed_in_go_before_the_first_as_guest(self, tries):
        answers = [YES, NOT_FOUND] * tries
        _, steps = play(replace(POLLING, fallback_tries=tries), *answers, YES, *IN)
        assert names(steps) == [*self.once * (tries - 1), "info", "join", "guest", "signal", "media", "stay"]

    def test_without_an_event_the_age_is_what_went_by_since_arrival(self):
        now = Situation(signed_in=True, age_s=None, asked="join", answer=Answer.ABSENT, polls=3)
        rng = random.Random(1)
        assert next_action(self.patient, replace(now, elapsed_s=7.9), rng).do == "wait"
        assert next_action(self.patient, replace(now, elapsed_s=8.0), rng).do == "guest"
        ahead = replace(now, age_s=-3.0)  # the host's clock is
        assert next_action(POLLING, ahead, rng).do == "guest"

    @pytest.mark.parametrize(
        "policy",
        [
            replace(ONCE, fallback_age_s=60.0),
            replace(GUIDE, fallback_tries=5),
            replace(POLLING, fallback_age_s=60.0, give_up_age_s=5.0),
            replace(POLLING, fallback_age_s=60.0, horizon_s=0.5),
            replace(POLLING, fallback_age_s=60.0, max_requests=4),
        ],
        ids=["one round", "no schedule", "old", "horizon", "requests"],
    )
    def test_nobody_is_turned_away_without_having_asked_as_guest(self, policy):
        verdict, steps = play(policy, YES, NOT_FOUND, YES, *IN)
        assert (verdict.kind, names(steps)[:3]) == (Kind.GUEST_INSTEAD, ["info", "join", "guest"])

    def test_a_fault_is_not_told_before_the_guest_was_asked(self):
        faulty = replace(FAULTY, fallback_age_s=300.0, fault_after_s=3.0)
        verdict, steps = play(faulty, *[YES, NOT_FOUND] * 4, NOT_FOUND)
        assert names(steps) == [*self.once * 3, "info", "join", "guest"]
        assert verdict.kind is Kind.API_FAULT

    def test_refusals_and_errors_are_what_they_were(self):
        assert play(self.patient, YES, FORBIDDEN)[0].kind is Kind.FORBIDDEN
        assert names(play(self.patient, YES, BROKEN, YES, YES, *IN)[1])[:3] == [*self.once]

    asking = replace(GUIDE, upgrades=3, schedule=Schedule("fixed", 2.0))
    seated = (YES, NOT_FOUND, YES, *IN)

    def test_seated_as_a_guest_it_asks_on_and_takes_the_better_seat(self):
        verdict, steps = play(self.asking, *self.seated, NOT_FOUND, YES, *IN)
        in_the_room = ["signal", "media", "stay"]
        assert names(steps) == ["info", "join", "guest", *in_the_room, "wait", "join", "wait", "join", *in_the_room]
        assert waits_s(steps) == pytest.approx([2.6, 4.7])
        assert (verdict.kind, verdict.message, verdict.requests) == (Kind.AUTHENTICATED, "", 5)

    def test_no_more_often_than_the_policy_says_and_the_seat_stays(self):
        verdict, steps = play(self.asking, *self.seated, *[NOT_FOUND] * 3)
        assert names(steps).count("join") == 4
        assert (verdict.kind, verdict.message, verdict.joined) == (Kind.GUEST_INSTEAD, JOINED_AS_GUEST, True)
        assert verdict.last_status == 200  # the seat's

    @pytest.mark.parametrize(
        ("answers", "kind"),
        [
            ([FORBIDDEN], Kind.GUEST_INSTEAD),
            ([UNAUTHORISED], Kind.GUEST_INSTEAD),
            ([BROKEN], Kind.GUEST_INSTEAD),
            ([limited(2)], Kind.GUEST_INSTEAD),
            ([YES, LOST], Kind.GUEST_INSTEAD),
            ([YES, NOT_FOUND, YES, *IN], Kind.AUTHENTICATED),
        ],
        ids=["403", "401", "500", "429", "connection lost", "no such room yet"],
    )
    def test_what_goes_wrong_then_costs_no_seat(self, answers, kind):
        verdict, _ = play(self.asking, *self.seated, *answers)
        assert (verdict.kind, verdict.joined, verdict.retry_offered) == (kind, True, False)

    def test_an_error_then_is_retried_where_errors_are(self):
        verdict, _ = play(replace(self.asking, error_retries=1), *self.seated, BROKEN, YES, *IN)
        assert verdict.kind is Kind.AUTHENTICATED

    @pytest.mark.parametrize(
        "changed", [{"give_up_age_s": 5.0}, {"horizon_s": 2.0}, {"max_requests": 4}, {"schedule": Schedule()}], ids=str
    )
    def test_within_the_bounds_of_any_wait(self, changed):
        verdict, steps = play(replace(self.asking, **changed), *self.seated)
        assert (verdict.kind, names(steps).count("wait")) == (Kind.GUEST_INSTEAD, 0)

    def test_a_guest_by_choice_has_the_seat_it_wanted(self):
        verdict, steps = play(self.asking, YES, YES, *IN, signed_in=False)
        assert (verdict.kind, names(steps)[-1]) == (Kind.GUEST, "stay")


class TestAPerson:
    """Who presses what the page shows, and leaves."""

    stays = Person(reaction_s=3.0, spread=0.0, leaves=0.0, leaves_gone=0.0)

    def pressing(self, *replies, policy=GUIDE, **changed):
        return play(replace(policy, person=replace(self.stays, **changed), horizon_s=20.0), *replies)

    def test_presses_after_a_reaction_and_the_join_begins_anew(self):
        verdict, steps = self.pressing(*[YES, NOT_FOUND, NOT_FOUND] * 2, YES, YES, *IN)
        once = ["info", "join", "guest", "wait"]
        assert names(steps) == [*once, *once, "info", "join", "signal", "media", "stay"]
        assert waits_s(steps) == pytest.approx([0.3 + 3.0, 3.6 + 3.0])
        assert (verdict.kind, verdict.requests) == (Kind.AUTHENTICATED, 8)

    def test_leaves_at_the_latest_when_the_horizon_comes_or_the_requests_are_spent(self):
        verdict, steps = self.pressing(*[YES, NOT_FOUND, NOT_FOUND] * 7)
        assert (len(waits_s(steps)), verdict.kind, verdict.retry_offered) == (6, Kind.STARTING_UP, True)
        few = replace(GUIDE, max_requests=8)
        assert self.pressing(*[YES, NOT_FOUND, NOT_FOUND] * 2, policy=few)[0].requests == 6

    def test_of_whom_all_leave_presses_nothing(self):
        assert self.pressing(YES, NOT_FOUND, NOT_FOUND, leaves=1.0)[0].requests == 3
        old = {"nest": born(90)}
        policy = replace(GUIDE, person=replace(self.stays, leaves_gone=1.0))
        assert play(policy, YES, NOT_FOUND, NOT_FOUND, **old)[0].requests == 3

    @pytest.mark.parametrize(
        ("last", "presses"),
        [(TIMEOUT, True), (RESET, False), (UNAUTHORISED, False), (FORBIDDEN, False), (BROKEN, False)],
    )
    def test_presses_no_button_that_is_not_shown(self, last, presses):
        _, steps = self.pressing(YES, last, *([YES, YES, *IN] if presses else []))
        assert names(steps).count("wait") == int(presses)
        released = replace(RELEASED, load_cutoff_s=None)
        assert self.pressing(NOT_FOUND, NOT_FOUND, NOT_FOUND, policy=released)[0].requests == 3

    def test_who_is_the_host_has_none(self):
        policy = replace(GUIDE, person=self.stays)
        assert play(policy, YES, NOT_FOUND, NOT_FOUND, host=True)[0].requests == 3


class TestTheGuide:
    """Its words and thresholds, exactly."""

    @pytest.mark.parametrize(
        ("age_s", "kind", "message", "retry"),
        [
            (0.0, Kind.STARTING_UP, STARTING, True),
            (29.9, Kind.STARTING_UP, STARTING, True),
            (29.999_999_999, Kind.STARTING_UP, STARTING, True),
            (30.0, Kind.GONE, GONE, True),
            (3600.0, Kind.GONE, GONE, True),
        ],
    )
    def test_thirty_seconds(self, age_s, kind, message, retry):
        verdict, steps = play(GUIDE, YES, NOT_FOUND, NOT_FOUND, nest=born(age_s - 0.3))  # three answers of .1 s
        assert verdict.age_s == age_s
        assert (verdict.kind, verdict.message, verdict.retry_offered) == (kind, message, retry)
        assert "wait" not in names(steps)

    @pytest.mark.parametrize("policy", [GUIDE, RELEASED], ids=lambda policy: policy.name)
    @pytest.mark.parametrize("host", [False, True], ids=["guest of another", "host"])
    @pytest.mark.parametrize(
        ("replies", "shown"),
        [
            ((YES, NOT_FOUND, NOT_FOUND), True),
            ((YES, TIMEOUT), True),
            ((YES, YES, TIMEOUT), True),
            ((YES, RESET), False),
            ((YES, BROKEN), False),
            ((YES, YES, LOST), False),
            ((YES, UNAUTHORISED), False),
        ],
        ids=["404", "timeout", "LiveKit's timeout", "reset", "5xx", "dropped", "401"],
    )
    @pytest.mark.parametrize("age_s", [5, 300])
    def test_retry_is_there_where_the_page_shows_it_and_never_for_the_host(self, policy, host, replies, shown, age_s):
        loaded = () if policy.load_cutoff_s is None else (replace(said(Outcome.VISIBLE), nest=born(age_s)),)
        verdict, _ = play(policy, *loaded, *replies, nest=born(age_s), host=host)
        assert verdict.retry_offered == (shown and not host)

    def test_its_words(self):
        assert STARTING == "The nest is still starting up. Please wait a moment and try again."
        assert GONE == ("This nest is no longer available. The audio session may have timed out or been closed.")
        assert JOINED_AS_GUEST == "Joined as Guest"

    def test_a_guest_is_told_to_sign_in(self):
        young, _ = play(GUIDE, YES, NOT_FOUND, signed_in=False)
        old, _ = play(GUIDE, YES, NOT_FOUND, signed_in=False, nest=born(60))
        assert (young.message, old.message) == (STARTING + SIGN_IN_HINT, GONE + SIGN_IN_HINT)

    def test_the_age_counts_from_the_last_edit_as_in_the_client(self):
        verdict, _ = play(GUIDE, YES, NOT_FOUND, NOT_FOUND, nest=born(1, first_created_at=ARRIVED - 3600 * S))
        assert verdict.kind is Kind.STARTING_UP

    def test_a_nest_from_the_future_is_starting_up(self):
        verdict, _ = play(GUIDE, YES, NOT_FOUND, NOT_FOUND, nest=born(-3600))
        assert verdict.kind is Kind.STARTING_UP
        assert verdict.age_s == pytest.approx(-3599.7)

    def test_without_an_event_the_age_counts_as_nothing(self):
        flow = join_flow("room", False, GUIDE, arrived_at=ARRIVED, rng=random.Random(1))
        next(flow)
        flow.send(replace(NOT_FOUND, at=ARRIVED + 40 * S))
        with pytest.raises(StopIteration) as ended:
            flow.send(replace(NOT_FOUND, at=ARRIVED + 50 * S))
        verdict = ended.value.value
        assert (verdict.kind, verdict.age_s, verdict.created_at) == (Kind.STARTING_UP, None, None)


class TestTheReleasedClient:
    loaded = said(Outcome.VISIBLE)

    def test_first_reads_the_nest_for_a_second_and_a_half(self):
        _, steps = play(RELEASED, replace(self.loaded, nest=born(5)), YES, YES, *IN)
        assert steps[0] == Load(1.5)
        assert names(steps)[1:] == ["info", "join", "signal", "media", "stay"]

    @pytest.mark.parametrize("reply", [NOT_FOUND, TIMEOUT], ids=lambda reply: str(reply.failure))
    def test_without_the_event_it_loads_for_ever_and_offers_no_join(self, reply):
        verdict, steps = play(RELEASED, reply)
        assert names(steps) == ["load"]
        assert (verdict.kind, verdict.message, verdict.retry_offered) == (Kind.NOT_LOADED, LOADING, False)
        assert (verdict.requests, verdict.joined) == (0, False)

    def test_an_event_that_lacks_a_tag_is_no_nest_to_it(self):
        verdict, _ = play(RELEASED, replace(self.loaded, nest=born(5, lacks=("service",))))
        assert verdict.kind is Kind.NOT_LOADED

    @pytest.mark.parametrize("age_s", [1, 31, 3600])
    def test_its_rule_misses_the_true_races_own_error_at_any_age(self, age_s):
        replies = replace(self.loaded, nest=born(age_s)), NOT_FOUND, NOT_FOUND, NOT_FOUND
        verdict, _ = play(RELEASED, *replies)
        assert (verdict.message, verdict.retry_offered) == (RELEASED_FAILED, False)

    @pytest.mark.parametrize(
        ("age_s", "kind", "message", "retry"),
        [(29.5, Kind.STARTING_UP, STARTING, True), (29.6, Kind.GONE, GONE, True)],
    )
    def test_its_rule_fires_when_info_says_active_and_both_joins_404(self, age_s, kind, message, retry):
        replies = replace(self.loaded, nest=born(age_s)), YES, NOT_FOUND, NOT_FOUND  # four answers of .1 s
        verdict, _ = play(RELEASED, *replies)
        assert (verdict.kind, verdict.message, verdict.retry_offered) == (kind, message, retry)

    def test_its_rule_does_not_fire_when_livekit_says_404(self):
        replies = replace(self.loaded, nest=born(5)), YES, YES, NOT_FOUND  # info, join, signal
        verdict, _ = play(RELEASED, *replies)
        assert (verdict.kind, verdict.message, verdict.retry_offered) == (Kind.STARTING_UP, RELEASED_FAILED, False)

    def test_only_what_it_loaded_itself_counts(self):
        verdict, _ = play(RELEASED, NOT_FOUND, nest=born(5))
        assert (verdict.kind, verdict.age_s) == (Kind.NOT_LOADED, None)


class TestPolling:
    def test_a_fixed_schedule_asks_until_the_give_up_age(self):
        robot = replace(GUIDE, schedule=Schedule("fixed", 5.0))
        verdict, steps = play(robot, *[YES, NOT_FOUND, NOT_FOUND] * 7, nest=born(0))
        assert waits_s(steps) == pytest.approx([5.3, 10.6, 15.9, 21.2, 26.5, 31.8])  # told "starting up" at 26.8
        assert (verdict.kind, verdict.requests) == (Kind.GONE, 21)

    def test_no_poll_begins_at_the_give_up_age(self):
        policy = replace(POLLING, give_up_age_s=10.0)
        at, _ = play(policy, YES, NOT_FOUND, NOT_FOUND, nest=born(9.7))
        before, steps = play(policy, *[YES, NOT_FOUND, NOT_FOUND] * 2, nest=born(9.6))
        assert (at.requests, before.requests) == (3, 6)
        assert waits_s(steps) == pytest.approx([1.3])

    def test_without_an_event_waiting_counts_from_arrival(self):
        policy = replace(fixed(4), give_up_age_s=10.0)
        flow = join_flow("room", False, policy, arrived_at=ARRIVED, rng=random.Random(1))
        step, asked, now = next(flow), 0, ARRIVED
        with pytest.raises(StopIteration) as ended:  # noqa: PT012 - the loop is the driver
            while True:
                now = step.until if isinstance(step, Wait) else now
                asked += isinstance(step, Guest)
                step = flow.send(replace(NOT_FOUND, at=now))
        assert asked == 4  # at 0, 4, 8 and 12 s: the last wait began before 10 s
        assert ended.value.value.kind is Kind.STARTING_UP

    def test_a_negative_age_polls_as_if_just_born(self):
        policy = replace(POLLING, schedule=Schedule("table", table=((0.0, 2.0), (1.0, 50.0))))
        _, steps = play(policy, *[YES, NOT_FOUND, NOT_FOUND], *[YES, YES], *IN, nest=born(-100))
        assert waits_s(steps) == pytest.approx([2.3])

    def test_exponential_gaps_grow_up_to_the_cap(self):
        policy = replace(exponential(1.0, cap_s=5.0), give_up_age_s=1000.0, horizon_s=1000.0)
        _, steps = play(policy, *[YES, NOT_FOUND, NOT_FOUND] * 5, *[YES, YES], *IN)
        ends = waits_s(steps)
        gaps = [ends[0] - 0.3] + [b - a - 0.3 for a, b in itertools.pairwise(ends)]
        assert gaps == pytest.approx([1, 2, 4, 5, 5])

    def test_jitter_stays_within_its_share(self):
        policy = replace(fixed(10), fault_after_s=None, jitter=0.2, give_up_age_s=100.0, horizon_s=200.0)
        _, steps = play(policy, *[YES, NOT_FOUND, NOT_FOUND] * 9, *[YES, YES], *IN, nest=born(0))
        ends = waits_s(steps)
        gaps = [ends[0] - 0.3] + [b - a - 0.3 for a, b in itertools.pairwise(ends)]
        assert all(8 <= gap < 12 for gap in gaps)
        assert len(set(gaps)) == len(gaps)

    def test_the_last_round_fits_into_the_requests(self):
        verdict, _ = play(replace(POLLING, max_requests=8), *[YES, NOT_FOUND, NOT_FOUND] * 2)
        assert verdict.requests == 6

    def test_the_joiner_gets_in_at_last(self):
        verdict, _ = play(POLLING, *[NOT_FOUND, NOT_FOUND, NOT_FOUND] * 4, YES, YES, *IN)
        assert (verdict.kind, verdict.requests) == (Kind.AUTHENTICATED, 14)


def faulty(there, policy=FAULTY, *, signed_in=True, age_s=1.0, info=(YES,), no=NOT_FOUND):
    """How a join ends that is never let in while /info says active, and which steps it took. age_s: of the event, None
    for none. info: its answers, the last one for ever."""
    nest = None if age_s is None else born(age_s)
    gen = join_flow("room", signed_in, policy, arrived_at=ARRIVED, rng=random.Random(1), nest=nest)
    now, steps, answers = ARRIVED, [], list(info)
    try:
        step = next(gen)
        while True:
            steps.append(step)
            now = max(now, step.until) if isinstance(step, Wait) else now + S // 10
            reply = YES if isinstance(step, Wait) else replace(no, room_there=there)
            if isinstance(step, Info):
                reply = answers.pop(0) if len(answers) > 1 else answers[0]
            step = gen.send(replace(reply, at=now))
    except StopIteration as ended:
        return ended.value, steps


class TestFault:
    """/info says active, and the joins answer 404."""

    @pytest.mark.parametrize("signed_in", [True, False])
    def test_by_time_alone_it_is_called_a_fault_when_no_late_room_explains_it(self, signed_in):
        verdict, _ = faulty(None, signed_in=signed_in)
        assert (verdict.kind, verdict.message, verdict.retry_offered) == (Kind.API_FAULT, THERE, False)
        assert verdict.elapsed_s == pytest.approx(FAULT_AFTER_S * (1.0 if signed_in else 1.25), abs=2.0)

    @pytest.mark.parametrize("age_s", [0.0, 2.0, 4.0, 20.0])
    @pytest.mark.parametrize("signed_in", [True, False])
    def test_where_a_witness_has_seen_the_room_its_pace_decides(self, signed_in, age_s):
        verdict, _ = faulty(True, signed_in=signed_in, age_s=age_s)
        pace = PACES[signed_in]
        assert (verdict.kind, verdict.message) == (Kind.API_FAULT, THERE)
        expected = max(LEAST_S, min(pace.most_s, pace.factor * (age_s + 0.1)))
        assert verdict.elapsed_s == pytest.approx(min(expected, pace.old_s - age_s), abs=2.0)

    @pytest.mark.parametrize("signed_in", [True, False])
    def test_of_an_old_room_that_is_there_the_second_look_decides(self, signed_in):
        verdict, steps = faulty(True, age_s=PACES[signed_in].old_s, signed_in=signed_in)
        assert (verdict.kind, names(steps).count("wait")) == (Kind.API_FAULT, 1)
        assert verdict.requests == (6 if signed_in else 4)

    @pytest.mark.parametrize("signed_in", [True, False])
    def test_nor_does_a_give_up_age_long_past_keep_that_look_from_being_taken(self, signed_in):
        for policy in (fixed(1), exponential(), full_jitter(), replace(FAULTY, schedule=Schedule())):
            verdict, steps = faulty(True, policy, age_s=3600.0, signed_in=signed_in)
            assert (verdict.kind, names(steps).count("wait")) == (Kind.API_FAULT, 1)
            assert faulty(None, policy, age_s=3600.0, signed_in=signed_in)[0].requests == (3 if signed_in else 2)

    @pytest.mark.parametrize("signed_in", [True, False])
    def test_where_there_is_no_event_the_age_of_the_room_itself_counts(self, signed_in):
        def ended_s(made_s, *, age_s=None, there_s=None):
            told = replace(YES, made_at=ARRIVED - round(made_s * S))
            listed = NOT_FOUND if there_s is None else replace(NOT_FOUND, made_at=ARRIVED - round(there_s * S))
            verdict, _ = faulty(True, age_s=age_s, signed_in=signed_in, info=(told,), no=listed)
            assert verdict.kind is Kind.API_FAULT
            return verdict.elapsed_s

        pace = PACES[signed_in]
        assert ended_s(3600.0) == pytest.approx(1.5, abs=1.0)
        assert ended_s(2.0) == pytest.approx(pace.factor * 2.1, abs=2.0)
        assert ended_s(-40.0) == pytest.approx(pace.most_s, abs=2.0)  # by a clock that is ahead
        assert ended_s(3600.0, there_s=2.0) == pytest.approx(pace.factor * 2.1, abs=2.0)  # made anew
        assert ended_s(3600.0, age_s=2.0) == pytest.approx(pace.factor * 2.1, abs=2.0)  # an event's goes before it

    @pytest.mark.parametrize("there", [True, None])
    def test_the_next_round_comes_when_it_can_be_told(self, there):
        slow = replace(FAULTY, schedule=Schedule("fixed", 45.0))
        due_s = FAULT_AFTER_S if there is None else PACES[True].factor * 1.1
        assert faulty(there, slow)[0].elapsed_s == pytest.approx(due_s, abs=1.0)

    def test_a_measured_law_goes_before_the_pace(self):
        verdict, _ = faulty(True, replace(FAULTY, fault_listed_s=20.0))
        assert verdict.elapsed_s == pytest.approx(20.0, abs=2.0)

    @pytest.mark.parametrize("measured_s", [None, 5.0, 100.0, 447.9])
    @pytest.mark.parametrize("age_s", [130.0, 600.0, 86_400.0])
    @pytest.mark.parametrize("signed_in", [True, False])
    def test_an_age_that_no_race_reaches_is_named_at_the_second_look_whatever_was_measured(
        self, signed_in, age_s, measured_s
    ):
        patient = replace(FAULTY, horizon_s=1_000.0, max_requests=9_000, give_up_age_s=1e6, fault_after_s=900.0)
        policy = replace(patient, fault_listed_s=measured_s)
        verdict, _ = faulty(True, policy, signed_in=signed_in, age_s=age_s)
        assert verdict.kind is Kind.API_FAULT
        left_s = max(0.0, (measured_s or 0.0) - age_s)  # a law of which races last longer is believed
        assert verdict.elapsed_s == pytest.approx(max(1.5, left_s), abs=2.0)

    def test_a_room_that_a_witness_does_not_see_is_late_and_then_gone_and_no_fault(self):
        young, _ = faulty(False, replace(FAULTY, give_up_age_s=20.0))
        assert (young.kind, young.message) == (Kind.STARTING_UP, STARTING)
        old, _ = faulty(False)
        assert (old.kind, old.message) == (Kind.GONE, NO_ROOM)

    @pytest.mark.parametrize("age_s", [0.0, 29.0, 31.0, 3600.0])
    @pytest.mark.parametrize("signed_in", [True, False])
    def test_what_is_not_decided_yet_is_never_called_no_longer_available(self, age_s, signed_in):
        verdict, _ = faulty(None, replace(FAULTY, schedule=Schedule()), age_s=age_s, signed_in=signed_in)
        assert (verdict.kind, verdict.message, verdict.retry_offered) == (Kind.STARTING_UP, THERE, True)

    def test_a_nest_closed_meanwhile_is_none(self):
        verdict, _ = faulty(None, info=(YES, NOT_FOUND))
        assert (verdict.kind, verdict.message) == (Kind.GONE, GONE)

    @pytest.mark.parametrize(
        "info",
        [NOT_FOUND, TIMEOUT, BROKEN, replace(YES, body={"status": "closed"}), replace(YES, body={"status": "Ended"})],
        ids=["absent", "timeout", "broken", "closed", "ended"],
    )
    def test_without_an_active_info_nothing_is_called_a_fault(self, info):
        assert faulty(True, info=(info,))[0].kind is Kind.GONE

    @pytest.mark.parametrize("no", [CACHED, said(Outcome.UNKNOWN, 404, Failure.UNREACHABLE)], ids=["cached", "livekit"])
    def test_a_404_that_proves_nothing_is_no_evidence_of_a_fault(self, no):
        assert faulty(True, no=no)[0].kind is not Kind.API_FAULT

    @pytest.mark.parametrize("policy", [GUIDE, RELEASED, MANUAL_RETRY], ids=lambda policy: policy.name)
    @pytest.mark.parametrize("there", [None, True, False])
    def test_the_web_client_does_not_use_what_info_says(self, policy, there):
        verdict, _ = play(
            replace(policy, load_cutoff_s=None, person=None),
            YES,
            *[replace(NOT_FOUND, room_there=there)] * 2,
            nest=born(3600),
        )
        assert (verdict.kind, verdict.message) == (Kind.GONE, GONE)

    def test_info_is_asked_from_a_round_on(self):
        policy = replace(FAULTY, info_from=3)
        assert names(faulty(None, policy)[1])[:9] == ["join", "guest", "wait"] * 2 + ["info", "join", "guest"]


class TestVerdict:
    def test_holds_what_a_person_debugging_needs(self):
        nest = born(10)
        verdict, _ = play(GUIDE, YES, NOT_FOUND, NOT_FOUND, nest=nest, relays=["wss://a", "wss://b"])
        assert (verdict.room, verdict.status, verdict.created_at) == ("room", "open", nest.created_at)
        assert (verdict.relays, verdict.last_status) == (("wss://a", "wss://b"), 404)
        assert (verdict.age_s, verdict.elapsed_s) == (10.3, 0.3)
        lines = [(line.step, line.status, line.outcome, line.age_s) for line in verdict.attempts]
        assert lines == [
            ("info", 200, Outcome.VISIBLE, 10.1),
            ("join", 404, Outcome.ABSENT, 10.2),
            ("guest", 404, Outcome.ABSENT, 10.3),
        ]

    def test_its_status_is_that_of_the_answer_which_settled_it(self):
        """In the room the last one; without LiveKit the API's, which gave the token."""
        joined, _ = play(GUIDE, YES, YES, YES, YES, said(Outcome.VISIBLE, 101))
        lost, _ = play(replace(GUIDE, connect_attempts=2), YES, YES, YES, YES, LOST, BROKEN)
        assert (joined.last_status, lost.last_status) == (101, 200)

    def test_waits_are_no_attempts(self):
        verdict, _ = play(POLLING, YES, NOT_FOUND, NOT_FOUND, YES, YES, *IN)
        assert "wait" not in [line.step for line in verdict.attempts]

    @pytest.mark.parametrize(
        ("replies", "kind"),
        [
            ((YES, UNAUTHORISED), Kind.UNAUTHORISED),
            ((YES, FORBIDDEN), Kind.FORBIDDEN),
            ((YES, limited()), Kind.RATE_LIMITED),
            ((YES, BROKEN), Kind.API_DOWN),
            ((YES, replace(YES, token={})), Kind.BAD_TOKEN),
            ((YES, YES, TIMEOUT), Kind.LIVEKIT_UNREACHABLE),
        ],
        ids=lambda value: value.value if isinstance(value, Kind) else "",
    )
    def test_every_failure_has_words_for_the_user(self, replies, kind):
        verdict, _ = play(GUIDE, *replies)
        assert verdict.kind is kind
        assert verdict.message.endswith(".")
        timed_out = replies[-1].failure is Failure.TIMEOUT
        assert (verdict.retry_offered, verdict.joined) == (timed_out, False)


class TestRehearsal:
    """What a baseline concludes from another joiner's first answers."""

    def at(self, after_s, reply):
        return replace(reply, at=ARRIVED + round(after_s * S))

    def guide(self, first, nest=None, signed_in=True, policy=GUIDE):
        flow = join_flow("room", signed_in, policy, arrived_at=ARRIVED, rng=random.Random(1), nest=nest)
        return rehearse(flow, first)

    def test_of_a_join_that_went_well(self):
        first = {name: self.at(0.1, YES) for name in ("info", "join", "signal", "media", "stay")}
        assert self.guide(first).kind is Kind.AUTHENTICATED

    @pytest.mark.parametrize(("age_s", "kind"), [(29.6, Kind.STARTING_UP), (29.7, Kind.GONE)])
    def test_takes_the_age_at_the_recorded_instant(self, age_s, kind):
        first = {"info": self.at(0.1, YES), "join": self.at(0.2, NOT_FOUND), "guest": self.at(0.3, NOT_FOUND)}
        assert self.guide(first, born(age_s)).kind is kind

    def test_of_the_released_client_uses_what_was_loaded(self):
        first = {"load": self.at(0.4, said(Outcome.VISIBLE, nest=born(5))), "info": self.at(0.1, NOT_FOUND)}
        first |= {"join": self.at(0.2, NOT_FOUND), "guest": self.at(0.3, NOT_FOUND)}
        verdict = self.guide(first, policy=RELEASED)
        assert (verdict.message, verdict.age_s) == (RELEASED_FAILED, pytest.approx(5.4))
        assert self.guide({}, policy=RELEASED).kind is Kind.NOT_LOADED

    def test_what_was_not_recorded_is_unknown(self):
        assert self.guide({}).kind is Kind.API_DOWN

    def test_never_goes_back_in_time(self):
        first = {"info": self.at(3, YES), "join": self.at(1, NOT_FOUND), "guest": self.at(2, NOT_FOUND)}
        ats = [line.at for line in self.guide(first, born(0)).attempts]
        assert ats == [ARRIVED + 3 * S] * 3

    def test_a_wait_ends_on_time(self):
        first = {"info": self.at(0, YES), "join": self.at(0, NOT_FOUND), "guest": self.at(0, NOT_FOUND)}
        verdict = self.guide(first, born(0), policy=fixed(10))
        assert (verdict.requests, verdict.elapsed_s) == (12, 30.0)


@pytest.mark.parametrize("operation", [Operation.JOIN, Operation.GUEST])
@pytest.mark.parametrize("status", [None, 200, 204, 301, 400, 401, 403, 404, 409, 429, 500, 503, 599])
def test_a_status_alone_means_what_the_flow_makes_of_the_whole_answer(operation, status):
    """Of an answer of the API itself; a cache's copy or another server's page take more than the status to tell."""
    if status is None:
        reply = TIMEOUT
    else:
        body = {"token": TOKEN} if status < 300 else {"error": "no"}
        outcome, failure, _, _ = judge(operation, status, {}, body)
        reply = said(outcome, status, failure, token=body.get("token"))
    policy = replace(GUIDE, ask_info=False, fallback=())
    signed_in = operation is Operation.JOIN
    meant = answer_to(str(operation), status)
    then = next_action(
        policy, Situation(signed_in=signed_in, age_s=5.1, asked=str(operation), answer=meant, polls=1), random.Random(1)
    )
    verdict, _ = play(policy, reply, *(IN if meant is Answer.GRANTED else ()), signed_in=signed_in)
    assert (verdict.kind, verdict.message) == (then.kind, then.message)


@pytest.mark.parametrize(
    ("reply", "status"), [(NOT_FOUND, 404), (UNAUTHORISED, 401), (FORBIDDEN, 403), (BROKEN, 500), (TIMEOUT, None)]
)
def test_so_it_does_of_livekits_signalling(reply, status):
    verdict, _ = play(GUIDE, YES, YES, reply)
    meant = answer_to("connect", status)
    then = next_action(
        GUIDE, Situation(signed_in=True, age_s=5.3, asked="connect", answer=meant, polls=1), random.Random(1)
    )
    assert (then.do, verdict.kind, verdict.message) == ("stop", then.kind, then.message)


# Properties: whatever arrives

durations = st.floats(0, 100)
schedules = st.one_of(
    st.just(Schedule()),
    st.builds(Schedule, st.just("fixed"), st.floats(0.001, 100)),
    st.builds(Schedule, st.just("exponential"), st.floats(0.001, 100), st.floats(0, 10), durations),
    st.builds(Schedule, st.just("full_jitter"), st.floats(0.001, 100), st.floats(0, 10), durations),
    st.lists(st.tuples(durations, st.floats(0.001, 100)), min_size=1, max_size=5, unique_by=lambda row: row[0]).map(
        lambda table: Schedule("table", table=tuple(sorted(table)))
    ),
)
policies = st.one_of(
    st.sampled_from([*standard_policies().values(), full_jitter(0.1)]),
    st.builds(
        Policy,
        name=st.just("random"),
        ask_info=st.booleans(),
        fallback=st.sampled_from([(), (404,)]),
        schedule=schedules,
        jitter=st.floats(0, 0.99),
        message_threshold_s=durations,
        give_up_age_s=durations,
        horizon_s=st.floats(0, 1_000),
        max_requests=st.integers(3, 40),
        error_retries=st.integers(0, 50),
        error_gap_s=durations,
        connect_attempts=st.integers(1, 4),
        stay_s=durations,
        load_cutoff_s=st.none() | durations,
        wording=st.sampled_from(["guide", "released"]),
        info_from=st.integers(1, 4),
        fault_after_s=st.none() | durations,
        fault_listed_s=st.none() | durations,
    ),
)
NESTS = st.floats(-1e6, 1e6).map(born)
anything = st.builds(
    Reply,
    at=st.integers(-(10**13), 10**13),  # added to the time of the step: back by hours, ahead by hours
    outcome=st.sampled_from(Outcome),
    status=st.none() | st.sampled_from([200, 204, 301, 400, 401, 403, 404, 409, 429, 500, 503]) | st.integers(-1, 999),
    failure=st.none() | st.sampled_from(Failure),
    token=st.sampled_from([TOKEN, "", None, {}, 7]),
    nest=st.none() | NESTS,
    retry_after_s=st.none() | st.floats(-1e12, 1e12),
    room_there=st.none() | st.booleans(),
    made_at=st.none() | st.integers(-(10**20), 10**20),
)
NOT_ASKED = said(Outcome.PROBE_ERROR, None, Failure.BUDGET)
REFUSALS = (UNAUTHORISED, FORBIDDEN, limited(), limited(2.5))
coherent = st.sampled_from(
    [YES, replace(YES, nest=born(3)), NOT_FOUND, CACHED, WRONG_PATH, BROKEN, TIMEOUT, RESET, NOT_ASKED, *REFUSALS]
).flatmap(lambda reply: st.integers(0, 20 * S).map(lambda took: replace(reply, at=took)))
flows = st.fixed_dictionaries(
    {"policy": policies, "signed_in": st.booleans(), "nest": st.none() | NESTS, "seed": st.integers(0, 9)}
)


def run(flow, world):
    """Drive a flow with the world's replies, over and over; the verdict and all (step, reply). A Wait ends late or on
    time, never early."""
    gen = join_flow(
        "room",
        flow["signed_in"],
        flow["policy"],
        arrived_at=ARRIVED,
        rng=random.Random(flow["seed"]),
        nest=flow["nest"],
    )
    now, made = ARRIVED, []
    most = flow["policy"].max_requests * (2 + 3 * flow["policy"].connect_attempts) + 2
    replies = itertools.cycle(world)
    try:
        step = next(gen)
        while True:
            assert len(made) < most, "the flow goes on and on"
            reply = next(replies)
            at = now + reply.at
            now = max(now, step.until if isinstance(step, Wait) else at)
            reply = replace(reply, at=now if isinstance(step, Wait) else at)
            made.append((step, reply))
            step = gen.send(reply)
    except StopIteration as ended:
        return ended.value, made


worlds = st.lists(anything, min_size=1, max_size=12)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(flow=flows, world=worlds)
def test_whatever_arrives_every_flow_ends_within_its_bounds(flow, world):
    verdict, made = run(flow, world)
    policy = flow["policy"]
    asked = [step for step, _ in made if isinstance(step, Info | Join | Guest)]
    assert len(asked) == verdict.requests <= policy.max_requests
    for step, _ in made:
        if isinstance(step, Wait):
            assert step.until <= ARRIVED + round(policy.horizon_s * S)
    assert len(verdict.attempts) == sum(not isinstance(step, Wait) for step, _ in made)
    assert verdict.elapsed_s >= 0


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(flow=flows, world=worlds)
def test_a_guest_is_asked_after_a_join_only_where_the_nest_was_absent(flow, world):
    _, made = run(flow, world)
    for (before, reply), (step, _) in itertools.pairwise(made):
        if isinstance(before, Join) and isinstance(step, Guest):
            assert reply.outcome is Outcome.ABSENT or reply.failure is Failure.CACHED or reply.status == 404
            assert 404 in flow["policy"].fallback


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(flow=flows, world=st.lists(coherent, min_size=1, max_size=12))
def test_after_a_401_or_403_nothing_more_is_asked(flow, world):
    verdict, made = run(flow, world)
    asked = [reply.status for step, reply in made if isinstance(step, Join | Guest)]
    assert not {401, 403} & set(asked[:-1])
    if asked and asked[-1] in (401, 403):
        assert verdict.kind in (Kind.UNAUTHORISED, Kind.FORBIDDEN)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(flow=flows, world=worlds)
def test_the_same_seed_and_replies_give_the_same_steps_and_verdict(flow, world):
    assert run(flow, world) == run(flow, world)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(flow=flows, world=worlds)
def test_no_token_is_ever_in_a_verdict(flow, world):
    verdict, _ = run(flow, world)
    assert TOKEN not in repr(verdict)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(flow=flows, world=st.lists(coherent, min_size=1, max_size=12))
def test_a_joiner_is_in_only_after_a_token_a_signal_and_a_stay(flow, world):
    verdict, made = run(flow, world)
    if verdict.joined:
        last, reply = made[-1]
        assert isinstance(last, Stay)
        assert reply.outcome is Outcome.VISIBLE
        asked = [step for step, _ in made if isinstance(step, Join | Guest)][-1]
        wanted = Kind.AUTHENTICATED if isinstance(asked, Join) else Kind.GUEST_INSTEAD
        assert verdict.kind is (wanted if flow["signed_in"] else Kind.GUEST)
