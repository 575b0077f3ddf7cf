"""Policies as values: read back equal, refused with the name of what is wrong."""

from __future__ import annotations

import json
import math
import random
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.errors import UsageError
from nestobs.join.policy import (
    FAULT_AFTER_S,
    GUIDE,
    LONGEST_S,
    MANUAL_RETRY,
    MOST,
    RELEASED,
    SEATS,
    WORDED,
    Person,
    Policy,
    PolicyError,
    Schedule,
    exponential,
    fixed,
    full_jitter,
    growth,
    named_policy,
    read_policy,
    standard_policies,
)

TABLE = Policy(name="tuned", schedule=Schedule("table", table=((0.0, 0.5), (10.0, 2.0), (30.5, 9.25))), jitter=0.1)
MAY_BE_NONE = ("load_cutoff_s", "fault_after_s", "fault_listed_s")
SECONDS = [field.name for field in fields(Policy) if field.name.endswith("_s") and field.name not in MAY_BE_NONE]


@pytest.mark.parametrize("policy", [*standard_policies().values(), TABLE], ids=lambda policy: policy.name)
def test_a_policy_survives_json(policy):
    assert read_policy(json.loads(json.dumps(policy.as_dict()))) == policy


@given(
    table=st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(1e-3, 1e6)), min_size=1, max_size=50, unique_by=lambda row: row[0]
    ),
    numbers=st.fixed_dictionaries({name: st.floats(0, 1e6) for name in SECONDS}),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_any_policy_survives_json(table, numbers, jitter):
    policy = Policy(name="any", schedule=Schedule("table", table=tuple(sorted(table))), jitter=jitter, **numbers)
    assert read_policy(json.loads(json.dumps(policy.as_dict()))) == policy


def test_what_is_left_out_has_its_default():
    assert read_policy({"name": "guide"}) == GUIDE


def test_the_baselines_are_what_the_two_clients_do():
    assert (GUIDE.ask_info, GUIDE.fallback, GUIDE.message_threshold_s) == (True, (404,), 30.0)
    assert (GUIDE.schedule.kind, GUIDE.error_retries, GUIDE.connect_attempts) == ("none", 0, 1)
    assert (RELEASED.load_cutoff_s, RELEASED.wording, RELEASED.schedule.kind) == (1.5, "released", "none")
    person = replace(GUIDE, name="manual_retry", person=Person(), horizon_s=45.0, max_requests=100)
    assert person == MANUAL_RETRY


@pytest.mark.parametrize("name", ["reaction_s", "spread", "leaves", "leaves_gone"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, True, "1", None, 1e7])
def test_a_person_is_within_bounds(name, value):
    with pytest.raises(PolicyError, match=name):
        Person(**{name: value})


def test_a_person_is_written_and_read_back_and_told():
    assert read_policy(MANUAL_RETRY.as_dict()) == MANUAL_RETRY
    assert "half of them within 5 s; 20 % leave after each failure" in MANUAL_RETRY.words
    for odd in ("me", [], {"age": 7}):
        with pytest.raises(PolicyError, match="person"):
            read_policy(GUIDE.as_dict() | {"person": odd})


SEATED = {
    "at once": ({}, ""),
    "by age": ({"fallback_age_s": 7.5}, "as a guest from 7.5 s on, or where it stops"),
    "by tries": ({"fallback_tries": 3}, "as a guest from try 3 on, or where it stops"),
    "asks on": ({"upgrades": 1}, "seated as a guest it asks once more for a seat of its own"),
    "all": (
        {"fallback_age_s": 2.0, "fallback_tries": 2, "upgrades": 9},
        "as a guest from 2 s on and from try 2 on, or where it stops; "
        "seated as a guest it asks up to 9 times more for a seat of its own",
    ),
    "no guest": ({"fallback_age_s": 2.0, "fallback": ()}, ""),
}


@pytest.mark.parametrize(("fields", "words"), SEATED.values(), ids=SEATED)
def test_when_it_takes_a_guests_seat_is_read_back_and_told_in_words(fields, words):
    policy = replace(fixed(2), **fields)
    assert read_policy(json.loads(json.dumps(policy.as_dict()))) == policy
    assert policy.words == fixed(2).words + f"; {words}" * bool(words)


