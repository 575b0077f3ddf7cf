"""Real joins: drives join/flow.py's flow against the world, every step an observation.

The flow decides; this module performs. At arrival the client's own load (one selected relay, cut off at 1.5 s) runs
beside the join, and when the join is over the two baselines, `guide` and `released`, are rehearsed on the answers of
its first round: what would they have told a person who arrived at that instant? Their words go into the verdict's row.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nestobs.collector.lookup import Found, find, load, on_time
from nestobs.collector.lookup.inquiry import explained
from nestobs.collector.manners import CAREFUL, FRESH_S, POLITE, Care, Manners, Visitor, count_in, is_ours, objection
from nestobs.collector.station import Station, Target, expect_anybody, recording
from nestobs.collector.strangers import follow_event
from nestobs.diagnosis import Diagnosis
from nestobs.join.budget import Budget
from nestobs.join.decision import JOINED, MESSAGES, Kind
from nestobs.join.flow import (
    Flow,
    Guest,
    Info,
    Join,
    Load,
    Media,
    Reply,
    Signal,
    Stay,
    Step,
    Verdict,
    Wait,
    join_flow,
    rehearse,
)
from nestobs.join.policy import GUIDE, RELEASED, Policy, Uniform
from nestobs.nostr import Address, Keys
from nestobs.observation import reasons
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Role, Source
from nestobs.sources.api import Answer
from nestobs.sources.failures import HELD, Judgement, intended, unproved
from nestobs.sources.livekit import LiveKit
from nestobs.sources.livekit_http import claims_of
from nestobs.sources.vantage import Trace
from nestobs.sources.visit import Session
from nestobs.store.reader import Store
from nestobs.timeline.intervals.origins import room_made_at


@dataclass(slots=True)
class _Joiner:
    """One join under way."""

    station: Station
    trace: Trace
    address: Address | None
    keys: Keys | None
    media: bool
    group: str
    livekit: LiveKit | None
    care: Care
    seat: Callable[[], bool]
    uses_info: bool
    own_clock: bool
    token: str = field(default="", repr=False)
    entered_at: int = 0
    info: Answer | None = None
    visited: set[str] = field(default_factory=set)
    sessions: list[Session] = field(default_factory=list)
    seat_taken: Session | None = None
    made: dict[str, int] = field(default_factory=dict)

    @property
    def role(self) -> Role:
        return Role.GUEST if self.keys is None else Role.JOINER

    def flow(self, policy: Policy, at: int, rng: Uniform, nest: Nest | None, relays: tuple[str, ...] = ()) -> Flow:
        own = "" if self.keys is None else self.keys.public
        facts: dict[str, Any] = {"arrived_at": at, "rng": rng, "nest": nest, "relays": relays}
        return join_flow(self.trace.room, bool(own), policy, **facts, host=nest is not None and nest.host == own)

    def number(self, step: str) -> int:
        self.made[step] = self.made.get(step, 0) + 1
        return self.made[step]

    async def perform(self, step: Step) -> Reply:  # noqa: PLR0911 - one return per kind of step
        match step:
            case Wait(until):
                await self.station.clock.until(until)
                return Reply(self.station.clock.now(), Outcome.VISIBLE)
            case Load(timeout_s):
                return await load(self.station, self.trace, self.address, timeout_s)
            case Info(timeout_s):
                return _reply(await self.ask_info(timeout_s))
            case Join(timeout_s) if self.keys is not None:
                return _reply(await self.station.api.join(self.trace, self.keys, **self.common("join", timeout_s)))
            case Guest(timeout_s):
                answer = await self.station.api.guest(self.trace, **self.common("guest", timeout_s))
                absent = answer.row.outcome is Outcome.ABSENT
                return replace(_reply(answer), **await self.witness()) if absent else _reply(answer)
            case Signal(token, timeout_s):
                return await self.signal(token, timeout_s)
            case Media(timeout_s):
                return await self.connect_media(timeout_s)
            case Stay(duration_s):
                return await self.stay(duration_s)
        raise AssertionError(f"the flow asked for {step} without an identity")

    def dated(self, reply: Reply) -> Reply:
        """A reply with how far our clock is ahead of the one that ages are read by: the API's, where ours is surely
        apart from it."""
        apart = None if self.own_clock else self.station.vantage.relation.apart(reply.at)
        return reply if apart is None else replace(reply, ahead_s=apart.offset_s)

    async def witness(self) -> dict[str, Any]:
        """A reply's room_there and made_at, by somebody's seat or LiveKit's list; nothing where neither tells, or where
        nothing depends on it: the policy does not use /info, or that did not say active when it was last asked."""
        if not self.uses_info or self.info is None or self.info.row.outcome is not Outcome.VISIBLE:
            return {}
        if self.seat():
            return {"room_there": True}
        if self.livekit is None or not self.livekit.lists_rooms:
            return {}
        row = await self.livekit.rooms(self.trace)
        there = {Outcome.VISIBLE: True, Outcome.ABSENT: False}.get(row.outcome)
        made_at = room_made_at(row)
        return {"room_there": there, "made_at": made_at and self.station.vantage.ours(made_at)}

    def common(self, step: str, timeout_s: float) -> dict[str, Any]:
        number = self.number(step)
        return {"role": self.role, "timeout_s": timeout_s, "attempt_group": self.group, "attempt_no": number}

    async def ask_info(self, timeout_s: float) -> Answer:
        self.info = await self.station.api.info(self.trace, **self.common("info", timeout_s))
        return self.info

    async def signal(self, token: str, timeout_s: float) -> Reply:
        livekit = self.livekit
        if livekit is None:
            return _of(self.record(Operation.SIGNAL, timeout_s, **_NO_LIVEKIT))
        await self.leave()
        self.token = token
        claims = claims_of(token)
        if (other := _other_room(claims, self.trace.room)) is not None:
            return _of(self.record(Operation.SIGNAL, timeout_s, **_for_another_room(other)))
        if livekit.lists_rooms:  # where joining makes rooms (auto_create), only this tells whether there was one before
            await livekit.rooms(self.trace)
        if why := await self.objection(livekit, claims, timeout_s):
            return _of(await livekit.validate(self.trace, token, not_visited=why, **self.common("signal", timeout_s)))
        row, session = await livekit.signal(self.trace, token, **self.common("signal", timeout_s))
        if session is not None:
            self.visited.add(str(claims.get("sub") or ""))
            self.entered_at = row.sent_at
            self.sessions.append(session)
        return _of(row)

    async def objection(self, livekit: LiveKit, claims: Mapping[str, Any], timeout_s: float) -> str:
        """Why this room is not to be visited now; "" where it may be."""
        if self.care.ours:
            return ""
        visitor = Visitor(
            identity=str(claims.get("sub") or ""),
            pubkey=self.keys.public if self.keys is not None and self.care.standing_key else "",
            visited=frozenset(self.visited),
        )
        inside, manners = await livekit.inside(self.trace.room), self.care.manners
        if inside is None and not manners.visit_empty and not self.knows_count():
            await self.ask_info(timeout_s)
        return objection(inside, None if self.info is None else count_in(self.info.body), visitor, manners)

    def knows_count(self) -> bool:
        """Whether /info was asked a moment ago."""
        asked = None if self.info is None else self.info.row.received_at
        return asked is not None and self.station.clock.now() - asked < FRESH_S * SECOND_NS

    async def expect_media(self) -> None:
        """Wait until media can be connected, where they are wanted. Before arrival it takes no joiner's time."""
        if self.media and self.livekit is not None:
            await self.livekit.expect_media()

    async def connect_media(self, timeout_s: float) -> Reply:
        """Media over a connection of its own, since the RTC library signals for itself; it replaces the first one."""
        if not self.media or self.livekit is None or not self.livekit.carries_media:
            return Reply(self.station.clock.now(), Outcome.UNKNOWN)
        await self.leave()
        row, session = await self.livekit.media(self.trace, self.token, **self.common("media", timeout_s))
        if session is not None:
            self.entered_at = row.sent_at
            self.sessions.append(session)
        return _of(row)

    async def stay(self, duration_s: float) -> Reply:
        session, clock = self.sessions[-1], self.station.clock
        sent_at = clock.now()
        stayed = await session.stays(duration_s)
        if stayed:  # a seat is kept until the better one is held: so nobody falls between them, nor leaves a room empty
            self.seat_taken, before = session, self.seat_taken
            self.sessions.remove(session)
            if before is not None:
                await before.close()
        found = Judgement(Outcome.VISIBLE) if stayed else session.lost
        began_at = self.entered_at or sent_at
        return _of(self.record(Operation.STAY, duration_s, sent_at=sent_at, began_at=began_at, **found._asdict()))

    def record(self, operation: Operation, timeout_s: float, sent_at: int = 0, **fields: Any) -> Observation:
        """A row of the join's own about a step that no source records."""
        now = self.station.clock.now()
        return self.station.vantage.record(
            self.trace,
            source=Source.JOIN,
            target=self.livekit.url if self.livekit is not None else self.station.target.livekit,
            operation=operation,
            sent_at=sent_at or now,
            received_at=now,
            **self.common(operation.value, timeout_s),
            **fields,
        )

    async def leave(self) -> None:
        """Every connection but the seat that was taken."""
        while self.sessions:
            await self.sessions.pop().close()

    async def go(self) -> None:
        """Every connection."""
        await self.leave()
        if self.seat_taken is not None:
            await self.seat_taken.close()


