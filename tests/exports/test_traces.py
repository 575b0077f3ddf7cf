"""Traces: one a nest, with the ends of its intervals, the same ids each time; and receivers that do not take them."""

from __future__ import annotations

import gzip
import re
import time
from collections import Counter
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from nestobs.errors import UnreachableError
from nestobs.exports.traces import ANSWER_BYTES, BATCH, MOST_REQUESTS, send, spans
from nestobs.observation.columns import observations_of
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Role, Source
from nestobs.store.example import SHIPPED
from nestobs.store.reader import Store
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins
from worlds.hostile import TEXTS
from worlds.nest_rows import created, frame, guest, row
from worlds.otel_cli import otel_cli, spans_in
from worlds.otlp import PROTOBUF, Received, receiver
from worlds.story import Story
from worlds.trickling import HEADS, trickling

pytestmark = pytest.mark.slow

ERROR, OK = 2, 1


@pytest.fixture(scope="module")
def example() -> pd.DataFrame:
    return Store.open(SHIPPED, create=False).frame()


@pytest.fixture(scope="module")
def few(example) -> pd.DataFrame:
    """Rows enough for two batches."""
    return example[example["sent_at"] <= example["sent_at"].quantile(0.35)]


def sent(rows: pd.DataFrame) -> Received:
    with receiver() as received:
        assert send(spans(rows), f"{received.url}/v1/traces") == len(received.spans)
    return received


@pytest.fixture(scope="module")
def received(example) -> Received:
    return sent(example)


def test_one_trace_a_nest_by_its_own_trace_id(example, received):
    roots = [span for span in received.spans if not span["parent"]]
    assert {span["name"] for span in roots} == {"nest"}
    assert {span["trace"] for span in roots} == {UUID(trace).hex for trace in example["trace_id"] if trace}
    assert len(roots) == 39
    assert {span["trace"] for span in received.spans} == {span["trace"] for span in roots}


def test_every_span_has_its_parent_in_its_trace_and_lies_in_time(received):
    known = {(span["trace"], span["id"]) for span in received.spans}
    assert len(known) == len(received.spans)
    assert all((span["trace"], span["parent"]) in known for span in received.spans if span["parent"])
    assert all(0 < span["start"] <= span["end"] for span in received.spans)
    ends = {span["trace"]: span["end"] for span in received.spans if not span["parent"]}
    assert all(span["end"] <= ends[span["trace"]] for span in received.spans)


def test_layers_end_at_the_upper_ends_of_the_timelines(example, received):
    lines = timelines(example)
    lines = lines[lines["polls"] > 0]
    made = [span for span in received.spans if "nestobs.layer" in span]
    assert len(made) == len(lines)
    keys = zip(lines["trace_id"], lines["layer"], lines["vantage"], strict=True)
    upper = dict(zip(((UUID(t).hex, layer.rstrip("/"), v) for t, layer, v in keys), lines["upper_s"], strict=True))
    for span in made:
        upper_s = upper[span["trace"], span["nestobs.layer"], span["nestobs.vantage"]]
        assert span["nestobs.seen"] == np.isfinite(upper_s)
        if span["nestobs.seen"]:
            assert (span["end"] - span["start"]) / SECOND_NS == pytest.approx(max(0.0, upper_s), abs=1e-6)
            assert span["nestobs.delay.upper_s"] == pytest.approx(upper_s)
            assert span["nestobs.delay.lower_s"] < span["nestobs.delay.upper_s"]
            assert span["events"]["first proven visible"] <= span["end"]
        else:
            assert "nestobs.delay.upper_s" not in span
            assert span["events"] == {"last proven absent": span["end"]}


def test_joins_tell_verdict_fallback_and_whether_they_failed(example, received):
    table = joins(example, timelines(example))
    made = [span for span in received.spans if span["name"] == "join"]
    assert Counter(span["nestobs.verdict"] for span in made) == Counter(table["verdict"])
    for span in made:
        joined = span["nestobs.verdict"] in ("authenticated", "guest", "guest_instead")
        assert (span["status"] == OK) == joined
        assert f"verdict: {span['nestobs.verdict']}" in span["events"]
        if span["nestobs.verdict"] == "guest_instead":
            assert span["nestobs.fallback"]
            assert "falls back to the guest's route" in span["events"]
    assert {span["nestobs.verdict"] for span in made if span["status"] == ERROR} >= {"gone", "api_fault", "starting_up"}


