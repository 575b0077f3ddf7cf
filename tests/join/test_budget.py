"""The request budget: a sliding window, corrected by what the server says, never negative."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.join.budget import Budget, Limiter

S = 1_000_000_000
NOW = 1_700_000_000 * S


def headers(**values):
    return {name.replace("_", "-"): str(value) for name, value in values.items()}


def spend(limiter, count, now=NOW):
    return sum(limiter.take(now) for _ in range(count))


def test_the_default_leaves_a_fifth_of_the_deployed_limit_to_others():
    limiter = Limiter()
    assert spend(limiter, 200) == 80
    assert (limiter.left(NOW), limiter.refused) == (0, 120)


def test_the_window_slides():
    limiter = Limiter(allowed=2, window_s=10)
    assert limiter.take(NOW)
    assert limiter.take(NOW + 4 * S)
    assert not limiter.take(NOW + 9 * S)
    assert limiter.take(NOW + 10 * S)  # the first is ten seconds old
    assert not limiter.take(NOW + 13 * S)
    assert limiter.take(NOW + 14 * S)


def test_cleaning_up_may_use_what_is_kept_back_but_not_against_the_servers_no():
    limiter = Limiter(allowed=0)
    assert not limiter.take(NOW)
    assert limiter.take(NOW, urgent=True)
    limiter.learn(headers(retry_after=10), 429, NOW)
    assert not limiter.take(NOW, urgent=True)
    assert limiter.take(NOW + 10 * S, urgent=True)


class TestLearning:
    def test_four_fifths_of_the_announced_limit_are_used(self):
        limiter = Limiter()
        limiter.learn(headers(ratelimit_policy="1000;w=60"), 200, NOW)
        assert (limiter.announced, limiter.allowed, limiter.window_s) == (1000, 800, 60.0)

    def test_a_limit_without_a_policy_keeps_the_window(self):
        limiter = Limiter()
        limiter.learn(headers(ratelimit_limit=50), 200, NOW)
        assert (limiter.allowed, limiter.window_s) == (40, 900.0)

    def test_the_least_limit_still_lets_one_through(self):
        limiter = Limiter()
        limiter.learn(headers(ratelimit_policy="1;w=60"), 200, NOW)
        assert limiter.left(NOW) == 1

    def test_fewer_remaining_than_counted_counts_since_others_share_the_address(self):
        limiter = Limiter()
        limiter.take(NOW)
        limiter.learn(headers(ratelimit_policy="100;w=900", ratelimit_remaining=30, ratelimit_reset=500), 200, NOW)
        assert limiter.left(NOW) == 10  # 30 less the fifth that is others'
        assert spend(limiter, 50) == 10

    def test_and_no_more_after_the_reset(self):
        limiter = Limiter()
        limiter.learn(headers(ratelimit_policy="100;w=900", ratelimit_remaining=20, ratelimit_reset=500), 200, NOW)
        assert limiter.left(NOW + 500 * S - 1) == 0
        assert limiter.left(NOW + 500 * S) == 80

    def test_more_remaining_than_counted_changes_nothing(self):
        limiter = Limiter()
        spend(limiter, 79)
        limiter.learn(headers(ratelimit_policy="100;w=900", ratelimit_remaining=99, ratelimit_reset=900), 200, NOW)
        assert limiter.left(NOW) == 1

    def test_a_429_closes_until_it_says(self):
        limiter = Limiter()
        limiter.learn(headers(retry_after=30), 429, NOW)
        assert limiter.left(NOW + 30 * S - 1) == 0
        assert not limiter.take(NOW)
        assert limiter.left(NOW + 30 * S) == 80

    def test_a_429_that_says_nothing_closes_for_a_minute(self):
        limiter = Limiter()
        limiter.learn({}, 429, NOW)
        assert (limiter.left(NOW + 59 * S), limiter.left(NOW + 60 * S)) == (0, 80)

    @pytest.mark.parametrize(
        "unreadable",
        [
            headers(ratelimit_policy="lots", ratelimit_remaining="many", ratelimit_reset="soon"),
            headers(ratelimit_limit="-5"),
            headers(ratelimit_limit="0"),
            headers(ratelimit_limit="9" * 400),
            headers(ratelimit_limit="٣"),
            headers(ratelimit_limit=""),
            headers(ratelimit_policy=";w="),
            headers(ratelimit_remaining="5"),
            {},
        ],
        ids=repr,
    )
    def test_unreadable_headers_change_nothing(self, unreadable):
        limiter = Limiter()
        limiter.learn(unreadable, 200, NOW)
        assert limiter == Limiter()

    def test_a_window_of_no_length_is_not_believed(self):
        limiter = Limiter()
        limiter.learn(headers(ratelimit_policy="100;w=0"), 200, NOW)
        assert limiter.window_s == 900.0


POLICIES = ["100;w=900", "5;w=1", "0;w=0", "x", "1000000;w=900", "3;w=2, 9;w=30", '"a";q=2;w=1, "b";q=300;w=60']
MOVES = st.lists(
    st.tuples(
        st.integers(0, 2_000 * S),
        st.one_of(
            st.just("take"),
            st.fixed_dictionaries(
                {},
                optional={
                    "ratelimit-policy": st.sampled_from(POLICIES),
                    "ratelimit": st.sampled_from(['"a";r=1;t=1', '"b";r=0;t=40', "limit=5, remaining=0, reset=9"]),
                    "ratelimit-limit": st.integers(-1, 200).map(str),
                    "ratelimit-remaining": st.integers(-1, 200).map(str),
                    "ratelimit-reset": st.integers(-1, 2_000).map(str),
                    "retry-after": st.integers(-1, 2_000).map(str) | st.text(max_size=5),
                },
            ),
        ),
        st.sampled_from([200, 404, 429, 500, None]),
    ),
    max_size=60,
)


@pytest.mark.slow
@given(moves=MOVES, allowed=st.integers(0, 20), window_s=st.floats(0.001, 1_000))
def test_what_is_left_is_never_negative_and_take_takes_only_what_is_left(moves, allowed, window_s):
    limiter, now = Limiter(allowed, window_s), NOW
    for passed, move, status in moves:
        now += passed
        left = limiter.left(now)
        assert left >= 0
        if move == "take":
            assert limiter.opens_at(now) >= now
            assert (limiter.opens_at(now) == now) is (left > 0)
            assert limiter.take(now) is (left > 0)
            assert limiter.left(now) <= max(0, left - 1)
        else:
            limiter.learn(move, status, now)
            assert limiter.left(now) >= 0


@given(
    gaps=st.lists(st.integers(0, 20 * S), min_size=1, max_size=120),
    allowed=st.integers(1, 10),
    window_s=st.integers(1, 60),
)
def test_no_window_ever_holds_more_than_is_allowed(gaps, allowed, window_s):
    limiter, now, sent = Limiter(allowed, float(window_s)), NOW, []
    for gap in gaps:
        now += gap
        if limiter.take(now):
            sent.append(now)
    for at in sent:
        assert sum(at - window_s * S < other <= at for other in sent) <= allowed


@given(
    gaps=st.lists(st.integers(0, S // 2), min_size=1, max_size=300),
    policy=st.sampled_from([((10, 1), (100, 30)), ((5, 2), (30, 9), (400, 60))]),
)
def test_no_window_of_any_quota_ever_holds_more_than_its_share(gaps, policy):
    limiter, now, sent = Limiter(), NOW, []
    limiter.learn(headers(ratelimit_policy=", ".join(f"{limit};w={w}" for limit, w in policy)), 200, NOW)
    for gap in gaps:
        now += gap
        if limiter.take(now):
            sent.append(now)
    for limit, w in policy:
        assert all(sum(at - w * S < other <= at for other in sent) <= limit * 0.8 for at in sent)


@pytest.mark.slow
@given(gaps=st.lists(st.integers(0, S // 10), min_size=300, max_size=600))
def test_a_large_window_is_counted_in_grains_and_never_too_low(gaps):
    limiter, now, sent = Limiter(300, 10.0), NOW, []
    for gap in gaps:
        now += gap
        if limiter.take(now):
            sent.append(now)
        assert limiter.left(now) <= 300 - sum(now - 10 * S < at for at in sent)
    assert len(limiter.state()["windows"][0][2]) <= 202


class TestTurns:
    def test_the_next_turn_is_when_enough_is_a_window_ago(self):
        limiter = Limiter(2, 10)
        assert [limiter.take(NOW + at * S) for at in (0, 4)] == [True, True]
        assert limiter.opens_at(NOW + 5 * S) == NOW + 10 * S
        assert limiter.take(NOW + 10 * S)
        assert limiter.opens_at(NOW + 10 * S) == NOW + 14 * S

    def test_a_burst_is_waited_for_and_not_planned_by(self):
        limiter = Limiter()
        limiter.learn(headers(ratelimit_policy="5;w=2, 100;w=900"), 200, NOW)
        assert spend(limiter, 10) == 4
        assert (limiter.left(NOW), limiter.left(NOW, bursts=False)) == (0, 76)
        assert limiter.opens_at(NOW) == NOW + 2 * S

    @pytest.mark.parametrize(
        ("headers", "status", "words"),
        [
            (headers(retry_after=30), 429, "the server asked for a pause until 22:13:50 UTC"),
            (headers(retry_after=30), 503, "the server asked for a pause until 22:13:50 UTC"),
            (headers(retry_after=3600 * 20, ratelimit_policy="5;w=86400"), 429, "until 2023-11-15 18:13 UTC"),
            (
                headers(ratelimit_policy="100;w=900", ratelimit_remaining=0, ratelimit_reset=40),
                200,
                "of this address is spent, by the server's own count, until 22:14:00 UTC",
            ),
        ],
        ids=["429", "503", "a long pause", "nothing remains"],
    )
    def test_why_it_is_shut_and_until_when(self, headers, status, words):
        limiter = Limiter()
        limiter.learn(headers, status, NOW)
        assert words in limiter.why_shut(NOW)

    def test_a_spent_budget_says_how_much_it_was(self):
        limiter = Limiter(2, 10)
        spend(limiter, 2)
        assert limiter.why_shut(NOW) == "the request budget of this host (2 in 10 s) is spent until 22:13:30 UTC"
        assert Limiter(0).why_shut(NOW) == "the request budget of this host (0 in 900 s) is spent"

    @pytest.mark.parametrize("status", [200, 301, 404, 500, 502, 504])
    def test_retry_after_closes_the_gate_only_where_it_is_a_refusal(self, status):
        limiter = Limiter()
        limiter.learn(headers(retry_after=30), status, NOW)
        assert limiter.left(NOW) == 80

    def test_a_503_that_does_not_say_when_closes_nothing(self):
        limiter = Limiter()
        limiter.learn(headers(ratelimit_reset=900), 503, NOW)
        assert limiter.left(NOW) == 80

    def test_cleaning_waits_for_a_closed_gate_ten_seconds_at_most(self):
        limiter = Limiter(0)
        limiter.learn(headers(retry_after=1_000), 429, NOW)
        assert limiter.opens_at(NOW, urgent=True) == NOW + 10 * S
        assert not limiter.take(NOW, urgent=True)
        assert limiter.take(NOW + 10 * S, urgent=True)


class TestState:
    def used(self):
        limiter = Limiter()
        limiter.learn(headers(ratelimit_policy="5;w=2, 100;w=900", ratelimit_remaining=90, ratelimit_reset=9), 200, NOW)
        spend(limiter, 3)
        limiter.learn(headers(retry_after=30), 429, NOW)
        return limiter

    def test_a_state_comes_back_as_it_was(self):
        other = Limiter()
        other.restore(json.loads(json.dumps(self.used().state())), NOW)
        assert other == self.used()

    def test_what_lies_ahead_because_a_clock_was_set_back_is_as_of_now(self):
        other = Limiter()
        other.restore(self.used().state(), NOW - 86_400 * S)
        assert other.left(NOW - 86_400 * S + 3_599 * S) == 0  # no wait is believed for longer than an hour
        assert other.left(NOW - 86_400 * S + 3_600 * S, bursts=False) == 80

    @pytest.mark.parametrize(
        "state",
        [
            {},
            {"windows": []},
            {"windows": [], "closed": [0, 0], "ceilings": [], "announced": None},
            {"windows": [["a", 1, []]], "closed": [0, 0], "ceilings": [], "announced": None},
            {"windows": [[5, 0, []]], "closed": [0, 0], "ceilings": [], "announced": None},
            {"windows": [[5, float("inf"), []]], "closed": [0, 0], "ceilings": [], "announced": None},
            {"windows": [[5, float("nan"), []]], "closed": [0, 0], "ceilings": [], "announced": None},
            {"windows": [[10**9, 1, []]], "closed": [0, 0], "ceilings": [], "announced": None},
            {"windows": [[5, 1, [[1]]]], "closed": [0, 0], "ceilings": [], "announced": None},
            {"windows": [[5, 1, []]], "closed": [0], "ceilings": [], "announced": None},
            {"windows": [[5, 1, []]], "closed": [0, float("inf")], "ceilings": [], "announced": None},
            {"windows": [[5, 1, []]], "closed": [0, 0], "ceilings": [[1]], "announced": None},
            {"windows": [[5, 1, []]], "closed": [0, 0], "ceilings": [], "announced": "x"},
        ],
        ids=repr,
    )
    def test_what_is_no_state_changes_nothing(self, state):
        limiter = Limiter()
        with pytest.raises((ValueError, TypeError, KeyError, IndexError, OverflowError)):
            limiter.restore(state, NOW)
        assert limiter == Limiter()


class TestHosts:
    budget = Budget(5, 10)

    @pytest.mark.parametrize("other", ["https://h.example/other", "https://H.EXAMPLE/api", "https://h.example:443/api"])
    def test_one_host_has_one_limiter(self, other):
        assert self.budget.of("https://h.example/api/v1/nests") is self.budget.of(other)

    def test_another_host_or_port_has_another(self):
        made = [self.budget.of(url) for url in ("http://h:1/a", "http://h:2/a", "http://g:1/a")]
        assert len({id(limiter) for limiter in made}) == 3
        assert {(limiter.allowed, limiter.window_s) for limiter in made} == {(5, 10)}
