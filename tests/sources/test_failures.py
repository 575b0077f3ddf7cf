"""The table of failures: every name has something that gives it, and one fault has one name whoever meets it."""

from __future__ import annotations

import asyncio
import builtins
import errno
import socket
import ssl
from importlib import import_module

import aiohttp
import httpx
import pytest
from google.protobuf.message import DecodeError
from livekit.protocol import rtc
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidMessage
from websockets.frames import Close

from nestobs.join.budget import Limiter
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome
from nestobs.sources.api import Api, judge
from nestobs.sources.clock import Clock
from nestobs.sources.dial import NotOpened, dial, read_url, trust
from nestobs.sources.failures import REFUSALS, RULES, answered, closed, intended, named, ours, timed_out
from nestobs.sources.livekit import LiveKit
from nestobs.sources.relay.questions import closed_end, false_event
from nestobs.sources.vantage import Trace
from worlds import hostile_relays as hostile

SECRET = "https://x.invalid/?access_token=a-secret"


def wrapped(error, *around):
    """`error` inside each of `around` in turn."""
    for outer in around:
        outer.__cause__ = error
        error = outer
    return error


def hidden(error, outer):
    """`outer` raised while `error` was being handled, and said to have nothing to do with it: httpcore does so."""
    outer.__context__, outer.__suppress_context__ = error, True
    return outer


def in_group(*errors):
    """As anyio raises it when no address of a host can be had."""
    return wrapped(ExceptionGroup("multiple connection attempts failed", errors), OSError("all failed"))


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed")
NO_ROUTE = OSError(errno.EHOSTUNREACH, "No route to host")
NO_FILES = OSError(errno.EMFILE, "Too many open files")
NO_NAME = socket.gaierror(-2, "Name or service not known")
BAD_TLS = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
BAD_CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
KEY = aiohttp.client_reqrep.ConnectionKey("x.invalid", 443, True, True, None, None, None)
REQUEST = aiohttp.RequestInfo(SECRET, "POST", {}, SECRET)

RAISED = {
    Failure.INTERNAL: [
        NO_FILES,
        wrapped(NO_FILES, OSError("all failed"), httpx.ConnectError(SECRET)),
        aiohttp.ClientConnectorError(KEY, NO_FILES),
        in_group(REFUSED, NO_FILES),
        KeyError(SECRET),
        ValueError(SECRET),
        RuntimeError(SECRET),
    ],
    Failure.DNS: [
        NO_NAME,
        wrapped(NO_NAME, httpx.ConnectError(SECRET)),
        wrapped(NO_NAME, aiohttp.ClientConnectorDNSError(KEY, NO_NAME)),
        UnicodeError("label empty or too long"),
        httpx.InvalidURL(SECRET),
        aiohttp.InvalidURL(SECRET),
    ],
    Failure.TLS: [
        BAD_TLS,
        BAD_CERTIFICATE,
        wrapped(BAD_TLS, httpx.ConnectError(SECRET)),
        wrapped(BAD_TLS, aiohttp.ClientConnectorSSLError(KEY, BAD_TLS)),
        wrapped(BAD_CERTIFICATE, aiohttp.ClientConnectorCertificateError(KEY, BAD_CERTIFICATE)),
    ],
    Failure.TIMEOUT: [
        TimeoutError(),
        OSError(errno.ETIMEDOUT, "Connection timed out"),
        httpx.ReadTimeout(SECRET),
        httpx.PoolTimeout(SECRET),
        aiohttp.ServerTimeoutError(),
        wrapped(OSError(errno.ETIMEDOUT, "Connection timed out"), httpx.ConnectError(SECRET)),
    ],
    Failure.REFUSED: [
        REFUSED,
        wrapped(REFUSED, OSError("all failed"), hidden(REFUSED, httpx.ConnectError(SECRET))),
        wrapped(in_group(REFUSED, REFUSED), httpx.ConnectError(SECRET)),
        in_group(NO_ROUTE, REFUSED),
        wrapped(REFUSED, aiohttp.ClientConnectorError(KEY, REFUSED)),
    ],
    Failure.RESET: [
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        ConnectionAbortedError(),
        BrokenPipeError(),
        httpx.ReadError(SECRET),
        httpx.WriteError(SECRET),
        aiohttp.ClientConnectionResetError(),
        wrapped(ConnectionResetError(), aiohttp.ClientPayloadError()),
        wrapped(ConnectionResetError(), InvalidMessage("did not receive a valid HTTP response")),
    ],
    Failure.CLOSED: [
        wrapped(EOFError("connection closed"), InvalidMessage("did not receive a valid HTTP response")),
        asyncio.IncompleteReadError(b"", 1),
        ConnectionClosedError(None, None),
        httpx.RemoteProtocolError(SECRET),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError(),
    ],
    Failure.UNREACHABLE: [
        NO_ROUTE,
        in_group(NO_ROUTE, OSError(errno.ENETUNREACH, "Network is unreachable")),
        httpx.ConnectError(SECRET),
        aiohttp.ClientConnectionError(SECRET),
    ],
    Failure.PROTOCOL: [
        wrapped(ValueError("not HTTP"), InvalidMessage("did not receive a valid HTTP response")),
        httpx.DecodingError("incorrect header check"),
        httpx.UnsupportedProtocol(SECRET),
        aiohttp.ClientResponseError(REQUEST, ()),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        DecodeError("truncated message"),
    ],
}
"""What is raised, bare, wrapped and in groups, by the failure that it is."""

