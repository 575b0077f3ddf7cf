"""The decision of a joiner: what to do next, what to tell the user meanwhile, and how it ended. Pure and stateless.

    info (optional) -> authenticated join if there is an identity -> guest join where the policy falls back (404)
        -> connect -> stop                  |  404 everywhere: wait as the schedule says, until the give-up age
                         |  429: wait as Retry-After says; 5xx, timeout, reset: again, while retries last
                         '- 401, 403: stop, no fallback, no retry

404 everywhere while /info says active has two readings: LiveKit's room is late, which time heals, or the API's joins
are broken, which nothing heals. A witness decides where there is one (LiveKit's list, a seat that somebody has): where
it sees no room that is late; where it sees one only the API's routes can be behind each other. Else time decides: see
`_is_overdue`.

All of it is one function, `next_action`: from a Situation (ages, counts, what was asked last and what came) to an
Action. It keeps no state, so that a client in another language can have the same one (exports/javascript.py);
flow.py keeps the counts. The words are those of the web client.

Two ages: the message and the give-up rule use the age since `created_at`, on the joiner's clock as the web client does,
or on the API's where the joiner knows that its own is off (flow.Reply.ahead_s).
Without an event the client counts age 0 for its message; waiting then counts from arrival, and whether a race may still
go on from when the room was made, where /info or LiveKit's list says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from nestobs.join.policy import Policy, Uniform, growth
from nestobs.observation.duration import SECOND_NS

STARTING = "The nest is still starting up. Please wait a moment and try again."
GONE = "This nest is no longer available. The audio session may have timed out or been closed."
RELEASED_FAILED = "Failed to join nest: Nest not found. The room may not be ready yet or has been closed."
THERE = "The room is there, but the server lets nobody in yet."
NO_ROOM = "The server still lists this nest, but its audio room is not there: it has ended, or it never opened."
LOADING = "Loading nest..."
JOINED_AS_GUEST = "Joined as Guest"
TOAST: Final = {"title": JOINED_AS_GUEST, "description": "You were connected as a guest. Some features may be limited."}
LABELS: Final = {
    "join": "Join Audio",
    "join_as_guest": "Join as Guest",
    "retry": "Retry Connection",
    "retrying": "Retrying...",
    "restart": "Restart Nest",
}
"""Of the page's one button: before the first try, to whoever is not signed in; after one that failed, and during the
next; to the host, where others are given `retry`."""

SIGN_IN_HINT = " Sign in to join with your own account."
TRYING = " Trying again by itself."


class Kind(StrEnum):
    """How a join ended. The first three are joins; `api_fault`: /info says active and no join gets in, for longer than
    a late room explains; `not_loaded`: the client never held the event and offers no join;
    `removed`: in the room, and then sent away; `not_visited`: let in, but a prober has no business there;
    `probe_error`: let in, but the prober failed, which says nothing of the room."""

    AUTHENTICATED = "authenticated"
    GUEST = "guest"
    GUEST_INSTEAD = "guest_instead"
    STARTING_UP = "starting_up"
    GONE = "gone"
    API_FAULT = "api_fault"
    UNAUTHORISED = "unauthorised"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    API_DOWN = "api_down"
    BAD_TOKEN = "bad_token"
    LIVEKIT_UNREACHABLE = "livekit_unreachable"
    NOT_LOADED = "not_loaded"
    REMOVED = "removed"
    NOT_VISITED = "not_visited"
    PROBE_ERROR = "probe_error"


JOINED = frozenset({Kind.AUTHENTICATED, Kind.GUEST, Kind.GUEST_INSTEAD})
OF_A_PROBER: Final = frozenset({Kind.REMOVED, Kind.NOT_VISITED, Kind.PROBE_ERROR})
"""What no status tells: `next_action` of a client that looks at nothing else never ends so."""


MESSAGES: Final = {
    Kind.AUTHENTICATED: "",
    Kind.GUEST: "",
    Kind.GUEST_INSTEAD: JOINED_AS_GUEST,
    Kind.STARTING_UP: STARTING,
    Kind.GONE: GONE,
    Kind.API_FAULT: THERE,
    Kind.UNAUTHORISED: "The server did not accept your sign-in. Check your clock and sign in again.",
    Kind.FORBIDDEN: "You are not allowed to join this nest.",
    Kind.RATE_LIMITED: "Too many requests from your network. Try again {when}.",
    Kind.API_DOWN: "The nests server does not answer. Try again later.",
    Kind.BAD_TOKEN: "The server gave no usable token for this nest.",
    Kind.LIVEKIT_UNREACHABLE: "The audio server cannot be reached from here.",
    Kind.NOT_LOADED: LOADING,
    Kind.REMOVED: "This nest has ended, or you were removed from it.",
    Kind.NOT_VISITED: "",
    Kind.PROBE_ERROR: "",
}
"""What the page shows at the end. {when} is `later` or `in N s`; to a guest SIGN_IN_HINT follows the 404's words."""

