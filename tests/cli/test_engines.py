"""`--engine`: the same result wherever it is made, and what is said of an engine that is none."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

import nestobs
from nestobs.errors import UsageError
from nestobs.store.partitions import engine, opened
from worlds.command_line import is_one_sentence
from worlds.stored_nests import drawn, nest_rows, store_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nonsense", "is no engine: write here, processes, processes:N or dask://HOST:PORT"),
        ("processes:0", "write how many processes"),
        ("processes:x", "write how many processes"),
        ("dask://", "names a Dask scheduler"),
        ("dask://host", "names a Dask scheduler"),
        ("dask://user:secret@host:8786", "names a Dask scheduler"),
        ("dask:host:8786", "names a Dask scheduler"),
    ],
)
def test_words_that_name_no_engine_are_said_at_once(words: str, said: str, run) -> None:
    for call in (lambda: nestobs.timelines("example", engine=words), lambda: opened(words).__enter__()):
        with pytest.raises(UsageError, match=said) as told:
            call()
        assert "secret" not in str(told.value)
    ended = run("timeline", "--store", "example", "--engine", words)
    assert ended.code == 2
    assert "secret" not in ended.err
    assert said.split(":", maxsplit=1)[0] in " ".join(ended.err.split())


def test_a_scheduler_that_is_not_there_is_said_with_exit_code_3(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONNECT_S", 0.5)
    ended = run("timeline", "--store", "example", "--engine", "dask://127.0.0.1:9")
    is_one_sentence(ended, 3)
    assert "no Dask scheduler answers at 127.0.0.1:9" in ended.err


@pytest.mark.parametrize(
    ("says", "said"),
    [
        (b"", "no Dask scheduler answers at {}"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers at {} is no Dask scheduler"),
        (b"\x01" + 7 * b"\0" + b"\x04" + 7 * b"\0" + b"what", "what answers at {} is no Dask scheduler"),
    ],
)
def test_what_is_no_scheduler_is_said_with_exit_code_3(
    says: bytes, said: str, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.sendall(says)
                    held.append(connection)

        held: list[socket.socket] = []
        thread = threading.Thread(target=answer)
        thread.start()
        port = server.getsockname()[1]
        ended = run("timeline", "--store", "example", "--engine", f"dask://127.0.0.1:{port}")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()
    is_one_sentence(ended, 3)
    assert said.format(f"127.0.0.1:{port}") in " ".join(ended.err.split())


def test_tuning_by_processes_is_tuning_here(tmp_path: Path, run) -> None:
    store = store_of(tmp_path / "store", nest_rows(*drawn(60)))
    words = ("tune", "--store", str(store.directory), "--json", "--draws", "100")
    assert run(*words).out == run(*words, "--engine", "processes:2").out
