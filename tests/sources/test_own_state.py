"""What we held up ourselves is no finding about anybody: our loop blocked, stopped, starved, against servers that go
on, in every kind of attempt. What is judged then is `probe_error`; what came is proof; bounds hold the truth."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import SimpleNamespace

import pytest

from nestobs.collector.manners import CAREFUL
from nestobs.collector.prober import _Joiner
from nestobs.join.budget import Limiter
from nestobs.nostr import Address, Keys
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Source
from nestobs.sources import control, visit
from nestobs.sources.api import Api
from nestobs.sources.livekit import LiveKit
from nestobs.sources.relay import Relay, connection
from nestobs.sources.vantage import Trace
from worlds import apart
from worlds.apart import block
from worlds.served_api import served_api

pytestmark = pytest.mark.slow

KEYS = Keys.generate()
TRACE = Trace("trace", "", "room")
ADDRESS = Address(30312, KEYS.public, "room")
NEVER_S = 60.0
TIMEOUT_S = 0.6
ROOM = json.dumps({"token": "t", "roomId": "room", "host": "h", "status": "active", "error": ""}).encode()


def event():
    return KEYS.sign(30312, created_at=int(time.time()), tags=[["d", "room"], ["room", "x"], ["status", "open"]])


def http_after(seconds):
    async def answer(method, path):
        await asyncio.sleep(seconds)
        return 200, ROOM

    return lambda: apart.http(answer)


def relay_after(seconds, **options):
    async def answer(say, verb, name, *rest):
        await asyncio.sleep(seconds)
        if verb == "REQ":
            await say("EOSE", name)
        elif verb == "EVENT":
            await say("OK", name["id"], True, "")

    return apart.relay(answer, **options)


async def an_api(vantage, stack, seconds, ask):
    port = await stack.enter_async_context(apart.apart(http_after(seconds)))
    api = await stack.enter_async_context(served_api(vantage, port))
    return lambda: ask(api)


async def a_livekit(vantage, stack, port, ask):
    options = {"key": "k", "secret": "s" * 32, "timeout_s": TIMEOUT_S}
    livekit = await stack.enter_async_context(LiveKit(vantage, f"ws://127.0.0.1:{port}", **options))
    return lambda: ask(livekit)


async def a_signal(vantage, stack, seconds):
    port = await stack.enter_async_context(apart.apart(apart.signalling(after_s=seconds)))

    async def ask(livekit):
        _, session = await livekit.signal(TRACE, "token", timeout_s=TIMEOUT_S)
        if session is not None:
            await session.close()

    return await a_livekit(vantage, stack, port, ask)


async def a_room_list(vantage, stack, seconds):
    port = await stack.enter_async_context(apart.apart(http_after(seconds)))
    return await a_livekit(vantage, stack, port, lambda livekit: livekit.rooms(TRACE))


async def a_relay(vantage, stack, seconds, ask):
    port = await stack.enter_async_context(apart.apart(relay_after(seconds)))
    relay = await stack.enter_async_context(Relay(vantage, f"ws://127.0.0.1:{port}", ping_s=60, pong_timeout_s=60))
    assert await relay.ready(5)
    return lambda: ask(relay)


@asynccontextmanager
async def followed(vantage, server, on_seen, **options):
    """A relay in a thread of its own, its nests followed by a watched vantage."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(vantage.watch.running())
        port = await stack.enter_async_context(apart.apart(server))
        relay = await stack.enter_async_context(Relay(vantage, f"ws://127.0.0.1:{port}", ping_s=0.1, **options))
        assert await relay.ready(5)
        relay.subscribe({"kinds": [30312]}, lambda _: TRACE, on_seen)
        yield


async def a_connection(vantage, stack, seconds):
    port = await stack.enter_async_context(apart.apart(relay_after(0, accept_s=seconds)))

    async def ask():
        async with Relay(vantage, f"ws://127.0.0.1:{port}", open_timeout_s=TIMEOUT_S) as relay:
            await relay.ready(TIMEOUT_S + 0.1)  # it is not tried again so soon
            await relay.query(TRACE, address=ADDRESS, timeout_s=TIMEOUT_S)

    return ask


