"""One grammar of durations: what it means, what it refuses, and that what is written is read back."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.errors import UsageError
from nestobs.observation.duration import LONGEST_S, about, duration_words, read_duration

UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("1m30s", 90),
        ("15min", 900),
        ("15 min", 900),
        (" 2h 30m ", 9_000),
        ("1w", 604_800),
        ("1w1d1h1min1s500ms", 604_800 + 86_400 + 3_600 + 60 + 1.5),
        ("500ms", 0.5),
        (".5", 0.5),
        ("1e3", 1_000),
    ],
)
def test_words_mean_seconds(text, seconds):
    assert read_duration(text) == seconds


@given(st.sampled_from(sorted(UNITS)), st.integers(1, 1_000))
def test_a_number_and_a_unit_is_their_product(unit, number):
    assert read_duration(f"{number}{unit}") == pytest.approx(number * UNITS[unit], rel=1e-15)


@given(st.lists(st.sampled_from(["w", "d", "h", "m", "s", "ms"]), min_size=2, max_size=6), st.integers(1, 99))
def test_units_come_each_once_and_the_larger_first(units, number):
    text = "".join(f"{number}{unit}" for unit in units)
    sizes = [UNITS[unit] for unit in units]
    if sizes == sorted(set(sizes), reverse=True):
        assert read_duration(text) == pytest.approx(number * sum(sizes))
    else:
        with pytest.raises(UsageError):
            read_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "h", "-1", "+1", "-6h", "1h-5m", "inf", "nan", "infs", "1e400", "9" * 30, "9" * 1_000_000, "1_000",
     "5m5", "5 5", "6h6h", "5m1h", "1min1m", "5 parsecs", "1,5s", "1M", "٣s", "3ѕ", "1s\x00", "5\n\n5", "1e9d"],
)  # fmt: skip
@pytest.mark.parametrize("zero", [True, False])
def test_what_is_no_duration_is_refused_in_one_short_sentence_that_says_what_to_write(text, zero):
    with pytest.raises(UsageError, match=r"is no duration.*write 90s, 500ms, .*a bare number is seconds") as refused:
        read_duration(text, zero=zero)
    assert len(str(refused.value)) < 250
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["0", "0s", "0.0ms", "0h0m"])
def test_nothing_is_a_duration_only_where_that_is_said(text):
    assert read_duration(text, zero=True) == 0
    with pytest.raises(UsageError, match="is no duration"):
        read_duration(text)


@given(st.text(max_size=40))
def test_any_text_is_a_duration_or_refused(text):
    with suppress(UsageError):
        assert 0 < read_duration(text) <= LONGEST_S


@given(st.floats(1e-9, LONGEST_S))
def test_what_is_written_is_read_back_to_the_last_digit(seconds):
    assert read_duration(duration_words(seconds)) == seconds


@given(st.integers(1, int(LONGEST_S)))
def test_whole_seconds_are_written_without_a_fraction_of_one(seconds):
    assert read_duration(duration_words(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 s"), (90, "90 s"), (900, "15 min"), (21_600, "6 h"), (0.25, "0.25 s"), (1e6, "1000000 s")],
)
def test_people_read_a_duration_in_its_unit(seconds, text):
    assert duration_words(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (600, "10 min"),
        (7_200, "2 h"),
        (864_000, "10 days"),
        (10**8, "3 years"),
        (2**62, "more than 1000 years"),
    ],
)
def test_a_time_for_people_is_in_its_largest_unit(seconds, words):
    assert about(seconds) == words