def test_what_is_as_today_is_not_written():
    """So that a nestobs that has no such fields reads the file, too."""
    assert not SEATS.keys() & GUIDE.as_dict().keys()
    assert {name: getattr(Policy(name="a"), name) for name in SEATS} == dict(SEATS)
    assert replace(GUIDE, upgrades=2).as_dict() == GUIDE.as_dict() | {"upgrades": 2}


@pytest.mark.parametrize("policy", [GUIDE, RELEASED, MANUAL_RETRY], ids=lambda policy: policy.name)
def test_what_info_says_is_used_by_no_baseline_and_by_all_that_poll(policy):
    assert (policy.ask_info, policy.info_from, policy.fault_after_s, policy.fault_listed_s) == (True, 1, None, None)
    polling = [one for one in standard_policies().values() if one.schedule.kind != "none" and one != MANUAL_RETRY]
    assert {one.fault_after_s for one in polling} == {FAULT_AFTER_S}


def test_the_standard_policies_are_known_by_their_names():
    assert set(standard_policies()) >= {"guide", "released", "manual_retry", "fixed(2)", "exponential(1)"}
    for name, policy in standard_policies().items():
        assert named_policy(name) == policy
        assert policy.name == name


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("fixed(3)", fixed(3)),
        ("fixed(0.25)", fixed(0.25)),
        ("exponential(2)", exponential(2)),
        ("full_jitter(.5)", full_jitter(0.5)),
        ("fixed", fixed(1)),
    ],
)
def test_a_number_in_the_name_makes_another(name, policy):
    assert named_policy(name) == policy


@pytest.mark.parametrize(
    "name", ["", "none", "Guide", "fixed(x)", "fixed(1)x", "guide(2)", "fixed(-1)", "fixed(nan)", "fixed(0)"]
)
def test_a_name_that_is_none_is_a_mistake_with_its_remedy(name):
    with pytest.raises(PolicyError, match=r"use one of|is no duration"):
        named_policy(name)


WRONG = [
    *(
        (name, value)
        for name in (*SECONDS, *MAY_BE_NONE)
        for value in (-1.0, math.inf, math.nan, "5", True, LONGEST_S + 1, 10**400, [], {})
    ),
    *((name, None) for name in SECONDS),
    ("jitter", 1.0),
    ("jitter", -0.1),
    ("jitter", math.nan),
    ("jitter", "half"),
    ("max_requests", 2),
    ("max_requests", "many"),
    ("max_requests", math.inf),
    ("max_requests", 3.5),
    ("max_requests", True),
    *((name, MOST + 1) for name in ("max_requests", "connect_attempts", "error_retries", "info_from")),
    ("max_requests", 10**400),
    ("connect_attempts", 0),
    ("error_retries", -1),
    ("info_from", 0),
    ("info_from", 1.5),
    ("fallback", 404),
    ("fallback", "404"),
    ("fallback", [True]),
    ("fallback", [404.0]),
    ("wording", "pirate"),
    ("schedule", "fixed"),
    ("schedule", [1]),
    ("ask_info", "no"),
    ("schedule", None),
    ("name", 5),
    ("name", None),
    ("name", "n" * 101),
    *(("name", f"a{unseen}b") for unseen in "\x00\n\x1b\x7f\x9b\u200f\u2028\u202e\u2066\ud800"),
    ("pause_s", 1),
]


def refusal(**changed):
    """What is said of a policy with these fields; None when it is taken."""
    try:
        read_policy({"name": "bad"} | changed)
    except PolicyError as error:
        return str(error)
    return None