LATE = {"timeout_s": TIMEOUT_S}
ATTEMPTS = {
    "info": lambda v, s, a: an_api(v, s, a, lambda api: api.info(TRACE, **LATE)),
    "join": lambda v, s, a: an_api(v, s, a, lambda api: api.join(TRACE, KEYS, **LATE)),
    "guest": lambda v, s, a: an_api(v, s, a, lambda api: api.guest(TRACE, **LATE)),
    "create": lambda v, s, a: an_api(v, s, a, lambda api: api.create(TRACE, KEYS, ("wss://relay.example",), **LATE)),
    "restart": lambda v, s, a: an_api(v, s, a, lambda api: api.restart(TRACE, KEYS, **LATE)),
    "delete": lambda v, s, a: an_api(v, s, a, lambda api: api.delete(TRACE, KEYS, **LATE)),
    "health": lambda v, s, a: an_api(v, s, a, lambda api: api.health(**LATE)),
    "rooms": a_room_list,
    "signal": a_signal,
    "query": lambda v, s, a: a_relay(v, s, a, lambda relay: relay.query(TRACE, address=ADDRESS, **LATE)),
    "publish": lambda v, s, a: a_relay(v, s, a, lambda relay: relay.publish(TRACE, event(), read_back=False, **LATE)),
    "connect": a_connection,
}


def judged(rows, since=0):
    """The rows of attempts: no intents, and none about ourselves."""
    return [row for row in rows[since:] if row.failure is not Failure.INTENT and row.operation is not Operation.STEP]


async def attempt(name, vantage, rows, *, answers_s, blocked=()):
    """The rows of one attempt at a server that answers after so long, while our loop is blocked so."""
    async with vantage.watch.running(), AsyncExitStack() as stack:
        ask = await ATTEMPTS[name](vantage, stack, answers_s)
        await asyncio.sleep(0.1)
        since = len(rows)
        for after_s, for_s in blocked:
            block(after_s, for_s)
        await ask()
        return judged(rows, since)


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_an_answer_that_came_while_our_loop_stood_still_is_read_or_not_judged(name, vantage, rows):
    found = await attempt(name, vantage, rows, answers_s=TIMEOUT_S / 2, blocked=[(0.1, 1.2)])
    assert found
    for row in found:
        read = row.status is not None or row.outcome in (Outcome.VISIBLE, Outcome.ACCEPTED, Outcome.ABSENT)
        assert read or row.failure is Failure.LOOP_BLOCKED, row


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_silence_while_our_loop_stood_still_is_our_own_fault_and_says_by_how_much(name, vantage, rows):
    found = await attempt(name, vantage, rows, answers_s=NEVER_S, blocked=[(0.1, 0.3)])
    assert found
    for row in found:
        assert (row.outcome, row.failure, row.failure_layer) == (
            Outcome.PROBE_ERROR,
            Failure.LOOP_BLOCKED,
            FailureLayer.PROBER,
        ), row
        assert "not judged: our own event loop stood still for 0." in row.reason
        assert row.loop_lag_s > 0.2
    assert any("of 0.6 s" in row.reason for row in found)


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_silence_alone_is_what_it_was(name, vantage, rows):
    found = await attempt(name, vantage, rows, answers_s=NEVER_S)
    assert found
    assert {(row.outcome, row.failure) for row in found} == {(Outcome.UNKNOWN, Failure.TIMEOUT)}


# What came is proof, and its bounds hold the truth


@pytest.mark.parametrize("pushed_s", [0.0, 0.5, 0.9], ids=lambda value: f"pushed {value:g} s late")
@pytest.mark.parametrize("blocked", [(0.0, 0.0), (0.2, 1.6), (0.7, 1.5), (-0.3, 0.6)], ids=str)
async def test_a_push_read_late_is_bounded_by_what_came_before_it(vantage, rows, until, pushed_s, blocked):
    """The relay pushes within PUSH_MARGIN_S of showing the event; our loop is blocked around that."""
    shown, seen, made = [], [], event()

    async def answer(say, verb, name, *rest):
        if verb == "REQ":
            await say("EOSE", name)
            await asyncio.sleep(1.6)
            shown.append(vantage.clock.now())
            await asyncio.sleep(pushed_s)
            await say("EVENT", name, made.as_dict())

    async with followed(vantage, apart.relay(answer), seen.append):
        block(1.6 + blocked[0], blocked[1])
        await until(lambda: seen)
    absent, visible = [row for row in rows if row.operation is Operation.SUBSCRIBE]
    assert (absent.outcome, visible.outcome) == (Outcome.ABSENT, Outcome.VISIBLE)
    assert absent.sent_at < shown[0] <= visible.received_at
    assert visible.sent_at <= visible.received_at


