"""Limits in every way that servers write them: all read alike, and nothing absurd believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.join.budget import Limiter
from nestobs.join.rate_limits import LONGEST_WAIT_S, MOST_REQUESTS, Quota, read_limits, retry_after_s

S = 1_000_000_000
AT = 1_800_000_000
NOW = AT * S
DATE = {"date": "Fri, 15 Jan 2027 08:00:00 GMT"}
"""The server's own, which is NOW."""

FIVE_OF_A_HUNDRED = {
    "drafts 3 to 6": {"ratelimit-limit": "100", "ratelimit-remaining": "5", "ratelimit-reset": "600"},
    "draft 6 with its policy": {
        "ratelimit-policy": '100;w=900;comment="sliding, window"',
        "ratelimit-limit": "100",
        "ratelimit-remaining": "5",
        "ratelimit-reset": "600",
    },
    "draft 3 with a list": {
        "ratelimit-limit": "100, 100;w=900",
        "ratelimit-remaining": "5",
        "ratelimit-reset": "600",
    },
    "draft 7": {"ratelimit-policy": "100;w=900", "ratelimit": "limit=100, remaining=5, reset=600"},
    "draft 7 without a policy": {"ratelimit": "limit=100,remaining=5,reset=600"},
    "draft 8": {"ratelimit-policy": '"15min";q=100;w=900;pk=:ZmFrZQ==:', "ratelimit": '"15min";r=5;t=600'},
    "draft 8, a name like a policy": {
        "ratelimit-policy": '"burst 10;w=1"; q=100; w=900',
        "ratelimit": '"x"; r=5; t=600',
    },
    "draft 8 without quotes": {"ratelimit-policy": "default;q=100;w=900", "ratelimit": "default;r=5;t=600"},
    "draft 8, two quotas": {
        "ratelimit-policy": '"day";q=5000;w=86400, "15min";q=100;w=900',
        "ratelimit": '"day";r=4000;t=80000, "15min";r=5;t=600',
    },
    "before the drafts, an epoch": {
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "5",
        "x-ratelimit-reset": str(AT + 600),
    },
    "an epoch with a fraction": {
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "5",
        "x-ratelimit-reset": f"{AT + 600}.0",
    },
    "an epoch in milliseconds": {
        "x-rate-limit-limit": "100",
        "x-rate-limit-remaining": "5",
        "x-rate-limit-reset": str((AT + 600) * 1_000),
    },
    "a date": {
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "5",
        "x-ratelimit-reset": "Fri, 15 Jan 2027 08:10:00 GMT",
    },
    "an ISO date": {
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "5",
        "x-ratelimit-reset": "2027-01-15T08:10:00Z",
    },
    "a duration": {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "10m0s",
        "x-ratelimit-limit-tokens": "200000",
    },
    "windows in the names": {
        "x-ratelimit-limit-minute": "60",
        "x-ratelimit-remaining-minute": "59",
        "x-ratelimit-limit-hour": "100",
        "x-ratelimit-remaining-hour": "5",
        "ratelimit-reset": "600",
    },
    "windows by another word": {
        "x-ratelimit-limit": "100, 100;window=900, 10000;window=86400",
        "x-ratelimit-remaining": "5",
        "x-ratelimit-reset": "600",
    },
    "two proxies, each with its own": {
        "x-ratelimit-limit": "5000, 100",
        "x-ratelimit-remaining": "4999, 5",
        "x-ratelimit-reset": "600, 60",
    },
    "a burst first": {
        "ratelimit-policy": "10;w=1, 100;w=900",
        "ratelimit-remaining": "5",
        "ratelimit-reset": "600",
    },
}


@pytest.mark.parametrize("form", FIVE_OF_A_HUNDRED)
def test_five_of_a_hundred_is_read_in_every_form(form):
    said = FIVE_OF_A_HUNDRED[form] | DATE
    assert 5 in [each.requests for each in read_limits(said, None).remaining]
    assert 100 in [quota.limit for quota in read_limits(said, None).quotas]
    limiter = Limiter(10_000, 60.0)
    limiter.learn(said, 200, NOW)
    assert limiter.left(NOW) == 0  # fewer than the fifth that is kept for others
    assert limiter.left(NOW + 599 * S) == 0
    assert 1 <= limiter.left(NOW + 7_200 * S) <= 80
    assert limiter.left(NOW + 7_200 * S, bursts=False) in (48, 80)


TIGHTEST = {
    "a minute and an hour": ("60;w=60, 1000;w=3600", (800, 3600.0), [(48, 60.0)]),
    "a day and a quarter of an hour": ("10000;w=86400, 100;w=900", (80, 900.0), [(8000, 86_400.0)]),
    "a burst and a quarter of an hour": ("10;w=1, 100;w=900", (80, 900.0), [(8, 1.0)]),
    "nothing but a burst": ("10;w=1", (7200, 900.0), [(8, 1.0)]),
    "one window twice": ("200;w=900, 100;w=900", (80, 900.0), []),
    "bytes are no requests": ('"b";q=5;w=900;qu="content-bytes", "r";q=100;w=900;qu="requests"', (80, 900.0), []),
}


