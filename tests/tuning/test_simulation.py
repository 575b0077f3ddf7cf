"""Courses against the long way, step by step; and what each of the scores means, on joins told in advance."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.join.decision import Kind
from nestobs.join.flow import Guest, Info, Join, Signal, Wait, join_flow
from nestobs.join.policy import GUIDE, MANUAL_RETRY, RELEASED, Person, Policy, Schedule, fixed, standard_policies
from nestobs.observation.duration import SECOND_NS
from nestobs.timeline.failures import Failures, Tally
from nestobs.tuning.costs import Prices
from nestobs.tuning.network import CHANCES, Network
from nestobs.tuning.simulation import (
    FEWER_PERSONS,
    LED,
    PERSONS,
    SHAPES,
    STRATIFIED,
    Scores,
    answer,
    course,
    courses,
    nest_at,
    persons,
    score,
    stratified,
)
from worlds.played import play

pytestmark = pytest.mark.slow

INF = math.inf
TABLE = Policy(
    name="table",
    ask_info=False,
    schedule=Schedule("table", table=((0.0, 0.5), (3.0, 2.0), (12.5, 7.25))),
    jitter=0.2,
    give_up_age_s=40.0,
    horizon_s=70.0,
    error_retries=5,
)
PRESSED = Policy(name="pressed", schedule=Schedule("fixed", 5.0))
"""A robot that presses Retry every 5 s while told that the nest is starting up."""

POLICIES = [*standard_policies().values(), TABLE]
by_name = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)


def rng():
    return np.random.default_rng(7)


@st.composite
def policies(draw):
    """Any policy whose rounds are few enough to be driven many times."""
    kind = draw(st.sampled_from(["none", "fixed", "exponential", "full_jitter", "table"]))
    ages = sorted({0.0, *draw(st.lists(st.floats(0.1, 40.0), max_size=4))}) if kind == "table" else []
    gaps = st.sampled_from([0.3, 0.5, 1.0, 2.0, 7.3, 20.0, 100.0])
    schedule = Schedule(
        kind,
        interval_s=0.0 if kind in ("none", "table") else draw(st.sampled_from([0.3, 1.0, 2.0, 5.5])),
        factor=draw(st.sampled_from([1.0, 1.5, 2.0])),
        cap_s=draw(st.sampled_from([3.0, 30.0])),
        table=tuple((age, draw(gaps)) for age in ages),
    )
    return Policy(
        name="any",
        schedule=schedule,
        ask_info=draw(st.booleans()),
        fallback=draw(st.sampled_from([(404,), ()])),
        jitter=draw(st.sampled_from([0.0, 0.2, 0.9])),
        give_up_age_s=draw(st.sampled_from([0.0, 10.0, 30.0, 60.0])),
        horizon_s=draw(st.sampled_from([5.0, 30.0, 90.0])),
        max_requests=draw(st.sampled_from([3, 7, 20, 60])),
        error_retries=draw(st.sampled_from([0, 5])),
        load_cutoff_s=draw(st.sampled_from([None, 1.5])),
        connect_attempts=draw(st.sampled_from([1, 3])),
        fallback_age_s=draw(st.sampled_from([0.0, 0.0, 4.0, 25.0])),
        fallback_tries=draw(st.sampled_from([1, 1, 2, 4])),
    )


def short(policy, joinable_s, arrival_s, *, gone_s=INF, own_s=None, **options):
    """The scores of one join of one nest."""
    way = course(policy, arrival_s, rng(), **options)
    own = None if own_s is None else np.array([[own_s]])
    return score([[way]], np.array([[joinable_s]]), np.array([gone_s]), own)


def troubled(share, *, signal=0.0, info=0.0, seed=3, took_s=(0.01, 0.4)):
    """A network in which such shares of requests fail, in every way."""
    tally = Tally(100, timed_out=2, limited=3, broken=5, broken_s=took_s, retry_after_s=1.5)
    return Network(Failures(tally, tally, tally), np.random.default_rng(seed), shares=(info, share, signal))


def by_hand(policy, joinable_s, own_s, arrival_s, *, gone_s=INF, signed_in=True, round_trip_s=0.0, network=None):
    """As `play`, of a nest whose authenticated join succeeds only from `own_s` on."""
    begin = 1_000_000_000 * SECOND_NS
    now = begin + round(arrival_s * SECOND_NS)
    flow = join_flow("replayed", signed_in, policy, arrived_at=now, rng=rng(), nest=nest_at(begin))
    try:
        step = next(flow)
        while True:
            age_s, since = (now - begin) / SECOND_NS, own_s if isinstance(step, Join) else joinable_s
            failed, late = None, round(round_trip_s * SECOND_NS)
            if network and isinstance(step, Info | Join | Guest | Signal):
                failed = network.connect(step, now) if isinstance(step, Signal) else network.request(step, now, late)
            now += late if isinstance(step, Info | Join | Guest) else 0
            now = max(now, step.until) if isinstance(step, Wait) else now
            now = failed.at if failed else now
            step = flow.send(failed or answer(step, now, there=since <= age_s < gone_s))
    except StopIteration as ended:
        return ended.value


def agree(policy, joinable_s, arrival_s, *, gone_s=INF, own_s=None, network=None, **options):
    """Whether one join is scored as it goes step by step, with the same chances; network: what makes one."""
    fresh = {"network": network()} if network else {}
    scores = short(policy, joinable_s, arrival_s, gone_s=gone_s, own_s=own_s, **fresh, **options)
    fresh = {"network": network()} if network else {}
    if own_s is None:
        verdict = play(policy, joinable_s, arrival_s, rng(), gone_s=gone_s, **fresh, **options)
    else:
        verdict = by_hand(policy, joinable_s, own_s, arrival_s, gone_s=gone_s, **fresh, **options)
        needs_own = options.get("signed_in", True) and not policy.fallback
        joinable_s = own_s if needs_own else joinable_s
    assert bool(scores.joined[0, 0]) == verdict.joined
    assert scores.requests[0, 0] == verdict.requests
    tokens = [one.at for one in verdict.attempts if one.step in ("join", "guest")]
    token_s = (max(tokens, default=0) - 1_000_000_000 * SECOND_NS) / SECOND_NS
    assert network or token_s == pytest.approx(arrival_s + verdict.elapsed_s, abs=1e-6) or not verdict.joined
    delay = token_s - max(joinable_s, arrival_s) if verdict.joined else 0.0
    assert scores.delay[0, 0] == pytest.approx(delay, abs=1e-6)
    assert scores.vain[0, 0] == pytest.approx(0.0 if verdict.joined else verdict.elapsed_s, abs=1e-6)
    there = gone_s > max(joinable_s, arrival_s) and joinable_s < INF
    assert bool(scores.lost[0, 0]) == (there and not verdict.joined)
    return verdict


class TestTheShortWayIsTheLongWay:
    @settings(max_examples=400, deadline=None)
    @given(
        policy=st.one_of(policies(), st.sampled_from(POLICIES)),
        joinable_s=st.one_of(st.floats(-2.0, 70.0), st.sampled_from([-INF, 0.0, INF])),
        arrival_s=st.one_of(st.floats(-3.0, 70.0), st.just(0.0)),
        stays_s=st.one_of(st.just(INF), st.floats(0.0, 30.0)),
        own_after_s=st.one_of(st.none(), st.just(INF), st.floats(0.0, 20.0)),
        signed_in=st.booleans(),
        round_trip_s=st.sampled_from([0.0, 0.02, 0.5, 1.7]),
    )
    def test_for_any_policy_nest_and_joiner(
        self, policy, joinable_s, arrival_s, stays_s, own_after_s, signed_in, round_trip_s
    ):
        """Nests that come, go, never come, were always there, or let guests in before those who are signed in."""
        begin = joinable_s if math.isfinite(joinable_s) else 0.0
        own_s = None if own_after_s is None else INF if joinable_s == INF else begin + own_after_s
        ways = {"gone_s": begin + stays_s, "own_s": own_s, "signed_in": signed_in, "round_trip_s": round_trip_s}
        agree(policy, joinable_s, arrival_s, **ways)

    @settings(max_examples=400, deadline=None)
    @given(
        policy=st.one_of(policies(), st.sampled_from(POLICIES)),
        joinable_s=st.one_of(st.floats(-2.0, 40.0), st.sampled_from([-INF, 0.0, INF])),
        arrival_s=st.one_of(st.floats(-3.0, 40.0), st.just(0.0)),
        stays_s=st.one_of(st.just(INF), st.floats(0.0, 30.0)),
        own_after_s=st.one_of(st.none(), st.just(INF), st.floats(0.0, 20.0)),
        signed_in=st.booleans(),
        round_trip_s=st.sampled_from([0.0, 0.02, 0.5, 1.7]),
        shares=st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])] * 3),
        seed=st.integers(0, 99),
    )
    def test_for_any_policy_nest_joiner_and_network_that_fails(
        self, policy, joinable_s, arrival_s, stays_s, own_after_s, signed_in, round_trip_s, shares, seed
    ):
        begin = joinable_s if math.isfinite(joinable_s) else 0.0
        own_s = None if own_after_s is None else INF if joinable_s == INF else begin + own_after_s
        ways = {"gone_s": begin + stays_s, "own_s": own_s, "signed_in": signed_in, "round_trip_s": round_trip_s}
        info, token, signal = shares
        signal = signal if policy.person is None else 0.0  # the time that a person loses with it is left out
        agree(
            policy, joinable_s, arrival_s, network=lambda: troubled(token, signal=signal, info=info, seed=seed), **ways
        )

    @by_name
    @pytest.mark.parametrize("signed_in", [True, False])
    def test_for_nests_that_come_at_the_very_instant_of_a_request_that_may_fail(self, policy, signed_in):
        def network():
            return troubled(0.4, signal=0.4 if policy.person is None else 0.0, info=0.4, seed=5)

        ways = {"signed_in": signed_in, "round_trip_s": 0.25}
        for asked in course(policy, 1.5, rng(), network=network(), **ways).asked.tolist():
            for at in (asked, math.nextafter(asked, INF), math.nextafter(asked, -INF)):
                agree(policy, at, 1.5, network=network, **ways)
                agree(policy, 0.0, 1.5, gone_s=at, network=network, **ways)

    @by_name
    @pytest.mark.parametrize("signed_in", [True, False])
    def test_for_nests_that_come_or_go_at_the_very_instant_of_a_request(self, policy, signed_in):
        ways = {"signed_in": signed_in, "round_trip_s": 0.25}
        for asked in course(policy, 1.5, rng(), **ways).asked.tolist():
            for at in (asked, math.nextafter(asked, INF), math.nextafter(asked, -INF)):
                agree(policy, at, 1.5, **ways)
                agree(policy, 0.0, 1.5, gone_s=at, **ways)
                agree(policy, at, 1.5, gone_s=at + 0.1, **ways)

    def test_for_a_nest_that_comes_between_the_two_requests_of_a_round(self):
        """The authenticated join is refused, the guest's, half a second later, is not."""
        verdict = agree(replace(fixed(5), ask_info=False), 0.2, 0.0, round_trip_s=0.5)
        assert (verdict.kind, verdict.requests) == (Kind.GUEST_INSTEAD, 2)

    def test_for_a_nest_that_lets_guests_in_first(self):
        """At 5 s the guest's request succeeds; who does not fall back is let in at 15 s."""
        for round_trip_s, kind in ((0.0, Kind.GUEST_INSTEAD), (0.5, Kind.GUEST_INSTEAD)):
            assert agree(fixed(5), 2.0, 0.0, own_s=12.0, round_trip_s=round_trip_s).kind is kind
        alone = agree(replace(fixed(5), fallback=()), 2.0, 0.0, own_s=12.0)
        assert (alone.kind, alone.elapsed_s) == (Kind.AUTHENTICATED, 15.0)

    def test_for_a_nest_that_is_gone_between_the_two_requests_of_a_round(self):
        assert not agree(replace(GUIDE, ask_info=False), 0.0, 1.0, own_s=9.0, gone_s=1.2, round_trip_s=0.5).joined


