"""HAR files (HTTP Archive 1.2), as browsers save what a page asked: requests to a Nests API and to relays.

An answer is judged as a live one, by its head and body (sources/proof). Its instants are the browser's; each `Date`
tells within a second how far that clock is from the server's, and many do so much more closely. What Chrome keeps of
websockets (`_webSocketMessages`) is read as a relay's transcript. Of LiveKit's signalling only the room of its token is
read, and whether LiveKit said anything. Headers of requests, cookies, tokens and bodies are not kept.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from nestobs.collector.imports.lines import Line, Stamp, stamp_of
from nestobs.collector.imports.requests import PATH, Request, Route, role_of, route_of, sighting_of
from nestobs.collector.imports.said import Names, Reading, Said
from nestobs.collector.imports.transcript import Talk
from nestobs.join.fields import instant
from nestobs.nostr import json_object
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import LONGEST_ROOM, Failure, FailureLayer, Operation, Outcome, Role, Source
from nestobs.sources.failures import Judgement, unproved
from nestobs.sources.livekit_http import claims_of
from nestobs.sources.proof import Form, Heard, find, told_by_info

DEPTH: Final = 0
"""Of what a browser sees: all else happens within it."""

_BODY: Final = 262_144
_MS: Final = 1_000_000
_ENTRIES: Final = 200_000
_FAILED: Final = (
    ("REFUSED", Failure.REFUSED, FailureLayer.TCP),
    ("NAME_NOT_RESOLVED", Failure.DNS, FailureLayer.DNS),
    ("TIMED_OUT", Failure.TIMEOUT, FailureLayer.HTTP),
    ("RESET", Failure.RESET, FailureLayer.TCP),
    ("CERT", Failure.TLS, FailureLayer.TLS),
    ("SSL", Failure.TLS, FailureLayer.TLS),
    ("DISCONNECTED", Failure.NO_NETWORK, FailureLayer.PROBER),
    ("ABORTED", Failure.CLOSED, FailureLayer.HTTP),
)
"""How Chrome names what went wrong (`net::ERR_…`)."""


def entries_of(text: str) -> list[Any] | None:
    """The entries of a HAR; None where the text is none."""
    log = (json_object(text.lstrip("\ufeff")) or {}).get("log")
    entries = log.get("entries") if isinstance(log, dict) else None
    return entries if isinstance(entries, list) else None


def read(text: str, names: Names) -> Reading:
    """What a HAR says of nests. Each entry counts as a line."""
    found, form = Reading(), Form()
    for number, entry in enumerate((entries_of(text) or [])[:_ENTRIES], 1):
        found.lines += 1
        before = len(found.said)
        if not isinstance(entry, dict) or not _entry(found, entry, number, names, form):
            found.not_understood(number)
        else:
            found.idle += len(found.said) == before
    return found


def _entry(found: Reading, entry: Mapping[str, Any], number: int, names: Names, form: Form) -> bool:
    """Write down what one entry says; False where it is none."""
    request, response = _inner(entry, "request"), _inner(entry, "response")
    url, method = request.get("url"), request.get("method")
    began = stamp_of(entry.get("startedDateTime"))
    took_ms = entry.get("time")
    if not isinstance(url, str) or not isinstance(method, str) or began is None or len(url) > 20_000:
        return False
    took = round(took_ms * _MS) if isinstance(took_ms, int | float) and 0 <= took_ms < 1e9 else 0
    line = Line(number, json.dumps(entry, sort_keys=True, default=str), "", began)
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme in ("ws", "wss") or isinstance(entry.get("_webSocketMessages"), list):
        _socket(found, entry, line, url, names)
    elif (route := route_of(method, url, names.api)) is not None:
        cached = bool(entry.get("_fromCache")) or _from_cache(response)
        span = began.at, began.end + took
        _asked(found, response, line, span=span, route=route, url=url, cached=cached, names=names, form=form)
    return True


def _asked(
    found: Reading,
    response: Mapping[str, Any],
    line: Line,
    *,
    span: tuple[int, int],
    route: Route,
    url: str,
    cached: bool,
    names: Names,
    form: Form,
) -> None:
    """A request to a Nests API. span: within what it was asked and answered, ns. cached: by the browser itself."""
    status, headers = response.get("status"), _headers(response)
    body, text = _body(response)
    status = status if isinstance(status, int) and 100 <= status < 600 else None
    remote_at = instant(headers.get("date"))
    if status is None:
        judgement = _unanswered(response)
    elif cached:
        judgement = unproved(Failure.CACHED, f"HTTP {status} from the browser's cache", FailureLayer.HTTP)
    else:
        heard = Heard(status, headers, body, text)
        finding = find(route.operation, heard, form)
        judgement = finding.judgement
        if finding.sure:
            form.learn(headers, worded=finding.worded)
        if remote_at is not None:
            found.ahead.append((span[0] - remote_at - SECOND_NS, span[1] - remote_at))
    room, facts = route.room, dict[str, Any]()
    if route.operation is Operation.INFO and body is not None and judgement.outcome is Outcome.VISIBLE:
        facts["info"] = told_by_info(body)
        if isinstance(host := body.get("host"), str):
            found.nests.setdefault(room, f"30312:{host}:{room}")
    if route.operation is Operation.CREATE and judgement.outcome is Outcome.ACCEPTED and body is not None:
        room = str(body.get("roomId", ""))[:LONGEST_ROOM]
    found.said.append(
        Said(
            line=line.number,
            mark=line.mark,
            source=Source.API,
            operation=route.operation,
            judgement=judgement,
            begun_at=span[0],
            ended_at=span[1],
            target=names.api or _base(url),
            room=room,
            role=role_of(route.operation),
            status=status,
            remote_at=remote_at,
            remote_grain_s=None if remote_at is None else 1.0,
            software=(headers.get("server") or headers.get("x-powered-by") or "")[:80],
            facts=facts,
        )
    )
    asked = Request(method="", path="", status=status, stamp=Stamp(span[0], span[1] - span[0]), took_s=0.0)
    found.seen.append(sighting_of(asked, route, names.longest_s, DEPTH))


def _socket(found: Reading, entry: Mapping[str, Any], line: Line, url: str, names: Names) -> None:
    """A websocket: LiveKit's signalling where its URL has a token, else what a relay and a client said."""
    parts = urlsplit(url)
    messages = [one for one in entry.get("_webSocketMessages") or [] if isinstance(one, dict)]
    tokens = parse_qs(parts.query).get("access_token") if "access_token=" in parts.query else None
    bare = f"{parts.scheme.replace('http', 'ws', 1)}://{parts.netloc.rpartition('@')[2]}"
    if tokens:
        _signalled(found, line, (names.livekit or bare, tokens[0]), messages)
        return
    talk = Talk(found, names, names.relay or (bare + parts.path).rstrip("/"))
    for message in messages:
        data, when = message.get("data"), stamp_of(message.get("time"))
        if isinstance(data, str) and when is not None and data.startswith("["):
            talk.feed(Line(line.number, f"{when.at} {data}", data, when), data)
    talk.end()


