"""A herd is what its joiners would do one by one: the same where nothing is left to chance, else of the same law."""

from __future__ import annotations

import json
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.errors import UsageError
from nestobs.join.decision import Kind
from nestobs.join.policy import (
    GUIDE,
    MANUAL_RETRY,
    RELEASED,
    Policy,
    Schedule,
    exponential,
    fixed,
    full_jitter,
)
from nestobs.observation.arrays import busiest
from nestobs.observation.duration import SECOND_NS
from nestobs.tuning.herd import (
    Behind,
    Limit,
    arrivals_among,
    arrivals_of,
    behind_of,
    herd,
    joinable_at,
    joinable_of,
)
from nestobs.tuning.herd.rounds import KINDS, SEATED, Ends, Play
from nestobs.tuning.herd.server import answer
from worlds.crowded import one_by_one

INF = math.inf
TABLE = Policy(
    name="table",
    ask_info=False,
    schedule=Schedule("table", table=((0.0, 0.5), (3.0, 2.0), (12.5, 7.25))),
    give_up_age_s=40.0,
    horizon_s=70.0,
    error_retries=3,
)
SEATS = replace(fixed(2), name="seats", fallback_age_s=4.0, fallback_tries=2)
OWN_ONLY = replace(fixed(3), name="own only", fallback=())
LATE_INFO = replace(fixed(1.5), name="late info", info_from=3, max_requests=17)
CERTAIN = [GUIDE, RELEASED, fixed(1), fixed(5), exponential(), TABLE, SEATS, OWN_ONLY, LATE_INFO]
"""Policies that leave nothing to chance."""

CHANCE = [replace(TABLE, name="jittered", jitter=0.2), full_jitter(), MANUAL_RETRY]


def arrays(policy, arrivals, joinable_s, limit, *, people, signed_in=True, round_trip_s=0.02, seed=0):
    """The same joiners, played as arrays: what the server saw, how they ended, and when they came."""
    play = Play(policy, signed_in=signed_in, late=round(round_trip_s * SECOND_NS), rng=np.random.default_rng(seed))
    arrived = np.array([round(float(age) * SECOND_NS) for age in arrivals])
    there = np.full(len(arrived), 2**60 if joinable_s == INF else math.ceil(joinable_s * SECOND_NS))
    ends = Ends(np.zeros(len(arrived), dtype=np.int64), arrived.copy())
    return answer(play, play.arrive(arrived, there), ends, limit, people), ends, arrived


def kinds_of(ends):
    return Counter(KINDS[kind] for kind in ends.kind.tolist())


@pytest.mark.slow
@pytest.mark.parametrize("policy", CERTAIN, ids=lambda policy: policy.name)
@pytest.mark.parametrize("limit", [Limit(10**6), Limit(), Limit(23, 6.0), Limit(9, 2.5, retry_after=False)], ids=str)
@pytest.mark.parametrize(("joinable_s", "signed_in"), [(0.0, True), (7.7, True), (7.7, False), (INF, True)])
def test_what_is_certain_is_the_same_request_by_request(policy, limit, joinable_s, signed_in):
    rng = np.random.default_rng(5)
    arrivals = rng.uniform(0.0, 25.0, 40)
    known = one_by_one(policy, arrivals, joinable_s, rng, limit, signed_in=signed_in)
    seen, ends, arrived = arrays(policy, arrivals, joinable_s, limit, people=40, signed_in=signed_in)
    assert np.sort(np.concatenate(seen.answered)).tolist() == known.answered
    assert np.sort(np.concatenate([*seen.refused, np.zeros(0)])).tolist() == known.refused
    assert kinds_of(ends) == Counter(verdict.kind for verdict in known.verdicts.values())
    waits = (ends.at - arrived)[ends.kind < SEATED] / SECOND_NS
    assert np.sort(waits) == pytest.approx(sorted(known.seats_s.values()))
    if known.refused:
        assert seen.most.tolist() == [known.most]