async def test_a_pong_that_lies_behind_the_event_is_no_silence_before_it(vantage, rows, until):
    """Event and pong come in one piece after we were blocked: the event was pushed before the ping was answered."""
    seen, made = [], event()

    async def talk(connection):
        name = json.loads(await connection.recv())[1]
        await connection.send(json.dumps(["EOSE", name]))
        await asyncio.sleep(0.3)
        connection.transport.pause_reading()
        await asyncio.sleep(1.5)
        for _ in range(40):  # what waits to be read before it
            await connection.send(json.dumps(["NOTICE", "x" * 400]))
        await connection.send(json.dumps(["EVENT", name, made.as_dict()]))
        connection.transport.resume_reading()
        await asyncio.sleep(30)

    async with followed(vantage, lambda: apart.ws(talk), seen.append, pong_timeout_s=30):
        began = vantage.clock.now()
        block(1.2, 1.5)
        await until(lambda: seen)
    absent, _ = [row for row in rows if row.operation is Operation.SUBSCRIBE]
    assert absent.sent_at < began + 0.5e9, "no ping of later had its pong before the event"


# A connection that is lost, a relay that asks who we are, a control, a name to be resolved


@pytest.mark.parametrize("blocked_s", [0.0, 1.2])
async def test_who_is_dropped_for_pings_that_our_loop_did_not_send_was_not_dropped_by_livekit(
    vantage, rows, monkeypatch, blocked_s
):
    monkeypatch.setattr(visit, "PING_S", 0.1 if blocked_s else NEVER_S)
    async with (
        vantage.watch.running(),
        apart.apart(apart.signalling(patience_s=0.6)) as port,
        AsyncExitStack() as stack,
    ):
        livekit = await stack.enter_async_context(LiveKit(vantage, f"ws://127.0.0.1:{port}"))
        station = SimpleNamespace(clock=vantage.clock, vantage=vantage)
        joiner = _Joiner(
            station=station,  # type: ignore[arg-type]
            trace=TRACE,
            address=None,
            keys=None,
            media=False,
            group="group",
            livekit=livekit,
            care=CAREFUL,
            seat=lambda: False,
            uses_info=False,
            own_clock=False,
        )
        row, session = await livekit.signal(TRACE, "token")
        joiner.entered_at = row.sent_at
        joiner.sessions.append(session)
        block(0.0, blocked_s)
        reply = await joiner.stay(2.5)
        await joiner.leave()
    expected = (Outcome.PROBE_ERROR, Failure.LOOP_BLOCKED) if blocked_s else (Outcome.UNKNOWN, Failure.DROPPED)
    assert (reply.outcome, reply.failure) == expected
    assert "signalling socket was lost" in reply.reason


@pytest.mark.parametrize("blocked", [True, False], ids=["held up", "in time"])
async def test_an_answer_to_a_challenge_that_our_loop_held_up_is_not_one_that_the_relay_does_not_take(
    vantage, rows, monkeypatch, blocked
):
    monkeypatch.setattr(connection, "ANSWER_S", 0.4)

    async def answer(say, verb, name, *rest):
        if verb == "REQ":
            await say("AUTH", "challenge")
            await say("EOSE", name)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(vantage.watch.running())
        port = await stack.enter_async_context(apart.apart(apart.relay(answer)))
        url = f"ws://127.0.0.1:{port}"
        relay = await stack.enter_async_context(Relay(vantage, url, keys=KEYS, ping_s=60, pong_timeout_s=60))
        assert await relay.ready(5)
        if blocked:
            block(0.1, 0.3)
        await relay.query(TRACE, address=ADDRESS, timeout_s=3)
    _, again, *_ = [row for row in rows if row.operation is Operation.QUERY]  # first it is asked by a stranger
    if blocked:
        assert (again.outcome, again.failure) == (Outcome.PROBE_ERROR, Failure.LOOP_BLOCKED)
        assert "stood still" in again.reason
        assert "is not known" in again.reason
    else:
        assert (again.outcome, again.failure) == (Outcome.REFUSED, Failure.AUTH_REQUIRED)
        assert "no OK within" in again.reason


