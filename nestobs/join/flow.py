"""The join as a generator: it yields a Step, receives a Reply, returns a Verdict.

    load (released client only) -> info (optional) -> authenticated join if there is an identity
        -> guest join where the policy falls back (404) -> signal -> media -> stay -> verdict
                         |  seated as a guest though signed in, where the policy asks on: wait, authenticated join
                         |  404 everywhere: wait as the schedule says, until the give-up age, and ask again
                         |  429: wait as Retry-After says; 5xx, timeout, reset: again, while retries last
                         '- 401, 403: the end, no fallback, no retry
        the end, and the page shows Retry: where the policy has a person, who may press it, all of it anew

Every decision is decision.py's `next_action`; the flow keeps the counts, turns Actions into Steps and Replies into
Answers. It knows no world: no clock, no socket. Whoever drives it performs each Step and answers with a Reply stamped
on the joiner's clock; collector/prober.py does so against real servers, a replay against recorded timelines, a test by
hand. The driver's duties: perform steps in order, answer each with the right Reply, never go back in time.

Bounds, whatever arrives: at most `policy.max_requests` API steps, and no round begun that would not fit; no wait ends
later than `policy.horizon_s` after arrival; at most `policy.connect_attempts` failed connections per round; so every
flow ends.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from nestobs.join.decision import (
    ERRORS,
    JOINED,
    MESSAGES,
    Action,
    Answer,
    Asked,
    Kind,
    Situation,
    next_action,
    round_cost,
)
from nestobs.join.policy import Policy, Uniform
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest
from nestobs.observation.schema import Failure, Outcome

# Steps: what the flow wants next


@dataclass(frozen=True, slots=True)
class _Within:
    """What has an answer or none after `timeout_s`."""

    timeout_s: float


class Load(_Within):
    """Read the nest from the one selected relay, cut off after `timeout_s`."""


class Info(_Within):
    """GET /{room}/info."""


class Join(_Within):
    """GET /{room} with NIP-98."""


class Guest(_Within):
    """GET /{room}/guest."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Open LiveKit's signalling socket with the token."""

    token: str = field(repr=False)
    timeout_s: float


class Media(_Within):
    """Connect media over the signalled session. A driver without an RTC library answers `unknown`, failure None."""


@dataclass(frozen=True, slots=True)
class Stay:
    """Remain connected for so long."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until this instant (ns UTC, the joiner's clock)."""

    until: int


REQUESTS: Final = (Info, Join, Guest)
"""The steps that ask the API. As a tuple: `isinstance` takes three times as long with a union."""

Step: TypeAlias = Load | Info | Join | Guest | Signal | Media | Stay | Wait


@dataclass(frozen=True, slots=True)
class Reply:
    """What the world said to a step.

    at: when, ns UTC on the joiner's clock. outcome: as in an observation. status: HTTP status where there is one.
    token: as it came, any JSON value. nest: for Load. body: decoded JSON of /info. retry_after_s: seconds.
    room_there: what a witness said of LiveKit's room at about this instant (its list, a seat that somebody has); None:
    there is no witness, or it did not say. made_at: when the room was made (ns UTC), as /info or that list says; None:
    it does not. ahead_s: by how much the joiner's clock is ahead of that by which ages are to be read; None: as before.
    """

    at: int
    outcome: Outcome
    status: int | None = None
    failure: Failure | None = None
    token: object = field(default=None, repr=False)
    nest: Nest | None = None
    retry_after_s: float | None = None
    body: Mapping[str, Any] | None = None
    reason: str = ""
    room_there: bool | None = None
    made_at: int | None = None
    ahead_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One line of the debug panel: which step, when (ns UTC), at which age (s, None without an event), what came."""

    step: str
    at: int
    age_s: float | None
    outcome: Outcome
    status: int | None
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a join ended, what a user should see, and what a person debugging needs.

    message is empty when joined and nothing need be said. retry_offered: whether the page shows a Retry button.
    age_s: seconds since created_at at the end, None without an event. created_at: ns UTC or None. requests: API
    requests made. elapsed_s: since arrival. relays: those known to have the event. reason: what was found, where that
    says more than the kind. ahead_s: by how much ages are read otherwise than by the joiner's clock.
    """

    kind: Kind
    message: str
    retry_offered: bool
    room: str
    status: str
    created_at: int | None
    age_s: float | None
    relays: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    requests: int
    elapsed_s: float
    last_status: int | None
    reason: str = ""
    ahead_s: float = 0.0

    @property
    def joined(self) -> bool:
        """Whether the joiner is in the room."""
        return self.kind in JOINED


