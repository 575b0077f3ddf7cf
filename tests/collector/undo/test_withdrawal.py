"""An event is taken back from relays of every kind, and what is said of it is what they show after that."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from nestobs.collector.undo import withdrawal
from nestobs.collector.undo.withdrawal import State, Withdrawal, is_over, sentence
from nestobs.lab import GateFault
from nestobs.lab.relays import start_relay
from nestobs.nostr import DELETION_KIND, ROOM_KIND, Keys
from nestobs.observation.nest import room_tags
from nestobs.observation.schema import Operation, Role
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace
from worlds.hostile_relays import members_only, relay, storing

pytestmark = pytest.mark.slow

S = 1_000_000_000
ROOM = "a-room"


class Published:
    """A nest's event on relays, and our connections to these."""

    def __init__(self, vantage, stack):
        self.vantage, self._stack, self.keys = vantage, stack, Keys.generate()
        self.now_s = vantage.clock.now() // S
        self.event = self.version(self.now_s)
        self.trace = Trace(nest=f"{ROOM_KIND}:{self.keys.public}:{ROOM}", room=ROOM)
        self.relays, self.kept = [], []

    def version(self, created_at, status="open"):
        tags = room_tags(room=ROOM, name="n", host=self.keys.public, service="https://s", streaming="", relays=())
        tags = [("status", status) if row[0] == "status" else row for row in tags]
        return self.keys.sign(ROOM_KIND, created_at=created_at, tags=tags)

    async def on(self, url, *events, keys=None):
        """Connect to a relay and publish there."""
        found = await self._stack.enter_async_context(Relay(self.vantage, url, keys=keys or self.keys))
        await found.ready(5)
        for event in events or (self.event,):
            await found.publish(self.trace, event, read_back=False)
        self.relays.append(found)
        return found

    async def at(self, **kind):
        """A relay of this kind, which has the event; what it keeps."""
        world = storing(**kind)
        url, _ = await self._stack.enter_async_context(relay(**world))
        await self.on(url)
        return world["answer"].kept

    async def withdrawn(self, *known):
        versions = {event.id: event for event in known}
        return await Withdrawal(self.trace, self.keys, self.now_s, versions).run(self.relays)


@pytest.fixture
def published(vantage, monkeypatch):
    """`async with published() as nest`: its event, not yet anywhere."""
    monkeypatch.setattr(withdrawal, "PATIENCE_S", 1.0)

    @asynccontextmanager
    async def opened():
        async with AsyncExitStack() as stack:
            yield Published(vantage, stack)

    return opened


KINDS = {
    "both tags": ({}, State.GONE, []),
    "ids alone": ({"honours": "e"}, State.GONE, []),
    "addresses alone": ({"honours": "a"}, State.GONE, []),
    "neither": ({"honours": ""}, State.CLOSED, ["closed"]),
    "neither, and all versions": ({"honours": "", "versions": "all"}, State.CLOSED, ["open", "closed"]),
    "ids, and all versions": ({"honours": "e", "versions": "all"}, State.GONE, []),
    "no deletions": ({"refuses": ("5",)}, State.CLOSED, ["closed"]),
    "no closed nests": ({"refuses": ("30312 closed",)}, State.GONE, []),
    "the first version for good": ({"honours": "", "versions": "first"}, State.OPEN, ["open"]),
    "nothing more": ({"refuses": ("5", "30312 closed")}, State.OPEN, ["open"]),
}


@pytest.mark.parametrize("known", [True, False], ids=["known", "after a crash"])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_relay_shows_after_that_is_what_is_said_of_it(kind, known, published):
    shape, state, statuses = KINDS[kind]
    async with published() as nest:
        kept = await nest.at(**shape)
        [found] = await nest.withdrawn(*([nest.event] if known else []))
    left = [row[1] for each in kept if each["kind"] == ROOM_KIND for row in each["tags"] if row[0] == "status"]
    assert (found.state, left) == (state, statuses)
    assert found.taken_back == (state is not State.OPEN)
    assert not found.may_change


