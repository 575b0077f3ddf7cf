"""Plans fit the budget they were made for."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from functools import partial

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nestobs.collector.polling import (
    API_LAYERS,
    IN_FLIGHT,
    LEAST_JOIN_REQUESTS,
    LEAST_POLLS,
    WANTED_POLLS,
    Plan,
    fit,
    poll,
)
from nestobs.errors import BudgetError
from nestobs.nostr import Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome
from nestobs.sources.vantage import Trace, Vantage

SHAPES = st.fixed_dictionaries(
    {
        "left": st.integers(0, 20_000),
        "nests": st.integers(1, 300),
        "vantages": st.integers(1, 4),
        "joins": st.integers(0, 6),
        "wanted": st.integers(LEAST_POLLS, 200),
    }
)


def cost(plan, nests, vantages, joins):
    """Requests of a campaign at one host: PUT, DELETE, /info after it, joins, polls."""
    return nests * (3 + vantages * (joins * plan.join_requests + API_LAYERS * plan.polls))


@given(SHAPES)
def test_a_plan_never_costs_more_than_is_left(shape):
    left, nests, wanted = shape["left"], shape["nests"], shape["wanted"]
    try:
        plan = fit(left, nests, vantages=shape["vantages"], joins=shape["joins"], wanted=wanted)
    except BudgetError as error:
        least = Plan(LEAST_POLLS, 90, LEAST_JOIN_REQUESTS)
        assert cost(least, nests, shape["vantages"], shape["joins"]) > left
        most = [word for word in str(error).split() if word.isdigit()]
        if "at most" in str(error):
            assert cost(least, int(most[-1]), shape["vantages"], shape["joins"]) <= left
        return
    assert cost(plan, nests, shape["vantages"], shape["joins"]) <= left
    assert LEAST_POLLS <= plan.polls <= wanted
    assert plan.join_requests >= LEAST_JOIN_REQUESTS


@given(SHAPES)
def test_what_the_refusal_offers_can_be_had(shape):
    asked = {name: shape[name] for name in ("vantages", "joins", "wanted")}
    try:
        fit(shape["left"], shape["nests"], **asked)
    except BudgetError as error:
        words = str(error)
        assume("at most" in words)
        offered = int(words.rpartition("at most ")[2].split()[0])
        assert 1 <= offered < shape["nests"]
        fit(shape["left"], offered, **asked)


def test_a_deployed_api_allows_one_nest_in_a_window():
    plan = fit(80, 1)
    assert cost(plan, 1, 1, 2) <= 80
    assert plan.polls >= 3 * LEAST_POLLS


def test_a_generous_budget_gets_what_was_wanted():
    plan = fit(100_000, 10)
    assert (plan.polls, plan.join_requests, plan.horizon_s) == (WANTED_POLLS, 15, 90.0)


def test_too_small_a_budget_says_how_many_nests_fit():
    with pytest.raises(BudgetError, match=r"80 requests are left .* at most 3 nests") as refused:
        fit(80, 60)
    assert refused.value.exit_code == 4


def test_and_with_nothing_left_that_one_must_wait():
    with pytest.raises(BudgetError, match="wait until the window has passed"):
        fit(5, 1)


PLANS = st.builds(Plan, st.integers(1, 200), st.floats(0.1, 1_000), st.just(3))


@given(plan=PLANS, seed=st.integers(0, 1_000), polls=st.none() | st.integers(1, 300))
def test_ages_ascend_from_now_to_the_horizon(plan, seed, polls):
    ages = plan.ages_s(random.Random(seed), polls)
    assert len(ages) == (plan.polls if polls is None else polls)
    assert all(0 <= age <= plan.horizon_s * (1 + 1e-12) for age in ages)
    assert all(a < b for a, b in itertools.pairwise(ages))


def test_the_phase_is_drawn_anew_each_time_so_that_every_age_is_asked_about():
    plan, rng = Plan(10, 90.0, 3), random.Random(1)
    cells = [plan.ages_s(rng) for _ in range(500)]
    edges = [plan.horizon_s * (k / 10) ** 1.6 for k in range(11)]
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        found = [ages[k] for ages in cells]
        assert all(low - 1e-9 <= age <= high + 1e-9 for age in found)
        assert min(found) < low + 0.1 * (high - low)
        assert max(found) > high - 0.1 * (high - low)


def test_polls_are_denser_at_first():
    plan = Plan(40, 90.0, 3)
    ages = plan.ages_s(random.Random(1))
    assert [b - a for a, b in itertools.pairwise(ages)] == sorted(b - a for a, b in itertools.pairwise(ages))
    for k in (5, 20, 39):
        assert plan.gap_s((ages[k] + ages[k - 1]) / 2) == pytest.approx(ages[k] - ages[k - 1], rel=0.05)


@given(plan=PLANS, age_s=st.floats(-10, 1e6))
def test_a_gap_is_positive_at_any_age(plan, age_s):
    assert plan.gap_s(age_s) > 0


def test_the_resolution_is_a_sentence():
    said = Plan(40, 90.0, 3).resolution()
    assert said.startswith("40 polls of each API layer over 90 s")
    assert "at age 30 s" in said


def test_a_short_horizon_has_a_resolution_too():
    said = Plan(8, 1.5, 3).resolution()
    assert not said.rstrip().endswith("every")


# asking as the API's second turns


@pytest.fixture
async def polled(open_lab, open_station_on, scenario, rows):
    """`await polled(toml, first_s)`: info of a nest asked eight times, .9 s apart; the ages, their origin, the rows."""

    async def poll_it(station, first_s):
        made = await station.api.create(Trace(), Keys.generate(), ("wss://relay.example",))
        trace = Trace(station.vantage.new_id(), room=made.room)
        ages = [first_s + 0.9 * number for number in range(8)]
        await poll(station, trace, made.row.sent_at, [(ages, partial(station.api.info, trace))])
        return ages, made.row.sent_at, [row for row in rows if row.operation is Operation.INFO]

    async def opened(text, first_s):
        async with open_lab(scenario(text), relays=1) as lab, open_station_on(lab) as station:
            return await poll_it(station, first_s)

    return opened


def moved_s(ages, origin, asked):
    return [(row.planned_at - origin) / SECOND_NS - age for row, age in zip(asked, ages, strict=True)]


async def test_polls_of_a_nest_that_is_shown_are_moved_to_where_they_tell_most_of_the_clock(polled):
    ages, origin, asked = await polled("", 0.3)
    moved = moved_s(ages, origin, asked)
    assert {row.outcome for row in asked} == {Outcome.VISIBLE}
    assert moved[0] == pytest.approx(0)
    assert any(abs(one) > 0.001 for one in moved[1:])
    assert all(abs(one) < 1 for one in moved)
    assert [row.planned_at for row in asked] == sorted(row.planned_at for row in asked)
    assert asked[-1].clock_error_s < 0.1 < asked[0].clock_error_s


async def test_polls_of_a_nest_that_is_not_shown_keep_their_phase(polled):
    ages, origin, asked = await polled("[api]\nrecord = { kind = 'constant', s = 60.0 }\n", 0.3)
    assert {row.outcome for row in asked} == {Outcome.ABSENT}
    assert moved_s(ages, origin, asked) == pytest.approx([0.0] * len(ages), abs=1e-6)


# several questions of one nest by one task


class Waiting:
    """A station without sources: its vantage records into a list."""

    def __init__(self) -> None:
        self.rows = []
        self.vantage = Vantage("here", "run", self.rows.append)
        self.clock = self.vantage.clock


async def test_each_question_is_asked_at_its_own_ages_and_in_order():
    station, asked = Waiting(), []

    async def ask(name, *, planned_at):
        asked.append((name, planned_at, station.clock.now()))

    origin = station.clock.now()
    ages = {"a": (0.0, 0.02, 0.06), "b": (0.01, 0.05), "c": ()}
    await poll(station, Trace(), origin, [(ages[name], partial(ask, name)) for name in ages])
    assert [(name, round((at - origin) / SECOND_NS, 3)) for name, at, _ in asked] == [
        ("a", 0.0),
        ("b", 0.01),
        ("a", 0.02),
        ("b", 0.05),
        ("a", 0.06),
    ]
    assert all(planned_at <= sent_at for _, planned_at, sent_at in asked)


async def test_a_question_that_hangs_is_skipped_by_itself_and_each_skipped_poll_is_a_row():
    station, over, begun = Waiting(), asyncio.Event(), Counter()
    ages = [0.005 * number for number in range(IN_FLIGHT + 4)]

    async def ask(name, *, planned_at):
        begun[name] += 1
        if begun["answers"] == len(ages):
            over.set()
        if name == "hangs":
            await over.wait()

    origin = station.clock.now()
    await poll(station, Trace("t"), origin, [(ages, partial(ask, name)) for name in ("hangs", "answers")])
    assert begun == {"hangs": IN_FLIGHT, "answers": len(ages)}
    skipped = [row for row in station.rows if row.failure is Failure.SKIPPED]
    assert [row.planned_at - origin for row in skipped] == [round(age * SECOND_NS) for age in ages[IN_FLIGHT:]]
    assert {row.trace_id for row in skipped} == {"t"}


async def test_an_error_of_one_question_ends_the_polls_of_all():
    station, begun = Waiting(), Counter()

    async def ask(name, *, planned_at):
        begun[name] += 1
        if name == "fails":
            raise OSError(28, "no space")

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await poll(
            station, Trace(), station.clock.now(), [((0.0,), partial(ask, "fails")), ((60.0,), partial(ask, "b"))]
        )
    assert begun == {"fails": 1}