Flow: TypeAlias = Generator[Step, Reply, Verdict]


@dataclass(slots=True, kw_only=True)
class _Run:
    """What one flow remembers."""

    room: str
    signed_in: bool
    host: bool
    policy: Policy
    nest: Nest | None
    relays: tuple[str, ...]
    arrived_at: int
    now: int
    last: Reply
    attempts: list[Attempt] = field(default_factory=list)
    polls: int = 0
    requests: int = 0
    errors: int = 0
    asked: Asked = ""
    answer: Answer = Answer.OTHER
    info_active: bool = False
    active_at: int | None = None
    room_there: bool | None = None
    there_at: int = 0
    made_at: int | None = None
    stays: float = 1.0
    upgrades: int | None = None
    seat: Reply | None = None
    ahead_s: float = 0.0

    def age_s(self) -> float | None:
        return None if self.nest is None else self.nest.age_s(self.now) - self.ahead_s

    def elapsed_s(self) -> float:
        return (self.now - self.arrived_at) / SECOND_NS

    def situation(self) -> Situation:
        return Situation(
            signed_in=self.signed_in,
            age_s=self.age_s(),
            elapsed_s=self.elapsed_s(),
            asked=self.asked,
            answer=self.answer,
            polls=self.polls,
            requests=self.requests,
            errors=self.errors,
            retry_after_s=self.last.retry_after_s,
            info_active=self.info_active,
            active_s=None if self.active_at is None else (self.now - self.active_at) / SECOND_NS,
            room_there=self.room_there,
            there_s=(self.now - max(self.there_at, self.active_at or 0)) / SECOND_NS if self.room_there else 0.0,
            made_s=None if self.made_at is None else (self.now - self.made_at) / SECOND_NS,
            host=self.host,
            timed_out=self.last.failure is Failure.TIMEOUT,
            upgrades=self.upgrades,
        )

    def ask(self, step: Step) -> Generator[Step, Reply, Reply]:
        if isinstance(step, REQUESTS):
            self.requests += 1
        reply = yield step
        self.now = max(self.now, reply.at)
        self.ahead_s = self.ahead_s if reply.ahead_s is None else reply.ahead_s
        if reply.room_there is not None:
            self.there_at = self.there_at if self.room_there else self.now
            self.room_there = reply.room_there
        if reply.made_at is not None:  # of several the latest: a room that was made anew may be late again
            self.made_at = max(reply.made_at, self.made_at or reply.made_at)
        if not isinstance(step, Wait):
            made = Attempt(
                step=type(step).__name__.lower(),
                at=self.now,
                age_s=self.age_s(),
                outcome=reply.outcome,
                status=reply.status,
                failure=reply.failure,
            )
            self.attempts.append(made)
        return reply

    def heard(self, asked: Asked, answer: Answer, reply: Reply) -> None:
        self.asked, self.answer, self.last = asked, answer, reply


