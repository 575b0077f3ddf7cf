"""What reaches stderr beside our own sentences."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nestobs.cli.terminal import interruptible

WRITES = 20


async def write_to_a_connection_that_is_gone() -> None:
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=ours)
    theirs.close()
    for _ in range(WRITES):
        writer.write(b"x")
    writer.close()


async def write_to_a_pipe_that_is_gone() -> None:
    process = await asyncio.create_subprocess_exec("true", stdin=subprocess.PIPE)
    await process.wait()
    assert process.stdin is not None
    for _ in range(WRITES):
        process.stdin.write(b"x")
    process.stdin.close()


@pytest.mark.parametrize("write", [write_to_a_connection_that_is_gone, write_to_a_pipe_that_is_gone])
def test_a_connection_that_is_gone_is_no_news_on_stderr(write, caplog):
    interruptible(write())
    assert caplog.records == []


def test_what_else_asyncio_has_to_say_is_said(caplog):
    async def complain() -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "something was lost"})

    interruptible(complain())
    assert [record.getMessage() for record in caplog.records] == ["something was lost"]


@pytest.mark.slow
def test_without_the_filter_it_would_be_said():
    """So that this file notices when asyncio changes its words."""
    code = "import asyncio, test_terminal as t; asyncio.run(t.write_to_a_connection_that_is_gone())"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent, check=True
    )
    assert "socket.send() raised exception." in said.stderr
