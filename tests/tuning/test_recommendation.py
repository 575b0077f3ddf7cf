"""What tuning gives, as it is written down: to a policy file and back, and as strict JSON."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest

from nestobs.estimate.law import LawError
from nestobs.estimate.npmle import Number, npmle
from nestobs.join.policy import fixed, read_policy
from nestobs.timeline.failures import Failures, Tally
from nestobs.tuning.decisions import Allowance
from nestobs.tuning.doubts.persons import LEAVING, REACTIONS_S
from nestobs.tuning.policy_file import NOTE_CHARACTERS, dumps, loads
from nestobs.tuning.recommendation import STRATUM_REGRET, plain, predicted
from nestobs.tuning.replay import COST, METRICS
from nestobs.tuning.tuner import recommend
from worlds.policy_schema import validator
from worlds.recommended import nests, stratum

pytestmark = pytest.mark.slow

INF = math.inf
PROVENANCE = {"store_digest": "ab" * 32, "made_at": "2026-03-05T00:00:00Z", "nestobs": "0.1.0"}


@cache
def found():
    """Of forty nests seen from two vantages."""
    return recommend(nests(), rng=np.random.default_rng(0), draws=60)


@cache
def troubled():
    """The same, where requests failed."""
    some = Failures(token=Tally(255, limited=1, broken=24, broken_s=(0.01,)), signal=Tally(80))
    return recommend(nests(), rng=np.random.default_rng(0), draws=60, failures=some)


def strict(text):
    """Decoded JSON without NaN and infinities."""

    def refused(token):
        raise AssertionError(token)

    return json.loads(text, parse_constant=refused)


class TestAnAllowance:
    @pytest.mark.parametrize(
        ("requests", "reserve", "planned"), [(100, 0.2, 80), (100, 0.9, 10), (10, 0.1, 9), (7, 0.0, 7), (1, 0.5, 0)]
    )
    def test_plans_what_is_not_kept_back(self, requests, reserve, planned):
        assert Allowance(requests=requests, reserve=reserve).per_window == planned

    def test_is_shared_by_the_joins_of_a_window(self):
        assert Allowance(joins=10.0).per_join == 8.0
        assert Allowance(requests=50, reserve=0.0, joins=0.5).per_join == 100.0

    @pytest.mark.parametrize(
        "words",
        [
            {"requests": 0},
            {"requests": -5},
            {"window_s": 0.0},
            {"window_s": math.nan},
            {"reserve": 1.0},
            {"reserve": -0.1},
            {"reserve": math.nan},
            {"joins": 0.0},
            {"joins": -1.0},
            {"joins": math.nan},
        ],
    )
    def test_that_is_none_is_refused(self, words):
        with pytest.raises(LawError, match="an allowance has"):
            Allowance(**words)


class TestAFile:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["recommended", "tuned", "simple"])
    def test_is_read_back_equal(self, name):
        policy = found().candidates()[name]
        file = found().file(policy, **PROVENANCE)
        assert loads(dumps(file)) == file
        assert file.policy == policy
        assert list(validator().iter_errors(json.loads(dumps(file)))) == []

    def test_says_of_what_it_was_made(self):
        made = found().file(found().policy, **PROVENANCE).provenance
        assert (made.n, made.n_censored) == (found().law.n, found().law.censored) == (80, made.n_censored)
        assert 0 < made.n_censored < 80
        assert (made.window_start, made.window_end) == ("2026-03-04T12:00:00Z", "2026-03-04T12:19:30Z")
        assert (made.store_digest, made.made_at, made.nestobs) == tuple(PROVENANCE.values())

    @pytest.mark.slow
    def test_says_what_failed_where_that_is_known(self):
        assert found().file(found().tuned).provenance.failures == {}
        file = troubled().file(troubled().tuned)
        assert file.provenance.failures["token"] == {"asked": 255, "timed_out": 0, "limited": 1, "broken": 24}
        assert loads(dumps(file)) == file
        assert list(validator().iter_errors(json.loads(dumps(file)))) == []

    def test_predicts_for_the_policy_and_for_todays_rule(self):
        for policy in (found().tuned, found().simple):
            file = found().file(policy)
            assert list(file.predicted) == [policy.name, "manual_retry"]
            [(today, apart)] = file.differences.items()
            assert (today, set(apart)) == ("manual_retry", {COST, *METRICS})
            for metric, number in found().replayed(policy.name).against.items():
                assert apart[metric]["value"] == number.value
                assert apart[metric]["sd"] is not None
            for name, cells in file.predicted.items():
                assert cells == predicted(found().replayed(name))
                assert set(cells) == set(METRICS)

    def test_holds_the_intervals_of_threshold_and_give_up_age(self):
        file = found().file(found().tuned)
        message, give_up = found().message_threshold_s, found().give_up_age_s
        low, high = file.intervals["message_threshold_s"]
        assert low == message.lower
        assert high == (message.upper if message.upper < INF else None)
        assert file.intervals["give_up_age_s"] == (give_up.lower, give_up.upper)

    def test_begins_its_notes_with_the_reason_and_cuts_what_is_too_long(self):
        """A stranger's relays have names of any length."""
        long = replace(found(), notes=(*found().notes, "differs for: relays " + "wss://r.example/ " * 200))
        file = long.file(long.policy)
        assert file.notes[0] == long.why
        assert file.notes[1:-1] == found().notes
        assert len(file.notes[-1]) == NOTE_CHARACTERS
        assert loads(dumps(file)) == file

    def test_bears_what_has_no_end(self):
        open_ = replace(found(), message_threshold_s=Number(INF, 12.0, INF), give_up_age_s=Number(0.0, -1.0, INF))
        file = open_.file(open_.tuned)
        assert file.intervals == {"message_threshold_s": (12.0, None), "give_up_age_s": (0.0, None)}
        assert loads(dumps(file)) == file

    def test_of_a_kept_rule_predicts_for_it_once(self):
        kept = replace(found(), policy=found().today, kept=True)
        assert list(kept.file(kept.policy).predicted) == ["manual_retry"]
        assert kept.file(kept.policy).differences == {}


