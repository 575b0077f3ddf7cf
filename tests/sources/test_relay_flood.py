"""A relay that floods is cut off, said so once, and costs neither memory nor rows; what is honest passes the bounds."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs import nostr
from nestobs.nostr import Address, Keys
from nestobs.observation.schema import Failure, Operation, Outcome
from nestobs.sources.relay import Relay
from nestobs.sources.relay.flood import FRAME_BYTES, Bucket
from nestobs.sources.vantage import Trace, Vantage
from worlds import hostile_relays as hostile
from worlds.flooders import KINDS

pytestmark = pytest.mark.slow

HOST = Keys.generate()
ADDRESS = Address(30312, HOST.public, "room-1")
TRACE = Trace("trace-1", str(ADDRESS), "room-1")
FLOODS = [kind for kind in KINDS if kind != "patient"]


@asynccontextmanager
async def watching(url, **options):
    rows = []
    async with Relay(Vantage("A", "run", rows.append), url, **{"ping_s": 0.2} | options) as relay:
        assert await relay.ready(5)
        yield relay, rows


@pytest.fixture(scope="module")
def flooding():
    """URLs of relays that flood, by kind, in another process."""
    words = [sys.executable, "-m", "worlds.flooders", *KINDS]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as running:
        yield {kind: f"ws://127.0.0.1:{port}" for kind, port in json.loads(running.stdout.readline()).items()}
        running.kill()


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("by", ["subscription", "question"])
async def test_a_relay_that_floods_is_cut_off_and_said_so(flooding, kind, by):
    async with watching(flooding[kind], keys=HOST, ping_s=8.0) as (relay, rows):  # it is slow to answer pings, too
        if by == "subscription":
            relay.subscribe({"kinds": [30312]}, lambda event: TRACE)
        asking = asyncio.create_task(relay.query(TRACE, address=ADDRESS, timeout_s=20))
        async with asyncio.timeout(20):
            while not (lost := [row for row in rows if row.operation is Operation.CONNECT and row.failure]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        row, _ = await asking
    assert lost[0].failure is Failure.FLOODED or lost[0].status == 1009
    assert row.outcome is Outcome.UNKNOWN
    assert row.failure is lost[0].failure
    assert len(rows) < 2_100
    assert sum(len(each.nest) + len(each.room) + len(each.reason) + len(each.detail) for each in rows) < 500_000


async def test_a_relay_that_was_cut_off_is_left_alone_for_a_while_and_the_reason_is_said(flooding):
    async with watching(flooding["pings"]) as (relay, rows):
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE)
        async with asyncio.timeout(10):
            while await relay.ready(0):  # noqa: ASYNC110 - until it is cut off
                await asyncio.sleep(0.01)
        await asyncio.sleep(1.5)
        row, _ = await relay.query(TRACE, address=ADDRESS)
        said = relay.silence()
    assert [each.failure for each in rows if each.operation is Operation.CONNECT] == [None, Failure.FLOODED]
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.FLOODED)
    assert "cut off: it sent more than 5,000 frames at once" in row.reason
    assert "cut off" in said


async def test_many_honest_questions_and_a_backlog_are_borne():
    events = [HOST.sign(30312, created_at=int(time.time()), tags=[("d", f"r{n}")]) for n in range(600)]

    async def answer(peer, verb, *rest):
        if verb == "REQ" and "#d" not in rest[1]:
            for event in events:
                await peer.say("EVENT", rest[0], event.as_dict())
        if verb == "REQ":
            await peer.say("EOSE", rest[0])

    seen = []
    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE, seen.append)
        asked = await asyncio.gather(*(relay.query(TRACE, address=ADDRESS) for _ in range(1_000)))
        async with asyncio.timeout(10):
            while len(seen) < 600:  # noqa: ASYNC110 - what is waited for is on the wire
                await asyncio.sleep(0.01)
    assert {row.outcome for row, _ in asked} == {Outcome.ABSENT}
    assert [row.failure for row in rows if row.operation is Operation.CONNECT] == [None]


async def test_the_deletions_that_are_asked_for_again_and_again_are_no_flood():
    """An author with many nests: each look at one brings its latest deletions, more frames a second than are borne."""
    gone = [HOST.sign(5, created_at=1_700_000_000 + n, tags=[("a", f"30312:{HOST.public}:x{n}")]) for n in range(50)]

    async def answer(peer, verb, *rest):
        if verb == "REQ":
            for event in gone[: rest[-1]["limit"]]:
                await peer.say("EVENT", rest[0], event.as_dict())
            await peer.say("EOSE", rest[0])

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        for _ in range(12):
            looks = [relay.query(TRACE, address=ADDRESS, newest=True, timeout_s=30) for _ in range(20)]
            asked = await asyncio.gather(*looks)
            assert {row.outcome for row, _ in asked} == {Outcome.ABSENT}
    assert [row.failure for row in rows if row.operation is Operation.CONNECT] == [None]


@pytest.mark.parametrize("size", [60_000, 100_000])
async def test_a_long_honest_event_comes_whole(size):
    event = HOST.sign(30312, created_at=1_700_000_000, tags=[("d", "room-1")], content="x" * size)

    async def answer(peer, verb, *rest):
        await peer.say("EVENT", rest[0], event.as_dict())

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, _):
        row, found = await relay.query(TRACE, address=ADDRESS)
    assert (row.outcome, found) == (Outcome.VISIBLE, event)


async def test_one_event_that_is_too_long_costs_itself_alone():
    """A stranger may hand it to an honest relay, which goes on being asked; its EOSE is no proof any more."""
    event = HOST.sign(30312, created_at=1_700_000_000, tags=[("d", "room-1")], content="x" * 300_000)

    async def answer(peer, verb, *rest):
        if verb == "REQ":
            await peer.say("EVENT", rest[0], event.as_dict())
            await peer.say("EOSE", rest[0])

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, rows):
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE)
        row, _ = await relay.query(TRACE, address=ADDRESS)
        await asyncio.sleep(0.1)
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.BAD_EVENT)
    assert "bytes, not read" in row.reason
    [pushed] = [each for each in rows if each.operation is Operation.SUBSCRIBE]
    assert "which is not read" in pushed.reason
    assert [each.failure for each in rows if each.operation is Operation.CONNECT] == [None]


async def test_a_message_in_many_pieces_comes_whole():
    eose = []

    async def answer(peer, verb, *rest):
        if verb == "REQ":
            eose.append(rest[0])
            data = json.dumps(["EOSE", rest[0]])
            await peer.ws.send([" " * 100, *data])

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, _):
        row, _ = await relay.query(TRACE, address=ADDRESS)
    assert row.outcome is Outcome.ABSENT


async def test_what_waits_to_be_read_is_bounded(monkeypatch):
    """While we do not come to read, a few messages wait with us, and the rest with the relay."""
    sent = []

    async def answer(peer, verb, *rest):
        for _ in range(200):
            await peer.say("NOTICE", "x" * (FRAME_BYTES - 100))
            sent.append(1)

    async with hostile.relay(answer) as (url, _), watching(url) as (relay, _):
        link = relay._link
        monkeypatch.setattr(type(link.ws), "recv", _never)
        await relay.query(TRACE, address=ADDRESS, timeout_s=0.1)
        await asyncio.sleep(0.5)
        waiting = sum(len(frame.data) for frame in link.ws.recv_messages.frames.queue) + len(link.ws._waiting)
        assert waiting < 8 * FRAME_BYTES


async def _never(self, decode=None):
    await asyncio.Event().wait()


@given(
    rate=st.integers(1, 1_000),
    burst=st.integers(1, 1_000),
    steps=st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 50)), max_size=60),
)
def test_a_bucket_never_takes_more_than_its_burst_and_its_rate(rate, burst, steps):
    bucket, now, taken = Bucket("x", rate, burst), 0, 0
    for gap, amount in steps:
        now += gap
        if bucket.over(now, amount):
            return
        taken += amount
        assert taken <= burst + rate * now / 1e9 + 1e-6


@given(asked=st.lists(st.integers(0, 10_000), max_size=20), burst=st.integers(1, 1_000))
def test_what_was_asked_for_is_borne_and_at_most_a_burst_of_it(asked, burst):
    bucket = Bucket("x", 1, burst)
    for amount in asked:
        bucket.ask(amount)
    owed = min(sum(asked), burst)
    assert not bucket.over(0, owed + burst)
    assert bucket.over(0, 1)


@given(rate=st.integers(1, 1_000), count=st.integers(1, 200))
def test_a_bucket_bears_its_rate_for_good(rate, count):
    bucket = Bucket("x", rate, 1.000001)
    assert not any(bucket.over(number * (10**9 // rate + 1)) for number in range(count))


def test_events_are_remembered_by_their_ids_however_long_they_are():
    before = len(nostr._GENUINE)
    event = HOST.sign(30312, created_at=1, tags=[("d", "x")], content="x" * 100_000)
    nostr.read_event(event.as_dict())
    nostr.read_event(event.as_dict())
    assert len(nostr._GENUINE) in (before + 1, nostr._REMEMBERED)
    assert all(sum(map(len, key)) == 256 for key in nostr._GENUINE)
    with pytest.raises(nostr.MalformedEvent):
        nostr.read_event(event.as_dict() | {"content": "x" * 99_999 + "y"})