@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(CERTAIN),
    arrivals=st.lists(st.integers(0, 4_000), min_size=1, max_size=25),
    joinable_s=st.one_of(st.floats(0.0, 40.0), st.just(INF)),
    allowed=st.integers(1, 60),
    window_s=st.sampled_from([0.5, 3.0, 20.0, 900.0]),
    signed_in=st.booleans(),
    retry_after=st.booleans(),
)
def test_so_it_is_of_any_crowd(policy, arrivals, joinable_s, allowed, window_s, signed_in, retry_after):
    """No two of them ask at one instant, of which nobody could say who is the first: gaps are whole hundredths."""
    arrivals = [hundredths / 100 + number / 3_000 for number, hundredths in enumerate(arrivals)]
    limit = Limit(allowed, window_s, retry_after)
    known = one_by_one(policy, arrivals, joinable_s, np.random.default_rng(0), limit, signed_in=signed_in)
    seen, ends, _ = arrays(policy, arrivals, joinable_s, limit, people=len(arrivals), signed_in=signed_in)
    assert len(known.answered) == sum(map(len, seen.answered))
    assert len(known.refused) == sum(map(len, seen.refused))
    assert kinds_of(ends) == Counter(verdict.kind for verdict in known.verdicts.values())


@pytest.mark.slow
@pytest.mark.parametrize("policy", CHANCE, ids=lambda policy: policy.name)
@pytest.mark.parametrize("limit", [Limit(10**6), Limit(60, 8.0)], ids=str)
def test_what_is_left_to_chance_has_the_same_law(policy, limit):
    """20 joiners behind one address, 400 times each way: means of requests, refusals, seats and waits within 4 standard
    errors of their difference."""
    rng = np.random.default_rng(6)
    one, other = [], []
    for _ in range(400):
        known = one_by_one(policy, rng.uniform(0.0, 12.0, 20), 6.0, rng, limit)
        seats = list(known.seats_s.values())
        gone = sum(verdict.kind is Kind.GONE for verdict in known.verdicts.values())
        one.append([len(known.answered), len(known.refused), len(seats), sum(seats), gone])
    for seed in range(400):
        seen, ends, arrived = arrays(policy, rng.uniform(0.0, 12.0, 20), 6.0, limit, people=20, seed=seed)
        seated = ends.kind < SEATED
        counts = [sum(map(len, seen.answered)), sum(map(len, seen.refused)), seated.sum()]
        other.append([*counts, (ends.at - arrived)[seated].sum() / SECOND_NS, kinds_of(ends)[Kind.GONE]])
    one, other = np.array(one, float), np.array(other, float)
    error = np.sqrt((one.var(axis=0, ddof=1) + other.var(axis=0, ddof=1)) / 400)
    assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) <= 4 * error + 1e-9).all()


def test_addresses_have_nothing_to_do_with_each_other():
    rng = np.random.default_rng(7)
    arrivals, limit = rng.uniform(0.0, 10.0, 60), Limit(30)
    known = [one_by_one(fixed(2), arrivals[k : k + 20], 8.0, rng, limit) for k in (0, 20, 40)]
    seen, ends, _ = arrays(fixed(2), arrivals, 8.0, limit, people=20)
    assert seen.denied.tolist() == [len(each.refused) for each in known]
    assert (seen.asked - seen.denied).tolist() == [len(each.answered) for each in known]
    assert kinds_of(ends) == Counter(verdict.kind for each in known for verdict in each.verdicts.values())


def test_who_asks_on_from_a_guests_seat_gets_the_own_one_for_a_request_more():
    """The nest becomes joinable between the two requests of a round."""
    policy = replace(fixed(2), upgrades=3, ask_info=False)
    known = one_by_one(policy, np.array([1.0]), 3.05, np.random.default_rng(0), Limit())
    seen, ends, arrived = arrays(policy, [1.0], 3.05, Limit(), people=1)
    assert np.concatenate(seen.answered).size == len(known.answered) == 5
    assert kinds_of(ends) == {Kind.AUTHENTICATED: 1}
    assert (ends.at - arrived)[0] / SECOND_NS == pytest.approx(known.seats_s[0])


# The whole


def of(policy=GUIDE, joiners=6000, arrivals="uniform(30s)", joinable="5s", **more):
    return herd(policy, joiners, arrivals_of(arrivals), joinable_of(joinable), **more)


