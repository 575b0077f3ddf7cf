"""What real joins came to, against a count by hand, and what was predicted beside it."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from nestobs.estimate.npmle import Number
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import COLUMNS, Failure, Observation, Operation, Outcome, Role, Source, as_row
from nestobs.timeline.intervals import timelines
from nestobs.tuning.costs import Prices
from nestobs.tuning.prediction import (
    CELLS,
    HELPED,
    OUTCOMES,
    PAIRED,
    cells,
    helped,
    outcomes,
    paired,
    predictive,
    realised,
    slower_s,
    span,
)
from nestobs.tuning.replay import COST, METRICS, PRICES

pytestmark = pytest.mark.slow

NOON = 1_750_000_000 * SECOND_NS
ABSENT, VISIBLE = Outcome.ABSENT, Outcome.VISIBLE
TRIP = 0.02


def row(trace, operation, sent, received, outcome, **more):
    values = {
        "observation_id": f"{trace}-{operation}-{sent}-{more.get('attempt_group', '')}",
        "run_id": "run",
        "trace_id": trace,
        "vantage": "here",
        "nest": "30312:" + "ab" * 32 + f":{trace}",
        "room": trace,
        "source": Source.API,
        "target": "https://nests.example",
        "operation": operation,
        "sent_at": NOON + round(sent * SECOND_NS),
        "received_at": None if received is None else NOON + round(received * SECOND_NS),
        "outcome": outcome,
    }
    return Observation(**values | more)


def made(trace):
    return row(trace, Operation.CREATE, 0.0, 0.1, Outcome.ACCEPTED, role=Role.HOST)


def poll(trace, way, age, outcome, **more):
    return row(trace, way, age, age + TRIP, outcome, **more)


def verdict(trace, group, arrived, ended, *, policy="mine", joined=True, requests=1, role=Role.JOINER, **more):
    words = "authenticated" if joined else "gone"
    facts = json.dumps({"verdict": words, "policy": policy, "requests": requests})
    common = {"source": Source.JOIN, "attempt_group": group, "role": role, "detail": facts}
    return row(trace, Operation.VERDICT, arrived, ended, VISIBLE if joined else ABSENT, **common | more)


def asks(trace, group, *answers, way=Operation.JOIN, role=Role.JOINER):
    """Requests of one join: (age, outcome), …"""
    return [poll(trace, way, age, outcome, attempt_group=group, role=role) for age, outcome in answers]


def frame(rows):
    table = pd.DataFrame([as_row(each) for each in rows], columns=[column.name for column in COLUMNS])
    instants = {column.name: "Int64" for column in COLUMNS if column.name.endswith("_at")}
    return table.astype(instants | {"sent_at": "int64"})


def seen(*rows):
    observations = frame([*rows])
    return outcomes(observations, timelines(observations))


# One join


def test_a_join_at_a_nest_that_is_there_takes_its_request():
    table = seen(
        made("a"),
        poll("a", Operation.JOIN, 1.0, ABSENT),
        poll("a", Operation.JOIN, 3.0, VISIBLE),
        *asks("a", "g", (10.05, VISIBLE)),
        verdict("a", "g", 10.0, 12.0),
    )
    assert {name: str(kind) for name, kind in table.dtypes.items()} == OUTCOMES
    [only] = table.to_dict("records")
    assert (only["unit"], only["policy"], only["signed_in"], only["joined"], only["lost"]) == (
        "a",
        "mine",
        True,
        True,
        False,
    )
    assert only["asked_s"] == pytest.approx(10.05)  # not the arrival: what lies between is our own book-keeping
    assert only["delay_s"] == pytest.approx(TRIP, abs=1e-6)
    assert (only["error_s"], only["requests"]) == (0.0, 1)


def test_a_wait_counts_from_the_middle_of_the_interval_that_all_polls_leave():
    rows = [
        made("a"),
        poll("a", Operation.JOIN, 4.0, ABSENT),  # a stranger's
        *asks("a", "g", (2.0, ABSENT), (7.0, VISIBLE)),
        verdict("a", "g", 2.0, 9.0, requests=2),
    ]
    [only] = seen(*rows).to_dict("records")
    assert only["delay_s"] == pytest.approx(7.02 - (4.0 + 7.02) / 2, abs=1e-6)
    assert only["error_s"] == pytest.approx((7.02 - 4.0) / 2, abs=1e-6)


def test_the_answer_that_counts_is_the_token_that_led_into_the_room():
    rows = [
        made("a"),
        *asks("a", "g", (2.0, VISIBLE), (5.0, VISIBLE)),  # the first one, LiveKit did not know yet
        verdict("a", "g", 2.0, 8.0, requests=2),
        row(
            "a", Operation.SIGNAL, 2.1, 2.2, ABSENT, source=Source.LIVEKIT, failure=Failure.NOT_FOUND, reason="no room"
        ),
        row("a", Operation.SIGNAL, 5.1, 5.2, VISIBLE, source=Source.LIVEKIT),
    ]
    [only] = seen(*rows).to_dict("records")
    assert only["delay_s"] == pytest.approx(5.02 - (2.1 + 5.02) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("later", "lost"),
    [
        pytest.param([(6.5, VISIBLE)], True, id="it came while the join was there"),
        pytest.param([(20.0, ABSENT), (30.0, VISIBLE)], False, id="it came after the join had given up"),
        pytest.param([(20.0, ABSENT), (30.0, ABSENT)], False, id="it never came while watched"),
        pytest.param([(1.0, VISIBLE), (2.0, ABSENT), (3.0, ABSENT)], False, id="it had gone again"),
    ],
)
def test_lost_is_what_could_have_been_joined(later, lost):
    rows = [poll("a", way, *each) for each in later for way in (Operation.JOIN, Operation.GUEST)]
    own = asks("a", "g", (5.0, ABSENT))
    [only] = seen(made("a"), *rows, *own, verdict("a", "g", 5.0, 6.0, joined=False)).to_dict("records")
    assert (only["joined"], only["lost"]) == (False, lost)
    assert math.isnan(only["delay_s"])


def test_a_token_without_a_seat_is_no_join_and_lost_where_livekit_let_others_in():
    rows = [made("a"), *asks("a", "g", (2.0, VISIBLE)), verdict("a", "g", 2.0, 9.0, joined=False)]
    [only] = seen(*rows).to_dict("records")
    assert (only["joined"], only["lost"]) == (False, True)


def test_a_guest_cannot_use_the_authenticated_join():
    rows = [made("a"), poll("a", Operation.JOIN, 1.0, VISIBLE), poll("a", Operation.GUEST, 9.0, ABSENT)]
    rows += asks("a", "g", (3.0, ABSENT), way=Operation.GUEST, role=Role.GUEST)
    [only] = seen(*rows, verdict("a", "g", 3.0, 4.0, joined=False, role=Role.GUEST)).to_dict("records")
    assert (only["signed_in"], only["lost"]) == (False, False)


def test_joins_cut_off_and_nests_without_origin_have_no_row():
    cut = verdict("a", "g", 2.0, None, joined=False, failure=Failure.INTENT, reason="about to join")
    table = seen(made("a"), poll("a", Operation.JOIN, 1.0, VISIBLE), cut, verdict("b", "h", 1.0, 2.0))
    assert table.empty
    assert list(table.columns) == list(OUTCOMES)
    assert list(seen().columns) == list(OUTCOMES)


def test_detail_that_is_not_ours_does_not_stop_the_others():
    odd = [
        verdict("a", f"g{n}", 2.0, 3.0, joined=False, detail=text)
        for n, text in enumerate(["[1]", "{", '{"requests": 3}', '{"verdict": [], "requests": "x"}'])
    ]
    table = seen(made("a"), poll("a", Operation.JOIN, 1.0, ABSENT), *odd)
    assert table["requests"].tolist() == [0, 0, 3, 0]
    assert not table["joined"].any()


@pytest.mark.slow
def test_the_way_to_the_token_is_the_last_round_from_its_first_request():
    """Three rounds of info, join and guest: the last one gets in as a guest."""
    rows = [made("a")]
    for begin, answer in ((1.0, ABSENT), (3.0, ABSENT), (5.0, VISIBLE)):
        rows += asks("a", "g", (begin, ABSENT), way=Operation.INFO)
        rows += asks("a", "g", (begin + 0.1, ABSENT))
        rows += asks("a", "g", (begin + 0.2, answer), way=Operation.GUEST)
    [only] = seen(*rows, verdict("a", "g", 1.0, 7.0, requests=9)).to_dict("records")
    assert only["path"] == 3
    assert only["path_s"] == pytest.approx(0.2 + TRIP, abs=1e-6)
    assert only["delay_s"] == pytest.approx(5.2 + TRIP - (3.2 + 5.2 + TRIP) / 2, abs=1e-6)


def test_an_info_that_failed_is_no_part_of_the_way_to_the_token():
    """It took no round trip, and what it took is in the delay all the same."""
    failed = row("a", Operation.INFO, 5.0, 5.5, Outcome.UNKNOWN, attempt_group="g", role=Role.JOINER,
                 failure=Failure.RESET, reason="the connection was reset")  # fmt: skip
    lost = row("a", Operation.JOIN, 4.0, 4.1, Outcome.UNKNOWN, attempt_group="g", role=Role.JOINER,
               failure=Failure.TIMEOUT, reason="no answer")  # fmt: skip
    rows = [made("a"), poll("a", Operation.JOIN, 1.0, VISIBLE), *asks("a", "g", (3.9, ABSENT), way=Operation.INFO)]
    rows += [lost, failed, *asks("a", "g", (5.6, VISIBLE))]
    [only] = seen(*rows, verdict("a", "g", 3.9, 7.0, requests=4)).to_dict("records")
    assert (only["path"], only["asked_s"]) == (1, pytest.approx(3.9))
    assert only["path_s"] == pytest.approx(TRIP, abs=1e-6)
    assert only["delay_s"] == pytest.approx(5.6 + TRIP - 3.9, abs=1e-6)


def test_the_span_is_from_the_first_joins_begin_to_the_last_ones_end():
    rows = [
        made("a"),
        verdict("a", "g", 2.0, 9.0),
        verdict("a", "h", 1.0, 3.0),
        poll("a", Operation.JOIN, 99.0, ABSENT),
    ]
    assert span(frame(rows)) == ("2025-06-15T15:06:41Z", "2025-06-15T15:06:49Z")
    assert span(frame([made("a")])) == ()


# Many, by brute force


def world(rng, nests):
    """Rows of nests with known instants, and per join (policy, trace, instant, asked, token, requests, ended)."""
    rows, truth = [], []
    for number in range(nests):
        trace = f"nest-{number:03}"
        instants = dict(zip((Operation.JOIN, Operation.GUEST), rng.exponential(6.0, 2), strict=True))
        rows.append(made(trace))
        for way, instant in instants.items():
            rows += [
                poll(trace, way, age, VISIBLE if age >= instant else ABSENT) for age in np.sort(rng.uniform(0, 40, 9))
            ]
        for policy, gap, rounds in (("slow", 5.0, 4), ("quick", 1.3, 3)):
            group, age, requests, token = f"{trace}-{policy}", float(rng.uniform(0, 20)), 0, math.nan
            asked = age
            for _ in range(rounds):
                for way, instant in instants.items():
                    there, requests = age >= instant, requests + 1
                    rows.append(
                        poll(trace, way, age, VISIBLE if there else ABSENT, attempt_group=group, role=Role.JOINER)
                    )
                    age += TRIP
                    if there:
                        token = age
                        break
                if not math.isnan(token):
                    break
                age += gap
            ended = age + 8
            rows.append(
                verdict(trace, group, asked - 0.3, ended, policy=policy, joined=token == token, requests=requests)
            )
            truth.append((policy, trace, min(instants.values()), asked, token, requests, ended))
    return rows, truth


def bounds_by_hand(rows, trace):
    """The interval of `min(join, guest)`, from the rows one by one."""
    ends = []
    for way in (Operation.JOIN, Operation.GUEST):
        mine = [((r.sent_at - NOON) / SECOND_NS, (r.received_at - NOON) / SECOND_NS, r.outcome) for r in rows
                if r.trace_id == trace and r.operation == way]  # fmt: skip
        upper = min((received for _, received, outcome in mine if outcome is VISIBLE), default=math.inf)
        ends.append(
            (max((sent for sent, _, outcome in mine if outcome is ABSENT and sent < upper), default=0.0), upper)
        )
    return min(low for low, _ in ends), min(high for _, high in ends)


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_a_count_by_hand_and_its_error_covers_the_truth(seed):
    rows, truth = world(np.random.default_rng(seed), 40)
    table = seen(*np.random.default_rng(seed).permutation(np.array(rows, dtype=object)))
    assert len(table) == len(truth)
    for policy in ("slow", "quick"):
        joined, lost, delays, errors, requests = [], [], [], [], []
        for _, trace, instant, asked, token, made_requests, ended in (one for one in truth if one[0] == policy):
            low, high = bounds_by_hand(rows, trace)
            joined.append(token == token)
            requests.append(made_requests)
            lost.append(token != token and (low + high) / 2 <= ended)
            if token == token:
                high = min(high, token)
                delays.append(token - max(asked, (low + high) / 2))
                errors.append((max(high, asked) - max(low, asked)) / 2)
                assert abs(token - max(instant, asked) - delays[-1]) <= errors[-1] + 2 * TRIP
        found = realised(table[table["policy"] == policy])
        assert set(found) == set(METRICS)
        wanted = {
            "joined_share": (np.mean(joined), 0.0, 40),
            "lost_share": (np.mean(lost), 0.0, 40),
            "mean_delay_s": (np.mean(delays), np.mean(errors), sum(joined)),
            "requests_per_join": (np.mean(requests), 0.0, 40),
        }
        for metric, values in wanted.items():
            assert found[metric] == pytest.approx(values, abs=1e-6), metric


# Beside what was predicted


def joins(policy, joined, delay=0.5, requests=2, trip=0.0):
    n = len(joined)
    delays = [delay if one else math.nan for one in joined]
    table = {"policy": policy, "joined": joined, "lost": [not one for one in joined], "delay_s": delays}
    table |= {"error_s": [d * 0.1 for d in delays], "requests": [requests] * n}
    return pd.DataFrame(
        table | {"path_s": [trip if one else math.nan for one in joined], "path": [int(one) for one in joined]}
    )


def cell(value, low, high, sd=1.0, n=100):
    return {"value": value, "lower": low, "upper": high, "sd": sd, "n": n}


PREDICTED = {
    "joined_share": cell(0.9, 0.85, 0.95, 0.3),
    "lost_share": cell(0.1, 0.05, 0.15, 0.3),
    "mean_delay_s": cell(0.5, 0.4, 0.6),
    "requests_per_join": cell(5.0, 4.8, 5.2, 0.1),
}


def test_each_policy_and_metric_is_a_cell():
    table = cells(joins("tuned", [True] * 90 + [False] * 10), {"tuned": PREDICTED}, ["tuned"])
    assert list(table.columns) == list(CELLS)
    assert table["metric"].tolist() == list(METRICS)
    by = table.set_index("metric")
    assert by["inside"].tolist() == [True, True, True, False]
    assert by["n"].tolist() == [100, 100, 90, 100]
    assert by.loc["mean_delay_s", "error_s"] == pytest.approx(0.05)
    for metric, given in PREDICTED.items():
        number = Number(*(given[name] for name in ("value", "lower", "upper", "sd")))
        expected = predictive(metric, number, by.loc[metric, "n"], 100)
        assert tuple(by.loc[metric, ["lower", "upper"]]) == pytest.approx(expected)
        assert by.loc[metric, "value"] == given["value"]


@pytest.mark.parametrize(
    "predicted",
    [
        {},
        {"other": PREDICTED},
        {"tuned": {}},
        {"tuned": {name: dict.fromkeys(("value", "lower", "upper", "sd", "n")) for name in METRICS}},
        {"tuned": {name: {"value": 0.5, "lower": None, "upper": None, "sd": None, "n": 3} for name in METRICS}},
    ],
)
def test_where_nothing_was_predicted_there_is_nothing_to_be_inside_of(predicted):
    table = cells(joins("tuned", [True] * 3), predicted, ["tuned"])
    assert table["inside"].isna().all()
    assert table["realised"].tolist() == [1.0, 0.0, 0.5, 2.0]


def test_requests_slower_than_were_assumed_delay_what_is_predicted_by_as_much():
    table = joins("tuned", [True] * 50, trip=0.3)
    slower = cells(table, {"tuned": PREDICTED}, ["tuned"], round_trip_s=0.1).set_index("metric")
    as_said = cells(table, {"tuned": PREDICTED}, ["tuned"], round_trip_s=0.3).set_index("metric")
    moved = (
        slower.loc["mean_delay_s", ["value", "lower", "upper"]]
        - as_said.loc["mean_delay_s", ["value", "lower", "upper"]]
    )
    assert moved.tolist() == pytest.approx([0.2] * 3)
    assert slower_s(table, 0.1) == pytest.approx(0.2)
    assert slower_s(joins("tuned", [False]), 0.1) == 0.0
    for metric in set(METRICS) - {"mean_delay_s"}:
        assert slower.loc[metric].equals(as_said.loc[metric])


def test_a_policy_that_joined_nobody_has_no_delay_to_judge():
    table = cells(joins("tuned", [False] * 5), {"tuned": PREDICTED}, ["tuned"]).set_index("metric")
    assert math.isnan(table.loc["mean_delay_s", "realised"])
    assert table.loc["mean_delay_s", "inside"] is pd.NA
    assert table.loc["mean_delay_s", "n"] == 0
    assert not table.loc["joined_share", "inside"]


def test_a_share_that_was_one_in_all_nests_promises_much_and_not_everything():
    certain = {"tuned": {"joined_share": cell(1.0, 1.0, 1.0, 0.0, n=200)}}
    share = {size: cells(joins("tuned", [True] * size), certain, ["tuned"]).iloc[0] for size in (20, 200)}
    assert share[200]["upper"] == 1.0
    assert 0.97 < share[200]["lower"] < 1.0
    assert share[20]["lower"] < share[200]["lower"]
    nearly = {"tuned": {"joined_share": cell(0.99998, 0.99997, 0.99999, 0.0, n=200)}}
    assert cells(joins("tuned", [True] * 200), nearly, ["tuned"]).iloc[0]["lower"] == pytest.approx(share[200]["lower"])
    few = {"tuned": {"joined_share": cell(1.0, 1.0, 1.0, 0.0, n=10)}}
    assert cells(joins("tuned", [True] * 200), few, ["tuned"]).iloc[0]["lower"] < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_fresh_joins_fall_inside_as_often_as_promised(metric):
    """A known law: what is predicted from one sample holds for the next in 95 of 100."""
    rng, inside, tries = np.random.default_rng(7), 0, 400
    for _ in range(tries):
        draws = (rng.random((2, 150)) < 0.8) if metric.endswith("_share") else rng.gamma(1.0, 2.0, (2, 150))
        mean, sd = float(draws[0].mean()), float(draws[0].std())
        reach = 1.96 * sd / math.sqrt(150)
        low, high = predictive(metric, Number(mean, mean - reach, mean + reach, sd), 150, 150)
        inside += low <= float(draws[1].mean()) <= high
    assert 0.92 < inside / tries < 0.98


class TestWhatTheNextJoinsBring:
    @pytest.mark.slow
    def test_of_a_share_falls_into_the_prediction(self):
        """An estimate of 150 nests, then 80 joins: in 93 to 99.5 % of sets."""
        draws, held = np.random.default_rng(7), 0
        for _ in range(400):
            share = draws.binomial(150, 0.2) / 150
            reach = 1.96 * math.sqrt(share * (1 - share) / 150)
            low, high = predictive("joined_share", Number(share, share - reach, share + reach), 80, 150)
            held += low <= draws.binomial(80, 0.2) / 80 <= high
        assert 0.93 <= held / 400 <= 0.995

    def test_of_a_mean_falls_into_the_prediction(self):
        draws, held = np.random.default_rng(7), 0
        for _ in range(1000):
            sample = draws.exponential(2.0, 200)
            mean, sd = float(sample.mean()), float(sample.std())
            reach = 1.96 * sd / math.sqrt(200)
            low, high = predictive("mean_delay_s", Number(mean, mean - reach, mean + reach, sd), 60)
            held += low <= draws.exponential(2.0, 60).mean() <= high
        assert 0.93 <= held / 1000 <= 0.97

    @pytest.mark.parametrize(("share", "truth"), [(0.0, 0.002), (1.0, 0.998)])
    def test_of_a_share_that_was_never_otherwise_is_not_sure(self, share, truth):
        """None of 300 nests, and still 100 joins may lose one or two."""
        low, high = predictive("lost_share", Number(share, share, share), 100, 300)
        held = np.mean([low <= one / 100 <= high for one in np.random.default_rng(7).binomial(100, truth, 2000)])
        assert held > 0.95
        assert high - low == pytest.approx(0.02, abs=0.011)

    def test_widens_with_fewer_joins_and_a_higher_level(self):
        number = Number(0.3, 0.25, 0.35, 0.46)
        for name in ("joined_share", "mean_delay_s"):
            widths = [np.ptp(predictive(name, number, joins)) for joins in (10, 40, 1000)]
            assert widths == sorted(widths, reverse=True)
            assert np.ptp(predictive(name, number, 40, level=0.5)) < np.ptp(predictive(name, number, 40))
        assert np.ptp(predictive("mean_delay_s", number, 10**9)) == pytest.approx(0.1, rel=1e-3)

    @pytest.mark.parametrize(
        ("name", "number", "joins"),
        [
            ("joined_share", Number(0.5, 0.4, 0.6), 0),
            ("joined_share", Number(0.5, 0.4, math.inf), 10),
            ("mean_delay_s", Number(math.nan, math.nan, math.nan), 10),
            ("mean_delay_s", Number(1.0, 0.9, 1.1), 10),
        ],
    )
    def test_is_anything_where_nothing_is_known(self, name, number, joins):
        assert predictive(name, number, joins) == (-math.inf, math.inf)


# Pairs


NAMES = ("today", "tuned")


def pairs_of(*both, slow=False):
    """`outcomes` of nests that both joined: (today's, tuned's), each (joined, lost, delay_s, requests, vain_s).
    slow: all the delay is that of requests."""
    rows = []
    for number, each in enumerate(both):
        for name, one in zip(NAMES, each, strict=True):
            if one is None:
                continue
            joined, lost, delay, requests, vain = one
            taken = delay if joined else math.nan
            path = (delay if slow else 0.0, int(slow)) if joined else (math.nan, 0)
            rows.append(
                (f"nest-{number}", "here", name, True, 1.0, joined, lost, taken, 0.0, requests, *path, vain, False, 0.0)
            )
    return pd.DataFrame(rows, columns=list(OUTCOMES)).astype(OUTCOMES)


IN, OUT = (True, False, 2.0, 3, 0.0), (False, True, 0.0, 5, 10.0)


def test_a_pair_differs_by_what_a_join_cost_more():
    table = pairs_of((IN, IN), (OUT, IN), (OUT, (True, False, 4.0, 2, 0.0)), (IN, None))
    found = paired(table, {}, NAMES, PRICES)
    assert {name: str(kind) for name, kind in found.dtypes.items()} == PAIRED
    by = found.set_index("metric")
    assert list(by.index) == [COST, *METRICS]
    costs = [0.0, (2.0 + 0.3) - (60.0 + 0.5 + 0.5), (4.0 + 0.2) - (60.0 + 0.5 + 0.5)]
    assert by.loc[COST, "realised"] == pytest.approx(np.mean(costs))
    assert by.loc[COST, "sd"] == pytest.approx(np.std(costs, ddof=1))
    assert by["realised"].drop(COST).tolist() == pytest.approx([2 / 3, -2 / 3, 8 / 3 - 2.0, -5 / 3])
    assert by["n"].tolist() == [3] * 5, "who alone joined a nest has nobody to be compared with"
    assert by["inside"].isna().all()
    assert by["value"].isna().all()
    assert np.isinf(by["upper"]).all()


def test_whether_somebody_is_lost_counts_where_it_is_known_of_both():
    unsure = (False, None, 0.0, 5, 10.0)
    by = paired(pairs_of((IN, IN), (unsure, IN), (IN, unsure), (OUT, IN)), {}, NAMES, PRICES).set_index("metric")
    assert by["n"].to_dict() == {
        COST: 2,
        "lost_share": 2,
        "joined_share": 4,
        "mean_delay_s": 4,
        "requests_per_join": 4,
    }


@pytest.mark.parametrize(
    ("both", "lacking"),
    [
        pytest.param((), {COST, *METRICS}, id="no nest"),
        pytest.param(((OUT, OUT), (OUT, OUT)), {"mean_delay_s"}, id="nobody joined"),
    ],
)
def test_where_nothing_came_there_is_no_value(both, lacking):
    by = paired(pairs_of(*both), {}, NAMES, PRICES).set_index("metric")
    for metric in (COST, *METRICS):
        assert math.isnan(by.loc[metric, "realised"]) == (metric in lacking)
    if not both:
        kind, sentence = helped(by.reset_index(), NAMES, PRICES)
        assert (kind, "too small to tell" in sentence) == ("too_few", True)


def test_a_lab_that_answers_slowly_moves_what_is_predicted_of_pairs_too():
    slow, quick = (True, False, 3.0, 1, 0.0), (True, False, 1.0, 1, 0.0)
    told = {name: {"value": 0.0, "lower": -0.1, "upper": 0.1, "sd": 0.5, "n": 50} for name in (COST, "mean_delay_s")}
    by = paired(pairs_of(*[(quick, slow)] * 5, slow=True), told, NAMES, PRICES, round_trip_s=0.5).set_index("metric")
    assert by.loc["mean_delay_s", "value"] == pytest.approx(2.0)
    assert by.loc[COST, "value"] == pytest.approx(2.0)


def differing(by_s, *, n=60, spread=4.0, seed=3):
    """Pairs whose delay differs by so much, about."""
    rng = np.random.default_rng(seed)
    return pairs_of(
        *(((True, False, 20.0, 1, 0.0), (True, False, 20.0 + by_s + spread * rng.normal(), 1, 0.0)) for _ in range(n))
    )


def told(value, spread=4.0, error=0.2):
    return {COST: {"value": value, "lower": value - 2 * error, "upper": value + 2 * error, "sd": spread, "n": 400}}


CHEAP = Prices(request_cost=0.1, delay_cost=1.0, lost_value=1.0)


@pytest.mark.parametrize(
    ("joins", "predicted", "kind", "said"),
    [
        pytest.param(differing(-5.0), told(-5.0), "helped", r"^The change helped: .*; as predicted", id="helped"),
        pytest.param(differing(-5.0), {}, "helped", r"^The change helped: [^;]*\.$", id="helped, not predicted"),
        pytest.param(differing(-9.0), told(-4.0), "helped", r"; not as predicted: -4", id="more than predicted"),
        pytest.param(differing(5.0), told(-5.0), "worse", r"^It made it worse: .*; not as predicted", id="worse"),
        pytest.param(
            differing(0.0),
            told(-5.0),
            "no_difference",
            r"^No difference is shown: .* one as predicted would",
            id="none",
        ),
        pytest.param(
            differing(0.0), {}, "no_difference", r"one of \d\.\d\d s would be seen with 80 % power", id="no prediction"
        ),
        pytest.param(
            differing(0.1, n=8),
            told(-1.0),
            "too_few",
            r"^n was too small to tell: .*; with n = \d+ a difference of 1\.00 s would be seen with 80 % power",
            id="too few",
        ),
        pytest.param(differing(0.1, n=8), told(0.0), "too_few", r"with n = 8 one of", id="nothing is predicted"),
    ],
)
def test_did_the_change_help_is_answered_in_a_sentence(joins, predicted, kind, said):
    found = paired(joins, predicted, NAMES, CHEAP)
    came, sentence = helped(found, NAMES, CHEAP)
    assert came == kind
    assert kind in HELPED
    assert re.search(said, sentence), sentence
    assert "nan" not in sentence
