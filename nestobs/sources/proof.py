"""What an answer proves of a nest: only the Nests API's own word counts, said for this question.

Proxies, gateways and web apps in front of an API answer too, while it restarts or for ever: 404 in plain text, JSON,
HTML or without a word, or 200 with a page to whatever is asked. So an answer must be in the form in which this API
answers (contracts of the two deployed implementations):

    yes     200 with what the call promises: a token, /info's host, the roomId of a PUT; 204 to a DELETE
    no      404 with an error that speaks of a nest; what only a web framework would say (an empty 404, problem+json)
            where answers that were surely the API's have shown that this framework serves it

and it must not contradict what those answers have in common: who serves them, and the fields that each of them has. All
else is `unknown`, in words that say what answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from nestobs.join.fields import fine_instant
from nestobs.observation import reasons
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome
from nestobs.sources.caching import copied
from nestobs.sources.failures import Judgement, absent, answered, unproved

_OWN_NO: Final = re.compile(r"(the )?nest\b[^/<>]{0,80}", re.IGNORECASE)
"""An error about a nest. One that quotes the path asked is a router's."""

_OWN_401: Final = re.compile(r"(missing or invalid authorization header|invalid nip-98 authentication)", re.IGNORECASE)
_JWT: Final = re.compile(r"[\w-]{1,4096}\.[\w-]{1,8192}\.[\w-]{1,4096}", re.ASCII)
_TOKEN: Final = re.compile(r"[!-~]{1,16384}")
_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ROOM_ID: Final = re.compile(r"[^\s\x00-\x1f\x7f\ud800-\udfff]{1,200}")
_TRACE: Final = re.compile(r"[\w:|.-]{8,80}", re.ASCII)
_MARKS: Final = ("ratelimit-policy", "ratelimit-limit", "ratelimit", "x-ratelimit-limit", "x-powered-by", "etag")
_JSON_TYPE: Final = "JSON content type"
_OF_A_BODY: Final = frozenset({"etag", _JSON_TYPE})
_TITLE: Final = re.compile(r"<title[^>]{0,80}>([^<]{1,80})", re.IGNORECASE)
_WORDS: Final = ("error", "message", "title", "detail")
UNTOLD: Final = "any .NET service says so, and no answer has shown yet that the Nests API is behind it"
_PAGE_CHARACTERS: Final = 2_000


@dataclass(slots=True)
class Form:
    """In which form one API answers, by its sure answers.

    servers: who served them. marks: which of `_MARKS` each of them had; None before the first. worded: whether one of
    them was as only E writes it, which says no in words.
    """

    servers: set[str] = field(default_factory=set)
    marks: frozenset[str] | None = None
    worded: bool = False

    def learn(self, headers: Mapping[str, str], *, worded: bool = False) -> None:
        """The headers of an answer that was surely the API's."""
        had = _marks(headers)
        self.marks = had if self.marks is None else self.marks & had
        self.worded |= worded
        if len(self.servers) < 16:
            self.servers.add(_server(headers))

    def contradicts(self, headers: Mapping[str, str], *, empty: bool = False) -> str:
        """What speaks against an answer's being the API's, "" where nothing does. `empty`: it has no body to mark."""
        if self.marks is None:
            return ""
        if (server := _server(headers)) not in self.servers:
            known = " or ".join(sorted(filter(None, self.servers))) or "nobody named"
            return f"served by {server or 'nobody named'}, where the API's own answers are by {known}"
        lacking = self.marks - _marks(headers) - (_OF_A_BODY if empty else frozenset())
        return f"without the {min(lacking)} that the API's own answers have" if lacking else ""


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer: headers by lower-case name; body: the JSON object, None where it is none; text: the body as text."""

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, Any] | None = None
    text: str = ""

    @property
    def said(self) -> str:
        """What it says for people, cut; "" where that is nothing."""
        for name in _WORDS:
            if self.body is not None and isinstance(found := self.body.get(name), str):
                return found[:200]
        return ""


class Finding(NamedTuple):
    """What an answer proves; `sure`: it is the API's own, whose form can be learned; `worded`: see Form."""

    judgement: Judgement
    sure: bool = False
    worded: bool = False


