"""The nests of `causes_lab`: what each suffers, its host, who does what faults say that hosts do, and the network of
those who observe it, which can fail."""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from nestobs.collector.station import Station, Target
from nestobs.lab import FaultProxy, ProxyMode
from nestobs.lab.faults.draw import Fault
from nestobs.nostr import DELETION_KIND, ROOM_KIND, Address, Event, Keys, http_auth, room_filter
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest, read_nest, room_tags
from nestobs.observation.schema import Outcome, Role
from nestobs.sources.relay.pushes import Seen
from nestobs.sources.vantage import Trace

HORIZON_S = 14.0
EARLY_S, LATE_S = 0.3, 2.5
"""People come so long after a fault began."""


@dataclass(slots=True)
class Case:
    """One nest: where, its faults as they are drawn, and what the host has then really done."""

    name: str
    faults: tuple[Fault, ...]
    dice: random.Random
    room: str = ""
    event_room: str = ""
    acted: set[str] = field(default_factory=set)

    def fault(self, cause: str) -> Fault | None:
        return next((each for each in self.faults if each.cause == cause), None)

    def arrivals(self, count: int) -> list[float]:
        """Ages at which people come: each while some fault of the nest is there."""
        found = []
        for number in range(count):
            fault = self.faults[number % len(self.faults)] if self.faults else None
            latest = LATE_S if fault is None or fault.for_s is None else min(LATE_S, max(0.5, 0.6 * fault.for_s))
            begun_s = 0.0 if fault is None else min(fault.from_s, HORIZON_S - 4)
            found.append(begun_s + self.dice.uniform(EARLY_S, max(EARLY_S, latest)))
        return found


class OwnNetwork:
    """Everything that a target names, reached through proxies of our own, which all fail at once: our own network."""

    def __init__(self) -> None:
        self.proxies: list[FaultProxy] = []

    async def through(self, target: Target) -> Target:
        """The target as it is reached by it, with a control that is neither API nor relay."""
        api, livekit = await self._proxied(target.api), await self._proxied(target.livekit)
        relays = tuple([await self._proxied(url) for url in target.relays])
        control = f"127.0.0.1:{urlsplit(await self._proxied(target.api)).port}"
        vantage = f"{target.vantage} of {target.name}"  # what befalls it is about no other nest
        return replace(target, vantage=vantage, api=api, livekit=livekit, relays=relays, control=control)

    async def _proxied(self, url: str) -> str:
        parts = urlsplit(url)
        proxy = FaultProxy(str(parts.hostname), int(parts.port or 80))
        self.proxies.append(proxy)
        return parts._replace(netloc=f"127.0.0.1:{await proxy.start()}").geturl()

    def fail(self) -> None:
        """From now on nothing is reached."""
        for proxy in self.proxies:
            proxy.mode = ProxyMode.RESET
            proxy.mode = ProxyMode.REFUSE

    async def close(self) -> None:
        """Stop listening."""
        await asyncio.gather(*(proxy.close() for proxy in self.proxies))