def _other_room(claims: Mapping[str, Any], room: str) -> str | None:
    """The room that a token is for, where it says so and it is another."""
    video = claims.get("video")
    named = video.get("room") if isinstance(video, Mapping) else None
    return named if isinstance(named, str) and named not in ("", room) else None


def _of(row: Observation) -> Reply:
    return Reply(row.received_at or row.sent_at, row.outcome, row.status, row.failure, reason=row.reason)


def _reply(answer: Answer) -> Reply:
    row = answer.row
    return Reply(
        row.received_at or row.sent_at,
        row.outcome,
        row.status,
        row.failure,
        token=answer.token,
        retry_after_s=answer.retry_after_s,
        body=answer.body,
        reason=row.reason,
        made_at=room_made_at(row),
    )


async def join(
    station: Station,
    trace: Trace,
    policy: Policy,
    *,
    rng: Uniform,
    nest: Nest | None = None,
    address: Address | None = None,
    keys: Keys | None = None,
    relays: tuple[str, ...] = (),
    media: bool = True,
    livekit: LiveKit | None = None,
    care: Care = CAREFUL,
    seat: Callable[[], bool] = lambda: False,
    own_clock: bool = False,
) -> Verdict:
    """One join from arrival to verdict, then leave. Two rows beside the steps': the intent and the verdict.

    livekit: of this nest, where it is not the operator's own. seat: whether somebody is known to be in the room now.
    own_clock: the event was dated by our own clock, so that ages are by it whatever the API's says.
    """
    clock, vantage = station.clock, station.vantage
    joiner = _Joiner(
        station=station,
        trace=trace,
        address=address or (nest.address if nest else None),
        keys=keys,
        media=media,
        group=vantage.new_id(),
        livekit=station.livekit if livekit is None else livekit,
        care=care,
        seat=seat,
        uses_info=policy.fault_after_s is not None,
        own_clock=own_clock,
    )
    await joiner.expect_media()
    arrived_at = clock.now()
    common: dict[str, Any] = {
        "source": Source.JOIN,
        "target": station.target.api,
        "operation": Operation.VERDICT,
        "role": joiner.role,
        "attempt_group": joiner.group,
    }
    vantage.record(trace, sent_at=arrived_at, **common, **intended("join")._asdict())
    await vantage.committed()
    loading = asyncio.create_task(load(station, trace, joiner.address))
    flow = joiner.flow(policy, arrived_at, rng, nest, relays)
    first: dict[str, Reply] = {}
    try:
        verdict = await _drive(joiner, flow, first)
        first["load"] = await loading
        verdict = _undoubted(verdict)
    finally:
        loading.cancel()
        await asyncio.shield(joiner.go())
    ended: dict[str, Any] = {"received_at": clock.now(), "status": verdict.last_status, **_outcome(verdict)._asdict()}
    facts = _facts(joiner, verdict, policy, arrived_at, first)
    vantage.record(trace, sent_at=arrived_at, **ended, **common, detail=facts)
    return verdict


