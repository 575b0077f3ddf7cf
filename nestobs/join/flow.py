"""The join as a generator: it yields a Step, receives a Reply, returns a Verdict.

    load (released client only) -> info (optional) -> authenticated join if there is an identity
        -> guest join where the policy falls back (404) -> signal -> media -> stay -> verdict
                         |  404 everywhere: wait as the schedule says, until the give-up age, and ask again
                         |  429: wait as Retry-After says; 5xx, timeout, reset: again, while retries last
                         '- 401, 403: the end, no fallback, no retry

Every decision is one pure function, `next_action`: from a Situation (ages, counts, what was asked last and what came)
to an Action. It keeps no state, so that a client in another language can have the same one (exports/javascript.py).
The flow keeps the counts, turns Actions into Steps and Replies into Answers.

It knows no world: no clock, no socket. Whoever drives it performs each Step and answers with a Reply stamped on the
joiner's clock; collector/prober.py does so against real servers, a replay against recorded timelines, a test by hand.
The driver's duties: perform steps in order, answer each with the right Reply, never go back in time.

Bounds, whatever arrives: at most `policy.max_requests` API steps, and no round begun that would not fit; no wait ends
later than `policy.horizon_s` after arrival; at most `policy.connect_attempts` failed connections per round; so every
flow ends.

Two ages: the message and the give-up rule use the age since `created_at` on the joiner's clock, as the web client does.
Without an event the client counts age 0 for its message; waiting then counts from arrival.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from nestobs.join.policy import Policy, Uniform, growth
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest
from nestobs.observation.schema import Failure, Outcome

STARTING = "The nest is still starting up. Please wait a moment and try again."
GONE = "This nest is no longer available. The audio session may have timed out or been closed."
RELEASED_FAILED = "Failed to join nest: Nest not found. The room may not be ready yet or has been closed."
LOADING = "Loading nest..."
JOINED_AS_GUEST = "Joined as Guest"
SIGN_IN_HINT = " Sign in to join with your own account."


class Kind(StrEnum):
    """How a join ended. The first three are joins; `not_loaded`: the client never held the event and offers no join."""

    AUTHENTICATED = "authenticated"
    GUEST = "guest"
    GUEST_INSTEAD = "guest_instead"
    STARTING_UP = "starting_up"
    GONE = "gone"
    UNAUTHORISED = "unauthorised"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    API_DOWN = "api_down"
    BAD_TOKEN = "bad_token"
    LIVEKIT_UNREACHABLE = "livekit_unreachable"
    NOT_LOADED = "not_loaded"


JOINED = frozenset({Kind.AUTHENTICATED, Kind.GUEST, Kind.GUEST_INSTEAD})

MESSAGES: Final = {
    Kind.AUTHENTICATED: "",
    Kind.GUEST: "",
    Kind.GUEST_INSTEAD: JOINED_AS_GUEST,
    Kind.STARTING_UP: STARTING,
    Kind.GONE: GONE,
    Kind.UNAUTHORISED: "The server did not accept your sign-in. Check your clock and sign in again.",
    Kind.FORBIDDEN: "You are not allowed to join this nest.",
    Kind.RATE_LIMITED: "Too many requests from your network. Try again {when}.",
    Kind.API_DOWN: "The nests server does not answer. Try again later.",
    Kind.BAD_TOKEN: "The server gave no usable token for this nest.",
    Kind.LIVEKIT_UNREACHABLE: "The audio server cannot be reached from here.",
    Kind.NOT_LOADED: LOADING,
}
"""What the page shows for each kind. {when} is `later` or `in N s`; to a guest SIGN_IN_HINT follows the 404's words."""


# The decision


class Answer(StrEnum):
    """What the last answer means. After ABSENT the schedule says when to ask again, after LIMITED and UNANSWERED the
    error retries do, the other refusals end the join."""

    GRANTED = "granted"  # a usable token; to /info: active
    ABSENT = "absent"
    UNAUTHORISED = "unauthorised"
    FORBIDDEN = "forbidden"
    LIMITED = "limited"
    SPENT = "spent"  # not asked: our own request budget
    UNANSWERED = "unanswered"  # a timeout, a reset, a 5xx
    OTHER = "other"  # an answer that is about something else
    BAD_TOKEN = "bad_token"
    UNREACHABLE = "unreachable"  # LiveKit, with a token


