"""The join as a generator: it yields a Step, receives a Reply, returns a Verdict.

    load (released client only) -> info (optional) -> authenticated join if there is an identity
        -> guest join where the policy falls back (404) -> signal -> media -> stay -> verdict
                         |  404 everywhere: wait as the schedule says, until the give-up age, and ask again
                         |  429: wait as Retry-After says; 5xx, timeout, reset: again, while retries last
                         '- 401, 403: the end, no fallback, no retry

The flow decides and knows no world: no clock, no socket. Whoever drives it performs each Step and answers with a Reply
stamped on the joiner's clock; probe.py does so against real servers, a replay against recorded timelines, a test by
hand. The driver's duties: perform steps in order, answer each with the right Reply, never go back in time.

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
from typing import Any, TypeAlias

from nestobs.nest import SECOND_NS, Nest
from nestobs.observation import Failure, Outcome
from nestobs.policy import Policy, Uniform

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
    rng: Uniform
    attempts: list[Attempt] = field(default_factory=list)
    requests: int = 0
    rounds: int = 0
    errors: int = 0

    def age_s(self) -> float | None:
        return None if self.nest is None else self.nest.age_s(self.now)

    def waiting_age_s(self) -> float:
        elapsed = (self.now - self.arrived_at) / SECOND_NS
        age = self.age_s()
        return elapsed if age is None else age

    @property
    def deadline(self) -> int:
        return self.arrived_at + round(self.policy.horizon_s * SECOND_NS)

    def ask(self, step: Step) -> Generator[Step, Reply, Reply]:
        if isinstance(step, Info | Join | Guest):
            self.requests += 1
        reply = yield step
        self.now = max(self.now, reply.at)
        if not isinstance(step, Wait):
            name = type(step).__name__.lower()
            self.attempts.append(Attempt(name, self.now, self.age_s(), reply.outcome, reply.status, reply.failure))
        return reply


@dataclass(frozen=True, slots=True)
class _End:
    """A round that settles the matter, or that may be tried again: `again` says how."""

    kind: Kind
    reply: Reply | None = None
    again: str = ""  # "" final, "poll" as the schedule says, "error" while error retries last
    info_active: bool = False


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
    run = _Run(room, signed_in, policy, nest, tuple(relays), arrived_at, arrived_at, rng)
    if policy.load_cutoff_s is not None:
        loaded = yield from run.ask(Load(policy.load_cutoff_s))
        run.nest = loaded.nest
        if loaded.nest is None or loaded.nest.lacks:
            return _verdict(run, _End(Kind.NOT_LOADED, loaded))
    while True:
        end = yield from _round(run)
        if not (yield from _again(run, end)):
            return _verdict(run, end)


def _round(run: _Run) -> Generator[Step, Reply, _End]:
    """One pass of requests, and the connection if a token came."""
    timeout_s = run.policy.request_timeout_s
    info_active = False
    run.rounds += 1
    if run.policy.ask_info:
        reply = yield from run.ask(Info(timeout_s))
        info_active = reply.outcome is Outcome.VISIBLE
        if reply.status == 429:
            return _End(Kind.RATE_LIMITED, reply, "error")
    last: Reply | None = None
    for step in (Join, Guest) if run.signed_in else (Guest,):
        last = reply = yield from run.ask(step(timeout_s))
        if reply.outcome is Outcome.VISIBLE:
            return (yield from _connect(run, reply, step))
        end = _refused(reply, info_active)
        if end.kind is not Kind.GONE or 404 not in run.policy.fallback:
            return end
    return _End(Kind.GONE, last, "poll", info_active)


_FINAL = {
    Failure.UNAUTHORISED: Kind.UNAUTHORISED,
    Failure.FORBIDDEN: Kind.FORBIDDEN,
    Failure.BAD_TOKEN: Kind.BAD_TOKEN,
    Failure.BUDGET: Kind.RATE_LIMITED,
}


def _refused(reply: Reply, info_active: bool) -> _End:
    """What a join request without a token means."""
    if reply.outcome is Outcome.ABSENT:
        return _End(Kind.GONE, reply, "poll", info_active)
    if reply.failure in _FINAL:
        return _End(_FINAL[reply.failure], reply)
    if reply.failure is Failure.RATE_LIMITED or reply.status == 429:
        return _End(Kind.RATE_LIMITED, reply, "error")
    if reply.failure is Failure.CACHED:
        return _End(Kind.GONE, reply, "poll", info_active)
    transient = reply.status is None or reply.status >= 500
    return _End(Kind.API_DOWN, reply, "error" if transient else "")


def _connect(run: _Run, reply: Reply, step: type[Join] | type[Guest]) -> Generator[Step, Reply, _End]:
    """From a token to staying in the room."""
    if not isinstance(reply.token, str) or not reply.token:
        return _End(Kind.BAD_TOKEN, reply)
    joined = Kind.AUTHENTICATED if step is Join else Kind.GUEST_INSTEAD if run.signed_in else Kind.GUEST
    timeout_s = run.policy.connect_timeout_s
    for attempt in range(run.policy.connect_attempts):
        if attempt and run.now > run.deadline:
            break
        signal = yield from run.ask(Signal(reply.token, timeout_s))
        if signal.outcome is Outcome.ABSENT:
            return _End(Kind.GONE, signal, "poll")
        if signal.outcome is Outcome.REFUSED:
            return _End(Kind.BAD_TOKEN, signal)
        if signal.outcome is not Outcome.VISIBLE:
            continue
        media = yield from run.ask(Media(timeout_s))
        if media.failure is Failure.NOT_FOUND:
            return _End(Kind.GONE, media, "poll")
        if media.outcome is not Outcome.VISIBLE and media.failure is not None:
            continue
        stayed = yield from run.ask(Stay(run.policy.stay_s))
        if stayed.outcome is Outcome.VISIBLE:
            return _End(joined, stayed)
    return _End(Kind.LIVEKIT_UNREACHABLE, reply)


def _again(run: _Run, end: _End) -> Generator[Step, Reply, bool]:
    """Whether to ask again, after having waited."""
    gap = _gap_s(run, end)
    round_cost = int(run.policy.ask_info) + int(run.signed_in) + 1
    if gap is None or run.requests + round_cost > run.policy.max_requests:
        return False
    until = run.now + round(gap * SECOND_NS)
    if until > run.deadline:
        return False
    waited = yield from run.ask(Wait(until))
    run.now = max(run.now, waited.at)
    return True


def _gap_s(run: _Run, end: _End) -> float | None:
    policy = run.policy
    if end.again == "poll":
        age = run.waiting_age_s()
        gap = None if age >= policy.give_up_age_s else policy.schedule.gap_s(run.rounds, max(0.0, age), run.rng)
        return None if gap is None else gap * (1 - policy.jitter + 2 * policy.jitter * run.rng.random())
    if end.again == "error" and run.errors < policy.error_retries:
        run.errors += 1
        asked = end.reply.retry_after_s if end.reply else None
        wait_s = policy.error_gap_s * 2.0 ** min(run.errors - 1, 64) if asked is None else asked
        return max(0.0, wait_s) if wait_s <= policy.horizon_s else None  # NaN and infinity are not
    return None


def _verdict(run: _Run, end: _End) -> Verdict:
    age = run.age_s()
    kind = end.kind
    if kind is Kind.GONE:
        kind = Kind.STARTING_UP if (age or 0.0) < run.policy.message_threshold_s else Kind.GONE
    message, retry = _message(run, kind, end)
    return Verdict(
        kind=kind,
        message=message,
        retry_offered=retry,
        room=run.room,
        status=run.nest.status if run.nest else "",
        created_at=run.nest.created_at if run.nest else None,
        age_s=age,
        relays=run.relays,
        attempts=tuple(run.attempts),
        requests=run.requests,
        elapsed_s=(run.now - run.arrived_at) / SECOND_NS,
        last_status=end.reply.status if end.reply else None,
    )


def _message(run: _Run, kind: Kind, end: _End) -> tuple[str, bool]:
    """What the page shows, and whether with a Retry button."""
    if kind in JOINED:
        return (JOINED_AS_GUEST if kind is Kind.GUEST_INSTEAD else ""), False
    if kind in (Kind.STARTING_UP, Kind.GONE):
        if run.policy.wording == "released" and not end.info_active:
            return RELEASED_FAILED, False  # its rule matches other words than the true race's error
        starting = kind is Kind.STARTING_UP
        hint = "" if run.signed_in else SIGN_IN_HINT
        return (STARTING if starting else GONE) + hint, starting
    wait = end.reply.retry_after_s if end.reply else None
    soon = "later" if wait is None or not 0 <= wait < 1e6 else f"in {wait:.0f} s"
    return {
        Kind.NOT_LOADED: LOADING,
        Kind.UNAUTHORISED: "The server did not accept your sign-in. Check your clock and sign in again.",
        Kind.FORBIDDEN: "You are not allowed to join this nest.",
        Kind.RATE_LIMITED: f"Too many requests from your network. Try again {soon}.",
        Kind.API_DOWN: "The nests server does not answer. Try again later.",
        Kind.BAD_TOKEN: "The server gave no usable token for this nest.",
        Kind.LIVEKIT_UNREACHABLE: "The audio server cannot be reached from here.",
    }[kind], False


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
