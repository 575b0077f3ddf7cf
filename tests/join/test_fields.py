"""Values of header fields: whatever stands there, each reader has a bounded answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.join.fields import FIELD_CHARACTERS, fine_instant, instant, members, number

S = 1_000_000_000

NUMBERS = {"7": 7.0, " 7\t": 7.0, "007": 7.0, "1.5": 1.5, "1.": 1.0, "0": 0.0, "1372700873.123": 1_372_700_873.123}
NO_NUMBERS = ["", "-7", "+7", "1e5", "0x7", "7s", "\xb2", "٣", "7 7", "inf", "nan", "1,5", ".5", "9" * 19, "9" * 5_000]


@pytest.mark.parametrize("text", NUMBERS, ids=repr)
def test_digits_with_or_without_a_fraction_are_a_number(text):
    assert number(text) == NUMBERS[text]


@pytest.mark.parametrize("text", [*NO_NUMBERS, None], ids=lambda text: repr(text)[:20])
def test_anything_else_is_none(text):
    assert number(text) is None


DATES = {
    "Wed, 21 Oct 2015 07:28:00 GMT": 1_445_412_480,
    "Wednesday, 21-Oct-15 07:28:00 GMT": 1_445_412_480,
    "Wed, 21 Oct 2015 09:28:00 +0200": 1_445_412_480,
    "2015-10-21T07:28:00Z": 1_445_412_480,
    "2015-10-21 09:28:00+02:00": 1_445_412_480,
    "Thu, 01 Jan 1970 00:00:00 GMT": 0,
}
NO_DATES = [
    "",
    "yesterday",
    "Wed, 21 Oct 2015 07:28:00",
    "Wed, 21 Oct 2015 07:28:00 -0000",
    "2015-10-21T07:28:00",
    "2015-10-21",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Fri, 31 Dec 2300 23:59:59 GMT",
    "Fri, 31 Dec 1600 23:59:59 GMT",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "Wed, 99 Oct 9999999 07:28:00 GMT",
    "Wed, 21 Oct 2015 25:61:61 GMT",
    "Wed, 21 Oct 2015 07:28:00 GMT" * 2_000,
    "Wed, 21 Oct \xb2015 07:28:00 GMT",
]


@pytest.mark.parametrize("text", DATES, ids=repr)
def test_a_date_is_an_instant(text):
    assert instant(text) == DATES[text] * S


@pytest.mark.parametrize("text", NO_DATES, ids=lambda text: repr(text)[:40])
def test_what_is_no_date_or_fits_no_column_is_none(text):
    assert instant(text) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a, b", [("a", {}), ("b", {})]),
        ("100;w=900, 10;w=1", [("100", {"w": "900"}), ("10", {"w": "1"})]),
        ('"a, b;c";q=1; W = 2', [("a, b;c", {"q": "1", "w": "2"})]),
        (r'"say \"no, never\"";x', [('say "no, never"', {"x": ""})]),
        ('"without end, b;c', [('"without end, b;c', {})]),
        (",, ,a,", [("a", {})]),
        ("cdn; hit; detail=x", [("cdn", {"hit": "", "detail": "x"})]),
        ("", []),
        ("a," * FIELD_CHARACTERS, []),
        ('"' * 60_000, []),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_list_has_members_with_parameters(text, found):
    assert [tuple(member) for member in members(text)] == found


@given(st.none() | st.text() | st.text(alphabet='"\\,;= a1'))
def test_any_text_is_read(text):
    assert number(text) is None or number(text) >= 0
    assert instant(text) is None or 0 <= instant(text) < 2**63
    for value, parameters in members(text):
        assert len(value) <= len(text)
        assert all(name == name.lower() for name in parameters)


@given(st.datetimes(timezones=st.timezones()).map(str) | st.from_regex(r"\w{3}, \d+ \w+ \d+ \d+:\d+:\d+ \S+"))
def test_any_date_is_read(text):
    assert instant(text) is None or 0 <= instant(text) < 2**63


FINE = {
    "2026-11-27T12:00:00.123Z": (1_795_780_800_123_000_000, 1e-3),
    "2026-11-27T12:00:00.1+00:00": (1_795_780_800_100_000_000, 1e-1),
    "2026-11-27T13:00:00.1234567+01:00": (1_795_780_800_123_456_000, 1e-6),
    "2026-11-27T12:00:00Z": None,
    "Fri, 27 Nov 2026 12:00:00 GMT": None,
    "2026-11-27T12:00:00.123": None,
    "2026-11-27T12:00:00+00:00:00.5": None,
    "": None,
}


@pytest.mark.parametrize("text", FINE)
def test_a_date_with_a_fraction_is_an_instant_with_its_grain(text):
    assert fine_instant(text) == (FINE[text] and pytest.approx(FINE[text], rel=0))


@given(st.text(max_size=70))
def test_any_text_is_a_fine_instant_or_none(text):
    found = fine_instant(text)
    assert found is None or (0 <= found[0] < 2**63 and 0 < found[1] <= 0.1)
