"""The endpoint for whoever looks after the service: /health (200 ok, 503 degraded; JSON) and /metrics (text)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from nestobs.collector.service.state import State
from nestobs.errors import NestobsError, UsageError
from nestobs.sources.failures import words_of

Metrics = Callable[[], bytes]
"""The text of /metrics, in Prometheus's format; it may take its time."""

_TEXT: Final = "text/plain; version=0.0.4"


@asynccontextmanager
async def answering(where: tuple[str, int], state: State, metrics: Metrics | None) -> AsyncIterator[str]:
    """Answer until the block is left; gives the URL. Raises UsageError where the address cannot be had."""
    busy = asyncio.Lock()  # who asks more often than it can be told waits

    async def health(_: web.Request) -> web.Response:
        told = state.as_dict()
        return web.json_response(told, status=200 if told["status"] == "ok" else 503)

    async def measures(_: web.Request) -> web.Response:
        if metrics is None:
            return web.Response(status=404, text="this service has no metrics\n")
        async with busy:
            try:
                return web.Response(body=await asyncio.to_thread(metrics), headers={"Content-Type": _TEXT})
            except NestobsError as error:
                return web.Response(status=503, text=f"{error}\n")

    app = web.Application(client_max_size=0)
    app.add_routes([web.get("/health", health), web.get("/metrics", measures)])
    silent = logging.Logger("health", logging.CRITICAL + 1)  # what is no HTTP would be repeated on stderr
    runner = web.AppRunner(app, access_log=None, logger=silent, shutdown_timeout=1.0)
    await runner.setup()
    host, port = where
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, OverflowError, UnicodeError) as error:
            raise UsageError(
                f"/health cannot be answered at {host}:{port} ({words_of(error)}): give `listen` in nestobs.toml an"
                " address of this machine and a port that is free"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
