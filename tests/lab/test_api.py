"""The lab's Nests API against the contract of implementation E."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time

import httpx
import jwt
import pytest

from nestobs import nostr
from nestobs.lab.api.http_auth import NotAuthorized, check_http_auth

UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def claims(token):
    return jwt.decode(token, options={"verify_signature": False})


async def test_put_makes_a_room_and_answers_id_endpoint_and_host_token(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        answer = await host.call("PUT", body={"relays": ["wss://relay.example"], "hls_stream": "https://h.example/x"})
        made = answer.json()
        assert answer.status_code == 200
        assert re.fullmatch(UUID4, made["roomId"])
        port = lab.livekit_proxy["made"].port
        assert made["endpoints"] == [f"wss+livekit://127.0.0.1:{port}", "https://h.example/x"]
        assert claims(made["token"])["video"]["roomAdmin"] is True
        assert claims(made["token"])["sub"] == host.keys.public
        assert await lab.rooms() == lab.nests() == [made["roomId"]]


async def test_join_guest_and_info_of_a_nest_that_is_up(open_lab, scenario):
    async with open_lab(scenario()) as (_, host):
        room = await host.create()
        joined = await host.call("GET", f"/{room}")
        guest = await host.http.get(f"{host.base}/{room}/guest")
        answer = await host.http.get(f"{host.base}/{room}/info")
        assert answer.headers["Server"].startswith("nestobs-lab/"), "it does not pass for a deployment"
        info = answer.json()
        assert claims(joined.json()["token"])["video"]["room"] == room
        video = claims(guest.json()["token"])["video"]
        assert (guest.status_code, video["canPublish"], video["roomJoin"]) == (200, False, True)
        assert re.fullmatch(f"guest-{UUID4}", claims(guest.json()["token"])["sub"])
        assert info["host"] == host.keys.public
        assert info["speakers"] == info["admins"] == [host.keys.public]
        assert (info["status"], info["participantCount"], info["recording"]) == ("active", 0, False)
        assert abs(info["createdAt"] / 1000 - time.time()) < 30
        address = nostr.read_naddr(info["link"])
        assert (str(address), address.relays) == (f"30312:{host.keys.public}:{room}", ("wss://relay.example",))


async def test_which_404_it_is(open_lab, scenario, until):
    async with open_lab(scenario()) as (lab, host):
        room = await host.create()
        await lab.world.rooms.delete(room)
        await until(lambda: not lab.api["made"].nests[room].room_sid)  # LiveKit's webhook says so
        bodies = {}
        for name, path in {"join": f"/{room}", "none": "/no-such-room", "deep": f"/{room}/a/b"}.items():
            answer = await host.call("GET", path)
            bodies[name] = (answer.status_code, answer.json()["error"])
        for name, path in {"guest": f"/{room}/guest", "noguest": "/nope/guest", "noinfo": "/nope/info"}.items():
            answer = await host.http.get(host.base + path)
            bodies[name] = (answer.status_code, answer.json()["error"])
        assert bodies == {
            "join": (404, "Nest is no longer active"),
            "guest": (404, "Nest not found or no longer active"),
            "none": (404, "Nest not found"),
            "noguest": (404, "Nest not found"),
            "noinfo": (404, "Nest not found"),
            "deep": (404, "Endpoint not found"),
        }


@pytest.mark.parametrize("path", ["/", "/api/v1/nest", "/api/v1/nests", "/api/v1/health"])
async def test_unknown_paths(open_lab, scenario, path):
    async with open_lab(scenario()) as (_, host):
        answer = await host.http.get(host.base.removesuffix("/api/v1/nests") + path)
        assert (answer.status_code, answer.json()) == (404, {"error": "Endpoint not found"})


async def test_health_and_the_headers_every_answer_has(open_lab, scenario):
    async with open_lab(scenario()) as (_, host):
        answer = await host.http.get(host.base.removesuffix("/api/v1/nests") + "/health")
        assert answer.json()["status"] == "ok"
        assert set(answer.json()) == {"status", "timestamp", "version"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer.json()["timestamp"])
        assert answer.headers["RateLimit-Policy"] == "1000000;w=900"
        assert answer.headers["RateLimit-Remaining"] == "999999"
        assert int(answer.headers["RateLimit-Reset"]) <= 900
        assert answer.headers["ETag"].startswith('W/"')
        assert "GMT" in answer.headers["Date"]
        assert "Cache-Control" not in answer.headers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"relays":[]}',
        b'{"relays":["http://a.example"]}',
        b'{"relays":"wss://a.example"}',
        json.dumps({"relays": ["wss://a.example"] * 11}).encode(),
        b'{"relays":["wss://"]}',
        b'{"relays":[1]}',
    ],
)
async def test_a_bad_body_is_400(open_lab, scenario, body):
    async with open_lab(scenario()) as (_, host):
        auth = nostr.http_auth(host.keys, url=host.base, method="PUT", created_at=int(time.time()), body=body)
        answer = await host.http.put(host.base, content=body, headers={"Authorization": auth})
        assert answer.status_code == 400
        assert "relays" in answer.json()["error"]


async def test_only_the_host_may_delete_and_only_once(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        room = await host.create()
        stranger = type(host)(host.base, host.http)
        assert (await stranger.call("DELETE", f"/{room}")).status_code == 403
        gone = await host.call("DELETE", f"/{room}")
        assert (gone.status_code, gone.content) == (204, b"")
        assert (await host.call("DELETE", f"/{room}")).status_code == 404
        assert (await host.http.get(f"{host.base}/{room}/info")).json() == {"error": "Nest not found"}
        assert await lab.rooms() == lab.nests() == []


async def test_a_host_can_delete_what_no_route_shows_yet(open_lab, scenario):
    async with open_lab(scenario('[api]\nrecord = {kind="constant", s=60}')) as (lab, host):
        room = await host.create()
        assert (await host.call("GET", f"/{room}")).json() == {"error": "Nest not found"}
        assert (await host.call("DELETE", f"/{room}")).status_code == 204
        rows = [(row["layer"], row["change"], row["planned_delay_s"]) for row in lab.truth()]
        assert ("api:join", "never", 60.0) in rows


async def test_permissions(open_lab, scenario):
    async with open_lab(scenario()) as (_, host):
        room = await host.create()
        speaker = type(host)(host.base, host.http)
        ask = {"participant": speaker.keys.public, "can_publish": True}
        assert claims((await speaker.call("GET", f"/{room}")).json()["token"])["video"]["canPublish"] is False
        assert (await speaker.call("POST", f"/{room}/permissions", ask)).status_code == 403
        assert (await host.call("POST", f"/{room}/permissions", {"participant": "x"})).status_code == 400
        assert (await host.call("POST", f"/{room}/permissions", ask)).status_code == 201
        assert (await host.call("POST", f"/{room}/permissions", ask)).status_code == 204
        assert (await host.call("POST", "/nope/permissions", ask)).status_code == 404
        assert claims((await speaker.call("GET", f"/{room}")).json()["token"])["video"]["canPublish"] is True


async def test_restart_as_released_restarts_nothing(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        room = await host.create()
        before = lab.api["made"].nests[room].room_sid
        answer = await host.call("POST", f"/{room}/restart")
        assert (answer.status_code, answer.json()["roomId"]) == (200, room)
        assert lab.api["made"].nests[room].room_sid == before
        assert (await type(host)(host.base, host.http).call("POST", f"/{room}/restart")).status_code == 403
        assert (await host.call("POST", "/nope/restart")).status_code == 404


async def test_restart_as_meant_makes_another_room(open_lab, scenario, monkeypatch):
    monkeypatch.setattr("nestobs.lab.api.server.RESTART_PAUSE_S", 0.05)
    async with open_lab(scenario("[api]\nrestart_deletes = true")) as (lab, host):
        room = await host.create()
        before = lab.api["made"].nests[room].room_sid
        assert (await host.call("POST", f"/{room}/restart")).status_code == 200
        assert lab.api["made"].nests[room].room_sid not in ("", before)
        changes = [row["change"] for row in lab.truth() if row["layer"] == "livekit:room"]
        assert changes == ["shown", "gone", "shown"]


@pytest.mark.parametrize("auth", [None, "", "Bearer x", "Nostr ###", "Nostr " + base64.b64encode(b"{}").decode()])
async def test_no_or_bad_authorization(open_lab, scenario, auth):
    async with open_lab(scenario()) as (_, host):
        headers = {} if auth is None else {"Authorization": auth}
        answer = await host.http.get(f"{host.base}/some-room", headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"error": "Missing or invalid authorization header"})


class TestHttpAuth:
    """Each refusal of NIP-98 by itself; the time is given, nothing listens."""

    now = 1_700_000_000
    url = "https://elsewhere.example/api/v1/nests/room"
    keys = nostr.Keys.generate()

    def header(self, kind=27235, created_at=now, **changed):
        tags = {"u": self.url, "method": "GET", **changed}
        event = self.keys.sign(kind, created_at=created_at, tags=[(name, cell) for name, cell in tags.items() if cell])
        return self.encoded(event.as_dict())

    def encoded(self, value):
        return "Nostr " + base64.b64encode(json.dumps(value).encode()).decode()

    def check(self, header, body=b"", path="/api/v1/nests/room", **options):
        return check_http_auth(header, method="GET", path=path, body=body, now_s=self.now + 0.9, **options)

    def test_only_the_path_of_the_url_counts(self):
        assert self.check(self.header()) == self.keys.public

    @pytest.mark.parametrize(
        ("made", "reason"),
        [
            ({"kind": 1}, "kind 1"),
            ({"method": "PUT"}, "method"),
            ({"method": None}, "method"),
            ({"u": "https://elsewhere.example/api/v1/nests/other"}, "path"),
            ({"u": None}, "path"),
            ({"created_at": now - 61}, "created_at"),
            ({"created_at": now + 62}, "created_at"),
        ],
    )
    def test_refusals(self, made, reason):
        with pytest.raises(NotAuthorized, match=reason):
            self.check(self.header(**made))

    def test_a_minute_either_way_is_allowed(self):
        assert self.check(self.header(created_at=self.now - 59))
        assert self.check(self.header(created_at=self.now + 60))

    def test_a_false_signature(self):
        value = json.loads(base64.b64decode(self.header()[6:]))
        value["created_at"] -= 1
        with pytest.raises(NotAuthorized):
            self.check(self.encoded(value))

    def test_the_payload(self):
        body = b'{"relays":[]}'
        assert self.check(self.header(payload=hashlib.sha256(body).hexdigest()), body)
        assert self.check(self.header(), body)
        with pytest.raises(NotAuthorized, match="another body"):
            self.check(self.header(payload="0" * 64), body)
        with pytest.raises(NotAuthorized, match="no payload tag"):
            self.check(self.header(), body, require_payload=True)


async def test_the_rate_limit_counts_every_route_and_says_when_to_come_back(open_lab):
    async with open_lab("rate-limited") as (_, host):
        health = host.base.removesuffix("/api/v1/nests") + "/health"
        answers = [await host.http.get(health if turn % 2 else f"{host.base}/x/info") for turn in range(101)]
        assert [answer.status_code for answer in answers[:100]] == [404, 200] * 50
        assert answers[0].headers["RateLimit-Policy"] == "100;w=900"
        assert answers[99].headers["RateLimit-Remaining"] == "0"
        assert answers[100].status_code == 429
        assert 0 < int(answers[100].headers["Retry-After"]) <= 900


async def test_faults_can_be_set_while_it_runs(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        room = await host.create()
        fault = lab.api["made"].fault
        fault.token = "object"
        assert (await host.http.get(f"{host.base}/{room}/guest")).json() == {"token": {}}
        fault.join = "404"
        assert (await host.http.get(f"{host.base}/{room}/guest")).json() == {"error": "Nest not found"}
        fault.server_error_s = 60
        assert (await host.http.get(f"{host.base}/{room}/info")).status_code == 500
        fault.status = 503
        assert (await host.http.get(f"{host.base}/{room}/info")).status_code == 503
        fault.status, fault.answer_delay_s = None, 5
        with pytest.raises(httpx.ReadTimeout):
            await host.http.get(f"{host.base}/{room}/info", timeout=0.1)


async def test_the_join_fault_lasts_for_ever(open_lab):
    async with open_lab("api-join-fault", delay_scale=0) as (lab, host):
        room = await host.create()
        assert (await host.http.get(f"{host.base}/{room}/info")).json()["status"] == "active"
        assert await lab.rooms() == [room]
        assert (await host.call("GET", f"/{room}")).json() == {"error": "Nest not found"}
        never = {row["layer"] for row in lab.truth() if row["change"] == "never"}
        assert never == {"api:join", "api:guest"}


async def test_a_cached_404_outlives_the_record_and_says_so(open_lab, scenario):
    slow = scenario('[api]\nrecord = {kind="constant", s=0.2}\ncache_404_s = 60')
    async with open_lab(slow) as (lab, host):
        room = await host.create()
        first = await host.http.get(f"{host.base}/{room}/info")
        while not lab.api["made"].nests[room].shows("info", 0):
            await host.http.get(f"{host.base}/{room}/info")
        later = await host.http.get(f"{host.base}/{room}/info")
        assert (first.status_code, first.headers.get("X-Cache")) == (404, None)
        assert (later.status_code, later.headers["X-Cache"], later.headers["Age"]) == (404, "HIT", "0")


async def test_replicas_flap(open_lab, scenario):
    parts = '[{weight=1, kind="never"}, {weight=1, kind="constant", s=0}]'
    text = f'[api]\nreplicas = 2\ninfo = {{kind="mixture", parts={parts}}}'
    async with open_lab(scenario(text), seed=3) as (lab, host):
        rooms = [await host.create() for _ in range(8)]
        seen = {
            room: {(await host.http.get(f"{host.base}/{room}/info")).status_code for _ in range(4)} for room in rooms
        }
        assert {200, 404} in seen.values()
        never = {row["room"] for row in lab.truth() if row["layer"] == "api:info" and row["change"] == "never"}
        assert never == {room for room, codes in seen.items() if 404 in codes}


async def test_a_skewed_server_says_and_judges_by_its_own_clock(open_lab, scenario):
    async with open_lab(scenario("[api]\ndate_skew_s = 300")) as (_, host):
        from email.utils import parsedate_to_datetime

        answer = await host.call("GET", "/x")
        assert 295 < parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time() < 305
        assert answer.status_code == 401
        assert "created_at" in answer.headers["X-Lab-Reason"]