async def join_once(
    target: Target,
    wanted: Address | str,
    store: Store,
    *,
    policy: Policy,
    keys: Keys | None,
    relay_keys: Keys | None = None,
    standing_key: bool = True,
    manners: Manners = POLITE,
    budget: Budget | None = None,
    investigate: bool = False,
) -> tuple[Found, Verdict, Diagnosis | None]:
    """What `nestobs join` does: look a nest up and join it; with `keys` authenticated first, else as a guest. And why
    it was not joined, None where it was.

    relay_keys: for relays that want to know who asks (NIP-42); `keys` unless given. standing_key: the keys are no
    fresh ones, so somebody may be inside with them. budget: this process's own unless given. investigate: as ready.
    """
    heard: list[Observation] = []
    recorded = recording(store, [target], budget or Budget(), keys=relay_keys or keys, heard=heard.append)
    async with recorded as ([station], pen):

        async def work() -> tuple[Found, Verdict, Diagnosis | None]:
            await expect_anybody(station)
            found = await on_time(station, await find(station, wanted))
            if found.nest is not None and manners.follow_events:
                await follow_event(station, found.trace, found.nest)
            care = Care(ours=is_ours(store, found.trace.room), standing_key=standing_key, manners=manners)
            once = replace(policy, horizon_s=0.0)  # one round
            verdict = await join(
                station,
                found.trace,
                once if found.why_not_live() or found.skew() else policy,  # waiting is for what is new
                rng=random.Random(),
                nest=found.nest,
                address=None if isinstance(wanted, str) else wanted,
                keys=keys,
                relays=found.relays,
                care=care,
            )
            found = replace(found, by=found.timed(station, station.clock.now()).by)
            if verdict.joined:
                return found, verdict, None
            return found, verdict, await explained(station, found.trace, heard, investigate=investigate)

        return await pen.during(work())


