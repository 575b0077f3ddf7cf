"""A proxy in front of the Nests API that now and then answers by itself, and remembers when."""

import asyncio
import gzip
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

import aiohttp
from aiohttp import web
from yarl import URL

from nestobs.lab.listening import listen
from nestobs.observation.schema import Observation, Operation, Outcome, Source

HTML = "<!doctype html><html><body><h1>404</h1></body></html>"
OWN: dict[str, tuple[int, str, dict[str, str]]] = {
    "Traefik": (404, "404 page not found\n", {"Content-Type": "text/plain; charset=utf-8"}),
    "nginx": (404, HTML, {"Content-Type": "text/html", "Server": "nginx"}),
    "a default backend": (404, "default backend - 404", {"Content-Type": "text/plain"}),
    "Kong": (404, '{"message":"no Route matched with those values"}', {"Content-Type": "application/json"}),
    "FastAPI": (404, '{"detail":"Not Found"}', {"Content-Type": "application/json"}),
    "Spring": (404, '{"status":404,"error":"Not Found","path":"/"}', {"Content-Type": "application/json"}),
    "Envoy": (404, "", {"server": "envoy"}),
    "a web app": (200, HTML, {"Content-Type": "text/html"}),
    "an empty object": (200, "{}", {"Content-Type": "application/json"}),
    "a bad gateway": (502, HTML, {"Content-Type": "text/html"}),
    "a restart": (503, "", {"Retry-After": "1"}),
    "garbage": (404, '{"error":"Nest not found"}', {"Age": "9" * 5_000, "X-Cache": "HIT", "RateLimit": "q" * 6_000}),
}
OPERATIONS = {
    Operation.CREATE: ("PUT", ""),
    Operation.DELETE: ("DELETE", "/{room}"),
    Operation.INFO: ("GET", "/{room}/info"),
    Operation.JOIN: ("GET", "/{room}"),
    Operation.GUEST: ("GET", "/{room}/guest"),
}
PROOFS = (Outcome.VISIBLE, Outcome.ABSENT, Outcome.ACCEPTED)
HOP = {"connection", "content-length", "transfer-encoding", "content-encoding", "host"}


class Impostor:
    """`honest`: it passes everything on. `count`: how often it answered in which way."""

    def __init__(self, upstream: str, dice: random.Random, now: Callable[[], int]) -> None:
        self.honest = False
        self.count: Counter[str] = Counter()
        self._upstream, self._dice, self._now = URL(upstream), dice, now
        self._copies: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self._answers: dict[tuple[str, str], list[tuple[int, int, str]]] = {}

    async def start(self, stack: AsyncExitStack) -> str:
        """Listen until the stack ends; the API's base URL there."""
        self._session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        port = await listen(web.AppRunner(app, access_log=None, handle_signals=False), stack)
        return str(self._upstream.with_port(port))

    def unproved(self, row: Observation) -> str:
        """Who gave the answer on which this row claims a proof, when it was not the API; else nothing."""
        if row.source is not Source.API or row.outcome not in PROOFS or row.operation not in OPERATIONS:
            return ""
        if row.received_at is None:
            return ""
        method, path = OPERATIONS[row.operation]
        asked = self._answers.get((method, self._upstream.path + path.format(room=row.room)), [])
        within = [who for began, ended, who in asked if row.sent_at <= began and ended <= row.received_at]
        return "" if "the API" in within or not within else within[0]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        began = self._now()
        who, response = await self._choose(request)
        self.count[who] += 1
        answers = self._answers.setdefault((request.method, request.path), [])
        answers.append((began, self._now(), who))
        if response is None:
            if request.transport is not None:  # else whoever asked has gone by itself
                request.transport.abort()
            raise asyncio.CancelledError
        return response

    async def _choose(self, request: web.Request) -> tuple[str, web.StreamResponse | None]:
        fate = 1.0 if self.honest else self._dice.random()
        key = f"{request.method} {request.path}"
        if fate < 0.08:
            who = self._dice.choice([*OWN])
            status, text, headers = OWN[who]
            return who, web.Response(status=status, body=text.encode(), headers=headers)
        if fate < 0.12 and request.method == "GET" and key in self._copies:
            status, body, headers = self._copies[key]
            hit = self._dice.choice(({"Age": "7"}, {"X-Cache": "MISS, HIT"}, {"CF-Cache-Status": "HIT"}))
            return "a cache", web.Response(status=status, body=body, headers=headers | hit)
        if fate < 0.13:
            bomb = gzip.compress(gzip.compress(bytes(200_000_000), 1), 1)
            return "a bomb", web.Response(status=404, body=bomb, headers={"Content-Encoding": "gzip, gzip"})
        return await self._pass(request, key, lose=0.13 <= fate < 0.15)

    async def _pass(self, request: web.Request, key: str, *, lose: bool) -> tuple[str, web.StreamResponse | None]:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        url = self._upstream.with_path(request.path)
        try:
            async with self._session.request(
                request.method, url, data=await request.read(), headers=headers, timeout=aiohttp.ClientTimeout(total=30)
            ) as answer:
                body = await answer.read()
                status, given = answer.status, {k: v for k, v in answer.headers.items() if k.lower() not in HOP}
        except (aiohttp.ClientError, TimeoutError):
            return "a gateway", web.Response(status=502, text=HTML, content_type="text/html")
        if lose:
            return "nobody", None
        self._copies[key] = (status, body, given)
        self.count["429 of the API"] += status == 429
        return "the API", web.Response(status=status, body=body, headers=given)
