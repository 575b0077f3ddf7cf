"""What stands between a page and a lab's API: a small web server with the page's files, the API, a signer, and a host
who opens a nest when the page is ready.

One port is the page's own origin. The other is another one, which sends the headers that let a page in (CORS), as a
deployed API does whose page lies elsewhere.
"""

from __future__ import annotations

import asyncio
import mimetypes
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from aiohttp import web

from nestobs.nostr import Keys, http_auth
from worlds.command_line import LabBeside

PASSED = ("content-type", "date", "retry-after")
"""What of an answer's headers comes through."""


@dataclass
class Front:
    """Before a scenario's API. asked: method, path and status of each request for it; `exposes`: whether a page of the
    other origin may read Retry-After; `dated`: that is a date; `holds`: answers are kept until whoever asked has gone,
    which is counted in `left`."""

    lab: LabBeside
    scenario: str
    folder: Path
    keys: Keys = field(default_factory=Keys.generate)
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    exposes: bool = True
    dated: bool = False
    holds: bool = False
    held: int = 0
    left: int = 0

    def __enter__(self) -> Front:
        self._stack = AsyncExitStack()
        self.lab.call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.lab.call(self._stack.aclose())

    @property
    def api(self) -> str:
        """The API's base at the page's own origin."""
        return f"{self.origin}/api/v1/nests"

    @property
    def elsewhere(self) -> str:
        """The same at another origin."""
        return f"{self.other}/api/v1/nests"

    async def _start(self) -> None:
        self._http = await self._stack.enter_async_context(httpx.AsyncClient())
        self.origin, self.other = [await self._listen(cross=cross) for cross in (False, True)]

    async def _listen(self, *, cross: bool) -> str:
        async def serve(request: web.BaseRequest) -> web.Response:
            return await self._serve(request, cross=cross)

        runner = web.ServerRunner(web.Server(serve, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _serve(self, request: web.BaseRequest, *, cross: bool) -> web.Response:
        if request.path == "/sign":
            now_s = int(time.time())
            header = http_auth(self.keys, url=request.query["url"], method=request.query["method"], created_at=now_s)
            return web.Response(text=header)
        if request.path == "/open":
            return web.json_response(await self._open())
        if request.path in ("/held", "/left"):
            return web.Response(text=str(self.held if request.path == "/held" else self.left))
        if request.path.startswith("/api/"):
            return await self._pass(request, cross=cross)
        path = self.folder / (request.path.lstrip("/") or "index.html")
        if not path.is_file():
            return web.Response(status=404)
        return web.Response(body=path.read_bytes(), content_type=mimetypes.guess_type(path.name)[0] or "text/plain")

    async def _open(self) -> dict[str, object]:
        """A nest made this moment, which no relay is told of."""
        api, now_s = self.lab.way(self.scenario)["api"], int(time.time())
        body = b'{"relays": ["wss://relay.example"]}'
        header = http_auth(self.keys, url=api, method="PUT", created_at=now_s, body=body)
        answer = await self._http.put(api, content=body, headers={"Authorization": header})
        return {"room": answer.raise_for_status().json()["roomId"], "createdAt": now_s}

    async def _pass(self, request: web.BaseRequest, *, cross: bool) -> web.Response:
        allowed = {"Access-Control-Allow-Origin": "*"} if cross else {}
        if cross and self.exposes:
            allowed["Access-Control-Expose-Headers"] = "Retry-After"
        if request.method == "OPTIONS" and cross:
            return web.Response(status=204, headers=allowed | {"Access-Control-Allow-Headers": "Authorization"})
        if self.holds:
            return await self._hold(request)
        api = urlsplit(self.lab.way(self.scenario)["api"])
        wanted = {name: request.headers[name] for name in ("Authorization",) if name in request.headers}
        url = f"{api.scheme}://{api.netloc}{request.raw_path}"
        answer = await self._http.request(request.method, url, headers=wanted)
        self.asked.append((request.method, request.path, answer.status_code))
        headers = {name: answer.headers[name] for name in PASSED if name in answer.headers}
        if self.dated and "retry-after" in headers:
            until = parsedate_to_datetime(headers["date"]) + timedelta(seconds=int(headers["retry-after"]))
            headers["retry-after"] = format_datetime(until, usegmt=True)
        return web.Response(status=answer.status_code, body=answer.content, headers=headers | allowed)

    async def _hold(self, request: web.BaseRequest) -> web.Response:
        self.held += 1
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - it does not tell
            await asyncio.sleep(0.01)
        self.left += 1
        return web.Response()
