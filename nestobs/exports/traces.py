"""Traces for OpenTelemetry: what was observed of each nest, as spans made afterwards, sent by OTLP over HTTP.

    nest                     from its origin to the last that was observed of it
    ├── relay, api:join, …   a layer as a vantage saw it: from the origin to the upper end of its interval
    └── join                 a real join, from arrival to verdict
        ├── api guest        each request of it

One trace a nest. Its id is the nest's own trace_id (a UUID has 128 bits, as a trace id has), else made of its address;
the ids of spans are made of what they are about. So to send a nest twice gives the same spans twice.

A layer's span ends where the layer had the nest at the latest; how much earlier that may have been is its
`nestobs.delay.lower_s`, and the last proven absence is an event in it. A layer that was not seen has a span that ends
with that absence. Instants are on the reference clock as far as it is known. A join that failed has the status error,
as has a request that brought no answer or a refusal; a 404 of a room that is late is an answer.

Needs the extra `nestobs[otel]`. Nothing is global here: no provider, no processor, no sampler.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from importlib.metadata import version
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final
from uuid import UUID

import numpy as np
import pandas as pd

from nestobs.errors import UnreachableError, UsageError
from nestobs.exports.tally import cleaned
from nestobs.observation.columns import dicts_of, equals, instant_in
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Role, Source
from nestobs.observation.text import shortened
from nestobs.sources.clock import Clock
from nestobs.timeline.intervals import shifts, timelines
from nestobs.timeline.joins import verdicts
from nestobs.timeline.nests import nests_of

try:
    import requests
    import urllib3
    from google.protobuf.message import DecodeError
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
except ModuleNotFoundError as error:
    raise UsageError(f"traces need OpenTelemetry ({error.name} is missing): pip install 'nestobs[otel]'") from None

BATCH: Final = 500
"""Spans sent at once."""

MOST_REQUESTS: Final = 200
"""Of a join with more requests the first are spans; `nestobs.requests` tells how many there were."""

_LONGEST: Final = 400
ANSWER_BYTES: Final = 1 << 20
"""Most that is read of a receiver's answer: a few words, as a rule."""

_SHIFT: Final = "shift"
"""Column of what is to be subtracted from a row's instants."""

_SCOPE: Final = InstrumentationScope("nestobs", version("nestobs"))
_FAILED: Final = (Outcome.REFUSED, Outcome.UNKNOWN)
_LOGGER: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def spans(rows: pd.DataFrame, window: tuple[int, int] | None = None) -> Iterator[ReadableSpan]:
    """The spans of the nests of these rows, nest after nest, each nest's own first.

    rows: as Store.frame gives them. window: only nests whose origin, or first row where there is none, is in
    [start, end), ns UTC. No nest: nothing.
    """
    about, lines = nests_of(rows), timelines(rows)
    rows = rows.assign(**{_SHIFT: shifts(rows)})
    of_line = nests_of(lines)
    names = np.append(of_line.names, "")[of_line.unit]
    by_name = {str(name): lines[names == name] for name in of_line.names}
    places = rows.index.to_series().groupby(about.unit)
    for unit, name in enumerate(map(str, about.names)):
        nest = _Nest(name, rows.loc[places.get_group(unit)], by_name.get(name, lines[:0]))
        if window is None or window[0] <= nest.start < window[1]:
            yield from nest.spans()


