"""Secrets go where the operator said: hosts that only an event names get none of them, and by default nothing."""

from __future__ import annotations

import contextlib
import json
import random
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from aiohttp import web
from websockets.asyncio.client import connect

from nestobs.collector.manners import Manners
from nestobs.collector.prober import join_once
from nestobs.collector.watch import run as run_watch
from nestobs.join.budget import Budget
from nestobs.join.policy import GUIDE
from nestobs.nostr import ROOM_KIND, Keys
from nestobs.observation.schema import Failure, Operation, Outcome, Source
from nestobs.sources.vantage import NO_TRACE
from nestobs.store.reader import Store
from worlds.strangers import found_in, listening, overhear, written

pytestmark = pytest.mark.slow

POLICY = replace(GUIDE, stay_s=0.1, request_timeout_s=5.0)
BOLD = Manners(visit_empty=True, as_yourself=True)
"""Nothing but the events' hosts is left to be careful of."""


class World:
    """A lab, an operator with a key of every kind, and strangers named by the event of an honest-looking nest."""

    def __init__(self, lab, target, folder, hosts):
        self.lab, self.target, self.hosts = lab, target, hosts
        self.store = Store.open(folder / "store")
        self.folder, self.me, self.tokens = folder, Keys.generate(), []
        overhear(lab.api["made"], self.tokens)
        self.room = ""

    def secrets(self, *, strange):
        """All that is planted, and the parts of each token that are secret by themselves. To strangers not even who the
        operator is, so no answer to their AUTH."""
        mine = [
            self.me._native.secret_key().to_hex(),
            self.me.to_nsec(),
            self.target.livekit_secret,
            self.target.livekit_key,
        ]
        return [*mine, *self.tokens, *(token.split(".")[2] for token in self.tokens)]

    async def announce(self, station, **named):
        """Make a nest whose event names strangers."""
        host = Keys.generate()
        made = await station.api.create(NO_TRACE, host, ("wss://relay.example",))
        self.room = made.body["roomId"]
        tags = [("d", self.room), ("room", "x"), ("status", "open"), ("p", host.public, "", "host")]
        tags += ({"service": ""} | named).items()
        event = host.sign(ROOM_KIND, created_at=station.clock.now() // 1_000_000_000, tags=tags)
        for relay in station.relays:
            await relay.publish(NO_TRACE, event)

    async def watch(self, manners):
        return await run_watch(
            self.target,
            store=self.store,
            budget=Budget(100_000),
            rng=Early(),
            progress=lambda what, facts: None,
            for_s=4.0,
            joins=POLICY,
            keys=self.me,
            manners=manners,
        )

    async def join(self, manners, keys=None):
        _, verdict, _ = await join_once(
            self.target, self.room, self.store, policy=POLICY, keys=keys or self.me, manners=manners
        )
        return verdict

    def rows(self):
        return list(self.store.observations())


class Early:
    """As random as can be without being late."""

    def random(self) -> float:
        return 0.01


@pytest.fixture
def world(open_lab, scenario, target_of, open_station_on, tmp_path):
    """`async with world(livekit=True) as made`: with `livekit` False the operator named none, and has keys for one."""

    @asynccontextmanager
    async def opened(*, livekit=True, kinds="service streaming relays endpoint"):
        async with contextlib.AsyncExitStack() as stack:
            hosts = {name: await stack.enter_async_context(listening()) for name in kinds.split()}
            lab = await stack.enter_async_context(open_lab(scenario()))
            station = await stack.enter_async_context(open_station_on(lab))
            target = target_of(lab) if livekit else replace(target_of(lab), livekit="")
            made = World(lab, target, tmp_path, hosts)
            schemes = {"service": "http", "streaming": "ws+livekit", "relays": "ws", "endpoint": "http"}
            paths = {"service": "/api/v1/nests"}
            await made.announce(
                station, **{name: host.url(schemes[name], paths.get(name, "")) for name, host in hosts.items()}
            )
            yield made

    return opened


def nothing_leaked(world):
    heard = [bytes(host.heard) for host in world.hosts.values()]
    assert len(world.secrets(strange=False)) > 4
    assert found_in([*world.secrets(strange=True), '"AUTH"'], *heard) == []
    assert found_in(world.secrets(strange=False), written(world.folder / "store")) == []


@pytest.mark.parametrize("livekit", [True, False], ids=["livekit named", "no livekit named"])
@pytest.mark.parametrize("how", ["watch", "join"])
async def test_by_default_nobody_is_dialled_whom_only_an_event_names(world, how, livekit):
    kinds = "streaming relays endpoint" if how == "watch" else "service streaming relays endpoint"
    async with world(livekit=livekit, kinds=kinds) as made:
        came = await (made.watch(BOLD) if how == "watch" else made.join(BOLD))
        if how == "watch":
            assert sum(came.verdicts.values()) == 1
        else:
            assert came.joined is livekit
        assert made.tokens
        assert {name: host.connections for name, host in made.hosts.items()} == dict.fromkeys(made.hosts, 0)
        nothing_leaked(made)


@pytest.mark.parametrize("livekit", [True, False], ids=["livekit named", "no livekit named"])
@pytest.mark.parametrize("how", ["watch", "join"])
async def test_who_follows_events_dials_them_without_any_secret(world, how, livekit):
    async with world(livekit=livekit, kinds="streaming relays endpoint") as made:
        follow = replace(BOLD, follow_events=True)
        await (made.watch(follow) if how == "watch" else made.join(follow))
        assert made.hosts["streaming"].heard
        assert b"REQ" not in made.hosts["streaming"].heard
        assert b"REQ" in made.hosts["relays"].heard
        assert made.hosts["endpoint"].connections == 0
        nothing_leaked(made)
        [asked] = [row for row in made.rows() if row.source is Source.LIVEKIT and row.operation is Operation.CONNECT]
        assert asked.layer == ""
        assert asked.outcome not in (Outcome.VISIBLE, Outcome.ABSENT)


async def test_who_follows_events_still_dials_no_address_behind_the_operators_own(world, monkeypatch):
    """With the operator's target elsewhere, loopback is not a place that a stranger may send us to."""

    async def elsewhere(urls):
        return frozenset()

    monkeypatch.setattr("nestobs.collector.strangers.kinds_at", elsewhere)
    async with world(kinds="streaming relays") as made:
        await made.join(replace(BOLD, follow_events=True))
        assert {host.connections for host in made.hosts.values()} == {0}
        refused = [row for row in made.rows() if row.failure is Failure.SKIPPED]
        assert {row.source for row in refused} == {Source.RELAY, Source.LIVEKIT}
        assert all("loopback" in row.reason for row in refused)


async def test_one_nests_livekit_is_not_anothers(world):
    """Formerly the first stranger's server was asked about every later nest of a run."""
    async with world(livekit=False, kinds="streaming") as made:
        await made.watch(replace(BOLD, follow_events=True))
        rows = [row for row in made.rows() if row.source is Source.LIVEKIT]
        assert {row.operation for row in rows} == {Operation.CONNECT}


async def test_a_canary_tells_its_tokens_to_the_livekit_that_the_api_named_and_its_keys_to_nobody(
    open_lab, scenario, target_of, tmp_path
):
    from nestobs.collector.canary import Campaign
    from nestobs.collector.canary import run as run_canary
    from nestobs.collector.keyring import Keyring

    async with open_lab(scenario(), relays=1) as lab:
        target = replace(target_of(lab), livekit="")
        await run_canary(
            [target],
            Campaign(count=1, policies=(POLICY,), horizon_s=2.0, wanted_polls=6, media=0),
            store=Store.open(tmp_path / "store"),
            keyring=Keyring(tmp_path / "keys"),
            budget=Budget(100_000),
            rng=random.Random(1),
        )
    rows = list(Store.open(tmp_path / "store").observations())
    livekit = [row for row in rows if row.source is Source.LIVEKIT]
    assert Operation.SIGNAL in {row.operation for row in livekit}
    assert Operation.ROOMS not in {row.operation for row in livekit}
    assert target.livekit_secret
    assert found_in([target.livekit_secret, target.livekit_key], written(tmp_path / "store")) == []


PATHS = ("/rtc", "/rtc/validate", "/twirp")


@pytest.mark.parametrize("path", PATHS)
async def test_the_operators_own_livekit_cannot_send_a_secret_elsewhere(world, serving, path):
    async with listening() as elsewhere, world(kinds="streaming") as made:

        async def moved(request):
            if request.path.startswith("/twirp") and path != "/twirp":
                return web.Response(body=b"", headers={"Content-Type": "application/protobuf"})
            return web.Response(status=307, headers={"Location": elsewhere.url("http", request.path_qs)})

        async with serving(moved) as port:
            made.target = replace(made.target, livekit=f"ws://127.0.0.1:{port}")
            verdict = await made.join(Manners(visit_empty=path != "/rtc/validate"))
        assert not verdict.joined
        assert "redirects to" in verdict.reason
        assert elsewhere.connections == 0
        nothing_leaked(made)


async def test_the_listener_hears_what_it_is_sent():
    """The tests above would find a secret: over HTTP, and in a frame, which goes masked over the wire."""
    async with listening() as listener:
        async with connect(listener.url("ws", "/?x=in-the-url")) as ws:
            assert json.loads(await ws.recv())[0] == "AUTH"
            await ws.send(json.dumps(["AUTH", "in-a-frame"]))
        async with httpx.AsyncClient() as client:
            await client.get(listener.url("http"), headers={"x": "in-a-header"})
        heard = bytes(listener.heard)
    assert found_in(["in-the-url", "in-a-frame", "in-a-header", "nowhere"], heard) == [
        "in-a-frame",
        "in-a-header",
        "in-the-url",
    ]
    assert listener.connections == 2
    assert found_in([], b"Authorization: Nostr x") == ["uthorization"]