def test_a_herd_adds_up():
    found = of(fixed(2), behind=behind_of("1:50%,20:50%"), limit=Limit(30))
    assert found.joiners == found.played == 6000
    assert found.addresses == 3000 + 150
    assert sum(each.joiners for each in found.told) == 6000
    assert found.joined.value + found.lost.value == 6000
    assert sum(each.lost for each in found.told) == found.lost.value
    assert found.refused.value > 0
    assert found.most_by_address > 30
    assert found.full_addresses.value == 150
    limited = next(each for each in found.told if each.kind is Kind.RATE_LIMITED)
    assert limited.message.startswith("Too many requests from your network. Try again in ")
    assert found.requests.value == found.peak_in_window


def test_the_busiest_second_is_that_of_the_requests_to_ten_milliseconds():
    rng = np.random.default_rng(8)
    ages = np.sort(rng.uniform(0.0, 5.0, 300))
    found = herd(fixed(1), 300, arrivals_among(list(ages)), joinable_at(3.0), seed=1)
    chosen = np.random.default_rng(np.random.SeedSequence([1, 0]).spawn(8)[0])
    assert found.joiners == 300
    seen = []
    for seed, size in zip(np.random.SeedSequence([1, 0]).spawn(8), [38] * 7 + [34], strict=True):
        chosen = np.random.default_rng(seed)
        part, _, _ = arrays(fixed(1), chosen.choice(ages, size), 3.0, Limit(), people=1)
        seen += part.answered
    exact = busiest(np.sort(np.concatenate(seen)), 1.0)
    assert 0.9 * exact <= found.peak_per_s.value <= exact


@pytest.mark.slow
def test_a_part_stands_for_the_whole_within_its_standard_error(monkeypatch):
    """Of the same herd with other seeds: all of it, and a fifth of it."""
    monkeypatch.setattr("nestobs.tuning.herd.parts.PART", 1000)
    more = {"behind": (Behind(20),), "limit": Limit(60)}
    whole = [of(fixed(2), 40_000, seed=seed, **more) for seed in range(3)]
    part = [of(fixed(2), 40_000, seed=100 + seed, most=30_000, **more) for seed in range(12)]
    assert {each.played for each in whole} == {40_000}
    assert max(each.played for each in part) < 20_000
    for name in ("requests", "refused", "lost", "joined", "peak_per_s"):
        truth = np.mean([getattr(each, name).value for each in whole])
        figures = [getattr(each, name) for each in part]
        away = np.array([(figure.value - truth) / figure.error for figure in figures])
        assert np.abs(away).max() < 5, name
        if name != "peak_per_s":  # the greatest of many that vary is more than the greatest of what they vary about
            assert 0.2 < np.sqrt((away**2).mean()) < 2.5, name
    assert np.mean([each.wait_p95_s for each in part]) == pytest.approx(whole[0].wait_p95_s, abs=0.3)


def test_the_same_seed_gives_the_same_herd_wherever_it_is_played():
    more = {"behind": (Behind(10),), "most": 20_000}
    with ThreadPoolExecutor(3) as executor:
        there = of(full_jitter(), executor=executor, **more)
    assert json.dumps(there.as_dict()) == json.dumps(of(full_jitter(), **more).as_dict())
    assert json.dumps(there.as_dict()) != json.dumps(of(full_jitter(), seed=1, **more).as_dict())


def test_nobody_loses_what_never_was():
    found = of(joinable="never")
    assert (found.joined.value, found.lost.value) == (0, 0)
    assert found.as_dict()["wait_median_s"] is None
    assert "nobody joins" in found.lines()
    some = of(joinable="lognormal(1s, 0.5, 50%)", arrivals="burst(20s)")
    assert some.joined.value == pytest.approx(3000, abs=250)
    assert some.lost.value < 30


def test_all_at_once_behind_one_address_only_some_get_in():
    """100 requests: of 1000 who come at one instant all ask /info first, so that nobody gets further."""
    at_once = of(joiners=1000, arrivals="burst(9s)", behind=(Behind(1000),))
    assert at_once.joined.value == 0
    assert at_once.requests.value == 1000 + 100  # 900 are refused at once, 100 with the next request
    spread = of(joiners=1000, arrivals="uniform(9s, 40s)", behind=(Behind(1000),))
    assert 45 <= spread.joined.value <= 50
    assert spread.lost.value == 1000 - spread.joined.value
    assert math.isnan(spread.lost.error)


