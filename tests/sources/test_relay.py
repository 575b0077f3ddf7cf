"""One relay, seen by real questions: nostr-sdk's relay when it behaves, small real servers when it does not."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nestobs.errors import StoreFullError, UsageError
from nestobs.lab.relays import start_relay
from nestobs.nostr import Address, Keys
from nestobs.observation.detail import facts_of
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Role
from nestobs.sources.relay import Relay
from nestobs.sources.relay.connection import Link
from nestobs.sources.relay.pushes import PUSH_MARGIN_S
from nestobs.sources.vantage import Trace, Vantage
from worlds import hostile_relays as hostile

pytestmark = pytest.mark.slow

HOST = Keys.generate()
ADDRESS = Address(30312, HOST.public, "room-1")
TRACE = Trace("trace-1", str(ADDRESS), "room-1")
MARGIN_NS = round(PUSH_MARGIN_S * 1e9)


@pytest.fixture(autouse=True)
async def _no_task_is_left_behind():
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()


def room(identifier="room-1", created_at=None, keys=HOST, kind=30312):
    tags = [("d", identifier), ("status", "open")]
    return keys.sign(kind, created_at=int(time.time()) if created_at is None else created_at, tags=tags)


def forged(**changes):
    return room().as_dict() | changes


class Rows(list):
    """Every row, in order; `of` picks some."""

    def of(self, operation, **fields):
        return [
            row
            for row in self
            if row.operation is operation and all(getattr(row, name) == value for name, value in fields.items())
        ]


@asynccontextmanager
async def watching(url, *, wait=True, **options):
    rows = Rows()
    async with Relay(Vantage("A", "run", rows.append), url, **({"ping_s": 0.2} | options)) as relay:
        if wait:
            assert await relay.ready(5)
        yield relay, rows


@asynccontextmanager
async def honest():
    server, url = await start_relay()
    try:
        yield server, url
    finally:
        server.shutdown()


async def until(true, within_s=8.0):
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - what is waited for happens in a server or on the wire
            await asyncio.sleep(0.01)


def says(*frames):
    """A relay that answers each REQ with these frames; "SUB" stands for the subscription."""

    async def answer(peer, verb, *rest):
        if verb == "REQ":
            for frame in frames:
                await peer.say(*(rest[0] if cell == "SUB" else cell for cell in frame))

    return answer


async def ask(*frames, timeout_s=0.3, **options):
    """The row of one question to a relay that answers with these frames."""
    async with hostile.relay(says(*frames)) as (url, _), watching(url) as (relay, rows):
        await relay.query(TRACE, **({"address": ADDRESS, "timeout_s": timeout_s} | options))
    [row] = rows.of(Operation.QUERY)
    return row


# Questions to a relay that behaves


async def test_a_room_is_absent_then_published_then_visible():
    event = room()
    async with honest() as (_, url), watching(url) as (relay, rows):
        absent, nothing = await relay.query(TRACE, address=ADDRESS, planned_at=17)
        accepted = await relay.publish(TRACE, event)
        visible, found = await relay.query(TRACE, address=ADDRESS)
    assert (absent.outcome, nothing, absent.failure) == (Outcome.ABSENT, None, None)
    assert (absent.planned_at, absent.timeout_s, absent.layer) == (17, 5.0, f"relay:{url}")
    assert accepted.outcome is Outcome.ACCEPTED
    assert (visible.outcome, found) == (Outcome.VISIBLE, event)
    assert (visible.remote_at, visible.remote_grain_s) == (event.created_at * 10**9, 1.0)
    assert json.loads(visible.detail) == {"created_at": event.created_at, "event_id": event.id, "status": "open"}
    assert all(row.sent_at <= row.received_at for row in (absent, accepted, visible))
    assert (visible.trace_id, visible.nest, visible.room) == (TRACE.trace_id, TRACE.nest, TRACE.room)
    assert len(rows.of(Operation.QUERY)) == 2


async def test_an_event_is_found_by_id_and_by_filter():
    event = room()
    async with honest() as (_, url), watching(url) as (relay, _):
        await relay.publish(TRACE, event, read_back=False)
        by_id, _ = await relay.query(TRACE, event_id=event.id)
        by_filter, _ = await relay.query(TRACE, filters={"kinds": [30312], "#d": ["room-1"], "since": event.created_at})
        other, _ = await relay.query(TRACE, filters={"kinds": [30312], "#d": ["room-2"]})
    assert [row.outcome for row in (by_id, by_filter, other)] == [Outcome.VISIBLE, Outcome.VISIBLE, Outcome.ABSENT]


async def test_a_hundred_questions_share_one_connection():
    async with honest() as (_, url), watching(url) as (relay, rows):
        await asyncio.gather(*(relay.query(TRACE, address=ADDRESS) for _ in range(100)))
    asked = rows.of(Operation.QUERY, outcome=Outcome.ABSENT)
    assert len(asked) == 100
    assert len(rows.of(Operation.CONNECT)) == 1
    assert sum(not row.connection_reused for row in asked) == 1


async def test_a_question_for_nothing_is_the_callers_mistake():
    async with honest() as (_, url), watching(url) as (relay, _):
        with pytest.raises(UsageError, match="address"):
            await relay.query(TRACE)


# The ends of a question


async def test_failure_3_a_relay_without_eose_the_events_own_time_is_the_answer():
    event = room()
    async with hostile.relay(says(("EVENT", "SUB", event.as_dict()))) as (url, heard), watching(url) as (relay, rows):
        row, found = await relay.query(TRACE, address=ADDRESS, timeout_s=5)
        await until(lambda: len(heard) == 2)
    assert (row.outcome, found) == (Outcome.VISIBLE, event)
    assert row.received_at - row.sent_at < 2e9
    subscription = row.observation_id.replace("-", "")
    assert [frame[:2] for frame in heard] == [["REQ", subscription], ["CLOSE", subscription]]
    assert len(rows.of(Operation.QUERY)) == 1


async def test_failure_3_our_timer_is_not_an_eose():
    row = await ask(timeout_s=0.2)
    assert (row.outcome, row.failure, row.failure_layer) == (Outcome.UNKNOWN, Failure.TIMEOUT, FailureLayer.NOSTR)
    assert (row.received_at, row.timeout_s) == (None, 0.2)


async def test_failure_4_closed_is_a_row_and_the_question_can_be_asked_again():
    answers = itertools.cycle([says(("CLOSED", "SUB", "error: shutting down")), says(("EOSE", "SUB"))])

    async def answer(peer, verb, *rest):
        if verb == "REQ":
            await next(answers)(peer, verb, *rest)

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        await relay.query(TRACE, address=ADDRESS, attempt_group="g", attempt_no=1)
        await relay.query(TRACE, address=ADDRESS, attempt_group="g", attempt_no=2)
    closed, absent = rows.of(Operation.QUERY)
    assert (closed.outcome, closed.failure) == (Outcome.REFUSED, Failure.RELAY_CLOSED)
    assert closed.reason == "error: shutting down"
    assert (absent.outcome, absent.attempt_group, absent.attempt_no) == (Outcome.ABSENT, "g", 2)


async def test_failure_4_a_closed_subscription_is_a_row_and_is_asked_for_again():
    event, asked = room(), []

    async def answer(peer, verb, *rest):
        if verb == "REQ":
            asked.append(rest[0])
            frame = ("CLOSED", rest[0], "rate-limited") if len(asked) < 3 else ("EVENT", rest[0], event.as_dict())
            await peer.say(*frame)

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE)
        await until(lambda: rows.of(Operation.SUBSCRIBE, outcome=Outcome.VISIBLE))
    assert len(set(asked)) == 3
    refused = rows.of(Operation.SUBSCRIBE, outcome=Outcome.REFUSED)
    assert [(row.failure, row.attempt_no) for row in refused] == [(Failure.RELAY_CLOSED, 1), (Failure.RELAY_CLOSED, 2)]


async def test_a_notice_ends_nothing_and_is_kept():
    row = await ask(("NOTICE", "slow today"), ("EOSE", "SUB"))
    assert row.outcome is Outcome.ABSENT
    assert json.loads(row.detail) == {"notices": ["slow today"]}


async def test_a_notice_alone_is_no_answer():
    row = await ask(("NOTICE", "could not parse command"))
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.TIMEOUT)
    assert "could not parse" in row.detail


@pytest.mark.parametrize(
    "false",
    [
        pytest.param(forged(content="changed"), id="the id is another's"),
        pytest.param(forged(sig="0" * 128), id="a wrong signature"),
        pytest.param({"id": ["x"], "kind": 30312}, id="no event at all"),
        pytest.param(forged(created_at=10**40), id="a number too large"),
    ],
)
async def test_a_false_event_does_not_count_and_eose_after_it_proves_nothing(false):
    row = await ask(("EVENT", "SUB", false), ("EOSE", "SUB"))
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.BAD_EVENT)


async def test_a_true_event_after_a_false_one_counts():
    row = await ask(("EVENT", "SUB", forged(sig="0" * 128)), ("EVENT", "SUB", room().as_dict()), ("EOSE", "SUB"))
    assert row.outcome is Outcome.VISIBLE


async def test_a_false_event_without_eose_is_our_timer():
    row = await ask(("EVENT", "SUB", forged(sig="0" * 128)))
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.TIMEOUT)
    assert "false_event" in row.detail


@pytest.mark.parametrize(
    "other", [room("room-2"), room(keys=Keys.generate()), room(kind=30313)], ids=["another d", "author", "kind"]
)
async def test_an_event_that_was_not_asked_for_does_not_count(other):
    row = await ask(("EVENT", "SUB", other.as_dict()), ("EOSE", "SUB"))
    assert row.outcome is Outcome.ABSENT
    assert json.loads(row.detail) == {"unasked_events": 1}


async def test_an_answer_to_another_subscription_is_no_answer():
    row = await ask(("EOSE", "another"), ("EVENT", "another", room().as_dict()), ("CLOSED", "another", ""))
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.TIMEOUT)


async def test_a_stamp_beyond_64_bits_of_nanoseconds_is_left_out():
    row = await ask(("EVENT", "SUB", room(created_at=2**62).as_dict()))
    assert (row.outcome, row.remote_at) == (Outcome.VISIBLE, None)
    assert json.loads(row.detail)["created_at"] == 2**62


async def test_garbage_and_half_a_megabyte_are_survived():
    noise = [[], ["EVENT"], ["EOSE"], ["CLOSED", 7], ["OK", {}, 1], ["EVENT", "SUB", 5], {"a": 1}, "x" * 500_000]

    async def answer(peer, verb, *rest):
        if verb == "REQ":
            await peer.ws.send(b"\xff\xfe\x00")
            await peer.ws.send(b"\xc3\x28", text=True)
            await peer.ws.send("[" * 100_000)
            for frame in noise:
                await peer.ws.send(json.dumps(frame).replace("SUB", rest[0]))
            await peer.say("EOSE", rest[0])

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        row, _ = await relay.query(TRACE, address=ADDRESS)
    assert row.outcome is Outcome.ABSENT
    assert json.loads(row.detail)["unreadable_frames"] >= 9
    assert len(rows.of(Operation.CONNECT)) == 1


async def test_a_frame_beyond_the_limit_ends_the_connection_with_a_row():
    async def answer(peer, verb, *rest):
        await peer.ws.send("x" * 3_000_000)

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        row, _ = await relay.query(TRACE, address=ADDRESS)
        await until(lambda: len(rows.of(Operation.CONNECT)) == 3)
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.PROTOCOL)
    assert rows.of(Operation.CONNECT, status=1009)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
EVENTS = st.dictionaries(st.sampled_from(["id", "pubkey", "created_at", "kind", "tags", "content", "sig"]), JSON)
SUBSCRIPTIONS = st.sampled_from(["SUB", "PUSH", "x"]) | JSON
FRAMES = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60),
    JSON.map(json.dumps),
    st.tuples(st.just("EVENT"), SUBSCRIPTIONS, EVENTS | JSON).map(json.dumps),
    st.tuples(st.sampled_from(["NOTICE", "OK", "AUTH", "EOSE"]), st.just("x") | JSON, JSON, JSON).map(json.dumps),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(FRAMES, max_size=12))
def test_the_reader_survives_any_frames(frames):
    async def scenario():
        pushes = []

        async def answer(peer, verb, *rest):
            if verb != "REQ":
                return
            if not pushes:
                pushes.append(rest[0])
                return
            for frame in frames:
                if isinstance(frame, str):
                    frame = frame.replace("SUB", rest[0]).replace("PUSH", pushes[0])  # noqa: PLW2901 - filled in
                await peer.ws.send(frame)
            await peer.say("EOSE", rest[0])

        async with hostile.relay(answer) as (url, _), watching(url, keys=HOST) as (relay, rows):
            relay.subscribe({"kinds": [30312]}, lambda event: TRACE)
            await until(lambda: pushes)
            row, _ = await relay.query(TRACE, address=ADDRESS)
        assert row.outcome is Outcome.ABSENT or row.failure is Failure.BAD_EVENT
        assert len(rows.of(Operation.CONNECT)) == 1

    asyncio.run(scenario())


# The connection


async def test_each_connect_is_a_row():
    async with honest() as (_, url), watching(url) as (_, rows):
        pass
    [row] = rows
    assert (row.operation, row.outcome, row.target, row.attempt_no) == (Operation.CONNECT, Outcome.ACCEPTED, url, 1)
    assert set(json.loads(row.detail)) == {"address", "dns_s", "tcp_s", "ws_s"}
    assert row.layer == ""


async def not_open(url, **options):
    """The first connect row of a relay that cannot be reached, and the row of a question asked meanwhile."""
    async with watching(url, wait=False, **({"open_timeout_s": 0.4} | options)) as (relay, rows):
        assert not await relay.ready(0.01)
        await until(lambda: rows.of(Operation.CONNECT))
        asked, _ = await relay.query(TRACE, address=ADDRESS)
    [row, *_] = rows.of(Operation.CONNECT)
    assert (asked.outcome, asked.failure, asked.received_at) == (Outcome.UNKNOWN, row.failure, None)
    assert row.reason in asked.reason
    return row


async def test_nobody_listens():
    row = await not_open(f"ws://127.0.0.1:{hostile.free_port()}")
    assert (row.outcome, row.failure, row.failure_layer) == (Outcome.UNKNOWN, Failure.REFUSED, FailureLayer.TCP)


async def test_a_name_that_does_not_exist():
    row = await not_open("ws://no-such-relay.invalid", open_timeout_s=5)
    assert (row.failure, row.failure_layer) == (Failure.DNS, FailureLayer.DNS)


async def test_a_port_that_accepts_and_stalls():
    async with hostile.tcp(hostile.silence) as port:
        row = await not_open(f"ws://127.0.0.1:{port}")
    assert (row.failure, row.failure_layer, row.timeout_s) == (Failure.TIMEOUT, FailureLayer.WS, 0.4)


async def test_a_port_that_resets():
    async with hostile.tcp(hostile.reset) as port:
        row = await not_open(f"ws://127.0.0.1:{port}")
    assert (row.failure, row.failure_layer) == (Failure.RESET, FailureLayer.WS)


async def test_a_port_that_hangs_up():
    async with hostile.tcp(hostile.hang_up) as port:
        row = await not_open(f"ws://127.0.0.1:{port}")
    assert (row.failure, row.failure_layer) == (Failure.CLOSED, FailureLayer.WS)


@pytest.mark.parametrize(
    ("status", "outcome", "failure"),
    [
        (403, Outcome.REFUSED, Failure.FORBIDDEN),
        (429, Outcome.REFUSED, Failure.RATE_LIMITED),
        (503, Outcome.UNKNOWN, Failure.SERVER_ERROR),
        (302, Outcome.UNKNOWN, Failure.UNEXPECTED),
        (200, Outcome.UNKNOWN, Failure.UNEXPECTED),
    ],
)
async def test_an_http_answer_instead_of_a_websocket(status, outcome, failure):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\nLocation: ws://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n".encode())

    async with hostile.tcp(answer) as port:
        row = await not_open(f"ws://127.0.0.1:{port}")
    assert (row.outcome, row.failure) == (outcome, failure)


@pytest.mark.parametrize(
    "handle", [hostile.silence, hostile.hang_up, hostile.reset], ids=lambda handle: handle.__name__
)
async def test_wss_to_a_plain_port_is_a_tls_failure(handle):
    async with hostile.tcp(handle) as port:
        row = await not_open(f"wss://127.0.0.1:{port}")
    assert (row.failure, row.failure_layer) == (Failure.TLS, FailureLayer.TLS)


async def test_wss_to_a_plain_relay_is_a_tls_failure():
    async with honest() as (_, url):
        row = await not_open(url.replace("ws://", "wss://"))
    assert (row.failure, row.failure_layer) == (Failure.TLS, FailureLayer.TLS)


@pytest.mark.parametrize(
    "url",
    ["", "relay.example", "https://relay.example", "ws://", "ws://host:99999", "ws://host:x", "ws://[::1", "ws://a b/"],
)
def test_a_url_that_is_none_is_a_mistake_with_its_remedy(url):
    with pytest.raises(UsageError, match="wss://host"):
        Relay(Vantage("A", "run", print), url)


@pytest.mark.parametrize("url", ["wss://me:hush@relay.example", "https://me:hush@relay.example", "wss://hush@x"])
def test_a_password_in_a_url_is_refused_and_not_quoted(url):
    with pytest.raises(UsageError) as caught:
        Relay(Vantage("A", "run", print), url)
    assert "hush" not in str(caught.value)


async def test_a_relay_that_closes_in_mid_question():
    async def answer(peer, verb, *rest):
        await peer.ws.close(4000, "maintenance")

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        row, _ = await relay.query(TRACE, address=ADDRESS)
        assert await relay.ready(5)
    assert (row.outcome, row.failure, row.failure_layer) == (Outcome.UNKNOWN, Failure.CLOSED, FailureLayer.WS)
    [lost] = rows.of(Operation.CONNECT, failure=Failure.CLOSED)
    assert (lost.outcome, lost.status, "maintenance" in lost.reason) == (Outcome.UNKNOWN, 4000, True)
    assert lost.sent_at <= lost.received_at
    assert len(rows.of(Operation.CONNECT, outcome=Outcome.ACCEPTED)) == 2


async def test_a_relay_that_resets_in_mid_question():
    async def reset(peer, verb, *rest):
        hostile.rst(peer.ws.transport)

    async with hostile.relay(reset) as (url, _), watching(url) as (relay, _):
        row, _ = await relay.query(TRACE, address=ADDRESS)
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.RESET)


async def test_failure_5_a_half_open_socket_turns_absent_into_unknown_within_ten_seconds():
    async def answer(peer, verb, *rest):
        if verb == "REQ" and len([frame for frame in peer.heard if frame[0] == "REQ"]) == 1:
            await peer.say("EOSE", rest[0])
            peer.ws.transport.pause_reading()  # from now on: no answer, no pong, no close

    async with hostile.relay(answer) as (url, _), watching(url, pong_timeout_s=0.6) as (relay, rows):
        absent, _ = await relay.query(TRACE, address=ADDRESS)
        began = time.monotonic()
        unknown, _ = await relay.query(TRACE, address=ADDRESS, timeout_s=30)
        took = time.monotonic() - began
    assert absent.outcome is Outcome.ABSENT
    assert (unknown.outcome, unknown.failure, unknown.reason) == (
        Outcome.UNKNOWN,
        Failure.TIMEOUT,
        "no pong within 0.6 s",
    )
    assert took < 10
    assert rows.of(Operation.CONNECT, failure=Failure.TIMEOUT)[0].failure_layer is FailureLayer.WS


def test_failure_5_the_defaults_stay_within_ten_seconds():
    options = Relay.__init__.__kwdefaults__
    assert options["ping_s"] * 2 + options["pong_timeout_s"] < 10


async def test_a_half_open_socket_with_a_full_send_buffer_ends_too():
    async def greet(peer):
        peer.ws.transport.pause_reading()

    async def answer(peer, *frame):
        pass

    big = {"kinds": [30312], "#d": ["x" * 8_000_000]}
    async with hostile.relay(answer, greet=greet) as (url, _), watching(url, pong_timeout_s=0.4) as (relay, rows):
        row, _ = await relay.query(TRACE, filters=big, timeout_s=10)
        await until(lambda: rows.of(Operation.CONNECT, failure=Failure.TIMEOUT))
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.TIMEOUT)


async def test_a_blocked_loop_is_not_a_dead_relay():
    async with honest() as (_, url), watching(url, ping_s=0.1, pong_timeout_s=0.3) as (relay, rows):
        for _ in range(3):
            await asyncio.sleep(0.15)
            time.sleep(0.5)  # noqa: ASYNC251 - the fault under test
        row, _ = await relay.query(TRACE, address=ADDRESS)
    assert row.outcome is Outcome.ABSENT
    assert len(rows.of(Operation.CONNECT)) == 1


async def test_a_relay_that_restarts_on_its_port_is_found_again_and_every_attempt_is_a_row():
    eose = says(("EOSE", "SUB"))
    async with hostile.relay(eose) as (url, _):
        link = watching(url)
        relay, rows = await link.__aenter__()
    await until(lambda: rows.of(Operation.CONNECT, failure=Failure.REFUSED))
    away, _ = await relay.query(TRACE, address=ADDRESS)
    async with hostile.relay(eose, port=int(url.rpartition(":")[2])):
        assert await relay.ready(8)
        back, _ = await relay.query(TRACE, address=ADDRESS)
        await link.__aexit__(None, None, None)
    assert (away.outcome, away.failure) == (Outcome.UNKNOWN, Failure.REFUSED)
    assert (back.outcome, back.connection_reused) == (Outcome.ABSENT, False)
    first, lost, *attempts = rows.of(Operation.CONNECT)
    assert (first.outcome, lost.failure, attempts[-1].outcome) == (Outcome.ACCEPTED, Failure.CLOSED, Outcome.ACCEPTED)
    assert {row.failure for row in attempts[:-1]} == {Failure.REFUSED}
    assert [row.attempt_no for row in attempts] == list(range(1, len(attempts) + 1))


async def test_failure_11_a_name_is_resolved_again_for_each_attempt(monkeypatch):
    """The name moves from one loopback address to another while the relay is watched, as DNS names do."""
    loop, home, asked = asyncio.get_running_loop(), ["127.0.0.1"], []
    resolve = loop.getaddrinfo

    async def getaddrinfo(host, port, **options):
        if host != "relay.test":
            return await resolve(host, port, **options)
        asked.append(home[0])
        return await resolve(home[0], port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with hostile.relay(says(("EOSE", "SUB")), host="127.0.0.2") as (there, _):
        port = int(there.rpartition(":")[2])
        async with hostile.relay(says(("EOSE", "SUB")), port=port) as _:
            link = watching(f"ws://relay.test:{port}")
            relay, rows = await link.__aenter__()
            home[0] = "127.0.0.2"
        await until(lambda: len(rows.of(Operation.CONNECT, outcome=Outcome.ACCEPTED)) == 2)
        row, _ = await relay.query(TRACE, address=ADDRESS)
        await link.__aexit__(None, None, None)
    assert row.outcome is Outcome.ABSENT
    assert asked[0] == "127.0.0.1"
    assert asked[-1] == "127.0.0.2"
    assert f"127.0.0.2:{port}" in rows.of(Operation.CONNECT, outcome=Outcome.ACCEPTED)[-1].detail


async def test_pauses_between_attempts_grow_and_each_attempt_is_numbered():
    url = f"ws://127.0.0.1:{hostile.free_port()}"
    async with watching(url, wait=False) as (_, rows):
        await until(lambda: len(rows) == 4)
    gaps = [(later.sent_at - row.sent_at) / 1e9 for row, later in itertools.pairwise(rows)]
    assert [row.attempt_no for row in rows] == [1, 2, 3, 4]
    assert len({row.attempt_group for row in rows}) == 1
    assert gaps[0] >= 0.2
    assert gaps[1] >= 0.4
    assert gaps[2] >= 0.8


async def test_leaving_in_mid_question_ends_it_as_our_own_doing():
    async with hostile.relay(says()) as (url, _):
        async with watching(url) as (relay, rows):
            asking = asyncio.create_task(relay.query(TRACE, address=ADDRESS, timeout_s=30))
            await asyncio.sleep(0.1)
        row, _ = await asking
    assert (row.outcome, row.failure_layer) == (Outcome.PROBE_ERROR, FailureLayer.PROBER)
    assert len(rows.of(Operation.CONNECT)) == 1


async def test_a_cancelled_question_is_closed_and_forgotten():
    async with hostile.relay(says()) as (url, heard), watching(url) as (relay, _):
        asking = asyncio.create_task(relay.query(TRACE, address=ADDRESS, timeout_s=30))
        await until(lambda: heard)
        asking.cancel()
        await until(lambda: len(heard) == 2)
        assert relay._link is not None
        assert relay._link.questions == {}
    assert [frame[0] for frame in heard] == ["REQ", "CLOSE"]


async def test_a_full_disk_stops_the_connection_and_is_raised():
    async with hostile.relay(says(("EVENT", "SUB", room().as_dict()))) as (url, _):
        rows = []

        def sink(row):
            rows.append(row)
            if row.operation is Operation.SUBSCRIBE:
                raise StoreFullError("the disk is full: free some space")

        relay = Relay(Vantage("A", "run", sink), url)
        await relay.__aenter__()
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE)
        await until(lambda: rows and rows[-1].operation is Operation.SUBSCRIBE)
        await asyncio.sleep(0.1)
        with pytest.raises(StoreFullError):
            await relay.query(TRACE, address=ADDRESS)
        with pytest.raises(StoreFullError):
            await relay.__aexit__(None, None, None)


# Publishing


async def test_an_intent_is_written_before_anything_is_sent():
    event = room()
    async with honest() as (_, url), watching(url) as (relay, rows):
        done = await relay.publish(TRACE, event)
    intent, row = rows.of(Operation.PUBLISH)
    assert (intent.outcome, intent.failure, intent.received_at) == (Outcome.UNKNOWN, Failure.INTENT, None)
    assert (intent.attempt_group, intent.attempt_no) == (row.attempt_group, row.attempt_no)
    assert (row, row.role, row.layer) == (done, Role.HOST, "")
    [back] = rows.of(Operation.READ_BACK)
    assert (back.outcome, back.role, back.layer) == (Outcome.VISIBLE, Role.HOST, "")


async def test_a_refused_publication_keeps_the_relays_words():
    async def answer(peer, verb, *rest):
        await peer.say("OK", rest[0]["id"], False, "blocked: not on the list")

    async with hostile.relay(answer) as (url, heard), watching(url) as (relay, rows):
        row = await relay.publish(TRACE, room())
    assert (row.outcome, row.failure, row.reason) == (
        Outcome.REFUSED,
        Failure.RELAY_REFUSED,
        "blocked: not on the list",
    )
    assert rows.of(Operation.READ_BACK) == []
    assert len(heard) == 1


@pytest.mark.parametrize(("accepted", "outcome"), [(True, Outcome.ACCEPTED), (False, Outcome.REFUSED)])
async def test_failure_6_an_ok_after_the_timer_corrects_the_row_and_nothing_is_sent_again(accepted, outcome):
    async def answer(peer, verb, *rest):
        await asyncio.sleep(0.4)
        await peer.say("OK", rest[0]["id"], accepted, "")

    async with hostile.relay(answer) as (url, heard), watching(url) as (relay, rows):
        row = await relay.publish(TRACE, room(), timeout_s=0.1)
        await until(lambda: len(rows.of(Operation.PUBLISH)) == 3)
    _, unknown, late = rows.of(Operation.PUBLISH)
    assert (row, row.outcome, row.failure, row.received_at) == (unknown, Outcome.UNKNOWN, Failure.TIMEOUT, None)
    assert (late.outcome, json.loads(late.detail)["late"]) == (outcome, True)
    assert (late.attempt_group, late.attempt_no) == (unknown.attempt_group, unknown.attempt_no)
    assert late.sent_at == unknown.sent_at < late.received_at
    assert len(heard) == 1


async def test_failure_6_an_ok_after_the_caller_gave_up_is_a_row_too():
    async def answer(peer, verb, *rest):
        await asyncio.sleep(0.1)
        await peer.say("OK", rest[0]["id"], True, "")

    async with hostile.relay(answer) as (url, heard), watching(url) as (relay, rows):
        publishing = asyncio.create_task(relay.publish(TRACE, room()))
        await until(lambda: heard)
        publishing.cancel()
        await until(lambda: len(rows.of(Operation.PUBLISH)) == 2)
    assert [row.outcome for row in rows.of(Operation.PUBLISH)] == [Outcome.UNKNOWN, Outcome.ACCEPTED]


async def test_failure_6_ok_without_storage_is_found_out_by_reading_back():
    async def answer(peer, verb, *rest):
        await peer.say(*(("OK", rest[0]["id"], True, "") if verb == "EVENT" else ("EOSE", rest[0])))

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        row = await relay.publish(TRACE, room())
    assert row.outcome is Outcome.ACCEPTED
    back = rows.of(Operation.READ_BACK)
    assert [(found.outcome, found.failure, found.attempt_no) for found in back] == [
        (Outcome.ABSENT, Failure.NOT_STORED, number) for number in (1, 2, 3)
    ]
    assert back[0].reason == "OK but not there when read back"
    assert json.loads(back[0].detail) == {"published": row.attempt_group}


async def test_a_publication_without_a_connection_is_unknown_after_its_intent():
    async with watching(f"ws://127.0.0.1:{hostile.free_port()}", wait=False) as (relay, rows):
        await until(lambda: rows)
        row = await relay.publish(TRACE, room())
    assert [found.failure for found in rows.of(Operation.PUBLISH)] == [Failure.INTENT, Failure.REFUSED]
    assert row.outcome is Outcome.UNKNOWN


# Subscriptions


async def test_a_pushed_event_is_bounded_by_the_last_answered_ping_a_margin_before_it():
    seen, event = [], room()
    async with honest() as (_, url), watching(url) as (relay, rows), watching(url) as (host, _):
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE, seen.append)
        await asyncio.sleep(PUSH_MARGIN_S + 0.5)
        await host.publish(TRACE, event, read_back=False)
        await until(lambda: seen)
    absent, visible = rows.of(Operation.SUBSCRIBE)
    assert (absent.outcome, visible.outcome) == (Outcome.ABSENT, Outcome.VISIBLE)
    assert MARGIN_NS <= visible.received_at - absent.sent_at < MARGIN_NS + 2e9
    assert absent.sent_at <= absent.received_at < visible.received_at
    assert visible.sent_at == visible.received_at
    assert (seen[0].event, seen[0].received_at) == (event, visible.received_at)
    assert visible.layer == absent.layer == f"relay:{url}"


async def test_silence_before_an_edit_is_none_of_its_nest():
    """A vantage that reconnects is given the nest, and then, after pings that were answered, its closing."""
    first, edit, other, seen = room(created_at=1_700_000_000), room(created_at=1_700_000_001), room("other"), []
    async with honest() as (_, url), watching(url) as (host, _), watching(url) as (relay, rows):
        await host.publish(TRACE, first, read_back=False)
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE, seen.append)
        await until(lambda: seen)
        await asyncio.sleep(PUSH_MARGIN_S + 0.5)
        await host.publish(TRACE, edit, read_back=False)
        await host.publish(TRACE, other, read_back=False)
        await until(lambda: len(seen) == 3)
    absents = [row for row in rows.of(Operation.SUBSCRIBE) if row.outcome is Outcome.ABSENT]
    assert [facts_of(row.detail)["event_id"] for row in absents] == [other.id]


async def test_a_stored_event_has_no_lower_bound():
    seen = []
    async with honest() as (_, url), watching(url) as (relay, rows):
        await relay.publish(TRACE, room(), read_back=False)
        await asyncio.sleep(PUSH_MARGIN_S + 0.5)
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE, seen.append)
        await until(lambda: seen)
    assert [row.outcome for row in rows.of(Operation.SUBSCRIBE)] == [Outcome.VISIBLE]


async def test_an_edit_is_new_and_a_duplicate_is_not():
    event, edit, seen = room(created_at=1_700_000_000), room(created_at=1_700_000_001), []

    async def answer(peer, verb, *rest):
        await peer.say("EVENT", rest[0], event.as_dict())
        await peer.say("EOSE", rest[0])
        for again in (event, edit, event, edit):
            await peer.say("EVENT", rest[0], again.as_dict())

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE, seen.append)
        await until(lambda: len(seen) == 2)
        await asyncio.sleep(0.1)
    assert [found.event.id for found in seen] == [event.id, edit.id]
    assert len(rows.of(Operation.SUBSCRIBE)) == 2


async def test_a_forged_id_does_not_hide_the_true_event():
    event, seen = room(), []

    async def answer(peer, verb, *rest):
        await peer.say("EVENT", rest[0], event.as_dict() | {"sig": "0" * 128})
        await peer.say("EVENT", rest[0], event.as_dict() | {"sig": "1" * 128})
        await peer.say("EVENT", rest[0], event.as_dict())

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE, seen.append)
        await until(lambda: seen)
    assert [(row.outcome, row.failure) for row in rows.of(Operation.SUBSCRIBE)] == [
        (Outcome.UNKNOWN, Failure.BAD_EVENT),
        (Outcome.VISIBLE, None),
    ]


async def test_a_silent_socket_that_answers_no_ping_gives_no_lower_bound():
    event, seen, peers = room(), [], []

    async def answer(peer, verb, *rest):
        await peer.say("EOSE", rest[0])
        peer.ws.transport.pause_reading()  # alive enough to push, but no ping is answered
        peers.append((peer, rest[0]))

    async with hostile.relay(answer) as (url, _), watching(url, pong_timeout_s=30) as (relay, rows):
        await asyncio.sleep(0.3)
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE, seen.append)
        await asyncio.sleep(PUSH_MARGIN_S + 0.4)
        peer, subscription = peers[0]
        await peer.say("EVENT", subscription, event.as_dict())
        await until(lambda: seen)
    assert [row.outcome for row in rows.of(Operation.SUBSCRIBE)] == [Outcome.VISIBLE]


async def test_events_without_a_trace_are_seen_but_are_no_rows_and_other_kinds_are_neither():
    seen = []
    chat, nest = room(kind=1311), room()

    async def answer(peer, verb, *rest):
        await peer.say("EVENT", rest[0], chat.as_dict())
        await peer.say("EVENT", rest[0], nest.as_dict())

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        relay.subscribe({"kinds": [30312, 1311]}, lambda event: None, seen.append)
        await until(lambda: seen)
    assert [found.event.id for found in seen] == [nest.id]
    assert rows.of(Operation.SUBSCRIBE) == []


async def test_a_subscription_outlives_a_reconnection():
    event, seen, asked = room(), [], []

    async def answer(peer, verb, *rest):
        asked.append(rest[0])
        if len(asked) == 1:
            await peer.ws.close()
        else:
            await peer.say("EVENT", rest[0], event.as_dict())

    async with hostile.relay(answer) as (url, _), watching(url, wait=False) as (relay, rows):
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE, seen.append)
        await until(lambda: seen)
    assert len(asked) == 2
    assert [row.outcome for row in rows.of(Operation.SUBSCRIBE)] == [Outcome.VISIBLE]


async def test_a_callback_that_fails_is_a_probe_error_and_the_watching_goes_on():
    events, asked = [room("a"), room("b")], []

    async def answer(peer, verb, *rest):
        for event in events:
            await peer.say("EVENT", rest[0], event.as_dict())

    def trace_of(event):
        asked.append(event)
        raise KeyError("no such nest")

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        relay.subscribe({"kinds": [30312]}, trace_of)
        await until(lambda: len(asked) == 2)
    assert [(row.outcome, row.failure) for row in rows.of(Operation.SUBSCRIBE)] == [
        (Outcome.PROBE_ERROR, Failure.INTERNAL)
    ] * 2


async def test_a_flood_leaves_a_bounded_memory(monkeypatch):
    monkeypatch.setattr("nestobs.sources.relay.pushes.REMEMBERED_IDS", 5)
    events, seen = [room(f"r{number}") for number in range(20)], []

    async def answer(peer, verb, *rest):
        for event in events:
            await peer.say("EVENT", rest[0], event.as_dict())

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, _):
        relay.subscribe({"kinds": [30312]}, lambda event: None, seen.append)
        await until(lambda: len(seen) == 20)
        assert len(relay._subscriptions[0].seen) == 5


async def test_a_relay_that_is_lost_while_it_is_being_closed_ends(monkeypatch):
    """A TaskGroup that fails while it is cancelled raises the failure, and the cancellation is lost (Python 3.11)."""

    async def slow_to_end(link, *_):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.3)

    monkeypatch.setattr(Link, "keep_pinging", slow_to_end)
    async with honest() as (server, url):
        relay = Relay(Vantage("A", "run", lambda row: None), url)
        async with asyncio.timeout(5):
            async with relay:
                assert await relay.ready(5)
                server.shutdown()
                while await relay.ready(0):  # noqa: ASYNC110 - a relay has no event to say that it was lost
                    await asyncio.sleep(0.01)
