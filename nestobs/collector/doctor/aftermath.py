"""What a restart and a DELETE of a throwaway room did, and what became of its event. Pure.

Neither's word is enough: a released API answers 200 to a restart that restarted nothing, since LiveKit's room is the
same (its sid) as before; an API may drop its record and leave the room, or the room and leave the record; a web page
answers 200 to a DELETE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from nestobs.collector.doctor.room import Tried
from nestobs.collector.doctor.steps import ASKED, LEAVES_EVENT, LEAVES_RECORD, LEAVES_ROOM, Log, Step, answer, failed
from nestobs.collector.restart import no_route
from nestobs.collector.undo.withdrawal import State
from nestobs.diagnosis import Cause
from nestobs.observation.schema import Failure, Observation, Operation, Outcome

NO_DELETE: Final = "the releases of the Nests API (Node) whose restart skips the delete and creates what is there"
MADE_ANEW: Final = "200 as to a PUT, and a room of that name with another sid"
TAKEN_BACK: Final = "a version that says closed, then kind 5 with `e` and `a`"
GONE: Final = "204, and neither LiveKit's room nor the API's record"


def restarted(tried: Tried, log: Log) -> Step:
    """Whether the restart made the room anew, and left it joinable."""
    done, again = tried.restart, tried.of("join after restart")
    if done is None:
        said = tried.skipped.get("restart") or tried.ended or "not tried"
        return Step(name="restart", state="skipped", said=said)
    if not done.has_route:
        return Step(name="restart", state="note", said=done.words())
    if done.row.outcome is not Outcome.ACCEPTED:
        return failed("restart", done.row, [done.row], log, MADE_ANEW)
    token, said, state, cause = tried.tokens.get("restart"), done.words(), "bad", done.cause
    if not cause and token is not None and token.trouble:
        said, cause = f"HTTP 200, and {token.trouble}", token.cause
    elif not cause and not done.known:
        state, cause = "unsaid", Cause.UNDETERMINED
    elif not cause and tried.shows("guest") and again and again[-1].outcome is Outcome.ABSENT:
        said += f"; a join {log.age_s(again[-1]) - log.age_s(done.row):.1f} s after it is answered 404"
        state, cause = "unsaid", Cause.RESTART_WINDOW
    elif not cause:
        return Step(name="restart", state="good", said=said)
    return Step(
        name="restart",
        state="bad" if state == "bad" else "unsaid",
        said=said,
        cause=cause,
        asked=ASKED[Operation.RESTART],
        answered=said,
        should=MADE_ANEW,
        looks_like=NO_DELETE if cause == Cause.RESTART_WITHOUT_EFFECT else "",
        evidence=(*log.cite([done.row, *done.looks]), *log.cite(again)),
    )


def deleted(tried: Tried, log: Log) -> Step:
    """Whether DELETE took the room away, and the record."""
    rows = tried.of("delete")
    if not rows:
        limited = any(
            row.failure is Failure.RATE_LIMITED for name in ("info", "join", "guest") for row in tried.of(name)
        )
        cause = Cause.RATE_LIMITED if limited else Cause.OBSERVER_FAULT
        return Step(name="delete", state="unsaid", said="not sent: there was no time for it", cause=cause)
    row, listed, record = rows[-1], tried.last("list after delete"), tried.last("info after delete")
    if no_route(row):
        return Step(name="delete", state="note", said="this API has none: a room ends by LiveKit, or its empty timeout")
    looked = (*tried.of("list after delete"), *tried.of("info after delete"))
    step = partial(
        Step, name="delete", asked=ASKED[Operation.DELETE], should=GONE, evidence=(*log.cite(rows), *log.cite(looked))
    )
    shown = any(each.outcome is Outcome.VISIBLE for name in ("info", "join", "guest") for each in tried.of(name))
    if row.outcome is Outcome.ABSENT:
        said = f"{answer(row)}" + ("" if shown else ": the API does not show the room that it made")
        cause = Cause.REPLICAS_DISAGREE if shown else Cause.API_BEHIND_LIVEKIT
        return step(state="bad" if shown else "unsaid", said=said, cause=cause, answered=answer(row))
    if row.outcome is not Outcome.ACCEPTED:
        return replace(failed("delete", row, rows, log, GONE), evidence=step(state="bad", said="").evidence)
    return _gone(f"HTTP {row.status}", listed, record, log, step)


def _gone(
    answered: str, listed: Observation | None, record: Observation | None, log: Log, step: Callable[..., Step]
) -> Step:
    """Whether what was deleted is gone, by what was seen last of LiveKit's list and of the API's record."""
    for seen, what, id_ in ((listed, "LiveKit still lists", LEAVES_ROOM), (record, "/info still shows", LEAVES_RECORD)):
        if seen is not None and seen.outcome is Outcome.VISIBLE:
            said = f"{answered}, and {what} the room at {log.age_s(seen):.1f} s"
            return step(state="bad", said=said, cause=id_, answered=said)
    unproved = [each for each in (listed, record) if each is not None and each.outcome is not Outcome.ABSENT]
    if unproved or record is None:
        said = f"{answered}; whether it is gone is not known" + (f": {unproved[0].reason}" if unproved else "")
        return step(state="unsaid", said=said, cause=Cause.UNDETERMINED)
    where = "/info and from LiveKit's list" if listed is not None else "/info; LiveKit's list takes its key"
    return Step(name="delete", state="good", said=f"gone from {where}")


def withdrawn(tried: Tried) -> list[Step]:
    """What the relays show of the event after it was taken back: one step for all that do not, one for each other."""
    if not tried.found and not tried.holders:
        return [Step(name="event", state="skipped", said="no relay has it, so there was nothing to take back")]
    if not tried.found:
        said = "what became of it is not known: no time was left to read it back"
        return [Step(name="event", state="unsaid", said=said)]
    gone = len([each for each in tried.found if each.taken_back])
    steps = [Step(name="event", state="good", said=f"withdrawn, and so on {gone} relays")] if gone else []
    for each in tried.found:
        why = f": {each.why}" if each.why else ""
        if each.state is State.OPEN:
            said = f"{each.url} still shows it open{why}"
            left = Step(name="event", state="bad", said=said, cause=LEAVES_EVENT, answered=said, asked=TAKEN_BACK)
            steps.append(replace(left, should="no version, or a closed one"))
        elif each.state is State.UNKNOWN:
            steps.append(Step(name="event", state="unsaid", said=f"not known of {each.url}{why}"))
    return steps
