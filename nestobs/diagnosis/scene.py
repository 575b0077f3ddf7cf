"""One nest as one vantage saw it: what was asked for a seat, in order, how it ended, and when the doors were shut.

A door is shut while tokens are answered 404. The time before the first token is one such window (`healed`: it was a
race), the time after the last one another. Other vantages are witnesses where a fact is about the deployment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

from nestobs.diagnosis.answers import (
    Answer,
    is_info,
    is_livekit_answer,
    is_livekit_lost,
    is_room,
    is_seat,
    is_token,
    is_verdict,
    seat_answer,
    token_answer,
    verdict_answer,
)
from nestobs.diagnosis.rows import Nest, Row
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Operation, Role

SLACK_S: Final = 2.0
"""What was asked so shortly before or after speaks of the same time."""

TOGETHER_S: Final = 20.0
"""Two ways of joining, asked within so long, are one look at the nest."""

AGAIN_S: Final = 1.5
"""Joins that fail for so long fail again and not once."""

NEAR_S: Final = 15.0
"""So long before and after a failure to reach LiveKit it is taken to be down (intervals/down.DOWN_S)."""

NEW_S: Final = 1.0
"""Who looks at a nest sooner than this sees a race that anybody would notice."""

_NEW: Final = round(NEW_S * SECOND_NS)
_SLACK: Final = round(SLACK_S * SECOND_NS)
_NEAR: Final = round(NEAR_S * SECOND_NS)
Step: TypeAlias = tuple[Row, Answer]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A fact in words, and the ids of the rows that carry it."""

    said: str
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """While tokens were answered 404. healed: a token came after it. rounds: how often both, or all ways, were tried.
    start, end: the first asked, the last answered, ns. ended: when the nest itself ended right after it, ns; 0: it did
    not, or that is part of the window."""

    absents: tuple[Row, ...]
    healed: bool
    after_token: bool
    ended: int = 0

    @property
    def start(self) -> int:
        """When the first was asked."""
        return self.absents[0].sent if self.absents else 0

    @property
    def end(self) -> int:
        """When the last was answered."""
        return self.absents[-1].received if self.absents else 0

    @property
    def rounds(self) -> int:
        """How often the way that was tried most was."""
        by_way = [sum(row.operation == way for row in self.absents) for way in (Operation.JOIN, Operation.GUEST)]
        return max(by_way)

    @property
    def lasts(self) -> bool:
        """Whether they were answered so more than once, and for a while."""
        return self.rounds > 1 and (self.end - self.start) / SECOND_NS >= AGAIN_S