class TestAsJson:
    def test_it_is_strict_and_holds_what_a_program_needs(self):
        data = strict(json.dumps(found().as_dict(), allow_nan=False))
        assert read_policy(data["policy"]) == found().policy
        assert data["kept"] is found().kept
        assert data["why"] == found().why
        assert data["notes"] == list(found().notes)
        assert (data["nests"], data["rows"], data["censored"]) == (40, 80, found().law.censored)
        assert list(data["policies"]) == [one.policy.name for one in found().replays]
        assert list(data["message_threshold_by_cost_ratio"]) == ["0.1", "0.25", "1.0"]
        assert list(data["sharing_age_s"]) == ["0.5", "0.8", "0.9", "0.95"]
        assert data["message_threshold_s"] == plain(found().message_threshold_s)
        assert len(data["front"]) == len(found().front)
        assert data["failures"] is None
        assert strict(json.dumps(troubled().as_dict()))["failures"]["token"]["broken"] == 24

    def test_what_is_infinite_or_unknown_is_null(self):
        odd = replace(
            found(),
            message_threshold_s=Number(INF, 3.0, INF),
            stop_age_s=INF,
            simple_price=math.nan,
            jitter_price=INF,
            front=pd.DataFrame({"request_cost": [0.5], "mean_delay_s": [math.nan], "chosen": [True]}),
            strata=(stratum("host", "a", threshold_s=INF),),
        )
        data = strict(json.dumps(odd.as_dict(), allow_nan=False))
        assert data["message_threshold_s"] == {"value": None, "lower": 3.0, "upper": None}
        assert (data["stop_age_s"], data["simple_price"], data["jitter_price"]) == (None, None, None)
        assert data["front"] == [{"request_cost": 0.5, "mean_delay_s": None, "chosen": True}]
        assert data["strata"][0]["threshold_s"] is None
        assert data["strata"][0]["differs"] is True

    @pytest.mark.slow
    def test_it_is_the_same_for_the_same_seed(self):
        again = recommend(nests(), rng=np.random.default_rng(0), draws=60)
        assert again.as_dict() == found().as_dict()


