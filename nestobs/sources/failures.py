"""Why an attempt brought no answer: one table, from what was raised to an observation's words.

Four libraries raise what the network does (asyncio, websockets, httpx, aiohttp), each by exceptions of its own, wrapped
in one another and in groups. `named` looks through all that an exception was made of and takes the first rule that fits
any of it: so the particular stands above the general, and the same fault has the same name whoever met it. Exceptions
are told by name, so that no library is loaded only to be named. What HTTP statuses refuse is a table of its own.

An exception that no rule knows is our own fault: `internal`, by its type alone, since its text may hold a secret.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources.clock import Held

if TYPE_CHECKING:
    from websockets.exceptions import ConnectionClosed


class Judgement(NamedTuple):
    """What came of an attempt. The fields are columns of its row, so `_asdict()` can be recorded as it is."""

    outcome: Outcome
    failure: Failure | None = None
    failure_layer: FailureLayer | None = None
    reason: str = ""


def absent(reason: str) -> Judgement:
    """An API's own "no"."""
    return Judgement(Outcome.ABSENT, Failure.NOT_FOUND, FailureLayer.API, reason)


def unproved(failure: Failure, reason: str, layer: FailureLayer = FailureLayer.API) -> Judgement:
    """An answer, or none, that proves nothing."""
    return Judgement(Outcome.UNKNOWN, failure, layer, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """raised: the classes it fits, `library.Name`, subclasses included; with `errnos` only these errors of the system,
    with `stage` only what was raised there. layer: None for the stage. words: {said}, {within} and {awaited} are
    filled in."""

    raised: tuple[str, ...]
    failure: Failure
    words: str
    layer: FailureLayer | None = None
    outcome: Outcome = Outcome.UNKNOWN
    errnos: frozenset[int] = frozenset()
    stage: FailureLayer | None = None


_PEER: Final = (
    "OSError",
    "EOFError",
    "ValueError",
    "websockets.WebSocketException",
    "httpx.HTTPError",
    "aiohttp.ClientError",
)
"""What the network and the other side can make a library raise."""

_NO_TLS: Final = "TLS failed: {said}"
_SLOW_TLS: Final = "TLS not set up {within}; is the scheme right?"
_SCHEME: Final = "; is the scheme right?"
_NO_NAME: Final = "the host name does not resolve: {said}"

RULES: Final = (
    Rule(
        raised=("OSError",),
        errnos=frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}),
        failure=Failure.INTERNAL,
        layer=FailureLayer.PROBER,
        outcome=Outcome.PROBE_ERROR,
        words="our own limit: {said}",
    ),
    Rule(raised=("ssl.SSLCertVerificationError",), failure=Failure.TLS, layer=FailureLayer.TLS, words=_NO_TLS),
    Rule(raised=("TimeoutError",), stage=FailureLayer.TLS, failure=Failure.TLS, words=_SLOW_TLS),
    Rule(raised=("ssl.SSLError",), failure=Failure.TLS, layer=FailureLayer.TLS, words=_NO_TLS + _SCHEME),
    Rule(raised=_PEER, stage=FailureLayer.TLS, failure=Failure.TLS, words=_NO_TLS + _SCHEME),
    Rule(
        raised=("UnicodeDecodeError", "google.DecodeError", "httpx.DecodingError"),
        failure=Failure.PROTOCOL,
        words="the answer cannot be read: {said}",
    ),
    Rule(
        raised=("socket.gaierror", "UnicodeError", "httpx.InvalidURL", "aiohttp.InvalidURL"),
        failure=Failure.DNS,
        layer=FailureLayer.DNS,
        words=_NO_NAME,
    ),
    Rule(raised=("TimeoutError", "httpx.TimeoutException"), failure=Failure.TIMEOUT, words="no {awaited} {within}"),
    Rule(raised=("OSError", "ValueError"), stage=FailureLayer.DNS, failure=Failure.DNS, words=_NO_NAME),
    Rule(
        raised=("ConnectionRefusedError",),
        failure=Failure.REFUSED,
        layer=FailureLayer.TCP,
        words="connection refused: is the server running?",
    ),
    Rule(
        raised=(
            "ConnectionResetError",
            "ConnectionAbortedError",
            "BrokenPipeError",
            "httpx.ReadError",
            "httpx.WriteError",
        ),
        failure=Failure.RESET,
        words="the connection was reset",
    ),
    Rule(raised=("websockets.ConnectionClosed",), failure=Failure.CLOSED, words="closed without a close frame"),
    Rule(
        raised=(
            "EOFError",
            "httpx.RemoteProtocolError",
            "aiohttp.ServerDisconnectedError",
            "aiohttp.ClientPayloadError",
        ),
        failure=Failure.CLOSED,
        words="closed before the answer was whole",
    ),
    Rule(
        raised=("OSError", "httpx.ConnectError", "aiohttp.ClientConnectionError"),
        failure=Failure.UNREACHABLE,
        layer=FailureLayer.TCP,
        words="the host cannot be reached: {said}",
    ),
    Rule(
        raised=("websockets.WebSocketException", "httpx.HTTPError", "aiohttp.ClientError"),
        failure=Failure.PROTOCOL,
        words="what answers there is not understood: {said}",
    ),
)
"""The first that fits names the failure."""

REFUSALS: Final = {401: Failure.UNAUTHORISED, 403: Failure.FORBIDDEN, 429: Failure.RATE_LIMITED}
"""HTTP statuses that are an answer to who asks; any other proves nothing by itself."""

