"""The offset of a clock as an interval: simulated servers whose true offset is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import DRIFT, LATE_S, UNSURE_S, Offset, Relation

NOON = 1_767_960_000 * SECOND_NS


def ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)


def ask(relation: Relation, sent_s: float, offset_s: float, way_s: float = 0.01, back_s: float = 0.01) -> None:
    """A question sent at `sent_s` on our clock, which is `offset_s` ahead of the server's."""
    sent = NOON + ns(sent_s)
    theirs = sent + ns(way_s) - ns(offset_s)
    relation.learn(sent, sent + ns(way_s + back_s), theirs // SECOND_NS * SECOND_NS)


def at(relation: Relation, seconds: float) -> Offset:
    found = relation.at(NOON + ns(seconds))
    assert found is not None
    return found


def holds(found: Offset, offset_s: float) -> bool:
    return abs(found.offset_s - offset_s) <= found.error_s + 1e-6


def test_where_nothing_was_learnt_nothing_is_known():
    assert Relation().at(NOON) is None


@given(
    st.floats(-100_000, 100_000),
    st.floats(-1, 1),
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=30),
)
def test_it_holds_the_truth_whatever_the_way_takes_and_the_clocks_drift(offset_s, drift, asked):
    relation, now_s = Relation(), 0.0
    for wait_s, way_s, back_s in asked:
        now_s += wait_s
        ask(relation, now_s, offset_s + drift * DRIFT / 2 * now_s, way_s, back_s)
        now_s += way_s + back_s
        assert holds(at(relation, now_s), offset_s + drift * DRIFT / 2 * now_s)


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
    assert sorted(errors)[100] <= 0.05 + LATE_S


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
    later = at(relation, 60.0 + UNSURE_S)
    assert holds(later, 7.0 + step_s)
    assert later.error_s < 0.15


def test_servers_that_take_turns_are_all_in_it():
    relation, draw = Relation(), random.Random(1)
    for number in range(300):
        ask(relation, float(number) + draw.random(), draw.choice([0.0, 2.0, 9.0]))
        if number > 20:
            found = at(relation, number + 2.0)
            assert all(holds(found, each) for each in (0.0, 2.0, 9.0))


@pytest.mark.parametrize(
    ("offset_s", "error_s", "least"), [(5.0, 1.0, 4.0), (-5.0, 1.0, -4.0), (0.5, 1.0, 0.0), (-0.5, 1.0, 0.0)]
)
def test_clocks_are_surely_apart_by_what_no_error_explains(offset_s, error_s, least):
    assert Offset(offset_s, error_s, 0.0).least_off_s == least