def join_flow(
    room: str,
    signed_in: bool,
    policy: Policy,
    *,
    arrived_at: int,
    rng: Uniform,
    nest: Nest | None = None,
    relays: Iterable[str] = (),
    host: bool = False,
) -> Flow:
    """A join of `room` under `policy`, from arrival (ns UTC) to verdict. See the module for the driver's duties.

    signed_in: there is an identity, so the authenticated join is tried first. nest: the event, if the joiner holds it.
    host: that identity is the nest's host, who has no Retry.
    """
    run = _Run(
        room=room,
        signed_in=signed_in,
        host=host,
        policy=policy,
        nest=nest,
        relays=tuple(relays),
        arrived_at=arrived_at,
        now=arrived_at,
        last=Reply(arrived_at, Outcome.UNKNOWN),
    )
    if policy.load_cutoff_s is not None:
        run.last = yield from run.ask(Load(policy.load_cutoff_s))
        run.nest = run.last.nest
        if run.nest is not None and run.nest.lacks:
            return _verdict(run, Action("stop", kind=Kind.NOT_LOADED, message=MESSAGES[Kind.NOT_LOADED]))
    patience = rng.random() if policy.person is not None else 0.0
    while True:
        action = next_action(policy, run.situation(), rng)
        if action.do == "stop" and run.seat is not None:
            run.last = run.seat
            return _verdict(run, action)
        if action.do == "stop":
            pressed_s = _pressed_s(run, action, patience, rng)
            if pressed_s is None:
                return _verdict(run, action)
            yield from _wait(run, pressed_s)
            run.polls = run.errors = 0
        elif action.do == "wait":
            yield from _wait(run, action.wait_s)
        elif action.do != "connect":
            yield from _request(run, action.do)
        elif (yield from _connect(run)):
            if action.kind is not Kind.GUEST_INSTEAD or not policy.upgrades:
                return _verdict(run, action)
            run.upgrades, run.seat = 0, run.last


def _request(run: _Run, name: Literal["info", "join", "guest"]) -> Generator[Step, Reply, None]:
    if not run.asked:
        run.polls += 1
        run.info_active = False
        run.upgrades = None if run.upgrades is None else run.upgrades + 1
    timeout_s = run.policy.request_timeout_s
    if name == "info":
        reply = yield from run.ask(Info(timeout_s))
        run.info_active = reply.outcome is Outcome.VISIBLE
        if run.info_active and _is_open(reply.body):
            run.active_at = run.now if run.active_at is None else run.active_at
        elif run.info_active or reply.outcome is Outcome.ABSENT:
            run.active_at = None
        told = Answer.GRANTED if run.info_active else Answer.OTHER
        run.heard("info", Answer.LIMITED if reply.status == 429 else told, reply)
    else:
        reply = yield from run.ask(Join(timeout_s) if name == "join" else Guest(timeout_s))
        usable = isinstance(reply.token, str) and bool(reply.token)
        answer = _answer(reply)
        if answer is Answer.SPENT and reply.retry_after_s is not None:  # not our budget: the server wants a pause
            answer = Answer.UNANSWERED if (run.last.status or 0) >= 500 else Answer.LIMITED
        if answer is Answer.ABSENT and reply.outcome is not Outcome.ABSENT:  # no proof of anything, nor of a fault
            run.active_at = None
        run.heard(name, Answer.BAD_TOKEN if answer is Answer.GRANTED and not usable else answer, reply)


def _is_open(body: Mapping[str, Any] | None) -> bool:
    """Whether what /info says of a nest's status, where it says one, is that it is open."""
    status = None if body is None else body.get("status")
    return not isinstance(status, str) or status.casefold() not in _SHUT


_SHUT: Final = ("closed", "ended", "inactive")

_ANSWERS: Final = {
    Failure.UNAUTHORISED: Answer.UNAUTHORISED,
    Failure.FORBIDDEN: Answer.FORBIDDEN,
    Failure.BAD_TOKEN: Answer.BAD_TOKEN,
    Failure.BUDGET: Answer.SPENT,
    Failure.RATE_LIMITED: Answer.LIMITED,
}


def _answer(reply: Reply) -> Answer:
    """What a reply to an API request means."""
    if reply.outcome is Outcome.VISIBLE:
        return Answer.GRANTED
    if reply.outcome is Outcome.ABSENT:
        return Answer.ABSENT
    if reply.failure in _ANSWERS:
        return _ANSWERS[reply.failure]
    if reply.status == 429:
        return Answer.LIMITED
    if reply.failure is Failure.CACHED or (reply.failure in _FALSE_NO and reply.status == 404):
        return Answer.ABSENT  # proves nothing, and a web client cannot tell it from a true one
    return Answer.UNANSWERED if reply.status is None or reply.status >= 500 else Answer.OTHER


_FALSE_NO: Final = (Failure.UNREACHABLE, Failure.UNEXPECTED)
"""What makes a 404 no proof: LiveKit is down, or somebody else answered."""

_OVER: Final[Mapping[Failure | None, Answer]] = {
    Failure.BAD_TOKEN: Answer.BAD_TOKEN,
    Failure.REMOVED: Answer.REMOVED,
    Failure.SKIPPED: Answer.NOT_VISITED,
}
"""What ends a connection for good: trying again would be no different, or no kindness."""


