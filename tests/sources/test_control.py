"""Them or us: when nothing answers and the control does not either, it is our own network, and the interval says so."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from nestobs.collector.station import Target, open_station
from nestobs.errors import UsageError
from nestobs.join.budget import Limiter
from nestobs.lab import ProxyMode
from nestobs.nostr import Keys
from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources.control import Control
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store
from nestobs.timeline.intervals import timelines


def dead_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@asynccontextmanager
async def listener():
    """`host:port` of a control that answers, and how often it was tried."""
    tries: list[object] = []

    def met(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", tries


@asynccontextmanager
async def station_on(target, rows):
    async def committed() -> bool:
        return True

    async with open_station(
        target, run_id="run", sink=rows.append, committed=committed, limiter=Limiter(1_000)
    ) as station:
        yield station


@pytest.fixture
def nowhere():
    """A target where nobody answers."""
    api = f"http://127.0.0.1:{dead_port()}/api/v1/nests"
    return Target("x", "here", api, (f"ws://127.0.0.1:{dead_port()}",))


def no_network(rows):
    return [row for row in rows if row.failure is Failure.NO_NETWORK]


async def test_api_down_and_control_down_is_our_own_network(nowhere, rows, until):
    port = dead_port()
    async with station_on(replace(nowhere, control=f"127.0.0.1:{port}"), rows) as station:
        answer = await station.api.guest(Trace(room="a-room"))
        await until(lambda: no_network(rows))
    (row, *_) = no_network(rows)
    assert row.outcome is Outcome.PROBE_ERROR
    assert row.failure_layer is FailureLayer.PROBER
    assert row.target == f"tcp://127.0.0.1:{port}"
    assert "our own network" in row.reason
    assert row.received_at is not None
    assert row.sent_at <= row.received_at
    assert answer.row.outcome is Outcome.UNKNOWN  # the attempt's own row stays what it was


async def test_api_down_and_control_up_is_theirs(nowhere, rows, until):
    async with listener() as (control, tries), station_on(replace(nowhere, control=control), rows) as station:
        await station.api.guest(Trace(room="a-room"))
        await until(lambda: tries)
        await station.api.guest(Trace(room="a-room"))
    assert no_network(rows) == []


async def test_without_a_control_nothing_is_tried(nowhere, rows):
    async with station_on(nowhere, rows) as station:
        await station.api.guest(Trace(room="a-room"))
    assert no_network(rows) == []


async def test_an_answer_of_any_kind_leaves_the_control_alone(open_lab, target_of, scenario, rows):
    async with open_lab(scenario()) as lab, listener() as (control, tries):
        lab.api["made"].fault.status = 503
        async with station_on(replace(target_of(lab), control=control), rows) as station:
            for _ in range(3):
                await station.api.guest(Trace(room="a-room"))
            await asyncio.gather(*(relay.ready(5) for relay in station.relays))
    assert tries == []


async def test_many_failures_at_once_try_it_once(nowhere, rows, until):
    async with listener() as (control, tries), station_on(replace(nowhere, control=control), rows) as station:
        await asyncio.gather(*(station.api.guest(Trace(room=f"room-{n}")) for n in range(12)))
        await until(lambda: tries)
    assert len(tries) == 1


async def test_a_relay_that_cannot_be_reached_asks_for_the_control_too(nowhere, rows, until):
    control = f"127.0.0.1:{dead_port()}"
    async with station_on(replace(nowhere, control=control), rows):
        await until(lambda: no_network(rows))


async def test_an_interval_around_our_own_failure_is_marked(open_lab, target_of, scenario, rows, until, tmp_path):
    """404, then no network at all, then 200: the interval is right, and says that we were away."""
    async with open_lab(scenario("[api]\nrecord = { kind = 'constant', s = 1.0 }\n"), relays=1) as lab:
        proxy = lab.api_proxy["made"]
        target = replace(target_of(lab), control=f"127.0.0.1:{dead_port()}")
        async with station_on(target, rows) as station:
            made = await station.api.create(Trace("trace"), Keys.generate(), ("wss://relay.example",))
            trace = Trace("trace", f"30312:{'a' * 64}:{made.body['roomId']}", made.body["roomId"])
            assert (await station.api.guest(trace)).row.outcome is Outcome.ABSENT
            assert (await station.api.info(trace)).row.outcome is Outcome.ABSENT
            proxy.mode = ProxyMode.RESET
            assert (await station.api.guest(trace)).row.outcome is Outcome.UNKNOWN
            await until(lambda: no_network(rows))
            await station.clock.until(made.row.received_at + 1_500_000_000)  # it became visible while we were away
            proxy.mode = ProxyMode.PASS
            assert (await station.api.guest(trace)).row.outcome is Outcome.VISIBLE
    with Store.open(tmp_path / "store").writer() as writer:
        writer.append(rows)
    frame = timelines(Store.open(tmp_path / "store").frame())
    marks = dict(zip(frame["layer"], frame["marked"], strict=True))
    assert "no_network" in marks["api:guest"].split(",")


async def test_an_interval_without_such_a_failure_is_not_marked(open_lab, target_of, scenario, rows, tmp_path):
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(open_lab(scenario(), relays=1))
        control, _ = await stack.enter_async_context(listener())
        station = await stack.enter_async_context(station_on(replace(target_of(lab), control=control), rows))
        made = await station.api.create(Trace("trace"), Keys.generate(), ("wss://relay.example",))
        room = made.body["roomId"]
        lab.api_proxy["made"].mode = ProxyMode.RESET
        await station.api.guest(Trace("trace", f"30312:{'a' * 64}:{room}", room))
        lab.api_proxy["made"].mode = ProxyMode.PASS
        await station.api.guest(Trace("trace", f"30312:{'a' * 64}:{room}", room))
    with Store.open(tmp_path / "store").writer() as writer:
        writer.append(rows)
    frame = timelines(Store.open(tmp_path / "store").frame())
    assert {mark for marks in frame["marked"] for mark in marks.split(",")} & {"no_network"} == set()


def timed_out(vantage):
    """A row that asks for a try."""
    return vantage.record(
        Trace(),
        sent_at=vantage.clock.now(),
        source="api",
        target="x",
        operation="guest",
        outcome=Outcome.UNKNOWN,
        failure=Failure.TIMEOUT,
        failure_layer=FailureLayer.TCP,
        reason="timeout",
    )


async def test_a_control_whose_name_cannot_be_is_our_own_network_too(rows, vantage, until):
    control = Control(vantage, f"{'a' * 70}.invalid:443")
    control.consider(timed_out(vantage))
    await until(lambda: no_network(rows))
    await control.close()


async def test_closing_a_station_ends_a_try_that_hangs(rows, vantage):
    """A control that swallows the connection attempt must not hold up the end."""
    control = Control(vantage, "192.0.2.1:9")  # TEST-NET-1 (RFC 5737): nobody is there
    control.consider(timed_out(vantage))
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await control.close()


@pytest.mark.parametrize(
    "address", ["x", "host:", ":443", "host:0", "host:65536", "host:port", "http://host", "host:-1"]
)
def test_an_address_that_is_none_is_refused(address, vantage):
    with pytest.raises(UsageError, match="host:port"):
        Control(vantage, address)


def test_a_literal_ipv6_address_is_understood(vantage):
    Control(vantage, "[::1]:443")


@pytest.mark.parametrize(
    "address", ["", "h", "h:", ":1", "h:0", "h:65536", "h:²", "h:٣", f"h:{'9' * 5_000}"], ids=ascii
)
def test_an_address_that_is_none_is_told(vantage, address):
    with pytest.raises(UsageError, match="host:port"):
        Control(vantage, address)
