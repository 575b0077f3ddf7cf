"""One process and many relays: events verified and stored a second, and how late it asks when it follows many nests.

pushed: 30312 events, as a real relay (nostr-sdk's LocalRelay) sends them, brought by a relay as fast as it can to one
subscription: read, verified, written as rows, committed. per_s: by the processor time of this process, so of one core
(limit: 5 000). verified_per_s: bare verifications of the same events by the same library, the limit of the machine, and
what part of it the whole is. What a relay may push before it is cut off (sources/relay/flood.py) is lifted here.

followed: NESTS nests of ages from 0 to 180 s, each asked for at RELAYS relays as `nestobs watch` does. slip_ms: how
much later a question was sent than planned (limit: 10 at p99 on an idle machine). load: questions a second, and the
share of a core that this process took. The relays are in processes of their own.

    python -m benchmarks.bench_relays [SECONDS]
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from nestobs import nostr
from nestobs.collector.polling import Plan, poll
from nestobs.collector.watch import FOLLOW_S, RELAY_POLLS
from nestobs.nostr import Address, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Operation, Outcome
from nestobs.sources.relay import Relay
from nestobs.sources.relay.flood import Meter
from nestobs.sources.vantage import Trace, Vantage
from nestobs.store.reader import Store
from nestobs.store.sink import Pen

EVENTS = 6_000
LEAST_PER_S = 5_000.0
NESTS, RELAYS = 1_000, 10
SECONDS = 30.0
MOST_SLIP_MS = 10.0
PAGE = 400


async def serving(count: int) -> None:
    """Real relays, until killed; their URLs on standard output."""
    from nestobs.lab.relays import start_relay

    relays = [await start_relay() for _ in range(count)]
    print(json.dumps([relay[1] for relay in relays]), flush=True)
    await asyncio.Event().wait()


async def pushing(count: int) -> None:
    """A relay that pushes what a real one sent, until killed; its URL, and the frames as they came."""
    from nestobs.lab.relays import start_relay

    relay, url = await start_relay()
    keys = [Keys.generate() for _ in range(20)]
    frames: list[str] = []
    for page in range(0, count, PAGE):
        begin = 1_764_000_000 + page
        async with connect(url, max_size=None) as line:
            for at in range(begin, min(begin + PAGE, 1_764_000_000 + count)):
                await line.send(nostr.publish(_room(keys[at % 20], at)))
                await line.recv()
            await line.send(nostr.req("SUB", {"kinds": [30312], "since": begin, "until": begin + PAGE - 1}))
            while not (text := str(await line.recv())).startswith('["EOSE"'):
                frames.append(text)
    relay.shutdown()

    async def push(client: Any) -> None:
        name = json.loads(await client.recv())[1]
        for text in frames:
            await client.send(text.replace('"SUB"', f'"{name}"', 1))
        await client.send(json.dumps(["EOSE", name]))
        await client.wait_closed()

    async with serve(push, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        print(json.dumps([f"ws://127.0.0.1:{port}", frames]), flush=True)
        await asyncio.Event().wait()


def _room(keys: Keys, at: int) -> nostr.Event:
    """As the web client publishes one."""
    tags = [("d", f"room-{at}"), ("room", "Evening talk"), ("summary", "What we did this week"), ("status", "open")]
    tags += [("service", "https://nests.example.org/api/v1/nests"), ("p", keys.public, "", "host")]
    tags += [("streaming", "wss+livekit://nests.example.org:443"), ("relays", "wss://relay.example.org")]
    return keys.sign(nostr.ROOM_KIND, created_at=at, tags=tags)


@contextmanager
def beside(what: str, count: int):
    """What a process of its own prints first; it ends with the block."""
    words = [sys.executable, "-m", "benchmarks.bench_relays", what, str(count)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield json.loads(running.stdout.readline())
        finally:
            running.kill()


async def pushed(folder: Path) -> dict[str, float]:
    """Events a second, by the processor time of this process, and of bare verification."""
    with beside("pushing", EVENTS) as (url, frames):
        Meter.over = _never  # type: ignore[method-assign]  # what is measured is what could be borne
        seen = asyncio.Event()
        count = 0

        def trace(event: nostr.Event) -> Trace:
            nonlocal count
            count += 1
            if count == EVENTS:
                seen.set()
            return Trace("trace", f"30312:{event.pubkey}:{event.tag('d')}", event.tag("d") or "")

        with Store.open(folder).writer() as writer:
            pen = Pen(writer)
            async with Relay(Vantage("bench", "run", pen, committed=pen.committed), url) as relay:
                begin, spent = time.perf_counter(), time.process_time()
                relay.subscribe({"kinds": [30312]}, trace)
                await seen.wait()
                await pen.committed()
                spent, took = time.process_time() - spent, time.perf_counter() - begin
    return {"per_s": EVENTS / spent, "wall_per_s": EVENTS / took, "rows": pen.written, **bare(frames, EVENTS / spent)}


def _never(*_: object) -> bool:
    return False


def bare(frames: list[str], per_s: float) -> dict[str, float]:
    """Verifications a second of the same events, the JSON already read by the library."""
    import nostr_sdk

    read = [nostr_sdk.Event.from_json(json.dumps(json.loads(text)[2])) for text in frames]
    spent = time.process_time()
    assert all(event.verify_signature() for event in read)
    verified = len(read) / (time.process_time() - spent)
    return {"verified_per_s": verified, "part_of_that": per_s / verified}


async def followed(folder: Path, seconds: float) -> dict[str, Any]:
    """How late questions are sent."""
    with beside("serving", RELAYS) as urls, Store.open(folder).writer() as writer:
        pen, rng = Pen(writer), random.Random(1)
        rows: list[Any] = []
        vantage = Vantage("bench", "run", lambda row: (rows.append(row), pen(row)), committed=pen.committed)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(vantage.watch.running())
            relays = [await stack.enter_async_context(Relay(vantage, url)) for url in urls]
            assert all([await relay.ready(10) for relay in relays])
            now = vantage.clock.now()
            begin, spent = time.perf_counter(), time.process_time()
            tasks = []
            for number in range(NESTS):
                origin = now - round(rng.uniform(0, FOLLOW_S) * SECOND_NS)
                address = Address(nostr.ROOM_KIND, "ab" * 32, f"room-{number}")
                for relay in relays:
                    ages = Plan(RELAY_POLLS, FOLLOW_S, 3).ages_s(rng)
                    later = [age for age in ages if origin + round(age * SECOND_NS) >= now + 3 * SECOND_NS]
                    ask = partial(relay.query, Trace("trace", str(address), f"room-{number}"), address=address)
                    station: Any = _Station(vantage)
                    tasks.append(asyncio.create_task(poll(station, Trace(), origin, later, ask)))
            ready = time.perf_counter() - begin
            await asyncio.sleep(seconds)
            spent, took = time.process_time() - spent, time.perf_counter() - begin
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    asked = [row for row in rows if row.operation is Operation.QUERY and row.planned_at is not None]
    slip = np.array([row.sent_at - row.planned_at for row in asked]) / 1e6
    proved = sum(row.outcome is Outcome.ABSENT for row in asked) / len(asked)
    return {
        "slip_ms": {
            name: float(np.percentile(slip, share)) for name, share in (("p50", 50), ("p99", 99), ("max", 100))
        },
        "questions": len(asked),
        "proved": proved,
        "load": {
            "per_s": len(asked) / took,
            "of_a_core": spent / took,
            "to_plan_s": ready,
            "machine": os.getloadavg()[0],
        },
    }


class _Station:
    """What `poll` needs of a station."""

    def __init__(self, vantage: Vantage) -> None:
        self.vantage, self.clock = vantage, vantage.clock


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "pushed": asyncio.run(pushed(Path(folder) / "pushed")),
            "followed": asyncio.run(followed(Path(folder) / "followed", seconds)),
        }
    print(json.dumps(found, indent=2))
    if found["pushed"]["per_s"] < LEAST_PER_S:
        sys.exit(f"{found['pushed']['per_s']:.0f} events a second and core: the limit is {LEAST_PER_S:.0f}")
    if found["followed"]["slip_ms"]["p99"] > MOST_SLIP_MS:
        sys.exit(f"p99 of slip is {found['followed']['slip_ms']['p99']:.1f} ms: the limit is {MOST_SLIP_MS:.0f} ms")


if __name__ == "__main__":
    if sys.argv[1:2] in (["serving"], ["pushing"]):
        asyncio.run({"serving": serving, "pushing": pushing}[sys.argv[1]](int(sys.argv[2])))
    else:
        main(float(sys.argv[1]) if sys.argv[1:] else SECONDS)