def test_a_replay_is_found_by_its_name():
    assert found().replayed("guide").policy.name == "guide"
    with pytest.raises(KeyError):
        found().replayed("nope")


def test_a_stratum_differs_when_a_policy_of_its_own_would_pay():
    enough = stratum("host", "a", regret=STRATUM_REGRET)
    assert not enough.differs
    assert replace(enough, regret=STRATUM_REGRET + 0.001).differs


@pytest.mark.parametrize("kept", [False, True], ids=["moved", "kept"])
def test_a_recommendation_is_told_in_words_what_to_do_first(kept):
    one = replace(found(), policy=found().today if kept else found().simple, kept=kept)
    lines = list(one.lines())
    assert lines[0] == one.why
    assert f"{one.policy.name}: {one.policy.words} (ages of the nest, in seconds)" in lines
    [beside] = [line for line in lines if "beside manual_retry on the same nests" in line]
    assert ("not proven" in beside) is kept
    compared = one.replayed("tuned" if kept else "simple")
    told = {line.split(",")[0].strip(): line for line in lines[lines.index(beside) + 2 :][:4]}
    columns = f"released manual_retry {compared.policy.name} {compared.policy.name} less manual_retry"
    assert lines[lines.index(beside) + 1].split() == columns.split()
    assert f"{100 * compared.numbers['lost_share'].value:.1f}" in told["lost"]
    assert f"({compared.against['mean_delay_s'].lower:+.2f} to" in told["delay"]
    assert lines[-1] == one.notes[-1]


def test_a_recommendation_and_what_it_rests_on_have_a_short_face():
    one = replace(found(), why="a <b>stranger\u202e", notes=("<script>",))
    assert repr(one) == "<Recommendation of 40 nests: a <b>stranger\u202e>"
    shown = one._repr_html_()
    assert "a &lt;b&gt;stranger\n" in shown
    assert "<script>" not in shown
    assert re.match(r"<DelayLaw of 80 rows: half by \S+ s, 90 % by .*, [\d.]+ % not within the watch>", repr(one.law))
    assert one.law._repr_html_().count("<tr>") == 6


def test_a_law_of_which_nothing_came_says_so():
    assert repr(npmle([5.0], [INF])) == "<DelayLaw of 1 rows: half by never, 90 % by never, 100 % not within the watch>"


def test_how_it_moves_with_the_person_is_told():
    one = found()
    assert {(each.reaction_s, each.leaves) for each in one.persons} == {*product(REACTIONS_S, LEAVING)}
    by = {(each.reaction_s, each.leaves): each for each in one.persons}
    assert all(by[r, 0.0].lost <= by[r, 0.2].lost <= by[r, 0.4].lost for r in REACTIONS_S)
    [same] = [each for each in one.persons if (each.reaction_s, each.leaves) == (5.0, 0.2)]
    name = one.policy.name
    difference = one.replayed(name).cost.value - one.replayed("manual_retry").cost.value
    assert same.apart.value == pytest.approx(difference, abs=0.01)
    lines = "\n".join(one.lines())
    assert one.today.person.words in lines
    assert f"{same.apart.value:+.1f} ({same.apart.lower:+.1f} to {same.apart.upper:+.1f})" in lines
    assert json.dumps(one.as_dict()["persons"], allow_nan=False)


def test_where_nobody_presses_nothing_is_said_of_a_person():
    robot = recommend(nests(), draws=20, today=fixed(5))
    assert robot.persons == ()
    assert not any("half press" in line for line in robot.lines())
