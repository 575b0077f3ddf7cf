"""The Nests API of implementation E: the routes, answers and headers of a deployed one, with faults on command.

Every request counts against the rate limit. The requests' order of checks is the deployed one: rate limit,
authorization, body, nest. Which 404 is which matters to observers and is kept: no record, no LiveKit room, no such
route.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from email.utils import formatdate
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from aiohttp import web

from nestobs import nostr
from nestobs.errors import AddressError
from nestobs.lab.api.answers import (
    NO_ENDPOINT,
    NO_RECORD,
    NO_ROOM,
    UNAUTHORIZED,
    Answer,
    ApiFaults,
    are_relays,
    etag,
    is_pubkey,
    put_in_or_out,
    refusal,
)
from nestobs.lab.api.http_auth import NotAuthorized, check_http_auth
from nestobs.lab.api.rate_limiter import RateLimiter
from nestobs.lab.api.record import Nest
from nestobs.lab.background import Background
from nestobs.lab.clock import SECOND_NS, LabClock
from nestobs.lab.livekit.rooms import FAILED, LivekitRooms
from nestobs.lab.livekit.tokens import LivekitKeys
from nestobs.lab.plan import Plan, Planner
from nestobs.lab.scenario import Scenario
from nestobs.lab.truth import Bracket, JsonLines, TruthLog

PREFIX = "/api/v1/nests"
VERSION = "1.0.0-lab"
RESTART_PAUSE_S = 2.0

_log = logging.getLogger("nestobs.lab.api")


class NestsApi:
    """One scenario's API. `livekit_url` (ws://host:port) is what PUT's `endpoints` point to."""

    def __init__(
        self,
        scenario: Scenario,
        planner: Planner,
        *,
        clock: LabClock,
        truth: TruthLog,
        rooms: LivekitRooms,
        keys: LivekitKeys,
        stamps: JsonLines | None = None,
    ) -> None:
        self.scenario = scenario
        self.fault = ApiFaults(
            join=scenario.api.join_fault,
            token=scenario.api.token_fault,
            server_error_s=scenario.api.server_error_s,
            cache_404_s=scenario.api.cache_404_s,
        )
        self.limiter = RateLimiter(scenario.rate_limit)
        self.livekit_url = ""
        self.nests: dict[str, Nest] = {}
        self._planner, self._clock, self._truth = planner, clock, truth
        self._rooms, self._keys, self._stamps = rooms, keys, stamps
        self._made = 0
        self._turn = 0
        self._rng = np.random.default_rng([planner.seed, 2])
        self._cache: dict[str, tuple[float, Answer]] = {}
        self._background = Background()
        self._runner: web.ServerRunner | None = None
        self.port = 0

    async def start(self, port: int = 0) -> None:
        """Listen on loopback. Raises OSError when a given port is taken."""
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop answering; nothing that was planned happens any more."""
        for nest in self.nests.values():
            nest.cancel()
        await self._background.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def plan_of(self, room: str) -> Plan:
        """The plan of a nest made here, or of a stranger's event with this `d` tag."""
        nest = self.nests.get(room)
        return nest.plan if nest is not None else self._planner.stranger(room)

    def room_finished(self, room: str, sid: str, bracket: Bracket) -> None:
        """LiveKit says by webhook that it ended a room."""
        nest = self.nests.get(room)
        if nest is not None and nest.room_sid == sid and not nest.closing:
            nest.room_closed(bracket)

    def participants(self, room: str, change: int) -> None:
        """LiveKit says by webhook that somebody came or left."""
        if (nest := self.nests.get(room)) is not None:
            nest.participants = max(0, nest.participants + change)

    # one request

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        received_at = self._clock.now_at() if self._stamps is not None else 0
        allowed, headers = self.limiter.count(request.remote or "")
        if not allowed:
            answer = refusal(429, "Too many requests, please try again later.")
        else:
            answer = await self._faulty(request)
        if self.fault.answer_delay_s:
            await asyncio.sleep(self.fault.answer_delay_s)
        response = self._response(answer, headers)
        if self._stamps is not None and (request_id := request.headers.get("X-Request-Id")):
            self._stamp(request_id, received_at, answer.status)
        return response

    def _response(self, answer: Answer, headers: dict[str, str]) -> web.Response:
        headers.update(answer.headers)
        if self.scenario.api.date_skew_s:
            headers["Date"] = formatdate(self._wall_s(), usegmt=True)
        if answer.body is None:
            return web.Response(status=answer.status, headers=headers)
        body = json.dumps(answer.body, separators=(",", ":")).encode()
        headers["ETag"] = etag(body)
        headers["Content-Type"] = "application/json; charset=utf-8"
        return web.Response(status=answer.status, body=body, headers=headers)

    def _stamp(self, request_id: str, received_at: int, status: int) -> None:
        assert self._stamps is not None
        self._stamps.append(
            {
                "scenario": self.scenario.name,
                "request_id": request_id,
                "received_at": received_at,
                "answered_at": self._clock.now_at(),
                "status": status,
            }
        )

    def _wall_s(self) -> float:
        return self._clock.wall_s(self.scenario.api.date_skew_s)

    async def _faulty(self, request: web.BaseRequest) -> Answer:
        """Route the request, unless a fault or the cache answers first."""
        path = request.path
        if path == "/health":
            return self._health() if request.method == "GET" else NO_ENDPOINT
        if path != PREFIX and not path.startswith(PREFIX + "/"):
            return NO_ENDPOINT
        if self.fault.status is not None:
            return refusal(self.fault.status, "The lab answers so")
        if self.fault.cache_404_s and request.method == "GET":
            return await self._cached(request, path)
        return await self._route(request, path)

    async def _cached(self, request: web.BaseRequest, path: str) -> Answer:
        now = self._clock.elapsed_s()
        stored_s, stored = self._cache.get(path, (0.0, NO_ENDPOINT))
        if path in self._cache and now - stored_s < self.fault.cache_404_s:
            return refusal(404, stored.body["error"], ("Age", str(int(now - stored_s))), ("X-Cache", "HIT"))
        answer = await self._route(request, path)
        if answer.status == 404:
            self._cache[path] = (now, answer)
        return answer

    async def _route(self, request: web.BaseRequest, path: str) -> Answer:  # noqa: PLR0911 - one return per route
        parts = path[len(PREFIX) :].strip("/").split("/")
        room = parts[0]
        match request.method, parts[1:]:
            case "PUT", [] if not room:
                return await self._authorized(request, self._create)
            case "GET", [] if room:
                return await self._authorized(request, partial(self._join, room))
            case "GET", ["guest"] if room:
                return self._guest(room)
            case "GET", ["info"] if room:
                return self._info(room)
            case "POST", ["permissions"] if room:
                return await self._authorized(request, partial(self._permissions, room))
            case "POST", ["restart"] if room:
                return await self._authorized(request, partial(self._restart, room))
            case "DELETE", [] if room:
                return await self._authorized(request, partial(self._delete, room))
        return NO_ENDPOINT

    async def _authorized(self, request: web.BaseRequest, route: Any) -> Answer:
        """Check NIP-98, then call route(pubkey, body)."""
        try:
            body = await request.read()
            pubkey = check_http_auth(
                request.headers.get("Authorization"),
                method=request.method,
                path=request.path,
                body=body,
                now_s=self._wall_s(),
                require_payload=self.scenario.api.require_payload,
            )
        except NotAuthorized as reason:
            return refusal(401, UNAUTHORIZED, ("X-Lab-Reason", str(reason)[:200]))
        except web.HTTPRequestEntityTooLarge:
            return refusal(413, "Body too large")
        answer: Answer = await route(pubkey, body)
        return answer

    # the routes

    def _health(self) -> Answer:
        whole = np.datetime64(int(self._wall_s() * 1000), "ms")
        return Answer(200, {"status": "ok", "timestamp": f"{whole}Z", "version": VERSION})

    async def _create(self, pubkey: str, body: bytes) -> Answer:
        asked = nostr.json_object(body)
        relays = asked.get("relays") if asked is not None else None
        if asked is None or not are_relays(relays):
            return refusal(400, "relays must be a list of 1 to 10 ws or wss URLs")
        try:
            nest = self._new_nest(pubkey, tuple(relays or ()))
        except AddressError:
            return refusal(400, "relays must be a list of 1 to 10 ws or wss URLs")
        if nest.plan.livekit_s == 0.0:
            try:
                await self._open_room(nest)
            except FAILED as error:
                _log.warning("LiveKit did not make the room: %s", error)
                return refusal(500, "Failed to create nest")
        self.nests[nest.room] = nest
        if nest.plan.livekit_s:
            self._background.start(self._open_room_after(nest, nest.plan.livekit_s))
        nest.open_record()
        return self._created(nest, asked.get("hls_stream"))

    def _new_nest(self, pubkey: str, relays: tuple[str, ...]) -> Nest:
        room = str(uuid.uuid4())
        link = nostr.write_naddr(nostr.Address(nostr.ROOM_KIND, pubkey, room, relays))
        nest = Nest(
            room=room,
            host=pubkey,
            link=link,
            plan=self._planner.nth(self._made),
            created_at=self._clock.now_at(),
            clock=self._clock,
            note=partial(self._truth.note, scenario=self.scenario.name, address=f"{nostr.ROOM_KIND}:{pubkey}:{room}"),
            join_fault=self.fault.join == "404",
            speakers={pubkey},
            admins={pubkey},
        )
        self._made += 1
        return nest

    def _created(self, nest: Nest, hls: object = None) -> Answer:
        endpoints = [f"wss+livekit://{urlsplit(self.livekit_url).netloc}"]
        if isinstance(hls, str):
            endpoints.append(hls)
        token = self._token(self._keys.joining(nest.room, nest.host, host=True, speaker=True))
        return Answer(200, {"roomId": nest.room, "endpoints": endpoints, "token": token})

    def _token(self, token: str) -> object:
        return {} if self.fault.token == "object" else token

    async def _open_room_after(self, nest: Nest, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        if nest.deleted:
            return
        try:
            await self._open_room(nest)
        except FAILED as error:
            _log.warning("LiveKit did not make the room: %s", error)

    async def _open_room(self, nest: Nest) -> None:
        where = self.scenario.livekit
        not_yet_at = self._clock.now_at()
        nest.opening = True
        try:
            sid = await self._rooms.create(
                nest.room, empty_timeout_s=where.empty_timeout_s, departure_timeout_s=where.departure_timeout_s
            )
        finally:
            nest.opening = False
        nest.room_opened(sid, Bracket(not_yet_at, self._clock.now_at()))
        if nest.deleted:
            await self._close_room(nest)
        elif nest.plan.expires_s is not None:
            self._background.start(self._expire(nest, sid, nest.plan.expires_s))

    async def _expire(self, nest: Nest, sid: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if nest.room_sid == sid:
            with contextlib.suppress(*FAILED):
                await self._close_room(nest)

    async def _close_room(self, nest: Nest, *, for_good: bool = True) -> None:
        not_yet_at = self._clock.now_at()
        nest.closing = True
        try:
            await self._rooms.delete(nest.room)
        finally:
            nest.closing = False
        nest.room_closed(Bracket(not_yet_at, self._clock.now_at()), for_good=for_good)

    def _replica(self) -> int:
        count = self.scenario.api.replicas
        if count == 1:
            return 0
        if self.scenario.api.routing == "random":
            return int(self._rng.integers(count))
        self._turn = (self._turn + 1) % count
        return self._turn

    def _visible(self, room: str, route: str) -> Nest | Answer:
        """The nest, if this route of the replica in turn shows it; else what is answered instead."""
        nest, replica = self.nests.get(room), self._replica()
        if nest is None:
            return refusal(404, NO_RECORD)
        if self.fault.server_error_s and self._clock.now_at() - nest.created_at < self.fault.server_error_s * SECOND_NS:
            return refusal(500, "Internal server error")
        if not nest.shows(route, replica) or (route != "info" and (nest.join_fault or self.fault.join == "404")):
            return refusal(404, NO_RECORD)
        if route != "info" and not nest.answers(route, replica):
            return refusal(404, NO_ROOM[route])
        return nest

    async def _join(self, room: str, pubkey: str, _: bytes) -> Answer:
        nest = self._visible(room, "join")
        if isinstance(nest, Answer):
            return nest
        token = self._keys.joining(room, pubkey, host=pubkey == nest.host, speaker=pubkey in nest.speakers)
        return Answer(200, {"token": self._token(token)})

    def _guest(self, room: str) -> Answer:
        nest = self._visible(room, "guest")
        return nest if isinstance(nest, Answer) else Answer(200, {"token": self._token(self._keys.guest(room))})

    def _info(self, room: str) -> Answer:
        nest = self._visible(room, "info")
        if isinstance(nest, Answer):
            return nest
        return Answer(
            200,
            {
                "host": nest.host,
                "speakers": sorted(nest.speakers),
                "admins": sorted(nest.admins),
                "link": nest.link,
                "recording": False,
                "participantCount": nest.participants,
                "createdAt": nest.created_at // 1_000_000,
                "status": "active",
            },
        )

    def _owned(self, room: str, pubkey: str, allowed: str) -> Nest | Answer:
        """The nest on the primary, whatever the replicas show, if this key may change it."""
        nest = self.nests.get(room)
        if nest is None or nest.deleted:
            return refusal(404, NO_RECORD)
        if pubkey != nest.host and (allowed == "host" or pubkey not in nest.admins):
            return refusal(403, f"Only the {allowed} can do this")
        return nest

    async def _permissions(self, room: str, pubkey: str, body: bytes) -> Answer:
        asked = nostr.json_object(body)
        if asked is None or not is_pubkey(asked.get("participant")):
            return refusal(400, "participant must be 64 hex digits")
        nest = self._owned(room, pubkey, "admin")
        if isinstance(nest, Answer):
            return nest
        changed = put_in_or_out(nest.speakers, asked["participant"], asked.get("can_publish"))
        changed = put_in_or_out(nest.admins, asked["participant"], asked.get("is_admin")) or changed
        return Answer(201 if changed else 204)

    async def _restart(self, room: str, pubkey: str, _: bytes) -> Answer:
        """As released: creates the room that is already there. With `restart_deletes`, as it was meant."""
        nest = self._owned(room, pubkey, "host")
        if isinstance(nest, Answer):
            return nest
        try:
            if self.scenario.api.restart_deletes:
                await self._close_room(nest, for_good=False)
                await asyncio.sleep(RESTART_PAUSE_S)
            await self._open_room(nest)
        except FAILED:
            return refusal(500, "Failed to restart nest")
        return self._created(nest)

    async def _delete(self, room: str, pubkey: str, _: bytes) -> Answer:
        nest = self._owned(room, pubkey, "host")
        if isinstance(nest, Answer):
            return nest
        nest.delete(self._clock.now_at())
        try:
            await self._close_room(nest)
        except FAILED:
            return refusal(500, "Failed to delete nest")
        return Answer(204)