def _connect(run: _Run) -> Generator[Step, Reply, bool]:
    """From a token to staying in the room: whether the joiner is in."""
    granted, timeout_s = run.last, run.policy.connect_timeout_s
    deadline = run.arrived_at + round(run.policy.horizon_s * SECOND_NS)
    failed = granted
    for attempt in range(run.policy.connect_attempts):
        if attempt and run.now > deadline:
            break
        signal = yield from run.ask(Signal(str(granted.token), timeout_s))
        if signal.outcome in (Outcome.ABSENT, Outcome.REFUSED):
            absent = signal.outcome is Outcome.ABSENT
            run.heard("connect", Answer.ABSENT if absent else Answer.BAD_TOKEN, signal)
            return False
        if signal.failure in _OVER:
            run.heard("connect", _OVER[signal.failure], signal)
            return False
        if signal.outcome is not Outcome.VISIBLE:
            failed = signal
            continue
        media = yield from run.ask(Media(timeout_s))
        if media.failure is Failure.NOT_FOUND:
            run.heard("connect", Answer.ABSENT, media)
            return False
        if media.outcome is not Outcome.VISIBLE and media.failure is not None:
            failed = media
            continue
        stayed = yield from run.ask(Stay(run.policy.stay_s))
        if stayed.outcome is Outcome.VISIBLE:
            run.last = stayed
            return True
        if stayed.failure in _OVER:
            run.heard("connect", _OVER[stayed.failure], stayed)
            return False
        failed = stayed
    answer = Answer.PROBE_ERROR if failed.outcome is Outcome.PROBE_ERROR else Answer.UNREACHABLE
    run.heard("connect", answer, replace(granted, reason=failed.reason, failure=failed.failure))
    return False


def _pressed_s(run: _Run, action: Action, patience: float, rng: Uniform) -> float | None:
    """Seconds until the person presses Retry; None: there is nobody, no such button, or it is not pressed.

    The share that is still there after each failure falls below `patience`, drawn once, when this one leaves.
    """
    person = run.policy.person
    if person is None or not action.retry_offered:
        return None
    run.stays *= 1.0 - (person.leaves_gone if action.kind is Kind.GONE else person.leaves)
    if run.stays <= patience or run.requests + round_cost(run.policy, run.signed_in) > run.policy.max_requests:
        return None
    wait_s = person.drawn_s(rng)
    return wait_s if run.elapsed_s() + wait_s <= run.policy.horizon_s else None


def _wait(run: _Run, wait_s: float) -> Generator[Step, Reply, None]:
    run.errors += run.answer in ERRORS
    yield from run.ask(Wait(run.now + round(wait_s * SECOND_NS)))
    run.asked = ""


def _verdict(run: _Run, action: Action) -> Verdict:
    assert action.kind is not None
    return Verdict(
        kind=action.kind,
        message=action.message,
        retry_offered=action.retry_offered,
        room=run.room,
        status=run.nest.status if run.nest else "",
        created_at=run.nest.created_at if run.nest else None,
        age_s=run.age_s(),
        relays=run.relays,
        attempts=tuple(run.attempts),
        requests=run.requests,
        elapsed_s=run.elapsed_s(),
        last_status=run.last.status,
        reason=run.last.reason,
        ahead_s=run.ahead_s,
    )


def rehearse(flow: Flow, first: Mapping[str, Reply]) -> Verdict:
    """What a policy that asks once concludes from the answers of another joiner's first round: no world is asked.

    first: replies by step name (`load`, `info`, `join`, `guest`, `signal`, `media`, `stay`) as recorded at arrival.
    A step that was not recorded is answered `unknown` at the instant of the last one; a Wait ends on time.
    """
    now = 0
    try:
        step = next(flow)
        while True:
            now = step.until if isinstance(step, Wait) else now
            reply = first.get(type(step).__name__.lower(), Reply(now, Outcome.UNKNOWN))
            now = max(now, reply.at)
            step = flow.send(replace(reply, at=now))
    except StopIteration as ended:
        verdict: Verdict = ended.value
        return verdict
