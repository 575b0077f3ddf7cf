"""The webhook receiver against a real HTTP client and bodies signed the way LiveKit signs them."""

from __future__ import annotations

import asyncio
import base64
import datetime
import gzip
import hashlib
import json
import re
import time
from urllib.parse import urlsplit

import aiohttp
import jwt
import pytest
from livekit import api

from nestobs.errors import StoreFullError, UsageError
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Source
from nestobs.sources.vantage import Trace, Vantage
from nestobs.sources.webhook import BODY_BYTES, Webhooks

KEY, SECRET = "devkey", "a-secret-of-more-than-thirty-two-bytes"


def body(event="room_started", event_id="EV_1", room="nest-1", created_at=1_700_000_000, **more):
    return json.dumps(
        {"event": event, "id": event_id, "room": {"name": room, "sid": "RM_1"}, "createdAt": created_at, **more}
    )


def signed(text, secret=SECRET, ttl=60):
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    token = api.AccessToken(KEY, secret).with_sha256(digest).with_ttl(datetime.timedelta(seconds=ttl))
    return {"Authorization": token.to_jwt(), "Content-Type": "application/webhook+json"}


class Post:
    """A receiver's rows and events, and one real client to send with."""

    def __init__(self, **options):
        self.rows: list[Observation] = []
        self.events: list[tuple[str, str]] = []
        self.hooks = Webhooks(
            Vantage("A", "run", self.rows.append),
            api_key=KEY,
            api_secret=SECRET,
            **{
                "trace_of": lambda room: Trace(f"trace of {room}", "30312:p:" + room, room),
                "on_event": lambda event, room, at: self.events.append((event, room)),
                **options,
            },
        )

    async def __aenter__(self):
        await self.hooks.__aenter__()
        self.client = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *error):
        await self.client.close()
        await self.hooks.__aexit__(*error)

    async def send(self, text, headers=None):
        async with self.client.post(self.hooks.url, data=text, headers=headers or signed(text)) as answer:
            return answer.status


async def test_a_signed_webhook_is_an_accepted_row_and_no_layer():
    async with Post() as post:
        who = {"sid": "PA_1", "identity": "guest-0123456789abcdef"}
        assert await post.send(body("participant_joined", participant=who)) == 200
    [row] = post.rows
    assert (row.source, row.operation, row.outcome) == (Source.WEBHOOK, Operation.RECEIVE, Outcome.ACCEPTED)
    assert (row.trace_id, row.room, row.target) == ("trace of nest-1", "nest-1", post.hooks.url)
    assert (row.remote_at, row.remote_grain_s) == (1_700_000_000_000_000_000, 1.0)
    assert row.sent_at <= row.received_at
    assert json.loads(row.detail) == {
        "event": "participant_joined",
        "event_id": "EV_1",
        "room_sid": "RM_1",
        "participant_sid": "PA_1",
        "identity": "guest-012345…",
    }
    assert row.layer == ""
    assert post.events == [("participant_joined", "nest-1")]


async def test_room_finished_is_accepted_too_since_webhooks_prove_no_absence():
    async with Post() as post:
        await post.send(body("room_finished"))
    assert [row.outcome for row in post.rows] == [Outcome.ACCEPTED]


async def test_the_same_event_id_twice_is_one_row():
    async with Post() as post:
        assert [await post.send(body()), await post.send(body())] == [200, 200]
    assert len(post.rows) == len(post.events) == 1


async def test_events_out_of_order_stand_in_the_order_of_receipt():
    async with Post() as post:
        await post.send(body("room_finished", "EV_2", created_at=1_700_000_009))
        await post.send(body("room_started", "EV_1", created_at=1_700_000_001))
    assert [event for event, _ in post.events] == ["room_finished", "room_started"]
    assert [row.received_at for row in post.rows] == sorted(row.received_at for row in post.rows)
    assert post.rows[0].remote_at > post.rows[1].remote_at


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(lambda text: signed(text, secret="another-secret-of-more-than-thirty-two"), id="another secret"),
        pytest.param(lambda text: signed(text + " "), id="another body's hash"),
        pytest.param(lambda text: signed(text, ttl=-3600), id="expired"),
        pytest.param(lambda text: {"Authorization": "not a token"}, id="no token"),
        pytest.param(lambda text: {"X-None": ""}, id="no header"),
        pytest.param(lambda text: {"Authorization": api.AccessToken(KEY, SECRET).to_jwt()}, id="no hash in the token"),
    ],
)
async def test_a_bad_signature_is_refused_and_nothing_of_the_body_kept(headers):
    text = body(room="hostile-room", event_id="hostile-id")
    async with Post() as post:
        assert await post.send(text, headers(text)) == 401
    [row] = post.rows
    assert (row.outcome, row.failure, row.status) == (Outcome.REFUSED, Failure.BAD_SIGNATURE, 401)
    assert "hostile" not in repr(row)
    assert post.events == []


