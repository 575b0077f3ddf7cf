"""Proofs: what a file's policy and today's rule do side by side in a real lab, and what is refused."""

from __future__ import annotations

import asyncio
import json
import math
import re
from dataclasses import replace

import pandas as pd
import pytest

from nestobs.errors import BudgetError, UsageError
from nestobs.estimate.pairs import POWER, fails, needed
from nestobs.join.policy import GUIDE, MANUAL_RETRY, Policy, Schedule, exponential, fixed, full_jitter
from nestobs.observation.schema import Failure, Operation, Role, Source
from nestobs.store.reader import Store
from nestobs.trial.lab_process import LabFailedError
from nestobs.trial.prove import ARRIVALS, VERDICTS, Proof, beside, compare, elsewhere, ends_s, enough, prove
from nestobs.tuning.policy_file import PolicyFile, Provenance
from nestobs.tuning.prediction import CELLS, PAIRED, number_of
from nestobs.tuning.replay import COST, METRICS, middles

pytestmark = pytest.mark.slow

QUICK = replace(fixed(0.4, give_up_age_s=2.0), name="quick", stay_s=0.5)
TODAY = replace(MANUAL_RETRY, person=None, schedule=Schedule("fixed", 1.0), give_up_age_s=2.0, stay_s=0.5)


def cell(value, sd=0.5):
    return {"value": value, "lower": value, "upper": value, "sd": sd, "n": 50}


SURE = {"joined_share": cell(1.0), "lost_share": cell(0.0), "mean_delay_s": cell(0.2), "requests_per_join": cell(1e6)}


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    """Keys of a run go into this test's own folder."""
    monkeypatch.setenv("NESTOBS_STATE_DIR", str(tmp_path / "state"))


# A real proof


async def test_a_proof_runs_both_policies_against_the_same_nests_and_sets_predicted_beside_realised(tmp_path):
    told = []
    file = PolicyFile(policy=QUICK, predicted={"quick": SURE}, provenance=Provenance(arrivals_s=(0.2, 0.8, 1.5)))
    proof = await prove(
        file, "calm", 4, tmp_path / "out", today=TODAY, horizon_s=4.0, progress=lambda what, facts: told.append(what)
    )
    assert {"lab", "plan", "created", "verdict", "deleted", "proof"} <= set(told)
    assert (proof.scenario, proof.seed, proof.nests, proof.left) == ("calm", 2, 4, ())
    assert sum(proof.verdicts.values()) == 8
    assert set(proof.verdicts) <= {"authenticated", "guest_instead"}
    by = proof.cells.set_index(["policy", "metric"])
    assert by.loc[("manual_retry", "joined_share"), "realised"] == by.loc[("quick", "joined_share"), "realised"] == 1.0
    assert by.loc["manual_retry"]["inside"].isna().all()
    if proof.observer.much:  # on a machine that has too much else to do
        assert proof.share_inside is None
        assert proof.verdict[0] == "not_judged"
    else:
        assert by.loc["quick"]["inside"].tolist() == [True, True, True, False]
        assert proof.share_inside == 0.75
        assert "4 nests that both joined" in proof.verdict[1]
    assert by["n"].eq(4).all()
    assert proof.paired["n"].tolist() == [4] * 5
    for metric, apart in proof.paired.set_index("metric")["realised"].drop([COST, "lost_share"]).items():
        each = (by.loc[(name, metric), "realised"] for name in ("quick", "manual_retry"))
        assert apart == pytest.approx(next(each) - next(each)), metric
    assert proof.verdict[0] in VERDICTS
    assert "does not say whose nests" in proof.elsewhere
    assert 0 < by.loc[("quick", "mean_delay_s"), "realised"] < 2.0
    assert by.loc[("manual_retry", "requests_per_join"), "realised"] >= 2.0  # it asks /info first
    assert json.loads((tmp_path / "out" / "proof.json").read_text()) == proof.as_dict()

    store = Store.open(tmp_path / "out" / "store", create=False)
    assert store.ledger() == []
    rows = [row for row in store.observations() if row.failure is not Failure.INTENT]
    ends = [row for row in rows if row.source is Source.JOIN and row.operation is Operation.VERDICT]
    for nest in {row.trace_id for row in ends}:
        both = {json.loads(row.detail)["policy"]: row for row in ends if row.trace_id == nest}
        assert set(both) == {"manual_retry", "quick"}
        assert abs(both["quick"].sent_at - both["manual_retry"].sent_at) < 100_000_000
        for name, row in both.items():  # each request can be told whose it was
            mine = [one for one in rows if one.attempt_group == row.attempt_group and one.source is Source.API]
            assert len(mine) == json.loads(row.detail)["requests"], name
    assert {row.role for row in ends} == {Role.JOINER}
    assert not [row for row in rows if row.operation is Operation.MEDIA]
    assert not [row for row in rows if row.operation is Operation.ROOMS and row.planned_at is not None]

    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="other things than an earlier proof"):
        await prove(file, "calm", 1, tmp_path / "out")


