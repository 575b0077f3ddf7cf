"""The offset of a clock as an interval: simulated servers whose true offset is known."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import AGREED, AIMED_S, DRIFT, LATE_S, UNSURE_S, Offset, Relation, apart_words
from worlds.dated import KINDS, NOON, Server, at, compared, ns, way


def ask(relation: Relation, sent_s: float, offset_s: float, way_s: float = 0.01, back_s: float = 0.01) -> None:
    """A question sent at `sent_s` on our clock, which is `offset_s` ahead of the server's."""
    Server(lambda _: offset_s).ask(relation, sent_s, way_s, back_s)


def holds(found: Offset, offset_s: float) -> bool:
    return abs(found.offset_s - offset_s) <= found.error_s + 1e-6


def test_where_nothing_was_learnt_nothing_is_known():
    assert Relation().at(NOON) is None


WAYS = st.floats(0, 3)
COURSES = st.lists(st.tuples(st.floats(0, 60), WAYS, WAYS, st.floats(-1, 1)), min_size=1, max_size=30)
"""Of each question: how long after the last answer, out, back, and how fast the clocks part, of DRIFT."""


def parting(offset_s: float, course: list[tuple[float, float, float, float]]) -> Server:
    """A clock that is slewed now one way and now the other, as NTP does while it corrects one."""
    ends = [*accumulate(sum(step[:3]) for step in course)]

    def offset(at_s: float) -> float:
        found, since = offset_s, 0.0
        for until, (*_, drift) in zip(ends, course, strict=True):
            found += drift * DRIFT * (min(max(at_s, since), until) - since)
            since = until
        return found

    return Server(offset)


