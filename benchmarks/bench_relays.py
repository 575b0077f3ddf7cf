"""One process and many relays: events verified and stored a second, and how late it asks when it follows many nests.

pushed: 30312 events, as a real relay (nostr-sdk's LocalRelay) sends them, brought by a relay as fast as it can to one
subscription: read, verified, written as rows, committed. per_s: by the processor time of this process, so of one core
(limit: 5 000). verified_per_s: bare verifications of the same events by the same library, the limit of the machine, and
what part of it the whole is. What a relay may push before it is cut off (sources/relay/flood.py) is lifted here.

followed: NESTS nests of ages from 0 to 180 s, each asked for at RELAYS relays as `nestobs watch` does. slip_ms: how
much later a question was sent than planned; bare_slip_ms: how late a loop that does nothing else woke for the same
instants, in a process of its own at the same time. Limit: 10 ms more at p99; on an idle machine the bare loop is a
fraction of a millisecond late. load: questions a second, the share of a core that this process took, and the load of
the machine. full_ms: how long Python looks for garbage among all these nests, once a minute. The relays are in
processes of their own.

    python -m benchmarks.bench_relays [SECONDS]
"""

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from nestobs import nostr
from nestobs.collector.polling import Plan, poll
from nestobs.collector.station import at_work, both
from nestobs.collector.watch import FOLLOW_S, RELAY_POLLS
from nestobs.nostr import Address, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation, Operation, Outcome
from nestobs.sources.clock import Clock
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
    """A process of its own, and what it prints first; it ends with the block."""
    words = [sys.executable, "-m", "benchmarks.bench_relays", what, str(count)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield running, json.loads(running.stdout.readline())
        finally:
            running.kill()


async def pushed(folder: Path) -> dict[str, float]:
    """Events a second, by the processor time of this process, and of bare verification."""
    with beside("pushing", EVENTS) as (_, (url, frames)):
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


async def waking(_: int) -> None:
    """A bare loop that sleeps until each of the instants that it is told (ns UTC), by a task each; how late, ms."""
    print("null", flush=True)
    clock, late = Clock(), list[float]()

    async def one(due: int) -> None:
        await clock.until(due)
        late.append((clock.now() - due) / 1e6)

    dues = json.loads(sys.stdin.readline())
    await asyncio.gather(*(one(due) for due in dues))
    print(json.dumps(late), flush=True)


@dataclass
class Watching:
    """What `poll` and `at_work` need of a station, and what it wrote."""

    vantage: Vantage
    rows: list[Observation]

    @property
    def clock(self) -> Clock:
        return self.vantage.clock


async def followed(folder: Path, seconds: float) -> dict[str, Any]:
    """How late questions are sent, and how late a bare loop beside it wakes."""
    with beside("serving", RELAYS) as (_, urls), Store.open(folder).writer() as writer:
        pen, rows = Pen(writer), list[Observation]()
        vantage = Vantage("bench", "run", both(rows.append, pen), committed=pen.committed)
        station: Any = Watching(vantage, rows)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(vantage.watch.running())
            relays = [await stack.enter_async_context(Relay(vantage, url)) for url in urls]
            assert all([await relay.ready(10) for relay in relays])
            load, bare = await at_work([station], follow(station, relays, seconds))
    asked = [row for row in rows if row.operation is Operation.QUERY and row.planned_at is not None]
    slip = np.array([row.sent_at - (row.planned_at or 0) for row in asked]) / 1e6
    return {
        "slip_ms": shares(slip),
        "bare_slip_ms": shares(np.array(bare)),
        "questions": len(asked),
        "proved": sum(row.outcome is Outcome.ABSENT for row in asked) / len(asked),
        "load": {"per_s": len(asked) / seconds, **load, "machine": os.getloadavg()[0]},
    }


def shares(late: np.ndarray) -> dict[str, float]:
    """Median, p99 and the worst."""
    return {name: float(np.percentile(late, share)) for name, share in (("p50", 50), ("p99", 99), ("max", 100))}


async def follow(station: Any, relays: Sequence[Relay], seconds: float) -> tuple[dict[str, float], list[float]]:
    """Follow the nests so long, as a watch that is in the middle of it; what that cost, and a bare loop's lateness."""
    rng, now = random.Random(1), station.clock.now() + 5 * SECOND_NS
    waiting, dues = [], []
    for number in range(NESTS):
        origin = now - round(rng.uniform(0, FOLLOW_S) * SECOND_NS)
        address = Address(nostr.ROOM_KIND, "ab" * 32, f"room-{number}")
        trace, asks = Trace("trace", str(address), f"room-{number}"), []
        for relay in relays:
            ages = [age for age in Plan(RELAY_POLLS, FOLLOW_S, 3).ages_s(rng) if origin + age * SECOND_NS >= now]
            asks.append((ages, partial(relay.query, trace, address=address)))
            dues += [origin + round(age * SECOND_NS) for age in ages]
        waiting.append(poll(station, trace, origin, asks))
    dues = [due for due in dues if due <= now + seconds * SECOND_NS]
    with beside("waking", len(dues)) as (bare, _):
        print(json.dumps(dues), file=bare.stdin, flush=True)
        begin, spent = time.perf_counter(), time.process_time()
        tasks = [asyncio.create_task(each) for each in waiting]
        ready = time.perf_counter() - begin
        await station.clock.until(now + round(seconds * SECOND_NS))
        cost = {"of_a_core": (time.process_time() - spent) / seconds, "to_plan_s": ready}
        begin = time.perf_counter()
        gc.collect()
        cost["full_ms"] = 1e3 * (time.perf_counter() - begin)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return cost, json.loads(await asyncio.to_thread(bare.stdout.readline))


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "pushed": asyncio.run(pushed(Path(folder) / "pushed")),
            "followed": asyncio.run(followed(Path(folder) / "followed", seconds)),
        }
    print(json.dumps(found, indent=2))
    if found["pushed"]["per_s"] < LEAST_PER_S:
        sys.exit(f"{found['pushed']['per_s']:.0f} events a second and core: the limit is {LEAST_PER_S:.0f}")
    late, bare = found["followed"]["slip_ms"]["p99"], found["followed"]["bare_slip_ms"]["p99"]
    if late > bare + MOST_SLIP_MS:
        sys.exit(f"p99 of slip is {late:.1f} ms, a bare loop's {bare:.1f} ms: the limit is {MOST_SLIP_MS:.0f} ms more")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in (parts := {"serving": serving, "pushing": pushing, "waking": waking}):
        asyncio.run(parts[sys.argv[1]](int(sys.argv[2])))
    else:
        main(float(sys.argv[1]) if sys.argv[1:] else SECONDS)