async def test_a_real_relay_shows_it_no_more_nor_takes_it_again(published):
    async with published() as nest:
        server, url = await start_relay()
        try:
            await nest.on(url)
            [found] = await nest.withdrawn(nest.event)
            again = await nest.relays[0].publish(nest.trace, nest.event, read_back=False)
        finally:
            server.shutdown()
    assert found.state is State.GONE
    assert again.outcome == "refused"


async def test_every_relay_is_named_by_what_it_shows(published):
    async with published() as nest:
        await nest.at()
        await nest.at(honours="", versions="first")
        await nest.at(refuses=("5", "30312 closed"))
        found = await nest.withdrawn(nest.event)
        urls = [each.url for each in nest.relays]
    assert sentence(found) == f"still open on {urls[1]}; still open on {urls[2]} (blocked: not here)"


@pytest.mark.parametrize(
    ("states", "said"), [([], "gone"), ([State.GONE], "gone"), ([State.GONE, State.CLOSED], "closed")]
)
def test_where_all_is_well_it_is_one_word(states, said):
    assert sentence([withdrawal.Found("wss://a", state) for state in states]) == said


async def test_the_closed_version_is_the_newest_and_the_deletion_names_all(published):
    """Also where the clock of who made it was ahead."""
    async with published() as nest:
        ahead = nest.version(nest.now_s + 50)
        kept = await nest.at(honours="", versions="all")
        await nest.relays[0].publish(nest.trace, ahead, read_back=False)
        [found] = await nest.withdrawn()
        [deletion] = [each for each in kept if each["kind"] == DELETION_KIND]
        closed = max((each for each in kept if each["kind"] == ROOM_KIND), key=lambda each: each["created_at"])
    assert found.state is State.CLOSED
    assert closed["created_at"] == nest.now_s + 51
    assert [row for row in closed["tags"] if row[0] in ("d", "room")] == [["d", ROOM], ["room", "n"]]
    named = {tuple(row) for row in deletion["tags"]}
    assert named == {("e", ahead.id), ("e", closed["id"]), ("a", nest.trace.nest), ("k", "30312")}
    assert deletion["created_at"] >= closed["created_at"]


async def test_a_version_that_nobody_knew_of_is_taken_back_too(published):
    """It turns up when it is read back: another computer with the same key edited the event."""
    async with published() as nest:
        edited = nest.version(nest.now_s + 30)
        kept = await nest.at(honours="e", versions="all")
        await nest.relays[0].publish(nest.trace, edited, read_back=False)
        [found] = await nest.withdrawn(nest.event)
    assert found.state is State.GONE
    assert [each for each in kept if each["kind"] == ROOM_KIND] == []


@pytest.mark.parametrize("when", ["on connect", "after CLOSED", "held and served"])
async def test_a_relay_that_wants_to_know_who_asks_is_told_by_the_hosts_key(when, published):
    async with published() as nest:
        world = members_only(when)
        url, heard = await nest._stack.enter_async_context(relay(**world))
        await nest.on(url)
        [found] = await nest.withdrawn(nest.event)
    assert found.state is State.CLOSED  # it keeps all and shows all, to members
    assert {pubkey for _, pubkey, _ in world["answer"].known} == {nest.keys.public}
    assert heard


async def test_where_the_answer_is_not_taken_nothing_is_known(published):
    async with published() as nest:
        url, _ = await nest._stack.enter_async_context(relay(**members_only("after CLOSED", ok="false")))
        await nest.on(url)
        [found] = await nest.withdrawn(nest.event)
    assert (found.state, found.may_change) == (State.UNKNOWN, False)
    assert "not a member" in found.why


async def test_a_gate_of_the_lab_that_asks_who_is_answered(published, open_lab):
    async with published() as nest, open_lab("calm", relays=1, delay_scale=0.0) as lab:
        gate = lab.gates["calm"][0]
        gate.fault = GateFault.AUTH
        await nest.on(gate.url)
        [found] = await nest.withdrawn(nest.event)
    assert found.state is State.GONE


async def dies(peer, verb, *rest):
    await peer.ws.close()


async def says_nothing(peer, verb, *rest):
    pass


async def never_ends(peer, verb, *rest):
    if verb == "EVENT":
        await peer.say("OK", rest[0]["id"], True, "")


