"""A HAR: answers judged as live ones, the browser's clock by Date headers, and nothing secret kept."""

from __future__ import annotations

import base64
import json

import pytest
from livekit.protocol.rtc import SignalResponse

from nestobs.observation.schema import Failure
from worlds.imported import AT, HOST, NEST, ROOM, at, event, iso, read

API = "https://n.example/api/v1/nests"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrZXkifQ.c2lnbmF0dXJl"


def har(*entries: object) -> str:
    return json.dumps({"log": {"version": "1.2", "creator": {"name": "WebInspector"}, "entries": entries}}, indent=1)


def entry(
    seconds: float, url: str, status: int, body: object = None, *, date: int | None = None, **more: object
) -> dict:
    stamp = [] if date is None else [{"name": "date", "value": f"Fri, 27 Nov 2026 06:40:{date:02} GMT"}]
    text = body if isinstance(body, str) else json.dumps(body)
    return {
        "startedDateTime": iso(seconds),
        "time": 40,
        "request": {"method": "GET", "url": url, "headers": [{"name": "Authorization", "value": f"Nostr {JWT}"}]},
        "response": {"status": status, "headers": stamp, "content": {"text": text, "mimeType": "application/json"}},
        **more,
    }


@pytest.mark.parametrize(
    ("status", "body", "outcome", "failure"),
    [
        (404, {"error": "Nest not found"}, "absent", Failure.NOT_FOUND),
        (404, "<html><title>404</title></html>", "unknown", Failure.UNEXPECTED),
        (200, {"token": JWT}, "visible", None),
        (200, {"token": {}}, "unknown", Failure.BAD_TOKEN),
        (200, "<!doctype html>", "unknown", Failure.UNEXPECTED),
        (0, "", "unknown", Failure.UNREACHABLE),
    ],
)
def test_an_answer_is_judged_as_a_live_one(status, body, outcome, failure):
    (row,) = read(har(entry(1, f"{API}/{ROOM}/guest", status, body)))
    assert (row.outcome, row.failure, row.target) == (outcome, failure, API)
    assert (row.sent_at, row.received_at) == (at(1), at(1.041))


def test_what_the_browser_cached_proves_nothing():
    (row,) = read(har(entry(1, f"{API}/{ROOM}/guest", 404, {"error": "Nest not found"}, _fromCache="disk")))
    assert row.failure is Failure.CACHED


def test_dates_bound_the_browsers_clock_to_well_under_a_second():
    """The browser is 90 s ahead: it asks at 90.05, 90.95 and 91.05 by its own clock."""
    asked = [(90.05, 0), (90.95, 0), (91.01, 1)]
    found = [entry(when, f"{API}/{ROOM}/info", 404, {"error": "Nest not found"}, date=date) for when, date in asked]
    rows = read(har(*found))
    assert {row.clock_offset_s for row in rows} == {rows[0].clock_offset_s}
    assert abs(rows[0].clock_offset_s - 90) <= rows[0].clock_error_s < 0.1


def test_info_names_the_host_and_so_the_nest():
    info = {"host": HOST, "speakers": [], "admins": [], "link": "naddr1x", "createdAt": AT * 1000}
    rows = read(
        har(
            entry(1, f"{API}/{ROOM}/info", 200, info), entry(2, f"{API}/{ROOM}/guest", 404, {"error": "Nest not found"})
        )
    )
    assert {row.nest for row in rows} == {NEST}


def test_what_chrome_keeps_of_a_websocket_is_a_transcript():
    said = [
        ("send", 1, f'["REQ","a",{{"kinds":[30312],"authors":["{HOST}"],"#d":["{ROOM}"]}}]'),
        ("receive", 1.5, f'["EVENT","a",{json.dumps(event().as_dict())}]'),
    ]
    messages = [{"type": kind, "time": AT + when, "opcode": 1, "data": data} for kind, when, data in said]
    (row,) = read(har(entry(0.5, "wss://relay.example/", 101, "", _webSocketMessages=messages)))
    assert (row.source, row.outcome, row.target, row.sent_at) == ("relay", "visible", "wss://relay.example", at(1))


def test_signalling_is_a_seat_where_livekit_let_in():
    answer = SignalResponse()
    answer.join.room.name = ROOM
    claims = (
        base64.urlsafe_b64encode(json.dumps({"sub": "guest-1", "video": {"room": ROOM}}).encode()).decode().rstrip("=")
    )
    first = {
        "type": "receive",
        "time": AT + 1.5,
        "opcode": 2,
        "data": base64.b64encode(answer.SerializeToString()).decode(),
    }
    url = f"wss://n.example/livekit/rtc?access_token=eyJhbGciOiJIUzI1NiJ9.{claims}.c2ln&protocol=9"
    (row,) = read(har(entry(1, url, 101, "", _webSocketMessages=[first])))
    assert (row.source, row.operation, row.outcome, row.room, row.role) == (
        "livekit",
        "signal",
        "visible",
        ROOM,
        "guest",
    )
    (row,) = read(har(entry(1, url, 101, "", _webSocketMessages=[])))
    assert row.outcome == "unknown"
    assert claims not in repr(row)


def test_no_token_header_or_body_is_kept():
    rows = read(
        har(
            entry(1, f"{API}/{ROOM}?auth={JWT}", 200, {"token": JWT}),
            entry(2, f"https://u:p4ss@n.example/api/v1/nests/{ROOM}", 200, {"token": JWT}),
        )
    )
    assert len(rows) == 2
    assert not any(secret in repr(row) for row in rows for secret in (JWT, "Nostr", "p4ss"))