def test_a_new_window_lets_more_in():
    """They come over an hour: four windows of 900 s, and the fifth that begins at its end."""
    found = of(joiners=1000, arrivals="uniform(1h)", joinable="0s", behind=(Behind(1000),))
    assert 4 * 49 <= found.joined.value <= 5 * 50


def test_it_is_told_in_lines_and_json(monkeypatch):
    monkeypatch.setattr("nestobs.tuning.herd.parts.PART", 200)
    found = of(fixed(2), behind=(Behind(20),), most=1000)
    assert "of whom" in found.lines()[0]
    assert found.lines()[1] == "they come evenly from 0 s to 30 s; joinable from 5 s on"
    assert " ± " in found.lines()[2]
    assert json.loads(json.dumps(found.as_dict()))["peak_per_s"]["value"] == found.peak_per_s.value


# Laws in words


@pytest.mark.parametrize(
    ("text", "least", "mean", "most"),
    [
        ("uniform(30s)", 0, 15, 30),
        ("uniform( 5s, 1m )", 5, 32.5, 60),
        ("burst(2s)", 2, 2, 2),
        ("decay(60s)", 0, 60, 1200),
        ("decay(5s,10s)", 5, 15, 300),
    ],
)
def test_people_come_by_the_law_that_is_written(text, least, mean, most):
    drawn = arrivals_of(text).draw(20_000, np.random.default_rng(0))
    assert least <= drawn.min()
    assert drawn.max() <= most
    assert drawn.mean() == pytest.approx(mean, rel=0.03)
    assert arrivals_of(text).words


@pytest.mark.parametrize(
    "text",
    ["", "30s", "uniform()", "uniform(0)", "uniform(5s,2s)", "decay(0s)", "burst(2d)", "decay(1s,2s,3s)", "x(1)"],
)
def test_what_is_no_law_of_arrival_is_refused_in_a_sentence(text):
    with pytest.raises(UsageError, match=r"^arrivals "):
        arrivals_of(text)


@pytest.mark.parametrize("ages", [[], [-1.0], [INF], [math.nan]])
def test_ages_of_arrival_are_from_0_to_a_day(ages):
    with pytest.raises(UsageError, match="ages of arrival are from 0"):
        arrivals_among(ages)


def test_nests_can_be_joined_by_the_law_that_is_written():
    rng = np.random.default_rng(1)
    drawn = joinable_of("lognormal(4s, 0.9, 8%)").draw(40_000, rng)
    assert np.isinf(drawn).mean() == pytest.approx(0.08, abs=0.006)
    come = np.log(drawn[np.isfinite(drawn)])
    assert (math.exp(come.mean()), come.std()) == (pytest.approx(4, rel=0.02), pytest.approx(0.9, rel=0.02))
    assert set(joinable_of("1.5m").draw(3, rng)) == {90.0}
    assert set(joinable_of("never").draw(3, rng)) == {INF}


@pytest.mark.parametrize(
    "text", ["", "soon", "lognormal(4s)", "lognormal(4s,x)", "lognormal(4s,1,200%)", "lognormal(4s,0)", "weibull(1,2)"]
)
def test_what_is_no_law_of_delays_is_refused_in_a_sentence(text):
    with pytest.raises(UsageError, match=r"^joinable "):
        joinable_of(text)


def test_people_share_addresses_as_is_written():
    assert behind_of("20") == (Behind(20, 1.0),)
    assert behind_of(" 1000:10%, 1:60%,20:30%") == (Behind(1, 0.6), Behind(20, 0.3), Behind(1000, 0.1))


@pytest.mark.parametrize("text", ["", "0", "-1", "1:50%", "1:60%,2:60%", "1:x", "1000000", "1.5", "²"])
def test_what_is_no_mix_is_refused_in_a_sentence(text):
    with pytest.raises(UsageError, match=r"^people per address "):
        behind_of(text)


@pytest.mark.parametrize("joiners", [0, 10**11])
def test_a_herd_has_somebody_and_not_everybody(joiners):
    with pytest.raises(UsageError, match="a herd has 1 to"):
        of(joiners=joiners)