def find(operation: Operation, heard: Heard, form: Form | None = None, *, late_s: float = 0.0) -> Finding:
    """What an answer proves: outcome, failure, its layer, and the reason in words. Pure.

    form: what is known of the API. late_s: by how much the answer's Date is older than the question.
    """
    form = form or Form()
    if heard.status == 404:
        return Finding(_judge_404(operation, heard, form, late_s))
    if 200 <= heard.status < 300:
        deleted = operation is Operation.DELETE
        found = Finding(_judge_deletion(heard, form)) if deleted else _judge_2xx(operation, heard)
        return _not_a_copy(found, heard, late_s)
    sure = heard.status == 401 and _OWN_401.fullmatch(heard.said) is not None
    return Finding(answered(heard.status, heard.said or _page(heard)), sure, worded=sure)


def judge(operation: Operation, status: int, headers: Mapping[str, str], body: Mapping[str, Any] | None) -> Judgement:
    """What an answer proves by itself, where nothing is known of the API. See `find`."""
    return find(
        operation, Heard(status, headers, body, "" if body is None else json.dumps(body, default=str))
    ).judgement


def _not_a_copy(found: Finding, heard: Heard, late_s: float) -> Finding:
    """A copied "yes" says that it was so once: the nest may have gone since, and nothing new was made or deleted."""
    if found.judgement.failure is not None:
        return found
    if copy := copied(heard.headers):
        return Finding(unproved(Failure.CACHED, f"a cache's copy ({copy}): it was so once", FailureLayer.HTTP))
    if late_s:
        late = f"its Date is {late_s:.0f} s older than the question, as of a cache's copy: it was so once"
        return Finding(unproved(Failure.CACHED, late, FailureLayer.HTTP))
    return found


def _judge_404(operation: Operation, heard: Heard, form: Form, late_s: float) -> Judgement:
    own = _own_no(heard, form)
    said = own or heard.said or "HTTP 404"
    if copy := copied(heard.headers):
        return unproved(Failure.CACHED, f"a cache's copy ({copy}): {said}", FailureLayer.HTTP)
    if said == "Endpoint not found" or operation is Operation.HEALTH:
        return unproved(Failure.WRONG_PATH, f"{heard.said or 'no such path'}: check the API address")
    foreign = form.contradicts(heard.headers, empty=not heard.text) if own else "not as the Nests API says no"
    if not own and form.marks is None and _framework_no(heard):
        foreign = UNTOLD
    if foreign:
        return _foreign(heard, foreign)
    if late_s:
        late = f"its Date is {late_s:.0f} s older than the question, as of a cache's copy: {said}"
        return unproved(Failure.CACHED, late, FailureLayer.HTTP)
    return absent(said)


def _own_no(heard: Heard, form: Form) -> str:
    """The words of a 404 in the form in which an API says no; "" where it is in none.

    E says it in words. D says nothing at all, or what its framework writes for it: own only where D is known to answer.
    """
    body = heard.body or {}
    own = next((said for name in _WORDS if isinstance(said := body.get(name), str) and _OWN_NO.fullmatch(said)), "")
    return own if own or form.marks is None or form.worded else _framework_no(heard)


def _framework_no(heard: Heard) -> str:
    """The words of a 404 as .NET writes it; "" where it is none of these."""
    if heard.body is None:
        return "HTTP 404" if not heard.text and _server(heard.headers) == "kestrel" else ""
    trace, problem = heard.body.get("traceId"), (heard.body.get("title"), heard.body.get("status"))
    traced = isinstance(trace, str) and _TRACE.fullmatch(trace) is not None
    return "Not Found" if traced and problem == ("Not Found", 404) else ""


def _judge_deletion(heard: Heard, form: Form) -> Judgement:
    if heard.status != 204 or heard.text:
        return _foreign(heard, "the API answers 204 to a DELETE, so nothing is proved")
    foreign = form.contradicts(heard.headers, empty=True)
    return _foreign(heard, foreign) if foreign else Judgement(Outcome.ACCEPTED)