@pytest.mark.parametrize("aimed", [False, True])
@given(offset_s=st.floats(-100_000, 100_000), course=COURSES, kind=st.sampled_from(KINDS), seed=st.integers(0, 99))
def test_it_holds_the_truth_whatever_the_way_takes_and_the_clocks_drift(aimed, offset_s, course, kind, seed):
    server, relation, now_s = parting(offset_s, course), Relation(), 0.0
    server = Server(server.offset, kind, random.Random(seed))
    for wait_s, way_s, back_s, _ in course:
        due_s = now_s + wait_s
        if aimed:
            earliest, latest = NOON + ns(now_s), NOON + ns(due_s + 1.0)
            due_s = (relation.best_near(NOON + ns(due_s), earliest=earliest, latest=latest) - NOON) / SECOND_NS
        now_s = server.ask(relation, due_s, way_s, back_s)
        assert server.is_held(relation, now_s)
        assert server.is_held(relation, now_s + 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_asked_at_the_right_fractions_a_few_answers_tell_it_to_a_twentieth_of_a_second(kind):
    """At random ones twenty do not."""
    after, chance = {5: [], 10: [], 20: []}, []
    for seed in range(200):
        draw = random.Random(seed)
        offset_s, drift = draw.uniform(-120, 120), draw.uniform(-0.2, 0.2) * DRIFT
        server = Server(lambda at_s, o=offset_s, d=drift: o + d * at_s, kind, draw)
        met = compared(server, draw, 20, aimed=True, most_s=0.05)
        assert not met.false
        for count, errors in after.items():
            errors.append(met.errors_s[count - 1])
        chance.append(compared(server, draw, 20, aimed=False, most_s=0.05).errors_s[-1])
    assert sorted(after[10])[100] <= AIMED_S
    assert sorted(after[20])[190] <= AIMED_S + DRIFT * 8
    if kind != "fine":
        assert sorted(after[5])[100] < sorted(chance)[100]


@pytest.mark.parametrize("kind", ["exact", "kept", "beaten"])
def test_what_a_long_way_leaves_is_half_of_it(kind):
    """And then nothing is asked at chosen instants any more."""
    draw, relation, now_s = random.Random(3), Relation(), 0.0
    server = Server(lambda _: 3.3, kind, draw)
    for _ in range(12):
        due = relation.best_near(NOON + ns(now_s + 2), earliest=NOON + ns(now_s), latest=NOON + ns(now_s + 3))
        now_s = server.ask(relation, (due - NOON) / SECOND_NS, 0.15, 0.05)
    assert server.is_held(relation, now_s)
    assert 0.1 <= at(relation, now_s).error_s <= 0.14
    assert relation.settled(NOON + ns(now_s))


TIMES = st.integers(0, 100 * SECOND_NS)


@given(asked=st.lists(st.tuples(st.floats(0, 5), WAYS), max_size=6), due=TIMES, around=st.tuples(TIMES, TIMES))
def test_a_chosen_instant_is_less_than_a_second_away_and_within_what_is_allowed(asked, due, around):
    relation, now_s = Relation(), 0.0
    for wait_s, way_s in asked:
        ask(relation, now_s := now_s + wait_s, 0.7, way_s)
    earliest, latest = sorted(NOON + one for one in around)
    found = relation.best_near(NOON + due, earliest=earliest, latest=latest)
    assert abs(found - NOON - due) < SECOND_NS
    assert found == NOON + due or earliest <= found <= latest
    if not asked:
        assert found == NOON + due


def test_one_question_at_a_time_is_asked_at_a_chosen_instant():
    relation = Relation()
    ask(relation, 0.0, 0.4)
    first = relation.best_near(NOON + ns(3.0), earliest=NOON, latest=NOON + ns(9))
    assert first != NOON + ns(3.0)
    assert relation.best_near(NOON + ns(3.1), earliest=NOON, latest=NOON + ns(9)) == NOON + ns(3.1)
    ask(relation, (first - NOON) / SECOND_NS, 0.4)
    assert relation.best_near(NOON + ns(3.7), earliest=NOON, latest=NOON + ns(9)) != NOON + ns(3.7)


@pytest.mark.parametrize("offset_s", [0.0, 0.5, -40.0, 3_600.25])
def test_twenty_answers_at_any_fractions_of_a_second_tell_it_to_a_few_hundredths(offset_s):
    errors = []
    for seed in range(200):
        draw, relation, now_s = random.Random(seed), Relation(), 0.0
        for _ in range(20):
            now_s += draw.uniform(0.5, 3.0)
            ask(relation, now_s, offset_s)
        found = at(relation, now_s)
        assert holds(found, offset_s)
        errors.append(found.error_s)
    assert sorted(errors)[100] <= 0.06 + LATE_S


def test_what_was_learnt_gets_less_sure():
    relation = Relation()
    ask(relation, 0.0, 0.3)
    before, after = at(relation, 1.0), at(relation, 1001.0)
    assert after.error_s - before.error_s == pytest.approx(1000 * DRIFT)
    assert (before.age_s, after.age_s) == pytest.approx((0.98, 1000.98))


@pytest.mark.parametrize("step_s", [-3_600.0, -2.5, 2.5, 40.0])
def test_after_a_step_both_count_for_a_while_and_then_the_new_one(step_s):
    relation = Relation()
    for number in range(40):
        ask(relation, 1.37 * number, 7.0)
    for number in range(40):
        ask(relation, 60.0 + 1.37 * number, 7.0 + step_s)
    unsure = at(relation, 116.0)
    assert holds(unsure, 7.0)
    assert holds(unsure, 7.0 + step_s)
    later = at(relation, 61.0 + UNSURE_S)
    assert holds(later, 7.0 + step_s)
    assert later.error_s < 0.15


def test_a_step_is_not_forgotten_before_enough_has_been_heard_since():
    relation = Relation()
    for number in range(40):
        ask(relation, 1.37 * number, 7.0)
    for number in range(AGREED):
        assert holds(at(relation, 900.0 + 100 * number), 7.0)
        ask(relation, 900.0 + 100 * number, 9.5)
    ask(relation, 2000.0, 9.5)
    assert not holds(at(relation, 2001.0), 7.0)


STEPS = st.floats(0.001, 4_000).flatmap(lambda size: st.sampled_from([size, -size]))


@pytest.mark.parametrize("aimed", [False, True])
@given(step_s=STEPS, seed=st.integers(0, 10_000), kind=st.sampled_from(KINDS))
def test_of_a_stepped_clock_the_truth_is_held_from_the_first_answer_on_that_shows_it(aimed, step_s, seed, kind):
    """Until then no more is wrong than the step, and of a step that shows in a third of all answers a few show it."""
    draw, relation, now_s = random.Random(seed), Relation(), 0.0
    server = Server(lambda at_s: 7.0 + (step_s if at_s >= 60.0 else 0.0), kind, draw)
    shown = False
    for number in range(110):
        due_s = now_s + draw.uniform(0.2, 3.0)
        if aimed:
            earliest, latest = NOON + ns(now_s), NOON + ns(due_s + 1.0)
            due_s = (relation.best_near(NOON + ns(due_s), earliest=earliest, latest=latest) - NOON) / SECOND_NS
        was_s = at(relation, due_s).error_s if number else 9.0
        now_s = server.ask(relation, due_s, *way(draw))
        shown = shown or at(relation, now_s).error_s > was_s + DRIFT  # else it grows by less
        assert server.is_held(relation, now_s, 2e-6 if shown or now_s < 60.0 else abs(step_s) + 2e-6)
    if abs(step_s) > 0.35:
        assert shown


@pytest.mark.parametrize("servers", [(0.0, 0.3), (0.0, 2.0), (0.0, 0.3, 2.0, 9.0)])
@pytest.mark.parametrize("gap_s", [1.0, 20.0])
def test_servers_that_take_turns_are_all_in_it(servers, gap_s):
    """Those that are less than a second apart contradict each other only now and then, and meanwhile may seem one: the
    more seldom they are asked, the longer."""
    missed = 0.0 if max(servers) > 1.0 else 0.05 if gap_s == 1.0 else 0.25
    relation, draw, held = Relation(), random.Random(1), []
    for number in range(300):
        ask(relation, gap_s * (number + draw.random()), draw.choice(servers))
        found = at(relation, gap_s * (number + 1))
        held.append(all(holds(found, each) for each in servers))
    assert held[30:].count(False) <= missed * len(held[30:])


def test_a_stamp_that_may_be_anybodys_counts_where_it_contradicts_nothing():
    relation = Relation()
    fine = {"grain_s": 0.001, "late_s": 0.0, "sure": False}
    relation.learn(NOON, NOON + ns(0.02), NOON + ns(0.01), **fine)
    assert not relation.known
    ask(relation, 1.0, 0.0)
    before = at(relation, 2.0)
    relation.learn(NOON + ns(2.0), NOON + ns(2.02), NOON + ns(5.01), **fine)
    assert at(relation, 2.0) == before
    relation.learn(NOON + ns(2.0), NOON + ns(2.02), NOON + ns(2.01), **fine)
    after = at(relation, 2.02)
    assert holds(after, 0.0)
    assert after.error_s < 0.012


def test_an_answer_that_comes_late_counts_for_when_it_was_given():
    relation = Relation()
    for number in range(20):
        ask(relation, 100.0 + 1.37 * number, 7.0)
    ask(relation, 0.3, 7.0 - DRIFT * 100)
    assert holds(at(relation, 130.0), 7.0)


@pytest.mark.parametrize(
    ("offset_s", "error_s", "words"),
    [
        (40.04, 0.31, "40.0 s ahead of the API's, give or take 0.4 s"),
        (-2.5, 0.101, "2.50 s behind the API's, give or take 0.11 s"),
        (0.03, 0.05, "the API's to within 0.09 s"),
        (-0.03, 0.05, "the API's to within 0.09 s"),
    ],
)
def test_how_far_clocks_are_apart_is_told_with_how_sure_that_is(offset_s, error_s, words):
    assert apart_words(offset_s, error_s) == Offset(offset_s, error_s, 0.0).words == words


@pytest.mark.parametrize(
    ("offset_s", "error_s", "least"), [(5.0, 1.0, 4.0), (-5.0, 1.0, -4.0), (0.5, 1.0, 0.0), (-0.5, 1.0, 0.0)]
)
def test_clocks_are_surely_apart_by_what_no_error_explains(offset_s, error_s, least):
    assert Offset(offset_s, error_s, 0.0).least_off_s == least