@pytest.mark.parametrize("form", TIGHTEST)
def test_of_several_quotas_the_tightest_counts_and_the_others_hold(form):
    policy, main, others = TIGHTEST[form]
    limiter = Limiter()
    limiter.learn({"ratelimit-policy": policy}, 200, NOW)
    assert (limiter.allowed, limiter.window_s) == main
    assert [(each.allowed, each.window_s) for each in limiter.others] == others


ABSURD = {
    "a limit of eleven digits": {"ratelimit-limit": "99999999999"},
    "of 400": {"ratelimit-limit": "9" * 400, "ratelimit-remaining": "9" * 400, "ratelimit-reset": "9" * 400},
    "a policy of 60 kB": {"ratelimit-policy": "1" * 60_000 + ";w=900"},
    "a list of 60 kB": {"ratelimit-policy": "1;w=1," * 10_000, "ratelimit": '"a";r=0;t=9,' * 5_000},
    "quotes of 60 kB": {"ratelimit-policy": '"' * 60_001},
    "no limit": {"ratelimit-limit": "0"},
    "less than none": {"ratelimit-limit": "-5"},
    "no window": {"ratelimit-policy": "100;w=0"},
    "a window of a thousand years": {"ratelimit-policy": "100;w=31536000000"},
    "other digits": {"ratelimit-limit": "\xb2\xb3", "x-ratelimit-limit": "٣"},
    "words": {"ratelimit-policy": "lots", "ratelimit-remaining": "many", "ratelimit-reset": "soon"},
    "a rest of nothing": {"ratelimit-remaining": "5"},
    "equals signs": {"ratelimit": "===, =, r=r", "ratelimit-policy": ";;;=;q"},
}


@pytest.mark.parametrize("what", ABSURD)
def test_what_no_operator_sets_changes_nothing(what):
    limiter = Limiter()
    limiter.learn(ABSURD[what] | DATE, 200, NOW)
    assert limiter == Limiter()


WAITS = {
    "seconds": ({"retry-after": "7"}, 7.0),
    "a fraction": ({"retry-after": "1.5"}, 1.5),
    "a date": ({"retry-after": "Fri, 15 Jan 2027 08:00:07 GMT"}, 7.0),
    "a date that is past": ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
    "an epoch": ({"retry-after": str(AT + 7)}, 7.0),
    "two lines": ({"retry-after": "7, 9"}, 9.0),
    "by another name": ({"x-ratelimit-retry-after": "7"}, 7.0),
    "only a reset": ({"ratelimit-reset": "7"}, 7.0),
    "an epoch for a reset": ({"x-ratelimit-reset": str(AT + 7), "x-ratelimit-remaining": "0"}, 7.0),
    "draft 7": ({"ratelimit": "limit=100, remaining=0, reset=7"}, 7.0),
    "draft 8": ({"ratelimit": '"x";r=0;t=7'}, 7.0),
    "draft 8, which is spent": ({"ratelimit": '"a";r=3;t=900, "b";r=0;t=7'}, 7.0),
    "both": ({"retry-after": "7", "ratelimit-reset": "9"}, 7.0),
    "none": ({}, None),
    "words": ({"retry-after": "soon"}, None),
    "a negative": ({"retry-after": "-7"}, None),
    "decades": ({"retry-after": "1000000000"}, LONGEST_WAIT_S),
    "an epoch that is just past": ({"retry-after": str(AT - 7)}, 0.0),
    "a century": ({"retry-after": "Fri, 15 Jan 2127 08:00:00 GMT"}, LONGEST_WAIT_S),
    "a month": ({"retry-after": "2592000"}, LONGEST_WAIT_S),
    "a day, by its own window": ({"retry-after": "80000", "ratelimit-policy": "5;w=86400"}, 80_000.0),
    "5 000 digits": ({"retry-after": "9" * 5_000}, None),
}


@pytest.mark.parametrize("how", WAITS)
def test_how_long_to_wait(how):
    said, wait_s = WAITS[how]
    assert retry_after_s(said | DATE) == wait_s


@pytest.mark.parametrize("name", ["retry-after", "ratelimit-reset"])
def test_without_the_servers_date_our_clock_reads_a_date(name):
    assert retry_after_s({name: "Fri, 15 Jan 2027 08:00:07 GMT"}, NOW) == 7.0
    assert retry_after_s({name: "Fri, 15 Jan 2027 08:00:07 GMT"}) is None


PARTS = ["-policy", "-limit", "-remaining", "-reset", "-limit-minute", "-remaining-minute", "-retry-after", ""]
NAMES = st.builds("{}{}".format, st.sampled_from(["ratelimit", "x-ratelimit"]), st.sampled_from(PARTS))
FORM = st.from_regex(r'("a";)?[qr]?=?\d{1,13};[wt]=\d{1,13}')
VALUES = st.text() | st.text(alphabet='0123456789;,="wqrt ', max_size=60) | FORM


@given(st.dictionaries(NAMES | st.sampled_from(["retry-after", "date"]), VALUES), st.none() | st.integers(0, 2**62))
def test_any_headers_are_read_within_bounds(headers, now):
    said = read_limits(headers, now)
    assert all(isinstance(quota, Quota) and 1 <= quota.limit <= MOST_REQUESTS for quota in said.quotas)
    assert all(0 <= each.requests <= MOST_REQUESTS and (each.reset_s or 0.0) >= 0 for each in said.remaining)
    wait_s = retry_after_s(headers, now)
    assert wait_s is None or 0 <= wait_s <= 31 * 86_400