WAITING: Final = {
    Kind.STARTING_UP: "The nest is still starting up.",
    Kind.GONE: "The server does not have this nest.",
    Kind.API_FAULT: THERE,
    Kind.RATE_LIMITED: "Too many requests from your network.",
    Kind.API_DOWN: "The nests server does not answer.",
    Kind.GUEST_INSTEAD: "Joined as Guest.",
}
"""What it shows while it waits, and TRYING after it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a race may last where nothing was measured, by how fast the API has shown itself to be.

    Where a witness has seen the room: `factor` times the age at which /info was first seen active, but LEAST_S, and
    `most_s`; from the age `old_s` on, which no race outlives, no more than SURE_S (of a policy whose fault_listed_s is
    measured, from that age on if it is greater). Where there is none: `longer` times the policy's fault_after_s.
    """

    factor: float
    most_s: float
    old_s: float
    longer: float


PACES: Final = {True: Pace(6.0, 30.0, 60.0, 1.0), False: Pace(12.0, 70.0, 120.0, 1.25)}
"""Of somebody signed in, who asks two routes, and of a guest, who asks one. Of 400 000 joins each in races in which all
routes of an API are late independently (the lab's slow-api and flapping-replicas), less than 1 in 1 000 takes longer,
whether asked each second or ever more rarely."""

LEAST_S: Final = 5.0
SURE_S: Final = 1.0
"""Between two looks at least, so that no glitch is called a fault."""


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
    REMOVED = "removed"  # by LiveKit, from the room
    NOT_VISITED = "not_visited"  # by a prober, out of care for who is inside
    PROBE_ERROR = "probe_error"  # the prober's own fault


