"""What came of the steps of a throwaway room, judged. Pure: from what was tried to steps with their causes.

A race and a standing fault look alike for a while, so what is absent is judged by what else is there, and by how long
that went on:

    joins 404, /info shows it and LiveKit has it    the API fails its joins: nothing that is missing could still come
    joins 404, /info does not show it               the API's record is late: a race, which may still end
    joins 404, LiveKit does not have it             LiveKit's room is late, or has ended: likewise

Only the first is called a fault, and only where it went on PATIENT times as long as the other parts took to show the
room: where they came after seconds, a join that comes after more of them is a race like theirs. Of the others it is
said for how long they were watched. Without LiveKit's key, a visit by the token of the PUT tells whether the room was
there before the visitor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from nestobs.collector.doctor.aftermath import deleted, restarted, withdrawn
from nestobs.collector.doctor.publication import published
from nestobs.collector.doctor.room import Tried
from nestobs.collector.doctor.steps import ASKED, NO_AWAIT, Log, Step, answer, failed
from nestobs.diagnosis import Cause
from nestobs.observation import reasons
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Observation, Operation, Outcome

NO_SDK_CALL: Final = (
    "a release of the Nests API (Node) whose joins call what its LiveKit SDK does not have, and answer every error of "
    "theirs as 404"
)
TOKEN: Final = '200 {"token": a JWT for this room}'
MADE: Final = '200 {"roomId", "endpoints", "token": a JWT for that room}'

PATIENT, LEAST_S = 5.0, 5.0
"""How many times as long as its other parts a join may take, and how long in any case, before it is called a fault."""

OLD_S: Final = 2
"""A room that LiveKit says is so much older than a visit (its stamps are whole seconds) was not made by the visit."""

WHOSE: Final = {"create": "the PUT's token", "join": "a joiner's token", "guest": "a guest's token"}


def judge(tried: Tried, log: Log) -> list[Step]:
    """Each step with its cause, in the order in which they were taken."""
    created = _created(tried, log)
    if not tried.trace.room:
        return [created]
    joins = [_joined(step, tried, log) for step in ("join", "guest")]
    ends = [restarted(tried, log), deleted(tried, log), *withdrawn(tried)]
    return [
        created,
        *published(tried, log),
        _informed(tried, log),
        *joins,
        _listed(tried, log),
        *_visited(tried, log),
        *ends,
    ]


def _created(tried: Tried, log: Log) -> Step:
    rows, token = tried.of("create"), tried.tokens.get("create")
    if not rows:
        return Step(name="create", state="unsaid", said="no PUT was sent", cause=Cause.OBSERVER_FAULT)
    row = rows[-1]
    if token is None:
        nameless = row.outcome is Outcome.ACCEPTED
        said = replace(row, failure=Failure.UNEXPECTED, reason="the answer names no room") if nameless else row
        return failed("create", said, rows, log, MADE)
    if token.trouble:
        return _troubled("create", f"the room is made, but {token.trouble}", token.cause, tried, log, should=MADE)
    took_s = ((row.received_at or row.sent_at) - row.sent_at) / SECOND_NS
    return Step(name="create", state="good", said=f"a room and a token for it, in {took_s:.2f} s")


def _troubled(step: str, said: str, cause: str, tried: Tried, log: Log, *, should: str) -> Step:
    """A token that lets nobody in."""
    row = tried.of(step)[-1]
    return Step(
        name=step,
        state="bad",
        said=said,
        cause=cause,
        asked=ASKED[row.operation],
        answered=f"{answer(row)}: {tried.tokens[step].trouble}",
        should=should,
        looks_like=NO_AWAIT if "(`{}`)" in said else "",
        evidence=log.cite(tried.of(step)),
    )


def _seen(step: str, tried: Tried, log: Log) -> Step:
    """Of a way that showed the room: whether at once, or after a while."""
    rows = tried.of(step)
    late = [row for row in rows if row.outcome is Outcome.ABSENT]
    said = f"shown at {log.age_s(rows[-1]):.1f} s"
    said += f", absent until {log.age_s(late[-1]):.1f} s: the race, which time heals" if late else ""
    return Step(name=step, state="good", said=said, evidence=log.cite(rows) if late else ())


def _unasked(step: str, tried: Tried) -> Step:
    return Step(name=step, state="unsaid", said=f"not asked: {tried.ended or 'no request or time was left'}")


def _watched(rows: Sequence[Observation], log: Log) -> str:
    return f"asked {len(rows)} times until {log.age_s(rows[-1]):.1f} s"


def _informed(tried: Tried, log: Log) -> Step:
    if not (rows := tried.of("info")):
        return _unasked("info", tried)
    should = "200 with our key as `host`, within a second of the PUT"
    step = partial(Step, name="info", asked=ASKED[Operation.INFO], should=should, evidence=log.cite(rows))
    row = rows[-1]
    if row.outcome is Outcome.VISIBLE:
        told = facts_of(row.detail).get("info")
        if isinstance(told, dict) and told.get("host") == tried.host:
            return _seen("info", tried, log)
        said = "it shows the room under another host than the key that made it"
        return step(state="bad", said=said, cause=Cause.ROOM_ID_MISMATCH, answered=said)
    if row.outcome is not Outcome.ABSENT:
        return failed("info", row, rows, log, should)
    joins = ", though joins work" if tried.shows("join") or tried.shows("guest") else ""
    said = f"404, {_watched(rows, log)}{joins}: its record is late, or never comes"
    return step(state="unsaid", said=said, cause=Cause.API_BEHIND_LIVEKIT, answered=answer(row))


def _joined(name: str, tried: Tried, log: Log) -> Step:
    if not (rows := tried.of(name)):
        return _unasked(name, tried)
    row, token = rows[-1], tried.tokens.get(name)
    if row.outcome is Outcome.VISIBLE and token is not None and token.trouble:
        return _troubled(name, token.trouble, token.cause, tried, log, should=TOKEN)
    if row.outcome is Outcome.VISIBLE:
        return _seen(name, tried, log)
    if row.outcome is not Outcome.ABSENT:
        return failed(name, row, rows, log, TOKEN)
    return _absent(name, tried, log)


def _absent(name: str, tried: Tried, log: Log) -> Step:
    """A join that answers 404 to the last: a fault only where nothing is missing that could still come."""
    rows, (there, room) = tried.of(name), _room_was_there(tried)
    info = next((row for row in tried.of("info") if row.outcome is Outcome.VISIBLE), None)
    step = partial(
        Step,
        name=name,
        asked=f"{ASKED[rows[-1].operation]}, {len(rows)} times until {log.age_s(rows[-1]):.1f} s",
        answered=answer(rows[-1]),
        evidence=(*log.cite([info] if info else []), *log.cite(room), *log.cite(rows)),
    )
    watched = f"404, {_watched(rows, log)}"
    if info is None:
        said = f"{watched}; /info does not show the room either: its record is late, or never comes"
        return step(state="unsaid", said=said, cause=Cause.API_BEHIND_LIVEKIT, should=TOKEN)
    if there is False:
        ended = any(row.outcome is Outcome.VISIBLE for row in tried.of("list"))
        said, cause = (
            (" no longer lists it", Cause.ROOM_EXPIRED)
            if ended
            else (" does not list it yet, or never will", Cause.LIVEKIT_BEHIND_API)
        )
        return step(
            state="unsaid", said=f"{watched}; /info shows the room, and LiveKit{said}", cause=cause, should=TOKEN
        )
    if there is None:
        said = f"{watched}; /info shows the room: the API fails its joins, or LiveKit's room is late"
        return step(
            state="unsaid", said=said, should=TOKEN, cause=Cause.API_JOIN_FAULT, or_else=Cause.LIVEKIT_BEHIND_API
        )
    own = "LiveKit lists it" if tried.lists_rooms else "LiveKit had it before anybody came"
    should, took_s = f"{TOKEN}, as /info shows the room and {own}", max(log.age_s(info), log.age_s(room[0]))
    if log.age_s(rows[-1]) < max(LEAST_S, PATIENT * took_s):
        said = f"{watched}; the room's other parts came as late as {took_s:.1f} s: a late join, or one that fails"
        return step(
            state="unsaid", said=said, should=should, cause=Cause.API_JOIN_FAULT, or_else=Cause.API_BEHIND_LIVEKIT
        )
    said = f"{watched}, of a room that is there: /info shows it, {own}"
    return step(state="bad", said=said, cause=Cause.API_JOIN_FAULT, should=should, looks_like=NO_SDK_CALL)


def _room_was_there(tried: Tried) -> tuple[bool | None, list[Observation]]:
    """Whether LiveKit had the room before anybody visited it, None where that is not known; and by which rows."""
    listed = [row for row in tried.of("list") if row.outcome in (Outcome.VISIBLE, Outcome.ABSENT)]
    if listed:
        first = next((row for row in listed if row.outcome is listed[-1].outcome), listed[-1])
        return listed[-1].outcome is Outcome.VISIBLE, [first]
    visits = (row for row in tried.visits.values() if row.outcome is Outcome.VISIBLE and row.remote_at is not None)
    for visit in visits:
        if visit.remote_at is not None and visit.sent_at - visit.remote_at > OLD_S * SECOND_NS:
            return True, [replace(visit, received_at=max(visit.remote_at, tried.origin))]
    return None, []


def _listed(tried: Tried, log: Log) -> Step:
    rows = tried.of("list")
    if not rows and tried.lists_rooms:
        return _unasked("list", tried)
    if not rows:
        return Step(name="list", state="skipped", said="LiveKit's list was not asked: that takes its key")
    row = rows[-1]
    if row.outcome is Outcome.VISIBLE:
        return _seen("list", tried, log)
    should = "the room that the PUT made"
    step = partial(Step, name="list", asked="ListRooms", answered=answer(row), should=should, evidence=log.cite(rows))
    if row.outcome is not Outcome.ABSENT:
        ours = row.outcome is Outcome.PROBE_ERROR
        theirs = Cause.AUTH_REJECTED if row.outcome is Outcome.REFUSED else Cause.LIVEKIT_UNREACHABLE
        cause = Cause.OBSERVER_FAULT if ours else theirs
        return step(state="unsaid" if ours else "bad", said=row.reason, cause=cause)
    if any(each.outcome is Outcome.VISIBLE for each in rows):
        said = f"LiveKit no longer lists the room at {log.age_s(row):.1f} s, and nobody has ended it"
        return step(state="bad", said=said, cause=Cause.ROOM_EXPIRED)
    said = f"LiveKit does not list the room at {log.age_s(row):.1f} s: it is late, or never comes"
    return step(state="unsaid", said=said, cause=Cause.LIVEKIT_BEHIND_API)


def _visited(tried: Tried, log: Log) -> list[Step]:
    """One step for all tokens that let their bearer in, and one for each that does not."""
    why = tried.skipped.get("visit") or (tried.ended or "there was no token to go in with" if not tried.visits else "")
    if why:
        return [Step(name="visit", state="skipped", said=f"nobody went in: {why}")]
    visits = {step: row for step, row in tried.visits.items() if step in WHOSE}
    let_in = [WHOSE[step] for step, row in visits.items() if row.outcome is Outcome.VISIBLE]
    good = [Step(name="visit", state="good", said=f"LiveKit lets in by {', '.join(let_in)}; media was not tried")]
    kept_out = [_kept_out(step, row, log) for step, row in visits.items() if row.outcome is not Outcome.VISIBLE]
    return [*(good if let_in else []), *kept_out]


def _kept_out(whose: str, row: Observation, log: Log) -> Step:
    if row.outcome is Outcome.PROBE_ERROR:
        return Step(name="visit", state="unsaid", said=row.reason, cause=Cause.OBSERVER_FAULT)
    cause = Cause.LIVEKIT_UNREACHABLE
    if reasons.OTHER_ROOM in row.reason:
        cause = Cause.WRONG_ROOM_TOKEN
    elif row.outcome is Outcome.REFUSED:
        cause = Cause.AUTH_CLOCK_SKEW if reasons.NOT_YET_VALID in row.reason else Cause.BAD_TOKEN
    elif row.outcome is Outcome.ABSENT:
        cause = Cause.ROOM_EXPIRED
    return Step(
        name="visit",
        state="bad",
        said=f"with {WHOSE[whose]}: {row.reason}",
        cause=cause,
        asked=f"LiveKit's signalling (/rtc), with {WHOSE[whose]}",
        answered=answer(row),
        should="a JoinResponse for this room",
        evidence=log.cite([row]),
    )
