"""LiveKit's own log: JSON lines as zap writes them, or its console format (instant, level, name, file, words, JSON).

What it says it has done is proof: it answered a call that made a room, somebody's signalling was taken, media was
connected, a room was closed, and why. A room that it calls closed is not listed any more. The instant of a line is when
that had happened; how long it took, some lines tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nestobs.collector.imports.api_log import ACCEPTED, VISIBLE, WITHIN
from nestobs.collector.imports.clocks import MADE, TOLD
from nestobs.collector.imports.lines import Line, Stamp, stamp_of
from nestobs.collector.imports.said import Names, Reading, Said, Sighting
from nestobs.errors import UsageError
from nestobs.nostr import json_object
from nestobs.observation.duration import SECOND_NS, read_duration
from nestobs.observation.schema import LONGEST_ROOM, Failure, FailureLayer, Operation, Outcome, Role, Source
from nestobs.sources.failures import Judgement, absent, answered, unproved
from nestobs.sources.livekit_words import left

_CONSOLE: Final = re.compile(
    r"(DEBUG|INFO|WARN|ERROR|DPANIC|PANIC|FATAL)\t([\w.-]{1,80})\t(?:[\w./-]{1,200}:\d{1,6}\t)?([^\t]{1,500})(?:\t(.*))?",
    re.ASCII,
)
_SPACED: Final = re.compile(
    r"(DEBUG|INFO|WARN|ERROR|DPANIC|PANIC|FATAL)\s{1,8}([\w.-]{1,80})\s{1,8}[\w./-]{1,200}:\d{1,6}\s{1,8}"
    r"([^\t{]{1,500}?)\s{0,8}(\{.*)?",
    re.ASCII,
)
_TINY: Final = re.compile(r"[\d.]{1,20}(?:ns|us|µs|μs)")
_SENT_AWAY: Final = {
    "DUPLICATE_IDENTITY": "DUPLICATE_IDENTITY",
    "SERVICE_REQUEST_REMOVE_PARTICIPANT": "PARTICIPANT_REMOVED",
    "SERVICE_REQUEST_DELETE_ROOM": "ROOM_DELETED",
    "ROOM_CLOSED": "ROOM_CLOSED",
}
"""Why LiveKit sent somebody away, by its log's word: by the word that it tells whom it sends away."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: its words, when, and its fields."""

    line: Line
    message: str
    stamp: Stamp
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field that is a text; "" where it is none."""
        value = self.fields.get(name)
        return value[:LONGEST_ROOM] if isinstance(value, str) else ""


def entry_in(line: Line) -> Entry | None:
    """The entry of a line; None where it is none."""
    if line.text.startswith("{"):
        held = json_object(line.text) or {}
        message = held.get("msg")
        stamp = stamp_of(held.get("ts")) or stamp_of(held.get("time")) or line.stamp
        known = isinstance(message, str) and "caller" in held
        return Entry(line, str(message)[:500], stamp, held) if known and stamp else None
    found = _CONSOLE.fullmatch(line.text) or _SPACED.fullmatch(line.text)
    if found is None or line.stamp is None:
        return None
    return Entry(line, found[3].strip(), line.stamp, json_object(found[4] or "{}") or {})


@dataclass(slots=True)
class _Log:
    """What has been read so far. started: the sids of each room that LiveKit said to have started. version: its own."""

    names: Names
    found: Reading = field(default_factory=Reading)
    version: str = ""

    def say(
        self, entry: Entry, operation: Operation, judgement: Judgement, *, took_s: float = 0.0, **more: Any
    ) -> None:
        """Write down what an entry says of its room."""
        sid, who = entry.text("roomID"), entry.text("participant")
        facts = {"sid" if operation is Operation.ROOMS else "room_sid": sid or None, **more.pop("facts", {})}
        if who:
            facts |= {"participant_sid": (entry.text("participantID") or entry.text("pID")) or None}
            facts |= {"identity": who[:80]}
            more.setdefault("role", Role.GUEST if who.startswith("guest") else Role.JOINER)
        self.found.said.append(
            Said(
                line=entry.line.number,
                mark=entry.line.mark,
                operation=operation,
                judgement=judgement,
                begun_at=entry.stamp.at - round(took_s * SECOND_NS),
                ended_at=entry.stamp.end,
                room=entry.text("room"),
                software=self.version,
                facts=facts,
                **{"source": Source.LIVEKIT, "target": self.names.livekit or "livekit:", **more},
            )
        )

    def saw(self, key: tuple[str, ...], entry: Entry, took_s: float, depth: int) -> None:
        """Write down what another source may have seen, too."""
        stamp, took = entry.stamp, round(took_s * SECOND_NS)
        self.found.seen.append(
            Sighting(
                key=key,
                begun=stamp.at - took,
                ended=stamp.end,
                depth=depth,
                late_begun=stamp.end - took,
                early_ended=stamp.at,
            )
        )


def read(lines: Iterable[Line], names: Names) -> Reading:
    """What LiveKit's log says of rooms."""
    log = _Log(names)
    for line in lines:
        log.found.lines += 1
        if (entry := entry_in(line)) is None:
            log.found.not_understood(line.number)
            continue
        log.found.zoneless += not entry.stamp.zoned
        before, say = len(log.found.said), _MESSAGES.get(entry.message)
        if entry.message == "starting LiveKit server":
            log.version = f"livekit {entry.text('version')}"[:80]
        if say is not None and entry.text("room"):
            say(log, entry)
        log.found.idle += len(log.found.said) == before
    return _dated(log.found)


