"""Nests of a standing fault are in no law, counted and named; where there are none, nothing is another by a digit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import nestobs
from nestobs.diagnosis.causes import Cause
from nestobs.diagnosis.diagnose import _DOOR_FAULTS, diagnose, doubted, suspects, with_standing
from nestobs.estimate import groups
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Role, Source
from nestobs.reports import daily, propagation
from nestobs.reports import tuning as tuning_page
from nestobs.timeline.delays import STANDING, joinable
from nestobs.timeline.intervals import timelines
from nestobs.timeline.nests import nests_of
from nestobs.timeline.omissions import omitted, standing
from nestobs.timeline.standing import standing as by_timelines
from nestobs.tuning.policy_file import dumps, loads
from nestobs.tuning.prediction import outcomes
from nestobs.tuning.tuner import TooLittleDataError
from worlds.ailing import ailing, many
from worlds.asked import frame
from worlds.stored_nests import drawn, nest_rows, store_of

pytestmark = pytest.mark.slow

FAULTY = 60
SHUT = sorted(str(cause) for cause in _DOOR_FAULTS)


def shut(count, how, *, after_s=0.0, name="faulty"):
    """Nests whose API keeps everybody out, as a canary sees it that LiveKit tells of its rooms."""
    never = np.full(count, 80.0), np.full(count, math.inf)
    for row in nest_rows(*never, name=name):
        sent = row.sent_at + round(after_s * SECOND_NS)
        made = replace(row, sent_at=sent, received_at=sent + SECOND_NS // 50)
        if made.operation is Operation.CREATE:
            yield made
            yield from how(made)


def asked(made, age_s, **more):
    sent = made.sent_at + round(age_s * SECOND_NS)
    ident = f"{made.trace_id}-{age_s}-{more.get('operation')}"
    return replace(
        made, observation_id=ident, role=Role.JOINER, sent_at=sent, received_at=sent + SECOND_NS // 50, **more
    )


def fault(made):
    """Every join is a 404 while /info says active and LiveKit lists the room: a released API whose joins all fail."""
    livekit = {"source": Source.LIVEKIT, "target": "wss://livekit.example", "outcome": Outcome.VISIBLE}
    for age_s in (1.0, 10.0, 40.0, 80.0):
        yield asked(made, age_s, operation=Operation.INFO, outcome=Outcome.VISIBLE, status=200)
        yield asked(made, age_s + 0.1, operation=Operation.ROOMS, **livekit)
        for way in (Operation.JOIN, Operation.GUEST):
            yield asked(made, age_s + 0.2, operation=way, outcome=Outcome.ABSENT, status=404)


def no_token(made):
    """Every join is answered 200 with a token that is none: {}."""
    for age_s in (1.0, 10.0, 40.0, 80.0):
        for way in (Operation.JOIN, Operation.GUEST):
            failed = {"failure": Failure.BAD_TOKEN, "failure_layer": FailureLayer.API, "reason": "the token is no text"}
            yield asked(made, age_s, operation=way, outcome=Outcome.UNKNOWN, status=200, **failed)


def away(made):
    """Nothing ever shows it: late, or gone, nobody knows."""
    for age_s in (1.0, 10.0, 40.0, 80.0):
        for way in (Operation.JOIN, Operation.GUEST):
            yield asked(made, age_s, operation=way, outcome=Outcome.ABSENT, status=404)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Nests of the first truth; the same and half as many again that are shut for good; and some that stay away."""
    folder = tmp_path_factory.mktemp("standing")
    sound = drawn(2 * FAULTY)
    return {
        "sound": store_of(folder / "sound", nest_rows(*sound)),
        "poisoned": store_of(folder / "poisoned", nest_rows(*sound), shut(FAULTY, fault, after_s=30.0)),
        "away": store_of(folder / "away", nest_rows(*sound), shut(FAULTY, away, after_s=30.0)),
    }


def marked(store):
    rows = store.frame(categories=True)
    return with_standing(timelines(rows), rows)


@pytest.mark.parametrize(("how", "cause"), [(fault, Cause.API_JOIN_FAULT), (no_token, Cause.BAD_TOKEN)])
def test_a_nest_that_is_shut_for_good_is_marked_by_its_cause(tmp_path, how, cause):
    lines = marked(store_of(tmp_path, nest_rows(*drawn(12)), shut(4, how)))
    assert standing(lines) == {str(cause): 4}
    assert set(lines.loc[lines[STANDING] != "", "nest"].str.contains("faulty")) == {True}
    assert not joinable(lines)["nest"].str.contains("faulty").any()


def test_what_stays_away_for_no_known_reason_stays_in_the_law(stores):
    lines = marked(stores["away"])
    assert suspects(lines).any()
    assert standing(lines) == {}
    assert len(joinable(lines)) == 3 * FAULTY