async def _drive(joiner: _Joiner, flow: Generator[Step, Reply, Verdict], first: dict[str, Reply]) -> Verdict:
    try:
        step = next(flow)
        while True:
            reply = await joiner.perform(step)
            first.setdefault(type(step).__name__.lower(), reply)  # a page goes by its computer's clock
            step = flow.send(joiner.dated(reply))
    except StopIteration as ended:
        verdict: Verdict = ended.value
        return verdict


_FAILURES = {
    Kind.STARTING_UP: (Outcome.ABSENT, Failure.NOT_FOUND),
    Kind.GONE: (Outcome.ABSENT, Failure.NOT_FOUND),
    Kind.API_FAULT: (Outcome.ABSENT, Failure.NOT_FOUND),
    Kind.NOT_LOADED: (Outcome.UNKNOWN, Failure.NOT_FOUND),
    Kind.UNAUTHORISED: (Outcome.REFUSED, Failure.UNAUTHORISED),
    Kind.FORBIDDEN: (Outcome.REFUSED, Failure.FORBIDDEN),
    Kind.RATE_LIMITED: (Outcome.REFUSED, Failure.RATE_LIMITED),
    Kind.API_DOWN: (Outcome.UNKNOWN, Failure.SERVER_ERROR),
    Kind.BAD_TOKEN: (Outcome.UNKNOWN, Failure.BAD_TOKEN),
    Kind.LIVEKIT_UNREACHABLE: (Outcome.UNKNOWN, Failure.UNREACHABLE),
    Kind.REMOVED: (Outcome.UNKNOWN, Failure.REMOVED),
}