@dataclass(eq=False)
class Scene:
    """A nest from one vantage."""

    nest: Nest
    vantage: str

    @cached_property
    def mine(self) -> list[Row]:
        """The vantage's own rows."""
        return [row for row in self.nest.rows if row.vantage == self.vantage]

    @cached_property
    def tokens(self) -> list[Step]:
        """What the API answered to joins, in order; of joins whose steps nobody kept their verdict. What was under way
        while the nest was deleted says nothing."""
        asked = [row for row in self.mine if is_token(row)]
        groups = {row.group for row in asked}
        deeds = self.nest.deletions
        steps = [(row, self._doubted(row, token_answer(row))) for row in asked if not _under_way(row, deeds)]
        kept = [row for row in self.mine if is_verdict(row) and row.group not in groups]
        steps += [(row, verdict_answer(row)) for row in kept]
        return sorted(steps, key=lambda step: (step[0].received, step[0].id))

    @cached_property
    def _livekit(self) -> tuple[list[int], list[Row]]:
        """Whoever asked LiveKit and was answered or not, in order, and when."""
        rows = [row for row in self.nest.rows if is_livekit_lost(row) or is_livekit_answer(row)]
        return [row.received for row in rows], rows

    def _doubted(self, row: Row, answer: Answer) -> Answer:
        """A 404 proves nothing where LiveKit gave no answer at about that time, and none nearer to it."""
        if answer is not Answer.ABSENT:
            return answer
        at, rows = self._livekit
        place = bisect_left(at, row.received)
        near = sorted(rows[max(0, place - 1) : place + 1], key=lambda each: abs(each.received - row.received))
        if near and is_livekit_lost(near[0]) and abs(near[0].received - row.received) <= _NEAR:
            return Answer.DOUBTED
        return answer

    @cached_property
    def seats(self) -> list[Step]:
        """What LiveKit answered to the vantage's joiners, the host's own connection left out."""
        return [(row, seat_answer(row)) for row in self.mine if is_seat(row) and row.role != Role.HOST]

    @cached_property
    def verdicts(self) -> list[Row]:
        """How its joins ended."""
        return [row for row in self.mine if is_verdict(row)]

    def over_at(self, at: int) -> bool:
        """Whether its host had ended it by then, so that a relay need not have it any more."""
        return any(row.received <= at for row in (*self.nest.deletions, *self.nest.withdrawals))

    @cached_property
    def known_at(self) -> int:
        """From when on it surely was there: made, or shown by anybody, ns."""
        shown = min((row.received for row in self.nest.rows if row.visible), default=self.nest.rows[-1].received)
        return min(shown, self.nest.origin) if self.made_here and self.nest.origin is not None else shown

    @property
    def made_here(self) -> bool:
        """Whether one of the vantages made the nest."""
        return self.nest.origin_kind in ("create", "publish")

    @cached_property
    def came_late(self) -> bool:
        """Whether nobody asked for a seat or a token while it was new, so that a race may have been over by then."""
        first = min((row.sent for row, _ in [*self.tokens, *self.seats]), default=None)
        origin = self.nest.origin if self.made_here else self.nest.room_at
        return first is None or origin is None or first - origin > _NEW

    @cached_property
    def ending(self) -> Answer:
        """How it stood at the end, from here."""
        telling = [step for step in self.tokens if step[1] is not Answer.NOTHING]
        if not telling:
            return self.seats[-1][1] if self.seats else Answer.NOTHING
        answer = self._last_token(telling)
        if answer not in (Answer.GRANTED, Answer.ENTERED):
            return answer
        granted = max(row.sent for row, each in telling if each in (Answer.GRANTED, Answer.ENTERED))
        seats = [each for row, each in self.seats if row.received >= granted]
        return _worst_seat(seats) if seats else answer

    def _last_token(self, telling: Sequence[Step]) -> Answer:
        """Of the last answer of each way: a token where one was given, else the last that is about the nest."""
        last = {row.operation: (row, answer) for row, answer in telling}
        newest = max(row.sent for row, _ in last.values())
        together = [step for step in last.values() if newest - step[0].sent <= TOGETHER_S * SECOND_NS]
        together.sort(key=lambda step: step[0].received)
        good = [answer for _, answer in together if answer in (Answer.GRANTED, Answer.ENTERED)]
        ours = [answer for _, answer in together if answer is not Answer.OURS]
        return (good or ours or [Answer.OURS])[-1]

    @cached_property
    def windows(self) -> list[Window]:
        """When its doors were shut: before somebody was first let in, and after the last was. A 404 that was not heard
        again, and after which other things were answered, shuts no door."""
        let_in = [row for row, answer in self.tokens if answer in _LET_IN]
        shut = [row for row, answer in self.tokens if answer is Answer.ABSENT]
        if not let_in:
            return [*self._before_its_end(shut), *self._standing(shut, after_token=False)]
        first, last = min(row.received for row in let_in), max(row.sent for row in let_in)
        before = tuple(row for row in shut if row.sent < first)
        after = [row for row in shut if row.sent > last] if self.ending not in _LET_IN else []
        found = [Window(before, healed=True, after_token=False)] if before else []
        return found + self._standing(after, after_token=True)

    def _before_its_end(self, shut: Sequence[Row]) -> list[Window]:
        """The window of the 404s while it was there, where it ended before anybody was let in: what shut its doors then
        is another matter than its end."""
        ended = [deed.sent for deed in self.nest.deletions[:1]]
        for which in (is_info, is_room):
            proofs = self.proofs(which)
            shown = [row.received for row in proofs if row.visible]
            if shown and proofs[-1].absent:
                ended.append(shown[-1])
        before = tuple(row for row in shut if ended and row.received <= min(ended))
        window = Window(before, healed=False, after_token=False, ended=min(ended, default=0))
        return [window] if window.lasts and len(before) < len(shut) else []

    def _standing(self, shut: Sequence[Row], *, after_token: bool) -> list[Window]:
        """The window of these 404s to the end, where there is one."""
        if not shut:
            return []
        window = Window(tuple(shut), healed=False, after_token=after_token)
        others = [row for row, answer in self.tokens if answer not in _SAYS_NO and row.sent > window.end]
        return [] if others and not window.lasts else [window]

    # words

    def age_s(self, at: int) -> float:
        """Since the nest was made, or since it was first looked at where that is not known; seconds."""
        return (at - (self.nest.origin if self.nest.origin is not None else self.nest.rows[0].sent)) / SECOND_NS

    def at(self, row: Row) -> str:
        """When a row was answered, in words."""
        return f"at {self.age_s(row.received):.1f} s"

    def say(self, words: str, rows: Iterable[Row], most: int = 6) -> Evidence:
        """Evidence in words; of many rows the first and the last ids."""
        ids = [row.id for row in rows]
        kept = ids if len(ids) <= most else [*ids[: most // 2], *ids[-(most - most // 2) :]]
        return Evidence(words, tuple(kept))

    # witnesses

    def proofs(self, which: Callable[[Row], bool]) -> list[Row]:
        """What any vantage proved of a layer, in order."""
        return [row for row in self.nest.rows if row.proof and which(row)]

    def state_in(self, window: Window, which: Callable[[Row], bool]) -> tuple[bool | None, list[Row]]:
        """Whether a layer showed the nest while the doors were shut, and by which rows; None where nothing tells.

        Of a window that healed: whether it did so before the last 404 was asked. Else by the last proof meanwhile.
        """
        until = min(window.end + _SLACK, window.ended or window.end + _SLACK)
        found = [row for row in self.proofs(which) if row.sent <= until]
        if window.healed:
            asked = window.absents[-1].sent
            early = [row for row in found if row.visible and row.received <= asked]
            if early:
                return True, early
            shut = [row for row in found if row.absent and row.received >= window.start - _SLACK]
            return (False, shut) if shut else (None, [])
        since = window.start if window.after_token else window.start - _SLACK
        found = [row for row in found if row.sent >= since]
        if window.lasts:  # what was shown after the last 404 only, does not contradict it
            found = [row for row in found if row.absent or row.received <= window.absents[-1].sent]
        if not found:
            return None, []
        told = [row for row in found if row.visible is found[-1].visible]
        return found[-1].visible, told


def _under_way(row: Row, deeds: Sequence[Row]) -> bool:
    return any(row.received >= deed.sent and row.sent <= deed.received for deed in deeds)


_LET_IN: Final = (Answer.GRANTED, Answer.ENTERED, Answer.BAD_TOKEN)
"""What ends a 404: a token, if only one that is of no use."""

_SAYS_NO: Final = (Answer.ABSENT, Answer.DOUBTED, Answer.CACHED_NO, Answer.OURS, Answer.NOTHING)
_SEATED: Final = (Answer.ENTERED, Answer.MEDIA, Answer.VALIDATED)


def _worst_seat(seats: Sequence[Answer]) -> Answer:
    """What became of the last seat: how it was lost; that media failed where only they did."""
    last = seats[-1]
    if last in _SEATED and Answer.MEDIA_FAILED in seats and Answer.MEDIA not in seats:
        return Answer.MEDIA_FAILED
    return last
