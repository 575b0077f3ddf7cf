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
import math
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from email.utils import formatdate
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from nestobs import nostr
from nestobs.errors import AddressError
from nestobs.lab.api import answers
from nestobs.lab.api.answers import Answer, ApiFaults, Refused
from nestobs.lab.api.http_auth import NotAuthorized, check_http_auth
from nestobs.lab.api.log import ApiLog
from nestobs.lab.api.rate_limiter import RateLimiter
from nestobs.lab.api.record import Nest
from nestobs.lab.background import Background
from nestobs.lab.clock import SECOND_NS
from nestobs.lab.faults import answers as faulty
from nestobs.lab.faults.course import Course
from nestobs.lab.faults.draw import Fault
from nestobs.lab.listening import listen, reset
from nestobs.lab.livekit.intruder import come_in
from nestobs.lab.livekit.rooms import FAILED, LivekitRooms
from nestobs.lab.livekit.tokens import LivekitKeys
from nestobs.lab.plan import Plan, Planner
from nestobs.lab.truth import Bracket
from nestobs.lab.world import World

PREFIX = "/api/v1/nests"
VERSION = "1.0.0-lab"
RESTART_PAUSE_S = 2.0

_log = logging.getLogger("nestobs.lab.api")


class NestsApi:
    """One scenario's API. `livekit_url` (ws://host:port) is what PUT's `endpoints` point to.

    `doors` is told of a fault of a nest that begins (True) or ends (False) at a door which all nests share.
    """

    def __init__(self, planner: Planner, world: World) -> None:
        self.scenario = scenario = planner.scenario
        self.fault = ApiFaults(
            join=scenario.api.join_fault,
            token=scenario.api.token_fault,
            server_error_s=scenario.api.server_error_s,
            cache_404_s=scenario.api.cache_404_s,
        )
        self.livekit_url = ""
        self.doors: Callable[[Fault, bool], None] = lambda fault, begins: None
        self.nests: dict[str, Nest] = {}
        self.begun = asyncio.Event()
        self.port = 0
        self._limiter = RateLimiter(scenario.rate_limit)
        self._planner, self._world, self._clock = planner, world, world.clock
        self._made = 0
        self._turn = 0
        self._cache: dict[str, tuple[float, float, str]] = {}
        self._elsewhere = LivekitKeys(world.keys.key, LivekitKeys.generate().secret)
        self._background = Background()
        clock, skew_s = self._clock, scenario.api.date_skew_s
        self.log = ApiLog(world.log_of(scenario.name), world.log_form, lambda: clock.wall_s(skew_s))

    async def start(self, stack: AsyncExitStack) -> None:
        """Listen on a free loopback port. At the end nothing that was planned happens any more."""
        runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.2)
        self.log.open(stack.enter_context(ExitStack()))
        self.port = await listen(runner, stack)
        stack.push_async_callback(self._background.close)
        stack.callback(self._forget)

    def _forget(self) -> None:
        for nest in self.nests.values():
            nest.cancel()

    def plan_of(self, room: str) -> Plan:
        """The plan of a nest made here, or of a stranger's event with this `d` tag."""
        nest = self.nests.get(room)
        return nest.plan if nest is not None else self._planner.stranger(room)

    def suffers(self, room: str, cause: str) -> Fault | None:
        """The fault of this cause that a nest made here has now."""
        nest = self.nests.get(room)
        return None if nest is None else nest.course.has(cause)

    def told(self, event: dict[str, Any]) -> None:
        """LiveKit tells what became of a room: of its own nests the API logs it."""
        if str((event.get("room") or {}).get("name")) in self.nests:
            self.log.info("LiveKit webhook event:", **event)

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
        received_at = self._clock.now_at()
        allowed, headers = self._limiter.count(request.remote or "")
        try:
            if not allowed:
                raise Refused(429, "Too many requests, please try again later.")
            answer = await self._faulty(request)
        except Refused as refused:
            answer = refused.answer
        except faulty.Foreign as other:
            return web.Response(status=other.status, body=other.text.encode(), headers=other.headers)
        except faulty.Hung:
            if request.transport is not None:
                reset(request.transport)
            return web.Response()
        if self.fault.answer_delay_s:
            await asyncio.sleep(self.fault.answer_delay_s)
        response = self._response(answer, headers, self._skew_s(request))
        if "Age" not in response.headers:  # else a cache answered, and not the API
            self.log.request(request, answer.status, response.content_length)
        if request_id := request.headers.get("X-Request-Id"):
            self._world.stamp(
                scenario=self.scenario.name,
                request_id=request_id,
                received_at=received_at,
                answered_at=self._clock.now_at(),
                status=answer.status,
            )
        return response

    def _response(self, answer: Answer, headers: dict[str, str], skew_s: float) -> web.Response:
        if "Retry-After" in dict(answer.headers):  # a limit of its own
            headers.clear()
        headers.update(answer.headers)
        headers.setdefault("Server", f"nestobs-lab/{self.scenario.name}")
        if skew_s:
            headers["Date"] = formatdate(self._clock.wall_s(skew_s), usegmt=True)
        if answer.body is None:
            return web.Response(status=answer.status, headers=headers)
        body = json.dumps(answer.body, separators=(",", ":")).encode()
        headers["ETag"] = answers.etag(body)
        headers["Content-Type"] = "application/json; charset=utf-8"
        return web.Response(status=answer.status, body=body, headers=headers)

    def _skew_s(self, request: web.BaseRequest) -> float:
        """By how much the clock of this answer is ahead, seconds."""
        nest = self._asked_about(request)
        return self.scenario.api.date_skew_s + (0.0 if nest is None else faulty.skew_s(nest.course))

    def _asked_about(self, request: web.BaseRequest) -> Nest | None:
        return self.nests.get(request.path.removeprefix(PREFIX).strip("/").split("/")[0])

    async def _faulty(self, request: web.BaseRequest) -> Answer:
        """Route the request, unless a fault or the cache answers first."""
        path = request.path
        if path == "/health" and request.method == "GET":
            return self._health()
        if path != PREFIX and not path.startswith(PREFIX + "/"):
            raise Refused(404, answers.NO_ENDPOINT)
        if self.fault.status is not None:
            raise Refused(self.fault.status, "The lab answers so")
        cache = ("x_cache", self.fault.cache_404_s) if self.fault.cache_404_s else None
        if (nest := self._asked_about(request)) is not None:
            tail = path.rsplit("/", 1)[-1]
            route = tail if tail in ("info", "guest") else "join" if request.method == "GET" else ""
            await faulty.spoil(nest.course, route, "Authorization" in request.headers)
            cache = faulty.cached(nest.course) or cache
        if cache is not None and request.method == "GET":
            return await self._cached(request, path, *cache)
        return await self._route(request, path)

    async def _cached(self, request: web.BaseRequest, path: str, kind: str, keep_s: float) -> Answer:
        now = self._clock.elapsed_s()
        stored_s, until_s, stored = self._cache.get(path, (now, -math.inf, ""))
        if now < until_s:
            raise Refused(404, stored, *faulty.hit_headers(kind, int(now - stored_s)))
        try:
            return await self._route(request, path)
        except Refused as refused:
            if refused.answer.status == 404:
                self._cache[path] = (now, now + keep_s, str(refused))
            raise

    async def _route(self, request: web.BaseRequest, path: str) -> Answer:  # noqa: PLR0911 - one return per route
        room, *rest = path[len(PREFIX) :].strip("/").split("/")
        match request.method, rest:
            case "PUT", [] if not room:
                return await self._create(await self._signer(request), await request.read())
            case "GET", [] if room:
                return self._join(room, await self._signer(request))
            case "GET", ["guest"] if room:
                return self._guest(room)
            case "GET", ["info"] if room:
                return self._info(room)
            case "POST", ["permissions"] if room:
                return self._permissions(room, await self._signer(request), await request.read())
            case "POST", ["restart"] if room:
                return await self._restart(room, await self._signer(request))
            case "DELETE", [] if room:
                return await self._delete(room, await self._signer(request))
        raise Refused(404, answers.NO_ENDPOINT)

    async def _signer(self, request: web.BaseRequest) -> str:
        """The public key (hex) that signed the request (NIP-98)."""
        try:
            return check_http_auth(
                request.headers.get("Authorization"),
                method=request.method,
                path=request.path,
                body=await request.read(),
                now_s=self._clock.wall_s(self._skew_s(request)),
                require_payload=self.scenario.api.require_payload,
            )
        except NotAuthorized as reason:
            raise Refused(401, answers.UNAUTHORIZED, ("X-Lab-Reason", str(reason)[:200])) from None
        except web.HTTPRequestEntityTooLarge:
            raise Refused(413, "Body too large") from None

    # the routes

    def _health(self) -> Answer:
        wall = datetime.fromtimestamp(self._clock.wall_s(self.scenario.api.date_skew_s), UTC)
        now = wall.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Answer(200, {"status": "ok", "timestamp": now, "version": VERSION})

    async def _create(self, pubkey: str, body: bytes) -> Answer:
        asked = nostr.json_object(body) or {}
        nest = self._new_nest(pubkey, asked.get("relays"))
        if nest.plan.livekit_s == 0.0 and not await self._opened(nest):
            raise Refused(500, "Failed to create nest")
        self.nests[nest.room] = nest
        self.begun.set()
        if nest.plan.livekit_s:
            self._background.start(self._open_room_after(nest, nest.plan.livekit_s))
        nest.course.start()
        nest.open_record()
        self.log.info(f"Created nest {nest.room} for host {pubkey}")
        return self._created(nest, asked.get("hls_stream"))

    def _new_nest(self, pubkey: str, relays: object) -> Nest:
        room = str(uuid.uuid4())
        try:
            address = nostr.Address(nostr.ROOM_KIND, pubkey, room, answers.read_relays(relays))
            link = nostr.write_naddr(address)
        except AddressError:
            raise Refused(400, "relays must be a list of 1 to 10 ws or wss URLs") from None
        plan = self._planner.nth(self._made)
        note = partial(
            self._world.truth.note, scenario=self.scenario.name, address=f"{nostr.ROOM_KIND}:{pubkey}:{room}"
        )
        nest = Nest(
            room=room,
            host=pubkey,
            link=link,
            plan=plan,
            created_at=self._clock.now_at(),
            clock=self._clock,
            note=note,
            course=Course(plan.faults, self._clock, note, partial(self._act, room)),
            join_fault=self.fault.join == "404",
            mute=any(fault.cause == "media_blocked" for fault in plan.faults),
            speakers={pubkey},
            admins={pubkey},
        )
        self._made += 1
        return nest

    def _created(self, nest: Nest, hls: object = None) -> Answer:
        endpoints = [f"wss+livekit://{urlsplit(self.livekit_url).netloc}"]
        if isinstance(hls, str):
            endpoints.append(hls)
        token = self._keys_of(nest).joining(nest.room, nest.host, host=True, speaker=True)
        return Answer(200, {"roomId": nest.room, "endpoints": endpoints, **self._granted(nest, token)})

    def _granted(self, nest: Nest, token: str) -> dict[str, object]:
        return {"token": {}} if self.fault.token == "object" else faulty.granted(nest.course, token)

    def _keys_of(self, nest: Nest) -> LivekitKeys:
        return self._elsewhere if faulty.signed_elsewhere(nest.course) else self._world.keys

    def _rooms_of(self, nest: Nest) -> LivekitRooms:
        return self._world.mute_rooms if nest.mute and self._world.mute_rooms is not None else self._world.rooms

    # the faults of a nest that are more than an answer

    def _act(self, room: str, fault: Fault, begins: bool) -> None:
        nest = self.nests[room]
        match fault.cause, begins:
            case "restart_window", True:
                self._background.start(self._end_room(nest, for_good=False))
            case "restart_window", False:
                self._background.start(self._open_room_after(nest, 0.0))
            case ("room_expired" | "ended_by_departure", True):
                self._background.start(self._end_room(nest))
            case "age_rule_misled", True if fault.kind == "edited":
                self._background.start(self._end_room(nest))
        if fault.theory.wide:
            self.doors(fault, begins)

    async def _end_room(self, nest: Nest, *, for_good: bool = True) -> None:
        with contextlib.suppress(*FAILED):
            await self._close_room(nest, for_good=for_good)

    async def _open_room_after(self, nest: Nest, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        if not nest.deleted:
            await self._opened(nest)

    async def _opened(self, nest: Nest) -> bool:
        try:
            await self._open_room(nest)
        except FAILED as error:
            _log.warning("LiveKit did not make the room: %s", error)
            return False
        return True

    async def _open_room(self, nest: Nest) -> None:
        where = self.scenario.livekit
        not_yet_at = self._clock.now_at()
        nest.opening = True
        try:
            sid = await self._rooms_of(nest).create(
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
            await self._end_room(nest)

    async def _close_room(self, nest: Nest, *, for_good: bool = True) -> None:
        not_yet_at = self._clock.now_at()
        nest.closing = True
        try:
            await self._rooms_of(nest).delete(nest.room)
        finally:
            nest.closing = False
        nest.room_closed(Bracket(not_yet_at, self._clock.now_at()), for_good=for_good)

    def _replica(self, replicas: int) -> int:
        self._turn += 1
        return self._turn % replicas

    def _visible(self, room: str, route: str) -> Nest:
        """The nest, if this route of the replica in turn shows it."""
        nest = self.nests.get(room)
        if nest is None:
            raise Refused(404, answers.NO_RECORD)
        replica = self._replica(len(nest.plan.routes[route]))
        if self.fault.server_error_s and self._clock.now_at() - nest.created_at < self.fault.server_error_s * SECOND_NS:
            raise Refused(500, "Internal server error")
        if not nest.shows(route, replica) or (route != "info" and (nest.join_fault or self.fault.join == "404")):
            raise Refused(404, answers.NO_RECORD)
        if route == "guest":
            self.log.listed(room, there=bool(nest.room_sid))
        if route != "info" and not nest.room_sid:
            raise Refused(404, answers.NO_ROOM[route])
        return nest

    def _join(self, room: str, pubkey: str) -> Answer:
        nest = self._visible(room, "join")
        rights = {"host": pubkey == nest.host, "speaker": pubkey in nest.speakers}
        self.log.info(
            f"User {pubkey} joined nest {room} as {next((role for role in rights if rights[role]), 'listener')}"
        )
        keys, room = self._keys_of(nest), self._let_into(nest)
        if nest.course.has("duplicate_identity") and pubkey != nest.host:
            token = keys.joining(room, pubkey, **rights)
            self._background.start(come_in(f"http://127.0.0.1:{self._world.livekit_port}", token))
        return Answer(200, self._granted(nest, keys.joining(room, pubkey, **rights)))

    def _guest(self, room: str) -> Answer:
        nest = self._visible(room, "guest")
        self.log.info(f"Guest guest-{uuid.uuid4()} joined nest {room}")
        return Answer(200, self._granted(nest, self._keys_of(nest).guest(self._let_into(nest))))

    def _let_into(self, nest: Nest) -> str:
        """The room that a joiner's token is for."""
        return str(uuid.uuid4()) if nest.course.has("wrong_room_token") else nest.room

    def _info(self, room: str) -> Answer:
        nest = self._visible(room, "info")
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

    def _owned(self, room: str, pubkey: str, allowed: str) -> Nest:
        """The nest on the primary, whatever the replicas show, if this key may change it."""
        nest = self.nests.get(room)
        if nest is None or nest.deleted:
            raise Refused(404, answers.NO_RECORD)
        if pubkey != nest.host and (allowed == "host" or pubkey not in nest.admins):
            raise Refused(403, f"Only the {allowed} can do this")
        return nest

    def _permissions(self, room: str, pubkey: str, body: bytes) -> Answer:
        asked = nostr.json_object(body) or {}
        participant = asked.get("participant")
        if not answers.is_pubkey(participant):
            raise Refused(400, "participant must be 64 hex digits")
        nest = self._owned(room, pubkey, "admin")
        changed = answers.put_in_or_out(nest.speakers, participant, asked.get("can_publish"))
        changed |= answers.put_in_or_out(nest.admins, participant, asked.get("is_admin"))
        return Answer(201 if changed else 204)

    async def _restart(self, room: str, pubkey: str) -> Answer:
        """As released: creates the room that is already there. With `restart_deletes`, as it was meant."""
        self.log.info(f"Restart request for nest {room} from {pubkey}")
        nest = self._owned(room, pubkey, "host")
        try:
            if self.scenario.api.restart_deletes:
                await self._close_room(nest, for_good=False)
                self.log.info(f"Deleted existing room {room} for restart")
                await asyncio.sleep(RESTART_PAUSE_S)
            await self._open_room(nest)
        except FAILED:
            raise Refused(500, "Failed to restart nest") from None
        self.log.info(f"Successfully restarted nest {room} for host {pubkey}")
        return self._created(nest)

    async def _delete(self, room: str, pubkey: str) -> Answer:
        self.log.info(f"Delete request for nest {room} from {pubkey}")
        nest = self._owned(room, pubkey, "host")
        there = bool(nest.room_sid)
        nest.delete(self._clock.now_at())
        try:
            await self._close_room(nest)
        except FAILED:
            raise Refused(500, "Failed to delete nest") from None
        self.log.info(f"{'Deleted' if there else 'Failed to delete'} LiveKit room {room}")
        self.log.info(f"Successfully deleted nest {room} by host {pubkey}")
        return Answer(204)