async def test_an_interrupted_proof_leaves_nothing(tmp_path):
    joined = asyncio.Event()
    proving = asyncio.create_task(
        prove(
            PolicyFile(policy=QUICK),
            "calm",
            2,
            tmp_path / "out",
            arrivals=(0.5,),
            progress=lambda what, facts: joined.set() if what == "verdict" else None,
        )
    )
    async with asyncio.timeout(40):
        await joined.wait()
    proving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await proving
    store = Store.open(tmp_path / "out" / "store")
    assert store.ledger() == []
    assert {entry.how for entry in store.ledger(open_only=False) if entry.kind == "room"} == {"deleted"}
    assert not (tmp_path / "out" / "proof.json").exists()
    assert list((tmp_path / "state").rglob("keys/*")) == []


# Words that are wrong


async def test_an_unknown_scenario_is_what_the_lab_says_of_it(tmp_path):
    with pytest.raises(LabFailedError, match=r"no scenario 'stormy': choose among .*calm"):
        await prove(PolicyFile(policy=QUICK), "stormy", 1, tmp_path / "out")


async def test_a_lab_that_allows_too_few_requests_is_told(tmp_path):
    with pytest.raises(BudgetError, match="one nest needs"):
        await prove(PolicyFile(policy=QUICK), "rate-limited", 50, tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"nests": 0}, "at least 1"),
        ({"nests": -3}, "at least 1"),
        ({"arrivals": ()}, "arrivals"),
        ({"arrivals": (1.0, -1.0)}, "arrivals"),
        ({"arrivals": (math.nan,)}, "arrivals"),
        ({"arrivals": (math.inf,)}, "arrivals"),
        ({"file": PolicyFile(policy=replace(QUICK, give_up_age_s=1e6, horizon_s=1e6))}, "quick may join until"),
    ],
)
async def test_what_cannot_be_proven_is_refused_before_anything_is_made(tmp_path, words, said):
    file = words.pop("file", PolicyFile(policy=QUICK))
    with pytest.raises(UsageError, match=said):
        await prove(file, "calm", words.pop("nests", 1), tmp_path / "out", **words)
    assert not (tmp_path / "out").exists()


# What is planned


def test_people_come_when_tuning_takes_them_to_come():
    assert pytest.approx(tuple(middles([float(second) for second in range(31)]))) == ARRIVALS


@pytest.mark.parametrize(
    ("policy", "arrival_s", "ends"),
    [
        pytest.param(GUIDE, 10.0, 10.0, id="asks once"),
        pytest.param(fixed(5, give_up_age_s=30.0), 3.0, 35.0, id="the last wait begins just before the give-up age"),
        pytest.param(fixed(5, give_up_age_s=30.0), 40.0, 45.0, id="comes later than that"),
        pytest.param(replace(fixed(5), jitter=0.2), 3.0, 36.0, id="jitter stretches the gap"),
        pytest.param(exponential(1, cap_s=8.0, give_up_age_s=60.0), 3.0, 68.0, id="the cap"),
        pytest.param(full_jitter(1, cap_s=8.0, give_up_age_s=60.0), 3.0, 68.0, id="full jitter, at most the cap"),
        pytest.param(
            Policy(name="t", schedule=Schedule("table", table=((0, 2), (9, 4))), give_up_age_s=20.0, horizon_s=1e3),
            3.0,
            24.0,
            id="the longest gap of a table",
        ),
        pytest.param(MANUAL_RETRY, 3.0, 48.0, id="a person looks so long at most"),
        pytest.param(replace(fixed(5, give_up_age_s=900.0), horizon_s=20.0), 3.0, 23.0, id="its own horizon"),
    ],
)
def test_a_nest_is_watched_until_the_last_join_can_have_ended(policy, arrival_s, ends):
    assert ends_s(replace(policy, stay_s=2.0), arrival_s) == pytest.approx(ends + 2.0 + 3.0)


