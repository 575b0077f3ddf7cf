"""What an API that counts requests by address makes of a crowd: who is let through, who is told 429, what it sees.

The window of an address begins with its first request; `Limit.requests` are answered in it, all others refused, and the
first one after its end begins the next. So once somebody was refused all later ones of that window are, and windows can
be settled one after the other, of all addresses at once: in each the requests in order of time are let through up to
the limit, of each joiner refused the first refusal counts and what would have followed falls away, and whoever the
policy has ask again begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from nestobs.observation.arrays import Flags, Floats, Ints
from nestobs.observation.duration import SECOND_NS
from nestobs.tuning.herd.laws import Limit
from nestobs.tuning.herd.rounds import INSTEAD, LIMITED, Ends, Joiners, Play, Rounds

_NEVER: Final = np.iinfo(np.int64).min
_BEYOND: Final = 2**63


@dataclass(slots=True)
class Seen:
    """What the server saw of a part of a crowd, instants in ns since the nest was made.

    answered, refused: of each request that was let through and that was not, when it was sent, unsorted. asked, denied:
    shape (addresses,), the requests of each, and those refused; most: of one window, of one never refused in all.
    pause_s: shape (n,), what each joiner was told to wait when refused last; NaN where it was not told.
    """

    answered: list[Ints]
    refused: list[Ints]
    asked: Ints
    denied: Ints
    most: Ints
    pause_s: Floats
    played: int


@dataclass(slots=True)
class _Requests:
    """Requests that have not been settled: when, of which round, and the how-manieth in it."""

    at: Ints
    row: Ints
    nth: Ints

    def take(self, keeps: Flags | Ints) -> _Requests:
        return _Requests(self.at[keeps], self.row[keeps], self.nth[keeps])

    def and_(self, other: _Requests) -> _Requests:
        return _Requests(*(np.concatenate(both) for both in zip(self.parts, other.parts, strict=True)))

    @property
    def parts(self) -> tuple[Ints, Ints, Ints]:
        return self.at, self.row, self.nth


def answer(play: Play, joiners: Joiners, ends: Ends, limit: Limit, people: int) -> Seen:
    """Let joiners, of whom each `people` one after the other share an address, ask until all have ended; how they end
    is written to `ends`."""
    n = len(joiners.number)
    addresses = -(-n // people)
    rounds = play.play(joiners, ends)
    demand = np.bincount(rounds.who // people, weights=rounds.size, minlength=addresses).astype(np.int64)
    none = np.zeros(addresses, dtype=np.int64)
    seen = Seen(
        answered=[],
        refused=[],
        asked=demand,
        denied=none,
        most=demand.copy(),
        pause_s=np.full(n, np.nan),
        played=int(demand.sum()),
    )
    tight = demand > limit.requests
    free = ~tight[rounds.who // people]
    seen.answered.append(_expanded(rounds, np.flatnonzero(free), play.late).at)
    if tight.any():
        seen.asked[tight] = seen.most[tight] = 0
        _Settling(play=play, joiners=joiners, ends=ends, limit=limit, people=people, seen=seen, rounds=rounds).run(
            np.flatnonzero(~free)
        )
    return seen


def _expanded(rounds: Rounds, rows: Ints, late: int) -> _Requests:
    """The requests of some rounds."""
    row = np.repeat(rows, rounds.size[rows])
    begins = np.cumsum(rounds.size[rows]) - rounds.size[rows]
    nth = np.arange(len(row)) - np.repeat(begins, rounds.size[rows])
    return _Requests(rounds.begin[row] + nth * late, row, nth)


@dataclass(slots=True)
class _Settling:
    """The addresses that ask for more than their limit, window by window."""

    play: Play
    joiners: Joiners
    ends: Ends
    limit: Limit
    people: int
    seen: Seen
    rounds: Rounds
    until: Ints = field(init=False)
    used: Ints = field(init=False)

    def run(self, rows: Ints) -> None:
        """Until nobody asks any more."""
        self.until = np.full(len(self.seen.asked), _NEVER)
        self.used = np.zeros(len(self.seen.asked), dtype=np.int64)
        left = _expanded(self.rounds, rows, self.play.late)
        while len(left.at):
            left = self._window(left)

    def _window(self, left: _Requests) -> _Requests:
        """Settle what lies in each address's window, the present one or the next; what is left then."""
        address = self.rounds.who[left.row] // self.people
        order = _ordered(address, left.at, self.play.late)
        left, address = left.take(order), address[order]
        first = np.flatnonzero(np.append(True, address[1:] != address[:-1]))
        here = address[first]
        new = left.at[first] >= self.until[here]
        opened = here[new]
        self.until[opened] = left.at[first[new]] + round(self.limit.window_s * SECOND_NS)
        self.used[opened] = 0
        inside = left.at < self.until[address]
        rank = np.arange(len(address)) - np.repeat(first, np.diff(np.append(first, len(address))))
        passed = inside & (rank + self.used[address] < self.limit.requests)
        rows, which = left.row[inside & ~passed], np.flatnonzero(inside & ~passed)
        who, at = np.unique(self.rounds.who[rows], return_index=True)  # the first refusal of each: they are in order
        cut = left.take(which[at])
        size = len(self.used)
        denied = np.bincount(address[which[at]], minlength=size)
        asked = np.bincount(address[passed], minlength=size) + denied
        self.used += asked
        self.seen.asked += asked
        self.seen.denied += denied
        self.seen.most = np.maximum(self.seen.most, self.used)
        self.seen.answered.append(left.at[passed])
        self.seen.refused.append(cut.at)
        gone = np.zeros(len(self.joiners.number), dtype=np.bool_)
        gone[who] = True
        later = left.take(~inside & ~gone[self.rounds.who[left.row]])
        return later.and_(self._again(cut)) if len(who) else later

    def _again(self, cut: _Requests) -> _Requests:
        """The requests of those refused who ask again; the others end."""
        rounds, who = self.rounds, self.rounds.who[cut.row]
        now = cut.at + self.play.late
        pause_s = None
        if self.limit.retry_after:
            pause_s = np.ceil((self.until[who // self.people] - cut.at) / SECOND_NS)
            self.seen.pause_s[who] = pause_s
        seated = rounds.seated[cut.row]
        self.ends.kind[who] = np.where(seated, INSTEAD, LIMITED)
        self.ends.at[who] = np.where(seated, self.ends.at[who], now)
        asks = ~seated
        stand = Joiners(
            number=who,
            there=self.joiners.there[who],
            arrived=self.joiners.arrived[who],
            now=now,
            polls=rounds.polls[cut.row],
            requests=rounds.requests[cut.row] + cut.nth + 1,
            errors=rounds.errors[cut.row],
            stays=rounds.stays[cut.row],
            patience=self.joiners.patience[who],
        ).take(asks)
        _, waits = self.play.refused(stand, None if pause_s is None else pause_s[asks])
        made = self.play.play(waits, self.ends)
        known = len(rounds.who)
        self.seen.played += int(made.size.sum())
        self.rounds = Rounds.joint([rounds, made])
        return _expanded(self.rounds, np.arange(known, known + len(made.who)), self.play.late)


def _ordered(address: Ints, at: Ints, late: int) -> Ints:
    """By address, then by time. Where requests take no time, those of one round stay in order."""
    begin, span = int(at.min()), int(at.max() - at.min()) + 1
    if not late or int(address.max() + 1) * span >= _BEYOND:
        return np.asarray(np.lexsort((at, address)))
    return np.asarray(np.argsort(address * span + (at - begin)))
