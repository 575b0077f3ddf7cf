"""What was answered at the doors, the API's and LiveKit's: by whom, how steadily, and how it stood at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from nestobs.diagnosis.answers import Answer, is_info, is_token, seat_answer, token_answer
from nestobs.diagnosis.facts import Ends, Fact, Had, Key
from nestobs.diagnosis.rows import Row
from nestobs.diagnosis.scene import Evidence, Scene, Step
from nestobs.join.decision import Kind
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Role, Source

_SILENT: Final = (Answer.UNANSWERED, Answer.FOREIGN)
_OWN: Final = (Answer.GRANTED, Answer.ABSENT, Answer.UNAUTHORISED, Answer.FORBIDDEN, Answer.LIMITED, Answer.BAD_TOKEN)


def of_doors(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """What came of each step, how it ended, and what several of them say together."""
    steps: dict[Answer, list[Row]] = {}
    for row, answer in [*scene.tokens, *scene.seats, *_beside(scene)]:
        steps.setdefault(answer, []).append(row)
    for answer, rows in steps.items():
        why = f" ({rows[-1].reason})" if rows[-1].reason else ""
        evidence = scene.say(f"{len(rows)} x {answer.value}, last {scene.at(rows[-1])}{why}", rows)
        yield Had(answer), evidence
        if answer is scene.ending:
            yield Ends(answer), evidence
    if pairs := _listeners(scene):
        said = f"404 to the signed in and a token to the guest, in one join, {scene.at(pairs[-1])}"
        recorded = min((row.received for row in scene.nest.rows if is_info(row) and row.visible), default=None)
        late = recorded is None or recorded > pairs[0].received
        yield (Fact.LISTENER if late else Fact.LISTENER_ALL_THE_SAME), scene.say(said, pairs)
    yield from _split(scene)
    yield from _steadiness(scene)
    yield from _flaps(scene)
    yield from _ourselves(scene)


def _beside(scene: Scene) -> Iterator[Step]:
    """What was answered to what is no join, where that is no proof: it was the same door, the API's or LiveKit's."""
    for row in scene.mine:
        if row.operation == Operation.ROOMS and seat_answer(row) is Answer.LIVEKIT_FOREIGN:
            yield row, Answer.LIVEKIT_FOREIGN
        if row.source == Source.API and not is_token(row) and not row.proof and row.outcome != Outcome.ACCEPTED:
            answer = token_answer(row)
            if answer in _OF_THE_DOOR:
                yield row, answer


_OF_THE_DOOR: Final = (Answer.LIMITED, Answer.UNANSWERED, Answer.FOREIGN, Answer.CACHED_NO)


def _listeners(scene: Scene) -> list[Row]:
    """Of joins of the signed in the guest's tokens that came after a 404 to the signed in, and its verdict. Where the
    join found /info active, the record was there, and the room was what was late."""
    turned: set[str] = set()
    recorded = {row.group for row in scene.mine if is_info(row) and row.visible}
    found = []
    for row in scene.mine:
        if row.role != Role.JOINER or not row.group or row.group in recorded:
            continue
        if row.operation == Operation.JOIN and row.absent:
            turned.add(row.group)
        elif row.operation == Operation.JOIN and row.visible:
            turned.discard(row.group)
        elif (row.operation == Operation.GUEST and row.visible and row.group in turned) or (
            row.text("verdict") == Kind.GUEST_INSTEAD
        ):
            found.append(row)
    return found


SPLIT_S: Final = 1.0
"""The two ways of joining open so far apart at most where they ask for the same."""


def _split(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """Whether guests were let in while the signed in were not, for lack of the record: who falls back is a listener."""
    guest = next((row for row, answer in scene.tokens if row.operation == Operation.GUEST and row.visible), None)
    if guest is None:
        return
    after = [row for row in scene.mine if row.sent >= guest.received and row.source == Source.API and row.proof]
    shown = next((row.received for row in after if is_info(row) and row.visible), None)
    before = [row for row in scene.mine if is_info(row) and row.visible and row.received < guest.received]
    late = [row for row in after if row.absent and (row.operation == Operation.JOIN or is_info(row))]
    late = [row for row in late if shown is None or row.sent < shown]
    if late and not before and (late[-1].sent - guest.received) / SECOND_NS >= SPLIT_S:
        said = f"a token to guests {scene.at(guest)}, and no record {scene.at(late[-1])}"
        yield Fact.SPLIT, scene.say(said, [guest, late[-1]])


def _steadiness(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """Whether the API's own answers stand beside those that are not, before, after, or for others."""
    own = [row for row, answer in scene.tokens if answer in _OWN]
    info = [row for row in scene.mine if is_info(row) and row.proof]
    bad = [row for row, answer in scene.tokens if answer in _SILENT]
    if own or info:
        yield Fact.OWN_ANSWERS, scene.say(f"the API's own answer {scene.at((own or info)[-1])}", (own or info)[-1:])
    if not bad:
        return
    known = sorted([*own, *info], key=lambda row: row.received)
    if known and known[0].sent < bad[0].sent and known[-1].received > bad[-1].received:
        yield Fact.UP_AGAIN, scene.say(f"the API answered again {scene.at(known[-1])}", known[-1:])
    elif not known or known[-1].sent < bad[-1].sent:
        yield Fact.FOREIGN_TO_THE_END, Evidence("")
    others = [
        row
        for row in scene.nest.rows
        if row.vantage != scene.vantage
        and (is_token(row) or is_info(row))
        and row.proof
        and row.received >= bad[0].sent
        and row.sent <= bad[-1].received
    ]
    if others:
        said = f"the API answered {others[-1].vantage} {scene.at(others[-1])}"
        yield Fact.ANSWERED_OTHERS, scene.say(said, others[-1:])


