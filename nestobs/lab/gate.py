"""The gate: a websocket server in front of one real relay, for one scenario; observers only ever talk to gates.

It forwards frames both ways. Events go to the relay over the gate's own connection, so that a held event is stored
even when its sender has left. The first 30312 of an address is held: the sender gets OK true at once, the relay gets
the event after the planned delay; deletions and later versions of that address queue behind it. Without a delay it is
stored first and acknowledged then, as usual. The forward is the switch of ground truth: not_yet_at is stamped
immediately before sending to the relay, now_at immediately after its OK.

Pings are answered by the gate itself, not by the relay behind it; the gate sends none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from nestobs import nostr
from nestobs.lab.background import Background
from nestobs.lab.delays import Delay
from nestobs.lab.faults.draw import Fault
from nestobs.lab.faults.shape import hit
from nestobs.lab.listening import HOST, bound
from nestobs.lab.plan import Plan
from nestobs.lab.scenario import GateFault
from nestobs.lab.truth import Bracket, Change
from nestobs.lab.world import World

MAX_FRAME = 4 << 20
_WIRE: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": None, "close_timeout": 0.5}
"""How websockets are opened here: nothing is done behind the scenario's back."""

QUERIES_A_LINE = 400

SLOW_S = 2.5
"""How long a question about a nest waits that a relay answers late: longer than the web client's 1.5 s."""

BACKLOG = 100

Verdict: TypeAlias = tuple[bool, str]
"""A relay's word on an event: accepted or not, and the reason."""

_log = logging.getLogger("nestobs.lab.gate")
_log.addFilter(lambda record: "handshake failed" not in record.getMessage())  # clients may leave at any time


