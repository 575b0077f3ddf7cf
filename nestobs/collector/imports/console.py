"""A browser's console, as the web client's guide and the released client write to it, copied or saved as text.

`Attempting to join nest: {…}` begins a join; each answer is told with its status, and by the released client with an
instant; `Smart join response` or `Failed to join nest` ends it. The requests of a join follow one another, so each was
asked after what stands before it. Where no instant is told, `nestCreatedAt + timeSinceCreated` tells the second.

The console has the status of an answer, and its words only where the client wrote them (`errorText`): without them a
404 is of unknown authorship. A token is one where the client says that it is a string.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nestobs.collector.imports.lines import Line, Stamp, digest, stamp_of
from nestobs.collector.imports.requests import PATH, role_of, route_of
from nestobs.collector.imports.said import Names, Reading, Said
from nestobs.errors import AddressError
from nestobs.join.decision import GONE, MESSAGES, STARTING, Kind
from nestobs.nostr import json_object
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import read_address
from nestobs.observation.schema import LONGEST_ROOM, Failure, FailureLayer, Operation, Outcome, Role, Source
from nestobs.sources.failures import Judgement, answered, unproved
from nestobs.sources.proof import Heard, find

_PAIR: Final = re.compile(
    r"[\"']?([A-Za-z_$][\w$]{0,60})[\"']?\s{0,4}:\s{0,4}"
    r"(\"(?:[^\"\\]|\\.){0,1000}\"|'(?:[^'\\]|\\.){0,1000}'|-?\d{1,19}(?:\.\d{1,9})?|true|false|null|undefined)"
)
_INNER: Final = re.compile(r"\{([^{}]{0,6000})\}")
_CLOCK_ONLY: Final = re.compile(r"\s{0,4}\[?(\d\d):(\d\d):(\d\d)[.,]\d{1,6}\]?\s")
_STARTS: Final = re.compile(r"Attempting to join nest:")
_ENDS: Final = re.compile(r"(Smart join response|Failed to join nest):")
_TOLD: Final = re.compile(
    r"(Authenticated join response|Guest join response|Join nest response|Join nest as guest response"
    r"|Room info (?:found|failed|check)|Authenticated join failed|Guest join failed|Complete debug info"
    r"|Join nest (?:as guest )?failed|Smart join attempt|Connecting with join token|Trying (?:authenticated|guest) join"
    r"|Checking room info|Joining nest|LiveKit URL conversion|Nest details|Microphone|join successful)"
)
_MOST_JOINED: Final = 200
"""So many lines an object may be spread over."""

_YOUNG_S: Final = 30
"""The age below which the web client calls a 404 "still starting up"."""


@dataclass(slots=True)
class _Join:
    """A join under way. at: when the last thing was known to have happened, ns; asked: its requests so far."""

    line: Line
    room: str
    role: Role
    begun_at: int
    at: int
    age_s: float | None
    asked: list[Said] = field(default_factory=list)
    known: set[tuple[str, str]] = field(default_factory=set)

    @property
    def group(self) -> str:
        """What its requests have in common."""
        return digest(f"{self.line.number} {self.line.raw}")


@dataclass(slots=True)
class _Console:
    names: Names
    found: Reading = field(default_factory=Reading)
    join: _Join | None = None

    def begin(self, line: Line, facts: Mapping[str, Any]) -> None:
        """A join begins."""
        self.close(line, None)
        room = str(facts.get("roomId", ""))[:LONGEST_ROOM]
        made, age = facts.get("nestCreatedAt"), facts.get("timeSinceCreated")
        stamp = line.stamp or _second(made, age)
        if not room or stamp is None:
            return
        with contextlib.suppress(AddressError):
            self.found.nests[room] = str(read_address(str(facts.get("nestNaddr", ""))))
        role = Role.JOINER if facts.get("user") == "logged in" else Role.GUEST
        age_s = float(age) if isinstance(age, int | float) else None
        self.join = _Join(line=line, room=room, role=role, begun_at=stamp.at, at=stamp.at, age_s=age_s)

    def answer(self, line: Line, facts: Mapping[str, Any], operation: Operation) -> None:
        """An answer is told: its status, its words where the client wrote them, and when."""
        join, status = self.join, facts.get("status")
        stamp = stamp_of(facts.get("timestamp")) or line.stamp
        route = route_of("GET", str(facts.get("url", "")), self.names.api)
        if join is None or not isinstance(status, int) or not 100 <= status < 600:
            return
        if route is not None and route.operation is not operation:
            return
        told = (operation.value, str(facts.get("timestamp", line.number)))
        words = str(facts.get("errorText", ""))
        if told in join.known:
            self._reworded(operation, status, words)
            return
        join.known.add(told)
        ended = stamp.end if stamp is not None else join.at + round(self.names.longest_s * SECOND_NS)
        self._ask(line, operation, _judged(operation, status, words), ended=ended, facts={**facts, "status": status})

    def _reworded(self, operation: Operation, status: int, words: str) -> None:
        """An answer that was told before, and now with its words."""
        join = self.join
        if join is None or not words:
            return
        for place, said in enumerate(join.asked):
            if said.operation is operation and said.status == status:
                join.asked[place] = replace(said, judgement=_judged(operation, status, words))

    def _ask(
        self, line: Line, operation: Operation, judgement: Judgement, *, ended: int, facts: Mapping[str, Any]
    ) -> None:
        join = self.join
        assert join is not None
        url = str(facts.get("url", ""))
        base = url.partition("?")[0].partition(PATH)[0] + PATH if PATH in url else ""
        join.asked.append(
            Said(
                line=line.number,
                mark=line.mark,
                source=Source.API,
                operation=operation,
                judgement=judgement,
                begun_at=min(join.at, ended),
                ended_at=max(join.at, ended),
                target=self.names.api or base or PATH,
                room=join.room,
                role=join.role if operation is Operation.INFO else role_of(operation),
                status=facts["status"],
                group=join.group,
                facts=_info(facts) if operation is Operation.INFO else {},
            )
        )
        join.at = max(join.at, ended)

    def close(self, line: Line, ended: tuple[str, Mapping[str, Any]] | None) -> None:
        """The join ends, or is left without an end."""
        join, self.join = self.join, None
        if join is None:
            return
        if ended is not None:
            self._verdict(line, join, *ended)
        self.found.said.extend(join.asked)

    def _verdict(self, line: Line, join: _Join, words: str, facts: Mapping[str, Any]) -> None:
        until = max(join.at, line.stamp.end if line.stamp is not None else join.at)
        if facts.get("joinType") in ("authenticated", "guest"):
            kind = Kind.AUTHENTICATED if facts["joinType"] == "authenticated" else Kind.GUEST
            if kind is Kind.GUEST and join.role is Role.JOINER:
                kind = Kind.GUEST_INSTEAD
            token = facts.get("tokenType")
            if token not in (None, "string"):
                kind = Kind.BAD_TOKEN
            self._granted(join, kind)
        else:
            kind = _failed_as(join, words)
        outcome, failure = _OUTCOMES.get(kind, (Outcome.VISIBLE, None))
        judgement = Judgement(outcome, failure, FailureLayer.API if failure else None, words[:200] if failure else "")
        said = {"message": _message(kind, words), "policy": "web client", "requests": len(join.asked)}
        took = {"verdict": kind.value, "elapsed_s": (until - join.begun_at) / SECOND_NS, "age_s": join.age_s}
        self.found.said.append(
            Said(
                line=line.number,
                mark=line.mark,
                source=Source.JOIN,
                operation=Operation.VERDICT,
                judgement=judgement,
                begun_at=join.begun_at,
                ended_at=until,
                target=self.names.api or PATH,
                room=join.room,
                role=join.role,
                group=join.group,
                facts=said | took,
            )
        )

    def _granted(self, join: _Join, kind: Kind) -> None:
        """The token of the last answer is one, or is none."""
        good = kind is not Kind.BAD_TOKEN
        wrong = unproved(Failure.BAD_TOKEN, "the token is not a string")
        for place, said in enumerate(join.asked):
            if said.operation is not Operation.INFO and said.status == 200:
                join.asked[place] = replace(said, judgement=Judgement(Outcome.VISIBLE) if good else wrong)


_OUTCOMES: Final = {
    Kind.STARTING_UP: (Outcome.UNKNOWN, Failure.NOT_FOUND),
    Kind.GONE: (Outcome.UNKNOWN, Failure.NOT_FOUND),
    Kind.UNAUTHORISED: (Outcome.REFUSED, Failure.UNAUTHORISED),
    Kind.FORBIDDEN: (Outcome.REFUSED, Failure.FORBIDDEN),
    Kind.RATE_LIMITED: (Outcome.REFUSED, Failure.RATE_LIMITED),
    Kind.API_DOWN: (Outcome.UNKNOWN, Failure.SERVER_ERROR),
    Kind.BAD_TOKEN: (Outcome.UNKNOWN, Failure.BAD_TOKEN),
    Kind.LIVEKIT_UNREACHABLE: (Outcome.UNKNOWN, Failure.UNREACHABLE),
}
_BY_STATUS: Final = {401: Kind.UNAUTHORISED, 403: Kind.FORBIDDEN, 429: Kind.RATE_LIMITED}


def _failed_as(join: _Join, words: str) -> Kind:
    """How a join ended that failed: by its last answer, and by its age as the web client's rule has it."""
    last = join.asked[-1].status if join.asked else None
    if last == 404 or (last is None and "not found" in words.lower()):
        return Kind.STARTING_UP if (join.age_s or 0.0) < _YOUNG_S else Kind.GONE
    if last == 200:
        return Kind.LIVEKIT_UNREACHABLE
    return _BY_STATUS.get(last or 0, Kind.API_DOWN)


