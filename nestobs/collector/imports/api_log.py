"""The Nests API's own log: winston's JSON lines, its plain lines (`2026-11-27T06:40:00.123Z info: message {meta}`, or
`info: message {meta}` with the instant in the meta), and likewise of other loggers.

What is said there is the API's own word. Requests are morgan's lines (the combined format, as a message of the logger
or alone) or structured ones. They tell when an answer was sent; when it was asked for is told by a line before it, or
not at all. Beside them stand sentences: which nest was made for whom, who was given a token, what LiveKit's list said
when a guest asked, which webhook came, what was restarted and deleted, and what failed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nestobs.collector.imports.clocks import MADE, TOLD
from nestobs.collector.imports.lines import Line, Stamp, stamp_of
from nestobs.collector.imports.requests import (
    PATH,
    by_the_api,
    combined,
    role_of,
    route_of,
    said_of,
    sighting_of,
    structured,
)
from nestobs.collector.imports.said import Names, Reading, Said, Sighting
from nestobs.nostr import ROOM_KIND, json_object
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Role, Source
from nestobs.sources.failures import Judgement, absent

DEPTH: Final = 2
"""Of what the API sees of a request: within what the proxy sees."""
WITHIN: Final = 3
"""Of a call to LiveKit: within the API's answer."""

_PLAIN: Final = re.compile(
    r"[\[(]?(error|warn|warning|info|http|verbose|debug|silly|notice|fatal|trace)[\])]?:?\s{1,4}(.+)", re.IGNORECASE
)
_LEVEL_AND_MORE: Final = ("level", "severity", "@l", "lvl")
_MESSAGE: Final = ("message", "msg", "@m", "@mt", "Message")
_WHEN: Final = ("timestamp", "time", "ts", "@timestamp", "@t", "datetime", "Timestamp")
_OPEN: Final = 1_000
"""So many things begun are remembered until they end."""