class Host:
    """Makes one nest, sits in it, and does what its faults say that hosts do, and what befalls the observer."""

    def __init__(self, station: Station, case: Case, keys: Keys, network: OwnNetwork) -> None:
        self.station, self.case, self.keys, self.network = station, case, keys, network
        self.session: Any = None
        self.newest: Event
        self.trace = Trace(trace_id=station.vantage.new_id())

    async def make(self) -> tuple[Trace, int] | None:
        """Make and announce it: what observers follow, and when it was asked for; None where none was made."""
        station, case = self.station, self.case
        relays = tuple(relay.url for relay in station.relays)
        answer = await station.api.create(self.trace, self.keys, relays, role=Role.HOST)
        body = answer.body or {}
        if not body.get("roomId"):
            return None
        case.room = case.event_room = str(body["roomId"])
        if case.fault("room_id_mismatch"):
            case.event_room = case.room[::-1]
            case.acted.add("room_id_mismatch")
        address = str(Address(ROOM_KIND, self.keys.public, case.event_room))
        self.made = replace(self.trace, room=case.room)
        self.trace = replace(self.trace, room=case.event_room, nest=address)
        self.newest = self._event(body)
        self._subscribe()
        self.publishing = asyncio.gather(*(relay.publish(self.trace, self.newest) for relay in station.relays))
        self.token = body.get("token")
        return self.trace, answer.row.sent_at

    def _event(self, body: dict[str, Any], **changed: str) -> Event:
        now_s, relays = self.station.clock.now() // SECOND_NS, tuple(relay.url for relay in self.station.relays)
        tags = room_tags(
            room=self.case.event_room,
            name="causes",
            host=self.keys.public,
            service=self.station.target.api,
            streaming=next((each for each in body.get("endpoints", []) if "livekit" in each), ""),
            relays=relays,
        )
        created_at = now_s
        if (fault := self.case.fault("not_begun")) is not None:
            changed = {"status": "planned"} if fault.kind == "planned" else {}
            tags = [*tags, ("starts", str(now_s + 3600))]
            self.case.acted.add("not_begun")
        if (fault := self.case.fault("age_rule_misled")) is not None and fault.kind == "old_clock":
            created_at -= 3600
            self.case.acted.add("age_rule_misled")
        return self._signed(tags, created_at, **changed)

    def _signed(self, tags: Any, created_at: int, **changed: str) -> Event:
        new = [(row[0], changed[row[0]]) if row[0] in changed else row for row in tags]
        return self.keys.sign(ROOM_KIND, created_at=created_at, tags=new)

    def _subscribe(self) -> None:
        self.seen: Nest | None = None
        self.holders: set[str] = set()
        for number, relay in enumerate(self.station.relays):

            def seen(found: Seen, relay: Any = relay, selected: bool = number == 0) -> None:
                self.holders.add(relay.url)
                if selected:
                    nest = read_nest(found.event)
                    self.seen = nest if self.seen is None else self.seen.renewed(nest)

            relay.subscribe(
                room_filter(authors=[self.keys.public], since=None),
                lambda event: self.trace if event.tag("d") == self.case.event_room else None,
                seen,
            )

    async def stay(self, origin: int) -> None:
        """Sit in the room as hosts do, and leave it where that is what ends it."""
        livekit, clock, ends_s = self.station.livekit, self.station.clock, HORIZON_S
        away = self.case.fault("room_expired") or self.case.fault("room_id_mismatch")
        if away or livekit is None or not isinstance(self.token, str) or not self.token:
            return
        if (fault := self.case.fault("ended_by_departure")) is not None:
            ends_s = max(0.5, fault.from_s - 2.0)
        try:
            for age_s in (0.2, 1.0, 3.0, 6.0, 8.0, 10.0):
                await clock.until(origin + round(age_s * SECOND_NS))
                if age_s < ends_s and (self.session is None or self.session.dropped.is_set()):
                    _, self.session = await livekit.signal(self.made, self.token, role=Role.HOST)
            await clock.until(origin + round(ends_s * SECOND_NS))
        finally:
            if self.session is not None:
                await asyncio.shield(self.session.close())

    async def act(self, origin: int) -> None:
        """What is drawn for hosts, at its time."""
        for fault in self.case.faults:
            await self.station.clock.until(origin + round(min(fault.from_s, HORIZON_S) * SECOND_NS))
            await self._act(fault)

    async def _act(self, fault: Fault) -> None:
        now_s = max(self.station.clock.now() // SECOND_NS, self.newest.created_at + 1)
        match fault.cause:
            case "closed_by_host":
                done = await self._edit(now_s, status=fault.kind)
            case "withdrawn":
                tags = [("e", self.newest.id), ("a", self.trace.nest), ("k", str(ROOM_KIND))]
                done = await self._publish(self.keys.sign(DELETION_KIND, created_at=now_s, tags=tags))
            case "deleted":
                done = await self._delete(recorded=self.case.dice.random() < 0.5)
            case "restart_without_effect":
                answer = await self.station.api.restart(self.made, self.keys, role=Role.HOST)
                done = answer.row.outcome is Outcome.ACCEPTED
            case "observer_fault":
                self.network.fail()
                done = True
            case "age_rule_misled" if fault.kind == "edited":
                await asyncio.sleep(0.5)
                done = await self._edit(now_s + 1)
            case _:
                return
        if done:
            self.case.acted.add(fault.cause)

    async def _edit(self, created_at: int, **changed: str) -> bool:
        self.newest = self._signed(self.newest.tags, created_at, **changed)
        return await self._publish(self.newest)

    async def _publish(self, event: Event) -> bool:
        """Whether some relay took it."""
        relays = self.station.relays
        rows = await asyncio.gather(*(relay.publish(self.trace, event, read_back=False) for relay in relays))
        return any(row.outcome is Outcome.ACCEPTED for row in rows)

    async def _delete(self, *, recorded: bool) -> bool:
        """As this vantage's own deed, or elsewhere, of which there is no row; whether it was done."""
        if recorded:
            answer = await self.station.api.delete(self.made, self.keys, role=Role.HOST)
            return answer.row.outcome is Outcome.ACCEPTED
        url = f"{self.station.target.api}/{self.case.room}"
        auth = http_auth(self.keys, url=url, method="DELETE", created_at=int(time.time()), body=None)
        async with httpx.AsyncClient(timeout=5) as http:
            with suppress(httpx.HTTPError):
                return (await http.delete(url, headers={"Authorization": auth})).status_code == 204
        return False