def stamped(text, **claims):
    """Headers with a token of these claims; numbers are seconds from now."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    now = int(time.time())
    claims = {"iss": KEY, "nbf": -5, "exp": 300, "sha256": digest} | claims
    dated = {name: now + value if isinstance(value, int) else value for name, value in claims.items()}
    return {"Authorization": jwt.encode({name: value for name, value in dated.items() if value is not None}, SECRET)}


WHY = {
    "a clock half an hour ahead": ({"nbf": 1_800, "exp": 3_600}, r"ahead of ours by 1[78]\d\d s"),
    "a clock ten years ahead": ({"nbf": 315_360_000, "exp": 315_360_600}, "ahead of ours by 3153"),
    "one that ran out": ({"exp": -3_000}, r"ran out 30\d\d s ago"),
    "another key": ({"iss": "APIother"}, "another API key"),
    "no hash": ({"sha256": None}, "sha256 was not found"),
    "another hash": ({"sha256": "AAAA"}, "hash mismatch"),
    "no end": ({"exp": None}, "MissingRequiredClaimError"),
    "stamps of hundreds of digits": ({"nbf": 10**400, "exp": -(10**4_299)}, "ahead of ours by some time"),
    "stamps that are none": ({"nbf": "soon"}, "cannot be read|does not hold"),
}


@pytest.mark.parametrize("case", WHY)
async def test_why_a_webhook_does_not_count_is_said(case):
    claims, words = WHY[case]
    text = body(room="hostile-room")
    async with Post() as post:
        assert await post.send(text, stamped(text, **claims)) == 401
    assert re.search(words, post.rows[0].reason)
    assert "hostile" not in repr(post.rows[0])


async def test_what_is_no_http_is_not_repeated_on_stderr(caplog, capsys):
    async with Post() as post:
        url = urlsplit(post.hooks.url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(b"POST /webhook HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hostile\x00\r\n\r\n")
        assert b"400" in await reader.readline()
        writer.close()
    assert "hostile" not in caplog.text + capsys.readouterr().err


async def test_a_packed_body_is_not_unpacked():
    """A few kilobytes of it could be gigabytes."""
    bomb = gzip.compress(gzip.compress(b"\0" * 50_000_000))
    async with Post() as post:
        headers = {**signed("x"), "Content-Encoding": "gzip"}
        assert await post.send(bomb, headers) == 401
    assert post.rows[0].failure is Failure.BAD_SIGNATURE


async def test_a_body_that_is_not_text_is_a_bad_signature():
    async with Post() as post:
        assert await post.send(b"\xff\xfe\x00", signed("x")) == 401


async def test_a_signed_body_that_is_no_webhook_is_refused():
    async with Post() as post:
        assert await post.send("[1, 2]") == 400
    assert [(row.outcome, row.failure) for row in post.rows] == [(Outcome.REFUSED, Failure.UNEXPECTED)]


@pytest.mark.parametrize(("size", "status"), [(BODY_BYTES - 200, 200), (BODY_BYTES + 1, 413)])
async def test_a_body_is_bounded(size, status):
    text = body(room="r" * (size - len(body(room=""))))
    async with Post() as post:
        assert await post.send(text) == status
    assert post.rows[0].outcome is (Outcome.ACCEPTED if status == 200 else Outcome.REFUSED)


async def test_an_event_about_no_room_has_no_trace_and_an_unknown_field_is_no_harm():
    text = json.dumps({"event": "brand_new_event", "id": "EV_9", "neverSeen": {"x": 1}})
    async with Post() as post:
        assert await post.send(text) == 200
    [row] = post.rows
    assert (row.trace_id, row.room, row.remote_at) == ("", "", None)
    assert post.events == [("brand_new_event", "")]


async def test_a_callback_that_fails_is_a_probe_error_and_the_webhook_still_counts():
    def fails(*given):
        raise KeyError("nobody knows this room")

    async with Post(trace_of=fails, on_event=fails) as post:
        assert await post.send(body()) == 200
        assert await post.send(body()) == 200
    assert [row.outcome for row in post.rows] == [Outcome.PROBE_ERROR, Outcome.ACCEPTED, Outcome.PROBE_ERROR]
    assert post.rows[1].room == "nest-1"


async def test_a_full_disk_is_answered_500_and_raised_on_leaving():
    post = Post()

    def full(row):
        raise StoreFullError("the disk is full: free some space")

    post.hooks._vantage.sink = full
    with pytest.raises(StoreFullError):
        async with post:
            assert await post.send(body()) == 500


async def test_other_paths_and_methods_are_no_rows():
    async with Post() as post, post.client.get(post.hooks.url) as got, post.client.post(post.hooks.url + "x") as other:
        assert (got.status, other.status) == (405, 404)
    assert post.rows == []


async def test_a_port_in_use_is_the_operators_mistake_with_its_remedy():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with server:
        with pytest.raises(UsageError, match="free"):
            await Post(port=server.sockets[0].getsockname()[1]).hooks.__aenter__()


async def test_missing_key_or_secret_is_a_mistake_and_is_not_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    with pytest.raises(UsageError, match="secret"):
        Webhooks(Vantage("A", "run", print), api_key=KEY, api_secret="", trace_of=lambda room: Trace())
