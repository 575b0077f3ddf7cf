"""A server on loopback that never ends what it says: each byte comes long before a read of it would be given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

HEADS: Final = {
    "its body": b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n",
    "its headers": b"HTTP/1.1 200 OK\r\nx-",
    "its first line": b"HTTP/1.1 200 ",
    "what comes after a first answer": b"HTTP/1.1 100 Continue\r\n\r\nHTTP",
}


@contextmanager
def trickling(head: bytes) -> Iterator[str]:
    """The URL of a server that says this, and then a byte each tenth of a second, for as long as it is asked."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            with suppress(OSError):  # they hung up
                self.wfile.write(head)
                while not ended.wait(0.1):
                    self.wfile.write(b"x")

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="trickle")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