_KINDS: Final = {
    Answer.UNAUTHORISED: Kind.UNAUTHORISED,
    Answer.FORBIDDEN: Kind.FORBIDDEN,
    Answer.LIMITED: Kind.RATE_LIMITED,
    Answer.SPENT: Kind.RATE_LIMITED,
    Answer.UNANSWERED: Kind.API_DOWN,
    Answer.OTHER: Kind.API_DOWN,
    Answer.BAD_TOKEN: Kind.BAD_TOKEN,
    Answer.UNREACHABLE: Kind.LIVEKIT_UNREACHABLE,
}
ERRORS: Final = (Answer.LIMITED, Answer.UNANSWERED)
"""The answers after which a wait is one of the policy's error retries."""

Asked: TypeAlias = Literal["", "info", "join", "guest", "connect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where a joiner stands: all that a decision needs. Seconds are finite, counts from 0.

    asked: the last thing asked in this round; empty before the first and after each wait; `connect`: a connection that
    came to nothing. answer: what came of it; unused while `asked` is empty. age_s: since created_at on the joiner's
    clock, None without an event. elapsed_s: since arrival. polls: rounds begun, this one included. requests: API
    requests made. errors: waits made after one of ERRORS. retry_after_s: as the last answer said, any number.
    info_active: /info said active in this round.
    """

    signed_in: bool
    age_s: float | None
    elapsed_s: float = 0.0
    asked: Asked = ""
    answer: Answer = Answer.OTHER
    polls: int = 0
    requests: int = 0
    errors: int = 0
    retry_after_s: float | None = None
    info_active: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """What to do next. info, join, guest: make that request. connect: with the token that came. wait: for `wait_s`
    seconds, then a new round. stop: the join has ended.

    kind, message, retry_offered: to stop, how it ended and what the page shows, with a Retry button or without; to
    wait, the same as if it ended here; to connect, what holds once the joiner is in the room.
    """

    do: Literal["info", "join", "guest", "connect", "wait", "stop"]
    wait_s: float = 0.0
    kind: Kind | None = None
    message: str = ""
    retry_offered: bool = False


def next_action(policy: Policy, now: Situation, rng: Uniform) -> Action:  # noqa: PLR0911 - one return per rule
    """The policy's next move. Draws from `rng` only for a wait after a 404: one number for full jitter, then one for
    `jitter`, whether or not the wait then fits into the policy's bounds."""
    if not now.asked:
        if policy.load_cutoff_s is not None and now.age_s is None:
            return _tell("stop", Kind.NOT_LOADED, policy, now)
        return Action("info" if policy.ask_info else "join" if now.signed_in else "guest")
    if now.asked == "info" and now.answer is not Answer.LIMITED:
        return Action("join" if now.signed_in else "guest")
    if now.answer is Answer.GRANTED:
        granted = Kind.AUTHENTICATED if now.asked == "join" else Kind.GUEST_INSTEAD if now.signed_in else Kind.GUEST
        return _tell("connect", granted, policy, now)
    if now.answer is Answer.ABSENT and now.asked == "join" and 404 in policy.fallback:
        return Action("guest")
    young = (now.age_s or 0.0) < policy.message_threshold_s
    kind = _KINDS.get(now.answer, Kind.STARTING_UP if young else Kind.GONE)
    wait_s = _wait_s(policy, now, rng)
    if wait_s is None:
        return _tell("stop", kind, policy, now)
    return _tell("wait", kind, policy, now, wait_s)


def answer_to(asked: Asked, status: int | None) -> Answer:
    """What an HTTP status alone says, to a client that looks at nothing else; 0 or None: no answer came.

    To `connect` it is the status of LiveKit's signalling.
    """
    if asked == "connect":
        refused = {404: Answer.ABSENT, 401: Answer.BAD_TOKEN, 403: Answer.BAD_TOKEN}
        return refused.get(status or 0, Answer.UNREACHABLE)
    if not status or status >= 500:
        return Answer.UNANSWERED
    if 200 <= status < 300:
        return Answer.GRANTED
    known = {404: Answer.ABSENT, 401: Answer.UNAUTHORISED, 403: Answer.FORBIDDEN, 429: Answer.LIMITED}
    return known.get(status, Answer.OTHER)


def round_cost(policy: Policy, signed_in: bool) -> int:
    """The most requests that one round makes."""
    return int(policy.ask_info) + int(signed_in) + 1


def _wait_s(policy: Policy, now: Situation, rng: Uniform) -> float | None:
    """Seconds until the next round; None: there is none."""
    if now.answer is Answer.ABSENT:
        wait_s = _gap_s(policy, now, rng)
    elif now.answer in ERRORS and now.errors < policy.error_retries:
        wait_s = _error_gap_s(policy, now)
    else:
        wait_s = None
    if wait_s is None or now.requests + round_cost(policy, now.signed_in) > policy.max_requests:
        return None
    ends_ns = round(now.elapsed_s * SECOND_NS) + round(wait_s * SECOND_NS)
    return wait_s if ends_ns <= round(policy.horizon_s * SECOND_NS) else None


def _gap_s(policy: Policy, now: Situation, rng: Uniform) -> float | None:
    age_s = now.elapsed_s if now.age_s is None else now.age_s
    gap_s = None if age_s >= policy.give_up_age_s else policy.schedule.gap_s(now.polls, max(0.0, age_s), rng)
    return None if gap_s is None else gap_s * (1 - policy.jitter + 2 * policy.jitter * rng.random())


def _error_gap_s(policy: Policy, now: Situation) -> float | None:
    asked_s = now.retry_after_s
    wait_s = policy.error_gap_s * growth(2.0, min(now.errors, 64)) if asked_s is None else asked_s
    return max(0.0, wait_s) if wait_s <= policy.horizon_s else None  # NaN and infinity are not


def _tell(
    do: Literal["connect", "wait", "stop"], kind: Kind, policy: Policy, now: Situation, wait_s: float = 0.0
) -> Action:
    """The action with the words of its kind."""
    message = MESSAGES[kind]
    if kind is Kind.RATE_LIMITED:
        asked_s = now.retry_after_s
        message = message.format(
            when="later" if asked_s is None or not 0 <= asked_s < 1e6 else f"in {round(asked_s)} s"
        )
    if kind not in (Kind.STARTING_UP, Kind.GONE):
        return Action(do, wait_s, kind, message)
    matches = now.info_active and now.asked != "connect"
    if policy.wording == "released" and not matches:  # its rule looks for other words than the true race's error
        return Action(do, wait_s, kind, RELEASED_FAILED)
    hint = "" if now.signed_in else SIGN_IN_HINT
    return Action(do, wait_s, kind, message + hint, retry_offered=kind is Kind.STARTING_UP)


# Steps: what the flow wants next


@dataclass(frozen=True, slots=True)
class Load:
    """Read the nest from the one selected relay, cut off after `timeout_s`."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Info:
    """GET /{room}/info."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Join:
    """GET /{room} with NIP-98."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Guest:
    """GET /{room}/guest."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Signal:
    """Open LiveKit's signalling socket with the token."""

    token: str = field(repr=False)
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Media:
    """Connect media over the signalled session. A driver without an RTC library answers `unknown`, failure None."""

    timeout_s: float


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
    """

    at: int
    outcome: Outcome
    status: int | None = None
    failure: Failure | None = None
    token: object = field(default=None, repr=False)
    nest: Nest | None = None
    retry_after_s: float | None = None
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of the debug panel: which step, when (ns UTC), at which age (s, None without an event), what came."""

    step: str
    at: int
    age_s: float | None
    outcome: Outcome
    status: int | None
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a join ended, what a user should see, and what a person debugging needs.

    message is empty when joined and nothing need be said. retry_offered: whether the page shows a Retry button.
    age_s: seconds since created_at at the end, None without an event. created_at: ns UTC or None. requests: API
    requests made. elapsed_s: since arrival. relays: those known to have the event.
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

    @property
    def joined(self) -> bool:
        """Whether the joiner is in the room."""
        return self.kind in JOINED


Flow: TypeAlias = Generator[Step, Reply, Verdict]


@dataclass(slots=True)
class _Run:
    """What one flow remembers."""

    room: str
    signed_in: bool
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

    def age_s(self) -> float | None:
        return None if self.nest is None else self.nest.age_s(self.now)

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
        )

    def ask(self, step: Step) -> Generator[Step, Reply, Reply]:
        if isinstance(step, REQUESTS):
            self.requests += 1
        reply = yield step
        self.now = max(self.now, reply.at)
        if not isinstance(step, Wait):
            name = type(step).__name__.lower()
            self.attempts.append(Attempt(name, self.now, self.age_s(), reply.outcome, reply.status, reply.failure))
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
) -> Flow:
    """A join of `room` under `policy`, from arrival (ns UTC) to verdict. See the module for the driver's duties.

    signed_in: there is an identity, so the authenticated join is tried first. nest: the event, if the joiner holds it.
    """
    nothing = Reply(arrived_at, Outcome.UNKNOWN)
    run = _Run(room, signed_in, policy, nest, tuple(relays), arrived_at, arrived_at, nothing)
    if policy.load_cutoff_s is not None:
        run.last = yield from run.ask(Load(policy.load_cutoff_s))
        run.nest = run.last.nest
        if run.nest is not None and run.nest.lacks:
            return _verdict(run, _tell("stop", Kind.NOT_LOADED, policy, run.situation()))
    while True:
        action = next_action(policy, run.situation(), rng)
        if action.do == "stop":
            return _verdict(run, action)
        if action.do == "wait":
            yield from _wait(run, action.wait_s)
        elif action.do != "connect":
            yield from _request(run, action.do)
        elif (yield from _connect(run)):
            return _verdict(run, action)


