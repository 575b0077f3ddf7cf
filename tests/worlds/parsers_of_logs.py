"""What reads files that others wrote when nobody observed: logs, transcripts, consoles, HARs."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from livekit.protocol.rtc import SignalResponse

from nestobs.collector.imports.files import _bytes_of, _text, related
from nestobs.collector.imports.formats import FORMATS, read_text
from nestobs.collector.imports.lines import line_of, stamp_of
from nestobs.collector.imports.rows import Part, observations
from nestobs.collector.imports.said import Names
from worlds import imported as some
from worlds.parser import OPERATOR, Parser, Read, on_text, parser, storable
from worlds.parsers_of_files import in_file

ASKED = f"GET /api/v1/nests/{some.ROOM}"


def _as(word: str) -> Read:
    """Rows of bytes in this format, "" as they are told by content."""

    def read(data: bytes) -> object:
        found = read_text(_text(data).split("\n"), Names(changed_at=some.at(100)), word)
        parts = [Part("x.log", "00", name, FORMATS[name].vantage, one) for name, one in found.items()]
        return [
            storable(row) for row in observations(parts, related(parts), {part.vantage: part.vantage for part in parts})
        ]

    return read


def _har(*entries: object) -> str:
    return json.dumps({"log": {"version": "1.2", "entries": entries}})


def _entry(url: str, status: int, text: str, **more: object) -> dict[str, object]:
    head = [{"name": "Date", "value": "Fri, 27 Nov 2026 06:40:00 GMT"}, {"name": "Server", "value": "nginx/1.27"}]
    return {
        "startedDateTime": some.iso(0.2),
        "time": 31.5,
        "request": {"method": "GET", "url": url, "headers": []},
        "response": {"status": status, "headers": head, "content": {"text": text, "mimeType": "application/json"}},
        **more,
    }


def _joined() -> str:
    answer = SignalResponse()
    answer.join.room.name, answer.join.room.sid = some.ROOM, "RM_x"
    return base64.b64encode(answer.SerializeToString()).decode()


_TOKEN = base64.urlsafe_b64encode(json.dumps({"sub": "guest-1", "video": {"room": some.ROOM}}).encode()).decode()
_GUEST = f"https://n.example/api/v1/nests/{some.ROOM}/guest"
_REQ = f'["REQ","a",{{"kinds":[30312],"#d":["{some.ROOM}"]}}]'
HAR = _har(
    _entry(_GUEST, 404, '{"error":"Nest not found"}'),
    _entry(
        f"https://n.example/api/v1/nests/{some.ROOM}/guest", 0, "", response={"status": 0, "_error": "net::ERR_FAILED"}
    ),
    _entry(
        f"https://n.example/api/v1/nests/{some.ROOM}/info",
        200,
        base64.b64encode(json.dumps({"host": some.HOST, "link": "naddr1x", "createdAt": 1}).encode()).decode(),
    ),
    {
        **_entry(f"wss://n.example/rtc?access_token=eyJhbGciOiJIUzI1NiJ9.{_TOKEN.rstrip('=')}.c2ln", 101, ""),
        "_webSocketMessages": [{"type": "receive", "time": some.AT + 0.5, "opcode": 2, "data": _joined()}],
    },
    {
        **_entry("wss://relay.example/", 101, ""),
        "_webSocketMessages": [
            {"type": "send", "time": some.AT + 0.1, "opcode": 1, "data": _REQ},
            {"type": "receive", "time": some.AT + 0.2, "opcode": 1, "data": '["EOSE","a"]'},
        ],
    },
)
TRANSCRIPT = "\n".join(
    (
        "# wss://relay.example",
        f'{some.iso(0)} -> ["REQ","a",{{"kinds":[30312],"authors":["{some.HOST}"],"#d":["{some.ROOM}"]}}]',
        f'{some.iso(0.1)} <- ["EOSE","a"]',
        f'{some.iso(1)} <- ["EVENT","a",{json.dumps(some.event().as_dict())}]',
        f'{some.iso(2)} -> ["EVENT",{json.dumps(some.event(1).as_dict())}]',
        f'{some.iso(2.1)} <- ["OK","{some.event(1).id}",true,""]',
        f'{some.iso(3)} <- ["CLOSED","b","auth-required: who are you"]',
    )
)
CONSOLE = "\n".join(
    (
        f"NestRoom.tsx:12 Attempting to join nest: {{roomId: '{some.ROOM}', user: 'logged in',"
        f" nestCreatedAt: {some.AT}, timeSinceCreated: 7}}",
        f"useNestsApi.ts:20 🔐 Authenticated join response: {{type: 'authenticated', status: 404,"
        f" url: '/api/v1/nests/{some.ROOM}', timestamp: '{some.iso(7.5)}'}}",
        f'❌ Guest join failed: {{"type":"guest","status":404,"timestamp":"{some.iso(7.6)}",',
        '  "errorText":"{\\"error\\":\\"Nest not found\\"}"}',
        "Failed to join nest: Error: Nest not found. The room may not be ready yet or has been closed.",
    )
)
API = "\n".join(
    (
        some.winston(0, f"Created nest {some.ROOM} for host {some.HOST}"),
        some.morgan(1, f"{ASKED}/info", 404),
        some.winston(2, f"Guest join: About to call roomService.listRooms() for room {some.ROOM}"),
        some.winston(2.1, f"Guest join: Looking for room {some.ROOM}, exists: true"),
        some.winston(2.1, f"Guest guest-1 joined nest {some.ROOM}"),
        f'nests-api-1  | info: {some.access(2.1, f"{ASKED}/guest", 200)} {{"timestamp":"{some.iso(2.1)}"}}',
        f"{some.iso(3)} error: Error checking room existence: fetch failed",
        some.winston(
            4,
            "LiveKit webhook event:",
            event="room_finished",
            room={"name": some.ROOM, "sid": "RM_x"},
            id="EV_1",
            createdAt="1795761604",
        ),
        json.dumps(
            {
                "level": 30,
                "time": some.AT * 1000,
                "msg": "request completed",
                "req": {"method": "GET", "url": f"/api/v1/nests/{some.ROOM}"},
                "res": {"statusCode": 200},
                "responseTime": 3,
            }
        ),
    )
)
LIVEKIT = "\n".join(
    (
        some.zap(0, "API RoomService.CreateRoom", duration=0.01, status="200"),
        some.zap(0.1, "sent webhook", event="room_started", id="EV_0", webhookTime=some.AT, sendDuration=0.002),
        f"{some.iso(1)}\tINFO\tlivekit\tservice/roommanager.go:1\tstarting RTC session\t"
        f'{{"room": "{some.ROOM}", "participant": "guest-1", "pID": "PA_x"}}',
        some.zap(2, "participant active", connectTime="1.5s", participant=some.HOST),
        some.zap(3, "participant closing", reason="DUPLICATE_IDENTITY", participant=some.HOST, sessionDuration=1.0),
        some.zap(
            3, "removing participant without connection", reason="JOIN_TIMEOUT", publisherCandidates=["[remote] x"]
        ),
        some.zap(60, "closing idle room", reason="departure timeout"),
    )
)
ACCESS = "\n".join(
    (
        some.access(0, f"{ASKED}/guest", 404, more=' 0.003 "0.002"'),
        some.access(1, f"{ASKED}/guest", 404, 153, ' rt=0.001 us="-" cs=MISS'),
        some.access(2, f"{ASKED}", 200, 410, " rt=0.004 us=200"),
        json.dumps(
            {
                "time_iso8601": "2026-11-27T06:40:03+00:00",
                "request_method": "GET",
                "request_uri": f"/api/v1/nests/{some.ROOM}/info",
                "status": "200",
                "request_time": "0.1",
            }
        ),
    )
)
_INSTANTS = ("2026-11-27T06:40:00,123+0330", "27/Nov/2026:06:40:00 +0000", "1795761600.25", "1795761600123")


def _log(name: str, word: str, words: str, *seeds: str) -> Parser:
    return parser(name, _as(word), *seeds, words=words)


def _read(path: Path) -> str:
    return _text(_bytes_of(path)[0])


LOGS = (
    _log("an API's log", "api", '"message": "level": "timestamp": info: exists: true Created nest [ ] "GET', API),
    _log("LiveKit's log", "livekit", '"msg": "ts": "room": "caller": INFO livekit "duration": 1m2s 3µs', LIVEKIT),
    _log("an access log", "nginx", '"GET HTTP/1.1" - - [ ] rt= us= /api/v1/nests/ 404 26', ACCESS),
    _log("a relay's transcript", "relay", '["EVENT" ["REQ" ["EOSE" ["OK" ["AUTH" "kinds": wss:// ->', TRANSCRIPT),
    _log("a browser's console", "console", "{ } status: 404 Attempting to join nest: response: failed:", CONSOLE),
    _log("a HAR", "har", '"entries": "request": "response": "url": "_webSocketMessages": access_token=', HAR),
    _log("a log of any kind", "", '{"log": | ', f"{API}\n{LIVEKIT}\n{ACCESS}", HAR, TRANSCRIPT, CONSOLE),
    parser("an instant of a log", on_text(lambda text: (stamp_of(text), line_of(1, text))), *_INSTANTS, words="T : Z"),
    parser(
        "a file to import",
        bytes,
        API,
        b"\x1f\x8b\x08",
        b"\xff\xfea\x00",
        allowed=OPERATOR,
        opened=lambda: in_file("a.log.gz", _read),
    ),
)