class Gate:
    """One gate. `index` is the relay's place in the plan, from 0; `plan_of` gives the plan of a room id, `suffers` the
    fault of a cause that the nest with a room id has now."""

    def __init__(
        self,
        index: int,
        scenario: str,
        world: World,
        plan_of: Callable[[str], Plan],
        suffers: Callable[[str, str], Fault | None],
    ) -> None:
        self.relay_url = world.relay_urls[index]
        self.name = f"relay-{index + 1}"
        self.port = 0
        self.url = ""
        self._index, self._scenario, self._world, self._plan_of = index, scenario, world, plan_of
        self._suffers = suffers
        self._server: Server | None = None
        self._socket: socket.socket
        self._reopening: asyncio.Task[None] | None = None
        self._clock = world.clock
        self._fault = GateFault.PASS
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._store: _Store
        self._visitors: set[_Visitor] = set()
        self._first: dict[str, asyncio.Task[Verdict]] = {}
        self._newest: dict[str, str] = {}
        self.background = Background()

    @property
    def fault(self) -> GateFault:
        """The present fault; assign to change it, also for open connections."""
        return self._fault

    @fault.setter
    def fault(self, fault: GateFault) -> None:
        before, self._fault = self._fault, fault
        if GateFault.GONE in (before, fault) and before is not fault:
            self._close() if fault is GateFault.GONE else self._reopen()
        stalled = fault is GateFault.STALL
        (self._flowing.clear if stalled else self._flowing.set)()
        for visitor in self._visitors:
            visitor.stall(stalled)

    async def start(self, stack: AsyncExitStack) -> None:
        """Connect to the relay and listen on a free loopback port. At the end held events are dropped."""
        self._store = _Store(await connect(self.relay_url, **_WIRE))
        stack.push_async_callback(self._store.close)
        self._socket = bound(0)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"ws://{HOST}:{self.port}/"
        await self._listen()
        stack.push_async_callback(self._end)
        stack.callback(self._let_go)
        stack.push_async_callback(self.background.close)

    async def _listen(self) -> None:
        options: dict[str, Any] = _WIRE | {"max_size": MAX_FRAME, "logger": _log, "server_header": None}
        self._server = await serve(self._visit, sock=self._socket, backlog=BACKLOG, **options)

    def _close(self) -> None:
        """Refuse who comes, and leave whoever is there."""
        for visitor in list(self._visitors):
            visitor.cut()
        server, self._server = self._server, None
        if server is not None:
            server.server.close()  # at once; `close` does the rest in its own time
            server.close()
            self._socket = bound(self.port)  # bound and not listening: the port stays ours and refuses

    def _reopen(self) -> None:
        self._reopening = asyncio.get_running_loop().create_task(self._listen())

    async def _end(self) -> None:
        if self._reopening is not None:
            await self._reopening
        if self._server is None:
            self._socket.close()
        else:
            self._server.close()
            await self._server.wait_closed()

    def _let_go(self) -> None:
        """A stalled visitor would wait for ever: it is cut."""
        if self._fault is GateFault.STALL:
            for visitor in list(self._visitors):
                visitor.cut()
            self.fault = GateFault.PASS

    async def _visit(self, client: ServerConnection) -> None:
        visitor = _Visitor(self, client)  # first of all: it may have to stop reading
        self._visitors.add(visitor)
        try:
            await visitor.serve()
        except (OSError, ConnectionClosed, TimeoutError):
            return
        finally:
            self._visitors.discard(visitor)

    # what visitors call

    async def flowing(self) -> None:
        """Wait while the gate is stalled."""
        if not self._flowing.is_set():
            await self._flowing.wait()

    def stamp(self, what: str, subscription: str) -> None:
        """Write when a REQ came in or an EOSE went out."""
        self._world.stamp(
            scenario=self._scenario, relay=self.name, what=what, subscription=subscription, at=self._clock.now_at()
        )

    async def take(self, value: dict[str, Any]) -> Verdict:
        """What the sender of an event is told: accepted or not, and the reason. Stores it now or later."""
        try:
            event = nostr.read_event(value)
        except nostr.MalformedEvent as error:
            return False, f"invalid: {error}"
        address = _address(event)
        if self._fault is GateFault.REFUSE or (address and self._rejects(event.tag("d") or "")):
            return False, "blocked: the lab refuses events here"
        if self._fault is GateFault.DROP:
            if address and address not in self._first:
                self._note(address, "never", None, None)
            return True, ""
        if address:
            self._newest[address] = event.id
            if address not in self._first:
                return await self._hold(address, event)
        held = [self._first[target] for target in self._targets(event)]
        if any(not task.done() for task in held):
            self.background.start(self._behind(held, event))
            return True, ""
        return await self._pass(event)

    def _rejects(self, room: str) -> bool:
        fault = self._suffers(room, "relay_rejected")
        return fault is not None and hit(fault.kind, self._index, len(self._world.relay_urls))

    def slow_s(self, asked: list[Any]) -> float:
        """How long a question with these filters waits, seconds."""
        rooms = [
            room for each in asked if isinstance(each, dict) and isinstance(each.get("#d"), list) for room in each["#d"]
        ]
        late = any(isinstance(room, str) and self._suffers(room, "client_cutoff") for room in rooms)
        return SLOW_S if late else 0.0

    async def _hold(self, address: str, event: nostr.Event) -> Verdict:
        delay_s = self._plan_of(event.tag("d") or "").relays[self._index]
        waits = delay_s == 0.0 or (self._fault is GateFault.LATE_OK and delay_s is not None)
        self._first[address] = task = self.background.start(self._release(address, event, delay_s, promised=not waits))
        return await asyncio.shield(task) if waits else (True, "")

    async def _release(self, address: str, event: nostr.Event, delay_s: Delay, *, promised: bool) -> Verdict:
        """Store the first event of an address after its delay. `promised`: its sender has been told OK true."""
        if delay_s is None:
            self._note(address, "never", None, None)
            return True, ""
        await asyncio.sleep(delay_s)
        not_yet_at = self._clock.now_at()
        accepted, reason = await self._store.put(event)
        if accepted:
            self._note(address, "shown", Bracket(not_yet_at, self._clock.now_at()), delay_s)
        else:
            del self._first[address]
            if promised:
                self._note(address, "never", None, delay_s)
        return accepted, reason

    async def _behind(self, held: list[asyncio.Task[Verdict]], event: nostr.Event) -> None:
        await asyncio.wait(held)
        await self._pass(event)

    async def _pass(self, event: nostr.Event) -> Verdict:
        not_yet_at = self._clock.now_at()
        accepted, reason = await self._store.put(event)
        if accepted and event.kind == nostr.DELETION_KIND:
            for address in self._targets(event):
                if address.split(":", 2)[1] == event.pubkey:
                    self._note(address, "gone", Bracket(not_yet_at, self._clock.now_at()), None)
        return accepted, reason

    def _targets(self, event: nostr.Event) -> set[str]:
        """The addresses known here that an event replaces, or deletes by address or by the id of the newest."""
        if event.kind != nostr.DELETION_KIND:
            return {_address(event)} & self._first.keys()
        named = {row[:2] for row in event.tags}
        return {address for address in self._first if ("a", address) in named or ("e", self._newest[address]) in named}

    def _note(self, address: str, change: Change, bracket: Bracket | None, planned_delay_s: Delay) -> None:
        layer = f"relay:{self.name}"
        self._world.truth.note(layer, change, bracket, planned_delay_s, scenario=self._scenario, address=address)


