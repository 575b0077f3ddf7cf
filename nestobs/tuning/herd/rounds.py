"""What many joiners do under one policy, as arrays: the join core (join/decision.py, join/flow.py) of a whole crowd.

A nest answers 404 to every request before the age at which it can be joined, and lets in who asks from then on; an
address that has asked too often is answered 429 (server.py). In that world a join is a row of *rounds*: up to three
requests, a round trip apart, then a wait or an end. All rounds are played as if nothing were refused; who is refused
plays on from there.

The same rules as the join core, to the nanosecond: tests hold each policy against it. What is left out, for this world
cannot show it, is a standing fault (/info is active only once joins succeed) and failures of requests and connections.
One thing is simpler: whoever sits as a guest and asks once more for a seat of their own, and is refused, stays a guest.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from scipy import special

from nestobs.join.decision import Kind, round_cost
from nestobs.join.policy import Person, Policy, Schedule, growth
from nestobs.observation.arrays import Flags, Floats, Ints
from nestobs.observation.duration import SECOND_NS
from nestobs.tuning.simulation import GRAIN_S

KINDS: Final = (
    Kind.AUTHENTICATED,
    Kind.GUEST,
    Kind.GUEST_INSTEAD,
    Kind.STARTING_UP,
    Kind.GONE,
    Kind.RATE_LIMITED,
)
"""How a join can end here; results name them by their place."""

SEATED: Final = 3
"""So many of KINDS, from the first, are joins."""

_GRAIN: Final = round(GRAIN_S * SECOND_NS)
_OWN, _GUEST, INSTEAD, _STARTING, _GONE, LIMITED = range(len(KINDS))


@dataclass(slots=True)
class Joiners:
    """Where joiners stand who are about to begin a round; all of shape (n,). Instants are ns since the nest was made.

    number: which of all. there: from when the nest can be joined. polls, requests, errors: as in decision.Situation.
    stays, patience: of the policy's person, as in flow.py.
    """

    number: Ints
    there: Ints
    arrived: Ints
    now: Ints
    polls: Ints
    requests: Ints
    errors: Ints
    stays: Floats
    patience: Floats

    @property
    def age_s(self) -> Floats:
        """The nest's, by the client's reckoning, now."""
        return (self.now + _GRAIN) / SECOND_NS

    def take(self, keeps: Flags | Ints) -> Joiners:
        """Some of them."""
        return Joiners(*(getattr(self, spec.name)[keeps] for spec in fields(self)))


@dataclass(slots=True)
class Rounds:
    """Rounds of joiners, all of shape (k,): `size` requests, the first at `begin`, the others a round trip apart.

    who: whose (Joiners.number). polls: as it begins counted; requests, errors, stays: before it. seated: it asks for an
    own seat from a guest's.
    """

    who: Ints
    begin: Ints
    size: Ints
    polls: Ints
    requests: Ints
    errors: Ints
    stays: Floats
    seated: Flags

    @classmethod
    def joint(cls, parts: list[Rounds]) -> Rounds:
        """Of several; at least one."""
        return cls(*(np.concatenate([getattr(part, spec.name) for part in parts]) for spec in fields(cls)))


@dataclass(slots=True)
class Ends:
    """How each joiner's join ends, of shape (n,): its kind by its place in KINDS, and when (a seat: its token)."""

    kind: Ints
    at: Ints


