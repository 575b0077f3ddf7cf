"""Reading an HTTP answer within bounds: from servers on loopback that send what no honest one would."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import tracemalloc
import zlib
from contextlib import asynccontextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.sources.http_answer import BODY_BYTES, PLAIN, Unpacking, joined, receive


@asynccontextmanager
async def sending(*pieces, hold=False):
    """A server that sends these bytes, whatever is asked, and then closes, or keeps the line open."""

    talks = []

    async def talk(reader, writer):
        talks.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(pieces)
        if hold:
            await reader.read()
        writer.close()
        with contextlib.suppress(OSError):  # the client may have had enough
            await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, httpx.AsyncHTTPTransport() as transport:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield transport, httpx.Request("GET", url, headers=PLAIN)
    await asyncio.gather(*talks)


def answer(body, *lines, status=404, length=None):
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}", *lines]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def raw_deflate(data):
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(data) + packing.flush()


TEXT = b'{"error":"Nest not found"}' * 20
PACKED = {
    "plain": (TEXT, ""),
    "identity": (TEXT, "identity"),
    "gzip": (gzip.compress(TEXT), "gzip"),
    "x-gzip": (gzip.compress(TEXT), "X-GZIP"),
    "deflate": (zlib.compress(TEXT), "deflate"),
    "deflate without its envelope": (raw_deflate(TEXT), "deflate"),
    "gzip and nothing": (gzip.compress(TEXT), "gzip, identity"),
}
BOMB = gzip.compress(bytes(60_000_000), 9)
BROKEN = {
    "a bomb": (BOMB, "gzip", "longer than"),
    "packed twice": (gzip.compress(BOMB), "gzip, gzip", "nobody asked"),
    "brotli": (b"\x0b\x00\x80x\x03", "br", "nobody asked"),
    "an encoding of 60 kB": (TEXT, "gzip," * 12_000, "nobody asked"),
    "says gzip, is plain": (TEXT, "gzip", "incorrect header"),
    "cut in what is packed": (gzip.compress(TEXT)[:-9], "gzip", "before what was packed"),
    "too long": (bytes(BODY_BYTES + 1), "", "longer than"),
}


@pytest.mark.parametrize("name", PACKED)
async def test_a_body_is_unpacked_however_it_was_packed(name):
    body, encoding = PACKED[name]
    async with sending(answer(body, f"Content-Encoding: {encoding}")) as (transport, request):
        found = await receive(transport, request, timeout_s=5)
    assert (found.status, found.content, found.broken) == (404, TEXT, None)


@pytest.mark.parametrize("name", BROKEN)
async def test_a_body_that_cannot_be_had_leaves_the_head(name):
    body, encoding, words = BROKEN[name]
    async with sending(answer(body, f"Content-Encoding: {encoding}", "Server: odd")) as (transport, request):
        tracemalloc.start()
        found = await receive(transport, request, timeout_s=5)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (found.status, found.headers["server"], found.content) == (404, "odd", b"")
    assert isinstance(found.broken, httpx.DecodingError)
    assert words in str(found.broken)
    assert peak < 16 * BODY_BYTES


async def test_a_body_that_breaks_off_leaves_the_head():
    async with sending(answer(TEXT, length=5_000)) as (transport, request):
        found = await receive(transport, request, timeout_s=5)
    assert (found.status, found.content) == (404, b"")
    assert isinstance(found.broken, httpx.RemoteProtocolError)


async def test_a_body_that_does_not_end_in_time_leaves_the_head():
    async with sending(answer(TEXT, length=5_000), hold=True) as (transport, request):
        found = await receive(transport, request, timeout_s=0.3)
    assert (found.status, found.content) == (404, b"")
    assert isinstance(found.broken, TimeoutError)


async def test_a_head_that_does_not_come_is_raised():
    async with sending(b"HTTP/1.1 404 X\r\nServer: slow", hold=True) as (transport, request):
        with pytest.raises((TimeoutError, httpx.TimeoutException)):
            await receive(transport, request, timeout_s=0.3)


@pytest.mark.parametrize("where", ["/elsewhere", "", "http://[", "x" * 9_000], ids=["a path", "nothing", "[", "long"])
async def test_a_redirect_is_an_answer(where):
    async with sending(answer(b"", f"Location: {where}", status=301)) as (transport, request):
        found = await receive(transport, request, timeout_s=5)
    assert (found.status, found.headers["location"]) == (301, where)


async def test_lines_of_one_name_are_one_list_and_odd_bytes_are_characters():
    lines = ["X-Cache: MISS", "x-cache: HIT", "Age: \xb2", "Set-Cookie: a"]
    async with sending(answer(b"", *lines)) as (transport, request):
        found = await receive(transport, request, timeout_s=5)
    assert (found.headers["x-cache"], found.headers["age"]) == ("MISS, HIT", "\xb2")


@given(encoding=st.sampled_from(["", "gzip", "deflate", "br", "gzip,gzip"]) | st.text(), pieces=st.lists(st.binary()))
def test_any_bytes_unpack_or_are_refused(encoding, pieces):
    with contextlib.suppress(httpx.DecodingError):
        unpacking = Unpacking(encoding, 64)
        for piece in pieces:
            unpacking.feed(piece)
        assert len(unpacking.end()) <= 64


@given(text=st.binary(max_size=300), cut=st.integers(1, 40))
def test_what_was_packed_comes_out_in_whatever_pieces(text, cut):
    for packed, encoding in ((gzip.compress(text), "gzip"), (zlib.compress(text), "deflate"), (text, "")):
        unpacking = Unpacking(encoding)
        for at in range(0, len(packed), cut):
            unpacking.feed(packed[at : at + cut])
        assert unpacking.end() == text


@given(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=9))))
def test_any_header_lines_are_joined(lines):
    assert set(joined(lines)) == {name.decode("latin-1").lower() for name, _ in lines}