class TestAListenersSeat:
    """What comes of somebody signed in where the guest's route is first."""

    @settings(deadline=None, max_examples=60)
    @given(
        policy=policies(),
        upgrades=st.sampled_from([0, 1, 3, 50]),
        guest_s=st.floats(0.0, 20.0),
        own_after_s=st.one_of(st.just(INF), st.floats(0.0, 30.0)),
        arrival_s=st.floats(0.0, 30.0),
    )
    def test_is_as_it_goes_step_by_step(self, policy, upgrades, guest_s, own_after_s, arrival_s):
        policy = replace(policy, upgrades=upgrades, fallback=(404,), max_requests=1_000)
        own_s = guest_s + own_after_s
        scores = short(policy, guest_s, arrival_s, own_s=own_s)
        verdict = by_hand(policy, guest_s, own_s, arrival_s)
        assert (bool(scores.joined[0, 0]), scores.requests[0, 0]) == (verdict.joined, verdict.requests)
        listens = verdict.kind is Kind.GUEST_INSTEAD and own_s < INF
        seats = [one.at for one in verdict.attempts if one.step == "signal"]
        assert scores.listener[0, 0] == listens
        listening = (seats[-1] - seats[0]) / SECOND_NS if verdict.kind is Kind.AUTHENTICATED else 0.0
        assert scores.listening[0, 0] == pytest.approx(listening, abs=1e-6)
        first_s = (seats[0] - 1_000_000_000 * SECOND_NS) / SECOND_NS if seats else 0.0
        delay = first_s - max(arrival_s, guest_s) if verdict.joined else 0.0
        assert scores.delay[0, 0] == pytest.approx(delay, abs=1e-6)

    def test_is_priced_as_a_share_of_none_and_of_each_second_until_the_own_one(self):
        prices = Prices(request_cost=0.0, delay_cost=2.0, lost_value=60.0, listener_share=0.25)
        once = replace(fixed(1), ask_info=False)
        assert short(once, 0.0, 0.0, own_s=4.5).cost(prices) == pytest.approx(15.0)
        assert short(replace(once, upgrades=9), 0.0, 0.0, own_s=4.5).cost(prices) == pytest.approx(0.25 * 2.0 * 5.0)
        assert short(replace(once, upgrades=4), 0.0, 0.0, own_s=4.5).cost(prices) == pytest.approx(15.0)
        assert short(replace(once, fallback_age_s=9.0), 0.0, 0.0, own_s=4.5).cost(prices) == pytest.approx(2.0 * 5.0)
        assert short(once, 0.0, 0.0, own_s=INF).cost(prices) == 0.0  # nobody could speak

    def test_is_no_matter_where_the_routes_are_not_proven_apart(self):
        found = courses(replace(fixed(1), ask_info=False), np.array([0.0]), rng())
        proven = np.array([True, False])
        scores = score(found, np.zeros((1, 2)), np.full(2, INF), np.full((1, 2), 4.5), proven)
        assert scores.listener.tolist() == [[1.0, 0.0]]

    def test_is_what_a_guest_by_choice_wanted(self):
        assert short(fixed(1), 0.0, 0.0, own_s=4.5, signed_in=False).listener.tolist() == [[0.0]]

    def test_for_a_nest_that_is_gone_before_the_round_after_its_coming(self):
        verdict = agree(PRESSED, 1.0, 0.0, gone_s=4.9)
        assert not verdict.joined
        assert short(PRESSED, 1.0, 0.0, gone_s=4.9).lost[0, 0] == 1.0
        assert agree(PRESSED, 1.0, 0.0, gone_s=5.1).joined

    @by_name
    def test_however_often_errors_may_be_tried_again(self, policy):
        """None comes in a world of 404s and tokens, so that they change nothing."""
        for retries in (0, 1, 9):
            changed = replace(policy, error_retries=retries)
            assert agree(changed, 8.0, 2.0) == agree(policy, 8.0, 2.0)