def _dated(found: Reading) -> Reading:
    """What was made by a call whose room then started, was made at that call: a room that is there already is answered
    likewise, and does not start."""
    started = {one.room for one in found.said if one.facts.get("event") == "room_started"}
    for place, one in enumerate(found.said):
        if one.room in started and one.operation is Operation.ROOMS and one.judgement.outcome is Outcome.VISIBLE:
            started.discard(one.room)  # the first call made it
            grain_s = max(1e-6, (one.ended_at - one.begun_at) / SECOND_NS)
            found.said[place] = replace(one, remote_at=one.begun_at, remote_grain_s=grain_s)
    return found


def _created(log: _Log, entry: Entry) -> None:
    took_s, status, judgement = _call(entry)
    log.say(entry, Operation.CREATE, judgement, took_s=took_s, status=status)
    if status == 200:
        log.say(entry, Operation.ROOMS, VISIBLE, took_s=took_s, status=status, facts={"by": "its answer to CreateRoom"})
        log.saw((MADE, entry.text("room")), entry, took_s, WITHIN)


def _deleted(log: _Log, entry: Entry) -> None:
    took_s, status, judgement = _call(entry)
    if status == 404:
        log.say(entry, Operation.ROOMS, absent("there was no such room to delete"), took_s=took_s, status=status)
        return
    if status == 200:  # the room's end; whether the nest's, the API's log tells
        asked = "LiveKit deleted the room, asked by an API call"
        log.say(entry, Operation.ROOMS, absent(asked), took_s=took_s, status=status, facts={"closed": "deleted"})
    else:
        log.say(entry, Operation.DELETE, judgement, took_s=took_s, status=status)
    log.saw(("delete", entry.text("room")), entry, took_s, WITHIN)


def _entered(log: _Log, entry: Entry) -> None:
    log.say(entry, Operation.SIGNAL, VISIBLE)


def _active(log: _Log, entry: Entry) -> None:
    kind = entry.text("connectionType") or None
    log.say(entry, Operation.MEDIA, VISIBLE, took_s=_duration_s(entry.fields.get("connectTime")), facts={"over": kind})