def _request(run: _Run, name: Literal["info", "join", "guest"]) -> Generator[Step, Reply, None]:
    if not run.asked:
        run.polls += 1
    timeout_s = run.policy.request_timeout_s
    if name == "info":
        reply = yield from run.ask(Info(timeout_s))
        run.info_active = reply.outcome is Outcome.VISIBLE
        told = Answer.GRANTED if run.info_active else Answer.OTHER
        run.heard("info", Answer.LIMITED if reply.status == 429 else told, reply)
    else:
        reply = yield from run.ask(Join(timeout_s) if name == "join" else Guest(timeout_s))
        usable = isinstance(reply.token, str) and bool(reply.token)
        answer = _answer(reply)
        run.heard(name, Answer.BAD_TOKEN if answer is Answer.GRANTED and not usable else answer, reply)


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
    if reply.failure is Failure.CACHED:  # proves nothing, and a web client cannot tell it from a true one
        return Answer.ABSENT
    return Answer.UNANSWERED if reply.status is None or reply.status >= 500 else Answer.OTHER


def _connect(run: _Run) -> Generator[Step, Reply, bool]:
    """From a token to staying in the room: whether the joiner is in."""
    granted, timeout_s = run.last, run.policy.connect_timeout_s
    deadline = run.arrived_at + round(run.policy.horizon_s * SECOND_NS)
    for attempt in range(run.policy.connect_attempts):
        if attempt and run.now > deadline:
            break
        signal = yield from run.ask(Signal(str(granted.token), timeout_s))
        if signal.outcome in (Outcome.ABSENT, Outcome.REFUSED):
            absent = signal.outcome is Outcome.ABSENT
            run.heard("connect", Answer.ABSENT if absent else Answer.BAD_TOKEN, signal)
            return False
        if signal.outcome is not Outcome.VISIBLE:
            continue
        media = yield from run.ask(Media(timeout_s))
        if media.failure is Failure.NOT_FOUND:
            run.heard("connect", Answer.ABSENT, media)
            return False
        if media.outcome is not Outcome.VISIBLE and media.failure is not None:
            continue
        stayed = yield from run.ask(Stay(run.policy.stay_s))
        if stayed.outcome is Outcome.VISIBLE:
            run.last = stayed
            return True
    run.heard("connect", Answer.UNREACHABLE, granted)
    return False


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
