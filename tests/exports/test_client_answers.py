"""What join() makes of answers of every kind is what join_flow makes of them; and what it makes of its options."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from nestobs.join.decision import Kind
from nestobs.join.flow import Guest, Info, Join, Reply, Signal, join_flow
from nestobs.join.policy import Policy
from nestobs.join.rate_limits import pause_s
from nestobs.nostr import json_object
from nestobs.observation.schema import Failure, Operation, Outcome
from nestobs.sources.proof import Heard, find
from worlds.client_episodes import Drawn, born
from worlds.client_package import Project, installed_policy, need_node

pytestmark = pytest.mark.slow

ONCE = Policy(name="once", request_timeout_s=8.0, fault_after_s=0.0)
"""One round; 404s beside an active /info are a fault at once."""

CLIENT = Path(__file__).parent / "client"
NOW = 1_800_000_000
KEY = "ab" * 32
HTML = "<!doctype html><title>Nests</title><p>An app for everything"


@dataclass(frozen=True)
class Said:
    """An answer. A body that is no text is JSON."""

    status: int
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.body if isinstance(self.body, str) else json.dumps(self.body)


ACTIVE = Said(200, {"host": KEY, "speakers": [KEY], "admins": [], "link": "naddr1", "recording": False})
NO = Said(404, {"error": "Nest not found"})
GONE = Said(404, {"error": "Nest is no longer active"})
YES = Said(200, {"token": "aaa.bbb.ccc"})
LIMIT = Said(429, {"error": "Too many requests, please try again later."})


def info(**more: Any) -> Said:
    return Said(200, ACTIVE.body | more)


STORIES: dict[str, tuple[Said, Said, Said]] = {
    "joined": (ACTIVE, YES, YES),
    "guest after a 404": (NO, NO, YES),
    "race": (NO, NO, NO),
    "fault": (ACTIVE, NO, GONE),
    "info of a closed nest": (info(status="Closed"), NO, NO),
    "info of an open nest": (info(status="open"), NO, NO),
    "info without a host": (Said(200, {"speakers": []}), NO, NO),
    "info of a short host": (info(host="ab"), NO, NO),
    "info that is a page": (Said(200, HTML), NO, NO),
    "info with an error inside": (info(error="oops"), NO, NO),
    "info that is a list": (Said(200, [1, 2]), NO, NO),
    "info limited": (LIMIT, YES, YES),
    "info down": (Said(502, HTML), YES, YES),
    "no by a proxy's page": (ACTIVE, Said(404, HTML), Said(404, HTML)),
    "no by a proxy's JSON": (ACTIVE, Said(404, {"message": "no Route matched with those values"}), NO),
    "no about a path": (ACTIVE, Said(404, {"error": "Nest /a/b is no file"}), NO),
    "the wrong path": (Said(404, {"error": "Endpoint not found"}), Said(404, {"error": "Endpoint not found"}), NO),
    "a page for a token": (ACTIVE, Said(200, HTML), NO),
    "an object for a token": (ACTIVE, Said(200, {"token": {}}), NO),
    "an empty token": (ACTIVE, Said(200, {"token": ""}), NO),
    "a token with a space": (ACTIVE, Said(200, {"token": "a b"}), NO),
    "a token with a line": (ACTIVE, Said(200, {"token": "a\n"}), NO),
    "a token of a megabyte": (ACTIVE, Said(200, {"token": "t" * 900_000}), NO),
    "a number for an answer": (ACTIVE, Said(200, "7"), NO),
    "null for an answer": (ACTIVE, Said(200, "null"), NO),
    "an error beside a token": (ACTIVE, Said(200, {"token": "a.b.c", "error": "no"}), NO),
    "nested too deep": (ACTIVE, Said(200, "[" * 200_000), NO),
    "longer than anybody reads": (ACTIVE, Said(200, '{"token": "' + "t" * 2_000_000 + '"}'), NO),
    "nothing": (ACTIVE, Said(204), NO),
    "unauthorised": (ACTIVE, Said(401, {"error": "Missing or invalid authorization header"}), YES),
    "forbidden": (ACTIVE, Said(403), YES),
    "bad request": (ACTIVE, Said(400), YES),
    "limited": (ACTIVE, LIMIT, YES),
    "down": (ACTIVE, Said(500), YES),
    "teapot": (ACTIVE, Said(418), YES),
    "guest limited": (NO, NO, LIMIT),
    "hangs": (NO, Said(0), YES),
}
SLOW = "hangs"

DATE = {"Date": formatdate(NOW - 3_600, usegmt=True)}
"""Of a server whose clock is an hour behind: its dates are to be read by it."""

AFTERS = {
    "seconds": "7",
    "zero": "0",
    "with a fraction": "1.5",
    "with spaces": "  12 ",
    "an hour and more": "86400",
    "negative": "-1",
    "a word": "soon",
    "hexadecimal": "0x10",
    "empty": "",
    "date": formatdate(NOW - 3_600 + 42, usegmt=True),
    "date of a day ago": formatdate(NOW - 90_000, usegmt=True),
    "date of RFC 850": time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(NOW - 3_600 + 42)),
    "date with an offset": formatdate(NOW - 3_600 + 42).replace("-0000", "+0000"),
    "date of ISO 8601": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW - 3_600 + 42)),
    "date without a zone": time.asctime(time.gmtime(NOW - 3_600 + 42)),
    "date that is none": "Sun, 31 Feb 2027 99:99:99 GMT",
    "a long text": "9" * 1_900,
}
LIMITS = {
    f"{status} {name}": Said(status, "", DATE | {"Retry-After": text})
    for status in (429, 503)
    for name, text in AFTERS.items()
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = installed_policy(tmp_path_factory.mktemp("answers") / "project", ONCE)
    (made.folder / "answered.mjs").write_text((CLIENT / "answered.mjs").read_text("utf-8"), "utf-8")
    return made


class Handler(BaseHTTPRequestHandler):
    """Answers by the room's name."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        room, _, tail = self.path.removeprefix("/api/v1/nests/").partition("/")
        step = {"info": 0, "": 1, "guest": 2}[tail]
        story = STORIES.get(unquote(room)) or (NO, LIMITS[unquote(room)], NO)
        said = story[step]
        if said.status == 0:
            time.sleep(ONCE.request_timeout_s + 1)
            self.close_connection = True
            return
        body = said.text.encode()
        self.send_response_only(said.status)
        for name, text in (DATE | said.headers).items():
            self.send_header(name, text)
        if said.status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body if said.status != 204 else b"")
        except OSError:  # it was not read to the end
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def found(project: Project) -> Iterator[dict[str, dict[str, Any]]]:
    """What join() said of each story, by its name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        words = {
            "api": f"http://127.0.0.1:{server.server_port}/api/v1/nests",
            "rooms": [name for name in (*STORIES, *LIMITS) if name != SLOW],
            "slow": SLOW,
            "createdAt": int(time.time()) - 20,
        }
        yield json.loads(project.run(need_node(), "answered.mjs", json.dumps(words)))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def by_flow(story: tuple[Said, Said, Said]) -> dict[str, Any]:
    """What join_flow says of it, its answers judged as those of a live join."""
    now = NOW * 1_000_000_000
    flow = join_flow("room", True, ONCE, arrived_at=now, rng=Drawn([0.5] * 9), nest=born(now - 20 * 1_000_000_000))
    steps = {Info: (story[0], Operation.INFO), Join: (story[1], Operation.JOIN), Guest: (story[2], Operation.GUEST)}
    reply = None
    try:
        while True:
            step = next(flow) if reply is None else flow.send(reply)
            now += 1_000_000
            if type(step) not in steps:
                reply = Reply(now, Outcome.VISIBLE, 101 if isinstance(step, Signal) else None)
                continue
            said, operation = steps[type(step)]
            if said.status == 0:
                reply = Reply(now, Outcome.UNKNOWN, None, Failure.TIMEOUT)
                continue
            headers = {name.lower(): text for name, text in (DATE | said.headers).items()}
            body = json_object(said.text) if len(said.text) < 1_000_000 else None  # nor does a live join read on
            judged = find(operation, Heard(said.status, headers, body, said.text)).judgement
            token = None if body is None else body.get("token")
            after = pause_s(said.status, headers, None)
            reply = Reply(now, judged.outcome, said.status, judged.failure, token=token, body=body, retry_after_s=after)
    except StopIteration as ended:
        verdict = ended.value
        return {
            "kind": verdict.kind,
            "message": verdict.message,
            "retryOffered": verdict.retry_offered,
            "requests": verdict.requests,
        }


@pytest.mark.parametrize("name", STORIES)
def test_an_answer_means_what_it_means_to_a_live_join(name, found):
    said = {part: found[name].get(part) for part in ("kind", "message", "retryOffered", "requests")}
    assert said == by_flow(STORIES[name]), found[name]


def test_the_stories_end_in_many_ways(found):
    kinds = {one["kind"] for name, one in found.items() if name in STORIES}
    assert kinds >= {Kind.AUTHENTICATED, Kind.GUEST_INSTEAD, Kind.STARTING_UP, Kind.API_FAULT, Kind.API_DOWN}
    assert kinds >= {Kind.BAD_TOKEN, Kind.UNAUTHORISED, Kind.FORBIDDEN, Kind.RATE_LIMITED}


@pytest.mark.parametrize("name", LIMITS)
def test_retry_after_is_read_as_it_is_by_a_live_join(name, found):
    said = LIMITS[name]
    headers = {one.lower(): text for one, text in said.headers.items()}
    assert found[name]["after"][1] == pause_s(said.status, headers, None)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"room": ""}, "TypeError: join: room"),
            ({"room": "."}, "TypeError: join: room"),
            ({"room": ".."}, "TypeError: join: room"),
            ({"room": 7}, "TypeError: join: room"),
            ({"room": "\ud800"}, "URIError"),
            ({"api": "nests"}, "TypeError"),
            ({"api": "ftp://nests.example/api"}, "TypeError: join: api"),
            ({"api": "javascript:alert(1)"}, "TypeError: join: api"),
            ({"createdAt": "now"}, "TypeError: join: createdAt"),
        ],
        ids=["no room", "dot", "dots", "number", "half a pair", "no address", "ftp", "script", "words"],
    )
    def test_what_is_none_is_refused_before_anything_is_asked(self, options, told, project):
        said = project.script(
            f"""
            import {{ join }} from "nest-join";
            const fetch = () => {{ throw new Error("asked"); }};
            const given = {{ api: "http://127.0.0.1:9/", room: "room", fetch, ...{json.dumps(options)} }};
            await join(given).then(console.log, (error) => console.log(`${{error.name}}: ${{error.message}}`));
            """
        )
        assert said.startswith(told)

    @pytest.mark.parametrize(
        ("sign", "told"),
        [
            ("() => { throw new Error('she said no'); }", "Error: she said no"),
            ("() => ({ kind: 27235 })", "TypeError: join: sign gives the text"),
            ("() => new Promise(() => setTimeout(() => controller.abort(new Error('enough'))))", "Error: enough"),
        ],
        ids=["refuses", "no text", "never answers"],
    )
    def test_what_a_signer_does_comes_to_whoever_called(self, sign, told, project):
        said = project.script(
            f"""
            import {{ join }} from "nest-join";
            const controller = new AbortController();
            const fetch = async () => new Response('{{"error": "Nest not found"}}', {{ status: 404 }});
            await join({{
              api: "http://127.0.0.1:9/api", room: "r", fetch, signal: controller.signal, sign: {sign},
            }}).then(console.log, (error) => console.log(`${{error.name}}: ${{error.message}}`));
            """
        )
        assert said.startswith(told)

    @pytest.mark.parametrize("room", ["a/b", "a?b#c", "%2e%2e", "\u202e<b>", "a b", "é", "\\..\\"])
    def test_a_room_stays_one_part_of_the_path(self, room, project):
        said = project.script(
            f"""
            import {{ join }} from "nest-join";
            const asked = [];
            const fetch = async (url) => [asked.push(new URL(url).pathname), new Response("", {{ status: 403 }})][1];
            const sign = () => "";
            await join({{ api: "http://127.0.0.1:9/api/", room: {json.dumps(room)}, fetch, sign }});
            console.log(JSON.stringify(asked));
            """
        )
        paths = json.loads(said)
        assert [[unquote(part) for part in path.split("/")] for path in paths] == [
            ["", "api", room, "info"],
            ["", "api", room],
        ]

    def test_a_header_of_nip98_is_the_signed_event(self, project):
        said = project.script(
            """
            import { nip98 } from "nest-join";
            const sign = nip98(async (event) => ({ ...event, sig: "\\u00e9" }));
            console.log(await sign({ url: "http://h/é", method: "GET" }));
            """
        )
        scheme, _, text = said.strip().partition(" ")
        event = json.loads(base64.b64decode(text, validate=True))
        assert scheme == "Nostr"
        assert abs(event.pop("created_at") - time.time()) < 100
        assert event == {
            "kind": 27235,
            "content": "",
            "tags": [["u", "http://h/é"], ["method", "GET"]],
            "sig": "é",
        }
