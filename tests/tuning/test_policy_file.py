"""Policy files: read back equal, readable, as their schema says; whatever else arrives is refused in one sentence."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import MISSING, asdict, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.join.policy import (
    GUIDE,
    LONGEST_S,
    MOST,
    NAME_CHARACTERS,
    SEATS,
    TABLE_ROWS,
    Policy,
    PolicyError,
    Schedule,
    standard_policies,
)
from nestobs.tuning.policy_file import (
    ARRIVALS,
    CELL,
    COUNT,
    DEPLOYMENT_CHARACTERS,
    DEPLOYMENTS,
    DIGEST_CHARACTERS,
    FAILURES,
    FILE_CHARACTERS,
    INTERVALS,
    NOTE_CHARACTERS,
    NOTES,
    PREDICTED,
    PRICES,
    TALLY,
    PolicyFile,
    Provenance,
    dumps,
    loads,
)
from worlds.policy_schema import SCHEMA, validator

TUNED = Policy(
    name="tuned",
    schedule=Schedule("table", table=((0.0, 0.5), (10.0, 2.0), (30.5, 9.25))),
    jitter=0.2,
    message_threshold_s=24.618,
    give_up_age_s=41.5,
)
CELL_OF = {"value": 3.25, "lower": 2.5, "upper": None, "sd": 0.5, "n": 112}
FULL = PolicyFile(
    policy=TUNED,
    provenance=Provenance(
        window_start="2026-01-01T00:00:00Z",
        window_end="2026-01-31T23:59:59.999999999+00:00",
        n=120,
        n_censored=8,
        store_digest="sha256:" + "ab" * 32,
        nestobs="0.1.0",
        made_at="2026-02-01T12:00:00Z",
        arrivals_s=(0.5, 12.0, 30),
        round_trip_s=0.025,
        failures={"token": {"asked": 255, "timed_out": 1, "limited": 2, "broken": 25}},
        prices={"request_cost": 0.1, "delay_cost": 1, "lost_value": None, "never_cost": 0.05},
        deployments=("nests.example:8443", "lab:slow-api"),
    ),
    intervals={"message_threshold_s": (20.0, 31.5), "give_up_age_s": (30.0, None)},
    predicted={"tuned": {"wait_s": CELL_OF, "requests": CELL_OF}, "guide": {"wait_s": CELL_OF}},
    differences={"guide": {"wait_s": CELL_OF}},
    notes=("Tuned on one month.", "Judged on the next: \x1b[31m</script>\u2028\ud800 é"),
)
SMALL = {"nestobs_policy": 1, "policy": {"name": "mine"}}
DATA = json.loads(dumps(FULL))


def refusal(text):
    """What is said of this text; None when it is read."""
    try:
        loads(text, "mine.json")
    except PolicyError as error:
        return str(error)
    return None


class TestRoundTrip:
    @pytest.mark.parametrize(
        "file",
        [FULL, *(PolicyFile(policy=policy) for policy in standard_policies().values())],
        ids=lambda f: f.policy.name,
    )
    def test_a_file_is_read_back_equal(self, file):
        assert loads(dumps(file)) == file

    def test_only_the_policy_must_be_there(self):
        assert loads(json.dumps(SMALL)) == PolicyFile(policy=Policy(name="mine"))

    def test_what_has_no_finite_end_is_kept_as_none(self):
        cell = {"value": math.inf, "lower": -math.inf, "upper": math.nan, "sd": None, "n": 3}
        file = PolicyFile(policy=GUIDE, intervals={"give_up_age_s": (5, math.inf)}, predicted={"a": {"b": cell}})
        assert file.intervals == {"give_up_age_s": (5, None)}
        assert file.predicted["a"]["b"] == dict.fromkeys(CELL) | {"n": 3}
        assert loads(dumps(file)) == file


class TestText:
    def test_is_for_people_with_a_row_a_line(self):
        lines = dumps(FULL).splitlines()
        assert lines[:3] == ["{", '  "nestobs_policy": 1,', '  "policy": {']
        assert "        [10.0, 2.0]," in lines
        assert '    "give_up_age_s": [30.0, null]' in lines
        assert '      "requests": {"value": 3.25, "lower": 2.5, "upper": null, "sd": 0.5, "n": 112}' in lines
        assert '    "Tuned on one month.",' in lines

    def test_is_ascii_that_ends_in_a_newline_and_acts_on_no_terminal(self):
        text = dumps(FULL)
        assert text.isascii()
        assert text.endswith("}\n")
        assert [c for c in text if not c.isprintable() and c != "\n"] == []

    def test_is_strict_json_with_its_keys_in_one_order(self):
        def refused(token):
            raise AssertionError(token)

        data = json.loads(dumps(FULL), parse_constant=refused)
        assert list(data) == [
            "nestobs_policy", "policy", "intervals", "predicted", "differences", "provenance", "notes",
        ]  # fmt: skip
        assert list(data["policy"]) == [spec.name for spec in fields(Policy) if spec.name not in SEATS]
        assert list(data["provenance"]) == [spec.name for spec in fields(Provenance)]
        swapped = replace(FULL, intervals=dict(reversed(FULL.intervals.items())))
        assert dumps(swapped) == dumps(FULL)

    def test_that_nobody_could_read_back_is_not_written(self):
        with pytest.raises(PolicyError, match="1000000 characters"):
            dumps(PolicyFile(policy=GUIDE, predicted=most_predicted("\U0001f600" * 90)))


def most_predicted(name):
    """As much as may be predicted, under names of this length."""
    return {f"{a:02}{name}": {f"{b:02}{name}": CELL_OF for b in range(PREDICTED)} for a in range(PREDICTED)}


seconds = st.floats(0, LONGEST_S) | st.integers(0, 1_000_000)
gaps = st.floats(1e-9, LONGEST_S)
counts = st.integers(0, COUNT)
names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=NAME_CHARACTERS)
instants = st.just("") | st.datetimes().map(lambda at: f"{at.isoformat()}Z")
schedules = st.one_of(
    st.just(Schedule()),
    st.builds(Schedule, st.just("fixed"), gaps),
    st.builds(Schedule, st.sampled_from(["exponential", "full_jitter"]), gaps, seconds, seconds),
    st.lists(st.tuples(seconds, gaps), min_size=1, max_size=20, unique_by=lambda row: row[0]).map(
        lambda rows: Schedule("table", table=tuple(sorted(rows)))
    ),
)
policies = st.builds(
    Policy,
    name=names,
    ask_info=st.booleans(),
    fallback=st.sampled_from([(), (404,)]),
    schedule=schedules,
    jitter=st.floats(0, 1, exclude_max=True),
    message_threshold_s=seconds,
    give_up_age_s=seconds,
    horizon_s=seconds,
    max_requests=st.integers(3, MOST),
    error_retries=st.integers(0, MOST),
    connect_attempts=st.integers(1, MOST),
    load_cutoff_s=st.none() | seconds,
    wording=st.sampled_from(["guide", "released"]),
    info_from=st.integers(1, MOST),
    fault_after_s=st.none() | seconds,
    fault_listed_s=st.none() | seconds,
)
cells = st.fixed_dictionaries(
    dict.fromkeys(CELL[:4], st.none() | st.floats() | st.integers(-(10**18), 10**18)) | {"n": counts}
)
tallies = st.tuples(*[st.integers(0, COUNT // 4)] * 4).map(
    lambda parts: dict(zip(TALLY, (sum(parts), *parts[1:]), strict=True))
)
intervals = st.tuples(seconds, seconds | st.just(math.inf)).map(sorted) | st.tuples(seconds, st.none())
policy_files = st.builds(
    PolicyFile,
    policy=policies,
    provenance=st.builds(
        lambda n, part, **more: Provenance(n=max(n, part), n_censored=min(n, part), **more),
        n=counts,
        part=counts,
        window_start=instants,
        window_end=instants,
        made_at=instants,
        store_digest=names,
        nestobs=names,
        arrivals_s=st.lists(seconds, max_size=4),
        round_trip_s=seconds,
        failures=st.dictionaries(st.sampled_from(FAILURES), tallies),
        prices=st.just({})
        | st.fixed_dictionaries(dict.fromkeys(PRICES, seconds), optional={"listener_share": st.floats(0, 1)}),
        deployments=st.lists(names, max_size=3).map(tuple),
    ),
    intervals=st.dictionaries(st.sampled_from(INTERVALS), intervals),
    predicted=st.dictionaries(names, st.dictionaries(names, cells, max_size=3), max_size=3),
    differences=st.dictionaries(names, st.dictionaries(names, cells, max_size=3), max_size=3),
    notes=st.lists(st.text(st.characters(), max_size=50), max_size=5).map(tuple),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(file=policy_files)
def test_any_file_is_read_back_equal_and_is_as_the_schema_says(file):
    text = dumps(file)
    assert loads(text) == file
    assert text.isascii()
    validator().validate(json.loads(text))


def changed(path, value):
    """FULL's data with one value in another's place; `...` removes it."""
    data = json.loads(json.dumps(DATA))
    *way, last = path.split(".")
    inside = data
    for name in way:
        inside = inside[name]
    if value is ...:
        del inside[last]
    else:
        inside[last] = value
    return data


def table(rows):
    return {"kind": "table", "table": rows}


GOOD = {
    "full": DATA,
    "small": SMALL,
    **{
        f"{name}_only": SMALL | {name: DATA[name]}
        for name in ("intervals", "predicted", "differences", "provenance", "notes")
    },
    "no_prices": changed("provenance.prices", ...),
    "no_failures": changed("provenance.failures", ...),
    "failures_empty": changed("provenance.failures", {}),
    "no_digest": changed("provenance.store_digest", ...),
    "no_schedule": changed("policy.schedule", ...),
    "no_fallback": changed("policy.fallback", []),
    "no_kind": changed("policy.schedule", {}),
    "load_cutoff": changed("policy.load_cutoff_s", 1.5),
    "longest": changed("policy.horizon_s", 1_000_000),
    "one_row": changed("policy.schedule", table([[0, 1e-9]])),
    "largest_table": changed("policy.schedule", table([[age, 1] for age in range(TABLE_ROWS)])),
    "longest_name": changed("policy.name", "\U0001f600" * NAME_CHARACTERS),
    "longest_digest": changed("provenance.store_digest", "d" * DIGEST_CHARACTERS),
    "most_notes": changed("notes", ["n" * NOTE_CHARACTERS] * NOTES),
    "most_predicted": changed("predicted", most_predicted("")),
    "hostile_note": changed("notes", ["\x1b[2J\x00\u202e</script>"]),
    "empty_instants": changed("provenance.window_start", ""),
}

BAD = {
    "a_list": [DATA],
    "a_bare_policy": TUNED.as_dict(),
    "nothing": {},
    "null": None,
    "no_version": changed("nestobs_policy", ...),
    "version_0": changed("nestobs_policy", 0),
    "version_true": changed("nestobs_policy", True),
    "version_text": changed("nestobs_policy", "1"),
    "newer": changed("nestobs_policy", 2),
    "no_policy": changed("policy", ...),
    "policy_null": changed("policy", None),
    "unknown_field": changed("extra", 1),
    "unknown_policy_field": changed("policy.pause_s", 1),
    "unknown_schedule_field": changed("policy.schedule.gap_s", 1),
    "unknown_provenance_field": changed("provenance.host", "x"),
    "unknown_interval": changed("intervals.horizon_s", [1, 2]),
    "no_name": changed("policy.name", ...),
    "name_too_long": changed("policy.name", "n" * (NAME_CHARACTERS + 1)),
    "name_number": changed("policy.name", 7),
    **{f"name_{ord(c):04x}": changed("policy.name", f"a{c}") for c in "\x00\n\x1b\x7f\x9b\u2028\u202e\u2069\udfff"},
    "negative_age": changed("policy.give_up_age_s", -1),
    "age_true": changed("policy.give_up_age_s", True),
    "age_text": changed("policy.give_up_age_s", "30"),
    "age_null": changed("policy.give_up_age_s", None),
    "age_too_long": changed("policy.give_up_age_s", 1_000_001),
    "jitter_1": changed("policy.jitter", 1),
    "requests_2": changed("policy.max_requests", 2),
    "requests_half": changed("policy.max_requests", 3.5),
    "requests_too_many": changed("policy.max_requests", MOST + 1),
    "fallback_403": changed("policy.fallback", [403]),
    "fallback_twice": changed("policy.fallback", [404, 404]),
    "fallback_null": changed("policy.fallback", None),
    "wording": changed("policy.wording", "pirate"),
    "schedule_text": changed("policy.schedule", "fixed"),
    "schedule_kind": changed("policy.schedule", {"kind": "sometimes"}),
    "schedule_kind_null": changed("policy.schedule", {"kind": None}),
    "fixed_without_interval": changed("policy.schedule", {"kind": "fixed"}),
    "fixed_0": changed("policy.schedule", {"kind": "fixed", "interval_s": 0}),
    "factor_too_large": changed("policy.schedule", {"kind": "exponential", "interval_s": 1, "factor": 2e6}),
    "no_table": changed("policy.schedule", {"kind": "table"}),
    "empty_table": changed("policy.schedule", table([])),
    "huge_table": changed("policy.schedule", table([[age, 1] for age in range(TABLE_ROWS + 1)])),
    "huge_table_unused": changed("policy.schedule.table", [[age, 1] for age in range(TABLE_ROWS + 1)]),
    "row_of_one": changed("policy.schedule", table([[1]])),
    "row_of_three": changed("policy.schedule", table([[1, 2, 3]])),
    "row_negative_age": changed("policy.schedule", table([[-1, 2]])),
    "row_gap_0": changed("policy.schedule", table([[1, 0]])),
    "row_text": changed("policy.schedule", table(["12"])),
    "row_null": changed("policy.schedule", table([[0, None]])),
    "table_object": changed("policy.schedule", table({"01": 1})),
    "intervals_list": changed("intervals", []),
    "interval_of_one": changed("intervals.give_up_age_s", [1]),
    "interval_negative": changed("intervals.give_up_age_s", [-1, 1]),
    "interval_from_null": changed("intervals.give_up_age_s", [None, 1]),
    "interval_null": changed("intervals.give_up_age_s", None),
    "interval_true": changed("intervals.give_up_age_s", [0, True]),
    "predicted_list": changed("predicted", []),
    "predicted_number": changed("predicted.tuned", 3),
    "predicted_cell_number": changed("predicted.tuned.wait_s", 3),
    "predicted_cell_short": changed("predicted.tuned.wait_s", {"value": 1}),
    "predicted_cell_more": changed("predicted.tuned.wait_s", CELL_OF | {"q": 1}),
    "predicted_cell_text": changed("predicted.tuned.wait_s", CELL_OF | {"value": "1"}),
    "predicted_cell_true": changed("predicted.tuned.wait_s", CELL_OF | {"sd": True}),
    "predicted_n_true": changed("predicted.tuned.wait_s", CELL_OF | {"n": True}),
    "predicted_n_null": changed("predicted.tuned.wait_s", CELL_OF | {"n": None}),
    "predicted_too_many": changed("predicted", {str(name): {} for name in range(PREDICTED + 1)}),
    "predicted_too_wide": changed("predicted.tuned", {str(name): CELL_OF for name in range(PREDICTED + 1)}),
    "predicted_name": changed("predicted", {"\x1b[2J": {}}),
    "predicted_name_too_long": changed("predicted", {"n" * (NAME_CHARACTERS + 1): {}}),
    "predicted_field_name": changed("predicted.tuned", {"a\nb": CELL_OF}),
    "provenance_null": changed("provenance", None),
    "arrivals_text": changed("provenance.arrivals_s", "soon"),
    "arrivals_negative": changed("provenance.arrivals_s", [1.0, -1.0]),
    "arrivals_true": changed("provenance.arrivals_s", [True]),
    "arrivals_too_many": changed("provenance.arrivals_s", [1.0] * (ARRIVALS + 1)),
    "round_trip_negative": changed("provenance.round_trip_s", -0.001),
    "failures_list": changed("provenance.failures", []),
    "failures_unknown": changed("provenance.failures.media", DATA["provenance"]["failures"]["token"]),
    "failures_short": changed("provenance.failures.token", {"asked": 3}),
    "failures_negative": changed("provenance.failures.token.broken", -1),
    "failures_null": changed("provenance.failures.token", None),
    "prices_list": changed("provenance.prices", [0.1]),
    "prices_short": changed("provenance.prices", {"request_cost": 0.1}),
    "prices_null": changed("provenance.prices.delay_cost", None),
    "prices_negative": changed("provenance.prices.never_cost", -0.1),
    "prices_listener_above_1": changed("provenance.prices.listener_share", 1.01),
    "prices_listener_null": changed("provenance.prices.listener_share", None),
    "prices_text": changed("provenance.prices.lost_value", "60"),
    "prices_true": changed("provenance.prices.lost_value", True),
    "deployments_text": changed("provenance.deployments", "nests.example"),
    "deployments_number": changed("provenance.deployments", [1]),
    "deployments_lines": changed("provenance.deployments", ["a\nb"]),
    "deployments_too_long": changed("provenance.deployments", ["d" * (DEPLOYMENT_CHARACTERS + 1)]),
    "deployments_too_many": changed("provenance.deployments", ["d"] * (DEPLOYMENTS + 1)),
    "differences_list": changed("differences", []),
    "differences_cell_short": changed("differences.guide.wait_s", {"value": 1}),
    "round_trip_null": changed("provenance.round_trip_s", None),
    "n_negative": changed("provenance.n", -1),
    "n_true": SMALL | {"provenance": {"n": True}},
    "n_huge": changed("provenance.n", COUNT + 1),
    "digest_too_long": changed("provenance.store_digest", "d" * (DIGEST_CHARACTERS + 1)),
    "digest_lines": changed("provenance.store_digest", "a\nb"),
    "version_lines": changed("provenance.nestobs", "0.1\n*/"),
    **{
        f"instant_{number}": changed("provenance.window_end", value)
        for number, value in enumerate(
            (
                None,
                0,
                "yesterday",
                "2026-01-01",
                "2026-01-01T00:00:00",
                "2026-01-01T00:00:00+02:00",
                "2026-13-01T00:00:00Z",
                "2026-01-01T24:00:00Z",
                "2026-01-01T00:00:00Z\n",
                "\uff12026-01-01T00:00:00Z",
                "2026-01-01T00:00:00.Z",
            )
        )
    },
    "notes_text": changed("notes", "note"),
    "notes_null": changed("notes", None),
    "note_number": changed("notes", [1]),
    "note_too_long": changed("notes", ["n" * (NOTE_CHARACTERS + 1)]),
    "notes_too_many": changed("notes", ["n"] * (NOTES + 1)),
}

BEYOND_THE_SCHEMA = {
    "ages_that_do_not_ascend": json.dumps(changed("policy.schedule", table([[5, 1], [0, 1]]))),
    "an_age_twice": json.dumps(changed("policy.schedule", table([[0, 1], [0, 2]]))),
    "an_interval_upside_down": json.dumps(changed("intervals.give_up_age_s", [2, 1])),
    "more_failed_than_asked": json.dumps(changed("provenance.failures.token.asked", 27)),
    "more_censored_than_nests": json.dumps(changed("provenance.n_censored", 121)),
    "a_key_twice": json.dumps(SMALL).replace('"name"', '"name": "a", "name"'),
    "a_whole_number_with_a_fraction": json.dumps(changed("policy.max_requests", 60.0)),
    "a_version_with_a_fraction": json.dumps(changed("nestobs_policy", 1.0)),
    "a_text_too_long": json.dumps(SMALL) + " " * FILE_CHARACTERS,
}


@pytest.mark.slow
class TestSchema:
    def test_is_one(self):
        validator().check_schema(SCHEMA)

    @pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
    def test_and_the_reader_take_what_is_good(self, data):
        assert [error.message for error in validator().iter_errors(data)] == []
        assert refusal(json.dumps(data)) is None

    @pytest.mark.parametrize("data", BAD.values(), ids=BAD)
    def test_and_the_reader_refuse_what_is_bad(self, data):
        assert not validator().is_valid(data)
        assert refusal(json.dumps(data)) is not None

    @pytest.mark.parametrize("text", BEYOND_THE_SCHEMA.values(), ids=BEYOND_THE_SCHEMA)
    def test_leaves_some_to_the_reader_alone(self, text):
        assert validator().is_valid(json.loads(text))
        assert refusal(text) is not None

    def test_holds_every_field_with_its_default_and_a_description(self):
        plain = asdict(Policy(name="any"))
        for name, kind in (("policy", Policy), ("schedule", Schedule), ("provenance", Provenance)):
            described = SCHEMA["$defs"][name]["properties"]
            assert list(described) == [spec.name for spec in fields(kind)]
            for spec in fields(kind):
                if spec.default is not MISSING:
                    default = described[spec.name]["default"]
                    assert default == (list(spec.default) if isinstance(spec.default, tuple) else spec.default)
        assert plain["schedule"] == asdict(Schedule())
        bare = [path for path, spec in properties(SCHEMA) if not spec.get("description") and not spec.get("$ref")]
        assert bare == ["schedule.kind"]  # its values are told at the schedule

    def test_tells_the_unit_of_every_duration_and_age(self):
        durations = {path: spec["description"] for path, spec in properties(SCHEMA) if path.endswith("_s")}
        assert len(durations) > 8
        assert [path for path, words in durations.items() if not re.search(r", s\b", words)] == []


def properties(schema, path=""):
    """Every property that a schema describes, by its path."""
    for name, spec in schema.get("properties", {}).items():
        yield f"{path}{name}", spec
    for name, inside in schema.get("$defs", {}).items():
        yield from properties(inside, f"{name}.")


class TestRefusals:
    """The file of a stranger, or one mended by hand."""

    @pytest.mark.parametrize("text", [json.dumps(data) for data in BAD.values()], ids=BAD)
    def test_are_one_short_sentence_that_begins_with_the_file(self, text):
        words = refusal(text)
        assert words.startswith("mine.json: ")
        assert len(words) < 250
        assert words.isprintable()

    @pytest.mark.parametrize("version", [2, 3, 10**15])
    def test_a_newer_format_is_told_as_such_whatever_else_it_holds(self, version):
        words = refusal(json.dumps({"nestobs_policy": version, "policy": 7, "more": []}))
        assert "newer nestobs" in words
        assert "upgrade" in words

    @pytest.mark.parametrize(
        "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5_000, "-" + "9" * 30, "1" + "0" * 400]
    )
    @pytest.mark.parametrize("where", ["policy.give_up_age_s", "policy.schedule.table", "predicted", "extra"])
    def test_no_number_that_is_none(self, where, number):
        text = json.dumps(changed(where, [["@"]])).replace('"@"', number)
        assert "no number that a policy can hold" in refusal(text)

    @pytest.mark.parametrize(
        "text", ["", " ", "{", "nestobs_policy: 1", "\ufeff{}", '{"a": 1,}', "{'a': 1}", '"\x00"', "\ud800", "[1] 2"]
    )
    def test_what_is_no_json(self, text):
        assert "it is not JSON" in refusal(text)

    @pytest.mark.slow
    @pytest.mark.parametrize("where", ["policy.schedule.kind", "policy.name", "notes", "predicted", "extra"])
    def test_what_is_nested_deep(self, where):
        """Up to where the parser gives up, just below, where whatever looks inside would, and far above."""
        limit = sys.getrecursionlimit()
        for depth in (10, limit // 2, *range(limit - 200, limit + 10), 100_000):
            text = json.dumps(changed(where, "@")).replace('"@"', "[" * depth + "]" * depth)
            assert refusal(text) is not None, depth
        assert "nested too deep" in refusal(text)

    def test_many_keys_of_which_one_comes_twice(self):
        keys = ", ".join(f'"{number}": 0' for number in range(60_000))
        assert "given twice" in refusal(f'{{{keys}, "59999": 0}}')

    def test_a_text_too_long_is_not_even_parsed(self):
        assert "1000000 characters" in refusal("[" * (FILE_CHARACTERS + 1))

    @pytest.mark.slow
    @settings(max_examples=300)
    @given(
        text=st.text(st.characters())
        | st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inside: (
                st.lists(inside, max_size=3)
                | st.dictionaries(st.sampled_from([*DATA, *DATA["policy"], "x"]), inside, max_size=4)
            ),
        ).map(lambda value: json.dumps(SMALL | value if isinstance(value, dict) else value))
    )
    def test_whatever_arrives_is_read_or_refused(self, text):
        words = refusal(text)
        assert words is None or words.startswith("mine.json: ")

    @pytest.mark.slow
    @settings(max_examples=300)
    @given(data=st.data())
    def test_a_file_with_one_value_changed_is_read_or_refused_as_the_schema_says(self, data):
        paths = [
            "nestobs_policy",
            "notes",
            "predicted.tuned",
            "predicted.tuned.wait_s.value",
            "provenance.round_trip_s",
        ]
        paths += [f"policy.{name}" for name in DATA["policy"]] + [
            f"policy.schedule.{name}" for name in Schedule().__slots__
        ]
        path = data.draw(st.sampled_from(paths))
        value = data.draw(
            st.none() | st.booleans() | st.integers(-2, 2_000_000) | st.floats(-1, 2e6) | st.text(max_size=3)
        )
        made = changed(path, value)
        whole = isinstance(value, float) and value.is_integer()
        if not whole:
            assert (refusal(json.dumps(made)) is None) == validator().is_valid(made)


class TestMaking:
    """A file that exists can be written: what it cannot hold is refused when it is made."""

    @pytest.mark.parametrize(
        "wrong",
        [
            {"notes": ("n" * 1_001,)},
            {"notes": 7},
            {"intervals": {"horizon_s": (1, 2)}},
            {"intervals": {"give_up_age_s": (math.nan, 2)}},
            {"intervals": {"give_up_age_s": (1, math.nan)}},
            {"predicted": {"a": {"b": {"value": 1}}}},
            {"predicted": {"a": 1}},
            {"predicted": {"a": {"b": CELL_OF | {"n": 1.5}}}},
        ],
        ids=repr,
    )
    def test_refuses_what_the_file_cannot_hold(self, wrong):
        with pytest.raises(PolicyError):
            PolicyFile(policy=GUIDE, **wrong)

    @pytest.mark.parametrize(
        "wrong", [{"n": -1}, {"n": 1, "n_censored": 2}, {"made_at": "now"}, {"nestobs": "\n"}], ids=repr
    )
    def test_refuses_a_provenance_that_is_none(self, wrong):
        with pytest.raises(PolicyError):
            Provenance(**wrong)
