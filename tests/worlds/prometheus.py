"""Prometheus itself, on loopback: promtool, and a server that scrapes what it is told to."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from worlds.programs import free_port, serving, tool

WAIT_S = 60.0
"""For the server to have scraped: a busy machine needs its time."""


def promtool(*words: str, given: bytes | None = None) -> str:
    """What promtool says, who has nothing to object to."""
    ended = subprocess.run(
        [tool("promtool", "prometheus"), *words], input=given, capture_output=True, timeout=60, check=False
    )
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said


def checked(scrape: bytes) -> None:
    """A scrape that promtool has nothing to say about."""
    assert promtool("check", "metrics", given=scrape) == ""


class Server:
    """A Prometheus on loopback. `ask`: the series that an expression gives now; raises for one that is none."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ready(self) -> bool:
        """Whether it is."""
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        return False

    def get(self, path: str, **params: str) -> Any:
        said = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=WAIT_S).json()
        assert said["status"] == "success", said
        return said["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        return list(self.get("query", query=expression)["result"])

    def until(self, expression: str) -> list[dict[str, Any]]:
        """Wait for it to give something."""
        ends = time.monotonic() + WAIT_S
        while not (found := self.ask(expression)):
            assert time.monotonic() < ends, f"{expression} gives nothing"
            time.sleep(0.2)
        return found


@contextmanager
def prometheus(config: Path, data: Path) -> Iterator[Server]:
    """A server on a free port of loopback with this configuration, killed at the end."""
    port = free_port()
    words = [f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}"]
    server = Server(f"http://127.0.0.1:{port}")
    command = [tool("prometheus", "prometheus"), *words, "--log.level=error"]
    with serving(command, config.with_suffix(".log"), server.ready):
        yield server
