"""Polls to intervals: any hidden truth is inside, no sound interval is tighter, and every special case by hand."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.offset import DRIFT
from nestobs.observation.schema import COLUMNS, Failure, Observation, Operation, Outcome, Role, Source, as_row
from nestobs.timeline.intervals import MARKS, SCHEMA, STABLE_POLLS, clock_words, timelines
from nestobs.timeline.intervals.polls import LATE_S

NOON = 1_750_000_000 * SECOND_NS
NEST = "30312:" + "ab" * 32 + ":room"
ASKED: dict[str, tuple[Source, Operation, str]] = {
    "relay:wss://one": (Source.RELAY, Operation.QUERY, "wss://one"),
    "relay:wss://two": (Source.RELAY, Operation.SUBSCRIBE, "wss://two"),
    "api:info": (Source.API, Operation.INFO, "https://nests"),
    "api:join": (Source.API, Operation.JOIN, "https://nests"),
    "livekit:room": (Source.LIVEKIT, Operation.ROOMS, "https://livekit"),
    "livekit:signal": (Source.LIVEKIT, Operation.SIGNAL, "https://livekit"),
    "client": (Source.CLIENT, Operation.LOAD, "https://page"),
}
COUNTERS = ["unknown", "late"]
TEXTS = [column.name for column in SCHEMA if column.type == "text"]


def at(seconds: float) -> int:
    return NOON + round(seconds * SECOND_NS)


def row(
    outcome: str, sent: float, received: float | None = None, *, layer: str = "api:info", **fields: Any
) -> Observation:
    """One attempt; instants in seconds after noon. A failure is explained, as the schema demands."""
    source, operation, target = ASKED[layer]
    values: dict[str, Any] = {
        "observation_id": "id",
        "run_id": "run",
        "trace_id": "trace",
        "vantage": "here",
        "nest": NEST,
        "room": "room",
        "source": source,
        "operation": operation,
        "target": target,
        "outcome": Outcome(outcome),
        "sent_at": at(sent),
        "received_at": None if received is None else at(received),
    }
    values |= fields
    return Observation(**values | {"reason": "said so" if values.get("failure") else ""})


def created(sent: float = 0.0, outcome: str = "accepted", **fields: Any) -> Observation:
    fields = {"source": Source.API, "operation": Operation.CREATE, "nest": "", "room": "", "role": Role.HOST} | fields
    return row(outcome, sent, sent + 0.1, **fields)


def published(sent: float, outcome: str = "accepted", **fields: Any) -> Observation:
    fields = {"source": Source.RELAY, "operation": Operation.PUBLISH, "target": "wss://one", "role": Role.HOST} | fields
    return row(outcome, sent, sent + 0.1, **fields)


def table(text: str, **fields: Any) -> list[Observation]:
    """Polls from `outcome sent received` triples, parted by commas; `-` for an answer that never came."""
    rows = []
    for poll in filter(None, (part.split() for part in text.split(","))):
        outcome, sent, received = poll
        rows.append(row(outcome, float(sent), None if received == "-" else float(received), **fields))
    return rows


def frame(rows: list[Observation]) -> pd.DataFrame:
    """The rows as the store hands them out: instants nullable int64."""
    made = pd.DataFrame([as_row(one) for one in rows], columns=[column.name for column in COLUMNS], dtype=object)
    kinds = {"int": "Int64", "real": "float64", "bool": "boolean"}
    return made.astype({column.name: kinds.get(column.type, "object") for column in COLUMNS})


def only(rows: list[Observation]) -> Any:
    """The one row of the result, as a namedtuple."""
    result = timelines(frame(rows))
    assert len(result) == 1
    return next(result.itertuples(index=False))


def same(left: pd.DataFrame, right: pd.DataFrame, without: tuple[str, ...] = ()) -> None:
    pd.testing.assert_frame_equal(left.drop(columns=list(without)), right.drop(columns=list(without)), check_exact=True)


# --- any world -------------------------------------------------------------------------------------------------------

TICK_S = 0.5
LAST = 24
ANY_WORLD = settings(max_examples=60, deadline=None)  # a loaded machine is no failure


@dataclass(frozen=True)
class Poll:
    """One attempt in ticks since the PUT; `answered` is the hidden instant its answer speaks of."""

    sent: int
    answered: int
    received: int
    fate: str = ""

    def row(self, outcome: str, **fields: Any) -> Observation:
        lost = self.fate == "lost"
        failure = None if outcome in ("visible", "absent") else Failure.PROTOCOL  # a LiveKit that is down is no scene
        received = None if lost else self.received * TICK_S
        return row(
            self.fate if self.fate and not lost else outcome, self.sent * TICK_S, received, **fields, failure=failure
        )


@st.composite
def polls(draw: st.DrawFn) -> Poll:
    sent = draw(st.integers(-4, LAST))
    received = sent + draw(st.integers(0, 8))
    fate = draw(st.sampled_from(["", "", "", "", "", "unknown", "refused", "probe_error", "lost"]))
    return Poll(sent, draw(st.integers(sent, received)), received, fate)


@dataclass(frozen=True)
class Scene:
    """One trace, layer and vantage: when it becomes visible (None: never) and goes again, and the polls."""

    key: tuple[str, str, str]
    truth: int | None
    plan: list[Poll]
    gone: int | None = None

    def shows(self, instant: int) -> bool:
        return self.truth is not None and self.truth <= instant and (self.gone is None or instant < self.gone)

    def rows(self) -> list[Observation]:
        trace, layer, vantage = self.key
        return [
            poll.row("visible" if self.shows(poll.answered) else "absent", trace_id=trace, layer=layer, vantage=vantage)
            for poll in self.plan
        ]

    def proofs(self) -> list[tuple[str, int, int]]:
        return [
            ("visible" if self.shows(p.answered) else "absent", p.sent, p.received) for p in self.plan if not p.fate
        ]


KEYS = st.tuples(
    st.sampled_from(["trace-a", "trace-b"]), st.sampled_from(sorted(ASKED)), st.sampled_from(["here", "there"])
)
PLANS = st.lists(polls(), min_size=1, max_size=10)
SCENES = st.lists(
    st.builds(Scene, KEYS, st.one_of(st.none(), st.integers(1, LAST + 4)), PLANS),
    min_size=1,
    max_size=4,
    unique_by=lambda scene: scene.key[1] if scene.key[1] == "livekit:room" else scene.key[1:],
)
"""Of one nest; what LiveKit lists is one truth for all, what else a vantage is shown is one for all its traces."""


def world(scenes: list[Scene]) -> list[Observation]:
    """Every trace is created at 0 s by the vantage here; then its polls."""
    traces = sorted({scene.key[0] for scene in scenes})
    return [created(trace_id=trace) for trace in traces] + [one for scene in scenes for one in scene.rows()]


def found(result: pd.DataFrame, scene: Scene) -> Any:
    trace, layer, vantage = scene.key
    chosen = result[(result.trace_id == trace) & (result.layer == layer) & (result.vantage == vantage)]
    assert len(chosen) == 1
    return next(chosen.itertuples(index=False))


def consistent(proofs: list[tuple[str, int, int]]) -> list[float]:
    """Brute force: every switch instant after 0, in half ticks, for which each answer could have been given."""

    def possible(switch: int, outcome: str, sent: int, received: int) -> bool:
        return any((instant >= switch) == (outcome == "visible") for instant in range(2 * sent, 2 * received + 1))

    return [s / 2 for s in range(1, 2 * (LAST + 12)) if all(possible(s, *proof) for proof in proofs)]


@pytest.mark.slow
@ANY_WORLD
@given(SCENES, st.randoms(use_true_random=False))
def test_the_interval_holds_the_truth_and_no_sound_interval_is_tighter(scenes: list[Scene], random: Any) -> None:
    rows = world(scenes)
    random.shuffle(rows)
    result = timelines(frame(rows))
    assert len(result) == len(scenes)
    for scene in scenes:
        line, proofs = found(result, scene), scene.proofs()
        options = consistent(proofs)
        assert line.lower_s < (math.inf if scene.truth is None else scene.truth * TICK_S) <= line.upper_s
        assert line.lower_s == (options[0] - 0.5) * TICK_S
        shown = [received for outcome, _, received in proofs if outcome == "visible"]
        hidden = [sent for outcome, sent, _ in proofs if outcome == "absent"]
        assert line.upper_s == (options[-1] * TICK_S if shown else math.inf)
        assert line.right_censored == (not shown)
        assert line.left_censored == (bool(shown) and not hidden)
        assert line.width_s == line.upper_s - line.lower_s
        assert (line.polls, line.unknown) == (len(proofs), len(scene.plan) - len(proofs))
        assert line.flaps == 0
        assert math.isnan(line.gone_lower_s)
        assert math.isnan(line.gone_upper_s)
        if not shown:
            assert line.lower_s == max([0, *hidden]) * TICK_S
        if len(shown) >= STABLE_POLLS:
            assert line.stable_s == line.upper_s
        else:
            assert math.isnan(line.stable_s)


@pytest.mark.slow
@ANY_WORLD
@given(SCENES)
def test_rows_that_prove_nothing_change_nothing_but_the_counters(scenes: list[Scene]) -> None:
    rows = world(scenes)
    proven = [one for one in rows if one.received_at is not None and one.outcome in ("visible", "absent", "accepted")]
    with_all, without = timelines(frame(rows)), timelines(frame(proven))
    asked = with_all[with_all.polls > 0].reset_index(drop=True)
    same(asked, without, without=("unknown", "late"))
    assert (without.unknown == 0).all()


@pytest.mark.slow
@ANY_WORLD
@given(SCENES, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(scenes: list[Scene], random: Any) -> None:
    rows = world(scenes)
    before = timelines(frame(rows))
    random.shuffle(rows)
    same(before, timelines(frame(rows)))


@pytest.mark.slow
@ANY_WORLD
@given(SCENES)
def test_traces_layers_and_vantages_do_not_touch_one_another(scenes: list[Scene]) -> None:
    together = timelines(frame(world(scenes)))
    alone = pd.concat([timelines(frame(world([scene]))) for scene in scenes])
    same(together, alone.sort_values(["nest", "trace_id", "layer", "vantage"], ignore_index=True))


@pytest.mark.slow
@ANY_WORLD
@given(SCENES, st.integers(-NOON // 2, NOON), st.sampled_from([1, 2, 4]))
def test_delays_do_not_depend_on_the_date_and_follow_the_scale(scenes: list[Scene], shift: int, scale: int) -> None:
    observations = frame(world(scenes))
    moved = observations.copy()
    for name in ("sent_at", "received_at"):
        moved[name] = (moved[name] - NOON) * scale + NOON + shift
    before, after = timelines(observations), timelines(moved)
    lengths = ["lower_s", "upper_s", "width_s", "stable_s", "seen_until_s", "gone_lower_s", "gone_upper_s", "spacing_s"]
    before[lengths] *= scale
    same(before, after, without=("origin_at", "lower_at", "upper_at"))
    back = (after.upper_at - pd.Timedelta(shift) - pd.Timestamp(NOON, tz="UTC")) / scale
    pd.testing.assert_series_equal(back, before.upper_at - pd.Timestamp(NOON, tz="UTC"))


@pytest.mark.slow
@ANY_WORLD
@given(st.lists(st.tuples(polls(), st.sampled_from(["visible", "absent"])), min_size=1, max_size=12))
def test_even_a_world_without_rules_reverses_no_interval_and_loses_no_row(answers: list[tuple[Poll, str]]) -> None:
    line = only([created(), *(poll.row(outcome) for poll, outcome in answers)])
    proofs = [(outcome, poll.sent, poll.received) for poll, outcome in answers if not poll.fate]
    assert line.lower_s < line.upper_s
    assert not line.gone_lower_s >= line.gone_upper_s
    assert line.polls + line.unknown == len(answers)
    assert not line.stable_s < line.upper_s
    upper = min((received for outcome, _, received in proofs if outcome == "visible"), default=math.inf)
    last = max((sent for outcome, sent, _ in proofs if outcome == "visible"), default=-math.inf)
    late = [received for outcome, sent, received in proofs if outcome == "absent" and sent >= upper]
    assert line.flaps == sum(received <= last for received in late)
    assert math.isnan(line.gone_upper_s) == (line.flaps == len(late))


@pytest.mark.slow
@ANY_WORLD
@given(
    st.integers(1, LAST),
    st.integers(1, LAST),
    st.lists(polls(), min_size=1, max_size=12),
)
def test_the_interval_of_the_going_holds_the_instant_it_went(truth: int, stay: int, plan: list[Poll]) -> None:
    scene = Scene(("trace", "api:info", "here"), truth, plan, gone=truth + stay)
    line = only(world([scene]))
    assert line.flaps == 0
    if not math.isnan(line.gone_upper_s):
        assert line.gone_lower_s < (truth + stay) * TICK_S <= line.gone_upper_s


@pytest.mark.slow
@ANY_WORLD
@given(st.lists(st.tuples(polls(), st.floats(-5, 5), st.floats(0, 0.5)), min_size=1, max_size=8), st.integers(1, LAST))
def test_with_known_offsets_the_widened_interval_holds_the_truth(plan: list[Any], truth: int) -> None:
    # each poll in a run of its own whose clock is wrong by `skew`, of which the vantage knows only skew + wrong
    rows = [created(vantage="host", clock_offset_s=0.25, clock_error_s=0.25)]  # the host's clock is right: 0.25 off
    for number, (poll, skew, wrong) in enumerate(plan):
        outcome = "visible" if poll.answered >= truth else "absent"
        one = Poll(poll.sent, poll.answered, poll.received).row(outcome, vantage="there", run_id=f"run{number}")
        late = {
            "sent_at": one.sent_at + round(skew * SECOND_NS),
            "received_at": one.received_at + round(skew * SECOND_NS),
        }
        values = {name: getattr(one, name) for name in (column.name for column in COLUMNS)} | late
        rows.append(Observation(**values | {"clock_offset_s": skew + wrong, "clock_error_s": wrong}))
    line = only(rows)
    if line.flaps == 0 and math.isnan(line.gone_upper_s):  # else errors of several runs have crossed: not one clock
        assert line.lower_s <= truth * TICK_S + 1e-6
        assert truth * TICK_S <= line.upper_s + 1e-6


# --- the schema ------------------------------------------------------------------------------------------------------

DTYPES = {"text": "str", "int": "int64", "real": "float64", "bool": "bool", "instant": "datetime64[ns, UTC]"}


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="empty"),
        pytest.param([created()], id="no layer asked"),
        pytest.param([created(), *table("absent 1 1.1, visible 2 2.1")], id="one"),
        pytest.param(table("visible 1 1.1", trace_id="", layer="relay:wss://one"), id="no origin"),
    ],
)
def test_columns_and_dtypes_are_those_of_the_schema(rows: list[Observation]) -> None:
    result = timelines(frame(rows))
    assert {name: str(dtype) for name, dtype in result.dtypes.items()} == {c.name: DTYPES[c.type] for c in SCHEMA}
    assert list(result.columns) == [column.name for column in SCHEMA]
    whole = [column.name for column in SCHEMA if not column.nullable]
    assert result[whole].notna().all(axis=None)


def test_an_empty_frame_without_dtypes_gives_no_rows() -> None:
    assert len(timelines(pd.DataFrame(columns=[column.name for column in COLUMNS]))) == 0


@pytest.mark.parametrize("kind", ["object", "string", "category", "str"])
def test_texts_may_be_of_any_text_dtype_and_the_index_of_any_kind(kind: str) -> None:
    observations = frame([created(), *table("absent 1 1.1, unknown 2 -, visible 3 3.1")])
    expected = timelines(observations)
    texts = [column.name for column in COLUMNS if column.type == "text"]
    typed = observations.astype(dict.fromkeys(texts, kind)).set_axis([7] * len(observations))
    same(expected, timelines(typed))


def test_the_frame_handed_in_is_left_as_it_was() -> None:
    observations = frame([created(), *table("absent 1 1.1, visible 3 3.1")])
    before = observations.copy(deep=True)
    timelines(observations)
    pd.testing.assert_frame_equal(observations, before)


def test_wrong_calls_are_refused() -> None:
    observations = frame(table("visible 3 3.1"))
    with pytest.raises(KeyError, match="detail"):
        timelines(observations.drop(columns="detail"))
    with pytest.raises(TypeError, match="sent_at"):
        timelines(observations.assign(sent_at=pd.to_datetime(observations["sent_at"])))
    with pytest.raises(TypeError, match="received_at"):  # a float has lost the nanoseconds already
        timelines(observations.assign(received_at=observations["received_at"].astype(float)))


# --- bounds by hand --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "lower", "upper"),
    [
        pytest.param("absent 1 1.2, absent 2 2.2, visible 3 3.2", 2, 3.2, id="one after the other"),
        pytest.param("absent 1 6, visible 2 3", 1, 3, id="a slow absent overtaken by a visible"),
        pytest.param("visible 1 6, absent 5 5.5", 5, 6, id="a slow visible with an absent sent while it ran"),
        pytest.param("visible 1 9, absent 2 2.5, visible 4 5, absent 3 8", 3, 5, id="the first received is the first"),
        pytest.param("absent 2 3, visible 3 4, absent 4 5, visible 5 6", 2, 4, id="sent when the visible was received"),
        pytest.param("absent 2 2, visible 3 3", 2, 3, id="answers in no time"),
        pytest.param("absent 4 4, visible 4 4", 0, 4, id="a contradiction in one instant"),
        pytest.param("absent 1 2, unknown 3 8, visible 9 9.1", 1, 9.1, id="a timeout is no proof"),
        pytest.param("absent 1 2, refused 3 3.1, probe_error 4 5, visible 9 9.1", 1, 9.1, id="refusals are no proof"),
        pytest.param("absent 1 2, absent 3 -, visible 4 -, visible 5 5.1", 1, 5.1, id="never received is no proof"),
        pytest.param("visible 5 5.1, visible 6 6.1", 0, 5.1, id="left-censored"),
        pytest.param("absent 5 5.1, absent 6 6.1", 6, math.inf, id="right-censored"),
        pytest.param("absent -3 -2, visible 2 2.1", 0, 2.1, id="no nest of ours is older than its PUT"),
    ],
)
def test_bounds(answers: str, lower: float, upper: float) -> None:
    line = only([created(), *table(answers)])
    assert (line.lower_s, line.upper_s) == (lower, upper)
    assert line.right_censored == (upper == math.inf)


def test_bounds_come_with_their_instants() -> None:
    line = only([created(2), *table("absent 5 5.1, visible 6 6.5, visible 7 7.1")])
    assert line.origin_at == pd.Timestamp(at(2), tz="UTC")
    assert line.lower_at == pd.Timestamp(at(5), tz="UTC")
    assert line.upper_at == pd.Timestamp(at(6.5), tz="UTC")
    assert (line.lower_s, line.upper_s, line.width_s) == (3, 4.5, 1.5)
    assert (line.origin_kind, line.origin_error_s) == ("create", 0)
    assert pd.isna(only([created(), *table("visible 6 6.5")]).lower_at)
    assert pd.isna(only([created(), *table("absent 6 6.5")]).upper_at)


def test_asked_and_failed_is_not_the_same_as_not_asked() -> None:
    rows = [created(), *table("unknown 1 -, refused 2 2.1", layer="api:join"), *table("absent 1 1.1", layer="api:info")]
    result = timelines(frame(rows)).set_index("layer")
    assert sorted(result.index) == ["api:info", "api:join"]
    failed = result.loc["api:join"]
    assert (failed.lower_s, failed.upper_s, failed.polls, failed.unknown) == (0, math.inf, 0, 2)
    assert failed.right_censored
    assert not failed.left_censored
    assert failed.spacing_s == math.inf


def test_without_any_proof_no_origin_is_needed() -> None:
    line = only(table("unknown 1 -, probe_error 2 2.1"))
    assert (line.lower_s, line.upper_s, line.polls, line.unknown, line.origin_kind) == (0, math.inf, 0, 2, "")


def test_an_intent_is_no_attempt() -> None:
    intent = row("unknown", 1, failure=Failure.INTENT, layer="api:join")
    line = only([created(), intent, *table("visible 1 1.5", layer="api:join")])
    assert (line.polls, line.unknown) == (1, 0)
    alone = only([created(), intent])
    assert (alone.polls, alone.unknown, alone.upper_s) == (0, 0, math.inf)


def test_a_subscription_and_queries_bound_one_another() -> None:
    asked = {"target": "wss://one", "source": Source.RELAY}
    rows = [created(), *table("absent 1 1.1, visible 9 9.1", operation=Operation.QUERY, **asked)]
    rows += table("absent 4 4, visible 0.5 4.2", operation=Operation.SUBSCRIBE, **asked)
    line = only(rows)
    assert (line.layer, line.lower_s, line.upper_s) == ("relay:wss://one", 4, 4.2)


def test_a_push_that_a_network_held_back_does_not_say_that_the_event_was_there_when_it_came() -> None:
    """The relay sent it at 3 s and dropped it at 6 s; a network that stood still delivered it at 9 s."""
    asked = {"target": "wss://one", "source": Source.RELAY}
    polls = table("visible 2 2.1, absent 9.5 9.6", operation=Operation.QUERY, **asked)
    line = only([created(), *polls, *table("visible 9 9", operation=Operation.SUBSCRIBE, **asked)])
    assert (line.seen_until_s, line.gone_lower_s, line.gone_upper_s) == (2, 2, 9.6)
    pushed = only([created(), *polls[1:], *table("absent 1 1, visible 9 9", operation=Operation.SUBSCRIBE, **asked)])
    assert (pushed.lower_s, pushed.gone_lower_s, pushed.gone_upper_s) == (1, 1, 9.6)
    assert math.isnan(pushed.seen_until_s)


def test_an_absent_before_a_later_push_is_a_flap() -> None:
    asked = {"target": "wss://one", "source": Source.RELAY}
    polls = table("visible 2 2.1, absent 4 4.1", operation=Operation.QUERY, **asked)
    line = only([created(), *polls, *table("visible 9 9", operation=Operation.SUBSCRIBE, **asked)])
    assert line.flaps == 1
    assert math.isnan(line.gone_upper_s)


def test_silence_before_the_push_of_an_edit_is_no_flap() -> None:
    pushes = "absent 2 2.1, visible 3 3, absent 60 60.1, visible 61 61, absent 90 90.1, visible 91 91, absent 95 95.1"
    line = only([created(), *table(pushes, layer="relay:wss://two")])
    assert (line.lower_s, line.upper_s, line.stable_s) == (2, 3, 3)
    assert (line.flaps, line.polls) == (0, 7)
    assert math.isnan(line.gone_upper_s)


def test_rows_about_no_layer_or_no_nest_make_no_row() -> None:
    rows = [
        *table("visible 1 1.1", trace_id="", nest=""),
        *table("accepted 1 1.1", operation=Operation.HEALTH),
        *table("visible 1 1.1", source=Source.RELAY, operation=Operation.READ_BACK),
        *table("visible 1 1.1", source=Source.WEBHOOK, operation=Operation.RECEIVE),
    ]
    assert len(timelines(frame(rows))) == 0


def test_rows_are_kept_by_trace_and_else_by_address() -> None:
    rows = [created(trace_id="a"), *table("visible 1 1.1", trace_id="a"), *table("visible 2 2.1", trace_id="b")]
    rows += table("visible 3 3.1, visible 4 4.1", trace_id="", layer="client")
    result = timelines(frame(rows))
    assert result[["trace_id", "layer", "polls"]].values.tolist() == [
        ["a", "api:info", 1],
        ["b", "api:info", 1],
        ["b", "client", 2],  # a nest that has a trace makes no second row without one
    ]
    assert (result.nest == NEST).all()
    alone = timelines(frame(table("visible 3 3.1", trace_id="", layer="client")))
    assert alone[["trace_id", "layer", "polls"]].values.tolist() == [["", "client", 1]]


def test_a_trace_learns_its_nest_and_room_from_any_of_its_rows() -> None:
    rows = [*table("absent 1 1.1", nest="", room="room", layer="livekit:room"), published(0.5, room="")]
    line = only([created(), *rows])
    assert (line.nest, line.room) == (NEST, "room")


# --- after the first visible -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "flaps", "stable", "gone"),
    [
        pytest.param("visible 1 1.1, visible 2 2.1, visible 3 3.1", 0, 1.1, None, id="stable at once"),
        pytest.param("visible 1 1.1, visible 2 2.1", 0, None, None, id="two are not yet stable"),
        pytest.param(
            "visible 1 1.1, absent 2 2.1, visible 3 3.1, visible 4 4.1, visible 5 5.1", 1, 3.1, None, id="a flap"
        ),
        pytest.param(
            "visible 1 1.1, absent 2 2.1, visible 3 3.1, absent 4 4.1, absent 5 5.1, visible 6 6.1",
            3,
            None,
            None,
            id="flaps",
        ),
        pytest.param(
            "visible 1 1.1, unknown 2 9, visible 3 3.1, visible 4 4.1", 0, 1.1, None, id="a timeout parts no run"
        ),
        pytest.param(
            "absent 1 3.5, visible 2 2.1, visible 3 3.1, visible 4 4.1", 0, 2.1, None, id="a slow absent parts none"
        ),
        pytest.param(
            "visible 1 1.1, visible 2 4, absent 3 4, visible 5 5.1, visible 6 6.1",
            1,
            4,
            None,
            id="a tie: the absent first",
        ),
        pytest.param("visible 1 1.1, absent 2 2.1", 0, None, (1, 2.1), id="gone"),
        pytest.param(
            "visible 1 1.1, visible 5 5.1, absent 8 8.1, absent 9 9.1", 0, None, (5, 8.1), id="gone and still gone"
        ),
        pytest.param(
            "visible 1 1.1, absent 2 2.1, visible 3 3.1, absent 4 4.1", 1, None, (3, 4.1), id="back, then gone for good"
        ),
        pytest.param(
            "visible 1 1.1, visible 5 9, absent 6 7", 0, None, (5, 7), id="gone while a slow visible was on its way"
        ),
        pytest.param(
            "visible 1 1.1, visible 7 9, absent 6 7", 1, None, None, id="an absent received as the last visible left"
        ),
        pytest.param("absent 1 1.1, absent 2 2.1", 0, None, None, id="what never came cannot go"),
    ],
)
def test_flaps_stability_and_going(
    answers: str, flaps: int, stable: float | None, gone: tuple[float, float] | None
) -> None:
    line = only([created(), *table(answers)])
    assert line.flaps == flaps
    assert (None if math.isnan(line.stable_s) else line.stable_s) == stable
    assert (None if math.isnan(line.gone_upper_s) else (line.gone_lower_s, line.gone_upper_s)) == gone


def test_late_polls_are_counted_whatever_they_proved() -> None:
    late, in_time = at(1 - LATE_S) - 1, at(1 - LATE_S)
    rows = [row("absent", 1, 1.1, planned_at=late), row("unknown", 1, planned_at=late), row("absent", 1, 1.1)]
    rows += [row("absent", 1, 1.1, planned_at=in_time), row("unknown", 1, planned_at=late, failure=Failure.INTENT)]
    assert only([created(), *rows]).late == 2


@pytest.mark.parametrize(
    ("answers", "spacing"),
    [
        ("absent 1 1.1, visible 4 4.1", 3),
        ("visible 1 6, absent 5 5.5", 4),
        ("absent 1 1.1, visible 2 4, visible 3 4", 2),
        ("absent 1 1.1", math.inf),
    ],
)
def test_spacing_is_the_gap_between_the_bracketing_polls(answers: str, spacing: float) -> None:
    assert only([created(), *table(answers)]).spacing_s == spacing


def test_spacing_of_a_left_censored_interval_is_nan() -> None:
    assert math.isnan(only([created(), *table("visible 4 4.1")]).spacing_s)


# --- origins ---------------------------------------------------------------------------------------------------------


def test_the_origin_is_the_put_and_else_the_first_publish() -> None:
    polled = table("absent 4 4.1, visible 5 5.1")
    both = [created(0), published(2), published(3), *polled]
    assert (only(both).origin_kind, only(both).upper_s) == ("create", 5.1)
    line = only([published(3), published(2), *polled])
    assert (line.origin_kind, line.lower_s, line.upper_s) == ("publish", 2, pytest.approx(3.1))


def test_an_accepted_put_goes_before_an_earlier_one_without_an_answer() -> None:
    polled = table("visible 5 5.1")
    lost = created(0, "unknown", failure=Failure.TIMEOUT)
    assert only([lost, created(3), *polled]).upper_s == pytest.approx(2.1)
    assert only([lost, created(3, "refused"), *polled]).upper_s == 5.1
    left_open = created(1, "unknown", failure=Failure.INTENT, received_at=None)
    assert only([left_open, *polled]).upper_s == pytest.approx(4.1)
    assert only([left_open, created(1.5, "unknown", failure=Failure.TIMEOUT), *polled]).upper_s == pytest.approx(3.6)


def test_a_put_without_an_answer_and_never_seen_is_no_origin() -> None:
    line = only([created(0, "unknown", failure=Failure.TIMEOUT), *table("absent 5 5.1, absent 6 6.1")])
    assert (line.origin_kind, line.upper_s, line.right_censored) == ("", math.inf, True)
    assert pd.isna(line.origin_at)
    assert math.isnan(line.lower_s)
    assert math.isnan(line.origin_error_s)
    assert line.lower_at == pd.Timestamp(at(6), tz="UTC")


def test_a_publish_that_never_left_is_no_origin() -> None:
    rows = [
        published(1, "probe_error", failure=Failure.INTERNAL),
        published(2, "refused", failure=Failure.RELAY_REFUSED),
    ]
    assert only([*rows, *table("visible 5 5.1")]).upper_s == pytest.approx(3.1)
    left_open = published(2, "unknown", failure=Failure.INTENT, received_at=None)
    assert only([left_open, *table("absent 5 5.1")]).origin_kind == ""
    assert only([left_open, *table("visible 5 5.1")]).origin_kind == "publish"


def test_before_the_publish_the_api_may_show_the_nest_but_no_relay() -> None:
    rows = [published(2), *table("visible 1 1.5"), *table("visible 3 3.5", layer="relay:wss://one")]
    result = timelines(frame(rows)).set_index("layer")
    assert list(result.loc["api:info", ["lower_s", "upper_s"]]) == [-math.inf, -0.5]
    assert list(result.loc["relay:wss://one", ["lower_s", "upper_s"]]) == [0, 1.5]


def foreign(
    seconds: float, created_at: Any = NOON // SECOND_NS, sent: float | None = None, **fields: Any
) -> Observation:
    """The nest of a stranger, seen on a relay; created_at is noon."""
    fields = {"trace_id": "", "layer": "relay:wss://one", "detail": detail(created_at=created_at)} | fields
    return row("visible", seconds - 0.1 if sent is None else sent, seconds, **fields)


def test_created_at_is_widened_by_its_grain_and_the_clock_error() -> None:
    silent = row("absent", 2, 2.1, trace_id="", layer="relay:wss://one")
    line = only([silent, foreign(3)])
    assert (line.origin_kind, line.origin_error_s, line.lower_s, line.upper_s) == ("created_at", 1, 1, 4)
    assert line.origin_at == pd.Timestamp(NOON, tz="UTC")
    measured = {"clock_offset_s": 10.0, "clock_error_s": 0.25}
    line = only([row("absent", 12, 12.1, trace_id="", layer="relay:wss://one", **measured), foreign(13, **measured)])
    assert (line.origin_error_s, line.lower_s, line.upper_s) == (1.25, 0.75, 4.25)
    assert line.upper_at == pd.Timestamp(at(3), tz="UTC")


def test_negative_delays_are_kept_as_evidence_of_skew() -> None:
    silent = row("absent", -40, -39.9, trace_id="", layer="relay:wss://one")
    line = only([silent, foreign(-30)])
    assert (line.lower_s, line.upper_s) == (-41, -29)
    assert (only([foreign(-30)]).lower_s, only([foreign(-30)]).upper_s) == (-math.inf, -29)
    own = only([created(0), *table("absent -5 -4.9, visible -4 -3", vantage="there")])
    assert (own.lower_s, own.upper_s) == (-5, -3)
    assert only([created(0), *table("visible -4 -3", vantage="there")]).lower_s == -math.inf


def test_a_strangers_nest_seen_at_once_is_left_censored_at_its_error() -> None:
    line = only([foreign(3)])
    assert (line.left_censored, line.lower_s, line.upper_s, line.width_s) == (True, -1, 4, 5)
    rows = [foreign(3, trace_id="x"), row("visible", 4, 4.1, trace_id="x")]
    info = timelines(frame(rows)).set_index("layer").loc["api:info"]  # the API may have shown it before the event
    assert (info.lower_s, info.upper_s, info.width_s) == (-math.inf, 5.1, math.inf)


def test_an_edit_renews_created_at_and_the_first_one_counts() -> None:
    noon = NOON // SECOND_NS
    line = only([foreign(503, noon + 500), foreign(3, noon), foreign(900, noon + 890)])
    assert (line.origin_at, line.upper_s) == (pd.Timestamp(NOON, tz="UTC"), 4)
    edited = foreign(503, detail=detail(created_at=noon + 500, first_created_at=noon))
    assert only([edited]).upper_s == 504
    elsewhere = foreign(3, noon, vantage="there", trace_id="other")  # the first is the nest's, whoever saw it
    hosted = [created(-1, trace_id="ours"), foreign(3, noon, trace_id="ours")]
    for others in ([elsewhere], hosted):
        result = timelines(frame([foreign(503, noon + 500, trace_id="late"), *others])).set_index("trace_id")
        assert result.loc["late", "origin_at"] == pd.Timestamp(NOON, tz="UTC")
        assert result.loc["late", "origin_kind"] == "edit"


@pytest.mark.parametrize(
    "hostile", ["", "{", "[1]", "null", '{"created_at": "1"}', '{"created_at": true}', '{"created_at": 1e9}',
                '{"created_at": -1}', '{"created_at": 99999999999999999999}', "[" * 4000, '{"created_at": null}']
)  # fmt: skip
def test_a_detail_without_whole_seconds_gives_no_origin(hostile: str) -> None:
    line = only([foreign(3, detail=hostile)])
    assert line.origin_kind == ""
    assert math.isnan(line.upper_s)
    assert math.isnan(line.lower_s)
    assert line.upper_at == pd.Timestamp(at(3), tz="UTC")


def test_a_nest_of_our_own_needs_no_created_at() -> None:
    rows = [created(1), foreign(3, NOON // SECOND_NS - 7, trace_id="trace")]
    assert only(rows).upper_s == 2


# --- clocks ----------------------------------------------------------------------------------------------------------


def test_offsets_put_two_vantages_on_the_reference_clock() -> None:
    host = created(10, vantage="host", clock_offset_s=10.0, clock_error_s=0.25)  # 0 s on the reference clock
    there = {"vantage": "there", "run_id": "there", "clock_offset_s": -5.0, "clock_error_s": 0.5}
    line = only([host, *table("absent -3 -2.9, visible -1 -0.5", **there)])  # 2 s and 4.5 s on the reference clock
    assert (line.origin_error_s, line.lower_s, line.upper_s) == (0.75, 1.25, 5.25)
    assert line.origin_at == pd.Timestamp(NOON, tz="UTC")
    assert line.upper_at == pd.Timestamp(at(4.5), tz="UTC")


def test_the_hosts_own_rows_need_no_offset() -> None:
    clock: dict[str, Any] = {"clock_offset_s": 10.0, "clock_error_s": 0.25}
    line = only([created(10, **clock), *table("absent 12 12.1, visible 13 13.5", **clock)])
    assert (line.origin_error_s, line.lower_s, line.upper_s) == (0, 2, 3.5)
    assert line.origin_at == pd.Timestamp(at(10), tz="UTC")  # its own clock: nothing else was there to be compared


def test_vantages_of_one_run_share_its_clock() -> None:
    """They were compared at different instants, and are not apart by what the comparisons left open."""
    host = created(0, vantage="host", clock_offset_s=0.25, clock_error_s=0.5, sync_age_s=0.0)
    beside = {"vantage": "beside", "clock_offset_s": -0.125, "clock_error_s": 0.25, "sync_age_s": 0.0}
    alone = only([host, *table("absent 2 2.1, visible 3 3.5", **beside)])
    assert (alone.origin_error_s, alone.lower_s, alone.upper_s) == (0, 2, 3.5)
    known = {"clock_offset_s": 9.0, "clock_error_s": 0.25}
    elsewhere = row("visible", 9, 9.5, vantage="there", run_id="there", layer="api:join", **known)
    lines = timelines(frame([host, *table("absent 2 2.1, visible 3 3.5", **beside), elsewhere]))
    line = lines.set_index("vantage").loc["beside"]
    assert (line.origin_error_s, line.lower_s, line.upper_s) == (0, 2, 3.5)


def test_a_comparison_is_the_less_sure_the_longer_ago_it_was() -> None:
    host = created(0, vantage="host", clock_offset_s=0.0, clock_error_s=0.0)
    there = {"vantage": "there", "run_id": "there"}
    known = {"clock_offset_s": 5.0, "clock_error_s": 0.25, "sync_age_s": 0.0}
    line = only([host, *table("absent 8 8.1", **there, **known), *table("visible 1008 1008.1", **there)])
    assert (line.origin_error_s, line.lower_s) == pytest.approx((0.25 + 1000 * DRIFT, 3 - 0.25 - 1000 * DRIFT))


def test_comparisons_that_contradict_each_other_leave_all_that_they_allow() -> None:
    host = created(0, vantage="host", clock_offset_s=0.0, clock_error_s=0.0)
    there = {"vantage": "there", "run_id": "there", "clock_error_s": 0.25, "sync_age_s": 0.0}
    early = table("absent 8 8.1", **there, clock_offset_s=1.0)
    late = table("visible 10 10.5", **there, clock_offset_s=4.0)
    line = only([host, *early, *late])
    assert line.origin_error_s == pytest.approx(1.75, abs=0.01)
    assert (line.lower_s, line.upper_s) == pytest.approx((8 - 4.25, 10.5 - 0.75), abs=0.01)


def test_a_clock_that_is_surely_off_is_said_with_how_sure_that_is() -> None:
    def seen(vantage: str, offset_s: float, error_s: float, run: str = "run") -> Observation:
        clock = {"clock_offset_s": offset_s, "clock_error_s": error_s}
        return row("visible", 1, 1.5, vantage=vantage, run_id=run, **clock)

    right, unsure = seen("right", 0.4, 0.1), seen("unsure", 3.0, 1.5)
    rough, fine = seen("ahead", 41.0, 1.5), seen("ahead", 40.0, 0.1)
    far, near = clock_words(frame([right, unsure, rough, fine, row("visible", 2, 2.5)]))
    assert far.startswith("The clock of ahead was 40.0 s ahead of the API's, give or take 0.2 s: ")
    assert near == (
        "The clock of right was 0.40 s ahead of the API's, give or take 0.11 s;"
        " that of unsure was 3.00 s ahead of the API's, give or take 1.51 s."
    )
    many = clock_words(frame([seen(f"v{number}", -9.0, 0.5, f"r{number}") for number in range(6)]))
    assert [one.split(" was ")[0] for one in many[:3]] == [f"The clock of v{number}" for number in range(3)]
    assert many[3:] == ["So it is with 3 more clocks."]
    assert clock_words(frame([])) == clock_words(frame([row("visible", 1, 1.5)])) == []


def elsewhere(sent: float, **clock: Any) -> Observation:
    """A comparison of the run `there` while it watched another nest."""
    other = {"trace_id": "other", "nest": NEST.replace(":room", ":other"), "room": "other", "sync_age_s": 0.0}
    return row("visible", sent, sent + 0.1, vantage="there", run_id="there", **other, **clock)


def test_a_run_that_was_cut_off_from_its_api_is_as_it_was_compared_before_and_after() -> None:
    host = created(0, vantage="host", clock_offset_s=0.0, clock_error_s=0.0)
    cut_off = table("absent 105 105.1, visible 106 106.5", vantage="there", run_id="there")
    before, after = (
        elsewhere(at_s, clock_offset_s=100.0 + off, clock_error_s=0.25) for at_s, off in ((90, 0), (120, 0.5))
    )
    far = elsewhere(10, clock_offset_s=-500.0, clock_error_s=0.25)
    lines = timelines(frame([host, *cut_off, before, after, far])).set_index("room")
    line = lines.loc["room"]
    assert line.origin_error_s == pytest.approx(0.5, abs=0.02)
    assert (line.lower_s, line.upper_s) == pytest.approx((105 - 100.75, 106.5 - 99.75), abs=0.02)
    alone = timelines(frame([host, *cut_off, before])).set_index("room").loc["room"]
    assert (alone.lower_s, alone.upper_s) == pytest.approx((4.75, 6.75), abs=0.02)


def test_what_another_run_of_the_vantage_was_compared_with_says_nothing_of_this_one() -> None:
    host = created(0, vantage="host", clock_offset_s=0.0, clock_error_s=0.0)
    polled = table("absent 2 2.1, visible 3 3.5", vantage="there", run_id="restarted")
    lines = timelines(frame([host, *polled, elsewhere(1, clock_offset_s=100.0, clock_error_s=0.25)]))
    line = lines.set_index("room").loc["room"]
    assert (line.origin_kind, math.isnan(line.lower_s), math.isnan(line.upper_s)) == ("", True, True)


def test_of_many_clocks_that_agree_the_rest_is_counted_by_the_worst_of_it() -> None:
    rows = [
        row("visible", 1, 1.5, vantage=f"v{number}", run_id=f"r{number}", clock_offset_s=0.0, clock_error_s=number / 10)
        for number in range(1, 6)
    ]
    [said] = clock_words(frame(rows))
    assert said.startswith("The clock of v1 was the API's to within 0.11 s; that of v2 was ")
    assert said.endswith("; 2 more were the API's to within 0.51 s.")


def test_what_clocks_do_to_intervals_is_said_and_which_were_never_compared() -> None:
    compared = {"clock_offset_s": 5.0, "clock_error_s": 0.25}
    rows = frame([foreign(3, **compared)])
    words = clock_words(rows, timelines(rows))
    assert words[1:] == [
        "1 of 1 intervals are wider for what is not known of clocks: by 0.25 s in the middle, 0.25 s at most."
    ]
    rows = frame([foreign(3)])
    [said] = clock_words(rows, timelines(rows))
    assert re.match(r"The clock of \S+ was never compared with the API's: ", said)
    own = frame([created(0), row("visible", 1, 1.5)])
    assert clock_words(own, timelines(own)) == []


@pytest.mark.parametrize("missing", ["host", "there"])
def test_without_both_offsets_what_one_vantage_saw_of_anothers_nest_has_no_origin(missing: str) -> None:
    known: dict[str, Any] = {"clock_offset_s": 10.0, "clock_error_s": 0.25}
    host = created(0, vantage="host", **({} if missing == "host" else known))
    polled = table(
        "absent 2 2.1, visible 3 3.5", vantage="there", run_id="there", **({} if missing == "there" else known)
    )
    seen = row("visible", 1, 1.5, vantage="host", **({} if missing == "host" else known))
    lines = timelines(frame([host, seen, *polled])).set_index("vantage")
    line = lines.loc["there"]
    assert (line.origin_kind, line.origin_at is pd.NaT) == ("", True)
    assert all(math.isnan(line[name]) for name in ("origin_error_s", "lower_s", "upper_s"))
    assert (line.lower_at.value, line.upper_at.value) == (at(2), at(3.5)), "what was proved, by its own clock"
    assert (lines.loc["host"].lower_s, lines.loc["host"].upper_s) == (0, 1.5), "which needs no other clock"
    *_, said = clock_words(frame([host, seen, *polled]), timelines(frame([host, seen, *polled])))
    told = "1 intervals of nests that another computer made are withheld"
    assert said == f"{told}: the clock of {missing} was never compared with the API's."


@pytest.mark.parametrize("vantage", ["here", "there"])
def test_runs_of_one_vantage_have_one_clock_whether_they_were_compared_or_not(vantage: str) -> None:
    polled = table("absent 2 2.1, visible 3 3.5", vantage=vantage, run_id="later")
    line = only([created(0, vantage="here"), *polled])
    found = (line.lower_s, line.upper_s)
    assert found == (2, 3.5) if vantage == "here" else all(math.isnan(each) for each in found)


def test_the_best_comparison_of_a_run_serves_all_its_rows() -> None:
    host = created(0, vantage="host", clock_offset_s=0.0, clock_error_s=0.0)
    there = {"vantage": "there", "run_id": "there"}
    rough = row("absent", 3, 3.1, **there, clock_offset_s=3.0, clock_error_s=2.0)
    none = row("absent", 4, 4.1, **there)
    fine = row("visible", 5, 5.5, **there, clock_offset_s=1.0, clock_error_s=0.25)
    line = only([host, rough, none, fine])
    assert (line.origin_error_s, line.lower_s, line.upper_s) == (0.25, 2.75, 4.75)


# --- marks -----------------------------------------------------------------------------------------------------------


def disturbed(failure: Failure, begun: float, ended: float, **fields: Any) -> Observation:
    fields = {
        "source": Source.CLOCK,
        "operation": Operation.STEP,
        "target": "clock:",
        "trace_id": "",
        "nest": "",
    } | fields
    return row("probe_error", begun, ended, failure=failure, **fields)


BRACKETED = "absent 1 1.1, absent 4 4.1, visible 6 6.1, visible 9 9.1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "marks", "expected"),
    [
        pytest.param(BRACKETED, [disturbed(Failure.CLOCK_STEP, 5, 5)], "clock_step", id="between"),
        pytest.param(BRACKETED, [disturbed(Failure.SUSPENDED, 2, 4)], "suspended", id="up to the first"),
        pytest.param(BRACKETED, [disturbed(Failure.LOOP_BLOCKED, 6.1, 8)], "loop_blocked", id="from the second"),
        pytest.param(BRACKETED, [disturbed(Failure.SUSPENDED, 2, 8)], "suspended", id="around both"),
        pytest.param(BRACKETED, [disturbed(Failure.CLOCK_STEP, 3, 3.9)], "", id="before"),
        pytest.param(BRACKETED, [disturbed(Failure.CLOCK_STEP, 6.2, 7)], "", id="after"),
        pytest.param(BRACKETED, [disturbed(Failure.CLOCK_STEP, 5, 5, vantage="there")], "", id="another vantage"),
        pytest.param(BRACKETED, [disturbed(Failure.CLOCK_STEP, 5, 5, run_id="other")], "", id="another run"),
        pytest.param(BRACKETED, [disturbed(Failure.TIMEOUT, 5, 5)], "", id="no disturbance"),
        pytest.param(
            BRACKETED,
            [row("probe_error", 5, 5.1, failure=Failure.LOOP_BLOCKED)],
            "loop_blocked",
            id="a poll that says so",
        ),
        pytest.param(
            BRACKETED,
            [disturbed(mark, 5, 5) for mark in (*MARKS[::-1], *MARKS)],
            "clock_step,suspended,loop_blocked,no_network",
            id="each once",
        ),
        pytest.param("visible 3 3.1", [disturbed(Failure.SUSPENDED, 1, 2)], "suspended", id="since the origin"),
        pytest.param(
            "absent 3 3.1", [disturbed(Failure.SUSPENDED, 1, 2)], "", id="right-censored, before the last poll"
        ),
        pytest.param(
            "absent 1 1.1, absent 3 3.1",
            [disturbed(Failure.SUSPENDED, 1, 4)],
            "suspended",
            id="right-censored, during it",
        ),
        pytest.param("unknown 3 -", [disturbed(Failure.SUSPENDED, 3, 4)], "", id="nothing proven, nothing marked"),
    ],
)
def test_disturbed_intervals_are_marked_and_kept(answers: str, marks: list[Observation], expected: str) -> None:
    line, calm = only([created(), *table(answers), *marks]), only([created(), *table(answers)])
    assert line.marked == expected
    assert (line.lower_s, line.upper_s) == (calm.lower_s if not line.held_up else 1.0, calm.upper_s)


def test_an_origin_of_another_vantage_marks_nothing_before_the_first_poll() -> None:
    rows = [created(vantage="host"), *table("visible 3 3.1"), disturbed(Failure.SUSPENDED, 1, 2)]
    assert only(rows).marked == ""


# --- many ------------------------------------------------------------------------------------------------------------


def test_nanoseconds_survive() -> None:
    rows = [created(), row("absent", 1, 1.1, sent_at=NOON + 1), row("visible", 2, 2, received_at=NOON + SECOND_NS + 3)]
    line = only(rows)
    assert (line.lower_s, line.upper_s) == (1e-9, 1 + 3e-9)
    assert line.upper_at.value == NOON + SECOND_NS + 3


def test_many_nests_keep_their_own_intervals() -> None:
    count = 3_000
    base = frame([created(), *table("absent 1 1.1, visible 2 2.1, unknown 3 -")])
    parts = base.loc[np.repeat(base.index, count)].reset_index(drop=True)
    number = np.tile(np.arange(count), len(base))
    parts["trace_id"] = [f"{n:05d}" for n in number]
    for name in ("sent_at", "received_at"):
        parts[name] += number * SECOND_NS
    result = timelines(parts)
    assert len(result) == count
    assert (result.lower_s == 1).all()
    assert (result.upper_s == 2.1).all()
    assert (result.origin_at == pd.to_datetime(NOON + np.arange(count) * SECOND_NS, utc=True)).all()


class TestSignallingOfARoomThatEnded:
    """A joiner tries signalling seldom; a room that went meanwhile answers like one that is not there yet."""

    LISTED = (
        row("visible", 2, 2.1, layer="livekit:room"),
        row("visible", 8, 8.1, layer="livekit:room"),
        row("absent", 12, 12.1, layer="livekit:room"),
    )

    def signal(self, *rows: Observation) -> Any:
        found = timelines(frame([*self.LISTED, *rows]))
        return next(found[found["layer"] == "livekit:signal"].itertuples(index=False))

    def test_its_absent_does_not_say_that_it_was_not_there_yet(self):
        found = self.signal(row("absent", 9, 9.1, layer="livekit:signal"))
        assert found.polls == 0
        assert found.unknown == 1
        assert not np.isfinite(found.lower_s) or found.lower_s <= 0

    def test_an_absent_before_the_last_listing_does(self):
        assert self.signal(row("absent", 7, 7.1, layer="livekit:signal")).polls == 1

    def test_after_it_was_seen_an_absent_is_a_proof_as_any(self):
        rows = (row("visible", 3, 3.1, layer="livekit:signal"), row("absent", 9, 9.1, layer="livekit:signal"))
        assert self.signal(*rows).polls == 2

    def test_nor_does_that_of_another_vantage(self):
        found = self.signal(row("absent", 9, 9.1, layer="livekit:signal", vantage="there"))
        assert (found.polls, found.after_end) == (0, 1)
