"""The fault proxy in front of a plain echo server."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from nestobs.lab import FaultProxy, ProxyMode

HOST = "127.0.0.1"


async def _echo(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def proxied(**options):
    server = await asyncio.start_server(_echo, HOST, 0)
    proxy = FaultProxy(HOST, server.sockets[0].getsockname()[1], **options)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def connected(proxy):
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(reader, writer, data=b"hello", timeout_s=10.0):
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), timeout_s)


@pytest.mark.parametrize("latency_s", [0.0, 0.002])
async def test_bytes_pass_unchanged_and_in_order_and_half_close_passes_too(latency_s):
    async with proxied(latency_s=latency_s, jitter_s=latency_s * 2) as proxy, connected(proxy) as (reader, writer):
        data = bytes(range(256)) * 20_000
        writer.write(data)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 20) == data


async def test_latency_is_one_way_and_can_change():
    async with proxied(latency_s=0.1) as proxy, connected(proxy) as (reader, writer):
        began = time.monotonic()
        await ask(reader, writer)
        assert time.monotonic() - began >= 0.2
        proxy.latency_s = 0.0
        assert await ask(reader, writer) == b"hello"


async def test_refuse_refuses_new_connections_and_keeps_the_port():
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        assert await ask(reader, writer) == b"hello"
        port, proxy.mode = proxy.port, ProxyMode.REFUSE
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)
        assert await ask(reader, writer) == b"hello"
        proxy.mode = ProxyMode.PASS
        async with connected(proxy) as again:
            assert (await ask(*again), proxy.port) == (b"hello", port)


async def test_reset_resets_open_and_new_connections():
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        await ask(reader, writer)
        proxy.mode = ProxyMode.RESET
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        with pytest.raises(ConnectionResetError):
            async with connected(proxy) as (late, _):
                await late.readexactly(1)


async def test_stall_accepts_and_forwards_nothing_until_it_ends():
    async with proxied() as proxy, connected(proxy) as before:
        await ask(*before)
        proxy.mode = ProxyMode.STALL
        async with connected(proxy) as after:
            for reader, writer in (before, after):
                writer.write(b"hello")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.1)
            proxy.mode = ProxyMode.PASS
            for reader, _ in (before, after):
                assert await asyncio.wait_for(reader.readexactly(5), 10) == b"hello"


async def test_blackhole_swallows_the_answer_after_some_bytes():
    async with proxied() as proxy:
        proxy.mode, proxy.blackhole_after = ProxyMode.BLACKHOLE, 3
        async with connected(proxy) as (reader, writer):
            writer.write(b"hello")
            assert await asyncio.wait_for(reader.readexactly(3), 10) == b"hel"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)


async def test_loss_resets_its_share_of_connections_the_same_ones_for_a_seed():
    fates = []
    for _ in range(2):
        async with proxied(loss=0.5, seed=4) as proxy:
            fate = []
            for _ in range(12):
                try:
                    async with connected(proxy) as ends:
                        fate.append(await ask(*ends) == b"hello")
                except (ConnectionError, asyncio.IncompleteReadError):
                    fate.append(False)
            fates.append(fate)
    assert fates[0] == fates[1]
    assert set(fates[0]) == {True, False}


async def test_a_target_that_refuses_resets_the_client():
    proxy = FaultProxy(HOST, 1)
    await proxy.start()
    async with connected(proxy) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
    await proxy.close()


async def test_connections_are_counted_and_forgotten(until):
    async with proxied() as proxy:
        for _ in range(20):
            async with connected(proxy) as ends:
                await ask(*ends)
                assert proxy.connections >= 1
        await until(lambda: proxy.connections == 0)
