"""Where LiveKit tells the lab's APIs what became of rooms: a webhook receiver of their own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from aiohttp import web
from livekit import api

from nestobs.lab.api.server import NestsApi
from nestobs.lab.clock import SECOND_NS, LabClock
from nestobs.lab.listening import HOST, listen
from nestobs.lab.livekit.tokens import LivekitKeys
from nestobs.lab.truth import Bracket
from nestobs.nostr import json_object


async def receive_webhooks(
    stack: AsyncExitStack, keys: LivekitKeys, clock: LabClock, apis: Mapping[str, NestsApi]
) -> str:
    """Verify webhooks and pass on what the APIs need to know, those of later too; the URL to send them to.

    LiveKit's stamp of a room's end is whole seconds, so the bracket begins one second before it and ends at the
    receipt.
    """
    receiver = api.WebhookReceiver(api.TokenVerifier(keys.key, keys.secret))

    async def serve(request: web.BaseRequest) -> web.Response:
        now_at = clock.now_at()
        try:
            body = await request.read()
            event = receiver.receive(body.decode(), request.headers.get("Authorization", ""))
        except Exception:  # the receiver raises bare Exception and PyJWT's errors alike
            return web.Response(status=401)
        for each in apis.values():
            each.told(json_object(body) or {})
            match event.event:
                case "room_finished":
                    begun_at = min((event.created_at - 1) * SECOND_NS, now_at)
                    each.room_finished(event.room.name, event.room.sid, Bracket(begun_at, now_at))
                case "participant_joined":
                    each.participants(event.room.name, 1)
                case "participant_left":
                    each.participants(event.room.name, -1)
        return web.Response()

    runner = web.ServerRunner(web.Server(serve, access_log=None), shutdown_timeout=0.2)
    return f"http://{HOST}:{await listen(runner, stack)}/webhook"