# What it says


def made(inside=(True, pd.NA, False), livekit="server", left=()):
    rows = [
        ("tuned", "joined_share", 1.0, 0.98, 1.0, 0.99, 0.0, 200, inside[0]),
        ("tuned", "mean_delay_s", math.nan, -math.inf, math.inf, 0.31, 0.02, 198, inside[1]),
        ("tuned", "requests_per_join", 3.0, 2.8, 3.2, 3.5, 0.0, 200, inside[2]),
    ]
    return Proof(
        scenario="slow-api",
        seed=2,
        nests=200,
        livekit={"kind": livekit, "version": "1.11.0"},
        policies=(replace(MANUAL_RETRY, name="tuned"),),
        verdicts={"authenticated": 200},
        round_trip_s=0.004,
        left=left,
        wall_s=100.0,
        cells=pd.DataFrame(rows, columns=list(CELLS)).astype(CELLS),
        window=("2026-01-01T12:00:00Z", "2026-01-01T12:03:20Z"),
    )


def test_its_lines_show_every_cell():
    lines = made().lines()
    assert len(lines) == 5
    assert lines[1].split() == ["tuned", "joined_share", "1.000", "0.980", "to", "1.000", "0.990", "200"]
    assert lines[2].split() == ["tuned", "mean_delay_s", "0.310", "198"]
    assert lines[3].endswith("outside")
    assert lines[4].startswith("1 of 2 cells inside; 200 fresh nests of slow-api")
    assert "stand-in" in made(livekit="stand-in").lines()[-1]
    assert made(left=("a room: HTTP 503",)).lines()[-1] == "left behind: a room: HTTP 503"


PAIRS = pd.DataFrame(
    [
        (COST, -4.0, -6.0, -2.0, -3.5, -5.5, -1.5, 9.0, 200, True, 0.97, 1.8),
        ("lost_share", math.nan, -math.inf, math.inf, -0.05, -0.09, -0.01, 0.2, 200, pd.NA, math.nan, 0.04),
    ],
    columns=list(PAIRED),
).astype(PAIRED)


def test_its_first_line_is_whether_the_change_helped_and_then_come_the_pairs():
    lines = replace(
        made(), paired=PAIRS, verdict=("helped", "The change helped."), elsewhere="Tuned on others.", power="n = 200."
    ).lines()
    assert lines[:2] == ["The change helped.", "Tuned on others."]
    assert lines[3].split() == [
        COST, "-4.000", "-6.000", "to", "-2.000", "-3.500", "-5.500", "to", "-1.500", "200",
    ]  # fmt: skip
    assert lines[4].split() == ["lost_share", "-0.050", "-0.090", "to", "-0.010", "200"]
    assert lines[-1] == "n = 200."


def test_its_json_has_the_pairs_and_the_answer():
    one = replace(made(), paired=PAIRS, verdict=("helped", "The change helped."))
    data = json.loads(json.dumps(one.as_dict(), allow_nan=False))
    assert data["verdict"] == {"kind": "helped", "said": "The change helped."}
    assert data["paired"][0]["inside"] is True
    assert data["paired"][1] == {
        "metric": "lost_share", "value": None, "lower": None, "upper": None, "realised": -0.05, "realised_lower": -0.09,
        "realised_upper": -0.01, "sd": 0.2, "n": 200, "inside": None, "fails": None, "seen": 0.04,
    }  # fmt: skip


# How many, and of whom


def predicting(value, error, sd=10.0, *, deployments=(), lost=60.0):
    apart = {"value": value, "lower": value - 1.96 * error, "upper": value + 1.96 * error, "sd": sd, "n": 400}
    prices = {"request_cost": 0.1, "delay_cost": 1.0, "lost_value": lost, "never_cost": 0.05}
    return PolicyFile(
        policy=QUICK,
        differences={"manual_retry": {COST: apart}},
        provenance=Provenance(prices=prices, deployments=deployments),
    )