class Play:
    """One policy, played by arrays of joiners. late: a round trip, ns."""

    def __init__(self, policy: Policy, *, signed_in: bool, late: int, rng: np.random.Generator) -> None:
        self.policy, self.signed_in, self.late = policy, signed_in, late
        self._rng = rng
        self._cost = round_cost(policy, signed_in)
        self._gaps = _Gaps(policy.schedule, policy.max_requests)
        self._horizon = round(policy.horizon_s * SECOND_NS)
        self._falls = 404 in policy.fallback

    def arrive(self, arrived: Ints, there: Ints) -> Joiners:
        """Joiners who come at these instants."""
        n = len(arrived)
        zero = np.zeros(n, dtype=np.int64)
        patience = self._rng.random(n) if self.policy.person is not None else np.zeros(n)
        return Joiners(
            number=np.arange(n),
            there=there,
            arrived=arrived,
            now=arrived,
            polls=zero,
            requests=zero,
            errors=zero,
            stays=np.ones(n),
            patience=patience,
        )

    def play(self, joiners: Joiners, ends: Ends) -> Rounds:
        """All their rounds, were nothing refused; how they end is written to `ends`."""
        made = [_rounds(joiners.take(np.zeros(0, dtype=np.int64)), 0)]
        while len(joiners.number):
            joiners = self._round(joiners, ends, made)
        return Rounds.joint(made)

    def refused(self, joiners: Joiners, wait_s: Floats | None) -> tuple[Flags, Joiners]:
        """Who of those answered 429 just now asks again, and where these then stand. wait_s: what the answer says."""
        policy = self.policy
        if wait_s is None:
            wait_s = policy.error_gap_s * np.array([growth(2.0, min(int(e), 64)) for e in joiners.errors])
        again = (joiners.errors < policy.error_retries) & (wait_s <= policy.horizon_s)
        wait = np.rint(np.where(again, wait_s, 0.0) * SECOND_NS).astype(np.int64)
        again &= self._fits(joiners, wait)
        waits = joiners.take(again)
        waits.now = waits.now + wait[again]
        waits.errors = waits.errors + 1
        return again, waits

    def _round(self, all_: Joiners, ends: Ends, made: list[Rounds]) -> Joiners:
        """One round of each: who goes on, and where they then stand."""
        policy, late = self.policy, self.late
        polls = all_.polls + 1
        info = (polls >= policy.info_from) if policy.ask_info else np.zeros(len(polls), dtype=np.bool_)
        asked = all_.now + info * late
        falls = np.ones(len(polls), dtype=np.bool_)
        own = np.zeros(len(polls), dtype=np.bool_)
        guest_at = asked
        if self.signed_in:
            own = asked >= all_.there
            guest_at = asked + late
            age_s = (guest_at + _GRAIN) / SECOND_NS
            falls = (age_s >= policy.fallback_age_s) & (polls >= policy.fallback_tries) & self._falls
        before = replace(all_, polls=polls)
        size = info + np.int64(1) + (falls & ~own if self.signed_in else np.int64(0))
        after = replace(before, now=all_.now + size * late, requests=all_.requests + size)
        guest = falls & ~own & (guest_at >= all_.there)
        absent = ~own & ~guest
        wait = np.full(len(polls), -1, dtype=np.int64)
        wait[absent] = self._wait(after.take(absent))
        last = absent & ~falls & (wait < 0) if self._falls else np.zeros(len(polls), dtype=np.bool_)
        if last.any():  # where it stops, a guest's seat is asked for
            guest |= last & (guest_at >= all_.there)
            size, after.now, after.requests = size + last, after.now + last * late, after.requests + last
            unseated = last & ~guest
            wait[unseated] = self._wait(after.take(unseated))
            absent &= ~guest
        made.append(_rounds(before, size))
        ends.kind[all_.number[own]], ends.at[all_.number[own]] = _OWN, after.now[own]
        self._seat(after.take(guest), ends, made)
        goes = absent & (wait >= 0)
        on = after.take(goes)
        on.now = on.now + wait[goes]
        stopped = self._stop(after.take(absent & (wait < 0)), ends)
        return on if not len(stopped.number) else _both(on, stopped)

    def _wait(self, joiners: Joiners) -> Ints:
        """After a 404, ns until the next round; -1: there is none."""
        age_s = joiners.age_s
        gap = self._gaps.after(joiners.polls, age_s, self._rng)
        if gap is None:
            return np.full(len(age_s), -1, dtype=np.int64)
        jitter = self.policy.jitter
        gap = gap * (1 - jitter + 2 * jitter * self._rng.random(len(age_s))) if jitter else gap
        wait = np.rint(gap * SECOND_NS).astype(np.int64)
        return np.where((age_s < self.policy.give_up_age_s) & self._fits(joiners, wait), wait, -1)

    def _fits(self, joiners: Joiners, wait: Ints) -> Flags:
        """Whether a round after such a wait is within the policy's bounds."""
        within = joiners.now - joiners.arrived + wait <= self._horizon
        return np.asarray(within & (joiners.requests + self._cost <= self.policy.max_requests))

    def _seat(self, seated: Joiners, ends: Ends, made: list[Rounds]) -> None:
        """Guests take their seats; those signed in ask once more, where the policy does, and get their own."""
        ends.kind[seated.number], ends.at[seated.number] = (INSTEAD if self.signed_in else _GUEST), seated.now
        if not self.signed_in or not self.policy.upgrades or not len(seated.number):
            return
        wait = self._wait(seated)
        asks = seated.take(wait >= 0)
        asks.now = asks.now + wait[wait >= 0]
        ends.kind[asks.number] = _OWN
        made.append(_rounds(asks, 1, seated=True))

    def _stop(self, stopped: Joiners, ends: Ends) -> Joiners:
        """They are told that it is starting up, or gone; a person may press Retry: who does, and from when on."""
        policy, person = self.policy, self.policy.person
        young = stopped.age_s < policy.message_threshold_s
        ends.kind[stopped.number], ends.at[stopped.number] = np.where(young, _STARTING, _GONE), stopped.now
        if person is None or policy.wording == "released" or not len(young):
            return stopped.take(np.zeros(0, dtype=np.int64))
        stays = stopped.stays * (1.0 - np.where(young, person.leaves, person.leaves_gone))
        wait = np.rint(_reactions(person, len(young), self._rng) * SECOND_NS).astype(np.int64)
        presses = (stays > stopped.patience) & self._fits(stopped, wait)
        stopped.stays, stopped.now = stays, stopped.now + wait
        pressed = stopped.take(presses)
        pressed.polls, pressed.errors = np.zeros_like(pressed.polls), np.zeros_like(pressed.errors)
        return pressed


