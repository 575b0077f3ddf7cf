"""For tests of sources: a listener that keeps what it hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest


@pytest.fixture
async def listening() -> AsyncIterator[tuple[list[bytes], int]]:
    """Every connection to a port of loopback: what came on it. And the port."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65_536))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        yield heard, server.sockets[0].getsockname()[1]