def _left(log: _Log, entry: Entry) -> None:
    """Somebody is outside: sent away, lost, or gone by themselves, which is an event and no failure."""
    reason, stayed_s = entry.text("reason"), _duration_s(entry.fields.get("sessionDuration"))
    facts = {"left": reason or None, "stayed_s": stayed_s}
    if reason == "PEER_CONNECTION_DISCONNECTED":
        judgement = Judgement(Outcome.UNKNOWN, Failure.DROPPED, FailureLayer.ICE, "the peer connection was lost")
    elif reason in _SENT_AWAY:
        failure, words = left(_SENT_AWAY[reason])
        judgement = unproved(failure, words, FailureLayer.SIGNAL)
    else:
        log.say(entry, Operation.RECEIVE, ACCEPTED, facts=facts | {"event": "left"})
        return
    log.say(entry, Operation.STAY, judgement, facts=facts)


def _never_in(log: _Log, entry: Entry) -> None:
    """Somebody's media were never connected: a failure where they tried (the other side sent candidates)."""
    listed = (entry.fields.get(name) for name in ("publisherCandidates", "subscriberCandidates"))
    tried = any("[remote]" in str(each)[:200] for one in listed if isinstance(one, list) for each in one[:100])
    if tried and entry.text("reason") not in ("CLIENT_REQUEST_LEAVE", *_SENT_AWAY):
        words = f"media were never connected ({entry.text('reason')})"
        log.say(entry, Operation.MEDIA, Judgement(Outcome.UNKNOWN, Failure.ICE, FailureLayer.ICE, words))


def _closed(words: str) -> Callable[[_Log, Entry], None]:
    def say(log: _Log, entry: Entry) -> None:
        why = entry.text("reason")
        log.say(entry, Operation.ROOMS, absent(f"{words}: {why}" if why else words), facts={"closed": why or None})

    return say


def _webhook(log: _Log, entry: Entry) -> None:
    event, number = entry.text("event"), entry.text("id")
    made = stamp_of(entry.fields.get("webhookTime"))
    took_s = _duration_s(entry.fields.get("sendDuration")) + _duration_s(entry.fields.get("queueDuration"))
    facts = {"event": event[:80], "event_id": number[:200]}
    stamps = {"remote_at": made.at, "remote_grain_s": 1.0} if made else {}
    log.say(
        entry, Operation.RECEIVE, ACCEPTED,
        took_s=took_s, source=Source.WEBHOOK, target="webhook:", facts=facts, **stamps,
    )  # fmt: skip  # what it is, then what it says
    if number and entry.message == "sent webhook":
        log.saw((TOLD, number), entry, took_s, WITHIN - 1)


_MESSAGES: Final[Mapping[str, Callable[[_Log, Entry], None]]] = {
    "API RoomService.CreateRoom": _created,
    "API RoomService.DeleteRoom": _deleted,
    "starting RTC session": _entered,
    "participant active": _active,
    "participant closing": _left,
    "removing participant without connection": _never_in,
    "room closed": _closed("LiveKit closed the room"),
    "closing idle room": _closed("LiveKit closed the idle room"),
    "sent webhook": _webhook,
    "failed to send webhook": _webhook,
}


def _call(entry: Entry) -> tuple[float, int, Judgement]:
    """How long a call took, its status, 500 where the line tells none that is one, and what was answered."""
    text = str(entry.fields.get("status"))
    status = int(text) if re.fullmatch(r"[1-5]\d\d", text, re.ASCII) else 500
    said = (entry.text("error") or entry.text("code"))[:200]
    judgement = ACCEPTED if status == 200 else answered(status, said, layer=FailureLayer.API)
    return _duration_s(entry.fields.get("duration")), status, judgement


def _duration_s(value: object) -> float:
    """A duration as zap writes it: seconds in JSON, Go's words in the console; 0.0 where it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < 1e6 else 0.0
    if not isinstance(value, str) or _TINY.fullmatch(value[:40]):
        return 0.0
    try:
        return read_duration(value[:40])
    except UsageError:
        return 0.0
