"""LiveKit's log: what its lines prove."""

from __future__ import annotations

import pytest

from nestobs.diagnosis import Cause, diagnose_rows
from nestobs.observation.detail import facts_of
from nestobs.observation.schema import Failure
from worlds.imported import HOST, ROOM, at, brief, iso, morgan, read, winston, zap

FIELDS = f'{{"room": "{ROOM}", "participant": "a", "pID": "PA_x", "remote": false}}'


def console(seconds: float, message: str, fields: str) -> str:
    return f"{iso(seconds)}\tINFO\tlivekit\trtc/room.go:1\t{message}\t{fields}"


def test_a_call_that_made_a_room_has_both_ends_and_dates_a_room_that_then_started():
    lines = [
        zap(1, "API RoomService.CreateRoom", duration=0.25, status="200"),
        zap(1.1, "sent webhook", event="room_started", id="EV_1", webhookTime=int(at(1) / 1e9), sendDuration=0.01),
    ]
    made, there, told = read(lines, "livekit")
    assert brief([made, there, told]) == [
        ("livekit", "create", "accepted"),
        ("livekit", "rooms", "visible"),
        ("webhook", "receive", "accepted"),
    ]
    assert (there.sent_at, there.remote_at) == (at(0.75), at(0.75))
    (_, alone) = read(lines[0], "livekit")
    assert alone.remote_at is None  # a room that was there already is answered likewise


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([zap(60, "closing idle room", reason="departure timeout")], "departure timeout"),
        ([zap(300, "closing idle room", reason="empty timeout")], "empty timeout"),
        ([zap(9, "API RoomService.DeleteRoom", duration=0.001, status="200")], "asked by an API call"),
        ([console(60, "closing idle room", f'{{"room": "{ROOM}", "reason": "empty timeout"}}')], "empty timeout"),
        ([zap(9, "room closed")], "closed the room"),
    ],
    ids=["departure", "empty", "deleted", "console", "closed"],
)
def test_how_a_room_ended_is_told(lines, words):
    (row,) = read(lines, "livekit")
    assert (row.source, row.operation, row.outcome, row.failure) == ("livekit", "rooms", "absent", Failure.NOT_FOUND)
    assert words in row.reason


def test_who_came_in_is_a_seat_and_when_media_were_connected():
    entered, active = read(
        [
            zap(1, "starting RTC session", participant="guest-1", participantID="PA_x"),
            zap(3, "participant active", participant="guest-1", connectTime=0.5, connectionType="udp"),
        ],
        "livekit",
    )
    assert brief([entered, active]) == [("livekit", "signal", "visible"), ("livekit", "media", "visible")]
    assert (entered.role, facts_of(entered.detail)["participant_sid"]) == ("guest", "PA_x")
    assert active.sent_at == at(2.5)


@pytest.mark.parametrize(
    ("reason", "failure"),
    [
        ("DUPLICATE_IDENTITY", Failure.REMOVED),
        ("SERVICE_REQUEST_DELETE_ROOM", Failure.REMOVED),
        ("PEER_CONNECTION_DISCONNECTED", Failure.DROPPED),
        ("CLIENT_REQUEST_LEAVE", None),
    ],
)
def test_why_somebody_is_outside(reason, failure):
    (row,) = read(zap(3, "participant closing", participant="x", reason=reason, sessionDuration=2.0), "livekit")
    assert row.failure is failure
    assert row.operation == ("stay" if failure else "receive")  # who leaves by themselves has lost nothing


@pytest.mark.parametrize(("candidates", "failed"), [(["[local] a"], False), (["[local] a", "[remote] b"], True)])
def test_media_failed_only_for_who_tried_them(candidates, failed):
    fields = {"participant": "x", "reason": "JOIN_TIMEOUT", "subscriberCandidates": candidates}
    rows = read([zap(3, "removing participant without connection", **fields), zap(3, "room closed")], "livekit")
    assert [row.failure for row in rows if row.operation == "media"] == ([Failure.ICE] if failed else [])


@pytest.mark.parametrize(
    "line",
    [
        console(2, "starting RTC session", FIELDS),
        "livekit-1  | " + console(2, "starting RTC session", FIELDS),
        f"2026-11-27T10:10:02.000+0330    INFO    livekit rtc/room.go:4    starting RTC session    {FIELDS}",
        f"2026-11-27T06:40:02.000Z\tINFO\topenvidu\trtc/room.go:408\tstarting RTC session\t{FIELDS}",
    ],
    ids=["console", "compose", "pasted", "another name"],
)  # fmt: skip  # a line a line
def test_the_console_format_is_read(line):
    (row,) = read(line)
    assert (row.operation, row.room, row.sent_at) == ("signal", ROOM, at(2))


@pytest.mark.parametrize(
    ("reason", "cause"), [("departure timeout", Cause.ENDED_BY_DEPARTURE), ("empty timeout", Cause.ROOM_EXPIRED)]
)
def test_why_a_room_ended_decides_the_cause(reason, cause):
    """The API's log has the 404 that came of it; somebody had left shortly before either way."""
    asked = f"GET /api/v1/nests/{ROOM}"
    api = [winston(0, f"Created nest {ROOM} for host {HOST}"), morgan(5, asked, 200, 430)]
    api += [morgan(n, f"{asked}{way}", 404, 36) for n in (80, 90, 100) for way in ("", "/guest")]
    livekit = [
        zap(0, "API RoomService.CreateRoom", duration=0.01, status="200"),
        zap(5, "starting RTC session", participant=HOST),
        zap(9, "participant closing", participant=HOST, reason="CLIENT_REQUEST_LEAVE"),
        zap(69, "closing idle room", reason=reason),
    ]
    (found,) = [one for one in diagnose_rows(read([*api, *livekit])) if one.vantage == "api-log"]
    assert str(found.causes[0].cause) == cause
