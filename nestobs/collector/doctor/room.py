"""A throwaway room: made, published, looked at by every way a joiner has, restarted, deleted, and looked for again.

What is done here is done as a canary does it: in the ledger before it is done, undone at the end and when interrupted,
and whatever is left then stays in the ledger for the next start. What it all means is judged apart (judgement.py).

    PUT -> event to every relay, and meanwhile /info, join, guest and LiveKit's list, until each shows it
        -> a visit with each token -> restart -> DELETE -> /info, LiveKit's list and the relays read back

Requests are scarce: MOST_REQUESTS of them at most, whatever happens. Where /info shows the room and LiveKit
has it while joins answer 404, that is either a race about to end or a fault that never does: then time is spent and not
requests, one after a second and one for each join at the last look.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nestobs.collector.canary import INTERRUPTED_S
from nestobs.collector.doctor.steps import TRANSIENT
from nestobs.collector.doctor.tokens import Token, read_token
from nestobs.collector.keyring import Keyring
from nestobs.collector.restart import ANSWER_S as RESTART_ANSWER_S
from nestobs.collector.restart import Restart, restart
from nestobs.collector.station import Station
from nestobs.collector.undo.deeds import Deeds, Made, hear_out, of_run, outcome
from nestobs.collector.undo.removal import Left, delete_room
from nestobs.collector.undo.withdrawal import Found, Withdrawal
from nestobs.nostr import ROOM_KIND, Address, Event, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import room_tags
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Role
from nestobs.sources.api import Answer
from nestobs.sources.livekit import LiveKit
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace
from nestobs.sources.visit import Session
from nestobs.store.reader import Store
from nestobs.store.writer import Writer

MOST_REQUESTS: Final = 20
KEPT_REQUESTS: Final = 2
"""Of these, for DELETE alone."""

AFTER_REQUESTS: Final = 7
"""What restart, the join after it, DELETE and reading back take at most: no look is made at their cost."""

LOOKS_S: Final = (0.2, 1.2, 4.0, 9.0)
"""After the PUT's answer; and once more, as late as the rest allows."""

RESTART_S, UNDO_S = RESTART_ANSWER_S + 1.0, 5.5
"""What a restart takes (the API that does it waits 2 s in it), and what deleting and reading back may take."""

ANSWER_S, DELETE_S = 4.0, 2.0
AFTERMATH_S: Final = (0.0, 0.3, 1.0, 1.5)
"""Pauses between the looks whether a deed has had its effect."""


@dataclass(slots=True)
class Tried:
    """What came of it. rows: by step, each in order; of relays by their URL. tokens: by the step that gave them.
    visits: the signalling with each. skipped: steps that were not taken, and why. holders: the relays that may
    have the event; found: what they show at last.
    ended: why it did not come to its end, "" where it did. left: what is not undone.
    """

    host: str
    trace: Trace = field(default_factory=Trace)
    origin: int = 0
    rows: dict[str, list[Observation]] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    visits: dict[str, Observation] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    restart: Restart | None = None
    lists_rooms: bool = False
    holders: list[str] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    ended: str = ""
    left: list[str] = field(default_factory=list)

    def of(self, step: str) -> list[Observation]:
        """The rows of a step; none where it was not taken."""
        return self.rows.get(step, [])

    def last(self, step: str) -> Observation | None:
        """The last row of a step."""
        return next(reversed(self.of(step)), None)

    def relays(self) -> list[str]:
        """The URLs of the relays that were given the event."""
        return [step for step in self.rows if "://" in step]

    def shows(self, step: str) -> bool:
        """Whether the step showed the room, at last."""
        row = self.last(step)
        return row is not None and row.outcome is Outcome.VISIBLE


