"""A relay's transcript: NIP-01 frames, one JSON array a line, whatever stands before it.

What a frame is, and who sent it, its form tells. An instant before it is used; arrows are not needed. A URL of a relay
in a line, or in one above it, names the relay. Without instants only what shows a nest says something: it was shown
after its `created_at`, and before the file was last changed.

An EOSE proves absent what a filter asks for by name (`#d`, with `kinds`, with or without `authors`) and nothing else
was asked of; not while a challenge to sign in is open (NIP-42).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from nestobs.collector.imports.lines import Line, Stamp
from nestobs.collector.imports.said import Names, Reading, Said
from nestobs.nostr import (
    DELETION_KIND,
    ROOM_KIND,
    AuthChallenge,
    Closed,
    Eose,
    Event,
    EventFrame,
    MalformedEvent,
    Ok,
    Unreadable,
    read_event,
    read_frame,
)
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import read_nest
from nestobs.observation.schema import LONGEST_ROOM, Failure, FailureLayer, Operation, Outcome, Role, Source
from nestobs.sources.failures import Judgement
from nestobs.sources.relay.rows import facts_of_event

_URL: Final = re.compile(r"wss?://[^\s\"'<>|,;()\[\]]{1,400}")
_FRAME: Final = re.compile(r'\[\s{0,8}"(?:REQ|CLOSE|EVENT|EOSE|OK|NOTICE|CLOSED|AUTH|COUNT)"')
_BEFORE: Final = 500
"""So many characters may stand before a frame."""

_MOST_ASKED: Final = 1_000
_ASKS: Final = frozenset({"kinds", "authors", "#d", "limit"})
_LAST_S: Final = 2**63 // SECOND_NS


@dataclass(frozen=True, slots=True)
class Wanted:
    """A nest that a filter asks for by name. author: "" for anybody's."""

    room: str
    author: str = ""

    @property
    def nest(self) -> str:
        """Its address, "" where its author was not named."""
        return f"{ROOM_KIND}:{self.author}:{self.room}" if self.author else ""


@dataclass(slots=True)
class _Asked:
    """A subscription: since when, what it asks for by name, what came of that, and whether EOSE came."""

    since: Stamp | None
    wanted: tuple[Wanted, ...]
    shown: set[str] = field(default_factory=set)
    over: bool = False


