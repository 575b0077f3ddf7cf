"""The Nests API as a source: against the lab's API behind a faulty network, and small servers that answer oddly."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import socket
import time
from contextlib import asynccontextmanager
from email.utils import formatdate

import httpx
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from nestobs import nostr
from nestobs.errors import UsageError
from nestobs.join.budget import Limiter
from nestobs.lab import ProxyMode
from nestobs.nostr import Keys
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Role
from nestobs.sources.api import Api, judge
from nestobs.sources.clock import Clock
from nestobs.sources.vantage import NO_TRACE, Trace, Vantage
from worlds.served_api import nests_url

pytestmark = pytest.mark.slow

S = 1_000_000_000
RELAYS = ("wss://relay.example",)
OPERATIONS = [Operation.INFO, Operation.JOIN, Operation.GUEST]


def saying(*args, **options):
    async def handler(request):
        return web.Response(*args, **options)

    return handler


@pytest.fixture
def open_api(vantage):
    """`async with open_api(url) as api`."""

    @asynccontextmanager
    async def opened(url, limiter=None, vantage=vantage, **options):
        async with Api(vantage, url, limiter or Limiter(100_000), **options) as api:
            yield api

    return opened


@pytest.fixture
def answered_by(open_api, serving):
    """`async with answered_by(handler) as api`: an API whose answers the handler makes."""

    @asynccontextmanager
    async def opened(handler, **options):
        async with serving(handler) as port, open_api(nests_url(port), **options) as api:
            yield api

    return opened


@pytest.fixture
def on_lab(open_lab, open_api, scenario, target_of):
    """`async with on_lab(toml) as (lab, api, keys)`: the lab's API through its proxy, and a host's keys."""

    @asynccontextmanager
    async def opened(toml="", **options):
        async with open_lab(scenario(toml), relays=1) as lab, open_api(target_of(lab).api, **options) as api:
            yield lab, api, Keys.generate()

    return opened


async def made(api, keys):
    """A room of ours."""
    answer = await api.create(NO_TRACE, keys, RELAYS, role=Role.HOST)
    assert answer.row.outcome is Outcome.ACCEPTED
    return Trace("trace", f"30312:{keys.public}:{answer.body['roomId']}", answer.body["roomId"])


async def ask(api, operation, trace, keys, **options):
    match operation:
        case Operation.JOIN:
            return await api.join(trace, keys, **options)
        case Operation.INFO:
            return await api.info(trace, **options)
    return await api.guest(trace, **options)


# A calm API


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_nest_is_absent_then_visible_then_absent_again(on_lab, operation):
    async with on_lab() as (_, api, keys):
        nowhere = await ask(api, operation, Trace(room="nowhere"), keys)
        trace = await made(api, keys)
        there = await ask(api, operation, trace, keys)
        await api.delete(trace, keys)
        gone = await ask(api, operation, trace, keys)
    seen = [(a.row.outcome, a.row.status, a.row.failure) for a in (nowhere, there, gone)]
    absent = (Outcome.ABSENT, 404, Failure.NOT_FOUND)
    assert seen == [absent, (Outcome.VISIBLE, 200, None), absent]
    assert (nowhere.row.reason, nowhere.row.failure_layer) == ("Nest not found", FailureLayer.API)
    assert nowhere.row.layer == f"api:{operation}"


async def test_a_row_holds_what_was_asked_when_and_what_came(on_lab):
    async with on_lab() as (_, api, keys):
        trace = await made(api, keys)
        row = (await api.info(trace, planned_at=5, role=Role.GUEST, timeout_s=3.0, attempt_group="g", attempt_no=2)).row
    assert (row.trace_id, row.nest, row.room) == (trace.trace_id, trace.nest, trace.room)
    assert (row.target, row.operation, row.role) == (api.url, Operation.INFO, Role.GUEST)
    assert (row.planned_at, row.timeout_s, row.attempt_group, row.attempt_no) == (5, 3.0, "g", 2)
    assert row.sent_at < row.received_at
    assert (row.remote_grain_s, row.remote_at % S) == (1.0, 0)
    assert abs(row.remote_at - row.received_at) < 5 * S
    facts = json.loads(row.detail)
    assert facts["info"]["host"] == keys.public
    assert facts["info"]["status"] == "active"
    assert set(facts["info"]) <= {"host", "status", "createdAt", "participantCount", "recording", "link"}


async def test_phases_tell_a_new_connection_from_a_reused_one(on_lab):
    async with on_lab() as (_, api, _):
        first, second = [(await api.health()).row for _ in range(2)]
    assert (first.connection_reused, second.connection_reused) == (False, True)
    assert set(json.loads(first.detail)["phases"]) == {"tcp_s", "send_s", "wait_s", "body_s"}
    assert set(json.loads(second.detail)["phases"]) == {"send_s", "wait_s", "body_s"}
    assert all(span >= 0 for span in json.loads(first.detail)["phases"].values())


async def test_health_is_asked_beside_the_api_and_is_no_layer(on_lab):
    async with on_lab() as (_, api, _):
        row = (await api.health()).row
    assert (row.outcome, row.status, row.layer) == (Outcome.ACCEPTED, 200, "")


async def test_rate_limit_headers_are_kept_and_heeded(on_lab):
    limiter = Limiter()
    async with on_lab("[rate_limit]\nrequests = 10\nwindow_s = 100", limiter=limiter) as (_, api, _):
        row = (await api.health()).row
        facts = json.loads(row.detail)
        assert (facts["policy"], facts["remaining"], facts["reset"]) == ("10;w=100", "9", "100")
        assert limiter.announced == 10
        refused = None
        for _ in range(20):
            answer = await api.info(Trace(room="x"))
            refused = answer.row if answer.row.failure is Failure.BUDGET else refused
    assert (refused.outcome, refused.failure_layer, refused.status) == (
        Outcome.PROBE_ERROR,
        FailureLayer.PROBER,
        None,
    )
    assert "budget" in refused.reason


async def test_a_429_is_refused_and_says_how_long_to_wait(on_lab):
    async with on_lab("[rate_limit]\nrequests = 1\nwindow_s = 100", limiter=Limiter(1_000)) as (_, api, _):
        async with httpx.AsyncClient() as other:
            await other.get(api.url)  # somebody behind the same address used it up
        answer = await api.guest(Trace(room="x"))
        after = await api.guest(Trace(room="x"))
    assert (answer.row.outcome, answer.row.status, answer.row.failure) == (
        Outcome.REFUSED,
        429,
        Failure.RATE_LIMITED,
    )
    assert answer.retry_after_s == 100.0
    assert after.row.failure is Failure.BUDGET
    assert "the server asked for a pause until" in after.row.reason
    assert 0 < after.retry_after_s <= 100.0


async def test_a_503_that_says_when_is_left_alone_until_then(answered_by):
    asked = []

    async def handler(request):
        asked.append(request.path)
        return web.Response(status=503, headers={"Retry-After": "40"})

    async with answered_by(handler) as api:
        first, second = [await api.guest(Trace(room="x")) for _ in range(2)]
    assert (first.row.failure, first.retry_after_s) == (Failure.SERVER_ERROR, 40.0)
    assert (second.row.outcome, second.row.failure) == (Outcome.PROBE_ERROR, Failure.BUDGET)
    assert len(asked) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_of_decades_is_an_hour_and_the_row_says_so(answered_by, status):
    async with answered_by(saying(status=status, headers={"Retry-After": "1000000000"})) as api:
        answer = await api.guest(Trace(room="x"))
    assert answer.retry_after_s == 3_600.0
    assert answer.row.reason.endswith("its Retry-After of 1e+09 s is taken as 3600 s")
    assert json.loads(answer.row.detail)["retry-after"] == "3600"


async def test_a_request_waits_for_its_turn_in_a_burst(answered_by, rows):
    said = {"RateLimit-Policy": "2;w=1", "Content-Type": "application/json"}
    async with answered_by(saying(status=404, text='{"error":"Nest not found"}', headers=said)) as api:
        for _ in range(4):
            await api.guest(Trace(room="x"))
    assert [row.status for row in rows] == [404] * 4
    sent = [row.sent_at for row in rows]  # of the first nothing was known yet
    assert all(after - before >= 0.9 * S for before, after in itertools.pairwise(sent[1:]))


async def test_a_spent_budget_asks_nothing_and_intends_nothing(on_lab, rows):
    async with on_lab(limiter=Limiter(0)) as (lab, api, keys):
        answer = await api.create(NO_TRACE, keys, RELAYS)
        assert lab.nests() == []
    assert [row.failure for row in rows] == [Failure.BUDGET]
    assert answer.body is None


# Deeds


async def test_what_changes_the_world_is_written_and_safe_before_it_is_done(on_lab, rows):
    safe = []

    async def committed():
        safe.append((rows[-1].operation, rows[-1].failure, len(lab.nests())))
        return True

    async with on_lab(vantage=Vantage("A", "run", rows.append, committed=committed)) as (lab, api, keys):
        trace = await made(api, keys)
        await api.restart(trace, keys)
        await api.delete(trace, keys)
    intended = Failure.INTENT
    assert safe == [(Operation.CREATE, intended, 0), (Operation.RESTART, intended, 1), (Operation.DELETE, intended, 1)]
    for intent, result in zip(rows[::2], rows[1::2], strict=True):
        assert (intent.attempt_group, intent.attempt_no) == (result.attempt_group, result.attempt_no)
        assert (intent.received_at, intent.outcome) == (None, Outcome.UNKNOWN)
        assert result.outcome is Outcome.ACCEPTED
        assert intent.sent_at <= result.sent_at


async def test_what_cannot_be_noted_is_not_made_and_what_was_made_still_goes(on_lab, rows):
    safe = True

    async def committed():
        return safe

    async with on_lab(vantage=Vantage("A", "run", rows.append, committed=committed)) as (lab, api, keys):
        trace = await made(api, keys)
        safe = False
        unasked = [(await api.create(NO_TRACE, keys, RELAYS)).row, (await api.restart(trace, keys)).row]
        assert lab.nests() == [trace.room]
        assert (await api.delete(trace, keys)).row.outcome is Outcome.ACCEPTED
        assert lab.nests() == []
        assert {row["room"] for row in lab.truth()} == {trace.room}
    assert {(row.outcome, row.failure, row.status) for row in unasked} == {(Outcome.PROBE_ERROR, Failure.SKIPPED, None)}


async def test_questions_have_no_intent(on_lab, rows):
    async with on_lab() as (_, api, keys):
        for operation in OPERATIONS:
            await ask(api, operation, Trace(room="x"), keys)
    assert len(rows) == 3


async def test_only_the_host_may_delete(on_lab):
    async with on_lab() as (_, api, keys):
        trace = await made(api, keys)
        row = (await api.delete(trace, Keys.generate())).row
    assert (row.outcome, row.status, row.failure) == (Outcome.REFUSED, 403, Failure.FORBIDDEN)


async def test_failure_9_a_stalled_put_is_unknown_and_not_repeated(on_lab, rows):
    async with on_lab() as (lab, api, keys):
        lab.api_proxy["made"].mode = ProxyMode.STALL
        answer = await api.create(NO_TRACE, keys, RELAYS, timeout_s=0.3)
    assert [(row.outcome, row.failure) for row in rows] == [
        (Outcome.UNKNOWN, Failure.INTENT),
        (Outcome.UNKNOWN, Failure.TIMEOUT),
    ]
    assert answer.body is None


async def test_a_put_whose_answer_is_lost_is_unknown_although_the_room_is_there(on_lab, until):
    async with on_lab() as (lab, api, keys):
        lab.api_proxy["made"].mode = ProxyMode.BLACKHOLE
        row = (await api.create(NO_TRACE, keys, RELAYS, timeout_s=0.5)).row
        assert (row.outcome, row.failure, row.status) == (Outcome.UNKNOWN, Failure.TIMEOUT, None)
        await until(lambda: len(lab.nests()) == 1)


# HTTP auth


async def test_every_attempt_is_signed_afresh_for_its_own_url_method_and_body(answered_by):
    seen = []

    async def handler(request):
        event = nostr.read_http_auth(request.headers["Authorization"])
        seen.append((request.headers["Authorization"], event, request.method, str(request.url), await request.read()))
        return web.json_response({"roomId": "r", "token": "t"})

    keys, trace = Keys.generate(), Trace(room="a room/with?odd#signs")
    async with answered_by(handler) as api:
        for _ in range(2):
            await api.join(trace, keys)
        await api.create(NO_TRACE, keys, RELAYS)
        await api.delete(trace, keys)
    assert len({header for header, *_ in seen}) == 4
    for _, event, method, url, body in seen:
        assert (event.kind, event.pubkey, event.tag("method")) == (27_235, keys.public, method)
        assert event.tag("u") == url
        assert (event.tag("payload") is not None) is bool(body)


async def test_a_clock_two_minutes_off_is_refused_by_the_server(on_lab, rows):
    off = Vantage("A", "run", rows.append, clock=Clock(wall=lambda: time.time_ns() - 120 * S))
    async with on_lab(vantage=off) as (_, api, keys):
        row = (await api.join(Trace(room="x"), keys)).row
    assert (row.outcome, row.status, row.failure) == (Outcome.REFUSED, 401, Failure.UNAUTHORISED)
    assert row.reason.startswith("Missing or invalid authorization header; our clock is 1")
    assert row.reason.endswith(" s behind the server's: set it (NTP)")


# What fails on the way


@pytest.mark.parametrize(
    ("mode", "failure", "layer"),
    [
        (ProxyMode.REFUSE, Failure.REFUSED, FailureLayer.TCP),
        (ProxyMode.RESET, Failure.RESET, FailureLayer.HTTP),
        (ProxyMode.STALL, Failure.TIMEOUT, FailureLayer.HTTP),
        (ProxyMode.BLACKHOLE, Failure.TIMEOUT, FailureLayer.HTTP),
    ],
    ids=lambda value: getattr(value, "value", ""),
)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_network_that_fails_proves_nothing(on_lab, rows, mode, failure, layer, operation):
    async with on_lab() as (lab, api, keys):
        lab.api_proxy["made"].mode = mode
        row = (await ask(api, operation, Trace(room="x"), keys, timeout_s=0.3)).row
    assert (row.outcome, row.failure, row.failure_layer, row.status) == (Outcome.UNKNOWN, failure, layer, None)
    assert row.reason
    assert row.sent_at <= row.received_at
    assert len(rows) == 1


async def test_a_connection_lost_between_two_questions_is_found_out_by_the_second(on_lab):
    async with on_lab() as (lab, api, _):
        await api.health()
        lab.api_proxy["made"].mode = ProxyMode.STALL
        row = (await api.info(Trace(room="x"), timeout_s=0.3)).row
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.TIMEOUT)


async def test_https_where_plain_http_is_spoken_is_a_tls_failure(on_lab, open_api):
    async with on_lab() as (_, api, _), open_api(api.url.replace("http", "https", 1)) as secure:
        row = (await secure.info(Trace(room="x"))).row
    assert (row.outcome, row.failure, row.failure_layer) == (Outcome.UNKNOWN, Failure.TLS, FailureLayer.TLS)
    assert "scheme" in row.reason


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid", "xn--" + "a" * 20 + ".invalid"])
async def test_a_name_that_does_not_resolve(open_api, host):
    async with open_api(f"http://{host}/api/v1/nests") as api:
        row = (await api.info(Trace(room="x"), timeout_s=5.0)).row
    assert (row.outcome, row.failure, row.failure_layer) == (Outcome.UNKNOWN, Failure.DNS, FailureLayer.DNS)


async def test_failure_11_a_name_is_resolved_anew_for_each_connection(open_api, serving, monkeypatch):
    # two servers behind one name need a resolver of our own, which needs root: the resolver's answers are injected
    leads_to, real = ["127.0.0.2"], socket.getaddrinfo

    def resolve(host, *args, **options):
        return real(leads_to[0] if host in ("api.test", b"api.test") else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    first = saying(text='{"host": "first"}', content_type="application/json", headers={"Connection": "close"})
    second = saying(text='{"host": "second"}', content_type="application/json", headers={"Connection": "close"})
    async with (
        serving(first, "127.0.0.2") as port,
        serving(second, "127.0.0.3", port),
        open_api(f"http://api.test:{port}/api/v1/nests") as api,
    ):
        before = await api.info(Trace(room="x"))
        leads_to[0] = "127.0.0.3"
        after = await api.info(Trace(room="x"))
    assert (before.body, after.body) == ({"host": "first"}, {"host": "second"})


# Odd answers


async def test_a_404_for_an_unknown_path_says_nothing_about_a_nest(on_lab, open_api):
    async with on_lab() as (_, api, _), open_api(api.url + "s") as wrong:
        row = (await wrong.info(Trace(room="x"))).row
        health = (await wrong.health()).row
    assert (row.outcome, row.status, row.failure) == (Outcome.UNKNOWN, 404, Failure.WRONG_PATH)
    assert health.outcome is Outcome.ACCEPTED


async def test_failure_12_a_404_from_a_cache_is_no_proof(on_lab):
    async with on_lab("[api]\ncache_404_s = 60") as (_, api, _):
        fresh, cached = [(await api.info(Trace(room="x"))).row for _ in range(2)]
    assert (fresh.outcome, fresh.failure) == (Outcome.ABSENT, Failure.NOT_FOUND)
    assert (cached.outcome, cached.failure, cached.failure_layer) == (
        Outcome.UNKNOWN,
        Failure.CACHED,
        FailureLayer.HTTP,
    )
    assert json.loads(cached.cache)["x-cache"] == "HIT"


async def test_a_404_page_of_a_web_server_is_no_proof(answered_by):
    page = saying(status=404, text="<html><h1>404 Not Found</h1></html>", content_type="text/html")
    async with answered_by(page) as api:
        row = (await api.guest(Trace(room="x"))).row
    assert (row.outcome, row.status, row.failure, row.failure_layer) == (
        Outcome.UNKNOWN,
        404,
        Failure.UNEXPECTED,
        FailureLayer.HTTP,
    )


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_error_proves_nothing(on_lab, status):
    async with on_lab() as (lab, api, keys):
        lab.api["made"].fault.status = status
        row = (await api.join(Trace(room="x"), keys)).row
    assert (row.outcome, row.status, row.failure) == (Outcome.UNKNOWN, status, Failure.SERVER_ERROR)
    assert row.reason == "The lab answers so"


@pytest.mark.parametrize(("status", "failure"), [(401, Failure.UNAUTHORISED), (403, Failure.FORBIDDEN)])
async def test_a_refusal_is_refused(on_lab, status, failure):
    async with on_lab() as (lab, api, keys):
        lab.api["made"].fault.status = status
        row = (await api.join(Trace(room="x"), keys)).row
    assert (row.outcome, row.status, row.failure) == (Outcome.REFUSED, status, failure)


async def test_a_redirect_is_not_followed(answered_by):
    asked = []

    async def handler(request):
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with answered_by(handler) as api:
        row = (await api.join(Trace(room="x"), Keys.generate())).row
    assert asked == ["/api/v1/nests/x"]
    assert (row.outcome, row.status, row.failure) == (Outcome.UNKNOWN, 302, Failure.UNEXPECTED)


async def test_a_token_that_is_an_object_is_no_token(on_lab):
    async with on_lab("[api]\ntoken_fault = 'object'") as (_, api, keys):
        trace = await made(api, keys)
        answers = [await api.join(trace, keys), await api.guest(trace)]
    for answer in answers:
        assert (answer.row.outcome, answer.row.status) == (Outcome.UNKNOWN, 200)
        assert (answer.row.failure, answer.row.reason) == (Failure.BAD_TOKEN, "the token is an object, not a string")
        assert answer.token == {}


@pytest.mark.parametrize("body", ["", "null", "[]", '"x"', "<html>", "{", '{"token": 5}', '{"token": ""}', "{}"])
async def test_a_join_without_a_usable_token_proves_nothing(answered_by, body):
    async with answered_by(saying(text=body, content_type="application/json")) as api:
        row = (await api.join(Trace(room="x"), Keys.generate())).row
    assert (row.outcome, row.status) == (Outcome.UNKNOWN, 200)
    assert row.failure in (Failure.UNEXPECTED, Failure.BAD_TOKEN)


@pytest.mark.parametrize("body", ["{}", '{"roomId": 5}', '{"roomId": ""}', "[]", ""])
async def test_a_put_that_names_no_room_is_unknown(answered_by, body):
    async with answered_by(saying(text=body, content_type="application/json")) as api:
        row = (await api.create(NO_TRACE, Keys.generate(), RELAYS)).row
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.UNEXPECTED)


@pytest.mark.parametrize("compressed", [False, True])
async def test_an_answer_of_300_kb_is_cut_off_and_the_row_says_why(answered_by, compressed):
    body = json.dumps({"token": "x" * 300_000}).encode()
    headers = {"Content-Encoding": "gzip"} if compressed else {}
    big = saying(body=gzip.compress(body) if compressed else body, headers=headers)
    async with answered_by(big) as api:
        answer = await api.join(Trace(room="x"), Keys.generate())
    assert (answer.row.outcome, answer.row.status, answer.row.failure) == (Outcome.UNKNOWN, 200, Failure.PROTOCOL)
    assert "longer than" in answer.row.reason
    assert answer.body is None


@pytest.mark.parametrize(
    ("raw", "failures"),
    [
        (b"", {Failure.CLOSED}),
        (b"\x00\xff nothing like it\r\n\r\n", {Failure.CLOSED, Failure.PROTOCOL}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", {Failure.CLOSED}),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", {Failure.PROTOCOL}),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {Failure.CLOSED, Failure.PROTOCOL}),
        (b"HTTP/1.1 " + b"9" * 100_000 + b"\r\n\r\n", {Failure.CLOSED, Failure.PROTOCOL}),
    ],
    ids=["nothing", "no http", "half an answer", "false gzip", "false chunks", "an endless status"],
)
async def test_what_is_no_http_answer_is_a_row_and_no_crash(open_api, raw, failures):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, open_api(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1/nests") as api:
        row = (await api.guest(Trace(room="x"), timeout_s=3.0)).row
    assert row.outcome is Outcome.UNKNOWN
    assert row.failure in failures
    assert row.reason
    assert row.status == (200 if raw.startswith(b"HTTP/1.1 200") else None)


NO = b'{"error":"Nest not found"}'
GARBAGE = {
    "odd digits": (b"Age: \xb2", Failure.CACHED),
    "an age of 5 000 digits": (b"Age: " + b"9" * 5_000, Failure.CACHED),
    "limits of 60 kB": (b"RateLimit-Policy: " + b"1" * 60_000, Failure.NOT_FOUND),
    "a list of 60 kB": (b"RateLimit: " + b'"a";r=0;t=9,' * 5_000, Failure.NOT_FOUND),
    "a limit of 400 digits": (b"RateLimit-Limit: " + b"9" * 400 + b"\r\nRateLimit-Remaining: 5", Failure.NOT_FOUND),
    "a limit of eleven": (b"RateLimit-Limit: 99999999999", Failure.NOT_FOUND),
    "decades": (b"Retry-After: 1000000000", Failure.NOT_FOUND),
    "the year 9999": (b"Date: Fri, 31 Dec 9999 23:59:59 GMT", Failure.NOT_FOUND),
    "the year 1600": (b"Date: Fri, 31 Dec 1600 23:59:59 GMT", Failure.NOT_FOUND),
    "a date of 60 kB": (b"Date: " + b"1 " * 30_000, Failure.NOT_FOUND),
    "a thousand lines": (b"\r\n".join(b"X-Cache: MISS" for _ in range(1_000)), Failure.CACHED),
    "caches of 60 kB": (b"Cache-Status: " + b'"a;' * 20_000, Failure.CACHED),
    "a location that is none": (b"Location: http://[", Failure.NOT_FOUND),
    "cookies": (b"Set-Cookie: " + b"a=b; " * 10_000, Failure.NOT_FOUND),
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_any_header_is_a_row_and_the_next_request_goes_out(open_api, rows, what):
    line, failure = GARBAGE[what]
    talks = []

    async def talk(reader, writer):
        talks.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 404 X\r\nContent-Length: %d\r\n%b\r\n\r\n%b" % (len(NO), line, NO))
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    limiter, url = Limiter(), f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1/nests"
    async with server, open_api(url, limiter=limiter) as api:
        for _ in range(2):
            await api.guest(Trace(room="x"))
        await api.delete(Trace(room="x"), Keys.generate())
    await asyncio.gather(*talks)
    answers = [row for row in rows if row.failure is not Failure.INTENT]
    assert [(row.status, row.failure) for row in answers] == [(404, failure)] * 3
    assert all(row.remote_at is None or row.remote_at < 2**63 for row in answers)
    assert all(len(row.detail) <= 4_096 and len(row.cache) <= 4_096 for row in answers)
    assert limiter.allowed == 80


DEEP = {
    "lists": b"[" * 100_000,
    "objects": b'{"a":' * 20_000,
    "no number": b'{"token": NaN}',
    "a number of 5 000 digits": b'{"x": 1' + b"0" * 5_000 + b"}",
    "a name twice": b'{"token": "t", "token": 5}',
    "a half of a character": b'{"token": "\\ud800"}',
    "another encoding": '{"error": "x"}'.encode("utf-16"),
}


@pytest.mark.parametrize("what", DEEP)
async def test_any_json_is_a_row(answered_by, what):
    async with answered_by(saying(body=DEEP[what], content_type="application/json")) as api:
        rows = [(await ask(api, operation, Trace(room="x"), Keys.generate())).row for operation in OPERATIONS]
        rows.append((await api.create(NO_TRACE, Keys.generate(), RELAYS)).row)
    assert {row.outcome for row in rows} == {Outcome.UNKNOWN}


async def test_a_redirect_to_nowhere_is_a_row_that_says_so(answered_by):
    async with answered_by(saying(status=301)) as api:
        row = (await api.guest(Trace(room="x"))).row
    assert (row.outcome, row.status, row.failure) == (Outcome.UNKNOWN, 301, Failure.UNEXPECTED)
    assert "HTTP 301" in row.reason


async def test_a_page_that_answers_everything_deletes_and_makes_nothing(answered_by):
    page = saying(text="<!doctype html><title>Nests</title><div id=root></div>", content_type="text/html")
    keys, trace = Keys.generate(), Trace(room="x")
    async with answered_by(page) as api:
        answers = [await api.delete(trace, keys), await api.create(NO_TRACE, keys, RELAYS), await api.health()]
        answers += [await ask(api, operation, trace, keys) for operation in OPERATIONS]
    for answer in answers:
        assert (answer.row.outcome, answer.row.status, answer.row.failure) == (Outcome.UNKNOWN, 200, Failure.UNEXPECTED)
        assert "'Nests'" in answer.row.reason


async def test_the_apis_words_without_its_headers_are_no_proof_once_its_form_is_known(answered_by):
    """While the API restarts, something in front repeats its words."""
    info = {"host": "ab" * 32, "speakers": [], "admins": [], "link": "naddr1"}

    async def handler(request):
        if request.path.endswith("/info"):
            return web.json_response(
                info, headers={"ETag": 'W/"1"', "RateLimit-Policy": "100;w=900", "Server": "nginx"}
            )
        return web.json_response({"error": "Nest not found"}, status=404, headers={"Server": "nginx"})

    async with answered_by(handler) as api:
        before = (await api.guest(Trace(room="x"))).row
        assert (await api.info(Trace(room="x"))).row.outcome is Outcome.VISIBLE
        after = (await api.guest(Trace(room="x"))).row
    assert (before.outcome, after.outcome) == (Outcome.ABSENT, Outcome.UNKNOWN)
    assert "without the etag" in after.reason


async def test_a_no_whose_date_stands_still_is_a_copy(answered_by):
    """A cache that says nothing of itself repeats the Date of what it keeps."""
    kept = formatdate(time.time(), usegmt=True)

    async def handler(request):
        headers = {"Date": kept} if request.path.endswith("/guest") else {}
        return web.json_response({"error": "Nest not found"}, status=404, headers=headers)

    async with answered_by(handler) as api:
        first = (await api.guest(Trace(room="x"))).row
        await asyncio.sleep(3.1)  # the Date is in whole seconds
        await api.info(Trace(room="x"))
        again = (await api.guest(Trace(room="x"))).row
    assert (first.outcome, again.outcome, again.failure) == (Outcome.ABSENT, Outcome.UNKNOWN, Failure.CACHED)
    assert "older than the question" in again.reason


async def test_the_servers_own_date_and_cache_headers_are_kept(answered_by):
    headers = {
        "Date": "Wed, 21 Oct 2015 07:28:00 GMT",
        "ETag": 'W/"2b"',
        "Cache-Control": "no-store",
        "Server": "nests/1.2",
    }
    async with answered_by(saying(status=404, text='{"error":"Nest not found"}', headers=headers)) as api:
        row = (await api.info(Trace(room="x"))).row
    assert (row.remote_at, row.remote_grain_s) == (1_445_412_480 * S, 1.0)
    assert json.loads(row.cache) == {"etag": 'W/"2b"', "cache-control": "no-store"}
    assert row.software == "nests/1.2"


@pytest.mark.parametrize("date", ["yesterday", "", "Wed, 99 Oct 9999999 07:28:00 GMT"])
async def test_a_date_that_is_none_is_left_out(answered_by, date):
    async with answered_by(saying(status=404, text="{}", headers={"Date": date})) as api:
        row = (await api.info(Trace(room="x"))).row
    assert (row.remote_at, row.remote_grain_s) == (None, None)


HOSTILE = {
    "host": "ab" * 32,
    "speakers": ["<script>\x1b[31m\u202e"],
    "status": "x" * 100_000,
    "link": ["no", "text"],
    "createdAt": float("nan"),
    "token": "eyJ-stolen",
}


async def test_hostile_facts_are_kept_as_bounded_json(answered_by):
    async with answered_by(saying(text=json.dumps(HOSTILE))) as api:
        row = (await api.info(Trace(room="x"))).row
    assert row.outcome is Outcome.VISIBLE
    assert len(row.detail) <= 4_096
    assert "eyJ-stolen" not in row.detail
    assert "\x1b" not in row.detail
    json.loads(row.detail, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@given(
    operation=st.sampled_from(Operation),
    status=st.integers(100, 599),
    headers=st.dictionaries(
        st.sampled_from(["age", "x-cache", "cf-cache-status", "content-type"]), st.text(max_size=12), max_size=3
    ),
    body=st.none() | st.dictionaries(st.sampled_from(["token", "roomId", "error"]), st.none() | st.text(max_size=9)),
)
def test_any_answer_is_judged_and_only_a_404_proves_absence(operation, status, headers, body):
    outcome, failure, layer, reason = judge(operation, status, headers, body)
    assert (failure is None) is (outcome in (Outcome.VISIBLE, Outcome.ACCEPTED))
    assert (failure is None) is (layer is None)
    assert bool(reason) is (failure is not None)
    assert status == 404 or outcome is not Outcome.ABSENT
    assert 200 <= status < 300 or outcome not in (Outcome.VISIBLE, Outcome.ACCEPTED)


# Secrets


async def test_no_token_header_or_key_is_ever_in_a_row(on_lab, rows):
    async with on_lab() as (lab, api, keys):
        trace = await made(api, keys)
        created = await api.create(NO_TRACE, keys, RELAYS)
        joined, guest = await api.join(trace, keys), await api.guest(trace)
        await api.restart(trace, keys)
        for mode in (ProxyMode.RESET, ProxyMode.STALL, ProxyMode.REFUSE):
            lab.api_proxy["made"].mode = mode
            await api.join(trace, keys, timeout_s=0.2)
    tokens = [created.token, joined.token, guest.token]
    assert all(isinstance(token, str) and len(token) > 50 for token in tokens)
    kept = rows.text()
    secret = keys._native.secret_key().to_hex()
    for hidden in (*tokens, keys.to_nsec(), secret, "Nostr ", "uthorization"):
        assert hidden not in kept
    assert all(token not in repr(answer) for token in tokens for answer in (created, joined, guest))
    assert len(rows) > 8


async def test_a_server_that_echoes_the_header_does_not_get_it_into_a_row(answered_by, rows):
    async def echo(request):
        return web.json_response({"error": f"bad header {request.headers['Authorization']}"}, status=401)

    async with answered_by(echo) as api:
        await api.join(Trace(room="x"), Keys.generate())
    assert "Nostr ey" not in rows.text()


@pytest.mark.parametrize("url", ["", "h.example", "ftp://h.example", "https://", "wss://h.example"])
def test_an_address_that_is_no_url_is_a_mistake(vantage, url):
    with pytest.raises(UsageError, match="write https://"):
        Api(vantage, url, Limiter())


async def test_a_trailing_slash_is_no_other_api(on_lab, open_api):
    async with on_lab() as (_, api, _), open_api(api.url + "/") as other:
        assert other.url == api.url
        assert (await other.info(Trace(room="x"))).row.failure is Failure.NOT_FOUND


async def test_a_cancelled_question_leaves_the_client_usable(on_lab):
    async with on_lab() as (lab, api, _):
        lab.api_proxy["made"].mode = ProxyMode.STALL
        task = asyncio.create_task(api.info(Trace(room="x")))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        lab.api_proxy["made"].mode = ProxyMode.PASS
        assert (await api.health()).row.outcome is Outcome.ACCEPTED


async def test_many_questions_at_once_are_all_answered(on_lab, rows):
    async with on_lab() as (_, api, _):
        answers = await asyncio.gather(*(api.info(Trace(room=f"room-{number}")) for number in range(60)))
    assert {answer.row.failure for answer in answers} == {Failure.NOT_FOUND}
    assert sorted(row.room for row in rows) == sorted(f"room-{number}" for number in range(60))