class TestACourse:
    def test_of_who_is_signed_in_has_an_authenticated_and_a_guests_request_a_round(self):
        way = course(PRESSED, 0.0, rng(), round_trip_s=0.5)
        assert way.asked[:4].tolist() == [0.5, 1.0, 6.5 + 0.5, 7.5]  # info first, then 5 s after the last answer
        assert way.answered[:4].tolist() == [1.0, 1.5, 7.5, 8.0]
        assert way.requests[:4].tolist() == [2, 3, 5, 6]

    def test_of_a_guest_has_one(self):
        way = course(PRESSED, 0.0, rng(), signed_in=False, round_trip_s=0.5)
        assert way.asked[:2].tolist() == [0.5, 6.5]
        assert way.requests[:2].tolist() == [2, 4]

    def test_without_travel_names_each_round_once(self):
        way = course(PRESSED, 0.0, rng())
        assert way.asked.tolist() == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
        assert way.requests.tolist() == [2, 5, 8, 11, 14, 17, 20]
        assert (way.total, way.ended) == (21, 30.0)

    def test_without_info_makes_one_request_a_round_less(self):
        way = course(replace(PRESSED, ask_info=False), 0.0, rng())
        assert way.requests.tolist() == [1, 3, 5, 7, 9, 11, 13]
        assert way.total == 14

    def test_of_the_released_client_loads_the_nest_by_no_request(self):
        way = course(RELEASED, 3.0, rng())
        assert way.asked.tolist() == [3.0]
        assert way.total == 3

    def test_from_an_age_past_the_give_up_age_has_one_round(self):
        assert course(PRESSED, 31.0, rng()).asked.tolist() == [31.0]

    def test_of_a_person_ends_where_they_leave_or_find_no_button(self):
        ages = np.zeros(40)
        found = [way for shapes in courses(MANUAL_RETRY, ages, rng(), shapes=25) for way in shapes]
        pressed = np.array([len(way.asked) - 1 for way in found])
        assert np.mean(pressed > 0) == pytest.approx(0.8, abs=0.002)  # of a thousand, stratified
        assert np.mean(pressed > 1) == pytest.approx(0.64, abs=0.002)
        first = np.array([way.asked[1] for way in found if len(way.asked) > 1])
        assert np.median(first) == pytest.approx(5.0, abs=0.3)
        assert np.log(first).std() == pytest.approx(0.5, abs=0.03)
        assert max(way.ended for way in found) <= MANUAL_RETRY.horizon_s
        told_gone = [way for shapes in courses(MANUAL_RETRY, ages + 40.0, rng()) for way in shapes]
        assert np.mean([len(way.asked) > 1 for way in told_gone]) == pytest.approx(0.5, abs=0.01)
        no_button = replace(RELEASED, person=Person(leaves=0.0, leaves_gone=0.0))
        assert {len(way.asked) for shapes in courses(no_button, ages, rng()) for way in shapes} == {1}

    def test_of_a_person_goes_on_after_a_request_that_timed_out_and_not_after_a_reset(self):
        stays = replace(MANUAL_RETRY, person=Person(leaves=0.0, leaves_gone=0.0))
        for tally, goes_on in ((Tally(9, timed_out=9), True), (Tally(9, broken=9, broken_s=(0.1,)), False)):
            network = Network(Failures(Tally(9), tally, Tally(9)), np.random.default_rng(1), shares=(0.0, 1.0, 0.0))
            way = course(stays, 0.0, rng(), network=network)
            assert (way.total > 2, len(way.asked)) == (goes_on, 0)

    @settings(max_examples=150, deadline=None)
    @given(policy=policies(), arrival_s=st.floats(0.0, 60.0), round_trip_s=st.sampled_from([0.0, 0.3]))
    def test_ascends_within_the_bounds_of_its_policy(self, policy, arrival_s, round_trip_s):
        way = course(policy, arrival_s, rng(), round_trip_s=round_trip_s)
        assert (np.diff(way.asked) >= 0).all()
        assert (np.diff(way.asked[way.own]) > 0).all()
        assert way.seats is not None or (np.diff(way.asked) > 0).all()
        assert (np.diff(way.requests) > 0).all()
        assert way.asked[0] >= arrival_s - 1e-9
        assert way.asked[-1] <= arrival_s + policy.horizon_s + 2 * round_trip_s + 1e-9
        assert way.answered == pytest.approx(way.asked + round_trip_s)
        assert way.requests[-1] <= way.total <= policy.max_requests

    def test_is_driven_several_times_only_where_chance_enters(self):
        ages = np.array([0.0, 5.0])
        for policy in POLICIES:
            found = courses(policy, ages, rng())
            chance = policy.jitter > 0 or policy.schedule.kind == "full_jitter"
            many = PERSONS if policy.person is not None else SHAPES if chance else 1
            assert [len(shapes) for shapes in found] == [many] * 2
            assert [shapes[0].arrival_s for shapes in found] == ages.tolist()
            assert (len({tuple(way.asked) for way in found[0]}) > 1) == (many > 1)

    def test_is_the_same_for_the_same_chances(self):
        first, again = (courses(TABLE, np.array([0.0, 4.0]), rng()) for _ in range(2))
        for one, other in zip(first, again, strict=True):
            assert [way.asked.tolist() for way in one] == [way.asked.tolist() for way in other]


