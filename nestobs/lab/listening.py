"""HTTP on loopback, for all of the lab that speaks it."""

from __future__ import annotations

from contextlib import AsyncExitStack

from aiohttp import web

HOST = "127.0.0.1"


async def listen(runner: web.BaseRunner, stack: AsyncExitStack, port: int = 0) -> int:
    """Serve HTTP on loopback until the stack ends; returns the port. Raises OSError when a given port is taken."""
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    return int(runner.addresses[0][1])