@pytest.mark.parametrize("blocked", [True, False], ids=["held up", "in time"])
async def test_a_pong_that_our_loop_held_up_is_no_dead_relay_for_anything_that_was_under_way(
    vantage, rows, until, blocked
):
    """The relay goes on talking, so its last sign of life is always a moment ago."""

    async def talk(connection):
        connection.transport.pause_reading()
        while True:
            await connection.send(json.dumps(["NOTICE", "still here"]))
            await asyncio.sleep(0.02)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(vantage.watch.running())
        url = f"ws://127.0.0.1:{await stack.enter_async_context(apart.apart(lambda: apart.ws(talk)))}"
        relay = await stack.enter_async_context(Relay(vantage, url, ping_s=0.1, pong_timeout_s=1.0))
        assert await relay.ready(5)
        if blocked:
            block(0.2, 0.4)
        row, _ = await relay.query(TRACE, address=ADDRESS, timeout_s=5)
        await until(lambda: [row for row in rows if row.operation is Operation.CONNECT and "lost" in row.detail])
    lost = [row for row in rows if row.operation is Operation.CONNECT and "lost" in row.detail]
    for one in (row, *lost[:1]):
        expected = (Outcome.PROBE_ERROR, Failure.LOOP_BLOCKED) if blocked else (Outcome.UNKNOWN, Failure.TIMEOUT)
        assert (one.outcome, one.failure) == expected
        assert "no pong within 1 s" in one.reason


@pytest.mark.parametrize("blocked", [True, False], ids=["held up", "in time"])
async def test_a_control_that_our_loop_held_up_says_nothing_of_the_network(vantage, rows, monkeypatch, until, blocked):
    monkeypatch.setattr(control, "TIMEOUT_S", 0.4)

    async def never(*_, **__):
        await asyncio.sleep(NEVER_S)

    monkeypatch.setattr(asyncio, "open_connection", never)
    async with vantage.watch.running():
        trier = control.Control(vantage, "127.0.0.1:1")
        unreached = vantage.record(
            TRACE,
            sent_at=vantage.clock.now(),
            source=Source.API,
            target="t",
            operation=Operation.INFO,
            outcome=Outcome.UNKNOWN,
            failure=Failure.TIMEOUT,
            reason="no answer",
        )
        trier.consider(unreached)
        if blocked:
            block(0.1, 0.25)
        found = await until(lambda: [row for row in rows if row.target.startswith("tcp://")])
        await trier.close()
    assert found[0].failure is (Failure.LOOP_BLOCKED if blocked else Failure.NO_NETWORK)


async def test_a_name_that_waits_for_a_thread_of_ours_is_no_name_that_does_not_resolve(vantage, rows):
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    async with vantage.watch.running(), Api(vantage, "http://localhost:9/api/v1/nests", Limiter(1000)) as api:
        await api.info(TRACE)  # what is imported at the first request is imported now
        busy = loop.run_in_executor(None, time.sleep, 2.0)
        await api.info(TRACE, timeout_s=1.0)
        await busy
    _, row = judged(rows)
    assert (row.outcome, row.failure) == (Outcome.PROBE_ERROR, Failure.LOOP_BLOCKED)
    assert "no thread of our own was free" in row.reason


async def test_a_thread_that_keeps_the_interpreter_costs_no_answer_its_proof(vantage, rows):
    with apart.greedy(2):
        found = await attempt("query", vantage, rows, answers_s=0.2)
    assert all(row.outcome is Outcome.ABSENT or row.failure is Failure.LOOP_BLOCKED for row in found)


# A process of its own, that is stopped or starved


