"""One HTTP answer, read within bounds: whatever a server sends, so many bytes are kept and no more are decoded.

The head of an answer is bounded by the HTTP library (100 kB, all lines together). A body is read as it comes off the
wire and unpacked piece by piece, so that a few bytes which unpack to gigabytes cost the bound and no more. What was
sent packed twice, or in a way nobody asked for, is not unpacked at all. A body that breaks off, does not end in time,
is too long or cannot be unpacked leaves the head as it was: status and headers were said.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from nestobs.sources.clock import patience

BODY_BYTES: Final = 262_144
"""A longer body is given up: no honest answer of an API is near it."""

PLAIN: Final = {"accept-encoding": "identity"}
"""What to ask with, so that nothing is packed."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """status; headers: by lower-case name, lines of one name joined by ", " (RFC 9110, 5.3), each byte a character.

    content: the unpacked body, empty where `broken` says what kept it from being whole (see failures.named).
    """

    status: int
    headers: Mapping[str, str]
    content: bytes = field(default=b"", repr=False)
    broken: Exception | None = None


async def receive(
    transport: httpx.AsyncBaseTransport, request: httpx.Request, *, timeout_s: float, body_bytes: int = BODY_BYTES
) -> HttpAnswer:
    """Send a request and read its answer, within `timeout_s` for the whole exchange.

    No redirect is followed, no cookie kept: that is why a transport is asked, and no client. Raises what httpx raises,
    or TimeoutError, where no head came; nothing where one did.
    """
    until = asyncio.get_running_loop().time() + timeout_s  # httpx would count each phase anew, and knows no patience
    async with patience(until):
        response = await transport.handle_async_request(request)
    status, headers = response.status_code, joined(response.headers.raw)
    try:
        async with patience(until):
            unpacking = Unpacking(headers.get("content-encoding", ""), body_bytes)
            async for piece in response.aiter_raw():
                unpacking.feed(piece)
        return HttpAnswer(status, headers, unpacking.end())
    except (httpx.HTTPError, TimeoutError) as error:
        return HttpAnswer(status, headers, broken=error)
    finally:
        await response.aclose()


def joined(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header lines as one value a name."""
    values: dict[str, list[str]] = {}
    for name, value in lines:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return {name: ", ".join(each) for name, each in values.items()}


_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32
"""As its first bytes say."""


class Unpacking:
    """A body of Content-Encoding `encoding`, at most `most` bytes of it, fed piece by piece.

    Raises httpx.DecodingError for what is longer, is packed otherwise than by gzip or deflate, or does not unpack.
    """

    def __init__(self, encoding: str, most: int = BODY_BYTES) -> None:
        names = [name for part in encoding[:80].split(",") if (name := part.strip().lower()) not in ("", "identity")]
        if len(encoding) > 80 or len(names) > 1 or not {"gzip", "x-gzip", "deflate"}.issuperset(names):
            raise httpx.DecodingError(f"it is packed as {encoding[:60]!r}, which nobody asked for")
        self._most, self._kept, self._wire = most, bytearray(), 0
        self._deflate = names == ["deflate"]
        self._packed = zlib.decompressobj(_GZIP_OR_ZLIB) if names else None

    def feed(self, piece: bytes) -> None:
        """The next bytes off the wire."""
        self._wire += len(piece)
        try:
            self._kept += piece if self._packed is None else self._packed.decompress(piece, self._left)
        except zlib.error as error:
            if not self._deflate or self._kept or self._wire > len(piece):
                raise httpx.DecodingError(str(error)) from None
            self._deflate, self._wire = False, 0  # "deflate" without its envelope, as some servers send it
            self._packed = zlib.decompressobj(-zlib.MAX_WBITS)
            self.feed(piece)
        if max(self._wire, len(self._kept)) > self._most:
            raise httpx.DecodingError(f"the answer is longer than {self._most} bytes")

    @property
    def _left(self) -> int:
        return self._most - len(self._kept) + 1

    def end(self) -> bytes:
        """The whole body. Raises httpx.DecodingError when it breaks off inside what was packed."""
        if self._packed is not None and self._wire and not self._packed.eof:
            raise httpx.DecodingError("it ends before what was packed is whole")
        return bytes(self._kept)