def test_requests_of_a_join_are_below_it(received):
    joins_ = {span["id"]: span for span in received.spans if span["name"] == "join"}
    below = Counter(span["parent"] for span in received.spans if span["parent"] in joins_)
    assert below == {key: span["nestobs.requests"] for key, span in joins_.items()}
    asked = [span for span in received.spans if span["name"] == "api guest"]
    assert {span["http.response.status_code"] for span in asked} == {200, 404}
    assert all(span["status"] == 0 for span in asked), "a 404 of a room that is late is an answer"


def test_to_send_it_twice_gives_the_same_spans(few):
    first, again = ({span["id"]: span for span in sent(few).spans} for _ in range(2))
    assert first == again


def test_rows_of_one_clock_keep_their_distances_however_often_it_was_compared(few):
    """Each row knows the offset a little better than the one before."""
    draw = np.random.default_rng(1)
    known = few.assign(clock_offset_s=draw.normal(40.0, 0.1, len(few)), clock_error_s=0.5, sync_age_s=0.0)
    took = [[(each.name, each.end_time - each.start_time) for each in spans(rows)] for rows in (few, known)]
    assert took[0] == took[1]


def test_batches_are_bounded_and_who_observed_is_the_resource(received):
    sizes = [
        sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
        for _, _, request in received.requests
    ]
    assert max(sizes) <= BATCH
    assert sum(sizes) > BATCH
    assert {span["service.name"] for span in received.spans} == {"nestobs"}
    assert {span["nestobs.vantage"] for span in received.spans} == {"Computer A", "Computer B"}


def test_no_secret_is_in_it():
    target = "https://user:hunter2@nests.example/api/v1/nests?token=hunter2"
    story = Story("room")
    story.row(Source.API, Operation.GUEST, Outcome.ABSENT, 1.2, target=target, attempt_group="1.0", status=404)
    story.join(1.0, "gone", "no longer available", target=target)
    story.polls(Source.RELAY, Operation.QUERY, 3.0, target="wss://user:hunter2@relay.example/?key=hunter2")
    with receiver() as received:
        send(spans(observations_of(story.rows)), f"{received.url}/v1/traces")
    assert "hunter2" not in repr(received.requests)
    assert [span["url.full"] for span in received.spans if "url.full" in span] == ["https://nests.example/api/v1/nests"]


def test_only_nests_of_the_window(few):
    made = timelines(few).groupby("trace_id")["origin_at"].min().sort_values()
    middle = made.iloc[5].value
    found = [len({span.context.trace_id for span in spans(few, ends)}) for ends in ((0, middle), (middle, 2**62))]
    assert found == [5, len(made) - 5]


@pytest.mark.parametrize("name", TEXTS, ids=range(len(TEXTS)))
def test_any_name_that_strangers_give_can_be_sent(name, tmp_path):
    nest, store = f"30312:{'ab' * 32}:{name}", Store.open(tmp_path / "store")
    with store.writer() as writer:
        writer.append(
            row(Source.API, Operation.GUEST, "visible", n, nest=nest, room=name, vantage=name) for n in (1, 2)
        )
    assert sent(store.frame()).spans


def test_a_nest_without_a_trace_has_one_made_of_its_address():
    rows = frame(guest("absent", 1, trace_id="", failure=Failure.NOT_FOUND), guest("visible", 2, trace_id=""))
    first, second = (next(spans(rows)).context.trace_id for _ in range(2))
    assert first == second != 0


def test_instants_that_no_clock_shows_are_sent_too():
    rows = frame(
        guest("visible", 1, sent_at=-5, received_at=2**63 - 1),
        created(),
        row(Source.RELAY, Operation.QUERY, "visible", 2),
    )
    assert sent(rows).spans


def test_of_an_endless_join_the_first_requests_are_spans():
    story = Story("room")
    for number in range(MOST_REQUESTS + 50):
        story.row(Source.API, Operation.GUEST, Outcome.UNKNOWN, 1 + number / 10, attempt_group="1.0", received_at=None)
    story.join(1.0, "api_down", "does not answer", role=Role.GUEST)
    made = sent(observations_of(story.rows)).spans
    assert sum(span["name"] == "api guest" for span in made) == MOST_REQUESTS
    assert {span["status"] for span in made if span["name"] == "api guest"} == {ERROR}
    assert [span["nestobs.requests"] for span in made if span["name"] == "join"] == [MOST_REQUESTS + 50]


def test_a_fault_of_our_own_is_no_error_of_the_nest():
    story = Story("room")
    facts = {"failure": Failure.BUDGET, "reason": "spent", "detail": detail(verdict="rate_limited")}
    story.row(Source.JOIN, Operation.VERDICT, Outcome.PROBE_ERROR, 1.0, **facts)
    (join,) = [span for span in sent(observations_of(story.rows)).spans if span["name"] == "join"]
    assert join["status"] == 0