NAMED = [pytest.param(error, failure, id=f"{failure}-{error!r:.60}") for failure in RAISED for error in RAISED[failure]]


@pytest.mark.parametrize(("error", "failure"), NAMED)
def test_an_exception_has_one_name_and_words_without_a_secret(error, failure):
    found = named(error, stage=FailureLayer.HTTP, timeout_s=2.0)
    assert found.failure is failure
    assert found.outcome is (Outcome.PROBE_ERROR if failure is Failure.INTERNAL else Outcome.UNKNOWN)
    assert found.failure_layer is not None
    assert found.reason
    assert "secret" not in found.reason
    assert "{" not in found.reason


@pytest.mark.parametrize("error", [KeyError(SECRET), RuntimeError(SECRET), wrapped(KeyError(SECRET), Exception())])
def test_what_nobody_foresaw_is_our_own_fault_by_its_type_alone(error):
    found = named(error, stage=FailureLayer.TCP)
    assert (found.outcome, found.failure, found.failure_layer) == ours("", error)[:3]
    assert found.reason == f"our own fault: {type(error).__name__}"


STATUSES = {
    401: Failure.UNAUTHORISED,
    403: Failure.FORBIDDEN,
    429: Failure.RATE_LIMITED,
    500: Failure.SERVER_ERROR,
    503: Failure.SERVER_ERROR,
    302: Failure.UNEXPECTED,
    418: Failure.UNEXPECTED,
}


@pytest.mark.parametrize(("status", "failure"), STATUSES.items())
def test_a_status_is_a_refusal_or_proves_nothing(status, failure):
    found = answered(status, layer=FailureLayer.HTTP)
    refused = Outcome.REFUSED if status in (401, 403, 429) else Outcome.UNKNOWN
    assert found == (refused, failure, FailureLayer.HTTP, f"HTTP {status}")
    assert judge(Operation.JOIN, status, {}, {"error": "no"}) == (refused, failure, FailureLayer.API, "no")


OTHERWISE = {
    Failure.INTENT: intended("ask"),
    Failure.NOT_FOUND: judge(Operation.JOIN, 404, {}, {"error": "Nest not found"}),
    Failure.WRONG_PATH: judge(Operation.JOIN, 404, {}, {"error": "Endpoint not found"}),
    Failure.CACHED: judge(Operation.JOIN, 404, {"age": "3"}, {"error": "Nest not found"}),
    Failure.BAD_TOKEN: judge(Operation.GUEST, 200, {}, {"token": {}}),
    Failure.RELAY_CLOSED: closed_end(1, "error: shutting down").judgement,
    Failure.AUTH_REQUIRED: closed_end(1, "auth-required: who are you?").judgement,
    Failure.BAD_EVENT: false_event("sent a false event"),
}
"""What is neither raised nor a status."""

AT_WORK = {
    Failure.RELAY_REFUSED: "relay",
    Failure.NOT_STORED: "relay",
    Failure.ICE: "livekit",
    Failure.BUDGET: "api",
    Failure.NO_NETWORK: "control",
    Failure.BAD_SIGNATURE: "webhook",
    Failure.CLOCK_STEP: "clock",
    Failure.SUSPENDED: "clock",
    Failure.LOOP_BLOCKED: "clock",
    Failure.DROPPED: "a join",
    Failure.REMOVED: "livekit",
    Failure.FLOODED: "relay",
    Failure.SKIPPED: "a host",
}
"""What only a source at work says, and whose tests make it."""


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_has_something_that_gives_it(failure):
    given = {one for one in RAISED if RAISED[one]} | set(STATUSES.values()) | set(OTHERWISE) | set(AT_WORK)
    assert failure in given
    if failure in OTHERWISE:
        assert OTHERWISE[failure].failure is failure
        assert OTHERWISE[failure].reason


def test_the_table_gives_what_is_tried_here_and_nothing_else():
    assert {rule.failure for rule in RULES} == set(RAISED)
    assert set(REFUSALS) == {401, 403, 429}


@pytest.mark.parametrize("name", sorted({name for rule in RULES for name in rule.raised}))
def test_every_class_of_the_table_exists(name):
    library, _, kind = name.rpartition(".")
    homes = {"": builtins.__name__, "google": "google.protobuf.message", "websockets": "websockets.exceptions"}
    assert issubclass(getattr(import_module(homes.get(library, library)), kind), Exception)


@pytest.mark.parametrize("error", [NO_ROUTE, BAD_TLS, TimeoutError(), EOFError(), httpx.ReadError("")], ids=repr)
def test_whatever_breaks_while_tls_is_set_up_is_tls(error):
    found = named(error, stage=FailureLayer.TLS, timeout_s=2.0)
    assert (found.failure, found.failure_layer) == (Failure.TLS, FailureLayer.TLS)
    assert "scheme" in found.reason


