"""Windows: half-open, UTC, aligned, named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.errors import UsageError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import DAY_S, Window, latest

NOON = 1_767_268_800 * SECOND_NS  # 2026-01-01T12:00:00Z
MIDNIGHT = NOON - 12 * 3600 * SECOND_NS
instants = st.integers(0, 4_000_000_000).map(lambda s: s * SECOND_NS)
windows = st.tuples(instants, st.integers(1, 10**7)).map(lambda e: Window(e[0], e[0] + e[1] * SECOND_NS))


@pytest.mark.parametrize(
    ("text", "start_s", "end_s"),
    [
        ("2026-01-01", -43_200, 43_200),
        ("2026-01-01/2026-01-02", -43_200, 43_200),
        ("2026-01-01T12:00Z/2026-01-01T12:30:05Z", 0, 1_805),
        ("2026-01-01T13:00+01:00/2026-01-01T13:30+01:00", 0, 1_800),
        (" 2026-01-01T12:00 / 2026-01-01T13:00 ", 0, 3_600),
        ("2026-01-01T120000Z--2026-01-01T130000Z", 0, 3_600),
    ],
)
def test_reads_what_people_and_paths_say(text, start_s, end_s):
    assert Window.parse(text) == Window(NOON + start_s * SECOND_NS, NOON + end_s * SECOND_NS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "yesterday",
        "2026-01-01/",
        "2026-13-01",
        "2026-01-02/2026-01-01",
        "2026-01-01/2026-01-01",
        "a/b/c",
        "2026-01-01T00:00:00.5/2026-01-02",
        "../../etc/passwd",
        "9" * 500,
    ],
)
def test_refuses_anything_else_in_a_sentence(text):
    with pytest.raises(UsageError, match="write START/END") as said:
        Window.parse(text)
    assert "\n" not in str(said.value)
    assert len(str(said.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        "9999-12-31",
        "0001-01-01",
        "0001-01-01/0001-01-02",
        "0001-01-01T00:00+23:59/1h",
        "9999-12-31T23:59:59-23:59/1s",
        "2300-01-01/2300-01-02",
        "1600-01-01",
        "1677-12-31",
        "2262-01-01",
        "1678-01-01/300000d",
        "2261-12-31/2d",
        "2026-01-01/9999-01-01",
    ],
)
def test_refuses_years_whose_instants_nothing_can_hold(text):
    with pytest.raises(UsageError, match="write START/END"):
        Window.parse(text)


@pytest.mark.parametrize("text", ["1678-01-01", "2261-12-31", "1678-01-01/2262-01-01", "1970-01-01/1s"])
def test_all_of_a_window_can_be_said_and_held(text):
    window = Window.parse(text)
    assert Window.parse(window.text) == Window.parse(window.name) == window
    assert [end.value for end in window.instants] == [window.start, window.end]
    assert "UTC" in window.words


@given(windows)
def test_its_name_and_its_text_give_it_back(window):
    assert Window.parse(window.name) == Window.parse(window.text) == window
    assert not set(window.name) - set("0123456789-TZ")


def test_a_day_is_called_by_its_date():
    assert Window.parse("2026-01-01").name == "2026-01-01"
    assert Window.parse("2026-01-01T06:00/2026-01-02T06:00").name == "2026-01-01T060000Z--2026-01-02T060000Z"
    assert Window.parse("2026-01-01").words == "2026-01-01 00:00:00 to 2026-01-02 00:00:00 UTC"


def test_the_week_before_a_day():
    assert Window.parse("2026-01-08").earlier(7) == Window.parse("2026-01-01/2026-01-08")


def test_yesterday_is_the_latest_day_that_is_over():
    assert latest(NOON, DAY_S) == Window.parse("2025-12-31")
    assert latest(MIDNIGHT, DAY_S) == Window.parse("2025-12-31")
    assert latest(MIDNIGHT - 1, DAY_S) == Window.parse("2025-12-30")
    assert latest(NOON + 5, 6 * 3600) == Window.parse("2026-01-01T06:00/2026-01-01T12:00")


@given(instants, st.sampled_from([60, 900, 3_600, 21_600, DAY_S, 7 * DAY_S]))
def test_aligned_windows_follow_each_other(now, length_s):
    window = latest(now, length_s)
    assert window.end <= now < window.end + length_s * SECOND_NS
    assert latest(window.end + length_s * SECOND_NS, length_s).start == window.end
    whole = Window(window.start - 3 * length_s * SECOND_NS, window.end)
    parts = list(whole.parts(length_s))
    assert len(parts) == 4
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert (parts[0].start, parts[-1].end) == (whole.start, whole.end)


def test_parts_are_whole_ones():
    found = [part.name for part in Window.parse("2026-01-01T06:00/2026-01-03T23:00").parts(DAY_S)]
    assert found == ["2026-01-02"]


@pytest.mark.parametrize("length_s", [0.5, 0.0, 1.5, 86_400.001])
def test_aligned_windows_are_of_whole_seconds(length_s):
    with pytest.raises(UsageError, match="whole seconds"):
        latest(NOON, length_s)
    with pytest.raises(UsageError, match="whole seconds"):
        list(Window.parse("2026-01-01").parts(length_s))


@pytest.mark.parametrize("text", ["6h", "360min", "21600", "5h60m"])
def test_a_window_is_a_start_and_a_duration_too(text):
    assert Window.parse(f"2026-01-01T06:00/{text}") == Window.parse("2026-01-01T06:00/2026-01-01T12:00")


@pytest.mark.parametrize("text", ["", "-6h", "0", "6 hours", "inf", "9999999999w"])
def test_a_start_and_what_is_no_duration_is_no_window(text):
    with pytest.raises(UsageError, match="is no window"):
        Window.parse(f"2026-01-01T06:00/{text}")