async def lies(peer, verb, *rest):
    if verb == "REQ":
        await peer.say("EVENT", rest[0], {"id": "0" * 64, "kind": ROOM_KIND})
        await peer.say("EOSE", rest[0])
    else:
        await never_ends(peer, verb, *rest)


@pytest.mark.parametrize("answer", [dies, says_nothing, never_ends, lies], ids=lambda answer: answer.__name__)
async def test_a_relay_that_gives_no_proof_is_not_known_and_asked_again(answer, published):
    async with published() as nest:
        url, _ = await nest._stack.enter_async_context(relay(answer))
        await nest.on(url)
        [found] = await nest.withdrawn(nest.event)
    assert (found.state, found.may_change) == (State.UNKNOWN, True)
    assert sentence([found]) == f"not known of {url} ({found.why})"
    assert found.why


async def test_a_dead_relay_costs_the_others_nothing(published):
    async with published() as nest:
        async with relay(dies) as (url, _):
            await nest.on(url)
        kept = await nest.at()
        dead, alive = await nest.withdrawn(nest.event)
    assert (dead.state, alive.state) == (State.UNKNOWN, State.GONE)
    assert [each["kind"] for each in kept] == [DELETION_KIND]


async def test_a_relay_that_has_it_for_a_moment_longer_is_waited_for(published):
    world = storing()
    prompt = world["answer"]

    async def slowly(peer, verb, *rest):
        if verb == "EVENT" and rest[0]["kind"] == DELETION_KIND:
            await peer.say("OK", rest[0]["id"], True, "")
            later.append(asyncio.get_running_loop().call_later(0.3, prompt.kept.clear))
        elif verb == "EVENT" and ("status", "closed") in map(tuple, rest[0]["tags"]):
            await peer.say("OK", rest[0]["id"], True, "")
        else:
            await prompt(peer, verb, *rest)

    later = []
    async with published() as nest:
        url, _ = await nest._stack.enter_async_context(relay(slowly))
        await nest.on(url)
        [found] = await nest.withdrawn(nest.event)
    assert (found.state, len(later)) == (State.GONE, 1)


@pytest.mark.parametrize("times", [1, 2, 9])
async def test_a_relay_that_is_written_to_too_quickly_is_given_time(times, published, rows, monkeypatch):
    monkeypatch.setattr(withdrawal, "LIMITED_PAUSES_S", (0.0, 0.05, 0.1))
    world, refused = storing(), []

    async def hasty(peer, verb, *rest):
        if verb == "EVENT" and rest[0]["id"] != nest.event.id and refused.count(rest[0]["id"]) < times:
            refused.append(rest[0]["id"])
            await peer.say("OK", rest[0]["id"], False, "rate-limited: slow down")
        else:
            await world["answer"](peer, verb, *rest)

    async with published() as nest:
        url, _ = await nest._stack.enter_async_context(relay(hasty))
        await nest.on(url)
        [found] = await nest.withdrawn(nest.event)
    patient = times < 3
    assert (found.state, found.may_change) == ((State.GONE, False) if patient else (State.OPEN, True))
    assert found.why == ("" if patient else "rate-limited: slow down")
    attempts = Counter(row.attempt_group for row in rows.of(Operation.PUBLISH))
    assert sorted(attempts.values()) == [1, *[min(times + 1, 3)] * 2]  # the event, and both that take it back


async def test_what_it_asks_is_a_read_back_of_the_hosts_and_no_layer(published, rows):
    async with published() as nest:
        await nest.at()
        asked = len(rows)
        await nest.withdrawn()
    found = [row for row in rows[asked:] if row.operation not in (Operation.PUBLISH, Operation.CONNECT)]
    assert {row.operation for row in found} == {Operation.READ_BACK}
    assert {row.role for row in found} == {Role.HOST}
    assert {row.layer for row in found} == {""}
    assert [row.failure for row in found if row.outcome == "absent"] == [None]


@pytest.mark.parametrize(
    ("status", "over"), [("open", False), ("closed", True), ("Closed", True), ("ended", True), ("", False)]
)
async def test_a_version_is_over_as_who_reads_it_takes_it(status, over, published):
    async with published() as nest:
        assert is_over(nest.version(nest.now_s, status), nest.now_s * S) is over