def test_nothing_observed_is_nothing_sent():
    with receiver() as received:
        assert send(spans(frame()), received.url) == 0
    assert received.requests == []


# receivers that do not take them

HTML = {"content-type": "text/html; charset=utf-8"}
PARTIAL = b"\x0a\x0b\x08\x03\x12\x07too old"
REFUSALS = {
    "not found": (lambda _: (404, {}, b""), r"it answered 404 Not Found"),
    "unauthorised": (lambda _: (401, {}, b""), r"it answered 401"),
    "broken": (lambda _: (500, {}, b"x"), r"it answered 500"),
    "busy": (lambda _: (503, {}, b""), r"it answered 503"),
    "too many": (lambda _: (429, {"retry-after": "60"}, b""), r"it answered 429"),
    "elsewhere": (lambda _: (302, {"location": "/other"}, b""), r"it redirects"),
    "a web page": (lambda _: (200, HTML, b"<html>"), r"a web page"),
    "some rejected": (lambda _: (200, {"content-type": PROTOBUF}, PARTIAL), r"rejected 3 of them: too old"),
    "garbage": (lambda _: (200, {"content-type": PROTOBUF}, b"\xff\xff"), r"not understood"),
    "hung up": (lambda _: None, r"it cannot be reached"),
    "a huge answer": (
        lambda _: (200, {"content-type": PROTOBUF}, b"\0" * (ANSWER_BYTES + 1)),
        "more than 1,048,576 bytes",
    ),
    "a huge error": (lambda _: (400, {}, b"\0" * (ANSWER_BYTES + 1)), "more than 1,048,576 bytes"),
    "a small answer that unpacks to a huge one": (
        lambda _: (200, {"content-encoding": "gzip"}, gzip.compress(b"\0" * 4 * ANSWER_BYTES)),
        "more than 1,048,576 bytes",
    ),
    "what is not packed as it says": (lambda _: (200, {"content-encoding": "gzip"}, b"no"), "it cannot be reached"),
    "silent": (lambda _: time.sleep(2), r"no answer in time"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_who_does_not_take_them_is_one_sentence(kind, monkeypatch, capfd):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    answer, words = REFUSALS[kind]
    rows = frame(created(), guest("visible", 1))
    with receiver(answer) as received, pytest.raises(UnreachableError, match=words) as error:
        send(spans(rows), f"{received.url}/v1/traces")
    assert re.fullmatch(
        r"http://127\.0\.0\.1:\d+/v1/traces did not take the spans \(.*\): check --to", str(error.value)
    )
    assert not [path for path, _, _ in received.requests if path.startswith("GET")]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_an_answer_without_an_end_is_no_answer_in_time(head, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with trickling(head) as url, pytest.raises(UnreachableError, match="no answer in time"):
        send(spans(frame(created(), guest("visible", 1))), url)


def test_nobody_there_is_one_sentence(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with pytest.raises(UnreachableError, match="it cannot be reached"):
        send(spans(frame(created(), guest("visible", 1))), "http://127.0.0.1:9/v1/traces")


@pytest.mark.parametrize(
    "kind", [{}, {"content-type": "application/json"}, {"content-type": "text/plain"}], ids=range(3)
)
def test_a_receiver_that_says_yes_in_few_words_has_taken_them(kind):
    with receiver(lambda _: (202, kind, b"")) as received:
        assert send(spans(frame(created(), guest("visible", 1))), received.url) == len(received.spans) > 0


def test_what_was_taken_before_is_said(few):
    answers = iter([(200, {}, b"")])
    with (
        receiver(lambda _: next(answers, (400, {}, b""))) as received,
        pytest.raises(UnreachableError, match=f"it answered 400 Bad Request\\); {BATCH} spans before these were taken"),
    ):
        send(spans(few), received.url)


def test_headers_and_compression_are_as_opentelemetrys_variables_say(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20abc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with receiver() as received:
        send(spans(frame(created(), guest("visible", 1))), received.url)
    ((_, headers, _),) = received.requests
    assert (headers["authorization"], headers["content-encoding"]) == ("Basic abc", "gzip")


# a receiver that nobody here wrote


def test_a_real_receiver_takes_every_span_with_its_ids_and_instants(few, tmp_path):
    made = sent(few).spans
    with otel_cli(tmp_path) as url:
        assert send(spans(few), f"{url}/v1/traces") == len(made)
    names = ("trace", "id", "parent", "name", "start", "end")
    assert sorted([span[name] for name in names] for span in spans_in(tmp_path)) == sorted(
        [span[name] for name in names] for span in made
    )