def _rounds(joiners: Joiners, size: Ints | int, *, seated: bool = False) -> Rounds:
    n = len(joiners.number)
    sizes = np.broadcast_to(np.asarray(size, dtype=np.int64), n)
    return Rounds(
        who=joiners.number,
        begin=joiners.now,
        size=sizes,
        polls=joiners.polls,
        requests=joiners.requests,
        errors=joiners.errors,
        stays=joiners.stays,
        seated=np.full(n, seated),
    )


def _both(one: Joiners, other: Joiners) -> Joiners:
    return Joiners(*(np.concatenate([getattr(one, spec.name), getattr(other, spec.name)]) for spec in fields(one)))


def _reactions(person: Person, n: int, rng: np.random.Generator) -> Floats:
    """As Person.drawn_s."""
    chance = np.clip(rng.random(n), 1e-12, 1.0 - 1e-12)
    return np.asarray(person.reaction_s * np.exp(person.spread * special.ndtri(chance)))


class _Gaps:
    """As Schedule.gap_s."""

    def __init__(self, schedule: Schedule, most: int) -> None:
        self._schedule = schedule
        self._ages = np.array([age for age, _ in schedule.table])
        self._of_table = np.array([gap for _, gap in schedule.table])
        grown = [growth(schedule.factor, power) for power in range(most + 1)]
        self._grown = np.minimum(schedule.cap_s, schedule.interval_s * np.array(grown))

    def after(self, polls: Ints, age: Floats, rng: np.random.Generator) -> Floats | None:
        """Seconds after so many polls at such an age; None: there is no next poll."""
        schedule = self._schedule
        if schedule.kind == "none":
            return None
        if schedule.kind == "fixed":
            return np.full(len(age), schedule.interval_s)
        if schedule.kind == "table":
            return np.asarray(self._of_table[np.maximum(0, np.searchsorted(self._ages, age, side="right") - 1)])
        ceiling = self._grown[polls - 1]
        return np.asarray(ceiling * rng.random(len(age)) if schedule.kind == "full_jitter" else ceiling)