_UNPROVED: Final = frozenset({Kind.API_DOWN, Kind.LIVEKIT_UNREACHABLE, Kind.UNAUTHORISED, Kind.BAD_TOKEN})
"""The verdicts that nothing proves where an attempt of the join was held up by ourselves."""


_NO_LIVEKIT: Final = unproved(
    Failure.UNREACHABLE,
    f"{reasons.NO_LIVEKIT} by the operator, and no token goes where only an event points: give --livekit",
    FailureLayer.SIGNAL,
)._asdict()


def _for_another_room(room: str) -> dict[str, Any]:
    return unproved(Failure.BAD_TOKEN, f"the API's token is {reasons.OTHER_TOKEN}, {room[:80]!r}: not used")._asdict()


def _undoubted(verdict: Verdict) -> Verdict:
    """The verdict, where it rests on a 404 that proves nothing while LiveKit is down: that LiveKit is down."""
    if verdict.kind not in (Kind.STARTING_UP, Kind.GONE) or verdict.attempts[-1].failure is not Failure.UNREACHABLE:
        return verdict
    kind = Kind.LIVEKIT_UNREACHABLE
    return replace(verdict, kind=kind, message=MESSAGES[kind], retry_offered=False)


def _outcome(verdict: Verdict) -> Judgement:
    if verdict.kind in JOINED:
        return Judgement(Outcome.VISIBLE)
    if verdict.attempts and verdict.attempts[-1].failure is Failure.BUDGET:
        return _ours(Failure.BUDGET, "our own request budget is spent")
    if verdict.kind is Kind.NOT_VISITED:
        return _ours(Failure.SKIPPED, verdict.reason)
    held = [attempt.failure for attempt in verdict.attempts if attempt.failure in HELD]
    if verdict.kind in _UNPROVED and held:
        said = f"not judged: we held it up ourselves; it would be {verdict.kind.value}"
        return _ours(held[-1], f"{said} ({verdict.reason})" if verdict.reason else said)
    if verdict.kind is Kind.PROBE_ERROR:
        return _ours(verdict.attempts[-1].failure, f"{verdict.kind.value}: {verdict.reason}")
    outcome, failure = _FAILURES[verdict.kind]
    reason = f"{verdict.kind.value}: {verdict.reason}" if verdict.reason else verdict.kind.value
    return Judgement(outcome, failure, FailureLayer.API, reason)


def _ours(failure: Failure | None, reason: str) -> Judgement:
    """No answer by our own doing."""
    return Judgement(Outcome.PROBE_ERROR, failure, FailureLayer.PROBER, reason)


def _facts(joiner: _Joiner, verdict: Verdict, policy: Policy, arrived_at: int, first: dict[str, Reply]) -> str:
    """The verdict's detail: how it ended, and what the two baselines would have said at arrival."""
    rounds = sum(attempt.step == "guest" for attempt in verdict.attempts)
    return detail(
        verdict=verdict.kind.value,
        message=verdict.message,
        retry_offered=verdict.retry_offered,
        policy=policy.name,
        requests=verdict.requests,
        guest_requests=rounds,
        elapsed_s=verdict.elapsed_s,
        age_s=verdict.age_s,
        ages_moved_s=round(-verdict.ahead_s, 3) if verdict.ahead_s else None,
        status=verdict.status,
        relays=list(verdict.relays),
        said={baseline.name: _said(joiner, baseline, arrived_at, first) for baseline in (GUIDE, RELEASED)},
    )


def _said(joiner: _Joiner, baseline: Policy, arrived_at: int, first: dict[str, Reply]) -> dict[str, object]:
    end = rehearse(joiner.flow(baseline, arrived_at, _NEVER_DRAWN, first["load"].nest), first)
    return {"verdict": end.kind.value, "message": end.message, "age_s": end.age_s, "retry": end.retry_offered}


class _NoDice:
    """The baselines ask once and draw nothing."""

    def random(self) -> float:
        raise AssertionError("a policy that asks once drew a random number")


_NEVER_DRAWN = _NoDice()