def _message(kind: Kind, words: str) -> str:
    """What the page showed: the rule of the age for what it takes for a 404, else the error's own words."""
    if kind not in _OUTCOMES:
        return ""
    if any(one in words for one in ("Not Found", "404", "no longer active")):
        return STARTING if kind is Kind.STARTING_UP else GONE
    return f"Failed to join nest: {words}"[:300] if words else MESSAGES.get(kind, "")


def _judged(operation: Operation, status: int, words: str) -> Judgement:
    """What an answer proves of which a console tells the status, and its words where it has them."""
    if words:
        return find(operation, Heard(status, {}, json_object(words), words)).judgement
    if 200 <= status < 300 or status == 404:
        whose = f"HTTP {status}, of which the console does not tell whose it is"
        return unproved(Failure.UNEXPECTED, whose, FailureLayer.HTTP)
    return answered(status)


def _info(facts: Mapping[str, Any]) -> dict[str, Any]:
    keep = ("host", "createdAt", "participantCount", "link")
    told = {name: facts[name] for name in keep if name in facts}
    return {"info": told} if told else {}


def _second(made: object, age: object) -> Stamp | None:
    if not isinstance(made, int) or not isinstance(age, int) or abs(age) > 10**9:
        return None
    known = stamp_of(made + age)
    return known if known is not None and known.grain == SECOND_NS else None