@pytest.mark.parametrize(
    ("file", "time_s", "nests", "said"),
    [
        pytest.param(predicting(-5.0, 0.5), 200.0, "needed", r"would fail with 80 % power", id="as many as it needs"),
        pytest.param(predicting(-50.0, 0.5), 200.0, 30, r"; 30 is the least\.$", id="not a handful"),
        pytest.param(predicting(-2.0, 0.5), 20.0, 41, r"as many as the time allows; \d+ would be needed", id="no time"),
        pytest.param(
            predicting(-5.0, 4.0),
            20.0,
            41,
            r"predicted too unsurely to fail with 80 % power",
            id="too unsure to fail",
        ),
        pytest.param(PolicyFile(policy=QUICK), 20.0, 41, r"predicts no difference", id="of an older nestobs"),
        pytest.param(predicting(-5.0, 0.5, lost=None), 20.0, 41, r"as many as the time allows", id="infinite price"),
        pytest.param(predicting(-5.0, 0.5), -9.0, 1, r"as many as the time allows", id="no time at all"),
    ],
)
def test_so_many_nests_are_joined_that_the_prediction_could_fail(file, time_s, nests, said):
    many, why = enough(file, MANUAL_RETRY, time_s)
    number, of = number_of(file.differences.get("manual_retry", {}).get(COST, {}))
    assert many == (needed(number, of, 60.0) if nests == "needed" else nests)
    assert f"n = {many}" in why
    assert re.search(said, why), why
    if nests == "needed":
        assert fails(number, many, of, 60.0) >= POWER


@pytest.mark.parametrize(
    ("deployments", "said"),
    [
        pytest.param(("lab:calm",), "", id="the same"),
        pytest.param((), "does not say whose nests", id="unknown"),
        pytest.param(
            ("lab:slow-api",), "tuned on nests of the lab's slow-api, and proven on others, the lab's calm", id="other"
        ),
        pytest.param(("lab:calm", "lab:never"), "the lab's calm, the lab's never", id="more than these"),
        pytest.param(("nests.example",), "tuned on nests of nests.example", id="a deployment"),
        pytest.param(tuple("abcdefg"), "of a, b, c, d and 3 more", id="many"),
    ],
)
def test_a_policy_tuned_on_others_than_it_is_proven_on_is_said_to_be(deployments, said):
    words = elsewhere(predicting(-5.0, 0.5, deployments=deployments), "calm")
    assert (said in words) if said else words == ""


def test_a_policy_alone_is_not_compared():
    found, (kind, said) = compare(PolicyFile(policy=QUICK), MANUAL_RETRY, (QUICK,), pd.DataFrame())
    assert (len(found), kind) == (0, "not_compared")
    assert "nothing is to be compared" in said


def test_where_the_file_predicts_nothing_it_says_so():
    nothing = made(inside=(pd.NA, pd.NA, pd.NA))
    assert nothing.share_inside is None
    assert "the file predicts nothing" in nothing.lines()[-1]
    assert nothing.as_dict()["share_inside"] is None


def test_its_json_is_strict_and_has_a_policy_each():
    data = json.loads(json.dumps(made().as_dict(), allow_nan=False))
    [tuned] = data["policies"]
    assert tuned["name"] == "tuned"
    assert tuned["mean_delay_s"] == 0.31
    assert tuned["predicted"]["mean_delay_s"] == {"value": None, "lower": None, "upper": None}
    assert tuned["realised"]["mean_delay_s"] == {"value": 0.31, "error_s": 0.02, "n": 198, "inside": None}
    assert tuned["predicted"]["joined_share"] == {"value": 1.0, "lower": 0.98, "upper": 1.0}
    assert data["window"] == ["2026-01-01T12:00:00Z", "2026-01-01T12:03:20Z"]
    assert data["leaks"] == {"left": 0, "which": []}
    assert set(tuned["realised"]) < set(METRICS)


# Names


def test_a_policy_that_only_tells_otherwise_is_proven_alone_and_one_of_the_same_name_beside_it():
    predicted = {"manual_retry": SURE}
    later = PolicyFile(policy=replace(MANUAL_RETRY, message_threshold_s=45.0), predicted=predicted)
    nobody = replace(MANUAL_RETRY, person=None)
    alike, known = beside(nobody, replace(later, policy=replace(nobody, message_threshold_s=45.0)))
    assert [policy.message_threshold_s for policy in alike] == [45.0]
    assert known["manual_retry"]
    assert len(beside(MANUAL_RETRY, later)[0]) == 2  # a person reads it
    assert len(beside(MANUAL_RETRY, replace(later, policy=MANUAL_RETRY))[0]) == 1
    other, known = beside(MANUAL_RETRY, PolicyFile(policy=replace(QUICK, name="manual_retry"), predicted=predicted))
    assert [policy.name for policy in other] == ["manual_retry (today)", "manual_retry"]
    assert set(known) == {"manual_retry"}
