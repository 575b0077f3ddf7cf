"""Codes stand for the texts they are of, whatever type the column has; what is made of them does not depend on it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.estimate import comparison as changes
from nestobs.observation.arrays import BELOW, NONE, count_of, greatest_at, least_at, sorted_within
from nestobs.observation.columns import (
    codes_of,
    distinct,
    equals,
    equals_any,
    instants_of,
    observations_of,
    paired,
    ranked,
    texts_at,
    units_of,
)
from nestobs.observation.schema import COLUMNS
from nestobs.observation.window import Window
from nestobs.store.reader import Store
from nestobs.timeline import uptime
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins, open_intents
from nestobs.timeline.layers import order_of
from nestobs.timeline.ranking import ranking
from worlds.full_nests import DAY, all_rows, store_of

TEXTS = st.lists(st.none() | st.sampled_from(["", "b", "a", "é", "B", "a b"]), max_size=30)
CODES = st.lists(st.integers(-1, 40) | st.integers(10**9, 10**9 + 3), max_size=30)


@given(TEXTS)
def test_a_code_is_the_place_among_the_sorted_texts_in_every_type_of_column(texts):
    expected = sorted({text for text in texts if text})
    for dtype in ("object", "string", "category"):
        column = pd.Series(texts, dtype=dtype)
        if dtype == "category":
            column = column.cat.add_categories(["never there"])
        codes, names = codes_of(column)
        assert names.tolist() == expected
        assert [names[code] if code >= 0 else "" for code in codes] == [text or "" for text in texts]
        assert codes.dtype == np.int64


@given(CODES)
def test_ranks_keep_the_order_and_leave_out_no_number(codes):
    given_codes = np.array(codes, dtype=np.int64)
    ranks = ranked(given_codes)
    assert sorted(set(ranks.tolist()) - {-1}) == list(range(len(set(codes) - {-1})))
    assert np.array_equal(np.argsort(ranks, kind="stable"), np.argsort(given_codes, kind="stable"))
    assert np.array_equal(ranks == -1, given_codes == -1)


@given(st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 3)), max_size=30))
def test_a_pair_has_one_number_from_0(pairs):
    first, second = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
    places = {pair: place for place, pair in enumerate(sorted(set(pairs)))}
    assert paired(first, second).tolist() == [places[pair] for pair in pairs]


@given(TEXTS, TEXTS)
def test_what_many_rows_have_in_common_is_named_once_in_the_order_in_which_it_comes(first, second):
    pairs = list(zip(first, second, strict=False))
    for dtype in ("object", "string", "category"):
        columns = {name: pd.Series([pair[i] for pair in pairs], dtype=dtype) for i, name in enumerate("ab")}
        frame = pd.DataFrame(columns)
        found, of = distinct(frame.assign(c=1), ["a", "b"])
        named = [tuple(None if pd.isna(text) else text for text in row) for row in found.itertuples(index=False)]
        assert named == list(dict.fromkeys(pairs))
        assert [named[number] for number in of] == pairs
        assert found.dtypes.tolist() == frame.dtypes.tolist()


def test_what_rows_have_in_common_may_be_more_than_one_number_holds():
    texts = {f"c{number}": np.random.default_rng(number).permutation(300).astype(str) for number in range(9)}
    frame = pd.DataFrame({name: np.tile(column, 2) for name, column in texts.items()}, dtype="category")
    found, of = distinct(frame, list(texts))
    assert of.tolist() == [*range(300), *range(300)]
    pd.testing.assert_frame_equal(found, frame[:300])


def test_texts_are_those_of_the_codes_and_empty_for_none():
    found = texts_at(np.array(["b", "é"], dtype=object), np.array([1, -1, 0, 1]))
    assert found.tolist() == ["é", "", "b", "é"]
    assert found.dtype == "str"
    assert texts_at(np.array([], dtype=object), np.array([], dtype=np.int64)).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 3) | st.integers(-(2**61), 2**61)), max_size=30))
def test_within_its_group_each_value_is_in_order_however_large(pairs):
    of, values = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
    found = sorted_within(of, values)
    assert list(zip(*(each.tolist() for each in found), strict=True)) == sorted(pairs)


def test_a_unit_is_the_trace_and_else_the_nest():
    frame = pd.DataFrame({"trace_id": ["t", "", "t", "", "s"], "nest": ["n", "n", "", "", "m"]})
    unit, texts = units_of(frame)
    assert [texts[code] if code >= 0 else None for code in unit] == ["t", "t", "t", None, "s"]


def test_the_least_and_the_greatest_of_nothing_are_no_instant():
    values, at = np.array([5, 3, 9]), np.array([0, 0, 2])
    assert least_at(values, at, 4).tolist() == [3, NONE, 9, NONE]
    assert greatest_at(values, at, 4).tolist() == [5, BELOW, 9, BELOW]
    assert count_of(np.array([], dtype=np.int64)) == 0


def test_instants_are_whole_nanoseconds_or_an_error():
    values, known = instants_of(pd.Series([2**62 + 1, None], dtype="Int64"))
    assert (values.tolist(), known.tolist()) == ([2**62 + 1, 0], [True, False])
    assert instants_of(pd.Series([None, None], dtype=object))[1].tolist() == [False, False]
    with pytest.raises(TypeError, match="at holds float64"):
        instants_of(pd.Series([1.5], name="at"))


def test_a_null_is_no_word():
    for dtype in ("object", "string", "category"):
        assert equals(pd.Series(["a", None, "b"], dtype=dtype), "a").tolist() == [True, False, False]
        assert equals(pd.Series(["a", None, "b"], dtype=dtype), "c").tolist() == [False, False, False]


@pytest.mark.parametrize("dtype", ["str", "category", object])
def test_texts_are_found_among_several(dtype):
    values = pd.Series(["a", None, "b", "c", ""], dtype=dtype)
    assert equals_any(values, ("b", "d", "a", "a")).tolist() == [True, False, True, False, False]
    assert equals_any(values, ()).tolist() == [False] * 5
    assert equals_any(values[:0], ("a",)).tolist() == []


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrays")
    return Store.open(store_of(folder, all_rows(12)))


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_categories_in_whatever_order_of_rows_change_nothing(store, seed):
    text, encoded = store.frame(), store.frame(categories=True).sample(frac=1.0, random_state=seed)
    assert all(
        isinstance(encoded[one.name].dtype, pd.CategoricalDtype)
        for one in COLUMNS
        if one.type == "text" and one.name != "observation_id"
    )
    lines = timelines(text)
    pd.testing.assert_frame_equal(timelines(encoded), lines)
    pd.testing.assert_frame_equal(uptime.spans(encoded), uptime.spans(text))
    assert open_intents(encoded) == open_intents(text) > 0
    worst = ranking(text)
    pd.testing.assert_frame_equal(ranking(encoded), worst)
    came = lines[np.isfinite(lines["upper_s"])]
    for room, layer in zip(worst["room"], worst["last_layer"], strict=True):  # polled at one instant: the last to pass
        first = came[came["room"] == room].groupby("layer")["upper_at"].min()
        latest = first[first == first.max()].index
        assert layer == (max(latest, key=lambda name: (order_of(name), name)) if len(latest) else "")
    told, again = joins(text, lines), joins(encoded, lines)
    key = ["arrived_at", "trace_id", "vantage", "role"]
    pd.testing.assert_frame_equal(told.sort_values(key, ignore_index=True), again.sort_values(key, ignore_index=True))
    day = Window.parse(DAY)
    (one,), (other,) = (changes.spans(rows, lines, told, [day], [day.seconds]) for rows in (text, encoded))
    pd.testing.assert_frame_equal(changes.budget_used(one, 900.0), changes.budget_used(other, 900.0))
    shares, others = one.account.shares, other.account.shares
    for name, share in shares.items():
        assert (share.hits.sum(), share.n) == (others[name].hits.sum(), others[name].n)
        assert share.design_effect == pytest.approx(others[name].design_effect, nan_ok=True)


def test_rows_at_hand_are_the_frame_of_a_store_that_holds_them(tmp_path):
    store = Store.open(store_of(tmp_path, list(all_rows(2))))
    pd.testing.assert_frame_equal(observations_of(store.observations()), store.frame(), check_dtype=False)
    assert list(observations_of([]).columns) == [column.name for column in COLUMNS]
    assert timelines(observations_of([])).empty
