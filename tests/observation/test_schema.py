"""The one schema: what a row may hold, of which layer it speaks, and that every column is documented."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nestobs.observation.detail import detail
from nestobs.observation.schema import (
    COLUMNS,
    DETAIL_BYTES,
    INSTANTS,
    REASON_CHARACTERS,
    Failure,
    FailureLayer,
    Observation,
    Operation,
    Outcome,
    Role,
    Source,
    as_row,
    from_row,
    layer_of,
)

ROW = Observation(
    observation_id="0190",
    run_id="run",
    vantage="A",
    source=Source.API,
    target="https://h",
    operation=Operation.INFO,
    sent_at=1,
    outcome=Outcome.VISIBLE,
)


@pytest.mark.parametrize("failure", Failure)
def test_a_failure_needs_a_reason(failure):
    with pytest.raises(ValueError, match="needs a reason"):
        replace(ROW, failure=failure)
    assert replace(ROW, failure=failure, reason="so").reason == "so"


def test_a_long_reason_is_cut():
    cut = replace(ROW, reason="x" * 10_000).reason
    assert len(cut) == REASON_CHARACTERS
    assert cut.endswith("…")
    assert replace(ROW, reason="x" * REASON_CHARACTERS).reason == "x" * REASON_CHARACTERS


@given(st.text(st.characters(codec=None)))
@example("\ud800")
def test_any_reason_can_be_written_to_a_file(text):
    replace(ROW, reason=text).reason.encode()


def test_a_row_cannot_be_changed():
    with pytest.raises(AttributeError):
        ROW.outcome = Outcome.ABSENT


LAYERS = {
    (Source.RELAY, Operation.QUERY): "relay:wss://r",
    (Source.RELAY, Operation.SUBSCRIBE): "relay:wss://r",
    (Source.API, Operation.INFO): "api:info",
    (Source.API, Operation.JOIN): "api:join",
    (Source.API, Operation.GUEST): "api:guest",
    (Source.LIVEKIT, Operation.ROOMS): "livekit:room",
    (Source.LIVEKIT, Operation.SIGNAL): "livekit:signal",
    (Source.LIVEKIT, Operation.MEDIA): "livekit:media",
    **{(Source.CLIENT, operation): "client" for operation in Operation},
}


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("operation", Operation)
def test_of_which_layer_a_row_speaks(source, operation):
    wanted = LAYERS.get((source, operation), "")
    assert layer_of(source, operation, "wss://r") == wanted
    assert layer_of(str(source), str(operation), "wss://r") == wanted
    assert replace(ROW, source=source, operation=operation, target="wss://r").layer == wanted


class TestColumns:
    def test_are_the_fields_in_order(self):
        assert [column.name for column in COLUMNS] == [field.name for field in fields(Observation)]

    def test_are_all_documented(self):
        assert [column.name for column in COLUMNS if not column.meaning] == []
        assert {column.type for column in COLUMNS} == {"text", "int", "real", "bool"}

    def test_durations_and_instants_say_their_unit(self):
        for column in COLUMNS:
            if column.name.endswith("_s"):
                assert (column.type, column.unit) == ("real", "s")
            if column.name.endswith("_at"):
                assert (column.type, column.unit) == ("int", "ns UTC")
        assert set(INSTANTS) == {"planned_at", "sent_at", "received_at", "remote_at"}

    def test_what_is_always_there_is_not_nullable(self):
        needed = {column.name for column in COLUMNS if not column.nullable}
        assert {"observation_id", "vantage", "source", "target", "operation", "sent_at", "outcome"} <= needed
        assert not {"received_at", "status", "failure"} & needed

    def test_a_stored_row_is_read_back_equal(self):
        row = replace(
            ROW,
            role=Role.GUEST,
            failure=Failure.TIMEOUT,
            failure_layer=FailureLayer.TCP,
            reason="no answer",
            connection_reused=True,
            remote_at=5,
            detail='{"a":1}',
        )
        for one in (ROW, row):
            stored = json.loads(json.dumps(dict(zip([column.name for column in COLUMNS], as_row(one), strict=True))))
            assert from_row(stored) == one
            assert from_row(stored | {"connection_reused": 1}).connection_reused is True

    @pytest.mark.parametrize("name", ["outcome", "failure", "source", "operation", "role", "failure_layer"])
    def test_a_word_outside_a_closed_vocabulary_is_refused(self, name):
        stored = dict(zip([column.name for column in COLUMNS], as_row(ROW), strict=True))
        with pytest.raises(ValueError, match="sideways"):
            from_row(stored | {name: "sideways"})


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)


class TestDetail:
    def test_is_json_without_what_is_none(self):
        assert json.loads(detail(a=1, b=None, c=["x", {"d": None}])) == {"a": 1, "c": ["x", {"d": None}]}
        assert detail() == "{}"

    @given(st.dictionaries(st.text(st.characters(codec="ascii"), min_size=1, max_size=10), JSON_VALUES, max_size=6))
    def test_is_always_ascii_json_of_bounded_length(self, facts):
        text = detail(**facts)
        assert len(text.encode("ascii")) <= DETAIL_BYTES
        assert isinstance(json.loads(text), dict)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "facts",
        [
            {"text": "x" * 1_000_000},
            {"text": "\U0001f600" * 100_000},
            {"many": ["x" * 100] * 10_000},
            {"deep": {"a": {"b": {"c": "x" * 50_000}}}},
            {str(number): "x" * 500 for number in range(100)},
            {str(number): number for number in range(10_000)},
            {"keys": {f"{number:05d}" * 20: 1 for number in range(1_000)}},
            {"number": 10**4_000, "text": "x" * 200},
        ],
        ids=lambda facts: repr(facts)[:24],
    )
    def test_what_is_too_long_is_cut_and_says_so(self, facts):
        text = detail(**facts)
        assert len(text) <= DETAIL_BYTES
        assert json.loads(text)["cut"] is True

    def test_the_beginning_of_a_long_text_is_kept(self):
        kept = json.loads(detail(short="whole", long="abc" * 10_000))
        assert kept["short"] == "whole"
        assert kept["long"].startswith("abcabc")
        assert kept["long"].endswith("…")

    def test_control_characters_and_lone_surrogates_survive_as_escapes(self):
        hostile = "<script>\x1b[31m\u202e\ud800\x00"
        assert json.loads(detail(name=hostile))["name"] == hostile
        assert "\x1b" not in detail(name=hostile)

    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_a_number_that_json_does_not_have_does_not_spoil_the_row(self, number):
        def no_constant(name):
            raise AssertionError(f"{name} is no JSON")

        json.loads(detail(number=number), parse_constant=no_constant)


CLOSED = ("role", "source", "operation", "outcome", "failure", "failure_layer")


@pytest.mark.parametrize("name", [each.name for each in COLUMNS if each.type == "text" and each.name not in CLOSED])
def test_no_text_of_a_row_is_longer_than_its_bound(name):
    long = "\ud800" + "x" * 1_900_000
    row, other = replace(ROW, **{name: long}), replace(ROW, **{name: long + "y"})
    assert len(getattr(row, name)) <= 2 * DETAIL_BYTES
    if name not in ("reason", "detail"):
        assert getattr(row, name) != getattr(other, name), "two nests became one"
