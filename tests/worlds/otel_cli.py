"""A real receiver of OTLP that nobody here wrote, on loopback: otel-cli's server, which writes each span to a file."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from worlds.programs import tool

WAIT_S = 60.0
"""For the server to listen: a busy machine needs its time."""


@contextmanager
def otel_cli(folder: Path) -> Iterator[str]:
    """Its URL. What it takes is written to `folder`/TRACE/SPAN/span.json and event-N.json."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    words = ["server", "json", "--protocol", "http/protobuf", "--endpoint", url, "--dir", folder, "--timeout", "0"]
    with subprocess.Popen(
        [tool("otel-cli", "otlp"), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as server:
        try:
            _until_listening(url, server)
            yield url
        finally:
            server.kill()


def _until_listening(url: str, server: subprocess.Popen[bytes]) -> None:
    host, port = url.removeprefix("http://").split(":")
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        assert server.poll() is None, server.stderr and server.stderr.read().decode()
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"otel-cli does not listen on {url} after {WAIT_S:g} s")


def spans_in(folder: Path) -> list[dict[str, Any]]:
    """What it has written: of each span trace, id and parent in hex, name, start and end, ns UTC."""
    found = []
    for path in folder.glob("*/*/span.json"):
        span = json.loads(path.read_text("utf-8"))
        ids = [b64decode(span.get(name, "")).hex() for name in ("trace_id", "span_id", "parent_span_id")]
        start, end = (int(span[f"{name}_time_unix_nano"]) for name in ("start", "end"))
        found.append(dict(zip(("trace", "id", "parent"), ids, strict=True), name=span["name"], start=start, end=end))
    return found
