"""What LiveKit says, in plain words and without a secret. Pure.

LiveKit puts the cause of a refusal at the end of its words, behind the token it repeats: so the token is taken out and
the rest kept. A refusal that could have several causes is told by the one that the words, or the token's own claims
(read, not verified), name. What is no answer of LiveKit at all, a page of a web server mostly, is told from one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from nestobs.observation import reasons
from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.observation.text import shortened
from nestobs.sources.failures import Judgement, answered

NO_SUCH_ROOM: Final = "requested room does not exist"
"""LiveKit's own words; any other 404 is about a path."""

MOST_WORDS: Final = 240

_CAUSES: Final = (
    (("not valid yet", "(nbf)"), f"{reasons.NOT_YET_VALID}{{ahead}}: the clock of who signed it is ahead of LiveKit's"),
    (("is expired", "(exp)", "has expired"), f"{reasons.EXPIRED}{{ago}}"),
    (("cryptographic primitive", "signature"), "the token is signed with another key than LiveKit's"),
    (("invalid api key",), "the token names an API key that LiveKit does not have"),
    (("permissions denied", "no permissions"), "the token does not allow this"),
    (("invalid authorization token",), "what was given is no token"),
)

_PLAIN_TEXT: Final = ("wrong_version_number", "wrong version number", "record layer failure", "http_request")
"""How TLS fails where the other side answers in plain text."""

_WANTS_TLS: Final = ("http request was sent to https", "http request to an https", "plain http request")
"""What servers that speak TLS say to plain text (nginx, Go's net/http, Apache's Bad Request page)."""


def scrubbed(text: str, *secrets: str) -> str:
    """The text in a line, printable and not too long, with `[token]` for each of these."""
    for secret in secrets:
        text = text.replace(secret, "[token]") if secret else text
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return shortened(words, MOST_WORDS)


def refusal(said: str, claims: Mapping[str, Any], now_s: float) -> str:
    """Why LiveKit refuses a token: what it says, explained where it is known. `said` is scrubbed, `now_s` our clock."""
    low = said.lower()
    for marks, words in _CAUSES:
        if any(mark in low for mark in marks):
            spans = {"ahead": _span(claims.get("nbf"), now_s, +1), "ago": _span(claims.get("exp"), now_s, -1)}
            return f"{words.format(**spans)} ({said})"
    return said


def _span(stamp: object, now_s: float, sign: int) -> str:
    """How far an instant lies ahead (+1) or back (-1) of our own clock; "" where it does not."""
    if not isinstance(stamp, int | float) or not 0 <= stamp < 1e12:
        return ""
    distance_s = sign * (stamp - now_s)
    if not 0 < distance_s < 1e9:
        return ""
    return f" ({distance_s:.0f} s ahead of this clock)" if sign > 0 else f" ({distance_s:.0f} s ago by this clock)"


def is_page(content_type: str, body: str) -> bool:
    """Whether an answer is a page for people: LiveKit has none."""
    return "html" in content_type.lower() or body.lstrip()[:1] == "<"


def http_answer(status: int, said: str, content_type: str, path: str) -> Judgement:
    """What an HTTP answer proves that is not what was asked for. `said`: its body, scrubbed; `path`: what was asked."""
    layer = FailureLayer.SIGNAL
    page = is_page(content_type, said)
    if status == 404 and NO_SUCH_ROOM in said and not page:
        return Judgement(Outcome.ABSENT, Failure.NOT_FOUND, layer, said)
    if any(mark in said.lower() for mark in _WANTS_TLS):
        return _unknown(Failure.UNEXPECTED, "speaks TLS where plain text was sent: write wss://")
    what = "a web page" if page else "another server's words" if said else "nothing more"
    if status in (404, 405):
        return _unknown(Failure.WRONG_PATH, f"HTTP {status} and {what} where {path} should be: is the path right?")
    if page or 200 <= status < 300:
        found = answered(status, layer=layer)
        words = f"HTTP {status} and {what} instead of LiveKit's answer to {path}"
        return found._replace(reason=words, failure=found.failure or Failure.UNEXPECTED)
    return answered(status, said or f"HTTP {status} instead of LiveKit's answer to {path}", layer=layer)


def redirected(status: int, location: str) -> Judgement:
    """A redirect, which is not followed: to whom. What a location holds beyond the path may repeat a token."""
    try:
        parts = urlsplit(location)
        where = f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        where = where if parts.hostname else parts.path
    except ValueError:
        where = "what is no URL"
    return _unknown(Failure.UNEXPECTED, f"HTTP {status}: redirects to {scrubbed(where)[:160]}; not followed")


def plain_text(judgement: Judgement) -> Judgement:
    """A failure of TLS, said plainly where the other side speaks plain text."""
    if judgement.failure is Failure.TLS and any(mark in judgement.reason.lower() for mark in _PLAIN_TEXT):
        said = f"speaks plain ws where wss was expected: write ws:// where that is meant ({judgement.reason})"
        return judgement._replace(reason=said)
    return judgement


def _unknown(failure: Failure, reason: str) -> Judgement:
    return Judgement(Outcome.UNKNOWN, failure, FailureLayer.SIGNAL, reason)


REMOVALS: Final = {
    "ROOM_DELETED": f"{reasons.ROOM_DELETED} while we were inside",
    "ROOM_CLOSED": f"{reasons.ROOM_CLOSED} while we were inside",
    "PARTICIPANT_REMOVED": f"somebody {reasons.REMOVED} from the room",
    "DUPLICATE_IDENTITY": f"somebody came in {reasons.REPLACED} and took our place",
}
"""LiveKit's reasons for sending one away who was inside. The server was reached, and meant it."""


def left(reason: str) -> tuple[Failure, str]:
    """Why we are outside, from LiveKit's DisconnectReason by name: `removed` where somebody meant it."""
    if reason in REMOVALS:
        return Failure.REMOVED, REMOVALS[reason]
    known = reason.lower().replace("_", " ") if reason and reason != "UNKNOWN_REASON" else "no reason given"
    return Failure.DROPPED, f"the server told us to leave ({known})"
