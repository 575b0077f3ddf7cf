"""A proxy's access log: whose answer it was is not known, unless the size of its body or the upstream tells."""

from __future__ import annotations

import json

import pytest

from nestobs.observation.schema import Failure
from worlds.imported import ROOM, access, at, read

ASKED = f"GET /api/v1/nests/{ROOM}"


@pytest.mark.parametrize(
    ("size", "more", "outcome", "failure"),
    [
        (26, "", "absent", Failure.NOT_FOUND),
        (46, " 0.004 0.003", "absent", Failure.NOT_FOUND),
        (46, ' rt=0.004 us="404"', "absent", Failure.NOT_FOUND),
        (26, ' rt=0.004 us="-"', "unknown", Failure.UNEXPECTED),
        (30, "", "unknown", Failure.WRONG_PATH),
        (153, "", "unknown", Failure.UNEXPECTED),
        (19, "", "unknown", Failure.UNEXPECTED),
        (0, ' us="404"', "unknown", Failure.UNEXPECTED),
        (46, " us=404 cs=HIT", "unknown", Failure.CACHED),
    ],
    ids=["no record", "no room", "upstream", "itself", "no route", "nginx", "go", "empty", "cached"],
)
def test_a_404_is_the_apis_own_only_where_that_is_known(size, more, outcome, failure):
    (row,) = read(access(1, f"{ASKED}/guest", 404, size, more))
    assert (row.outcome, row.failure, row.vantage) == (outcome, failure, "nginx-log")


def test_a_200_counts_where_the_upstream_gave_it_and_the_api_was_seen_behind_it():
    alone = [access(2, ASKED, 200, 430, " rt=0.004 us=200")]
    (row,) = read(alone)
    assert row.outcome == "unknown"
    _, row = read([access(1, ASKED, 404, 26), *alone])
    assert row.outcome == "visible"
    _, row = read([access(1, ASKED, 404, 26), access(2, ASKED, 200, 430)])
    assert row.outcome == "unknown"  # a web app answers 200 to anything


def test_when_it_began_is_told_by_what_nginx_was_told_to_append():
    (timed,) = read(access(5, ASKED, 404, 26, " 1.500"))
    assert timed.sent_at == at(3.499)
    assert timed.received_at == at(6)  # whole seconds
    (bare,) = read(access(5, ASKED, 404, 26), longest_s=4.0)
    assert bare.sent_at == at(1)


@pytest.mark.parametrize(
    ("status", "outcome", "failure"),
    [
        (499, "unknown", Failure.CLOSED),
        (502, "unknown", Failure.SERVER_ERROR),
        (429, "refused", Failure.RATE_LIMITED),
        (403, "refused", Failure.FORBIDDEN),
    ],
)
def test_other_statuses_are_what_they_are(status, outcome, failure):
    (row,) = read(access(1, ASKED, status, 150))
    assert (row.outcome, row.failure) == (outcome, failure)


@pytest.mark.parametrize(
    "line",
    [
        access(1, "GET /", 200, 512),
        access(1, f"OPTIONS /api/v1/nests/{ROOM}", 204, 0),
        access(1, "GET /api/v1/nestsomething", 200, 1),
        access(1, "GET /livekit/rtc?access_token=eyJhbGciOiJIUzI1NiJ9.e30.c2ln", 101, 0),
    ],
)
def test_what_is_about_no_nest_makes_no_row(line):
    assert read([line, access(1, ASKED, 404, 26)])[0].room == ROOM
    assert len(read([line, access(1, ASKED, 404, 26)])) == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"time_iso8601": "2026-11-27T06:40:01+00:00", "request_method": "GET", "request_uri": f"/api/v1/nests/{ROOM}",
         "status": "404", "body_bytes_sent": "26", "request_time": "0.250", "upstream_status": "404"},
        {"level": "info", "ts": at(1) / 1e9, "logger": "http.log.access", "msg": "handled request", "duration": 0.25,
         "request": {"method": "GET", "uri": f"/api/v1/nests/{ROOM}"}, "status": 404, "size": 26},
        {"StartUTC": "2026-11-27T06:40:01Z", "RequestMethod": "GET", "RequestPath": f"/api/v1/nests/{ROOM}",
         "DownstreamStatus": 404, "OriginStatus": 404, "DownstreamContentSize": 26, "Duration": 250000000},
    ],
    ids=["nginx", "caddy", "traefik"],
)  # fmt: skip  # an entry a line
def test_json_of_several_proxies_is_read(entry):
    (row,) = read(json.dumps(entry))
    assert (row.vantage, row.operation, row.outcome) == ("nginx-log", "join", "absent")
    assert row.sent_at < at(1) - 240_000_000


def test_no_address_agent_or_query_is_kept():
    (row,) = read(access(1, f"{ASKED}?token=abc", 404, 26))
    assert not any(word in repr(row) for word in ("203.0.113.7", "Mozilla", "token=abc"))