@dataclass(slots=True)
class Talk:
    """What one relay and one client said to each other, frame by frame. `feed` takes them in order; then `end`."""

    found: Reading
    names: Names
    relay: str
    challenged: bool = False
    _asked: dict[str, _Asked] = field(default_factory=dict)
    _published: dict[str, tuple[Line, Stamp | None, Event]] = field(default_factory=dict)

    def feed(self, line: Line, frame: str) -> bool:
        """Take a frame; False where it is none. The line says when, and where it stands."""
        heard = read_frame(frame)
        match heard:
            case EventFrame(subscription, event):
                self._shown(line, subscription, event)
            case Eose(subscription):
                self._ended(line, subscription)
            case Closed(subscription, reason):
                self._closed(line, subscription, reason)
            case Ok(event_id, accepted, reason):
                self._answered(line, event_id, accepted, reason)
            case AuthChallenge():
                self.challenged = True
            case Unreadable():
                return self._sent(line, frame)
        return True

    def end(self) -> None:
        """What was published and never answered."""
        silent = Judgement(Outcome.UNKNOWN, Failure.TIMEOUT, FailureLayer.NOSTR, "no OK in the transcript")
        for line, since, event in self._published.values():
            self._publish(line, since, since, event, silent)
        self._published.clear()

    def _sent(self, line: Line, frame: str) -> bool:
        """What a client sends."""
        try:
            row = json.loads(frame)
        except (ValueError, RecursionError):
            return False
        match row:
            case ["REQ", str(subscription), *filters]:
                if len(self._asked) < _MOST_ASKED or subscription in self._asked:
                    self._asked[subscription] = _Asked(line.stamp, wanted_by(filters))
            case ["CLOSE", str(subscription)]:
                self._asked.pop(subscription, None)
            case ["EVENT", dict(event)]:
                if (read := _read(event)) is not None and read.kind == ROOM_KIND and len(self._published) < _MOST_ASKED:
                    self._published[read.id] = line, line.stamp, read
            case ["AUTH", dict()]:
                self.challenged = False
            case _:
                return isinstance(row, list) and bool(row) and row[0] in ("AUTH", "COUNT")
        return True

    def _shown(self, line: Line, subscription: str, value: object) -> None:
        event, asked = _read(value), self._asked.get(subscription)
        if event is None:
            return
        if event.kind == DELETION_KIND:
            self._withdrawn(line, event)
        if event.kind != ROOM_KIND:
            return
        try:
            nest = read_nest(event)
        except ValueError:
            return
        if not nest.room:
            return
        pushed = asked is not None and asked.over
        since = line.stamp if asked is None or pushed else asked.since
        if asked is not None:
            asked.shown.update((nest.room, str(nest.address)))
        operation = Operation.SUBSCRIBE if pushed else Operation.QUERY
        self._say(
            line, operation, Judgement(Outcome.VISIBLE), since, line.stamp, room=nest.room,
            nest=str(nest.address), event=event,
        )  # fmt: skip  # when, then what

    def _withdrawn(self, line: Line, event: Event) -> None:
        for kind, pubkey, room in (tag[1].split(":", 2) for tag in event.tags if _names_a_room(tag)):
            if pubkey == event.pubkey and line.stamp is not None:
                self._say(
                    line, Operation.RECEIVE, Judgement(Outcome.ACCEPTED), line.stamp, line.stamp, room=room,
                    nest=f"{kind}:{pubkey}:{room}", facts={"withdrawn": True, "event_id": event.id},
                )  # fmt: skip  # when, then what

    def _ended(self, line: Line, subscription: str) -> None:
        asked = self._asked.get(subscription)
        if asked is None or asked.over:
            return
        asked.over = True
        missing = Judgement(Outcome.ABSENT, Failure.NOT_FOUND, FailureLayer.NOSTR, "not among the stored events")
        if self.challenged:
            words = "the relay wants to know who asks: its EOSE proves nothing"
            missing = Judgement(Outcome.REFUSED, Failure.AUTH_REQUIRED, FailureLayer.NOSTR, words)
        self._of_wanted(line, asked, missing)

    def _closed(self, line: Line, subscription: str, reason: str) -> None:
        if (asked := self._asked.pop(subscription, None)) is not None and not asked.over:
            wants = reason.startswith(("auth-required", "restricted"))
            failure = Failure.AUTH_REQUIRED if wants else Failure.RELAY_CLOSED
            words = f"CLOSED: {reason[:200]}"
            self._of_wanted(line, asked, Judgement(Outcome.REFUSED, failure, FailureLayer.NOSTR, words))

    def _of_wanted(self, line: Line, asked: _Asked, judgement: Judgement) -> None:
        for one in asked.wanted:
            if (one.nest or one.room) not in asked.shown and asked.since is not None:
                self._say(line, Operation.QUERY, judgement, asked.since, line.stamp, room=one.room, nest=one.nest)

    def _answered(self, line: Line, event_id: str, accepted: bool, reason: str) -> None:
        if (sent := self._published.pop(event_id, None)) is None:
            return
        judgement = Judgement(Outcome.ACCEPTED)
        if not accepted:
            said = f"OK false: {reason[:200]}"
            failure = Failure.AUTH_REQUIRED if reason.startswith("auth-required") else Failure.RELAY_REFUSED
            judgement = Judgement(Outcome.REFUSED, failure, FailureLayer.NOSTR, said)
        self._publish(line, sent[1], line.stamp, sent[2], judgement)

    def _publish(
        self, line: Line, since: Stamp | None, until: Stamp | None, event: Event, judgement: Judgement
    ) -> None:
        room = (event.tag("d") or "")[:LONGEST_ROOM]
        if room and since is not None:
            nest = f"{ROOM_KIND}:{event.pubkey}:{room}"
            self._say(
                line, Operation.PUBLISH, judgement, since, until, room=room, nest=nest, event=event, role=Role.HOST
            )

    def _say(
        self,
        line: Line,
        operation: Operation,
        judgement: Judgement,
        since: Stamp | None,
        until: Stamp | None,
        *,
        room: str,
        nest: str,
        event: Event | None = None,
        role: Role = Role.OBSERVER,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        made_s = event.created_at if event is not None and 0 < event.created_at < _LAST_S else None
        if until is None:  # untimed: after its making, and before the file was last changed
            if made_s is None or made_s * SECOND_NS > self.names.changed_at:
                return
            begun, ended = made_s * SECOND_NS, self.names.changed_at
        else:
            begun, ended = (since or until).at, until.end
        if nest:
            self.found.nests.setdefault(room, nest)
        self.found.said.append(
            Said(
                line=line.number,
                mark=line.mark,
                source=Source.RELAY,
                operation=operation,
                judgement=judgement,
                begun_at=min(begun, ended),
                ended_at=ended,
                target=self.relay,
                room=room,
                role=role,
                remote_at=None if made_s is None else made_s * SECOND_NS,
                remote_grain_s=None if made_s is None else 1.0,
                untimed=until is None,
                facts=facts_of_event(event) | dict(facts or {}),
            )
        )


def _read(value: object) -> Event | None:
    """The event, verified; None where it is none."""
    try:
        return read_event(value)
    except MalformedEvent:
        return None


def _names_a_room(tag: tuple[str, ...]) -> bool:
    return len(tag) > 1 and tag[0] == "a" and tag[1].count(":") >= 2 and tag[1].startswith(f"{ROOM_KIND}:")


def wanted_by(filters: Iterable[object]) -> tuple[Wanted, ...]:
    """The nests that filters ask for by name, of which none of them leaves any out that there is."""
    found: dict[Wanted, None] = {}
    for one in filters:
        if not isinstance(one, dict) or set(one) - _ASKS or ROOM_KIND not in _listed(one, "kinds"):
            continue
        rooms = [room for room in _listed(one, "#d") if isinstance(room, str) and 0 < len(room) <= LONGEST_ROOM]
        authors = [author for author in _listed(one, "authors") if isinstance(author, str) and len(author) == 64]
        wanted = [Wanted(room, author) for room in rooms[:50] for author in authors[:50] or [""]]
        limit = one.get("limit", len(wanted))
        if isinstance(limit, int) and len(wanted) <= limit and ("authors" not in one or authors):
            found.update(dict.fromkeys(wanted[:_MOST_ASKED]))
    return tuple(found)


def _listed(one: Mapping[str, object], name: str) -> list[Any]:
    value = one.get(name)
    return value if isinstance(value, list) else []


def frame_in(text: str) -> tuple[str, str]:
    """What stands before a frame, and the frame; two empty texts where there is none."""
    found = _FRAME.search(text, 0, _BEFORE)
    return ("", "") if found is None else (text[: found.start()], text[found.start() :].rstrip(" ,;\"'"))


def read(lines: Iterable[Line], names: Names) -> Reading:
    """What a transcript says of nests."""
    found, talks, relay = Reading(), dict[str, Talk](), names.relay
    for line in lines:
        found.lines += 1
        before, frame = frame_in(line.text)
        named = _URL.search(before if frame else line.text[:_BEFORE])
        if named is not None and not names.relay:
            relay = named[0].rstrip(":.,")
        found.zoneless += line.stamp is not None and not line.stamp.zoned
        if not frame:
            if named is None and not line.text.startswith(("#", "//")):
                found.not_understood(line.number)
            else:
                found.idle += 1
            continue
        talk = talks.setdefault(relay, Talk(found, names, relay or "relay:"))
        said = len(found.said)
        if not talk.feed(line, frame):
            found.not_understood(line.number)
        else:
            found.idle += len(found.said) == said
    for talk in talks.values():
        talk.end()
    return found