def alone(error_retries=0, **more):
    """One request of a guest's, and what error retries add."""
    return replace(GUIDE, ask_info=False, error_retries=error_retries, **more)


def mean(policy, share, *, signal=0.0, shapes=64, arrivals=32, signed_in=False, round_trip_s=0.0):
    """Scores of a nest that is there all the time, in a network where such shares fail; at once."""
    tally = Tally(100, broken=10, broken_s=(0.0,))
    shares = np.tile([0.0, share, signal], (shapes, 1))
    ages = np.linspace(1.0, 20.0, arrivals)
    found = courses(
        policy,
        ages,
        rng(),
        signed_in=signed_in,
        round_trip_s=round_trip_s,
        failures=Failures(token=tally),
        shares=shares,
    )
    return score(found, np.zeros((shapes, 1)), np.array([INF]))


class TestFailures:
    @pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.75, 1.0])
    def test_lose_just_their_share_of_who_asks_once(self, share):
        scores = mean(alone(), share)
        assert scores.lost.mean() == pytest.approx(share, abs=1 / 2048)
        assert scores.joined.mean() == pytest.approx(1.0 - share, abs=1 / 2048)
        assert (scores.requests == 1.0).all()

    @pytest.mark.parametrize("retries", [1, 2, 3])
    def test_lose_a_power_of_it_of_who_asks_again(self, retries):
        """And every retry but the first waits twice as long as the one before: 1, 2, 4 s."""
        share = 0.4
        scores = mean(alone(retries), share, shapes=100)
        assert scores.lost.mean() == pytest.approx(share ** (retries + 1), abs=0.02)
        assert scores.requests.mean() == pytest.approx(sum(share**k for k in range(retries + 1)), abs=0.03)
        waited = sum((1 - share) * share**k * (2**k - 1) for k in range(retries + 1))
        assert scores.delay.mean() == pytest.approx(waited, abs=0.06)

    @pytest.mark.parametrize("attempts", [1, 2, 3])
    def test_of_connections_lose_a_power_of_their_share_and_no_request(self, attempts):
        scores = mean(alone(connect_attempts=attempts), 0.0, signal=0.4)
        assert scores.lost.mean() == pytest.approx(0.4**attempts, abs=0.01)
        assert (scores.requests == 1.0).all()
        assert scores.delay == pytest.approx(0.0, abs=1e-9)

    def test_of_both_kinds_are_independent(self):
        scores = mean(alone(), 0.3, signal=0.2, shapes=100)
        assert scores.joined.mean() == pytest.approx(0.7 * 0.8, abs=0.02)

    @pytest.mark.parametrize("policy", [GUIDE, PRESSED, alone(), fixed(2), TABLE], ids=lambda one: one.name)
    def test_lose_the_more_the_more_there_are(self, policy):
        lost = [mean(policy, share, signed_in=True, shapes=16).lost.mean() for share in (0.0, 0.1, 0.3, 0.6, 0.9)]
        assert lost == sorted(lost)
        assert lost[-1] > lost[0]

    def test_are_not_taken_for_a_404(self):
        """No guest's request after an authenticated one that failed: the verdict is API down, and not guest."""
        verdict = play(replace(GUIDE, ask_info=False), 0.0, 1.0, rng(), network=troubled(1.0))
        assert (verdict.kind in (Kind.API_DOWN, Kind.RATE_LIMITED), verdict.requests) == (True, 1)

    def test_of_info_lose_nobody(self):
        found = courses(
            GUIDE,
            np.array([1.0]),
            rng(),
            failures=Failures(info=Tally(10, broken=5, broken_s=(0.25,))),
            shares=np.array([[1.0, 0.0, 0.0]]),
            round_trip_s=1.0,
        )
        scores = score(found, np.array([[0.0]]), np.array([INF]))
        assert (scores.joined[0, 0], scores.requests[0, 0], scores.delay[0, 0]) == (1.0, 2.0, 1.25)

    @pytest.mark.parametrize("none", [None, Failures(), Failures(token=Tally(300), signal=Tally(5))])
    def test_where_none_were_seen_change_nothing(self, none):
        for policy in POLICIES:
            ages = np.array([0.0, 7.0])
            assert repr(courses(policy, ages, rng(), failures=none)) == repr(courses(policy, ages, rng()))

    def test_are_the_same_for_the_same_chances_and_not_for_others(self):
        one, same, other = (
            courses(TABLE, np.array([0.0, 4.0]), rng_, failures=Failures(token=Tally(10, broken=5, broken_s=(0.1,))))
            for rng_ in (rng(), rng(), np.random.default_rng(8))
        )
        assert repr(one) == repr(same) != repr(other)

    def test_never_take_more_requests_than_the_policy_allows(self):
        for share in (0.2, 0.9):
            for seed in range(20):
                policy = replace(TABLE, max_requests=7)
                way = course(policy, 0.0, rng(), network=troubled(share, info=share, seed=seed))
                assert way.total <= 7

    def test_have_chances_that_are_spread_evenly(self):
        """Over the arrivals of a shape, and over all; and those of a course do not depend on each other."""
        found = stratified(32, 10, rng())
        assert found.shape == (32, 10, STRATIFIED, CHANCES)
        assert ((found >= 0) & (found < 1)).all()
        assert (np.sort(np.floor(found * 32), axis=0) == np.arange(32)[:, None, None, None]).all()
        assert (np.sort(np.floor(found * 320).reshape(320, -1), axis=0) == np.arange(320)[:, None]).all()
        flat = stratified(32, 200, rng()).reshape(6400, -1)
        apart = np.corrcoef(flat.T)[np.triu_indices(flat.shape[1], 1)]
        assert abs(apart).max() < 0.06