JUDGED: Final = frozenset(
    {
        Failure.TIMEOUT,
        Failure.DNS,
        Failure.TLS,
        Failure.ICE,
        Failure.UNREACHABLE,
        Failure.CLOSED,
        Failure.RESET,
        Failure.DROPPED,
    }
)
"""What a timer judges, ours or that of a peer who heard nothing from us: of an attempt that we held up ourselves it
says nothing of the peer. What was proved stands, however late it was read."""

HELD: Final = frozenset({Failure.LOOP_BLOCKED, Failure.SUSPENDED})
"""What an attempt that we held up ourselves is written as."""

REQUEST_TIMEOUT: Final = 408
"""The status of a server that waited for our request in vain (RFC 9110, 15.5.9)."""

STALE_S: Final = 20.0
"""A signature or token of ours that leaves us so late may be refused for its age: NIP-98 allows a minute."""


def named(
    error: BaseException,
    *others: BaseException | None,
    stage: FailureLayer,
    timeout_s: float | None = None,
    awaited: str = "answer",
) -> Judgement:
    """What was raised, in the words of an observation, by the first of RULES that fits any of it or of what it wraps.

    others: what else is known to have been raised. stage: how far the attempt had come. timeout_s, awaited: what a
    timeout says. Text of httpx and aiohttp is left out, since it may hold a URL and with it a token.
    """
    parts = [part for one in (error, *others) for part in _parts(one)]
    for rule in RULES:
        if rule.stage in (None, stage) and (fit := [part for part in parts if _fits(rule, part)]):
            within = "in time" if timeout_s is None else f"within {timeout_s:g} s"
            said = next(filter(None, map(_said, reversed(fit))), type(fit[0]).__name__)
            words = rule.words.format(said=said, within=within, awaited=awaited)
            return Judgement(rule.outcome, rule.failure, rule.layer or stage, words)
    return ours("our own fault", error, said=False)


def answered(status: int, said: str = "", *, layer: FailureLayer = FailureLayer.API) -> Judgement:
    """What an HTTP status that is no success says, in the words of `said` if there are any."""
    refusal = REFUSALS.get(status)
    failure = refusal or (Failure.SERVER_ERROR if status >= 500 else Failure.UNEXPECTED)
    return Judgement(Outcome.REFUSED if refusal else Outcome.UNKNOWN, failure, layer, said or f"HTTP {status}")


def closed(error: ConnectionClosed) -> tuple[Judgement, int]:
    """How an open websocket was lost, and its close code: 1006 where none was sent (RFC 6455, 7.1.5)."""
    if error.rcvd is not None:
        failure, code, reason = Failure.CLOSED, error.rcvd.code, f"closed by the other side: {error.rcvd}"
    elif error.sent is not None:
        failure, code, reason = Failure.PROTOCOL, error.sent.code, f"closed by us: {error.sent}"
    else:
        return named(error, stage=FailureLayer.WS), 1006
    return Judgement(Outcome.UNKNOWN, failure, FailureLayer.WS, reason), code


def timed_out(timeout_s: float, layer: FailureLayer, awaited: str = "answer") -> Judgement:
    """Our own patience ended, which proves nothing."""
    return named(TimeoutError(), stage=layer, timeout_s=timeout_s, awaited=awaited)


def held_up(held: Held, reason: str) -> Judgement:
    """What was judged of an attempt that we held up ourselves: our own fault, by how much, and what it looked like."""
    words = f"not judged: {held.words}" + (f" ({reason})" if reason else "")
    return Judgement(Outcome.PROBE_ERROR, Failure(held.kind), FailureLayer.PROBER, words)


def intended(deed: str) -> Judgement:
    """The row before a deed: "about to" do it."""
    return Judgement(Outcome.UNKNOWN, Failure.INTENT, FailureLayer.PROBER, f"about to {deed}")


def ours(what: str, error: BaseException, *, said: bool = True) -> Judgement:
    """Our own code failed: by the type of the error and, where it can hold no secret, its text."""
    reason = f"{what}: {type(error).__name__}" + (f": {error}" if said else "")
    return Judgement(Outcome.PROBE_ERROR, Failure.INTERNAL, FailureLayer.PROBER, reason)


def words_of(error: BaseException) -> str:
    """An exception's text in a line, its type where it has none; of an error of the system without the number."""
    text = error.strerror if isinstance(error, OSError) and isinstance(error.strerror, str) else str(error)
    return " ".join(text.split()) or type(error).__name__


def _parts(error: BaseException | None, depth: int = 10) -> Iterator[BaseException]:
    """An exception, the members of a group, and what they were raised from, outermost first.

    Ends at a cancellation: what was being handled when a timer struck is not why (an ssl.SSLWantReadError, mostly).
    """
    if error is None or depth == 0 or isinstance(error, asyncio.CancelledError):
        return
    yield error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _parts(member, depth - 1)
    yield from _parts(error.__cause__ or error.__context__, depth - 1)  # httpcore hides the context; it is the cause


def _fits(rule: Rule, error: BaseException) -> bool:
    classes = {_name(each) for each in type(error).__mro__}
    return not classes.isdisjoint(rule.raised) and (not rule.errnos or getattr(error, "errno", None) in rule.errnos)


def _name(kind: type) -> str:
    library = kind.__module__.partition(".")[0]
    return kind.__name__ if library == "builtins" else f"{library}.{kind.__name__}"


def _said(error: BaseException) -> str:
    """The text of an error, "" where it may hold a URL."""
    name = _name(type(error))
    return "" if name.startswith(("httpx.", "aiohttp.")) and name != "httpx.DecodingError" else words_of(error)
