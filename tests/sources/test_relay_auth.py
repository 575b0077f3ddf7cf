"""A relay that wants to know who asks (NIP-42): answered by whoever has a key; else it proves nothing."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest

from nestobs.nostr import Address, Keys
from nestobs.observation.schema import Failure, Operation, Outcome
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace, Vantage
from worlds import hostile_relays as hostile

pytestmark = pytest.mark.slow

HOST = Keys.generate()
ADDRESS = Address(30312, HOST.public, "room-1")
TRACE = Trace("trace-1", str(ADDRESS), "room-1")
EVENT = HOST.sign(30312, created_at=int(time.time()), tags=[("d", "room-1"), ("status", "open")])


@asynccontextmanager
async def watching(url, **options):
    rows = []
    async with Relay(Vantage("A", "run", rows.append), url, ping_s=0.2, **options) as relay:
        assert await relay.ready(5)
        yield relay, rows


def of(rows, operation):
    return [row for row in rows if row.operation is operation]


async def until(true, within_s=8.0):
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - what is waited for happens in a server or on the wire
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("when", hostile.CHALLENGES)
async def test_a_question_is_asked_again_as_soon_as_the_relay_knows_who_asks(when):
    talk = hostile.members_only(when, stored=[EVENT])
    async with hostile.relay(**talk) as (url, _), watching(url, keys=HOST) as (relay, rows):
        row, found = await relay.query(TRACE, address=ADDRESS)
    assert (row.outcome, found) == (Outcome.VISIBLE, EVENT)
    *before, last = of(rows, Operation.QUERY)
    assert last == row
    assert {(each.outcome, each.failure) for each in before} <= {(Outcome.REFUSED, Failure.AUTH_REQUIRED)}
    assert [each.attempt_no for each in (*before, last)] == list(range(1, len(before) + 2))
    assert len({each.attempt_group for each in (*before, last)}) == 1
    assert talk["answer"].known == [(22242, HOST.public, {"relay": url, "challenge": "challenge-1"})]


@pytest.mark.parametrize("when", hostile.CHALLENGES)
async def test_absence_is_proved_by_a_relay_that_knows_who_asks(when):
    async with hostile.relay(**hostile.members_only(when)) as (url, _), watching(url, keys=HOST) as (relay, _):
        row, _ = await relay.query(TRACE, address=ADDRESS)
    assert row.outcome is Outcome.ABSENT


@pytest.mark.parametrize("when", hostile.CHALLENGES)
async def test_without_a_key_neither_eose_nor_silence_is_proof(when):
    talk = hostile.members_only(when, stored=[EVENT])
    async with hostile.relay(**talk) as (url, _), watching(url) as (relay, rows):
        await asyncio.sleep(0.05)
        await relay.query(TRACE, address=ADDRESS, timeout_s=0.3)
        row, _ = await relay.query(TRACE, address=ADDRESS, timeout_s=0.3)
    assert (row.outcome, row.failure) == (Outcome.REFUSED, Failure.AUTH_REQUIRED)
    assert "NIP-42" in row.reason or "auth-required" in row.reason
    assert Outcome.ABSENT not in {each.outcome for each in rows}
    assert talk["answer"].known == []


@pytest.mark.parametrize("ok", ["false", ""], ids=["refused", "not acknowledged"])
async def test_an_answer_that_is_not_taken_proves_nothing_and_is_not_given_again(monkeypatch, ok):
    monkeypatch.setattr("nestobs.sources.relay.connection.ANSWER_S", 0.2)
    talk = hostile.members_only("before EOSE", ok=ok)
    async with hostile.relay(**talk) as (url, _), watching(url, keys=HOST) as (relay, _):
        row, _ = await relay.query(TRACE, address=ADDRESS)
    assert (row.outcome, row.failure) == (Outcome.REFUSED, Failure.AUTH_REQUIRED)
    assert ("restricted: not a member" if ok else "no OK within") in row.reason
    assert len(talk["answer"].known) <= 3


async def test_events_that_are_shown_to_strangers_count_without_an_answer():
    async def greet(peer):
        await peer.say("AUTH", "challenge-1")

    async def answer(peer, verb, *rest):
        await peer.say("EVENT", rest[0], EVENT.as_dict())

    async with hostile.relay(answer, greet=greet) as (url, _), watching(url) as (relay, _):
        row, found = await relay.query(TRACE, address=ADDRESS)
    assert (row.outcome, found) == (Outcome.VISIBLE, EVENT)


@pytest.mark.parametrize("when", hostile.CHALLENGES)
async def test_the_same_event_is_published_again_once_the_relay_knows_who_publishes(when):
    talk = hostile.members_only(when)
    async with hostile.relay(**talk) as (url, heard), watching(url, keys=HOST) as (relay, rows):
        row = await relay.publish(TRACE, EVENT, timeout_s=0.5)
        back = of(rows, Operation.READ_BACK)[-1]
    assert (row.outcome, back.outcome) == (Outcome.ACCEPTED, Outcome.VISIBLE)
    assert {frame[1]["id"] for frame in heard if frame[0] == "EVENT"} == {EVENT.id}
    written = [each for each in of(rows, Operation.PUBLISH) if "late" not in each.detail]
    assert [each.failure is Failure.INTENT for each in written] == [True, False] * (len(written) // 2)
    assert [each.attempt_no for each in written] == [1 + n // 2 for n in range(len(written))]


async def test_without_a_key_a_refused_publication_is_refused_once():
    talk = hostile.members_only("after CLOSED")
    async with hostile.relay(**talk) as (url, heard), watching(url) as (relay, _):
        row = await relay.publish(TRACE, EVENT)
    assert (row.outcome, row.failure) == (Outcome.REFUSED, Failure.AUTH_REQUIRED)
    assert [frame[0] for frame in heard] == ["EVENT"]


@pytest.mark.parametrize("when", hostile.CHALLENGES)
async def test_a_subscription_is_asked_for_again_and_then_brings_what_is_stored(when):
    seen = []
    talk = hostile.members_only(when, stored=[EVENT])
    async with hostile.relay(**talk) as (url, _), watching(url, keys=HOST) as (relay, rows):
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE, seen.append)
        await until(lambda: seen)
    assert [found.event.id for found in seen] == [EVENT.id]
    refused = [row for row in of(rows, Operation.SUBSCRIBE) if row.outcome is not Outcome.VISIBLE]
    assert {(row.outcome, row.failure) for row in refused} <= {(Outcome.REFUSED, Failure.AUTH_REQUIRED)}


@pytest.mark.parametrize("when", ["on connect, then EOSE", "before EOSE", "behind EOSE"])
async def test_what_a_stranger_is_pushed_has_no_lower_bound(when):
    """The relay may have held the event back until now: a living socket and an EOSE say nothing."""
    seen, pushes = [], []

    async def answer(peer, verb, *rest):
        if verb == "REQ":
            await talk["answer"](peer, verb, *rest)
            pushes.append((peer, rest[0]))

    talk = hostile.members_only(when)
    async with hostile.relay(answer, greet=talk["greet"]) as (url, _), watching(url) as (relay, rows):
        relay.subscribe({"kinds": [30312]}, lambda event: TRACE, seen.append)
        await until(lambda: pushes)
        await asyncio.sleep(1.5)
        peer, name = pushes[0]
        await peer.say("EVENT", name, EVENT.as_dict())
        await until(lambda: seen)
    [wanted, visible] = of(rows, Operation.SUBSCRIBE)
    assert (wanted.outcome, wanted.failure) == (Outcome.REFUSED, Failure.AUTH_REQUIRED)
    assert visible.outcome is Outcome.VISIBLE


async def test_a_key_that_comes_later_answers_the_challenge_that_is_open():
    talk = hostile.members_only("on connect", stored=[EVENT])
    async with hostile.relay(**talk) as (url, _), watching(url) as (relay, _):
        before, _ = await relay.query(TRACE, address=ADDRESS)
        relay.identify(HOST)
        after, _ = await relay.query(TRACE, address=ADDRESS)
    assert (before.failure, after.outcome) == (Failure.AUTH_REQUIRED, Outcome.VISIBLE)


@pytest.mark.parametrize(
    "challenge",
    ["x" * 200_000, "\ud800", "\x00", 7, None, ["a"]],
    ids=["long", "surrogate", "null", "7", "none", "list"],
)
async def test_a_challenge_that_is_none_is_not_signed(challenge):
    async def greet(peer):
        await peer.ws.send(json.dumps(["AUTH", challenge]))

    async def answer(peer, verb, *rest):
        await peer.say("EOSE", rest[0])

    async with hostile.relay(answer, greet=greet) as (url, heard), watching(url, keys=HOST) as (relay, _):
        row, _ = await relay.query(TRACE, address=ADDRESS)
    assert row.outcome is Outcome.ABSENT
    assert [frame[0] for frame in heard if frame[0] != "CLOSE"] == ["REQ"]


async def test_a_relay_that_asks_for_ever_is_answered_a_bounded_number_of_times():
    async def answer(peer, verb, *rest):
        await peer.say("AUTH", f"challenge-{len(heard)}")
        if verb == "AUTH":
            await peer.say("OK", rest[0]["id"], True, "")

    async with hostile.relay(answer) as (url, heard), watching(url, keys=HOST) as (relay, _):
        row, _ = await relay.query(TRACE, address=ADDRESS, timeout_s=0.5)
        for _ in range(30):
            await relay.query(TRACE, address=ADDRESS, timeout_s=0.02)
        last, _ = await relay.query(TRACE, address=ADDRESS, timeout_s=0.1)
    assert 1 <= sum(frame[0] == "AUTH" for frame in heard) <= 20
    assert row.outcome is not Outcome.ABSENT
    assert (last.outcome, last.failure) == (Outcome.REFUSED, Failure.AUTH_REQUIRED)