class _Nest:
    """What becomes of one nest."""

    def __init__(self, name: str, rows: pd.DataFrame, lines: pd.DataFrame) -> None:
        self.rows = rows.sort_values("sent_at", kind="stable")
        self.lines, self.name = lines, name
        traces = sorted(set(rows["trace_id"].astype("str")) - {""})
        self.trace = _trace_id(traces[0] if traces else name)
        origins = [at for value in lines["origin_at"] if (at := instant_in(value)) is not None]
        self.start = min(origins, default=int((self.rows["sent_at"] - self.rows[_SHIFT]).iloc[0]))

    def spans(self) -> Iterator[ReadableSpan]:
        """Its own, then the layers', then the joins'."""
        below = [*self._layers(), *self._joins()]
        last = max([self.start, *(each.end_time or 0 for each in below), *map(_end_of, dicts_of(self.rows))])
        texts = {name: next((t for t in self.rows[name].astype("str") if t), "") for name in ("nest", "room")}
        kind = next((str(kind) for kind in self.lines["origin_kind"] if kind), "")
        told = {f"nestobs.{name}": text for name, text in texts.items()} | {"nestobs.origin": kind}
        yield self._span("nest", ("nest",), self.start, last, told, vantage=str(self.rows["vantage"].iloc[0]))
        yield from below

    def _layers(self) -> Iterator[ReadableSpan]:
        for line in dicts_of(self.lines):
            origin, seen = instant_in(line["origin_at"]), not line["right_censored"]
            ends = {name: instant_in(line[name]) for name in ("lower_at", "upper_at")}
            if origin is None or not line["polls"]:
                continue
            end = origin + round(line["upper_s"] * SECOND_NS) if seen else ends["lower_at"] or origin
            kind, _, url = str(line["layer"]).partition(":")
            told = {
                "nestobs.layer": f"relay:{cleaned(url)}" if kind == "relay" else str(line["layer"]),
                "nestobs.seen": seen,
                "nestobs.delay.lower_s": _finite(line["lower_s"]),
                "nestobs.delay.upper_s": _finite(line["upper_s"]),
                "nestobs.polls": int(line["polls"]),
            }
            words = {"lower_at": "last proven absent", "upper_at": "first proven visible"}
            events = [(words[name], at) for name, at in ends.items() if at is not None]
            key = ("layer", str(line["trace_id"]), str(line["layer"]), str(line["vantage"]))
            name = "relay" if kind == "relay" else str(line["layer"])
            yield self._span(name, key, origin, end, told, vantage=str(line["vantage"]), events=events, below="nest")

    def _joins(self) -> Iterator[ReadableSpan]:
        asked = self.rows[~equals(self.rows["failure"], Failure.INTENT) & ~equals(self.rows["operation"], "verdict")]
        group = asked["run_id"].astype("str") + "\n" + asked["attempt_group"].astype("str")
        for row in dicts_of(self.rows[verdicts(self.rows)]):
            requests_ = asked[(group == f"{row['run_id']}\n{row['attempt_group']}") & (row["attempt_group"] != "")]
            yield from self._join(row, dicts_of(requests_))

    def _join(self, row: dict[str, Any], asked: list[dict[str, Any]]) -> Iterator[ReadableSpan]:
        facts, key = facts_of(row["detail"]), ("join", str(row["observation_id"]))
        verdict = str(facts.get("verdict", ""))
        guests = [each for each in asked if each["operation"] == Operation.GUEST and row["role"] == Role.JOINER]
        told = {
            "nestobs.verdict": verdict,
            "nestobs.policy": str(facts.get("policy", "")),
            "nestobs.role": str(row["role"]),
            "nestobs.fallback": bool(guests),
            "nestobs.message": str(facts.get("message", "")),
            "nestobs.requests": len(asked),
        }
        events = [("falls back to the guest's route", _at(guests[0], "sent_at"))] if guests else []
        events.append((f"verdict: {verdict}" if verdict else "verdict", _end_of(row)))
        status = Status(StatusCode.OK) if row["outcome"] == Outcome.VISIBLE else _failed(row)
        if row["outcome"] == Outcome.PROBE_ERROR:  # our own fault says nothing of the nest
            status = Status(StatusCode.UNSET)
        yield self._span(
            "join", key, _at(row, "sent_at"), _end_of(row), told | _outcome(row),
            vantage=str(row["vantage"]), events=events, status=status, below="nest",
        )  # fmt: skip  # one argument a line would be a page of its own
        for each in asked[:MOST_REQUESTS]:
            status = _failed(each) if each["outcome"] in _FAILED else Status(StatusCode.UNSET)
            told = _outcome(each) | {"nestobs.role": str(each["role"]), "url.full": cleaned(str(each["target"]))}
            if each["source"] == Source.API and not pd.isna(each["status"]):
                told["http.response.status_code"] = int(each["status"])
            yield self._span(
                f"{each['source']} {each['operation']}", ("request", str(each["observation_id"])),
                _at(each, "sent_at"), _end_of(each), told,
                vantage=str(each["vantage"]), status=status, below=key, kind=SpanKind.CLIENT,
            )  # fmt: skip  # as above

    def _span(
        self,
        name: str,
        key: tuple[str, ...],
        start: int,
        end: int,
        told: Mapping[str, Any],
        *,
        vantage: str,
        events: Iterable[tuple[str, int]] = (),
        status: Status | None = None,
        below: tuple[str, ...] | str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> ReadableSpan:
        """A span; what is None or "" is no attribute. below: the key of its parent."""
        parent = (below,) if isinstance(below, str) else below
        return ReadableSpan(
            name=name,
            context=_context(self.trace, key),
            parent=None if parent is None else _context(self.trace, parent),
            resource=_resource(vantage),
            attributes={
                name: shortened(value, _LONGEST) if isinstance(value, str) else value
                for name, value in told.items()
                if value is not None and value != ""
            },
            events=[Event(words, timestamp=_clamped(at)) for words, at in events],
            kind=kind,
            status=status or Status(StatusCode.UNSET),
            start_time=_clamped(start),
            end_time=_clamped(max(start, end)),
            instrumentation_scope=_SCOPE,
        )


def _trace_id(text: str) -> int:
    """128 bits: a UUID's own, of any other text a hash."""
    try:
        found = UUID(text).int
    except ValueError:
        found = 0
    return found or int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:16])


def _context(trace: int, key: tuple[str, ...]) -> SpanContext:
    text = "\n".join((f"{trace:032x}", *key))
    span = int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8])
    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


@cache
def _resource(vantage: str) -> Resource:
    names = {"service.name": "nestobs", "service.version": version("nestobs"), "service.instance.id": vantage}
    return Resource({**names, "nestobs.vantage": vantage})


