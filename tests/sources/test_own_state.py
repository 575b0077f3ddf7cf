"""What we held up ourselves is no finding about anybody: our loop blocked, stopped, starved, against servers that go
on, in every kind of attempt. What is judged then is `probe_error`; what came is proof; bounds hold the truth."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack

import pytest

from nestobs.join.budget import Limiter
from nestobs.nostr import Address, Keys
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome
from nestobs.sources.api import Api
from nestobs.sources.livekit import LiveKit
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace
from worlds import apart
from worlds.apart import block

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
    api = await stack.enter_async_context(Api(vantage, f"http://127.0.0.1:{port}/api/v1/nests", Limiter(1000)))
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
        assert row.outcome in (Outcome.VISIBLE, Outcome.ACCEPTED, Outcome.ABSENT) or row.failure in (
            Failure.LOOP_BLOCKED,
            Failure.PROTOCOL,  # a room list that is JSON
        ), row


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