class TestRejections:
    """Somebody edited a file by hand."""

    def test_what_is_no_policy_is_refused(self):
        assert [(name, value) for name, value in WRONG if refusal(**{name: value}) is None] == []

    def test_every_refusal_names_the_field(self):
        said = {(name, repr(value)): refusal(**{name: value}) for name, value in WRONG}
        assert {wrong: words for wrong, words in said.items() if words and wrong[0] not in words} == {}

    @pytest.mark.parametrize("fallback", [[401], [404, 403], [500], [404, 404], [404] * 100_000])
    def test_only_a_404_falls_back(self, fallback):
        assert "only a 404 falls back" in refusal(fallback=fallback)

    def test_a_name_that_is_missing(self):
        with pytest.raises(PolicyError, match="name"):
            read_policy({})

    @pytest.mark.parametrize(
        ("schedule", "words"),
        [
            ({"kind": "sometimes"}, "sometimes"),
            ({"kind": "fixed"}, "interval_s"),
            ({"kind": "fixed", "interval_s": -1}, "negative or infinite"),
            ({"kind": "exponential", "interval_s": 0}, "interval_s"),
            ({"kind": "full_jitter", "interval_s": 1, "factor": math.inf}, "negative or infinite"),
            ({"kind": "exponential", "interval_s": 1, "cap_s": math.nan}, "negative or infinite"),
            ({"kind": "table"}, "table"),
            ({"kind": "table", "table": [[0, 0]]}, "table"),
            ({"kind": "table", "table": [[5, 1], [0, 1]]}, "ascending"),
            ({"kind": "table", "table": [[0, 1], [0, 2]]}, "ascending"),
            ({"kind": "table", "table": [[0, 1]] * 1_001}, "1000"),
            ({"kind": "table", "table": [[age, 1] for age in range(1_001)]}, "1000"),
            ({"kind": "fixed", "interval_s": 1, "table": [[age, 1] for age in range(1_001)]}, "1000"),
            ({"kind": "fixed", "interval_s": 1, "table": [[1, 1], [0, 1]]}, "ascending"),
            ({"kind": "table", "table": [[-1, 1]]}, "negative or infinite"),
            ({"kind": "table", "table": [[0, math.nan]]}, "negative or infinite"),
            ({"kind": "table", "table": [[0, True]]}, "negative or infinite"),
            ({"kind": "table", "table": [[0, 10**400]]}, "negative or infinite"),
            ({"kind": "fixed", "interval_s": LONGEST_S * 2}, "interval_s"),
            ({"kind": "exponential", "interval_s": 1, "factor": LONGEST_S * 2}, "factor"),
            ({"kind": ["fixed"], "interval_s": 1}, "fixed"),
            ({"kind": "none", "gap_s": 3}, "gap_s"),
        ],
        ids=repr,
    )
    def test_a_schedule_that_is_wrong(self, schedule, words):
        assert words in refusal(schedule=schedule)

    @pytest.mark.parametrize(
        ("schedule", "field"),
        [
            ({"kind": "fixed", "interval_s": "2"}, "interval_s"),
            ({"kind": "table", "table": [[0]]}, "table"),
            ({"kind": "table", "table": 7}, "table"),
            ({"kind": "table", "table": None}, "table"),
            ({"kind": "table", "table": ["ab"]}, "table"),
            ({"kind": "table", "table": {"01": 1}}, "table"),
        ],
        ids=repr,
    )
    def test_a_schedule_of_other_types_names_the_field_too(self, schedule, field):
        assert field in refusal(schedule=schedule)

    @pytest.mark.parametrize("data", [None, [], "guide", 7, [["name", "guide"]]], ids=repr)
    def test_what_is_no_object(self, data):
        with pytest.raises(PolicyError, match="a policy is an object"):
            read_policy(data)

    @pytest.mark.parametrize(
        "where", [{"x" * 100_000: 1}, {"schedule": {"x" * 100_000: 1}}], ids=["policy", "schedule"]
    )
    def test_never_quotes_at_length(self, where):
        assert len(refusal(**where)) < 200
        assert len(refusal(schedule={"kind": "x" * 100_000})) < 200

    def test_a_row_of_a_table_made_in_python_is_a_pair(self):
        with pytest.raises(PolicyError, match="rows"):
            Schedule("table", table=((0.0, 1.0, 2.0),))

    def test_is_a_mistake_of_the_operator(self):
        assert issubclass(PolicyError, UsageError)


