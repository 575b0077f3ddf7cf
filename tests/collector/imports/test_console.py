"""A browser's console: the attempts of a join, how it ended, and whose word a 404 is."""

from __future__ import annotations

import json

import pytest

from nestobs.observation.detail import facts_of
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins
from worlds import nest_rows
from worlds.imported import AT, HOST, ROOM, at, iso, read

URL = f"https://n.example/api/v1/nests/{ROOM}"
START = f"Attempting to join nest: {{roomId: '{ROOM}', user: 'logged in', nestCreatedAt: {AT}, timeSinceCreated: 7}}"
OBJECT = f'{{ roomId: "{ROOM}", user: "logged in", nestCreatedAt: {AT}, timeSinceCreated: 7 }}'
NO = "Failed to join nest: Error: Nest not found. The room may not be ready yet or has been closed."


def attempt(kind: str, status: int, seconds: float, **more: str) -> str:
    told = {
        "type": kind,
        "status": status,
        "url": URL + ("/guest" if kind == "guest" else ""),
        "timestamp": iso(seconds),
    }
    return json.dumps(told | more)


ENDED = [
    START,
    f"🔐 Authenticated join response: {attempt('authenticated', 404, 7.5)}",
    f"👤 Guest join response: {attempt('guest', 404, 7.75)}",
    NO,
]


def test_each_attempt_was_asked_after_what_stands_before_it():
    verdict, join, guest = read(ENDED)
    assert (join.operation, join.sent_at, join.received_at) == ("join", at(7), at(7.501))
    assert (guest.operation, guest.sent_at, guest.received_at) == ("guest", at(7.501), at(7.751))
    assert {row.attempt_group for row in (verdict, join, guest)} == {verdict.attempt_group}
    assert {row.vantage for row in (verdict, join, guest)} == {"browser"}


def test_a_404_without_its_words_is_of_unknown_authorship_and_with_them_is_judged_as_live():
    _, join, guest = read(ENDED)
    assert (join.outcome, guest.outcome) == ("unknown", "unknown")
    words = attempt("guest", 404, 7.75, errorText='{"error":"Nest not found or no longer active"}')
    _, _, guest = read([*ENDED[:3], f"❌ Guest join failed: {words}", NO])
    assert (guest.outcome, guest.reason) == ("absent", "Nest not found or no longer active")
    page = attempt("guest", 404, 7.75, errorText="<html><title>404 Not Found</title>")
    _, _, guest = read([*ENDED[:3], f"❌ Guest join failed: {page}", NO])
    assert guest.outcome == "unknown"


@pytest.mark.parametrize(
    ("told", "verdict", "outcome"),
    [
        ("{joinType: 'authenticated', tokenType: 'string', hasToken: true}", "authenticated", "visible"),
        ("{joinType: 'guest', tokenType: 'string', hasToken: true}", "guest_instead", "visible"),
        ("{joinType: 'authenticated', tokenType: 'object', hasToken: true}", "bad_token", "unknown"),
    ],
)
def test_a_token_is_one_where_the_client_says_that_it_is_a_string(told, verdict, outcome):
    ended, join = read(
        [START, f"Authenticated join response: {attempt('authenticated', 200, 7.5)}", f"Smart join response: {told}"]
    )
    assert facts_of(ended.detail)["verdict"] == verdict
    assert join.outcome == outcome


def test_a_join_is_one_on_the_pages_of_joins():
    rows = nest_rows.frame(*read(ENDED))
    (join,) = joins(rows, timelines(rows)).to_dict("records")
    assert (join["verdict"], join["joined"], join["requests"], join["role"]) == ("starting_up", False, 2, "joiner")


@pytest.mark.parametrize(
    "start",
    [
        f"{iso(7)} {START}",
        f"NestRoom.tsx:123 {START}",
        "Attempting to join nest: Object " + OBJECT,
        "Attempting to join nest: " + OBJECT.replace(", ", ",\n  "),
    ],
    ids=["stamped", "chrome", "firefox", "on several lines"],
)  # fmt: skip  # a start a line
def test_a_start_is_read_as_browsers_print_it(start):
    verdict, *_ = read("\n".join([start, *ENDED[1:]]))
    assert (verdict.operation, verdict.sent_at, verdict.role) == ("verdict", at(7), "joiner")


def test_the_whole_of_the_debug_info_tells_the_attempts():
    info = {
        "roomId": ROOM,
        "attempts": [json.loads(attempt("authenticated", 404, 7.5)), json.loads(attempt("guest", 404, 8))],
    }
    rows = read([START, f"🚨 Complete debug info: {json.dumps(info)}", NO])
    assert [row.operation for row in rows] == ["verdict", "join", "guest"]


def test_info_that_was_found_is_the_apis_own_and_tells_when_the_room_was_made():
    found = {"host": HOST, "link": "naddr1x", "createdAt": AT * 1000, "participantCount": 0, "status": "active"}
    _, info, *_ = read([ENDED[0], f"✅ Room info found: {json.dumps(found)}", *ENDED[1:]])
    assert (info.operation, info.outcome) == ("info", "visible")
    assert facts_of(info.detail)["info"]["createdAt"] == AT * 1000