CHILD = """
import asyncio, json, sys
from nestobs.join.budget import Limiter
from nestobs.sources.api import Api
from nestobs.sources.vantage import Trace, Vantage

async def main(port):
    rows = []
    vantage = Vantage("A", "run", rows.append)
    async with vantage.watch.running(), Api(vantage, f"http://127.0.0.1:{port}/api/v1/nests", Limiter(1000)) as api:
        await asyncio.sleep(0.2)
        print("asking", flush=True)
        for _ in range(int(sys.argv[2])):
            await api.info(Trace("t", "", "room"), timeout_s=float(sys.argv[3]))
    told = [row for row in rows if row.target != "clock:"]
    print(json.dumps([[row.outcome, row.failure, row.reason, row.status, row.sent_at] for row in told]))

asyncio.run(main(int(sys.argv[1])))
"""


async def child(port, times, timeout_s, meanwhile):
    """The rows of a process that asks so often; `meanwhile(process)` runs beside it."""
    words = [sys.executable, "-c", CHILD, str(port), str(times), str(timeout_s)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    await meanwhile(process)
    said, _ = await process.communicate()
    return json.loads(said)


@pytest.mark.parametrize("answers_s", [0.5, NEVER_S])
async def test_a_process_that_was_stopped_blames_nobody(answers_s):
    async def stop(process):
        await asyncio.sleep(0.1)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(3)
        process.send_signal(signal.SIGCONT)

    async with apart.apart(http_after(answers_s)) as port:
        [[outcome, failure, reason, status, _]] = await child(port, 1, 1.0, stop)
    assert status == 200 or (outcome, failure) == ("probe_error", "loop_blocked")
    if answers_s == NEVER_S:
        assert re.search(r"stood still for [23]\.\d+ s of 1 s", reason)


class Punctual:
    """A server that answers after a while, and says of an instant whether it answered within so many seconds of it."""

    def __init__(self, seconds):
        self._seconds, self._answered = seconds, []

    def __call__(self):
        async def answer(method, path):
            await asyncio.sleep(self._seconds)
            self._answered.append(time.time_ns())
            return 200, ROOM

        return apart.http(answer)

    def answered(self, at, seconds):
        return any(at <= answered <= at + seconds * 1e9 for answered in self._answered)


async def blamed(starve, *, times=20, timeout_s=0.1):
    """What a process that `starve` holds up says of a server that answered it in time, each an outcome and failure."""
    server = Punctual(0.04)
    async with apart.apart(server) as port:
        found = await child(port, times, timeout_s, starve)
    assert len(found) == times
    in_time = [row for row in found if server.answered(row[4], 0.9 * timeout_s)]
    assert in_time
    return {(outcome, failure) for outcome, failure, _, status, _ in in_time if status != 200}


OWN = {("probe_error", "loop_blocked")}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are pinned by Linux's call")
async def test_a_process_beside_greedy_ones_on_its_processor_blames_nobody():
    """Some four of the observer's five turns are given away."""
    cpu = min(os.sched_getaffinity(0))
    greedy = []

    async def starve(process):
        os.sched_setaffinity(process.pid, {cpu})
        for _ in range(8):
            greedy.append(await asyncio.create_subprocess_exec("yes", stdout=asyncio.subprocess.DEVNULL))
            os.sched_setaffinity(greedy[-1].pid, {cpu})
        await asyncio.sleep(2)

    try:
        assert await blamed(starve) <= OWN
    finally:
        for one in greedy:
            one.kill()
            await one.wait()


async def test_a_process_that_is_stopped_again_and_again_blames_nobody():
    """As the kernel does with a container that has used up its share of a processor."""
    stopping = []

    async def starve(process):
        async def go():
            while process.returncode is None:
                for sign, seconds in ((signal.SIGSTOP, 0.08), (signal.SIGCONT, 0.02)):
                    with suppress(ProcessLookupError):  # what ended meanwhile
                        os.kill(process.pid, sign)  # `send_signal` would take its exit code from asyncio
                    await asyncio.sleep(seconds)

        stopping.append(asyncio.create_task(go()))

    assert await blamed(starve, times=60) <= OWN
    await asyncio.gather(*stopping)