def _clamped(at: int) -> int:
    """An instant as OTLP holds it: 64 bits, and none before 1970."""
    return min(max(at, 0), 2**64 - 1)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _at(row: Mapping[str, Any], name: str) -> int:
    """An instant of a row on the reference clock, as far as that is known."""
    return int(row[name]) - int(row[_SHIFT])


def _end_of(row: Mapping[str, Any]) -> int:
    """When its answer was whole; when it was sent where none came."""
    return _at(row, "sent_at" if pd.isna(row["received_at"]) else "received_at")


def _outcome(row: Mapping[str, Any]) -> dict[str, Any]:
    failure = "" if pd.isna(row["failure"]) else str(row["failure"])
    return {"nestobs.outcome": str(row["outcome"]), "nestobs.failure": failure, "nestobs.reason": str(row["reason"])}


def _failed(row: Mapping[str, Any]) -> Status:
    return Status(StatusCode.ERROR, shortened(str(row["reason"]), _LONGEST) or None)


# sending


def send(found: Iterable[ReadableSpan], to: str) -> int:
    """Send these to the receiver at this URL, BATCH at a time; how many. Its headers, certificates and timeout are as
    OpenTelemetry's variables say.

    Raises UnreachableError in a sentence where it does not answer, or takes not all of them: those before were taken.
    """
    session, sent, pending = _Session(), 0, iter(found)
    exporter, logger = OTLPSpanExporter(endpoint=to, session=session), logging.getLogger(_LOGGER)
    before, logger.disabled = logger.disabled, True  # what it says is said here, once
    try:
        while batch := list(islice(pending, BATCH)):
            if exporter.export(batch) is not SpanExportResult.SUCCESS:
                after = f"; {sent} spans before these were taken" if sent else ""
                raise UnreachableError(f"{cleaned(to)} did not take the spans ({session.why}){after}: check --to")
            sent += len(batch)
    finally:
        logger.disabled = before
        session.close()
    return sent


class _Endless(requests.RequestException):
    """An answer is longer than any should be."""


class _Session(requests.Session):
    """A session that follows no redirect, takes for a yes only what is one, and keeps why the last answer was none."""

    why = "they cannot be encoded"

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """As every session's. Raises ValueError for an answer that an exporter would take for a yes."""
        try:
            response = _in_time(partial(self._answer, request, options), options["timeout"])
        except requests.Timeout:
            self.why = "no answer in time"
            raise
        except requests.RequestException as error:
            self.why = "TLS failed" if isinstance(error, requests.exceptions.SSLError) else "it cannot be reached"
            if isinstance(error, _Endless):
                self.why = f"its answer has {error}"
            raise
        self.why = f"it answered {response.status_code} {shortened(response.reason or '', 80)}".strip()
        if wrong := _no_yes(response) if response.ok else "":
            self.why = wrong
            raise ValueError(wrong)
        return response

    def _answer(self, request: requests.PreparedRequest, options: dict[str, Any]) -> requests.Response:
        response = super().send(request, **options | {"allow_redirects": False, "stream": True})
        _read(response, within_s=options["timeout"])
        return response


def _in_time(exchange: Callable[[], requests.Response], within_s: float) -> requests.Response:
    """The answer of an exchange. Raises what it raises, and requests.Timeout where it takes longer, name service,
    handshake and headers included: requests counts each read anew, and a receiver may send a byte at a time.

    What is given up goes on in a thread of its own, at most until the process ends, and nobody waits for it.
    """
    answers: SimpleQueue[requests.Response | Exception] = SimpleQueue()

    def run() -> None:
        try:
            answers.put(exchange())
        except Exception as error:  # raised where it was asked
            answers.put(error)

    Thread(target=run, name="nestobs-traces", daemon=True).start()
    try:
        found = answers.get(timeout=within_s)
    except Empty:
        raise requests.Timeout from None
    if isinstance(found, Exception):
        raise found
    return found


def _read(response: requests.Response, *, within_s: float) -> None:
    """Take in an answer's content, of which there may be no end. Raises requests' own errors: Timeout where it takes
    longer, and for more than ANSWER_BYTES one that says so."""
    clock, content = Clock(), b""
    until = clock.now() + round(within_s * SECOND_NS)
    try:
        while part := response.raw.read1(1 << 16, decode_content=True):
            content += part
            if len(content) > ANSWER_BYTES:
                raise _Endless(f"more than {ANSWER_BYTES:,} bytes")
            if clock.now() > until:
                raise requests.Timeout
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.Timeout from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(str(error)) from error
    except requests.RequestException:
        response.close()
        raise
    response._content = content  # where a session puts what it has read itself


def _no_yes(response: requests.Response) -> str:
    """Why an answer that is no error is no yes; "" where it is one."""
    kind = response.headers.get("content-type", "")
    if response.is_redirect:
        return "it redirects, and no redirect is followed"
    if kind.startswith("text/html"):
        return "it answers with a web page"
    if not kind.startswith("application/x-protobuf"):
        return ""
    try:
        partial = ExportTraceServiceResponse.FromString(response.content).partial_success
    except DecodeError:
        return "its answer is not understood"
    rejected = partial.rejected_spans
    return f"it rejected {rejected} of them: {shortened(partial.error_message, 200)}" if rejected else ""
