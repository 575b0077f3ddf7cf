"""HTTP on loopback, for all of the lab that speaks it."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import AsyncExitStack

from aiohttp import web

HOST = "127.0.0.1"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def listen(runner: web.BaseRunner, stack: AsyncExitStack, port: int = 0) -> int:
    """Serve HTTP on loopback until the stack ends; returns the port. Raises OSError when a given port is taken."""
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    return int(runner.addresses[0][1])


def bound(port: int) -> socket.socket:
    """A socket on this loopback port that does not listen: the port is ours, and refuses. Raises OSError."""
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((HOST, port))
    except OSError:
        held.close()
        raise
    return held


def reset(transport: asyncio.BaseTransport) -> None:
    """Close a connection with RST, if it is still open."""
    plain = transport.get_extra_info("socket")
    if plain is not None and plain.fileno() >= 0:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    if isinstance(transport, asyncio.Transport):
        transport.abort()