_KINDS: Final = {
    Answer.UNAUTHORISED: Kind.UNAUTHORISED,
    Answer.FORBIDDEN: Kind.FORBIDDEN,
    Answer.LIMITED: Kind.RATE_LIMITED,
    Answer.SPENT: Kind.RATE_LIMITED,
    Answer.UNANSWERED: Kind.API_DOWN,
    Answer.OTHER: Kind.API_DOWN,
    Answer.BAD_TOKEN: Kind.BAD_TOKEN,
    Answer.UNREACHABLE: Kind.LIVEKIT_UNREACHABLE,
    Answer.REMOVED: Kind.REMOVED,
    Answer.NOT_VISITED: Kind.NOT_VISITED,
    Answer.PROBE_ERROR: Kind.PROBE_ERROR,
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
    info_active: /info said active in this round. active_s: since it was first seen active and did not say otherwise;
    None: it is not known to be. room_there: what a witness says (LiveKit's list, a seat that somebody has); None: there
    is none. there_s: since it is known to be there while /info was active. made_s: since the room was made, as /info or
    LiveKit's list says; None: neither did. host: the joiner is the nest's host. timed_out: what was asked last was not
    answered in time. upgrades: the tries for a seat of one's own since a guest's was taken; None: none was. Right after
    that, `asked` and `answer` are those of the guest join.
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
    active_s: float | None = None
    room_there: bool | None = None
    there_s: float = 0.0
    made_s: float | None = None
    host: bool = False
    timed_out: bool = False
    upgrades: int | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """What to do next. info, join, guest: make that request. connect: with the token that came. wait: for `wait_s`
    seconds, then a new round. stop: the join has ended.

    kind, message, retry_offered: to stop, how it ended and what the page shows, with a Retry button or without; to
    wait, the kind if it ended here, and what the page shows meanwhile; to connect, what holds once the joiner is in.
    """

    do: Literal["info", "join", "guest", "connect", "wait", "stop"]
    wait_s: float = 0.0
    kind: Kind | None = None
    message: str = ""
    retry_offered: bool = False


def next_action(policy: Policy, now: Situation, rng: Uniform) -> Action:  # noqa: PLR0911 - one return per rule
    """The policy's next move. Draws from `rng` only for a wait after a 404: one number for full jitter, then one for
    `jitter`, whether or not the wait then fits into the policy's bounds; from a guest's seat, as after a 404."""
    if now.upgrades is not None:
        return _from_guest_seat(policy, now, rng)
    if not now.asked:
        if policy.load_cutoff_s is not None and now.age_s is None:
            return _tell("stop", Kind.NOT_LOADED, policy, now)
        asks_info = policy.ask_info and now.polls + 1 >= policy.info_from
        return Action("info" if asks_info else "join" if now.signed_in else "guest")
    if now.asked == "info" and now.answer is not Answer.LIMITED:
        return Action("join" if now.signed_in else "guest")
    if now.answer is Answer.GRANTED:
        granted = Kind.AUTHENTICATED if now.asked == "join" else Kind.GUEST_INSTEAD if now.signed_in else Kind.GUEST
        return _tell("connect", granted, policy, now)
    guest_left = now.answer is Answer.ABSENT and now.asked == "join" and 404 in policy.fallback
    if guest_left and _may_fall_back(policy, now):
        return Action("guest")
    if now.answer is Answer.ABSENT and now.asked != "connect" and now.info_active and _is_overdue(policy, now):
        return Action("guest") if guest_left else _tell("stop", Kind.API_FAULT, policy, now)
    young = (now.age_s or 0.0) < policy.message_threshold_s or (_is_active(policy, now) and now.room_there is not False)
    kind = _KINDS.get(now.answer, Kind.STARTING_UP if young else Kind.GONE)
    wait_s = _wait_s(policy, now, rng)
    if wait_s is None:
        return Action("guest") if guest_left else _tell("stop", kind, policy, now)
    return _tell("wait", kind, policy, now, wait_s)


def _from_guest_seat(policy: Policy, now: Situation, rng: Uniform) -> Action:
    """The next move of somebody signed in who has a guest's seat: the own one may still come."""
    if not now.asked:
        return Action("join")
    if now.answer is Answer.GRANTED and now.asked == "join":
        return _tell("connect", Kind.AUTHENTICATED, policy, now)
    wait_s = _wait_s(policy, now, rng) if (now.upgrades or 0) < policy.upgrades else None
    return _tell("stop" if wait_s is None else "wait", Kind.GUEST_INSTEAD, policy, now, wait_s or 0.0)


def _may_fall_back(policy: Policy, now: Situation) -> bool:
    """Whether a 404 to the authenticated join leads to the guest's in this very round."""
    age_s = max(0.0, now.elapsed_s if now.age_s is None else now.age_s)
    return age_s >= policy.fallback_age_s and max(1, now.polls) >= policy.fallback_tries


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


def _is_active(policy: Policy, now: Situation) -> bool:
    """Whether /info is known to say active, to a policy that uses it; that a token leads to no room tells more."""
    return policy.fault_after_s is not None and now.active_s is not None and now.asked != "connect"


def _is_overdue(policy: Policy, now: Situation) -> bool:
    """Whether a late room, or a route behind the others, no longer explains 404s beside an active /info."""
    due_s = _due_s(policy, now)
    return due_s is not None and due_s <= 0


def _due_s(policy: Policy, now: Situation) -> float | None:
    """Seconds until that is so, if all stays as it is; None: it will not be, or the policy does not use /info."""
    if policy.fault_after_s is None or now.active_s is None or now.room_there is False:
        return None
    pace = PACES[now.signed_in]
    due_s = pace.longer * policy.fault_after_s - now.active_s
    if not now.room_there:
        return due_s
    sure_s, measured_s = SURE_S - now.there_s, policy.fault_listed_s
    age_s = now.made_s if now.age_s is None else now.age_s
    if age_s is not None and age_s < now.active_s:  # clocks differ
        age_s = None
    patience_s = pace.most_s if measured_s is None else measured_s
    if measured_s is None and age_s is not None:
        patience_s = max(LEAST_S, min(pace.most_s, pace.factor * (age_s - now.active_s)))
    due_s = min(due_s, max(sure_s, patience_s - now.there_s))
    return due_s if age_s is None else min(due_s, max(sure_s, max(pace.old_s, measured_s or 0.0) - age_s))


def _wait_s(policy: Policy, now: Situation, rng: Uniform) -> float | None:
    """Seconds until the next round; None: there is none."""
    if now.upgrades is not None and now.answer in (Answer.GRANTED, Answer.ABSENT):
        wait_s = _scheduled_s(policy, now, rng)
    elif now.answer is Answer.ABSENT:
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
    """Until the schedule's next round, or until a fault can be told, where that is sooner; also after the schedule's
    last one, where one look more tells it."""
    gap_s, due_s = _scheduled_s(policy, now, rng), _due_s(policy, now)
    if now.asked == "connect" or due_s is None or due_s <= 0:
        return gap_s
    if gap_s is None:
        return due_s if now.info_active and due_s <= SURE_S else None
    return min(gap_s, due_s)


def _scheduled_s(policy: Policy, now: Situation, rng: Uniform) -> float | None:
    age_s = now.elapsed_s if now.age_s is None else now.age_s
    gap_s = None if age_s >= policy.give_up_age_s else policy.schedule.gap_s(now.polls, max(0.0, age_s), rng)
    return None if gap_s is None else gap_s * (1 - policy.jitter + 2 * policy.jitter * rng.random())


def _error_gap_s(policy: Policy, now: Situation) -> float | None:
    asked_s = now.retry_after_s
    wait_s = policy.error_gap_s * growth(2.0, min(now.errors, 64)) if asked_s is None else asked_s
    return max(0.0, wait_s) if wait_s <= policy.horizon_s else None  # NaN and infinity are not


_TIMED_OUT: Final = (Kind.API_DOWN, Kind.LIVEKIT_UNREACHABLE)
"""How a join ends that was not answered in time, whoever did not answer: the page offers Retry."""


def _tell(
    do: Literal["connect", "wait", "stop"], kind: Kind, policy: Policy, now: Situation, wait_s: float = 0.0
) -> Action:
    """The action with the words of its kind."""
    there = kind is Kind.STARTING_UP and _is_active(policy, now) and now.room_there is not False
    hint = "" if now.signed_in or there or kind not in (Kind.STARTING_UP, Kind.GONE) else SIGN_IN_HINT
    matches = (now.info_active and now.asked != "connect") or _is_active(policy, now)
    failed = policy.wording == "released" and not matches  # its rule looks for other words than the true race's error
    again = now.timed_out if kind in _TIMED_OUT else kind in (Kind.STARTING_UP, Kind.GONE) and not failed
    offered = again and not now.host  # to whom it offers "Restart Nest" instead
    if do == "wait":
        return Action(do, wait_s, kind, WAITING[Kind.API_FAULT if there else kind] + TRYING + hint, offered)
    message = MESSAGES[kind]
    if kind is Kind.RATE_LIMITED:
        asked_s = now.retry_after_s
        message = message.format(
            when="later" if asked_s is None or not 0 <= asked_s < 1e6 else f"in {round(asked_s)} s"
        )
    if kind not in (Kind.STARTING_UP, Kind.GONE):
        return Action(do, wait_s, kind, message, offered)
    if failed:
        return Action(do, wait_s, kind, RELEASED_FAILED)
    if _is_active(policy, now):
        message = THERE if there else NO_ROOM if kind is Kind.GONE else message
    return Action(do, wait_s, kind, message + hint, offered)
