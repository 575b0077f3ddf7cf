"""The Nests API's log: what its lines and sentences prove."""

from __future__ import annotations

import json

import pytest

from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Role
from worlds.imported import AT, HOST, NEST, ROOM, access, at, brief, iso, morgan, read, winston

ASKED = f"GET /api/v1/nests/{ROOM}"
PREFIXES = {
    "bare": "{}",
    "compose": "nests-api-1  | {}",
    "docker -t": "2026-11-27T06:40:09.123456789Z {}",
    "kubernetes": "2026-11-27T06:40:09.123456789Z stdout F {}",
    "syslog": "Nov 27 06:40:09 host nests-api[7]: {}",
    "coloured": "\x1b[32m{}\x1b[39m",
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize(
    "line",
    [
        winston(1, f"Created nest {ROOM} for host {HOST}"),
        f'{iso(1)} info: Created nest {ROOM} for host {HOST} {{"service":"nests-api"}}',
        f'info: Created nest {ROOM} for host {HOST} {{"service":"nests-api","timestamp":"{iso(1)}"}}',
        f"[{iso(1)}] [INFO] Created nest {ROOM} for host {HOST}",
    ],
    ids=["json", "plain", "simple", "bracketed"],
)
def test_a_line_is_read_whatever_stands_before_it(prefix, line):
    (row,) = read(prefix.format(line), "api")
    assert brief([row]) == [("api", "create", "accepted")]
    assert (row.nest, row.room, row.role) == (NEST, ROOM, Role.HOST)
    assert row.received_at == at(1.001)


def test_a_line_that_docker_wrapped_is_unwrapped():
    wrapped = json.dumps({"log": winston(1, f"Created nest {ROOM} for host {HOST}") + "\n", "time": iso(2)})
    (row,) = read(wrapped, "api")
    assert row.received_at == at(1.001)


@pytest.mark.parametrize(
    ("path", "status", "size", "outcome", "failure", "words"),
    [
        ("/guest", 404, 46, "absent", Failure.NOT_FOUND, "Nest not found or no longer active"),
        ("", 404, 36, "absent", Failure.NOT_FOUND, "Nest is no longer active"),
        ("/info", 404, 26, "absent", Failure.NOT_FOUND, "Nest not found"),
        ("/info", 404, None, "absent", Failure.NOT_FOUND, "by the API's own log"),
        ("/info", 404, 30, "unknown", Failure.WRONG_PATH, "Endpoint not found"),
        ("/info", 200, 512, "visible", None, ""),
        ("/info", 304, None, "visible", None, ""),
        ("", 200, 412, "visible", None, ""),
        ("", 200, 12, "unknown", Failure.BAD_TOKEN, "12 bytes"),
        ("", 401, 52, "refused", Failure.UNAUTHORISED, "401"),
        ("/guest", 429, 50, "refused", Failure.RATE_LIMITED, "429"),
        ("/guest", 500, 50, "unknown", Failure.SERVER_ERROR, "500"),
    ],
)
def test_what_a_request_in_its_own_log_proves(path, status, size, outcome, failure, words):
    sized = winston(1, access(1, f"{ASKED}{path}", status, "-" if size is None else size))
    (row,) = read(sized, "api")
    assert (row.outcome, row.failure, row.status) == (outcome, failure, status)
    assert words in row.reason


@pytest.mark.parametrize(
    "entry",
    [
        {"level": 30, "time": AT * 1000, "msg": "done", "req": {"method": "GET", "url": f"/api/v1/nests/{ROOM}/guest"},
         "res": {"statusCode": 404}, "responseTime": 7},
        {"level": "info", "timestamp": iso(0), "message": "HTTP", "method": "GET", "status": 404,
         "url": f"/api/v1/nests/{ROOM}/guest?x=1", "responseTime": 7},
        {"level": "info", "timestamp": iso(0), "message": "HTTP GET", "meta": {"res": {"statusCode": 404},
         "req": {"method": "GET", "url": f"/api/v1/nests/{ROOM}/guest"}, "responseTime": 7}},
        {"@t": iso(0), "@m": "HTTP GET responded 404", "@l": "Information", "RequestMethod": "GET",
         "RequestPath": f"/api/v1/nests/{ROOM}/guest", "StatusCode": 404, "Elapsed": 7.0},
    ],
    ids=["pino", "winston", "express-winston", "serilog"],
)  # fmt: skip  # an entry a line
def test_requests_of_other_loggers_tell_when_they_began(entry):
    (row,) = read(json.dumps(entry), "api")
    assert brief([row]) == [("api", "guest", "absent")]
    assert 7e-3 <= (at(0) - row.sent_at) / SECOND_NS <= 9e-3
    assert "begun_within_s" not in facts_of(row.detail)["imported"]


def test_a_line_that_tells_only_its_end_says_so_and_may_have_begun_before():
    (row,) = read(morgan(1, f"{ASKED}/guest", 404), "api", longest_s=3.0)
    assert (row.sent_at, row.received_at) == (at(-2), at(1.001))
    assert facts_of(row.detail)["imported"]["begun_within_s"] == 3.0


def test_what_the_list_of_livekit_said_to_a_guest_has_both_ends():
    lines = [
        winston(1, f"Guest join: About to call roomService.listRooms() for room {ROOM}"),
        winston(1.25, f"Guest join: Looking for room {ROOM}, exists: false"),
        morgan(1.3, f"{ASKED}/guest", 404, 46),
    ]
    listed, asked = read(lines, "api")
    assert brief([listed, asked]) == [("livekit", "rooms", "absent"), ("api", "guest", "absent")]
    assert (listed.sent_at, listed.received_at) == (at(1), at(1.251))
    assert (asked.sent_at, asked.received_at) == (at(1), at(1.301))


def test_somebody_who_was_given_a_token_is_one_row_with_the_request():
    lines = [winston(1, f"User {HOST} joined nest {ROOM} as host"), morgan(1.01, ASKED, 200, 430)]
    (row,) = read(lines, "api")
    assert (row.operation, row.outcome, row.role) == ("join", "visible", Role.HOST)
    (alone,) = read(lines[0], "api")
    assert (alone.operation, alone.outcome) == ("join", "visible")


def test_a_token_that_is_an_object_is_none_whatever_a_sentence_says():
    lines = [winston(1, f"User {HOST} joined nest {ROOM} as host"), morgan(1.01, ASKED, 200, 12)]
    assert "visible" in [row.outcome for row in read(lines[0], "api")]
    assert Failure.BAD_TOKEN in [row.failure for row in read(lines, "api")]


def test_why_a_join_failed_stands_with_its_404():
    why = "Error checking room existence: roomService.getRoom is not a function"
    (row,) = read([winston(1, why, "error"), morgan(1.01, ASKED, 404, 36)], "api")
    assert row.outcome == "absent"
    assert "getRoom is not a function" in row.reason


@pytest.mark.parametrize("why", ["connect ECONNREFUSED 127.0.0.1:7880", "fetch failed", "request timed out"])
def test_a_livekit_that_the_api_could_not_reach_is_a_row(why):
    rows = read(winston(1, f"Error checking room existence in guest endpoint: {why}", "error"), "api")
    assert [(row.source, row.operation, row.failure) for row in rows] == [("livekit", "rooms", Failure.UNREACHABLE)]


def test_a_webhook_that_the_api_logged_is_one():
    meta = {"event": "room_finished", "id": "EV_1", "createdAt": str(AT), "room": {"name": ROOM, "sid": "RM_x"}}
    (row,) = read(winston(1, "LiveKit webhook event:", **meta), "api")
    assert brief([row]) == [("webhook", "receive", "accepted")]
    assert row.remote_at == at(0)
    assert facts_of(row.detail)["event"] == "room_finished"


def test_restart_and_deletion_are_deeds_with_both_ends():
    lines = [
        winston(1, f"Restart request for nest {ROOM} from {HOST}"),
        winston(1.1, f"Deleted existing room {ROOM} for restart"),
        morgan(3.2, f"POST /api/v1/nests/{ROOM}/restart", 200, 500),
        winston(5, f"Delete request for nest {ROOM} from {HOST}"),
        morgan(5.1, f"DELETE /api/v1/nests/{ROOM}", 204, 0),
    ]
    gone, restarted, deleted = read(lines, "api")
    assert brief([gone, restarted, deleted]) == [
        ("livekit", "rooms", "absent"),
        ("api", "restart", "accepted"),
        ("api", "delete", "accepted"),
    ]
    assert (restarted.sent_at, deleted.sent_at) == (at(1), at(5))


SECRET = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrZXkifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "line",
    [
        winston(1, "Restart endpoint hit: POST /x", headers={"authorization": f"Nostr {SECRET}"}),
        winston(1, f"Error checking room existence: invalid token: Bearer {SECRET}", "error"),
        winston(1, "Error checking room existence: ECONNREFUSED api_secret=hunter2hunter2", "error"),
        morgan(1, f"GET /api/v1/nests/{ROOM}/guest?access_token={SECRET}", 404),
        morgan(1, f"GET /api/v1/nests/{SECRET}/guest", 404),
    ],
    ids=["header", "error", "assignment", "query", "path"],
)  # fmt: skip  # a line a line
def test_no_secret_of_a_line_reaches_a_row(line):
    rows = read([line, morgan(1.01, ASKED, 404, 36)], "api")
    assert rows
    assert not any(secret in repr(row) for row in rows for secret in (SECRET, "hunter2", SECRET.split(".")[1]))
