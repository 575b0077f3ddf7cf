"""A part before the lab's API that answers some of its calls otherwise: what proxies and other releases do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

from aiohttp import ClientSession, web

from nestobs.lab import Lab

Forward: TypeAlias = Callable[[], Awaitable[web.Response]]
Instead: TypeAlias = Callable[[web.BaseRequest, Forward], Awaitable[web.Response]]
PREFIX = "/api/v1/nests"


def call_of(request: web.BaseRequest) -> str:
    """`PUT`, `GET` (a join), `GET info`, `GET guest`, `POST restart`, `DELETE`."""
    rest = request.path.removeprefix(PREFIX).strip("/").split("/")
    return " ".join([request.method, *rest[1:]])


@asynccontextmanager
async def interposed(lab: Lab, instead: Mapping[str, Instead]) -> AsyncIterator[str]:
    """The base URL of the first scenario's API, with some calls answered by `instead`, by what `call_of` names them; as
    the same server says it, unless that names another."""
    scenario, world = next(iter(lab.info["scenarios"].items()))
    inside = world["vantages"][0]["api"].removesuffix(PREFIX)

    async def handle(request: web.BaseRequest) -> web.Response:
        body = await request.read()

        async def forward() -> web.Response:
            kept = ("Authorization", "Content-Type", "X-Request-Id")
            headers = {name: request.headers[name] for name in kept if name in request.headers}
            async with (
                ClientSession() as session,
                session.request(request.method, inside + request.path, data=body, headers=headers) as answer,
            ):
                dropped = ("Content-Length", "Transfer-Encoding", "Content-Encoding", "Connection")
                headers = {name: text for name, text in answer.headers.items() if name not in dropped}
                return web.Response(status=answer.status, body=await answer.read(), headers=headers)

        answers = instead.get(call_of(request)) if request.path.startswith(PREFIX) else None
        made = await (answers(request, forward) if answers is not None else forward())
        made.headers.setdefault("Server", f"nestobs-lab/{scenario}")
        return made

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{PREFIX}"
    finally:
        await runner.cleanup()