@dataclass(slots=True)
class Throwaway:
    """One throwaway room on a station. ends_at: when all of it has to be over, ns UTC."""

    station: Station
    writer: Writer
    store: Store
    keyring: Keyring
    ends_at: int
    keys: Keys = field(init=False)
    deeds: Deeds = field(init=False)
    tried: Tried = field(init=False)
    made: Made = field(init=False)
    livekit: LiveKit | None = None
    given: dict[str, str] = field(default_factory=dict, repr=False)
    undoing: asyncio.Task[None] | None = None

    async def run(self) -> Tried:
        """Take all steps; nothing is left, or it is said what."""
        station, run_id = self.station, self.station.vantage.run_id
        self.keys, key_ref = self.keyring.host(run_id, api=station.api.url, store=str(self.store.directory))
        self.tried = Tried(self.keys.public)
        with self.keyring.held(key_ref):
            for relay in station.relays:
                relay.identify(self.keys)
            self.deeds = Deeds(station, self.writer, key_ref)
            try:
                await self._room()
            finally:
                if self.undoing is not None:  # interrupted when it was at it
                    await asyncio.wait({self.undoing}, timeout=INTERRUPTED_S)
                await asyncio.gather(*self.deeds.entering, return_exceptions=True)
                mine = of_run(self.store, run_id)
                if not mine:
                    self.keyring.forget(key_ref)
            self.tried.left = [entry.note or "a room was asked for, and no answer came" for entry in mine]
        return self.tried

    def _left_s(self) -> float:
        return (self.ends_at - self.station.clock.now()) / SECOND_NS

    def _at(self, before_end_s: float) -> int:
        return self.ends_at - round(before_end_s * SECOND_NS)

    def _note(self, step: str, row: Observation) -> Observation:
        self.tried.rows.setdefault(step, []).append(row)
        return row

    # making it, and undoing it

    async def _room(self) -> None:
        trace = Trace(trace_id=self.station.vantage.new_id())
        entry = await self.deeds.enter("room", trace)
        self.made = Made(entry)
        relays = tuple(relay.url for relay in self.station.relays)[:10]
        asking = self.station.api.create(trace, self.keys, relays, role=Role.HOST, timeout_s=2 * ANSWER_S)
        creating = asyncio.create_task(asking)
        try:
            answer = await asyncio.shield(creating)
        except asyncio.CancelledError:
            if room := await hear_out(creating):
                self._name(trace, room)
                await self._undo()
            raise
        self.tried.origin = self._note("create", answer.row).sent_at
        if not (room := answer.room):
            await self.deeds.not_made(entry, answer.row)
            return
        interrupted = True
        self._name(trace, room)
        try:
            await self.deeds.update(entry, room=room, nest=self.tried.trace.nest)
            await self._steps(answer)
            interrupted = False
        finally:
            self.undoing = asyncio.create_task(self._undo() if interrupted else self._take_down())
            await asyncio.shield(self.undoing)

    def _name(self, trace: Trace, room: str) -> None:
        self.tried.trace = replace(trace, room=room, nest=str(Address(ROOM_KIND, self.keys.public, room)))

    async def _undo(self) -> None:
        """Undo it in haste, as it was interrupted."""
        await self.deeds.undo(self.tried.trace, self.keys, self.made, INTERRUPTED_S)

    # the steps

    async def _steps(self, answer: Answer) -> None:
        self._keep_token("create", answer.token)
        self.livekit = await self.station.livekit_of(answer.streaming)
        self.tried.lists_rooms = self.livekit is not None and self.livekit.lists_rooms
        event = self._event(answer.streaming)
        self.made.entry = await self.deeds.enter("event", self.tried.trace)
        self.made.event, self.made.relays = event, list(self.station.relays)
        answered = answer.row.received_at or answer.row.sent_at
        visits: list[Session] = []
        try:
            async with asyncio.timeout(max(0.0, self._left_s() - UNDO_S)), asyncio.TaskGroup() as group:
                for relay in self.station.relays:
                    group.create_task(self._publish(relay, event, answered))
                await self._look(answered)
                await self._visit(visits)
                await self._restart()
        except TimeoutError:
            self.tried.ended = "the time that this may take was over"
        finally:
            await asyncio.gather(*(session.close() for session in visits))

    def _event(self, streaming: str) -> Event:
        station = self.station
        tags = room_tags(
            room=self.tried.trace.room,
            name="nestobs doctor",
            host=self.keys.public,
            service=station.target.api,
            streaming=streaming,
            relays=tuple(relay.url for relay in station.relays)[:10],
        )
        return self.keys.sign(ROOM_KIND, created_at=station.clock.now() // SECOND_NS, tags=tags)

    def _keep_token(self, step: str, token: object) -> None:
        now_s = self.station.clock.now() / SECOND_NS + self.station.clock.wall_departure_s()
        self.tried.tokens[step] = read_token(token, self.tried.trace.room, now_s)
        if isinstance(token, str) and token:
            self.given[step] = token

    async def _publish(self, relay: Relay, event: Event, answered: int) -> None:
        """Hand the event to one relay, and ask for it until it is shown. What a relay cannot have is struck out."""
        trace = self.tried.trace
        await relay.ready(ANSWER_S)
        row = self._note(relay.url, await relay.publish(trace, event, timeout_s=ANSWER_S))
        if row.outcome is Outcome.REFUSED or row.connection_reused is None:
            self.made.relays.remove(relay)
            if self.made.entry is not None:
                await self.deeds.update(self.made.entry, relays=[each.url for each in self.made.relays])
            return
        address = Address(ROOM_KIND, self.keys.public, trace.room)
        for due in self._dues(answered, ANSWER_S + 0.5):
            await self.station.clock.until(due)
            found, _ = await relay.query(trace, address=address, timeout_s=ANSWER_S)
            if self._note(relay.url, found).outcome in (Outcome.VISIBLE, Outcome.REFUSED):
                return

    def _dues(self, answered: int, after_s: float = RESTART_S) -> list[int]:
        """The instants of the looks. after_s: what comes before the room is taken down takes so long; the last look is
        as late as that allows."""
        latest = self._at(UNDO_S + after_s)
        dues = [answered + round(age_s * SECOND_NS) for age_s in LOOKS_S]
        return [*(due for due in dues if due < latest), max(latest, dues[0])]

    async def _look(self, answered: int) -> None:
        """Ask every way of a joiner until it shows the room, or the looks are over."""
        dues = self._dues(answered)
        for number, due in enumerate(dues):
            await self.station.clock.until(due)
            final = number == len(dues) - 1
            wanted = self._wanted(first=number == 0, final=final)
            await asyncio.gather(self._list(), *(self._ask(step) for step in wanted))
            if "guest" in wanted and "join" not in wanted and self.tried.shows("guest") and not self._settled("join"):
                await self._ask("join")
            if all(self._settled(step) for step in ("info", "join", "guest")) and self._listed() is not False:
                return

    def _settled(self, step: str) -> bool:
        """Whether asking again would tell nothing new."""
        row = self.tried.last(step)
        if row is None or row.outcome is Outcome.ABSENT or row.failure in (*TRANSIENT, Failure.UNEXPECTED):
            return False
        return row.outcome is not Outcome.PROBE_ERROR or row.failure is Failure.BUDGET

    def _listed(self) -> bool | None:
        """Whether LiveKit lists the room; None where it cannot be asked."""
        row = self.tried.last("list")
        return None if row is None or row.outcome not in (Outcome.VISIBLE, Outcome.ABSENT) else self.tried.shows("list")

    def _wanted(self, *, first: bool, final: bool) -> list[str]:
        """What is asked of the API at a look, by what is known: see the module."""
        open_ = [step for step in ("info", "guest", "join") if not self._settled(step)]
        if not first and self.tried.shows("info") and self._listed() is not False:
            asked_again = len(self.tried.of("guest")) + len(self.tried.of("join")) > 2
            open_ = open_ if final else [] if asked_again else open_[:1]
        elif not first and not final and not self.tried.shows("info") and not self.tried.shows("guest"):
            open_ = [step for step in open_ if step != "join"]
        ration = self.station.api.ration
        spare = len(open_) if ration is None else max(0, ration.left - AFTER_REQUESTS)
        return open_[:spare]

    async def _ask(self, step: str) -> None:
        api, trace = self.station.api, self.tried.trace
        how: dict[str, Any] = {"timeout_s": ANSWER_S}
        match step:
            case "info":
                answer = await api.info(trace, **how)
            case "join":
                answer = await api.join(trace, Keys.generate(), role=Role.JOINER, **how)
            case _:
                answer = await api.guest(trace, role=Role.GUEST, **how)
        row = self._note(step, answer.row)
        if step != "info" and (row.outcome is Outcome.VISIBLE or row.failure is Failure.BAD_TOKEN):
            self._keep_token(step, answer.token)

    async def _list(self, operation: Operation = Operation.ROOMS, step: str = "list") -> Observation | None:
        if self.livekit is None or not self.livekit.lists_rooms:
            return None
        return self._note(step, await self.livekit.rooms(self.tried.trace, operation=operation))

    async def _visit(self, visits: list[Session]) -> None:
        """Go in with each token that may be good for this room, and stay until the end: who leaves last starts a room's
        end, and a token for another room would make that one, or disturb it."""
        if self.livekit is None:
            self.tried.skipped["visit"] = "no LiveKit is known: give its URL"
            return
        if self._listed() is False:
            self.tried.skipped["visit"] = "LiveKit lists no room, and a visit would make one"
            return
        for step in ("create", "join", "guest"):
            if (token := self.given.get(step)) is not None and not self.tried.tokens[step].trouble:
                role = {"create": Role.HOST, "join": Role.JOINER}.get(step, Role.GUEST)
                await self._enter(step, token, role, visits)

    async def _enter(self, step: str, token: str, role: Role, visits: list[Session]) -> None:
        assert self.livekit is not None
        row, session = await self.livekit.signal(self.tried.trace, token, role=role, timeout_s=ANSWER_S)
        self.tried.visits[step] = row
        if session is not None:
            visits.append(session)

    async def _restart(self) -> None:
        if self._left_s() < UNDO_S + RESTART_S - 1.0:
            self.tried.skipped["restart"] = "no time was left for it"
            return
        seen = [*self.tried.of("list"), *self.tried.visits.values()]
        done = self.tried.restart = await restart(self.station, self.livekit, self.tried.trace, self.keys, seen=seen)
        if done.row.outcome is not Outcome.ACCEPTED:
            return
        self._keep_token("restart", done.answer.token)
        for pause_s in (0.0, 1.5):
            await asyncio.sleep(pause_s)
            row = (await self.station.api.guest(self.tried.trace, role=Role.GUEST, timeout_s=ANSWER_S)).row
            if self._note("join after restart", row).outcome is Outcome.VISIBLE or not self.tried.shows("guest"):
                break

    # taking it down

    async def _take_down(self) -> None:
        """DELETE, and look whether it went everywhere; what did not is undone otherwise, or stays in the ledger."""
        patience_s = max(INTERRUPTED_S, self._left_s() - 1.0)
        await asyncio.gather(
            self.deeds.end(self.made.room, self._delete(), patience_s),
            self._withdraw(patience_s),
        )

    async def _delete(self) -> Left | None:
        """By the API; where that does not do it, the room ends by LiveKit's key, and the record stays for removal."""
        trace, row = self.tried.trace, await self._asked_to_delete()
        accepted = row is not None and row.outcome is Outcome.ACCEPTED
        if not accepted and self.livekit is not None and self.livekit.lists_rooms:
            await self.livekit.delete(trace, role=Role.HOST)
        gone, dropped = await asyncio.gather(self._room_went(), self._record_went())
        if accepted and dropped and gone is not False:
            return None
        return await delete_room(self.station, trace, self.keys)

    async def _asked_to_delete(self) -> Observation | None:
        """What the API answered to DELETE, twice where the first time may have been bad luck; None where it was not
        asked in time, as the server wanted a pause."""
        row = None
        with suppress(TimeoutError):
            while row is None or (row.failure in TRANSIENT and len(self.tried.of("delete")) < 2 and self._left_s() > 4):
                async with asyncio.timeout(DELETE_S + 0.5):
                    how: dict[str, Any] = {"role": Role.HOST, "timeout_s": DELETE_S}
                    row = self._note("delete", (await self.station.api.delete(self.tried.trace, self.keys, **how)).row)
        return row

    async def _room_went(self) -> bool | None:
        """Whether LiveKit no longer lists the room; None where it cannot be asked."""
        for pause_s in AFTERMATH_S:
            await asyncio.sleep(pause_s)
            row = await self._list(Operation.READ_BACK, "list after delete")
            if row is None:
                return None
            if row.outcome is Outcome.ABSENT:
                return True
        return False

    async def _record_went(self) -> bool:
        for pause_s in (0.0, 1.5):
            await asyncio.sleep(pause_s)
            answer = await self.station.api.read_back(self.tried.trace, role=Role.HOST, timeout_s=DELETE_S)
            if self._note("info after delete", answer.row).outcome is Outcome.ABSENT:
                return True
        return False

    async def _withdraw(self, patience_s: float) -> None:
        event = self.made.event
        if self.made.entry is None or event is None:
            return
        self.tried.holders = [relay.url for relay in self.made.relays]

        async def take_back() -> Left | str:
            now_s = self.station.clock.now() // SECOND_NS
            withdrawal = Withdrawal(self.tried.trace, self.keys, now_s, {event.id: event})
            self.tried.found = await withdrawal.run(self.made.relays)
            return outcome(self.tried.found)

        await self.deeds.end(self.made.entry, take_back(), patience_s)
