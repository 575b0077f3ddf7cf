"""A real S3 on loopback: versitygw, which keeps what it is given in a folder; buckets are folders in it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worlds.programs import tool

WAIT_S = 60.0
KEY, SECRET = "fleet-key", "fleet-secret-of-the-tests"
BUCKET = "fleet"


@dataclass(frozen=True)
class S3:
    """A server: its endpoint, the folder of its buckets, and its process."""

    endpoint: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """What a client has in its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def serving(folder: Path) -> Iterator[S3]:
    """A server on a free port of loopback, with one bucket; killed at the end."""
    program, data, users = tool("versitygw", "s3"), folder / "s3", folder / "users"
    for each in (data / BUCKET, users):
        each.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--access", KEY, "--secret", SECRET, "--port", f"127.0.0.1:{port}", "--iam-dir", str(users), "--quiet"]
    with (folder / "s3.log").open("wb") as log:
        running = subprocess.Popen([program, *words, "posix", str(data)], stdout=log, stderr=log)
    ends = time.monotonic() + WAIT_S
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert running.poll() is None, (folder / "s3.log").read_text("utf-8", "replace")
                assert time.monotonic() < ends, "versitygw does not start"
                time.sleep(0.05)
        yield S3(f"http://127.0.0.1:{port}", data, running)
    finally:
        running.kill()
        running.wait()