class TestSchedule:
    rng = random.Random(1)

    def test_none_has_no_second_poll(self):
        assert Schedule().gap_s(1, 0.0, self.rng) is None

    def test_a_table_holds_from_its_age_on(self):
        gaps = [TABLE.schedule.gap_s(1, age, self.rng) for age in (0, 9.9, 10, 30.4, 30.5, 1e6)]
        assert gaps == [0.5, 0.5, 2.0, 2.0, 9.25, 9.25]

    def test_an_age_before_the_table_takes_its_first_row(self):
        assert Schedule("table", table=((5.0, 3.0),)).gap_s(1, 0.0, self.rng) == 3.0

    def test_exponential_grows_from_the_interval_to_the_cap(self):
        schedule = Schedule("exponential", 0.5, factor=3, cap_s=10)
        assert [schedule.gap_s(polls, 0, self.rng) for polls in (1, 2, 3, 4, 500)] == [0.5, 1.5, 4.5, 10, 10]

    @given(polls=st.integers(1, 10_000), age_s=st.floats(0, 1e9), seed=st.integers(0, 99))
    def test_full_jitter_lies_between_nothing_and_the_whole(self, polls, age_s, seed):
        whole = exponential(1.0, cap_s=8).schedule.gap_s(polls, age_s, self.rng)
        assert 0 <= full_jitter(1.0, cap_s=8).schedule.gap_s(polls, age_s, random.Random(seed)) < whole

    @given(
        kind=st.sampled_from(["exponential", "full_jitter"]),
        interval_s=st.floats(0.001, 1e6),
        factor=st.floats(0, 1e6),
        cap_s=st.floats(0, 1e6),
        polls=st.integers(1, 10_000),
    )
    def test_a_gap_is_never_negative_nor_above_the_cap(self, kind, interval_s, factor, cap_s, polls):
        gap = Schedule(kind, interval_s, factor, cap_s).gap_s(polls, 0.0, random.Random(1))
        assert 0 <= gap <= cap_s


class TestGrowth:
    @given(factor=st.floats(0, 1e6), power=st.integers(1, 40))
    def test_is_the_power_to_rounding(self, factor, power):
        try:
            assert growth(factor, power) == pytest.approx(factor**power, rel=1e-13, abs=1e-300)
        except OverflowError:
            assert growth(factor, power) == math.inf

    def test_is_exact_where_the_power_is(self):
        assert [growth(2.0, power) for power in range(65)] == [2.0**power for power in range(65)]
        assert [growth(3, power) for power in range(30)] == [3**power for power in range(30)]

    @pytest.mark.parametrize("factor", [0, 0.5, 1, 2, 1e6])
    def test_nothing_grows_by_no_step(self, factor):
        assert growth(factor, 0) == growth(factor, -1) == 1.0

    def test_overflows_to_infinity_and_underflows_to_nothing(self):
        assert growth(1e6, 10_000) == math.inf
        assert growth(0.5, 10_000) == growth(0.0, 10_000) == 0.0
        assert growth(1.0, 10_000) == 1.0


LONG = Schedule("table", table=tuple((float(age), 0.25 * (1 + age % 7)) for age in range(40)))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (GUIDE, "at once, and not again"),
        (fixed(2.0), "at once; then every 2 s; stops at 30 s"),
        (
            replace(fixed(2.0), jitter=0.1),
            "at once; then every 2 s, each gap up to 10 % shorter or longer; stops at 30 s",
        ),
        (exponential(0.5), "at once; then after 0.5 s, 2 times as long after each, 30 s at most; stops at 60 s"),
        (
            full_jitter(1.0),
            "at once; then after 1 s, 2 times as long after each, 30 s at most, drawn from 0 to that; stops at 60 s",
        ),
        (
            TABLE,
            "at once; then every 0.5 s; from 10 s every 2 s; from 30.5 s every 9.25 s, each gap up to 10 % shorter or"
            " longer; stops at 30 s",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Policy) else "",
)
def test_a_policy_says_when_it_asks(policy, words):
    assert policy.words == words


def test_a_long_table_is_told_in_few_parts_that_span_its_gaps():
    said = LONG.words.split("; ")
    assert said[0] == "at once"
    assert 1 < len(said) <= 1 + WORDED
    assert said[1] == "then every 0.25 to 1.75 s"


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(1e-3, 1e6)), min_size=1, max_size=60, unique_by=lambda row: row[0])
)
def test_any_table_is_told_shortly(table):
    said = Schedule("table", table=tuple(sorted(table))).words
    assert said.count("; ") <= WORDED