class TestScores:
    def test_of_a_nest_that_was_there_all_the_time(self):
        for at in (-INF, 0.0, 3.0):
            scores = short(GUIDE, at, 3.0, round_trip_s=0.5)
            assert (scores.joined, scores.lost, scores.requests, scores.vain) == (1.0, 0.0, 2.0, 0.0)
            assert scores.delay == 1.0  # info and the authenticated join

    def test_of_one_that_never_comes(self):
        scores = short(PRESSED, INF, 2.0)
        assert (scores.joined, scores.lost, scores.delay, scores.requests) == (0.0, 0.0, 0.0, 21.0)
        assert scores.vain == 30.0  # asked at 2, 7, ..., 27 and 32: the wait for that began at 27

    def test_of_one_that_was_gone_before_the_joiner_came_is_no_loss(self):
        scores = short(GUIDE, 1.0, 6.0, gone_s=5.0)
        assert (scores.joined, scores.lost) == (0.0, 0.0)

    def test_of_one_that_comes_after_the_last_request(self):
        scores = short(PRESSED, 31.0, 0.0)
        assert (scores.joined, scores.lost, scores.vain) == (0.0, 1.0, 30.0)

    def test_of_a_guest_instead_count_the_request_that_was_refused(self):
        early, late = (short(replace(GUIDE, ask_info=False), at, 0.0, round_trip_s=0.5) for at in (0.0, 0.3))
        assert (early.requests, late.requests) == (1.0, 2.0)
        assert (early.delay, late.delay) == (0.5, pytest.approx(0.7))

    def test_are_means_over_the_joiners_of_a_nest(self):
        """Arrivals at 0 and 4 of a nest that comes at 2: one is lost, the other joins at once."""
        scores = score(courses(GUIDE, np.array([0.0, 4.0]), rng()), np.array([[2.0]]), np.array([INF]))
        assert (scores.joined, scores.lost, scores.requests) == (0.5, 0.5, 2.5)
        assert scores.requests_squared == (9 + 4) / 2

    def test_take_the_courses_in_turn(self):
        """Imputation i goes by course i modulo their number, of each arrival."""
        ages, times, gone = np.array([0.0, 3.0]), np.array([[4.0, 9.0]] * 6), np.array([INF, INF])
        found = courses(TABLE, ages, rng())
        scores = score(found, times, gone)
        for row in range(6):
            chosen = [[shapes[row % SHAPES]] for shapes in found]
            assert scores.delay[row].tolist() == score(chosen, times[:1], gone).delay[0].tolist()
        assert scores.delay[0].tolist() == scores.delay[SHAPES].tolist()
        assert scores.delay[0].tolist() != scores.delay[1].tolist()

    def test_take_persons_in_turn(self):
        """Nest j of imputation i meets person i + j; where requests fail, each imputation has persons of its own."""
        ages, times, gone = np.array([0.0, 3.0]), np.full((3, 20), 9.0), np.full(20, INF)
        lossy = Failures(token=Tally(100, broken=10, broken_s=(0.1,)))
        shares = np.tile(lossy.shares(), (3, 1))
        for some in ({}, {"failures": lossy, "shares": shares}):
            found = courses(MANUAL_RETRY, ages, rng(), **some)
            scores = score(found, times, gone)
            for row, nest in product(range(3), range(20)):
                person = row * FEWER_PERSONS + nest % FEWER_PERSONS if some else (row + nest) % PERSONS
                alone = [[replace(shapes[person], turns=1)] for shapes in found]
                met = score(alone, times[:1, :1], gone[:1])
                assert scores.vain[row, nest] == met.vain
                assert scores.delay[row, nest] == met.delay

    def test_of_persons_fill_the_space_of_their_chances(self):
        found = persons(32, 8, rng())
        assert found.shape == (32, 8, LED)
        assert ((found >= 0) & (found < 1)).all()
        assert (np.sort(np.floor(found.reshape(256, LED) * 256), axis=0) == np.arange(256)[:, None]).all()
        assert (np.sort(np.floor(found[:, 3] * 32), axis=0) == np.arange(32)[:, None]).all()
        assert persons(3, 5, rng()).shape == (3, 5, LED)

    def test_of_parts_put_together_are_those_of_the_whole(self):
        times, gone = np.array([[0.0, 1.0, 7.0, 40.0, INF]]), np.array([INF, INF, 9.0, INF, INF])
        found = courses(PRESSED, np.array([0.0, 2.0]), rng())
        odd = np.array([True, False, True, False, True])
        whole = score(found, times, gone)
        joint = Scores.joint([(part, score(found, times[:, part], gone[part])) for part in (odd, ~odd)])
        for name in Scores.__slots__:
            assert getattr(joint, name).tolist() == getattr(whole, name).tolist()

    def test_cost_what_the_prices_say(self):
        prices = Prices(request_cost=0.1, delay_cost=1.0, lost_value=60.0, never_cost=0.05)
        assert short(PRESSED, 2.0, 0.0).cost(prices) == pytest.approx(0.1 * 5 + 3.0)
        assert short(PRESSED, 31.0, 0.0).cost(prices) == pytest.approx(0.1 * 21 + 0.05 * 30 + 60.0)
        assert short(PRESSED, INF, 0.0).cost(prices) == pytest.approx(0.1 * 21 + 0.05 * 30)
