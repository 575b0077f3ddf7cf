"""Receivers of OTLP over HTTP, on loopback, that decode what comes with OpenTelemetry's own messages: stand-ins for a
collector, good ones and ones that misbehave."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PROTOBUF = "application/x-protobuf"
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Received:
    """What came: each request decoded, with its path and headers. `spans` are flat, each with its resource's facts."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]] = field(default_factory=list)

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [
            {
                "name": span.name,
                "trace": span.trace_id.hex(),
                "id": span.span_id.hex(),
                "parent": span.parent_span_id.hex(),
                "start": span.start_time_unix_nano,
                "end": span.end_time_unix_nano,
                "status": span.status.code,
                "said": span.status.message,
                "events": {event.name: event.time_unix_nano for event in span.events},
                **facts(resource.resource.attributes),
                **facts(span.attributes),
            }
            for _, _, request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


def facts(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def taken(_: ExportTraceServiceRequest) -> Answer:
    return 200, {"content-type": PROTOBUF}, ExportTraceServiceResponse().SerializeToString()


@contextmanager
def receiver(answer: Callable[[ExportTraceServiceRequest], Answer | None] = taken) -> Iterator[Received]:
    """A receiver whose answer to each request is that; None: the connection is closed without one."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ConnectionError):  # they read no more of the answer
                super().handle()

        def do_GET(self) -> None:
            received.requests.append((f"GET {self.path}", dict(self.headers), ExportTraceServiceRequest()))
            self._say((200, {}, b""))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            request = ExportTraceServiceRequest.FromString(body)
            received.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, request))
            said = answer(request)
            if said is None:
                self.close_connection = True
                return
            self._say(said)

        def _say(self, said: Answer) -> None:
            status, headers, content = said
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # they read no more of it
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="receiver")
    thread.start()
    received.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
