"""Somebody who comes into a room under an identity that is inside already, as a second tab of a browser does."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp

AFTER_S = 0.6
STAYS_S = 0.5
TIMES = 3


async def come_in(url: str, token: str) -> None:
    """A moment later, three times, signal with `token` and stay a little: LiveKit sends away who was there before."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        for _ in range(TIMES):
            await asyncio.sleep(AFTER_S)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.ws_connect(f"{url}/rtc", params={"access_token": token, "protocol": "16"}) as socket:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(socket.receive(), STAYS_S)
                    await asyncio.sleep(STAYS_S)