def facts_in(text: str) -> dict[str, Any]:
    """What an object holds as consoles print one, JSON or not: its texts, numbers and truths, inner ones included."""
    return {name: _value(value) for name, value in _PAIR.findall(text[:20_000])}


def _value(text: str) -> Any:
    if text[0] in "\"'":
        return text[1:-1].replace('\\"', '"').replace("\\'", "'").replace("\\\\", "\\")
    if text in _WORDS:
        return _WORDS[text]
    return float(text) if "." in text else int(text)


_WORDS: Final = {"true": True, "false": False, "null": None, "undefined": None}


def _whole(lines: Iterable[Line]) -> Iterator[tuple[Line, str]]:
    """Each line with the text of those that follow it, while an object in it is open."""
    held: tuple[Line, list[str], int] | None = None
    for line in lines:
        depth = line.text.count("{") - line.text.count("}")
        if held is not None:
            first, texts, before = held
            texts.append(line.text)
            held = first, texts, before + depth
            if before + depth <= 0 or len(texts) > _MOST_JOINED:
                yield first, "\n".join(texts)
                held = None
        elif depth > 0 and (_TOLD.search(line.text) or _STARTS.search(line.text) or _ENDS.search(line.text)):
            held = line, [line.text], depth
        else:
            yield line, line.text
    if held is not None:
        yield held[0], "\n".join(held[1])


def read(lines: Iterable[Line], names: Names) -> Reading:
    """What a console says of joins."""
    console = _Console(names)
    found = console.found

    def counted() -> Iterator[Line]:
        for line in lines:
            found.lines += 1
            yield line

    last = Line(0, "", "")
    for line, text in _whole(counted()):
        last = line
        found.zoneless += line.stamp is not None and not line.stamp.zoned
        if (start := _STARTS.search(text)) is not None:
            console.begin(line, facts_in(text[start.end() :]))
        elif (end := _ENDS.search(text)) is not None:
            facts, words = facts_in(text[end.end() :]), text[end.end() :].strip().partition("\n")[0]
            console.close(line, (words.removeprefix("Error: ")[:300], facts))
        elif (told := _TOLD.search(text)) is not None:
            _tell(console, line, told[1], text[told.end() :])
        elif not _other(text):
            found.not_understood(line.number)
    console.close(last, None)
    found.idle = max(0, found.lines - found.misread - len(found.said))
    return found


def _tell(console: _Console, line: Line, what: str, text: str) -> None:
    if what == "Complete debug info":
        for inner in _INNER.findall(text[:60_000]):
            facts = facts_in(inner)
            if facts.get("type") in ("authenticated", "guest") and "status" in facts:
                operation = Operation.JOIN if facts["type"] == "authenticated" else Operation.GUEST
                console.answer(line, facts, operation)
    elif what in _ANSWERS:
        facts = facts_in(text)
        if what == "Room info found":
            console.answer(line, facts | {"status": 200, "errorText": _as_json(facts)}, Operation.INFO)
        else:
            console.answer(line, facts, _ANSWERS[what])


def _as_json(facts: Mapping[str, Any]) -> str:
    return json.dumps({name: facts[name] for name in ("host", "link", "participantCount") if name in facts})


_ANSWERS: Final = {
    "Authenticated join response": Operation.JOIN,
    "Authenticated join failed": Operation.JOIN,
    "Join nest response": Operation.JOIN,
    "Guest join response": Operation.GUEST,
    "Guest join failed": Operation.GUEST,
    "Join nest as guest response": Operation.GUEST,
    "Room info found": Operation.INFO,
    "Room info failed": Operation.INFO,
}


def _other(text: str) -> bool:
    """Whether a line is of a console all the same: what another part of the page wrote, with its file and line."""
    return bool(_CLOCK_ONLY.match(text)) or re.search(r"\.(?:tsx?|jsx?|html):\d{1,6}", text[:2_000]) is not None


def speaks(text: str) -> bool:
    """Whether the web client writes so of a join."""
    return _STARTS.search(text) is not None or _ENDS.search(text) is not None or _TOLD.search(text) is not None