def test_its_like_leaves_every_law_and_is_named_in_a_sentence(stores):
    sound, poisoned = (marked(stores[name]) for name in ("sound", "poisoned"))
    rows = stores["poisoned"].frame()
    assert len(joinable(poisoned)) == 2 * FAULTY
    assert [one.law.n for one in groups.by_vantage(poisoned)] == [2 * FAULTY]
    assert [one.law.n for one in groups.by_layer(poisoned)] == [one.law.n for one in groups.by_layer(sound)]
    assert not outcomes(rows, poisoned)["unit"].str.contains("faulty").any()
    assert omitted(sound) == []
    (said,) = omitted(poisoned)
    assert said.startswith(
        f"{FAULTY} of {3 * FAULTY} nests are left out: api_join_fault, made from 2026-01-01 12:00 UTC"
    )
    assert "standing fault" in said


@pytest.mark.slow
def test_a_third_of_a_store_that_is_shut_moves_nothing(stores):
    sound, poisoned = (nestobs.tune(stores[name], draws=100) for name in ("sound", "poisoned"))
    assert poisoned.message_threshold_s == sound.message_threshold_s
    assert poisoned.give_up_age_s == sound.give_up_age_s
    assert poisoned.policy.schedule == sound.policy.schedule
    assert poisoned.faults is not None  # the fault itself is still learned from them
    assert poisoned.faults.standing == FAULTY
    assert poisoned.nests == sound.nests == 2 * FAULTY
    assert sound.left_out == {}
    assert poisoned.left_out == {"api_join_fault": FAULTY}
    assert any(f"{FAULTY} of {3 * FAULTY} nests are left out" in note for note in poisoned.notes)
    file = loads(dumps(poisoned.file(poisoned.policy)))
    assert file.provenance.left_out == {"api_join_fault": FAULTY}
    assert poisoned.as_dict()["left_out"] == {"api_join_fault": FAULTY}
    without = nestobs.tune(nestobs.timelines(stores["poisoned"]), draws=100)
    assert without.message_threshold_s.value < sound.message_threshold_s.lower  # what it would have done


@pytest.mark.slow
def test_without_any_nothing_is_another(stores):
    rows = stores["sound"].frame(categories=True)
    plain, asked_about = timelines(rows), marked(stores["sound"])
    assert suspects(plain).any()
    assert joinable(plain).equals(joinable(asked_about))
    one, other = (nestobs.tune(frame, draws=100) for frame in (plain, asked_about))
    assert one.as_dict() == other.as_dict()


def test_too_few_that_are_left_are_said_to_be_so(tmp_path):
    store = store_of(tmp_path, nest_rows(*drawn(12)), shut(24, fault))
    with pytest.raises(
        TooLittleDataError, match=r"12 nests were observed.* 24 of 36 nests are left out: api_join_fault"
    ):
        nestobs.tune(store)


@pytest.mark.slow
def test_pages_leave_them_out_and_say_so(stores):
    folder = str(stores["poisoned"].directory)
    said = f"{FAULTY} of {3 * FAULTY} nests are left out: api_join_fault"
    laid = propagation.load(folder)
    assert said in " ".join(propagation.heading(laid).paragraphs)
    assert [one.law.n for one in laid.groups["vantage"]] == [2 * FAULTY]
    assert said in " ".join(daily.heading(daily.load(folder)).paragraphs)
    (doubts,) = tuning_page.doubts(tuning_page.load(folder, draws=60)).parts
    assert said in " ".join(doubts.paragraphs)


@pytest.mark.parametrize("ailments", [0, 1, 2])
def test_a_nest_that_is_not_looked_into_would_have_been_found_without_a_fault(ailments):
    """Few are diagnosed, and all that a diagnosis of every one tells is told."""
    worlds = [*many(7, 60, ailments), *(ailing(3, 100 + at, 1, (SHUT[at % len(SHUT)],)) for at in range(40))]
    rows = frame([row for world in worlds for row in world.rows])
    lines = with_standing(timelines(rows), rows)
    asked, plain = suspects(lines), set(by_timelines(lines)["nest"])
    found = {}
    for each in diagnose(rows):
        faults = (one.cause for one in each.causes if one.standing_fault and one.cause in _DOOR_FAULTS)
        found[each.nest or each.room, each.vantage] = str(next(faults, ""))
    nests = nests_of(lines)
    names = nests.names[nests.unit].astype(str)
    pairs = zip(names, lines["vantage"], asked, strict=True)
    expected = [
        (found[name, who] or (name in plain and "api_join_fault") or "") * bool(shut) for name, who, shut in pairs
    ]
    assert lines[STANDING].tolist() == expected
    assert sum(map(bool, expected)) > 50
    looked_into = doubted(lines, rows)
    assert 0 < len(looked_into & set(names)) < len(set(names[asked])) + (ailments == 0)
    assert looked_into <= doubted(lines, rows.drop(columns="reason"))
