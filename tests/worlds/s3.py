"""A real S3 on loopback: versitygw, which keeps what it is given in a folder; buckets are folders in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worlds import programs
from worlds.programs import free_port, listens, tool

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
    port = free_port()
    words = ["--access", KEY, "--secret", SECRET, "--port", f"127.0.0.1:{port}", "--iam-dir", str(users), "--quiet"]
    command = [program, *words, "posix", str(data)]
    with programs.serving(command, folder / "s3.log", lambda: listens(port)) as running:
        yield S3(f"http://127.0.0.1:{port}", data, running)