def test_a_certificate_that_does_not_hold_is_no_matter_of_the_scheme():
    assert "scheme" not in named(BAD_CERTIFICATE, stage=FailureLayer.TLS).reason


async def test_a_timer_that_strikes_while_tls_waits_for_bytes_is_a_timeout():
    """As anyio reads over TLS: it waits for bytes while it handles the SSLWantReadError that asked for them."""

    async def read():
        try:
            raise ssl.SSLWantReadError
        except ssl.SSLWantReadError:
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0):
            await read()
    found = named(caught.value, stage=FailureLayer.HTTP, timeout_s=2.0)
    assert (found.failure, found.failure_layer) == (Failure.TIMEOUT, FailureLayer.HTTP)
    assert found.reason == "no answer within 2 s" == timed_out(2.0, FailureLayer.HTTP).reason


@pytest.mark.parametrize(
    ("error", "failure", "code"),
    [
        (ConnectionClosedOK(Close(1000, "bye"), None), Failure.CLOSED, 1000),
        (ConnectionClosedError(Close(1011, "oops"), Close(1011, "oops"), True), Failure.CLOSED, 1011),
        (ConnectionClosedError(None, Close(1009, "too big")), Failure.PROTOCOL, 1009),
        (wrapped(ConnectionResetError(), ConnectionClosedError(None, None)), Failure.RESET, 1006),
        (ConnectionClosedError(None, None), Failure.CLOSED, 1006),
    ],
    ids=["closed", "in trouble", "by us", "reset", "without a word"],
)
def test_a_lost_websocket_has_a_name_and_a_close_code(error, failure, code):
    judgement, found = closed(error)
    assert (judgement.failure, judgement.failure_layer, found) == (failure, FailureLayer.WS, code)


# One fault, one name: three clients, each of another library


async def by_websockets(vantage, url):
    url = url.replace("http", "ws", 1)
    found = await dial(url, tls=trust(read_url(url)), clock=Clock(), timeout_s=1.0)
    assert isinstance(found, NotOpened)
    return found.judgement


async def by_httpx(vantage, url):
    async with Api(vantage, f"{url}/api/v1/nests", Limiter(100), timeout_s=1.0) as api:
        row = (await api.info(Trace(room="x"))).row
    return row.outcome, row.failure, row.failure_layer, row.reason


async def by_aiohttp(vantage, url):
    secret = "a-secret-of-more-than-thirty-two-bytes"
    async with LiveKit(vantage, url.replace("http", "ws", 1), key="key", secret=secret, timeout_s=1.0) as livekit:
        row = await livekit.rooms(Trace(room="x"))
    return row.outcome, row.failure, row.failure_layer, row.reason


async def answers_403(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


async def speaks_no_tls(reader, writer):
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


FAULTS = {
    "hangs up": ("http", hostile.hang_up, Failure.CLOSED, None),
    "resets": ("http", hostile.reset, Failure.RESET, None),
    "says nothing": ("http", hostile.silence, Failure.TIMEOUT, None),
    "answers 403": ("http", answers_403, Failure.FORBIDDEN, None),
    "speaks no TLS": ("https", speaks_no_tls, Failure.TLS, FailureLayer.TLS),
}


@pytest.mark.slow
@pytest.mark.parametrize("client", [by_websockets, by_httpx, by_aiohttp], ids=lambda client: client.__name__)
@pytest.mark.parametrize("fault", FAULTS)
async def test_one_fault_has_one_name_whatever_library_meets_it(vantage, client, fault):
    scheme, handle, failure, layer = FAULTS[fault]
    async with hostile.tcp(handle) as port:
        found = await client(vantage, f"{scheme}://127.0.0.1:{port}")
    assert (found[1], found[2]) == (failure, layer or found[2])
    assert found[3]


@pytest.mark.parametrize("client", [by_websockets, by_httpx, by_aiohttp], ids=lambda client: client.__name__)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_port_where_nobody_listens_is_refused_over_every_family(vantage, client, host):
    found = await client(vantage, f"http://{host}:{hostile.free_port()}")
    assert found[:3] == (Outcome.UNKNOWN, Failure.REFUSED, FailureLayer.TCP)


@pytest.mark.parametrize("client", [by_websockets, by_httpx, by_aiohttp], ids=lambda client: client.__name__)
async def test_a_host_that_has_no_address_is_a_failure_of_names(vantage, client):
    found = await client(vantage, f"http://{'a' * 70}.invalid")
    assert found[:3] == (Outcome.UNKNOWN, Failure.DNS, FailureLayer.DNS)


async def test_an_answer_of_livekit_that_cannot_be_read_is_a_protocol_error(vantage):
    with pytest.raises(DecodeError) as caught:
        rtc.SignalResponse.FromString(b"\xff\xff\xff")
    assert named(caught.value, stage=FailureLayer.SIGNAL)[1:3] == (Failure.PROTOCOL, FailureLayer.SIGNAL)
