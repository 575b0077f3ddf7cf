"""One nest as the API knows it: its record, when each route shows it, its LiveKit room, and the truth about all that.

A route shows the record once its switch has flipped (one switch for each replica). A join or guest route answers only
while its record is shown *and* the LiveKit room exists, so its truth is the later of the two. With several replicas a
route's bracket runs from before the first flip to after the last: in between answers flap. A route that one replica
never shows counts as never shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from nestobs.lab.clock import LabClock
from nestobs.lab.delays import Delay
from nestobs.lab.faults.course import Course
from nestobs.lab.plan import ROUTES, Plan
from nestobs.lab.truth import LIVEKIT_LAYERS, Bracket, Change, both

Note = Callable[[str, Change, Bracket | None, Delay], None]
"""Writes one truth row of this nest: layer, change, bracket, planned delay."""


@dataclass
class Nest:
    """A created nest. `link` is its naddr; `room_sid` is LiveKit's id of the room while it exists, else empty.

    `opening`: LiveKit has been asked for the room and has not answered. `closing`: the API is ending the room itself,
    so its own stamps count and the webhook's coarser ones do not. `mute`: its room is on the LiveKit without media.
    """

    room: str
    host: str
    link: str
    plan: Plan
    created_at: int
    clock: LabClock
    note: Note
    course: Course
    join_fault: bool = False
    mute: bool = False
    speakers: set[str] = field(default_factory=set)
    admins: set[str] = field(default_factory=set)
    participants: int = 0
    room_sid: str = ""
    opening: bool = False
    closing: bool = False
    deleted: bool = False
    _flips: dict[tuple[str, int], Bracket] = field(default_factory=dict)
    _room: Bracket | None = None
    _announced: set[str] = field(default_factory=set)
    _settled: set[str] = field(default_factory=set)
    _timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def open_record(self) -> None:
        """Start the switches of all routes; those without delay flip now."""
        loop = asyncio.get_running_loop()
        for route in ROUTES:
            for replica, delay_s in enumerate(self.plan.routes[route]):
                if delay_s == 0.0:
                    self._flip(route, replica)
                elif delay_s is not None:
                    self._timers.append(loop.call_later(delay_s, self._flip, route, replica))
            if self._planned(route) is None:
                self._never(f"api:{route}", None)
        if self.plan.livekit_s is None:
            for layer in LIVEKIT_LAYERS:
                self._never(layer, None)

    def shows(self, route: str, replica: int) -> bool:
        """Whether this replica shows the record on this route."""
        return (route, replica) in self._flips and not self.deleted

    def room_opened(self, sid: str, bracket: Bracket) -> None:
        """The LiveKit room came to be within this bracket."""
        self.room_sid, self._room = sid, bracket
        for layer in LIVEKIT_LAYERS:
            self._announce(layer, bracket, self.plan.livekit_s)
        for route in ("join", "guest"):
            self._try_announce(route)

    def room_closed(self, bracket: Bracket, *, for_good: bool = True) -> None:
        """The LiveKit room went within this bracket; without it no join succeeds. Nothing when it is gone already.

        A join that was still waiting for its record then never comes, unless the room will be made again.
        """
        if not self.room_sid:
            return
        self.room_sid, self._room, self.participants = "", None, 0
        for layer in (*LIVEKIT_LAYERS, "api:join", "api:guest"):
            self._withdraw(layer, bracket)
        if for_good and not self.deleted:
            self._give_up(("join", "guest"))

    def delete(self, not_yet_at: int) -> None:
        """The record goes now, from all routes and replicas. `not_yet_at`: the deletion was not begun before."""
        self.cancel()
        self.deleted = True
        bracket = Bracket(not_yet_at, self.clock.now_at())
        self._give_up(ROUTES)
        for route in ROUTES:
            self._withdraw(f"api:{route}", bracket)
        if not self.room_sid and not self.opening and "livekit:room" not in self._settled:
            for layer in LIVEKIT_LAYERS:
                self._never(layer, self.plan.livekit_s)

    def cancel(self) -> None:
        """Stop the switches that have not flipped, and the faults."""
        self.course.cancel()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _flip(self, route: str, replica: int) -> None:
        not_yet_at = self.clock.now_at()
        self._flips[route, replica] = Bracket(not_yet_at, self.clock.now_at())  # no request is served in between
        self._try_announce(route)

    def _try_announce(self, route: str) -> None:
        """Write the truth of a route once it holds everywhere."""
        flips = [bracket for (name, _), bracket in self._flips.items() if name == route]
        if len(flips) < len(self.plan.routes[route]):
            return
        shown = Bracket(min(flip.not_yet_at for flip in flips), max(flip.now_at for flip in flips))
        if route != "info":
            if self._room is None or self.join_fault:
                return
            shown = both(shown, self._room)
        self._announce(f"api:{route}", shown, self._planned(route))

    def _planned(self, route: str) -> Delay:
        """The drawn delay of a route: of its first replica, and no less than the LiveKit room's for joins."""
        known = [delay_s for delay_s in self.plan.routes[route] if delay_s is not None]
        if len(known) < len(self.plan.routes[route]):
            return None
        if route == "info":
            return min(known)
        if self.join_fault or self.plan.livekit_s is None:
            return None
        return max(min(known), self.plan.livekit_s)

    def _give_up(self, routes: Iterable[str]) -> None:
        """Routes that have neither shown the nest nor been written off never will."""
        for layer in (f"api:{route}" for route in routes):
            if layer not in self._settled:
                self._never(layer, self._planned(layer.removeprefix("api:")))

    def _never(self, layer: str, planned_delay_s: Delay) -> None:
        self._settled.add(layer)
        self.note(layer, "never", None, planned_delay_s)

    def _announce(self, layer: str, bracket: Bracket, planned_delay_s: Delay) -> None:
        if layer not in self._announced:
            self._announced.add(layer)
            self._settled.add(layer)
            self.note(layer, "shown", bracket, planned_delay_s)

    def _withdraw(self, layer: str, bracket: Bracket) -> None:
        if layer in self._announced:
            self._announced.discard(layer)
            self.note(layer, "gone", bracket, None)