def _signalled(found: Reading, line: Line, where: tuple[str, str], messages: list[dict[str, Any]]) -> None:
    """What LiveKit's signalling came to: it answered, if the first message that came is there."""
    target, token = where
    claims = claims_of(token)
    video = claims.get("video")
    room = video.get("room") if isinstance(video, dict) else None
    if not isinstance(room, str) or not room or line.stamp is None:
        return
    first = next((one for one in messages if one.get("type") == "receive"), {})
    judgement, sids = _welcomed(first.get("data"), room)
    at, identity = stamp_of(first.get("time")), str(claims.get("sub", ""))
    found.said.append(
        Said(
            line=line.number,
            mark=line.mark,
            source=Source.LIVEKIT,
            operation=Operation.SIGNAL,
            judgement=judgement,
            begun_at=line.stamp.at,
            ended_at=max(line.stamp.at, at.end if at is not None else line.stamp.end),
            target=target,
            room=room[:LONGEST_ROOM],
            role=Role.GUEST if identity.startswith("guest") else Role.JOINER,
            facts=sids,
        )
    )


def _welcomed(data: object, room: str) -> tuple[Judgement, dict[str, Any]]:
    """What LiveKit's first message says: whether it let in whom it answered, and the sids that it told."""
    from google.protobuf.message import DecodeError
    from livekit.protocol.rtc import SignalResponse

    def strange(words: str) -> tuple[Judgement, dict[str, Any]]:
        return unproved(Failure.UNEXPECTED, words, FailureLayer.SIGNAL), {}

    try:
        answer = SignalResponse.FromString(base64.b64decode(str(data or "")[: 2 * _BODY], validate=True))
    except (DecodeError, binascii.Error, ValueError):
        return strange("LiveKit's first message cannot be read")
    if answer.WhichOneof("message") != "join":
        return strange(f"LiveKit's first message was {answer.WhichOneof('message') or 'not in the file'}")
    if answer.join.room.name != room:
        return strange("LiveKit let into another room than the token's")
    return Judgement(Outcome.VISIBLE), {"room_sid": answer.join.room.sid}


def _inner(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = entry.get(name)
    return value if isinstance(value, dict) else {}


def _headers(response: Mapping[str, Any]) -> dict[str, str]:
    listed = response.get("headers")
    pairs = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    found: dict[str, str] = {}
    for one in pairs[:200]:
        name, value = one.get("name"), one.get("value")
        if isinstance(name, str) and isinstance(value, str):
            key = name.lower()[:200]
            found[key] = f"{found[key]}, {value[:2_000]}" if key in found else value[:2_000]
    return found


def _body(response: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    """The body as an object, None where it is none, and its beginning as text."""
    content = _inner(response, "content")
    text = content.get("text")
    if not isinstance(text, str):
        return None, ""
    if content.get("encoding") == "base64":
        try:
            text = base64.b64decode(text[: 2 * _BODY], validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            return None, ""
    return json_object(text) if len(text) <= _BODY else None, text[:4_096]


def _from_cache(response: Mapping[str, Any]) -> bool:
    return response.get("_transferSize") == 0 and response.get("_fetchedViaServiceWorker") is True


def _unanswered(response: Mapping[str, Any]) -> Judgement:
    error = response.get("_error")
    words = error[:100] if isinstance(error, str) and error else "no answer in the file"
    for name, failure, layer in _FAILED:
        if name in words.upper():
            return unproved(failure, words, layer)
    return unproved(Failure.UNREACHABLE, words, FailureLayer.TCP)


def _base(url: str) -> str:
    """The API's base in a URL, without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.partition(PATH)[0]}{PATH}"[:2_000]
