"""Where LiveKit tells the lab's APIs what became of rooms: a webhook receiver of their own."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from livekit import api

from nestobs.lab.clock import SECOND_NS, LabClock
from nestobs.lab.livekit.tokens import LivekitKeys
from nestobs.lab.truth import Bracket


class WebhookSink:
    """Verifies webhooks and passes on what the APIs need to know.

    `finished(room, sid, bracket)`: LiveKit ended a room. Its stamp is whole seconds, so the bracket begins one second
    before it and ends at the receipt. `moved(room, change)`: participants came (+1) or left (-1).
    """

    def __init__(
        self,
        keys: LivekitKeys,
        clock: LabClock,
        *,
        finished: Callable[[str, str, Bracket], None],
        moved: Callable[[str, int], None],
    ) -> None:
        self.url = ""
        self._receiver = api.WebhookReceiver(api.TokenVerifier(keys.key, keys.secret))
        self._clock, self._finished, self._moved = clock, finished, moved
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/webhook"

    async def close(self) -> None:
        """Stop."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        now_at = self._clock.now_at()
        try:
            event = self._receiver.receive((await request.read()).decode(), request.headers.get("Authorization", ""))
        except Exception:  # the receiver raises bare Exception and PyJWT's errors alike
            return web.Response(status=401)
        match event.event:
            case "room_finished":
                begun_at = min((event.created_at - 1) * SECOND_NS, now_at)
                self._finished(event.room.name, event.room.sid, Bracket(begun_at, now_at))
            case "participant_joined":
                self._moved(event.room.name, 1)
            case "participant_left":
                self._moved(event.room.name, -1)
        return web.Response()