_ID: Final = r"(\S{1,255})"
_UNREACHED: Final = re.compile(
    r"ECONNREFUSED|ECONNRESET|ETIMEDOUT|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN|fetch failed|socket hang up|timed? ?out"
    r"|unavailable|deadline",
    re.IGNORECASE,
)
ACCEPTED: Final = Judgement(Outcome.ACCEPTED)
VISIBLE: Final = Judgement(Outcome.VISIBLE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the logger: its message, when (ns), and what else it holds."""

    line: Line
    message: str
    stamp: Stamp
    meta: Mapping[str, Any]


def entry_in(line: Line) -> Entry | None:
    """The entry of a line; None where it is none."""
    if line.text.startswith("{"):
        held = json_object(line.text)
        if held is None:
            return None
        message = next((held[name] for name in _MESSAGE if isinstance(held.get(name), str)), "")
        stamp = _when(held) or line.stamp
        known = message and any(name in held for name in (*_LEVEL_AND_MORE, "service"))
        return Entry(line, message.strip(), stamp, held) if stamp and (known or structured(held, stamp)) else None
    found = _PLAIN.fullmatch(line.text)
    if found is None:
        return Entry(line, line.text, line.stamp, {}) if line.stamp and _sentence(line.text) else None
    message, meta = _parted(found[2])
    stamp = _when(meta) or line.stamp
    return Entry(line, message, stamp, meta) if stamp else None


def _when(held: Mapping[str, Any]) -> Stamp | None:
    return next(filter(None, (stamp_of(held.get(name)) for name in _WHEN)), None)


def _parted(text: str) -> tuple[str, Mapping[str, Any]]:
    """The message and the meta that stands behind it as JSON."""
    at = text.find(" {") if text.endswith("}") else -1
    held = json_object(text[at + 1 :]) if at >= 0 else None
    return (text, {}) if held is None else (text[:at].strip(), held)


@dataclass(slots=True)
class _Log:
    """What has been read so far. asked, told: by what was begun, and for whom a token was made, when (ns), oldest
    first; failed: why a join is about to be answered 404."""

    names: Names
    found: Reading = field(default_factory=Reading)
    asked: dict[tuple[str, str], deque[Stamp]] = field(default_factory=dict)
    told: dict[tuple[str, str], deque[Said]] = field(default_factory=dict)
    failed: dict[str, tuple[int, str]] = field(default_factory=dict)

    def begin(self, what: str, room: str, stamp: Stamp) -> None:
        """Remember that something was begun."""
        while len(self.asked) > _OPEN:
            self.asked.pop(next(iter(self.asked)))
        self.asked.setdefault((what, room), deque(maxlen=_OPEN)).append(stamp)

    def since(self, what: str, room: str, entry: Entry, *, last: bool = False) -> tuple[int, float | None]:
        """When it was begun at the earliest, and, where nothing tells, the bound taken for it. last: it is over."""
        open_ones = self.asked.get((what, room))
        if open_ones:
            begun = open_ones.popleft() if last else open_ones[0]
            return begun.at, None
        return entry.stamp.at - round(self.names.longest_s * SECOND_NS), self.names.longest_s

    def say(self, *what: Any, **more: Any) -> None:
        """Write down what an entry says: see `made`."""
        self.found.said.append(self.made(*what, **more))

    def made(
        self,
        entry: Entry,
        source: Source,
        operation: Operation,
        judgement: Judgement,
        *,
        room: str,
        since: tuple[int, float | None] | None = None,
        **more: Any,
    ) -> Said:
        """What an entry says. since: as the method gives it; the entry's own instant where it is not told."""
        begun_at, within_s = since or (entry.stamp.at, None)
        target = self.names.livekit or "livekit:" if source is Source.LIVEKIT else self.names.api or PATH
        return Said(
            line=entry.line.number,
            mark=entry.line.mark,
            source=source,
            operation=operation,
            judgement=judgement,
            begun_at=begun_at,
            ended_at=entry.stamp.end,
            begun_within_s=within_s,
            room=room,
            **{"target": target, "role": role_of(operation), **more},
        )

    def saw(self, key: tuple[str, ...], begun: int, entry: Entry, depth: int) -> None:
        """Write down what another source may have seen, too: begun at the earliest (ns), and ended by this entry."""
        stamp = entry.stamp
        self.found.seen.append(
            Sighting(key=key, begun=begun, ended=stamp.end, depth=depth, late_begun=stamp.end, early_ended=stamp.at)
        )


def read(lines: Iterable[Line], names: Names) -> Reading:
    """What the API's log says of nests."""
    log = _Log(names)
    for line in lines:
        log.found.lines += 1
        request = combined(line.text)
        entry = Entry(line, line.text, request.stamp, {}) if request else entry_in(line)
        if entry is None:
            log.found.not_understood(line.number)
            continue
        before = len(log.found.said)
        log.found.zoneless += not entry.stamp.zoned
        found = _sentence(entry.message)
        if not _request(log, entry) and found is not None:
            found[0](log, entry, found[1])
        log.found.idle += len(log.found.said) == before
    for waiting in log.told.values():
        log.found.said.extend(waiting)
    return log.found


def _request(log: _Log, entry: Entry) -> bool:
    """Write down a request; False where the entry is none."""
    request = combined(entry.message)
    if request is not None:
        request = replace(request, stamp=entry.stamp)
    elif (request := structured(entry.meta, entry.stamp)) is None:
        return False
    if (route := route_of(request.method, request.path, log.names.api)) is None:
        return True
    judgement, longest_s = by_the_api(route.operation, request.status, request.size), log.names.longest_s
    log.found.seen.append(sighting_of(request, route, longest_s, DEPTH))
    if route.operation is Operation.CREATE and judgement.outcome is Outcome.ACCEPTED:
        return True  # which room was made, another line says
    failed_at, why = log.failed.pop(route.operation, (0, ""))
    if why and request.status == 404 and entry.stamp.at - failed_at <= longest_s * SECOND_NS:
        judgement = judgement._replace(reason=f"{judgement.reason}; its log: {why}"[:400])
    said = said_of(entry.line, request, route, judgement, target=log.names.api, longest_s=longest_s)
    if request.took_s is None and (since := log.since(route.operation, route.room, entry, last=True))[1] is None:
        said = replace(said, begun_at=since[0], begun_within_s=None)
    if request.status == 200 and (given := log.told.get((route.operation, route.room))):
        said = replace(said, role=given.popleft().role)
    log.found.said.append(said)
    return True


# sentences

_Say = Callable[[_Log, Entry, re.Match[str]], object]


def _sentence(message: str) -> tuple[_Say, re.Match[str]] | None:
    """What a sentence of the API says, None where it says nothing of a nest."""
    for words, say in _SENTENCES:
        if (found := words.match(message)) is not None:
            return say, found
    return None


def _created(log: _Log, entry: Entry, found: re.Match[str]) -> None:
    room = found[1]
    since = log.since("create", room, entry, last=True)
    _host(log, entry, found)
    log.say(entry, Source.API, Operation.CREATE, ACCEPTED, room=room, since=since, status=200)
    log.saw((MADE, room), since[0], entry, DEPTH)


def _guest_asked(log: _Log, entry: Entry, found: re.Match[str]) -> None:
    log.begin("list", found[1], entry.stamp)
    log.begin(Operation.GUEST, found[1], entry.stamp)


def _listed(log: _Log, entry: Entry, found: re.Match[str]) -> None:
    room, there = found[1], found[2] == "true"
    missing = absent("not in LiveKit's list, by the API's log")
    since = log.since("list", room, entry, last=True)
    log.say(entry, Source.LIVEKIT, Operation.ROOMS, VISIBLE if there else missing, room=room, since=since)


def _token(operation: Operation) -> _Say:
    """Somebody was given a token. That it is one, a request's line tells by its size: this waits for it."""

    def say(log: _Log, entry: Entry, found: re.Match[str]) -> None:
        room, role = found["room"], found.groupdict().get("role")
        since = log.since(operation, room, entry)
        who = Role.HOST if role == "host" else role_of(operation)
        said = log.made(entry, Source.API, operation, VISIBLE, room=room, since=since, role=who, status=200)
        log.told.setdefault((operation, room), deque(maxlen=_OPEN)).append(said)

    return say


def _failed(operation: Operation) -> _Say:
    """The API could not ask LiveKit about a room, and answers 404."""

    def say(log: _Log, entry: Entry, found: re.Match[str]) -> None:
        why = _why(entry, found[1])
        log.failed[operation] = entry.stamp.at, why
        if _UNREACHED.search(why):
            _livekit_failed(log, entry, why, "")

    return say


def _livekit_failed(log: _Log, entry: Entry, why: str, room: str) -> None:
    since = entry.stamp.at - round(log.names.longest_s * SECOND_NS), log.names.longest_s
    down = Judgement(Outcome.UNKNOWN, Failure.UNREACHABLE, FailureLayer.TCP, f"by the API's log: {why}")
    log.say(entry, Source.LIVEKIT, Operation.ROOMS, down, room=room, since=since)


def _no_live_info(log: _Log, entry: Entry, found: re.Match[str]) -> None:
    if _UNREACHED.search(why := _why(entry, found[2])):
        _livekit_failed(log, entry, why, found[1])


def _why(entry: Entry, said: str) -> str:
    told = entry.meta.get("stack") or entry.meta.get("error")
    return (said.strip() or (str(told).partition("\n")[0] if isinstance(told, str) else "an error"))[:200]


def _begun(operation: Operation) -> _Say:
    def say(log: _Log, entry: Entry, found: re.Match[str]) -> None:
        log.begin(operation, found[1], entry.stamp)
        log.begin(f"{operation} room", found[1], entry.stamp)

    return say


def _host(log: _Log, _: Entry, found: re.Match[str]) -> None:
    """A room's host is told: then its nest has an address."""
    room, host = found.groups()
    if re.fullmatch(r"[0-9a-f]{64}", host, re.ASCII):
        log.found.nests[room] = f"{ROOM_KIND}:{host}:{room}"


def _room_made_again(log: _Log, entry: Entry, found: re.Match[str]) -> None:
    since = log.since(f"{Operation.RESTART} room", found[1], entry, last=True)
    log.saw((MADE, found[1]), since[0], entry, DEPTH)


def _room_deleted(log: _Log, entry: Entry, found: re.Match[str]) -> None:
    deed = Operation.RESTART if "for restart" in entry.message else Operation.DELETE
    since = log.since(f"{deed} room", found[1], entry, last=deed is Operation.DELETE)
    gone = absent("deleted from LiveKit, by the API's log")
    log.say(entry, Source.LIVEKIT, Operation.ROOMS, gone, room=found[1], since=since)
    log.saw(("delete", found[1]), since[0], entry, DEPTH)


def _still_there(log: _Log, entry: Entry, found: re.Match[str]) -> None:
    since = log.since(f"{Operation.RESTART} room", found[1], entry)
    log.say(entry, Source.LIVEKIT, Operation.ROOMS, VISIBLE, room=found[1], since=since)


def _webhook(log: _Log, entry: Entry, _: re.Match[str]) -> None:
    event, room, who = (entry.meta.get(name) for name in ("event", "room", "participant"))
    room, who = (one if isinstance(one, dict) else {} for one in (room, who))
    name, number = room.get("name"), entry.meta.get("id")
    if not isinstance(event, str) or not isinstance(name, str):
        return
    made = stamp_of(_whole(entry.meta.get("createdAt") or entry.meta.get("created_at")))
    facts = {"event": event[:80], "event_id": _text(number), "room_sid": _text(room.get("sid"))}
    facts |= {"participant_sid": _text(who.get("sid")), "identity": (_text(who.get("identity")) or "")[:80] or None}
    stamps = {"remote_at": made.at, "remote_grain_s": 1.0} if made else {}
    log.say(
        entry, Source.WEBHOOK, Operation.RECEIVE, ACCEPTED,
        room=name, target="webhook:", status=200, facts=facts, **stamps,
    )  # fmt: skip  # what it is, then what it says
    if isinstance(number, str):
        log.saw((TOLD, number), entry.stamp.at, entry, WITHIN)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value


def _text(value: object) -> str | None:
    return value[:200] if isinstance(value, str) and value else None


_SENTENCES: Final = tuple(
    (re.compile(words), say)
    for words, say in (
        (rf"Created nest {_ID} for host (\S{{1,80}})", _created),
        (rf"Guest join: About to call roomService.listRooms\(\) for room {_ID}", _guest_asked),
        (rf"Guest join: Looking for room {_ID}, exists: (true|false)", _listed),
        (r"Guest (?P<who>\S{1,255}) joined nest (?P<room>\S{1,255})", _token(Operation.GUEST)),
        (
            r"User (?P<who>\S{1,255}) joined nest (?P<room>\S{1,255})(?: as (?P<role>\w{1,20}))?",
            _token(Operation.JOIN),
        ),
        (r"Error checking room existence in guest endpoint:?(.*)", _failed(Operation.GUEST)),
        (r"Error checking room existence:?(.*)", _failed(Operation.JOIN)),
        (rf"Failed to get live info for nest {_ID}?:(.*)", _no_live_info),
        (rf"Restart request for nest {_ID} from", _begun(Operation.RESTART)),
        (rf"Found existing LiveKit room {_ID},? will", _still_there),
        (rf"Created new LiveKit room {_ID}", _room_made_again),
        (rf"Deleted existing room {_ID} for restart", _room_deleted),
        (rf"Delete request for nest {_ID} from", _begun(Operation.DELETE)),
        (rf"Deleted LiveKit room {_ID}", _room_deleted),
        (rf"Successfully (?:restarted|deleted) nest {_ID} (?:for|by) host (\S{{1,80}})", _host),
        (r"LiveKit webhook event", _webhook),
    )
)
"""What the API writes, and what is made of it. Its requests end in lines of their own."""
