"""Servers that go on while the test's own loop stands still: each on a loop, and in a thread, of its own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

from livekit.protocol.rtc import SignalResponse
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


@asynccontextmanager
async def apart(server: Callable[[], AbstractAsyncContextManager[Any]]) -> AsyncIterator[Any]:
    """What `server()` gives, opened on a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def there(work: Awaitable[Any]) -> Any:
        return await work

    async def end() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await opened.__aexit__(None, None, None)

    opened = server()
    try:
        yield await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(opened.__aenter__()), loop))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(end(), loop))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def block(after_s: float, for_s: float) -> None:
    """Let the loop stand still, soon: the fault itself."""
    asyncio.get_running_loop().call_later(after_s, time.sleep, for_s)


@contextmanager
def greedy(threads: int = 1) -> Any:
    """Threads that never give the interpreter away before it is taken."""
    going = True

    def turn() -> None:
        while going:
            pass

    running = [threading.Thread(target=turn) for _ in range(threads)]
    for one in running:
        one.start()
    try:
        yield
    finally:
        going = False
        for one in running:
            one.join()


@asynccontextmanager
async def http(answer: Callable[[str, str], Awaitable[tuple[int, bytes]]]) -> AsyncIterator[int]:
    """An HTTP server on loopback: `answer(method, path)` gives status and JSON body. Its port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError), ExitStack() as stack:
            stack.callback(writer.transport.abort)
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *headers = head.decode("latin-1").split("\r\n")
                size = next((int(each[15:]) for each in headers if each.lower().startswith("content-length:")), 0)
                await reader.readexactly(size)
                status, body = await answer(*line.split(" ")[:2])
                told = f"content-type: application/json\r\ncontent-length: {len(body)}"
                writer.write(f"HTTP/1.1 {status} X\r\n{told}\r\n\r\n".encode() + body)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def ws(talk: Callable[[ServerConnection], Awaitable[None]], *, accept_s: float = 0.0) -> AsyncIterator[int]:
    """A websocket server on loopback that shakes hands after `accept_s`. Its port."""

    async def handle(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await talk(connection)

    async def wait(connection: ServerConnection, request: Any) -> None:
        await asyncio.sleep(accept_s)

    async with serve(handle, "127.0.0.1", 0, ping_interval=None, close_timeout=0.1, process_request=wait) as server:
        yield server.sockets[0].getsockname()[1]


def relay(answer: Callable[..., Awaitable[Any]], **options: Any) -> Callable[[], Any]:
    """A relay: `answer(say, verb, *rest)` to each frame."""

    async def talk(connection: ServerConnection) -> None:
        async def say(*row: Any) -> None:
            await connection.send(json.dumps(row))

        async for text in connection:
            await answer(say, *json.loads(text))

    return lambda: ws(talk, **options)


def signalling(*, after_s: float = 0.0, patience_s: float = 60.0, room: str = "room") -> Callable[[], Any]:
    """LiveKit's signalling: a JoinResponse `after_s`, and out with whom nothing is heard of for `patience_s`."""

    async def talk(connection: ServerConnection) -> None:
        await asyncio.sleep(after_s)
        message = SignalResponse()
        message.join.room.name, message.join.room.sid = room, "RM_1"
        await connection.send(message.SerializeToString())
        while True:
            async with asyncio.timeout(patience_s):
                await connection.recv()

    async def and_out(connection: ServerConnection) -> None:
        with suppress(TimeoutError), ExitStack() as stack:
            stack.callback(connection.transport.abort)
            await talk(connection)

    return lambda: ws(and_out)