def _flaps(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """404s between answers of one route that showed the nest, where it was the same room, and LiveKit was there."""
    found: list[Row] = []
    for operation in (Operation.INFO, Operation.JOIN, Operation.GUEST):
        proofs = [row for row in scene.mine if row.source == Source.API and row.operation == operation]
        doubted = {row.id for row, answer in scene.tokens if answer is Answer.DOUBTED}
        proofs = [row for row in proofs if row.proof and row.id not in doubted]
        shown = [row for row in proofs if row.visible]
        if len(shown) < 2:
            continue
        between = [r for r in proofs if r.absent and r.sent >= shown[0].received and r.received <= shown[-1].sent]
        if operation == Operation.INFO and len(between) > 1 and _runs(scene, between) > 1:
            said = f"/info answered 404 {len(between)} times between answers that showed it"
            yield Fact.RECORD_FLAPS, scene.say(said, between)
        found += between
    if found:
        found.sort(key=lambda row: row.received)
        said = f"{len(found)} x 404 between answers that showed it, {scene.at(found[0])} the first"
        runs = _runs(scene, found)
        yield (Fact.FLAPS if runs > 1 else Fact.FLAPPED_ONCE), scene.say(said, found)


def _runs(scene: Scene, absents: Sequence[Row]) -> int:
    """In how many stretches the absents lie, apart by an answer that showed it. Many, where they are of /info alone."""
    shown = [row for row in scene.mine if row.source == Source.API and row.visible]
    between = [
        any(first.received <= row.sent and row.received <= second.sent for row in shown)
        for first, second in pairwise(absents)
    ]
    return 1 + sum(between)


HELD_S: Final = 1.0
"""A person who joins notices so much."""

_HELD: Final = frozenset(map(str, (Failure.LOOP_BLOCKED, Failure.SUSPENDED, Failure.CLOCK_STEP, Failure.NO_NETWORK)))


def _ourselves(scene: Scene) -> Iterator[tuple[Key, Evidence]]:
    """What we did to our own watch."""
    around = [row for row in scene.nest.around if row.vantage == scene.vantage]
    mine = [row for row in scene.mine if row.held or row.failure in _HELD]
    if around or mine:
        row = (mine or around)[-1]
        said = f"{len(mine) + len(around)} attempts or times in which we were held up, {scene.at(row)} ({row.reason})"
        yield Fact.HELD_UP, scene.say(said, [*mine, *around])
    joins = [row for row in scene.mine if row.lag_s >= HELD_S and row.role in (Role.JOINER, Role.GUEST)]
    joins = [row for row in joins if not row.absent]  # a no is a no, however late we took notice of it
    if joins:
        longest_s = max(row.lag_s for row in joins)
        said = f"joins stood still for {longest_s:.1f} s with us, {scene.at(joins[-1])}"
        yield Fact.HELD_JOIN, scene.say(said, joins)
    cut = [row for row in around if row.failure == Failure.NO_NETWORK]
    after = [row for row in scene.mine if cut and row.received >= cut[0].sent]
    if any(row.outcome == Outcome.UNKNOWN for row in after) and not any(row.proof for row in after):
        yield Fact.CUT, scene.say(f"nothing was reached from here any more {scene.at(cut[0])} ({cut[0].reason})", cut)
    spoilt = [row for row in scene.verdicts if row.outcome == Outcome.PROBE_ERROR and row.failure != Failure.SKIPPED]
    if spoilt:
        said = f"a join came to nothing {scene.at(spoilt[-1])} ({spoilt[-1].reason})"
        yield Fact.SPOILT, scene.say(said, spoilt)
