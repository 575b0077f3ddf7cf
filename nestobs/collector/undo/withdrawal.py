"""Take back a nest's event, and read back from every relay that may have it whether it is.

Relays differ: some drop an addressable event for a deletion request (NIP-09, kind 5) that names its id and ignore one
that names its address, some the other way round, and some go on serving what they were given. So a version that says
closed replaces it (same `d`, a newer `created_at`), then a kind 5 names every version known, that one included, and the
address. What the relay shows after that is what is said of it, whatever it said to either:

    gone      no version
    closed    a newest version that says closed
    open      a newest version that says anything else: left behind
    unknown   it gave no proof
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce
from typing import Any, Final

from nestobs.nostr import DELETION_KIND, ROOM_KIND, Address, Event, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import State as Said
from nestobs.observation.nest import read_nest
from nestobs.observation.schema import Observation, Operation, Outcome, Role
from nestobs.sources.relay import Looked, Relay
from nestobs.sources.vantage import Trace

PATIENCE_S: Final = 3.0
"""For a connection, for an OK, and for an answer."""

PAUSES_S: Final = (0.0, 0.25, 0.75)
"""Before each question, while a relay still shows the nest open."""

LIMITED_PAUSES_S: Final = (0.0, 1.0, 2.0)
"""Before each attempt to publish, while a relay says that we publish too much."""

WHY: Final = "made by nestobs to measure propagation"


class State(StrEnum):
    """What a relay was found to show of a nest that was taken back."""

    GONE = "gone"
    CLOSED = "closed"
    OPEN = "open"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Found:
    """What one relay shows. why: what it said to the taking back, or why it proves nothing. may_change: asking again
    may tell something else."""

    url: str
    state: State
    why: str = ""
    may_change: bool = False

    @property
    def taken_back(self) -> bool:
        """Whether nobody reads there that the nest is open."""
        return self.state in (State.GONE, State.CLOSED)


def sentence(found: Sequence[Found]) -> str:
    """What was found, for people; where all is well one word for it."""
    bad = [f"still open on {each.url}{_because(each.why)}" for each in found if each.state is State.OPEN]
    bad += [f"not known of {each.url}{_because(each.why)}" for each in found if each.state is State.UNKNOWN]
    closed = any(each.state is State.CLOSED for each in found)
    return "; ".join(bad) or (State.CLOSED if closed else State.GONE).value


def _because(why: str) -> str:
    return f" ({why})" if why else ""


@dataclass(slots=True)
class Withdrawal:
    """One nest's event to be taken back, of the author `keys`. `versions`: those known, which may be none: then the
    relays are asked first. `now_s`: whole seconds on the author's clock."""

    trace: Trace
    keys: Keys
    now_s: int
    versions: dict[str, Event] = field(default_factory=dict)

    async def run(self, relays: Sequence[Relay]) -> list[Found]:
        """Take it back from these relays; what each shows after that."""
        shown: dict[str, Looked] = {}
        if not self.versions:
            looks = await asyncio.gather(*(self._look(relay) for relay in relays))
            shown = {relay.url: looked for relay, looked in zip(relays, looks, strict=True)}
        found = {relay.url: Found(relay.url, State.OPEN) for relay in relays}
        for _ in range(2):  # again where a version turned up that nobody knew of
            known = set(self.versions)
            closed, deletion = self._events()
            at_work = [relay for relay in relays if not found[relay.url].taken_back]
            ends = await asyncio.gather(*(self._take_back(each, closed, deletion, shown) for each in at_work))
            found |= {end.url: end for end in ends}
            if known | ({closed.id} if closed else set()) >= set(self.versions):
                break
        return list(found.values())

    def _events(self) -> tuple[Event | None, Event]:
        """The version that says closed, None where there is no version to replace, and the request for deletion."""
        address = self.trace.nest
        closed = None
        if self.versions:
            newest = reduce(lambda one, other: other if other.replaces(one) else one, self.versions.values())
            closed = newest if is_over(newest, self.now_s * SECOND_NS) else self._closed(newest)
        ids = [*self.versions, *([closed.id] if closed and closed.id not in self.versions else [])]
        deletion = self.keys.sign(
            DELETION_KIND,
            created_at=max(self.now_s, closed.created_at if closed else 0),
            tags=[*(("e", each) for each in ids), ("a", address), ("k", str(ROOM_KIND))],
            content=WHY,
        )
        return closed, deletion

    def _closed(self, newest: Event) -> Event:
        tags = [row for row in newest.tags if row[:1] != ("status",)]
        return self.keys.sign(
            ROOM_KIND, created_at=max(self.now_s, newest.created_at + 1), tags=[*tags, ("status", "closed")]
        )

    async def _take_back(self, relay: Relay, closed: Event | None, deletion: Event, shown: dict[str, Looked]) -> Found:
        await relay.ready(PATIENCE_S)
        before = shown.pop(relay.url, None)
        has_none = before is not None and before.row.outcome is Outcome.ABSENT
        events = [deletion] if closed is None or has_none else [closed, deletion]
        said = [await self._publish(relay, each) for each in events]
        found = await self._read_back(relay)
        if found.state is not State.OPEN:
            return found
        refused = dict.fromkeys(row.reason for row in said if row.outcome is not Outcome.ACCEPTED)
        undecided = any(row.outcome is Outcome.UNKNOWN or _limited(row) for row in said)
        return Found(relay.url, State.OPEN, "; ".join(refused), may_change=undecided)

    async def _publish(self, relay: Relay, event: Event) -> Observation:
        group, attempt_no = "", 1
        for pause_s in LIMITED_PAUSES_S:
            await asyncio.sleep(pause_s)
            attempt: dict[str, Any] = {"attempt_group": group, "attempt_no": attempt_no}
            row = await relay.publish(self.trace, event, timeout_s=PATIENCE_S, read_back=False, **attempt)
            if not _limited(row):
                break
            group, attempt_no = row.attempt_group, row.attempt_no + 1
        return row

    async def _read_back(self, relay: Relay) -> Found:
        found = Found(relay.url, State.UNKNOWN)
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            found = self._state(relay.url, await self._look(relay))
            if found.state is not State.OPEN:
                break
        return found

    async def _look(self, relay: Relay) -> Looked:
        await relay.ready(PATIENCE_S)
        kind, author, room = self.trace.nest.split(":", 2)
        looked = await relay.look(
            self.trace,
            address=Address(int(kind), author, room),
            timeout_s=PATIENCE_S,
            role=Role.HOST,
            operation=Operation.READ_BACK,
        )
        self.versions |= {event.id: event for event in looked.events}
        return looked

    def _state(self, url: str, looked: Looked) -> Found:
        if looked.row.outcome is Outcome.ABSENT:
            return Found(url, State.GONE)
        if looked.row.outcome is not Outcome.VISIBLE or not looked.events:
            return Found(url, State.UNKNOWN, looked.row.reason, may_change=looked.row.outcome is not Outcome.REFUSED)
        over = all(is_over(event, self.now_s * SECOND_NS) for event in looked.events)
        return Found(url, State.CLOSED if over else State.OPEN)


def _limited(row: Observation) -> bool:
    return row.outcome is Outcome.REFUSED and "rate-limited" in row.reason


def is_over(event: Event, at: int) -> bool:
    """Whether a version says that its nest is closed, as who reads it at `at` (ns UTC) takes it."""
    with suppress(ValueError):
        return read_nest(event).state(at) is Said.OVER
    return False