def _judge_2xx(operation: Operation, heard: Heard) -> Finding:
    if heard.body is None:
        return Finding(_foreign(heard, "the answer is not a JSON object"))
    if heard.body.get("error"):
        said = heard.said or str(heard.body["error"])[:80]
        return Finding(unproved(Failure.UNEXPECTED, f"HTTP {heard.status} {reasons.ERROR_INSIDE}: {said}"))
    match operation:
        case Operation.CREATE | Operation.RESTART:
            return _judge_made(heard.body)
        case Operation.JOIN | Operation.GUEST:
            return _judge_token(heard.body.get("token"))
        case Operation.INFO:
            return _judge_info(heard, heard.body)
    alive = isinstance(heard.body.get("status"), str) and ("timestamp" in heard.body or "version" in heard.body)
    return Finding(Judgement(Outcome.ACCEPTED) if alive else _foreign(heard, "not the API's own health"))


def _judge_info(heard: Heard, body: Mapping[str, Any]) -> Finding:
    listed = isinstance(body.get("speakers"), list) or isinstance(body.get("admins"), list)
    if is_key(body.get("host")) and (listed or isinstance(body.get("link"), str)):
        return Finding(Judgement(Outcome.VISIBLE), sure=True, worded="participantCount" in body)
    return Finding(_foreign(heard, "it names no host and speakers, as the API's /info does"))


def _judge_made(body: Mapping[str, Any]) -> Finding:
    room = body.get("roomId")
    if not isinstance(room, str) or not _ROOM_ID.fullmatch(room):
        return Finding(unproved(Failure.UNEXPECTED, "the answer names no roomId"))
    return Finding(Judgement(Outcome.ACCEPTED), sure=is_jwt(body.get("token")))


def _judge_token(token: object) -> Finding:
    if isinstance(token, str) and _TOKEN.fullmatch(token):
        return Finding(Judgement(Outcome.VISIBLE), sure=is_jwt(token))
    found = "not in the form of one" if isinstance(token, str) and token else f"{_kind(token)}, not a string"
    return Finding(unproved(Failure.BAD_TOKEN, f"the token is {found}"))


def told_by_info(body: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """What may be kept of an answer to /info."""
    keep = ("host", "status", "createdAt", "participantCount", "recording", "link")
    return {name: body[name] for name in keep if isinstance(body.get(name), str | int | float | bool)}


def told_by_health(body: Mapping[str, Any] | None) -> tuple[int, float] | None:
    """The time that the API's own health tells, finer than a Date: ns UTC, and to how many seconds it is cut off; None
    where it tells none."""
    said = None if body is None else body.get("timestamp")
    return fine_instant(said) if isinstance(said, str) else None


def is_jwt(value: object) -> bool:
    """Whether this is in the form of a JWT: three parts of base64url, of bounded length."""
    return isinstance(value, str) and _JWT.fullmatch(value) is not None


def is_key(value: object) -> bool:
    """Whether this is in the form of a public key."""
    return isinstance(value, str) and _HEX_KEY.fullmatch(value) is not None


def _foreign(heard: Heard, why: str) -> Judgement:
    return unproved(Failure.UNEXPECTED, f"{_page(heard)}: {why}", FailureLayer.HTTP)


def _page(heard: Heard) -> str:
    """What answered, in words: status, who says to have served it, its type, its title or first words."""
    kind = heard.headers.get("content-type", "")[:80].partition(";")[0].strip()
    title = _TITLE.search(heard.text[:_PAGE_CHARACTERS])
    words = " ".join((title[1] if title else heard.text[:80]).split())
    server = _server(heard.headers)
    parts = [f"by {server}" if server else "", kind, repr(words) if words else "an empty body"]
    return f"HTTP {heard.status} ({', '.join(filter(None, parts))})"


def _marks(headers: Mapping[str, str]) -> frozenset[str]:
    json_type = {_JSON_TYPE} if "json" in headers.get("content-type", "")[:80].lower() else set()
    return frozenset(json_type.union(name for name in _MARKS if name in headers))


def _server(headers: Mapping[str, str]) -> str:
    """Who says to have served an answer: the product without its version, "" where nobody does."""
    return re.split(r"[/\s(]", headers.get("server", "")[:80].strip().lower(), maxsplit=1)[0][:40]


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", type(None): "missing", str: "empty"}.get(type(value), "a number")