def _address(event: nostr.Event) -> str:
    """30312:pubkey:d of a room event, empty for any other."""
    return str(nostr.Address(event.kind, event.pubkey, event.tag("d") or "")) if event.kind == nostr.ROOM_KIND else ""


@dataclass(eq=False)
class _Line:
    """One of a visitor's connections to the relay."""

    relay: ClientConnection
    down: asyncio.Task[None]
    subscriptions: set[str] = field(default_factory=set)
    asked: int = 0


class _Visitor:
    """One client connection and its own connections to the relay for what it reads.

    LocalRelay grants each connection a budget of queries that its builder cannot lift; a gate is not meant to have
    one, so after `QUERIES_A_LINE` questions further ones go over a fresh connection, and an old one is closed when its
    last subscription is.
    """

    def __init__(self, gate: Gate, client: ServerConnection) -> None:
        self._gate, self._client = gate, client
        self._lines: list[_Line] = []
        self._line_of: dict[str, _Line] = {}
        self._challenge = ""
        self._known = False
        self._waiting: set[str] = set()
        if gate.fault is GateFault.STALL:
            self.stall(True)

    def stall(self, stalled: bool) -> None:
        transport = self._client.transport
        if not transport.is_closing():
            (transport.pause_reading if stalled else transport.resume_reading)()

    def cut(self) -> None:
        self._client.transport.abort()

    async def serve(self) -> None:
        try:
            await self._new_line()
            await self._gate.flowing()
            if self._gate.fault is GateFault.AUTH:
                await self._ask_who()
            await self._up()
        finally:
            for line in list(self._lines):
                await self._end_line(line)

    async def _new_line(self) -> _Line:
        relay = await connect(self._gate.relay_url, **_WIRE)
        line = _Line(relay, asyncio.create_task(self._down(relay)))
        self._lines.append(line)
        return line

    async def _end_line(self, line: _Line) -> None:
        self._lines.remove(line)
        line.down.cancel()
        await asyncio.gather(line.down, return_exceptions=True)
        await line.relay.close()

    async def _down(self, relay: ClientConnection) -> None:
        """Relay to client."""
        with contextlib.suppress(ConnectionClosed):
            async for text in relay:
                assert isinstance(text, str)
                await self._gate.flowing()
                if text.startswith('["EOSE"'):
                    if self._gate.fault is GateFault.NEVER_EOSE:
                        continue
                    self._gate.stamp("eose", json.loads(text)[1])
                await self._client.send(text)
        await self._client.close()

    async def _up(self) -> None:
        """Client to relay."""
        async for text in self._client:
            await self._gate.flowing()
            if self._gate.fault is GateFault.CUT:
                self.cut()
                return
            await self._frame(text)

    async def _frame(self, text: str | bytes) -> None:
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = None
        match row:
            case ["EVENT", {"id": str(event_id)} as event]:
                await self._event(event_id, event)
            case ["REQ", str(subscription), *asked]:
                if slow_s := self._gate.slow_s(asked):
                    self._waiting.add(subscription)
                    self._gate.background.start(self._req_after(slow_s, subscription, text))
                else:
                    await self._req(subscription, text)
            case ["AUTH", dict(event)]:
                await self._auth(event)
            case ["CLOSE", str(subscription), *_]:
                await self._close(subscription, text)
            case _:
                await self._lines[-1].relay.send(text)

    async def _event(self, event_id: str, event: dict[str, Any]) -> None:
        if await self._must_auth():
            await self._say("OK", event_id, False, "auth-required: the lab wants to know who writes")
        elif self._gate.fault is GateFault.LATE_OK:
            self._gate.background.start(self._answer(event_id, event))
        else:
            await self._answer(event_id, event)

    async def _answer(self, event_id: str, event: dict[str, Any]) -> None:
        verdict = await self._gate.take(event)
        with contextlib.suppress(ConnectionClosed):
            await self._say("OK", event_id, *verdict)

    async def _req_after(self, wait_s: float, subscription: str, text: str | bytes) -> None:
        """Ask late, unless it is no longer wanted."""
        await asyncio.sleep(wait_s)
        if subscription in self._waiting:
            self._waiting.discard(subscription)
            with contextlib.suppress(ConnectionClosed):
                await self._req(subscription, text)

    async def _req(self, subscription: str, text: str | bytes) -> None:
        self._gate.stamp("req", subscription)
        if await self._must_auth():
            await self._say("CLOSED", subscription, "auth-required: the lab wants to know who reads")
        elif self._gate.fault is GateFault.CLOSED:
            await self._say("CLOSED", subscription, "error: the lab closes subscriptions here")
        else:
            line = self._lines[-1]
            if line.asked >= QUERIES_A_LINE and subscription not in self._line_of:
                line = await self._new_line()
                for idle in [old for old in self._lines[:-1] if not old.subscriptions]:
                    await self._end_line(idle)
            line = self._line_of.setdefault(subscription, line)
            line.subscriptions.add(subscription)
            line.asked += 1
            await line.relay.send(text)

    async def _close(self, subscription: str, text: str | bytes) -> None:
        self._waiting.discard(subscription)
        line = self._line_of.pop(subscription, self._lines[-1])
        line.subscriptions.discard(subscription)
        await line.relay.send(text)
        if line is not self._lines[-1] and not line.subscriptions:
            await self._end_line(line)

    async def _must_auth(self) -> bool:
        if self._gate.fault is not GateFault.AUTH or self._known:
            return False
        await self._ask_who()
        return True

    async def _ask_who(self) -> None:
        if not self._challenge:
            self._challenge = secrets.token_hex(16)
            await self._say("AUTH", self._challenge)

    async def _auth(self, value: dict[str, Any]) -> None:
        """NIP-42. The relay tag must be there; its URL is not compared, as a vantage may come through a proxy."""
        try:
            event = nostr.read_event(value)
        except nostr.MalformedEvent as error:
            await self._say("OK", str(value.get("id", "")), False, f"invalid: {error}")
            return
        fits = (
            event.kind == nostr.RELAY_AUTH_KIND
            and self._challenge != ""
            and event.tag("challenge") == self._challenge
            and bool(event.tag("relay"))
        )
        self._known = self._known or fits
        await self._say("OK", event.id, fits, "" if fits else "restricted: not an answer to the challenge")

    async def _say(self, *frame: object) -> None:
        await self._gate.flowing()
        await self._client.send(json.dumps(frame))


class _Store:
    """The gate's own connection to the relay, for writing: EVENT out, OK in."""

    def __init__(self, relay: ClientConnection) -> None:
        self._relay = relay
        self._asked: dict[str, list[asyncio.Future[Verdict]]] = {}
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def put(self, event: nostr.Event) -> Verdict:
        """Send an event and wait for the relay's OK: what it said. (False, reason) when the relay is gone."""
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(event.id, []).append(answer)
        try:
            await self._relay.send(nostr.publish(event))
        except ConnectionClosed:
            return False, "error: the relay is gone"
        return await answer

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self._relay:
                match nostr.read_frame(text):
                    case nostr.Ok(event_id, accepted, reason):
                        self._answer(event_id, (accepted, reason))
        for event_id in list(self._asked):
            self._answer(event_id, (False, "error: the relay is gone"))

    def _answer(self, event_id: str, verdict: Verdict) -> None:
        for future in self._asked.pop(event_id, []):
            if not future.done():
                future.set_result(verdict)

    async def close(self) -> None:
        await self._relay.close()
        await self._reading
